// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_sock.c - AF_XDP sockets of a port: options, rings, bind
 *
 * Done by system calls and not by libxdp's xsk functions, which can't bind to a UMEM that another
 * process registered. The first member registers the UMEM on queue 0 and binds the other queues
 * to it with fill and completion rings of their own; a later member binds each queue to the
 * XSK that it was sent, and maps the fill and completion rings through its own socket.
 * Set-up only.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUSY_TRIES 20 /* then hal_xdp_open() begins anew */
#define BUSY_NS 2000000

static int setopt_u32(int fd, int opt, uint32_t v)
{
	return setsockopt(fd, SOL_XDP, opt, &v, sizeof(v)) ? -errno : 0;
}

static int ring_map(struct xdp_ring *r, int fd, const struct xdp_ring_offset *o, uint64_t pgoff,
		    uint32_t size, size_t entry)
{
	size_t len = o->desc + size * entry;
	uint8_t *m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, pgoff);

	if (m == MAP_FAILED)
		return -errno;
	/* A child must not keep the socket alive through its mappings. */
	madvise(m, len, MADV_DONTFORK);
	r->map = m;
	r->map_len = len;
	r->prod = (uint32_t *)(m + o->producer);
	r->cons = (uint32_t *)(m + o->consumer);
	r->flags = (uint32_t *)(m + o->flags);
	r->desc = m + o->desc;
	r->size = size;
	r->mask = size - 1;
	r->my_prod = *r->prod;
	r->my_cons = *r->cons;
	return 0;
}

static void ring_unmap(struct xdp_ring *r)
{
	if (r->map)
		munmap(r->map, r->map_len);
	memset(r, 0, sizeof(*r));
}

void xdp_sock_close(struct xdp_queue *q)
{
	ring_unmap(&q->rx);
	ring_unmap(&q->tx);
	ring_unmap(&q->fq);
	ring_unmap(&q->cq);
	xdp_fd_close(q->port, q->fd);
	xdp_fd_close(q->port, q->super_fd);
	q->fd = q->super_fd = -1;
}

uint64_t xdp_sock_fill_empty(struct xdp_queue *q)
{
	struct xdp_statistics st = { 0 };
	socklen_t len = sizeof(st);

	getsockopt(q->fd, SOL_XDP, XDP_STATISTICS, &st, &len);
	return st.rx_fill_ring_empty_descs;
}

/* With transmit metadata where the kernel knows it (6.8), else without. */
static int umem_register(struct xdp_port *p, int fd)
{
	struct xdp_umem_reg_v2 reg = {
		.addr = (uint64_t)(uintptr_t)p->umem, .len = p->lay.umem_size,
		.chunk_size = 1u << p->lay.frame_shift,
	};

	if (!p->cfg.no_tx_csum) {
		reg.flags = XDP_UMEM_TX_METADATA_LEN;
		reg.tx_metadata_len = sizeof(struct xdp_tx_meta);
		if (!setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg))) {
			p->lay.tx_meta_len = reg.tx_metadata_len;
			return 0;
		}
		if (errno != EINVAL)
			return -errno;
	}
	reg.flags = 0;
	reg.tx_metadata_len = 0;
	return setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(struct xdp_umem_reg)) ? -errno : 0;
}

static int umem_failed(struct xdp_port *p, int r, char *why)
{
	if (r == -ENOBUFS || r == -ENOMEM || r == -EPERM)
		return xdp_why(why, r, "%s: the kernel refused to lock %llu MB for packets (%s); "
			       "raise `ulimit -l`, give CAP_IPC_LOCK, or set smaller frame counts",
			       p->hal.ifname, (unsigned long long)(p->lay.umem_size >> 20),
			       strerror(-r));
	return xdp_why(why, r, "%s: registering packet memory failed: %s", p->hal.ifname,
		       strerror(-r));
}

