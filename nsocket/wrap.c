/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/wrap.c - the intercepted calls, except those of events (ev_calls.c)
 *
 * Thin: a descriptor that is not in the table goes to libc at once; for one of ours the call takes
 * a reference, does the work (sock_*.c), gives it back, and turns -errno into errno.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <execinfo.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <nsocket/adopt.h>
#include <nsocket/cleanup.h>
#include <nsocket/handover.h>
#include <nsocket/init.h>
#include <nsocket/plugin/plugin.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The socket behind fd with a reference, or NULL: libc's business. */
static inline struct nsock *get(int fd)
{
	struct nfile *f;

	if (__builtin_expect(!fd_is_ours(fd), 1))
		return NULL;
	f = fd_get(fd);
	if (!f) /* one of the library's own: such calls come inside of others */
		return NULL;
	if (f->kind != NF_SOCK) {
		nfile_put(f);
		return NULL;
	}
	worker_call_begin();
	if (nsock_of(f)->remote)
		share_gone(nsock_of(f));
	return (struct nsock *)f;
}

/* The same for a call that is a cancellation point. */
static inline struct nsock *get_waiting(int fd)
{
	if (__builtin_expect(!fd_is_ours(fd), 1))
		return NULL;
	cancel_point();
	return get(fd);
}

/* The end of a call on it, with its result. As with the kernel, errno stays what it was before the
 * call unless it failed. */
static long put(struct nsock *ns, long r, int err)
{
	nfile_put(&ns->f);
	errno = err;
	return libc_result(r);
}

#define OURS(ns, call) ({ int err_ = errno; put(ns, call, err_); })
#define OURS_OR(fd, mine, theirs) \
	struct nsock *ns = get(fd); \
	return ns ? OURS(ns, mine) : (theirs)
#define WAITING_OR(fd, mine, theirs) \
	struct nsock *ns = get_waiting(fd); \
	return ns ? OURS(ns, mine) : (theirs)

/* fd, no longer in the table, is about to be closed. */
void sock_closing(struct nfile *f, int fd)
{
	struct nsock *ns = f && f->kind == NF_SOCK ? nsock_of(f) : NULL;

	if (!ns || nfile_fd_count(f))
		return;
	if (ns->share)
		share_keep(ns, fd);
	else if (nsock_mode(ns) == SK_LISTEN)
		sock_listener_keep(ns, fd);
}

/* The reference of a table entry that was removed. */
static void drop(struct nfile *f)
{
	if (!f)
		return;
	if (f->kind == NF_SOCK)
		sock_linger((struct nsock *)f);
	nfile_put(f);
}

/* --- life of descriptors ------------------------------------------------------------------------ */

NS_EXPORT int socket(int domain, int type, int protocol)
{
	if ((domain != AF_INET && domain != AF_INET6) || !init_ready())
		return libc.socket(domain, type, protocol);
	return (int)libc_result(sock_socket(domain, type, protocol));
}
NS_ALIAS(__socket, socket);

NS_EXPORT int close(int fd)
{
	struct nfile *f;
	int r, err;

	if (!fd_is_ours(fd))
		return libc.close(fd);
	cancel_point();
	if (fd_is_protected(fd) && !init_inside()) {
		errno = EBADF;
		return -1;
	}
	f = fd_remove(fd);
	sock_closing(f, fd);
	r = (int)syscall(SYS_close, fd); /* libc's is a cancellation point: too late for that */
	err = errno;
	drop(f);
	errno = err;
	return r;
}
NS_ALIAS(__close, close);

/* Everything of ours in [first, last] goes; the library's own descriptors stay. */
NS_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	unsigned from = first;
	struct nfile *f;
	int fd, r;

	if (first > last || (flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)))
		return libc.close_range(first, last, flags);
	if (flags & CLOSE_RANGE_CLOEXEC)
		return libc.close_range(first, last, flags);
	for (fd = first < NFILE_FDS ? fd_next((int)first) : -1; fd >= 0 && (unsigned)fd <= last;
	     fd = fd_next(fd + 1)) {
		if (!fd_is_protected(fd)) {
			f = fd_remove(fd);
			sock_closing(f, fd);
			drop(f);
			continue;
		}
		if ((unsigned)fd > from && (r = libc.close_range(from, (unsigned)fd - 1, flags)))
			return r;
		from = (unsigned)fd + 1;
	}
	return from <= last ? libc.close_range(from, last, flags) : 0;
}

