/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_kernel.c - the kernel's half of epoll sets
 *
 * Owns the inner epoll (kernel halves of members of ours), its place in the outer, and the bell:
 * an eventfd in the inner that ends a wait inside libc's epoll_wait when a set gets its first
 * member of ours.
 *
 * Events of the inner come by the name of an item (slot and generation), not by pointer: a
 * descriptor that is shared with another process stays registered when we close ours. A name
 * that nobody has is such a leftover; it can't be removed by number, so the inner is made anew.
 *
 * After fork the outer is shared with the parent, whose inner is in it. The child's own inner is
 * not put in there (the parent would wake for it) but asked separately.
 *
 * Threads: any, under the set's lock.
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/libc.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME_BELL UINT64_MAX

/* What is there now. A system call of its own, since libc's is a cancellation point, and the set's
 * lock is held. */
static int kernel_look(int ep, struct epoll_event *evs, int max)
{
	return (int)syscall(SYS_epoll_pwait, ep, evs, max, 0, NULL, (size_t)8);
}

/* --- the inner epoll ---------------------------------------------------------------------- */

static int kernel_ctl(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return (int)libc_errno(libc.epoll_ctl(ep, op, fd, &ev));
}

static int inner_open(struct ev_set *s, int epfd)
{
	int fd, r;

	if (s->inner >= 0)
		return 0;
	fd = libc.epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return -errno;
	fd = fd_hide(fd);
	if (!s->forked) {
		r = kernel_ctl(epfd, EPOLL_CTL_ADD, fd, EPOLLIN, s->magic);
		if (r) {
			fd_hide_close(fd);
			return r;
		}
	}
	s->inner = fd;
	return 0;
}

void ev_kernel_close(struct ev_set *s)
{
	fd_hide_close(s->bell);
	fd_hide_close(s->inner);
	s->bell = -1;
	s->inner = -1;
}

/* Does the number still refer to the member, so that the kernel may be asked about it by it? */
static bool fd_still(const struct ev_item *it)
{
	return (unsigned)it->fd < NFILE_FDS &&
	       __atomic_load_n(&nfile_table[it->fd], __ATOMIC_RELAXED) == it->f;
}

/* What to register the kernel half for. */
static uint32_t khalf_events(const struct ev_item *it)
{
	return it->events & (ev_sock_kernel_bits(it->f) | EV_FLAGS);
}

static int inner_add(struct ev_set *s, int epfd, struct ev_item *it)
{
	int r;

	if (!fd_still(it))
		return 0; /* closed, alive through a dup: only the user-stack half is left */
	r = inner_open(s, epfd);
	if (r)
		return r;
	it->kevents = khalf_events(it);
	r = kernel_ctl(s->inner, EPOLL_CTL_ADD, it->fd, it->kevents, ev_item_name(it));
	if (r == -EEXIST)
		r = kernel_ctl(s->inner, EPOLL_CTL_MOD, it->fd, it->kevents, ev_item_name(it));
	if (!r)
		it->khalf = EV_K_INNER;
	return r;
}

/* Make the inner epoll anew; what can't be registered again is left to its user-stack half. */
static void inner_rebuild(struct ev_set *s, int epfd)
{
	struct ev_item *it;

	ev_kernel_close(s);
	cds_list_for_each_entry(it, &s->items, member) {
		if (it->khalf != EV_K_INNER)
			continue;
		it->khalf = EV_K_NONE;
		if (it->events & ~EV_FLAGS)
			inner_add(s, epfd, it);
	}
}

void ev_kernel_resync(struct ev_set *s, int epfd)
{
	struct ev_item *it, *next;

	s->resync = false;
	cds_list_for_each_entry_safe(it, next, &s->items, member)
		if (ev_khalf_sync(s, epfd, it) <= 0)
			ev_item_queue(it);
}

/* --- kernel halves of items --------------------------------------------------------------- */

bool ev_item_to_kernel(struct ev_set *s, int epfd, struct ev_item *it)
{
	int r;

	if (!(it->events & ~EV_FLAGS) || !fd_still(it))
		return false;
	r = kernel_ctl(epfd, EPOLL_CTL_ADD, it->fd, it->events, it->data);
	if (r == -EEXIST)
		r = kernel_ctl(epfd, EPOLL_CTL_MOD, it->fd, it->events, it->data);
	if (r)
		return false;
	__atomic_store_n(&s->kernel, true, __ATOMIC_RELAXED);
	ev_khalf_drop(s, it);
	ev_item_remove(s, it);
	return true;
}

int ev_khalf_sync(struct ev_set *s, int epfd, struct ev_item *it)
{
	bool want;

	if (it->f->kind == NF_EPOLL)
		return 0; /* registered in the outer by ev_epoll.c, for good */
	if (ev_sock_kernel_only(it->f) && ev_item_to_kernel(s, epfd, it))
		return 1;
	want = (it->events & ~EV_FLAGS) && nsock_kernel_half(it->f);
	if (want && it->khalf == EV_K_INNER && it->kevents != khalf_events(it))
		ev_khalf_drop(s, it); /* anew, with the events that count now */
	if (want == (it->khalf == EV_K_INNER))
		return 0;
	if (want)
		return inner_add(s, epfd, it);
	ev_khalf_drop(s, it);
	return 0;
}

