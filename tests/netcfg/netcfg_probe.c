/* SPDX-License-Identifier: Apache-2.0 */
/* tests/netcfg/netcfg_probe.c - asks a live netcfg; commands on stdin, one answer line each
 *
 *   sync              take in all news            -> "ok gen N"
 *   route R [B|-] [OIF]                            -> "if N via A src A mtu N type T gw 0|1" | "err NAME"
 *   neigh IF A | confirm IF A                      -> "mac xx:.." | "err NAME" | "ok"
 *   await IF A        until its fate is known (5 s at most) -> "usable" | "failed" | "timeout"
 *   local A, link IF, addrs, stats, pmtu A N
 *   rcvbuf N          shrink the buffer for news, to lose some
 *   drop              give up all capabilities
 */
#define _GNU_SOURCE
#include "stacks/tcpip/netcfg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct netcfg *nc;
static struct {
	unsigned ifindex;
	struct nst_addr a;
	int fate; /* -1 unknown */
} wanted = { .fate = -1 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_neigh(void *arg, unsigned ifindex, const struct nst_addr *a, bool usable)
{
	if (ifindex == wanted.ifindex && nst_addr_same_ip(a, &wanted.a))
		wanted.fate = usable;
}

static struct nst_addr ip(const char *s)
{
	struct nst_addr a;

	memset(&a, 0, sizeof(a));
	if (!s || !strcmp(s, "-"))
		return a;
	a.family = strchr(s, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(a.family, s, a.v6) != 1)
		exit(2);
	return a;
}

static const char *str(const struct nst_addr *a, char *out)
{
	return a->family ? inet_ntop(a->family, a->v6, out, INET6_ADDRSTRLEN) : "-";
}

static void sync_news(void)
{
	struct pollfd p = { netcfg_fd(nc), POLLIN, 0 };

	do
		netcfg_process(nc, now_ns());
	while (poll(&p, 1, 0) > 0);
}

static void print_mac(int err, const uint8_t *mac)
{
	if (err)
		printf("err %s\n", strerrorname_np(-err));
	else
		printf("mac %02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3],
		       mac[4], mac[5]);
}

static void do_route(const char *r, const char *b, const char *oif)
{
	struct nst_addr remote = ip(r), bound = ip(b);
	char via[INET6_ADDRSTRLEN], src[INET6_ADDRSTRLEN];
	struct netcfg_route rt;
	int err = netcfg_route(nc, now_ns(), &remote, &bound, oif ? (unsigned)atoi(oif) : 0, &rt);

	if (err)
		printf("err %s\n", strerrorname_np(-err));
	else
		printf("if %u via %s src %s mtu %u type %u gw %d\n", rt.ifindex,
		       str(&rt.nexthop, via), str(&rt.src, src), rt.mtu, rt.type, rt.gateway);
}

static void do_await(unsigned ifindex, const char *a)
{
	uint64_t end = now_ns() + 6000000000u;
	uint8_t mac[6];
	int err;

	wanted.ifindex = ifindex;
	wanted.a = ip(a);
	wanted.fate = -1;
	err = netcfg_neigh(nc, now_ns(), ifindex, &wanted.a, mac);
	if (err != -EAGAIN) {
		printf(err ? "failed\n" : "usable\n");
		return;
	}
	while (wanted.fate < 0 && now_ns() < end) {
		struct pollfd p = { netcfg_fd(nc), POLLIN, 0 };

		poll(&p, 1, 100);
		netcfg_process(nc, now_ns());
	}
	printf("%s\n", wanted.fate < 0 ? "timeout" : wanted.fate ? "usable" : "failed");
}

static void do_stats(void)
{
	struct netcfg_stats s;

	netcfg_stats(nc, &s);
	printf("gen %lu resyncs %lu hits %lu misses %lu asked %lu confirmed %lu denied %lu "
	       "neighs %u addrs %u links %u\n", s.gen, s.resyncs, s.route_hits, s.route_misses,
	       s.neigh_asked, s.neigh_confirmed, s.neigh_denied, s.neighs, s.addrs, s.links);
}

static void do_addrs(void)
{
	char b[INET6_ADDRSTRLEN];
	const struct netcfg_addr *a;
	uint32_t n;

	a = netcfg_addrs(nc, &n);
	printf("addrs");
	for (uint32_t i = 0; i < n; i++)
		printf(" %u:%s/%u", a[i].ifindex, str(&a[i].addr, b), a[i].prefixlen);
	printf("\n");
}

static void do_link(unsigned ifindex)
{
	const struct netcfg_link *l = netcfg_link(nc, ifindex);

	if (l)
		printf("name %s kind %s up %d mtu %u mac %02x:%02x:%02x:%02x:%02x:%02x\n", l->name,
		       l->kind[0] ? l->kind : "-", l->up, l->mtu, l->mac[0], l->mac[1], l->mac[2],
		       l->mac[3], l->mac[4], l->mac[5]);
	else
		printf("none\n");
}

static void command(char *line)
{
	char *cmd = strtok(line, " \n"), *a = strtok(NULL, " \n"), *b = strtok(NULL, " \n"),
	     *c = strtok(NULL, " \n");
	struct nst_addr ad;
	uint8_t mac[6];
	int n;

	if (!cmd)
		return;
	if (strcmp(cmd, "raw"))
		sync_news();
	if (!strcmp(cmd, "sync")) {
		printf("ok gen %lu\n", netcfg_gen(nc));
	} else if (!strcmp(cmd, "route") && a) {
		do_route(a, b, c);
	} else if (!strcmp(cmd, "neigh") && b) {
		ad = ip(b);
		n = netcfg_neigh(nc, now_ns(), (unsigned)atoi(a), &ad, mac);
		print_mac(n, mac);
	} else if (!strcmp(cmd, "confirm") && b) {
		ad = ip(b);
		netcfg_neigh_confirm(nc, now_ns(), (unsigned)atoi(a), &ad);
		printf("ok\n");
	} else if (!strcmp(cmd, "await") && b) {
		do_await((unsigned)atoi(a), b);
	} else if (!strcmp(cmd, "local") && a) {
		ad = ip(a);
		printf("%d\n", netcfg_is_local(nc, &ad));
	} else if (!strcmp(cmd, "link") && a) {
		do_link((unsigned)atoi(a));
	} else if (!strcmp(cmd, "addrs")) {
		do_addrs();
	} else if (!strcmp(cmd, "stats")) {
		do_stats();
	} else if (!strcmp(cmd, "pmtu") && b) {
		ad = ip(a);
		printf("%u\n", netcfg_pmtu_update(nc, now_ns(), &ad, (uint32_t)atoi(b)));
	} else if (!strcmp(cmd, "rcvbuf") && a) {
		n = atoi(a);
		printf("%d\n", setsockopt(netcfg_fd(nc), SOL_SOCKET, SO_RCVBUF, &n, sizeof(n)));
	} else if (!strcmp(cmd, "drop")) {
		printf("%d\n", setresuid(65534, 65534, 65534));
	} else {
		printf("what?\n");
	}
}

int main(void)
{
	char line[256];
	int err = netcfg_open(&nc);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (err) {
		printf("err %s\n", strerrorname_np(-err));
		return 1;
	}
	netcfg_on_neigh(nc, on_neigh, NULL);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin))
		command(line);
	netcfg_close(nc);
	return 0;
}
