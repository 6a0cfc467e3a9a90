/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plug_sock.c - sockets that a plug-in stack serves: life, control calls, events
 *
 * Readiness: a stack reports events (plug_event(), any thread), which are kept in `ready` and wake who
 * waits or watches. What is true when somebody looks says ep_getevt; where a stack has none, `ready` does,
 * whose bits go before a call that consumes and come back if it succeeds. ep_ctl is asked once for a
 * socket, when somebody begins to care, for the events that all want; what it finds at that moment is an
 * event like others.
 *
 * Records (struct plug_sock) are never given back to malloc(): an event for a socket that is closed finds
 * a free record, or at worst wakes somebody who then sees that nothing has come.
 *
 * Locks: ns->lock covers which halves a socket has. No lock but a serial stack's own is held while the
 * stack is called, and none of ours is taken in an event but those of the sleepers.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/plugin.h"

#include <nsocket/init.h>
#include <nsocket/opt_log.h>
#include <nsocket/plugin/sbr.h>
#include <rd/log.h>
#include <rd/sys.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define PLUG_MAGIC 0x504c5547u
#define CHUNK 64
#define EV_ALL (STACK_EV_IN | STACK_EV_OUT | STACK_EV_PRI | STACK_EV_ERR | STACK_EV_HUP | STACK_EV_RDHUP)
#define EV_END (STACK_EV_ERR | STACK_EV_HUP)

static struct plug_sock *free_list; /* pool_lock */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- records ------------------------------------------------------------------------------------ */

static void pool_grow(void)
{
	struct plug_sock *chunk = calloc(CHUNK, sizeof(*chunk));

	for (int i = 0; chunk && i < CHUNK; i++) {
		chunk[i].magic = PLUG_MAGIC;
		chunk[i].next = free_list;
		free_list = &chunk[i];
	}
}

static struct plug_sock *sock_alloc(struct plug_module *m)
{
	struct plug_sock *p;

	lock_take(&pool_lock);
	if (!free_list)
		pool_grow();
	p = free_list;
	if (p)
		free_list = p->next;
	lock_give(&pool_lock);
	if (!p)
		return NULL;
	*p = (struct plug_sock){ .magic = PLUG_MAGIC, .state = PLUG_OPEN, .m = m, .s = -1 };
	return p;
}

static void sock_free(struct rcu_head *head)
{
	struct plug_sock *p = caa_container_of(head, struct plug_sock, rcu);

	lock_take(&pool_lock);
	__atomic_store_n(&p->state, PLUG_FREE, __ATOMIC_RELAXED);
	p->next = free_list;
	free_list = p;
	lock_give(&pool_lock);
}

void plug_sock_free(struct plug_sock *p)
{
	file_call_rcu(&p->rcu, sock_free);
}

struct plug_sock *plug_of_pdata(void *pdata)
{
	struct plug_sock *p = pdata;

	return p && p->magic == PLUG_MAGIC ? p : NULL;
}

/* --- connections that were accepted early ----------------------------------------------------- */

struct plug_early {
	int s;
	struct sockaddr_storage peer;
	socklen_t len;
	struct plug_early *next; /* pool_lock */
};

static int pf_accept(struct plug_sock *p, struct sockaddr_storage *peer, socklen_t *len)
{
	if (p->m->cb.socket_ops.pfaccept)
		return (int)PLUG_CALL(p->m, socket_ops.pfaccept, p->s, (struct sockaddr *)peer, len);
	return (int)PLUG_CALL_OR(p->m, socket_ops.pfaccept4, -EOPNOTSUPP, p->s, (struct sockaddr *)peer, len, 0);
}

/* Is there a connection? The only way to know is to take it. */
static bool early_take(struct plug_sock *p)
{
	struct plug_early *e = calloc(1, sizeof(*e)), **end;

	if (!e)
		return true;
	e->len = sizeof(e->peer);
	e->s = pf_accept(p, &e->peer, &e->len);
	if (e->s < 0) {
		bool none = e->s == -EAGAIN;

		free(e);
		return !none;
	}
	lock_take(&pool_lock);
	for (end = &p->early; *end; end = &(*end)->next)
		;
	__atomic_store_n(end, e, __ATOMIC_RELEASE);
	lock_give(&pool_lock);
	return true;
}

