/* SPDX-License-Identifier: Apache-2.0 */
/* include/nstack/barrier.h - the one full barrier
 *
 * Orders every store before it against every load after it. Each use names its partner: one side
 * publishes and then looks whether somebody sleeps, the other says that it sleeps and then looks
 * for what was published.
 */
#ifndef NSTACK_BARRIER_H
#define NSTACK_BARRIER_H

static inline void nst_full_barrier(void)
{
#ifdef __SANITIZE_THREAD__ /* which does not know fences */
	static int dummy;

	__atomic_add_fetch(&dummy, 1, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#endif
