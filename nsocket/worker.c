/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/worker.c - the worker lock, waiting, and the helper thread
 *
 * Waiting goes round: drive the stack, look at one's own condition, spin, sleep. Sleepers share
 * the work of watching the HAL: one is the leader and sleeps on the HAL's descriptors too, the
 * others on their doorbells. A leader that goes while others sleep rings one of them, which comes
 * round the loop and takes the role. The helper thread is a leader of last resort: it takes the
 * role only while nobody else has it, and any thread takes it from it.
 *
 * Why no wake-up is lost.
 *  - Events: an event is published (FIFO, session fields, a ready list) before waiter_ring(), which
 *    has a full barrier before it looks at the waiter's state; a waiter stores SLEEPING, has a full
 *    barrier, and looks at its condition again before it sleeps (ordering worker.sleep). One of the
 *    two sees the other.
 *  - Packets: HAL descriptors are level-triggered, so packets that arrive between the leader's
 *    last round and its ppoll() end that ppoll().
 *  - Commands: a poster pushes, then tries the lock; a holder unlocks, then looks at the queue
 *    (both with full barriers: worker.cmds). Either the poster gets the lock or the holder sees the
 *    command.
 *  - The role: given up and taken under sleep_lock, under which also the list of followers is kept.
 *    Whoever comes to sleep finds the role free and takes it, or is on the list when the leader
 *    leaves. A follower that is asked to lead, and has got what it waited for instead, asks the next
 *    one as it goes.
 *  - Time: a leader sleeps until the deadline that it saw. Somebody who makes the deadline earlier
 *    wakes the helper, unless it is awake anyway: it ticks while there was activity in the last
 *    ACTIVE_NS, and drives whenever a deadline has passed.
 *
 * Threads: any; the helper is the library's own.
 */
#define _GNU_SOURCE
#include "nsocket/worker_internal.h"
#include "nsocket/cleanup.h"

#include <errno.h>
#include <nsocket/libc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 4000000ull    /* helper, while there is activity */
#define ACTIVE_NS 100000000ull
#define SWEEP_NS 5000000000ull /* helper, while it wakes anyway */
#define SPIN_LOOK_NS 20000ull /* how often a spinner looks at kernel descriptors */
#define SPIN_ROUNDS 16        /* of a spinner with the lock in hand: under 2 us */
#define SPIN_STEPS 4          /* from no spinning to all of it, by doubling: the first one's part */
#define BURST_NS 100000ull    /* how long what is sent may wait for more */
#define BURST_EVENTS 16u
#define CALLS_PER_EVENT 4u    /* such as accept; or write, close */
#define POSTS_ROUND 32        /* commands between rounds of a program that does not wait */
#define TICKS_ROUND 16        /* the same for calls that are no commands */
#define POLL_STACK 80         /* descriptors that fit on the stack of a sleeper */

enum { AWAKE, SLEEPING, RUNG };

struct waiter {
	int efd;              /* -1: not yet made */
	uint32_t state;       /* atomic */
	bool listed;          /* on the list of followers; sleep_lock */
	bool asked;           /* to lead, since the leader went; sleep_lock, its owner when it is not listed */
	struct pollfd *fds;   /* its owner's: room for a sleep on many descriptors */
	unsigned nfds;
	struct waiter *prev, *next;
	struct rcu_head rcu;
};

struct worker worker = {
	.start_lock = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.deadline = UINT64_MAX,
};

static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *leader;    /* sleep_lock (written); atomic (read) */
static struct waiter *followers; /* sleep_lock */
static uint64_t leader_until;    /* atomic: when the leader wakes by itself */
static struct waiter helper_waiter = { .efd = -1 };
static uint32_t helper_deep;     /* atomic: the helper sleeps without a tick */
static bool helper_stop;         /* atomic */
static void (*helper_errand)(void); /* atomic: to be called by the helper, once */
bool cancel_used;                /* see cleanup.h */
static bool cancel_held;         /* worker lock: its holder's cancel state is in cancel_old */
static int cancel_old;           /* worker lock */

static __thread unsigned burst_left;   /* calls that need not send at once */
static __thread uint64_t burst_until;
static __thread struct waiter *self_waiter;
static __thread uint32_t handlers_run;  /* handlers of the program, in this thread */
static __thread uint32_t handlers_in;   /* that are not over; one that jumps away stays counted */
static __thread struct worker_call call; /* handlers_run when it began; of the first one since */
static pthread_key_t waiter_key;
static pthread_once_t waiter_once = PTHREAD_ONCE_INIT;

