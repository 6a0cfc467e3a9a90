/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/group.c - listeners that several programs have
 *
 * A listener that was inherited or passed on is one socket with one queue, and whoever calls accept() next
 * gets what waits there. The programs that listen on it, as the cookie of the kernel's socket tells, are a
 * group. One member's session is the stack's listener, the host: connections come into its program's part
 * and wait in its rx. While it is the only member it takes them from there itself. When there are more,
 * each of them is shown how many wait, and asks for one (ATT_ACCEPT), which then moves into its part. So
 * nothing waits for a busy program while another one has time.
 *
 * When the host leaves, another member's session becomes the stack's listener, with the handshakes, and
 * what waits moves there. When the last one leaves, the kernel's listener may be open still: a master has
 * it, or the program is just becoming another one. New connections are the kernel's then, for whoever asks
 * there; those that wait with us, and handshakes, wait for the next member. If none has come after GRACE_NS
 * they wait at the kernel's listener (to_backlog.h); what that can't take is reset after ORPHAN_NS. That is
 * why the host's session can outlive the use of it by its program.
 *
 * Sockets that share a port by SO_REUSEPORT have cookies of their own, and so are groups of their own,
 * among which the stack chooses by flow.
 */
#define _GNU_SOURCE
#include "tools/nstackd/park.h"
#include "tools/nstackd/peer.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <nsocket/to_backlog.h>
#include <nsocket/to_kernel.h>
#include <nsocket/worker_internal.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ORPHAN_NS 5000000000ull
#define GRACE_NS 2000000000ull /* a program that becomes another one, or replaces its workers, is back by then */
#define DRAIN_ROUNDS 64
#define PROGRAM_MAX 16u /* members that are one program's: each costs all the others time */
#define LOOK_NS 1000000 /* what was not taken by then is said to everybody */

struct group {
	struct group *next;
	uint64_t cookie;
	struct nst_addr local;
	struct shm_session *ls;  /* the stack's listener */
	struct member *host;     /* whose session it is; NULL: no member's any more */
	struct member *members;
	struct member *turn;     /* who was woken last, for one connection */
	uint64_t look_ns;        /* when all are told, if somebody was not; UINT64_MAX: nobody */
	uint64_t orphaned_ns;    /* without members: since when */
};

struct member {
	struct member *next;
	struct group *g;
	struct peer *p;
	uint32_t id;             /* of its session, in its part */
};

static struct group *groups;
static bool look_news; /* some look_ns was set that groups_look() does not know */
static bool ending; /* the daemon is about to end: nobody will come for an orphan */

static struct shm_session *session_of(const struct member *m)
{
	return shm_session_get(worker.region, m->p->part * peers_config.sessions + m->id);
}

static uint32_t waiting(struct group *g)
{
	struct fifo rx = shm_session_rx(worker.region, g->ls);

	return fifo_used(&rx) / sizeof(uint32_t);
}

/* The members are shown what there is to be had. Relaxed: what it is about, they ask for. */
static void show(struct group *g)
{
	uint32_t n = waiting(g), shared = g->members && g->members->next;
	struct shm_session *s;

	for (struct member *m = g->members; m; m = m->next) {
		s = session_of(m);
		__atomic_store_n(&s->shared, shared, __ATOMIC_RELAXED);
		__atomic_store_n(&s->waiting, m == g->host ? 0 : n, __ATOMIC_RELAXED);
	}
}

/* --- waking -------------------------------------------------------------------------------------- */

static void tell_all(struct group *g)
{
	g->look_ns = UINT64_MAX;
	for (struct member *m = g->members; m; m = m->next)
		peer_tell(m->p, m->id, STACK_EV_IN);
}

/* Need it not be woken for every connection, as long as somebody is? Then it sleeps in accept(), with
 * EPOLLEXCLUSIVE, or over something else. */
static bool may_sleep(const struct member *m)
{
	/* relaxed: hints of the program's */
	return notify_sleeps(&m->p->out) &&
	       !(__atomic_load_n(&session_of(m)->watched, __ATOMIC_RELAXED) & SHM_WATCHED_ALL);
}

static bool would_take(const struct member *m)
{
	const struct shm_session *s = session_of(m);

	return may_sleep(m) && (__atomic_load_n(&s->takers, __ATOMIC_RELAXED) ||
				__atomic_load_n(&s->watched, __ATOMIC_RELAXED) & SHM_WATCHED_ONE);
}

/* One sleeper for each that waits, in turn. */
static void wake_takers(struct group *g, uint32_t n)
{
	struct member *first = g->turn && g->turn->next ? g->turn->next : g->members, *m = first;

	do {
		if (would_take(m)) {
			peer_tell(m->p, m->id, STACK_EV_IN);
			g->turn = m;
			n--;
		}
		m = m->next ? m->next : g->members;
	} while (n && m != first);
}

