/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_port.c - opening and closing a device, and what it tells about itself
 *
 * What a device can do is asked, not assumed: offloads that it lacks are not announced, and the stack
 * does without. Set-up only; the packet path is dpdk_queue.c. There is one destructor, which takes a
 * half-built port.
 */
#define _GNU_SOURCE
#include <hal_dpdk/dpdk_internal.h>
#include <hal_dpdk/dpdk_plugin.h>

#include <errno.h>
#include <nstack/hal_gone.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf_pool_ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define FRAME_ROOM 2048u /* of a packet, when the MTU asks for no more */
#define LINK_EXTRA 26u   /* Ethernet header, two tags, FCS */
#define PAGE 4096u

static const uint64_t rx_wanted = RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM |
				  RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t csum_both = RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t super_all = RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
				  RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

/* --- closing ------------------------------------------------------------------------------- */

static void queue_close(struct dpdk_port *p, struct dpdk_queue *q)
{
	while (q->npending)
		rte_pktmbuf_free(q->pending[--q->npending]);
	if (q->epfd < 0)
		return;
	if (p->cfg.disown_fd)
		p->cfg.disown_fd(p->cfg.arg, q->epfd);
	close(q->epfd);
}

static void port_close(struct hal_port *hp)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	struct rte_eth_dev_info info;

	if (p->started)
		rte_eth_dev_stop(p->id);
	for (uint32_t i = 0; p->queue && i < p->hal.nqueues; i++)
		queue_close(p, &p->queue[i]);
	if (p->id != RTE_MAX_ETHPORTS && !rte_eth_dev_info_get(p->id, &info)) {
		rte_eth_dev_close(p->id);
		rte_dev_remove(info.device);
	}
	rte_mempool_free(p->pool);
	free(p->queue);
	free(p);
}

/* --- statistics, link ---------------------------------------------------------------------- */

static int port_stats(struct hal_port *hp, uint32_t qi, struct hal_queue_stats *out)
{
	struct dpdk_port *p = dpdk_port_of(hp);
	struct rte_eth_stats st;

	*out = p->queue[qi].st;
	/* the device's losses are counted for all queues together: shown with the first */
	if (qi || rte_eth_stats_get(p->id, &st))
		return 0;
	out->rx_dropped += st.ierrors;
	out->rx_ring_full = st.imissed;
	out->rx_fill_empty = st.rx_nombuf;
	out->tx_errors += st.oerrors;
	return 0;
}

static bool port_link(struct hal_port *hp)
{
	struct rte_eth_link link;

	return !rte_eth_link_get_nowait(dpdk_port_of(hp)->id, &link) && link.link_status == RTE_ETH_LINK_UP;
}

static uint32_t port_sockets(struct hal_port *hp, int *fds, uint32_t n)
{
	struct dpdk_port *p = dpdk_port_of(hp);

	for (uint32_t i = 0; i < n && i < p->nwake; i++)
		fds[i] = p->wake_fd[i];
	return p->nwake < n ? p->nwake : n;
}

static const struct hal_ops ops = {
	.name = "dpdk",
	.close = port_close,
	.rx_burst = dpdk_rx_burst,
	.rx_release = dpdk_rx_release,
	.tx_alloc = dpdk_tx_alloc,
	.tx_free = dpdk_tx_free,
	.tx_burst = dpdk_tx_burst,
	.tx_flush = dpdk_tx_flush,
	.tx_super = dpdk_tx_super,
	.arm = dpdk_arm,
	.stats = port_stats,
	.next_due = dpdk_next_due,
};

/* --- a port that the process no longer has (after fork) ------------------------------------- */

static void gone_close(struct hal_port *hp)
{
	free(dpdk_port_of(hp)->queue);
	free(hp);
}

static const struct hal_ops gone_ops = HAL_GONE("dpdk (the parent's)", gone_close);

/* DPDK's descriptors and shared memory stay open in the child: who closed them there would close what
 * the driver finds by number in the parent's memory. */
static void port_forget(struct hal_port *hp)
{
	hp->ops = &gone_ops;
	dpdk_eal_forget();
}

