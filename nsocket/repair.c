/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/repair.c - a TCP connection that another stack had becomes the kernel's
 *
 * Order: sequence numbers can only be set while the socket is closed; connect() in repair mode makes
 * it established; options, clock, queues and windows follow. What was sent and not acknowledged goes
 * into the send queue in repair mode, so that the kernel takes it for sent; what was never sent is
 * written afterwards. A FIN of ours follows in the same way: if it had been sent, this repeats it, and
 * the peer repeats its acknowledgement.
 *
 * The queues may hold more than the socket's buffers allow, so these are raised meanwhile. A receive
 * buffer that the program has not set itself stays large enough for what the peer was allowed to send.
 *
 * Urgent data can't be put into the queue: the urgent byte and all behind it come as packets, and so
 * does the peer's FIN.
 *
 * Threads: whoever has the connection to himself.
 */
#define _GNU_SOURCE
#include "nsocket/repair.h"

#include <linux/tcp.h>
#include <nsocket/inject.h>
#include <nsocket/libc.h>
#include <nsocket/worker.h>
#include <nstack/addr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#define TCP_CLOSE 7 /* of enum tcp_state; netinet/tcp.h has it, too */
#define OPT_MSS 2
#define OPT_WSCALE 3
#define OPT_SACK_OK 4
#define OPT_TS 8
#define BUF_SLACK (64 << 10)  /* for the kernel's own overhead */
#define CHUNK (64u << 10)
#define SEND_WAIT_MS 1000
#define DELIVER_NS 5000000ull

static int set_int(int fd, int level, int name, int v)
{
	return libc.setsockopt(fd, level, name, &v, sizeof(v)) < 0 ? -errno : 0;
}

static int get_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return libc.getsockopt(fd, level, name, &v, &len) < 0 ? 0 : v;
}

/* --- before the connection is there ----------------------------------------------------------------- */

static int seq_set(int fd, int queue, uint32_t seq)
{
	int err = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);

	return err ? err : set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)seq);
}

