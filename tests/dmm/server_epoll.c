/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/server_epoll.c - vs_epoll, ks_epoll: everything edge-triggered
 *
 * The listener is emptied by accept4() until there is nothing; each connection has a thread with an epoll
 * object of its own, which is told once of what has come and reads until there is nothing.
 */
#define _GNU_SOURCE
#include "dmm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct job {
	const struct dmm_options *o;
	int fd, epoll;
	uint32_t have; /* bytes of the message that is coming */
	uint32_t sent; /* bytes of the one that is going */
	uint8_t *buf;
	pthread_t thread;
};

static int watch(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.fd = fd };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		dmm_die("epoll");
	return epoll;
}

static void wait_edge(const struct dmm_options *o, int epoll)
{
	struct epoll_event ev;
	int n = epoll_wait(epoll, &ev, 1, o->wait_s ? (int)o->wait_s * 1000 : -1);

	if (n == 0)
		errno = ETIMEDOUT;
	if (n <= 0)
		dmm_die("epoll_wait");
}

/* One step: 1; 0: the stream has ended; -1: nothing goes on before an edge. */
static int step(struct job *j)
{
	bool whole = j->have == j->o->len;
	ssize_t r = whole ? send(j->fd, j->buf + j->sent, j->o->len - j->sent, MSG_NOSIGNAL) :
			    recv(j->fd, j->buf + j->have, j->o->len - j->have, 0);

	if (r < 0 && errno == EAGAIN)
		return -1;
	if (r < 0)
		dmm_die(whole ? "send" : "recv");
	if (!whole && r == 0 && j->have) {
		errno = EPROTO;
		dmm_die("recv");
	}
	if (!whole) {
		j->have += (uint32_t)r;
		return r > 0;
	}
	j->sent += (uint32_t)r;
	if (j->sent == j->o->len) {
		j->sent = j->have = 0;
		dmm_count_message(j->o);
	}
	return 1;
}

static void *serve(void *arg)
{
	struct job *j = arg;
	int r = 1;

	j->buf = dmm_alloc(1, j->o->len);
	j->epoll = watch(j->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	while (r) {
		wait_edge(j->o, j->epoll);
		while ((r = step(j)) > 0)
			;
	}
	close(j->epoll);
	close(j->fd);
	free(j->buf);
	return NULL;
}

/* All that wait; returns how many. */
static uint32_t accept_all(const struct dmm_options *o, int listener, struct job *jobs, uint32_t room)
{
	uint32_t n = 0;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (n == room) {
			errno = EUSERS;
			dmm_die("more clients than -n and -f say");
		}
		dmm_count_connection();
		jobs[n] = (struct job){ .o = o, .fd = fd };
		if (pthread_create(&jobs[n].thread, NULL, serve, &jobs[n]))
			dmm_die("thread");
		n++;
	}
	if (errno != EAGAIN)
		dmm_die("accept4");
	return n;
}

int main(int argc, char **argv)
{
	struct dmm_options o;
	struct job *jobs;
	uint32_t n, have = 0;
	int listener, epoll;

	dmm_parse(&o, DMM_SERVER, argc, argv);
	n = dmm_expected(&o);
	jobs = dmm_alloc(n, sizeof(*jobs));
	listener = dmm_listen(&o, SOCK_STREAM);
	if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
		dmm_die("O_NONBLOCK");
	epoll = watch(listener, EPOLLIN);
	while (have < n) {
		wait_edge(&o, epoll);
		have += accept_all(&o, listener, jobs + have, n - have);
	}
	for (uint32_t i = 0; i < n; i++)
		pthread_join(jobs[i].thread, NULL);
	dmm_report(&o);
	return 0;
}
