/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_multicast.c - groups and broadcast, beside unicast on the same socket */
#include "udp.h"

static bool v4(void)
{
	return o_family == AF_INET;
}

static socklen_t group(struct sockaddr_storage *a, int n, int port)
{
	char text[40];

	memset(a, 0, sizeof(*a));
	if (v4()) {
		struct sockaddr_in *s = (void *)a;

		snprintf(text, sizeof(text), "239.1.2.%d", n);
		s->sin_family = AF_INET;
		s->sin_port = htons(o_port(port));
		inet_pton(AF_INET, text, &s->sin_addr);
		return sizeof(*s);
	}
	struct sockaddr_in6 *s = (void *)a;

	snprintf(text, sizeof(text), "ff12::%d", n);
	s->sin6_family = AF_INET6;
	s->sin6_port = htons(o_port(port));
	s->sin6_scope_id = if_nametoindex(o_ifname());
	inet_pton(AF_INET6, text, &s->sin6_addr);
	return sizeof(*s);
}

static int member(int fd, int n, const char *ifname, bool leave)
{
	struct sockaddr_storage a;

	group(&a, n, 0);
	if (v4()) {
		struct ip_mreqn m = {.imr_multiaddr = ((struct sockaddr_in *)&a)->sin_addr,
				     .imr_ifindex = (int)if_nametoindex(ifname)};

		return setsockopt(fd, IPPROTO_IP, leave ? IP_DROP_MEMBERSHIP : IP_ADD_MEMBERSHIP, &m,
				  sizeof(m));
	}
	struct ipv6_mreq m = {.ipv6mr_multiaddr = ((struct sockaddr_in6 *)&a)->sin6_addr,
			      .ipv6mr_interface = if_nametoindex(ifname)};

	return setsockopt(fd, IPPROTO_IPV6, leave ? IPV6_LEAVE_GROUP : IPV6_JOIN_GROUP, &m, sizeof(m));
}

static int source_member(int fd, int name, int n, enum o_who who)
{
	struct group_source_req r = {.gsr_interface = if_nametoindex(o_ifname())};

	group(&r.gsr_group, n, 0);
	o_addr_of(&r.gsr_source, o_family, who, 0);
	return setsockopt(fd, v4() ? IPPROTO_IP : IPPROTO_IPV6, name, &r, sizeof(r));
}

static int any(int port)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&a, o_any_addr(&a, o_port(port))))
		o_fail("bind");
	return fd;
}

static void out_by(int fd)
{
	int i = (int)if_nametoindex(o_ifname());
	struct ip_mreqn m = {.imr_ifindex = i};

	if (v4() ? setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof(m))
		 : setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &i, sizeof(i)))
		o_fail("multicast interface");
}

static ssize_t to_group(int fd, int n, int port, const char *text)
{
	struct sockaddr_storage a;
	socklen_t len = group(&a, n, port);

	return sendto(fd, text, strlen(text), 0, (void *)&a, len);
}

static ssize_t to_server(int fd, int port, const char *text)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(port));

	return sendto(fd, text, strlen(text), 0, (void *)&a, len);
}

/* --- membership ------------------------------------------------------------------------------------ */

