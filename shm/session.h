/* SPDX-License-Identifier: Apache-2.0 */
/* shm/session.h - one socket as its stack and its program both see it
 *
 * A session is a fixed-size record in a region plus two FIFOs. The program's side (the socket
 * layer) may live in another process than the stack; everything that either must know of the
 * other is here, and every field says who writes it.
 *
 * What the FIFOs carry:
 *   TCP connection  rx, tx: the byte stream. tx holds bytes until they are acknowledged.
 *   TCP listener    rx: ids (uint32_t) of sessions that are ready for accept(), for fifo_take_one(): a
 *                   daemon may give them to another program that listens, too. tx: unused.
 *   UDP             rx, tx: records: struct shm_dgram, then len bytes, padded to a multiple of 8.
 *
 * Life: shm_session_alloc() by the socket layer (or by the stack, for an accepted connection)
 * -> stack_ops.open -> ... -> stack_ops.close -> the stack calls shm_session_free() when its
 * protocol is done with it (a TCP session in TIME_WAIT is freed at once: the stack keeps only
 * what TIME_WAIT needs). After close() the socket layer does not touch the session.
 */
#ifndef NSTACK_SHM_SESSION_H
#define NSTACK_SHM_SESSION_H

#include <nstack/addr.h>
#include <shm/fifo.h>

/* state: written by the stack only (IDLE at alloc). */
enum shm_session_state {
	SHM_S_FREE = 0,
	SHM_S_IDLE,       /* open; TCP: neither listening nor connecting. UDP: in use */
	SHM_S_LISTEN,     /* rx carries session ids; backlog valid */
	SHM_S_CONNECTING, /* TCP SYN sent; remote and local valid */
	SHM_S_CONNECTED,  /* TCP: established until both directions ended; UDP: remote valid */
	SHM_S_CLOSED,     /* TCP: over (closed both ways, reset, or connect failed); error says why */
	SHM_S_NR_
};

/* stack_flags: set by the stack only; they are not taken back before the session is freed. */
#define SHM_SF_RX_EOF 0x01u  /* no byte will follow those published in rx (FIN or reset) */
#define SHM_SF_TX_DEAD 0x02u /* sending fails with EPIPE (reset, or peer is gone) */
#define SHM_SF_RESET 0x04u   /* ended by a reset or a time-out */
#define SHM_SF_URG 0x08u     /* urgent data was seen; urg_pos valid */
#define SHM_SF_FIN_ACKED 0x20u /* the peer has all that was sent, and our FIN */
#define SHM_SF_FIN 0x10u     /* the peer's FIN came in order: reading ends with 0, whatever follows */

/* app_flags: set by the socket layer only. */
#define SHM_AF_RX_SHUT 0x01u  /* shutdown(SHUT_RD) */
#define SHM_AF_TX_SHUT 0x02u  /* shutdown(SHUT_WR): nothing will follow what is in tx */

/* watched */
#define SHM_WATCHED_ALL 1u  /* whoever does wants to know of everything */
#define SHM_WATCHED_ONE 2u  /* with EPOLLEXCLUSIVE: it is enough if one of them knows */

struct shm_session {
	/* Set before the session becomes visible, then constant until it is freed. */
	uint32_t id;        /* index in its part of the region */
	uint32_t gen;       /* counts uses of this id */
	uint8_t family;     /* AF_INET, AF_INET6: that of the socket */
	uint8_t proto;      /* IPPROTO_TCP, IPPROTO_UDP */
	uint8_t v6only;
	uint8_t reuseport;
	uint32_t parent;    /* accepted: id of the listener, else UINT32_MAX */
	uint64_t user;      /* the socket layer's: its object for this session (own process only) */

	/* Written by the stack. */
	uint32_t state;       /* enum shm_session_state; release: pairs session.state */
	uint32_t stack_flags; /* SHM_SF_* */
	int32_t error;        /* pending SO_ERROR, positive errno; the socket layer takes it by
				 exchanging it for 0, the stack stores a new one */
	uint32_t mss;         /* TCP: bytes per segment */
	uint64_t rx_update_at; /* reader: call rx_freed when rx.tail reaches this (window update) */
	uint64_t urg_pos;     /* stream position just behind the last urgent byte */
	uint64_t urg_skip;    /* the reader is to leave out all before it: older urgent bytes */
	uint64_t urg_seen;    /* urg_pos whose byte has come, perhaps before what lies in front of it;
				 release: pairs session.urg_byte */
	uint8_t urg_byte;     /* that byte */
	struct nst_addr local, remote; /* valid by state; constant while CONNECTED (TCP) */
	uint32_t backlog;     /* listener: bound on ids in rx */
	uint32_t rx_limit;    /* bytes of rx in use (SO_RCVBUF), <= FIFO size */
	uint32_t handshakes;  /* listener: SYNs that are answered and not acknowledged */
	uint32_t shared;      /* listener: other programs listen on it, too: accept by stack_ops.accept */
	uint32_t waiting;     /* listener, shared: connections that wait for accept() in the session of
				 another one, which it may have */
	uint32_t rx_errors;   /* UDP: error records put into rx, ever; after the record itself */
	uint32_t rx_drops;    /* UDP: datagrams that found rx full, ever */

