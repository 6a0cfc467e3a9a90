/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock.h - a socket of ours, and what the sock_*.c files share
 *
 * All sock_*() calls take the descriptor by which the program came: it names the kernel's half
 * (the shadow) too. Results are 0.. or -errno.
 *
 *   sock.c        life, session, waiting, commands, readiness
 *   sock_addr.c   bind, listen, connect, accept, names
 *   sock_rd.c     which stack serves it
 *   sock_stream.c TCP data, sendfile   sock_urgent.c  urgent data   sock_splice.c  splice
 *   sock_dgram.c  UDP data   sock_dgram_ctl.c  who serves it, options   sock_cmsg.c  control messages
 *   sock_opt.c    options, ioctl   opt_log.c     options for accepted sockets
 *   ports.c       claims of the steering program, by reference
 */
#ifndef NSOCKET_SOCK_H
#define NSOCKET_SOCK_H

#include <fcntl.h>
#include <nsocket/file.h>
#include <nsocket/libc.h>
#include <nsocket/ports.h>
#include <nsocket/share.h>
#include <nsocket/sig.h>
#include <nsocket/worker_internal.h>
#include <nstack/addr.h>
#include <rd/rules.h>
#include <shm/session.h>
#include <stdbool.h>

/* Who may go where: NEW -> KERNEL | LISTEN | STREAM | DGRAM; STREAM -> NEW (connect failed or was
 * dissolved) | KERNEL (handover.c); DGRAM -> KERNEL; NEW -> PLUGIN. Written under nsock.lock. */
enum sock_mode {
	SK_NEW,    /* not decided; the shadow answers everything */
	SK_KERNEL, /* the shadow for good */
	SK_LISTEN, /* TCP listener: the shadow listens, and the session if there is one */
	SK_STREAM, /* TCP connection of the stack: session; the shadow is a placeholder */
	SK_DGRAM,  /* UDP: session and shadow */
	SK_LOST,   /* a connection of the parent's stack, in a forked child */
	SK_PLUGIN, /* a plug-in stack's (plugin.h); the shadow is a placeholder */
};

/* Why a socket (or one datagram's way) is the kernel's. */
#define SOCK_REASONS(X) \
	X(stack_not_running, "the stack could not start in this process: see the log") \
	X(rule_kernel, "a rule gives this address to the kernel") \
	X(no_route, "not reachable through an interface that the stack has, or a local address") \
	X(port_owned_by_other, "another process's stack owns this port") \
	X(claim_failed, "the steering program did not take the claim") \
	X(stack_refused, "the stack refused the socket: out of sessions or memory") \
	X(limit, "a limit of nstackd's (daemon.access, max_sockets) is met: its log says which") \
	X(multicast_or_broadcast, "multicast and broadcast are served by the kernel") \
	X(option, "an option in use that the stack does not have") \
	X(kernel_client, "accepted from the kernel's listener: loopback, another interface") \
	X(forked, "a connection of the parent's stack was used in a forked child") \
	X(passed, "the descriptor was sent to another process") \
	X(exec, "the descriptor lives on in another program") \
	X(daemon_ends, "the connection was nstackd's, which has ended") \
	X(outlived, "the process that had the connection has ended, others use it") \
	X(no_program, "the process is a tool of the framework, as it said (nstack_adpt_init)") \
	X(go_runtime, "a Go program: its runtime calls the kernel without the C library") \
	X(io_uring, "the process uses io_uring, which sees only the kernel's sockets") \
	X(seccomp, "the program filters its system calls (seccomp): those of the stack are not foreseen") \
	X(aio, "POSIX AIO: threads of the C library's own read and write past nstack") \
	X(stdio, "a connection as descriptor 0, 1 or 2, which are used past the library") \
	X(inherited, "no listener, and made by another process: inherited, or received by SCM_RIGHTS") \
	X(fd_too_large, "descriptor number past the table")
