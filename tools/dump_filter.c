/* SPDX-License-Identifier: Apache-2.0 */
/* tools/dump_filter.c - which blocks of a capture are wanted
 *
 * A pcapng file is a row of blocks: type, length, body, length again. Blocks that hold no packet
 * are copied as they are. The file comes from another process: every length is checked before it
 * is used; one that can't be ends the copying.
 */
#define _GNU_SOURCE
#include "dump_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK_PACKET 6u
#define PACKET_HEAD 28u             /* block header, interface, time, two lengths */
#define BLOCK_MAX (1u << 18)
#define PUNCH (16u << 20)           /* give memory back in pieces of this size */

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool ports_match(const struct dump_filter *f, uint8_t proto, const uint8_t *l4, uint32_t len)
{
	if (f->proto && proto != f->proto)
		return false;
	if (!f->port)
		return true;
	if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) || len < 4)
		return false;
	return be16(l4) == f->port || be16(l4 + 2) == f->port;
}

/* Is one of the two addresses that lie behind each other at addrs the wanted one? */
static bool host_matches(const struct dump_filter *f, uint8_t family, const uint8_t *addrs)
{
	size_t n = family == AF_INET ? 4 : 16;

	if (!f->family)
		return true;
	return f->family == family && (!memcmp(addrs, f->host, n) || !memcmp(addrs + n, f->host, n));
}

static bool match4(const struct dump_filter *f, const uint8_t *ip, uint32_t len)
{
	uint32_t head;

	if (len < 20)
		return false;
	head = (ip[0] & 15u) * 4;
	if (head < 20 || len < head || !host_matches(f, AF_INET, ip + 12))
		return false;
	return ports_match(f, ip[9], ip + head, be16(ip + 6) & 0x1fff ? 0 : len - head);
}

static bool match6(const struct dump_filter *f, const uint8_t *ip, uint32_t len)
{
	uint32_t at = 40;
	uint8_t next;

	if (len < 40 || !host_matches(f, AF_INET6, ip + 8))
		return false;
	next = ip[6];
	for (int i = 0; i < 8; i++) {
		bool fragment = next == IPPROTO_FRAGMENT;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && !fragment)
			break;
		if (len < at + 8)
			return false;
		if (fragment && be16(ip + at + 2) & 0xfff8)
			return ports_match(f, ip[at], ip + at, 0);
		next = ip[at];
		at += fragment ? 8 : (ip[at + 1] + 1u) * 8;
		if (len < at)
			return false;
	}
	return ports_match(f, next, ip + at, len - at);
}

bool dump_filter_match(const struct dump_filter *f, const uint8_t *frame, uint32_t len)
{
	uint32_t at = 12;

	if (!f->port && !f->proto && !f->family)
		return true;
	while (len >= at + 6 && (be16(frame + at) == 0x8100 || be16(frame + at) == 0x88a8))
		at += 4;
	if (len < at + 2)
		return false;
	if (be16(frame + at) == 0x0800)
		return match4(f, frame + at + 2, len - at - 2);
	if (be16(frame + at) == 0x86dd)
		return match6(f, frame + at + 2, len - at - 2);
	return false;
}

int dump_filter_open(struct dump_filter *f, int out)
{
	f->out = out;
	f->in = memfd_create("nstack-dump", MFD_CLOEXEC);
	return f->in < 0 ? -1 : 0;
}

void dump_filter_close(struct dump_filter *f)
{
	if (f->in >= 0)
		close(f->in);
	f->in = -1;
}

static int copy_block(struct dump_filter *f, const uint8_t *block, uint32_t len)
{
	uint32_t captured;

	if (*(const uint32_t *)block == BLOCK_PACKET) {
		if (len < PACKET_HEAD + 4)
			return 0;
		memcpy(&captured, block + 20, sizeof(captured));
		if (captured > len - PACKET_HEAD - 4 ||
		    !dump_filter_match(f, block + PACKET_HEAD, captured))
			return 0;
		if (f->max_packets && f->packets == f->max_packets)
			return 1;
		f->packets++;
	}
	for (uint32_t done = 0; done < len;) {
		ssize_t n = write(f->out, block + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (uint32_t)n;
	}
	return f->max_packets && f->packets == f->max_packets;
}

int dump_filter_run(struct dump_filter *f)
{
	uint8_t *buf = malloc(BLOCK_MAX);
	int ret = buf ? 0 : -1;
	uint32_t head[2];

	while (!ret && pread(f->in, head, sizeof(head), (off_t)f->offset) == sizeof(head)) {
		if (head[1] < 12 || head[1] % 4 || head[1] > BLOCK_MAX) {
			errno = EBADMSG;
			ret = -1;
			break;
		}
		if (pread(f->in, buf, head[1], (off_t)f->offset) != (ssize_t)head[1])
			break; /* not there whole yet */
		ret = copy_block(f, buf, head[1]);
		f->offset += head[1];
	}
	if (f->offset >= PUNCH)
		fallocate(f->in, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  (off_t)(f->offset / PUNCH * PUNCH));
	free(buf);
	return ret;
}
