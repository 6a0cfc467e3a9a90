/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/signals.c - signals that come while a call waits
 *
 * A thread (struct kick) sends the signal when the waiting one sleeps, which it sees in /proc. Every
 * scenario gives back the handlers that it found.
 */
#include "tests/oracle/events.h"
#include "tests/oracle/task.h"

#include <setjmp.h>
#include <sys/syscall.h>

static volatile sig_atomic_t hits;
static volatile sig_atomic_t last;

static void on_signal(int sig)
{
	hits++;
	last = sig;
}

static void catch(int sig, void (*fn)(int), int flags, struct sigaction *old)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	if (sigaction(sig, &sa, old))
		o_fail("sigaction");
}

/* --- who sends it ------------------------------------------------------------------------------------ */

/* It is in its call and sleeps: seen twice, since it may sleep on the way there. */
static void until_asleep(pid_t tid)
{
	for (int seen = 0, tries = 0; seen < 3 && tries < 2000; tries++) {
		seen = task_state(tid) == 'S' ? seen + 1 : 0;
		ev_pause(5);
	}
}

/* It is in its call, in which it does not always sleep. */
static void until_busy(pid_t tid)
{
	ev_pause(20);
	for (int tries = 0; task_state(tid) != 'S' && tries < 20000; tries++)
		;
}

struct kick {
	pthread_t thread;
	void (*until)(pid_t tid);
	pid_t tid;
	int sig;   /* 0: none */
	int then;  /* -1, or a connection on which the peer hears that it was sent */
};

static void *kick_run(void *arg)
{
	struct kick *k = arg;
	int before;

	if (k->sig) {
		k->until(k->tid);
		before = hits;
		syscall(SYS_tgkill, getpid(), k->tid, k->sig);
		for (int t = 0; t < 1000 && hits == before; t++)
			ev_pause(1);
	}
	if (k->then >= 0) {
		k->until(k->tid);
		send(k->then, "!", 1, MSG_NOSIGNAL);
	}
	return NULL;
}

static void kick_when(struct kick *k, void (*until)(pid_t), int sig, int then)
{
	sigset_t all, old;

	*k = (struct kick){ .until = until, .tid = gettid(), .sig = sig, .then = then };
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (pthread_create(&k->thread, NULL, kick_run, k))
		o_fail("pthread_create");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void kick(struct kick *k, int sig, int then)
{
	kick_when(k, until_asleep, sig, then);
}

static void kicked(struct kick *k)
{
	pthread_join(k->thread, NULL);
}

/* --- epoll, poll, select ------------------------------------------------------------------------------ */

enum { WAITS = 7 };
static const char *const wait_names[WAITS] = { "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll",
					       "ppoll", "select", "pselect" };

static int wait_by(int which, int ep, int fd, const struct timespec *t, const sigset_t *mask)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timeval tv = { t ? t->tv_sec : 0, t ? t->tv_nsec / 1000 : 0 };
	struct epoll_event ev;
	fd_set r;
	int ms = t ? (int)(t->tv_sec * 1000 + t->tv_nsec / 1000000) : -1;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	switch (which) {
	case 0:
		return epoll_wait(ep, &ev, 1, ms);
	case 1:
		return epoll_pwait(ep, &ev, 1, ms, mask);
	case 2:
		return epoll_pwait2(ep, &ev, 1, t, mask);
	case 3:
		return poll(&p, 1, ms);
	case 4:
		return ppoll(&p, 1, t, mask);
	case 5:
		return select(fd + 1, &r, NULL, NULL, t ? &tv : NULL);
	default:
		return pselect(fd + 1, &r, NULL, NULL, t, mask);
	}
}

