/* SPDX-License-Identifier: Apache-2.0 */
/* shm/notify.h - "something is up with session N", from one process to another
 *
 * A queue of session ids, each with a word of bits that say what. An id stands in the queue at most
 * once: bits that come while it does are added to its word. So there is always room, whatever the
 * other side does, and what comes often costs one entry.
 *
 * One producer, one consumer; neither believes the other: each keeps its own position in private
 * memory, and an id from the other side is the taker's to check.
 *
 * Sleeping: the consumer announces it, looks once more, and waits for its bell (a matter of the
 * two sides). A producer that finds it announced takes the announcement back and rings.
 *
 * Ordering: notify.put (slot before head), notify.sleep (announce, then look; put, then look for the
 * announcement): no wake-up is lost.
 */
#ifndef NSTACK_SHM_NOTIFY_H
#define NSTACK_SHM_NOTIFY_H

#include <nstack/barrier.h>
#include <nstack/fault_point.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In shared memory. Producer and consumer write different cache lines. */
struct shm_notify {
	_Alignas(64) uint32_t head;     /* producer: how many ids it has put, ever */
	_Alignas(64) uint32_t sleeping; /* consumer: 1 = ring; whoever sets it to 0 has to */
	_Alignas(64) uint32_t words[];  /* the queue, then the bits of each session */
};

/* A process's own view of one end. */
struct notify {
	struct shm_notify *sh;
	uint32_t *queue, *bits;
	uint32_t n, mask; /* sessions; the queue's size - 1 */
	uint32_t at;      /* producer: its head; consumer: how many it has taken */
};

static inline uint32_t notify_slots(uint32_t n)
{
	uint32_t size = 1;

	while (size < n)
		size *= 2;
	return size;
}

/* Bytes for n sessions (1 to 2^20), a multiple of 64. */
static inline size_t notify_bytes(uint32_t n)
{
	size_t b = sizeof(struct shm_notify) + ((size_t)notify_slots(n) + n) * sizeof(uint32_t);

	return (b + 63) & ~(size_t)63;
}

/* mem: zeroed, aligned to 64; both sides with the same n. */
static inline struct notify notify_view(void *mem, uint32_t n)
{
	struct shm_notify *sh = mem;
	uint32_t slots = notify_slots(n);

	return (struct notify){ sh, sh->words, sh->words + slots, n, slots - 1, 0 };
}

/* --- producer --------------------------------------------------------------------------- */

/* id < n, bits not 0. True: the consumer sleeps, ring its bell. */
static inline bool notify_put(struct notify *q, uint32_t id, uint32_t bits)
{
	/* release: pairs with the exchange in notify_take(), for an id that is queued already */
	if (!__atomic_fetch_or(&q->bits[id], bits, __ATOMIC_ACQ_REL)) {
		NST_FAULT_POINT("notify.put.bits");
		__atomic_store_n(&q->queue[q->at & q->mask], id, __ATOMIC_RELAXED);
		NST_FAULT_POINT("notify.put.slot");
		/* release: pairs notify.put */
		__atomic_store_n(&q->sh->head, ++q->at, __ATOMIC_RELEASE);
	}
	NST_FAULT_POINT("notify.put.head");
	nst_full_barrier(); /* pairs notify.sleep */
	return __atomic_load_n(&q->sh->sleeping, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(&q->sh->sleeping, 0, __ATOMIC_SEQ_CST);
}

/* Has the consumer announced that it sleeps? For people: it may have changed by now. */
static inline bool notify_sleeps(const struct notify *q)
{
	return __atomic_load_n(&q->sh->sleeping, __ATOMIC_RELAXED);
}

/* --- consumer --------------------------------------------------------------------------- */

static inline bool notify_any(const struct notify *q)
{
	/* acquire: pairs notify.put */
	return __atomic_load_n(&q->sh->head, __ATOMIC_ACQUIRE) != q->at;
}

/* The next one. False: none. bits 0: nothing, as only a lie explains. */
static inline bool notify_take(struct notify *q, uint32_t *id, uint32_t *bits)
{
	/* acquire: pairs notify.put */
	uint32_t head = __atomic_load_n(&q->sh->head, __ATOMIC_ACQUIRE);

	if (head == q->at)
		return false;
	if (head - q->at > q->mask + 1) /* more than there is room for: a lie, not to be followed */
		q->at = head - 1;
	*id = __atomic_load_n(&q->queue[q->at++ & q->mask], __ATOMIC_RELAXED);
	NST_FAULT_POINT("notify.take.id");
	/* acquire: what was done before the bits were set; the entry was taken first, so bits that come
	 * from here on queue the id again */
	*bits = *id < q->n ? __atomic_exchange_n(&q->bits[*id], 0, __ATOMIC_ACQ_REL) : 0;
	NST_FAULT_POINT("notify.take.bits");
	return true;
}

/* About to wait for the bell. False: there is something, don't. */
static inline bool notify_sleep(struct notify *q)
{
	__atomic_store_n(&q->sh->sleeping, 1, __ATOMIC_SEQ_CST);
	NST_FAULT_POINT("notify.sleep");
	nst_full_barrier(); /* pairs notify.sleep */
	return !notify_any(q);
}

/* Awake, whether somebody rang or not. True: somebody did or is about to: the bell has to be emptied. */
static inline bool notify_awake(struct notify *q)
{
	return !__atomic_exchange_n(&q->sh->sleeping, 0, __ATOMIC_SEQ_CST);
}

#endif
