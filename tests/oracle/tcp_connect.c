/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_connect.c - connect() in all its outcomes, and what the socket is afterwards */
#include "tcp_help.h"

/* --- established -------------------------------------------------------------------------------- */

static void names_server(void)
{
	int l = o_listener(0), fd;

	t_sockname("listener's name", l);
	t_peername("listener's peer", l);
	o_sync();
	fd = O_OK("accept", accept(l, NULL, NULL));
	t_sockname("own name", fd);
	t_peername("peer's name", fd);
	o_sync();
	close(fd);
	close(l);
}

static void names_client(void)
{
	int fd = t_socket();

	t_sockname("name before", fd);
	t_peername("peer before", fd);
	t_poll("poll before", fd);
	t_state("state before", fd);
	o_sync();
	O("connect", t_connect_server(fd, 0));
	t_sockname("name", fd);
	t_peername("peer", fd);
	t_poll("poll", fd);
	t_state("state", fd);
	O("connect again", t_connect_server(fd, 0));
	O("bind", t_bind_own(fd, 0));
	O("listen", listen(fd, 1));
	O("accept", accept(fd, NULL, NULL));
	o_sync();
	close(fd);
}
SCENARIO(names, "names and states before and after connect()", O_BOTH, names_server, names_client)

static void echo_server(void)
{
	int l = o_listener(0), fd;
	char c;

	o_sync();
	fd = accept(l, NULL, NULL);
	if (fd < 0)
		o_fail("accept");
	while (read(fd, &c, 1) == 1 && write(fd, &c, 1) == 1)
		;
	close(fd);
	close(l);
}

static void echo_one(int fd)
{
	O("send", send(fd, "x", 1, 0));
	t_recv("answer", fd, 1, 0);
	t_peername("peer", fd);
}

