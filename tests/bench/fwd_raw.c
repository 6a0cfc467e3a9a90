// SPDX-License-Identifier: Apache-2.0
/* tests/bench/fwd_raw.c - forward every frame back, MACs swapped: minimal libxdp loop
 *
 *   fwd_raw IFNAME SECONDS [native]     one core, spinning; prints packets per second
 */
#include "tests/bench/fwd_xsk.h"

static void touch(uint8_t *p, uint32_t len)
{
	swap_bytes(p, p + 6, 6);
}

int main(int argc, char **argv)
{
	uint64_t packets = 0, first_kicks = 0, rounds = 0;
	double start = 0, now, end;
	struct raw r;
	int e;

	if (argc < 3)
		return 2;
	e = raw_open(&r, argv[1], argc > 3 && !strcmp(argv[3], "native"));
	if (e) {
		fprintf(stderr, "fwd_raw: %s: %s\n", argv[1], strerror(-e));
		return 1;
	}
	end = now_s() + atof(argv[2]);
	for (;;) {
		uint32_t n = raw_round(&r, touch);

		packets += n;
		if (!start && packets > 10000) { /* warm */
			start = now_s();
			packets = 0;
			first_kicks = r.kicks;
		}
		if ((++rounds & 1023) == 0 && (now = now_s()) > end)
			break;
	}
	printf("{\"pps\":%.0f,\"kicks\":%llu,\"packets\":%llu}\n", start ? packets / (now - start) : 0,
	       (unsigned long long)(r.kicks - first_kicks), (unsigned long long)packets);
	return 0;
}
