/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/inherit.c - sockets that a process did not make: by exec, by SCM_RIGHTS; daemons
 *
 * What is passed on is a listener, a bound UDP socket, or one that is not connected yet. The
 * process that made it does not use it: o_sync() would, so the other process does that.
 */
#include "oracle.h"

/* Where an exec'ed child finds its socket, and the highest number a daemon closes: those of the
 * runner itself are above. */
#define FD 9
#define CLOSE_TO 600

/* --- the client of all of them --------------------------------------------------------------------- */

static void ask(int port_index, const char *label)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(port_index));
	int fd = socket(o_family, SOCK_STREAM, 0);
	char buf[64];

	if (connect(fd, (void *)&a, len))
		o_fail("connect");
	o_send_all(fd, "request", 7);
	o_bytes(label, buf, o_recv_all(fd, buf, sizeof(buf)));
	close(fd);
}

static void one_client(void)
{
	o_sync();
	ask(0, "answer");
}

/* One request on a connection. */
static void serve(int fd, const char *answer)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[16];

	O("getsockname", getsockname(fd, (void *)&a, &len));
	o_addr("own name", &a, len);
	len = sizeof(a);
	O("getpeername", getpeername(fd, (void *)&a, &len));
	o_addr("peer's name", &a, len);
	o_bytes("request", buf, o_recv_all(fd, buf, 7));
	O("send", send(fd, answer, strlen(answer), 0));
	O("close", close(fd));
}

static int opt(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	getsockopt(fd, level, name, &v, &len);
	return v;
}

/* Run a child of this program with sock as descriptor `to`, and record its end. */
static void run_with(int sock, int to, const char *child)
{
	pid_t pid = fork();
	int st;

	if (!pid) {
		if (dup2(sock, to) < 0)
			_exit(9);
		execl(o_self(), "oracle", "--child", child, NULL);
		_exit(8);
	}
	if (waitpid(pid, &st, 0) != pid)
		o_fail("waitpid");
	o_status("the child", st);
}

/* --- exec ------------------------------------------------------------------------------------- */

O_CHILD(listener)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	o_say("listens", "%d", opt(FD, SOL_SOCKET, SO_ACCEPTCONN));
	O("listener's name", getsockname(FD, (void *)&a, &len));
	o_addr("listens on", &a, len);
	O("bind again", bind(FD, (void *)&a, len));
	O("listen again", listen(FD, 5));
	o_sync();
	o_events("poll", o_wait(FD, POLLIN));
	serve((int)O_OK("accept", accept(FD, NULL, NULL)), "from the new image");
	return 5;
}

static void listener_server(void)
{
	int lst = o_listener(0);

	run_with(lst, FD, "listener");
	close(lst);
}
SCENARIO(exec_listener, "a listener inherited by exec is served", O_BOTH, listener_server, one_client)

O_CHILD(listener_options)
{
	uint64_t start = o_now();
	int one = 1, fd;

	o_say("SO_KEEPALIVE", "%d", opt(FD, SOL_SOCKET, SO_KEEPALIVE));
	O("accept with a time-out", accept(FD, NULL, NULL));
	o_time("time-out", start, 200);
	o_nonblock(FD, true);
	O("accept without blocking", accept(FD, NULL, NULL));
	O("setsockopt", setsockopt(FD, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof(one)));
	o_sync();
	o_wait(FD, POLLIN);
	fd = (int)O_OK("accept", accept(FD, NULL, NULL));
	o_bool("accepted blocks", !(fcntl(fd, F_GETFL) & O_NONBLOCK));
	o_say("TCP_NODELAY", "%d", opt(fd, IPPROTO_TCP, TCP_NODELAY));
	o_say("SO_KEEPALIVE accepted", "%d", opt(fd, SOL_SOCKET, SO_KEEPALIVE));
	o_say("TCP_KEEPIDLE", "%d", opt(fd, IPPROTO_TCP, TCP_KEEPIDLE));
	serve(fd, "with options");
	return 0;
}

