/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer.h - where does this packet belong? The decision, in plain C
 *
 * Compiled into the XDP program (steer.bpf.c) and natively (steer_native.h): the same function
 * over the same tables. Whoever includes this defines struct steer_tables (opaque here) and
 * before the include:
 *
 *   STEER_LD16(p), STEER_LD32(p)      load from a packet, network byte order, unaligned
 *   steer_t_frame_len(t, linear)      bytes of the whole packet; linear = bytes at data
 *   steer_t_meta, _claim, _addr_claim, _local, _pin, _instance, _rules, _port_class,
 *   _port_vec, _lpm4, _lpm6           table look-ups: pointer or NULL
 *
 * Order of looking: headers within fixed bounds; then the claims entry of (protocol, local
 * port), since that is one load and settles nearly every packet that is not ours; only then the
 * tables that cost a hash: local address, pins, claims by address, rules. Whatever is doubtful
 * goes to the kernel, which knows better how to refuse it.
 *
 * A UDP packet longer than the link's MTU is no datagram but a train of them, which a sender on
 * this machine (UDP_SEGMENT through veth) or the driver (UDP GRO) left in one piece. What size the
 * datagrams are is known to the kernel alone, so it gets the train and splits it for the shadow
 * socket. A train that fits the MTU can't be told from a datagram.
 *
 * Pure: reads packet and tables, writes nothing. Left out: header checksums (the stack verifies
 * them), destination MAC (the interface filters it), source routes.
 */
#ifndef NSTACK_BPF_STEER_H
#define NSTACK_BPF_STEER_H

#include <bpf/steer_shared.h>

#ifdef STEER_LD16 /* without the look-ups there is nothing to compile */

#define STEER_INLINE static inline __attribute__((always_inline))

/* Not from headers that exist for only one of the two compilers. */
#define STEER_AF_INET 2
#define STEER_AF_INET6 10
#define STEER_IP_ICMP 1
#define STEER_IP_TCP 6
#define STEER_IP_UDP 17
#define STEER_IP_ICMP6 58
#define STEER_SWAP16(x) ((__u16)((__u16)(x) << 8 | (__u16)(x) >> 8))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define STEER_BE16(x) STEER_SWAP16(x)
#define STEER_BE32(x) __builtin_bswap32(x)
#else
#define STEER_BE16(x) ((__u16)(x))
#define STEER_BE32(x) (x)
#endif

/* A decision: which counter, and with a STACK verdict which instance. */
struct steer_result {
	__u32 counter; /* enum steer_counter */
	__u32 instance;
};
#define STEER_RESULT(c, i) ((struct steer_result){ .counter = (c), .instance = (i) })
#define STEER_OUT(c) return STEER_RESULT(STEER_C_##c, STEER_TO_KERNEL)

STEER_INLINE enum steer_verdict steer_verdict(__u32 counter)
{
	if (counter >= STEER_C_STACK_CLAIM)
		return STEER_STACK;
	return counter == STEER_C_DROP_RULE ? STEER_DROP : STEER_PASS;
}

/* What the parser found. Pointers lead into the packet. */
struct steer_pkt {
	const __u8 *local; /* address on our side */
	const __u8 *remote;
	__u16 lport; /* network byte order */
	__u16 rport;
	__u8 family;
	__u8 proto; /* enum steer_proto */
	__u8 group; /* sent to a link-layer group */
	__u8 quoted; /* the flow of an ICMP error's quote */
	__u32 ip_len; /* of the packet, IP header included */
};

/* --- rules --------------------------------------------------------------------------------- */

STEER_INLINE void steer_vec_and(struct steer_vec *v, const struct steer_vec *o)
{
	for (__u32 i = 0; i < STEER_RULE_WORDS; i++)
		v->w[i] &= o->w[i];
}

STEER_INLINE __u64 steer_vec_any(const struct steer_vec *v)
{
	return v->w[0] | v->w[1] | v->w[2] | v->w[3];
}

