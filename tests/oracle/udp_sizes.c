/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_sizes.c - sizes: MTU, fragments, limits; corked datagrams and trains */
#include "udp.h"
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

static char data[70000];

static int header(void)
{
	return o_family == AF_INET ? 28 : 48;
}

/* The last word to the client. */
static void done(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = o_client_addr(&a, o_port(0));

	sendto(fd, "done", 4, 0, (void *)&a, len);
	o_sync();
	close(fd);
}

/* Datagrams until one byte comes: their sizes, and whether the bytes are those of fill(). */
static void sizes_server(void)
{
	int fd = o_udp(0);
	char text[900] = "";
	ssize_t n;

	set_int(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	o_poll(fd, POLLIN);
	o_sync();
	do {
		if (!o_wait(fd, POLLIN))
			break;
		n = recv(fd, data, sizeof(data), 0);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%zd%s ", n,
			 n > 2 && (data[n - 1] != (char)(n - 1) || data[n / 2] != (char)(n / 2)) ? "!" : "");
	} while (n != 1);
	o_say("received", "%s", text);
	done(fd);
}

static int start(void)
{
	int fd = o_udp_connected(0, 0);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)i;
	o_sync();
	return fd;
}

static void finish(int fd)
{
	settle();
	send(fd, "", 1, 0);
	recv_from("at the end", "from", fd);
	o_sync();
	close(fd);
}

static void size(int fd, const char *what, int n)
{
	O(what, send(fd, data, (size_t)n, 0));
	settle(); /* fragments and whole ones come by different ways */
}

static void sizes_client(void)
{
	int fd = start();

	size(fd, "0", 0);
	size(fd, "2", 2);
	size(fd, "one under the MTU", 1500 - header() - 1);
	size(fd, "the MTU", 1500 - header());
	size(fd, "one over the MTU", 1500 - header() + 1);
	size(fd, "4000", 4000);
	size(fd, "20000", 20000);
	size(fd, "65507", 65507);
	size(fd, "65508", 65508);
	size(fd, "65527", 65527);
	size(fd, "65528", 65528);
	size(fd, "65535", 65535);
	size(fd, "65536", 65536);
	size(fd, "70000", 70000);
	finish(fd);
}
SCENARIO(udp_datagram_sizes, "from nothing to more than fits", O_BOTH, sizes_server, sizes_client)

static void discover(int fd, int mode)
{
	if (o_family == AF_INET)
		set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, mode);
	else
		set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode);
}

static void mtu_client(void)
{
	static const struct {
		int mode;
		const char *name;
	} modes[] = {{IP_PMTUDISC_DONT, "DONT"}, {IP_PMTUDISC_WANT, "WANT"}, {IP_PMTUDISC_DO, "DO"},
		     {IP_PMTUDISC_PROBE, "PROBE"}, {IP_PMTUDISC_INTERFACE, "INTERFACE"},
		     {IP_PMTUDISC_OMIT, "OMIT"}};
	int fd = start(), mtu = 0;
	char label[60];
	socklen_t len;

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		discover(fd, modes[i].mode);
		snprintf(label, sizeof(label), "%s, the MTU", modes[i].name);
		size(fd, label, 1500 - header());
		snprintf(label, sizeof(label), "%s, one more", modes[i].name);
		size(fd, label, 1500 - header() + 1);
		snprintf(label, sizeof(label), "%s, much more", modes[i].name);
		size(fd, label, 5000);
		len = sizeof(mtu);
		snprintf(label, sizeof(label), "%s, the MTU that is known", modes[i].name);
		O(label, o_family == AF_INET ? getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len)
					     : getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &len));
		snprintf(label, sizeof(label), "%s, it is", modes[i].name);
		o_say(label, "%d", mtu);
	}
	finish(fd);
}
SCENARIO(udp_mtu_discover, "IP_MTU_DISCOVER: what is sent and what is too large", O_BOTH, sizes_server,
	 mtu_client)

