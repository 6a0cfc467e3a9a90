// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_queue.c - the packet path of a queue: receive, release, allocate, send, kick
 *
 * One thread at a time per queue. Received frames go back in batches: they gather in `pending`
 * and are pushed into the fill ring, which members share, under its lock. Transmit frames are
 * our own share; completions are looked at when free frames get short. Neither waits for the
 * lock: what can't be done now is done by a later call.
 *
 * No allocation and no log here; one system call per flush. In copy mode that call does the
 * sending, 32 frames at a time unless XDP_MAX_TX_SKB_BUDGET raised it; what it leaves (peer
 * busy, no memory) is kicked again by the next call on the queue, or at next_due.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <errno.h>
#include <nstack/fault_point.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define KICKS_IDLE 3          /* kicks without progress before giving up for now */
#define KICKS_MAX 128
#define RETRY_NS 200000u

int xdp_queue_init(struct xdp_port *p, uint32_t id)
{
	struct xdp_queue *q = &p->queue[id];
	const struct xdp_layout *l = &p->lay;
	uint32_t i;

	q->sq = xdp_shared_queue(p->sh, id);
	q->corner = &q->sq->corner[p->slot];
	q->rx_stamp = xdp_shared_stamp(q->sq, l);
	q->base = xdp_queue_base(l, id);
	q->tx_base = q->base + (((uint64_t)l->rx_frames + (uint64_t)p->slot * l->tx_frames)
				<< l->frame_shift);
	q->mem = p->umem;
	q->pending = calloc(l->rx_frames, sizeof(*q->pending));
	q->tx_free = calloc(l->tx_frames, sizeof(*q->tx_free));
	q->tx_sent = calloc(l->tx_frames / 64, sizeof(*q->tx_sent));
	q->harvest = calloc(l->tx_frames, sizeof(*q->harvest));
	if (!q->pending || !q->tx_free || !q->tx_sent || !q->harvest)
		return -ENOMEM;
	/* the frame freed last is used first: low numbers, warm in the cache */
	for (i = 0; i < l->tx_frames; i++)
		q->tx_free[i] = l->tx_frames - 1 - i;
	q->ntx_free = l->tx_frames;
	return 0;
}

void xdp_queue_fini(struct xdp_queue *q)
{
	free(q->pending);
	free(q->tx_free);
	free(q->tx_sent);
	free(q->harvest);
	q->pending = q->tx_free = q->harvest = NULL;
	q->tx_sent = NULL;
}

static inline struct xdp_queue *queue(struct hal_port *p, uint32_t q)
{
	return &xdp_port_of(p)->queue[q];
}

/* --- receive ------------------------------------------------------------------------------- */

/* How many of the n entries from my_cons on are whole packets? */
static uint32_t whole(struct xdp_ring *r, uint32_t n)
{
	while (n && (xdp_ring_desc(r, r->my_cons + n - 1)->options & XDP_PKT_CONTD))
		n--;
	return n;
}

/* The packet at the head has more frames than the caller takes at once, so it would stay there for
 * ever (2 KB frames and a packet of 64 KB): drop it. The kernel publishes whole packets. */
static void drop_head(struct xdp_queue *q, uint32_t have)
{
	const struct xdp_layout *l = &q->port->lay;
	uint32_t i = 0, more = XDP_PKT_CONTD;

	for (; i < have && more; i++) {
		const struct xdp_desc *d = xdp_ring_desc(&q->rx, q->rx.my_cons + i);
		uint64_t no = (d->addr - q->base) >> l->frame_shift;

		more = d->options & XDP_PKT_CONTD;
		if (no >= l->rx_frames || q->npending >= l->rx_frames)
			continue;
		q->rx_stamp[no] = q->port->sh->epoch;
		q->pending[q->npending++] = no;
	}
	xdp_ring_taken(&q->rx, i);
	__atomic_store_n(&q->corner->rx_taken, q->corner->rx_taken + i, __ATOMIC_RELAXED);
	q->st.rx_dropped++;
	xdp_queue_refill(q);
}

uint32_t xdp_rx_burst(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct xdp_queue *q = queue(hp, qi);
	const struct xdp_layout *l = &q->port->lay;
	uint32_t have, i, out = 0, epoch;
	uint64_t bytes = 0, packets = 0;

	if (__builtin_expect(q->tx_left, 0))
		xdp_queue_kick(q);
	if (__builtin_expect(q->npending >= XDP_REFILL_BATCH, 0))
		xdp_queue_refill(q); /* the lock was busy the last time */
	have = xdp_ring_ready(&q->rx);
	if (!have)
		return 0;
	if (n > have)
		n = have;
	n = whole(&q->rx, n);
	if (__builtin_expect(!n, 0)) {
		drop_head(q, have);
		return 0;
	}
	epoch = q->port->sh->epoch;
	for (i = 0; i < n; i++) {
		const struct xdp_desc *d = xdp_ring_desc(&q->rx, q->rx.my_cons + i);
		uint64_t no = (d->addr - q->base) >> l->frame_shift;

		if (no >= l->rx_frames) /* somebody filled in a frame that isn't the queue's */
			continue;
		q->rx_stamp[no] = epoch;
		f[out].data = q->mem + d->addr;
		f[out].len = d->len;
		f[out].room = 0;
		f[out].flags = d->options & XDP_PKT_CONTD ? HAL_F_MORE : 0;
		f[out].handle = no;
		packets += !(d->options & XDP_PKT_CONTD);
		bytes += d->len;
		out++;
	}
	xdp_ring_taken(&q->rx, n);
	NST_FAULT_POINT("xdp.rx.taken");
	q->held += out;
	q->st.rx_packets += packets;
	q->st.rx_bytes += bytes;
	q->st.rx_frames += out;
	/* ours alone to write; goes on where the slot's former owner stopped */
	__atomic_store_n(&q->corner->rx_taken, q->corner->rx_taken + out, __ATOMIC_RELAXED);
	return out;
}