NS_EXPORT void closefrom(int first)
{
	if (close_range(first < 0 ? 0 : (unsigned)first, UINT_MAX, 0))
		libc.closefrom(first);
}

/* A connection is 0, 1 or 2 from now on: libc's stdin, stdout and stderr, and every program that is
 * run, use these by system calls. Where it can't move to the kernel, it stays: read() still works. */
static void to_stdio(struct nfile *f, int fd)
{
	if (fd <= STDERR_FILENO && f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_STREAM)
		nsock_handover(nsock_of(f), fd, SR_stdio);
}

/* fd was duplicated to `to` by libc: the same for the table. */
static int dup_done(int fd, int to)
{
	struct nfile *f = to >= 0 ? fd_get(fd) : NULL, *old;

	if (to < 0)
		return to;
	old = fd_is_ours(to) && to != fd ? fd_remove(to) : NULL;
	if (f) {
		if (to != fd) {
			fd_install(to, f);
			to_stdio(f, to);
		}
		nfile_put(f);
	}
	drop(old);
	return to;
}

NS_EXPORT int dup(int fd)
{
	int to = libc.dup(fd);

	return fd_is_ours(fd) || fd_is_ours(to) ? dup_done(fd, to) : to;
}

/* `to` is about to be replaced. */
static void replacing(int fd, int to)
{
	struct nfile *f = fd_is_ours(to) && to != fd ? fd_get(to) : NULL;

	if (!f)
		return;
	if (f->kind == NF_SOCK && nsock_of(f)->share && nfile_fd_count(f) == 1)
		share_keep(nsock_of(f), to);
	nfile_put(f);
}

NS_EXPORT int dup2(int fd, int to)
{
	if (fd_is_ours(to) && fd_is_protected(to)) {
		errno = EBUSY;
		return -1;
	}
	if (!fd_is_ours(fd) && !fd_is_ours(to))
		return libc.dup2(fd, to);
	replacing(fd, to);
	return dup_done(fd, libc.dup2(fd, to));
}
NS_ALIAS(__dup2, dup2);

NS_EXPORT int dup3(int fd, int to, int flags)
{
	if (fd_is_ours(to) && fd_is_protected(to)) {
		errno = EBUSY;
		return -1;
	}
	if (!fd_is_ours(fd) && !fd_is_ours(to))
		return libc.dup3(fd, to, flags);
	replacing(fd, to);
	return dup_done(fd, libc.dup3(fd, to, flags));
}

/* Status flags live in the shadow's open file; the copy in nfile.flags is what our calls read. */
static void flags_mirror(int fd, long flags)
{
	struct nfile *f = fd_get(fd);

	if (!f)
		return;
	if (flags & O_NONBLOCK)
		__atomic_or_fetch(&f->flags, O_NONBLOCK, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&f->flags, ~(uint32_t)O_NONBLOCK, __ATOMIC_RELAXED);
	if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_PLUGIN)
		plug_flags(nsock_of(f));
	nfile_put(f);
}

static void owner_mirror(int fd, int cmd, long arg)
{
	const struct f_owner_ex *ex = (const struct f_owner_ex *)arg;
	struct nsock *ns = get(fd);

	if (!ns)
		return;
	if (cmd == F_SETOWN)
		sock_owner_number(ns, (int)arg);
	else
		sock_owner_set(ns, ex->type, ex->pid);
	nfile_put(&ns->f);
}

static void to_kernel(int fd, enum sock_reason why)
{
	struct nsock *ns = get(fd);

	if (!ns)
		return;
	nsock_handover(ns, fd, why);
	nfile_put(&ns->f);
}

static int fcntl_any(int fd, int cmd, long arg)
{
	int r;

	if (cmd == F_SETFL && (arg & O_ASYNC))
		to_kernel(fd, SR_option); /* SIGIO: the kernel is to see every event */
	r = libc.fcntl64(fd, cmd, arg);
	if (r < 0)
		return r;
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		return fd_is_ours(fd) || fd_is_ours(r) ? dup_done(fd, r) : r;
	if (!fd_is_ours(fd))
		return r;
	if (cmd == F_SETOWN || cmd == F_SETOWN_EX)
		owner_mirror(fd, cmd, arg);
	if (cmd == F_SETFL)
		flags_mirror(fd, arg);
	return r;
}

