/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock.c - life of a socket: shadow, session, events, waiting
 *
 * A socket is the program's descriptor (the shadow, a real kernel socket) plus, when the stack
 * serves it, a session. What the stack has to do for it is posted as a command (worker.h), so no
 * data call ever waits for the worker lock.
 *
 * Ordering sock.wait: a blocked call counts itself in nwaits, then looks at the session; the stack
 * writes the session, then has a full barrier and looks at nwaits and at s->user. sock.mode: a
 * mode is published after the session and FIFOs that belong to it.
 *
 * Threads: any; *_locked under the worker lock.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"
#include "nsocket/cleanup.h"

#include <bpf/steer_ctl.h>
#include <nsocket/ev.h>
#include <nsocket/to_kernel.h>
#include <nsocket/opt_log.h>
#include <nsocket/plugin/plugin.h>
#include <rd/config.h>
#include <nsocket/attach.h>
#include <nsocket/yield.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <stdlib.h>

uint64_t sock_reasons[SR_NR_];
uint8_t sock_fd_why[NFILE_FDS];
const char *const sock_reason_names[SR_NR_] = {
#define X(n, help) [SR_##n] = #n,
	SOCK_REASONS(X)
#undef X
};
const char *const sock_reason_help[SR_NR_] = {
#define X(n, help) [SR_##n] = help,
	SOCK_REASONS(X)
#undef X
};
_Static_assert(STACK_OPT_NR_ <= SOCK_OPTS, "bits of opt_set");

/* How often a port is asked for that another process's stack has. */
#define RETRY_MIN_NS 50000000ull
#define RETRY_MAX_NS 2000000000ull

struct sock_wait {
	struct nsock *ns;
	struct waiter *w;
	struct sock_wait *next;
};

/* --- commands -------------------------------------------------------------------------------- */

static void cmd_close(struct nsock *ns)
{
	/* First the claim: other processes may share the listener, and a connection request that found
	 * the port claimed and nobody listening would be refused. */
	if (ns->mode == SK_LISTEN && ns->port_held && ns->s && worker.st) {
		to_kernel_drain(); /* handshakes whose end lies there are reset with the others */
		ports_release(ns->proto, &ns->held);
		ns->port_held = false;
		ports_listener_gone(ns->proto, &ns->held);
		yield_leave_locked(ns);
	}
	nsock_session_drop_locked(ns, ns->linger_s);
	yield_drop(ns);
	fd_hide_close(ns->kept_fd);
	opt_log_put(ns->opts);
	pthread_mutex_destroy(&ns->lock);
	pthread_mutex_destroy(&ns->rx_lock);
	pthread_mutex_destroy(&ns->tx_lock);
	pthread_mutex_destroy(&ns->wait_lock);
	nfile_free_rcu(&ns->f);
}

static void cmd_run(struct worker_cmd *c, uint32_t bits)
{
	struct nsock *ns = caa_container_of(c, struct nsock, cmd);
	struct shm_session *s = ns->s;

	if (s && worker.st && !ns->remote) {
		if (bits & (SOCK_CMD_TX | SOCK_CMD_TX_MORE))
			worker.ops->tx_ready(worker.st, s, bits & SOCK_CMD_TX ? 0 : STACK_TX_MORE);
		if (bits & SOCK_CMD_RX_FREED)
			worker.ops->rx_freed(worker.st, s);
		if (bits & SOCK_CMD_SHUT_RD)
			worker.ops->shutdown(worker.st, s, SHUT_RD);
		if (bits & SOCK_CMD_SHUT_WR)
			worker.ops->shutdown(worker.st, s, SHUT_WR);
	}
	if (bits & SOCK_CMD_CLOSE)
		cmd_close(ns);
}

static void cmd_hold(struct worker_cmd *c, uint32_t bits)
{
	if (!(bits & SOCK_CMD_CLOSE)) /* closing is posted by the last reference */
		nfile_get(&caa_container_of(c, struct nsock, cmd)->f);
}

static void cmd_done(struct worker_cmd *c, uint32_t bits)
{
	if (!(bits & SOCK_CMD_CLOSE))
		nfile_put(&caa_container_of(c, struct nsock, cmd)->f);
}

static const struct worker_cmd_ops cmd_ops = { cmd_run, cmd_hold, cmd_done };

