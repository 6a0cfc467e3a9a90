/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_mem.c - two ports in memory, wired to each other; for tests
 *
 * A packet travels as one allocation of exactly its length, and each received frame is an
 * allocation of its own, so that an address sanitizer sees a stack that reads past the end. What
 * is sent waits in the sender until tx_flush(), as in a driver that kicks once per burst: a
 * caller that forgets to flush is found out.
 *
 * Threads: one for each port, or one for both; the wire's lock guards the queues. Not here:
 * speed. Nothing else in the project allocates per packet.
 */
#include "hal_wrap/hal_mem.h"

#include "stacks/tcpip/checksum.h"

#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ETH_LEN 14u

struct mem_pkt {
	struct mem_pkt *next;
	uint32_t len;
	uint8_t pad[6]; /* so that the IP header is aligned for our own use of it */
	uint8_t data[];
};

struct mem_list {
	struct mem_pkt *first, **last;
	uint32_t n;
};

struct wire {
	pthread_mutex_t lock;
	struct hal_mem_config cfg;
	struct mem_list way[2];     /* way[i]: on the way to port i */
	struct mem_pkt *delayed[2]; /* the same, held back */
	int evfd[2];
	unsigned refs;
};

struct mem_port {
	struct hal_port port;
	struct wire *wire;
	int dir;                 /* 0 or 1; the peer is the other */
	struct mem_list pending; /* sent, not flushed */
	uint32_t rx_out, tx_out; /* frames in the caller's hands */
	struct hal_queue_stats st;
};

static struct mem_port *mem_of(struct hal_port *p)
{
	return (struct mem_port *)p;
}

static void list_init(struct mem_list *l)
{
	l->first = NULL;
	l->last = &l->first;
	l->n = 0;
}

static void list_add(struct mem_list *l, struct mem_pkt *k)
{
	k->next = NULL;
	*l->last = k;
	l->last = &k->next;
	l->n++;
}

static struct mem_pkt *list_take(struct mem_list *l)
{
	struct mem_pkt *k = l->first;

	if (!k)
		return NULL;
	l->first = k->next;
	if (!l->first)
		l->last = &l->first;
	l->n--;
	return k;
}

static void list_free(struct mem_list *l)
{
	struct mem_pkt *k;

	while ((k = list_take(l)))
		free(k);
}

static struct mem_pkt *pkt_new(uint32_t len)
{
	struct mem_pkt *k = malloc(offsetof(struct mem_pkt, data) + len);

	if (!k)
		abort();
	k->len = len;
	return k;
}

static struct mem_pkt *pkt_copy(const struct mem_pkt *k)
{
	struct mem_pkt *c = pkt_new(k->len);

	memcpy(c->data, k->data, k->len);
	return c;
}

/* --- the wire ------------------------------------------------------------------------------ */

static void wire_put_locked(struct mem_port *from, struct mem_pkt *k)
{
	struct wire *w = from->wire;
	int to = !from->dir;

	if (w->way[to].n >= w->cfg.wire) {
		from->st.tx_errors++;
		free(k);
		return;
	}
	list_add(&w->way[to], k);
	if (w->way[to].n == 1)
		eventfd_write(w->evfd[to], 1);
}

static void wire_release_locked(struct mem_port *from)
{
	struct wire *w = from->wire;
	struct mem_pkt *k = w->delayed[!from->dir];

	w->delayed[!from->dir] = NULL;
	if (k)
		wire_put_locked(from, k);
}

static void wire_send(struct mem_port *from, struct mem_pkt *k)
{
	struct wire *w = from->wire;
	enum hal_mem_action act = HAL_MEM_PASS;

	from->st.tx_packets++;
	from->st.tx_bytes += k->len;
	if (w->cfg.hook)
		act = w->cfg.hook(w->cfg.hook_arg, from->dir, k->data, k->len);
	if (act == HAL_MEM_DROP) {
		free(k);
		return;
	}
	pthread_mutex_lock(&w->lock);
	if (act == HAL_MEM_DELAY && !w->delayed[!from->dir]) {
		w->delayed[!from->dir] = k;
	} else {
		if (act == HAL_MEM_DUP)
			wire_put_locked(from, pkt_copy(k));
		wire_put_locked(from, k);
		wire_release_locked(from);
	}
	pthread_mutex_unlock(&w->lock);
}

