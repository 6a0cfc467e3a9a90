/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/netcfg.c - following the kernel: life, news, links and local addresses
 *
 * Everything is read once at the start and again whenever news was lost (ENOBUFS); between that,
 * each notification changes the mirror. What routes depend on moves the generation, by which
 * cached answers go stale; a neighbour does not.
 *
 * Threads: as in netcfg.h. Not here: routes (netcfg_route.c), neighbours (netcfg_neigh.c).
 */
#include "netcfg_internal.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/if_addr.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define LOOK_NS 100000ull  /* the socket for news is looked at no more often */
#define NEWS_PER_CALL 64   /* datagrams */
#define DUMP_TRIES 5
#define RESYNC_NS (100 * NC_MS) /* after a failed one */

/* --- small things shared inside ------------------------------------------------------------ */

struct nc_key nc_key(const struct nst_addr *a)
{
	struct nc_key k = { .family = a->family };

	if (a->family == AF_INET) {
		k.w[0] = a->v4;
	} else if (a->family == AF_INET6) {
		memcpy(k.w, a->v6, 16);
		if (a->v6[0] == 0xfe && (a->v6[1] & 0xc0) == 0x80)
			k.scope = a->scope_id;
	}
	return k;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	__uint128_t m = (__uint128_t)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t nc_hash(const struct netcfg *nc, const struct nc_key *k, uint64_t extra)
{
	uint64_t h = mix(k->w[0] ^ nc->seed[0], k->w[1] ^ nc->seed[1]);

	return mix(h ^ extra ^ nc->seed[1], (uint64_t)k->family << 32 | (nc->seed[0] | 1));
}

int nc_grow(void *array, uint32_t *cap, uint32_t need, size_t size, uint32_t max)
{
	uint32_t n = *cap ? *cap : 16;
	void *p;

	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	if (n > max)
		return -ENOSPC;
	memcpy(&p, array, sizeof(p));
	p = realloc(p, n * size);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof(p));
	*cap = n;
	return 0;
}

/* --- links ----------------------------------------------------------------------------------- */

/* Index of the link, or of the place where it belongs. */
static uint32_t link_find(const struct netcfg *nc, unsigned ifindex, bool *found)
{
	uint32_t lo = 0, hi = nc->nlinks;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (nc->links[mid].ifindex < ifindex)
			lo = mid + 1;
		else
			hi = mid;
	}
	*found = lo < nc->nlinks && nc->links[lo].ifindex == ifindex;
	return lo;
}

static unsigned link_set(struct netcfg *nc, const struct netcfg_link *l)
{
	bool found;
	uint32_t i = link_find(nc, l->ifindex, &found);

	if (found) {
		if (!memcmp(&nc->links[i], l, sizeof(*l)))
			return 0;
	} else {
		if (nc_grow(&nc->links, &nc->cap_links, nc->nlinks + 1, sizeof(*l), NC_LINKS_MAX))
			return 0;
		memmove(&nc->links[i + 1], &nc->links[i], sizeof(*l) * (nc->nlinks - i));
		nc->nlinks++;
	}
	nc->links[i] = *l;
	return NETCFG_CH_LINK;
}

static void addrs_of_link_gone(struct netcfg *nc, unsigned ifindex)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < nc->naddrs; i++)
		if (nc->addrs[i].ifindex != ifindex)
			nc->addrs[n++] = nc->addrs[i];
	nc->naddrs = n;
	nc->local_stale = true;
}

static unsigned link_del(struct netcfg *nc, unsigned ifindex)
{
	bool found;
	uint32_t i = link_find(nc, ifindex, &found);

	if (!found)
		return 0;
	memmove(&nc->links[i], &nc->links[i + 1], sizeof(*nc->links) * (nc->nlinks - i - 1));
	nc->nlinks--;
	/* the kernel takes addresses and neighbours away with it, mostly without a word each */
	addrs_of_link_gone(nc, ifindex);
	nc_neigh_link_gone(nc, ifindex);
	return NETCFG_CH_LINK | NETCFG_CH_ADDR;
}

static void link_kind(struct netcfg_link *l, const struct nlattr *info)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, info) {
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			snprintf(l->kind, sizeof(l->kind), "%.*s", (int)mnl_attr_get_payload_len(a),
				 (const char *)mnl_attr_get_payload(a));
	}
}

