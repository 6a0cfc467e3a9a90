/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/cc_cubic.c - CUBIC congestion control (RFC 9438)
 *
 * Windows are bytes, times ms since the epoch; C = 0.4 segments/s^3, beta = 0.7. The division
 * here is per acknowledgement in congestion avoidance, not per packet.
 * Runs under the worker lock, on acknowledgements only. Recovery itself is tcp_ack.c's.
 */
#include "tcp_internal.h"

enum { /* cc_priv */
	W_MAX,   /* window at the last loss, after fast convergence */
	EPOCH,   /* ns when congestion avoidance began; 0 = not begun */
	K,       /* ms from EPOCH until the curve is back at W_MAX */
	W_EST,   /* what Reno would have by now (section 4.3) */
	PRIOR,   /* cwnd at the last loss */
	OLD_MAX, /* W_MAX before the last loss, for undo */
};

#define DT_MAX_MS 131072 /* bounds the cube */

static void cubic_init(struct tcp_conn *c)
{
	memset(c->cc_priv, 0, sizeof(c->cc_priv));
}

static uint64_t cube_root(uint64_t v)
{
	uint64_t r = 0;

	for (int bit = 20; bit >= 0; bit--) {
		uint64_t t = r | 1ull << bit;

		if (t * t * t <= v)
			r = t;
	}
	return r;
}

static void cubic_begin(struct tcp_conn *c, uint64_t now)
{
	uint64_t *p = c->cc_priv;
	uint64_t gap = p[W_MAX] > c->cwnd ? p[W_MAX] - c->cwnd : 0;

	if (!gap)
		p[W_MAX] = c->cwnd;
	/* K^3 = segments / C; in ms: segments * 2.5e9 */
	p[K] = cube_root(min_u32((uint32_t)(gap / c->mss), 1u << 30) * 2500000000ull);
	p[EPOCH] = now ? now : 1;
	p[W_EST] = c->cwnd;
}

/* The curve at t_ms after the epoch (section 4.2). */
static uint64_t cubic_curve(const struct tcp_conn *c, uint64_t t_ms)
{
	const uint64_t *p = c->cc_priv;
	int64_t dt = (int64_t)t_ms - (int64_t)p[K], delta;

	if (dt > DT_MAX_MS)
		dt = DT_MAX_MS;
	if (dt < -DT_MAX_MS)
		dt = -DT_MAX_MS;
	/* 0.4 * (dt / 1000)^3 segments, in an order that fits 64 bits */
	delta = dt * dt * dt / 1000000 * 4 * c->mss / 10000;
	if (delta < 0 && (uint64_t)-delta > p[W_MAX])
		return 0;
	return p[W_MAX] + (uint64_t)delta;
}

static void cubic_acked(struct tcp_conn *c, uint32_t acked, uint64_t now)
{
	uint64_t *p = c->cc_priv, target, t_ms;

	acked = tcp_cc_slow_start(c, acked);
	if (!acked)
		return;
	if (!p[EPOCH])
		cubic_begin(c, now);
	t_ms = (now - p[EPOCH] + c->srtt) / NS_PER_MS;
	target = cubic_curve(c, t_ms);

	/* alpha = 3 (1 - beta) / (1 + beta) = 9/17 until the old window is reached, then 1 */
	p[W_EST] += p[W_EST] < p[PRIOR] ? (uint64_t)acked * c->mss * 9 / 17 / c->cwnd :
					  (uint64_t)acked * c->mss / c->cwnd;
	if (target < p[W_EST]) {
		c->cwnd = max_u32(c->cwnd, (uint32_t)min_u32((uint32_t)p[W_EST], 1u << 30));
		return;
	}
	if (target > c->cwnd + c->cwnd / 2)
		target = c->cwnd + c->cwnd / 2;
	if (target > c->cwnd)
		c->cwnd += (uint32_t)((target - c->cwnd) * acked / c->cwnd);
}

static uint32_t cubic_ssthresh(struct tcp_conn *c, uint64_t now)
{
	uint64_t *p = c->cc_priv;

	p[OLD_MAX] = p[W_MAX];
	p[PRIOR] = c->cwnd;
	/* fast convergence (section 4.7): a flow that lost before it was back gives way */
	p[W_MAX] = c->cwnd < p[W_MAX] ? (uint64_t)c->cwnd * 17 / 20 : c->cwnd;
	p[EPOCH] = 0;
	return max_u32((uint32_t)((uint64_t)c->cwnd * 7 / 10), 2u * c->mss);
}

/* The curve must not count the time in which nothing was sent (section 5.8). */
static void cubic_idle(struct tcp_conn *c, uint64_t now)
{
	c->cc_priv[EPOCH] = 0;
}

static void cubic_undo(struct tcp_conn *c)
{
	c->cc_priv[W_MAX] = c->cc_priv[OLD_MAX];
	c->cc_priv[EPOCH] = 0;
}

const struct tcp_cc tcp_cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.acked = cubic_acked,
	.ssthresh = cubic_ssthresh,
	.idle = cubic_idle,
	.undo = cubic_undo,
};
