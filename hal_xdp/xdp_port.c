// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_port.c - opening and closing a port, and what it tells about itself
 *
 * Opening: ask the kernel about the interface; find out whether another process has it
 * (xdp_share.c); make or map the memory; open, bind and publish an XSK for every queue. There is
 * one destructor, which takes a half-built port. Set-up only; the packet path is xdp_queue.c.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <errno.h>
#include <nstack/hal_gone.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUSY_NS 1500000000ull
#define BUSY_PAUSE_NS 100000000 /* longer than the name is held in between */

static uint32_t size_or(uint32_t v, uint32_t dflt)
{
	uint32_t p = 64;

	if (!v)
		return dflt;
	while (p < v && p < 1u << 30)
		p <<= 1;
	return p;
}

static int port_new(struct xdp_port **out, const struct hal_xdp_config *cfg)
{
	struct xdp_port *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->cfg = *cfg;
	p->ctl_fd = p->umem_fd = p->alive_fd = -1;
	p->lay.rx_frames = size_or(cfg->rx_frames, 4096);
	p->lay.tx_frames = size_or(cfg->tx_frames, 512);
	p->lay.rx_ring = size_or(cfg->rx_ring, 2048);
	p->lay.tx_ring = size_or(cfg->tx_ring, 2048);
	p->lay.nmembers = cfg->no_share ? 1 : cfg->members ? cfg->members : 16;
	p->lay.frame_shift = !cfg->frame_size || cfg->frame_size == 4096 ? 12 :
			     cfg->frame_size == 2048 ? 11 : 0;
	*out = p;
	return 0;
}

static int queues_new(struct xdp_port *p)
{
	uint32_t i;

	p->queue = aligned_alloc(64, ((p->hal.nqueues * sizeof(*p->queue)) + 63) & ~63ul);
	if (!p->queue)
		return -ENOMEM;
	memset(p->queue, 0, p->hal.nqueues * sizeof(*p->queue));
	for (i = 0; i < p->hal.nqueues; i++) {
		p->queue[i].port = p;
		p->queue[i].id = i;
		p->queue[i].fd = p->queue[i].super_fd = -1;
	}
	return 0;
}

int xdp_fd_own(struct xdp_port *p, int fd)
{
	return fd >= 0 && p->cfg.own_fd ? p->cfg.own_fd(p->cfg.arg, fd) : fd;
}

void xdp_fd_close(struct xdp_port *p, int fd)
{
	int err = errno;

	if (fd < 0)
		return;
	if (p->cfg.disown_fd)
		p->cfg.disown_fd(p->cfg.arg, fd);
	close(fd);
	errno = err;
}

static void port_close(struct hal_port *hp)
{
	struct xdp_port *p = xdp_port_of(hp);
	uint32_t i;

	for (i = 0; p->queue && i < p->hal.nqueues; i++) {
		if (p->queue[i].fq.map)
			xdp_queue_refill(&p->queue[i]);
		xdp_sock_close(&p->queue[i]);
		xdp_queue_fini(&p->queue[i]);
	}
	/* Only now the others may learn it: nothing more arrives in our rings. */
	xdp_share_close(p);
	xdp_umem_close(p);
	free(p->queue);
	free(p);
}

static int port_stats(struct hal_port *hp, uint32_t qi, struct hal_queue_stats *out)
{
	struct xdp_queue *q = &xdp_port_of(hp)->queue[qi];
	struct xdp_statistics st = { 0 };
	socklen_t len = sizeof(st);

	*out = q->st;
	if (getsockopt(q->fd, SOL_XDP, XDP_STATISTICS, &st, &len))
		return -errno;
	out->rx_dropped = st.rx_dropped + q->st.rx_dropped;
	out->rx_ring_full = st.rx_ring_full;
	out->rx_fill_empty = st.rx_fill_ring_empty_descs;
	out->tx_invalid = st.tx_invalid_descs;
	return 0;
}

static const struct hal_ops ops = {
	.name = "xdp",
	.close = port_close,
	.rx_burst = xdp_rx_burst,
	.rx_release = xdp_rx_release,
	.tx_alloc = xdp_tx_alloc,
	.tx_free = xdp_tx_free,
	.tx_burst = xdp_tx_burst,
	.tx_flush = xdp_tx_flush,
	.tx_super = xdp_tx_super,
	.arm = xdp_arm,
	.stats = port_stats,
	.next_due = xdp_next_due,
};

