/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/syscall.c - syscall(2): programs that call the kernel by number
 *
 * libuv, glib and others reach some calls by syscall(), because libc had no function for them once.
 * A call that concerns a descriptor of ours, or that makes or ends one, goes to the wrapper; the
 * tables in calls.h say which and by which arguments. Everything else is passed on to libc's
 * syscall() with all six arguments. None of it is a cancellation point, which the function of the
 * same name may be.
 *
 * The kernel's form of a call differs from libc's in places: a signal mask is eight bytes and comes
 * with its size, ppoll and pselect6 write back what is left of the time, setuid concerns the
 * calling thread only.
 *
 * Not here: programs with system call instructions of their own (init.c looks for these).
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/libc.h"

#include <linux/sched.h>
#include <linux/seccomp.h>
#include <nsocket/cleanup.h>
#include <nsocket/ev.h>
#include <nsocket/file.h>
#include <nsocket/init.h>
#include <nsocket/seccomp.h>
#include <nsocket/sock.h>
#include <nsocket/uring.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KERNEL_SIGSET 8u /* bytes of a signal set in the kernel's interface */

/* --- forms of their own ------------------------------------------------------------------------ */

/* The kernel's signal set as libc's. 0 or -errno. */
static int mask_in(sigset_t *out, const void *mask, long size)
{
	if ((unsigned long)size != KERNEL_SIGSET)
		return -EINVAL;
	sigemptyset(out);
	memcpy(out, mask, KERNEL_SIGSET);
	return 0;
}

/* What is left of a time-out that began at start. */
static void time_left(struct timespec *t, uint64_t start)
{
	uint64_t want = (uint64_t)t->tv_sec * 1000000000ull + (uint64_t)t->tv_nsec;
	uint64_t gone = worker_now() - start, left = want > gone ? want - gone : 0;

	/* longer than 64 bits of nanoseconds: for ever, nothing to tell */
	if (t->tv_sec > INT64_MAX / 1000000000)
		return;
	t->tv_sec = (time_t)(left / 1000000000u);
	t->tv_nsec = (long)(left % 1000000000u);
}

static long own_preadv2(long fd, long iov, long n, long low, long high, long flags)
{
	/* high would be the offset's other half where a long has 32 bits */
	return preadv2((int)fd, (const struct iovec *)iov, (int)n, low, (int)flags);
}

static long own_pwritev2(long fd, long iov, long n, long low, long high, long flags)
{
	return pwritev2((int)fd, (const struct iovec *)iov, (int)n, low, (int)flags);
}

static long own_epoll_pwait(long ep, long ev, long n, long timeout, long mask, long size)
{
	sigset_t set;
	int err = mask ? mask_in(&set, (const void *)mask, size) : 0;

	if (err)
		return libc_result(err);
	return epoll_pwait((int)ep, (struct epoll_event *)ev, (int)n, (int)timeout, mask ? &set : NULL);
}

static long own_epoll_pwait2(long ep, long ev, long n, long timeout, long mask, long size)
{
	sigset_t set;
	int err = mask ? mask_in(&set, (const void *)mask, size) : 0;

	if (err)
		return libc_result(err);
	return epoll_pwait2((int)ep, (struct epoll_event *)ev, (int)n,
			    (const struct timespec *)timeout, mask ? &set : NULL);
}

static long own_poll(long fds, long n, long timeout, long d, long e, long f)
{
	if (!ev_poll_ours((const struct pollfd *)fds, (nfds_t)n))
		return libc.syscall(SYS_poll, fds, n, timeout, d, e, f);
	return poll((struct pollfd *)fds, (nfds_t)n, (int)timeout);
}

static long own_ppoll(long fds, long n, long timeout, long mask, long size, long f)
{
	struct timespec *t = (struct timespec *)timeout;
	uint64_t start;
	sigset_t set;
	int r;

	if (!ev_poll_ours((const struct pollfd *)fds, (nfds_t)n))
		return libc.syscall(SYS_ppoll, fds, n, timeout, mask, size, f);
	r = mask ? mask_in(&set, (const void *)mask, size) : 0;
	if (r)
		return libc_result(r);
	start = worker_now();
	r = ev_poll((struct pollfd *)fds, (nfds_t)n, t, mask ? &set : NULL);
	if (t && r != -EINVAL)
		time_left(t, start);
	return libc_result(r);
}

