/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/udp_out.c - datagrams that go out
 *
 * The send FIFO is drained at each tx_ready. What can't be sent for want of a frame stays in it and
 * is tried again a millisecond later; what can't be sent at all is dropped, counted, and told to a
 * connected socket. A datagram that exceeds the path's MTU goes as fragments, unless the socket
 * forbids that. A train (UDP_SEGMENT) goes as one super-frame where the port takes those, else
 * car by car.
 *
 * The FIFO is written by the program: a record whose sizes make no sense costs it all that is in
 * the FIFO, and nothing else.
 */
#include "udp_internal.h"

#include <netinet/udp.h>
#include <nstack/barrier.h>

#define DRAIN_MAX 1024      /* datagrams in one go */
#define RETRY_NS NS_PER_MS
#define FRAG_HDR6 8u
#define TRAIN_MAX 128u      /* datagrams in a train, as the kernel has it */

static uint32_t l3_len(const struct ip_dst *d)
{
	return d->family == AF_INET ? 20 : 40;
}

uint32_t udp_max_whole(const struct udp_sock *u, const struct ip_dst *d)
{
	uint32_t over = l3_len(d) + UDP_HDR;

	return d->mtu > over ? d->mtu - over : 0;
}

/* A datagram on its way. */
struct job {
	struct udp_sock *u;
	struct ip_dst *d;
	struct shm_dgram dg;
	uint16_t dport;
	bool own;            /* the reference to d is this job's */
	struct ip_out_opt opt;
};

/* --- payload ----------------------------------------------------------------------------------- */

static int payload_spans(const struct job *j, uint32_t off, uint32_t len, struct iovec v[2])
{
	return fifo_spans(&j->u->tx, fifo_tail(&j->u->tx) + sizeof(j->dg) + off, len, v);
}

static uint64_t payload_copy(const struct job *j, uint32_t off, uint32_t len, uint8_t *dst)
{
	struct iovec v[2];
	int n = payload_spans(j, off, len, v);
	uint64_t sum = 0;
	uint32_t at = 0;

	for (int i = 0; i < n; at += (uint32_t)v[i++].iov_len)
		sum = csum_add_at(sum, csum_copy(dst + at, v[i].iov_base, (uint32_t)v[i].iov_len, 0),
				  at);
	return sum;
}

static uint64_t payload_sum(const struct job *j, uint32_t len)
{
	struct iovec v[2];
	int n = payload_spans(j, 0, len, v);
	uint64_t sum = 0;
	uint32_t at = 0;

	for (int i = 0; i < n; at += (uint32_t)v[i++].iov_len)
		sum = csum_add_at(sum, csum_partial(v[i].iov_base, (uint32_t)v[i].iov_len, 0), at);
	return sum;
}

static struct udphdr header(const struct job *j, uint32_t len)
{
	return (struct udphdr){ .source = j->u->bound.port, .dest = j->dport,
				.len = htons((uint16_t)(UDP_HDR + len)) };
}

/* --- one packet -------------------------------------------------------------------------------- */

static int send_whole(const struct job *j, uint32_t off, uint32_t len)
{
	struct tcpip *t = j->u->t;
	struct udphdr uh = header(j, len);
	struct ip_out o;
	uint64_t sum;
	int err = ip_out_begin(t, j->d, &o);

	if (err)
		return err;
	if (UDP_HDR + len > o.room) { /* the MTU shrank under us */
		ip_out_cancel(t, &o);
		return -EMSGSIZE;
	}
	memcpy(o.l4, &uh, sizeof(uh));
	sum = payload_copy(j, off, len, o.l4 + UDP_HDR);
	if (o.port->txcsum)
		ip_out_csum(&o, IPPROTO_UDP, UDP_HDR + len, offsetof(struct udphdr, check));
	else
		ip_out_csum_known(&o, IPPROTO_UDP, UDP_HDR + len, offsetof(struct udphdr, check),
				  sum + csum_partial(&uh, sizeof(uh), 0));
	ip_out_send(t, &o, UDP_HDR + len, &j->opt);
	return 0;
}

/* --- fragments --------------------------------------------------------------------------------- */

/* The transport header and payload as one stream of bytes: copy [at, at + n) of it. */
static void copy_stream(const struct job *j, const struct udphdr *uh, uint32_t at, uint32_t n,
			uint8_t *dst)
{
	uint32_t h = at < UDP_HDR ? UDP_HDR - at : 0;

	if (h > n)
		h = n;
	if (h)
		memcpy(dst, (const uint8_t *)uh + at, h);
	if (n > h)
		payload_copy(j, at + h - UDP_HDR, n - h, dst + h);
}

