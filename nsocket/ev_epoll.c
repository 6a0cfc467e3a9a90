/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_epoll.c - epoll_create1, epoll_ctl, epoll_wait
 *
 * Every epoll descriptor that the program makes becomes a set (ev_set.c), but a set without
 * members of ours is only a name: its waits go to libc as they are (raw waits).
 *
 * A wait takes from two sides: the ready list (user stack) and the kernel. While the list has
 * something, the kernel is asked only now and then (KERNEL_EVERY calls, KERNEL_NS), and then
 * first and for half of the room at most, so that neither side starves the other. Before it
 * sleeps, it always asks both.
 *
 * Ordering: ev.raw (a raw waiter counts itself, then looks for members of ours; who adds the
 * first one counts it, then looks for raw waiters, and rings the bell for them).
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/cleanup.h"
#include "nsocket/libc.h"

#include <limits.h>
#include <linux/kcmp.h>
#include <sys/eventfd.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KERNEL_EVERY 16
#define KERNEL_NS 50000
#define MUTE_NS 1000000

/* --- create ------------------------------------------------------------------------------- */

/* Make fd, an epoll descriptor of the kernel, a set. Without memory it stays the kernel's. */
static void set_adopt(int fd)
{
	struct ev_set *s;

	if (ev_set_create(&s))
		return;
	fd_install(fd, &s->nf);
	nfile_put(&s->nf);
}

int ev_epoll_create1(int flags)
{
	int fd = libc.epoll_create1(flags);

	if (fd < 0)
		return -errno;
	if (!ev_sock_inside())
		set_adopt(fd);
	return fd;
}

/* Is fd another number of a set that we have (passed by SCM_RIGHTS inside of the process)? */
static bool set_adopt_known(int epfd)
{
	pid_t me = getpid();
	struct nfile *f;
	bool same;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_get(fd);
		if (!f)
			continue;
		same = f->kind == NF_EPOLL && syscall(SYS_kcmp, me, me, KCMP_FILE, fd, epfd) == 0;
		if (same)
			fd_install(epfd, f);
		nfile_put(f);
		if (same)
			return true;
	}
	return false;
}

/* An epoll descriptor that we did not see made (exec, SCM_RIGHTS): becomes a set when a member
 * of ours is added. Members that it has are the kernel's. */
static int set_adopt_foreign(int epfd, struct nfile **out)
{
	struct epoll_event ev = { 0 };
	int probe = eventfd(0, EFD_CLOEXEC), r;

	if (probe < 0)
		return -errno;
	/* what is surely not a member: an epoll answers ENOENT, others EINVAL, nothing EBADF */
	r = (int)libc_errno(libc.epoll_ctl(epfd, EPOLL_CTL_DEL, probe, &ev));
	syscall(SYS_close, probe);
	if (r != -ENOENT)
		return r ? r : -EINVAL;
	if (!set_adopt_known(epfd))
		set_adopt(epfd);
	*out = fd_get(epfd);
	if (!*out)
		return -ENOMEM;
	__atomic_store_n(&ev_set_of(*out)->kernel, true, __ATOMIC_RELAXED);
	return 0;
}

/* --- ctl ---------------------------------------------------------------------------------- */

