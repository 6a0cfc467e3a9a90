/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/handover.c - a socket moves to the kernel
 *
 * A TCP connection: the readers and writers of the socket are kept out by its locks (those of forked
 * children by share_freeze()), the stack by the worker lock. Whoever has the stack, this process or nstackd,
 * makes the shadow the connection (to_kernel.c). Whoever was waiting finds that the session is gone and goes
 * on with the shadow (sock_stream.c).
 *
 * A UDP socket: what was received already is delivered to the shadow as packets, before its port's claim
 * ends and after. A listener: its claim ends; connections that the stack has accepted stay.
 *
 * Threads: any. Lock order: nsock.lock, rx_lock, tx_lock, worker lock.
 */
#define _GNU_SOURCE
#include "nsocket/handover.h"

#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <nsocket/to_kernel.h>
#include <rd/config.h>
#include <rd/log.h>
#include <sched.h>
#include <stacks/remote/remote.h>
#include <stdlib.h>

#define CLOSE_TRIES 100

/* --- what only the socket layer keeps ------------------------------------------------------------------ */

static void timeout_replay(int fd, int name, uint64_t ns)
{
	struct timeval tv = { .tv_sec = (time_t)(ns / 1000000000u),
			      .tv_usec = (suseconds_t)(ns / 1000 % 1000000) };

	if (ns)
		libc.setsockopt(fd, SOL_SOCKET, name, &tv, sizeof(tv));
}

static void socket_replay(const struct nsock *ns, int fd)
{
	struct linger lg = { 1, ns->linger_s };
	int low = (int)ns->rcvlowat;

	timeout_replay(fd, SO_RCVTIMEO, ns->rcvtimeo);
	timeout_replay(fd, SO_SNDTIMEO, ns->sndtimeo);
	if (ns->linger_s >= 0)
		libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	if (low > 1)
		libc.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
}

/* --- a TCP connection ---------------------------------------------------------------------------------- */

/* Under the worker lock; nobody touches the FIFOs. */
int handover_session_locked(struct shm_session *s, int shadow)
{
	struct to_kernel k = { .s = s, .view = s, .rx = shm_session_rx(worker.region, s),
			       .tx = shm_session_tx(worker.region, s), .shadow = shadow, .family = s->family };

	if (worker.ops == &remote_stack_ops)
		return remote_to_kernel(worker.st, s, shadow);
	to_kernel_drain();
	return to_kernel_tcp(&k);
}

/* Under nsock.lock, rx_lock and tx_lock. */
static int stream_move(struct nsock *ns, int fd)
{
	struct shm_session *s;
	int err = -ENOTCONN;

	sock_opt_settle_locked(ns, fd);
	worker_lock();
	s = ns->s;
	if (s && worker.st) {
		if (ns->share)
			share_freeze(ns->share);
		err = handover_session_locked(s, fd);
		if (!err)
			socket_replay(ns, fd);
		if (ns->share)
			share_thaw(ns->share, err);
	}
	if (!err) {
		nsock_session_drop_locked(ns, -1);
		ns->connecting = false;
	}
	worker_unlock();
	return err;
}

static int stream_handover(struct nsock *ns, int fd, enum sock_reason why)
{
	int err = 0;

	lock_take(&ns->lock);
	lock_take(&ns->rx_lock);
	lock_take(&ns->tx_lock);
	if (nsock_mode(ns) == SK_STREAM)
		err = stream_move(ns, fd);
	lock_give(&ns->tx_lock);
	lock_give(&ns->rx_lock);
	if (!err)
		nsock_to_kernel(ns, why);
	lock_give(&ns->lock);
	if (!err)
		nsock_wake(ns, STACK_EV_IN | STACK_EV_OUT);
	return err;
}

/* A session of nobody: a socket is made for it, and closed at once. */
static int closed_handover(struct shm_session *s)
{
	int fd = fd_hide(libc.socket(s->family, SOCK_STREAM | SOCK_CLOEXEC, 0)), err;

	if (fd < 0)
		return -errno;
	err = handover_session_locked(s, fd);
	fd_hide_close(fd);
	if (!err)
		worker.ops->close(worker.st, s, -1);
	return err;
}

int handover_closed(void)
{
	struct stack_tcp_image img;
	struct shm_session *s;
	int failed = 0;

	worker_lock();
	for (uint32_t id = 0; worker.st && id < rd_config()->max_sockets; id++) {
		s = shm_session_get(worker.region, id);
		if (s && s->proto == IPPROTO_TCP && worker.ops->image(worker.st, s, &img) == 0 &&
		    img.closed)
			failed += closed_handover(s) != 0;
	}
	worker_unlock();
	return failed;
}