/* Lowest bit set; the vector is not empty. */
STEER_INLINE __u32 steer_vec_first(const struct steer_vec *v)
{
	__u32 i = 0;
	__u64 w = v->w[0];

	if (!w) {
		i = 64;
		w = v->w[1];
	}
	if (!w) {
		i = 128;
		w = v->w[2];
	}
	if (!w) {
		i = 192;
		w = v->w[3];
	}
	/* by halves: __builtin_ctzll crashes clang 14's BPF back end */
	for (__u32 half = 32; half; half >>= 1) {
		if (!(w & ((1ull << half) - 1))) {
			i += half;
			w >>= half;
		}
	}
	return i;
}

STEER_INLINE const struct steer_vec *steer_prefix_vec(const struct steer_tables *t,
						      const struct steer_rules_head *h, __u32 gen,
						      __u32 side, const struct steer_flow *f)
{
	const __u32 *addr = side ? f->local : f->remote;
	const struct steer_vec *v = NULL;
	__u32 d = side + (f->family == STEER_AF_INET6 ? STEER_D_REMOTE6 : STEER_D_REMOTE4);

	if (h->use_prefix & 1u << d) {
		if (f->family == STEER_AF_INET) {
			struct steer_lpm4 k = { .prefixlen = STEER_LPM_HEAD + 32, .gen = gen,
						.side = side, .addr = addr[0] };
			v = steer_t_lpm4(t, &k);
		} else {
			struct steer_lpm6 k = { .prefixlen = STEER_LPM_HEAD + 128, .gen = gen,
						.side = side,
						.addr = { addr[0], addr[1], addr[2], addr[3] } };
			v = steer_t_lpm6(t, &k);
		}
	}
	return v ? v : &h->base[d & 3];
}

/* First rule that matches the flow: its index, -1 = none, -2 = a table is missing. */
STEER_INLINE int steer_rule_find(const struct steer_tables *t, const struct steer_rules_head *h,
				 __u32 gen, const struct steer_flow *f)
{
	struct steer_vec v = h->proto[f->proto & 1];

	if (h->use_ports) {
		const struct steer_port_class *l, *r;
		const struct steer_port_vec *lv, *rv;

		l = steer_t_port_class(t, gen, STEER_BE16(f->lport));
		r = steer_t_port_class(t, gen, STEER_BE16(f->rport));
		if (!l || !r)
			return -2;
		lv = steer_t_port_vec(t, gen, l->local);
		rv = steer_t_port_vec(t, gen, r->remote);
		if (!lv || !rv)
			return -2;
		steer_vec_and(&v, &lv->local);
		steer_vec_and(&v, &rv->remote);
	}
	if (!steer_vec_any(&v))
		return -1;
	steer_vec_and(&v, steer_prefix_vec(t, h, gen, 0, f));
	steer_vec_and(&v, steer_prefix_vec(t, h, gen, 1, f));
	if (!steer_vec_any(&v))
		return -1;
	return steer_vec_first(&v);
}

/* The rules' word on a packet whose port `instance` has claimed. */
STEER_INLINE struct steer_result steer_rule(const struct steer_tables *t,
					    __u32 gen, __u32 instance,
					    const struct steer_flow *f)
{
	const struct steer_rules_head *h = steer_t_rules(t, gen);
	const struct steer_instance *in;
	__u32 action;
	int i;

	if (!h)
		STEER_OUT(PASS_INTERNAL);
	i = steer_rule_find(t, h, gen, f);
	if (i == -2)
		STEER_OUT(PASS_INTERNAL);
	action = i < 0 ? h->default_action : h->action[i & (STEER_RULES - 1)];
	if (action == STEER_ACT_CLAIMANT)
		return STEER_RESULT(i < 0 ? STEER_C_STACK_CLAIM : STEER_C_STACK_RULE, instance);
	if (action == STEER_ACT_KERNEL)
		STEER_OUT(PASS_RULE);
	if (action == STEER_ACT_DROP)
		STEER_OUT(DROP_RULE);
	in = steer_t_instance(t, instance);
	if (!in || STEER_ACT_STACK(in->kind) != action)
		STEER_OUT(PASS_RULE_STACK);
	return STEER_RESULT(STEER_C_STACK_RULE, instance);
}

