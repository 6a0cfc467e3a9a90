/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/sbr_host.c - the process that has a stack of deploy type 3, for other programs' sockets
 *
 * One thread serves all: doors, channels, what programs did not take yet. A program is a channel with a table of
 * sockets; what the stack knows as pdata is the record of a socket (struct plug_sock), which several programs
 * may have after forks. What is up on it is told to each of these, by a message, or kept until there is room.
 *
 * Whose end it is: a stack that counts references itself (it has fork_parent_fd) is told of each program's
 * close(), others of the last one's.
 *
 * When a program has ended, the registered functions of nstack/recycle.h are called for it; one is ours, which
 * closes its sockets.
 *
 * Threads: the host's, with all signals blocked. Events come in any thread. `lock` covers who has a socket and what
 * is to be told; it is not held when the stack is called, which may report at once.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/sbr.h"

#include <nsocket/init.h>
#include <nstack/fault_point.h>
#include <rd/config.h>
#include <rd/log.h>
#include <sched.h>
#include <shm/attach.h>
#include <shm/recycle.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#define BACKLOG 64
#define ROUND 16        /* messages of one program before the others' turn */
#define TABLE_FIRST 64u
#define RECYCLE_LOOK_MS 100
#define CLAIMS 16u      /* children of one program that have not come yet */

enum kind { DOOR, PROGRAM, EVENTS, CLAIM };

/* What an epoll event is about; the first member of what it is. */
struct source {
	enum kind kind;
	int fd; /* -1: none */
};

struct door {
	struct source src;
	const char *name;
	struct plug_module *m; /* from sbr_host_serve() on */
};

/* A program; or, without a channel, the sockets that a child of one is to have. */
struct sbr_prog {
	struct source channel, events, claim;
	struct sbr_prog *next;
	struct plug_module *m;
	struct ucred who;
	uint8_t *area;
	struct sbr_holder **table;
	uint32_t size, used, first_free; /* of the table; numbers below first_free are taken */
	uint64_t token;                  /* claim: what the child says */
	pid_t parent;                    /* who forked; 0: it was not forked off */
	struct cds_list_head news;       /* lock: holders with something to tell */
	bool full;                       /* lock: it has to take something first */
	bool spoken;                     /* HELLO has come */
	bool ended;
	struct recycle_walk *walk;       /* NULL: it has not spoken */
};