static void options_server(void)
{
	struct timeval tv = {.tv_usec = 200000};
	int lst = o_listener(0), one = 1, idle = 77;

	setsockopt(lst, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(lst, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(lst, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(lst, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	run_with(lst, FD, "listener_options");
	close(lst);
}
SCENARIO(exec_listener_options, "what was set on a listener before exec holds after it", O_BOTH,
	 options_server, one_client)

O_CHILD(many_numbers)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0);

	/* a service of inetd has the socket as 0, 1 and 2 */
	dup2(FD, 0);
	dup2(FD, 1);
	O("EPOLL_CTL_ADD", epoll_ctl(ep, EPOLL_CTL_ADD, 0, &ev));
	o_nonblock(1, true);
	O("accept of 0 does not block", accept(0, NULL, NULL));
	O("close of 9", close(FD));
	o_sync();
	O("epoll_wait", epoll_wait(ep, &ev, 1, 5000));
	o_events("event", ev.events);
	serve((int)O_OK("accept", accept(1, NULL, NULL)), "by another number");
	O("close of 0", close(0));
	O("close of 1", close(1));
	close(ep);
	return 0;
}

static void numbers_server(void)
{
	int lst = o_listener(0);

	run_with(lst, FD, "many_numbers");
	close(lst);
}
SCENARIO(exec_many_numbers, "one inherited listener under several numbers, with epoll", O_BOTH,
	 numbers_server, one_client)

/* The child serves, ends, and then its parent serves the same listener. */
static void turns_server(void)
{
	int lst = o_listener(0), fd;

	run_with(lst, FD, "listener");
	o_sync();
	fd = (int)O_OK("accept of the parent", accept(lst, NULL, NULL));
	O("send of the parent", send(fd, "parent", 6, 0));
	close(fd);
	close(lst);
}

static void turns_client(void)
{
	one_client();
	o_sync();
	ask(0, "answer of the parent");
}
SCENARIO(exec_turns, "a listener is served by the child, and after its end by the parent", O_BOTH,
	 turns_server, turns_client)

O_CHILD(datagrams)
{
	char buf[64], control[256];
	struct sockaddr_storage from;
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov,
			   .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n;

	o_sync();
	n = O("recvmsg", recvmsg(FD, &m, 0));
	o_bytes("datagram", buf, n < 0 ? 0 : n);
	o_addr("from", &from, m.msg_namelen);
	o_bool("with the address it came to", CMSG_FIRSTHDR(&m) != NULL);
	O("sendto", sendto(FD, "back", 4, 0, (void *)&from, m.msg_namelen));
	O("connect", connect(FD, (void *)&from, m.msg_namelen));
	O("send", send(FD, "again", 5, 0));
	o_sync();
	return 0;
}

static void datagrams_server(void)
{
	int fd = o_udp(0), one = 1;

	if (o_family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));
	run_with(fd, FD, "datagrams");
	close(fd);
}

static void datagrams_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = o_udp(1);
	char buf[16];

	o_sync();
	sendto(fd, "datagram", 8, 0, (void *)&a, len);
	o_bytes("answer", buf, recv(fd, buf, sizeof(buf), 0));
	o_bytes("second", buf, recv(fd, buf, sizeof(buf), 0));
	o_sync();
	close(fd);
}
SCENARIO(exec_udp, "a bound UDP socket inherited by exec, with IP_PKTINFO set before", O_BOTH,
	 datagrams_server, datagrams_client)

/* --- unconnected sockets, by exec ----------------------------------------------------------------- */

static void fresh_server(void)
{
	int lst = o_listener(0), fd;
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[16];

	o_sync();
	for (int i = 0; i < 2; i++) {
		fd = accept(lst, (void *)&a, &len);
		o_addr(i ? "bound one from" : "fresh one from", &a, len);
		o_bytes(i ? "bound one sent" : "fresh one sent", buf, o_recv_all(fd, buf, 5));
		close(fd);
	}
	close(lst);
}

