/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_conn.c - connections: tables, pools, life and end, the work list
 *
 * Connections, half-open requests and TIME_WAIT records share one hash table, keyed with a random
 * secret, of a size for 100,000 entries; its memory is touched only where entries lie. Objects
 * come from slabs that are kept until the stack is destroyed.
 *
 * A connection may end in the middle of input or of a timer, so nothing is freed there: its end
 * puts it on the work list, and tcp_work() frees it when nobody above looks at it any more.
 *
 * Threads: under the worker's lock. Not here: states and segments.
 */
#include "tcp_internal.h"

#include <stdlib.h>

#define HASH_SIZE (1u << 17)
#define SLAB_OBJS 32u

/* --- pools ------------------------------------------------------------------------------------ */

void *tcp_pool_get(struct tcp_pool *p)
{
	void **obj = p->free;

	if (!obj) {
		size_t size = (p->size + 63) & ~(size_t)63;
		char *slab = aligned_alloc(64, 64 + size * SLAB_OBJS);

		if (!slab)
			return NULL;
		*(void **)slab = p->slabs;
		p->slabs = slab;
		for (uint32_t i = 0; i < SLAB_OBJS; i++) {
			void **o = (void **)(slab + 64 + size * i);

			*o = p->free;
			p->free = o;
		}
		obj = p->free;
	}
	p->free = *obj;
	p->used++;
	memset(obj, 0, p->size);
	return obj;
}

void tcp_pool_put(struct tcp_pool *p, void *obj)
{
	*(void **)obj = p->free;
	p->free = obj;
	p->used--;
}

static void pool_exit(struct tcp_pool *p)
{
	while (p->slabs) {
		void *next = *(void **)p->slabs;

		free(p->slabs);
		p->slabs = next;
	}
	p->free = NULL;
}

/* --- the table ---------------------------------------------------------------------------------- */

static uint64_t tuple_hash64(struct tcpip *t, const uint64_t *key, const struct nst_addr *local,
			     const struct nst_addr *remote)
{
	uint64_t w[5];

	w[0] = (uint64_t)local->port << 16 | remote->port;
	if (local->family == AF_INET) {
		w[1] = (uint64_t)local->v4 << 32 | remote->v4;
		return tcpip_hash(key, w, 2);
	}
	memcpy(w + 1, local->v6, 16);
	memcpy(w + 3, remote->v6, 16);
	return tcpip_hash(key, w, 5);
}

uint32_t tcp_tuple_hash(struct tcpip *t, const struct nst_addr *local,
			const struct nst_addr *remote)
{
	return (uint32_t)tuple_hash64(t, t->secret, local, remote);
}

uint32_t tcp_isn(struct tcpip *t, const struct nst_addr *local, const struct nst_addr *remote,
		 uint32_t *ts_off)
{
	uint64_t h = tuple_hash64(t, t->secret + 2, local, remote);

	*ts_off = (uint32_t)(h >> 32);
	return (uint32_t)h + (uint32_t)(t->now >> 6); /* a step every 64 ns */
}

static inline bool node_is(const struct tcp_node *n, uint32_t hash, const struct nst_addr *local,
			   const struct nst_addr *remote)
{
	if (n->hash != hash || n->local.port != local->port || n->remote.port != remote->port ||
	    n->local.family != local->family)
		return false;
	if (local->family == AF_INET)
		return n->local.v4 == local->v4 && n->remote.v4 == remote->v4;
	return !memcmp(n->local.v6, local->v6, 16) && !memcmp(n->remote.v6, remote->v6, 16) &&
	       n->remote.scope_id == remote->scope_id;
}

struct tcp_node *tcp_lookup(struct tcpip *t, uint32_t hash, const struct nst_addr *local,
			    const struct nst_addr *remote)
{
	struct tcp_node *n = t->tcp->hash[hash & t->tcp->hash_mask];

	while (n && !node_is(n, hash, local, remote))
		n = n->next;
	return n;
}

void tcp_node_add(struct tcpip *t, struct tcp_node *n, uint32_t hash)
{
	struct tcp_node **b = &t->tcp->hash[hash & t->tcp->hash_mask];

	n->hash = hash;
	n->next = *b;
	*b = n;
	n->hashed = true;
	t->tcp->nnodes++;
}

