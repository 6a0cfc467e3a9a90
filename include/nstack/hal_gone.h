/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/hal_gone.h - a port that the process no longer has: in a child, after fork
 *
 * Whoever still holds it finds nothing there, and can close it. A driver's table of such a port is
 *
 *	static const struct hal_ops gone_ops = HAL_GONE("xdp (closed by fork)", gone_close);
 */
#ifndef NSTACK_HAL_GONE_H
#define NSTACK_HAL_GONE_H

#include <errno.h>
#include <nstack/hal.h>
#include <string.h>

static inline uint32_t hal_gone_burst(struct hal_port *hp, uint32_t q, struct hal_frame *f, uint32_t n)
{
	return 0;
}

static inline void hal_gone_release(struct hal_port *hp, uint32_t q, struct hal_frame *f, uint32_t n)
{
}

static inline void hal_gone_flush(struct hal_port *hp, uint32_t q)
{
}

static inline int hal_gone_super(struct hal_port *hp, uint32_t q, const struct hal_super *s)
{
	return -EOPNOTSUPP;
}

static inline int hal_gone_arm(struct hal_port *hp, uint32_t q)
{
	return -1;
}

static inline int hal_gone_stats(struct hal_port *hp, uint32_t q, struct hal_queue_stats *out)
{
	memset(out, 0, sizeof(*out));
	return -EBADF;
}

#define HAL_GONE(what, close_fn) \
	{ .name = (what), .close = (close_fn), .rx_burst = hal_gone_burst, .rx_release = hal_gone_release, \
	  .tx_alloc = hal_gone_burst, .tx_free = hal_gone_release, .tx_burst = hal_gone_burst, \
	  .tx_flush = hal_gone_flush, .tx_super = hal_gone_super, .arm = hal_gone_arm, .stats = hal_gone_stats }

#endif
