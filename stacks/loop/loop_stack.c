/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/loop/loop_stack.c - a complete small plug-in stack: sockets of one process, through memory
 *
 * The example of docs/stack-author.md. Its addresses are whatever rules give to it; whoever connects there
 * reaches who listens there in the same process. It has TCP and UDP sockets, IPv4 and IPv6, and events; it
 * never waits, and does not follow a fork.
 *
 * A connection is two sockets that know each other; each has a ring of what it received. One lock for
 * all, which is not held while events are reported: nstack may ask back at once.
 */
#include "in_memory.h"

#include <nstack/nstack_dmm_api.h>

#include <pthread.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#define SOCKS 1024
#define FIRST 5000 /* our numbers are no descriptors: they only have to be ours */
#define RING 65536u
#define QUEUE 128
#define PORT_FIRST 49152
#define ALL (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDHUP)

struct sock {
	bool used, stream, listening, connected, refused;
	bool no_rx, no_tx;      /* the peer ended; we did */
	int family;
	struct mem_addr local, remote;
	struct sock *peer;      /* connected stream: the other end, NULL: closed */
	struct sock *queue[QUEUE];
	unsigned queued, backlog;
	char *ring;             /* streams: bytes. Datagrams: length, sender, bytes of each */
	uint32_t head, tail;    /* written, read; free running */
	void *pdata;            /* what event_cb wants; NULL: nobody cares */
};

static struct sock socks[SOCKS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static nstack_event_cb nstack;
static unsigned next_port;

/* --- numbers, addresses ------------------------------------------------------------------------ */

static struct sock *get(int s)
{
	return s >= FIRST && s < FIRST + SOCKS && socks[s - FIRST].used ? &socks[s - FIRST] : NULL;
}

/* Who has this address, a listener or a datagram socket; exactly, or by all addresses. */
static struct sock *owner(const struct sock *like, const struct mem_addr *a, bool listening)
{
	struct sock *wild = NULL;

	for (int i = 0; i < SOCKS; i++) {
		struct sock *k = &socks[i];

		if (!k->used || k->stream != like->stream || k->family != like->family ||
		    k->local.port != a->port || (k->stream && listening && !k->listening) || k->connected)
			continue;
		if (!memcmp(k->local.ip, a->ip, 16))
			return k;
		if (mem_addr_any(&k->local))
			wild = k;
	}
	return wild;
}

static void autobind(struct sock *k)
{
	if (k->connected) /* it has one, and does not count as its owner */
		return;
	while (!k->local.port || owner(k, &k->local, false) != k) {
		k->local.port = htons((uint16_t)(PORT_FIRST + next_port++ % 16384));
		if (!owner(k, &k->local, false))
			return;
	}
}

/* --- readiness ------------------------------------------------------------------------------------ */

static unsigned ready(const struct sock *k)
{
	unsigned ev = 0;

	if (k->listening)
		return k->queued ? EPOLLIN : 0;
	if (k->head != k->tail || (k->stream && k->no_rx))
		ev |= EPOLLIN;
	if (k->refused)
		return ev | EPOLLERR | EPOLLHUP | EPOLLIN | EPOLLOUT;
	if (k->stream && !k->connected)
		return ev;
	if (k->no_rx)
		ev |= EPOLLRDHUP | (k->no_tx ? EPOLLHUP : 0);
	if (!k->stream || k->no_tx || !k->peer || k->peer->head - k->peer->tail < RING)
		ev |= EPOLLOUT;
	return ev;
}

/* What is to be reported when the lock is given back. */
struct report {
	void *pdata[2];
	unsigned events[2];
};

/* events: what may have come up. */
static void note(struct report *r, const struct sock *k, unsigned events)
{
	int i = r->pdata[0] != NULL;

	if (!k || !k->pdata)
		return;
	r->pdata[i] = k->pdata;
	r->events[i] = ready(k) & events;
}

static void give(const struct report *r)
{
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 2; i++)
		if (r->pdata[i] && r->events[i])
			nstack.event_cb(r->pdata[i], (int)r->events[i]);
}

/* --- life ------------------------------------------------------------------------------------------- */

