/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/netcfg_static.c - the follower's own logic, told by hand instead of by the kernel */
#include "stacks/tcpip/netcfg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;
static unsigned changed;

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

#define S 1000000000ull

static struct nst_addr ip(const char *s)
{
	struct nst_addr a;

	memset(&a, 0, sizeof(a));
	a.family = strchr(s, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(a.family, s, a.v6) != 1)
		abort();
	return a;
}

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 1 }, mac_b[6] = { 2, 0, 0, 0, 0, 2 };

static void on_change(void *arg, unsigned what)
{
	changed |= what;
}

static struct netcfg *setup(void)
{
	struct nst_addr a4 = ip("198.18.0.1"), a6 = ip("2001:db8::1"), b4 = ip("198.19.0.1"),
			ll = ip("fe80::1"), gw4 = ip("198.18.0.254"), gw6 = ip("fe80::fe");
	struct netcfg *nc;

	CHECK(!netcfg_open_static(&nc));
	netcfg_on_change(nc, on_change, NULL);
	CHECK(!netcfg_static_link(nc, 7, "b", mac_b, 9000));
	CHECK(!netcfg_static_link(nc, 3, "a", mac_a, 1500));
	CHECK(netcfg_static_addr(nc, 99, &a4, 24) == -EINVAL);
	CHECK(!netcfg_static_addr(nc, 3, &a4, 24));
	CHECK(!netcfg_static_addr(nc, 3, &a6, 64));
	CHECK(!netcfg_static_addr(nc, 3, &ll, 64));
	CHECK(!netcfg_static_addr(nc, 7, &b4, 16));
	CHECK(!netcfg_static_route(nc, 3, NULL, 0, &gw4, 0));
	CHECK(!netcfg_static_route(nc, 3, NULL, 0, &gw6, 1400));
	return nc;
}

static void test_links_addrs(struct netcfg *nc)
{
	struct nst_addr a = ip("127.9.9.9"), b = ip("198.18.0.1"), c = ip("198.18.0.2"),
			ll = ip("fe80::1");
	uint32_t n;

	CHECK(netcfg_links(nc, &n)[0].ifindex == 3 && n == 2);
	CHECK(netcfg_link(nc, 7)->mtu == 9000 && !netcfg_link(nc, 5));
	netcfg_addrs(nc, &n);
	CHECK(n == 4);
	CHECK(netcfg_is_local(nc, &a) && netcfg_is_local(nc, &b) && !netcfg_is_local(nc, &c));
	CHECK(netcfg_is_local(nc, &ll));
	ll.scope_id = 3;
	CHECK(netcfg_is_local(nc, &ll));
	ll.scope_id = 7;
	CHECK(!netcfg_is_local(nc, &ll));
}

static void test_routes(struct netcfg *nc)
{
	struct nst_addr near4 = ip("198.18.0.77"), far4 = ip("203.0.113.5"), far6 = ip("2001:db8:9::1"),
			own = ip("198.19.0.1"), other = ip("198.19.7.7"), none = ip("198.18.3.3"),
			mc = ip("239.1.2.3"), bc = ip("255.255.255.255");
	struct netcfg_route rt;
	struct netcfg_stats st;
	uint64_t gen = netcfg_gen(nc);

	CHECK(!netcfg_route(nc, S, &near4, NULL, 0, &rt));
	CHECK(rt.ifindex == 3 && !rt.gateway && nst_addr_same_ip(&rt.nexthop, &near4));
	CHECK(rt.mtu == 1500 && rt.src.v4 == ip("198.18.0.1").v4 && rt.gen == gen);
	CHECK(!netcfg_route(nc, S, &far4, NULL, 0, &rt));
	CHECK(rt.gateway && rt.nexthop.v4 == ip("198.18.0.254").v4);
	CHECK(!netcfg_route(nc, S, &far6, NULL, 0, &rt));
	CHECK(rt.gateway && rt.mtu == 1400);
	CHECK(!netcfg_route(nc, S, &own, NULL, 0, &rt) && rt.type == NETCFG_RT_LOCAL);
	CHECK(!netcfg_route(nc, S, &other, &own, 0, &rt) && rt.ifindex == 7 && rt.mtu == 9000);
	CHECK(netcfg_route(nc, S, &other, &none, 0, &rt) == -ENETUNREACH);
	CHECK(!netcfg_route(nc, S, &mc, NULL, 7, &rt) && rt.type == NETCFG_RT_MULTICAST);
	CHECK(!netcfg_route(nc, S, &bc, NULL, 0, &rt) && rt.type == NETCFG_RT_BROADCAST);
	netcfg_stats(nc, &st);
	for (int i = 0; i < 10; i++)
		CHECK(!netcfg_route(nc, S, &far4, NULL, 0, &rt));
	{
		struct netcfg_stats st2;

		netcfg_stats(nc, &st2);
		CHECK(st2.route_hits == st.route_hits + 10 && st2.route_misses == st.route_misses);
	}
	/* a more specific route takes over, and cached answers notice */
	{
		struct nst_addr net = ip("203.0.113.0");

		CHECK(!netcfg_static_route(nc, 7, &net, 24, NULL, 0));
		CHECK(netcfg_gen(nc) != gen);
		CHECK(!netcfg_route(nc, S, &far4, NULL, 0, &rt) && rt.ifindex == 7);
	}
}

