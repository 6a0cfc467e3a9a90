/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_internal.h - TCP's own types; used by tcp_*.c and cc_*.c only
 *
 *   tcp_conn.c      tables, pools, life and end of a connection, the work list
 *   tcp_sock.c      calls from the socket layer, options
 *   tcp_input.c     segment parsing, checks of RFC 9293 and 5961, state changes
 *   tcp_recv.c      payload into the FIFO, out-of-order ranges, windows, when to acknowledge
 *   tcp_ack.c       acknowledgements: round trip, window, loss recovery
 *   tcp_sack.c      what the peer holds and what it misses
 *   tcp_output.c    segments out
 *   tcp_listen.c    SYN queue, cookies, accept queue
 *   tcp_timewait.c  what is left of a connection in TIME_WAIT
 *   tcp_move.c      handing a connection over to another TCP
 *   session_move.c  a connection, or UDP socket, goes on in another session
 *   tcp_timer.c     time-outs
 *   tcp_info.c      observation
 *
 * A connection that has something to do is put on the work list; tcp_work() runs it once per
 * batch: one acknowledgement, one round of sending, one event, however many packets came.
 *
 * Sequence numbers and FIFO positions: the byte with sequence number una lies at the tail of the
 * tx FIFO (SYN and FIN have no byte), the byte with number rcv_nxt goes to the head of the rx FIFO.
 */
#ifndef NSTACK_STACKS_TCPIP_TCP_INTERNAL_H
#define NSTACK_STACKS_TCPIP_TCP_INTERNAL_H

#include "tcpip_internal.h"

#include <stddef.h>

/* The states of RFC 9293 with Linux's numbers (tcp_info, /proc/net/tcp).
 *
 * ESTABLISHED..CLOSING with a session: s->state is CONNECTED. FIN_WAIT2 of a socket that was
 * closed, and TIME_WAIT, are struct tcp_tw: they have no connection. SYN_RECV of a listener's child
 * is a struct tcp_req; a tcp_conn is in SYN_RECV only after simultaneous open. CLOSE: either never
 * connected, or over; timers off, not in the table. */
