/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/poll.c - poll() and ppoll() */
#include "tests/oracle/events.h"

static void show(const char *label, struct pollfd *p, unsigned n, int ms)
{
	char text[600], bits[80];
	int r = poll(p, n, ms);
	size_t at;

	if (r < 0) {
		o_ret(label, r);
		return;
	}
	at = (size_t)snprintf(text, sizeof(text), "%d", r);
	for (unsigned i = 0; i < n && at < sizeof(text); i++) {
		ev_bits(bits, sizeof(bits), (uint16_t)p[i].revents);
		at += (size_t)snprintf(text + at, sizeof(text) - at, " %s", bits);
	}
	o_say(label, "%s", text);
}

static void calls_watch(void)
{
	struct timespec bad = { 0, 1000000000 }, neg = { -1, 0 }, zero = { 0 }, ms = { 0, 20000000 };
	int fd = ev_pair(0), file = open("/proc/self/exe", O_RDONLY), dead = dup(file);
	struct pollfd p[4] = { { .fd = fd, .events = POLLIN } }, *volatile wild = (void *)8;
	struct rlimit lim;
	uint64_t start;

	close(dead);
	getrlimit(RLIMIT_NOFILE, &lim);
	show("idle", p, 1, QUIET);
	O("no descriptors", poll(NULL, 0, 0));
	start = o_now();
	O("no descriptors, 20 ms", poll(NULL, 0, 20));
	o_time("as a sleep", start, 20);
	O("no descriptors, wild pointer", poll(wild, 0, 0));
	O("wild pointer", poll(wild, 1, 0));
	O("too many", poll(p, lim.rlim_cur + 1, 0));
	O("very many", poll(p, lim.rlim_cur * 1000, 0));
	p[0].fd = file; /* none of them is a socket */
	O("very many, of files", poll(p, lim.rlim_cur * 1000, 0));
	p[0].fd = fd;
	p[1] = (struct pollfd){ .fd = -1, .events = POLLIN, .revents = -1 };
	p[2] = (struct pollfd){ .fd = -fd - 1, .events = POLLIN, .revents = -1 };
	show("negative ones are left out", p, 3, 0);
	p[1] = (struct pollfd){ .fd = dead, .events = POLLIN };
	p[2] = (struct pollfd){ .fd = dead, .events = 0 };
	show("closed ones", p, 3, SOON);
	p[1] = (struct pollfd){ .fd = file, .events = POLLIN | POLLOUT | POLLPRI };
	p[2] = (struct pollfd){ .fd = 1 << 20, .events = POLLIN };
	show("a file and a number past all", p, 3, SOON);
	O("ppoll, too many ns", ppoll(p, 1, &bad, NULL));
	O("ppoll, negative time", ppoll(p, 1, &neg, NULL));
	O("ppoll, wild mask", ppoll(p, 1, &zero, (void *)wild));
	O("ppoll 0", ppoll(p, 1, &zero, NULL));
	start = o_now();
	O("ppoll 20 ms", ppoll(p, 1, &ms, NULL));
	o_time("ppoll took 20 ms", start, 20);
	o_bool("time not changed", ms.tv_sec == 0 && ms.tv_nsec == 20000000);
	start = o_now();
	O("poll 20 ms", poll(p, 1, 20));
	o_time("poll took 20 ms", start, 20);
	start = o_now();
	ms.tv_nsec = 300000;
	O("ppoll 300 us", ppoll(p, 1, &ms, NULL));
	o_bool("not early", o_now() - start >= 300000);
	o_sync();
	show("poll -7 waits", p, 1, -7);
	close(fd);
	show("closed", p, 1, SOON);
	close(file);
	o_sync();
}

static void calls_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	ev_pause(20);
	ev_give(fd, 1);
	o_sync();
	close(fd);
}
WATCHED(poll_calls, "poll() and ppoll(): arguments and time-outs", calls_watch, calls_act)

enum { ALL = POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLRDBAND |
	     POLLWRBAND };

