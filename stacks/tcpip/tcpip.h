/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcpip.h - our own TCP/UDP/IP stack, for those who make one
 *
 * All work goes through tcpip_stack_ops (nstack/stack.h). create() takes a struct tcpip_config, or
 * NULL for a stack that follows the kernel of the calling thread's network namespace.
 */
#ifndef NSTACK_STACKS_TCPIP_H
#define NSTACK_STACKS_TCPIP_H

#include <nstack/stack.h>
#include <stdbool.h>
#include <stdint.h>

struct netcfg;

struct tcpip_config {
	struct netcfg *netcfg;  /* use this one, which stays the caller's; NULL = follow the kernel */
	const uint8_t *secret;  /* 16 bytes instead of random ones: tests */
	uint32_t max_timewait;  /* records; 0 = default */
	uint32_t max_synqueue;  /* per listener; 0 = by its backlog */
	bool no_syncookies;
	uint64_t (*clock)(void *arg); /* instead of CLOCK_MONOTONIC: virtual time for tests */
	void *clock_arg;
};

/* Other limits from now on; under the worker lock. */
void tcpip_tune(struct stack *st, uint32_t max_timewait, bool no_syncookies);

/* What the stack knows of the kernel's configuration: local addresses for the steering table,
 * links for status. Lives as long as the stack. */
struct netcfg *tcpip_netcfg(struct stack *st);

#endif
