/* SPDX-License-Identifier: Apache-2.0 */
/* tests/ns/progs/uring.c - echo by io_uring
 *
 *     uring server|client early|late|accept init|raw ADDR PORT
 *
 * early: the ring is made first; late: after a first message went by send() and recv(); accept
 * (server): after listening, and connections come by the ring, too. init: by liburing's function; raw:
 * by syscall(2). The server serves one connection and ends with it; the client sends and
 * compares, prints "ok", and ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MESSAGES 100
#define SIZE 4000

static struct io_uring ring;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void ring_make(int raw)
{
	struct io_uring_params p = { 0 };
	int fd;

	if (!raw) {
		if (io_uring_queue_init(8, &ring, 0))
			fail("io_uring_queue_init");
		return;
	}
	fd = (int)syscall(SYS_io_uring_setup, 8, &p);
	if (fd < 0 || io_uring_queue_mmap(fd, &p, &ring))
		fail("io_uring_setup");
	for (unsigned i = 0; i < p.sq_entries; i++)
		ring.sq.array[i] = i;
}

static int ring_run(struct io_uring_sqe *sqe)
{
	struct io_uring_cqe *cqe;
	int r;

	(void)sqe; /* prepared by the caller */
	if (io_uring_submit_and_wait(&ring, 1) < 0 || io_uring_wait_cqe(&ring, &cqe))
		fail("submit");
	r = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return r;
}

static int ring_send(int fd, const char *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		int r;

		io_uring_prep_send(sqe, fd, p + done, n - done, MSG_NOSIGNAL);
		r = ring_run(sqe);
		if (r <= 0)
			return r;
		done += (size_t)r;
	}
	return (int)n;
}

static int ring_recv(int fd, char *p, size_t n)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_recv(sqe, fd, p, n, 0);
	return ring_run(sqe);
}

static int ring_accept(int lst)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_accept(sqe, lst, NULL, NULL, 0);
	return ring_run(sqe);
}

static void server(int fd, const char *when, int raw, const struct sockaddr_in *a)
{
	char buf[SIZE];
	int c, n;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) ||
	    bind(fd, (const struct sockaddr *)a, sizeof(*a)) || listen(fd, 8))
		fail("listen");
	if (!strcmp(when, "accept"))
		ring_make(raw);
	c = strcmp(when, "accept") ? accept(fd, NULL, NULL) : ring_accept(fd);
	if (c < 0)
		fail("accept");
	if (!strcmp(when, "late")) {
		n = (int)recv(c, buf, sizeof(buf), 0);
		if (send(c, buf, (size_t)n, 0) != n)
			fail("send");
		ring_make(raw);
	}
	while ((n = ring_recv(c, buf, sizeof(buf))) > 0)
		if (ring_send(c, buf, (size_t)n) != n)
			break;
	printf("ended with %d\n", n);
	exit(n != 0);
}

static void client(int fd, const char *when, int raw, const struct sockaddr_in *a)
{
	static char out[SIZE], in[SIZE];

	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)))
		fail("connect");
	if (!strcmp(when, "late")) {
		if (send(fd, "hello", 5, 0) != 5 || recv(fd, in, 5, MSG_WAITALL) != 5 || memcmp(in, "hello", 5))
			fail("first message");
		ring_make(raw);
	}
	for (int i = 0; i < MESSAGES; i++) {
		size_t got = 0;

		memset(out, 'a' + i % 26, sizeof(out));
		if (ring_send(fd, out, SIZE) != SIZE)
			fail("send");
		while (got < SIZE) {
			int r = ring_recv(fd, in + got, SIZE - got);

			if (r <= 0)
				fail("recv");
			got += (size_t)r;
		}
		if (memcmp(in, out, SIZE))
			fail("content");
	}
	printf("ok\n");
	exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	int raw, fd;

	if (argc != 6 || !inet_pton(AF_INET, argv[4], &a.sin_addr))
		return 2;
	a.sin_port = htons((uint16_t)atoi(argv[5]));
	raw = !strcmp(argv[3], "raw");
	if (!strcmp(argv[2], "early"))
		ring_make(raw);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	(argv[1][0] == 's' ? server : client)(fd, argv[2], raw, &a);
}
