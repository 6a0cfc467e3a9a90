/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sig.c - would the kernel have restarted this call?
 *
 * A blocking call of ours sleeps in ppoll(), which always ends with EINTR when a handler ran; the
 * kernel's own recv() goes on if the handler was installed with SA_RESTART. Which handler ran
 * can't be known afterwards, so this keeps the set of signals whose handlers lack SA_RESTART: while
 * it is empty, calls restart; otherwise they answer EINTR. signal() of the C library sets
 * SA_RESTART and needs no interception.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

static uint64_t breaking; /* atomic: bit sig - 1 */

void sig_note(int sig, void (*handler)(int), unsigned long flags)
{
	uint64_t bit = sig >= 1 && sig <= 64 ? 1ull << (sig - 1) : 0;

	if (handler == SIG_DFL || handler == SIG_IGN || (flags & SA_RESTART))
		__atomic_and_fetch(&breaking, ~bit, __ATOMIC_RELAXED);
	else
		__atomic_or_fetch(&breaking, bit, __ATOMIC_RELAXED);
}

NS_EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	int r = libc.sigaction(sig, act, old);

	if (r == 0 && act)
		sig_note(sig, act->sa_handler, (unsigned long)act->sa_flags);
	return r;
}
NS_ALIAS(__sigaction, sigaction);

bool sig_restart(void)
{
	return !__atomic_load_n(&breaking, __ATOMIC_RELAXED);
}
