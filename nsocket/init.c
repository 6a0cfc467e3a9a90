/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/init.c - start-up: configuration early, the stack when it is first needed
 *
 * The constructor reads configuration and rules; nothing is opened. The first call that needs the
 * stack starts it (worker_start), in the process that makes that call: so a master that only binds
 * and listens never owns it, and each forked worker does. The order of a start is the list of
 * calls in start(). Whatever fails leaves the process with the kernel: one log line, no error.
 *
 * This is the only file that names concrete stacks and HALs.
 *
 * Threads: any; starting is serialised by worker.start_lock.
 */
#define _GNU_SOURCE
#include "nsocket/init.h"

#include <bpf/steer_ctl.h>
#include <hal_wrap/hal_fault.h>
#include <hal_wrap/hal_pcap.h>
#include <hal_xdp/hal_xdp.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <nsocket/adopt.h>
#include <nsocket/handover.h>
#include <nsocket/observe.h>
#include <nsocket/sock.h>
#include <nsocket/seccomp.h>
#include <nsocket/stdio.h>
#include <nsocket/uring.h>
#include <nsocket/yield.h>
#include <nstack/fd_host.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/program.h>
#include <rd/rules.h>
#include <rd/sys.h>
#include <stacks/tcpip/netcfg.h>
#include <stacks/tcpip/tcpip.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static bool ready;             /* the constructor has run and found nothing against us */
static __thread int inside;    /* depth of our own start-up in this thread */
static struct ctl_server *ctl;
static uint64_t local_gen;     /* netcfg generation that the steering tables have */

bool init_ready(void)
{
	return ready && !inside;
}

bool init_inside(void)
{
	return inside > 0;
}

/* --- ports ---------------------------------------------------------------------------------- */

static int own_fd(void *arg, int fd)
{
	return fd_hide(fd);
}

static void disown_fd(void *arg, int fd)
{
	fd_unprotect(fd);
}

static int xsk_publish(void *arg, uint32_t queue, int xsk_fd)
{
	struct worker_port *p = arg;

	return p->steer ? steer_xsk_set(p->steer, queue, xsk_fd) : -ENODEV;
}

/* The program's tables; attaches the program if nobody did and we may. */
static int port_steer(struct worker_port *p, const struct ns_config *c)
{
	static const enum steer_mode mode[] = { [NS_MODE_AUTO] = STEER_MODE_AUTO,
						[NS_MODE_GENERIC] = STEER_MODE_GENERIC,
						[NS_MODE_NATIVE] = STEER_MODE_NATIVE };
	int err = steer_open(&p->steer, p->ifindex, p->why_not);

	if (err == -ENOENT && c->load) {
		err = steer_load(p->ifindex, mode[c->mode], p->why_not);
		if (!err)
			err = steer_open(&p->steer, p->ifindex, p->why_not);
	}
	if (err)
		return err;
	err = steer_instance_take(p->steer, RD_STACK_DEFAULT, yield_image());
	if (err < 0) {
		snprintf(p->why_not, sizeof(p->why_not), "no free instance: %s", strerror(-err));
		return err;
	}
	p->instance = (unsigned)err;
	return 0;
}

/* Capture from the start. Several ports: a file each, with the interface's name behind it. */
static int port_capture(struct worker_port *p, const struct ns_config *c)
{
	struct hal_pcap_config pc = { .snaplen = 0 };
	struct hal_port *lower = p->hal;
	char path[512];

	snprintf(path, sizeof(path), "%s%s%s", c->dump, p == worker.port ? "" : ".",
		 p == worker.port ? "" : p->ifname);
	pc.fd = sys_fd_high(sys_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0640));
	if (pc.fd < 0) {
		ns_log(NS_ERR, NS_M_NSOCKET, "%s: %s (no capture)", path, strerror(-pc.fd));
		return 0; /* the program matters more than its capture */
	}
	return hal_pcap_wrap(&p->hal, lower, &pc);
}

