/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_stream.c - TCP data: FIFOs in, FIFOs out
 *
 * A reader takes bytes from the receive FIFO and tells the stack only when the window is to be
 * opened (rx_update_at); a writer stores bytes and posts a command. Nobody waits with a lock held,
 * so other threads may use the socket meanwhile (as with the kernel, their bytes then lie between).
 *
 * Ordering sock.space: a writer sets tx_nospace, then looks at the space again; the stack frees
 * space, then looks at tx_nospace. It wakes all who wait and sets tx_nospace to 0, and one of them, or another
 * process, may have filled the FIFO again before the next one looks: so each sets tx_nospace whenever it finds
 * too little room, not only when it found none first (nsock_tx_roomy).
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <nsocket/plugin/plugin.h>
#include <nsocket/sides.h>

#include <stdlib.h>
#include <unistd.h>

/* --- the FIFOs' sides ------------------------------------------------------------------------------ */

/* False: the session has gone to the kernel meanwhile (handover.c). */
static bool side_enter(struct nsock *ns, struct shm_session *s, uint32_t side)
{
	pthread_mutex_t *lock = side == SHARE_RX ? &ns->rx_lock : &ns->tx_lock;

	lock_take(lock);
	if (nsock_session(ns) == s && (!ns->remote || share_enter(ns, side))) {
		sides_take(side == SHARE_RX ? &s->rx.at_tail : &s->tx.at_head);
		return true;
	}
	lock_give(lock);
	if (ns->remote)
		share_gone(ns);
	return false;
}

static void side_leave(struct nsock *ns, struct shm_session *s, uint32_t side)
{
	sides_give(side == SHARE_RX ? &s->rx.at_tail : &s->tx.at_head);
	if (ns->remote)
		share_leave(ns, side);
	lock_give(side == SHARE_RX ? &ns->rx_lock : &ns->tx_lock);
}

/* --- receive ------------------------------------------------------------------------------------- */

static bool rx_over(const struct shm_session *s)
{
	/* acquire: what was published in rx before the end is seen by the look after this one */
	return (__atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_RX_EOF) ||
	       (__atomic_load_n(&s->app_flags, __ATOMIC_ACQUIRE) & SHM_AF_RX_SHUT) ||
	       __atomic_load_n(&s->error, __ATOMIC_ACQUIRE) ||
	       shm_session_state(s) == SHM_S_CLOSED;
}

/* What the reader of this thread waits for: so many bytes, or another urgent mark than this. */
static __thread uint32_t rx_want;
static __thread uint64_t rx_mark;

static bool rx_ready(void *p)
{
	struct nsock *ns = p;
	struct shm_session *s = nsock_session(ns);

	return !s || (shm_session_state(s) != SHM_S_CONNECTING &&
		      (fifo_used(&ns->rx) >= rx_want || rx_over(s) ||
		       (sock_urg_any(s) &&
			__atomic_load_n(&s->urg_pos, __ATOMIC_RELAXED) != rx_mark)));
}

/* Copy out what w allows; MSG_TRUNC: only drop. Under rx_lock. */
static uint32_t rx_copy(struct nsock *ns, const struct iovec *iov, size_t n, size_t skip, int flags,
			const struct rx_window *w)
{
	uint32_t off = w->from, got;

	for (size_t i = 0; i < n; i++) {
		size_t len = iov[i].iov_len, from = skip < len ? skip : len;

		skip -= from;
		len -= from;
		if (!len)
			continue;
		if (len > ns->rx.size)
			len = ns->rx.size;
		if (len > w->end - off)
			len = w->end - off;
		if (flags & MSG_TRUNC) {
			uint32_t used = fifo_used(&ns->rx) - off;

			got = used < len ? used : (uint32_t)len;
		} else {
			got = fifo_peek(&ns->rx, off, (char *)iov[i].iov_base + from, (uint32_t)len);
		}
		off += got;
		if (got < iov[i].iov_len - from)
			break;
	}
	if (!(flags & MSG_PEEK) && off) {
		fifo_consume(&ns->rx, off);
		/* Full barrier: our store of tail before our load of rx_update_at, against the stack's
		 * store of the mark before its load of tail (tcp_recv_mark). Or both would miss, and
		 * the window stay shut until the peer probes it. */
		nst_full_barrier();
		if (fifo_tail(&ns->rx) >= __atomic_load_n(&ns->s->rx_update_at, __ATOMIC_RELAXED))
			nsock_post(ns, SOCK_CMD_RX_FREED);
	}
	return off - w->from;
}

