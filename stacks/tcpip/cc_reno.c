/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/cc_reno.c - Reno congestion control (RFC 5681) with byte counting (RFC 3465)
 *
 * Runs under the worker lock, on acknowledgements only. Recovery itself is tcp_ack.c's.
 */
#include "tcp_internal.h"

enum { ACKED }; /* cc_priv: bytes acknowledged since cwnd last grew in congestion avoidance */

static void reno_init(struct tcp_conn *c)
{
	c->cc_priv[ACKED] = 0;
}

static void reno_acked(struct tcp_conn *c, uint32_t acked, uint64_t now)
{
	acked = tcp_cc_slow_start(c, acked);
	c->cc_priv[ACKED] += acked;
	if (acked && c->cc_priv[ACKED] >= c->cwnd) {
		c->cc_priv[ACKED] -= c->cwnd;
		c->cwnd += c->mss;
	}
}

static uint32_t reno_ssthresh(struct tcp_conn *c, uint64_t now)
{
	c->cc_priv[ACKED] = 0;
	return max_u32(c->cwnd / 2, 2u * c->mss);
}

static void reno_nothing(struct tcp_conn *c) {}
static void reno_idle(struct tcp_conn *c, uint64_t now) {}

const struct tcp_cc tcp_cc_reno = {
	.name = "reno",
	.init = reno_init,
	.acked = reno_acked,
	.ssthresh = reno_ssthresh,
	.idle = reno_idle,
	.undo = reno_nothing,
};