/* The first of them, or -EAGAIN. */
static int early_get(struct plug_sock *p, struct sockaddr_storage *peer, socklen_t *len)
{
	struct plug_early *e;
	int s = -EAGAIN;

	if (!__atomic_load_n(&p->early, __ATOMIC_ACQUIRE))
		return s;
	lock_take(&pool_lock);
	e = p->early;
	if (e)
		p->early = e->next;
	lock_give(&pool_lock);
	if (e) {
		s = e->s;
		*peer = e->peer;
		*len = e->len;
	}
	free(e);
	return s;
}

int plug_take_connection(struct plug_sock *p, struct sockaddr_storage *peer, socklen_t *len)
{
	int s = early_get(p, peer, len);

	return s == -EAGAIN ? pf_accept(p, peer, len) : s;
}

static void early_close(struct plug_sock *p)
{
	struct sockaddr_storage peer;
	socklen_t len;
	int s;

	while ((s = early_get(p, &peer, &len)) >= 0)
		PLUG_CALL_OR(p->m, socket_ops.pfclose, 0, s);
}

/* --- opening and closing ---------------------------------------------------------------------- */

/* Is it a number that the stack may have given? */
static bool number_ok(struct plug_module *m, int s)
{
	if (m->link) /* its host has looked */
		return true;
	if (s < m->conf->minfd || s > m->conf->maxfd)
		return false;
	return PLUG_CALL_OR(m, extern_ops.stack_fd_check, 1, s, STACK_FD_INVALID_CHECK) == 1;
}

/* Have the stack never wait, if it can be told so and can report events instead. */
static bool be_nonblocking(struct plug_module *m, int s)
{
	int on = 1;

	if (!m->cb.extern_ops.ep_ctl)
		return false;
	if (PLUG_CALL_OR(m, socket_ops.pffcntl, -1, s, F_SETFL, O_RDWR | O_NONBLOCK) >= 0)
		return true;
	return PLUG_CALL_OR(m, socket_ops.pfioctl, -1, s, FIONBIO, (unsigned long)&on) >= 0;
}

void plug_flags(struct nsock *ns)
{
	struct plug_sock *p = ns->plug;
	int on = nsock_nonblock(ns);

	if (p->nonblock || p->s < 0)
		return;
	if (PLUG_CALL_OR(p->m, socket_ops.pffcntl, -1, p->s, F_SETFL, on ? O_RDWR | O_NONBLOCK : O_RDWR) < 0)
		PLUG_CALL_OR(p->m, socket_ops.pfioctl, -1, p->s, FIONBIO, (unsigned long)&on);
}

int plug_take(struct plug_module *m, struct nsock *ns, int s, struct plug_sock **out)
{
	struct plug_sock *p = number_ok(m, s) ? sock_alloc(m) : NULL;

	if (!p) {
		PLUG_CALL_OR(m, socket_ops.pfclose, 0, s);
		return -EMFILE;
	}
	p->s = s;
	p->nonblock = be_nonblocking(m, s);
	p->hosted = !ns;
	__atomic_add_fetch(&m->sockets, 1, __ATOMIC_RELAXED);
	rcu_assign_pointer(p->ns, ns);
	if (m->serial)
		plug_drive(m);
	*out = p;
	return 0;
}

static void replay_one(void *arg, int level, int name, const void *val, socklen_t len)
{
	struct plug_sock *p = arg;

	PLUG_CALL_OR(p->m, socket_ops.pfsetsockopt, 0, p->s, level, name, val, len);
}

static int sock_open(struct plug_module *m, struct nsock *ns, struct plug_sock **out)
{
	int s = (int)PLUG_CALL(m, socket_ops.pfsocket, ns->family,
			       ns->proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, 0);
	int err = s < 0 ? s : plug_take(m, ns, s, out);

	if (err)
		return err;
	worker_observe();
	opt_log_each(ns->opts, replay_one, *out);
	return 0;
}

void plug_close(struct plug_sock *p)
{
	int s = __atomic_exchange_n(&p->s, -1, __ATOMIC_ACQ_REL);
	struct plug_module *m = p->m;

	if (s < 0)
		return;
	early_close(p);
	if (p->asked && m->cb.extern_ops.ep_ctl)
		PLUG_CALL(m, extern_ops.ep_ctl, -1, s, nstack_ep_triggle_del, NULL, p);
	if (p->inherited && m->cb.extern_ops.fork_free_fd) {
		plug_enter(m);
		m->cb.extern_ops.fork_free_fd(s, getppid(), getpid());
		plug_leave(m);
	} else {
		PLUG_CALL_OR(m, socket_ops.pfclose, 0, s);
	}
	__atomic_sub_fetch(&m->sockets, 1, __ATOMIC_RELAXED);
}

