// SPDX-License-Identifier: Apache-2.0
/* tests/unit/hal_ring.c - ring arithmetic, frame layout, completion bitmap and sweep of hal_xdp
 *
 * The rings are plain memory, the "kernel" is this test.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_shared.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed;
#define CHECK(x) do { if (!(x)) { printf("not ok: %s:%d: %s\n", __FILE__, __LINE__, #x); \
			failed = 1; } } while (0)

struct fake {
	uint32_t prod, cons, flags;
	uint64_t entry[2 * 4096];
};

static void ring_on(struct xdp_ring *r, struct fake *f, uint32_t size, uint32_t start)
{
	memset(f, 0, sizeof(*f));
	f->prod = f->cons = start;
	*r = (struct xdp_ring){ &f->prod, &f->cons, &f->flags, f->entry, size, size - 1,
				start, start, NULL, 0 };
}

/* Indices run over 32 bits: start close to the end. */
static void test_wrap(void)
{
	static struct fake f;
	struct xdp_ring r;
	uint32_t i;

	ring_on(&r, &f, 64, UINT32_MAX - 10);
	CHECK(xdp_ring_room(&r, 64) == 64);
	for (i = 0; i < 64; i++)
		xdp_ring_desc(&r, r.my_prod++)->len = i;
	CHECK(f.prod == UINT32_MAX - 10);
	xdp_ring_submit(&r);
	CHECK(f.prod - f.cons == 64);
	CHECK(xdp_ring_room(&r, 1) == 0);
	for (i = 0; i < 64; i++)
		CHECK(xdp_ring_desc(&r, f.cons + i)->len == i);
	f.cons += 20; /* the kernel took 20 */
	CHECK(xdp_ring_room(&r, 1) == 20);

	ring_on(&r, &f, 64, UINT32_MAX - 3);
	CHECK(xdp_ring_ready(&r) == 0);
	f.prod += 10;
	CHECK(xdp_ring_ready(&r) == 10);
	xdp_ring_taken(&r, 10);
	CHECK(f.cons == f.prod && xdp_ring_ready(&r) == 0);
}

static struct xdp_layout layout(void)
{
	return (struct xdp_layout){ .nqueues = 2, .nmembers = 3, .rx_frames = 128, .tx_frames = 64,
				    .rx_ring = 128, .tx_ring = 128, .frame_shift = 12 };
}

static void test_layout(void)
{
	struct xdp_layout l = layout(), bad;

	CHECK(!xdp_layout_make(&l));
	CHECK(l.fill_ring == 128 && l.comp_ring == 256);
	CHECK(xdp_queue_base(&l, 1) == (128 + 3 * 64) * 4096ull);
	CHECK(l.umem_size >= xdp_queue_base(&l, 2) && !(l.umem_size & ((2 << 20) - 1)));
	CHECK(xdp_layout_ok(&l));
	bad = l;
	bad.queue_size += 4096;
	CHECK(!xdp_layout_ok(&bad));
	bad = l;
	bad.nmembers = 0;
	CHECK(!xdp_layout_ok(&bad));
	bad = l;
	bad.tx_meta_len = 4000;
	CHECK(!xdp_layout_ok(&bad));
	bad = layout();
	bad.rx_frames = 100;
	CHECK(xdp_layout_make(&bad) == -EINVAL);
	bad = layout();
	bad.nqueues = 65;
	CHECK(xdp_layout_make(&bad) == -EINVAL);
	bad = layout();
	bad.frame_shift = 10;
	CHECK(xdp_layout_make(&bad) == -EINVAL);
}

static struct xdp_shared *shared_new(struct xdp_layout *l)
{
	struct xdp_shared *s;

