// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_shared.c - the control region of a port: layout, lock, fill and completion sides
 *
 * See xdp_shared.h for the scheme. Runs on the thread that has the queue; makes no system call
 * (but the lock's, when a member died with it). Leaves out: who is a member (xdp_share.c).
 */
#include <hal_xdp/xdp_shared.h>

#include <errno.h>
#include <nstack/barrier.h>
#include <nstack/fault_point.h>
#include <string.h>

#define ALIGN_UP(x, a) (((x) + (a) - 1) & ~((uint64_t)(a) - 1))
#define LOCK_SPINS 400

static bool pow2(uint32_t x)
{
	return x && !(x & (x - 1));
}

int xdp_layout_make(struct xdp_layout *l)
{
	uint64_t frames;

	if (!l->nqueues || l->nqueues > HAL_XDP_QUEUES_MAX || !l->nmembers ||
	    l->nmembers > HAL_XDP_MEMBERS_MAX)
		return -EINVAL;
	if (!pow2(l->rx_frames) || !pow2(l->tx_frames) || !pow2(l->rx_ring) || !pow2(l->tx_ring))
		return -EINVAL;
	if (l->rx_frames < 64 || l->tx_frames < 64 || l->rx_frames > 1u << 20 ||
	    l->tx_frames > 1u << 16 || l->rx_ring < 64 || l->tx_ring < 64 ||
	    l->rx_ring > 1u << 16 || l->tx_ring > 1u << 16)
		return -EINVAL;
	if (l->frame_shift != 11 && l->frame_shift != 12)
		return -EINVAL;
	/* Rings that hold every frame there is can't overflow. */
	l->fill_ring = l->rx_frames;
	l->comp_ring = 64;
	while (l->comp_ring < l->nmembers * l->tx_frames)
		l->comp_ring <<= 1;
	l->tx_off = 128;
	l->queue_off = ALIGN_UP(sizeof(struct xdp_shared), 4096);
	l->queue_size = ALIGN_UP(sizeof(struct xdp_shared_queue) +
				 (uint64_t)l->nmembers * (l->tx_frames / 8) +
				 (uint64_t)l->rx_frames * 4, 4096);
	l->ctl_size = l->queue_off + l->nqueues * l->queue_size;
	frames = l->rx_frames + (uint64_t)l->nmembers * l->tx_frames;
	l->umem_size = ALIGN_UP((frames * l->nqueues) << l->frame_shift, 2u << 20);
	return 0;
}

bool xdp_layout_ok(const struct xdp_layout *l)
{
	struct xdp_layout want = *l;

	if (xdp_layout_make(&want))
		return false;
	return !memcmp(&want, l, sizeof(want)) && l->tx_meta_len <= l->tx_off;
}

int xdp_shared_init(struct xdp_shared *s, const struct xdp_layout *l, uint32_t ifindex)
{
	pthread_mutexattr_t at;
	uint32_t q;
	int r;

	s->lay = *l;
	s->ifindex = ifindex;
	s->epoch = 1;
	r = pthread_mutexattr_init(&at);
	if (r)
		return -r;
	pthread_mutexattr_setpshared(&at, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST);
	for (q = 0; q < l->nqueues && !r; q++)
		r = pthread_mutex_init(&xdp_shared_queue(s, q)->lock, &at);
	pthread_mutexattr_destroy(&at);
	s->version = XDP_SHARED_VERSION;
	s->magic = XDP_SHARED_MAGIC;
	return -r;
}

bool xdp_shared_lock(struct xdp_shared_queue *sq)
{
	int i, r;

	for (i = 0; i < LOCK_SPINS; i++) {
		r = pthread_mutex_trylock(&sq->lock);
		if (!r)
			return true;
		if (r == EOWNERDEAD) {
			pthread_mutex_consistent(&sq->lock);
			return true;
		}
		if (r != EBUSY)
			return false;
		xdp_relax();
	}
	return false;
}

void xdp_shared_unlock(struct xdp_shared_queue *sq)
{
	pthread_mutex_unlock(&sq->lock);
}

uint32_t xdp_fill_push_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *fq,
			      const uint32_t *frame, uint32_t n)
{
	uint32_t *stamp = xdp_shared_stamp(xdp_shared_queue(s, q), &s->lay);
	uint64_t base = xdp_queue_base(&s->lay, q);
	uint32_t epoch = s->epoch, prod = *fq->prod, room, i;

	room = fq->size - (prod - xdp_load_acquire(fq->cons));
	if (n > room)
		n = room;
	for (i = 0; i < n; i++) {
		*xdp_ring_addr(fq, prod + i) = base + ((uint64_t)frame[i] << s->lay.frame_shift);
		stamp[frame[i]] = epoch;
	}
	NST_FAULT_POINT("xdp.fill.written");
	/* release: pairs with the kernel's acquire - entries are written before prod */
	xdp_store_release(fq->prod, prod + n);
	NST_FAULT_POINT("xdp.fill.pushed");
	return n;
}

