/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/proc_fork.c - connections that processes share by fork, across generations
 *
 * Whoever records while others may, too, waits for them first.
 */
#include "oracle.h"
#include "talk.h"

#include <pthread.h>

static void wait_for(const char *label, pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		o_fail("waitpid");
	o_status(label, status);
}

/* --- one generation ------------------------------------------------------------------------------ */

static void child_serves(void *arg)
{
	int fd = *(int *)arg;

	serve(fd, "child");
	O("child: close", close(fd));
}

static void child_server(void)
{
	int fd = o_connected(0);
	pid_t pid = o_spawn(child_serves, &fd);

	O("close", close(fd));
	wait_for("child", pid);
}

static void one_request(void)
{
	int fd = o_connected(0);

	ask(fd, "one.");
	see_end(fd);
}
SCENARIO(child_serves, "accept, fork, close in the parent: the child serves", O_BOTH, child_server,
	 one_request)

static void in_turns_server(void)
{
	int fd = o_connected(0);
	pid_t pid = o_spawn(child_serves, &fd);

	wait_for("child", pid);
	serve(fd, "parent");
	O("close", close(fd));
}

static void two_requests(void)
{
	int fd = o_connected(0);

	ask(fd, "one.");
	ask(fd, "two.");
	see_end(fd);
}
SCENARIO(in_turns, "the child serves and closes, then the parent serves on", O_BOTH, in_turns_server,
	 two_requests)

static void client_side(void)
{
	int fd = o_connected(0);
	pid_t pid = fork();

	if (pid == 0) {
		ask(fd, "one.");
		_exit(0);
	}
	wait_for("child", pid);
	ask(fd, "two.");
	see_end(fd);
}

static void two_served(void)
{
	int fd = o_connected(0);
	char c;

	serve(fd, "server");
	serve(fd, "server again");
	O("the end", 0);
	close(fd);
	(void)c;
}
SCENARIO(client_forks, "a client's child asks, then the client itself", O_BOTH, two_served, client_side)

/* --- generations ------------------------------------------------------------------------------------ */

struct line {
	int fd, depth;
};

/* Each but the last only forks and waits. */
static void generation(void *arg)
{
	struct line *l = arg;
	pid_t pid;

	if (--l->depth == 0) {
		serve(l->fd, "the last");
		close(l->fd);
		return;
	}
	pid = o_spawn(generation, l);
	close(l->fd);
	wait_for(l->depth == 1 ? "grandchild" : "great-grandchild's parent", pid);
}

static void generations_server(int depth)
{
	struct line l = { o_connected(0), depth };
	pid_t pid = o_spawn(generation, &l);

	O("close", close(l.fd));
	wait_for("child", pid);
}

static void grandchild_server(void)
{
	generations_server(2);
}
SCENARIO(grandchild, "the child's child serves", O_BOTH, grandchild_server, one_request)

static void great_grandchild_server(void)
{
	generations_server(3);
}
SCENARIO(great_grandchild, "and its child", O_BOTH, great_grandchild_server, one_request)

static void all_three_child(void *arg)
{
	int fd = *(int *)arg;
	pid_t pid = o_spawn(child_serves, &fd);

	wait_for("grandchild", pid);
	serve(fd, "the child itself");
}

static void all_three_server(void)
{
	int fd = o_connected(0);
	pid_t pid = o_spawn(all_three_child, &fd);

	wait_for("child", pid);
	serve(fd, "parent");
	O("close", close(fd));
}

static void three_requests(void)
{
	int fd = o_connected(0);

	ask(fd, "one.");
	ask(fd, "two.");
	ask(fd, "3...");
	see_end(fd);
}
SCENARIO(three_generations, "grandchild, child and parent serve one after the other", O_BOTH,
	 all_three_server, three_requests)

/* --- who has the connection first ends ---------------------------------------------------------------- */

/* The process that accepted ends by exit(); its child lives on and serves. */
static void daemon_main(void *arg)
{
	int fd = o_connected(0), alive[2];
	pid_t pid;
	char c;

	if (pipe(alive))
		o_fail("pipe");
	pid = fork();
	if (pid == 0) {
		close(alive[1]);
		O("daemon: the other has ended", read(alive[0], &c, 1));
		serve(fd, "daemon");
		serve(fd, "daemon again");
		_exit(0);
	}
}

