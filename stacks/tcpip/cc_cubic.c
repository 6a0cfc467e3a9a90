/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/cc_cubic.c - CUBIC (RFC 9438)
 *
 * Windows are in bytes; the cubic function is computed in segments and milliseconds with integers:
 * W(t) = C * (t - K)^3 + Wmax, C = 0.4 segments/s^3. It is evaluated at most once a millisecond; in
 * between cwnd moves towards the target by a fixed share for each byte acknowledged.
 *
 * Not here: HyStart.
 */
#include "tcp_internal.h"

struct cubic {
	uint64_t epoch;     /* ns, start of this congestion avoidance; 0 = not begun */
	uint64_t evaluated; /* ns */
	uint32_t wmax;      /* bytes, window at the last loss, with fast convergence */
	uint32_t k_ms;      /* time to get back to wmax */
	uint32_t target;    /* bytes */
	uint32_t west;      /* bytes, what Reno would have */
	uint64_t credit;    /* bytes acknowledged, not yet turned into cwnd */
	uint64_t west_credit;
	uint32_t last_wmax;
	uint32_t origin;
};
_Static_assert(sizeof(struct cubic) <= sizeof(((struct tcp_conn *)0)->cc_priv), "room");

static struct cubic *cubic_of(struct tcp_conn *c)
{
	return (struct cubic *)c->cc_priv;
}

static uint32_t cube_root(uint64_t a)
{
	uint64_t x = 0;

	for (int s = 63; s >= 0; s -= 3) {
		uint64_t b;

		x <<= 1;
		b = 3 * x * (x + 1) + 1;
		if (a >> s >= b) {
			a -= b << s;
			x++;
		}
	}
	return (uint32_t)x;
}

static void cubic_init(struct tcp_conn *c)
{
	memset(c->cc_priv, 0, sizeof(c->cc_priv));
}

static void cubic_epoch(struct cubic *q, struct tcp_conn *c, uint64_t now)
{
	q->epoch = now;
	q->credit = q->west_credit = 0;
	q->west = c->cwnd;
	q->evaluated = 0;
	if (c->cwnd < q->wmax) {
		/* K = cbrt((Wmax - cwnd) / C) seconds; in ms: cbrt(segments * 2.5 * 10^9) */
		uint64_t segs = (q->wmax - c->cwnd) / c->mss;

		q->k_ms = cube_root(segs * 2500000000ull);
		q->origin = q->wmax;
	} else {
		q->k_ms = 0;
		q->origin = c->cwnd;
	}
}

/* The window that the cubic function wants one round trip from now. */
static uint32_t cubic_target(struct cubic *q, struct tcp_conn *c, uint64_t now)
{
	int64_t t_ms = (int64_t)((now - q->epoch + c->srtt) / NS_PER_MS), d = t_ms - q->k_ms;
	int64_t delta, target;

	if (d > 1000000)
		d = 1000000;
	/* 0.4 * d^3 / 10^9 segments */
	delta = d * d / 1000 * d / 2500 * c->mss / 1000;
	target = (int64_t)q->origin + delta;
	if (target < c->cwnd)
		target = c->cwnd;
	if (target > (int64_t)c->cwnd + c->cwnd / 2)
		target = (int64_t)c->cwnd + c->cwnd / 2;
	return (uint32_t)target;
}

static void cubic_acked(struct tcp_conn *c, uint32_t acked, uint64_t now)
{
	struct cubic *q = cubic_of(c);
	uint64_t grow;

	if (c->cwnd < c->ssthresh)
		acked = tcp_cc_slow_start(c, acked);
	if (!acked || c->cwnd > 1u << 30)
		return;
	if (!q->epoch)
		cubic_epoch(q, c, now);
	if (now - q->evaluated >= NS_PER_MS) {
		q->target = cubic_target(q, c, now);
		q->evaluated = now;
	}
	/* what Reno with beta 0.7 would have: alpha = 3 * 0.3 / 1.7 = 9/17 segments a window */
	q->west_credit += (uint64_t)acked * 9 / 17;
	if (q->west_credit >= q->west) {
		q->west_credit -= q->west;
		q->west += c->mss;
	}
	if (q->west > c->cwnd) {
		c->cwnd = q->west;
		return;
	}
	if (q->target <= c->cwnd)
		return;
	q->credit += (uint64_t)acked * (q->target - c->cwnd);
	grow = q->credit / c->cwnd;
	if (grow >= c->mss / 4u) {
		q->credit -= grow * c->cwnd;
		c->cwnd += (uint32_t)grow;
	}
}

static uint32_t cubic_ssthresh(struct tcp_conn *c, uint64_t now)
{
	struct cubic *q = cubic_of(c);

	q->last_wmax = q->wmax;
	/* fast convergence: a flow that is losing ground leaves room for new ones */
	if (c->cwnd < q->wmax)
		q->wmax = (uint32_t)((uint64_t)c->cwnd * 17 / 20);
	else
		q->wmax = c->cwnd;
	q->epoch = 0;
	return max_u32((uint32_t)((uint64_t)c->cwnd * 7 / 10), 2u * c->mss);
}

static void cubic_idle(struct tcp_conn *c, uint64_t now)
{
	cubic_of(c)->epoch = 0;
	if (c->cwnd > TCP_IW * c->mss) {
		c->ssthresh = max_u32(c->ssthresh, c->cwnd / 4 * 3);
		c->cwnd = TCP_IW * c->mss;
	}
}

static void cubic_undo(struct tcp_conn *c)
{
	struct cubic *q = cubic_of(c);

	q->wmax = q->last_wmax;
	q->epoch = 0;
}

const struct tcp_cc tcp_cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.acked = cubic_acked,
	.ssthresh = cubic_ssthresh,
	.idle = cubic_idle,
	.undo = cubic_undo,
};
