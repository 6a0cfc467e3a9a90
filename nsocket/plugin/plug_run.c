/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plug_run.c - stacks that run to completion, and what programs and stacks call by name
 *
 * Such a stack works only while somebody calls it: its own loop in nstack_run(), or its ep_prewait. Where
 * the program is in no nstack_run(), a thread does that as long as the stack has sockets: at once again
 * while events come, else after a pause that grows to PAUSE_MAX_NS. In a loop that waits for events, the
 * waiting thread does it. So the limits that the manual gives (no time-outs, nstack_epoll_prewait() before
 * epoll_wait()) do not hold here; both go on to work.
 *
 * Threads: any; a stack's run() may call the loop in threads of its own. The driver thread has all signals
 * blocked.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/plugin.h"

#include <nsocket/init.h>
#include <nstack/dmm_app.h>
#include <rd/log.h>
#include <signal.h>
#include <time.h>

#define PAUSE_MIN_NS 50000
#define PAUSE_MAX_NS 1000000
#define LOOP_PAUSE_NS 200000

static __thread bool in_loop;
static uint32_t running;        /* atomic: threads that are in a stack's run() */
static bool driving;            /* drive_lock: the thread is there */
static uint32_t events_seen;    /* atomic: counts reported events, roughly */
static pthread_mutex_t drive_lock = PTHREAD_MUTEX_INITIALIZER;

bool plug_in_loop(void)
{
	return in_loop;
}

/* The stack whose run() nstack_run() calls; NULL: none has one. */
static struct plug_module *runner(void)
{
	struct plug_module *m;

	for (uint32_t i = 0; (m = plug_at(i)); i++)
		if (m->usable && m->cb.extern_ops.run)
			return m;
	return NULL;
}

/* Does a thread of its own run() do the stack's work? */
static bool runs_itself(const struct plug_module *m)
{
	return __atomic_load_n(&running, __ATOMIC_RELAXED) && m == runner();
}

/* in_run: also while a thread is in its run(), which is not at work then; else that does what is to do. */
static void work(struct plug_module *m, bool in_run)
{
	if (!m->cb.extern_ops.ep_prewait || !m->usable)
		return;
	plug_enter(m);
	if (in_run || !runs_itself(m)) /* asked under the lock: see nstack_run() */
		m->cb.extern_ops.ep_prewait();
	plug_leave(m);
}

void plug_work(struct plug_module *m)
{
	work(m, in_loop);
}

/* Has one of them sockets? */
static bool work_all(bool in_run)
{
	struct plug_module *m;
	bool any = false;

	for (uint32_t i = 0; (m = plug_at(i)); i++) {
		if (!m->serial || !__atomic_load_n(&m->sockets, __ATOMIC_RELAXED))
			continue;
		any = true;
		work(m, in_run);
	}
	return any;
}

/* --- the driver ------------------------------------------------------------------------------- */

static bool drive_on(void)
{
	bool on = work_all(false);

	if (on)
		return true;
	lock_take(&drive_lock);
	driving = on = work_all(false); /* a socket that comes after this look starts it again */
	lock_give(&drive_lock);
	return on;
}