/* --- from a flow to a verdict -------------------------------------------------------------- */

STEER_INLINE void steer_copy_addr(__u32 to[4], const __u8 *from, __u8 family)
{
	to[0] = STEER_LD32(from);
	if (family == STEER_AF_INET) {
		to[1] = to[2] = to[3] = 0;
	} else {
		to[1] = STEER_LD32(from + 4);
		to[2] = STEER_LD32(from + 8);
		to[3] = STEER_LD32(from + 12);
	}
}

/* Multicast, or the limited broadcast. A directed broadcast is not in the local table. */
STEER_INLINE int steer_is_group(const __u32 a[4], __u8 family)
{
	__u32 first = STEER_BE32(a[0]) >> 24;

	return family == STEER_AF_INET ? first >= 224 : first == 0xff;
}

/* Can nobody send to us from there? Unspecified, loopback, groups, v4-mapped. */
STEER_INLINE int steer_is_bad_source(const __u32 a[4], __u8 family)
{
	__u32 first = STEER_BE32(a[0]) >> 24;

	if (family == STEER_AF_INET)
		return first == 0 || first == 127 || first >= 224;
	if (first == 0xff)
		return 1;
	if (a[0] | a[1])
		return 0;
	return a[2] == STEER_BE32(0xffff) || (!a[2] && STEER_BE32(a[3]) <= 1);
}

STEER_INLINE struct steer_result steer_flow_decide(const struct steer_tables *t,
						   const struct steer_meta *m,
						   const struct steer_pkt *pkt, __u64 claim)
{
	struct steer_flow f = { .family = pkt->family, .proto = pkt->proto,
				.lport = pkt->lport, .rport = pkt->rport };
	__u32 instance = STEER_TO_KERNEL, rules;
	const __u32 *found;
	int group;

	steer_copy_addr(f.local, pkt->local, pkt->family);
	group = pkt->group || steer_is_group(f.local, pkt->family);
	{
		struct steer_local_key k = { .family = pkt->family,
			.addr = { f.local[0], f.local[1], f.local[2], f.local[3] } };

		if (!steer_t_local(t, &k)) {
			if (group)
				STEER_OUT(PASS_GROUP);
			STEER_OUT(PASS_NOT_LOCAL);
		}
	}
	/* a group address that was joined; never TCP, nor a group frame to a host address */
	if (group && (pkt->proto != STEER_P_UDP || !steer_is_group(f.local, pkt->family)))
		STEER_OUT(PASS_GROUP);
	steer_copy_addr(f.remote, pkt->remote, pkt->family);
	if (steer_is_bad_source(f.remote, pkt->family) ||
	    (f.local[0] == f.remote[0] && f.local[1] == f.remote[1] &&
	     f.local[2] == f.remote[2] && f.local[3] == f.remote[3]))
		STEER_OUT(PASS_SOURCE);

	if (STEER_CLAIM_PINS(claim)) {
		found = steer_t_pin(t, &f);
		if (found && *found == STEER_TO_KERNEL)
			STEER_OUT(PASS_PINNED);
		if (found)
			return STEER_RESULT(STEER_C_STACK_PINNED, *found);
	}
	if (STEER_CLAIM_ADDRS(claim)) {
		struct steer_addr_claim k = { .family = f.family, .proto = f.proto, .port = f.lport,
			.addr = { f.local[0], f.local[1], f.local[2], f.local[3] } };

		found = steer_t_addr_claim(t, &k);
		if (found)
			instance = *found;
	}
	if (instance == STEER_TO_KERNEL)
		instance = f.family == STEER_AF_INET ? STEER_CLAIM_V4(claim) : STEER_CLAIM_V6(claim);
	if (instance == STEER_TO_KERNEL)
		STEER_OUT(PASS_UNCLAIMED);
	/* acquire: pairs steer.rules - what is read next is found by this value */
	rules = *(const volatile __u32 *)&m->rules;
	if (!rules || claim & STEER_CLAIM_EXEMPT)
		return STEER_RESULT(STEER_C_STACK_CLAIM, instance);
	return steer_rule(t, (rules - 1) & 1, instance, &f);
}

