/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/netcfg_route.c - the way to a remote address
 *
 * Each question (remote, bound source, device) is asked of the kernel once, so policy routing,
 * multipath, VRFs and source selection are the kernel's and not guessed. Answers live in a
 * set-associative cache of fixed size until the generation moves on. Path MTUs that routers told
 * us are kept beside it, since they outlive a change of routes.
 *
 * Not here: per-flow multipath (one path is chosen for each remote), packet marks.
 */
#include "netcfg_internal.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>

#define PMTU_NS (600 * NC_S)
#define PMTU_MIN4 552u
#define PMTU_MIN6 1280u
#define ERROR_NS NC_S /* an error is asked again after that even if nothing seems to change */

int nc_route_init(struct netcfg *nc)
{
	nc->routes = calloc((size_t)NC_ROUTE_SETS * NC_WAYS, sizeof(*nc->routes));
	nc->pmtu = calloc((size_t)NC_PMTU_SETS * NC_WAYS, sizeof(*nc->pmtu));
	if (nc->is_static)
		nc->sroutes = calloc(NC_STATIC_ROUTES, sizeof(*nc->sroutes));
	return nc->routes && nc->pmtu && (nc->sroutes || !nc->is_static) ? 0 : -ENOMEM;
}

void nc_route_exit(struct netcfg *nc)
{
	free(nc->routes);
	free(nc->pmtu);
	free(nc->sroutes);
}

/* --- path MTU -------------------------------------------------------------------------------- */

static struct nc_pmtu *pmtu_find(struct netcfg *nc, const struct nc_key *k, bool make)
{
	struct nc_pmtu *set = nc->pmtu + (nc_hash(nc, k, 2) & (NC_PMTU_SETS - 1)) * NC_WAYS;
	struct nc_pmtu *pick = set;

	for (unsigned i = 0; i < NC_WAYS; i++) {
		if (set[i].remote.family && nc->now >= set[i].until) {
			memset(&set[i], 0, sizeof(set[i]));
			nc->npmtu--;
		}
		if (nc_key_eq(&set[i].remote, k))
			return &set[i];
		if (set[i].until < pick->until)
			pick = &set[i]; /* empty, or the oldest */
	}
	if (!make)
		return NULL;
	if (!pick->remote.family)
		nc->npmtu++;
	memset(pick, 0, sizeof(*pick));
	pick->remote = *k;
	return pick;
}

static void pmtu_apply(struct netcfg *nc, const struct nc_key *k, struct netcfg_route *rt)
{
	struct nc_pmtu *p = nc->npmtu ? pmtu_find(nc, k, false) : NULL;

	if (p && p->mtu < rt->mtu)
		rt->mtu = p->mtu;
}

uint32_t netcfg_pmtu_update(struct netcfg *nc, uint64_t now, const struct nst_addr *remote,
			    uint32_t mtu)
{
	uint32_t min = remote->family == AF_INET ? PMTU_MIN4 : PMTU_MIN6;
	struct nc_key k = nc_key(remote);
	struct nc_pmtu *p;

	nc->now = now;
	p = pmtu_find(nc, &k, true);
	if (mtu < min)
		mtu = min;
	if (!p->mtu || mtu < p->mtu)
		p->mtu = mtu;
	p->until = now + PMTU_NS;
	return p->mtu;
}

/* --- asking the kernel ----------------------------------------------------------------------- */

static void put_addr(struct nlmsghdr *nlh, uint16_t type, const struct nst_addr *a)
{
	mnl_attr_put(nlh, type, a->family == AF_INET ? 4 : 16, a->v6);
}

static int type_error(unsigned char type)
{
	switch (type) {
	case RTN_UNREACHABLE:
		return -EHOSTUNREACH;
	case RTN_PROHIBIT:
		return -EACCES;
	case RTN_BLACKHOLE:
		return -EINVAL;
	default:
		return -ENETUNREACH;
	}
}

static int answer_type(const struct rtmsg *rtm, struct netcfg_route *rt)
{
	switch (rtm->rtm_type) {
	case RTN_UNICAST:
		rt->type = NETCFG_RT_UNICAST;
		return 0;
	case RTN_LOCAL:
	case RTN_ANYCAST: /* one of ours, shared with others */
		rt->type = NETCFG_RT_LOCAL;
		return 0;
	case RTN_BROADCAST:
		rt->type = NETCFG_RT_BROADCAST;
		return 0;
	case RTN_MULTICAST:
		rt->type = NETCFG_RT_MULTICAST;
		return 0;
	}
	return type_error(rtm->rtm_type);
}

static void answer_metrics(const struct nlattr *metrics, struct netcfg_route *rt)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, metrics) {
		if (mnl_attr_get_payload_len(a) < 4)
			continue;
		switch (mnl_attr_get_type(a)) {
		case RTAX_MTU:
			rt->mtu = mnl_attr_get_u32(a);
			break;
		case RTAX_HOPLIMIT:
			rt->hoplimit = (uint8_t)mnl_attr_get_u32(a);
			break;
		case RTAX_ADVMSS:
			rt->advmss = mnl_attr_get_u32(a);
			break;
		}
	}
}

