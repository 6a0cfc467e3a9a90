/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_ack.c - what an acknowledgement brings
 *
 * Frees the tx FIFO, measures the round trip (RFC 6298; a timed segment in ns, a timestamp echo when
 * segments were sent again), takes the window (RFC 9293 3.10.7.4), drives loss recovery: OPEN until a
 * hole is found lost, RECOVERY until all that was out then is acknowledged (RFC 6675), LOSS after a
 * retransmission time-out. A recovery that timestamps prove needless is undone (RFC 3522).
 *
 * Threads: under the worker's lock; the writer adds to the FIFO without it.
 */
#include "tcp_internal.h"

#include <nstack/barrier.h>

/* --- round trip ------------------------------------------------------------------------------------ */

void tcp_rtt_sample(struct tcp_conn *c, uint64_t rtt)
{
	uint64_t dev, var;

	if (!rtt)
		rtt = 1;
	if (!c->min_rtt || rtt < c->min_rtt)
		c->min_rtt = rtt;
	if (!c->srtt) {
		c->srtt = rtt;
		c->rttvar = rtt / 2;
	} else {
		dev = rtt > c->srtt ? rtt - c->srtt : c->srtt - rtt;
		c->rttvar = c->rttvar - c->rttvar / 4 + dev / 4;
		c->srtt = c->srtt - c->srtt / 8 + rtt / 8;
		if (!c->srtt)
			c->srtt = 1;
	}
	/* as Linux: the variance part is at least RTO_MIN, so that a delayed ACK never times out */
	var = 4 * c->rttvar;
	if (var < TCP_RTO_MIN)
		var = TCP_RTO_MIN;
	c->rto = c->srtt + var;
	if (c->rto > TCP_RTO_MAX)
		c->rto = TCP_RTO_MAX;
}

static void rtt_from_ack(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	if (c->rtt_start && seq_ge(g->ack, c->rtt_seq)) {
		tcp_rtt_sample(c, t->now - c->rtt_start);
		c->rtt_start = 0;
		return;
	}
	/* not timed because of retransmissions: the echo is coarse but true */
	if (!c->rtt_start && c->flags & TCP_F_TS && g->ts && g->tsecr) {
		uint32_t ms = tcp_ts_now(t) + c->ts_off - g->tsecr;

		if (ms < 60000 && (ms || !c->srtt))
			tcp_rtt_sample(c, (ms ? ms : 1) * NS_PER_MS);
	}
}

/* --- timers ------------------------------------------------------------------------------------------- */

static void rexmit_set(struct tcpip *t, struct tcp_conn *c)
{
	uint64_t at = c->rexmit_from + tcp_rto_now(c), pto;

	c->rexmit_mode = TCP_RM_RTO;
	/* RFC 8985 7.2: a probe before the time-out, when nothing is known to be missing */
	if (c->ca == TCP_CA_OPEN && !c->nholes && !(c->flags & TCP_F_TLP_DONE) && c->srtt &&
	    c->flags & TCP_F_SACK && c->state != TCP_S_SYN_RECV) {
		pto = 2 * c->srtt + 2 * NS_PER_MS;
		if (c->nxt - c->una <= c->mss)
			pto += TCP_DELACK_MAX * 2;
		if (t->now + pto < at) {
			c->rexmit_mode = TCP_RM_TLP;
			at = t->now + pto;
		}
	}
	tcp_timer_set(t, c, TCP_T_REXMIT, at);
}

void tcp_rexmit_arm(struct tcpip *t, struct tcp_conn *c)
{
	c->rexmit_from = t->now;
	if (c->una != c->nxt) {
		rexmit_set(t, c);
		return;
	}
	tcp_timer_off(c, TCP_T_REXMIT);
	c->rexmit_mode = TCP_RM_RTO;
}

void tcp_rexmit_sent(struct tcpip *t, struct tcp_conn *c)
{
	if (c->rexmit_mode == TCP_RM_PERSIST || !c->due[TCP_T_REXMIT])
		tcp_rexmit_arm(t, c);
	else if (c->rexmit_mode == TCP_RM_TLP)
		rexmit_set(t, c); /* the probe is for the end of what is out */
}

void tcp_ack_reo_timer(struct tcpip *t, struct tcp_conn *c)
{
	uint64_t w = c->srtt / 4 < NS_PER_MS ? NS_PER_MS : c->srtt / 4, at = 0;

	for (uint32_t i = 0; i < c->nholes; i++) {
		uint64_t due;

		if (!c->holes[i].lost)
			due = c->holes[i].born + w;
		else if (c->holes[i].rxt_time && c->holes[i].rxt_time < c->rack_time)
			due = c->holes[i].rxt_time + c->srtt + w + 1;
		else
			continue;
		if (!at || due < at)
			at = due;
	}
	if (!at)
		tcp_timer_off(c, TCP_T_REO);
	else
		tcp_timer_set(t, c, TCP_T_REO, at > t->now ? at : t->now + NS_PER_MS / 2);
}

