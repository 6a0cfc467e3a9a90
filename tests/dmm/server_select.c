/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/server_select.c - vs_select, ks_select: one thread, listener and connections in one fd_set */
#include "dmm.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>

struct conn {
	int fd; /* -1: ended */
	uint32_t have;
	uint8_t *buf;
};

static void take(struct conn *c, const struct dmm_options *o, int listener)
{
	*c = (struct conn){ .fd = accept(listener, NULL, NULL), .buf = dmm_alloc(1, o->len) };
	if (c->fd < 0)
		dmm_die("accept");
	if (c->fd >= FD_SETSIZE) {
		errno = EMFILE;
		dmm_die("select");
	}
	dmm_count_connection();
}

/* What has come, and the answer if that was the message's end. False: the stream has ended. */
static bool go_on(struct conn *c, const struct dmm_options *o)
{
	ssize_t r = recv(c->fd, c->buf + c->have, o->len - c->have, 0);

	if (r == 0 && !c->have) {
		close(c->fd);
		free(c->buf);
		c->fd = -1;
		return false;
	}
	if (r == 0)
		errno = EPROTO;
	if (r <= 0)
		dmm_die("recv");
	c->have += (uint32_t)r;
	if (c->have == o->len) {
		if (dmm_send_all(c->fd, c->buf, o->len) < 0)
			dmm_die("send");
		dmm_count_message(o);
		c->have = 0;
	}
	return true;
}

static void wait_any(const struct dmm_options *o, fd_set *set, int listener, const struct conn *c, uint32_t n)
{
	struct timeval tv = { .tv_sec = o->wait_s };
	int max = listener, r;

	FD_ZERO(set);
	FD_SET(listener, set);
	for (uint32_t i = 0; i < n; i++)
		if (c[i].fd >= 0) {
			FD_SET(c[i].fd, set);
			max = c[i].fd > max ? c[i].fd : max;
		}
	r = select(max + 1, set, NULL, NULL, o->wait_s ? &tv : NULL);
	if (r == 0)
		errno = ETIMEDOUT;
	if (r <= 0)
		dmm_die("select");
}

int main(int argc, char **argv)
{
	struct dmm_options o;
	uint32_t all, have = 0, ended = 0;
	struct conn *conns;
	fd_set set;
	int listener;

	dmm_parse(&o, DMM_SERVER, argc, argv);
	all = dmm_expected(&o);
	conns = dmm_alloc(all, sizeof(*conns));
	listener = dmm_listen(&o, SOCK_STREAM);
	while (ended < all) {
		wait_any(&o, &set, listener, conns, have);
		for (uint32_t i = 0; i < have; i++)
			if (conns[i].fd >= 0 && FD_ISSET(conns[i].fd, &set))
				ended += !go_on(&conns[i], &o);
		if (FD_ISSET(listener, &set) && have < all)
			take(&conns[have++], &o, listener);
	}
	dmm_report(&o);
	return 0;
}
