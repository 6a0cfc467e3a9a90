/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_internal.h - what the ev_*.c files share
 *
 * A set (one epoll object) is a kernel epoll descriptor, the one that the program holds (here
 * called outer), plus what the kernel can't know: an item for every member that is ours. Kernel
 * members are in the outer with the program's own data and cost nothing here.
 *
 * An item learns of its member's user-stack half by notify(), which puts it on the set's ready
 * list; the list says only "look here": whoever collects asks nsock_poll() for the truth, so no
 * event is ever stale. Where a member's kernel half counts too (listeners, UDP, sockets that are
 * not yet decided), the descriptor is also in a private kernel epoll, the inner one, with the
 * item's slot number as data; the inner is a member of the outer, with a random number as data.
 * So whoever looks at the outer only (another epoll, poll(), another process) sees all that the
 * kernel has, and one look at the outer tells us whether to look at the inner.
 */
#ifndef NSOCKET_EV_INTERNAL_H
#define NSOCKET_EV_INTERNAL_H

#include <nsocket/ev.h>
#include <nsocket/file.h>
#include <nsocket/worker.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu/wfcqueue.h>

/* Where the kernel half of an item is registered. */
enum ev_khalf {
	EV_K_NONE,
	EV_K_INNER, /* in the inner epoll; events come by slot number */
	EV_K_OUTER, /* in the outer with the program's data (nested sets): the kernel reports it */
};

/* Is an item on the ready list? */
enum ev_queued {
	EV_Q_NO,
	EV_Q_YES,
	EV_Q_TOLD, /* yes, but what it came for was reported beside its kernel half */
};

struct ev_set;

/* A member of a set. Fields belong to set->lock except where said. */
struct ev_item {
	struct watch watch;          /* on the file's list */
	struct cds_wfcq_node ready;  /* on the set's ready list while queued */
	uint32_t queued;             /* atomic: enum ev_queued; who collects may hold it instead */
	uint32_t refs;               /* atomic: membership (until a grace period after), ready list */
	uint32_t events;             /* atomic: interest (with ERR and HUP) and flags; disarmed: only flags */
	uint32_t rewatch;            /* atomic: the file's kernel half has to be looked at again */
	uint32_t dead;               /* atomic: no longer a member */
	int fd;                      /* the number it was added by; may be closed by now (dup) */
	uint64_t data;
	struct ev_set *set;
	struct nfile *f;             /* no reference: ev_file_release() takes the item out */
	uint32_t slot, gen;          /* name of the item inside the inner epoll */
	uint32_t round;              /* last collection that delivered it */
	uint8_t khalf;               /* enum ev_khalf */
	uint32_t kevents;            /* EV_K_INNER: what the kernel half is registered for */
	struct cds_list_head member; /* in set->items */
	struct rcu_head rcu;
};

/* Threads that sleep on a set; slots are found without a lock, chunks live as long as the set. */
#define EV_SLEEPERS 16
struct ev_sleepers {
	struct waiter *slot[EV_SLEEPERS]; /* atomic; NULL = free, or its sleeper was rung */
	struct ev_sleepers *next;         /* atomic; written once */
};

struct ev_set {
	struct nfile nf; /* first: the set is a file */
	pthread_mutex_t lock;

	/* The ready list: enqueued by notify (wait-free), dequeued under lock. */
	struct __cds_wfcq_head ready_head;
	struct cds_wfcq_tail ready_tail;
	uint32_t sleeping;           /* atomic: threads in sleepers; 0 spares the walk */
	struct ev_sleepers sleepers;

	uint32_t nitems;             /* atomic: members of ours */
	uint32_t nested;             /* members that are sets themselves */
	uint32_t ndead;              /* dead items that may still be on the ready list */
	uint32_t round;              /* counts collections */
	uint32_t rewatch;            /* atomic: an item on the ready list has its flag set */
	uint32_t raw_waiters;        /* atomic: threads inside libc's epoll_wait */
	struct cds_list_head items;

	uintptr_t *slots;            /* by ev_item.slot: the item, or odd: a link of the free list */
	uint32_t nslots, slot_free, slot_gen;

