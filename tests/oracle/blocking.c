/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/blocking.c - every call that waits, in every way that it can end without success
 *
 * One list of calls, and for each the same questions: what ends it when the socket is non-blocking,
 * has a time-out, a signal comes (with SA_RESTART, without, with a time-out), the thread is
 * cancelled. The call is made by a thread of its own; the main thread sends the signal when that
 * one sleeps. The address family plays no part in this: IPv4 stands for both.
 */
#include "tests/oracle/events.h"
#include "tests/oracle/tcp_help.h"
#include "tests/oracle/task.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);

static int spare[2]; /* a pipe, empty for who reads the socket, with data for who writes to it */
static int file;     /* with some data */
static int set;      /* an epoll set with the socket in it */
static char bytes[4096];
static const struct timespec forever = { 60, 0 };

struct one {
	struct iovec iov;
	struct mmsghdr m;
};

static struct mmsghdr *message(struct one *o, size_t n)
{
	o->iov = (struct iovec){ bytes, n };
	o->m = (struct mmsghdr){ .msg_hdr = { .msg_iov = &o->iov, .msg_iovlen = 1 } };
	return &o->m;
}

/* --- the calls: each waits for input, or for room to write ------------------------------------------- */

static long by_read(int fd)
{
	return read(fd, bytes, 10);
}

static long by_readv(int fd)
{
	return readv(fd, &(struct iovec){ bytes, 10 }, 1);
}

static long by_preadv2(int fd)
{
	return preadv2(fd, &(struct iovec){ bytes, 10 }, 1, -1, 0);
}

static long by_recv(int fd)
{
	return recv(fd, bytes, 10, 0);
}

static long by_recv_waitall(int fd)
{
	return recv(fd, bytes, 10, MSG_WAITALL);
}

static long by_recv_peek(int fd)
{
	return recv(fd, bytes, 10, MSG_PEEK);
}

static long by_recv_trunc(int fd)
{
	return recv(fd, bytes, 10, MSG_TRUNC);
}

static long by_recv_chk(int fd)
{
	return __recv_chk(fd, bytes, 10, sizeof(bytes), 0);
}

static long by_recvfrom(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return recvfrom(fd, bytes, 10, 0, (struct sockaddr *)&a, &len);
}

static long by_recvmsg(int fd)
{
	struct one o;

	return recvmsg(fd, &message(&o, 10)->msg_hdr, 0);
}

static long by_recvmmsg(int fd)
{
	struct one o;

	return recvmmsg(fd, message(&o, 10), 1, 0, NULL);
}

static long by_recvmmsg_timeout(int fd)
{
	struct timespec t = forever;
	struct one o;

	return recvmmsg(fd, message(&o, 10), 1, MSG_WAITFORONE, &t);
}

static long by_splice_in(int fd)
{
	return splice(fd, NULL, spare[1], NULL, 10, 0);
}

static long by_number_read(int fd)
{
	return syscall(SYS_read, fd, bytes, 10);
}

static long by_number_recvfrom(int fd)
{
	return syscall(SYS_recvfrom, fd, bytes, 10, 0, NULL, NULL);
}

static long by_write(int fd)
{
	return write(fd, bytes, 10);
}

static long by_writev(int fd)
{
	return writev(fd, &(struct iovec){ bytes, 10 }, 1);
}

static long by_pwritev2(int fd)
{
	return pwritev2(fd, &(struct iovec){ bytes, 10 }, 1, -1, 0);
}

static long by_send(int fd)
{
	return send(fd, bytes, 10, 0);
}

static long by_send_oob(int fd)
{
	return send(fd, bytes, 1, MSG_OOB);
}

static long by_sendto(int fd)
{
	return sendto(fd, bytes, 10, MSG_NOSIGNAL, NULL, 0);
}

static long by_sendmsg(int fd)
{
	struct one o;

	return sendmsg(fd, &message(&o, 10)->msg_hdr, 0);
}

static long by_sendmmsg(int fd)
{
	struct one o;

	return sendmmsg(fd, message(&o, 10), 1, 0);
}

static long by_sendfile(int fd)
{
	off_t at = 0;

	return sendfile(fd, file, &at, 10);
}