/* One fragment. step: bytes of the stream that a full one carries, a multiple of 8. */
static int send_fragment(const struct job *j, const struct udphdr *uh, uint32_t at, uint32_t total,
			 uint32_t step, uint32_t id)
{
	struct tcpip *t = j->u->t;
	uint32_t n = total - at < step ? total - at : step;
	bool v6 = j->d->family == AF_INET6, more = at + n < total;
	struct ip_out_opt opt = j->opt;
	struct ip_out o;
	int err = ip_out_begin(t, j->d, &o);

	if (err)
		return err;
	if (n + (v6 ? FRAG_HDR6 : 0) > o.room) {
		ip_out_cancel(t, &o);
		return -EMSGSIZE;
	}
	opt.df = false;
	if (v6) {
		uint16_t off = htons((uint16_t)(at | more));
		uint32_t id_be = htonl(id);

		o.l4[0] = IPPROTO_UDP;
		o.l4[1] = 0;
		memcpy(o.l4 + 2, &off, 2);
		memcpy(o.l4 + 4, &id_be, 4);
		opt.proto = IPPROTO_FRAGMENT;
		copy_stream(j, uh, at, n, o.l4 + FRAG_HDR6);
		n += FRAG_HDR6;
	} else {
		opt.frag_be = htons((uint16_t)(at >> 3 | (more ? 0x2000 : 0)));
		opt.id = (uint16_t)(id ? id : 1);
		copy_stream(j, uh, at, n, o.l4);
	}
	ip_out_send(t, &o, n, &opt);
	COUNT(t, udp_fragments_out);
	return 0;
}

/* Once the first fragment is out the rest must follow: a lack of frames then loses the datagram. */
static int send_fragments(const struct job *j)
{
	uint32_t room = j->d->mtu - l3_len(j->d) - (j->d->family == AF_INET6 ? FRAG_HDR6 : 0);
	uint32_t total = UDP_HDR + j->dg.len, step = room & ~7u, id;
	struct udphdr uh = header(j, j->dg.len);
	uint64_t sum = payload_sum(j, j->dg.len);
	int err;

	if (j->d->mtu < 68 || !step)
		return -EMSGSIZE;
	sum += csum_partial(&uh, sizeof(uh), 0);
	uh.check = csum_fold_udp(sum + csum_pseudo(&j->d->src, &j->d->remote, IPPROTO_UDP, total));
	id = tcpip_random(j->u->t);
	if (!(id & 0xffff))
		id++;
	for (uint32_t at = 0; at < total; at += step) {
		err = send_fragment(j, &uh, at, total, step, id);
		if (err)
			return at && (err == -EAGAIN || err == -ENOBUFS) ? -EIO : err;
	}
	return 0;
}

/* --- trains ------------------------------------------------------------------------------------ */

static int send_super(const struct job *j)
{
	struct udphdr uh = header(j, j->dg.len);
	uint8_t hdr[sizeof(uh)];
	struct iovec v[2];
	int nv = payload_spans(j, 0, j->dg.len, v);

	memcpy(hdr, &uh, sizeof(uh));
	return ip_out_super(j->u->t, j->d, hdr, sizeof(hdr), offsetof(struct udphdr, check), v, nv,
			    j->dg.len, j->dg.gso_size, &j->opt);
}

static int send_train(const struct job *j)
{
	uint32_t size = j->dg.gso_size, len = j->dg.len, n, i = 0;
	int err;

	if (size > udp_max_whole(j->u, j->d) || len > size * TRAIN_MAX)
		return -EINVAL;
	err = ip_dst_check(j->u->t, j->d);
	if (err)
		return err;
	if (j->d->mac_ok && j->d->port->hal->caps & HAL_CAP_SUPERFRAME) {
		err = send_super(j);
		if (!err || err == -EAGAIN)
			return err;
	}
	for (uint32_t at = 0; at < len; at += size, i++) {
		n = len - at < size ? len - at : size;
		err = send_whole(j, at, n);
		if (err)
			return i && (err == -EAGAIN || err == -ENOBUFS) ? -EIO : err;
	}
	return 0;
}

/* --- one datagram ------------------------------------------------------------------------------ */

static bool is_multicast(const struct nst_addr *a)
{
	return a->family == AF_INET ? ntohl(a->v4) >> 28 == 14 : a->v6[0] == 0xff;
}

/* The destination object for this datagram; the socket keeps the last one. */
static int find_dst(struct job *j, const struct nst_addr *remote)
{
	struct udp_sock *u = j->u;
	const struct nst_addr *src = NULL;
	struct nst_addr from;
	unsigned oif = j->dg.ifindex ? j->dg.ifindex : u->device;
	int err;

	if (!oif && is_multicast(remote))
		oif = u->mcast_if;
	from = j->dg.local.family ? j->dg.local : u->connected ? u->local : u->bound;
	if (from.family == remote->family && !nst_addr_is_any(&from) && !is_multicast(&from))
		src = &from;
	else if (from.family && from.family != remote->family && !nst_addr_is_any(&from))
		return -ENETUNREACH;
	if (u->dst && u->dst_oif == oif && nst_addr_same_ip(&u->dst->remote, remote) &&
	    u->dst->remote.scope_id == remote->scope_id &&
	    (u->connected || (src ? nst_addr_same_ip(&u->dst->bound, src)
				  : !u->dst->bound.family)) && !j->dg.local.family) {
		j->d = u->dst;
		return ip_dst_check(u->t, j->d);
	}
	j->d = ip_dst_get(u->t, remote, src, oif, &err);
	if (!j->d)
		return err;
	if (u->connected) { /* u->dst stays the connection's */
		j->own = true;
		return 0;
	}
	ip_dst_put(u->t, u->dst);
	u->dst = j->d;
	u->dst_oif = oif;
	return 0;
}