static void daemon_server(void)
{
	o_fork("the first process", daemon_main, NULL);
	o_sync(); /* the client has been served */
}

static void daemon_client(void)
{
	int fd = o_connected(0);

	ask(fd, "one.");
	ask(fd, "two.");
	see_end(fd);
	o_sync();
}
SCENARIO(outlives, "the process that accepted ends, its child serves on", O_BOTH, daemon_server,
	 daemon_client)

/* Fork twice, both intermediates gone: the usual daemon, but with a connection. */
static void double_main(void *arg)
{
	int fd = o_connected(0), alive[2];
	pid_t pid;
	char c;

	if (pipe(alive))
		o_fail("pipe");
	pid = fork();
	if (pid == 0) {
		setsid();
		if (fork())
			_exit(0);
		close(alive[1]);
		O("daemon: the others have ended", read(alive[0], &c, 1));
		serve(fd, "daemon");
		serve(fd, "daemon again");
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void double_server(void)
{
	o_fork("the first process", double_main, NULL);
	o_sync();
}
SCENARIO(double_fork, "fork twice, the first two end, the third serves", O_BOTH, double_server,
	 daemon_client)

static void closed_first_main(void *arg)
{
	int fd = o_connected(0), alive[2];
	char c;

	if (pipe(alive))
		o_fail("pipe");
	if (fork() == 0) {
		close(alive[1]);
		O("child: the other has ended", read(alive[0], &c, 1));
		serve(fd, "child");
		serve(fd, "child again");
		_exit(0);
	}
	close(fd);
}

static void closed_first_server(void)
{
	o_fork("the first process", closed_first_main, NULL);
	o_sync();
}
SCENARIO(outlives_closed, "the same when it had closed its descriptor before", O_BOTH, closed_first_server,
	 daemon_client)

static void midway_main(void *arg)
{
	int fd = o_connected(0);
	static char buf[200000];
	pid_t pid = fork();

	if (pid == 0) {
		/* the parent ends somewhere in the middle of this */
		O("child: recv all", o_recv_all(fd, buf, sizeof(buf)));
		O("child: send all", o_send_all(fd, buf, sizeof(buf)));
		_exit(0);
	}
	o_wait_bytes(fd, 20000);
}

static void midway_server(void)
{
	o_fork("the first process", midway_main, NULL);
	o_sync();
}

static void midway_client(void)
{
	static char out[200000], in[200000];
	int fd = o_connected(0);

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 13 + i / 256);
	O("send all", o_send_all(fd, out, sizeof(out)));
	O("recv all", o_recv_all(fd, in, sizeof(in)));
	o_bool("content", !memcmp(in, out, sizeof(in)));
	see_end(fd);
	o_sync();
}
SCENARIO(ends_midway, "the process that accepted ends while its child is at it", O_BOTH, midway_server,
	 midway_client)

/* --- threads ------------------------------------------------------------------------------------------------ */

static void *fork_in_thread(void *arg)
{
	pid_t pid = o_spawn(child_serves, arg);

	wait_for("child of a thread", pid);
	return NULL;
}

static void thread_server(void)
{
	int fd = o_connected(0);
	pthread_t t;

	if (pthread_create(&t, NULL, fork_in_thread, &fd))
		o_fail("pthread_create");
	pthread_join(t, NULL);
	serve(fd, "parent");
	O("close", close(fd));
}
SCENARIO(forked_by_a_thread, "a thread forks, the child serves", O_BOTH, thread_server, two_requests)

/* --- prefork --------------------------------------------------------------------------------------------------- */

static void worker_main(void *arg)
{
	int lst = *(int *)arg, fd = accept(lst, NULL, NULL);

	serve(fd, "worker");
	close(fd);
	close(lst);
}

static void prefork_server(void)
{
	int lst = o_listener(0);
	pid_t pid = o_spawn(worker_main, &lst);

	o_tell(0); /* o_sync() would poll the listener in this process */
	wait_for("worker", pid);
	O("close", close(lst));
}

static void prefork_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	o_hear();
	O("connect", connect(fd, (void *)&a, len));
	ask(fd, "one.");
	see_end(fd);
}
SCENARIO(prefork, "a listener made before fork is accepted from in the child", O_BOTH, prefork_server,
	 prefork_client)

