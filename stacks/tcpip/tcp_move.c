/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_move.c - handing a connection over to another TCP
 *
 * image() says where a connection stands, in the terms in which the kernel takes one over
 * (nsocket/handover.c); moved() forgets it. Between the two, both under the worker's lock, nothing is
 * sent or received for it. Data that came out of order is not handed over: the peer has no
 * acknowledgement of it that it could not take back (RFC 2018 8) and sends it again.
 *
 * Threads: under the worker's lock.
 */
#include "tcp_internal.h"

/* Our FIN's sequence number is behind the last byte of the FIFO; sent, and perhaps acknowledged, it
 * is sent again by the one that takes over, and the peer then repeats its acknowledgement. */
static void image_send(const struct tcp_conn *c, struct stack_tcp_image *i)
{
	bool fin_acked = c->flags & TCP_F_FIN_SENT && seq_gt(c->una, c->fin_seq);

	i->una = fin_acked ? c->fin_seq : c->una;
	i->nxt = i->una + (fin_acked ? 0 : tcp_inflight_data(c));
	i->snd_wnd = c->wnd;
	i->max_wnd = max_u32(c->max_wnd, c->wnd);
	i->snd_wl1 = c->wl1;
	i->peer_mss = c->peer_mss;
	i->snd_wscale = c->snd_wscale;
	i->fin_wanted = c->flags & TCP_F_FIN_WANTED;
	i->fin_first = c->state == TCP_S_LAST_ACK;
	i->urgent = c->flags & TCP_F_URG_OUT && seq_gt(c->urg_out, i->una);
	i->urg_out = c->urg_out;
}

static void image_receive(const struct tcp_conn *c, struct stack_tcp_image *i)
{
	i->fin_rcvd = c->flags & TCP_F_FIN_RCVD;
	i->rcv_nxt = c->rcv_nxt - i->fin_rcvd;
	i->rcv_adv = seq_max(c->rcv_adv, i->rcv_nxt);
	i->rcv_wscale = c->rcv_wscale;
	i->ts_recent = c->ts_recent;
}

int tcp_image(struct tcpip *t, struct shm_session *s, struct stack_tcp_image *out)
{
	struct tcp_conn *c = tcp_of(t, s);

	memset(out, 0, sizeof(*out));
	if (!c)
		return -ENOTCONN;
	out->local = c->n.local;
	out->remote = c->n.remote;
	switch (c->state) {
	case TCP_S_SYN_SENT:
	case TCP_S_SYN_RECV:
		return -EAGAIN;
	case TCP_S_CLOSE:
	case TCP_S_LISTEN:
		return -ENOTCONN;
	default:
		break;
	}
	out->closed = c->flags & TCP_F_CLOSED;
	out->wscale = c->flags & TCP_F_WSCALE;
	out->sack = c->flags & TCP_F_SACK;
	out->ts = c->flags & TCP_F_TS;
	out->ts_val = tcp_ts_now(t) + c->ts_off;
	tcp_urgent_look(c);
	image_send(c, out);
	image_receive(c, out);
	return 0;
}

void tcp_moved(struct tcpip *t, struct shm_session *s)
{
	struct tcp_conn *c = tcp_of(t, s);

	if (c)
		tcp_tw_enter(t, c, TCP_TW_MOVED);
}
