/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/peer.c - life of an attached program
 *
 * It begins with a connection, is attached by HELLO, and ends when the kernel closes the program's end of
 * the connection, or says by its pidfd that it has ended though a child still has that descriptor. What
 * becomes of what it had is in recycle.c; the record stays until that is done.
 */
#define _GNU_SOURCE
#include "tools/nstackd/closer.h"
#include "tools/nstackd/limits.h"
#include "tools/nstackd/park.h"
#include "tools/nstackd/peer.h"
#include "tools/nstackd/shared.h"

#include <errno.h>
#include <nsocket/worker_internal.h>
#include <poll.h>
#include <nstack/fault_point.h>
#include <rd/log.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MESSAGES_ROUND 16u
#define NOTIFICATIONS_ROUND 1024u
#define TURN_NS 1000000ull /* one program's messages: then others have their turn, and packets */
#define LOOK_NS 10000000ull /* who has not come to an end of what he says by then, lives */
#define DIED ((uintptr_t)1) /* added to an event's data.ptr: it is the pidfd's */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

struct peers_config peers_config;

static struct peer *peers;   /* living and ended */
static uint32_t npeers;
static uint64_t serial; /* of the last one */
static struct peer **by_part;
static bool rings;           /* some peer's ring is set */

struct peer *peers_first(void)
{
	return peers;
}

struct peer *peer_of_part(uint32_t part)
{
	struct peer *p = by_part[part];

	return p && !p->ended ? p : NULL;
}

unsigned peers_count(void)
{
	unsigned n = 0;

	for (struct peer *p = peers; p; p = p->next)
		n += p->attached && !p->ended;
	return n;
}

/* Full, or the program has closed it: that is its own affair. */
static void bell(int fd)
{
	(void)!write(fd, "", 1);
}

void peer_tell(struct peer *p, uint32_t id, uint32_t events)
{
	if (notify_put(&p->out, id, events))
		p->ring = rings = true;
}

struct peer *peer_of(const struct shm_session *s)
{
	return by_part[shm_session_part(worker.region, s)];
}

void peers_event(struct stack_env *env, struct shm_session *s, uint32_t events)
{
	struct peer *p = peer_of(s);
	uint32_t id = shm_session_id(worker.region, s);

	if (!p || p->ended)
		return;
	if (p->listens[id])
		group_event(p, id, events);
	else
		peer_tell(p, id, events);
}

void peers_ring(void)
{
	if (!rings)
		return;
	rings = false;
	for (struct peer *p = peers; p; p = p->next) {
		if (p->ring && !p->ended)
			bell(p->bell_out);
		p->ring = false;
	}
}

/* --- notifications ----------------------------------------------------------------------------- */

static void notified(struct peer *p, struct shm_session *s, uint32_t id, uint32_t bits)
{
	const struct stack_ops *ops = worker.ops;

	if (bits & (ATT_DO_TX | ATT_DO_TX_MORE))
		ops->tx_ready(worker.st, s, bits & ATT_DO_TX ? 0 : STACK_TX_MORE);
	if (bits & ATT_DO_RX_FREED)
		ops->rx_freed(worker.st, s);
	if (bits & ATT_DO_SHUT_RD)
		ops->shutdown(worker.st, s, SHUT_RD);
	if (bits & ATT_DO_SHUT_WR)
		ops->shutdown(worker.st, s, SHUT_WR);
	if (bits & ATT_DO_CLOSE && !group_orphan(p, id, s)) {
		p->bound[id] = false;
		peer_count_session(p, s);
		park_drop(p, s);
		if (!group_leave(p, id))
			ops->close(worker.st, s, s->linger_s == 0 ? 0 : -1); /* > 0: the program has waited */
	}
}

static bool notification_next(struct peer *p, uint32_t *id, uint32_t *bits)
{
	if (!p->held_bits)
		return notify_take(&p->in, id, bits);
	*id = p->held_id;
	*bits = p->held_bits;
	p->held_bits = 0;
	return true;
}

/* Those whose messages have been served; which are the last ones: the program has ended. One that has to
 * wait holds up all that come after it. */
static uint32_t notifications_take(struct peer *p, bool last)
{
	uint32_t n = 0, id, bits;
	struct shm_session *s;

	while (n < NOTIFICATIONS_ROUND && notification_next(p, &id, &bits)) {
		s = bits ? shm_session_get(worker.region, p->part * peers_config.sessions + id) : NULL;
		if (s && !last && __atomic_load_n(&s->said, __ATOMIC_RELAXED) > p->applied) {
			p->held_id = id;
			p->held_bits = bits;
			break;
		}
		if (s)
			notified(p, s, id, bits);
		n++;
	}
	p->stats.notifications += n;
	return n;
}

uint32_t peer_notifications(struct peer *p)
{
	return p->attached && !p->ended ? notifications_take(p, false) : 0;
}

/* What the program did before the message that is to be served. */
static void notifications_before(struct peer *p)
{
	for (uint32_t n = 0; n < peers_config.sessions && peer_notifications(p) == NOTIFICATIONS_ROUND;
	     n += NOTIFICATIONS_ROUND)
		;
}

