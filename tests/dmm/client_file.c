/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/client_file.c - vc_file, kc_file: [options] tcp|udp FILE - sends a file in pieces of -l bytes
 *
 * By UDP each piece has its number before it, and the server answers with that number; a piece without an
 * answer is sent again. The last one is shorter than the others, perhaps empty.
 */
#include "dmm.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t read_piece(int in, uint8_t *buf, uint32_t len)
{
	size_t have = 0;
	ssize_t r;

	while (have < len && (r = read(in, buf + have, len - have)) != 0) {
		if (r < 0)
			dmm_die("read");
		have += (size_t)r;
	}
	return have;
}

static void send_stream(const struct dmm_options *o, int in)
{
	uint8_t *buf = dmm_alloc(1, o->len), end;
	int fd = dmm_connect(o, SOCK_STREAM, 0);
	size_t n;

	while ((n = read_piece(in, buf, o->len))) {
		if (dmm_send_all(fd, buf, n) < 0)
			dmm_die("send");
		dmm_count_message(o);
	}
	/* the server closes when it has written all */
	if (shutdown(fd, SHUT_WR) < 0 || recv(fd, &end, 1, 0) != 0)
		dmm_die("end of the stream");
}

static void send_piece(int fd, const struct file_piece *p, size_t n)
{
	struct timeval again = { .tv_usec = 100000 };
	uint32_t answer;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &again, sizeof(again)) < 0)
		dmm_die("SO_RCVTIMEO");
	for (int tries = 0; tries < FILE_TRIES; tries++) {
		ssize_t r;

		/* nobody has the port yet: as good as lost */
		if (send(fd, p, sizeof(*p) + n, 0) < 0 && errno != ECONNREFUSED)
			dmm_die("send");
		while ((r = recv(fd, &answer, sizeof(answer), 0)) == sizeof(answer))
			if (answer == p->number)
				return;
		if (r < 0 && errno == ECONNREFUSED)
			usleep(10000);
		else if (r < 0 && errno != EAGAIN)
			dmm_die("recv");
	}
	errno = ETIMEDOUT;
	dmm_die("no answer");
}

static void send_datagrams(const struct dmm_options *o, int in)
{
	struct file_piece *p = dmm_alloc(1, sizeof(*p) + o->len);
	int fd = dmm_connect(o, SOCK_DGRAM, 0);
	size_t n;

	do {
		n = read_piece(in, p->data, o->len);
		send_piece(fd, p, n);
		p->number++;
		dmm_count_message(o);
	} while (n == o->len);
}

int main(int argc, char **argv)
{
	struct dmm_options o;
	int in;

	dmm_parse(&o, DMM_CLIENT, argc, argv);
	in = open(file_name(&o), O_RDONLY);
	if (in < 0)
		dmm_die(o.rest[1]);
	dmm_count_connection();
	if (file_by_udp(&o))
		send_datagrams(&o, in);
	else
		send_stream(&o, in);
	return 0;
}
