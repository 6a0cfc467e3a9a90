/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/libc.h - the real functions behind the intercepted names
 *
 * libc.read(...) is the read() that the program would have got without us. Usable from the very
 * first instruction on: a member that was not yet resolved points to a function that resolves
 * all of them and goes on.
 */
#ifndef NSOCKET_LIBC_H
#define NSOCKET_LIBC_H

#include <aio.h>
#include <errno.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <nsocket/calls.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define NS_EXPORT __attribute__((visibility("default")))

/* Another name of a wrapper, in the file that defines it. */
#if __has_attribute(copy) /* gcc compares attributes otherwise, clang knows no such thing */
#define NS_SAME_ATTRIBUTES(name) __attribute__((copy(name)))
#else
#define NS_SAME_ATTRIBUTES(name)
#endif
#define NS_ALIAS(other, name) \
	extern __typeof__(name) other NS_SAME_ATTRIBUTES(name) \
		__attribute__((alias(#name), visibility("default")))

#define NS_CALL_MEMBER(ret, name, params, args) ret (*name) params;
#define NS_CALL_MEMBER_NORETURN(name, params, args) \
	void (*name) params __attribute__((noreturn));
struct libc_calls {
	NS_CALLS(NS_CALL_MEMBER, NS_CALL_MEMBER_NORETURN)
};
extern struct libc_calls libc;

/* -errno to libc's convention, the one place for it. */
static inline long libc_result(long r)
{
	if (__builtin_expect(r < 0 && r > -4096, 0)) {
		errno = (int)-r;
		return -1;
	}
	return r;
}
/* And back: the result of a libc call as 0.. or -errno. */
static inline long libc_errno(long r)
{
	return r < 0 ? -errno : r;
}

#endif