int ev_khalf_mod(struct ev_set *s, int epfd, struct ev_item *it)
{
	int r = 0;

	if (it->khalf == EV_K_INNER && fd_still(it) && nsock_kernel_half(it->f)) {
		it->kevents = khalf_events(it);
		r = kernel_ctl(s->inner, EPOLL_CTL_MOD, it->fd, it->kevents, ev_item_name(it));
		if (r != -ENOENT)
			return r;
		it->khalf = EV_K_NONE;
	}
	return ev_khalf_sync(s, epfd, it);
}

void ev_khalf_drop(struct ev_set *s, struct ev_item *it)
{
	if (it->khalf == EV_K_INNER) {
		if (fd_still(it))
			kernel_ctl(s->inner, EPOLL_CTL_DEL, it->fd, 0, 0);
		it->khalf = EV_K_NONE;
	}
}

/* --- asking the kernel -------------------------------------------------------------------- */

int ev_kernel_strip(struct ev_set *s, struct epoll_event *evs, int n, bool *inner)
{
	for (int i = 0; i < n; i++) {
		if (evs[i].data.u64 != s->magic)
			continue;
		*inner = true;
		evs[i] = evs[--n];
		break; /* it is in there once */
	}
	return n;
}

static void bell_clear(struct ev_set *s)
{
	uint64_t v;

	if (s->bell >= 0)
		syscall(SYS_read, s->bell, &v, sizeof(v));
}

/* An event of the inner. Returns 1 if *out was written; *stale: nobody has that name. */
static int inner_event(struct ev_set *s, int epfd, const struct epoll_event *ev,
		       struct epoll_event *out, bool *stale)
{
	struct ev_item *it = ev_item_by_name(s, ev->data.u64);
	uint32_t events;

	if (ev->data.u64 == NAME_BELL) {
		/* rung for raw waiters; the last may have left by itself */
		if (!__atomic_load_n(&s->raw_waiters, __ATOMIC_SEQ_CST))
			bell_clear(s);
		return 0;
	}
	if (!it) {
		*stale = true;
		return 0;
	}
	if (!nsock_kernel_half(it->f)) {
		/* it went to the user stack; a closed number can't be taken out singly */
		if (!fd_still(it))
			*stale = true;
		ev_khalf_drop(s, it);
		return 0;
	}
	ev_item_told(it);
	events = (ev->events & ev_sock_kernel_bits(it->f)) | ev_item_ready(it);
	if (!events)
		return 0;
	return ev_item_deliver(it, events, true, out);
}

static int inner_collect(struct ev_set *s, int epfd, struct epoll_event *evs, int max)
{
	struct epoll_event buf[64];
	bool stale = false;
	int n, got = 0;

	if (s->inner < 0 || max <= 0)
		return 0;
	n = kernel_look(s->inner, buf, max < 64 ? max : 64);
	if (n < 0)
		stale = errno == EBADF || errno == EINVAL;
	for (int i = 0; i < n; i++)
		got += inner_event(s, epfd, &buf[i], &evs[got], &stale);
	if (stale)
		inner_rebuild(s, epfd);
	return got;
}

/* One-shot members that are sets themselves are disarmed when the kernel reported their kernel
 * half, or they would come twice. */
static void outer_oneshot(struct ev_set *s, struct epoll_event *evs, int n)
{
	struct ev_item *it;

	if (!s->nested)
		return;
	cds_list_for_each_entry(it, &s->items, member) {
		if (it->khalf != EV_K_OUTER)
			continue;
		for (int i = 0; i < n; i++) {
			if (evs[i].data.u64 != it->data)
				continue;
			it->round = s->round;
			if (it->events & EPOLLONESHOT)
				__atomic_store_n(&it->events, it->events & EV_FLAGS,
						 __ATOMIC_RELAXED);
		}
	}
}

int ev_kernel_collect(struct ev_set *s, int epfd, struct epoll_event *evs, int max)
{
	bool inner = s->forked, outer = __atomic_load_n(&s->kernel, __ATOMIC_RELAXED);
	int n = 0;

	if (max <= 0)
		return 0;
	if (!outer)
		return inner_collect(s, epfd, evs, max);
	for (int tries = 0; tries < 2; tries++) {
		n = kernel_look(epfd, evs, max);
		if (n < 0)
			return errno == EINTR ? 0 : -errno;
		n = ev_kernel_strip(s, evs, n, &inner);
		outer_oneshot(s, evs, n);
		if (inner)
			n += inner_collect(s, epfd, evs + n, max - n);
		/* nothing but a false alarm of the inner may have hidden the others behind it */
		if (n || !inner || max > 1)
			break;
	}
	return n;
}

/* --- the bell ----------------------------------------------------------------------------- */

int ev_bell_ring(struct ev_set *s, int epfd)
{
	uint64_t one = 1;
	int r;

	r = inner_open(s, epfd);
	if (r)
		return r;
	if (s->bell < 0) {
		s->bell = fd_hide(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
		if (s->bell < 0)
			return -errno;
		r = kernel_ctl(s->inner, EPOLL_CTL_ADD, s->bell, EPOLLIN, NAME_BELL);
		if (r)
			return r;
	}
	return syscall(SYS_write, s->bell, &one, sizeof(one)) < 0 ? -errno : 0;
}
