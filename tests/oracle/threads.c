/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/threads.c - several threads in the same calls, sets and sockets; cancellation */
#include "tests/oracle/events.h"
#include "tests/oracle/task.h"

#include <sys/syscall.h>

/* A thread that makes one call and keeps the answer. */
struct task {
	pthread_t thread;
	pid_t tid;         /* atomic: 0 until it runs */
	int fd, ep, ms;
	long r;
	int err;
	struct epoll_event ev;
	void (*call)(struct task *t);
	bool cleaned;      /* its clean-up handler ran */
	char buf[64];
};

static void cleaned(void *arg)
{
	((struct task *)arg)->cleaned = true;
}

static void *task_run(void *arg)
{
	struct task *t = arg;

	__atomic_store_n(&t->tid, gettid(), __ATOMIC_RELEASE);
	pthread_cleanup_push(cleaned, t);
	errno = 0;
	t->call(t);
	t->err = errno;
	pthread_cleanup_pop(0);
	return NULL;
}

static void start(struct task *t)
{
	t->tid = 0;
	t->cleaned = false;
	if (pthread_create(&t->thread, NULL, task_run, t))
		o_fail("pthread_create");
}

/* Started, and asleep in its call. */
static void start_asleep(struct task *t)
{
	pid_t tid;

	start(t);
	while (!(tid = __atomic_load_n(&t->tid, __ATOMIC_ACQUIRE)))
		ev_pause(1);
	for (int seen = 0, tries = 0; seen < 3 && tries < 1000; tries++) {
		seen = task_state(tid) == 'S' ? seen + 1 : 0;
		ev_pause(5);
	}
}

static void end(struct task *t, const char *label)
{
	pthread_join(t->thread, NULL);
	errno = t->err;
	if (label)
		o_ret(label, t->r);
}

static void in_epoll(struct task *t)
{
	t->r = epoll_wait(t->ep, &t->ev, 1, t->ms);
}

static void in_poll(struct task *t)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN };

	t->r = poll(&p, 1, t->ms);
	if (t->r > 0)
		t->ev.events = (uint16_t)p.revents;
}

static void in_select(struct task *t)
{
	fd_set r;

	FD_ZERO(&r);
	FD_SET(t->fd, &r);
	t->r = select(t->fd + 1, &r, NULL, NULL, NULL);
}

static void in_recv(struct task *t)
{
	t->r = recv(t->fd, t->buf, sizeof(t->buf), 0);
}

