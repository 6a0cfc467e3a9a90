/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_dgram.c - UDP: each datagram goes and comes by the stack or the kernel
 *
 * A destination is looked up once (rules, route) and the answer kept for a short time in the
 * socket; the datagram then goes through the session or the shadow, both of which have the same
 * local port. Receiving takes from both, the session first, the shadow every so often.
 *
 * A record in the FIFO is published whole, so readers never see half of one.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <netinet/ip.h>
#include <netinet/udp.h>
#include <rd/rules.h>
#include <stdlib.h>

#define UDP_MAX 65507u
#define WAY_NS 50000000ull /* how long the way to a destination is trusted */
#define KERNEL_TURN 16

static bool kernel_only(struct nsock *ns)
{
	return nsock_mode(ns) == SK_KERNEL || (ns->rejected && !nsock_session(ns));
}

/* --- the session ---------------------------------------------------------------------------------- */

/* For sending: bind if need be, claim, open. 0 or -errno. */
static int dgram_open(struct nsock *ns, int fd)
{
	struct shm_session *s;
	int err;

	if (nsock_session(ns))
		return 0;
	pthread_mutex_lock(&ns->lock);
	err = ns->rejected ? -EOPNOTSUPP : sock_autobind(ns, fd);
	if (!err && !ns->s) {
		worker_lock();
		err = ports_claim(IPPROTO_UDP, &ns->local, ns->family == AF_INET6 && !ns->v6only);
		if (!err) {
			ns->held = ns->local;
			ns->port_held = true;
			err = nsock_session_open_locked(ns, &s);
		}
		if (!err) {
			nsock_session_attach_locked(ns, s);
			err = worker.ops->bind(worker.st, s, &ns->local);
		}
		if (err)
			nsock_session_drop_locked(ns, 0);
		worker_unlock();
		if (err) {
			ns->rejected = true;
			sock_reason(err == -EADDRINUSE ? SR_port_owned_by_other :
							 SR_stack_refused);
		} else {
			nsock_set_mode(ns, SK_DGRAM);
		}
	}
	pthread_mutex_unlock(&ns->lock);
	return err;
}

/* Does a datagram to `to` go through the stack? */
static bool way_user(struct nsock *ns, int fd, const struct nst_addr *to)
{
	uint64_t now = worker_now(), gen = rd_rules_generation();
	static const struct nst_addr none;
	struct nst_addr src;
	struct rd_verdict v;
	bool user;

	if (kernel_only(ns))
		return false;
	if (now < ns->way_until && gen == ns->way_rules && ns->way_to.port == to->port &&
	    nst_addr_same_ip(&ns->way_to, to))
		return ns->way_user;
	user = !nst_addr_is_any(to) && !sock_is_multicast(to);
	if (user) {
		v = rd_lookup(IPPROTO_UDP, ns->bound ? &ns->local : &none, to);
		user = v.action == RD_STACK;
	}
	if (user && !worker_start()) {
		sock_reason(SR_stack_not_running);
		ns->rejected = true;
		return false;
	}
	if (user) {
		worker_lock();
		user = worker.ops->route(worker.st, to, NULL, &src) == 0;
		worker_unlock();
	}
	if (user)
		user = dgram_open(ns, fd) == 0;
	ns->way_to = *to;
	ns->way_rules = gen;
	ns->way_user = user;
	ns->way_until = now + WAY_NS;
	return user;
}

/* --- send -------------------------------------------------------------------------------------------- */

static bool tx_ready(void *p)
{
	struct nsock *ns = p;
	struct shm_session *s = nsock_session(ns);

	return !s || fifo_used(&ns->tx) < s->tx_limit - s->tx_limit / 3 ||
	       __atomic_load_n(&s->error, __ATOMIC_ACQUIRE);
}

