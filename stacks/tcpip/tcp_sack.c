/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_sack.c - the scoreboard: what the peer holds, what it misses, what is lost
 *
 * Kept as the gaps ("holes") below fack, the end of the highest byte that the peer reported; all else
 * between una and fack has arrived. Only segments that lie in a hole found lost are sent again, so
 * nxt never goes back.
 *
 * A hole is lost when enough was reported above it (RFC 6675; the number of segments grows with the
 * reordering that the path shows) or when it has been one for longer than a part of the round trip
 * (the idea of RFC 8985). A retransmission is itself lost when something sent after it arrived.
 *
 * Without SACK there is at most one hole, made by duplicate acknowledgements.
 *
 * Threads: under the worker's lock. Not here: sending.
 */
#include "tcp_internal.h"

#include <stdlib.h>

#define REORDERING_MAX 300u

void tcp_sack_reset(struct tcp_conn *c)
{
	c->nholes = 0;
	c->fack = c->una;
}

/* Room for one more at index i. */
static bool hole_insert(struct tcpip *t, struct tcp_conn *c, uint32_t i)
{
	if (c->nholes == c->holes_room) {
		uint32_t room = c->holes_room ? c->holes_room * 4 : 8;
		struct tcp_hole *h;

		if (c->nholes >= TCP_HOLES_MAX) {
			COUNT(t, tcp_sack_full);
			return false;
		}
		h = realloc(c->holes, room * sizeof(*h));
		if (!h)
			return false;
		c->holes = h;
		c->holes_room = room;
	}
	memmove(c->holes + i + 1, c->holes + i, (c->nholes - i) * sizeof(*c->holes));
	c->nholes++;
	memset(c->holes + i, 0, sizeof(*c->holes));
	return true;
}

static void hole_remove(struct tcp_conn *c, uint32_t i)
{
	memmove(c->holes + i, c->holes + i + 1, (c->nholes - i - 1) * sizeof(*c->holes));
	c->nholes--;
}

static void hole_set(struct tcpip *t, struct tcp_hole *h, uint32_t start, uint32_t end)
{
	h->start = h->rxt = start;
	h->end = end;
	h->mark = start;
	h->born = t->now;
	h->rxt_time = 0;
	h->lost = false;
}

/* Bytes [start, end) of hole h have arrived. */
static void hole_filled(struct tcpip *t, struct tcp_conn *c, const struct tcp_hole *h, uint32_t start,
			uint32_t end)
{
	if (h->rxt_time && seq_lt(start, h->rxt)) {
		if (h->rxt_time > c->rack_time)
			c->rack_time = h->rxt_time;
	} else if (!h->rxt_time && c->flags & TCP_F_SACK) {
		/* it was only late: how far had the others come? */
		uint32_t segs = (c->fack - start) / c->mss + 1;

		if (segs > c->reordering && seq_gt(c->fack, end)) {
			COUNT(t, tcp_reordering);
			c->reord_seen++;
			c->reordering = min_u32(segs, REORDERING_MAX);
		}
	}
}

/* One block arrived that lies below fack. Returns bytes that are news. */
static uint32_t sack_below(struct tcpip *t, struct tcp_conn *c, uint32_t start, uint32_t end)
{
	uint32_t news = 0, i = 0;

	while (i < c->nholes) {
		struct tcp_hole *h = &c->holes[i];
		uint32_t s = seq_max(start, h->start), e = seq_min(end, h->end);

		if (seq_ge(h->start, end))
			break;
		if (seq_ge(s, e)) {
			i++;
			continue;
		}
		hole_filled(t, c, h, s, e);
		news += e - s;
		if (s == h->start && e == h->end) {
			hole_remove(c, i);
			continue;
		}
		if (s == h->start) {
			h->start = e;
			h->rxt = seq_max(h->rxt, e);
		} else if (e == h->end) {
			h->end = s;
			h->rxt = seq_min(h->rxt, s);
		} else {
			struct tcp_hole upper = *h;

			if (!hole_insert(t, c, i + 1))
				return news - (e - s);
			h = &c->holes[i];
			upper.start = e;
			upper.rxt = seq_max(upper.rxt, e);
			c->holes[i + 1] = upper;
			h->end = s;
			h->rxt = seq_min(h->rxt, s);
			i++;
		}
		i++;
	}
	return news;
}

static uint32_t sack_block(struct tcpip *t, struct tcp_conn *c, uint32_t start, uint32_t end)
{
	uint32_t news = 0;

	if (seq_lt(start, c->fack))
		news = sack_below(t, c, start, seq_min(end, c->fack));
	if (seq_gt(end, c->fack)) {
		uint32_t from = seq_max(start, c->fack);

		if (from != c->fack) {
			if (!hole_insert(t, c, c->nholes))
				return news;
			hole_set(t, &c->holes[c->nholes - 1], c->fack, from);
		}
		news += end - from;
		c->fack = end;
	}
	return news;
}

uint32_t tcp_sack_input(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	uint32_t news = 0;

	if (seq_lt(c->fack, c->una))
		c->fack = c->una;
	for (uint32_t i = 0; i < g->nsack; i++) {
		uint32_t s = g->sack[i].start, e = g->sack[i].end;

		if (seq_ge(s, e) || seq_gt(e, c->nxt)) {
			COUNT(t, tcp_sack_bad);
			continue;
		}
		if (seq_le(e, g->ack)) { /* RFC 2883: a duplicate */
			if (i == 0) {
				COUNT(t, tcp_dsack_in);
				c->dsack_dups++;
			}
			continue;
		}
		if (seq_lt(s, c->una))
			s = c->una;
		if (seq_lt(s, e))
			news += sack_block(t, c, s, e);
	}
	if (news)
		COUNT(t, tcp_sack_in);
	return news;
}