static unsigned link_message(struct netcfg *nc, const struct nlmsghdr *nlh)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[IFLA_LINKINFO + 1];
	struct netcfg_link l;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifi) || ifi->ifi_index <= 0)
		return 0;
	if (ifi->ifi_family != AF_UNSPEC)
		return 0; /* a bridge talks about its port, IPv6 about its settings */
	if (nlh->nlmsg_type == RTM_DELLINK)
		return link_del(nc, (unsigned)ifi->ifi_index);
	nc_nl_attrs(nlh, sizeof(*ifi), tb, IFLA_LINKINFO);
	memset(&l, 0, sizeof(l)); /* compared whole */
	l.ifindex = (unsigned)ifi->ifi_index;
	l.flags = ifi->ifi_flags;
	l.arphrd = ifi->ifi_type;
	l.up = ifi->ifi_flags & IFF_UP && ifi->ifi_flags & IFF_LOWER_UP;
	if (tb[IFLA_IFNAME])
		snprintf(l.name, sizeof(l.name), "%.*s",
			 (int)mnl_attr_get_payload_len(tb[IFLA_IFNAME]),
			 (const char *)mnl_attr_get_payload(tb[IFLA_IFNAME]));
	if (tb[IFLA_MTU] && mnl_attr_get_payload_len(tb[IFLA_MTU]) >= 4)
		l.mtu = mnl_attr_get_u32(tb[IFLA_MTU]);
	if (tb[IFLA_MASTER] && mnl_attr_get_payload_len(tb[IFLA_MASTER]) >= 4)
		l.master = mnl_attr_get_u32(tb[IFLA_MASTER]);
	if (tb[IFLA_ADDRESS] && mnl_attr_get_payload_len(tb[IFLA_ADDRESS]) == 6)
		memcpy(l.mac, mnl_attr_get_payload(tb[IFLA_ADDRESS]), 6);
	if (tb[IFLA_BROADCAST] && mnl_attr_get_payload_len(tb[IFLA_BROADCAST]) == 6)
		memcpy(l.bcast, mnl_attr_get_payload(tb[IFLA_BROADCAST]), 6);
	if (tb[IFLA_LINKINFO])
		link_kind(&l, tb[IFLA_LINKINFO]);
	return link_set(nc, &l);
}

const struct netcfg_link *netcfg_links(const struct netcfg *nc, uint32_t *n)
{
	*n = nc->nlinks;
	return nc->links;
}

const struct netcfg_link *netcfg_link(const struct netcfg *nc, unsigned ifindex)
{
	bool found;
	uint32_t i = link_find(nc, ifindex, &found);

	return found ? &nc->links[i] : NULL;
}

/* --- addresses ------------------------------------------------------------------------------- */

static bool is_link_local6(const struct nst_addr *a)
{
	return a->family == AF_INET6 && a->v6[0] == 0xfe && (a->v6[1] & 0xc0) == 0x80;
}

static uint32_t addr_find(const struct netcfg *nc, const struct netcfg_addr *a)
{
	uint32_t i;

	for (i = 0; i < nc->naddrs; i++)
		if (nc->addrs[i].ifindex == a->ifindex &&
		    nc->addrs[i].prefixlen == a->prefixlen &&
		    nst_addr_same_ip(&nc->addrs[i].addr, &a->addr))
			break;
	return i;
}

static unsigned addr_set(struct netcfg *nc, const struct netcfg_addr *a)
{
	uint32_t i = addr_find(nc, a);

	if (i < nc->naddrs) {
		if (nc->addrs[i].flags == a->flags && nc->addrs[i].scope == a->scope)
			return 0; /* a lifetime was extended */
	} else {
		if (nc_grow(&nc->addrs, &nc->cap_addrs, i + 1, sizeof(*a), NC_ADDRS_MAX))
			return 0;
		nc->naddrs++;
	}
	nc->addrs[i] = *a;
	nc->local_stale = true;
	return NETCFG_CH_ADDR;
}

static unsigned addr_del(struct netcfg *nc, const struct netcfg_addr *a)
{
	uint32_t i = addr_find(nc, a);

	if (i == nc->naddrs)
		return 0;
	nc->addrs[i] = nc->addrs[--nc->naddrs];
	nc->local_stale = true;
	return NETCFG_CH_ADDR;
}

static unsigned addr_message(struct netcfg *nc, const struct nlmsghdr *nlh)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[IFA_FLAGS + 1];
	struct netcfg_addr a;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa))
		return 0;
	nc_nl_attrs(nlh, sizeof(*ifa), tb, IFA_FLAGS);
	memset(&a, 0, sizeof(a));
	/* on point-to-point links IFA_ADDRESS is the peer */
	if (!nc_nl_addr(tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS], ifa->ifa_family, &a.addr))
		return 0;
	a.ifindex = ifa->ifa_index;
	a.prefixlen = ifa->ifa_prefixlen;
	a.scope = ifa->ifa_scope;
	a.flags = ifa->ifa_flags;
	if (tb[IFA_FLAGS] && mnl_attr_get_payload_len(tb[IFA_FLAGS]) >= 4)
		a.flags = mnl_attr_get_u32(tb[IFA_FLAGS]);
	if (is_link_local6(&a.addr))
		a.addr.scope_id = a.ifindex;
	return nlh->nlmsg_type == RTM_DELADDR ? addr_del(nc, &a) : addr_set(nc, &a);
}