STEER_INLINE struct steer_result steer_classify(const struct steer_tables *t,
						const struct steer_meta *m,
						const struct steer_pkt *pkt)
{
	const __u64 *claim = steer_t_claim(t, STEER_CLAIM_INDEX(pkt->proto, STEER_BE16(pkt->lport)));
	struct steer_result r;
	__u64 w;

	if (!claim)
		STEER_OUT(PASS_INTERNAL);
	/* acquire: pairs steer.claim - the one word is all that is read of it */
	w = *(const volatile __u64 *)claim;
	if (!w)
		STEER_OUT(PASS_UNCLAIMED);
	r = steer_flow_decide(t, m, pkt, w);
	if (steer_verdict(r.counter) != STEER_STACK)
		return r;
	if (pkt->quoted)
		r.counter = STEER_C_STACK_ICMP;
	else if (pkt->proto == STEER_P_UDP && m->mtu && pkt->ip_len > m->mtu)
		STEER_OUT(PASS_UDP_TRAIN);
	return r;
}

/* Owner of a local address that belongs to an instance wholly, else 0. */
STEER_INLINE __u32 steer_owner(const struct steer_tables *t, const __u8 *addr, __u8 family)
{
	struct steer_local_key k = { .family = family };
	const struct steer_local *l;

	steer_copy_addr(k.addr, addr, family);
	l = steer_t_local(t, &k);
	return l ? l->owner : 0;
}

/* --- headers ------------------------------------------------------------------------------- */

/* Steps over IPv6 extension headers. *p and *len move on to the transport header, *next is its
 * number. Returns a counter when it can't, else STEER_C_NR_. */
STEER_INLINE __u32 steer_ext_skip(const __u8 **p, const __u8 *end, __u32 *len, __u32 *next)
{
	const __u8 *h = *p;
	__u32 left = *len, type = *next, size;

	for (__u32 i = 0; i <= STEER_EXT_MAX; i++) {
		if (type == STEER_IP_TCP || type == STEER_IP_UDP || type == STEER_IP_ICMP6) {
			*p = h;
			*len = left;
			*next = type;
			return STEER_C_NR_;
		}
		if (type == 44)
			return STEER_C_PASS_FRAGMENT;
		if (type != 0 && type != 43 && type != 60) {
			/* AH, mobility, HIP, shim6: headers that we don't step over */
			if (type == 51 || type == 135 || type == 139 || type == 140)
				return STEER_C_PASS_EXT_HEADERS;
			return STEER_C_PASS_PROTOCOL;
		}
		/* hop-by-hop only comes first */
		if (i == STEER_EXT_MAX || (type == 0 && i))
			return STEER_C_PASS_EXT_HEADERS;
		if (h + 8 > end)
			return STEER_C_PASS_TRUNCATED;
		size = (h[1] + 1u) * 8;
		if (size > left)
			return STEER_C_PASS_BAD_HEADER;
		/* a route that still has stations: we are not the last */
		if (type == 43 && h[3])
			return STEER_C_PASS_EXT_HEADERS;
		type = h[0];
		left -= size;
		h += size;
	}
	return STEER_C_PASS_EXT_HEADERS;
}

