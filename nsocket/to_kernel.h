/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/to_kernel.h - what the stack has of a socket becomes the kernel's
 *
 * For whoever has the stack: a program (handover.c) or nstackd. All under the worker lock.
 */
#ifndef NSOCKET_TO_KERNEL_H
#define NSOCKET_TO_KERNEL_H

#include <shm/session.h>

struct to_kernel {
	struct shm_session *s;    /* as the stack knows it */
	/* Its contents, which nobody else writes meanwhile; a daemon has them in a copy. */
	struct shm_session *view;
	struct fifo rx, tx;       /* UDP: rx only */
	int shadow;               /* what is to be the socket: TCP in CLOSE, UDP bound */
	int family;               /* of the shadow */
};

/* What lies in the rings is the stack's to take; some of it may end a connection. */
void to_kernel_drain(void);
/* The same for datagrams at a port whose claim has just ended: one that the steering program looked at before
 * may not be in the ring yet, and nobody would send it again. */
void to_kernel_drain_late(void);
/* A TCP connection, with what is unread and unsent, and the options that the stack knows. Flows of it come
 * to the kernel from here on; the stack has forgotten it, and the session is to be closed. 0, or -errno with
 * nothing changed: -EPERM, -EAGAIN (still connecting), -ENOTCONN (there was none). */
int to_kernel_tcp(struct to_kernel *k);
/* Datagrams that were received and not read, at that port (network byte order). ours: may that address be
 * delivered to? NULL: any. */
void to_kernel_udp(struct to_kernel *k, uint16_t port,
		   bool (*ours)(void *arg, const struct nst_addr *local), void *arg);

#endif
