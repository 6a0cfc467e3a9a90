/* SPDX-License-Identifier: Apache-2.0 */
/* tests/events/ev_diff.c - what epoll, poll and select say, for comparison with plain Linux
 *
 *	ev_diff [-a ADDRESS] [-p PEERFD] [SCENARIO...]
 *	ev_diff -P PEERFD
 *
 * Prints what the calls answer in many situations; nothing that it prints depends on the
 * machine, so two runs (plain, and under the preload library) must be equal. The other end of
 * every connection is a second process (-P), which takes commands over a SOCK_SEQPACKET pair;
 * without -p it is forked off here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SOON = 3000, QUIET = 40 }; /* ms: until an event must have come; without one */

static struct sockaddr_storage addr; /* of this side, port 0 */
static socklen_t addr_len;
static int peer_fd = -1;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

/* --- the other end ------------------------------------------------------------------------ */

struct command {
	char op; /* c connect, u UDP, s send, r receive, w shutdown, x close, R reset, l listen, a accept */
	int id, arg;
	struct sockaddr_storage to;
	socklen_t len;
};

static int peer_do(const struct command *c)
{
	static char buf[1 << 16];
	struct linger linger = { 1, 0 };
	struct sockaddr_storage any;
	socklen_t len = sizeof(any);
	int fd, n, one = 1;

	switch (c->op) {
	case 'c':
	case 'u':
		fd = socket(c->to.ss_family, c->op == 'c' ? SOCK_STREAM : SOCK_DGRAM, 0);
		if (c->op == 'c')
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		return connect(fd, (const void *)&c->to, c->len) ? -errno : fd;
	case 's':
		return (int)send(c->id, buf, (size_t)c->arg, MSG_NOSIGNAL);
	case 'r':
		for (n = 0; n < c->arg;) {
			int got = (int)recv(c->id, buf, sizeof(buf), 0);

			if (got <= 0)
				return got;
			n += got;
		}
		return n;
	case 'w':
		return shutdown(c->id, SHUT_WR);
	case 'R':
		setsockopt(c->id, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		return close(c->id);
	case 'x':
		return close(c->id);
	case 'l': /* the address is that of the commanding side: listen on any */
		fd = socket(c->to.ss_family, SOCK_STREAM, 0);
		memset(&any, 0, sizeof(any));
		any.ss_family = c->to.ss_family;
		if (bind(fd, (void *)&any, c->len) || listen(fd, 16) ||
		    getsockname(fd, (void *)&any, &len))
			return -errno;
		return fd << 16 | ntohs(((struct sockaddr_in *)&any)->sin_port);
	case 'a':
		return accept(c->id, NULL, NULL);
	}
	return -EINVAL;
}

static void peer_run(int fd)
{
	struct command c;
	int r;

	signal(SIGPIPE, SIG_IGN);
	while (recv(fd, &c, sizeof(c), 0) == sizeof(c)) {
		r = peer_do(&c);
		if (send(fd, &r, sizeof(r), 0) < 0)
			break;
	}
	exit(0);
}

static int peer(char op, int id, int arg, const void *to, socklen_t len)
{
	struct command c = { .op = op, .id = id, .arg = arg, .len = len };
	int r;

	if (to)
		memcpy(&c.to, to, len);
	if (write(peer_fd, &c, sizeof(c)) != sizeof(c) || read(peer_fd, &r, sizeof(r)) != sizeof(r))
		fail("peer");
	return r;
}

/* --- this end ----------------------------------------------------------------------------- */

static const char *bits(uint32_t e)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = { { EPOLLIN, "IN" },	 { EPOLLPRI, "PRI" },	    { EPOLLOUT, "OUT" },
		      { EPOLLERR, "ERR" },	 { EPOLLHUP, "HUP" },	    { POLLNVAL, "NVAL" },
		      { EPOLLRDNORM, "RDNORM" }, { EPOLLWRNORM, "WRNORM" }, { EPOLLRDHUP, "RDHUP" } };
	static char out[4][80];
	static int turn;
	char *o = out[turn = (turn + 1) % 4];

	*o = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (e & names[i].bit)
			sprintf(o + strlen(o), "%s%s", *o ? "|" : "", names[i].name);
	return *o ? o : "0";
}

static const char *result(long r)
{
	static char out[4][40];
	static int turn;
	char *o = out[turn = (turn + 1) % 4];

	if (r < 0)
		sprintf(o, "%s", strerrorname_np(errno));
	else
		sprintf(o, "%ld", r);
	return o;
}

static int ctl(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(ep, op, fd, &ev);
}

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	if (ctl(ep, EPOLL_CTL_ADD, fd, events, data))
		fail("EPOLL_CTL_ADD");
}

