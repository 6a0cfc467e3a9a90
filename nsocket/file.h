/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/file.h - the fd table and what a descriptor of ours refers to
 *
 * An nfile is what the kernel calls an open file description: descriptors made by dup() share
 * it, fork copies it. The table maps descriptor numbers to nfiles; a number without an nfile is
 * the kernel's. Lookup is RCU (liburcu-bp: threads register themselves) and takes no lock; a
 * caller that keeps the nfile across a blocking call holds a reference.
 *
 * Threads: any. Freed by call_rcu after the last reference.
 */
#ifndef NSOCKET_FILE_H
#define NSOCKET_FILE_H

#include <nsocket/lock.h>
#include <nstack/barrier.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu-bp.h>
#include <urcu/rculist.h>

enum nfile_kind { NF_SOCK, NF_EPOLL };

struct nfile {
	int refs;               /* atomic: table entries + running calls */
	uint8_t kind;           /* enum nfile_kind */
	uint8_t kernel;         /* atomic: the kernel alone serves it, for good; by nsock_set_mode() */
	uint32_t flags;         /* atomic: O_NONBLOCK mirrored (status flags belong to the description) */
	struct cds_list_head watches; /* RCU list of struct watch; writers hold watch_lock */
	pthread_mutex_t watch_lock;
	uint8_t watched;        /* atomic: enum nfile_watched, of all watches that ever were; watch_lock */
	struct rcu_head rcu;
	void (*release)(struct nfile *); /* last reference dropped: clean up, nfile_free_rcu() */
	int fds;                /* atomic: table entries that refer to it */
};

/* One party that wants to hear of events on an nfile: an epoll item or a waiting poll() call.
 * notify runs in RCU read side, possibly under the worker lock, from any thread: it must not
 * block, take the worker lock, or call the stack. */
struct watch {
	struct cds_list_head node;
	bool exclusive; /* set before watch_add() */
	/* Returns whether it woke a thread. */
	bool (*notify)(struct watch *w, struct nfile *f, uint32_t events);
};

enum nfile_watched { NF_WATCHED_ALL = 1, NF_WATCHED_ONE = 2 };

/* exclusive ones are told one after the other until one says that it woke somebody. */
void watch_add(struct nfile *f, struct watch *w);
/* After return no new notify starts; one may still run until a grace period has passed. */
void watch_del(struct nfile *f, struct watch *w);
/* Walk the watches: called for every event of the stack and for local state changes. */
void watch_notify(struct nfile *f, uint32_t events);

/* --- table ------------------------------------------------------------------------------- */

/* Descriptor numbers from here on are always the kernel's. The table is one flat array in bss:
 * a look-up is one load, and pages that no descriptor uses cost nothing. */
#define NFILE_FDS (1 << 20)
extern struct nfile *nfile_table[NFILE_FDS];

/* The fast path of every wrapper: is this number ours at all? Wait-free; a few ns. May be true
 * although fd_get() then answers NULL (a descriptor of the library's own, or a race with close):
 * libc is right then. */
static inline bool fd_is_ours(int fd)
{
	/* relaxed: fd_get() does the ordering, this only says whether to ask it */
	return (unsigned)fd < NFILE_FDS && __atomic_load_n(&nfile_table[fd], __ATOMIC_RELAXED);
}
/* Is fd (still) one of the numbers of f? */
static inline bool nfile_has_fd(const struct nfile *f, int fd)
{
	/* relaxed: compared only */
	return (unsigned)fd < NFILE_FDS &&
	       __atomic_load_n(&nfile_table[fd], __ATOMIC_RELAXED) == f;
}
/* For one that is ours: will it be the kernel's for good, so that data need not pass through us? Takes
 * no reference, which would cost more than all else. */
static inline bool fd_is_kernels(int fd)
{
	const struct nfile *f;
	bool yes;

	rcu_read_lock();
	f = rcu_dereference(nfile_table[fd]);
	/* relaxed: nothing else of it is looked at */
	yes = f && __atomic_load_n(&f->kernel, __ATOMIC_RELAXED);
	rcu_read_unlock();
	return yes;
}
/* With a reference taken, or NULL (kernel fd, bad fd). */
struct nfile *fd_get(int fd);
void nfile_get(struct nfile *f);
void nfile_put(struct nfile *f);
/* A reference, unless the last one is gone; the memory must be known to stay (RCU, a lock). */
bool nfile_tryget(struct nfile *f);
/* A descriptor that refers to f, or -1. Walks the table. */
int nfile_fd(const struct nfile *f);
/* Point fd at f (takes a reference for the entry); replaces what was there. -ENOMEM, -EMFILE */
int fd_install(int fd, struct nfile *f);
/* Remove the entry and return it (the entry's reference passes to the caller), or NULL. */
struct nfile *fd_remove(int fd);
/* Number of table entries that refer to f (dup count). */
int nfile_fd_count(struct nfile *f);
/* The same, only if the entry still is f; false: it is not. */
bool fd_remove_if(int fd, struct nfile *f);
/* Set up the common part: one reference (the caller's), no watches. */
void nfile_init(struct nfile *f, enum nfile_kind kind, uint32_t flags,
		void (*release)(struct nfile *));
/* Free what embeds f (malloc'ed; f is its first member) after a grace period. Calls release()
 * have to end with this. */
void nfile_free_rcu(struct nfile *f);
/* A descriptor of the library's own (doorbell, HAL...): the program may not close or replace it:
 * close() answers EBADF, close_range() skips it. */
void fd_protect(int fd);
void fd_unprotect(int fd);
bool fd_is_protected(int fd);
/* Move one of the library's own out of the numbers that the program expects, close-on-exec and
 * protected; returns the number to use (negative ones pass). And the end of it. */
int fd_hide(int fd);
void fd_hide_close(int fd);
/* First descriptor >= fd that has an entry, or -1: for close_range() and fork. */
int fd_next(int fd);
/* Have fn called by the thread that call_rcu() has here; false: there is none. */
bool file_call_rcu_thread(struct rcu_head *head, void (*fn)(struct rcu_head *head));
/* call_rcu() for anything of this library: its thread is made with all signals blocked, and not
 * at all while the process has a single thread (then fn runs at once). */
void file_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head));
/* From now on it calls nothing: what is given up stays as it is. For processes that may neither make
 * a thread nor wake one (seccomp.c, limits). */
void file_call_rcu_never(void);
/* Around fork: liburcu's thread. The child has a new one where the parent had one, unless its limits
 * forbid. */
void file_fork_prepare(void);
void file_fork_parent(void);
void file_fork_child(void);

/* In the child of a fork, whose only thread is in no call of ours: no reference counts but those of the
 * table. */
void fd_recount(void);

/* --- sockets, as the event side sees them ------------------------------------------------- */

/* Readiness of the user-stack half now, as EPOLL bits (ERR, HUP, RDHUP included, unmasked);
 * 0 while the socket has no session. Makes the stack start if the socket qualifies and it has
 * not (lazy start): so call it once when a socket is first watched or polled. */
uint32_t nsock_poll(struct nfile *f);
/* Must the kernel's half (the shadow, same fd number) be watched too? Undecided sockets,
 * listeners, UDP sockets: yes. Connected user-stack TCP: no (its placeholder would always
 * report HUP). Changes of the answer are announced by watch_notify(f, NSOCK_EV_REWATCH). */
bool nsock_kernel_half(struct nfile *f);
#define NSOCK_EV_REWATCH (1u << 30)

#endif
