/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_input.c - segments in
 *
 * A segment is parsed once into struct tcp_seg, its owner is found in the table (a connection, a
 * half-open request, a TIME_WAIT record) or among the listeners, and is checked in the order of
 * RFC 9293 3.10.7 with the stricter rules of RFC 5961 for RST and SYN, and RFC 7323 for
 * timestamps.
 *
 * Threads: under the worker's lock. Not here: payload (tcp_recv.c), acknowledgements (tcp_ack.c).
 */
#include "tcp_internal.h"

#define PAWS_24DAYS (24ull * 24 * 3600 * NS_PER_S)
#define CHALLENGE_PER_S 1000u /* whole stack, about */
#define CHALLENGE_CONN_PER_S 4u
#define OOW_ACK_NS (100 * NS_PER_MS)

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return ntohl(v);
}

/* --- parsing -------------------------------------------------------------------------------------- */

static void opt_one(struct tcp_seg *g, uint8_t kind, const uint8_t *o, uint32_t len)
{
	switch (kind) {
	case 2:
		if (len == 4 && g->flags & TCP_SYN)
			g->mss = get16(o + 2);
		break;
	case 3:
		if (len == 3 && g->flags & TCP_SYN)
			g->wscale = o[2] > 14 ? 14 : o[2];
		break;
	case 4:
		if (len == 2 && g->flags & TCP_SYN)
			g->sack_ok = true;
		break;
	case 5:
		if (len < 10 || (len - 2) % 8)
			break;
		for (uint32_t i = 2; i < len && g->nsack < TCP_SACK_MAX; i += 8) {
			g->sack[g->nsack].start = get32(o + i);
			g->sack[g->nsack++].end = get32(o + i + 4);
		}
		break;
	case 8:
		if (len == 10) {
			g->ts = true;
			g->tsval = get32(o + 2);
			g->tsecr = get32(o + 6);
		}
		break;
	default:
		break;
	}
}

static void parse_options(struct tcpip *t, struct tcp_seg *g, const uint8_t *o, uint32_t left)
{
	static const uint8_t aligned_ts[4] = { 1, 1, 8, 10 };

	if (left == TCP_TSOPT && !memcmp(o, aligned_ts, 4)) { /* nearly every segment */
		g->ts = true;
		g->tsval = get32(o + 4);
		g->tsecr = get32(o + 8);
		return;
	}
	while (left) {
		uint32_t len;

		if (o[0] == 0)
			return;
		if (o[0] == 1) {
			o++;
			left--;
			continue;
		}
		if (left < 2 || o[1] < 2 || o[1] > left) {
			COUNT(t, tcp_bad_options);
			return;
		}
		len = o[1];
		opt_one(g, o[0], o, len);
		o += len;
		left -= len;
	}
}

/* False: dropped and counted. */
static bool parse(struct tcpip *t, struct ip_pkt *p, struct tcp_seg *g, uint8_t linear[60])
{
	const uint8_t *h = ip_pkt_l4(p);
	uint32_t hlen;

	if (p->l4_len < TCP_HDR)
		goto bad;
	if (p->l4_linear < TCP_HDR || p->l4_linear < (h[12] >> 4) * 4u) {
		uint32_t n = ip_pkt_copy(p, 0, linear, min_u32(60, p->l4_len));

		if (n < TCP_HDR)
			goto bad;
		COUNT(t, rx_linearised);
		h = linear;
	}
	hlen = (h[12] >> 4) * 4u;
	if (hlen < TCP_HDR || hlen > p->l4_len)
		goto bad;
	memset(g, 0, offsetof(struct tcp_seg, sack));
	g->p = p;
	memcpy(&p->src.port, h, 2);
	memcpy(&p->dst.port, h + 2, 2);
	g->seq = get32(h + 4);
	g->ack = get32(h + 8);
	g->flags = h[13] & 0x3f;
	g->wnd = get16(h + 14);
	g->urg = get16(h + 18);
	g->off = hlen;
	g->len = p->l4_len - hlen;
	g->wscale = 255;
	if (hlen > TCP_HDR)
		parse_options(t, g, h + TCP_HDR, hlen - TCP_HDR);
	return true;
bad:
	COUNT(t, rx_drop_l4_header);
	return false;
}

/* --- checks on a synchronised connection -------------------------------------------------------------- */

