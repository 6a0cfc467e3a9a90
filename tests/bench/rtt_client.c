/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/rtt_client.c - round-trip times of small messages
 *
 *	rtt_client tcp|udp ADDR PORT BYTES SECONDS [spin]
 *
 * Sends a message, waits for the same bytes, and so on; prints one line of JSON: count, and p50,
 * p99, min and mean in microseconds. A lost datagram is sent again after a second and counted.
 * With "spin" it polls with MSG_DONTWAIT; otherwise it sleeps in recv().
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#define SAMPLES (1u << 22)

static uint32_t sample[SAMPLES];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* 0, or -1 when nothing came for a second. */
static int receive_all(int fd, char *buf, size_t n, int spin, int udp)
{
	uint64_t start = now();

	for (size_t got = 0; got < n;) {
		ssize_t r = recv(fd, buf + got, n - got, spin ? MSG_DONTWAIT : 0);

		if (r == 0) {
			fprintf(stderr, "rtt_client: connection closed\n");
			exit(1);
		}
		if (r > 0) {
			got += (size_t)r;
			if (udp)
				return (size_t)r == n ? 0 : -1;
		} else if (errno != EAGAIN && errno != EINTR) {
			perror("rtt_client: recv");
			exit(1);
		} else if (now() - start > 1000000000u) {
			return -1;
		}
	}
	return 0;
}

static int connect_to(const char *host, const char *port, int udp)
{
	struct addrinfo hint = { .ai_flags = AI_NUMERICHOST, .ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM }, *ai;
	struct timeval second = { .tv_sec = 1 };
	int fd, one = 1;

	if (getaddrinfo(host, port, &hint, &ai))
		return -1;
	fd = socket(ai->ai_family, ai->ai_socktype, 0);
	if (fd < 0 || connect(fd, ai->ai_addr, ai->ai_addrlen))
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	if (!udp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

int main(int argc, char **argv)
{
	static char out[65536], in[65536];
	uint64_t end, sum = 0;
	uint32_t n = 0, lost = 0;
	int udp, fd, spin;
	size_t bytes;

	if (argc < 6) {
		fprintf(stderr, "usage: rtt_client tcp|udp ADDR PORT BYTES SECONDS [spin]\n");
		return 2;
	}
	udp = !strcmp(argv[1], "udp");
	bytes = (size_t)atoi(argv[4]);
	spin = argc > 6 && !strcmp(argv[6], "spin");
	fd = connect_to(argv[2], argv[3], udp);
	if (fd < 0 || bytes < 8 || bytes > sizeof(out)) {
		perror("rtt_client");
		return 1;
	}
	end = now() + (uint64_t)(atof(argv[5]) * 1e9);
	while (n < SAMPLES) {
		uint64_t t = now();

		if (t > end)
			break;
		memcpy(out, &n, sizeof(n));
		if (send(fd, out, bytes, 0) != (ssize_t)bytes) {
			perror("rtt_client: send");
			return 1;
		}
		if (receive_all(fd, in, bytes, spin, udp)) {
			lost++;
			if (!udp)
				return 1;
			continue;
		}
		if (memcmp(in, out, bytes) && !lost) {
			fprintf(stderr, "rtt_client: wrong bytes came back\n");
			return 1;
		}
		sample[n] = (uint32_t)(now() - t);
		sum += sample[n++];
	}
	if (!n)
		return 1;
	qsort(sample, n, sizeof(sample[0]), by_value);
	printf("{\"count\": %u, \"lost\": %u, \"p50_us\": %.2f, \"p99_us\": %.2f, \"min_us\": %.2f, "
	       "\"mean_us\": %.2f}\n", n, lost, sample[n / 2] / 1e3, sample[n - 1 - n / 100] / 1e3,
	       sample[0] / 1e3, (double)sum / n / 1e3);
	return 0;
}