/* The flow that an ICMP error's quote names: we sent the quoted packet, so its source is our
 * side. q .. q + len is the quote; to is the error's destination. */
STEER_INLINE struct steer_result steer_quote(const struct steer_tables *t,
					     const struct steer_meta *m, struct steer_pkt *pkt,
					     const __u8 *q, const __u8 *end, __u32 len)
{
	const __u8 *to = pkt->local, *l4;
	__u32 next, ihl;

	if (pkt->family == STEER_AF_INET) {
		if (len < 20 || q + 20 > end || q[0] >> 4 != 4)
			STEER_OUT(PASS_ICMP_QUOTE);
		ihl = (q[0] & 15u) * 4;
		next = q[9];
		if (ihl < 20 || len < ihl || STEER_BE16(STEER_LD16(q + 6)) & 0x1fff)
			STEER_OUT(PASS_ICMP_QUOTE);
		if (STEER_LD32(q + 12) != STEER_LD32(to))
			STEER_OUT(PASS_ICMP_QUOTE);
		pkt->local = q + 12;
		pkt->remote = q + 16;
		l4 = q + ihl;
		len -= ihl;
	} else {
		if (len < 40 || q + 40 > end || q[0] >> 4 != 6)
			STEER_OUT(PASS_ICMP_QUOTE);
		if (STEER_LD32(q + 8) != STEER_LD32(to) ||
		    STEER_LD32(q + 12) != STEER_LD32(to + 4) ||
		    STEER_LD32(q + 16) != STEER_LD32(to + 8) ||
		    STEER_LD32(q + 20) != STEER_LD32(to + 12))
			STEER_OUT(PASS_ICMP_QUOTE);
		next = q[6];
		pkt->local = q + 8;
		pkt->remote = q + 24;
		l4 = q + 40;
		len -= 40;
		if (steer_ext_skip(&l4, end, &len, &next) != STEER_C_NR_)
			STEER_OUT(PASS_ICMP_QUOTE);
	}
	/* eight bytes of transport header are what an error quotes at least (RFC 792) */
	if ((next != STEER_IP_TCP && next != STEER_IP_UDP) || len < 8 || l4 + 8 > end)
		STEER_OUT(PASS_ICMP_QUOTE);
	pkt->proto = next == STEER_IP_TCP ? STEER_P_TCP : STEER_P_UDP;
	pkt->lport = STEER_LD16(l4);
	pkt->rport = STEER_LD16(l4 + 2);
	pkt->quoted = 1;
	return steer_classify(t, m, pkt);
}