void plug_end(struct plug_sock *p)
{
	rcu_assign_pointer(p->ns, NULL);
	/* before close(), which may give it back at once */
	__atomic_store_n(&p->state, PLUG_CLOSED, __ATOMIC_RELEASE);
	plug_close(p);
	if (!p->m->conf->ep_free_ref)
		plug_sock_free(p);
}

void plug_release(struct nsock *ns)
{
	struct plug_sock *p = ns->plug, *next;

	for (ns->plug = NULL; p; p = next) {
		next = p->next;
		plug_end(p);
	}
}

/* --- which stack ------------------------------------------------------------------------------ */

static const struct nst_addr nowhere;

static void local_tell(struct nsock *ns, struct plug_sock *p)
{
	struct sockaddr_storage ss;

	if (ns->bound)
		PLUG_CALL_OR(p->m, socket_ops.pfbind, 0, p->s, (struct sockaddr *)&ss,
			     nst_addr_to_sockaddr(&ns->local, ns->family, &ss));
}

/* The socket is the stack's from now on. Under ns->lock. */
static int take_over_locked(struct nsock *ns, struct plug_module *m)
{
	struct plug_sock *p;
	int err = nsock_mode(ns) == SK_NEW ? sock_open(m, ns, &p) : -EBUSY;

	if (err)
		return err;
	local_tell(ns, p);
	__atomic_store_n(&ns->plug, p, __ATOMIC_RELEASE);
	plug_flags(ns);
	nsock_set_mode(ns, SK_PLUGIN);
	return 0;
}

static bool take_over(struct nsock *ns, struct plug_module *m)
{
	int err;

	lock_take(&ns->lock);
	err = take_over_locked(ns, m);
	lock_give(&ns->lock);
	if (err && err != -EBUSY) {
		nsock_reason(ns, SR_stack_refused);
		ns_log_fallback("stack \"%s\" has no socket for it: %s", m->conf->name, strerror(-err));
	}
	return !err;
}

static bool address(const struct sockaddr *addr, socklen_t len, struct nst_addr *out)
{
	return len <= sizeof(struct sockaddr_storage) && user_ok(addr, len) &&
	       len >= sizeof(addr->sa_family) && !nst_addr_from_sockaddr(out, addr, len);
}

bool plug_bind(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len, int *r)
{
	struct plug_module *m;
	struct nst_addr local;

	if (nsock_mode(ns) != SK_NEW || ns->bound || !address(addr, len, &local))
		return false;
	/* a listener on all addresses is everybody's */
	if (ns->proto == IPPROTO_TCP && nst_addr_is_any(&local))
		return false;
	m = plug_choose(ns, &local, NULL);
	if (!m || !take_over(ns, m))
		return false;
	*r = plug_rebind(ns, addr, len);
	return true;
}

bool plug_connect(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len, int *r)
{
	struct plug_module *m;
	struct nst_addr remote;

	if (nsock_mode(ns) != SK_NEW || !address(addr, len, &remote))
		return false;
	m = plug_choose(ns, ns->bound ? &ns->local : &nowhere, &remote);
	if (!m || !take_over(ns, m))
		return false;
	*r = plug_reconnect(ns, addr, len);
	return true;
}

bool plug_sendto(struct nsock *ns, int fd, const struct msghdr *msg)
{
	struct plug_module *m;
	struct nst_addr remote;

	/* one that the program bound stays what it is: others may know its address */
	if (nsock_mode(ns) != SK_NEW || ns->bind_called || !msg->msg_name ||
	    !address(msg->msg_name, msg->msg_namelen, &remote))
		return false;
	m = plug_choose(ns, &nowhere, &remote);
	return m && take_over(ns, m);
}

/* --- control calls ---------------------------------------------------------------------------- */

int plug_rebind(struct nsock *ns, const struct sockaddr *addr, socklen_t len)
{
	struct plug_sock *p = ns->plug;
	int r = (int)PLUG_CALL_OR(p->m, socket_ops.pfbind, -EOPNOTSUPP, p->s, addr, len);

	if (r < 0)
		return r;
	lock_take(&ns->lock);
	ns->bound = address(addr, len, &ns->local);
	lock_give(&ns->lock);
	return 0;
}

/* SO_ERROR, or -ENOPROTOOPT. */
static int pending_error(struct plug_sock *p)
{
	int v = 0;
	socklen_t len = sizeof(v);
	int r = (int)PLUG_CALL_OR(p->m, socket_ops.pfgetsockopt, -ENOPROTOOPT, p->s, SOL_SOCKET, SO_ERROR, &v,
				  &len);

	return r < 0 ? r : -v;
}

