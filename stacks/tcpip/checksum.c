/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/checksum.c - internet checksum loops
 *
 * Sums 32-bit halves of 64-bit words into 64-bit accumulators, so no carry is ever lost and the
 * loop has no dependency but the addition. Long pieces use four lanes at once; on x86-64 a
 * second copy of that loop is compiled for AVX2 and chosen by a flag that the C run-time keeps
 * (an ifunc would run before the sanitizers and preloading programs are ready for it).
 *
 * Pure functions: any thread.
 */
#include "stacks/tcpip/checksum.h"

#include <string.h>

#define WIDE_MIN 96 /* bytes from which the wide loop pays */

typedef uint64_t lanes __attribute__((vector_size(32)));

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Multiples of 64 bytes, copying to d unless it is NULL (a constant for each caller). */
static inline __attribute__((always_inline)) uint64_t wide(uint8_t *d, const uint8_t *s, uint32_t n)
{
	const lanes low = { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff };
	lanes a0 = { 0 }, a1 = { 0 }, b0 = { 0 }, b1 = { 0 }, v, w;

	for (uint32_t i = 0; i < n; i += 64) {
		memcpy(&v, s + i, 32);
		memcpy(&w, s + i + 32, 32);
		if (d) {
			memcpy(d + i, &v, 32);
			memcpy(d + i + 32, &w, 32);
		}
		a0 += v & low;
		a1 += v >> 32;
		b0 += w & low;
		b1 += w >> 32;
	}
	a0 += a1 + b0 + b1;
	return a0[0] + a0[1] + a0[2] + a0[3];
}

static uint64_t wide_sum_any(const uint8_t *s, uint32_t n)
{
	return wide(NULL, s, n);
}

static uint64_t wide_copy_any(uint8_t *d, const uint8_t *s, uint32_t n)
{
	return wide(d, s, n);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t wide_sum_avx2(const uint8_t *s, uint32_t n)
{
	return wide(NULL, s, n);
}

__attribute__((target("avx2"))) static uint64_t wide_copy_avx2(uint8_t *d, const uint8_t *s,
							       uint32_t n)
{
	return wide(d, s, n);
}
#define WIDE(avx2, any) (__builtin_cpu_supports("avx2") ? (avx2) : (any))
#else
#define WIDE(avx2, any) (any)
#endif

/* Fewer than a wide step, and what is left over. */
static inline __attribute__((always_inline)) uint64_t narrow(uint8_t *d, const uint8_t *s,
							     uint32_t n, uint64_t sum)
{
	uint32_t w;
	uint16_t h;

	for (; n >= 8; n -= 8, s += 8) {
		uint64_t v = load64(s);

		if (d) {
			memcpy(d, &v, 8);
			d += 8;
		}
		sum += (v & 0xffffffff) + (v >> 32);
	}
	if (n & 4) {
		memcpy(&w, s, 4);
		if (d) {
			memcpy(d, &w, 4);
			d += 4;
		}
		sum += w;
		s += 4;
	}
	if (n & 2) {
		memcpy(&h, s, 2);
		if (d) {
			memcpy(d, &h, 2);
			d += 2;
		}
		sum += h;
		s += 2;
	}
	if (n & 1) {
		h = 0;
		memcpy(&h, s, 1); /* the byte that comes first in memory, on any machine */
		if (d)
			*d = *s;
		sum += h;
	}
	return sum;
}

uint64_t csum_partial(const void *p, uint32_t len, uint64_t sum)
{
	const uint8_t *s = p;

	if (len >= WIDE_MIN) {
		uint32_t n = len & ~63u;

		sum += WIDE(wide_sum_avx2, wide_sum_any)(s, n);
		s += n;
		len -= n;
	}
	return narrow(NULL, s, len, sum);
}

uint64_t csum_copy(void *dst, const void *src, uint32_t len, uint64_t sum)
{
	const uint8_t *s = src;
	uint8_t *d = dst;

	if (len >= WIDE_MIN) {
		uint32_t n = len & ~63u;

		sum += WIDE(wide_copy_avx2, wide_copy_any)(d, s, n);
		s += n;
		d += n;
		len -= n;
	}
	if (!len)
		return sum;
	return narrow(d, s, len, sum);
}
