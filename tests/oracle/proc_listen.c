/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/proc_listen.c - one listener, several processes, and who of them waits on it */
#include "oracle.h"

#include <sys/resource.h>
#include <sys/time.h>

/* Accept one connection and answer its request. */
static void serve_nth(int lst, const char *who, int nth)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[16], label[64];
	int fd;

	snprintf(label, sizeof(label), "%s accepts %d", who, nth);
	fd = (int)O_OK(label, accept(lst, (void *)&a, &len));
	snprintf(label, sizeof(label), "%s: peer %d", who, nth);
	o_addr(label, &a, len);
	snprintf(label, sizeof(label), "%s: request %d", who, nth);
	o_bytes(label, buf, o_recv_all(fd, buf, 4));
	o_send_all(fd, who, strlen(who));
	close(fd);
}

static void serve_one(int lst, const char *who)
{
	serve_nth(lst, who, 0);
}

struct turn {
	int lst;
	const char *who;
	int first, times;
};

static void child_serves(void *arg)
{
	struct turn *t = arg;

	for (int i = 0; i < t->times; i++)
		serve_nth(t->lst, t->who, t->first + i);
}

/* Ask once; whoever serves says who it is. */
static int ask_begin(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	if (connect(fd, (void *)&a, len))
		o_fail("connect");
	o_send_all(fd, "who?", 4);
	return fd;
}

static void ask_end(const char *label, int fd)
{
	char buf[64];

	o_wait(fd, POLLIN);
	o_bytes(label, buf, o_recv_all(fd, buf, sizeof(buf)));
	close(fd);
}

/* The parent looked at the listener once; only the child accepts. */
static void looked_server(void)
{
	struct turn t = {o_listener(0), "child", 0, 2};
	pid_t pid;

	o_events("parent polls", o_poll(t.lst, POLLIN));
	pid = o_spawn(child_serves, &t);
	o_sync();
	waitpid(pid, NULL, 0);
	close(t.lst);
	o_sync();
}

static void looked_client(void)
{
	o_sync();
	ask_end("first", ask_begin());
	ask_end("second", ask_begin());
	o_sync();
}
SCENARIO(parent_only_looked, "the parent polled a listener, its child accepts", O_BOTH, looked_server,
	 looked_client)

/* As inetd does in wait mode: poll, then a child accepts what waits, and more; then the parent again. */
static void wait_mode_server(void)
{
	struct turn t = {o_listener(0), "child", 0, 3};
	pid_t pid;

	for (int round = 0; round < 2; round++) {
		o_sync();
		o_events(round ? "parent polls again" : "parent polls", o_wait(t.lst, POLLIN));
		o_sync();
		pid = o_spawn(child_serves, &t);
		waitpid(pid, NULL, 0);
		t.first += t.times;
	}
	o_sync();
	serve_one(t.lst, "parent");
	close(t.lst);
	o_sync();
}

static void wait_mode_client(void)
{
	for (int round = 0; round < 2; round++) {
		int first, second;

		o_sync();
		first = ask_begin();
		second = ask_begin();
		o_sync();
		ask_end(round ? "was waiting again" : "was waiting", first);
		ask_end(round ? "was waiting again, too" : "was waiting, too", second);
		ask_end(round ? "comes later again" : "comes later", ask_begin());
	}
	o_sync();
	ask_end("at last", ask_begin());
	o_sync();
}
SCENARIO(wait_mode, "inetd's wait mode: the parent polls, a child accepts what waits and what comes", O_BOTH,
	 wait_mode_server, wait_mode_client)

/* In turns, both alive all the time. */
struct turns {
	int lst, go[2], done[2];
};

static void turns_child(void *arg)
{
	struct turns *t = arg;
	char c;

	close(t->go[1]);
	while (read(t->go[0], &c, 1) == 1) {
		serve_one(t->lst, c == '0' ? "child, first" : "child, second");
		if (write(t->done[1], &c, 1) != 1)
			_exit(1);
	}
}

