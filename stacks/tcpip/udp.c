/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/udp.c - UDP sockets: life, bind, connect, options, tables
 *
 * A socket with a port is in one of two tables: connected ones by both addresses, the others by
 * local port. A datagram is looked up in the first, then in the second. Conflicts of ports are the
 * kernel's to find (the shadow socket binds first), so bind never refuses an address that it can
 * hold.
 *
 * Threads: under the worker's lock. Not here: looping back multicast to our own sockets, source
 * filters of memberships (the kernel has them on the shadow).
 */
#include "udp_internal.h"

#include <netinet/in.h>
#include <stdlib.h>

/* --- tables ------------------------------------------------------------------------------------ */

uint32_t udp_flow_bucket(struct tcpip *t, const struct nst_addr *local,
			 const struct nst_addr *remote)
{
	uint64_t w[5] = { (uint64_t)local->port << 16 | remote->port };

	memcpy(w + 1, local->v6, local->family == AF_INET ? 4 : 16);
	memcpy(w + 3, remote->v6, remote->family == AF_INET ? 4 : 16);
	return tcpip_hash(t->secret, w, 5) & (UDP_BUCKETS - 1);
}

static void unhash(struct udp_sock *u)
{
	if (!u->pprev)
		return;
	*u->pprev = u->next;
	if (u->next)
		u->next->pprev = u->pprev;
	u->pprev = NULL;
}

static void rehash(struct udp_sock *u)
{
	struct udp *m = u->t->udp;
	struct udp_sock **b;

	unhash(u);
	if (!u->bound.port)
		return;
	b = u->connected ? &m->by_flow[udp_flow_bucket(u->t, &u->local, &u->remote)]
			 : &m->by_port[udp_port_bucket(u->bound.port)];
	u->next = *b;
	if (*b)
		(*b)->pprev = &u->next;
	u->pprev = b;
	*b = u;
}

/* --- work -------------------------------------------------------------------------------------- */

void udp_work_add(struct udp_sock *u, uint32_t events)
{
	struct udp *m = u->t->udp;

	u->events |= events;
	if (u->work_pprev)
		return;
	u->work_next = m->work;
	if (m->work)
		m->work->work_pprev = &u->work_next;
	u->work_pprev = &m->work;
	m->work = u;
}

static void work_del(struct udp_sock *u)
{
	if (!u->work_pprev)
		return;
	*u->work_pprev = u->work_next;
	if (u->work_next)
		u->work_next->work_pprev = u->work_pprev;
	u->work_pprev = NULL;
}

void udp_work(struct tcpip *t)
{
	struct udp_sock *u;

	while ((u = t->udp->work)) {
		uint32_t ev = u->events;

		u->events = 0;
		work_del(u);
		if (ev)
			tcpip_event(t, u->s, ev);
	}
}

/* Frames were short: try again. */
static void on_retry(void *arg, struct wheel_timer *w)
{
	struct tcpip *t = arg;

	for (struct udp_sock *u = t->udp->all; u; u = u->all_next)
		if (u->tx_pending)
			udp_drain(u);
}

void udp_error(struct udp_sock *u, int err)
{
	/* release: pairs session.error - the reader exchanges it for 0 */
	__atomic_store_n(&u->s->error, err, __ATOMIC_RELEASE);
	udp_work_add(u, STACK_EV_ERR | STACK_EV_IN | STACK_EV_OUT);
}

/* --- life -------------------------------------------------------------------------------------- */

int udp_init(struct tcpip *t)
{
	t->udp = calloc(1, sizeof(*t->udp));
	if (!t->udp)
		return -ENOMEM;
	t->udp->retry.fn = on_retry;
	return 0;
}

static void sock_free(struct udp_sock *u)
{
	struct tcpip *t = u->t;

	unhash(u);
	work_del(u);
	*u->all_pprev = u->all_next;
	if (u->all_next)
		u->all_next->all_pprev = u->all_pprev;
	ip_dst_put(t, u->dst);
	tcpip_port_put(t, u->port);
	t->sock[u->sid] = NULL;
	free(u->groups);
	free(u);
}

void udp_exit(struct tcpip *t)
{
	while (t->udp->all)
		sock_free(t->udp->all);
	wheel_del(&t->wheel, &t->udp->retry);
	free(t->udp);
	t->udp = NULL;
}

int udp_open(struct tcpip *t, struct shm_session *s)
{
	uint32_t sid = shm_session_index(t->region, s);
	struct udp_sock *u;

	if (t->sock[sid])
		return -EEXIST;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->t = t;
	u->s = s;
	u->sid = sid;
	u->rx = shm_session_rx(t->region, s);
	u->tx = shm_session_tx(t->region, s);
	u->family = s->family;
	u->v6only = s->v6only;
	u->mcast_ttl = 1;
	u->v4 = u->v6 = (struct udp_opts){ .ttl = -1, .pmtudisc = IP_PMTUDISC_WANT };
	u->all_next = t->udp->all;
	if (u->all_next)
		u->all_next->all_pprev = &u->all_next;
	u->all_pprev = &t->udp->all;
	t->udp->all = u;
	t->sock[sid] = u;
	t->sock_proto[sid] = IPPROTO_UDP;
	shm_session_set_state(s, SHM_S_IDLE);
	return 0;
}