void nsock_post(struct nsock *ns, uint32_t bits)
{
	if (ns->remote)
		share_post(ns, bits);
	else
		worker_post(&ns->cmd, bits);
}

/* --- life ------------------------------------------------------------------------------------ */

static void nsock_release(struct nfile *f)
{
	struct nsock *ns = nsock_of(f);

	ev_file_release(f);
	if (ns->plug)
		plug_release(ns);
	if (ns->s && !ns->remote)
		worker_post(&ns->cmd, SOCK_CMD_CLOSE);
	else
		cmd_close(ns);
}

struct nsock *nsock_new(int family, int proto, uint32_t flags)
{
	struct nsock *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	nfile_init(&ns->f, NF_SOCK, flags, nsock_release);
	ns->cmd.ops = &cmd_ops;
	ns->family = (uint8_t)family;
	ns->proto = (uint8_t)proto;
	ns->linger_s = -1;
	ns->kept_fd = -1;
	ns->slot = UINT32_MAX;
	pthread_mutex_init(&ns->lock, NULL);
	pthread_mutex_init(&ns->rx_lock, NULL);
	pthread_mutex_init(&ns->tx_lock, NULL);
	pthread_mutex_init(&ns->wait_lock, NULL);
	return ns;
}

void nsock_set_mode(struct nsock *ns, enum sock_mode mode)
{
	/* release: pairs sock.mode */
	__atomic_store_n(&ns->mode, (uint8_t)mode, __ATOMIC_RELEASE);
	__atomic_store_n(&ns->f.kernel, mode == SK_KERNEL, __ATOMIC_RELAXED);
	watch_notify(&ns->f, NSOCK_EV_REWATCH);
}

void nsock_reason(struct nsock *ns, enum sock_reason why)
{
	sock_reason(why);
	__atomic_store_n(&ns->why, (uint8_t)(why + 1), __ATOMIC_RELAXED);
}

void nsock_to_kernel(struct nsock *ns, enum sock_reason why)
{
	nsock_reason(ns, why);
	ns->rejected = true;
	ns->retry_ns = 0;
	__atomic_store_n(&ns->yielded, false, __ATOMIC_RELAXED); /* not asked back */
	if (nsock_mode(ns) != SK_LISTEN && nsock_mode(ns) != SK_KERNEL)
		nsock_set_mode(ns, SK_KERNEL);
}

/* --- the whole process ------------------------------------------------------------------------ */

static uint8_t kernel_only; /* atomic: reason + 1, 0 = not so */

void nsock_kernel_only(enum sock_reason why)
{
	uint8_t none = 0;

	__atomic_compare_exchange_n(&kernel_only, &none, (uint8_t)(why + 1), false, __ATOMIC_SEQ_CST,
				    __ATOMIC_RELAXED);
}

enum sock_reason nsock_kernel_only_why(void)
{
	uint8_t why = __atomic_load_n(&kernel_only, __ATOMIC_RELAXED);

	return why ? (enum sock_reason)(why - 1) : SR_NR_;
}

/* --- which socket ------------------------------------------------------------------------------ */

uint64_t sock_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return libc.getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

struct nsock *nsock_by_cookie(uint64_t cookie, bool served_listener)
{
	struct nfile *f;

	for (int fd = fd_next(0); cookie && fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK &&
		    (!served_listener ||
		     (nsock_mode(nsock_of(f)) == SK_LISTEN && nsock_session(nsock_of(f)))) &&
		    sock_cookie(fd) == cookie)
			return nsock_of(f);
		nfile_put(f);
	}
	return NULL;
}

void nsock_each(void (*fn)(struct nsock *ns))
{
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK)
			fn(nsock_of(f));
		nfile_put(f);
	}
}

/* --- session --------------------------------------------------------------------------------- */

static uint32_t buf_limit(int v, uint32_t size)
{
	return v <= 0 || (uint32_t)v > size ? size : (uint32_t)v;
}

static void options_replay(struct nsock *ns, struct shm_session *s)
{
	for (int o = 1; o < STACK_OPT_NR_; o++) {
		if (!(ns->opt_set & (1u << o)))
			continue;
		if (o == STACK_OPT_CONGESTION)
			worker.ops->setopt(worker.st, s, o, ns->congestion,
					   sizeof(ns->congestion));
		else
			worker.ops->setopt(worker.st, s, o, &ns->opt[o], sizeof(int));
	}
}