enum sock_reason {
#define X(n, help) SR_##n,
	SOCK_REASONS(X)
#undef X
	SR_NR_
};
extern uint64_t sock_reasons[SR_NR_];   /* atomic counts */
extern const char *const sock_reason_names[SR_NR_], *const sock_reason_help[SR_NR_];
static inline void sock_reason(enum sock_reason r)
{
	__atomic_add_fetch(&sock_reasons[r], 1, __ATOMIC_RELAXED);
}
/* The same for descriptors that have no nsock, because the kernel serves what they refer to: a note
 * by number, reason + 1, 0 = none. It outlives the descriptor; whoever asks looks whether there is a
 * socket (observe_kernel.c). Atomic: written by whoever makes the descriptor, read by the helper. */
extern uint8_t sock_fd_why[NFILE_FDS];
static inline void sock_fd_reason(int fd, enum sock_reason r)
{
	if ((unsigned)fd < NFILE_FDS)
		__atomic_store_n(&sock_fd_why[fd], (uint8_t)(r + 1), __ATOMIC_RELAXED);
}

struct plug_sock;
struct steer_owner;
struct sock_wait; /* a thread that blocks in a call */
struct opt_log;

/* UDP: the last decision for a destination. */
struct dgram_way {
	struct nst_addr to, from; /* asked for; from AF_UNSPEC: not said */
	uint64_t until, rules;    /* valid before that time, and with that generation of rules */
	uint32_t max;             /* longest payload that goes in one piece */
	bool narrow;              /* because of a hop that the kernel may not know of */
	unsigned ifindex;
	bool stack;
};

#define SOCK_OPTS 32
struct nsock {
	struct nfile f; /* first */
	struct worker_cmd cmd;
	uint8_t family, proto;
	uint8_t mode;        /* atomic: enum sock_mode */
	uint8_t why;         /* atomic: reason + 1 for which the kernel serves it, 0 = none; last wins */
	uint8_t shut;        /* lock: SHUT_* bits, 1 = read, 2 = write */
	bool bound, v6only, reuseport;
	bool connecting;     /* lock: as SS_CONNECTING */
	int err;             /* atomic: pending error of a socket whose connection was given up */
	bool rejected;       /* lock: activation was refused in this process; not tried again */
	uint64_t retry_ns;   /* lock: rejected because another process has the port; 0 = not so */
	bool port_held;      /* lock: we hold a claim for `held` */
	bool shared;         /* atomic: another program has it, the kernel is to serve both (attach.c) */
	bool remote;         /* the session is that of the parent's stack (share.c) */
	int kept_fd;         /* atomic: the shadow, closed by the program, but not by children, or not by
			      * accept() in another thread; else -1 */
	uint64_t cookie;     /* lock: the shadow's, of a listener; known also when its descriptor is closed */
	uint32_t slot;       /* its place in the link; UINT32_MAX: none */
	struct gift *gifts;  /* lock; the head is atomic: connections from another process, or of before exec
			      * (yield.c) */
	uint64_t looked_ns;  /* atomic: when a listener got its port, or accept() asked last */
	bool yielded;        /* atomic: the port went to a process that asked; asked back when waited on */
	struct share *share; /* parent: children have it too; worker lock */
	uint32_t want_cmsg;  /* atomic: SOCK_CM_* */
	int backlog;
	struct nst_addr local;  /* as bound, when bound */
	struct nst_addr held;
	struct nst_addr peer;   /* UDP: connected to, else AF_UNSPEC; lock */
	bool bind_called;       /* the port was chosen by the program; lock */
	uint32_t bind_seq;      /* UDP: order of bind() in the process; lock */
	bool peer_kernel;       /* UDP: the stack has no way to peer; lock */
	bool retired;           /* UDP: the kernel's, but for what the session has received; lock */
	bool corked;            /* UDP_CORK; TCP_CORK as set before there was a session */
	bool more;              /* UDP: the kernel waits for the rest of a datagram */
	uint16_t gso_size;      /* UDP_SEGMENT */
	struct shm_session *s; /* atomic; set once per connection */
	struct fifo rx, tx;
	pthread_mutex_t lock;    /* control: bind, listen, connect, options */
	pthread_mutex_t rx_lock, tx_lock; /* one reader, one writer; not held while waiting */
	pthread_mutex_t wait_lock;
	struct sock_wait *waits; /* wait_lock */
	uint32_t nwaits;         /* atomic */
	uint32_t takers;         /* atomic: of them, in accept(); one that was cancelled stays counted */
	uint32_t accepting;      /* atomic: threads in accept() that may wait: a listener stays open for them */
	uint64_t rcvtimeo, sndtimeo; /* ns, 0 = none */
	uint32_t turn;           /* atomic: which half is asked first */
	uint32_t rcvlowat;
	bool oobinline;
	uint64_t owner;          /* atomic: who gets SIGURG, see sock_owner_set() */
	uint64_t urg_told;       /* atomic: the mark that SIGURG was sent for */
	uint32_t opt_set;        /* bits of STACK_OPT_*: to be replayed */
	int opt[SOCK_OPTS];
	char congestion[16];
	struct opt_log *opts;    /* lock: what a listener to be was told, or the listener of an unsettled
				  * one; our reference */
	bool unsettled;          /* atomic: accepted, and its shadow does not have the options yet */
	int linger_s;            /* -1 = off */
	struct dgram_way way;    /* tx_lock */
	struct plug_sock *plug;  /* atomic: what plug-in stacks have of it; written under lock */
	const char *choice;      /* atomic: the stack that the program chose, NULL = by rules; written under lock */
	uint64_t plug_rules;     /* lock: the generation of rules that a listener's halves are by */
};
#define SOCK_CM_PKTINFO 1u
#define SOCK_CM_PKTINFO6 2u
#define SOCK_CM_TTL 4u
#define SOCK_CM_TOS 8u
#define SOCK_CM_TSTAMP 16u
#define SOCK_CM_TSTAMPNS 32u
#define SOCK_CM_TTL6 64u
#define SOCK_CM_TOS6 128u
#define SOCK_CM_ORIGDST 256u
#define SOCK_CM_ORIGDST6 512u
#define SOCK_CM_DROPS 1024u
#define SOCK_CM_TSTAMPING 2048u
#define SOCK_CM_INQ 4096u

