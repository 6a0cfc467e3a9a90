/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_output.c - segments out
 *
 * tcp_output() sends what may be sent now: first what was lost, then new data as far as the peer's
 * window, the congestion window and Nagle's rule let it. New data of several segments goes as one
 * super-frame where the port can, straight from the FIFO; otherwise each segment is copied into a
 * frame, summed on the way. An acknowledgement that is due rides on the first segment.
 *
 * A frame that can't be had, or a full ring, ends the round; a short timer starts the next.
 *
 * Threads: under the worker's lock. Not here: what was lost (tcp_sack.c), timers.
 */
#include "tcp_internal.h"

#define SEND_RETRY_NS (1 * NS_PER_MS)
#define CORK_NS (200 * NS_PER_MS)
#define SUPER_MIN_SEGS 3u
#define SUPER_PAYLOAD (HAL_SUPER_MAX - 40u - 60u)
#define PINGPONG_NS (40 * NS_PER_MS)
#define RST_PER_S 1000u

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

/* --- headers ------------------------------------------------------------------------------------- */

static void hdr_put(uint8_t *h, const struct nst_addr *local, const struct nst_addr *remote,
		    uint32_t seq, uint32_t ack, uint32_t hlen, uint8_t flags, uint32_t wnd)
{
	memcpy(h, &local->port, 2);
	memcpy(h + 2, &remote->port, 2);
	put32(h + 4, seq);
	put32(h + 8, ack);
	h[12] = (uint8_t)(hlen / 4 << 4);
	h[13] = flags;
	put16(h + 14, wnd);
	h[16] = h[17] = h[18] = h[19] = 0;
}

static uint32_t opt_ts(uint8_t *o, uint32_t val, uint32_t ecr)
{
	o[0] = o[1] = 1;
	o[2] = 8;
	o[3] = 10;
	put32(o + 4, val);
	put32(o + 8, ecr);
	return TCP_TSOPT;
}

static uint32_t opt_sack(uint8_t *o, const struct tcp_range *r, uint32_t n)
{
	o[0] = o[1] = 1;
	o[2] = 5;
	o[3] = (uint8_t)(2 + 8 * n);
	for (uint32_t i = 0; i < n; i++) {
		put32(o + 4 + 8 * i, r[i].start);
		put32(o + 8 + 8 * i, r[i].end);
	}
	return 4 + 8 * n;
}

/* Options of a SYN; wscale < 0: none. */
static uint32_t opt_syn(uint8_t *o, uint16_t mss, int wscale, bool sack, bool ts, uint32_t val,
			uint32_t ecr)
{
	uint32_t n = 4;

	o[0] = 2;
	o[1] = 4;
	put16(o + 2, mss);
	if (ts) {
		o[n] = sack ? 4 : 1;
		o[n + 1] = sack ? 2 : 1;
		o[n + 2] = 8;
		o[n + 3] = 10;
		put32(o + n + 4, val);
		put32(o + n + 8, ecr);
		n += 12;
	} else if (sack) {
		o[n] = o[n + 1] = 1;
		o[n + 2] = 4;
		o[n + 3] = 2;
		n += 4;
	}
	if (wscale >= 0) {
		o[n] = 1;
		o[n + 1] = 3;
		o[n + 2] = 3;
		o[n + 3] = (uint8_t)wscale;
		n += 4;
	}
	return n;
}

static struct ip_out_opt conn_ip(const struct tcp_conn *c)
{
	struct ip_out_opt opt = { .proto = IPPROTO_TCP, .tos = c->o.tos, .df = true };

	if (c->o.ttl > 0)
		opt.ttl = (uint8_t)c->o.ttl;
	return opt;
}

