// SPDX-License-Identifier: Apache-2.0
/* tests/bench/echo_raw.c - the least AF_XDP echo there can be, spinning: the floor for round trips
 *
 *   echo_raw IFNAME SECONDS [native]
 *
 * Sends every IPv4 UDP or TCP frame back with MACs, addresses and ports swapped; the UDP checksum
 * becomes 0 ("none"), since the received one may be unfinished. So an ordinary UDP client gets
 * its datagrams back. Takes all frames of the interface: give the client a static neighbour.
 */
#include "tests/bench/fwd_xsk.h"

static void touch(uint8_t *p, uint32_t len)
{
	if (len < 42 || p[12] != 8 || p[13] || p[14] != 0x45)
		return;
	swap_bytes(p, p + 6, 6);
	swap_bytes(p + 26, p + 30, 4);
	swap_bytes(p + 34, p + 36, 2);
	if (p[23] == 17)
		p[40] = p[41] = 0;
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
