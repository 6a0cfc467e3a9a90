/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/yield.c - a listener goes to the process that waits for it
 *
 * Each process that serves TCP ports has an abstract unix datagram socket, its door. The name is a
 * random number, which stands in the process's slots of the steering tables: who finds a port taken is
 * told it, and nobody can have taken the name before. Who wants the port sends the listener's
 * descriptor; that it has one proves that the listener is its own, too, whatever user it is: the owner
 * compares the kernel's cookies. With it comes a socket for the answer. An owner with a thread blocked
 * on the listener, or watching it, keeps it. Else it gives up the claim; established flows are pinned
 * and stay, handshakes under way are waited for. Connections in its accept queue move to the kernel
 * (handover.c) and go to the one who asked, in a crate; where they can't move, the owner keeps the port.
 * An owner whose answer reaches nobody keeps the crate.
 *
 * The owner asks back when it waits on the listener again. At exec the next program, if it is under
 * nsocket, inherits what waits in the same way, with the listener.
 *
 *   request  one byte; the listener and one end of a socketpair by SCM_RIGHTS
 *   answer   BUSY when it begins; then YES, the port is free, or NO; with a crate by SCM_RIGHTS
 *
 * Anybody in the network namespace can read the name (/proc/net/unix) and send something. What is no
 * listener of ours is closed; closing can take a stranger's time (a file system of his own), and so the
 * door has a thread of its own.
 *
 * Threads: the owner's side is the door's thread. Asking: any, under ns->lock.
 */
#define _GNU_SOURCE
#include "nsocket/yield.h"

#include <inttypes.h>
#include <bpf/steer_ctl.h>
#include <nsocket/crate.h>
#include <nsocket/handover.h>
#include <nsocket/to_backlog.h>
#include <nsocket/to_kernel.h>
#include <rd/log.h>
#include <stacks/remote/remote.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define DOOR_NAME "nstack-yield/%016" PRIx64
#define ASK_NS 100000000ull      /* an owner that takes longer to begin is stopped, or dead */
#define WORK_NS 2000000000ull    /* once it has begun */
#define LOCK_NS 20000000ull      /* somebody else is busy with the listener: not now */
#define HANDSHAKE_LOOK_NS 500000 /* handshakes under way: how often, and at most how many times */
#define HANDSHAKE_LOOKS 60       /* they are looked at */
#define STRANGER_NS 1000000      /* pause after a request of a stranger, who may send many */

enum answer { NO, YES, BUSY };

/* Connections on their way to accept(). */
struct gift {
	struct gift *next;
	int crate;
};

static uint64_t image;     /* random, not 0 once asked for; worker.start_lock */
static int door, bell;     /* worker lock until the thread runs, then constant */
static bool threaded;      /* atomic: it runs; written under the worker lock */
static void (*errand)(void); /* atomic: to be done in the thread */

/* --- messages ------------------------------------------------------------------------------------ */

