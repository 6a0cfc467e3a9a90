/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/sbr_link.c - the program's end of sbr.h: a stack whose functions ask another process
 *
 * A link is dialled at the first socket that a rule gives to its stack, and anew whenever there is no host: while
 * there is none, socket() fails and the kernel serves. A channel is used by one thread at a time, for a call and its
 * answer; a host that takes longer than ANSWER_S is as good as dead. A thread takes the events, and when the
 * channel ends, it takes the channel apart and tells whoever waits.
 *
 * Numbers of sockets carry the channel's turn, so that one of a lost channel is never taken for one of the next:
 * such a socket answers ECONNRESET. Listeners wait instead: the thread of the lost channel has them listen again as
 * soon as there is a host.
 *
 * In a forked child the link has a claim to its parent's sockets, and dials when the child first uses one.
 *
 * Threads: any; a link's fields under its lock, but for what is said. Functions find their link by plug_current.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/sbr.h"

#include <nsocket/init.h>
#include <nstack/fault_point.h>
#include <rd/log.h>
#include <rd/sys.h>
#include <shm/attach.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ANSWER_S 5
#define LOOK_NS 100000000 /* how often a host is looked for, while there are listeners without one */
#define TURNS 0x7fffu
#define ALL (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLERR | EPOLLHUP | EPOLLRDHUP)

struct sbr_link {
	pthread_mutex_t lock; /* held from a call to its answer */
	struct plug_module *m;
	int channel;          /* -1: there is none */
	int events;           /* the thread's to close, too */
	uint8_t *area;
	uint32_t turn;        /* atomic; of the channel, in its sockets' numbers */
	bool prewaits;        /* the stack has something to do before a thread sleeps */
	bool broken;          /* the thread is about to take the channel apart */
	pid_t host;           /* atomic */
	uint64_t token;       /* in a child that has not dialled yet, with */
	int claim;
	void **pdata;         /* SBR_SOCKETS of them, atomic: the channel's */
};

/* Of a fork that the thread is in the middle of: what the child is to have of each link. */
static __thread struct fork_claim {
	uint64_t token; /* 0: nothing */
	int fd;
} claims[RD_MODULES_MAX];

static struct sbr_link *link_here(void)
{
	return plug_current->link;
}

static int number(const struct sbr_link *l, int s)
{
	return (int)(l->turn << 16 | (uint32_t)s);
}

static uint32_t index_of(int s)
{
	return (uint32_t)s & (SBR_SOCKETS - 1);
}

static int fail(long err)
{
	errno = (int)-err;
	return -1;
}

/* --- the end of a channel --------------------------------------------------------------------- */

/* The other side is gone, or as good as: what sleeps on the channel wakes up. */
static void break_locked(struct sbr_link *l)
{
	l->broken = true;
	SYS_CALL_(SYS_shutdown, l->channel, SHUT_RDWR);
	SYS_CALL_(SYS_shutdown, l->events, SHUT_RDWR);
}

static void memory_free(void *area, void *pdata)
{
	if (area)
		munmap(area, SBR_AREA);
	if (pdata)
		munmap(pdata, SBR_SOCKETS * sizeof(void *));
}

/* What the thread still needs is not freed. */
static void take_apart_locked(struct sbr_link *l)
{
	fd_hide_close(l->channel);
	fd_hide_close(l->events);
	memory_free(l->area, NULL);
	l->channel = l->events = -1;
	l->area = NULL;
	l->pdata = NULL;
	l->broken = false;
	__atomic_store_n(&l->host, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&l->turn, (l->turn + 1) & TURNS, __ATOMIC_RELAXED);
}

static void tell(void *const *pdata, uint32_t s, uint32_t events)
{
	/* relaxed: a record is one for good, and what the socket's state is will be asked */
	void *p = s < SBR_SOCKETS ? __atomic_load_n(&pdata[s], __ATOMIC_RELAXED) : NULL;

	if (p)
		plug_event(p, (int)events);
}

/* --- events ----------------------------------------------------------------------------------- */

