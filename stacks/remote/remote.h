/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/remote/remote.h - the stack of nstackd, as a program's own
 *
 * remote_stack_ops serves sessions of a region that the daemon has shared (shm/attach.h): what needs an
 * answer is a message to the daemon, all else a notification. It has no ports and no deadline.
 *
 * When the daemon ends, or does not answer for some seconds, stack_env.gone is called once; from then on
 * every call fails or does nothing, until remote_detach().
 */
#ifndef STACKS_REMOTE_H
#define STACKS_REMOTE_H

#include <nstack/stack.h>
#include <sys/types.h>

struct shm_region;

extern const struct stack_ops remote_stack_ops;

/* image: what other programs are told of this one when it has a port that they want. 0: attached; *region is the daemon's part for this process and is never unmapped, so sockets may keep
 * looking at it. -ENOENT: no daemon in this network namespace. Others: refused, and one line in why. */
int remote_attach(struct stack **out, struct stack_env *env, struct shm_region **region, uint64_t image,
		  char why[256]);
void remote_detach(struct stack *st);
/* Who would be attached to: the daemon's pid, 0: nobody whom we trust. */
pid_t remote_look(void);
/* Would a program of this user be served? 0 and the daemon's pid, or as remote_attach(). */
int remote_try(pid_t *pid, char why[256]);
/* What a sleeper polls; room for 2. Returns how many. */
unsigned remote_fds(struct stack *st, int fds[2]);
/* Before it sleeps (false: there is work, don't) and after; any thread, one at a time, without the lock. */
bool remote_arm(struct stack *st);
void remote_disarm(struct stack *st);
pid_t remote_pid(struct stack *st);

/* Local ports, as bpf/steer_ctl.h has them for a process that has the steering program itself; shadow: the
 * socket that is bound to local. -EADDRINUSE: that process has it, and what it called itself. */
int remote_claim(struct stack *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, bool fresh,
		 int shadow, pid_t *owner, uint64_t *image);
/* When it returns, new packets of the port are the kernel's. */
void remote_release(struct stack *st, uint8_t proto, const struct nst_addr *local);
int remote_pin(struct stack *st, uint8_t proto, const struct nst_addr *local,
	       const struct nst_addr *remote, int shadow);
/* Some time after it. */
void remote_unpin(struct stack *st, uint8_t proto, const struct nst_addr *local);
/* What the daemon has of s becomes the kernel's: the shadow takes over a connection, or datagrams that were
 * received. The session is to be closed then. 0, -errno with nothing changed, as to_kernel_tcp(); or the bytes
 * of the queue that were delivered as datagrams, for the caller to consume. */
int remote_to_kernel(struct stack *st, struct shm_session *s, int shadow);
/* stack_ops.listen() on a port that was claimed, the packets of which come to the stack from now on; shadow:
 * the socket that listens there, which says the backlog. As remote_claim(). */
int remote_listen(struct stack *st, struct shm_session *s, int shadow, pid_t *owner, uint64_t *image);
/* Do connections of anybody have that local address? */
bool remote_in_use(struct stack *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4);
/* Other processes have the shadow, too: when this one has ended, one of them may take the connection, or the
 * kernel goes on with it. 0 or -errno: they will lose it. */
int remote_park(struct stack *st, struct shm_session *s, int shadow);
/* They have it no more. */
void remote_unpark(struct stack *st, struct shm_session *s);
/* The connection that another process parked. 0, -ENOENT: there is none (any more: perhaps it is the kernel's);
 * -EAGAIN: it will be the kernel's in a moment. */
int remote_take(struct stack *st, int shadow, struct shm_session **out);
/* Does anybody use that port (network byte order)? A hint; any thread. */
bool remote_port_used(struct stack *st, int udp, uint16_t port);

#endif
