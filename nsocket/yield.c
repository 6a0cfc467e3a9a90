/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/yield.c - a listener goes to the process that waits for it
 *
 * Each process that serves ports has an abstract unix datagram socket, @nstack-yield/<pid>. Who wants a
 * port of its sends the listener's descriptor; that it has one proves that the listener is its own,
 * too, whatever user it is: the owner compares the kernel's cookies. An owner with a thread blocked
 * on the listener, or watching it, keeps it. Else it gives up the claim; established flows are pinned
 * and stay, handshakes under way are waited for. Connections in its accept queue move to the kernel
 * (handover.c) and go to the one who asked, as descriptors; where they can't move, the owner keeps the
 * port.
 *
 * The owner asks back when it waits on the listener again.
 *
 *   request  one byte, the listener by SCM_RIGHTS
 *   answer   one byte, 1 = the port is free; up to GIFTS_MAX descriptors by SCM_RIGHTS
 *
 * Requests come from anybody in the network namespace: what is no listener of ours is closed.
 *
 * Threads: the owner's side in the helper thread.
 */
#define _GNU_SOURCE
#include "nsocket/yield.h"

#include <nsocket/handover.h>
#include <rd/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define YIELD_NAME "nstack-yield/%d"
#define YIELD_ASK_NS 100000000ull /* an owner that takes longer is stopped or dead */
#define HANDSHAKE_LOOK_NS 500000  /* handshakes under way: how often, and at most how many times */
#define HANDSHAKE_LOOKS 60        /* they are looked at */
#define GIFTS_MAX 64u
#define REQUESTS_MAX 16u          /* in one round of the helper */

/* A connection on its way to accept(). */
struct gift {
	struct gift *next;
	int fd;
};

static int yield_fd = -1; /* worker lock until the helper polls it, then constant */

/* --- messages ------------------------------------------------------------------------------------ */

static socklen_t name_of(struct sockaddr_un *a, pid_t pid)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, YIELD_NAME, (int)pid));
}

static ssize_t send_fds(int sock, const struct sockaddr_un *to, socklen_t to_len, uint8_t byte,
			const int *fds, uint32_t n)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(GIFTS_MAX * sizeof(int))]; } u;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_name = (void *)to, .msg_namelen = to_len, .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		m.msg_control = &u;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		u.h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					.cmsg_len = CMSG_LEN(n * sizeof(int)) };
		memcpy(CMSG_DATA(&u.h), fds, n * sizeof(int));
	}
	return libc.sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The byte, or -1: nothing there. fds: room for GIFTS_MAX; all that came are hidden. */
static int recv_fds(int sock, struct sockaddr_un *from, socklen_t *from_len, int *fds, uint32_t *n)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(GIFTS_MAX * sizeof(int))]; } u;
	uint8_t byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_name = from, .msg_namelen = from ? sizeof(*from) : 0, .msg_iov = &iov,
			    .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u) };
	struct cmsghdr *c;

	*n = 0;
	if (libc.recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -1;
	for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*n = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *n * sizeof(int));
	}
	for (uint32_t i = 0; i < *n; i++)
		fds[i] = fd_hide(fds[i]);
	if (from_len)
		*from_len = m.msg_namelen;
	return byte;
}

/* --- who asks ------------------------------------------------------------------------------------- */

static void gift_add(struct nsock *ns, int fd)
{
	struct gift **at = &ns->gifts, *g = malloc(sizeof(*g));

	if (!g) {
		fd_hide_close(fd);
		return;
	}
	*g = (struct gift){ NULL, fd };
	while (*at)
		at = &(*at)->next;
	__atomic_store_n(at, g, __ATOMIC_RELEASE); /* release: pairs with yield_any() */
}

int yield_take(struct nsock *ns)
{
	struct gift *g;
	int fd = -1;

	if (!yield_any(ns))
		return -1;
	lock_take(&ns->lock);
	g = ns->gifts;
	if (g) {
		fd = g->fd;
		__atomic_store_n(&ns->gifts, g->next, __ATOMIC_RELEASE);
	}
	lock_give(&ns->lock);
	free(g);
	return fd;
}

void yield_drop(struct nsock *ns)
{
	struct gift *g;

	while ((g = ns->gifts)) {
		ns->gifts = g->next;
		fd_hide_close(g->fd);
		free(g);
	}
}

static bool answer(int sock, struct nsock *ns)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	struct timespec t = { .tv_nsec = (long)YIELD_ASK_NS };
	int fds[GIFTS_MAX], yes;
	uint32_t n;

	if (libc.ppoll(&p, 1, &t, NULL) <= 0)
		return false;
	yes = recv_fds(sock, NULL, NULL, fds, &n);
	for (uint32_t i = 0; i < n; i++)
		gift_add(ns, fds[i]);
	return yes == 1;
}

