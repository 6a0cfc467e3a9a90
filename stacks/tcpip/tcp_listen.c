/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_listen.c - being connected to
 *
 * A SYN becomes a small record (the SYN queue) that lives in the connection table until the
 * handshake is over; past the queue's bound a SYN is answered by a cookie and nothing is kept. When
 * the handshake completes a session and a connection are made, and the session's id goes to the
 * listener's rx FIFO. If that is full the last ACK is ignored, as Linux does: the peer repeats it
 * with its data, or our SYN|ACK is repeated.
 *
 * Cookie: 5 bits of time (64 s), 3 bits for the MSS, 24 bits of keyed hash over addresses, peer's
 * sequence number, time and MSS; with timestamps the low 6 bits of ours tell window scale and SACK.
 *
 * Threads: under the worker's lock; accept() reads the rx FIFO without it.
 */
#include "tcp_internal.h"

#include <stdlib.h>

#define SYNACK_AGAIN_NS (NS_PER_S / 2)
#define COOKIE_PERIOD (64 * NS_PER_S)
#define COOKIE_MAX_AGE 2u
#define COOKIE_SACK 0x10u
#define COOKIE_NO_WSCALE 0x0fu
#define COOKIE_TS_BITS 6

static const uint16_t cookie_mss[8] = { 536, 1200, 1300, 1360, 1400, 1440, 1460, 8960 };

/* --- listeners --------------------------------------------------------------------------------------- */

static struct tcp_listener **listen_bucket(struct tcpip *t, uint16_t port)
{
	return &t->tcp->listen[(ntohs(port) * 0x9e3779b1u) >> 24 & (TCP_LISTEN_BUCKETS - 1)];
}

/* 0 = no; more = fits better. */
static int listen_score(const struct tcp_conn *c, const struct nst_addr *local)
{
	const struct nst_addr *l = &c->n.local;

	if (l->port != local->port)
		return 0;
	if (nst_addr_is_any(l))
		return l->family == local->family ? 2 :
			l->family == AF_INET6 && !c->o.v6only ? 1 : 0;
	return nst_addr_same_ip(l, local) ? 4 : 0;
}

struct tcp_listener *tcp_listen_find(struct tcpip *t, const struct nst_addr *local, uint32_t hash)
{
	struct tcp_listener *l, *best = NULL;
	uint32_t same = 0;
	int score = 0;

	for (l = *listen_bucket(t, local->port); l; l = l->next) {
		int sc = listen_score(l->c, local);

		if (!sc || sc < score)
			continue;
		if (sc > score) {
			score = sc;
			best = l;
			same = 1;
		} else if ((uint32_t)(((uint64_t)hash * ++same) >> 32) == 0) {
			best = l; /* SO_REUSEPORT: by flow */
		}
	}
	return best;
}

int tcp_listen_start(struct tcpip *t, struct tcp_conn *c, int backlog)
{
	struct tcp_listener *l = c->lst, **b;

	if (backlog < 0 || backlog > 65535)
		backlog = 65535;
	c->s->backlog = (uint32_t)backlog;
	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		l->c = c;
		b = listen_bucket(t, c->n.local.port);
		l->next = *b;
		*b = l;
		c->lst = l;
		fifo_rewind(&c->rx);
	}
	l->paused = false;
	l->max_req = t->cfg.max_synqueue ? t->cfg.max_synqueue :
		max_u32(8, min_u32((uint32_t)backlog * 2, 16384));
	tcp_set_state(t, c, TCP_S_LISTEN);
	c->flags &= ~TCP_F_OVER;
	c->s->local = c->n.local;
	shm_session_set_state(c->s, SHM_S_LISTEN);
	return 0;
}

static void req_link(struct tcp_req *r, struct tcp_listener *l)
{
	r->lst = l;
	r->lnext = l->reqs;
	r->lpprev = &l->reqs;
	if (r->lnext)
		r->lnext->lpprev = &r->lnext;
	l->reqs = r;
	l->c->s->handshakes = ++l->nreq;
}