static long by_splice_out(int fd)
{
	return splice(spare[0], NULL, fd, NULL, 10, 0);
}

static long by_number_write(int fd)
{
	return syscall(SYS_write, fd, bytes, 10);
}

static long by_number_sendto(int fd)
{
	return syscall(SYS_sendto, fd, bytes, 10, 0, NULL, 0);
}

static long by_accept(int fd)
{
	return accept(fd, NULL, NULL);
}

static long by_accept4(int fd)
{
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC);
}

static long by_number_accept4(int fd)
{
	return syscall(SYS_accept4, fd, NULL, NULL, 0);
}

static long by_poll(int fd)
{
	return poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 60000);
}

static long by_poll_chk(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return __poll_chk(&p, 1, -1, sizeof(p));
}

static long by_ppoll(int fd)
{
	return ppoll(&(struct pollfd){ fd, POLLIN, 0 }, 1, &forever, NULL);
}

static long by_select(int fd)
{
	struct timeval tv = { 60, 0 };
	fd_set r;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	return select(fd + 1, &r, NULL, NULL, &tv);
}

static long by_pselect(int fd)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	return pselect(fd + 1, &r, NULL, NULL, &forever, NULL);
}

static long by_epoll_wait(int fd)
{
	(void)fd;
	return epoll_wait(set, &(struct epoll_event){ 0 }, 1, 60000);
}

static long by_epoll_pwait(int fd)
{
	(void)fd;
	return epoll_pwait(set, &(struct epoll_event){ 0 }, 1, -1, NULL);
}

static long by_epoll_pwait2(int fd)
{
	(void)fd;
	return epoll_pwait2(set, &(struct epoll_event){ 0 }, 1, &forever, NULL);
}

struct call {
	const char *name;
	long (*fn)(int fd);
};
static const struct call stream_readers[] = {
	{ "read", by_read }, { "readv", by_readv }, { "preadv2", by_preadv2 }, { "recv", by_recv },
	{ "MSG_WAITALL", by_recv_waitall }, { "MSG_PEEK", by_recv_peek },
	{ "MSG_TRUNC", by_recv_trunc }, { "__recv_chk", by_recv_chk }, { "recvfrom", by_recvfrom },
	{ "recvmsg", by_recvmsg }, { "recvmmsg", by_recvmmsg },
	{ "recvmmsg with a time", by_recvmmsg_timeout }, { "splice", by_splice_in },
	{ "SYS_read", by_number_read }, { "SYS_recvfrom", by_number_recvfrom }, { NULL, NULL }
};
static const struct call datagram_readers[] = {
	{ "read", by_read }, { "readv", by_readv }, { "recv", by_recv },
	{ "MSG_PEEK", by_recv_peek }, { "recvfrom", by_recvfrom }, { "recvmsg", by_recvmsg },
	{ "recvmmsg", by_recvmmsg }, { "recvmmsg with a time", by_recvmmsg_timeout },
	{ "SYS_recvfrom", by_number_recvfrom }, { NULL, NULL }
};
static const struct call writers[] = {
	{ "write", by_write }, { "writev", by_writev }, { "pwritev2", by_pwritev2 },
	{ "send", by_send }, { "MSG_OOB", by_send_oob }, { "sendto", by_sendto },
	{ "sendmsg", by_sendmsg }, { "sendmmsg", by_sendmmsg }, { "sendfile", by_sendfile },
	{ "splice", by_splice_out }, { "SYS_write", by_number_write },
	{ "SYS_sendto", by_number_sendto }, { NULL, NULL }
};
static const struct call acceptors[] = {
	{ "accept", by_accept }, { "accept4", by_accept4 }, { "SYS_accept4", by_number_accept4 },
	{ NULL, NULL }
};
static const struct call waits[] = {
	{ "poll", by_poll }, { "__poll_chk", by_poll_chk }, { "ppoll", by_ppoll },
	{ "select", by_select }, { "pselect", by_pselect }, { "epoll_wait", by_epoll_wait },
	{ "epoll_pwait", by_epoll_pwait }, { "epoll_pwait2", by_epoll_pwait2 }, { NULL, NULL }
};

/* --- a thread that makes one of them ------------------------------------------------------------------- */

