/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/notify.c - notifications between two threads: none is lost, none comes twice, nobody oversleeps;
 * and what a lying producer can do. Built with TSan, too. */
#include "shm/notify.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define N 37u
#define ROUNDS 200000u

static int failures;

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			if (++failures > 20)                                                       \
				exit(1);                                                           \
		}                                                                                  \
	} while (0)

static void *mem;
static int bell;
static uint32_t sent[N]; /* the producer's until it ends */
static uint32_t data[N]; /* atomic: what a notification is about */

static void *producer_main(void *arg)
{
	struct notify q = notify_view(mem, N);
	static const uint64_t one = 1;
	unsigned seed = 1;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t id = (uint32_t)rand_r(&seed) % N;

		__atomic_store_n(&data[id], ++sent[id], __ATOMIC_RELAXED);
		if (notify_put(&q, id, 1u << (i % 3)))
			(void)!write(bell, &one, sizeof(one));
		if (i % 64 == 0)
			usleep(1); /* the consumer is to get to sleep now and then */
	}
	notify_put(&q, 0, 1u << 31);
	(void)!write(bell, &one, sizeof(one));
	return NULL;
}

static void test_threads(void)
{
	struct notify q = notify_view(mem, N);
	uint32_t id, bits, seen[N] = { 0 }, sleeps = 0;
	bool over = false;
	pthread_t t;
	uint64_t n;

	CHECK(!pthread_create(&t, NULL, producer_main, NULL));
	while (!over) {
		while (notify_take(&q, &id, &bits)) {
			CHECK(id < N && bits);
			/* at least as new as when the bits were set */
			seen[id] = __atomic_load_n(&data[id], __ATOMIC_RELAXED);
			over |= bits >> 31;
		}
		if (!over && notify_sleep(&q)) {
			CHECK(read(bell, &n, sizeof(n)) == sizeof(n)); /* for ever if a wake-up is lost */
			sleeps++;
		}
		notify_awake(&q);
	}
	pthread_join(t, NULL);
	for (uint32_t i = 0; i < N; i++)
		CHECK(seen[i] == sent[i]);
	printf("# %u sleeps\n", sleeps);
}

static void test_once_in_the_queue(void)
{
	struct notify p = notify_view(mem, N), c = notify_view(mem, N);
	uint32_t id, bits;

	for (uint32_t i = 0; i < 1000; i++)
		CHECK(!notify_put(&p, 5, 1u << (i % 4)));
	CHECK(p.at == 1 && notify_any(&c));
	CHECK(notify_take(&c, &id, &bits) && id == 5 && bits == 15);
	CHECK(!notify_take(&c, &id, &bits) && !notify_any(&c));
	/* announced: the first one rings, once */
	CHECK(notify_sleep(&c));
	CHECK(notify_put(&p, 1, 1) && !notify_put(&p, 2, 1));
	CHECK(notify_awake(&c));
	CHECK(notify_sleep(&c) == false);
	CHECK(!notify_awake(&c));
}

/* Whatever stands in the memory: ids are bounded, and following it comes to an end. */
static void test_lies(void)
{
	struct notify c = notify_view(mem, N);
	uint32_t id, bits, taken;
	unsigned seed = 5;

	for (int i = 0; i < 20000; i++) {
		uint32_t *w = mem;

		for (size_t k = 0; k < notify_bytes(N) / sizeof(*w); k += (size_t)rand_r(&seed) % 5 + 1)
			w[k] = (uint32_t)rand_r(&seed) * 3u;
		for (taken = 0; notify_take(&c, &id, &bits); taken++)
			CHECK(taken <= notify_slots(N) && (!bits || id < N));
	}
}

static void fresh(void)
{
	memset(mem, 0, notify_bytes(N));
}

int main(void)
{
	CHECK(notify_bytes(1) % 64 == 0 && notify_slots(37) == 64 && notify_slots(64) == 64);
	mem = aligned_alloc(64, notify_bytes(N));
	bell = eventfd(0, EFD_CLOEXEC);
	fresh();
	test_once_in_the_queue();
	fresh();
	test_threads();
	fresh();
	test_lies();
	free(mem);
	if (!failures)
		printf("ok - notify\n");
	return failures != 0;
}
