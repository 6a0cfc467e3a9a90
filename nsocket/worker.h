/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/worker.h - who runs the stack, and how threads wait
 *
 * A process has at most one worker: a stack object over all ports, guarded by the worker lock.
 * There is no dedicated thread: a thread that waits drives the stack itself (so data needs no
 * hand-over between cores), and a helper thread ticks while there is activity but nobody waits.
 * A thread that finds the lock busy leaves its request in the command queue, which the holder
 * drains before and re-checks after it unlocks.
 *
 * Sleeping: one of the sleepers (the leader) sleeps on the HAL's descriptors and until the
 * stack's deadline, the others on their doorbells only; a leader that leaves passes the role on.
 *
 * Ordering: worker.sleep (a waiter announces SLEEPING, then looks again; a ringer publishes the
 * event, then looks for SLEEPING): no wake-up is lost.
 */
#ifndef NSOCKET_WORKER_H
#define NSOCKET_WORKER_H

#include <nstack/stack.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* A place to sleep: one per waiting thread (kept in TLS, so its eventfd is made once) or one per
 * epoll set that several threads wait on. */
struct waiter;
struct waiter *waiter_self(void); /* the calling thread's */
/* Wake it if it sleeps; costs no system call if it is awake. Any thread, any context. */
void waiter_ring(struct waiter *w);

/* Wait until ready(arg) is true. Drives the stack, spins for the configured time, then sleeps on
 * the stack's descriptors, the waiter's doorbell and kfds[0..nk) (kernel descriptors: their
 * revents are filled in when one of them ends the wait). ready() is called without any lock held.
 * deadline_ns: CLOCK_MONOTONIC, 0 = do not wait (one round of driving), UINT64_MAX = for ever.
 * sigmask: as for ppoll, NULL = leave. Returns 1 (ready or a kfd has events), 0 (deadline),
 * -EINTR. */
int worker_wait(struct waiter *w, struct pollfd *kfds, unsigned nk, uint64_t deadline_ns,
		const sigset_t *sigmask, bool (*ready)(void *arg), void *arg);

/* A call of the program begins: a handler that runs in this thread from here on ends its waits with
 * -EINTR, also when it runs between two sleeps, where ppoll() does not notice. */
void worker_call_begin(void);
enum worker_interrupt {
	WORKER_UNKNOWN_HANDLER, /* none that is known: then ppoll() said so */
	WORKER_HANDLER,
	WORKER_RESTARTING_HANDLER, /* the first one that ran has SA_RESTART */
};
/* By what was the call interrupted? */
enum worker_interrupt worker_interrupted(void);
/* Around a handler, in its thread: what it calls is a call of its own; the one that it interrupted
 * is to end. */
struct worker_call {
	uint32_t began;
	bool restarts, sleeps;
};
struct worker_call worker_call_save(void);
void worker_call_restore(const struct worker_call *c, bool restarts);
/* May the calling thread be in a handler, and so perhaps in a call of ours below it? */
bool worker_in_handler(void);

/* One bounded round of driving if the lock is free; cheap. Nothing during a burst. */
void worker_drive(void);
/* The same, after whoever has the lock: what had arrived when it is called is dealt with when it returns. */
void worker_drive_all(void);

/* The calling thread was handed n events and is about to deal with them one by one. What it sends
 * meanwhile leaves together: after a few calls per event, when it waits again, or after a bounded
 * time, whichever comes first. A system call that starts transmission is worth several frames. */
void worker_burst(unsigned n);

uint64_t worker_now(void); /* CLOCK_MONOTONIC, ns */

#endif
