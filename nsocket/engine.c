/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/engine.c - interfaces, steering tables and the stack of the process that serves sockets
 *
 * With engine_dpdk.c the only file that names concrete stacks and HALs.
 *
 * Threads: starting and stopping by one thread, before and after all else; the rest as engine.h says.
 */
#define _GNU_SOURCE
#include "nsocket/engine.h"

#include <bpf/steer_ctl.h>
#include <hal_wrap/hal_fault.h>
#include <hal_wrap/hal_pcap.h>
#include <hal_xdp/hal_xdp.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <nsocket/engine_dpdk.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <nstack/fd_host.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <rd/sys.h>
#include <stacks/tcpip/netcfg.h>
#include <stacks/tcpip/tcpip.h>
#include <stdlib.h>
#include <string.h>

static uint64_t local_gen; /* netcfg generation that the steering tables have */

/* --- ports ---------------------------------------------------------------------------------- */

static int own_fd(void *arg, int fd)
{
	return nst_fd_own(fd);
}

static void disown_fd(void *arg, int fd)
{
	nst_fd_disown(fd);
}

static int xsk_publish(void *arg, uint32_t queue, int xsk_fd)
{
	struct worker_port *p = arg;

	return p->steer ? steer_xsk_set(p->steer, queue, xsk_fd) : -ENODEV;
}

/* The program's tables; attaches the program if nobody did and we may. */
static int port_steer(struct worker_port *p, enum steer_mode mode, bool load, uint64_t image)
{
	int err = steer_open(&p->steer, p->ifindex, p->why_not);

	if (err == -ENOENT && load) {
		err = steer_load(p->ifindex, mode, p->why_not);
		if (!err)
			err = steer_open(&p->steer, p->ifindex, p->why_not);
	}
	if (err)
		return err;
	err = steer_instance_take(p->steer, RD_STACK_DEFAULT, image);
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

static int port_xdp(struct worker_port *p, const struct ns_config *c, uint64_t image)
{
	static const enum steer_mode mode[] = { [NS_MODE_AUTO] = STEER_MODE_AUTO,
						[NS_MODE_GENERIC] = STEER_MODE_GENERIC,
						[NS_MODE_NATIVE] = STEER_MODE_NATIVE };
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
	int err = port_steer(p, mode[c->mode], c->load, image);

	return err ? err : hal_xdp_open(&p->base, &hc, p->why_not);
}

static int port_dpdk(struct worker_port *p, const struct ns_config *c, uint64_t image)
{
	int err = engine_dpdk_open(p, c, (uint32_t)(p - worker.port), own_fd, disown_fd);

	/* the tables are those of a program on the TAP, which passes everything as long as we decide; or the
	 * driver has attached it */
	if (!err)
		err = port_steer(p, STEER_MODE_GENERIC, p->base != p->dpdk, image);
	return err ? err : engine_dpdk_steer(p);
}

static int port_wrap(struct worker_port *p, const struct ns_config *c)
{
	int err = 0;

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
	steer_mirror_close(p->mirror);
	p->mirror = NULL;
	if (p->steer && p->base)
		for (uint32_t q = 0; q < p->base->nqueues; q++)
			steer_xsk_clear(p->steer, q);
	hal_close(p->hal ? p->hal : p->base);
	steer_close(p->steer);
	p->hal = p->base = p->dpdk = NULL;
	p->steer = NULL;
}

static void port_try(struct worker_port *p, const struct ns_config *c, uint64_t image)
{
	int err = c->hal == NS_HAL_DPDK ? port_dpdk(p, c, image) : port_xdp(p, c, image);

	if (!err)
		err = port_wrap(p, c);
	if (!err)
		return;
	if (!p->why_not[0])
		snprintf(p->why_not, sizeof(p->why_not), "%s", strerror(-err));
	ns_log(NS_WAR, NS_M_NSOCKET, "%s is not used: %s", p->ifname, p->why_not);
	port_close(p);
}

static void port_open(struct worker_port *p, const struct ns_config *c, uint64_t image)
{
	int turn = c->hal == NS_HAL_DPDK ? steer_turn(p->ifindex) : -1;

	port_try(p, c, image);
	steer_turn_end(turn);
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
	if (!p->ifindex && rd_config()->hal == NS_HAL_XDP)
		snprintf(p->why_not, sizeof(p->why_not), "no such interface");
}

/* The interfaces to use, then each of them. Returns how many work. */
static unsigned ports_open(const struct ns_config *c, uint64_t image)
{
	struct ifaddrs *list, *ia;
	char name[IF_NAMESIZE];
	unsigned n = 0;

	for (uint32_t i = 0; i < c->n_interfaces; i++)
		port_add(c->interfaces[i]);
	for (uint32_t i = c->n_interfaces; c->hal == NS_HAL_DPDK && i < c->dpdk.n_devices; i++) {
		snprintf(name, sizeof(name), "dpdk%u", i);
		port_add(name);
	}
	if (!worker.nports && getifaddrs(&list) == 0) {
		for (ia = list; ia; ia = ia->ifa_next)
			if (addr_usable(ia))
				port_add(ia->ifa_name);
		freeifaddrs(list);
	}
	for (uint32_t i = 0; i < worker.nports; i++) {
		if (!worker.port[i].why_not[0])
			port_open(&worker.port[i], c, image);
		n += worker.port[i].hal != NULL;
	}
	return n;
}

/* --- the stack --------------------------------------------------------------------------------- */

static int stack_make(const struct ns_config *c, const struct shm_region_config *rc)
{
	struct tcpip_config tc = { .max_timewait = c->tcp.time_wait_max,
				   .no_syncookies = !c->tcp.syn_cookies };
	int err = shm_region_create(&worker.region, rc);

	if (err)
		return err;
	worker.env.port_hold = ports_hold_cb;
	worker.env.port_ours = ports_ours_cb;
	worker.env.flow_left = ports_left_cb;
	worker.env.flow_begins = ports_flow_begins_cb;
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
	/* NULL: start failed; without interfaces the stack is the daemon's */
	struct netcfg *nc = worker.st && worker.nports ? tcpip_netcfg(worker.st) : NULL;
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

/* --- from here on: engine.h -------------------------------------------------------------------- */

void engine_stop(void)
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

void engine_tune(const struct ns_config *c)
{
	if (worker.st && worker.ops == &tcpip_stack_ops)
		tcpip_tune(worker.st, c->tcp.time_wait_max, !c->tcp.syn_cookies);
}

static const char *ports_why(void)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].why_not[0])
			return worker.port[i].why_not;
	return "no interface has a usable address";
}