/* --- UDP, listeners, the undecided --------------------------------------------------------------------- */

/* What the stack has received and nobody read, to the shadow. Under the worker lock and rx_lock. */
static void dgrams_move(struct nsock *ns, int fd)
{
	struct to_kernel k = { .s = ns->s, .view = ns->s, .rx = ns->rx };

	if (worker.ops == &remote_stack_ops) {
		int n = remote_to_kernel(worker.st, ns->s, fd);

		if (n > 0 && (uint32_t)n <= fifo_used(&ns->rx))
			fifo_consume(&ns->rx, (uint32_t)n);
		return;
	}
	to_kernel_drain_late();
	to_kernel_udp(&k, ns->local.port, NULL, NULL);
}

static void dgram_handover(struct nsock *ns, int fd, enum sock_reason why)
{
	lock_take(&ns->lock);
	lock_take(&ns->rx_lock);
	lock_take(&ns->tx_lock);
	worker_lock();
	if (ns->s && worker.st) {
		dgrams_move(ns, fd); /* before the kernel gets newer ones */
		if (ns->port_held)
			ports_release(ns->proto, &ns->held);
		ns->port_held = false;
		ports_listener_gone(ns->proto, &ns->held);
		dgrams_move(ns, fd); /* and what came meanwhile */
		nsock_session_drop_locked(ns, -1);
	}
	worker_unlock();
	lock_give(&ns->tx_lock);
	lock_give(&ns->rx_lock);
	nsock_to_kernel(ns, why);
	lock_give(&ns->lock);
	nsock_wake(ns, STACK_EV_IN | STACK_EV_OUT);
}

/* New connections are the kernel's; both are accepted from as long as the socket is open. */
static void listener_handover(struct nsock *ns, enum sock_reason why)
{
	lock_take(&ns->lock);
	worker_lock();
	if (ns->port_held && worker.st) {
		ports_release(ns->proto, &ns->held);
		ports_listener_gone(ns->proto, &ns->held);
		ns->port_held = false;
	}
	worker_unlock();
	if (!ns->rejected || ns->retry_ns) /* or it was the kernel's before, for a reason of its own */
		nsock_to_kernel(ns, why);
	lock_give(&ns->lock);
}

static void new_handover(struct nsock *ns, enum sock_reason why)
{
	lock_take(&ns->lock);
	if (nsock_mode(ns) == SK_NEW)
		nsock_to_kernel(ns, why);
	lock_give(&ns->lock);
}

/* A descriptor of the shadow that no other thread closes meanwhile. */
static int shadow_dup(struct nsock *ns, int fd)
{
	int own;

	if (fd < 0)
		fd = nfile_fd(&ns->f);
	if (fd >= 0) {
		own = fd_hide(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0));
		/* the table forgets a number before it is closed */
		if (own >= 0 && __atomic_load_n(&nfile_table[fd], __ATOMIC_ACQUIRE) == &ns->f)
			return own;
		fd_hide_close(own);
	}
	return ns->kept_fd < 0 ? -1 : fd_hide(libc.fcntl(ns->kept_fd, F_DUPFD_CLOEXEC, 0));
}

static int connection_handover(struct nsock *ns, int fd, enum sock_reason why)
{
	int own = -1, err;

	if (ns->remote)
		return share_ask(ns);
	for (int i = 0; own < 0 && i < CLOSE_TRIES; i++) {
		own = shadow_dup(ns, fd);
		if (own < 0) /* about to be closed, and perhaps to be kept: share_keep() */
			sched_yield();
	}
	if (own < 0)
		return -EBADF;
	err = stream_handover(ns, own, why);
	fd_hide_close(own);
	if (err)
		ns_log(NS_WAR, NS_M_NSOCKET, "a connection stays in the stack: %s", strerror(-err));
	return err;
}

int nsock_handover(struct nsock *ns, int fd, enum sock_reason why)
{
	int err = 0;

	switch (nsock_mode(ns)) {
	case SK_NEW:
		new_handover(ns, why);
		break;
	case SK_LISTEN:
		listener_handover(ns, why);
		break;
	case SK_DGRAM:
		dgram_handover(ns, fd < 0 ? nfile_fd(&ns->f) : fd, why);
		break;
	case SK_STREAM:
		err = connection_handover(ns, fd, why);
		break;
	case SK_PLUGIN:
		err = -EOPNOTSUPP; /* its stack can't give it away */
		break;
	case SK_LOST:
		err = -ECONNRESET;
		break;
	}
	return err;
}

