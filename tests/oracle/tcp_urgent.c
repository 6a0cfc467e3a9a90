/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_urgent.c - urgent data: the mark, MSG_OOB, SO_OOBINLINE, SIGURG */
#include "tcp_help.h"

#include <sys/select.h>

#ifndef SIOCATMARK
#define SIOCATMARK 0x8905
#endif

static void atmark(const char *label, int fd)
{
	int v = -1;

	errno = 0;
	if (ioctl(fd, SIOCATMARK, &v))
		o_errno(label, errno);
	else
		o_bool(label, v);
}

static void inq(const char *label, int fd)
{
	int v = -1;

	if (ioctl(fd, FIONREAD, &v))
		o_errno(label, errno);
	else
		o_say(label, "%d", v);
}

/* Sends "abc", urgent "def" (of which f is the urgent byte), "ghi". */
static void three_server(void)
{
	int fd = o_connected(0);

	O("send", send(fd, "abc", 3, 0));
	O("send urgent", send(fd, "def", 3, MSG_OOB));
	O("send more", send(fd, "ghi", 3, 0));
	o_sync();
	o_sync();
	close(fd);
}

static void stops_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_events("wait", o_wait(fd, POLLPRI));
	t_poll("poll", fd);
	atmark("at the mark", fd);
	inq("FIONREAD", fd);
	t_recv("peek", fd, 20, MSG_PEEK);
	t_recv("read stops at the mark", fd, 20, 0);
	atmark("at the mark then", fd);
	o_bool("sockatmark()", sockatmark(fd) == 1);
	t_poll("poll at the mark", fd);
	inq("FIONREAD at the mark", fd);
	t_recv("peek the byte", fd, 10, MSG_OOB | MSG_PEEK);
	t_recv("the byte", fd, 10, MSG_OOB);
	t_recv("the byte again", fd, 10, MSG_OOB);
	t_poll("poll after the byte", fd);
	atmark("at the mark still", fd);
	t_recv("peek the rest", fd, 20, MSG_PEEK);
	t_recv("the rest", fd, 20, 0);
	atmark("past the mark", fd);
	t_recv("no byte any more", fd, 1, MSG_OOB);
	t_recv("nothing more", fd, 1, MSG_DONTWAIT);
	o_sync();
	t_recv("EOF", fd, 1, 0);
	close(fd);
}
SCENARIO(stops, "reads stop at the mark, MSG_OOB gives the byte once", O_BOTH, three_server,
	 stops_client)

static void skip_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLPRI);
	t_recv("before", fd, 2, 0);
	t_recv("up to the mark", fd, 20, 0);
	t_recv("past it", fd, 2, 0);
	t_recv("byte is gone", fd, 1, MSG_OOB);
	t_poll("poll", fd);
	t_recv("last", fd, 20, 0);
	o_sync();
	close(fd);
}
SCENARIO(skip, "the urgent byte is dropped when read past", O_BOTH, three_server, skip_client)

static void early_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLPRI);
	t_recv("the byte first", fd, 1, MSG_OOB);
	t_recv("nothing asked", fd, 0, MSG_OOB);
	t_recv("then", fd, 20, 0);
	t_recv("rest", fd, 20, 0);
	o_sync();
	close(fd);
}
SCENARIO(early, "MSG_OOB before the data in front of it", O_BOTH, three_server, early_client)

static void inline_client(void)
{
	int fd = o_connected(0);

	t_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	o_sync();
	o_wait(fd, POLLPRI);
	inq("FIONREAD", fd);
	t_recv("MSG_OOB", fd, 1, MSG_OOB);
	t_recv("up to the mark", fd, 20, 0);
	atmark("at the mark", fd);
	t_poll("poll at the mark", fd);
	t_recv("with the byte", fd, 20, 0);
	atmark("past the mark", fd);
	t_poll("poll", fd);
	o_sync();
	close(fd);
}
SCENARIO(in_line, "SO_OOBINLINE", O_BOTH, three_server, inline_client)

static void waitall_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLPRI);
	t_recv("MSG_WAITALL stops, too", fd, 8, MSG_WAITALL);
	t_recv("MSG_WAITALL then", fd, 3, MSG_WAITALL);
	o_sync();
	close(fd);
}
SCENARIO(waitall, "MSG_WAITALL ends at the mark", O_BOTH, three_server, waitall_client)

static void none_server(void)
{
	int fd = o_connected(0);

	o_sync();
	close(fd);
}

static void none_client(void)
{
	int fd = o_connected(0), raw = t_socket();

	t_recv("MSG_OOB without", fd, 1, MSG_OOB);
	t_recv("MSG_OOB unconnected", raw, 1, MSG_OOB);
	atmark("unconnected", raw);
	o_bool("sockatmark() unconnected", sockatmark(raw) == 0);
	atmark("connected", fd);
	t_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	t_recv("MSG_OOB in line", fd, 1, MSG_OOB);
	o_sync();
	o_wait(fd, POLLRDHUP);
	t_recv("MSG_OOB at EOF", fd, 1, MSG_OOB);
	close(fd);
	close(raw);
}
SCENARIO(none, "MSG_OOB when there is none", O_BOTH, none_server, none_client)