static void too_big_client(void)
{
	int fd = start();
	union {
		char buf[256];
		struct cmsghdr align;
	} ctl;
	struct sockaddr_storage name;
	struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof(name), .msg_control = ctl.buf,
			   .msg_controllen = sizeof(ctl)};
	struct sock_extended_err ee;
	struct cmsghdr *c;

	discover(fd, IP_PMTUDISC_DO);
	set_int(fd, o_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
		o_family == AF_INET ? IP_RECVERR : IPV6_RECVERR, 1);
	O("too big", send(fd, data, 2000, 0));
	o_events("poll", o_poll(fd, POLLIN | POLLOUT));
	O("error queue", recvmsg(fd, &m, MSG_ERRQUEUE));
	o_addr("name", &name, m.msg_namelen);
	c = CMSG_FIRSTHDR(&m);
	if (c) {
		memcpy(&ee, CMSG_DATA(c), sizeof(ee));
		o_say("entry", "%s origin %d type %d code %d info %u", strerrorname_np((int)ee.ee_errno),
		      ee.ee_origin, ee.ee_type, ee.ee_code, ee.ee_info);
	}
	O("and then", send(fd, data, 100, 0));
	finish(fd);
}
SCENARIO(udp_too_big, "a datagram that must not be fragmented, with RECVERR", O_BOTH, sizes_server,
	 too_big_client)

/* --- corked ------------------------------------------------------------------------------------------ */

static void cork_client(void)
{
	struct sockaddr_storage a;
	int fd = start();

	O("MSG_MORE", send(fd, data, 10, MSG_MORE));
	O("MSG_MORE again", send(fd, data + 10, 10, MSG_MORE));
	O("the end", send(fd, data + 20, 10, 0));
	settle();
	set_int(fd, IPPROTO_UDP, UDP_CORK, 1);
	O("corked", send(fd, data, 50, 0));
	O("corked again", send(fd, data + 50, 50, 0));
	set_int(fd, IPPROTO_UDP, UDP_CORK, 0);
	settle();
	O("not corked", send(fd, data, 33, 0));
	settle();
	O("MSG_MORE with an address", sendto(fd, data, 5, MSG_MORE, (void *)&a,
					     o_server_addr(&a, o_port(0))));
	O("the end of it", send(fd, data + 5, 3, 0));
	settle();
	O("MSG_MORE, too long", send(fd, data, 60000, MSG_MORE));
	O("too long together", send(fd, data, 10000, 0));
	O("after it", send(fd, data, 44, 0));
	settle();
	O("MSG_MORE before a shutdown", send(fd, data, 5, MSG_MORE));
	O("connect while corked", connect(fd, (void *)&a, o_server_addr(&a, o_port(0))));
	O("sent with it", send(fd, data + 5, 6, 0));
	finish(fd);
}
SCENARIO(udp_cork, "MSG_MORE and UDP_CORK make one datagram", O_BOTH, sizes_server, cork_client)

/* --- trains ------------------------------------------------------------------------------------------- */

static void train(int fd, const char *what, int gso, int n)
{
	union {
		char buf[CMSG_SPACE(2)];
		struct cmsghdr align;
	} ctl = {""};
	struct iovec v = {data, (size_t)n};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl.buf,
			   .msg_controllen = sizeof(ctl)};
	uint16_t size16 = (uint16_t)gso;

	ctl.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(2), .cmsg_level = IPPROTO_UDP,
				     .cmsg_type = UDP_SEGMENT};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &size16, 2);
	O(what, sendmsg(fd, &m, 0));
	settle();
}