/* Control messages that a datagram brings. -EINVAL: one that we do not serve (the kernel would). */
static int cmsg_in(const struct msghdr *msg, struct shm_dgram *d)
{
	struct cmsghdr *c;

	if (!msg->msg_control || msg->msg_controllen < sizeof(*c))
		return 0;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo pi;

			memcpy(&pi, CMSG_DATA(c), sizeof(pi));
			d->ifindex = (uint32_t)pi.ipi_ifindex;
			d->local.family = pi.ipi_spec_dst.s_addr ? AF_INET : AF_UNSPEC;
			d->local.v4 = pi.ipi_spec_dst.s_addr;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo pi;

			memcpy(&pi, CMSG_DATA(c), sizeof(pi));
			d->ifindex = pi.ipi6_ifindex;
			if (IN6_IS_ADDR_V4MAPPED(&pi.ipi6_addr)) {
				d->local.family = AF_INET;
				memcpy(&d->local.v4, &pi.ipi6_addr.s6_addr[12], 4);
			} else if (!IN6_IS_ADDR_UNSPECIFIED(&pi.ipi6_addr)) {
				d->local.family = AF_INET6;
				memcpy(d->local.v6, &pi.ipi6_addr, 16);
			}
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			d->tos = *CMSG_DATA(c);
		} else if (c->cmsg_level == SOL_UDP && c->cmsg_type == 103 /* UDP_SEGMENT */) {
			memcpy(&d->gso_size, CMSG_DATA(c), sizeof(d->gso_size));
		} else {
			return -EINVAL;
		}
	}
	return 0;
}

static int dgram_put(struct nsock *ns, struct shm_session *s, const struct msghdr *msg,
		     struct shm_dgram *d)
{
	uint32_t size = shm_dgram_size(d->len), off = sizeof(*d), used;

	pthread_mutex_lock(&ns->tx_lock);
	used = fifo_used(&ns->tx);
	if (used + size > s->tx_limit && used) {
		pthread_mutex_unlock(&ns->tx_lock);
		return -EAGAIN;
	}
	fifo_rewind(&ns->tx);
	fifo_store(&ns->tx, 0, d, sizeof(*d));
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		fifo_store(&ns->tx, off, msg->msg_iov[i].iov_base, (uint32_t)msg->msg_iov[i].iov_len);
		off += (uint32_t)msg->msg_iov[i].iov_len;
	}
	fifo_publish(&ns->tx, size);
	pthread_mutex_unlock(&ns->tx_lock);
	nsock_post(ns, SOCK_CMD_TX);
	return 0;
}

