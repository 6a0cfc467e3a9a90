/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_dual.c - IPv6 sockets with IPv4 peers, and IPV6_V6ONLY */
#include "udp.h"

static socklen_t mapped(struct sockaddr_storage *a, enum o_who who, int port)
{
	return o_addr_of(a, O_MAPPED, who, o_port(port));
}

/* Bound to [::] and the port. */
static int any6(int port, int v6only)
{
	struct sockaddr_storage a;
	int fd = socket(AF_INET6, SOCK_DGRAM, 0), one = 1;

	set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6only);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&a, o_addr_of(&a, AF_INET6, O_ANY, o_port(port))))
		o_fail("bind");
	return fd;
}

static int sock4(int port)
{
	struct sockaddr_storage a;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (bind(fd, (void *)&a, o_addr_of(&a, AF_INET, o_is_server() ? O_SERVER : O_CLIENT, o_port(port))))
		o_fail("bind");
	return fd;
}

static int sock6(int port)
{
	struct sockaddr_storage a;
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	if (bind(fd, (void *)&a, o_addr_of(&a, AF_INET6, o_is_server() ? O_SERVER : O_CLIENT, o_port(port))))
		o_fail("bind");
	return fd;
}

static ssize_t to(int fd, int family, enum o_who who, int port, const char *text)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, family, who, o_port(port));

	return sendto(fd, text, strlen(text), 0, (void *)&a, len);
}

/* --- both families on one socket ------------------------------------------------------------------- */

