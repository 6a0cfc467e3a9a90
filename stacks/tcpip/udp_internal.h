/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/udp_internal.h - the inside of UDP
 *
 *   udp.c      sockets: life, bind, connect, options, tables
 *   udp_in.c   datagrams and errors that come in
 *   udp_out.c  datagrams that go out: sizes, fragments, trains
 */
#ifndef NSTACK_STACKS_TCPIP_UDP_INTERNAL_H
#define NSTACK_STACKS_TCPIP_UDP_INTERNAL_H

#include "tcpip_internal.h"

#define UDP_HDR 8u
#define UDP_BUCKETS 1024u      /* of each table */
#define UDP_GROUPS_MAX 64u     /* memberships of one socket */

struct udp_group {
	struct nst_addr addr;
	unsigned ifindex;      /* 0 = any */
};

/* What a dual-stack socket has once for each family. */
struct udp_opts {
	uint8_t tos, pmtudisc;
	int16_t ttl;                 /* -1 = default */
	bool recverr;
};

struct udp_sock {
	struct shm_session *s;
	uint32_t sid;                /* index in the region */
	struct fifo rx, tx;
	struct tcpip *t;
	/* in exactly one table once it has a port: connected by both addresses, else by port */
	struct udp_sock *next, **pprev;
	struct udp_sock *all_next, **all_pprev;
	struct udp_sock *work_next, **work_pprev; /* events or datagrams to see to */
	struct nst_addr bound;       /* as bound; family 0 = not yet */
	struct nst_addr local, remote; /* while connected */
	bool connected;
	uint8_t family;
	uint8_t v6only, mcast_ttl;
	struct udp_opts v4, v6;      /* by the family of the peer */
	bool broadcast;
	unsigned device;             /* SO_BINDTODEVICE */
	unsigned mcast_if;
	struct port_ref *port;
	struct ip_dst *dst;          /* of the last datagram, or of the connection */
	unsigned dst_oif;
	uint32_t events;             /* to be told by udp_work() */
	bool tx_pending;             /* datagrams are left in tx: no frame was free */
	struct udp_group *groups;
	uint32_t ngroups;
	uint64_t in_bytes, out_bytes, in_datagrams, out_datagrams;
};

struct udp {
	struct udp_sock *by_port[UDP_BUCKETS];
	struct udp_sock *by_flow[UDP_BUCKETS];
	struct udp_sock *all, *work;
	struct wheel_timer retry;    /* armed while somebody is tx_pending */
	uint32_t icmp_tokens;        /* of icmp.c: errors that may be sent now */
	uint64_t icmp_at;
	uint64_t real, real_at;      /* CLOCK_REALTIME as of the stack's time real_at */
};

static inline struct udp_sock *udp_of(struct tcpip *t, const struct shm_session *s)
{
	uint32_t sid = shm_session_index(t->region, s);
	struct udp_sock *u = t->sock_proto[sid] == IPPROTO_UDP ? t->sock[sid] : NULL;

	return u && u->s == s ? u : NULL;
}

static inline const struct udp_opts *udp_opts(const struct udp_sock *u, const struct nst_addr *peer)
{
	return peer->family == AF_INET ? &u->v4 : &u->v6;
}

static inline uint32_t udp_port_bucket(uint16_t port)
{
	return (port * 0x9e3779b1u) >> 22 & (UDP_BUCKETS - 1);
}
uint32_t udp_flow_bucket(struct tcpip *t, const struct nst_addr *local,
			 const struct nst_addr *remote);

/* Have udp_work() see to it. */
void udp_work_add(struct udp_sock *u, uint32_t events);
/* Report an error on the session: SO_ERROR and EV_ERR. */
void udp_error(struct udp_sock *u, int err);
/* Send what is in tx. */
void udp_drain(struct udp_sock *u);
/* Payload bytes of the largest datagram that goes out in one piece. */
uint32_t udp_max_whole(const struct udp_sock *u, const struct ip_dst *d);

#endif
