/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_data.c - sending and receiving: flags, vectors, files and pipes, odd arguments */
#include "tcp_help.h"

#include <limits.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

/* Sends back what comes, until EOF. */
static void echo_server(void)
{
	int fd = o_connected(0);
	char buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		o_send_all(fd, buf, (size_t)n);
	close(fd);
}

/* --- flags --------------------------------------------------------------------------------------- */

static void flags_client(void)
{
	static const struct {
		const char *name;
		int flag;
	} send_flags[] = {
		{ "MSG_DONTROUTE", MSG_DONTROUTE }, { "MSG_EOR", MSG_EOR }, { "MSG_CONFIRM", MSG_CONFIRM },
		{ "MSG_MORE", MSG_MORE }, { "MSG_PROXY", MSG_PROXY }, { "MSG_SYN", MSG_SYN },
		{ "MSG_FIN", MSG_FIN }, { "MSG_RST", MSG_RST }, { "MSG_ERRQUEUE", MSG_ERRQUEUE },
		{ "MSG_TRUNC", MSG_TRUNC }, { "MSG_PEEK", MSG_PEEK }, { "MSG_WAITALL", MSG_WAITALL },
		{ "MSG_ZEROCOPY", MSG_ZEROCOPY }, { "MSG_FASTOPEN", MSG_FASTOPEN },
		{ "0x01000000", 0x01000000 }, { "MSG_CMSG_CLOEXEC", MSG_CMSG_CLOEXEC },
	};
	int fd = o_connected(0);
	char label[64];

	for (size_t i = 0; i < sizeof(send_flags) / sizeof(send_flags[0]); i++) {
		snprintf(label, sizeof(label), "send %s", send_flags[i].name);
		if (O(label, send(fd, "x", 1, send_flags[i].flag | MSG_NOSIGNAL)) != 1)
			continue;
		if (send_flags[i].flag == MSG_MORE)
			o_send_all(fd, "y", 1); /* pushes */
		o_wait_bytes(fd, send_flags[i].flag == MSG_MORE ? 2 : 1);
		snprintf(label, sizeof(label), "answer to %s", send_flags[i].name);
		t_recv(label, fd, 10, 0);
	}
	for (size_t i = 0; i < sizeof(send_flags) / sizeof(send_flags[0]); i++) {
		if (send_flags[i].flag == MSG_WAITALL || send_flags[i].flag == MSG_PEEK)
			continue;
		o_send_all(fd, "z", 1);
		o_wait_bytes(fd, 1);
		snprintf(label, sizeof(label), "recv %s", send_flags[i].name);
		if (send_flags[i].flag == MSG_TRUNC)
			O(label, recv(fd, NULL, 1, MSG_TRUNC));
		else
			t_recv(label, fd, 1, send_flags[i].flag);
		while (recv(fd, label, 1, MSG_DONTWAIT) > 0)
			;
	}
	close(fd);
}
SCENARIO(flags, "flags of send() and recv()", O_BOTH, echo_server, flags_client)

static void peek_client(void)
{
	int fd = o_connected(0);

	o_send_all(fd, "abcdef", 6);
	o_wait_bytes(fd, 6);
	t_recv("peek 3", fd, 3, MSG_PEEK);
	t_recv("peek 3 again", fd, 3, MSG_PEEK);
	t_recv("peek more than there is", fd, 20, MSG_PEEK);
	t_recv("peek all of 6", fd, 6, MSG_PEEK | MSG_WAITALL);
	O("drop 2", recv(fd, NULL, 2, MSG_TRUNC));
	O("peek and drop", recv(fd, NULL, 3, MSG_TRUNC | MSG_PEEK));
	t_recv("nothing asked", fd, 0, 0);
	t_recv("the rest", fd, 20, 0);
	t_recv("nothing asked, nothing there", fd, 0, MSG_DONTWAIT);
	t_recv("MSG_ERRQUEUE", fd, 1, MSG_ERRQUEUE);
	O("send nothing", send(fd, "", 0, 0));
	O("write nothing", write(fd, "", 0));
	close(fd);
}
SCENARIO(peek, "MSG_PEEK, MSG_TRUNC, empty calls", O_BOTH, echo_server, peek_client)

/* --- names, control data --------------------------------------------------------------------------- */