/* How many bytes at least to wait for; done: those that were taken. */
static uint32_t rx_low(const struct nsock *ns, const struct shm_session *s, size_t need,
		       const struct rx_window *w)
{
	uint32_t most = (ns->rx.size < s->rx_limit ? ns->rx.size : s->rx_limit) / 2;

	if (need > most)
		need = most;
	if (need > w->end)
		need = w->end; /* up to the urgent mark */
	return (need ? (uint32_t)need : 1) + w->from;
}

static ssize_t rx_oob(struct nsock *ns, struct shm_session *s, const struct iovec *iov, size_t n,
		      int flags)
{
	ssize_t r;

	worker_drive(); /* perhaps it lies in the ring */
	if (!side_enter(ns, s, SHARE_RX))
		return sock_moved_recv(ns, iov, n, 0, flags);
	r = sock_urg_recv(ns, s, iov, n, flags);
	side_leave(ns, s, SHARE_RX);
	return r;
}

/* Nothing to read and nothing will come: what does the call return? */
static ssize_t rx_end(struct shm_session *s)
{
	/* as in Linux: after a FIN the end is the end; an error stays for SO_ERROR and send() */
	if (__atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_FIN)
		return 0;
	return nsock_error(s);
}

#define RW_MAX 0x7ffff000u /* bytes of one call, as in Linux */

ssize_t sock_iov_check(const struct iovec *iov, size_t n, bool *low)
{
	size_t sum = 0;

	if (!user_ok(iov, n * sizeof(*iov)))
		return -EFAULT;
	for (size_t i = 0; i < n; i++) {
		uintptr_t at = (uintptr_t)iov[i].iov_base;
		size_t len = iov[i].iov_len;

		if ((ssize_t)len < 0)
			return -EINVAL;
		if (at > USER_MAX || len > USER_MAX - at)
			return -EFAULT;
		*low |= len && at < USER_MIN;
		sum += len;
	}
	return sum < RW_MAX ? (ssize_t)sum : RW_MAX;
}

ssize_t sock_stream_recv(struct nsock *ns, const struct iovec *iov, size_t n, int flags)
{
	struct shm_session *s = nsock_session(ns);
	size_t want, done = 0;
	bool low = false;
	ssize_t total = sock_iov_check(iov, n, &low);
	bool nonblock = (flags & MSG_DONTWAIT) || nsock_nonblock(ns), driven = false;
	uint64_t deadline = 0;
	struct rx_window w;
	size_t need;
	uint32_t got;
	bool end;
	int r;

	if (!s)
		return sock_moved_recv(ns, iov, n, 0, flags);
	if (total < 0)
		return total;
	want = need = (size_t)total;
	if (flags & MSG_TRUNC)
		low = false; /* nothing is stored */
	if (flags & MSG_ERRQUEUE)
		return -EAGAIN;
	if (flags & MSG_OOB)
		return low ? -EFAULT : rx_oob(ns, s, iov, n, flags);
	if (!(flags & MSG_WAITALL) && need > (s->rx_lowat ? s->rx_lowat : 1))
		need = s->rx_lowat ? s->rx_lowat : 1;
	if (shm_session_state(s) == SHM_S_CONNECTING && nonblock)
		return -EAGAIN;
	for (;;) {
		bool over = rx_over(s); /* before the look at the FIFO */

		if (!side_enter(ns, s, SHARE_RX))
			return sock_moved_recv(ns, iov, n, done, flags);
		if (flags & MSG_PEEK)
			done = 0; /* all of it again */
		w = (struct rx_window){ 0, UINT32_MAX };
		if (__builtin_expect(low, 0) && fifo_used(&ns->rx)) {
			side_leave(ns, s, SHARE_RX);
			return -EFAULT;
		}
		end = __builtin_expect(sock_urg_any(s), 0) && !sock_urg_window(ns, s, done, &w);
		got = end || !want ? 0 : rx_copy(ns, iov, n, done, flags, &w);
		rx_mark = s->urg_pos;
		side_leave(ns, s, SHARE_RX);
		done += got;
		if (done && (done >= need || nonblock || end || got == w.end)) {
			worker_tick();
			return (ssize_t)done;
		}
		if (!want && fifo_used(&ns->rx))
			return 0;
		if (over && !got)
			return done ? (ssize_t)done : rx_end(s);
		if (over)
			continue;
		if (!driven) {
			/* perhaps it lies in the ring already */
			driven = true;
			worker_drive();
			continue;
		}
		if (nonblock)
			return done ? (ssize_t)done : -EAGAIN;
		if (!deadline)
			deadline = nsock_deadline(ns->rcvtimeo);
		if (!(flags & MSG_PEEK)) {
			if (w.end != UINT32_MAX)
				w.end -= got;
			w.from = 0; /* it was taken */
		}
		rx_want = rx_low(ns, s, flags & MSG_PEEK ? need : need - done, &w);
		r = nsock_wait(ns, -1, 0, deadline, rx_ready, !done);
		if (r <= 0)
			return done ? (ssize_t)done : r ? r : -EAGAIN;
		if (nsock_session(ns) != s)
			return sock_moved_recv(ns, iov, n, done, flags);
	}
}

