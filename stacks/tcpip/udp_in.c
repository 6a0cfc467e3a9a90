/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/udp_in.c - datagrams and errors that come in
 *
 * A datagram becomes one record in the receive FIFO of its socket, or is dropped and counted when
 * the FIFO is full. Multicast and broadcast go to every socket that wants them; unicast to one: the
 * connected socket of the flow, else the unconnected one that fits best (address before any), among
 * equals (SO_REUSEPORT) the one that the flow's hash picks.
 *
 * A peer on the same machine may hand us a whole train of datagrams (UDP_SEGMENT) as one packet
 * that says nothing of the size of its cars. Such a packet is longer than the link's MTU, which no
 * single datagram can be, and is dropped and counted here; the steering program leaves those to
 * the kernel, which knows the size.
 *
 * An error record (IP_RECVERR) carries a struct shm_dgram_error, then what the ICMP message quotes
 * of our payload.
 */
#include "udp_internal.h"

#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <time.h>

/* One look at the clock for all that a poll brings. */
static uint64_t realtime(struct tcpip *t)
{
	struct udp *m = t->udp;
	struct timespec ts;

	if (m->real_at != t->now) {
		clock_gettime(CLOCK_REALTIME, &ts);
		m->real = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
		m->real_at = t->now;
	}
	return m->real;
}

/* --- into the FIFO ----------------------------------------------------------------------------- */

/* Space for a record of that payload? An empty FIFO takes one of any size that fits. */
static bool has_room(const struct udp_sock *u, uint32_t len)
{
	uint32_t need = shm_dgram_size(len), used = fifo_used(&u->rx), lim = u->s->rx_limit;

	if (need > u->rx.size - used)
		return false;
	return !used || (uint64_t)used + need <= lim;
}

static void store_record(struct udp_sock *u, const struct shm_dgram *dg, const struct iovec *v,
			 uint32_t nv)
{
	uint32_t at = sizeof(*dg);

	fifo_rewind(&u->rx);
	fifo_store(&u->rx, 0, dg, sizeof(*dg));
	for (uint32_t i = 0; i < nv; at += (uint32_t)v[i++].iov_len)
		fifo_store(&u->rx, at, v[i].iov_base, (uint32_t)v[i].iov_len);
	fifo_publish(&u->rx, shm_dgram_size(dg->len));
}

static void deliver(struct udp_sock *u, const struct ip_pkt *p, uint32_t len, uint64_t tstamp)
{
	struct iovec v[IP_PKT_IOV];
	struct shm_dgram dg;
	uint32_t nv;

	if (u->s->stack_flags & SHM_SF_RX_EOF)
		return;
	if (!has_room(u, len)) {
		COUNT(u->t, udp_rx_full);
		u->s->rx_drops++;
		return;
	}
	memset(&dg, 0, sizeof(dg));
	dg.len = len;
	dg.drops = u->s->rx_drops;
	dg.peer = p->src;
	dg.local = p->dst;
	dg.ifindex = p->port->ifindex;
	dg.tos = p->tos;
	dg.ttl = p->ttl;
	dg.tstamp_ns = tstamp;
	nv = ip_pkt_spans(p, UDP_HDR, len, v);
	store_record(u, &dg, v, nv);
	u->in_bytes += len;
	u->in_datagrams++;
	COUNT(u->t, udp_in);
	udp_work_add(u, STACK_EV_IN);
}

/* --- whose is it ------------------------------------------------------------------------------- */

static struct udp_sock *find_connected(struct tcpip *t, const struct nst_addr *local,
				       const struct nst_addr *remote, unsigned ifindex)
{
	struct udp_sock *u = t->udp->by_flow[udp_flow_bucket(t, local, remote)];

	for (; u; u = u->next)
		if (u->local.port == local->port && u->remote.port == remote->port &&
		    nst_addr_same_ip(&u->local, local) && nst_addr_same_ip(&u->remote, remote) &&
		    (!u->device || u->device == ifindex))
			return u;
	return NULL;
}

