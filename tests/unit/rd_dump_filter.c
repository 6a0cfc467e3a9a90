/* SPDX-License-Identifier: Apache-2.0 */
/* The filter of nstack dump: which frames match, and what becomes of a growing, cut or hostile
 * capture file. */
#define _GNU_SOURCE
#include <tools/dump_filter.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "check.h"

static uint32_t frame4(uint8_t *f, bool vlan, uint8_t proto, uint16_t sport, uint16_t dport, uint16_t frag)
{
	uint32_t at = 12;

	memset(f, 0, 64);
	if (vlan) {
		memcpy(f + at, "\x81\x00\x00\x05", 4);
		at += 4;
	}
	memcpy(f + at, "\x08\x00\x45", 3);
	f[at + 8] = (uint8_t)(frag >> 8);
	f[at + 9] = (uint8_t)frag;
	f[at + 11] = proto;
	f[at + 22] = (uint8_t)(sport >> 8);
	f[at + 23] = (uint8_t)sport;
	f[at + 24] = (uint8_t)(dport >> 8);
	f[at + 25] = (uint8_t)dport;
	return at + 42;
}

static void test_match(void)
{
	struct dump_filter tcp80 = { .proto = IPPROTO_TCP, .port = 80 }, all = { .in = -1 };
	struct dump_filter udp = { .proto = IPPROTO_UDP };
	uint8_t f[128];
	uint32_t n;

	n = frame4(f, false, IPPROTO_TCP, 1234, 80, 0);
	CHECK(dump_filter_match(&tcp80, f, n) && dump_filter_match(&all, f, n) && !dump_filter_match(&udp, f, n), " ");
	for (uint32_t cut = 0; cut < 38; cut++)
		CHECK(!dump_filter_match(&tcp80, f, cut), "cut at %u", cut);
	n = frame4(f, true, IPPROTO_TCP, 80, 1234, 0);
	CHECK(dump_filter_match(&tcp80, f, n), "VLAN, source port");
	n = frame4(f, false, IPPROTO_TCP, 81, 1234, 0);
	CHECK(!dump_filter_match(&tcp80, f, n), " ");
	n = frame4(f, false, IPPROTO_TCP, 80, 80, 8);
	CHECK(!dump_filter_match(&tcp80, f, n), "a later fragment has no ports");
	n = frame4(f, false, IPPROTO_UDP, 80, 80, 0);
	CHECK(!dump_filter_match(&tcp80, f, n) && dump_filter_match(&udp, f, n), " ");
	memcpy(f + 14 + 12, "\xc6\x12\x00\x01\xc6\x12\x00\x02", 8);
	for (unsigned i = 0; i < 4; i++) {
		struct dump_filter host = { .family = AF_INET, .host = { 0xc6, 0x12, 0, (uint8_t)i } };

		CHECK(dump_filter_match(&host, f, n) == (i == 1 || i == 2), "%u", i);
		host.family = AF_INET6;
		CHECK(!dump_filter_match(&host, f, n), "%u", i);
	}
	memset(f, 0, sizeof(f)); /* IPv6: hop-by-hop, then TCP */
	memcpy(f + 12, "\x86\xdd\x60", 3);
	f[14 + 6] = IPPROTO_HOPOPTS;
	f[54] = IPPROTO_TCP;
	f[54 + 8 + 3] = 80;
	CHECK(dump_filter_match(&tcp80, f, 80) && !dump_filter_match(&tcp80, f, 60), " ");
	f[14 + 24 + 15] = 7; /* to ::7 */
	for (unsigned i = 0; i < 9; i++) {
		struct dump_filter host = { .family = AF_INET6, .host = { [15] = (uint8_t)i } };

		CHECK(dump_filter_match(&host, f, 80) == (i == 0 || i == 7), "%u", i);
	}
	f[55] = 255; /* a header that is longer than the frame */
	CHECK(!dump_filter_match(&tcp80, f, 80), " ");
	memset(f, 0x81, sizeof(f));
	for (uint32_t i = 12; i + 1 < sizeof(f); i += 4)
		f[i + 1] = 0;
	CHECK(!dump_filter_match(&tcp80, f, sizeof(f)), "VLAN tags to the end");
}

static void put_block(int fd, uint32_t type, uint16_t dport, uint32_t lie)
{
	uint8_t b[128] = { 0 };
	uint32_t n = frame4(b + 28, false, IPPROTO_TCP, 1, dport, 0), len = (28 + n + 3) / 4 * 4 + 4;

	memcpy(b, &type, 4);
	memcpy(b + 4, lie ? &lie : &len, 4);
	memcpy(b + 20, &n, 4);
	memcpy(b + len - 4, &len, 4);
	CHECK(write(fd, b, len) == (ssize_t)len, " ");
}

static void test_file(void)
{
	struct dump_filter f = { .port = 80, .max_packets = 3 };
	int out = memfd_create("out", 0);
	off_t half;

	CHECK(!dump_filter_open(&f, out), " ");
	CHECK(dump_filter_run(&f) == 0 && f.packets == 0, "empty");
	put_block(f.in, 0x0a0d0d0a, 0, 0); /* no packet: copied */
	put_block(f.in, 6, 80, 0);
	put_block(f.in, 6, 81, 0);
	CHECK(dump_filter_run(&f) == 0 && f.packets == 1, "%llu", (unsigned long long)f.packets);
	put_block(f.in, 6, 80, 0);
	half = lseek(f.in, 0, SEEK_END) - 10;
	CHECK(!ftruncate(f.in, half), " ");
	CHECK(dump_filter_run(&f) == 0 && f.packets == 1, "a block that is not there whole waits");
	lseek(f.in, half - (off_t)(half - (off_t)f.offset), SEEK_SET);
	put_block(f.in, 6, 80, 0);
	put_block(f.in, 6, 80, 0);
	put_block(f.in, 6, 80, 0);
	CHECK(dump_filter_run(&f) == 1 && f.packets == 3, "the bound, exactly");
	CHECK(lseek(out, 0, SEEK_END) == 4 * (off_t)(f.offset / 5), "four of the five blocks read");
	dump_filter_close(&f);
	f = (struct dump_filter){ .port = 80 };
	dump_filter_open(&f, out);
	put_block(f.in, 6, 80, 7);
	CHECK(dump_filter_run(&f) == -1, "a length that can't be");
	dump_filter_close(&f);
	dump_filter_open(&f, out);
	f.offset = 0;
	put_block(f.in, 6, 80, 0x7fffffff);
	CHECK(dump_filter_run(&f) == -1, "a length that can't be");
	dump_filter_close(&f);
	close(out);
}

int main(void)
{
	test_match();
	test_file();
	if (!failures)
		puts("ok");
	return failures != 0;
}
