/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/closer.c - closing what came from programs
 *
 * The last close() of a file can take as long as its owner wants: of a connection with SO_LINGER the peer of
 * which does not read, of a file whose file system is a process, of a unix socket in which such ones wait. A
 * program can see to it that the daemon's is the last. So what may take long is closed by a thread that does
 * nothing else, and every descriptor that comes is taken, since those that the kernel throws away for want of
 * room it closes in the thread that reads.
 *
 * When too many threads are at it, what comes then is left open.
 */
#define _GNU_SOURCE
#include "tools/nstackd/closer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <rd/log.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS_MAX 64
#define STACK_BYTES (64u << 10)

static int threads; /* atomic: they count themselves out */

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

static void *closing(void *fd)
{
	close((int)(intptr_t)fd);
	__atomic_fetch_sub(&threads, 1, __ATOMIC_RELAXED); /* relaxed: a number */
	return NULL;
}

/* False: there is no thread for it. */
static bool by_thread(int fd)
{
	pthread_attr_t a;
	pthread_t t;
	bool ok;

	if (__atomic_load_n(&threads, __ATOMIC_RELAXED) >= THREADS_MAX || pthread_attr_init(&a))
		return false;
	__atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&a, STACK_BYTES);
	ok = !pthread_create(&t, &a, closing, (void *)(intptr_t)fd);
	pthread_attr_destroy(&a);
	if (!ok)
		__atomic_fetch_sub(&threads, 1, __ATOMIC_RELAXED);
	return ok;
}

void closer_close(int fd)
{
	if (fd < 0)
		return;
	if (closes_at_once(fd))
		close(fd);
	else if (!by_thread(fd))
		ns_log(NS_ERR, NS_M_OPER, "a descriptor that a program has sent stays open: closing it may take long");
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

void closer_end(int sock)
{
	char byte;
	long r;

	shutdown(sock, SHUT_RD); /* nothing comes after what there is */
	do
		r = closer_recv(sock, &byte, sizeof(byte), NULL);
	while (r > 0 || r == -EMSGSIZE);
	close(sock);
}