/* Usable as one of ours: duplicate address detection is over, or need not be waited for. */
static bool addr_usable(const struct netcfg_addr *a)
{
	if (a->flags & IFA_F_DADFAILED)
		return false;
	return !(a->flags & IFA_F_TENTATIVE) || a->flags & IFA_F_OPTIMISTIC;
}

static struct nc_key local_key(const struct nst_addr *a)
{
	struct nc_key k = nc_key(a);

	k.scope = 0; /* compared by hand, as it may be missing on one side */
	return k;
}

static void local_rebuild(struct netcfg *nc)
{
	uint32_t size = 64, *t;

	while (size < nc->naddrs * 2)
		size *= 2;
	if (size != nc->local_size) {
		t = realloc(nc->local, sizeof(*t) * size);
		if (!t)
			return; /* stays stale; tried again at the next change */
		nc->local = t;
		nc->local_size = size;
	}
	memset(nc->local, 0, sizeof(*nc->local) * size);
	for (uint32_t i = 0; i < nc->naddrs; i++) {
		struct nc_key k = local_key(&nc->addrs[i].addr);
		uint32_t at = (uint32_t)nc_hash(nc, &k, 0) & (size - 1);

		if (!addr_usable(&nc->addrs[i]))
			continue;
		while (nc->local[at])
			at = (at + 1) & (size - 1);
		nc->local[at] = i + 1;
	}
	nc->local_stale = false;
}

const struct netcfg_addr *netcfg_addrs(const struct netcfg *nc, uint32_t *n)
{
	*n = nc->naddrs;
	return nc->addrs;
}

bool netcfg_is_local(const struct netcfg *nc, const struct nst_addr *a)
{
	struct nc_key k = local_key(a);
	uint32_t at, i;

	if (a->family == AF_INET && (ntohl(a->v4) >> 24) == 127)
		return true;
	if (!nc->local_size)
		return false;
	at = (uint32_t)nc_hash(nc, &k, 0) & (nc->local_size - 1);
	for (; (i = nc->local[at]); at = (at + 1) & (nc->local_size - 1)) {
		const struct nst_addr *b = &nc->addrs[i - 1].addr;

		if (nst_addr_same_ip(a, b) &&
		    (!a->scope_id || !b->scope_id || a->scope_id == b->scope_id))
			return true;
	}
	return false;
}

/* --- news ------------------------------------------------------------------------------------ */

static unsigned message(struct netcfg *nc, const struct nlmsghdr *nlh)
{
	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return link_message(nc, nlh);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return addr_message(nc, nlh);
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return nc_neigh_message(nc, nlh);
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
	case RTM_NEWRULE:
	case RTM_DELRULE:
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		return NETCFG_CH_ROUTE;
	}
	return 0;
}

static void news_message(struct netcfg *nc, const struct nlmsghdr *nlh)
{
	nc->changed |= message(nc, nlh);
}

static int dump(struct netcfg *nc, uint16_t type, size_t hdr)
{
	int err = -EINTR;

	for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
		struct nlmsghdr *nlh = nc_nl_request(nc, type, NLM_F_DUMP);

		mnl_nlmsg_put_extra_header(nlh, hdr);
		err = nc_nl_talk(nc, nlh, news_message);
	}
	return err == -EINTR ? 0 : err; /* torn, but what changed meanwhile comes as news too */
}

/* Read everything. What is known stays until the new state is complete enough to replace it: links
 * and addresses are small and read first, neighbours are marked and swept. */
static int resync(struct netcfg *nc)
{
	int err;

	nc->nlinks = nc->naddrs = 0;
	err = dump(nc, RTM_GETLINK, sizeof(struct ifinfomsg));
	if (!err)
		err = dump(nc, RTM_GETADDR, sizeof(struct ifaddrmsg));
	local_rebuild(nc);
	if (!err) {
		nc_neigh_resync_begin(nc);
		err = dump(nc, RTM_GETNEIGH, sizeof(struct ndmsg));
		if (!err)
			nc_neigh_resync_end(nc);
	}
	nc->changed |= NETCFG_CH_LINK | NETCFG_CH_ADDR | NETCFG_CH_ROUTE | NETCFG_CH_NEIGH;
	nc->resync = err != 0;
	nc->next_resync = nc->now + RESYNC_NS;
	return err;
}

/* Make what changed known. */
static unsigned settle(struct netcfg *nc)
{
	unsigned what = nc->changed;

	nc->changed = 0;
	if (nc->local_stale)
		local_rebuild(nc);
	if (what & (NETCFG_CH_LINK | NETCFG_CH_ADDR | NETCFG_CH_ROUTE))
		nc->gen++;
	if (what && nc->on_change)
		nc->on_change(nc->on_change_arg, what);
	return what;
}

