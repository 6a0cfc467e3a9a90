// SPDX-License-Identifier: Apache-2.0
/* tests/bench/fwd_hal.c - forward every frame back, MACs swapped: through hal.h over hal_xdp
 *
 *   fwd_hal IFNAME SECONDS [native]   one core, spinning; prints packets per second
 *   fwd_hal DEVICE SECONDS dpdk       the same through hal_dpdk
 *   fwd_hal gen IFNAME DMAC SECONDS SIZE   sends frames as fast as it can
 *   fwd_hal live IFNAME DMAC SECONDS SIZE  the same by XDP live frames, to a native peer
 *   fwd_hal super IFNAME DMAC SECONDS SIZE super-frames (UDP, 1472 bytes each) instead
 *
 * Received frames go back to the fill ring and sent ones come from the transmit pool, so hal.h
 * copies where the raw loop passes the frame on.
 */
#include "tests/bench/fwd_xsk.h"

#include <arpa/inet.h>
#include <hal_dpdk/hal_dpdk.h>
#include <hal_xdp/hal_xdp.h>

static struct redirect red;

static int publish(void *arg, uint32_t queue, int fd)
{
	return redirect_xsk(&red, queue, fd);
}

static uint32_t forward(struct hal_port *p)
{
	struct hal_frame rx[RAW_BATCH], tx[RAW_BATCH];
	uint32_t n = hal_rx_burst(p, 0, rx, RAW_BATCH), i, got, sent;

	if (!n)
		return 0;
	got = hal_tx_alloc(p, 0, tx, n);
	for (i = 0; i < got; i++) {
		tx[i].len = rx[i].len < tx[i].room ? rx[i].len : tx[i].room;
		memcpy(tx[i].data, rx[i].data, tx[i].len);
		swap_bytes(tx[i].data, tx[i].data + 6, 6);
	}
	hal_rx_release(p, 0, rx, n);
	sent = hal_tx_burst(p, 0, tx, got);
	if (sent < got)
		hal_tx_free(p, 0, tx + sent, got - sent);
	hal_tx_flush(p, 0);
	return sent;
}

static int run_forward(struct hal_port *p, double seconds)
{
	struct hal_queue_stats st, st0 = { 0 };
	uint64_t packets = 0, rounds = 0;
	double start = 0, now, end = now_s() + seconds;

	for (;;) {
		packets += forward(p);
		if (!start && packets > 10000) {
			start = now_s();
			packets = 0;
			hal_stats(p, 0, &st0);
		}
		if ((++rounds & 1023) == 0 && (now = now_s()) > end)
			break;
	}
	hal_stats(p, 0, &st);
	printf("{\"pps\":%.0f,\"kicks\":%llu,\"packets\":%llu,\"no_frame\":%llu,\"ring_full\":%llu}\n",
	       start ? packets / (now - start) : 0, (unsigned long long)(st.tx_kicks - st0.tx_kicks),
	       (unsigned long long)packets, (unsigned long long)(st.tx_no_frame - st0.tx_no_frame),
	       (unsigned long long)(st.rx_ring_full - st0.rx_ring_full));
	return 0;
}

static void template(uint8_t *f, const char *dmac, uint32_t len)
{
	unsigned m[6] = { 0 }, i;
	uint32_t s = 0;

	sscanf(dmac, "%x:%x:%x:%x:%x:%x", m, m + 1, m + 2, m + 3, m + 4, m + 5);
	memset(f, 0, len);
	for (i = 0; i < 6; i++)
		f[i] = m[i];
	memcpy(f + 6, "\x02\0\0\0\0\x99", 6); /* nobody's: what is sent back is dropped early */
	f[12] = 8;
	f[14] = 0x45;
	f[16] = (len - 14) >> 8;
	f[17] = (uint8_t)(len - 14);
	f[22] = 64;
	f[23] = 17;
	memcpy(f + 26, "\xc6\x12\x4d\x01\xc6\x12\x4d\x02", 8);
	for (i = 14; i < 34; i += 2)
		s += f[i] << 8 | f[i + 1];
	s = (s & 0xffff) + (s >> 16);
	s = ~((s & 0xffff) + (s >> 16));
	f[24] = s >> 8;
	f[25] = s;
	f[35] = 9;
	f[37] = 9;
	f[38] = (len - 34) >> 8;
	f[39] = (uint8_t)(len - 34);
}