void peer_last_notifications(struct peer *p)
{
	/* as many as there can be: one that is cut off and lives may go on for ever */
	for (uint32_t n = 0; n <= peers_config.sessions && notifications_take(p, true); n += NOTIFICATIONS_ROUND)
		;
}

uint32_t peers_notifications(void)
{
	uint32_t n = 0;

	for (struct peer *p = peers; p; p = p->next)
		n += peer_notifications(p);
	return n;
}

bool peers_any(void)
{
	for (struct peer *p = peers; p; p = p->next)
		if (p->attached && !p->ended && !p->held_bits && notify_any(&p->in))
			return true;
	return false;
}

bool peers_arm(void)
{
	bool idle = true;

	for (struct peer *p = peers; p; p = p->next) {
		if (!p->attached || p->ended)
			continue;
		idle &= notify_sleep(&p->in) || p->held_bits; /* its messages will wake us */
	}
	return idle;
}

void peers_disarm(void)
{
	for (struct peer *p = peers; p; p = p->next)
		if (p->attached && !p->ended)
			notify_awake(&p->in);
}

/* --- beginning and end ------------------------------------------------------------------------- */

static int watch(void *what, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = what };

	return epoll_ctl(peers_config.epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* Readable when the process at the other end has ended. -1: there is none that we see. */
static int pidfd_of(int sock, pid_t pid)
{
	socklen_t len = sizeof(int);
	int fd;

	if (!getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len))
		return fd;
	/* before Linux 6.5; it is still the same process as long as its end of the connection is open */
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static void close_all(struct peer *p)
{
	int *const fd[] = { &p->pidfd, &p->bell_in, &p->bell_out };

	if (p->bell_in >= 0) /* the program's descriptors of it may stay open */
		epoll_ctl(peers_config.epfd, EPOLL_CTL_DEL, p->bell_in, NULL);
	for (size_t i = 0; i < sizeof(fd) / sizeof(fd[0]); i++) {
		if (*fd[i] >= 0)
			close(*fd[i]);
		*fd[i] = -1;
	}
	if (p->sock >= 0)
		closer_end(p->sock);
	p->sock = -1;
}

/* sock stays the caller's if that fails. */
static struct peer *peer_make(int sock, const struct ucred *u)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->sock = p->bell_in = p->bell_out = -1;
	p->pid = u->pid;
	p->uid = u->uid;
	p->pidfd = pidfd_of(sock, u->pid);
	p->stats.serial = ++serial;
	p->stats.since_ns = worker_now();
	p->walk = recycle_watch((uint32_t)u->pid);
	if (!p->walk || watch(p, sock, EPOLLIN) ||
	    (p->pidfd >= 0 && watch((void *)((uintptr_t)p + DIED), p->pidfd, EPOLLIN))) {
		close_all(p);
		recycle_unwatch(p->walk);
		free(p);
		return NULL;
	}
	p->sock = sock;
	return p;
}

void peer_new(int sock, struct quota *q)
{
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	struct peer *p;

	if (!by_part)
		by_part = calloc(peers_config.max, sizeof(*by_part));
	/* those that have ended, and those that are about to say HELLO, count, too */
	p = by_part && npeers < 2 * peers_config.max && !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &u, &len) ?
	    peer_make(sock, &u) : NULL;
	if (!p) {
		quota_give(q, QUOTA_PROGRAMS);
		closer_end(sock);
		return;
	}
	p->quota = q;
	p->next = peers;
	peers = p;
	npeers++;
}

static void peer_end(struct peer *p)
{
	struct recycle_walk *w = p->walk;

	if (p->attached)
		ns_log(NS_INF, NS_M_CTL, "%s (%d) is gone", p->name, (int)p->pid);
	p->ended = true;
	p->walk = NULL;
	close_all(p);
	NST_FAULT_POINT("nstackd.end");
	recycle_exit(w, worker_now());
}

bool peer_has_sessions(const struct peer *p)
{
	uint32_t first = p->part * peers_config.sessions;

	return p->attached && shm_session_next(worker.region, first) < first + peers_config.sessions;
}

void peer_close_sessions(struct peer *p)
{
	uint32_t first = p->part * peers_config.sessions, end = first + peers_config.sessions;

	memset(p->bound, 0, peers_config.sessions * sizeof(*p->bound));
	groups_leave(p, p->bound);
	parks_keep(p, p->bound);
	for (uint32_t i = first; (i = shm_session_next(worker.region, i)) < end; i++)
		if (!p->bound[i - first])
			worker.ops->close(worker.st, shm_session_get(worker.region, i), -1);
}

void peer_free_memory(struct peer *p)
{
	parks_drop(p);
	if (p->attached) {
		by_part[p->part] = NULL;
		NST_FAULT_POINT("nstackd.memory");
		shm_region_part_free(worker.region, p->part);
	}
	if (p->mem)
		munmap(p->mem, p->mem_bytes);
	free(p->bound);
	free(p->listens);
	p->bound = NULL;
	p->listens = NULL;
	p->mem = NULL;
	p->attached = false;
	p->done = true;
}

