/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plug_data.c - sending and receiving through a plug-in stack
 *
 * All calls of a program arrive as a message; the simplest function of the stack that can carry it is
 * called: one with a single buffer if there is one, else with a vector, else with a message. What a stack
 * lacks is put together from what it has.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/plugin.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPY 65536u

struct transfer {
	const struct nstack_socket_ops *op;
	struct iovec *iov; /* what is left of it */
	size_t n;
	int flags;
	struct msghdr *msg; /* addresses and control messages */
};

static int check(const struct msghdr *msg)
{
	if (msg->msg_iovlen > IOV_MAX)
		return -EMSGSIZE;
	return user_ok(msg->msg_iov, msg->msg_iovlen * sizeof(*msg->msg_iov)) ? 0 : -EFAULT;
}

static size_t total(const struct iovec *iov, size_t n)
{
	size_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += iov[i].iov_len;
	return all;
}

/* A stack that may wait is told by the flag where the program does not want to. */
static int flags_for(struct nsock *ns, int flags)
{
	return !ns->plug->nonblock && nsock_nonblock(ns) ? flags | MSG_DONTWAIT : flags;
}

/* --- sending ---------------------------------------------------------------------------------- */

static bool send_one(struct plug_sock *p, const struct transfer *t, const void *buf, size_t len, long *r)
{
	const nstack_socket_ops *op = &p->m->cb.socket_ops;

	if (t->msg->msg_namelen) {
		if (op->pfsendto)
			*r = PLUG_CALL(p->m, socket_ops.pfsendto, p->s, buf, len, t->flags, t->msg->msg_name,
				       t->msg->msg_namelen);
		return op->pfsendto;
	}
	if (op->pfsend)
		*r = PLUG_CALL(p->m, socket_ops.pfsend, p->s, buf, len, t->flags);
	else if (!t->flags && op->pfwrite)
		*r = PLUG_CALL(p->m, socket_ops.pfwrite, p->s, buf, len);
	else if (op->pfsendto)
		*r = PLUG_CALL(p->m, socket_ops.pfsendto, p->s, buf, len, t->flags, NULL, 0);
	else
		return false;
	return true;
}

static long try_send(struct plug_sock *p, void *arg)
{
	struct transfer *t = arg;
	struct msghdr msg = *t->msg;
	long r;

	if (t->n == 1 && !msg.msg_controllen && send_one(p, t, t->iov->iov_base, t->iov->iov_len, &r))
		return r;
	if (!t->flags && !msg.msg_namelen && !msg.msg_controllen && p->m->cb.socket_ops.pfwritev)
		return PLUG_CALL(p->m, socket_ops.pfwritev, p->s, t->iov, (int)t->n);
	msg.msg_iov = t->iov;
	msg.msg_iovlen = t->n;
	return PLUG_CALL_OR(p->m, socket_ops.pfsendmsg, -EOPNOTSUPP, p->s, &msg, t->flags);
}

/* In one piece, for a stack that has no call for several. */
static long try_send_joined(struct plug_sock *p, void *arg)
{
	struct transfer *t = arg;
	size_t all = total(t->iov, t->n), at = 0;
	char *buf = malloc(all ? all : 1);
	long r = -EOPNOTSUPP;

	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		memcpy(buf + at, t->iov[i].iov_base, t->iov[i].iov_len);
		at += t->iov[i].iov_len;
	}
	send_one(p, t, buf, all, &r);
	free(buf);
	return r;
}

static long send_pieces(struct nsock *ns, struct transfer *t, bool dont)
{
	long r = plug_wait_call(ns, STACK_EV_OUT, dont, try_send, t);

	if (r == -EOPNOTSUPP && t->n != 1)
		r = plug_wait_call(ns, STACK_EV_OUT, dont, try_send_joined, t);
	return r;
}

static long send_piece(struct nsock *ns, struct transfer *t)
{
	return send_pieces(ns, t, false);
}

/* The rest of a stream's data, after the first `done` bytes of the message, piece by piece until it is all, or
 * nothing goes on. How much there was with these. */
