/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_close.c - how connections end: FIN, shutdown(), RST, linger, time-outs */
#include "tcp_help.h"

static char label_text[96];
#define L(which, what) (snprintf(label_text, sizeof(label_text), "%s: %s", which, what), label_text)

/* Everything that can be asked of a connection. */
static void look(const char *which, int fd)
{
	t_poll(L(which, "poll"), fd);
	t_state(L(which, "state"), fd);
	t_peername(L(which, "peer"), fd);
	t_sockname(L(which, "name"), fd);
}

/* --- FIN ----------------------------------------------------------------------------------------- */

static void half_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLRDHUP);
	look("after the FIN", fd);
	t_recv("data before the FIN", fd, 10, 0);
	t_recv("EOF", fd, 10, 0);
	t_recv("EOF again", fd, 10, 0);
	t_recv("EOF, peek", fd, 10, MSG_PEEK);
	t_recv("EOF, not waiting", fd, 10, MSG_DONTWAIT);
	t_recv("EOF, nothing asked", fd, 0, 0);
	O("send then", send(fd, "late", 4, 0));
	o_sync();
	O("shutdown", shutdown(fd, SHUT_WR));
	t_wait_state(fd, TCP_CLOSE);
	look("both closed", fd);
	O("shutdown again", shutdown(fd, SHUT_RDWR));
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	t_recv("recv", fd, 10, 0);
	t_error("SO_ERROR", fd);
	o_sync();
	close(fd);
}

static void half_client(void)
{
	int fd = o_connected(0);

	O("send", send(fd, "data", 4, 0));
	O("shutdown", shutdown(fd, SHUT_WR));
	O("send after it", send(fd, "x", 1, MSG_NOSIGNAL));
	O("send nothing after it", send(fd, "", 0, MSG_NOSIGNAL));
	t_wait_state(fd, TCP_FIN_WAIT2);
	look("half closed", fd);
	O("shutdown again", shutdown(fd, SHUT_WR));
	o_sync();
	t_recv("data of the peer", fd, 10, 0);
	o_sync();
	o_wait(fd, POLLHUP);
	look("both closed", fd);
	t_recv("EOF", fd, 10, 0);
	O("shutdown at the end", shutdown(fd, SHUT_WR));
	O("connect", t_connect_server(fd, 0));
	t_error("SO_ERROR", fd);
	o_sync();
	close(fd);
}
SCENARIO(half, "half-close: data the other way, then the other half", O_BOTH, half_server, half_client)

static void close_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLRDHUP);
	look("peer closed", fd);
	O("first send", send(fd, "one", 3, 0));
	o_wait(fd, POLLHUP);
	look("after the answer", fd);
	O("second send", send(fd, "two", 3, MSG_NOSIGNAL));
	O("third send", send(fd, "three", 5, MSG_NOSIGNAL));
	t_recv("recv", fd, 10, 0);
	t_error("SO_ERROR", fd);
	close(fd);
}

static void close_client(void)
{
	int fd = o_connected(0);

	o_sync();
	close(fd);
}
SCENARIO(peer_closed, "sends to a peer that has closed", O_BOTH, close_server, close_client)

static void close_error_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLRDHUP);
	O("first send", send(fd, "one", 3, 0));
	o_wait(fd, POLLHUP);
	t_recv("recv first", fd, 10, 0);
	t_error("SO_ERROR", fd);
	t_error("SO_ERROR again", fd);
	look("then", fd);
	t_recv("recv", fd, 10, 0);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("shutdown", shutdown(fd, SHUT_WR));
	close(fd);
}
SCENARIO(peer_closed_error, "the error of such a send by SO_ERROR", O_BOTH, close_error_server,
	 close_client)

static void simultaneous_side(void)
{
	int fd = o_connected(0);

	o_sync();
	O("shutdown", shutdown(fd, SHUT_WR));
	o_wait(fd, POLLHUP);
	t_poll("poll", fd);
	t_recv("recv", fd, 10, 0);
	t_wait_state(fd, TCP_CLOSE);
	t_peername("peer", fd);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	o_sync();
	close(fd);
}
SCENARIO(simultaneous, "both sides shut down at once", O_BOTH, simultaneous_side, simultaneous_side)

/* --- shutdown(SHUT_RD) -------------------------------------------------------------------------------- */