	/* Written by the socket layer. */
	_Alignas(64) uint32_t app_flags; /* SHM_AF_* */
	uint32_t tx_limit;    /* bytes of tx in use (SO_SNDBUF), <= FIFO size */
	uint32_t tx_nospace;  /* 1: a writer found no space; the stack sets it to 0 and reports OUT once
				 shm_session_tx_roomy(). Whoever goes on waiting sets it again */
	uint32_t rx_lowat;    /* SO_RCVLOWAT */
	uint32_t urg_inline;  /* SO_OOBINLINE */
	uint32_t rx_errors_taken; /* UDP: of rx_errors, how many the reader is done with */
	uint64_t urg_read;    /* urg_pos of a byte that was had by MSG_OOB */
	uint64_t urg_sent;    /* tx position behind the last byte sent with MSG_OOB; written before the byte
				 is published (fifo.publish) */
	uint64_t push_pos;    /* tx position up to which the program wants it sent (no MSG_MORE, no cork) */
	uint16_t takers;      /* listener: threads that wait in accept() */
	uint8_t watched;      /* listener: SHM_WATCHED_*: who looks at it by poll() or epoll, ever */
	uint8_t cork;         /* TCP_CORK: each write is as with MSG_MORE; the stack copies a listener's */
	int32_t linger_s;     /* for close() of a session whose stack is in another process */
	uint64_t said;        /* the same: how many messages come before the next notification (shm/attach.h) */

	struct shm_fifo rx; /* producer: stack */
	struct shm_fifo tx; /* producer: socket layer */
};
_Static_assert(sizeof(struct shm_session) <= 512, "one slot of a region");

/* Header of a UDP record. */
struct shm_dgram {
	uint32_t len;    /* payload bytes that follow */
	uint32_t flags;  /* SHM_DG_* */
	struct nst_addr peer;  /* rx: from; tx: to (AF_UNSPEC: the connected remote) */
	struct nst_addr local; /* rx: destination address; tx: source wanted (AF_UNSPEC: any) */
	uint32_t ifindex;      /* rx: port it came in by; tx: port wanted, 0 = any */
	uint16_t gso_size;     /* tx: UDP_SEGMENT, 0 = none; rx: UDP_GRO, 0 = none */
	uint8_t tos, ttl;      /* rx: as received; tx: ttl 0 = the socket's, tos: see SHM_DG_TOS */
	uint64_t tstamp_ns;    /* rx: CLOCK_REALTIME of arrival */
	uint32_t drops;        /* rx: rx_drops when it arrived */
	uint32_t pad;
};
_Static_assert(sizeof(struct shm_dgram) == 80, "shared between processes");
/* rx: not data but an entry of the error queue (IP_RECVERR): struct shm_dgram_error, then what is
 * quoted of our payload. peer = where the datagram went; local, tos, ttl, ifindex = of the message
 * that told, whose sender is in the structure. */
#define SHM_DG_ERROR 1u
/* rx, set by the reader: taken out of turn (errors and data are read separately); skip it. */
#define SHM_DG_TAKEN 2u
/* tx: tos is to be used, even 0 */
#define SHM_DG_TOS 4u

/* As struct sock_extended_err and its offender. */
struct shm_dgram_error {
	uint32_t err;          /* positive errno */
	uint8_t origin, type, code, pad;
	uint32_t info, data;
	struct nst_addr from;  /* AF_UNSPEC: nobody */
};
_Static_assert(sizeof(struct shm_dgram_error) == 40, "shared between processes");

/* Bytes that a record with that payload takes in a FIFO. */
static inline uint32_t shm_dgram_size(uint32_t payload)
{
	return (uint32_t)sizeof(struct shm_dgram) + ((payload + 7u) & ~7u);
}

/* --- the region that holds sessions ------------------------------------------------------ */

