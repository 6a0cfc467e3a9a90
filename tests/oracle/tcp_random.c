/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_random.c - random calls on both ends of a connection, and their results */
#include "random.h"
#include <linux/sockios.h>

#define STEPS 40
#define MOST_IN_FLIGHT 30000 /* the windows never fill: a step can end */

static int tcp_state(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_state;
}

static bool sent_is_settled(void *arg)
{
	int fd = *(int *)arg, state = tcp_state(fd), left = 0;

	if (state == TCP_CLOSE)
		return true;
	ioctl(fd, SIOCOUTQ, &left);
	return !left && state != TCP_FIN_WAIT1 && state != TCP_CLOSING && state != TCP_LAST_ACK;
}

static void look(struct dice *d, int fd, int ep)
{
	struct epoll_event ev = {0};
	int n = -1, mark = -1;

	o_events(at(d, "events"), o_poll(fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDBAND |
					 POLLWRBAND | POLLRDNORM | POLLWRNORM));
	o_ret(at(d, "FIONREAD"), ioctl(fd, FIONREAD, &n));
	o_say(at(d, "bytes to read"), "%d", n);
	o_ret(at(d, "SIOCATMARK"), ioctl(fd, SIOCATMARK, &mark));
	o_say(at(d, "at the mark"), "%d", mark);
	o_ret(at(d, "edge"), epoll_wait(ep, &ev, 1, 0));
	o_events(at(d, "events of the edge"), ev.events);
}

static void do_send(struct dice *d, int fd, int *in_flight)
{
	static const int sizes[] = {0, 1, 10, 1000, 5000};
	static const int flag[] = {0, 0, MSG_DONTWAIT, MSG_OOB};
	static char buf[5000];
	int n = sizes[roll(d, 5)], f = flag[roll(d, 4)];
	bool vectored = roll(d, 4) == 0;
	long r;

	if (*in_flight + n > MOST_IN_FLIGHT)
		n = 0;
	*in_flight += n;
	for (int i = 0; i < n; i++)
		buf[i] = 'a' + (i + d->step) % 26;
	errno = 0;
	if (vectored) {
		struct iovec iov[3] = {{buf, n / 2}, {NULL, 0}, {buf + n / 2, n - n / 2}};
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = 3};

		r = sendmsg(fd, &m, f | MSG_NOSIGNAL);
	} else {
		r = send(fd, buf, n, f | MSG_NOSIGNAL);
	}
	o_ret(at(d, "%s(%d, %x)", vectored ? "sendmsg" : "send", n, f), r);
}

static void do_recv(struct dice *d, int fd)
{
	static const int sizes[] = {0, 1, 7, 1000, 8192};
	static const int flag[] = {0, 0, 0, MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_PEEK | MSG_TRUNC,
				   MSG_OOB, MSG_OOB | MSG_PEEK, MSG_OOB | MSG_TRUNC};
	char buf[8192] = "";
	int n = sizes[roll(d, 5)], f = flag[roll(d, 10)];
	bool vectored = roll(d, 4) == 0;
	struct iovec iov[2] = {{buf, n / 2}, {buf + n / 2, n - n / 2}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	long r;

	errno = 0;
	r = vectored ? recvmsg(fd, &m, f | MSG_DONTWAIT) : recv(fd, buf, n, f | MSG_DONTWAIT);
	o_ret(at(d, "%s(%d, %x)", vectored ? "recvmsg" : "recv", n, f), r);
	if (vectored && r >= 0)
		o_say(at(d, "msg_flags"), "%x", m.msg_flags);
	if (r > 0 && (f & (MSG_TRUNC | MSG_PEEK)) != MSG_TRUNC) {
		unsigned sum = 0;

		for (int i = 0; i < r && i < n; i++)
			sum = sum * 31 + (unsigned char)buf[i];
		o_say(at(d, "sum of what was read"), "%x", sum);
	}
}

static void do_other(struct dice *d, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int v = -1, kind = (int)roll(d, 6);
	socklen_t vlen = sizeof(v);

	errno = 0;
	switch (kind) {
	case 0:
		o_ret(at(d, "SO_ERROR"), getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &vlen));
		o_errno(at(d, "error"), v);
		break;
	case 1:
		o_ret(at(d, "getpeername"), getpeername(fd, (void *)&a, &len));
		break;
	case 2:
		v = (int)roll(d, 2);
		o_ret(at(d, "SO_OOBINLINE %d", v),
		      setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &v, sizeof(v)));
		break;
	case 3:
		o_say(at(d, "TCP state"), "%d", tcp_state(fd));
		break;
	case 4:
		o_ret(at(d, "SIOCOUTQ"), ioctl(fd, SIOCOUTQ, &v));
		o_say(at(d, "unsent or unacknowledged"), "%d", v);
		break;
	case 5:
		len = o_server_addr(&a, o_port(0));
		o_ret(at(d, "connect again"), connect(fd, (void *)&a, len));
		break;
	}
}

static void act(struct dice *d, int fd, int *in_flight)
{
	unsigned what = roll(d, 21);
	int how;

	if (what < 8) {
		do_send(d, fd, in_flight);
	} else if (what < 15) {
		do_recv(d, fd);
	} else if (what < 19) {
		do_other(d, fd);
	} else {
		how = (int)roll(d, 3);
		errno = 0;
		o_ret(at(d, "shutdown %d", how), shutdown(fd, how));
	}
	o_until(sent_is_settled, &fd);
}

/* The last call on an end, by chance; -1, or what is left to look at. */
static int end(struct dice *d, int fd)
{
	static const char *const names[] = {"close", "reset", "close and linger", "dissolve"};
	struct linger lg = {.l_onoff = 1, .l_linger = 2};
	struct sockaddr_storage none = {.ss_family = AF_UNSPEC};
	unsigned how = roll(d, 4);

	errno = 0;
	switch (how) {
	case 1:
		lg.l_linger = 0; /* fall through */
	case 2:
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
		break;
	case 3:
		o_ret(at(d, "%s", names[how]), connect(fd, (void *)&none, sizeof(none)));
		return fd;
	}
	o_ret(at(d, "%s", names[how]), close(fd));
	return -1;
}

static void play(struct dice *d)
{
	int fd = o_connected(0), probe = probe_open(1), in_flight = 0, ep = epoll_create1(0);
	unsigned last = 5 + roll(d, STEPS);
	struct epoll_event edges = {.events = EPOLLET | EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP};
	unsigned mine = o_is_server();
	bool open[2] = {true, true};

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &edges);
	o_sync();
	for (d->step = 0; d->step < last + 5; d->step++) {
		unsigned actor = roll(d, 2);
		bool ends = d->step >= last && open[actor];
		/* who does not act does not throw these */
		struct dice own = {.state = d->state, .seed = d->seed, .step = d->step};

		if (actor == mine && ends)
			fd = end(&own, fd);
		else if (actor == mine && open[mine])
			act(&own, fd, &in_flight);
		if (ends)
			open[actor] = false;
		probe_settle(probe, actor == mine);
		if (fd >= 0)
			look(d, fd, ep);
		o_sync();
	}
	if (fd >= 0)
		close(fd);
	close(ep);
	close(probe);
	o_sync();
}

static void all(void)
{
	for_each_seed(play, 1, 12);
}
SCENARIO(tcp_random, "random sends, receives, shutdowns and closes on both ends", O_BOTH, all, all)