static void req_unlink(struct tcp_req *r)
{
	*r->lpprev = r->lnext;
	if (r->lnext)
		r->lnext->lpprev = r->lpprev;
	r->lst->c->s->handshakes = --r->lst->nreq;
}

static void req_free(struct tcpip *t, struct tcp_req *r)
{
	wheel_del(&t->wheel, &r->timer);
	tcp_node_del(t, &r->n);
	req_unlink(r);
	ip_dst_put(t, r->dst);
	tcp_pool_put(&t->tcp->reqs, r);
}

/* It has no handshakes any more. */
static void listener_free(struct tcpip *t, struct tcp_listener *l)
{
	struct tcp_listener **pp;

	for (pp = listen_bucket(t, l->c->n.local.port); *pp != l; pp = &(*pp)->next)
		;
	*pp = l->next;
	l->c->lst = NULL;
	free(l);
}

void tcp_listen_stop(struct tcpip *t, struct tcp_conn *c)
{
	struct tcp_listener *l = c->lst;
	uint32_t id, waiting = fifo_used(&c->rx) / sizeof(id); /* a program could go on filling it */

	if (!l)
		return;
	while (l->reqs)
		req_free(t, l->reqs);
	/* nobody will accept those that wait */
	while (waiting-- && fifo_take_one(&c->rx, &id, sizeof(id))) {
		struct shm_session *s = shm_session_sibling(t->region, c->s, id);
		struct tcp_conn *child = s ? tcp_of(t, s) : NULL;

		if (!child || s->parent != shm_session_id(t->region, c->s) || child->flags & TCP_F_CLOSED ||
		    !(child->flags & TCP_F_PASSIVE)) /* ids come from memory that the program writes */
			continue;
		COUNT(t, tcp_children_lost);
		child->flags |= TCP_F_CLOSED;
		tcp_conn_abort(t, child, ECONNRESET);
	}
	listener_free(t, l);
}

void tcp_listen_pause(struct tcpip *t, struct shm_session *s)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (c && c->lst)
		c->lst->paused = true;
}

/* May b go on as the listener a? */
static bool listen_match(const struct tcp_conn *a, const struct tcp_conn *b)
{
	return a && b && a != b && a->lst && b->state == TCP_S_CLOSE && b->port &&
	       !(b->flags & TCP_F_CLOSED) && a->n.local.port == b->n.local.port &&
	       nst_addr_same_ip(&a->n.local, &b->n.local);
}

int tcp_listen_move(struct tcpip *t, struct shm_session *from, struct shm_session *to)
{
	struct tcp_conn *a = tcp_of(t, from), *b = tcp_of(t, to);
	struct tcp_req *r;
	int err;

	if (!listen_match(a, b))
		return -EINVAL;
	b->o = a->o;
	err = tcp_listen_start(t, b, (int)from->backlog);
	if (err)
		return err;
	b->lst->cookie_at = a->lst->cookie_at;
	while ((r = a->lst->reqs)) {
		req_unlink(r);
		req_link(r, b->lst);
	}
	listener_free(t, a->lst);
	tcp_set_state(t, a, TCP_S_CLOSE);
	shm_session_set_state(from, SHM_S_IDLE);
	return 0;
}

static bool accept_full(const struct tcp_listener *l)
{
	return fifo_used(&l->c->rx) / sizeof(uint32_t) > l->c->s->backlog ||
	       fifo_space(&l->c->rx) < sizeof(uint32_t);
}

/* --- the SYN queue -------------------------------------------------------------------------------------- */