static void in_recvmsg(struct task *t)
{
	struct iovec iov = { t->buf, sizeof(t->buf) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	t->r = recvmsg(t->fd, &m, 0);
}

static void in_read(struct task *t)
{
	t->r = read(t->fd, t->buf, sizeof(t->buf));
}

static void in_accept(struct task *t)
{
	t->r = accept(t->fd, NULL, NULL);
}

static void in_send(struct task *t)
{
	static const char buf[65536];

	while ((t->r = send(t->fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		;
}

/* --- one set, several threads -------------------------------------------------------------------------- */

enum { N = 4 };

static int woken(struct task *t, int n)
{
	int hits = 0;

	for (int i = 0; i < n; i++) {
		end(&t[i], NULL);
		hits += t[i].r == 1;
	}
	return hits;
}

static void one_set_watch(void)
{
	static const struct {
		const char *name;
		uint32_t flags;
	} how[] = { { "edge", EPOLLET }, { "oneshot", EPOLLONESHOT } };
	int fd = ev_pair(0), ep = ev_set();
	struct task t[N] = { 0 };
	char label[60];

	for (int k = 0; k < 2; k++) {
		ev_add(ep, fd, EPOLLIN | how[k].flags, 1);
		for (int i = 0; i < N; i++) {
			t[i] = (struct task){ .ep = ep, .ms = 700, .call = in_epoll };
			start_asleep(&t[i]);
		}
		o_sync();
		snprintf(label, sizeof(label), "%s: threads that got the event", how[k].name);
		o_say(label, "%d", woken(t, N));
		ev_drain(fd);
		ev_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0);
	}
	/* as many events as threads */
	close(fd);
	for (int i = 0; i < N; i++) {
		int c = ev_pair(i + 1);

		ev_add(ep, c, EPOLLIN | EPOLLET, (uint64_t)c);
		t[i].fd = c;
	}
	for (int i = 0; i < N; i++) {
		t[i] = (struct task){ .fd = t[i].fd, .ep = ep, .ms = SOON, .call = in_epoll };
		start_asleep(&t[i]);
	}
	o_sync();
	o_say("four events: threads that got one", "%d", woken(t, N));
	for (int i = 0; i < N; i++)
		close(t[i].fd);
	close(ep);
	o_sync();
}

static void one_set_act(void)
{
	int fd = ev_pair(0), c[N];

	for (int k = 0; k < 2; k++) {
		o_sync();
		ev_give(fd, 1);
	}
	o_wait(fd, POLLRDHUP);
	close(fd);
	for (int i = 0; i < N; i++)
		c[i] = ev_pair(i + 1);
	o_sync();
	for (int i = 0; i < N; i++)
		ev_give(c[i], 1);
	o_sync();
	for (int i = 0; i < N; i++)
		close(c[i]);
}
WATCHED(one_set, "threads that wait on one set: one wake-up for an edge and for one-shot", one_set_watch,
	one_set_act)

/* --- one socket, several sets --------------------------------------------------------------------------- */

static void sets_of(struct task *t, int fd, uint32_t flags)
{
	/* with EPOLLEXCLUSIVE most of them come to the end of their time */
	int ms = flags & EPOLLEXCLUSIVE ? 700 : SOON;

	for (int i = 0; i < N; i++) {
		t[i] = (struct task){ .ep = ev_set(), .ms = ms, .call = in_epoll };
		ev_add(t[i].ep, fd, EPOLLIN | flags, 1);
	}
	for (int i = 0; i < N; i++)
		start_asleep(&t[i]);
}

static void exclusive_server(void)
{
	int l = o_listener(0), fd;
	struct task t[N];

	o_nonblock(l, true);
	sets_of(t, l, 0);
	o_sync();
	o_say("all sets hear of a connection", "%d", woken(t, N));
	fd = accept(l, NULL, NULL);
	close(fd);
	for (int i = 0; i < N; i++)
		close(t[i].ep);
	sets_of(t, l, EPOLLEXCLUSIVE);
	o_sync();
	fd = woken(t, N);
	o_bool("exclusive: somebody hears of it", fd >= 1);
	o_bool("exclusive: not everybody", fd < N);
	fd = accept(l, NULL, NULL);
	close(fd);
	for (int i = 0; i < N; i++)
		close(t[i].ep);
	close(l);
	o_sync();
}

static void exclusive_client(void)
{
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	int fd[2];

	for (int i = 0; i < 2; i++) {
		fd[i] = socket(o_family, SOCK_STREAM, 0);
		o_sync();
		if (connect(fd[i], (void *)&to, len))
			o_fail("connect");
	}
	o_sync();
	close(fd[0]);
	close(fd[1]);
}
SCENARIO(exclusive_listener, "EPOLLEXCLUSIVE: sets that wait for one listener", O_BOTH, exclusive_server,
	 exclusive_client)

static void exclusive_watch(void)
{
	int fd = ev_pair(0);
	struct task t[N];

	sets_of(t, fd, 0);
	o_sync();
	o_say("all sets hear of data", "%d", woken(t, N));
	ev_drain(fd);
	for (int i = 0; i < N; i++)
		close(t[i].ep);
	sets_of(t, fd, EPOLLEXCLUSIVE);
	o_sync();
	o_say("exclusive: sets that hear of data", "%d", woken(t, N));
	for (int i = 0; i < N; i++)
		close(t[i].ep);
	close(fd);
	o_sync();
}

static void exclusive_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	ev_give(fd, 1);
	o_sync();
	ev_give(fd, 1);
	o_sync();
	close(fd);
}
WATCHED(exclusive, "EPOLLEXCLUSIVE: sets that wait for one connection", exclusive_watch, exclusive_act)

/* --- the set changes while a thread waits ------------------------------------------------------------- */

static void changes_watch(void)
{
	int fd = ev_pair(0), ep = ev_set(), other, p[2];
	struct task t = { .ep = ep, .ms = SOON, .call = in_epoll };

	if (pipe(p))
		o_fail("pipe");
	o_sync();
	o_wait(fd, POLLIN);
	start_asleep(&t);
	ev_add(ep, fd, EPOLLIN, 1);
	end(&t, "ADD of a ready one ends the wait");
	ev_ctl(ep, EPOLL_CTL_MOD, fd, 0, 2);
	start_asleep(&t);
	ev_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 3);
	end(&t, "MOD ends the wait");
	ev_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0);
	t.ms = 300;
	ev_add(ep, p[0], EPOLLIN, 4);
	start_asleep(&t);
	ev_add(ep, fd, 0, 5);
	ev_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0);
	end(&t, "ADD and DEL of what is not wanted");
	t.ms = SOON;
	start_asleep(&t);
	O("write to the pipe", write(p[1], "x", 1));
	end(&t, "the pipe");
	ev_ctl(ep, EPOLL_CTL_DEL, p[0], 0, 0);
	ev_drain(fd);
	ev_add(ep, fd, EPOLLIN, 6);
	t.ms = 300;
	start_asleep(&t);
	close(fd);
	end(&t, "close of a member");
	other = ev_pair(1);
	ev_add(ep, other, EPOLLIN, 7);
	t.ms = SOON;
	start_asleep(&t);
	close(ep);
	o_sync();
	end(&t, "data after the set was closed");
	close(other);
	close(p[0]);
	close(p[1]);
	o_sync();
}