static void waits_watch(void)
{
	static const int flags[] = { 0, SA_RESTART };
	int fd = ev_pair(0), ep = ev_set();
	struct timespec five = { 5, 0 };
	struct sigaction old;
	struct kick k;
	char label[60];

	ev_add(ep, fd, EPOLLIN, 1);
	for (int f = 0; f < 2; f++) {
		catch(SIGUSR1, on_signal, flags[f], &old);
		for (int i = 0; i < WAITS; i++) {
			hits = 0;
			kick(&k, SIGUSR1, -1);
			snprintf(label, sizeof(label), "%s%s", wait_names[i],
				 f ? ", SA_RESTART" : "");
			O(label, wait_by(i, ep, fd, f ? &five : NULL, NULL));
			kicked(&k);
			snprintf(label, sizeof(label), "handlers run in %s%s", wait_names[i],
				 f ? ", SA_RESTART" : "");
			o_say(label, "%d", (int)hits);
		}
		sigaction(SIGUSR1, &old, NULL);
	}
	close(fd);
	close(ep);
	o_sync();
}

static void waits_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	close(fd);
}
WATCHED(signal_waits, "signals end every kind of wait, whatever SA_RESTART says", waits_watch, waits_act)

static void mask_watch(void)
{
	int fd = ev_pair(0), ep = ev_set();
	struct timespec five = { 5, 0 }, zero = { 0 };
	struct sigaction old;
	sigset_t usr1, none, before;
	char label[80];

	ev_add(ep, fd, EPOLLIN, 1);
	catch(SIGUSR1, on_signal, 0, &old);
	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, &before);
	hits = 0;
	raise(SIGUSR1);
	for (int i = 0; i < WAITS; i++) {
		snprintf(label, sizeof(label), "blocked: %s", wait_names[i]);
		O(label, wait_by(i, ep, fd, &zero, NULL));
	}
	o_say("blocked: handlers run", "%d", (int)hits);
	for (int i = 0; i < WAITS; i++) {
		if (i == 0 || i == 3 || i == 5)
			continue; /* those without a mask */
		hits = 0;
		raise(SIGUSR1);
		snprintf(label, sizeof(label), "let in: %s", wait_names[i]);
		O(label, wait_by(i, ep, fd, &five, &none));
		snprintf(label, sizeof(label), "let in: handlers run in %s", wait_names[i]);
		o_say(label, "%d", (int)hits);
		raise(SIGUSR1);
		snprintf(label, sizeof(label), "no time: %s", wait_names[i]);
		O(label, wait_by(i, ep, fd, &zero, &none));
		snprintf(label, sizeof(label), "no time: handlers run in %s", wait_names[i]);
		o_say(label, "%d", (int)hits);
	}
	o_sync();
	o_wait(fd, POLLIN);
	for (int i = 0; i < WAITS; i++) {
		if (i == 0 || i == 3 || i == 5)
			continue;
		hits = 0;
		raise(SIGUSR1);
		snprintf(label, sizeof(label), "ready: %s", wait_names[i]);
		O(label, wait_by(i, ep, fd, &five, &none));
		snprintf(label, sizeof(label), "ready: handlers run in %s", wait_names[i]);
		o_say(label, "%d", (int)hits);
	}
	sigtimedwait(&usr1, NULL, &zero);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	sigaction(SIGUSR1, &old, NULL);
	close(fd);
	close(ep);
	o_sync();
}

static void mask_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	ev_give(fd, 1);
	o_sync();
	close(fd);
}
WATCHED(signal_mask, "masks of epoll_pwait(), ppoll(), pselect(): atomic; what is ready comes first",
	mask_watch, mask_act)

