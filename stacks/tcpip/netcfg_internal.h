/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/netcfg_internal.h - the follower's inside
 *
 *   netcfg.c        life, news, links, addresses, resync     netcfg_nl.c    netlink sockets
 *   netcfg_route.c  route cache, path MTU, static routes     netcfg_neigh.c neighbours
 */
#ifndef NSTACK_STACKS_TCPIP_NETCFG_INTERNAL_H
#define NSTACK_STACKS_TCPIP_NETCFG_INTERNAL_H

#include "netcfg.h"

#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#define NC_LINKS_MAX 4096u
#define NC_ADDRS_MAX 16384u
#define NC_NEIGHS_MAX 16384u
#define NC_STATIC_ROUTES 64u
#define NC_ROUTE_SETS 1024u /* of NC_WAYS cached answers */
#define NC_PMTU_SETS 256u
#define NC_WAYS 4u
#define NC_BUF 65536u
#define NC_NIL UINT32_MAX
#define NC_MS 1000000ull
#define NC_S 1000000000ull

struct nc_key { /* an address without what does not matter for lookups */
	uint64_t w[2];
	uint32_t scope;
	uint32_t family;
};

struct nc_neigh {
	uint32_t next;       /* in its bucket, or in the free list */
	unsigned ifindex;    /* 0 = free */
	struct nst_addr addr;
	uint16_t state;      /* NUD_* as far as we know */
	bool asked;          /* somebody waits for netcfg_on_neigh */
	bool seen;           /* during a resync */
	uint8_t mac[6];
	uint64_t ask_after;  /* not before */
	uint64_t confirm_after;
};

struct nc_route_entry {
	struct nc_key remote, bound;
	unsigned oif;
	int err;
	uint64_t err_until;
	struct netcfg_route rt; /* rt.gen: when; 0 = empty */
};

struct nc_pmtu {
	struct nc_key remote; /* family 0 = empty */
	uint32_t mtu;
	uint64_t until;
};

struct nc_static_route {
	struct nst_addr dst, gateway; /* gateway.family 0: on-link */
	uint8_t prefixlen;
	unsigned ifindex;
	uint32_t mtu;
};

struct netcfg {
	bool is_static;
	bool resync;             /* news was lost: read all again */
	int ev_fd, rq_fd;        /* news; requests */
	int probe_fd[2];         /* IPv4, IPv6: see netcfg_neigh.c; -1 until needed */
	uint32_t seq;
	uint64_t gen;
	uint64_t next_look;      /* when to look at ev_fd again */
	uint64_t next_resync;
	uint64_t seed[2];        /* keys of the hashes */
	uint64_t now;            /* of the current call */
	unsigned changed;        /* NETCFG_CH_*, not yet told */

	void (*on_change)(void *arg, unsigned what);
	void *on_change_arg;
	void (*on_neigh)(void *arg, unsigned ifindex, const struct nst_addr *nexthop, bool usable);
	void *on_neigh_arg;

	struct netcfg_link *links; /* sorted by ifindex */
	uint32_t nlinks, cap_links;
	struct netcfg_addr *addrs;
	uint32_t naddrs, cap_addrs;
	uint32_t *local;         /* hash of addrs by IP: index + 1; open addressing */
	uint32_t local_size;     /* a power of two */
	bool local_stale;

	struct nc_neigh *neighs;
	uint32_t nneighs, cap_neighs, neigh_free;
	uint32_t *neigh_hash;
	uint32_t neigh_hash_size;

	struct nc_route_entry *routes; /* NC_ROUTE_SETS * NC_WAYS */
	struct nc_pmtu *pmtu;          /* NC_PMTU_SETS * NC_WAYS */
	uint32_t npmtu, turn;
	struct nc_static_route *sroutes;
	uint32_t nsroutes;

	struct { struct netcfg_route *rt; int err; } answer; /* being waited for */
	struct netcfg_stats st;
	uint8_t buf[NC_BUF];     /* answers and news */
	uint8_t req[512];        /* requests */
};

/* netcfg_nl.c */
typedef void (*nc_msg_fn)(struct netcfg *nc, const struct nlmsghdr *nlh);
int nc_nl_open(struct netcfg *nc);
void nc_nl_close(struct netcfg *nc);
struct nlmsghdr *nc_nl_request(struct netcfg *nc, uint16_t type, uint16_t flags);
/* Send nc->req, hand every answer to fn (may be NULL), until done. 0 or -errno, the kernel's own
 * included. A dump that changed while it was read answers -EINTR. */
int nc_nl_talk(struct netcfg *nc, struct nlmsghdr *nlh, nc_msg_fn fn);
/* One datagram of news. 1: handled; 0: none; -ENOBUFS: some were lost. */
int nc_nl_news(struct netcfg *nc, nc_msg_fn fn);
/* Attributes of nlh behind a header of hdrlen bytes into tb[0..max]; unknown ones are skipped. */
void nc_nl_attrs(const struct nlmsghdr *nlh, size_t hdrlen, const struct nlattr **tb, unsigned max);
/* An address attribute; false if its size is wrong. */
bool nc_nl_addr(const struct nlattr *a, int family, struct nst_addr *out);

/* netcfg.c */
struct nc_key nc_key(const struct nst_addr *a);
uint64_t nc_hash(const struct netcfg *nc, const struct nc_key *k, uint64_t extra);
static inline bool nc_key_eq(const struct nc_key *a, const struct nc_key *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->scope == b->scope &&
	       a->family == b->family;
}
int nc_grow(void *array, uint32_t *cap, uint32_t need, size_t size, uint32_t max);

/* netcfg_route.c */
int nc_route_init(struct netcfg *nc);
void nc_route_exit(struct netcfg *nc);

/* netcfg_neigh.c */
int nc_neigh_init(struct netcfg *nc);
void nc_neigh_exit(struct netcfg *nc);
/* RTM_NEWNEIGH, RTM_DELNEIGH. Returns NETCFG_CH_NEIGH or 0. */
unsigned nc_neigh_message(struct netcfg *nc, const struct nlmsghdr *nlh);
void nc_neigh_resync_begin(struct netcfg *nc);
void nc_neigh_resync_end(struct netcfg *nc);
void nc_neigh_link_gone(struct netcfg *nc, unsigned ifindex);

#endif