bool yield_ask(struct nsock *ns, pid_t owner)
{
	int fd = nfile_fd(&ns->f), sock;
	struct sockaddr_un to;
	socklen_t len;
	bool yes = false;
	int cancel;

	if (fd < 0 || owner <= 0 || owner == getpid())
		return false;
	sock = fd_hide(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (sock < 0)
		return false;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel); /* a lock is held */
	/* a name of the kernel's choice, for the answer; connected, so that only the owner can give it */
	to = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!libc.bind(sock, (struct sockaddr *)&to, sizeof(sa_family_t))) {
		len = name_of(&to, owner);
		yes = !libc.connect(sock, (struct sockaddr *)&to, len) &&
		      send_fds(sock, NULL, 0, 0, &fd, 1) == 1 && answer(sock, ns);
	}
	pthread_setcancelstate(cancel, NULL);
	fd_hide_close(sock);
	return yes;
}

/* --- the owner ------------------------------------------------------------------------------------- */

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return libc.getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

/* Our listener of that cookie that the stack serves, with a reference; NULL: none. */
static struct nsock *listener_of(uint64_t cookie)
{
	struct nfile *f;

	for (int fd = fd_next(0); cookie && fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_LISTEN &&
		    nsock_session(nsock_of(f)) && cookie_of(fd) == cookie)
			return nsock_of(f);
		nfile_put(f);
	}
	return NULL;
}

/* What waits in our accept queue becomes the kernel's. False: some of it has to stay. Under ns->lock,
 * rx_lock and the worker lock. */
static bool queue_move(struct nsock *ns, int *fds, uint32_t *n)
{
	struct shm_session *s;
	uint32_t id;
	int fd;

	while (fifo_peek(&ns->rx, 0, &id, sizeof(id)) == sizeof(id)) {
		s = shm_session_get(worker.region, id);
		if (s && *n == GIFTS_MAX)
			return false;
		fd = s ? fd_hide(libc.socket(ns->family, SOCK_STREAM | SOCK_CLOEXEC, 0)) : -1;
		if (s && (fd < 0 || handover_session_locked(s, fd))) {
			fd_hide_close(fd);
			return false;
		}
		fifo_consume(&ns->rx, sizeof(id));
		if (!s)
			continue;
		worker.ops->close(worker.st, s, -1);
		fds[(*n)++] = fd;
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

/* Under ns->lock and rx_lock. */
static bool listener_yield(struct nsock *ns, int *fds, uint32_t *n)
{
	static const struct timespec moment = { .tv_nsec = HANDSHAKE_LOOK_NS };
	bool yes;

	worker_lock();
	handover_rings_drain();
	yes = ns->s && worker.st && !nsock_in_use(ns) && queue_move(ns, fds, n);
	if (yes)
		claim_end(ns);
	for (int i = 0; yes && ns->s->handshakes && i < HANDSHAKE_LOOKS; i++) {
		worker_unlock();
		nanosleep(&moment, NULL);
		worker_lock();
		handover_rings_drain();
	}
	if (yes) {
		queue_move(ns, fds, n);
		nsock_session_drop_locked(ns, -1);
	}
	worker_unlock();
	return yes;
}

static void request(const struct sockaddr_un *from, socklen_t from_len, int listener)
{
	struct nsock *ns = listener_of(cookie_of(listener));
	int fds[GIFTS_MAX];
	uint32_t n = 0;
	bool yes;

	if (!ns) { /* they share the port (SO_REUSEPORT), not the listener */
		send_fds(yield_fd, from, from_len, false, NULL, 0);
		return;
	}
	lock_take(&ns->lock);
	lock_take(&ns->rx_lock);
	yes = listener_yield(ns, fds, &n);
	lock_give(&ns->rx_lock);
	if (yes) {
		nsock_retry_later(ns);
		__atomic_store_n(&ns->yielded, true, __ATOMIC_RELAXED);
	}
	lock_give(&ns->lock);
	if (yes) /* sets that have it look again when they are waited on: then we ask back */
		watch_notify(&ns->f, NSOCK_EV_REWATCH);
	if (yes)
		ns_log(NS_INF, NS_M_NSOCKET, "another process waits on port %u: it has it now",
		       ntohs(ns->local.port));
	/* who is gone meanwhile leaves the connections to be closed, as the kernel's queue would be */
	send_fds(yield_fd, from, from_len, yes, fds, n);
	for (uint32_t i = 0; i < n; i++)
		fd_hide_close(fds[i]);
	nfile_put(&ns->f);
}

void yield_run(void)
{
	struct sockaddr_un from;
	int fds[GIFTS_MAX];
	socklen_t len;
	uint32_t n;

	if (yield_fd < 0)
		return;
	for (uint32_t k = 0; k < REQUESTS_MAX; k++) {
		if (recv_fds(yield_fd, &from, &len, fds, &n) < 0)
			return;
		if (n == 1 && len > sizeof(sa_family_t))
			request(&from, len, fds[0]);
		for (uint32_t i = 0; i < n; i++)
			fd_hide_close(fds[i]);
	}
}

void yield_open_locked(void)
{
	struct sockaddr_un a;
	socklen_t len = name_of(&a, getpid());
	int fd;

	if (yield_fd >= 0)
		return;
	fd = fd_hide(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd < 0)
		return;
	if (libc.bind(fd, (struct sockaddr *)&a, len)) {
		fd_hide_close(fd);
		return;
	}
	yield_fd = fd;
	worker_helper_fd(fd);
}

void yield_after_fork_child(void)
{
	yield_fd = -1;
}
