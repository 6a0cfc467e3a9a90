/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/attach.c - served by nstackd instead of a stack in the process
 *
 * The worker then is a connection to the daemon (stacks/remote): no interfaces, no steering tables, no
 * privilege. When the daemon ends, connections answer ECONNRESET, listeners and UDP sockets go on by their
 * shadows, and the helper looks for a daemon until there is one again; then they are its.
 *
 * A connection to a daemon that has ended is not freed before the next one ends: a thread that was asleep
 * then may just be about to look at it.
 *
 * Threads: as said in attach.h; attach_gone() under the worker lock, arm() and disarm() in the leader.
 */
#define _GNU_SOURCE
#include "nsocket/attach.h"

#include <nsocket/handover.h>
#include <nsocket/sock.h>
#include <nsocket/yield.h>
#include <rd/config.h>
#include <rd/alarm.h>
#include <rd/log.h>
#include <stacks/remote/remote.h>

#define LOOK_NS 200000000ull /* how often a daemon is looked for */

static bool used;
/* Atomic; by the leader, taken by the helper: some connections are to be the kernel's, or all are, because the
 * daemon is about to end. */
static bool wanted, leaves;
static struct stack *former;          /* start_lock */
static struct shm_region *lost_region; /* its sockets are to be told; NULL: none. Helper and start_lock */

bool attach_used(void)
{
	return used;
}

pid_t attach_daemon(void)
{
	return used && worker_running() ? remote_pid(worker.st) : 0;
}

static bool arm(void)
{
	return remote_arm(worker.st);
}

static void disarm(void)
{
	remote_disarm(worker.st);
}

/* What moves, the helper moves. Relaxed: nothing goes with it. */
static void attach_wants_kernel(struct stack_env *env, struct shm_session *s)
{
	if (s && s->user && !(s->user & 1))
		__atomic_store_n(&((struct nsock *)(uintptr_t)s->user)->shared, true, __ATOMIC_RELAXED);
	else if (!s)
		__atomic_store_n(&leaves, true, __ATOMIC_RELAXED);
	__atomic_store_n(&wanted, true, __ATOMIC_RELAXED);
	worker_retry_at(worker_now());
}

static void attach_gone(struct stack_env *env)
{
	worker.nfds = 0;
	/* release: pairs worker.run */
	__atomic_store_n(&worker.state, WORKER_LOST, __ATOMIC_RELEASE);
	ns_log(NS_WAR, NS_M_NSOCKET, "nstackd is gone: its connections are reset, the kernel serves new ones");
	worker_retry_at(worker_now());
}

/* worker.st is another one until take(), and may be in use. */
static int dial(struct stack **st, struct shm_region **region, char why[256])
{
	worker.env.event = nsock_stack_event;
	worker.env.gone = attach_gone;
	worker.env.wants_kernel = attach_wants_kernel;
	return remote_attach(st, &worker.env, region, yield_image(), why);
}

static void take(struct stack *st, struct shm_region *region)
{
	used = true;
	worker.region = worker.env.region = region;
	worker.ops = &remote_stack_ops;
	worker.st = st;
	worker.nfds = remote_fds(st, worker.fds);
	worker.arm = arm;
	worker.disarm = disarm;
	worker.spin_ns = (uint64_t)rd_config()->spin_us * 1000;
	worker.started_ns = worker_now();
	ns_log(NS_INF, NS_M_NSOCKET, "served by nstackd (%d)", (int)remote_pid(st));
	ns_alarm_clear(NS_ALARM_NO_STACK);
}

int attach_start(char why[256])
{
	struct shm_region *region;
	struct stack *st;
	int err = dial(&st, &region, why);

	if (!err)
		take(st, region);
	return err;
}

/* --- what the kernel is to have ----------------------------------------------------------------- */

static bool is_stream(struct nsock *ns, int fd)
{
	return nsock_mode(ns) == SK_STREAM && !ns->remote; /* a child's is moved by the parent */
}

