/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp_basic.c - datagrams on sockets that are not connected; blocking; life */
#include "udp.h"
#include <pthread.h>

/* --- echo ---------------------------------------------------------------------------------------- */

static void echo_server(void)
{
	int fd = o_udp(0);
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[100];

	o_events("poll when new", o_poll(fd, POLLIN | POLLOUT));
	O("recv of nothing", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	o_sync();
	for (int i = 0; i < 3; i++) {
		o_wait(fd, POLLIN);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (void *)&a, &len);

		sendto(fd, buf, n < 0 ? 0 : (size_t)n, 0, (void *)&a, len);
	}
	o_addr("from", &a, len);
	o_sync();
	O("close", close(fd));
}

static void echo_client(void)
{
	int fd = (int)O_OK("socket", socket(o_family, SOCK_DGRAM, 0));
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	char buf[100];

	own_name("name of an unbound one", fd);
	o_events("poll unbound", o_poll(fd, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM));
	O("recv unbound", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	O("getpeername", getpeername(fd, (void *)&a, &(socklen_t){sizeof(a)}));
	o_sync();
	len = o_server_addr(&a, o_port(0));
	O("sendto binds", sendto(fd, "one", 3, 0, (void *)&a, len));
	own_name("name then", fd);
	recv_from("answer", "answer from", fd);
	O("bind when bound", bind(fd, (void *)&a, o_any_addr(&a, o_port(1))));
	len = o_server_addr(&a, o_port(0));
	O("send nothing", sendto(fd, "", 0, 0, (void *)&a, len));
	o_events("an empty datagram is an event", o_wait(fd, POLLIN));
	recv_from("empty answer", "empty answer from", fd);
	O("sendmsg", sendmsg(fd, &(struct msghdr){.msg_name = &a, .msg_namelen = len,
		.msg_iov = (struct iovec[]){{"ab", 2}, {"", 0}, {"cde", 3}}, .msg_iovlen = 3}, 0));
	recv_from("gathered", "gathered from", fd);
	o_events("poll at last", o_poll(fd, POLLIN | POLLOUT));
	o_sync();
	O("close", close(fd));
}
SCENARIO(udp_echo, "send and receive without connect; implicit bind", O_BOTH, echo_server, echo_client)

/* --- reading -------------------------------------------------------------------------------------- */

static void reading_server(void)
{
	int fd = o_udp_connected(0, 0), n = -1;
	struct iovec v[3];
	char buf[20] = "";

	o_sync();
	o_wait_bytes(fd, 10);
	O("FIONREAD", ioctl(fd, FIONREAD, &n));
	o_say("FIONREAD says", "%d", n);
	O("peek", recv(fd, buf, 4, MSG_PEEK));
	O("peek with MSG_TRUNC", recv(fd, buf, 4, MSG_PEEK | MSG_TRUNC));
	O("short", recv(fd, buf, 4, 0));
	o_wait(fd, POLLIN);
	ioctl(fd, FIONREAD, &n);
	o_say("FIONREAD of the next", "%d", n);
	O("short with MSG_TRUNC", recv(fd, buf, 3, MSG_TRUNC));
	o_wait(fd, POLLIN);
	O("into nothing", recv(fd, buf, 0, 0));
	o_wait(fd, POLLIN);
	v[0] = (struct iovec){buf, 2};
	v[1] = (struct iovec){buf + 10, 0};
	v[2] = (struct iovec){buf + 2, 10};
	o_bytes("readv", buf, O("readv returns", readv(fd, v, 3)));
	o_wait(fd, POLLIN);
	o_bytes("read", buf, O("read returns", read(fd, buf, sizeof(buf))));
	o_wait(fd, POLLIN);
	ioctl(fd, FIONREAD, &n);
	o_say("FIONREAD of an empty one", "%d", n);
	o_events("poll with an empty one", o_poll(fd, POLLIN));
	O("read the empty one", read(fd, buf, sizeof(buf)));
	o_wait(fd, POLLIN);
	O("MSG_WAITALL does not wait", recv(fd, buf, sizeof(buf), MSG_WAITALL));
	O("nothing left", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	ioctl(fd, FIONREAD, &n);
	o_say("FIONREAD of none", "%d", n);
	o_sync();
	close(fd);
}

static void reading_client(void)
{
	int fd = o_udp_connected(0, 0), n = -1;

	o_sync();
	send_text(fd, "0123456789");
	send_text(fd, "abcdefg");
	send_text(fd, "gone");
	send_text(fd, "scatter");
	O("write", write(fd, "written", 7));
	O("write nothing", write(fd, "", 0) );
	O("writev", writev(fd, (struct iovec[]){{"ve", 2}, {"ctor", 4}}, 2));
	o_sync();
	O("SIOCOUTQ", ioctl(fd, TIOCOUTQ, &n));
	o_say("SIOCOUTQ says", "%d", n);
	close(fd);
}
SCENARIO(udp_reading, "peek, truncate, scatter, FIONREAD, read and write", O_BOTH, reading_server,
	 reading_client)

/* --- recvmmsg, sendmmsg --------------------------------------------------------------------------- */

static void mm_server(void)
{
	int fd = o_udp_connected(0, 0);
	struct mmsghdr m[8];
	struct iovec v[8];
	char buf[8][16];
	struct timespec t;

	o_sync();
	for (int i = 0; i < 8; i++) {
		v[i] = (struct iovec){buf[i], sizeof(buf[i])};
		m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &v[i], .msg_iovlen = 1}};
	}
	O("empty", recvmmsg(fd, m, 8, MSG_DONTWAIT, NULL));
	t = (struct timespec){0, 1000000000};
	O("bad time-out", recvmmsg(fd, m, 8, MSG_DONTWAIT, &t));
	O("into no message", recvmmsg(fd, m, 0, MSG_DONTWAIT, NULL));
	o_tell(1);
	o_hear();
	o_wait_bytes(fd, 1);
	O("two wanted", recvmmsg(fd, m, 2, 0, NULL));
	o_say("their lengths", "%u %u", m[0].msg_len, m[1].msg_len);
	O("wait for one", recvmmsg(fd, m, 8, MSG_WAITFORONE, NULL));
	o_say("lengths", "%u %u", m[0].msg_len, m[1].msg_len);
	o_tell(2);
	t = (struct timespec){5, 0};
	O("with time-out", recvmmsg(fd, m, 1, 0, &t));
	o_bool("time left was written", t.tv_sec < 5 && (t.tv_sec || t.tv_nsec));
	o_sync();
	close(fd);
}