/* --- send ---------------------------------------------------------------------------------------- */

static bool tx_over(const struct shm_session *s)
{
	return (__atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_TX_DEAD) ||
	       (__atomic_load_n(&s->app_flags, __ATOMIC_ACQUIRE) & SHM_AF_TX_SHUT) ||
	       shm_session_state(s) == SHM_S_CLOSED;
}

static uint32_t tx_space(struct nsock *ns, struct shm_session *s)
{
	uint32_t used = fifo_used(&ns->tx);

	return used < s->tx_limit ? s->tx_limit - used : 0;
}

static bool tx_ready(void *p)
{
	struct nsock *ns = p;
	struct shm_session *s = nsock_session(ns);

	if (!s || tx_over(s) || __atomic_load_n(&s->error, __ATOMIC_ACQUIRE))
		return true;
	return shm_session_state(s) != SHM_S_CONNECTING && nsock_tx_roomy(ns, s);
}

static ssize_t tx_fail(struct shm_session *s, int flags)
{
	int err = nsock_error(s);

	if (err && err != -EPIPE)
		return err; /* as in Linux: the error first, without SIGPIPE; then EPIPE */
	if (!(flags & MSG_NOSIGNAL))
		raise(SIGPIPE);
	return -EPIPE;
}

/* Store what fits of the iov from byte `skip` on, at most `limit` bytes. Under tx_lock. */
static size_t tx_copy(struct nsock *ns, struct shm_session *s, const struct iovec *iov, size_t n,
		      size_t skip, size_t limit)
{
	size_t done = 0;

	for (size_t i = 0; i < n; i++) {
		size_t len = iov[i].iov_len, from = skip < len ? skip : len;
		size_t space = tx_space(ns, s);

		if (space > limit - done)
			space = limit - done;
		skip -= from;
		len -= from;
		if (!len)
			continue;
		if (!space)
			break;
		if (len > space)
			len = space;
		len = fifo_write(&ns->tx, (const char *)iov[i].iov_base + from, (uint32_t)len);
		done += len;
		if (len < iov[i].iov_len - from)
			break;
	}
	return done;
}

/* Of the n bytes that come next, the last one that there is room for is urgent; how many that are. Said
 * before they are published, since the stack may send them at once, and a mark that comes after its byte
 * has been sent is lost. */
static size_t urgent_mark(struct nsock *ns, struct shm_session *s, size_t n)
{
	size_t space = tx_space(ns, s);

	if (n > space)
		n = space;
	if (n) /* relaxed: published with the bytes (fifo.publish) */
		__atomic_store_n(&s->urg_sent, fifo_head(&ns->tx) + n, __ATOMIC_RELAXED);
	return n;
}