/* Wait and print the events, by data. */
static int show(const char *what, int ep, int max, int ms)
{
	struct epoll_event ev[64], t;
	int n = epoll_wait(ep, ev, max, ms);

	for (int i = 1; i < n; i++)
		for (int j = i; j > 0 && ev[j - 1].data.u64 > ev[j].data.u64; j--) {
			t = ev[j];
			ev[j] = ev[j - 1];
			ev[j - 1] = t;
		}
	printf("  %s: %s", what, result(n));
	for (int i = 0; i < n; i++)
		printf(" [%llx %s]", (unsigned long long)ev[i].data.u64, bits(ev[i].events));
	printf("\n");
	return n;
}
/* What arrives in several packets may be seen in several steps: let it settle. */
static void settle(void)
{
	usleep(QUIET * 1000);
}

static void nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int tcp(void)
{
	return socket(addr.ss_family, SOCK_STREAM, 0);
}

static int listener(struct sockaddr_storage *at)
{
	socklen_t len = sizeof(*at);
	int fd = tcp();

	if (bind(fd, (void *)&addr, addr_len) || listen(fd, 64) ||
	    getsockname(fd, (void *)at, &len))
		fail("listen");
	return fd;
}

/* A connection, accepted here; *id is the other end's name for it. */
static int accepted(int *id)
{
	struct sockaddr_storage at;
	int l = listener(&at), fd;

	*id = peer('c', 0, 0, &at, addr_len);
	if (*id < 0)
		fail("peer connect");
	fd = accept(l, NULL, NULL);
	if (fd < 0)
		fail("accept");
	close(l);
	nonblock(fd);
	return fd;
}

static long drain(int fd)
{
	char buf[4096];
	long total = 0, n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		total += n;
	return total;
}

static long fill(int fd)
{
	static char buf[65536];
	long total = 0, n;

	while ((n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		total += n;
	return total;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- epoll -------------------------------------------------------------------------------- */

static void s_errors(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), ep2 = epoll_create(1), fd = tcp(), p[2];
	int file = open("/proc/self/exe", O_RDONLY);
	struct epoll_event ev = { .events = EPOLLIN };
	volatile int none = 0; /* or the compiler would refuse what follows */
	char c;

	if (pipe(p))
		fail("pipe");
	printf("  cloexec %d %d\n", fcntl(ep, F_GETFD), fcntl(ep2, F_GETFD));
	printf("  create(0) %s, create(-1) %s", result(epoll_create(0)), result(epoll_create(-1)));
	printf(", create1(bad) %s\n", result(epoll_create1(12345)));
	printf("  mod absent %s, del absent %s\n", result(ctl(ep, EPOLL_CTL_MOD, fd, 1, 1)),
	       result(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	printf("  add NULL %s, mod NULL %s\n", result(epoll_ctl(ep, EPOLL_CTL_ADD, fd, NULL)),
	       result(epoll_ctl(ep, EPOLL_CTL_MOD, fd, NULL)));
	printf("  bad op %s, bad op NULL %s\n", result(ctl(ep, 9, fd, 1, 1)),
	       result(epoll_ctl(ep, 9, fd, NULL)));
	printf("  not epoll: sock %s", result(ctl(fd, EPOLL_CTL_ADD, ep, 1, 1)));
	printf(" pipe %s file %s", result(ctl(p[0], EPOLL_CTL_ADD, fd, 1, 1)),
	       result(ctl(file, EPOLL_CTL_ADD, fd, 1, 1)));
	printf(" itself %s\n", result(ctl(fd, EPOLL_CTL_ADD, fd, 1, 1)));
	printf("  bad fds %s %s\n", result(ctl(ep, EPOLL_CTL_ADD, 4000, 1, 1)),
	       result(ctl(4000, EPOLL_CTL_ADD, fd, 1, 1)));
	printf("  file %s, self %s\n", result(ctl(ep, EPOLL_CTL_ADD, file, 1, 1)),
	       result(ctl(ep, EPOLL_CTL_ADD, ep, 1, 1)));
	printf("  add %s", result(ctl(ep, EPOLL_CTL_ADD, fd, 1, 1)));
	printf(" again %s", result(ctl(ep, EPOLL_CTL_ADD, fd, 1, 1)));
	printf(" del %s", result(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &ev)));
	printf(" again %s\n", result(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &ev)));
	printf("  exclusive oneshot %s", result(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT |
						  EPOLLEXCLUSIVE, 1)));
	printf(" add %s", result(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1)));
	printf(" mod %s", result(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 1)));
	printf(" mod exclusive %s\n", result(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE,
						  1)));
	printf("  nest %s", result(ctl(ep, EPOLL_CTL_ADD, ep2, EPOLLIN, 1)));
	printf(" exclusive %s", result(ctl(ep, EPOLL_CTL_ADD, ep2, EPOLLIN | EPOLLEXCLUSIVE, 1)));
	printf(" loop %s\n", result(ctl(ep2, EPOLL_CTL_ADD, ep, EPOLLIN, 1)));
	printf("  wait: max 0 %s, max -1 %s", result(epoll_wait(ep, &ev, none, 0)),
	       result(epoll_wait(ep, &ev, none - 1, 0)));
	printf(" sock %s, bad %s", result(epoll_wait(fd, &ev, 1, 0)),
	       result(epoll_wait(4000, &ev, 1, 0)));
	printf(" file %s\n", result(epoll_wait(file, &ev, 1, 0)));
	printf("  read(epfd) %s, recv(epfd) %s\n", result(read(ep, &c, 1)),
	       result(recv(ep, &c, 1, 0)));
	close(fd);
	close(file);
	close(ep);
	close(ep2);
	printf("  closed %s\n", result(epoll_wait(ep, &ev, 1, 0)));
	close(p[0]);
	close(p[1]);
}

