/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_connect.c - connected UDP sockets: filter, names, reconnecting, dissolving */
#include "udp.h"

static int connect_to(int fd, enum o_who who, int port)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, who, o_port(port));

	return connect(fd, (void *)&a, len);
}

static int send_to(int fd, enum o_who who, int port, const char *text)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, who, o_port(port));

	return (int)sendto(fd, text, strlen(text), 0, (void *)&a, len);
}

static int dissolve(int fd, socklen_t len)
{
	struct sockaddr_storage a = {.ss_family = AF_UNSPEC};

	return connect(fd, (void *)&a, len);
}

/* --- the filter -------------------------------------------------------------------------------- */

static void filter_server(void)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0);
	char buf[20];

	bind(fd, (void *)&a, o_any_addr(&a, o_port(0)));
	o_poll(fd, POLLIN);
	o_sync(); /* both clients send before the connect */
	o_sync();
	o_wait_bytes(fd, 4);
	settle();
	O("connect", connect_to(fd, O_CLIENT, 0));
	own_name("own name", fd);
	peer_name("peer's name", fd);
	recv_from("queued before, of the peer", "from 1", fd);
	recv_from("queued before, of another", "from 2", fd);
	o_sync(); /* both send again */
	o_sync();
	settle();
	recv_from("after connect only the peer is heard", "from 3", fd);
	O("and nobody else", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("reconnect", connect_to(fd, O_CLIENT, 1));
	own_name("own name then", fd);
	peer_name("peer's name then", fd);
	o_sync();
	o_sync();
	settle();
	recv_from("the new peer is heard", "from 4", fd);
	O("the old one is not", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("send to the new peer", send(fd, "new", 3, 0));
	O("sendto somebody else", send_to(fd, O_CLIENT, 0, "else"));
	O("sendto does not reconnect", send(fd, "still", 5, 0));
	o_sync();
	O("dissolve", dissolve(fd, sizeof(a)));
	own_name("own name after dissolving", fd);
	peer_name("peer's name after dissolving", fd);
	O("send without a peer", send(fd, "x", 1, 0));
	o_sync();
	o_sync();
	o_wait_bytes(fd, 4);
	settle();
	recv_from("everybody is heard again 1", "from 5", fd);
	recv_from("everybody is heard again 2", "from 6", fd);
	o_sync();
	close(fd);
}

static void filter_client(void)
{
	int fd[2] = {o_udp(0), o_udp(1)};

	o_sync();
	send_to(fd[0], O_SERVER, 0, "early0");
	settle();
	send_to(fd[1], O_SERVER, 0, "early1");
	o_sync();
	for (int round = 0; round < 2; round++) {
		o_sync();
		send_to(fd[!round], O_SERVER, 0, round ? "again0" : "again1");
		send_to(fd[round], O_SERVER, 0, round ? "again1" : "again0");
		o_sync();
	}
	o_sync();
	recv_from("sent to the first", "sent to the first from", fd[0]);
	recv_from("sent to the second", "sent to the second from", fd[1]);
	recv_from("sent to the second again", "sent again from", fd[1]);
	o_sync();
	send_to(fd[0], O_SERVER, 0, "free0");
	settle();
	send_to(fd[1], O_SERVER, 0, "free1");
	o_sync();
	o_sync();
	close(fd[0]);
	close(fd[1]);
}
SCENARIO(udp_filter, "connect, reconnect, dissolve: who is heard", O_BOTH, filter_server, filter_client)

/* --- names, with and without bind --------------------------------------------------------------- */

static void auto_server(void)
{
	int fd = o_udp(0);
	char buf[20];
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	o_poll(fd, POLLIN);
	o_sync();
	for (int i = 0; i < 3; i++) {
		o_wait(fd, POLLIN);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (void *)&a, &len);

		sendto(fd, buf, n < 0 ? 0 : (size_t)n, 0, (void *)&a, len);
	}
	o_sync();
	close(fd);
}