	int inner;                   /* private epoll of kernel halves, -1 = not yet needed */
	int bell;                    /* eventfd in inner that ends raw waits, -1 = never needed */
	uint64_t magic;              /* data of inner in outer */
	bool kernel;                 /* atomic: the outer may have members of the kernel */
	bool forked;                 /* the outer is shared with the parent, whose inner is in it */
	bool resync;                 /* atomic: first use after fork: all items anew */
	bool crowded;                /* the kernel's events took all the room, the list has some */
	uint32_t calls;              /* atomic, inexact: waits since the kernel was asked */
	uint64_t asked_ns;           /* when the kernel was asked last */
	uint64_t mute_until;         /* forked: the outer is ready for the parent only; until then */

	struct cds_list_head all;    /* under ev_global */
};

extern pthread_mutex_t ev_global;

#define EV_FLAGS (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

static inline struct ev_set *ev_set_of(struct nfile *f)
{
	return (struct ev_set *)f;
}

/* Sockets report the classic bits; programs may ask by their other names. */
static inline uint32_t ev_expand(uint32_t events)
{
	if (events & EPOLLIN)
		events |= EPOLLRDNORM;
	if (events & EPOLLOUT)
		events |= EPOLLWRNORM;
	return events;
}

/* A pointer of the program that can't be one (NULL, with an offset, or not below the kernel's
 * half): EFAULT, as in Linux. That any other can be used is not checked: it would cost a system
 * call. NULL counts, so ask first where it may be NULL. */
static inline bool ev_wild(const void *p)
{
	return (uintptr_t)p - 65536 >= ((uintptr_t)1 << 47) - 65536;
}

/* What a report of the stack may concern, by all its names: who finds himself in it looks. A change
 * of state (RDHUP, HUP) concerns everybody, as in Linux: a FIN is an edge of OUT, too. */
static inline uint32_t ev_key(uint32_t events)
{
	if (events & EPOLLIN)
		events |= EPOLLRDNORM | EPOLLRDBAND | EPOLLPRI;
	if (events & EPOLLOUT)
		events |= EPOLLWRNORM | EPOLLWRBAND;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		events |= UINT32_MAX & ~EV_FLAGS;
	return events;
}

/* --- ev_set.c: sets, items, the ready list ------------------------------------------------ */

int ev_set_create(struct ev_set **out); /* refs 1; -ENOMEM */
struct ev_item *ev_item_find(struct ev_set *s, struct nfile *f, int fd); /* s->lock */
/* By its name in the inner epoll: slot, and gen in the upper half. NULL: gone. s->lock. */
struct ev_item *ev_item_by_name(struct ev_set *s, uint64_t name);
static inline uint64_t ev_item_name(const struct ev_item *it)
{
	return (uint64_t)it->gen << 32 | it->slot;
}
int ev_item_create(struct ev_item **out, struct ev_set *s, struct nfile *f, int fd,
		   const struct epoll_event *ev); /* s->lock; not yet watching */
/* Out of the set, for good; its kernel half is the caller's business. s->lock. */
void ev_item_remove(struct ev_set *s, struct ev_item *it);
/* Put it on the ready list, if it isn't, and wake somebody: is there anybody? Any context. */
bool ev_item_queue(struct ev_item *it);
/* What the stack has is about to be reported beside the kernel half: no edge of its own any more. */
void ev_item_told(struct ev_item *it);
/* Is the member ready in the user stack, in bits the item wants? s->lock. */
uint32_t ev_item_ready(struct ev_item *it);
/* Write the event out, unless the round has it; handles one-shot. Returns 1, or 0. s->lock. */
int ev_item_deliver(struct ev_item *it, uint32_t events, bool by_kernel, struct epoll_event *out);
/* Serve the ready list. s->lock. */
int ev_ready_collect(struct ev_set *s, struct epoll_event *evs, int max);
/* Look again at the kernel halves of items that were told to; before the kernel is asked, or an
 * edge could be reported twice. s->lock. */