/* A client's is bound to its port already, an accepted one's placeholder to nothing. */
static int local_bind(const struct repair *r)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (libc.getsockname(r->fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	if (((struct sockaddr_in *)&ss)->sin_port) /* in the same place in both families */
		return 0;
	len = nst_addr_to_sockaddr(&r->img->local, r->family, &ss);
	return libc.bind(r->fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

/* Where the socket was bound to no address, the kernel has chosen one. */
static bool local_is(const struct repair *r)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct nst_addr a;

	return libc.getsockname(r->fd, (struct sockaddr *)&ss, &len) == 0 &&
	       nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, len) == 0 &&
	       a.port == r->img->local.port && nst_addr_same_ip(&a, &r->img->local);
}

/* Unread bytes that go into the queue; those from an urgent byte on are delivered. */
static uint32_t queued(const struct repair *r)
{
	uint32_t used = fifo_used(r->rx);

	return r->urg_at < used ? r->urg_at : used;
}

static int establish(const struct repair *r)
{
	struct sockaddr_storage ss;
	socklen_t len = nst_addr_to_sockaddr(&r->img->remote, r->family, &ss);
	int err;

	err = seq_set(r->fd, TCP_SEND_QUEUE, r->img->una);
	if (!err)
		err = seq_set(r->fd, TCP_RECV_QUEUE, r->img->rcv_nxt - fifo_used(r->rx));
	if (!err)
		err = local_bind(r);
	if (!err && libc.connect(r->fd, (struct sockaddr *)&ss, len) < 0)
		err = -errno;
	return err ? err : local_is(r) ? 0 : -EADDRNOTAVAIL;
}

/* --- what was agreed, and where both stand ------------------------------------------------------------- */

static int options_set(const struct repair *r)
{
	const struct stack_tcp_image *i = r->img;
	struct tcp_repair_opt o[4];
	socklen_t n = 0;

	o[n++] = (struct tcp_repair_opt){ OPT_MSS, i->peer_mss };
	if (i->wscale)
		o[n++] = (struct tcp_repair_opt){ OPT_WSCALE,
			i->snd_wscale | (uint32_t)i->rcv_wscale << 16 };
	if (i->sack)
		o[n++] = (struct tcp_repair_opt){ OPT_SACK_OK, 0 };
	if (i->ts)
		o[n++] = (struct tcp_repair_opt){ OPT_TS, 0 };
	if (libc.setsockopt(r->fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, o, n * sizeof(o[0])) < 0)
		return -errno;
	/* our clock may not go back; its lowest bit would ask for a finer one */
	return i->ts ? set_int(r->fd, IPPROTO_TCP, TCP_TIMESTAMP, (int)((i->ts_val + 1) & ~1u)) : 0;
}

static int windows_set(const struct repair *r)
{
	uint32_t nxt = r->img->rcv_nxt - (fifo_used(r->rx) - queued(r));
	struct tcp_repair_window w = {
		.snd_wl1 = r->img->snd_wl1,
		.snd_wnd = r->img->snd_wnd,
		.max_window = r->img->max_wnd,
		.rcv_wnd = r->img->rcv_adv - nxt,
		.rcv_wup = nxt,
	};

	return libc.setsockopt(r->fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) < 0 ? -errno : 0;
}

/* --- queues ------------------------------------------------------------------------------------------ */

/* Write len bytes that lie `from` bytes behind the FIFO's tail. wait_ms: for room. */
static int queue_write(int fd, const struct fifo *f, uint32_t from, uint32_t len, int flags,
		       int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	uint32_t end = from + len;

	while (from < end) {
		struct iovec v[2];
		uint32_t n = end - from < CHUNK ? end - from : CHUNK;
		struct msghdr m = { .msg_iov = v };
		ssize_t r;

		m.msg_iovlen = (size_t)fifo_spans(f, fifo_tail(f) + from, n, v);
		/* the mark of urgent data belongs to the last byte */
		r = libc.sendmsg(fd, &m, (from + n == end ? flags : flags & ~MSG_OOB) |
					 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN && wait_ms && libc.poll(&p, 1, wait_ms) > 0)
			continue;
		if (r < 0)
			return -errno;
		from += (uint32_t)r;
	}
	return 0;
}

/* The same, with the urgent byte marked if it is among them. */
static int send_write(const struct repair *r, uint32_t from, uint32_t len, int wait_ms)
{
	uint32_t urg = r->img->urgent ? r->img->urg_out - r->img->una : 0;
	int err = 0;

	if (urg > from && urg <= from + len) {
		err = queue_write(r->fd, r->tx, from, urg - from, MSG_OOB, wait_ms);
		len -= urg - from;
		from = urg;
	}
	return err ? err : queue_write(r->fd, r->tx, from, len, 0, wait_ms);
}

static void buffers_raise(struct repair *r)
{
	uint32_t rcv = fifo_used(r->rx) + r->img->rcv_adv - r->img->rcv_nxt;

	r->rcvbuf = get_int(r->fd, SOL_SOCKET, SO_RCVBUF);
	r->sndbuf = get_int(r->fd, SOL_SOCKET, SO_SNDBUF);
	r->buf_lock = get_int(r->fd, SOL_SOCKET, SO_BUF_LOCK);
	/* the kernel doubles both */
	set_int(r->fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)rcv + BUF_SLACK);
	set_int(r->fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)fifo_used(r->tx) + BUF_SLACK);
}

static void buffers_restore(const struct repair *r)
{
	if (r->buf_lock & SOCK_RCVBUF_LOCK || get_int(r->fd, SOL_SOCKET, SO_RCVBUF) < r->rcvbuf)
		set_int(r->fd, SOL_SOCKET, SO_RCVBUFFORCE, r->rcvbuf / 2);
	set_int(r->fd, SOL_SOCKET, SO_SNDBUFFORCE, r->sndbuf / 2);
	set_int(r->fd, SOL_SOCKET, SO_BUF_LOCK, r->buf_lock);
}

static int queues_fill(const struct repair *r)
{
	int err = set_int(r->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);

	if (!err)
		err = queue_write(r->fd, r->rx, 0, queued(r), 0, 0);
	if (!err)
		err = set_int(r->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	return err ? err : send_write(r, 0, r->img->nxt - r->img->una, 0);
}

/* --- what comes as packets ------------------------------------------------------------------------------ */

static struct tcp_info info_of(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len);
	return ti;
}

/* From the peer, behind the first `at` unread bytes. */
static struct inject_tcp segment(const struct repair *r, uint32_t at)
{
	const struct stack_tcp_image *i = r->img;

