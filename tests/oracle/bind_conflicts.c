/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/bind_conflicts.c - who may have a port beside whom */
#include "oracle.h"

#include <sys/prctl.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* --- two sockets, one port ------------------------------------------------------------------------ */

enum where { ANY4, OURS4, LO4, ANY6, ANY6ONLY, OURS6, MAPPED, NWHERE };
static const char *const where_names[NWHERE] = { "0.0.0.0", "ours", "127.0.0.1", "[::]",
						 "[::] only v6", "[ours]", "[::ffff:ours]" };
#define ADDR 1u
#define PORT 2u
static const char *const reuse_names[] = { "", " ADDR", " PORT", " ADDR PORT" };

static int make(int type, enum where w, unsigned reuse, struct sockaddr_storage *a, socklen_t *len,
		uint16_t port)
{
	int one = 1, family = w <= LO4 ? AF_INET : AF_INET6, fd = socket(family, type, 0);
	struct sockaddr_in *four = (struct sockaddr_in *)a;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)a;
	struct sockaddr_storage ours;

	if (reuse & ADDR)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (reuse & PORT)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (w == ANY6ONLY)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	memset(a, 0, sizeof(*a));
	a->ss_family = (sa_family_t)family;
	*len = family == AF_INET ? sizeof(*four) : sizeof(*six);
	four->sin_port = htons(port); /* in the same place in both */
	o_server_addr(&ours, port);
	if (w == OURS4)
		four->sin_addr = ((struct sockaddr_in *)&ours)->sin_addr;
	if (w == LO4)
		four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (w == OURS6)
		six->sin6_addr = ((struct sockaddr_in6 *)&ours)->sin6_addr;
	if (w == MAPPED) {
		six->sin6_addr.s6_addr[10] = six->sin6_addr.s6_addr[11] = 0xff;
		memcpy(&six->sin6_addr.s6_addr[12], &((struct sockaddr_in *)&ours)->sin_addr, 4);
	}
	return fd;
}

/* Only addresses of the play's family are ours. */
static bool playable(enum where w)
{
	return o_family == AF_INET ? w != OURS6 : w != OURS4 && w != MAPPED;
}

static void pair(int type, enum where a, unsigned ra, enum where b, unsigned rb, bool listening)
{
	struct sockaddr_storage sa, sb;
	socklen_t la, lb;
	uint16_t port = o_port(type == SOCK_STREAM ? 0 : 1);
	int one = make(type, a, ra, &sa, &la, port), two = make(type, b, rb, &sb, &lb, port);
	char label[160];

	snprintf(label, sizeof(label), "%s%s%s, then %s%s", where_names[a], reuse_names[ra],
		 listening ? " listening" : "", where_names[b], reuse_names[rb]);
	if (bind(one, (struct sockaddr *)&sa, la) < 0)
		o_fail("bind the first: %s", label);
	if (listening && listen(one, 5) < 0)
		o_fail("listen: %s", label);
	if (O(label, bind(two, (struct sockaddr *)&sb, lb)) == 0 && type == SOCK_STREAM) {
		strcat(label, ": listen");
		O(label, listen(two, 5));
	}
	close(one);
	close(two);
}

static void matrix(int type, bool listening)
{
	for (int a = 0; a < NWHERE; a++)
		for (int b = 0; b < NWHERE; b++)
			for (unsigned r = 0; r < 5 && playable(a) && playable(b); r++)
				/* both alike, and a second one that asks for more than the first */
				pair(type, a, r < 4 ? r : 0, b, r < 4 ? r : ADDR, listening);
}

static void tcp_bound(void)
{
	matrix(SOCK_STREAM, false);
}
SCENARIO(tcp_bound, "bind() beside a bound socket: addresses, families, SO_REUSEADDR, SO_REUSEPORT",
	 O_BOTH, tcp_bound, NULL)

static void tcp_listening(void)
{
	matrix(SOCK_STREAM, true);
}
SCENARIO(tcp_listening, "bind() beside a listener", O_BOTH, tcp_listening, NULL)

static void udp_bound(void)
{
	matrix(SOCK_DGRAM, false);
}
SCENARIO(udp_bound, "bind() beside a bound UDP socket", O_BOTH, udp_bound, NULL)

/* --- a port that connections have -------------------------------------------------------------------- */

static int listener(unsigned reuse)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd = make(SOCK_STREAM, o_family == AF_INET ? OURS4 : OURS6, reuse, &a, &len, o_port(0));

	if (bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 5) < 0)
		o_fail("listener");
	return fd;
}

static void try_bind(const char *label, unsigned reuse)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd = make(SOCK_STREAM, o_family == AF_INET ? ANY4 : ANY6, reuse, &a, &len, o_port(0));

	O(label, bind(fd, (struct sockaddr *)&a, len));
	close(fd);
}