static struct sock *new_sock(int family, bool stream)
{
	for (int i = 0; i < SOCKS; i++) {
		struct sock *k = &socks[i];

		if (k->used)
			continue;
		*k = (struct sock){ .family = family, .stream = stream, .ring = malloc(RING) };
		k->used = k->ring != NULL;
		return k->used ? k : NULL;
	}
	return NULL;
}

static int loop_socket(int domain, int type, int protocol)
{
	struct sock *k;

	(void)protocol;
	if ((domain != AF_INET && domain != AF_INET6) || (type != SOCK_STREAM && type != SOCK_DGRAM))
		return mem_fail(EPROTONOSUPPORT);
	pthread_mutex_lock(&lock);
	k = new_sock(domain, type == SOCK_STREAM);
	pthread_mutex_unlock(&lock);
	return k ? (int)(k - socks) + FIRST : mem_fail(ENOBUFS);
}

static int loop_bind(int s, const struct sockaddr *sa, socklen_t len)
{
	struct sock *k = get(s);
	struct mem_addr a;
	int err = 0;

	if (!mem_addr_in(sa, len, &a))
		return mem_fail(EINVAL);
	pthread_mutex_lock(&lock);
	if (k->local.port)
		err = EINVAL;
	else if (a.port && owner(k, &a, false))
		err = EADDRINUSE;
	else
		k->local = a;
	if (!err)
		autobind(k);
	pthread_mutex_unlock(&lock);
	return err ? mem_fail(err) : 0;
}

static int loop_listen(int s, int backlog)
{
	struct sock *k = get(s);

	if (!k->stream)
		return mem_fail(EOPNOTSUPP);
	pthread_mutex_lock(&lock);
	k->listening = true;
	k->backlog = backlog < 1 ? 1 : backlog > QUEUE ? QUEUE : (unsigned)backlog;
	autobind(k);
	pthread_mutex_unlock(&lock);
	return 0;
}

/* The other end of k's connection, in the listener's queue. */
static bool queue(struct sock *k, struct sock *l)
{
	struct sock *c = l->queued < l->backlog ? new_sock(l->family, true) : NULL;

	if (!c)
		return false;
	c->local = k->remote;
	c->remote = k->local;
	c->peer = k;
	c->connected = k->connected = true;
	k->peer = c;
	l->queue[l->queued++] = c;
	return true;
}

static int loop_connect(int s, const struct sockaddr *sa, socklen_t len)
{
	struct sock *k = get(s), *l;
	struct report r = { .events = { 0 } };
	struct mem_addr a;
	int err = 0;

	if (!mem_addr_in(sa, len, &a))
		return mem_fail(EINVAL);
	pthread_mutex_lock(&lock);
	l = owner(k, &a, true);
	if (k->connected && k->stream) {
		err = EISCONN;
	} else {
		k->remote = a;
		if (mem_addr_any(&k->local)) /* there is one machine: it has every address */
			memcpy(k->local.ip, a.ip, sizeof(a.ip));
		autobind(k);
		if (k->stream && (!l || !queue(k, l)))
			err = ECONNREFUSED;
		else if (!k->stream)
			k->connected = true;
		else
			note(&r, l, EPOLLIN);
	}
	give(&r);
	return err ? mem_fail(err) : 0;
}

static int loop_accept(int s, struct sockaddr *sa, socklen_t *len)
{
	struct sock *k = get(s), *c = NULL;

	pthread_mutex_lock(&lock);
	if (k->queued) {
		c = k->queue[0];
		memmove(k->queue, k->queue + 1, --k->queued * sizeof(k->queue[0]));
		mem_addr_out(c->family, &c->remote, sa, len);
	}
	pthread_mutex_unlock(&lock);
	if (!k->listening)
		return mem_fail(EINVAL);
	return c ? (int)(c - socks) + FIRST : mem_fail(EAGAIN);
}

static void end(struct sock *k, struct report *r)
{
	struct sock *p = k->peer;

	if (p) { /* bytes that we did not read: the peer learns that, as from a reset */
		p->no_rx = p->no_tx = true;
		p->refused = k->head != k->tail;
		p->peer = NULL;
		note(r, p, ALL);
	}
	free(k->ring);
	k->ring = NULL;
	k->used = false;
}

static int loop_close(int s)
{
	struct sock *k = get(s);
	struct report r = { .events = { 0 } };

	pthread_mutex_lock(&lock);
	while (k->queued)
		end(k->queue[--k->queued], &(struct report){ .events = { 0 } });
	end(k, &r);
	give(&r);
	return 0;
}

