// SPDX-License-Identifier: Apache-2.0
/* tests/bench/echo_raw.c - the least AF_XDP echo there can be, spinning: the floor for round trips
 *
 *   echo_raw IFNAME SECONDS [native]
 *
 * Sends every IPv4 UDP or TCP frame back with MACs, addresses and ports swapped; the UDP checksum
 * becomes 0 ("none"), since the received one may be unfinished. TCP gets what keeps an ordinary
 * client going, without any state: a SYN is answered by SYN|ACK, data by the same data, a FIN by a
 * FIN, all numbers taken from the segment itself; nothing is ever sent again. So ordinary clients
 * get their bytes back. Takes all frames of the interface: give the client a static neighbour.
 */
#include "tests/bench/fwd_xsk.h"

#include <arpa/inet.h>

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return ntohl(v);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

/* Checksum of the TCP segment at p + 34, len bytes, with its pseudo-header. */
static void tcp_sum(uint8_t *p, uint32_t len)
{
	uint64_t sum = htons(6) + htons((uint16_t)len);
	uint16_t w;

	p[50] = p[51] = 0;
	for (uint32_t i = 0; i < 8; i += 2) {
		memcpy(&w, p + 26 + i, 2);
		sum += w;
	}
	for (uint32_t i = 0; i + 1 < len; i += 2) {
		memcpy(&w, p + 34 + i, 2);
		sum += w;
	}
	if (len & 1)
		sum += p[34 + len - 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	w = (uint16_t)~sum;
	memcpy(p + 50, &w, 2);
}

static void touch_tcp(uint8_t *p, uint32_t len)
{
	uint32_t ip_len = (uint32_t)(p[16] << 8 | p[17]), hlen, data, seq, ack;
	uint8_t flags;

	if (len < 54 || ip_len < 40 || ip_len + 14 > len)
		return;
	hlen = (p[46] >> 4) * 4u;
	if (hlen < 20 || hlen > ip_len - 20)
		return;
	flags = p[47];
	data = ip_len - 20 - hlen;
	seq = get32(p + 38);
	ack = get32(p + 42);
	put32(p + 38, flags & 2 ? 0 : ack);
	put32(p + 42, seq + data + (flags & 2 ? 1 : 0) + (flags & 1));
	p[47] = (uint8_t)(flags | 16);
	if (flags & 2 && hlen > 24)
		memset(p + 58, 1, hlen - 24); /* keep MSS, which the kernel puts first */
	tcp_sum(p, ip_len - 20);
}

static void touch(uint8_t *p, uint32_t len)
{
	if (len < 42 || p[12] != 8 || p[13] || p[14] != 0x45)
		return;
	swap_bytes(p, p + 6, 6);
	swap_bytes(p + 26, p + 30, 4);
	swap_bytes(p + 34, p + 36, 2);
	if (p[23] == 17)
		p[40] = p[41] = 0;
	else if (p[23] == 6)
		touch_tcp(p, len);
}

int main(int argc, char **argv)
{
	uint64_t packets = 0, rounds = 0;
	struct raw r;
	double end;
	int e;

	if (argc < 3)
		return 2;
	e = raw_open(&r, argv[1], argc > 3 && !strcmp(argv[3], "native"));
	if (e) {
		fprintf(stderr, "echo_raw: %s: %s\n", argv[1], strerror(-e));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	end = now_s() + atof(argv[2]);
	while ((++rounds & 4095) || now_s() < end)
		packets += raw_round(&r, touch);
	printf("{\"packets\":%llu}\n", (unsigned long long)packets);
	return 0;
}
