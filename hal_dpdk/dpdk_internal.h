/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_internal.h - the port and its queues, inside the plug-in only */
#ifndef NSTACK_HAL_DPDK_INTERNAL_H
#define NSTACK_HAL_DPDK_INTERNAL_H

#include <hal_dpdk/hal_dpdk.h>

#include <rte_mbuf.h>

#define DPDK_TX_PENDING 256u /* packets that wait for a flush */
#define DPDK_WAKE_FDS 64u
#define DPDK_RING 1024u        /* descriptors, where nobody says otherwise */
#define DPDK_CACHE 256u        /* buffers that a thread keeps at hand: those used last, which the processor's
				  caches still have */

enum dpdk_wake {
	DPDK_WAKE_TIMER, /* nothing tells of packets: looked at now and then */
	DPDK_WAKE_FD,    /* the driver's own socket is readable */
	DPDK_WAKE_INTR,  /* interrupts of the queue, to be switched on before sleeping */
};

/* One thread at a time, as hal.h says. */
struct dpdk_queue {
	int epfd;         /* what hal_arm() returns: readable when one of the sources is */
	enum dpdk_wake wake;
	bool intr_on;
	uint64_t idle_ns; /* how long to sleep before looking again; DPDK_WAKE_TIMER */
	uint32_t nidle;   /* looks in a row that found nothing */
	uint32_t npending;
	struct rte_mbuf *pending[DPDK_TX_PENDING];
	struct hal_queue_stats st;
};

struct dpdk_port {
	struct hal_port hal; /* first */
	uint16_t id;
	struct rte_mempool *pool;
	struct dpdk_queue *queue;
	uint64_t rx_offloads, tx_offloads; /* in use */
	uint32_t super_segs;  /* buffers of one super-frame; 0 = the device can't cut any */
	uint32_t super_frame; /* bytes of a frame that it is cut into */
	bool started;
	uint32_t nwake;   /* sockets that DPDK_WAKE_FD is about */
	int wake_fd[DPDK_WAKE_FDS];
	struct hal_dpdk_config cfg; /* devices and eal are valid while it is opened only */
};

static inline struct dpdk_port *dpdk_port_of(struct hal_port *p)
{
	return (struct dpdk_port *)p;
}

/* Buffers of a queue: what the rings hold, what waits to be sent, what the stack has in hand. */
static inline uint32_t dpdk_frames(const struct hal_dpdk_config *cfg, uint32_t rx_ring, uint32_t tx_ring)
{
	uint32_t frames = cfg->frames ? cfg->frames : 4096;

	return (frames > rx_ring ? frames : rx_ring) + tx_ring + DPDK_TX_PENDING;
}

int dpdk_why(char *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
uint64_t dpdk_now(void);

/* dpdk_eal.c: DPDK itself, once in a process. */
int dpdk_eal_start(const struct hal_dpdk_config *cfg, char *why);
/* What DPDK complained about first since this was asked last, "" = nothing. */
const char *dpdk_eal_words(void);
/* Calls fn once in DPDK's thread, soon; false: it can't. */
bool dpdk_eal_thread_call(void (*fn)(void));
/* A forked child: DPDK is the parent's. */
void dpdk_eal_forget(void);

/* dpdk_fds.c: descriptors that DPDK opens by itself. */
struct dpdk_fds {
	int high;           /* one of the host's high numbers, -1 = there is no host */
	int filler[1024];
	uint32_t nfiller;
	uint64_t before[1024]; /* bitmap of what was open */
};
void dpdk_fds_begin(struct dpdk_fds *f, const struct hal_dpdk_config *cfg);
/* Gives new descriptors to the host; those that become readable when packets arrive go to wake. How many. */
uint32_t dpdk_fds_end(struct dpdk_fds *f, const struct hal_dpdk_config *cfg, int wake[DPDK_WAKE_FDS]);

/* dpdk_queue.c: the packet path */
uint32_t dpdk_rx_burst(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
void dpdk_rx_release(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
uint32_t dpdk_tx_alloc(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
void dpdk_tx_free(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
uint32_t dpdk_tx_burst(struct hal_port *, uint32_t, struct hal_frame *, uint32_t);
void dpdk_tx_flush(struct hal_port *, uint32_t);
int dpdk_arm(struct hal_port *, uint32_t);
int dpdk_next_due(struct hal_port *, uint32_t, uint64_t *);

/* dpdk_super.c */
int dpdk_tx_super(struct hal_port *, uint32_t, const struct hal_super *);

#endif