static void bits_watch(void)
{
	int fd = ev_pair(0), fresh = socket(o_family, SOCK_STREAM, 0),
	    udp = socket(o_family, SOCK_DGRAM, 0), p[2];
	struct pollfd f[8] = { { .fd = fd, .events = ALL }, { .fd = fd, .events = POLLIN },
			       { .fd = fd, .events = POLLRDNORM | POLLWRNORM },
			       { .fd = fresh, .events = ALL }, { .fd = fresh, .events = 0 },
			       { .fd = udp, .events = ALL } };

	if (pipe(p))
		o_fail("pipe");
	f[6] = (struct pollfd){ .fd = p[0], .events = ALL };
	f[7] = (struct pollfd){ .fd = p[1], .events = ALL };
	show("all at once", f, 8, SOON);
	o_sync();
	o_wait(fd, POLLIN);
	show("data", f, 3, SOON);
	ev_drain(fd);
	f[0].events = f[1].events = f[2].events = POLLIN;
	f[0].revents = f[1].revents = -1;
	show("cleared", f, 3, QUIET);
	o_sync();
	show("data for three", f, 3, SOON);
	ev_drain(fd);
	o_sync();
	f[0].events = POLLRDHUP;
	f[1].events = POLLIN | POLLRDHUP;
	f[2].events = 0;
	show("peer shut", f, 2, SOON);
	show("peer shut, nothing wanted", f + 2, 1, QUIET);
	shutdown(fd, SHUT_WR);
	o_sync();
	o_wait(fd, POLLHUP);
	show("both shut", f, 3, SOON);
	close(p[0]);
	show("pipe without a reader", f + 7, 1, SOON);
	close(p[1]);
	close(fd);
	close(fresh);
	close(udp);
	fd = ev_pair(1);
	f[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
	o_sync();
	o_wait(fd, POLLERR);
	show("reset", f, 1, SOON);
	f[0].events = ALL;
	show("reset, all bits", f, 1, SOON);
	close(fd);
}

static void bits_act(void)
{
	int fd = ev_pair(0);
	char c;

	o_sync();
	ev_give(fd, 1);
	o_sync();
	ev_give(fd, 1);
	o_sync();
	shutdown(fd, SHUT_WR);
	o_recv_all(fd, &c, 1);
	o_sync();
	close(fd);
	fd = ev_pair(1);
	o_sync();
	o_reset_close(fd);
}
WATCHED(poll_bits, "poll(): which bits, several entries for one socket", bits_watch, bits_act)

static void listener_server(void)
{
	int l = o_listener(0), fd, p[2];
	struct pollfd f[3] = { { .fd = l, .events = POLLIN | POLLOUT } };

	if (pipe(p))
		o_fail("pipe");
	f[1] = (struct pollfd){ .fd = p[0], .events = POLLIN };
	show("idle", f, 2, QUIET);
	o_sync();
	show("a connection", f, 2, SOON);
	O("write", write(p[1], "x", 1));
	show("and the pipe", f, 2, SOON);
	fd = accept(l, NULL, NULL);
	show("the pipe only", f, 2, SOON);
	f[2] = (struct pollfd){ .fd = fd, .events = POLLIN | POLLOUT };
	show("and the accepted one", f, 3, SOON);
	shutdown(l, SHUT_RDWR);
	show("listener shut", f, 3, SOON);
	close(l);
	show("listener closed", f, 3, SOON);
	close(fd);
	close(p[0]);
	close(p[1]);
}

static void listener_client(void)
{
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	o_sync();
	if (connect(fd, (void *)&to, len))
		o_fail("connect");
	o_wait(fd, POLLRDHUP);
	close(fd);
}
SCENARIO(poll_listener, "poll(): a listener, a pipe, an accepted socket", O_BOTH, listener_server,
	 listener_client)

static void connect_client(void)
{
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	struct pollfd f = { .events = ALL };

	f.fd = socket(o_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	o_sync();
	O("connect", connect(f.fd, (void *)&to, len));
	f.events = POLLOUT;
	show("connected", &f, 1, SOON);
	f.events = ALL;
	show("connected, all bits", &f, 1, SOON);
	o_sync();
	close(f.fd);
	f.fd = socket(o_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	len = o_server_addr(&to, o_port(1)); /* nobody */
	connect(f.fd, (void *)&to, len);
	f.events = 0;
	show("refused, nothing wanted", &f, 1, SOON);
	f.events = ALL;
	show("refused", &f, 1, SOON);
	close(f.fd);
}

static void connect_server(void)
{
	int l = o_listener(0), fd;

	o_sync();
	fd = accept(l, NULL, NULL);
	o_sync();
	close(fd);
	close(l);
}
SCENARIO(poll_connect, "poll() for the end of connect()", O_BOTH, connect_server, connect_client)

#define MANY 100
static void many_server(void)
{
	struct pollfd f[MANY + 100];
	int l = o_listener(0), wrong = 0, n;

	o_sync();
	for (int i = 0; i < MANY; i++)
		f[i] = (struct pollfd){ .fd = accept(l, NULL, NULL), .events = POLLIN };
	for (int i = MANY; i < MANY + 100; i++) /* the same again, and nothing */
		f[i] = (struct pollfd){ .fd = i % 2 ? f[i - MANY].fd : -1, .events = POLLIN };
	o_sync();
	for (int i = 0; i < MANY; i += 7)
		o_wait(f[i].fd, POLLIN);
	n = poll(f, MANY + 100, SOON);
	for (int i = 0; i < MANY; i++)
		wrong += f[i].revents != (i % 7 ? 0 : POLLIN);
	O("how many", n);
	O("wrong ones", wrong);
	for (int i = 0; i < MANY; i++)
		close(f[i].fd);
	close(l);
	o_sync();
}

static void many_client(void)
{
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	int fd[MANY];

	o_sync();
	for (int i = 0; i < MANY; i++) {
		fd[i] = socket(o_family, SOCK_STREAM, 0);
		if (connect(fd[i], (void *)&to, len))
			o_fail("connect");
	}
	o_sync();
	for (int i = 0; i < MANY; i += 7)
		ev_give(fd[i], 1);
	o_sync();
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
}
SCENARIO(poll_many, "poll() of 200 entries", O_BOTH, many_server, many_client)