/* --- opening ------------------------------------------------------------------------------- */

static int device_probe(struct dpdk_port *p, const char *device, char *why)
{
	struct rte_dev_iterator it;
	uint16_t id;
	int r;

	dpdk_eal_words();
	r = rte_dev_probe(device);

	/* a PCI device may be there already: DPDK was allowed to have it when it started */
	if (r && r != -EEXIST) {
		const char *words = dpdk_eal_words();

		return dpdk_why(why, r, "DPDK has no device \"%.80s\": %.120s", device,
				words[0] ? words : strerror(-r));
	}
	RTE_ETH_FOREACH_MATCHING_DEV(id, device, &it) {
		p->id = id;
		rte_eth_iterator_cleanup(&it);
		return 0;
	}
	return dpdk_why(why, -ENODEV, "device \"%s\" has no Ethernet port", device);
}

static uint32_t ring_size(uint32_t want, const struct rte_eth_desc_lim *lim)
{
	uint32_t n = want ? want : DPDK_RING;

	if (lim->nb_max && n > lim->nb_max)
		n = lim->nb_max;
	if (n < lim->nb_min)
		n = lim->nb_min;
	return lim->nb_align ? n / lim->nb_align * lim->nb_align : n;
}

static int configure(struct dpdk_port *p, const struct rte_eth_dev_info *info, bool interrupts)
{
	struct rte_eth_conf conf = { .intr_conf.rxq = interrupts };

	if (p->cfg.mtu)
		conf.rxmode.mtu = p->cfg.mtu;
	p->rx_offloads = conf.rxmode.offloads = info->rx_offload_capa & rx_wanted;
	p->tx_offloads = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if ((info->tx_offload_capa & csum_both) == csum_both)
		p->tx_offloads |= csum_both;
	if ((info->tx_offload_capa & super_all) == super_all && !p->cfg.no_super) {
		p->tx_offloads |= super_all;
		p->super_segs = info->tx_desc_lim.nb_seg_max ? info->tx_desc_lim.nb_seg_max : UINT16_MAX;
	}
	conf.txmode.offloads = p->tx_offloads;
	if (p->hal.nqueues > 1 && info->flow_type_rss_offloads) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	}
	return rte_eth_dev_configure(p->id, (uint16_t)p->hal.nqueues, (uint16_t)p->hal.nqueues, &conf);
}

/* Bytes of a buffer's data, headroom included. A buffer never crosses a page, so with ordinary pages each
 * takes one anyway; and net_af_xdp takes them to lie side by side without gaps. So let them fill pages. */
static uint16_t data_room(uint32_t room)
{
	uint32_t want = RTE_PKTMBUF_HEADROOM + room, page = PAGE;
	uint32_t all = rte_mempool_calc_obj_size(sizeof(struct rte_mbuf) + want, RTE_MEMPOOL_F_NO_SPREAD, NULL);

	while (page < all)
		page *= 2;
	return (uint16_t)(want + (page - all));
}

/* As rte_pktmbuf_pool_create(), without the gaps that spread buffers over memory channels. DPDK keeps the
 * cache for the threads that it knows, which is the one that started it. */
static struct rte_mempool *pool_new(const char *name, uint32_t n, uint16_t data)
{
	struct rte_pktmbuf_pool_private priv = { .mbuf_data_room_size = data };
	struct rte_mempool *mp = rte_mempool_create_empty(name, n, sizeof(struct rte_mbuf) + data, DPDK_CACHE,
							  sizeof(priv), SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_SPREAD);
	int r;

	if (!mp)
		return NULL;
	r = rte_mempool_set_ops_byname(mp, rte_mbuf_best_mempool_ops(), NULL);
	rte_pktmbuf_pool_init(mp, &priv);
	if (!r)
		r = rte_mempool_populate_default(mp);
	if (r < 0) {
		rte_mempool_free(mp);
		rte_errno = -r;
		return NULL;
	}
	rte_mempool_obj_iter(mp, rte_pktmbuf_init, NULL);
	return mp;
}