/* --- recovery --------------------------------------------------------------------------------------------- */

void tcp_ack_enter_loss(struct tcpip *t, struct tcp_conn *c)
{
	if (c->ca == TCP_CA_OPEN || (c->ca == TCP_CA_RECOVERY && !c->backoff)) {
		if (c->ca == TCP_CA_OPEN) {
			c->undo_cwnd = c->cwnd;
			c->undo_ssthresh = c->ssthresh;
			c->ssthresh = c->cc->ssthresh(c, t->now);
		}
		c->undo_ts = 0;
	}
	c->ca = TCP_CA_LOSS;
	c->recover = c->nxt;
	c->cwnd = c->mss;
	c->dupacks = 0;
	c->rtt_start = 0;
	c->rack_time = 0;
	tcp_timer_off(c, TCP_T_REO);
	tcp_sack_all_lost(t, c);
}

static void leave_recovery(struct tcp_conn *c)
{
	if (c->ca == TCP_CA_RECOVERY)
		c->cwnd = c->ssthresh;
	c->ca = TCP_CA_OPEN;
	c->dupacks = 0;
	c->undo_ts = 0;
	c->rack_time = 0;
}

/* RFC 3522: the first acknowledgement of what was sent again echoes an older timestamp, so the
 * original had arrived. */
static void try_undo(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	if (!(c->undo_ts & TCP_UNDO_SET) || !(c->flags & TCP_F_TS) || !g->ts || !g->tsecr)
		return;
	if ((int32_t)(g->tsecr - (uint32_t)c->undo_ts) >= 0) {
		c->undo_ts = TCP_UNDO_NO;
		c->undo_cwnd = 0;
		return;
	}
	if (!c->undo_cwnd || c->ca == TCP_CA_OPEN)
		return;
	COUNT(t, tcp_spurious);
	if (c->undo_cwnd > c->cwnd)
		c->cwnd = c->undo_cwnd;
	if (c->undo_ssthresh > c->ssthresh)
		c->ssthresh = c->undo_ssthresh;
	if (c->cc->undo)
		c->cc->undo(c);
	if (!(c->flags & TCP_F_SACK) || c->ca == TCP_CA_LOSS) {
		c->nholes = 0; /* nothing need be sent again */
		c->fack = c->una;
	}
	c->ca = TCP_CA_OPEN;
	c->undo_ts = 0;
	c->undo_cwnd = 0;
}

static void recovery_step(struct tcpip *t, struct tcp_conn *c, uint32_t acked, bool dup)
{
	bool sack = c->flags & TCP_F_SACK;

	if (c->ca != TCP_CA_OPEN && seq_ge(c->una, c->recover))
		leave_recovery(c);
	if (!sack) {
		if (acked && c->ca == TCP_CA_OPEN)
			c->dupacks = 0;
		else if (acked)
			c->dupacks = c->dupacks > acked / c->mss ?
				(uint8_t)(c->dupacks - acked / c->mss) : 0;
		else if (dup && c->dupacks < 250)
			c->dupacks++;
		/* RFC 6582: the third duplicate, and each partial acknowledgement, show a loss */
		if ((c->ca == TCP_CA_OPEN && c->dupacks == 3) ||
		    (c->ca == TCP_CA_RECOVERY && acked && seq_lt(c->una, c->recover))) {
			bool enter = c->ca == TCP_CA_OPEN;

			tcp_sack_first_lost(t, c);
			if (enter) {
				COUNT(t, tcp_recoveries);
				COUNT(t, tcp_fast_rexmit);
				c->ca = TCP_CA_RECOVERY;
				c->recover = c->nxt;
				c->undo_cwnd = c->cwnd;
				c->undo_ssthresh = c->ssthresh;
				c->undo_ts = 0;
				c->ssthresh = c->cc->ssthresh(c, t->now);
				c->cwnd = c->ssthresh;
			}
		}
	} else if (c->nholes) {
		tcp_sack_mark(t, c);
		tcp_ack_reo_timer(t, c);
	}
}

/* --- the window -------------------------------------------------------------------------------------------- */

