/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/door.c - the daemon's socket
 *
 * Who may attach is decided when the first message is there, since it has the program's label; it is looked at
 * and left for whoever serves the program. Connections that say nothing wait in a table; when that is full, the
 * one that waits longest has to go: nobody who says at once what he wants is kept out by those.
 */
#define _GNU_SOURCE
#include "tools/nstackd/door.h"

#include "tools/nstackd/access.h"
#include "tools/nstackd/closer.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rd/log.h>
#include <shm/attach.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WAITING 64u
#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */
#define BACKLOG 128

static int listener = -1, ep = -1;
static door_in let_in;
static struct {
	int sock;       /* -1: nobody */
	uint64_t since; /* a count */
} waiting[WAITING];
static uint64_t arrivals;
static unsigned long refused;

/* --- opening ------------------------------------------------------------------------------------ */

/* Who has the name already? */
static pid_t owner(const struct sockaddr_un *a, socklen_t len)
{
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct ucred u = { 0 };
	socklen_t n = sizeof(u);

	if (s >= 0 && !connect(s, (const struct sockaddr *)a, len))
		getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n);
	if (s >= 0)
		close(s);
	return u.pid;
}

static int opt_int(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) ? -1 : v;
}

/* -1: it passed none; else as door_open(). */
static int from_systemd(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
	int fd = LISTEN_FDS_START;

	if (!pid || !n || atoi(pid) != (int)getpid())
		return -1;
	if (atoi(n) != 1 || opt_int(fd, SO_DOMAIN) != AF_UNIX || opt_int(fd, SO_TYPE) != SOCK_SEQPACKET ||
	    opt_int(fd, SO_ACCEPTCONN) != 1) {
		fprintf(stderr, "nstackd: LISTEN_FDS: one listening unix socket of type SOCK_SEQPACKET is wanted\n");
		return 1;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	listener = fd;
	return 0;
}

static int own_listener(void)
{
	struct sockaddr_un a;
	socklen_t len = att_address(&a);

	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener >= 0 && !bind(listener, (struct sockaddr *)&a, len) && !listen(listener, BACKLOG))
		return 0;
	if (errno == EADDRINUSE)
		fprintf(stderr, "nstackd: process %d is the nstackd of this network namespace already\n",
			(int)owner(&a, len));
	else
		fprintf(stderr, "nstackd: no socket for programs: %s\n", strerror(errno));
	return 1;
}

int door_open(door_in in)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = WAITING };
	int got = from_systemd();

	let_in = in;
	for (unsigned i = 0; i < WAITING; i++)
		waiting[i].sock = -1;
	if (got > 0 || (got < 0 && own_listener()))
		return 1;
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev))
		return 0;
	fprintf(stderr, "nstackd: no descriptors: %s\n", strerror(errno));
	return 1;
}

int door_fd(void)
{
	return ep;
}

void door_leave(void)
{
	for (unsigned i = 0; i < WAITING; i++)
		if (waiting[i].sock >= 0)
			close(waiting[i].sock);
	close(listener);
	close(ep);
	listener = ep = -1;
}

void door_close(void)
{
	for (unsigned i = 0; i < WAITING; i++) {
		if (waiting[i].sock >= 0)
			closer_end(waiting[i].sock);
		waiting[i].sock = -1;
	}
	door_leave();
}

void door_status(cJSON *o)
{
	unsigned n = 0;

	for (unsigned i = 0; i < WAITING; i++)
		n += waiting[i].sock >= 0;
	cJSON_AddNumberToObject(o, "waiting", n);
	cJSON_AddNumberToObject(o, "refused", (double)refused);
}

/* --- those who come ------------------------------------------------------------------------------ */

void door_refuse(int sock, pid_t pid, int err, const char *why)
{
	struct att_answer a = { .result = err };

	refused++;
	ns_log(NS_ERR, NS_M_OPER, "process %d: %s", (int)pid, why);
	/* with something unread, the answer would be a reset */
	closer_recv(sock, &(struct att_call){ 0 }, sizeof(struct att_call), NULL);
	a.len = (uint32_t)strnlen(why, sizeof(a.data) - 1);
	memcpy(a.data, why, a.len);
	att_send(sock, &a, sizeof(a), NULL, 0, MSG_DONTWAIT);
	closer_end(sock);
}

static void leave(unsigned i)
{
	epoll_ctl(ep, EPOLL_CTL_DEL, waiting[i].sock, NULL);
	waiting[i].sock = -1;
}

/* Returns its place. */
static unsigned wait_for_word(int sock)
{
	struct epoll_event ev = { .events = EPOLLIN };
	unsigned at = 0;

	for (unsigned i = 1; i < WAITING && waiting[at].sock >= 0; i++)
		if (waiting[i].sock < 0 || waiting[i].since < waiting[at].since)
			at = i;
	if (waiting[at].sock >= 0) {
		int longest = waiting[at].sock;

		leave(at);
		closer_end(longest);
	}
	ev.data.u32 = at;
	waiting[at].sock = sock;
	waiting[at].since = arrivals++;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, sock, &ev)) {
		waiting[at].sock = -1;
		closer_end(sock);
	}
	return at;
}

static bool has_spoken(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* What follows the program's name in ATT_HELLO; nonsense is no label. */
static void label_read(const struct att_call *c, char label[NS_LABEL])
{
	memcpy(label, c->data + ATT_HELLO_LABEL, NS_LABEL - 1);
	label[NS_LABEL - 1] = 0;
	if (!ns_label_ok(label))
		label[0] = 0;
}

/* It has said something, or has gone. */
static void word(unsigned i)
{
	struct visitor v = { .sock = waiting[i].sock };
	socklen_t len = sizeof(v.who);
	struct quota *a;
	struct att_call c;
	char why[160];
	int err;

	if (v.sock < 0)
		return;
	leave(i);
	/* what else is wrong with it will be found when it is read */
	if (att_recv(v.sock, &c, sizeof(c), NULL, 0, NULL, MSG_PEEK | MSG_DONTWAIT) != (long)sizeof(c) ||
	    c.op != ATT_HELLO || getsockopt(v.sock, SOL_SOCKET, SO_PEERCRED, &v.who, &len)) {
		closer_end(v.sock);
		return;
	}
	label_read(&c, v.label);
	err = access_check(&v, &a, why);
	if (err)
		door_refuse(v.sock, v.who.pid, err, why);
	else
		let_in(&v, a);
}

void door_run(void)
{
	struct epoll_event ev[WAITING + 1];
	int n = epoll_wait(ep, ev, WAITING + 1, 0), fd;
	unsigned at;

	/* those who wait first: a new one may take the place of one of them */
	for (int i = 0; i < n; i++)
		if (ev[i].data.u32 < WAITING)
			word(ev[i].data.u32);
	for (unsigned i = 0; i < BACKLOG; i++) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			break;
		at = wait_for_word(fd);
		if (has_spoken(fd))
			word(at);
	}
}