/* The acknowledgement part of an outgoing segment: what the peer is told now. */
static uint32_t conn_window(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t wnd = tcp_recv_window(c), field = wnd >> c->rcv_wscale;

	/* rounding must not take back what was offered */
	if (seq_gt(c->rcv_adv, c->rcv_nxt + (field << c->rcv_wscale)))
		field++;
	if (field > 65535)
		field = 65535;
	c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt + (field << c->rcv_wscale));
	c->rcv_acked = c->rcv_nxt;
	c->ts_last_ack = c->rcv_nxt;
	c->todo &= ~TCP_DO_ACK;
	c->ack_late = false;
	tcp_timer_off(c, TCP_T_DELACK);
	if (!field)
		COUNT(t, tcp_zero_window_out);
	if (c->quick)
		c->quick--;
	tcp_recv_mark(t, c);
	return field;
}

/* Header of a data segment or an acknowledgement into h. Returns its length. */
static uint32_t conn_hdr(struct tcpip *t, struct tcp_conn *c, uint8_t *h, uint32_t seq,
			 uint8_t flags, bool sacks)
{
	uint32_t hlen = TCP_HDR, wnd = conn_window(t, c);

	if (c->flags & TCP_F_TS)
		hlen += opt_ts(h + hlen, tcp_ts_now(t) + c->ts_off, c->ts_recent);
	if (sacks) {
		struct tcp_range r[TCP_SACK_MAX];
		uint32_t n = tcp_recv_sacks(c, r, c->flags & TCP_F_TS ? 3 : 4);

		if (n)
			hlen += opt_sack(h + hlen, r, n);
	}
	hdr_put(h, &c->n.local, &c->n.remote, seq, c->rcv_nxt, hlen, flags | TCP_ACK, wnd);
	if (c->flags & TCP_F_URG_OUT) {
		if (seq_gt(c->urg_out, seq) && c->urg_out - seq <= 65535) {
			h[13] |= TCP_URG;
			put16(h + 18, c->urg_out - seq);
		}
	}
	return hlen;
}

/* --- one segment in one frame ----------------------------------------------------------------------- */

/* The checksum of hlen bytes of header and the payload that lies in v; copies the payload. */
static void frame_fill(struct ip_out *o, uint32_t hlen, const struct iovec *v, int n, uint32_t len)
{
	uint64_t sum;
	uint32_t at = 0;

	if (o->port->txcsum) {
		for (int i = 0; i < n; i++) {
			memcpy(o->l4 + hlen + at, v[i].iov_base, v[i].iov_len);
			at += (uint32_t)v[i].iov_len;
		}
		ip_out_csum(o, IPPROTO_TCP, hlen + len, 16);
		return;
	}
	sum = csum_partial(o->l4, hlen, 0);
	for (int i = 0; i < n; i++) {
		uint64_t s = csum_copy(o->l4 + hlen + at, v[i].iov_base, (uint32_t)v[i].iov_len, 0);

		sum = csum_add_at(sum, s, at);
		at += (uint32_t)v[i].iov_len;
	}
	ip_out_csum_known(o, IPPROTO_TCP, hlen + len, 16, sum);
}

/* Data [seq, seq + len) with flags; len may be 0. 0 or -errno when trying again soon may help; what has
 * no way out at all is lost as in the network, and the retransmission timer deals with it. */
static int send_segment(struct tcpip *t, struct tcp_conn *c, uint32_t seq, uint32_t len,
			uint8_t flags, bool sacks)
{
	struct ip_out_opt opt = conn_ip(c);
	struct iovec v[2];
	struct ip_out o;
	uint32_t hlen;
	int err, n;

	err = ip_out_begin(t, c->dst, &o);
	if (err == -ENOBUFS || err == -EAGAIN)
		return err;
	if (err) {
		c->err_soft = -err;
		c->todo &= ~TCP_DO_ACK;
		return 0;
	}
	hlen = conn_hdr(t, c, o.l4, seq, flags, sacks && !len);
	if (hlen + len > o.room) { /* the path shrank since mss was made */
		ip_out_cancel(t, &o);
		tcp_conn_mss(c);
		c->todo |= TCP_DO_ACK;
		return -EMSGSIZE;
	}
	n = fifo_spans(&c->tx, fifo_tail(&c->tx) + (seq - c->una), len, v);
	frame_fill(&o, hlen, v, n, len);
	ip_out_send(t, &o, hlen + len, &opt);
	COUNT(t, tcp_out);
	c->segs_out++;
	if (len) {
		c->data_segs_out++;
		c->bytes_sent += len;
	}
	return 0;
}

