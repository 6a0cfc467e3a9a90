/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/seccomp.c - programs that filter their own system calls
 *
 * A sandboxed program names the calls that it makes itself; those of the stack in the same thread are
 * not among them, and the first one would end it. So its sockets are the kernel's from then on: new
 * ones from the start, those that it has by handover, while that is still allowed.
 *
 * Leaves out: filters that are there when the program starts (a container's): the stack starts if
 * they let it. And filters for all threads (SECCOMP_FILTER_FLAG_TSYNC) while the stack runs: its own
 * threads get them, too.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/seccomp.h"

#include <linux/seccomp.h>
#include <nsocket/handover.h>
#include <nsocket/init.h>
#include <rd/log.h>
#include <stdarg.h>
#include <sys/prctl.h>

static bool idle; /* atomic: every socket was handed over */

void seccomp_before(void)
{
	if (!init_ready() || nsock_kernel_only_why() != SR_NR_)
		return;
	nsock_kernel_only(SR_seccomp);
	sock_reason(SR_seccomp);
	ns_log_fallback("new sockets stay with the kernel: %s", sock_reason_help[SR_seccomp]);
	if (nsock_handover_each(NULL, SR_seccomp))
		ns_log(NS_WAR, NS_M_NSOCKET,
		       "connections that stay with the stack need calls that the filter may forbid");
	else
		__atomic_store_n(&idle, true, __ATOMIC_RELAXED);
	file_call_rcu_never();
	rcu_read_lock(); /* makes system calls when a thread does it first */
	rcu_read_unlock();
}

bool seccomp_idle(void)
{
	return __atomic_load_n(&idle, __ATOMIC_RELAXED);
}

NS_EXPORT int prctl(int op, ...)
{
	unsigned long a, b, c, d;
	va_list ap;

	va_start(ap, op);
	a = va_arg(ap, unsigned long);
	b = va_arg(ap, unsigned long);
	c = va_arg(ap, unsigned long);
	d = va_arg(ap, unsigned long);
	va_end(ap);
	/* a filter that is NULL only asks whether there are filters */
	if (op == PR_SET_SECCOMP && (a == SECCOMP_MODE_STRICT || b))
		seccomp_before();
	return libc.prctl(op, a, b, c, d);
}
