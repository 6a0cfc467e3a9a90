/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcpip_internal.h - what the parts of the stack share: the object, a received packet,
 * the way out, and who calls whom
 *
 *   tcpip.c   the object, its operations, the poll loop, counters
 *   ip.c      received frames -> struct ip_pkt -> tcp_input / udp_input / icmp_input;
 *             struct ip_dst (route, neighbour, prepared headers) and frames on their way out
 *   tcp_*.c   TCP                     udp.c, icmp.c, ping.c   UDP and ICMP
 *   wheel.c   timers                  netcfg.c        what the kernel knows
 *
 * Threads: all of it runs under the lock of the worker that owns the object.
 */
#ifndef NSTACK_STACKS_TCPIP_INTERNAL_H
#define NSTACK_STACKS_TCPIP_INTERNAL_H

#include <errno.h>
#include <nstack/addr.h>
#include <nstack/hal.h>
#include <nstack/stack.h>
#include <shm/session.h>

#include "checksum.h"
#include "netcfg.h"
#include "tcpip.h"
#include "wheel.h"

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

struct tcp;  /* tcp_internal.h */
struct udp;  /* udp.c */
struct ping; /* ping.c */

/* --- counters: one list, one 64-bit field each ----------------------------------------------- */

#define TCPIP_COUNTERS(X)                                                                          \
	/* packets as they come and go */                                                          \
	X(rx_packets) X(rx_bytes) X(tx_packets) X(tx_bytes) X(tx_super) X(tx_super_bytes)          \
	X(polls) X(polls_idle)                                                                     \
	X(rx_drop_short) X(rx_drop_ethertype) X(rx_drop_ip_header) X(rx_drop_ip_csum)              \
	X(rx_drop_fragment) X(rx_drop_not_ours) X(rx_drop_proto) X(rx_drop_l4_header)              \
	X(rx_drop_csum) X(rx_csum_partial) X(rx_linearised) X(rx_drop_bad_source)                  \
	X(rx_drop_pieces)                                                                          \
	X(tx_drop_no_frame) X(tx_drop_ring) X(tx_drop_neigh) X(tx_drop_neigh_queue)                \
	X(tx_drop_no_route) X(tx_drop_no_port) X(tx_neigh_waits) X(dst_new) X(dst_full)            \
	X(port_full)                                                                               \
	/* TCP */                                                                                  \
	X(tcp_in) X(tcp_out) X(tcp_out_super) X(tcp_active_opens) X(tcp_passive_opens)             \
	X(tcp_connect_fails) X(tcp_established) X(tcp_closed) X(tcp_resets_in) X(tcp_resets_out)   \
	X(tcp_rst_limited)                                                                         \
	X(tcp_syn_in) X(tcp_syn_queued) X(tcp_syn_dropped) X(tcp_synack_rexmit)                    \
	X(tcp_syn_timeouts) X(tcp_cookies_sent) X(tcp_cookies_good) X(tcp_cookies_bad)             \
	X(tcp_accept_full) X(tcp_no_session) X(tcp_no_memory) X(tcp_children_lost)                 \
	X(tcp_deferred)                                                                            \
	X(tcp_rexmit) X(tcp_rexmit_bytes) X(tcp_fast_rexmit) X(tcp_rto) X(tcp_tlp) X(tcp_spurious) \
	X(tcp_lost_rexmit) X(tcp_recoveries) X(tcp_sack_in) X(tcp_sack_bad) X(tcp_dsack_in)        \
	X(tcp_dsack_out) X(tcp_sack_full) X(tcp_sack_reneged) X(tcp_dupacks_in)                    \
	X(tcp_reordering)                                                                          \
	X(tcp_bytes_in) X(tcp_bytes_out) X(tcp_ooo_in) X(tcp_ooo_dropped) X(tcp_dup_in)            \
	X(tcp_out_of_window) X(tcp_after_close) X(tcp_paws) X(tcp_challenge_acks)                  \
	X(tcp_challenge_limited) X(tcp_ack_old) X(tcp_ack_future) X(tcp_no_ack_flag)               \
	X(tcp_acks_out) X(tcp_delayed_acks) X(tcp_window_updates) X(tcp_zero_window_probes)        \
	X(tcp_zero_window_out) X(tcp_keepalive_out) X(tcp_keepalive_drops) X(tcp_user_timeouts)    \
	X(tcp_rexmit_give_up) X(tcp_no_socket) X(tcp_not_ours) X(tcp_timewait)                     \
	X(tcp_timewait_reused)                                                                     \
	X(tcp_moved) X(tcp_moved_in) X(tcp_timewait_full) X(tcp_timewait_rst) X(tcp_finwait2_timeouts) X(tcp_urgent_in)         \
	X(tcp_pmtu_reduced) X(tcp_icmp_soft) X(tcp_icmp_hard) X(tcp_icmp_ignored)                  \
	X(tcp_bad_options)                                                                         \
	/* UDP */                                                                                  \
	X(udp_in) X(udp_out) X(udp_no_socket) X(udp_rx_full) X(udp_bad_csum) X(udp_bad_length)     \
	X(udp_tx_errors) X(udp_tx_too_big) X(udp_icmp_errors) X(udp_fragments_out) X(udp_rx_train) \
	/* ICMP */                                                                                 \
	X(icmp_in) X(icmp_out) X(icmp_bad) X(icmp_ignored) X(icmp_limited)                         \
	X(ping_in) X(ping_out) X(ping_full)