uint64_t worker_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* --- waiters ------------------------------------------------------------------------------ */

static void waiter_free_cb(struct rcu_head *head)
{
	struct waiter *w = caa_container_of(head, struct waiter, rcu);

	fd_hide_close(w->efd);
	free(w->fds);
	free(w);
}

static void role_pass(struct waiter *w);

/* A ring may be late: others find waiters under RCU. */
static void waiter_thread_exit(void *p)
{
	struct waiter *w = p;

	role_pass(w);
	self_waiter = NULL;
	file_call_rcu(&w->rcu, waiter_free_cb);
}

static void waiter_key_make(void)
{
	pthread_key_create(&waiter_key, waiter_thread_exit);
}

struct waiter *waiter_self(void)
{
	static struct waiter spare = { .efd = -1 }; /* no memory: shared, sleeps are then short */
	struct waiter *w = self_waiter;

	if (w)
		return w;
	pthread_once(&waiter_once, waiter_key_make);
	w = calloc(1, sizeof(*w));
	if (!w)
		return &spare;
	w->efd = -1;
	self_waiter = w;
	pthread_setspecific(waiter_key, w);
	return w;
}

/* The doorbell is made at the first sleep. */
static int waiter_fd(struct waiter *w)
{
	if (w->efd < 0)
		w->efd = fd_hide(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	return w->efd;
}

/* System calls here and below: libc's functions are cancellation points, and locks are held. */
static void waiter_bell(struct waiter *w)
{
	static const uint64_t one = 1;

	if (w->efd >= 0)
		(void)!syscall(SYS_write, w->efd, &one, sizeof(one));
}

void waiter_ring(struct waiter *w)
{
	uint32_t sleeping = SLEEPING;

	/* full barrier: pairs worker.sleep - the event was published before we look at the state */
	nst_full_barrier();
	if (__atomic_load_n(&w->state, __ATOMIC_RELAXED) == SLEEPING &&
	    __atomic_compare_exchange_n(&w->state, &sleeping, RUNG, false, __ATOMIC_SEQ_CST,
					__ATOMIC_RELAXED))
		waiter_bell(w);
}

static void waiter_awake(struct waiter *w)
{
	uint64_t n;

	if ((__atomic_exchange_n(&w->state, AWAKE, __ATOMIC_SEQ_CST) == RUNG ||
	     w == &helper_waiter) && w->efd >= 0)
		(void)!syscall(SYS_read, w->efd, &n, sizeof(n));
}

/* --- handlers of the program -------------------------------------------------------------- */

void worker_call_begin(void)
{
	call.began = handlers_run;
}

enum worker_interrupt worker_interrupted(void)
{
	if (handlers_run == call.began)
		return WORKER_UNKNOWN_HANDLER;
	return call.restarts ? WORKER_RESTARTING_HANDLER : WORKER_HANDLER;
}

struct worker_call worker_call_save(void)
{
	struct waiter *w = self_waiter;

	handlers_in++;
	call.sleeps = w && __atomic_load_n(&w->state, __ATOMIC_RELAXED) != AWAKE;
	return call;
}

bool worker_in_handler(void)
{
	return handlers_in > 0;
}

void worker_call_restore(const struct worker_call *c, bool restarts)
{
	int err = errno;

	handlers_in--;
	call = *c;
	if (handlers_run++ == call.began)
		call.restarts = restarts;
	/* it may have come just before the ppoll(), and have slept itself meanwhile */
	if (c->sleeps) {
		__atomic_store_n(&self_waiter->state, RUNG, __ATOMIC_SEQ_CST);
		waiter_bell(self_waiter);
	}
	errno = err;
}

/* --- the lock and commands ---------------------------------------------------------------- */

static void cmds_run(void)
{
	const struct worker_cmd_ops *ops;
	struct worker_cmd *c, *next;
	uint32_t bits;

	while (__atomic_load_n(&worker.cmds, __ATOMIC_RELAXED)) {
		/* acquire: pairs worker.cmds - what the poster wrote */
		c = __atomic_exchange_n(&worker.cmds, NULL, __ATOMIC_ACQ_REL);
		for (; c; c = next) {
			next = c->next;
			ops = c->ops;
			bits = __atomic_exchange_n(&c->bits, 0, __ATOMIC_ACQ_REL);
			ops->run(c, bits);
			ops->done(c, bits);
		}
	}
}

static void helper_wake(void)
{
	if (__atomic_load_n(&helper_deep, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&helper_deep, 0, __ATOMIC_SEQ_CST))
		waiter_ring(&helper_waiter);
}

/* Before the lock is given back: when has somebody to come again at the latest? */
static void deadline_update(void)
{
	uint64_t d = worker.ops ? worker.ops->deadline(worker.st) : UINT64_MAX;

	__atomic_store_n(&worker.deadline, d, __ATOMIC_SEQ_CST);
}

/* A thread that is cancelled while it holds the lock would keep it for ever, and drivers do call
 * functions that are cancellation points. Holding it, a thread can't be cancelled; programs that
 * never cancel a thread do not pay for that. */
static void cancel_hold(void)
{
	if (__builtin_expect(__atomic_load_n(&cancel_used, __ATOMIC_RELAXED), 0)) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_old);
		cancel_held = true;
	}
}

