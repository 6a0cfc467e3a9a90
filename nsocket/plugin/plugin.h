/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plugin.h - plug-in stacks (nstack/dmm_stack.h) and the sockets that they serve
 *
 *   plugin.c      the stacks of this process: loading, which one a rule means, forks
 *   plug_sock.c   a socket that a stack serves: control calls, events
 *   plug_data.c   its data
 *   plug_run.c    stacks that run to completion, and what programs call by name
 *   plug_private.c  several instances of one library
 *   plug_observe.c  what the tool shows of them
 *   sbr.h         stacks in another process; adpt.c: what a process is to the framework
 *
 * A socket goes to a plug-in at bind(), connect() or, UDP, at its first sendto(), when a rule names the
 * stack; it is SK_PLUGIN from then on, and its shadow only keeps number and flags. A listener on all
 * addresses stays a listener of the kernel's and of nstack's own stack, and has one half more for each
 * plug-in that a rule could give one of its connections to.
 *
 * Results are 0.. or -errno, as everywhere in this folder.
 */
#ifndef NSOCKET_PLUGIN_H
#define NSOCKET_PLUGIN_H

#define NSTACK_FRAMEWORK
#include <nsocket/sock.h>
#include <nstack/dmm_stack.h>
#include <rd/modules.h>

struct plug_early;
struct sbr_holder;
struct sbr_link;

/* A stack. Constant after plug_load(), but for what is said. */
struct plug_module {
	const struct rd_module *conf;
	void *handle;
	nstack_proc_cb cb;    /* in our layout, whatever the plug-in's is */
	int *(*errno_at)(void); /* of the thread in its libc, where it has one of its own; NULL: in ours */
	struct sbr_link *link; /* to the process that has it; NULL: it is in this one */
	bool usable;          /* atomic: registered, its module_init went well */
	bool serial;          /* runs to completion: one thread at a time */
	pthread_mutex_t lock; /* serial: held inside of its functions */
	uint32_t sockets;     /* atomic: open ones */
	uint32_t refused;     /* atomic: what it asked for out of turn (nsep_force_*) */
};

/* One socket of a stack: a whole SK_PLUGIN socket, a half of a listener, or one of other programs (sbr.h). Its
 * address is what the stack knows as pdata, so the memory stays one of these for good, whatever a stack does with
 * an old one. */
struct plug_sock {
	uint32_t magic;
	uint8_t state;        /* atomic: enum plug_state */
	bool nonblock;        /* the stack never waits: we do */
	bool listens;
	bool guessed;         /* atomic: that `ready` has STACK_EV_IN is not reported, but left from a call */
	bool inherited;       /* of a descriptor that had FD_CLOEXEC when the process was forked off */
	bool hosted;          /* others' */
	bool no_rx;           /* atomic: a datagram socket that was shut down for reading, which nobody waits for */
	struct plug_module *m;
	struct nsock *ns;     /* RCU; NULL: closed, or others' */
	struct sbr_holder *holders; /* the host's lock: hosted, the programs that have it */
	int s;                /* atomic: the stack's number, -1: closed */
	struct plug_sock *next; /* the next half of the listener; written once, under ns->lock */
	uint32_t asked;       /* atomic: events that ep_ctl was asked for; 0: not added */
	uint32_t ready;       /* atomic: reported, and not yet found to be over */
	struct plug_early *early; /* atomic: a listener's connections that were accepted only to look */
	struct rcu_head rcu;
};
enum plug_state { PLUG_FREE, PLUG_OPEN, PLUG_CLOSED };

/* --- plugin.c ------------------------------------------------------------------------------- */

/* Whose function the thread is in. */
extern __thread struct plug_module *plug_current;

extern uint32_t plug_count; /* atomic: stacks that can be used, 0 in the usual process */
static inline bool plug_any(void)
{
	/* relaxed: whoever goes on finds the stacks by plug_choose() */
	return __builtin_expect(__atomic_load_n(&plug_count, __ATOMIC_RELAXED) != 0, 0);
}
/* Load what is configured, once; before the first socket. */
void plug_load(void);
bool plug_loaded(void);
/* There are to be none in this process. */
void plug_load_none(void);
/* As if none had been loaded; there is no socket yet. */
void plug_unload(void);
/* The stack for a connection or, remote NULL, for what is bound to local; NULL: none of these. */
struct plug_module *plug_choose(const struct nsock *ns, const struct nst_addr *local,
				const struct nst_addr *remote);
/* The i-th configured plug-in, usable or not; NULL: there are no more. */
struct plug_module *plug_at(uint32_t i);
/* Around a call of the stack's: what it calls itself is its own. */
void plug_enter(struct plug_module *m);
void plug_leave(struct plug_module *m);
/* plug_enter() without waiting. False: the stack is at work. */
bool plug_try_enter(struct plug_module *m);
/* errno as its functions see it. */
static inline int *plug_errno(const struct plug_module *m)
{
	return m->errno_at ? m->errno_at() : &errno;
}
/* The stack's function, its result as ours. */
#define PLUG_CALL(m, fn, ...) \
	({ \
		long r_; \
		plug_enter(m); \
		*plug_errno(m) = EIO; \
		r_ = (long)(m)->cb.fn(__VA_ARGS__); \
		if (r_ < 0) \
			r_ = -*plug_errno(m); \
		plug_leave(m); \
		r_; \
	})
/* What an absent member answers. */
#define PLUG_CALL_OR(m, fn, absent, ...) ((m)->cb.fn ? PLUG_CALL(m, fn, __VA_ARGS__) : (absent))

void plug_fork_prepare(void);
void plug_fork_parent(void);
void plug_fork_child(void);
/* The process ends: its sockets are closed, as the kernel closes its own. */
void plug_exit(void);