int tcp_send_again(struct tcpip *t, struct tcp_conn *c, uint32_t seq, uint32_t len)
{
	uint32_t data_end = c->una + tcp_inflight_data(c);
	uint8_t flags = TCP_PSH;
	uint32_t data = len;
	int err;

	if (seq_gt(seq + len, data_end)) { /* the FIN is part of it */
		data = seq_lt(seq, data_end) ? data_end - seq : 0;
		flags |= TCP_FIN;
	}
	err = send_segment(t, c, seq, data, flags, false);
	if (err)
		return err;
	COUNT(t, tcp_rexmit);
	COUNT_ADD(t, tcp_rexmit_bytes, data);
	c->retrans++;
	c->bytes_retrans += data;
	if (c->rtt_start && seq_lt(seq, c->rtt_seq))
		c->rtt_start = 0; /* Karn */
	if (!c->undo_ts)
		c->undo_ts = TCP_UNDO_SET | (uint32_t)(tcp_ts_now(t) + c->ts_off);
	return 0;
}

uint32_t tcp_inflight_data(const struct tcp_conn *c)
{
	uint32_t n = c->nxt - c->una;

	if (c->flags & TCP_F_FIN_SENT && n)
		n--;
	if ((c->state == TCP_S_SYN_SENT || c->state == TCP_S_SYN_RECV) && n)
		n--;
	return n;
}

void tcp_send_ack(struct tcpip *t, struct tcp_conn *c)
{
	if (!c->dst || send_segment(t, c, c->nxt, 0, 0, true)) {
		if (c->dst)
			tcp_timer_set(t, c, TCP_T_DELACK, t->now + SEND_RETRY_NS);
		return;
	}
	COUNT(t, tcp_acks_out);
}

void tcp_send_probe(struct tcpip *t, struct tcp_conn *c)
{
	/* below the window: the peer must answer with an acknowledgement */
	send_segment(t, c, c->una - 1, 0, 0, false);
}

void tcp_send_rst(struct tcpip *t, struct tcp_conn *c)
{
	if (tcp_conn_dst(t, c))
		return;
	COUNT(t, tcp_resets_out);
	send_segment(t, c, c->nxt, 0, TCP_RST, false);
}

/* --- new data ------------------------------------------------------------------------------------------ */

/* len new bytes left (and the FIN, if fin). */
static void sent_new(struct tcpip *t, struct tcp_conn *c, uint32_t len, bool fin)
{
	if (!c->rtt_start && len) {
		c->rtt_start = t->now;
		c->rtt_seq = c->nxt + len;
	}
	if (len % c->mss)
		c->sml = c->nxt + len;
	COUNT_ADD(t, tcp_bytes_out, len);
	c->nxt += len;
	if (fin) {
		c->fin_seq = c->nxt++;
		c->flags |= TCP_F_FIN_SENT;
	}
	if (t->now - c->last_data_rcv < PINGPONG_NS && c->last_data_rcv)
		c->flags |= TCP_F_PINGPONG;
	c->last_send = t->now;
}

static int send_super(struct tcpip *t, struct tcp_conn *c, uint32_t len, uint8_t flags)
{
	struct ip_out_opt opt = conn_ip(c);
	struct iovec v[2];
	uint8_t h[60];
	uint32_t hlen = conn_hdr(t, c, h, c->nxt, flags, false);
	int n, err;

	n = fifo_spans(&c->tx, fifo_tail(&c->tx) + (c->nxt - c->una), len, v);
	err = ip_out_super(t, c->dst, h, hlen, 16, v, n, len, c->mss, &opt);
	if (err == -EAGAIN) {
		c->todo |= TCP_DO_ACK; /* what the header told did not leave */
		return err;
	}
	if (err == -EOPNOTSUPP) {
		c->flags |= TCP_F_NO_SUPER;
		return err;
	}
	/* any other error: the packet is lost, as packets may be */
	COUNT(t, tcp_out_super);
	c->segs_out += (len + c->mss - 1) / c->mss;
	c->data_segs_out += (len + c->mss - 1) / c->mss;
	c->bytes_sent += len;
	return 0;
}

