/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/args.c - every call with arguments that are wrong, or just not */
#include "oracle.h"

#include <linux/close_range.h>
#include <sys/resource.h>
#include <sys/un.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))
/* Never a program's: the null pointer's page, the kernel's half, not an address at all. */
static void *const bad_pointers[] = { NULL, (void *)8, (void *)-4096, (void *)0x8000000000000000ul };
static const char *const bad_names[] = { "null", "8", "kernel", "non-canonical" };

/* --- descriptors that are none ------------------------------------------------------------------- */

static void calls_on(const char *what, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, 0), n = sizeof(a);
	struct msghdr m = { 0 };
	struct mmsghdr mm = { 0 };
	char buf[4], label[96];
	struct iovec iov = { buf, sizeof(buf) };
	int v = 0;

#define L(text) (snprintf(label, sizeof(label), "%s: %s", what, text), label)
	O(L("bind"), bind(fd, (struct sockaddr *)&a, len));
	O(L("listen"), listen(fd, 1));
	O(L("connect"), connect(fd, (struct sockaddr *)&a, len));
	O(L("accept"), accept(fd, NULL, NULL));
	O(L("accept4"), accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	O(L("getsockname"), getsockname(fd, (struct sockaddr *)&a, &n));
	O(L("getpeername"), getpeername(fd, (struct sockaddr *)&a, &n));
	n = sizeof(v);
	O(L("getsockopt"), getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &n));
	O(L("setsockopt"), setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof(v)));
	O(L("shutdown"), shutdown(fd, SHUT_RDWR));
	O(L("send"), send(fd, buf, 0, 0));
	O(L("recv"), recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O(L("sendto"), sendto(fd, buf, 0, 0, (struct sockaddr *)&a, len));
	O(L("recvfrom"), recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, NULL, NULL));
	O(L("sendmsg"), sendmsg(fd, &m, 0));
	O(L("recvmsg"), recvmsg(fd, &m, MSG_DONTWAIT));
	O(L("sendmmsg"), sendmmsg(fd, &mm, 1, 0));
	O(L("recvmmsg"), recvmmsg(fd, &mm, 1, MSG_DONTWAIT, NULL));
	O(L("sockatmark"), sockatmark(fd));
	O(L("write of nothing"), write(fd, buf, 0));
	O(L("writev of nothing"), writev(fd, &iov, 0));
	O(L("dup2 to itself"), dup2(fd, fd));
	O(L("dup3 to itself"), dup3(fd, fd, 0));
#undef L
}

static void bad_descriptors(void)
{
	int p[2], fd;

	calls_on("-1", -1);
	calls_on("1000000000", 1000000000);
	fd = socket(o_family, SOCK_STREAM, 0);
	close(fd);
	calls_on("closed", fd);
	O("close again", close(fd));
	if (pipe2(p, O_NONBLOCK) < 0)
		o_fail("pipe");
	calls_on("pipe", p[0]);
	close(p[0]);
	close(p[1]);
	fd = open("/dev/null", O_RDWR | O_PATH);
	calls_on("O_PATH", fd);
	close(fd);
}
SCENARIO(bad_descriptors, "every socket call on what is no socket", O_V4, bad_descriptors, NULL)

/* --- socket() ---------------------------------------------------------------------------------------- */