static void s_listener(void)
{
	struct sockaddr_storage at;
	int ep = epoll_create1(0), l = listener(&at), id, id2, fd, fd2;

	nonblock(l);
	add(ep, l, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 0x1122334455667788);
	show("idle", ep, 8, QUIET);
	id = peer('c', 0, 0, &at, addr_len);
	show("one", ep, 8, SOON);
	show("level", ep, 8, SOON);
	id2 = peer('c', 0, 0, &at, addr_len);
	fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	printf("  accept %d\n", fd >= 0);
	show("another", ep, 8, SOON);
	fd2 = accept(l, NULL, NULL);
	printf("  accept %d\n", fd2 >= 0);
	show("none", ep, 8, QUIET);
	printf("  accept %s\n", result(accept(l, NULL, NULL)));
	peer('x', id, 0, NULL, 0);
	peer('x', id2, 0, NULL, 0);
	ctl(ep, EPOLL_CTL_MOD, l, EPOLLIN | EPOLLET, 7);
	id = peer('c', 0, 0, &at, addr_len);
	show("edge", ep, 8, SOON);
	show("no edge", ep, 8, QUIET);
	close(fd);
	close(fd2);
	close(l);
	show("closed", ep, 8, QUIET);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

static void s_level(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id);
	char buf[16];

	add(ep, fd, EPOLLIN, 1);
	show("idle", ep, 8, QUIET);
	peer('s', id, 10, NULL, 0);
	show("data", ep, 8, SOON);
	printf("  read %s\n", result(recv(fd, buf, 4, 0)));
	show("rest", ep, 8, SOON);
	printf("  read %s\n", result(recv(fd, buf, 16, 0)));
	show("empty", ep, 8, QUIET);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, 2);
	show("writable", ep, 8, SOON);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLRDNORM | EPOLLWRNORM | EPOLLOUT, 3);
	peer('s', id, 10, NULL, 0);
	settle();
	show("names", ep, 8, SOON);
	ctl(ep, EPOLL_CTL_MOD, fd, 0, 3);
	show("nothing wanted", ep, 8, QUIET);
	close(fd);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

static void s_edge(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id);
	char buf[16];

	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);
	show("add", ep, 8, SOON);
	show("again", ep, 8, QUIET);
	peer('s', id, 10, NULL, 0);
	show("data", ep, 8, SOON);
	show("again", ep, 8, QUIET);
	printf("  read %s\n", result(recv(fd, buf, 4, 0)));
	show("partial", ep, 8, QUIET);
	peer('s', id, 10, NULL, 0);
	show("more", ep, 8, SOON);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 2);
	show("mod", ep, 8, SOON);
	printf("  drained %ld\n", drain(fd));
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 3);
	show("mod empty", ep, 8, QUIET);
	peer('s', id, 10, NULL, 0);
	settle();
	drain(fd);
	show("taken before", ep, 8, QUIET);
	close(fd);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

static void s_oneshot(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id);

	add(ep, fd, EPOLLIN | EPOLLONESHOT, 1);
	peer('s', id, 10, NULL, 0);
	show("first", ep, 8, SOON);
	peer('s', id, 10, NULL, 0);
	show("disarmed", ep, 8, QUIET);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT | EPOLLET, 2);
	show("armed", ep, 8, SOON);
	peer('R', id, 0, NULL, 0);
	show("disarmed", ep, 8, QUIET);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLONESHOT, 3);
	settle();
	show("armed", ep, 8, SOON);
	close(fd);
	close(ep);
}

static void s_hangup(void)
{
	int ep = epoll_create1(0), ep2 = epoll_create1(0), id, fd = accepted(&id);
	char c;

	add(ep, fd, EPOLLIN | EPOLLRDHUP, 1);
	add(ep2, fd, EPOLLOUT, 2);
	peer('w', id, 0, NULL, 0);
	show("peer shut", ep, 8, SOON);
	show("other set", ep2, 8, SOON);
	printf("  read %s\n", result(recv(fd, &c, 1, 0)));
	show("still", ep, 8, SOON);
	shutdown(fd, SHUT_WR);
	settle();
	show("both shut", ep, 8, SOON);
	show("other set", ep2, 8, SOON);
	close(fd);
	peer('x', id, 0, NULL, 0);

	fd = accepted(&id);
	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 3);
	shutdown(fd, SHUT_RD);
	show("read shut", ep, 8, SOON);
	close(fd);
	peer('x', id, 0, NULL, 0);

	fd = accepted(&id);
	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 4);
	show("open", ep, 8, SOON);
	peer('s', id, 5, NULL, 0);
	peer('x', id, 0, NULL, 0);
	settle();
	show("data and FIN", ep, 8, SOON);
	close(fd);
	close(ep);
	close(ep2);
}