static int loop_shutdown(int s, int how)
{
	struct sock *k = get(s);
	struct report r = { .events = { 0 } };

	if (!k->connected)
		return mem_fail(ENOTCONN);
	pthread_mutex_lock(&lock);
	if (how != SHUT_WR)
		k->no_rx = true;
	if (how != SHUT_RD) {
		k->no_tx = true;
		if (k->peer)
			k->peer->no_rx = true;
		note(&r, k->peer, ALL & ~(unsigned)EPOLLOUT);
	}
	note(&r, k, ALL);
	give(&r);
	return 0;
}

static int loop_getsockname(int s, struct sockaddr *sa, socklen_t *len)
{
	mem_addr_out(get(s)->family, &get(s)->local, sa, len);
	return 0;
}

static int loop_getpeername(int s, struct sockaddr *sa, socklen_t *len)
{
	if (!get(s)->connected)
		return mem_fail(ENOTCONN);
	mem_addr_out(get(s)->family, &get(s)->remote, sa, len);
	return 0;
}

/* --- data --------------------------------------------------------------------------------------------- */

static void ring_put(struct sock *k, const void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		k->ring[k->head++ % RING] = ((const char *)buf)[i];
}

static void ring_get(struct sock *k, uint32_t at, void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((char *)buf)[i] = k->ring[(at + i) % RING];
}

struct head { /* before each datagram */
	uint32_t len;
	struct mem_addr from;
};

/* To the socket that has the address; nobody, or no room: lost. */
static ssize_t send_dgram(struct sock *k, const void *buf, size_t n, const struct mem_addr *to, struct report *r)
{
	struct sock *d = owner(k, to, false);
	struct head h = { .len = (uint32_t)n, .from = k->local };

	if (mem_addr_any(&h.from)) /* as who is asked under this address */
		memcpy(h.from.ip, to->ip, 16);
	if (d && RING - (d->head - d->tail) >= sizeof(h) + n) {
		ring_put(d, &h, sizeof(h));
		ring_put(d, buf, n);
		note(r, d, EPOLLIN);
	}
	return (ssize_t)n;
}

static ssize_t send_stream(struct sock *k, const void *buf, size_t n, struct report *r)
{
	size_t room = k->peer ? RING - (k->peer->head - k->peer->tail) : 0;

	if (!k->connected || k->no_tx || !k->peer)
		return mem_fail(k->refused ? ECONNRESET : EPIPE);
	if (n && !room)
		return mem_fail(EAGAIN);
	ring_put(k->peer, buf, n < room ? n : room);
	note(r, k->peer, EPOLLIN);
	return (ssize_t)(n < room ? n : room);
}

static ssize_t loop_sendto(int s, const void *buf, size_t n, int flags, const struct sockaddr *sa, socklen_t len)
{
	struct sock *k = get(s);
	struct report r = { .events = { 0 } };
	struct mem_addr to = k->remote;
	ssize_t done;

	(void)flags;
	if (!k->stream && sa && !mem_addr_in(sa, len, &to))
		return mem_fail(EINVAL);
	if (!k->stream && !to.port)
		return mem_fail(EDESTADDRREQ);
	if (!k->stream && n > RING / 2)
		return mem_fail(EMSGSIZE);
	pthread_mutex_lock(&lock);
	autobind(k);
	done = k->stream ? send_stream(k, buf, n, &r) : send_dgram(k, buf, n, &to, &r);
	give(&r);
	return done;
}

static ssize_t recv_dgram(struct sock *k, void *buf, size_t n, int flags, struct mem_addr *from)
{
	struct head h;

	if (k->head == k->tail)
		return mem_fail(EAGAIN);
	ring_get(k, k->tail, &h, sizeof(h));
	*from = h.from;
	n = n < h.len ? n : h.len;
	ring_get(k, k->tail + sizeof(h), buf, n);
	if (!(flags & MSG_PEEK))
		k->tail += (uint32_t)sizeof(h) + h.len;
	return (ssize_t)(flags & MSG_TRUNC ? h.len : n);
}

