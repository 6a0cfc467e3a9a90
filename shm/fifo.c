/* SPDX-License-Identifier: Apache-2.0 */
/* shm/fifo.c - copying in and out of byte FIFOs; the contract is in fifo.h */
#include "shm/fifo.h"

#include <string.h>

int fifo_spans(const struct fifo *f, uint64_t pos, uint32_t len, struct iovec v[2])
{
	uint32_t mask = f->size - 1, at, first;

	if (!len)
		return 0;
	if (len > f->size)
		len = f->size;
	/* relaxed: the producer wrote it itself; for the consumer it came with head (fifo.publish) */
	at = (uint32_t)(pos - __atomic_load_n(&f->sh->rebase, __ATOMIC_RELAXED)) & mask;
	first = f->size - at;
	v[0].iov_base = f->data + at;
	if (len <= first) {
		v[0].iov_len = len;
		return 1;
	}
	v[0].iov_len = first;
	v[1].iov_base = f->data;
	v[1].iov_len = len - first;
	return 2;
}

void fifo_store(const struct fifo *f, uint32_t offset, const void *src, uint32_t len)
{
	uint64_t pos = fifo_head(f) + offset;
	uint64_t end = pos + len - f->sh->rebase;
	struct iovec v[2];
	int n = fifo_spans(f, pos, len, v);

	if (end > f->size)
		end = f->size;
	if (end > f->sh->touched)
		f->sh->touched = end;
	if (n > 0)
		memcpy(v[0].iov_base, src, v[0].iov_len);
	if (n > 1)
		memcpy(v[1].iov_base, (const uint8_t *)src + v[0].iov_len, v[1].iov_len);
}

uint32_t fifo_write(const struct fifo *f, const void *src, uint32_t len)
{
	uint32_t space;

	fifo_rewind(f);
	space = fifo_space(f);
	if (len > space)
		len = space;
	if (len) {
		fifo_store(f, 0, src, len);
		fifo_publish(f, len);
	}
	return len;
}

uint32_t fifo_peek(const struct fifo *f, uint32_t offset, void *dst, uint32_t len)
{
	uint32_t used = fifo_used(f);
	struct iovec v[2];
	int n;

	if (offset >= used)
		return 0;
	if (len > used - offset)
		len = used - offset;
	n = fifo_spans(f, fifo_tail(f) + offset, len, v);
	if (n > 0)
		memcpy(dst, v[0].iov_base, v[0].iov_len);
	if (n > 1)
		memcpy((uint8_t *)dst + v[0].iov_len, v[1].iov_base, v[1].iov_len);
	return len;
}

uint32_t fifo_read(const struct fifo *f, void *dst, uint32_t len)
{
	len = fifo_peek(f, 0, dst, len);
	if (len)
		fifo_consume(f, len);
	return len;
}

/* More than there are honest consumers at once: one that moves tail all the time is to keep nobody here. */
#define TAKE_TRIES 1000

/* Bytes that a producer may overwrite meanwhile: then they are not used. */
static __attribute__((noinline, no_sanitize("thread"))) void copy_stale(uint8_t *dst, const struct iovec *v,
									 int n)
{
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < v[i].iov_len; k++)
			*dst++ = ((const volatile uint8_t *)v[i].iov_base)[k];
}

bool fifo_take_one(const struct fifo *f, void *dst, uint32_t len)
{
	/* acquire: pairs fifo.consume, as for the producer */
	uint64_t tail = __atomic_load_n(&f->sh->tail, __ATOMIC_ACQUIRE);
	struct iovec v[2];
	int n, tries = TAKE_TRIES;

	do {
		if (!tries--)
			return false;
		/* acquire: pairs fifo.publish */
		if (__atomic_load_n(&f->sh->head, __ATOMIC_ACQUIRE) - tail - len > f->size - len)
			return false;
		/* what another consumer took meanwhile may be overwritten: then tail has moved */
		n = fifo_spans(f, tail, len, v);
		copy_stale(dst, v, n);
		/* release: pairs fifo.consume */
	} while (!__atomic_compare_exchange_n(&f->sh->tail, &tail, tail + len, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	return true;
}

void fifo_reset(const struct fifo *f)
{
	memset(f->sh, 0, sizeof(*f->sh));
}
