/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/sockopt_ip.c - options of IPPROTO_IP, IPPROTO_IPV6, SOL_UDP and of levels that are none */
#include "sweep.h"

#include <netinet/udp.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct sweep_name names4[] = {
	{ IP_TOS, "IP_TOS", 0 },
	{ IP_TTL, "IP_TTL", 0 },
	{ IP_HDRINCL, "IP_HDRINCL", 0 },
	{ IP_OPTIONS, "IP_OPTIONS", 0 },
	{ IP_RECVOPTS, "IP_RECVOPTS", 0 },
	{ IP_RETOPTS, "IP_RETOPTS", 0 },
	{ IP_PKTINFO, "IP_PKTINFO", 0 },
	{ IP_PKTOPTIONS, "IP_PKTOPTIONS", 0 },
	{ IP_MTU_DISCOVER, "IP_MTU_DISCOVER", 0 },
	{ IP_RECVERR, "IP_RECVERR", 0 },
	{ IP_RECVTTL, "IP_RECVTTL", 0 },
	{ IP_RECVTOS, "IP_RECVTOS", 0 },
	{ IP_MTU, "IP_MTU", 0 },
	{ IP_FREEBIND, "IP_FREEBIND", 0 },
	{ IP_TRANSPARENT, "IP_TRANSPARENT", 0 },
	{ IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR", 0 },
	{ IP_MINTTL, "IP_MINTTL", 0 },
	{ IP_NODEFRAG, "IP_NODEFRAG", 0 },
	{ IP_CHECKSUM, "IP_CHECKSUM", 0 },
	{ IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT", 0 },
	{ IP_MULTICAST_IF, "IP_MULTICAST_IF", 0 },
	{ IP_MULTICAST_TTL, "IP_MULTICAST_TTL", 0 },
	{ IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", 0 },
	{ IP_UNICAST_IF, "IP_UNICAST_IF", 0 },
	{ 52, "IP_PROTOCOL", SWEEP_VARIES }, /* in fact the local port */
};
static const struct sweep_level ip4 = SWEEP_LEVEL(IPPROTO_IP, 56, names4);

static const struct sweep_name names6[] = {
	{ IPV6_ADDRFORM, "IPV6_ADDRFORM", SWEEP_NO_SET },
	{ IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", 0 },
	{ IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", 0 },
	{ IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", 0 },
	{ IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", 0 },
	{ IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", 0 },
	{ IPV6_MTU, "IPV6_MTU", 0 },
	{ IPV6_RECVERR, "IPV6_RECVERR", 0 },
	{ IPV6_V6ONLY, "IPV6_V6ONLY", 0 },
	{ IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", 0 },
	{ IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", 0 },
	{ IPV6_RECVTCLASS, "IPV6_RECVTCLASS", 0 },
	{ IPV6_TCLASS, "IPV6_TCLASS", 0 },
	{ IPV6_PATHMTU, "IPV6_PATHMTU", SWEEP_VARIES },
	{ IPV6_DONTFRAG, "IPV6_DONTFRAG", 0 },
	{ IPV6_RECVPATHMTU, "IPV6_RECVPATHMTU", 0 },
	{ IPV6_AUTOFLOWLABEL, "IPV6_AUTOFLOWLABEL", 0 },
};
static const struct sweep_level ip6 = SWEEP_LEVEL(IPPROTO_IPV6, 85, names6);

static const struct sweep_name names_udp[] = {
	{ 1, "UDP_CORK", 0 },
	{ 100, "UDP_ENCAP", 0 },
	{ 101, "UDP_NO_CHECK6_TX", 0 },
	{ 102, "UDP_NO_CHECK6_RX", 0 },
	{ 103, "UDP_SEGMENT", 0 },
	{ 104, "UDP_GRO", 0 },
};
static const struct sweep_level udp = SWEEP_LEVEL(IPPROTO_UDP, 107, names_udp);

static const struct sweep_name names_none[] = { { -1, "", 0 } };
static const struct sweep_level none_1 = SWEEP_LEVEL(IPPROTO_ICMP, 3, names_none);
static const struct sweep_level none_255 = SWEEP_LEVEL(255, 3, names_none);
static const struct sweep_level none_282 = SWEEP_LEVEL(282, 3, names_none);
static const struct sweep_level none_minus = SWEEP_LEVEL(-1, 3, names_none);

static void get_ip4(void)
{
	sweep_states(&ip4);
}
SCENARIO(ip_options_get_tcp, "getsockopt(IPPROTO_IP), every option, in every state of TCP", O_BOTH,
	 get_ip4, get_ip4)

static void get_ip4_udp(void)
{
	sweep_states_udp(&ip4);
}
SCENARIO(ip_options_get_udp, "getsockopt(IPPROTO_IP), every option, in every state of UDP", O_BOTH,
	 get_ip4_udp, get_ip4_udp)

static void get_ip6(void)
{
	sweep_states(&ip6);
}
SCENARIO(ipv6_options_get_tcp, "getsockopt(IPPROTO_IPV6), every option, in every state of TCP",
	 O_BOTH, get_ip6, get_ip6)

static void get_ip6_udp(void)
{
	sweep_states_udp(&ip6);
}
SCENARIO(ipv6_options_get_udp, "getsockopt(IPPROTO_IPV6), every option, in every state of UDP",
	 O_BOTH, get_ip6_udp, get_ip6_udp)

static void get_other(void)
{
	sweep_states_udp(&udp);
	for (int i = 0; i < 2; i++) {
		int fd = i ? o_udp_connected(2, 2) : o_connected(1);
		const char *state = i ? "udp connected" : "tcp connected";

		sweep_get(state, fd, &none_1);
		sweep_get(state, fd, &none_255);
		sweep_get(state, fd, &none_282);
		sweep_get(state, fd, &none_minus);
		sweep_set(state, fd, &none_255, (int[]){ 0, 1 }, 2);
		sweep_set(state, fd, &none_minus, (int[]){ 0, 1 }, 2);
		o_sync();
		close(fd);
	}
}
SCENARIO(other_levels, "getsockopt(SOL_UDP) in every state, and levels that there are not", O_BOTH,
	 get_other, get_other)

static const int values[] = { -2, -1, 0, 1, 2, 3, 4, 5, 6, 16, 255, 256, 1280, 65536 };

static void set_fresh(void)
{
	sweep_set_fresh("tcp", SOCK_STREAM, &ip4, values, N(values));
	sweep_set_fresh("udp", SOCK_DGRAM, &ip4, values, N(values));
}
SCENARIO(ip_options_set, "setsockopt(IPPROTO_IP), every option, good and bad values", O_BOTH,
	 set_fresh, NULL)

static void set_fresh6(void)
{
	sweep_set_fresh("tcp", SOCK_STREAM, &ip6, values, N(values));
	sweep_set_fresh("udp", SOCK_DGRAM, &ip6, values, N(values));
}
SCENARIO(ipv6_options_set, "setsockopt(IPPROTO_IPV6), every option, good and bad values", O_BOTH,
	 set_fresh6, NULL)

static void set_fresh_udp(void)
{
	static const int vs[] = { -1, 0, 1, 2, 1472, 65535, 65536 };

	sweep_set_fresh("udp", SOCK_DGRAM, &udp, vs, N(vs));
	sweep_set_fresh("tcp", SOCK_STREAM, &udp, vs, 3);
}
SCENARIO(udp_options_set, "setsockopt(SOL_UDP), every option, good and bad values", O_BOTH,
	 set_fresh_udp, NULL)

/* What would keep packets of the sweep's connection from arriving is left out. */
static const struct sweep_name connected4[] = {
	{ IP_TTL, "IP_TTL", 0 },
	{ IP_MINTTL, "IP_MINTTL", SWEEP_NO_SET },
	{ IP_UNICAST_IF, "IP_UNICAST_IF", SWEEP_NO_SET },
	{ IP_OPTIONS, "IP_OPTIONS", SWEEP_NO_SET },
	{ IP_MULTICAST_TTL, "IP_MULTICAST_TTL", SWEEP_NO_SET },
	{ 52, "IP_PROTOCOL", SWEEP_NO_SET },
	{ IP_MTU, "IP_MTU", SWEEP_NO_SET }, /* not known while the route is looked up anew */
};
static const struct sweep_level ip4_connected = SWEEP_LEVEL(IPPROTO_IP, 56, connected4);
static const struct sweep_name connected6[] = {
	{ IPV6_ADDRFORM, "IPV6_ADDRFORM", 0 },
	{ IPV6_PATHMTU, "IPV6_PATHMTU", SWEEP_NO_SET },
	{ 73, "IPV6_MINHOPCOUNT", SWEEP_NO_SET },
	{ 76, "IPV6_UNICAST_IF", SWEEP_NO_SET },
	{ IPV6_MTU, "IPV6_MTU", SWEEP_NO_SET },
	{ IPV6_2292PKTOPTIONS, "IPV6_2292PKTOPTIONS", 0 },
	{ IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", SWEEP_NO_SET },
	{ IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", SWEEP_NO_SET },
};
static const struct sweep_level ip6_connected = SWEEP_LEVEL(IPPROTO_IPV6, 85, connected6);

static const struct sweep_name mapped6[] = {
	{ IPV6_ADDRFORM, "IPV6_ADDRFORM", SWEEP_NO_SET }, /* see address_form */
	{ IPV6_PATHMTU, "IPV6_PATHMTU", SWEEP_NO_SET },
	{ 73, "IPV6_MINHOPCOUNT", SWEEP_NO_SET },
	{ 76, "IPV6_UNICAST_IF", SWEEP_NO_SET },
	{ IPV6_MTU, "IPV6_MTU", SWEEP_NO_SET },
	{ IPV6_2292PKTOPTIONS, "IPV6_2292PKTOPTIONS", 0 },
	{ IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", SWEEP_NO_SET },
	{ IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", SWEEP_NO_SET },
};
static const struct sweep_level ip6_mapped = SWEEP_LEVEL(IPPROTO_IPV6, 85, mapped6);

static void set_connected(void)
{
	static const int vs[] = { -1, 1, 256, 255, 64, 0 };
	char c = 'x';

	for (int i = 0; i < 2; i++) {
		int fd = i ? o_udp_connected(1, 1) : o_connected(0);
		const char *state = i ? "udp" : "tcp";
		char label[32];

		sweep_set(state, fd, &ip4_connected, vs, N(vs));
		setsockopt(fd, IPPROTO_IP, IP_TTL, &(int){ 64 }, sizeof(int));
		sweep_set(state, fd, &ip6_connected, vs, N(vs));
		setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){ 64 }, sizeof(int));
		o_sync();
		snprintf(label, sizeof(label), "%s: send", state);
		O(label, send(fd, &c, 1, 0));
		o_wait(fd, POLLIN);
		snprintf(label, sizeof(label), "%s: recv", state);
		O(label, recv(fd, &c, 1, 0));
		o_sync();
		close(fd);
	}
}
SCENARIO(ip_options_set_connected, "setsockopt(IPPROTO_IP, IPPROTO_IPV6) on connections", O_BOTH,
	 set_connected, set_connected)

/* --- an IPv6 socket with IPv4 on the wire ------------------------------------------------------------ */

static const struct sweep_name names_sol[] = {
	{ SO_SNDBUF, "SO_SNDBUF", SWEEP_VARIES },
	{ SO_RCVBUF, "SO_RCVBUF", SWEEP_VARIES },
	{ SO_INCOMING_CPU, "SO_INCOMING_CPU", SWEEP_VARIES },
	{ SO_MEMINFO, "SO_MEMINFO", SWEEP_VARIES },
	{ SO_INCOMING_NAPI_ID, "SO_INCOMING_NAPI_ID", SWEEP_VARIES },
	{ SO_COOKIE, "SO_COOKIE", SWEEP_VARIES },
};
static const struct sweep_level socket_level = SWEEP_LEVEL(SOL_SOCKET, 60, names_sol);

/* A connection from a socket of the family, over IPv4, to a listener on [::]; this side's end. */
static int mapped_connection(int port_index, int client_family)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd, l;

	if (!o_is_server()) {
		fd = socket(client_family, SOCK_STREAM, 0);
		o_sync();
		len = o_addr_of(&a, client_family == AF_INET ? AF_INET : O_MAPPED, O_SERVER,
				o_port(port_index));
		if (connect(fd, (struct sockaddr *)&a, len))
			o_fail("connect");
		return fd;
	}
	l = socket(AF_INET6, SOCK_STREAM, 0);
	len = o_any_addr(&a, o_port(port_index));
	if (bind(l, (struct sockaddr *)&a, len) || listen(l, 5))
		o_fail("listen");
	o_sync();
	fd = accept(l, NULL, NULL);
	close(l);
	return fd;
}

static void mapped_options(void)
{
	static const int vs[] = { -1, 1, 256, 255, 64, 0 };
	int fd = mapped_connection(2, AF_INET6);
	char c = 'x';

	sweep_get("socket", fd, &socket_level);
	sweep_get("IPv4", fd, &ip4);
	sweep_get("IPv6", fd, &ip6);
	sweep_set("set", fd, &ip4_connected, vs, N(vs));
	setsockopt(fd, IPPROTO_IP, IP_TTL, &(int){ 64 }, sizeof(int));
	sweep_set("set IPv6", fd, &ip6_mapped, vs, N(vs));
	setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){ 64 }, sizeof(int));
	o_sync();
	O("send", send(fd, &c, 1, 0));
	o_wait(fd, POLLIN);
	O("recv", recv(fd, &c, 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(mapped_options, "options of every level of an IPv6 socket connected over IPv4", O_V6,
	 mapped_options, mapped_options)

/* IPV6_ADDRFORM makes it an IPv4 socket. */
static void address_form(void)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int fd = mapped_connection(3, AF_INET6);
	char c = 'x';

	O("IPV6_ADDRFORM to IPv6", setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){ AF_INET6 },
					      sizeof(int)));
	O("IPV6_ADDRFORM", setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &(int){ AF_INET }, sizeof(int)));
	O("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
	o_say("family", "%d, %u bytes", a.ss_family, len);
	o_say("SO_DOMAIN", "%s", sweep_read(fd, SOL_SOCKET, SO_DOMAIN, 4, false));
	o_say("IPV6_V6ONLY", "%s", sweep_read(fd, IPPROTO_IPV6, IPV6_V6ONLY, 4, false));
	O("send", send(fd, &c, 1, 0));
	o_wait(fd, POLLIN);
	O("recv", recv(fd, &c, 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(address_form, "IPV6_ADDRFORM of an IPv6 socket connected over IPv4", O_V6, address_form,
	 address_form)

/* --- lengths: an option of IPPROTO_IP takes an int or a char ---------------------------------------- */

static void lengths(void)
{
	static const int names[] = { IP_TOS, IP_TTL, IP_MTU_DISCOVER, IP_RECVERR, IP_MTU };
	static const int lens[] = { 0, 1, 2, 3, 4, 8, -1 };
	int fd = o_connected(0);
	char label[96];

	for (size_t i = 0; i < N(names); i++) {
		struct sweep_name o = sweep_name(&ip4, names[i]);

		for (size_t k = 0; k < N(lens); k++) {
			int v = 2;

			snprintf(label, sizeof(label), "set %s, %d bytes", o.text, lens[k]);
			O(label, setsockopt(fd, IPPROTO_IP, o.name, &v, (socklen_t)lens[k]));
			snprintf(label, sizeof(label), "get %s, %d bytes", o.text, lens[k]);
			o_say(label, "%s", sweep_read(fd, IPPROTO_IP, o.name, (socklen_t)lens[k], false));
			snprintf(label, sizeof(label), "set IPv6 %s, %d bytes", o.text, lens[k]);
			O(label, setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &v, (socklen_t)lens[k]));
		}
	}
	setsockopt(fd, IPPROTO_IP, IP_TTL, &(int){ 64 }, sizeof(int));
	o_sync();
	close(fd);
}
SCENARIO(ip_option_lengths, "option buffers of IPPROTO_IP: a char, an int, too short", O_BOTH,
	 lengths, lengths)

/* --- IPV6_V6ONLY --------------------------------------------------------------------------------------- */

static void v6only(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0), four = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(o_port(0)) };
	struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(o_port(0)) };

	O("v4 socket", setsockopt(four, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	O("before bind", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	O("bind [::]", bind(fd, (struct sockaddr *)&any6, sizeof(any6)));
	O("after bind", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	O("bind 0.0.0.0 beside it", bind(four, (struct sockaddr *)&any4, sizeof(any4)));
	O("listen 6", listen(fd, 1));
	O("listen 4", listen(four, 1));
	close(fd);
	close(four);
	fd = o_connected(1);
	O("on a connection", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	o_sync();
	close(fd);
}
SCENARIO(v6only, "IPV6_V6ONLY before and after bind, on a connection", O_BOTH, v6only, v6only)