static void message_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_absent_addr(&a, 1);
	union {
		struct cmsghdr h;
		char room[64];
	} ctl = { { .cmsg_len = CMSG_LEN(4), .cmsg_level = SOL_SOCKET, .cmsg_type = 0x7777 } };
	char b1[3], b2[10];
	struct iovec out[3] = { { "ab", 2 }, { NULL, 0 }, { "cde", 3 } }, in[2] = { { b1, 3 }, { b2, 10 } };
	struct msghdr m = { .msg_name = &a, .msg_namelen = len, .msg_iov = out, .msg_iovlen = 3 };
	int fd = o_connected(0);
	ssize_t r;

	O("sendto with a name", sendto(fd, "x", 1, 0, (struct sockaddr *)&a, len));
	O("sendto with a bad length", sendto(fd, "x", 1, 0, (struct sockaddr *)&a, 1));
	O("sendto with a huge length", sendto(fd, "x", 1, 0, (struct sockaddr *)&a, 1000));
	O("sendmsg with a name", sendmsg(fd, &m, 0));
	m.msg_name = NULL;
	m.msg_control = &ctl;
	m.msg_controllen = CMSG_LEN(4);
	O("unknown control message", sendmsg(fd, &m, MSG_NOSIGNAL));
	ctl.h.cmsg_len = 3;
	O("short control message", sendmsg(fd, &m, MSG_NOSIGNAL));
	ctl.h.cmsg_len = CMSG_LEN(4);
	ctl.h.cmsg_level = IPPROTO_IP;
	O("control message of another level", sendmsg(fd, &m, MSG_NOSIGNAL));
	m.msg_control = NULL;
	m.msg_controllen = 0;
	o_recv_all(fd, b2, 2);
	poll(NULL, 0, 50);
	o_wait_bytes(fd, 10);
	m = (struct msghdr){ .msg_name = &a, .msg_namelen = sizeof(a), .msg_iov = in, .msg_iovlen = 2,
			     .msg_control = &ctl, .msg_controllen = sizeof(ctl), .msg_flags = 77 };
	r = O("recvmsg", recvmsg(fd, &m, 0));
	o_bytes("first buffer", b1, 3);
	o_bytes("second buffer", b2, r > 3 ? (size_t)r - 3 : 0);
	o_say("name length", "%u", (unsigned)m.msg_namelen);
	o_say("control length", "%zu", (size_t)m.msg_controllen);
	o_say("flags", "%#x", (unsigned)m.msg_flags);
	o_send_all(fd, "q", 1);
	len = sizeof(a);
	O("recvfrom", recvfrom(fd, b2, 1, 0, (struct sockaddr *)&a, &len));
	o_say("recvfrom's length", "%u", (unsigned)len);
	o_send_all(fd, "q", 1);
	m = (struct msghdr){ .msg_namelen = 55, .msg_iov = in, .msg_iovlen = 1 };
	O("recvmsg without a name", recvmsg(fd, &m, MSG_CMSG_CLOEXEC));
	o_say("name length kept", "%u", (unsigned)m.msg_namelen);
	o_say("flags with MSG_CMSG_CLOEXEC", "%#x", (unsigned)m.msg_flags);
	close(fd);
}
SCENARIO(message, "sendmsg() and recvmsg(): names and control data", O_BOTH, echo_server, message_client)

/* --- vectors ------------------------------------------------------------------------------------------- */