void tcp_node_del(struct tcpip *t, struct tcp_node *n)
{
	struct tcp_node **pp = &t->tcp->hash[n->hash & t->tcp->hash_mask];

	if (!n->hashed)
		return;
	while (*pp != n)
		pp = &(*pp)->next;
	*pp = n->next;
	n->hashed = false;
	t->tcp->nnodes--;
}

/* --- a connection --------------------------------------------------------------------------------- */

struct tcp_conn *tcp_of(struct tcpip *t, const struct shm_session *s)
{
	uint32_t sid = shm_session_index(t->region, s);

	return t->sock_proto[sid] == IPPROTO_TCP ? t->sock[sid] : NULL;
}

struct tcp_conn *tcp_conn_new(struct tcpip *t, struct shm_session *s)
{
	struct tcp_conn *c = tcp_pool_get(&t->tcp->conns);

	if (!c) {
		COUNT(t, tcp_no_memory);
		return NULL;
	}
	c->n.kind = TCP_K_CONN;
	c->s = s;
	c->sid = shm_session_index(t->region, s);
	c->state = TCP_S_CLOSE;
	c->o.ttl = -1;
	c->o.v6only = s->v6only != 0;
	c->rx = shm_session_rx(t->region, s);
	c->tx = shm_session_tx(t->region, s);
	c->rto = TCP_RTO_INIT;
	c->peer_mss = 536;
	c->mss = 536;
	c->reordering = 3;
	c->ssthresh = UINT32_MAX;
	c->created = t->now;
	c->quick = 16;
	c->rcv_win = TCP_RCV_WIN;
	c->o.rcvbuf_set = s->rx_limit < c->rx.size; /* set before the stack knew the session */
	tcp_timer_init(c);
	t->sock[c->sid] = c;
	t->sock_proto[c->sid] = IPPROTO_TCP;
	return c;
}

void tcp_do(struct tcpip *t, struct tcp_conn *c, uint32_t todo)
{
	c->todo |= todo;
	if (c->in_work)
		return;
	c->in_work = true;
	c->work_next = NULL;
	*t->tcp->work_tail = c;
	t->tcp->work_tail = &c->work_next;
}

uint8_t tcp_wscale_for(uint32_t fifo_size)
{
	uint8_t s = 0;

	while (s < 14 && fifo_size >> s > 65535)
		s++;
	return s;
}

void tcp_conn_mss(struct tcp_conn *c)
{
	uint32_t m = c->peer_mss, hdr = TCP_HDR + c->dst->l3_len, opt = c->flags & TCP_F_TS ?
		TCP_TSOPT : 0;

	if (c->o.maxseg && m > c->o.maxseg)
		m = c->o.maxseg;
	if (c->dst->mtu < m + hdr)
		m = c->dst->mtu > hdr ? c->dst->mtu - hdr : 0;
	m = m > opt + TCP_MSS_MIN ? m - opt : TCP_MSS_MIN;
	c->mss = (uint16_t)m;
	if (c->cwnd && c->cwnd < m)
		c->cwnd = m; /* one segment must fit, or nothing would ever be sent again */
	c->mtu_gen = c->dst->mtu_gen;
	if (c->s)
		c->s->mss = m;
	if (!c->rcv_mss)
		c->rcv_mss = m;
}

int tcp_conn_dst(struct tcpip *t, struct tcp_conn *c)
{
	int err = 0;

	if (c->dst)
		return 0;
	c->dst = ip_dst_get(t, &c->n.remote, &c->n.local, c->o.oif, &err);
	return err;
}

void tcp_set_state(struct tcpip *t, struct tcp_conn *c, uint8_t state)
{
	c->state = state;
}

void tcp_fin_state(struct tcpip *t, struct tcp_conn *c)
{
	if (!(c->flags & TCP_F_FIN_WANTED))
		return;
	if (c->state == TCP_S_ESTABLISHED)
		tcp_set_state(t, c, TCP_S_FIN_WAIT1);
	else if (c->state == TCP_S_CLOSE_WAIT)
		tcp_set_state(t, c, TCP_S_LAST_ACK);
}