static long own_pselect6(long n, long rd, long wr, long ex, long timeout, long mask_arg)
{
	struct { const void *mask; size_t size; } arg = { NULL, 0 };
	sigset_t set;
	int r = 0;

	if (!ev_select_ours((int)n, (fd_set *)rd, (fd_set *)wr, (fd_set *)ex))
		return libc.syscall(SYS_pselect6, n, rd, wr, ex, timeout, mask_arg);
	if (mask_arg)
		memcpy(&arg, (const void *)mask_arg, sizeof(arg));
	if (arg.mask)
		r = mask_in(&set, arg.mask, (long)arg.size);
	if (!r)
		r = ev_select((int)n, (fd_set *)rd, (fd_set *)wr, (fd_set *)ex,
			      (struct timespec *)timeout, arg.mask ? &set : NULL);
	return libc_result(r);
}

static long own_rt_sigaction(long sig, long act, long old, long size, long e, long f)
{
	/* as the kernel has it; both architectures begin like this */
	struct { void (*handler)(int); unsigned long flags; } sa;
	long r = libc.syscall(SYS_rt_sigaction, sig, act, old, size, e, f);

	if (r == 0 && old) {
		memcpy(&sa, (const void *)old, sizeof(sa));
		sig_as_set((int)sig, &sa.handler, &sa.flags);
		memcpy((void *)old, &sa, sizeof(sa));
	}
	return r;
}

/* --- processes ------------------------------------------------------------------------------------- */

/* libc's handlers don't run in such a fork, ours have to. */
static long fork_by(long nr, long a, long b, long c, long d, long e)
{
	long r;
	int err;

	fork_prepare();
	r = libc.syscall(nr, a, b, c, d, e, 0);
	err = errno;
	if (r == 0)
		fork_child();
	else
		fork_parent();
	errno = err;
	return r;
}

/* Is it a fork? A child in the same memory whose parent waits until it executes (vfork) is made one:
 * what it closes would be closed in our table. Nor does the parent wait: the child may want something
 * of its stack before. */
static bool clone_forks(uint64_t *flags)
{
	if (*flags & CLONE_VFORK)
		*flags &= ~(uint64_t)(CLONE_VM | CLONE_VFORK);
	return !(*flags & CLONE_VM);
}

static long own_clone(long flags, long stack, long c, long d, long e, long f)
{
	uint64_t use = (uint64_t)flags;

	if (!stack && clone_forks(&use)) /* on another stack, the child could not return from here */
		return fork_by(SYS_clone, (long)use, stack, c, d, e);
	return libc.syscall(SYS_clone, flags, stack, c, d, e, f);
}

static long own_clone3(long arg, long size, long c, long d, long e, long f)
{
	struct clone_args args;
	uint64_t use;

	if (!arg || size < CLONE_ARGS_SIZE_VER0 || size > (long)sizeof(args))
		return libc.syscall(SYS_clone3, arg, size, c, d, e, f);
	memcpy(&args, (const void *)arg, (size_t)size);
	use = args.flags;
	if (args.stack || !clone_forks(&use))
		return libc.syscall(SYS_clone3, arg, size, c, d, e, f);
	args.flags = use;
	return fork_by(SYS_clone3, (long)&args, size, c, d, e);
}

struct clone_start {
	int (*fn)(void *arg);
	void *arg;
};

static int clone_child(void *arg)
{
	const struct clone_start *s = arg;

	fork_child();
	return s->fn(s->arg);
}

/* libc's function, which does not run its handlers either. */
NS_EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	struct clone_start start = { fn, arg };
	uint64_t use = (uint64_t)flags;
	pid_t *parent_tid, *child_tid;
	void *tls;
	va_list ap;
	int r, err;

	va_start(ap, arg);
	parent_tid = va_arg(ap, pid_t *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, pid_t *);
	va_end(ap);
	if (!fn || !stack || !clone_forks(&use))
		return libc.clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
	fork_prepare();
	r = libc.clone(clone_child, stack, (int)use, &start, parent_tid, tls, child_tid);
	err = errno;
	fork_parent();
	errno = err;
	return r;
}
NS_ALIAS(__clone, clone);

