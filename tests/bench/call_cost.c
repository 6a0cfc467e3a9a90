/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/call_cost.c - what interposition adds to a call on a kernel descriptor
 *
 * Run under the preload library it calls each function through the program's own symbol (the
 * wrapper) and through libc's, found by dlopen(), in alternating rounds of one process: so the
 * difference is the wrapper's and not the machine's. Without the library both are the same, and
 * the difference shows the noise. Prints JSON: nanoseconds per call, medians of the rounds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 41
#define CALLS 40000

static int pipes[2], pair[2];

typedef ssize_t (*read_fn)(int, void *, size_t);
typedef int (*getsockopt_fn)(int, int, int, void *, socklen_t *);
typedef int (*fcntl_fn)(int, int, ...);
typedef ssize_t (*recv_fn)(int, void *, size_t, int);

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* each runs CALLS calls through fn */
static void run_read(void *fn)
{
	char c;

	for (int i = 0; i < CALLS; i++)
		((read_fn)fn)(pipes[0], &c, 1); /* empty and non-blocking: EAGAIN */
}

static void run_recv(void *fn)
{
	char c;

	for (int i = 0; i < CALLS; i++)
		((recv_fn)fn)(pair[0], &c, 1, MSG_DONTWAIT);
}

static void run_getsockopt(void *fn)
{
	for (int i = 0; i < CALLS; i++) {
		int v;
		socklen_t n = sizeof(v);

		((getsockopt_fn)fn)(pair[0], SOL_SOCKET, SO_TYPE, &v, &n);
	}
}

static void run_fcntl(void *fn)
{
	for (int i = 0; i < CALLS; i++)
		((fcntl_fn)fn)(pair[0], F_GETFL);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), by_value);
	return v[ROUNDS / 2];
}

static void measure(const char *name, void (*run)(void *), void *wrapped, void *plain, int last)
{
	double w[ROUNDS], p[ROUNDS], d[ROUNDS];

	run(wrapped);
	run(plain);
	for (int i = 0; i < ROUNDS; i++) {
		double t[3];

		for (int k = 0; k < 2; k++) {
			t[k] = now();
			run((k ^ i) & 1 ? wrapped : plain);
		}
		t[2] = now();
		w[i] = ((i & 1) ? t[1] - t[0] : t[2] - t[1]) / CALLS;
		p[i] = ((i & 1) ? t[2] - t[1] : t[1] - t[0]) / CALLS;
		d[i] = w[i] - p[i];
	}
	printf("\"%s\": {\"wrapped_ns\": %.1f, \"plain_ns\": %.1f, \"added_ns\": %.1f}%s", name, median(w),
	       median(p), median(d), last ? "" : ", ");
}

int main(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW);

	if (!libc || pipe2(pipes, O_NONBLOCK) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 1;
	printf("{");
	measure("read of a pipe", run_read, (void *)read, dlsym(libc, "read"), 0);
	measure("recv of a unix socket", run_recv, (void *)recv, dlsym(libc, "recv"), 0);
	measure("getsockopt", run_getsockopt, (void *)getsockopt, dlsym(libc, "getsockopt"), 0);
	measure("fcntl F_GETFL", run_fcntl, (void *)fcntl, dlsym(libc, "fcntl"), 1);
	printf("}\n");
	return 0;
}
