/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_recv.c - the receiving half: payload, windows, when to acknowledge
 *
 * Payload is copied to its place in the rx FIFO at once, also when bytes before it are missing; the
 * ranges beyond rcv_nxt that are held are kept in a short sorted list. While there are any the FIFO
 * is not rewound. What is below rcv_nxt is published, and the program is told once per batch.
 *
 * Threads: under the worker's lock; the reader takes from the FIFO without it.
 */
#include "tcp_internal.h"

#include <nstack/barrier.h>
#include <stdlib.h>

#define LATE_NS (200 * NS_PER_US)

/* --- windows --------------------------------------------------------------------------------------- */

static uint32_t recv_limit(const struct tcp_conn *c)
{
	uint32_t limit = min_u32(c->s->rx_limit, c->rx.size);

	if (c->o.window_clamp && limit > c->o.window_clamp)
		limit = c->o.window_clamp;
	if (!c->o.rcvbuf_set && limit > c->rcv_win)
		limit = c->rcv_win;
	return limit;
}

/* The window starts well below the FIFO's size and doubles each time that the peer used up most of it
 * at once and the reader then took all: so a fast pair gets what the scheduler's pauses ask for, and a
 * slow reader keeps little memory. */
static void window_tune(struct tcp_conn *c, uint32_t told)
{
	if (c->win_grow) {
		c->win_grow = c->win_used = false;
		if (c->rcv_win < c->rx.size)
			c->rcv_win *= 2;
	} else if (told < c->rcv_win / 2) {
		c->win_used = true;
	}
}

uint32_t tcp_recv_window(struct tcp_conn *c)
{
	uint32_t told = seq_gt(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0;
	uint32_t max = 65535u << c->rcv_wscale, limit, used, wnd;

	window_tune(c, told);
	limit = recv_limit(c);
	used = fifo_used(&c->rx);
	wnd = limit > used ? limit - used : 0;
	if (wnd > max)
		wnd = max;
	/* RFC 9293 3.8.6.2.2: don't offer a little more */
	if (wnd < told + min_u32(limit / 2, c->rcv_mss))
		wnd = wnd < told ? wnd : told;
	/* nor take back what was offered */
	if (wnd < told)
		wnd = told;
	return wnd;
}

/* How much the reader must have taken before a window update is worth a packet. */
void tcp_recv_mark(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t limit = recv_limit(c), told, step;
	uint64_t head, at;

	told = seq_gt(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0;
	if (c->flags & (TCP_F_FIN_RCVD | TCP_F_CLOSED)) { /* nothing will come */
		at = UINT64_MAX;
	} else if (told >= limit / 2) { /* plenty: acknowledgements will tell */
		at = UINT64_MAX;
	} else {
		head = fifo_head(&c->rx);
		step = max_u32(2u * c->mss, limit / 8);
		if (step > limit / 2)
			step = limit / 2;
		if (step < told)
			step = told;
		at = head + told + step;
		at = at > limit ? at - limit : 0;
		if (head == fifo_tail(&c->rx) && told >= min_u32(limit / 4, 8u * c->mss))
			at = UINT64_MAX; /* nothing to read, and data may come: that will tell */
	}
	if (c->rx_mark == at)
		return;
	c->rx_mark = at;
	/* Full barrier: our store of rx_update_at before our load of tail, against the reader's store
	 * of tail before its load of rx_update_at. One of us sees that the mark was passed. */
	__atomic_store_n(&c->s->rx_update_at, at, __ATOMIC_SEQ_CST);
	nst_full_barrier();
	if (at != UINT64_MAX && __atomic_load_n(&c->rx.sh->tail, __ATOMIC_SEQ_CST) >= at)
		tcp_do(t, c, TCP_DO_ACK);
}

/* --- ranges beyond rcv_nxt ---------------------------------------------------------------------------- */

/* r grew; each range has one place at most, or a busy one would push the others out. */
static void recent_add(struct tcp_conn *c, const struct tcp_range *r, uint32_t seq)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < c->nrecent; k++)
		if (seq_lt(c->recent[k], r->start) || seq_ge(c->recent[k], r->end))
			c->recent[n++] = c->recent[k];
	if (n > TCP_SACK_MAX - 2)
		n = TCP_SACK_MAX - 2;
	memmove(c->recent + 1, c->recent, n * sizeof(c->recent[0]));
	c->recent[0] = seq;
	c->nrecent = (uint8_t)(n + 1);
}

