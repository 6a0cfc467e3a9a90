/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/peer.h - programs that are attached
 *
 *   door.c, access.c  who comes, who may      super.c  several workers     shared.c  what these share
 *   main.c   options, signals, the loop      peer.c  life of an attached program
 *   calls.c  what programs ask for           claims.c  local ports of programs
 *   closer.c what programs send is closed
 *   recycle.c  what becomes of what an ended program had  accounts.c  what all of them have
 *   observe.c  what the nstack tool asks
 *   group.c  listeners that several programs have   park.c  connections that others have, too
 *   to_kernel.c  sockets that go on in the kernel   leave.c  all of them do
 *
 * Nothing of a program is believed: ids are looked up in the daemon's own tables, addresses are checked
 * against the kernel's socket that is bound to them, what a call says is copied before it is looked at.
 *
 * Threads: the daemon has one, which holds the worker lock in all of this; those of closer.c only close.
 */
#ifndef NSTACKD_PEER_H
#define NSTACKD_PEER_H

#include <nstack/stack.h>
#include <rd/config_daemon.h>
#include <rd/rules.h>
#include <shm/attach.h>
#include <shm/recycle.h>
#include <shm/session.h>
#include <stdbool.h>
#include <sys/types.h>

struct quota;

/* A port of the steering program that was claimed for a program, or pinned flows of one. */
struct peer_port {
	struct peer_port *next;
	uint8_t proto;
	bool fresh;       /* was just chosen: the kernel has no connections there */
	bool steered;     /* its packets come to us */
	bool client;      /* flows only: nobody else's connections are concerned */
	bool v4too;       /* an IPv6 wildcard that takes IPv4, too */
	bool exempt;      /* by rules that ask who it is (struct rd_listen) */
	bool reuseport;   /* the socket that was shown */
	uint64_t cookie;
	struct nst_addr local;
};

/* For people only. */
struct peer_stats {
	uint64_t serial;    /* of all programs that ever were */
	uint64_t since_ns;  /* CLOCK_MONOTONIC: connected */
	uint64_t messages, notifications;
	uint64_t packets_in, packets_out, bytes_in, bytes_out; /* of sessions that it has closed */
};
struct member;

struct peer {
	struct peer *next;
	int sock, bell_in, bell_out; /* ours, the program's; -1 when it has ended */
	bool ring;          /* it sleeps and has events: its bell rings at peers_ring() */
	pid_t pid;
	uid_t uid;
	bool attached;      /* HELLO is done: the rest is valid */
	bool ended;         /* recycle.c has it */
	bool done;          /* nothing is left but this record */
	int pidfd;          /* -1: its process can't be seen, or it has ended */
	struct recycle_walk *walk; /* NULL when it has ended */
	char name[32], label[NS_LABEL]; /* what it says of itself */
	struct rd_who who;  /* for the rules; its user and group as they were when it attached */
	struct quota *quota; /* NULL: no limits */
	uint64_t image;     /* what it is called by others who want its ports */
	uint32_t part;      /* of the region */
	void *mem;          /* notifications */
	size_t mem_bytes;
	struct notify in, out;
	uint64_t applied;   /* messages after HELLO */
	uint32_t held_bits, held_id; /* a notification that waits for messages; bits 0: none */
	bool *bound;        /* by id: has a local port of this program's; when it has ended: goes on without
			     * it (group.c) */
	struct member **listens; /* by id: listeners */
	struct park *parks; /* park.c */
	uint32_t nparks;
	struct peer_port *ports;
	uint32_t nports;
	struct peer_stats stats;
};

struct peers_config {
	int epfd;           /* for programs' descriptors: with data.ptr the peer, NULL for a bell */
	uint32_t max;       /* programs at once; parts of the region */
	uint32_t sessions;  /* of one program */
	uint32_t rx_size, tx_size;
	uint32_t max_ports; /* of one program */
	int ports_fd;       /* for ATT_FD_PORTS */
};

extern struct peers_config peers_config;

/* --- peer.c ------------------------------------------------------------------------------------ */

/* A program that may attach; takes sock. It counts for q (NULL: nobody) already. */
void peer_new(int sock, struct quota *q);
/* What an event of its descriptors says it is about: messages, or its end. */
void peer_run(void *what);
/* Take all notifications; returns how many there were. */
uint32_t peer_notifications(struct peer *p);
uint32_t peers_notifications(void);
bool peers_any(void);
/* Before the daemon sleeps (false: there is work, don't), and after. */
bool peers_arm(void);
void peers_disarm(void);
/* Programs that sleep and have events since the last time are woken: once for all that a round brought,
 * which matters most where they share the daemon's core. */
void peers_ring(void);
/* Go on with what programs had that are gone. True: something is left to wait for. */
bool peers_reap(void);
/* Every program is cut off. */
void peers_end(void);
/* Something is up with its session. */
void peer_tell(struct peer *p, uint32_t id, uint32_t events);
/* As struct stack_env.event. */
void peers_event(struct stack_env *env, struct shm_session *s, uint32_t events);
/* main.c: how long the daemon spins, in us; -1: as long as that pays off. */
void peers_spin(int32_t us);
/* Soft keys of rd_config() have changed; under the worker lock. */
void peers_tune(void);
struct peer *peers_first(void);
/* The one that lives in that part, or NULL. */
struct peer *peer_of_part(uint32_t part);
struct peer *peer_of(const struct shm_session *s);
/* Looks whether it has, after what it said before. */
bool peer_has_ended(struct peer *p);
unsigned peers_count(void);

