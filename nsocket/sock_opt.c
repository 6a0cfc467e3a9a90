/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_opt.c - socket options and ioctl
 *
 * The shadow takes every option first: it checks values as the kernel does, and it keeps them for
 * getsockopt() and for the case that the kernel serves the socket. What the stack has to know is
 * remembered besides and replayed when there is a session. getsockopt() asks the stack only for
 * what the shadow can't know: errors, states, numbers.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/ioctl.h>

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

struct opt_map {
	int level, name, opt;
};

/* TCP: one line per option that means something to the stack. UDP's are in sock_dgram_ctl.c. */
static const struct opt_map map[] = {
	{ SOL_SOCKET, SO_KEEPALIVE, STACK_OPT_KEEPALIVE },
	{ IPPROTO_TCP, TCP_NODELAY, STACK_OPT_NODELAY },
	{ IPPROTO_TCP, TCP_CORK, STACK_OPT_CORK },
	{ IPPROTO_TCP, TCP_KEEPIDLE, STACK_OPT_KEEPIDLE },
	{ IPPROTO_TCP, TCP_KEEPINTVL, STACK_OPT_KEEPINTVL },
	{ IPPROTO_TCP, TCP_KEEPCNT, STACK_OPT_KEEPCNT },
	{ IPPROTO_TCP, TCP_MAXSEG, STACK_OPT_MAXSEG },
	{ IPPROTO_TCP, TCP_QUICKACK, STACK_OPT_QUICKACK },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, STACK_OPT_USER_TIMEOUT },
	{ IPPROTO_TCP, TCP_SYNCNT, STACK_OPT_SYNCNT },
	{ IPPROTO_TCP, TCP_LINGER2, STACK_OPT_LINGER2 },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, STACK_OPT_DEFER_ACCEPT },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, STACK_OPT_WINDOW_CLAMP },
	{ IPPROTO_IP, IP_TOS, STACK_OPT_TOS },
	{ IPPROTO_IP, IP_TTL, STACK_OPT_TTL },
	{ IPPROTO_IP, IP_MTU_DISCOVER, STACK_OPT_MTU_DISCOVER },
	{ IPPROTO_IP, IP_RECVERR, STACK_OPT_RECVERR },
	{ IPPROTO_IPV6, IPV6_TCLASS, STACK_OPT_TOS },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, STACK_OPT_TTL },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER, STACK_OPT_MTU_DISCOVER },
	{ IPPROTO_IPV6, IPV6_RECVERR, STACK_OPT_RECVERR },
};

void sock_opt_keep(struct nsock *ns, int opt, int v)
{
	ns->opt[opt] = v;
	ns->opt_set |= 1u << opt;
	if (!ns->s || ns->remote)
		return;
	worker_lock();
	if (worker.st && ns->s)
		worker.ops->setopt(worker.st, ns->s, opt, &v, sizeof(v));
	worker_unlock();
}

static void opt_timeout(uint64_t *out, const void *val, socklen_t len)
{
	struct timeval tv;

	if (len < sizeof(tv))
		return;
	memcpy(&tv, val, sizeof(tv));
	*out = (uint64_t)tv.tv_sec * 1000000000ull + (uint64_t)tv.tv_usec * 1000;
}

/* Those of SOL_SOCKET that are kept in fields of their own. */
static void opt_socket(struct nsock *ns, int name, int v, const void *val, socklen_t len)
{
	struct linger lg;

	switch (name) {
	case SO_RCVTIMEO:
		opt_timeout(&ns->rcvtimeo, val, len);
		break;
	case SO_SNDTIMEO:
		opt_timeout(&ns->sndtimeo, val, len);
		break;
	case SO_LINGER:
		memcpy(&lg, val, sizeof(lg) < len ? sizeof(lg) : len);
		ns->linger_s = lg.l_onoff ? lg.l_linger : -1;
		break;
	case SO_REUSEPORT:
		ns->reuseport = v;
		break;
	case SO_RCVLOWAT:
		ns->rcvlowat = v < 1 ? 1 : (uint32_t)v;
		if (ns->s)
			ns->s->rx_lowat = ns->rcvlowat;
		break;
	case SO_RCVBUF:
	case SO_SNDBUF: /* the kernel doubles them too, for its overhead */
		sock_opt_keep(ns, name == SO_RCVBUF ? STACK_OPT_RCVBUF : STACK_OPT_SNDBUF,
			 v < 2304 / 2 ? 4608 : v > INT32_MAX / 2 ? INT32_MAX : v * 2);
		break;
	}
}

static void opt_congestion(struct nsock *ns, const void *val, socklen_t len)
{
	memset(ns->congestion, 0, sizeof(ns->congestion));
	memcpy(ns->congestion, val, len < 15 ? len : 15);
	ns->opt_set |= 1u << STACK_OPT_CONGESTION;
	if (!ns->s || ns->remote)
		return;
	worker_lock();
	if (worker.st && ns->s)
		worker.ops->setopt(worker.st, ns->s, STACK_OPT_CONGESTION, ns->congestion,
				   sizeof(ns->congestion));
	worker_unlock();
}