NS_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return fcntl_any(fd, cmd, arg);
}
NS_ALIAS(__fcntl, fcntl);

NS_EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return fcntl_any(fd, cmd, arg);
}

NS_EXPORT int ioctl(int fd, unsigned long req, ...)
{
	va_list ap;
	long arg;

	va_start(ap, req);
	arg = va_arg(ap, long);
	va_end(ap);
	OURS_OR(fd, sock_ioctl(ns, fd, req, arg), libc.ioctl(fd, req, arg));
}

/* --- sockets ------------------------------------------------------------------------------------- */

NS_EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	OURS_OR(fd, sock_bind(ns, fd, addr, len), libc.bind(fd, addr, len));
}

/* libc finds the port; what it bound is the shadow. */
static long bindresvport_ours(struct nsock *ns, int fd, struct sockaddr_in *addr)
{
	return libc.bindresvport(fd, addr) < 0 ? -errno : sock_bound(ns, fd);
}

NS_EXPORT int bindresvport(int fd, struct sockaddr_in *addr)
{
	OURS_OR(fd, bindresvport_ours(ns, fd, addr), libc.bindresvport(fd, addr));
}

NS_EXPORT int listen(int fd, int backlog)
{
	OURS_OR(fd, sock_listen(ns, fd, backlog), libc.listen(fd, backlog));
}

static int accept_ours(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	int to = sock_accept(ns, fd, addr, len, flags);
	struct nfile *f = to >= 0 && to <= STDERR_FILENO ? fd_get(to) : NULL;

	if (f) {
		to_stdio(f, to);
		nfile_put(f);
	}
	return to;
}

NS_EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	WAITING_OR(fd, accept_ours(ns, fd, addr, len, 0), libc.accept(fd, addr, len));
}

NS_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	WAITING_OR(fd, accept_ours(ns, fd, addr, len, flags), libc.accept4(fd, addr, len, flags));
}

NS_EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	WAITING_OR(fd, sock_connect(ns, fd, addr, len), libc.connect(fd, addr, len));
}
NS_ALIAS(__connect, connect);

NS_EXPORT int shutdown(int fd, int how)
{
	OURS_OR(fd, sock_shutdown(ns, fd, how), libc.shutdown(fd, how));
}

NS_EXPORT int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	OURS_OR(fd, sock_name(ns, fd, addr, len, false), libc.getsockname(fd, addr, len));
}

NS_EXPORT int getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	OURS_OR(fd, sock_name(ns, fd, addr, len, true), libc.getpeername(fd, addr, len));
}

NS_EXPORT int getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	OURS_OR(fd, sock_getopt(ns, fd, level, name, val, len),
		libc.getsockopt(fd, level, name, val, len));
}

NS_EXPORT int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	OURS_OR(fd, sock_setopt(ns, fd, level, name, val, len),
		libc.setsockopt(fd, level, name, val, len));
}

NS_EXPORT int sockatmark(int fd)
{
	int mark;

	if (!fd_is_ours(fd))
		return libc.sockatmark(fd);
	return ioctl(fd, 0x8905 /* SIOCATMARK */, &mark) < 0 ? -1 : mark;
}

/* --- data ---------------------------------------------------------------------------------------- */

/* What carries data takes the short way where the kernel serves the socket. */
static inline struct nsock *get_data(int fd)
{
	if (__builtin_expect(!fd_is_ours(fd), 1) || fd_is_kernels(fd))
		return NULL;
	return get_waiting(fd);
}

#define DATA_OR(fd, mine, theirs) \
	struct nsock *ns = get_data(fd); \
	return ns ? OURS(ns, mine) : (theirs)

/* A call with one buffer. */
static ssize_t send_buf(struct nsock *ns, int fd, const void *buf, size_t n, int flags)
{
	struct iovec iov = { (void *)buf, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nsock_mode(ns) == SK_STREAM)
		return sock_stream_send(ns, &iov, 1, flags);
	return sock_sendmsg(ns, fd, &msg, flags);
}

static ssize_t recv_buf(struct nsock *ns, int fd, void *buf, size_t n, int flags)
{
	struct iovec iov = { buf, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nsock_mode(ns) == SK_STREAM)
		return sock_stream_recv(ns, &iov, 1, flags);
	return sock_recvmsg(ns, fd, &msg, flags);
}

