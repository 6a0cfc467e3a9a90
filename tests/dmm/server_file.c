/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/server_file.c - vs_file, ks_file: [options] tcp|udp FILE - writes what client_file sends */
#include "dmm.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void write_all(int out, const uint8_t *buf, size_t n)
{
	while (n) {
		ssize_t r = write(out, buf, n);

		if (r < 0)
			dmm_die("write");
		buf += r;
		n -= (size_t)r;
	}
}

static void from_stream(const struct dmm_options *o, int out)
{
	int listener = dmm_listen(o, SOCK_STREAM), fd = accept(listener, NULL, NULL);
	uint8_t *buf = dmm_alloc(1, o->len);
	ssize_t r;

	if (fd < 0)
		dmm_die("accept");
	dmm_set_wait(o, fd);
	while ((r = recv(fd, buf, o->len, 0)) > 0)
		write_all(out, buf, (size_t)r);
	if (r < 0)
		dmm_die("recv");
	close(fd);
}

/* Until the last piece; who misses its answer sends it again, so the end is waited for. */
static void from_datagrams(const struct dmm_options *o, int out)
{
	struct file_piece *p = dmm_alloc(1, sizeof(*p) + o->len);
	struct timeval quiet = { .tv_usec = 300000 };
	int fd = dmm_listen(o, SOCK_DGRAM);
	struct sockaddr_storage peer;
	uint32_t next = 0;
	bool ended = false;

	for (;;) {
		socklen_t len = sizeof(peer);
		ssize_t r = recvfrom(fd, p, sizeof(*p) + o->len, 0, (struct sockaddr *)&peer, &len);

		if (r < 0 && errno == EAGAIN && ended)
			return;
		if (r < 0)
			dmm_die("recvfrom");
		if (r < (ssize_t)sizeof(*p) || p->number > next)
			continue;
		if (p->number == next) {
			next++;
			r -= (ssize_t)sizeof(*p);
			write_all(out, p->data, (size_t)r);
			ended = (size_t)r < o->len;
			if (ended)
				setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof(quiet));
		}
		if (sendto(fd, &p->number, sizeof(p->number), 0, (struct sockaddr *)&peer, len) < 0)
			dmm_die("sendto");
	}
}

int main(int argc, char **argv)
{
	struct dmm_options o;
	int out;

	dmm_parse(&o, DMM_SERVER, argc, argv);
	out = open(file_name(&o), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (out < 0)
		dmm_die(o.rest[1]);
	if (file_by_udp(&o))
		from_datagrams(&o, out);
	else
		from_stream(&o, out);
	return 0;
}
