/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/select.c - select() and pselect() */
#include "tests/oracle/events.h"

/* The three sets of one call, by descriptor letters. */
struct sets {
	fd_set r, w, e;
};

/* What is left in the sets of each of the descriptors: "1 r w -" and so on. */
static void show(const char *label, int n, const struct sets *s, const int *fds, int nfds)
{
	char text[300];
	size_t at = (size_t)snprintf(text, sizeof(text), "%d", n);

	if (n < 0)
		at = (size_t)snprintf(text, sizeof(text), "%s", strerrorname_np(errno));
	for (int i = 0; i < nfds; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, " %s%s%s%s",
				       FD_ISSET(fds[i], &s->r) ? "r" : "",
				       FD_ISSET(fds[i], &s->w) ? "w" : "",
				       FD_ISSET(fds[i], &s->e) ? "e" : "",
				       FD_ISSET(fds[i], &s->r) || FD_ISSET(fds[i], &s->w) ||
				       FD_ISSET(fds[i], &s->e) ? "" : "-");
	o_say(label, "%s", text);
}

static void fill(struct sets *s, const int *fds, int nfds)
{
	FD_ZERO(&s->r);
	FD_ZERO(&s->w);
	FD_ZERO(&s->e);
	for (int i = 0; i < nfds; i++) {
		FD_SET(fds[i], &s->r);
		FD_SET(fds[i], &s->w);
		FD_SET(fds[i], &s->e);
	}
}

/* All three sets full of the descriptors, then what the call leaves. */
static void ask(const char *label, const int *fds, int nfds, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	struct sets s;
	int max = 0, n;

	for (int i = 0; i < nfds; i++)
		max = fds[i] > max ? fds[i] : max;
	fill(&s, fds, nfds);
	n = select(max + 1, &s.r, &s.w, &s.e, &tv);
	show(label, n, &s, fds, nfds);
}

static void readable(const char *label, const int *fds, int nfds, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	struct sets s;
	int n;

	fill(&s, fds, nfds);
	FD_ZERO(&s.w);
	FD_ZERO(&s.e);
	n = select(FD_SETSIZE, &s.r, NULL, NULL, &tv);
	show(label, n, &s, fds, nfds);
}

static void states_watch(void)
{
	int fd = ev_pair(0), p[2], fds[4];

	if (pipe(p))
		o_fail("pipe");
	fds[0] = fd;
	fds[1] = p[0];
	fds[2] = p[1];
	fds[3] = socket(o_family, SOCK_STREAM, 0);
	ask("all at once", fds, 4, SOON);
	readable("nothing to read", fds, 2, QUIET);
	o_sync();
	readable("data", fds, 2, SOON);
	O("write", write(p[1], "x", 1));
	readable("and the pipe", fds, 2, SOON);
	ask("data, all sets", fds, 3, SOON);
	ev_drain(fd);
	o_sync();
	ev_drain(p[0]);
	o_wait(fd, POLLRDHUP);
	ask("peer shut", fds, 1, SOON);
	shutdown(fd, SHUT_WR);
	o_sync();
	o_wait(fd, POLLHUP);
	ask("both shut", fds, 1, SOON);
	close(fd);
	close(fds[3]);
	fds[0] = fd = ev_pair(1);
	o_sync();
	o_wait(fd, POLLERR);
	ask("reset", fds, 1, SOON);
	close(fd);
	fds[0] = fd = ev_pair(2);
	o_sync();
	o_wait(fd, POLLPRI);
	o_wait(fd, POLLIN);
	ask("urgent, after data", fds, 1, SOON);
	close(fd);
	close(p[0]);
	close(p[1]);
	o_sync();
}

static void states_act(void)
{
	int fd = ev_pair(0);
	char c;

	o_sync();
	ev_give(fd, 1);
	o_sync();
	shutdown(fd, SHUT_WR);
	o_recv_all(fd, &c, 1);
	o_sync();
	close(fd);
	fd = ev_pair(1);
	o_sync();
	o_reset_close(fd);
	fd = ev_pair(2);
	o_sync();
	send(fd, "a!", 2, MSG_OOB);
	o_sync();
	close(fd);
}
WATCHED(select_states, "select(): which sets, in which states", states_watch, states_act)