int nsock_session_open_locked(struct nsock *ns, struct shm_session **out)
{
	struct shm_session *s;
	int err;

	s = worker.ops->alloc ? worker.ops->alloc(worker.st, ns->family, ns->proto) :
				shm_session_alloc(worker.region, ns->family, ns->proto);
	if (!s)
		return attach_used() ? -EDQUOT : -ENOBUFS;
	s->v6only = ns->v6only;
	s->reuseport = ns->reuseport;
	s->rx_lowat = ns->rcvlowat;
	s->cork = ns->corked && ns->proto == IPPROTO_TCP;
	if (ns->opt_set & (1u << STACK_OPT_RCVBUF))
		s->rx_limit = buf_limit(ns->opt[STACK_OPT_RCVBUF], s->rx_limit);
	if (ns->opt_set & (1u << STACK_OPT_SNDBUF))
		s->tx_limit = buf_limit(ns->opt[STACK_OPT_SNDBUF], s->tx_limit);
	err = worker.ops->open(worker.st, s);
	if (err) {
		shm_session_free(worker.region, s);
		return err;
	}
	if (ns->proto == IPPROTO_TCP && worker.ops->setopt)
		worker.ops->setopt(worker.st, s, STACK_OPT_CONGESTION, rd_config()->congestion,
				   (uint32_t)strlen(rd_config()->congestion));
	options_replay(ns, s);
	*out = s;
	return 0;
}

void nsock_session_attach_locked(struct nsock *ns, struct shm_session *s)
{
	ns->rx = shm_session_rx(worker.region, s);
	ns->tx = shm_session_tx(worker.region, s);
	s->user = (uintptr_t)ns;
	if (ns->rcvlowat)
		s->rx_lowat = ns->rcvlowat;
	s->urg_inline |= ns->oobinline;
	__atomic_store_n(&ns->why, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&ns->s, s, __ATOMIC_SEQ_CST);
}

void nsock_session_drop_locked(struct nsock *ns, int linger_s)
{
	struct shm_session *s = ns->s;

	if (ns->remote) {
		share_post(ns, SOCK_CMD_CLOSE);
		ns->port_held = false;
	} else if (s && share_parent_gone(ns)) {
		ns->port_held = false;
	} else if (s && worker.st) {
		s->user = 0;
		worker.ops->close(worker.st, s, linger_s);
	}
	__atomic_store_n(&ns->s, NULL, __ATOMIC_RELEASE);
	ns->remote = false;
	if (ns->port_held && worker.st)
		ports_release(ns->proto, &ns->held);
	ns->port_held = false;
}

int nsock_error(struct shm_session *s)
{
	if (!__atomic_load_n(&s->error, __ATOMIC_RELAXED))
		return 0;
	/* acquire: pairs session.error */
	return -__atomic_exchange_n(&s->error, 0, __ATOMIC_ACQ_REL);
}

int nsock_take_error(struct nsock *ns)
{
	if (!__atomic_load_n(&ns->err, __ATOMIC_RELAXED))
		return 0;
	return -__atomic_exchange_n(&ns->err, 0, __ATOMIC_RELAXED); /* relaxed: nothing goes with it */
}

/* --- events and waiting ------------------------------------------------------------------------ */

void nsock_wake(struct nsock *ns, uint32_t events)
{
	struct shm_session *s = events & STACK_EV_PRI ? nsock_session(ns) : NULL;

	if (s)
		sock_owner_urgent(ns, s);
	if (__atomic_load_n(&ns->nwaits, __ATOMIC_SEQ_CST)) {
		lock_take(&ns->wait_lock);
		for (struct sock_wait *w = ns->waits; w; w = w->next)
			waiter_ring(w->w);
		lock_give(&ns->wait_lock);
	}
	if (!cds_list_empty(&ns->f.watches))
		watch_notify(&ns->f, events);
}

void nsock_stack_event(struct stack_env *env, struct shm_session *s, uint32_t events)
{
	struct nsock *ns;
	uintptr_t user;

	/* full barrier: pairs sock.wait and session attach */
	nst_full_barrier();
	user = (uintptr_t)s->user;
	ns = user & 1 ? share_event((struct share *)(user & ~(uintptr_t)1), events) :
			(struct nsock *)user;
	if (ns)
		nsock_wake(ns, events);
}

