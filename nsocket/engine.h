/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/engine.h - interfaces, steering tables and the stack of the process that serves sockets
 *
 * What a program has that serves its sockets itself, and what nstackd has for all. It fills in `worker`.
 */
#ifndef NSOCKET_ENGINE_H
#define NSOCKET_ENGINE_H

#include <nstack/addr.h>
#include <nstack/stack.h>
#include <stdbool.h>
#include <stdint.h>

struct ns_config;
struct shm_region_config;

/* 0, or -errno and one line in why, and nothing is left behind but what worker.port says of each
 * interface. event: as in struct stack_env. */
/* image: what the process is called in the steering tables, see steer_instance_take(). */
int engine_start(const struct ns_config *c, const struct shm_region_config *rc, uint64_t image,
		 void (*event)(struct stack_env *env, struct shm_session *s, uint32_t events),
		 char why[256]);
void engine_stop(void);
/* The stack's part of a configuration that has changed; under the worker lock. */
void engine_tune(const struct ns_config *c);

/* Descriptors that are readable when engine_service_locked() is wanted; room for WORKER_PORTS. */
uint32_t engine_fds(int *fds);
void engine_service_locked(void);
/* Now and then while there is traffic; any thread, without the lock: flows that were left to the kernel
 * and have ended there. */
void engine_sweep(void);
/* Is it an address of this host's? Under the worker lock. */
bool engine_is_local(const struct nst_addr *a);
/* In a forked child: what there is, is the parent's. */
void engine_after_fork_child(void);

#endif