/* A region has parts, each a memfd of the same size. A stack in its own process has one; a daemon has
 * one for each program that is attached, which maps that part and no other.
 *
 * Who owns the region knows a session by its place: index = part * sessions + id. */
struct shm_region_config {
	uint32_t sessions;  /* how many in a part; memory is used only by those that are */
	uint32_t rx_size, tx_size; /* bytes of each FIFO, powers of two, 64 KiB to 64 MiB */
	uint32_t parts;     /* 0: one, which is there from the start; else none is */
	/* Of parts that have an owner: may it have one more session, and it has one less. NULL: no bounds but the
	 * part's. Under the worker lock. */
	bool (*take)(void *owner);
	void (*give)(void *owner);
};

/* A process's own view of a region; opaque outside of shm/. */
struct shm_region;

/* Create a region. 0 or -errno. */
int shm_region_create(struct shm_region **out, const struct shm_region_config *cfg);
/* A program's view of the part that fd is; fd goes to the region, also if that fails. Its size has to be
 * what the configuration (parts = 0) says. Its sessions belong to whoever created it. */
int shm_region_attach(struct shm_region **out, const struct shm_region_config *cfg, int fd);
void shm_region_close(struct shm_region *r);

/* One more part: its number or -errno (-ENOSPC: all are in use). The memfd can't change its size. */
int shm_region_part_new(struct shm_region *r);
/* Its sessions have been freed, or nobody will look at them any more. */
void shm_region_part_free(struct shm_region *r, uint32_t part);
int shm_region_part_fd(const struct shm_region *r, uint32_t part);
/* Bytes of memory that it takes up. */
uint64_t shm_region_part_resident(const struct shm_region *r, uint32_t part);
/* Whom take() and give() are asked about for it; before its first session. */
void shm_region_part_owner(struct shm_region *r, uint32_t part, void *owner);

/* Owner of the region only, under the worker lock: NULL when none is free. The session comes
 * IDLE, FIFOs empty, limits at FIFO size, parent UINT32_MAX, other fields 0. */
struct shm_session *shm_session_alloc_in(struct shm_region *r, uint32_t part, uint8_t family,
					 uint8_t proto);
static inline struct shm_session *shm_session_alloc(struct shm_region *r, uint8_t family,
						    uint8_t proto)
{
	return shm_session_alloc_in(r, 0, family, proto);
}
/* Also gives pages beyond the first few back to the system. Double free is refused and counted. */
void shm_session_free(struct shm_region *r, struct shm_session *s);
/* By index. NULL if it is out of range or free. */
struct shm_session *shm_session_get(struct shm_region *r, uint32_t index);
/* The one with that id in the part of s. NULL as before. */
struct shm_session *shm_session_sibling(struct shm_region *r, const struct shm_session *s,
					uint32_t id);
/* Is it in this region at all? */
bool shm_region_has(const struct shm_region *r, const struct shm_session *s);
/* The first index from this one on that is in use; UINT32_MAX: none. */
uint32_t shm_session_next(const struct shm_region *r, uint32_t index);

/* From the session's place, whatever its memory says. */
uint32_t shm_session_index(const struct shm_region *r, const struct shm_session *s);
uint32_t shm_session_part(const struct shm_region *r, const struct shm_session *s);
uint32_t shm_session_id(const struct shm_region *r, const struct shm_session *s);
struct fifo shm_session_rx(const struct shm_region *r, struct shm_session *s);
struct fifo shm_session_tx(const struct shm_region *r, struct shm_session *s);

struct shm_region_stats {
	uint32_t sessions, used, high_water; /* of all parts that could be */
	uint32_t parts;          /* that are */
	uint64_t allocs, frees, alloc_failed, double_frees;
	uint64_t resident_bytes; /* of the region's memfds */
};
void shm_region_stats(const struct shm_region *r, struct shm_region_stats *out);

/* With so many bytes of tx in use, is there so much room that a writer is to be woken? Both sides have to say
 * the same. As Linux: a third is free. */
static inline bool shm_session_tx_roomy(const struct shm_session *s, uint32_t used)
{
	return used <= s->tx_limit / 3 * 2;
}

static inline uint32_t shm_session_state(const struct shm_session *s)
{
	/* acquire: pairs session.state - what the stack wrote before the state is visible */
	return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}
static inline void shm_session_set_state(struct shm_session *s, uint32_t state)
{
	/* release: pairs session.state - addresses, error and flags first */
	__atomic_store_n(&s->state, state, __ATOMIC_RELEASE);
}

#endif