static struct door doors[RD_MODULES_MAX];
static uint32_t ndoors;
static struct sbr_prog *progs;
static uint32_t nprogs, programs_max;
static int ep = -1;
static int spare = -1; /* a descriptor that is to be had when there are no more */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool sbr_hosts(const struct rd_module *conf)
{
	for (uint32_t i = 0; i < ndoors; i++)
		if (!strcmp(doors[i].name, conf->name))
			return true;
	return false;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int watch(struct source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	return libc.epoll_ctl(ep, EPOLL_CTL_ADD, src->fd, &ev) ? -errno : 0;
}

static void source_close(struct source *src)
{
	if (src->fd >= 0) {
		/* a child that was forked off just now may have it open, and keep it in the set */
		libc.epoll_ctl(ep, EPOLL_CTL_DEL, src->fd, NULL);
		fd_hide_close(src->fd);
	}
	src->fd = -1;
}

/* --- what is up ------------------------------------------------------------------------------- */

/* Room is to be waited for, or not any more. */
static void full_locked(struct sbr_prog *g, bool full)
{
	struct epoll_event ev = { .events = full ? EPOLLOUT : 0, .data.ptr = &g->events };

	if (g->full != full)
		libc.epoll_ctl(ep, EPOLL_CTL_MOD, g->events.fd, &ev);
	g->full = full;
}

/* False: it wants none any more. */
static bool tell_locked(struct sbr_prog *g)
{
	struct sbr_event msg[SBR_EVENTS];
	struct sbr_holder *h, *tmp;
	uint32_t n;
	long r = 0;

	if (g->events.fd < 0)
		return true;
	while (!cds_list_empty(&g->news)) {
		n = 0;
		cds_list_for_each_entry(h, &g->news, news) {
			msg[n++] = (struct sbr_event){ h->s, h->pending };
			if (n == SBR_EVENTS)
				break;
		}
		r = att_send(g->events.fd, msg, n * sizeof(msg[0]), NULL, 0, MSG_DONTWAIT);
		if (r < 0)
			break;
		cds_list_for_each_entry_safe(h, tmp, &g->news, news) {
			if (!n--)
				break;
			h->pending = 0;
			cds_list_del_init(&h->news);
		}
	}
	full_locked(g, !cds_list_empty(&g->news)); /* or run() is to see that it has gone */
	return r >= 0 || r == -EAGAIN;
}

void sbr_host_event(struct plug_sock *p, uint32_t events)
{
	lock_take(&lock);
	for (struct sbr_holder *h = p->holders; h; h = h->next) {
		uint32_t mine = events & h->asked;

		if (!mine)
			continue;
		h->pending |= mine;
		if (cds_list_empty(&h->news))
			cds_list_add_tail(&h->news, &h->prog->news);
		if (!h->prog->full)
			tell_locked(h->prog);
	}
	lock_give(&lock);
}

uint32_t sbr_ask(struct sbr_holder *h, uint32_t events)
{
	uint32_t all = 0;

	lock_take(&lock);
	h->asked = events;
	for (const struct sbr_holder *o = h->p->holders; o; o = o->next)
		all |= o->asked;
	lock_give(&lock);
	return all;
}

/* --- tables ----------------------------------------------------------------------------------- */

struct sbr_holder *sbr_holder(struct sbr_prog *g, uint32_t s)
{
	return s < g->size ? g->table[s] : NULL;
}

static bool table_grow(struct sbr_prog *g)
{
	uint32_t size = g->size ? 2 * g->size : TABLE_FIRST;
	struct sbr_holder **t = size <= SBR_SOCKETS ? realloc(g->table, size * sizeof(*t)) : NULL;

	if (!t)
		return false;
	memset(t + g->size, 0, (size - g->size) * sizeof(*t));
	g->table = t;
	g->size = size;
	return true;
}

static struct sbr_holder *holder_add(struct sbr_prog *g, struct plug_sock *p, uint32_t s)
{
	struct sbr_holder *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	*h = (struct sbr_holder){ .prog = g, .p = p, .s = s };
	CDS_INIT_LIST_HEAD(&h->news);
	lock_take(&lock);
	h->next = p->holders;
	p->holders = h;
	lock_give(&lock);
	g->table[s] = h;
	g->used++;
	return h;
}

static bool number_free(struct sbr_prog *g, uint32_t *s)
{
	if (g->used >= rd_config()->max_sockets)
		return false;
	while (g->first_free < g->size && g->table[g->first_free])
		g->first_free++;
	if (g->first_free == g->size && !table_grow(g))
		return false;
	*s = g->first_free;
	return true;
}

/* The stack's socket is nobody's any more, or one less's. */
static void stack_close(struct plug_sock *p, const struct sbr_prog *g, bool as_child, bool last)
{
	struct plug_module *m = p->m;

	if (last) {
		plug_end(p);
	} else if (as_child && m->cb.extern_ops.fork_free_fd) {
		plug_enter(m);
		m->cb.extern_ops.fork_free_fd(p->s, g->parent, g->who.pid);
		plug_leave(m);
	} else if (m->cb.extern_ops.fork_parent_fd) {
		PLUG_CALL_OR(m, socket_ops.pfclose, 0, p->s);
	}
}

/* Takes h from its socket. True: it was the last one's. */
static bool holder_remove(struct sbr_holder *h)
{
	struct sbr_holder **at = &h->p->holders;
	bool last;

	lock_take(&lock);
	cds_list_del(&h->news);
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	last = !h->p->holders;
	lock_give(&lock);
	return last;
}

void sbr_close(struct sbr_prog *g, struct sbr_holder *h, bool as_child)
{
	struct plug_sock *p = h->p;
	bool last = holder_remove(h);

	g->table[h->s] = NULL;
	g->used--;
	if (h->s < g->first_free)
		g->first_free = h->s;
	stack_close(p, g, as_child, last);
	free(h);
}

int sbr_number(struct sbr_prog *g, int s)
{
	struct plug_sock *p;
	uint32_t n;
	int err = plug_take(g->m, NULL, s, &p);

	if (err)
		return err;
	if (!p->nonblock)
		err = -EOPNOTSUPP;
	else if (!number_free(g, &n) || !holder_add(g, p, n))
		err = -EMFILE;
	if (!err)
		return (int)n;
	plug_end(p);
	return err;
}

/* --- the end of a program --------------------------------------------------------------------- */

static void channel_end(struct sbr_prog *g)
{
	source_close(&g->channel);
	lock_take(&lock);
	source_close(&g->events);
	lock_give(&lock);
	source_close(&g->claim);
	if (g->area)
		munmap(g->area, SBR_AREA);
	g->area = NULL;
}

static void close_all(struct sbr_prog *g)
{
	for (uint32_t s = 0; g->used && s < g->size; s++)
		if (g->table[s])
			sbr_close(g, g->table[s], false);
}

/* Of the recycle functions the host's own: the sockets of ended programs of that pid. */
static nsfw_rcc_stat recycle_sockets(uint32_t pid, void *pdata, uint16_t type)
{
	for (struct sbr_prog *g = progs; g; g = g->next)
		if (g->ended && g->who.pid == (pid_t)pid)
			close_all(g);
	return NSFW_RCC_CONTINUE;
}

static void prog_free(struct sbr_prog *g)
{
	struct sbr_prog **at = &progs;

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	free(g->table);
	free(g);
}

/* It is freed at the next round, for others of its events may be at hand. */
static void prog_end(struct sbr_prog *g)
{
	struct recycle_walk *walk = g->walk;

	if (g->ended)
		return;
	g->ended = true;
	nprogs--;
	channel_end(g);
	g->walk = NULL;
	if (walk)
		recycle_exit(walk, now_ns());
	close_all(g); /* also where a function before ours has suspended the walk: nobody waits for its sockets */
}

static void sweep(void)
{
	struct sbr_prog *g, *next;

	for (g = progs; g; g = next) {
		next = g->next;
		if (g->ended)
			prog_free(g);
	}
}

/* Who has not spoken yet, and for longest, makes room. */
static void make_room(void)
{
	struct sbr_prog *oldest = NULL;

	for (struct sbr_prog *g = progs; g; g = g->next)
		if (g->channel.fd >= 0 && !g->spoken)
			oldest = g;
	if (!oldest)
		return;
	prog_end(oldest);
}

static struct sbr_prog *prog_new(struct plug_module *m)
{
	struct sbr_prog *g;

	if (nprogs == programs_max)
		make_room();
	g = nprogs < programs_max ? calloc(1, sizeof(*g)) : NULL;
	if (!g)
		return NULL;
	*g = (struct sbr_prog){ .channel = { PROGRAM, -1 }, .events = { EVENTS, -1 }, .claim = { CLAIM, -1 }, .m = m,
				.next = progs };
	CDS_INIT_LIST_HEAD(&g->news);
	progs = g;
	nprogs++;
	return g;
}

/* --- forks ------------------------------------------------------------------------------------ */

/* One more reference to each socket of g, for a child. */
static bool table_copy(struct sbr_prog *child, const struct sbr_prog *g)
{
	child->table = calloc(g->size ? g->size : 1, sizeof(*child->table));
	if (!child->table)
		return false;
	child->size = g->size;
	for (uint32_t s = 0; s < g->size; s++) {
		if (!g->table[s])
			continue;
		if (!holder_add(child, g->table[s]->p, s))
			return false;
		if (g->m->cb.extern_ops.fork_parent_fd) {
			plug_enter(g->m);
			g->m->cb.extern_ops.fork_parent_fd(g->table[s]->p->s, g->who.pid);
			plug_leave(g->m);
		}
	}
	return true;
}

static uint32_t claims_of(const struct sbr_prog *g)
{
	uint32_t n = 0;

	for (const struct sbr_prog *c = progs; c; c = c->next)
		n += c->claim.fd >= 0 && c->parent == g->who.pid;
	return n;
}

int sbr_fork(struct sbr_prog *g, struct sbr_answer *a, int *claim)
{
	struct sbr_prog *child = claims_of(g) < CLAIMS ? prog_new(g->m) : NULL;
	int pair[2];

	if (!child)
		return -EAGAIN;
	child->parent = g->who.pid;
	child->who = g->who;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		prog_end(child);
		return -EMFILE;
	}
	child->claim.fd = fd_hide(pair[0]);
	if (getrandom(&child->token, sizeof(child->token), 0) != sizeof(child->token) || !table_copy(child, g) ||
	    watch(&child->claim, EPOLLIN)) {
		close(pair[1]);
		prog_end(child);
		return -ENOMEM;
	}
	a->token = child->token;
	*claim = pair[1];
	return 0;
}