struct task {
	pthread_t thread;
	pid_t tid; /* atomic: 0 until it runs */
	const struct call *call;
	int fd;
	long r;
	int err;
	bool cleaned;
};

static volatile sig_atomic_t restarting, ending;

static void on_restarting(int sig)
{
	(void)sig;
	restarting++;
}

static void on_ending(int sig)
{
	(void)sig;
	ending++;
}

static void cleaned(void *arg)
{
	((struct task *)arg)->cleaned = true;
}

static void *run(void *arg)
{
	struct task *t = arg;

	__atomic_store_n(&t->tid, gettid(), __ATOMIC_RELEASE);
	pthread_cleanup_push(cleaned, t);
	errno = 0;
	t->r = t->call->fn(t->fd);
	t->err = errno;
	pthread_cleanup_pop(0);
	return NULL;
}

/* It sleeps: seen three times, since it may sleep on the way to its call. Or it has ended. */
static void until_asleep(struct task *t)
{
	pid_t tid;

	while (!(tid = __atomic_load_n(&t->tid, __ATOMIC_ACQUIRE)))
		ev_pause(1);
	for (int seen = 0, tries = 0; seen < 3 && tries < 1000; tries++) {
		char s = task_state(tid);

		if (!s)
			break;
		seen = s == 'S' ? seen + 1 : 0;
		ev_pause(2);
	}
}

static void start(struct task *t, const struct call *c, int fd)
{
	*t = (struct task){ .call = c, .fd = fd };
	if (pthread_create(&t->thread, NULL, run, t))
		o_fail("pthread_create");
	until_asleep(t);
}

static void hit(struct task *t, int sig, volatile sig_atomic_t *count)
{
	int before = *count;

	syscall(SYS_tgkill, getpid(), t->tid, sig);
	for (int i = 0; i < 1000 && *count == before; i++)
		ev_pause(1);
}

static bool ended_within(struct task *t, int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += ms % 1000 * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return !pthread_timedjoin_np(t->thread, NULL, &until);
}

static void say(const char *what, struct task *t)
{
	char label[100];

	snprintf(label, sizeof(label), "%s: %s", t->call->name, what);
	errno = t->err;
	o_ret(label, t->r);
}

static void say_bool(const char *what, struct task *t, bool v)
{
	char label[100];

	snprintf(label, sizeof(label), "%s: %s", t->call->name, what);
	o_bool(label, v);
}

/* A handler with SA_RESTART that ran leaves it waiting; one without ends it. */
static void signals(const struct call *c, int fd)
{
	struct task t;

	restarting = ending = 0;
	start(&t, c, fd);
	hit(&t, SIGUSR1, &restarting);
	until_asleep(&t);
	say_bool("goes on after SA_RESTART", &t, !ended_within(&t, 1));
	if (!t.r && !t.err)
		hit(&t, SIGUSR2, &ending);
	else
		return;
	if (!ended_within(&t, SOON))
		o_fail("%s does not end", c->name);
	say("a signal", &t);
	say_bool("each handler ran once", &t, restarting == 1 && ending == 1);
}

static void cancelled(const struct call *c, int fd)
{
	struct task t;

	start(&t, c, fd);
	pthread_cancel(t.thread);
	if (!ended_within(&t, 150)) { /* not every call is a cancellation point */
		say_bool("is a cancellation point", &t, false);
		hit(&t, SIGUSR2, &ending);
		if (!ended_within(&t, SOON))
			o_fail("%s does not end", c->name);
		return;
	}
	say_bool("is a cancellation point", &t, true);
	say_bool("the clean-up handler ran", &t, t.cleaned);
}

static void no_waiting(const struct call *c, int fd)
{
	struct task t = { .call = c, .fd = fd };

	o_nonblock(fd, true);
	run(&t);
	say("O_NONBLOCK", &t);
	o_nonblock(fd, false);
}

