/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tcp_pair.h - TCP between the two stacks of stack_pair.h
 *
 * The wire can lose, duplicate and reorder by chance, drop what a filter says, and tell each TCP
 * segment to a test. A third party can inject a segment with inject().
 */
#ifndef TESTS_UNIT_TCP_PAIR_H
#define TESTS_UNIT_TCP_PAIR_H

#include "stack_pair.h"
#include "stacks/tcpip/tcp_internal.h"

#include <linux/tcp.h>

struct segment { /* as seen on the wire */
	int dir;
	uint32_t seq, ack, len, wnd;
	uint8_t flags, ttl;
	bool v6;
	uint16_t mss;
	uint8_t wscale;
	bool sack_ok, ts;
	uint8_t nsack;
};

/* The stack's calls, with the flush that the socket layer makes after them. */
static struct stack_ops flushing;

static void close_flush(struct stack *st, struct shm_session *s, int linger_s)
{
	tcpip_stack_ops.close(st, s, linger_s);
	tcpip_stack_ops.flush(st);
}

static int connect_flush(struct stack *st, struct shm_session *s, const struct nst_addr *remote)
{
	int err = tcpip_stack_ops.connect(st, s, remote);

	tcpip_stack_ops.flush(st);
	return err;
}

static int shutdown_flush(struct stack *st, struct shm_session *s, int how)
{
	int err = tcpip_stack_ops.shutdown(st, s, how);

	tcpip_stack_ops.flush(st);
	return err;
}

static void rx_freed_flush(struct stack *st, struct shm_session *s)
{
	tcpip_stack_ops.rx_freed(st, s);
	tcpip_stack_ops.flush(st);
}

__attribute__((constructor)) static void flushing_make(void)
{
	flushing = tcpip_stack_ops;
	flushing.close = close_flush;
	flushing.connect = connect_flush;
	flushing.shutdown = shutdown_flush;
	flushing.rx_freed = rx_freed_flush;
	ops = &flushing;
}

static unsigned loss, dup, reorder; /* per 1000 */
static uint32_t rng = 1;
static struct segment last[2];      /* newest of each direction */
static uint32_t seen[2];            /* segments of each direction */
static bool (*wire_filter)(const struct segment *g); /* true: drop */
static uint64_t step = MS / 10;

