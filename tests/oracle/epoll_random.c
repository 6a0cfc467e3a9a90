/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/epoll_random.c - random changes of an epoll set while its sockets get traffic */
#include "random.h"
#include <linux/sockios.h>
#include <sys/eventfd.h>

#define STEPS 60
#define CONNS 3
/* Descriptors of the set: connections, one more name for the first, UDP, a listener, an event
 * descriptor */
enum { DUP = CONNS, UDP, LISTENER, EVENT, NFDS };

struct scene {
	int fd[NFDS], probe, ep;
	int dialed[STEPS], ndialed; /* the client's connections to the listener */
};

static bool is_settled(void *arg)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	int fd = *(int *)arg, left = 0;

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	if (info.tcpi_state == TCP_CLOSE)
		return true;
	ioctl(fd, SIOCOUTQ, &left);
	return !left && info.tcpi_state != TCP_FIN_WAIT1 && info.tcpi_state != TCP_CLOSING &&
	       info.tcpi_state != TCP_LAST_ACK;
}

static void traffic_stream(struct dice *d, struct scene *s, const char *who, int i)
{
	int n = (int)roll(d, 3) * 400;
	char buf[800] = "";

	switch (roll(d, 30)) {
	case 0:
		o_ret(at(d, "%s ends %d", who, i), shutdown(s->fd[i], SHUT_WR));
		break;
	case 1:
		o_ret(at(d, "%s ends both ways %d", who, i), shutdown(s->fd[i], SHUT_RDWR));
		break;
	case 2:
		if (!o_is_server() && s->fd[i] >= 0) {
			o_reset_close(s->fd[i]);
			s->fd[i] = -1;
		}
		return;
	case 3:
	case 4:
	case 5:
		o_ret(at(d, "%s sends urgent data on %d", who, i),
		      send(s->fd[i], buf, 3, MSG_NOSIGNAL | MSG_OOB));
		break;
	default:
		o_ret(at(d, "%s sends %d on %d", who, n, i), send(s->fd[i], buf, n, MSG_NOSIGNAL));
	}
	if (s->fd[i] >= 0)
		o_until(is_settled, &s->fd[i]);
}

static void dial(struct dice *d, struct scene *s)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(5));
	int fd = socket(o_family, SOCK_STREAM, 0);

	o_ret(at(d, "connect"), connect(fd, (void *)&a, len));
	s->dialed[s->ndialed++] = fd;
}

/* Traffic: the same for both sides, each on its own end. */
static void traffic(struct dice *d, struct scene *s, const char *who)
{
	int i = (int)roll(d, CONNS + 2), n = (int)roll(d, 3) * 400;
	char buf[800] = "";

	errno = 0;
	if (i == CONNS + 1 && !o_is_server())
		dial(d, s);
	else if (i >= CONNS)
		o_ret(at(d, "%s sends UDP", who), send(s->fd[UDP], buf, n, 0));
	else
		traffic_stream(d, s, who, i);
}

static void change(struct dice *d, struct scene *s)
{
	static const unsigned bits[] = {EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET, EPOLLET, EPOLLONESHOT,
					EPOLLPRI, EPOLLRDNORM, EPOLLWRNORM};
	static const char *const names[] = {"", "ADD", "DEL", "MOD"};
	int i = (int)roll(d, NFDS), op = 1 + (int)roll(d, 3);
	struct epoll_event ev = {.data.u32 = (uint32_t)i};

	for (unsigned k = 0; k < sizeof(bits) / sizeof(*bits); k++)
		if (roll(d, 2))
			ev.events |= bits[k];
	if (!roll(d, 10))
		ev.events = (ev.events | EPOLLEXCLUSIVE) & ~(unsigned)(roll(d, 2) * EPOLLONESHOT);
	if (!(ev.events & (EPOLLIN | EPOLLOUT)))
		ev.events |= EPOLLIN;
	errno = 0;
	o_ret(at(d, "%s %d %x", names[op], i, ev.events), epoll_ctl(s->ep, op, s->fd[i], &ev));
}

static void take(struct dice *d, struct scene *s)
{
	int i = (int)roll(d, NFDS), n = 1 + (int)roll(d, 4) * 500, fd;
	char buf[2000];
	uint64_t v = 1;
	socklen_t len = sizeof(n);

	errno = 0;
	if (i == LISTENER) {
		fd = accept4(s->fd[i], NULL, NULL, SOCK_NONBLOCK);
		o_ok(at(d, "accept"), fd);
		if (fd >= 0)
			close(fd);
	} else if (i == EVENT && roll(d, 2))
		o_ret(at(d, "write the event"), write(s->fd[i], &v, 8));
	else if (i == EVENT)
		o_ret(at(d, "read the event"), read(s->fd[i], &v, 8));
	else if (!roll(d, 8) && !getsockopt(s->fd[i], SOL_SOCKET, SO_ERROR, &n, &len))
		o_errno(at(d, "SO_ERROR of %d", i), n);
	else if (!roll(d, 6))
		o_ret(at(d, "recv urgent byte on %d", i), recv(s->fd[i], buf, 1, MSG_OOB | MSG_DONTWAIT));
	else
		o_ret(at(d, "recv %d on %d", n, i), recv(s->fd[i], buf, n, MSG_DONTWAIT));
}

static void wait_for_events(struct dice *d, struct scene *s)
{
	struct epoll_event ev[NFDS];
	unsigned got[NFDS] = {0};
	int n = epoll_wait(s->ep, ev, NFDS, 0);

	o_ret(at(d, "epoll_wait"), n);
	for (int i = 0; i < n; i++)
		got[ev[i].data.u32] = ev[i].events;
	for (int i = 0; i < NFDS; i++)
		if (got[i])
			o_events(at(d, "event of %d", i), got[i]);
}

static void play(struct dice *d)
{
	struct scene s = {.ndialed = 0};

	for (int i = 0; i < CONNS; i++)
		s.fd[i] = o_connected(i);
	s.fd[DUP] = dup(s.fd[0]);
	s.fd[UDP] = o_udp_connected(6, 6);
	s.fd[LISTENER] = o_is_server() ? o_listener(5) : -1;
	if (o_is_server())
		o_nonblock(s.fd[LISTENER], true);
	s.fd[EVENT] = eventfd(0, EFD_NONBLOCK);
	s.probe = probe_open(7);
	s.ep = epoll_create1(0);
	o_poll(s.fd[UDP], POLLIN);
	o_sync();
	for (d->step = 0; d->step < STEPS; d->step++) {
		unsigned what = roll(d, 10);
		struct dice own = {.state = d->state, .seed = d->seed, .step = d->step};

		if (what < 4 && !o_is_server())
			traffic(&own, &s, "client");
		if (what < 4)
			probe_settle(s.probe, !o_is_server());
		if (o_is_server()) {
			if (what == 4)
				traffic(&own, &s, "server");
			else if (what == 5 || what == 6)
				take(&own, &s);
			else if (what > 6)
				change(&own, &s);
			if (roll(&own, 2))
				wait_for_events(d, &s);
		}
		o_sync();
	}
	for (int i = 0; i < NFDS; i++)
		close(s.fd[i]);
	for (int i = 0; i < s.ndialed; i++)
		close(s.dialed[i]);
	close(s.probe);
	close(s.ep);
	o_sync();
}

static void all(void)
{
	for_each_seed(play, 1, 10);
}
SCENARIO(epoll_random, "random ADD, MOD and DEL in a set of TCP, UDP and kernel descriptors under traffic",
	 O_BOTH, all, all)