int nsock_park(struct nsock *ns, int fd)
{
	int err = -EOPNOTSUPP;

	lock_take(&ns->lock);
	worker_lock();
	if (worker.ops == &remote_stack_ops && ns->s && !ns->remote && nsock_mode(ns) == SK_STREAM)
		err = remote_park(worker.st, ns->s, fd);
	worker_unlock();
	if (!err) {
		sock_opt_settle_locked(ns, fd);
		socket_replay(ns, fd);
	}
	lock_give(&ns->lock);
	return err;
}

int nsock_handover_each(bool (*which)(struct nsock *ns, int fd), enum sock_reason why)
{
	struct nfile *f;
	int failed = 0;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && (!which || which(nsock_of(f), fd)))
			failed += nsock_handover(nsock_of(f), fd, why) != 0;
		nfile_put(f);
	}
	return failed;
}

/* --- a call that was under way ------------------------------------------------------------------------- */

/* iov without its first `done` bytes, in memory of the caller's; entries, -1 = no memory. */
static ssize_t iov_rest(const struct iovec *iov, size_t n, size_t done, struct iovec **out)
{
	struct iovec *v = malloc((n + 1) * sizeof(*v));
	size_t m = 0;

	for (size_t i = 0; v && i < n; i++) {
		size_t skip = done < iov[i].iov_len ? done : iov[i].iov_len;

		done -= skip;
		if (iov[i].iov_len > skip)
			v[m++] = (struct iovec){ (char *)iov[i].iov_base + skip,
						 iov[i].iov_len - skip };
	}
	*out = v;
	return v ? (ssize_t)m : -1;
}

/* The rest of a call by the kernel; done bytes were served. */
static ssize_t rest(struct nsock *ns, const struct iovec *iov, size_t n, size_t done, int flags,
		    bool send)
{
	struct msghdr m = { 0 };
	struct iovec *v;
	ssize_t r = iov_rest(iov, n, done, &v);
	int fd = nfile_fd(&ns->f);

	if (r < 0)
		return done ? (ssize_t)done : -ENOBUFS;
	m.msg_iov = v;
	m.msg_iovlen = (size_t)r;
	r = libc_errno(send ? libc.sendmsg(fd, &m, flags) : libc.recvmsg(fd, &m, flags));
	free(v);
	return r < 0 ? (done ? (ssize_t)done : r) : (ssize_t)done + r;
}

/* A child's connection that goes on in a session of its own. */
static bool has_session(struct nsock *ns)
{
	return nsock_mode(ns) == SK_STREAM && nsock_session(ns);
}

static ssize_t rest_of_stack(struct nsock *ns, const struct iovec *iov, size_t n, size_t done, int flags,
			     bool send)
{
	struct iovec *v;
	ssize_t r = iov_rest(iov, n, done, &v);

	if (r < 0)
		return done ? (ssize_t)done : -ENOBUFS;
	r = send ? sock_stream_send(ns, v, (size_t)r, flags) : sock_stream_recv(ns, v, (size_t)r, flags);
	free(v);
	return r < 0 && done ? (ssize_t)done : r < 0 ? r : (ssize_t)done + r;
}

/* The session is gone before the mode says so; the lock is held in between. */
static bool is_kernel(struct nsock *ns)
{
	lock_take(&ns->lock);
	lock_give(&ns->lock);
	return nsock_mode(ns) == SK_KERNEL;
}

ssize_t sock_moved_recv(struct nsock *ns, const struct iovec *iov, size_t n, size_t done, int flags)
{
	bool kernel = is_kernel(ns);

	if (!kernel && !has_session(ns))
		return -ENOTCONN;
	if (done && !(flags & MSG_PEEK) && !(flags & MSG_WAITALL))
		return (ssize_t)done;
	if (!kernel)
		return rest_of_stack(ns, iov, n, flags & MSG_PEEK ? 0 : done, flags, false);
	return rest(ns, iov, n, flags & MSG_PEEK ? 0 : done, flags, false);
}

ssize_t sock_moved_send(struct nsock *ns, const struct iovec *iov, size_t n, size_t done, int flags)
{
	if (!is_kernel(ns))
		return has_session(ns) ? rest_of_stack(ns, iov, n, done, flags, true) :
		       done ? (ssize_t)done : -EPIPE;
	return rest(ns, iov, n, done, flags, true);
}
