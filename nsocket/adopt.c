/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/adopt.c - sockets from outside: inherited by exec, received by SCM_RIGHTS
 *
 * systemd, inetd, a supervisor, or the old binary of an upgrade makes a listener or binds a UDP
 * socket, and this process finds it under a number. Such a kernel socket becomes an nsock, with
 * itself as the shadow: from there on it is like one that the process made, and at its first use
 * the stack starts and the port is claimed. Everything else is the kernel's and stays so: what has
 * a peer, and what may yet get one, for whoever connects it does so for every process that has it. But a
 * connection that the image before exec had in nstackd is taken over.
 *
 * Descriptors of one open file (0, 1 and 2 of a service of inetd) share one nsock, as after dup().
 *
 * Threads: adopt_inherited() and adopt_connections() in the constructor, adopt_message() any.
 */
#define _GNU_SOURCE
#include "nsocket/adopt.h"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nsocket/init.h>
#include <nsocket/sock.h>
#include <nsocket/yield.h>
#include <rd/config.h>
#include <stacks/remote/remote.h>
#include <stdlib.h>
#include <string.h>

static bool placeholders; /* a TCP socket that is nothing was inherited: perhaps nstackd has its connection */

static int opt_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return libc.getsockopt(fd, level, name, &v, &len) < 0 ? -1 : v;
}

/* --- options ------------------------------------------------------------------------------------ */

/* What a program may have set before it passed the socket on, and matters to who serves it. */
static const struct opt_name {
	int level, name;
} opt_names[] = {
	{ SOL_SOCKET, SO_KEEPALIVE }, { SOL_SOCKET, SO_BROADCAST }, { SOL_SOCKET, SO_RCVTIMEO },
	{ SOL_SOCKET, SO_SNDTIMEO }, { SOL_SOCKET, SO_LINGER }, { SOL_SOCKET, SO_REUSEPORT },
	{ SOL_SOCKET, SO_RCVLOWAT }, { SOL_SOCKET, SO_RCVBUF }, { SOL_SOCKET, SO_SNDBUF },
	{ SOL_SOCKET, SO_MARK }, { SOL_SOCKET, SO_PRIORITY }, { SOL_SOCKET, SO_BINDTODEVICE },
	{ SOL_SOCKET, SO_MAX_PACING_RATE }, { SOL_SOCKET, SO_TIMESTAMP },
	{ SOL_SOCKET, SO_TIMESTAMPNS }, { SOL_SOCKET, SO_OOBINLINE },
	{ IPPROTO_TCP, TCP_NODELAY }, { IPPROTO_TCP, TCP_CORK }, { IPPROTO_TCP, TCP_KEEPIDLE },
	{ IPPROTO_TCP, TCP_KEEPINTVL }, { IPPROTO_TCP, TCP_KEEPCNT }, { IPPROTO_TCP, TCP_MAXSEG },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT }, { IPPROTO_TCP, TCP_SYNCNT }, { IPPROTO_TCP, TCP_LINGER2 },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT }, { IPPROTO_TCP, TCP_WINDOW_CLAMP },
	{ IPPROTO_TCP, TCP_CONGESTION },
	{ IPPROTO_IP, IP_TOS }, { IPPROTO_IP, IP_TTL }, { IPPROTO_IP, IP_MTU_DISCOVER },
	{ IPPROTO_IP, IP_RECVERR }, { IPPROTO_IP, IP_PKTINFO }, { IPPROTO_IP, IP_RECVTTL },
	{ IPPROTO_IP, IP_RECVTOS }, { IPPROTO_IP, IP_OPTIONS }, { IPPROTO_IP, IP_MINTTL },
	{ IPPROTO_IPV6, IPV6_TCLASS }, { IPPROTO_IPV6, IPV6_UNICAST_HOPS },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER }, { IPPROTO_IPV6, IPV6_RECVERR },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO }, { IPPROTO_IPV6, IPV6_RECVHOPLIMIT },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS },
};