static int run_gen(struct hal_port *p, const char *dmac, double seconds, uint32_t size)
{
	double end = now_s() + seconds, start = now_s();
	struct hal_frame f[RAW_BATCH];
	uint64_t packets = 0, rounds = 0;
	uint8_t pkt[2048];
	uint32_t n, i;

	template(pkt, dmac, size);
	while ((++rounds & 63) || now_s() < end) {
		n = hal_tx_alloc(p, 0, f, RAW_BATCH);
		for (i = 0; i < n; i++) {
			memcpy(f[i].data, pkt, size);
			f[i].len = size;
		}
		i = hal_tx_burst(p, 0, f, n);
		hal_tx_free(p, 0, f + i, n - i);
		hal_tx_flush(p, 0);
		packets += i;
	}
	printf("{\"pps\":%.0f}\n", packets / (now_s() - start));
	return 0;
}

static int run_live(const char *ifname, const char *dmac, double seconds, uint32_t size)
{
	uint8_t pkt[2048];
	double pps;

	template(pkt, dmac, size);
	pps = redirect_source(if_nametoindex(ifname), pkt, size, seconds);
	if (pps < 0)
		fprintf(stderr, "fwd_hal: live frames: %s\n", strerror((int)-pps));
	printf("{\"pps\":%.0f}\n", pps);
	return pps < 0;
}

static int run_super(struct hal_port *p, const char *dmac, double seconds, uint32_t size)
{
	double end = now_s() + seconds, start = now_s();
	static uint8_t pkt[70000];
	struct iovec iov[2] = { { pkt, 42 }, { pkt + 42, size - 42 } };
	struct hal_super s = { .iov = iov, .iovcnt = 2, .gso = HAL_GSO_UDP, .gso_size = 1472,
			       .hdr_len = 42, .csum_start = 34, .csum_offset = 6 };
	uint64_t bytes = 0, again = 0;

	template(pkt, dmac, size);
	while (now_s() < end) {
		int r = hal_tx_super(p, 0, &s);

		if (!r)
			bytes += size;
		else if (r == -EAGAIN)
			again++;
		else
			break;
	}
	printf("{\"gbit\":%.1f,\"again\":%llu}\n", bytes * 8 / 1e9 / (now_s() - start),
	       (unsigned long long)again);
	return 0;
}

static int forward_dpdk(const char *device, double seconds)
{
	struct hal_dpdk_config cfg = { .devices = &device, .ndevices = 1 };
	char why[HAL_DPDK_WHY];
	struct hal_port *p;
	int e;

	if (hal_dpdk_open(&p, &cfg, why)) {
		fprintf(stderr, "fwd_hal: %s\n", why);
		return 1;
	}
	e = run_forward(p, seconds);
	hal_close(p);
	return e;
}

int main(int argc, char **argv)
{
	bool gen = argc > 5 && !strcmp(argv[1], "gen"), sup = argc > 5 && !strcmp(argv[1], "super");
	struct hal_xdp_config cfg = { .no_share = true };
	uint32_t size = gen || sup ? atoi(argv[5]) : 0;
	char why[HAL_XDP_WHY];
	struct hal_port *p;
	int e = 0;

	if (argc > 5 && !strcmp(argv[1], "live") && atoi(argv[5]) >= 60 && atoi(argv[5]) <= 1514)
		return run_live(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
	if (argc > 3 && !strcmp(argv[3], "dpdk"))
		return forward_dpdk(argv[1], atof(argv[2]));
	if (argc < 3 || (gen && (size < 60 || size > 2000)) || (sup && (size < 100 || size > 65000)))
		return 2;
	cfg.ifname = argv[gen || sup ? 2 : 1];
	if (!gen && !sup) {
		e = redirect_open(&red, if_nametoindex(cfg.ifname),
				  argc > 3 && !strcmp(argv[3], "native"));
		if (!e)
			e = redirect_port(&red, 0, 0);
		cfg.publish = publish;
	}
	if (e) {
		fprintf(stderr, "fwd_hal: %s: %s\n", cfg.ifname, strerror(-e));
		return 1;
	}
	if (hal_xdp_open(&p, &cfg, why)) {
		fprintf(stderr, "fwd_hal: %s\n", why);
		return 1;
	}
	e = gen ? run_gen(p, argv[3], atof(argv[4]), size) :
	    sup ? run_super(p, argv[3], atof(argv[4]), size) : run_forward(p, atof(argv[2]));
	hal_close(p);
	return e;
}
