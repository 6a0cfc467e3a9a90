/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe.c - answers for the control socket
 *
 * Threads: the helper thread's, each answer under the worker lock where it looks at the stack.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <bpf/steer_ctl.h>
#include <bpf/steer_rules.h>
#include <hal_wrap/hal_pcap.h>
#include <nstack/fd_host.h>
#include <nsocket/sock.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <string.h>

static struct hal_port *captured; /* the wrapper, while a capture runs; worker lock */
static struct hal_port *captured_lower; /* what it wraps */
static unsigned captured_port;

static void status(void *arg, struct ctl_status *out)
{
	struct shm_region_stats rs;
	struct nfile *f;

	out->stack_running = worker_running();
	snprintf(out->stack, sizeof(out->stack), "%s", worker_running() ? worker.ops->name : "");
	out->start_ns = worker.started_ns;
	for (int i = 0; i < SR_NR_; i++)
		out->sockets_kernel += (uint32_t)sock_reasons[i];
	out->helper_ticks = worker.ticks;
	out->lock_contended = worker.contended;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_session(nsock_of(f)))
			out->sockets_ours++;
		nfile_put(f);
	}
	if (!worker_running())
		return;
	worker_lock();
	shm_region_stats(worker.region, &rs);
	worker_unlock();
	out->sessions = rs.sessions;
	out->sessions_used = rs.used;
	out->sessions_high = rs.high_water;
	out->region_bytes = rs.resident_bytes;
}

static uint32_t ports(void *arg, struct ctl_port *out, uint32_t n)
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

static int queue_stats(void *arg, unsigned ifindex, uint32_t q, struct hal_queue_stats *out)
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

static uint32_t sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint32_t r = 0;

	worker_lock();
	if (worker.st)
		r = worker.ops->sockets(worker.st, out, n, cursor);
	worker_unlock();
	return r;
}

static uint32_t counters(void *arg, struct stack_counter *out, uint32_t n)
{
	uint32_t r = 0;

	worker_lock();
	if (worker.st)
		r = worker.ops->counters(worker.st, out, n);
	worker_unlock();
	return r;
}

static uint32_t reasons(void *arg, struct ctl_reason *out, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n && i < SR_NR_; i++)
		out[i] = (struct ctl_reason){ sock_reason_names[i], sock_reason_help[i],
					      sock_reasons[i] };
	return i;
}

static int pin_flows(void *arg)
{
	int n = 0;

	worker_lock();
	if (worker.st)
		n = ports_pin_flows();
	worker_unlock();
	return n;
}

int observe_rules_install(const struct rd_rules *rules)
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

static int rules_install(void *arg, const struct rd_rules *rules)
{
	return observe_rules_install(rules);
}

/* Listeners and bound UDP sockets that were left to the kernel are asked again at their next use. */
static void rules_changed(void *arg)
{
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && !nsock_session(nsock_of(f)) &&
		    nsock_mode(nsock_of(f)) != SK_KERNEL) {
			nsock_of(f)->rejected = false;
			nsock_activate(nsock_of(f), fd);
		}
		nfile_put(f);
	}
}

/* --- capture ----------------------------------------------------------------------------------- */

static int dump_start(void *arg, int fd, const struct ctl_dump *opt, char why[256])
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

static int dump_state(void *arg, uint64_t *packets, uint64_t *lost)
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

static int dump_stop(void *arg, uint64_t *packets, uint64_t *lost)
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

const struct ctl_ops observe_ops = {
	.status = status,
	.ports = ports,
	.queue_stats = queue_stats,
	.sockets = sockets,
	.kernel_sockets = observe_kernel_sockets,
	.counters = counters,
	.reasons = reasons,
	.pin_flows = pin_flows,
	.dump_start = dump_start,
	.dump_stop = dump_stop,
	.dump_state = dump_state,
	.rules_install = rules_install,
	.rules_changed = rules_changed,
};