static void socket_types(void)
{
	static const int domains[] = { AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, 99, -1 };
	static const int types[] = { 0, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, 10, 255,
				     SOCK_STREAM | SOCK_NONBLOCK, SOCK_DGRAM | SOCK_CLOEXEC,
				     SOCK_STREAM | 0x100000, -1 };
	static const int protocols[] = { 0, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_UDPLITE,
					 IPPROTO_RAW, 255, 256, -1 };
	char label[96];

	for (size_t d = 0; d < N(domains); d++)
		for (size_t t = 0; t < N(types); t++)
			for (size_t p = 0; p < N(protocols); p++) {
				int fd;

				snprintf(label, sizeof(label), "socket(%d, %#x, %d)", domains[d], types[t],
					 protocols[p]);
				fd = (int)O_OK(label, socket(domains[d], types[t], protocols[p]));
				if (fd < 0)
					continue;
				strcat(label, " flags");
				o_say(label, "%x %x", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
				close(fd);
			}
}
SCENARIO(socket_types, "socket(): every domain, type, protocol and flag", O_V4, socket_types, NULL)

/* --- addresses ---------------------------------------------------------------------------------------- */

enum call { BIND, CONNECT, SENDTO, NCALLS };
static const char *const call_names[NCALLS] = { "bind", "connect", "sendto" };

static long call_addr(enum call c, int fd, const void *addr, socklen_t len)
{
	switch (c) {
	case BIND:
		return bind(fd, addr, len);
	case CONNECT:
		return connect(fd, addr, len);
	default:
		return sendto(fd, "x", 1, MSG_NOSIGNAL, addr, len);
	}
}

/* A fresh socket for each try: a call that succeeds would spoil the next. */
static void try_addr(int type, enum call c, const char *what, const void *addr, socklen_t len)
{
	int fd = socket(o_family, type | SOCK_NONBLOCK, 0);
	char label[128];

	snprintf(label, sizeof(label), "%s %s: %s", type == SOCK_STREAM ? "tcp" : "udp", call_names[c],
		 what);
	O(label, call_addr(c, fd, addr, len));
	close(fd);
}

static void addresses_of(int type, enum call c)
{
	static const int lens[] = { 0, 1, 2, 8, 15, 16, 17, 24, 27, 28, 29, 127, 128, 129, -1 };
	struct sockaddr_storage a;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(9) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "x" };
	char text[64], room[200];
	socklen_t len = c == BIND ? o_loopback_addr(&a, 0) : o_loopback_addr(&a, 9);

	memset(room, 0, sizeof(room));
	memcpy(room + 1, &a, len);
	for (size_t i = 0; i < N(lens); i++) {
		memcpy(room, &a, len);
		snprintf(text, sizeof(text), "length %d", lens[i]);
		try_addr(type, c, text, room, (socklen_t)lens[i]);
	}
	memcpy(room + 1, &a, len);
	try_addr(type, c, "unaligned", room + 1, len);
	a.ss_family = AF_UNSPEC;
	try_addr(type, c, "AF_UNSPEC with an address", &a, len);
	memset(&a, 0, sizeof(a));
	try_addr(type, c, "AF_UNSPEC, zeros", &a, sizeof(struct sockaddr_in));
	a.ss_family = 77;
	try_addr(type, c, "family 77", &a, len);
	try_addr(type, c, "AF_UNIX", &un, sizeof(un));
	inet_pton(AF_INET, "127.0.0.1", &four.sin_addr);
	if (c == BIND)
		four.sin_port = six.sin6_port = 0;
	try_addr(type, c, "IPv4 loopback", &four, sizeof(four));
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &six.sin6_addr);
	try_addr(type, c, "IPv4-mapped loopback", &six, sizeof(six));
	inet_pton(AF_INET6, "::1", &six.sin6_addr);
	try_addr(type, c, "IPv6 loopback", &six, sizeof(six));
	inet_pton(AF_INET6, "fe80::1", &six.sin6_addr);
	try_addr(type, c, "link-local without scope", &six, sizeof(six));
	six.sin6_scope_id = 4711;
	try_addr(type, c, "link-local, scope of no interface", &six, sizeof(six));
	inet_pton(AF_INET, "255.255.255.255", &four.sin_addr);
	try_addr(type, c, "broadcast", &four, sizeof(four));
	len = o_absent_addr(&a, 9);
	if (c == BIND)
		try_addr(type, c, "not our address", &a, len);
	len = o_unroutable_addr(&a, 9);
	try_addr(type, c, "no route", &a, len);
	for (size_t i = 0; i < N(bad_pointers); i++) {
		snprintf(text, sizeof(text), "pointer %s", bad_names[i]);
		try_addr(type, c, text, bad_pointers[i], sizeof(struct sockaddr_in6));
		snprintf(text, sizeof(text), "pointer %s, length 0", bad_names[i]);
		try_addr(type, c, text, bad_pointers[i], 0);
	}
}

