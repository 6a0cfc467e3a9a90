/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ports_keep.c - flows stay with the stack while rules change
 *
 * A change is announced before it is made, and again while it is (ports_keep_flows()). Flows that exist are pinned,
 * and for KEEP_NS each one that begins, before its first packet is answered: that packet was given to us by the old
 * rules or by the new ones, and what follows must come here, too, whatever the rules say by then. A ring holds no
 * packet for longer.
 *
 * Nobody remembers these pins. A sweep takes back those whose flow has ended, so that the rules in force decide when
 * the peer uses its port again. What the instance has pinned is listed before the flows are: a flow that begins
 * meanwhile is not in the list, and none is pinned anew while it is swept, since the sweep waits for KEEP_NS.
 *
 * Threads: under the worker lock, but for the sweep.
 */
#define _GNU_SOURCE
#include "nsocket/ports.h"

#include <bpf/steer_ctl.h>
#include <nsocket/worker_internal.h>

#define KEEP_NS 3000000000ull

static uint64_t keep_until;
static bool unswept; /* there may be pins of ours that nobody remembers */

static void pin(const struct nst_addr *local, const struct nst_addr *remote, uint8_t proto)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].steer)
			steer_pin(worker.port[i].steer, proto, local, remote, worker.port[i].instance);
	unswept = true;
}

static void keep_one(void *arg, uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	int *count = arg;

	pin(local, remote, proto);
	++*count;
}

int ports_keep_flows(void)
{
	int count = 0;

	keep_until = worker_now() + KEEP_NS;
	worker.ops->flows(worker.st, keep_one, &count);
	return count;
}

void ports_flow_begins_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
			  const struct nst_addr *remote)
{
	if (keep_until && worker_now() < keep_until)
		pin(local, remote, proto);
}

/* --- flows that have ended ------------------------------------------------------------------------- */

struct live {
	struct steer_flows list;
	int err;
};

static void live_add(void *arg, uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct live *l = arg;

	if (!l->err)
		l->err = steer_flows_add(&l->list, proto, local, remote);
}

/* Is it to be done again? */
static bool sweep_port(struct worker_port *p)
{
	struct live live = { 0 };
	struct steer_flows held;
	size_t remembered = 0, left = 0;

	live.err = steer_pins_own(p->steer, &held);
	if (!live.err && held.n) {
		worker_lock();
		ports_pins_each(live_add, &live);
		remembered = live.list.n;
		worker.ops->flows(worker.st, live_add, &live);
		worker_unlock();
		if (!live.err)
			left = steer_pins_end(p->steer, &held, &live.list);
	}
	steer_flows_free(&live.list);
	steer_flows_free(&held);
	return live.err || left > remembered;
}

void ports_keep_sweep(void)
{
	bool due, again = false;

	worker_lock();
	due = worker.st && unswept && worker_now() >= keep_until;
	unswept &= !due;
	worker_unlock();
	for (uint32_t i = 0; due && i < worker.nports; i++)
		if (worker.port[i].steer)
			again |= sweep_port(&worker.port[i]);
	worker_lock();
	unswept |= again;
	worker_unlock();
}