/* The child g has come. */
static bool claim_take(struct sbr_prog *g, uint64_t token)
{
	struct sbr_prog *c = progs;

	while (c && (c->claim.fd < 0 || c->token != token || c->m != g->m))
		c = c->next;
	if (!c || !token)
		return false;
	g->table = c->table;
	g->size = c->size;
	g->used = c->used;
	g->parent = c->parent;
	c->table = NULL;
	c->size = c->used = 0;
	lock_take(&lock);
	for (uint32_t s = 0; s < g->size; s++)
		if (g->table[s])
			g->table[s]->prog = g;
	cds_list_splice(&c->news, &g->news);
	CDS_INIT_LIST_HEAD(&c->news);
	lock_give(&lock);
	prog_end(c);
	for (uint32_t s = 0; g->m->cb.extern_ops.fork_child_fd && s < g->size; s++) {
		if (!g->table[s])
			continue;
		plug_enter(g->m);
		g->m->cb.extern_ops.fork_child_fd(g->table[s]->p->s, g->parent, g->who.pid);
		plug_leave(g->m);
	}
	return true;
}

/* --- channels --------------------------------------------------------------------------------- */

static int area_open(struct sbr_prog *g)
{
	int fd = memfd_create("nstack-stack", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, SBR_AREA) &&
	    !libc.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		p = mmap(NULL, SBR_AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	g->area = p;
	return fd;
}

/* The events' other end, or -errno. */
static int events_open(struct sbr_prog *g)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -EMFILE;
	g->events.fd = fd_hide(pair[0]);
	err = watch(&g->events, 0);
	if (!err)
		return pair[1];
	close(pair[1]);
	return err;
}