void tcp_conn_established(struct tcpip *t, struct tcp_conn *c)
{
	struct shm_session *s = c->s;

	tcp_set_state(t, c, TCP_S_ESTABLISHED);
	tcp_fin_state(t, c);
	c->flags |= TCP_F_EVER;
	COUNT(t, tcp_established);
	tcp_conn_mss(c);
	c->cwnd = TCP_IW * c->mss;
	c->cc = tcp_ccs[c->o.cc];
	c->cc->init(c);
	c->fack = c->una;
	c->last_rcv = t->now;
	c->last_send = t->now;
	c->stall_since = 0;
	c->backoff = 0;
	tcp_timer_off(c, TCP_T_REXMIT);
	if (c->rto < TCP_RTO_MIN || !c->srtt)
		c->rto = TCP_RTO_INIT;
	s->local = c->n.local;
	s->remote = c->n.remote;
	shm_session_set_state(s, SHM_S_CONNECTED);
	tcp_keep_arm(t, c);
	tcp_recv_mark(t, c);
}

/* Release what only a live connection needs. */
static void conn_strip(struct tcpip *t, struct tcp_conn *c)
{
	tcp_timers_stop(t, c);
	tcp_node_del(t, &c->n);
	free(c->holes);
	free(c->ooo);
	c->holes = NULL;
	c->ooo = NULL;
	c->nholes = c->holes_room = c->nooo = c->ooo_room = 0;
	ip_dst_put(t, c->dst);
	c->dst = NULL;
	tcpip_port_put(t, c->port);
	c->port = NULL;
}

void tcp_conn_end(struct tcpip *t, struct tcp_conn *c, int err)
{
	struct shm_session *s = c->s;
	bool was_live = c->state != TCP_S_CLOSE;

	if (s && !(c->flags & (TCP_F_CLOSED | TCP_F_OVER))) {
		uint32_t ev = STACK_EV_IN | STACK_EV_OUT | STACK_EV_RDHUP | STACK_EV_HUP;

		if (err) {
			__atomic_store_n(&s->error, err, __ATOMIC_RELAXED); /* relaxed: state follows */
			ev |= STACK_EV_ERR;
		}
		__atomic_fetch_or(&s->stack_flags, SHM_SF_RX_EOF | SHM_SF_TX_DEAD |
				  (err ? SHM_SF_RESET : 0), __ATOMIC_RELEASE);
		__atomic_store_n(&s->rx_update_at, UINT64_MAX, __ATOMIC_RELAXED); /* relaxed: a hint */
		shm_session_set_state(s, SHM_S_CLOSED);
		__atomic_store_n(&s->tx_nospace, 0, __ATOMIC_RELEASE);
		tcp_ev(t, c, ev);
	}
	if (was_live && (c->flags & TCP_F_EVER))
		COUNT(t, tcp_closed);
	else if (was_live && c->state != TCP_S_LISTEN)
		COUNT(t, tcp_connect_fails);
	conn_strip(t, c);
	tcp_set_state(t, c, TCP_S_CLOSE);
	c->flags |= TCP_F_OVER;
	tcp_do(t, c, c->flags & TCP_F_CLOSED ? TCP_DO_REAP : 0);
}

void tcp_conn_abort(struct tcpip *t, struct tcp_conn *c, int err)
{
	switch (c->state) {
	case TCP_S_SYN_RECV:
	case TCP_S_ESTABLISHED:
	case TCP_S_FIN_WAIT1:
	case TCP_S_FIN_WAIT2:
	case TCP_S_CLOSE_WAIT:
	case TCP_S_CLOSING:
	case TCP_S_LAST_ACK:
		if (c->todo & TCP_DO_OUTPUT) /* what was written just before comes first */
			tcp_output(t, c);
		tcp_send_rst(t, c);
		break;
	default:
		break;
	}
	tcp_conn_end(t, c, err);
}

static void conn_free(struct tcpip *t, struct tcp_conn *c)
{
	conn_strip(t, c);
	tcp_recv_forget(t, c);
	if (c->s) {
		t->sock[c->sid] = NULL;
		shm_session_free(t->region, c->s);
	}
	tcp_pool_put(&t->tcp->conns, c);
}

