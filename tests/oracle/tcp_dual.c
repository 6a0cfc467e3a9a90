/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_dual.c - IPv6 sockets that serve IPv4, too */
#include "tcp_help.h"

static void dual_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(0));
	int l = t_socket(), fd;
	char label[48];

	o_say("IPV6_V6ONLY", "%d", t_get(l, IPPROTO_IPV6, IPV6_V6ONLY));
	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind", bind(l, (struct sockaddr *)&a, len));
	O("listen", listen(l, 8));
	O("IPV6_V6ONLY when bound", setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int)));
	o_sync();
	for (int i = 0; i < 3; i++) {
		len = sizeof(a);
		snprintf(label, sizeof(label), "accept %d", i);
		fd = O_OK(label, accept(l, (struct sockaddr *)&a, &len));
		snprintf(label, sizeof(label), "address %d", i);
		o_addr(label, &a, len);
		snprintf(label, sizeof(label), "name %d", i);
		t_sockname(label, fd);
		snprintf(label, sizeof(label), "peer %d", i);
		t_peername(label, fd);
		snprintf(label, sizeof(label), "data %d", i);
		t_recv(label, fd, 2, MSG_WAITALL);
		o_sync();
		close(fd);
	}
	close(l);
}

static int dial(int domain, int family, const char *label)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, family, O_SERVER, o_port(0));
	int fd = socket(domain, SOCK_STREAM, 0);

	O(label, connect(fd, (struct sockaddr *)&a, len));
	return fd;
}

static void dual_client(void)
{
	int fd;

	o_sync();
	fd = dial(AF_INET6, AF_INET6, "connect v6");
	o_send_all(fd, "v6", 2);
	o_sync();
	close(fd);
	fd = dial(AF_INET, AF_INET, "connect v4");
	t_sockname("name v4", fd);
	o_send_all(fd, "v4", 2);
	o_sync();
	close(fd);
	fd = dial(AF_INET6, O_MAPPED, "connect mapped");
	t_sockname("name mapped", fd);
	t_peername("peer mapped", fd);
	o_send_all(fd, "ma", 2);
	o_sync();
	close(fd);
}
SCENARIO(dual, "a listener on [::] and clients of both families", O_V6, dual_server, dual_client)

static void only_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(0));
	int l = t_socket(), four = socket(AF_INET, SOCK_STREAM, 0), fd;

	t_set(l, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	t_set(four, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind v6", bind(l, (struct sockaddr *)&a, len));
	O("listen v6", listen(l, 8));
	o_sync();
	o_sync();
	len = o_addr_of(&a, AF_INET, O_ANY, o_port(0));
	O("bind v4 beside it", bind(four, (struct sockaddr *)&a, len));
	O("listen v4", listen(four, 8));
	o_poll(four, POLLIN);
	o_sync();
	fd = O_OK("accept v4", accept(four, NULL, NULL));
	t_peername("v4 peer", fd);
	close(fd);
	fd = O_OK("accept v6", accept(l, NULL, NULL));
	t_peername("v6 peer", fd);
	close(fd);
	close(four);
	close(l);
}

static void only_client(void)
{
	int fd;

	o_sync();
	fd = dial(AF_INET, AF_INET, "v4 is refused");
	close(fd);
	o_sync();
	o_sync();
	fd = dial(AF_INET, AF_INET, "v4 is served");
	t_recv("v4 EOF", fd, 1, 0);
	close(fd);
	fd = dial(AF_INET6, AF_INET6, "v6 is served");
	t_recv("v6 EOF", fd, 1, 0);
	close(fd);
}
SCENARIO(v6only, "IPV6_V6ONLY, and an IPv4 listener beside it", O_V6, only_server, only_client)

static void mapped_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, O_MAPPED, O_SERVER, o_port(0));
	int l = t_socket(), fd;

	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind mapped", bind(l, (struct sockaddr *)&a, len));
	t_sockname("bound", l);
	O("listen", listen(l, 8));
	o_sync();
	fd = O_OK("accept", accept(l, NULL, NULL));
	t_sockname("name", fd);
	t_peername("peer", fd);
	O("send", send(fd, "hi", 2, 0));
	o_sync();
	close(fd);
	close(l);
}

