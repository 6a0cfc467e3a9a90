/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_info.c - looking at TCP: TCP_INFO, the list of sockets, the flows to be pinned
 *
 * Threads: under the worker's lock. Walks over tables here are for people and for rare changes of
 * rules, never for packets.
 */
#include "tcp_internal.h"

#include <linux/tcp.h>

static uint32_t us(uint64_t ns)
{
	return (uint32_t)(ns / NS_PER_US);
}

static uint32_t ms_since(const struct tcpip *t, uint64_t then)
{
	return then ? (uint32_t)((t->now - then) / NS_PER_MS) : 0;
}

static void info_send(struct tcpip *t, struct tcp_conn *c, struct tcp_info *i)
{
	uint32_t mss = c->mss ? c->mss : 1, lost = 0, sacked = c->fack - c->una;

	for (uint32_t k = 0; k < c->nholes; k++) {
		sacked -= c->holes[k].end - c->holes[k].start;
		if (c->holes[k].lost)
			lost += c->holes[k].end - c->holes[k].start;
	}
	if (c->state == TCP_S_SYN_SENT || c->state == TCP_S_SYN_RECV || !c->nholes)
		sacked = 0;
	i->tcpi_unacked = (c->nxt - c->una + mss - 1) / mss;
	i->tcpi_sacked = sacked / mss;
	i->tcpi_lost = (lost + mss - 1) / mss;
	i->tcpi_snd_cwnd = c->cwnd / mss;
	i->tcpi_snd_ssthresh = c->ssthresh == UINT32_MAX ? 0x7fffffff : c->ssthresh / mss;
	i->tcpi_snd_mss = mss;
	i->tcpi_snd_wnd = c->wnd;
	i->tcpi_retransmits = c->backoff;
	i->tcpi_probes = c->probes + c->keep_probes;
	i->tcpi_backoff = c->backoff;
	i->tcpi_total_retrans = c->retrans;
	i->tcpi_reordering = c->reordering;
	i->tcpi_reord_seen = c->reord_seen;
	i->tcpi_dsack_dups = c->dsack_dups;
	i->tcpi_notsent_bytes = tcp_unsent(c);
	i->tcpi_bytes_sent = c->bytes_sent;
	i->tcpi_bytes_acked = c->bytes_acked;
	i->tcpi_bytes_retrans = c->bytes_retrans;
	i->tcpi_segs_out = c->segs_out;
	i->tcpi_data_segs_out = c->data_segs_out;
	i->tcpi_last_data_sent = ms_since(t, c->last_send);
	i->tcpi_ca_state = c->ca == TCP_CA_OPEN ? 0 : c->ca == TCP_CA_RECOVERY ? 3 : 4;
}

/* As Linux has it: without the room for the options that every segment carries. */
static uint32_t advmss(const struct tcp_conn *c)
{
	uint32_t hdr = c->dst ? c->dst->l3_len + TCP_HDR + (c->flags & TCP_F_TS ? TCP_TSOPT : 0) : 0;

	return c->dst && c->dst->mtu > hdr ? c->dst->mtu - hdr : 0;
}

int tcp_get_info(struct tcpip *t, struct shm_session *s, struct tcp_info *i)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c)
		return -EINVAL;
	memset(i, 0, sizeof(*i));
	i->tcpi_state = c->state;
	if (c->state == TCP_S_LISTEN) {
		i->tcpi_unacked = fifo_used(&c->rx) / (uint32_t)sizeof(uint32_t);
		i->tcpi_sacked = s->backlog;
		return 0;
	}
	i->tcpi_options = (c->flags & TCP_F_TS ? TCPI_OPT_TIMESTAMPS : 0) |
			  (c->flags & TCP_F_SACK ? TCPI_OPT_SACK : 0) |
			  (c->flags & TCP_F_WSCALE ? TCPI_OPT_WSCALE : 0);
	i->tcpi_snd_wscale = c->snd_wscale & 15;
	i->tcpi_rcv_wscale = c->rcv_wscale & 15;
	i->tcpi_rto = us(tcp_rto_now(c));
	i->tcpi_ato = us(TCP_DELACK_MAX);
	i->tcpi_rtt = us(c->srtt);
	i->tcpi_rttvar = us(c->rttvar);
	i->tcpi_min_rtt = us(c->min_rtt);
	i->tcpi_rcv_rtt = us(c->srtt);
	info_send(t, c, i);
	i->tcpi_rcv_mss = c->rcv_mss;
	i->tcpi_advmss = advmss(c);
	i->tcpi_pmtu = c->dst ? c->dst->mtu : 0;
	i->tcpi_rcv_ssthresh = s->rx_limit;
	i->tcpi_rcv_space = s->rx_limit;
	i->tcpi_bytes_received = c->bytes_received;
	i->tcpi_segs_in = c->segs_in;
	i->tcpi_data_segs_in = c->data_segs_in;
	i->tcpi_last_data_recv = ms_since(t, c->last_data_rcv);
	i->tcpi_last_ack_recv = ms_since(t, c->last_rcv);
	return 0;
}

static void sock_info(struct tcp_conn *c, struct stack_sock_info *o)
{
	memset(o, 0, sizeof(*o));
	o->session = c->sid;
	o->proto = IPPROTO_TCP;
	o->tcp_state = c->state;
	o->local = c->n.local;
	o->remote = c->n.remote;
	if (c->state == TCP_S_LISTEN) {
		o->recv_q = fifo_used(&c->rx) / (uint32_t)sizeof(uint32_t);
		o->send_q = c->s->backlog;
		return;
	}
	o->recv_q = fifo_used(&c->rx);
	o->send_q = fifo_used(&c->tx);
	o->rtt_us = us(c->srtt);
	o->cwnd = c->mss ? c->cwnd / c->mss : 0;
	o->bytes_in = c->bytes_received;
	o->bytes_out = c->bytes_sent;
	o->retrans = c->retrans;
	o->packets_in = c->segs_in;
	o->packets_out = c->segs_out;
}

int tcp_sock_info(struct tcpip *t, const struct shm_session *s, struct stack_sock_info *out)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (!c)
		return -ENOENT;
	sock_info(c, out);
	return 0;
}

uint32_t tcp_sockets(struct tcpip *t, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint32_t got = 0;
	uint32_t id = *cursor < UINT32_MAX ? (uint32_t)*cursor : UINT32_MAX;

	while (got < n && id != UINT32_MAX && (id = shm_session_next(t->region, id)) != UINT32_MAX) {
		if (t->sock[id] && t->sock_proto[id] == IPPROTO_TCP)
			sock_info(t->sock[id], &out[got++]);
		id++;
	}
	*cursor = id != UINT32_MAX ? id : UINT64_MAX;
	return got;
}

void tcp_flows(struct tcpip *t, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
					   const struct nst_addr *remote), void *arg)
{
	for (uint32_t i = 0; i <= t->tcp->hash_mask; i++)
		for (struct tcp_node *n = t->tcp->hash[i]; n; n = n->next)
			/* handshakes too: their last ACK must find us */
			if (n->kind != TCP_K_TW || ((struct tcp_tw *)n)->kind != TCP_TW_MOVED)
				fn(arg, IPPROTO_TCP, &n->local, &n->remote);
}