void tcp_challenge(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t second = (uint32_t)(t->now / NS_PER_S);

	if (t->tcp->challenge_s != second) {
		t->tcp->challenge_s = second;
		t->tcp->challenge_n = 0;
		/* not a constant: who can count what is left of it learns whether a guess about another
		 * connection was right (CVE-2016-5696) */
		t->tcp->challenge_max = CHALLENGE_PER_S / 2 + tcpip_random(t) % CHALLENGE_PER_S;
	}
	if (c->challenge_s != second) {
		c->challenge_s = second;
		c->challenge_n = 0;
	}
	if (t->tcp->challenge_n >= t->tcp->challenge_max || c->challenge_n >= CHALLENGE_CONN_PER_S) {
		COUNT(t, tcp_challenge_limited);
		return;
	}
	t->tcp->challenge_n++;
	c->challenge_n++;
	COUNT(t, tcp_challenge_acks);
	tcp_do(t, c, TCP_DO_ACK);
}

/* RFC 7323 5.3: an old duplicate by its timestamp? */
static bool paws_reject(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	if (!(c->flags & TCP_F_TS) || !g->ts || g->flags & TCP_RST)
		return false;
	if ((int32_t)(g->tsval - c->ts_recent) >= 0)
		return false;
	if (t->now - c->ts_recent_at > PAWS_24DAYS)
		return false;
	/* a bare duplicate acknowledgement that was overtaken does no harm */
	if (!g->len && !(g->flags & (TCP_SYN | TCP_FIN)) && g->seq == c->rcv_nxt &&
	    c->ts_recent - g->tsval < 1000)
		return false;
	COUNT(t, tcp_paws);
	return true;
}

/* RFC 9293 3.10.7.4 first check. */
static bool seq_acceptable(const struct tcp_conn *c, const struct tcp_seg *g)
{
	uint32_t len = g->len + !!(g->flags & TCP_FIN) + !!(g->flags & TCP_SYN);
	uint32_t edge = seq_max(c->rcv_adv, c->rcv_nxt);

	/* Ends before what we expect, or begins beyond what we allowed. The peer may not have heard
	 * of all that we expect: what it sent before, and was overtaken, still tells something. */
	return seq_ge(g->seq + len, c->rcv_acked) &&
	       (seq_lt(g->seq, edge) || (g->seq == edge && (!len || edge == c->rcv_nxt)));
}

static void ts_update(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	if (c->flags & TCP_F_TS && g->ts && seq_le(g->seq, c->ts_last_ack) &&
	    (int32_t)(g->tsval - c->ts_recent) >= 0) {
		c->ts_recent = g->tsval;
		c->ts_recent_at = t->now;
	}
}

static void conn_reset_by_peer(struct tcpip *t, struct tcp_conn *c)
{
	COUNT(t, tcp_resets_in);
	tcp_conn_end(t, c, c->state == TCP_S_CLOSE_WAIT ? EPIPE : ECONNRESET);
}

static void input_rst(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	/* RFC 5961 3.2: only the exact sequence number resets; Linux also takes the right edge of what
	 * we have by SACK, for peers whose FIN or data went missing */
	if (g->seq == c->rcv_nxt) {
		conn_reset_by_peer(t, c);
		return;
	}
	for (uint32_t i = 0; i < c->nooo; i++)
		if (i == c->nooo - 1 && g->seq == c->ooo[i].end) {
			conn_reset_by_peer(t, c);
			return;
		}
	tcp_challenge(t, c);
}

/* Answer a segment that does not fit, so that a true peer learns where we are. Without payload only
 * so often: two ends that find each other's acknowledgements wrong would go on for ever. */
static void oow_ack(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	if (!g->len && !(g->flags & TCP_FIN)) {
		if (c->oow_at && t->now - c->oow_at < OOW_ACK_NS) {
			COUNT(t, tcp_challenge_limited);
			return;
		}
		c->oow_at = t->now;
	}
	tcp_do(t, c, TCP_DO_ACK);
}