static void timed(const struct call *c, int fd, int option)
{
	struct timeval tv = { 0, 20000 };
	struct task t = { .call = c, .fd = fd };

	setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
	run(&t);
	say("a time-out", &t);
	tv.tv_sec = 30;
	setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
	start(&t, c, fd);
	restarting = 0;
	hit(&t, SIGUSR1, &restarting);
	if (!ended_within(&t, 150)) { /* what waits by itself does not look at the option */
		say_bool("SA_RESTART and a time-out: goes on", &t, true);
		hit(&t, SIGUSR2, &ending);
		if (!ended_within(&t, SOON))
			o_fail("%s does not end", c->name);
	} else {
		say("SA_RESTART and a time-out", &t);
	}
	tv = (struct timeval){ 0 };
	setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

/* option: SO_RCVTIMEO, SO_SNDTIMEO, 0 = it has neither */
static void sweep(const struct call *c, int fd, int option)
{
	struct sigaction old1, old2, sa = { .sa_handler = on_restarting, .sa_flags = SA_RESTART };

	sigaction(SIGUSR1, &sa, &old1);
	sa = (struct sigaction){ .sa_handler = on_ending };
	sigaction(SIGUSR2, &sa, &old2);
	for (; c->name; c++) {
		if (option) {
			no_waiting(c, fd);
			timed(c, fd, option);
			signals(c, fd);
		}
		cancelled(c, fd);
	}
	sigaction(SIGUSR1, &old1, NULL);
	sigaction(SIGUSR2, &old2, NULL);
}

/* --- on which socket -------------------------------------------------------------------------------------- */

static void silent_side(void)
{
	int fd = o_connected(0);

	o_sync();
	o_sync();
	close(fd);
}

static void read_side(void)
{
	int fd = o_connected(0);

	if (pipe(spare))
		o_fail("pipe");
	set = ev_set();
	ev_add(set, fd, EPOLLIN, 1);
	o_sync();
	sweep(stream_readers, fd, SO_RCVTIMEO);
	sweep(waits, fd, 0);
	o_sync();
	close(fd);
	close(set);
	close(spare[0]);
	close(spare[1]);
}
SCENARIO(stream_reads, "calls that wait for a stream's data: O_NONBLOCK, time-outs, signals, cancellation",
	 O_V4, read_side, silent_side)

static void fill(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	do
		while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	while (poll(&p, 1, 1500) > 0); /* the peer's window is probed for a while */
	while (send(fd, bytes, 1, MSG_DONTWAIT) > 0) /* poll() wants more room than that */
		;
}

static void write_side(void)
{
	int fd = o_connected(0);

	t_set(fd, SOL_SOCKET, SO_SNDBUF, 16384);
	if (pipe(spare) || write(spare[1], bytes, sizeof(bytes)) != sizeof(bytes))
		o_fail("pipe");
	file = memfd_create("file", MFD_CLOEXEC);
	if (file < 0 || write(file, bytes, sizeof(bytes)) != sizeof(bytes))
		o_fail("memfd_create");
	o_sync();
	fill(fd);
	sweep(writers, fd, SO_SNDTIMEO);
	o_sync();
	close(fd);
	close(file);
	close(spare[0]);
	close(spare[1]);
}
SCENARIO(stream_writes, "calls that wait for room in a stream: O_NONBLOCK, time-outs, signals, cancellation",
	 O_V4, silent_side, write_side)

static void datagram_server(void)
{
	int fd = o_udp(0);

	set = ev_set();
	ev_add(set, fd, EPOLLIN, 1);
	sweep(datagram_readers, fd, SO_RCVTIMEO);
	sweep(waits, fd, 0);
	close(set);
	close(fd);
}
SCENARIO(datagram_reads, "calls that wait for a datagram: O_NONBLOCK, time-outs, signals, cancellation",
	 O_V4, datagram_server, NULL)

static void accept_server(void)
{
	int fd = o_listener(0);

	set = ev_set();
	ev_add(set, fd, EPOLLIN, 1);
	sweep(acceptors, fd, SO_RCVTIMEO);
	sweep(waits, fd, 0);
	close(set);
	close(fd);
}
SCENARIO(accepts, "calls that wait for a connection: O_NONBLOCK, time-outs, signals, cancellation", O_V4,
	 accept_server, NULL)

/* --- what another thread, or the peer, does meanwhile --------------------------------------------------- */

enum { SHUT_READ, SHUT_WRITE, SHUT_BOTH, PEER_DATA, PEER_END, PEER_RESET, REPLACED, WAYS };
static const char *const way_names[WAYS] = { "SHUT_RD", "SHUT_WR", "SHUT_RDWR", "data",
	"the peer's end", "a reset", "its number replaced by dup2(), then data" };

static void do_meanwhile(int way, int fd)
{
	switch (way) {
	case SHUT_READ:
	case SHUT_WRITE:
	case SHUT_BOTH:
		shutdown(fd, way == SHUT_READ ? SHUT_RD : way == SHUT_WRITE ? SHUT_WR : SHUT_RDWR);
		break;
	case REPLACED:
		dup2(spare[0], fd);
		break;
	}
}

static void ended_by(const struct call *c, int way, int fd)
{
	struct task t;

	set = ev_set();
	ev_add(set, fd, EPOLLIN | EPOLLRDHUP, 1);
	start(&t, c, fd);
	do_meanwhile(way, fd);
	if (way == SHUT_WRITE)
		say_bool("goes on after SHUT_WR", &t, !ended_within(&t, 40));
	if (way != SHUT_READ && way != SHUT_BOTH)
		o_sync();
	if (!ended_within(&t, SOON))
		o_fail("%s does not end: %s", c->name, way_names[way]);
	say(way_names[way], &t);
	if (way == SHUT_READ || way == SHUT_BOTH)
		o_sync();
	close(fd);
	close(set);
}

static void watch_each(const struct call *c, int ways)
{
	for (; c->name; c++)
		for (int way = 0; way < ways; way++)
			ended_by(c, way, o_connected(0));
}

static void act_each(const struct call *c, int ways)
{
	for (; c->name; c++)
		for (int way = 0; way < ways; way++) {
			int fd = o_connected(0);

			o_sync();
			if (way == PEER_DATA || way == REPLACED)
				ev_give(fd, 10);
			if (way == PEER_RESET)
				o_reset_close(fd);
			else
				close(fd);
		}
}

static void meanwhile_watch(void)
{
	if (pipe(spare))
		o_fail("pipe");
	watch_each(stream_readers, WAYS);
	watch_each(waits, REPLACED); /* that one would wait for the pipe */
	close(spare[0]);
	close(spare[1]);
}

static void meanwhile_act(void)
{
	act_each(stream_readers, WAYS);
	act_each(waits, REPLACED);
}
SCENARIO(meanwhile_server, "calls that wait while the socket is shut down, replaced, reset: accepted", O_V4,
	 meanwhile_watch, meanwhile_act)
SCENARIO(meanwhile_client, "calls that wait while the socket is shut down, replaced, reset: connected", O_V4,
	 meanwhile_act, meanwhile_watch)

static void datagram_meanwhile(void)
{
	int fd;

	for (const struct call *c = datagram_readers; c->name; c++)
		for (int way = 0; way <= SHUT_BOTH; way += 2) {
			fd = o_udp_connected(0, 1);
			ended_by(c, way, fd);
		}
}

static void datagram_meanwhile_act(void)
{
	for (const struct call *c = datagram_readers; c->name; c++)
		for (int way = 0; way <= SHUT_BOTH; way += 2)
			o_sync();
}
SCENARIO(datagram_meanwhile, "calls that wait for a datagram while the socket is shut down", O_V4,
	 datagram_meanwhile, datagram_meanwhile_act)

static const struct call some_writers[] = { { "send", by_send }, { "splice", by_splice_out } };

static void full_meanwhile(void)
{
	static const int ways[] = { SHUT_BOTH, PEER_RESET };

	signal(SIGPIPE, SIG_IGN);
	if (pipe(spare) || write(spare[1], bytes, sizeof(bytes)) != sizeof(bytes))
		o_fail("pipe");
	for (int i = 0; i < 4; i++) {
		int fd = o_connected(0);

		t_set(fd, SOL_SOCKET, SO_SNDBUF, 16384);
		fill(fd);
		ended_by(&some_writers[i / 2], ways[i % 2], fd);
	}
	signal(SIGPIPE, SIG_DFL);
	close(spare[0]);
	close(spare[1]);
}

static void full_act(void)
{
	for (int i = 0; i < 4; i++) {
		int fd = o_connected(0);

		o_sync();
		o_reset_close(fd);
	}
}
SCENARIO(full_meanwhile, "calls that wait for room while the socket is shut down, reset", O_V4, full_act,
	 full_meanwhile)

/* --- calls that need not wait ------------------------------------------------------------------------------ */

static long by_close(int fd)
{
	return close(fd);
}

static long by_shutdown(int fd)
{
	return shutdown(fd, SHUT_RD);
}

static long by_option(int fd)
{
	return setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 0 }, sizeof(int));
}