/* May n bytes, less than a full segment, leave although that is little? */
static bool small_ok(struct tcp_conn *c, uint32_t n, uint32_t unsent)
{
	if (n < unsent) /* cut short by a window: only if it is a good part of it (RFC 9293 3.8.6.2.1) */
		return c->max_wnd && n >= c->max_wnd / 2;
	if (c->flags & (TCP_F_FIN_WANTED | TCP_F_URG_OUT))
		return true;
	if (c->flags & TCP_F_MORE) {
		/* relaxed: written by the caller of tx_ready before the call */
		uint64_t push = __atomic_load_n(&c->s->push_pos, __ATOMIC_RELAXED);

		if (push < fifo_head(&c->tx) && !(c->flags & TCP_F_CORK_EXPIRED))
			return false;
	}
	if (c->o.nodelay)
		return true;
	/* Nagle, with Minshall's change: at most one small segment is unacknowledged */
	return !(seq_gt(c->sml, c->una) && seq_le(c->sml, c->nxt));
}

static bool can_super(const struct tcp_conn *c)
{
	const struct hal_port *hal = c->dst->port ? c->dst->port->hal : NULL;

	return hal && (hal->caps & HAL_CAP_SUPERFRAME) && !(c->flags & TCP_F_NO_SUPER) &&
	       c->dst->mac_ok;
}

/* Send up to n new bytes (unsent are waiting in all). Returns bytes sent, or -errno. */
static int64_t send_some(struct tcpip *t, struct tcp_conn *c, uint32_t n, uint32_t unsent,
			 bool force)
{
	uint32_t len = min_u32(n, c->mss);
	/* the urgent pointer counts from each segment's own first byte */
	bool super = n >= SUPER_MIN_SEGS * c->mss && !(c->flags & TCP_F_URG_OUT) && can_super(c);
	bool last, fin;
	uint8_t flags = 0;
	int err;

	if (super) {
		len = min_u32(n, SUPER_PAYLOAD);
		if (len < unsent || len % c->mss)
			len -= len % c->mss;
	}
	last = len == unsent;
	if (len < c->mss && !force && !small_ok(c, len, unsent))
		return 0;
	fin = last && !super && (c->flags & TCP_F_FIN_WANTED) && !(c->flags & TCP_F_FIN_SENT);
	if (last)
		flags |= TCP_PSH;
	if (fin)
		flags |= TCP_FIN;
	if (super) {
		err = send_super(t, c, len, flags);
		if (err == -EOPNOTSUPP)
			return send_some(t, c, n, unsent, force);
	} else {
		err = send_segment(t, c, c->nxt, len, flags, false);
	}
	if (err)
		return err;
	sent_new(t, c, len, fin);
	return len;
}

static void output_idle(struct tcpip *t, struct tcp_conn *c)
{
	if (c->nxt == c->una && t->now - c->last_send > c->rto && c->cc->idle) {
		c->cc->idle(c, t->now);
		c->last_send = t->now;
	}
}