struct tcpip_counters {
#define X(n) uint64_t n;
	TCPIP_COUNTERS(X)
#undef X
};
#define COUNT(t, n) ((t)->cnt.n++)
#define COUNT_ADD(t, n, v) ((t)->cnt.n += (v))

/* --- ports ------------------------------------------------------------------------------------ */

#define TCPIP_PORTS 16
#define TCPIP_TX_BATCH 64

struct tcpip_port {
	struct hal_port *hal;
	unsigned ifindex;
	uint32_t mtu;          /* what we send at most: link MTU and frame size */
	bool txcsum;           /* HAL_CAP_TX_CSUM */
	bool kick;             /* something was queued since the last hal_tx_flush() */
	uint32_t nfree, nq;
	struct hal_frame free[TCPIP_TX_BATCH]; /* allocated, empty */
	struct hal_frame q[TCPIP_TX_BATCH];    /* filled, to be given to the driver */
};

/* --- the object ------------------------------------------------------------------------------- */

struct ip_dst;
struct port_ref; /* one held local port */

struct tcpip {
	struct stack_env *env;
	struct shm_region *region;
	void **sock;            /* by index of the session: struct tcp_conn or struct udp_sock; NULL = none */
	uint8_t *sock_proto;    /* which of them; what the session says the program could change */
	uint64_t now;           /* ns, of the current poll() or call; never goes back */
	struct netcfg *nc;
	bool nc_own;
	uint64_t neigh_gen;     /* moves when any neighbour changed: prepared headers are looked at */
	uint64_t port_gen;      /* moves when a port came, went or was exchanged */
	uint32_t nports;
	struct tcpip_port *ports[TCPIP_PORTS];
	struct wheel wheel;
	bool in_poll;           /* sending is flushed once, at its end */
	uint64_t secret[4];     /* keys of the hashes, ISN, cookies */
	struct ip_dst **dst_hash;
	struct ip_dst *dst_lru_head, *dst_lru_tail; /* unused ones, oldest first */
	struct ip_dst *dst_waiting;  /* those with packets that wait for a neighbour */
	uint32_t dst_count, dst_unused, neigh_waiting;
	struct port_ref **port_hash;
	uint16_t ip_id;
	uint64_t rng;           /* for things that need not be secret */
	struct tcp *tcp;
	struct udp *udp;
	struct ping *pings; /* at most STACK_PINGS */
	struct tcpip_config cfg;
	struct tcpip_counters cnt;
};

/* The time for a call that comes without one (everything but poll). */
uint64_t tcpip_clock(struct tcpip *t);

/* Count the users of a local port; tells env at the first and the last. The local address may be
 * "any". Returns a reference to put, or NULL (no memory). */
