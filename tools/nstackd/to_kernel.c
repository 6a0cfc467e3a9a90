/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/to_kernel.c - sockets that go on in the kernel
 *
 * What the kernel is given is a copy of what the session holds, since the program could change it meanwhile;
 * the connection's addresses and numbers are the stack's own.
 */
#define _GNU_SOURCE
#include "tools/nstackd/peer.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <nsocket/engine.h>
#include <nsocket/to_kernel.h>
#include <nsocket/worker_internal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* --- a copy ------------------------------------------------------------------------------------ */

struct copy {
	struct shm_session s;
	struct to_kernel k;
};

/* What the FIFO holds, with its positions, in memory of its own. sh: in the copy of the session. */
static int fifo_take(struct fifo *out, const struct fifo *from, struct shm_fifo *sh)
{
	uint64_t tail = fifo_tail(from);
	uint32_t used = fifo_used(from), size = 64;

	while (size < used)
		size *= 2;
	*out = (struct fifo){ .sh = sh, .data = malloc(size), .size = size };
	if (!out->data)
		return -ENOMEM;
	*sh = (struct shm_fifo){ .tail = tail, .rebase = tail, .head = tail };
	sh->head += fifo_peek(from, 0, out->data, used);
	return 0;
}

static void copy_free(struct copy *c)
{
	if (!c)
		return;
	free(c->k.rx.data);
	free(c->k.tx.data);
	free(c);
}

static struct copy *copy_of(struct shm_session *s, int shadow, int family)
{
	struct fifo rx = shm_session_rx(worker.region, s), tx = shm_session_tx(worker.region, s);
	struct copy *c = aligned_alloc(_Alignof(struct copy), sizeof(*c));

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	memcpy(&c->s, s, sizeof(c->s));
	c->k = (struct to_kernel){ .s = s, .view = &c->s, .shadow = shadow, .family = family };
	if (fifo_take(&c->k.rx, &rx, &c->s.rx) || fifo_take(&c->k.tx, &tx, &c->s.tx)) {
		copy_free(c);
		return NULL;
	}
	if (c->s.urg_skip > c->s.rx.head)
		c->s.urg_skip = c->s.rx.head;
	if (c->s.error < 0 || c->s.error > 4095)
		c->s.error = 0;
	return c;
}

/* --- the two protocols ------------------------------------------------------------------------- */

static int int_of(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int v = -1;

	return getsockopt(fd, level, name, &v, &len) ? -1 : v;
}

/* A socket that is nothing yet: to make it a connection needs privilege, which is ours and not the
 * program's. */
static bool closed(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	return !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) && ti.tcpi_state == TCP_CLOSE;
}

static int stream_move(struct shm_session *s, int fd, int family)
{
	struct copy *c;
	int err;

	if (!closed(fd))
		return -EINVAL;
	to_kernel_drain();
	c = copy_of(s, fd, family);
	err = c ? to_kernel_tcp(&c->k) : -ENOMEM;
	copy_free(c);
	return err;
}

/* Datagrams come from anywhere, but go to that socket only. */
static bool deliverable(void *bound, const struct nst_addr *local)
{
	return nst_addr_is_any(bound) ? engine_is_local(local) : nst_addr_same_ip(bound, local);
}

/* How many bytes of the queue that were; the program is its reader, and takes them out. */
static int dgrams_move(struct shm_session *s, int fd, int family)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct nst_addr bound;
	struct copy *c;
	uint64_t from;
	int n;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) ||
	    nst_addr_from_sockaddr(&bound, (struct sockaddr *)&ss, len) || !bound.port)
		return -EINVAL;
	to_kernel_drain_late();
	c = copy_of(s, fd, family);
	if (!c)
		return -ENOMEM;
	from = fifo_tail(&c->k.rx);
	to_kernel_udp(&c->k, bound.port, deliverable, &bound);
	n = (int)(fifo_tail(&c->k.rx) - from);
	copy_free(c);
	return n;
}

int session_to_kernel(struct shm_session *s, int fd)
{
	int family = int_of(fd, SOL_SOCKET, SO_DOMAIN);

	if (family != AF_INET && family != AF_INET6)
		return -EINVAL;
	switch (int_of(fd, SOL_SOCKET, SO_PROTOCOL)) {
	case IPPROTO_TCP:
		return stream_move(s, fd, family);
	case IPPROTO_UDP:
		return dgrams_move(s, fd, family);
	default:
		return -EINVAL;
	}
}

int peer_to_kernel(struct shm_session *s, const struct peer *p, int fd)
{
	return fd >= 0 && peer_netns_has(p, fd) ? session_to_kernel(s, fd) : -EINVAL;
}