/* Another connection has traffic all the time, so the waiting thread has other work, too. */
static void busy_watch(void)
{
	int idle = ev_pair(0), busy = ev_pair(1), ep = ev_set(), lost = 0, wrong = 0;
	struct timespec two = { 2, 0 };
	struct sigaction old;
	struct kick k;

	ev_add(ep, idle, EPOLLIN, 1);
	catch(SIGUSR1, on_signal, SA_RESTART, &old);
	o_sync();
	for (int i = 0; i < 10 * WAITS; i++) {
		int r;

		hits = 0;
		kick_when(&k, until_busy, SIGUSR1, -1);
		r = wait_by(i % WAITS, ep, idle, &two, NULL);
		kicked(&k);
		if (r == 0)
			lost++;
		else if (r > 0 || hits != 1)
			wrong++;
		ev_drain(busy);
	}
	o_say("handlers without EINTR", "%d", lost);
	o_say("other answers", "%d", wrong);
	sigaction(SIGUSR1, &old, NULL);
	close(ep);
	send(idle, "x", 1, 0);
	o_wait(idle, POLLIN);
	close(idle);
	close(busy);
}

static void busy_act(void)
{
	int idle = ev_pair(0), busy = ev_pair(1);
	uint64_t end = o_now() + 60000000000u;
	char buf[100] = { 0 };

	o_sync();
	while (!o_poll(idle, POLLIN) && o_now() < end) {
		for (int i = 0; i < 20; i++)
			send(busy, buf, sizeof(buf), MSG_NOSIGNAL);
		ev_pause(1);
	}
	send(idle, "x", 1, 0);
	o_wait(idle, POLLRDHUP);
	close(idle);
	close(busy);
}
WATCHED(signal_busy, "no signal is missed while other connections have traffic", busy_watch, busy_act)

/* --- calls that may be restarted ---------------------------------------------------------------------- */

struct restart {
	const char *name;
	int flags;        /* of SIGUSR1's handler */
	int other_flags;  /* of SIGUSR2's, -1 = it has none */
	long timeout_ms;  /* SO_RCVTIMEO */
	int sig;
};
static const struct restart restarts[] = {
	{ "SA_RESTART", SA_RESTART, -1, 0, SIGUSR1 },
	{ "no SA_RESTART", 0, -1, 0, SIGUSR1 },
	{ "SA_RESTART, another handler without", SA_RESTART, 0, 0, SIGUSR1 },
	{ "no SA_RESTART, another handler with", 0, SA_RESTART, 0, SIGUSR1 },
	{ "the other handler without", SA_RESTART, 0, 0, SIGUSR2 },
	{ "SA_RESTART and a time-out", SA_RESTART, -1, 10000, SIGUSR1 },
	{ "SA_RESTART and SA_SIGINFO", SA_RESTART | SA_SIGINFO, 0, 0, SIGUSR1 },
};
#define RESTARTS (int)(sizeof(restarts) / sizeof(restarts[0]))

static void one_restart(const struct restart *c, int fd, int go, bool message)
{
	struct timeval tv = { c->timeout_ms / 1000, c->timeout_ms % 1000 * 1000 };
	struct sigaction old1, old2;
	char label[100], buf[8];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct kick k;
	long r;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	catch(SIGUSR1, on_signal, c->flags, &old1);
	if (c->other_flags >= 0)
		catch(SIGUSR2, on_signal, c->other_flags, &old2);
	hits = 0;
	kick(&k, c->sig, go);
	snprintf(label, sizeof(label), "%s%s", message ? "recvmsg, " : "", c->name);
	r = O(label, message ? recvmsg(fd, &m, 0) : recv(fd, buf, sizeof(buf), 0));
	kicked(&k);
	if (r < 0) { /* what the peer sent meanwhile */
		o_wait(fd, POLLIN);
		if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) <= 0)
			o_fail("the peer's byte");
	}
	snprintf(label, sizeof(label), "handlers: %s%s", message ? "recvmsg, " : "", c->name);
	o_say(label, "%d", (int)hits);
	sigaction(SIGUSR1, &old1, NULL);
	if (c->other_flags >= 0)
		sigaction(SIGUSR2, &old2, NULL);
}

static void restart_watch(void)
{
	int fd = o_connected(0), go = o_connected(1);

	for (int i = 0; i < RESTARTS; i++)
		one_restart(&restarts[i], fd, go, false);
	for (int i = 0; i < 2; i++)
		one_restart(&restarts[i], fd, go, true);
	close(go);
	close(fd);
}