void udp_close(struct tcpip *t, struct shm_session *s)
{
	struct udp_sock *u = udp_of(t, s);

	if (!u) { /* never opened */
		shm_session_free(t->region, s);
		return;
	}
	udp_drain(u); /* what was written before close() still goes out, if it can at once */
	sock_free(u);
	shm_session_free(t->region, s);
}

static bool family_ok(const struct udp_sock *u, const struct nst_addr *a)
{
	if (a->family == u->family)
		return true;
	return a->family == AF_INET && u->family == AF_INET6 && !u->v6only;
}

int udp_bind(struct tcpip *t, struct shm_session *s, const struct nst_addr *local)
{
	struct udp_sock *u = udp_of(t, s);
	struct port_ref *p = NULL;

	if (!u)
		return -EINVAL;
	if (local->port && !family_ok(u, local))
		return -EAFNOSUPPORT;
	if (local->port) {
		p = tcpip_port_get(t, IPPROTO_UDP, local);
		if (!p)
			return -ENOBUFS;
	}
	tcpip_port_put(t, u->port);
	u->port = p;
	u->bound = *local;
	ip_dst_put(t, u->dst);
	u->dst = NULL;
	if (!u->connected)
		s->local = *local;
	rehash(u);
	return 0;
}

int udp_connect(struct tcpip *t, struct shm_session *s, const struct nst_addr *remote)
{
	struct udp_sock *u = udp_of(t, s);
	const struct nst_addr *bound;
	struct ip_dst *d;
	int err;

	if (!u)
		return -EINVAL;
	if (!family_ok(u, remote))
		return -EAFNOSUPPORT;
	if (!u->bound.port)
		return -EADDRNOTAVAIL;
	bound = nst_addr_is_any(&u->bound) ? NULL : &u->bound;
	if (bound && bound->family != remote->family)
		return -EAFNOSUPPORT;
	d = ip_dst_get(t, remote, bound, u->device, &err);
	if (!d && !bound)
		return err;
	ip_dst_put(t, u->dst);
	u->dst = d;
	u->dst_oif = u->device;
	u->local = d ? d->src : *bound;
	u->local.port = u->bound.port;
	u->remote = *remote;
	u->connected = true;
	s->local = u->local;
	s->remote = *remote;
	s->mss = d ? udp_max_whole(u, d) : 0;
	shm_session_set_state(s, SHM_S_CONNECTED);
	rehash(u);
	return 0;
}

int udp_disconnect(struct tcpip *t, struct shm_session *s)
{
	struct udp_sock *u = udp_of(t, s);

	if (!u)
		return -EINVAL;
	udp_drain(u); /* datagrams without an address were meant for the old remote */
	u->connected = false;
	memset(&u->remote, 0, sizeof(u->remote));
	shm_session_set_state(s, SHM_S_IDLE);
	memset(&s->remote, 0, sizeof(s->remote));
	s->local = u->bound;
	rehash(u);
	return 0;
}

int udp_shutdown(struct tcpip *t, struct shm_session *s, int how)
{
	struct udp_sock *u = udp_of(t, s);
	uint32_t ev = 0;

	if (!u)
		return -EINVAL;
	if (how == SHUT_RD || how == SHUT_RDWR) {
		s->stack_flags |= SHM_SF_RX_EOF;
		ev |= STACK_EV_IN | STACK_EV_RDHUP;
	}
	if (how == SHUT_WR || how == SHUT_RDWR) {
		udp_drain(u);
		s->stack_flags |= SHM_SF_TX_DEAD;
		ev |= STACK_EV_OUT;
	}
	if (s->stack_flags & SHM_SF_RX_EOF && s->stack_flags & SHM_SF_TX_DEAD)
		ev |= STACK_EV_HUP;
	udp_work_add(u, ev);
	return 0;
}

void udp_tx_ready(struct tcpip *t, struct shm_session *s, uint32_t flags)
{
	struct udp_sock *u = udp_of(t, s);

	if (u)
		udp_drain(u);
}

void udp_rx_freed(struct tcpip *t, struct shm_session *s)
{
	/* no window to open: the next datagram finds the space */
}

/* --- options ------------------------------------------------------------------------------------ */

/* Everything that is an int here; true: *v was set or read. */
static bool int_option(struct udp_sock *u, int opt, int *v, bool set)
{
#define FIELD(f) (set ? (void)(u->f = (__typeof__(u->f))*v) : (void)(*v = (int)u->f))
	switch (opt) {
	case STACK_OPT_TOS:          FIELD(v4.tos); return true;
	case STACK_OPT_TTL:          FIELD(v4.ttl); return true;
	case STACK_OPT_MTU_DISCOVER: FIELD(v4.pmtudisc); return true;
	case STACK_OPT_RECVERR:      FIELD(v4.recverr); return true;
	case STACK_OPT_TCLASS:       FIELD(v6.tos); return true;
	case STACK_OPT_HOPLIMIT:     FIELD(v6.ttl); return true;
	case STACK_OPT_MTU_DISCOVER6: FIELD(v6.pmtudisc); return true;
	case STACK_OPT_RECVERR6:     FIELD(v6.recverr); return true;
	case STACK_OPT_MCAST_TTL:    FIELD(mcast_ttl); return true;
	case STACK_OPT_MCAST_IF:     FIELD(mcast_if); return true;
	case STACK_OPT_V6ONLY:       FIELD(v6only); return true;
	case STACK_OPT_BROADCAST:    FIELD(broadcast); return true;
	case STACK_OPT_BINDTODEVICE: FIELD(device); return true;
	}
#undef FIELD
	return false;
}