static void turns_server(void)
{
	struct turns t = {.lst = o_listener(0)};
	pid_t pid;
	char c;

	if (pipe(t.go) || pipe(t.done))
		o_fail("pipe");
	o_poll(t.lst, POLLIN);
	pid = o_spawn(turns_child, &t);
	for (int i = 0; i < 2; i++) {
		o_sync();
		if (write(t.go[1], &"01"[i], 1) != 1 || read(t.done[0], &c, 1) != 1)
			o_fail("the child");
		o_sync();
		serve_one(t.lst, i ? "parent, second" : "parent, first");
	}
	close(t.go[1]);
	waitpid(pid, NULL, 0);
	close(t.go[0]);
	close(t.done[0]);
	close(t.done[1]);
	close(t.lst);
	o_sync();
}

static void turns_client(void)
{
	for (int i = 0; i < 4; i++) {
		char label[16];

		o_sync();
		snprintf(label, sizeof(label), "answer %d", i);
		ask_end(label, ask_begin());
	}
	o_sync();
}
SCENARIO(in_turns_accept, "parent and child accept in turns from one listener", O_BOTH, turns_server,
	 turns_client)

/* --- while handlers run ------------------------------------------------------------------------------ */

#define MANY 24

static void tick(int sig)
{
}

/* A handler runs all the time, and ends calls. */
static int accept_again(int lst)
{
	int fd;

	do
		fd = accept(lst, NULL, NULL);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static void interrupted_child(void *arg)
{
	struct itimerval often = {{0, 300}, {0, 300}}, off = {0};
	struct sigaction act = {.sa_handler = tick};
	int lst = *(int *)arg, fd[MANY], n = 0;
	char c = 0;

	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < MANY; i++)
		n += (fd[i] = accept_again(lst)) >= 0;
	setitimer(ITIMER_REAL, &off, NULL);
	o_say("accepted beside a timer", "%d of %d", n, MANY);
	for (int i = n = 0; i < MANY; i++) {
		n += o_recv_all(fd[i], &c, 1) == 1 && c == 'x';
		close(fd[i]);
	}
	o_say("alive", "%d", n);
}

/* The parent looks; when the connections are there, a child serves. */
static void queue_server(void (*child)(void *arg))
{
	int lst = o_listener(0), status;
	pid_t pid;

	o_poll(lst, POLLIN);
	o_sync();
	o_sync(); /* all are connected */
	pid = o_spawn(child, &lst);
	waitpid(pid, &status, 0);
	o_status("child", status);
	close(lst);
	o_sync();
}

static void interrupted_server(void)
{
	queue_server(interrupted_child);
}

static void queue_client(int n)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd[MANY];

	o_sync();
	for (int i = 0; i < n; i++) {
		fd[i] = socket(o_family, SOCK_STREAM, 0);
		if (connect(fd[i], (void *)&a, len))
			o_fail("connect");
		o_send_all(fd[i], "x", 1);
	}
	o_sync();
	o_sync();
	for (int i = 0; i < n; i++)
		close(fd[i]);
}

static void interrupted_client(void)
{
	queue_client(MANY);
}
SCENARIO(accept_interrupted, "a child takes over a full queue while signals interrupt it", O_BOTH,
	 interrupted_server, interrupted_client)

/* --- the last descriptor ------------------------------------------------------------------------------- */

static void poor_child(void *arg)
{
	struct rlimit lim;
	int lst = *(int *)arg, fds[4096], n = 0, got = 0, fd, limited = 0;
	char c = 0;

	o_events("the child polls", o_wait(lst, POLLIN));
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_cur < 4096 ? lim.rlim_cur : 4096;
	setrlimit(RLIMIT_NOFILE, &lim);
	while ((fd = dup(lst)) >= 0)
		fds[n++] = fd;
	close(fds[--n]); /* one is left */
	for (int i = 0; i < 6; i++) {
		fd = accept(lst, NULL, NULL);
		got += fd >= 0 && o_recv_all(fd, &c, 1) == 1 && c == 'x';
		limited += accept(lst, NULL, NULL) < 0 && errno == EMFILE;
		close(fd);
	}
	while (n)
		close(fds[--n]);
	o_say("served", "%d", got);
	o_bool("none while another is open", limited > 0);
}

static void poor_server(void)
{
	queue_server(poor_child);
}

static void poor_client(void)
{
	queue_client(7);
}
SCENARIO(accept_one_descriptor, "a child takes over a queue with one descriptor left: the others stay", O_BOTH,
	 poor_server, poor_client)
