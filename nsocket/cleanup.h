/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/cleanup.h - cancellation, and what to undo if a waiting call does not return
 *
 * A thread may leave a call in its sleep: it is cancelled, or a signal handler jumps out of it
 * (siglongjmp). In both cases libc calls what was pushed here and belongs to frames that go. The
 * older pair of functions behind pthread_cleanup_push() is the one that longjmp() knows about, too;
 * it also needs no setjmp().
 */
#ifndef NSOCKET_CLEANUP_H
#define NSOCKET_CLEANUP_H

#include <pthread.h>
#include <stdbool.h>

void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buf, void (*fn)(void *), void *arg);
void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buf, int run);

/* buf lives in the caller's frame, until cleanup_pop(). */
static inline void cleanup_push(struct _pthread_cleanup_buffer *buf, void (*fn)(void *), void *arg)
{
	_pthread_cleanup_push(buf, fn, arg);
}

static inline void cleanup_pop(struct _pthread_cleanup_buffer *buf)
{
	_pthread_cleanup_pop(buf, 0);
}

/* Has the program cancelled a thread? Atomic, set for good by pthread_cancel() (worker.c). */
extern bool cancel_used;

/* The beginning of a call that is a cancellation point: it is one also when it need not wait. Nothing
 * is held yet. */
static inline void cancel_point(void)
{
	if (__builtin_expect(__atomic_load_n(&cancel_used, __ATOMIC_RELAXED), 0))
		pthread_testcancel();
}

/* Around a call that is none, whatever it waits in. */
struct cancel_off {
	struct _pthread_cleanup_buffer undo;
	int old;
};

static inline void cancel_restore(void *old)
{
	pthread_setcancelstate(*(int *)old, NULL);
}

static inline void cancel_off(struct cancel_off *c)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c->old);
	cleanup_push(&c->undo, cancel_restore, &c->old);
}

static inline void cancel_on(struct cancel_off *c)
{
	_pthread_cleanup_pop(&c->undo, 1);
}

#endif