#define FDS_MAX 2
union fds {
	struct cmsghdr h;
	char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

/* System calls, because libc's functions are cancellation points and locks are held. */
static bool message_send(int sock, const struct sockaddr_un *to, socklen_t to_len, uint8_t byte,
			 const int *fds, uint32_t n)
{
	union fds u;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_name = (void *)to, .msg_namelen = to_len, .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		m.msg_control = &u;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		u.h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					.cmsg_len = CMSG_LEN(n * sizeof(int)) };
		memcpy(CMSG_DATA(&u.h), fds, n * sizeof(int));
	}
	return syscall(SYS_sendmsg, sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* The length of the message, 0 at the end, -1: none. All descriptors that came are hidden. */
static ssize_t message_recv(int sock, int flags, uint8_t *byte, int fds[FDS_MAX], uint32_t *n)
{
	union fds u;
	struct iovec iov = { byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = CMSG_LEN(FDS_MAX * sizeof(int)) };
	ssize_t r = syscall(SYS_recvmsg, sock, &m, flags | MSG_CMSG_CLOEXEC);

	*n = 0;
	if (r < 0 || m.msg_controllen < CMSG_LEN(sizeof(int)))
		return r;
	*n = (uint32_t)((u.h.cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(&u.h), *n * sizeof(int));
	for (uint32_t i = 0; i < *n; i++)
		fds[i] = fd_hide(fds[i]);
	return r;
}

static bool readable(int fd, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = worker_now(), left = until > now ? until - now : 0;
	struct timespec t = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };

	return syscall(SYS_ppoll, &p, 1, &t, NULL, (size_t)8) > 0;
}

/* --- what came along ------------------------------------------------------------------------------ */

/* Under ns->lock. */
static void gift_add(struct nsock *ns, int crate)
{
	struct gift **at = &ns->gifts, *g = malloc(sizeof(*g));

	if (!g) {
		fd_hide_close(crate);
		return;
	}
	*g = (struct gift){ NULL, crate };
	while (*at)
		at = &(*at)->next;
	__atomic_store_n(at, g, __ATOMIC_RELEASE); /* release: pairs yield.gift */
}

static void gift_del(struct nsock *ns)
{
	struct gift *g = ns->gifts;

	__atomic_store_n(&ns->gifts, g->next, __ATOMIC_RELEASE); /* release: pairs yield.gift */
	fd_hide_close(g->crate);
	free(g);
}

int yield_take(struct nsock *ns, bool cloexec)
{
	int fd = -EAGAIN;

	if (!yield_any(ns))
		return -EAGAIN;
	lock_take(&ns->lock);
	while (ns->gifts && fd == -EAGAIN) {
		fd = crate_take(ns->gifts->crate, cloexec);
		if (crate_empty(ns->gifts->crate)) /* now, so that nobody is told that there is more */
			gift_del(ns);
	}
	lock_give(&ns->lock);
	return fd;
}

void yield_drop(struct nsock *ns)
{
	while (ns->gifts)
		gift_del(ns);
}

/* --- who asks ------------------------------------------------------------------------------------- */

static socklen_t name_of(struct sockaddr_un *a, uint64_t of)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, DOOR_NAME, of));
}

static bool answer(int sock, struct nsock *ns)
{
	uint64_t until = worker_now() + ASK_NS;
	int fds[FDS_MAX];
	uint8_t what;
	uint32_t n;

	do {
		if (!readable(sock, until) || message_recv(sock, MSG_DONTWAIT, &what, fds, &n) != 1)
			return false;
		for (uint32_t i = 0; i < n; i++)
			gift_add(ns, fds[i]);
		until = worker_now() + WORK_NS;
	} while (what == BUSY);
	return what == YES;
}