static ssize_t recv_stream(struct sock *k, void *buf, size_t n, int flags)
{
	uint32_t have = k->head - k->tail;

	if (!k->connected)
		return mem_fail(ENOTCONN);
	if (!have && k->refused)
		return mem_fail(ECONNRESET);
	if (!have && !k->no_rx)
		return mem_fail(EAGAIN);
	n = n < have ? n : have;
	ring_get(k, k->tail, buf, n);
	if (!(flags & MSG_PEEK))
		k->tail += (uint32_t)n;
	return (ssize_t)n;
}

static ssize_t loop_recvfrom(int s, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len)
{
	struct sock *k = get(s);
	struct report r = { .events = { 0 } };
	struct mem_addr from;
	ssize_t got;
	bool full;

	pthread_mutex_lock(&lock);
	if (k->stream) {
		full = k->head - k->tail == RING;
		got = recv_stream(k, buf, n, flags);
		if (got > 0 && full)
			note(&r, k->peer, EPOLLOUT); /* it has room again */
	} else {
		got = recv_dgram(k, buf, n, flags, &from);
		if (got >= 0)
			mem_addr_out(k->family, &from, sa, len);
	}
	give(&r);
	return got;
}

static ssize_t loop_send(int s, const void *buf, size_t n, int flags)
{
	return loop_sendto(s, buf, n, flags, NULL, 0);
}

static ssize_t loop_recv(int s, void *buf, size_t n, int flags)
{
	return loop_recvfrom(s, buf, n, flags, NULL, NULL);
}

/* --- options --------------------------------------------------------------------------------------------- */

static int loop_getsockopt(int s, int level, int name, void *val, socklen_t *len)
{
	struct sock *k = get(s);

	return mem_getsockopt(level, name, val, len, k->refused ? ECONNRESET : 0, k->listening, RING);
}

static int loop_peak(int s)
{
	struct sock *k = get(s);
	struct head h = { .len = 0 };
	int n;

	pthread_mutex_lock(&lock);
	if (!k->stream && k->head != k->tail)
		ring_get(k, k->tail, &h, sizeof(h));
	n = k->stream ? (int)(k->head - k->tail) : (int)h.len;
	pthread_mutex_unlock(&lock);
	return n;
}

static int loop_ioctl(int s, unsigned long req, unsigned long arg)
{
	if (req != FIONREAD)
		return mem_fail(ENOTTY);
	*(int *)arg = loop_peak(s);
	return 0;
}

/* --- hooks --------------------------------------------------------------------------------------------------- */

static unsigned loop_ep_ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	struct sock *k = get(s);
	unsigned now;

	(void)epfd, (void)ev;
	pthread_mutex_lock(&lock);
	k->pdata = op == nstack_ep_triggle_del ? NULL : pdata;
	now = ready(k);
	pthread_mutex_unlock(&lock);
	return now;
}

static unsigned loop_ep_getevt(int epfd, int s, unsigned events)
{
	unsigned now;

	(void)epfd;
	pthread_mutex_lock(&lock);
	now = ready(get(s)) & events;
	pthread_mutex_unlock(&lock);
	return now;
}

static int loop_fd_check(int s, int flag)
{
	return flag == STACK_FD_INVALID_CHECK && get(s) != NULL;
}

int loop_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int loop_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	nstack_socket_ops *op = &proc_fun->socket_ops;
	nstack_extern_ops *ext = &proc_fun->extern_ops;

	nstack = *event_ops;
	op->pfsocket = loop_socket;
	op->pfbind = loop_bind;
	op->pflisten = loop_listen;
	op->pfaccept = loop_accept;
	op->pfconnect = loop_connect;
	op->pfclose = loop_close;
	op->pfshutdown = loop_shutdown;
	op->pfgetsockname = loop_getsockname;
	op->pfgetpeername = loop_getpeername;
	op->pfgetsockopt = loop_getsockopt;
	op->pfsetsockopt = mem_setsockopt;
	op->pfsend = loop_send;
	op->pfrecv = loop_recv;
	op->pfsendto = loop_sendto;
	op->pfrecvfrom = loop_recvfrom;
	op->pffcntl = mem_fcntl;
	op->pfioctl = loop_ioctl;
	ext->ep_ctl = loop_ep_ctl;
	ext->ep_getevt = loop_ep_getevt;
	ext->stack_fd_check = loop_fd_check;
	ext->peak = loop_peak;
	return 0;
}