/* One urgent byte and nothing else. */
static void only_server(void)
{
	int fd = o_connected(0);

	O("send urgent", send(fd, "!", 1, MSG_OOB));
	o_sync();
	o_sync();
	O("send after", send(fd, "xyz", 3, 0));
	o_sync();
	close(fd);
}

static void only_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_events("wait", o_wait(fd, POLLPRI));
	t_poll("poll", fd);
	inq("FIONREAD", fd);
	t_recv("recv", fd, 10, MSG_DONTWAIT);
	t_poll("poll after recv", fd);
	t_recv("the byte", fd, 10, MSG_OOB);
	t_recv("recv then", fd, 10, MSG_DONTWAIT);
	t_poll("poll after the byte", fd);
	o_sync();
	o_wait(fd, POLLIN);
	t_recv("after", fd, 10, 0);
	o_sync();
	close(fd);
}
SCENARIO(only, "an urgent byte with no data", O_BOTH, only_server, only_client)

/* Two urgent bytes, with steps between them. */
static void two_server(void)
{
	int fd = o_connected(0);

	O("send first", send(fd, "ab1", 3, MSG_OOB));
	o_sync();
	o_sync();
	O("send second", send(fd, "cd2", 3, MSG_OOB));
	o_sync();
	o_sync();
	O("send third", send(fd, "ef3", 3, MSG_OOB));
	o_sync();
	o_sync();
	O("send end", send(fd, "end", 3, 0));
	o_sync();
	close(fd);
}

static void two_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_wait(fd, POLLPRI);
	t_recv("first byte", fd, 1, MSG_OOB);
	o_sync(); /* the first mark is not passed: its byte becomes data */
	o_sync();
	o_events("wait second", o_wait(fd, POLLPRI));
	t_recv("data to the second", fd, 20, 0);
	atmark("at the second", fd);
	o_sync(); /* the reader stands at the mark when the next one comes */
	o_sync();
	o_wait_bytes(fd, 2);
	t_recv("third byte", fd, 1, MSG_OOB);
	t_recv("data to the third", fd, 20, 0);
	atmark("at the third", fd);
	o_sync();
	o_sync();
	o_wait(fd, POLLIN);
	t_recv("the end", fd, 20, 0);
	close(fd);
}
SCENARIO(two, "a newer mark replaces an older one", O_BOTH, two_server, two_client)

static bool all_acknowledged(void *arg)
{
	int left = -1;

	return !ioctl(*(int *)arg, TIOCOUTQ, &left) && !left;
}

/* One urgent byte after the other while the reader stands at the mark: it leaves out all but the last. */
static void marks_server(void)
{
	int fd = o_connected(0);

	for (int i = 0; i < 3; i++) {
		O(i == 0 ? "send first" : i == 1 ? "send second" : "send third",
		  send(fd, "123" + i, 1, MSG_OOB));
		o_until(all_acknowledged, &fd);
		o_sync();
		o_sync();
	}
	o_reset_close(fd);
	o_sync();
}

static void marks_client(void)
{
	int fd = o_connected(0);

	for (int i = 0; i < 3; i++) {
		o_sync();
		o_wait(fd, POLLPRI);
		t_recv(i == 0 ? "peek first" : i == 1 ? "peek second" : "peek third", fd, 1,
		       MSG_OOB | MSG_PEEK);
		inq(i == 0 ? "FIONREAD" : i == 1 ? "FIONREAD second" : "FIONREAD third", fd);
		atmark(i == 0 ? "at first" : i == 1 ? "at second" : "at third", fd);
		if (i == 1) {
			/* what was left out stays so, though all is to be in line now */
			t_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
			t_recv("in line", fd, 10, MSG_PEEK);
			t_set(fd, SOL_SOCKET, SO_OOBINLINE, 0);
		}
		o_sync();
	}
	t_recv("nothing asked", fd, 0, 0);
	atmark("at third still", fd);
	o_sync();
	o_wait(fd, POLLHUP);
	t_poll("poll after the reset", fd);
	t_recv("the byte after the reset", fd, 1, MSG_OOB);
	t_poll("poll then", fd);
	close(fd);
}
SCENARIO(marks, "marks one after the other, and a reset", O_BOTH, marks_server, marks_client)

static void inherit_server(void)
{
	int l = o_listener(0), fd;

	t_set(l, SOL_SOCKET, SO_OOBINLINE, 1);
	o_sync();
	fd = accept(l, NULL, NULL);
	o_say("SO_OOBINLINE", "%d", t_get(fd, SOL_SOCKET, SO_OOBINLINE));
	o_sync();
	o_wait(fd, POLLPRI);
	t_recv("MSG_OOB", fd, 1, MSG_OOB);
	t_recv("data", fd, 2, 0);
	t_recv("in line", fd, 10, 0);
	close(fd);
	close(l);
}

static void inherit_client(void)
{
	int fd = t_socket();

	o_sync();
	t_connect_server(fd, 0);
	O("send", send(fd, "ab!", 3, MSG_OOB));
	o_sync();
	close(fd);
}
SCENARIO(inherit, "SO_OOBINLINE of a listener", O_BOTH, inherit_server, inherit_client)