static long by_ioctl(int fd)
{
	return ioctl(fd, FIONREAD, &(int){ 0 });
}

static long by_set_flags(int fd)
{
	return fcntl(fd, F_SETFL, 0);
}

static const struct call others[] = {
	{ "setsockopt", by_option }, { "ioctl", by_ioctl }, { "fcntl", by_set_flags },
	{ "close", by_close }, { "shutdown", by_shutdown }, { NULL, NULL }
};

static void *run_cancelled(void *arg)
{
	pthread_cancel(pthread_self());
	return run(arg);
}

/* The thread was cancelled before the call: does the call look at that? */
static void pending(const struct call *c, int fd)
{
	for (; c->name; c++) {
		struct task t = { .call = c, .fd = fd };

		if (pthread_create(&t.thread, NULL, run_cancelled, &t))
			o_fail("pthread_create");
		pthread_join(t.thread, NULL);
		say_bool("sees that it was cancelled", &t, t.cleaned);
	}
}

static void pending_side(void)
{
	int fd = o_connected(0);

	if (pipe(spare) || write(spare[1], bytes, 100) != 100)
		o_fail("pipe");
	file = memfd_create("file", MFD_CLOEXEC);
	if (file < 0 || write(file, bytes, 100) != 100)
		o_fail("memfd_create");
	set = ev_set();
	ev_add(set, fd, EPOLLIN, 1);
	o_sync();
	o_wait_bytes(fd, (int)sizeof(bytes));
	pending(stream_readers, fd);
	pending(waits, fd);
	pending(writers, fd);
	pending(others, fd);
	O("it is open", fcntl(fd, F_GETFD));
	O("close", close(fd));
	close(set);
	close(file);
	close(spare[0]);
	close(spare[1]);
	o_sync();
}