struct target {
	const struct sockaddr *addr;
	socklen_t len;
};

static long try_connect(struct plug_sock *p, void *arg)
{
	const struct target *t = arg;

	return PLUG_CALL_OR(p->m, socket_ops.pfconnect, -EOPNOTSUPP, p->s, t->addr, t->len);
}

/* After the first try: what became of it; -EAGAIN: nothing yet. */
static long connect_outcome(struct plug_sock *p, void *arg)
{
	uint32_t ev = plug_poll(p->ns);
	int err;

	if (!(ev & (STACK_EV_OUT | EV_END)))
		return -EAGAIN;
	err = pending_error(p);
	if (err && err != -ENOPROTOOPT)
		return err;
	/* who can't be asked says it when it is called again; others know then that the program knows */
	err = (int)try_connect(p, arg);
	return err == -EISCONN ? 0 : err == -EALREADY || err == -EINPROGRESS ? -EAGAIN : err;
}

int plug_reconnect(struct nsock *ns, const struct sockaddr *addr, socklen_t len)
{
	struct target t = { addr, len };
	struct plug_sock *p = ns->plug;
	int r;

	__atomic_and_fetch(&p->ready, ~(uint32_t)STACK_EV_OUT, __ATOMIC_SEQ_CST);
	r = (int)try_connect(p, &t);
	if (r == -EAGAIN && p->nonblock)
		r = -EINPROGRESS;
	if (r != -EINPROGRESS || !p->nonblock || nsock_nonblock(ns) || plug_in_loop())
		return r;
	r = (int)plug_wait_call(ns, STACK_EV_OUT | PLUG_KEEP, false, connect_outcome, &t);
	return r == -EAGAIN ? -EINPROGRESS : r;
}

/* What plug_listen_again() needs: the port, too, which the stack may have chosen. */
static void listener_note(struct nsock *ns, struct plug_sock *p, int backlog)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	bool named = PLUG_CALL_OR(p->m, socket_ops.pfgetsockname, -1, p->s, (struct sockaddr *)&ss, &len) >= 0;

	lock_take(&ns->lock);
	ns->backlog = backlog;
	if (named)
		ns->bound = address((struct sockaddr *)&ss, len, &ns->local);
	lock_give(&ns->lock);
}

int plug_listen_call(struct plug_sock *p, int backlog)
{
	bool before = p->listens;
	int r;

	p->listens = true; /* an event may come before the answer */
	r = (int)PLUG_CALL_OR(p->m, socket_ops.pflisten, -EOPNOTSUPP, p->s, backlog);
	if (r < 0)
		p->listens = before;
	return r;
}

int plug_listen(struct nsock *ns, int backlog)
{
	struct plug_sock *p = ns->plug;
	int r = plug_listen_call(p, backlog);

	if (!r && p->m->link)
		listener_note(ns, p, backlog);
	return r;
}

int plug_shutdown(struct nsock *ns, int how)
{
	struct plug_sock *p = ns->plug;
	int r = (int)PLUG_CALL_OR(p->m, socket_ops.pfshutdown, -EOPNOTSUPP, p->s, how);

	/* Linux remembers it for sockets that are not connected, too */
	if (ns->proto == IPPROTO_UDP && how != SHUT_WR && (!r || r == -ENOTCONN))
		__atomic_store_n(&p->no_rx, true, __ATOMIC_RELAXED);
	plug_event(p, STACK_EV_IN | STACK_EV_OUT); /* who blocks in another thread looks again, whatever it said */
	return r;
}

/* What the program says there is room for. */
static int room_check(const void *at, const socklen_t *len)
{
	if (!user_ok(len, sizeof(*len)))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	return user_ok(at, *len) ? 0 : -EFAULT;
}

int plug_name(struct nsock *ns, struct sockaddr *addr, socklen_t *len, bool peer)
{
	struct plug_sock *p = ns->plug;
	int err = room_check(addr, len);

	if (err)
		return err;
	return peer ? (int)PLUG_CALL_OR(p->m, socket_ops.pfgetpeername, -EOPNOTSUPP, p->s, addr, len) :
		      (int)PLUG_CALL_OR(p->m, socket_ops.pfgetsockname, -EOPNOTSUPP, p->s, addr, len);
}