static void mapped_client(void)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd;

	o_sync();
	fd = dial(AF_INET6, AF_INET6, "v6 is refused");
	O("mapped on the same socket", (len = o_addr_of(&a, O_MAPPED, O_SERVER, o_port(0)),
				       connect(fd, (struct sockaddr *)&a, len)));
	t_sockname("name", fd);
	t_peername("peer", fd);
	t_recv("recv", fd, 2, MSG_WAITALL);
	o_sync();
	close(fd);
	fd = t_socket();
	t_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	O("mapped with IPV6_V6ONLY", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	len = o_addr_of(&a, AF_INET6, O_SERVER, o_port(0));
	O("v6 address, v4 socket", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
	fd = t_socket();
	len = o_addr_of(&a, AF_INET, O_SERVER, o_port(0));
	O("v4 address, v6 socket", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
	fd = t_socket();
	len = o_addr_of(&a, AF_INET6, O_CLIENT, 0);
	O("bind v6", bind(fd, (struct sockaddr *)&a, len));
	len = o_addr_of(&a, O_MAPPED, O_SERVER, o_port(0));
	O("from v6 to mapped", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
	fd = t_socket();
	len = o_addr_of(&a, O_MAPPED, O_CLIENT, 0);
	O("bind mapped", bind(fd, (struct sockaddr *)&a, len));
	len = o_addr_of(&a, AF_INET6, O_SERVER, o_port(0));
	O("from mapped to v6", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
	fd = t_socket();
	len = o_addr_of(&a, AF_INET6, O_SERVER, o_port(5));
	O("24 bytes of an address", connect(fd, (struct sockaddr *)&a, 24));
	O("23 bytes of an address", connect(fd, (struct sockaddr *)&a, 23));
	close(fd);
}
SCENARIO(mapped, "v4-mapped addresses to bind and to connect", O_V6, mapped_server, mapped_client)

/* Listeners of both families on one port: the most exact one gets the connection. */
static int listener_on(int family, enum o_who who, const char *label)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, family, who, o_port(0));
	int l = socket(family == AF_INET ? AF_INET : AF_INET6, SOCK_STREAM, 0);

	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	t_set(l, SOL_SOCKET, SO_REUSEPORT, 1);
	O(label, bind(l, (struct sockaddr *)&a, len));
	if (listen(l, 5))
		o_fail("listen %s", label);
	o_nonblock(l, true);
	return l;
}

#define WAIT_NS 5000000000ull /* until connections that were made must have come */

static void exact_server(void)
{
	static const char *const names[] = { "[::]", "0.0.0.0", "v4", "v6" };
	uint64_t end = o_now() + WAIT_NS;
	int l[4], fd, got;
	char label[64];

	for (int round = 0; round < 3; round++) {
		/* first [::] alone, then beside 0.0.0.0, then beside exact addresses */
		l[0] = listener_on(AF_INET6, O_ANY, "bind [::]");
		l[1] = round >= 1 ? listener_on(AF_INET, O_ANY, "bind 0.0.0.0") : -1;
		l[2] = round >= 2 ? listener_on(AF_INET, O_SERVER, "bind v4") : -1;
		l[3] = round >= 2 ? listener_on(AF_INET6, O_SERVER, "bind v6") : -1;
		o_sync();
		o_sync(); /* the client has connected over IPv4, then IPv6 */
		got = 0;
		for (int i = 0; got < 2 && o_now() < end; i = (i + 1) % 4) {
			struct sockaddr_storage a;
			socklen_t len = sizeof(a);

			while (l[i] >= 0 && (fd = accept(l[i], (struct sockaddr *)&a, &len)) >= 0) {
				snprintf(label, sizeof(label), "round %d: %s gets a connection over %s",
					 round, names[i],
					 a.ss_family == AF_INET6 &&
					 !IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&a)->sin6_addr) ?
						 "IPv6" : "IPv4");
				o_say(label, "%u bytes of an address", len);
				close(fd);
				len = sizeof(a);
				got++;
			}
		}
		for (int i = 0; i < 4; i++)
			if (l[i] >= 0)
				close(l[i]);
		o_sync();
	}
}

static void exact_client(void)
{
	int fd[2];

	for (int round = 0; round < 3; round++) {
		o_sync();
		fd[0] = dial(AF_INET, AF_INET, "connect v4");
		fd[1] = dial(AF_INET6, AF_INET6, "connect v6");
		o_sync();
		o_sync();
		close(fd[0]);
		close(fd[1]);
	}
}
SCENARIO(exact, "listeners on [::], 0.0.0.0 and addresses, side by side", O_V6, exact_server,
	 exact_client)

/* A connection over IPv4 between IPv6 sockets: the same rules as for any. */
static void ends_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(0));
	int l = t_socket(), fd;

	O("bind", bind(l, (struct sockaddr *)&a, len));
	O("listen", listen(l, 8));
	o_sync();
	fd = O_OK("accept", accept(l, NULL, NULL));
	close(l);
	o_wait(fd, POLLRDHUP);
	t_poll("poll", fd);
	t_recv("recv", fd, 10, 0);
	t_recv("EOF", fd, 10, 0);
	o_reset_close(fd);
	o_sync();
}

static void ends_client(void)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd;

	o_sync();
	fd = dial(AF_INET6, O_MAPPED, "connect mapped");
	O("connect again", (len = o_addr_of(&a, O_MAPPED, O_SERVER, o_port(0)),
			    connect(fd, (struct sockaddr *)&a, len)));
	o_say("IPV6_V6ONLY", "%d", t_get(fd, IPPROTO_IPV6, IPV6_V6ONLY));
	O("set IPV6_V6ONLY", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 1 }, sizeof(int)));
	O("send", send(fd, "hello", 5, MSG_OOB));
	O("shutdown", shutdown(fd, SHUT_WR));
	o_wait(fd, POLLHUP);
	t_poll("poll", fd);
	t_recv("recv", fd, 10, 0);
	t_sockname("name", fd);
	t_peername("peer", fd);
	O("dissolve", (a.ss_family = AF_UNSPEC, connect(fd, (struct sockaddr *)&a, sizeof(a))));
	t_sockname("name then", fd);
	o_sync();
	len = o_addr_of(&a, O_MAPPED, O_SERVER, o_port(0));
	O("refused", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
}
SCENARIO(ends, "a connection over IPv4 of IPv6 sockets ends, and the socket goes on", O_V6, ends_server,
	 ends_client)
