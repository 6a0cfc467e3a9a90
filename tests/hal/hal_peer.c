// SPDX-License-Identifier: Apache-2.0
/* tests/hal/hal_peer.c - a UDP echo server on a port, driven by commands on stdin
 *
 *   hal_peer IFNAME PORT SLOT [key=value ...]
 *   hal_peer DEVICE PORT 0 hal=dpdk [key=value ...]   a DPDK device instead of an interface
 *   keys: native=1 mode=copy|zc share=0 faults=SPEC capture=FILE snaplen=N hold=1 (never
 *         releases frames) rx_frames=N frame_size=N burst=N (taken at once) spin=1
 *         user=UID (given up root for it once the port is open)
 *
 * Echoes UDP datagrams to PORT (IPv4) and prints one JSON object per event or answer. Commands:
 *   stats             counters and frames
 *   super DMAC DIP DPORT SIP BYTES GSO   one UDP super-frame to a kernel peer
 *   tcp DMAC DIP DPORT SIP BYTES GSO     connect, send BYTES as one TCP super-frame, close; GSO 0: 1460
 *   burst DMAC DIP DPORT SIP COUNT SIZE  COUNT UDP datagrams, checksum left to the device
 *   pause / resume    stop and go on taking packets
 *   fork              fork a child that forgets the port and lives until stdin closes
 *   quit
 */
#define _GNU_SOURCE
#include <hal_dpdk/hal_dpdk.h>
#include <hal_wrap/hal_fault.h>
#include <hal_wrap/hal_pcap.h>
#include <hal_xdp/hal_xdp.h>
#include <tests/hal/redirect.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BURST 64

static struct {
	struct hal_port *port;  /* what we send and receive by: maybe wrapped */
	struct hal_port *base;
	struct redirect red;
	uint32_t udp_port, slot, burst;
	bool paused, spin, hold;
	uint64_t echoed, bytes, max_packet, bad;
	uint16_t tcp_sport;
	uint32_t tcp_ack, tcp_seq;   /* from the last SYN-ACK to us */
	bool tcp_synack;
} g;

static const char *opt(int argc, char **argv, const char *key, const char *dflt)
{
	size_t n = strlen(key);
	int i;

	for (i = 4; i < argc; i++)
		if (!strncmp(argv[i], key, n) && argv[i][n] == '=')
			return argv[i] + n + 1;
	return dflt;
}

static int publish(void *arg, uint32_t queue, int fd)
{
	return redirect_xsk(&g.red, g.slot + queue, fd);
}

static uint32_t sum_add(uint32_t s, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t i;

	for (i = 0; i + 1 < n; i += 2)
		s += b[i] << 8 | b[i + 1];
	return i < n ? s + (b[i] << 8) : s;
}
static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}
/* sum over the pseudo-header, not inverted: what HAL_F_CSUM_WANTED wants in the field */
static uint16_t pseudo(const struct iphdr *ip, uint32_t l4len)
{
	return htons(fold(sum_add(ip->protocol + l4len, &ip->saddr, 8)));
}

static void swap(void *a, void *b, size_t n)
{
	uint8_t t[8];

	memcpy(t, a, n);
	memcpy(a, b, n);
	memcpy(b, t, n);
}

/* --- echo ---------------------------------------------------------------------------------- */

/* Two bytes in, so that what follows the Ethernet header is aligned. */
static uint8_t flat_mem[70002] __attribute__((aligned(16)));
static uint8_t *const flat = flat_mem + 2;
#define FLAT_SIZE 70000u

/* The port can't: the field holds the pseudo-header's sum, as for one that can. */
static void csum_finish(uint32_t len, uint16_t csum_off)
{
	uint16_t sum = htons(~fold(sum_add(0, flat + 34, len - 34)));

	memcpy(flat + 34 + csum_off, &sum, sizeof(sum));
}

static void send_flat(uint32_t q, uint32_t len, uint16_t csum_off)
{
	struct hal_frame f[20];
	uint32_t n = (len + g.port->max_frame - 1) / g.port->max_frame, got, i, off = 0;

	got = hal_tx_alloc(g.port, q, f, n);
	if (got < n) {
		hal_tx_free(g.port, q, f, got);
		return;
	}
	if (!(g.port->caps & HAL_CAP_TX_CSUM))
		csum_finish(len, csum_off);
	for (i = 0; i < n; i++) {
		f[i].len = len - off < f[i].room ? len - off : f[i].room;
		memcpy(f[i].data, flat + off, f[i].len);
		off += f[i].len;
		f[i].flags = i + 1 < n ? HAL_F_MORE : 0;
	}
	if (g.port->caps & HAL_CAP_TX_CSUM)
		f[0].flags |= HAL_F_CSUM_WANTED;
	f[0].csum_start = 34;
	f[0].csum_offset = csum_off;
	got = hal_tx_burst(g.port, q, f, n);
	if (got < n)
		hal_tx_free(g.port, q, f + got, n - got);
}

