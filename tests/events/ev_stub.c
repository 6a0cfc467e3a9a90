/* SPDX-License-Identifier: Apache-2.0 */
/* tests/events/ev_stub.c - the event calls as a preload library, over sockets of the kernel
 *
 * Every TCP and UDP socket becomes one of "ours", served by the kernel, so that a program must
 * see exactly what it sees without the library. EV_STUB=kernel: all readiness comes through the
 * kernel half. EV_STUB=user: the socket has no kernel half; a thread with an edge-triggered epoll
 * of its own plays the stack and notifies, and nsock_poll() asks the kernel for the truth.
 */
#define _GNU_SOURCE
#define EV_FAKE_POLL
#include "nsocket/cleanup.h"
#include "tests/unit/ev_fake.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct stub {
	struct nfile nf;
	int fd; /* a private dup: lives as long as the file */
};

static int pump_fd = -1;
bool cancel_used = true; /* nobody looks after pthread_cancel() here */

static uint32_t stub_poll(struct nfile *f)
{
	struct pollfd p = { .fd = ((struct stub *)f)->fd,
			    .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLWRBAND };

	return user && libc.poll(&p, 1, 0) > 0 ? (uint16_t)p.revents : 0;
}

static void *pump(void *arg)
{
	struct epoll_event ev[64];
	int n;

	for (;;) {
		n = libc.epoll_wait(pump_fd, ev, 64, -1);
		rcu_read_lock();
		for (int i = 0; i < n; i++) {
			struct nfile *f = ev[i].data.ptr;

			/* the number is the private dup's, so the file is alive or freed by RCU */
			watch_notify(f, ev[i].events);
		}
		rcu_read_unlock();
	}
	return NULL;
}

static void pump_start(void)
{
	pthread_t t;

	pump_fd = fd_hide(libc.epoll_create1(EPOLL_CLOEXEC));
	pthread_create(&t, NULL, pump, NULL);
}

static void stub_release(struct nfile *f)
{
	ev_file_release(f);
	fd_hide_close(((struct stub *)f)->fd);
	nfile_free_rcu(f);
}

static void adopt(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET };
	struct stub *s = calloc(1, sizeof(*s));

	nfile_init(&s->nf, NF_SOCK, 0, stub_release);
	s->fd = -1;
	if (user) {
		s->fd = fd_hide(libc.dup(fd));
		ev.data.ptr = &s->nf;
		libc.epoll_ctl(pump_fd, EPOLL_CTL_ADD, s->fd, &ev);
		usleep(1000); /* the first edge passes while nobody watches */
	}
	fd_install(fd, &s->nf);
	nfile_put(&s->nf);
}

NS_EXPORT int socket(int domain, int type, int protocol)
{
	int fd = libc.socket(domain, type, protocol);

	if (fd >= 0 && (domain == AF_INET || domain == AF_INET6))
		adopt(fd);
	return fd;
}

NS_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	int r = libc.accept4(fd, addr, len, flags);

	if (r >= 0 && fd_is_ours(fd))
		adopt(r);
	return r;
}

NS_EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return accept4(fd, addr, len, 0);
}

NS_EXPORT int close(int fd)
{
	struct nfile *f = fd_remove(fd);
	int r = libc.close(fd);

	if (f)
		nfile_put(f);
	return r;
}

/* fd was duplicated to `to` by libc: the same for the table. */
static int dup_done(int fd, int to)
{
	struct nfile *f = to >= 0 ? fd_get(fd) : NULL, *old = NULL;

	if (to >= 0 && to != fd)
		old = fd_remove(to);
	if (f && to != fd)
		fd_install(to, f);
	if (f)
		nfile_put(f);
	if (old)
		nfile_put(old);
	return to;
}

NS_EXPORT int dup(int fd)
{
	return dup_done(fd, libc.dup(fd));
}

NS_EXPORT int dup2(int fd, int to)
{
	return dup_done(fd, libc.dup2(fd, to));
}

static void fork_child(void)
{
	urcu_bp_after_fork_child();
	ev_fork_child();
	self = NULL;
	if (user) {
		/* files keep their registrations in the parent's pump; make them anew */
		fd_hide_close(pump_fd);
		pump_start();
		for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
			struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLPRI |
							    EPOLLRDHUP | EPOLLET };
			struct nfile *f = fd_get(fd);

			if (f && f->kind == NF_SOCK) {
				ev.data.ptr = f;
				libc.epoll_ctl(pump_fd, EPOLL_CTL_ADD, ((struct stub *)f)->fd, &ev);
			}
			if (f)
				nfile_put(f);
		}
	}
}

static void fork_prepare(void)
{
	ev_fork_prepare();
	urcu_bp_before_fork();
}

static void fork_parent(void)
{
	urcu_bp_after_fork_parent();
	ev_fork_parent();
}

__attribute__((constructor)) static void stub_init(void)
{
	const char *mode = getenv("EV_STUB");

	user = mode && !strcmp(mode, "user");
	if (user)
		pump_start();
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}