struct port_ref *tcpip_port_get(struct tcpip *t, uint8_t proto, const struct nst_addr *local);
void tcpip_port_put(struct tcpip *t, struct port_ref *p); /* NULL is fine */

/* Tell the socket layer; NULL or closed sessions must not come here. */
static inline void tcpip_event(struct tcpip *t, struct shm_session *s, uint32_t events)
{
	t->env->event(t->env, s, events);
}

/* Keyed hash of n 64-bit words (SipHash-1-3). */
uint64_t tcpip_hash(const uint64_t key[2], const uint64_t *w, uint32_t n);
/* Cheap pseudo-random number, not for secrets. */
uint32_t tcpip_random(struct tcpip *t);

/* --- a received packet ------------------------------------------------------------------------- */

/* Valid during the input call only. The L2 and L3 headers, and the first ip_pkt.l4_linear bytes of
 * the transport part, lie in f[0]. */
struct ip_pkt {
	const struct hal_frame *f; /* the packet's frames, nf of them, in order */
	uint32_t nf;
	uint32_t l4_len;      /* bytes of the transport header and payload, as the IP header says */
	uint32_t l4_linear;   /* how many of them lie in f[0] */
	uint16_t l3_off, l4_off; /* in f[0].data */
	uint8_t proto;
	uint8_t tos, ttl;
	bool csum_ok;         /* the device, or an earlier look, verified the L4 checksum */
	bool bcast;           /* sent to a broadcast or multicast address, at L2 or L3 */
	struct tcpip_port *port;
	struct nst_addr src, dst; /* ports: filled in by the transport */
};

static inline const uint8_t *ip_pkt_l4(const struct ip_pkt *p)
{
	return p->f[0].data + p->l4_off;
}

/* Verify the transport checksum (field at csum_off of the transport header); sets csum_ok. Takes a
 * pseudo-header sum where the port can deliver those. False: drop, counted by the caller. */
bool ip_pkt_csum(struct tcpip *t, struct ip_pkt *p, uint32_t csum_off);
/* Spans of len bytes from offset off of the transport part. Returns how many of v[] were used. */
#define IP_PKT_IOV 24
uint32_t ip_pkt_spans(const struct ip_pkt *p, uint32_t off, uint32_t len,
		      struct iovec v[IP_PKT_IOV]);
/* Copy to dst; returns bytes copied. */
uint32_t ip_pkt_copy(const struct ip_pkt *p, uint32_t off, void *dst, uint32_t len);

/* All frames of one packet, from a driver. Transports get only packets for our own addresses, or
 * with p->bcast set; TCP checks the address itself, after its connection table. */
void ip_input(struct tcpip *t, struct tcpip_port *port, const struct hal_frame *f, uint32_t nf);

/* --- the way out -------------------------------------------------------------------------------- */

#define IP_HDR_MAX (14 + 40)
#define IP_DST_WAIT 4

/* Where packets from src to dst go: route, neighbour and headers in one. Shared, counted; a
 * connection keeps one for its life. Revalidated when the kernel's configuration changed. */
struct ip_dst {
	struct ip_dst *next;               /* hash chain */
	struct ip_dst *lru_prev, *lru_next;
	struct ip_dst *wait_next;          /* t->dst_waiting, while nwait */
	uint32_t refs;
	unsigned oif;                      /* asked for */
	struct nst_addr remote, bound;     /* asked for; ports 0; bound AF_UNSPEC: none */
	struct nst_addr src;               /* source address in force, port 0 */
	struct netcfg_route rt;
	int err;                           /* why it can't be used now, -errno; 0 = usable */
	uint64_t port_gen;                 /* t->port_gen that port was found under */
	uint64_t pseudo;                   /* sum of both addresses */
	uint8_t hoplimit;
	struct tcpip_port *port;           /* NULL while err */
	uint64_t neigh_gen;                /* t->neigh_gen that mac was found under */
	bool mac_ok;
	uint8_t family;
	uint8_t l3_len, hdr_len;           /* IP header; Ethernet and IP header */
	uint8_t nwait;                     /* packets in wait[] */
	uint32_t mtu;                      /* IP packet bytes: path, link and frame considered */
	uint32_t mtu_gen;                  /* moves when mtu changed */
	uint64_t confirm_at;               /* next time netcfg_neigh_confirm is worth calling */
	uint64_t neigh_failed;             /* when the neighbour last did not answer, 0 = never */
	uint8_t hdr[IP_HDR_MAX + 2];       /* Ethernet + IP, but for length, id, TOS, TTL, checksum */
	struct hal_frame wait[IP_DST_WAIT]; /* until the neighbour is resolved */
};

