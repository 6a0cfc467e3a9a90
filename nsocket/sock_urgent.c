/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_urgent.c - TCP urgent data as the reader sees it
 *
 * The stack stores urgent bytes in the stream like any other and tells where the last one is: the
 * mark. All of Linux's rules about it are the reader's: a read ends in front of the mark; the byte at
 * the mark is left out of the stream, unless SO_OOBINLINE is set, and is had by MSG_OOB until it is
 * passed. urg_read remembers that it was had, urg_skip (the stack's) where an older urgent byte ends at
 * which the reader stood when a newer mark came: that one is left out, too.
 *
 * Threads: the reader's side, under rx_lock; queries any. Ordering sock.urgent: positions before flag.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the reader stands: past older urgent bytes that it is to leave out. */
static uint64_t urg_tail(const struct nsock *ns, const struct shm_session *s)
{
	uint64_t tail = fifo_tail(&ns->rx), skip = __atomic_load_n(&s->urg_skip, __ATOMIC_RELAXED);

	return skip > tail ? skip : tail;
}

bool sock_urg_mark(const struct nsock *ns, const struct shm_session *s, uint64_t *mark)
{
	/* acquire: pairs sock.urgent - the positions are written before the flag */
	if (!(__atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_URG))
		return false;
	*mark = __atomic_load_n(&s->urg_pos, __ATOMIC_RELAXED) - 1; /* relaxed: a later one is as good */
	return *mark >= urg_tail(ns, s);
}

bool sock_urg_atmark(const struct nsock *ns, const struct shm_session *s)
{
	uint64_t mark;

	return sock_urg_mark(ns, s, &mark) && mark == urg_tail(ns, s);
}

/* Was the byte had by MSG_OOB? */
static bool urg_had(const struct shm_session *s, uint64_t mark)
{
	return __atomic_load_n(&s->urg_read, __ATOMIC_RELAXED) == mark + 1;
}

/* Has it come? */
static bool urg_seen(const struct shm_session *s, uint64_t mark)
{
	/* acquire: pairs session.urg_byte */
	return __atomic_load_n(&s->urg_seen, __ATOMIC_ACQUIRE) == mark + 1;
}

bool sock_urg_pri(const struct nsock *ns, const struct shm_session *s)
{
	uint64_t mark;

	return sock_urg_mark(ns, s, &mark) && urg_seen(s, mark) && !urg_had(s, mark);
}

/* Bytes that lie behind the reader's position. */
static uint32_t urg_used(const struct nsock *ns, const struct shm_session *s)
{
	uint32_t used = fifo_used(&ns->rx), skip = (uint32_t)(urg_tail(ns, s) - fifo_tail(&ns->rx));

	return used > skip ? used - skip : 0;
}

uint32_t sock_urg_readable(const struct nsock *ns, const struct shm_session *s)
{
	uint32_t used = urg_used(ns, s);

	return used && !ns->oobinline && sock_urg_atmark(ns, s) ? used - 1 : used;
}

uint32_t sock_urg_inq(const struct nsock *ns, const struct shm_session *s)
{
	uint32_t used = urg_used(ns, s);
	uint64_t mark, tail = urg_tail(ns, s);

	return !ns->oobinline && sock_urg_mark(ns, s, &mark) && mark - tail < used ?
		       (uint32_t)(mark - tail) :
		       used;
}

bool sock_urg_window(struct nsock *ns, struct shm_session *s, bool more, struct rx_window *w)
{
	uint64_t tail = urg_tail(ns, s), mark;

	fifo_consume(&ns->rx, (uint32_t)(tail - fifo_tail(&ns->rx)));
	if (!sock_urg_mark(ns, s, &mark))
		return true;
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

	if (ns->oobinline || !sock_urg_mark(ns, s, &mark) || urg_had(s, mark))
		return -EINVAL;
	if (over && !fin)
		return -ENOTCONN;
	if (!urg_seen(s, mark))
		return over || fin || s->app_flags & SHM_AF_RX_SHUT ? 0 : -EAGAIN;
	if (!(flags & MSG_PEEK))
		__atomic_store_n(&s->urg_read, mark + 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < n; i++) {
		if (!iov[i].iov_len)
			continue;
		if (!(flags & MSG_TRUNC))
			*(uint8_t *)iov[i].iov_base = s->urg_byte;
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
