/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/handover.h - a socket moves to the kernel
 *
 * A shadow and what it is to become share one open file, so every descriptor of it, in every process,
 * is the kernel's socket from then on.
 */
#ifndef NSOCKET_HANDOVER_H
#define NSOCKET_HANDOVER_H

#include <nsocket/sock.h>

/* The kernel serves the socket for good; why is counted. fd: one of its descriptors, or -1. A TCP
 * connection goes on where it is, with what is unread and unsent; so do pending datagrams. What waits
 * in a listener's queue of ours stays there for accept(). 0 (also: it was the kernel's already), or
 * -errno with the socket unchanged: -EPERM (no CAP_NET_ADMIN any more), -EAGAIN (still connecting),
 * -ENOTCONN (the connection has ended), -ECONNRESET (lost with another process).
 * Not under any lock of the library. */
int nsock_handover(struct nsock *ns, int fd, enum sock_reason why);
/* nstackd keeps the connection for the next image of this process, which finds it by fd (adopt.c), with what
 * was set on it. 0 or -errno: hand it over. */
int nsock_park(struct nsock *ns, int fd);
/* Every socket of this process that `which` (NULL: all) selects. Returns how many could not. */
int nsock_handover_each(bool (*which)(struct nsock *ns, int fd), enum sock_reason why);

/* For share.c and yield.c, under the worker lock: a connection whose socket this process has closed; shadow is a
 * descriptor of the placeholder. */
int handover_session_locked(struct shm_session *s, int shadow);

/* Connections that the program has closed and that have something to send: the kernel sends it. How
 * many could not be handed over. Not under any lock. */
int handover_closed(void);

#endif
