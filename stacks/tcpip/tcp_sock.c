/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_sock.c - what the socket layer asks of TCP: calls and options
 *
 * Conflicts of ports are found by the shadow sockets in the kernel; here a bind only records. A port
 * is held (struct port_ref) from bind, listen or connect until the last user is gone.
 *
 * Threads: under the worker's lock.
 */
#include "tcp_internal.h"

#include <stdlib.h>

#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_NR 28232u
#define EPHEMERAL_TRIES 512u
#define RST_TW_NS NS_PER_S

int tcp_open(struct tcpip *t, struct shm_session *s)
{
	if (tcp_of(t, s))
		return 0;
	return tcp_conn_new(t, s) ? 0 : -ENOMEM;
}

int tcp_bind(struct tcpip *t, struct shm_session *s, const struct nst_addr *local)
{
	struct tcp_conn *c = tcp_of(t, s);
	struct port_ref *p = NULL;

	if (!c || c->state != TCP_S_CLOSE)
		return -EINVAL;
	if (!nst_addr_is_any(local) && !netcfg_is_local(t->nc, local))
		return -EADDRNOTAVAIL;
	if (local->port) {
		p = tcpip_port_get(t, IPPROTO_TCP, local);
		if (!p)
			return -ENOMEM;
	}
	tcpip_port_put(t, c->port);
	c->port = p;
	c->n.local = *local;
	s->local = *local;
	return 0;
}

int tcp_listen(struct tcpip *t, struct shm_session *s, int backlog)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c || (c->state != TCP_S_CLOSE && c->state != TCP_S_LISTEN) || !c->n.local.port)
		return -EINVAL;
	return tcp_listen_start(t, c, backlog);
}

/* --- connect ------------------------------------------------------------------------------------------- */

/* May this connection use these addresses? A TIME_WAIT record gives way to a younger connection. */
static bool tuple_free(struct tcpip *t, struct tcp_conn *c, uint32_t hash)
{
	struct tcp_node *n = tcp_lookup(t, hash, &c->n.local, &c->n.remote);
	struct tcp_tw *w = (struct tcp_tw *)n;

	if (!n)
		return true;
	if (n->kind != TCP_K_TW || w->kind != TCP_TW_TIME || !w->ts || t->now - w->entered < RST_TW_NS)
		return false;
	c->iss = w->snd_nxt + 65535 + 2;
	COUNT(t, tcp_timewait_reused);
	tcp_tw_free(t, w);
	return true;
}

static int choose_port(struct tcpip *t, struct tcp_conn *c, uint32_t *hash)
{
	uint32_t start = tcpip_random(t) % EPHEMERAL_NR;

	for (uint32_t i = 0; i < EPHEMERAL_TRIES; i++) {
		c->n.local.port = htons((uint16_t)(EPHEMERAL_FIRST + (start + i) % EPHEMERAL_NR));
		if (tcp_listen_find(t, &c->n.local, 0))
			continue;
		*hash = tcp_tuple_hash(t, &c->n.local, &c->n.remote);
		if (tuple_free(t, c, *hash))
			return 0;
	}
	return -EADDRNOTAVAIL;
}

static int connect_addresses(struct tcpip *t, struct tcp_conn *c, const struct nst_addr *remote,
			     uint32_t *hash)
{
	struct nst_addr bound = c->n.local;
	struct port_ref *p;
	int err = 0;

	c->dst = ip_dst_get(t, remote, &bound, c->o.oif, &err);
	if (!c->dst)
		return err;
	if (c->dst->rt.type != NETCFG_RT_UNICAST)
		return -ENETUNREACH;
	c->n.remote = *remote;
	c->n.local = c->dst->src;
	c->n.local.port = bound.port;
	if (nst_addr_is_any(&bound) || bound.family != remote->family) {
		/* the route may prefer another source one day; a connection keeps its own */
		struct ip_dst *d = ip_dst_get(t, remote, &c->n.local, c->o.oif, &err);

		if (!d) {
			c->n.local = bound;
			return err;
		}
		ip_dst_put(t, c->dst);
		c->dst = d;
	}
	if (!bound.port) {
		err = choose_port(t, c, hash);
	} else {
		*hash = tcp_tuple_hash(t, &c->n.local, &c->n.remote);
		err = tuple_free(t, c, *hash) ? 0 : -EADDRNOTAVAIL;
	}
	if (!err) {
		p = tcpip_port_get(t, IPPROTO_TCP, &c->n.local);
		if (p) {
			tcpip_port_put(t, c->port);
			c->port = p;
			return 0;
		}
		err = -ENOMEM;
	}
	c->n.local = bound;
	return err;
}

