/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_cmsg.c - control messages with datagrams, received and sent */
#include "udp.h"
#include <linux/net_tstamp.h>
#include <netinet/udp.h>

union control {
	char buf[512];
	struct cmsghdr align;
};

static bool v4(void)
{
	return o_family == AF_INET;
}

static int int_of(const struct cmsghdr *c)
{
	int v = 0;

	memcpy(&v, CMSG_DATA(c), sizeof(v));
	return v;
}

/* One control message in words that chance does not change. */
static void word(char *text, size_t n, const struct cmsghdr *c)
{
	size_t len = c->cmsg_len - CMSG_LEN(0);

	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO && len == 12) {
		struct in_pktinfo pi;

		memcpy(&pi, CMSG_DATA(c), sizeof(pi));
		snprintf(text, n, "PKTINFO interface %d, address %sspec_dst",
			 pi.ipi_ifindex == (int)if_nametoindex(o_ifname()),
			 pi.ipi_addr.s_addr == pi.ipi_spec_dst.s_addr ? "= " : "!= ");
	} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO && len == 20) {
		struct in6_pktinfo pi;

		memcpy(&pi, CMSG_DATA(c), sizeof(pi));
		snprintf(text, n, "PKTINFO6 interface %d, last byte of address %d",
			 pi.ipi6_ifindex == if_nametoindex(o_ifname()), pi.ipi6_addr.s6_addr[15]);
	} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMP && len == 16) {
		snprintf(text, n, "TIMESTAMP");
	} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS && len == 16) {
		snprintf(text, n, "TIMESTAMPNS");
	} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING && len == 48) {
		struct timespec ts[3];

		memcpy(ts, CMSG_DATA(c), sizeof(ts));
		snprintf(text, n, "TIMESTAMPING %d %d %d", ts[0].tv_sec != 0, ts[1].tv_sec != 0,
			 ts[2].tv_sec != 0);
	} else if (len == sizeof(int)) {
		snprintf(text, n, "%d/%d=%d", c->cmsg_level, c->cmsg_type, int_of(c));
	} else if (len == 1) {
		snprintf(text, n, "%d/%d=%d", c->cmsg_level, c->cmsg_type, *CMSG_DATA(c));
	} else {
		snprintf(text, n, "%d/%d length %zu", c->cmsg_level, c->cmsg_type, len);
	}
}

/* Receive one datagram with what comes along, with room for so many bytes of it. */
static void receive(const char *what, int fd, size_t room)
{
	union control ctl;
	char data[64], label[80], text[600] = "";
	struct iovec v = {data, sizeof(data)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? ctl.buf : NULL,
			   .msg_controllen = room};

	o_wait(fd, POLLIN);
	snprintf(label, sizeof(label), "%s: recvmsg", what);
	if (O(label, recvmsg(fd, &m, MSG_DONTWAIT)) < 0)
		return;
	for (struct cmsghdr *c = room ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c)) {
		word(text + strlen(text), sizeof(text) - strlen(text), c);
		strcat(text, "; ");
	}
	snprintf(label, sizeof(label), "%s: control", what);
	o_say(label, "%s", text);
	snprintf(label, sizeof(label), "%s: flags and length", what);
	o_say(label, "%x %zu", m.msg_flags, m.msg_controllen);
}

/* --- one after the other --------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int level4, name4, level6, name6;
} asks[] = {
	{"PKTINFO", IPPROTO_IP, IP_PKTINFO, IPPROTO_IPV6, IPV6_RECVPKTINFO},
	{"TTL", IPPROTO_IP, IP_RECVTTL, IPPROTO_IPV6, IPV6_RECVHOPLIMIT},
	{"TOS", IPPROTO_IP, IP_RECVTOS, IPPROTO_IPV6, IPV6_RECVTCLASS},
	{"ORIGDSTADDR", IPPROTO_IP, IP_RECVORIGDSTADDR, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR},
	{"TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, SOL_SOCKET, SO_TIMESTAMP},
	{"TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS, SOL_SOCKET, SO_TIMESTAMPNS},
	{"RXQ_OVFL", SOL_SOCKET, SO_RXQ_OVFL, SOL_SOCKET, SO_RXQ_OVFL},
};
#define ASKS (sizeof(asks) / sizeof(*asks))

static void ask(int fd, size_t i, int on)
{
	if (v4())
		set_int(fd, asks[i].level4, asks[i].name4, on);
	else
		set_int(fd, asks[i].level6, asks[i].name6, on);
}

static void each_server(void)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0), other = socket(o_family, SOCK_DGRAM, 0);

	/* the kernel takes its time until it stamps packets; it does while anybody asks for it */
	set_int(other, SOL_SOCKET, SO_TIMESTAMP, 1);
	bind(fd, (void *)&a, o_any_addr(&a, o_port(0)));
	o_poll(fd, POLLIN);
	settle();
	o_sync();
	receive("nothing asked", fd, 512);
	for (size_t i = 0; i < ASKS; i++) {
		ask(fd, i, 1);
		o_sync();
		receive(asks[i].name, fd, 512);
		ask(fd, i, 0);
	}
	for (size_t i = 0; i < ASKS; i++)
		ask(fd, i, 1);
	o_sync();
	receive("all", fd, 512);
	o_sync();
	receive("no room", fd, 0);
	o_sync();
	receive("no room for a header", fd, 10);
	o_sync();
	receive("room for a header only", fd, 16);
	o_sync();
	receive("room for half of the first", fd, 25);
	o_sync();
	receive("room for one and a half", fd, 60);
	set_int(fd, SOL_SOCKET, SO_TIMESTAMP, 0);
	o_sync();
	receive("SO_TIMESTAMP off ends both", fd, 512);
	set_int(fd, SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
	o_sync();
	receive("TIMESTAMPING", fd, 512);
	o_sync();
	close(fd);
	close(other);
}

