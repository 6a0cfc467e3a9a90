/* SPDX-License-Identifier: Apache-2.0 */
/* shm/attach.h - how a program and nstackd talk
 *
 * A program connects to the abstract unix SOCK_SEQPACKET socket @nstackd of its network namespace (each
 * namespace has names of its own, so a program can only find the daemon that serves its network). It
 * trusts a peer that is root or its own user; the daemon decides by the program's user and group who may
 * attach.
 *
 * The first message is ATT_HELLO; its answer brings the session memory (one part of the daemon's region,
 * sealed), the notifications of both directions (sealed), two bells, and the ports that are in use. From then on the program sends
 * messages of one or more calls, and the daemon answers each message whose last call is not marked
 * ATT_QUIET, in order, with one answer: that of the last call, or of the first that failed, after which
 * no further one of the message is made. A descriptor that comes with a message is for its last call.
 *
 * Everything about data goes by the sessions' FIFOs and by notifications (ATT_DO_* from the program, the
 * stack's events to it). What a program did first comes first: before it serves a message the daemon takes all
 * notifications of that program, and a notification waits for as many messages as its session says (said).
 *
 * A local port is the program's because the kernel says so: who claims one sends a descriptor of the
 * socket that is bound to it. The daemon never follows an index or length of the other side unchecked.
 *
 * All numbers are in host byte order, addresses as in struct nst_addr.
 */
#ifndef NSTACK_SHM_ATTACH_H
#define NSTACK_SHM_ATTACH_H

#include <nstack/addr.h>
#include <nstack/stack.h>
#include <shm/notify.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ATT_NAME "nstackd"
#define ATT_MAGIC 0x6e737464u /* "nstd" */
#define ATT_VERSION 1u

enum att_op {
	ATT_HELLO = 1,  /* session: ATT_MAGIC; arg: ATT_VERSION; data: 8 bytes that the program is called by
			 * (nsocket/yield.h), its name, from ATT_HELLO_LABEL on its label; both end with a 0.
			 * A refusal says why in data, len */
	ATT_ALLOC,      /* arg: family, arg2: protocol -> a session that is the program's until ATT_DO_CLOSE */
	ATT_OPEN,       /* from here on as the members of struct stack_ops; local, remote: addresses */
	ATT_BIND,
	ATT_LISTEN,     /* with the socket, which says the backlog; who listens on it already shares what
			 * comes with this one. -EADDRINUSE: as ATT_CLAIM */
	ATT_CONNECT,
	ATT_DISCONNECT,
	ATT_SETOPT,     /* arg: option; data, len */
	ATT_GETOPT,     /* arg: option; len: room -> data, len */
	ATT_TCP_INFO,   /* -> data: struct tcp_info */
	ATT_ROUTE,      /* local: AF_UNSPEC = not bound -> route */
	ATT_CLAIM,      /* arg: protocol, arg2: ATT_CLAIM_*, local; with the socket. Packets come from
			 * ATT_LISTEN (TCP) or ATT_BIND (UDP) on. -EADDRINUSE: another program has it, session: its pid, image: as it
			 * called itself; -EPERM: a rule */
	ATT_RELEASE,    /* of a claim or a pin; connections on it stay. arg: protocol, local */
	ATT_PIN,        /* a client's flow: arg: protocol, local, remote; with the socket. -EPERM: a rule gives
			 * it to the kernel; -EACCES: a rule drops it */
	ATT_TO_KERNEL,  /* with the shadow, which becomes the connection, or gets the datagrams (result: bytes of
			 * rx that they were): the session is to be closed then */
	ATT_ACCEPT,     /* of a listener that is shared -> session: a connection. -EAGAIN: none waits */
	ATT_IN_USE,     /* arg: protocol, arg2: ATT_CLAIM_V4TOO, local. -EADDRINUSE: connections have it */
	ATT_PARK,       /* with the shadow, by which another program that has it, too, may find the session; when
			 * this program has ended it waits for one, and then the kernel has it */
	ATT_UNPARK,     /* nobody else has it any more */
	ATT_TAKE,       /* with the shadow -> a session of this program's: the connection goes on in it. -ENOENT:
			 * there is none, or the kernel has it; -EAGAIN: the kernel is about to have it, since
			 * another program lives that uses it */
	ATT_OP_NR_
};

