/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/hal.h - one interface to a packet port, whatever drives it
 *
 * A port is one network interface, a queue one of its receive/transmit ring pairs. A
 * driver (hal_xdp, hal_dpdk) or a wrapper (capture, faults) fills in struct hal_ops.
 *
 * Packets are Ethernet frames from the destination MAC on. A packet is one hal_frame, or
 * several in a row: all but the last carry HAL_F_MORE. Received frames belong to the caller
 * until hal_rx_release(); frames from hal_tx_alloc() until hal_tx_burst() took them or
 * hal_tx_free(). All of a packet's frames are handed over in one call.
 *
 * Threads: a queue is used by one thread at a time (the worker that owns it); no call
 * blocks; none allocates. Errors are negative errno values.
 */
#ifndef NSTACK_HAL_H
#define NSTACK_HAL_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum hal_cap {
	HAL_CAP_ZEROCOPY = 1u << 0,
	HAL_CAP_MULTIBUF = 1u << 1,       /* packets of several frames, both ways */
	HAL_CAP_TX_CSUM = 1u << 2,        /* HAL_F_CSUM_WANTED is honoured */
	HAL_CAP_RX_CSUM_PARTIAL = 1u << 3, /* a received L4 checksum may be just the pseudo-header
					   sum: what a local sender (veth, virtio) leaves to do */
	HAL_CAP_SUPERFRAME = 1u << 4,     /* hal_tx_super() works */
	HAL_CAP_NEED_WAKEUP = 1u << 5,
	HAL_CAP_BUSY_POLL = 1u << 6,
	HAL_CAP_RX_TSTAMP = 1u << 7,
};

enum hal_frame_flag {
	HAL_F_MORE = 1u << 0,        /* the packet goes on in the next frame */
	HAL_F_CSUM_OK = 1u << 1,     /* receive: the device verified the L4 checksum */
	HAL_F_CSUM_WANTED = 1u << 2, /* transmit: device shall finish the checksum; the field
					holds the pseudo-header sum; first frame only */
};

struct hal_frame {
	uint8_t *data;        /* first byte of this part of the packet */
	uint32_t len;         /* bytes used at data */
	uint32_t room;        /* transmit: bytes that fit at data; receive: unspecified */
	uint16_t flags;       /* enum hal_frame_flag */
	uint16_t csum_start;  /* with HAL_F_CSUM_WANTED: from data to the L4 header */
	uint16_t csum_offset; /* with HAL_F_CSUM_WANTED: from csum_start to the field */
	uint16_t pad;
	uint64_t handle;      /* the driver's own; do not touch */
};

/* A super-frame: one TCP segment (or UDP datagram train) of up to 64 KB that the device or
 * the kernel cuts into frames of gso_size payload bytes. Field meanings are those of
 * struct virtio_net_hdr (virtio 1.2, section 5.1.6). */
enum hal_gso { HAL_GSO_NONE, HAL_GSO_TCPV4, HAL_GSO_TCPV6, HAL_GSO_UDP };
struct hal_super {
	const struct iovec *iov; /* iov[0] starts with the Ethernet header */
	int iovcnt;              /* at most HAL_SUPER_IOV */
	uint8_t gso;             /* enum hal_gso */
	uint16_t gso_size;       /* payload bytes per resulting frame */
	uint16_t hdr_len;        /* all headers, Ethernet included */
	uint16_t csum_start;     /* from the first byte; the field holds the pseudo-header sum */
	uint16_t csum_offset;
};
#define HAL_SUPER_IOV 8
#define HAL_SUPER_MAX 65535u /* IP packet bytes */

/* Every counter counts packets, or bytes where named so, since the port was opened. */
struct hal_queue_stats {
	uint64_t rx_packets, rx_bytes, rx_frames;
	uint64_t tx_packets, tx_bytes, tx_frames;
	uint64_t tx_super_packets, tx_super_bytes;
	uint64_t rx_dropped;      /* kernel: no frame or other reason (XDP_STATISTICS rx_dropped) */
	uint64_t rx_ring_full;    /* kernel: receive ring full */
	uint64_t rx_fill_empty;   /* kernel: fill ring was empty */
	uint64_t tx_invalid;      /* kernel: invalid transmit descriptors */
	uint64_t tx_ring_full;    /* our side: no transmit slot; caller kept the packet */
	uint64_t tx_no_frame;     /* our side: no free transmit frame */
	uint64_t tx_errors;       /* kick or send failed for a reason other than "busy" */
	uint64_t tx_kicks;        /* system calls made to start transmission */
	uint64_t rx_wakeups;      /* system calls made to start reception */
};

