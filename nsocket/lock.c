/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/lock.c - see lock.h */
#define _GNU_SOURCE
#include "nsocket/lock.h"

#include <signal.h>

__thread struct lock_state lock_state;

void lock_deliver(void)
{
	uint64_t bits = lock_state.deferred;
	sigset_t set;

	lock_state.deferred = 0;
	sigemptyset(&set);
	for (int sig = 1; sig <= 64; sig++)
		if (bits & 1ull << (sig - 1))
			sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