void tcp_sack_acked(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t n = 0;

	while (n < c->nholes && seq_le(c->holes[n].end, c->una)) {
		hole_filled(t, c, &c->holes[n], c->holes[n].start, c->holes[n].end);
		n++;
	}
	if (n) {
		c->nholes -= n;
		memmove(c->holes, c->holes + n, c->nholes * sizeof(*c->holes));
	}
	if (c->nholes && seq_lt(c->holes[0].start, c->una)) {
		struct tcp_hole *h = &c->holes[0];

		hole_filled(t, c, h, h->start, c->una);
		h->start = c->una;
		h->rxt = seq_max(h->rxt, c->una);
	}
	if (seq_lt(c->fack, c->una))
		c->fack = c->una;
	/* The peer acknowledged up to data that it said to have, and no further: it threw it away
	 * (RFC 2018 section 8). */
	if (c->fack != c->una && (!c->nholes || c->holes[0].start != c->una)) {
		COUNT(t, tcp_sack_reneged);
		if (hole_insert(t, c, 0))
			hole_set(t, &c->holes[0], c->una, c->nholes > 1 ? c->holes[1].start : c->fack);
		if (c->nholes)
			c->holes[0].lost = true;
	}
}

static uint64_t reo_wnd(const struct tcp_conn *c)
{
	uint64_t w = c->srtt / 4;

	return w < NS_PER_MS ? NS_PER_MS : w;
}

/* Is the last retransmission of h lost as well? */
static bool rexmit_lost(const struct tcpip *t, const struct tcp_conn *c, const struct tcp_hole *h)
{
	if (!h->rxt_time || h->rxt == h->start)
		return false;
	if (seq_gt(c->fack, h->mark) && c->fack - h->mark > c->reordering * c->mss)
		return true;
	return h->rxt_time < c->rack_time && t->now - h->rxt_time > c->srtt + reo_wnd(c);
}

bool tcp_sack_mark(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t above = 0, top = c->fack;
	bool found = false;

	for (uint32_t i = c->nholes; i-- > 0;) {
		struct tcp_hole *h = &c->holes[i];

		above += top - h->end;
		top = h->start;
		if (!h->lost) {
			if (above > (c->reordering - 1) * c->mss ||
			    (above && t->now - h->born >= reo_wnd(c))) {
				h->lost = true;
				h->rxt = h->start;
				h->rxt_time = 0;
				found = true;
			}
		} else if (rexmit_lost(t, c, h)) {
			COUNT(t, tcp_lost_rexmit);
			h->rxt = h->start;
			h->mark = c->nxt;
			h->rxt_time = t->now;
			found = true;
		}
	}
	if (found && c->ca == TCP_CA_OPEN) {
		COUNT(t, tcp_recoveries);
		COUNT(t, tcp_fast_rexmit);
		c->undo_cwnd = c->cwnd;
		c->undo_ssthresh = c->ssthresh;
		c->undo_ts = 0;
		c->ca = TCP_CA_RECOVERY;
		c->recover = c->nxt;
		c->ssthresh = c->cc->ssthresh(c, t->now);
		c->cwnd = c->ssthresh;
	}
	return found;
}

void tcp_sack_all_lost(struct tcpip *t, struct tcp_conn *c)
{
	for (uint32_t i = 0; i < c->nholes; i++) {
		c->holes[i].lost = true;
		c->holes[i].rxt = c->holes[i].start;
		c->holes[i].rxt_time = 0;
	}
	/* The peer said that it has what is at una, but its acknowledgement was lost: without
	 * something sent again none will ever come. */
	if (c->fack != c->una && (!c->nholes || c->holes[0].start != c->una) && hole_insert(t, c, 0)) {
		hole_set(t, &c->holes[0], c->una,
			 seq_min(c->una + c->mss, c->nholes > 1 ? c->holes[1].start : c->fack));
		c->holes[0].lost = true;
	}
	if (c->fack == c->nxt)
		return;
	if (hole_insert(t, c, c->nholes)) {
		hole_set(t, &c->holes[c->nholes - 1], c->fack, c->nxt);
	} else { /* forget what we know and send it all again */
		c->nholes = 0;
		c->fack = c->una;
		if (!hole_insert(t, c, 0))
			return;
		hole_set(t, &c->holes[0], c->una, c->nxt);
	}
	c->holes[c->nholes - 1].lost = true;
	c->fack = c->nxt;
}

void tcp_sack_first_lost(struct tcpip *t, struct tcp_conn *c)
{
	if (c->nholes || c->una == c->nxt || !hole_insert(t, c, 0))
		return;
	hole_set(t, &c->holes[0], c->una, seq_min(c->una + c->mss, c->nxt));
	c->holes[0].lost = true;
	c->fack = seq_max(c->fack, c->holes[0].end);
}

uint32_t tcp_pipe(const struct tcp_conn *c)
{
	uint32_t pipe = c->nxt - c->fack, dup;

	for (uint32_t i = 0; i < c->nholes; i++) {
		const struct tcp_hole *h = &c->holes[i];

		pipe += h->lost ? h->rxt - h->start : h->end - h->start;
	}
	if (!(c->flags & TCP_F_SACK)) { /* each duplicate acknowledgement tells of an arrival */
		dup = c->dupacks * (uint32_t)c->mss;
		pipe = pipe > dup ? pipe - dup : 0;
	}
	return pipe;
}
