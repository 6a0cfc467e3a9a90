/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_accept.c - listen() and accept() */
#include "tcp_help.h"

#include <pthread.h>

static int dial(int port_index)
{
	int fd = t_socket();

	if (t_connect_server(fd, port_index))
		o_fail("connect");
	return fd;
}

/* --- states of a listener ------------------------------------------------------------------------- */

static void states_client(void)
{
	int l = t_socket(), fd;

	O("accept of a fresh one", accept(l, NULL, NULL));
	O("bad flags of accept4", accept4(l, NULL, NULL, 1));
	O("bind", t_bind_own(l, o_port(0)));
	O("accept of a bound one", accept(l, NULL, NULL));
	t_poll("poll bound", l);
	O("listen", listen(l, 4));
	t_poll("poll", l);
	t_state("state", l);
	t_sockname("name", l);
	t_peername("peer", l);
	o_say("SO_ACCEPTCONN", "%d", t_get(l, SOL_SOCKET, SO_ACCEPTCONN));
	O("listen again", listen(l, 8));
	O("listen, negative", listen(l, -1));
	O("bind again", t_bind_own(l, o_port(1)));
	t_recv("recv", l, 1, MSG_DONTWAIT);
	O("send", send(l, "x", 1, MSG_NOSIGNAL));
	O("connect", t_connect_server(l, 3));
	O("SIOCINQ", ioctl(l, FIONREAD, &(int){ 0 }));
	o_nonblock(l, true);
	O("accept", accept(l, NULL, NULL));
	O("accept4, bad flags", accept4(l, NULL, NULL, 0x10));
	O("accept, half an address", accept(l, &(struct sockaddr){ 0 }, NULL));
	O("shutdown WR", shutdown(l, SHUT_WR));
	t_poll("poll after SHUT_WR", l);
	O("accept after SHUT_WR", accept(l, NULL, NULL));
	O("shutdown RD", shutdown(l, SHUT_RD));
	t_poll("poll after SHUT_RD", l);
	t_state("state after SHUT_RD", l);
	O("accept after SHUT_RD", accept(l, NULL, NULL));
	t_sockname("name after SHUT_RD", l);
	o_say("SO_ACCEPTCONN after SHUT_RD", "%d", t_get(l, SOL_SOCKET, SO_ACCEPTCONN));
	O("shutdown again", shutdown(l, SHUT_RD));
	O("listen after SHUT_RD", listen(l, 4));
	t_poll("poll listening again", l);
	close(l);
	fd = t_socket();
	O("listen without bind", listen(fd, 1));
	t_sockname("name without bind", fd);
	close(fd);
	fd = socket(o_family, SOCK_DGRAM, 0);
	O("listen UDP", listen(fd, 1));
	O("accept UDP", accept(fd, NULL, NULL));
	close(fd);
}
SCENARIO(states, "what a listener answers", O_BOTH, NULL, states_client)

static void again_server(void)
{
	int l = o_listener(0), fd;

	o_sync();
	fd = O_OK("accept", accept(l, NULL, NULL));
	O("shutdown", shutdown(l, SHUT_RDWR));
	O("accept then", accept(l, NULL, NULL));
	o_sync();
	o_sync();
	O("listen again", listen(l, 4));
	o_poll(l, POLLIN);
	o_sync();
	close(fd);
	fd = O_OK("accept again", accept(l, NULL, NULL));
	t_recv("recv", fd, 5, MSG_WAITALL);
	close(fd);
	close(l);
}

static void again_client(void)
{
	int fd, two;

	o_sync();
	fd = dial(0);
	o_sync();
	two = t_socket();
	O("connect meanwhile", t_connect_server(two, 0));
	close(two);
	o_sync();
	o_sync();
	close(fd);
	fd = t_socket();
	O("connect again", t_connect_server(fd, 0));
	O("send", send(fd, "again", 5, 0));
	close(fd);
}
SCENARIO(again, "a listener is shut down, and listens again", O_BOTH, again_server, again_client)

/* --- accepted sockets --------------------------------------------------------------------------------- */