static void *drive(void *arg)
{
	struct timespec pause = { .tv_nsec = PAUSE_MIN_NS };
	uint32_t seen = 0, now;

	pthread_setname_np(pthread_self(), "nstack-plug");
	while (drive_on()) {
		now = __atomic_load_n(&events_seen, __ATOMIC_RELAXED);
		if (now != seen)
			pause.tv_nsec = PAUSE_MIN_NS;
		else if (pause.tv_nsec < PAUSE_MAX_NS)
			pause.tv_nsec *= 2;
		seen = now;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

void plug_drive(struct plug_module *m)
{
	sigset_t all, old;
	pthread_t thread;

	if (!m->cb.extern_ops.ep_prewait || runs_itself(m))
		return;
	lock_take(&drive_lock);
	if (!driving) {
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &old);
		driving = pthread_create(&thread, NULL, drive, NULL) == 0;
		if (driving)
			pthread_detach(thread);
		else
			ns_log(NS_ERR, NS_M_NSOCKET, "no thread for stack \"%s\": %m", m->conf->name);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	lock_give(&drive_lock);
}

void plug_event_seen(void)
{
	__atomic_add_fetch(&events_seen, 1, __ATOMIC_RELAXED);
}

void plug_run_fork_child(void)
{
	pthread_mutex_init(&drive_lock, NULL);
	driving = false;
	running = in_loop;
}

/* --- what programs call ----------------------------------------------------------------------- */

uint64_t plug_prewait(int epfd)
{
	uint64_t again = UINT64_MAX;
	struct plug_module *m;

	for (uint32_t i = 0; (m = plug_at(i)); i++) {
		if (!m->usable || !__atomic_load_n(&m->sockets, __ATOMIC_RELAXED))
			continue;
		if (epfd >= 0)
			PLUG_CALL_OR(m, extern_ops.ep_prewait_proc, 0, epfd);
		plug_work(m);
		if (m->serial && in_loop)
			again = worker_now() + LOOP_PAUSE_NS;
	}
	return again;
}

NSTACK_API int nstack_epoll_prewait(void)
{
	plug_load();
	work_all(in_loop);
	return 0;
}

typedef int loop_fn(void *arg);
static __thread loop_fn *loop; /* of the thread's nstack_run(); NULL: it is the stack's own thread */
static loop_fn *last_loop;     /* atomic: for those, written by nstack_run() */

/* One turn of the program, with the work of the stacks whose run() it is not in. */
static int turn(void *arg)
{
	/* acquire: pairs run.loop - of a thread that the stack may have had before */
	loop_fn *fun = loop ? loop : __atomic_load_n(&last_loop, __ATOMIC_ACQUIRE);
	struct plug_module *m, *mine = runner();
	int r;

	for (uint32_t i = 0; (m = plug_at(i)); i++)
		if (m != mine && m->serial)
			work(m, true);
	in_loop = mine != NULL;
	r = fun(arg);
	in_loop = false;
	return r;
}

NSTACK_API int nstack_run(void *fun)
{
	loop_fn *outer = loop;
	struct plug_module *m;
	int r;

	if (!fun) {
		errno = EINVAL;
		return -1;
	}
	plug_load();
	loop = (loop_fn *)fun;
	m = runner();
	while (!m)
		turn(NULL);
	/* release: pairs run.loop */
	__atomic_store_n(&last_loop, loop, __ATOMIC_RELEASE);
	__atomic_add_fetch(&running, 1, __ATOMIC_RELAXED);
	plug_enter(m); /* the driver that did not see that is through */
	plug_leave(m);
	r = m->cb.extern_ops.run((void *)turn);
	__atomic_sub_fetch(&running, 1, __ATOMIC_RELAXED);
	loop = outer;
	return r;
}

/* --- what stacks call ------------------------------------------------------------------------- */

NSTACK_API int nstack_event_callback(void *pdata, int events)
{
	return plug_event(pdata, events);
}

/* A record whose socket is closed goes when its stack says so, if that was agreed on. */
NSTACK_API int nsep_force_epinfo_free(void *pdata)
{
	struct plug_sock *p = plug_of_pdata(pdata);
	uint8_t closed = PLUG_CLOSED;

	if (!p)
		return 0;
	if (!p->m->conf->ep_free_ref ||
	    !__atomic_compare_exchange_n(&p->state, &closed, PLUG_FREE, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED)) {
		__atomic_add_fetch(&p->m->refused, 1, __ATOMIC_RELAXED);
		return 0;
	}
	plug_sock_free(p);
	return 1;
}

/* Members of epoll sets and the sets are no memory that stacks share. */
static int not_shared(void *pdata)
{
	struct plug_sock *p = plug_of_pdata(pdata);

	if (p)
		__atomic_add_fetch(&p->m->refused, 1, __ATOMIC_RELAXED);
	return 0;
}

NSTACK_API int nsep_force_epitem_free(void *pdata)
{
	return not_shared(pdata);
}

NSTACK_API int nsep_force_epevent_free(void *pdata)
{
	return not_shared(pdata);
}
