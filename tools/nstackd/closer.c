/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/closer.c - closing what came from programs
 *
 * The last close() of a file can take as long as its owner wants: of a connection with SO_LINGER the peer of
 * which does not read, of a file whose file system is a process, of a unix socket in which such ones wait. A
 * program can see to it that the daemon's is the last. So what may take long waits in a list for threads that do
 * nothing else, and every descriptor that comes is taken, since those that the kernel throws away for want of
 * room it closes in the thread that reads.
 *
 * What is closed at once is looked at before, and its owner may change it in between: have it linger, and close
 * his. That wait ends by a signal, which comes until the close() is over.
 */
#define _GNU_SOURCE
#include "tools/nstackd/closer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <rd/log.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64u
#define STACK_BYTES (64u << 10)
#define SOON_NS 10000000 /* what is closed at once may take so long, and is pushed on as often */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	int *fd;
	unsigned n, room;
	unsigned threads;
} list; /* lock */

static timer_t timer; /* of the daemon's thread */
static bool has_timer;

/* --- at once ----------------------------------------------------------------------------------- */

static int opt_int(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) ? -1 : v;
}

/* Nothing that was sent waits for a peer. */
static bool unconnected(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	return !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) &&
	       (ti.tcpi_state == TCP_CLOSE || ti.tcpi_state == TCP_LISTEN);
}

static bool lingers(int fd)
{
	struct linger l;
	socklen_t len = sizeof(l);

	return getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len) || (l.l_onoff && l.l_linger);
}

static bool closes_at_once(int fd)
{
	int domain = opt_int(fd, SO_DOMAIN), proto = opt_int(fd, SO_PROTOCOL);

	if (domain != AF_INET && domain != AF_INET6)
		return false;
	return proto == IPPROTO_UDP || (proto == IPPROTO_TCP && (!lingers(fd) || unconnected(fd)));
}

static void nothing(int sig)
{
}

static void timer_make(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN };
	struct sigaction sa = { .sa_handler = nothing };
	sigset_t set;

	ev._sigev_un._tid = gettid();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	has_timer = !sigaction(SIGRTMIN, &sa, NULL) && !pthread_sigmask(SIG_UNBLOCK, &set, NULL) &&
		    !timer_create(CLOCK_MONOTONIC, &ev, &timer);
}

static void close_soon(int fd)
{
	static const struct itimerspec push = { { 0, SOON_NS }, { 0, SOON_NS } }, off;

	if (!has_timer)
		timer_make();
	if (has_timer)
		timer_settime(timer, 0, &push, NULL);
	close(fd);
	if (has_timer)
		timer_settime(timer, 0, &off, NULL);
}

/* --- by threads -------------------------------------------------------------------------------- */

/* -1: there is none, and the thread is counted no more. */
static int next(void)
{
	int fd = -1;

	pthread_mutex_lock(&lock);
	if (list.n)
		fd = list.fd[--list.n];
	else
		list.threads--;
	pthread_mutex_unlock(&lock);
	return fd;
}

static void *closing(void *arg)
{
	int fd;

	while ((fd = next()) >= 0)
		close(fd);
	return NULL;
}

static bool thread_start(void)
{
	pthread_attr_t a;
	pthread_t t;
	bool ok;

	if (pthread_attr_init(&a))
		return false;
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&a, STACK_BYTES);
	ok = !pthread_create(&t, &a, closing, NULL);
	pthread_attr_destroy(&a);
	return ok;
}

/* With the lock. */
static bool list_add(int fd)
{
	unsigned room = list.room ? 2 * list.room : 16;
	int *bigger = list.n < list.room ? list.fd : realloc(list.fd, room * sizeof(*bigger));

	if (!bigger)
		return false;
	list.room = list.n < list.room ? list.room : room;
	list.fd = bigger;
	list.fd[list.n++] = fd;
	return true;
}

/* When all threads are at it, and none comes to an end, it stays open until one does. */
static void close_later(int fd)
{
	bool added, more;

	pthread_mutex_lock(&lock);
	added = list_add(fd);
	more = added && list.threads < THREADS_MAX;
	list.threads += more;
	pthread_mutex_unlock(&lock);
	if (!added)
		ns_log(NS_ERR, NS_M_OPER, "no memory: a descriptor that a program has sent stays open");
	if (!more || thread_start())
		return;
	pthread_mutex_lock(&lock);
	list.threads--; /* the next one tries again */
	pthread_mutex_unlock(&lock);
}

void closer_fork_begin(void)
{
	pthread_mutex_lock(&lock);
}

void closer_fork_end(bool child)
{
	if (child) { /* has neither; its copies of what waits are closed with the next that has to wait */
		list.threads = 0;
		has_timer = false;
	}
	pthread_mutex_unlock(&lock);
}

/* --- what came --------------------------------------------------------------------------------- */

void closer_close(int fd)
{
	if (fd < 0)
		return;
	if (closes_at_once(fd))
		close_soon(fd);
	else
		close_later(fd);
}

long closer_recv(int sock, void *msg, size_t size, int *fd)
{
	int fds[ATT_RECV_FDS];
	unsigned n, keep = 0;
	long r = att_recv(sock, msg, size, fds, ATT_RECV_FDS, &n, MSG_DONTWAIT);

	if (fd) {
		*fd = n ? fds[0] : -1;
		keep = 1;
	}
	for (unsigned i = keep; i < n; i++)
		closer_close(fds[i]);
	return r;
}

/* Is there a message? An empty one looks like the end of the connection, but has a sender. */
static bool has_message(int sock)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} c;
	struct msghdr m = { .msg_control = &c, .msg_controllen = sizeof(c) };

	return recvmsg(sock, &m, MSG_PEEK | MSG_DONTWAIT) >= 0 && m.msg_controllen;
}

void closer_end(int sock)
{
	char byte;
	long r = 0;

	setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)); /* senders are told */
	shutdown(sock, SHUT_RD); /* nothing comes after what there is */
	while ((r >= 0 || r == -EMSGSIZE) && has_message(sock))
		r = closer_recv(sock, &byte, sizeof(byte), NULL);
	close(sock);
}