static int port_hal(struct worker_port *p, const struct ns_config *c)
{
	struct hal_xdp_config hc = {
		.ifname = p->ifname,
		.rx_frames = c->frames,
		.rx_ring = c->rx_ring,
		.tx_ring = c->tx_ring,
		.max_queues = c->queues,
		.mode = c->zero_copy == NS_ZC_OFF ? HAL_XDP_COPY : HAL_XDP_AUTO,
		.no_super = !c->super_frames,
		.publish = xsk_publish,
		.own_fd = own_fd,
		.disown_fd = disown_fd,
		.arg = p,
	};
	int err = hal_xdp_open(&p->base, &hc, p->why_not);

	if (err)
		return err;
	p->hal = p->base;
	if (c->faults) {
		struct hal_fault_config fc;

		err = hal_fault_parse(&fc, c->faults, p->why_not);
		if (!err)
			err = hal_fault_wrap(&p->hal, p->base, &fc);
	}
	if (!err && c->dump)
		err = port_capture(p, c);
	return err;
}

static void port_close(struct worker_port *p)
{
	if (p->steer && p->base)
		for (uint32_t q = 0; q < p->base->nqueues; q++)
			steer_xsk_clear(p->steer, q);
	hal_close(p->hal ? p->hal : p->base);
	steer_close(p->steer);
	p->hal = p->base = NULL;
	p->steer = NULL;
}

static void port_open(struct worker_port *p, const struct ns_config *c)
{
	int err = port_steer(p, c);

	if (!err)
		err = port_hal(p, c);
	if (!err)
		return;
	if (!p->why_not[0])
		snprintf(p->why_not, sizeof(p->why_not), "%s", strerror(-err));
	ns_log(NS_WAR, NS_M_NSOCKET, "%s is not used: %s", p->ifname, p->why_not);
	port_close(p);
}

static bool addr_usable(const struct ifaddrs *ia)
{
	if (!ia->ifa_addr || !(ia->ifa_flags & IFF_UP) || (ia->ifa_flags & IFF_LOOPBACK))
		return false;
	if (ia->ifa_addr->sa_family == AF_INET)
		return true;
	return ia->ifa_addr->sa_family == AF_INET6 &&
	       !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)ia->ifa_addr)->sin6_addr);
}

static void port_add(const char *name)
{
	struct worker_port *p;

	for (uint32_t i = 0; i < worker.nports; i++)
		if (!strcmp(worker.port[i].ifname, name))
			return;
	if (worker.nports == WORKER_PORTS)
		return;
	p = &worker.port[worker.nports++];
	memset(p, 0, sizeof(*p));
	snprintf(p->ifname, sizeof(p->ifname), "%s", name);
	p->ifindex = if_nametoindex(name);
	if (!p->ifindex)
		snprintf(p->why_not, sizeof(p->why_not), "no such interface");
}

/* The interfaces to use, then each of them. Returns how many work. */
static unsigned ports_open(const struct ns_config *c)
{
	struct ifaddrs *list, *ia;
	unsigned n = 0;

	for (uint32_t i = 0; i < c->n_interfaces; i++)
		port_add(c->interfaces[i]);
	if (!c->n_interfaces && getifaddrs(&list) == 0) {
		for (ia = list; ia; ia = ia->ifa_next)
			if (addr_usable(ia))
				port_add(ia->ifa_name);
		freeifaddrs(list);
	}
	for (uint32_t i = 0; i < worker.nports; i++) {
		if (worker.port[i].ifindex)
			port_open(&worker.port[i], c);
		n += worker.port[i].hal != NULL;
	}
	return n;
}

/* --- the stack --------------------------------------------------------------------------------- */