/* How well an unconnected socket fits; 0 = not at all. */
static unsigned score(const struct udp_sock *u, const struct nst_addr *local, unsigned ifindex)
{
	unsigned s;

	if (u->bound.port != local->port || (u->device && u->device != ifindex))
		return 0;
	if (u->bound.family == local->family) {
		if (nst_addr_is_any(&u->bound))
			s = u->family == AF_INET6 && local->family == AF_INET ? 1 : 2;
		else if (nst_addr_same_ip(&u->bound, local))
			s = 4;
		else
			return 0;
	} else if (u->bound.family == AF_INET6 && !u->v6only && nst_addr_is_any(&u->bound)) {
		s = 1; /* takes IPv4 too, if no IPv4 socket does */
	} else {
		return 0;
	}
	return s * 2 + (u->device != 0);
}

static struct udp_sock *find_bound(struct tcpip *t, const struct nst_addr *local,
				   const struct nst_addr *remote, unsigned ifindex)
{
	struct udp_sock *u, *best = NULL, *first = t->udp->by_port[udp_port_bucket(local->port)];
	unsigned top = 0, n = 0, pick;

	for (u = first; u; u = u->next) {
		unsigned s = score(u, local, ifindex);

		if (s > top) {
			top = s;
			best = u;
			n = 1;
		} else if (s && s == top) {
			n++;
		}
	}
	if (n < 2)
		return best;
	/* without SO_REUSEPORT the last one bound gets all, as in the kernel: it is first here */
	if (!best->s->reuseport)
		return best;
	pick = udp_flow_bucket(t, local, remote) % n;
	for (u = best; u; u = u->next)
		if (score(u, local, ifindex) == top && !pick--)
			return u;
	return best;
}

static bool is_member(const struct udp_sock *u, const struct nst_addr *group, unsigned ifindex)
{
	for (uint32_t i = 0; i < u->ngroups; i++)
		if (nst_addr_same_ip(&u->groups[i].addr, group) &&
		    (!u->groups[i].ifindex || u->groups[i].ifindex == ifindex))
			return true;
	return false;
}

static bool is_multicast(const struct nst_addr *a)
{
	return a->family == AF_INET ? ntohl(a->v4) >> 28 == 14 : a->v6[0] == 0xff;
}

/* To everybody who wants it. */
static void deliver_many(struct tcpip *t, const struct ip_pkt *p, uint32_t len, uint64_t tstamp)
{
	struct udp_sock *u = find_connected(t, &p->dst, &p->src, p->port->ifindex);
	bool mcast = is_multicast(&p->dst), any = false;

	if (u) {
		deliver(u, p, len, tstamp);
		any = true;
	}
	for (u = t->udp->by_port[udp_port_bucket(p->dst.port)]; u; u = u->next) {
		if (!score(u, &p->dst, p->port->ifindex) ||
		    (mcast && !is_member(u, &p->dst, p->port->ifindex)))
			continue;
		deliver(u, p, len, tstamp);
		any = true;
	}
	if (!any)
		COUNT(t, udp_no_socket);
}

/* --- input ------------------------------------------------------------------------------------- */

static bool is_train(struct tcpip *t, const struct ip_pkt *p)
{
	uint32_t l3 = p->l4_len + (uint32_t)(p->l4_off - p->l3_off);
	const struct netcfg_link *l;

	if (l3 <= 1280) /* spares most packets the look at the link */
		return false;
	l = netcfg_link(t->nc, p->port->ifindex);
	return l && l3 > l->mtu;
}