static void both_server(void)
{
	int fd = any6(0, 0);
	struct sockaddr_storage a;
	char buf[16];
	socklen_t len;

	o_poll(fd, POLLIN);
	o_sync();
	recv_from("over IPv4", "over IPv4 from", fd);
	O("answer to the mapped address", to(fd, O_MAPPED, O_CLIENT, 0, "mapped"));
	o_sync();
	O("answer to the IPv4 address", to(fd, AF_INET, O_CLIENT, 0, "plain"));
	o_sync();
	recv_from("over IPv6", "over IPv6 from", fd);
	O("answer over IPv6", to(fd, AF_INET6, O_CLIENT, 0, "six"));
	O("connect to the mapped address", connect(fd, (void *)&a, (len = mapped(&a, O_CLIENT, 0))));
	own_name("own name", fd);
	peer_name("peer's name", fd);
	o_sync();
	o_sync();
	recv_from("the peer over IPv4", "the peer", fd);
	O("nobody over IPv6", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("send to it", send(fd, "connected", 9, 0));
	O("sendto IPv6 though connected to IPv4", to(fd, AF_INET6, O_CLIENT, 0, "other"));
	O("connect to the IPv6 address", connect(fd, (void *)&a,
						 o_addr_of(&a, AF_INET6, O_CLIENT, o_port(0))));
	a.ss_family = AF_UNSPEC;
	O("dissolve", connect(fd, (void *)&a, sizeof(a)));
	own_name("own name, dissolved", fd);
	close(fd);
	fd = any6(0, 0); /* 6.18 does not hear an IPv6 peer after one over IPv4 */
	o_poll(fd, POLLIN);
	O("connect to the IPv6 address then", connect(fd, (void *)&a,
						      o_addr_of(&a, AF_INET6, O_CLIENT, o_port(0))));
	own_name("own name over IPv6", fd);
	o_sync();
	o_sync();
	recv_from("the peer over IPv6", "the peer over IPv6 is", fd);
	O("nobody over IPv4", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("connect to the IPv4 address", connect(fd, (void *)&a, o_addr_of(&a, AF_INET, O_CLIENT, o_port(0))));
	o_sync();
	close(fd);
}

static void both_client(void)
{
	int four = sock4(0), six = sock6(0);

	o_poll(four, POLLIN);
	o_poll(six, POLLIN);
	o_sync();
	to(four, AF_INET, O_SERVER, 0, "four");
	recv_from("answer 1", "from 1", four);
	o_sync();
	recv_from("answer 2", "from 2", four);
	o_sync();
	to(six, AF_INET6, O_SERVER, 0, "six");
	recv_from("answer 3", "from 3", six);
	o_sync();
	to(six, AF_INET6, O_SERVER, 0, "not heard");
	to(four, AF_INET, O_SERVER, 0, "heard");
	settle();
	o_sync();
	recv_from("connected", "from the connected one", four);
	o_sync();
	to(four, AF_INET, O_SERVER, 0, "not heard");
	to(six, AF_INET6, O_SERVER, 0, "heard");
	settle();
	o_sync();
	o_sync();
	close(four);
	close(six);
}
SCENARIO(udp_both_families, "one socket for both families: send, receive, connect", O_V6, both_server,
	 both_client)

/* --- IPV6_V6ONLY -------------------------------------------------------------------------------------- */

static void v6only_server(void)
{
	struct sockaddr_storage a;
	int six = any6(0, 1), four = socket(AF_INET, SOCK_DGRAM, 0);
	char buf[16];

	O("bind IPv4 beside it", bind(four, (void *)&a, o_addr_of(&a, AF_INET, O_ANY, o_port(0))));
	o_poll(six, POLLIN);
	o_poll(four, POLLIN);
	o_sync();
	recv_from("IPv6 to the one", "IPv6 from", six);
	recv_from("IPv4 to the other", "IPv4 from", four);
	O("no more", recv(six, buf, sizeof(buf), MSG_DONTWAIT));
	O("to a mapped address", to(six, O_MAPPED, O_CLIENT, 0, "x"));
	O("to an IPv4 address", to(six, AF_INET, O_CLIENT, 0, "x"));
	O("connect to a mapped address", connect(six, (void *)&a, mapped(&a, O_CLIENT, 0)));
	O("connect to an IPv4 address", connect(six, (void *)&a,
						o_addr_of(&a, AF_INET, O_CLIENT, o_port(0))));
	O("IPv6 address on an IPv4 socket", to(four, AF_INET6, O_CLIENT, 0, "x"));
	O("connect an IPv4 socket to an IPv6 address",
	  connect(four, (void *)&a, o_addr_of(&a, AF_INET6, O_CLIENT, o_port(0))));
	O("IPV6_V6ONLY after bind", setsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, 4));
	o_sync();
	close(four);
	close(six);
	four = any6(0, 0);
	o_poll(four, POLLIN);
	six = any6(0, 1);
	o_poll(six, POLLIN);
	o_sync();
	recv_from("IPv6 goes to the younger", "from", six);
	recv_from("IPv4 to the one that takes it", "IPv4 is from", four);
	o_sync();
	close(four);
	close(six);
}

static void v6only_client(void)
{
	int four = sock4(0), six = sock6(0);

	for (int i = 0; i < 2; i++) {
		o_sync();
		to(six, AF_INET6, O_SERVER, 0, "six");
		to(four, AF_INET, O_SERVER, 0, "four");
		o_sync();
	}
	close(four);
	close(six);
}
SCENARIO(udp_v6only, "IPV6_V6ONLY, and an IPv4 socket beside", O_V6, v6only_server, v6only_client)

/* --- bound to a mapped address ------------------------------------------------------------------------- */

static void mapped_server(void)
{
	struct sockaddr_storage a;
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	O("bind to a mapped address", bind(fd, (void *)&a, mapped(&a, O_SERVER, 0)));
	own_name("own name", fd);
	o_poll(fd, POLLIN);
	o_sync();
	recv_from("over IPv4", "from", fd);
	O("answer", to(fd, O_MAPPED, O_CLIENT, 0, "answer"));
	O("to an IPv6 address", to(fd, AF_INET6, O_CLIENT, 0, "x"));
	o_sync();
	close(fd);
}

static void mapped_client(void)
{
	int fd = sock4(0);

	o_poll(fd, POLLIN);
	o_sync();
	to(fd, AF_INET, O_SERVER, 0, "ask");
	recv_from("answered", "by", fd);
	o_sync();
	close(fd);
}
SCENARIO(udp_mapped_bind, "bound to a mapped address", O_V6, mapped_server, mapped_client)

/* --- options of each family, control messages ----------------------------------------------------------- */

static void options_server(void)
{
	int fd = any6(0, 0), on = 1;

	set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set_int(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	O("IP_RECVTTL on it", setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on)));
	O("IP_RECVTOS on it", setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)));
	O("IP_PKTINFO on it", setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)));
	o_poll(fd, POLLIN);
	o_sync();
	for (int i = 0; i < 2; i++) {
		union {
			char buf[512];
			struct cmsghdr align;
		} ctl;
		char data[16], text[400] = "", label[40];
		struct iovec v = {data, sizeof(data)};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl.buf,
				   .msg_controllen = sizeof(ctl)};

		o_wait(fd, POLLIN);
		snprintf(label, sizeof(label), "over IPv%d", i ? 6 : 4);
		O(label, recvmsg(fd, &m, 0));
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			int n = 0;

			memcpy(&n, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0) == 1 ? 1 : 4);
			sprintf(text + strlen(text), "%d/%d/%zu", c->cmsg_level, c->cmsg_type,
				(size_t)c->cmsg_len);
			if (c->cmsg_len <= CMSG_LEN(4))
				sprintf(text + strlen(text), "=%d", n);
			strcat(text, " ");
		}
		snprintf(label, sizeof(label), "came along over IPv%d", i ? 6 : 4);
		o_say(label, "%s", text);
		o_sync();
	}
	close(fd);
}

static void options_client(void)
{
	int fd = any6(0, 0);

	O("IP_TTL", setsockopt(fd, IPPROTO_IP, IP_TTL, &(int){44}, 4));
	O("IP_TOS", setsockopt(fd, IPPROTO_IP, IP_TOS, &(int){0x10}, 4));
	O("IPV6_UNICAST_HOPS", setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){66}, 4));
	O("IPV6_TCLASS", setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &(int){0x20}, 4));
	o_sync();
	to(fd, O_MAPPED, O_SERVER, 0, "four");
	o_sync();
	to(fd, AF_INET6, O_SERVER, 0, "six");
	o_sync();
	close(fd);
}
SCENARIO(udp_dual_options, "TTL, TOS and control messages of each family on one socket", O_V6,
	 options_server, options_client)

