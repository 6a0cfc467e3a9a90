/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/region.c - sessions in a region: life, bounds, memory given back */
#include "shm/session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int failures;

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			if (++failures > 20)                                                       \
				exit(1);                                                           \
		}                                                                                  \
	} while (0)

#define K64 (64u << 10)

static void test_config(void)
{
	struct shm_region_config bad[] = {
		{ .sessions = 1, .rx_size = K64, .tx_size = K64, .parts = 1u << 20 }, { .sessions = 0, .rx_size = K64, .tx_size = K64 }, { .sessions = 1, .rx_size = K64 - 1, .tx_size = K64 }, { .sessions = 1, .rx_size = K64, .tx_size = 3 * K64 }, { .sessions = 1, .rx_size = K64 / 2, .tx_size = K64 },
		{ .sessions = 1, .rx_size = 128u << 20, .tx_size = K64 }, { .sessions = (1u << 20) + 1, .rx_size = K64, .tx_size = K64 },
	};
	struct shm_region *r;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(shm_region_create(&r, &bad[i]) == -EINVAL && !r);
	shm_region_close(NULL);
}

static void test_life(void)
{
	struct shm_region_config cfg = { .sessions = 3, .rx_size = K64, .tx_size = 2 * K64 };
	struct shm_session *s[3], *t;
	struct shm_region_stats st;
	struct shm_region *r;
	uint32_t gen;

	CHECK(!shm_region_create(&r, &cfg));
	CHECK(fcntl(shm_region_part_fd(r, 0), F_GETFD) & FD_CLOEXEC);
	for (int i = 0; i < 3; i++) {
		s[i] = shm_session_alloc(r, AF_INET6, IPPROTO_UDP);
		CHECK(s[i] && s[i]->id == (uint32_t)i && s[i]->family == AF_INET6);
		CHECK(s[i]->parent == UINT32_MAX && s[i]->rx_limit == K64 &&
		      s[i]->tx_limit == 2 * K64 && shm_session_state(s[i]) == SHM_S_IDLE);
		CHECK(shm_session_get(r, (uint32_t)i) == s[i]);
	}
	CHECK(!shm_session_alloc(r, AF_INET, IPPROTO_TCP));
	CHECK(!shm_session_get(r, 3) && !shm_session_get(r, UINT32_MAX));
	gen = s[1]->gen;
	s[1]->error = 5;
	shm_session_free(r, s[1]);
	CHECK(!shm_session_get(r, 1));
	shm_session_free(r, s[1]);
	t = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	CHECK(t == s[1] && t->gen == gen + 1 && t->error == 0 && t->proto == IPPROTO_TCP);
	shm_region_stats(r, &st);
	CHECK(st.used == 3 && st.high_water == 3 && st.allocs == 4 && st.frees == 1 &&
	      st.double_frees == 1 && st.alloc_failed == 1 && st.sessions == 3);
	shm_region_close(r);
}

/* Every FIFO has its own memory, and all of it. */
static void test_fifos_apart(void)
{
	struct shm_region_config cfg = { .sessions = 4, .rx_size = K64, .tx_size = K64 };
	uint8_t *buf = malloc(K64), *out = malloc(K64);
	struct shm_region *r;
	struct fifo f[8];

	CHECK(!shm_region_create(&r, &cfg));
	for (int i = 0; i < 4; i++) {
		struct shm_session *s = shm_session_alloc(r, AF_INET, IPPROTO_TCP);

		f[i * 2] = shm_session_rx(r, s);
		f[i * 2 + 1] = shm_session_tx(r, s);
	}
	for (int i = 0; i < 8; i++) {
		memset(buf, i + 1, K64);
		CHECK(f[i].size == K64 && fifo_write(&f[i], buf, K64) == K64);
	}
	for (int i = 0; i < 8; i++) {
		memset(buf, i + 1, K64);
		CHECK(fifo_read(&f[i], out, K64) == K64 && !memcmp(buf, out, K64));
	}
	free(buf);
	free(out);
	shm_region_close(r);
}

/* Unused sessions cost nothing; a freed one gives its pages back but for a few. */
static void test_memory(void)
{
	struct shm_region_config cfg = { .sessions = 1000, .rx_size = 1u << 20, .tx_size = 1u << 20 };
	uint8_t *buf = calloc(1, 1u << 20);
	struct shm_region_stats st;
	struct shm_session *s;
	struct shm_region *r;
	struct fifo f;

	CHECK(!shm_region_create(&r, &cfg));
	s = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	shm_region_stats(r, &st);
	CHECK(st.resident_bytes <= 16384);
	f = shm_session_rx(r, s);
	CHECK(fifo_write(&f, buf, 1u << 20) == 1u << 20);
	shm_region_stats(r, &st);
	CHECK(st.resident_bytes >= 1u << 20);
	shm_session_free(r, s);
	shm_region_stats(r, &st);
	CHECK(st.resident_bytes <= 2 * K64);
	free(buf);
	shm_region_close(r);
}

