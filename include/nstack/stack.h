/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/stack.h - what a protocol stack offers to the socket layer
 *
 * A stack is an object that serves sessions (shm/session.h): a session's two FIFOs carry all
 * data, its stack-written fields all state; the calls below only start or announce things.
 * The same sessions work from the stack's own process and from another one.
 *
 * Threads: every call is made under the lock of the worker that owns the stack object, so a
 * stack never locks and never blocks. Sockets read and write the FIFOs without that lock.
 * All results are 0 or a negative errno value. Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef NSTACK_STACK_H
#define NSTACK_STACK_H

#include <nstack/addr.h>
#include <stdbool.h>
#include <stdint.h>

struct shm_session;
struct shm_region;
struct stack;
struct hal_port;

/* Events a stack reports; the values are those of poll(2)/epoll(7). */
enum stack_event {
	STACK_EV_IN = 0x001,
	STACK_EV_PRI = 0x002,
	STACK_EV_OUT = 0x004,
	STACK_EV_ERR = 0x008,
	STACK_EV_HUP = 0x010,
	STACK_EV_RDHUP = 0x2000,
};

/* What the framework gives to a stack. Constant while the stack lives. */
struct stack_env {
	/* Something happened on s: its fields and FIFOs were updated before this call. Called
	 * under the worker lock; must not call back into the stack. */
	void (*event)(struct stack_env *env, struct shm_session *s, uint32_t events);
	/* The stack took its first reference to a local port of (proto, addr), and let go of its
	 * last: the packets of that port must come to it in between, TIME_WAIT included. Called
	 * in pairs, under the worker lock; must not call back into the stack. May be NULL. */
	void (*port_hold)(struct stack_env *env, uint8_t proto, const struct nst_addr *local);
	void (*port_release)(struct stack_env *env, uint8_t proto, const struct nst_addr *local);
	/* May a segment of (local, remote) that meets no connection be refused? Not while the kernel
	 * may have that connection. NULL: always. Under the worker lock; as above. */
	bool (*port_ours)(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
			  const struct nst_addr *remote);
	/* A connection request that nobody here listens for, and no connection has these addresses any more. True:
	 * they were kept from somebody else, who gets the peer's next attempt; nothing is to be said to the peer.
	 * NULL: false. Under the worker lock; as above. */
	bool (*flow_left)(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
			  const struct nst_addr *remote);
	/* A peer's first packet has met a listener and will be answered: what follows of (local, remote) must
	 * come to the stack, too. Under the worker lock; must not call back into the stack. May be NULL. */
	void (*flow_begins)(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
			    const struct nst_addr *remote);
	/* The stack lives in another process, which has ended: nothing will come of it any more. Once,
	 * under the worker lock; must not call back into the stack. May be NULL. */
	void (*gone)(struct stack_env *env);
	/* It wants the kernel to go on with s, which another process has as well; or with all (NULL), since it
	 * is about to end: what is handed over by then is not lost. As gone. */
	void (*wants_kernel)(struct stack_env *env, struct shm_session *s);
	struct shm_region *region; /* where sessions live */
};

/* Socket options that travel to the stack; values are int unless said. */
enum stack_opt {
	STACK_OPT_NODELAY = 1,
	STACK_OPT_KEEPALIVE,
	STACK_OPT_KEEPIDLE,    /* s */
	STACK_OPT_KEEPINTVL,   /* s */
	STACK_OPT_KEEPCNT,
	STACK_OPT_RCVBUF,      /* bytes */
	STACK_OPT_SNDBUF,      /* bytes */
	STACK_OPT_MAXSEG,
	STACK_OPT_QUICKACK,
	STACK_OPT_USER_TIMEOUT, /* ms */
	STACK_OPT_SYNCNT,
	STACK_OPT_LINGER2,     /* s, FIN_WAIT_2 */
	STACK_OPT_DEFER_ACCEPT, /* s */
	STACK_OPT_WINDOW_CLAMP, /* bytes */
	STACK_OPT_CONGESTION,  /* char[16] */
	STACK_OPT_TOS,         /* IPv4 TOS; TCP: IPv6 traffic class, too */
	STACK_OPT_TTL,         /* unicast TTL; TCP: hop limit, too; -1 default */
	STACK_OPT_MCAST_TTL,
	STACK_OPT_MCAST_IF,    /* ifindex */
	STACK_OPT_MTU_DISCOVER, /* IP_PMTUDISC_* */
	STACK_OPT_V6ONLY,
	STACK_OPT_BROADCAST,
	STACK_OPT_RECVERR,
	STACK_OPT_BINDTODEVICE, /* ifindex, 0 = any */
	/* UDP, whose IPv6 sockets keep them apart from those for IPv4 peers */
	STACK_OPT_TCLASS,
	STACK_OPT_HOPLIMIT,
	STACK_OPT_MTU_DISCOVER6,
	STACK_OPT_RECVERR6,
	STACK_OPT_NR_
};

struct tcp_info; /* linux/tcp.h */

