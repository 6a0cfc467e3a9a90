/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/engine_dpdk.c - a DPDK device, the kernel's side of it and the steering between, as a port of the worker
 *
 * Most devices take all packets of the interface. Then a TAP is the interface that all others see: its
 * addresses, its steering tables, its name in status. It is opened first, since who has it has the device, and
 * DPDK would let two processes share some devices to the harm of both.
 *
 * net_af_xdp needs none if the interface is to be its own: the driver is given our XDP program instead of
 * its, and the kernel keeps what is not the stack's, as it does beside hal_xdp. The driver insists on
 * loading the program itself; we find it attached, and put the driver's sockets where it looks for ours.
 *
 * Threads: as engine.c.
 */
#define _GNU_SOURCE
#include "nsocket/engine_dpdk.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <hal_dpdk/hal_dpdk.h>
#include <hal_wrap/hal_tap.h>
#include <nsocket/worker_internal.h>
#include <nstack/fd_host.h>
#include <rd/config.h>
#include <stdio.h>
#include <string.h>
#include <xdp/libxdp.h>

/* --- arguments ---------------------------------------------------------------------------------- */

static char more_args[1024]; /* written before any device is opened */

void engine_dpdk_args(int argc, char **argv)
{
	size_t n = 0;

	more_args[0] = 0;
	for (int i = 1; i < argc && argv[i] && n < sizeof(more_args); i++)
		n += (size_t)snprintf(more_args + n, sizeof(more_args) - n, " %s", argv[i]);
}

/* The configuration's, then the process's own. */
static const char *eal_args(const struct ns_config *c, char all[2048])
{
	snprintf(all, 2048, "%s%s", c->dpdk.eal ? c->dpdk.eal : "", more_args);
	return all[0] ? all : NULL;
}

/* --- opening ----------------------------------------------------------------------------------- */

/* name: this device instead of c's, ifname: and so much of it; both may be NULL. */
static int device_open(struct hal_port **out, const struct ns_config *c, uint32_t device, const char *name,
		       const char *ifname, const struct hal_tap_config *tc, char why[256])
{
	const char *devices[HAL_DPDK_DEVICES_MAX];
	char args[2048];
	struct hal_dpdk_config dc = {
		.devices = devices,
		.ndevices = c->dpdk.n_devices,
		.device = device,
		.ifname = ifname,
		.eal = eal_args(c, args),
		.frames = c->frames,
		.queues = c->queues,
		.rx_ring = c->rx_ring,
		.tx_ring = c->tx_ring,
		.mtu = c->dpdk.mtu,
		.no_super = !c->super_frames,
		.own_fd = tc->own_fd,
		.disown_fd = tc->disown_fd,
	};

	for (uint32_t i = 0; i < c->dpdk.n_devices; i++)
		devices[i] = i == device && name ? name : c->dpdk.devices[i];
	/* net_af_xdp's libraries talk to stderr, which is the program's */
	libbpf_print_fn_t bpf_words = libbpf_set_print(NULL);
	libxdp_print_fn_t xdp_words = libxdp_set_print(NULL);
	int err = hal_dpdk_open(out, &dc, why);

	libbpf_set_print(bpf_words);
	libxdp_set_print(xdp_words);
	return err;
}

static int open_with_tap(struct worker_port *p, const struct ns_config *c, uint32_t device,
			 const struct hal_tap_config *tc)
{
	struct hal_port *lower;
	int err = hal_tap_open(&p->base, tc, p->why_not);

	if (err)
		return err;
	p->ifindex = p->base->ifindex;
	err = device_open(&lower, c, device, NULL, NULL, tc, p->why_not);
	if (err)
		return err;
	p->dpdk = lower;
	return hal_tap_attach(p->base, lower, c->dpdk.mtu, p->why_not);
}

static int open_with_program(struct worker_port *p, const struct ns_config *c, uint32_t device,
			     const struct hal_tap_config *tc)
{
	int program = steer_lend(p->ifindex, p->why_not), err;
	char name[256];

	if (program < 0)
		return program;
	snprintf(name, sizeof(name), "%.200s,xdp_prog=/proc/self/fd/%d", c->dpdk.devices[device], program);
	err = device_open(&p->dpdk, c, device, name, p->ifname, tc, p->why_not);
	nst_fd_close(program);
	p->base = p->dpdk;
	return err ? err : steer_lent(p->ifindex, "as DPDK's net_af_xdp attached it", p->why_not);
}

int engine_dpdk_open(struct worker_port *p, const struct ns_config *c, uint32_t device,
		     int (*own_fd)(void *arg, int fd), void (*disown_fd)(void *arg, int fd))
{
	struct hal_tap_config tc = { .name = p->ifname, .own_fd = own_fd, .disown_fd = disown_fd };
	const char *name = c->dpdk.devices[device];
	int err = hal_dpdk_check(name, p->ifname, p->why_not);

	if (err)
		return err;
	return hal_dpdk_is_steered(name, p->ifname) ? open_with_program(p, c, device, &tc) :
						      open_with_tap(p, c, device, &tc);
}

/* --- steering ---------------------------------------------------------------------------------- */

static void sync_cb(void *arg)
{
	steer_mirror_sync(((struct worker_port *)arg)->mirror);
}

static enum hal_tap_verdict decide_cb(void *arg, const void *data, uint32_t len, uint32_t frame_len)
{
	static const enum hal_tap_verdict verdict[] = { [STEER_PASS] = HAL_TAP_KERNEL, [STEER_DROP] = HAL_TAP_DROP,
							[STEER_STACK] = HAL_TAP_STACK };

	return verdict[steer_mirror_decide(((struct worker_port *)arg)->mirror, data, len, frame_len)];
}

static bool link_cb(void *arg)
{
	return hal_dpdk_link(((struct worker_port *)arg)->dpdk);
}

static int sockets_publish(struct worker_port *p)
{
	int fds[64];
	uint32_t n = hal_dpdk_sockets(p->dpdk, fds, 64);
	int err = n == p->dpdk->nqueues ? 0 : -EPROTO;

	for (uint32_t q = 0; !err && q < n; q++)
		err = steer_xsk_set(p->steer, q, fds[q]);
	if (err)
		snprintf(p->why_not, sizeof(p->why_not), "%s: DPDK's sockets in the steering program: %s", p->ifname,
			 strerror(-err));
	return err;
}

static int mirror_open(struct worker_port *p)
{
	struct hal_tap_steer s = { .sync = sync_cb, .decide = decide_cb, .link = link_cb, .arg = p };
	int err = steer_mirror_open(&p->mirror, p->steer);

	if (err) {
		snprintf(p->why_not, sizeof(p->why_not), "%s: its steering tables: %s", p->ifname, strerror(-err));
		return err;
	}
	hal_tap_steer(p->base, &s);
	return 0;
}

int engine_dpdk_steer(struct worker_port *p)
{
	return p->base == p->dpdk ? sockets_publish(p) : mirror_open(p);
}

void engine_dpdk_forget(struct worker_port *p)
{
	hal_dpdk_forget_after_fork(p->dpdk);
	if (p->base != p->dpdk)
		hal_tap_forget_after_fork(p->base);
	p->dpdk = NULL;
}

bool engine_dpdk_thread_call(void (*fn)(void))
{
	return hal_dpdk_thread_call(fn);
}