/* False: the segment goes no further. */
static bool conn_check(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	/* a duplicate is only what we had already: above rcv_nxt a block says that we hold the data */
	uint32_t dup_end = seq_min(g->seq + g->len, c->rcv_nxt);

	if (paws_reject(t, c, g)) {
		tcp_recv_dup(c, g->seq, dup_end);
		oow_ack(t, c, g);
		return false;
	}
	if (!seq_acceptable(c, g)) {
		if (g->flags & TCP_RST)
			return false;
		COUNT(t, tcp_out_of_window);
		if (g->flags & TCP_SYN) {
			tcp_challenge(t, c);
			return false;
		}
		tcp_recv_dup(c, g->seq, dup_end);
		oow_ack(t, c, g); /* probes for keepalive and zero windows end here, too */
		return false;
	}
	if (g->flags & TCP_RST) {
		input_rst(t, c, g);
		return false;
	}
	if (g->flags & TCP_SYN) {
		/* RFC 5961 4.2; in simultaneous open the peer's SYN|ACK repeats its SYN */
		if (c->state == TCP_S_SYN_RECV && g->flags & TCP_ACK && g->seq == c->irs)
			return true;
		tcp_challenge(t, c);
		return false;
	}
	if (!(g->flags & TCP_ACK)) {
		COUNT(t, tcp_no_ack_flag);
		return false;
	}
	return true;
}

/* --- state changes --------------------------------------------------------------------------------------- */

/* Our FIN was acknowledged. False: c is gone. */
static bool fin_acked(struct tcpip *t, struct tcp_conn *c)
{
	if (!(c->flags & TCP_F_CLOSED) && !(c->s->stack_flags & SHM_SF_FIN_ACKED)) {
		__atomic_fetch_or(&c->s->stack_flags, SHM_SF_FIN_ACKED, __ATOMIC_RELEASE);
		tcp_ev(t, c, STACK_EV_OUT); /* as Linux wakes all, for a close() that lingers */
	}
	switch (c->state) {
	case TCP_S_FIN_WAIT1:
		tcp_set_state(t, c, TCP_S_FIN_WAIT2); /* orphan_wait() if nobody waits any more */
		if (!(c->flags & TCP_F_CLOSED))
			tcp_keep_arm(t, c);
		return true;
	case TCP_S_CLOSING:
		tcp_tw_enter(t, c, TCP_TW_TIME);
		return false;
	case TCP_S_LAST_ACK:
		tcp_conn_end(t, c, 0);
		return false;
	default:
		return true;
	}
}

/* In FIN_WAIT2 without a socket, after all of a segment was looked at: often the one that acknowledges
 * our FIN brings the peer's. */
static void orphan_wait(struct tcpip *t, struct tcp_conn *c)
{
	if (c->o.linger2_s < 0)
		tcp_conn_abort(t, c, 0);
	else
		tcp_tw_enter(t, c, TCP_TW_FIN);
}

/* The peer's FIN is next in sequence. */
static void fin_received(struct tcpip *t, struct tcp_conn *c)
{
	c->flags |= TCP_F_FIN_RCVD;
	c->rcv_nxt++;
	tcp_do(t, c, TCP_DO_ACK);
	if (!(c->flags & TCP_F_CLOSED)) {
		/* release: pairs session.state - the bytes before the FIN are published */
		__atomic_fetch_or(&c->s->stack_flags, SHM_SF_RX_EOF | SHM_SF_FIN, __ATOMIC_RELEASE);
		tcp_ev(t, c, STACK_EV_IN | STACK_EV_RDHUP);
	}
	switch (c->state) {
	case TCP_S_SYN_RECV:
	case TCP_S_ESTABLISHED:
		tcp_set_state(t, c, TCP_S_CLOSE_WAIT);
		c->flags &= ~TCP_F_PINGPONG;
		break;
	case TCP_S_FIN_WAIT1:
		tcp_set_state(t, c, TCP_S_CLOSING);
		break;
	case TCP_S_FIN_WAIT2:
		tcp_send_ack(t, c);
		tcp_tw_enter(t, c, TCP_TW_TIME);
		break;
	default:
		break;
	}
}

