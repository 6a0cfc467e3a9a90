/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/netcfg.h - the kernel's addresses, routes, neighbours and links, followed live
 *
 * The kernel is the control plane: this object mirrors links, local addresses and neighbours by
 * rtnetlink, and asks the kernel for each route once (the answer is cached until anything that
 * routes depend on changes). Neighbours are resolved by the kernel on request; we tell it about
 * forward progress so that it need not probe.
 *
 *   struct netcfg_route rt;
 *   err = netcfg_route(nc, now, &remote, NULL, 0, &rt);   // cached: no system call
 *   if (!err && rt.type == NETCFG_RT_UNICAST)
 *           err = netcfg_resolve(nc, now, &rt, mac);      // 0, -EAGAIN (being resolved), ...
 *
 * A caller may keep a struct netcfg_route; it is good while netcfg_gen(nc) == rt.gen.
 *
 * Threads: one at a time (the worker lock). Nothing here blocks for longer than it takes the
 * kernel to answer a local netlink request (bounded by 100 ms). All times: CLOCK_MONOTONIC ns,
 * given by the caller. Addresses: struct nst_addr; ports are ignored.
 */
#ifndef NSTACK_STACKS_TCPIP_NETCFG_H
#define NSTACK_STACKS_TCPIP_NETCFG_H

#include <net/if.h>
#include <nstack/addr.h>
#include <stdbool.h>
#include <stdint.h>

struct netcfg;

struct netcfg_link {
	unsigned ifindex;
	char name[IF_NAMESIZE];
	char kind[16];      /* "veth", "vlan", "bridge", "bond", ...; "" = a device of its own */
	unsigned flags;     /* IFF_* as the kernel has them */
	unsigned master;    /* ifindex of the bridge or bond that it is a port of; 0 = none */
	uint32_t mtu;
	uint16_t arphrd;    /* ARPHRD_* */
	bool up;            /* administratively up and with carrier */
	uint8_t mac[6];
	uint8_t bcast[6];   /* link-layer broadcast; on point-to-point links: the peer */
};

struct netcfg_addr {
	struct nst_addr addr; /* scope_id set for link-local IPv6 */
	unsigned ifindex;
	uint8_t prefixlen;
	uint8_t scope;        /* RT_SCOPE_* */
	uint32_t flags;       /* IFA_F_*; a tentative address is not yet local */
};

enum netcfg_rt_type {
	NETCFG_RT_UNICAST,
	NETCFG_RT_LOCAL,     /* one of our own addresses, or loopback: leave it to the kernel */
	NETCFG_RT_BROADCAST,
	NETCFG_RT_MULTICAST,
};

struct netcfg_route {
	uint64_t gen;         /* netcfg_gen() when it was found */
	unsigned ifindex;     /* may be a device that is no port of ours (VLAN, bridge, tunnel) */
	uint32_t mtu;         /* of the path, as far as known: exception, route metric or link */
	uint8_t type;         /* enum netcfg_rt_type */
	uint8_t hoplimit;     /* route metric, 0 = none given */
	bool gateway;         /* nexthop is a gateway and not the remote itself */
	uint32_t advmss;      /* route metric, 0 = none given */
	struct nst_addr nexthop; /* may be of the other family than src (IPv4 via IPv6) */
	struct nst_addr src;  /* source to use; the bound one if one was given */
};

/* What a change was about: bits for the callback. */
#define NETCFG_CH_LINK 1u
#define NETCFG_CH_ADDR 2u
#define NETCFG_CH_ROUTE 4u
#define NETCFG_CH_NEIGH 8u /* a neighbour became usable, failed or moved */

/* --- life -------------------------------------------------------------------------------- */

/* Follow the kernel, in the network namespace of the calling thread. */
int netcfg_open(struct netcfg **out);
/* No kernel: everything is told by netcfg_static_*(). For tests. */
int netcfg_open_static(struct netcfg **out);
void netcfg_close(struct netcfg *nc); /* NULL is fine */

/* Readable when there is news; -1 for a static one. */
int netcfg_fd(const struct netcfg *nc);
/* Take in news; bounded work. Cheap enough for every poll round: looks at the socket at most every
 * 100 us. Returns the NETCFG_CH_* bits of what changed. */
unsigned netcfg_process(struct netcfg *nc, uint64_t now);
/* Called from netcfg_process() after each batch of changes; one only. */
void netcfg_on_change(struct netcfg *nc, void (*fn)(void *arg, unsigned what), void *arg);
/* Called for each neighbour that somebody asked for and whose fate is now known, from
 * netcfg_process(): usable, or not (failed). For sending what waited. One only. */