static void refused_client(void)
{
	int fd = t_socket();

	o_sync();
	O("connect to a closed port", t_connect_server(fd, 1));
	t_error("SO_ERROR", fd);
	t_poll("poll", fd);
	t_state("state", fd);
	t_peername("peer when refused", fd);
	t_recv("recv when refused", fd, 1, MSG_DONTWAIT);
	O("send when refused", send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
	O("shutdown", shutdown(fd, SHUT_RD));
	O("connect again", t_connect_server(fd, 1));
	O("connect to the server", t_connect_server(fd, 0));
	t_state("state then", fd);
	echo_one(fd);
	close(fd);
}
SCENARIO(refused, "a refused socket connects again", O_BOTH, echo_server, refused_client)

static void refused_nonblock_client(void)
{
	int fd = t_socket();

	o_sync();
	o_nonblock(fd, true);
	O("connect to a closed port", t_connect_server(fd, 1));
	o_events("wait", o_wait(fd, POLLIN | POLLOUT | POLLRDHUP));
	t_state("state", fd);
	t_error("SO_ERROR", fd);
	t_error("SO_ERROR again", fd);
	t_poll("poll after", fd);
	t_peername("peer when refused", fd);
	t_recv("recv when refused", fd, 1, 0);
	O("send when refused", send(fd, "x", 1, MSG_NOSIGNAL));
	O("connect tells", t_connect_server(fd, 1));
	t_poll("poll then", fd);
	O("connect", t_connect_server(fd, 1));
	o_wait(fd, POLLOUT);
	O("result by connect", t_connect_server(fd, 1));
	O("connect again", t_connect_server(fd, 1));
	o_wait(fd, POLLOUT);
	t_recv("result by recv", fd, 1, 0);
	t_recv("recv again", fd, 1, 0);
	O("connect after recv", t_connect_server(fd, 0));
	O("connect to the server", t_connect_server(fd, 0));
	o_events("wait then", o_wait(fd, POLLOUT));
	o_nonblock(fd, false);
	echo_one(fd);
	close(fd);
}
SCENARIO(refused_nonblock, "refusal of a non-blocking connect() by every way to learn of it", O_BOTH,
	 echo_server, refused_nonblock_client)

static void nonblock_client(void)
{
	int fd = t_socket();

	o_sync();
	o_nonblock(fd, true);
	O("connect", t_connect_server(fd, 0));
	o_events("wait", o_wait(fd, POLLOUT));
	t_error("SO_ERROR", fd);
	O("connect tells", t_connect_server(fd, 0));
	O("connect again", t_connect_server(fd, 0));
	o_nonblock(fd, false);
	O("connect blocking", t_connect_server(fd, 0));
	echo_one(fd);
	close(fd);
}
SCENARIO(nonblock, "EINPROGRESS, 0, EISCONN", O_BOTH, echo_server, nonblock_client)

static void nonblock_send_client(void)
{
	int fd = t_socket();

	o_sync();
	o_nonblock(fd, true);
	O("connect", t_connect_server(fd, 0));
	o_wait(fd, POLLOUT);
	O("send", send(fd, "x", 1, 0)); /* without asking for the result */
	o_events("wait for answer", o_wait(fd, POLLIN));
	t_recv("answer", fd, 1, 0);
	O("connect tells", t_connect_server(fd, 0));
	O("connect again", t_connect_server(fd, 0));
	close(fd);
}
SCENARIO(nonblock_send, "data before connect() told its result", O_BOTH, echo_server,
	 nonblock_send_client)

static void reset_server(void)
{
	int l = o_listener(0), fd;

	o_sync();
	fd = accept(l, NULL, NULL);
	o_sync();
	o_reset_close(fd);
	fd = accept(l, NULL, NULL);
	o_sync();
	close(fd);
	close(l);
}

static void reset_client(void)
{
	int fd = t_socket();

	o_sync();
	o_nonblock(fd, true);
	O("connect", t_connect_server(fd, 0));
	o_wait(fd, POLLOUT);
	o_sync();
	o_wait(fd, POLLHUP);
	t_poll("poll", fd);
	t_state("state", fd);
	O("connect tells", t_connect_server(fd, 0));
	o_nonblock(fd, false);
	O("connect again", t_connect_server(fd, 0));
	t_state("state then", fd);
	o_sync();
	close(fd);
}
SCENARIO(reset_unasked, "reset before connect() was asked for its result", O_BOTH, reset_server,
	 reset_client)

static void reset_known_client(void)
{
	int fd = t_socket();

	o_sync();
	O("connect", t_connect_server(fd, 0));
	o_sync();
	o_wait(fd, POLLHUP);
	O("connect after reset", t_connect_server(fd, 0));
	t_recv("recv", fd, 1, 0);
	O("connect once more", t_connect_server(fd, 0));
	t_peername("peer", fd);
	t_sockname("name", fd);
	close(fd);
	fd = t_socket();
	O("connect another", t_connect_server(fd, 0));
	o_sync();
	close(fd);
}
SCENARIO(reset_known, "connect() on a connection that was reset", O_BOTH, reset_server,
	 reset_known_client)

/* --- nobody answers ----------------------------------------------------------------------------------- */

static socklen_t lost(struct sockaddr_storage *a)
{
	socklen_t len = o_absent_addr(a, o_port(0));

	t_neighbour(a, true);
	return len;
}

static void silent_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = lost(&a);
	int fd = t_socket();

	o_nonblock(fd, true);
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("connect again", connect(fd, (struct sockaddr *)&a, len));
	t_poll("poll", fd);
	t_error("SO_ERROR", fd);
	t_state("state", fd);
	t_sockname("name", fd);
	t_peername("peer", fd);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("send nothing", send(fd, "", 0, MSG_NOSIGNAL));
	t_recv("recv", fd, 1, 0);
	O("bind", t_bind_own(fd, o_port(3)));
	O("listen", listen(fd, 1));
	O("accept", accept(fd, NULL, NULL));
	O("SIOCINQ", ioctl(fd, FIONREAD, &(int){ 0 }));
	close(fd);
	t_neighbour(&a, false);
}
SCENARIO(silent, "a connection attempt that is not answered", O_BOTH, NULL, silent_client)