/* More remotes than the cache has places: answers stay right. */
static void test_cache_bound(struct netcfg *nc)
{
	struct netcfg_route rt;
	int bad = 0;

	for (int round = 0; round < 2; round++)
		for (uint32_t i = 1; i < 20000; i++) {
			struct nst_addr a = { .family = AF_INET, .v4 = htonl(0xc6120000 | i) };
			int err = netcfg_route(nc, S, &a, NULL, 0, &rt);
			bool local = netcfg_is_local(nc, &a);
			bool near_ = i < 256;

			if (err || (rt.type == NETCFG_RT_LOCAL) != local ||
			    (!local && rt.gateway == near_))
				bad++;
		}
	CHECK(bad == 0);
}

static void test_pmtu(struct netcfg *nc)
{
	struct nst_addr a = ip("198.18.0.9"), b = ip("2001:db8::9"), c = ip("198.18.0.10");
	struct netcfg_route rt;
	struct netcfg_stats st;

	CHECK(netcfg_pmtu_update(nc, 10 * S, &a, 1280) == 1280);
	CHECK(netcfg_pmtu_update(nc, 10 * S, &a, 1400) == 1280); /* never up */
	CHECK(netcfg_pmtu_update(nc, 10 * S, &b, 100) == 1280);  /* IPv6 minimum */
	CHECK(netcfg_pmtu_update(nc, 10 * S, &c, 68) == 552);
	CHECK(!netcfg_route(nc, 11 * S, &a, NULL, 0, &rt) && rt.mtu == 1280);
	CHECK(!netcfg_route(nc, 11 * S, &c, NULL, 0, &rt) && rt.mtu == 552);
	CHECK(!netcfg_route(nc, 609 * S, &a, NULL, 0, &rt) && rt.mtu == 1280);
	CHECK(!netcfg_route(nc, 611 * S, &a, NULL, 0, &rt) && rt.mtu == 1500);
	for (uint32_t i = 0; i < 100000; i++) {
		struct nst_addr r = { .family = AF_INET, .v4 = htonl(0x0b000000 + i) };

		netcfg_pmtu_update(nc, 1000 * S, &r, 1000);
	}
	netcfg_stats(nc, &st);
	CHECK(st.pmtus <= 1024);
}

static void test_neigh(struct netcfg *nc)
{
	struct nst_addr a = ip("198.18.0.2"), mc4 = ip("239.129.2.3"), mc6 = ip("ff02::1:ff00:1"),
			bc = ip("255.255.255.255");
	uint8_t mac[6];

	CHECK(netcfg_neigh(nc, S, 3, &a, mac) == -EAGAIN);
	CHECK(netcfg_neigh(nc, S, 99, &a, mac) == -ENODEV);
	changed = 0;
	CHECK(!netcfg_static_neigh(nc, 3, &a, mac_b) && changed == NETCFG_CH_NEIGH);
	CHECK(!netcfg_neigh(nc, S, 3, &a, mac) && !memcmp(mac, mac_b, 6));
	CHECK(netcfg_neigh(nc, S, 7, &a, mac) == -EAGAIN); /* another device */
	CHECK(!netcfg_static_neigh(nc, 3, &a, NULL));
	CHECK(netcfg_neigh(nc, S, 3, &a, mac) == -EAGAIN);
	CHECK(!netcfg_neigh(nc, S, 3, &mc4, mac) &&
	      !memcmp(mac, (uint8_t[]){ 1, 0, 0x5e, 1, 2, 3 }, 6));
	CHECK(!netcfg_neigh(nc, S, 3, &mc6, mac) &&
	      !memcmp(mac, (uint8_t[]){ 0x33, 0x33, 0xff, 0, 0, 1 }, 6));
	CHECK(!netcfg_neigh(nc, S, 3, &bc, mac) && mac[0] == 0xff && mac[5] == 0xff);
}

static void test_neigh_bound(struct netcfg *nc)
{
	struct netcfg_stats st;
	uint8_t mac[6];
	int full = 0;

	for (uint32_t i = 0; i < 20000; i++) {
		struct nst_addr a = { .family = AF_INET, .v4 = htonl(0xc6130000 + i) };

		full += netcfg_neigh(nc, S, 7, &a, mac) == -ENOBUFS;
	}
	netcfg_stats(nc, &st);
	CHECK(full > 0 && st.neighs <= 16384 && st.neigh_full == (uint64_t)full);
}

int main(void)
{
	struct netcfg *nc = setup();

	CHECK(changed & NETCFG_CH_LINK && changed & NETCFG_CH_ADDR && changed & NETCFG_CH_ROUTE);
	CHECK(netcfg_fd(nc) == -1 && netcfg_process(nc, S) == 0);
	test_links_addrs(nc);
	test_routes(nc);
	test_cache_bound(nc);
	test_pmtu(nc);
	test_neigh(nc);
	test_neigh_bound(nc);
	netcfg_close(nc);
	netcfg_close(NULL);
	if (!failures)
		printf("ok - netcfg_static\n");
	return failures != 0;
}