static void req_fired(void *arg, struct wheel_timer *w)
{
	struct tcp_req *r = (struct tcp_req *)((char *)w - offsetof(struct tcp_req, timer));
	struct tcpip *t = arg;
	uint32_t max = r->lst->c->o.syncnt ? r->lst->c->o.syncnt : TCP_SYNACK_RETRIES;

	if (++r->retries > max) {
		COUNT(t, tcp_syn_timeouts);
		req_free(t, r);
		return;
	}
	COUNT(t, tcp_synack_rexmit);
	tcp_send_synack(t, r);
	wheel_add(&t->wheel, &r->timer, t->now + (NS_PER_S << r->retries));
}

static uint32_t syn_window(const struct tcp_listener *l)
{
	return min_u32(min_u32(l->c->s->rx_limit, l->c->rx.size), 65535);
}

static void flow_begins(struct tcpip *t, const struct tcp_node *n)
{
	if (t->env->flow_begins)
		t->env->flow_begins(t->env, IPPROTO_TCP, &n->local, &n->remote);
}

static void req_new(struct tcpip *t, struct tcp_listener *l, struct tcp_seg *g, uint32_t hash,
		    uint32_t isn)
{
	struct tcp_req *r = tcp_pool_get(&t->tcp->reqs);
	int err = 0;

	if (!r) {
		COUNT(t, tcp_no_memory);
		return;
	}
	r->n.kind = TCP_K_REQ;
	r->n.local = g->p->dst;
	r->n.remote = g->p->src;
	r->dst = ip_dst_get(t, &r->n.remote, &r->n.local, l->c->o.oif, &err);
	if (!r->dst) {
		COUNT(t, tcp_syn_dropped);
		tcp_pool_put(&t->tcp->reqs, r);
		return;
	}
	r->created = t->now;
	r->irs = g->seq;
	r->iss = tcp_isn(t, &r->n.local, &r->n.remote, &r->ts_off);
	if (isn)
		r->iss = isn;
	r->mss = g->mss ? g->mss : g->p->src.family == AF_INET ? 536 : 1220;
	r->ts = g->ts;
	r->ts_recent = g->tsval;
	r->sack = g->sack_ok;
	r->wscale = g->wscale != 255;
	r->snd_wscale = r->wscale ? g->wscale : 0;
	r->rcv_wscale = r->wscale ? tcp_wscale_for(l->c->rx.size) : 0;
	r->rcv_wnd = syn_window(l);
	r->wnd = g->wnd;
	r->timer.fn = req_fired;
	req_link(r, l);
	tcp_node_add(t, &r->n, hash);
	COUNT(t, tcp_syn_queued);
	flow_begins(t, &r->n);
	tcp_send_synack(t, r);
	wheel_add(&t->wheel, &r->timer, t->now + NS_PER_S);
}

/* --- a child ---------------------------------------------------------------------------------------------- */

/* What a handshake agreed on; from a request or from a cookie. */
struct agreed {
	struct nst_addr local, remote;
	uint32_t irs, iss, ts_recent, ts_off, rcv_wnd;
	uint16_t mss;
	uint8_t snd_wscale, rcv_wscale;
	bool ts, sack, wscale;
	uint64_t rtt; /* 0 = unknown */
};

static struct tcp_conn *child_alloc(struct tcpip *t, struct tcp_listener *l)
{
	struct shm_session *ls = l->c->s, *s;
	struct tcp_conn *c;

	s = shm_session_alloc_in(t->region, shm_session_part(t->region, ls), ls->family, IPPROTO_TCP);
	if (!s) {
		COUNT(t, tcp_no_session);
		return NULL;
	}
	c = tcp_conn_new(t, s);
	if (!c) {
		shm_session_free(t->region, s);
		return NULL;
	}
	s->v6only = l->c->o.v6only;
	s->parent = shm_session_id(t->region, ls);
	s->rx_limit = ls->rx_limit;
	s->tx_limit = ls->tx_limit;
	s->rx_lowat = ls->rx_lowat;
	s->urg_inline = ls->urg_inline;
	s->cork = ls->cork;
	c->o = l->c->o;
	return c;
}

