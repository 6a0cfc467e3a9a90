/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/ping.c - pings of a stack, answered (well, badly, twice, not at all) by the test on the other end of
 * the wire */
#include "stack_pair.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

static uint8_t request[2048]; /* the last one that left h[0] */
static uint32_t request_len, requests;

static enum hal_mem_action hook(void *arg, int dir, uint8_t *p, uint32_t len)
{
	if (dir == 0 && len <= sizeof(request)) {
		memcpy(request, p, len);
		request_len = len;
		requests++;
	}
	return HAL_MEM_PASS;
}

static void swap(uint8_t *a, uint8_t *b, uint32_t len)
{
	uint8_t c[16];

	memcpy(c, a, len);
	memcpy(a, b, len);
	memcpy(b, c, len);
}

static uint32_t l4_of(const uint8_t *p)
{
	return p[12] == 0x08 ? 34 : 54;
}

/* Right checksums for what a packet says now. */
static void finish(uint8_t *p, uint32_t len)
{
	uint32_t l4 = l4_of(p);
	struct nst_addr src = { .family = AF_INET6 }, dst = { .family = AF_INET6 };
	uint64_t sum = 0;
	uint16_t c;

	if (l4 == 34) {
		memset(p + 24, 0, 2);
		c = csum_fold(csum_partial(p + 14, 20, 0));
		memcpy(p + 24, &c, 2);
	} else {
		memcpy(src.v6, p + 22, 16);
		memcpy(dst.v6, p + 38, 16);
		sum = csum_pseudo(&src, &dst, IPPROTO_ICMPV6, len - l4);
	}
	memset(p + l4 + 2, 0, 2);
	c = csum_fold(csum_partial(p + l4, len - l4, sum));
	memcpy(p + l4 + 2, &c, 2);
}

/* What a host makes of the last request. */
static uint32_t answer(uint8_t *p)
{
	uint32_t l4;

	memcpy(p, request, request_len);
	l4 = l4_of(p);
	swap(p, p + 6, 6);
	if (l4 == 34)
		swap(p + 26, p + 30, 4);
	else
		swap(p + 22, p + 38, 16);
	p[l4] = l4 == 34 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	finish(p, request_len);
	return request_len;
}

static void deliver(const uint8_t *p, uint32_t len)
{
	struct hal_frame f;

	CHECK(hal_tx_alloc(h[1].port, 0, &f, 1) == 1);
	memcpy(f.data, p, len);
	f.len = len;
	f.flags = 0;
	CHECK(hal_tx_burst(h[1].port, 0, &f, 1) == 1);
	hal_tx_flush(h[1].port, 0);
	now += 250 * NS_PER_US;
	ops->poll(h[0].st, now);
}

static struct stack_ping open_to(const char *to, uint32_t size)
{
	struct stack_ping p = { .remote = ip(to, 0), .size = size };

	CHECK(!ops->ping_open(h[0].st, &p));
	CHECK(p.local.port && p.ifindex == h[0].port->ifindex);
	return p;
}

static uint16_t send_one(const struct stack_ping *p)
{
	uint16_t seq = 0;
	uint32_t before = requests;

	CHECK(!ops->ping_send(h[0].st, p->local.port, &seq));
	ops->flush(h[0].st);
	CHECK(requests == before + 1);
	return seq;
}

static uint32_t answers(const struct stack_ping *p, struct stack_ping_answer *a, uint32_t n)
{
	return ops->ping_answers(h[0].st, p->local.port, a, n);
}

/* --- the tests --------------------------------------------------------------------------------- */

static void test_answered(const char *to, const char *from)
{
	struct stack_ping p = open_to(to, 56);
	struct nst_addr local = ip(from, 0);
	struct stack_ping_answer a[4];
	uint8_t pkt[2048];
	uint32_t len, l4;

	CHECK(nst_addr_same_ip(&p.local, &local));
	CHECK(send_one(&p) == 1);
	l4 = l4_of(request);
	CHECK(request_len == l4 + 64 && request[l4] == (l4 == 34 ? ICMP_ECHO : ICMP6_ECHO_REQUEST));
	CHECK(!memcmp(request + l4 + 4, &p.local.port, 2));
	CHECK(answers(&p, a, 4) == 0);
	len = answer(pkt);
	deliver(pkt, len);
	CHECK(answers(&p, a, 4) == 1);
	CHECK(a[0].seq == 1 && a[0].ttl == 64 && a[0].bytes == 64 && a[0].rtt_ns == 250 * NS_PER_US && !a[0].again);
	deliver(pkt, len);
	CHECK(answers(&p, a, 4) == 1 && a[0].again && a[0].seq == 1);
	CHECK(send_one(&p) == 2);
	CHECK(answers(&p, a, 4) == 0);
	ops->ping_close(h[0].st, p.local.port);
	deliver(pkt, len);
	CHECK(answers(&p, a, 4) == 0);
}

