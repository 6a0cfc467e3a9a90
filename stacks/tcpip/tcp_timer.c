/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_timer.c - what happens when nothing happens
 *
 * A connection has one timer on the wheel and a due time for each purpose. Moving a due time later
 * or switching it off only writes the field; the wheel's timer may then fire early, finds nothing
 * due, and is armed for what is left.
 *
 * Threads: under the worker's lock. Not here: the wheel.
 */
#include "tcp_internal.h"

#include <stddef.h>

#define NEIGH_LOOK_NS (100 * NS_PER_MS)
#define KEEPIDLE_S 7200u
#define KEEPINTVL_S 75u
#define KEEPCNT 9u

void tcp_timer_set(struct tcpip *t, struct tcp_conn *c, enum tcp_timer which, uint64_t at)
{
	c->due[which] = at;
	if (!wheel_armed(&c->timer) || at < c->timer.at)
		wheel_add(&t->wheel, &c->timer, at);
}

void tcp_timers_stop(struct tcpip *t, struct tcp_conn *c)
{
	memset(c->due, 0, sizeof(c->due));
	wheel_del(&t->wheel, &c->timer);
}

uint64_t tcp_rto_now(const struct tcp_conn *c)
{
	uint64_t rto = c->rto << (c->backoff > 10 ? 10 : c->backoff);

	return rto > TCP_RTO_MAX ? TCP_RTO_MAX : rto;
}

static uint64_t keep_idle(const struct tcp_conn *c)
{
	return (c->o.keepidle_s ? c->o.keepidle_s : KEEPIDLE_S) * NS_PER_S;
}

static uint64_t keep_intvl(const struct tcp_conn *c)
{
	return (c->o.keepintvl_s ? c->o.keepintvl_s : KEEPINTVL_S) * NS_PER_S;
}

void tcp_keep_arm(struct tcpip *t, struct tcp_conn *c)
{
	bool live = c->state == TCP_S_ESTABLISHED || c->state == TCP_S_CLOSE_WAIT ||
		    c->state == TCP_S_FIN_WAIT2 || c->state == TCP_S_FIN_WAIT1;

	c->keep_probes = 0;
	if (!c->o.keepalive || !live) {
		tcp_timer_off(c, TCP_T_KEEP);
		return;
	}
	tcp_timer_set(t, c, TCP_T_KEEP, c->last_rcv + keep_idle(c));
}

/* When to repeat, but not past the user's time-out, which runs from since. */
static uint64_t repeat_at(const struct tcpip *t, const struct tcp_conn *c, uint64_t since)
{
	uint64_t at = t->now + tcp_rto_now(c);
	uint64_t end = since + (uint64_t)c->o.user_timeout_ms * NS_PER_MS;

	return c->o.user_timeout_ms && at > end && end > t->now ? end : at;
}

/* True: the connection was given up. */
static bool give_up_after(struct tcpip *t, struct tcp_conn *c, uint32_t tries)
{
	uint64_t user = (uint64_t)c->o.user_timeout_ms * NS_PER_MS;
	uint32_t max = c->flags & TCP_F_CLOSED ? TCP_ORPHAN_RETRIES : TCP_RETRIES;
	int err = c->err_soft ? c->err_soft : ETIMEDOUT;

	if (user && c->stall_since && t->now - c->stall_since >= user)
		COUNT(t, tcp_user_timeouts);
	else if (!user && tries > max)
		COUNT(t, tcp_rexmit_give_up);
	else
		return false;
	tcp_conn_abort(t, c, err);
	return true;
}

static void fire_syn(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t max = c->o.syncnt ? c->o.syncnt : TCP_SYN_RETRIES;
	uint64_t user = (uint64_t)c->o.user_timeout_ms * NS_PER_MS;

	if (++c->syn_retries > max || (user && t->now - c->created >= user)) {
		COUNT(t, tcp_syn_timeouts);
		tcp_conn_end(t, c, c->err_soft ? c->err_soft : ETIMEDOUT);
		return;
	}
	if (c->dst->neigh_failed >= c->created) {
		tcp_conn_end(t, c, EHOSTUNREACH);
		return;
	}
	c->backoff++;
	c->retrans++;
	c->rtt_start = 0;
	COUNT(t, tcp_rexmit);
	tcp_send_syn(t, c);
	tcp_timer_set(t, c, TCP_T_REXMIT, repeat_at(t, c, c->created));
	tcp_syn_watch(t, c);
}

void tcp_syn_watch(struct tcpip *t, struct tcp_conn *c)
{
	if (!c->dst->mac_ok)
		tcp_timer_set(t, c, TCP_T_SEND, t->now + NEIGH_LOOK_NS);
}

/* If the neighbour does not answer, nor will the peer: as Linux, don't wait for minutes. */
static void fire_neigh(struct tcpip *t, struct tcp_conn *c)
{
	if (c->dst->neigh_failed >= c->created)
		tcp_conn_end(t, c, EHOSTUNREACH);
	else
		tcp_syn_watch(t, c);
}

static void fire_tlp(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t left = c->nxt - c->una, len = min_u32(left, c->mss);
	uint32_t unsent = tcp_unsent(c);

	c->flags |= TCP_F_TLP_DONE;
	COUNT(t, tcp_tlp);
	if (unsent && seq_gt(c->una + c->wnd, c->nxt))
		tcp_output_force(t, c); /* new data serves as well */
	else if (len)
		tcp_send_again(t, c, c->nxt - len, len);
	tcp_rexmit_arm(t, c);
}