/* Is there a newer urgent byte than the last one? */
static void urgent_mark(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	uint64_t head = fifo_head(&c->rx), tail, pos;
	struct shm_session *s = c->s;

	if (!g->urg || seq_le(g->seq + g->urg, c->rcv_nxt)) /* that byte came before */
		return;
	/* as Linux does by default: the pointer is one behind the urgent byte (BSD) */
	pos = head + (g->seq + g->urg - c->rcv_nxt);
	if (s->stack_flags & SHM_SF_URG) {
		/* acquire: pairs fifo.consume - how far the reader is */
		tail = __atomic_load_n(&c->rx.sh->tail, __ATOMIC_ACQUIRE);
		if (tail < s->urg_skip)
			tail = s->urg_skip;
		if (s->urg_pos > tail && pos <= s->urg_pos)
			return;
		/* the reader stands at the old mark, and there is more: as Linux, it won't see it */
		if (s->urg_pos == tail + 1 && head != tail &&
		    !__atomic_load_n(&s->urg_inline, __ATOMIC_RELAXED)) /* relaxed: an option */
			__atomic_store_n(&s->urg_skip, s->urg_pos, __ATOMIC_RELAXED);
	}
	COUNT(t, tcp_urgent_in);
	__atomic_store_n(&s->urg_pos, pos, __ATOMIC_RELAXED); /* relaxed: flag follows */
	/* release: pairs sock.urgent */
	__atomic_fetch_or(&s->stack_flags, SHM_SF_URG, __ATOMIC_RELEASE);
	c->flags |= TCP_F_URG_IN;
	tcp_ev(t, c, STACK_EV_PRI);
}

/* MSG_OOB has the byte as soon as it comes, though it be out of order or the segment be refused. */
static void input_urgent(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	struct shm_session *s = c->s;
	uint32_t at;

	if (c->flags & (TCP_F_CLOSED | TCP_F_FIN_RCVD))
		return;
	if (g->flags & TCP_URG)
		urgent_mark(t, c, g);
	if (!(c->flags & TCP_F_URG_IN))
		return;
	at = c->rcv_nxt + (uint32_t)(s->urg_pos - 1 - fifo_head(&c->rx)) - g->seq;
	if (at >= g->len || ip_pkt_copy(g->p, g->off + at, &s->urg_byte, 1) != 1)
		return;
	__atomic_store_n(&s->urg_seen, s->urg_pos, __ATOMIC_RELEASE); /* pairs session.urg_byte */
	c->flags &= ~TCP_F_URG_IN;
	tcp_ev(t, c, STACK_EV_PRI);
}

/* Linux resets a peer that sends to a socket which nobody can read any more: closed, or shut down in
 * both directions (RFC 1122, 4.2.2.13). Shut for reading only, it still takes data. */
static bool data_after_close(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	bool fin_wait = c->state == TCP_S_FIN_WAIT1 || c->state == TCP_S_FIN_WAIT2;

	if (!g->len || seq_le(g->seq + g->len, c->rcv_nxt))
		return false;
	if (!(c->flags & TCP_F_CLOSED) && !(fin_wait && c->s->app_flags & SHM_AF_RX_SHUT))
		return false;
	COUNT(t, tcp_after_close);
	tcp_conn_abort(t, c, ECONNRESET);
	return true;
}

void tcp_conn_input(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	bool fin_out;

	c->last_rcv = t->now;
	c->keep_probes = 0;
	if (!conn_check(t, c, g))
		return;
	if (!tcp_ack_input(t, c, g))
		return;
	ts_update(t, c, g);
	fin_out = c->flags & TCP_F_FIN_SENT && seq_gt(c->una, c->fin_seq);
	if (fin_out && !fin_acked(t, c))
		return;
	input_urgent(t, c, g);
	if (data_after_close(t, c, g))
		return;
	if (c->flags & TCP_F_FIN_RCVD) { /* nothing may follow it */
		if (g->len || g->flags & TCP_FIN)
			tcp_do(t, c, TCP_DO_ACK);
		return;
	}
	if (g->len || g->flags & TCP_FIN) {
		uint32_t fin_at = g->seq + g->len;
		bool fin = g->flags & TCP_FIN;

		if (g->len)
			tcp_recv_data(t, c, g);
		if (fin && seq_gt(fin_at, c->rcv_nxt) && seq_le(fin_at, c->rcv_adv)) {
			c->flags |= TCP_F_FIN_AHEAD;
			c->peer_fin = fin_at;
			tcp_do(t, c, TCP_DO_ACK);
		}
		if ((fin && fin_at == c->rcv_nxt) ||
		    (c->flags & TCP_F_FIN_AHEAD && c->peer_fin == c->rcv_nxt))
			fin_received(t, c);
	}
	if (c->state == TCP_S_FIN_WAIT2 && c->flags & TCP_F_CLOSED)
		orphan_wait(t, c);
}

/* --- opening ------------------------------------------------------------------------------------------------ */