static void changes_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	ev_give(fd, 1);
	o_wait(fd, POLLRDHUP);
	close(fd);
	fd = ev_pair(1);
	o_sync();
	ev_give(fd, 1);
	o_sync();
	close(fd);
}
WATCHED(set_changes, "ADD, MOD, DEL, close() while a thread waits on the set", changes_watch, changes_act)

/* --- close() of what another thread is in ---------------------------------------------------------------- */

static void close_watch(void)
{
	struct task t = { .call = in_recv };
	int fd;

	fd = t.fd = o_connected(0);
	start_asleep(&t);
	O("close under recv()", close(fd));
	ev_pause(QUIET);
	o_bool("recv() goes on", task_state(t.tid) == 'S');
	o_sync();
	end(&t, "recv() gets what comes then");
	O("the number is closed", recv(fd, t.buf, 1, 0));
	o_sync();
	fd = t.fd = o_connected(1);
	start_asleep(&t);
	O("shutdown under recv()", shutdown(fd, SHUT_RD));
	end(&t, "recv() ends");
	close(fd);
	fd = t.fd = o_connected(2);
	t.call = in_poll;
	t.ms = 400;
	start_asleep(&t);
	O("close under poll()", close(fd));
	end(&t, "poll() goes on");
	fd = t.fd = o_connected(3);
	t.call = in_select;
	start_asleep(&t);
	o_sync();
	end(&t, "select() in a thread");
	close(fd);
	o_sync();
}

static void close_act(void)
{
	int fd[4];
	char c;

	fd[0] = o_connected(0);
	o_sync();
	ev_give(fd[0], 5);
	o_sync();
	o_recv_all(fd[0], &c, 1);
	for (int i = 1; i < 4; i++)
		fd[i] = o_connected(i);
	o_sync();
	ev_give(fd[3], 1);
	o_sync();
	for (int i = 0; i < 4; i++)
		close(fd[i]);
}
WATCHED(close_under, "close() and shutdown() of what another thread waits on", close_watch, close_act)