/* --- a port that the process no longer has (after fork) ------------------------------------ */

static void gone_close(struct hal_port *hp)
{
	struct xdp_port *p = xdp_port_of(hp);
	uint32_t i;

	for (i = 0; i < p->hal.nqueues; i++)
		xdp_queue_fini(&p->queue[i]);
	free(p->queue);
	free(p);
}

static const struct hal_ops gone_ops = HAL_GONE("xdp (closed by fork)", gone_close);

void hal_xdp_forget_after_fork(struct hal_port *port)
{
	struct xdp_port *p = xdp_port_of(port);
	uint32_t i;

	if (port->ops == &gone_ops)
		return;
	port->ops = &gone_ops;
	/* Mappings weren't inherited (MADV_DONTFORK): nothing to unmap. */
	for (i = 0; i < p->hal.nqueues; i++) {
		struct xdp_queue *q = &p->queue[i];

		memset(&q->rx, 0, sizeof(q->rx));
		memset(&q->tx, 0, sizeof(q->tx));
		memset(&q->fq, 0, sizeof(q->fq));
		memset(&q->cq, 0, sizeof(q->cq));
		xdp_sock_close(q);
	}
	p->umem = NULL;
	p->sh = NULL;
	xdp_share_close(p);
	xdp_umem_fds_close(p);
}

/* --- opening ------------------------------------------------------------------------------- */

static void describe(struct xdp_port *p)
{
	const char *att = xdp_probe_attached(p->hal.ifindex);
	bool local = xdp_probe_local_peer(p->driver), super = p->queue[0].super_fd >= 0;
	const char *why;

	p->hal.ops = &ops;
	p->hal.max_frame = (1u << p->lay.frame_shift) - p->lay.tx_off;
	p->hal.caps = HAL_CAP_NEED_WAKEUP | (p->lay.zerocopy ? HAL_CAP_ZEROCOPY : 0) |
		      (p->lay.sg ? HAL_CAP_MULTIBUF : 0) |
		      (p->lay.tx_meta_len ? HAL_CAP_TX_CSUM : 0) |
		      (local ? HAL_CAP_RX_CSUM_PARTIAL : 0) | (super ? HAL_CAP_SUPERFRAME : 0);
	snprintf(p->hal.mode, sizeof(p->hal.mode), "%s%s, %s%s", att,
		 p->lay.sg ? ", multi-buffer" : "", p->lay.zerocopy ? "zero-copy" : "copy",
		 p->joined ? ", shared" : "");
	if (p->lay.zerocopy)
		why = "the driver takes packets straight from our memory";
	else if (p->cfg.mode == HAL_XDP_COPY)
		why = "copy was asked for";
	else if (!strcmp(p->driver, "veth"))
		why = "veth has no zero-copy; generic XDP keeps segmentation offload on the peer";
	else if (!strcmp(att, "generic"))
		why = "generic XDP can't do zero-copy";
	else
		why = "the driver refused zero-copy";
	snprintf(p->hal.mode_why, sizeof(p->hal.mode_why), "driver %s: %s%s",
		 p->driver[0] ? p->driver : "unknown", why,
		 p->joined ? "; UMEM of another process" :
		 p->strangers ? "; not shared: somebody else has the name" : "");
}

/* Where a stranger has the name, "in use" has a better explanation: the one that is in why. */
static int open_first(struct xdp_port *p, char *why)
{
	char who[HAL_XDP_WHY];
	int r;

	memcpy(who, why, sizeof(who));
	r = xdp_sock_open_all(p, NULL, why);
	if (r == -EBUSY && p->strangers)
		memcpy(why, who, sizeof(who));
	if (!r)
		why[0] = 0;
	return r;
}

