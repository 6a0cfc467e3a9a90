/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_timewait.c - what is left of a connection that nobody uses any more
 *
 * TIME_WAIT, and FIN_WAIT2 of a closed socket, need neither FIFOs nor a session: a record of what is
 * needed to answer stray segments stays in the connection table for 60 seconds. A connection that
 * another TCP has taken over leaves a record, too, for as long as packets may still be in the receive
 * rings. Each kind expires in the order in which it came, so each is a queue and one timer serves all.
 * At the bound the oldest record goes.
 *
 * A new SYN may take the addresses over when it is provably younger (RFC 6191, RFC 9293 3.10.7.4);
 * a reset does not end TIME_WAIT (RFC 1337).
 *
 * Threads: under the worker's lock.
 */
#include "tcp_internal.h"

#define TW_ACK_EVERY_NS (NS_PER_S / 2)
#define DEFAULT_MAX 32768u /* records, where the configuration says nothing */
#define MOVED_NS NS_PER_S /* packets do not lie in a ring for longer */

static void tw_unlink(struct tcp *tc, struct tcp_tw *w)
{
	int q = w->kind;

	*(w->prev ? &w->prev->tnext : &tc->tw_head[q]) = w->tnext;
	*(w->tnext ? &w->tnext->prev : &tc->tw_tail[q]) = w->prev;
}

static void tw_arm(struct tcpip *t)
{
	struct tcp *tc = t->tcp;
	uint64_t at = UINT64_MAX;

	for (int q = 0; q < TCP_TW_NR_; q++)
		if (tc->tw_head[q] && tc->tw_head[q]->expires < at)
			at = tc->tw_head[q]->expires;
	if (at != UINT64_MAX && (!wheel_armed(&tc->tw_timer) || at < tc->tw_timer.at))
		wheel_add(&t->wheel, &tc->tw_timer, at);
}

/* To the end of its queue, with a fresh life. FIN_WAIT2's time-out may differ between sockets: it is
 * put behind those that expire no later. */
static void tw_queue(struct tcpip *t, struct tcp_tw *w, uint64_t life)
{
	struct tcp *tc = t->tcp;
	int q = w->kind;
	struct tcp_tw *after = tc->tw_tail[q];

	w->expires = t->now + life;
	for (int i = 0; after && after->expires > w->expires && i < 64; i++)
		after = after->prev;
	if (after && after->expires > w->expires) {
		after = tc->tw_tail[q]; /* bounded search: it lives a little longer */
		w->expires = after->expires;
	}
	w->prev = after;
	w->tnext = after ? after->tnext : tc->tw_head[q];
	*(after ? &after->tnext : &tc->tw_head[q]) = w;
	*(w->tnext ? &w->tnext->prev : &tc->tw_tail[q]) = w;
	tw_arm(t);
}

void tcp_tw_free(struct tcpip *t, struct tcp_tw *w)
{
	tw_unlink(t->tcp, w);
	tcp_node_del(t, &w->n);
	tcpip_port_put(t, w->port);
	t->tcp->ntw--;
	tcp_pool_put(&t->tcp->tws, w);
}

static void tw_fired(void *arg, struct wheel_timer *timer)
{
	struct tcpip *t = arg;

	for (int q = 0; q < TCP_TW_NR_; q++)
		while (t->tcp->tw_head[q] && t->tcp->tw_head[q]->expires <= t->now) {
			if (q == TCP_TW_FIN)
				COUNT(t, tcp_finwait2_timeouts);
			tcp_tw_free(t, t->tcp->tw_head[q]);
		}
	tw_arm(t);
}

void tcp_tw_init(struct tcpip *t)
{
	t->tcp->tw_timer.fn = tw_fired;
}

static void tw_fill(struct tcpip *t, struct tcp_tw *w, struct tcp_conn *c)
{
	w->n.kind = TCP_K_TW;
	w->n.local = c->n.local;
	w->n.remote = c->n.remote;
	w->rcv_nxt = c->rcv_nxt;
	w->snd_nxt = c->nxt;
	w->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt);
	w->rcv_wnd = min_u32((seq_gt(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0) >>
			     c->rcv_wscale, 65535);
	w->ts = c->flags & TCP_F_TS;
	w->ts_recent = c->ts_recent;
	w->ts_off = c->ts_off;
	w->entered = t->now;
}

static void oldest_goes(struct tcpip *t)
{
	COUNT(t, tcp_timewait_full);
	for (int q = 0; q < TCP_TW_NR_; q++)
		if (t->tcp->tw_head[q]) {
			tcp_tw_free(t, t->tcp->tw_head[q]);
			return;
		}
}

void tcp_tw_limit(struct tcpip *t)
{
	t->tcp->max_tw = t->cfg.max_timewait ? t->cfg.max_timewait : DEFAULT_MAX;
	while (t->tcp->ntw > t->tcp->max_tw)
		oldest_goes(t);
}