#define EXCLUSIVE_OK \
	(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

/* What Linux refuses before it looks for the member. */
static int ctl_check(int op, const struct epoll_event *ev, bool nested)
{
	if (op == EPOLL_CTL_DEL || !(ev->events & EPOLLEXCLUSIVE))
		return 0;
	if (op == EPOLL_CTL_MOD)
		return -EINVAL;
	if (op == EPOLL_CTL_ADD && (nested || (ev->events & ~EXCLUSIVE_OK)))
		return -EINVAL;
	return 0;
}

/* The item begins or changes: what is ready now counts as an event (s->lock). */
static void item_look(struct ev_item *it)
{
	/* full barrier: pairs ev.watch - the interest is published before readiness is read */
	nst_full_barrier();
	if (ev_item_ready(it))
		ev_item_queue(it);
}

static int ctl_add(struct ev_set *s, int epfd, struct nfile *f, int fd,
		   const struct epoll_event *ev)
{
	bool nested = f->kind == NF_EPOLL;
	struct ev_item *it;
	int r;

	if (ev_item_find(s, f, fd))
		return -EEXIST;
	/* A set's kernel half is reported by the kernel, under the program's own data; the
	 * kernel also refuses loops and chains that are too long. */
	if (nested) {
		r = (int)libc_errno(libc.epoll_ctl(epfd, EPOLL_CTL_ADD, fd,
						   (struct epoll_event *)ev));
		if (r)
			return r;
		__atomic_store_n(&s->kernel, true, __ATOMIC_RELAXED);
	}
	r = nested ? 0 : ev_sock_ctl(f, epfd, EPOLL_CTL_ADD, ev);
	if (r)
		return r;
	r = ev_item_create(&it, s, f, fd, ev);
	if (r) {
		if (nested)
			libc.epoll_ctl(epfd, EPOLL_CTL_DEL, fd, (struct epoll_event *)ev);
		return r;
	}
	if (nested) {
		it->khalf = EV_K_OUTER;
		s->nested++;
	} else {
		r = ev_khalf_sync(s, epfd, it);
		if (r < 0)
			ev_item_remove(s, it);
		if (r)
			return r < 0 ? r : 0;
	}
	item_look(it);
	if (__atomic_load_n(&s->raw_waiters, __ATOMIC_SEQ_CST)) /* pairs ev.raw */
		ev_bell_ring(s, epfd);
	return 0;
}

static int ctl_mod(struct ev_set *s, int epfd, struct ev_item *it, const struct epoll_event *ev)
{
	int r;

	if (it->events & EPOLLEXCLUSIVE)
		return -EINVAL;
	if (it->khalf == EV_K_OUTER) {
		r = (int)libc_errno(libc.epoll_ctl(epfd, EPOLL_CTL_MOD, it->fd,
						   (struct epoll_event *)ev));
		if (r)
			return r;
	}
	r = it->khalf == EV_K_OUTER ? 0 : ev_sock_ctl(it->f, epfd, EPOLL_CTL_MOD, ev);
	if (r)
		return r;
	it->data = ev->data.u64;
	/* relaxed: item_look() has the fence */
	__atomic_store_n(&it->events, ev->events | EPOLLERR | EPOLLHUP, __ATOMIC_RELAXED);
	if (it->khalf != EV_K_OUTER) {
		r = ev_khalf_mod(s, epfd, it);
		if (r)
			return r < 0 ? r : 0;
	}
	item_look(it);
	return 0;
}

static void ctl_del(struct ev_set *s, int epfd, struct ev_item *it)
{
	struct epoll_event ev = { 0 };
	bool nested = it->khalf == EV_K_OUTER;
	struct nfile *f = it->f;

	if (nested)
		libc.epoll_ctl(epfd, EPOLL_CTL_DEL, it->fd, &ev);
	else
		ev_khalf_drop(s, it);
	ev_item_remove(s, it);
	if (!nested)
		ev_sock_ctl(f, epfd, EPOLL_CTL_DEL, NULL);
}

/* A member that is the kernel's for good; it may have an item from before it was. s->lock. */
static int ctl_kernel_only(struct ev_set *s, int epfd, int op, struct nfile *f, int fd,
			   const struct epoll_event *ev)
{
	struct ev_item *it = ev_item_find(s, f, fd);

	if (it && !ev_item_to_kernel(s, epfd, it)) {
		if (op == EPOLL_CTL_ADD)
			return -EEXIST;
		/* disarmed: it comes back by MOD */
		ev_khalf_drop(s, it);
		ev_item_remove(s, it);
		if (op != EPOLL_CTL_MOD)
			return 0;
		op = EPOLL_CTL_ADD;
	}
	__atomic_store_n(&s->kernel, true, __ATOMIC_RELAXED);
	return (int)libc_errno(libc.epoll_ctl(epfd, op, fd, (struct epoll_event *)ev));
}

static int ctl_ours(struct ev_set *s, int epfd, int op, struct nfile *f, int fd,
		    const struct epoll_event *ev)
{
	struct ev_item *it;
	int r = ctl_check(op, ev, f->kind == NF_EPOLL);

	if (r)
		return r;
	if (op == EPOLL_CTL_ADD && f->kind == NF_SOCK)
		nsock_poll(f); /* may start the stack: not under the set's lock */
	lock_take(&s->lock);
	if (s->resync)
		ev_kernel_resync(s, epfd);
	if (ev_sock_kernel_only(f)) {
		r = ctl_kernel_only(s, epfd, op, f, fd, ev);
		lock_give(&s->lock);
		return r;
	}
	it = op == EPOLL_CTL_ADD ? NULL : ev_item_find(s, f, fd);
	if (op == EPOLL_CTL_ADD)
		r = ctl_add(s, epfd, f, fd, ev);
	else if (op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		r = -EINVAL;
	else if (!it)
		r = -ENOENT;
	else if (op == EPOLL_CTL_MOD)
		r = ctl_mod(s, epfd, it, ev);
	else
		ctl_del(s, epfd, it);
	lock_give(&s->lock);
	return r;
}

static int ctl_kernel(int epfd, int op, int fd, struct epoll_event *ev, struct nfile *set)
{
	/* before: a raw wait that begins now must not miss it; harmless if the call fails */
	if (set && set->kind == NF_EPOLL && op == EPOLL_CTL_ADD)
		__atomic_store_n(&ev_set_of(set)->kernel, true, __ATOMIC_RELAXED);
	return (int)libc_errno(libc.epoll_ctl(epfd, op, fd, ev));
}

int ev_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	struct nfile *set = fd_get(epfd), *f = fd_get(fd);
	struct epoll_event copy;
	int r = 0;

	if (!f) {
		r = ctl_kernel(epfd, op, fd, ev, set);
		goto out;
	}
	if (op != EPOLL_CTL_DEL) { /* Linux reads it first, whatever the rest is */
		if (ev_wild(ev)) {
			r = -EFAULT;
			goto out;
		}
		copy = *ev;
	}
	if (!set)
		r = set_adopt_foreign(epfd, &set);
	else if (set->kind != NF_EPOLL)
		r = -EINVAL;
	if (!r)
		r = set == f ? -EINVAL : ctl_ours(ev_set_of(set), epfd, op, f, fd, &copy);
out:
	if (f)
		nfile_put(f);
	if (set)
		nfile_put(set);
	return r;
}

/* --- wait --------------------------------------------------------------------------------- */

static int raw_wait(int epfd, struct epoll_event *evs, int max, const struct timespec *timeout,
		    const sigset_t *mask)
{
	int r, ms = -1;

	if (timeout && !timeout->tv_sec && !timeout->tv_nsec)
		ms = 0;
	if (ms == 0 || !timeout)
		return (int)libc_errno(libc.epoll_pwait(epfd, evs, max, ms, mask));
	r = libc.epoll_pwait2(epfd, evs, max, timeout, mask);
	if (r >= 0 || errno != ENOSYS)
		return (int)libc_errno(r);
	/* kernels before 5.11: whole milliseconds, never early */
	ms = timeout->tv_sec > INT_MAX / 1000 - 1 ?
		     INT_MAX :
		     (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
	return (int)libc_errno(libc.epoll_pwait(epfd, evs, max, ms, mask));
}

static bool kernel_side(struct ev_set *s)
{
	return s->inner >= 0 || __atomic_load_n(&s->kernel, __ATOMIC_RELAXED);
}

/* Is it time to ask the kernel, though the ready list may have something? What the program itself
 * put there (a pipe it has just written to) has to be in the next answer; the other halves of our
 * members can wait a little. s->lock. */
static bool kernel_due(struct ev_set *s)
{
	uint64_t now;

	if (__atomic_load_n(&s->kernel, __ATOMIC_RELAXED))
		return true;
	if (ev_ready_empty(s)) {
		s->calls = 0;
		return true;
	}
	now = worker_now();
	if (++s->calls < KERNEL_EVERY && now - s->asked_ns < KERNEL_NS)
		return false;
	s->calls = 0;
	s->asked_ns = now;
	return true;
}

/* Whether the kernel has to be asked. */
enum ask {
	ASK,          /* nobody knows */
	ASK_IF_LIST,  /* with an empty list the caller sleeps next, on the set's descriptor, too */
	ASK_NOT,      /* it has slept, and there was nothing */
};

/* One look at both sides: the kernel first, whose events of our members' other halves bring along
 * what the stack has for them. If it left no room for the list, it gets half of it next time. */
static int set_collect(struct ev_set *s, int epfd, struct epoll_event *evs, int max, enum ask how)
{
	int n = 0, kernel = 0, room;
	bool ask;

	lock_take(&s->lock);
	if (s->resync)
		ev_kernel_resync(s, epfd);
	s->round++;
	ev_ready_rewatch(s, epfd);
	ask = kernel_side(s) && how != ASK_NOT && (how == ASK || !ev_ready_empty(s));
	if (ask && kernel_due(s)) {
		room = s->crowded ? max / 2 : max;
		kernel = ev_kernel_collect(s, epfd, evs, room);
		n = kernel > 0 ? kernel : 0;
		s->crowded = n == max && !ev_ready_empty(s);
		ask = !room;
	}
	n += ev_ready_collect(s, evs + n, max - n);
	if (!n && ask) /* the list had nothing true */
		n = kernel = ev_kernel_collect(s, epfd, evs, max);
	lock_give(&s->lock);
	return n ? n : kernel;
}

/* Events that can't be written anywhere: they stay where they are. */
static int set_collect_wild(struct ev_set *s, int epfd, struct epoll_event *evs, int max)
{
	if (ev_set_poll(s))
		return -EFAULT;
	return kernel_side(s) ? (int)libc_errno(libc.epoll_wait(epfd, evs, max, 0)) : 0;
}

/* The set's kernel descriptors to sleep on. A number that meanwhile is another file's is not
 * one of them: closing an epoll descriptor doesn't end the waits on it. */
static unsigned set_kfds(struct ev_set *s, int epfd, struct pollfd kfds[2], uint64_t *deadline)
{
	unsigned nk = 0;

	if ((unsigned)epfd >= NFILE_FDS ||
	    __atomic_load_n(&nfile_table[epfd], __ATOMIC_RELAXED) != &s->nf)
		return 0;
	if (!s->forked || worker_now() >= s->mute_until)
		kfds[nk++] = (struct pollfd){ .fd = epfd, .events = POLLIN };
	else if (s->mute_until < *deadline)
		*deadline = s->mute_until;
	if (s->forked && s->inner >= 0)
		kfds[nk++] = (struct pollfd){ .fd = s->inner, .events = POLLIN };
	return nk;
}

#define NOT_ASKED ((short)-1) /* of a pollfd's revents: the sleep was over before it was looked at */

/* After a sleep: does the kernel have something? A forked set is not always slept on. */
static enum ask sleep_told(const struct ev_set *s, const struct pollfd *kfds, unsigned nk)
{
	return !s->forked && nk == 1 && kfds[0].revents == 0 ? ASK_NOT : ASK;
}

static int set_wait(struct ev_set *s, int epfd, struct epoll_event *evs, int max,
		    const struct timespec *timeout, uint64_t deadline, const sigset_t *mask)
{
	enum ask ask = ev_timeout_zero(timeout) || s->forked ? ASK : ASK_IF_LIST;
	struct pollfd kfds[2] = { { .fd = -1 } };
	uint64_t until, again;
	unsigned nk;
	int n, r = 1;

	worker_call_begin();
	worker_burst(0);
	worker_drive();
	for (;;) {
		n = ev_wild(evs) ? set_collect_wild(s, epfd, evs, max) :
				   set_collect(s, epfd, evs, max, ask);
		if (n == -EBADF) /* closed while we wait: what the user stack has still counts */
			n = 0;
		if (n || r <= 0)
			break;
		if (ev_timeout_zero(timeout))
			return 0;
		if (!deadline)
			deadline = ev_deadline(timeout);
		until = deadline;
		nk = set_kfds(s, epfd, kfds, &until);
		again = ev_sock_sleep(epfd);
		until = again < until ? again : until;
		kfds[0].revents = NOT_ASKED;
		r = ev_set_sleep(s, kfds, nk, until, mask);
		ask = sleep_told(s, kfds, nk);
		if (r == 1 && s->forked && kfds[0].fd == epfd && kfds[0].revents)
			s->mute_until = worker_now() + MUTE_NS;
		if (r == 0 && until < deadline)
			r = 1;
	}
	if (!n && r < 0)
		n = r;
	/* a ring that was meant for us, or level-triggered members: the next one looks, too */
	if (__atomic_load_n(&s->sleeping, __ATOMIC_RELAXED) && !ev_ready_empty(s))
		ev_set_wake(s);
	if (n > 1)
		worker_burst((unsigned)n);
	return n;
}

static void raw_cancelled(void *arg)
{
	struct ev_set *s = arg;

	__atomic_sub_fetch(&s->raw_waiters, 1, __ATOMIC_SEQ_CST);
	nfile_put(&s->nf);
}

/* A raw wait that a cancelled thread leaves tidily. */
static int raw_wait_counted(struct ev_set *s, int epfd, struct epoll_event *evs, int max,
			    const struct timespec *timeout, const sigset_t *mask)
{
	struct _pthread_cleanup_buffer undo;
	int n;

	cleanup_push(&undo, raw_cancelled, s);
	n = raw_wait(epfd, evs, max, timeout, mask);
	cleanup_pop(&undo);
	return n;
}

/* While the set has no members of ours the wait is libc's. Returns what epoll_wait() does, or
 * -EAGAIN: the set got a member of ours (*deadline is the end of the wait). */
static int set_wait_raw(struct ev_set *s, int epfd, struct epoll_event *evs, int max,
			const struct timespec *timeout, uint64_t *deadline, const sigset_t *mask)
{
	bool ours = false;
	int n = 0;

	if (ev_timeout_zero(timeout)) {
		n = raw_wait(epfd, evs, max, timeout, mask);
	} else {
		*deadline = ev_deadline(timeout);
		/* full barrier: pairs ev.raw - counted before members are looked for. A bell that
		 * was rung for us is cleared by whoever finds it rung without raw waiters. */
		__atomic_add_fetch(&s->raw_waiters, 1, __ATOMIC_SEQ_CST);
		ours = __atomic_load_n(&s->nitems, __ATOMIC_SEQ_CST);
		if (!ours)
			n = raw_wait_counted(s, epfd, evs, max, timeout, mask);
		__atomic_sub_fetch(&s->raw_waiters, 1, __ATOMIC_SEQ_CST);
	}
	if (n > 0)
		n = ev_kernel_strip(s, evs, n, &ours);
	return n == 0 && ours ? -EAGAIN : n;
}

bool ev_epoll_plain(int epfd, bool blocks)
{
	bool single = __libc_single_threaded, plain;
	struct nfile *f;

	if (blocks && !single)
		return false;
	if (!single)
		rcu_read_lock();
	f = (unsigned)epfd < NFILE_FDS ? rcu_dereference(nfile_table[epfd]) : NULL;
	plain = f && f->kind == NF_EPOLL &&
		!__atomic_load_n(&ev_set_of(f)->nitems, __ATOMIC_RELAXED) &&
		__atomic_load_n(&ev_set_of(f)->inner, __ATOMIC_RELAXED) < 0;
	if (!single)
		rcu_read_unlock();
	return plain;
}

int ev_epoll_wait(int epfd, struct epoll_event *evs, int max, const struct timespec *timeout,
		  const sigset_t *mask)
{
	struct nfile *f = fd_get(epfd);
	uint64_t deadline = 0;
	int n = -EAGAIN;

	if (!f || f->kind != NF_EPOLL) {
		if (f)
			nfile_put(f);
		return raw_wait(epfd, evs, max, timeout, mask);
	}
	if ((timeout && ev_wild(timeout)) || (mask && ev_wild(mask)))
		n = -EFAULT;
	else if (max <= 0 || max > (int)(INT_MAX / sizeof(*evs)) || !ev_timeout_valid(timeout))
		n = -EINVAL;
	else if (!__atomic_load_n(&ev_set_of(f)->nitems, __ATOMIC_RELAXED))
		n = set_wait_raw(ev_set_of(f), epfd, evs, max, timeout, &deadline, mask);
	if (n == -EAGAIN)
		n = set_wait(ev_set_of(f), epfd, evs, max, timeout, deadline, mask);
	nfile_put(f);
	return n;
}