static void one_packet(uint32_t q, uint32_t len)
{
	struct ethhdr *eth = (void *)flat;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if (len > g.max_packet)
		g.max_packet = len;
	if (len < 42 || eth->h_proto != htons(ETH_P_IP)) {
		g.bad++;
		return;
	}
	if (ip->protocol == IPPROTO_TCP && ntohs(tcp->dest) == g.tcp_sport && tcp->syn && tcp->ack) {
		g.tcp_synack = true;
		g.tcp_ack = ntohl(tcp->seq) + 1;
		g.tcp_seq = ntohl(tcp->ack_seq);
		return;
	}
	if (ip->protocol != IPPROTO_UDP || ntohs(udp->dest) != g.udp_port)
		return;
	g.echoed++;
	g.bytes += len;
	if (len > 65535 || (uint32_t)ntohs(ip->tot_len) + 14 > 1514)
		return; /* would need segmentation */
	swap(eth->h_dest, eth->h_source, 6);
	swap(&ip->saddr, &ip->daddr, 4);
	swap(&udp->source, &udp->dest, 2);
	udp->check = pseudo(ip, len - 34);
	send_flat(q, len, 6);
}

static uint32_t poll_queue(uint32_t q)
{
	struct hal_frame f[BURST];
	uint32_t n = hal_rx_burst(g.port, q, f, g.burst), i, len = 0;

	for (i = 0; i < n; i++) {
		if (len + f[i].len <= FLAT_SIZE)
			memcpy(flat + len, f[i].data, f[i].len);
		len += f[i].len;
		if (!(f[i].flags & HAL_F_MORE)) {
			one_packet(q, len);
			len = 0;
		}
	}
	if (n && !g.hold)
		hal_rx_release(g.port, q, f, n);
	hal_tx_flush(g.port, q);
	return n;
}

static void poll_all(void)
{
	uint32_t q;

	for (q = 0; q < g.port->nqueues; q++)
		while (poll_queue(q))
			;
}

/* --- commands ------------------------------------------------------------------------------ */

static void say_stats(const char *event)
{
	struct hal_xdp_frames fr = { 0 }, one;
	struct hal_queue_stats st = { 0 }, s;
	uint32_t q;

	for (q = 0; q < g.port->nqueues; q++) {
		hal_xdp_frames(g.base, q, &one);
		hal_stats(g.base, q, &s);
		fr.rx_total += one.rx_total;
		fr.rx_fill += one.rx_fill;
		fr.rx_ring += one.rx_ring;
		fr.rx_held += one.rx_held;
		fr.tx_total += one.tx_total;
		fr.tx_free += one.tx_free;
		fr.tx_sent += one.tx_sent;
		fr.rx_recovered += one.rx_recovered;
		st.rx_packets += s.rx_packets;
		st.tx_packets += s.tx_packets;
		st.tx_super_packets += s.tx_super_packets;
		st.rx_dropped += s.rx_dropped;
		st.rx_ring_full += s.rx_ring_full;
		st.rx_fill_empty += s.rx_fill_empty;
		st.tx_invalid += s.tx_invalid;
		st.tx_errors += s.tx_errors;
		st.tx_kicks += s.tx_kicks;
	}
	printf("{\"event\":\"%s\",\"pid\":%d,\"caps\":%u,\"queues\":%u,\"mode\":\"%s\","
	       "\"why\":\"%s\",\"echoed\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"max\":%" PRIu64
	       ",\"rx_total\":%u,\"rx_fill\":%u,\"rx_ring\":%u,\"rx_held\":%u,\"tx_total\":%u,"
	       "\"tx_free\":%u,\"tx_sent\":%u,\"recovered\":%" PRIu64 ",\"members\":%u,"
	       "\"slot\":%u,\"server\":%d,\"sweeping\":%d,\"rx_packets\":%" PRIu64
	       ",\"tx_packets\":%" PRIu64 ",\"tx_super\":%" PRIu64 ",\"rx_dropped\":%" PRIu64
	       ",\"ring_full\":%" PRIu64 ",\"fill_empty\":%" PRIu64 ",\"tx_invalid\":%" PRIu64
	       ",\"tx_errors\":%" PRIu64 ",\"tx_kicks\":%" PRIu64 "}\n",
	       event, getpid(), g.base->caps, g.base->nqueues, g.base->mode, g.base->mode_why,
	       g.echoed, g.bytes, g.max_packet, fr.rx_total, fr.rx_fill, fr.rx_ring, fr.rx_held,
	       fr.tx_total, fr.tx_free, fr.tx_sent, fr.rx_recovered, one.members, one.slot,
	       one.server, one.sweeping, st.rx_packets, st.tx_packets, st.tx_super_packets,
	       st.rx_dropped, st.rx_ring_full, st.rx_fill_empty, st.tx_invalid, st.tx_errors,
	       st.tx_kicks);
}