bool tcp_tw_enter(struct tcpip *t, struct tcp_conn *c, enum tcp_tw_kind kind)
{
	uint64_t life = kind == TCP_TW_MOVED ? MOVED_NS : TCP_TIMEWAIT_NS;
	struct tcp_tw *w;
	uint32_t hash = c->n.hash;

	if (c->todo & TCP_DO_ACK && kind != TCP_TW_MOVED) /* nobody will, later */
		tcp_send_ack(t, c);
	if (kind == TCP_TW_FIN && c->o.linger2_s > 0)
		life = (uint64_t)c->o.linger2_s * NS_PER_S;
	if (t->tcp->ntw >= t->tcp->max_tw)
		oldest_goes(t);
	w = tcp_pool_get(&t->tcp->tws);
	if (w) {
		if (kind == TCP_TW_MOVED)
			COUNT(t, tcp_moved);
		else
			COUNT(t, tcp_timewait);
		tw_fill(t, w, c);
		w->kind = (uint8_t)kind;
		w->port = c->port;
		c->port = NULL;
		t->tcp->ntw++;
		tw_queue(t, w, life);
	} else {
		COUNT(t, tcp_no_memory);
	}
	if (kind == TCP_TW_MOVED)
		tcp_conn_forget(t, c);
	else
		tcp_conn_end(t, c, 0);
	if (w)
		tcp_node_add(t, &w->n, hash);
	return w;
}

static void tw_ack(struct tcpip *t, struct tcp_tw *w, struct tcp_seg *g)
{
	if (w->ack_at && t->now - w->ack_at < TW_ACK_EVERY_NS && !(g->flags & TCP_FIN)) {
		COUNT(t, tcp_challenge_limited);
		return;
	}
	w->ack_at = t->now;
	tcp_reply_ack(t, g, w->snd_nxt, w->rcv_nxt, w->rcv_wnd, w->ts, tcp_ts_now(t) + w->ts_off,
		      w->ts_recent);
}

/* FIN_WAIT2 of a closed socket: only the peer's FIN is of use. */
static void fw2_input(struct tcpip *t, struct tcp_tw *w, struct tcp_seg *g)
{
	if (g->flags & TCP_RST) {
		if (g->seq == w->rcv_nxt) {
			COUNT(t, tcp_resets_in);
			tcp_tw_free(t, w);
		}
		return;
	}
	if (g->flags & TCP_SYN || !(g->flags & TCP_ACK)) {
		tw_ack(t, w, g);
		return;
	}
	if (seq_gt(g->seq, w->rcv_adv) || seq_lt(g->seq + g->len, w->rcv_nxt) ||
	    seq_gt(g->ack, w->snd_nxt) ||
	    (w->ts && g->ts && (int32_t)(g->tsval - w->ts_recent) < 0)) {
		COUNT(t, tcp_out_of_window); /* anybody could send that */
		tw_ack(t, w, g);
		return;
	}
	if (g->len && seq_gt(g->seq + g->len, w->rcv_nxt)) {
		COUNT(t, tcp_after_close);
		tcp_reply_rst(t, g);
		tcp_tw_free(t, w);
		return;
	}
	if (g->flags & TCP_FIN && g->seq + g->len == w->rcv_nxt) {
		w->rcv_nxt++;
		if (g->ts)
			w->ts_recent = g->tsval;
		tw_unlink(t->tcp, w);
		w->kind = TCP_TW_TIME;
		tw_queue(t, w, TCP_TIMEWAIT_NS);
		tcp_reply_ack(t, g, w->snd_nxt, w->rcv_nxt, w->rcv_wnd, w->ts,
			      tcp_ts_now(t) + w->ts_off, w->ts_recent);
		return;
	}
	if (g->len || g->flags & TCP_FIN)
		tw_ack(t, w, g);
}

bool tcp_tw_input(struct tcpip *t, struct tcp_tw *w, struct tcp_seg *g, uint32_t *isn)
{
	bool paws = w->ts && g->ts && (int32_t)(g->tsval - w->ts_recent) < 0;

	if (w->kind == TCP_TW_MOVED) {
		COUNT(t, tcp_moved_in); /* the peer sends it again, to where it belongs now */
		return true;
	}
	if (w->kind == TCP_TW_FIN) {
		fw2_input(t, w, g);
		return true;
	}
	if (g->flags & TCP_RST) {
		COUNT(t, tcp_timewait_rst);
		return true;
	}
	if ((g->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !paws &&
	    (seq_gt(g->seq, w->rcv_nxt) ||
	     (w->ts && g->ts && (int32_t)(g->tsval - w->ts_recent) > 0))) {
		*isn = w->snd_nxt + 65535 + 2;
		if (!*isn)
			*isn = 1;
		COUNT(t, tcp_timewait_reused);
		tcp_tw_free(t, w);
		return false;
	}
	if (paws)
		COUNT(t, tcp_paws);
	if (g->flags & TCP_FIN && g->seq + g->len + 1 == w->rcv_nxt && !paws) {
		/* our last ACK was lost */
		tw_unlink(t->tcp, w);
		tw_queue(t, w, TCP_TIMEWAIT_NS);
		tw_ack(t, w, g);
		return true;
	}
	if (g->len || g->flags & (TCP_SYN | TCP_FIN) || g->seq != w->rcv_nxt)
		tw_ack(t, w, g);
	return true;
}
