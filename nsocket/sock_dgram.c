/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_dgram.c - UDP: each datagram goes and comes by the stack or the kernel
 *
 * The stack gets what it can certainly send; whatever is unusual (flags, control messages, sizes,
 * destinations) goes through the shadow, which has the same local port, so its errors are the
 * kernel's own. Receiving takes from both, the session first, the shadow every so often.
 *
 * A record in the FIFO is published whole, so readers never see half of one. Data and errors
 * (MSG_ERRQUEUE) are in one FIFO and are read apart: what is taken out of turn is marked and
 * skipped later.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <limits.h>
#include <linux/errqueue.h>
#include <netinet/ip.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#define UDP_MAX 65507u
#define RECORD_MAX (UDP_MAX + 20 + (uint32_t)sizeof(struct shm_dgram_error))
#define KERNEL_TURN 16
#define TRAIN_MAX 128u /* datagrams of one UDP_SEGMENT call */

/* --- send -------------------------------------------------------------------------------------------- */

static bool tx_ready(void *p)
{
	struct nsock *ns = p;
	struct shm_session *s = nsock_session(ns);

	return !s || __atomic_load_n(&s->error, __ATOMIC_ACQUIRE) || nsock_tx_roomy(ns, s);
}

static int dgram_put(struct nsock *ns, struct shm_session *s, const struct msghdr *msg,
		     struct shm_dgram *d)
{
	uint32_t size = shm_dgram_size(d->len), off = sizeof(*d), used;

	lock_take(&ns->tx_lock);
	used = fifo_used(&ns->tx);
	if (used + size > s->tx_limit && used) {
		lock_give(&ns->tx_lock);
		return -EAGAIN;
	}
	fifo_rewind(&ns->tx);
	fifo_store(&ns->tx, 0, d, sizeof(*d));
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		fifo_store(&ns->tx, off, msg->msg_iov[i].iov_base, (uint32_t)msg->msg_iov[i].iov_len);
		off += (uint32_t)msg->msg_iov[i].iov_len;
	}
	fifo_publish(&ns->tx, size);
	lock_give(&ns->tx_lock);
	nsock_post(ns, SOCK_CMD_TX);
	return 0;
}

static ssize_t send_user(struct nsock *ns, struct shm_session *s, const struct msghdr *msg,
			 struct shm_dgram *d, int flags)
{
	bool nonblock = (flags & MSG_DONTWAIT) || nsock_nonblock(ns), driven = false;
	uint64_t deadline = 0;
	int r;

	for (;;) {
		r = nsock_error(s);
		if (!r)
			r = dgram_put(ns, s, msg, d);
		if (!r) {
			/* As with the kernel's: a datagram that has left makes room, an edge of OUT. */
			if (!cds_list_empty(&ns->f.watches))
				watch_notify(&ns->f, STACK_EV_OUT);
			return (ssize_t)d->len;
		}
		if (r != -EAGAIN)
			return r;
		__atomic_store_n(&s->tx_nospace, 1, __ATOMIC_SEQ_CST);
		nst_full_barrier();
		if (!driven) {
			driven = true;
			worker_drive();
			continue;
		}
		if (nonblock)
			return -EAGAIN;
		if (!deadline)
			deadline = nsock_deadline(ns->sndtimeo);
		r = nsock_wait(ns, -1, 0, deadline, tx_ready, true);
		if (r <= 0)
			return r ? r : -EAGAIN;
	}
}

/* What went before by the stack leaves before. */
static ssize_t send_kernel(struct nsock *ns, int fd, const struct msghdr *msg, int flags)
{
	struct shm_session *s = nsock_session(ns);
	ssize_t r;

	if (s && fifo_used(&ns->tx))
		worker_drive();
	r = libc_errno(libc.sendmsg(fd, msg, flags));
	if (r >= 0)
		ns->more = flags & MSG_MORE;
	return r;
}

/* Bytes to send; more than UDP_MAX if that is not for us to judge. */
static size_t payload(const struct msghdr *msg)
{
	bool low = false;
	ssize_t total = msg->msg_iovlen > IOV_MAX ? -EMSGSIZE :
			sock_iov_check(msg->msg_iov, msg->msg_iovlen, &low);

	return total < 0 || low ? SIZE_MAX : (size_t)total;
}