uint64_t nsock_deadline(uint64_t timeout_ns)
{
	return timeout_ns ? worker_now() + timeout_ns : UINT64_MAX;
}

static void wait_leave(struct sock_wait *me)
{
	struct nsock *ns = me->ns;
	struct sock_wait **pp;

	lock_take(&ns->wait_lock);
	for (pp = &ns->waits; *pp != me; pp = &(*pp)->next)
		;
	*pp = me->next;
	__atomic_sub_fetch(&ns->nwaits, 1, __ATOMIC_RELAXED);
	lock_give(&ns->wait_lock);
}

/* The thread was cancelled in its sleep, and with it the call that had a reference. */
static void wait_cancelled(void *arg)
{
	struct sock_wait *me = arg;

	wait_leave(me);
	nfile_put(&me->ns->f);
}

int nsock_wait(struct nsock *ns, int kfd, short kevents, uint64_t deadline,
	       bool (*ready)(void *ns), bool restart)
{
	struct sock_wait me = { .ns = ns, .w = waiter_self() };
	struct pollfd k = { .fd = kfd, .events = kevents };
	struct _pthread_cleanup_buffer undo;
	int r;

	if (ns->remote)
		share_listen();
	lock_take(&ns->wait_lock);
	me.next = ns->waits;
	ns->waits = &me;
	/* seq_cst: pairs sock.wait - counted before the condition is looked at */
	__atomic_add_fetch(&ns->nwaits, 1, __ATOMIC_SEQ_CST);
	lock_give(&ns->wait_lock);
	cleanup_push(&undo, wait_cancelled, &me);
	do
		r = worker_wait(me.w, &k, kfd >= 0, deadline, NULL, ready, ns);
	while (r == -EINTR && restart && deadline == UINT64_MAX && sig_restart());
	cleanup_pop(&undo);
	wait_leave(&me);
	return r;
}

/* --- readiness ------------------------------------------------------------------------------- */

bool nsock_tx_roomy(struct nsock *ns, struct shm_session *s)
{
	if (shm_session_tx_roomy(s, fifo_used(&ns->tx)))
		return true;
	__atomic_store_n(&s->tx_nospace, 1, __ATOMIC_SEQ_CST);
	nst_full_barrier();
	return shm_session_tx_roomy(s, fifo_used(&ns->tx));
}

static uint32_t poll_stream(struct nsock *ns, struct shm_session *s)
{
	uint32_t state = shm_session_state(s), ev = 0, used;
	uint32_t sf = __atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE);
	uint32_t af = __atomic_load_n(&s->app_flags, __ATOMIC_RELAXED);
	bool rx_end = (sf & SHM_SF_RX_EOF) || (af & SHM_AF_RX_SHUT);
	bool tx_end = (sf & SHM_SF_TX_DEAD) || (af & SHM_AF_TX_SHUT);

	if (__atomic_load_n(&s->error, __ATOMIC_ACQUIRE))
		ev |= STACK_EV_ERR;
	if (state == SHM_S_CONNECTING)
		return ev;
	if (sock_urg_any(s) && sock_urg_pri(ns, s))
		ev |= STACK_EV_PRI;
	if (state == SHM_S_CLOSED)
		return ev | STACK_EV_HUP | STACK_EV_RDHUP | STACK_EV_IN | STACK_EV_OUT;
	used = sock_urg_any(s) ? sock_urg_readable(ns, s) : fifo_used(&ns->rx);
	if (rx_end)
		ev |= STACK_EV_IN | STACK_EV_RDHUP;
	else if (used && used >= s->rx_lowat)
		ev |= STACK_EV_IN;
	if (rx_end && tx_end)
		ev |= STACK_EV_HUP;
	return tx_end || nsock_tx_roomy(ns, s) ? ev | STACK_EV_OUT : ev;
}