/* --- the end ------------------------------------------------------------------------------------------------------- */

static void exit_open(void *arg)
{
	int fd = o_connected(0);

	send(fd, "bye", 3, 0);
	_exit(0); /* without close() */
}

static void exits_server(void)
{
	o_fork("the process", exit_open, NULL);
}

static void exits_client(void)
{
	int fd = o_connected(0);
	char buf[4];

	o_bytes("bye", buf, O("recv", o_recv_all(fd, buf, 3)));
	see_end(fd);
}
SCENARIO(exit_without_close, "a process that ends: its data arrives, then the end", O_BOTH, exits_server,
	 exits_client)

static void exit_full(void *arg)
{
	int fd = o_connected(0);
	char *p = calloc(1, 1 << 20);
	long at = 0;
	ssize_t n;

	o_nonblock(fd, true);
	while ((n = send(fd, p, 1 << 20, 0)) > 0)
		at += n;
	o_tell(at);
	if (arg)
		close(fd);
	_exit(0);
}

static void exit_full_server(void)
{
	o_fork("the process", exit_full, NULL);
	o_sync();
}

static void exit_full_client(void)
{
	int fd = o_connected(0);
	long n = o_hear();
	char *p = malloc((size_t)n + 1);

	o_sync(); /* it has ended */
	o_bool("all of it", o_recv_all(fd, p, (size_t)n) == n);
	free(p);
	see_end(fd);
}
SCENARIO(exit_with_unsent_data, "what a slow peer had not taken when the process ended still comes", O_BOTH,
	 exit_full_server, exit_full_client)

static void close_full_server(void)
{
	o_fork("the process", exit_full, "close");
	o_sync();
}
SCENARIO(close_and_exit_with_unsent_data, "the same after close()", O_BOTH, close_full_server,
	 exit_full_client)

/* --- threads ------------------------------------------------------------------------------------- */

struct reader {
	int fd;
	pid_t tid; /* atomic; 0 = not there yet */
};

static void *reads_once(void *arg)
{
	struct reader *r = arg;
	char buf[4];

	__atomic_store_n(&r->tid, gettid(), __ATOMIC_SEQ_CST);
	o_bytes("the thread reads", buf, o_recv_all(r->fd, buf, 4));
	return NULL;
}

/* Does the thread sleep, in recv()? */
static bool reader_sleeps(void *arg)
{
	struct reader *r = arg;
	char path[64], line[256] = "", *p;
	pid_t tid = __atomic_load_n(&r->tid, __ATOMIC_SEQ_CST);
	FILE *f;

	if (!tid)
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f))
		o_fail("%s", path);
	fclose(f);
	p = strrchr(line, ')');
	return p && p[2] == 'S';
}

struct heir {
	int fd, pipe[2];
};

static void closes_and_stays(void *arg)
{
	struct heir *h = arg;
	char c;

	O("child: close", close(h->fd));
	close(h->pipe[1]);
	(void)!read(h->pipe[0], &c, 1);
}

static void blocked_reader_server(void)
{
	struct heir h = {.fd = o_connected(0)};
	struct reader r = {.fd = h.fd};
	pthread_t t;
	pid_t pid;

	if (pipe(h.pipe) || pthread_create(&t, NULL, reads_once, &r))
		o_fail("pipe, pthread_create");
	o_bool("the thread waits", o_until(reader_sleeps, &r));
	pid = o_spawn(closes_and_stays, &h);
	close(h.pipe[0]);
	o_sync();
	pthread_join(t, NULL);
	O("close", close(h.fd));
	o_sync(); /* the end was seen while the child lives */
	close(h.pipe[1]);
	wait_for("child", pid);
}

static void blocked_reader_client(void)
{
	int fd = o_connected(0);
	char c;

	o_sync();
	o_send_all(fd, "one.", 4);
	o_events("the end comes", o_wait(fd, POLLIN));
	O("recv", recv(fd, &c, 1, MSG_DONTWAIT));
	close(fd);
	o_sync();
}
SCENARIO(fork_beside_a_reader, "fork while another thread blocks in recv(): the child's close() counts", O_BOTH,
	 blocked_reader_server, blocked_reader_client)