struct target {
	uint8_t mac[6];
	uint32_t dip, sip;
	uint16_t dport;
};

static uint32_t headers(const struct target *t, uint8_t proto, uint16_t sport, uint32_t payload)
{
	uint32_t l4 = proto == IPPROTO_UDP ? 8 : 20;
	struct ethhdr *eth = (void *)flat;
	struct iphdr *ip = (void *)(eth + 1);
	uint16_t *port = (void *)(ip + 1);

	memset(flat, 0, 60);
	memcpy(eth->h_dest, t->mac, 6);
	memcpy(eth->h_source, g.port->mac, 6);
	eth->h_proto = htons(ETH_P_IP);
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = proto,
			      .tot_len = htons(20 + l4 + payload),
			      .saddr = t->sip, .daddr = t->dip };
	ip->check = htons(~fold(sum_add(0, ip, 20)));
	port[0] = htons(sport);
	port[1] = htons(t->dport);
	return 34 + l4;
}

static int do_udp_super(const struct target *t, uint32_t bytes, uint32_t gso)
{
	uint32_t h = headers(t, IPPROTO_UDP, g.udp_port, bytes), i;
	struct udphdr *udp = (void *)(flat + 34);
	struct iovec iov[3];
	struct hal_super s = { .iov = iov, .iovcnt = 3, .gso = HAL_GSO_UDP, .gso_size = gso,
			       .hdr_len = h, .csum_start = 34, .csum_offset = 6 };

	udp->len = htons(8 + bytes);
	udp->check = pseudo((void *)(flat + 14), 8 + bytes);
	for (i = 0; i < bytes; i++)
		flat[h + i] = i / gso;
	iov[0] = (struct iovec){ flat, h };
	iov[1] = (struct iovec){ flat + h, bytes / 2 };
	iov[2] = (struct iovec){ flat + h + bytes / 2, bytes - bytes / 2 };
	return hal_tx_super(g.port, 0, &s);
}

static void tcp_header(const struct target *t, uint32_t seq, uint32_t ack, uint8_t flags,
		       uint32_t payload)
{
	struct tcphdr *tcp = (void *)(flat + 34);

	headers(t, IPPROTO_TCP, g.tcp_sport, payload);
	tcp->seq = htonl(seq);
	tcp->ack_seq = htonl(ack);
	tcp->doff = 5;
	((uint8_t *)tcp)[13] = flags;
	tcp->window = htons(65535);
	tcp->check = pseudo((void *)(flat + 14), 20 + payload);
}

static int do_tcp(const struct target *t, uint32_t bytes, uint32_t gso)
{
	struct hal_super s = { .iovcnt = 1, .gso = HAL_GSO_TCPV4, .gso_size = gso, .hdr_len = 54,
			       .csum_start = 34, .csum_offset = 16 };
	struct iovec iov = { flat, 54 + bytes };
	struct pollfd pfd = { .fd = hal_arm(g.port, 0), .events = POLLIN };
	uint32_t i;
	int tries, r;

	g.tcp_sport = g.udp_port;
	g.tcp_synack = false;
	tcp_header(t, 1000, 0, 2, 0); /* SYN */
	send_flat(0, 54, 16);
	hal_tx_flush(g.port, 0);
	for (tries = 0; tries < 20 && !g.tcp_synack; tries++) {
		poll(&pfd, 1, 100);
		poll_all();
	}
	if (!g.tcp_synack)
		return -ETIMEDOUT;
	tcp_header(t, g.tcp_seq, g.tcp_ack, 16, 0);
	send_flat(0, 54, 16);
	tcp_header(t, g.tcp_seq, g.tcp_ack, 24, bytes);
	for (i = 0; i < bytes; i++)
		flat[54 + i] = i * 7;
	s.iov = &iov;
	r = hal_tx_super(g.port, 0, &s);
	tcp_header(t, g.tcp_seq + bytes, g.tcp_ack, 17, 0); /* FIN */
	send_flat(0, 54, 16);
	hal_tx_flush(g.port, 0);
	return r;
}