O_CHILD(fresh)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int v = opt(FD, IPPROTO_TCP, TCP_NODELAY);
	char c;

	o_say(v ? "TCP_NODELAY" : "no TCP_NODELAY", "%d", v);
	O(v ? "send (bound)" : "send", send(FD, "x", 1, MSG_NOSIGNAL));
	O(v ? "connect (bound)" : "connect", connect(FD, (void *)&a, len));
	O(v ? "sent (bound)" : "sent", send(FD, "hello", 5, 0));
	O(v ? "recv (bound)" : "recv", recv(FD, &c, 1, 0));
	return 0;
}

static void fresh_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_client_addr(&a, o_port(1));
	int fd = socket(o_family, SOCK_STREAM, 0), one = 1;

	o_sync();
	run_with(fd, FD, "fresh");
	close(fd);
	fd = socket(o_family, SOCK_STREAM, 0);
	O("bind", bind(fd, (void *)&a, len));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	run_with(fd, FD, "fresh");
	close(fd);
}
SCENARIO(exec_unconnected, "unconnected sockets that the new image connects", O_BOTH, fresh_server, fresh_client)

/* --- SCM_RIGHTS --------------------------------------------------------------------------------- */

static void pass(int via, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 'f';
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(via, &m, 0) != 1)
		o_fail("sendmsg of a descriptor");
}

static int taken(int via, bool many)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte;
	struct iovec iov = {&byte, 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
					.msg_controllen = sizeof(control)}};
	int fd;

	if (many ? recvmmsg(via, &m, 1, 0, NULL) != 1 : recvmsg(via, &m.msg_hdr, 0) != 1)
		o_fail("recvmsg of a descriptor");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m.msg_hdr)), sizeof(fd));
	return fd;
}

static int via[2];

static void receiver(void *arg)
{
	int lst = taken(via[1], false), udp = taken(via[1], true);
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[16];

	o_sync();
	serve((int)O_OK("accept", accept(lst, NULL, NULL)), "from the receiver");
	o_bytes("datagram", buf, recvfrom(udp, buf, sizeof(buf), 0, (void *)&a, &len));
	o_addr("from", &a, len);
	O("sendto", sendto(udp, "udp", 3, 0, (void *)&a, len));
	O("close the listener", close(lst));
	O("close the UDP socket", close(udp));
	o_sync();
}

static void passing_server(void)
{
	int lst, udp;
	pid_t pid;
	int st;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, via))
		o_fail("socketpair");
	pid = o_spawn(receiver, NULL);
	lst = o_listener(0);
	udp = o_udp(1);
	pass(via[0], lst);
	pass(via[0], udp);
	close(lst);
	close(udp);
	waitpid(pid, &st, 0);
	o_status("receiver", st);
	close(via[0]);
	close(via[1]);
}

static void passing_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(1));
	int fd = o_udp(2);
	char buf[16];

	o_sync();
	ask(0, "answer");
	sendto(fd, "dgram", 5, 0, (void *)&a, len);
	o_bytes("datagram back", buf, recv(fd, buf, sizeof(buf), 0));
	o_sync();
	close(fd);
}
SCENARIO(scm_listener, "a listener and a UDP socket received by SCM_RIGHTS", O_BOTH, passing_server,
	 passing_client)

static void self_server(void)
{
	int lst = o_listener(0), again;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, via))
		o_fail("socketpair");
	pass(via[0], lst);
	again = taken(via[1], false);
	o_bool("another number", again != lst);
	o_nonblock(again, true);
	O("accept does not block", accept(lst, NULL, NULL));
	O("close the first", close(lst));
	o_nonblock(again, false);
	o_sync();
	serve((int)O_OK("accept", accept(again, NULL, NULL)), "by the second");
	O("close the second", close(again));
	close(via[0]);
	close(via[1]);
}
SCENARIO(scm_to_itself, "a listener that a process sends to itself", O_BOTH, self_server, one_client)

/* --- daemons --------------------------------------------------------------------------------------- */

/* 0 to 2 are closed, so sockets get these numbers. */
static void low_numbers(void *arg)
{
	int lst, fd;

	close(0);
	close(1);
	close(2);
	lst = o_listener(0);
	o_say("listener's number", "%d", lst);
	o_sync();
	fd = (int)O("accept", accept(lst, NULL, NULL));
	serve(fd, "low numbers");
	O("close the listener", close(lst));
}