static int sock_new(struct xdp_queue *q, bool own_fill, char *why)
{
	struct xdp_port *p = q->port;
	int snd = 8 << 20, r = 0;

	q->fd = xdp_fd_own(p, socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
	if (q->fd < 0 && (errno == EPERM || errno == EACCES))
		return xdp_why(why, -errno, "%s: no permission for AF_XDP; run as root or with "
			       "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF", p->hal.ifname);
	if (q->fd < 0)
		return xdp_why(why, -errno, "%s: the kernel has no AF_XDP (%s); it needs "
			       "CONFIG_XDP_SOCKETS", p->hal.ifname, strerror(errno));
	/* In copy mode frames on their way count against the send buffer. Best effort. */
	if (setsockopt(q->fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof(snd)))
		setsockopt(q->fd, SOL_SOCKET, SO_SNDBUF, &snd, sizeof(snd));
	if (own_fill && q->id == 0) {
		r = umem_register(p, q->fd);
		if (r)
			return umem_failed(p, r, why);
	}
	if (own_fill) {
		r = setopt_u32(q->fd, XDP_UMEM_FILL_RING, p->lay.fill_ring);
		if (!r)
			r = setopt_u32(q->fd, XDP_UMEM_COMPLETION_RING, p->lay.comp_ring);
	}
	if (!r)
		r = setopt_u32(q->fd, XDP_RX_RING, p->lay.rx_ring);
	if (!r)
		r = setopt_u32(q->fd, XDP_TX_RING, p->lay.tx_ring);
	if (r)
		return xdp_why(why, r, "%s queue %u: no memory for rings: %s", p->hal.ifname,
			       q->id, strerror(-r));
	/* Linux 6.17: frames that one kick may send, otherwise 32. */
	setopt_u32(q->fd, XDP_MAX_TX_SKB_BUDGET, p->lay.tx_ring);
	return 0;
}

/* A queue whose owner just exited stays busy for a few milliseconds. */
static int try_bind(struct xdp_queue *q, uint32_t flags, int share_fd)
{
	struct timespec ts = { .tv_nsec = BUSY_NS };
	struct sockaddr_xdp sa = {
		.sxdp_family = AF_XDP, .sxdp_flags = flags, .sxdp_ifindex = q->port->hal.ifindex,
		.sxdp_queue_id = q->id, .sxdp_shared_umem_fd = share_fd < 0 ? 0 : share_fd,
	};
	int i;

	for (i = 0; bind(q->fd, (struct sockaddr *)&sa, sizeof(sa)); i++) {
		if (errno != EBUSY || i == BUSY_TRIES)
			return -errno;
		nanosleep(&ts, NULL);
	}
	return 0;
}

static int bind_failed(struct xdp_queue *q, int r, char *why)
{
	const char *name = q->port->hal.ifname;

	if (r == -EBUSY)
		return xdp_why(why, r, "queue %u of %s is in use by another program (AF_XDP); stop "
			       "it, or leave %s to the kernel by the key `interfaces`", q->id, name,
			       name);
	if (r == -EPERM || r == -EACCES)
		return xdp_why(why, r, "no permission to use %s; run as root or with CAP_NET_RAW "
			       "and CAP_NET_ADMIN", name);
	if (r == -ENETDOWN)
		return xdp_why(why, r, "%s is down; `ip link set %s up`", name, name);
	if (r == -EOPNOTSUPP)
		return xdp_why(why, r, "%s: driver %s has no AF_XDP in the mode asked for; use mode "
			       "auto", name, q->port->driver);
	return xdp_why(why, r, "queue %u of %s: bind failed: %s", q->id, name, strerror(-r));
}

static bool want_zerocopy(const struct xdp_port *p)
{
	if (p->cfg.mode == HAL_XDP_AUTO)
		return strcmp(p->driver, "veth") && strcmp(xdp_probe_attached(p->hal.ifindex),
							   "generic");
	return p->cfg.mode == HAL_XDP_ZEROCOPY;
}

static int bind_first(struct xdp_queue *q, char *why)
{
	struct xdp_port *p = q->port;
	uint32_t base = XDP_USE_NEED_WAKEUP | XDP_USE_SG;
	/* best first; XDP_USE_SG is Linux 6.6 */
	uint32_t flags[4] = { XDP_ZEROCOPY | base, XDP_COPY | base,
			      XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP, XDP_COPY | XDP_USE_NEED_WAKEUP };
	bool zc = want_zerocopy(p);
	int i, r = -EOPNOTSUPP;

	for (i = 0; i < 4; i++) {
		if ((flags[i] & XDP_ZEROCOPY) && !zc)
			continue;
		if ((flags[i] & XDP_COPY) && p->cfg.mode == HAL_XDP_ZEROCOPY)
			continue;
		r = try_bind(q, flags[i], -1);
		if (!r) {
			p->lay.sg = !!(flags[i] & XDP_USE_SG);
			p->lay.zerocopy = !!(flags[i] & XDP_ZEROCOPY);
			return 0;
		}
		if (r != -EOPNOTSUPP && r != -EINVAL)
			break;
	}
	return bind_failed(q, r, why);
}

static int map_rings(struct xdp_queue *q, char *why)
{
	const struct xdp_layout *l = &q->port->lay;
	struct xdp_mmap_offsets o;
	socklen_t len = sizeof(o);
	int r = 0;

	if (getsockopt(q->fd, SOL_XDP, XDP_MMAP_OFFSETS, &o, &len))
		r = -errno;
	else if (len != sizeof(o))
		r = -EPROTO; /* Linux before 5.4 has no flags */
	if (!r)
		r = ring_map(&q->rx, q->fd, &o.rx, XDP_PGOFF_RX_RING, l->rx_ring, 16);
	if (!r)
		r = ring_map(&q->tx, q->fd, &o.tx, XDP_PGOFF_TX_RING, l->tx_ring, 16);
	if (!r)
		r = ring_map(&q->fq, q->fd, &o.fr, XDP_UMEM_PGOFF_FILL_RING, l->fill_ring, 8);
	if (!r)
		r = ring_map(&q->cq, q->fd, &o.cr, XDP_UMEM_PGOFF_COMPLETION_RING, l->comp_ring, 8);
	if (r)
		return xdp_why(why, r, "queue %u of %s: can't map the rings: %s", q->id,
			       q->port->hal.ifname, strerror(-r));
	return 0;
}

/* Zero-copy drivers want frames at once; in copy mode the order doesn't matter. */
static void fill_all(struct xdp_queue *q)
{
	uint32_t f;

	if (!xdp_shared_lock(q->sq))
		return; /* nobody else can have it yet */
	for (f = 0; f < q->port->lay.rx_frames; f++)
		xdp_fill_push_locked(q->port->sh, q->id, &q->fq, &f, 1);
	xdp_shared_unlock(q->sq);
}

static int open_one(struct xdp_queue *q, int share_fd, char *why)
{
	struct xdp_port *p = q->port;
	bool first = share_fd < 0;
	int r = sock_new(q, first, why);

	if (r)
		return r;
	if (first && q->id == 0) {
		r = bind_first(q, why);
	} else {
		r = try_bind(q, XDP_SHARED_UMEM, first ? p->queue[0].fd : share_fd);
		if (r)
			bind_failed(q, r, why);
	}
	if (!r)
		r = map_rings(q, why);
	if (!r && first)
		fill_all(q);
	return r;
}

int xdp_sock_open_all(struct xdp_port *p, const int *share_fd, char *why)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	uint32_t i;
	int r = 0;

	/* Only counts without CAP_IPC_LOCK; may not be allowed, which registering will tell. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	for (i = 0; i < p->hal.nqueues && !r; i++)
		r = open_one(&p->queue[i], share_fd ? share_fd[i] : -1, why);
	return r;
}