/* Remember [start, end). False: no room for another range. */
static bool ooo_add(struct tcpip *t, struct tcp_conn *c, uint32_t start, uint32_t end)
{
	uint32_t i = c->nooo, j;

	while (i > 0 && seq_ge(c->ooo[i - 1].end, start)) /* new ones mostly go to the end */
		i--;
	for (j = i; j < c->nooo && seq_le(c->ooo[j].start, end); j++)
		;
	if (i == j) {
		if (c->nooo == c->ooo_room) {
			uint32_t room = c->ooo_room ? c->ooo_room * 4 : 16;
			struct tcp_range *r;

			if (c->nooo >= TCP_OOO_MAX)
				return false;
			r = realloc(c->ooo, room * sizeof(*r));
			if (!r)
				return false;
			c->ooo = r;
			c->ooo_room = room;
		}
		memmove(c->ooo + i + 1, c->ooo + i, (c->nooo - i) * sizeof(*c->ooo));
		c->nooo++;
		c->sack_news++;
		c->ooo[i].start = start;
		c->ooo[i].end = end;
	} else {
		c->ooo[i].start = seq_min(c->ooo[i].start, start);
		c->ooo[i].end = seq_max(c->ooo[j - 1].end, end);
		memmove(c->ooo + i + 1, c->ooo + j, (c->nooo - j) * sizeof(*c->ooo));
		c->nooo -= j - i - 1;
	}
	recent_add(c, &c->ooo[i], start);
	return true;
}

/* rcv_nxt has moved to seq: how far do held ranges let it go? */
static uint32_t ooo_advance(struct tcp_conn *c, uint32_t seq)
{
	uint32_t n = 0;

	while (n < c->nooo && seq_le(c->ooo[n].start, seq)) {
		seq = seq_max(seq, c->ooo[n].end);
		n++;
	}
	if (n) {
		c->nooo -= n;
		memmove(c->ooo, c->ooo + n, c->nooo * sizeof(*c->ooo));
	}
	if (!c->nooo)
		c->nrecent = 0;
	return seq;
}

void tcp_recv_dup(struct tcp_conn *c, uint32_t start, uint32_t end)
{
	if (!(c->flags & TCP_F_SACK) || !seq_lt(start, end))
		return;
	c->dsack.start = start;
	c->dsack.end = end;
}

uint32_t tcp_recv_sacks(struct tcp_conn *c, struct tcp_range *out, uint32_t max)
{
	uint32_t n = 0, i, k;

	if (!(c->flags & TCP_F_SACK))
		return 0;
	if (c->dsack.start != c->dsack.end) {
		out[n++] = c->dsack;
		c->dsack.start = c->dsack.end = 0;
	}
	c->sack_news = 0;
	for (k = 0; k < c->nrecent && n < max; k++) {
		for (i = 0; i < c->nooo; i++)
			if (seq_le(c->ooo[i].start, c->recent[k]) && seq_lt(c->recent[k], c->ooo[i].end))
				break;
		if (i == c->nooo)
			continue;
		for (uint32_t m = 0; m < n; m++)
			if (out[m].start == c->ooo[i].start && out[m].end == c->ooo[i].end) {
				i = c->nooo;
				break;
			}
		if (i < c->nooo)
			out[n++] = c->ooo[i];
	}
	return n;
}

/* --- payload -------------------------------------------------------------------------------------------- */

static void store(struct tcp_conn *c, const struct tcp_seg *g, uint32_t skip, uint32_t at,
		  uint32_t len)
{
	struct iovec v[IP_PKT_IOV];
	uint32_t n = ip_pkt_spans(g->p, g->off + skip, len, v);

	for (uint32_t i = 0; i < n; i++) {
		fifo_store(&c->rx, at, v[i].iov_base, (uint32_t)v[i].iov_len);
		at += (uint32_t)v[i].iov_len;
	}
}

/* A quick acknowledgement waits a moment: a server that answers at once has sent its answer by then,
 * with the acknowledgement on it, and saved a packet. */
static void ack_soon(struct tcpip *t, struct tcp_conn *c)
{
	c->ack_late = true;
	if (c->late)
		return;
	c->late = true;
	if (!t->tcp->late)
		t->tcp->late_since = t->now;
	c->late_next = t->tcp->late;
	t->tcp->late = c;
}

void tcp_ack_late(struct tcpip *t)
{
	struct tcp_conn *c = t->tcp->late, *next;

	if (!c || t->now < t->tcp->late_since + LATE_NS)
		return;
	t->tcp->late = NULL;
	for (; c; c = next) {
		next = c->late_next;
		c->late = false;
		if (c->ack_late && c->state != TCP_S_CLOSE)
			tcp_do(t, c, TCP_DO_ACK);
	}
}