static inline struct nsock *nsock_of(struct nfile *f)
{
	return (struct nsock *)f;
}
static inline uint8_t nsock_mode(const struct nsock *ns)
{
	/* acquire: pairs sock.mode - session and FIFOs of the mode */
	return __atomic_load_n(&ns->mode, __ATOMIC_ACQUIRE);
}
static inline struct shm_session *nsock_session(struct nsock *ns)
{
	return __atomic_load_n(&ns->s, __ATOMIC_ACQUIRE);
}
static inline bool nsock_nonblock(const struct nsock *ns)
{
	return __atomic_load_n(&ns->f.flags, __ATOMIC_RELAXED) & O_NONBLOCK;
}

/* May a call of ours look at n bytes of the program's memory there? What can't be mapped answers
 * EFAULT, as in Linux; what only is not mapped is found out by touching it. */
#define USER_MIN 65536ul      /* vm.mmap_min_addr: the null pointer and its neighbours */
#define USER_MAX (1ul << 56)  /* no processor has a program's memory above it */
static inline bool user_ok(const void *p, size_t n)
{
	return !n || ((uintptr_t)p >= USER_MIN && (uintptr_t)p < USER_MAX &&
		      n <= USER_MAX - (uintptr_t)p);
}
/* --- sock.c ------------------------------------------------------------------------------- */