static void *take_events(void *arg)
{
	static const struct timespec pause = { .tv_nsec = LOOK_NS };
	struct sbr_event ev[SBR_EVENTS];
	struct sbr_link *l = arg;
	void **pdata;
	int events;
	long n;

	pthread_setname_np(pthread_self(), "nstack-link");
	init_enter();
	lock_take(&l->lock); /* who dials has it */
	events = l->events;
	pdata = l->pdata;
	lock_give(&l->lock);
	while ((n = att_recv(events, ev, sizeof(ev), NULL, 0, NULL, 0)) > 0)
		for (size_t i = 0; i < (size_t)n / sizeof(ev[0]); i++)
			tell(pdata, ev[i].s, ev[i].events & ALL);
	lock_take(&l->lock);
	take_apart_locked(l);
	lock_give(&l->lock);
	ns_log(NS_WAR, NS_M_NSOCKET, "the process that has stack \"%s\" is gone: its connections are reset, the kernel "
	       "serves new ones", l->m->conf->name);
	for (uint32_t s = 0; s < SBR_SOCKETS; s++)
		tell(pdata, s, ALL);
	memory_free(NULL, pdata);
	while (plug_listeners_lost(l->m))
		nanosleep(&pause, NULL);
	return NULL;
}

static int events_start(struct sbr_link *l)
{
	sigset_t all, old;
	pthread_t thread;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&thread, NULL, take_events, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_detach(thread);
	return -err;
}

/* --- dialling --------------------------------------------------------------------------------- */

