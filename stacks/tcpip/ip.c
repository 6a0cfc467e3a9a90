/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/ip.c - frames in, frames out
 *
 * In: Ethernet and IP headers are checked, the packet is described by a struct ip_pkt on the stack
 * and given to its transport. Payload stays in the driver's frames.
 *
 * Out: a struct ip_dst joins route, neighbour and ready-made headers; a segment takes one transmit
 * frame from the port's small stock, copies the headers in, and is queued; ip_flush() hands
 * everything to the drivers with one kick. Packets whose neighbour is not yet known wait in the
 * ip_dst, few of them.
 *
 * Threads: under the worker's lock. Not here: fragments (the kernel gets them), forwarding, ARP and
 * ND (the kernel's), fragmenting (udp.c).
 */
#include "ip.h"

#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stdlib.h>

#define DST_BUCKETS 4096u
#define DST_UNUSED_MAX 2048u
#define DST_ERR_NS (1 * NS_PER_S)
#define NEIGH_WAIT_MAX 64u
#define V6_EXT_MAX 6

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* --- in -------------------------------------------------------------------------------------- */

/* Parse IPv4 at l3 (avail bytes in the first frame, total in all). False: counted. */
static bool in_v4(struct tcpip *t, struct ip_pkt *p, const uint8_t *l3, uint32_t avail,
		  uint32_t total)
{
	uint32_t ihl, tot;

	if (avail < 20 || l3[0] >> 4 != 4) {
		COUNT(t, rx_drop_ip_header);
		return false;
	}
	ihl = (l3[0] & 15u) * 4;
	tot = get16(l3 + 2);
	if (!tot && total > 65535) /* not produced by anyone we know; refuse */
		tot = 0;
	if (ihl < 20 || ihl > avail || tot < ihl || tot > total) {
		COUNT(t, rx_drop_ip_header);
		return false;
	}
	if (get16(l3 + 6) & 0x3fff) { /* more fragments, or an offset */
		COUNT(t, rx_drop_fragment);
		return false;
	}
	if (csum_fold(csum_partial(l3, ihl, 0))) {
		COUNT(t, rx_drop_ip_csum);
		return false;
	}
	p->tos = l3[1];
	p->ttl = l3[8];
	p->proto = l3[9];
	p->src.family = AF_INET;
	p->dst.family = AF_INET;
	memcpy(&p->src.v4, l3 + 12, 4);
	memcpy(&p->dst.v4, l3 + 16, 4);
	p->l4_off = (uint16_t)(p->l3_off + ihl);
	p->l4_len = tot - ihl;
	if ((ntohl(p->dst.v4) >> 28) == 14 || p->dst.v4 == INADDR_BROADCAST)
		p->bcast = true;
	if ((ntohl(p->src.v4) >> 28) >= 14 || (ntohl(p->src.v4) >> 24) == 127) {
		COUNT(t, rx_drop_bad_source);
		return false;
	}
	return true;
}

/* Step over extension headers within a bound. Returns the offset of the transport header from l3,
 * 0 = drop (counted). */
static uint32_t in_v6_ext(struct tcpip *t, const uint8_t *l3, uint32_t avail, uint8_t *proto)
{
	uint32_t off = 40;

	for (int i = 0; i < V6_EXT_MAX; i++) {
		switch (*proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS:
		case IPPROTO_ROUTING:
			if (off + 8 > avail)
				goto bad;
			if (*proto == IPPROTO_ROUTING && l3[off + 3])
				goto bad; /* segments left: not for us */
			*proto = l3[off];
			off += (l3[off + 1] + 1u) * 8;
			break;
		case IPPROTO_FRAGMENT:
			if (off + 8 > avail)
				goto bad;
			if (get16(l3 + off + 2) & 0xfff9) {
				COUNT(t, rx_drop_fragment);
				return 0;
			}
			*proto = l3[off];
			off += 8;
			break;
		default:
			return off;
		}
	}
bad:
	COUNT(t, rx_drop_ip_header);
	return 0;
}

static bool in_v6(struct tcpip *t, struct ip_pkt *p, const uint8_t *l3, uint32_t avail,
		  uint32_t total)
{
	uint32_t off, plen;

	if (avail < 40 || l3[0] >> 4 != 6) {
		COUNT(t, rx_drop_ip_header);
		return false;
	}
	plen = get16(l3 + 4);
	p->tos = (uint8_t)((l3[0] & 15) << 4 | l3[1] >> 4);
	p->proto = l3[6];
	p->ttl = l3[7];
	off = in_v6_ext(t, l3, avail, &p->proto);
	if (!off)
		return false;
	if (plen + 40 < off || plen + 40 > total || off > avail) {
		COUNT(t, rx_drop_ip_header);
		return false;
	}
	p->src.family = AF_INET6;
	p->dst.family = AF_INET6;
	memcpy(p->src.v6, l3 + 8, 16);
	memcpy(p->dst.v6, l3 + 24, 16);
	if (p->src.v6[0] == 0xfe && (p->src.v6[1] & 0xc0) == 0x80)
		p->src.scope_id = p->port->ifindex;
	if (p->dst.v6[0] == 0xfe && (p->dst.v6[1] & 0xc0) == 0x80)
		p->dst.scope_id = p->port->ifindex;
	p->l4_off = (uint16_t)(p->l3_off + off);
	p->l4_len = plen + 40 - off;
	if (p->dst.v6[0] == 0xff)
		p->bcast = true;
	if (p->src.v6[0] == 0xff) {
		COUNT(t, rx_drop_bad_source);
		return false;
	}
	return true;
}

static void in_transport(struct tcpip *t, struct ip_pkt *p)
{
	if (p->proto == IPPROTO_TCP) {
		tcp_input(t, p);
		return;
	}
	if (!p->bcast && !netcfg_is_local(t->nc, &p->dst)) {
		COUNT(t, rx_drop_not_ours);
		return;
	}
	if (p->proto == IPPROTO_UDP)
		udp_input(t, p);
	else if (p->proto == (p->src.family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		icmp_input(t, p);
	else
		COUNT(t, rx_drop_proto);
}

void ip_input(struct tcpip *t, struct tcpip_port *port, const struct hal_frame *f, uint32_t nf)
{
	struct ip_pkt p;
	const uint8_t *l2 = f[0].data;
	uint32_t total = f[0].len, avail, off = 14;
	uint16_t type;
	bool ok;

	if (nf > IP_PKT_IOV) { /* more than anybody's spans hold: 64 KB need fewer */
		COUNT(t, rx_drop_pieces);
		return;
	}
	for (uint32_t i = 1; i < nf; i++)
		total += f[i].len;
	COUNT(t, rx_packets);
	COUNT_ADD(t, rx_bytes, total);
	if (f[0].len < 34) {
		COUNT(t, rx_drop_short);
		return;
	}
	type = get16(l2 + 12);
	memset(&p, 0, sizeof(p));
	p.f = f;
	p.nf = nf;
	p.port = port;
	p.l3_off = (uint16_t)off;
	p.csum_ok = f[0].flags & HAL_F_CSUM_OK;
	p.bcast = l2[0] & 1;
	avail = f[0].len - off;
	if (type == ETHERTYPE_IP) {
		ok = in_v4(t, &p, l2 + off, avail, total - off);
	} else if (type == ETHERTYPE_IPV6) {
		ok = in_v6(t, &p, l2 + off, avail, total - off);
	} else {
		COUNT(t, rx_drop_ethertype);
		return;
	}
	if (!ok)
		return;
	p.l4_linear = f[0].len - p.l4_off;
	if (p.l4_linear > p.l4_len)
		p.l4_linear = p.l4_len;
	in_transport(t, &p);
}

uint32_t ip_pkt_spans(const struct ip_pkt *p, uint32_t off, uint32_t len,
		      struct iovec v[IP_PKT_IOV])
{
	uint32_t n = 0;

	off += p->l4_off;
	for (uint32_t i = 0; i < p->nf && len && n < IP_PKT_IOV; i++) {
		const struct hal_frame *f = &p->f[i];
		uint32_t take;

		if (off >= f->len) {
			off -= f->len;
			continue;
		}
		take = f->len - off < len ? f->len - off : len;
		v[n].iov_base = f->data + off;
		v[n++].iov_len = take;
		len -= take;
		off = 0;
	}
	return n;
}

uint32_t ip_pkt_copy(const struct ip_pkt *p, uint32_t off, void *dst, uint32_t len)
{
	struct iovec v[IP_PKT_IOV];
	uint32_t n = ip_pkt_spans(p, off, len, v), done = 0;

	for (uint32_t i = 0; i < n; i++) {
		memcpy((uint8_t *)dst + done, v[i].iov_base, v[i].iov_len);
		done += (uint32_t)v[i].iov_len;
	}
	return done;
}

bool ip_pkt_csum(struct tcpip *t, struct ip_pkt *p, uint32_t csum_off)
{
	uint64_t sum, pseudo;
	uint32_t n, at = 0;
	struct iovec v[IP_PKT_IOV];

	if (p->csum_ok)
		return true;
	pseudo = csum_pseudo(&p->src, &p->dst, p->proto, p->l4_len);
	if (p->port->hal && (p->port->hal->caps & HAL_CAP_RX_CSUM_PARTIAL)) {
		uint16_t field;

		if (ip_pkt_copy(p, csum_off, &field, 2) == 2 && field == csum_reduce(pseudo)) {
			COUNT(t, rx_csum_partial);
			p->csum_ok = true;
			return true;
		}
	}
	sum = pseudo;
	if (p->l4_linear == p->l4_len) {
		sum = csum_partial(ip_pkt_l4(p), p->l4_len, sum);
		at = p->l4_len;
	} else {
		n = ip_pkt_spans(p, 0, p->l4_len, v);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t len = (uint32_t)v[i].iov_len;

			sum = csum_add_at(sum, csum_partial(v[i].iov_base, len, 0), at);
			at += len;
		}
	}
	p->csum_ok = at == p->l4_len && !csum_fold(sum);
	return p->csum_ok;
}

/* --- frames of a port ------------------------------------------------------------------------- */

static void port_push(struct tcpip *t, struct tcpip_port *port)
{
	uint32_t done = 0, n, tries = 0;

	if (!port->nq)
		return;
	while (done < port->nq) {
		n = hal_tx_burst(port->hal, 0, port->q + done, port->nq - done);
		done += n;
		if (done == port->nq)
			break;
		if (!n && ++tries > 4) { /* the ring stays full: the network would drop here too */
			COUNT_ADD(t, tx_drop_ring, port->nq - done);
			hal_tx_free(port->hal, 0, port->q + done, port->nq - done);
			break;
		}
		hal_tx_flush(port->hal, 0);
	}
	port->nq = 0;
	port->kick = true;
}

static int port_frame(struct tcpip *t, struct tcpip_port *port, struct hal_frame *f)
{
	if (!port->nfree) {
		port->nfree = hal_tx_alloc(port->hal, 0, port->free, TCPIP_TX_BATCH / 2);
		if (!port->nfree) { /* completions may come with a kick */
			port_push(t, port);
			hal_tx_flush(port->hal, 0);
			port->nfree = hal_tx_alloc(port->hal, 0, port->free, TCPIP_TX_BATCH / 2);
		}
		if (!port->nfree) {
			COUNT(t, tx_drop_no_frame);
			return -ENOBUFS;
		}
	}
	*f = port->free[--port->nfree];
	f->len = 0;
	f->flags = 0;
	return 0;
}

static void port_queue(struct tcpip *t, struct tcpip_port *port, const struct hal_frame *f)
{
	COUNT(t, tx_packets);
	COUNT_ADD(t, tx_bytes, f->len);
	port->q[port->nq++] = *f;
	if (port->nq == TCPIP_TX_BATCH)
		port_push(t, port);
}

void ip_flush(struct tcpip *t)
{
	if (t->in_poll)
		return;
	for (uint32_t i = 0; i < t->nports; i++) {
		struct tcpip_port *port = t->ports[i];

		if (!port->hal)
			continue;
		port_push(t, port);
		if (port->kick)
			hal_tx_flush(port->hal, 0);
		port->kick = false;
	}
}

/* Give everything of the old driver back before another takes its place. */
static void port_drop_frames(struct tcpip *t, struct tcpip_port *port)
{
	if (!port->hal)
		return;
	for (uint32_t i = 0; i < DST_BUCKETS && t->dst_hash; i++)
		for (struct ip_dst *d = t->dst_hash[i]; d; d = d->next)
			if (d->port == port)
				ip_wait_drop(t, d);
	port_push(t, port);
	hal_tx_flush(port->hal, 0);
	if (port->nfree)
		hal_tx_free(port->hal, 0, port->free, port->nfree);
	port->nfree = 0;
	port->kick = false;
}

static void port_attach(struct tcpip_port *port, struct hal_port *hal)
{
	port->hal = hal;
	port->mtu = 0;
	port->txcsum = false;
	if (!hal)
		return;
	port->ifindex = hal->ifindex;
	port->mtu = hal->max_frame > 14 ? hal->max_frame - 14u : 0;
	port->txcsum = hal->caps & HAL_CAP_TX_CSUM;
}

struct tcpip_port *ip_port_by_ifindex(struct tcpip *t, unsigned ifindex)
{
	for (uint32_t i = 0; i < t->nports; i++)
		if (t->ports[i]->ifindex == ifindex && t->ports[i]->hal)
			return t->ports[i];
	return NULL;
}

int ip_add_port(struct tcpip *t, struct hal_port *hal)
{
	struct tcpip_port *port;

	if (ip_port_by_ifindex(t, hal->ifindex))
		return -EEXIST;
	if (t->nports == TCPIP_PORTS) {
		COUNT(t, port_full);
		return -ENOSPC;
	}
	port = calloc(1, sizeof(*port));
	if (!port)
		return -ENOMEM;
	port_attach(port, hal);
	t->ports[t->nports++] = port;
	t->port_gen++;
	return 0;
}

int ip_set_port(struct tcpip *t, unsigned ifindex, struct hal_port *hal)
{
	for (uint32_t i = 0; i < t->nports; i++) {
		if (t->ports[i]->ifindex != ifindex)
			continue;
		port_drop_frames(t, t->ports[i]);
		port_attach(t->ports[i], hal);
		t->port_gen++;
		return 0;
	}
	return hal ? ip_add_port(t, hal) : -ENOENT;
}

/* --- destinations ------------------------------------------------------------------------------ */

static uint32_t dst_bucket(struct tcpip *t, const struct nst_addr *remote,
			   const struct nst_addr *bound, unsigned oif)
{
	uint64_t w[5] = { (uint64_t)oif << 32 | remote->scope_id };

	memcpy(w + 1, remote->v6, remote->family == AF_INET ? 4 : 16);
	if (bound->family == remote->family)
		memcpy(w + 3, bound->v6, remote->family == AF_INET ? 4 : 16);
	return tcpip_hash(t->secret, w, 5) & (DST_BUCKETS - 1);
}

static void dst_lru_del(struct tcpip *t, struct ip_dst *d)
{
	*(d->lru_prev ? &d->lru_prev->lru_next : &t->dst_lru_head) = d->lru_next;
	*(d->lru_next ? &d->lru_next->lru_prev : &t->dst_lru_tail) = d->lru_prev;
	d->lru_prev = d->lru_next = NULL;
	t->dst_unused--;
}

static void dst_free(struct tcpip *t, struct ip_dst *d)
{
	struct ip_dst **pp = &t->dst_hash[dst_bucket(t, &d->remote, &d->bound, d->oif)];

	while (*pp != d)
		pp = &(*pp)->next;
	*pp = d->next;
	ip_wait_drop(t, d);
	t->dst_count--;
	free(d);
}

static void dst_lru_add(struct tcpip *t, struct ip_dst *d)
{
	d->lru_next = NULL;
	d->lru_prev = t->dst_lru_tail;
	*(t->dst_lru_tail ? &t->dst_lru_tail->lru_next : &t->dst_lru_head) = d;
	t->dst_lru_tail = d;
	if (++t->dst_unused > DST_UNUSED_MAX) {
		struct ip_dst *old = t->dst_lru_head;

		dst_lru_del(t, old);
		dst_free(t, old);
	}
}

static void dst_headers(struct ip_dst *d)
{
	uint8_t *l3 = d->hdr + 14;

	memset(d->hdr, 0, sizeof(d->hdr));
	memcpy(d->hdr + 6, d->port->hal->mac, 6);
	d->family = d->remote.family;
	if (d->family == AF_INET) {
		put16(d->hdr + 12, ETHERTYPE_IP);
		d->l3_len = 20;
		l3[0] = 0x45;
		memcpy(l3 + 12, &d->src.v4, 4);
		memcpy(l3 + 16, &d->remote.v4, 4);
	} else {
		put16(d->hdr + 12, ETHERTYPE_IPV6);
		d->l3_len = 40;
		l3[0] = 0x60;
		memcpy(l3 + 8, d->src.v6, 16);
		memcpy(l3 + 24, d->remote.v6, 16);
	}
	d->hdr_len = (uint8_t)(14 + d->l3_len);
	d->pseudo = csum_pseudo(&d->src, &d->remote, 0, 0);
	d->hoplimit = d->rt.hoplimit ? d->rt.hoplimit : 64;
}

static int dst_route(struct tcpip *t, struct ip_dst *d)
{
	struct tcpip_port *port = NULL;
	uint32_t mtu;
	int err;

	err = netcfg_route(t->nc, t->now, &d->remote,
			   d->bound.family == AF_UNSPEC ? NULL : &d->bound, d->oif, &d->rt);
	if (!err && d->rt.type == NETCFG_RT_LOCAL)
		err = -EADDRNOTAVAIL;
	if (!err) {
		port = ip_port_by_ifindex(t, d->rt.ifindex);
		if (!port)
			err = -ENETUNREACH;
	}
	if (!err && d->rt.src.family != d->remote.family)
		err = -EADDRNOTAVAIL;
	if (d->port != port)
		ip_wait_drop(t, d); /* their frames are the old port's */
	d->rt.gen = netcfg_gen(t->nc);
	d->port_gen = t->port_gen;
	d->port = port;
	d->err = err;
	d->mac_ok = false;
	if (err)
		return err;
	d->src = d->rt.src;
	d->src.port = 0;
	mtu = d->rt.mtu;
	if (!mtu || mtu > port->mtu)
		mtu = port->mtu;
	if (mtu != d->mtu) {
		d->mtu = mtu;
		d->mtu_gen++;
	}
	dst_headers(d);
	return 0;
}

int ip_dst_check_slow(struct tcpip *t, struct ip_dst *d)
{
	int err;

	if (d->rt.gen != netcfg_gen(t->nc) || d->port_gen != t->port_gen) {
		err = dst_route(t, d);
		if (err)
			return err;
	}
	if (d->err)
		return d->err;
	if (d->mac_ok && d->neigh_gen == t->neigh_gen)
		return 0;
	err = netcfg_resolve(t->nc, t->now, &d->rt, d->hdr);
	d->mac_ok = !err;
	d->neigh_gen = t->neigh_gen;
	if (!err && d->nwait)
		ip_wait_send(t, d);
	return err == -EAGAIN ? 0 : err;
}

struct ip_dst *ip_dst_get(struct tcpip *t, const struct nst_addr *remote,
			  const struct nst_addr *bound, unsigned oif, int *err)
{
	struct nst_addr none = { 0 };
	struct ip_dst *d, **b;
	uint32_t i;

	if (!bound || bound->family != remote->family || nst_addr_is_any(bound))
		bound = &none;
	i = dst_bucket(t, remote, bound, oif);
	b = &t->dst_hash[i];
	for (d = *b; d; d = d->next)
		if (d->oif == oif && nst_addr_same_ip(&d->remote, remote) &&
		    d->remote.scope_id == remote->scope_id && d->bound.family == bound->family &&
		    (bound == &none || nst_addr_same_ip(&d->bound, bound)))
			break;
	if (!d) {
		d = calloc(1, sizeof(*d));
		if (!d) {
			*err = -ENOBUFS;
			return NULL;
		}
		COUNT(t, dst_new);
		d->remote = *remote;
		d->remote.port = 0;
		d->bound = *bound;
		d->bound.port = 0;
		d->oif = oif;
		d->next = *b;
		*b = d;
		t->dst_count++;
		dst_route(t, d);
	} else if (!d->refs) {
		dst_lru_del(t, d);
	}
	d->refs++;
	if (d->rt.gen != netcfg_gen(t->nc) || d->port_gen != t->port_gen)
		dst_route(t, d);
	if (d->err) {
		*err = d->err;
		ip_dst_put(t, d);
		return NULL;
	}
	*err = 0;
	return d;
}

void ip_dst_put(struct tcpip *t, struct ip_dst *d)
{
	if (d && !--d->refs)
		dst_lru_add(t, d);
}

void ip_dst_pmtu(struct tcpip *t, struct ip_dst *d, uint32_t mtu)
{
	mtu = netcfg_pmtu_update(t->nc, t->now, &d->remote, mtu);
	if (mtu && mtu < d->mtu) {
		d->mtu = mtu;
		d->mtu_gen++;
	}
}

void ip_dst_confirm_slow(struct tcpip *t, struct ip_dst *d)
{
	d->confirm_at = t->now + NS_PER_S;
	if (!d->err && d->mac_ok)
		netcfg_neigh_confirm(t->nc, t->now, d->rt.ifindex, &d->rt.nexthop);
}

/* --- packets that wait for a neighbour ----------------------------------------------------------- */

static void wait_unlink(struct tcpip *t, struct ip_dst *d)
{
	struct ip_dst **pp = &t->dst_waiting;

	while (*pp && *pp != d)
		pp = &(*pp)->wait_next;
	if (*pp)
		*pp = d->wait_next;
	d->wait_next = NULL;
}

void ip_wait_drop(struct tcpip *t, struct ip_dst *d)
{
	if (!d->nwait)
		return;
	COUNT_ADD(t, tx_drop_neigh, d->nwait);
	hal_tx_free(d->port->hal, 0, d->wait, d->nwait);
	t->neigh_waiting -= d->nwait;
	d->nwait = 0;
	wait_unlink(t, d);
}

/* The MAC is known: off they go. */
void ip_wait_send(struct tcpip *t, struct ip_dst *d)
{
	for (uint32_t i = 0; i < d->nwait; i++) {
		memcpy(d->wait[i].data, d->hdr, 6);
		port_queue(t, d->port, &d->wait[i]);
	}
	t->neigh_waiting -= d->nwait;
	d->nwait = 0;
	wait_unlink(t, d);
}

static void wait_add(struct tcpip *t, struct ip_dst *d, struct hal_frame *f)
{
	if (d->nwait == IP_DST_WAIT || t->neigh_waiting >= NEIGH_WAIT_MAX) {
		COUNT(t, tx_drop_neigh_queue);
		hal_tx_free(d->port->hal, 0, f, 1);
		return;
	}
	COUNT(t, tx_neigh_waits);
	if (!d->nwait) {
		d->wait_next = t->dst_waiting;
		t->dst_waiting = d;
	}
	d->wait[d->nwait++] = *f;
	t->neigh_waiting++;
}

/* Look at everyone who waits; few do. */
static void wait_retry(struct tcpip *t)
{
	struct ip_dst *d, *next;
	int err;

	for (d = t->dst_waiting; d; d = next) {
		next = d->wait_next;
		err = ip_dst_check_slow(t, d);
		if (err)
			ip_wait_drop(t, d);
	}
}

void ip_on_change(void *arg, unsigned what)
{
	struct tcpip *t = arg;

	if (what & NETCFG_CH_NEIGH)
		t->neigh_gen++;
	wait_retry(t);
}

void ip_on_neigh(void *arg, unsigned ifindex, const struct nst_addr *nexthop, bool usable)
{
	struct tcpip *t = arg;
	struct ip_dst *d, *next;

	t->neigh_gen++;
	for (d = t->dst_waiting; d; d = next) {
		next = d->wait_next;
		if (d->rt.ifindex != ifindex || !nst_addr_same_ip(&d->rt.nexthop, nexthop))
			continue;
		if (usable) {
			ip_dst_check_slow(t, d);
		} else {
			d->neigh_failed = t->now;
			ip_wait_drop(t, d);
		}
	}
}

/* --- out --------------------------------------------------------------------------------------- */

int ip_out_begin(struct tcpip *t, struct ip_dst *d, struct ip_out *o)
{
	int err = ip_dst_check(t, d);

	if (err) {
		COUNT(t, tx_drop_no_route);
		return err;
	}
	err = port_frame(t, d->port, &o->f);
	if (err)
		return err;
	o->port = d->port;
	o->dst = d;
	o->family = d->family;
	o->l3_len = d->l3_len;
	o->pseudo = d->pseudo;
	o->ttl = d->hoplimit;
	memcpy(o->f.data, d->hdr, d->hdr_len);
	o->l4 = o->f.data + d->hdr_len;
	o->room = (d->mtu + 14 < o->f.room ? d->mtu + 14 : o->f.room) - d->hdr_len;
	return 0;
}

int ip_out_begin_reply(struct tcpip *t, const struct ip_pkt *p, struct ip_out *o)
{
	const uint8_t *l2 = p->f[0].data;
	uint8_t *h, *l3;
	int err;

	if (!p->port->hal) {
		COUNT(t, tx_drop_no_port);
		return -ENETDOWN;
	}
	err = port_frame(t, p->port, &o->f);
	if (err)
		return err;
	h = o->f.data;
	l3 = h + 14;
	o->port = p->port;
	o->dst = NULL;
	o->ttl = 64;
	o->family = p->src.family;
	o->l3_len = o->family == AF_INET ? 20 : 40;
	memcpy(h, l2 + 6, 6);
	memcpy(h + 6, p->port->hal->mac, 6);
	memcpy(h + 12, l2 + 12, 2);
	memset(l3, 0, o->l3_len);
	if (o->family == AF_INET) {
		l3[0] = 0x45;
		memcpy(l3 + 12, &p->dst.v4, 4);
		memcpy(l3 + 16, &p->src.v4, 4);
	} else {
		l3[0] = 0x60;
		memcpy(l3 + 8, p->dst.v6, 16);
		memcpy(l3 + 24, p->src.v6, 16);
	}
	o->pseudo = csum_pseudo(&p->src, &p->dst, 0, 0);
	o->l4 = l3 + o->l3_len;
	/* what every path takes (RFC 8200, 5): an ICMPv6 error quotes up to it */
	o->room = (o->f.room < 14 + 1280 ? o->f.room : 14 + 1280) - 14 - o->l3_len;
	return 0;
}

void ip_out_csum_known(struct ip_out *o, uint8_t proto, uint32_t l4_len, uint32_t csum_off,
		       uint64_t sum)
{
	uint16_t c = csum_fold(sum + o->pseudo + htonl(l4_len) + htonl(proto));

	if (!c && proto == IPPROTO_UDP)
		c = 0xffff;
	memcpy(o->l4 + csum_off, &c, 2);
}

void ip_out_csum(struct ip_out *o, uint8_t proto, uint32_t l4_len, uint32_t csum_off)
{
	uint16_t c = 0;

	if (o->port->txcsum) {
		c = csum_reduce(o->pseudo + htonl(l4_len) + htonl(proto));
		memcpy(o->l4 + csum_off, &c, 2);
		o->f.flags |= HAL_F_CSUM_WANTED;
		o->f.csum_start = (uint16_t)(o->l4 - o->f.data);
		o->f.csum_offset = (uint16_t)csum_off;
		return;
	}
	memcpy(o->l4 + csum_off, &c, 2);
	ip_out_csum_known(o, proto, l4_len, csum_off, csum_partial(o->l4, l4_len, 0));
}

/* What of the IP header depends on the packet. */
static void out_l3(struct tcpip *t, uint8_t *l3, uint8_t family, uint32_t l4_len, uint8_t def_ttl,
		   const struct ip_out_opt *opt)
{
	uint8_t ttl = opt->ttl ? opt->ttl : def_ttl;
	uint16_t c, id;

	if (family == AF_INET6) {
		l3[0] = (uint8_t)(0x60 | opt->tos >> 4);
		l3[1] = (uint8_t)(opt->tos << 4);
		put16(l3 + 4, l4_len);
		l3[6] = opt->proto;
		l3[7] = ttl;
		return;
	}
	l3[1] = opt->tos;
	put16(l3 + 2, l4_len + 20);
	id = opt->id;
	if (!id)
		id = ++t->ip_id;
	put16(l3 + 4, id);
	put16(l3 + 6, (opt->df ? 0x4000u : 0u) | ntohs(opt->frag_be));
	l3[8] = ttl;
	l3[9] = opt->proto;
	l3[10] = l3[11] = 0;
	c = csum_fold(csum_partial(l3, 20, 0));
	memcpy(l3 + 10, &c, 2);
}

void ip_out_send(struct tcpip *t, struct ip_out *o, uint32_t l4_len, const struct ip_out_opt *opt)
{
	out_l3(t, o->f.data + 14, o->family, l4_len, o->ttl, opt);
	o->f.len = 14u + o->l3_len + l4_len;
	if (o->dst && !o->dst->mac_ok)
		wait_add(t, o->dst, &o->f);
	else
		port_queue(t, o->port, &o->f);
}

void ip_out_cancel(struct tcpip *t, struct ip_out *o)
{
	struct tcpip_port *port = o->port;

	if (port->nfree < TCPIP_TX_BATCH)
		port->free[port->nfree++] = o->f;
	else
		hal_tx_free(port->hal, 0, &o->f, 1);
}

int ip_out_super(struct tcpip *t, struct ip_dst *d, uint8_t *l4hdr, uint32_t l4hdr_len,
		 uint32_t csum_off, const struct iovec *pay, int npay, uint32_t pay_len,
		 uint32_t gso_size, const struct ip_out_opt *opt)
{
	uint8_t hdr[IP_HDR_MAX + 60 + 2];
	struct iovec iov[HAL_SUPER_IOV];
	struct hal_super s;
	uint32_t l4_len = l4hdr_len + pay_len;
	uint16_t c;
	int err = ip_dst_check(t, d);

	if (err)
		return err;
	if (!d->mac_ok || npay >= HAL_SUPER_IOV || l4hdr_len > 60)
		return -EAGAIN;
	c = csum_reduce(d->pseudo + htonl(l4_len) + htonl(opt->proto));
	memcpy(l4hdr + csum_off, &c, 2);
	memcpy(hdr, d->hdr, d->hdr_len);
	memcpy(hdr + d->hdr_len, l4hdr, l4hdr_len);
	out_l3(t, hdr + 14, d->family, l4_len, d->hoplimit, opt);
	iov[0].iov_base = hdr;
	iov[0].iov_len = d->hdr_len + l4hdr_len;
	memcpy(iov + 1, pay, (size_t)npay * sizeof(*pay));
	s.iov = iov;
	s.iovcnt = npay + 1;
	s.gso = opt->proto == IPPROTO_UDP ? HAL_GSO_UDP :
		d->family == AF_INET ? HAL_GSO_TCPV4 : HAL_GSO_TCPV6;
	s.gso_size = (uint16_t)gso_size;
	s.hdr_len = (uint16_t)(d->hdr_len + l4hdr_len);
	s.csum_start = d->hdr_len;
	s.csum_offset = (uint16_t)csum_off;
	port_push(t, d->port);
	err = hal_tx_super(d->port->hal, 0, &s);
	if (!err) {
		COUNT(t, tx_super);
		COUNT_ADD(t, tx_super_bytes, pay_len);
		t->ip_id = (uint16_t)(t->ip_id + pay_len / (gso_size ? gso_size : 1) + 1);
	}
	return err;
}

/* --- life --------------------------------------------------------------------------------------- */

int ip_init(struct tcpip *t)
{
	t->dst_hash = calloc(DST_BUCKETS, sizeof(*t->dst_hash));
	t->ip_id = (uint16_t)tcpip_random(t);
	t->neigh_gen = 1;
	t->port_gen = 1;
	return t->dst_hash ? 0 : -ENOMEM;
}

void ip_exit(struct tcpip *t)
{
	for (uint32_t i = 0; t->dst_hash && i < DST_BUCKETS; i++)
		while (t->dst_hash[i]) {
			struct ip_dst *d = t->dst_hash[i];

			t->dst_hash[i] = d->next;
			if (d->port && d->port->hal)
				ip_wait_drop(t, d);
			free(d);
		}
	free(t->dst_hash);
	t->dst_hash = NULL;
	for (uint32_t i = 0; i < t->nports; i++) {
		port_drop_frames(t, t->ports[i]);
		free(t->ports[i]);
	}
	t->nports = 0;
}
