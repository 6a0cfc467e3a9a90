/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/netcfg_nl.c - the two rtnetlink sockets: one for news, one for requests
 *
 * The sockets are made by direct system calls: inside a preloaded program libc's names are ours,
 * and these descriptors must not pass through the socket layer that is built upon us. libmnl only
 * builds and walks messages. Only messages that the kernel itself sent count (any process may send
 * to a netlink socket).
 */
#include "netcfg_internal.h"

#include <errno.h>
#include <linux/netlink.h>
#include <nstack/fd_host.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EV_RCVBUF (4 << 20)
#define ANSWER_MS 100

static long sys_recv(int fd, void *buf, size_t len, struct sockaddr_nl *from, int *trunc)
{
	struct iovec iov = { buf, len };
	struct msghdr mh = { .msg_name = from, .msg_namelen = sizeof(*from),
			     .msg_iov = &iov, .msg_iovlen = 1 };
	long n;

	do {
		n = syscall(SYS_recvmsg, fd, &mh, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	*trunc = n >= 0 && mh.msg_flags & MSG_TRUNC;
	return n < 0 ? -errno : n;
}

static int open_one(uint32_t groups)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			      NETLINK_ROUTE);
	int err;

	if (fd < 0)
		return -errno;
	if (!syscall(SYS_bind, fd, &sa, sizeof(sa)))
		return nst_fd_own(fd);
	err = -errno;
	syscall(SYS_close, fd);
	return err;
}

static void set_opts(int fd)
{
	int size = EV_RCVBUF, group = RTNLGRP_NEXTHOP, on = 1;

	/* without the privilege the limit of the system applies; losing news is handled anyway */
	if (syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	/* an older kernel has no such group, and no nexthop objects either */
	syscall(SYS_setsockopt, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
	syscall(SYS_setsockopt, fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
}

int nc_nl_open(struct netcfg *nc)
{
	int on = 1;

	nc->ev_fd = open_one(RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_RULE |
			     1u << (RTNLGRP_IPV6_RULE - 1));
	if (nc->ev_fd < 0)
		return nc->ev_fd;
	set_opts(nc->ev_fd);
	nc->rq_fd = open_one(0);
	if (nc->rq_fd < 0)
		return nc->rq_fd;
	/* strict checking: filters in requests are honoured or refused, never overlooked */
	syscall(SYS_setsockopt, nc->rq_fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return 0;
}

void nc_nl_close(struct netcfg *nc)
{
	int *fds[] = { &nc->ev_fd, &nc->rq_fd, &nc->probe_fd[0], &nc->probe_fd[1] };

	for (unsigned i = 0; i < 4; i++) {
		nst_fd_close(*fds[i]);
		*fds[i] = -1;
	}
}

struct nlmsghdr *nc_nl_request(struct netcfg *nc, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh;

	memset(nc->req, 0, sizeof(nc->req));
	nlh = mnl_nlmsg_put_header(nc->req);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++nc->seq;
	return nlh;
}

/* 1: more to come, 0: done, -errno */
static int take_answers(struct netcfg *nc, size_t len, uint32_t seq, nc_msg_fn fn, bool *torn)
{
	const struct nlmsghdr *nlh = (const void *)nc->buf;
	int left = (int)len;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		if (nlh->nlmsg_seq != seq)
			continue; /* an answer that came too late for its question */
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			*torn = true;
		switch (nlh->nlmsg_type) {
		case NLMSG_DONE:
			return 0;
		case NLMSG_NOOP:
			break;
		case NLMSG_ERROR: {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

			if (mnl_nlmsg_get_payload_len(nlh) < sizeof(e->error))
				return -EPROTO;
			return e->error;
		}
		default:
			if (fn)
				fn(nc, nlh);
			if (!(nlh->nlmsg_flags & NLM_F_MULTI))
				return 0;
		}
	}
	return 1;
}

int nc_nl_talk(struct netcfg *nc, struct nlmsghdr *nlh, nc_msg_fn fn)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK }, from;
	uint32_t seq = nlh->nlmsg_seq;
	bool torn = false;
	int trunc, rc = 1;
	long n;

	if (syscall(SYS_sendto, nc->rq_fd, nlh, nlh->nlmsg_len, MSG_NOSIGNAL, &to, sizeof(to)) < 0)
		return -errno;
	while (rc == 1) {
		n = sys_recv(nc->rq_fd, nc->buf, sizeof(nc->buf), &from, &trunc);
		if (n == -EAGAIN) {
			struct timespec ts = { 0, ANSWER_MS * 1000000l };
			struct pollfd p = { nc->rq_fd, POLLIN, 0 };

			/* in practice never: the kernel answers within our own call */
			if (syscall(SYS_ppoll, &p, 1, &ts, NULL, 0) <= 0)
				return -ETIMEDOUT;
			continue;
		}
		if (n < 0)
			return (int)n;
		if (from.nl_pid)
			continue;
		if (trunc)
			return -EMSGSIZE;
		rc = take_answers(nc, (size_t)n, seq, fn, &torn);
	}
	return !rc && torn ? -EINTR : rc;
}

int nc_nl_news(struct netcfg *nc, nc_msg_fn fn)
{
	const struct nlmsghdr *nlh = (const void *)nc->buf;
	struct sockaddr_nl from;
	int trunc, left;
	long n;

	n = sys_recv(nc->ev_fd, nc->buf, sizeof(nc->buf), &from, &trunc);
	if (n == -EAGAIN)
		return 0;
	if (n < 0 || trunc)
		return -ENOBUFS; /* whatever it was, we may have missed something */
	if (from.nl_pid)
		return 1;
	left = (int)n;
	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		nc->st.messages++;
		fn(nc, nlh);
	}
	return 1;
}

void nc_nl_attrs(const struct nlmsghdr *nlh, size_t hdrlen, const struct nlattr **tb, unsigned max)
{
	const struct nlattr *a;

	memset(tb, 0, sizeof(*tb) * (max + 1));
	if (mnl_nlmsg_get_payload_len(nlh) < hdrlen)
		return;
	mnl_attr_for_each(a, nlh, hdrlen) {
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	}
}

bool nc_nl_addr(const struct nlattr *a, int family, struct nst_addr *out)
{
	uint16_t len = family == AF_INET ? 4 : 16;

	memset(out, 0, sizeof(*out));
	if (!a || (family != AF_INET && family != AF_INET6) || mnl_attr_get_payload_len(a) < len)
		return false;
	out->family = (uint8_t)family;
	memcpy(out->v6, mnl_attr_get_payload(a), len);
	return true;
}