void group_event(struct peer *p, uint32_t id, uint32_t events)
{
	struct group *g = p->listens[id]->g;

	if (!g->members->next) {
		peer_tell(p, id, events);
		return;
	}
	show(g);
	nst_full_barrier(); /* pairs sock.wait: shown, then looked who sleeps */
	if (waiting(g))
		wake_takers(g, waiting(g));
	for (struct member *m = g->members; m; m = m->next)
		if (!may_sleep(m))
			peer_tell(m->p, m->id, events);
	if (g->look_ns == UINT64_MAX) {
		g->look_ns = worker_now() + LOOK_NS;
		look_news = true;
	}
}

bool groups_news(void)
{
	return look_news;
}

uint64_t groups_look(uint64_t now)
{
	static uint64_t next = UINT64_MAX;

	if (now < next && !look_news)
		return next;
	look_news = false;
	next = UINT64_MAX;
	for (struct group *g = groups; g; g = g->next) {
		if (now >= g->look_ns) {
			g->look_ns = UINT64_MAX;
			if (waiting(g))
				tell_all(g);
		}
		next = g->look_ns < next ? g->look_ns : next;
	}
	return next;
}

/* --- what waits --------------------------------------------------------------------------------- */

/* Is it some group's listener? */
static bool hosts(const struct shm_session *s)
{
	const struct group *g = groups;

	while (g && g->ls != s)
		g = g->next;
	return g != NULL;
}

/* Or a member's session? */
static bool listens(const struct shm_session *s)
{
	const struct peer *p = peer_of(s);

	return hosts(s) || (p && p->listens[shm_session_id(worker.region, s)]);
}

/* The next one, as the host's program may have changed it: some session in its part that is no listener, or
 * NULL. It can't keep us here by writing more and more. */
static struct shm_session *take(struct shm_session *ls)
{
	struct fifo rx = shm_session_rx(worker.region, ls);
	struct shm_session *s;
	uint32_t id;

	for (uint32_t n = rx.size / sizeof(id); n && fifo_take_one(&rx, &id, sizeof(id)); n--) {
		s = shm_session_sibling(worker.region, ls, id);
		if (s && s != ls && !listens(s))
			return s;
	}
	return NULL;
}

/* A session in the part of m's program for what waits at ls; NULL: there is no room. */
static struct shm_session *room_for(const struct member *m, const struct shm_session *ls)
{
	return shm_session_alloc_in(worker.region, m->p->part, ls->family == AF_INET ? AF_INET : AF_INET6,
				    IPPROTO_TCP);
}

/* A connection that waits is nobody's: what its program has said of the session is a lie. */
static void forget(struct shm_session *s)
{
	struct peer *p = peer_of(s);

	park_drop(p, s);
	p->bound[shm_session_id(worker.region, s)] = false;
}

/* The next one that can, moves to that session. False: none waits, and the session is as it was. */
static bool bring(struct shm_session *ls, struct shm_session *to)
{
	struct shm_session *s;

	for (uint32_t n = peers_config.sessions; n && (s = take(ls)); n--) {
		forget(s);
		if (!worker.ops->move(worker.st, s, to))
			return true;
		worker.ops->close(worker.st, s, 0); /* it is nothing that could be accepted */
	}
	return false;
}

/* The next one for m. -EAGAIN: none waits; -ENOBUFS: its program has no room, others may. */
static int next_for(const struct member *m, struct shm_session *ls, struct shm_session **out)
{
	if (shm_session_part(worker.region, ls) == m->p->part) {
		*out = take(ls);
	} else {
		*out = room_for(m, ls);
		if (!*out)
			return -ENOBUFS;
		if (!bring(ls, *out)) {
			shm_session_free(worker.region, *out);
			*out = NULL;
		}
	}
	if (*out)
		(*out)->parent = m->id;
	return *out ? 0 : -EAGAIN;
}

/* m becomes the host. 0, or -EINVAL: it can't. The former listener is the caller's to close. */
static int promote(struct group *g, struct member *m)
{
	struct shm_session *from = g->ls, *to = session_of(m), *s;
	struct fifo rx = shm_session_rx(worker.region, to);
	int err = worker.ops->listen_move(worker.st, from, to);
	uint32_t id;

	if (err)
		return err;
	g->ls = to;
	g->host = m;
	for (uint32_t n = peers_config.sessions; n && !next_for(m, from, &s); n--) {
		id = shm_session_id(worker.region, s);
		fifo_write(&rx, &id, sizeof(id));
	}
	if (fifo_used(&rx))
		peer_tell(m->p, m->id, STACK_EV_IN);
	return 0;
}