static int hello(struct sbr_prog *g, const struct sbr_call *c, int fds[SBR_FDS])
{
	fds[SBR_FD_AREA] = fds[SBR_FD_EVENTS] = -1;
	if (c->op != SBR_HELLO || c->s != SBR_MAGIC || c->arg != (int32_t)SBR_VERSION)
		return -EPROTO;
	if (c->token && !claim_take(g, c->token))
		return -ENOENT;
	g->walk = recycle_watch((uint32_t)g->who.pid);
	if (!g->walk)
		return -ENOMEM;
	fds[SBR_FD_AREA] = area_open(g);
	if (fds[SBR_FD_AREA] < 0)
		return fds[SBR_FD_AREA];
	fds[SBR_FD_EVENTS] = events_open(g);
	return fds[SBR_FD_EVENTS] < 0 ? fds[SBR_FD_EVENTS] : 0;
}

/* The first message. False: it goes. */
static bool welcome(struct sbr_prog *g, const struct sbr_call *c)
{
	int fds[SBR_FDS];
	const nstack_extern_ops *x = &g->m->cb.extern_ops;
	struct sbr_answer a = { .result = hello(g, c, fds), .flags = x->ep_prewait_proc || x->ep_prewait };
	long r = att_send(g->channel.fd, &a, sizeof(a), fds, a.result ? 0 : SBR_FDS, MSG_DONTWAIT);

	for (int i = 0; i < SBR_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	g->spoken = true;
	if (a.result || r < 0)
		return false;
	lock_take(&lock);
	tell_locked(g); /* what came up since the fork */
	lock_give(&lock);
	return true;
}

/* One message. False: it goes; *more: there may be another. */
static bool message(struct sbr_prog *g, bool *more)
{
	struct sbr_caller who = { g, g->m, g->area, g->who.uid == 0 };
	struct sbr_call c = { 0 };
	struct sbr_answer a;
	int claim;
	long r = att_recv(g->channel.fd, &c, sizeof(c), NULL, 0, NULL, MSG_DONTWAIT);

	*more = r != -EAGAIN;
	if (r == -EAGAIN)
		return true;
	if (r != (long)sizeof(c))
		return false;
	if (!g->spoken)
		return welcome(g, &c);
	NST_FAULT_POINT("sbr.host.call");
	sbr_serve(&who, &c, &a, &claim);
	NST_FAULT_POINT("sbr.host.answer");
	r = att_send(g->channel.fd, &a, sizeof(a), &claim, claim >= 0, MSG_DONTWAIT);
	if (claim >= 0)
		close(claim);
	return r >= 0; /* one that does not take its answers asks for more than it may */
}

static void run_program(struct sbr_prog *g)
{
	bool more = true;

	for (int i = 0; more && i < ROUND; i++)
		if (!message(g, &more)) {
			prog_end(g);
			return;
		}
}

/* Without a descriptor for it, a visitor is turned away, rather than looked at again and again. */
static int let_in(struct door *d)
{
	int fd = accept4(d->src.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 || (errno != EMFILE && errno != ENFILE))
		return fd;
	fd_hide_close(spare);
	fd = accept4(d->src.fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	spare = fd_hide(open("/dev/null", O_RDONLY | O_CLOEXEC));
	return -1;
}

static void visitor(struct door *d)
{
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	int fd = let_in(d);
	struct sbr_prog *g;

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) || !sbr_may_attach(fd, &who)) {
		ns_log(NS_WAR, NS_M_NSOCKET, "stack \"%s\": a program of user %u may not come in (daemon.access)",
		       d->m->conf->name, (unsigned)who.uid);
		close(fd);
		return;
	}
	g = prog_new(d->m);
	if (!g) {
		ns_log(NS_WAR, NS_M_NSOCKET, "stack \"%s\" has %u programs already", d->m->conf->name, programs_max);
		close(fd);
		return;
	}
	g->who = who;
	g->channel.fd = fd_hide(fd);
	if (watch(&g->channel, EPOLLIN))
		prog_end(g);
}