/* Where to; false: the kernel has to say what is wrong. */
static bool destination(struct nsock *ns, const struct msghdr *msg, struct nst_addr *to)
{
	const struct sockaddr *sa = msg->msg_name;

	if (!sa || !msg->msg_namelen) {
		*to = ns->peer;
		return to->family;
	}
	/* a socket that is for IPv6 only has no way to a mapped address */
	return msg->msg_namelen >= sizeof(sa->sa_family) && user_ok(sa, msg->msg_namelen) &&
	       sa->sa_family == ns->family &&
	       nst_addr_from_sockaddr(to, sa, msg->msg_namelen) == 0 && to->port &&
	       !(ns->v6only && to->family == AF_INET && ns->family == AF_INET6);
}

/* Does it fit as the stack would send it? Fragments are the kernel's business, unless they have to
 * be smaller than it thinks. */
static bool size_ok(const struct nsock *ns, const struct shm_dgram *d, const struct dgram_way *w)
{
	int mode;

	if (shm_dgram_size(d->len) > ns->tx.size)
		return false;
	if (d->gso_size && d->len > d->gso_size)
		return d->gso_size <= w->max && d->len <= d->gso_size * TRAIN_MAX;
	if (d->len <= w->max)
		return true;
	mode = sock_dgram_pmtudisc(ns, &w->to);
	return w->narrow && !d->gso_size && (mode == IP_PMTUDISC_WANT || mode == IP_PMTUDISC_DONT ||
				mode == IP_PMTUDISC_OMIT);
}

/* Too large for a hop that the kernel may not know of, and not to be cut? */
static bool too_big(const struct nsock *ns, const struct shm_dgram *d, const struct dgram_way *w)
{
	return w->stack && w->narrow && d->len > w->max && !d->gso_size &&
	       sock_dgram_pmtudisc(ns, &w->to) == IP_PMTUDISC_DO;
}

/* The kernel looks at a pending error when it takes memory for a datagram that it found nothing wrong
 * with; those that ICMP told the stack it does not know. */
static int pending_error(struct nsock *ns, const struct msghdr *msg, int flags)
{
	struct shm_session *s = nsock_session(ns);
	struct nst_addr to;

	if (!s || !__atomic_load_n(&s->error, __ATOMIC_RELAXED) || !destination(ns, msg, &to) ||
	    payload(msg) > UDP_MAX || (flags & MSG_OOB && to.family == AF_INET))
		return 0;
	return nsock_error(s);
}

/* 0: the stack can certainly send it (d is filled). -EMSGSIZE. Else 1: the kernel's. */
static int for_stack(struct nsock *ns, int fd, const struct msghdr *msg, int flags,
		     struct shm_dgram *d)
{
	struct dgram_way w;
	struct nst_addr to;
	size_t total;

	if (sock_dgram_kernel_only(ns) || (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) ||
	    ns->corked || ns->more || (ns->shut & 2) || !destination(ns, msg, &to))
		return 1;
	total = payload(msg);
	if (total > UDP_MAX)
		return 1;
	d->len = (uint32_t)total;
	d->gso_size = ns->gso_size;
	if (msg->msg_controllen && msg->msg_control &&
	    !(user_ok(msg->msg_control, msg->msg_controllen) && sock_cmsg_send(ns, msg, &to, d)))
		return 1;
	if (!sock_dgram_way(ns, fd, &to, &d->local, &w) || !size_ok(ns, d, &w) ||
	    (d->ifindex && d->ifindex != w.ifindex))
		return too_big(ns, d, &w) ? -EMSGSIZE : 1;
	if (msg->msg_name && msg->msg_namelen)
		d->peer = to;
	return 0;
}

ssize_t sock_dgram_send(struct nsock *ns, int fd, const struct msghdr *msg, int flags)
{
	struct shm_dgram d = { 0 };
	struct shm_session *s = NULL;
	int r = for_stack(ns, fd, msg, flags, &d);

	if (r < 0)
		return r;
	if (r == 0)
		s = nsock_session(ns);
	if (s)
		return send_user(ns, s, msg, &d, flags);
	r = pending_error(ns, msg, flags);
	return r ? r : send_kernel(ns, fd, msg, flags);
}

