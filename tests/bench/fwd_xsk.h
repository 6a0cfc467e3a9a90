/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/fwd_xsk.h - the least AF_XDP socket by libxdp, for the raw measurements
 *
 * One queue, 4096 frames of 4 KB, the interface's redirect.bpf.c, the same bind flags as hal_xdp.
 */
#ifndef TESTS_BENCH_FWD_XSK_H
#define TESTS_BENCH_FWD_XSK_H

#include <tests/hal/redirect.h>

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <xdp/xsk.h>

#define RAW_FRAMES 4096u
#define RAW_FRAME 4096u
#define RAW_BATCH 64u

struct raw {
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	struct xsk_ring_prod fq, tx;
	struct xsk_ring_cons cq, rx;
	uint8_t *mem;
	int fd;
	uint32_t on_way; /* sent, not completed */
	uint64_t kicks;
};

static inline int raw_open(struct raw *r, const char *ifname, bool native)
{
	struct xsk_umem_config uc = { .fill_size = RAW_FRAMES, .comp_size = RAW_FRAMES,
				      .frame_size = RAW_FRAME };
	struct xsk_socket_config sc = {
		.rx_size = 2048, .tx_size = 2048, .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_USE_NEED_WAKEUP | XDP_COPY | (1 << 4) /* XDP_USE_SG */,
	};
	uint32_t i, idx, budget = 2048;
	struct redirect red;
	int e;

	memset(r, 0, sizeof(*r));
	e = redirect_open(&red, if_nametoindex(ifname), native);
	if (e)
		return e;
	r->mem = mmap(NULL, (size_t)RAW_FRAMES * RAW_FRAME, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	e = xsk_umem__create(&r->umem, r->mem, (uint64_t)RAW_FRAMES * RAW_FRAME, &r->fq, &r->cq, &uc);
	if (e)
		return e;
	e = xsk_socket__create(&r->xsk, ifname, 0, r->umem, &r->rx, &r->tx, &sc);
	if (e)
		return e;
	r->fd = xsk_socket__fd(r->xsk);
	setsockopt(r->fd, 283 /* SOL_XDP */, 9 /* XDP_MAX_TX_SKB_BUDGET */, &budget, sizeof(budget));
	if (xsk_ring_prod__reserve(&r->fq, RAW_FRAMES, &idx) != RAW_FRAMES)
		return -ENOSPC;
	for (i = 0; i < RAW_FRAMES; i++)
		*xsk_ring_prod__fill_addr(&r->fq, idx + i) = (uint64_t)i * RAW_FRAME;
	xsk_ring_prod__submit(&r->fq, RAW_FRAMES);
	e = redirect_xsk(&red, 0, r->fd);
	return e ? e : redirect_port(&red, 0, 0);
}

/* Completed frames go straight back to the fill ring. */
static inline void raw_complete(struct raw *r)
{
	uint32_t n, i, ci, fi;

	if (!r->on_way)
		return;
	n = xsk_ring_cons__peek(&r->cq, RAW_BATCH, &ci);
	if (!n)
		return;
	while (xsk_ring_prod__reserve(&r->fq, n, &fi) != n)
		;
	for (i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&r->fq, fi + i) = *xsk_ring_cons__comp_addr(&r->cq, ci + i);
	xsk_ring_prod__submit(&r->fq, n);
	xsk_ring_cons__release(&r->cq, n);
	r->on_way -= n;
}

static inline void raw_kick(struct raw *r)
{
	if (xsk_ring_prod__needs_wakeup(&r->tx)) {
		r->kicks++;
		sendto(r->fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
	}
}

/* One round: receive a batch, let touch() change each frame, send it back. Returns packets. */
static inline uint32_t raw_round(struct raw *r, void (*touch)(uint8_t *, uint32_t))
{
	uint32_t n, i, ri, ti;

	raw_complete(r);
	n = xsk_ring_cons__peek(&r->rx, RAW_BATCH, &ri);
	if (!n)
		return 0;
	while (xsk_ring_prod__reserve(&r->tx, n, &ti) != n) {
		raw_kick(r);
		raw_complete(r);
	}
	for (i = 0; i < n; i++) {
		const struct xdp_desc *d = xsk_ring_cons__rx_desc(&r->rx, ri + i);

		touch(r->mem + d->addr, d->len);
		*xsk_ring_prod__tx_desc(&r->tx, ti + i) = *d;
	}
	xsk_ring_cons__release(&r->rx, n);
	xsk_ring_prod__submit(&r->tx, n);
	r->on_way += n;
	raw_kick(r);
	return n;
}

static inline void swap_bytes(uint8_t *a, uint8_t *b, uint32_t n)
{
	uint8_t t[16];

	memcpy(t, a, n);
	memcpy(a, b, n);
	memcpy(b, t, n);
}

static inline double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

#endif