/* --- the thread ------------------------------------------------------------------------------- */

static bool events_on(struct sbr_prog *g, uint32_t events)
{
	bool on;

	if (events & (EPOLLHUP | EPOLLERR))
		return false;
	lock_take(&lock);
	on = tell_locked(g);
	lock_give(&lock);
	return on;
}

static void run(struct source *src, uint32_t events)
{
	struct sbr_prog *g;

	switch (src->kind) {
	case DOOR:
		visitor((struct door *)src);
		return;
	case PROGRAM:
		g = caa_container_of(src, struct sbr_prog, channel);
		if (!g->ended)
			run_program(g);
		return;
	case EVENTS:
		g = caa_container_of(src, struct sbr_prog, events);
		if (!events_on(g, events)) /* it wants none any more, which is the end of it */
			prog_end(g);
		return;
	case CLAIM:
		prog_end(caa_container_of(src, struct sbr_prog, claim));
		return;
	}
}

static int pause_ms(void)
{
	/* any thread may say that a suspended walk can go on */
	return recycle_run(now_ns()) == UINT64_MAX ? -1 : RECYCLE_LOOK_MS;
}

static void *serve(void *arg)
{
	struct epoll_event ev[32];
	int n;

	pthread_setname_np(pthread_self(), "nstack-host");
	init_enter(); /* all that it calls is ours or the stacks' */
	for (;;) {
		sweep();
		n = libc.epoll_wait(ep, ev, 32, pause_ms());
		for (int i = 0; i < n; i++)
			run(ev[i].data.ptr, ev[i].events);
	}
	return NULL;
}

/* --- doors ------------------------------------------------------------------------------------ */

/* Who has the name; 0: unknown. */
static pid_t owner(const struct sockaddr_un *a, socklen_t len)
{
	int s = libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred u = { 0 };
	socklen_t n = sizeof(u);

	if (s >= 0 && !libc.connect(s, (const struct sockaddr *)a, len))
		libc.getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n);
	if (s >= 0)
		close(s);
	return u.pid;
}