int engine_start(const struct ns_config *c, const struct shm_region_config *rc, uint64_t image,
		 void (*event)(struct stack_env *env, struct shm_session *s, uint32_t events),
		 char why[256])
{
	int err;

	if (!ports_open(c, image)) {
		snprintf(why, 256, "%s", ports_why());
		engine_stop();
		return -ENODEV;
	}
	worker.env.event = event;
	err = stack_make(c, rc);
	if (err) {
		snprintf(why, 256, "stack: %s", strerror(-err));
		engine_stop();
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

uint32_t engine_fds(int *fds)
{
	uint32_t n = 0;
	int fd;

	for (uint32_t i = 0; i < worker.nports; i++) {
		fd = worker.port[i].base ? hal_xdp_service_fd(worker.port[i].base) : -1;
		if (fd >= 0)
			fds[n++] = fd;
	}
	return n;
}

void engine_service_locked(void)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].base)
			hal_xdp_service(worker.port[i].base);
	tables_sync();
}

bool engine_is_local(const struct nst_addr *a)
{
	return netcfg_is_local(tcpip_netcfg(worker.st), a);
}

void engine_sweep(void)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].steer)
			steer_pins_sweep(worker.port[i].steer);
	ports_keep_sweep();
}

void engine_after_fork_child(void)
{
	for (uint32_t i = 0; i < WORKER_PORTS; i++) {
		struct worker_port *p = &worker.port[i];

		if (p->dpdk)
			engine_dpdk_forget(p);
		else if (p->base)
			hal_xdp_forget_after_fork(p->base);
		p->mirror = NULL;
		p->hal = p->base = NULL; /* the stub leaks: a few hundred bytes, once per fork */
		p->steer = NULL;         /* so does this: closing it would release the parent's slot */
	}
	worker.region = NULL; /* stays mapped: nothing in the child points into it any more */
}
