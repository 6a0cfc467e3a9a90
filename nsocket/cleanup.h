/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/cleanup.h - what to undo if a waiting call does not return
 *
 * A thread may leave a call in its sleep: it is cancelled, or a signal handler jumps out of it
 * (siglongjmp). In both cases libc calls what was pushed here and belongs to frames that go. The
 * older pair of functions behind pthread_cleanup_push() is the one that longjmp() knows about, too;
 * it also needs no setjmp().
 */
#ifndef NSOCKET_CLEANUP_H
#define NSOCKET_CLEANUP_H

#include <pthread.h>

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

#endif