unsigned netcfg_process(struct netcfg *nc, uint64_t now)
{
	int rc = 1;

	nc->now = now;
	if (nc->is_static || now < nc->next_look)
		return 0;
	nc->next_look = now + LOOK_NS;
	for (int i = 0; i < NEWS_PER_CALL && rc == 1; i++)
		rc = nc_nl_news(nc, news_message);
	if (rc == 1)
		nc->next_look = now; /* there may be more */
	if (rc == -ENOBUFS) {
		nc->st.resyncs++;
		nc->resync = true;
		nc->next_resync = now;
	}
	if (nc->resync && now >= nc->next_resync)
		resync(nc);
	return settle(nc);
}

/* --- life ------------------------------------------------------------------------------------ */

static int make(struct netcfg **out, bool is_static)
{
	struct netcfg *nc = calloc(1, sizeof(*nc));
	int err;

	*out = NULL;
	if (!nc)
		return -ENOMEM;
	nc->is_static = is_static;
	nc->ev_fd = nc->rq_fd = nc->probe_fd[0] = nc->probe_fd[1] = -1;
	nc->gen = 1;
	if (getrandom(nc->seed, sizeof(nc->seed), GRND_NONBLOCK) != sizeof(nc->seed))
		nc->seed[0] = nc->seed[1] = (uint64_t)(uintptr_t)nc * 0x9e3779b97f4a7c15u;
	err = nc_route_init(nc);
	if (!err)
		err = nc_neigh_init(nc);
	if (!err && !is_static) {
		err = nc_nl_open(nc);
		if (!err)
			err = resync(nc);
		if (!err)
			settle(nc);
	}
	if (err) {
		netcfg_close(nc);
		return err;
	}
	*out = nc;
	return 0;
}

int netcfg_open(struct netcfg **out)
{
	return make(out, false);
}

int netcfg_open_static(struct netcfg **out)
{
	return make(out, true);
}

void netcfg_close(struct netcfg *nc)
{
	if (!nc)
		return;
	nc_nl_close(nc);
	nc_route_exit(nc);
	nc_neigh_exit(nc);
	free(nc->links);
	free(nc->addrs);
	free(nc->local);
	free(nc);
}

int netcfg_fd(const struct netcfg *nc)
{
	return nc->ev_fd;
}

uint64_t netcfg_gen(const struct netcfg *nc)
{
	return nc->gen;
}

void netcfg_on_change(struct netcfg *nc, void (*fn)(void *arg, unsigned what), void *arg)
{
	nc->on_change = fn;
	nc->on_change_arg = arg;
}

void netcfg_on_neigh(struct netcfg *nc, void (*fn)(void *arg, unsigned ifindex,
			const struct nst_addr *nexthop, bool usable), void *arg)
{
	nc->on_neigh = fn;
	nc->on_neigh_arg = arg;
}

void netcfg_stats(const struct netcfg *nc, struct netcfg_stats *out)
{
	*out = nc->st;
	out->gen = nc->gen;
	out->links = nc->nlinks;
	out->addrs = nc->naddrs;
	out->neighs = nc->nneighs;
	out->pmtus = nc->npmtu;
}

/* --- static ones ----------------------------------------------------------------------------- */

int netcfg_static_link(struct netcfg *nc, unsigned ifindex, const char *name,
		       const uint8_t mac[6], uint32_t mtu)
{
	struct netcfg_link l;

	if (!nc->is_static || !ifindex)
		return -EINVAL;
	memset(&l, 0, sizeof(l));
	l.ifindex = ifindex;
	snprintf(l.name, sizeof(l.name), "%s", name);
	l.flags = IFF_UP | IFF_BROADCAST | IFF_MULTICAST | IFF_RUNNING;
	l.arphrd = ARPHRD_ETHER;
	l.mtu = mtu;
	l.up = true;
	memcpy(l.mac, mac, 6);
	memset(l.bcast, 0xff, 6);
	nc->changed |= link_set(nc, &l);
	settle(nc);
	return 0;
}

int netcfg_static_addr(struct netcfg *nc, unsigned ifindex, const struct nst_addr *a,
		       unsigned prefixlen)
{
	struct netcfg_addr na;

	if (!nc->is_static || !netcfg_link(nc, ifindex))
		return -EINVAL;
	memset(&na, 0, sizeof(na));
	na.addr = *a;
	na.addr.port = 0;
	na.addr.scope_id = is_link_local6(a) ? ifindex : 0;
	na.ifindex = ifindex;
	na.prefixlen = (uint8_t)prefixlen;
	na.scope = is_link_local6(a) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	na.flags = IFA_F_PERMANENT;
	nc->changed |= addr_set(nc, &na);
	settle(nc);
	return netcfg_static_route(nc, ifindex, a, prefixlen, NULL, 0);
}
