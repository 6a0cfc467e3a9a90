/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_super.c - super-frames: one TCP segment of up to 64 KB that the device cuts (TSO)
 *
 * What is sent lies in a socket's FIFO, which is not memory that a device may read: it is copied into
 * packet buffers, chained. A device says how many of a chain it takes; a segment of more is refused, and
 * the stack cuts it itself, as it does trains of datagrams, always.
 *
 * net_tap (22.11) takes a frame's Ethernet header for part of the MTU, and never again sends anything
 * once it was asked for frames of the full size: it isn't.
 */
#include <hal_dpdk/dpdk_internal.h>

#include <errno.h>
#include <rte_ethdev.h>
#include <rte_net.h>
#include <string.h>

/* All of iov into a chain of buffers; NULL: no buffers. */
static struct rte_mbuf *chain_fill(struct rte_mempool *pool, const struct iovec *iov, int n)
{
	struct rte_mbuf *first = rte_pktmbuf_alloc(pool), *m = first;

	for (int i = 0; i < n && first; i++) {
		const uint8_t *p = iov[i].iov_base;
		size_t left = iov[i].iov_len, part;

		for (; left; p += part, left -= part) {
			if (!rte_pktmbuf_tailroom(m)) {
				m->next = rte_pktmbuf_alloc(pool);
				m = m->next;
				if (!m) {
					rte_pktmbuf_free(first);
					return NULL;
				}
				first->nb_segs++;
			}
			part = left < rte_pktmbuf_tailroom(m) ? left : rte_pktmbuf_tailroom(m);
			memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, m->data_len), p, part);
			m->data_len += (uint16_t)part;
			first->pkt_len += (uint32_t)part;
		}
	}
	return first;
}

static void segment_ask(struct rte_mbuf *m, const struct hal_super *s)
{
	bool v6 = rte_pktmbuf_mtod(m, const uint8_t *)[12] == 0x86;

	m->l2_len = RTE_ETHER_HDR_LEN;
	m->l3_len = s->csum_start - RTE_ETHER_HDR_LEN;
	m->l4_len = s->hdr_len - s->csum_start;
	m->ol_flags |= v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
	if (s->gso == HAL_GSO_NONE)
		return;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	m->tso_segsz = s->gso_size;
}

int dpdk_tx_super(struct hal_port *hp, uint32_t qi, const struct hal_super *s)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	struct dpdk_queue *q = &p->queue[qi];
	struct rte_mbuf *m;
	size_t len = 0;

	for (int i = 0; i < s->iovcnt; i++)
		len += s->iov[i].iov_len;
	if (!(hp->caps & HAL_CAP_SUPERFRAME) || s->gso == HAL_GSO_UDP || len > (size_t)p->super_segs * hp->max_frame ||
	    (s->gso && s->gso_size + s->hdr_len > p->super_frame))
		return -EOPNOTSUPP;
	dpdk_tx_flush(hp, qi);
	if (q->npending)
		return -EAGAIN; /* or it would overtake */
	m = chain_fill(p->pool, s->iov, s->iovcnt);
	if (!m) {
		q->st.tx_no_frame++;
		return -EAGAIN;
	}
	segment_ask(m, s);
	if (rte_net_intel_cksum_prepare(m)) { /* the fields as DPDK wants them with these requests */
		rte_pktmbuf_free(m);
		q->st.tx_errors++;
		return -EINVAL;
	}
	q->pending[q->npending++] = m;
	q->st.tx_super_packets++;
	q->st.tx_super_bytes += len;
	dpdk_tx_flush(hp, qi);
	return 0;
}