static void silent_shutdown_client(void)
{
	static const int hows[] = { SHUT_RD, SHUT_WR, SHUT_RDWR };
	struct sockaddr_storage a;
	socklen_t len = lost(&a);

	for (int i = 0; i < 3; i++) {
		int fd = t_socket();
		char text[64];
#define L(what) (snprintf(text, sizeof(text), "%s %d", what, hows[i]), text)

		o_nonblock(fd, true);
		O(L("connect"), connect(fd, (struct sockaddr *)&a, len));
		O(L("shutdown"), shutdown(fd, hows[i]));
		t_poll(L("poll"), fd);
		t_state(L("state"), fd);
		t_error(L("SO_ERROR"), fd);
		t_poll(L("poll without error"), fd);
		t_recv(L("recv"), fd, 1, 0);
		O(L("send"), send(fd, "x", 1, MSG_NOSIGNAL));
		O(L("connect again"), connect(fd, (struct sockaddr *)&a, len));
		close(fd);
	}
	t_neighbour(&a, false);
}
SCENARIO(silent_shutdown, "shutdown() while connecting gives up", O_BOTH, NULL, silent_shutdown_client)

static void silent_dissolve_client(void)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct sockaddr_storage a;
	socklen_t len = lost(&a);
	int fd = t_socket();

	o_sync();
	o_nonblock(fd, true);
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("dissolve", connect(fd, &none, sizeof(none)));
	t_poll("poll", fd);
	t_error("SO_ERROR", fd);
	t_state("state", fd);
	o_nonblock(fd, false);
	O("connect to the server", t_connect_server(fd, 0));
	echo_one(fd);
	close(fd);
	t_neighbour(&a, false);
}
SCENARIO(silent_dissolve, "AF_UNSPEC while connecting", O_BOTH, echo_server, silent_dissolve_client)

static void silent_time_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = lost(&a);
	int fd = t_socket();
	uint64_t start = o_now();

	t_set(fd, IPPROTO_TCP, TCP_SYNCNT, 1);
	O("connect, one retry", connect(fd, (struct sockaddr *)&a, len));
	o_time("takes 3 s", start, 3000);
	t_error("SO_ERROR", fd);
	t_poll("poll", fd);
	t_timeout(fd, SO_SNDTIMEO, 300);
	t_set(fd, IPPROTO_TCP, TCP_SYNCNT, 6);
	start = o_now();
	O("connect with SO_SNDTIMEO", connect(fd, (struct sockaddr *)&a, len));
	o_time("takes 0.3 s", start, 300);
	t_state("state", fd);
	start = o_now();
	O("connect again", connect(fd, (struct sockaddr *)&a, len));
	o_time("again takes 0.3 s", start, 300);
	start = o_now();
	O("send", send(fd, "x", 1, 0));
	o_time("send takes 0.3 s", start, 300);
	close(fd);
	t_neighbour(&a, false);
}
SCENARIO(silent_time, "connect() with TCP_SYNCNT and SO_SNDTIMEO", O_BOTH, NULL, silent_time_client)

static void silent_user_timeout_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = lost(&a);
	int fd = t_socket();
	uint64_t start = o_now();

	t_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1800);
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	o_time("takes 1.8 s", start, 1800);
	close(fd);
	t_neighbour(&a, false);
}
SCENARIO(silent_user_timeout, "connect() with TCP_USER_TIMEOUT", O_BOTH, NULL,
	 silent_user_timeout_client)

static void absent_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_absent_addr(&a, o_port(0));
	int fd = t_socket();
	uint64_t start = o_now();

	O("connect", connect(fd, (struct sockaddr *)&a, len));
	o_time("takes 3 s", start, 3000);
	t_error("SO_ERROR", fd);
	t_poll("poll", fd);
	t_state("state", fd);
	close(fd);
}
SCENARIO(absent, "connect() to an address that nobody has", O_BOTH, NULL, absent_client)

static void unroutable_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_unroutable_addr(&a, o_port(0));
	int fd = t_socket();

	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	t_error("SO_ERROR", fd);
	t_poll("poll", fd);
	o_nonblock(fd, true);
	O("non-blocking", connect(fd, (struct sockaddr *)&a, len));
	o_nonblock(fd, false);
	O("connect to the server", t_connect_server(fd, 0));
	echo_one(fd);
	close(fd);
}
SCENARIO(unroutable, "connect() where no route leads", O_BOTH, echo_server, unroutable_client)

/* --- special addresses ---------------------------------------------------------------------------------- */

