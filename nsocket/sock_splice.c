/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_splice.c - splice() between a pipe and a stream, by copying
 *
 * What can't be delivered stays where it was: bytes leave the pipe when there is room for them in the
 * stream, and leave the stream when the pipe has taken them. As in Linux the pipe is waited for
 * first, and SPLICE_F_NONBLOCK is about the pipe only.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <limits.h>
#include <nsocket/cleanup.h>
#include <nsocket/plugin/plugin.h>
#include <nsocket/sig.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPLICE_CHUNK 65536u

/* The thread was cancelled while it waited for the pipe, with a reference to the socket. */
static void wait_cancelled(void *ns)
{
	nfile_put(&((struct nsock *)ns)->f);
}

/* Wait for the pipe: its bits, or -errno. */
static int pipe_wait(struct nsock *ns, int fd, short events, bool dont)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct _pthread_cleanup_buffer undo;
	int r;

	cleanup_push(&undo, wait_cancelled, ns);
	do
		r = (int)libc_errno(libc.poll(&p, 1, dont ? 0 : -1));
	while (r == -EINTR && sig_restart());
	cleanup_pop(&undo);
	return r > 0 ? p.revents : r ? r : -EAGAIN;
}

/* What the pipe takes without waiting. Bytes or -errno. */
static ssize_t pipe_put(int fd, const char *buf, size_t n)
{
	struct iovec iov = { (void *)buf, n };
	ssize_t r = libc_errno(syscall(SYS_pwritev2, fd, &iov, 1, -1L, -1L, RWF_NOWAIT));

	if (r != -EOPNOTSUPP)
		return r;
	/* an older kernel: where poll() sees room, so much fits */
	return libc_errno(syscall(SYS_write, fd, buf, n < PIPE_BUF ? n : PIPE_BUF));
}

/* The socket's side, whoever serves it. */
static ssize_t room_wait(struct nsock *ns)
{
	return nsock_mode(ns) == SK_PLUGIN ? plug_room(ns) : sock_stream_room(ns);
}

static ssize_t put(struct nsock *ns, char *buf, size_t n)
{
	struct iovec iov = { buf, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	return nsock_mode(ns) == SK_PLUGIN ? plug_sendmsg(ns, &msg, 0) : sock_stream_send(ns, &iov, 1, 0);
}

static ssize_t take(struct nsock *ns, char *buf, size_t n, bool peek)
{
	struct iovec iov = { buf, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nsock_mode(ns) == SK_PLUGIN)
		return plug_recvmsg(ns, &msg, peek ? MSG_PEEK : 0);
	return sock_stream_recv(ns, &iov, 1, peek ? MSG_PEEK : MSG_TRUNC);
}

static ssize_t from_pipe(struct nsock *ns, int in, int out, char *buf, size_t n, unsigned flags)
{
	int events = pipe_wait(ns, in, POLLIN, flags & SPLICE_F_NONBLOCK), there = 0;
	ssize_t room, r;

	if (events < 0)
		return events;
	if (libc.ioctl(in, FIONREAD, (long)&there) == 0 && !there)
		return 0; /* and nobody writes to it any more */
	room = room_wait(ns);
	if (room < 0)
		return room;
	if (!room)
		return libc_errno(syscall(SYS_splice, in, NULL, out, NULL, n, flags));
	if (n > (size_t)room)
		n = (size_t)room;
	r = libc_errno(syscall(SYS_read, in, buf, n));
	return r > 0 ? put(ns, buf, (size_t)r) : r;
}

static ssize_t to_pipe(struct nsock *ns, int out, char *buf, size_t n, unsigned flags)
{
	bool dont = (flags & SPLICE_F_NONBLOCK) || (libc.fcntl(out, F_GETFL, 0) & O_NONBLOCK);
	int events = pipe_wait(ns, out, POLLOUT, dont);
	ssize_t r, w;

	if (events < 0)
		return events;
	if (events & POLLERR) {
		raise(SIGPIPE);
		return -EPIPE;
	}
	r = take(ns, buf, n, true);
	w = r > 0 ? pipe_put(out, buf, (size_t)r) : r;
	if (w > 0)
		take(ns, buf, (size_t)w, false);
	return w;
}

ssize_t sock_splice(struct nsock *ns, int in, int out, size_t n, unsigned flags, bool to_sock)
{
	struct _pthread_cleanup_buffer undo;
	char *buf = malloc(SPLICE_CHUNK);
	ssize_t r;

	if (!buf)
		return -ENOMEM;
	if (n > SPLICE_CHUNK)
		n = SPLICE_CHUNK;
	cleanup_push(&undo, free, buf);
	r = to_sock ? from_pipe(ns, in, out, buf, n, flags) : to_pipe(ns, out, buf, n, flags);
	cleanup_pop(&undo);
	free(buf);
	return r;
}
