/* SPDX-License-Identifier: Apache-2.0 */
/* hal_xdp/hal_xdp.h - a network interface through AF_XDP, as a struct hal_port
 *
 * Opening a port takes every receive queue of the interface. The XDP program is not the port's
 * business: the caller attached one and gets each bound XSK by `publish`, to put it into the
 * program's map. Until then nothing arrives.
 *
 * Several processes (members) may open the same interface: they share one UMEM, and each has
 * rings of its own (xdp_share.c). That takes no part of the packet path, but somebody must call
 * hal_xdp_service() when hal_xdp_service_fd() polls readable: otherwise a second process can't
 * join, and frames of a dead one aren't looked for. Threads: hal_xdp_service() touches the
 * queues, so it is called under the same lock as everything else on the port.
 */
#ifndef NSTACK_HAL_XDP_H
#define NSTACK_HAL_XDP_H

#include <nstack/hal.h>

#define HAL_XDP_WHY 256
#define HAL_XDP_QUEUES_MAX 64
#define HAL_XDP_MEMBERS_MAX 32

enum hal_xdp_mode {
	HAL_XDP_AUTO,     /* zero-copy where the driver may have it, else copy */
	HAL_XDP_COPY,
	HAL_XDP_ZEROCOPY, /* or fail */
};

/* Zero or NULL everywhere but ifname is a good choice. Sizes are rounded up to powers of two;
 * they count only for the process that comes first, later ones take what is there. */
struct hal_xdp_config {
	const char *ifname;
	uint32_t rx_frames;  /* receive frames of a queue, common to all members; 4096 */
	uint32_t tx_frames;  /* transmit frames of a queue and member; 512 */
	uint32_t rx_ring;    /* receive ring entries; 2048 */
	uint32_t tx_ring;    /* transmit ring entries; 2048 */
	uint32_t members;    /* how many processes may share the port; 16 */
	uint32_t frame_size; /* 2048 or 4096; 4096 */
	uint32_t max_queues; /* take at most the first so many queues; all */
	enum hal_xdp_mode mode;
	bool no_share;       /* neither join other processes nor let them join */
	bool no_super;       /* no super-frame path */
	bool no_tx_csum;     /* no checksum metadata */
	int (*publish)(void *arg, uint32_t queue, int xsk_fd); /* 0 or -errno; may be NULL */
	/* For hosts whose program may close descriptors that it didn't open: own_fd sees every
	 * new one and returns the number to use (it may have moved it), disown_fd comes before
	 * it is closed. Both may be NULL. */
	int (*own_fd)(void *arg, int fd);
	void (*disown_fd)(void *arg, int fd);
	void *arg;
};

/* 0 or -errno; then why has one line that names the cause and what to do about it. Blocks for a
 * bounded time: 2 s for a queue that is just being released, 3 s for an answer of the
 * process that has the interface. -EBUSY: another program has the queue. */
int hal_xdp_open(struct hal_port **out, const struct hal_xdp_config *cfg, char why[HAL_XDP_WHY]);

/* Sharing: poll the descriptor (it stays the port's; -1 without sharing), call the function. */
int hal_xdp_service_fd(struct hal_port *port);
void hal_xdp_service(struct hal_port *port);

/* In the child after fork(), before anything else: closes the child's copies of descriptors and
 * leaves what is shared with the parent alone. The port then is a dead stub: every call on it is
 * harmless and does nothing; hal_close() frees it. */
void hal_xdp_forget_after_fork(struct hal_port *port);

/* The XSK of a queue, for the caller to publish again (a newly loaded program). */
int hal_xdp_xsk_fd(struct hal_port *port, uint32_t q);

/* Where the frames of a queue are; exact only while nothing moves. */
struct hal_xdp_frames {
	uint32_t rx_total;
	uint32_t rx_fill;      /* in the fill ring: the kernel's */
	uint32_t rx_ring;      /* received, not taken by us */
	uint32_t rx_held;      /* taken by us, not back in the fill ring */
	uint32_t tx_total;     /* our share */
	uint32_t tx_free;
	uint32_t tx_sent;      /* waiting for the kernel to complete them */
	uint64_t rx_recovered; /* taken back from dead members, all members' count */
	uint32_t members;      /* processes alive on the port */
	uint32_t slot;         /* ours */
	bool server;           /* this process lets others join */
	bool sweeping;         /* a dead member's frames are being looked for */
};
int hal_xdp_frames(struct hal_port *port, uint32_t q, struct hal_xdp_frames *out);

#endif
