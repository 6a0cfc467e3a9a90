/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe_engine.c - answers about ports, packets and the stack, of a program or a daemon
 *
 * Threads: the helper thread's (or the daemon's), each answer under the worker lock where it looks at the
 * stack.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <bpf/steer_ctl.h>
#include <bpf/steer_rules.h>
#include <errno.h>
#include <hal_wrap/hal_pcap.h>
#include <hal_xdp/hal_xdp.h>
#include <nsocket/engine.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <nstack/fd_host.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct hal_port *captured; /* the wrapper, while a capture runs; worker lock */
static struct hal_port *captured_lower; /* what it wraps */
static unsigned captured_port;

uint32_t observe_ports(void *arg, struct ctl_port *out, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n && i < worker.nports; i++) {
		const struct worker_port *p = &worker.port[i];

		memset(&out[i], 0, sizeof(out[i]));
		memcpy(out[i].ifname, p->ifname, sizeof(out[i].ifname));
		out[i].ifindex = p->ifindex;
		out[i].instance = p->instance;
		memcpy(out[i].why_not, p->why_not, sizeof(out[i].why_not));
		if (!p->hal)
			continue;
		out[i].why_not[0] = 0;
		out[i].nqueues = p->hal->nqueues;
		out[i].caps = p->hal->caps;
		memcpy(out[i].mode, p->hal->mode, sizeof(out[i].mode));
		memcpy(out[i].mode_why, p->hal->mode_why, sizeof(out[i].mode_why));
	}
	return i;
}

int observe_queue_stats(void *arg, unsigned ifindex, uint32_t q, struct hal_queue_stats *out)
{
	int err = -ENODEV;

	worker_lock();
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].hal && worker.port[i].ifindex == ifindex &&
		    q < worker.port[i].hal->nqueues)
			err = hal_stats(worker.port[i].hal, q, out);
	worker_unlock();
	return err;
}

uint32_t observe_sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint32_t r = 0;

	worker_lock();
	if (worker.st)
		r = worker.ops->sockets(worker.st, out, n, cursor);
	worker_unlock();
	return r;
}

uint32_t observe_counters(void *arg, struct stack_counter *out, uint32_t n)
{
	uint32_t r = 0;

	worker_lock();
	if (worker.st)
		r = worker.ops->counters(worker.st, out, n);
	worker_unlock();
	return r;
}

static void frames_add(struct hal_xdp_frames *sum, const struct hal_xdp_frames *f)
{
	sum->rx_total += f->rx_total;
	sum->rx_fill += f->rx_fill;
	sum->rx_ring += f->rx_ring;
	sum->rx_held += f->rx_held;
	sum->tx_total += f->tx_total;
	sum->tx_free += f->tx_free;
	sum->tx_sent += f->tx_sent;
	sum->rx_recovered += f->rx_recovered;
	sum->sweeping |= f->sweeping;
}

uint32_t observe_accounts(void *arg, struct stack_counter *out, uint32_t n)
{
	struct hal_xdp_frames sum = { 0 }, f;
	struct shm_region_stats rs = { 0 };
	uint32_t used;

	worker_lock();
	for (uint32_t i = 0; i < worker.nports; i++)
		for (uint32_t q = 0; worker.port[i].base && q < worker.port[i].base->nqueues; q++)
			if (!hal_xdp_frames(worker.port[i].base, q, &f))
				frames_add(&sum, &f);
	if (worker.region)
		shm_region_stats(worker.region, &rs);
	worker_unlock();
	const struct stack_counter all[] = {
		{ "rx_frames", sum.rx_total },
		{ "rx_frames_kernel", sum.rx_fill },
		{ "rx_frames_received", sum.rx_ring },
		{ "rx_frames_held", sum.rx_held },
		{ "rx_frames_recovered", sum.rx_recovered },
		{ "tx_frames", sum.tx_total },
		{ "tx_frames_free", sum.tx_free },
		{ "tx_frames_sent", sum.tx_sent },
		{ "frames_sweep", sum.sweeping },
		{ "sessions", rs.used },
		{ "session_double_frees", rs.double_frees },
		{ "parts", rs.parts },
	};
	used = sizeof(all) / sizeof(all[0]);
	used = used < n ? used : n;
	memcpy(out, all, used * sizeof(all[0]));
	return used;
}

int observe_pin_flows(void *arg)
{
	int n = 0;

	worker_lock();
	if (worker.st)
		n = ports_keep_flows();
	worker_unlock();
	return n;
}

int observe_config_change(void *arg, const char *text, char err[RD_ERR])
{
	int ret;

	worker_lock();
	ret = rd_config_change(text, strlen(text), "set", err);
	if (!ret)
		engine_tune(rd_config());
	worker_unlock();
	return ret;
}

int observe_rules_put(const struct rd_rules *rules)
{
	struct steer_rules *sr = calloc(1, sizeof(*sr));
	int err = sr ? rd_rules_compile(rules, sr) : -ENOMEM;

	for (uint32_t i = 0; !err && i < worker.nports; i++)
		if (worker.port[i].steer)
			err = steer_rules_set(worker.port[i].steer, sr);
	if (err)
		ns_log(NS_WAR, NS_M_STEER, "rules not installed: %s", strerror(-err));
	free(sr);
	return err;
}

int observe_rules_install(void *arg, const struct rd_rules *rules)
{
	return observe_rules_put(rules);
}

/* --- capture ----------------------------------------------------------------------------------- */

int observe_dump_start(void *arg, int fd, const struct ctl_dump *opt, char why[256])
{
	struct hal_pcap_config pc = { .fd = fd, .snaplen = opt->snaplen };
	struct worker_port *p = NULL;
	int err = -ENODEV;

	worker_lock();
	for (uint32_t i = 0; i < worker.nports && !p; i++)
		if (worker.port[i].hal &&
		    (!opt->ifname[0] || !strcmp(opt->ifname, worker.port[i].ifname))) {
			p = &worker.port[i];
			captured_port = i;
		}
	if (captured)
		err = -EBUSY;
	if (!p || captured) {
		nst_fd_close(fd);
	} else {
		captured_lower = p->hal;
		err = hal_pcap_wrap(&captured, p->hal, &pc);
		if (!err) {
			p->hal = captured;
			worker.ops->set_port(worker.st, p->ifindex, p->hal);
		}
	}
	worker_unlock();
	if (err)
		snprintf(why, 256, "%s", captured ? "a capture is running already" :
			 p ? strerror(-err) : "no such port");
	return err;
}

int observe_dump_state(void *arg, uint64_t *packets, uint64_t *lost)
{
	struct hal_pcap_stats st = { 0 };
	int running;

	worker_lock();
	running = captured != NULL;
	if (captured) {
		hal_arm(captured, 0); /* whoever asks wants to see what is there */
		hal_pcap_stats(captured, &st);
	}
	worker_unlock();
	*packets = st.packets;
	*lost = st.dropped;
	return running && !st.error;
}

int observe_dump_stop(void *arg, uint64_t *packets, uint64_t *lost)
{
	struct hal_pcap_stats st;

	worker_lock();
	if (!captured) {
		worker_unlock();
		return -ENOENT;
	}
	hal_pcap_stats(captured, &st);
	*packets = st.packets;
	*lost = st.dropped;
	/* the stack flushes the port that it gives up: the wrapper must still be there */
	worker.port[captured_port].hal = captured_lower;
	worker.ops->set_port(worker.st, worker.port[captured_port].ifindex, captured_lower);
	hal_pcap_unwrap(captured);
	captured = NULL;
	worker_unlock();
	return 0;
}