/* relaxed: whoever sets it while another one writes finds it before or behind that write, as on Linux */
static bool corked(const struct shm_session *s)
{
	return __atomic_load_n(&s->cork, __ATOMIC_RELAXED);
}

ssize_t sock_stream_send(struct nsock *ns, const struct iovec *iov, size_t n, int flags)
{
	struct shm_session *s = nsock_session(ns);
	size_t total, done = 0, put;
	bool low = false;
	ssize_t all = sock_iov_check(iov, n, &low);
	bool nonblock = (flags & MSG_DONTWAIT) || nsock_nonblock(ns), more = false;
	bool driven = false;
	uint64_t deadline = 0;
	int r;

	if (!s)
		return sock_moved_send(ns, iov, n, 0, flags);
	if (all < 0)
		return all;
	total = (size_t)all;
	if (flags & MSG_FASTOPEN) /* it connects */
		return shm_session_state(s) == SHM_S_CONNECTING ? -EALREADY : -EISCONN;
	for (;;) {
		if (shm_session_state(s) != SHM_S_CONNECTING) {
			if (!side_enter(ns, s, SHARE_TX))
				return sock_moved_send(ns, iov, n, done, flags);
			if (tx_over(s) || __atomic_load_n(&s->error, __ATOMIC_RELAXED)) {
				side_leave(ns, s, SHARE_TX);
				return done ? (ssize_t)done : tx_fail(s, flags);
			}
			if (__builtin_expect(low, 0)) {
				side_leave(ns, s, SHARE_TX);
				return -EFAULT;
			}
			more = flags & MSG_MORE || corked(s);
			put = tx_copy(ns, s, iov, n, done,
				      flags & MSG_OOB ? urgent_mark(ns, s, total - done) : SIZE_MAX);
			if (!more || done + put < total)
				s->push_pos = fifo_head(&ns->tx);
			side_leave(ns, s, SHARE_TX);
			done += put;
			if (put)
				nsock_post(ns, more && done == total ? SOCK_CMD_TX_MORE : SOCK_CMD_TX);
			if (done == total)
				return (ssize_t)done;
			/* full: say so, then look again (sock.space) */
			__atomic_store_n(&s->tx_nospace, 1, __ATOMIC_SEQ_CST);
			nst_full_barrier();
			if (tx_space(ns, s) && !driven) {
				driven = true;
				continue;
			}
			if (!driven) {
				driven = true;
				worker_drive(); /* acknowledgements may lie in the ring */
				continue;
			}
		}
		if (nonblock)
			return done ? (ssize_t)done : -EAGAIN;
		if (!deadline)
			deadline = nsock_deadline(ns->sndtimeo);
		r = nsock_wait(ns, -1, 0, deadline, tx_ready, !done);
		if (r <= 0)
			return done ? (ssize_t)done : r ? r : -EAGAIN;
		if (nsock_session(ns) != s)
			return sock_moved_send(ns, iov, n, done, flags);
	}
}

void sock_stream_cork(struct nsock *ns, bool on)
{
	struct shm_session *s = nsock_session(ns);

	if (!s)
		return;
	__atomic_store_n(&s->cork, on, __ATOMIC_RELAXED);
	if (on || nsock_mode(ns) != SK_STREAM || !side_enter(ns, s, SHARE_TX))
		return;
	s->push_pos = fifo_head(&ns->tx);
	side_leave(ns, s, SHARE_TX);
	nsock_post(ns, SOCK_CMD_TX);
}

/* --- from files and pipes --------------------------------------------------------------------------- */

#define SENDFILE_CHUNK (256u << 10)