static void child_publish(struct tcpip *t, struct tcp_listener *l, struct tcp_conn *c)
{
	uint32_t id = shm_session_id(t->region, c->s);

	fifo_write(&l->c->rx, &id, sizeof(id));
	tcp_ev(t, l->c, STACK_EV_IN);
}

/* Make the connection; g is the segment that completed the handshake. NULL: no room. */
static struct tcp_conn *child_new(struct tcpip *t, struct tcp_listener *l, const struct agreed *a,
				  const struct tcp_seg *g, struct ip_dst *dst, uint32_t hash)
{
	struct tcp_conn *c = child_alloc(t, l);

	if (!c)
		return NULL;
	c->n.local = a->local;
	c->n.remote = a->remote;
	c->dst = dst;
	c->port = tcpip_port_get(t, IPPROTO_TCP, &c->n.local);
	c->flags |= TCP_F_PASSIVE | (a->ts ? TCP_F_TS : 0) | (a->sack ? TCP_F_SACK : 0) |
		    (a->wscale ? TCP_F_WSCALE : 0);
	c->iss = a->iss;
	c->una = c->nxt = a->iss + 1;
	c->sml = c->una;
	c->irs = a->irs;
	c->rcv_nxt = c->rcv_acked = c->ts_last_ack = a->irs + 1;
	c->rcv_adv = c->rcv_nxt + a->rcv_wnd;
	c->peer_mss = a->mss;
	c->snd_wscale = a->snd_wscale;
	c->rcv_wscale = a->rcv_wscale;
	c->ts_recent = a->ts_recent;
	c->ts_recent_at = t->now;
	c->ts_off = a->ts_off;
	c->wnd = c->max_wnd = g->wnd << c->snd_wscale;
	c->wl1 = g->seq;
	c->wl2 = g->ack;
	tcp_node_add(t, &c->n, hash);
	if (a->rtt)
		tcp_rtt_sample(c, a->rtt);
	tcp_conn_established(t, c);
	COUNT(t, tcp_passive_opens);
	child_publish(t, l, c);
	return c;
}

static void req_complete(struct tcpip *t, struct tcp_req *r, struct tcp_seg *g)
{
	struct tcp_listener *l = r->lst;
	struct agreed a = {
		.local = r->n.local, .remote = r->n.remote, .irs = r->irs, .iss = r->iss,
		.ts_recent = g->ts ? g->tsval : r->ts_recent, .ts_off = r->ts_off,
		.rcv_wnd = r->rcv_wnd, .mss = r->mss, .snd_wscale = r->snd_wscale,
		.rcv_wscale = r->rcv_wscale, .ts = r->ts, .sack = r->sack, .wscale = r->wscale,
		.rtt = r->sent_at == r->created ? t->now - r->sent_at : 0, /* Karn */
	};
	uint32_t hash = r->n.hash;
	struct ip_dst *dst = r->dst;
	struct tcp_conn *c;

	if (accept_full(l)) {
		COUNT(t, tcp_accept_full);
		r->acked = true;
		return;
	}
	if (l->c->o.defer_accept_s && !g->len && !(g->flags & TCP_FIN) &&
	    t->now - r->created < (uint64_t)l->c->o.defer_accept_s * NS_PER_S) {
		COUNT(t, tcp_deferred);
		r->acked = true;
		return;
	}
	dst->refs++; /* outlives the request */
	req_free(t, r);
	c = child_new(t, l, &a, g, dst, hash);
	if (!c) {
		ip_dst_put(t, dst);
		tcp_reply_rst(t, g);
		return;
	}
	ip_dst_confirm(t, dst);
	tcp_conn_input(t, c, g); /* the window, and data that came along */
}