void hal_mem_release_delayed(struct hal_port *port)
{
	struct mem_port *m = mem_of(port);

	pthread_mutex_lock(&m->wire->lock);
	wire_release_locked(m);
	pthread_mutex_unlock(&m->wire->lock);
}

/* --- receive ------------------------------------------------------------------------------- */

static uint32_t rx_split(struct mem_port *m, const struct mem_pkt *k, struct hal_frame *f,
			 uint32_t room)
{
	uint32_t size = m->wire->cfg.frame_size, n = (k->len + size - 1) / size, at = 0;

	if (!n || n > room)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = k->len - at < size ? k->len - at : size;
		uint8_t *p = malloc(len);

		if (!p)
			abort();
		memcpy(p, k->data + at, len);
		f[i] = (struct hal_frame){ .data = p, .len = len, .handle = (uintptr_t)p,
					   .flags = i + 1 < n ? HAL_F_MORE : 0 };
		at += len;
	}
	return n;
}

static uint32_t mem_rx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct mem_port *m = mem_of(p);
	struct wire *w = m->wire;
	uint32_t got = 0;

	pthread_mutex_lock(&w->lock);
	while (w->way[m->dir].first && m->rx_out + got < w->cfg.frames) {
		struct mem_pkt *k = w->way[m->dir].first;
		uint32_t pieces = (k->len + w->cfg.frame_size - 1) / w->cfg.frame_size;
		bool lost = pieces > 1 && !(p->caps & HAL_CAP_MULTIBUF);

		if (!lost && !rx_split(m, k, f + got, n - got))
			break;
		list_take(&w->way[m->dir]);
		if (lost) {
			m->st.rx_dropped++;
		} else {
			m->st.rx_packets++;
			m->st.rx_bytes += k->len;
			m->st.rx_frames += pieces;
			got += pieces;
		}
		free(k);
	}
	if (!w->way[m->dir].first) {
		eventfd_t v;

		eventfd_read(w->evfd[m->dir], &v);
	}
	pthread_mutex_unlock(&w->lock);
	m->rx_out += got;
	return got;
}

static void mem_rx_release(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free((void *)(uintptr_t)f[i].handle);
	mem_of(p)->rx_out -= n;
}

/* --- transmit ------------------------------------------------------------------------------ */

static uint32_t mem_tx_alloc(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct mem_port *m = mem_of(p);
	uint32_t i;

	for (i = 0; i < n && m->tx_out < m->wire->cfg.frames; i++, m->tx_out++) {
		uint8_t *d = malloc(m->wire->cfg.frame_size);

		if (!d)
			abort();
		f[i] = (struct hal_frame){ .data = d, .room = m->wire->cfg.frame_size,
					   .handle = (uintptr_t)d };
	}
	if (i < n)
		m->st.tx_no_frame++;
	return i;
}

static void mem_tx_free(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		free((void *)(uintptr_t)f[i].handle);
	mem_of(p)->tx_out -= n;
}

/* Finish a checksum as the device would. */
static void finish_csum(struct mem_pkt *k, uint16_t start, uint16_t offset, bool udp)
{
	uint64_t sum;
	uint16_t c;

	if ((uint32_t)start + offset + 2 > k->len)
		return;
	sum = csum_partial(k->data + start, k->len - start, 0);
	c = udp ? csum_fold_udp(sum) : csum_fold(sum);
	memcpy(k->data + start + offset, &c, 2);
}

/* frames f[0..n) are one packet. */
static bool mem_tx_one(struct mem_port *m, const struct hal_frame *f, uint32_t n)
{
	uint32_t len = 0, at = 0;
	struct mem_pkt *k;

	for (uint32_t i = 0; i < n; i++)
		len += f[i].len;
	if ((n > 1 && !(m->port.caps & HAL_CAP_MULTIBUF)) || len < ETH_LEN ||
	    (m->wire->cfg.mtu && len > m->wire->cfg.mtu + ETH_LEN) ||
	    (f[0].flags & HAL_F_CSUM_WANTED && !(m->port.caps & HAL_CAP_TX_CSUM))) {
		m->st.tx_invalid++;
		return true; /* taken, and lost */
	}
	if (m->pending.n >= m->wire->cfg.wire) {
		m->st.tx_ring_full++;
		return false;
	}
	k = pkt_new(len);
	for (uint32_t i = 0; i < n; i++) {
		memcpy(k->data + at, f[i].data, f[i].len);
		at += f[i].len;
	}
	if (f[0].flags & HAL_F_CSUM_WANTED && m->wire->cfg.fill_csum)
		finish_csum(k, f[0].csum_start, f[0].csum_offset, f[0].csum_offset == 6);
	list_add(&m->pending, k);
	m->st.tx_frames += n;
	return true;
}

