/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/call_cost.c - what interposition adds to a call on a kernel descriptor
 *
 * Run under the preload library it calls each function through the program's own symbol (the
 * wrapper) and through libc's, found by dlopen(), in alternating rounds of one process: so the
 * difference is the wrapper's and not the machine's. Without the library both are the same, and
 * the difference shows the noise. Prints JSON: nanoseconds per call, medians of the rounds, and the
 * quartiles of the difference.
 *
 * The TCP connections are over the loopback: one end was accepted, and is a descriptor like any other;
 * the other was connected, and the library remembers that it is the kernel's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 1001
#define CALLS 250 /* a round is short, so that few are disturbed */

/* The functions, as the program has them or as libc has. */
struct calls {
	ssize_t (*read)(int, void *, size_t);
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*recv)(int, void *, size_t, int);
	ssize_t (*send)(int, const void *, size_t, int);
	int (*getsockopt)(int, int, int, void *, socklen_t *);
	int (*fcntl)(int, int, ...);
	int (*poll)(struct pollfd *, nfds_t, int);
	int (*epoll_wait)(int, struct epoll_event *, int, int);
	int (*dup)(int);
	int (*close)(int);
	int (*accept)(int, struct sockaddr *, socklen_t *);
	long (*syscall)(long, ...);
};

static int pipes[2], pair[2], lst, accepted, connected, set, unix_lst;
static char c;

/* Processor time: what other programs take does not count. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* --- what is measured: each runs once; empty and non-blocking, so most answer EAGAIN --------------- */

static void one_read(const struct calls *f)
{
	f->read(pipes[0], &c, 1);
}

static void one_write(const struct calls *f)
{
	f->write(pipes[1], &c, 0);
}

static void one_recv(const struct calls *f)
{
	f->recv(pair[0], &c, 1, MSG_DONTWAIT);
}

static void one_recv_accepted(const struct calls *f)
{
	f->recv(accepted, &c, 1, MSG_DONTWAIT);
}

static void one_recv_connected(const struct calls *f)
{
	f->recv(connected, &c, 1, MSG_DONTWAIT);
}

static void one_send_accepted(const struct calls *f)
{
	f->send(accepted, &c, 0, MSG_DONTWAIT);
}

static void one_send_connected(const struct calls *f)
{
	f->send(connected, &c, 0, MSG_DONTWAIT);
}

static void one_round_trip(const struct calls *f)
{
	f->write(accepted, &c, 1);
	f->read(connected, &c, 1);
	f->write(connected, &c, 1);
	f->read(accepted, &c, 1);
}

static void one_getsockopt(const struct calls *f)
{
	int v;
	socklen_t n = sizeof(v);

	f->getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &v, &n);
}

static void one_fcntl(const struct calls *f)
{
	f->fcntl(pair[0], F_GETFL);
}

static void one_poll(const struct calls *f)
{
	struct pollfd p[2] = { { .fd = pipes[0], .events = POLLIN }, { .fd = pair[0], .events = POLLIN } };

	f->poll(p, 2, 0);
}

static void one_poll_connected(const struct calls *f)
{
	struct pollfd p = { .fd = connected, .events = POLLIN };

	f->poll(&p, 1, 0);
}

static void one_epoll(const struct calls *f)
{
	struct epoll_event ev[8];

	f->epoll_wait(set, ev, 8, 0);
}

static void one_dup(const struct calls *f)
{
	f->close(f->dup(pipes[0]));
}

static void one_accept(const struct calls *f)
{
	f->accept(unix_lst, NULL, NULL);
}

static void one_syscall(const struct calls *f)
{
	f->syscall(SYS_getpid);
}

static void one_syscall_read(const struct calls *f)
{
	f->syscall(SYS_read, pipes[0], &c, 1);
}

