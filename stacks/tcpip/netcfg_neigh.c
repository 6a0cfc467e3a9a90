/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/netcfg_neigh.c - who is at which MAC address, as the kernel sees it
 *
 * The table mirrors the kernel's. An unknown next hop is resolved by the kernel (NTF_USE on a new
 * entry starts ARP or ND). An entry that is STALE is used, and the kernel is told that it is, which
 * makes it probe: a host that moved is found. Forward progress of a connection makes that probe
 * unnecessary: we then set the entry to REACHABLE, but only with the MAC that we know, so that a
 * kernel that learned another one meanwhile keeps it.
 *
 * A program that gave up CAP_NET_ADMIN can do neither. Then an empty datagram to the discard port
 * makes the kernel resolve, and MSG_CONFIRM|MSG_PROBE (which sends nothing) confirms.
 *
 * Bounds: NC_NEIGHS_MAX entries, past which a next hop not known by the kernel is refused; one
 * request a second for each entry.
 */
#include "netcfg_internal.h"

#include <errno.h>
#include <net/if.h>
#include <nstack/fd_host.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USABLE (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)
#define DOUBTFUL (NUD_STALE | NUD_DELAY | NUD_PROBE)
#define ASK_NS NC_S        /* an unresolved entry */
#define USE_NS (5 * NC_S)  /* a stale one: the kernel waits 5 s itself before it probes */
#define CONFIRM_NS NC_S
#define DISCARD_PORT 9
#ifndef MSG_PROBE
#define MSG_PROBE 0x10 /* the kernel's, not in libc's headers */
#endif

/* --- the table ------------------------------------------------------------------------------- */

int nc_neigh_init(struct netcfg *nc)
{
	nc->neigh_free = NC_NIL;
	nc->neigh_hash_size = NC_NEIGHS_MAX;
	nc->neigh_hash = malloc(sizeof(uint32_t) * nc->neigh_hash_size);
	if (!nc->neigh_hash)
		return -ENOMEM;
	memset(nc->neigh_hash, 0xff, sizeof(uint32_t) * nc->neigh_hash_size);
	return 0;
}

void nc_neigh_exit(struct netcfg *nc)
{
	free(nc->neigh_hash);
	free(nc->neighs);
}

static uint32_t *bucket(const struct netcfg *nc, unsigned ifindex, const struct nst_addr *a)
{
	struct nc_key k = nc_key(a);

	k.scope = 0; /* the device says it */
	return &nc->neigh_hash[nc_hash(nc, &k, ifindex) & (nc->neigh_hash_size - 1)];
}

static struct nc_neigh *neigh_find(const struct netcfg *nc, unsigned ifindex,
				   const struct nst_addr *a)
{
	for (uint32_t i = *bucket(nc, ifindex, a); i != NC_NIL; i = nc->neighs[i].next) {
		struct nc_neigh *n = &nc->neighs[i];

		if (n->ifindex == ifindex && nst_addr_same_ip(&n->addr, a))
			return n;
	}
	return NULL;
}

/* Slots come into the free list in steps, as the array grows. */
static int neigh_more(struct netcfg *nc)
{
	uint32_t old = nc->cap_neighs;
	int err = nc_grow(&nc->neighs, &nc->cap_neighs, old + 1, sizeof(*nc->neighs),
			  NC_NEIGHS_MAX);

	if (err)
		return err;
	memset(nc->neighs + old, 0, sizeof(*nc->neighs) * (nc->cap_neighs - old));
	for (uint32_t i = nc->cap_neighs; i-- > old;) {
		nc->neighs[i].next = nc->neigh_free;
		nc->neigh_free = i;
	}
	return 0;
}

static struct nc_neigh *neigh_make(struct netcfg *nc, unsigned ifindex, const struct nst_addr *a)
{
	uint32_t *b = bucket(nc, ifindex, a), i;
	struct nc_neigh *n;