void tcp_conn_forget(struct tcpip *t, struct tcp_conn *c)
{
	struct tcp *tc = t->tcp;
	struct tcp_conn **pp = &tc->work;

	while (c->in_work && *pp != c)
		pp = &(*pp)->work_next;
	if (c->in_work) {
		*pp = c->work_next;
		if (tc->work_tail == &c->work_next)
			tc->work_tail = pp;
	}
	t->sock[c->sid] = NULL;
	c->s = NULL;
	conn_free(t, c);
}

static void conn_events(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t ev = c->ev;

	c->ev = 0;
	if (ev && !(c->flags & TCP_F_CLOSED))
		tcpip_event(t, c->s, ev);
}

static void conn_work(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t todo = c->todo;

	c->todo = 0;
	if (todo & TCP_DO_REAP) {
		conn_free(t, c);
		return;
	}
	if (todo & (TCP_DO_OUTPUT | TCP_DO_ACK) && c->state != TCP_S_CLOSE) {
		if (todo & TCP_DO_ACK)
			c->todo |= TCP_DO_ACK; /* tcp_output() clears it when the ACK rode along */
		tcp_output(t, c);
		if (c->todo & TCP_DO_ACK && c->state != TCP_S_CLOSE)
			tcp_send_ack(t, c);
	}
	conn_events(t, c);
}

void tcp_work(struct tcpip *t)
{
	struct tcp *tc = t->tcp;
	struct tcp_conn *c;

	/* Before anything is sent: a program of another process sees what has come as soon as it is there, and
	 * its epoll set has to know as soon. */
	for (c = tc->work; c; c = c->work_next)
		if (!(c->todo & TCP_DO_REAP))
			conn_events(t, c);

	while ((c = tc->work)) {
		tc->work = c->work_next;
		if (!tc->work)
			tc->work_tail = &tc->work;
		c->in_work = false;
		conn_work(t, c);
	}
}

/* --- life of the whole ---------------------------------------------------------------------------- */

int tcp_init(struct tcpip *t)
{
	struct tcp *tc = calloc(1, sizeof(*tc));

	if (!tc)
		return -ENOMEM;
	t->tcp = tc;
	tc->work_tail = &tc->work;
	tc->conns.size = sizeof(struct tcp_conn);
	tc->reqs.size = sizeof(struct tcp_req);
	tc->tws.size = sizeof(struct tcp_tw);
	tc->hash = calloc(HASH_SIZE, sizeof(*tc->hash)); /* zero pages until used */
	tc->hash_mask = HASH_SIZE - 1;
	tcp_tw_init(t);
	tcp_tw_limit(t);
	return tc->hash ? 0 : -ENOMEM;
}

void tcp_exit(struct tcpip *t)
{
	struct tcp *tc = t->tcp;

	for (uint32_t id = 0; tc->hash && (id = shm_session_next(t->region, id)) != UINT32_MAX; id++) {
		struct tcp_conn *c = tcp_of(t, shm_session_get(t->region, id));

		if (!c)
			continue;
		if (c->lst)
			tcp_listen_stop(t, c);
		tcp_conn_abort(t, c, ECONNRESET);
	}
	tcp_work(t);
	for (uint32_t id = 0; tc->hash && (id = shm_session_next(t->region, id)) != UINT32_MAX; id++)
		if (t->sock_proto[id] == IPPROTO_TCP)
			t->sock[id] = NULL;
	for (int i = 0; i < TCP_TW_NR_; i++)
		while (tc->tw_head[i])
			tcp_tw_free(t, tc->tw_head[i]);
	wheel_del(&t->wheel, &tc->tw_timer);
	pool_exit(&tc->conns);
	pool_exit(&tc->reqs);
	pool_exit(&tc->tws);
	free(tc->hash);
	free(tc);
	t->tcp = NULL;
}

void tcp_on_change(struct tcpip *t, unsigned what)
{
	/* Routes and MTU are looked at when a connection sends next (ip_dst_check); what could not
	 * be sent is sent again by its retransmission timer. */
}