static void read_shut_server(void)
{
	int fd = o_connected(0);

	O("send", send(fd, "before", 6, 0));
	o_sync();
	o_sync();
	O("send then", send(fd, "after", 5, 0));
	o_sync();
	o_sync();
	O("send last", send(fd, "last", 4, MSG_NOSIGNAL));
	o_wait(fd, POLLHUP);
	look("in the end", fd);
	t_recv("recv", fd, 10, 0);
	t_error("SO_ERROR", fd);
	close(fd);
}

static void read_shut_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait_bytes(fd, 6);
	O("shutdown", shutdown(fd, SHUT_RD));
	look("shut", fd);
	t_recv("data from before", fd, 3, 0);
	t_recv("rest", fd, 10, 0);
	t_recv("nothing", fd, 10, 0);
	o_sync();
	o_sync();
	o_wait_bytes(fd, 5);
	t_poll("poll with data", fd);
	t_recv("data from after", fd, 10, 0);
	t_recv("nothing again", fd, 10, 0);
	O("send still", send(fd, "x", 1, 0));
	O("shutdown write", shutdown(fd, SHUT_WR));
	o_wait(fd, POLLHUP);
	t_poll("poll shut both", fd);
	t_wait_state(fd, TCP_FIN_WAIT2);
	o_sync();
	t_wait_state(fd, TCP_CLOSE);
	look("data after both", fd);
	t_recv("recv", fd, 10, 0);
	t_recv("recv again", fd, 10, 0);
	close(fd);
}
SCENARIO(read_shut, "SHUT_RD: what comes later is read, until SHUT_WR follows", O_BOTH,
	 read_shut_server, read_shut_client)

static void unconnected_client(void)
{
	int fd = t_socket();

	O("RD", shutdown(fd, SHUT_RD));
	O("WR", shutdown(fd, SHUT_WR));
	O("RDWR", shutdown(fd, SHUT_RDWR));
	O("-1", shutdown(fd, -1));
	O("99", shutdown(fd, 99));
	t_poll("poll", fd);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	t_recv("recv", fd, 1, MSG_DONTWAIT);
	close(fd);
	O("closed", shutdown(fd, SHUT_RD));
}
SCENARIO(unconnected, "shutdown() of an unconnected socket", O_BOTH, NULL, unconnected_client)

/* --- RST ---------------------------------------------------------------------------------------------- */

static void reset_server(void)
{
	int fd;

	for (int i = 0; i < 6; i++) {
		fd = o_connected(0);
		o_sync();
		o_reset_close(fd);
		o_sync();
	}
}

static void reset_client(void)
{
	static const char *const names[] = { "recv", "send", "SO_ERROR", "poll", "shutdown", "peek" };
	int fd;

	for (int i = 0; i < 6; i++) {
		const char *n = names[i];

		fd = o_connected(0);
		o_sync();
		o_wait(fd, POLLHUP);
		look(n, fd);
		if (i == 0)
			t_recv(L(n, "first"), fd, 10, 0);
		if (i == 1)
			O(L(n, "first"), send(fd, "x", 1, MSG_NOSIGNAL));
		if (i == 2)
			t_error(L(n, "first"), fd);
		if (i == 4)
			O(L(n, "first"), shutdown(fd, SHUT_RDWR));
		if (i == 5)
			t_recv(L(n, "first"), fd, 10, MSG_PEEK);
		t_poll(L(n, "poll then"), fd);
		t_recv(L(n, "recv then"), fd, 10, 0);
		O(L(n, "send then"), send(fd, "x", 1, MSG_NOSIGNAL));
		t_recv(L(n, "recv again"), fd, 10, 0);
		t_error(L(n, "SO_ERROR then"), fd);
		t_poll(L(n, "poll at last"), fd);
		O(L(n, "shutdown then"), shutdown(fd, SHUT_WR));
		o_sync();
		close(fd);
	}
}
SCENARIO(reset, "a reset is told once, by whichever call comes first", O_BOTH, reset_server,
	 reset_client)

/* Who resets has unread data; what he sent before lies in our queue. */
static void unread_server(void)
{
	int fd = o_connected(0);

	O("send", send(fd, "keep", 4, 0));
	o_sync();
	o_wait_bytes(fd, 6);
	close(fd);
}