int plug_setopt(struct nsock *ns, int level, int name, const void *val, socklen_t len)
{
	struct plug_sock *p = ns->plug;

	return (int)PLUG_CALL_OR(p->m, socket_ops.pfsetsockopt, -EOPNOTSUPP, p->s, level, name, val, len);
}

int plug_getopt(struct nsock *ns, int level, int name, void *val, socklen_t *len)
{
	struct plug_sock *p = ns->plug;
	int err = room_check(val, len);

	return err ? err : (int)PLUG_CALL_OR(p->m, socket_ops.pfgetsockopt, -EOPNOTSUPP, p->s, level, name, val, len);
}

int plug_ioctl(struct nsock *ns, unsigned long req, unsigned long arg)
{
	struct plug_sock *p = ns->plug;
	int r = (int)PLUG_CALL_OR(p->m, socket_ops.pfioctl, -ENOTTY, p->s, req, arg);

	if (r >= 0 || req != FIONREAD || !p->m->cb.extern_ops.peak)
		return r;
	if (!user_ok((void *)arg, sizeof(int)))
		return -EFAULT;
	r = (int)PLUG_CALL(p->m, extern_ops.peak, p->s);
	if (r < 0)
		return r;
	*(int *)arg = r;
	return 0;
}

/* --- events ----------------------------------------------------------------------------------- */

int plug_event(void *pdata, int events)
{
	struct plug_sock *p = plug_of_pdata(pdata);
	struct nsock *ns;

	if (!p)
		return -1;
	if (p->hosted) {
		plug_event_seen();
		__atomic_or_fetch(&p->ready, (uint32_t)events & EV_ALL, __ATOMIC_SEQ_CST);
		sbr_host_event(p, (uint32_t)events & EV_ALL);
		return __atomic_load_n(&p->s, __ATOMIC_RELAXED) < 0 ? -1 : 0;
	}
	rcu_read_lock();
	ns = rcu_dereference(p->ns);
	if (ns) {
		plug_event_seen();
		__atomic_or_fetch(&p->ready, (uint32_t)events & EV_ALL, __ATOMIC_SEQ_CST);
		nst_full_barrier(); /* pairs sock.wait and ev.watch: before who waits is looked up */
		nsock_wake(ns, (uint32_t)events & EV_ALL);
	}
	rcu_read_unlock();
	return ns ? 0 : -1;
}

/* Ask the stack to report these events, besides those that it reports already. -errno: it can't. */
static int ask(struct plug_sock *p, int epfd, int op, uint32_t events, epoll_data_t data)
{
	struct epoll_event ev = { .events = events, .data = data };
	unsigned now;
	long r;

	if (!p->m->cb.extern_ops.ep_ctl)
		return -EPERM;
	__atomic_store_n(&p->asked, events, __ATOMIC_RELAXED);
	plug_enter(p->m);
	*plug_errno(p->m) = EIO;
	now = p->m->cb.extern_ops.ep_ctl(epfd, p->s, op, &ev, p);
	r = now == (unsigned)-1 ? -*plug_errno(p->m) : 0;
	plug_leave(p->m);
	if (r) {
		if (op == nstack_ep_triggle_add)
			__atomic_store_n(&p->asked, 0, __ATOMIC_RELAXED);
		return (int)r;
	}
	if (now & events)
		plug_event(p, (int)(now & events));
	return 0;
}

/* Somebody cares for these events. */
static void care(struct plug_sock *p, uint32_t events)
{
	uint32_t asked = __atomic_load_n(&p->asked, __ATOMIC_RELAXED);

	events |= EV_END;
	if (p->s < 0 || !p->m->cb.extern_ops.ep_ctl || (asked & events) == events)
		return;
	ask(p, -1, asked ? nstack_ep_triggle_mod : nstack_ep_triggle_add, asked | events,
	    (epoll_data_t){ .fd = p->s });
}

void plug_watch(struct nsock *ns)
{
	uint32_t events = nsock_mode(ns) == SK_PLUGIN ? EV_ALL : STACK_EV_IN;

	for (struct plug_sock *p = __atomic_load_n(&ns->plug, __ATOMIC_ACQUIRE); p;
	     p = __atomic_load_n(&p->next, __ATOMIC_ACQUIRE))
		care(p, events);
}

/* Has the stack to be asked, because nobody who waits or watches has done so, or because what was reported
 * is all that is known? */