static void peer_free(struct peer *p)
{
	struct peer **pp = &peers;

	while (*pp != p)
		pp = &(*pp)->next;
	*pp = p->next;
	npeers--;
	quota_give(p->quota, QUOTA_PROGRAMS);
	free(p);
	limits_look();
}

bool peers_reap(void)
{
	bool waits = peers_recycle() | groups_reap() | parks_reap(false);
	struct peer *p, *next;

	for (p = peers; p; p = next) {
		next = p->next;
		if (p->done)
			peer_free(p);
		else
			waits |= p->ended;
	}
	return waits;
}

void peers_end(void)
{
	groups_end();
	for (struct peer *p = peers; p; p = p->next)
		if (!p->ended)
			peer_end(p);
}

/* --- messages ---------------------------------------------------------------------------------- */

/* What a program has sent. */
static void fd_drop(int *fd)
{
	closer_close(*fd);
	*fd = -1;
}

static int attach(struct peer *p, const struct att_call *c)
{
	struct att_answer a = { 0 };
	int fds[ATT_FDS] = { -1, -1, -1, -1, -1 };
	bool ok;

	a.result = peer_hello(p, c, &a, fds);
	/* edges: it need not be read, and a program that rings without end is heard once a round; what it
	 * rings for is in the notifications */
	if (!a.result)
		a.result = watch(NULL, p->bell_in, EPOLLIN | EPOLLET);
	ok = a.result == 0;
	if (ok)
		by_part[p->part] = p;
	if (att_send(p->sock, &a, sizeof(a), fds, ok ? ATT_FDS : 0, MSG_DONTWAIT) < 0)
		ok = false;
	if (fds[ATT_FD_NOTIFY] >= 0)
		close(fds[ATT_FD_NOTIFY]);
	if (fds[ATT_FD_BELL_PROGRAM] >= 0)
		close(fds[ATT_FD_BELL_PROGRAM]);
	if (ok)
		ns_log(NS_INF, NS_M_CTL, "%s (%d, user %u) is attached", p->name, (int)p->pid,
		       (unsigned)p->uid);
	return ok ? 0 : a.result ? a.result : -EPIPE;
}

/* The calls of one message, which came with fd (-1: none). 0, or -errno: cut the program off. */
static int message(struct peer *p, const struct att_call *c, unsigned n, int *fd)
{
	struct att_answer a = { 0 };

	p->stats.messages++;
	if (!p->attached)
		return n == 1 && c->op == ATT_HELLO ? attach(p, c) : -EPROTO;
	notifications_before(p);
	for (unsigned i = 0; i < n && !a.result; i++) /* one that needs a socket takes long: one in a message */
		a.result = peer_call(p, &c[i], i == n - 1 ? *fd : -1, &a);
	p->applied++;
	if (p->held_bits) /* perhaps by this one */
		peer_notifications(p);
	fd_drop(fd); /* before the program goes on: where it closes a listener, the address is free */
	NST_FAULT_POINT("nstackd.answer");
	if (c[n - 1].flags & ATT_QUIET)
		return 0;
	/* it waits for this one answer, and has room for it */
	return att_send(p->sock, &a, sizeof(a), NULL, 0, MSG_DONTWAIT) < 0 ? -EPIPE : 0;
}

void peer_run(void *what)
{
	struct att_call calls[ATT_CALLS]; /* a call may be to look at another program */
	bool died = (uintptr_t)what & DIED;
	struct peer *p = (struct peer *)((uintptr_t)what & ~DIED);
	uint64_t end = worker_now() + TURN_NS;
	long n = 0;
	int fd, err = 0;

	for (unsigned i = 0; i < MESSAGES_ROUND && !err && p->sock >= 0 && (!i || worker_now() < end); i++) {
		n = closer_recv(p->sock, calls, sizeof(calls), &fd);
		if (n == -EAGAIN && !died)
			return;
		if (n <= 0 || n % (long)sizeof(calls[0]))
			err = -EPROTO;
		else
			err = message(p, calls, (unsigned)((size_t)n / sizeof(calls[0])), &fd);
		fd_drop(&fd);
	}
	if (err && p->sock >= 0) {
		if (n > 0 && err == -EPROTO) /* else it has ended before its answer, or was refused with a reason */
			ns_log(NS_WAR, NS_M_OPER, "process %d does not keep to the protocol: cut off",
			       (int)p->pid);
		peer_end(p);
	}
}

static bool process_ended(const struct peer *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return p->pidfd >= 0 && poll(&pfd, 1, 0) > 0;
}

bool peer_has_ended(struct peer *p)
{
	static bool looking; /* what it says may be a reason to look at another one, and so on: only once */
	uint64_t heard = UINT64_MAX, until = worker_now() + LOOK_NS;

	if (looking)
		return p->ended;
	looking = true;
	while (!p->ended && heard != p->stats.messages && worker_now() < until) {
		heard = p->stats.messages;
		peer_run((void *)((uintptr_t)p + (process_ended(p) ? DIED : 0)));
	}
	looking = false;
	return p->ended;
}