static int door_open(struct door *d, char why[256])
{
	struct sockaddr_un a;
	socklen_t len = sbr_address(&a, d->name);
	int err;

	d->src.fd = fd_hide(libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (d->src.fd >= 0 && !libc.bind(d->src.fd, (struct sockaddr *)&a, len) &&
	    !libc.listen(d->src.fd, BACKLOG))
		return watch(&d->src, 0);
	err = -errno;
	if (err == -EADDRINUSE)
		snprintf(why, 256, "stack \"%s\": process %d has it already", d->name, (int)owner(&a, len));
	else
		snprintf(why, 256, "stack \"%s\": no socket for programs: %s", d->name, strerror(-err));
	return err;
}

static int doors_open(const struct rd_modules *ms, const char *only, char why[256])
{
	int err = 0;

	for (uint32_t i = 0; ms && !err && i < ms->n; i++) {
		if (ms->m[i].deploy != NSTACK_MODEL_TYPE3 || (only && strcmp(ms->m[i].name, only)))
			continue;
		doors[ndoors] = (struct door){ .src = { DOOR, -1 }, .name = ms->m[i].name };
		err = door_open(&doors[ndoors++], why);
	}
	if (!err && !ndoors) {
		snprintf(why, 256, "the configuration has no stack %s%sof deploy type 3", only ? only : "",
			 only ? " " : "");
		err = -ENOENT;
	}
	return err;
}

int sbr_host_open(const struct sbr_host_config *c, const struct rd_modules *ms, char why[256])
{
	int err;

	programs_max = c->programs;
	sbr_access_init();
	ep = fd_hide(libc.epoll_create1(EPOLL_CLOEXEC));
	spare = fd_hide(open("/dev/null", O_RDONLY | O_CLOEXEC));
	if (ep < 0) {
		err = -errno;
		snprintf(why, 256, "no epoll descriptor: %s", strerror(-err));
		return err;
	}
	return doors_open(ms, c->only, why);
}

/* A stack that can be had by others: it says by itself when something is up. */
static int door_module(struct door *d, char why[256])
{
	struct plug_module *m;

	for (uint32_t i = 0; (m = plug_at(i)) && strcmp(m->conf->name, d->name); i++)
		;
	if (!m || !m->usable)
		snprintf(why, 256, "stack \"%s\" is not there", d->name);
	else if (!m->cb.extern_ops.ep_ctl)
		snprintf(why, 256, "stack \"%s\" has no ep_ctl, so it can't serve other processes", d->name);
	else
		d->m = m;
	return d->m ? 0 : -ENODEV;
}

static int thread_start(const struct sbr_host_config *c)
{
	struct sched_param sp = { .sched_priority = c->priority };
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	err = pthread_attr_setschedpolicy(&attr, c->policy);
	if (!err)
		err = pthread_attr_setschedparam(&attr, &sp);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (!err)
		err = pthread_create(&thread, &attr, serve, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

static bool recycle_register(void)
{
	static bool done; /* there is no way back, and none is needed */

	if (!done)
		done = nsfw_recycle_reg_fun(NSFW_REC_SBR_SOCKET, recycle_sockets) &&
		       nsfw_recycle_reg_obj(NSFW_REC_PRIO_DEFAULT, NSFW_REC_SBR_SOCKET, NULL);
	return done;
}

int sbr_host_serve(const struct sbr_host_config *c, char why[256])
{
	struct epoll_event ev = { .events = EPOLLIN };
	int err = 0;

	for (uint32_t i = 0; !err && i < ndoors; i++)
		err = door_module(&doors[i], why);
	if (err)
		return err;
	err = recycle_register() ? thread_start(c) : -ENOSPC;
	if (err) {
		snprintf(why, 256, "the thread that serves programs: %s", strerror(-err));
		return err;
	}
	for (uint32_t i = 0; i < ndoors; i++) {
		ev.data.ptr = &doors[i].src;
		libc.epoll_ctl(ep, EPOLL_CTL_MOD, doors[i].src.fd, &ev);
		ns_log(NS_INF, NS_M_NSOCKET, "stack \"%s\" serves programs", doors[i].name);
	}
	return 0;
}

void sbr_host_close(void)
{
	for (uint32_t i = 0; i < ndoors; i++)
		source_close(&doors[i].src);
	ndoors = 0;
	if (ep >= 0)
		fd_hide_close(ep);
	fd_hide_close(spare);
	ep = spare = -1;
}