struct hal_port;

struct hal_ops {
	const char *name;
	void (*close)(struct hal_port *);
	uint32_t (*rx_burst)(struct hal_port *, uint32_t q, struct hal_frame *f, uint32_t n);
	void (*rx_release)(struct hal_port *, uint32_t q, struct hal_frame *f, uint32_t n);
	uint32_t (*tx_alloc)(struct hal_port *, uint32_t q, struct hal_frame *f, uint32_t n);
	void (*tx_free)(struct hal_port *, uint32_t q, struct hal_frame *f, uint32_t n);
	uint32_t (*tx_burst)(struct hal_port *, uint32_t q, struct hal_frame *f, uint32_t n);
	void (*tx_flush)(struct hal_port *, uint32_t q);
	int (*tx_super)(struct hal_port *, uint32_t q, const struct hal_super *s);
	int (*arm)(struct hal_port *, uint32_t q);
	int (*stats)(struct hal_port *, uint32_t q, struct hal_queue_stats *out);
	int (*next_due)(struct hal_port *, uint32_t q, uint64_t *ns); /* may be NULL; see below */
};

/* What everybody may read of a port; a driver embeds it first in its own structure. */
struct hal_port {
	const struct hal_ops *ops;
	char ifname[IF_NAMESIZE];
	unsigned ifindex;
	uint8_t mac[6];
	uint16_t max_frame;   /* bytes that one transmit frame holds */
	uint32_t nqueues;
	uint32_t caps;        /* enum hal_cap */
	char mode[48];        /* e.g. "generic, multi-buffer, copy" */
	char mode_why[160];   /* why that mode was chosen, for people */
};

/* Up to n received frames; always whole packets (so n should be >= HAL_RX_MIN). */
#define HAL_RX_MIN 32
static inline uint32_t hal_rx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	return p->ops->rx_burst(p, q, f, n);
}
static inline void hal_rx_release(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	p->ops->rx_release(p, q, f, n);
}
/* Up to n empty frames for sending: data/room set, len 0. Fewer when the pool is short. */
static inline uint32_t hal_tx_alloc(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	return p->ops->tx_alloc(p, q, f, n);
}
static inline void hal_tx_free(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	p->ops->tx_free(p, q, f, n);
}
/* Queue frames for sending. Returns how many were taken (whole packets); the caller keeps the
 * rest. Nothing need leave before hal_tx_flush(): one kick per burst. */
static inline uint32_t hal_tx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	return p->ops->tx_burst(p, q, f, n);
}
static inline void hal_tx_flush(struct hal_port *p, uint32_t q)
{
	p->ops->tx_flush(p, q);
}
/* Send one super-frame now; frames queued before it leave first (order is kept).
 * 0, -EAGAIN (try again later), -EOPNOTSUPP, or another error (packet is lost and counted). */
static inline int hal_tx_super(struct hal_port *p, uint32_t q, const struct hal_super *s)
{
	return p->ops->tx_super(p, q, s);
}
/* A descriptor that polls readable when the queue has received packets. Stays the port's. */
static inline int hal_arm(struct hal_port *p, uint32_t q)
{
	return p->ops->arm(p, q);
}
static inline int hal_stats(struct hal_port *p, uint32_t q, struct hal_queue_stats *out)
{
	return p->ops->stats(p, q, out);
}
/* CLOCK_MONOTONIC time in ns at which the queue wants rx_burst called although nothing arrives
 * (a wrapper that delays packets); UINT64_MAX = never. */
static inline uint64_t hal_next_due(struct hal_port *p, uint32_t q)
{
	uint64_t ns = UINT64_MAX;

	if (p->ops->next_due)
		p->ops->next_due(p, q, &ns);
	return ns;
}
static inline void hal_close(struct hal_port *p)
{
	if (p)
		p->ops->close(p);
}

#endif