uint64_t tcp_ack_late_due(const struct tcpip *t)
{
	return t->tcp->late ? t->tcp->late_since + LATE_NS : UINT64_MAX;
}

void tcp_recv_forget(struct tcpip *t, struct tcp_conn *c)
{
	struct tcp_conn **pp = &t->tcp->late;

	if (!c->late)
		return;
	while (*pp != c)
		pp = &(*pp)->late_next;
	*pp = c->late_next;
	c->late = false;
}

/* Acknowledge now, or with the next data, or in a while? */
static void ack_policy(struct tcpip *t, struct tcp_conn *c, uint32_t got)
{
	bool quick = c->quick && !(c->flags & TCP_F_PINGPONG);

	if (got > c->rcv_mss)
		c->rcv_mss = min_u32(got, c->mss);
	if (c->o.no_quickack)
		quick = false;
	if (c->rcv_nxt - c->rcv_acked >= 2u * c->mss) {
		tcp_do(t, c, TCP_DO_ACK);
		return;
	}
	if (quick) {
		ack_soon(t, c);
		return;
	}
	if (!c->due[TCP_T_DELACK])
		tcp_timer_set(t, c, TCP_T_DELACK, t->now + TCP_DELACK_MAX);
}

static void recv_in_order(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g,
			  uint32_t skip, uint32_t len)
{
	uint32_t next = c->rcv_nxt + len, all;
	bool had_holes = c->nooo;

	if (!had_holes)
		fifo_rewind(&c->rx);
	if (c->win_used && !fifo_used(&c->rx))
		c->win_grow = true;
	store(c, g, skip, 0, len);
	if (had_holes)
		next = ooo_advance(c, next);
	all = next - c->rcv_nxt;
	fifo_publish(&c->rx, all);
	c->rcv_nxt = next;
	c->bytes_received += all;
	COUNT_ADD(t, tcp_bytes_in, all);
	if (t->now - c->last_data_rcv > c->rto && c->last_data_rcv)
		c->quick = c->quick > 2 ? c->quick : 2; /* a pause: the sender starts slowly again */
	c->last_data_rcv = t->now;
	if (had_holes)
		tcp_do(t, c, TCP_DO_ACK); /* RFC 5681: when a gap is filled, in whole or part */
	else
		ack_policy(t, c, len);
	tcp_ev(t, c, STACK_EV_IN);
}

static void recv_out_of_order(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g,
			      uint32_t skip, uint32_t seq, uint32_t len)
{
	COUNT(t, tcp_ooo_in);
	tcp_do(t, c, TCP_DO_ACK);
	for (uint32_t i = 0; i < c->nooo; i++)
		if (seq_le(c->ooo[i].start, seq) && seq_ge(c->ooo[i].end, seq + len)) {
			COUNT(t, tcp_dup_in);
			tcp_recv_dup(c, seq, seq + len);
			return;
		}
	if (!ooo_add(t, c, seq, seq + len)) {
		COUNT(t, tcp_ooo_dropped);
		return;
	}
	store(c, g, skip, seq - c->rcv_nxt, len);
	/* One acknowledgement for the batch will do, unless the peer counts them, or they could not
	 * tell of all that is new. */
	if (!(c->flags & TCP_F_SACK) || c->sack_news >= TCP_SACK_MAX - 1)
		tcp_send_ack(t, c);
}

void tcp_recv_data(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	uint32_t seq = g->seq, len = g->len, skip = 0, edge, space;

	c->data_segs_in++;
	if (seq_lt(seq, c->rcv_nxt)) { /* the front is old */
		skip = c->rcv_nxt - seq;
		COUNT(t, tcp_dup_in);
		tcp_recv_dup(c, seq, skip >= len ? seq + len : c->rcv_nxt);
		tcp_do(t, c, TCP_DO_ACK);
		if (skip >= len)
			return;
		seq += skip;
		len -= skip;
	}
	/* nothing beyond what was offered, and never more than there is space for */
	edge = c->rcv_adv;
	space = fifo_space(&c->rx);
	if (seq_gt(edge, c->rcv_nxt + space))
		edge = c->rcv_nxt + space;
	if (seq_ge(seq, edge)) {
		COUNT(t, tcp_out_of_window);
		tcp_do(t, c, TCP_DO_ACK);
		return;
	}
	if (seq_gt(seq + len, edge)) {
		COUNT(t, tcp_out_of_window);
		tcp_do(t, c, TCP_DO_ACK);
		len = edge - seq;
	}
	if (seq == c->rcv_nxt)
		recv_in_order(t, c, g, skip, len);
	else
		recv_out_of_order(t, c, g, skip, seq, len);
}