static bool is_shared(struct nsock *ns, int fd)
{
	return __atomic_exchange_n(&ns->shared, false, __ATOMIC_RELAXED);
}

static void queue_keep(struct nsock *ns)
{
	if (nsock_mode(ns) == SK_LISTEN && nsock_session(ns))
		yield_keep(ns);
}

static void connections_leave(void)
{
	ns_log(NS_INF, NS_M_NSOCKET, "nstackd is about to end: the kernel goes on with its connections");
	nsock_handover_each(is_stream, SR_daemon_ends);
	share_leave_all();
	nsock_each(queue_keep);
}

/* --- the daemon has ended ----------------------------------------------------------------------- */

/* As if every peer had sent a reset. What the stack writes else is ours to write now. */
static void stream_lost(struct nsock *ns, struct shm_session *s)
{
	__atomic_store_n(&s->error, ECONNRESET, __ATOMIC_RELAXED); /* relaxed: state follows */
	__atomic_fetch_or(&s->stack_flags, SHM_SF_RX_EOF | SHM_SF_TX_DEAD | SHM_SF_RESET, __ATOMIC_RELEASE);
	shm_session_set_state(s, SHM_S_CLOSED);
	__atomic_store_n(&s->tx_nospace, 0, __ATOMIC_RELEASE);
	nsock_wake(ns, STACK_EV_IN | STACK_EV_OUT | STACK_EV_RDHUP | STACK_EV_HUP | STACK_EV_ERR);
}

/* The kernel's half goes on alone, until the port is ours again. */
static void shadow_serves(struct nsock *ns)
{
	lock_take(&ns->lock);
	worker_lock();
	nsock_session_drop_locked(ns, -1);
	worker_unlock();
	if (nsock_mode(ns) == SK_DGRAM)
		nsock_set_mode(ns, SK_NEW);
	ns->rejected = true;
	nsock_reason(ns, SR_stack_not_running);
	nsock_retry_later(ns);
	lock_give(&ns->lock);
	watch_notify(&ns->f, NSOCK_EV_REWATCH);
	nsock_wake(ns, STACK_EV_IN | STACK_EV_OUT);
}

static void socket_lost(struct nsock *ns)
{
	struct shm_session *s = nsock_session(ns);

	if (!s || ns->remote || !shm_region_has(lost_region, s))
		return;
	if (nsock_mode(ns) == SK_STREAM)
		stream_lost(ns, s);
	else
		shadow_serves(ns);
}

static void look_again(void)
{
	struct stack *old = worker.st, *new;
	struct shm_region *region;
	char why[256];

	/* without the lock: a daemon that is just being started may take its time, and the program goes on */
	if (dial(&new, &region, why)) {
		worker_retry_at(worker_now() + LOOK_NS);
		return;
	}
	worker_lock();
	take(new, region);
	/* release: pairs worker.run */
	__atomic_store_n(&worker.state, WORKER_RUNNING, __ATOMIC_RELEASE);
	worker_unlock();
	if (former)
		remote_detach(former);
	former = old;
}

void attach_retry(void)
{
	if (__atomic_exchange_n(&wanted, false, __ATOMIC_RELAXED))
		nsock_handover_each(is_shared, SR_forked);
	if (__atomic_exchange_n(&leaves, false, __ATOMIC_RELAXED))
		connections_leave();
	lock_take(&worker.start_lock);
	if (__atomic_load_n(&worker.state, __ATOMIC_ACQUIRE) == WORKER_LOST) {
		if (worker.region != lost_region) {
			lost_region = worker.region;
			nsock_each(socket_lost);
			ns_alarm_raise(NS_ALARM_NO_STACK, "nstackd has ended: the kernel serves until there is one");
		}
		look_again();
	}
	lock_give(&worker.start_lock);
}

void attach_after_fork_child(void)
{
	used = leaves = wanted = false;
	former = NULL;
	lost_region = NULL;
}