/* Anybody may take the name while no host has it. */
static int trust(struct sbr_link *l, int fd)
{
	struct ucred u;
	socklen_t len = sizeof(u);

	if (SYS_CALL_(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0)
		return -EPERM;
	if (u.uid != 0 && u.uid != geteuid()) {
		ns_log(NS_WAR, NS_M_NSOCKET, "stack \"%s\": process %d has the name, as user %u: not trusted",
		       l->m->conf->name, (int)u.pid, (unsigned)u.uid);
		return -EPERM;
	}
	__atomic_store_n(&l->host, u.pid, __ATOMIC_RELAXED);
	return 0;
}

/* A connection to the door, or -errno. */
static int knock(struct sbr_link *l)
{
	static const struct timeval limit = { .tv_sec = ANSWER_S };
	struct sockaddr_un a;
	socklen_t len = sbr_address(&a, l->m->conf->name);
	int fd = fd_hide((int)SYS_CALL_(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)), err;

	if (fd < 0)
		return fd;
	SYS_CALL_(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	SYS_CALL_(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	err = (int)SYS_CALL_(SYS_connect, fd, &a, len);
	if (!err)
		err = trust(l, fd);
	if (!err)
		return fd;
	fd_hide_close(fd);
	return err;
}

static int hello(struct sbr_link *l, int fd, int fds[SBR_FDS])
{
	struct sbr_call c = { .op = SBR_HELLO, .s = SBR_MAGIC, .arg = SBR_VERSION, .token = l->token };
	struct sbr_answer a = { 0 };
	unsigned nfds = 0;
	long n = att_send(fd, &c, sizeof(c), NULL, 0, 0);

	if (n >= 0)
		n = att_recv(fd, &a, sizeof(a), fds, SBR_FDS, &nfds, 0);
	if (n == (long)sizeof(a) && !a.result && nfds == SBR_FDS) {
		l->prewaits = a.flags;
		return 0;
	}
	for (unsigned i = 0; i < nfds; i++)
		SYS_CALL_(SYS_close, fds[i]);
	return n == (long)sizeof(a) && a.result < 0 ? a.result : -ECONNRESET;
}

static void *map(int fd, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int take(struct sbr_link *l, int fd, const int fds[SBR_FDS])
{
	struct stat sb;
	int err = -ENOMEM;

	l->events = fd_hide(fds[SBR_FD_EVENTS]);
	if (!fstat(fds[SBR_FD_AREA], &sb) && sb.st_size == SBR_AREA)
		l->area = map(fds[SBR_FD_AREA], SBR_AREA);
	SYS_CALL_(SYS_close, fds[SBR_FD_AREA]);
	l->pdata = map(-1, SBR_SOCKETS * sizeof(void *));
	if (l->area && l->pdata)
		err = events_start(l);
	if (!err) {
		l->channel = fd;
		return 0;
	}
	memory_free(l->area, l->pdata);
	fd_hide_close(l->events);
	l->area = NULL;
	l->pdata = NULL;
	l->events = -1;
	return err;
}

static int dial_locked(struct sbr_link *l)
{
	int fds[SBR_FDS], fd = knock(l), err = fd < 0 ? fd : hello(l, fd, fds);

	NST_FAULT_POINT("sbr.link.hello");
	if (!err)
		err = take(l, fd, fds);
	if (err) {
		if (fd >= 0)
			fd_hide_close(fd);
		__atomic_store_n(&l->host, 0, __ATOMIC_RELAXED);
	} else {
		ns_log(NS_INF, NS_M_NSOCKET, "stack \"%s\" is in process %d", l->m->conf->name, (int)l->host);
	}
	return err;
}

/* A channel, for a new socket (fresh) or for one of the turn; 0 or -errno. */
static int ready_locked(struct sbr_link *l, bool fresh)
{
	int err;

	if (l->broken)
		return -ECONNRESET;
	if (l->channel >= 0)
		return 0;
	if (!fresh && !l->token)
		return -ECONNRESET;
	err = dial_locked(l);
	if (l->token) {
		if (err) /* what the parent had is lost */
			__atomic_store_n(&l->turn, (l->turn + 1) & TURNS, __ATOMIC_RELAXED);
		fd_hide_close(l->claim);
		l->token = 0;
	}
	return err;
}

/* --- calls ------------------------------------------------------------------------------------ */

/* Under the lock: the call's result, 0.. or -errno; fd: room for one that comes along, or NULL. */
static long ask_locked(struct sbr_link *l, const struct sbr_call *c, struct sbr_answer *a, int *fd)
{
	unsigned nfds = 0;
	long n = att_send(l->channel, c, sizeof(*c), NULL, 0, 0);

	NST_FAULT_POINT("sbr.link.asked");
	if (n >= 0)
		n = att_recv(l->channel, a, sizeof(*a), fd, fd ? 1 : 0, fd ? &nfds : NULL, 0);
	if (fd && !nfds)
		*fd = -1;
	if (n == (long)sizeof(*a))
		return a->result;
	break_locked(l);
	return -ECONNRESET;
}

/* Takes the link for a call about s (of the program); 0: it is taken, and c->s is set. */
static long begin(struct sbr_link *l, struct sbr_call *c, int s)
{
	long err;

	lock_take(&l->lock);
	err = (uint32_t)s >> 16 != l->turn ? -ECONNRESET : ready_locked(l, false);
	c->s = index_of(s);
	if (err)
		lock_give(&l->lock);
	return err;
}

/* One that carries nothing in the area. */
static long call(int s, struct sbr_call *c, struct sbr_answer *a)
{
	struct sbr_link *l = link_here();
	long r = begin(l, c, s);

	if (r)
		return r;
	r = ask_locked(l, c, a, NULL);
	lock_give(&l->lock);
	return r;
}

static int simple(int s, enum sbr_op op, int arg)
{
	struct sbr_call c = { .op = op, .arg = arg };
	struct sbr_answer a;
	long r = call(s, &c, &a);

	return r < 0 ? fail(r) : (int)r;
}

static int link_socket(int domain, int type, int protocol)
{
	struct sbr_call c = { .op = SBR_SOCKET, .arg = domain, .arg2 = type, .arg3 = protocol };
	struct sbr_link *l = link_here();
	struct sbr_answer a;
	long r;

	lock_take(&l->lock);
	r = ready_locked(l, true);
	if (!r)
		r = ask_locked(l, &c, &a, NULL);
	if (r >= 0)
		r = number(l, (int)r);
	lock_give(&l->lock);
	return r < 0 ? fail(r) : (int)r;
}

static int with_name(int s, enum sbr_op op, const struct sockaddr *addr, socklen_t len)
{
	struct sbr_call c = { .op = op };
	struct sbr_answer a;
	long r;

	if (len > sizeof(c.name))
		return fail(-EINVAL);
	if (!user_ok(addr, len))
		return fail(-EFAULT);
	c.name_len = len;
	memcpy(c.name, addr, len);
	r = call(s, &c, &a);
	return r < 0 ? fail(r) : (int)r;
}

static int link_bind(int s, const struct sockaddr *addr, socklen_t len)
{
	return with_name(s, SBR_BIND, addr, len);
}

static int link_connect(int s, const struct sockaddr *addr, socklen_t len)
{
	return with_name(s, SBR_CONNECT, addr, len);
}

static int link_listen(int s, int backlog)
{
	return simple(s, SBR_LISTEN, backlog);
}

static int link_shutdown(int s, int how)
{
	return simple(s, SBR_SHUTDOWN, how);
}

static void name_out(const struct sbr_answer *a, struct sockaddr *addr, socklen_t *len)
{
	uint32_t n = a->name_len < sizeof(a->name) ? a->name_len : sizeof(a->name);

	if (!addr || !len)
		return;
	memcpy(addr, a->name, n < *len ? n : *len);
	*len = n;
}

static int link_accept(int s, struct sockaddr *addr, socklen_t *len)
{
	struct sbr_call c = { .op = SBR_ACCEPT };
	struct sbr_link *l = link_here();
	struct sbr_answer a;
	long r = begin(l, &c, s);

	if (r) /* lost: as if nobody came */
		return fail(-EAGAIN);
	r = ask_locked(l, &c, &a, NULL);
	if (r >= 0) {
		name_out(&a, addr, len);
		r = number(l, (int)r);
	}
	lock_give(&l->lock);
	return r < 0 ? fail(r) : (int)r;
}

static int get_name(int s, enum sbr_op op, struct sockaddr *addr, socklen_t *len)
{
	struct sbr_call c = { .op = op };
	struct sbr_answer a;
	long r = call(s, &c, &a);

	if (r < 0)
		return fail(r);
	name_out(&a, addr, len);
	return 0;
}

static int link_getsockname(int s, struct sockaddr *addr, socklen_t *len)
{
	return get_name(s, SBR_GETSOCKNAME, addr, len);
}

static int link_getpeername(int s, struct sockaddr *addr, socklen_t *len)
{
	return get_name(s, SBR_GETPEERNAME, addr, len);
}

static void link_closed(int s, int as_child)
{
	struct sbr_call c = { .op = SBR_CLOSE, .arg = as_child };
	struct sbr_link *l = link_here();
	struct sbr_answer a;

	if (begin(l, &c, s))
		return;
	__atomic_store_n(&l->pdata[c.s], NULL, __ATOMIC_RELAXED);
	ask_locked(l, &c, &a, NULL);
	lock_give(&l->lock);
}

static int link_close(int s)
{
	link_closed(s, 0);
	return 0;
}

static void link_free_fd(int s, pid_t p, pid_t c)
{
	link_closed(s, 1);
}

/* --- options ---------------------------------------------------------------------------------- */

/* With len bytes of val there and, in, back; 0.. or -errno. */
static long with_extra(int s, struct sbr_call *c, struct sbr_answer *a, void *val, bool in)
{
	struct sbr_link *l = link_here();
	uint8_t *extra;
	long r = begin(l, c, s);

	if (r)
		return r;
	extra = l->area + SBR_DATA;
	memcpy(extra, val, c->len);
	r = ask_locked(l, c, a, NULL);
	if (r >= 0 && in)
		memcpy(val, extra, a->len < c->len ? a->len : c->len);
	lock_give(&l->lock);
	return r;
}

static int link_setsockopt(int s, int level, int name, const void *val, socklen_t len)
{
	struct sbr_call c = { .op = SBR_SETSOCKOPT, .arg = level, .arg2 = name, .len = len };
	struct sbr_answer a;
	long r;

	if (len > SBR_EXTRA)
		return fail(-EINVAL);
	if (!user_ok(val, len))
		return fail(-EFAULT);
	r = with_extra(s, &c, &a, (void *)val, false);
	return r < 0 ? fail(r) : (int)r;
}

static int link_getsockopt(int s, int level, int name, void *val, socklen_t *len)
{
	struct sbr_call c = { .op = SBR_GETSOCKOPT, .arg = level, .arg2 = name,
			      .len = *len < SBR_EXTRA ? *len : SBR_EXTRA };
	struct sbr_answer a;
	long r = with_extra(s, &c, &a, val, true);

	if (r < 0)
		return fail(r);
	*len = a.len < c.len ? a.len : c.len;
	return (int)r;
}

static int link_ioctl(int s, unsigned long req, unsigned long arg)
{
	int size = sbr_ioctl_size(req);
	struct sbr_call c = { .op = SBR_IOCTL, .token = req, .len = (uint32_t)size };
	struct sbr_answer a;
	long r;

	if (req == FIONBIO) /* the stack never waits, and nstack does it for the program */
		return 0;
	if (size < 0)
		return fail(-ENOTTY);
	if (!user_ok((void *)arg, (size_t)size))
		return fail(-EFAULT);
	r = with_extra(s, &c, &a, (void *)arg, true);
	return r < 0 ? fail(r) : (int)r;
}

static int link_fcntl(int s, int cmd, unsigned long arg)
{
	if (cmd == F_SETFL)
		return 0;
	return cmd == F_GETFL ? simple(s, SBR_GETFL, 0) : fail(-EINVAL);
}

static int link_peak(int s)
{
	return simple(s, SBR_PEAK, 0);
}

/* --- data ------------------------------------------------------------------------------------- */

static size_t total(const struct msghdr *msg)
{
	size_t n = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		n += msg->msg_iov[i].iov_len;
	return n;
}

/* The first n bytes of the message, to (in: from) the area. */
static void copy(uint8_t *area, const struct msghdr *msg, size_t n, bool in)
{
	for (size_t i = 0; n && i < msg->msg_iovlen; i++) {
		size_t part = msg->msg_iov[i].iov_len < n ? msg->msg_iov[i].iov_len : n;

		memcpy(in ? msg->msg_iov[i].iov_base : area, in ? area : msg->msg_iov[i].iov_base, part);
		area += part;
		n -= part;
	}
}

static ssize_t link_sendmsg(int s, const struct msghdr *msg, int flags)
{
	struct sbr_call c = { .op = SBR_SEND, .arg = flags, .name_len = msg->msg_namelen,
			      .extra_len = (uint32_t)msg->msg_controllen };
	struct sbr_link *l = link_here();
	size_t n = total(msg);
	struct sbr_answer a;
	long r;

	if (c.name_len > sizeof(c.name) || msg->msg_controllen > SBR_EXTRA)
		return fail(-EINVAL);
	if (!user_ok(msg->msg_name, c.name_len) || !user_ok(msg->msg_control, c.extra_len))
		return fail(-EFAULT);
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		if (!user_ok(msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len))
			return fail(-EFAULT);
	if (n > SBR_DATA && msg->msg_namelen) /* no datagram is so long */
		return fail(-EMSGSIZE);
	memcpy(c.name, msg->msg_name, c.name_len);
	c.len = (uint32_t)(n < SBR_DATA ? n : SBR_DATA);
	r = begin(l, &c, s);
	if (r)
		return fail(r);
	copy(l->area, msg, c.len, false);
	memcpy(l->area + SBR_DATA, msg->msg_control, c.extra_len);
	r = ask_locked(l, &c, &a, NULL);
	lock_give(&l->lock);
	return r < 0 ? fail(r) : r;
}

static void answer_out(const struct sbr_link *l, const struct sbr_call *c, const struct sbr_answer *a, struct msghdr *msg)
{
	copy(l->area, msg, (uint32_t)a->result < c->len ? (uint32_t)a->result : c->len, true);
	if (msg->msg_name)
		name_out(a, msg->msg_name, &msg->msg_namelen);
	msg->msg_controllen = a->extra_len < c->extra_len ? a->extra_len : c->extra_len;
	memcpy(msg->msg_control, l->area + SBR_DATA, msg->msg_controllen);
	msg->msg_flags = (int)a->flags;
}

static ssize_t link_recvmsg(int s, struct msghdr *msg, int flags)
{
	size_t n = total(msg);
	struct sbr_call c = { .op = SBR_RECV, .arg = flags, .arg2 = msg->msg_name != NULL,
			      .len = (uint32_t)(n < SBR_DATA ? n : SBR_DATA),
			      .extra_len = (uint32_t)(msg->msg_controllen < SBR_EXTRA ? msg->msg_controllen : SBR_EXTRA) };
	struct sbr_link *l = link_here();
	struct sbr_answer a;
	long r;

	if ((msg->msg_name && !user_ok(msg->msg_name, msg->msg_namelen)) || !user_ok(msg->msg_control, c.extra_len))
		return fail(-EFAULT);
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		if (!user_ok(msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len))
			return fail(-EFAULT);
	r = begin(l, &c, s);
	if (r)
		return fail(r);
	r = ask_locked(l, &c, &a, NULL);
	if (r >= 0)
		answer_out(l, &c, &a, msg);
	lock_give(&l->lock);
	return r < 0 ? fail(r) : r;
}

/* --- events ----------------------------------------------------------------------------------- */

static unsigned link_ep_ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	struct sbr_call c = { .op = SBR_EP_CTL, .arg2 = op, .arg3 = ev ? (int)ev->events : 0 };
	struct sbr_link *l = link_here();
	struct sbr_answer a;
	long r;

	if (op == nstack_ep_triggle_del && epfd < 0) /* close() follows, which says it to the stack */
		return 0;
	if (begin(l, &c, s)) /* lost: to be seen, as a connection that was reset is */
		return ev ? (ev->events & ALL) | EPOLLERR | EPOLLHUP : 0;
	__atomic_store_n(&l->pdata[c.s], pdata, __ATOMIC_RELAXED);
	r = ask_locked(l, &c, &a, NULL);
	lock_give(&l->lock);
	return r < 0 ? (unsigned)fail(r) : (unsigned)r;
}

static unsigned link_ep_getevt(int epfd, int s, unsigned events)
{
	struct sbr_call c = { .op = SBR_EP_GETEVT, .arg3 = (int)events };
	struct sbr_answer a;
	long r = call(s, &c, &a);

	return r < 0 ? (events & ALL) | EPOLLERR | EPOLLHUP : (unsigned)r;
}

static int link_prewait(int epfd)
{
	struct sbr_call c = { .op = SBR_PREWAIT };
	struct sbr_link *l = link_here();
	struct sbr_answer a;

	lock_take(&l->lock);
	if (l->prewaits && l->channel >= 0 && !l->broken)
		ask_locked(l, &c, &a, NULL);
	lock_give(&l->lock);
	return 0;
}

/* --- forks ------------------------------------------------------------------------------------ */

void sbr_link_fork_prepare(struct plug_module *m)
{
	struct sbr_call c = { .op = SBR_FORK };
	struct fork_claim *claim = &claims[m - plug_at(0)];
	struct sbr_link *l = m->link;
	struct sbr_answer a;

	claim->token = 0;
	lock_take(&l->lock);
	if (m->sockets && !ready_locked(l, false) && !ask_locked(l, &c, &a, &claim->fd) && claim->fd >= 0) {
		claim->fd = fd_hide(claim->fd);
		claim->token = a.token;
	}
	lock_give(&l->lock);
}

void sbr_link_fork_parent(struct plug_module *m)
{
	struct fork_claim *claim = &claims[m - plug_at(0)];

	if (claim->token)
		fd_hide_close(claim->fd);
	claim->token = 0;
}

bool sbr_link_keeps(int fd)
{
	for (uint32_t i = 0; i < RD_MODULES_MAX; i++)
		if (claims[i].token && claims[i].fd == fd)
			return true;
	return false;
}

/* The other descriptors are the parent's, and were closed by number (fork.c). */
void sbr_link_fork_child(struct plug_module *m)
{
	struct fork_claim *claim = &claims[m - plug_at(0)];
	struct sbr_link *l = m->link;

	pthread_mutex_init(&l->lock, NULL);
	memory_free(l->area, l->pdata);
	l->area = NULL;
	l->pdata = NULL;
	l->channel = l->events = -1;
	l->broken = false;
	l->host = 0;
	l->token = claim->token;
	l->claim = claim->fd;
	claim->token = 0;
	if (!l->token)
		l->turn = (l->turn + 1) & TURNS;
}

bool sbr_link_dialled(const struct plug_module *m)
{
	return !m->link->token;
}

/* --- making one ------------------------------------------------------------------------------- */

bool sbr_link_lost(const struct plug_module *m, int s)
{
	return (uint32_t)s >> 16 != __atomic_load_n(&m->link->turn, __ATOMIC_RELAXED);
}

pid_t sbr_link_host(const struct plug_module *m)
{
	return __atomic_load_n(&m->link->host, __ATOMIC_RELAXED);
}

bool sbr_link_open(struct plug_module *m)
{
	struct sbr_link *l = calloc(1, sizeof(*l));

	if (!l)
		return false;
	pthread_mutex_init(&l->lock, NULL);
	l->m = m;
	l->channel = l->events = -1;
	m->link = l;
	m->cb = (nstack_proc_cb){
		.socket_ops = {
			.pfsocket = link_socket, .pfbind = link_bind, .pflisten = link_listen, .pfaccept = link_accept,
			.pfconnect = link_connect, .pfshutdown = link_shutdown, .pfgetsockname = link_getsockname,
			.pfgetpeername = link_getpeername, .pfgetsockopt = link_getsockopt,
			.pfsetsockopt = link_setsockopt, .pfsendmsg = link_sendmsg, .pfrecvmsg = link_recvmsg,
			.pfclose = link_close, .pfioctl = link_ioctl, .pffcntl = link_fcntl,
		},
		.extern_ops = {
			.fork_free_fd = link_free_fd, .ep_ctl = link_ep_ctl, .ep_getevt = link_ep_getevt,
			.ep_prewait_proc = link_prewait, .peak = link_peak,
		},
	};
	return true;
}
