/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/repair.h - a TCP connection that another stack had becomes the kernel's
 *
 * TCP_REPAIR lets a socket become a connection without a packet: sequence numbers, windows, options
 * and the contents of both queues are set by hand. Needs CAP_NET_ADMIN, and CAP_NET_RAW where the peer
 * has ended or sent urgent data (that is delivered to the kernel as packets over the loopback).
 *
 *	repair_begin()  the kernel has the connection, but says nothing of its own accord
 *	(the caller lets the kernel have the packets)
 *	repair_end()    it speaks; or repair_undo(): as if nothing had been
 */
#ifndef NSOCKET_REPAIR_H
#define NSOCKET_REPAIR_H

#include <nstack/stack.h>
#include <shm/fifo.h>

#define REPAIR_NO_URG UINT32_MAX
struct repair {
	/* set by the caller */
	int fd;                            /* a socket in CLOSE; may be bound */
	int family;                        /* of the socket */
	const struct stack_tcp_image *img;
	const struct fifo *rx, *tx;        /* unread; from img->una on */
	uint32_t urg_at;                   /* what lies in rx before the urgent byte; or REPAIR_NO_URG */
	bool urg_had;                      /* that byte was read out of turn */
	/* as the program knows them; restored */
	int rcvbuf, sndbuf, buf_lock, reuse;
};

/* 0, or -errno with the socket as it was. -EPERM: the privilege is missing. */
int repair_begin(struct repair *r);
void repair_undo(struct repair *r);
void repair_end(struct repair *r);
/* Instead: the connection is over, with that error pending (positive, 0 = none). */
void repair_dead(struct repair *r, int error);

#endif