void tcp_req_input(struct tcpip *t, struct tcp_req *r, struct tcp_seg *g)
{
	uint32_t next = r->irs + 1;

	if (g->flags & TCP_SYN) {
		/* SYN again; right after the answer it is the network's copy, or somebody's mirror */
		if (g->seq == r->irs && !(g->flags & TCP_ACK) &&
		    t->now - r->sent_at >= SYNACK_AGAIN_NS) {
			COUNT(t, tcp_synack_rexmit);
			tcp_send_synack(t, r);
		}
		return;
	}
	if (r->ts && g->ts && (int32_t)(g->tsval - r->ts_recent) < 0) {
		COUNT(t, tcp_paws);
		return;
	}
	if (seq_lt(g->seq, next) || seq_gt(g->seq, next + r->rcv_wnd)) {
		COUNT(t, tcp_out_of_window);
		if (!(g->flags & TCP_RST))
			tcp_reply_ack(t, g, r->iss + 1, next, r->rcv_wnd >> r->rcv_wscale, r->ts,
				      tcp_ts_now(t) + r->ts_off, r->ts_recent);
		return;
	}
	if (g->flags & TCP_RST) {
		if (g->seq == next) {
			COUNT(t, tcp_resets_in);
			req_free(t, r);
		}
		return;
	}
	if (!(g->flags & TCP_ACK))
		return;
	if (g->ack != r->iss + 1) {
		tcp_refuse(t, g); /* perhaps another stack answered the SYN when it came again */
		return;
	}
	req_complete(t, r, g);
}

void tcp_req_icmp(struct tcpip *t, struct tcp_req *r, const struct icmp_error *e)
{
	uint32_t seq;

	memcpy(&seq, e->l4 + 4, 4);
	if (ntohl(seq) != r->iss) {
		COUNT(t, tcp_icmp_ignored);
		return;
	}
	if (e->err == EMSGSIZE) {
		ip_dst_pmtu(t, r->dst, e->mtu);
	} else if (e->hard) {
		COUNT(t, tcp_icmp_hard);
		req_free(t, r);
	} else {
		COUNT(t, tcp_icmp_soft);
	}
}

/* --- cookies ------------------------------------------------------------------------------------------------- */

static uint32_t cookie_hash(struct tcpip *t, const struct ip_pkt *p, uint32_t irs, uint32_t when,
			    uint32_t mss)
{
	uint64_t w[7] = { (uint64_t)p->dst.port << 16 | p->src.port,
			  (uint64_t)irs << 32 | when << 3 | mss };

	memcpy(w + 2, p->dst.v6, p->dst.family == AF_INET ? 4 : 16);
	memcpy(w + 4, p->src.v6, p->src.family == AF_INET ? 4 : 16);
	w[6] = 0x636f6f6b6965;
	return (uint32_t)tcpip_hash(t->secret + 2, w, 7) & 0xffffff;
}

static void cookie_send(struct tcpip *t, struct tcp_listener *l, struct tcp_seg *g)
{
	uint32_t when = (uint32_t)(t->now / COOKIE_PERIOD), m = 0, iss, off, ts;
	uint16_t peer = g->mss ? g->mss : 536;
	uint32_t mtu = g->p->port->mtu, hdr = g->p->src.family == AF_INET ? 40 : 60;
	int ws = -1;

	while (m < 7 && cookie_mss[m + 1] <= peer)
		m++;
	iss = (when & 31) << 27 | m << 24 | cookie_hash(t, g->p, g->seq, when, m);
	tcp_isn(t, &g->p->dst, &g->p->src, &off);
	ts = (tcp_ts_now(t) + off) & ~((1u << COOKIE_TS_BITS) - 1);
	if (g->ts) {
		ts |= g->sack_ok ? COOKIE_SACK : 0;
		ts |= g->wscale != 255 ? g->wscale : COOKIE_NO_WSCALE;
		/* 15 says none, and 14 is the most there can be; never ahead of the clock */
		if ((int32_t)(ts - (tcp_ts_now(t) + off)) > 0)
			ts -= 1u << COOKIE_TS_BITS;
		ws = g->wscale != 255 ? tcp_wscale_for(l->c->rx.size) : -1;
	}
	l->cookie_at = t->now;
	COUNT(t, tcp_cookies_sent);
	mtu = mtu > 1500 ? 1500 : mtu;
	tcp_send_cookie(t, g, iss, (uint16_t)(mtu - hdr), syn_window(l), ws, ts);
}

