/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev.h - epoll, poll and select over kernel and nstack descriptors mixed
 *
 * The ev_* calls below have the meaning of the system calls, but return the negative errno; the
 * libc face turns that into -1 and errno. Where no descriptor of ours is involved they go
 * straight on to the kernel.
 *
 * What the event side expects of its neighbours:
 *  - a file calls ev_file_release() when its last reference went, before it lets go of its
 *    session (nsock_poll() must still be safe while that call runs);
 *  - watch_notify() has a full memory barrier between what the caller published and the first
 *    look at the watch list (ordering ev.watch: a party that comes adds its watch, then reads
 *    readiness; a party that reports publishes readiness, then reads the list);
 *  - a struct waiter outlives an RCU grace period after its thread ended: a ring may be late.
 *
 * Lock order, outermost first: ev_global - ev_set.lock (a set before the sets nested in it) -
 * nfile.watch_lock, and whatever nsock_poll() and nsock_kernel_half() take. None of these is
 * ever taken inside of notify(). The worker lock must not be held by a caller of this file.
 *
 * Threads: any.
 */
#ifndef NSOCKET_EV_H
#define NSOCKET_EV_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

struct nfile;

int ev_epoll_create1(int flags); /* the new descriptor, or -errno */
int ev_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
/* May a wait on this set go straight to libc? A set without members of ours, if nobody else can
 * add one meanwhile; blocks: the wait may sleep. Cheap; false is always right. */
bool ev_epoll_plain(int epfd, bool blocks);
/* timeout: NULL = for ever. sigmask: NULL = leave. Returns the number of events or -errno. */
int ev_epoll_wait(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		  const sigset_t *sigmask);

/* Is a descriptor of ours among them? If not, libc is to be called. */
bool ev_poll_ours(const struct pollfd *fds, nfds_t n);
/* fds is not NULL. */
int ev_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *sigmask);
/* Is a descriptor of ours in the sets? If not, libc is to be called. */
bool ev_select_ours(int n, const fd_set *rd, const fd_set *wr, const fd_set *ex);
/* timeout is set to the time that remains, whatever the result is, except for -EINVAL. */
int ev_select(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timespec *timeout,
	      const sigset_t *sigmask);

/* Does a thread of this process wait for f now, in poll() or on a set that has it? A hint. */
bool ev_waited_on(struct nfile *f);

/* The last reference to f went: it leaves every set, and no nsock_poll(f) runs after return. */
void ev_file_release(struct nfile *f);

/* Around fork(), called in this order with the lock order above: prepare before any lock of the
 * socket layer is taken. In the child the kernel's epoll objects stay shared with the parent, as
 * they always are, but everything of our own is made anew at first use. */
void ev_fork_prepare(void);
void ev_fork_parent(void);
void ev_fork_child(void);

#endif