/* Control messages mean nothing to a stream, but those for sockets are checked, as in Linux. */
static int stream_control(const struct msghdr *msg)
{
	const char *at = msg->msg_control;
	size_t left = at ? msg->msg_controllen : 0;
	struct cmsghdr c;

	if (left && !user_ok(at, left))
		return -EFAULT;
	while (left >= sizeof(c)) {
		memcpy(&c, at, sizeof(c));
		if (c.cmsg_len < sizeof(c) || c.cmsg_len > left)
			return -EINVAL;
		if (c.cmsg_level == SOL_SOCKET && c.cmsg_type != SO_MARK &&
		    c.cmsg_type != SO_TIMESTAMPING && c.cmsg_type != SO_TXTIME &&
		    c.cmsg_type != SO_PRIORITY && c.cmsg_type != SCM_RIGHTS &&
		    c.cmsg_type != SCM_CREDENTIALS)
			return -EINVAL;
		if (CMSG_ALIGN(c.cmsg_len) >= left)
			break;
		at += CMSG_ALIGN(c.cmsg_len);
		left -= CMSG_ALIGN(c.cmsg_len);
	}
	return 0;
}

ssize_t sock_sendmsg(struct nsock *ns, int fd, const struct msghdr *msg, int flags)
{
	int err;

	switch (nsock_mode(ns)) {
	case SK_NEW:
		err = nsock_take_error(ns);
		if (err)
			return err;
		if (plug_any() && ns->proto == IPPROTO_UDP && plug_sendto(ns, fd, msg))
			return plug_sendmsg(ns, msg, flags);
		break;
	case SK_PLUGIN:
		return plug_sendmsg(ns, msg, flags);
	case SK_STREAM:
		if (msg->msg_iovlen > IOV_MAX)
			return -EMSGSIZE;
		err = msg->msg_controllen ? stream_control(msg) : 0;
		return err ? err : sock_stream_send(ns, msg->msg_iov, msg->msg_iovlen, flags);
	case SK_LOST:
		nsock_reason(ns, SR_forked);
		return -ECONNRESET;
	}
	if (ns->proto == IPPROTO_UDP)
		return sock_dgram_send(ns, fd, msg, flags);
	return libc_errno(libc.sendmsg(fd, msg, flags));
}

/* TCP_INQ: what is left to read; 1 where only the end is. */
static size_t cmsg_inq(struct nsock *ns, struct msghdr *msg)
{
	struct shm_session *s = nsock_session(ns);
	int left = s ? (int)fifo_used(&ns->rx) : 0;
	struct cmsghdr c = { CMSG_LEN(sizeof(left)), IPPROTO_TCP, TCP_CM_INQ };

	if (msg->msg_controllen < c.cmsg_len || !user_ok(msg->msg_control, msg->msg_controllen)) {
		msg->msg_flags |= MSG_CTRUNC;
		return 0;
	}
	if (!left && s && (__atomic_load_n(&s->stack_flags, __ATOMIC_RELAXED) & SHM_SF_RX_EOF))
		left = 1;
	memcpy(msg->msg_control, &c, sizeof(c));
	memcpy((char *)msg->msg_control + sizeof(c), &left, sizeof(left));
	return msg->msg_controllen < CMSG_SPACE(sizeof(left)) ? c.cmsg_len : CMSG_SPACE(sizeof(left));
}

ssize_t sock_recvmsg(struct nsock *ns, int fd, struct msghdr *msg, int flags)
{
	ssize_t r;

	switch (nsock_mode(ns)) {
	case SK_NEW:
		r = nsock_take_error(ns);
		if (r)
			return r;
		break;
	case SK_STREAM:
		if (msg->msg_iovlen > IOV_MAX)
			return -EMSGSIZE;
		r = sock_stream_recv(ns, msg->msg_iov, msg->msg_iovlen, flags);
		if (r >= 0) {
			if (msg->msg_name)
				msg->msg_namelen = 0;
			msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
			if (flags & MSG_OOB)
				msg->msg_flags |= r ? MSG_OOB : MSG_OOB | MSG_TRUNC;
			msg->msg_controllen = __atomic_load_n(&ns->want_cmsg, __ATOMIC_RELAXED) &
					      SOCK_CM_INQ ? cmsg_inq(ns, msg) : 0;
		}
		return r;
	case SK_PLUGIN:
		return plug_recvmsg(ns, msg, flags);
	case SK_LOST:
		nsock_reason(ns, SR_forked);
		return -ECONNRESET;
	}
	if (ns->proto == IPPROTO_UDP)
		return sock_dgram_recv(ns, fd, msg, flags);
	return libc_errno(libc.recvmsg(fd, msg, flags));
}