/* A new one with one reference, or NULL. flags: O_NONBLOCK or 0. */
struct nsock *nsock_new(int family, int proto, uint32_t flags);
/* Count a reason, and keep it as the socket's. */
void nsock_reason(struct nsock *ns, enum sock_reason why);
/* Of an error, if it says so itself. */
enum sock_reason nsock_reason_of(int err, enum sock_reason other);
void nsock_set_mode(struct nsock *ns, enum sock_mode mode);
/* Commands for the stack; they run at once or by whoever holds the worker lock. */
#define SOCK_CMD_TX 1u
#define SOCK_CMD_TX_MORE 2u
#define SOCK_CMD_RX_FREED 4u
#define SOCK_CMD_SHUT_RD 8u
#define SOCK_CMD_SHUT_WR 16u
#define SOCK_CMD_CLOSE 32u
#define SOCK_CMD_HANDOVER 64u /* a child's only: share.c */
void nsock_post(struct nsock *ns, uint32_t bits);
/* Under the worker lock: allocate, open, replay options. 0 or -errno (nothing left behind). */
int nsock_session_open_locked(struct nsock *ns, struct shm_session **out);
/* The session gets to be the socket's; its events come from here on. Under the worker lock. */
void nsock_session_attach_locked(struct nsock *ns, struct shm_session *s);
/* Give the session (and the claim) back. Under the worker lock. */
void nsock_session_drop_locked(struct nsock *ns, int linger_s);
/* Wake those who block on it or watch it. Any thread; the socket must stay meanwhile. */
void nsock_wake(struct nsock *ns, uint32_t events);
/* The stack's events. */
void nsock_stack_event(struct stack_env *env, struct shm_session *s, uint32_t events);
/* Ask for the port again after a while, and when its owner ends. Under ns->lock. */
void nsock_retry_later(struct nsock *ns);
/* Does this process wait on the listener, or does its event loop look after it? A hint. */
bool nsock_in_use(struct nsock *ns);
/* The kernel's name for a socket, the same by every descriptor in every process; 0: not a socket. */
uint64_t sock_cookie(int fd);
/* Ours of that cookie, or only if it is a listener that the stack serves; with a reference, or NULL. */
struct nsock *nsock_by_cookie(uint64_t cookie, bool served_listener);
/* Every socket of this process that the stack serves or may serve. */
void nsock_each(void (*fn)(struct nsock *ns));
/* Block until ready(ns). kfd >= 0: or until that kernel descriptor polls kevents. 1, 0 (deadline),
 * -EINTR (a handler without SA_RESTART, or a time-out is set). If the thread is cancelled in it, the
 * caller's reference is dropped. */
int nsock_wait(struct nsock *ns, int kfd, short kevents, uint64_t deadline,
	       bool (*ready)(void *ns), bool restart);
uint64_t nsock_deadline(uint64_t timeout_ns); /* 0 = for ever */
/* Is there room for a writer? If not, an event (OUT) comes when there is: for whoever looks before he sleeps. */
bool nsock_tx_roomy(struct nsock *ns, struct shm_session *s);
/* Take the pending error: 0 or -errno. */
int nsock_error(struct shm_session *s);
/* The same of a socket without a session. */
int nsock_take_error(struct nsock *ns);
/* Start serving a listener or a bound UDP socket by the stack, if it qualifies. */
void nsock_activate(struct nsock *ns, int fd);
/* A number of the shadow: the program's, or what is kept of a closed listener for those in accept(). -1: none. */
int nsock_shadow_fd(const struct nsock *ns);
void nsock_start(struct nsock *ns); /* the same without asking whether; under ns->lock */
/* Ask again for ports that another process's stack had. */
void nsock_retry_all(void);
/* The socket is served by the kernel for good. Under ns->lock. */
void nsock_to_kernel(struct nsock *ns, enum sock_reason why);

/* From now on this process leaves sockets to the kernel. The first reason stays. */
void nsock_kernel_only(enum sock_reason why);
/* SR_NR_: it does not. */
enum sock_reason nsock_kernel_only_why(void);

/* --- the rest, by file ------------------------------------------------------------------------ */

int sock_socket(int domain, int type, int protocol);
int sock_bind(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len);
/* The shadow was bound past us: take its address over. */
int sock_bound(struct nsock *ns, int fd);
int sock_listen(struct nsock *ns, int fd, int backlog);
int sock_connect(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len);
_Static_assert(NF_WATCHED_ALL == SHM_WATCHED_ALL && NF_WATCHED_ONE == SHM_WATCHED_ONE, "the same bits");

/* Does the stack have a connection for accept()? */
static inline bool sock_accept_waits(struct nsock *ns)
{
	struct shm_session *s = nsock_session(ns);

	/* relaxed: it is asked for, which tells what it is */
	return s && (fifo_used(&ns->rx) >= sizeof(uint32_t) || __atomic_load_n(&s->waiting, __ATOMIC_RELAXED));
}
int sock_accept(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, int flags);
int sock_shutdown(struct nsock *ns, int fd, int how);
/* The last descriptor of a listener is about to be closed: accept() that waits in another thread goes on
 * until it has a connection. */
