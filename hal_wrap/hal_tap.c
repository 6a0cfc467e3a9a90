/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_tap.c - a port whose other packets go to the kernel, by a TAP device
 *
 * Writing to the TAP is a system call for each packet that is the kernel's; the stack's own pass by.
 * From the TAP is read when it is time: at every look after a pause, and else every LOOK_NS, so that a
 * worker that spins makes no system call each time round. A sleeper is woken by the TAP as by the
 * device: hal_arm() is an epoll of both.
 *
 * Checksums: what a sender on this machine left unfinished (HAL_CAP_RX_CSUM_PARTIAL) the kernel would
 * take for damage if it weren't told; a virtio header before each packet tells it. The kernel's own
 * packets come complete, since the TAP was opened without offloads.
 *
 * Threads: as hal.h says, one at a time.
 */
#define _GNU_SOURCE
#include "hal_wrap/hal_tap.h"
#include "hal_wrap/hal_wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 10000u        /* between looks at the TAP while there is no pause */
#define LINK_NS 1000000000u   /* between looks at the link */
#define BURST 32u
#define PACKET_FRAMES 32u     /* of a packet for the kernel; one with more is lost */
#define ROUNDS 8u             /* bursts without a packet for the stack, before others get a turn */
#define QUEUES_MAX 64u

struct tap_port {
	struct hal_wrap w; /* first */
	struct hal_tap_config cfg;
	struct hal_tap_steer steer;
	uint64_t to_kernel_lost, from_kernel_lost; /* packets */
	int fd;                /* the TAP */
	int epfd[QUEUES_MAX];  /* -1 = none */
	struct hal_frame spare; /* for what is read next; handle 0 and data NULL = none */
	uint64_t looked, link_looked; /* CLOCK_MONOTONIC, ns */
	bool link, more;       /* more: rounds ended early */
};

static struct tap_port *self(struct hal_port *p)
{
	return (struct tap_port *)p;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- to the kernel ------------------------------------------------------------------------- */

static uint32_t sum16(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return sum;
}

/* Does the checksum field hold the sum of the pseudo-header alone? Headers within the first part. */
static bool csum_partial_at(const uint8_t *addrs, uint32_t addrs_len, uint8_t proto, uint32_t l4_len,
			    const uint8_t *field)
{
	uint32_t sum = sum16(addrs, addrs_len, proto + l4_len);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == ((uint32_t)field[0] << 8 | field[1]);
}

static void csum_tell(struct virtio_net_hdr *h, const uint8_t *p, uint32_t len, uint32_t l4, uint8_t proto,
		      const uint8_t *addrs, uint32_t addrs_len, uint32_t l4_len)
{
	uint32_t off = proto == IPPROTO_TCP ? 16 : proto == IPPROTO_UDP ? 6 : 0;

	if (!off || l4 + off + 2 > len || !csum_partial_at(addrs, addrs_len, proto, l4_len, p + l4 + off))
		return;
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->csum_start = (uint16_t)l4;
	h->csum_offset = (uint16_t)off;
}

static void header(struct virtio_net_hdr *h, const uint8_t *p, uint32_t len)
{
	uint32_t ihl, total;

	memset(h, 0, sizeof(*h));
	if (len >= 34 && p[12] == 0x08 && p[13] == 0x00) {
		ihl = (p[14] & 15u) * 4;
		total = (uint32_t)p[16] << 8 | p[17];
		if (ihl >= 20 && total >= ihl && !((p[20] & 0x3f) | p[21])) /* no fragment */
			csum_tell(h, p, len, 14 + ihl, p[23], p + 26, 8, total - ihl);
	} else if (len >= 54 && p[12] == 0x86 && p[13] == 0xdd) {
		csum_tell(h, p, len, 54, p[20], p + 22, 32, (uint32_t)p[18] << 8 | p[19]);
	}
}

static void to_kernel(struct tap_port *t, const struct hal_frame *f, uint32_t n)
{
	struct iovec iov[1 + PACKET_FRAMES];
	struct virtio_net_hdr h = { 0 };

	if (n > PACKET_FRAMES) {
		t->to_kernel_lost++;
		return;
	}
	if (t->w.hal.caps & HAL_CAP_RX_CSUM_PARTIAL)
		header(&h, f[0].data, f[0].len);
	iov[0] = (struct iovec){ &h, sizeof(h) };
	for (uint32_t i = 0; i < n; i++)
		iov[1 + i] = (struct iovec){ f[i].data, f[i].len };
	if (writev(t->fd, iov, (int)(1 + n)) < 0)
		t->to_kernel_lost++;
}

/* --- from the kernel ----------------------------------------------------------------------- */

static bool spare_ready(struct tap_port *t)
{
	return t->spare.data || hal_tx_alloc(t->w.lower, 0, &t->spare, 1) == 1;
}

/* One packet; false: there is none. */
static bool from_kernel_one(struct tap_port *t)
{
	struct virtio_net_hdr h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { t->spare.data, t->spare.room } };
	ssize_t n = readv(t->fd, iov, 2);