static void accepted_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(0));
	int l = t_socket(), fd;

	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind wildcard", bind(l, (struct sockaddr *)&a, len));
	O("listen", listen(l, 8));
	o_sync();
	len = sizeof(a);
	fd = O_OK("accept", accept(l, (struct sockaddr *)&a, &len));
	o_addr("address", &a, len);
	t_sockname("name for a wildcard", fd);
	o_say("flags", "%#x", (unsigned)fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ASYNC));
	o_say("descriptor flags", "%d", fcntl(fd, F_GETFD));
	t_poll("poll", fd);
	close(fd);
	o_nonblock(l, true);
	o_sync();
	o_wait(l, POLLIN);
	len = 4;
	memset(&a, 0, sizeof(a));
	fd = O_OK("accept, short address", accept(l, (struct sockaddr *)&a, &len));
	o_say("length told", "%u", (unsigned)len);
	o_say("O_NONBLOCK is not inherited", "%#x", (unsigned)fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
	o_sync();
	o_wait(l, POLLIN);
	fd = O_OK("accept4", accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	o_say("accept4 flags", "%#x", (unsigned)fcntl(fd, F_GETFL) & O_NONBLOCK);
	o_say("accept4 descriptor flags", "%d", fcntl(fd, F_GETFD));
	t_recv("recv", fd, 1, 0);
	close(fd);
	o_sync();
	close(l);
}

static void accepted_client(void)
{
	int fd;

	o_sync();
	fd = dial(0);
	o_sync();
	close(fd);
	fd = dial(0);
	o_sync();
	close(fd);
	fd = dial(0);
	o_sync();
	close(fd);
}
SCENARIO(accepted, "addresses and flags of accepted sockets", O_BOTH, accepted_server, accepted_client)

static void order_server(void)
{
	int l = o_listener(0), fd;
	char label[32];

	o_sync();
	o_sync();
	for (int i = 0; i < 4; i++) {
		fd = accept(l, NULL, NULL);
		snprintf(label, sizeof(label), "%d", i);
		t_recv(label, fd, 1, 0);
		close(fd);
	}
	close(l);
}

static void order_client(void)
{
	int fd[4];

	o_sync();
	for (int i = 0; i < 4; i++) {
		fd[i] = dial(0);
		o_send_all(fd[i], &"abcd"[i], 1);
	}
	o_sync();
	for (int i = 0; i < 4; i++)
		close(fd[i]);
}
SCENARIO(order, "connections are accepted in order, with the data that came before", O_BOTH,
	 order_server, order_client)

/* --- what happened before accept() --------------------------------------------------------------------- */

static void before_server(void)
{
	int l = o_listener(0), fd;

	o_sync();
	o_sync();
	fd = O_OK("accept with data and FIN", accept(l, NULL, NULL));
	o_wait(fd, POLLRDHUP);
	t_poll("data and FIN: poll", fd);
	t_state("data and FIN: state", fd);
	t_recv("data and FIN: recv", fd, 10, 0);
	t_recv("data and FIN: EOF", fd, 10, 0);
	close(fd);
	o_sync();
	o_sync();
	fd = O_OK("accept with RST", accept(l, NULL, NULL));
	o_wait(fd, POLLHUP);
	t_poll("RST: poll", fd);
	t_peername("RST: peer", fd);
	t_sockname("RST: name", fd);
	t_recv("RST: recv", fd, 10, 0);
	t_recv("RST: recv again", fd, 10, 0);
	O("RST: send", send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);
	close(l);
}

static void before_client(void)
{
	int fd;

	o_sync();
	fd = dial(0);
	o_send_all(fd, "data", 4);
	close(fd);
	o_sync();
	o_sync();
	fd = dial(0);
	o_reset_close(fd);
	o_sync();
}
SCENARIO(before, "data, FIN and RST before accept()", O_BOTH, before_server, before_client)

static void queued_server(void)
{
	int l = o_listener(0);

	o_sync();
	o_sync();
	close(l);
	o_sync();
	l = o_listener(1);
	o_sync();
	o_sync();
	shutdown(l, SHUT_RD);
	o_sync();
	close(l);
}

static void queued_client(void)
{
	for (int i = 0; i < 2; i++) {
		char label[48];
		int fd;

		o_sync();
		fd = dial(i);
		o_sync();
		o_wait(fd, POLLHUP);
		snprintf(label, sizeof(label), "%s: poll", i ? "shutdown" : "close");
		t_poll(label, fd);
		snprintf(label, sizeof(label), "%s: recv", i ? "shutdown" : "close");
		t_recv(label, fd, 10, 0);
		close(fd);
		o_sync();
	}
}
SCENARIO(queued, "connections that wait when the listener ends are reset", O_BOTH, queued_server,
	 queued_client)

/* --- the queue is full ------------------------------------------------------------------------------------ */

static void backlog_server(void)
{
	int l = t_socket(), fd;

	t_set(l, SOL_SOCKET, SO_REUSEADDR, 1);
	O("bind", t_bind_own(l, o_port(0)));
	O("listen, 1", listen(l, 1));
	o_sync();
	o_sync();
	for (int i = 0; i < 2; i++) {
		fd = O_OK(i ? "second" : "first", accept(l, NULL, NULL));
		close(fd);
	}
	fd = O_OK("late one", accept(l, NULL, NULL));
	t_recv("late one: recv", fd, 4, MSG_WAITALL);
	close(fd);
	close(l);
}

static void backlog_client(void)
{
	int fd[3];

	o_sync();
	for (int i = 0; i < 3; i++) {
		char label[32];

		fd[i] = t_socket();
		t_timeout(fd[i], SO_SNDTIMEO, 500);
		snprintf(label, sizeof(label), "connect %d", i);
		O(label, t_connect_server(fd[i], 0));
	}
	o_sync();
	t_timeout(fd[2], SO_SNDTIMEO, 8000);
	o_events("late one", o_wait(fd[2], POLLOUT));
	O("send", send(fd[2], "late", 4, 0));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}
SCENARIO(backlog, "one more than the backlog is taken, the next has to wait", O_BOTH, backlog_server,
	 backlog_client)

/* --- threads ------------------------------------------------------------------------------------------------ */

static void *acceptor(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);

	if (fd < 0)
		return (void *)(long)-errno;
	close(fd);
	return (void *)1;
}

static void threads_server(void)
{
	int l = o_listener(0), done = 0;
	pthread_t t[3];
	void *r;

	o_sync();
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, acceptor, &l);
	o_sync();
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &r);
		done += (long)r == 1;
	}
	o_say("threads that got one", "%d", done);
	pthread_create(&t[0], NULL, acceptor, &l);
	poll(NULL, 0, 200);
	O("shutdown", shutdown(l, SHUT_RD));
	pthread_join(t[0], &r);
	o_errno("the thread in accept()", (int)-(long)r);
	close(l);
}

static void threads_client(void)
{
	int fd[3];

	o_sync();
	o_sync();
	for (int i = 0; i < 3; i++)
		fd[i] = dial(0);
	for (int i = 0; i < 3; i++) {
		t_recv((const char *[]){ "EOF 0", "EOF 1", "EOF 2" }[i], fd[i], 1, 0);
		close(fd[i]);
	}
}
SCENARIO(threads, "several threads in accept()", O_BOTH, threads_server, threads_client)
