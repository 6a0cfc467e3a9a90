/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/file.c - the fd table
 *
 * A flat array of pointers, indexed by descriptor. Readers take an nfile under RCU: load the
 * entry, raise the count unless it is 0, done; the memory stays valid until a grace period after
 * the last reference went. Writers (socket, close, dup) exchange entries atomically, so two
 * threads that close the same number never both get it. fd_max bounds walks over the table.
 *
 * Freeing: call_rcu, except while the process has one thread only, when there is nobody to wait
 * for (so a program without threads never gets one from this file).
 *
 * Threads: any. Not here: what an nfile does when its last reference goes (release()).
 */
#define _GNU_SOURCE
#include "nsocket/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

struct nfile *nfile_table[NFILE_FDS];
static int fd_max = -1; /* atomic: no entry above it */

/* What protected numbers refer to. refs is 0, so fd_get() never hands it out. */
static struct nfile internal;

static void fd_max_raise(int fd)
{
	int old = __atomic_load_n(&fd_max, __ATOMIC_RELAXED);

	while (old < fd && !__atomic_compare_exchange_n(&fd_max, &old, fd, true, __ATOMIC_RELEASE,
							__ATOMIC_RELAXED))
		;
}

/* --- nfiles ------------------------------------------------------------------------------ */

void nfile_init(struct nfile *f, enum nfile_kind kind, uint32_t flags,
		void (*release)(struct nfile *))
{
	f->refs = 1;
	f->fds = 0;
	f->kind = kind;
	f->flags = flags;
	f->release = release;
	CDS_INIT_LIST_HEAD(&f->watches);
	pthread_mutex_init(&f->watch_lock, NULL);
}

void nfile_get(struct nfile *f)
{
	__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED); /* the caller holds one already */
}

void nfile_put(struct nfile *f)
{
	/* acq_rel: what other holders did is visible to the one that releases */
	if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) == 0)
		f->release(f);
}

static void nfile_free_cb(struct rcu_head *head)
{
	struct nfile *f = caa_container_of(head, struct nfile, rcu);

	pthread_mutex_destroy(&f->watch_lock);
	free(f);
}

void nfile_free_rcu(struct nfile *f)
{
	file_call_rcu(&f->rcu, nfile_free_cb);
}

#define NPROC_TIGHT 1024 /* a limit of processes below this was meant */

static bool call_rcu_started; /* atomic; a forked child gets a thread of its own */
/* Not pthread_once(): a fork in the middle of it would leave the child to wait for a thread that it does
 * not have. */
static pthread_mutex_t call_rcu_lock = PTHREAD_MUTEX_INITIALIZER;

/* The program's signal handlers must not run in a thread that the program does not know. */
static void without_signals(void (*make_thread)(void))
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	make_thread();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static bool call_rcu_never; /* atomic */

void file_call_rcu_never(void)
{
	__atomic_store_n(&call_rcu_never, true, __ATOMIC_RELAXED);
}

static void *nothing(void *arg)
{
	return arg;
}

/* liburcu ends the program if it gets no thread. Programs that limit themselves, above all in a
 * forked child, do without. */
static bool thread_possible(void)
{
	struct rlimit as, nproc;
	pthread_t thread;

	if (getrlimit(RLIMIT_AS, &as) || getrlimit(RLIMIT_NPROC, &nproc))
		return true;
	if (as.rlim_cur == RLIM_INFINITY && nproc.rlim_cur > NPROC_TIGHT)
		return true;
	if (pthread_create(&thread, NULL, nothing, NULL))
		return false;
	pthread_join(thread, NULL);
	return true;
}

static void call_rcu_thread_make(void)
{
	lock_take(&call_rcu_lock);
	if (!call_rcu_started && thread_possible())
		get_default_call_rcu_data();
	else if (!call_rcu_started)
		file_call_rcu_never();
	/* release: pairs with file_call_rcu() */
	__atomic_store_n(&call_rcu_started, true, __ATOMIC_RELEASE);
	lock_give(&call_rcu_lock);
}