static void accept_server(void)
{
	int l = o_listener(0);
	struct task t = { .fd = l, .call = in_accept };

	start_asleep(&t);
	O("close under accept()", close(l));
	ev_pause(QUIET);
	o_bool("accept() goes on", task_state(t.tid) == 'S');
	o_sync();
	pthread_join(t.thread, NULL);
	o_bool("accept() takes the next connection", t.r >= 0);
	if (t.r >= 0)
		close((int)t.r);
	o_sync();
	l = o_listener(1);
	t.fd = l;
	start_asleep(&t);
	O("shutdown under accept()", shutdown(l, SHUT_RD));
	end(&t, "accept() ends");
	close(l);
}

static void accept_client(void)
{
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	o_sync();
	O("connect to the closed listener", connect(fd, (void *)&to, len));
	o_sync();
	close(fd);
}
SCENARIO(close_under_accept, "close() and shutdown() of a listener under accept()", O_BOTH, accept_server,
	 accept_client)

/* --- cancellation --------------------------------------------------------------------------------------- */

static void cancel(const char *name, struct task *t)
{
	char label[80];
	void *result;

	start_asleep(t);
	pthread_cancel(t->thread);
	pthread_join(t->thread, &result);
	snprintf(label, sizeof(label), "%s: cancelled", name);
	o_bool(label, result == PTHREAD_CANCELED);
	snprintf(label, sizeof(label), "%s: clean-up handler", name);
	o_bool(label, t->cleaned);
}

static void not_now(struct task *t)
{
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	t->r = recv(t->fd, t->buf, sizeof(t->buf), 0);
	t->ms = 1;
	pthread_setcancelstate(old, NULL);
	pthread_testcancel();
}

static void cancel_watch(void)
{
	static const struct {
		const char *name;
		void (*call)(struct task *t);
	} calls[] = { { "epoll_wait", in_epoll }, { "poll", in_poll }, { "select", in_select },
		      { "recv", in_recv }, { "recvmsg", in_recvmsg }, { "read", in_read } };
	int fd = o_connected(0), ep = ev_set();
	struct task t = { .fd = fd, .ep = ep };

	ev_add(ep, fd, EPOLLIN, 1);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		t.ms = -1;
		t.call = calls[i].call;
		cancel(calls[i].name, &t);
	}
	t.call = not_now;
	t.ms = 0;
	start_asleep(&t);
	pthread_cancel(t.thread);
	o_sync();
	pthread_join(t.thread, NULL);
	o_say("disabled: recv() got", "%ld", t.r);
	o_bool("disabled: it came to its end", t.ms == 1);
	o_sync();
	/* nobody left a lock behind */
	t.ms = SOON;
	t.call = in_recv;
	o_sync();
	start(&t);
	end(&t, "recv() in a new thread");
	ev_show("the set", ep, 8, QUIET);
	O("send", send(fd, "x", 1, 0));
	t.call = in_send;
	cancel("send", &t);
	o_sync();
	close(fd);
	close(ep);
}

static void cancel_act(void)
{
	static char buf[65536];
	int fd = o_connected(0);

	o_sync();
	ev_give(fd, 3);
	o_sync();
	o_sync();
	ev_give(fd, 2);
	o_sync();
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	close(fd);
}
WATCHED(cancelled, "pthread_cancel() in every waiting call; no lock is left held", cancel_watch, cancel_act)

static void cancel_accept(void)
{
	struct task t = { .fd = o_listener(0), .call = in_accept };

	cancel("accept", &t);
	cancel("accept again", &t);
	close(t.fd);
}
SCENARIO(cancelled_accept, "pthread_cancel() in accept()", O_BOTH, cancel_accept, NULL)

/* --- all at once ---------------------------------------------------------------------------------------- */

enum { MANY = 64, BYTES = 20000 };

struct echo {
	pthread_t thread;
	pthread_barrier_t *barrier;
	int fd;
	bool ok;
};

static void *echo_client(void *arg)
{
	struct echo *e = arg;
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	char buf[100] = { 0 }, back[100];

	pthread_barrier_wait(e->barrier);
	e->fd = socket(o_family, SOCK_STREAM, 0);
	memset(buf, (int)(e->fd & 0xff), sizeof(buf));
	e->ok = !connect(e->fd, (void *)&to, len) && o_send_all(e->fd, buf, 100) == 100 &&
		o_recv_all(e->fd, back, 100) == 100 && !memcmp(buf, back, 100);
	close(e->fd);
	return NULL;
}