static uint32_t mem_tx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	uint32_t done = 0, i = 0;

	while (i < n) {
		while (i < n && f[i].flags & HAL_F_MORE)
			i++;
		if (i == n)
			break; /* half a packet: the caller's error, it keeps it */
		i++;
		if (!mem_tx_one(mem_of(p), f + done, i - done))
			break;
		mem_tx_free(p, q, f + done, i - done);
		done = i;
	}
	return done;
}

static void mem_tx_flush(struct hal_port *p, uint32_t q)
{
	struct mem_port *m = mem_of(p);
	struct mem_pkt *k;

	if (m->pending.n)
		m->st.tx_kicks++;
	while ((k = list_take(&m->pending)))
		wire_send(m, k);
}

/* --- super-frames -------------------------------------------------------------------------- */

/* Make segment number i of the super-packet whole, with sizes, sequence and checksums its own. */
static struct mem_pkt *super_cut(const struct mem_pkt *whole, const struct hal_super *s, uint32_t at,
				 uint32_t len, uint32_t i, bool last)
{
	struct mem_pkt *k = pkt_new(s->hdr_len + len);
	uint8_t *l3 = k->data + ETH_LEN, *l4 = k->data + s->csum_start;
	uint16_t l4len = (uint16_t)(s->hdr_len - s->csum_start + len), c;
	bool v6 = (l3[0] = whole->data[ETH_LEN]) >> 4 == 6, udp = s->gso == HAL_GSO_UDP;
	struct nst_addr src = { .family = v6 ? AF_INET6 : AF_INET }, dst = src;
	uint64_t sum;

	memcpy(k->data, whole->data, s->hdr_len);
	memcpy(k->data + s->hdr_len, whole->data + at, len);
	if (v6) {
		struct ip6_hdr *ip6 = (void *)l3;

		ip6->ip6_plen = htons((uint16_t)(k->len - ETH_LEN - sizeof(*ip6)));
		memcpy(src.v6, &ip6->ip6_src, 16);
		memcpy(dst.v6, &ip6->ip6_dst, 16);
	} else {
		struct iphdr *ip = (void *)l3;

		ip->tot_len = htons((uint16_t)(k->len - ETH_LEN));
		ip->id = htons((uint16_t)(ntohs(ip->id) + i));
		ip->check = 0;
		ip->check = csum_fold(csum_partial(ip, ip->ihl * 4u, 0));
		memcpy(&src.v4, &ip->saddr, 4);
		memcpy(&dst.v4, &ip->daddr, 4);
	}
	sum = csum_pseudo(&src, &dst, udp ? IPPROTO_UDP : IPPROTO_TCP, l4len);
	if (udp) {
		((struct udphdr *)(void *)l4)->len = htons(l4len);
	} else {
		struct tcphdr *th = (void *)l4;

		th->seq = htonl(ntohl(th->seq) + (at - s->hdr_len));
		if (!last)
			th->fin = th->psh = 0;
	}
	memset(l4 + s->csum_offset, 0, 2);
	c = csum_fold(csum_partial(l4, l4len, sum));
	if (udp && !c)
		c = 0xffff;
	memcpy(l4 + s->csum_offset, &c, 2);
	return k;
}

static int mem_tx_super(struct hal_port *p, uint32_t q, const struct hal_super *s)
{
	struct mem_port *m = mem_of(p);
	uint32_t len = 0, at = 0, i = 0;
	struct mem_pkt *k;

	if (!(p->caps & HAL_CAP_SUPERFRAME))
		return -EOPNOTSUPP;
	for (int v = 0; v < s->iovcnt; v++)
		len += (uint32_t)s->iov[v].iov_len;
	if (s->iovcnt > HAL_SUPER_IOV || len > HAL_SUPER_MAX + ETH_LEN || s->hdr_len > len ||
	    s->iov[0].iov_len < s->hdr_len || s->csum_start + s->csum_offset + 2u > s->hdr_len ||
	    (s->gso && !s->gso_size)) {
		m->st.tx_invalid++;
		return -EINVAL;
	}
	mem_tx_flush(p, q);
	k = pkt_new(len);
	for (int v = 0; v < s->iovcnt; at += (uint32_t)s->iov[v++].iov_len)
		memcpy(k->data + at, s->iov[v].iov_base, s->iov[v].iov_len);
	m->st.tx_super_packets++;
	m->st.tx_super_bytes += len;
	if (!m->wire->cfg.split_super || !s->gso) {
		if (m->wire->cfg.fill_csum)
			finish_csum(k, s->csum_start, s->csum_offset, s->gso == HAL_GSO_UDP);
		wire_send(m, k);
		return 0;
	}
	for (at = s->hdr_len; at < len; at += s->gso_size, i++) {
		uint32_t part = len - at < s->gso_size ? len - at : s->gso_size;

		wire_send(m, super_cut(k, s, at, part, i, at + part == len));
	}
	free(k);
	return 0;
}

