/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sig.c - signal handlers and the calls that they interrupt
 *
 * A blocking call of ours is many things in a row: a look at the FIFOs, a round of the stack, a
 * ppoll(), a wake-up that was meant for another, ppoll() again. The kernel's call would end with
 * EINTR whichever of these a handler interrupts, or go on if that handler has SA_RESTART. So we
 * have to know that a handler ran, in which thread, and with which flags: the kernel calls handlers
 * of the program by handler_run(), which notes it (worker_interrupted()). What the program asks
 * about its handlers is answered as it set them.
 *
 * A handler may use sockets itself, and fork: it waits while its thread holds a lock of ours (lock.h).
 *
 * Signals by which the processor reports a fault do not end waits and are left alone; so is whatever
 * is installed past these functions. ppoll() also ends when such a handler ran: then the call is
 * restarted if all of them have SA_RESTART.
 *
 * Threads: any; handler_run() is async-signal-safe.
 */
#define _GNU_SOURCE
#include "nsocket/sig.h"
#include "nsocket/libc.h"
#include "nsocket/worker.h"

#include <errno.h>
#include <nsocket/lock.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SIGNALS 65 /* the kernel's, 1 to 64 */
#define BIT(sig) (1ull << ((sig) - 1))
static const uint64_t faults = BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP) |
			       BIT(SIGSYS);

typedef void handler_fn(int sig, siginfo_t *info, void *context);

/* The program's handlers, as far as the kernel calls handler_run() for them. */
static struct handler {
	handler_fn *fn; /* atomic */
	int flags;      /* atomic */
} handlers[SIGNALS];

static uint64_t interrupting; /* atomic: siginterrupt(sig, 1), for signal() */

static struct handler handler_get(int sig)
{
	/* acquire: pairs sig.handler */
	handler_fn *fn = __atomic_load_n(&handlers[sig].fn, __ATOMIC_ACQUIRE);

	return (struct handler){ fn, __atomic_load_n(&handlers[sig].flags, __ATOMIC_RELAXED) };
}

static void handler_put(int sig, struct handler h)
{
	__atomic_store_n(&handlers[sig].flags, h.flags, __ATOMIC_RELAXED);
	/* release: pairs sig.handler - its flags before */
	__atomic_store_n(&handlers[sig].fn, h.fn, __ATOMIC_RELEASE);
}

/* This thread holds a lock of ours: let the kernel call again when it has given it back. Until then the
 * signal is blocked, so that those after it keep their order. */
static bool deferred(int sig, int flags, siginfo_t *info, ucontext_t *context)
{
	int err = errno;
	bool queued;

	/* blocked already: that it came is up to a mask for one call, such as ppoll()'s */
	if (!lock_state.held || sigismember(&context->uc_sigmask, sig) == 1 ||
	    (flags & (int)(SA_NODEFER | SA_RESETHAND)))
		return false;
	queued = syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, info) == 0;
	errno = err;
	if (queued) {
		sigaddset(&context->uc_sigmask, sig);
		lock_state.deferred |= BIT(sig);
	}
	return queued;
}

static void handler_run(int sig, siginfo_t *info, void *context)
{
	struct handler h = handler_get(sig);
	struct worker_call outer;

	if (deferred(sig, h.flags, info, context))
		return;
	outer = worker_call_save();
	h.fn(sig, info, context); /* one that wants the number only ignores the rest */
	worker_call_restore(&outer, h.flags & SA_RESTART);
}

static bool is_run(const struct sigaction *a)
{
	return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == handler_run;
}

void sig_as_set(int sig, void (**fn)(int), unsigned long *flags)
{
	struct handler h = handler_get(sig);

	if (*fn != (void (*)(int))(void *)handler_run)
		return;
	*fn = (void (*)(int))(void *)h.fn;
	if (!(h.flags & SA_SIGINFO))
		*flags &= ~(unsigned long)SA_SIGINFO;
}

/* What the kernel has, as the program set it: h was the handler then. */
static void as_set(struct sigaction *a, struct handler h)
{
	if (!is_run(a))
		return;
	a->sa_sigaction = h.fn;
	if (!(h.flags & SA_SIGINFO))
		a->sa_flags &= ~SA_SIGINFO;
}

static bool taken(int sig, const struct sigaction *act)
{
	return act && sig >= 1 && sig < SIGNALS && !(faults & BIT(sig)) &&
	       act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN;
}

NS_EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct handler before = { NULL, 0 };
	struct sigaction ours;
	bool take = taken(sig, act);
	int r;

	if (sig >= 1 && sig < SIGNALS)
		before = handler_get(sig);
	if (take) {
		ours = *act;
		ours.sa_sigaction = handler_run;
		ours.sa_flags |= SA_SIGINFO;
		/* first: the kernel may call it before we are back */
		handler_put(sig, (struct handler){ act->sa_sigaction, act->sa_flags });
	}
	r = libc.sigaction(sig, take ? &ours : act, old);
	if (r && take)
		handler_put(sig, before);
	if (!r && old)
		as_set(old, before);
	return r;
}
NS_ALIAS(__sigaction, sigaction);

NS_EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;

	if (handler == SIG_ERR || sig < 1 || sig >= SIGNALS) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (__atomic_load_n(&interrupting, __ATOMIC_RELAXED) & BIT(sig))
		act.sa_flags = 0;
	sigaddset(&act.sa_mask, sig);
	return sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}
NS_ALIAS(ssignal, signal);
NS_ALIAS(bsd_signal, signal);

NS_EXPORT int siginterrupt(int sig, int interrupt)
{
	struct sigaction act;

	if (sigaction(sig, NULL, &act))
		return -1;
	if (interrupt) {
		__atomic_or_fetch(&interrupting, BIT(sig), __ATOMIC_RELAXED);
		act.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_and_fetch(&interrupting, ~BIT(sig), __ATOMIC_RELAXED);
		act.sa_flags |= SA_RESTART;
	}
	return sigaction(sig, &act, NULL);
}

/* Do all handlers restart calls that were not set by the functions above? */
static bool others_restart(void)
{
	struct sigaction a;

	for (int sig = 1; sig < SIGNALS; sig++)
		if (!(faults & BIT(sig)) && !libc.sigaction(sig, NULL, &a) && !is_run(&a) &&
		    a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN &&
		    !(a.sa_flags & SA_RESTART))
			return false;
	return true;
}

bool sig_restart(void)
{
	enum worker_interrupt by = worker_interrupted();

	if (by == WORKER_UNKNOWN_HANDLER)
		return others_restart();
	if (by == WORKER_RESTARTING_HANDLER)
		worker_call_begin(); /* as if it were called again */
	return by == WORKER_RESTARTING_HANDLER;
}