void sock_listener_keep(struct nsock *ns, int fd);
/* A descriptor was closed; the caller has a reference still. */
void sock_linger(struct nsock *ns);
int sock_name(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, bool peer);
int sock_setopt(struct nsock *ns, int fd, int level, int name, const void *val, socklen_t len);
/* The shadow of an accepted connection gets the listener's options, if it has not. Under ns->lock. */
void sock_opt_settle_locked(struct nsock *ns, int fd);
int sock_getopt(struct nsock *ns, int fd, int level, int name, void *val, socklen_t *len);
/* An answer of n bytes, as far as there is room for it: 0 or -errno. */
int sock_opt_out(const void *v, socklen_t n, void *val, socklen_t *len);
int sock_ioctl(struct nsock *ns, int fd, unsigned long req, long arg);
/* Have both ends of a connection ended it, and only the peer's word that it knows is missing? */
bool sock_said_all(struct nsock *ns);
ssize_t sock_sendmsg(struct nsock *ns, int fd, const struct msghdr *msg, int flags);
ssize_t sock_recvmsg(struct nsock *ns, int fd, struct msghdr *msg, int flags);
/* Bytes in all, or -errno for what the kernel finds without touching it. *low: set if there is a
 * pointer near null, which it finds when it gets there. */
ssize_t sock_iov_check(const struct iovec *iov, size_t n, bool *low);
ssize_t sock_stream_send(struct nsock *ns, const struct iovec *iov, size_t n, int flags);
ssize_t sock_stream_recv(struct nsock *ns, const struct iovec *iov, size_t n, int flags);
/* A call that found that the connection had moved to the kernel, after `done` bytes (handover.c). */
ssize_t sock_moved_recv(struct nsock *ns, const struct iovec *iov, size_t n, size_t done, int flags);
ssize_t sock_moved_send(struct nsock *ns, const struct iovec *iov, size_t n, size_t done, int flags);
ssize_t sock_dgram_send(struct nsock *ns, int fd, const struct msghdr *msg, int flags);
ssize_t sock_dgram_recv(struct nsock *ns, int fd, struct msghdr *msg, int flags);
uint32_t sock_dgram_poll(struct nsock *ns, struct shm_session *s);
int sock_dgram_next(struct nsock *ns, int fd); /* length of the next datagram, of either half */
void sock_dgram_forget_errors(struct nsock *ns);

/* sock_dgram_ctl.c. After the shadow was bound, connected or dissolved; under ns->lock. */
void sock_dgram_follow(struct nsock *ns, int fd, bool connected);
bool sock_dgram_may_start(const struct nsock *ns);
void sock_dgram_activate(struct nsock *ns);
/* Claim the port, open a session. Under ns->lock and the worker lock. */
int sock_dgram_start_locked(struct nsock *ns);
/* The kernel serves it, and all that share its port, from now on. */
void sock_dgram_retire(struct nsock *ns, enum sock_reason why);
bool sock_dgram_kernel_only(const struct nsock *ns);
/* Does a datagram to `to` (from an address if one is wanted) go through the stack? Fills w. */
bool sock_dgram_way(struct nsock *ns, int fd, const struct nst_addr *to,
		    const struct nst_addr *from, struct dgram_way *w);
/* The shadow took that option. */
void sock_dgram_opt(struct nsock *ns, int level, int name, int v, socklen_t len);
/* Correct what the shadow said of IP_MTU, if it was that. */
void sock_dgram_path_mtu(struct nsock *ns, int level, int name, void *val);
int sock_dgram_pmtudisc(const struct nsock *ns, const struct nst_addr *to);

/* sock_cmsg.c: what comes with a datagram or an error; sets msg_controllen. */
void sock_cmsg_data(struct nsock *ns, struct msghdr *msg, const struct shm_dgram *d);
void sock_cmsg_error(struct nsock *ns, struct msghdr *msg, const struct shm_dgram *d,
		     const struct shm_dgram_error *e);
/* What goes with a datagram to `to`, into d. False: the kernel has to judge. */
bool sock_cmsg_send(const struct nsock *ns, const struct msghdr *msg, const struct nst_addr *to,
		    struct shm_dgram *d);
