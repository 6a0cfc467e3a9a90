/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_set.c - epoll sets: members, the ready list, sleepers
 *
 * The ready list holds items whose member reported something. It is a wait-free queue: notify()
 * appends from any thread, also under the worker lock; whoever holds the set's lock takes from
 * its front. `queued` keeps an item from being on it twice. An item that is taken is asked for
 * the truth (ev_item_ready()); level-triggered items that were delivered go to the end of the
 * list, behind those that were not served, so a small maxevents starves nobody; edge-triggered
 * ones come back only by a new notify().
 *
 * Life of an item: one reference is its membership, given back a grace period after it left the
 * set (a notify() may be on its way), one is its place on the ready list.
 *
 * Ordering: ev.sleep (a sleeper enters its slot, then looks at the list; a notifier appends, then
 * looks at the slots), ev.watch (see ev.h), ev.queued (who takes an item, or reports it beside its
 * kernel half, changes queued, then asks for readiness; a notifier reports readiness, then sets
 * queued).
 *
 * Threads: any. Not here: the kernel's half (ev_kernel.c), the calls (ev_epoll.c).
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

pthread_mutex_t ev_global = PTHREAD_MUTEX_INITIALIZER;
static CDS_LIST_HEAD(ev_sets); /* every set of the process, for fork; under ev_global */

/* Dead items on a ready list nobody collects from: tolerated up to this many beyond members. */
#define EV_DEAD_MAX 64

/* --- time --------------------------------------------------------------------------------- */