static int output_new(struct tcpip *t, struct tcp_conn *c, uint32_t pipe, bool force)
{
	uint32_t unsent = tcp_unsent(c);
	int64_t sent;

	if (!unsent)
		return 0;
	tcp_urgent_look(c);
	output_idle(t, c);
	while (unsent) {
		uint32_t edge = c->una + c->wnd;
		uint32_t wnd = seq_gt(edge, c->nxt) ? edge - c->nxt : 0;
		uint32_t cw = c->cwnd > pipe ? c->cwnd - pipe : 0;
		uint32_t n = min_u32(unsent, wnd);

		if (cw < n && cw < c->mss && !(force && pipe < c->cwnd + 2u * c->mss)) {
			c->flags |= TCP_F_CWND_LIMITED;
			break;
		}
		if (!force || cw >= c->mss)
			n = min_u32(n, cw);
		else
			n = min_u32(n, c->mss);
		if (!n)
			break;
		sent = send_some(t, c, n, unsent, force);
		if (sent < 0)
			return (int)sent;
		if (!sent)
			break;
		pipe += (uint32_t)sent;
		unsent -= (uint32_t)sent;
		force = false;
	}
	return 0;
}

/* --- losses -------------------------------------------------------------------------------------------------- */

static int output_lost(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t pipe = tcp_pipe(c);
	int err;

	for (uint32_t i = 0; i < c->nholes; i++) {
		struct tcp_hole *h = &c->holes[i];

		if (!h->lost)
			continue;
		while (seq_lt(h->rxt, h->end)) {
			uint32_t len = min_u32(h->end - h->rxt, c->mss);

			/* the first one goes whatever the window says */
			if (pipe && pipe + len > c->cwnd && !(h->rxt == c->una && !h->rxt_time))
				return 0;
			err = tcp_send_again(t, c, h->rxt, len);
			if (err)
				return err;
			if (h->rxt == c->una)
				tcp_rexmit_arm(t, c);
			h->rxt += len;
			h->mark = c->nxt;
			h->rxt_time = t->now;
			pipe += len;
		}
	}
	return 0;
}

static int output_fin(struct tcpip *t, struct tcp_conn *c)
{
	int err;

	if (!(c->flags & TCP_F_FIN_WANTED) || c->flags & TCP_F_FIN_SENT || tcp_unsent(c))
		return 0;
	err = send_segment(t, c, c->nxt, 0, TCP_FIN, false);
	if (!err)
		sent_new(t, c, 0, true);
	return err;
}

static bool may_send(const struct tcp_conn *c)
{
	switch (c->state) {
	case TCP_S_ESTABLISHED:
	case TCP_S_CLOSE_WAIT:
	case TCP_S_FIN_WAIT1:
	case TCP_S_CLOSING:
	case TCP_S_LAST_ACK:
		return true;
	default:
		return false;
	}
}

/* Put off by Nagle, cork, window? Make sure that something wakes us again. */
static void output_wait(struct tcpip *t, struct tcp_conn *c, int err)
{
	uint32_t unsent = tcp_unsent(c);

	if (err) {
		tcp_timer_set(t, c, TCP_T_SEND, t->now + SEND_RETRY_NS);
		return;
	}
	if (!unsent) {
		c->flags &= ~TCP_F_CORK_EXPIRED;
		tcp_timer_off(c, TCP_T_SEND);
		return;
	}
	if (c->flags & TCP_F_MORE && unsent < c->mss) {
		if (!c->due[TCP_T_SEND] && !(c->flags & TCP_F_CORK_EXPIRED))
			tcp_timer_set(t, c, TCP_T_SEND, t->now + CORK_NS);
	}
	if (c->nxt == c->una && c->rexmit_mode != TCP_RM_PERSIST &&
	    (seq_le(c->una + c->wnd, c->nxt) || c->wnd < min_u32(unsent, c->mss))) {
		c->rexmit_mode = TCP_RM_PERSIST;
		tcp_timer_set(t, c, TCP_T_REXMIT, t->now + tcp_rto_now(c));
	}
}

