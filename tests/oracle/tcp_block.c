/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_block.c - calls that wait: time-outs, signals, other threads */
#include "tcp_help.h"

#include <pthread.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* siginterrupt() */

static volatile sig_atomic_t ran, ran_other;

static void on_alarm(int sig)
{
	(void)sig;
	ran++;
}

static void on_other(int sig)
{
	(void)sig;
	ran_other++;
}

static void arm(unsigned ms, unsigned again_ms)
{
	struct itimerval it = { { again_ms / 1000, again_ms % 1000 * 1000 },
				{ ms / 1000, ms % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void catch(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	sigaction(sig, &sa, NULL);
}

static void fill(int fd)
{
	static char buf[65536];
	bool was = fcntl(fd, F_GETFL) & O_NONBLOCK;

	o_nonblock(fd, true);
	do
		while (send(fd, buf, sizeof(buf), 0) > 0)
			;
	while (poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, 1500) > 0); /* the window is probed for a while */
	while (send(fd, buf, 1, 0) > 0) /* poll() wants more room than that */
		;
	o_nonblock(fd, was);
}

/* --- time-outs ------------------------------------------------------------------------------------ */

static void quiet_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_sync();
	close(fd);
}

static void timeout_client(void)
{
	int fd = o_connected(0), l;
	uint64_t start;

	o_sync();
	t_timeout(fd, SO_RCVTIMEO, 300);
	start = o_now();
	t_recv("recv", fd, 10, 0);
	o_time("recv takes 0.3 s", start, 300);
	start = o_now();
	t_recv("recv MSG_WAITALL", fd, 10, MSG_WAITALL);
	o_time("recv MSG_WAITALL takes 0.3 s", start, 300);
	start = o_now();
	t_recv("recv MSG_PEEK", fd, 10, MSG_PEEK);
	o_time("recv MSG_PEEK takes 0.3 s", start, 300);
	start = o_now();
	t_recv("recv MSG_DONTWAIT", fd, 10, MSG_DONTWAIT);
	o_time("recv MSG_DONTWAIT takes no time", start, 0);
	fill(fd);
	t_timeout(fd, SO_SNDTIMEO, 300);
	start = o_now();
	O("send", send(fd, "x", 1, 0));
	o_time("send takes 0.3 s", start, 300);
	l = o_is_server() ? -1 : t_socket();
	O("bind", t_bind_own(l, o_port(3)));
	O("listen", listen(l, 4));
	t_timeout(l, SO_RCVTIMEO, 300);
	start = o_now();
	O("accept", accept(l, NULL, NULL));
	o_time("accept takes 0.3 s", start, 300);
	close(l);
	o_sync();
	close(fd);
}
SCENARIO(timeout, "SO_RCVTIMEO and SO_SNDTIMEO", O_BOTH, quiet_server, timeout_client)

static void partial_server(void)
{
	int fd = o_connected(0);

	o_send_all(fd, "abc", 3);
	o_sync();
	o_sync();
	o_send_all(fd, "def", 3);
	shutdown(fd, SHUT_WR);
	o_sync();
	close(fd);
}

static void partial_client(void)
{
	int fd = o_connected(0);
	uint64_t start;

	o_sync();
	o_wait_bytes(fd, 3);
	t_timeout(fd, SO_RCVTIMEO, 300);
	start = o_now();
	t_recv("peek all", fd, 10, MSG_PEEK | MSG_WAITALL);
	o_time("peek takes 0.3 s", start, 300);
	start = o_now();
	t_recv("some of MSG_WAITALL", fd, 10, MSG_WAITALL);
	o_time("takes 0.3 s", start, 300);
	o_sync();
	t_recv("rest of MSG_WAITALL until EOF", fd, 10, MSG_WAITALL);
	o_sync();
	close(fd);
}
SCENARIO(partial, "MSG_WAITALL gives what it has when time or stream ends", O_BOTH, partial_server,
	 partial_client)

static void lowat_server(void)
{
	int fd = o_connected(0);

	o_sync();
	o_send_all(fd, "abc", 3);
	o_sync();
	poll(NULL, 0, 200);
	o_send_all(fd, "defghi", 6); /* Linux wakes the reader for six at once only */
	o_sync();
	close(fd);
}

static void lowat_client(void)
{
	int fd = o_connected(0);

	t_set(fd, SOL_SOCKET, SO_RCVLOWAT, 6);
	o_sync();
	o_wait_bytes(fd, 3);
	t_poll("poll below", fd);
	t_recv("not waiting", fd, 2, MSG_DONTWAIT | MSG_PEEK);
	o_sync();
	t_recv("recv waits for the mark", fd, 100, 0);
	o_sync();
	close(fd);
}
SCENARIO(lowat, "SO_RCVLOWAT", O_BOTH, lowat_server, lowat_client)

/* --- signals ------------------------------------------------------------------------------------------- */

static void signal_recv_child(void *arg)
{
	int fd = *(int *)arg;
	uint64_t start = o_now();

	catch(SIGALRM, on_alarm, 0);
	arm(200, 0);
	t_recv("recv", fd, 10, 0);
	o_time("recv after 0.2 s", start, 200);
	arm(200, 0);
	O("read", read(fd, &(char){ 0 }, 1));
	arm(200, 0);
	t_recv("MSG_WAITALL", fd, 10, MSG_WAITALL);
	arm(200, 0);
	O("poll", poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 5000));
	fill(fd);
	arm(200, 0);
	O("send", send(fd, "x", 1, 0));
}