static void auto_client(void)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0);
	char buf[20];

	o_sync();
	O("dissolve what is not connected", dissolve(fd, sizeof(sa_family_t)));
	O("connect binds", connect_to(fd, O_SERVER, 0));
	own_name("own name", fd);
	peer_name("peer's name", fd);
	O("send", send(fd, "1", 1, 0));
	recv_from("answer", "from", fd);
	O("dissolve, short", dissolve(fd, sizeof(sa_family_t)));
	own_name("the port is given back", fd);
	O("getpeername", getpeername(fd, (void *)&a, &(socklen_t){sizeof(a)}));
	O("recv then", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("send then", send(fd, "x", 1, 0));
	own_name("which binds", fd);
	O("sendto", send_to(fd, O_SERVER, 0, "2"));
	recv_from("answer again", "from again", fd);
	O("connect to loopback", connect_to(fd, O_LOOPBACK, 3));
	own_name("own name towards loopback", fd);
	O("and back", connect_to(fd, O_SERVER, 0));
	own_name("the source address stays", fd);
	O("dissolve in between", dissolve(fd, sizeof(a)));
	O("connect once more", connect_to(fd, O_SERVER, 0));
	own_name("own name towards the server", fd);
	O("send 3", send(fd, "3", 1, 0));
	recv_from("answer 3", "from 3", fd);
	O("dissolve, too short", dissolve(fd, 1));
	O("dissolve again", dissolve(fd, sizeof(a)));
	O("bind a dissolved one", bind(fd, (void *)&a, o_any_addr(&a, o_port(2))));
	own_name("bound", fd);
	o_sync();
	close(fd);
}
SCENARIO(udp_autobind, "connect and dissolve without bind: names", O_BOTH, auto_server, auto_client)

static void bound_names(const char *what, enum o_who who)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0);
	char label[80];
	socklen_t len = o_addr_of(&a, o_family, who, o_port(1));

#define L(text) (snprintf(label, sizeof(label), "%s: %s", what, text), label)
	O(L("bind"), bind(fd, (void *)&a, len));
	O(L("connect"), connect_to(fd, O_SERVER, 0));
	own_name(L("own name"), fd);
	O(L("dissolve"), dissolve(fd, sizeof(a)));
	own_name(L("dissolved"), fd);
	O(L("connect to loopback"), connect_to(fd, O_LOOPBACK, 0));
	own_name(L("own name towards loopback"), fd);
	O(L("connect to any"), connect_to(fd, O_ANY, 0));
	own_name(L("own name towards any"), fd);
	peer_name(L("any is"), fd);
	O(L("sendto another"), send_to(fd, O_CLIENT, 2, "x"));
#undef L
	close(fd);
}

static void names_client(void)
{
	bound_names("any", O_ANY);
	bound_names("address", O_CLIENT);
	bound_names("loopback", O_LOOPBACK);
}
SCENARIO(udp_bound_names, "names of bound sockets as they are connected", O_BOTH, NULL, names_client)

/* --- errors ---------------------------------------------------------------------------------------- */

static void errors_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_DGRAM, 0);

	O("connect, short", connect(fd, (void *)&a, len - 5));
	O("connect, 1 byte", connect(fd, (void *)&a, 1));
	a.ss_family = AF_UNIX;
	O("connect, another family", connect(fd, (void *)&a, len));
	O("sendto, another family", sendto(fd, "x", 1, 0, (void *)&a, len));
	o_server_addr(&a, o_port(0));
	O("sendto, short", sendto(fd, "x", 1, 0, (void *)&a, len - 5 ));
	o_server_addr(&a, 0);
	O("sendto port zero", sendto(fd, "x", 1, 0, (void *)&a, len));
	O("send unbound", send(fd, "x", 1, 0));
	own_name("bound by it", fd);
	o_unroutable_addr(&a, 9);
	O("sendto without a route", sendto(fd, "x", 1, 0, (void *)&a, len));
	O("connect without a route", connect(fd, (void *)&a, len));
	peer_name("not connected by it", fd);
	O("connect", connect_to(fd, O_SERVER, 0));
	O("connect without a route again", connect(fd, (void *)&a, len));
	peer_name("still connected", fd);
	O("sendto with AF_UNSPEC", (a.ss_family = AF_UNSPEC, sendto(fd, "x", 1, 0, (void *)&a, len)) >= -1);
	o_server_addr(&a, 0);
	O("connect to port zero", connect(fd, (void *)&a, len));
	peer_name("has no name then", fd);
	close(fd);
}
SCENARIO(udp_connect_errors, "connect and sendto that must fail", O_BOTH, NULL, errors_client)