static bool ask(struct nsock *ns, int fd, const int pair[2], uint64_t owner)
{
	int sock = fd_hide(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	struct sockaddr_un to;
	socklen_t len = name_of(&to, owner);
	bool sent;

	if (sock < 0)
		return false;
	sent = message_send(sock, &to, len, 0, (int[FDS_MAX]){ fd, pair[1] }, FDS_MAX);
	fd_hide_close(sock);
	return sent;
}

bool yield_ask(struct nsock *ns, uint64_t owner)
{
	int fd = nfile_fd(&ns->f), pair[2], cancel;
	sigset_t all, old;
	bool yes = false;

	if (fd < 0 || !owner || owner == image || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return false;
	/* A lock is held, and what the owner says must not get lost: no handler now. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pair[0] = fd_hide(pair[0]);
	pair[1] = fd_hide(pair[1]);
	yes = ask(ns, fd, pair, owner);
	fd_hide_close(pair[1]); /* the owner's: its end is an answer */
	yes = yes && answer(pair[0], ns);
	fd_hide_close(pair[0]);
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return yes;
}

/* --- the last of ours leaves ------------------------------------------------------------------------ */

/* Others have the listener, too; none of them has what waits here. */
static bool others_want(const struct nsock *ns)
{
	/* nstackd has one queue for all programs that listen, and does the same for the last of them */
	return worker.ops != &remote_stack_ops && (fifo_used(&ns->rx) || ns->s->handshakes) &&
	       steer_kernel_listens(ns->held.port, ns->cookie);
}

/* As handshakes_await_locked(), within a command: nobody else may have the lock. */
static void handshakes_await(struct nsock *ns)
{
	static const struct timespec moment = { .tv_nsec = HANDSHAKE_LOOK_NS };

	for (int i = 0; ns->s->handshakes && i < HANDSHAKE_LOOKS; i++) {
		syscall(SYS_nanosleep, &moment, NULL);
		to_kernel_drain();
	}
}

void yield_leave_locked(struct nsock *ns)
{
	struct shm_session *s;
	uint32_t id, n = 0, lost = 0;
	int err;

	if (!others_want(ns))
		return;
	err = to_backlog_begin();
	if (err) {
		ns_log(NS_WAR, NS_M_NSOCKET, "connections that wait at port %u are reset: %s",
		       ntohs(ns->held.port), strerror(-err));
		return;
	}
	handshakes_await(ns);
	while (fifo_take_one(&ns->rx, &id, sizeof(id))) {
		s = shm_session_get(worker.region, id);
		err = s ? to_backlog_move(s) : 0;
		if (err)
			worker.ops->close(worker.st, s, 0);
		lost += err != 0;
		n++;
	}
	to_backlog_end();
	ns_log(lost ? NS_WAR : NS_INF, NS_M_NSOCKET, "%u connections that waited at port %u wait with the kernel now, "
	       "%u are reset", n - lost, ntohs(ns->held.port), lost);
}

/* --- the owner ------------------------------------------------------------------------------------- */

/* What waits in our accept queue goes into the crate. False: some of it has to stay. Under ns->lock,
 * rx_lock and the worker lock. */
static bool queue_pack(struct nsock *ns, struct crate *c, uint32_t *n)
{
	struct shm_session *s;
	uint32_t id;
	int fd, err;

	/* relaxed: nstackd has one queue for all programs that listen, and leaves it to the others */
	if (__atomic_load_n(&ns->s->shared, __ATOMIC_RELAXED))
		return true;
	while (fifo_peek(&ns->rx, 0, &id, sizeof(id)) == sizeof(id)) {
		s = shm_session_get(worker.region, id);
		if (s && *n == CRATE_MAX)
			return false;
		fd = s ? fd_hide(libc.socket(ns->family, SOCK_STREAM | SOCK_CLOEXEC, 0)) : -1;
		err = !s ? 0 : fd < 0 ? -EMFILE : handover_session_locked(s, fd);
		if (err) {
			fd_hide_close(fd);
			return false;
		}
		fifo_consume(&ns->rx, sizeof(id));
		if (!s)
			continue;
		worker.ops->close(worker.st, s, -1);
		crate_put(c, fd); /* there is room; else it is reset, as where a queue is full */
		fd_hide_close(fd);
		++*n;
	}
	return true;
}

/* What another process had given us. False: as above. */
static bool gifts_pack(struct nsock *ns, struct crate *c, uint32_t *n)
{
	int fd;

	while (ns->gifts) {
		if (*n == CRATE_MAX)
			return false;
		fd = fd_hide(crate_take(ns->gifts->crate, true));
		if (fd == -EMFILE)
			return false;
		if (fd < 0) {
			gift_del(ns);
			continue;
		}
		crate_put(c, fd);
		fd_hide_close(fd);
		++*n;
	}
	return true;
}

/* New connections are no longer ours. Handshakes that have begun end here: their flows are pinned. */
static void claim_end(struct nsock *ns)
{
	if (ns->port_held)
		ports_release(ns->proto, &ns->held);
	ns->port_held = false;
	ports_listener_gone(ns->proto, &ns->held);
}

/* Handshakes that are under way come to their end. */
static void handshakes_await_locked(struct nsock *ns)
{
	static const struct timespec moment = { .tv_nsec = HANDSHAKE_LOOK_NS };

	for (int i = 0; ns->s->handshakes && i < HANDSHAKE_LOOKS; i++) {
		worker_unlock();
		syscall(SYS_nanosleep, &moment, NULL);
		worker_lock();
		to_kernel_drain();
	}
}

/* The port is given up and what waits is packed; false: not all of it can be. Under ns->lock. */
static bool listener_pack(struct nsock *ns, struct crate *c, uint32_t *n)
{
	bool yes;

	lock_take(&ns->rx_lock);
	worker_lock();
	to_kernel_drain();
	yes = ns->s && worker.st && gifts_pack(ns, c, n) && queue_pack(ns, c, n);
	if (yes)
		claim_end(ns);
	if (yes) {
		handshakes_await_locked(ns);
		*n = 0; /* room for these is kept */
		queue_pack(ns, c, n);
		yield_leave_locked(ns); /* without the privilege for that */
		nsock_session_drop_locked(ns, -1);
	}
	worker_unlock();
	lock_give(&ns->rx_lock);
	return yes;
}

/* Somebody who has our listener asks for it, and is answered by that socket. Under ns->lock. */
static bool yield_to(struct nsock *ns, int reply)
{
	struct crate c;
	uint32_t n = 0;
	bool yes, any;

	if (nsock_in_use(ns) || !message_send(reply, NULL, 0, BUSY, NULL, 0))
		return false; /* he knows by the end of that socket */
	if (crate_open(&c))
		return false;
	yes = listener_pack(ns, &c, &n);
	if (yes) {
		nsock_retry_later(ns);
		__atomic_store_n(&ns->yielded, true, __ATOMIC_RELAXED);
	}
	crate_close_in(&c);
	any = !crate_empty(c.out);
	if (!message_send(reply, NULL, 0, yes ? YES : NO, &c.out, any) && any)
		gift_add(ns, c.out);
	else
		fd_hide_close(c.out);
	return yes;
}

/* --- exec ------------------------------------------------------------------------------------------ */

/* Exec closes the crates, or does not. Under ns->lock. */
static void gifts_inherit(struct nsock *ns, bool on)
{
	for (struct gift *g = ns->gifts; g; g = g->next)
		libc.fcntl(g->crate, F_SETFD, on ? 0 : FD_CLOEXEC);
}

/* What waits for accept() becomes ours alone, in crates. Under ns->lock, rx_lock and the worker lock. True: a
 * crate is full, and there may be more. */
static bool queue_save(struct nsock *ns)
{
	struct shm_session *s;
	struct crate c;
	uint32_t id, n = 0;
	int fd;

	if (crate_open(&c))
		return false;
	while (n < CRATE_MAX && fifo_take_one(&ns->rx, &id, sizeof(id))) {
		s = shm_session_get(worker.region, id);
		fd = s ? fd_hide(libc.socket(ns->family, SOCK_STREAM | SOCK_CLOEXEC, 0)) : -1;
		if (fd >= 0 && !handover_session_locked(s, fd))
			n += !crate_put(&c, fd);
		if (s)
			worker.ops->close(worker.st, s, -1);
		fd_hide_close(fd);
	}
	crate_close_in(&c);
	if (n)
		gift_add(ns, c.out);
	else
		fd_hide_close(c.out);
	return n == CRATE_MAX;
}

void yield_keep(struct nsock *ns)
{
	lock_take(&ns->lock);
	lock_take(&ns->rx_lock);
	worker_lock();
	if (ns->s) {
		handshakes_await_locked(ns);
		while (queue_save(ns))
			;
		nsock_session_drop_locked(ns, -1);
		nsock_retry_later(ns);
	}
	worker_unlock();
	lock_give(&ns->rx_lock);
	lock_give(&ns->lock);
	watch_notify(&ns->f, NSOCK_EV_REWATCH);
	nsock_wake(ns, STACK_EV_IN);
}

/* With nstackd, what waits there waits for the next program as well. Under ns->lock. */
static void queue_pack_for_exec(struct nsock *ns)
{
	struct crate c;
	uint32_t n = 0;

	if (!ns->s || worker.ops == &remote_stack_ops || crate_open(&c))
		return;
	listener_pack(ns, &c, &n);
	crate_close_in(&c);
	if (crate_empty(c.out))
		fd_hide_close(c.out);
	else
		gift_add(ns, c.out);
}

void yield_exec_prepare(struct nsock *ns, int fd)
{
	lock_take(&ns->lock);
	queue_pack_for_exec(ns);
	for (struct gift *g = ns->gifts; g; g = g->next)
		crate_label(g->crate, sock_cookie(fd)); /* it may have one already: the same */
	gifts_inherit(ns, true);
	lock_give(&ns->lock);
}

void yield_exec_failed(struct nsock *ns)
{
	lock_take(&ns->lock);
	gifts_inherit(ns, false);
	lock_give(&ns->lock);
}

bool yield_adopt(int fd)
{
	uint64_t cookie = crate_read_label(fd);
	struct nsock *ns;

	if (!cookie)
		return false;
	ns = nsock_by_cookie(cookie, false);
	fd = fd_hide(fd);
	libc.fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (ns) {
		lock_take(&ns->lock);
		gift_add(ns, fd);
		lock_give(&ns->lock);
		nfile_put(&ns->f);
	} else { /* nobody here serves that listener */
		fd_hide_close(fd);
	}
	return true;
}

/* --- requests --------------------------------------------------------------------------------------- */

static struct nsock *listener_of(int fd)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (libc.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) || !listens)
		return NULL;
	return nsock_by_cookie(sock_cookie(fd), true);
}