/* Nothing of it is an answer. */
static void test_forged(const char *to)
{
	static const struct { const char *what; uint32_t at; uint8_t bits; } wrong[] = {
		{ "type", 0, 1 }, { "id", 4, 1 }, { "number", 7, 1 }, { "number, one of 64 later", 7, 64 },
		{ "cookie", 8, 1 }, { "cookie's end", 15, 128 },
	};
	struct stack_ping p = open_to(to, 56);
	struct stack_ping_answer a[4];
	uint8_t pkt[2048];
	uint32_t len, l4;

	send_one(&p);
	l4 = l4_of(request);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		len = answer(pkt);
		pkt[l4 + wrong[i].at] ^= wrong[i].bits;
		finish(pkt, len);
		deliver(pkt, len);
		if (answers(&p, a, 4)) {
			printf("not ok - a wrong %s is taken\n", wrong[i].what);
			failures++;
		}
	}
	len = answer(pkt); /* of another host */
	pkt[l4 == 34 ? 29 : 37] ^= 4;
	finish(pkt, len);
	deliver(pkt, len);
	len = answer(pkt); /* a bad checksum */
	pkt[l4 + 20] ^= 1;
	deliver(pkt, len);
	CHECK(answers(&p, a, 4) == 0);
	for (uint32_t cut = 1; cut <= 56; cut += 11) { /* shorter, as its headers say, too */
		len = answer(pkt) - cut;
		if (l4 == 34)
			pkt[17] = (uint8_t)(len - 14);
		else
			pkt[19] = (uint8_t)(len - l4);
		finish(pkt, len);
		deliver(pkt, len);
	}
	CHECK(answers(&p, a, 4) == 0);
	deliver(pkt, answer(pkt));
	CHECK(answers(&p, a, 4) == 1 && a[0].seq == 1);
	ops->ping_close(h[0].st, p.local.port);
}

/* Answers that nobody takes are bounded, and one to a request of long ago is none. */
static void test_bounds(void)
{
	struct stack_ping p = open_to("198.18.0.2", STACK_PING_MIN);
	struct stack_ping_answer a[200];
	uint8_t old[2048], pkt[2048];
	uint32_t old_len;

	send_one(&p);
	old_len = answer(old);
	for (int i = 0; i < 100; i++) {
		send_one(&p);
		deliver(pkt, answer(pkt));
	}
	deliver(old, old_len);
	CHECK(answers(&p, a, 200) == 64 && a[0].seq == 2 && a[63].seq == 65);
	CHECK(counter(0, "ping_full") == 36);
	ops->ping_close(h[0].st, p.local.port);
}

static void count_pings(void *arg, uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	int *n = arg;

	CHECK(local->port && !remote->port && local->family == remote->family);
	*n += proto == IPPROTO_ICMP;
}

static void test_limits(void)
{
	struct stack_ping p[STACK_PINGS], q = { .remote = ip("198.18.0.2", 0), .size = 56 };
	uint16_t seq;
	int n = 0;

	for (unsigned i = 0; i < STACK_PINGS; i++) {
		p[i] = open_to(i & 1 ? "2001:db8::2" : "198.18.0.2", 56);
		for (unsigned k = 0; k < i; k++)
			CHECK(p[k].local.port != p[i].local.port);
	}
	CHECK(ops->ping_open(h[0].st, &q) == -EMFILE);
	ops->flows(h[0].st, count_pings, &n);
	CHECK(n == (int)STACK_PINGS);
	for (unsigned i = 0; i < STACK_PINGS; i++)
		ops->ping_close(h[0].st, p[i].local.port);
	ops->ping_close(h[0].st, p[0].local.port); /* is no more */
	CHECK(ops->ping_send(h[0].st, p[0].local.port, &seq) == -ENOENT);

	q.size = 1473;
	CHECK(ops->ping_open(h[0].st, &q) == -EMSGSIZE && q.size == 1472);
	q.size = STACK_PING_MIN - 1;
	CHECK(ops->ping_open(h[0].st, &q) == -EMSGSIZE);
	q.size = 1472;
	CHECK(!ops->ping_open(h[0].st, &q));
	send_one(&q);
	CHECK(request_len == 1514);
	ops->ping_close(h[0].st, q.local.port);
	q = (struct stack_ping){ .remote = ip("198.18.0.1", 0), .size = 56 }; /* our own address */
	CHECK(ops->ping_open(h[0].st, &q) == -EADDRNOTAVAIL);
	q = (struct stack_ping){ .remote = ip("224.0.0.1", 0), .size = 56 };
	CHECK(ops->ping_open(h[0].st, &q) < 0);
	q = (struct stack_ping){ .remote = ip("198.18.0.2", 0), .local = ip("198.18.0.9", 0), .size = 56 };
	CHECK(ops->ping_open(h[0].st, &q) == -EADDRNOTAVAIL);
	q = (struct stack_ping){ .remote = ip("203.0.113.1", 0), .size = 56 };
	CHECK(ops->ping_open(h[0].st, &q) == -ENETUNREACH);
}

int main(void)
{
	struct hal_mem_config cfg = { 0 };

	pair_open(&cfg, hook);
	test_answered("198.18.0.2", "198.18.0.1");
	test_answered("2001:db8::2", "2001:db8::1");
	test_forged("198.18.0.2");
	test_forged("2001:db8::2");
	test_bounds();
	test_limits();
	open_to("198.18.0.2", 56); /* goes with its stack */
	pair_close();
	printf("%s - ping\n", failures ? "not ok" : "ok");
	return failures != 0;
}