static bool unasked(struct plug_sock *p)
{
	struct nsock *ns = p->ns;

	if (p->hosted && p->m->cb.extern_ops.ep_getevt) /* its programs ask */
		return false;
	if (!ns || __atomic_load_n(&ns->nwaits, __ATOMIC_RELAXED) || !p->m->cb.extern_ops.ep_getevt)
		return true;
	return !__atomic_load_n(&p->asked, __ATOMIC_RELAXED) && !cds_list_empty(&ns->f.watches);
}

/* After a call that got something there may be more, and the stack can't be asked: is there? */
static bool guess_holds(struct plug_sock *p)
{
	char byte;
	long n;

	if (__atomic_load_n(&p->early, __ATOMIC_RELAXED) || !p->nonblock ||
	    !__atomic_exchange_n(&p->guessed, false, __ATOMIC_SEQ_CST))
		return true;
	__atomic_and_fetch(&p->ready, ~(uint32_t)STACK_EV_IN, __ATOMIC_SEQ_CST);
	if (p->listens)
		n = early_take(p) ? 0 : -EAGAIN;
	else
		n = PLUG_CALL_OR(p->m, socket_ops.pfrecv, -EAGAIN, p->s, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n != -EAGAIN)
		__atomic_or_fetch(&p->ready, STACK_EV_IN, __ATOMIC_SEQ_CST);
	return n != -EAGAIN;
}

/* What is true now. */
uint32_t plug_look(struct plug_sock *p, uint32_t events)
{
	uint32_t ready;

	if (__atomic_load_n(&p->s, __ATOMIC_RELAXED) < 0)
		return EV_END;
	if (!p->m->cb.extern_ops.ep_ctl) /* as a regular file */
		return events & (STACK_EV_IN | STACK_EV_OUT);
	if (unasked(p))
		care(p, events);
	ready = __atomic_load_n(&p->ready, __ATOMIC_SEQ_CST);
	if (!p->m->cb.extern_ops.ep_getevt) {
		if ((ready & STACK_EV_IN) && !guess_holds(p))
			ready = __atomic_load_n(&p->ready, __ATOMIC_SEQ_CST);
	} else {
		plug_enter(p->m);
		ready = p->m->cb.extern_ops.ep_getevt(-1, p->s, events | EV_END);
		plug_leave(p->m);
	}
	/* a listener whose stack's process has ended waits for the next one */
	if (p->listens && p->m->link && (ready & EV_END))
		return 0;
	return ready == (uint32_t)-1 ? STACK_EV_ERR : ready & (events | EV_END);
}

uint32_t plug_poll(struct nsock *ns)
{
	uint32_t ready = 0;

	if (nsock_mode(ns) == SK_PLUGIN) {
		ready = plug_look(ns->plug, EV_ALL);
		/* as datagram sockets of Linux say it */
		return ns->proto == IPPROTO_UDP && (ready & STACK_EV_OUT) ? ready | EPOLLWRBAND : ready;
	}
	for (struct plug_sock *p = __atomic_load_n(&ns->plug, __ATOMIC_ACQUIRE); p;
	     p = __atomic_load_n(&p->next, __ATOMIC_ACQUIRE))
		if (__atomic_load_n(&p->s, __ATOMIC_RELAXED) >= 0)
			ready |= plug_look(p, STACK_EV_IN) & STACK_EV_IN;
	return ready;
}

int plug_epoll_ctl(struct nsock *ns, int epfd, int op, const struct epoll_event *ev)
{
	struct plug_sock *p = ns->plug;
	uint32_t asked = __atomic_load_n(&p->asked, __ATOMIC_RELAXED), events;
	bool alone = cds_list_empty(&ns->f.watches);

	if (nsock_mode(ns) != SK_PLUGIN || p->s < 0)
		return 0; /* a listener's halves are asked for what accept() needs */
	if (op == EPOLL_CTL_DEL) { /* somebody else may watch it still */
		if (asked && alone) {
			__atomic_store_n(&p->asked, 0, __ATOMIC_RELAXED);
			PLUG_CALL(p->m, extern_ops.ep_ctl, epfd, p->s, nstack_ep_triggle_del, NULL, p);
		}
		return 0;
	}
	events = (ev->events & EV_ALL) | EV_END;
	return ask(p, epfd, asked ? nstack_ep_triggle_mod : nstack_ep_triggle_add,
		   op == EPOLL_CTL_ADD || !asked ? asked | events : events, ev->data);
}

static bool ready_in(void *ns)
{
	return plug_poll(ns) & (STACK_EV_IN | STACK_EV_RDHUP | EV_END);
}

