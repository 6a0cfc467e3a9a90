/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_urgent.c - TCP urgent data as the reader sees it
 *
 * The stack stores urgent bytes in the stream like any other and tells where the last one is: the
 * mark. All of Linux's rules about it are the reader's: a read ends in front of the mark; the byte at
 * the mark is left out of the stream, unless SO_OOBINLINE is set, and is had by MSG_OOB until it is
 * passed. urg_read remembers that it was had, urg_skip (the stack's) an older urgent byte at which the
 * reader stood when a newer mark came: that one is left out, too.
 *
 * Threads: the reader's side, under rx_lock; queries any. Ordering sock.urgent: positions before flag.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

bool sock_urg_mark(const struct nsock *ns, const struct shm_session *s, uint64_t *mark)
{
	/* acquire: pairs sock.urgent - the positions are written before the flag */
	if (!(__atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_URG))
		return false;
	*mark = __atomic_load_n(&s->urg_pos, __ATOMIC_RELAXED) - 1; /* relaxed: a later one is as good */
	return *mark >= fifo_tail(&ns->rx);
}

bool sock_urg_atmark(const struct nsock *ns, const struct shm_session *s)
{
	uint64_t mark;

	return sock_urg_mark(ns, s, &mark) && mark == fifo_tail(&ns->rx);
}

/* The byte has come and was not had. */
static bool urg_valid(const struct nsock *ns, const struct shm_session *s, uint64_t mark)
{
	return mark - fifo_tail(&ns->rx) < fifo_used(&ns->rx) &&
	       __atomic_load_n(&s->urg_read, __ATOMIC_RELAXED) != mark + 1;
}

bool sock_urg_pri(const struct nsock *ns, const struct shm_session *s)
{
	uint64_t mark;

	return sock_urg_mark(ns, s, &mark) && urg_valid(ns, s, mark);
}

uint32_t sock_urg_readable(const struct nsock *ns, const struct shm_session *s)
{
	uint32_t used = fifo_used(&ns->rx);

	return used && !ns->oobinline && sock_urg_atmark(ns, s) ? used - 1 : used;
}

uint32_t sock_urg_inq(const struct nsock *ns, const struct shm_session *s)
{
	uint32_t used = fifo_used(&ns->rx);
	uint64_t mark;

	if (!ns->oobinline && sock_urg_mark(ns, s, &mark) && mark - fifo_tail(&ns->rx) < used)
		return (uint32_t)(mark - fifo_tail(&ns->rx));
	return used;
}

bool sock_urg_window(struct nsock *ns, struct shm_session *s, bool more, struct rx_window *w)
{
	uint64_t tail = fifo_tail(&ns->rx), mark;

	if (!sock_urg_mark(ns, s, &mark))
		return true;
	if (mark > tail && fifo_used(&ns->rx) && !ns->oobinline &&
	    __atomic_load_n(&s->urg_skip, __ATOMIC_RELAXED) == tail + 1) {
		fifo_consume(&ns->rx, 1);
		tail++;
	}
	if (mark != tail) {
		if (mark - tail < w->end)
			w->end = (uint32_t)(mark - tail);
		return !more || w->end;
	}
	if (more)
		return false;
	if (!ns->oobinline && fifo_used(&ns->rx))
		w->from = 1;
	return true;
}

ssize_t sock_urg_recv(struct nsock *ns, struct shm_session *s, const struct iovec *iov, size_t n,
		      int flags)
{
	bool fin = __atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_FIN;
	bool over = shm_session_state(s) == SHM_S_CLOSED;
	uint64_t mark;
	uint8_t byte;

	if (ns->oobinline || !sock_urg_mark(ns, s, &mark) ||
	    __atomic_load_n(&s->urg_read, __ATOMIC_RELAXED) == mark + 1)
		return -EINVAL;
	if (over && !fin)
		return -ENOTCONN;
	if (fifo_peek(&ns->rx, (uint32_t)(mark - fifo_tail(&ns->rx)), &byte, 1) != 1)
		return over || fin || s->app_flags & SHM_AF_RX_SHUT ? 0 : -EAGAIN;
	if (!(flags & MSG_PEEK))
		__atomic_store_n(&s->urg_read, mark + 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < n; i++) {
		if (!iov[i].iov_len)
			continue;
		if (!(flags & MSG_TRUNC))
			*(uint8_t *)iov[i].iov_base = byte;
		return 1;
	}
	return 0;
}

/* --- SIGURG ---------------------------------------------------------------------------------------- */

void sock_owner_set(struct nsock *ns, int type, pid_t pid)
{
	if (ns->remote)
		share_listen(); /* for events of the parent's stack */
	/* one word, so that a reader sees both parts of one call */
	__atomic_store_n(&ns->owner, (uint64_t)(uint32_t)type << 32 | (uint32_t)pid,
			 __ATOMIC_RELAXED);
}

void sock_owner_urgent(struct nsock *ns, const struct shm_session *s)
{
	uint64_t owner = __atomic_load_n(&ns->owner, __ATOMIC_RELAXED);
	uint64_t pos = __atomic_load_n(&s->urg_pos, __ATOMIC_RELAXED);
	pid_t pid = (pid_t)owner;

	if (!pid || __atomic_exchange_n(&ns->urg_told, pos, __ATOMIC_RELAXED) == pos)
		return;
	switch (owner >> 32) {
	case F_OWNER_TID:
		syscall(SYS_tkill, pid, SIGURG);
		break;
	case F_OWNER_PGRP:
		kill(-pid, SIGURG);
		break;
	default:
		kill(pid, SIGURG);
		break;
	}
}