static void restart_act(void)
{
	int fd = o_connected(0), go = o_connected(1);
	char c;

	while (recv(go, &c, 1, 0) == 1)
		send(fd, "a", 1, MSG_NOSIGNAL);
	close(go);
	close(fd);
}
WATCHED(signal_restart, "recv(): whether it goes on is up to the handler that ran", restart_watch,
	restart_act)

static void restart_udp_watch(void)
{
	int fd = o_udp(0), go = o_connected(1);

	for (int i = 0; i < RESTARTS; i++)
		one_restart(&restarts[i], fd, go, i == 1);
	close(go);
	close(fd);
}

static void restart_udp_act(void)
{
	int fd = o_udp_connected(2, 0), go = o_connected(1);
	char c;

	while (recv(go, &c, 1, 0) == 1)
		send(fd, "a", 1, MSG_NOSIGNAL);
	close(go);
	close(fd);
}
WATCHED(signal_restart_udp, "UDP recv(): whether it goes on is up to the handler that ran",
	restart_udp_watch, restart_udp_act)

static void accept_server(void)
{
	int l = o_listener(0), go = o_connected(1), fd;
	struct sigaction old;
	struct kick k;

	for (int i = 0; i < 2; i++) {
		catch(SIGUSR1, on_signal, i ? SA_RESTART : 0, &old);
		hits = 0;
		kick(&k, SIGUSR1, i ? go : -1);
		errno = 0;
		fd = accept(l, NULL, NULL);
		o_ok(i ? "accept, SA_RESTART" : "accept", fd);
		kicked(&k);
		o_say(i ? "handlers, SA_RESTART" : "handlers", "%d", (int)hits);
		if (fd >= 0)
			close(fd);
		sigaction(SIGUSR1, &old, NULL);
	}
	close(go);
	close(l);
}

static void accept_client(void)
{
	struct sockaddr_storage to;
	int go = o_connected(1), fd = socket(o_family, SOCK_STREAM, 0);
	socklen_t len = o_server_addr(&to, o_port(0));
	char c;

	if (recv(go, &c, 1, 0) == 1 && connect(fd, (void *)&to, len))
		o_fail("connect");
	recv(go, &c, 1, 0);
	close(fd);
	close(go);
}
SCENARIO(signal_accept, "accept(): signals with and without SA_RESTART", O_BOTH, accept_server,
	 accept_client)

static void fill(int fd)
{
	static const char buf[65536];
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	do
		while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
	while (poll(&p, 1, 1500) > 0); /* the peer's window is probed for a while */
	while (send(fd, buf, 1, MSG_DONTWAIT) > 0) /* poll() wants more room than that */
		;
}

static void send_watch(void)
{
	int fd = o_connected(0), go = o_connected(1), small = 16384;
	struct sigaction old;
	struct kick k;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	fill(fd);
	for (int i = 0; i < 2; i++) {
		catch(SIGUSR1, on_signal, i ? SA_RESTART : 0, &old);
		hits = 0;
		kick(&k, SIGUSR1, i ? go : -1);
		O(i ? "send, SA_RESTART" : "send", send(fd, "x", 1, 0));
		kicked(&k);
		o_say(i ? "handlers, SA_RESTART" : "handlers", "%d", (int)hits);
		sigaction(SIGUSR1, &old, NULL);
	}
	close(go);
	close(fd);
}

static void send_act(void)
{
	int fd = o_connected(0), go = o_connected(1);
	static char buf[65536];
	char c;

	recv(go, &c, 1, 0);
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	close(go);
	close(fd);
}
WATCHED(signal_send, "send() to a full socket: signals with and without SA_RESTART", send_watch, send_act)

/* --- handlers as the program sees them ------------------------------------------------------------------ */