NS_EXPORT int pthread_cancel(pthread_t thread)
{
	if (!__atomic_load_n(&cancel_used, __ATOMIC_RELAXED)) {
		__atomic_store_n(&cancel_used, true, __ATOMIC_SEQ_CST);
		/* whoever took the lock before may not have seen it */
		worker_lock();
		worker_unlock();
	}
	return libc.pthread_cancel(thread);
}

void worker_lock(void)
{
	lock_take(&worker.lock);
	cancel_hold();
	cmds_run();
}

bool worker_trylock(void)
{
	if (!lock_try(&worker.lock))
		return false;
	cancel_hold();
	return true;
}

static void unlock(void)
{
	bool held = cancel_held;
	int old = cancel_old;

	cancel_held = false;
	lock_give(&worker.lock);
	if (held)
		pthread_setcancelstate(old, NULL);
}

void worker_burst(unsigned n)
{
	/* the last event's calls send at once */
	burst_left = n > 1 ? (n > BURST_EVENTS ? BURST_EVENTS : n - 1) * CALLS_PER_EVENT : 0;
	if (burst_left)
		burst_until = worker_now() + BURST_NS;
}

static bool burst_goes_on(void)
{
	if (!burst_left)
		return false;
	burst_left--;
	if (worker_now() >= burst_until)
		burst_left = 0;
	return burst_left > 0;
}

void worker_unlock(void)
{
	uint64_t d;

	do {
		cmds_run();
		if (worker.st) {
			if (!burst_goes_on()) {
				worker.ops->flush(worker.st);
				if (worker.flushed)
					worker.flushed();
			}
			deadline_update();
		}
		unlock();
		/* full barrier: pairs worker.cmds - free the lock, then look for commands */
		nst_full_barrier();
	} while (__atomic_load_n(&worker.cmds, __ATOMIC_RELAXED) && worker_trylock());
	d = __atomic_load_n(&worker.deadline, __ATOMIC_RELAXED);
	if (d != UINT64_MAX && d < __atomic_load_n(&leader_until, __ATOMIC_SEQ_CST))
		helper_wake();
}

void worker_post(struct worker_cmd *c, uint32_t bits)
{
	static uint32_t posts; /* worker lock */
	struct worker_cmd *head;

	if (worker_trylock()) {
		cmds_run();
		c->ops->run(c, bits);
		/* a program that answers a long list of events must not let the ring run full */
		if (++posts % POSTS_ROUND == 0)
			worker_round_locked();
		worker_unlock();
		return;
	}
	__atomic_add_fetch(&worker.contended, 1, __ATOMIC_RELAXED);
	if (__atomic_fetch_or(&c->bits, bits, __ATOMIC_ACQ_REL))
		return; /* queued already; the holder takes these bits too */
	c->ops->hold(c, bits);
	head = __atomic_load_n(&worker.cmds, __ATOMIC_RELAXED);
	do
		c->next = head;
	/* release: pairs worker.cmds - what the command is about */
	while (!__atomic_compare_exchange_n(&worker.cmds, &head, c, true, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED));
	/* full barrier: pairs worker.cmds - push, then try the lock */
	nst_full_barrier();
	if (worker_trylock())
		worker_unlock();
}