/* --- records --------------------------------------------------------------------------------------- */

struct record {
	uint32_t at; /* bytes past the FIFO's tail */
	struct shm_dgram d;
};

/* The first record of a kind that nobody took. Under rx_lock. */
static bool record_find(struct nsock *ns, bool error, struct record *r)
{
	uint32_t used = fifo_used(&ns->rx);

	for (r->at = 0; fifo_peek(&ns->rx, r->at, &r->d, sizeof(r->d)) == sizeof(r->d);
	     r->at += shm_dgram_size(r->d.len)) {
		if (r->d.len > RECORD_MAX || shm_dgram_size(r->d.len) > used - r->at) {
			fifo_consume(&ns->rx, used); /* can't be; nothing behind it can be found */
			return false;
		}
		if (!(r->d.flags & SHM_DG_TAKEN) && !(r->d.flags & SHM_DG_ERROR) == !error)
			return true;
	}
	return false;
}

static uint32_t record_read(struct nsock *ns, const struct record *r, uint32_t from,
			    const struct msghdr *msg)
{
	uint32_t off = from, left, n;

	for (size_t i = 0; i < msg->msg_iovlen && off < r->d.len; i++) {
		left = r->d.len - off;
		n = msg->msg_iov[i].iov_len < left ? (uint32_t)msg->msg_iov[i].iov_len : left;
		off += fifo_peek(&ns->rx, r->at + (uint32_t)sizeof(r->d) + off,
				 msg->msg_iov[i].iov_base, n);
	}
	return off - from;
}

/* Done with it. Under rx_lock. */
static void record_take(struct nsock *ns, const struct record *r)
{
	struct shm_session *s = ns->s;
	uint32_t flags = r->d.flags | SHM_DG_TAKEN;
	struct iovec v[2];
	struct shm_dgram d;

	/* counts before the record goes: who looks without the lock rather sees an error too few */
	if (r->d.flags & SHM_DG_ERROR)
		__atomic_store_n(&s->rx_errors_taken, s->rx_errors_taken + 1, __ATOMIC_RELAXED);
	if (r->at) {
		/* records lie at multiples of 8: the word is in one piece */
		fifo_spans(&ns->rx, fifo_tail(&ns->rx) + r->at + offsetof(struct shm_dgram, flags),
			   sizeof(flags), v);
		memcpy(v[0].iov_base, &flags, sizeof(flags));
		return;
	}
	fifo_consume(&ns->rx, shm_dgram_size(r->d.len));
	while (fifo_peek(&ns->rx, 0, &d, sizeof(d)) == sizeof(d) && (d.flags & SHM_DG_TAKEN))
		fifo_consume(&ns->rx, shm_dgram_size(d.len));
	if (fifo_tail(&ns->rx) >= __atomic_load_n(&s->rx_update_at, __ATOMIC_RELAXED) &&
	    s->rx_update_at)
		nsock_post(ns, SOCK_CMD_RX_FREED);
}

static bool errors_left(const struct shm_session *s)
{
	/* acquire: pairs session.rx_errors - the record is in the FIFO */
	return __atomic_load_n(&s->rx_errors, __ATOMIC_ACQUIRE) !=
	       __atomic_load_n(&s->rx_errors_taken, __ATOMIC_RELAXED);
}

/* Length of the next datagram, or -EAGAIN. */
static int next_len(struct nsock *ns)
{
	struct record r;
	bool found;

	lock_take(&ns->rx_lock);
	found = record_find(ns, false, &r);
	lock_give(&ns->rx_lock);
	return found ? (int)r.d.len : -EAGAIN;
}

int sock_dgram_next(struct nsock *ns, int fd)
{
	int n = next_len(ns);

	if (n == -EAGAIN) {
		worker_drive();
		n = next_len(ns);
	}
	if (n == -EAGAIN)
		return libc.ioctl(fd, FIONREAD, (long)&n) < 0 ? -errno : n;
	return n;
}