int tcp_connect(struct tcpip *t, struct shm_session *s, const struct nst_addr *remote)
{
	struct tcp_conn *c = tcp_of(t, s);
	uint32_t hash = 0, isn;
	int err;

	if (!c || !remote->port || nst_addr_is_any(remote))
		return -EINVAL;
	if (c->state != TCP_S_CLOSE || c->flags & TCP_F_OVER)
		return c->state == TCP_S_SYN_SENT ? -EALREADY : -EISCONN;
	c->iss = 0;
	err = connect_addresses(t, c, remote, &hash);
	if (err) {
		ip_dst_put(t, c->dst);
		c->dst = NULL;
		return err;
	}
	isn = tcp_isn(t, &c->n.local, &c->n.remote, &c->ts_off);
	if (!c->iss)
		c->iss = isn;
	c->una = c->iss;
	c->nxt = c->iss + 1;
	c->sml = c->una;
	c->rcv_wscale = tcp_wscale_for(c->rx.size);
	c->flags |= TCP_F_TS;
	c->created = t->now;
	tcp_node_add(t, &c->n, hash);
	tcp_set_state(t, c, TCP_S_SYN_SENT);
	s->local = c->n.local;
	s->remote = c->n.remote;
	shm_session_set_state(s, SHM_S_CONNECTING);
	COUNT(t, tcp_active_opens);
	c->rtt_start = t->now;
	tcp_send_syn(t, c); /* a failure is a loss: the timer repeats it */
	tcp_timer_set(t, c, TCP_T_REXMIT, t->now + TCP_RTO_INIT);
	tcp_syn_watch(t, c);
	return -EINPROGRESS;
}

/* --- data and end ------------------------------------------------------------------------------------------ */

void tcp_tx_ready(struct tcpip *t, struct shm_session *s, uint32_t flags)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c || c->state == TCP_S_CLOSE || c->state == TCP_S_LISTEN)
		return;
	if (flags & STACK_TX_MORE)
		c->flags = (c->flags | TCP_F_MORE) & ~TCP_F_CORK_EXPIRED;
	else
		c->flags &= ~TCP_F_MORE;
	tcp_do(t, c, TCP_DO_OUTPUT);
}

void tcp_rx_freed(struct tcpip *t, struct shm_session *s)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c || c->state == TCP_S_CLOSE || c->state == TCP_S_LISTEN || c->state == TCP_S_SYN_SENT)
		return;
	if (fifo_tail(&c->rx) < c->rx_mark)
		return;
	COUNT(t, tcp_window_updates);
	tcp_do(t, c, TCP_DO_ACK);
}

static void want_fin(struct tcpip *t, struct tcp_conn *c)
{
	if (c->flags & TCP_F_FIN_WANTED)
		return;
	c->flags |= TCP_F_FIN_WANTED;
	tcp_fin_state(t, c);
	tcp_do(t, c, TCP_DO_OUTPUT);
}

int tcp_shutdown(struct tcpip *t, struct shm_session *s, int how)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c)
		return -ENOTCONN;
	switch (c->state) {
	case TCP_S_SYN_SENT:
		if (how == SHUT_RD)
			return -ENOTCONN;
		tcp_conn_end(t, c, ECONNRESET);
		return 0;
	case TCP_S_CLOSE:
		return -ENOTCONN;
	case TCP_S_LISTEN:
		if (how == SHUT_WR)
			return 0;
		tcp_listen_stop(t, c);
		tcp_conn_end(t, c, 0);
		return 0;
	default:
		if (how != SHUT_RD)
			want_fin(t, c);
		return 0;
	}
}

static void close_live(struct tcpip *t, struct tcp_conn *c, int linger_s)
{
	/* both have said all they had to say: as Linux, no reset */
	bool said = (c->state == TCP_S_CLOSING || c->state == TCP_S_LAST_ACK) && !tcp_unsent(c);

	if (fifo_used(&c->rx) || (linger_s == 0 && !said)) { /* RFC 2525 2.17: unread data is a reset */
		tcp_conn_abort(t, c, ECONNRESET);
		return;
	}
	if (linger_s == 0) {
		tcp_conn_end(t, c, 0);
		return;
	}
	if (c->state == TCP_S_FIN_WAIT2) {
		if (c->o.linger2_s < 0)
			tcp_conn_abort(t, c, 0);
		else
			tcp_tw_enter(t, c, TCP_TW_FIN);
		return;
	}
	tcp_timer_off(c, TCP_T_KEEP);
	want_fin(t, c);
	tcp_do(t, c, TCP_DO_OUTPUT);
}