static void message_client(void)
{
	char buf[20], ctl[64];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	int fd = o_connected(0);
	ssize_t r;

	o_sync();
	o_wait(fd, POLLPRI);
	r = O("recvmsg MSG_OOB", recvmsg(fd, &m, MSG_OOB));
	o_bytes("byte", buf, r > 0 ? (size_t)r : 0);
	o_say("flags", "%#x", (unsigned)m.msg_flags);
	m.msg_flags = 0;
	r = O("recvmsg", recvmsg(fd, &m, 0));
	o_bytes("bytes", buf, r > 0 ? (size_t)r : 0);
	o_say("flags then", "%#x", (unsigned)m.msg_flags);
	O("readv", readv(fd, &iov, 1));
	o_sync();
	close(fd);
}
SCENARIO(message, "recvmsg() and urgent data", O_BOTH, three_server, message_client)

static void select_client(void)
{
	int fd = o_connected(0), ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLPRI }, got = { 0 };
	struct timeval tv = { 5, 0 };
	fd_set r, e;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	o_sync();
	O("epoll_wait", epoll_wait(ep, &got, 1, 5000));
	o_events("epoll says", got.events);
	FD_ZERO(&e);
	FD_SET(fd, &e);
	O("select exceptional", select(fd + 1, NULL, NULL, &e, &tv));
	o_bool("in exceptfds", FD_ISSET(fd, &e));
	t_recv("the byte", fd, 1, MSG_OOB);
	FD_ZERO(&r);
	FD_ZERO(&e);
	FD_SET(fd, &r);
	FD_SET(fd, &e);
	O("select both", select(fd + 1, &r, NULL, &e, &(struct timeval){ 0, 0 }));
	o_bool("in readfds", FD_ISSET(fd, &r));
	o_bool("in exceptfds then", FD_ISSET(fd, &e));
	O("epoll_wait then", epoll_wait(ep, &got, 1, 0));
	o_sync();
	close(ep);
	close(fd);
}
SCENARIO(waits, "EPOLLPRI and exceptfds", O_BOTH, three_server, select_client)

static volatile sig_atomic_t urgs;

static void on_urg(int sig)
{
	urgs += sig == SIGURG;
}

static bool urg_came(void *arg)
{
	(void)arg;
	return urgs;
}

static void sigurg_server(void)
{
	int fd = o_connected(0);

	o_sync(); /* there is an owner */
	O("send urgent", send(fd, "ab!", 3, MSG_OOB));
	o_sync();
	close(fd);
}

static void sigurg_child(void *arg)
{
	int fd = *(int *)arg;
	struct sigaction sa = { .sa_handler = on_urg, .sa_flags = SA_RESTART };

	sigaction(SIGURG, &sa, NULL);
	O("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	o_bool("F_GETOWN", fcntl(fd, F_GETOWN) == getpid());
	o_sync();
	o_bool("SIGURG", o_until(urg_came, NULL));
	o_wait(fd, POLLPRI);
	t_recv("the byte", fd, 1, MSG_OOB);
}

static void sigurg_client(void)
{
	int fd = o_connected(0);

	o_fork("child", sigurg_child, &fd);
	o_sync();
	close(fd);
}
SCENARIO(sigurg_child, "SIGURG with the owner in a forked child", O_BOTH, sigurg_server, sigurg_client)

static void sigurg_own_client(void)
{
	struct sigaction sa = { .sa_handler = on_urg, .sa_flags = SA_RESTART }, old;
	int fd = o_connected(0);

	urgs = 0;
	sigaction(SIGURG, &sa, &old);
	O("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	o_sync();
	o_bool("SIGURG", o_until(urg_came, NULL));
	o_wait(fd, POLLPRI);
	t_recv("the byte", fd, 1, MSG_OOB);
	o_sync();
	close(fd);
	sigaction(SIGURG, &old, NULL);
}
SCENARIO(sigurg, "SIGURG for the owner", O_BOTH, sigurg_server, sigurg_own_client)

static void big_server(void)
{
	static char buf[40000];
	int fd = o_connected(0);

	memset(buf, 'a', sizeof(buf));
	buf[sizeof(buf) - 1] = '!';
	o_bool("send much urgent", send(fd, buf, sizeof(buf), MSG_OOB) == (ssize_t)sizeof(buf));
	o_sync();
	close(fd);
}

static void big_client(void)
{
	static char buf[40000];
	int fd = o_connected(0);
	size_t got = 0;
	ssize_t r;

	while (got < sizeof(buf) - 1 && (r = recv(fd, buf, sizeof(buf) - got, 0)) > 0)
		got += (size_t)r;
	o_say("bytes before the mark", "%zu", got);
	o_wait(fd, POLLPRI);
	t_recv("the byte", fd, 1, MSG_OOB);
	o_sync();
	t_recv("EOF", fd, 1, 0);
	close(fd);
}
SCENARIO(big, "the mark far behind the data in front", O_BOTH, big_server, big_client)