static void s_reset(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id), err;
	socklen_t len = sizeof(err);

	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1);
	peer('R', id, 0, NULL, 0);
	settle();
	show("reset", ep, 8, SOON);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	printf("  SO_ERROR %s\n", strerrorname_np(err));
	show("after SO_ERROR", ep, 8, SOON);
	ctl(ep, EPOLL_CTL_MOD, fd, 0, 2);
	show("no interest", ep, 8, SOON);
	close(fd);
	close(ep);
}

static void to_peer(struct sockaddr_storage *to, int port)
{
	struct sockaddr_storage me;
	socklen_t len = sizeof(me);
	const char *at = getenv("EV_PEER_ADDR");

	*to = addr;
	if (at && inet_pton(addr.ss_family, at,
			    addr.ss_family == AF_INET ?
				    (void *)&((struct sockaddr_in *)to)->sin_addr :
				    (void *)&((struct sockaddr_in6 *)to)->sin6_addr) != 1)
		fail("EV_PEER_ADDR");
	((struct sockaddr_in *)to)->sin_port = htons((uint16_t)port);
	(void)me;
	(void)len;
}

static void s_connect(void)
{
	int ep = epoll_create1(0), fd = tcp(), l, r, err, id;
	struct sockaddr_storage to;
	socklen_t len = sizeof(err);

	nonblock(fd);
	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1);
	show("fresh", ep, 8, SOON);
	l = peer('l', 0, 0, &addr, addr_len);
	to_peer(&to, l & 0xffff);
	r = connect(fd, (void *)&to, addr_len);
	printf("  connect %s\n", r ? strerrorname_np(errno) : "0");
	show("connected", ep, 8, SOON);
	id = peer('a', l >> 16, 0, NULL, 0);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	printf("  SO_ERROR %d\n", err);
	peer('s', id, 3, NULL, 0);
	settle();
	show("data", ep, 8, SOON);
	close(fd);
	peer('x', id, 0, NULL, 0);
	/* added by edge before connecting: the fresh state, then the connection */
	fd = tcp();
	nonblock(fd);
	add(ep, fd, EPOLLOUT | EPOLLET, 2);
	show("fresh edge", ep, 8, SOON);
	connect(fd, (void *)&to, addr_len);
	show("connected edge", ep, 8, SOON);
	show("again", ep, 8, QUIET);
	id = peer('a', l >> 16, 0, NULL, 0);
	close(fd);
	peer('x', id, 0, NULL, 0);
	peer('x', l >> 16, 0, NULL, 0);
	/* nobody listens any more */
	fd = tcp();
	nonblock(fd);
	connect(fd, (void *)&to, addr_len);
	add(ep, fd, EPOLLIN | EPOLLOUT, 3);
	settle();
	show("refused", ep, 8, SOON);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	printf("  SO_ERROR %s\n", strerrorname_np(err));
	show("after", ep, 8, SOON);
	close(fd);
	close(ep);
}

static void s_pressure(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id), small = 65536;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	long sent;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	add(ep, fd, EPOLLOUT | EPOLLET, 1);
	show("empty", ep, 8, SOON);
	for (sent = fill(fd), settle(); poll(&p, 1, QUIET); settle())
		sent += fill(fd);
	while (epoll_wait(ep, &(struct epoll_event){ 0 }, 1, 0) > 0)
		;
	printf("  full %d, poll %s\n", sent > 0, result(poll(&p, 1, 0)));
	show("full", ep, 8, QUIET);
	printf("  peer took all %d\n", peer('r', id, (int)sent, NULL, 0) >= sent);
	show("room again", ep, 8, SOON);
	printf("  poll %s %s\n", result(poll(&p, 1, SOON)), bits((uint16_t)p.revents));
	close(fd);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

static void s_fairness(void)
{
	enum { N = 20 };
	int ep = epoll_create1(0), id[N], fd[N], seen[N] = { 0 }, n, calls = 0, twice = 0;
	struct epoll_event ev[3];

	for (int i = 0; i < N; i++) {
		fd[i] = accepted(&id[i]);
		add(ep, fd[i], EPOLLIN, (uint64_t)i);
		peer('s', id[i], 1, NULL, 0);
	}
	settle();
	for (int got = 0; got < N; got += n, calls++) {
		n = epoll_wait(ep, ev, 3, SOON);
		if (n <= 0)
			break;
		for (int i = 0; i < n; i++)
			twice += seen[ev[i].data.u64]++ != 0;
	}
	printf("  calls %d, somebody twice before everybody once: %d\n", calls, twice > 1);
	for (int i = 0; i < N; i++) {
		close(fd[i]);
		peer('x', id[i], 0, NULL, 0);
	}
	show("closed", ep, 3, QUIET);
	close(ep);
}