	if (nc->neigh_free == NC_NIL && neigh_more(nc)) {
		nc->st.neigh_full++;
		return NULL;
	}
	i = nc->neigh_free;
	n = &nc->neighs[i];
	nc->neigh_free = n->next;
	memset(n, 0, sizeof(*n));
	n->ifindex = ifindex;
	n->addr = *a;
	n->addr.port = 0;
	n->next = *b;
	*b = i;
	nc->nneighs++;
	return n;
}

static void neigh_drop(struct netcfg *nc, struct nc_neigh *n)
{
	uint32_t i = (uint32_t)(n - nc->neighs), *p = bucket(nc, n->ifindex, &n->addr);

	while (*p != i)
		p = &nc->neighs[*p].next;
	*p = n->next;
	n->ifindex = 0;
	n->next = nc->neigh_free;
	nc->neigh_free = i;
	nc->nneighs--;
}

/* --- news ------------------------------------------------------------------------------------ */

/* Somebody waits for n, and now its fate is known. */
static void tell(struct netcfg *nc, struct nc_neigh *n)
{
	struct nst_addr a = n->addr; /* the callback may make the table grow */

	if (!n->asked || !(n->state & (USABLE | NUD_FAILED)))
		return;
	n->asked = false;
	if (nc->on_neigh)
		nc->on_neigh(nc->on_neigh_arg, n->ifindex, &a, n->state & USABLE);
}

static unsigned neigh_gone(struct netcfg *nc, struct nc_neigh *n)
{
	if (!n)
		return 0;
	if (n->asked) {
		/* deleted while somebody waits (a flush, the device went down): forget what was
		 * asked, so that the next use asks again */
		n->state = NUD_NONE;
		n->ask_after = nc->now + ASK_NS;
		return NETCFG_CH_NEIGH;
	}
	neigh_drop(nc, n);
	return NETCFG_CH_NEIGH;
}

static unsigned neigh_set(struct netcfg *nc, struct nc_neigh *n, uint16_t state,
			  const uint8_t *mac)
{
	bool was = n->state & USABLE, moved = mac && memcmp(n->mac, mac, 6);

	n->seen = true;
	n->state = state;
	if (mac)
		memcpy(n->mac, mac, 6);
	tell(nc, n);
	return was != !!(state & USABLE) || moved ? NETCFG_CH_NEIGH : 0;
}

unsigned nc_neigh_message(struct netcfg *nc, const struct nlmsghdr *nlh)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[NDA_LLADDR + 1];
	const uint8_t *mac = NULL;
	struct nc_neigh *n;
	struct nst_addr a;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*ndm) || ndm->ndm_flags & NTF_PROXY)
		return 0;
	nc_nl_attrs(nlh, sizeof(*ndm), tb, NDA_LLADDR);
	if (ndm->ndm_ifindex <= 0 || !nc_nl_addr(tb[NDA_DST], ndm->ndm_family, &a))
		return 0; /* a bridge's table, for one */
	n = neigh_find(nc, (unsigned)ndm->ndm_ifindex, &a);
	if (nlh->nlmsg_type == RTM_DELNEIGH)
		return neigh_gone(nc, n);
	if (tb[NDA_LLADDR] && mnl_attr_get_payload_len(tb[NDA_LLADDR]) == 6)
		mac = mnl_attr_get_payload(tb[NDA_LLADDR]);
	if (ndm->ndm_state & USABLE && !mac)
		return 0; /* a device without Ethernet addresses: no port of ours */
	if (!n)
		n = neigh_make(nc, (unsigned)ndm->ndm_ifindex, &a);
	return n ? neigh_set(nc, n, ndm->ndm_state, mac) : 0;
}

void nc_neigh_resync_begin(struct netcfg *nc)
{
	for (uint32_t i = 0; i < nc->cap_neighs; i++)
		nc->neighs[i].seen = false;
}

