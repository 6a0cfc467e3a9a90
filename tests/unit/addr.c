/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/addr.c - addresses to and from sockaddr and text */
#include <nstack/addr.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

static int failures;

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

static void round_trip(const char *text, uint16_t port, const char *want, int family,
		       uint8_t held_as)
{
	struct sockaddr_storage in, out;
	struct sockaddr_in *in4 = (void *)&in;
	struct sockaddr_in6 *in6 = (void *)&in;
	char buf[NST_ADDRSTRLEN];
	struct nst_addr a;
	socklen_t len;

	memset(&in, 0, sizeof(in));
	in.ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		in4->sin_port = htons(port);
		CHECK(inet_pton(AF_INET, text, &in4->sin_addr) == 1);
		len = sizeof(*in4);
	} else {
		in6->sin6_port = htons(port);
		in6->sin6_scope_id = 0;
		CHECK(inet_pton(AF_INET6, text, &in6->sin6_addr) == 1);
		len = sizeof(*in6);
	}
	CHECK(!nst_addr_from_sockaddr(&a, (struct sockaddr *)&in, len));
	CHECK(a.family == held_as && a.port == htons(port));
	CHECK(!strcmp(nst_addr_str(&a, buf), want));
	CHECK(nst_addr_to_sockaddr(&a, family, &out) == len && !memcmp(&in, &out, len));
}

static void test_bad(void)
{
	struct sockaddr_storage ss;
	struct nst_addr a;

	memset(&ss, 0, sizeof(ss));
	CHECK(nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 0) == -EINVAL);
	CHECK(nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 1) == -EINVAL);
	CHECK(nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 16) == -EAFNOSUPPORT);
	ss.ss_family = AF_INET;
	CHECK(nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 15) == -EINVAL);
	CHECK(!nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 16) && nst_addr_is_any(&a));
	ss.ss_family = AF_INET6;
	CHECK(nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 23) == -EINVAL);
	CHECK(!nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 24) && nst_addr_is_any(&a));
	ss.ss_family = AF_UNIX;
	CHECK(nst_addr_from_sockaddr(&a, (struct sockaddr *)&ss, 100) == -EAFNOSUPPORT);
}

static void test_compare(void)
{
	struct nst_addr a = { .family = AF_INET }, b = { .family = AF_INET6 };

	CHECK(!nst_addr_same_ip(&a, &b));
	b.v6[15] = 1;
	CHECK(!nst_addr_is_any(&b));
	a = b;
	a.port = 9;
	CHECK(nst_addr_same_ip(&a, &b));
	a.v6[0] = 1;
	CHECK(!nst_addr_same_ip(&a, &b));
}

int main(void)
{
	struct nst_addr none = { 0 };
	char buf[NST_ADDRSTRLEN];

	round_trip("198.18.0.1", 80, "198.18.0.1:80", AF_INET, AF_INET);
	round_trip("2001:db8::1", 443, "[2001:db8::1]:443", AF_INET6, AF_INET6);
	round_trip("::ffff:198.18.0.1", 53, "198.18.0.1:53", AF_INET6, AF_INET);
	round_trip("::", 0, "[::]:0", AF_INET6, AF_INET6);
	CHECK(!strcmp(nst_addr_str(&none, buf), "*:0"));
	test_bad();
	test_compare();
	if (!failures)
		printf("ok - addr\n");
	return failures != 0;
}