void netcfg_on_neigh(struct netcfg *nc, void (*fn)(void *arg, unsigned ifindex,
			const struct nst_addr *nexthop, bool usable), void *arg);
/* Moves on when links, addresses, routes or rules change (not for neighbours). */
uint64_t netcfg_gen(const struct netcfg *nc);

/* --- links and addresses ------------------------------------------------------------------ */

/* All of them; valid until the next netcfg_process(). */
const struct netcfg_link *netcfg_links(const struct netcfg *nc, uint32_t *n);
const struct netcfg_link *netcfg_link(const struct netcfg *nc, unsigned ifindex); /* or NULL */
const struct netcfg_addr *netcfg_addrs(const struct netcfg *nc, uint32_t *n);
/* One of our addresses (127.0.0.0/8 always is). scope_id counts if both sides have one. O(1). */
bool netcfg_is_local(const struct netcfg *nc, const struct nst_addr *a);

/* --- routes ------------------------------------------------------------------------------- */

/* The way to remote. bound: source address the socket is bound to, NULL or any = choose one;
 * oif: device it must leave by, 0 = any (a link-local remote gives its scope_id instead).
 * 0, -ENETUNREACH (also: bound is not ours), -EHOSTUNREACH, -EACCES (prohibited), or what else
 * the kernel said. Errors are cached too. */
int netcfg_route(struct netcfg *nc, uint64_t now, const struct nst_addr *remote,
		 const struct nst_addr *bound, unsigned oif, struct netcfg_route *out);
/* A router said that the path to remote takes only mtu bytes. Raised to the minimum (IPv4 552,
 * IPv6 1280); kept for 10 minutes; never raises a known value. Returns the value now in force. */
uint32_t netcfg_pmtu_update(struct netcfg *nc, uint64_t now, const struct nst_addr *remote,
			    uint32_t mtu);

/* --- neighbours --------------------------------------------------------------------------- */

/* MAC for that route's packets, all types. 0; -EAGAIN: the kernel was asked, try again when
 * netcfg_on_neigh tells; -EHOSTUNREACH: resolution failed (asked again at most every second). */
int netcfg_resolve(struct netcfg *nc, uint64_t now, const struct netcfg_route *rt,
		   uint8_t mac[6]);
/* The same for a unicast or multicast next hop on a device. */
int netcfg_neigh(struct netcfg *nc, uint64_t now, unsigned ifindex, const struct nst_addr *nexthop,
		 uint8_t mac[6]);
/* Forward progress: what we sent through that neighbour arrived. Cheap; reaches the kernel only if
 * the kernel is in doubt (STALE, DELAY, PROBE), and at most once a second for each neighbour. */
void netcfg_neigh_confirm(struct netcfg *nc, uint64_t now, unsigned ifindex,
			  const struct nst_addr *nexthop);

/* --- observation -------------------------------------------------------------------------- */

struct netcfg_stats {
	uint64_t gen;
	uint32_t links, addrs, neighs, pmtus;
	uint64_t messages;       /* netlink messages taken in */
	uint64_t resyncs;        /* lost messages (ENOBUFS): everything was read again */
	uint64_t route_hits, route_misses, route_errors;
	uint64_t neigh_asked, neigh_confirmed, neigh_denied; /* denied: no CAP_NET_ADMIN */
	uint64_t neigh_full;     /* table at its bound */
};
void netcfg_stats(const struct netcfg *nc, struct netcfg_stats *out);

/* --- static ones -------------------------------------------------------------------------- */

int netcfg_static_link(struct netcfg *nc, unsigned ifindex, const char *name,
		       const uint8_t mac[6], uint32_t mtu);
/* Also makes the on-link route for its prefix. */
int netcfg_static_addr(struct netcfg *nc, unsigned ifindex, const struct nst_addr *a,
		       unsigned prefixlen);
/* dst NULL = default route of gateway's family. gateway NULL = on-link. mtu 0 = the link's. */
int netcfg_static_route(struct netcfg *nc, unsigned ifindex, const struct nst_addr *dst,
			unsigned prefixlen, const struct nst_addr *gateway, uint32_t mtu);
/* mac NULL removes it. */
int netcfg_static_neigh(struct netcfg *nc, unsigned ifindex, const struct nst_addr *a,
			const uint8_t *mac);

#endif