	*l = layout();
	CHECK(!xdp_layout_make(l));
	s = mmap(NULL, l->ctl_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		exit(1);
	CHECK(!xdp_shared_init(s, l, 7));
	return s;
}

static void kernel_completes(struct xdp_ring *cq, uint64_t addr)
{
	*xdp_ring_addr(cq, *cq->prod) = addr;
	++*cq->prod;
}

static void test_completions(void)
{
	static struct fake f;
	struct xdp_layout l;
	struct xdp_shared *s = shared_new(&l);
	struct xdp_shared_queue *sq = xdp_shared_queue(s, 1);
	uint64_t tx0, sent[1] = { 0 };
	uint32_t out[64];
	struct xdp_ring cq;

	ring_on(&cq, &f, l.comp_ring, 0);
	tx0 = xdp_queue_base(&l, 1) + ((uint64_t)l.rx_frames << 12);
	/* slot 1's frames 5 and 63, with the packet's offset in the address; slot 2's frame 0 */
	kernel_completes(&cq, tx0 + ((64 + 5) << 12) + 128);
	kernel_completes(&cq, tx0 + ((64 + 63) << 12) + 128);
	kernel_completes(&cq, tx0 + ((128 + 0) << 12));
	/* nobody's: a receive frame, past the end */
	kernel_completes(&cq, xdp_queue_base(&l, 1));
	kernel_completes(&cq, tx0 + (192ull << 12));
	CHECK(xdp_shared_lock(sq));
	xdp_comp_drain_locked(s, 1, &cq);
	CHECK(f.cons == 5 && sq->bad_addr == 2);
	CHECK(sq->corner[1].done_hint == 1 && sq->corner[0].done_hint == 0);
	sent[0] = 1ull << 5; /* 63 is the former owner's */
	CHECK(xdp_done_harvest_locked(s, 1, 1, sent, out) == 1 && out[0] == 5);
	CHECK(sent[0] == 0 && sq->corner[1].done_hint == 0);
	/* a drainer died before it stored cons: the same entry again changes nothing */
	sent[0] = 1;
	f.cons = 2;
	xdp_comp_drain_locked(s, 1, &cq);
	CHECK(xdp_done_harvest_locked(s, 1, 2, sent, out) == 1 && out[0] == 0);
	CHECK(xdp_done_harvest_locked(s, 1, 2, sent, out) == 0);
	xdp_shared_unlock(sq);
	munmap(s, l.ctl_size);
}

static void test_sweep(void)
{
	static struct fake f;
	struct xdp_layout l;
	struct xdp_shared *s = shared_new(&l);
	struct xdp_shared_queue *sq = xdp_shared_queue(s, 0);
	uint32_t i, n, again;
	struct xdp_ring fq;

	ring_on(&fq, &f, l.fill_ring, UINT32_MAX - 64);
	CHECK(xdp_shared_lock(sq));
	for (i = 0; i < l.rx_frames; i++)
		CHECK(xdp_fill_push_locked(s, 0, &fq, &i, 1) == 1);
	i = 0;
	CHECK(xdp_fill_push_locked(s, 0, &fq, &i, 1) == 0); /* full */
	/* the kernel took 0..49; 0..19 come to the living, 20..49 to the dead */
	f.cons += 50;
	s->epoch++;
	xdp_sweep_mark_locked(s, 0, &fq, 0);
	for (i = 0; i < 10; i++) /* given back after the mark */
		xdp_fill_push_locked(s, 0, &fq, &i, 1);
	for (i = 10; i < 20; i++) /* stamped in the receive ring */
		xdp_shared_stamp(sq, &l)[i] = s->epoch;
	n = xdp_sweep_collect_locked(s, 0, &fq);
	CHECK(n == 30 && sq->rx_recovered == 30);
	CHECK(f.prod - f.cons == l.rx_frames - 10);
	again = xdp_sweep_collect_locked(s, 0, &fq);
	CHECK(again == 0);
	/* no frame twice */
	for (i = f.cons, n = 0; i != f.prod; i++) {
		uint32_t no = *xdp_ring_addr(&fq, i) >> 12;

		CHECK(no < l.rx_frames && (no < 10 || no >= 20));
		n += no;
	}
	CHECK(n == 127 * 128 / 2 - (10 + 19) * 10 / 2);
	xdp_shared_unlock(sq);
	munmap(s, l.ctl_size);
}

/* A process that dies with the lock doesn't keep it. */
static void test_robust_lock(void)
{
	struct xdp_layout l;
	struct xdp_shared *s = shared_new(&l);
	struct xdp_shared_queue *sq = xdp_shared_queue(s, 0);
	pid_t pid = fork();

	if (!pid) {
		xdp_shared_lock(sq);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	CHECK(xdp_shared_lock(sq));
	CHECK(!xdp_shared_lock(sq)); /* held: bounded, no deadlock */
	xdp_shared_unlock(sq);
	CHECK(xdp_shared_lock(sq));
	xdp_shared_unlock(sq);
	munmap(s, l.ctl_size);
}

int main(void)
{
	test_wrap();
	test_layout();
	test_completions();
	test_sweep();
	test_robust_lock();
	if (!failed)
		printf("ok hal_ring\n");
	return failed;
}