static void in_use_server(void)
{
	int fd = listener(ADDR), c;
	char byte;

	o_sync();
	c = (int)O_OK("accept", accept(fd, NULL, NULL));
	try_bind("listener and connection", 0);
	try_bind("listener and connection, ADDR", ADDR);
	close(fd);
	try_bind("connection", 0);
	try_bind("connection, ADDR", ADDR);
	O("recv", recv(c, &byte, 1, 0));
	shutdown(c, SHUT_WR); /* first: TIME_WAIT is ours */
	o_sync();
	O("end", recv(c, &byte, 1, 0));
	close(c);
	try_bind("TIME_WAIT", 0);
	try_bind("TIME_WAIT, ADDR", ADDR);
	o_sync();
}

static void in_use_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);
	char byte;

	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("send", send(fd, "x", 1, 0));
	o_sync();
	O("end", recv(fd, &byte, 1, 0));
	close(fd);
	o_sync();
}
SCENARIO(port_of_connections, "bind() to a port that connections have, alive and in TIME_WAIT", O_BOTH,
	 in_use_server, in_use_client)

/* --- others -------------------------------------------------------------------------------------------- */

static void unprivileged(void *arg)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, 81);
	int fd = socket(o_family, SOCK_STREAM, 0);

	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		o_fail("setresuid");
	O("port 81", bind(fd, (struct sockaddr *)&a, len));
	len = o_any_addr(&a, o_port(3));
	O("a high port", bind(fd, (struct sockaddr *)&a, len));
	O("listen", listen(fd, 1));
	close(fd);
	_exit(0);
}

static void privileged(void)
{
	o_fork("child", unprivileged, NULL);
}
SCENARIO(privileged_ports, "a port below 1024 without privilege", O_BOTH, privileged, NULL)

static void again(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(0)), n = sizeof(a);
	int fd = socket(o_family, SOCK_STREAM, 0), udp = socket(o_family, SOCK_DGRAM, 0);

	O("tcp", bind(fd, (struct sockaddr *)&a, len));
	O("tcp again", bind(fd, (struct sockaddr *)&a, len));
	O("udp, the same number", bind(udp, (struct sockaddr *)&a, len));
	o_any_addr(&a, o_port(1));
	O("tcp, another port", bind(fd, (struct sockaddr *)&a, len));
	O("udp, another port", bind(udp, (struct sockaddr *)&a, len));
	close(udp);
	close(fd);
	fd = socket(o_family, SOCK_STREAM, 0);
	O("listen unbound", listen(fd, 1));
	O("name", getsockname(fd, (struct sockaddr *)&a, &n));
	o_addr("address", &a, n);
	close(fd);
	fd = socket(o_family, SOCK_STREAM, 0);
	len = o_any_addr(&a, 0);
	O("port 0", bind(fd, (struct sockaddr *)&a, len));
	n = sizeof(a);
	O("port 0: name", getsockname(fd, (struct sockaddr *)&a, &n));
	o_addr("port 0: address", &a, n);
	close(fd);
}
SCENARIO(bind_again, "bind() twice, unbound listen(), port 0", O_BOTH, again, NULL)

/* A client that is bound: to an address without a port, to a port, to both. */
static void bound_client_server(void)
{
	int fd = o_listener(0), c;
	struct sockaddr_storage a;
	char label[32];
	socklen_t n;

	for (int i = 0; i < 4; i++) {
		o_sync();
		n = sizeof(a);
		snprintf(label, sizeof(label), "accept %d", i);
		c = (int)O_OK(label, accept(fd, (struct sockaddr *)&a, &n));
		snprintf(label, sizeof(label), "from %d", i);
		o_addr(label, &a, n);
		close(c);
		o_sync();
	}
	close(fd);
}

static void bound_client(void)
{
	struct sockaddr_storage to, a;
	socklen_t tolen = o_server_addr(&to, o_port(0)), len;
	int one = 1;
	char label[48];

	for (int i = 0; i < 4; i++) {
		int fd = socket(o_family, SOCK_STREAM, 0);

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (i == 3)
			setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		len = i == 1 ? o_any_addr(&a, o_port(4)) : o_client_addr(&a, i == 2 ? o_port(5) : 0);
		snprintf(label, sizeof(label), "bind %d", i);
		O(label, bind(fd, (struct sockaddr *)&a, len));
		len = sizeof(a);
		getsockname(fd, (struct sockaddr *)&a, &len);
		snprintf(label, sizeof(label), "bound to %d", i);
		o_addr(label, &a, len);
		o_sync();
		snprintf(label, sizeof(label), "connect %d", i);
		O(label, connect(fd, (struct sockaddr *)&to, tolen));
		len = sizeof(a);
		getsockname(fd, (struct sockaddr *)&a, &len);
		snprintf(label, sizeof(label), "connected from %d", i);
		o_addr(label, &a, len);
		o_sync();
		close(fd);
	}
}
SCENARIO(bound_clients, "connect() of a bound socket: address, port, both, IP_BIND_ADDRESS_NO_PORT",
	 O_BOTH, bound_client_server, bound_client)