	if (n <= (ssize_t)sizeof(h))
		return false;
	t->spare.len = (uint32_t)n - sizeof(h);
	t->spare.flags = 0;
	if (hal_tx_burst(t->w.lower, 0, &t->spare, 1) == 1)
		t->spare.data = NULL;
	else
		t->from_kernel_lost++; /* the buffer is used again */
	return true;
}

static void from_kernel(struct tap_port *t)
{
	bool some = false;

	for (uint32_t i = 0; i < BURST && spare_ready(t) && from_kernel_one(t); i++)
		some = true;
	if (some)
		hal_tx_flush(t->w.lower, 0);
}

static void link_look(struct tap_port *t)
{
	bool link = !t->steer.link || t->steer.link(t->steer.arg);
	int carrier = link;

	if (link == t->link)
		return;
	t->link = link;
	ioctl(t->fd, TUNSETCARRIER, &carrier);
}

/* What is to be done besides packets. */
static void look(struct tap_port *t)
{
	uint64_t now = now_ns();

	if (now - t->looked < LOOK_NS)
		return;
	t->looked = now;
	from_kernel(t);
	if (t->steer.link && now - t->link_looked >= LINK_NS) {
		t->link_looked = now;
		link_look(t);
	}
}

/* --- receive ------------------------------------------------------------------------------- */

static enum hal_tap_verdict decide(struct tap_port *t, const struct hal_frame *f, uint32_t n)
{
	uint32_t len = 0;

	if (!t->steer.decide)
		return HAL_TAP_KERNEL;
	for (uint32_t i = 0; i < n; i++)
		len += f[i].len;
	return t->steer.decide(t->steer.arg, f[0].data, f[0].len, len);
}

/* The stack's packets move to the front, the others go; how many frames are the stack's. */
static uint32_t sort(struct tap_port *t, uint32_t q, struct hal_frame *f, uint32_t n)
{
	uint32_t kept = 0, end;
	enum hal_tap_verdict v;

	for (uint32_t i = 0; i < n; i = end) {
		for (end = i + 1; end < n && (f[end - 1].flags & HAL_F_MORE); end++)
			;
		v = decide(t, f + i, end - i);
		if (v == HAL_TAP_STACK) {
			if (kept != i)
				memmove(f + kept, f + i, (end - i) * sizeof(*f));
			kept += end - i;
			continue;
		}
		if (v == HAL_TAP_KERNEL)
			to_kernel(t, f + i, end - i);
		hal_rx_release(t->w.lower, q, f + i, end - i);
	}
	return kept;
}

static uint32_t rx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct tap_port *t = self(p);
	uint32_t got, kept = 0;

	if (q == 0)
		look(t);
	if (t->steer.sync)
		t->steer.sync(t->steer.arg);
	t->more = false;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		got = hal_rx_burst(t->w.lower, q, f, n);
		if (!got)
			return 0;
		kept = sort(t, q, f, got);
		if (kept)
			return kept;
	}
	t->more = true;
	return 0;
}

/* --- the rest ------------------------------------------------------------------------------ */

static int stats(struct hal_port *p, uint32_t q, struct hal_queue_stats *out)
{
	int r = hal_stats(self(p)->w.lower, q, out);

	if (q == 0) {
		out->rx_dropped += self(p)->to_kernel_lost;
		out->tx_errors += self(p)->from_kernel_lost;
	}
	return r;
}

static int arm(struct hal_port *p, uint32_t q)
{
	hal_arm(self(p)->w.lower, q);
	return self(p)->epfd[q];
}

static int next_due(struct hal_port *p, uint32_t q, uint64_t *ns)
{
	struct tap_port *t = self(p);

	*ns = hal_next_due(t->w.lower, q);
	if (t->more)
		*ns = 0;
	else if (q == 0 && t->steer.link && t->link_looked + LINK_NS < *ns)
		*ns = t->link_looked + LINK_NS;
	return 0;
}

