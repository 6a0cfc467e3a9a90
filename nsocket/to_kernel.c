/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/to_kernel.c - what the stack has of a socket becomes the kernel's
 *
 * The shadow becomes the connection (repair.c); only then the steering tables give its packets to the kernel;
 * then the kernel is let speak, and the stack forgets. A packet on its way to the stack meanwhile is dropped
 * there and sent again by the peer; none meets a kernel that does not know the connection, which would reset
 * it. Datagrams that nobody has read are delivered to the shadow as packets.
 *
 * The worker lock is held for some 30 system calls and a copy of what is queued.
 */
#define _GNU_SOURCE
#include "nsocket/to_kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nsocket/inject.h>
#include <nsocket/libc.h>
#include <nsocket/ports.h>
#include <nsocket/repair.h>
#include <nsocket/worker_internal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DRAIN_ROUNDS 64
#define LATE_LOOKS 3

/* --- what is on its way ---------------------------------------------------------------------------- */

void to_kernel_drain(void)
{
	for (int i = 0; i < DRAIN_ROUNDS && worker_round_locked(); i++)
		;
}

void to_kernel_drain_late(void)
{
	static const struct timespec moment = { .tv_nsec = 100000 };

	to_kernel_drain();
	for (int i = 0; i < LATE_LOOKS; i++) {
		syscall(SYS_nanosleep, &moment, NULL);
		to_kernel_drain();
	}
}

/* --- what the placeholder of an accepted socket does not know yet ----------------------------------- */

struct replay {
	int opt, level4, name4, level6, name6;
};
#define BOTH(o, level, name) { o, level, name, level, name }
static const struct replay replays[] = {
	BOTH(STACK_OPT_NODELAY, IPPROTO_TCP, TCP_NODELAY),
	BOTH(STACK_OPT_KEEPIDLE, IPPROTO_TCP, TCP_KEEPIDLE),
	BOTH(STACK_OPT_KEEPINTVL, IPPROTO_TCP, TCP_KEEPINTVL),
	BOTH(STACK_OPT_KEEPCNT, IPPROTO_TCP, TCP_KEEPCNT),
	BOTH(STACK_OPT_KEEPALIVE, SOL_SOCKET, SO_KEEPALIVE),
	BOTH(STACK_OPT_USER_TIMEOUT, IPPROTO_TCP, TCP_USER_TIMEOUT),
	BOTH(STACK_OPT_LINGER2, IPPROTO_TCP, TCP_LINGER2),
	{ STACK_OPT_TOS, IPPROTO_IP, IP_TOS, IPPROTO_IPV6, IPV6_TCLASS },
};

static void option_replay(int fd, int level, int name, int v)
{
	socklen_t len = sizeof(int);
	int has = 0;

	if (libc.getsockopt(fd, level, name, &has, &len) == 0 && v != has)
		libc.setsockopt(fd, level, name, &v, sizeof(v));
}

static void options_replay(struct shm_session *s, int family, int fd)
{
	option_replay(fd, IPPROTO_TCP, TCP_CORK, __atomic_load_n(&s->cork, __ATOMIC_RELAXED) != 0);
	for (size_t i = 0; i < sizeof(replays) / sizeof(replays[0]); i++) {
		const struct replay *r = &replays[i];
		int level = family == AF_INET ? r->level4 : r->level6;
		int name = family == AF_INET ? r->name4 : r->name6, v = 0;
		uint32_t n = sizeof(v);

		if (worker.ops->getopt(worker.st, s, r->opt, &v, &n) == 0)
			option_replay(fd, level, name, v);
	}
}

/* --- TCP ------------------------------------------------------------------------------------------- */

/* Urgent data that is unread, or was read out of turn and is not yet passed by. */
static void urgent_find(const struct shm_session *s, struct repair *r)
{
	uint64_t tail;

	if (s->urg_skip > fifo_tail(r->rx))
		fifo_consume(r->rx, (uint32_t)(s->urg_skip - fifo_tail(r->rx)));
	tail = fifo_tail(r->rx);
	r->urg_at = REPAIR_NO_URG;
	if (!(s->stack_flags & SHM_SF_URG) || s->urg_pos <= tail || s->urg_pos > fifo_head(r->rx))
		return;
	r->urg_at = (uint32_t)(s->urg_pos - 1 - tail);
	r->urg_had = s->urg_read == s->urg_pos;
}

/* A connection that has ended: what is unread and how it ended are left. img has its addresses. */
static int ended_move(struct to_kernel *k, const struct repair *as, struct stack_tcp_image *img)
{
	struct fifo none = { .sh = &(struct shm_fifo){ 0 }, .size = k->tx.size };
	struct repair r = *as;
	int err;

	if (!img->remote.port)
		return -ENOTCONN;
	img->una = img->nxt = 1;
	img->rcv_nxt = 1 + fifo_used(r.rx);
	img->rcv_adv = img->rcv_nxt + 1;
	img->fin_rcvd = true;
	r.tx = &none;
	r.urg_at = REPAIR_NO_URG;
	err = repair_begin(&r);
	if (!err) /* acquire: pairs session.error */
		repair_dead(&r, __atomic_exchange_n(&k->view->error, 0, __ATOMIC_ACQ_REL));
	return err;
}

int to_kernel_tcp(struct to_kernel *k)
{
	uint32_t app = __atomic_load_n(&k->view->app_flags, __ATOMIC_RELAXED); /* relaxed: by a lock holder */
	struct stack_tcp_image img;
	struct repair r = { .fd = k->shadow, .family = k->family, .img = &img, .rx = &k->rx, .tx = &k->tx };
	int err = worker.ops->image(worker.st, k->s, &img);

	if (err)
		return err == -ENOTCONN ? ended_move(k, &r, &img) : err;
	if (img.nxt - img.una > fifo_used(&k->tx))
		return -EPROTO; /* of a program that took back what was sent */
	urgent_find(k->view, &r);
	img.fin_wanted |= (app & SHM_AF_TX_SHUT) != 0;
	options_replay(k->s, k->family, k->shadow);
	err = repair_begin(&r);
	if (err)
		return err;
	err = ports_to_kernel(IPPROTO_TCP, &img.local, &img.remote);
	if (err) {
		repair_undo(&r);
		return err;
	}
	worker.ops->moved(worker.st, k->s);
	repair_end(&r);
	if (app & SHM_AF_RX_SHUT)
		libc.shutdown(k->shadow, SHUT_RD);
	return 0;
}

/* --- UDP ------------------------------------------------------------------------------------------- */

void to_kernel_udp(struct to_kernel *k, uint16_t port,
		   bool (*ours)(void *arg, const struct nst_addr *local), void *arg)
{
	struct shm_dgram d;
	uint8_t *buf;

	while (fifo_peek(&k->rx, 0, &d, sizeof(d)) == sizeof(d) && d.len <= INJECT_UDP_MAX &&
	       shm_dgram_size(d.len) <= fifo_used(&k->rx)) {
		d.local.port = port;
		buf = d.flags & (SHM_DG_ERROR | SHM_DG_TAKEN) || (ours && !ours(arg, &d.local)) ? NULL : malloc(d.len + 1);
		if (buf) {
			fifo_peek(&k->rx, sizeof(d), buf, d.len);
			inject_udp(&d.peer, &d.local, d.tos, d.ttl, buf, d.len);
		}
		free(buf);
		fifo_consume(&k->rx, shm_dgram_size(d.len));
	}
}