uint32_t sock_dgram_poll(struct nsock *ns, struct shm_session *s)
{
	uint32_t ev = __atomic_load_n(&s->error, __ATOMIC_ACQUIRE) ? STACK_EV_ERR : 0;

	if (errors_left(s))
		ev |= STACK_EV_ERR;
	/* only beside errors can there be records without data to read */
	if (fifo_used(&ns->rx) && (!(ev & STACK_EV_ERR) || next_len(ns) >= 0))
		ev |= STACK_EV_IN;
	/* relaxed: a shutdown() in another thread wakes who waits */
	switch (__atomic_load_n(&ns->shut, __ATOMIC_RELAXED)) {
	case 1 | 2:
		ev |= STACK_EV_HUP; /* fall through */
	case 1:
		ev |= STACK_EV_IN | STACK_EV_RDHUP;
	}
	return nsock_tx_roomy(ns, s) ? ev | STACK_EV_OUT | EPOLLWRBAND : ev;
}

/* --- errors ------------------------------------------------------------------------------------------ */

/* The next error that ICMP told is the pending one, if there is one (as in Linux). Under rx_lock. */
static void error_next(struct nsock *ns)
{
	struct shm_session *s = ns->s;
	struct shm_dgram_error e;
	struct record r;
	int32_t err = 0;

	if (record_find(ns, true, &r) &&
	    fifo_peek(&ns->rx, r.at + (uint32_t)sizeof(r.d), &e, sizeof(e)) == sizeof(e))
		err = (int32_t)e.err;
	__atomic_store_n(&s->error, err, __ATOMIC_RELEASE);
}

/* One entry of the error queue. -EAGAIN: none. */
static ssize_t error_get(struct nsock *ns, struct msghdr *msg)
{
	struct shm_dgram_error e;
	struct record r;
	uint32_t n;

	lock_take(&ns->rx_lock);
	if (!record_find(ns, true, &r) || r.d.len < sizeof(e)) {
		lock_give(&ns->rx_lock);
		return -EAGAIN;
	}
	fifo_peek(&ns->rx, r.at + (uint32_t)sizeof(r.d), &e, sizeof(e));
	n = record_read(ns, &r, sizeof(e), msg);
	record_take(ns, &r);
	error_next(ns);
	lock_give(&ns->rx_lock);
	msg->msg_flags = MSG_ERRQUEUE | (n < r.d.len - sizeof(e) ? MSG_TRUNC : 0);
	if (msg->msg_name)
		sock_addr_out(&r.d.peer, ns->family, msg->msg_name, &msg->msg_namelen);
	sock_cmsg_error(ns, msg, &r.d, &e);
	return n;
}

static ssize_t recv_error(struct nsock *ns, int fd, struct msghdr *msg, int flags)
{
	ssize_t r = error_get(ns, msg);

	if (r == -EAGAIN) {
		worker_drive();
		r = error_get(ns, msg);
	}
	return r != -EAGAIN ? r : libc_errno(libc.recvmsg(fd, msg, flags));
}

void sock_dgram_forget_errors(struct nsock *ns)
{
	struct record r;

	lock_take(&ns->rx_lock);
	while (ns->s && record_find(ns, true, &r))
		record_take(ns, &r);
	lock_give(&ns->rx_lock);
}

/* --- receive ------------------------------------------------------------------------------------------ */

static bool rx_ready(void *p)
{
	struct nsock *ns = p;
	struct shm_session *s = nsock_session(ns);

	if (!s)
		return false;
	if (__atomic_load_n(&s->error, __ATOMIC_ACQUIRE) || (ns->shut & 1))
		return true;
	return fifo_used(&ns->rx) && (!errors_left(s) || next_len(ns) >= 0);
}

