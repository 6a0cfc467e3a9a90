/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/to_backlog.c - connections that wait for accept() go to the kernel's listener
 *
 * The kernel is shown the end of a handshake, whose numbers are ours (bpf/backlog.h), then what the peer has
 * sent and we have acknowledged. Only then the packets are the kernel's, as in to_kernel.c.
 */
#define _GNU_SOURCE
#include "nsocket/to_backlog.h"

#include <bpf/backlog.h>
#include <errno.h>
#include <nsocket/inject.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DELIVER_NS 20000000ull /* the loopback delivers at once, or as soon as it gets to it */
#define UNREAD_MAX 32768u      /* what a new connection of the kernel takes in any case */
_Static_assert(UNREAD_MAX <= INJECT_TCP_MAX, "one segment");

static struct backlog backlog; /* with opened */
static bool opened;

void to_backlog_prepare(void)
{
	if (opened)
		return;
	inject_keep();
	opened = !backlog_open(&backlog);
}

int to_backlog_begin(void)
{
	to_backlog_prepare();
	return opened ? backlog_begin(&backlog) : -EPERM;
}

void to_backlog_end(void)
{
	backlog_end(&backlog);
}

/* All descriptors of the parent are closed by number. */
void to_backlog_after_fork_child(void)
{
	opened = false;
	inject_after_fork_child();
}

/* A handshake, and some bytes that were received, are all that a new connection can have behind it. */
static bool as_new(struct shm_session *s, const struct stack_tcp_image *i, uint32_t unread)
{
	struct fifo tx = shm_session_tx(worker.region, s);

	return i->una == i->nxt && !fifo_used(&tx) && !i->fin_wanted && !i->closed &&
	       unread <= UNREAD_MAX && !(s->stack_flags & SHM_SF_URG);
}

static struct backlog_agreed agreed(const struct stack_tcp_image *i)
{
	return (struct backlog_agreed){
		.rcv_tsval = i->ts ? i->ts_recent : 0, .rcv_tsecr = i->ts ? i->ts_val : 0,
		.mss = i->peer_mss, .wscale_ok = i->wscale, .sack_ok = i->sack, .tstamp_ok = i->ts,
		.rcv_wscale = i->wscale ? i->rcv_wscale : 0, .snd_wscale = i->wscale ? i->snd_wscale : 0,
	};
}

/* A segment from the peer, with what is unread from `at` on. */
static struct inject_tcp segment(const struct stack_tcp_image *i, uint32_t unread)
{
	return (struct inject_tcp){
		.from = i->remote, .to = i->local, .seq = i->rcv_nxt - unread, .ack = i->una,
		.wnd = i->snd_wnd >> i->snd_wscale, .ts = i->ts, .ts_val = i->ts_recent, .ts_ecr = i->ts_val,
	};
}

/* The kernel has the connection, or will not. */
static bool taken(const struct stack_tcp_image *i)
{
	static const struct timespec moment = { .tv_nsec = 200000 };
	uint64_t end = worker_now() + DELIVER_NS;
	bool yes;

	while (!(yes = backlog_took(&backlog, &i->local, &i->remote)) && worker_now() < end)
		syscall(SYS_nanosleep, &moment, NULL);
	return yes;
}

static int handshake_show(const struct stack_tcp_image *i, uint32_t unread)
{
	struct backlog_agreed a = agreed(i);
	struct inject_tcp ack = segment(i, unread);
	int err = backlog_expect(&backlog, &i->local, &i->remote, &a);

	if (err)
		return err;
	err = inject_tcp(&ack);
	if (!err && !taken(i))
		err = -ECONNREFUSED;
	if (err)
		backlog_forget(&backlog, &i->local, &i->remote);
	return err;
}

int to_backlog_move(struct shm_session *s)
{
	struct fifo rx = shm_session_rx(worker.region, s);
	uint32_t unread = fifo_used(&rx);
	struct stack_tcp_image i;
	struct inject_tcp g;
	int err = worker.ops->image(worker.st, s, &i);
	uint8_t *data;

	if (err || !as_new(s, &i, unread))
		return err ? err : -EOPNOTSUPP;
	data = malloc(unread + 1);
	if (!data)
		return -ENOMEM;
	err = handshake_show(&i, unread);
	if (!err) {
		g = segment(&i, unread);
		g.data = data;
		g.len = fifo_peek(&rx, 0, data, unread);
		g.fin = i.fin_rcvd;
		if (g.len || g.fin)
			inject_tcp(&g);
		/* without a pin the peer would go on talking to nobody: that is what it would meet anyway */
		ports_to_kernel(IPPROTO_TCP, &i.local, &i.remote);
		worker.ops->moved(worker.st, s);
		worker.ops->close(worker.st, s, -1);
	}
	free(data);
	return err;
}
