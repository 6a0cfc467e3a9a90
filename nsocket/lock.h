/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/lock.h - the library's mutexes, which keep the program's signal handlers out
 *
 * A handler may do in the middle of a call of ours what the kernel would let it do in the middle of its
 * own: send, accept, fork (PostgreSQL's postmaster does all of its work in handlers). In a thread that
 * holds one of our locks that would be a dead end. So such a handler waits until the thread has given
 * back its last one (sig.c). Nobody waits for anything but another lock while he holds one, so that is
 * soon.
 *
 * Threads: any.
 */
#ifndef NSOCKET_LOCK_H
#define NSOCKET_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Of the calling thread; volatile: handlers interrupt the code that looks at it. */
struct lock_state {
	volatile uint32_t held;     /* how many locks */
	volatile uint64_t deferred; /* bits: signals blocked and queued again until there are none */
};
extern __thread struct lock_state lock_state;

/* Let them come. */
void lock_deliver(void);

static inline void lock_take(pthread_mutex_t *m)
{
	lock_state.held++;
	pthread_mutex_lock(m);
}

static inline void lock_give(pthread_mutex_t *m)
{
	pthread_mutex_unlock(m);
	if (--lock_state.held == 0 && __builtin_expect(lock_state.deferred != 0, 0))
		lock_deliver();
}

/* Not had, after all. */
static inline bool lock_missed(void)
{
	if (--lock_state.held == 0 && __builtin_expect(lock_state.deferred != 0, 0))
		lock_deliver();
	return false;
}

static inline bool lock_try(pthread_mutex_t *m)
{
	lock_state.held++;
	return pthread_mutex_trylock(m) == 0 || lock_missed();
}

/* until: CLOCK_MONOTONIC */
static inline bool lock_take_until(pthread_mutex_t *m, const struct timespec *until)
{
	lock_state.held++;
	return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, until) == 0 || lock_missed();
}

/* In a child, where every lock is new: what came while its parent forked is the parent's. */
static inline void lock_fork_child(void)
{
	lock_state.held = 0;
	if (lock_state.deferred)
		lock_deliver();
}

#endif