void ev_ready_rewatch(struct ev_set *s, int epfd);
static inline bool ev_ready_empty(struct ev_set *s)
{
	return cds_wfcq_empty(__cds_wfcq_head_cast(&s->ready_head), &s->ready_tail);
}
/* Is any member of ours ready? Drops list entries that are not. Takes s->lock. */
bool ev_set_poll(struct ev_set *s);
/* Wake one sleeper (true: there is one), and whoever watches the set itself. Any context. */
bool ev_set_wake(struct ev_set *s);
/* Sleep on the set; results as worker_wait(). kfds: the set's kernel descriptors. If the thread is
 * cancelled, the caller's reference to the set is dropped. */
int ev_set_sleep(struct ev_set *s, struct pollfd *kfds, unsigned nk, uint64_t deadline_ns,
		 const sigset_t *sigmask);

/* Readiness of any file of ours, user-stack half. */
static inline uint32_t ev_file_poll(struct nfile *f)
{
	if (f->kind == NF_EPOLL)
		return ev_set_poll(ev_set_of(f)) ? EPOLLIN : 0;
	return nsock_poll(f);
}

/* Is this socket the kernel's for good? (ev_sock.c; sets and sockets that may change: no.) */
bool ev_sock_kernel_only(struct nfile *f);
/* Which events of the kernel half count while there is one. */
uint32_t ev_sock_kernel_bits(struct nfile *f);
/* What the program asks of a set concerning f: for plug-in stacks. 0 or -errno: the call fails. s->lock. */
int ev_sock_ctl(struct nfile *f, int epfd, int op, const struct epoll_event *ev);
/* poll() or select() watches f. */
void ev_sock_watch(struct nfile *f);
/* Is the caller not the program, but the library or a plug-in stack? */
bool ev_sock_inside(void);
/* A thread is about to sleep on a set with members of ours; -1: in poll() or select(). When it has to look
 * again at the latest, as the monotonic clock counts: stacks may be at work only while it is awake. */
uint64_t ev_sock_sleep(int epfd);

/* --- ev_kernel.c: kernel halves ----------------------------------------------------------- */

/* The member is the kernel's for good: put it into the outer under the program's own data and
 * remove the item, so that it costs no more than a member that never was ours. False: not now
 * (disarmed, or its number was closed). s->lock. */
bool ev_item_to_kernel(struct ev_set *s, int epfd, struct ev_item *it);
/* Make the registration of the item's kernel half what it has to be now. s->lock. 0, 1 (the item
 * is gone: ev_item_to_kernel()), or -errno (as before, without a kernel half). */
int ev_khalf_sync(struct ev_set *s, int epfd, struct ev_item *it);
/* The item's interest changed (MOD). s->lock. */
int ev_khalf_mod(struct ev_set *s, int epfd, struct ev_item *it);
/* The item is going, by epoll_ctl(DEL) or by one-shot: out of the inner epoll. s->lock. */
void ev_khalf_drop(struct ev_set *s, struct ev_item *it);
/* Ask the kernel, without waiting, for up to max events. s->lock. -errno only if nothing else. */
int ev_kernel_collect(struct ev_set *s, int epfd, struct epoll_event *evs, int max);
/* Drop what is the set's own from events of the outer; returns how many are left, and whether
 * the inner was among them. */
int ev_kernel_strip(struct ev_set *s, struct epoll_event *evs, int n, bool *inner);
/* End the waits inside libc's epoll_wait on this set. s->lock. */
int ev_bell_ring(struct ev_set *s, int epfd);
/* Close inner and bell; they are made anew when needed. */
void ev_kernel_close(struct ev_set *s);
/* First use in the child: kernel halves of all items anew. s->lock. */
void ev_kernel_resync(struct ev_set *s, int epfd);

/* --- ev_poll.c ---------------------------------------------------------------------------- */

/* In a forked child: drop the watches of poll() calls that other threads of the parent are in. */
void ev_poll_forget(struct nfile *f);

/* --- time --------------------------------------------------------------------------------- */

static inline bool ev_timeout_valid(const struct timespec *t)
{
	return !t || (t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000);
}
static inline bool ev_timeout_zero(const struct timespec *t)
{
	return t && !t->tv_sec && !t->tv_nsec;
}
/* The moment a wait that starts now has to end. */
uint64_t ev_deadline(const struct timespec *timeout);
struct timespec ev_remaining(uint64_t deadline_ns);

#endif