static void answer_gateway(const struct nlattr **tb, int family, struct netcfg_route *rt)
{
	struct nst_addr gw;

	if (tb[RTA_GATEWAY] && nc_nl_addr(tb[RTA_GATEWAY], family, &gw)) {
		rt->nexthop = gw;
		rt->gateway = true;
	} else if (tb[RTA_VIA] &&
		   mnl_attr_get_payload_len(tb[RTA_VIA]) >= sizeof(struct rtvia) + 16) {
		const struct rtvia *via = mnl_attr_get_payload(tb[RTA_VIA]);

		memset(&rt->nexthop, 0, sizeof(rt->nexthop));
		rt->nexthop.family = (uint8_t)via->rtvia_family;
		memcpy(rt->nexthop.v6, via->rtvia_addr, 16);
		rt->gateway = true;
	}
	if (rt->nexthop.family == AF_INET6 && rt->nexthop.v6[0] == 0xfe &&
	    (rt->nexthop.v6[1] & 0xc0) == 0x80)
		rt->nexthop.scope_id = rt->ifindex;
}

static void answer(struct netcfg *nc, const struct nlmsghdr *nlh)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct netcfg_route *rt = nc->answer.rt;
	const struct netcfg_link *l;
	const struct nlattr *tb[RTA_VIA + 1];

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm))
		return;
	nc->answer.err = answer_type(rtm, rt);
	if (nc->answer.err)
		return;
	nc_nl_attrs(nlh, sizeof(*rtm), tb, RTA_VIA);
	if (tb[RTA_OIF] && mnl_attr_get_payload_len(tb[RTA_OIF]) >= 4)
		rt->ifindex = mnl_attr_get_u32(tb[RTA_OIF]);
	if (tb[RTA_PREFSRC] && !rt->src.family)
		nc_nl_addr(tb[RTA_PREFSRC], rtm->rtm_family, &rt->src);
	if (tb[RTA_METRICS])
		answer_metrics(tb[RTA_METRICS], rt);
	answer_gateway(tb, rtm->rtm_family, rt);
	l = netcfg_link(nc, rt->ifindex);
	if (l && l->flags & IFF_LOOPBACK && rt->type == NETCFG_RT_UNICAST)
		rt->type = NETCFG_RT_LOCAL;
	if (l && (!rt->mtu || rt->mtu > l->mtu))
		rt->mtu = l->mtu;
}

static int ask_kernel(struct netcfg *nc, const struct nst_addr *remote,
		      const struct nst_addr *bound, unsigned oif, struct netcfg_route *rt)
{
	struct nlmsghdr *nlh = nc_nl_request(nc, RTM_GETROUTE, 0);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	uint8_t bits = remote->family == AF_INET ? 32 : 128;
	int err;

	rtm->rtm_family = remote->family;
	rtm->rtm_dst_len = bits;
	put_addr(nlh, RTA_DST, remote);
	if (bound) {
		rtm->rtm_src_len = bits;
		put_addr(nlh, RTA_SRC, bound);
	}
	if (oif)
		mnl_attr_put_u32(nlh, RTA_OIF, oif);
	nc->answer.rt = rt;
	nc->answer.err = -ENETUNREACH;
	err = nc_nl_talk(nc, nlh, answer);
	nc->answer.rt = NULL;
	return err ? err : nc->answer.err;
}

/* --- static routes --------------------------------------------------------------------------- */

static bool in_prefix(const struct nst_addr *a, const struct nst_addr *net, unsigned len)
{
	unsigned bytes = len / 8, bits = len % 8;

	if (a->family != net->family || memcmp(a->v6, net->v6, bytes))
		return false;
	return !bits || !((a->v6[bytes] ^ net->v6[bytes]) >> (8 - bits));
}

static void static_src(const struct netcfg *nc, const struct nst_addr *towards,
		       struct netcfg_route *rt)
{
	for (uint32_t i = 0; i < nc->naddrs; i++) {
		const struct netcfg_addr *a = &nc->addrs[i];

		if (a->ifindex != rt->ifindex || a->addr.family != towards->family)
			continue;
		if (!rt->src.family || in_prefix(towards, &a->addr, a->prefixlen))
			rt->src = a->addr;
	}
}