/* Set is what a fresh socket does not have: it is set once more, by the way that remembers. */
static void take_option(struct nsock *ns, int fd, int fresh, const struct opt_name *o)
{
	char mine[64] = "", other[64] = "";
	socklen_t len = sizeof(mine), len2 = sizeof(other);
	int v;

	if (libc.getsockopt(fd, o->level, o->name, mine, &len) < 0 ||
	    libc.getsockopt(fresh, o->level, o->name, other, &len2) < 0 ||
	    (len == len2 && !memcmp(mine, other, len)))
		return;
	if (o->level == SOL_SOCKET && (o->name == SO_RCVBUF || o->name == SO_SNDBUF)) {
		memcpy(&v, mine, sizeof(v));
		v /= 2; /* the kernel tells the double of what was set */
		memcpy(mine, &v, sizeof(v));
	}
	sock_setopt(ns, fd, o->level, o->name, mine, len);
}

static void take_options(struct nsock *ns, int fd)
{
	int fresh = libc.socket(ns->family, (ns->proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) |
				SOCK_CLOEXEC, 0);

	ns->v6only = ns->family == AF_INET6 && opt_int(fd, IPPROTO_IPV6, IPV6_V6ONLY) > 0;
	if (fresh < 0)
		return;
	for (size_t i = 0; i < sizeof(opt_names) / sizeof(opt_names[0]); i++)
		take_option(ns, fd, fresh, &opt_names[i]);
	libc.close(fresh);
}

/* --- state -------------------------------------------------------------------------------------- */

/* Its mode and address, from what the kernel says of it. */
static void take_state(struct nsock *ns, int fd, const struct tcp_info *ti)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	ns->bound = libc.getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
		    nst_addr_from_sockaddr(&ns->local, (struct sockaddr *)&ss, len) == 0;
	if (ns->proto == IPPROTO_TCP) {
		/* of a listener this field is the limit of its queue */
		ns->backlog = ti->tcpi_sacked ? (int)ti->tcpi_sacked : 1;
		ns->cookie = sock_cookie(fd);
		ns->mode = SK_LISTEN;
	}
}

static struct nsock *make(int fd, int domain, int proto, const struct tcp_info *ti)
{
	int fl = libc.fcntl(fd, F_GETFL, 0);
	struct nsock *ns = nsock_new(domain, proto, fl > 0 ? (uint32_t)fl & O_NONBLOCK : 0);

	if (!ns)
		return NULL;
	take_state(ns, fd, ti);
	take_options(ns, fd);
	return ns;
}

/* The connection that the image before exec left with nstackd for this one; NULL: that is none. */
static struct nsock *take(int fd, int domain)
{
	int fl = libc.fcntl(fd, F_GETFL, 0);
	struct shm_session *s = NULL;
	struct nsock *ns;

	if (rd_config()->model == NS_MODEL_IN_PROCESS || !remote_look() || !worker_start() ||
	    worker.ops != &remote_stack_ops)
		return NULL;
	ns = nsock_new(domain, IPPROTO_TCP, fl > 0 ? (uint32_t)fl & O_NONBLOCK : 0);
	if (!ns)
		return NULL;
	worker_lock();
	if (worker.st && !remote_take(worker.st, fd, &s))
		nsock_session_attach_locked(ns, s);
	worker_unlock();
	if (!s) {
		nfile_put(&ns->f);
		return NULL;
	}
	ns->bound = true;
	ns->local = s->local;
	ns->connecting = shm_session_state(s) == SHM_S_CONNECTING;
	ns->shut = (s->app_flags & SHM_AF_RX_SHUT ? 1 : 0) | (s->app_flags & SHM_AF_TX_SHUT ? 2 : 0);
	ns->mode = SK_STREAM;
	take_options(ns, fd);
	return ns;
}

/* A listener, or a UDP socket with an address and without a peer. */
static bool serves(int fd, int proto, struct tcp_info *ti)
{
	struct sockaddr_storage ss;
	struct nst_addr local;
	socklen_t len = sizeof(*ti);

	memset(ti, 0, sizeof(*ti));
	if (proto == IPPROTO_TCP)
		return libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, ti, &len) == 0 &&
		       ti->tcpi_state == TCP_LISTEN;
	len = sizeof(ss);
	if (libc.getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		return false;
	len = sizeof(ss);
	return libc.getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	       nst_addr_from_sockaddr(&local, (struct sockaddr *)&ss, len) == 0 && local.port;
}