/* --- life ---------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static int say(char *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, HAL_TAP_WHY, fmt, ap);
	va_end(ap);
	return err;
}

static int fd_own(struct tap_port *t, int fd)
{
	return fd >= 0 && t->cfg.own_fd ? t->cfg.own_fd(t->cfg.arg, fd) : fd;
}

static void fd_close(struct tap_port *t, int fd)
{
	if (fd < 0)
		return;
	if (t->cfg.disown_fd)
		t->cfg.disown_fd(t->cfg.arg, fd);
	close(fd);
}

static void fds_close(struct tap_port *t)
{
	for (uint32_t q = 0; q < QUEUES_MAX; q++) {
		fd_close(t, t->epfd[q]);
		t->epfd[q] = -1;
	}
	fd_close(t, t->fd);
	t->fd = -1;
}

static void tap_close(struct hal_port *p)
{
	struct tap_port *t = self(p);

	fds_close(t);
	if (t->w.lower && t->spare.data)
		hal_tx_free(t->w.lower, 0, &t->spare, 1);
	hal_close(t->w.lower);
	free(t);
}

static const struct hal_ops ops = {
	.name = "tap",
	.close = tap_close,
	.rx_burst = rx_burst,
	.rx_release = hal_wrap_rx_release,
	.tx_alloc = hal_wrap_tx_alloc,
	.tx_free = hal_wrap_tx_free,
	.tx_burst = hal_wrap_tx_burst,
	.tx_flush = hal_wrap_tx_flush,
	.tx_super = hal_wrap_tx_super,
	.arm = arm,
	.stats = stats,
	.next_due = next_due,
};

static int tap_make(struct tap_port *t, char *why)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int r;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", t->cfg.name);
	t->fd = fd_own(t, open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
	if (t->fd < 0)
		return say(why, -errno, "no TAP device: /dev/net/tun: %s", strerror(errno));
	if (ioctl(t->fd, TUNSETIFF, &ifr)) {
		r = -errno;
		return say(why, r, "TAP device %s: %s", t->cfg.name,
			   r == -EBUSY ? "another process has it, and with it the DPDK device" :
			   r == -EPERM ? "not permitted: needs CAP_NET_ADMIN" :
			   r == -EINVAL ? "there is an interface of this name that can't be opened as a TAP" : strerror(-r));
	}
	memcpy(t->w.hal.ifname, ifr.ifr_name, sizeof(t->w.hal.ifname));
	t->w.hal.ifindex = if_nametoindex(t->w.hal.ifname);
	return t->w.hal.ifindex ? 0 : say(why, -errno, "TAP device %s has gone", t->w.hal.ifname);
}

int hal_tap_open(struct hal_port **out, const struct hal_tap_config *cfg, char why[HAL_TAP_WHY])
{
	struct tap_port *t = calloc(1, sizeof(*t));
	int r;

	*out = NULL;
	if (!t)
		return say(why, -ENOMEM, "out of memory");
	t->cfg = *cfg;
	t->w.hal.ops = &ops;
	t->link = true; /* a TAP has one from the start */
	t->fd = -1;
	memset(t->epfd, -1, sizeof(t->epfd));
	r = tap_make(t, why);
	if (r) {
		tap_close(&t->w.hal);
		return r;
	}
	*out = &t->w.hal;
	return 0;
}

static int epoll_make(struct tap_port *t, uint32_t q)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd = hal_arm(t->w.lower, q);

	t->epfd[q] = fd_own(t, epoll_create1(EPOLL_CLOEXEC));
	if (t->epfd[q] < 0 || (fd >= 0 && epoll_ctl(t->epfd[q], EPOLL_CTL_ADD, fd, &ev)) ||
	    (q == 0 && epoll_ctl(t->epfd[q], EPOLL_CTL_ADD, t->fd, &ev)))
		return -errno;
	return 0;
}

/* The device's MAC address and MTU, and up. */
static int link_setup(struct tap_port *t, uint32_t mtu, char *why)
{
	struct ifreq ifr = { .ifr_mtu = (int)mtu };
	int s = fd_own(t, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), r = 0;

	memcpy(ifr.ifr_name, t->w.hal.ifname, IF_NAMESIZE);
	if (s < 0 || (mtu && ioctl(s, SIOCSIFMTU, &ifr)))
		r = say(why, -errno, "%s: MTU %u: %s", t->w.hal.ifname, mtu, strerror(errno));
	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, t->w.hal.mac, 6);
	if (!r && ioctl(s, SIOCSIFHWADDR, &ifr))
		r = say(why, -errno, "%s: the device's MAC address: %s", t->w.hal.ifname, strerror(errno));
	if (!r && (ioctl(s, SIOCGIFFLAGS, &ifr) || (ifr.ifr_flags |= IFF_UP, ioctl(s, SIOCSIFFLAGS, &ifr))))
		r = say(why, -errno, "%s: not brought up: %s", t->w.hal.ifname, strerror(errno));
	fd_close(t, s);
	return r;
}

int hal_tap_attach(struct hal_port *tap, struct hal_port *lower, uint32_t mtu, char why[HAL_TAP_WHY])
{
	struct tap_port *t = self(tap);
	struct hal_port hal = *lower;

	if (lower->nqueues > QUEUES_MAX) {
		hal_close(lower);
		return say(why, -EINVAL, "%s: more than %u queues", t->w.hal.ifname, QUEUES_MAX);
	}
	hal.ops = &ops;
	hal.ifindex = t->w.hal.ifindex;
	memcpy(hal.ifname, t->w.hal.ifname, sizeof(hal.ifname));
	t->w.hal = hal;
	t->w.lower = lower;
	for (uint32_t q = 0; q < lower->nqueues; q++)
		if (epoll_make(t, q))
			return say(why, -errno, "no descriptors: %s", strerror(errno));
	return link_setup(t, mtu, why);
}

void hal_tap_steer(struct hal_port *tap, const struct hal_tap_steer *s)
{
	self(tap)->steer = *s;
}

void hal_tap_forget_after_fork(struct hal_port *tap)
{
	struct tap_port *t = self(tap);

	/* the lower port answers for itself: it is a stub by now */
	t->steer = (struct hal_tap_steer){ 0 };
	t->spare.data = NULL;
	fds_close(t);
}
