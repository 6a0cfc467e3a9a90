/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/sbr.h - the link between a program and a plug-in stack in another process (deploy type 3)
 *
 *   sbr_link.c     the program's end: a stack's functions, each of which asks the host
 *   sbr_host.c     the host: doors, programs, their sockets, events
 *   sbr_call.c     one call of a program's, done by the stack
 *   sbr_access.c   whose programs may come
 *   sbr_policy.c   what a program may not ask for, since the stack would do it with the host's privilege
 *
 * Channel. The host listens on the abstract unix SOCK_SEQPACKET socket @nstack-stack-NAME of its network
 * namespace, for each stack. A program sends SBR_HELLO and gets an area (sealed memory of this channel) and
 * the end of a socket for events. Then each message is one call, which is answered by one message. Bytes that
 * are sent and received go by the area, also options and control messages; everything that the host decides
 * by is in messages, or is copied before it is looked at. So a program that scribbles in the area changes what
 * it sends, and nothing else.
 *
 * Sockets have numbers of the program's channel, 0 to SBR_SOCKETS - 1; a program can name no others.
 *
 * Events are messages of struct sbr_event, as many as are there. Where a program does not take them, they
 * are kept with the sockets, each once.
 *
 * Forks. Before, the parent asks for SBR_FORK: the host keeps its table of sockets for a child, one reference
 * more on each, and answers with a token and a claim. The child says the token in a SBR_HELLO of its own and has
 * the table; when the claim's last descriptor is closed without that, the references go.
 *
 * Ends. A closed channel is the end of a program to the host, and of the host to a program, whose
 * sockets of that stack answer ECONNRESET from then on.
 */
#ifndef NSOCKET_SBR_H
#define NSOCKET_SBR_H

#include <nsocket/plugin/plugin.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SBR_NAME "nstack-stack-"
#define SBR_MAGIC 0x6e736272u /* "nsbr" */
#define SBR_VERSION 1u
#define SBR_SOCKETS 65536u
#define SBR_DATA 131072u   /* of the area: bytes, at its beginning */
#define SBR_EXTRA 8192u    /* then: an option's value, control messages */
#define SBR_AREA (SBR_DATA + SBR_EXTRA)
#define SBR_EVENTS 64u     /* in a message */

/* In brackets: members of struct sbr_call; after ->, of struct sbr_answer besides the result. */
enum sbr_op {
	SBR_HELLO = 1,   /* s: SBR_MAGIC, arg: SBR_VERSION, token: 0 or a fork's -> descriptors SBR_FD_*; flags: is
			  * SBR_PREWAIT of use? */
	SBR_FORK,        /* -> token, a descriptor: the claim */
	SBR_SOCKET,      /* arg: domain, arg2: type, arg3: protocol -> a number */
	SBR_BIND,        /* s, name */
	SBR_CONNECT,     /* s, name */
	SBR_LISTEN,      /* s, arg: backlog */
	SBR_ACCEPT,      /* s -> a number, name */
	SBR_SHUTDOWN,    /* s, arg: how */
	SBR_GETSOCKNAME, /* s -> name */
	SBR_GETPEERNAME, /* s -> name */
	SBR_GETSOCKOPT,  /* s, arg: level, arg2: name, len: room -> len, and the value as extra */
	SBR_SETSOCKOPT,  /* s, arg: level, arg2: name, len, and the value as extra */
	SBR_IOCTL,       /* s, token: request, len, and what is passed as extra -> the same */
	SBR_GETFL,       /* s */
	SBR_SEND,        /* s, arg: flags, len: of data, name, extra_len: of control messages */
	SBR_RECV,        /* s, arg: flags, arg2: is the name wanted?, len: room, extra_len: room -> data, name,
			  * extra_len, flags */
	SBR_CLOSE,       /* s, arg: 1: as fork_free_fd */
	SBR_EP_CTL,      /* s, arg2: operation, arg3: events */
	SBR_EP_GETEVT,   /* s, arg3: events */
	SBR_PREWAIT,
	SBR_PEAK,        /* s */
	SBR_OP_NR_
};

struct sbr_call {
	uint32_t op;
	uint32_t s;
	int32_t arg, arg2, arg3;
	uint32_t len, extra_len, name_len;
	uint64_t token;
	uint8_t name[sizeof(struct sockaddr_storage)];
};

struct sbr_answer {
	int32_t result; /* 0.. or -errno */
	uint32_t len, extra_len, name_len, flags, zero;
	uint64_t token;
	uint8_t name[sizeof(struct sockaddr_storage)];
};

/* With the answer to SBR_HELLO, in this order. */
enum { SBR_FD_AREA, SBR_FD_EVENTS, SBR_FDS };

struct sbr_event {
	uint32_t s, events;
};