/* Wait until something fits: bytes; 0 = error, end, or it moved to the kernel; or -errno. */
static ssize_t tx_wait(struct nsock *ns, struct shm_session *s, bool nonblock, uint64_t *deadline,
		       bool restart)
{
	bool driven = false;
	int r;

	while (nsock_session(ns) == s && !tx_over(s) && !__atomic_load_n(&s->error, __ATOMIC_ACQUIRE)) {
		if (shm_session_state(s) != SHM_S_CONNECTING && tx_space(ns, s))
			return tx_space(ns, s);
		/* full: say so, then look again (sock.space) */
		__atomic_store_n(&s->tx_nospace, 1, __ATOMIC_SEQ_CST);
		nst_full_barrier();
		if (!driven) {
			driven = true;
			worker_drive(); /* acknowledgements may lie in the ring */
			continue;
		}
		if (nonblock)
			return -EAGAIN;
		if (!*deadline)
			*deadline = nsock_deadline(ns->sndtimeo);
		r = nsock_wait(ns, -1, 0, *deadline, tx_ready, restart);
		if (r <= 0)
			return r ? r : -EAGAIN;
	}
	return 0;
}

ssize_t sock_stream_room(struct nsock *ns)
{
	struct shm_session *s = nsock_session(ns);
	uint64_t deadline = 0;
	ssize_t r;

	if (!s)
		return 0;
	r = tx_wait(ns, s, nsock_nonblock(ns), &deadline, true);
	return r || nsock_session(ns) != s ? r : tx_fail(s, 0);
}

/* Read from the file straight into the FIFO's free space. Under tx_lock. Bytes, 0 = end, -errno. */
static ssize_t file_fill(struct nsock *ns, struct shm_session *s, int in, off64_t *off, size_t n)
{
	uint32_t space = tx_space(ns, s);
	struct iovec v[2];
	ssize_t r;
	int nv;

	if (n > space)
		n = space;
	if (n > SENDFILE_CHUNK)
		n = SENDFILE_CHUNK;
	fifo_rewind(&ns->tx);
	nv = fifo_spans(&ns->tx, fifo_head(&ns->tx), (uint32_t)n, v);
	r = off ? preadv64(in, v, nv, *off) : libc.readv(in, v, nv);
	if (r < 0)
		return -errno;
	if (off)
		*off += r;
	fifo_publish(&ns->tx, (uint32_t)r);
	if (!corked(s))
		s->push_pos = fifo_head(&ns->tx);
	return r;
}

ssize_t sock_sendfile(struct nsock *ns, int out, int in, off64_t *off, size_t n)
{
	struct shm_session *s = nsock_session(ns);
	uint64_t deadline = 0;
	size_t done = 0;
	ssize_t r;

	if (nsock_mode(ns) == SK_PLUGIN)
		return plug_sendfile(ns, in, off, n);
	if (nsock_mode(ns) != SK_STREAM || !s)
		return libc_errno(libc.sendfile64(out, in, off, n));
	if (fd_is_ours(in))
		return -EINVAL;
	if (!off && lseek(in, 0, SEEK_CUR) < 0) /* what was read could not be put back */
		return errno == ESPIPE ? -EINVAL : -errno;
	while (done < n) {
		r = tx_wait(ns, s, nsock_nonblock(ns), &deadline, !done);
		if (r < 0)
			return done ? (ssize_t)done : r;
		if (!side_enter(ns, s, SHARE_TX)) {
			s = nsock_session(ns);
			if (s && nsock_mode(ns) == SK_STREAM)
				continue; /* a child's, that goes on in a session of its own */
			r = libc_errno(libc.sendfile64(out, in, off, n - done));
			return r < 0 ? (done ? (ssize_t)done : r) : (ssize_t)done + r;
		}
		if (tx_over(s) || __atomic_load_n(&s->error, __ATOMIC_RELAXED)) {
			side_leave(ns, s, SHARE_TX);
			return done ? (ssize_t)done : tx_fail(s, 0);
		}
		r = tx_space(ns, s) ? file_fill(ns, s, in, off, n - done) : -EAGAIN;
		side_leave(ns, s, SHARE_TX);
		if (r == -EAGAIN)
			continue;
		if (r <= 0)
			return done ? (ssize_t)done : r;
		done += (size_t)r;
		nsock_post(ns, corked(s) ? SOCK_CMD_TX_MORE : SOCK_CMD_TX);
	}
	return (ssize_t)done;
}