static void vectors_client(void)
{
	static struct iovec many[IOV_MAX + 1];
	struct iovec bad[2] = { { "x", 1 }, { "y", (size_t)-1 } };
	struct msghdr m = { .msg_iov = many, .msg_iovlen = IOV_MAX };
	struct mmsghdr mm[2] = { { { .msg_iov = many, .msg_iovlen = 1 }, 0 },
				 { { .msg_iov = many, .msg_iovlen = 2 }, 0 } };
	volatile int negative = -1; /* the compiler would warn */
	char buf[IOV_MAX + 1];
	int fd = o_connected(0);

	for (int i = 0; i <= IOV_MAX; i++)
		many[i] = (struct iovec){ &buf[i], 1 };
	memset(buf, 'v', sizeof(buf));
	O("writev, most", writev(fd, many, IOV_MAX));
	o_wait_bytes(fd, IOV_MAX);
	O("readv, most", readv(fd, many, IOV_MAX));
	O("writev, too many", writev(fd, many, IOV_MAX + 1));
	O("readv, too many", readv(fd, many, IOV_MAX + 1));
	O("writev, negative", writev(fd, many, negative));
	O("writev, none", writev(fd, many, 0));
	O("writev, negative length", writev(fd, bad, 2));
	O("readv, negative length", readv(fd, bad, 2));
	m.msg_iovlen = IOV_MAX + 1;
	O("sendmsg, too many", sendmsg(fd, &m, MSG_NOSIGNAL));
	O("recvmsg, too many", recvmsg(fd, &m, MSG_DONTWAIT));
	m.msg_iov = bad;
	m.msg_iovlen = 2;
	O("sendmsg, negative length", sendmsg(fd, &m, MSG_NOSIGNAL));
	m.msg_iovlen = 0;
	O("sendmsg, none", sendmsg(fd, &m, MSG_NOSIGNAL));
	O("recvmsg, none, nothing there", recvmsg(fd, &m, MSG_DONTWAIT));
	O("sendmmsg", sendmmsg(fd, mm, 2, 0));
	o_say("lengths", "%u %u", mm[0].msg_len, mm[1].msg_len);
	o_wait_bytes(fd, 3);
	mm[0].msg_len = mm[1].msg_len = 0;
	O("recvmmsg", recvmmsg(fd, mm, 2, MSG_DONTWAIT, NULL));
	o_say("lengths received", "%u %u", mm[0].msg_len, mm[1].msg_len);
	O("recvmmsg, nothing there", recvmmsg(fd, mm, 2, MSG_DONTWAIT, NULL));
	O("recvmmsg, bad time", recvmmsg(fd, mm, 2, 0, &(struct timespec){ 0, -1 }));
	O("sendmmsg, none", sendmmsg(fd, mm, 0, 0));
	close(fd);
}
SCENARIO(vectors, "readv(), writev(), sendmmsg(), recvmmsg() and their bounds", O_BOTH, echo_server,
	 vectors_client)

/* --- non-blocking --------------------------------------------------------------------------------------- */

static void full_server(void)
{
	int fd = o_connected(0);
	static char buf[65536];
	size_t sum = 0;
	ssize_t n;

	o_sync();
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		sum += (size_t)n;
	o_tell((long)sum);
	close(fd);
}

static void full_client(void)
{
	int fd = o_connected(0);
	static char buf[65536];
	size_t sum = 0;
	ssize_t n;

	o_nonblock(fd, true);
	do {
		while ((n = send(fd, buf, sizeof(buf), 0)) > 0)
			sum += (size_t)n;
	} while (poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, 200) > 0);
	o_ret("full", n);
	t_poll("poll full", fd);
	o_sync();
	o_events("poll with space", o_wait(fd, POLLOUT));
	n = send(fd, "x", 1, 0);
	sum += n > 0 ? (size_t)n : 0;
	shutdown(fd, SHUT_WR);
	o_bool("all arrived", o_hear() == (long)sum);
	close(fd);
}
SCENARIO(full, "a full send buffer, and all of it arrives", O_BOTH, full_server, full_client)

/* --- files and pipes --------------------------------------------------------------------------------------- */