#define ATT_HELLO_LABEL 40u /* where in data */

#define ATT_QUIET 1u /* flags: no answer */

#define ATT_CLAIM_V4TOO 1 /* an IPv6 wildcard takes IPv4, too */
#define ATT_CLAIM_NEW 2   /* the port was just chosen for a client */

#define ATT_DATA 64u
#define ATT_CALLS 32u /* in a message */
struct att_call {
	uint16_t op, flags;
	uint32_t session; /* id in the program's part */
	int32_t arg, arg2;
	uint32_t len;
	struct nst_addr local, remote;
	uint8_t data[ATT_DATA];
};

/* Descriptors with the answer to ATT_HELLO, in this order. The daemon's bell is an eventfd, which it never reads
 * or writes; the program's is the end of a pipe to read from. */
enum { ATT_FD_SESSIONS, ATT_FD_NOTIFY, ATT_FD_BELL_DAEMON, ATT_FD_BELL_PROGRAM, ATT_FD_PORTS, ATT_FDS };

/* Which local ports the daemon's stacks use, TIME_WAIT included, for whoever chooses one: 16 bits for each of
 * TCP's and of UDP's, 0 = free, by number in network byte order. To be read only. */
#define ATT_PORTS_BYTES (2u * 65536 * sizeof(uint16_t))

struct att_answer {
	int32_t result;   /* 0 or -errno */
	uint32_t session; /* ATT_ALLOC, ATT_TAKE: id; ATT_CLAIM: pid */
	uint32_t len;
	union {
		struct {
			uint32_t sessions, rx_size, tx_size;
		} hello;
		struct stack_route route;
		uint64_t image;
		uint8_t data[272];
	};
};

/* Notifications from the program: bits. The values of SOCK_CMD_* in nsocket/sock.h for those that both
 * have. */
#define ATT_DO_TX 1u
#define ATT_DO_TX_MORE 2u
#define ATT_DO_RX_FREED 4u
#define ATT_DO_SHUT_RD 8u
#define ATT_DO_SHUT_WR 16u
#define ATT_DO_CLOSE 32u /* with the session's linger_s; the id is not the program's any more */

/* Notifications to the program: the stack's events, STACK_EV_*, and */
#define ATT_EV_LEAVE 0x10000u  /* the daemon is about to end: let the kernel have all connections */
#define ATT_EV_SHARED 0x20000u /* another program is to have it, too: let the kernel have it */

/* The notifications' memory: those to the daemon, then those to the program. */
static inline size_t att_notify_bytes(uint32_t sessions)
{
	return 2 * notify_bytes(sessions);
}

/* The daemon's address; returns its length. */
static inline socklen_t att_address(struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	__builtin_memcpy(a->sun_path + 1, ATT_NAME, sizeof(ATT_NAME) - 1);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(ATT_NAME));
}

#define ATT_RECV_FDS 253u /* as many as a message can have */

/* One message with descriptors. Both use system calls that are no cancellation points, restart
 * after signals, and never raise SIGPIPE. Bytes, or -errno; 0 from att_recv: the other side is gone.
 * att_recv: longer messages than size are -EMSGSIZE, with their descriptors; fds: room for max, others that come
 * are closed, with max 0 by the kernel; *nfds may be NULL then. All received ones are close-on-exec. */
long att_send(int sock, const void *msg, size_t size, const int *fds, unsigned nfds, int flags);
long att_recv(int sock, void *msg, size_t size, int *fds, unsigned max, unsigned *nfds, int flags);

/* Is who, at the other end of sock, of that group, be it a supplementary one? */
bool att_peer_in_group(int sock, const struct ucred *who, gid_t gid);

#endif