	return (struct inject_tcp){
		.from = i->remote, .to = i->local, .ack = i->una,
		.seq = i->rcv_nxt - (fifo_used(r->rx) - at),
		.wnd = i->snd_wnd >> i->snd_wscale, .ts = i->ts, .ts_val = i->ts_recent,
		.ts_ecr = i->ts_val,
	};
}

/* The urgent byte, which is the first, and what follows it. */
static void urgent_deliver(const struct repair *r)
{
	uint32_t from = queued(r), at = from, used = fifo_used(r->rx);
	uint8_t *buf = at < used ? malloc(INJECT_TCP_MAX) : NULL;
	uint64_t end = worker_now() + DELIVER_NS;
	struct inject_tcp g;
	char byte;

	for (; buf && at < used; at += g.len) {
		g = segment(r, at);
		g.urg = at == from;
		g.data = buf;
		g.len = fifo_peek(r->rx, at, buf, INJECT_TCP_MAX);
		if (inject_tcp(&g))
			break;
	}
	free(buf);
	/* the loopback delivers at once, or as soon as it gets to it */
	while (info_of(r->fd).tcpi_bytes_received < at - from && worker_now() < end)
		libc.poll(NULL, 0, 1);
	if (at > from && r->urg_had)
		libc.recv(r->fd, &byte, 1, MSG_OOB | MSG_DONTWAIT);
}

/* The segment that the peer ended with, once more. */
static void fin_deliver(const struct repair *r)
{
	struct inject_tcp g = segment(r, fifo_used(r->rx));
	uint64_t end = worker_now() + DELIVER_NS;
	int before = info_of(r->fd).tcpi_state;

	g.fin = true;
	inject_tcp(&g);
	while (info_of(r->fd).tcpi_state == before && worker_now() < end)
		libc.poll(NULL, 0, 1);
}

/* --- all of it ---------------------------------------------------------------------------------------- */

int repair_begin(struct repair *r)
{
	int err;

	if ((r->img->fin_rcvd || r->urg_at != REPAIR_NO_URG) && !inject_able(r->img->local.family))
		return -EPERM;
	r->reuse = get_int(r->fd, SOL_SOCKET, SO_REUSEADDR);
	err = set_int(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (err)
		return err;
	buffers_raise(r);
	err = establish(r);
	if (!err)
		err = options_set(r);
	if (!err)
		err = queues_fill(r);
	if (!err)
		err = windows_set(r);
	if (err)
		repair_undo(r);
	return err;
}

void repair_undo(struct repair *r)
{
	struct sockaddr sa = { .sa_family = AF_UNSPEC };

	libc.connect(r->fd, &sa, sizeof(sa)); /* in repair mode: nothing is sent */
	set_int(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	get_int(r->fd, SOL_SOCKET, SO_ERROR); /* of the connection that was not */
	set_int(r->fd, SOL_SOCKET, SO_REUSEADDR, r->reuse);
	buffers_restore(r);
}

/* A reset makes it so without a word to anybody; its error is taken back unless it is wanted. */
void repair_dead(struct repair *r, int error)
{
	struct inject_tcp g = segment(r, fifo_used(r->rx));
	uint64_t end = worker_now() + DELIVER_NS;

	g.rst = true;
	inject_tcp(&g);
	while (info_of(r->fd).tcpi_state != TCP_CLOSE && worker_now() < end)
		libc.poll(NULL, 0, 1);
	set_int(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	if (!error)
		get_int(r->fd, SOL_SOCKET, SO_ERROR);
	set_int(r->fd, SOL_SOCKET, SO_REUSEADDR, r->reuse);
	buffers_restore(r);
}

void repair_end(struct repair *r)
{
	const struct stack_tcp_image *i = r->img;
	uint32_t sent = i->nxt - i->una;

	set_int(r->fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE); /* as it was */
	/* asks the peer where it is: what it sent meanwhile may have been lost */
	set_int(r->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	set_int(r->fd, SOL_SOCKET, SO_REUSEADDR, r->reuse);
	send_write(r, sent, fifo_used(r->tx) - sent, SEND_WAIT_MS);
	urgent_deliver(r);
	if (i->fin_rcvd && i->fin_first)
		fin_deliver(r);
	if (i->fin_wanted)
		libc.shutdown(r->fd, SHUT_WR);
	if (i->fin_rcvd && !i->fin_first)
		fin_deliver(r);
	buffers_restore(r);
}