static void options(struct job *j)
{
	const struct udp_sock *u = j->u;
	const struct udp_opts *o = udp_opts(u, &j->d->remote);
	bool mcast = j->d->rt.type == NETCFG_RT_MULTICAST;
	int ttl = mcast ? u->mcast_ttl : o->ttl;

	j->opt.proto = IPPROTO_UDP;
	j->opt.tos = j->dg.flags & SHM_DG_TOS ? j->dg.tos : o->tos;
	j->opt.ttl = j->dg.ttl ? j->dg.ttl : ttl > 0 ? (uint8_t)ttl : 0;
	j->opt.df = o->pmtudisc == IP_PMTUDISC_WANT || o->pmtudisc == IP_PMTUDISC_DO ||
		    o->pmtudisc == IP_PMTUDISC_PROBE;
}

static int send_sized(struct job *j)
{
	struct udp_sock *u = j->u;
	uint8_t pmtudisc = udp_opts(u, &j->d->remote)->pmtudisc;

	if (j->d->rt.type == NETCFG_RT_BROADCAST && !u->broadcast)
		return -EACCES;
	options(j);
	if (j->dg.gso_size && j->dg.len > j->dg.gso_size)
		return send_train(j);
	if (j->dg.len <= udp_max_whole(u, j->d))
		return send_whole(j, 0, j->dg.len);
	if (pmtudisc == IP_PMTUDISC_DO || pmtudisc == IP_PMTUDISC_PROBE ||
	    pmtudisc == IP_PMTUDISC_INTERFACE) {
		COUNT(u->t, udp_tx_too_big);
		return -EMSGSIZE;
	}
	return send_fragments(j);
}

static int send_one(struct udp_sock *u, const struct shm_dgram *dg)
{
	struct job j = { .u = u, .dg = *dg };
	const struct nst_addr *remote = dg->peer.family ? &j.dg.peer : &u->remote;
	int err;

	if (!remote->family)
		return -EDESTADDRREQ;
	if ((remote->family != AF_INET && remote->family != AF_INET6) || !remote->port ||
	    !u->bound.port)
		return -EINVAL;
	if (dg->len > 65535u - UDP_HDR - (remote->family == AF_INET ? 20 : 0))
		return -EMSGSIZE;
	j.dport = remote->port;
	err = find_dst(&j, remote);
	if (!err)
		err = send_sized(&j);
	if (j.own)
		ip_dst_put(u->t, j.d);
	return err;
}

/* --- draining ---------------------------------------------------------------------------------- */

static void sent(struct udp_sock *u, const struct shm_dgram *dg, int err)
{
	if (!err) {
		COUNT(u->t, udp_out);
		u->out_bytes += dg->len;
		u->out_datagrams++;
		return;
	}
	COUNT(u->t, udp_tx_errors);
	/* sendto() has returned long ago; the next call of the program hears of it. That a host does
	 * not answer is no error of an ordinary UDP socket (as for ICMP host unreachable). */
	if (err != -EHOSTUNREACH && u->connected)
		udp_error(u, -err);
}

static void tell_space(struct udp_sock *u)
{
	struct shm_session *s = u->s;

	/* full barrier: our store of tail before our load of tx_nospace, against the writer's store of
	 * tx_nospace before its load of tail */
	nst_full_barrier();
	if (!__atomic_load_n(&s->tx_nospace, __ATOMIC_RELAXED) || !shm_session_tx_roomy(s, fifo_used(&u->tx)))
		return;
	__atomic_store_n(&s->tx_nospace, 0, __ATOMIC_SEQ_CST);
	udp_work_add(u, STACK_EV_OUT);
}

void udp_drain(struct udp_sock *u)
{
	struct tcpip *t = u->t;
	struct shm_dgram dg;
	uint32_t used;
	int err;

	u->tx_pending = false;
	for (int i = 0; (used = fifo_used(&u->tx)); i++) {
		if (i == DRAIN_MAX) {
			u->tx_pending = true;
			break;
		}
		if (fifo_peek(&u->tx, 0, &dg, sizeof(dg)) != sizeof(dg) || dg.len > 65535 ||
		    shm_dgram_size(dg.len) > used) {
			fifo_consume(&u->tx, used);
			COUNT(t, udp_tx_errors);
			break;
		}
		err = send_one(u, &dg);
		if (err == -EAGAIN || err == -ENOBUFS) {
			u->tx_pending = true;
			break;
		}
		fifo_consume(&u->tx, shm_dgram_size(dg.len));
		sent(u, &dg, err);
	}
	if (u->tx_pending && !wheel_armed(&t->udp->retry))
		wheel_add(&t->wheel, &t->udp->retry, t->now + RETRY_NS);
	tell_space(u);
}