/* --- plug_private.c --------------------------------------------------------------------------- */

/* The library that is open as `shared` once more, with variables of its own; NULL and why. */
void *plug_open_private(void *shared, const char **why);

/* --- plug_sock.c ------------------------------------------------------------------------------ */

/* The socket goes to a stack if a rule says so: true, and *r is the call's result. */
bool plug_bind(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len, int *r);
bool plug_connect(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len, int *r);
bool plug_sendto(struct nsock *ns, int fd, const struct msghdr *msg);

/* SK_PLUGIN sockets */
int plug_rebind(struct nsock *ns, const struct sockaddr *addr, socklen_t len);
int plug_reconnect(struct nsock *ns, const struct sockaddr *addr, socklen_t len);
int plug_listen(struct nsock *ns, int backlog);
int plug_shutdown(struct nsock *ns, int how);
int plug_name(struct nsock *ns, struct sockaddr *addr, socklen_t *len, bool peer);
int plug_setopt(struct nsock *ns, int level, int name, const void *val, socklen_t len);
int plug_getopt(struct nsock *ns, int level, int name, void *val, socklen_t *len);
int plug_ioctl(struct nsock *ns, unsigned long req, unsigned long arg);
/* The program's status flags changed. */
void plug_flags(struct nsock *ns);

/* Listeners: open the halves that the rules ask for and that it has not; under ns->lock. */
void plug_halves_open(struct nsock *ns);
void plug_halves_close(struct nsock *ns);
/* p, a listener of ns whose host has ended, at the next one; under ns->lock. True: it listens. */
bool plug_listen_again(struct nsock *ns, struct plug_sock *p);
/* The same for all of m. True: there is one that does not yet. */
bool plug_listeners_lost(struct plug_module *m);
/* A connection, without waiting: its descriptor, or -EAGAIN. SK_PLUGIN or a listener with halves. */
int plug_accept(struct nsock *ns, struct sockaddr *addr, socklen_t *len, int flags);
/* The same, as accept() does it. SK_PLUGIN only. */
int plug_accept_wait(struct nsock *ns, struct sockaddr *addr, socklen_t *len, int flags);
/* New rules: see to the halves of all listeners, if there are new ones. */
void plug_rules_look(void);

/* Ready now, as nsock_poll(). */
uint32_t plug_poll(struct nsock *ns);
/* Somebody is about to wait for any event of it. */
void plug_watch(struct nsock *ns);
/* epoll_ctl() of the program; 0 or -errno: it fails. */
int plug_epoll_ctl(struct nsock *ns, int epfd, int op, const struct epoll_event *ev);
/* Close one in the stack; again: nothing happens. */
void plug_close(struct plug_sock *p);
/* Nobody has it any more: close it; the record goes, unless the stack is to say when. */
void plug_end(struct plug_sock *p);
/* The last reference to the socket went. */
void plug_release(struct nsock *ns);

/* Call fn until it answers something else than -EAGAIN or the program does not wait; ev: what it waits
 * for, STACK_EV_IN or STACK_EV_OUT; with PLUG_KEEP, what was reported before counts. dont: MSG_DONTWAIT. */
#define PLUG_KEEP (1u << 31)
long plug_wait_call(struct nsock *ns, uint32_t ev, bool dont,
		    long (*fn)(struct plug_sock *p, void *arg), void *arg);
/* listen() of the stack's: 0 or -errno. */
int plug_listen_call(struct plug_sock *p, int backlog);
/* One try of these. */
long plug_try(struct plug_sock *p, uint32_t ev, long (*fn)(struct plug_sock *p, void *arg), void *arg);
/* The socket whose pdata that is; NULL: none. */
struct plug_sock *plug_of_pdata(void *pdata);
void plug_sock_free(struct plug_sock *p);
int plug_event(void *pdata, int events);

/* A record for a number that the stack gave, for ns (NULL: for others); without one the number is closed.
 * 0 or -errno. */
int plug_take(struct plug_module *m, struct nsock *ns, int s, struct plug_sock **out);
/* A connection of a listener, without waiting: its number, or -errno. */
int plug_take_connection(struct plug_sock *p, struct sockaddr_storage *peer, socklen_t *len);
/* What is true now of these events, and EPOLLERR, EPOLLHUP. */
uint32_t plug_look(struct plug_sock *p, uint32_t events);

/* --- plug_data.c ------------------------------------------------------------------------------- */

ssize_t plug_sendmsg(struct nsock *ns, const struct msghdr *msg, int flags);
ssize_t plug_recvmsg(struct nsock *ns, struct msghdr *msg, int flags);
/* Wait until the stack takes something; so much may be tried, or -errno. */
ssize_t plug_room(struct nsock *ns);
ssize_t plug_sendfile(struct nsock *ns, int in, off64_t *off, size_t n);
/* Once, without a program: of the message one buffer; results go into it. */
long plug_send_once(struct plug_sock *p, struct msghdr *msg, int flags);
long plug_recv_once(struct plug_sock *p, struct msghdr *msg, int flags);

/* --- plug_run.c -------------------------------------------------------------------------------- */

/* Is the calling thread inside of nstack_run()'s loop, where waiting would stop the stack? */
bool plug_in_loop(void);
/* A socket of a stack that runs to completion was opened: somebody has to drive it. */
void plug_drive(struct plug_module *m);
/* The stack's work once, if it runs to completion. */
void plug_work(struct plug_module *m);
/* A thread is about to sleep on an epoll set; -1: in poll() or select(). When it has to look again at the
 * latest, worker_now(); UINT64_MAX: others do the stacks' work. */
uint64_t plug_prewait(int epfd);
/* A stack has reported something: it is at work. */
void plug_event_seen(void);
void plug_run_fork_child(void);

#endif