static void groups_server(void)
{
	int fd = any(0), other = any(0);
	char buf[16];

	O("leave what was not joined", member(fd, 1, o_ifname(), true));
	O("join", member(fd, 1, o_ifname(), false));
	O("join twice", member(fd, 1, o_ifname(), false));
	o_poll(fd, POLLIN);
	o_poll(other, POLLIN);
	if (v4())
		set_int(other, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	else
		set_int(other, IPPROTO_IPV6, 29 /* IPV6_MULTICAST_ALL */, 0);
	o_sync();
	recv_from("to the group", "from", fd);
	o_sync();
	settle();
	O("another group is not heard", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("without membership", recv(other, buf, sizeof(buf), MSG_DONTWAIT));
	o_sync();
	recv_from("unicast goes to the younger", "unicast from", other);
	O("only to it", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("join with both", member(other, 1, o_ifname(), false));
	o_sync();
	recv_from("copy of one", "copy from", fd);
	recv_from("copy of the other", "other copy from", other);
	O("leave", member(fd, 1, o_ifname(), true));
	o_sync();
	recv_from("the other stays", "the other's from", other);
	settle();
	O("the one that left", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	o_sync();
	close(fd);
	close(other);
}

static void groups_client(void)
{
	int fd = o_udp(0);

	out_by(fd);
	o_sync();
	O("send to the group", to_group(fd, 1, 0, "one"));
	o_sync();
	O("send to another group", to_group(fd, 2, 0, "two"));
	o_sync();
	O("send unicast", to_server(fd, 0, "uni"));
	o_sync();
	O("send to the group 2", to_group(fd, 1, 0, "three"));
	o_sync();
	O("send to the group 3", to_group(fd, 1, 0, "four"));
	o_sync();
	close(fd);
}
SCENARIO(udp_groups, "join, leave; group and unicast on one socket", O_BOTH, groups_server, groups_client)

static void mixed_server(void)
{
	int fd = any(0), uni = 0, multi = 0;
	char buf[16];

	member(fd, 1, o_ifname(), false);
	set_int(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	o_poll(fd, POLLIN);
	o_sync();
	while (uni + multi < 400 && o_wait(fd, POLLIN))
		if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0) {
			uni += buf[0] == 'u';
			multi += buf[0] == 'm';
		}
	O("unicast", uni);
	O("multicast", multi);
	o_sync();
	close(fd);
}

static void mixed_client(void)
{
	int fd = o_udp(0);

	out_by(fd);
	o_sync();
	for (int i = 0; i < 200; i++) {
		to_server(fd, 0, "u");
		to_group(fd, 1, 0, "m");
		if (i % 20 == 0)
			usleep(2000);
	}
	o_sync();
	close(fd);
}
SCENARIO(udp_group_and_unicast, "groups and unicast mixed: neither starves", O_BOTH, mixed_server,
	 mixed_client)

/* --- sources ------------------------------------------------------------------------------------------ */

static void sources_server(void)
{
	int fd = any(0);
	char buf[16];

	O("join from the client only", source_member(fd, MCAST_JOIN_SOURCE_GROUP, 1, O_CLIENT));
	O("twice", source_member(fd, MCAST_JOIN_SOURCE_GROUP, 1, O_CLIENT));
	o_poll(fd, POLLIN);
	o_sync();
	recv_from("from that source", "source", fd);
	O("leave that source", source_member(fd, MCAST_LEAVE_SOURCE_GROUP, 1, O_CLIENT));
	O("join from somebody else", source_member(fd, MCAST_JOIN_SOURCE_GROUP, 1, O_ABSENT));
	o_sync();
	o_sync();
	O("from another source", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("leave", source_member(fd, MCAST_LEAVE_SOURCE_GROUP, 1, O_ABSENT));
	O("join", member(fd, 1, o_ifname(), false));
	O("block the client", source_member(fd, MCAST_BLOCK_SOURCE, 1, O_CLIENT));
	o_sync();
	o_sync();
	O("blocked", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("unblock", source_member(fd, MCAST_UNBLOCK_SOURCE, 1, O_CLIENT));
	o_sync();
	recv_from("heard again", "again from", fd);
	o_sync();
	close(fd);
}

static void sources_client(void)
{
	int fd = o_udp(0);

	out_by(fd);
	o_sync();
	to_group(fd, 1, 0, "one");
	for (int i = 0; i < 2; i++) {
		o_sync();
		to_group(fd, 1, 0, "no");
		settle();
		o_sync();
	}
	o_sync();
	to_group(fd, 1, 0, "four");
	o_sync();
	close(fd);
}
SCENARIO(udp_sources, "source filters", O_BOTH, sources_server, sources_client)

/* --- our own copies, options ------------------------------------------------------------------------------ */

static void loop_client(void)
{
	int fd = any(0), v = -1;
	socklen_t len = sizeof(v);
	struct sockaddr_storage a;
	char buf[16];

	member(fd, 1, o_ifname(), false);
	out_by(fd);
	o_poll(fd, POLLIN);
	o_sync();
	O("send", to_group(fd, 1, 0, "self"));
	recv_from("our own copy", "of", fd);
	if (v4())
		set_int(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	else
		set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0);
	O("send without loop", to_group(fd, 1, 0, "silent"));
	settle();
	O("no copy", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("hops", v4() ? setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &(int){5}, 4)
		       : setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &(int){5}, 4));
	O("hops read", v4() ? getsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &v, &len)
			    : getsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &v, &len));
	o_say("they are", "%d", v);
	O("send with hops", to_group(fd, 1, 0, "hops"));
	len = group(&a, 1, 0);
	O("connect to the group", connect(fd, (void *)&a, len));
	own_name("own name", fd);
	peer_name("peer's name", fd);
	O("send connected", send(fd, "conn", 4, 0));
	o_sync();
	close(fd);
}

static void loop_server(void)
{
	int fd = any(0), v4s = v4();

	set_int(fd, v4s ? IPPROTO_IP : IPPROTO_IPV6, v4s ? IP_RECVTTL : IPV6_RECVHOPLIMIT, 1);
	set_int(fd, v4s ? IPPROTO_IP : IPPROTO_IPV6, v4s ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
	member(fd, 1, o_ifname(), false);
	o_poll(fd, POLLIN);
	o_sync();
	for (int i = 0; i < 4; i++) {
		union {
			char buf[256];
			struct cmsghdr align;
		} ctl;
		char data[16], label[40], text[200] = "";
		struct iovec v = {data, sizeof(data)};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl.buf,
				   .msg_controllen = sizeof(ctl)};
		ssize_t n;

		o_wait(fd, POLLIN);
		n = recvmsg(fd, &m, MSG_DONTWAIT);
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); n >= 0 && c; c = CMSG_NXTHDR(&m, c))
			sprintf(text + strlen(text), "%d/%d/%d ", c->cmsg_level, c->cmsg_type,
				c->cmsg_len == CMSG_LEN(4) ? *(int *)(void *)CMSG_DATA(c) : -1);
		snprintf(label, sizeof(label), "datagram %d", i);
		o_bytes(label, data, n < 0 ? 0 : (size_t)n);
		snprintf(label, sizeof(label), "with datagram %d", i);
		o_say(label, "%s", text);
	}
	o_sync();
	close(fd);
}
SCENARIO(udp_group_options, "own copies, hops, control messages, connect to a group", O_BOTH, loop_server,
	 loop_client)

/* Bound to the group's address. */
static void bound_server(void)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0);
	char buf[16];

	O("bind to the group", bind(fd, (void *)&a, group(&a, 1, 0)));
	o_bool("its name is the group", getsockname(fd, (void *)&a, &(socklen_t){sizeof(a)}) == 0 &&
	       (v4() ? IN_MULTICAST(ntohl(((struct sockaddr_in *)&a)->sin_addr.s_addr))
		     : IN6_IS_ADDR_MULTICAST(&((struct sockaddr_in6 *)&a)->sin6_addr)));
	O("join", member(fd, 1, o_ifname(), false));
	o_poll(fd, POLLIN);
	o_sync();
	recv_from("group", "from", fd);
	settle();
	O("no unicast", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("answer from it", sendto(fd, "answer", 6, 0, (void *)&a, o_client_addr(&a, o_port(0))));
	o_sync();
	close(fd);
}

