/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of prefixes: against a brute-force search, their errors, a hundred thousand, and their place among the
 * rules. */
#include <rd/prefixes.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"

static struct nst_addr addr(const char *ip)
{
	struct nst_addr a = { .port = htons(1) };

	a.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	inet_pton(a.family, ip, a.v6);
	return a;
}

static struct rd_prefixes *table(const char *text)
{
	struct rd_prefixes *t;
	char err[RD_ERR];

	CHECK(!rd_prefixes_parse(text, strlen(text), "f", &t, err), "%s", err);
	return t;
}

/* The line that decides, 0: none. */
static uint32_t line_of(const struct rd_prefixes *t, const char *ip)
{
	struct nst_addr a = addr(ip);
	struct rd_prefix_hit hit;

	return rd_prefixes_find(t, &a, &hit) ? hit.line : 0;
}

static void test_nested(void)
{
	struct rd_prefixes *t = table("# a comment\n"
				      "10.0.0.0/8 kernel # another\n"
				      "10.1.2.3/16 drop\n"
				      "\n"
				      "10.1.0.0/24\tstack\r\n"
				      "10.1.255.255 lwip\n"
				      "255.255.255.255 drop\n"
				      "2001:db8::/32 kernel\n"
				      "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff drop\n"
				      "ffff::/16 drop\n"
				      "10.0.0.0/8 stack\n");

	CHECK(line_of(t, "9.255.255.255") == 0 && line_of(t, "11.0.0.0") == 0, " ");
	CHECK(line_of(t, "10.0.0.0") == 11 && line_of(t, "10.255.255.255") == 11, "the last of equal ones");
	CHECK(line_of(t, "10.1.1.0") == 3 && line_of(t, "10.1.0.255") == 5 && line_of(t, "10.1.0.0") == 5, " ");
	CHECK(line_of(t, "10.1.255.255") == 6 && line_of(t, "10.1.255.254") == 3 && line_of(t, "10.2.0.0") == 11, " ");
	CHECK(line_of(t, "255.255.255.255") == 7 && line_of(t, "255.255.255.254") == 0, " ");
	CHECK(line_of(t, "2001:db8::5") == 8 && line_of(t, "2001:db9::") == 0 && line_of(t, "2001:db7:ffff::") == 0, " ");
	CHECK(line_of(t, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff") == 9, " ");
	CHECK(line_of(t, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") == 10, "the end of the numbers");
	CHECK(rd_prefixes_count(t) == 9, " ");
	CHECK(!strcmp(rd_prefixes_stack(t, 1), "lwip") && !rd_prefixes_stack(t, 2), " ");
	rd_prefixes_free(t);
	t = table("0.0.0.0/0 drop\n::/0 kernel\n");
	CHECK(line_of(t, "0.0.0.1") == 1 && line_of(t, "255.255.255.255") == 1 && line_of(t, "::5") == 2, "/0");
	rd_prefixes_free(t);
	t = table("");
	CHECK(!line_of(t, "10.0.0.1") && !line_of(t, "::1") && !rd_prefixes_count(t), "an empty file");
	rd_prefixes_free(t);
}

static void test_errors(void)
{
	static const struct { const char *text, *where; } wrong[] = {
		{ "10.0.0.0/33 kernel", "f:1:" }, { "\n10.0.0.0/8", "f:2:" },       { "10.0.0.0/8 kernel drop", "f:1:" },
		{ "any kernel", "f:1:" },         { "10.0.0.0/8 /bin/sh", "f:1:" }, { "#x\n#y\nkernel 10.0.0.0/8", "f:3:" },
	};
	struct rd_prefixes *t;
	char err[RD_ERR];

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(rd_prefixes_parse(wrong[i].text, strlen(wrong[i].text), "f", &t, err) == -EINVAL && !t &&
		      !strncmp(err, wrong[i].where, strlen(wrong[i].where)), "%s: %s", wrong[i].text, err);
	CHECK(rd_prefixes_parse("10.0.0.0/8 drop\0x", 17, "f", &t, err) == -EINVAL && !t, "not text");
	CHECK(rd_prefixes_load("/no/such/file", &t, err) == -ENOENT && strstr(err, "/no/such/file"), "%s", err);
}

/* --- against a search of all -------------------------------------------------------------------- */

struct plain {
	uint32_t addr;
	unsigned len;
};

static uint32_t mask(unsigned len)
{
	return len ? 0xffffffffu << (32 - len) : 0;
}

static uint32_t brute_force(const struct plain *p, int n, uint32_t a)
{
	int best = -1;

	for (int i = 0; i < n; i++)
		if (!((p[i].addr ^ a) & mask(p[i].len)) && (best < 0 || p[i].len >= p[best].len))
			best = i;
	return (uint32_t)(best + 1);
}

static void ip_text(char out[16], uint32_t a)
{
	snprintf(out, 16, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

static void property_round(int n, unsigned spread)
{
	struct plain *p = calloc((size_t)n, sizeof(*p));
	struct rd_prefixes *t;
	char *text, ip[16];
	size_t len;
	FILE *f = open_memstream(&text, &len);

	for (int i = 0; i < n; i++) {
		p[i].addr = (uint32_t)rand() % spread * 0x01010101u;
		p[i].len = (unsigned)rand() % 33;
		ip_text(ip, p[i].addr);
		fprintf(f, "%s/%u drop\n", ip, p[i].len);
	}
	fclose(f);
	t = table(text);
	for (int k = 0; k < 500; k++) {
		uint32_t a = rand() % 2 ? (uint32_t)rand() % spread * 0x01010101u : (uint32_t)rand() * 2654435761u;

		if (k % 3 == 0) /* the edges */
			a = p[rand() % n].addr + (uint32_t)(rand() % 3) - 1;
		ip_text(ip, a);
		CHECK(line_of(t, ip) == brute_force(p, n, a), "%s, n %d", ip, n);
	}
	rd_prefixes_free(t);
	free(text);
	free(p);
}

static void test_many(void)
{
	enum { N = 100000 };
	struct rd_prefixes *t;
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	for (unsigned i = 0; i < N; i++)
		fprintf(f, "%u.%u.%u.0/%u %s\n", 1 + i / 65536, i / 256 % 256, i % 256, i % 256 ? 24 : 16,
			i % 2 ? "kernel" : "stack");
	fclose(f);
	t = table(text);
	CHECK(rd_prefixes_count(t) == N, " ");
	CHECK(line_of(t, "1.0.7.9") == 8 && line_of(t, "1.2.0.9") == 513 && line_of(t, "2.134.159.1") == N, " ");
	CHECK(line_of(t, "2.134.160.1") == 65536 + 134 * 256 + 1 && !line_of(t, "2.135.0.1"), " ");
	rd_prefixes_free(t);
	free(text);
}

/* --- among the rules ------------------------------------------------------------------------------ */

static uint8_t decide(const char *remote)
{
	struct nst_addr l = addr("198.18.0.1"), r = addr(remote);

	return rd_lookup(NULL, 6, &l, &r).action;
}

static void test_with_rules(void)
{
	static struct rd_rules r;
	char err[RD_ERR];
	static const char text[] = "[{\"remote\": \"10.1.0.0/16\", \"action\": \"drop\"},"
				   "{\"remote\": \"10.2.0.0/16\", \"action\": \"drop\", \"priority\": 200},"
				   "{\"remote\": \"10.0.0.0/8\", \"port\": 1, \"action\": \"drop\"},"
				   "{\"remote\": \"11.0.0.0/8\", \"action\": \"drop\", \"priority\": 1}]";

	CHECK(!rd_rules_parse(text, strlen(text), "f", &r, err), "%s", err);
	CHECK(!rd_rules_publish(&r), " ");
	CHECK(decide("12.0.0.1") == RD_STACK, " ");
	CHECK(!rd_prefixes_publish(table("10.0.0.0/8 kernel\n10.1.5.0/24 stack\n10.2.0.0/16 stack\n"
					 "11.1.1.1 kernel\n12.0.0.0/8 kernel\n127.0.0.0/8 stack\n")), " ");
	CHECK(decide("10.1.4.1") == RD_DROP && decide("10.1.5.1") == RD_STACK, "the longer prefix");
	CHECK(decide("10.4.0.1") == RD_DROP, "an equal prefix, and more that is asked");
	CHECK(decide("10.2.0.1") == RD_STACK, "behind the default priority");
	CHECK(decide("11.1.1.1") == RD_DROP, "before it");
	CHECK(decide("12.0.0.1") == RD_KERNEL && decide("13.0.0.1") == RD_STACK, "no rule but the default");
	CHECK(decide("127.0.0.1") == RD_KERNEL, "built in");
	CHECK(!rd_rules_publish(&r) && decide("12.0.0.1") == RD_KERNEL, "new rules, the same table");
	CHECK(!rd_prefixes_publish(NULL) && decide("12.0.0.1") == RD_STACK && decide("10.1.5.1") == RD_DROP, "none");
}

int main(void)
{
	srand(1);
	test_nested();
	test_errors();
	for (int i = 0; i < 60; i++)
		property_round(1 + rand() % (i < 30 ? 8 : 400), i % 2 ? 4 : 256);
	test_many();
	test_with_rules();
	if (!failures)
		puts("ok");
	return failures != 0;
}