NS_EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	DATA_OR(fd, send_buf(ns, fd, buf, n, flags), libc.send(fd, buf, n, flags));
}
NS_ALIAS(__send, send);

NS_EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	DATA_OR(fd, send_buf(ns, fd, buf, n, 0), libc.write(fd, buf, n));
}
NS_ALIAS(__write, write);

NS_EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	DATA_OR(fd, recv_buf(ns, fd, buf, n, flags), libc.recv(fd, buf, n, flags));
}
NS_ALIAS(__recv, recv);

NS_EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	DATA_OR(fd, recv_buf(ns, fd, buf, n, 0), libc.read(fd, buf, n));
}
NS_ALIAS(__read, read);

static ssize_t sendto_ours(struct nsock *ns, int fd, const void *buf, size_t n, int flags,
			   const struct sockaddr *addr, socklen_t len)
{
	struct iovec iov = { (void *)buf, n };
	struct msghdr msg = { .msg_name = (void *)addr, .msg_namelen = addr ? len : 0,
			      .msg_iov = &iov, .msg_iovlen = 1 };

	if (addr && len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	if (addr && !user_ok(addr, len))
		return -EFAULT;
	if (nsock_mode(ns) == SK_STREAM)
		return sock_stream_send(ns, &iov, 1, flags); /* Linux ignores the address */
	if (addr && !len) /* sendmsg() can't say that */
		return libc_errno(libc.sendto(fd, buf, n, flags, addr, len));
	return sock_sendmsg(ns, fd, &msg, flags);
}

NS_EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags,
			 const struct sockaddr *addr, socklen_t len)
{
	DATA_OR(fd, sendto_ours(ns, fd, buf, n, flags, addr, len),
		libc.sendto(fd, buf, n, flags, addr, len));
}

static ssize_t recvfrom_ours(struct nsock *ns, int fd, void *buf, size_t n, int flags,
			     struct sockaddr *addr, socklen_t *len)
{
	int err = !addr ? 0 : !user_ok(len, sizeof(*len)) ? -EFAULT : (int)*len < 0 ? -EINVAL : 0;
	bool told = addr && !err;
	struct iovec iov = { buf, n };
	struct msghdr msg = { .msg_name = told ? addr : NULL, .msg_namelen = told ? *len : 0,
			      .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r;

	r = sock_recvmsg(ns, fd, &msg, flags);
	if (r >= 0 && err)
		return err; /* found after the data were taken, as in Linux */
	if (r >= 0 && told)
		*len = nsock_mode(ns) == SK_STREAM ? 0 : msg.msg_namelen;
	return r;
}

NS_EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
			   socklen_t *len)
{
	DATA_OR(fd, recvfrom_ours(ns, fd, buf, n, flags, addr, len),
		libc.recvfrom(fd, buf, n, flags, addr, len));
}

/* Sockets of ours that a message carries to another process: that one may know nothing of us. */
static void rights_pass(const struct msghdr *msg)
{
	struct cmsghdr *c;

	if (!user_ok(msg->msg_control, msg->msg_controllen))
		return;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			to_kernel(fd, SR_passed);
		}
	}
}

NS_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (!fd_is_ours(fd) && user_ok(msg, sizeof(*msg)) && msg->msg_controllen)
		rights_pass(msg);
	DATA_OR(fd, user_ok(msg, sizeof(*msg)) ? sock_sendmsg(ns, fd, msg, flags) : -EFAULT,
		libc.sendmsg(fd, msg, flags));
}

NS_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	DATA_OR(fd, user_ok(msg, sizeof(*msg)) ? sock_recvmsg(ns, fd, msg, flags) : -EFAULT,
		adopt_after(libc.recvmsg(fd, msg, flags), msg));
}

static ssize_t writev_ours(struct nsock *ns, int fd, const struct iovec *iov, int n, int flags)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };

	return n < 0 || n > IOV_MAX ? -EINVAL : sock_sendmsg(ns, fd, &msg, flags);
}