static int do_burst(const struct target *t, uint32_t count, uint32_t size)
{
	uint32_t i, h;

	for (i = 0; i < count; i++) {
		struct udphdr *udp = (void *)(flat + 34);

		h = headers(t, IPPROTO_UDP, g.udp_port, size);
		memset(flat + h, i, size);
		udp->len = htons(8 + size);
		udp->check = pseudo((void *)(flat + 14), 8 + size);
		send_flat(0, h + size, 6);
		if (i % 32 == 31)
			hal_tx_flush(g.port, 0);
	}
	hal_tx_flush(g.port, 0);
	return 0;
}

static void do_fork(void)
{
	pid_t pid;
	char c;

	fflush(stdout);
	pid = fork();
	if (pid) {
		printf("{\"event\":\"forked\",\"pid\":%d}\n", pid);
		return;
	}
	if (!strcmp(g.base->ops->name, "dpdk"))
		hal_dpdk_forget_after_fork(g.base);
	else
		hal_xdp_forget_after_fork(g.base);
	if (hal_rx_burst(g.base, 0, NULL, 1) || hal_xdp_service_fd(g.base) != -1)
		_exit(1);
	hal_xdp_service(g.base);
	hal_close(g.base);
	while (read(0, &c, 1) > 0)
		;
	_exit(0);
}

static void command(char *line)
{
	char verb[16], mac[20], dip[20], sip[20];
	unsigned dport, a, b = 0, m[6], i;
	struct target t;
	int n, r = -EINVAL;

	if (sscanf(line, "%15s", verb) != 1)
		return;
	n = sscanf(line, "%*s %19s %19s %u %19s %u %u", mac, dip, &dport, sip, &a, &b);
	if (n >= 5 && sscanf(mac, "%x:%x:%x:%x:%x:%x", m, m + 1, m + 2, m + 3, m + 4, m + 5) == 6) {
		for (i = 0; i < 6; i++)
			t.mac[i] = m[i];
		t.dip = inet_addr(dip);
		t.sip = inet_addr(sip);
		t.dport = dport;
		r = !strcmp(verb, "super") ? do_udp_super(&t, a, b) :
		    !strcmp(verb, "tcp") ? do_tcp(&t, a, b ? b : 1460) : do_burst(&t, a, b);
		printf("{\"event\":\"%s\",\"result\":%d}\n", verb, r);
	} else if (!strcmp(verb, "stats")) {
		say_stats("stats");
	} else if (!strcmp(verb, "pause") || !strcmp(verb, "resume")) {
		g.paused = verb[0] == 'p';
		printf("{\"event\":\"%s\"}\n", verb);
	} else if (!strcmp(verb, "fork")) {
		do_fork();
	} else {
		printf("{\"event\":\"unknown\",\"line\":\"%s\"}\n", verb);
	}
}

/* False at end of file or `quit`. */
static bool commands(void)
{
	static char buf[4096];
	static size_t have;
	ssize_t n = read(0, buf + have, sizeof(buf) - 1 - have);
	char *nl;

	if (n <= 0)
		return false;
	have += n;
	buf[have] = 0;
	while ((nl = strchr(buf, '\n'))) {
		*nl = 0;
		if (!strcmp(buf, "quit"))
			return false;
		command(buf);
		have -= nl + 1 - buf;
		memmove(buf, nl + 1, have + 1);
	}
	return true;
}

static int timeout_ms(void)
{
	struct timespec ts;
	uint64_t due = UINT64_MAX, now, one;
	uint32_t q;

	if (g.spin)
		return 0;
	for (q = 0; q < g.port->nqueues; q++) {
		one = hal_next_due(g.port, q);
		due = one < due ? one : due;
	}
	if (due == UINT64_MAX)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec * 1000000000ull + ts.tv_nsec;
	return due <= now ? 0 : (due - now) / 1000000 + 1;
}