static ssize_t dgram_send_user(struct nsock *ns, const struct msghdr *msg, struct shm_dgram *d,
			       int flags)
{
	bool nonblock = (flags & MSG_DONTWAIT) || nsock_nonblock(ns), driven = false;
	struct shm_session *s = nsock_session(ns);
	uint64_t deadline = 0;
	int err = nsock_error(s), r;

	if (err)
		return err;
	if (ns->shut & 2) {
		if (!(flags & MSG_NOSIGNAL))
			raise(SIGPIPE);
		return -EPIPE;
	}
	if (flags & MSG_DONTROUTE)
		d->flags |= SHM_DG_DONTROUTE;
	for (;;) {
		r = dgram_put(ns, s, msg, d);
		if (r != -EAGAIN)
			return r ? r : (ssize_t)d->len;
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

ssize_t sock_dgram_send(struct nsock *ns, int fd, const struct msghdr *msg, int flags)
{
	struct shm_dgram d = { 0 };
	struct nst_addr to;
	size_t total = 0;

	if (kernel_only(ns) || (flags & (MSG_OOB | MSG_MORE | MSG_ZEROCOPY | MSG_CONFIRM)))
		goto kernel;
	if (msg->msg_name && msg->msg_namelen) {
		const struct sockaddr *sa = msg->msg_name;

		if ((ns->family == AF_INET6) != (sa->sa_family == AF_INET6) ||
		    nst_addr_from_sockaddr(&to, sa, msg->msg_namelen) || !to.port)
			goto kernel; /* the kernel knows the right error */
		d.peer = to;
	} else {
		to = ns->peer;
		if (to.family == AF_UNSPEC)
			goto kernel;
	}
	if (msg->msg_iovlen > 1024)
		return -EMSGSIZE;
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		total += msg->msg_iov[i].iov_len;
	if (total > UDP_MAX)
		return -EMSGSIZE;
	if (!way_user(ns, fd, &to) || cmsg_in(msg, &d))
		goto kernel;
	d.len = (uint32_t)total;
	return dgram_send_user(ns, msg, &d, flags);
kernel:
	return libc_errno(libc.sendmsg(fd, msg, flags));
}

/* --- receive ------------------------------------------------------------------------------------------ */

struct cmsg_out {
	struct msghdr *msg;
	size_t used;
};

static void cmsg_put(struct cmsg_out *o, int level, int type, const void *data, size_t len)
{
	size_t need = CMSG_LEN(len), space = CMSG_SPACE(len);
	struct cmsghdr *c;

	if (o->used + need > o->msg->msg_controllen) {
		o->msg->msg_flags |= MSG_CTRUNC;
		return;
	}
	c = (struct cmsghdr *)((char *)o->msg->msg_control + o->used);
	c->cmsg_len = need;
	c->cmsg_level = level;
	c->cmsg_type = type;
	memcpy(CMSG_DATA(c), data, len);
	o->used += o->used + space > o->msg->msg_controllen ? need : space;
}

static void cmsg_pktinfo6(struct cmsg_out *o, const struct shm_dgram *d)
{
	struct in6_pktinfo pi = { .ipi6_ifindex = d->ifindex };

	if (d->local.family == AF_INET) {
		pi.ipi6_addr.s6_addr[10] = pi.ipi6_addr.s6_addr[11] = 0xff;
		memcpy(&pi.ipi6_addr.s6_addr[12], &d->local.v4, 4);
	} else {
		memcpy(&pi.ipi6_addr, d->local.v6, 16);
	}
	cmsg_put(o, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi));
}

static void cmsg_fill(struct nsock *ns, struct msghdr *msg, const struct shm_dgram *d)
{
	uint32_t want = __atomic_load_n(&ns->want_cmsg, __ATOMIC_RELAXED);
	struct cmsg_out o = { .msg = msg };
	bool v4 = d->peer.family == AF_INET;
	int v;

	if (want & (SOCK_CM_TSTAMP | SOCK_CM_TSTAMPNS)) {
		struct timespec ts = { (time_t)(d->tstamp_ns / 1000000000ull),
				       (long)(d->tstamp_ns % 1000000000ull) };
		struct timeval tv = { ts.tv_sec, ts.tv_nsec / 1000 };

		if (want & SOCK_CM_TSTAMPNS)
			cmsg_put(&o, SOL_SOCKET, SO_TIMESTAMPNS, &ts, sizeof(ts));
		else
			cmsg_put(&o, SOL_SOCKET, SO_TIMESTAMP, &tv, sizeof(tv));
	}
	if ((want & SOCK_CM_PKTINFO) && v4) {
		struct in_pktinfo pi = { .ipi_ifindex = (int)d->ifindex,
					 .ipi_spec_dst.s_addr = d->local.v4,
					 .ipi_addr.s_addr = d->local.v4 };

		cmsg_put(&o, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi));
	}
	v = d->ttl;
	if ((want & SOCK_CM_TTL) && v4)
		cmsg_put(&o, IPPROTO_IP, IP_TTL, &v, sizeof(v));
	if ((want & SOCK_CM_TOS) && v4)
		cmsg_put(&o, IPPROTO_IP, IP_TOS, &d->tos, 1);
	if ((want & SOCK_CM_PKTINFO6) && ns->family == AF_INET6)
		cmsg_pktinfo6(&o, d);
	if ((want & SOCK_CM_TTL6) && !v4)
		cmsg_put(&o, IPPROTO_IPV6, IPV6_HOPLIMIT, &v, sizeof(v));
	v = d->tos;
	if ((want & SOCK_CM_TOS6) && !v4)
		cmsg_put(&o, IPPROTO_IPV6, IPV6_TCLASS, &v, sizeof(v));
	msg->msg_controllen = o.used;
}