int sock_setopt(struct nsock *ns, int fd, int level, int name, const void *val, socklen_t len)
{
	int v = 0;

	if (level == SOL_SOCKET && name == SO_ZEROCOPY && nsock_mode(ns) != SK_KERNEL)
		return -EOPNOTSUPP; /* completions could not be told */
	if (libc.setsockopt(fd, level, name, val, len) < 0)
		return -errno;
	if (nsock_mode(ns) == SK_KERNEL || !val)
		return 0;
	if (len >= sizeof(int))
		memcpy(&v, val, sizeof(v));
	else if (len)
		v = *(const uint8_t *)val;
	pthread_mutex_lock(&ns->lock);
	if (level == SOL_SOCKET)
		opt_socket(ns, name, v, val, len);
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
		ns->v6only = v;
	if (level == IPPROTO_TCP && name == TCP_CONGESTION)
		opt_congestion(ns, val, len);
	for (size_t i = 0; ns->proto == IPPROTO_TCP && i < sizeof(map) / sizeof(map[0]); i++)
		if (map[i].level == level && map[i].name == name)
			sock_opt_keep(ns, map[i].opt, v);
	pthread_mutex_unlock(&ns->lock);
	if (ns->proto == IPPROTO_UDP)
		sock_dgram_opt(ns, level, name, v, len);
	return 0;
}

static int opt_out(const void *v, socklen_t n, void *val, socklen_t *len)
{
	if (!val || !len)
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	if (*len > n)
		*len = n;
	memcpy(val, v, *len);
	return 0;
}

static int opt_tcp_info(struct nsock *ns, void *val, socklen_t *len)
{
	struct tcp_info ti;
	int err = -ENOTCONN;

	memset(&ti, 0, sizeof(ti));
	worker_lock();
	if (worker.st && ns->s)
		err = worker.ops->tcp_info(worker.st, ns->s, &ti);
	worker_unlock();
	return err ? err : opt_out(&ti, sizeof(ti), val, len);
}

int sock_getopt(struct nsock *ns, int fd, int level, int name, void *val, socklen_t *len)
{
	struct shm_session *s = nsock_session(ns);
	uint8_t mode = nsock_mode(ns);
	int v, err;

	if (s && level == SOL_SOCKET && name == SO_ERROR && mode != SK_LISTEN) {
		v = -nsock_error(s);
		if (v || mode == SK_STREAM)
			return opt_out(&v, sizeof(v), val, len);
	}
	if (mode == SK_NEW && level == SOL_SOCKET && name == SO_ERROR && ns->err) {
		v = -nsock_take_error(ns);
		return opt_out(&v, sizeof(v), val, len);
	}
	if (s && mode == SK_STREAM && level == IPPROTO_TCP && !ns->remote) {
		if (name == TCP_INFO)
			return opt_tcp_info(ns, val, len);
		if (name == TCP_MAXSEG) {
			v = (int)s->mss;
			return opt_out(&v, sizeof(v), val, len);
		}
		if (name == TCP_CONGESTION) {
			char cc[16] = "";
			uint32_t n = sizeof(cc);

			worker_lock();
			err = worker.st && ns->s ? worker.ops->getopt(worker.st, ns->s,
					STACK_OPT_CONGESTION, cc, &n) : -ENOTCONN;
			worker_unlock();
			if (!err)
				return opt_out(cc, sizeof(cc), val, len);
		}
	}
	if (mode == SK_LOST && level == SOL_SOCKET && name == SO_ERROR) {
		v = ECONNRESET;
		return opt_out(&v, sizeof(v), val, len);
	}
	return (int)libc_errno(libc.getsockopt(fd, level, name, val, len));
}

int sock_ioctl(struct nsock *ns, int fd, unsigned long req, long arg)
{
	struct shm_session *s = nsock_session(ns);
	uint8_t mode = nsock_mode(ns);
	int v, r;

	if (req == FIONBIO) {
		r = (int)libc_errno(libc.ioctl(fd, req, arg));
		if (r < 0)
			return r;
		if (*(int *)arg)
			__atomic_or_fetch(&ns->f.flags, O_NONBLOCK, __ATOMIC_RELAXED);
		else
			__atomic_and_fetch(&ns->f.flags, ~(uint32_t)O_NONBLOCK, __ATOMIC_RELAXED);
		return r;
	}
	if (!s || (mode != SK_STREAM && mode != SK_DGRAM))
		return (int)libc_errno(libc.ioctl(fd, req, arg));
	switch (req) {
	case FIONREAD: /* SIOCINQ */
		if (mode == SK_STREAM && !fifo_used(&ns->rx))
			worker_drive();
		v = mode == SK_STREAM ? (int)fifo_used(&ns->rx) : sock_dgram_next(ns, fd);
		break;
	case TIOCOUTQ: /* SIOCOUTQ */
	case SIOCOUTQNSD:
		v = (int)fifo_used(&ns->tx);
		break;
	case SIOCATMARK:
		v = (s->stack_flags & SHM_SF_URG) && s->urg_pos == fifo_tail(&ns->rx) + 1;
		break;
	default:
		return (int)libc_errno(libc.ioctl(fd, req, arg));
	}
	if (v < 0)
		return v;
	if (!arg)
		return -EFAULT;
	*(int *)arg = v;
	return 0;
}