uint64_t ev_deadline(const struct timespec *t)
{
	uint64_t now, ns;

	if (!t)
		return UINT64_MAX;
	if ((uint64_t)t->tv_sec > UINT64_MAX / 4 / 1000000000u)
		return UINT64_MAX;
	now = worker_now();
	ns = (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
	return now + ns;
}

struct timespec ev_remaining(uint64_t deadline_ns)
{
	uint64_t now = worker_now();
	uint64_t left = deadline_ns > now ? deadline_ns - now : 0;

	return (struct timespec){ .tv_sec = (time_t)(left / 1000000000u),
				  .tv_nsec = (long)(left % 1000000000u) };
}

/* --- items -------------------------------------------------------------------------------- */

static void item_put(struct ev_item *it)
{
	/* acq_rel: the last one sees what the others did before it frees */
	if (__atomic_sub_fetch(&it->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(it);
}

static void item_free_cb(struct rcu_head *head)
{
	item_put(caa_container_of(head, struct ev_item, rcu));
}

/* True if this call put it there. */
static bool item_enqueue(struct ev_item *it)
{
	/* full barrier: pairs ev.queued - readiness was published before */
	if (__atomic_exchange_n(&it->queued, EV_Q_YES, __ATOMIC_SEQ_CST))
		return false;
	__atomic_add_fetch(&it->refs, 1, __ATOMIC_RELAXED); /* the membership holds one */
	cds_wfcq_enqueue(__cds_wfcq_head_cast(&it->set->ready_head), &it->set->ready_tail, &it->ready);
	return true;
}

static void set_tell(struct ev_set *s)
{
	if (!cds_list_empty(&s->nf.watches))
		watch_notify(&s->nf, EPOLLIN);
}

bool ev_item_queue(struct ev_item *it)
{
	/* Who found it queued already needs no wake-up: that was done when it was queued. For who
	 * watches the set itself it is news, nevertheless. */
	if (item_enqueue(it))
		return ev_set_wake(it->set);
	set_tell(it->set);
	/* relaxed: a hint, for exclusive members */
	return __atomic_load_n(&it->set->sleeping, __ATOMIC_RELAXED);
}

static bool item_notify(struct watch *w, struct nfile *f, uint32_t events)
{
	struct ev_item *it = caa_container_of(w, struct ev_item, watch);
	uint32_t interest = __atomic_load_n(&it->events, __ATOMIC_RELAXED);

	/* relaxed: who collects looks again under the lock; this only saves work */
	if (__atomic_load_n(&it->dead, __ATOMIC_RELAXED))
		return false;
	if (events & NSOCK_EV_REWATCH) {
		__atomic_store_n(&it->rewatch, 1, __ATOMIC_RELAXED); /* published by the set's */
		/* release: pairs ev.rewatch */
		__atomic_store_n(&it->set->rewatch, 1, __ATOMIC_RELEASE);
	} else if (!(ev_key(events) & interest & ~EV_FLAGS)) {
		return false;
	}
	return ev_item_queue(it);
}

bool ev_waited_on(struct nfile *f)
{
	struct ev_set *s;
	bool yes = false;
	struct watch *w;

	rcu_read_lock();
	cds_list_for_each_entry_rcu(w, &f->watches, node) {
		s = w->notify == item_notify ? caa_container_of(w, struct ev_item, watch)->set : NULL;
		/* what is no set's item is a poll() under way; sets nest five deep at most */
		yes = !s || __atomic_load_n(&s->sleeping, __ATOMIC_RELAXED) ||
		      __atomic_load_n(&s->raw_waiters, __ATOMIC_RELAXED) || ev_waited_on(&s->nf);
		if (yes)
			break;
	}
	rcu_read_unlock();
	return yes;
}

struct ev_item *ev_item_find(struct ev_set *s, struct nfile *f, int fd)
{
	struct ev_item *it, *found = NULL;
	struct watch *w;

	/* A file has few watches; those of this set can't come or go while its lock is held. */
	rcu_read_lock();
	cds_list_for_each_entry_rcu(w, &f->watches, node) {
		it = caa_container_of(w, struct ev_item, watch);
		if (w->notify == item_notify && it->set == s && it->fd == fd &&
		    !__atomic_load_n(&it->dead, __ATOMIC_RELAXED)) {
			found = it;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

/* Free entries of s->slots are a list: 2 * next + 1, which no pointer is. */
#define SLOT_END ((uintptr_t)UINT32_MAX * 2 + 1)

static int slot_take(struct ev_set *s, struct ev_item *it)
{
	uint32_t n = s->nslots ? s->nslots * 2 : 8;
	uintptr_t *more;

	if (s->slot_free == UINT32_MAX) {
		more = realloc(s->slots, n * sizeof(*more));
		if (!more)
			return -ENOMEM;
		for (uint32_t i = s->nslots; i < n; i++)
			more[i] = i + 1 < n ? (uintptr_t)(i + 1) * 2 + 1 : SLOT_END;
		s->slot_free = s->nslots;
		s->slots = more;
		s->nslots = n;
	}
	it->slot = s->slot_free;
	it->gen = ++s->slot_gen;
	s->slot_free = (uint32_t)(s->slots[it->slot] / 2);
	s->slots[it->slot] = (uintptr_t)it;
	return 0;
}

static void slot_give(struct ev_set *s, uint32_t slot)
{
	s->slots[slot] = (uintptr_t)s->slot_free * 2 + 1;
	s->slot_free = slot;
}

struct ev_item *ev_item_by_name(struct ev_set *s, uint64_t name)
{
	uint32_t slot = (uint32_t)name;
	struct ev_item *it;

	if (slot >= s->nslots || (s->slots[slot] & 1))
		return NULL;
	it = (struct ev_item *)s->slots[slot];
	return it->gen == (uint32_t)(name >> 32) ? it : NULL;
}

int ev_item_create(struct ev_item **out, struct ev_set *s, struct nfile *f, int fd,
		   const struct epoll_event *ev)
{
	struct ev_item *it = calloc(1, sizeof(*it));

	if (!it)
		return -ENOMEM;
	it->watch.notify = item_notify;
	it->watch.exclusive = ev->events & EPOLLEXCLUSIVE;
	cds_wfcq_node_init(&it->ready);
	it->refs = 1;
	it->events = ev->events | EPOLLERR | EPOLLHUP; /* always wanted, unless disarmed */
	it->data = ev->data.u64;
	it->fd = fd;
	it->set = s;
	it->f = f;
	it->round = s->round - 1;
	if (slot_take(s, it)) {
		free(it);
		return -ENOMEM;
	}
	cds_list_add_tail(&it->member, &s->items);
	/* seq_cst: pairs ev.raw - counted before raw waiters are looked for */
	__atomic_add_fetch(&s->nitems, 1, __ATOMIC_SEQ_CST);
	watch_add(f, &it->watch);
	*out = it;
	return 0;
}

static void ready_purge(struct ev_set *s);

void ev_item_remove(struct ev_set *s, struct ev_item *it)
{
	/* read side: watch_del() may still be unlocking when another thread frees the file */
	rcu_read_lock();
	watch_del(it->f, &it->watch);
	__atomic_store_n(&it->dead, 1, __ATOMIC_RELAXED);
	rcu_read_unlock();
	cds_list_del(&it->member);
	if (it->khalf == EV_K_OUTER)
		s->nested--;
	slot_give(s, it->slot);
	__atomic_sub_fetch(&s->nitems, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&it->queued, __ATOMIC_RELAXED) && ++s->ndead > EV_DEAD_MAX + s->nitems)
		ready_purge(s);
	it->f = NULL;
	file_call_rcu(&it->rcu, item_free_cb);
}

uint32_t ev_item_ready(struct ev_item *it)
{
	uint32_t want = it->events & ~EV_FLAGS;

	if (!want)
		return 0;
	return ev_expand(ev_file_poll(it->f)) & want;
}

int ev_item_deliver(struct ev_item *it, uint32_t events, bool by_kernel, struct epoll_event *out)
{
	struct ev_set *s = it->set;

	if (it->round == s->round)
		return 0;
	it->round = s->round;
	out->events = events;
	out->data.u64 = it->data;
	if (it->events & EPOLLONESHOT) {
		__atomic_store_n(&it->events, it->events & EV_FLAGS, __ATOMIC_RELAXED);
		if (!by_kernel) /* the kernel disarms what it reported itself */
			ev_khalf_drop(s, it);
	}
	return 1;
}

/* --- the ready list ----------------------------------------------------------------------- */

/* The first item, or NULL: empty, or its producer was interrupted in the middle. */
static struct ev_item *ready_take(struct ev_set *s)
{
	struct cds_wfcq_node *n;

	if (ev_ready_empty(s))
		return NULL;
	n = __cds_wfcq_dequeue_nonblocking(__cds_wfcq_head_cast(&s->ready_head), &s->ready_tail);
	if (!n || n == CDS_WFCQ_WOULDBLOCK)
		return NULL;
	cds_wfcq_node_init(n);
	return caa_container_of(n, struct ev_item, ready);
}

/* Back to the end; it is still marked as queued and the list's reference is still held. */
static void ready_return(struct ev_set *s, struct ev_item *it)
{
	cds_wfcq_enqueue(__cds_wfcq_head_cast(&s->ready_head), &s->ready_tail, &it->ready);
}

/* The list lets go of a taken item. False: it was queued again meanwhile by a notify(). */
static void ready_drop(struct ev_item *it)
{
	/* full barrier: pairs ev.queued - cleared before readiness is asked for */
	__atomic_store_n(&it->queued, EV_Q_NO, __ATOMIC_SEQ_CST);
}

static bool queued_change(struct ev_item *it, uint32_t from, uint32_t to)
{
	/* full barrier: pairs ev.queued - changed before readiness is asked for */
	return __atomic_compare_exchange_n(&it->queued, &from, to, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

void ev_item_told(struct ev_item *it)
{
	if (it->events & EPOLLET)
		queued_change(it, EV_Q_YES, EV_Q_TOLD);
}

/* Drop a taken item that came for nothing new. */
static bool ready_told(struct ev_item *it)
{
	bool told = queued_change(it, EV_Q_TOLD, EV_Q_NO);

	if (told)
		item_put(it);
	return told;
}

static void ready_bury(struct ev_set *s, struct ev_item *it)
{
	if (s->ndead)
		s->ndead--;
	item_put(it); /* queued stays set: nobody queues it again */
}

static void ready_purge(struct ev_set *s)
{
	struct ev_item *it, *first = NULL;

	while ((it = ready_take(s))) {
		if (__atomic_load_n(&it->dead, __ATOMIC_RELAXED)) {
			ready_bury(s, it);
			continue;
		}
		ready_return(s, it);
		if (!first)
			first = it;
		else if (it == first)
			break; /* once round */
	}
	s->ndead = 0;
}

/* Is a taken item ready? If not, it is off the list when this returns 0 (and the list's reference
 * is given back); a notify() that comes later queues it again. */
static uint32_t ready_confirm(struct ev_item *it)
{
	uint32_t events = ev_item_ready(it);

	if (events)
		return events;
	ready_drop(it);
	events = ev_item_ready(it);
	if (events && __atomic_exchange_n(&it->queued, EV_Q_YES, __ATOMIC_SEQ_CST))
		events = 0; /* a notify() queued it again: it comes round */
	if (!events)
		item_put(it);
	return events;
}

/* Deliver one taken item. Returns 1 if *out was written; *again: it has to go back. */
static int ready_serve(struct ev_set *s, struct ev_item *it, struct epoll_event *out, bool *again)
{
	bool edge = it->events & EPOLLET;
	uint32_t events;

	*again = !ready_told(it);
	if (!*again || it->round == s->round)
		return 0; /* reported in this call already */
	if (edge)
		ready_drop(it); /* before asking: what comes later is a new edge */
	events = edge ? ev_item_ready(it) : ready_confirm(it);
	if (edge || !events)
		*again = false;
	if (edge)
		item_put(it);
	if (!events)
		return 0;
	ev_item_deliver(it, events, false, out);
	if (!edge && (it->events & EPOLLONESHOT)) {
		*again = false;
		ready_drop(it);
		item_put(it);
	}
	return 1;
}

/* Taken items that go back when all have been looked at: each is met once, whatever is queued meanwhile. Chained
 * through their nodes, which are off the list. */
struct ready_back {
	struct cds_wfcq_node *first, **end;
};

static void back_add(struct ready_back *b, struct ev_item *it)
{
	*b->end = &it->ready;
	b->end = &it->ready.next;
}

static void back_return(struct ev_set *s, struct ready_back *b)
{
	struct cds_wfcq_node *next;

	*b->end = NULL;
	for (; b->first; b->first = next) {
		next = b->first->next;
		cds_wfcq_node_init(b->first);
		ready_return(s, caa_container_of(b->first, struct ev_item, ready));
	}
}

void ev_ready_rewatch(struct ev_set *s, int epfd)
{
	struct ready_back back = { .end = &back.first };
	struct ev_item *it;

	/* acquire: pairs ev.rewatch. An item that has its flag but is not yet on the list is met by
	 * ev_ready_collect(). */
	if (!__atomic_exchange_n(&s->rewatch, 0, __ATOMIC_ACQUIRE))
		return;
	while ((it = ready_take(s))) {
		if (__atomic_load_n(&it->dead, __ATOMIC_RELAXED) ||
		    (__atomic_exchange_n(&it->rewatch, 0, __ATOMIC_RELAXED) && ev_khalf_sync(s, epfd, it) > 0))
			ready_bury(s, it);
		else
			back_add(&back, it);
	}
	back_return(s, &back);
}

int ev_ready_collect(struct ev_set *s, struct epoll_event *evs, int max)
{
	struct ready_back back = { .end = &back.first };
	struct ev_item *it;
	bool again;
	int n = 0;

	while (n < max && (it = ready_take(s))) {
		if (__atomic_load_n(&it->dead, __ATOMIC_RELAXED)) {
			ready_bury(s, it);
			continue;
		}
		again = __atomic_load_n(&it->rewatch, __ATOMIC_RELAXED);
		if (again)
			__atomic_store_n(&s->rewatch, 1, __ATOMIC_RELAXED); /* next time, first */
		else
			n += ready_serve(s, it, &evs[n], &again);
		if (again)
			back_add(&back, it);
	}
	back_return(s, &back);
	return n;
}

bool ev_set_poll(struct ev_set *s)
{
	struct ev_item *it, *first = NULL;
	bool ready = false;
	int epfd;

	if (ev_ready_empty(s))
		return false;
	lock_take(&s->lock);
	/* relaxed: an item that is told now comes with a notify() of its own */
	epfd = __atomic_load_n(&s->rewatch, __ATOMIC_RELAXED) ? nfile_fd(&s->nf) : -1;
	if (epfd >= 0)
		ev_ready_rewatch(s, epfd);
	while (!ready && (it = ready_take(s))) {
		if (__atomic_load_n(&it->dead, __ATOMIC_RELAXED)) {
			ready_bury(s, it);
			continue;
		}
		if (__atomic_load_n(&it->rewatch, __ATOMIC_RELAXED)) {
			/* told just now, or the set has no number: it stays */
			ready_return(s, it);
			if (it == first)
				break; /* once round */
			if (!first)
				first = it;
		} else if (!ready_told(it) && ready_confirm(it)) {
			ready_return(s, it);
			ready = true;
		}
	}
	lock_give(&s->lock);
	return ready;
}

/* --- sleepers ----------------------------------------------------------------------------- */

static bool sleeper_ring(struct ev_set *s)
{
	struct ev_sleepers *c;
	struct waiter *w;

	for (c = &s->sleepers; c; c = __atomic_load_n(&c->next, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < EV_SLEEPERS; i++) {
			w = __atomic_load_n(&c->slot[i], __ATOMIC_RELAXED);
			if (w && __atomic_compare_exchange_n(&c->slot[i], &w, NULL, false,
							     __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
				waiter_ring(w);
				return true;
			}
		}
	}
	return false;
}

bool ev_set_wake(struct ev_set *s)
{
	bool woken = false;

	/* seq_cst: pairs ev.sleep - the item is on the list before slots are looked at */
	nst_full_barrier();
	if (__atomic_load_n(&s->sleeping, __ATOMIC_RELAXED))
		woken = sleeper_ring(s);
	set_tell(s);
	return woken;
}

/* A slot with w in it; NULL: no memory. */
static struct waiter **sleeper_enter(struct ev_set *s, struct waiter *w)
{
	struct ev_sleepers *c = &s->sleepers, *more, *none;
	struct waiter *empty;

	__atomic_add_fetch(&s->sleeping, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		for (int i = 0; i < EV_SLEEPERS; i++) {
			empty = NULL;
			/* seq_cst: pairs ev.sleep - entered before the list is looked at */
			if (__atomic_compare_exchange_n(&c->slot[i], &empty, w, false,
							__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				return &c->slot[i];
		}
		more = __atomic_load_n(&c->next, __ATOMIC_ACQUIRE);
		if (!more) {
			more = calloc(1, sizeof(*more));
			if (!more) {
				__atomic_sub_fetch(&s->sleeping, 1, __ATOMIC_RELAXED);
				return NULL;
			}
			none = NULL;
			if (!__atomic_compare_exchange_n(&c->next, &none, more, false,
							 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
				free(more);
				more = none;
			}
		}
		c = more;
	}
}

static void sleeper_leave(struct ev_set *s, struct waiter **slot, struct waiter *w)
{
	/* if it was rung, the slot is free already, or somebody else's */
	__atomic_compare_exchange_n(slot, &w, NULL, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&s->sleeping, 1, __ATOMIC_RELAXED);
}

struct sleep {
	struct ev_set *set;
	struct waiter **slot, *w;
};

static bool sleep_over(void *arg)
{
	struct sleep *sl = arg;

	/* Out of the slot means rung, perhaps before we slept and for an item that another thread
	 * has taken since: nobody could wake us any more. */
	return !ev_ready_empty(sl->set) ||
	       (sl->slot && __atomic_load_n(sl->slot, __ATOMIC_SEQ_CST) != sl->w);
}

/* The thread left the call in its sleep: what that would have undone. */
static void sleep_cancelled(void *arg)
{
	struct sleep *sl = arg;

	if (sl->slot)
		sleeper_leave(sl->set, sl->slot, sl->w);
	if (!ev_ready_empty(sl->set))
		ev_set_wake(sl->set);
	nfile_put(&sl->set->nf);
}

int ev_set_sleep(struct ev_set *s, struct pollfd *kfds, unsigned nk, uint64_t deadline_ns,
		 const sigset_t *sigmask)
{
	struct sleep sl = { .set = s, .w = waiter_self() };
	struct _pthread_cleanup_buffer undo;
	uint64_t soon = UINT64_MAX;
	int r;

	sl.slot = sleeper_enter(s, sl.w);
	if (!sl.slot) /* no memory for a place to sleep: look again soon instead */
		soon = worker_now() + 1000000;
	cleanup_push(&undo, sleep_cancelled, &sl);
	r = worker_wait(sl.w, kfds, nk, soon < deadline_ns ? soon : deadline_ns, sigmask,
			sleep_over, &sl);
	cleanup_pop(&undo);
	if (sl.slot)
		sleeper_leave(s, sl.slot, sl.w);
	return r == 0 && soon < deadline_ns ? 1 : r;
}

/* --- sets --------------------------------------------------------------------------------- */

static void set_free_cb(struct rcu_head *head)
{
	struct ev_set *s = caa_container_of(head, struct ev_set, nf.rcu);
	struct ev_sleepers *c, *next;
	struct ev_item *it;

	while ((it = ready_take(s)))
		item_put(it);
	for (c = s->sleepers.next; c; c = next) {
		next = c->next;
		free(c);
	}
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->nf.watch_lock);
	free(s->slots);
	free(s);
}

/* Take f out of every set. ev_global held. */
static void file_leave_sets(struct nfile *f)
{
	struct ev_item *it;
	struct ev_set *s;

	while (!cds_list_empty(&f->watches)) {
		/* Only items can be here: a poll() in progress holds a reference to the file. */
		it = caa_container_of(f->watches.next, struct ev_item, watch.node);
		s = it->set;
		lock_take(&s->lock);
		/* Its kernel half leaves with the descriptor; by number it could hit another. */
		ev_item_remove(s, it);
		lock_give(&s->lock);
	}
}

void ev_file_release(struct nfile *f)
{
	if (cds_list_empty(&f->watches))
		return;
	lock_take(&ev_global);
	file_leave_sets(f);
	lock_give(&ev_global);
}

static void set_release(struct nfile *f)
{
	struct ev_set *s = ev_set_of(f);
	struct ev_item *it, *next;

	lock_take(&ev_global);
	file_leave_sets(f);
	lock_take(&s->lock);
	cds_list_for_each_entry_safe(it, next, &s->items, member)
		ev_item_remove(s, it);
	lock_give(&s->lock);
	cds_list_del(&s->all);
	lock_give(&ev_global);
	ev_kernel_close(s);
	file_call_rcu(&f->rcu, set_free_cb);
}

int ev_set_create(struct ev_set **out)
{
	struct ev_set *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	nfile_init(&s->nf, NF_EPOLL, 0, set_release);
	pthread_mutex_init(&s->lock, NULL);
	__cds_wfcq_init(&s->ready_head, &s->ready_tail);
	CDS_INIT_LIST_HEAD(&s->items);
	s->slot_free = UINT32_MAX;
	s->inner = -1;
	s->bell = -1;
	if (getrandom(&s->magic, sizeof(s->magic), GRND_NONBLOCK) != sizeof(s->magic))
		s->magic = worker_now() ^ ((uint64_t)(uintptr_t)s << 16);
	lock_take(&ev_global);
	cds_list_add_tail(&s->all, &ev_sets);
	lock_give(&ev_global);
	*out = s;
	return 0;
}

/* --- fork --------------------------------------------------------------------------------- */

/* Lock every set; the one that can't be had now, or NULL: all are locked. ev_global held. */
static struct ev_set *sets_trylock(void)
{
	struct ev_set *s, *held;

	cds_list_for_each_entry(s, &ev_sets, all) {
		if (lock_try(&s->lock))
			continue;
		cds_list_for_each_entry(held, &ev_sets, all) {
			if (held == s)
				break;
			lock_give(&held->lock);
		}
		return s;
	}
	return NULL;
}

void ev_fork_prepare(void)
{
	struct ev_set *busy;

	/* Nested sets are locked outer first, which the list's order doesn't know: so all or none */
	lock_take(&ev_global);
	while ((busy = sets_trylock())) {
		lock_take(&busy->lock);
		lock_give(&busy->lock);
	}
}

void ev_fork_parent(void)
{
	struct ev_set *s;

	cds_list_for_each_entry(s, &ev_sets, all) {
		/* the child may add members of the kernel to the shared outer */
		__atomic_store_n(&s->kernel, true, __ATOMIC_RELAXED);
		lock_give(&s->lock);
	}
	lock_give(&ev_global);
}

static void set_fork_child(struct ev_set *s)
{
	struct ev_sleepers *c;
	struct ev_item *it;

	/* The parent's objects; our descriptors of them were closed with all protected ones. */
	s->inner = -1;
	s->bell = -1;
	s->forked = true;
	s->kernel = true;
	s->resync = true;
	pthread_mutex_init(&s->nf.watch_lock, NULL); /* another thread may have had it */
	ev_poll_forget(&s->nf);
	s->raw_waiters = 0;
	s->sleeping = 0;
	for (c = &s->sleepers; c; c = c->next)
		for (int i = 0; i < EV_SLEEPERS; i++)
			c->slot[i] = NULL;
	/* Another thread may have been in the middle of appending: the list starts anew. Dead
	 * items that were on it are lost to us: a few bytes once per fork. */
	__cds_wfcq_init(&s->ready_head, &s->ready_tail);
	s->ndead = 0;
	cds_list_for_each_entry(it, &s->items, member) {
		cds_wfcq_node_init(&it->ready);
		it->queued = EV_Q_NO;
		it->refs = 1;
		it->rewatch = 0;
		if (it->khalf == EV_K_INNER)
			it->khalf = EV_K_NONE;
	}
}

void ev_fork_child(void)
{
	struct ev_set *s;
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_get(fd);
		if (f && f->kind == NF_SOCK)
			ev_poll_forget(f);
		if (f)
			nfile_put(f);
	}
	cds_list_for_each_entry(s, &ev_sets, all) {
		set_fork_child(s);
		lock_give(&s->lock);
	}
	lock_give(&ev_global);
}