static void pending_peer(void)
{
	int fd = o_connected(0);
	char some[4096];
	long n;

	ev_give(fd, sizeof(bytes));
	o_sync();
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, some, sizeof(some), 0)) > 0)
		;
	o_sync();
	close(fd);
}
SCENARIO(cancel_pending, "calls that need not wait, of a thread that was cancelled before", O_V4,
	 pending_peer, pending_side)

/* --- pipes -------------------------------------------------------------------------------------------------- */

static int fill_pipe(int fd)
{
	int n = 0;

	o_nonblock(fd, true);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		n += (int)sizeof(bytes);
	o_nonblock(fd, false);
	return n;
}

static int in_pipe(int fd)
{
	int n = -1;

	ioctl(fd, FIONREAD, &n);
	return n;
}

static void splice_side(void)
{
	int fd = o_connected(0), all;
	struct timeval tv = { 0 };
	char some[8192];
	uint64_t start;

	if (pipe(spare))
		o_fail("pipe");
	o_sync();
	o_wait_bytes(fd, (int)sizeof(some));
	all = fill_pipe(spare[1]);
	O("into a full pipe, SPLICE_F_NONBLOCK", splice(fd, NULL, spare[1], NULL, 10, SPLICE_F_NONBLOCK));
	o_nonblock(spare[1], true);
	O("into a full pipe with O_NONBLOCK", splice(fd, NULL, spare[1], NULL, 10, 0));
	o_nonblock(spare[1], false);
	if (read(spare[0], some, sizeof(bytes)) != sizeof(bytes))
		o_fail("read");
	o_bool("into a pipe with little room: some", splice(fd, NULL, spare[1], NULL, sizeof(some), 0) > 0);
	for (; all > 0; all -= (int)sizeof(bytes))
		if (read(spare[0], some, sizeof(bytes)) <= 0)
			o_fail("read");
	close(spare[0]);
	signal(SIGPIPE, SIG_IGN);
	O("into a pipe that nobody reads", splice(fd, NULL, spare[1], NULL, 10, 0));
	signal(SIGPIPE, SIG_DFL);
	close(spare[1]);
	if (pipe(spare) || write(spare[1], bytes, 100) != 100)
		o_fail("pipe");
	t_set(fd, SOL_SOCKET, SO_SNDBUF, 16384);
	fill(fd);
	tv.tv_usec = 60000;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	start = o_now();
	O("from a pipe into a full socket, SPLICE_F_NONBLOCK",
	  splice(spare[0], NULL, fd, NULL, 10, SPLICE_F_NONBLOCK));
	o_bool("it waits: the flag is about the pipe", o_now() - start >= 60000000u);
	tv.tv_usec = 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	o_nonblock(fd, true);
	O("from a pipe into a full socket with O_NONBLOCK", splice(spare[0], NULL, fd, NULL, 10, 0));
	O("sendfile into a full socket with O_NONBLOCK", sendfile(fd, spare[0], NULL, 10));
	o_nonblock(fd, false);
	o_say("the pipe has", "%d", in_pipe(spare[0]));
	o_sync();
	O("as soon as there is room", splice(spare[0], NULL, fd, NULL, 1000, 0));
	o_say("then the pipe has", "%d", in_pipe(spare[0]));
	o_sync();
	o_wait(fd, POLLHUP);
	ev_drain(fd);
	signal(SIGPIPE, SIG_IGN);
	if (write(spare[1], bytes, 100) != 100)
		o_fail("write");
	o_bool("into a connection that was reset", splice(spare[0], NULL, fd, NULL, 1000, 0) < 0);
	O("again", splice(spare[0], NULL, fd, NULL, 1000, 0));
	signal(SIGPIPE, SIG_DFL);
	o_say("nothing was lost: the pipe has", "%d", in_pipe(spare[0]));
	close(fd);
	close(spare[0]);
	close(spare[1]);
}

