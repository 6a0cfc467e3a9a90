// SPDX-License-Identifier: Apache-2.0
/* hal_wrap/hal_pcap.c - capture to pcapng (draft-ietf-opsawg-pcapng)
 *
 * Blocks: section header, one interface description (name, nanosecond time), an enhanced packet
 * per packet with its direction, and at the end interface statistics with the count of those
 * left out. Native byte order, which the section header's magic tells. Runs in the worker's
 * thread; the only system calls are the clock (once a burst) and the buffer's writing.
 */
#define _GNU_SOURCE
#include "hal_wrap/hal_pcap.h"
#include "hal_wrap/hal_wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <nstack/fd_host.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TX_CHUNK 256u
#define DIR_IN 1u
#define DIR_OUT 2u

struct pcap_port {
	struct hal_wrap w; /* first */
	int fd;
	bool fifo;
	uint32_t snaplen, size, used;
	struct hal_pcap_stats st;
	uint8_t *buf;
};

static struct pcap_port *self(struct hal_port *p)
{
	return (struct pcap_port *)p;
}

/* --- buffer -------------------------------------------------------------------------------- */

/* A pipe whose reader left raises SIGPIPE, which would kill the program that we live in. */
static ssize_t write_fifo(int fd, const void *p, size_t n)
{
	struct timespec zero = { 0, 0 };
	sigset_t pipe_set, old, pending;
	ssize_t r;
	int err;

	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	r = write(fd, p, n);
	err = errno;
	if (r < 0 && err == EPIPE && !sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe_set, NULL, &zero);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = err;
	return r;
}

static void flush(struct pcap_port *c)
{
	uint32_t done = 0;
	ssize_t r;

	while (done < c->used && !c->st.error) {
		if (c->fifo)
			r = write_fifo(c->fd, c->buf + done, c->used - done);
		else
			r = send(c->fd, c->buf + done, c->used - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0 && errno == ENOTSOCK)
			r = write(c->fd, c->buf + done, c->used - done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && (errno == EAGAIN || errno == ENOBUFS))
			break;
		if (r <= 0)
			c->st.error = r ? errno : EIO;
		else
			done += r;
	}
	if (c->st.error)
		c->used = 0;
	else if (done) {
		memmove(c->buf, c->buf + done, c->used - done);
		c->used -= done;
	}
}

static void put(struct pcap_port *c, const void *p, uint32_t n)
{
	memcpy(c->buf + c->used, p, n);
	c->used += n;
}
static void put32(struct pcap_port *c, uint32_t v)
{
	put(c, &v, 4);
}
static void pad4(struct pcap_port *c)
{
	static const uint8_t zero[4];

	put(c, zero, -c->used & 3);
}
static void option(struct pcap_port *c, uint16_t code, const void *p, uint16_t n)
{
	put32(c, code | (uint32_t)n << 16); /* two 16-bit fields: little endian hosts only */
	if (n)
		put(c, p, n);
	pad4(c);
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "option() packs two fields");

/* --- blocks -------------------------------------------------------------------------------- */

static uint32_t block_begin(struct pcap_port *c, uint32_t type)
{
	uint32_t at = c->used;

	put32(c, type);
	put32(c, 0);
	return at;
}
static void block_end(struct pcap_port *c, uint32_t at)
{
	uint32_t len = c->used + 4 - at;

	memcpy(c->buf + at + 4, &len, 4);
	put32(c, len);
}

static void header_blocks(struct pcap_port *c)
{
	uint32_t at = block_begin(c, 0x0a0d0d0a);
	uint64_t unknown_len = UINT64_MAX;
	uint8_t nanoseconds = 9;

	put32(c, 0x1a2b3c4d);
	put32(c, 1);
	put(c, &unknown_len, 8);
	option(c, 4, "nstack", 6); /* shb_userappl */
	option(c, 0, NULL, 0);
	block_end(c, at);
	at = block_begin(c, 1);
	put32(c, 1); /* LINKTYPE_ETHERNET */
	put32(c, c->snaplen);
	option(c, 2, c->w.hal.ifname, strlen(c->w.hal.ifname)); /* if_name */
	option(c, 9, &nanoseconds, 1);                      /* if_tsresol */
	option(c, 0, NULL, 0);
	block_end(c, at);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void time_put(struct pcap_port *c, uint64_t ns)
{
	put32(c, ns >> 32);
	put32(c, (uint32_t)ns);
}

static void statistics_block(struct pcap_port *c)
{
	uint32_t at;

	if (c->size - c->used < 128)
		return;
	at = block_begin(c, 5);
	put32(c, 0);
	time_put(c, now_ns());
	option(c, 4, &c->st.packets, 8); /* isb_ifrecv */
	option(c, 5, &c->st.dropped, 8); /* isb_ifdrop */
	option(c, 0, NULL, 0);
	block_end(c, at);
}

static void packet(struct pcap_port *c, const struct iovec *iov, int n, uint64_t ns, uint32_t dir)
{
	uint32_t len = 0, keep, left, at;
	int i;

	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	keep = c->snaplen && len > c->snaplen ? c->snaplen : len;
	if (c->st.error || c->size - c->used < keep + 64) {
		c->st.dropped++;
		return;
	}
	at = block_begin(c, 6);
	put32(c, 0);
	time_put(c, ns);
	put32(c, keep);
	put32(c, len);
	for (i = 0, left = keep; left; i++) {
		uint32_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

		put(c, iov[i].iov_base, part);
		left -= part;
	}
	pad4(c);
	option(c, 2, &dir, 4); /* epb_flags: direction in the low two bits */
	option(c, 0, NULL, 0);
	block_end(c, at);
	c->st.packets++;
}

/* One packet of f; returns its frames. */
static uint32_t frames(struct pcap_port *c, const struct hal_frame *f, uint32_t n, uint64_t ns,
		       uint32_t dir)
{
	struct iovec iov[32];
	uint32_t i, k = 0;

	for (i = 0; i < n; i++) {
		if (k < 32)
			iov[k++] = (struct iovec){ f[i].data, f[i].len };
		if (!(f[i].flags & HAL_F_MORE)) {
			i++;
			break;
		}
	}
	packet(c, iov, k, ns, dir);
	return i;
}

/* --- the port ------------------------------------------------------------------------------ */

static uint32_t rx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct pcap_port *c = self(p);
	uint32_t got = hal_rx_burst(c->w.lower, q, f, n), i = 0;
	uint64_t ns;

	if (!got)
		return 0;
	ns = now_ns();
	while (i < got)
		i += frames(c, f + i, got - i, ns, DIR_IN);
	if (c->used > c->size / 2)
		flush(c);
	return got;
}

