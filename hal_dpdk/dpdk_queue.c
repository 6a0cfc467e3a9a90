/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_queue.c - the packet path of a queue
 *
 * A frame is an mbuf's data, in place both ways: received ones are handed out segment by segment and
 * freed by segment; sent ones wait in `pending` and go to the driver in one burst per flush. What the
 * driver does not take stays there, and the next call tries again.
 *
 * Sleeping: a queue whose driver has interrupts switches them on when it finds nothing, and looks once
 * more (a packet between the two is then seen). A driver that receives from a socket is woken by that.
 * For the rest there is only looking again, from 50 us up to 1 ms apart while nothing comes.
 *
 * One thread at a time per queue; no allocation, no log, and no system call of ours on the way of a
 * packet.
 */
#include <hal_dpdk/dpdk_internal.h>

#include <rte_ethdev.h>
#include <string.h>
#include <sys/socket.h>

#define LOOK_FIRST_NS 50000u
#define LOOK_LAST_NS 1000000u
#define RETRY_NS 200000u
#define RX_MAX 64u
#define IDLE_ODD 1024u /* so many looks in a row that found nothing are odd for a driver that wakes us */

static struct dpdk_queue *queue_of(struct hal_port *hp, uint32_t q)
{
	return &dpdk_port_of(hp)->queue[q];
}

/* --- receive ------------------------------------------------------------------------------- */

static void intr(struct dpdk_port *p, struct dpdk_queue *q, uint32_t qi, bool on)
{
	if (q->wake != DPDK_WAKE_INTR || q->intr_on == on)
		return;
	q->intr_on = on;
	if (on)
		rte_eth_dev_rx_intr_enable(p->id, (uint16_t)qi);
	else
		rte_eth_dev_rx_intr_disable(p->id, (uint16_t)qi);
}

/* A socket whose interface went down polls ready until somebody has asked why. */
static void errors_clear(struct dpdk_port *p)
{
	socklen_t len = sizeof(int);
	int err;

	for (uint32_t i = 0; i < p->nwake; i++)
		getsockopt(p->wake_fd[i], SOL_SOCKET, SO_ERROR, &err, &len);
}

/* Nothing there: prepare for sleep. */
static void idle(struct dpdk_port *p, struct dpdk_queue *q)
{
	q->nidle++;
	if (q->wake == DPDK_WAKE_FD && q->nidle % IDLE_ODD == 0)
		errors_clear(p);
	if (q->wake != DPDK_WAKE_TIMER)
		return;
	q->idle_ns = q->idle_ns ? q->idle_ns * 2 : LOOK_FIRST_NS;
	if (q->idle_ns > LOOK_LAST_NS)
		q->idle_ns = LOOK_LAST_NS;
}

static uint16_t csum_flag(const struct rte_mbuf *m)
{
	return (m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD ? HAL_F_CSUM_OK : 0;
}

/* A packet as frames; 0: it has more than there is room for. */
static uint32_t frames_of(struct rte_mbuf *m, struct hal_frame *f, uint32_t room)
{
	uint16_t flags = csum_flag(m);
	uint32_t n = 0;

	if (m->nb_segs > room)
		return 0;
	for (; m; m = m->next, n++) {
		f[n].data = rte_pktmbuf_mtod(m, uint8_t *);
		f[n].len = m->data_len;
		f[n].room = 0;
		f[n].flags = flags | (m->next ? HAL_F_MORE : 0);
		f[n].handle = (uintptr_t)m;
		flags = 0;
	}
	return n;
}

static uint32_t rx_take(struct dpdk_port *p, struct dpdk_queue *q, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	/* as many packets as fit if each has one segment; the driver keeps the rest */
	struct rte_mbuf *m[RX_MAX];
	uint16_t got = rte_eth_rx_burst(p->id, (uint16_t)qi, m, (uint16_t)(n < RX_MAX ? n : RX_MAX));
	uint32_t out = 0, k;

	for (uint16_t i = 0; i < got; i++) {
		k = frames_of(m[i], f + out, n - out);
		if (!k) {
			q->st.rx_dropped++;
			rte_pktmbuf_free(m[i]);
			continue;
		}
		q->st.rx_packets++;
		q->st.rx_bytes += m[i]->pkt_len;
		out += k;
	}
	q->st.rx_frames += out;
	return out;
}

uint32_t dpdk_rx_burst(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	struct dpdk_queue *q = &p->queue[qi];
	uint32_t out;

	if (__builtin_expect(q->npending, 0))
		dpdk_tx_flush(hp, qi);
	out = rx_take(p, q, qi, f, n);
	if (!out && q->wake == DPDK_WAKE_INTR && !q->intr_on) {
		intr(p, q, qi, true);
		out = rx_take(p, q, qi, f, n);
	}
	if (!out) {
		idle(p, q);
		return 0;
	}
	intr(p, q, qi, false);
	q->idle_ns = q->nidle = 0;
	return out;
}

void dpdk_rx_release(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (f[i].handle)
			rte_pktmbuf_free_seg((struct rte_mbuf *)(uintptr_t)f[i].handle);
}

/* --- transmit ------------------------------------------------------------------------------ */

uint32_t dpdk_tx_alloc(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(p->pool);

		if (!m) {
			p->queue[qi].st.tx_no_frame += n - i;
			break;
		}
		f[i].data = rte_pktmbuf_mtod(m, uint8_t *);
		f[i].len = 0;
		f[i].room = rte_pktmbuf_tailroom(m);
		f[i].flags = 0;
		f[i].csum_start = f[i].csum_offset = 0;
		f[i].handle = (uintptr_t)m;
	}
	return i;
}