static void unread_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait_bytes(fd, 4);
	O("send what is never read", send(fd, "unread", 6, 0));
	o_wait(fd, POLLHUP);
	look("reset", fd);
	t_recv("what came before", fd, 2, 0);
	t_recv("the rest", fd, 10, 0);
	t_recv("then", fd, 10, 0);
	t_recv("then again", fd, 10, 0);
	close(fd);
}
SCENARIO(unread, "close() with unread data resets; received data survives", O_BOTH, unread_server,
	 unread_client)

/* Reset when this side has shut down: in FIN_WAIT2. */
static void reset_shut_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLRDHUP);
	o_sync();
	o_reset_close(fd);
	o_sync();
}

static void reset_shut_client(void)
{
	int fd = o_connected(0);

	O("shutdown", shutdown(fd, SHUT_WR));
	o_sync();
	t_wait_state(fd, TCP_FIN_WAIT2);
	o_sync();
	t_wait_state(fd, TCP_CLOSE);
	look("reset", fd);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	t_recv("recv", fd, 10, 0);
	t_error("SO_ERROR", fd);
	o_sync();
	close(fd);
}
SCENARIO(reset_shut, "reset of a half-closed connection", O_BOTH, reset_shut_server, reset_shut_client)

/* Reset after the peer's FIN: in CLOSE_WAIT, by data for a closed socket. */
static void reset_wait_client(void)
{
	int fd = o_connected(0);

	o_sync();
	shutdown(fd, SHUT_WR);
	o_sync();
	o_reset_close(fd);
	o_sync();
}

static void reset_wait_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLRDHUP);
	o_sync();
	o_wait(fd, POLLHUP);
	look("reset", fd);
	t_recv("recv", fd, 10, 0);
	t_poll("poll then", fd);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("send again", send(fd, "x", 1, MSG_NOSIGNAL));
	t_error("SO_ERROR", fd);
	o_sync();
	close(fd);
}
SCENARIO(reset_close_wait, "reset after the peer's FIN", O_BOTH, reset_wait_server, reset_wait_client)

/* --- SIGPIPE -------------------------------------------------------------------------------------------- */

static void pipe_child(void *arg)
{
	int fd = *(int *)arg;

	O("send", send(fd, "x", 1, 0));
	o_say("alive", "yes");
}

static void pipe_write_child(void *arg)
{
	O("write", write(*(int *)arg, "x", 1));
	o_say("alive after write", "yes");
}

static void pipe_first_child(void *arg)
{
	int fd = *(int *)arg;

	O("send with error", send(fd, "x", 1, 0));
	o_say("alive after error", "yes");
	O("send after error", send(fd, "x", 1, 0));
	o_say("alive after all", "yes");
}

static void pipe_ignored_child(void *arg)
{
	signal(SIGPIPE, SIG_IGN);
	O("send, ignored", send(*(int *)arg, "x", 1, 0));
}

static void pipe_server(void)
{
	int fd = o_connected(0);

	o_sync();
	close(fd);
	fd = o_connected(1);
	o_sync();
	o_reset_close(fd);
	o_sync();
}

static void pipe_client(void)
{
	int fd = o_connected(0), raw = t_socket();

	o_fork("unconnected", pipe_child, &raw);
	shutdown(fd, SHUT_WR);
	o_fork("after shutdown", pipe_write_child, &fd);
	o_fork("ignored", pipe_ignored_child, &fd);
	O("MSG_NOSIGNAL", send(fd, "x", 1, MSG_NOSIGNAL));
	close(raw);
	o_sync();
	close(fd);
	fd = o_connected(1);
	o_sync();
	o_wait(fd, POLLHUP);
	o_fork("after reset", pipe_first_child, &fd);
	o_sync();
	close(fd);
}
SCENARIO(sigpipe, "SIGPIPE with EPIPE, not with the error itself", O_BOTH, pipe_server, pipe_client)

/* --- linger ------------------------------------------------------------------------------------------------- */

static void linger_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLHUP);
	t_recv("linger 0", fd, 10, 0);
	close(fd);
	fd = o_connected(0);
	o_wait(fd, POLLRDHUP);
	t_recv("linger 2", fd, 10, 0);
	t_recv("linger 2, EOF", fd, 10, 0);
	o_sync();
	close(fd);
}

