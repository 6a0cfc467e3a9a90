/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/epoll_random.c - random changes of an epoll set while its sockets get traffic */
#include "random.h"
#include <linux/sockios.h>
#include <sys/eventfd.h>

#define STEPS 60
#define CONNS 3
/* Descriptors of the set: connections, one more name for the first, UDP, an event descriptor */
enum { DUP = CONNS, UDP, EVENT, NFDS };

struct scene {
	int fd[NFDS], probe, ep;
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

/* Traffic: the same for both sides, each on its own end. */
static void traffic(struct dice *d, struct scene *s, const char *who)
{
	int i = (int)roll(d, CONNS + 1), n = (int)roll(d, 3) * 400;
	char buf[800] = "";

	errno = 0;
	if (i == CONNS)
		o_ret(at(d, "%s sends UDP", who), send(s->fd[UDP], buf, n, 0));
	else if (roll(d, 15))
		o_ret(at(d, "%s sends %d on %d", who, n, i), send(s->fd[i], buf, n, MSG_NOSIGNAL));
	else
		o_ret(at(d, "%s ends %d", who, i), shutdown(s->fd[i], SHUT_WR));
	if (i < CONNS)
		o_until(is_settled, &s->fd[i]);
}

static void change(struct dice *d, struct scene *s)
{
	static const unsigned bits[] = {EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET, EPOLLET, EPOLLONESHOT};
	static const char *const names[] = {"", "ADD", "DEL", "MOD"};
	int i = (int)roll(d, NFDS), op = 1 + (int)roll(d, 3);
	struct epoll_event ev = {.data.u32 = (uint32_t)i};

	for (unsigned k = 0; k < 6; k++)
		if (roll(d, 2))
			ev.events |= bits[k];
	if (!(ev.events & (EPOLLIN | EPOLLOUT)))
		ev.events |= EPOLLIN;
	errno = 0;
	o_ret(at(d, "%s %d %x", names[op], i, ev.events), epoll_ctl(s->ep, op, s->fd[i], &ev));
}

static void take(struct dice *d, struct scene *s)
{
	int i = (int)roll(d, NFDS), n = 1 + (int)roll(d, 4) * 500;
	char buf[2000];
	uint64_t v = 1;

	errno = 0;
	if (i == EVENT && roll(d, 2))
		o_ret(at(d, "write the event"), write(s->fd[i], &v, 8));
	else if (i == EVENT)
		o_ret(at(d, "read the event"), read(s->fd[i], &v, 8));
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

static void settle_udp(const struct scene *s, bool acted)
{
	char c = 0;

	for (int turn = 0; turn < 2; turn++) {
		if (acted == !turn)
			send(s->probe, &c, 1, 0);
		else if (!o_wait(s->probe, POLLIN) || recv(s->probe, &c, 1, 0) != 1)
			o_fail("the probe does not arrive");
	}
}

static void play(struct dice *d)
{
	struct scene s;

	for (int i = 0; i < CONNS; i++)
		s.fd[i] = o_connected(i);
	s.fd[DUP] = dup(s.fd[0]);
	s.fd[UDP] = o_udp_connected(6, 6);
	s.fd[EVENT] = eventfd(0, EFD_NONBLOCK);
	s.probe = o_udp_connected(7, 7);
	s.ep = epoll_create1(0);
	o_poll(s.fd[UDP], POLLIN);
	o_poll(s.probe, POLLIN);
	o_sync();
	for (d->step = 0; d->step < STEPS; d->step++) {
		unsigned what = roll(d, 10);
		struct dice own = {.state = d->state, .seed = d->seed, .step = d->step};

		if (what < 4 && !o_is_server())
			traffic(&own, &s, "client");
		if (what < 4)
			settle_udp(&s, !o_is_server());
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