static void mm_client(void)
{
	int fd = o_udp_connected(0, 0);
	struct sockaddr_storage bad = {.ss_family = AF_UNIX};
	struct mmsghdr m[4];
	struct iovec v[4] = {{"1", 1}, {"22", 2}, {"333", 3}, {"4444", 4}};

	for (int i = 0; i < 4; i++)
		m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &v[i], .msg_iovlen = 1}, .msg_len = 77};
	o_sync();
	o_hear();
	O("send none", sendmmsg(fd, m, 0, 0));
	O("sendmmsg", sendmmsg(fd, m, 4, 0));
	o_say("lengths", "%u %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len, m[3].msg_len);
	usleep(50000);
	o_tell(1);
	o_hear();
	m[1].msg_hdr.msg_name = &bad;
	m[1].msg_hdr.msg_namelen = sizeof(bad);
	m[1].msg_len = 77;
	O("the second is bad", sendmmsg(fd, m, 4, 0));
	o_say("bad one's length", "%u", m[1].msg_len);
	O("the first is bad", sendmmsg(fd, m + 1, 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(udp_mmsg, "recvmmsg and sendmmsg: partial results, time-outs", O_BOTH, mm_server, mm_client)

/* --- blocking -------------------------------------------------------------------------------------- */

static void on_alarm(int sig)
{
	(void)sig;
}

static void interrupted(void *arg)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	struct timeval tv = {1, 0};
	int fd = *(int *)arg;
	char c;

	sigaction(SIGALRM, &sa, NULL);
	ualarm(50000, 50000);
	O("EINTR", recv(fd, &c, 1, 0));
	sa.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &sa, NULL);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	O("EINTR with a time-out, though SA_RESTART", recv(fd, &c, 1, 0));
	ualarm(0, 0);
}

static void *late_sender(void *arg)
{
	usleep(100000);
	o_tell((long)(intptr_t)arg);
	return NULL;
}

static void blocking_server(void)
{
	int fd = o_udp_connected(0, 0);
	struct timeval tv = {0, 150000};
	pthread_t t;
	uint64_t at;
	char c;

	o_sync();
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	at = o_now();
	O("recv until SO_RCVTIMEO", recv(fd, &c, 1, 0));
	o_time("took", at, 150);
	at = o_now();
	O("MSG_DONTWAIT", recv(fd, &c, 1, MSG_DONTWAIT));
	o_time("at once", at, 0);
	o_nonblock(fd, true);
	O("O_NONBLOCK", recv(fd, &c, 1, 0));
	o_nonblock(fd, false);
	tv.tv_usec = 0;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	pthread_create(&t, NULL, late_sender, (void *)1);
	O("waits for a datagram", recv(fd, &c, 1, 0));
	pthread_join(t, NULL);
	o_fork("interrupted child", interrupted, &fd);
	o_sync();
	close(fd);
}

static void blocking_client(void)
{
	int fd = o_udp_connected(0, 0);

	o_sync();
	o_hear();
	O("send", send(fd, "x", 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(udp_blocking, "SO_RCVTIMEO, MSG_DONTWAIT, EINTR", O_BOTH, blocking_server, blocking_client)

/* --- threads ------------------------------------------------------------------------------------- */

struct reader {
	int fd;
	ssize_t got;
	char buf[32];
};

static void *reader(void *arg)
{
	struct reader *r = arg;

	r->got = recv(r->fd, r->buf, sizeof(r->buf), 0);
	return NULL;
}

static void early_reader_server(void)
{
	int fd = o_udp(0);
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char c;

	o_poll(fd, POLLIN);
	o_sync();
	o_wait(fd, POLLIN);
	O("request", recvfrom(fd, &c, 1, 0, (void *)&a, &len));
	O("answer", sendto(fd, "answer", 6, 0, (void *)&a, len));
	o_sync();
	close(fd);
}

static void early_reader_client(void)
{
	struct reader r = {.fd = socket(o_family, SOCK_DGRAM, 0)};
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	pthread_t t;

	o_sync();
	pthread_create(&t, NULL, reader, &r);
	usleep(50000);
	O("send", sendto(r.fd, "q", 1, 0, (void *)&a, len));
	pthread_join(t, NULL);
	o_bytes("the reader that was there before the bind", r.buf, (size_t)r.got);
	o_sync();
	close(r.fd);
}
SCENARIO(udp_reader_before_bind, "a thread that receives before the socket has a port", O_BOTH,
	 early_reader_server, early_reader_client)

static void close_reading_server(void)
{
	struct reader r = {.fd = o_udp(0)};
	pthread_t t;

	o_poll(r.fd, POLLIN);
	pthread_create(&t, NULL, reader, &r);
	usleep(50000);
	O("close while another thread receives", close(r.fd));
	o_sync();
	pthread_join(t, NULL);
	o_bytes("the thread still gets", r.buf, (size_t)r.got);
	o_sync();
}

static void close_reading_client(void)
{
	int fd = o_udp_connected(0, 0);

	o_sync();
	O("send", send(fd, "late", 4, 0));
	o_sync();
	close(fd);
}
SCENARIO(udp_close_while_reading, "close() under a blocked receiver", O_BOTH, close_reading_server,
	 close_reading_client)

static void shut_server(void)
{
	struct reader r = {.fd = o_udp_connected(0, 0)};
	struct pollfd p;
	pthread_t t;
	char buf[8];

	o_sync();
	pthread_create(&t, NULL, reader, &r);
	usleep(50000);
	O("shutdown(SHUT_RD)", shutdown(r.fd, SHUT_RD));
	pthread_join(t, NULL);
	O("the blocked receiver got", r.got);
	p = (struct pollfd){.fd = r.fd, .events = POLLIN | POLLOUT | POLLRDHUP};
	poll(&p, 1, 0);
	o_events("poll after SHUT_RD", p.revents);
	O("recv after SHUT_RD", recv(r.fd, buf, sizeof(buf), 0));
	O("recv after SHUT_RD, MSG_DONTWAIT", recv(r.fd, buf, sizeof(buf), MSG_DONTWAIT));
	o_tell(1);
	o_hear();
	usleep(50000);
	O("datagrams still come", recv(r.fd, buf, sizeof(buf), 0));
	O("and no more", recv(r.fd, buf, sizeof(buf), 0));
	O("send after SHUT_RD", send(r.fd, "x", 1, 0));
	O("shutdown(SHUT_WR)", shutdown(r.fd, SHUT_WR));
	poll(&p, 1, 0);
	o_events("poll after both", p.revents);
	O("send after SHUT_WR", send(r.fd, "x", 1, 0));
	O("empty send after SHUT_WR", send(r.fd, "", 0, 0));
	o_sync();
	close(r.fd);
}

static void shut_client(void)
{
	int fd = o_udp_connected(0, 0), u = socket(o_family, SOCK_DGRAM, 0);
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	char c;

	o_sync();
	o_hear();
	O("send", send(fd, "late", 4, 0));
	o_tell(1);
	O("shutdown of an unconnected one", shutdown(u, SHUT_RDWR));
	O("its bits stick", sendto(u, "x", 1, 0, (void *)&a, len));
	O("recv on it", recv(u, &c, 1, 0));
	o_events("poll on it", o_poll(u, POLLIN | POLLOUT | POLLRDHUP));
	O("shutdown with a bad direction", shutdown(fd, 3));
	o_sync();
	close(fd);
	close(u);
}
SCENARIO(udp_shutdown, "shutdown of connected and unconnected sockets", O_BOTH, shut_server, shut_client)

/* --- who gets it ---------------------------------------------------------------------------------- */

static int bound(enum o_who who, int port, int opt)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, who, o_port(port));
	int fd = socket(o_family, SOCK_DGRAM, 0), one = 1;

	if (opt)
		setsockopt(fd, SOL_SOCKET, opt, &one, sizeof(one));
	if (bind(fd, (void *)&a, len))
		o_fail("bind");
	return fd;
}

static void which(const char *label, const int *fds, int n)
{
	struct pollfd p[8];
	char buf[16], text[64] = "";
	int got;

	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
	poll(p, (nfds_t)n, 2000);
	usleep(20000);
	for (int i = 0; i < n; i++)
		for (got = 0; recv(fds[i], buf, sizeof(buf), MSG_DONTWAIT) >= 0; got++)
			sprintf(text + strlen(text), "%d ", i);
	o_say(label, "%s", text);
}

static void share_server(void)
{
	int fds[4], again;
	struct sockaddr_storage a;
	socklen_t len;

	fds[0] = bound(O_ANY, 0, SO_REUSEADDR);
	fds[1] = bound(O_SERVER, 0, SO_REUSEADDR);
	o_poll(fds[0], POLLIN);
	o_sync();
	which("to the address: of any and address", fds, 2);
	close(fds[1]);
	o_sync();
	which("after the specific one has gone", fds, 1);
	fds[1] = bound(O_ANY, 0, SO_REUSEADDR);
	o_sync();
	which("two of any: the younger", fds, 2);
	fds[2] = bound(O_LOOPBACK, 0, SO_REUSEADDR);
	o_poll(fds[2], POLLIN);
	o_sync();
	which("one on loopback does not matter", fds, 3);
	len = o_any_addr(&a, o_port(0));
	again = socket(o_family, SOCK_DGRAM, 0);
	O("a third without SO_REUSEADDR", bind(again, (void *)&a, len));
	close(again);
	len = o_client_addr(&a, o_port(0));
	connect(fds[0], (void *)&a, len);
	o_sync();
	which("the connected one goes first", fds, 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	o_sync();
}

static void share_client(void)
{
	int fd = o_udp_connected(0, 0);

	for (int i = 0; i < 5; i++) {
		o_sync();
		send_text(fd, "x");
	}
	o_sync();
	close(fd);
}
SCENARIO(udp_same_port, "several sockets on one port: who gets a datagram", O_BOTH, share_server,
	 share_client)

static void reuseport_server(void)
{
	int fds[4], sum = 0, n;
	char buf[16];

	for (int i = 0; i < 4; i++)
		fds[i] = bound(O_ANY, 0, SO_REUSEPORT);
	for (int i = 0; i < 4; i++)
		o_poll(fds[i], POLLIN);
	o_sync();
	for (int tries = 0; tries < 100 && sum < 64; tries++) {
		for (int i = 0; i < 4; i++)
			for (n = 0; recv(fds[i], buf, sizeof(buf), MSG_DONTWAIT) >= 0; n++)
				sum++;
		if (sum < 64)
			usleep(20000);
	}
	O("all of 64 flows", sum);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	o_sync();
}

static void reuseport_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd;

	o_sync();
	for (int i = 0; i < 64; i++) {
		fd = socket(o_family, SOCK_DGRAM, 0);
		sendto(fd, "x", 1, 0, (void *)&a, len);
		close(fd);
	}
	o_sync();
}
SCENARIO(udp_reuseport, "a group of SO_REUSEPORT gets each datagram once", O_BOTH, reuseport_server,
	 reuseport_client)

static void binding_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int x = socket(o_family, SOCK_DGRAM, 0), y = socket(o_family, SOCK_DGRAM, 0);

	O("bind", bind(x, (void *)&a, len));
	O("bind the same", bind(y, (void *)&a, len));
	len = o_any_addr(&a, o_port(0));
	O("bind any on top", bind(y, (void *)&a, len));
	len = o_loopback_addr(&a, o_port(0));
	O("bind another address", bind(y, (void *)&a, len));
	O("bind twice", bind(y, (void *)&a, len));
	len = o_absent_addr(&a, o_port(1));
	close(y);
	y = socket(o_family, SOCK_DGRAM, 0);
	O("bind an address that is not ours", bind(y, (void *)&a, len));
	O("bind too short", bind(y, (void *)&a, 3));
	len = o_any_addr(&a, 0);
	O("bind port 0", bind(y, (void *)&a, len));
	own_name("its name", y);
	O("listen", listen(y, 1));
	O("accept", accept(y, NULL, NULL));
	close(x);
	close(y);
	x = socket(o_family, SOCK_DGRAM, 0);
	O("free again after close", bind(x, (void *)&a, o_server_addr(&a, o_port(0))));
	close(x);
}
SCENARIO(udp_binding, "bind: conflicts and errors", O_BOTH, binding_server, NULL)

/* --- to ourselves ---------------------------------------------------------------------------------- */

static void self_server(void)
{
	enum o_who who[] = {O_LOOPBACK, O_SERVER, O_ANY};
	const char *names[] = {"loopback", "own address", "any"};
	int fd = bound(O_ANY, 0, 0);
	struct sockaddr_storage a;
	socklen_t len;
	char label[60], from[60];

	for (int i = 0; i < 3; i++) {
		len = o_addr_of(&a, o_family, who[i], o_port(0));
		snprintf(label, sizeof(label), "to %s", names[i]);
		O(label, sendto(fd, names[i], strlen(names[i]), 0, (void *)&a, len));
		snprintf(label, sizeof(label), "received at %s", names[i]);
		snprintf(from, sizeof(from), "from %s", names[i]);
		recv_from(label, from, fd);
	}
	close(fd);
	fd = o_udp(1);
	len = o_server_addr(&a, o_port(1));
	O("connect to itself", connect(fd, (void *)&a, len));
	O("send to itself", send(fd, "me", 2, 0));
	recv_from("from itself", "its address", fd);
	len = o_client_addr(&a, o_port(2));
	O("sendto elsewhere", sendto(fd, "you", 3, 0, (void *)&a, len));
	o_sync();
	o_sync();
	O("strangers are not heard", recv(fd, &len, 1, MSG_DONTWAIT));
	close(fd);
}

static void self_client(void)
{
	int fd = o_udp(2);
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(1));

	o_sync();
	O("a stranger's send", sendto(fd, "hi", 2, 0, (void *)&a, len));
	usleep(50000);
	o_sync();
	close(fd);
}
SCENARIO(udp_to_self, "loopback, the own address, 0.0.0.0 and ::", O_BOTH, self_server, self_client)

/* --- close with datagrams queued ------------------------------------------------------------------- */

static void queued_server(void)
{
	int fd = o_udp(0);
	char buf[8];

	o_poll(fd, POLLIN);
	o_sync();
	o_wait_bytes(fd, 3);
	O("close with datagrams queued", close(fd));
	fd = o_udp(0);
	O("the next owner of the port finds none", recv(fd, buf, sizeof(buf), MSG_DONTWAIT));
	o_sync();
	recv_from("but gets new ones", "new ones from", fd);
	close(fd);
	o_sync();
}

static void queued_client(void)
{
	int fd = o_udp_connected(0, 0);

	o_sync();
	send_text(fd, "old");
	o_sync();
	send_text(fd, "new");
	o_sync();
	close(fd);
}
SCENARIO(udp_close_queued, "close() with datagrams queued", O_BOTH, queued_server, queued_client)
