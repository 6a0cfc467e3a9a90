/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/echo_server.c - echoes messages: the unmodified program of the round-trip benches
 *
 *	echo_server tcp|udp ADDR PORT [spin]
 *
 * Plain blocking calls; with "spin" it polls with MSG_DONTWAIT instead of sleeping, which is how
 * a program spins on the kernel's stack (on ours spin_us does that, without "spin").
 * One connection at a time. Ends by signal.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int spin;

static ssize_t receive(int fd, void *buf, size_t n, struct sockaddr_storage *from, socklen_t *len)
{
	ssize_t got;

	do {
		if (from)
			*len = sizeof(*from);
		got = recvfrom(fd, buf, n, spin ? MSG_DONTWAIT : 0, (struct sockaddr *)from, from ? len : NULL);
	} while (got < 0 && (errno == EINTR || (spin && errno == EAGAIN)));
	return got;
}

static void serve_udp(int fd)
{
	static char buf[65536];
	struct sockaddr_storage from;
	socklen_t len;

	for (;;) {
		ssize_t n = receive(fd, buf, sizeof(buf), &from, &len);

		if (n >= 0)
			sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void serve_tcp(int fd)
{
	static char buf[65536];

	for (;;) {
		int c = accept(fd, NULL, NULL), one = 1;
		ssize_t n;

		if (c < 0)
			continue;
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while ((n = receive(c, buf, sizeof(buf), NULL, NULL)) > 0) {
			if (send(c, buf, (size_t)n, MSG_NOSIGNAL) != n)
				break;
		}
		close(c);
	}
}

int main(int argc, char **argv)
{
	struct addrinfo hint = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST }, *ai;
	int udp, fd, one = 1;

	if (argc < 4) {
		fprintf(stderr, "usage: echo_server tcp|udp ADDR PORT [spin]\n");
		return 2;
	}
	udp = !strcmp(argv[1], "udp");
	spin = argc > 4 && !strcmp(argv[4], "spin");
	hint.ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM;
	if (getaddrinfo(argv[2], argv[3], &hint, &ai)) {
		fprintf(stderr, "echo_server: bad address %s\n", argv[2]);
		return 2;
	}
	fd = socket(ai->ai_family, ai->ai_socktype, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) || (!udp && listen(fd, 16))) {
		perror("echo_server");
		return 1;
	}
	if (udp)
		serve_udp(fd);
	else
		serve_tcp(fd);
}