int group_accept(struct peer *p, uint32_t id, struct att_answer *a)
{
	struct member *m = p->listens[id];
	struct shm_session *s;
	int err;

	if (!m)
		return -EINVAL;
	err = next_for(m, m->g->ls, &s);
	show(m->g);
	if (!err)
		a->session = shm_session_id(worker.region, s);
	return err;
}

/* --- members ------------------------------------------------------------------------------------ */

static struct group *find(uint64_t cookie)
{
	struct group *g = groups;

	while (g && g->cookie != cookie)
		g = g->next;
	return g;
}

static void group_free(struct group *g)
{
	struct group **at = &groups;

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	free(g);
}

static struct member *join(struct group *g, struct peer *p, uint32_t id)
{
	struct member *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	*m = (struct member){ .next = g->members, .g = g, .p = p, .id = id };
	g->members = m;
	p->listens[id] = m;
	return m;
}

static void unlink_member(struct member *m)
{
	struct member **at = &m->g->members;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	m->p->listens[m->id] = NULL;
	if (m->g->host == m)
		m->g->host = NULL;
	if (m->g->turn == m)
		m->g->turn = NULL;
	free(m);
}

/* The first one of a group: its session is the listener. */
static int begin(struct peer *p, uint32_t id, struct shm_session *s, const struct shown *sh)
{
	struct group *g = malloc(sizeof(*g));
	int v6only = !sh->v4too, err = g ? 0 : -ENOMEM;

	if (!err && sh->local.family == AF_INET6) /* as it is, not as the program says */
		err = worker.ops->setopt(worker.st, s, STACK_OPT_V6ONLY, &v6only, sizeof(v6only));
	if (!err)
		err = worker.ops->listen(worker.st, s, sh->backlog);
	if (err) {
		free(g);
		return err;
	}
	*g = (struct group){ .next = groups, .cookie = sh->cookie, .local = sh->local, .ls = s,
			     .look_ns = UINT64_MAX };
	groups = g;
	g->host = join(g, p, id);
	if (g->host)
		return 0;
	group_free(g);
	return -ENOMEM;
}

static void orphan_close(struct group *g)
{
	worker.ops->close(worker.st, g->ls, -1);
	group_free(g);
}

static bool has_room(const struct group *g, const struct peer *p)
{
	uint32_t n = 0;

	for (const struct member *m = g->members; m; m = m->next)
		n += m->p == p;
	return n < PROGRAM_MAX;
}

/* One more of a group. */
static int follow(struct group *g, struct peer *p, uint32_t id, struct shm_session *s, int backlog)
{
	struct shm_session *former = g->ls;
	bool orphan = !g->members;
	struct member *m = has_room(g, p) ? join(g, p, id) : NULL;
	int err = m ? 0 : -ENOMEM;

	if (!err && orphan) {
		err = promote(g, m);
		if (!err)
			worker.ops->close(worker.st, former, -1);
		else
			unlink_member(m);
	} else if (!err) {
		shm_session_set_state(s, SHM_S_LISTEN);
		if (waiting(g))
			peer_tell(p, id, STACK_EV_IN);
	}
	show(g);
	return err ? err : worker.ops->listen(worker.st, g->ls, backlog);
}

/* What listen() and steering did is undone. */
static void listen_undo(struct peer *p, uint32_t id, struct shm_session *s)
{
	if (!group_leave(p, id))
		worker.ops->shutdown(worker.st, s, SHUT_RD);
}

int group_listen(struct peer *p, uint32_t id, struct shm_session *s, int fd, struct att_answer *a)
{
	struct shown sh;
	struct group *g;
	int err;

	if (!port_shown(p, fd, IPPROTO_TCP, &sh) || !sh.listens || !port_held(p, IPPROTO_TCP, &sh.local))
		return -EACCES;
	g = find(sh.cookie);
	if (p->listens[id])
		return worker.ops->listen(worker.st, p->listens[id]->g->ls, sh.backlog);
	err = g ? follow(g, p, id, s, sh.backlog) : begin(p, id, s, &sh);
	if (err)
		return err;
	err = port_steer(p, IPPROTO_TCP, &sh.local, a);
	if (err)
		listen_undo(p, id, s);
	return err;
}

struct shm_session *group_session(const struct peer *p, uint32_t id, struct shm_session *s)
{
	return p->listens[id] ? p->listens[id]->g->ls : s;
}

void group_describe(struct stack_sock_info *i)
{
	uint32_t part = i->session / peers_config.sessions, id = i->session % peers_config.sessions;
	const struct peer *p = peer_of_part(part);
	struct group *g = p && p->listens && p->listens[id] ? p->listens[id]->g : NULL;

	if (!g || g->host == p->listens[id])
		return;
	i->tcp_state = TCP_LISTEN;
	i->recv_q = waiting(g);
	i->send_q = g->ls->backlog;
}

/* --- leaving ------------------------------------------------------------------------------------ */