uint32_t worker_round_locked(void)
{
	uint32_t n;

	if (!worker.st)
		return 0;
	cmds_run();
	n = worker.ops->poll(worker.st, worker_now());
	__atomic_add_fetch(&worker.rounds, 1, __ATOMIC_RELAXED);
	return n;
}

/* Rounds until one brings something, at most `rounds`, or somebody wants the lock. */
static uint32_t drive(uint32_t rounds)
{
	uint32_t n;

	burst_left = 0;
	if (!worker_running() || !worker_trylock())
		return 0;
	do
		n = worker_round_locked();
	while (!n && --rounds && !__atomic_load_n(&worker.cmds, __ATOMIC_RELAXED));
	worker_unlock();
	return n;
}

void worker_drive(void)
{
	if (!burst_left)
		drive(1);
}

void worker_drive_all(void)
{
	if (burst_left || !worker_running())
		return;
	worker_lock();
	worker_round_locked();
	worker_unlock();
}

void worker_tick(void)
{
	static __thread uint32_t ticks;

	if (++ticks % TICKS_ROUND == 0)
		drive(1);
}

/* --- sleeping ----------------------------------------------------------------------------- */

static void follower_add(struct waiter *w)
{
	w->prev = NULL;
	w->next = followers;
	if (followers)
		followers->prev = w;
	followers = w;
	w->listed = true;
}

static void follower_del(struct waiter *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		followers = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->listed = false;
}

/* True: w is the leader. weak: take the role only if nobody has it, and no place on the list. */
static bool role_take(struct waiter *w, uint64_t until, bool weak)
{
	bool lead;

	lock_take(&sleep_lock);
	lead = !leader || (!weak && leader == &helper_waiter);
	w->asked = false;
	if (lead) {
		__atomic_store_n(&leader, w, __ATOMIC_SEQ_CST);
		__atomic_store_n(&leader_until, until, __ATOMIC_SEQ_CST);
	} else if (!weak) {
		follower_add(w);
	}
	lock_give(&sleep_lock);
	return lead;
}

/* Nobody leads: the next one is asked, if there is one. Under sleep_lock. */
static bool heir_ring(void)
{
	if (!followers)
		return false;
	followers->asked = true;
	waiter_ring(followers);
	return true;
}

static void role_leave(struct waiter *w)
{
	bool led, heir = false;

	lock_take(&sleep_lock);
	if (w->listed)
		follower_del(w);
	led = leader == w;
	if (led) {
		if (worker.disarm)
			worker.disarm();
		__atomic_store_n(&leader, NULL, __ATOMIC_SEQ_CST);
		__atomic_store_n(&leader_until, UINT64_MAX, __ATOMIC_SEQ_CST);
		heir = heir_ring();
	}
	lock_give(&sleep_lock);
	if (led && !heir && w != &helper_waiter)
		helper_wake();
}

/* w waits no longer. If it was asked to lead, and nobody does by now, it is somebody else's turn. */
static void role_pass(struct waiter *w)
{
	bool vacant, heir;

	if (__builtin_expect(!w->asked, 1))
		return;
	lock_take(&sleep_lock);
	w->asked = false;
	vacant = !leader;
	heir = vacant && heir_ring();
	lock_give(&sleep_lock);
	if (vacant && !heir)
		helper_wake();
}

static const struct timespec *remaining(uint64_t deadline, struct timespec *ts)
{
	uint64_t now, left;

	if (deadline == UINT64_MAX)
		return NULL;
	now = worker_now();
	left = deadline > now ? deadline - now : 0;
	ts->tv_sec = (time_t)(left / 1000000000ull);
	ts->tv_nsec = (long)(left % 1000000000ull);
	return ts;
}

/* Room for n, kept for the next time (so a cancelled thread loses none of it). */
static struct pollfd *waiter_fds(struct waiter *w, unsigned n)
{
	struct pollfd *p;

	if (n <= w->nfds)
		return w->fds;
	p = w == self_waiter || w == &helper_waiter ? realloc(w->fds, n * sizeof(*p)) : NULL;
	if (p) {
		w->fds = p;
		w->nfds = n;
	}
	return p;
}

/* One ppoll on the doorbell, the caller's descriptors and, for the leader, the HAL's. Returns how
 * many of kfds have events, or -errno. */