enum tcp_state {
	TCP_S_ESTABLISHED = 1,
	TCP_S_SYN_SENT,
	TCP_S_SYN_RECV,
	TCP_S_FIN_WAIT1,
	TCP_S_FIN_WAIT2,
	TCP_S_TIME_WAIT,
	TCP_S_CLOSE,
	TCP_S_CLOSE_WAIT,
	TCP_S_LAST_ACK,
	TCP_S_LISTEN,
	TCP_S_CLOSING,
	TCP_S_NR_
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20

#define TCP_HDR 20u
#define TCP_TSOPT 12u     /* NOP NOP timestamps */
#define TCP_MSS_MIN 88u   /* never send smaller full segments, whatever anyone says */
#define TCP_IW 10u        /* segments, RFC 6928 */
#define TCP_SACK_MAX 4
#define TCP_RCV_WIN (256u << 10) /* receive window to begin with */
#define TCP_HOLES_MAX 512u
#define TCP_OOO_MAX 256u
#define TCP_RTO_MIN (200 * NS_PER_MS)
#define TCP_RTO_MAX (120 * NS_PER_S)
#define TCP_RTO_INIT (1 * NS_PER_S)
#define TCP_DELACK_MAX (40 * NS_PER_MS)
#define TCP_TIMEWAIT_NS (60 * NS_PER_S)
#define TCP_SYN_RETRIES 6
#define TCP_SYNACK_RETRIES 5
#define TCP_RETRIES 15
#define TCP_ORPHAN_RETRIES 8
#define TCP_UNDO_SET (1ull << 32)
#define TCP_UNDO_NO (1ull << 33) /* the retransmission was needed */

static inline bool seq_lt(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static inline bool seq_le(uint32_t a, uint32_t b) { return (int32_t)(a - b) <= 0; }
static inline bool seq_gt(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }
static inline bool seq_ge(uint32_t a, uint32_t b) { return (int32_t)(a - b) >= 0; }
static inline uint32_t seq_max(uint32_t a, uint32_t b) { return seq_gt(a, b) ? a : b; }
static inline uint32_t seq_min(uint32_t a, uint32_t b) { return seq_lt(a, b) ? a : b; }
static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* --- what is in the connection table ------------------------------------------------------------ */

enum tcp_kind { TCP_K_CONN, TCP_K_REQ, TCP_K_TW };

struct tcp_node {
	struct tcp_node *next;
	uint32_t hash;
	uint8_t kind;
	bool hashed;
	struct nst_addr local, remote; /* with ports */
};

/* Options of a socket; children get the listener's. */
struct tcp_opts {
	bool nodelay, keepalive;
	bool no_quickack;
	bool rcvbuf_set;           /* no tuning of the window */
	bool v6only;               /* constant while it listens */
	uint8_t tos;
	int16_t ttl;               /* -1 = default */
	uint16_t maxseg;           /* 0 = none */
	uint8_t keepcnt, syncnt;   /* 0 = default */
	uint8_t mtu_discover;
	uint8_t cc;                /* index in tcp_ccs */
	uint32_t keepidle_s, keepintvl_s; /* 0 = default */
	int32_t linger2_s;         /* 0 = default, < 0 none */
	uint32_t defer_accept_s;
	uint32_t user_timeout_ms;
	uint32_t window_clamp;
	unsigned oif;
};

/* A sorted list of ranges of sequence numbers, grown when needed. */
struct tcp_range {
	uint32_t start, end;
};

/* A gap in what the peer told us to have, below the highest byte it has. */
struct tcp_hole {
	uint32_t start, end;
	uint32_t rxt;       /* retransmitted up to here since it was last found lost */
	uint32_t mark;      /* c->nxt when it was last retransmitted */
	uint64_t born;      /* found */
	uint64_t rxt_time;  /* last retransmission, 0 = none */
	bool lost;
};

enum tcp_ca { TCP_CA_OPEN, TCP_CA_RECOVERY, TCP_CA_LOSS };

enum tcp_timer {
	TCP_T_REXMIT, /* retransmission, or tail loss probe, or zero window probe: see rexmit_mode */
	TCP_T_DELACK,
	TCP_T_KEEP,
	TCP_T_REO,    /* a gap is old enough to be a loss */
	TCP_T_SEND,   /* sending was put off: no frame, cork, neighbour */
	TCP_T_NR_
};
enum tcp_rexmit_mode { TCP_RM_RTO, TCP_RM_TLP, TCP_RM_PERSIST };

/* todo bits of a connection on the work list */
#define TCP_DO_OUTPUT 1u
#define TCP_DO_ACK 2u
#define TCP_DO_REAP 4u

/* flags */
#define TCP_F_CLOSED 0x0001u    /* the sockets are done with it: no events, session is ours to free */
#define TCP_F_FIN_WANTED 0x0002u /* send FIN behind what is in tx */
#define TCP_F_FIN_SENT 0x0004u
#define TCP_F_FIN_RCVD 0x0008u
#define TCP_F_TS 0x0010u        /* timestamps in use */
#define TCP_F_SACK 0x0020u      /* SACK in use */
#define TCP_F_WSCALE 0x0040u
#define TCP_F_PINGPONG 0x0080u  /* request and answer: acknowledgements ride on data */
#define TCP_F_MORE 0x0100u      /* last write said MSG_MORE */
#define TCP_F_TLP_DONE 0x0200u  /* probe sent, nothing heard since */
#define TCP_F_CWND_LIMITED 0x0400u
#define TCP_F_CORK_EXPIRED 0x0800u
#define TCP_F_URG_OUT 0x1000u   /* urg_out is ahead of una */
#define TCP_F_PASSIVE 0x2000u
#define TCP_F_NO_SUPER 0x4000u
#define TCP_F_PROBE 0x8000u     /* window probes are out: user time-out counts from probe_start */
#define TCP_F_EVER 0x10000u     /* was established */
#define TCP_F_URG_IN 0x40000u   /* an urgent byte was announced and is not there yet */
#define TCP_F_OVER 0x80000u     /* state CLOSE: it was more than that before; not to be used again */
#define TCP_F_FIN_AHEAD 0x20000u /* peer_fin: its FIN came before data that is missing */

struct tcp_listener;
struct tcp_cc;

struct tcp_conn {
	struct tcp_node n;
	struct tcp_conn *work_next;
	struct tcp_conn *late_next; /* tcp.late, while late */
	uint32_t todo;
	bool in_work;
	bool late;                  /* on the list of late acknowledgements */
	bool ack_late;              /* still wants its own */
	uint8_t state;              /* enum tcp_state */
	uint8_t ca;                 /* enum tcp_ca */
	uint8_t rexmit_mode;
	uint32_t flags;
	uint32_t ev;                /* events not yet told */
	struct shm_session *s;
	uint32_t sid;               /* index in the region */
	struct fifo rx, tx;
	struct ip_dst *dst;
	uint32_t mtu_gen;           /* dst->mtu_gen that mss was made from */
	struct port_ref *port;
	struct tcp_listener *lst;   /* listening: state LISTEN */

	/* send */
	uint32_t iss, una, nxt;
	uint32_t wnd, wl1, wl2, max_wnd; /* peer's window in bytes, unscaled */
	uint32_t fin_seq;           /* with FIN_SENT */
	uint32_t sml;               /* end of the last small segment */
	uint32_t urg_out;           /* sequence number behind the urgent byte */
	uint64_t urg_told;          /* the session's urg_sent when it was looked at last */
	uint16_t mss, peer_mss;     /* payload bytes of a full segment; peer's option */
	uint8_t snd_wscale, rcv_wscale;
	uint8_t dupacks;
	uint8_t backoff;
	uint32_t cwnd, ssthresh;    /* bytes */
	uint32_t recover;           /* recovery ends when this is acknowledged */
	uint32_t fack;              /* end of the highest byte the peer has; una without SACKs */
	uint32_t reordering;        /* segments */
	uint32_t nholes, holes_room;
	struct tcp_hole *holes;
	uint32_t undo_cwnd, undo_ssthresh;
	uint64_t undo_ts;           /* our timestamp of the first retransmission, with TCP_UNDO_SET */
	uint64_t rack_time;         /* send time of the latest retransmission known to have arrived */
	uint64_t last_send;         /* data */
	uint32_t rtt_seq;           /* being timed, when rtt_start */
	uint64_t rtt_start;
	uint64_t rexmit_from;       /* the time-out counts from here: progress, or the first byte out */
	uint64_t srtt, rttvar, min_rtt, rto; /* ns; srtt 0 = no sample */
	uint64_t stall_since;       /* first unanswered retransmission or probe; 0 = none */
	const struct tcp_cc *cc;
	uint64_t cc_priv[8];

	/* receive */
	uint32_t irs, rcv_nxt;
	uint32_t peer_fin;
	uint32_t rcv_adv;           /* right edge told to the peer */
	uint32_t rcv_acked;         /* rcv_nxt told to the peer */
	uint32_t rcv_mss;           /* size of what the peer sends as full segments, as seen */
	uint32_t ts_recent, ts_off;
	uint64_t ts_recent_at;
	uint32_t ts_last_ack;       /* RFC 7323 Last.ACK.sent */
	uint32_t nooo, ooo_room;
	struct tcp_range *ooo;
	uint32_t recent[TCP_SACK_MAX - 1]; /* a byte of each range that last grew, newest first */
	uint8_t nrecent;
	uint8_t sack_news;          /* ranges found since blocks were last sent */
	bool win_used;              /* the peer used most of rcv_win at once... */
	bool win_grow;              /* ...and then the reader had taken it all */
	uint32_t rcv_win;           /* bound on the window, grows up to the FIFO's */
	uint64_t rx_mark;           /* s->rx_update_at as we wrote it */
	uint8_t quick;              /* acknowledgements to send at once */
	struct tcp_range dsack;     /* to be reported when not empty */
	uint64_t last_rcv;          /* anything, for keepalive */
	uint64_t last_data_rcv;
	uint8_t keep_probes;
	uint8_t probes;             /* zero window probes without an answer */
	uint8_t syn_retries;
	uint32_t challenge_s, challenge_n;
	uint64_t oow_at;            /* last answer to a segment that did not fit */

	struct wheel_timer timer;
	uint64_t due[TCP_T_NR_];    /* 0 = off */
	uint64_t fw2_until;         /* FIN_WAIT2 of a closed socket */

	struct tcp_opts o;
	int err_soft;

	/* for tcp_info */
	uint64_t bytes_sent, bytes_acked, bytes_received, bytes_retrans;
	uint32_t segs_in, segs_out, data_segs_in, data_segs_out, retrans, reord_seen, dsack_dups;
	uint64_t created;
};

/* --- listeners --------------------------------------------------------------------------------- */

struct tcp_listener {
	struct tcp_listener *next;  /* hash chain by port */
	struct tcp_conn *c;
	uint32_t nreq;              /* entries of the SYN queue */
	uint32_t max_req;
	uint64_t cookie_at;         /* last cookie sent */
	bool paused;                /* requests are dropped */
	struct tcp_req *reqs;       /* list, for closing */
};

/* A connection being opened by a peer: SYN seen, SYN|ACK sent. */
struct tcp_req {
	struct tcp_node n;
	struct tcp_listener *lst;
	struct tcp_req *lnext, **lpprev;
	struct wheel_timer timer;
	struct ip_dst *dst;
	uint64_t sent_at, created;
	uint32_t irs, iss;
	uint32_t ts_recent, ts_off;
	uint32_t rcv_wnd;
	uint32_t wnd;               /* peer's, of the SYN */
	uint16_t mss;
	uint8_t snd_wscale, rcv_wscale;
	uint8_t retries;
	bool ts, sack, wscale, acked;
	uint8_t tos;
};

/* The queues of records, by what is awaited. */
enum tcp_tw_kind {
	TCP_TW_TIME,  /* TIME_WAIT */
	TCP_TW_FIN,   /* FIN_WAIT2 of a closed socket: the peer's FIN */
	TCP_TW_MOVED, /* served elsewhere now; what still comes here is dropped */
	TCP_TW_NR_
};

struct tcp_tw {
	struct tcp_node n;
	struct tcp_tw *prev, *tnext; /* queue by expiry */
	struct port_ref *port;
	uint64_t expires;
	uint32_t rcv_nxt, snd_nxt;
	uint32_t rcv_adv;            /* right edge of the window */
	uint32_t rcv_wnd;            /* as in the header, scaled */
	uint32_t ts_recent, ts_off;
	uint64_t entered, ack_at;
	bool ts;
	uint8_t kind;                /* enum tcp_tw_kind */
};

struct tcp_pool {
	size_t size;
	void *free;
	void *slabs;
	uint32_t used;
};

#define TCP_LISTEN_BUCKETS 256u
struct tcp {
	struct tcp_node **hash;
	uint32_t hash_mask;
	uint32_t nnodes;
	struct tcp_listener *listen[TCP_LISTEN_BUCKETS];
	struct tcp_pool conns, reqs, tws;
	struct tcp_conn *work, **work_tail;
	struct tcp_conn *late;      /* to be acknowledged in a moment, see tcp_recv.c */
	uint64_t late_since;
	/* each kind of tw expires in order of entry */
	struct tcp_tw *tw_head[TCP_TW_NR_], *tw_tail[TCP_TW_NR_];
	struct wheel_timer tw_timer;
	uint32_t ntw, max_tw;
	uint32_t challenge_s, challenge_n, challenge_max; /* RFC 5961 section 7, whole stack */
	uint64_t rst_s;
	uint32_t rst_n;
};

/* A parsed segment. Payload: len bytes at off of the transport part; both move when it is trimmed. */
struct tcp_seg {
	struct ip_pkt *p;
	uint32_t seq, ack, len, off;
	uint32_t wnd;      /* raw */
	uint16_t urg;
	uint8_t flags;
	uint8_t nsack;
	bool ts, sack_ok;
	uint8_t wscale;    /* 255 = option absent */
	uint16_t mss;      /* 0 = option absent */
	uint32_t tsval, tsecr;
	struct tcp_range sack[TCP_SACK_MAX];
};

/* --- congestion control --------------------------------------------------------------------------- */

struct tcp_cc {
	const char *name;
	void (*init)(struct tcp_conn *c);
	/* acked new bytes while not in recovery; may raise c->cwnd */
	void (*acked)(struct tcp_conn *c, uint32_t acked, uint64_t now);
	/* loss found: the new ssthresh */
	uint32_t (*ssthresh)(struct tcp_conn *c, uint64_t now);
	void (*idle)(struct tcp_conn *c, uint64_t now); /* sending starts again after a pause */
	void (*undo)(struct tcp_conn *c);
};
extern const struct tcp_cc tcp_cc_cubic, tcp_cc_reno;
extern const struct tcp_cc *const tcp_ccs[];
#define TCP_CC_NR 2
static inline uint32_t tcp_cc_slow_start(struct tcp_conn *c, uint32_t acked)
{
	uint32_t room = c->ssthresh > c->cwnd ? c->ssthresh - c->cwnd : 0;
	uint32_t use = min_u32(acked, room);

	c->cwnd += use;
	return acked - use;
}

/* --- tcp_conn.c ------------------------------------------------------------------------------------ */

void *tcp_pool_get(struct tcp_pool *p);
void tcp_pool_put(struct tcp_pool *p, void *obj);
uint32_t tcp_tuple_hash(struct tcpip *t, const struct nst_addr *local,
			const struct nst_addr *remote);
struct tcp_node *tcp_lookup(struct tcpip *t, uint32_t hash, const struct nst_addr *local,
			    const struct nst_addr *remote);
void tcp_node_add(struct tcpip *t, struct tcp_node *n, uint32_t hash);
void tcp_node_del(struct tcpip *t, struct tcp_node *n);
/* RFC 6528; also the offset of timestamps, which must be the same for each use of the addresses. */
uint32_t tcp_isn(struct tcpip *t, const struct nst_addr *local, const struct nst_addr *remote,
		 uint32_t *ts_off);
static inline uint32_t tcp_ts_now(const struct tcpip *t)
{
	return (uint32_t)(t->now / NS_PER_MS);
}
struct tcp_conn *tcp_conn_new(struct tcpip *t, struct shm_session *s);
/* Put on the work list. */
void tcp_do(struct tcpip *t, struct tcp_conn *c, uint32_t todo);
static inline void tcp_ev(struct tcpip *t, struct tcp_conn *c, uint32_t ev)
{
	c->ev |= ev;
	tcp_do(t, c, 0);
}
void tcp_set_state(struct tcpip *t, struct tcp_conn *c, uint8_t state);
/* The state that a wanted FIN makes, though it waits behind data: as in Linux. */
void tcp_fin_state(struct tcpip *t, struct tcp_conn *c);
/* The connection enters ESTABLISHED; all of c is set. */
void tcp_conn_established(struct tcpip *t, struct tcp_conn *c);
/* It is over: err 0 = orderly, else ECONNRESET, ETIMEDOUT...; freed from the work list when the sockets
 * are done with it. */
void tcp_conn_end(struct tcpip *t, struct tcp_conn *c, int err);
/* Send a reset first. */
void tcp_conn_abort(struct tcpip *t, struct tcp_conn *c, int err);
/* Out of all tables at once, without a word to anybody; the session stays the caller's. */
void tcp_conn_forget(struct tcpip *t, struct tcp_conn *c);
int tcp_conn_dst(struct tcpip *t, struct tcp_conn *c);
/* Make c->mss from path and peer. */
void tcp_conn_mss(struct tcp_conn *c);
uint8_t tcp_wscale_for(uint32_t fifo_size);
struct tcp_conn *tcp_of(struct tcpip *t, const struct shm_session *s);

/* --- tcp_listen.c ------------------------------------------------------------------------------------ */

struct tcp_listener *tcp_listen_find(struct tcpip *t, const struct nst_addr *local, uint32_t hash);
int tcp_listen_start(struct tcpip *t, struct tcp_conn *c, int backlog);
void tcp_listen_stop(struct tcpip *t, struct tcp_conn *c);
/* A segment for a listener (no connection has its addresses). isn != 0: the sequence number to use,
 * because a TIME_WAIT record gave way. */
void tcp_listen_input(struct tcpip *t, struct tcp_listener *l, struct tcp_seg *g, uint32_t hash,
		      uint32_t isn);
void tcp_req_input(struct tcpip *t, struct tcp_req *r, struct tcp_seg *g);
void tcp_req_icmp(struct tcpip *t, struct tcp_req *r, const struct icmp_error *e);

/* --- tcp_timewait.c ---------------------------------------------------------------------------------- */

/* c's protocol work is done; takes c out of the table. False: no record was made. */
bool tcp_tw_enter(struct tcpip *t, struct tcp_conn *c, enum tcp_tw_kind kind);
void tcp_tw_free(struct tcpip *t, struct tcp_tw *w);
/* True: the segment is dealt with. False: it is a new SYN that may reuse the addresses (w is gone),
 * *isn says from where. */
bool tcp_tw_input(struct tcpip *t, struct tcp_tw *w, struct tcp_seg *g, uint32_t *isn);
void tcp_tw_init(struct tcpip *t);

/* --- tcp_input.c --------------------------------------------------------------------------------------- */

/* RFC 5961: an acknowledgement that lets a true peer correct itself; rate limited. */
void tcp_challenge(struct tcpip *t, struct tcp_conn *c);
/* Everything after the checks for a synchronised connection (also the first segment of a child). */
void tcp_conn_input(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g);

/* --- tcp_recv.c ------------------------------------------------------------------------------------------ */

void tcp_recv_data(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g);
/* Window to tell now, in bytes (never takes back what was told). */
uint32_t tcp_recv_window(struct tcp_conn *c);
/* After the peer was told rcv_adv: from where on the reader should call. */
void tcp_recv_mark(struct tcpip *t, struct tcp_conn *c);
/* Blocks for an outgoing segment, at most max. */
uint32_t tcp_recv_sacks(struct tcp_conn *c, struct tcp_range *out, uint32_t max);
void tcp_recv_dup(struct tcp_conn *c, uint32_t start, uint32_t end);
void tcp_recv_forget(struct tcpip *t, struct tcp_conn *c); /* before it is freed */

/* --- tcp_ack.c --------------------------------------------------------------------------------------------- */

/* False: the segment must be dropped. */
bool tcp_ack_input(struct tcpip *t, struct tcp_conn *c, struct tcp_seg *g);
void tcp_rtt_sample(struct tcp_conn *c, uint64_t rtt);
void tcp_ack_enter_loss(struct tcpip *t, struct tcp_conn *c);
void tcp_ack_reo_timer(struct tcpip *t, struct tcp_conn *c);
/* Start the retransmission timer anew: there was progress, or the oldest byte was sent again. */
void tcp_rexmit_arm(struct tcpip *t, struct tcp_conn *c);
/* New data left: the time-out of what was out before must not move (RFC 6298 5.1). */
void tcp_rexmit_sent(struct tcpip *t, struct tcp_conn *c);

/* --- tcp_sack.c ---------------------------------------------------------------------------------------------- */

/* Take in g's blocks. Returns the number of bytes newly known to have arrived. */
uint32_t tcp_sack_input(struct tcpip *t, struct tcp_conn *c, const struct tcp_seg *g);
/* una has moved: forget what lies below. */
void tcp_sack_acked(struct tcpip *t, struct tcp_conn *c);
/* Find losses; true if there are new ones. */
bool tcp_sack_mark(struct tcpip *t, struct tcp_conn *c);
/* All that is not known to have arrived is lost. */
void tcp_sack_all_lost(struct tcpip *t, struct tcp_conn *c);
/* Without SACK: the segment at una is lost. */
void tcp_sack_first_lost(struct tcpip *t, struct tcp_conn *c);
void tcp_sack_reset(struct tcp_conn *c);
/* Bytes thought to be in the network. */
uint32_t tcp_pipe(const struct tcp_conn *c);

/* --- tcp_output.c ---------------------------------------------------------------------------------------------- */

void tcp_output(struct tcpip *t, struct tcp_conn *c);
/* force: send what the window allows even if it is little. */
void tcp_output_force(struct tcpip *t, struct tcp_conn *c);
int tcp_send_syn(struct tcpip *t, struct tcp_conn *c); /* SYN, or SYN|ACK in SYN_RECV */
int tcp_send_synack(struct tcpip *t, struct tcp_req *r);
/* A cookie's SYN|ACK: nothing is kept of it. */
void tcp_send_cookie(struct tcpip *t, const struct tcp_seg *g, uint32_t iss, uint16_t mss,
		     uint32_t wnd, int wscale, uint32_t tsval);
void tcp_send_ack(struct tcpip *t, struct tcp_conn *c);
void tcp_send_probe(struct tcpip *t, struct tcp_conn *c); /* zero window, keepalive */
void tcp_send_rst(struct tcpip *t, struct tcp_conn *c);
/* In answer to a segment that belongs to nobody (RFC 9293 3.10.7.1). */
void tcp_reply_rst(struct tcpip *t, const struct tcp_seg *g);
/* Answer to a segment that meets no connection: a reset, or none where the kernel may have it. */
void tcp_refuse(struct tcpip *t, const struct tcp_seg *g);
/* A SYN that nobody here wants: has it been left to somebody else? */
bool tcp_leave_syn(struct tcpip *t, const struct tcp_seg *g);
/* Bare acknowledgement in answer to g, without a connection. */
void tcp_reply_ack(struct tcpip *t, const struct tcp_seg *g, uint32_t seq, uint32_t ack,
		   uint32_t wnd, bool ts, uint32_t tsval, uint32_t tsecr);
/* Retransmit len bytes from seq (one segment). 0 or -errno. */
int tcp_send_again(struct tcpip *t, struct tcp_conn *c, uint32_t seq, uint32_t len);
/* Sent but not yet acknowledged bytes without SYN and FIN; written but not sent ones. */
uint32_t tcp_inflight_data(const struct tcp_conn *c);
/* Has the program sent an urgent byte? After tcp_unsent() or so has looked at what there is to send. */
static inline void tcp_urgent_look(struct tcp_conn *c)
{
	/* relaxed: ordered by the fifo's head (fifo.publish) */
	uint64_t sent = __atomic_load_n(&c->s->urg_sent, __ATOMIC_RELAXED);

	if (sent == c->urg_told)
		return;
	c->urg_told = sent;
	c->urg_out = c->una + (uint32_t)(sent - fifo_tail(&c->tx));
	c->flags |= TCP_F_URG_OUT;
}

static inline uint32_t tcp_unsent(const struct tcp_conn *c)
{
	uint32_t used = fifo_used(&c->tx), sent = tcp_inflight_data(c);

	return used > sent ? used - sent : 0;
}

/* --- tcp_timer.c ------------------------------------------------------------------------------------------------- */

void tcp_timer_init(struct tcp_conn *c);
void tcp_timer_set(struct tcpip *t, struct tcp_conn *c, enum tcp_timer which, uint64_t at);
static inline void tcp_timer_off(struct tcp_conn *c, enum tcp_timer which)
{
	c->due[which] = 0;
}
void tcp_timers_stop(struct tcpip *t, struct tcp_conn *c);
uint64_t tcp_rto_now(const struct tcp_conn *c); /* with backoff */
/* A SYN was sent: if it waits for its neighbour, look now and then whether that answers. */
void tcp_syn_watch(struct tcpip *t, struct tcp_conn *c);
void tcp_keep_arm(struct tcpip *t, struct tcp_conn *c);

#endif