/* TCP_CORK was set or cleared: what was held back leaves. */
void sock_stream_cork(struct nsock *ns, bool on);
ssize_t sock_sendfile(struct nsock *ns, int out, int in, off64_t *off, size_t n);
/* Wait for room in a stream: bytes that fit; 0 = it has moved to the kernel; or -errno. */
ssize_t sock_stream_room(struct nsock *ns);
/* Between a pipe and a stream; the other one is the pipe. */
ssize_t sock_splice(struct nsock *ns, int in, int out, size_t n, unsigned flags, bool to_sock);
/* Keep an option for sessions to come and tell the one that is there. Under ns->lock. */
void sock_opt_keep(struct nsock *ns, int opt, int v);
/* Local port to use for a socket that is not bound: binds the shadow. */
int sock_autobind(struct nsock *ns, int fd);
bool sock_is_multicast(const struct nst_addr *a);
void sock_addr_out(const struct nst_addr *a, int family, struct sockaddr *addr, socklen_t *len);

/* --- sock_rd.c ------------------------------------------------------------------------------ */

/* rd_lookup(), rd_listen(), rd_lookup_name(), rd_may_name() for a socket. */
struct rd_verdict nsock_lookup(const struct nsock *ns, const struct nst_addr *local, const struct nst_addr *remote);
struct rd_listen nsock_listen_by(const struct nsock *ns);
bool nsock_lookup_name(const struct nsock *ns, const struct nst_addr *local, const struct nst_addr *remote,
		       char name[RD_STACK_NAME]);
bool nsock_may_name(const struct nsock *ns, const char *name);
/* The options of nstack/rd.h; results as of sock_setopt(). */
bool sock_rd_is_option(int level, int name);
int sock_rd_set(struct nsock *ns, int name, const void *val, socklen_t len);
int sock_rd_get(struct nsock *ns, int name, void *val, socklen_t *len);

/* --- sock_urgent.c ---------------------------------------------------------------------------- */

/* What a read may take now: bytes [from, end) of those that lie in the FIFO. */
struct rx_window {
	uint32_t from, end;
};
static inline bool sock_urg_any(const struct shm_session *s)
{
	/* relaxed: only whether to look closer */
	return __atomic_load_n(&s->stack_flags, __ATOMIC_RELAXED) & SHM_SF_URG;
}
/* Position of the urgent byte; false: there is none that the reader has not passed. */
bool sock_urg_mark(const struct nsock *ns, const struct shm_session *s, uint64_t *mark);
bool sock_urg_atmark(const struct nsock *ns, const struct shm_session *s);
/* Is there a byte for MSG_OOB? */
bool sock_urg_pri(const struct nsock *ns, const struct shm_session *s);
/* Bytes that make the socket readable; bytes as FIONREAD counts them. */
uint32_t sock_urg_readable(const struct nsock *ns, const struct shm_session *s);
uint32_t sock_urg_inq(const struct nsock *ns, const struct shm_session *s);
/* Narrow w, under rx_lock; more: the call has bytes already. False: it has to end here. */
bool sock_urg_window(struct nsock *ns, struct shm_session *s, bool more, struct rx_window *w);
/* recv() with MSG_OOB, under rx_lock. */
ssize_t sock_urg_recv(struct nsock *ns, struct shm_session *s, const struct iovec *iov, size_t n,
		      int flags);
/* F_SETOWN_EX's type and number. */
void sock_owner_set(struct nsock *ns, int type, pid_t pid);
/* F_SETOWN's number: negative for a process group. */
static inline void sock_owner_number(struct nsock *ns, int who)
{
	sock_owner_set(ns, who < 0 ? F_OWNER_PGRP : F_OWNER_PID, who < 0 ? -who : who);
}
void sock_owner_urgent(struct nsock *ns, const struct shm_session *s);

/* fd, no longer in the table, is about to be closed (wrap.c). */
void sock_closing(struct nfile *f, int fd);

/* priv.c: the effective user id is about to become this one; (uid_t)-1: it stays. */
void priv_before_user(uid_t user);
void priv_fork_prepare(void);
void priv_fork_parent(void);
void priv_fork_child(void);

#endif