static void s_mixed(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id), p[2], e = eventfd(0, EFD_NONBLOCK), sp[2];
	uint64_t one = 1;

	if (pipe(p) || socketpair(AF_UNIX, SOCK_STREAM, 0, sp))
		fail("pipe");
	add(ep, fd, EPOLLIN, 1);
	add(ep, p[0], EPOLLIN, 2);
	add(ep, e, EPOLLIN, 3);
	add(ep, sp[0], EPOLLIN | EPOLLET, 4);
	show("idle", ep, 8, QUIET);
	printf("  write %s\n", result(write(p[1], "x", 1)));
	show("pipe", ep, 8, SOON);
	peer('s', id, 1, NULL, 0);
	settle();
	for (int i = 0, n = 0; i < 100 && n < 2; i++) /* both sides, though not in each call */
		n = epoll_wait(ep, &(struct epoll_event){ 0 }, 1, SOON) + n;
	printf("  one at a time %s\n", result(epoll_wait(ep, &(struct epoll_event){ 0 }, 1, SOON)));
	printf("  write %s %s\n", result(write(e, &one, 8)), result(write(sp[1], "x", 1)));
	settle();
	show("all", ep, 8, SOON);
	close(fd);
	close(p[1]);
	close(p[0]);
	show("rest", ep, 8, SOON);
	close(e);
	close(sp[0]);
	close(sp[1]);
	show("none", ep, 8, QUIET);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

static void s_nested(void)
{
	int in = epoll_create1(0), out = epoll_create1(0), top = epoll_create1(0), id;
	int fd = accepted(&id), p[2];
	struct pollfd pf = { .fd = in, .events = POLLIN };

	if (pipe(p))
		fail("pipe");
	add(in, fd, EPOLLIN, 1);
	add(out, in, EPOLLIN, 2);
	add(top, out, EPOLLIN, 3);
	show("idle", top, 8, QUIET);
	peer('s', id, 10, NULL, 0);
	show("top", top, 8, SOON);
	show("out", out, 8, SOON);
	printf("  poll %s\n", result(poll(&pf, 1, 0)));
	show("in", in, 8, SOON);
	show("top", top, 8, SOON);
	drain(fd);
	show("top drained", top, 8, QUIET);
	printf("  poll %s\n", result(poll(&pf, 1, 0)));
	add(in, p[0], EPOLLIN, 5);
	printf("  write %s\n", result(write(p[1], "x", 1)));
	show("top", top, 8, SOON);
	printf("  poll %s\n", result(poll(&pf, 1, 0)));
	close(p[0]);
	close(p[1]);
	show("top", top, 8, QUIET);
	ctl(out, EPOLL_CTL_MOD, in, EPOLLIN | EPOLLONESHOT, 6);
	peer('s', id, 10, NULL, 0);
	show("one shot", out, 8, SOON);
	show("disarmed", out, 8, QUIET);
	close(in);
	show("closed", out, 8, QUIET);
	close(out);
	close(top);
	close(fd);
	peer('x', id, 0, NULL, 0);
}