static bool request(int listener, int reply)
{
	struct nsock *ns = listener_of(listener);
	uint64_t until = worker_now() + LOCK_NS;
	struct timespec t = { (time_t)(until / 1000000000u), (long)(until % 1000000000u) };
	bool yes = false;

	if (!ns)
		return false;
	/* Not for ever: its holder may be asking us for another one. */
	if (lock_take_until(&ns->lock, &t)) {
		yes = ns->s && yield_to(ns, reply);
		lock_give(&ns->lock);
	}
	if (yes) {
		/* sets that have it look again when they are waited on: then we ask back */
		watch_notify(&ns->f, NSOCK_EV_REWATCH);
		ns_log(NS_INF, NS_M_NSOCKET, "another process waits on port %u: it has it now",
		       ntohs(ns->local.port));
	}
	nfile_put(&ns->f);
	return true;
}

/* What a stranger sent. A connection of his may be set to make its close() wait. */
static void stranger_close(int fd)
{
	struct linger off = { 0, 0 };
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (!libc.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && !listens)
		libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
	fd_hide_close(fd);
}

static void requests_serve(void)
{
	static const struct timespec pause = { .tv_nsec = STRANGER_NS };
	int fds[FDS_MAX];
	uint8_t byte;
	uint32_t n;
	bool known;

	while (message_recv(door, MSG_DONTWAIT, &byte, fds, &n) >= 0) {
		known = n == FDS_MAX && request(fds[0], fds[1]);
		for (uint32_t i = 0; i < n; i++)
			known ? fd_hide_close(fds[i]) : stranger_close(fds[i]);
		if (!known)
			syscall(SYS_nanosleep, &pause, NULL);
	}
}