static int stack_make(const struct ns_config *c)
{
	struct shm_region_config rc = { .sessions = c->max_sockets, .rx_size = c->rcvbuf,
					.tx_size = c->sndbuf };
	struct tcpip_config tc = { .max_timewait = c->tcp.time_wait_max,
				   .no_syncookies = !c->tcp.syn_cookies };
	int err = shm_region_create(&worker.region, &rc);

	if (err)
		return err;
	worker.env.event = nsock_stack_event;
	worker.env.port_hold = ports_hold_cb;
	worker.env.port_ours = ports_ours_cb;
	worker.env.port_release = ports_release_cb;
	worker.env.region = worker.region;
	worker.ops = &tcpip_stack_ops;
	err = worker.ops->create(&worker.st, &worker.env, &tc);
	for (uint32_t i = 0; !err && i < worker.nports; i++)
		if (worker.port[i].hal)
			err = worker.ops->add_port(worker.st, worker.port[i].hal);
	return err;
}

/* What a sleeping leader waits on. */
static void fds_collect(void)
{
	int fd;

	worker.nfds = 0;
	for (uint32_t i = 0; i < worker.nports; i++)
		for (uint32_t q = 0; worker.port[i].hal && q < worker.port[i].hal->nqueues; q++) {
			fd = hal_arm(worker.port[i].hal, q);
			if (fd >= 0 && worker.nfds < WORKER_FDS - 1)
				worker.fds[worker.nfds++] = fd;
		}
	fd = worker.ops->ctl_fd(worker.st);
	if (fd >= 0)
		worker.fds[worker.nfds++] = fd;
}

/* Are packets to that address, arriving by that link, a matter for the stack?
 *
 * The kernel takes every packet to any of the host's addresses, whatever interface it comes in by
 * (the weak host model), except link-local addresses and those of the loopback. The stack takes
 * the link's own addresses, and those of others that are not the face of a link above this one:
 * other ports, dummies, addresses for services on the loopback. What is for a VLAN, a bridge or a
 * bond of this very link shows up here too, as if it were ours (generic XDP sees frames after a
 * tag has been taken off), but belongs to that device, where it can be steered in its own right.
 * A link that is itself part of a bridge, bond or VRF answers for its own addresses only. */
static bool local_belongs(const struct netcfg *nc, const struct netcfg_link *link,
			  const struct netcfg_addr *a)
{
	static const char *const alone[] = { "", "veth", "dummy" };
	const struct netcfg_link *owner;

	if (a->ifindex == link->ifindex)
		return true;
	owner = netcfg_link(nc, a->ifindex);
	if (!owner || owner->master || link->master || a->scope >= RT_SCOPE_LINK)
		return false;
	for (unsigned i = 0; i < sizeof(alone) / sizeof(alone[0]); i++)
		if (!strcmp(owner->kind, alone[i]))
			return true;
	return false;
}

/* Local addresses and the link's MTU into every steering table. Under the worker lock. */
static void tables_sync(void)
{
	struct netcfg *nc = worker.st ? tcpip_netcfg(worker.st) : NULL; /* NULL: start failed */
	const struct netcfg_link *link;
	const struct netcfg_addr *a;
	struct nst_addr *list;
	uint32_t n, use;

	if (!nc || (local_gen && netcfg_gen(nc) == local_gen))
		return;
	local_gen = netcfg_gen(nc);
	a = netcfg_addrs(nc, &n);
	list = calloc(n ? n : 1, sizeof(*list));
	if (!list)
		return;
	for (uint32_t i = 0; i < worker.nports; i++) {
		link = worker.port[i].steer ? netcfg_link(nc, worker.port[i].ifindex) : NULL;
		if (!link)
			continue;
		use = 0;
		for (uint32_t k = 0; k < n; k++)
			if (local_belongs(nc, link, &a[k]))
				list[use++] = a[k].addr;
		steer_local_set(worker.port[i].steer, list, use);
		steer_mtu_set(worker.port[i].steer, link->mtu);
	}
	free(list);
}

/* The configuration's rules onto the interfaces, or theirs (set by the tool before) into the
 * process. */
static void rules_attach(const struct ns_config *c)
{
	int err;

	for (uint32_t i = 0; i < worker.nports; i++) {
		err = worker.port[i].steer ? rd_steer_attach(worker.port[i].steer, c) : 0;
		if (err)
			ns_log(NS_WAR, NS_M_RD, "%s: rules: %s", worker.port[i].ifname, strerror(-err));
	}
}