static bool ready_out(void *ns)
{
	return plug_poll(ns) & (STACK_EV_OUT | EV_END);
}

long plug_try(struct plug_sock *p, uint32_t ev, long (*fn)(struct plug_sock *p, void *arg), void *arg)
{
	long r;

	if (!(ev & PLUG_KEEP)) /* what comes from here on is news */
		__atomic_and_fetch(&p->ready, ~ev, __ATOMIC_SEQ_CST);
	r = p->s < 0 ? -ECONNRESET : fn(p, arg);
	if (r == -EAGAIN)
		return r;
	/* there may be more */
	__atomic_store_n(&p->guessed, (ev & STACK_EV_IN) != 0, __ATOMIC_SEQ_CST);
	__atomic_or_fetch(&p->ready, ev & EV_ALL, __ATOMIC_SEQ_CST);
	return r;
}

long plug_wait_call(struct nsock *ns, uint32_t ev, bool dont, long (*fn)(struct plug_sock *p, void *arg),
		    void *arg)
{
	bool in = ev & STACK_EV_IN;
	uint64_t deadline = nsock_deadline(in ? ns->rcvtimeo : ns->sndtimeo);
	struct plug_sock *p = ns->plug;
	long r;

	for (;;) {
		r = plug_try(p, ev, fn, arg);
		if (r != -EAGAIN || dont || !p->nonblock || nsock_nonblock(ns) || plug_in_loop())
			return r;
		if (in && __atomic_load_n(&p->no_rx, __ATOMIC_RELAXED))
			return 0;
		plug_work(p->m);
		r = nsock_wait(ns, -1, 0, deadline, in ? ready_in : ready_out, true);
		if (r <= 0)
			return r ? r : -EAGAIN;
	}
}

/* --- accept ----------------------------------------------------------------------------------- */

/* Has a rule forbidden the connection meanwhile? */
static bool still_wanted(struct nsock *ns, struct plug_sock *c, const struct sockaddr_storage *peer, socklen_t n)
{
	struct nst_addr local = ns->local, remote;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (nst_addr_from_sockaddr(&remote, (const struct sockaddr *)peer, n))
		return true;
	if (PLUG_CALL_OR(c->m, socket_ops.pfgetsockname, -1, c->s, (struct sockaddr *)&ss, &len) >= 0)
		nst_addr_from_sockaddr(&local, (struct sockaddr *)&ss, len);
	return plug_choose(ns, &local, &remote) == c->m;
}

/* The socket of a connection that the stack gave, as descriptor fd. */
static int accepted(struct nsock *ns, struct plug_sock *p, int s, int fd, int flags,
		    const struct sockaddr_storage *peer, socklen_t n)
{
	struct nsock *c = nsock_new(ns->family, IPPROTO_TCP, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
	struct plug_sock *half;
	int err;

	if (!c) {
		PLUG_CALL_OR(p->m, socket_ops.pfclose, 0, s);
		return -ENOMEM;
	}
	c->rcvtimeo = ns->rcvtimeo;
	c->sndtimeo = ns->sndtimeo;
	err = plug_take(p->m, c, s, &half);
	if (!err) {
		c->plug = half;
		c->mode = SK_PLUGIN;
		plug_flags(c);
		if (nsock_mode(ns) == SK_LISTEN && !still_wanted(ns, half, peer, n))
			err = -EAGAIN;
	}
	if (!err)
		err = fd_install(fd, &c->f);
	nfile_put(&c->f); /* closes it, if it got no descriptor */
	return err;
}

/* From one half, without waiting. */
static int accept_half(struct nsock *ns, struct plug_sock *p, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t n = sizeof(peer);
	int fd, s, err;

	/* the descriptor first: without one the connection stays in the queue */
	fd = libc.socket(ns->family, SOCK_STREAM | flags, 0);
	if (fd < 0)
		return -errno;
	s = plug_take_connection(p, &peer, &n);
	err = s < 0 ? s : accepted(ns, p, s, fd, flags, &peer, n);
	if (err) {
		sys_close(fd);
		return err;
	}
	if (addr && len) {
		memcpy(addr, &peer, n < *len ? n : *len);
		*len = n;
	}
	return fd;
}

int plug_accept(struct nsock *ns, struct sockaddr *addr, socklen_t *len, int flags)
{
	int r = -EAGAIN;

	for (struct plug_sock *p = __atomic_load_n(&ns->plug, __ATOMIC_ACQUIRE); p && r == -EAGAIN;
	     p = __atomic_load_n(&p->next, __ATOMIC_ACQUIRE)) {
		/* one that might wait is asked only if there is something */
		if (p->s < 0 || (!(plug_look(p, STACK_EV_IN) & STACK_EV_IN) && ns->mode == SK_LISTEN))
			continue;
		__atomic_and_fetch(&p->ready, ~(uint32_t)STACK_EV_IN, __ATOMIC_SEQ_CST);
		r = accept_half(ns, p, addr, len, flags);
		if (r >= 0)
			__atomic_or_fetch(&p->ready, STACK_EV_IN, __ATOMIC_SEQ_CST);
	}
	return r;
}

struct accept_args {
	struct sockaddr *addr;
	socklen_t *len;
	int flags;
};

static long try_accept(struct plug_sock *p, void *arg)
{
	const struct accept_args *a = arg;

	return accept_half(p->ns, p, a->addr, a->len, a->flags);
}

int plug_accept_wait(struct nsock *ns, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct accept_args a = { addr, len, flags };
	int err = flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC) ? -EINVAL : addr ? room_check(addr, len) : 0;

	return err ? err : (int)plug_wait_call(ns, STACK_EV_IN, false, try_accept, &a);
}