/* An ended one: what it said last; is the stack done with its sessions? close them as the kernel would: a
 * FIN, or a reset where something was left unread; then its memory, which nobody may look at any more. */
void peer_last_notifications(struct peer *p);
bool peer_has_sessions(const struct peer *p);
void peer_close_sessions(struct peer *p);
void peer_free_memory(struct peer *p);

/* --- limits.c ---------------------------------------------------------------------------------- */

/* As struct shm_region_config.take and .give; owner: a struct quota. */
bool peers_session_take(void *owner);
void peers_session_give(void *owner);
/* One more port of p's; false: that would be beyond a limit. */
bool peer_port_take(struct peer *p);
void peer_port_give(struct peer *p);
/* Its limit of that, or max where there is none below. */
uint32_t peer_limit(const struct peer *p, int what, uint32_t max);

/* --- recycle.c --------------------------------------------------------------------------------- */

/* Once, before the first program comes. 0 or -ENOSPC. */
int peers_recycle_init(void);
/* Ended programs whose sessions are done, and what waited for long enough. True: something still waits. */
bool peers_recycle(void);

/* --- accounts.c -------------------------------------------------------------------------------- */

/* As struct ctl_ops.accounts; takes the worker lock. */
uint32_t peers_accounts(void *arg, struct stack_counter *out, uint32_t n);

/* --- calls.c ----------------------------------------------------------------------------------- */

/* HELLO from a peer that is not attached: result for the answer; fds are the caller's to close. */
int peer_hello(struct peer *p, const struct att_call *c, struct att_answer *a, int fds[ATT_FDS]);
/* One call of an attached program; fd: what came with the message, or -1. */
int peer_call(struct peer *p, const struct att_call *c, int fd, struct att_answer *a);

/* --- to_kernel.c ------------------------------------------------------------------------------- */

/* ATT_TO_KERNEL of a session; fd: the shadow, or -1. */
int peer_to_kernel(struct shm_session *s, const struct peer *p, int fd);
/* The same with a socket that is known to be of our network namespace. 0, for UDP the bytes of the queue that
 * were delivered, or -errno. */
int session_to_kernel(struct shm_session *s, int fd);

/* --- claims.c ---------------------------------------------------------------------------------- */

/* A socket that a program shows, as the kernel describes it. */
struct shown {
	struct nst_addr local;
	uint64_t cookie;
	bool reuseport, listens;
	bool v4too;         /* of IPv6, and takes IPv4, too */
	int backlog;
};
/* False: fd is no such socket of our network namespace with a port. */
bool port_shown(const struct peer *p, int fd, uint8_t proto, struct shown *out);
int port_claim(struct peer *p, const struct att_call *c, int fd, struct att_answer *a);
/* A claimed port of p has a listener, or a UDP socket, now. */
int port_steer(struct peer *p, uint8_t proto, const struct nst_addr *local, struct att_answer *a);
int port_pin(struct peer *p, const struct att_call *c, int fd);
int port_release(struct peer *p, const struct att_call *c);
/* Is that socket in our network namespace? */
bool peer_netns_has(const struct peer *p, int fd);
/* May a session of p use that local address? */
bool port_held(const struct peer *p, uint8_t proto, const struct nst_addr *local);
void ports_drop(struct peer *p);

/* --- observe.c --------------------------------------------------------------------------------- */

extern const struct ctl_ops peers_ctl_ops;
/* Its traffic stays known when the session is closed: call before. */
void peer_count_session(struct peer *p, struct shm_session *s);

/* --- group.c ----------------------------------------------------------------------------------- */

/* The session listens; fd: its shadow. Also again, with another backlog. */
int group_listen(struct peer *p, uint32_t id, struct shm_session *s, int fd, struct att_answer *a);
int group_accept(struct peer *p, uint32_t id, struct att_answer *a);
/* The stack's listener that s, the program's session of that id, stands for; s if for none. */
struct shm_session *group_session(const struct peer *p, uint32_t id, struct shm_session *s);
/* The session of a listener is about to be closed. True: it is not to be, another program may come. */
bool group_leave(struct peer *p, uint32_t id);
/* A claim of that address is about to be given up: no connection begins any more at listeners the members of
 * which have no other. */
void groups_pause(const struct nst_addr *local);
/* Nobody who listens there has a claim any more, and none gave it up: they do not listen any longer. */
void groups_evict(const struct nst_addr *local);
/* It was so: the program has closed it and has no say in it any more. */
bool group_orphan(const struct peer *p, uint32_t id, const struct shm_session *s);
/* The program has ended; keep[id]: sessions that go on without it. */
void groups_leave(struct peer *p, bool *keep);
/* What the stack says of a session, if that is a listener whose group has another host: as it is for its
 * program. */
void group_describe(struct stack_sock_info *i);
/* Tell those who were not told at first of what still waits; when to look again. And whether it has to be
 * called, because that may be earlier than it said. */
uint64_t groups_look(uint64_t now);
bool groups_news(void);
/* The stack has news of a listener of p. */
void group_event(struct peer *p, uint32_t id, uint32_t events);
/* The daemon is about to end. */
void groups_end(void);
/* Close what nobody came for. True: something is left to wait for. */
bool groups_reap(void);

#endif
