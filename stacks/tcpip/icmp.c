/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/icmp.c - ICMP messages: errors about our flows, and the one error that we send ourselves
 *
 * The steering program sends us the errors that quote a flow of ours. They are checked (checksum;
 * the quoted packet came from an address of ours, the one that the message was sent to), turned
 * into struct icmp_error and given to the transport, which checks that it knows the flow. Answers to our own
 * pings go to ping.c. All else of ICMP is the kernel's business.
 *
 * We send "port unreachable" for a datagram that no socket wants, at most 100 a second.
 *
 * Threads: under the worker's lock. Not here: redirects (the kernel's routes are followed).
 */
#include "udp_internal.h"

#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>

#define ICMP_HDR 8u
#define QUOTE_MAX 1280u    /* of a message that we look at */
#define EXT_MAX 6          /* quoted IPv6 extension headers */
#define ERRORS_PER_S 100u
#define ERRORS_BURST 50u

/* --- what errors mean (as the kernel has it) ------------------------------------------------------ */

struct meaning {
	uint8_t err;
	bool hard;
};

static const struct meaning unreach4[] = {
	[ICMP_NET_UNREACH] = { ENETUNREACH, false },
	[ICMP_HOST_UNREACH] = { EHOSTUNREACH, false },
	[ICMP_PROT_UNREACH] = { ENOPROTOOPT, true },
	[ICMP_PORT_UNREACH] = { ECONNREFUSED, true },
	[ICMP_FRAG_NEEDED] = { EMSGSIZE, false },
	[ICMP_SR_FAILED] = { EOPNOTSUPP, false },
	[ICMP_NET_UNKNOWN] = { ENETUNREACH, true },
	[ICMP_HOST_UNKNOWN] = { EHOSTDOWN, true },
	[ICMP_HOST_ISOLATED] = { ENONET, true },
	[ICMP_NET_ANO] = { ENETUNREACH, true },
	[ICMP_HOST_ANO] = { EHOSTUNREACH, true },
	[ICMP_NET_UNR_TOS] = { ENETUNREACH, false },
	[ICMP_HOST_UNR_TOS] = { EHOSTUNREACH, false },
	[ICMP_PKT_FILTERED] = { EHOSTUNREACH, true },
	[ICMP_PREC_VIOLATION] = { EHOSTUNREACH, true },
	[ICMP_PREC_CUTOFF] = { EHOSTUNREACH, true },
};

static const struct meaning unreach6[] = {
	[ICMP6_DST_UNREACH_NOROUTE] = { ENETUNREACH, false },
	[ICMP6_DST_UNREACH_ADMIN] = { EACCES, true },
	[ICMP6_DST_UNREACH_BEYONDSCOPE] = { EHOSTUNREACH, false },
	[ICMP6_DST_UNREACH_ADDR] = { EHOSTUNREACH, false },
	[ICMP6_DST_UNREACH_NOPORT] = { ECONNREFUSED, true },
	[5] = { EACCES, true }, /* source address failed a policy */
	[6] = { EACCES, true }, /* route rejected */
};

static bool lookup(const struct meaning *tab, unsigned n, struct icmp_error *e)
{
	if (e->code >= n)
		return false;
	e->err = tab[e->code].err;
	e->hard = tab[e->code].hard;
	return true;
}

static bool mean4(struct icmp_error *e)
{
	switch (e->type) {
	case ICMP_DEST_UNREACH:
		if (e->code == ICMP_FRAG_NEEDED)
			e->mtu = (uint32_t)(e->icmp[6] << 8 | e->icmp[7]);
		return lookup(unreach4, sizeof(unreach4) / sizeof(*unreach4), e);
	case ICMP_TIME_EXCEEDED:
		e->err = EHOSTUNREACH;
		return true;
	case ICMP_PARAMETERPROB:
		e->err = EPROTO;
		e->hard = true;
		return true;
	}
	return false;
}