void xdp_comp_drain_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *cq)
{
	struct xdp_shared_queue *sq = xdp_shared_queue(s, q);
	const struct xdp_layout *l = &s->lay;
	uint64_t base = xdp_queue_base(l, q), tx_base = base >> l->frame_shift;
	uint32_t cons = *cq->cons, prod = xdp_load_acquire(cq->prod);
	uint32_t tx_shift = __builtin_ctz(l->tx_frames);

	tx_base += l->rx_frames;
	for (; cons != prod; cons++) {
		/* addresses come back with the packet's offset in the frame */
		uint64_t i = (*xdp_ring_addr(cq, cons) >> l->frame_shift) - tx_base;
		uint64_t slot = i >> tx_shift, bit = i & (l->tx_frames - 1);

		if (slot >= l->nmembers) {
			sq->bad_addr++;
			continue;
		}
		xdp_shared_done(sq, l, slot)[bit / 64] |= 1ull << (bit & 63);
		__atomic_store_n(&sq->corner[slot].done_hint, 1, __ATOMIC_RELAXED);
	}
	NST_FAULT_POINT("xdp.comp.read");
	/* release: pairs with the kernel's acquire - entries are read before it reuses them; and
	 * the bits are set before the entries are gone, for the case that we die in between */
	xdp_store_release(cq->cons, cons);
	NST_FAULT_POINT("xdp.comp.drained");
}

uint32_t xdp_done_harvest_locked(struct xdp_shared *s, uint32_t q, uint32_t slot, uint64_t *sent,
				 uint32_t *out)
{
	struct xdp_shared_queue *sq = xdp_shared_queue(s, q);
	uint64_t *done = xdp_shared_done(sq, &s->lay, slot);
	uint32_t w, n = 0;

	__atomic_store_n(&sq->corner[slot].done_hint, 0, __ATOMIC_RELAXED);
	NST_FAULT_POINT("xdp.comp.harvest");
	for (w = 0; w < s->lay.tx_frames / 64; w++) {
		/* A bit that we didn't send is a late completion of the slot's former owner. */
		uint64_t bits = done[w] & sent[w];

		done[w] = 0;
		sent[w] &= ~bits;
		for (; bits; bits &= bits - 1)
			out[n++] = w * 64 + __builtin_ctzll(bits);
	}
	return n;
}

uint64_t xdp_shared_taken(struct xdp_shared *s, uint32_t q)
{
	struct xdp_shared_queue *sq = xdp_shared_queue(s, q);
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < s->lay.nmembers; i++)
		sum += __atomic_load_n(&sq->corner[i].rx_taken, __ATOMIC_RELAXED);
	return sum;
}

void xdp_sweep_mark_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *fq, uint64_t empty)
{
	struct xdp_shared_queue *sq = xdp_shared_queue(s, q);
	uint32_t *stamp = xdp_shared_stamp(sq, &s->lay);
	uint32_t base = xdp_queue_base(&s->lay, q) >> s->lay.frame_shift;
	uint32_t i, prod = *fq->prod;

	/* full barrier: the new epoch is stored before cons is loaded. Whoever receives a frame
	 * that was in the ring at that time then sees the new epoch and won't undo the stamp. */
	nst_full_barrier();
	i = xdp_load_acquire(fq->cons);

	for (; i != prod; i++) {
		uint32_t f = (uint32_t)(*xdp_ring_addr(fq, i) >> s->lay.frame_shift) - base;

		if (f < s->lay.rx_frames)
			stamp[f] = s->epoch;
	}
	sq->mark_taken = xdp_shared_taken(s, q);
	sq->mark_empty = empty;
	NST_FAULT_POINT("xdp.sweep.marked");
}

uint32_t xdp_sweep_collect_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *fq)
{
	struct xdp_shared_queue *sq = xdp_shared_queue(s, q);
	uint32_t *stamp = xdp_shared_stamp(sq, &s->lay);
	uint32_t f, n = 0;

	for (f = 0; f < s->lay.rx_frames; f++)
		if (stamp[f] != s->epoch)
			n += xdp_fill_push_locked(s, q, fq, &f, 1);
	sq->rx_recovered += n;
	NST_FAULT_POINT("xdp.sweep.collected");
	return n;
}
