/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_wrap.h - what all drivers that wrap a driver have in common
 *
 * A wrapper embeds struct hal_wrap first; what it does not change, its table passes on by these.
 */
#ifndef NSTACK_HAL_WRAP_H
#define NSTACK_HAL_WRAP_H

#include <nstack/hal.h>

struct hal_wrap {
	struct hal_port hal;    /* first */
	struct hal_port *lower; /* the wrapped one; closed, or given back, with this one */
};

static inline struct hal_port *hal_wrap_lower(struct hal_port *p)
{
	return ((struct hal_wrap *)p)->lower;
}

static inline void hal_wrap_rx_release(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	hal_rx_release(hal_wrap_lower(p), q, f, n);
}

static inline uint32_t hal_wrap_tx_alloc(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	return hal_tx_alloc(hal_wrap_lower(p), q, f, n);
}

static inline void hal_wrap_tx_free(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	hal_tx_free(hal_wrap_lower(p), q, f, n);
}

static inline uint32_t hal_wrap_tx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	return hal_tx_burst(hal_wrap_lower(p), q, f, n);
}

static inline void hal_wrap_tx_flush(struct hal_port *p, uint32_t q)
{
	hal_tx_flush(hal_wrap_lower(p), q);
}

static inline int hal_wrap_tx_super(struct hal_port *p, uint32_t q, const struct hal_super *s)
{
	return hal_tx_super(hal_wrap_lower(p), q, s);
}

static inline int hal_wrap_arm(struct hal_port *p, uint32_t q)
{
	return hal_arm(hal_wrap_lower(p), q);
}

static inline int hal_wrap_stats(struct hal_port *p, uint32_t q, struct hal_queue_stats *out)
{
	return hal_stats(hal_wrap_lower(p), q, out);
}

static inline int hal_wrap_next_due(struct hal_port *p, uint32_t q, uint64_t *ns)
{
	*ns = hal_next_due(hal_wrap_lower(p), q);
	return 0;
}

#endif