/* --- the helper thread's other work ------------------------------------------------------------ */

static void helper_service(void)
{
	bool retry;

	worker_lock();
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].base)
			hal_xdp_service(worker.port[i].base);
	tables_sync();
	retry = ports_owner_gone();
	worker_unlock();
	if (retry)
		nsock_retry_all();
	if (share_fd() >= 0)
		share_run();
	if (ctl)
		ctl_server_run(ctl);
}

/* Flows that were left to the kernel and have ended there: their addresses are free for us again. */
static void helper_sweep(void)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].steer)
			steer_pins_sweep(worker.port[i].steer);
}

static void helper_fds_collect(void)
{
	uint32_t n = 0;
	int fd;

	if (ctl)
		worker.helper_fds[n++] = ctl_server_fd(ctl);
	for (uint32_t i = 0; i < worker.nports; i++) {
		fd = worker.port[i].base ? hal_xdp_service_fd(worker.port[i].base) : -1;
		if (fd >= 0)
			worker.helper_fds[n++] = fd;
	}
	worker.nhelper_fds = n;
	worker.helper_service = helper_service;
	worker.helper_sweep = helper_sweep;
	worker.helper_retry = nsock_retry_all;
}

/* --- start ----------------------------------------------------------------------------------------- */

static void stop(void)
{
	if (worker.st)
		worker.ops->destroy(worker.st);
	worker.st = NULL;
	worker.ops = NULL;
	for (uint32_t i = 0; i < worker.nports; i++)
		port_close(&worker.port[i]);
	shm_region_close(worker.region);
	worker.region = NULL;
}

static const char *ports_why(void)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].why_not[0])
			return worker.port[i].why_not;
	return "no interface has a usable address";
}

static int start(void)
{
	const struct ns_config *c = rd_config();
	int err;

	if (uring_at_start()) {
		ns_log_fallback("everything stays with the kernel: %s", sock_reason_help[SR_io_uring]);
		return -ENODEV;
	}
	if (!ports_open(c)) {
		ns_log_fallback("everything stays with the kernel: %s", ports_why());
		stop();
		return -ENODEV;
	}
	err = stack_make(c);
	if (err) {
		ns_log_fallback("everything stays with the kernel: stack: %s", strerror(-err));
		stop();
		return err;
	}
	worker.spin_ns = (uint64_t)c->spin_us * 1000;
	worker.started_ns = worker_now();
	fds_collect();
	local_gen = 0;
	tables_sync();
	rules_attach(c);
	return 0;
}

/* The helper also serves the control socket when there is no stack: that is how the tool learns
 * why. */
static void helper_prepare(void)
{
	if (ctl_server_open(&ctl, &observe_ops, NULL))
		ctl = NULL;
	helper_fds_collect();
}

static void helper_begin(void)
{
	if (worker_helper_start())
		ns_log(NS_ERR, NS_M_NSOCKET, "no helper thread: %m");
}

bool worker_start(void)
{
	uint32_t state = __atomic_load_n(&worker.state, __ATOMIC_ACQUIRE);
	int err;

	if (state != WORKER_NONE || !init_ready())
		return state == WORKER_RUNNING;
	lock_take(&worker.start_lock);
	if (worker.state == WORKER_NONE) {
		inside++;
		err = start();
		helper_prepare(); /* before others give it descriptors */
		/* release: pairs worker.run */
		__atomic_store_n(&worker.state, err ? WORKER_FAILED : WORKER_RUNNING,
				 __ATOMIC_RELEASE);
		helper_begin();
		inside--;
	}
	lock_give(&worker.start_lock);
	return worker_running();
}

/* A program that never asks us: the tool is to learn why. */
static void kernel_only(enum sock_reason why)
{
	ns_log_fallback("everything stays with the kernel: %s", sock_reason_help[why]);
	sock_reason(why);
	nsock_kernel_only(why);
	helper_prepare();
	__atomic_store_n(&worker.state, WORKER_FAILED, __ATOMIC_RELEASE);
	helper_begin();
}