static void addresses(void)
{
	for (int c = 0; c < NCALLS; c++) {
		addresses_of(SOCK_STREAM, c);
		addresses_of(SOCK_DGRAM, c);
	}
}
SCENARIO(address_arguments, "bind, connect, sendto: lengths, families, pointers, strange addresses",
	 O_BOTH, addresses, NULL)

/* --- names ---------------------------------------------------------------------------------------------- */

static void names_of(const char *state, int fd)
{
	static const int lens[] = { 0, 1, 2, 8, 16, 28, 100, -1 };
	struct sockaddr_storage a;
	char label[96], bytes[sizeof(a)];
	socklen_t n;

	for (int peer = 0; peer < 2; peer++) {
		const char *name = peer ? "getpeername" : "getsockname";
		int (*fn)(int, struct sockaddr *, socklen_t *) = peer ? getpeername : getsockname;

		for (size_t i = 0; i < N(lens); i++) {
			memset(&a, 0x5a, sizeof(a));
			n = (socklen_t)lens[i];
			snprintf(label, sizeof(label), "%s: %s, room for %d", state, name, lens[i]);
			O(label, fn(fd, (struct sockaddr *)&a, &n));
			strcat(label, ": length");
			o_say(label, "%d", (int)n);
			/* what lies behind the room stays */
			memset(bytes, 0x5a, sizeof(bytes));
			if (lens[i] >= 0) {
				snprintf(label, sizeof(label), "%s: %s, room for %d: no more is written",
					 state, name, lens[i]);
				o_bool(label, !memcmp((char *)&a + lens[i], bytes + lens[i],
						      sizeof(a) - (size_t)lens[i]));
			}
		}
		n = sizeof(a);
		memset(&a, 0, sizeof(a));
		snprintf(label, sizeof(label), "%s: %s", state, name);
		if (O(label, fn(fd, (struct sockaddr *)&a, &n)) == 0) {
			strcat(label, ": address");
			o_addr(label, &a, n);
		}
		for (size_t i = 0; i < N(bad_pointers); i++) {
			n = sizeof(a);
			snprintf(label, sizeof(label), "%s: %s, pointer %s", state, name, bad_names[i]);
			O(label, fn(fd, bad_pointers[i], &n));
			snprintf(label, sizeof(label), "%s: %s, length pointer %s", state, name,
				 bad_names[i]);
			O(label, fn(fd, (struct sockaddr *)&a, bad_pointers[i]));
		}
	}
}

static void names(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(2));
	int fd = socket(o_family, SOCK_STREAM, 0);

	names_of("fresh", fd);
	O("bind", bind(fd, (struct sockaddr *)&a, len));
	names_of("bound", fd);
	O("listen", listen(fd, 1));
	names_of("listening", fd);
	close(fd);
	fd = o_connected(0);
	names_of("connected", fd);
	o_sync();
	if (o_is_server())
		shutdown(fd, SHUT_WR);
	else
		o_wait(fd, POLLIN);
	o_sync();
	names_of("half closed", fd);
	o_sync();
	close(fd);
	fd = o_udp_connected(1, 1);
	names_of("udp", fd);
	close(fd);
}
SCENARIO(name_arguments, "getsockname, getpeername: truncation, lengths, pointers, in every state",
	 O_BOTH, names, names)

/* --- states: calls at the wrong time ------------------------------------------------------------------ */

static void wrong_time_of(const char *state, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, 0);
	char label[96], c;

#define L(text) (snprintf(label, sizeof(label), "%s: %s", state, text), label)
	O(L("bind"), bind(fd, (struct sockaddr *)&a, len));
	O(L("bind, no pointer"), bind(fd, NULL, len));
	O(L("listen"), listen(fd, 1));
	O(L("accept"), accept(fd, NULL, NULL));
	O(L("accept4, bad flags"), accept4(fd, NULL, NULL, 0x7));
	len = o_server_addr(&a, o_port(0));
	O(L("connect"), connect(fd, (struct sockaddr *)&a, len));
	O(L("connect, no pointer"), connect(fd, NULL, len));
	O(L("connect, short"), connect(fd, (struct sockaddr *)&a, 3));
	O(L("connect, length -1"), connect(fd, (struct sockaddr *)&a, (socklen_t)-1));
	a.ss_family = o_family == AF_INET ? AF_INET6 : AF_INET;
	O(L("connect, the other family"), connect(fd, (struct sockaddr *)&a, sizeof(a)));
	O(L("shutdown 3"), shutdown(fd, 3));
	O(L("shutdown -1"), shutdown(fd, -1));
	O(L("recv, unknown flags"), recv(fd, &c, 1, MSG_DONTWAIT | 0x1000000));
