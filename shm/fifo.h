/* SPDX-License-Identifier: Apache-2.0 */
/* shm/fifo.h - byte FIFO between a socket and its stack, in shared memory
 *
 * One producer, one consumer, any two processes; several consumers where all use fifo_take_one(). Positions are 64-bit stream offsets that only
 * grow; the byte at position p lies at data[(p - rebase) & (size - 1)]. A producer that finds the
 * FIFO empty sets rebase to its position, so that the next byte lies at data[0]: a request-answer
 * connection then keeps using the same few cache lines and pages, whatever size the FIFO has.
 *
 * A producer may also store bytes beyond its position (out-of-order segments) and publish them
 * later; while it holds such bytes it must not rewind. A consumer may look at bytes without
 * taking them (a sending stack keeps what is not yet acknowledged).
 *
 * struct fifo is a process's own view: base and size come from the region's layout, never from
 * the shared structure, and positions read from the other side are bounded before use, so that
 * a hostile peer can spoil data but not make us touch memory outside of the FIFO.
 *
 * Ordering: fifo.publish (bytes and rebase before head), fifo.consume (reads before tail).
 */
#ifndef NSTACK_SHM_FIFO_H
#define NSTACK_SHM_FIFO_H

#include <nstack/fault_point.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* In the region. Producer and consumer write different cache lines. */
struct shm_fifo {
	_Alignas(64) uint64_t head; /* producer: next position to publish */
	uint64_t rebase;            /* producer: position of data[0] */
	uint64_t touched;           /* producer: highest index ever used, for giving memory back */
	uint32_t at_head;           /* atomic: which of several processes that may write is here; by itself; 0 = none */
	_Alignas(64) uint64_t tail; /* consumer: next position to take */
	uint32_t at_tail;           /* the same of those that may read */
};
_Static_assert(sizeof(struct shm_fifo) == 128, "two cache lines");

struct fifo {
	struct shm_fifo *sh;
	uint8_t *data;
	uint32_t size; /* a power of two */
};

/* --- both sides ------------------------------------------------------------------------- */

/* Bytes published and not taken; at most size even if the other side lies. */
static inline uint32_t fifo_used(const struct fifo *f)
{
	/* acquire: pairs fifo.publish - the bytes below head are there */
	uint64_t head = __atomic_load_n(&f->sh->head, __ATOMIC_ACQUIRE);
	/* acquire: pairs fifo.consume - the reader is done with the bytes below tail */
	uint64_t tail = __atomic_load_n(&f->sh->tail, __ATOMIC_ACQUIRE);
	uint64_t used = head - tail;

	return used > f->size ? f->size : (uint32_t)used;
}

static inline uint32_t fifo_space(const struct fifo *f)
{
	return f->size - fifo_used(f);
}

/* --- producer --------------------------------------------------------------------------- */

static inline uint64_t fifo_head(const struct fifo *f)
{
	return __atomic_load_n(&f->sh->head, __ATOMIC_RELAXED); /* relaxed: our own */
}

/* Call before writing when no unpublished bytes are stored beyond head. */
static inline void fifo_rewind(const struct fifo *f)
{
	uint64_t head = fifo_head(f);

	/* acquire: pairs fifo.consume - when all is taken nobody reads the old place any more */
	if (__atomic_load_n(&f->sh->tail, __ATOMIC_ACQUIRE) == head && f->sh->rebase != head)
		__atomic_store_n(&f->sh->rebase, head, __ATOMIC_RELAXED); /* published with head */
}

/* The up to two spans that hold positions [pos, pos + len); len <= size. Returns 1 or 2
 * (0 for len 0). */
int fifo_spans(const struct fifo *f, uint64_t pos, uint32_t len, struct iovec v[2]);

/* Store len bytes at head + offset without publishing; offset + len <= fifo_space(). */
void fifo_store(const struct fifo *f, uint32_t offset, const void *src, uint32_t len);

/* Publish n bytes stored at head. */
static inline void fifo_publish(const struct fifo *f, uint32_t n)
{
	NST_FAULT_POINT("fifo.publish.before");
	/* release: pairs fifo.publish - bytes and rebase are visible before head */
	__atomic_store_n(&f->sh->head, fifo_head(f) + n, __ATOMIC_RELEASE);
	NST_FAULT_POINT("fifo.publish.after");
}

/* Rewind, store, publish: up to len bytes, as many as there is space for. Returns the count. */
uint32_t fifo_write(const struct fifo *f, const void *src, uint32_t len);

/* --- consumer --------------------------------------------------------------------------- */

static inline uint64_t fifo_tail(const struct fifo *f)
{
	return __atomic_load_n(&f->sh->tail, __ATOMIC_RELAXED); /* relaxed: our own */
}

/* Copy up to len bytes that lie offset bytes past tail. Returns the count. Takes nothing. */
uint32_t fifo_peek(const struct fifo *f, uint32_t offset, void *dst, uint32_t len);

static inline void fifo_consume(const struct fifo *f, uint32_t n)
{
	NST_FAULT_POINT("fifo.consume.before");
	/* release: pairs fifo.consume - our reads of the bytes are done before tail moves */
	__atomic_store_n(&f->sh->tail, fifo_tail(f) + n, __ATOMIC_RELEASE);
	NST_FAULT_POINT("fifo.consume.after");
}

/* peek at 0 and consume. */
uint32_t fifo_read(const struct fifo *f, void *dst, uint32_t len);

/* For a FIFO of records of one size that has several consumers, all of which take by this: the next
 * record; each is had by one of them. False: there is none. */
bool fifo_take_one(const struct fifo *f, void *dst, uint32_t len);

/* --- set-up ------------------------------------------------------------------------------ */

/* Both sides quiet: empty, positions at 0. */
void fifo_reset(const struct fifo *f);

#endif