static void self_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_loopback_addr(&a, o_port(2));
	int fd = t_socket();

	O("bind", bind(fd, (struct sockaddr *)&a, len));
	O("connect to itself", connect(fd, (struct sockaddr *)&a, len));
	t_sockname("name", fd);
	t_peername("peer", fd);
	O("send", send(fd, "me", 2, 0));
	t_recv("recv", fd, 10, 0);
	O("shutdown", shutdown(fd, SHUT_WR));
	t_recv("EOF", fd, 10, 0);
	close(fd);
	fd = t_socket();
	t_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind to own address", t_bind_own(fd, o_port(3)));
	len = o_client_addr(&a, o_port(3));
	O("connect to own address", connect(fd, (struct sockaddr *)&a, len));
	O("send to own", send(fd, "me", 2, 0));
	t_recv("recv own", fd, 10, 0);
	close(fd);
}
SCENARIO(self, "a socket that connects to itself", O_BOTH, NULL, self_client)

static void any_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(2));
	int l = t_socket(), fd = t_socket(), c;

	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind", bind(l, (struct sockaddr *)&a, len));
	O("listen", listen(l, 5));
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	t_sockname("name", fd);
	t_peername("peer", fd);
	c = O_OK("accept", accept(l, NULL, NULL));
	t_sockname("accepted name", c);
	O("connect the listener", connect(l, (struct sockaddr *)&a, len));
	O("send", send(fd, "x", 1, 0));
	t_recv("recv", c, 1, 0);
	close(c);
	close(fd);
	fd = t_socket();
	len = o_client_addr(&a, o_port(2));
	O("connect to own address", connect(fd, (struct sockaddr *)&a, len));
	t_peername("own peer", fd);
	c = O_OK("accept own", accept(l, NULL, NULL));
	t_sockname("own accepted", c);
	close(c);
	close(fd);
	close(l);
	fd = t_socket();
	len = o_any_addr(&a, o_port(4));
	O("refused", connect(fd, (struct sockaddr *)&a, len));
	close(fd);
}
SCENARIO(any, "connect() to the wildcard address is to oneself", O_BOTH, NULL, any_client)

static void try_connect(const char *label, const char *text, uint16_t port)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port),
				    .sin6_scope_id = if_nametoindex(o_ifname()) };
	int fd = t_socket();

	o_nonblock(fd, true);
	if (inet_pton(AF_INET, text, &in4.sin_addr) == 1)
		O(label, connect(fd, (struct sockaddr *)&in4, sizeof(in4)));
	else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		O(label, connect(fd, (struct sockaddr *)&in6, sizeof(in6)));
	close(fd);
}

static void special_client(void)
{
	if (o_family == AF_INET) {
		try_connect("limited broadcast", "255.255.255.255", o_port(0));
		try_connect("multicast", "224.0.0.1", o_port(0));
		try_connect("class E", "240.0.0.1", o_port(0));
		try_connect("v6 address", "2001:db8::1", o_port(0));
	} else {
		try_connect("multicast", "ff02::1", o_port(0));
		try_connect("mapped multicast", "::ffff:224.0.0.1", o_port(0));
		try_connect("mapped broadcast", "::ffff:255.255.255.255", o_port(0));
		try_connect("v4 address", "127.0.0.1", o_port(0));
	}
}
SCENARIO(special, "connect() to broadcast and multicast addresses, to another family", O_BOTH, NULL,
	 special_client)