static __attribute__((unused)) uint32_t rnd(void)
{
	rng = rng * 1664525u + 1013904223u;
	return rng >> 8;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool decode(int dir, const uint8_t *p, uint32_t len, struct segment *g)
{
	const uint8_t *l4, *o, *end;

	memset(g, 0, sizeof(*g));
	g->dir = dir;
	g->v6 = p[12] == 0x86;
	if (p[g->v6 ? 20 : 23] != IPPROTO_TCP)
		return false;
	g->ttl = p[g->v6 ? 21 : 22];
	l4 = p + 14 + (g->v6 ? 40 : 20);
	g->seq = be32(l4 + 4);
	g->ack = be32(l4 + 8);
	g->flags = l4[13];
	g->wnd = (uint32_t)(l4[14] << 8 | l4[15]);
	end = l4 + (l4[12] >> 4) * 4;
	g->len = len - (uint32_t)(end - p);
	for (o = l4 + 20; o < end && *o; o += *o == 1 ? 1 : o[1]) {
		if (*o == 2)
			g->mss = (uint16_t)(o[2] << 8 | o[3]);
		if (*o == 3)
			g->wscale = o[2];
		if (*o == 4)
			g->sack_ok = true;
		if (*o == 5)
			g->nsack = (uint8_t)((o[1] - 2) / 8);
		if (*o == 8)
			g->ts = true;
	}
	return true;
}

static enum hal_mem_action wire(void *arg, int dir, uint8_t *p, uint32_t len)
{
	struct segment g;
	uint32_t r = rnd() % 1000;

	if (decode(dir, p, len, &g)) {
		if (wire_filter && wire_filter(&g))
			return HAL_MEM_DROP;
		last[dir] = g;
		seen[dir]++;
	}
	if (r < loss)
		return HAL_MEM_DROP;
	if (r < loss + dup)
		return HAL_MEM_DUP;
	if (r < loss + dup + reorder)
		return HAL_MEM_DELAY;
	return HAL_MEM_PASS;
}

static void setup(const struct hal_mem_config *base)
{
	static const struct hal_mem_config plain;

	memset(last, 0, sizeof(last));
	seen[0] = seen[1] = 0;
	loss = dup = reorder = 0;
	wire_filter = NULL;
	pair_open(base ? base : &plain, wire);
}

#define teardown pair_close

static void poll_both(void)
{
	now += step;
	ops->poll(h[0].st, now);
	ops->poll(h[1].st, now);
}

/* Polls for that long; jumps over idle time. */
static __attribute__((unused)) void run_for(uint64_t ns)
{
	uint64_t end = now + ns;

	while (now < end) {
		uint64_t a = ops->deadline(h[0].st), b = ops->deadline(h[1].st);
		uint32_t n;

		now += step;
		n = ops->poll(h[0].st, now) + ops->poll(h[1].st, now);
		if (n)
			continue;
		if (reorder) {
			hal_mem_release_delayed(h[0].port);
			hal_mem_release_delayed(h[1].port);
		}
		if (b < a)
			a = b;
		if (a > end)
			a = end;
		if (a > now)
			now = a;
	}
}

static struct shm_session *sock(int i, int family)
{
	struct shm_session *s = shm_session_alloc(h[i].region, (uint8_t)family, IPPROTO_TCP);

	CHECK(s != NULL);
	h[i].events[s->id] = 0;
	CHECK(!ops->open(h[i].st, s));
	return s;
}

static __attribute__((unused)) struct shm_session *listener(int i, const char *addr, uint16_t port,
							     int backlog)
{
	struct nst_addr a = ip(addr, port);
	struct shm_session *s = sock(i, a.family);

	CHECK(!ops->bind(h[i].st, s, &a));
	CHECK(!ops->listen(h[i].st, s, backlog));
	return s;
}

static __attribute__((unused)) struct shm_session *dial(int i, const char *addr, uint16_t port)
{
	struct nst_addr a = ip(addr, port);
	struct shm_session *s = sock(i, a.family);

	CHECK(ops->connect(h[i].st, s, &a) == -EINPROGRESS);
	return s;
}

static __attribute__((unused)) struct shm_session *take(int i, struct shm_session *l)
{
	struct fifo f = shm_session_rx(h[i].region, l);
	uint32_t id;

	if (fifo_read(&f, &id, 4) != 4)
		return NULL;
	return shm_session_get(h[i].region, id);
}

/* A connection from h[0] to a listener of h[1]. */
static __attribute__((unused)) void connected(struct shm_session **a, struct shm_session **b,
					       struct shm_session *l, const char *addr, uint16_t port)
{
	*a = dial(0, addr, port);
	for (int i = 0; i < 20; i++)
		poll_both();
	*b = take(1, l);
	CHECK(*b != NULL);
	CHECK((*a)->state == SHM_S_CONNECTED);
	if (!*b)
		exit(1);
	CHECK((*b)->state == SHM_S_CONNECTED);
}

static __attribute__((unused)) uint32_t put(int i, struct shm_session *s, const void *p, uint32_t n,
					     uint32_t flags)
{
	struct fifo f = shm_session_tx(h[i].region, s);

	n = fifo_write(&f, p, n);
	if (!(flags & STACK_TX_MORE))
		s->push_pos = fifo_head(&f);
	ops->tx_ready(h[i].st, s, flags);
	ops->flush(h[i].st);
	return n;
}

static __attribute__((unused)) uint32_t get(int i, struct shm_session *s, void *p, uint32_t n)
{
	struct fifo f = shm_session_rx(h[i].region, s);

	n = fifo_read(&f, p, n);
	if (n && fifo_tail(&f) >= s->rx_update_at)
		ops->rx_freed(h[i].st, s);
	return n;
}

static __attribute__((unused)) struct tcp_conn *conn(int i, struct shm_session *s)
{
	return tcp_of((struct tcpip *)h[i].st, s);
}

static __attribute__((unused)) uint8_t state(int i, struct shm_session *s)
{
	struct tcp_conn *c = conn(i, s);

	return c ? c->state : 0;
}

static __attribute__((unused)) void setint(int i, struct shm_session *s, int opt, int v)
{
	CHECK(!ops->setopt(h[i].st, s, opt, &v, sizeof(v)));
	ops->flush(h[i].st);
}

static __attribute__((unused)) uint32_t used_sessions(int i)
{
	struct shm_region_stats rs;

	shm_region_stats(h[i].region, &rs);
	return rs.used;
}

/* A segment as if from s's peer to host i, addresses of s. */
static __attribute__((unused)) void inject(int i, const struct nst_addr *local,
					    const struct nst_addr *remote, uint32_t seq,
					    uint32_t ack, uint8_t flags, uint32_t wnd, uint32_t len)
{
	struct tcpip *t = (struct tcpip *)h[i].st;
	uint8_t p[14 + 20 + 20 + 1500];
	struct hal_frame f = { .data = p, .len = 54 + len };
	uint8_t *l3 = p + 14, *l4 = p + 34;
	uint16_t c, tot = htons((uint16_t)(40 + len));

	memset(p, 0, sizeof(p));
	memcpy(p, h[i].port->mac, 6);
	memcpy(p + 6, h[!i].port->mac, 6);
	p[12] = 8;
	l3[0] = 0x45;
	memcpy(l3 + 2, &tot, 2);
	l3[8] = 64;
	l3[9] = IPPROTO_TCP;
	memcpy(l3 + 12, &remote->v4, 4);
	memcpy(l3 + 16, &local->v4, 4);
	c = csum_fold(csum_partial(l3, 20, 0));
	memcpy(l3 + 10, &c, 2);
	memcpy(l4, &remote->port, 2);
	memcpy(l4 + 2, &local->port, 2);
	seq = htonl(seq);
	ack = htonl(ack);
	memcpy(l4 + 4, &seq, 4);
	memcpy(l4 + 8, &ack, 4);
	l4[12] = 0x50;
	l4[13] = flags;
	l4[14] = (uint8_t)(wnd >> 8);
	l4[15] = (uint8_t)wnd;
	c = csum_fold(csum_partial(l4, 20 + len, csum_pseudo(remote, local, IPPROTO_TCP, 20 + len)));
	memcpy(l4 + 16, &c, 2);
	t->now = now;
	ip_input(t, t->ports[0], &f, 1);
	tcp_work(t);
	ip_flush(t);
}

#endif