/* --- connected elsewhere ----------------------------------------------------------------------------- */

static void away_server(void)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0), local = socket(o_family, SOCK_DGRAM, 0);
	char buf[20];

	bind(local, (void *)&a, o_loopback_addr(&a, o_port(1)));
	bind(fd, (void *)&a, o_any_addr(&a, o_port(0)));
	o_poll(fd, POLLIN);
	O("connect to loopback", connect_to(fd, O_LOOPBACK, 1));
	o_sync();
	o_sync();
	O("the wire is not heard", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	send_to(local, O_LOOPBACK, 0, "near");
	recv_from("loopback is", "from", fd);
	O("dissolve", dissolve(fd, sizeof(a)));
	O("connect to the client", connect_to(fd, O_CLIENT, 0));
	send_to(local, O_LOOPBACK, 0, "near");
	o_sync();
	recv_from("the wire is heard", "from the wire", fd);
	O("loopback is not", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("connect to a port zero", connect(fd, (void *)&a, o_client_addr(&a, 0)));
	o_sync();
	o_sync();
	recv_from("then any port of the peer is heard", "from any port", fd);
	o_sync();
	close(fd);
	close(local);
}

static void away_client(void)
{
	int fd = o_udp(0), other = o_udp(2);

	o_sync();
	send_to(fd, O_SERVER, 0, "far");
	settle();
	o_sync();
	o_sync();
	send_to(fd, O_SERVER, 0, "far");
	o_sync();
	send_to(other, O_SERVER, 0, "other");
	o_sync();
	o_sync();
	close(fd);
	close(other);
}
SCENARIO(udp_connected_away, "connected to loopback: the wire is not heard, and back", O_BOTH, away_server,
	 away_client)

/* --- shutdown and dissolve -------------------------------------------------------------------------- */

static void shut_client(void)
{
	int fd = o_udp_connected(0, 0);
	char c;

	O("shutdown", shutdown(fd, SHUT_RDWR));
	O("dissolve", dissolve(fd, sizeof(struct sockaddr_storage)));
	O("send after it", send_to(fd, O_SERVER, 0, "x"));
	O("recv after it", recv(fd, &c, 1, 0));
	o_events("poll after it", o_poll(fd, POLLIN | POLLOUT | POLLRDHUP));
	O("connect again", connect_to(fd, O_SERVER, 0));
	O("send then", send(fd, "x", 1, 0));
	close(fd);
}
SCENARIO(udp_shutdown_dissolve, "shutdown lasts beyond connect(AF_UNSPEC)", O_BOTH, NULL, shut_client)

/* Many short-lived connected sockets, as a resolver makes them. */
static void query_server(void)
{
	int fd = o_udp(0);
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[20];

	o_poll(fd, POLLIN);
	o_sync();
	for (int i = 0; i < 100; i++) {
		o_wait(fd, POLLIN);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (void *)&a, &len);

		if (n >= 0)
			sendto(fd, buf, (size_t)n, 0, (void *)&a, len);
	}
	o_sync();
	close(fd);
}

static void query_client(void)
{
	int right = 0;
	char q[20], buf[20];

	o_sync();
	for (int i = 0; i < 100; i++) {
		int fd = socket(o_family, SOCK_DGRAM, 0);

		connect_to(fd, O_SERVER, 0);
		snprintf(q, sizeof(q), "query %d", i);
		send_text(fd, q);
		o_wait(fd, POLLIN);
		right += recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == (ssize_t)strlen(q) &&
			 !memcmp(buf, q, strlen(q));
		close(fd);
	}
	O("right answers", right);
	o_sync();
}
SCENARIO(udp_queries, "a hundred sockets, a query each", O_BOTH, query_server, query_client)