static void arguments_client(void)
{
	struct sockaddr_storage a, b;
	socklen_t len = o_server_addr(&a, 0);
	int fd = t_socket();

	o_sync();
	O("port 0", connect(fd, (struct sockaddr *)&a, len));
	len = o_server_addr(&a, o_port(0));
	O("length 0", connect(fd, (struct sockaddr *)&a, 0));
	O("length 1", connect(fd, (struct sockaddr *)&a, 1));
	O("length 2", connect(fd, (struct sockaddr *)&a, 2));
	O("length 15", connect(fd, (struct sockaddr *)&a, 15));
	O("negative length", connect(fd, (struct sockaddr *)&a, (socklen_t)-1));
	O("length 1000", connect(fd, (struct sockaddr *)&a, 1000));
	O("no address", connect(fd, NULL, len));
	b = a;
	b.ss_family = AF_UNIX;
	O("AF_UNIX", connect(fd, (struct sockaddr *)&b, len));
	b.ss_family = 77;
	O("family 77", connect(fd, (struct sockaddr *)&b, len));
	b.ss_family = AF_UNSPEC;
	O("AF_UNSPEC on a fresh one", connect(fd, (struct sockaddr *)&b, len));
	O("AF_UNSPEC, length 2", connect(fd, (struct sockaddr *)&b, 2));
	O("whole storage", connect(fd, (struct sockaddr *)&a, sizeof(a)));
	O("connected: length 0", connect(fd, (struct sockaddr *)&a, 0));
	O("connected: length 2", connect(fd, (struct sockaddr *)&a, 2));
	O("connected: AF_UNIX", connect(fd, &(struct sockaddr){ .sa_family = AF_UNIX }, 16));
	O("connected: no address", connect(fd, NULL, len));
	echo_one(fd);
	close(fd);
	O("closed descriptor", connect(fd, (struct sockaddr *)&a, len));
}
SCENARIO(arguments, "bad arguments of connect()", O_BOTH, echo_server, arguments_client)

/* --- dissolved ------------------------------------------------------------------------------------------- */

static void dissolve_server(void)
{
	int l = o_listener(0), fd;

	o_sync();
	fd = accept(l, NULL, NULL);
	o_sync();
	o_wait(fd, POLLHUP);
	t_recv("recv after dissolve", fd, 10, 0);
	t_recv("recv again", fd, 10, 0);
	close(fd);
	fd = accept(l, NULL, NULL);
	o_send_all(fd, "second", 6);
	o_sync();
	close(fd);
	close(l);
}

static void dissolve_client(void)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int fd = t_socket();

	o_sync();
	O("connect", t_connect_server(fd, 0));
	o_sync();
	O("dissolve", connect(fd, &none, sizeof(none)));
	t_poll("poll", fd);
	t_sockname("name", fd);
	t_peername("peer", fd);
	t_state("state", fd);
	t_error("SO_ERROR", fd);
	t_poll("poll without error", fd);
	t_recv("recv", fd, 1, MSG_DONTWAIT);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("dissolve again", connect(fd, &none, sizeof(none)));
	O("connect again", t_connect_server(fd, 0));
	t_recv("recv then", fd, 6, MSG_WAITALL);
	t_peername("peer then", fd);
	o_sync();
	close(fd);
}
SCENARIO(dissolve, "AF_UNSPEC ends a connection, and the socket connects again", O_BOTH,
	 dissolve_server, dissolve_client)

static void dissolve_bound_client(void)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int fd = t_socket();

	o_sync();
	O("bind", t_bind_own(fd, o_port(5)));
	O("connect", t_connect_server(fd, 0));
	o_sync();
	O("dissolve", connect(fd, &none, sizeof(none)));
	t_sockname("name", fd);
	t_error("SO_ERROR", fd);
	O("bind again", t_bind_own(fd, o_port(6)));
	close(fd);
	fd = t_socket();
	O("connect another", t_connect_server(fd, 0));
	t_recv("recv then", fd, 6, MSG_WAITALL);
	o_sync();
	close(fd);
}
SCENARIO(dissolve_bound, "AF_UNSPEC on a bound socket keeps its address", O_BOTH, dissolve_server,
	 dissolve_bound_client)

/* --- bound first --------------------------------------------------------------------------------------------- */

static void bound_server(void)
{
	int l = o_listener(0), fd;

	o_sync();
	for (int i = 0; i < 3; i++) {
		char label[32];

		snprintf(label, sizeof(label), "peer %d", i);
		fd = accept(l, NULL, NULL);
		t_peername(label, fd);
		o_sync();
		close(fd);
	}
	close(l);
}