static int sleep_poll(struct waiter *w, struct pollfd *kfds, unsigned nk, bool lead,
		      uint64_t deadline, const sigset_t *sigmask)
{
	struct pollfd few[POLL_STACK], *p = few;
	unsigned n = 0, total = 1 + nk + (lead ? worker.nfds : 0);
	struct timespec ts;
	int r, hits = 0;

	if (total > POLL_STACK) {
		p = waiter_fds(w, total);
		if (!p)
			return -ENOMEM;
	}
	p[n++] = (struct pollfd){ .fd = waiter_fd(w), .events = POLLIN };
	if (nk)
		memcpy(p + n, kfds, nk * sizeof(*kfds));
	n += nk;
	for (uint32_t i = 0; lead && i < worker.nfds; i++)
		p[n++] = (struct pollfd){ .fd = worker.fds[i], .events = POLLIN };
	r = libc.ppoll(p, n, remaining(deadline, &ts), sigmask);
	if (r < 0)
		r = -errno;
	for (unsigned i = 0; r > 0 && i < nk; i++) {
		kfds[i].revents = p[1 + i].revents;
		hits += !!kfds[i].revents;
	}
	return r < 0 ? r : hits;
}

/* Look at the kernel descriptors without waiting; also takes signals that sigmask lets in. */
static int look(struct pollfd *kfds, unsigned nk, const sigset_t *sigmask)
{
	static const struct timespec zero;
	int r;

	if (!nk && !sigmask)
		return 0;
	r = libc.ppoll(kfds, nk, &zero, sigmask);
	return r < 0 ? -errno : r;
}

static void sleep_end(struct waiter *w)
{
	waiter_awake(w);
	role_leave(w); /* without a running stack there is nothing to leave */
}

static void sleep_cancelled(void *arg)
{
	sleep_end(arg);
	role_pass(arg);
}

static int sleep_tidily(struct waiter *w, struct pollfd *kfds, unsigned nk, bool lead,
			uint64_t until, const sigset_t *sigmask)
{
	struct _pthread_cleanup_buffer undo;
	int r;

	cleanup_push(&undo, sleep_cancelled, w);
	r = sleep_poll(w, kfds, nk, lead, until, sigmask);
	cleanup_pop(&undo);
	return r;
}

static int sleep_once(struct waiter *w, struct pollfd *kfds, unsigned nk, uint64_t deadline,
		      const sigset_t *sigmask, bool (*ready)(void *arg), void *arg)
{
	uint64_t until = deadline, stack_due;
	bool lead = false;
	int r = 0;

	if (waiter_fd(w) < 0) /* no descriptor left: sleep in small pieces */
		until = worker_now() + 1000000;
	/* seq_cst: pairs worker.sleep - say that we sleep, then look again */
	__atomic_store_n(&w->state, SLEEPING, __ATOMIC_SEQ_CST);
	nst_full_barrier();
	if (worker_running()) {
		stack_due = __atomic_load_n(&worker.deadline, __ATOMIC_SEQ_CST);
		lead = role_take(w, stack_due < until ? stack_due : until, false);
		if (lead && stack_due < until)
			until = stack_due;
	}
	if (!ready(arg) && handlers_run == call.began && (!lead || !worker.arm || worker.arm()))
		r = sleep_tidily(w, kfds, nk, lead, until, sigmask);
	sleep_end(w);
	return r;
}

/* Spinning pays off where the next thing comes sooner than a sleep would have ended: the time grows with each
 * wait that was so short, and is nothing after a longer one. */
static void spin_adapt(uint64_t waited)
{
	if (waited > 2 * worker.spin_max_ns)
		worker.spin_ns = 0;
	else if (!worker.spin_ns)
		worker.spin_ns = worker.spin_max_ns / SPIN_STEPS;
	else if (2 * worker.spin_ns <= worker.spin_max_ns)
		worker.spin_ns *= 2;
	else
		worker.spin_ns = worker.spin_max_ns;
}