/* Frames are ours to read only before the lower port has them; how many it takes is known only
 * after. So: capture all, then take back what wasn't sent. */
static uint32_t tx_some(struct pcap_port *c, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct { uint32_t used; struct hal_pcap_stats st; } before[TX_CHUNK];
	uint64_t ns = now_ns();
	uint32_t i = 0, k, sent;

	while (i < n) {
		k = i;
		before[k].used = c->used;
		before[k].st = c->st;
		i += frames(c, f + i, n - i, ns, DIR_OUT);
	}
	sent = hal_tx_burst(c->w.lower, q, f, n);
	if (sent < n) {
		c->used = before[sent].used;
		c->st = before[sent].st;
	}
	return sent;
}

static uint32_t tx_burst(struct hal_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct pcap_port *c = self(p);
	uint32_t done = 0, k, sent;

	while (done < n) {
		k = n - done < TX_CHUNK ? n - done : TX_CHUNK;
		while (k && (f[done + k - 1].flags & HAL_F_MORE))
			k--; /* whole packets */
		if (!k)
			break;
		sent = tx_some(c, q, f + done, k);
		done += sent;
		if (sent < k)
			break;
	}
	return done;
}
static void tx_flush(struct hal_port *p, uint32_t q)
{
	hal_tx_flush(self(p)->w.lower, q);
	if (self(p)->used > self(p)->size / 2)
		flush(self(p));
}
static int tx_super(struct hal_port *p, uint32_t q, const struct hal_super *s)
{
	struct pcap_port *c = self(p);
	int r = hal_tx_super(c->w.lower, q, s);

	if (!r)
		packet(c, s->iov, s->iovcnt, now_ns(), DIR_OUT);
	return r;
}
static int arm(struct hal_port *p, uint32_t q)
{
	flush(self(p)); /* going to sleep: let the reader see everything */
	return hal_arm(self(p)->w.lower, q);
}
static void pcap_close(struct hal_port *p)
{
	hal_close(hal_pcap_unwrap(p));
}

static const struct hal_ops ops = {
	.name = "capture", .close = pcap_close, .rx_burst = rx_burst, .rx_release = hal_wrap_rx_release,
	.tx_alloc = hal_wrap_tx_alloc, .tx_free = hal_wrap_tx_free, .tx_burst = tx_burst, .tx_flush = tx_flush,
	.tx_super = tx_super, .arm = arm, .stats = hal_wrap_stats, .next_due = hal_wrap_next_due,
};

int hal_pcap_wrap(struct hal_port **out, struct hal_port *lower, const struct hal_pcap_config *cfg)
{
	struct pcap_port *c = calloc(1, sizeof(*c));
	struct stat sb;

	if (!c || fstat(cfg->fd, &sb)) {
		int r = c ? -errno : -ENOMEM;

		free(c);
		nst_fd_close(cfg->fd);
		return r;
	}
	c->size = cfg->buffer ? cfg->buffer : 4u << 20;
	if (c->size < 4096)
		c->size = 4096;
	c->buf = malloc(c->size);
	if (!c->buf) {
		free(c);
		nst_fd_close(cfg->fd);
		return -ENOMEM;
	}
	c->w.hal = *lower;
	c->w.hal.ops = &ops;
	c->w.lower = lower;
	c->fd = cfg->fd;
	c->fifo = S_ISFIFO(sb.st_mode);
	/* traffic never waits for a reader; nobody else writes to that end of the pipe */
	if (c->fifo)
		fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
	c->snaplen = cfg->snaplen;
	header_blocks(c);
	flush(c);
	*out = &c->w.hal;
	return 0;
}

struct hal_port *hal_pcap_unwrap(struct hal_port *p)
{
	struct pcap_port *c = self(p);
	struct hal_port *lower = c->w.lower;

	flush(c);
	statistics_block(c);
	flush(c);
	nst_fd_close(c->fd);
	free(c->buf);
	free(c);
	return lower;
}

void hal_pcap_stats(struct hal_port *p, struct hal_pcap_stats *out)
{
	*out = self(p)->st;
}