/* The door of a stack; returns the address's length. */
static inline socklen_t sbr_address(struct sockaddr_un *a, const char *stack)
{
	size_t n = __builtin_strlen(stack);

	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	__builtin_memcpy(a->sun_path + 1, SBR_NAME, sizeof(SBR_NAME) - 1);
	__builtin_memcpy(a->sun_path + sizeof(SBR_NAME), stack, n); /* RD_STACK_NAME is shorter than sun_path */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(SBR_NAME) + n);
}

/* --- sbr_link.c: in programs ------------------------------------------------------------------- */

struct sbr_link;

/* Make m a link to a stack of another process, which need not be there yet. False: no memory. */
bool sbr_link_open(struct plug_module *m);
/* Around forks: fork_prepare() in the order of all hooks. */
void sbr_link_fork_prepare(struct plug_module *m);
void sbr_link_fork_parent(struct plug_module *m);
void sbr_link_fork_child(struct plug_module *m);
/* In a child, before the last: does it need this one of its parent's descriptors? */
bool sbr_link_keeps(int fd);
/* False: a child that has used nothing of the parent's yet, whose sockets end with it. */
bool sbr_link_dialled(const struct plug_module *m);
/* Is s of a channel that has ended? */
bool sbr_link_lost(const struct plug_module *m, int s);
/* The process that has the stack; 0: none is known. */
pid_t sbr_link_host(const struct plug_module *m);

/* --- sbr_host.c: in the process that has stacks -------------------------------------------------- */

struct sbr_host_config {
	const char *only;    /* this one of the stacks; NULL: all of type 3 */
	int policy, priority; /* of the thread that serves: SCHED_*, sched_priority */
	uint32_t programs;   /* at most so many at once */
};
/* Before the stacks are loaded: open the doors of those of type 3. 0, or -errno and why; -EADDRINUSE: another
 * process has one of them. */
int sbr_host_open(const struct sbr_host_config *c, const struct rd_modules *ms, char why[256]);
/* Afterwards: serve programs, from a thread. 0, or -errno and why. */
int sbr_host_serve(const struct sbr_host_config *c, char why[256]);
/* Take back what sbr_host_open() has done, as far as it came; not after sbr_host_serve() went well. */
void sbr_host_close(void);
/* Is it one that this process opened a door for? */
bool sbr_hosts(const struct rd_module *conf);
/* Something is up on a socket that programs have. Any thread. */
void sbr_host_event(struct plug_sock *p, uint32_t events);

/* A program, as sbr_call.c sees it. All under the host's one thread, but for what is said. */
struct sbr_prog;
/* A program's reference to a socket; several have one after a fork. */
struct sbr_holder {
	struct sbr_prog *prog;
	struct plug_sock *p;
	uint32_t s;                   /* its number there */
	uint32_t asked;               /* host lock: events that it asked for */
	uint32_t pending;             /* host lock: those that it was not told of yet */
	struct sbr_holder *next;      /* host lock: of the same socket */
	struct cds_list_head news;    /* host lock: in the program's list while there is something pending */
};
/* A new number for a socket that the stack gave, or -errno; then the socket is closed. */
int sbr_number(struct sbr_prog *prog, int s);
struct sbr_holder *sbr_holder(struct sbr_prog *prog, uint32_t s);
/* The program does not use it any more. */
void sbr_close(struct sbr_prog *prog, struct sbr_holder *h, bool as_child);
/* Events that h wants from now on; returns what all want. */
uint32_t sbr_ask(struct sbr_holder *h, uint32_t events);
int sbr_fork(struct sbr_prog *prog, struct sbr_answer *a, int *claim);

/* --- sbr_call.c ------------------------------------------------------------------------------- */

struct sbr_caller {
	struct sbr_prog *prog;
	struct plug_module *m;
	uint8_t *area;
	bool privileged; /* may it what root may? */
};
/* Do what c says; claim: -1, or a descriptor that goes with the answer and is to be closed. */
void sbr_serve(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_answer *a, int *claim);

/* --- sbr_access.c ----------------------------------------------------------------------------- */

/* Once, before programs come. */
void sbr_access_init(void);
/* May the program at the other end? */
bool sbr_may_attach(int sock, const struct ucred *who);

/* --- sbr_policy.c ----------------------------------------------------------------------------- */

/* 0, or -errno: what programs get. */
int sbr_may_bind(const struct sockaddr *addr, socklen_t len, bool privileged);
int sbr_may_set(int level, int name, const void *val, uint32_t len, bool privileged);
int sbr_may_get(int level, int name);
/* A close() that waits for a time would hold up all programs: it goes on by itself, as without. Zero, an abort, stays. */
void sbr_no_linger(int level, int name, void *val, uint32_t len);
/* Not control messages that are about the host's descriptors or memory, or need privilege. */
int sbr_may_send(const struct msghdr *msg, bool privileged);
/* What a request passes by its pointer, in bytes; -ENOTTY: it is not passed on. */
int sbr_ioctl_size(unsigned long req);

#endif
