/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/fifo.c - the byte FIFO: model test, out-of-order stores, two threads, a hostile peer
 *
 * The two-thread part is meant for the thread sanitizer too.
 */
#include "shm/fifo.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			if (++failures > 20)                                                       \
				exit(1);                                                           \
		}                                                                                  \
	} while (0)

static uint64_t next(uint64_t *r)
{
	*r ^= *r << 13;
	*r ^= *r >> 7;
	*r ^= *r << 17;
	return *r >> 11;
}

static struct fifo make(uint32_t size)
{
	struct fifo f = { aligned_alloc(64, sizeof(struct shm_fifo)), malloc(size), size };

	if (!f.sh || !f.data)
		abort();
	memset(f.sh, 0xee, sizeof(*f.sh));
	fifo_reset(&f);
	return f;
}

static void destroy(struct fifo *f)
{
	free(f->sh);
	free(f->data);
}

static uint8_t at(uint64_t pos)
{
	return (uint8_t)(pos ^ pos >> 8 ^ pos >> 16);
}

static void fill(uint8_t *b, uint64_t pos, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		b[i] = at(pos + i);
}

static bool good(const uint8_t *b, uint64_t pos, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (b[i] != at(pos + i))
			return false;
	return true;
}

/* Random writes, peeks, reads against what must come out. */
static void test_model(uint32_t size)
{
	struct fifo f = make(size);
	uint64_t r = 42 + size, wr = 0, rd = 0;
	uint8_t buf[512];

	for (int i = 0; i < 200000; i++) {
		uint32_t n = (uint32_t)(next(&r) % sizeof(buf)), used = (uint32_t)(wr - rd), k, off;

		switch (next(&r) % 3) {
		case 0:
			fill(buf, wr, n);
			k = fifo_write(&f, buf, n);
			CHECK(k == (n < size - used ? n : size - used));
			wr += k;
			break;
		case 1:
			off = (uint32_t)(next(&r) % sizeof(buf));
			k = fifo_peek(&f, off, buf, n);
			CHECK(k == (off >= used ? 0 : n < used - off ? n : used - off));
			CHECK(good(buf, rd + off, k));
			break;
		default:
			k = fifo_read(&f, buf, n);
			CHECK(k == (n < used ? n : used) && good(buf, rd, k));
			rd += k;
		}
		CHECK(fifo_used(&f) == wr - rd && fifo_space(&f) == size - (wr - rd));
		CHECK(fifo_head(&f) == wr && fifo_tail(&f) == rd);
	}
	CHECK(f.sh->touched <= size);
	destroy(&f);
}

/* An empty FIFO starts at data[0] again: few pages are touched, whatever passes through. */
static void test_rewind(void)
{
	struct fifo f = make(1 << 16);
	uint8_t buf[100];

	for (int i = 0; i < 5000; i++) {
		fill(buf, (uint64_t)i * 100, 100);
		CHECK(fifo_write(&f, buf, 100) == 100);
		CHECK(fifo_read(&f, buf, 100) == 100 && good(buf, (uint64_t)i * 100, 100));
	}
	CHECK(f.sh->touched == 100);
	destroy(&f);
}

/* Segments stored in any order beyond head, published when the gap closes. */
static void test_out_of_order(void)
{
	struct fifo f = make(4096);
	uint64_t r = 5, base = 0;
	uint8_t buf[4096];

	for (int round = 0; round < 2000; round++) {
		uint32_t seg = 1 + (uint32_t)(next(&r) % 400), n = 1 + (uint32_t)(next(&r) % 8);
		uint32_t order[8], keep = (uint32_t)(next(&r) % 300);

		if (seg * n > fifo_space(&f))
			continue;
		for (uint32_t i = 0; i < n; i++)
			order[i] = i;
		for (uint32_t i = n; i > 1; i--) {
			uint32_t k = (uint32_t)(next(&r) % i), t = order[k];

			order[k] = order[i - 1];
			order[i - 1] = t;
		}
		fifo_rewind(&f);
		for (uint32_t i = 0; i < n; i++) {
			fill(buf, base + order[i] * seg, seg);
			fifo_store(&f, order[i] * seg, buf, seg);
		}
		fifo_publish(&f, seg * n);
		base += seg * n;
		while (fifo_used(&f) > keep) { /* often leaves some, so that spans wrap */
			uint64_t pos = fifo_tail(&f);
			uint32_t k = fifo_read(&f, buf, 1 + (uint32_t)(next(&r) % 700));

			CHECK(good(buf, pos, k));
		}
	}
	destroy(&f);
}

static void test_spans(void)
{
	struct fifo f = make(64);
	struct iovec v[2];

	CHECK(fifo_spans(&f, 0, 0, v) == 0);
	CHECK(fifo_spans(&f, 0, 64, v) == 1 && v[0].iov_base == f.data && v[0].iov_len == 64);
	CHECK(fifo_spans(&f, 60, 10, v) == 2 && v[0].iov_len == 4 && v[1].iov_len == 6 &&
	      v[1].iov_base == f.data);
	CHECK(fifo_spans(&f, 3, 1000, v) == 2 && v[0].iov_len + v[1].iov_len == 64);
	destroy(&f);
}