static void *echo_server(void *arg)
{
	struct echo *e = arg;
	char buf[100];

	pthread_barrier_wait(e->barrier);
	e->fd = accept(e->fd, NULL, NULL);
	e->ok = e->fd >= 0 && o_recv_all(e->fd, buf, 100) == 100 &&
		o_send_all(e->fd, buf, 100) == 100 && recv(e->fd, buf, 1, 0) == 0;
	close(e->fd);
	return NULL;
}

static void at_once(void *(*fn)(void *), int fd)
{
	struct echo e[MANY];
	pthread_barrier_t barrier;
	int good = 0;

	pthread_barrier_init(&barrier, NULL, MANY);
	for (int i = 0; i < MANY; i++) {
		e[i] = (struct echo){ .barrier = &barrier, .fd = fd };
		if (pthread_create(&e[i].thread, NULL, fn, &e[i]))
			o_fail("pthread_create");
	}
	for (int i = 0; i < MANY; i++) {
		pthread_join(e[i].thread, NULL);
		good += e[i].ok;
	}
	o_say("connections that worked", "%d", good);
	pthread_barrier_destroy(&barrier);
}

static void at_once_server(void)
{
	int l = o_listener(0);

	o_sync();
	at_once(echo_server, l);
	close(l);
}

static void at_once_client(void)
{
	o_sync();
	at_once(echo_client, -1);
}
SCENARIO(at_once, "64 threads in accept() and connect() at once", O_BOTH, at_once_server, at_once_client)

/* The very first calls of a program, by all its threads. */
O_CHILD(first_calls)
{
	(void)argc;
	(void)argv;
	at_once(echo_client, -1);
	return 0;
}

static void run_first_calls(void *arg)
{
	(void)arg;
	execl(o_self(), o_self(), "--child", "first_calls", NULL);
	_exit(99);
}

static void first_calls_client(void)
{
	o_sync();
	o_fork("the program", run_first_calls, NULL);
}
SCENARIO(first_calls, "64 threads that make a program's first calls at once", O_BOTH, at_once_server,
	 first_calls_client)

/* One socket, both directions, four threads each way: every byte arrives once. */
struct shared {
	pthread_t thread;
	int fd;
	long sum, bytes;
};

static void *shared_send(void *arg)
{
	struct shared *s = arg;
	char buf[100];

	memset(buf, (int)s->sum, sizeof(buf));
	for (int i = 0; i < BYTES / 100; i++)
		o_send_all(s->fd, buf, sizeof(buf));
	return NULL;
}

static void *shared_recv(void *arg)
{
	struct shared *s = arg;
	char buf[333];
	ssize_t n;

	s->sum = s->bytes = 0;
	while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0) {
		s->bytes += n;
		for (ssize_t i = 0; i < n; i++)
			s->sum += buf[i];
	}
	return NULL;
}

static void shared_both(void)
{
	struct shared out[N], in[N];
	int fd = o_connected(0);
	long sum = 0, bytes = 0;

	for (int i = 0; i < N; i++) {
		out[i] = (struct shared){ .fd = fd, .sum = i + 1 };
		in[i] = (struct shared){ .fd = fd };
		if (pthread_create(&in[i].thread, NULL, shared_recv, &in[i]) ||
		    pthread_create(&out[i].thread, NULL, shared_send, &out[i]))
			o_fail("pthread_create");
	}
	for (int i = 0; i < N; i++)
		pthread_join(out[i].thread, NULL);
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < N; i++) {
		pthread_join(in[i].thread, NULL);
		sum += in[i].sum;
		bytes += in[i].bytes;
	}
	o_say("bytes", "%ld", bytes);
	o_say("sum", "%ld", sum);
	close(fd);
}
SCENARIO(shared, "one socket, several readers and writers on both sides", O_BOTH, shared_both, shared_both)
