/* SPDX-License-Identifier: Apache-2.0 */
/* tests/ns/progs/mill.c - a program that does all that sockets are for, round after round
 *
 *   mill serve HERE THERE     waits for a line on stdin; then each round: a listener on port 7000 accepts
 *                             and echoes, a UDP socket on 7001 echoes, a client asks THERE:7002
 *   mill partner HERE THERE   the other side: asks THERE:7000 and 7001 all the time, echoes on 7002
 *
 * serve prints "round" after each in which all three went well. What fails is tried again in the next one;
 * it never ends by itself. Nobody waits for long: a SYN that met a stack's death would be sent again after a
 * second only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WAIT_US 300000
#define POLL_MS 2000
#define BYTES 65536
#define PORT_TCP 7000
#define PORT_UDP 7001
#define PORT_BACK 7002

static struct sockaddr_in here, there;

static struct sockaddr_in *with_port(struct sockaddr_in *a, int port)
{
	a->sin_port = htons((uint16_t)port);
	return a;
}

static int sock(int type)
{
	static const struct timeval limit = { .tv_usec = WAIT_US };
	int s = socket(AF_INET, type, 0), one = 1;

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return s;
}

static int bound(int type, int port)
{
	int s = sock(type);

	if (s >= 0 && !bind(s, (struct sockaddr *)with_port(&here, port), sizeof(here)) &&
	    (type == SOCK_DGRAM || !listen(s, 16)))
		return s;
	close(s);
	return -1;
}

static bool send_all(int s, const char *b, size_t n)
{
	while (n) {
		ssize_t r = send(s, b, n, MSG_NOSIGNAL);

		if (r <= 0)
			return false;
		b += r;
		n -= (size_t)r;
	}
	return true;
}

static void echo(int c)
{
	char b[16384];
	ssize_t n;

	while ((n = recv(c, b, sizeof(b), 0)) > 0 && send_all(c, b, (size_t)n))
		;
	shutdown(c, SHUT_WR);
	close(c);
}

/* BYTES there and back. */
static bool ask(int port)
{
	struct sockaddr_in to = there;
	static __thread char out[BYTES], in[BYTES];
	int s = sock(SOCK_STREAM);
	struct tcp_info info;
	socklen_t len = sizeof(info);
	size_t got = 0;
	ssize_t n = 1;

	memset(out, 'm', sizeof(out));
	if (!connect(s, (struct sockaddr *)with_port(&to, port), sizeof(to)) && send_all(s, out, sizeof(out))) {
		getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &len);
		while (got < sizeof(in) && (n = recv(s, in + got, sizeof(in) - got, 0)) > 0)
			got += (size_t)n;
	}
	close(s);
	return got == sizeof(in) && !memcmp(in, out, sizeof(in));
}

/* Until each of both sockets had its visitor, or nobody comes. */
static bool serve(int l, int u)
{
	struct pollfd p[2] = { { .fd = l, .events = POLLIN }, { .fd = u, .events = POLLIN } };
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char b[2048];
	ssize_t n;
	int c;

	while ((p[0].fd >= 0 || p[1].fd >= 0) && poll(p, 2, POLL_MS) > 0) {
		if (p[0].revents && (c = accept(l, NULL, NULL)) >= 0) {
			echo(c);
			p[0].fd = -1;
		}
		if (p[1].revents && (n = recvfrom(u, b, sizeof(b), MSG_DONTWAIT, (struct sockaddr *)&from, &len)) > 0 &&
		    sendto(u, b, (size_t)n, 0, (struct sockaddr *)&from, len) == n)
			p[1].fd = -1;
	}
	return p[0].fd < 0 && p[1].fd < 0;
}

static bool one_round(void)
{
	int l = bound(SOCK_STREAM, PORT_TCP), u = bound(SOCK_DGRAM, PORT_UDP);
	bool ok = l >= 0 && u >= 0 && serve(l, u);

	ok &= ask(PORT_BACK);
	close(l);
	close(u);
	return ok;
}

static void *ask_udp(void *arg)
{
	struct sockaddr_in to = there;
	int s = sock(SOCK_DGRAM);

	for (;; usleep(5000))
		sendto(s, "hello", 5, 0, (struct sockaddr *)with_port(&to, PORT_UDP), sizeof(to));
	return arg;
}

static void *ask_tcp(void *arg)
{
	for (;; usleep(2000))
		ask(PORT_TCP);
	return arg;
}

static void *one_echo(void *arg)
{
	echo((int)(intptr_t)arg);
	return NULL;
}

static void partner(void)
{
	int l = bound(SOCK_STREAM, PORT_BACK), c;
	pthread_t t;

	pthread_create(&t, NULL, ask_udp, NULL);
	pthread_create(&t, NULL, ask_tcp, NULL);
	puts("up");
	fflush(stdout);
	for (;;)
		if ((c = accept(l, NULL, NULL)) >= 0 && !pthread_create(&t, NULL, one_echo, (void *)(intptr_t)c))
			pthread_detach(t);
}

int main(int argc, char **argv)
{
	char line[16];

	if (argc != 4 || inet_pton(AF_INET, argv[2], &here.sin_addr) != 1 ||
	    inet_pton(AF_INET, argv[3], &there.sin_addr) != 1)
		return 2;
	here.sin_family = there.sin_family = AF_INET;
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(argv[1], "partner"))
		partner();
	puts("up");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	for (;;)
		if (one_round() && write(STDOUT_FILENO, "round\n", 6) != 6)
			return 1;
}
