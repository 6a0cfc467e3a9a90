/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_mem.h - two ports in memory, wired to each other; for tests
 *
 * What one port sends the other receives, in order, through a bounded queue. Frames come from
 * pools made at the start. A hook sees every packet on its way and may drop, duplicate, hold back
 * or alter it. Both ports are used by one thread, or by two (the wire has a lock).
 */
#ifndef NSTACK_HAL_WRAP_HAL_MEM_H
#define NSTACK_HAL_WRAP_HAL_MEM_H

#include <nstack/hal.h>

enum hal_mem_action {
	HAL_MEM_PASS,
	HAL_MEM_DROP,
	HAL_MEM_DUP,     /* deliver it twice */
	HAL_MEM_DELAY,   /* deliver it after the next packet of that direction that passes */
};

struct hal_mem_config {
	uint32_t frame_size; /* bytes of one frame, 0 = 4096; small ones force multi-buffer packets */
	uint32_t frames;     /* in each pool (receive, transmit), 0 = 512 */
	uint32_t wire;       /* packets on the way, each direction, 0 = 256; more are lost (counted
				as rx_ring_full of the receiver) */
	uint32_t mtu;        /* longest packet is mtu + 14; 0 = no bound (super-frames excepted) */
	uint32_t caps;       /* HAL_CAP_MULTIBUF | TX_CSUM | RX_CSUM_PARTIAL | SUPERFRAME */
	bool split_super;    /* cut super-frames as a NIC does, instead of delivering them whole */
	bool fill_csum;      /* finish wanted checksums, as a NIC does; otherwise they arrive as the
				pseudo-header sum, as over veth */
	/* Sees the whole packet in one piece, may change its bytes. dir 0: from ports[0]. */
	enum hal_mem_action (*hook)(void *arg, int dir, uint8_t *pkt, uint32_t len);
	void *hook_arg;
};

/* ports[i]: ifindex 1 + i, name "mem0"/"mem1", mac 02:00:00:00:00:01/:02, one queue each.
 * cfg NULL = all defaults. Close both; the second close frees the wire. */
int hal_mem_pair(struct hal_port *ports[2], const struct hal_mem_config *cfg);
/* Deliver what HAL_MEM_DELAY holds back. */
void hal_mem_release_delayed(struct hal_port *port);
/* Frames of the port that are neither in its pools nor on the wire: 0 when nobody leaks. */
uint32_t hal_mem_outstanding(const struct hal_port *port);

#endif