/* One line of `nstack sockets`. */
struct stack_sock_info {
	uint32_t session;        /* id */
	uint8_t proto;           /* IPPROTO_TCP, IPPROTO_UDP */
	uint8_t tcp_state;       /* TCP_ESTABLISHED..., as in tcp(7) / tcp_info */
	struct nst_addr local, remote;
	uint32_t recv_q, send_q; /* bytes, or pending connections and backlog for a listener */
	uint32_t rtt_us, cwnd;   /* cwnd in segments */
	uint64_t bytes_in, bytes_out, retrans;
	uint64_t packets_in, packets_out; /* segments or datagrams */
};

/* A TCP connection as another TCP takes it over. FINs are not counted in the sequence numbers. */
struct stack_tcp_image {
	struct nst_addr local, remote;
	uint32_t una, nxt;          /* first byte in the tx FIFO; first that was never sent */
	uint32_t rcv_nxt;           /* behind the last byte in the rx FIFO */
	uint32_t rcv_adv;           /* right edge that the peer was told */
	uint32_t snd_wnd, max_wnd;  /* the peer's window, its greatest so far; bytes */
	uint32_t snd_wl1;
	uint32_t urg_out;           /* behind our urgent byte, with urgent */
	uint32_t ts_val, ts_recent; /* our clock now, the peer's last; with ts */
	uint16_t peer_mss;          /* the option of its SYN */
	uint8_t snd_wscale, rcv_wscale;
	bool wscale, sack, ts, urgent;
	bool closed;                /* nobody has it any more */
	bool fin_rcvd;              /* the peer has ended */
	bool fin_wanted;            /* we have, behind what is in the tx FIFO */
	bool fin_first;             /* both have, the peer before us */
};

/* The way to a remote address. */
struct stack_route {
	struct nst_addr src; /* the address it would be sent from; port 0 */
	unsigned ifindex;    /* it would leave by */
	uint32_t mtu;        /* of the path: bytes of an IP packet */
	uint32_t link_mtu;   /* of the first hop */
	bool resolved;       /* the next hop's link address is known: a packet would leave now */
};

/* A ping: echo requests to one host. */
struct stack_ping {
	struct nst_addr remote;  /* port 0 */
	struct nst_addr local;   /* from where, any = the stack chooses; the port becomes its id on the wire */
	unsigned ifindex;        /* by which interface, 0 = as routes have it */
	uint32_t size;           /* bytes of payload, STACK_PING_MIN to what fits the path's MTU */
};
#define STACK_PING_MIN 8u
#define STACK_PINGS 8u           /* at once */

struct stack_ping_answer {
	uint16_t seq;            /* which request it answers */
	uint8_t ttl;             /* of the packet; hop limit */
	bool again;              /* that request has been answered before */
	bool unreachable;        /* no answer: the next hop's link address is not known, seq was sent last */
	uint32_t bytes;          /* of the ICMP message */
	uint64_t rtt_ns;
};

struct stack_counter {
	const char *name;  /* stable, lower_case_with_underscores */
	uint64_t value;
};

struct stack_ops {
	const char *name;

	/* Life. ports[] stay the caller's and may be exchanged by set_port(). */
	int (*create)(struct stack **out, struct stack_env *env, const void *config);
	void (*destroy)(struct stack *st); /* resets what is open */
	int (*add_port)(struct stack *st, struct hal_port *port);
	int (*set_port)(struct stack *st, unsigned ifindex, struct hal_port *port);

	/* Work: receive, process, time out, send; returns packets handled. Bounded work per call. */
	uint32_t (*poll)(struct stack *st, uint64_t now);
	/* Send what other calls have queued. They leave that to the caller, so that what several
	 * of them queue goes out at once; poll() does it, too. */
	void (*flush)(struct stack *st);
	/* When poll() must be called next though no packet came; UINT64_MAX = never. */
	uint64_t (*deadline)(struct stack *st);
	/* A descriptor that is readable when the stack wants poll() for its control side
	 * (netlink), -1 = none. */
	int (*ctl_fd)(struct stack *st);

