/* SPDX-License-Identifier: Apache-2.0 */
/* hal_xdp/xdp_ring.h - the four AF_XDP rings, as the kernel lays them out
 *
 * Each ring has one producer and one consumer: the kernel is one, we are the other. Indices run
 * freely over 32 bits and are masked on use, so prod - cons is the number of entries. The kernel
 * orders its side with smp_store_release/smp_load_acquire on the same words.
 *
 * Receive and transmit rings belong to one thread, which keeps copies of the indices. Fill and
 * completion rings are shared by processes: there the mapped words are read under the queue's
 * lock each time (xdp_shared.h).
 */
#ifndef NSTACK_HAL_XDP_RING_H
#define NSTACK_HAL_XDP_RING_H

#include <linux/if_xdp.h>
#include <stddef.h>
#include <stdint.h>

/* Newer than the headers that we may be built with; values are kernel ABI. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef XDP_TX_METADATA
#define XDP_TX_METADATA (1 << 1)
#endif
#ifndef XDP_UMEM_TX_METADATA_LEN
#define XDP_UMEM_TX_METADATA_LEN (1 << 2)
#endif
#ifndef XDP_TXMD_FLAGS_CHECKSUM
#define XDP_TXMD_FLAGS_CHECKSUM (1 << 1)
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif

/* struct xdp_umem_reg and struct xsk_tx_metadata under our own names: the system's headers may
 * have the short forms. The metadata precedes the packet's first byte in the frame. */
struct xdp_umem_reg_v2 {
	uint64_t addr, len;
	uint32_t chunk_size, headroom, flags, tx_metadata_len;
};
struct xdp_tx_meta {
	uint64_t flags;
	uint16_t csum_start, csum_offset;
	uint32_t pad;
	uint64_t launch_time;
};
_Static_assert(sizeof(struct xdp_tx_meta) == 24, "kernel ABI");

struct xdp_ring {
	uint32_t *prod, *cons, *flags; /* in the mapping */
	void *desc;
	uint32_t size, mask;
	uint32_t my_prod, my_cons; /* transmit: prod is ours; receive: cons is ours */
	void *map;
	size_t map_len;
};

static inline void xdp_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

static inline uint32_t xdp_load_acquire(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline void xdp_store_release(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* Receive: entries that wait. acquire: pairs with the kernel's release of prod - descriptors and
 * packet bytes are read after it. Looks at the kernel's word only when the copy says "none". */
static inline uint32_t xdp_ring_ready(struct xdp_ring *r)
{
	r->my_prod = xdp_load_acquire(r->prod);
	return r->my_prod - r->my_cons;
}
/* release: pairs with the kernel's acquire of cons - we have read the descriptors before the
 * kernel may overwrite them. */
static inline void xdp_ring_taken(struct xdp_ring *r, uint32_t n)
{
	r->my_cons += n;
	xdp_store_release(r->cons, r->my_cons);
}

/* Transmit: room for n? acquire: pairs with the kernel's release of cons - the slot's old
 * descriptor has been read before we overwrite it. */
static inline uint32_t xdp_ring_room(struct xdp_ring *r, uint32_t n)
{
	uint32_t room = r->size - (r->my_prod - r->my_cons);

	if (room >= n)
		return room;
	r->my_cons = xdp_load_acquire(r->cons);
	return r->size - (r->my_prod - r->my_cons);
}
/* release: pairs with the kernel's acquire of prod - descriptor and packet are written first. */
static inline void xdp_ring_submit(struct xdp_ring *r)
{
	xdp_store_release(r->prod, r->my_prod);
}

static inline struct xdp_desc *xdp_ring_desc(struct xdp_ring *r, uint32_t i)
{
	return &((struct xdp_desc *)r->desc)[i & r->mask];
}
static inline uint64_t *xdp_ring_addr(struct xdp_ring *r, uint32_t i)
{
	return &((uint64_t *)r->desc)[i & r->mask];
}

/* Relaxed: a hint for when to make a system call; a stale value costs one call, or the next
 * burst makes it. */
static inline int xdp_ring_needs_wakeup(const struct xdp_ring *r)
{
	return __atomic_load_n(r->flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP;
}

#endif