static int wait_for(struct waiter *w, struct pollfd *kfds, unsigned nk, uint64_t deadline_ns,
		    const sigset_t *sigmask, bool (*ready)(void *arg), void *arg)
{
	uint64_t spin_end = 0, look_at = 0, idle_since = 0, now, spin;
	uint32_t rounds = 1;
	int r;

	for (;;) {
		if (drive(rounds) && worker.spin_again)
			spin_end = idle_since = 0;
		if (ready(arg))
			return 1;
		if (deadline_ns == 0) {
			r = look(kfds, nk, sigmask);
			return r > 0 ? 1 : r;
		}
		if (handlers_run != call.began) { /* what is ready comes first, as in Linux */
			r = look(kfds, nk, NULL);
			return r > 0 ? 1 : -EINTR;
		}
		now = worker_now();
		if (!idle_since)
			idle_since = now;
		spin = __atomic_load_n(&worker.spin_ns, __ATOMIC_RELAXED);
		if (spin && worker_running()) {
			if (!spin_end)
				spin_end = now + spin;
			if (now < spin_end && now < deadline_ns) {
				rounds = SPIN_ROUNDS;
				if (now >= look_at) {
					look_at = now + SPIN_LOOK_NS;
					r = look(kfds, nk, sigmask);
					if (r)
						return r > 0 ? 1 : r;
				}
				continue;
			}
		}
		if (now >= deadline_ns) {
			r = look(kfds, nk, sigmask);
			return r > 0 ? 1 : r;
		}
		r = sleep_once(w, kfds, nk, deadline_ns, sigmask, ready, arg);
		if (worker.spin_max_ns)
			spin_adapt(worker_now() - idle_since);
		if (r)
			return r > 0 || ready(arg) ? 1 : r;
	}
}

int worker_wait(struct waiter *w, struct pollfd *kfds, unsigned nk, uint64_t deadline_ns,
		const sigset_t *sigmask, bool (*ready)(void *arg), void *arg)
{
	int r = wait_for(w, kfds, nk, deadline_ns, sigmask, ready, arg);

	role_pass(w);
	return r;
}

/* --- the helper thread ---------------------------------------------------------------------- */

/* Sleep until `until`, on the own bell, the served descriptors and, leading, the HAL's. */
static bool helper_sleep(uint64_t until, bool lead)
{
	struct pollfd k[WORKER_HELPER_FDS];
	uint32_t n = __atomic_load_n(&worker.nhelper_fds, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < n; i++)
		k[i] = (struct pollfd){ .fd = worker.helper_fds[i], .events = POLLIN };
	return sleep_poll(&helper_waiter, k, n, lead, until, NULL) > 0;
}

/* Nothing was going on for a while. Leads if nobody does; true: somebody wants service. */
static bool helper_deep_sleep(void)
{
	uint64_t due = __atomic_load_n(&worker.deadline, __ATOMIC_SEQ_CST);
	uint64_t retry = __atomic_load_n(&worker.retry_at, __ATOMIC_SEQ_CST);
	bool lead, served = false;

	__atomic_store_n(&helper_waiter.state, SLEEPING, __ATOMIC_SEQ_CST);
	__atomic_store_n(&helper_deep, 1, __ATOMIC_SEQ_CST);
	lead = role_take(&helper_waiter, due, true);
	/* seq_cst: announced, then looked again: whoever made the deadline earlier since either
	 * sees helper_deep or is seen here; the same for a leader that left */
	if (due == __atomic_load_n(&worker.deadline, __ATOMIC_SEQ_CST) &&
	    (lead || __atomic_load_n(&leader, __ATOMIC_SEQ_CST)) &&
	    __atomic_load_n(&helper_deep, __ATOMIC_SEQ_CST) && (!lead || !worker.arm || worker.arm()))
		served = helper_sleep(retry && retry < due ? retry : due, lead);
	__atomic_store_n(&helper_deep, 0, __ATOMIC_SEQ_CST);
	waiter_awake(&helper_waiter);
	role_leave(&helper_waiter);
	return served;
}

static void helper_run_errand(void)
{
	/* acquire: pairs worker.errand */
	void (*fn)(void) = __atomic_exchange_n(&helper_errand, NULL, __ATOMIC_ACQUIRE);

	if (fn)
		fn();
}