void dpdk_tx_free(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	dpdk_rx_release(hp, qi, f, n);
}

/* Frames of the packet at f, and whether the device would take it. 0: not whole. */
static uint32_t packet_frames(const struct dpdk_port *p, const struct hal_frame *f, uint32_t n, bool *good)
{
	*good = true;
	for (uint32_t i = 0; i < n; i++) {
		if (!f[i].len || f[i].len > p->hal.max_frame || !f[i].handle)
			*good = false;
		if (!(f[i].flags & HAL_F_MORE)) {
			if (i && !(p->hal.caps & HAL_CAP_MULTIBUF))
				*good = false;
			return i + 1;
		}
	}
	return 0;
}

/* Have the device finish the checksum: DPDK wants to know what the headers are. */
static void csum_ask(struct rte_mbuf *m, const struct hal_frame *f)
{
	bool v6 = f->data[12] == 0x86;

	m->l2_len = RTE_ETHER_HDR_LEN;
	m->l3_len = f->csum_start - RTE_ETHER_HDR_LEN;
	m->ol_flags |= (v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4) |
		       (f->csum_offset == 16 ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM);
}

static struct rte_mbuf *packet_chain(const struct hal_frame *f, uint32_t n)
{
	struct rte_mbuf *first = (struct rte_mbuf *)(uintptr_t)f[0].handle, *m, *last = NULL;

	first->pkt_len = 0;
	for (uint32_t i = 0; i < n; i++) {
		m = (struct rte_mbuf *)(uintptr_t)f[i].handle;
		m->data_off = (uint16_t)(f[i].data - (uint8_t *)m->buf_addr);
		m->data_len = (uint16_t)f[i].len;
		first->pkt_len += f[i].len;
		if (last)
			last->next = m;
		last = m;
	}
	last->next = NULL;
	first->nb_segs = (uint16_t)n;
	if (f[0].flags & HAL_F_CSUM_WANTED)
		csum_ask(first, &f[0]);
	return first;
}

uint32_t dpdk_tx_burst(struct hal_port *hp, uint32_t qi, struct hal_frame *f, uint32_t n)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	struct dpdk_queue *q = &p->queue[qi];
	uint32_t done = 0, k;
	bool good;

	while (done < n && (k = packet_frames(p, f + done, n - done, &good))) {
		if (!good) { /* can never be sent: taken and counted, or the caller would loop */
			q->st.tx_errors++;
			dpdk_tx_free(hp, qi, f + done, k);
			done += k;
			continue;
		}
		if (q->npending == DPDK_TX_PENDING)
			dpdk_tx_flush(hp, qi);
		if (q->npending == DPDK_TX_PENDING) {
			q->st.tx_ring_full++;
			break;
		}
		q->pending[q->npending++] = packet_chain(f + done, k);
		done += k;
	}
	return done;
}

void dpdk_tx_flush(struct hal_port *hp, uint32_t qi)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	struct dpdk_queue *q = &p->queue[qi];
	uint64_t bytes = 0, frames = 0;
	uint32_t n = q->npending, sent = 0, i;
	uint16_t ready;

	if (!n)
		return;
	for (i = 0; i < n; i++) {
		bytes += q->pending[i]->pkt_len;
		frames += q->pending[i]->nb_segs;
	}
	ready = p->tx_offloads ? rte_eth_tx_prepare(p->id, (uint16_t)qi, q->pending, (uint16_t)n) : (uint16_t)n;
	sent = rte_eth_tx_burst(p->id, (uint16_t)qi, q->pending, ready);
	if (sent == ready && ready < n) { /* the next one is refused for good */
		rte_pktmbuf_free(q->pending[sent++]);
		q->st.tx_errors++;
	}
	for (i = sent; i < n; i++) {
		bytes -= q->pending[i]->pkt_len;
		frames -= q->pending[i]->nb_segs;
	}
	memmove(q->pending, q->pending + sent, (n - sent) * sizeof(q->pending[0]));
	q->npending = n - sent;
	q->st.tx_kicks++;
	q->st.tx_packets += sent;
	q->st.tx_bytes += bytes;
	q->st.tx_frames += frames;
}

/* --- sleeping ------------------------------------------------------------------------------ */

int dpdk_arm(struct hal_port *hp, uint32_t qi)
{
	return queue_of(hp, qi)->epfd;
}

int dpdk_next_due(struct hal_port *hp, uint32_t qi, uint64_t *ns)
{
	struct dpdk_queue *q = queue_of(hp, qi);

	*ns = UINT64_MAX;
	if (q->npending)
		*ns = dpdk_now() + RETRY_NS;
	else if (q->wake == DPDK_WAKE_TIMER)
		*ns = dpdk_now() + q->idle_ns;
	return 0;
}