uint32_t nsock_poll(struct nfile *f)
{
	struct nsock *ns = nsock_of(f);
	struct shm_session *s;

	if (f->kind != NF_SOCK)
		return 0;
	if (ns->remote)
		share_listen();
	if (!nsock_session(ns) && nsock_mode(ns) != SK_PLUGIN &&
	    (!ns->rejected || __atomic_load_n(&ns->yielded, __ATOMIC_RELAXED)))
		nsock_activate(ns, -1);
	s = nsock_session(ns);
	switch (nsock_mode(ns)) {
	case SK_NEW:
		return __atomic_load_n(&ns->err, __ATOMIC_RELAXED) ? STACK_EV_ERR : 0;
	case SK_LISTEN:
		if (s && s->watched != f->watched) /* before we sleep: who is to be woken. relaxed: hints */
			__atomic_store_n(&s->watched, f->watched, __ATOMIC_RELAXED);
		return sock_accept_waits(ns) || yield_any(ns) ? STACK_EV_IN : ns->plug ? plug_poll(ns) : 0;
	case SK_STREAM:
		return s ? poll_stream(ns, s) : 0;
	case SK_DGRAM:
		return s ? sock_dgram_poll(ns, s) : 0;
	case SK_PLUGIN:
		return plug_poll(ns);
	case SK_LOST:
		return STACK_EV_ERR | STACK_EV_HUP | STACK_EV_IN | STACK_EV_OUT | STACK_EV_RDHUP;
	}
	return 0;
}

bool nsock_kernel_half(struct nfile *f)
{
	uint8_t mode;

	if (f->kind != NF_SOCK)
		return true;
	mode = nsock_mode(nsock_of(f));
	return mode != SK_STREAM && mode != SK_LOST && mode != SK_PLUGIN;
}

/* --- activation -------------------------------------------------------------------------------- */

int nsock_shadow_fd(const struct nsock *ns)
{
	int fd = nfile_fd(&ns->f);

	/* acquire: pairs with sock_listener_keep() */
	return fd >= 0 ? fd : __atomic_load_n(&ns->kept_fd, __ATOMIC_ACQUIRE);
}

/* exempt: as in struct rd_listen */
static int activate_locked(struct nsock *ns, bool exempt)
{
	struct shm_session *s;
	bool v4too = ns->family == AF_INET6 && !ns->v6only;
	int err;

	if (ns->proto == IPPROTO_UDP)
		return sock_dgram_start_locked(ns);
	err = ports_claim(ns->proto, &ns->local, v4too, nsock_shadow_fd(ns));
	if (err)
		return err;
	ports_exempt(ns->proto, &ns->local, exempt);
	ns->held = ns->local;
	ns->port_held = true;
	err = nsock_session_open_locked(ns, &s);
	if (!err) {
		nsock_session_attach_locked(ns, s);
		err = worker.ops->bind(worker.st, s, &ns->local);
		if (!err)
			err = ports_listen(s, ns->backlog, nsock_shadow_fd(ns));
	}
	if (err)
		nsock_session_drop_locked(ns, -1);
	return err;
}

static int activate(struct nsock *ns, bool exempt)
{
	int err;

	worker_lock();
	err = activate_locked(ns, exempt);
	if (!err && ns->proto == IPPROTO_TCP)
		yield_open_locked();
	worker_unlock();
	return err;
}

void nsock_retry_later(struct nsock *ns)
{
	ns->rejected = true;
	if (!ns->retry_ns)
		ns->retry_ns = RETRY_MIN_NS;
	else if (ns->retry_ns < RETRY_MAX_NS)
		ns->retry_ns *= 2;
	worker_retry_at(worker_now() + ns->retry_ns);
}

enum sock_reason nsock_reason_of(int err, enum sock_reason other)
{
	return err == -EADDRINUSE ? SR_port_owned_by_other : err == -EDQUOT ? SR_limit : other;
}

