/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/adopt.h - sockets that this process did not make (adopt.c) */
#ifndef NSOCKET_ADOPT_H
#define NSOCKET_ADOPT_H

#include <sys/socket.h>

/* At start-up: what exec left open. */
void adopt_inherited(void);
/* After that, when the stack may be started: connections that nstackd keeps for this image. */
void adopt_connections(void);
/* The descriptors in a message that libc received. */
void adopt_message(const struct msghdr *msg);

/* After a recvmsg() on a descriptor of the kernel; r is its result, and this one's. */
static inline ssize_t adopt_after(ssize_t r, const struct msghdr *msg)
{
	if (r >= 0 && msg->msg_controllen >= CMSG_LEN(sizeof(int)))
		adopt_message(msg);
	return r;
}

#endif