static void s_dup(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id), d = dup(fd), ep2;

	add(ep, fd, EPOLLIN, 1);
	peer('s', id, 10, NULL, 0);
	show("data", ep, 8, SOON);
	close(fd);
	show("a dup is left", ep, 8, SOON);
	printf("  del by closed %s\n", result(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
	add(ep, d, EPOLLIN, 2);
	show("both", ep, 8, SOON);
	close(d);
	show("gone", ep, 8, QUIET);
	peer('x', id, 0, NULL, 0);
	/* the set itself under two numbers */
	fd = accepted(&id);
	ep2 = dup(ep);
	add(ep2, fd, EPOLLIN, 3);
	peer('s', id, 10, NULL, 0);
	show("by the first", ep, 8, SOON);
	close(ep);
	show("by the dup", ep2, 8, SOON);
	close(ep2);
	close(fd);
	peer('x', id, 0, NULL, 0);
}

static void s_udp(void)
{
	struct sockaddr_storage at = addr;
	int ep = epoll_create1(0), fd = socket(addr.ss_family, SOCK_DGRAM, 0), id;
	socklen_t len = sizeof(at);
	char buf[100];

	if (bind(fd, (void *)&addr, addr_len) || getsockname(fd, (void *)&at, &len))
		fail("bind");
	nonblock(fd);
	add(ep, fd, EPOLLIN, 1);
	show("idle", ep, 8, QUIET);
	id = peer('u', 0, 0, &at, addr_len);
	peer('s', id, 10, NULL, 0);
	show("one", ep, 8, SOON);
	peer('s', id, 20, NULL, 0);
	settle();
	printf("  recv %s\n", result(recv(fd, buf, sizeof(buf), 0)));
	show("second", ep, 8, SOON);
	printf("  recv %s\n", result(recv(fd, buf, sizeof(buf), 0)));
	show("none", ep, 8, QUIET);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 2);
	show("writable", ep, 8, SOON);
	show("edge", ep, 8, QUIET);
	peer('s', id, 0, NULL, 0);
	show("empty datagram", ep, 8, SOON);
	printf("  recv %s\n", result(recv(fd, buf, sizeof(buf), 0)));
	close(fd);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

/* --- threads ------------------------------------------------------------------------------ */

struct thread {
	pthread_t t;
	int ep, max, ms;
	char line[80];
};

static void *thread_run(void *arg)
{
	struct thread *t = arg;
	struct epoll_event ev;
	int n = epoll_wait(t->ep, &ev, 1, t->ms);

	if (n == 1)
		snprintf(t->line, sizeof(t->line), "1 [%llx %s]", (unsigned long long)ev.data.u64,
			 bits(ev.events));
	else
		snprintf(t->line, sizeof(t->line), "%s", result(n));
	return NULL;
}

static void thread_start(struct thread *t, int ep, int ms)
{
	t->ep = ep;
	t->ms = ms;
	pthread_create(&t->t, NULL, thread_run, t);
	settle(); /* it sleeps now */
}

static void s_threads(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id);
	struct thread a, b;

	peer('s', id, 10, NULL, 0);
	thread_start(&a, ep, SOON);
	add(ep, fd, EPOLLIN, 1);
	pthread_join(a.t, NULL);
	printf("  add while waiting: %s\n", a.line);
	ctl(ep, EPOLL_CTL_MOD, fd, 0, 2);
	thread_start(&a, ep, SOON);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 3);
	pthread_join(a.t, NULL);
	printf("  mod while waiting: %s\n", a.line);
	drain(fd);
	thread_start(&a, ep, 4 * QUIET);
	close(fd);
	pthread_join(a.t, NULL);
	printf("  close while waiting: %s\n", a.line);
	peer('x', id, 0, NULL, 0);

	fd = accepted(&id);
	add(ep, fd, EPOLLIN | EPOLLET, 4);
	thread_start(&a, ep, 8 * QUIET);
	thread_start(&b, ep, 8 * QUIET);
	peer('s', id, 10, NULL, 0);
	pthread_join(a.t, NULL);
	pthread_join(b.t, NULL);
	printf("  one edge, two waiters: %d got it\n", (a.line[1] == ' ') + (b.line[1] == ' '));
	thread_start(&a, ep, 4 * QUIET);
	close(ep);
	pthread_join(a.t, NULL);
	printf("  set closed while waiting: %s\n", a.line);
	close(fd);
	peer('x', id, 0, NULL, 0);
}

/* --- time and signals --------------------------------------------------------------------- */

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	signals++;
}

#define TIMED(what, call, want) \
	do { \
		double t0 = now(); \
		const char *timed = result(call); \
		printf("  %s %s %s\n", what, timed, in_time(t0, want)); \
	} while (0)

/* "in time" within what a busy machine may add */
static const char *in_time(double t0, double want)
{
	double took = now() - t0;

	return took < want ? "too early" : took > want + 1.5 ? "too late" : "in time";
}