static uint32_t limit(uint32_t want, const struct fifo *f)
{
	if (want < 4096)
		want = 4096;
	return want < f->size ? want : f->size;
}

int udp_setopt(struct tcpip *t, struct shm_session *s, int opt, const void *v, uint32_t len)
{
	struct udp_sock *u = udp_of(t, s);
	int val;

	if (!u || len < sizeof(val))
		return -EINVAL;
	memcpy(&val, v, sizeof(val));
	if (opt == STACK_OPT_RCVBUF)
		s->rx_limit = limit((uint32_t)val, &u->rx);
	else if (opt == STACK_OPT_SNDBUF)
		s->tx_limit = limit((uint32_t)val, &u->tx);
	else if (!int_option(u, opt, &val, true))
		return -ENOPROTOOPT;
	return 0;
}

int udp_getopt(struct tcpip *t, struct shm_session *s, int opt, void *v, uint32_t *len)
{
	struct udp_sock *u = udp_of(t, s);
	int val;

	if (!u || *len < sizeof(val))
		return -EINVAL;
	if (opt == STACK_OPT_RCVBUF)
		val = (int)s->rx_limit;
	else if (opt == STACK_OPT_SNDBUF)
		val = (int)s->tx_limit;
	else if (opt == STACK_OPT_MAXSEG) /* longest datagram that needs no fragments; 0 = not known */
		val = u->connected && u->dst ? (int)udp_max_whole(u, u->dst) : 0;
	else if (!int_option(u, opt, &val, false))
		return -ENOPROTOOPT;
	memcpy(v, &val, sizeof(val));
	*len = sizeof(val);
	return 0;
}

int udp_join(struct tcpip *t, struct shm_session *s, const struct nst_addr *group,
	     unsigned ifindex, bool leave)
{
	struct udp_sock *u = udp_of(t, s);
	struct udp_group *g;
	uint32_t i;

	if (!u || !family_ok(u, group))
		return -EINVAL;
	for (i = 0; i < u->ngroups; i++)
		if (nst_addr_same_ip(&u->groups[i].addr, group) &&
		    (u->groups[i].ifindex == ifindex || (leave && !ifindex)))
			break;
	if (leave) {
		if (i == u->ngroups)
			return -EADDRNOTAVAIL;
		u->groups[i] = u->groups[--u->ngroups];
		return 0;
	}
	if (i < u->ngroups)
		return -EADDRINUSE;
	if (u->ngroups == UDP_GROUPS_MAX)
		return -ENOBUFS;
	g = realloc(u->groups, sizeof(*g) * (u->ngroups + 1));
	if (!g)
		return -ENOMEM;
	u->groups = g;
	g[u->ngroups++] = (struct udp_group){ *group, ifindex };
	return 0;
}

/* --- observation --------------------------------------------------------------------------------- */

static void sock_info(const struct udp_sock *u, struct stack_sock_info *out)
{
	*out = (struct stack_sock_info){
		.session = u->sid,
		.proto = IPPROTO_UDP,
		.tcp_state = u->connected ? 1 : 7, /* TCP_ESTABLISHED, TCP_CLOSE, as ss has it */
		.local = u->connected ? u->local : u->bound,
		.remote = u->remote,
		.recv_q = fifo_used(&u->rx),
		.send_q = fifo_used(&u->tx),
		.bytes_in = u->in_bytes,
		.bytes_out = u->out_bytes,
		.packets_in = u->in_datagrams,
		.packets_out = u->out_datagrams,
	};
}

int udp_sock_info(struct tcpip *t, const struct shm_session *s, struct stack_sock_info *out)
{
	const struct udp_sock *u = udp_of(t, s);

	if (!u)
		return -ENOENT;
	sock_info(u, out);
	return 0;
}

uint32_t udp_sockets(struct tcpip *t, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint64_t skip = *cursor;
	uint32_t got = 0;
	struct udp_sock *u;

	for (u = t->udp->all; u && skip; u = u->all_next)
		skip--;
	for (; u && got < n; u = u->all_next, got++)
		sock_info(u, &out[got]);
	*cursor = u ? *cursor + got : UINT64_MAX;
	return got;
}

void udp_flows(struct tcpip *t, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
					   const struct nst_addr *remote), void *arg)
{
	for (struct udp_sock *u = t->udp->all; u; u = u->all_next)
		if (u->connected)
			fn(arg, IPPROTO_UDP, &u->local, &u->remote);
}