static void *door_main(void *arg)
{
	struct pollfd p[] = { { .fd = door, .events = POLLIN }, { .fd = bell, .events = POLLIN } };
	void (*fn)(void);
	uint64_t rings;

	pthread_setname_np(pthread_self(), "nstack-yield");
	for (;;) {
		/* libc's own signals can't be blocked: it changes a thread's user by one */
		if (syscall(SYS_ppoll, p, 2, NULL, NULL, (size_t)8) < 0)
			continue;
		if ((p[0].revents | p[1].revents) & POLLNVAL)
			return NULL; /* closed behind our back */
		if (p[1].revents && syscall(SYS_read, bell, &rings, sizeof(rings)) > 0) {
			/* acquire: pairs yield.errand */
			fn = __atomic_exchange_n(&errand, NULL, __ATOMIC_ACQUIRE);
			if (fn)
				fn();
		}
		if (p[0].revents)
			requests_serve();
	}
}

bool yield_call(void (*fn)(void))
{
	static const uint64_t one = 1;

	/* acquire: pairs yield.thread */
	if (!__atomic_load_n(&threaded, __ATOMIC_ACQUIRE))
		return false;
	/* release: pairs yield.errand - what fn() is to see */
	__atomic_store_n(&errand, fn, __ATOMIC_RELEASE);
	return syscall(SYS_write, bell, &one, sizeof(one)) > 0;
}

uint64_t yield_image(void)
{
	while (!image && getrandom(&image, sizeof(image), 0) < 0 && errno == EINTR)
		;
	return image;
}

/* Bind the name, make the thread. */
static bool door_open(void)
{
	struct sockaddr_un a;
	socklen_t len = name_of(&a, image);
	pthread_t t;

	door = fd_hide(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	bell = fd_hide(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (door < 0 || bell < 0 || libc.bind(door, (struct sockaddr *)&a, len) ||
	    pthread_create(&t, NULL, door_main, NULL))
		return false;
	pthread_detach(t);
	return true;
}

void yield_open_locked(void)
{
	sigset_t all, old;

	if (threaded || !image)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (door_open()) {
		/* release: pairs yield.thread - its bell */
		__atomic_store_n(&threaded, true, __ATOMIC_RELEASE);
	} else { /* the next listener tries again */
		fd_hide_close(door);
		fd_hide_close(bell);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void yield_after_fork_child(void)
{
	image = 0;
	threaded = false;
	errand = NULL;
}