static void *helper_main(void *arg)
{
	uint64_t rounds = 0, active = worker_now(), swept = active, now, r;
	void (*service)(void), (*sweep)(void), (*retry)(void);
	bool served;

	pthread_setname_np(pthread_self(), "nstack-helper");
	while (!__atomic_load_n(&helper_stop, __ATOMIC_ACQUIRE)) {
		helper_run_errand();
		now = worker_now();
		r = __atomic_load_n(&worker.rounds, __ATOMIC_RELAXED);
		if (r != rounds)
			active = now;
		/* nobody has driven since the last tick and nobody is about to: do it */
		if ((r == rounds && !__atomic_load_n(&leader, __ATOMIC_SEQ_CST)) ||
		    now >= __atomic_load_n(&worker.deadline, __ATOMIC_SEQ_CST)) {
			if (drive(1))
				active = now;
			r = __atomic_load_n(&worker.rounds, __ATOMIC_RELAXED);
		}
		rounds = r;
		worker.ticks++;
		if (now - active < ACTIVE_NS) {
			__atomic_store_n(&helper_waiter.state, SLEEPING, __ATOMIC_SEQ_CST);
			served = helper_sleep(now + TICK_NS, false);
			waiter_awake(&helper_waiter);
		} else {
			served = helper_deep_sleep();
			active = worker_now();
		}
		/* acquire: pairs worker.service */
		service = __atomic_load_n(&worker.helper_service, __ATOMIC_ACQUIRE);
		if (served && service)
			service();
		sweep = __atomic_load_n(&worker.helper_sweep, __ATOMIC_ACQUIRE);
		if (now - swept >= SWEEP_NS && sweep) {
			swept = now;
			sweep();
		}
		now = __atomic_load_n(&worker.retry_at, __ATOMIC_SEQ_CST);
		retry = __atomic_load_n(&worker.helper_retry, __ATOMIC_ACQUIRE);
		if (now && worker_now() >= now && retry) {
			__atomic_store_n(&worker.retry_at, 0, __ATOMIC_SEQ_CST);
			retry();
		}
	}
	return NULL;
}

int worker_helper_start(void)
{
	sigset_t all, old;
	int err;

	__atomic_store_n(&helper_stop, false, __ATOMIC_RELEASE);
	if (waiter_fd(&helper_waiter) < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&worker.helper, NULL, helper_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	worker.helper_made = err == 0;
	return -err;
}

bool worker_helper_call(void (*fn)(void))
{
	if (!worker.helper_made)
		return false;
	/* release: pairs worker.errand - what fn() is to see */
	__atomic_store_n(&helper_errand, fn, __ATOMIC_RELEASE);
	waiter_bell(&helper_waiter);
	return true;
}

void worker_retry_at(uint64_t when_ns)
{
	uint64_t old = __atomic_load_n(&worker.retry_at, __ATOMIC_SEQ_CST);

	do {
		if (old && old <= when_ns)
			return;
	} while (!__atomic_compare_exchange_n(&worker.retry_at, &old, when_ns, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	waiter_bell(&helper_waiter);
}

void worker_helper_fd(int fd)
{
	uint32_t n = worker.nhelper_fds;

	for (uint32_t i = 0; i < n; i++)
		if (worker.helper_fds[i] == fd)
			return;
	if (n == sizeof(worker.helper_fds) / sizeof(worker.helper_fds[0]))
		return;
	worker.helper_fds[n] = fd;
	__atomic_store_n(&worker.nhelper_fds, n + 1, __ATOMIC_RELEASE);
	waiter_bell(&helper_waiter);
}

void worker_helper_stop(void)
{
	if (!worker.helper_made)
		return;
	__atomic_store_n(&helper_stop, true, __ATOMIC_RELEASE);
	waiter_bell(&helper_waiter);
	pthread_join(worker.helper, NULL);
	worker.helper_made = false;
}

/* --- fork ----------------------------------------------------------------------------------- */

void worker_after_fork_child(void)
{
	pthread_mutex_init(&worker.lock, NULL);
	pthread_mutex_init(&worker.start_lock, NULL);
	pthread_mutex_init(&sleep_lock, NULL);
	worker.state = WORKER_NONE;
	worker.cmds = NULL;
	worker.st = NULL;
	worker.ops = NULL;
	worker.nfds = 0;
	worker.arm = NULL;
	worker.disarm = NULL;
	worker.flushed = NULL;
	worker.nports = 0;
	worker.nhelper_fds = 0;
	worker.retry_at = 0;
	worker.deadline = UINT64_MAX;
	worker.helper_made = false;
	helper_errand = NULL;
	leader = followers = NULL;
	leader_until = UINT64_MAX;
	helper_deep = 0;
	helper_waiter = (struct waiter){ .efd = -1 };
	if (self_waiter) {
		self_waiter->efd = -1;
		self_waiter->state = AWAKE;
		self_waiter->listed = false;
		self_waiter->asked = false;
	}
}