static const struct measure {
	const char *name;
	void (*one)(const struct calls *f);
} measures[] = {
	{ "read of a pipe", one_read },
	{ "write to a pipe", one_write },
	{ "recv of a unix socket", one_recv },
	{ "recv, TCP, accepted from the kernel", one_recv_accepted },
	{ "send, TCP, accepted from the kernel", one_send_accepted },
	{ "recv, TCP, connected by the kernel", one_recv_connected },
	{ "send, TCP, connected by the kernel", one_send_connected },
	{ "round trip of both, 4 calls", one_round_trip },
	{ "getsockopt", one_getsockopt },
	{ "fcntl F_GETFL", one_fcntl },
	{ "poll of 2", one_poll },
	{ "poll, TCP, connected by the kernel", one_poll_connected },
	{ "epoll_wait, 4 kernel members", one_epoll },
	{ "dup and close, 2 calls", one_dup },
	{ "accept of a unix listener", one_accept },
	{ "syscall(SYS_getpid)", one_syscall },
	{ "syscall(SYS_read) of a pipe", one_syscall_read },
};
#define MEASURES (sizeof(measures) / sizeof(measures[0]))

/* --- how ------------------------------------------------------------------------------------------------- */

static void run(const struct measure *m, const struct calls *f)
{
	for (int i = 0; i < CALLS; i++)
		m->one(f);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* v is sorted: the value below which the part `of` lies */
static double quantile(double *v, double of)
{
	qsort(v, ROUNDS, sizeof(*v), by_value);
	return v[(int)(of * (ROUNDS - 1))];
}

static void measure(const struct measure *m, const struct calls *wrapped, const struct calls *plain)
{
	double w[ROUNDS], p[ROUNDS], d[ROUNDS];

	run(m, wrapped);
	run(m, plain);
	for (int i = 0; i < ROUNDS; i++) {
		double t[3];

		for (int k = 0; k < 2; k++) {
			t[k] = now();
			run(m, (k ^ i) & 1 ? wrapped : plain);
		}
		t[2] = now();
		w[i] = ((i & 1) ? t[1] - t[0] : t[2] - t[1]) / CALLS;
		p[i] = ((i & 1) ? t[2] - t[1] : t[1] - t[0]) / CALLS;
		d[i] = w[i] - p[i];
	}
	printf("\"%s\": {\"wrapped_ns\": %.1f, \"plain_ns\": %.1f, \"added_ns\": %.1f, \"added_q1\": %.1f, "
	       "\"added_q3\": %.1f}", m->name, quantile(w, 0.5), quantile(p, 0.5), quantile(d, 0.5),
	       quantile(d, 0.25), quantile(d, 0.75));
}

static void resolve(struct calls *f, void *from)
{
#define FIND(name) f->name = (__typeof__(f->name))dlsym(from, #name)
	FIND(read);
	FIND(write);
	FIND(recv);
	FIND(send);
	FIND(getsockopt);
	FIND(fcntl);
	FIND(poll);
	FIND(epoll_wait);
	FIND(dup);
	FIND(close);
	FIND(accept);
	FIND(syscall);
#undef FIND
}

static int tcp_make(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	lst = socket(AF_INET, SOCK_STREAM, 0);
	connected = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(lst, (struct sockaddr *)&a, len) || listen(lst, 1) ||
	    getsockname(lst, (struct sockaddr *)&a, &len) || connect(connected, (struct sockaddr *)&a, len))
		return -1;
	accepted = accept(lst, NULL, NULL);
	return accepted < 0 ? -1 : 0;
}

static int set_make(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	const int members[] = { pipes[0], pair[0], accepted, connected };

	set = epoll_create1(0);
	for (int i = 0; i < 4; i++)
		if (epoll_ctl(set, EPOLL_CTL_ADD, members[i], &ev))
			return -1;
	return 0;
}

int main(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW);
	struct sockaddr any = { .sa_family = AF_UNIX };
	struct calls wrapped, plain;

	if (!libc || pipe2(pipes, O_NONBLOCK) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || tcp_make() ||
	    set_make())
		return 1;
	unix_lst = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(unix_lst, &any, sizeof(any.sa_family)) || listen(unix_lst, 1))
		return 1;
	resolve(&wrapped, RTLD_DEFAULT);
	resolve(&plain, libc);
	printf("{");
	for (size_t i = 0; i < MEASURES; i++) {
		printf("%s", i ? ", " : "");
		measure(&measures[i], &wrapped, &plain);
	}
	printf("}\n");
	return 0;
}
