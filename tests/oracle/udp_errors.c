/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_errors.c - what ICMP tells: pending errors and the error queue */
#include "udp.h"
#include <netinet/ip_icmp.h>
#include <netinet/icmp6.h>
#include <netinet/udp.h>

static int send_to(int fd, enum o_who who, int port, const char *text)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, who, o_port(port));

	return (int)sendto(fd, text, strlen(text), 0, (void *)&a, len);
}

static int connected_to(enum o_who who, int port)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, who, o_port(port));
	int fd = socket(o_family, SOCK_DGRAM, 0);

	if (connect(fd, (void *)&a, len))
		o_fail("connect");
	return fd;
}

static int so_error(int fd)
{
	int v = -1;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &(socklen_t){sizeof(v)});
	return v;
}

static void recverr(int fd, int on)
{
	if (o_family == AF_INET)
		set_int(fd, IPPROTO_IP, IP_RECVERR, on);
	else
		set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, on);
}

/* One entry of the error queue with everything that comes with it. */
static void error_entry(const char *what, int fd, size_t room, size_t ctl_room)
{
	struct sockaddr_storage name;
	union {
		char buf[512];
		struct cmsghdr align;
	} ctl;
	char data[200], label[100];
	struct iovec v = {data, room};
	struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof(name), .msg_iov = &v,
			   .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = ctl_room};
	ssize_t r;

#define L(text) (snprintf(label, sizeof(label), "%s: %s", what, text), label)
	errno = 0;
	r = o_ret(L("recvmsg"), recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT));
	if (r < 0)
		return;
	o_bytes(L("payload"), data, (size_t)r < room ? (size_t)r : room);
	o_say(L("flags"), "%x", m.msg_flags);
	o_addr(L("name"), &name, m.msg_namelen);
	o_say(L("control length"), "%zu", m.msg_controllen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err ee;

		o_say(L("control message"), "%d %d length %zu", c->cmsg_level, c->cmsg_type,
		      (size_t)c->cmsg_len);
		if (c->cmsg_len < CMSG_LEN(sizeof(ee)))
			continue;
		memcpy(&ee, CMSG_DATA(c), sizeof(ee));
		o_say(L("error"), "%s origin %d type %d code %d info %u data %u",
		      strerrorname_np((int)ee.ee_errno), ee.ee_origin, ee.ee_type, ee.ee_code,
		      ee.ee_info, ee.ee_data);
		if (c->cmsg_len >= CMSG_LEN(sizeof(ee) + sizeof(struct sockaddr_in)))
			o_addr(L("offender"), CMSG_DATA(c) + sizeof(ee),
			       (socklen_t)(c->cmsg_len - CMSG_LEN(sizeof(ee))));
	}
#undef L
}

/* The client's datagrams find no socket. */
static void refusing_server(void)
{
	o_sync();
	o_sync();
}

/* --- pending errors ------------------------------------------------------------------------------ */

