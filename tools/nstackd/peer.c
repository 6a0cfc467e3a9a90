/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/peer.c - life of an attached program
 *
 * It begins with a connection, is attached by HELLO, and ends when the kernel closes the program's end of
 * the connection, however the program ended. What it had open is closed then as the kernel would:
 * its peers get a FIN, or a reset where it left something unread. Its memory stays until the stack is done
 * with the last session.
 */
#define _GNU_SOURCE
#include "tools/nstackd/peer.h"

#include <errno.h>
#include <nsocket/worker_internal.h>
#include <rd/log.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_ROUND 16u
#define NOTIFICATIONS_ROUND 1024u

struct peers_config peers_config;

static struct peer *peers;   /* living and ended */
static uint32_t npeers;
static struct peer **by_part;

struct peer *peers_first(void)
{
	return peers;
}

unsigned peers_count(void)
{
	unsigned n = 0;

	for (struct peer *p = peers; p; p = p->next)
		n += p->attached && !p->ended;
	return n;
}

static void bell(int fd)
{
	static const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

void peers_event(struct stack_env *env, struct shm_session *s, uint32_t events)
{
	struct peer *p = by_part[shm_session_part(worker.region, s)];

	if (p && !p->ended && notify_put(&p->out, shm_session_id(worker.region, s), events))
		bell(p->bell_out);
}

/* --- notifications ----------------------------------------------------------------------------- */

static void notified(struct peer *p, struct shm_session *s, uint32_t id, uint32_t bits)
{
	const struct stack_ops *ops = worker.ops;

	if (bits & (ATT_DO_TX | ATT_DO_TX_MORE | ATT_DO_TX_OOB))
		ops->tx_ready(worker.st, s, (bits & ATT_DO_TX ? 0 : STACK_TX_MORE) |
					    (bits & ATT_DO_TX_OOB ? STACK_TX_OOB : 0));
	if (bits & ATT_DO_RX_FREED)
		ops->rx_freed(worker.st, s);
	if (bits & ATT_DO_SHUT_RD)
		ops->shutdown(worker.st, s, SHUT_RD);
	if (bits & ATT_DO_SHUT_WR)
		ops->shutdown(worker.st, s, SHUT_WR);
	if (bits & ATT_DO_CLOSE) {
		p->bound[id] = false;
		ops->close(worker.st, s, s->linger_s == 0 ? 0 : -1); /* > 0: the program has waited */
	}
}

uint32_t peer_notifications(struct peer *p)
{
	uint32_t n = 0, id, bits;
	struct shm_session *s;

	if (!p->attached || p->ended)
		return 0;
	while (n < NOTIFICATIONS_ROUND && notify_take(&p->in, &id, &bits)) {
		s = bits ? shm_session_get(worker.region, p->part * peers_config.sessions + id) : NULL;
		if (s)
			notified(p, s, id, bits);
		n++;
	}
	return n;
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
		if (p->attached && !p->ended && notify_any(&p->in))
			return true;
	return false;
}

bool peers_arm(void)
{
	bool idle = true;

	for (struct peer *p = peers; p; p = p->next) {
		if (!p->attached || p->ended)
			continue;
		idle &= notify_sleep(&p->in);
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

static bool allowed(const struct ucred *u)
{
	if (u->uid == 0 || u->uid == geteuid() || (!peers_config.nusers && !peers_config.ngroups))
		return true;
	for (unsigned i = 0; i < peers_config.nusers; i++)
		if (peers_config.users[i] == u->uid)
			return true;
	for (unsigned i = 0; i < peers_config.ngroups; i++)
		if (peers_config.groups[i] == u->gid)
			return true;
	return false;
}

static int watch(struct peer *p, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = p };

	return epoll_ctl(peers_config.epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void peer_new(int sock)
{
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	struct peer *p;

	if (!by_part)
		by_part = calloc(peers_config.max, sizeof(*by_part));
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0 || !allowed(&u)) {
		struct att_answer a = { .result = -EACCES };

		ns_log(NS_WAR, NS_M_CTL, "process %d, user %u: may not attach", (int)u.pid,
		       (unsigned)u.uid);
		att_send(sock, &a, sizeof(a), NULL, 0, MSG_DONTWAIT);
		close(sock);
		return;
	}
	/* who connects and says nothing is not to use up our descriptors */
	p = by_part && npeers < 2 * peers_config.max ? calloc(1, sizeof(*p)) : NULL;
	if (!p || watch(p, sock, EPOLLIN)) {
		free(p);
		close(sock);
		return;
	}
	p->sock = sock;
	p->bell_in = p->bell_out = -1;
	p->pid = u.pid;
	p->uid = u.uid;
	p->next = peers;
	peers = p;
	npeers++;
}

static void close_sessions(struct peer *p)
{
	uint32_t first = p->part * peers_config.sessions, end = first + peers_config.sessions;

	for (uint32_t i = first; (i = shm_session_next(worker.region, i)) < end; i++)
		worker.ops->close(worker.st, shm_session_get(worker.region, i), -1);
}

static void peer_end(struct peer *p)
{
	if (p->attached && !p->ended) {
		ns_log(NS_INF, NS_M_CTL, "%s (%d) is gone", p->name, (int)p->pid);
		/* as many as there can be; a program that lives may go on for ever */
		for (uint32_t n = 0; n <= peers_config.sessions; n += NOTIFICATIONS_ROUND)
			peer_notifications(p);
		ports_drop(p); /* first: a request for a port without a listener would be refused */
		close_sessions(p);
	}
	p->ended = true;
	close(p->sock);
	if (p->bell_in >= 0)
		close(p->bell_in);
	if (p->bell_out >= 0)
		close(p->bell_out);
	p->sock = p->bell_in = p->bell_out = -1;
}

static void peer_free(struct peer *p)
{
	struct peer **pp = &peers;

	while (*pp != p)
		pp = &(*pp)->next;
	*pp = p->next;
	npeers--;
	if (p->attached) {
		by_part[p->part] = NULL;
		shm_region_part_free(worker.region, p->part);
	}
	if (p->mem)
		munmap(p->mem, p->mem_bytes);
	free(p->bound);
	free(p);
}

bool peers_reap(void)
{
	struct peer *p, *next;
	bool waits = false;

	for (p = peers; p; p = next) {
		uint32_t first = p->part * peers_config.sessions;

		next = p->next;
		if (!p->ended)
			continue;
		if (p->attached && shm_session_next(worker.region, first) < first + peers_config.sessions)
			waits = true;
		else
			peer_free(p);
	}
	return waits;
}

void peers_end(void)
{
	for (struct peer *p = peers; p; p = p->next)
		if (!p->ended)
			peer_end(p);
}

/* --- messages ---------------------------------------------------------------------------------- */

static int attach(struct peer *p, const struct att_call *c)
{
	struct att_answer a = { 0 };
	int fds[ATT_FDS] = { -1, -1, -1, -1, -1 };
	bool ok;

	a.result = peer_hello(p, c, &a, fds);
	/* edges: it need not be read, and a program that rings without end is heard once a round */
	if (!a.result)
		a.result = watch(p, p->bell_in, EPOLLIN | EPOLLET);
	ok = a.result == 0;
	if (ok)
		by_part[p->part] = p;
	if (att_send(p->sock, &a, sizeof(a), fds, ok ? ATT_FDS : 0, MSG_DONTWAIT) < 0)
		ok = false;
	if (fds[ATT_FD_NOTIFY] >= 0)
		close(fds[ATT_FD_NOTIFY]);
	if (ok)
		ns_log(NS_INF, NS_M_CTL, "%s (%d, user %u) is attached", p->name, (int)p->pid,
		       (unsigned)p->uid);
	return ok ? 0 : -EPROTO;
}

/* The calls of one message. 0, or -errno: cut the program off. */
static int message(struct peer *p, const struct att_call *c, unsigned n, int fd)
{
	struct att_answer a = { 0 };

	if (!p->attached)
		return n == 1 && c->op == ATT_HELLO ? attach(p, c) : -EPROTO;
	peer_notifications(p);
	for (unsigned i = 0; i < n && !a.result; i++)
		a.result = peer_call(p, &c[i], fd, &a);
	if (c[n - 1].flags & ATT_QUIET)
		return 0;
	/* it waits for this one answer, and has room for it */
	return att_send(p->sock, &a, sizeof(a), NULL, 0, MSG_DONTWAIT) < 0 ? -EPIPE : 0;
}

void peer_run(struct peer *p)
{
	static struct att_call calls[ATT_CALLS];
	unsigned nfds;
	long n = 0;
	int fd, err = 0;

	for (unsigned i = 0; i < MESSAGES_ROUND && !err && p->sock >= 0; i++) {
		fd = -1;
		n = att_recv(p->sock, calls, sizeof(calls), &fd, 1, &nfds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n <= 0 || n % (long)sizeof(calls[0]))
			err = -EPROTO;
		else
			err = message(p, calls, (unsigned)((size_t)n / sizeof(calls[0])), nfds ? fd : -1);
		if (nfds)
			close(fd);
	}
	if (err && p->sock >= 0) {
		if (n > 0)
			ns_log(NS_WAR, NS_M_CTL, "process %d does not keep to the protocol: cut off",
			       (int)p->pid);
		peer_end(p);
	}
}