static void file_client(void)
{
	int fd = o_connected(0), f = memfd_create("oracle", 0), p[2], q[2];
	off_t off = 2, past = 100;
	char buf[16];

	if (f < 0 || write(f, "0123456789", 10) != 10 || pipe(p) || pipe(q))
		o_fail("file");
	lseek(f, 0, SEEK_SET);
	O("sendfile with offset", sendfile(fd, f, &off, 3));
	o_say("offset", "%ld", (long)off);
	o_say("position is kept", "%ld", (long)lseek(f, 0, SEEK_CUR));
	O("sendfile without", sendfile(fd, f, NULL, 4));
	o_say("position", "%ld", (long)lseek(f, 0, SEEK_CUR));
	O("sendfile to the end", sendfile(fd, f, NULL, 100));
	O("sendfile at the end", sendfile(fd, f, NULL, 100));
	O("sendfile past the end", sendfile(fd, f, &past, 100));
	O("sendfile of nothing", sendfile(fd, f, NULL, 0));
	O("sendfile, negative offset", sendfile(fd, f, &(off_t){ -1 }, 1));
	O("sendfile from a bad descriptor", sendfile(fd, -1, NULL, 1));
	o_bytes("came back", buf, (size_t)o_recv_all(fd, buf, 13));
	o_bool("pipe", write(p[1], "pipe!", 5) == 5);
	O("splice to the socket", splice(p[0], NULL, fd, NULL, 5, 0));
	O("splice from an empty pipe", splice(p[0], NULL, fd, NULL, 5, SPLICE_F_NONBLOCK));
	o_wait_bytes(fd, 5);
	O("splice from the socket", splice(fd, NULL, q[1], NULL, 3, 0));
	O("splice the rest", splice(fd, NULL, q[1], NULL, 100, SPLICE_F_NONBLOCK));
	o_nonblock(fd, true); /* SPLICE_F_NONBLOCK is about the pipe only */
	O("splice nothing there", splice(fd, NULL, q[1], NULL, 100, 0));
	o_nonblock(fd, false);
	O("read the pipe", read(q[0], buf, sizeof(buf)));
	o_bytes("through pipes", buf, 5);
	O("splice with an offset", splice(fd, &(off64_t){ 0 }, q[1], NULL, 1, 0));
	O("splice to an offset", splice(p[0], NULL, fd, &(off64_t){ 0 }, 1, 0));
	O("splice of nothing", splice(p[0], NULL, fd, NULL, 0, 0));
	O("splice, bad flags", splice(p[0], NULL, fd, NULL, 1, 0x100));
	O("splice without a pipe", splice(f, NULL, fd, NULL, 1, 0));
	close(p[1]);
	O("splice from a closed pipe", splice(p[0], NULL, fd, NULL, 5, 0));
	O("lseek", lseek(fd, 0, SEEK_CUR));
	O("pread", pread(fd, buf, 1, 0));
	O("pwrite", pwrite(fd, buf, 1, 0));
	shutdown(fd, SHUT_WR);
	O("sendfile after shutdown", (signal(SIGPIPE, SIG_IGN), sendfile(fd, f, &(off_t){ 0 }, 1)));
	signal(SIGPIPE, SIG_DFL);
	o_wait(fd, POLLRDHUP);
	O("splice EOF", splice(fd, NULL, q[1], NULL, 5, 0));
	close(p[0]);
	close(q[0]);
	close(q[1]);
	close(f);
	close(fd);
}
SCENARIO(files, "sendfile() and splice()", O_BOTH, echo_server, file_client)

/* --- TCP_CORK ------------------------------------------------------------------------------------ */

#define CORKED_NS 100000000u /* Linux holds back for 200 ms at most */

static int unsent(int fd)
{
	int n = -1;

	ioctl(fd, SIOCOUTQNSD, &n);
	return n;
}

static void cork(int fd, int on)
{
	setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

/* As a web server sends: a head, a file, and what is left at the end. Bytes that were held back; -1: the
 * answer to them came too late. */
static int corked_answer(int fd, int file)
{
	uint64_t began = o_now();
	char buf[5];
	int held;

	cork(fd, 1);
	o_send_all(fd, "ab", 2);
	sendfile(fd, file, &(off_t){ 0 }, 3);
	held = unsent(fd);
	cork(fd, 0);
	o_recv_all(fd, buf, sizeof(buf));
	return o_now() - began > CORKED_NS ? -1 : held;
}

static void cork_client(void)
{
	int fd = o_connected(0), f = memfd_create("oracle", 0), held = -1, on = 0;
	socklen_t len = sizeof(on);
	char label[64], buf[2];

	if (f < 0 || write(f, "0123456789", 10) != 10)
		o_fail("file");
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 20 && held < 0; i++) /* the machine may be slow, but not always */
			held = corked_answer(fd, f);
		snprintf(label, sizeof(label), "held back and sent, %d", round);
		o_say(label, "%d", held);
		held = -1;
	}
	cork(fd, 1);
	O("TCP_CORK", getsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, &len));
	o_say("value", "%d", on);
	o_send_all(fd, "cd", 2);
	shutdown(fd, SHUT_WR); /* this, too, sends all */
	o_say("answer", "%zd", o_recv_all(fd, buf, sizeof(buf)));
	close(f);
	close(fd);
}
SCENARIO(cork, "TCP_CORK holds back until it is cleared", O_BOTH, echo_server, cork_client)

/* --- without a connection ------------------------------------------------------------------------------------ */

static void unconnected_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_absent_addr(&a, 9);
	int fd = t_socket();

	t_recv("recv", fd, 1, 0);
	t_recv("recv nothing", fd, 0, 0);
	t_recv("MSG_ERRQUEUE", fd, 1, MSG_ERRQUEUE);
	O("send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("send nothing", send(fd, "", 0, MSG_NOSIGNAL));
	O("sendto", sendto(fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&a, len));
	O("read", read(fd, &a, 1));
	O("SIOCINQ", ioctl(fd, FIONREAD, &(int){ 0 }));
	close(fd);
}
SCENARIO(unconnected, "data calls of an unconnected socket", O_BOTH, NULL, unconnected_client)