void xdp_queue_refill(struct xdp_queue *q)
{
	uint32_t n;

	if (!q->npending || !xdp_shared_lock(q->sq))
		return;
	n = xdp_fill_push_locked(q->port->sh, q->id, &q->fq, q->pending, q->npending);
	xdp_shared_unlock(q->sq);
	q->npending -= n;
	if (q->npending)
		memmove(q->pending, q->pending + n, q->npending * sizeof(*q->pending));
	/* only zero-copy drivers stop for want of frames */
	if (xdp_ring_needs_wakeup(&q->fq)) {
		q->st.rx_wakeups++;
		recvfrom(q->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	}
}

void xdp_rx_release(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct xdp_queue *q = queue(hp, qi);
	uint32_t i, max = q->port->lay.rx_frames;

	for (i = 0; i < n; i++)
		if (f[i].handle < max && q->npending < max)
			q->pending[q->npending++] = f[i].handle;
	q->held -= n < q->held ? n : q->held;
	NST_FAULT_POINT("xdp.rx.released");
	if (q->npending >= XDP_REFILL_BATCH)
		xdp_queue_refill(q);
}

/* Sweep, step 3: stamp what waits in our ring and what we are about to give back. Frames that
 * the caller holds were stamped when taken, at an earlier epoch maybe: the caller of this one
 * makes sure that there are none. */
void xdp_queue_stamp(struct xdp_queue *q, uint32_t epoch)
{
	const struct xdp_layout *l = &q->port->lay;
	uint32_t n = xdp_ring_ready(&q->rx), i;

	for (i = 0; i < n; i++) {
		uint64_t no = (xdp_ring_desc(&q->rx, q->rx.my_cons + i)->addr - q->base)
			      >> l->frame_shift;

		if (no < l->rx_frames)
			q->rx_stamp[no] = epoch;
	}
	for (i = 0; i < q->npending; i++)
		q->rx_stamp[q->pending[i]] = epoch;
}

/* --- transmit ------------------------------------------------------------------------------ */

static void reap(struct xdp_queue *q)
{
	uint32_t i, n;

	/* Hints, read without the lock: is there anything to find? */
	if (__atomic_load_n(q->cq.prod, __ATOMIC_RELAXED) ==
	    __atomic_load_n(q->cq.cons, __ATOMIC_RELAXED) &&
	    !__atomic_load_n(&q->corner->done_hint, __ATOMIC_RELAXED))
		return;
	if (!xdp_shared_lock(q->sq))
		return;
	xdp_comp_drain_locked(q->port->sh, q->id, &q->cq);
	n = xdp_done_harvest_locked(q->port->sh, q->id, q->port->slot, q->tx_sent, q->harvest);
	xdp_shared_unlock(q->sq);
	for (i = 0; i < n; i++)
		q->tx_free[q->ntx_free++] = q->harvest[i];
}

uint32_t xdp_tx_alloc(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct xdp_queue *q = queue(hp, qi);
	const struct xdp_layout *l = &q->port->lay;
	uint32_t i;

	if (q->ntx_free < n || q->ntx_free < l->tx_frames / 4)
		reap(q);
	if (n > q->ntx_free) {
		q->st.tx_no_frame += n - q->ntx_free;
		n = q->ntx_free;
	}
	for (i = 0; i < n; i++) {
		uint64_t no = q->tx_free[--q->ntx_free];

		f[i].data = q->mem + q->tx_base + (no << l->frame_shift) + l->tx_off;
		f[i].len = 0;
		f[i].room = (1u << l->frame_shift) - l->tx_off;
		f[i].flags = 0;
		f[i].csum_start = f[i].csum_offset = 0;
		f[i].handle = no;
	}
	return n;
}

void xdp_tx_free(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct xdp_queue *q = queue(hp, qi);
	uint32_t i;

	for (i = 0; i < n; i++)
		if (f[i].handle < q->port->lay.tx_frames && q->ntx_free < q->port->lay.tx_frames)
			q->tx_free[q->ntx_free++] = f[i].handle;
}

/* Ask the device (or the kernel's own code) to finish the checksum. */
static uint32_t put_meta(struct xdp_queue *q, const struct hal_frame *f)
{
	struct xdp_tx_meta *m = (struct xdp_tx_meta *)(f->data - q->port->lay.tx_meta_len);

	m->flags = XDP_TXMD_FLAGS_CHECKSUM;
	m->csum_start = f->csum_start;
	m->csum_offset = f->csum_offset;
	m->launch_time = 0;
	return XDP_TX_METADATA;
}

/* Frames of the packet at f, and whether the kernel would take it. 0: not whole. */
static uint32_t packet_frames(const struct xdp_queue *q, const struct hal_frame *f, uint32_t n,
			      bool *good)
{
	uint32_t i, room = (1u << q->port->lay.frame_shift) - q->port->lay.tx_off;

	*good = true;
	for (i = 0; i < n; i++) {
		if (!f[i].len || f[i].len > room || f[i].handle >= q->port->lay.tx_frames)
			*good = false;
		if (!(f[i].flags & HAL_F_MORE)) {
			if (i + 1 > XDP_TX_DESCS_MAX || (i && !q->port->lay.sg))
				*good = false;
			return i + 1;
		}
	}
	return 0;
}

static void put_packet(struct xdp_queue *q, const struct hal_frame *f, uint32_t n)
{
	const struct xdp_layout *l = &q->port->lay;
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct xdp_desc *d = xdp_ring_desc(&q->tx, q->tx.my_prod++);
		uint64_t no = f[i].handle;

		d->addr = q->tx_base + (no << l->frame_shift) + l->tx_off;
		d->len = f[i].len;
		d->options = f[i].flags & HAL_F_MORE ? XDP_PKT_CONTD : 0;
		if (i == 0 && (f[i].flags & HAL_F_CSUM_WANTED) && l->tx_meta_len)
			d->options |= put_meta(q, &f[i]);
		q->tx_sent[no / 64] |= 1ull << (no & 63);
		q->st.tx_bytes += f[i].len;
	}
	q->st.tx_packets++;
	q->st.tx_frames += n;
}