/* One datagram from the session. -EAGAIN: none. */
static ssize_t dgram_get(struct nsock *ns, struct shm_session *s, struct msghdr *msg, int flags)
{
	struct record r;
	uint32_t n;
	int err = nsock_error(s);

	if (err)
		return err;
	lock_take(&ns->rx_lock);
	if (!record_find(ns, false, &r)) {
		lock_give(&ns->rx_lock);
		return -EAGAIN;
	}
	n = record_read(ns, &r, 0, msg);
	if (!(flags & MSG_PEEK))
		record_take(ns, &r);
	lock_give(&ns->rx_lock);
	msg->msg_flags = (flags & MSG_CMSG_CLOEXEC) | (n < r.d.len ? MSG_TRUNC : 0);
	if (msg->msg_name)
		sock_addr_out(&r.d.peer, ns->family, msg->msg_name, &msg->msg_namelen);
	sock_cmsg_data(ns, msg, &r.d);
	return flags & MSG_TRUNC ? (ssize_t)r.d.len : (ssize_t)n;
}

/* A session that comes while we wait wakes us (nsock_start). */
/* Nothing can come but by the kernel, so that waiting is its business, too. Not where the stack is asked
 * again (the daemon may return): whoever sleeps in the kernel then would not hear of it. */
static bool recv_by_kernel(const struct nsock *ns)
{
	return sock_dgram_kernel_only(ns) && !__atomic_load_n(&ns->retry_ns, __ATOMIC_RELAXED);
}

static bool session_came(void *p)
{
	return nsock_session(p) || recv_by_kernel(p);
}

/* One round over both halves, the session's first but now and then. -EAGAIN: nothing there. */
static ssize_t recv_once(struct nsock *ns, int fd, struct msghdr *msg, int flags)
{
	struct shm_session *s = nsock_session(ns);
	bool kernel_first = __atomic_add_fetch(&ns->turn, 1, __ATOMIC_RELAXED) % KERNEL_TURN == 0;
	ssize_t r = -EAGAIN;

	/* a pending error comes before data */
	if (s && __atomic_load_n(&s->error, __ATOMIC_RELAXED))
		kernel_first = false;

	if (kernel_first)
		r = libc_errno(libc.recvmsg(fd, msg, flags | MSG_DONTWAIT));
	if (r == -EAGAIN && s)
		r = dgram_get(ns, s, msg, flags);
	if (r == -EAGAIN && s) {
		worker_drive();
		r = dgram_get(ns, s, msg, flags);
	}
	if (r == -EAGAIN && !kernel_first)
		r = libc_errno(libc.recvmsg(fd, msg, flags | MSG_DONTWAIT));
	return r;
}

/* With a pointer near null: the datagram is taken, as in Linux. */
static ssize_t recv_nowhere(struct nsock *ns, int fd, int flags)
{
	struct msghdr none = { 0 };
	ssize_t r = sock_dgram_recv(ns, fd, &none, flags);

	return r < 0 ? r : -EFAULT;
}

ssize_t sock_dgram_recv(struct nsock *ns, int fd, struct msghdr *msg, int flags)
{
	bool low = false;
	ssize_t total = msg->msg_iovlen > IOV_MAX ? -EMSGSIZE :
			sock_iov_check(msg->msg_iov, msg->msg_iovlen, &low);
	bool nonblock = (flags & MSG_DONTWAIT) || nsock_nonblock(ns);
	uint64_t deadline = 0;
	ssize_t r;

	if (total < 0)
		return total;
	if (low)
		return recv_nowhere(ns, fd, flags);
	for (;;) {
		if (!nsock_session(ns))
			nsock_activate(ns, fd);
		if (!nsock_session(ns) && (nonblock || recv_by_kernel(ns)))
			return libc_errno(libc.recvmsg(fd, msg, flags));
		if (flags & MSG_ERRQUEUE)
			return nsock_session(ns) ? recv_error(ns, fd, msg, flags) :
						   libc_errno(libc.recvmsg(fd, msg, flags));
		r = recv_once(ns, fd, msg, flags);
		if (r != -EAGAIN || nonblock)
			return r;
		if (ns->shut & 1) {
			msg->msg_namelen = msg->msg_controllen = 0;
			msg->msg_flags = 0;
			return 0;
		}
		if (!deadline)
			deadline = nsock_deadline(ns->rcvtimeo);
		r = nsock_wait(ns, fd, POLLIN, deadline, nsock_session(ns) ? rx_ready : session_came,
			       true);
		if (r <= 0)
			return r ? r : -EAGAIN;
	}
}