static void on_info(int sig, siginfo_t *info, void *context)
{
	hits += info->si_signo == sig && info->si_pid == getpid() && context;
}

static void handlers(void)
{
	struct sigaction sa = { .sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESTART }, was,
			 first;

	sigaction(SIGUSR1, NULL, &first);
	o_bool("default at first", first.sa_handler == SIG_DFL);
	sigaddset(&sa.sa_mask, SIGUSR2);
	O("sigaction", sigaction(SIGUSR1, &sa, NULL));
	O("and asked", sigaction(SIGUSR1, NULL, &was));
	o_bool("the handler", was.sa_sigaction == on_info);
	o_say("flags", "%x", (unsigned)was.sa_flags & ~0x04000000u);
	o_bool("mask", sigismember(&was.sa_mask, SIGUSR2) && !sigismember(&was.sa_mask, SIGUSR1));
	hits = 0;
	raise(SIGUSR1);
	o_say("with information", "%d", (int)hits);
	o_bool("signal() gives the handler before", signal(SIGUSR1, on_signal) == (void *)on_info);
	sigaction(SIGUSR1, NULL, &was);
	o_bool("handler by signal()", was.sa_handler == on_signal);
	o_say("flags by signal()", "%x", (unsigned)was.sa_flags & ~0x04000000u);
	o_bool("mask by signal()", sigismember(&was.sa_mask, SIGUSR1));
	raise(SIGUSR1);
	o_say("called", "%d", (int)hits);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	O("siginterrupt", siginterrupt(SIGUSR1, 1));
	sigaction(SIGUSR1, NULL, &was);
	o_say("flags after siginterrupt", "%x", (unsigned)was.sa_flags & ~0x04000000u);
	signal(SIGUSR1, on_signal);
	sigaction(SIGUSR1, NULL, &was);
	o_say("flags by signal() after siginterrupt", "%x", (unsigned)was.sa_flags & ~0x04000000u);
	siginterrupt(SIGUSR1, 0);
#pragma GCC diagnostic pop
	sa = (struct sigaction){ .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &was);
	o_bool("SA_RESETHAND: default again", was.sa_handler == SIG_DFL);
	o_bool("signal(IGN)", signal(SIGUSR1, SIG_IGN) == SIG_DFL);
	raise(SIGUSR1);
	o_bool("signal(DFL)", signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	O("SIGKILL", sigaction(SIGKILL, &sa, NULL));
	O("signal 0", sigaction(0, &sa, NULL));
	O("signal 65", sigaction(65, NULL, &was));
	o_bool("signal(-1)", signal(-1, on_signal) == SIG_ERR && errno == EINVAL);
	sigaction(SIGUSR1, &first, NULL);
}
SCENARIO(signal_handlers, "handlers are what the program set", O_V4, handlers, handlers)

/* --- stopped and continued --------------------------------------------------------------------------------- */

static void stopper(void *arg)
{
	pid_t who = *(pid_t *)arg;

	until_asleep(who);
	kill(who, SIGSTOP);
	for (int i = 0; i < 500 && task_state(who) != 'T'; i++)
		ev_pause(2);
	kill(who, SIGCONT);
}

static void stop_watch(void)
{
	int fd = ev_pair(0), ep = ev_set();
	struct timespec t = { 1, 0 };
	pid_t me = getpid(), child;
	uint64_t start;

	ev_add(ep, fd, EPOLLIN, 1);
	for (int i = 0; i < WAITS; i++) {
		if (i < 3)
			continue; /* what epoll does is recorded below */
		start = o_now();
		child = o_spawn(stopper, &me);
		O(wait_names[i], wait_by(i, ep, fd, &t, NULL));
		o_bool("the whole time", o_now() - start >= 1000000000);
		waitpid(child, NULL, 0);
	}
	child = o_spawn(stopper, &me);
	O("epoll_wait", wait_by(0, ep, fd, &t, NULL));
	waitpid(child, NULL, 0);
	close(fd);
	close(ep);
	o_sync();
}

static void stop_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	close(fd);
}
WATCHED(signal_stop, "a process that is stopped and continued in its wait", stop_watch, stop_act)