void tcp_close(struct tcpip *t, struct shm_session *s, int linger_s)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c) {
		shm_session_free(t->region, s);
		return;
	}
	if (c->flags & TCP_F_CLOSED)
		return;
	c->flags |= TCP_F_CLOSED;
	switch (c->state) {
	case TCP_S_LISTEN:
		tcp_listen_stop(t, c);
		tcp_conn_end(t, c, 0);
		break;
	case TCP_S_CLOSE:
	case TCP_S_SYN_SENT:
		tcp_conn_end(t, c, 0);
		break;
	default:
		close_live(t, c, linger_s);
		break;
	}
}

/* --- options --------------------------------------------------------------------------------------------------- */

static int set_congestion(struct tcp_conn *c, const void *v, uint32_t len)
{
	char name[17] = "";

	memcpy(name, v, len < 16 ? len : 16);
	for (uint8_t i = 0; i < TCP_CC_NR; i++)
		if (!strcmp(name, tcp_ccs[i]->name)) {
			c->o.cc = i;
			if (c->cc && c->cc != tcp_ccs[i]) {
				c->cc = tcp_ccs[i];
				c->cc->init(c);
			}
			return 0;
		}
	return -ENOENT;
}

static int set_rcvbuf(struct tcpip *t, struct tcp_conn *c, int v)
{
	uint32_t n = v < 2048 ? 2048 : (uint32_t)v;

	c->s->rx_limit = min_u32(n, c->rx.size);
	c->o.rcvbuf_set = true;
	if (c->flags & TCP_F_EVER)
		tcp_recv_mark(t, c);
	return 0;
}

static int set_int(struct tcpip *t, struct tcp_conn *c, int opt, int v)
{
	struct tcp_opts *o = &c->o;

	switch (opt) {
	case STACK_OPT_NODELAY:
		o->nodelay = v;
		break;
	case STACK_OPT_KEEPALIVE:
		o->keepalive = v;
		tcp_keep_arm(t, c);
		return 0;
	case STACK_OPT_KEEPIDLE:
		if (v < 1 || v > 32767)
			return -EINVAL;
		o->keepidle_s = (uint32_t)v;
		tcp_keep_arm(t, c);
		return 0;
	case STACK_OPT_KEEPINTVL:
		if (v < 1 || v > 32767)
			return -EINVAL;
		o->keepintvl_s = (uint32_t)v;
		return 0;
	case STACK_OPT_KEEPCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		o->keepcnt = (uint8_t)v;
		return 0;
	case STACK_OPT_RCVBUF:
		return set_rcvbuf(t, c, v);
	case STACK_OPT_SNDBUF:
		return 0; /* tx_limit is the socket layer's */
	case STACK_OPT_MAXSEG:
		if (v && (v < (int)TCP_MSS_MIN || v > 32767))
			return -EINVAL;
		o->maxseg = (uint16_t)v;
		if (c->flags & TCP_F_EVER && c->dst)
			tcp_conn_mss(c);
		return 0;
	case STACK_OPT_QUICKACK:
		o->no_quickack = !v;
		c->flags &= ~TCP_F_PINGPONG;
		c->quick = v ? 16 : 0;
		if (v && c->due[TCP_T_DELACK])
			tcp_do(t, c, TCP_DO_ACK);
		return 0;
	case STACK_OPT_USER_TIMEOUT:
		if (v < 0)
			return -EINVAL;
		o->user_timeout_ms = (uint32_t)v;
		return 0;
	case STACK_OPT_SYNCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		o->syncnt = (uint8_t)v;
		return 0;
	case STACK_OPT_LINGER2:
		o->linger2_s = v < 0 ? -1 : v > 120 ? 120 : v;
		return 0;
	case STACK_OPT_DEFER_ACCEPT:
		o->defer_accept_s = v < 0 ? 0 : (uint32_t)v;
		return 0;
	case STACK_OPT_WINDOW_CLAMP:
		o->window_clamp = v <= 0 ? 0 : max_u32((uint32_t)v, 2048);
		return 0;
	case STACK_OPT_TOS:
		o->tos = (uint8_t)v;
		return 0;
	case STACK_OPT_TTL:
		if (v < -1 || v == 0 || v > 255)
			return -EINVAL;
		o->ttl = (int16_t)v;
		return 0;
	case STACK_OPT_MTU_DISCOVER:
		o->mtu_discover = (uint8_t)v;
		return 0;
	case STACK_OPT_BINDTODEVICE:
		if (c->state != TCP_S_CLOSE && c->state != TCP_S_LISTEN)
			return -EINVAL;
		o->oif = (unsigned)v;
		return 0;
	case STACK_OPT_V6ONLY:
		if (c->state == TCP_S_LISTEN)
			return -EINVAL;
		o->v6only = v;
		return 0;
	case STACK_OPT_RECVERR:
	case STACK_OPT_BROADCAST:
	case STACK_OPT_MCAST_TTL:
	case STACK_OPT_MCAST_IF:
		return 0; /* mean nothing here */
	default:
		return -ENOPROTOOPT;
	}
	/* NODELAY: what was held back may leave */
	if (c->state != TCP_S_CLOSE && c->state != TCP_S_LISTEN)
		tcp_do(t, c, TCP_DO_OUTPUT);
	return 0;
}

