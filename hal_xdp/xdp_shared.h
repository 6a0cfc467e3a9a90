/* SPDX-License-Identifier: Apache-2.0 */
/* hal_xdp/xdp_shared.h - what the members of a port share: layout of frames and the control region
 *
 * Two memfds. The UMEM has for each queue first the receive frames, common to all members, then
 * tx_frames transmit frames for each member slot. The control region (struct xdp_shared) has the
 * slots and for each queue a lock, the bitmaps of completed transmit frames and a stamp for every
 * receive frame.
 *
 * The lock of a queue guards pushing into the fill ring and draining the completion ring, which
 * all members of the queue share. It is robust: a member that dies inside leaves nothing half
 * done that matters:
 *  - fill ring: entries count only once the producer index is stored; frames that were not
 *    published are lost, as are those in the dead member's receive ring, until the sweep.
 *  - completion ring: the drainer sets "done" bits, then stores the consumer index. Bits are
 *    harvested by the frame's owner under the lock, always after draining; so draining the same
 *    entries again after a death is harmless.
 *
 * Sweep (copy mode only: a zero-copy driver keeps frames where nobody can see them). When a
 * member is gone, the server:
 *  1. mark: raises the epoch and stamps every frame that is in the fill ring. Frames pushed later
 *     are stamped as they are pushed.
 *  2. waits a second, and until XDP_SWEEP_DELIVERIES frames were taken from the queue (or the
 *     kernel found nothing at all in fill ring and spare list): the kernel keeps a frame that it
 *     took and couldn't deliver, and uses it first the next time. After that, unstamped frames
 *     are in a living member's hands or lost.
 *  3. asks the living to stamp what they hold (ack), then
 *  4. puts what is still unstamped into the fill ring.
 * Step 1 may start over at any time (another death, another server).
 *
 * Members trust each other: they were one user or root when they came. Descriptors are bounded
 * anyway.
 */
#ifndef NSTACK_HAL_XDP_SHARED_H
#define NSTACK_HAL_XDP_SHARED_H

#include <hal_xdp/hal_xdp.h>
#include <hal_xdp/xdp_ring.h>
#include <pthread.h>

#define XDP_SHARED_MAGIC 0x6e737461636b7870ull
#define XDP_SHARED_VERSION 1u
#define XDP_SWEEP_DELIVERIES 64u
#define XDP_SWEEP_GRACE_NS 1000000000ull

enum xdp_sweep {
	XDP_SWEEP_IDLE,
	XDP_SWEEP_MARKED, /* step 2: waiting */
	XDP_SWEEP_ACKING, /* step 3: the living must answer */
};

/* Written by the server only. */
struct xdp_member {
	uint32_t used;  /* a process has the slot, or died and wasn't noticed yet */
	int32_t pid;    /* for people; liveness is the lock on byte 1 + slot of the control memfd */
};

struct xdp_layout {
	uint32_t nqueues, nmembers;
	uint32_t rx_frames, tx_frames; /* powers of two */
	uint32_t rx_ring, tx_ring, fill_ring, comp_ring;
	uint32_t frame_shift;
	uint32_t tx_meta_len; /* 0: no transmit metadata */
	uint32_t tx_off;      /* of a packet in a transmit frame */
	uint32_t zerocopy, huge, sg, pad;
	uint64_t queue_off, queue_size; /* in the control region */
	uint64_t ctl_size, umem_size;
};

struct xdp_shared {
	uint64_t magic;
	uint32_t version, ifindex;
	struct xdp_layout lay;
	uint32_t epoch;
	uint32_t sweep; /* enum xdp_sweep; the server's */
	struct xdp_member member[HAL_XDP_MEMBERS_MAX];
};

/* One member's corner of a queue. */
struct xdp_shared_corner {
	uint64_t rx_taken;  /* the member's: frames taken from its receive ring */
	uint32_t done_hint; /* some done bit was set; under the lock, read without it as a hint */
} __attribute__((aligned(64)));

struct xdp_shared_queue {
	pthread_mutex_t lock;
	uint64_t rx_recovered;     /* by sweeps */
	uint64_t mark_taken;       /* sum of rx_taken at the mark */
	uint64_t mark_empty;       /* kernel's count of "fill ring empty" at the mark */
	uint64_t bad_addr;         /* completions that no member owns */
	struct xdp_shared_corner corner[HAL_XDP_MEMBERS_MAX];
	/* uint64_t done[nmembers][tx_frames / 64]; uint32_t stamp[rx_frames]; */
};

static inline uint64_t *xdp_shared_done(struct xdp_shared_queue *sq, const struct xdp_layout *l,
					uint32_t slot)
{
	return (uint64_t *)(sq + 1) + (size_t)slot * (l->tx_frames / 64);
}
static inline uint32_t *xdp_shared_stamp(struct xdp_shared_queue *sq, const struct xdp_layout *l)
{
	return (uint32_t *)((uint64_t *)(sq + 1) + (size_t)l->nmembers * (l->tx_frames / 64));
}
static inline struct xdp_shared_queue *xdp_shared_queue(struct xdp_shared *s, uint32_t q)
{
	return (struct xdp_shared_queue *)((uint8_t *)s + s->lay.queue_off + q * s->lay.queue_size);
}
/* Frames of a queue are numbered from 0: receive frames, then the slots' transmit frames. */
static inline uint64_t xdp_queue_base(const struct xdp_layout *l, uint32_t q)
{
	uint64_t frames = l->rx_frames + (uint64_t)l->nmembers * l->tx_frames;

	return (frames * q) << l->frame_shift;
}

/* Fills in everything derived; -EINVAL if the sizes make no sense. */
int xdp_layout_make(struct xdp_layout *l);
/* True if a layout that came from another process is what xdp_layout_make() would have made. */
bool xdp_layout_ok(const struct xdp_layout *l);
int xdp_shared_init(struct xdp_shared *s, const struct xdp_layout *l, uint32_t ifindex);

/* Lock of a queue: gives up after a bounded spin (false); takes over from the dead. */
bool xdp_shared_lock(struct xdp_shared_queue *sq);
void xdp_shared_unlock(struct xdp_shared_queue *sq);

/* All under the lock. */
/* Push receive frames by number; returns how many fitted. */
uint32_t xdp_fill_push_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *fq,
			      const uint32_t *frame, uint32_t n);
/* Take all completions, set their owners' done bits. */
void xdp_comp_drain_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *cq);
/* Take own done frames that are in `sent` (private bitmap) away from both, as frame numbers
 * within the share, into out (room for tx_frames); returns how many. */
uint32_t xdp_done_harvest_locked(struct xdp_shared *s, uint32_t q, uint32_t slot, uint64_t *sent,
				 uint32_t *out);
/* Sweep, step 1 and 4. */
void xdp_sweep_mark_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *fq, uint64_t empty);
uint32_t xdp_sweep_collect_locked(struct xdp_shared *s, uint32_t q, struct xdp_ring *fq);
uint64_t xdp_shared_taken(struct xdp_shared *s, uint32_t q);

#endif