/* --- halves of a listener --------------------------------------------------------------------- */

static struct plug_sock *half_of(struct nsock *ns, const struct plug_module *m)
{
	struct plug_sock *p = ns->plug;

	while (p && (p->m != m || p->s < 0))
		p = p->next;
	return p;
}

static int half_listen(struct nsock *ns, struct plug_sock *p)
{
	struct sockaddr_storage ss;
	socklen_t len = nst_addr_to_sockaddr(&ns->local, ns->family, &ss);
	int r = (int)PLUG_CALL_OR(p->m, socket_ops.pfbind, -EOPNOTSUPP, p->s, (struct sockaddr *)&ss, len);

	return r < 0 ? r : plug_listen_call(p, ns->backlog);
}

static void half_open(struct nsock *ns, struct plug_module *m)
{
	struct plug_sock *p = NULL, **end = &ns->plug;
	int err = sock_open(m, ns, &p);

	if (!err && !p->nonblock)
		err = -EOPNOTSUPP; /* nobody could wait for it and for the others */
	else if (!err)
		err = half_listen(ns, p);
	if (err) {
		ns_log_fallback("stack \"%s\" can't listen with the others: %s", m->conf->name, strerror(-err));
		if (p)
			plug_end(p);
		return;
	}
	while (*end)
		end = &(*end)->next;
	__atomic_store_n(end, p, __ATOMIC_RELEASE);
}

bool plug_listen_again(struct nsock *ns, struct plug_sock *p)
{
	int before = p->s, s = (int)PLUG_CALL(p->m, socket_ops.pfsocket, ns->family, SOCK_STREAM, 0);

	if (s < 0)
		return false;
	__atomic_store_n(&p->asked, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->s, s, __ATOMIC_RELAXED);
	opt_log_each(ns->opts, replay_one, p);
	if (half_listen(ns, p) < 0) {
		__atomic_store_n(&p->s, before, __ATOMIC_RELAXED);
		PLUG_CALL_OR(p->m, socket_ops.pfclose, 0, s);
		return false;
	}
	care(p, STACK_EV_IN);
	return true;
}

void plug_halves_open(struct nsock *ns)
{
	uint64_t rules = rd_rules_generation();
	struct plug_module *m;
	struct plug_sock *p;

	if (ns->plug_rules == rules)
		return;
	ns->plug_rules = rules;
	for (uint32_t i = 0; (m = plug_at(i)); i++) {
		if (!m->usable || !nsock_may_name(ns, m->conf->name))
			continue;
		p = half_of(ns, m);
		if (!p)
			half_open(ns, m);
	}
	watch_notify(&ns->f, NSOCK_EV_REWATCH);
	nsock_wake(ns, 0);
}

void plug_halves_close(struct nsock *ns)
{
	for (struct plug_sock *p = ns->plug; p; p = p->next)
		plug_close(p);
	ns->plug_rules = 0;
}

void plug_rules_look(void)
{
	static uint64_t seen; /* the helper thread's */
	struct nfile *f;

	if (!plug_any() || seen == rd_rules_generation())
		return;
	seen = rd_rules_generation();
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_LISTEN) {
			lock_take(&nsock_of(f)->lock);
			plug_halves_open(nsock_of(f));
			lock_give(&nsock_of(f)->lock);
		}
		nfile_put(f);
	}
}