void nc_neigh_resync_end(struct netcfg *nc)
{
	for (uint32_t i = 0; i < nc->cap_neighs; i++)
		if (nc->neighs[i].ifindex && !nc->neighs[i].seen)
			neigh_gone(nc, &nc->neighs[i]);
}

void nc_neigh_link_gone(struct netcfg *nc, unsigned ifindex)
{
	for (uint32_t i = 0; i < nc->cap_neighs; i++)
		if (nc->neighs[i].ifindex == ifindex)
			neigh_drop(nc, &nc->neighs[i]);
}

/* --- telling the kernel ---------------------------------------------------------------------- */

/* Without privilege: a datagram. confirm: only tell that the neighbour is there, send nothing. */
static int probe(struct netcfg *nc, const struct nc_neigh *n, bool confirm)
{
	bool v6 = n->addr.family == AF_INET6;
	int *fd = &nc->probe_fd[v6], ifindex = (int)n->ifindex;
	struct sockaddr_storage ss;
	struct nst_addr to = n->addr;
	socklen_t len;

	if (*fd < 0)
		*fd = nst_fd_own((int)syscall(SYS_socket, n->addr.family,
					      SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (*fd < 0)
		return -errno;
	if (syscall(SYS_setsockopt, *fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
		    v6 ? 76 /* IPV6_UNICAST_IF */ : 50 /* IP_UNICAST_IF */,
		    &(int){ (int)htonl((uint32_t)ifindex) }, sizeof(int)) < 0)
		return -errno;
	to.port = htons(DISCARD_PORT);
	to.scope_id = n->ifindex;
	len = nst_addr_to_sockaddr(&to, n->addr.family, &ss);
	if (syscall(SYS_sendto, *fd, NULL, 0, confirm ? MSG_CONFIRM | MSG_PROBE : 0, &ss, len) < 0)
		return -errno;
	return 0;
}

static int tell_kernel(struct netcfg *nc, const struct nc_neigh *n, bool confirm)
{
	struct nlmsghdr *nlh = nc_nl_request(nc, RTM_NEWNEIGH,
					     NLM_F_ACK | (confirm ? 0 : NLM_F_CREATE));
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));
	int err;

	ndm->ndm_family = n->addr.family;
	ndm->ndm_ifindex = (int)n->ifindex;
	ndm->ndm_state = confirm ? NUD_REACHABLE : NUD_NONE;
	ndm->ndm_flags = confirm ? 0 : NTF_USE;
	mnl_attr_put(nlh, NDA_DST, n->addr.family == AF_INET ? 4 : 16, n->addr.v6);
	if (confirm) /* without NLM_F_REPLACE: counts only if the kernel's MAC is this one */
		mnl_attr_put(nlh, NDA_LLADDR, 6, n->mac);
	err = nc_nl_talk(nc, nlh, NULL);
	if (err != -EPERM && err != -EACCES)
		return err;
	nc->st.neigh_denied++;
	return probe(nc, n, confirm);
}

static int ask(struct netcfg *nc, struct nc_neigh *n)
{
	bool stale = n->state & USABLE;
	int err;

	n->ask_after = nc->now + (stale ? USE_NS : ASK_NS);
	if (nc->is_static)
		return 0;
	nc->st.neigh_asked++;
	err = tell_kernel(nc, n, false);
	/* the answer comes as news; look at once and not by the clock */
	nc->next_look = 0;
	return err;
}

/* --- asking us ------------------------------------------------------------------------------- */

static bool map_multicast(const struct nst_addr *a, uint8_t mac[6])
{
	if (a->family == AF_INET6 && a->v6[0] == 0xff) {
		mac[0] = mac[1] = 0x33;
		memcpy(mac + 2, a->v6 + 12, 4);
		return true;
	}
	if (a->family == AF_INET && ntohl(a->v4) >> 28 == 14) {
		mac[0] = 0x01;
		mac[1] = 0x00;
		mac[2] = 0x5e;
		memcpy(mac + 3, a->v6 + 1, 3);
		mac[3] &= 0x7f;
		return true;
	}
	if (a->family == AF_INET && a->v4 == INADDR_NONE) {
		memset(mac, 0xff, 6);
		return true;
	}
	return false;
}