/* What both sides agreed on, from the peer's SYN. */
static void syn_options(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g)
{
	c->irs = g->seq;
	c->rcv_nxt = g->seq + 1;
	c->rcv_adv = c->rcv_nxt + min_u32(c->s->rx_limit, 65535);
	c->rcv_acked = c->rcv_nxt;
	c->ts_last_ack = c->rcv_nxt;
	c->peer_mss = g->mss ? g->mss : c->n.local.family == AF_INET ? 536 : 1220;
	c->flags &= ~(TCP_F_TS | TCP_F_SACK | TCP_F_WSCALE);
	if (g->ts) {
		c->flags |= TCP_F_TS;
		c->ts_recent = g->tsval;
		c->ts_recent_at = t->now;
	}
	if (g->sack_ok)
		c->flags |= TCP_F_SACK;
	if (g->wscale != 255) {
		c->flags |= TCP_F_WSCALE;
		c->snd_wscale = g->wscale;
	} else {
		c->snd_wscale = 0;
		c->rcv_wscale = 0;
	}
	c->wnd = g->wnd; /* never scaled in a SYN */
	c->max_wnd = c->wnd;
	c->wl1 = g->seq;
	c->wl2 = g->ack;
}

static void syn_sent_established(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	syn_options(t, c, g);
	c->una = g->ack;
	c->wl2 = g->ack;
	if (c->rtt_start)
		tcp_rtt_sample(c, t->now - c->rtt_start);
	c->rtt_start = 0;
	tcp_conn_established(t, c);
	ip_dst_confirm(t, c->dst);
	tcp_ev(t, c, STACK_EV_OUT);
	tcp_do(t, c, TCP_DO_ACK | TCP_DO_OUTPUT);
	if (g->len || g->flags & TCP_FIN) { /* data on a SYN|ACK: take it as a segment of its own */
		g->seq++;
		g->flags &= (uint8_t)~TCP_SYN;
		tcp_conn_input(t, c, g);
	}
}

static void syn_sent_input(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	bool ack_ok = g->flags & TCP_ACK && g->ack == c->nxt;

	if (g->flags & TCP_ACK && !ack_ok) {
		COUNT(t, tcp_ack_future);
		tcp_reply_rst(t, g);
		return;
	}
	if (g->flags & TCP_RST) {
		if (ack_ok) {
			COUNT(t, tcp_resets_in);
			tcp_conn_end(t, c, ECONNREFUSED);
		}
		return;
	}
	if (!(g->flags & TCP_SYN))
		return;
	if (c->flags & TCP_F_TS && g->ts && g->flags & TCP_ACK &&
	    (int32_t)(g->tsecr - (tcp_ts_now(t) + c->ts_off)) > 0) {
		tcp_reply_rst(t, g); /* echoes what we have not sent */
		return;
	}
	if (ack_ok) {
		syn_sent_established(t, c, g);
		return;
	}
	/* simultaneous open */
	syn_options(t, c, g);
	tcp_set_state(t, c, TCP_S_SYN_RECV);
	tcp_send_syn(t, c);
}

static void syn_recv_input(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	if (!conn_check(t, c, g)) {
		/* a repeated SYN: our SYN|ACK was lost */
		if (c->state == TCP_S_SYN_RECV && (g->flags & TCP_SYN) && !(g->flags & TCP_ACK) &&
		    g->seq == c->irs)
			tcp_send_syn(t, c);
		return;
	}
	if (g->ack != c->nxt) {
		tcp_reply_rst(t, g);
		return;
	}
	c->una = g->ack;
	if (!(g->flags & TCP_SYN))
		c->wnd = g->wnd << c->snd_wscale;
	c->max_wnd = c->wnd;
	c->wl1 = g->seq;
	c->wl2 = g->ack;
	c->rtt_start = 0;
	tcp_conn_established(t, c);
	tcp_ev(t, c, STACK_EV_OUT);
	tcp_do(t, c, TCP_DO_OUTPUT);
	if (g->flags & TCP_SYN) {
		g->seq++;
		g->flags &= (uint8_t)~TCP_SYN;
		tcp_do(t, c, TCP_DO_ACK);
	}
	if (g->len || g->flags & TCP_FIN)
		tcp_conn_input(t, c, g);
}