/* An ACK that may complete a cookie's handshake. False: it does not. */
static bool cookie_input(struct tcpip *t, struct tcp_listener *l, struct tcp_seg *g, uint32_t hash)
{
	uint32_t iss = g->ack - 1, now = (uint32_t)(t->now / COOKIE_PERIOD), when, m, bits, off;
	uint32_t age = (now - (iss >> 27)) & 31;
	struct agreed a = { .local = g->p->dst, .remote = g->p->src, .irs = g->seq - 1, .iss = iss };
	struct tcp_conn *c;
	struct ip_dst *dst;
	int err = 0;

	if (!l->cookie_at || t->now - l->cookie_at > (COOKIE_MAX_AGE + 1) * COOKIE_PERIOD)
		return false;
	when = now - age;
	m = iss >> 24 & 7;
	if (age > COOKIE_MAX_AGE || (iss & 0xffffff) != cookie_hash(t, g->p, a.irs, when, m)) {
		COUNT(t, tcp_cookies_bad);
		return false;
	}
	if (accept_full(l)) {
		COUNT(t, tcp_accept_full);
		return true;
	}
	tcp_isn(t, &g->p->dst, &g->p->src, &off);
	a.ts_off = off;
	a.mss = cookie_mss[m];
	a.rcv_wnd = syn_window(l);
	if (g->ts) {
		bits = g->tsecr & ((1u << COOKIE_TS_BITS) - 1);
		a.ts = true;
		a.ts_recent = g->tsval;
		a.sack = bits & COOKIE_SACK;
		a.wscale = (bits & 15) != COOKIE_NO_WSCALE;
		a.snd_wscale = a.wscale ? bits & 15 : 0;
		a.rcv_wscale = a.wscale ? tcp_wscale_for(l->c->rx.size) : 0;
	}
	dst = ip_dst_get(t, &a.remote, &a.local, l->c->o.oif, &err);
	if (!dst)
		return true;
	c = child_new(t, l, &a, g, dst, hash);
	if (!c) {
		ip_dst_put(t, dst);
		return false;
	}
	COUNT(t, tcp_cookies_good);
	flow_begins(t, &c->n);
	tcp_conn_input(t, c, g);
	return true;
}

/* --- entry ----------------------------------------------------------------------------------------------------- */

void tcp_listen_input(struct tcpip *t, struct tcp_listener *l, struct tcp_seg *g, uint32_t hash,
		      uint32_t isn)
{
	if (g->flags & TCP_RST)
		return;
	if (g->flags & TCP_ACK) {
		if (g->flags & TCP_SYN || !cookie_input(t, l, g, hash))
			tcp_refuse(t, g);
		return;
	}
	if (!(g->flags & TCP_SYN) || g->flags & TCP_FIN)
		return;
	COUNT(t, tcp_syn_in);
	if (l->paused && tcp_leave_syn(t, g))
		return;
	if (l->paused || !g->p->src.port || nst_addr_is_any(&g->p->src)) {
		COUNT(t, tcp_syn_dropped);
		return;
	}
	if (accept_full(l)) {
		COUNT(t, tcp_accept_full);
		COUNT(t, tcp_syn_dropped);
		return;
	}
	if (l->nreq < l->max_req)
		req_new(t, l, g, hash, isn);
	else if (!t->cfg.no_syncookies)
		cookie_send(t, l, g);
	else
		COUNT(t, tcp_syn_dropped);
}
