/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe_ping.c - pings by the stack, of a program or a daemon
 *
 * A ping's packets come to the stack by a pin of its flow on every interface: the answer may take another way than the
 * request did. The pin is made before the first request leaves; the stack counts the ping among its flows, so a sweep
 * (ports_keep.c) leaves it alone. What a killed process leaves goes with its slot in the steering tables.
 *
 * Threads: the helper thread's (or the daemon's), under the worker lock.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <netinet/in.h>
#include <nsocket/worker_internal.h>
#include <stdio.h>
#include <string.h>

static void unpin(const struct stack_ping *p)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].steer)
			steer_unpin(worker.port[i].steer, IPPROTO_ICMP, &p->local, &p->remote, worker.port[i].instance);
}

static int pin(const struct stack_ping *p)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < worker.nports; i++)
		if (worker.port[i].steer)
			err = steer_pin(worker.port[i].steer, IPPROTO_ICMP, &p->local, &p->remote,
					worker.port[i].instance);
	if (err)
		unpin(p);
	return err;
}

/* The interface that was asked for is one of the stack's; link-local addresses are of that link. */
static int place(struct ctl_ping *p)
{
	bool local = p->stack.remote.family == AF_INET6 && p->stack.remote.v6[0] == 0xfe &&
		     (p->stack.remote.v6[1] & 0xc0) == 0x80;

	for (uint32_t i = 0; p->ifname[0] && !p->stack.ifindex && i < worker.nports; i++)
		if (worker.port[i].hal && !strcmp(worker.port[i].ifname, p->ifname))
			p->stack.ifindex = worker.port[i].ifindex;
	if (p->ifname[0] && !p->stack.ifindex)
		return -ENODEV;
	if (local)
		p->stack.remote.scope_id = p->stack.ifindex;
	return 0;
}

static void name_interface(struct ctl_ping *p)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].ifindex == p->stack.ifindex)
			memcpy(p->ifname, worker.port[i].ifname, sizeof(p->ifname));
}

static int start_locked(struct ctl_ping *p)
{
	int err;

	if (!worker.st)
		return -ENOENT;
	if (!worker.ops->ping_open)
		return -EOPNOTSUPP;
	err = place(p);
	if (!err)
		err = worker.ops->ping_open(worker.st, &p->stack);
	if (err)
		return err;
	err = pin(&p->stack);
	if (err)
		worker.ops->ping_close(worker.st, p->stack.local.port);
	else
		name_interface(p);
	return err;
}

static void explain(int err, const struct ctl_ping *p, char why[256])
{
	switch (err) {
	case -ENOENT:
		snprintf(why, 256, "its stack does not run (nstack status says why)");
		break;
	case -EOPNOTSUPP:
		snprintf(why, 256, "its stack is another process's");
		break;
	case -ENODEV:
		snprintf(why, 256, "its stack has no interface %s", p->ifname);
		break;
	case -EADDRNOTAVAIL:
		snprintf(why, 256, "from an address that is not this host's, or to one that is, or to a group");
		break;
	case -EMSGSIZE:
		snprintf(why, 256, "the payload of a request is %u to %u bytes there", STACK_PING_MIN, p->stack.size);
		break;
	case -EMFILE:
		snprintf(why, 256, "%u pings are running already", STACK_PINGS);
		break;
	default:
		snprintf(why, 256, "%s", strerror(-err));
	}
}

int observe_ping_start(void *arg, struct ctl_ping *p, char why[256])
{
	int err;

	worker_lock();
	err = start_locked(p);
	worker_unlock();
	if (err)
		explain(err, p, why);
	return err;
}

int observe_ping_send(void *arg, const struct stack_ping *p, uint16_t *seq)
{
	int err = -ENOENT;

	worker_lock();
	if (worker.st)
		err = worker.ops->ping_send(worker.st, p->local.port, seq);
	worker_unlock();
	return err;
}

uint32_t observe_ping_answers(void *arg, const struct stack_ping *p, struct stack_ping_answer *out, uint32_t n)
{
	uint32_t got = 0;

	worker_lock();
	if (worker.st)
		got = worker.ops->ping_answers(worker.st, p->local.port, out, n);
	worker_unlock();
	return got;
}

void observe_ping_stop(void *arg, const struct stack_ping *p)
{
	worker_lock();
	unpin(p);
	if (worker.st)
		worker.ops->ping_close(worker.st, p->local.port);
	worker_unlock();
}