/* --- out of a call by a jump -------------------------------------------------------------------------------- */

static sigjmp_buf out;

static void on_jump(int sig)
{
	hits++;
	siglongjmp(out, 1);
}

static void jump_watch(void)
{
	int fd = o_connected(0), go = o_connected(1), ep = ev_set();
	struct sigaction old;
	struct kick k;
	char c;

	ev_add(ep, fd, EPOLLIN, 1);
	catch(SIGUSR1, on_jump, 0, &old);
	hits = 0;
	for (volatile int i = 0; i < 2 * WAITS; i++) {
		kick(&k, SIGUSR1, -1);
		if (!sigsetjmp(out, 1)) {
			if (i < WAITS)
				wait_by(i, ep, fd, NULL, NULL);
			else
				recv(fd, &c, 1, 0);
			o_fail("the call came back");
		}
		kicked(&k);
	}
	o_say("jumps", "%d", (int)hits);
	sigaction(SIGUSR1, &old, NULL);
	kick(&k, 0, go);
	O("recv afterwards", recv(fd, &c, 1, 0));
	kicked(&k);
	kick(&k, 0, go);
	ev_show("epoll_wait afterwards", ep, 8, SOON);
	kicked(&k);
	O("send afterwards", send(fd, "x", 1, 0));
	close(ep);
	close(go);
	close(fd);
}
WATCHED(signal_jump, "siglongjmp() out of a waiting call", jump_watch, restart_act)

/* --- handlers that do the work ------------------------------------------------------------------------- */

#define TICKS 200

static int ticker_fd;
static volatile sig_atomic_t ticks, bad_ticks;

/* What POSIX allows in a handler: sockets, and processes. */
static void on_tick(int sig)
{
	int status = 0, err = errno;
	pid_t pid;

	if (ticks == TICKS)
		return;
	bad_ticks += send(ticker_fd, "x", 1, 0) != 1;
	if (++ticks % 20 == 0) {
		pid = fork();
		if (pid == 0)
			_exit(7);
		bad_ticks += waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7;
	}
	errno = err;
}

static void working_server(void)
{
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	int fd = o_connected(0);
	struct sigaction old;
	char buf[512];
	ssize_t n;

	ticker_fd = o_connected(1);
	ticks = bad_ticks = 0;
	catch(SIGALRM, on_tick, SA_RESTART, &old);
	setitimer(ITIMER_REAL, &every, NULL);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		if (o_send_all(fd, buf, (size_t)n) != n)
			break;
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	o_ret("end of requests", n);
	O("ticks", ticks);
	O("bad ones", bad_ticks);
	close(ticker_fd);
	close(fd);
}

static void working_client(void)
{
	int fd = o_connected(0), ticker = o_connected(1), got = 0, bad = 0;
	uint64_t end = o_now() + 20000000000ull;
	char ask[512], in[512];
	ssize_t n;

	memset(ask, 'q', sizeof(ask));
	while (got < TICKS && o_now() < end) {
		bad += o_send_all(fd, ask, sizeof(ask)) != sizeof(ask) ||
		       o_recv_all(fd, in, sizeof(in)) != sizeof(in) || memcmp(in, ask, sizeof(in));
		n = recv(ticker, in, sizeof(in), MSG_DONTWAIT);
		got += n > 0 ? (int)n : 0;
	}
	O("bad answers", bad);
	O("ticks", got);
	O("shutdown", shutdown(fd, SHUT_WR));
	O("end", recv(ticker, in, sizeof(in), 0));
	close(ticker);
	close(fd);
}
SCENARIO(signal_handler_works, "a handler sends and forks whatever it interrupts", O_BOTH, working_server,
	 working_client)