/* --- end ----------------------------------------------------------------------------------------- */

static bool unsent(void)
{
	struct stack_sock_info info[64];
	uint64_t cursor = 0;
	uint32_t n;

	while ((n = worker.ops->sockets(worker.st, info, 64, &cursor)))
		for (uint32_t i = 0; i < n; i++)
			if (info[i].proto == IPPROTO_TCP && info[i].tcp_state != TCP_LISTEN &&
			    info[i].tcp_state != TCP_TIME_WAIT && info[i].tcp_state != TCP_FIN_WAIT2 &&
			    (info[i].send_q || info[i].tcp_state != TCP_ESTABLISHED))
				return true;
	return false;
}

/* As long as a peer that answers takes; then the kernel goes on. */
#define SETTLE_NS 20000000ull

static bool never(void *arg)
{
	return false;
}

/* Drive the stack until all is sent, or so long. */
static bool sent_by(uint64_t end)
{
	bool wait;

	for (;;) {
		worker_lock();
		worker_round_locked();
		wait = unsent();
		worker_unlock();
		if (!wait || worker_now() >= end)
			return !wait;
		worker_wait(waiter_self(), NULL, 0, worker_now() + 2000000, NULL, never, NULL);
	}
}

void init_settle(void)
{
	uint64_t begin = worker_now();

	if (sent_by(begin + SETTLE_NS) || handover_closed() == 0)
		return;
	sent_by(begin + rd_config()->exit_linger_ms * 1000000ull);
}

void init_close_streams(bool (*which)(int fd))
{
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_STREAM &&
		    (!which || which(fd))) {
			nfile_put(f);
			f = fd_remove(fd);
			libc.close(fd);
		}
		if (f)
			nfile_put(f);
	}
}

/* The kernel would close every descriptor of a process that ends and go on sending; the stack ends
 * with the process, so it does both before; what a slow peer has not taken by then, the kernel sends.
 * Not after a signal that kills: nothing of ours runs then, and peers of open connections get a reset
 * from the kernel at their next segment. */
void init_exit(void)
{
	static int done; /* atomic */

	if (!worker_running() || inside || seccomp_idle() ||
	    __atomic_exchange_n(&done, 1, __ATOMIC_SEQ_CST))
		return;
	share_leave_all();
	init_close_streams(NULL);
	init_settle();
	worker_lock();
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].hal && worker.port[i].hal != worker.port[i].base)
			hal_arm(worker.port[i].hal, 0); /* a capture writes what it holds back */
	worker_unlock();
}

__attribute__((destructor)) static void init_destructor(void)
{
	stdio_flush();
	init_exit();
}

void init_after_fork_child(void)
{
	struct ctl_server *old = ctl;

	ctl = NULL;
	inside++;
	ctl_server_close(old);
	for (uint32_t i = 0; i < WORKER_PORTS; i++) {
		struct worker_port *p = &worker.port[i];

		if (p->base)
			hal_xdp_forget_after_fork(p->base);
		p->hal = p->base = NULL; /* the stub leaks: a few hundred bytes, once per fork */
		p->steer = NULL;         /* so does this: closing it would release the parent's slot */
	}
	worker.region = NULL; /* stays mapped: nothing in the child points into it any more */
	inside--;
}

__attribute__((constructor(103))) static void init_constructor(void)
{
	char err[RD_ERR];

	if (getauxval(AT_SECURE))
		return;
	inside++;
	nst_fd_host = (struct nst_fd_host){ .own = fd_hide, .disown = fd_unprotect };
	ns_log_init(NULL);
	if (rd_config_init(err)) {
		ns_log_fallback("everything stays with the kernel: %s", err);
		inside--;
		return;
	}
	ns_log_init(rd_config());
	if (rd_init(rd_config(), err))
		ns_log_fallback("everything stays with the kernel: %s", err);
	else
		ready = true;
	if (ready && program_self_go())
		kernel_only(SR_go_runtime);
	if (ready)
		adopt_inherited();
	inside--;
}