static int ask_static(struct netcfg *nc, const struct nst_addr *remote,
		      const struct nst_addr *bound, unsigned oif, struct netcfg_route *rt)
{
	const struct nc_static_route *best = NULL;
	const struct netcfg_link *l;
	bool mcast = remote->family == AF_INET ? ntohl(remote->v4) >> 28 == 14
					       : remote->v6[0] == 0xff;

	if (bound && !netcfg_is_local(nc, bound))
		return -ENETUNREACH; /* as the kernel says */
	for (uint32_t i = 0; i < nc->nsroutes; i++) {
		const struct nc_static_route *r = &nc->sroutes[i];

		if ((oif && r->ifindex != oif) || r->dst.family != remote->family)
			continue;
		if ((mcast || in_prefix(remote, &r->dst, r->prefixlen)) &&
		    (!best || r->prefixlen > best->prefixlen))
			best = r;
	}
	if (netcfg_is_local(nc, remote)) {
		rt->type = NETCFG_RT_LOCAL;
		if (!rt->src.family)
			rt->src = *remote;
		rt->mtu = 65536;
		return 0;
	}
	l = best ? netcfg_link(nc, best->ifindex) : NULL;
	if (!l)
		return -ENETUNREACH;
	rt->ifindex = l->ifindex;
	rt->mtu = best->mtu && best->mtu < l->mtu ? best->mtu : l->mtu;
	rt->type = mcast ? NETCFG_RT_MULTICAST : NETCFG_RT_UNICAST;
	if (remote->family == AF_INET && remote->v4 == INADDR_NONE)
		rt->type = NETCFG_RT_BROADCAST;
	if (best->gateway.family && !mcast) {
		rt->nexthop = best->gateway;
		rt->gateway = true;
	}
	if (!rt->src.family)
		static_src(nc, remote, rt);
	return 0;
}

int netcfg_static_route(struct netcfg *nc, unsigned ifindex, const struct nst_addr *dst,
			unsigned prefixlen, const struct nst_addr *gateway, uint32_t mtu)
{
	struct nc_static_route *r;

	if (!nc->is_static || (!dst && !gateway) || prefixlen > 128)
		return -EINVAL;
	if (nc->nsroutes == NC_STATIC_ROUTES)
		return -ENOSPC;
	r = &nc->sroutes[nc->nsroutes++];
	memset(r, 0, sizeof(*r));
	if (dst)
		r->dst = *dst;
	else
		r->dst.family = gateway->family;
	if (gateway)
		r->gateway = *gateway;
	r->prefixlen = (uint8_t)prefixlen;
	r->ifindex = ifindex;
	r->mtu = mtu;
	nc->gen++;
	if (nc->on_change)
		nc->on_change(nc->on_change_arg, NETCFG_CH_ROUTE);
	return 0;
}

/* --- the cache ------------------------------------------------------------------------------- */

static bool entry_fresh(const struct netcfg *nc, const struct nc_route_entry *e)
{
	return e->rt.gen == nc->gen && (!e->err || nc->now < e->err_until);
}

int netcfg_route(struct netcfg *nc, uint64_t now, const struct nst_addr *remote,
		 const struct nst_addr *bound, unsigned oif, struct netcfg_route *out)
{
	struct nc_key kr, kb = { .family = 0 };
	struct nc_route_entry *set, *e;

	nc->now = now;
	if (remote->family != AF_INET && remote->family != AF_INET6)
		return -EAFNOSUPPORT;
	kr = nc_key(remote);
	if (bound && (!bound->family || nst_addr_is_any(bound)))
		bound = NULL;
	if (bound && bound->family != remote->family)
		return -EAFNOSUPPORT;
	if (bound)
		kb = nc_key(bound);
	if (!oif)
		oif = kr.scope;
	set = nc->routes + NC_WAYS * (nc_hash(nc, &kr, nc_hash(nc, &kb, oif)) & (NC_ROUTE_SETS - 1));
	e = NULL;
	for (unsigned i = 0; i < NC_WAYS && !e; i++)
		if (set[i].oif == oif && nc_key_eq(&set[i].remote, &kr) &&
		    nc_key_eq(&set[i].bound, &kb))
			e = &set[i];
	if (!e || !entry_fresh(nc, e)) {
		nc->st.route_misses++;
		for (unsigned i = 0; i < NC_WAYS && !e; i++)
			if (set[i].rt.gen != nc->gen)
				e = &set[i];
		if (!e)
			e = &set[nc->turn++ % NC_WAYS];
		memset(e, 0, sizeof(*e));
		e->remote = kr;
		e->bound = kb;
		e->oif = oif;
		e->rt.gen = nc->gen;
		e->rt.nexthop = *remote;
		e->rt.nexthop.port = 0;
		if (bound) {
			e->rt.src = *bound;
			e->rt.src.port = 0;
		}
		e->err = nc->is_static ? ask_static(nc, remote, bound, oif, &e->rt)
				       : ask_kernel(nc, remote, bound, oif, &e->rt);
		if (!e->err && !e->rt.src.family)
			e->err = -EADDRNOTAVAIL; /* a device without an address */
		if (e->err) {
			e->err_until = now + ERROR_NS;
			nc->st.route_errors++;
		}
	} else {
		nc->st.route_hits++;
	}
	if (e->err)
		return e->err;
	*out = e->rt;
	pmtu_apply(nc, &kr, out);
	return 0;
}