static void loop(void)
{
	struct pollfd pfd[2 + HAL_XDP_QUEUES_MAX];
	uint32_t q, n = g.port->nqueues;

	pfd[0] = (struct pollfd){ .fd = 0, .events = POLLIN };
	pfd[1] = (struct pollfd){ .fd = hal_xdp_service_fd(g.base), .events = POLLIN };
	for (;;) {
		if (!g.paused)
			poll_all();
		for (q = 0; q < n; q++)
			pfd[2 + q] = (struct pollfd){ .fd = g.paused ? -1 : hal_arm(g.port, q),
						      .events = POLLIN };
		poll(pfd, 2 + n, timeout_ms());
		if (pfd[1].revents)
			hal_xdp_service(g.base);
		if (pfd[0].revents && !commands())
			return;
	}
}

static int wrap(int argc, char **argv)
{
	const char *faults = opt(argc, argv, "faults", NULL), *cap = opt(argc, argv, "capture", NULL);
	struct hal_fault_config fc;
	char why[256];
	int r = 0;

	g.port = g.base;
	if (faults) {
		r = hal_fault_parse(&fc, faults, why);
		if (r)
			printf("{\"event\":\"error\",\"why\":\"%s\"}\n", why);
		else
			r = hal_fault_wrap(&g.port, g.port, &fc);
	}
	if (!r && cap) {
		struct hal_pcap_config pc = {
			.fd = open(cap, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644),
			.snaplen = atoi(opt(argc, argv, "snaplen", "0")),
		};

		r = hal_pcap_wrap(&g.port, g.port, &pc);
	}
	return r;
}

static int open_xdp(int argc, char **argv)
{
	struct hal_xdp_config cfg = { .publish = publish };
	char why[HAL_XDP_WHY];
	int r;

	cfg.ifname = argv[1];
	cfg.rx_frames = atoi(opt(argc, argv, "rx_frames", "0"));
	cfg.frame_size = atoi(opt(argc, argv, "frame_size", "0"));
	cfg.no_share = !atoi(opt(argc, argv, "share", "1"));
	cfg.mode = *opt(argc, argv, "mode", "a") == 'z' ? HAL_XDP_ZEROCOPY :
		   *opt(argc, argv, "mode", "a") == 'c' ? HAL_XDP_COPY : HAL_XDP_AUTO;
	r = redirect_open(&g.red, if_nametoindex(argv[1]), atoi(opt(argc, argv, "native", "0")));
	if (r) {
		printf("{\"event\":\"error\",\"why\":\"attach: %s\"}\n", strerror(-r));
		return r;
	}
	r = hal_xdp_open(&g.base, &cfg, why);
	if (r)
		printf("{\"event\":\"error\",\"errno\":%d,\"why\":\"%s\"}\n", -r, why);
	else
		redirect_port(&g.red, g.udp_port, g.slot);
	return r;
}

static int open_dpdk(int argc, char **argv)
{
	const char *device = argv[1];
	struct hal_dpdk_config cfg = {
		.devices = &device, .ndevices = 1,
		.eal = opt(argc, argv, "eal", NULL),
		.frames = atoi(opt(argc, argv, "rx_frames", "0")),
		.queues = atoi(opt(argc, argv, "queues", "0")),
		.mtu = atoi(opt(argc, argv, "mtu", "0")),
	};
	char why[HAL_DPDK_WHY], *quote;
	int r = hal_dpdk_open(&g.base, &cfg, why);

	while (r && (quote = strchr(why, '"')))
		*quote = '\'';
	if (r)
		printf("{\"event\":\"error\",\"errno\":%d,\"why\":\"%s\"}\n", -r, why);
	return r;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	g.udp_port = atoi(argv[2]);
	g.slot = atoi(argv[3]);
	g.spin = atoi(opt(argc, argv, "spin", "0"));
	g.hold = atoi(opt(argc, argv, "hold", "0"));
	g.burst = atoi(opt(argc, argv, "burst", "64"));
	if (!g.burst || g.burst > BURST)
		return 2;
	if (*opt(argc, argv, "hal", "x") == 'd' ? open_dpdk(argc, argv) : open_xdp(argc, argv))
		return 1;
	if (setuid(atoi(opt(argc, argv, "user", "0"))))
		return 1;
	if (wrap(argc, argv))
		return 1;
	say_stats("ready");
	loop();
	say_stats("end");
	hal_close(g.port);
	return 0;
}