void nsock_start(struct nsock *ns)
{
	char text[NST_ADDRSTRLEN];
	struct rd_listen by;
	int err;

	if (nsock_kernel_only_why() != SR_NR_) {
		nsock_to_kernel(ns, nsock_kernel_only_why());
		return;
	}
	by = nsock_listen_by(ns);
	if (!by.stack) {
		/* whoever is to reload by signal must be there to catch it */
		if (rd_config()->reload_signal)
			worker_start();
		ns->rejected = true;
		nsock_reason(ns, SR_rule_kernel);
		return;
	}
	if (!worker_start()) {
		ns->rejected = true;
		nsock_reason(ns, SR_stack_not_running);
		if (__atomic_load_n(&worker.state, __ATOMIC_RELAXED) != WORKER_FAILED)
			nsock_retry_later(ns); /* a daemon may come */
		else if (!plug_any()) /* nobody has to look at our half any more */
			nsock_set_mode(ns, SK_KERNEL);
		return;
	}
	err = activate(ns, by.exempt);
	/* at first, and whenever somebody waits: perhaps its owner does not */
	if (err == -EADDRINUSE && ns->proto == IPPROTO_TCP && (!ns->retry_ns || nsock_in_use(ns)) &&
	    yield_ask(ns, ports_owner()->image))
		err = activate(ns, by.exempt);
	if (err) {
		bool attached = attach_used(), ruled_out = attached && err == -EPERM;

		ns->rejected = true;
		if (!worker_running()) { /* the daemon has ended meanwhile */
			nsock_retry_later(ns);
		} else if (err == -EADDRINUSE || attached) {
			/* perhaps our predecessor, about to end; the daemon's limits and rules, which change
			 * without us, and the daemon itself, which may be another one already */
			nsock_retry_later(ns);
			if (ns->retry_ns > RETRY_MIN_NS)
				return; /* said and counted once */
		}
		nsock_reason(ns, nsock_reason_of(err, ruled_out ? SR_rule_kernel : SR_claim_failed));
		ns_log_fallback("%s is served by the kernel: %s",
				nst_addr_str(&ns->local, text), strerror(-err));
		return;
	}
	ns->retry_ns = 0;
	__atomic_store_n(&ns->looked_ns, worker_now(), __ATOMIC_RELAXED);
	ns_log(NS_INF, NS_M_NSOCKET, "serving %s %s", ns->proto == IPPROTO_TCP ? "TCP" : "UDP",
	       nst_addr_str(&ns->local, text));
	if (ns->proto == IPPROTO_UDP)
		nsock_set_mode(ns, SK_DGRAM);
	watch_notify(&ns->f, NSOCK_EV_REWATCH);
	nsock_wake(ns, 0); /* who waits for the kernel's half alone */
}

static bool retry_begin(struct nsock *ns)
{
	bool yes;

	lock_take(&ns->lock);
	yes = ns->rejected && ns->retry_ns && !nsock_session(ns);
	if (yes)
		ns->rejected = false;
	lock_give(&ns->lock);
	return yes;
}

void nsock_retry_all(void)
{
	struct nfile *f;
	struct nsock *ns;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		ns = nsock_of(f);
		if (f->kind == NF_SOCK && retry_begin(ns))
			nsock_activate(ns, fd);
		nfile_put(f);
	}
}

/* Who just got the port is about to wait; an event loop that is busy comes back to its listener soon. */
#define ABOUT_TO_WAIT_NS 5000000ull
#define BUSY_LOOP_NS 100000000ull

bool nsock_in_use(struct nsock *ns)
{
	uint64_t ago = worker_now() - __atomic_load_n(&ns->looked_ns, __ATOMIC_RELAXED);

	if (__atomic_load_n(&ns->nwaits, __ATOMIC_SEQ_CST) || ev_waited_on(&ns->f))
		return true;
	return ago < (cds_list_empty(&ns->f.watches) ? ABOUT_TO_WAIT_NS : BUSY_LOOP_NS);
}

/* We gave the port to a process that waited, and wait ourselves now. */
static void reclaim(struct nsock *ns)
{
	if (!__atomic_exchange_n(&ns->yielded, false, __ATOMIC_RELAXED))
		return;
	lock_take(&ns->lock);
	ns->retry_ns = 0;
	ns->rejected = false;
	lock_give(&ns->lock);
}

void nsock_activate(struct nsock *ns, int fd)
{
	uint8_t mode = nsock_mode(ns);

	if (__atomic_load_n(&ns->yielded, __ATOMIC_RELAXED))
		reclaim(ns);

	if (ns->proto == IPPROTO_UDP && sock_dgram_may_start(ns))
		sock_dgram_activate(ns);
	if (ns->s || ns->rejected || mode != SK_LISTEN)
		return;
	lock_take(&ns->lock);
	/* the helper may have it in hand while the program closes it */
	if (!ns->s && !ns->rejected && nsock_shadow_fd(ns) >= 0)
		nsock_start(ns);
	lock_give(&ns->lock);
}