static void s_time(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id);
	struct timespec us = { 0, 300000 }, bad = { 0, 2000000000 };
	struct timeval tv = { 0, 20000 }, short_tv = { 0, 5000 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event ev;
	fd_set r;

	add(ep, fd, EPOLLIN, 1);
	TIMED("epoll_wait 20 ms", epoll_wait(ep, &ev, 1, 20), 0.02);
	TIMED("epoll_pwait2 300 us", epoll_pwait2(ep, &ev, 1, &us, NULL), 0.0003);
	printf("  epoll_pwait2 bad %s\n", result(epoll_pwait2(ep, &ev, 1, &bad, NULL)));
	TIMED("poll 20 ms", poll(&p, 1, 20), 0.02);
	TIMED("ppoll 300 us", ppoll(&p, 1, &us, NULL), 0.0003);
	printf("  ppoll bad %s\n", result(ppoll(&p, 1, &bad, NULL)));
	FD_ZERO(&r);
	FD_SET(fd, &r);
	TIMED("select 20 ms", select(fd + 1, &r, NULL, NULL, &tv), 0.02);
	printf("  left %ld %ld, set %d\n", (long)tv.tv_sec, (long)tv.tv_usec, FD_ISSET(fd, &r));
	FD_SET(fd, &r);
	printf("  pselect bad %s\n", result(pselect(fd + 1, &r, NULL, NULL, &bad, NULL)));
	tv.tv_usec = -1;
	printf("  select bad %s\n", result(select(fd + 1, &r, NULL, NULL, &tv)));
	TIMED("select no sets", select(0, NULL, NULL, NULL, &short_tv), 0.005);
	printf("  poll nothing %s\n", result(poll(NULL, 0, 5)));
	close(fd);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

static void s_signals(void)
{
	int ep = epoll_create1(0), id, fd = accepted(&id);
	struct sigaction sa = { .sa_handler = on_signal };
	struct timespec t = { 2, 0 }, zero = { 0 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	sigset_t block, none;
	struct epoll_event ev;
	fd_set r;

	add(ep, fd, EPOLLIN, 1);
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	signals = 0;
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	printf("  blocked: %s", result(epoll_wait(ep, &ev, 1, 0)));
	printf(" %s %d\n", result(poll(&p, 1, 0)), signals);
	printf("  epoll_pwait 0: %s", result(epoll_pwait(ep, &ev, 1, 0, &none)));
	printf(" %d\n", signals > 1);
	signals = 0;
	raise(SIGUSR1);
	printf("  epoll_pwait: %s", result(epoll_pwait(ep, &ev, 1, 2000, &none)));
	printf(" %d\n", signals);
	raise(SIGUSR1);
	printf("  epoll_pwait2: %s", result(epoll_pwait2(ep, &ev, 1, &t, &none)));
	printf(" %d\n", signals);
	raise(SIGUSR1);
	printf("  ppoll: %s", result(ppoll(&p, 1, &t, &none)));
	printf(" %d\n", signals);
	raise(SIGUSR1);
	printf("  ppoll 0: %s", result(ppoll(&p, 1, &zero, &none)));
	printf(" %d\n", signals);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	raise(SIGUSR1);
	printf("  pselect: %s", result(pselect(fd + 1, &r, NULL, NULL, &t, &none)));
	printf(" %d set %d\n", signals, FD_ISSET(fd, &r));
	/* what is ready comes before a signal */
	peer('s', id, 1, NULL, 0);
	settle();
	raise(SIGUSR1);
	printf("  ready: %s", result(epoll_pwait(ep, &ev, 1, 2000, &none)));
	printf(" %s", result(ppoll(&p, 1, &t, &none)));
	printf(" %s %d\n", result(pselect(fd + 1, &r, NULL, NULL, &t, &none)), signals);
	printf("  then: %s", result(poll(NULL, 0, 0)));
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	printf(" %d\n", signals);
	close(fd);
	close(ep);
	peer('x', id, 0, NULL, 0);
}

/* --- poll, select ------------------------------------------------------------------------- */

static void show_poll(const char *what, struct pollfd *p, unsigned n, int ms)
{
	int r = poll(p, n, ms);

	printf("  %s: %s", what, result(r));
	for (unsigned i = 0; i < n; i++)
		printf(" %s", bits((uint16_t)p[i].revents));
	printf("\n");
}

static void s_poll(void)
{
	struct sockaddr_storage at;
	int id, fd = accepted(&id), l = listener(&at), fresh = tcp(), p[2], id2;
	struct pollfd pf[6] = { { .fd = fd, .events = POLLIN },
				{ .fd = l, .events = POLLIN | POLLOUT },
				{ .fd = -1, .events = POLLIN },
				{ .fd = fd, .events = POLLOUT } };
	struct rlimit lim;

	if (pipe(p))
		fail("pipe");
	pf[4] = (struct pollfd){ .fd = p[0], .events = POLLIN };
	show_poll("writable", pf, 5, SOON);
	pf[3].fd = -1;
	show_poll("idle", pf, 5, QUIET);
	peer('s', id, 10, NULL, 0);
	show_poll("data", pf, 5, SOON);
	id2 = peer('c', 0, 0, &at, addr_len);
	settle();
	show_poll("and a connection", pf, 5, SOON);
	printf("  write %s\n", result(write(p[1], "x", 1)));
	show_poll("and a pipe", pf, 5, SOON);
	pf[5] = (struct pollfd){ .fd = fresh, .events = POLLIN | POLLOUT };
	show_poll("and a fresh one", pf, 6, SOON);
	close(fresh);
	show_poll("closed", pf, 6, SOON);
	pf[0].events = POLLIN | POLLRDHUP | POLLRDNORM;
	peer('w', id, 0, NULL, 0);
	settle();
	show_poll("peer shut", pf, 1, SOON);
	shutdown(fd, SHUT_WR);
	settle();
	pf[0].events = 0;
	show_poll("both shut", pf, 1, SOON);
	getrlimit(RLIMIT_NOFILE, &lim);
	printf("  too many %s\n", result(poll(pf, lim.rlim_cur + 1, 0)));
	close(fd);
	close(l);
	close(p[0]);
	close(p[1]);
	peer('x', id, 0, NULL, 0);
	peer('x', id2, 0, NULL, 0);
}

static void s_select(void)
{
	int id, fd = accepted(&id), p[2];
	struct timeval tv = { 5, 0 };
	fd_set r, w, e;
	int n;

	if (pipe(p))
		fail("pipe");
	n = (fd > p[1] ? fd : p[1]) + 1;
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&e);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	FD_SET(fd, &e);
	FD_SET(p[0], &r);
	printf("  writable %s", result(select(n, &r, &w, &e, &tv)));
	printf(" %d%d%d%d\n", FD_ISSET(fd, &r), FD_ISSET(fd, &w), FD_ISSET(fd, &e),
	       FD_ISSET(p[0], &r));
	peer('s', id, 1, NULL, 0);
	settle();
	FD_SET(fd, &r);
	FD_SET(p[0], &r);
	printf("  readable %s", result(select(n, &r, &w, &e, NULL)));
	printf(" %d%d%d%d\n", FD_ISSET(fd, &r), FD_ISSET(fd, &w), FD_ISSET(fd, &e),
	       FD_ISSET(p[0], &r));
	printf("  write %s\n", result(write(p[1], "x", 1)));
	FD_SET(p[0], &r);
	printf("  both %s", result(select(n, &r, NULL, NULL, NULL)));
	printf(" time left %d\n", tv.tv_sec >= 1);
	printf("  by nfds %s", result(select(fd, &r, NULL, NULL, NULL) >= 0));
	printf(" negative %s\n", result(select(-1, &r, NULL, NULL, NULL)));
	FD_ZERO(&r);
	FD_SET(fd, &r);
	FD_SET(60, &r);
	printf("  closed one %s", result(select(61, &r, NULL, NULL, NULL)));
	printf(" kept %d%d\n", FD_ISSET(fd, &r), FD_ISSET(60, &r));
	FD_CLR(60, &r);
	drain(fd);
	peer('R', id, 0, NULL, 0);
	settle();
	FD_ZERO(&w);
	FD_ZERO(&e);
	FD_SET(fd, &w);
	FD_SET(fd, &e);
	printf("  reset %s", result(select(n, &r, &w, &e, &tv)));
	printf(" %d%d%d\n", FD_ISSET(fd, &r), FD_ISSET(fd, &w), FD_ISSET(fd, &e));
	FD_SET(fd, &e);
	tv.tv_sec = 0;
	tv.tv_usec = QUIET * 1000;
	printf("  exceptions only %s\n", result(select(n, NULL, NULL, &e, &tv)));
	close(fd);
	close(p[0]);
	close(p[1]);
}

/* --- fork --------------------------------------------------------------------------------- */

static void s_fork(void)
{
	struct sockaddr_storage at;
	int ep = epoll_create1(0), l = listener(&at), st, id;
	pid_t pid;

	nonblock(l);
	add(ep, l, EPOLLIN, 1);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		/* a child that goes its own way closes what it inherited */
		close(l);
		close(ep);
		ep = epoll_create1(0);
		show("child's own set", ep, 8, QUIET);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &st, 0);
	id = peer('c', 0, 0, &at, addr_len);
	show("parent after", ep, 8, SOON);
	close(accept(l, NULL, NULL));
	show("accepted", ep, 8, QUIET);
	peer('x', id, 0, NULL, 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		/* a worker: inherited listener, its own set */
		close(ep);
		ep = epoll_create1(0);
		add(ep, l, EPOLLIN, 2);
		id = peer('c', 0, 0, &at, addr_len);
		show("worker", ep, 8, SOON);
		st = accept(l, NULL, NULL);
		printf("  worker accepts %d\n", st >= 0);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &st, 0);
	show("parent", ep, 8, QUIET);
	close(ep);
	close(l);
}