/* Packet filters can't be told by their options, but counted. */
static bool has_filter(int fd)
{
	socklen_t n = 0;

	return libc.getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) == 0 && n;
}

static void adopt(int fd)
{
	int domain = opt_int(fd, SOL_SOCKET, SO_DOMAIN), type, proto;
	enum sock_reason why;
	struct tcp_info ti;
	struct nfile *f;

	if (domain != AF_INET && domain != AF_INET6) /* not a socket, or none of ours */
		return;
	type = opt_int(fd, SOL_SOCKET, SO_TYPE);
	proto = opt_int(fd, SOL_SOCKET, SO_PROTOCOL);
	if (!(type == SOCK_STREAM && proto == IPPROTO_TCP) &&
	    !(type == SOCK_DGRAM && proto == IPPROTO_UDP))
		return;
	why = nsock_kernel_only_why();
	if (why == SR_NR_ && !serves(fd, proto, &ti)) {
		placeholders |= proto == IPPROTO_TCP && ti.tcpi_state == TCP_CLOSE;
		why = SR_inherited;
	}
	if (why == SR_NR_ && has_filter(fd))
		why = SR_option;
	if (why != SR_NR_) {
		sock_reason(why);
		sock_fd_reason(fd, why);
		return;
	}
	f = (struct nfile *)nsock_by_cookie(sock_cookie(fd), false);
	if (!f)
		f = (struct nfile *)make(fd, domain, proto, &ti);
	if (!f)
		return;
	if (fd_install(fd, f))
		sock_reason(SR_fd_too_large);
	nfile_put(f);
}

void adopt_inherited(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	int fd;

	while (dir && (e = readdir(dir))) {
		fd = atoi(e->d_name);
		if (e->d_name[0] != '.' && !fd_is_ours(fd))
			adopt(fd);
	}
	if (!dir)
		return;
	/* then what waits on them for accept(); the other unix sockets are the program's */
	rewinddir(dir);
	while ((e = readdir(dir))) {
		fd = atoi(e->d_name);
		if (e->d_name[0] != '.' && !fd_is_ours(fd) && opt_int(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX)
			yield_adopt(fd);
	}
	closedir(dir);
}

static void adopt_placeholder(int fd)
{
	int domain = opt_int(fd, SOL_SOCKET, SO_DOMAIN);
	struct tcp_info ti;
	struct nsock *ns;

	if ((domain != AF_INET && domain != AF_INET6) || opt_int(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP ||
	    serves(fd, IPPROTO_TCP, &ti) || ti.tcpi_state != TCP_CLOSE)
		return;
	ns = nsock_by_cookie(sock_cookie(fd), false); /* by another number */
	if (!ns)
		ns = take(fd, domain);
	if (!ns)
		return;
	if (fd_install(fd, &ns->f))
		sock_reason(SR_fd_too_large);
	nfile_put(&ns->f);
}

void adopt_connections(void)
{
	DIR *dir = placeholders && nsock_kernel_only_why() == SR_NR_ ? opendir("/proc/self/fd") : NULL;
	struct dirent *e;
	int fd;

	while (dir && (e = readdir(dir))) {
		fd = atoi(e->d_name);
		if (e->d_name[0] != '.' && !fd_is_ours(fd) && !fd_is_protected(fd))
			adopt_placeholder(fd);
	}
	if (dir)
		closedir(dir);
}

void adopt_message(const struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int err = errno, fd;
	struct nfile *stale;

	for (; init_ready() && c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(fd) <= c->cmsg_len; at += sizeof(fd)) {
			memcpy(&fd, (char *)c + at, sizeof(fd));
			/* a number that was closed behind our back may have an entry yet */
			stale = fd_remove(fd);
			if (stale)
				nfile_put(stale);
			adopt(fd);
		}
	}
	errno = err;
}