static int build(struct xdp_port *p, int *share_fd, uint32_t *nshare_fd, char *why)
{
	uint32_t i;
	int r = xdp_probe_interface(p, why);

	if (r)
		return r;
	p->lay.nqueues = p->hal.nqueues;
	r = p->cfg.no_share ? 0 : xdp_share_begin(p, share_fd, nshare_fd, why);
	if (r < 0)
		return r;
	p->joined = r == 1;
	r = p->joined ? 0 : xdp_umem_create(p, why);
	if (!r)
		r = queues_new(p);
	for (i = 0; i < p->hal.nqueues && !r; i++)
		r = xdp_queue_init(p, i);
	if (r)
		return r == -ENOMEM ? xdp_why(why, r, "%s: out of memory", p->hal.ifname) : r;
	if (!p->joined) {
		r = open_first(p, why);
		p->sh->lay = p->lay; /* what binding found out */
	} else {
		r = xdp_sock_open_all(p, share_fd, why);
	}
	for (i = 0; i < p->hal.nqueues && !r && !p->cfg.no_super; i++)
		xdp_super_open(&p->queue[i]);
	return r;
}

static int publish(struct xdp_port *p, char *why)
{
	uint32_t i;
	int r;

	for (i = 0; p->cfg.publish && i < p->hal.nqueues; i++) {
		r = p->cfg.publish(p->cfg.arg, i, p->queue[i].fd);
		if (r)
			return xdp_why(why, r, "%s: can't put queue %u into the steering "
				       "program's map: %s; is it still loaded (`nstack status`)?",
				       p->hal.ifname, i, strerror(-r));
	}
	return 0;
}

static int open_once(struct hal_port **out, const struct hal_xdp_config *cfg, char why[HAL_XDP_WHY])
{
	int share_fd[HAL_XDP_QUEUES_MAX];
	uint32_t nshare_fd = 0;
	struct xdp_port *p;
	int r = port_new(&p, cfg);

	why[0] = 0;
	*out = NULL;
	if (r)
		return xdp_why(why, r, "out of memory");
	r = build(p, share_fd, &nshare_fd, why);
	/* At once: these keep another process's sockets alive. */
	while (nshare_fd)
		close(share_fd[--nshare_fd]);
	if (!r)
		describe(p);
	if (!r && p->share)
		r = xdp_share_ready(p, why);
	if (!r)
		r = publish(p, why);
	if (r) {
		port_close(&p->hal);
		return r;
	}
	*out = &p->hal;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* A queue that is taken, on a port that nobody serves: its owner has just died, and the kernel is not yet done with
 * that; or the server of several has, and one of the others is about to take its place. So the name is given back
 * each time, for him to have it. */
int hal_xdp_open(struct hal_port **out, const struct hal_xdp_config *cfg, char why[HAL_XDP_WHY])
{
	static const struct timespec pause = { .tv_nsec = BUSY_PAUSE_NS };
	uint64_t end = now_ns() + BUSY_NS;
	int r;

	while ((r = open_once(out, cfg, why)) == -EBUSY && now_ns() < end)
		nanosleep(&pause, NULL);
	return r;
}

int hal_xdp_xsk_fd(struct hal_port *port, uint32_t q)
{
	return q < port->nqueues ? xdp_port_of(port)->queue[q].fd : -1;
}

int hal_xdp_service_fd(struct hal_port *port)
{
	return port->ops == &ops ? xdp_share_fd(xdp_port_of(port)) : -1;
}

void hal_xdp_service(struct hal_port *port)
{
	if (port->ops == &ops)
		xdp_share_service(xdp_port_of(port));
}

int hal_xdp_frames(struct hal_port *port, uint32_t qi, struct hal_xdp_frames *out)
{
	struct xdp_port *p = xdp_port_of(port);
	struct xdp_queue *q;
	uint32_t i;

	memset(out, 0, sizeof(*out));
	if (port->ops != &ops || qi >= port->nqueues)
		return -EINVAL;
	q = &p->queue[qi];
	out->rx_total = p->lay.rx_frames;
	out->rx_fill = *q->fq.prod - xdp_load_acquire(q->fq.cons);
	out->rx_ring = xdp_load_acquire(q->rx.prod) - q->rx.my_cons;
	out->rx_held = q->held + q->npending;
	out->tx_total = p->lay.tx_frames;
	out->tx_free = q->ntx_free;
	for (i = 0; i < p->lay.tx_frames / 64; i++)
		out->tx_sent += __builtin_popcountll(q->tx_sent[i]);
	out->rx_recovered = q->sq->rx_recovered;
	for (i = 0; i < p->lay.nmembers; i++)
		out->members += !!p->sh->member[i].used;
	out->slot = p->slot;
	out->server = xdp_share_is_server(p);
	out->sweeping = p->sh->sweep != XDP_SWEEP_IDLE;
	return 0;
}