static ssize_t do_rest(struct nsock *ns, const struct msghdr *msg, size_t done, int flags,
		       long (*piece)(struct nsock *ns, struct transfer *t))
{
	struct msghdr plain = { 0 };
	size_t all = done;

	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		struct iovec one = msg->msg_iov[i];
		size_t skip = done < one.iov_len ? done : one.iov_len;

		done -= skip;
		one.iov_base = (char *)one.iov_base + skip;
		one.iov_len -= skip;
		while (one.iov_len) {
			struct transfer t = { .iov = &one, .n = 1, .flags = flags, .msg = &plain };
			long r = piece(ns, &t);

			if (r <= 0)
				return (ssize_t)all;
			all += (size_t)r;
			one.iov_base = (char *)one.iov_base + r;
			one.iov_len -= (size_t)r;
		}
	}
	return (ssize_t)all;
}

ssize_t plug_sendmsg(struct nsock *ns, const struct msghdr *msg, int flags)
{
	struct msghdr head = *msg;
	struct transfer t = { .iov = msg->msg_iov, .n = msg->msg_iovlen, .flags = flags_for(ns, flags),
			      .msg = &head };
	bool dont = flags & MSG_DONTWAIT, stream = ns->proto == IPPROTO_TCP;
	int err = check(msg);
	ssize_t r;

	if (err)
		return err;
	if (!msg->msg_name || stream)
		head.msg_namelen = 0;
	r = send_pieces(ns, &t, dont);
	if (r == -EPIPE && stream && !(flags & MSG_NOSIGNAL))
		raise(SIGPIPE);
	if (r < 0 || !stream || dont || nsock_nonblock(ns) || plug_in_loop() ||
	    (size_t)r >= total(msg->msg_iov, msg->msg_iovlen))
		return r;
	return do_rest(ns, msg, (size_t)r, t.flags, send_piece);
}

/* --- receiving -------------------------------------------------------------------------------- */

static bool recv_one(struct plug_sock *p, const struct transfer *t, void *buf, size_t len, long *r)
{
	const nstack_socket_ops *op = &p->m->cb.socket_ops;

	if (t->msg->msg_name) {
		if (op->pfrecvfrom)
			*r = PLUG_CALL(p->m, socket_ops.pfrecvfrom, p->s, buf, len, t->flags, t->msg->msg_name,
				       &t->msg->msg_namelen);
		return op->pfrecvfrom;
	}
	if (op->pfrecv) /* takes a datagram into nothing, too, as read() does not */
		*r = PLUG_CALL(p->m, socket_ops.pfrecv, p->s, buf, len, t->flags);
	else if (!t->flags && op->pfread)
		*r = PLUG_CALL(p->m, socket_ops.pfread, p->s, buf, len);
	else if (op->pfrecvfrom)
		*r = PLUG_CALL(p->m, socket_ops.pfrecvfrom, p->s, buf, len, t->flags, NULL, NULL);
	else
		return false;
	return true;
}

/* By one buffer, for a stack that has no call for several. */
static long recv_split(struct plug_sock *p, struct transfer *t)
{
	size_t all = total(t->iov, t->n), at = 0;
	char *buf = malloc(all ? all : 1);
	long r = -EOPNOTSUPP;

	if (!buf)
		return -ENOMEM;
	recv_one(p, t, buf, all, &r);
	for (size_t i = 0; r > 0 && i < t->n && at < (size_t)r; i++) {
		size_t n = (size_t)r - at < t->iov[i].iov_len ? (size_t)r - at : t->iov[i].iov_len;

		memcpy(t->iov[i].iov_base, buf + at, n);
		at += n;
	}
	free(buf);
	return r;
}

