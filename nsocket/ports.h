/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ports.h - claims of the steering program, by reference
 *
 * Threads: all under the worker lock, unless said.
 */
#ifndef NSOCKET_PORTS_H
#define NSOCKET_PORTS_H

#include <nstack/addr.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct shm_session;
struct stack_env;
struct steer_owner;

/* 0, -EADDRINUSE (another process's stack) or another error of the steering program. */
/* shadow: the socket that is bound there, which a daemon wants to see; it knows by itself: -1. */
int ports_claim(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, int shadow);
/* Have the stack listen on a claimed port; shadow as above. */
int ports_listen(struct shm_session *s, int backlog, int shadow);
/* A TCP client's flow: its packets come to this instance until ports_release() and the stack's
 * last hold on the port; nobody else's on the port do. */
int ports_pin(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote, int shadow);
/* The flow is the kernel's from now on, whoever claims the port, until the kernel has it no more. */
int ports_to_kernel(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote);
/* As ports_claim() for a port that was just chosen for a client. */
int ports_claim_new(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, int shadow);
/* After a claim: is the port left out of the steering program's rules (struct rd_listen)? A daemon decides
 * that by itself. */
void ports_exempt(uint8_t proto, const struct nst_addr *local, bool on);
/* A daemon's, for its programs to see: by TCP (0) or UDP (1) and port, a bit for each of its processes that
 * uses it; NULL: nobody looks. Set before the first claim. */
extern uint16_t (*ports_map)[65536];
extern uint16_t ports_map_bit; /* this process's */
/* Does anything of ours use the port (network byte order)? A hint: without a lock. */
bool ports_used(uint8_t proto, uint16_t port);
/* Do connections of the stack have that local address, TIME_WAIT included? v6_takes_v4: [::] of both families. */
bool ports_in_use(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4);
void ports_release(uint8_t proto, const struct nst_addr *local);
void ports_hold_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local);
bool ports_ours_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
		   const struct nst_addr *remote);
bool ports_left_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
		   const struct nst_addr *remote);
void ports_release_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local);
/* A listener went: flows that remain are pinned, the port is free for others. */
void ports_listener_gone(uint8_t proto, const struct nst_addr *local);
/* Pins that go with their port's last user, one by one. */
void ports_pins_each(void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
				const struct nst_addr *remote), void *arg);
/* Rules are about to change, or are changing (ports_keep.c): every flow stays here, and each that begins in the
 * next seconds. How many there are. */
int ports_keep_flows(void);
void ports_flow_begins_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
			  const struct nst_addr *remote);
/* Takes back the pins of such flows that have ended. Takes the worker lock itself, for the list of flows. */
void ports_keep_sweep(void);
/* Has a process ended that had a port which we asked for? */
bool ports_owner_gone(void);
/* Who had the port when a claim failed last; in the same thread. */
const struct steer_owner *ports_owner(void);
void ports_after_fork_child(void);

#endif
