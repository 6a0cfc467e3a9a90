/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_calls.c - the libc face of epoll, poll and select
 *
 * Turns each call into the one form that the ev_* functions have (timespec, -errno), and passes
 * calls that concern no descriptor of ours on to libc as they are: these return before they
 * touch anything but the table.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/libc.h"

#include <nsocket/cleanup.h>
#include <stdlib.h>
#include <sys/resource.h>

/* Declared by the C library's headers only where fortification is on. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		const sigset_t *mask, size_t room);
long __fdelt_chk(long fd);

static const struct timespec *from_ms(int ms, struct timespec *t)
{
	if (ms < 0)
		return NULL;
	t->tv_sec = ms / 1000;
	t->tv_nsec = ms % 1000 * 1000000L;
	return t;
}

/* --- epoll -------------------------------------------------------------------------------- */

NS_EXPORT int epoll_create1(int flags)
{
	return (int)libc_result(ev_epoll_create1(flags));
}

NS_EXPORT int epoll_create(int size)
{
	return (int)libc_result(size <= 0 ? -EINVAL : ev_epoll_create1(0));
}

NS_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (!fd_is_ours(epfd) && !fd_is_ours(fd))
		return libc.epoll_ctl(epfd, op, fd, event);
	return (int)libc_result(ev_epoll_ctl(epfd, op, fd, event));
}

NS_EXPORT int epoll_wait(int epfd, struct epoll_event *ev, int n, int timeout)
{
	struct timespec t;

	if (!fd_is_ours(epfd) || ev_epoll_plain(epfd, timeout != 0))
		return libc.epoll_wait(epfd, ev, n, timeout);
	cancel_point();
	return (int)libc_result(ev_epoll_wait(epfd, ev, n, from_ms(timeout, &t), NULL));
}

NS_EXPORT int epoll_pwait(int epfd, struct epoll_event *ev, int n, int timeout,
			  const sigset_t *mask)
{
	struct timespec t;

	if (!fd_is_ours(epfd) || ev_epoll_plain(epfd, timeout != 0))
		return libc.epoll_pwait(epfd, ev, n, timeout, mask);
	cancel_point();
	return (int)libc_result(ev_epoll_wait(epfd, ev, n, from_ms(timeout, &t), mask));
}

NS_EXPORT int epoll_pwait2(int epfd, struct epoll_event *ev, int n,
			   const struct timespec *timeout, const sigset_t *mask)
{
	if (!fd_is_ours(epfd))
		return libc.epoll_pwait2(epfd, ev, n, timeout, mask);
	cancel_point();
	return (int)libc_result(ev_epoll_wait(epfd, ev, n, timeout, mask));
}

/* --- poll --------------------------------------------------------------------------------- */

/* libc's headers call the array write-only, though its fields fd and events are read. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

/* More than there may be: the kernel refuses it before it looks at one. */
static bool too_many(nfds_t n)
{
	struct rlimit lim;

	return n > FD_SETSIZE && !getrlimit(RLIMIT_NOFILE, &lim) && n > lim.rlim_cur;
}

bool ev_poll_ours(const struct pollfd *fds, nfds_t n)
{
	if (too_many(n))
		return false;
	for (nfds_t i = 0; !ev_wild(fds) && i < n; i++)
		if (fd_is_ours(fds[i].fd) && !fd_is_kernels(fds[i].fd))
			return true;
	return false;
}

NS_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec t;

	if (!ev_poll_ours(fds, n))
		return libc.poll(fds, n, timeout);
	cancel_point();
	return (int)libc_result(ev_poll(fds, n, from_ms(timeout, &t), NULL));
}
NS_ALIAS(__poll, poll);

NS_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		    const sigset_t *mask)
{
	if (!ev_poll_ours(fds, n))
		return libc.ppoll(fds, n, timeout, mask);
	cancel_point();
	return (int)libc_result(ev_poll(fds, n, timeout, mask));
}

NS_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
	if (room / sizeof(*fds) < n) /* libc's own check reports it and ends the program */
		return libc.__poll_chk(fds, n, timeout, room);
	return poll(fds, n, timeout);
}

NS_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			  const sigset_t *mask, size_t room)
{
	if (room / sizeof(*fds) < n)
		return libc.__ppoll_chk(fds, n, timeout, mask, room);
	return ppoll(fds, n, timeout, mask);
}

#pragma GCC diagnostic pop

/* --- select ------------------------------------------------------------------------------- */

NS_EXPORT int select(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *timeout)
{
	struct timespec t;
	int r;

	if (!ev_select_ours(n, rd, wr, ex))
		return libc.select(n, rd, wr, ex, timeout);
	cancel_point();
	if (!timeout)
		return (int)libc_result(ev_select(n, rd, wr, ex, NULL, NULL));
	if (ev_wild(timeout))
		return (int)libc_result(-EFAULT);
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
		return (int)libc_result(-EINVAL);
	/* Linux takes more than a second of microseconds */
	t.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
	t.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	r = ev_select(n, rd, wr, ex, &t, NULL);
	if (r != -EINVAL) {
		timeout->tv_sec = t.tv_sec;
		timeout->tv_usec = t.tv_nsec / 1000;
	}
	return (int)libc_result(r);
}
NS_ALIAS(__select, select);

NS_EXPORT int pselect(int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
		      const sigset_t *mask)
{
	struct timespec t;

	if (!ev_select_ours(n, rd, wr, ex))
		return libc.pselect(n, rd, wr, ex, timeout, mask);
	cancel_point();
	if (timeout && ev_wild(timeout))
		return (int)libc_result(-EFAULT);
	if (timeout)
		t = *timeout; /* the caller's is not changed */
	return (int)libc_result(ev_select(n, rd, wr, ex, timeout ? &t : NULL, mask));
}

NS_EXPORT long __fdelt_chk(long fd)
{
	return libc.__fdelt_chk(fd);
}
NS_ALIAS(__fdelt_warn, __fdelt_chk);