static void bound_client(void)
{
	int fd = o_udp(0);

	out_by(fd);
	o_poll(fd, POLLIN);
	o_sync();
	to_server(fd, 0, "unicast");
	to_group(fd, 1, 0, "group");
	recv_from("answer", "is from", fd);
	o_sync();
	close(fd);
}
SCENARIO(udp_bound_to_group, "bound to a group's address", O_BOTH, bound_server, bound_client)

/* --- broadcast ---------------------------------------------------------------------------------------------- */

static socklen_t broadcast(struct sockaddr_storage *a, bool subnet)
{
	socklen_t len = o_addr_of(a, AF_INET, O_SERVER, o_port(0));
	struct sockaddr_in *s = (void *)a;

	s->sin_addr.s_addr = subnet ? s->sin_addr.s_addr | htonl(255) : INADDR_BROADCAST;
	return len;
}

static void broadcast_server(void)
{
	int fd = any(0), own = o_udp(1);
	char buf[16];

	o_poll(fd, POLLIN);
	o_sync();
	recv_from("to the subnet", "from 1", fd);
	o_sync();
	recv_from("to all", "from 2", fd);
	o_sync();
	recv_from("unicast", "from 3", fd);
	O("one bound to an address gets none", recv(own, buf, sizeof(buf), MSG_DONTWAIT));
	o_sync();
	close(fd);
	close(own);
}

static void broadcast_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = broadcast(&a, true);
	int fd = o_udp(0);

	O("to the subnet without SO_BROADCAST", sendto(fd, "x", 1, 0, (void *)&a, len));
	O("connect to it", connect(fd, (void *)&a, len));
	len = broadcast(&a, false);
	O("to all without SO_BROADCAST", sendto(fd, "x", 1, 0, (void *)&a, len));
	set_int(fd, SOL_SOCKET, SO_BROADCAST, 1);
	setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o_ifname(), (socklen_t)strlen(o_ifname()));
	o_sync();
	len = broadcast(&a, true);
	O("to the subnet", sendto(fd, "subnet", 6, 0, (void *)&a, len));
	o_sync();
	len = broadcast(&a, false);
	O("to all", sendto(fd, "all", 3, 0, (void *)&a, len));
	o_sync();
	O("unicast", to_server(fd, 0, "uni"));
	o_sync();
	close(fd);
}
SCENARIO(udp_broadcast, "broadcast to the subnet and to all", O_V4, broadcast_server, broadcast_client)
