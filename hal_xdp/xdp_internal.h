/* SPDX-License-Identifier: Apache-2.0 */
/* hal_xdp/xdp_internal.h - the port and its queues, inside hal_xdp/ only
 *
 * Everything here is private to the process; what members share is in xdp_shared.h.
 */
#ifndef NSTACK_HAL_XDP_INTERNAL_H
#define NSTACK_HAL_XDP_INTERNAL_H

#include <hal_xdp/xdp_shared.h>

#define XDP_TX_DESCS_MAX 17 /* of a packet: the kernel drops one of 19 without a word */
#define XDP_REFILL_BATCH 64

/* One thread at a time, as hal.h says. */
struct xdp_queue {
	struct xdp_port *port;
	uint32_t id;
	int fd;
	int super_fd; /* AF_PACKET, -1 = none */
	struct xdp_ring rx, tx;
	struct xdp_ring fq, cq; /* shared with other members: under the lock only */
	struct xdp_shared_queue *sq;
	struct xdp_shared_corner *corner;
	uint32_t *rx_stamp;
	uint64_t base;        /* of the queue's frames in the UMEM */
	uint64_t tx_base;     /* of our transmit frames */
	uint8_t *mem;         /* the UMEM */

	uint32_t *pending;    /* received frames to give back; room for all of them */
	uint32_t npending;
	uint32_t held;        /* frames taken from the ring and not released */
	uint32_t *tx_free;    /* stack of frame numbers within our share */
	uint32_t ntx_free;
	uint64_t *tx_sent;    /* bitmap: the kernel has it */
	uint32_t *harvest;    /* scratch, tx_frames */
	bool tx_dirty;        /* submitted since the last kick */
	bool tx_left;         /* a kick left entries in the ring */

	struct hal_queue_stats st;
};

struct xdp_share;
struct xdp_port {
	struct hal_port hal; /* first */
	struct hal_xdp_config cfg;
	char driver[32];
	int ctl_fd, umem_fd, alive_fd;
	struct xdp_shared *sh;
	struct xdp_layout lay; /* our checked copy of sh->lay */
	uint8_t *umem;
	uint32_t slot;
	bool joined;
	bool strangers; /* somebody whom we can't share with has the name that sharing goes by */
	struct xdp_queue *queue;
	struct xdp_share *share; /* NULL = not shared */
};

static inline struct xdp_port *xdp_port_of(struct hal_port *p)
{
	return (struct xdp_port *)p;
}

/* Every descriptor of the port passes here: fd may be negative (passed on), errno is kept. */
int xdp_fd_own(struct xdp_port *p, int fd);
void xdp_fd_close(struct xdp_port *p, int fd);

int xdp_why(char *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* xdp_probe.c: what the interface is. Fills ifname, ifindex, mac, nqueues, driver. */
int xdp_probe_interface(struct xdp_port *p, char *why);
bool xdp_probe_local_peer(const char *driver); /* partial checksums may arrive */
/* "native", "generic" or "none yet": how an XDP program is attached now */
const char *xdp_probe_attached(unsigned ifindex);

/* xdp_umem.c: the two memfds. */
int xdp_umem_create(struct xdp_port *p, char *why);
int xdp_umem_map(struct xdp_port *p, char *why); /* from ctl_fd and umem_fd, checked */
void xdp_umem_close(struct xdp_port *p);
void xdp_umem_fds_close(struct xdp_port *p);
/* Take the lock that says "slot is alive"; -EAGAIN: somebody has it. */
int xdp_umem_alive_lock(struct xdp_port *p, uint32_t slot);
bool xdp_umem_alive_test(struct xdp_port *p, uint32_t slot);

/* xdp_sock.c: sockets and rings. share_fd[q] is a bound XSK of that queue, or NULL = first. */
int xdp_sock_open_all(struct xdp_port *p, const int *share_fd, char *why);
void xdp_sock_close(struct xdp_queue *q);
uint64_t xdp_sock_fill_empty(struct xdp_queue *q);

/* xdp_queue.c: the packet path */
int xdp_queue_init(struct xdp_port *p, uint32_t id);
void xdp_queue_fini(struct xdp_queue *q);
void xdp_queue_refill(struct xdp_queue *q);
void xdp_queue_kick(struct xdp_queue *q);
void xdp_queue_stamp(struct xdp_queue *q, uint32_t epoch);
uint32_t xdp_rx_burst(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
void xdp_rx_release(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
uint32_t xdp_tx_alloc(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
void xdp_tx_free(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
uint32_t xdp_tx_burst(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
void xdp_tx_flush(struct hal_port *, uint32_t);
int xdp_arm(struct hal_port *, uint32_t);
int xdp_next_due(struct hal_port *, uint32_t, uint64_t *);

/* xdp_super.c */
int xdp_super_open(struct xdp_queue *q);
int xdp_tx_super(struct hal_port *, uint32_t, const struct hal_super *);

/* xdp_share.c. begin: 1 = somebody serves, joined: share_fd filled (close them after binding);
 * 0 = we are first and hold the name, or a stranger has it (p->strangers, why says who; no
 * sharing until he has gone); or -errno. */
int xdp_share_begin(struct xdp_port *p, int *share_fd, uint32_t *nshare_fd, char *why);
/* We are usable (first: listening; joined: told the server). */
int xdp_share_ready(struct xdp_port *p, char *why);
void xdp_share_close(struct xdp_port *p);
int xdp_share_fd(struct xdp_port *p);
void xdp_share_service(struct xdp_port *p);
bool xdp_share_is_server(const struct xdp_port *p);

#endif