static ssize_t readv_ours(struct nsock *ns, int fd, const struct iovec *iov, int n, int flags)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };

	return n < 0 || n > IOV_MAX ? -EINVAL : sock_recvmsg(ns, fd, &msg, flags);
}

NS_EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	DATA_OR(fd, writev_ours(ns, fd, iov, n, 0), libc.writev(fd, iov, n));
}

NS_EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	DATA_OR(fd, readv_ours(ns, fd, iov, n, 0), libc.readv(fd, iov, n));
}

/* preadv2() and pwritev2() know one offset that a socket has, -1 for "where it is". The MSG_* flags
 * for RWF_* ones, or -errno. */
static int rw_flags(off64_t off, int flags)
{
	if (off != -1)
		return off < 0 ? -EINVAL : -ESPIPE;
	if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND))
		return -EOPNOTSUPP;
	return flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;
}

static ssize_t writev_at(struct nsock *ns, int fd, const struct iovec *iov, int n, off64_t off,
			 int flags)
{
	int msg_flags = rw_flags(off, flags);

	return msg_flags < 0 ? msg_flags : writev_ours(ns, fd, iov, n, msg_flags);
}

static ssize_t readv_at(struct nsock *ns, int fd, const struct iovec *iov, int n, off64_t off,
			int flags)
{
	int msg_flags = rw_flags(off, flags);

	return msg_flags < 0 ? msg_flags : readv_ours(ns, fd, iov, n, msg_flags);
}

NS_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t off, int flags)
{
	DATA_OR(fd, writev_at(ns, fd, iov, n, off, flags), libc.pwritev64v2(fd, iov, n, off, flags));
}

NS_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	return pwritev64v2(fd, iov, n, off, flags);
}

NS_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off64_t off, int flags)
{
	DATA_OR(fd, readv_at(ns, fd, iov, n, off, flags), libc.preadv64v2(fd, iov, n, off, flags));
}

NS_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	return preadv64v2(fd, iov, n, off, flags);
}

static long sendmmsg_ours(struct nsock *ns, int fd, struct mmsghdr *vec, unsigned n, int flags)
{
	ssize_t r = 0;
	unsigned i;

	for (i = 0; i < n && i < UIO_MAXIOV; i++) {
		if (!user_ok(&vec[i], sizeof(*vec))) {
			r = -EFAULT;
			break;
		}
		r = sock_sendmsg(ns, fd, &vec[i].msg_hdr, flags);
		if (r < 0)
			break;
		vec[i].msg_len = (unsigned)r;
	}
	return i ? (long)i : r;
}

NS_EXPORT int sendmmsg(int fd, struct mmsghdr *vec, unsigned n, int flags)
{
	for (unsigned i = 0; !fd_is_ours(fd) && i < n && i < UIO_MAXIOV && user_ok(&vec[i], sizeof(*vec)); i++)
		if (vec[i].msg_hdr.msg_controllen)
			rights_pass(&vec[i].msg_hdr);
	DATA_OR(fd, sendmmsg_ours(ns, fd, vec, n, flags), libc.sendmmsg(fd, vec, n, flags));
}
NS_ALIAS(__sendmmsg, sendmmsg);

/* What is left of the time-out goes back to the caller; true: nothing is. */
static bool time_is_up(struct timespec *timeout, uint64_t end)
{
	uint64_t now = worker_now(), left = now < end ? end - now : 0;

	timeout->tv_sec = (time_t)(left / 1000000000u);
	timeout->tv_nsec = (long)(left % 1000000000u);
	return !left;
}

/* As in Linux the time-out is looked at after each message only, and an error after the first is
 * kept for the next call. */
static long recvmmsg_ours(struct nsock *ns, int fd, struct mmsghdr *vec, unsigned n, int flags,
			  struct timespec *timeout)
{
	struct shm_session *s;
	uint64_t end = 0;
	ssize_t r = 0;
	unsigned i;