static int pool_make(struct dpdk_port *p, uint32_t rx_ring, uint32_t tx_ring, uint16_t mtu, char *why)
{
	uint16_t data = data_room(mtu + LINK_EXTRA > FRAME_ROOM ? mtu + LINK_EXTRA : FRAME_ROOM);
	uint32_t n = p->hal.nqueues * dpdk_frames(&p->cfg, rx_ring, tx_ring);
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "nstack%u", p->id);
	p->pool = pool_new(name, n, data);
	if (!p->pool)
		return dpdk_why(why, -rte_errno, "no memory for %u packet buffers of %u bytes: %s", n, data,
				rte_strerror(rte_errno));
	p->hal.max_frame = data - RTE_PKTMBUF_HEADROOM;
	return 0;
}

static int queues_setup(struct dpdk_port *p, const struct rte_eth_dev_info *info, char *why)
{
	uint32_t rx = ring_size(p->cfg.rx_ring, &info->rx_desc_lim);
	uint32_t tx = ring_size(p->cfg.tx_ring, &info->tx_desc_lim);
	uint16_t mtu = RTE_ETHER_MTU;
	int r;

	rte_eth_dev_get_mtu(p->id, &mtu);
	p->super_frame = mtu + (strcmp(info->driver_name, "net_tap") ? RTE_ETHER_HDR_LEN : 0);
	r = p->pool ? 0 : pool_make(p, rx, tx, mtu, why);
	for (uint16_t q = 0; !r && q < p->hal.nqueues; q++) {
		r = rte_eth_rx_queue_setup(p->id, q, (uint16_t)rx, SOCKET_ID_ANY, NULL, p->pool);
		if (!r)
			r = rte_eth_tx_queue_setup(p->id, q, (uint16_t)tx, SOCKET_ID_ANY, NULL);
		if (r)
			dpdk_why(why, r, "queue %u: %s %s", q, strerror(-r), dpdk_eal_words());
	}
	return r;
}

static int start(struct dpdk_port *p, char *why)
{
	int r = rte_eth_dev_start(p->id);

	if (r)
		return dpdk_why(why, r, "the device does not start: %s %s", strerror(-r), dpdk_eal_words());
	p->started = true;
	rte_eth_promiscuous_disable(p->id);
	rte_eth_allmulticast_enable(p->id); /* the kernel's side joins groups; it gets them all */
	return 0;
}

/* refused: not the queues were the obstacle. */
static int setup(struct dpdk_port *p, bool interrupts, bool *refused, char *why)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	int r = rte_eth_dev_info_get(p->id, &info);

	*refused = true;

	if (r)
		return dpdk_why(why, r, "the device says nothing of itself: %s", strerror(-r));
	r = configure(p, &info, interrupts);
	if (r)
		return dpdk_why(why, r, "the device refuses its configuration: %s %s", strerror(-r),
				dpdk_eal_words());
	r = queues_setup(p, &info, why);
	*refused = !r;
	if (!r)
		r = start(p, why);
	if (!r && rte_eth_macaddr_get(p->id, &mac))
		r = dpdk_why(why, -EIO, "the device has no MAC address");
	if (!r)
		memcpy(p->hal.mac, mac.addr_bytes, 6);
	return r;
}

/* --- waking -------------------------------------------------------------------------------- */

static bool epoll_add(int epfd, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return !epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
}

static void queue_wake(struct dpdk_port *p, uint32_t qi)
{
	struct dpdk_queue *q = &p->queue[qi];
	int fd = epoll_create1(EPOLL_CLOEXEC);

	q->epfd = fd >= 0 && p->cfg.own_fd ? p->cfg.own_fd(p->cfg.arg, fd) : fd;
	fd = rte_eth_dev_rx_intr_ctl_q_get_fd(p->id, (uint16_t)qi);
	if (fd >= 0 && epoll_add(q->epfd, fd)) {
		q->wake = DPDK_WAKE_INTR;
		return;
	}
	for (uint32_t i = 0; i < p->nwake; i++)
		if (epoll_add(q->epfd, p->wake_fd[i]))
			q->wake = DPDK_WAKE_FD;
}