int tcp_setopt(struct tcpip *t, struct shm_session *s, int opt, const void *v, uint32_t len)
{
	struct tcp_conn *c = tcp_of(t, s);
	int val;

	if (!c)
		return -EINVAL;
	if (opt == STACK_OPT_CONGESTION)
		return set_congestion(c, v, len);
	if (len < sizeof(val))
		return -EINVAL;
	memcpy(&val, v, sizeof(val));
	return set_int(t, c, opt, val);
}

static int get_int(struct tcp_conn *c, int opt, int *v)
{
	const struct tcp_opts *o = &c->o;

	switch (opt) {
	case STACK_OPT_NODELAY: *v = o->nodelay; break;
	case STACK_OPT_KEEPALIVE: *v = o->keepalive; break;
	case STACK_OPT_KEEPIDLE: *v = o->keepidle_s ? (int)o->keepidle_s : 7200; break;
	case STACK_OPT_KEEPINTVL: *v = o->keepintvl_s ? (int)o->keepintvl_s : 75; break;
	case STACK_OPT_KEEPCNT: *v = o->keepcnt ? o->keepcnt : 9; break;
	case STACK_OPT_RCVBUF: *v = (int)c->s->rx_limit; break;
	case STACK_OPT_SNDBUF: *v = (int)c->s->tx_limit; break;
	case STACK_OPT_MAXSEG: *v = c->flags & TCP_F_EVER ? c->mss : o->maxseg ? o->maxseg : 536; break;
	case STACK_OPT_QUICKACK: *v = !o->no_quickack && !(c->flags & TCP_F_PINGPONG); break;
	case STACK_OPT_USER_TIMEOUT: *v = (int)o->user_timeout_ms; break;
	case STACK_OPT_SYNCNT: *v = o->syncnt ? o->syncnt : TCP_SYN_RETRIES; break;
	case STACK_OPT_LINGER2: *v = o->linger2_s ? o->linger2_s : 60; break;
	case STACK_OPT_DEFER_ACCEPT: *v = (int)o->defer_accept_s; break;
	case STACK_OPT_WINDOW_CLAMP: *v = (int)o->window_clamp; break;
	case STACK_OPT_TOS: *v = o->tos; break;
	case STACK_OPT_TTL: *v = o->ttl < 0 ? 64 : o->ttl; break;
	case STACK_OPT_MTU_DISCOVER: *v = o->mtu_discover; break;
	case STACK_OPT_V6ONLY: *v = o->v6only; break;
	case STACK_OPT_BINDTODEVICE: *v = (int)o->oif; break;
	default: return -ENOPROTOOPT;
	}
	return 0;
}

int tcp_getopt(struct tcpip *t, struct shm_session *s, int opt, void *v, uint32_t *len)
{
	struct tcp_conn *c = tcp_of(t, s);
	int val = 0, err;

	if (!c)
		return -EINVAL;
	if (opt == STACK_OPT_CONGESTION) {
		const char *name = tcp_ccs[c->o.cc]->name;
		char buf[16] = "";

		memcpy(buf, name, strlen(name));
		if (*len > sizeof(buf))
			*len = sizeof(buf);
		memcpy(v, buf, *len);
		return 0;
	}
	err = get_int(c, opt, &val);
	if (err)
		return err;
	if (*len > sizeof(val))
		*len = sizeof(val);
	memcpy(v, &val, *len);
	return 0;
}