uint32_t xdp_tx_burst(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct xdp_queue *q = queue(hp, qi);
	uint32_t done = 0, k;
	bool good;

	while (done < n && (k = packet_frames(q, f + done, n - done, &good))) {
		if (!good) { /* can never be sent: taken and counted, or the caller would loop */
			q->st.tx_errors++;
			xdp_tx_free(hp, qi, f + done, k);
			done += k;
			continue;
		}
		if (xdp_ring_room(&q->tx, k) < k) {
			q->st.tx_ring_full++;
			break;
		}
		put_packet(q, f + done, k);
		done += k;
		q->tx_dirty = true;
	}
	NST_FAULT_POINT("xdp.tx.written");
	xdp_ring_submit(&q->tx);
	NST_FAULT_POINT("xdp.tx.submitted");
	return done;
}

static bool tx_ring_empty(struct xdp_queue *q)
{
	q->tx.my_cons = xdp_load_acquire(q->tx.cons);
	return q->tx.my_cons == q->tx.my_prod;
}

/* Does kicking again make sense after this error? EAGAIN: the kernel's budget is used up, the
 * completion ring or the send buffer full, or the device busy. EBUSY: a frame was dropped. */
static bool busy(int err)
{
	return err == EAGAIN || err == EBUSY || err == ENOBUFS || err == EINTR;
}

void xdp_queue_kick(struct xdp_queue *q)
{
	uint32_t before, idle = 0;
	int i;

	q->tx_dirty = q->tx_left = false;
	for (i = 0; i < KICKS_MAX; i++) {
		if (q->port->lay.zerocopy && !xdp_ring_needs_wakeup(&q->tx))
			return; /* the driver is at it */
		before = xdp_load_acquire(q->tx.cons);
		q->st.tx_kicks++;
		if (sendto(q->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
			return;
		if (!busy(errno)) {
			q->st.tx_errors++;
			q->tx_left = !tx_ring_empty(q);
			return;
		}
		if (tx_ring_empty(q))
			return;
		if (q->tx.my_cons != before) {
			idle = 0;
			continue;
		}
		reap(q);
		if (++idle == KICKS_IDLE)
			break;
	}
	q->tx_left = true;
}

void xdp_tx_flush(struct hal_port *hp, uint32_t qi)
{
	struct xdp_queue *q = queue(hp, qi);

	if (q->tx_dirty || q->tx_left)
		xdp_queue_kick(q);
}

/* --- sleeping ------------------------------------------------------------------------------ */

int xdp_arm(struct hal_port *hp, uint32_t qi)
{
	struct xdp_queue *q = queue(hp, qi);

	/* Sleep with nothing in hand: other members may be short of frames. */
	xdp_queue_refill(q);
	return q->fd;
}

int xdp_next_due(struct hal_port *hp, uint32_t qi, uint64_t *ns)
{
	struct timespec ts;

	*ns = UINT64_MAX;
	/* frames that another member's lock kept us from giving back may be the last there are */
	if (queue(hp, qi)->tx_left || queue(hp, qi)->npending >= XDP_REFILL_BATCH) {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		*ns = ts.tv_sec * 1000000000ull + ts.tv_nsec + RETRY_NS;
	}
	return 0;
}