#undef L
}

static void wrong_time_listening(void)
{
	int fd = o_listener(1);

	fcntl(fd, F_SETFL, O_NONBLOCK);
	O("listening: bind", bind(fd, NULL, 0));
	O("listening: listen -1", listen(fd, -1));
	O("listening: listen 0", listen(fd, 0));
	O("listening: listen a lot", listen(fd, 1 << 30));
	O("listening: accept", accept(fd, NULL, NULL));
	O("listening: accept4, bad flags", accept4(fd, NULL, NULL, 0x7));
	O("listening: shutdown 3", shutdown(fd, 3));
	O("listening: send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("listening: recv", recv(fd, &fd, 0, 0));
	close(fd);
}

static void wrong_time(void)
{
	int fd = o_connected(0);

	wrong_time_of("connected", fd);
	o_sync();
	close(fd);
	if (o_is_server())
		wrong_time_listening();
	fd = socket(o_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	O("fresh: accept", accept(fd, NULL, NULL));
	O("fresh: accept4, bad flags", accept4(fd, NULL, NULL, 0x7));
	O("fresh: shutdown", shutdown(fd, SHUT_RDWR));
	O("fresh: shutdown 3", shutdown(fd, 3));
	O("fresh: send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("fresh: recv", recv(fd, &fd, 0, 0));
	close(fd);
	fd = socket(o_family, SOCK_DGRAM, 0);
	O("udp: listen", listen(fd, 1));
	O("udp: accept", accept(fd, NULL, NULL));
	O("udp: shutdown", shutdown(fd, SHUT_RDWR));
	O("udp: shutdown 3", shutdown(fd, 3));
	close(fd);
}
SCENARIO(calls_at_the_wrong_time, "bind, listen, connect, accept, shutdown in states that refuse them",
	 O_BOTH, wrong_time, wrong_time)

/* --- accept's address --------------------------------------------------------------------------------- */

static const int accept_room[] = { 0, 2, 8, 16, 28, 128, -1 };

static void accept_server(void)
{
	int fd = o_listener(0), c;
	struct sockaddr_storage a;
	char label[64];
	socklen_t n;

	for (size_t i = 0; i < N(accept_room); i++) {
		o_sync();
		o_wait(fd, POLLIN);
		memset(&a, 0, sizeof(a));
		n = (socklen_t)accept_room[i];
		snprintf(label, sizeof(label), "accept, room for %d", accept_room[i]);
		c = (int)O_OK(label, accept(fd, (struct sockaddr *)&a, &n));
		strcat(label, ": length");
		o_say(label, "%d", (int)n);
		if (c >= 0)
			close(c);
	}
	/* an error of the arguments costs the connection, as in Linux */
	for (size_t i = 0; i < N(bad_pointers); i++) {
		o_sync();
		o_wait(fd, POLLIN);
		n = sizeof(a);
		snprintf(label, sizeof(label), "accept, pointer %s", bad_names[i]);
		c = (int)O_OK(label, accept(fd, bad_pointers[i], &n));
		if (c >= 0)
			close(c);
	}
	o_sync();
	o_wait(fd, POLLIN);
	c = (int)O_OK("accept, no length", accept(fd, (struct sockaddr *)&a, NULL));
	if (c >= 0)
		close(c);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	O("nothing is left", accept(fd, NULL, NULL));
	o_sync();
	close(fd);
}

static void accept_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	char label[64], c;

	for (size_t i = 0; i < N(accept_room) + N(bad_pointers) + 1; i++) {
		int fd = socket(o_family, SOCK_STREAM, 0);

		o_sync();
		snprintf(label, sizeof(label), "connect %zu", i);
		O(label, connect(fd, (struct sockaddr *)&a, len));
		snprintf(label, sizeof(label), "end %zu", i);
		O(label, recv(fd, &c, 1, 0));
		close(fd);
	}
	o_sync();
}
SCENARIO(accept_arguments, "accept(): room for the address, bad pointers", O_BOTH, accept_server,
	 accept_client)

/* --- pointers to data ----------------------------------------------------------------------------------- */

static void data_pointers(const char *type, int fd)
{
	char label[96], byte = 'x';
	struct msghdr m = { 0 };
	struct iovec iov;
	struct mmsghdr mm;

#define L(text) (snprintf(label, sizeof(label), "%s: %s, %s", type, text, bad_names[i]), label)
	for (size_t i = 0; i < N(bad_pointers); i++) {
		void *p = bad_pointers[i];

		O(L("send"), send(fd, p, 10, MSG_NOSIGNAL));
		O(L("write"), write(fd, p, 10));
		O(L("sendmsg"), sendmsg(fd, p, 0));
		O(L("recvmsg"), recvmsg(fd, p, MSG_DONTWAIT));
		O(L("writev"), writev(fd, p, 1));
		O(L("readv"), readv(fd, p, 1));
		O(L("sendmmsg"), sendmmsg(fd, p, 1, 0));
		O(L("recvmmsg"), recvmmsg(fd, p, 1, MSG_DONTWAIT, NULL));
		iov = (struct iovec){ p, 10 };
		m = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
		O(L("sendmsg, buffer"), sendmsg(fd, &m, MSG_NOSIGNAL));
		O(L("writev, buffer"), writev(fd, &iov, 1));
		m = (struct msghdr){ .msg_iov = p, .msg_iovlen = 1 };
		O(L("sendmsg, iov"), sendmsg(fd, &m, MSG_NOSIGNAL));
		O(L("recvmsg, iov"), recvmsg(fd, &m, MSG_DONTWAIT));
		iov = (struct iovec){ &byte, (size_t)-1 };
		m = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
		O(L("sendmsg, length -1"), sendmsg(fd, &m, MSG_NOSIGNAL));
		O(L("send of nothing"), send(fd, p, 0, MSG_NOSIGNAL | MSG_DONTWAIT));
		mm.msg_hdr = (struct msghdr){ .msg_iov = p, .msg_iovlen = 1 };
		O(L("sendmmsg, iov"), sendmmsg(fd, &mm, 1, MSG_NOSIGNAL));
	}
#undef L
}

static void pointers(void)
{
	int fd = o_connected(0);
	char buf[16];

	fcntl(fd, F_SETFL, O_NONBLOCK);
	data_pointers("tcp", fd);
	o_sync();
	O("send", send(fd, "abcdef", 6, 0));
	o_wait_bytes(fd, 6);
	for (size_t i = 0; i < N(bad_pointers); i++) {
		char label[64];

		snprintf(label, sizeof(label), "recv to %s", bad_names[i]);
		O(label, recv(fd, bad_pointers[i], 3, 0));
		snprintf(label, sizeof(label), "read to %s", bad_names[i]);
		O(label, read(fd, bad_pointers[i], 3));
		snprintf(label, sizeof(label), "recv of nothing to %s", bad_names[i]);
		O(label, recv(fd, bad_pointers[i], 0, 0));
	}
	O("nothing is lost", recv(fd, buf, sizeof(buf), 0));
	o_sync();
	close(fd);
	fd = o_udp_connected(1, 1);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	o_sync();
	data_pointers("udp", fd);
	o_sync();
	close(fd);
}
SCENARIO(data_pointers, "EFAULT: bad pointers to data, vectors and messages", O_BOTH, pointers,
	 pointers)

/* A message that has no address to put, but room for one that can't be written. */
static void recvfrom_pointers(void)
{
	int fd = o_connected(0);
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);
	char buf[16];

	o_sync();
	O("send", send(fd, "abcdef", 6, 0));
	o_wait_bytes(fd, 6);
	O("recvfrom", recvfrom(fd, buf, 1, 0, (struct sockaddr *)&a, &n));
	o_say("length", "%u", (unsigned)n);
	O("recvfrom, no length", recvfrom(fd, buf, 1, MSG_PEEK, (struct sockaddr *)&a, NULL));
	n = (socklen_t)-1;
	O("recvfrom, length -1", recvfrom(fd, buf, 1, MSG_PEEK, (struct sockaddr *)&a, &n));
	O("recvfrom, bad length", recvfrom(fd, buf, 1, MSG_PEEK, (struct sockaddr *)&a, (void *)-4096));
	O("rest", recv(fd, buf, sizeof(buf), 0));
	o_sync();
	close(fd);
}
SCENARIO(recvfrom_on_tcp, "recvfrom() on TCP: the address is none", O_BOTH, recvfrom_pointers,
	 recvfrom_pointers)

/* --- dup and its kin ------------------------------------------------------------------------------------ */

static void dups(void)
{
	int fd = o_connected(0), copy, other;
	char c;

	O("dup2 to itself", dup2(fd, fd) == fd);
	O("dup3 to itself", dup3(fd, fd, 0));
	O("dup3, bad flags", dup3(fd, 300, 7));
	O("dup2 to -1", dup2(fd, -1));
	O("dup2 to a huge one", dup2(fd, 1 << 30));
	O("dup3 to 300", dup3(fd, 300, O_CLOEXEC));
	O("F_GETFD of it", fcntl(300, F_GETFD));
	O("dup2 of a closed one over it", dup2(299, 300));
	O("it is there", fcntl(300, F_GETFD));
	other = open("/dev/null", O_RDWR);
	O("a file over it", dup2(other, 300));
	O("getpeername", getpeername(300, NULL, NULL));
	O("the connection over the file", dup2(fd, 300));
	copy = dup(300);
	close(fd);
	close(300);
	close(other);
	o_sync();
	O("send by the last copy", send(copy, "x", 1, 0));
	o_wait(copy, POLLIN);
	O("recv by the last copy", recv(copy, &c, 1, 0));
	o_sync();
	O("close_range, backwards", close_range((unsigned)copy, (unsigned)copy - 1, 0));
	O("close_range, bad flags", close_range((unsigned)copy, (unsigned)copy, 64));
	O("close_range, close-on-exec", close_range((unsigned)copy, (unsigned)copy, CLOSE_RANGE_CLOEXEC));
	O("F_GETFD after it", fcntl(copy, F_GETFD));
	O("close_range", close_range((unsigned)copy, (unsigned)copy, 0));
	O("closed", fcntl(copy, F_GETFD));
	O("closed: recv", recv(copy, &c, 1, 0));
}
SCENARIO(dup_arguments, "dup, dup2, dup3, close_range with a connection", O_BOTH, dups, dups)

/* --- no descriptor left ----------------------------------------------------------------------------------- */

static void limit_server(void)
{
	struct rlimit old, low;
	int fd = o_listener(0), probe, c;

	o_sync();
	o_wait(fd, POLLIN);
	getrlimit(RLIMIT_NOFILE, &old);
	probe = dup(fd);
	close(probe);
	low = old;
	low.rlim_cur = (rlim_t)probe; /* every number below is taken */
	O("setrlimit", setrlimit(RLIMIT_NOFILE, &low));
	O("socket", socket(o_family, SOCK_STREAM, 0));
	O("socket, udp", socket(o_family, SOCK_DGRAM, 0));
	O("dup", dup(fd));
	O("F_DUPFD", fcntl(fd, F_DUPFD, 0));
	O("dup2 past the limit", dup2(fd, probe));
	O("accept", accept(fd, NULL, NULL));
	O("accept again", accept(fd, NULL, NULL));
	O("setrlimit back", setrlimit(RLIMIT_NOFILE, &old));
	c = (int)O_OK("accept with room", accept(fd, NULL, NULL));
	O("send", send(c, "x", 1, 0));
	close(c);
	close(fd);
}

static void limit_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);
	char c;

	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("recv", recv(fd, &c, 1, 0));
	close(fd);
}
SCENARIO(descriptor_limit, "EMFILE: socket, dup and accept; the connection stays in the queue", O_BOTH,
	 limit_server, limit_client)