	if (nsock_mode(ns) == SK_KERNEL)
		return libc_errno(libc.recvmmsg(fd, vec, n, flags, timeout));
	if (!user_ok(timeout, timeout ? sizeof(*timeout) : 0))
		return -EFAULT;
	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)
			return -EINVAL;
		end = worker_now() + (uint64_t)timeout->tv_sec * 1000000000ull +
		      (uint64_t)timeout->tv_nsec;
	}
	for (i = 0; i < n; i++) {
		if (!user_ok(&vec[i], sizeof(*vec))) {
			r = -EFAULT;
			break;
		}
		r = sock_recvmsg(ns, fd, &vec[i].msg_hdr, flags & ~MSG_WAITFORONE);
		if (r < 0)
			break;
		vec[i].msg_len = (unsigned)r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (timeout && time_is_up(timeout, end))
			return (long)i + 1;
	}
	s = nsock_session(ns);
	if (i && r < 0 && r != -EAGAIN && s)
		__atomic_compare_exchange_n(&s->error, &(int32_t){ 0 }, (int32_t)-r, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	return i ? (long)i : r;
}

static int recvmmsg_theirs(int fd, struct mmsghdr *vec, unsigned n, int flags,
			   struct timespec *timeout)
{
	int r = libc.recvmmsg(fd, vec, n, flags, timeout);

	for (int i = 0; i < r; i++)
		adopt_after(r, &vec[i].msg_hdr);
	return r;
}

NS_EXPORT int recvmmsg(int fd, struct mmsghdr *vec, unsigned n, int flags,
		       struct timespec *timeout)
{
	DATA_OR(fd, recvmmsg_ours(ns, fd, vec, n, flags, timeout),
		recvmmsg_theirs(fd, vec, n, flags, timeout));
}

static bool is_pipe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* A call that concerns at least one socket of ours, which the stack serves. */
static long splice_ours(struct nsock *ns, int in, const off64_t *off_in, int out,
			const off64_t *off_out, size_t n, unsigned flags, bool to_sock)
{
	const unsigned known = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

	if (!n)
		return 0;
	if ((flags & ~known) || !is_pipe(to_sock ? in : out) || (to_sock ? off_out : off_in))
		return -EINVAL;
	return sock_splice(ns, in, out, n, flags, to_sock);
}

/* A connection that the kernel does not have? */
static bool is_stream(const struct nsock *ns)
{
	uint8_t mode = nsock_mode(ns);

	return mode == SK_STREAM || (mode == SK_PLUGIN && ns->proto == IPPROTO_TCP);
}

/* The descriptor's socket if it is a stream of ours. */
static struct nsock *get_stream(int fd)
{
	struct nsock *ns = get_waiting(fd);

	if (!ns || is_stream(ns))
		return ns;
	nfile_put(&ns->f);
	return NULL;
}

NS_EXPORT ssize_t splice(int in, off64_t *off_in, int out, off64_t *off_out, size_t n,
			 unsigned flags)
{
	struct nsock *from = get_stream(in), *to = from ? NULL : get_stream(out);

	if (from)
		return OURS(from, splice_ours(from, in, off_in, out, off_out, n, flags, false));
	if (to)
		return OURS(to, splice_ours(to, in, off_in, out, off_out, n, flags, true));
	return libc.splice(in, off_in, out, off_out, n, flags);
}

/* From a socket: Linux has it for pipes only. */
static long sendfile_from(struct nsock *ns, int out, int in, off64_t *off, size_t n)
{
	struct stat st;

	if (!is_stream(ns))
		return libc_errno(libc.sendfile64(out, in, off, n));
	if (off)
		return -ESPIPE;
	if (fstat(out, &st) < 0)
		return -errno;
	return S_ISFIFO(st.st_mode) ? sock_splice(ns, in, out, n, 0, false) : -EINVAL;
}

static ssize_t sendfile_any(int out, int in, off64_t *off, size_t n)
{
	struct nsock *from = get(in);

	if (from && !fd_is_ours(out))
		return OURS(from, sendfile_from(from, out, in, off, n));
	if (from)
		nfile_put(&from->f); /* between sockets: to ask for what a file has is an error */
	OURS_OR(out, sock_sendfile(ns, out, in, off, n), libc.sendfile64(out, in, off, n));
}

/* As libc's it is no cancellation point. */
NS_EXPORT ssize_t sendfile64(int out, int in, off64_t *off, size_t n)
{
	struct cancel_off none;
	ssize_t r;

	if (!fd_is_ours(out) && !fd_is_ours(in))
		return libc.sendfile64(out, in, off, n);
	cancel_off(&none);
	r = sendfile_any(out, in, off, n);
	cancel_on(&none);
	return r;
}