/* --- the rest ------------------------------------------------------------------------------ */

static int mem_arm(struct hal_port *p, uint32_t q)
{
	return mem_of(p)->wire->evfd[mem_of(p)->dir];
}

static int mem_stats(struct hal_port *p, uint32_t q, struct hal_queue_stats *out)
{
	*out = mem_of(p)->st;
	return 0;
}

uint32_t hal_mem_outstanding(const struct hal_port *port)
{
	const struct mem_port *m = (const struct mem_port *)port;

	return m->rx_out + m->tx_out;
}

static void wire_put_ref(struct wire *w)
{
	pthread_mutex_lock(&w->lock);
	if (--w->refs) {
		pthread_mutex_unlock(&w->lock);
		return;
	}
	pthread_mutex_unlock(&w->lock);
	for (int i = 0; i < 2; i++) {
		list_free(&w->way[i]);
		free(w->delayed[i]);
		if (w->evfd[i] >= 0)
			close(w->evfd[i]);
	}
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static void mem_close(struct hal_port *p)
{
	struct mem_port *m = mem_of(p);

	list_free(&m->pending);
	wire_put_ref(m->wire);
	free(m);
}

static const struct hal_ops mem_ops = {
	.name = "mem",
	.close = mem_close,
	.rx_burst = mem_rx_burst,
	.rx_release = mem_rx_release,
	.tx_alloc = mem_tx_alloc,
	.tx_free = mem_tx_free,
	.tx_burst = mem_tx_burst,
	.tx_flush = mem_tx_flush,
	.tx_super = mem_tx_super,
	.arm = mem_arm,
	.stats = mem_stats,
};

static struct mem_port *mem_port_new(struct wire *w, int dir)
{
	struct mem_port *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->wire = w;
	m->dir = dir;
	list_init(&m->pending);
	m->port.ops = &mem_ops;
	m->port.ifindex = 1 + (unsigned)dir;
	snprintf(m->port.ifname, sizeof(m->port.ifname), "mem%d", dir);
	m->port.mac[0] = 2;
	m->port.mac[5] = (uint8_t)(1 + dir);
	m->port.max_frame = (uint16_t)w->cfg.frame_size;
	m->port.nqueues = 1;
	m->port.caps = w->cfg.caps;
	snprintf(m->port.mode, sizeof(m->port.mode), "memory");
	snprintf(m->port.mode_why, sizeof(m->port.mode_why), "for tests");
	w->refs++;
	return m;
}

int hal_mem_pair(struct hal_port *ports[2], const struct hal_mem_config *cfg)
{
	struct wire *w = calloc(1, sizeof(*w));

	ports[0] = ports[1] = NULL;
	if (!w)
		return -ENOMEM;
	if (cfg)
		w->cfg = *cfg;
	w->cfg.frame_size = w->cfg.frame_size ? w->cfg.frame_size : 4096;
	w->cfg.frames = w->cfg.frames ? w->cfg.frames : 512;
	w->cfg.wire = w->cfg.wire ? w->cfg.wire : 256;
	pthread_mutex_init(&w->lock, NULL);
	list_init(&w->way[0]);
	list_init(&w->way[1]);
	w->evfd[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->evfd[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->refs = 1; /* ours, so that a failure below frees the wire */
	for (int i = 0; i < 2; i++)
		ports[i] = (struct hal_port *)mem_port_new(w, i);
	if (!ports[0] || !ports[1] || w->evfd[0] < 0 || w->evfd[1] < 0) {
		hal_close(ports[0]);
		hal_close(ports[1]);
		ports[0] = ports[1] = NULL;
		wire_put_ref(w);
		return -ENOMEM;
	}
	wire_put_ref(w);
	return 0;
}
