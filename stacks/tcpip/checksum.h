/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/checksum.h - the internet checksum (RFC 1071), alone and while copying
 *
 * Sums are carried as uint64_t, unfolded, in memory order: nothing is byte-swapped, and what
 * csum_fold() returns is stored as it is. A chain of pieces is summed by giving each piece's
 * result to the next; a piece that starts at an odd offset of the whole goes through
 * csum_shift(). Any sum of at most 2^31 bytes fits.
 *
 *   uint64_t sum = csum_pseudo(&src, &dst, IPPROTO_TCP, l4len);
 *   sum = csum_partial(l4, l4len, sum);
 *   tcp->check = csum_fold(sum);            // UDP: csum_fold_udp()
 *
 * A received packet is good when csum_fold() of pseudo-header and all of the segment, checksum
 * field included, is 0.
 */
#ifndef NSTACK_STACKS_TCPIP_CHECKSUM_H
#define NSTACK_STACKS_TCPIP_CHECKSUM_H

#include <arpa/inet.h>
#include <nstack/addr.h>
#include <stdint.h>

/* sum + the bytes; an odd last byte counts as padded with 0. Any alignment. */
uint64_t csum_partial(const void *p, uint32_t len, uint64_t sum);
/* The same while copying to dst; areas must not overlap. */
uint64_t csum_copy(void *dst, const void *src, uint32_t len, uint64_t sum);

/* A sum of at most 16 bits with the same value. */
static inline uint16_t csum_reduce(uint64_t sum)
{
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffffffffu) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* The checksum field's value. */
static inline uint16_t csum_fold(uint64_t sum)
{
	return (uint16_t)~csum_reduce(sum);
}

/* UDP: 0 would mean "none", so it is sent as 0xffff. */
static inline uint16_t csum_fold_udp(uint64_t sum)
{
	uint16_t c = csum_fold(sum);

	return c ? c : 0xffff;
}

/* The sum of a piece as it counts when the piece starts at an odd offset. */
static inline uint64_t csum_shift(uint64_t sum)
{
	uint16_t s = csum_reduce(sum);

	return (uint16_t)(s << 8 | s >> 8);
}

/* sum + piece, where the piece (summed from 0) lies offset bytes into the whole. */
static inline uint64_t csum_add_at(uint64_t sum, uint64_t piece, uint32_t offset)
{
	return sum + (offset & 1 ? csum_shift(piece) : csum_reduce(piece));
}

/* Sum of the pseudo-header. src and dst are of one family. */
static inline uint64_t csum_pseudo(const struct nst_addr *src, const struct nst_addr *dst,
				   uint8_t proto, uint32_t l4len)
{
	/* two 32-bit fields for IPv6, one 16-bit pair for IPv4: the same sum either way */
	uint64_t sum = (uint64_t)htonl(l4len) + htonl(proto);

	if (src->family == AF_INET)
		return sum + src->v4 + dst->v4;
	for (int i = 0; i < 4; i++)
		sum += (uint64_t)src->w[i] + dst->w[i];
	return sum;
}

/* Field check after a 16-bit word that it covers changed from old to new (RFC 1624). */
static inline uint16_t csum_replace16(uint16_t check, uint16_t old, uint16_t new_)
{
	return csum_fold((uint64_t)(uint16_t)~check + (uint16_t)~old + new_);
}
static inline uint16_t csum_replace32(uint16_t check, uint32_t old, uint32_t new_)
{
	uint64_t sum = (uint16_t)~check;

	sum += (uint64_t)(uint32_t)~old + new_;
	return csum_fold(sum);
}

#endif