static __attribute__((unused)) long own_fork(long a, long b, long c, long d, long e, long f)
{
	return fork_by(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long own_io_uring_setup(long entries, long p, long c, long d, long e, long f)
{
	long r = libc.syscall(SYS_io_uring_setup, entries, p, c, d, e, f);
	int err = errno;

	if (r >= 0)
		uring_seen();
	errno = err;
	return r;
}

static long own_seccomp(long op, long flags, long filter, long d, long e, long f)
{
	if (op == SECCOMP_SET_MODE_STRICT || (op == SECCOMP_SET_MODE_FILTER && filter))
		seccomp_before();
	return libc.syscall(SYS_seccomp, op, flags, filter, d, e, f);
}

static long own_exit_group(long status, long b, long c, long d, long e, long f)
{
	init_exit();
	return libc.syscall(SYS_exit_group, status, b, c, d, e, f);
}

static long own_setuid(long uid, long b, long c, long d, long e, long f)
{
	priv_before_user((uid_t)uid);
	return libc.syscall(SYS_setuid, uid, b, c, d, e, f);
}

static long own_setreuid(long ruid, long euid, long c, long d, long e, long f)
{
	priv_before_user((uid_t)euid);
	return libc.syscall(SYS_setreuid, ruid, euid, c, d, e, f);
}

static long own_setresuid(long ruid, long euid, long suid, long d, long e, long f)
{
	priv_before_user((uid_t)euid);
	return libc.syscall(SYS_setresuid, ruid, euid, suid, d, e, f);
}

/* --- the same form ------------------------------------------------------------------------------- */

#define RETURNS(ret, name, params, args) typedef ret name##_returns;
#define RETURNS_NOT(name, params, args)
NS_CALLS(RETURNS, RETURNS_NOT)

/* The wrapper under a second declaration. All arguments are integers or pointers, and each in a
 * register of its own: the function takes as many as it has, and of each the bits that it has. The
 * result is widened by its sign. */
#define SAME(name, fds) \
	name##_returns wrapper_##name(long a, long b, long c, long d, long e, long f) \
		__asm__(#name); \
	static long same_##name(long a, long b, long c, long d, long e, long f) \
	{ \
		return (long)wrapper_##name(a, b, c, d, e, f); \
	}
#if defined(__x86_64__)
#define LEGACY(of) of
#define LEGACY_SAME SAME
#else /* the younger architectures lack the older forms */
#define LEGACY(of)
#define LEGACY_SAME(name, fds)
#endif
NS_SYSCALLS(SAME, LEGACY_SAME)

/* --- dispatch --------------------------------------------------------------------------------------- */

struct route {
	long (*fn)(long a, long b, long c, long d, long e, long f); /* NULL: none of our business */
	unsigned fds; /* bits: arguments that decide whether it is; 0 = it is */
};
#define ROUTE_SAME(name, fds) [SYS_##name] = { same_##name, fds },
#define ROUTE_OWN(name, fds) [SYS_##name] = { own_##name, fds },
#define LEGACY_ROUTE_SAME(name, fds) LEGACY(ROUTE_SAME(name, fds))
#define LEGACY_ROUTE_OWN(name, fds) LEGACY(ROUTE_OWN(name, fds))
static const struct route routes[] = {
	NS_SYSCALLS(ROUTE_SAME, LEGACY_ROUTE_SAME)
	NS_SYSCALLS_OWN(ROUTE_OWN, LEGACY_ROUTE_OWN)
};

static inline bool concerns_us(unsigned fds, long a, long b, long c)
{
	return !fds || ((fds & 1) && fd_is_ours((int)a)) || ((fds & 2) && fd_is_ours((int)b)) ||
	       ((fds & 4) && fd_is_ours((int)c));
}

/* What the caller did not pass is read, and not used; never written: it may be a variable of the
 * caller's that another thread changes, such as a futex. */
#define ARGUMENTS(last) \
	long a, b, c, d, e, f; \
	va_list ap; \
	va_start(ap, last); \
	a = va_arg(ap, long); \
	b = va_arg(ap, long); \
	c = va_arg(ap, long); \
	d = va_arg(ap, long); \
	e = va_arg(ap, long); \
	f = va_arg(ap, long); \
	va_end(ap)

/* AddressSanitizer takes arguments that the caller did not pass for what they are. */
#define NO_CHECK __attribute__((no_sanitize_address))

NO_CHECK NS_EXPORT long syscall(long nr, ...)
{
	const struct route *r;
	struct cancel_off off;
	long result;
	ARGUMENTS(nr);

	if ((unsigned long)nr >= sizeof(routes) / sizeof(routes[0]))
		return libc.syscall(nr, a, b, c, d, e, f);
	r = &routes[nr];
	if (!r->fn || !concerns_us(r->fds, a, b, c))
		return libc.syscall(nr, a, b, c, d, e, f);
	cancel_off(&off);
	result = r->fn(a, b, c, d, e, f);
	cancel_on(&off);
	return result;
}

/* The library's own system calls (the linker's --wrap). */
long __wrap_syscall(long nr, ...);
NO_CHECK long __wrap_syscall(long nr, ...)
{
	ARGUMENTS(nr);

	return libc.syscall(nr, a, b, c, d, e, f);
}
