/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_random.c - random calls on two UDP sockets, and their results */
#include "random.h"

#include <linux/errqueue.h>
#include <linux/sockios.h>

#define STEPS 40
#define LARGEST 1400 /* no fragments: they take another way, and may be overtaken */
enum { OWN, PROBE, NOBODY = 3 }; /* ports */

static socklen_t other_side(struct sockaddr_storage *a, int port)
{
	return o_addr_of(a, o_family, o_is_server() ? O_CLIENT : O_SERVER, o_port(port));
}

static void look(struct dice *d, int fd)
{
	int n = -1;

	o_events(at(d, "events"), o_poll(fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDBAND |
					 POLLWRBAND | POLLRDNORM | POLLWRNORM));
	o_ret(at(d, "FIONREAD"), ioctl(fd, FIONREAD, &n));
	o_say(at(d, "bytes to read"), "%d", n);
}

static void do_send(struct dice *d, int fd)
{
	static const int sizes[] = {0, 1, 100, LARGEST, 1};
	static const int flag[] = {0, 0, 0, 0, MSG_DONTWAIT, MSG_CONFIRM, MSG_MORE, MSG_OOB};
	static char buf[LARGEST];
	struct sockaddr_storage a;
	int n = sizes[roll(d, 5)], f = flag[roll(d, 8)], port = roll(d, 5) ? OWN : NOBODY;
	socklen_t len = other_side(&a, port);
	struct iovec iov[2] = {{buf, 0}, {buf, 0}};
	struct mmsghdr m = {.msg_hdr = {.msg_name = &a, .msg_namelen = len, .msg_iov = iov,
					.msg_iovlen = 2}};
	unsigned how = roll(d, 6);

	if (f == MSG_MORE && n > 1)
		n = 1; /* in the end it has to fit into one packet */
	if (f == MSG_MORE && how > 2)
		f = 0; /* Linux sends all that follows to that address, too, even if it is connected */
	iov[1].iov_len = n;
	memset(buf, 'a' + (int)(d->step % 26), sizeof(buf));
	errno = 0;
	switch (how) {
	case 0:
	case 1:
		o_ret(at(d, "send(%d, %x)", n, f), send(fd, buf, n, MSG_NOSIGNAL | f));
		break;
	case 2:
		o_ret(at(d, "write(%d)", n), write(fd, buf, n));
		break;
	case 3:
		o_ret(at(d, "sendmmsg(%d, %x, +%d)", n, f, port), sendmmsg(fd, &m, 1, MSG_NOSIGNAL | f));
		break;
	default:
		o_ret(at(d, "sendto(%d, %x, +%d)", n, f, port),
		      sendto(fd, buf, n, MSG_NOSIGNAL | f, (void *)&a, len));
	}
}

/* What IP_RECVERR tells. */
static void show_error(struct dice *d, struct msghdr *m)
{
	struct sock_extended_err e;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		o_say(at(d, "control message"), "%d %d %zu", c->cmsg_level, c->cmsg_type, c->cmsg_len);
		if (c->cmsg_type != IP_RECVERR && c->cmsg_type != IPV6_RECVERR)
			continue;
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		o_say(at(d, "error"), "%u origin %d type %d code %d info %u data %u", e.ee_errno,
		      e.ee_origin, e.ee_type, e.ee_code, e.ee_info, e.ee_data);
	}
}

static void do_recv(struct dice *d, int fd)
{
	static const int sizes[] = {0, 1, 50, 2000, 2000};
	static const int flag[] = {0, 0, 0, MSG_PEEK, MSG_TRUNC, MSG_PEEK | MSG_TRUNC, MSG_WAITALL,
				   MSG_ERRQUEUE, MSG_ERRQUEUE | MSG_PEEK, MSG_OOB};
	char buf[2000] = "", ctl[256];
	int n = sizes[roll(d, 5)], f = flag[roll(d, 10)];
	struct sockaddr_storage a = {0};
	struct iovec iov[2] = {{buf, n / 2}, {buf + n / 2, n - n / 2}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_name = &a, .msg_namelen = sizeof(a),
			   .msg_control = ctl, .msg_controllen = sizeof(ctl)};
	long r;

	/* without waiting, but now and then where there is something */
	if (!(roll(d, 3) && o_poll(fd, POLLIN) & POLLIN))
		f |= MSG_DONTWAIT;
	errno = 0;
	r = o_ret(at(d, "recvmsg(%d, %x)", n, f & ~MSG_DONTWAIT), recvmsg(fd, &m, f));
	if (r < 0)
		return;
	o_say(at(d, "msg_flags"), "%x", m.msg_flags);
	o_addr(at(d, "from"), &a, m.msg_namelen);
	o_bytes(at(d, "first byte"), buf, n > 0 && r > 0);
	show_error(d, &m);
}

static void set_recverr(struct dice *d, int fd, int v)
{
	bool v6 = o_family == AF_INET6;

	o_ret(at(d, "RECVERR %d", v), setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
						  v6 ? IPV6_RECVERR : IP_RECVERR, &v, sizeof(v)));
}

static void do_other(struct dice *d, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a), vlen = sizeof(int);
	int v = -1;

	errno = 0;
	switch (roll(d, 9)) {
	case 0:
		o_ret(at(d, "SO_ERROR"), getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &vlen));
		o_errno(at(d, "error"), v);
		break;
	case 1:
		o_ret(at(d, "getpeername"), getpeername(fd, (void *)&a, &len));
		break;
	case 2:
		o_ret(at(d, "getsockname"), getsockname(fd, (void *)&a, &len));
		o_addr(at(d, "own name"), &a, len);
		break;
	case 3:
		v = roll(d, 3) ? OWN : NOBODY;
		len = other_side(&a, v);
		o_ret(at(d, "connect +%d", v), connect(fd, (void *)&a, len));
		break;
	case 4:
		memset(&a, 0, sizeof(a));
		o_ret(at(d, "connect to nobody"), connect(fd, (void *)&a, sizeof(a)));
		break;
	case 5:
		v = (int)roll(d, 8);
		if (v < 3)
			o_ret(at(d, "shutdown %d", v), shutdown(fd, v));
		break;
	case 6:
	case 7:
		set_recverr(d, fd, roll(d, 4) != 0);
		break;
	case 8:
		o_ret(at(d, "SIOCOUTQ"), ioctl(fd, SIOCOUTQ, &v));
		o_say(at(d, "unsent"), "%d", v);
		break;
	}
}

static void act(struct dice *d, int fd)
{
	unsigned what = roll(d, 20);

	if (what < 8)
		do_send(d, fd);
	else if (what < 15)
		do_recv(d, fd);
	else
		do_other(d, fd);
}

static void play(struct dice *d)
{
	int fd = o_udp(OWN), probe = probe_open(PROBE);
	unsigned mine = o_is_server();

	o_poll(fd, POLLIN);
	o_sync();
	for (d->step = 0; d->step < STEPS; d->step++) {
		unsigned actor = roll(d, 2);
		struct dice own = {.state = d->state, .seed = d->seed, .step = d->step};

		if (actor == mine)
			act(&own, fd);
		probe_settle(probe, actor == mine);
		look(d, fd);
		o_sync();
	}
	close(fd);
	close(probe);
	o_sync();
}

static void all(void)
{
	for_each_seed(play, 1, 30);
}
SCENARIO(udp_random, "random sends, receives, connects and shutdowns on two sockets", O_BOTH, all,
	 all)