static void low_server(void)
{
	o_fork("the process", low_numbers, NULL);
}
SCENARIO(closed_stdio, "with 0, 1 and 2 closed, sockets get these numbers and work", O_BOTH, low_server,
	 one_client)

O_CHILD(low_image)
{
	low_numbers(NULL);
	return 0;
}

static void low_exec(void *arg)
{
	close(0);
	close(1);
	close(2);
	execl(o_self(), "oracle", "--child", "low_image", NULL);
}

static void low_exec_server(void)
{
	o_fork("the process", low_exec, NULL);
}
SCENARIO(closed_stdio_exec, "a program started with 0, 1 and 2 closed", O_BOTH, low_exec_server,
	 one_client)

static void closes_all(void *arg)
{
	int before = o_listener(0), lst;

	O("poll", o_poll(before, POLLIN)); /* everything that is opened at first use is open */
	for (int fd = 3; fd < CLOSE_TO; fd++)
		close(fd);
	O("the listener of before", fcntl(before, F_GETFD));
	lst = o_listener(0);
	o_say("lowest number", "%d", lst);
	O("close_range", close_range(lst + 1, CLOSE_TO, 0));
	o_sync();
	serve((int)O_OK("accept", accept(lst, NULL, NULL)), "after closing all");
}

static void closes_server(void)
{
	o_fork("the process", closes_all, NULL);
}
SCENARIO(close_all, "a daemon that closes every descriptor, then serves", O_BOTH, closes_server,
	 one_client)

/* The process that calls daemon() ends; its child serves and says so by closing the pipe. */
static int done[2];

static void daemonize(void)
{
	O("daemon", daemon(0, 0));
	o_bool("own session", getsid(0) == getpid());
	o_say("stdin is", "%d", isatty(0));
	close(done[0]);
}

static void daemon_first(void *arg)
{
	int lst;

	daemonize();
	lst = o_listener(0);
	o_sync();
	serve((int)O_OK("accept", accept(lst, NULL, NULL)), "a daemon");
}

static void daemon_later(void *arg)
{
	int lst = o_listener(0);

	daemonize();
	o_sync();
	serve((int)O_OK("accept", accept(lst, NULL, NULL)), "a daemon");
}

static void daemon_in_use(void *arg)
{
	int lst = o_listener(0);

	o_poll(lst, POLLIN); /* the parent's stack has the port */
	daemonize();
	o_sync();
	serve((int)O_OK("accept", accept(lst, NULL, NULL)), "a daemon");
}

static void daemon_server(void (*fn)(void *arg))
{
	char c;

	if (pipe(done))
		o_fail("pipe");
	o_fork("who called daemon()", fn, NULL);
	close(done[1]);
	O("the daemon's end", read(done[0], &c, 1));
	close(done[0]);
}

static void daemon_first_server(void)
{
	daemon_server(daemon_first);
}
SCENARIO(daemon_then_listen, "daemon(), then listen()", O_BOTH, daemon_first_server, one_client)

static void daemon_later_server(void)
{
	daemon_server(daemon_later);
}
SCENARIO(listen_then_daemon, "listen(), then daemon()", O_BOTH, daemon_later_server, one_client)

static void daemon_in_use_server(void)
{
	daemon_server(daemon_in_use);
}
SCENARIO(poll_then_daemon, "a listener that was polled, then daemon()", O_BOTH, daemon_in_use_server,
	 one_client)

/* daemon() puts /dev/null where a socket was. */
static void daemon_on_stdio(void *arg)
{
	int lst = o_listener(0), low;

	dup2(lst, 0);
	daemonize();
	O("accept on 0", accept(0, NULL, NULL));
	close(0);
	low = dup(lst);
	o_say("number of a copy", "%d", low);
	o_sync();
	serve((int)O_OK("accept", accept(low, NULL, NULL)), "a daemon");
}

static void daemon_on_stdio_server(void)
{
	daemon_server(daemon_on_stdio);
}
SCENARIO(daemon_over_socket, "daemon() with a listener as descriptor 0", O_BOTH, daemon_on_stdio_server,
	 one_client)