static void train_server(void)
{
	int fd = o_udp(0), n = 0;
	long sum = 0;
	ssize_t r;

	set_int(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	o_poll(fd, POLLIN);
	o_sync();
	while (o_wait(fd, POLLIN) && (r = recv(fd, data, sizeof(data), 0)) != 1) {
		n++;
		sum += r;
	}
	O("datagrams", n);
	O("bytes", sum);
	done(fd);
}

static void train_client(void)
{
	int fd = start(), v = 0;
	socklen_t len = sizeof(v);

	train(fd, "3 of 100", 100, 300);
	train(fd, "3 and a half", 100, 350);
	train(fd, "less than one", 100, 50);
	train(fd, "as large as the MTU", 1500 - header(), 4000);
	train(fd, "larger than the MTU", 1500 - header() + 1, 4000);
	train(fd, "size 0", 0, 100);
	train(fd, "128 cars", 10, 1280);
	train(fd, "129 cars", 10, 1290);
	O("UDP_SEGMENT option", setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &(int){200}, 4));
	O("getsockopt", getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &v, &len));
	o_say("it says", "%d", v);
	O("send with it", send(fd, data, 1000, 0));
	settle();
	train(fd, "the control message goes first", 500, 1000);
	O("UDP_SEGMENT off", setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &(int){0}, 4));
	O("send without", send(fd, data, 1000, 0));
	settle();
	O("UDP_SEGMENT too large", setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &(int){70000}, 4));
	finish(fd);
}
SCENARIO(udp_trains, "UDP_SEGMENT: sizes and limits", O_BOTH, train_server, train_client)

static void gro_server(void)
{
	int fd = o_udp(0);
	long sum = 0;
	ssize_t r;

	set_int(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	set_int(fd, IPPROTO_UDP, UDP_GRO, 1);
	o_poll(fd, POLLIN);
	o_sync();
	/* how many trains there are is chance; together they have all bytes, in order */
	bool right = true;

	while (o_wait(fd, POLLIN) && (r = recv(fd, data, sizeof(data), 0)) != 1)
		for (ssize_t i = 0; i < r; i++, sum++)
			right &= data[i] == (char)(sum % 5000);
	O("bytes", sum);
	o_bool("in order", right);
	done(fd);
}

static void gro_client(void)
{
	int fd = start();

	train(fd, "a train", 1000, 5000);
	train(fd, "another", 1000, 5000);
	finish(fd);
}
SCENARIO(udp_gro, "UDP_GRO: all bytes of trains", O_BOTH, gro_server, gro_client)

/* --- the send buffer ---------------------------------------------------------------------------------- */

static void sndbuf_client(void)
{
	int fd = start(), n = -1, sent = 0;

	set_int(fd, SOL_SOCKET, SO_SNDBUF, 1);
	size(fd, "larger than the send buffer", 20000);
	o_nonblock(fd, true);
	for (int i = 0; i < 20; i++) {
		o_wait(fd, POLLOUT);
		sent += send(fd, data, 1000, 0) == 1000;
	}
	O("after POLLOUT", sent);
	o_nonblock(fd, false);
	settle();
	O("SIOCOUTQ", ioctl(fd, TIOCOUTQ, &n));
	o_say("SIOCOUTQ says", "%d", n);
	finish(fd);
}
SCENARIO(udp_sndbuf, "a small send buffer", O_BOTH, sizes_server, sndbuf_client)

/* SO_PEEK_OFF moves through what is queued. */
static void peek_server(void)
{
	int fd = o_udp_connected(0, 0);
	char buf[8];

	o_sync();
	O("SO_PEEK_OFF", setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &(int){0}, 4));
	o_wait_bytes(fd, 6);
	settle();
	o_bytes("peek", buf, (size_t)O("peek returns", recv(fd, buf, 3, MSG_PEEK)));
	o_bytes("peek further", buf, (size_t)O("peek further returns", recv(fd, buf, 3, MSG_PEEK)));
	o_bytes("the next one", buf, (size_t)O("peek next returns", recv(fd, buf, 3, MSG_PEEK)));
	o_bytes("recv", buf, (size_t)O("recv returns", recv(fd, buf, 8, 0)));
	o_bytes("recv next", buf, (size_t)O("recv next returns", recv(fd, buf, 8, 0)));
	O("off", setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &(int){-1}, 4));
	o_sync();
	close(fd);
}

static void peek_client(void)
{
	int fd = o_udp_connected(0, 0);

	o_sync();
	settle();
	send_text(fd, "abcdef");
	send_text(fd, "ghi");
	o_sync();
	close(fd);
}
SCENARIO(udp_peek_off, "SO_PEEK_OFF", O_BOTH, peek_server, peek_client)
