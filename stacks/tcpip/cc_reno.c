/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/cc_reno.c - Reno (RFC 5681), counting bytes (RFC 3465)
 *
 * cc_priv[0]: bytes acknowledged since cwnd last grew.
 */
#include "tcp_internal.h"

static void reno_init(struct tcp_conn *c)
{
	c->cc_priv[0] = 0;
}

static void reno_acked(struct tcp_conn *c, uint32_t acked, uint64_t now)
{
	if (c->cwnd < c->ssthresh)
		acked = tcp_cc_slow_start(c, acked);
	if (!acked)
		return;
	c->cc_priv[0] += acked;
	if (c->cc_priv[0] >= c->cwnd) {
		c->cc_priv[0] -= c->cwnd;
		c->cwnd += c->mss;
	}
}

static uint32_t reno_ssthresh(struct tcp_conn *c, uint64_t now)
{
	return max_u32(c->cwnd / 2, 2u * c->mss);
}

static void reno_idle(struct tcp_conn *c, uint64_t now)
{
	if (c->cwnd > TCP_IW * c->mss) {
		c->ssthresh = max_u32(c->ssthresh, c->cwnd / 4 * 3);
		c->cwnd = TCP_IW * c->mss;
	}
}

const struct tcp_cc tcp_cc_reno = {
	.name = "reno",
	.init = reno_init,
	.acked = reno_acked,
	.ssthresh = reno_ssthresh,
	.idle = reno_idle,
};