static long try_recv(struct plug_sock *p, void *arg)
{
	const nstack_socket_ops *op = &p->m->cb.socket_ops;
	struct transfer *t = arg;
	struct msghdr msg = *t->msg;
	long r;

	if (t->n == 1 && !msg.msg_controllen && recv_one(p, t, t->iov->iov_base, t->iov->iov_len, &r)) {
		t->msg->msg_flags = 0;
		return r;
	}
	if (!t->flags && !msg.msg_name && !msg.msg_controllen && op->pfreadv) {
		t->msg->msg_flags = 0;
		return PLUG_CALL(p->m, socket_ops.pfreadv, p->s, t->iov, (int)t->n);
	}
	if (op->pfrecvmsg) {
		msg.msg_iov = t->iov;
		msg.msg_iovlen = t->n;
		r = PLUG_CALL(p->m, socket_ops.pfrecvmsg, p->s, &msg, t->flags);
		t->msg->msg_namelen = msg.msg_namelen;
		t->msg->msg_controllen = msg.msg_controllen;
		t->msg->msg_flags = msg.msg_flags;
		return r;
	}
	r = recv_split(p, t);
	if (r >= 0)
		t->msg->msg_controllen = 0;
	return r;
}

static long recv_piece(struct nsock *ns, struct transfer *t)
{
	return plug_wait_call(ns, STACK_EV_IN, false, try_recv, t);
}

ssize_t plug_recvmsg(struct nsock *ns, struct msghdr *msg, int flags)
{
	bool stream = ns->proto == IPPROTO_TCP, dont = flags & MSG_DONTWAIT;
	bool all = (flags & MSG_WAITALL) && !(flags & MSG_PEEK) && stream && !dont && !nsock_nonblock(ns);
	struct transfer t = { .iov = msg->msg_iov, .n = msg->msg_iovlen, .msg = msg,
			      .flags = flags_for(ns, flags) & ~MSG_WAITALL };
	int err = check(msg);
	void *name = msg->msg_name;
	ssize_t r;

	if (err)
		return err;
	if (stream)
		msg->msg_name = NULL;
	r = plug_wait_call(ns, STACK_EV_IN, dont, try_recv, &t);
	if (stream) {
		msg->msg_name = name;
		msg->msg_namelen = 0;
	}
	if (r > 0 && all && !plug_in_loop() && (size_t)r < total(msg->msg_iov, msg->msg_iovlen))
		return do_rest(ns, msg, (size_t)r, t.flags, recv_piece); /* MSG_WAITALL */
	return r;
}

/* --- for another process ---------------------------------------------------------------------- */

long plug_send_once(struct plug_sock *p, struct msghdr *msg, int flags)
{
	struct transfer t = { .iov = msg->msg_iov, .n = msg->msg_iovlen, .flags = flags, .msg = msg };

	return plug_try(p, STACK_EV_OUT, try_send, &t);
}

long plug_recv_once(struct plug_sock *p, struct msghdr *msg, int flags)
{
	struct transfer t = { .iov = msg->msg_iov, .n = msg->msg_iovlen, .flags = flags, .msg = msg };

	return plug_try(p, STACK_EV_IN, try_recv, &t);
}

/* --- from a pipe, from a file ----------------------------------------------------------------- */

static long try_room(struct plug_sock *p, void *arg)
{
	/* what leaves the pipe has to fit: a stack that is ready takes so little as a whole */
	return plug_poll(p->ns) & (STACK_EV_OUT | STACK_EV_ERR | STACK_EV_HUP) ? PIPE_BUF : -EAGAIN;
}

ssize_t plug_room(struct nsock *ns)
{
	return plug_wait_call(ns, STACK_EV_OUT | PLUG_KEEP, false, try_room, NULL);
}

ssize_t plug_sendfile(struct nsock *ns, int in, off64_t *off, size_t n)
{
	char *buf = malloc(COPY);
	size_t done = 0;
	ssize_t r = 0, sent;

	if (!buf)
		return -ENOMEM;
	while (done < n) {
		size_t want = n - done < COPY ? n - done : COPY;
		struct iovec iov = { buf, 0 };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

		r = libc_errno(off ? pread64(in, buf, want, *off) : libc.read(in, buf, want));
		if (r <= 0)
			break;
		iov.iov_len = (size_t)r;
		sent = plug_sendmsg(ns, &msg, 0);
		if (off && sent > 0)
			*off += sent;
		else if (!off && sent < r) /* back to where the program finds it */
			lseek64(in, (sent > 0 ? sent : 0) - r, SEEK_CUR);
		if (sent > 0)
			done += (size_t)sent;
		if (sent != r) {
			r = sent;
			break;
		}
	}
	free(buf);
	return done ? (ssize_t)done : r < 0 ? r : 0;
}