/* Find or make. bound: local address, NULL or any = choose; oif 0 = any. NULL: *err is set
 * (-ENETUNREACH, -EHOSTUNREACH, -EADDRNOTAVAIL for one of our own addresses, -ENOBUFS). The
 * reference is the caller's to put. */
struct ip_dst *ip_dst_get(struct tcpip *t, const struct nst_addr *remote,
			  const struct nst_addr *bound, unsigned oif, int *err);
void ip_dst_put(struct tcpip *t, struct ip_dst *d); /* NULL is fine */
/* Make sure it is current. 0 or -errno; mtu and port may have changed. */
int ip_dst_check_slow(struct tcpip *t, struct ip_dst *d);
static inline int ip_dst_check(struct tcpip *t, struct ip_dst *d)
{
	if (d->rt.gen == netcfg_gen(t->nc) && d->mac_ok && d->neigh_gen == t->neigh_gen &&
	    d->port_gen == t->port_gen && !d->err)
		return 0;
	return ip_dst_check_slow(t, d);
}
/* A router said so; lowers d->mtu for all users of that remote. */
void ip_dst_pmtu(struct tcpip *t, struct ip_dst *d, uint32_t mtu);
/* The peer got what we sent. */
void ip_dst_confirm_slow(struct tcpip *t, struct ip_dst *d);
static inline void ip_dst_confirm(struct tcpip *t, struct ip_dst *d)
{
	if (t->now >= d->confirm_at)
		ip_dst_confirm_slow(t, d);
}

/* One packet in one frame being built. */
struct ip_out {
	struct hal_frame f;
	struct tcpip_port *port;
	struct ip_dst *dst;   /* NULL for a reply that reflects addresses */
	uint8_t *l4;          /* transport header goes here, payload behind it */
	uint32_t room;        /* bytes that fit at l4 (and within the MTU) */
	uint8_t family;
	uint8_t l3_len;
	uint8_t ttl;          /* default one */
	uint64_t pseudo;      /* sum of the addresses, for the pseudo-header */
};

struct ip_out_opt {
	uint8_t proto;
	uint8_t tos;
	uint8_t ttl;          /* 0 = default: route metric, then 64 */
	bool df;              /* IPv4: don't fragment */
	uint16_t frag_be;     /* IPv4 flags and offset for a fragment; else 0. The caller builds the
				 IPv6 fragment header itself, with proto 44 */
	uint16_t id;          /* IPv4 id of a fragment; 0 = next */
};

/* Take a frame and put the headers in. 0 or -errno (counted). */
int ip_out_begin(struct tcpip *t, struct ip_dst *d, struct ip_out *o);
/* The same, back to where p came from, with its MAC addresses and no route lookup. */
int ip_out_begin_reply(struct tcpip *t, const struct ip_pkt *p, struct ip_out *o);
/* Fill in a transport checksum over l4_len bytes at o->l4, or leave it to the device. */
void ip_out_csum(struct ip_out *o, uint8_t proto, uint32_t l4_len, uint32_t csum_off);
/* The same when the sum of the bytes (the field itself as 0) is known already. */
void ip_out_csum_known(struct ip_out *o, uint8_t proto, uint32_t l4_len, uint32_t csum_off,
		       uint64_t sum);
/* Finish the IP header and queue the frame; o is used up. */
void ip_out_send(struct tcpip *t, struct ip_out *o, uint32_t l4_len, const struct ip_out_opt *opt);
void ip_out_cancel(struct tcpip *t, struct ip_out *o);