static void refused_client(void)
{
	int fd = connected_to(O_SERVER, 3);
	char buf[20];

	o_sync();
	O("send", send(fd, "1", 1, 0));
	o_events("poll tells of it", o_wait(fd, POLLERR));
	o_events("poll for IN and OUT", o_poll(fd, POLLIN | POLLOUT));
	O("recv takes it", recv(fd, buf, sizeof(buf), 0));
	o_events("once", o_poll(fd, POLLIN | POLLOUT));
	O("recv after it", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("send 2", send(fd, "2", 1, 0));
	o_wait(fd, POLLERR);
	O("send takes it", send(fd, "3", 1, 0));
	O("and the next goes", send(fd, "4", 1, 0));
	o_wait(fd, POLLERR);
	o_errno("SO_ERROR takes it", so_error(fd));
	o_errno("SO_ERROR once", so_error(fd));
	O("send 5", send(fd, "5", 1, 0));
	O("a blocking recv ends with it", recv(fd, buf, sizeof(buf), 0));
	O("send 6", send(fd, "6", 1, 0));
	o_wait(fd, POLLERR);
	O("MSG_PEEK takes it, too", recv(fd, buf, sizeof(buf), MSG_PEEK));
	O("nothing then", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("nothing in the error queue", recv(fd, buf, sizeof(buf), MSG_ERRQUEUE));
	O("send 7", send(fd, "7", 1, 0));
	o_wait(fd, POLLERR);
	O("sendmmsg with an error pending", sendmmsg(fd, &(struct mmsghdr){.msg_hdr = {
		.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1}}, 1, 0));
	O("send 8", send(fd, "8", 1, 0));
	o_wait(fd, POLLERR);
	O("recvmmsg with an error pending", recvmmsg(fd, &(struct mmsghdr){.msg_hdr = {
		.msg_iov = &(struct iovec){buf, 1}, .msg_iovlen = 1}}, 1, 0, NULL));
	close(fd);
	o_sync();
}
SCENARIO(udp_refused, "port unreachable on a connected socket", O_BOTH, refusing_server, refused_client)

static void unconnected_client(void)
{
	int fd = o_udp(0), e;
	char buf[20];

	o_sync();
	O("sendto a closed port", send_to(fd, O_SERVER, 3, "1"));
	settle();
	o_events("nothing is told", o_poll(fd, POLLIN | POLLOUT | POLLERR));
	O("recv", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	o_errno("SO_ERROR", so_error(fd));
	O("sendto again", send_to(fd, O_SERVER, 3, "2"));
	settle();
	close(fd);
	/* a connected one hears of its own peer only */
	fd = o_udp_connected(0, 3);
	e = send_to(fd, O_SERVER, 4, "elsewhere");
	O("sendto another closed port", e);
	settle();
	o_errno("SO_ERROR after another's refusal", so_error(fd));
	close(fd);
	o_sync();
}
SCENARIO(udp_refused_unconnected, "port unreachable on an unconnected socket", O_BOTH, refusing_server,
	 unconnected_client)

/* Data that came before the error is still there, behind it. */
static void order_server(void)
{
	int fd = o_udp(0);

	o_poll(fd, POLLIN);
	o_sync();
	recv_from("request", "request from", fd);
	send_to(fd, O_CLIENT, 0, "data");
	close(fd);
	o_sync();
	o_sync();
}

static void order_client(void)
{
	int fd = o_udp_connected(0, 0);
	char buf[20];

	o_poll(fd, POLLIN);
	o_sync();
	send_text(fd, "request");
	o_sync();
	o_wait_bytes(fd, 4);
	O("send to the closed port", send(fd, "x", 1, 0));
	o_wait(fd, POLLERR);
	o_events("data and error", o_poll(fd, POLLIN | POLLOUT));
	O("the error first", recv(fd, buf, sizeof(buf), 0));
	o_bytes("then the data", buf, (size_t)O("recv", recv(fd, buf, sizeof(buf), 0)));
	o_sync();
	close(fd);
}
SCENARIO(udp_error_and_data, "an error overtakes data", O_BOTH, order_server, order_client)

/* --- the error queue ------------------------------------------------------------------------------ */

static void queue_client(void)
{
	int fd = o_udp(0);
	char buf[20];

	o_sync();
	recverr(fd, 1);
	error_entry("empty", fd, 100, 512);
	O("sendto", send_to(fd, O_SERVER, 3, "payload"));
	o_events("poll", o_wait(fd, POLLERR));
	o_events("poll for IN and OUT", o_poll(fd, POLLIN | POLLOUT));
	error_entry("after sendto", fd, 100, 512);
	o_errno("SO_ERROR went with it", so_error(fd));
	o_events("poll after it", o_poll(fd, POLLIN | POLLOUT));
	error_entry("and no other", fd, 100, 512);
	O("sendto 2", send_to(fd, O_SERVER, 3, "second"));
	o_wait(fd, POLLERR);
	O("recv tells the error", recv(fd, buf, sizeof(buf), 0));
	o_events("poll, the queue is not empty", o_poll(fd, POLLIN | POLLOUT));
	O("recv then", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	error_entry("still queued", fd, 3, 512);
	O("sendto 3", send_to(fd, O_SERVER, 3, "third"));
	o_wait(fd, POLLERR);
	settle();
	so_error(fd);
	O("sendto 4", send_to(fd, O_SERVER, 4, "fourth"));
	settle();
	o_errno("SO_ERROR of two", so_error(fd));
	error_entry("the first of two", fd, 100, 512);
	o_errno("SO_ERROR is that of the next", so_error(fd));
	error_entry("the second of two", fd, 100, 512);
	O("sendto 5", send_to(fd, O_SERVER, 3, "fifth"));
	settle();
	so_error(fd);
	error_entry("little room for control", fd, 100, CMSG_LEN(20));
	O("sendto 6", send_to(fd, O_SERVER, 3, "sixth"));
	settle();
	so_error(fd);
	error_entry("none", fd, 100, 0);
	O("sendto 7", send_to(fd, O_SERVER, 3, "seventh"));
	settle();
	so_error(fd);
	recverr(fd, 0);
	o_events("switched off: poll", o_poll(fd, POLLIN | POLLOUT));
	error_entry("switched off", fd, 100, 512);
	close(fd);
	o_sync();
}
SCENARIO(udp_error_queue, "IP_RECVERR, unconnected: MSG_ERRQUEUE", O_BOTH, refusing_server, queue_client)

static void queue_connected_client(void)
{
	int fd = connected_to(O_SERVER, 3);

	o_sync();
	recverr(fd, 1);
	O("send", send(fd, "abc", 3, 0));
	o_wait(fd, POLLERR);
	O("the next send fails", send(fd, "def", 3, 0));
	error_entry("connected", fd, 100, 512);
	O("send 2", send(fd, "", 0, 0));
	o_wait(fd, POLLERR);
	error_entry("of an empty datagram", fd, 100, 512);
	O("then it goes", send(fd, "ghi", 3, 0));
	close(fd);
	o_sync();
}
SCENARIO(udp_error_queue_connected, "IP_RECVERR on a connected socket", O_BOTH, refusing_server,
	 queue_connected_client)

/* Errors and data in one socket are read apart. */
static void mixed_server(void)
{
	int fd = o_udp_connected(0, 0);

	o_sync();
	for (int i = 0; i < 3; i++) {
		send_text(fd, (const char *[]){"one", "two", "three"}[i]);
		settle();
		o_sync();
		o_sync();
	}
	o_sync();
	close(fd);
}

static void mixed_client(void)
{
	int fd = o_udp(0);

	o_poll(fd, POLLIN);
	recverr(fd, 1);
	o_sync();
	for (int i = 0; i < 3; i++) {
		o_sync();
		send_to(fd, O_SERVER, 3, (const char *[]){"e1", "e2", "e3"}[i]);
		settle();
		so_error(fd);
		o_sync();
	}
	o_events("data and errors", o_poll(fd, POLLIN));
	error_entry("first error", fd, 100, 512);
	so_error(fd);
	recv_from("first data", "first from", fd);
	recv_from("second data", "second from", fd);
	o_events("one of data, two errors", o_poll(fd, POLLIN));
	recv_from("third data", "third from", fd);
	o_events("two errors", o_poll(fd, POLLIN));
	error_entry("second error", fd, 100, 512);
	so_error(fd);
	error_entry("third error", fd, 100, 512);
	o_events("nothing", o_poll(fd, POLLIN));
	o_sync();
	close(fd);
}
SCENARIO(udp_errors_and_data, "data and errors in one socket are read apart", O_BOTH, mixed_server,
	 mixed_client)

static void queue_info_client(void)
{
	int fd = o_udp(0);

	o_sync();
	recverr(fd, 1);
	if (o_family == AF_INET) {
		set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
		set_int(fd, IPPROTO_IP, IP_RECVTTL, 1);
	} else {
		set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
		set_int(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	}
	O("sendto", send_to(fd, O_SERVER, 3, "payload"));
	o_wait(fd, POLLERR);
	{
		union {
			char buf[512];
			struct cmsghdr align;
		} ctl;
		struct msghdr m = {.msg_control = ctl.buf, .msg_controllen = sizeof(ctl)};
		char text[300] = "";

		O("recvmsg", recvmsg(fd, &m, MSG_ERRQUEUE));
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			sprintf(text + strlen(text), "%d/%d/%zu ", c->cmsg_level, c->cmsg_type,
				(size_t)c->cmsg_len);
			if (c->cmsg_type == IP_PKTINFO && c->cmsg_level == IPPROTO_IP) {
				struct in_pktinfo pi;

				memcpy(&pi, CMSG_DATA(c), sizeof(pi));
				o_say("info", "same interface %d, spec_dst zero %d, addr zero %d",
				      pi.ipi_ifindex == (int)if_nametoindex(o_ifname()),
				      !pi.ipi_spec_dst.s_addr, !pi.ipi_addr.s_addr);
			}
		}
		o_say("control messages", "%s", text);
	}
	close(fd);
	o_sync();
}
SCENARIO(udp_error_queue_info, "other control messages with an error", O_BOTH, refusing_server, queue_info_client)

/* --- nobody there ------------------------------------------------------------------------------------ */

static void absent_client(void)
{
	int fd = connected_to(O_ABSENT, 3), un = o_udp(0);
	char buf[8];

	o_sync();
	recverr(un, 1);
	O("send to nobody", send(fd, "x", 1, 0));
	O("sendto nobody", send_to(un, O_ABSENT, 3, "lost"));
	O("sendto somebody meanwhile", send_to(un, O_SERVER, 3, "there"));
	o_wait(un, POLLERR);
	settle();
	so_error(un);
	error_entry("of the one that is there", un, 100, 512);
	o_wait(un, POLLERR);
	o_errno("told to the unconnected one with RECVERR", so_error(un));
	error_entry("of nobody", un, 100, 512);
	settle();
	o_errno("an ordinary connected one is not told", so_error(fd));
	O("its recv", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	close(fd);
	close(un);
	o_sync();
}
SCENARIO(udp_absent, "sending to an address that nobody has", O_BOTH, refusing_server, absent_client)

/* --- refused at once ----------------------------------------------------------------------------------- */

static void flags_client(void)
{
	int fd = o_udp_connected(0, 3);
	char buf[8];

	o_sync();
	O("MSG_OOB", send(fd, "x", 1, MSG_OOB));
	settle();
	so_error(fd);
	O("an unknown flag", send(fd, "x", 1, 0x800));
	settle();
	so_error(fd);
	O("MSG_DONTROUTE", send(fd, "x", 1, MSG_DONTROUTE));
	settle();
	so_error(fd);
	O("MSG_CONFIRM", send(fd, "x", 1, MSG_CONFIRM));
	settle();
	so_error(fd);
	O("MSG_EOR", send(fd, "x", 1, MSG_EOR));
	settle();
	so_error(fd);
	O("recv MSG_OOB", recv(fd, buf, sizeof(buf), MSG_OOB | MSG_DONTWAIT));
	O("recv MSG_ERRQUEUE without RECVERR", recv(fd, buf, sizeof(buf), MSG_ERRQUEUE));
	O("recv with an unknown flag", recv(fd, buf, sizeof(buf), 0x800 | MSG_DONTWAIT));
	close(fd);
	o_sync();
}
SCENARIO(udp_flags, "flags of send and recv", O_BOTH, refusing_server, flags_client)

/* --- what routers tell ------------------------------------------------------------------------------
 *
 * The server plays the router: it makes up messages about a datagram of the client's. Last in the
 * group: the client's kernel remembers the MTU.
 */

static uint16_t checksum(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)(b[i] << 8 | b[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* The quoted datagram: from the client's port 0 to the server's port 0, "quoted!!" inside. */
static size_t quote(uint8_t *q)
{
	struct sockaddr_storage from, dest;
	struct udphdr uh = {.source = htons(o_port(0)), .dest = htons(o_port(0)), .len = htons(16)};
	size_t n = o_family == AF_INET ? 20 : 40;

	o_client_addr(&from, 0);
	o_server_addr(&dest, 0);
	memset(q, 0, n);
	if (o_family == AF_INET) {
		q[0] = 0x45;
		q[3] = 36;
		q[8] = 64;
		q[9] = IPPROTO_UDP;
		memcpy(q + 12, &((struct sockaddr_in *)&from)->sin_addr, 4);
		memcpy(q + 16, &((struct sockaddr_in *)&dest)->sin_addr, 4);
	} else {
		q[0] = 0x60;
		q[5] = 16;
		q[6] = IPPROTO_UDP;
		q[7] = 64;
		memcpy(q + 8, &((struct sockaddr_in6 *)&from)->sin6_addr, 16);
		memcpy(q + 24, &((struct sockaddr_in6 *)&dest)->sin6_addr, 16);
	}
	memcpy(q + n, &uh, 8);
	memcpy(q + n + 8, "quoted!!", 8);
	return n + 16;
}

static const struct {
	const char *name;
	uint8_t type4, code4, type6, code6;
	uint16_t mtu;
} told[] = {
	{"net unreachable", ICMP_UNREACH, ICMP_UNREACH_NET, ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOROUTE, 0},
	{"host unreachable", ICMP_UNREACH, ICMP_UNREACH_HOST, ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_ADDR, 0},
	{"prohibited", ICMP_UNREACH, 13, ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_ADMIN, 0},
	{"time exceeded", ICMP_TIMXCEED, 0, ICMP6_TIME_EXCEEDED, 0, 0},
	{"parameter problem", ICMP_PARAMPROB, 0, ICMP6_PARAM_PROB, ICMP6_PARAMPROB_NEXTHEADER, 0},
	{"port unreachable", ICMP_UNREACH, ICMP_UNREACH_PORT, ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOPORT, 0},
	{"too big", ICMP_UNREACH, ICMP_UNREACH_NEEDFRAG, ICMP6_PACKET_TOO_BIG, 0, 1300},
};
#define TOLD (sizeof(told) / sizeof(*told))

static void tell(int raw, size_t i)
{
	struct sockaddr_storage a;
	socklen_t len = o_client_addr(&a, 0);
	uint8_t m[128] = {0};
	bool v4 = o_family == AF_INET;
	size_t n = 8 + quote(m + 8);
	uint16_t sum;

	m[0] = v4 ? told[i].type4 : told[i].type6;
	m[1] = v4 ? told[i].code4 : told[i].code6;
	m[6] = (uint8_t)(told[i].mtu >> 8);
	m[7] = (uint8_t)told[i].mtu;
	if (v4) {
		sum = checksum(m, n);
		memcpy(m + 2, &sum, 2);
	}
	if (sendto(raw, m, n, 0, (void *)&a, len) < 0)
		o_fail("raw");
}

static void told_server(void)
{
	int raw = socket(o_family, SOCK_RAW, o_family == AF_INET ? IPPROTO_ICMP : (int)IPPROTO_ICMPV6);
	int fd = o_udp(0);

	if (raw < 0)
		o_fail("raw socket");
	o_poll(fd, POLLIN);
	for (int round = 0; round < 3; round++) {
		o_sync();
		for (size_t i = 0; i < TOLD; i++) {
			o_hear();
			tell(raw, i);
			settle();
			o_tell(0);
		}
	}
	o_sync();
	o_wait_bytes(fd, 1400);
	O("in pieces", recv(fd, (char[2000]){""}, 2000, MSG_DONTWAIT));
	o_sync();
	close(raw);
	close(fd);
}

static int path_mtu(int fd)
{
	int v = -1;
	socklen_t len = sizeof(v);

	if (o_family == AF_INET)
		getsockopt(fd, IPPROTO_IP, IP_MTU, &v, &len);
	else
		getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &v, &len);
	return v;
}

static void discover(int fd, int mode)
{
	if (o_family == AF_INET)
		set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, mode);
	else
		set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode);
}

static void told_client(void)
{
	static const char *rounds[] = {"unconnected with RECVERR", "connected", "connected with RECVERR"};
	char label[100], data[1400] = "";
	int fd = -1;

	for (int round = 0; round < 3; round++) {
		if (fd >= 0)
			close(fd);
		fd = round ? o_udp_connected(0, 0) : o_udp(0);
		recverr(fd, round != 1);
		o_poll(fd, POLLIN);
		o_sync();
		for (size_t i = 0; i < TOLD; i++) {
			o_tell(0);
			o_hear();
			snprintf(label, sizeof(label), "%s, %s", rounds[round], told[i].name);
			o_errno(label, so_error(fd));
			if (round != 1)
				error_entry(label, fd, 100, 512);
		}
	}
	o_say("the path's MTU", "%d", path_mtu(fd));
	recverr(fd, 0);
	discover(fd, IP_PMTUDISC_DO);
	O("too large for it", send(fd, data, sizeof(data), 0));
	discover(fd, IP_PMTUDISC_WANT);
	o_sync();
	O("too large, in pieces", send(fd, data, sizeof(data), 0));
	o_sync();
	close(fd);
}
SCENARIO(udp_told_by_routers, "ICMP messages of routers: errors, error queue, path MTU", O_BOTH,
	 told_server, told_client)