void udp_input(struct tcpip *t, struct ip_pkt *p)
{
	struct udphdr uh;
	struct udp_sock *u;
	uint32_t len;

	if (p->l4_len < UDP_HDR || p->l4_linear < UDP_HDR) {
		COUNT(t, udp_bad_length);
		return;
	}
	memcpy(&uh, ip_pkt_l4(p), sizeof(uh));
	len = ntohs(uh.len);
	if (len < UDP_HDR || len > p->l4_len || !uh.dest) {
		COUNT(t, udp_bad_length);
		return;
	}
	if (is_train(t, p)) {
		COUNT(t, udp_rx_train);
		return;
	}
	p->l4_len = len; /* what follows is padding */
	p->src.port = uh.source;
	p->dst.port = uh.dest;
	/* IPv4: 0 = not checksummed; IPv6 has no such thing (RFC 8200, 8.1) */
	if ((uh.check || p->src.family == AF_INET6) &&
	    (!uh.check || !ip_pkt_csum(t, p, offsetof(struct udphdr, check)))) {
		COUNT(t, udp_bad_csum);
		return;
	}
	len -= UDP_HDR;
	if (p->bcast || is_multicast(&p->dst)) {
		deliver_many(t, p, len, realtime(t));
		return;
	}
	u = find_connected(t, &p->dst, &p->src, p->port->ifindex);
	if (!u)
		u = find_bound(t, &p->dst, &p->src, p->port->ifindex);
	if (!u) {
		COUNT(t, udp_no_socket);
		icmp_port_unreachable(t, p);
		return;
	}
	deliver(u, p, len, realtime(t));
}

/* --- errors ------------------------------------------------------------------------------------ */

static void deliver_error(struct udp_sock *u, const struct icmp_error *e)
{
	uint32_t quoted = e->l4_len > UDP_HDR ? e->l4_len - UDP_HDR : 0;
	struct shm_dgram_error ee = { 0 };
	struct shm_dgram dg;
	struct iovec v[2] = { { &ee, sizeof(ee) }, { (void *)(e->l4 + UDP_HDR), quoted } };

	if (!has_room(u, sizeof(ee) + quoted)) {
		COUNT(u->t, udp_rx_full);
		return;
	}
	ee.err = (uint32_t)e->err;
	ee.origin = e->family == AF_INET ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6;
	ee.type = e->type;
	ee.code = e->code;
	ee.info = e->mtu;
	ee.from = *e->from;
	memset(&dg, 0, sizeof(dg));
	dg.len = (uint32_t)sizeof(ee) + quoted;
	dg.flags = SHM_DG_ERROR;
	dg.peer = e->remote;
	dg.local = e->local;
	dg.ifindex = e->ifindex;
	dg.tos = e->tos;
	dg.ttl = e->ttl;
	dg.tstamp_ns = realtime(u->t);
	store_record(u, &dg, v, quoted ? 2 : 1);
	/* release: pairs session.rx_errors - the record is in the FIFO */
	__atomic_store_n(&u->s->rx_errors, u->s->rx_errors + 1, __ATOMIC_RELEASE);
}

static void learn_mtu(struct udp_sock *u, const struct icmp_error *e)
{
	struct ip_dst *d;
	int err;

	d = e->mtu ? ip_dst_get(u->t, &e->remote, u->connected ? &u->local : &u->bound, u->device,
				&err) : NULL;
	if (!d)
		return;
	ip_dst_pmtu(u->t, d, e->mtu);
	if (u->dst && u->dst != d && nst_addr_same_ip(&u->dst->remote, &e->remote))
		ip_dst_pmtu(u->t, u->dst, e->mtu);
	ip_dst_put(u->t, d);
	if (u->connected && u->dst)
		u->s->mss = udp_max_whole(u, u->dst);
}

void udp_icmp_error(struct tcpip *t, const struct icmp_error *e)
{
	struct udp_sock *u = find_connected(t, &e->local, &e->remote, e->ifindex);
	bool hard = e->hard;

	if (!u)
		u = find_bound(t, &e->local, &e->remote, e->ifindex);
	if (!u) {
		COUNT(t, icmp_ignored);
		return;
	}
	COUNT(t, udp_icmp_errors);
	if (e->err == EMSGSIZE) {
		learn_mtu(u, e);
		if (udp_opts(u, &e->remote)->pmtudisc == IP_PMTUDISC_DONT)
			return;
		hard = true;
	}
	if (udp_opts(u, &e->remote)->recverr)
		deliver_error(u, e);
	else if (!hard || !u->connected)
		return;
	udp_error(u, e->err);
}