static void call_rcu_thread_start(void)
{
	without_signals(call_rcu_thread_make);
}

void file_fork_prepare(void)
{
	if (!__atomic_load_n(&call_rcu_never, __ATOMIC_RELAXED))
		call_rcu_before_fork();
}

void file_fork_parent(void)
{
	if (!__atomic_load_n(&call_rcu_never, __ATOMIC_RELAXED))
		call_rcu_after_fork_parent();
}

/* liburcu makes a new thread, where the parent had one. */
static void call_rcu_thread_again(void)
{
	if (!__atomic_load_n(&call_rcu_started, __ATOMIC_RELAXED) || thread_possible())
		call_rcu_after_fork_child();
	else
		file_call_rcu_never();
}

void file_fork_child(void)
{
	if (!__atomic_load_n(&call_rcu_never, __ATOMIC_RELAXED))
		without_signals(call_rcu_thread_again);
	pthread_mutex_init(&call_rcu_lock, NULL);
}

bool file_call_rcu_thread(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	if (!__atomic_load_n(&call_rcu_started, __ATOMIC_RELAXED) ||
	    __atomic_load_n(&call_rcu_never, __ATOMIC_RELAXED))
		return false;
	call_rcu(head, fn);
	return true;
}

void file_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	if (__builtin_expect(__atomic_load_n(&call_rcu_never, __ATOMIC_RELAXED), 0))
		return;
	if (__libc_single_threaded && !rcu_read_ongoing()) {
		fn(head);
		return;
	}
	/* acquire: the thread is there */
	if (!__atomic_load_n(&call_rcu_started, __ATOMIC_ACQUIRE))
		call_rcu_thread_start();
	if (!__atomic_load_n(&call_rcu_never, __ATOMIC_RELAXED))
		call_rcu(head, fn);
}

int nfile_fd_count(struct nfile *f)
{
	return __atomic_load_n(&f->fds, __ATOMIC_ACQUIRE);
}

/* --- table ------------------------------------------------------------------------------- */