static void bound_client(void)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd = t_socket(), two;

	o_sync();
	t_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind to address and port", t_bind_own(fd, o_port(4)));
	t_sockname("bound name", fd);
	O("connect", t_connect_server(fd, 0));
	t_sockname("name", fd);
	two = t_socket();
	t_set(two, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind a second", t_bind_own(two, o_port(4)));
	O("same addresses and ports", t_connect_server(two, 0));
	close(two);
	two = t_socket();
	O("bind without SO_REUSEADDR", t_bind_own(two, o_port(4)));
	close(two);
	o_sync();
	close(fd);
	fd = t_socket();
	O("bind to address only", t_bind_own(fd, 0));
	t_sockname("name with address", fd);
	O("connect with address", t_connect_server(fd, 0));
	t_sockname("connected with address", fd);
	o_sync();
	close(fd);
	fd = t_socket();
	t_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	len = o_any_addr(&a, o_port(5));
	O("bind to port only", bind(fd, (struct sockaddr *)&a, len));
	t_sockname("name with port", fd);
	O("bind again", bind(fd, (struct sockaddr *)&a, len));
	O("connect with port", t_connect_server(fd, 0));
	t_sockname("connected with port", fd);
	o_sync();
	close(fd);
}
SCENARIO(bound, "connect() of a bound socket", O_BOTH, bound_server, bound_client)

static void no_port_client(void)
{
	int fd = t_socket();

	o_sync();
	t_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	O("bind to address", t_bind_own(fd, 0));
	t_sockname("name", fd);
	O("connect", t_connect_server(fd, 0));
	t_sockname("connected", fd);
	echo_one(fd);
	close(fd);
}
SCENARIO(no_port, "IP_BIND_ADDRESS_NO_PORT", O_BOTH, echo_server, no_port_client)

static void loopback_bound_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_loopback_addr(&a, 0);
	int fd = t_socket();

	O("bind to loopback", bind(fd, (struct sockaddr *)&a, len));
	o_nonblock(fd, true);
	O("connect out", t_connect_server(fd, 0));
	close(fd);
	fd = t_socket();
	len = o_absent_addr(&a, 0);
	O("bind to a foreign address", bind(fd, (struct sockaddr *)&a, len));
	close(fd);
}
SCENARIO(loopback_bound, "connect() from addresses that don't fit", O_V4, NULL, loopback_bound_client)

static void shut_first_client(void)
{
	int fd = t_socket();

	o_sync();
	O("shutdown of a fresh one", shutdown(fd, SHUT_WR));
	O("bad how", shutdown(fd, 3));
	t_poll("poll", fd);
	O("connect", t_connect_server(fd, 0));
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	t_poll("poll connected", fd);
	t_state("state", fd);
	close(fd);
}
SCENARIO(shut_first, "shutdown() before connect() sticks", O_BOTH, echo_server, shut_first_client)

/* --- interrupted ------------------------------------------------------------------------------------------------ */

static void on_signal(int sig)
{
	(void)sig;
}

static void catch_alarm(int flags, unsigned ms)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };
	struct itimerval it = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

static void interrupted_child(void *arg)
{
	struct sockaddr_storage *a = arg;
	socklen_t len = a->ss_family == AF_INET ? sizeof(struct sockaddr_in) :
						  sizeof(struct sockaddr_in6);
	int fd = t_socket();
	uint64_t start = o_now();

	catch_alarm(0, 300);
	O("connect", connect(fd, (struct sockaddr *)a, len));
	o_time("after 0.3 s", start, 300);
	o_nonblock(fd, true);
	O("connect again", connect(fd, (struct sockaddr *)a, len));
	t_poll("poll", fd);
	close(fd);
	fd = t_socket();
	t_set(fd, IPPROTO_TCP, TCP_SYNCNT, 1);
	start = o_now();
	catch_alarm(SA_RESTART, 300);
	O("connect, SA_RESTART", connect(fd, (struct sockaddr *)a, len));
	o_time("after 3 s", start, 3000);
	close(fd);
	fd = t_socket();
	t_timeout(fd, SO_SNDTIMEO, 1500);
	start = o_now();
	catch_alarm(SA_RESTART, 300);
	O("connect, SA_RESTART and SO_SNDTIMEO", connect(fd, (struct sockaddr *)a, len));
	o_time("after 0.3 s again", start, 300);
	close(fd);
}

static void interrupted_client(void)
{
	struct sockaddr_storage a;

	lost(&a);
	o_fork("child", interrupted_child, &a);
	t_neighbour(&a, false);
}
SCENARIO(interrupted, "connect() and signals", O_BOTH, NULL, interrupted_client)