static void window_update(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	uint32_t wnd = g->wnd << c->snd_wscale;

	if (!(seq_gt(g->ack, c->una) || seq_gt(g->seq, c->wl1) ||
	      (g->seq == c->wl1 && (wnd > c->wnd || seq_gt(g->ack, c->wl2) || g->ack == c->wl2))))
		return;
	c->wl1 = g->seq;
	c->wl2 = g->ack;
	if (wnd == c->wnd)
		return;
	if (wnd > c->wnd) {
		COUNT(t, tcp_window_updates);
		if (c->rexmit_mode == TCP_RM_PERSIST) {
			c->rexmit_mode = TCP_RM_RTO;
			tcp_timer_off(c, TCP_T_REXMIT);
			c->backoff = 0;
			c->stall_since = 0;
		}
	}
	c->wnd = wnd;
	if (wnd > c->max_wnd)
		c->max_wnd = wnd;
}

/* --- space for the writer --------------------------------------------------------------------------------------- */

static void tx_space(struct tcpip *t, struct tcp_conn *c)
{
	struct shm_session *s = c->s;

	if (c->flags & TCP_F_CLOSED)
		return;
	/* full barrier: our store of tail before our load of tx_nospace, against the writer's store of
	 * tx_nospace before its load of tail */
	nst_full_barrier();
	if (!__atomic_load_n(&s->tx_nospace, __ATOMIC_RELAXED))
		return;
	if (!shm_session_tx_roomy(s, fifo_used(&c->tx)))
		return;
	__atomic_store_n(&s->tx_nospace, 0, __ATOMIC_RELEASE);
	tcp_ev(t, c, STACK_EV_OUT);
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

static void newly_acked(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g, uint32_t acked)
{
	uint32_t data = acked, flight = c->nxt - c->una;

	if (c->flags & TCP_F_FIN_SENT && seq_gt(g->ack, c->fin_seq))
		data--;
	rtt_from_ack(t, c, g);
	if (data)
		fifo_consume(&c->tx, data);
	c->bytes_acked += data;
	c->una = g->ack;
	if (seq_lt(c->sml, c->una))
		c->sml = c->una;
	if (c->flags & TCP_F_URG_OUT && seq_ge(c->una, c->urg_out))
		c->flags &= ~TCP_F_URG_OUT;
	c->backoff = 0;
	c->stall_since = 0;
	c->err_soft = 0;
	c->flags &= ~TCP_F_TLP_DONE;
	try_undo(t, c, g);
	tcp_sack_acked(t, c);
	/* grow only when the window was what held us back */
	if (c->ca != TCP_CA_RECOVERY &&
	    (c->flags & TCP_F_CWND_LIMITED || (c->cwnd < c->ssthresh && c->cwnd < 2 * flight)))
		c->cc->acked(c, acked, t->now);
	c->flags &= ~TCP_F_CWND_LIMITED;
	ip_dst_confirm(t, c->dst);
	tx_space(t, c);
}

/* Something that was acknowledged before, or never sent. False: drop. */
static bool ack_in_range(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	if (seq_gt(g->ack, c->nxt)) {
		COUNT(t, tcp_ack_future);
		tcp_challenge(t, c);
		return false;
	}
	if (seq_lt(g->ack, c->una) && c->una - g->ack > max_u32(c->max_wnd, 65535)) {
		/* RFC 5961 5.2 */
		COUNT(t, tcp_ack_old);
		tcp_challenge(t, c);
		return false;
	}
	return true;
}

bool tcp_ack_input(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	uint32_t acked, news = 0, old_wnd = c->wnd, nholes = c->nholes;
	bool dup;

	if (!ack_in_range(t, c, g))
		return false;
	c->probes = 0;
	if (seq_lt(g->ack, c->una)) { /* overtaken; its data may still be new */
		COUNT(t, tcp_ack_old);
		return true;
	}
	acked = g->ack - c->una;
	window_update(t, c, g);
	if (g->nsack && c->flags & TCP_F_SACK)
		news = tcp_sack_input(t, c, g);
	dup = !acked && !g->len && c->nxt != c->una && c->wnd == old_wnd &&
	      !(g->flags & TCP_FIN);
	if (dup)
		COUNT(t, tcp_dupacks_in);
	if (acked)
		newly_acked(t, c, g, acked);
	if (acked || news || dup) {
		if (c->nholes || nholes || c->ca != TCP_CA_OPEN || dup)
			recovery_step(t, c, acked, dup);
	}
	if (acked)
		tcp_rexmit_arm(t, c);
	if (acked || news || c->wnd != old_wnd || c->nholes || dup)
		tcp_do(t, c, TCP_DO_OUTPUT);
	return true;
}