/* --- errors ------------------------------------------------------------------------------------------------ */

static void entry(const char *what, int fd)
{
	struct sockaddr_storage name;
	union {
		char buf[256];
		struct cmsghdr align;
	} ctl;
	char data[32], label[60];
	struct iovec v = {data, sizeof(data)};
	struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof(name), .msg_iov = &v,
			   .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof(ctl)};
	struct sock_extended_err ee;
	struct cmsghdr *c;

	snprintf(label, sizeof(label), "%s: recvmsg", what);
	if (O(label, recvmsg(fd, &m, MSG_ERRQUEUE)) < 0)
		return;
	snprintf(label, sizeof(label), "%s: name", what);
	o_addr(label, &name, m.msg_namelen);
	c = CMSG_FIRSTHDR(&m);
	if (!c)
		return;
	memcpy(&ee, CMSG_DATA(c), sizeof(ee));
	snprintf(label, sizeof(label), "%s: entry", what);
	o_say(label, "%d/%d %s origin %d type %d code %d", c->cmsg_level, c->cmsg_type,
	      strerrorname_np((int)ee.ee_errno), ee.ee_origin, ee.ee_type, ee.ee_code);
	snprintf(label, sizeof(label), "%s: offender", what);
	o_addr(label, CMSG_DATA(c) + sizeof(ee), (socklen_t)(c->cmsg_len - CMSG_LEN(sizeof(ee))));
}

static int taken(int fd)
{
	int v = -1;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &(socklen_t){sizeof(v)});
	return v;
}

static void errors_client(void)
{
	struct sockaddr_storage a;
	int fd = any6(0, 0);

	o_sync();
	set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	O("to a closed port over IPv4", to(fd, O_MAPPED, O_SERVER, 3, "four"));
	settle();
	o_errno("IPV6_RECVERR is not for IPv4", taken(fd));
	O("to a closed port over IPv6", to(fd, AF_INET6, O_SERVER, 3, "six"));
	o_wait(fd, POLLERR);
	o_errno("it is for IPv6", taken(fd));
	entry("IPv6", fd);
	set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 0);
	set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
	O("to a closed port over IPv4 again", to(fd, O_MAPPED, O_SERVER, 3, "four"));
	o_wait(fd, POLLERR);
	o_errno("IP_RECVERR is for IPv4", taken(fd));
	entry("IPv4", fd);
	set_int(fd, IPPROTO_IP, IP_RECVERR, 0);
	O("connect", connect(fd, (void *)&a, mapped(&a, O_SERVER, 3)));
	O("send", send(fd, "x", 1, 0));
	o_wait(fd, POLLERR);
	O("a connected one is refused", send(fd, "x", 1, 0));
	o_sync();
	close(fd);
}

static void errors_server(void)
{
	o_sync();
	o_sync();
}
SCENARIO(udp_dual_errors, "errors of each family on one socket", O_V6, errors_server, errors_client)

/* --- link-local -------------------------------------------------------------------------------------------- */

static void local_server(void)
{
	int fd = any6(0, 0);
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	char c;

	o_poll(fd, POLLIN);
	o_sync();
	o_wait(fd, POLLIN);
	O("recvfrom", recvfrom(fd, &c, 1, 0, (void *)&a, &len));
	o_bool("from a link-local address", IN6_IS_ADDR_LINKLOCAL(&a.sin6_addr));
	o_bool("scope is the interface", a.sin6_scope_id == if_nametoindex(o_ifname()));
	O("answer", sendto(fd, "y", 1, 0, (void *)&a, len));
	a.sin6_scope_id = 0;
	O("without a scope", sendto(fd, "y", 1, 0, (void *)&a, len));
	o_sync();
	close(fd);
}

/* The all-nodes group reaches the other side's link-local address without knowing it: the answer
 * comes from there. */
static void local_client(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(o_port(0))};
	socklen_t len = sizeof(a);
	int fd = any6(1, 0);
	char c;

	inet_pton(AF_INET6, "ff02::1", &a.sin6_addr);
	a.sin6_scope_id = if_nametoindex(o_ifname());
	o_poll(fd, POLLIN);
	o_sync();
	O("to all nodes", sendto(fd, "x", 1, 0, (void *)&a, len));
	o_wait(fd, POLLIN);
	O("the answer", recvfrom(fd, &c, 1, 0, (void *)&a, &len));
	o_bool("from a link-local address", IN6_IS_ADDR_LINKLOCAL(&a.sin6_addr));
	o_bool("scope is the interface", a.sin6_scope_id == if_nametoindex(o_ifname()));
	O("connect to it", connect(fd, (void *)&a, len));
	o_sync();
	close(fd);
}
SCENARIO(udp_link_local, "link-local addresses and their scope", O_V6, local_server, local_client)