static void restart_child(void *arg)
{
	int fd = *(int *)arg;
	uint64_t start = o_now();

	/* one handler restarts, the other does not: what counts is which ran */
	catch(SIGALRM, on_alarm, SA_RESTART);
	catch(SIGUSR1, on_other, 0);
	arm(100, 100);
	o_sync();
	t_recv("recv goes on", fd, 3, 0); /* the server waits for a while */
	o_bool("handler ran", ran > 0);
	t_timeout(fd, SO_RCVTIMEO, 3000);
	start = o_now();
	t_recv("with SO_RCVTIMEO it does not", fd, 3, 0);
	o_bool("soon", o_now() - start < 1000000000u);
	arm(100, 100);
	start = o_now();
	O("poll never", poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 3000));
	o_bool("poll soon", o_now() - start < 1000000000u);
	arm(0, 0);
}

static void later_server(void)
{
	int fd = o_connected(0);

	o_sync();
	poll(NULL, 0, 500);
	o_send_all(fd, "abc", 3);
	o_sync();
	close(fd);
}

static void restart_client(void)
{
	int fd = o_connected(0);

	o_fork("child", restart_child, &fd);
	o_sync();
	close(fd);
}
SCENARIO(restart, "SA_RESTART of the handler that ran", O_BOTH, later_server, restart_client)

static void signal_client(void)
{
	int fd = o_connected(0);

	o_sync();
	o_fork("child", signal_recv_child, &fd);
	o_sync();
	close(fd);
}
SCENARIO(interrupted, "EINTR", O_BOTH, quiet_server, signal_client)

/* In one process: the connection is not the parent's. */
static void own_child(void *arg)
{
	struct sigaction old;
	int fd = o_connected(1), r;
	uint64_t start = o_now();

	(void)arg;
	catch(SIGALRM, on_alarm, SA_RESTART);
	catch(SIGUSR1, on_other, 0);
	sigaction(SIGALRM, NULL, &old);
	o_bool("own handler", old.sa_handler == on_alarm && old.sa_flags & SA_RESTART &&
	       !(old.sa_flags & SA_SIGINFO));
	o_bool("signal() tells it", signal(SIGALRM, on_other) == on_alarm);
	o_bool("signal() tells the next", signal(SIGALRM, on_alarm) == on_other);
	sigaction(SIGALRM, NULL, &old);
	o_bool("signal() restarts", old.sa_handler == on_alarm && old.sa_flags & SA_RESTART);
	arm(100, 100);
	o_sync();
	t_recv("recv goes on", fd, 3, 0);
	o_bool("handler ran", ran > 0);
	siginterrupt(SIGALRM, 1);
	start = o_now();
	t_recv("siginterrupt()", fd, 3, 0);
	o_bool("soon", o_now() - start < 1000000000u);
	siginterrupt(SIGALRM, 0);
	catch(SIGALRM, on_alarm, SA_RESETHAND);
	arm(100, 0);
	t_recv("SA_RESETHAND", fd, 3, 0);
	sigaction(SIGALRM, NULL, &old);
	o_bool("reset to the default", old.sa_handler == SIG_DFL);
	r = (int)sigaction(SIGKILL, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	o_ret("SIGKILL", r);
	O("signal 0", sigaction(0, NULL, &old));
	O("signal 65", sigaction(65, NULL, &old));
	o_sync();
	close(fd);
}

static void own_server(void)
{
	int fd = o_connected(1);

	o_sync();
	poll(NULL, 0, 500);
	o_send_all(fd, "abc", 3);
	o_sync();
	close(fd);
}

static void own_client(void)
{
	o_fork("child", own_child, NULL);
}
SCENARIO(restart_own, "handlers set by sigaction(), signal(), siginterrupt()", O_BOTH, own_server,
	 own_client)

static void got_some_child(void *arg)
{
	int fd = o_connected(1);

	(void)arg;
	catch(SIGALRM, on_alarm, 0);
	o_sync();
	o_wait_bytes(fd, 3);
	arm(200, 0);
	t_recv("what was there", fd, 10, MSG_WAITALL);
	o_sync();
	close(fd);
}

static void got_some_server(void)
{
	int fd = o_connected(1);

	o_send_all(fd, "abc", 3);
	o_sync();
	o_sync();
	close(fd);
}

static void got_some_client(void)
{
	o_fork("child", got_some_child, NULL);
}
SCENARIO(interrupted_part, "a signal in the middle of MSG_WAITALL: what came counts", O_BOTH,
	 got_some_server, got_some_client)

/* --- threads ---------------------------------------------------------------------------------------------- */

static void *reader(void *arg)
{
	char c;

	return (void *)recv(*(int *)arg, &c, 1, 0);
}

static void *waiter(void *arg)
{
	struct pollfd p = { *(int *)arg, POLLIN | POLLRDHUP, 0 };

	poll(&p, 1, 5000);
	return (void *)(long)p.revents;
}

static void threads_client(void)
{
	int fd = o_connected(0);
	pthread_t a, b;
	void *ra, *rb;

	o_sync();
	pthread_create(&a, NULL, reader, &fd);
	pthread_create(&b, NULL, waiter, &fd);
	poll(NULL, 0, 100);
	O("shutdown", shutdown(fd, SHUT_RD));
	pthread_join(a, &ra);
	pthread_join(b, &rb);
	o_say("recv in another thread", "%ld", (long)ra);
	o_events("poll in another thread", (unsigned)(long)rb);
	o_sync();
	close(fd);
}
SCENARIO(threads, "shutdown() wakes other threads", O_BOTH, quiet_server, threads_client)