/* One super-frame: l4hdr (at most 60 bytes) and payload spans (at most HAL_SUPER_IOV - 1). Only when
 * the port has HAL_CAP_SUPERFRAME. The checksum field is filled in here. 0, -EAGAIN or -errno. */
int ip_out_super(struct tcpip *t, struct ip_dst *d, uint8_t *l4hdr, uint32_t l4hdr_len,
		 uint32_t csum_off, const struct iovec *pay, int npay, uint32_t pay_len,
		 uint32_t gso_size, const struct ip_out_opt *opt);

/* Frames on their way to the driver; at the end of a poll or of a call outside of it. */
void ip_flush(struct tcpip *t);

/* Life of ip.c's part. */
int ip_init(struct tcpip *t);
void ip_exit(struct tcpip *t);
int ip_add_port(struct tcpip *t, struct hal_port *hal);
int ip_set_port(struct tcpip *t, unsigned ifindex, struct hal_port *hal); /* NULL: port is gone */
void ip_on_change(void *t, unsigned what);
void ip_on_neigh(void *t, unsigned ifindex, const struct nst_addr *nexthop, bool usable);
struct tcpip_port *ip_port_by_ifindex(struct tcpip *t, unsigned ifindex);

/* --- TCP: called by tcpip.c, ip.c and icmp.c ------------------------------------------------------ */

/* What an ICMP error means for a transport; src/dst as in the quoted packet, that is local and
 * remote of our flow. */
struct icmp_error {
	struct nst_addr local, remote; /* ports filled in from the quoted transport header */
	uint8_t family, type, code;
	int err;              /* errno (positive) as Linux maps it; EMSGSIZE for too big */
	bool hard;            /* Linux: fatal for a connection being set up */
	uint32_t mtu;         /* with EMSGSIZE: next hop MTU as told, 0 = not told */
	const struct nst_addr *from; /* who sent the ICMP message */
	uint8_t tos, ttl;     /* of the message */
	const uint8_t *l4;    /* quoted transport header, l4_len bytes of it (at least 8) */
	uint32_t l4_len;
	const uint8_t *icmp;  /* first 8 bytes: the ICMP header */
	unsigned ifindex;     /* came in by */
};

int tcp_init(struct tcpip *t);
void tcp_exit(struct tcpip *t);   /* resets what is open */
void tcp_input(struct tcpip *t, struct ip_pkt *p);
void tcp_icmp_error(struct tcpip *t, const struct icmp_error *e);
/* After a batch of input and after timers: acknowledge, send, report. */
void tcp_work(struct tcpip *t);
/* In each poll: acknowledge what came a moment ago and no answer has acknowledged yet. */
void tcp_ack_late(struct tcpip *t);
uint64_t tcp_ack_late_due(const struct tcpip *t); /* when that must be at the latest */
/* A neighbour or route changed: connections that could not send try again. */
void tcp_on_change(struct tcpip *t, unsigned what);
int tcp_open(struct tcpip *t, struct shm_session *s);
int tcp_bind(struct tcpip *t, struct shm_session *s, const struct nst_addr *local);
int tcp_listen(struct tcpip *t, struct shm_session *s, int backlog);
void tcp_listen_pause(struct tcpip *t, struct shm_session *s);
int tcp_listen_move(struct tcpip *t, struct shm_session *from, struct shm_session *to);
int tcp_connect(struct tcpip *t, struct shm_session *s, const struct nst_addr *remote);
void tcp_tx_ready(struct tcpip *t, struct shm_session *s, uint32_t flags);
void tcp_rx_freed(struct tcpip *t, struct shm_session *s);
int tcp_shutdown(struct tcpip *t, struct shm_session *s, int how);
void tcp_close(struct tcpip *t, struct shm_session *s, int linger_s);
int tcp_image(struct tcpip *t, struct shm_session *s, struct stack_tcp_image *out);
void tcp_moved(struct tcpip *t, struct shm_session *s);
int tcp_session_move(struct tcpip *t, struct shm_session *from, struct shm_session *to);
int tcp_setopt(struct tcpip *t, struct shm_session *s, int opt, const void *v, uint32_t len);
int tcp_getopt(struct tcpip *t, struct shm_session *s, int opt, void *v, uint32_t *len);
int tcp_get_info(struct tcpip *t, struct shm_session *s, struct tcp_info *out);
/* How many TIME_WAIT records the configuration allows is in force. */
void tcp_tw_limit(struct tcpip *t);
int tcp_sock_info(struct tcpip *t, const struct shm_session *s, struct stack_sock_info *out);
uint32_t tcp_sockets(struct tcpip *t, struct stack_sock_info *out, uint32_t n, uint64_t *cursor);
void tcp_flows(struct tcpip *t, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
					   const struct nst_addr *remote), void *arg);