/* --- two threads ------------------------------------------------------------------------------- */

#define TOTAL (8u << 20)

static void *producer(void *arg)
{
	struct fifo f = *(struct fifo *)arg;
	uint64_t r = 99, pos = 0;
	uint8_t buf[3000];

	while (pos < TOTAL) {
		uint32_t n = 1 + (uint32_t)(next(&r) % sizeof(buf)), k;

		if (n > TOTAL - pos)
			n = (uint32_t)(TOTAL - pos);
		fill(buf, pos, n);
		k = fifo_write(&f, buf, n);
		pos += k;
		if (!k)
			sched_yield();
	}
	return NULL;
}

static void test_threads(uint32_t size)
{
	struct fifo f = make(size);
	uint64_t r = 7, pos = 0;
	uint8_t buf[2500];
	pthread_t th;

	if (pthread_create(&th, NULL, producer, &f))
		abort();
	while (pos < TOTAL) {
		uint32_t n = 1 + (uint32_t)(next(&r) % sizeof(buf)), k;

		k = next(&r) & 1 ? fifo_peek(&f, 0, buf, n) : fifo_read(&f, buf, n);
		CHECK(good(buf, pos, k));
		if (!k)
			sched_yield();
		pos = fifo_tail(&f);
	}
	pthread_join(th, NULL);
	CHECK(!fifo_used(&f));
	destroy(&f);
}

/* --- a peer that lies -------------------------------------------------------------------------- */

/* Any content of the shared structure: no byte outside of data is touched (address sanitizer), no
 * count exceeds the size. */
static void *taker(void *arg)
{
	const struct fifo *f = arg;
	uint64_t sum = 0;
	uint32_t v = 0;

	while (v != UINT32_MAX)
		if (fifo_take_one(f, &v, sizeof(v)) && v != UINT32_MAX)
			sum += v;
	return (void *)(uintptr_t)sum;
}

/* Two who take: each record goes to one of them. */
static void test_takers(void)
{
	enum { RECORDS = 300000 };
	struct fifo f = make(4096);
	uint32_t end = UINT32_MAX;
	uint64_t sum = 0;
	pthread_t t[2];
	void *r;

	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&t[i], NULL, taker, &f));
	for (uint32_t v = 1; v <= RECORDS; v++)
		while (fifo_space(&f) < sizeof(v) || !fifo_write(&f, &v, sizeof(v)))
			sched_yield();
	for (int i = 0; i < 2; i++)
		while (fifo_space(&f) < sizeof(end) || !fifo_write(&f, &end, sizeof(end)))
			sched_yield();
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &r);
		sum += (uintptr_t)r;
	}
	CHECK(sum == (uint64_t)RECORDS * (RECORDS + 1) / 2);
	destroy(&f);
}

static void test_hostile(void)
{
	struct fifo f = make(4096);
	uint64_t r = 1234;
	uint8_t *buf = malloc(4096);
	struct iovec v[2];

	for (int i = 0; i < 200000; i++) {
		uint32_t n = (uint32_t)(next(&r) % 4097), k, off;

		switch (next(&r) % 8) {
		case 0: f.sh->head = next(&r) << 13; break;
		case 1: f.sh->tail = next(&r) << 13; break;
		case 2: f.sh->rebase = next(&r) << 13 ^ next(&r); break;
		case 3: f.sh->head = f.sh->tail + next(&r) % 9000; break;
		case 4: f.sh->touched = next(&r); break;
		default: break;
		}
		CHECK(fifo_used(&f) <= 4096 && fifo_space(&f) <= 4096);
		off = (uint32_t)next(&r);
		k = (uint32_t)fifo_spans(&f, next(&r) << 7, n, v);
		for (uint32_t j = 0; j < k; j++) {
			const uint8_t *p = v[j].iov_base;

			CHECK(p >= f.data && p + v[j].iov_len <= f.data + 4096);
		}
		fifo_take_one(&f, buf, 4);
		switch (next(&r) % 3) {
		case 0: CHECK(fifo_write(&f, buf, n) <= n); break;
		case 1: CHECK(fifo_peek(&f, i & 1 ? off : off % 5000, buf, n) <= n); break;
		default: CHECK(fifo_read(&f, buf, n) <= n);
		}
	}
	free(buf);
	destroy(&f);
}

int main(void)
{
	test_spans();
	test_model(64);
	test_model(1024);
	test_rewind();
	test_out_of_order();
	test_threads(4096);
	test_threads(1 << 16);
	test_takers();
	test_hostile();
	if (!failures)
		printf("ok - fifo\n");
	return failures != 0;
}