static void fire_rto(struct tcpip *t, struct tcp_conn *c)
{
	if (!c->stall_since)
		c->stall_since = c->rexmit_from; /* when it was sent first */
	if (give_up_after(t, c, c->backoff + 1u))
		return;
	COUNT(t, tcp_rto);
	tcp_ack_enter_loss(t, c);
	if (c->backoff < 200)
		c->backoff++;
	tcp_output(t, c);
	if (c->state != TCP_S_CLOSE)
		tcp_timer_set(t, c, TCP_T_REXMIT, repeat_at(t, c, c->stall_since));
}

static void fire_persist(struct tcpip *t, struct tcp_conn *c)
{
	if (!tcp_unsent(c) && !(c->flags & TCP_F_FIN_WANTED))
		return;
	if (!c->stall_since)
		c->stall_since = t->now;
	/* a peer that answers probes may keep its window shut for ever, unless nobody reads here
	 * any more */
	if (give_up_after(t, c, c->flags & TCP_F_CLOSED ? c->backoff : c->probes))
		return;
	if (c->probes < 200)
		c->probes++;
	if (c->backoff < 200)
		c->backoff++;
	COUNT(t, tcp_zero_window_probes);
	if (seq_gt(c->una + c->wnd, c->nxt)) {
		tcp_output_force(t, c);
		if (c->nxt != c->una)
			return; /* now it is a matter of retransmission */
	} else {
		tcp_send_probe(t, c);
	}
	c->rexmit_mode = TCP_RM_PERSIST;
	tcp_timer_set(t, c, TCP_T_REXMIT, t->now + tcp_rto_now(c));
}

static void fire_rexmit(struct tcpip *t, struct tcp_conn *c)
{
	if (c->state == TCP_S_SYN_SENT || c->state == TCP_S_SYN_RECV)
		fire_syn(t, c);
	else if (c->rexmit_mode == TCP_RM_PERSIST)
		fire_persist(t, c);
	else if (c->una == c->nxt)
		return;
	else if (c->rexmit_mode == TCP_RM_TLP)
		fire_tlp(t, c);
	else
		fire_rto(t, c);
}

static void fire_keep(struct tcpip *t, struct tcp_conn *c)
{
	uint32_t cnt = c->o.keepcnt ? c->o.keepcnt : KEEPCNT;
	uint64_t user = (uint64_t)c->o.user_timeout_ms * NS_PER_MS;
	uint64_t idle = c->last_rcv + keep_idle(c);

	if (t->now < idle) { /* heard since */
		c->keep_probes = 0;
		tcp_timer_set(t, c, TCP_T_KEEP, idle);
		return;
	}
	if (c->una != c->nxt || tcp_unsent(c)) { /* retransmission finds out */
		tcp_timer_set(t, c, TCP_T_KEEP, t->now + keep_idle(c));
		return;
	}
	if ((!user && c->keep_probes >= cnt) ||
	    (user && c->keep_probes && t->now - c->last_rcv >= user)) {
		COUNT(t, tcp_keepalive_drops);
		tcp_conn_abort(t, c, c->err_soft ? c->err_soft : ETIMEDOUT);
		return;
	}
	c->keep_probes++;
	COUNT(t, tcp_keepalive_out);
	tcp_send_probe(t, c);
	tcp_timer_set(t, c, TCP_T_KEEP, t->now + keep_intvl(c));
}

static void fire_delack(struct tcpip *t, struct tcp_conn *c)
{
	COUNT(t, tcp_delayed_acks);
	c->flags &= ~TCP_F_PINGPONG; /* the program does not answer at once after all */
	tcp_do(t, c, TCP_DO_ACK);
}

static void fire_one(struct tcpip *t, struct tcp_conn *c, enum tcp_timer which)
{
	switch (which) {
	case TCP_T_REXMIT:
		fire_rexmit(t, c);
		break;
	case TCP_T_DELACK:
		fire_delack(t, c);
		break;
	case TCP_T_KEEP:
		fire_keep(t, c);
		break;
	case TCP_T_REO:
		if (tcp_sack_mark(t, c))
			tcp_do(t, c, TCP_DO_OUTPUT);
		tcp_ack_reo_timer(t, c);
		break;
	case TCP_T_SEND:
		if (c->state == TCP_S_SYN_SENT) {
			fire_neigh(t, c);
			break;
		}
		c->flags |= TCP_F_CORK_EXPIRED;
		tcp_do(t, c, TCP_DO_OUTPUT);
		break;
	default:
		break;
	}
}

static void timer_fired(void *arg, struct wheel_timer *w)
{
	struct tcp_conn *c = (struct tcp_conn *)((char *)w - offsetof(struct tcp_conn, timer));
	struct tcpip *t = arg;
	uint64_t next = UINT64_MAX;

	for (int i = 0; i < TCP_T_NR_; i++) {
		if (!c->due[i] || c->due[i] > t->now)
			continue;
		c->due[i] = 0;
		fire_one(t, c, (enum tcp_timer)i);
		if (c->state == TCP_S_CLOSE)
			return;
	}
	for (int i = 0; i < TCP_T_NR_; i++)
		if (c->due[i] && c->due[i] < next)
			next = c->due[i];
	if (next != UINT64_MAX && (!wheel_armed(w) || next < w->at))
		wheel_add(&t->wheel, w, next);
}

void tcp_timer_init(struct tcp_conn *c)
{
	c->timer.fn = timer_fired;
}