static void linger_client(void)
{
	int fd = o_connected(0);
	uint64_t start;

	t_linger(fd, 0);
	o_sync();
	O("close, 0 s", close(fd));
	fd = o_connected(0);
	t_linger(fd, 2);
	o_bool("send", send(fd, "data", 4, 0) == 4);
	start = o_now();
	O("close, 2 s", close(fd));
	o_time("soon", start, 0);
	o_sync();
}
SCENARIO(linger, "SO_LINGER: 0 resets, more waits until all is acknowledged", O_BOTH, linger_server,
	 linger_client)

static void linger_lost_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_sync();
	close(fd);
}

static void linger_lost_client(void)
{
	int fd = o_connected(0);
	uint64_t start;

	t_linger(fd, 1);
	o_sync();
	t_cut(true);
	O("send", send(fd, "data", 4, 0));
	start = o_now();
	O("close", close(fd));
	o_time("1 s", start, 1000);
	t_cut(false);
	o_sync();
}
SCENARIO(linger_lost, "SO_LINGER and a peer that does not answer", O_BOTH, linger_lost_server,
	 linger_lost_client)

/* --- time-outs -------------------------------------------------------------------------------------------------- */

static void vanish_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_sync();
	close(fd);
}

static void keepalive_client(void)
{
	int fd = o_connected(0);
	uint64_t start;

	t_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	t_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	t_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	t_set(fd, IPPROTO_TCP, TCP_KEEPCNT, 2);
	o_sync();
	t_cut(true);
	start = o_now();
	t_recv("recv", fd, 10, 0);
	o_time("3 s", start, 3000);
	look("then", fd);
	t_recv("recv again", fd, 10, 0);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	t_cut(false);
	o_sync();
	close(fd);
}
SCENARIO(keepalive, "keepalive finds that the peer vanished", O_BOTH, vanish_server, keepalive_client)

static void user_timeout_client(void)
{
	int fd = o_connected(0);
	uint64_t start;

	t_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1500);
	o_sync();
	t_cut(true);
	O("send", send(fd, "data", 4, 0));
	start = o_now();
	o_wait(fd, POLLHUP);
	o_time("1.5 s", start, 1500);
	look("then", fd);
	t_recv("recv", fd, 10, 0);
	O("send then", send(fd, "x", 1, MSG_NOSIGNAL));
	t_error("SO_ERROR", fd);
	t_cut(false);
	o_sync();
	close(fd);
}
SCENARIO(user_timeout, "TCP_USER_TIMEOUT with unacknowledged data", O_BOTH, vanish_server,
	 user_timeout_client)

/* --- the port afterwards ----------------------------------------------------------------------------------------- */

static void rebind_server(void)
{
	int fd, l = o_listener(0);

	o_sync();
	fd = accept(l, NULL, NULL);
	close(l);
	l = t_socket();
	O("bind beside a connection", t_bind_own(l, o_port(0)));
	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind with SO_REUSEADDR", t_bind_own(l, o_port(0)));
	O("listen", listen(l, 4));
	close(l);
	shutdown(fd, SHUT_WR); /* this side has TIME_WAIT */
	o_sync();
	o_wait(fd, POLLHUP);
	close(fd);
	l = t_socket();
	O("bind in TIME_WAIT", t_bind_own(l, o_port(0)));
	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind in TIME_WAIT with SO_REUSEADDR", t_bind_own(l, o_port(0)));
	O("listen in TIME_WAIT", listen(l, 4));
	o_poll(l, POLLIN);
	o_sync();
	fd = O_OK("accept", accept(l, NULL, NULL));
	t_recv("recv", fd, 10, 0);
	close(fd);
	close(l);
}

static void rebind_client(void)
{
	int fd = t_socket();

	o_sync();
	t_connect_server(fd, 0);
	o_sync();
	o_wait(fd, POLLRDHUP);
	close(fd);
	o_sync();
	fd = t_socket();
	O("connect to the new one", t_connect_server(fd, 0));
	O("send", send(fd, "hello", 5, 0));
	close(fd);
}
SCENARIO(rebind, "a port with TIME_WAIT is bound again with SO_REUSEADDR", O_BOTH, rebind_server,
	 rebind_client)