NS_EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t n)
{
	return sendfile64(out, in, (off64_t *)off, n); /* LP64 only */
}

/* Meant for other descriptors, but as good as read() and write() of eight bytes. */
NS_EXPORT int eventfd_read(int fd, eventfd_t *value)
{
	return read(fd, value, sizeof(*value)) == sizeof(*value) ? 0 : -1;
}

NS_EXPORT int eventfd_write(int fd, eventfd_t value)
{
	return write(fd, &value, sizeof(value)) == sizeof(value) ? 0 : -1;
}

/* A program that ends badly may tell its peer; libc's own works without memory, so it stays for
 * everybody else. */
NS_EXPORT void backtrace_symbols_fd(void *const *frames, int n, int fd)
{
	char **lines = fd_is_ours(fd) ? backtrace_symbols(frames, n) : NULL;

	if (!lines) {
		libc.backtrace_symbols_fd(frames, n, fd);
		return;
	}
	for (int i = 0; i < n; i++)
		writev(fd, (struct iovec[]){ { lines[i], strlen(lines[i]) }, { (char *)"\n", 1 } }, 2);
	free(lines);
}
NS_ALIAS(__backtrace_symbols_fd, backtrace_symbols_fd);

/* Programs built with _FORTIFY_SOURCE; libc's own check aborts with its usual message. */
NS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
NS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
	return n > room || !fd_is_ours(fd) ? libc.__read_chk(fd, buf, n, room) : read(fd, buf, n);
}

NS_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);
NS_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
	return n > room || !fd_is_ours(fd) ? libc.__recv_chk(fd, buf, n, room, flags) :
					     recv(fd, buf, n, flags);
}

NS_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
				 struct sockaddr *addr, socklen_t *len);
NS_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
				 struct sockaddr *addr, socklen_t *len)
{
	return n > room || !fd_is_ours(fd) ?
	       libc.__recvfrom_chk(fd, buf, n, room, flags, addr, len) :
	       recvfrom(fd, buf, n, flags, addr, len);
}

/* --- POSIX AIO ------------------------------------------------------------------------------------- */

/* libc has threads for it, whose reads and writes nothing diverts. */
NS_EXPORT int aio_read(struct aiocb *cb)
{
	to_kernel(cb->aio_fildes, SR_aio);
	return libc.aio_read(cb);
}

NS_EXPORT int aio_write(struct aiocb *cb)
{
	to_kernel(cb->aio_fildes, SR_aio);
	return libc.aio_write(cb);
}

NS_EXPORT int lio_listio(int mode, struct aiocb *const list[], int n, struct sigevent *sig)
{
	for (int i = 0; i < n; i++)
		if (list[i] && list[i]->aio_lio_opcode != LIO_NOP)
			to_kernel(list[i]->aio_fildes, SR_aio);
	return libc.lio_listio(mode, list, n, sig);
}

/* The same structure under a second name (LP64 only). */
NS_EXPORT int aio_read64(struct aiocb64 *cb)
{
	return aio_read((struct aiocb *)cb);
}

NS_EXPORT int aio_write64(struct aiocb64 *cb)
{
	return aio_write((struct aiocb *)cb);
}

NS_EXPORT int lio_listio64(int mode, struct aiocb64 *const list[], int n, struct sigevent *sig)
{
	return lio_listio(mode, (struct aiocb *const *)list, n, sig);
}

/* --- the process ----------------------------------------------------------------------------------- */

/* A vfork()ed child shares our memory: what it closes before exec would be closed in the parent's
 * table. fork() is what POSIX allows instead. */
NS_EXPORT pid_t vfork(void)
{
	return fork();
}
NS_ALIAS(__vfork, vfork);

/* As libc's, which would put /dev/null in the place of descriptors of ours by system calls of its
 * own. */
NS_EXPORT int daemon(int nochdir, int noclose)
{
	pid_t pid = fork();
	int fd;

	if (pid > 0)
		_exit(0);
	if (pid < 0 || setsid() < 0)
		return -1;
	if (!nochdir && chdir("/") < 0)
		return -1;
	if (noclose)
		return 0;
	fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return -1;
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	return 0;
}

NS_EXPORT void _exit(int status)
{
	init_exit();
	libc._exit(status);
}

NS_EXPORT void _Exit(int status)
{
	init_exit();
	libc._Exit(status);
}