/* --- main --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
	{ "errors", s_errors },	    { "listener", s_listener }, { "level", s_level },
	{ "edge", s_edge },	    { "oneshot", s_oneshot },	{ "hangup", s_hangup },
	{ "reset", s_reset },	    { "connect", s_connect },	{ "pressure", s_pressure },
	{ "fairness", s_fairness }, { "mixed", s_mixed },	{ "nested", s_nested },
	{ "dup", s_dup },	    { "udp", s_udp },		{ "threads", s_threads },
	{ "time", s_time },	    { "signals", s_signals },	{ "poll", s_poll },
	{ "select", s_select },	    { "fork", s_fork },
};

static void parse_addr(const char *s)
{
	struct sockaddr_in *v4 = (void *)&addr;
	struct sockaddr_in6 *v6 = (void *)&addr;

	if (inet_pton(AF_INET, s, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		addr_len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, s, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		addr_len = sizeof(*v6);
	} else {
		fail(s);
	}
}

int main(int argc, char **argv)
{
	int opt, sp[2];

	parse_addr("127.0.0.1");
	while ((opt = getopt(argc, argv, "a:p:P:")) != -1) {
		if (opt == 'a')
			parse_addr(optarg);
		else if (opt == 'p')
			peer_fd = atoi(optarg);
		else if (opt == 'P')
			peer_run(atoi(optarg));
		else
			return 2;
	}
	if (peer_fd < 0) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sp))
			fail("socketpair");
		if (!fork()) {
			close(sp[0]);
			peer_run(sp[1]);
		}
		close(sp[1]);
		peer_fd = sp[0];
	}
	alarm(120);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		bool run = optind == argc;

		for (int k = optind; k < argc; k++)
			run |= !strcmp(argv[k], scenarios[i].name);
		if (!run)
			continue;
		printf("%s\n", scenarios[i].name);
		scenarios[i].run();
		fflush(stdout);
	}
	return 0;
}