/* A program that lies about what it touched can't punch outside of its own FIFOs. */
static void test_hostile_touched(void)
{
	struct shm_region_config cfg = { .sessions = 2, .rx_size = K64 * 2, .tx_size = K64 * 2 };
	uint8_t *buf = malloc(K64 * 2), *out = malloc(K64 * 2);
	struct shm_session *a, *b;
	struct shm_region *r;
	struct fifo rx, tx;

	CHECK(!shm_region_create(&r, &cfg));
	a = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	b = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	memset(buf, 7, K64 * 2);
	rx = shm_session_rx(r, b);
	tx = shm_session_tx(r, b);
	CHECK(fifo_write(&rx, buf, K64 * 2) == K64 * 2 && fifo_write(&tx, buf, K64 * 2) == K64 * 2);
	a->rx.touched = a->tx.touched = UINT64_MAX;
	a->id = 0;
	shm_session_free(r, a);
	CHECK(fifo_read(&rx, out, K64 * 2) == K64 * 2 && !memcmp(buf, out, K64 * 2));
	CHECK(fifo_read(&tx, out, K64 * 2) == K64 * 2 && !memcmp(buf, out, K64 * 2));
	free(buf);
	free(out);
	shm_region_close(r);
}

/* The id in a session is the program's to spoil: freeing must go by the place, not by the word. */
static void test_hostile_id(void)
{
	struct shm_region_config cfg = { .sessions = 2, .rx_size = K64, .tx_size = K64 };
	struct shm_session *a, *b;
	struct shm_region *r;

	CHECK(!shm_region_create(&r, &cfg));
	a = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	a->id = 77777;
	shm_session_free(r, a);
	a = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	b = shm_session_alloc(r, AF_INET, IPPROTO_TCP);
	CHECK(a && b && a != b && a->id < 2 && b->id < 2);
	shm_region_close(r);
}

/* A daemon's: a program sees its own part only, and what it writes there misleads nobody. */
static void test_parts(void)
{
	struct shm_region_config cfg = { .sessions = 3, .rx_size = K64, .tx_size = K64, .parts = 2 };
	struct shm_region_config view = { .sessions = 3, .rx_size = K64, .tx_size = K64 };
	struct shm_session *a, *b, *seen;
	struct shm_region *r, *prog;
	struct shm_region_stats st;
	struct fifo f;
	char c = 0;

	CHECK(!shm_region_create(&r, &cfg));
	CHECK(!shm_session_alloc(r, AF_INET, IPPROTO_TCP) && !shm_session_get(r, 0));
	CHECK(shm_region_part_new(r) == 0 && shm_region_part_new(r) == 1);
	CHECK(shm_region_part_new(r) == -ENOSPC);
	a = shm_session_alloc_in(r, 0, AF_INET, IPPROTO_TCP);
	b = shm_session_alloc_in(r, 1, AF_INET6, IPPROTO_TCP);
	CHECK(a && b && a->id == 0 && b->id == 0);
	CHECK(shm_session_index(r, a) == 0 && shm_session_index(r, b) == 3);
	CHECK(shm_session_part(r, b) == 1 && shm_session_get(r, 3) == b);
	CHECK(shm_session_sibling(r, b, 0) == b && !shm_session_sibling(r, b, 1) &&
	      !shm_session_sibling(r, b, 3));
	CHECK(shm_session_next(r, 0) == 0 && shm_session_next(r, 1) == 3 &&
	      shm_session_next(r, 4) == UINT32_MAX);

	CHECK(ftruncate(shm_region_part_fd(r, 1), 4096) < 0 && errno == EPERM);
	CHECK(!shm_region_attach(&prog, &view, dup(shm_region_part_fd(r, 1))));
	CHECK(!shm_session_alloc(prog, AF_INET, IPPROTO_TCP));
	CHECK(shm_session_next(prog, 0) == UINT32_MAX);
	seen = shm_session_get(prog, 0);
	CHECK(seen && seen->family == AF_INET6 && !shm_session_get(prog, 1));
	f = shm_session_rx(r, b);
	CHECK(fifo_write(&f, "x", 1) == 1);
	f = shm_session_rx(prog, seen);
	CHECK(fifo_read(&f, &c, 1) == 1 && c == 'x');

	/* free or not is not for it to say */
	shm_session_set_state(seen, SHM_S_FREE);
	CHECK(shm_session_get(r, 3) == b);
	shm_session_free(r, b);
	shm_session_set_state(seen, SHM_S_CONNECTED);
	CHECK(!shm_session_get(r, 3));
	shm_session_free(r, b);
	shm_region_stats(r, &st);
	CHECK(st.double_frees == 1 && st.used == 1);
	shm_region_close(prog);

	view.sessions = 4;
	CHECK(shm_region_attach(&prog, &view, dup(shm_region_part_fd(r, 1))) == -EPROTO && !prog);
	shm_region_part_free(r, 0);
	CHECK(!shm_session_get(r, 0) && shm_region_part_fd(r, 0) < 0);
	shm_region_stats(r, &st);
	CHECK(st.used == 0);
	CHECK(shm_region_part_new(r) == 0);
	a = shm_session_alloc_in(r, 0, AF_INET, IPPROTO_TCP);
	CHECK(a && a->gen == 1);
	shm_region_close(r);
}

static void test_dgram_size(void)
{
	CHECK(shm_dgram_size(0) == 80 && shm_dgram_size(1) == 88 && shm_dgram_size(8) == 88);
}

int main(void)
{
	test_config();
	test_life();
	test_fifos_apart();
	test_memory();
	test_hostile_touched();
	test_hostile_id();
	test_parts();
	test_dgram_size();
	if (!failures)
		printf("ok - region\n");
	return failures != 0;
}