static void output_round(struct tcpip *t, struct tcp_conn *c, bool force)
{
	uint32_t before = c->nxt;
	uint64_t rexmitted = c->bytes_retrans;
	int err = 0;

	if (!may_send(c)) {
		return;
	}
	if (c->mtu_gen != c->dst->mtu_gen)
		tcp_conn_mss(c);
	if ((c->todo & TCP_DO_ACK) && (c->nooo || c->dsack.start != c->dsack.end))
		tcp_send_ack(t, c); /* data segments have no room for SACK blocks */
	if (c->nholes)
		err = output_lost(t, c);
	if (!err && !(c->flags & TCP_F_FIN_SENT))
		err = output_new(t, c, c->nholes ? tcp_pipe(c) : c->nxt - c->una, force);
	if (!err)
		err = output_fin(t, c);
	if (c->nxt != before || c->bytes_retrans != rexmitted)
		tcp_rexmit_sent(t, c);
	output_wait(t, c, err);
}

void tcp_output(struct tcpip *t, struct tcp_conn *c)
{
	if (c->dst)
		output_round(t, c, false);
}

void tcp_output_force(struct tcpip *t, struct tcp_conn *c)
{
	if (c->dst)
		output_round(t, c, true);
}

/* --- opening --------------------------------------------------------------------------------------------------- */

static uint16_t our_mss(const struct ip_dst *d, const struct tcp_opts *o)
{
	uint32_t m = d->mtu > d->l3_len + TCP_HDR ? d->mtu - d->l3_len - TCP_HDR : 536;

	if (d->rt.advmss && d->rt.advmss < m)
		m = d->rt.advmss;
	if (o->maxseg && o->maxseg < m)
		m = o->maxseg;
	return (uint16_t)min_u32(m, 65535 - 60);
}

int tcp_send_syn(struct tcpip *t, struct tcp_conn *c)
{
	struct ip_out_opt opt = conn_ip(c);
	bool synack = c->state == TCP_S_SYN_RECV;
	struct ip_out o;
	uint32_t hlen = TCP_HDR, wnd;
	bool ts = !synack || c->flags & TCP_F_TS, sack = !synack || c->flags & TCP_F_SACK;
	bool ws = !synack || c->flags & TCP_F_WSCALE;
	int err = ip_out_begin(t, c->dst, &o);

	if (err)
		return err;
	hlen += opt_syn(o.l4 + hlen, our_mss(c->dst, &c->o), ws ? c->rcv_wscale : -1, sack, ts,
			tcp_ts_now(t) + c->ts_off, synack ? c->ts_recent : 0);
	wnd = min_u32(c->s->rx_limit, 65535);
	c->rcv_adv = c->rcv_nxt + wnd;
	hdr_put(o.l4, &c->n.local, &c->n.remote, c->iss, synack ? c->rcv_nxt : 0, hlen,
		synack ? TCP_SYN | TCP_ACK : TCP_SYN, wnd);
	ip_out_csum(&o, IPPROTO_TCP, hlen, 16);
	ip_out_send(t, &o, hlen, &opt);
	COUNT(t, tcp_out);
	c->segs_out++;
	c->nxt = c->iss + 1;
	return 0;
}

int tcp_send_synack(struct tcpip *t, struct tcp_req *r)
{
	const struct tcp_opts *lo = &r->lst->c->o;
	struct ip_out_opt opt = { .proto = IPPROTO_TCP, .tos = lo->tos, .df = true };
	uint32_t hlen = TCP_HDR;
	struct ip_out o;
	int err = ip_out_begin(t, r->dst, &o);

	if (err)
		return err;
	if (lo->ttl > 0)
		opt.ttl = (uint8_t)lo->ttl;
	hlen += opt_syn(o.l4 + hlen, our_mss(r->dst, lo), r->wscale ? r->rcv_wscale : -1, r->sack,
			r->ts, tcp_ts_now(t) + r->ts_off, r->ts_recent);
	hdr_put(o.l4, &r->n.local, &r->n.remote, r->iss, r->irs + 1, hlen, TCP_SYN | TCP_ACK,
		r->rcv_wnd);
	ip_out_csum(&o, IPPROTO_TCP, hlen, 16);
	ip_out_send(t, &o, hlen, &opt);
	COUNT(t, tcp_out);
	r->sent_at = t->now;
	return 0;
}

/* --- answers to segments that have no connection -------------------------------------------------------------- */