static void conn_dispatch(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g)
{
	c->segs_in++;
	switch (c->state) {
	case TCP_S_SYN_SENT:
		syn_sent_input(t, c, g);
		break;
	case TCP_S_SYN_RECV:
		syn_recv_input(t, c, g);
		break;
	case TCP_S_CLOSE:
		tcp_reply_rst(t, g);
		break;
	default:
		tcp_conn_input(t, c, g);
		break;
	}
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

static void input_listener(struct tcpip *t, struct tcp_seg *g, uint32_t hash, uint32_t isn)
{
	struct ip_pkt *p = g->p;
	struct tcp_listener *l;

	if (!netcfg_is_local(t->nc, &p->dst)) {
		COUNT(t, rx_drop_not_ours);
		return;
	}
	l = tcp_listen_find(t, &p->dst, hash);
	if (l) {
		tcp_listen_input(t, l, g, hash, isn);
		return;
	}
	if ((g->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN || !tcp_leave_syn(t, g))
		tcp_refuse(t, g);
}

void tcp_input(struct tcpip *t, struct ip_pkt *p)
{
	struct tcp_node *n;
	uint8_t linear[60];
	struct tcp_seg g;
	uint32_t hash, isn = 0;

	if (p->bcast) { /* TCP is between two */
		COUNT(t, rx_drop_not_ours);
		return;
	}
	if (!parse(t, p, &g, linear))
		return;
	if (!ip_pkt_csum(t, p, 16)) {
		COUNT(t, rx_drop_csum);
		return;
	}
	COUNT(t, tcp_in);
	hash = tcp_tuple_hash(t, &p->dst, &p->src);
	n = tcp_lookup(t, hash, &p->dst, &p->src);
	if (!n) {
		input_listener(t, &g, hash, 0);
		return;
	}
	switch (n->kind) {
	case TCP_K_CONN:
		conn_dispatch(t, (struct tcp_conn *)n, &g);
		break;
	case TCP_K_REQ:
		tcp_req_input(t, (struct tcp_req *)n, &g);
		break;
	default:
		if (!tcp_tw_input(t, (struct tcp_tw *)n, &g, &isn))
			input_listener(t, &g, hash, isn);
		break;
	}
}

/* --- ICMP ------------------------------------------------------------------------------------------------------- */

static void conn_icmp(struct tcpip *t, struct tcp_conn *c, const struct icmp_error *e)
{
	uint32_t seq = get32(e->l4 + 4);

	/* RFC 5927: it must quote something that is in flight */
	if (seq_lt(seq, c->una) || seq_gt(seq, c->nxt)) {
		COUNT(t, tcp_icmp_ignored);
		return;
	}
	if (e->err == EMSGSIZE) {
		uint32_t old = c->mss, gen = c->dst->mtu_gen;

		ip_dst_pmtu(t, c->dst, e->mtu);
		if (c->dst->mtu_gen == gen && c->mtu_gen == gen)
			return;
		tcp_conn_mss(c);
		COUNT(t, tcp_pmtu_reduced);
		if (c->mss < old && c->nxt != c->una && c->flags & TCP_F_EVER) {
			tcp_sack_all_lost(t, c); /* what was sent in larger pieces did not pass */
			c->recover = c->nxt;
			if (c->ca == TCP_CA_OPEN)
				c->ca = TCP_CA_RECOVERY;
			tcp_do(t, c, TCP_DO_OUTPUT);
		}
		return;
	}
	if (c->state == TCP_S_SYN_SENT || c->state == TCP_S_SYN_RECV) {
		/* as Linux, for connect() to fail soon: RFC 1122 would go on after the soft ones */
		COUNT(t, tcp_icmp_hard);
		tcp_conn_end(t, c, e->err);
		return;
	}
	COUNT(t, tcp_icmp_soft);
	c->err_soft = e->err; /* told when the connection times out */
}

void tcp_icmp_error(struct tcpip *t, const struct icmp_error *e)
{
	uint32_t hash;
	struct tcp_node *n;

	if (e->l4_len < 8)
		return;
	hash = tcp_tuple_hash(t, &e->local, &e->remote);
	n = tcp_lookup(t, hash, &e->local, &e->remote);
	if (!n || n->kind == TCP_K_TW)
		COUNT(t, tcp_icmp_ignored);
	else if (n->kind == TCP_K_REQ)
		tcp_req_icmp(t, (struct tcp_req *)n, e);
	else if (((struct tcp_conn *)n)->state != TCP_S_CLOSE)
		conn_icmp(t, (struct tcp_conn *)n, e);
}