static void describe(struct dpdk_port *p, const char *device)
{
	static const char *const waking[] = {
		[DPDK_WAKE_TIMER] = "the driver tells nobody of packets: looked for every millisecond when idle",
		[DPDK_WAKE_FD] = "woken by the driver's socket",
		[DPDK_WAKE_INTR] = "woken by interrupts",
	};
	bool af_packet = !strncmp(device, "net_af_packet", 13) || !strncmp(device, "net_af_xdp", 10) ||
			 !strncmp(device, "net_virtio", 10);

	p->hal.ops = &ops;
	/* such sockets get what a sender on this machine left to do */
	p->hal.caps = (p->tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS ? HAL_CAP_MULTIBUF : 0) |
		      ((p->tx_offloads & csum_both) == csum_both ? HAL_CAP_TX_CSUM : 0) |
		      (p->super_segs ? HAL_CAP_SUPERFRAME : 0) | (af_packet ? HAL_CAP_RX_CSUM_PARTIAL : 0);
	if (p->cfg.ifname) {
		snprintf(p->hal.ifname, sizeof(p->hal.ifname), "%s", p->cfg.ifname);
		p->hal.ifindex = if_nametoindex(p->cfg.ifname);
	} else {
		snprintf(p->hal.ifname, sizeof(p->hal.ifname), "dpdk%u", p->id);
	}
	snprintf(p->hal.mode, sizeof(p->hal.mode), "dpdk, %.*s", (int)strcspn(device, ","), device);
	snprintf(p->hal.mode_why, sizeof(p->hal.mode_why), "%s; DPDK device %.60s", waking[p->queue[0].wake], device);
}

static uint32_t queues_wanted(struct dpdk_port *p)
{
	struct rte_eth_dev_info info;
	uint32_t n = p->cfg.queues ? p->cfg.queues : 1;

	if (rte_eth_dev_info_get(p->id, &info))
		return 1;
	if (!strcmp(info.driver_name, "net_af_xdp")) /* the interface fills all that the device's arguments name */
		n = info.max_rx_queues;
	if (n > info.max_rx_queues)
		n = info.max_rx_queues;
	return n > info.max_tx_queues ? info.max_tx_queues : n;
}

static int build(struct dpdk_port *p, const char *device, char *why)
{
	int r = dpdk_eal_start(&p->cfg, why);
	bool refused;

	if (!r)
		r = device_probe(p, device, why);
	if (r)
		return r;
	p->hal.nqueues = queues_wanted(p);
	p->queue = calloc(p->hal.nqueues, sizeof(*p->queue));
	if (!p->queue)
		return dpdk_why(why, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < p->hal.nqueues; i++)
		p->queue[i].epfd = -1;
	r = setup(p, true, &refused, why);
	if (r && refused && !p->started) /* some drivers refuse to have interrupts, others ignore the wish */
		r = setup(p, false, &refused, why);
	return r;
}

static int port_open(struct hal_port **out, const struct hal_dpdk_config *cfg, char *why)
{
	struct dpdk_port *p = calloc(1, sizeof(*p));
	const char *device = cfg->devices[cfg->device];
	struct dpdk_fds fds;
	int r;

	if (!p)
		return dpdk_why(why, -ENOMEM, "out of memory");
	p->id = RTE_MAX_ETHPORTS;
	p->cfg = *cfg;
	dpdk_fds_begin(&fds, cfg);
	r = build(p, device, why);
	p->nwake = dpdk_fds_end(&fds, cfg, p->wake_fd);
	if (r) {
		port_close(&p->hal);
		return r;
	}
	for (uint32_t i = 0; i < p->hal.nqueues; i++)
		queue_wake(p, i);
	describe(p, device);
	*out = &p->hal;
	return 0;
}

__attribute__((visibility("default"))) extern const struct dpdk_plugin nstack_dpdk_plugin;
const struct dpdk_plugin nstack_dpdk_plugin = {
	.version = DPDK_PLUGIN_VERSION,
	.config_size = sizeof(struct hal_dpdk_config),
	.open = port_open,
	.forget = port_forget,
	.link = port_link,
	.sockets = port_sockets,
	.thread_call = dpdk_eal_thread_call,
};
