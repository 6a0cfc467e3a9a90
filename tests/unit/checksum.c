/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/checksum.c - the checksum against a naive one, over lengths, alignments and chains */
#include "stacks/tcpip/checksum.h"

#include <stdio.h>
#include <stdlib.h>

static int failures;
static uint64_t rnd = 88172645463325252u;

#define CHECK(c, ...)                                                                              \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s: ", __FILE__, __LINE__, #c);                    \
			printf(__VA_ARGS__);                                                       \
			printf("\n");                                                              \
			if (++failures > 20)                                                       \
				exit(1);                                                           \
		}                                                                                  \
	} while (0)

static uint32_t next(void)
{
	rnd ^= rnd << 13;
	rnd ^= rnd >> 7;
	rnd ^= rnd << 17;
	return (uint32_t)(rnd >> 16);
}

/* RFC 1071 by its letter: 16-bit big-endian words; the result as it would be stored. */
static uint16_t naive(const uint8_t *p, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i += 2) {
		sum += (uint32_t)(p[i] << 8 | (i + 1 < len ? p[i + 1] : 0));
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return htons((uint16_t)~sum);
}

static void fill(uint8_t *p, uint32_t len)
{
	uint32_t kind = next() % 4;

	for (uint32_t i = 0; i < len; i++)
		p[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)next();
}

static void one(uint32_t len)
{
	uint32_t off = next() % 9, doff = next() % 9;
	/* exact allocations, so that a sanitizer sees a byte too many */
	uint8_t *p = malloc(off + len + 1), *d = malloc(doff + len + 1);
	uint16_t want;

	p += off;
	d[doff + len] = 0xa5;
	fill(p, len);
	want = naive(p, len);
	CHECK(csum_fold(csum_partial(p, len, 0)) == want, "len %u off %u", len, off);
	CHECK(csum_fold(csum_copy(d + doff, p, len, 0)) == want, "copy len %u", len);
	CHECK(!memcmp(d + doff, p, len) && d[doff + len] == 0xa5, "copied bytes, len %u", len);
	free(p - off);
	free(d);
}

static void chain(void)
{
	uint32_t len = next() % 5000, at = 0;
	uint8_t *p = malloc(len + 1);
	uint64_t sum = 0;

	fill(p, len);
	while (at < len) {
		uint32_t n = 1 + next() % 700;

		if (n > len - at)
			n = len - at;
		sum = csum_add_at(sum, csum_partial(p + at, n, 0), at);
		at += n;
	}
	CHECK(csum_fold(sum) == naive(p, len), "chain of %u", len);
	free(p);
}

static void pseudo(void)
{
	struct nst_addr a4 = { .family = AF_INET, .v4 = next() },
			b4 = { .family = AF_INET, .v4 = next() }, a6, b6;
	uint8_t h4[12], h6[40];
	uint32_t len = next() % 65536, be = htonl(len);

	memcpy(h4, &a4.v4, 4);
	memcpy(h4 + 4, &b4.v4, 4);
	h4[8] = 0;
	h4[9] = 17;
	h4[10] = (uint8_t)(len >> 8);
	h4[11] = (uint8_t)len;
	CHECK(csum_fold(csum_pseudo(&a4, &b4, 17, len)) == naive(h4, 12), "IPv4");
	memset(&a6, 0, sizeof(a6));
	a6.family = AF_INET6;
	b6 = a6;
	fill(a6.v6, 16);
	fill(b6.v6, 16);
	memcpy(h6, a6.v6, 16);
	memcpy(h6 + 16, b6.v6, 16);
	memcpy(h6 + 32, &be, 4);
	memset(h6 + 36, 0, 3);
	h6[39] = 58;
	CHECK(csum_fold(csum_pseudo(&a6, &b6, 58, len)) == naive(h6, 40), "IPv6");
}

/* A changed word, checked by verifying the whole: 0 and 0xffff are the same sum. */
static void replace(void)
{
	uint8_t b[40];
	uint16_t c, old16, new16 = (uint16_t)next();
	uint32_t old32, new32 = next();

	fill(b, sizeof(b));
	memset(b + 10, 0, 2);
	c = csum_fold(csum_partial(b, sizeof(b), 0));
	memcpy(&old16, b + 2, 2);
	memcpy(b + 2, &new16, 2);
	c = csum_replace16(c, old16, new16);
	memcpy(&old32, b + 20, 4);
	memcpy(b + 20, &new32, 4);
	c = csum_replace32(c, old32, new32);
	memcpy(b + 10, &c, 2);
	CHECK(naive(b, sizeof(b)) == 0, "after replacing, check %04x", c);
}

int main(void)
{
	static uint8_t ones[1 << 20];

	for (uint32_t len = 0; len < 400; len++)
		for (int i = 0; i < 40; i++)
			one(len);
	for (int i = 0; i < 3000; i++) {
		one(next() % 9100);
		chain();
		pseudo();
		replace();
	}
	one(65535);
	memset(ones, 0xff, sizeof(ones)); /* the most that can be carried */
	CHECK(csum_fold(csum_partial(ones, sizeof(ones), 0xffffffffu)) == naive(ones, 2), "ones");
	CHECK(csum_fold_udp(0xffff) == 0xffff && csum_fold(0xffff) == 0, "UDP's zero rule");
	if (!failures)
		printf("ok - checksum\n");
	return failures != 0;
}
