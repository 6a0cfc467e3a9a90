/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_help.h - what the TCP groups (tcp_*.c) share */
#ifndef TESTS_ORACLE_TCP_HELP_H
#define TESTS_ORACLE_TCP_HELP_H

#include "oracle.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/time.h>

static inline int t_socket(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0);

	if (fd < 0)
		o_fail("socket");
	return fd;
}

static inline void t_set(int fd, int level, int name, int v)
{
	if (setsockopt(fd, level, name, &v, sizeof(v)))
		o_fail("setsockopt %d %d", level, name);
}

static inline int t_get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	if (getsockopt(fd, level, name, &v, &len))
		return -errno;
	return v;
}

static inline void t_error(const char *label, int fd)
{
	int v = t_get(fd, SOL_SOCKET, SO_ERROR);

	o_errno(label, v < 0 ? -v : v);
}

static inline void t_state(const char *label, int fd)
{
	static const char *const names[] = { "0", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1",
		"FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING" };
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len))
		o_errno(label, errno);
	else
		o_say(label, "%s", ti.tcpi_state < 12 ? names[ti.tcpi_state] : "?");
}

static inline int t_state_of(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ? -1 : ti.tcpi_state;
}

struct t_wanted {
	int fd, state;
};

static inline bool t_state_is(void *arg)
{
	struct t_wanted *w = (struct t_wanted *)arg;

	return t_state_of(w->fd) == w->state;
}

/* Wait for the state of TCP_INFO, at most as long as o_until() does. */
static inline void t_wait_state(int fd, int state)
{
	o_until(t_state_is, &(struct t_wanted){ fd, state });
}

static inline void t_sockname(const char *label, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &len))
		o_errno(label, errno);
	else
		o_addr(label, &a, len);
}

static inline void t_peername(const char *label, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (getpeername(fd, (struct sockaddr *)&a, &len))
		o_errno(label, errno);
	else
		o_addr(label, &a, len);
}

/* All that poll() may say. */
static inline void t_poll(const char *label, int fd)
{
	o_events(label, o_poll(fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP));
}

static inline int t_connect_server(int fd, int port_index)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(port_index));

	return connect(fd, (struct sockaddr *)&a, len);
}

static inline int t_bind_own(int fd, int port)
{
	struct sockaddr_storage a;
	socklen_t len = o_is_server() ? o_server_addr(&a, (uint16_t)port) :
					o_client_addr(&a, (uint16_t)port);

	return bind(fd, (struct sockaddr *)&a, len);
}

/* Records what recv() gives: the bytes, or the result. */
static inline ssize_t t_recv(const char *label, int fd, size_t n, int flags)
{
	char buf[256];
	ssize_t r;

	errno = 0;
	r = recv(fd, buf, n < sizeof(buf) ? n : sizeof(buf), flags);
	if (r > 0)
		o_bytes(label, buf, (size_t)r);
	else
		o_ret(label, r);
	return r;
}

static inline void t_timeout(int fd, int name, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	if (setsockopt(fd, SOL_SOCKET, name, &tv, sizeof(tv)))
		o_fail("setsockopt timeout");
}

static inline void t_linger(int fd, int s)
{
	struct linger l = { s >= 0, s };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)))
		o_fail("SO_LINGER");
}

/* The neighbour gets a multicast link address (or, lost = false, is resolved again): packets to it are
 * sent and never answered, because no TCP takes what came by multicast. */
static inline void t_neighbour(const struct sockaddr_storage *to, bool lost)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)to;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)to;
	uint32_t alen = to->ss_family == AF_INET ? 4 : 16;
	struct {
		struct nlmsghdr h;
		struct ndmsg n;
		char attrs[64];
	} m;
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[512];
	} answer;
	struct rtattr *a = (struct rtattr *)m.attrs;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	memset(&m, 0, sizeof(m));
	m.h.nlmsg_type = lost ? RTM_NEWNEIGH : RTM_DELNEIGH;
	m.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK |
			  (lost ? NLM_F_CREATE | NLM_F_REPLACE : 0);
	m.n.ndm_family = (unsigned char)to->ss_family;
	m.n.ndm_ifindex = (int)if_nametoindex(o_ifname());
	m.n.ndm_state = NUD_PERMANENT;
	a->rta_type = NDA_DST;
	a->rta_len = (unsigned short)RTA_LENGTH(alen);
	memcpy(RTA_DATA(a), alen == 4 ? (const void *)&in4->sin_addr : &in6->sin6_addr, alen);
	m.h.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(m.n)) + RTA_ALIGN(a->rta_len));
	if (lost) {
		a = (struct rtattr *)((char *)a + RTA_ALIGN(a->rta_len));
		a->rta_type = NDA_LLADDR;
		a->rta_len = RTA_LENGTH(6);
		memcpy(RTA_DATA(a), "\x03\0\0\0\0\x99", 6);
		m.h.nlmsg_len += RTA_ALIGN(a->rta_len);
	}
	if (fd < 0 || send(fd, &m, m.h.nlmsg_len, 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer.h) ||
	    answer.h.nlmsg_type != NLMSG_ERROR || answer.e.error)
		o_fail("neighbour");
	close(fd);
	poll(NULL, 0, 200); /* nothing tells when a stack has heard of it */
}

/* The other side's address is lost, or found again: the link seems dead in this direction. */
static inline void t_cut(bool cut)
{
	struct sockaddr_storage a;

	if (o_is_server())
		o_client_addr(&a, 0);
	else
		o_server_addr(&a, 0);
	t_neighbour(&a, cut);
}

#endif