	/* Sessions. The session's family, proto and options are set by the caller. */
	/* A session of the region; NULL: none is free. A stack whose region is the caller's has no such
	 * member: shm_session_alloc() does. */
	struct shm_session *(*alloc)(struct stack *st, uint8_t family, uint8_t proto);
	int (*open)(struct stack *st, struct shm_session *s);
	/* UDP: again at will; port 0: it has no address any more, nothing reaches it. */
	int (*bind)(struct stack *st, struct shm_session *s, const struct nst_addr *local);
	int (*listen)(struct stack *st, struct shm_session *s, int backlog);
	/* A listener of several programs (shm_session.shared): the next connection for accept(), whichever
	 * program's session it waits in; it becomes one of the listener's program. -EAGAIN: none. A stack
	 * whose listeners have one session each has no such member. */
	int (*accept)(struct stack *st, struct shm_session *listener, struct shm_session **out);
	/* No connection begins at a listener any more, until listen(): requests are not answered, and come
	 * again. Handshakes under way go on. */
	void (*listen_pause)(struct stack *st, struct shm_session *s);
	/* A listener goes on in another session, which is open and bound to the same address: backlog,
	 * options and handshakes under way. `from` is as before listen(), but for what waits in its rx: that
	 * is the caller's to move. -EINVAL: they do not match. */
	int (*listen_move)(struct stack *st, struct shm_session *from, struct shm_session *to);
	/* Starts connecting (TCP: -EINPROGRESS, completion is an event; UDP: 0, also if the stack
	 * can't reach remote but the session is bound to an address: it then only filters). */
	int (*connect)(struct stack *st, struct shm_session *s, const struct nst_addr *remote);
	int (*disconnect)(struct stack *st, struct shm_session *s); /* UDP connect(AF_UNSPEC) */
	void (*tx_ready)(struct stack *st, struct shm_session *s, uint32_t flags);
	void (*rx_freed)(struct stack *st, struct shm_session *s); /* reader crossed rx_update_at */
	int (*shutdown)(struct stack *st, struct shm_session *s, int how); /* SHUT_* */
	/* The sockets are done with s. linger_s < 0: no SO_LINGER; 0: reset; > 0: the caller waits
	 * for the session to reach SHM_S_CLOSED by itself before. The stack frees s when done. */
	void (*close)(struct stack *st, struct shm_session *s, int linger_s);
	/* A connection that another TCP is to serve, perhaps one that was closed and is not done yet:
	 * what that one needs (the FIFOs hold the data).
	 * Nothing changes. -ENOTCONN: there is none that could go on (out has the addresses of one that has
	 * ended, remote.port 0: there never was one); -EAGAIN: not yet. */
	int (*image)(struct stack *st, struct shm_session *s, struct stack_tcp_image *out);
	/* It was taken over: forget it without a word to the peer. Segments of it that still come
	 * here are dropped for a while. The session stays until close(). */
	void (*moved)(struct stack *st, struct shm_session *s);
	/* The connection or UDP socket of `from` goes on in `to`, a session of the same family and protocol
	 * that was just allocated (in any part of the region) and not opened: with its options, what both
	 * FIFOs hold, and its error. `from` is freed; nobody may be writing its FIFOs who wants that to be
	 * kept, and events that it has not reported yet are reported for `to`. No promise is made for
	 * contents that the program has forged, but that they do no harm. 0, or -errno with nothing changed:
	 * -ENOTCONN: it was never opened, or is closed; -EOPNOTSUPP: a listener; -EPROTO: forged. */
	int (*move)(struct stack *st, struct shm_session *from, struct shm_session *to);
	int (*setopt)(struct stack *st, struct shm_session *s, int opt, const void *v, uint32_t len);
	int (*getopt)(struct stack *st, struct shm_session *s, int opt, void *v, uint32_t *len);
	int (*tcp_info)(struct stack *st, struct shm_session *s, struct tcp_info *out);
	int (*join)(struct stack *st, struct shm_session *s, const struct nst_addr *group,
		    unsigned ifindex, bool leave);

	/* Can this stack reach remote (through one of its ports, not by loopback)? 0 or
	 * -ENETUNREACH, -EHOSTUNREACH, -EADDRNOTAVAIL (remote is one of our own addresses, or is
	 * not one host: leave it to the kernel). */
	int (*route)(struct stack *st, const struct nst_addr *remote, const struct nst_addr *bound,
		     struct stack_route *out);

	/* Pings (RFC 792, RFC 4443); a stack that sends none has no such members. open fills in what p leaves to the
	 * stack, and from then to close flows() has (IPPROTO_ICMP, p->local, p->remote), whose packets must come to
	 * the stack. The other calls know a ping by p->local.port.
	 * open: 0, -EMFILE: STACK_PINGS are open, -EMSGSIZE: p->size is what would fit, or as route().
	 * send: *seq, from 1, is the request's number, also with an error: -ENOENT: no such ping; -EHOSTUNREACH, ...
	 * answers: how many have come since and were written, at most n. */
	int (*ping_open)(struct stack *st, struct stack_ping *p);
	int (*ping_send)(struct stack *st, uint16_t id, uint16_t *seq);
	uint32_t (*ping_answers)(struct stack *st, uint16_t id, struct stack_ping_answer *out, uint32_t n);
	void (*ping_close)(struct stack *st, uint16_t id);

	/* Observation. */
	uint32_t (*sockets)(struct stack *st, struct stack_sock_info *out, uint32_t n, uint64_t *cursor);
	/* The same of one. -ENOENT: the stack has nothing open for it. */
	int (*info)(struct stack *st, struct shm_session *s, struct stack_sock_info *out);
	uint32_t (*counters)(struct stack *st, struct stack_counter *out, uint32_t n);
	/* Call fn for every established flow and every ping, for pins. */
	void (*flows)(struct stack *st, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
						   const struct nst_addr *remote), void *arg);
};

/* tx_ready flags */
#define STACK_TX_MORE 1u /* MSG_MORE, TCP_CORK: hold back a partial segment behind push_pos */

extern const struct stack_ops tcpip_stack_ops;

#endif
