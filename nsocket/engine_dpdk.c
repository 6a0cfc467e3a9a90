/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/engine_dpdk.c - a DPDK device, its TAP and the steering between, as a port of the worker
 *
 * The TAP is the interface that all others see: its addresses, its steering tables, its name in status.
 * It is opened first, since who has it has the device, and DPDK would let two processes share some
 * devices to the harm of both.
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

static int device_open(struct hal_port **out, const struct ns_config *c, uint32_t device,
		       const struct hal_tap_config *tc, char why[256])
{
	char args[2048];
	struct hal_dpdk_config dc = {
		.devices = (const char *const *)c->dpdk.devices,
		.ndevices = c->dpdk.n_devices,
		.device = device,
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

	/* net_af_xdp's libraries talk to stderr, which is the program's */
	libbpf_print_fn_t bpf_words = libbpf_set_print(NULL);
	libxdp_print_fn_t xdp_words = libxdp_set_print(NULL);
	int err = hal_dpdk_open(out, &dc, why);

	libbpf_set_print(bpf_words);
	libxdp_set_print(xdp_words);
	return err;
}

int engine_dpdk_open(struct worker_port *p, const struct ns_config *c, uint32_t device,
		     int (*own_fd)(void *arg, int fd), void (*disown_fd)(void *arg, int fd))
{
	struct hal_tap_config tc = { .name = p->ifname, .own_fd = own_fd, .disown_fd = disown_fd };
	struct hal_port *lower;
	int err = hal_dpdk_check(c->dpdk.devices[device], p->ifname, p->why_not);

	if (!err)
		err = hal_tap_open(&p->base, &tc, p->why_not);
	if (err)
		return err;
	p->ifindex = p->base->ifindex;
	err = device_open(&lower, c, device, &tc, p->why_not);
	return err ? err : hal_tap_attach(p->base, lower, c->dpdk.mtu, p->why_not);
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
	return hal_dpdk_link(hal_tap_lower(((struct worker_port *)arg)->base));
}

int engine_dpdk_steer(struct worker_port *p)
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

void engine_dpdk_forget(struct worker_port *p)
{
	hal_dpdk_forget_after_fork(hal_tap_lower(p->base));
	hal_tap_forget_after_fork(p->base);
}