static void each_client(void)
{
	int fd = o_udp_connected(0, 0);

	if (v4()) {
		set_int(fd, IPPROTO_IP, IP_TTL, 33);
		set_int(fd, IPPROTO_IP, IP_TOS, 0x2a);
	} else {
		set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33);
		set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x2a);
	}
	for (size_t i = 0; i < ASKS + 9; i++) {
		o_sync();
		send_text(fd, "x");
	}
	o_sync();
	close(fd);
}
SCENARIO(udp_ancillary, "what comes with a datagram, its order, and too little room for it", O_BOTH,
	 each_server, each_client)

/* --- drops ----------------------------------------------------------------------------------------- */

static void drops_server(void)
{
	int fd = o_udp(0), got = 0;
	unsigned drops = 0;

	set_int(fd, SOL_SOCKET, SO_RCVBUF, 4096);
	set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	o_poll(fd, POLLIN);
	o_sync();
	o_sync(); /* 200 were sent */
	settle();
	for (int round = 0; round < 2; round++) {
		union control ctl;
		char data[2000];
		struct iovec v = {data, sizeof(data)};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

		for (;;) {
			m.msg_control = ctl.buf;
			m.msg_controllen = sizeof(ctl);
			if (recvmsg(fd, &m, MSG_DONTWAIT) < 0)
				break;
			got++;
			for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
				if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
					memcpy(&drops, CMSG_DATA(c), sizeof(drops));
		}
		if (!round) {
			o_sync(); /* one more, that tells */
			o_wait(fd, POLLIN);
		}
	}
	o_bool("some were dropped", got < 201);
	O("received and dropped", (long)got + drops);
	o_sync();
	close(fd);
}

static void drops_client(void)
{
	int fd = o_udp_connected(0, 0);
	char data[1000] = "";

	o_sync();
	for (int i = 0; i < 200; i++)
		if (send(fd, data, sizeof(data), 0) < 0)
			o_fail("send");
	o_sync();
	o_sync();
	send(fd, "x", 1, 0);
	o_sync();
	close(fd);
}
SCENARIO(udp_drops, "a full queue drops, SO_RXQ_OVFL counts", O_BOTH, drops_server, drops_client)

/* --- sent along -------------------------------------------------------------------------------------- */

static void sent_server(void)
{
	struct sockaddr_storage a;
	int fd = socket(o_family, SOCK_DGRAM, 0);

	bind(fd, (void *)&a, o_any_addr(&a, o_port(0)));
	for (size_t i = 1; i < 3; i++)
		ask(fd, i, 1);
	o_poll(fd, POLLIN);
	o_sync();
	for (long i = 0; o_hear(); i++) {
		char label[40];

		snprintf(label, sizeof(label), "datagram %ld", i);
		receive(label, fd, 512);
		o_tell(0);
	}
	O("no more", recv(fd, &a, sizeof(a), MSG_DONTWAIT));
	close(fd);
}

static int sender;

/* Send with one control message; the server hears of it if it was sent. */
static void with(const char *what, int level, int type, const void *data, size_t len, size_t cut)
{
	union control ctl = {""};
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl.buf,
			   .msg_controllen = CMSG_SPACE(len) - cut};

	ctl.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type};
	memcpy(ctl.buf + CMSG_LEN(0), data, len);
	if (O(what, sendmsg(sender, &m, 0)) >= 0) {
		o_tell(1);
		o_hear();
	}
}

static void with_int(const char *what, int level, int type, int v)
{
	with(what, level, type, &v, sizeof(v), 0);
}

static void with_source(const char *what, enum o_who who, unsigned ifindex)
{
	struct sockaddr_storage a;

	o_addr_of(&a, o_family, who, 0);
	if (v4()) {
		struct in_pktinfo pi = {.ipi_ifindex = (int)ifindex,
					.ipi_spec_dst = ((struct sockaddr_in *)&a)->sin_addr};

		with(what, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi), 0);
	} else {
		struct in6_pktinfo pi = {.ipi6_ifindex = ifindex,
					 .ipi6_addr = ((struct sockaddr_in6 *)&a)->sin6_addr};

		with(what, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi), 0);
	}
}

