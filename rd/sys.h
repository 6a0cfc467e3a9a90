/* SPDX-License-Identifier: Apache-2.0 */
/* rd/sys.h - system calls that bypass the wrapped libc calls
 *
 * The configuration, the log and the control server run inside programs whose read(), close(),
 * socket()... are ours; going through those would make the library its own customer (recursion,
 * start-up order). Results are a value or a negative errno; errno itself is left alone.
 */
#ifndef NSTACK_RD_SYS_H
#define NSTACK_RD_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <nstack/fd_host.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define SYS_CALL_(...) \
	({ \
		int saved_ = errno; \
		long ret_ = syscall(__VA_ARGS__); \
		if (ret_ < 0) \
			ret_ = -errno; \
		errno = saved_; \
		ret_; \
	})

static inline int sys_open(const char *path, int flags, unsigned mode)
{
	return (int)SYS_CALL_(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}
static inline ssize_t sys_read(int fd, void *p, size_t n) { return SYS_CALL_(SYS_read, fd, p, n); }
static inline ssize_t sys_write(int fd, const void *p, size_t n)
{
	return SYS_CALL_(SYS_write, fd, p, n);
}
static inline int sys_close(int fd)
{
	nst_fd_disown(fd);
	return (int)SYS_CALL_(SYS_close, fd);
}
/* Move a descriptor out of the low numbers, which programs expect to be theirs (lowest free
 * number, select()). Where the limit doesn't allow it, it stays. */
static inline int sys_fd_high(int fd)
{
	int high;

	if (nst_fd_host.own)
		return nst_fd_own(fd);
	high = fd < 0 ? fd : (int)SYS_CALL_(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 512);
	if (high < 0)
		return fd;
	sys_close(fd);
	return high;
}
static inline int sys_socket(int domain, int type, int proto)
{
	return (int)SYS_CALL_(SYS_socket, domain, type, proto);
}
static inline int sys_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	return (int)SYS_CALL_(SYS_bind, fd, sa, len);
}
static inline int sys_listen(int fd, int backlog) { return (int)SYS_CALL_(SYS_listen, fd, backlog); }
static inline int sys_accept4(int fd, int flags)
{
	return (int)SYS_CALL_(SYS_accept4, fd, NULL, NULL, flags);
}
static inline int sys_getsockopt(int fd, int level, int opt, void *v, socklen_t *len)
{
	return (int)SYS_CALL_(SYS_getsockopt, fd, level, opt, v, len);
}
static inline ssize_t sys_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return SYS_CALL_(SYS_sendmsg, fd, m, flags);
}
static inline ssize_t sys_recvmsg(int fd, struct msghdr *m, int flags)
{
	return SYS_CALL_(SYS_recvmsg, fd, m, flags);
}
static inline int sys_epoll_create(void) { return (int)SYS_CALL_(SYS_epoll_create1, EPOLL_CLOEXEC); }
static inline int sys_epoll_ctl(int ep, int op, int fd, struct epoll_event *ev)
{
	return (int)SYS_CALL_(SYS_epoll_ctl, ep, op, fd, ev);
}
static inline int sys_epoll_poll(int ep, struct epoll_event *ev, int n)
{
	return (int)SYS_CALL_(SYS_epoll_pwait, ep, ev, n, 0, NULL, 8);
}

#endif