/* --- UDP (udp.c) and ICMP (icmp.c): the same shape -------------------------------------------------- */

int udp_init(struct tcpip *t);
void udp_exit(struct tcpip *t);
void udp_input(struct tcpip *t, struct ip_pkt *p);
void udp_icmp_error(struct tcpip *t, const struct icmp_error *e);
void udp_work(struct tcpip *t); /* deferred sends and events, after each batch */
int udp_open(struct tcpip *t, struct shm_session *s);
int udp_bind(struct tcpip *t, struct shm_session *s, const struct nst_addr *local);
int udp_connect(struct tcpip *t, struct shm_session *s, const struct nst_addr *remote);
int udp_disconnect(struct tcpip *t, struct shm_session *s);
void udp_tx_ready(struct tcpip *t, struct shm_session *s, uint32_t flags);
void udp_rx_freed(struct tcpip *t, struct shm_session *s);
int udp_shutdown(struct tcpip *t, struct shm_session *s, int how);
void udp_close(struct tcpip *t, struct shm_session *s);
int udp_setopt(struct tcpip *t, struct shm_session *s, int opt, const void *v, uint32_t len);
int udp_getopt(struct tcpip *t, struct shm_session *s, int opt, void *v, uint32_t *len);
int udp_join(struct tcpip *t, struct shm_session *s, const struct nst_addr *group,
	     unsigned ifindex, bool leave);
int udp_session_move(struct tcpip *t, struct shm_session *from, struct shm_session *to);
/* cursor starts at 0 and is udp's own while its bit 63 is clear; UINT64_MAX when done */
int udp_sock_info(struct tcpip *t, const struct shm_session *s, struct stack_sock_info *out);
uint32_t udp_sockets(struct tcpip *t, struct stack_sock_info *out, uint32_t n, uint64_t *cursor);
void udp_flows(struct tcpip *t, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
					   const struct nst_addr *remote), void *arg);

/* --- ICMP: called by tcpip.c, ip.c and udp_*.c ----------------------------------------------------- */

/* IPv4 proto 1 and IPv6 proto 58. Parses errors into struct icmp_error and hands them to tcp or udp;
 * a "too big" also goes to netcfg_pmtu_update(). Answers to our pings go there. Requests of others are the
 * kernel's business: ignored, counted. */
void icmp_input(struct tcpip *t, struct ip_pkt *p);
/* Checksum and send the ICMP message of len bytes at o->l4; o is used up. */
void icmp_send(struct tcpip *t, struct ip_out *o, uint32_t len);
/* Port unreachable in answer to p; rate limited. */
void icmp_port_unreachable(struct tcpip *t, const struct ip_pkt *p);

/* As in struct stack_ops. */
int ping_open(struct tcpip *t, struct stack_ping *o);
int ping_send(struct tcpip *t, uint16_t id, uint16_t *seq);
uint32_t ping_answers(struct tcpip *t, uint16_t id, struct stack_ping_answer *out, uint32_t n);
void ping_close(struct tcpip *t, uint16_t id);
void ping_exit(struct tcpip *t);
void ping_flows(struct tcpip *t, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
					    const struct nst_addr *remote), void *arg);
/* An echo reply whose checksum is right. */
void ping_answer(struct tcpip *t, const struct ip_pkt *pkt);

#endif