bool nfile_tryget(struct nfile *f)
{
	int refs = __atomic_load_n(&f->refs, __ATOMIC_RELAXED);

	while (refs && !__atomic_compare_exchange_n(&f->refs, &refs, refs + 1, true,
						    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		;
	return refs;
}

struct nfile *fd_get(int fd)
{
	struct nfile *f;

	if (!fd_is_ours(fd))
		return NULL;
	rcu_read_lock();
	/* acquire: pairs file.table */
	f = rcu_dereference(nfile_table[fd]);
	if (f && !nfile_tryget(f))
		f = NULL;
	rcu_read_unlock();
	return f;
}

int nfile_fd(const struct nfile *f)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (__atomic_load_n(&nfile_table[fd], __ATOMIC_RELAXED) == f)
			return fd;
	return -1;
}

static void entry_gone(struct nfile *f)
{
	__atomic_sub_fetch(&f->fds, 1, __ATOMIC_ACQ_REL);
}

int fd_install(int fd, struct nfile *f)
{
	struct nfile *old;

	if ((unsigned)fd >= NFILE_FDS)
		return -EMFILE;
	nfile_get(f);
	__atomic_add_fetch(&f->fds, 1, __ATOMIC_RELAXED);
	fd_max_raise(fd);
	/* release: pairs file.table - the nfile is complete before it can be found */
	old = __atomic_exchange_n(&nfile_table[fd], f, __ATOMIC_ACQ_REL);
	if (old && old != &internal) {
		/* the number was closed behind our back (a stream, a raw system call) */
		entry_gone(old);
		nfile_put(old);
	}
	return 0;
}

struct nfile *fd_remove(int fd)
{
	struct nfile *f;

	if (!fd_is_ours(fd) || fd_is_protected(fd))
		return NULL;
	f = __atomic_exchange_n(&nfile_table[fd], NULL, __ATOMIC_ACQ_REL);
	if (f)
		entry_gone(f);
	return f;
}

bool fd_remove_if(int fd, struct nfile *f)
{
	if ((unsigned)fd >= NFILE_FDS ||
	    !__atomic_compare_exchange_n(&nfile_table[fd], &f, NULL, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return false;
	entry_gone(f);
	nfile_put(f);
	return true;
}

void fd_recount(void)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (!fd_is_protected(fd))
			nfile_table[fd]->refs = nfile_table[fd]->fds = 0;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (!fd_is_protected(fd)) {
			nfile_table[fd]->refs++;
			nfile_table[fd]->fds++;
		}
}

int fd_next(int fd)
{
	int max = __atomic_load_n(&fd_max, __ATOMIC_ACQUIRE);

	for (fd = fd < 0 ? 0 : fd; fd <= max; fd++)
		if (__atomic_load_n(&nfile_table[fd], __ATOMIC_RELAXED))
			return fd;
	return -1;
}

void fd_protect(int fd)
{
	if ((unsigned)fd >= NFILE_FDS)
		return;
	fd_max_raise(fd);
	__atomic_store_n(&nfile_table[fd], &internal, __ATOMIC_RELEASE);
}

void fd_unprotect(int fd)
{
	if (fd_is_protected(fd))
		__atomic_store_n(&nfile_table[fd], NULL, __ATOMIC_RELEASE);
}

bool fd_is_protected(int fd)
{
	return (unsigned)fd < NFILE_FDS &&
	       __atomic_load_n(&nfile_table[fd], __ATOMIC_RELAXED) == &internal;
}

/* A thread may be about to be cancelled, and close() is a cancellation point. */
static void close_uncancelled(int fd)
{
#ifdef __SANITIZE_THREAD__ /* which has to see it, or it takes the number's next owner for this one */
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	close(fd);
	pthread_setcancelstate(old, NULL);
#else
	syscall(SYS_close, fd);
#endif
}

int fd_hide(int fd)
{
	struct rlimit lim = { .rlim_cur = 1024 };
	int base = 900, high;

	if (fd < 0)
		return fd;
	getrlimit(RLIMIT_NOFILE, &lim);
	/* at the end of what the smallest usual limit allows, so the kernel's table stays small */
	if (lim.rlim_cur < 2048)
		base = (int)(lim.rlim_cur - lim.rlim_cur / 8);
	if (fd < base) {
		high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, base);
		if (high >= 0) {
			close_uncancelled(fd);
			fd = high;
		}
	}
	fd_protect(fd);
	return fd;
}

void fd_hide_close(int fd)
{
	if (fd < 0)
		return;
	fd_unprotect(fd);
	close_uncancelled(fd);
}

/* --- watches ----------------------------------------------------------------------------- */

void watch_add(struct nfile *f, struct watch *w)
{
	lock_take(&f->watch_lock);
	/* relaxed: a hint */
	__atomic_store_n(&f->watched, f->watched | (w->exclusive ? NF_WATCHED_ONE : NF_WATCHED_ALL),
			 __ATOMIC_RELAXED);
	if (w->exclusive)
		cds_list_add_tail_rcu(&w->node, &f->watches);
	else
		cds_list_add_rcu(&w->node, &f->watches);
	lock_give(&f->watch_lock);
}

void watch_del(struct nfile *f, struct watch *w)
{
	lock_take(&f->watch_lock);
	cds_list_del_rcu(&w->node);
	lock_give(&f->watch_lock);
}

/* Changes of state concern everybody, as in Linux. */
#define WATCH_ALL (NSOCK_EV_REWATCH | EPOLLRDHUP | EPOLLHUP)

void watch_notify(struct nfile *f, uint32_t events)
{
	bool woken = false;
	struct watch *w;

	/* full barrier: pairs ev.watch - what the caller published comes before the look at the
	 * list; a watch that is missed here looks at readiness after it was added */
	nst_full_barrier();
	rcu_read_lock();
	cds_list_for_each_entry_rcu(w, &f->watches, node) {
		if (w->exclusive && woken && !(events & WATCH_ALL))
			break; /* only exclusive ones follow */
		if (w->notify(w, f, events) && w->exclusive)
			woken = true;
	}
	rcu_read_unlock();
}