static bool mean6(struct icmp_error *e)
{
	uint32_t mtu;

	switch (e->type) {
	case ICMP6_DST_UNREACH:
		return lookup(unreach6, sizeof(unreach6) / sizeof(*unreach6), e);
	case ICMP6_PACKET_TOO_BIG:
		memcpy(&mtu, e->icmp + 4, 4);
		e->mtu = ntohl(mtu);
		e->err = EMSGSIZE;
		return true;
	case ICMP6_TIME_EXCEEDED:
		e->err = EHOSTUNREACH;
		return true;
	case ICMP6_PARAM_PROB:
		e->err = EPROTO;
		e->hard = true;
		return true;
	}
	return false;
}

/* --- the quoted packet ----------------------------------------------------------------------------- */

/* Offset of the transport header in the quote q, or 0; *proto is which. */
static uint32_t quote4(const uint8_t *q, uint32_t len, struct icmp_error *e, uint8_t *proto)
{
	uint32_t ihl;

	if (len < 20 || q[0] >> 4 != 4)
		return 0;
	ihl = (q[0] & 15u) * 4;
	if (ihl < 20 || (q[6] & 0x1f) || q[7]) /* only a first fragment tells the ports */
		return 0;
	*proto = q[9];
	e->local.family = e->remote.family = AF_INET;
	memcpy(&e->local.v4, q + 12, 4);
	memcpy(&e->remote.v4, q + 16, 4);
	return ihl;
}

static uint32_t quote6(const uint8_t *q, uint32_t len, struct icmp_error *e, uint8_t *proto)
{
	uint32_t at = 40;

	if (len < 40 || q[0] >> 4 != 6)
		return 0;
	*proto = q[6];
	e->local.family = e->remote.family = AF_INET6;
	memcpy(e->local.v6, q + 8, 16);
	memcpy(e->remote.v6, q + 24, 16);
	for (int i = 0; i < EXT_MAX; i++) {
		uint32_t here = at;

		if (*proto != IPPROTO_HOPOPTS && *proto != IPPROTO_ROUTING &&
		    *proto != IPPROTO_DSTOPTS && *proto != IPPROTO_FRAGMENT)
			return at;
		if (at + 8 > len)
			return 0;
		if (*proto == IPPROTO_FRAGMENT && (q[at + 2] || q[at + 3] & 0xf8))
			return 0;
		at += *proto == IPPROTO_FRAGMENT ? 8 : (q[at + 1] + 1u) * 8;
		*proto = q[here];
	}
	return 0;
}

static bool checksum_ok(const struct ip_pkt *p)
{
	struct iovec v[IP_PKT_IOV];
	uint32_t n = ip_pkt_spans(p, 0, p->l4_len, v), at = 0;
	uint64_t sum = 0;

	if (p->src.family == AF_INET6)
		sum = csum_pseudo(&p->src, &p->dst, IPPROTO_ICMPV6, p->l4_len);
	for (uint32_t i = 0; i < n; at += (uint32_t)v[i++].iov_len)
		sum = csum_add_at(sum, csum_partial(v[i].iov_base, (uint32_t)v[i].iov_len, 0), at);
	return at == p->l4_len && csum_fold(sum) == 0;
}