/* Does a member have the port? One that gave it back is a member until it closes its session. */
static bool has_port(const struct group *g)
{
	const struct member *m = g->members;

	while (m && !port_held(m->p, IPPROTO_TCP, &g->local))
		m = m->next;
	return m;
}

static bool without_port(const struct group *g, const struct nst_addr *local)
{
	return g->local.port == local->port && nst_addr_same_ip(&g->local, local) && !has_port(g);
}

static uint32_t members(const struct group *g)
{
	uint32_t n = 0;

	for (const struct member *m = g->members; m; m = m->next)
		n++;
	return n;
}

/* A handshake that began now would end in the kernel, which would reset it. */
void groups_pause(const struct nst_addr *local)
{
	for (int i = 0; i < DRAIN_ROUNDS && worker_round_locked(); i++)
		;
	for (struct group *g = groups; g; g = g->next)
		if (without_port(g, local))
			worker.ops->listen_pause(worker.st, g->ls);
}

void groups_evict(const struct nst_addr *local)
{
	struct group *g = groups, *next;
	struct member *m;

	for (; g; g = next) {
		next = g->next;
		if (!without_port(g, local))
			continue;
		for (uint32_t n = members(g); n; n--) { /* the group goes with the last one */
			m = g->members;
			listen_undo(m->p, m->id, session_of(m));
		}
	}
}

/* Others have the listener: what waits here waits in its queue from now on. Where it can't, it stays. */
static void kernel_takes(struct group *g)
{
	struct shm_session *s;

	if (!waiting(g) || to_backlog_begin())
		return;
	for (uint32_t n = peers_config.sessions; n && (s = take(g->ls)); n--) {
		forget(s);
		if (to_backlog_move(s))
			worker.ops->close(worker.st, s, 0);
	}
	to_backlog_end();
}

/* True: its session is listening still, for handshakes, or for another program to come. */
static bool leave(struct member *m)
{
	struct group *g = m->g;
	bool host = g->host == m;
	struct member *next;

	unlink_member(m);
	for (next = g->members; host && next && promote(g, next); next = next->next)
		;
	if (g->members && (next || !host)) {
		show(g);
		if (waiting(g)) /* perhaps it was this one's turn */
			tell_all(g);
		return false;
	}
	while (g->members) /* none of them can: they lied about their sessions */
		unlink_member(g->members);
	if (!ending && steer_kernel_listens(g->local.port, g->cookie)) {
		g->orphaned_ns = worker_now();
		worker.ops->listen_pause(worker.st, g->ls);
		return true;
	}
	group_free(g);
	return false;
}

bool group_orphan(const struct peer *p, uint32_t id, const struct shm_session *s)
{
	return !p->listens[id] && hosts(s);
}

bool group_leave(struct peer *p, uint32_t id)
{
	if (!p->listens[id])
		return false;
	to_kernel_drain(); /* handshakes whose end lies in the rings are reset with the others */
	return leave(p->listens[id]);
}

/* What the stack closes with its listener; the program may have written anything there, a UDP socket, say, which
 * nobody would close then. */
static bool connected(struct shm_session *s)
{
	struct stack_tcp_image img;

	return s && !worker.ops->image(worker.st, s, &img);
}

/* The listener and what waits there are to outlive their program. */
static void keep_orphan(struct group *g, bool *keep)
{
	struct fifo rx = shm_session_rx(worker.region, g->ls);
	uint32_t id, at = 0;

	keep[shm_session_id(worker.region, g->ls)] = true;
	for (; fifo_peek(&rx, at, &id, sizeof(id)) == sizeof(id); at += sizeof(id))
		if (id < peers_config.sessions && connected(shm_session_sibling(worker.region, g->ls, id)))
			keep[id] = true;
}

void groups_leave(struct peer *p, bool *keep)
{
	for (uint32_t id = 0; id < peers_config.sessions; id++)
		group_leave(p, id);
	for (struct group *g = groups; g; g = g->next)
		if (!g->members && shm_session_part(worker.region, g->ls) == p->part)
			keep_orphan(g, keep);
}

void groups_end(void)
{
	struct group *g, *next;

	ending = true;
	for (g = groups; g; g = next) {
		next = g->next;
		if (!g->members)
			orphan_close(g);
	}
}

bool groups_reap(void)
{
	struct group *g, *next;
	bool waits = false;

	for (g = groups; g; g = next) {
		next = g->next;
		if (g->members)
			continue;
		if (worker_now() - g->orphaned_ns >= GRACE_NS)
			kernel_takes(g);
		if (worker_now() - g->orphaned_ns < ORPHAN_NS && waiting(g) + g->ls->handshakes &&
		    steer_kernel_listens(g->local.port, g->cookie))
			waits = true;
		else
			orphan_close(g);
	}
	return waits;
}