static void errors_watch(void)
{
	int fd = ev_pair(0), dead = dup(fd), fds[2] = { fd, dead };
	struct timespec bad = { 0, 1000000000 }, neg = { -1, 0 }, ts = { 0, 20000000 };
	fd_set *volatile wild = (void *)8, r;
	struct timeval tv = { 0, 20000 };
	struct sets s;
	uint64_t start;
	int n;

	close(dead);
	fill(&s, fds, 2);
	errno = 0;
	n = select(FD_SETSIZE, &s.r, &s.w, &s.e, &tv);
	show("a closed one: sets stay", n, &s, fds, 2);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	O("negative n", select(-1, &r, NULL, NULL, NULL));
	o_bool("set stays", FD_ISSET(fd, &r));
	tv = (struct timeval){ 0, -1 };
	O("negative time", select(fd + 1, &r, NULL, NULL, &tv));
	tv = (struct timeval){ -1, 0 };
	O("negative seconds", select(fd + 1, &r, NULL, NULL, &tv));
	O("pselect, too many ns", pselect(fd + 1, &r, NULL, NULL, &bad, NULL));
	O("pselect, negative time", pselect(fd + 1, &r, NULL, NULL, &neg, NULL));
	O("wild set", select(fd + 1, wild, NULL, NULL, NULL));
	o_bool("set stays after a wild one", FD_ISSET(fd, &r));
	tv = (struct timeval){ 0, 20000 };
	start = o_now();
	O("time-out", select(fd + 1, &r, NULL, NULL, &tv));
	o_time("took 20 ms", start, 20);
	o_say("time left", "%ld %ld", (long)tv.tv_sec, (long)tv.tv_usec);
	o_bool("set is empty", !FD_ISSET(fd, &r));
	FD_SET(fd, &r);
	tv = (struct timeval){ 0, 1020000 };
	o_sync();
	O("microseconds past a second", select(fd + 1, &r, NULL, NULL, &tv));
	o_bool("time is left", tv.tv_sec > 0 || tv.tv_usec > 0);
	o_bool("normal form", tv.tv_usec < 1000000);
	ev_drain(fd);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	start = o_now();
	O("pselect", pselect(fd + 1, &r, NULL, NULL, &ts, NULL));
	o_time("pselect took 20 ms", start, 20);
	o_bool("time not changed", ts.tv_sec == 0 && ts.tv_nsec == 20000000);
	FD_SET(fd, &r);
	O("n leaves it out", select(fd, &r, NULL, NULL, &(struct timeval){ 0 }));
	o_bool("it stays in the set", FD_ISSET(fd, &r));
	O("n is larger than any descriptor", select(FD_SETSIZE, &r, NULL, NULL, &(struct timeval){ 0 }));
	start = o_now();
	O("no sets", select(0, NULL, NULL, NULL, &(struct timeval){ 0, 20000 }));
	o_time("as a sleep", start, 20);
	start = o_now();
	O("no sets, large n", select(FD_SETSIZE, NULL, NULL, NULL, &(struct timeval){ 0, 20000 }));
	o_time("as a sleep, too", start, 20);
	close(fd);
	o_sync();
}

static void errors_act(void)
{
	int fd = ev_pair(0);

	o_sync();
	ev_pause(20);
	ev_give(fd, 1);
	o_sync();
	close(fd);
}
WATCHED(select_calls, "select() and pselect(): arguments, time-outs, the time that is left",
	errors_watch, errors_act)

/* Sets that a program allocates itself may be larger than fd_set. */
static void large_child(void *arg)
{
	struct rlimit lim = { 2100, 2100 };
	int fd = *(int *)arg, high;
	unsigned long *set = calloc(1, 2048 / 8);

	if (setrlimit(RLIMIT_NOFILE, &lim)) {
		getrlimit(RLIMIT_NOFILE, &lim);
		lim.rlim_cur = 2100;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	high = fcntl(fd, F_DUPFD, 2000);
	o_say("high number", "%d", high);
	if (high < 0)
		return;
	set[high / 64] |= 1ul << (high % 64);
	O("select past FD_SETSIZE", select(2048, (fd_set *)set, NULL, NULL,
					   &(struct timeval){ 5, 0 }));
	o_bool("in the set", set[high / 64] >> (high % 64) & 1);
	ev_drain(fd);
	O("nothing there", select(2048, (fd_set *)set, NULL, NULL, &(struct timeval){ 0 }));
	o_bool("not in the set", !(set[high / 64] >> (high % 64) & 1));
	free(set);
}

static void large_watch(void)
{
	int fd = ev_pair(0);

	o_sync();
	o_wait(fd, POLLIN);
	o_fork("child", large_child, &fd);
	o_sync();
	close(fd);
}

static void large_act(void)
{
	int fd = ev_pair(0);

	ev_give(fd, 1);
	o_sync();
	o_sync();
	close(fd);
}
WATCHED(select_large, "sets beyond FD_SETSIZE", large_watch, large_act)

static void listener_server(void)
{
	int l = o_listener(0), fds[1] = { l };

	ask("idle", fds, 1, QUIET);
	o_sync();
	ask("a connection", fds, 1, SOON);
	close(accept(l, NULL, NULL));
	ask("accepted", fds, 1, QUIET);
	close(l);
}

static void listener_client(void)
{
	struct sockaddr_storage to;
	socklen_t len = o_server_addr(&to, o_port(0));
	int fd = socket(o_family, SOCK_STREAM | SOCK_NONBLOCK, 0), fds[1] = { fd };

	o_sync();
	connect(fd, (void *)&to, len);
	o_wait(fd, POLLRDHUP);
	ask("connected, and closed by the peer", fds, 1, SOON);
	close(fd);
	fds[0] = fd = socket(o_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	len = o_server_addr(&to, o_port(1));
	connect(fd, (void *)&to, len);
	o_wait(fd, POLLERR);
	ask("refused", fds, 1, SOON);
	close(fd);
}
SCENARIO(select_listener, "select(): a listener; connected and refused", O_BOTH, listener_server,
	 listener_client)

static void udp_watch(void)
{
	int fd = o_udp(0), fds[1] = { fd };
	char c;

	ask("idle", fds, 1, SOON);
	o_sync();
	readable("a datagram", fds, 1, SOON);
	O("recv", recv(fd, &c, 1, 0));
	readable("none", fds, 1, QUIET);
	close(fd);
}

static void udp_act(void)
{
	int fd = o_udp_connected(1, 0);

	o_sync();
	send(fd, "x", 1, 0);
	close(fd);
}
WATCHED(select_udp, "select(): UDP", udp_watch, udp_act)