static bool rx_ready(void *p)
{
	struct nsock *ns = p;
	struct shm_session *s = nsock_session(ns);

	return !s || fifo_used(&ns->rx) >= sizeof(struct shm_dgram) ||
	       __atomic_load_n(&s->error, __ATOMIC_ACQUIRE) || (ns->shut & 1);
}

/* One datagram from the session. -EAGAIN: none. */
static ssize_t dgram_get(struct nsock *ns, struct msghdr *msg, int flags)
{
	struct shm_session *s = nsock_session(ns);
	struct shm_dgram d;
	uint32_t off, left, n, size;
	int err;

	msg->msg_flags = 0;
	pthread_mutex_lock(&ns->rx_lock);
	if (fifo_peek(&ns->rx, 0, &d, sizeof(d)) != sizeof(d)) {
		pthread_mutex_unlock(&ns->rx_lock);
		err = nsock_error(s);
		return err ? err : (ns->shut & 1) ? 0 : -EAGAIN;
	}
	size = shm_dgram_size(d.len);
	if (d.len > UDP_MAX + 8 || size > fifo_used(&ns->rx) || (d.flags & SHM_DG_ERROR)) {
		/* error queue entries are not served; anything else can't be */
		fifo_consume(&ns->rx, d.len > UDP_MAX + 8 || size > fifo_used(&ns->rx) ?
				      fifo_used(&ns->rx) : size);
		pthread_mutex_unlock(&ns->rx_lock);
		return -EAGAIN;
	}
	off = 0;
	for (size_t i = 0; i < msg->msg_iovlen && off < d.len; i++) {
		left = d.len - off;
		n = msg->msg_iov[i].iov_len < left ? (uint32_t)msg->msg_iov[i].iov_len : left;
		off += fifo_peek(&ns->rx, (uint32_t)sizeof(d) + off, msg->msg_iov[i].iov_base, n);
	}
	if (!(flags & MSG_PEEK)) {
		fifo_consume(&ns->rx, size);
		if (fifo_tail(&ns->rx) >= __atomic_load_n(&s->rx_update_at, __ATOMIC_RELAXED) &&
		    s->rx_update_at)
			nsock_post(ns, SOCK_CMD_RX_FREED);
	}
	pthread_mutex_unlock(&ns->rx_lock);
	if (off < d.len)
		msg->msg_flags |= MSG_TRUNC;
	if (msg->msg_name)
		sock_addr_out(&d.peer, ns->family, msg->msg_name, &msg->msg_namelen);
	if (msg->msg_control)
		cmsg_fill(ns, msg, &d);
	return flags & MSG_TRUNC ? (ssize_t)d.len : (ssize_t)off;
}

ssize_t sock_dgram_recv(struct nsock *ns, int fd, struct msghdr *msg, int flags)
{
	bool nonblock = (flags & MSG_DONTWAIT) || nsock_nonblock(ns), driven = false;
	bool kernel_first;
	uint64_t deadline = 0;
	ssize_t r;

	if (!ns->s && !ns->rejected)
		nsock_activate(ns, fd);
	if (!nsock_session(ns) || (flags & MSG_ERRQUEUE))
		return libc_errno(libc.recvmsg(fd, msg, flags));
	for (;;) {
		kernel_first = __atomic_add_fetch(&ns->turn, 1, __ATOMIC_RELAXED) % KERNEL_TURN == 0;
		if (!kernel_first) {
			r = dgram_get(ns, msg, flags);
			if (r != -EAGAIN)
				return r;
		}
		if (!driven && !kernel_first) {
			driven = true;
			worker_drive();
			continue;
		}
		r = libc_errno(libc.recvmsg(fd, msg, flags | MSG_DONTWAIT));
		if (r != -EAGAIN)
			return r;
		if (kernel_first)
			continue;
		if (nonblock)
			return -EAGAIN;
		if (!deadline)
			deadline = nsock_deadline(ns->rcvtimeo);
		r = nsock_wait(ns, fd, POLLIN, deadline, rx_ready, true);
		if (r <= 0)
			return r ? r : -EAGAIN;
	}
}
