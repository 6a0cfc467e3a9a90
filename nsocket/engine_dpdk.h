/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/engine_dpdk.h - a DPDK device, the kernel's side of it and the steering between, as a port of the worker */
#ifndef NSOCKET_ENGINE_DPDK_H
#define NSOCKET_ENGINE_DPDK_H

#include <bpf/steer_mirror.h>
#include <stdbool.h>
#include <stdint.h>

struct ns_config;
struct worker_port;

/* More arguments for DPDK, from argv[1] on, which are copied. Before any device is opened. */
void engine_dpdk_args(int argc, char **argv);
/* Opens c's device of that index, and what p->ifname names as the kernel's side of it; fills base, dpdk and
 * ifindex. 0, or -errno and p->why_not; engine.c's port_close() takes what there is. */
int engine_dpdk_open(struct worker_port *p, const struct ns_config *c, uint32_t device,
		     int (*own_fd)(void *arg, int fd), void (*disown_fd)(void *arg, int fd));
/* With p->steer: from now on packets are told apart. */
int engine_dpdk_steer(struct worker_port *p);
/* Calls fn once, soon, in DPDK's thread; false: there is none. */
bool engine_dpdk_thread_call(void (*fn)(void));
/* In a forked child: the device is the parent's. */
void engine_dpdk_forget(struct worker_port *p);

#endif