/* Devices on which nothing is resolved. 0 or -ENOENT: resolve. */
static int fixed_mac(const struct netcfg_link *l, uint8_t mac[6])
{
	if (l->flags & (IFF_NOARP | IFF_LOOPBACK))
		memcpy(mac, l->mac, 6);
	else if (l->flags & IFF_POINTOPOINT)
		memcpy(mac, l->bcast, 6);
	else
		return -ENOENT;
	return 0;
}

static int unresolved(struct netcfg *nc, struct nc_neigh *n)
{
	int err;

	if (nc->now < n->ask_after)
		return n->state & NUD_FAILED ? -EHOSTUNREACH : -EAGAIN;
	n->asked = true;
	n->state = NUD_INCOMPLETE;
	err = ask(nc, n);
	if (!err)
		return -EAGAIN;
	n->state = NUD_FAILED; /* the device is down, or nothing may be asked */
	n->asked = false;
	return -EHOSTUNREACH;
}

int netcfg_neigh(struct netcfg *nc, uint64_t now, unsigned ifindex, const struct nst_addr *nexthop,
		 uint8_t mac[6])
{
	const struct netcfg_link *l;
	struct nc_neigh *n;

	nc->now = now;
	if (map_multicast(nexthop, mac))
		return 0;
	n = neigh_find(nc, ifindex, nexthop);
	if (!n) {
		l = netcfg_link(nc, ifindex);
		if (!l)
			return -ENODEV;
		if (!fixed_mac(l, mac))
			return 0;
		n = neigh_make(nc, ifindex, nexthop);
		if (!n)
			return -ENOBUFS;
	}
	if (!(n->state & USABLE))
		return unresolved(nc, n);
	memcpy(mac, n->mac, 6);
	if (n->state & (NUD_STALE | NUD_DELAY) && now >= n->ask_after)
		ask(nc, n); /* a failure shows in the state, later */
	return 0;
}

int netcfg_resolve(struct netcfg *nc, uint64_t now, const struct netcfg_route *rt, uint8_t mac[6])
{
	const struct netcfg_link *l;

	switch (rt->type) {
	case NETCFG_RT_BROADCAST:
		l = netcfg_link(nc, rt->ifindex);
		if (!l)
			return -ENODEV;
		memcpy(mac, l->bcast, 6);
		return 0;
	case NETCFG_RT_LOCAL:
		return -EADDRNOTAVAIL;
	}
	return netcfg_neigh(nc, now, rt->ifindex, &rt->nexthop, mac);
}

void netcfg_neigh_confirm(struct netcfg *nc, uint64_t now, unsigned ifindex,
			  const struct nst_addr *nexthop)
{
	struct nc_neigh *n;

	nc->now = now;
	if (nc->is_static)
		return;
	n = neigh_find(nc, ifindex, nexthop);
	if (!n || !(n->state & DOUBTFUL) || now < n->confirm_after)
		return;
	n->confirm_after = now + CONFIRM_NS;
	nc->st.neigh_confirmed++;
	tell_kernel(nc, n, true);
}

int netcfg_static_neigh(struct netcfg *nc, unsigned ifindex, const struct nst_addr *a,
			const uint8_t *mac)
{
	struct nc_neigh *n;

	if (!nc->is_static)
		return -EINVAL;
	n = neigh_find(nc, ifindex, a);
	if (!mac) {
		if (n)
			neigh_gone(nc, n);
	} else {
		if (!n)
			n = neigh_make(nc, ifindex, a);
		if (!n)
			return -ENOBUFS;
		neigh_set(nc, n, NUD_PERMANENT, mac);
	}
	if (nc->on_change)
		nc->on_change(nc->on_change_arg, NETCFG_CH_NEIGH);
	return 0;
}