static void splice_peer(void)
{
	int fd = o_connected(0);

	ev_give(fd, 8192);
	o_sync();
	o_sync();
	while (o_wait(fd, POLLIN) && o_poll(fd, POLLIN) && recv(fd, bytes, sizeof(bytes), 0) > 0)
		if (!o_poll(fd, POLLIN) && !poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 500))
			break;
	o_sync();
	o_reset_close(fd);
}
SCENARIO(splice_full, "splice() with full pipes and full sockets: nothing is lost, nothing waits for ever",
	 O_V4, splice_side, splice_peer)

/* --- connect() and close() -------------------------------------------------------------------------------- */

static struct sockaddr_storage nobody;

static long by_connect(int fd)
{
	return connect(fd, (struct sockaddr *)&nobody,
		       nobody.ss_family == AF_INET ? sizeof(struct sockaddr_in) :
						     sizeof(struct sockaddr_in6));
}

static void connect_client(void)
{
	static const struct call call = { "connect", by_connect };
	int fd = t_socket();

	o_absent_addr(&nobody, o_port(0));
	t_neighbour(&nobody, true);
	cancelled(&call, fd);
	o_nonblock(fd, true);
	O("it goes on connecting", by_connect(fd));
	close(fd);
	t_neighbour(&nobody, false);
}
SCENARIO(connect_cancelled, "pthread_cancel() in connect()", O_V4, NULL, connect_client)

static void linger_side(void)
{
	static const struct call call = { "close", by_close };
	struct linger l = { 1, 30 };
	struct sigaction old, sa = { .sa_handler = on_ending };
	int fd = o_connected(0);
	struct task t;

	sigaction(SIGUSR2, &sa, &old);
	o_sync();
	fill(fd);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	start(&t, &call, fd);
	say_bool("waits", &t, !ended_within(&t, 100));
	O("the number is closed", fcntl(fd, F_GETFD));
	hit(&t, SIGUSR2, &ending);
	if (!ended_within(&t, SOON))
		o_fail("close() does not end");
	say("a signal", &t);
	sigaction(SIGUSR2, &old, NULL);
	o_sync();
	o_sync();
}

static void linger_peer(void)
{
	int fd = o_connected(0);
	long n;

	o_sync();
	o_sync();
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		;
	O("all of it comes, then the end", n);
	o_sync();
	close(fd);
}
SCENARIO(linger_interrupted, "a signal in close() that lingers: what was sent still comes", O_V4, linger_side,
	 linger_peer)