void icmp_input(struct tcpip *t, struct ip_pkt *p)
{
	bool v6 = p->src.family == AF_INET6;
	struct icmp_error e = { .family = p->src.family, .from = &p->src,
				.tos = p->tos, .ttl = p->ttl,
				.ifindex = p->port->ifindex };
	uint8_t buf[ICMP_HDR + QUOTE_MAX], proto = 0;
	uint32_t len, off;

	COUNT(t, icmp_in);
	len = ip_pkt_copy(p, 0, buf, p->l4_len < sizeof(buf) ? p->l4_len : (uint32_t)sizeof(buf));
	if (len < ICMP_HDR || !checksum_ok(p)) {
		COUNT(t, icmp_bad);
		return;
	}
	if (buf[0] == (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY)) {
		ping_answer(t, p);
		return;
	}
	e.type = buf[0];
	e.code = buf[1];
	e.icmp = buf;
	if (!(v6 ? mean6(&e) : mean4(&e))) {
		COUNT(t, icmp_ignored);
		return;
	}
	len -= ICMP_HDR;
	off = v6 ? quote6(buf + ICMP_HDR, len, &e, &proto) : quote4(buf + ICMP_HDR, len, &e, &proto);
	if (!off || off + 8 > len || !nst_addr_same_ip(&e.local, &p->dst) ||
	    !netcfg_is_local(t->nc, &e.local)) {
		COUNT(t, icmp_bad);
		return;
	}
	e.l4 = buf + ICMP_HDR + off;
	e.l4_len = len - off;
	memcpy(&e.local.port, e.l4, 2);
	memcpy(&e.remote.port, e.l4 + 2, 2);
	if (proto == IPPROTO_TCP)
		tcp_icmp_error(t, &e);
	else if (proto == IPPROTO_UDP)
		udp_icmp_error(t, &e);
	else
		COUNT(t, icmp_ignored);
}

/* --- out -------------------------------------------------------------------------------------------- */

void icmp_send(struct tcpip *t, struct ip_out *o, uint32_t len)
{
	bool v6 = o->family == AF_INET6;
	struct ip_out_opt opt = { .proto = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP };
	uint64_t sum = csum_partial(o->l4, len, 0);
	uint16_t c = csum_fold(sum);

	/* no driver finishes ICMP checksums */
	if (v6)
		ip_out_csum_known(o, opt.proto, len, 2, sum);
	else
		memcpy(o->l4 + 2, &c, 2);
	ip_out_send(t, o, len, &opt);
	COUNT(t, icmp_out);
}

/* --- port unreachable ------------------------------------------------------------------------------- */

static bool may_send(struct tcpip *t)
{
	struct udp *m = t->udp;
	uint64_t n = (t->now - m->icmp_at) / (NS_PER_S / ERRORS_PER_S);

	if (n) {
		m->icmp_tokens = n + m->icmp_tokens > ERRORS_BURST ? ERRORS_BURST
								   : (uint32_t)n + m->icmp_tokens;
		m->icmp_at += n * (NS_PER_S / ERRORS_PER_S);
	}
	if (!m->icmp_tokens)
		return false;
	m->icmp_tokens--;
	return true;
}

void icmp_port_unreachable(struct tcpip *t, const struct ip_pkt *p)
{
	bool v6 = p->src.family == AF_INET6;
	uint32_t l3 = (uint32_t)(p->l4_off - p->l3_off), quote = l3 + p->l4_len, len;
	struct ip_out o;

	if (p->bcast || nst_addr_is_any(&p->src))
		return;
	if (!may_send(t)) {
		COUNT(t, icmp_limited);
		return;
	}
	if (ip_out_begin_reply(t, p, &o))
		return;
	len = v6 ? o.room : 548 + ICMP_HDR; /* RFC 1812, 4.3.2.3: 576 bytes in all */
	if (len > o.room)
		len = o.room;
	if (quote > len - ICMP_HDR)
		quote = len - ICMP_HDR;
	memset(o.l4, 0, ICMP_HDR);
	o.l4[0] = v6 ? ICMP6_DST_UNREACH : ICMP_DEST_UNREACH;
	o.l4[1] = v6 ? ICMP6_DST_UNREACH_NOPORT : ICMP_PORT_UNREACH;
	memcpy(o.l4 + ICMP_HDR, p->f[0].data + p->l3_off, l3);
	ip_pkt_copy(p, 0, o.l4 + ICMP_HDR + l3, quote - l3);
	icmp_send(t, &o, ICMP_HDR + quote);
}