static void sent_client(void)
{
	int level = v4() ? IPPROTO_IP : IPPROTO_IPV6;
	int tos = v4() ? IP_TOS : IPV6_TCLASS, ttl = v4() ? IP_TTL : IPV6_HOPLIMIT;
	unsigned me = if_nametoindex(o_ifname()), lo = if_nametoindex("lo");
	int pipes[2];
	char byte = 0x1c;

	sender = o_udp_connected(0, 0);
	set_int(sender, level, tos, 0x28);
	o_sync();
	with_int("TOS", level, tos, 0x44);
	with_int("TOS 0", level, tos, 0);
	with("TOS in a byte", level, tos, &byte, 1, 0);
	with_int("TOS 256", level, tos, 256);
	with_int("TOS -1", level, tos, -1);
	with_int("TTL 7", level, ttl, 7);
	with_int("TTL 0", level, ttl, 0);
	with_int("TTL 256", level, ttl, 256);
	with("TTL in a byte", level, ttl, &byte, 1, 0);
	with_source("own source address", O_CLIENT, 0);
	with_source("own source address and interface", O_CLIENT, me);
	with_source("interface only", O_ANY, me);
	with_source("neither", O_ANY, 0);
	with_source("another's source address", O_SERVER, 0);
	with_source("loopback's source address", O_LOOPBACK, 0);
	with_source("loopback's interface", O_ANY, lo);
	with_source("an interface that is none", O_ANY, 9999);
	with("PKTINFO too short", level, v4() ? IP_PKTINFO : IPV6_PKTINFO, &me, 4, 0);
	with_int("a level nobody knows", 77, 1, 1);
	with_int("a type nobody knows", level, 250, 1);
	with_int("a type of SOL_SOCKET nobody knows", SOL_SOCKET, 250, 1);
	if (pipe(pipes))
		o_fail("pipe");
	with("SCM_RIGHTS", SOL_SOCKET, SCM_RIGHTS, pipes, sizeof(pipes), 0);
	close(pipes[0]);
	close(pipes[1]);
	with_int("SO_MARK", SOL_SOCKET, SO_MARK, 1);
	with("cut off", level, tos, &(int){1}, 4, 5);
	with("SOL_IP to the other family", v4() ? IPPROTO_IPV6 : IPPROTO_IP, 50, &(int){1}, 4, 0);
	{
		union control ctl = {""};
		struct msghdr m = {.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1,
				   .msg_control = ctl.buf, .msg_controllen = 24};

		O("a header of length 0", sendmsg(sender, &m, 0));
		ctl.align.cmsg_len = 1000;
		O("a header that is too long", sendmsg(sender, &m, 0));
		m.msg_controllen = 5;
		if (O("control too short for a header", sendmsg(sender, &m, 0)) >= 0) {
			o_tell(1);
			o_hear();
		}
	}
	{
		union control ctl = {""};
		struct msghdr m = {.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1,
				   .msg_control = ctl.buf, .msg_controllen = 2 * CMSG_SPACE(4)};
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = level, .cmsg_type = tos};
		memcpy(CMSG_DATA(c), &(int){0x10}, 4);
		c = (struct cmsghdr *)(ctl.buf + CMSG_SPACE(4));
		*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = level, .cmsg_type = ttl};
		memcpy(CMSG_DATA(c), &(int){9}, 4);
		if (O("TOS and TTL", sendmsg(sender, &m, 0)) >= 0) {
			o_tell(1);
			o_hear();
		}
	}
	o_tell(0);
	close(sender);
}
SCENARIO(udp_sent_along, "control messages of sendmsg: good, bad, malformed", O_BOTH, sent_server,
	 sent_client)

/* A socket bound to any answers from the address that was asked. */
static void answer_server(void)
{
	struct sockaddr_storage a, from;
	int fd = socket(o_family, SOCK_DGRAM, 0);
	union control ctl;
	char data[16];
	struct iovec v = {data, sizeof(data)};
	struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &v, .msg_iovlen = 1,
			   .msg_control = ctl.buf, .msg_controllen = sizeof(ctl)};

	bind(fd, (void *)&a, o_any_addr(&a, o_port(0)));
	ask(fd, 0, 1);
	o_poll(fd, POLLIN);
	o_sync();
	for (int i = 0; i < 3; i++) {
		m.msg_namelen = sizeof(from);
		m.msg_controllen = sizeof(ctl);
		v.iov_len = sizeof(data);
		o_wait(fd, POLLIN);
		v.iov_len = (size_t)recvmsg(fd, &m, 0);
		O("answer with what came along", sendmsg(fd, &m, 0));
	}
	o_sync();
	close(fd);
}

static void answer_client(void)
{
	int fd = o_udp_connected(1, 0);

	o_sync();
	for (int i = 0; i < 3; i++) {
		send_text(fd, "ask");
		recv_from("answer", "from", fd);
	}
	o_sync();
	close(fd);
}
SCENARIO(udp_answer_pktinfo, "answering with the control message that came", O_BOTH, answer_server,
	 answer_client)