/* Destination unreachable (with "too big"), time exceeded, parameter problem. */
STEER_INLINE int steer_icmp_is_error(__u8 type, __u8 family)
{
	if (family == STEER_AF_INET)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

STEER_INLINE int steer_icmp_is_echo_reply(__u8 type, __u8 family)
{
	return type == (family == STEER_AF_INET ? 0 : 129);
}

/* An answer to a ping, l4 has its 8 bytes of header: a stack's if it is of a flow that an instance has pinned.
 * No claims are asked: such answers are few, and the kernel's own pings have any id. */
STEER_INLINE struct steer_result steer_echo_reply(const struct steer_tables *t, const struct steer_pkt *pkt,
						  const __u8 *l4)
{
	struct steer_flow f = { .family = pkt->family, .proto = STEER_P_ECHO,
				.lport = STEER_LD16(l4 + 4) };
	const __u32 *found;

	steer_copy_addr(f.local, pkt->local, pkt->family);
	steer_copy_addr(f.remote, pkt->remote, pkt->family);
	found = steer_t_pin(t, &f);
	if (pkt->group || !found || *found == STEER_TO_KERNEL)
		STEER_OUT(PASS_ICMP_OTHER);
	return STEER_RESULT(STEER_C_STACK_ECHO, *found);
}

/* The transport header: l4 .. l4 + len by the IP header's word. */
STEER_INLINE struct steer_result steer_transport(const struct steer_tables *t,
						 const struct steer_meta *m,
						 struct steer_pkt *pkt, const __u8 *l4,
						 const __u8 *end, __u32 len, __u32 next)
{
	if (next == STEER_IP_TCP) {
		if (len < 20)
			STEER_OUT(PASS_BAD_LENGTH);
		if (l4 + 20 > end)
			STEER_OUT(PASS_TRUNCATED);
		pkt->proto = STEER_P_TCP;
	} else if (next == STEER_IP_UDP) {
		__u32 ulen;

		if (len < 8)
			STEER_OUT(PASS_BAD_LENGTH);
		if (l4 + 8 > end)
			STEER_OUT(PASS_TRUNCATED);
		ulen = STEER_BE16(STEER_LD16(l4 + 4));
		if (ulen < 8 || ulen > len)
			STEER_OUT(PASS_BAD_LENGTH);
		pkt->proto = STEER_P_UDP;
	} else if (next == (pkt->family == STEER_AF_INET ? STEER_IP_ICMP : STEER_IP_ICMP6)) {
		if (len < 8)
			STEER_OUT(PASS_BAD_LENGTH);
		if (l4 + 8 > end)
			STEER_OUT(PASS_TRUNCATED);
		if (steer_icmp_is_echo_reply(l4[0], pkt->family))
			return steer_echo_reply(t, pkt, l4);
		if (!steer_icmp_is_error(l4[0], pkt->family))
			STEER_OUT(PASS_ICMP_OTHER);
		return steer_quote(t, m, pkt, l4 + 8, end, len - 8);
	} else {
		STEER_OUT(PASS_PROTOCOL);
	}
	pkt->rport = STEER_LD16(l4);
	pkt->lport = STEER_LD16(l4 + 2);
	return steer_classify(t, m, pkt);
}

/* Are `need` bytes from data on all there, in this buffer or the packet's further ones? */
STEER_INLINE int steer_fits(const struct steer_tables *t, const __u8 *data, const __u8 *end,
			    __u32 need)
{
	__u32 linear = end - data;

	return need <= linear || need <= steer_t_frame_len(t, linear);
}

STEER_INLINE struct steer_result steer_ipv4(const struct steer_tables *t,
					    const struct steer_meta *m, struct steer_pkt *pkt,
					    const __u8 *data, const __u8 *p, const __u8 *end)
{
	__u32 ihl, total, owner;

	if (p + 20 > end)
		STEER_OUT(PASS_TRUNCATED);
	ihl = (p[0] & 15u) * 4;
	if (p[0] >> 4 != 4 || ihl < 20)
		STEER_OUT(PASS_BAD_HEADER);
	total = STEER_BE16(STEER_LD16(p + 2));
	if (total < ihl || !steer_fits(t, data, end, (__u32)(p - data) + total))
		STEER_OUT(PASS_BAD_LENGTH);
	pkt->family = STEER_AF_INET;
	pkt->ip_len = total;
	pkt->remote = p + 12;
	pkt->local = p + 16;
	if (m->own) {
		owner = steer_owner(t, pkt->local, STEER_AF_INET);
		if (owner)
			return STEER_RESULT(STEER_C_STACK_OWN, owner);
	}
	if (STEER_BE16(STEER_LD16(p + 6)) & 0x3fff)
		STEER_OUT(PASS_FRAGMENT);
	return steer_transport(t, m, pkt, p + ihl, end, total - ihl, p[9]);
}

STEER_INLINE struct steer_result steer_ipv6(const struct steer_tables *t,
					    const struct steer_meta *m, struct steer_pkt *pkt,
					    const __u8 *data, const __u8 *p, const __u8 *end)
{
	__u32 len, next, owner, c;
	const __u8 *l4;

	if (p + 40 > end)
		STEER_OUT(PASS_TRUNCATED);
	if (p[0] >> 4 != 6)
		STEER_OUT(PASS_BAD_HEADER);
	/* no length: a jumbogram */
	len = STEER_BE16(STEER_LD16(p + 4));
	if (!len || !steer_fits(t, data, end, (__u32)(p - data) + 40 + len))
		STEER_OUT(PASS_BAD_LENGTH);
	pkt->family = STEER_AF_INET6;
	pkt->ip_len = 40 + len;
	pkt->remote = p + 8;
	pkt->local = p + 24;
	next = p[6];
	l4 = p + 40;
	if (m->own) {
		owner = steer_owner(t, pkt->local, STEER_AF_INET6);
		/* neighbour solicitation to the owner's solicited-node group: the target counts */
		if (!owner && p[24] == 0xff && next == STEER_IP_ICMP6 && len >= 24 &&
		    l4 + 24 <= end && l4[0] == 135)
			owner = steer_owner(t, l4 + 8, STEER_AF_INET6);
		if (owner)
			return STEER_RESULT(STEER_C_STACK_OWN, owner);
	}
	c = steer_ext_skip(&l4, end, &len, &next);
	if (c != STEER_C_NR_)
		return STEER_RESULT(c, STEER_TO_KERNEL);
	return steer_transport(t, m, pkt, l4, end, len, next);
}

/* ARP about an address that an instance owns wholly. */
STEER_INLINE struct steer_result steer_arp(const struct steer_tables *t,
					   const struct steer_meta *m, const __u8 *p,
					   const __u8 *end)
{
	__u32 owner;

	if (!m->own || p + 28 > end)
		STEER_OUT(PASS_NOT_IP);
	/* Ethernet, IPv4 */
	if (STEER_BE16(STEER_LD16(p)) != 1 || STEER_BE16(STEER_LD16(p + 2)) != 0x0800 ||
	    p[4] != 6 || p[5] != 4)
		STEER_OUT(PASS_NOT_IP);
	owner = steer_owner(t, p + 24, STEER_AF_INET);
	if (!owner)
		STEER_OUT(PASS_NOT_IP);
	return STEER_RESULT(STEER_C_STACK_OWN, owner);
}

STEER_INLINE int steer_is_vlan(__u32 type)
{
	return type == 0x8100 || type == 0x88a8;
}

/* The whole decision for the frame at data. */
STEER_INLINE struct steer_result steer_decide(const struct steer_tables *t, const __u8 *data,
					      const __u8 *end)
{
	const struct steer_meta *m = steer_t_meta(t);
	struct steer_pkt pkt = { 0 };
	const __u8 *p = data + 14;
	__u32 type, tagged = 0;

	if (!m)
		STEER_OUT(PASS_INTERNAL);
	if (p > end)
		STEER_OUT(PASS_TRUNCATED);
	pkt.group = data[0] & 1;
	type = STEER_BE16(STEER_LD16(data + 12));
	if (steer_is_vlan(type)) {
		tagged = 1;
		for (__u32 i = 0; i < STEER_VLAN_MAX && steer_is_vlan(type); i++) {
			if (p + 4 > end)
				STEER_OUT(PASS_TRUNCATED);
			type = STEER_BE16(STEER_LD16(p + 2));
			p += 4;
		}
		if (steer_is_vlan(type))
			STEER_OUT(PASS_VLAN_DEEP);
	}
	if (tagged && !m->steer_vlan)
		STEER_OUT(PASS_VLAN);
	if (type == 0x0800)
		return steer_ipv4(t, m, &pkt, data, p, end);
	if (type == 0x86dd)
		return steer_ipv6(t, m, &pkt, data, p, end);
	if (type == 0x0806)
		return steer_arp(t, m, p, end);
	STEER_OUT(PASS_NOT_IP);
}

#undef STEER_OUT
#endif /* STEER_LD16 */
#endif