static void reply(struct tcpip *t, const struct tcp_seg *g, struct ip_out *o, uint32_t hlen,
		  uint32_t seq, uint32_t ack, uint8_t flags, uint32_t wnd)
{
	struct ip_out_opt opt = { .proto = IPPROTO_TCP, .df = true };

	hdr_put(o->l4, &g->p->dst, &g->p->src, seq, ack, hlen, flags, wnd);
	ip_out_csum(o, IPPROTO_TCP, hlen, 16);
	ip_out_send(t, o, hlen, &opt);
	COUNT(t, tcp_out);
}

void tcp_send_cookie(struct tcpip *t, const struct tcp_seg *g, uint32_t iss, uint16_t mss,
		     uint32_t wnd, int wscale, uint32_t tsval)
{
	struct ip_out o;
	uint32_t hlen = TCP_HDR;

	if (ip_out_begin_reply(t, g->p, &o))
		return;
	hlen += opt_syn(o.l4 + hlen, mss, wscale, g->ts && g->sack_ok, g->ts, tsval, g->tsval);
	reply(t, g, &o, hlen, iss, g->seq + 1, TCP_SYN | TCP_ACK, wnd);
}

void tcp_reply_ack(struct tcpip *t, const struct tcp_seg *g, uint32_t seq, uint32_t ack,
		   uint32_t wnd, bool ts, uint32_t tsval, uint32_t tsecr)
{
	struct ip_out o;
	uint32_t hlen = TCP_HDR;

	if (ip_out_begin_reply(t, g->p, &o))
		return;
	if (ts)
		hlen += opt_ts(o.l4 + hlen, tsval, tsecr);
	reply(t, g, &o, hlen, seq, ack, TCP_ACK, wnd);
	COUNT(t, tcp_acks_out);
}

bool tcp_leave_syn(struct tcpip *t, const struct tcp_seg *g)
{
	struct stack_env *env = t->env;

	if (!env->flow_left || !env->flow_left(env, IPPROTO_TCP, &g->p->dst, &g->p->src))
		return false;
	COUNT(t, tcp_not_ours);
	return true;
}

/* Is it answered by a reset? Never where it is one (RFC 9293 3.10.7.1), and so many in a second at most. */
static bool rst_wanted(struct tcpip *t, const struct tcp_seg *g)
{
	uint64_t second = t->now / NS_PER_S;

	if (g->flags & TCP_RST || g->p->bcast)
		return false;
	if (t->tcp->rst_s != second) {
		t->tcp->rst_s = second;
		t->tcp->rst_n = 0;
	}
	if (t->tcp->rst_n >= RST_PER_S) {
		COUNT(t, tcp_rst_limited);
		return false;
	}
	t->tcp->rst_n++;
	return true;
}

static void rst_send(struct tcpip *t, const struct tcp_seg *g)
{
	uint32_t end = g->seq + g->len + !!(g->flags & TCP_SYN) + !!(g->flags & TCP_FIN);
	struct ip_out o;

	if (ip_out_begin_reply(t, g->p, &o))
		return;
	COUNT(t, tcp_resets_out);
	if (g->flags & TCP_ACK)
		reply(t, g, &o, TCP_HDR, g->ack, 0, TCP_RST, 0);
	else
		reply(t, g, &o, TCP_HDR, 0, end, TCP_RST | TCP_ACK, 0);
}

void tcp_reply_rst(struct tcpip *t, const struct tcp_seg *g)
{
	if (rst_wanted(t, g))
		rst_send(t, g);
}

void tcp_refuse(struct tcpip *t, const struct tcp_seg *g)
{
	struct stack_env *env = t->env;
	bool wanted = rst_wanted(t, g);

	/* not more often than resets are sent: it costs system calls */
	if (wanted && env->port_ours && !env->port_ours(env, IPPROTO_TCP, &g->p->dst, &g->p->src)) {
		COUNT(t, tcp_not_ours);
		return;
	}
	COUNT(t, tcp_no_socket);
	if (wanted)
		rst_send(t, g);
}
