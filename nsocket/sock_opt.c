/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_opt.c - socket options and ioctl
 *
 * The shadow takes every option first: it checks values as the kernel does, and it keeps them for
 * getsockopt() and for the case that the kernel serves the socket. What the stack has to know is
 * remembered besides and replayed when there is a session. getsockopt() asks the stack only for
 * what the shadow can't know: errors, states, numbers.
 *
 * The shadow of a connection is in another state than the connection. Where the kernel's answer
 * depends on it, connection_set() and connection_get() answer.
 *
 * An option that the stack's TCP lacks and a program could miss makes the socket the kernel's, connected
 * or not (kernel_opts, handover.h). Where that can't be, for want of privilege, a connection refuses it.
 * UDP's options are in sock_dgram_ctl.c.
 *
 * The shadow of an accepted connection is a fresh socket; what the listener was given is told to it
 * when the program first asks for an option (opt_log.h).
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <asm/sockios.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <nsocket/handover.h>
#include <nsocket/opt_log.h>
#include <nsocket/plugin/plugin.h>
#include <rd/config.h>
#include <sys/ioctl.h>

/* From linux/in6.h, which netinet/in.h does not let in */
#define IPV6_FLOWINFO_SEND_ 33

struct opt_map {
	int level, name, opt;
};

/* TCP: one line per option that means something to the stack. UDP's are in sock_dgram_ctl.c. */
static const struct opt_map map[] = {
	{ SOL_SOCKET, SO_KEEPALIVE, STACK_OPT_KEEPALIVE },
	{ IPPROTO_TCP, TCP_NODELAY, STACK_OPT_NODELAY },
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

/* --- options that make the socket the kernel's ------------------------------------------------- */

/* When does the option ask for something? */
enum ko_when {
	KO_SET,      /* whatever the value */
	KO_NONZERO,  /* any byte of the value */
	KO_NOT_ONES, /* all bytes 0xff: off */
	KO_PLUS,     /* an int >= 0 */
	KO_FOREIGN_CC, /* a congestion control that the stack does not have */
};
#define KO_SETUP 1u /* matters until there is a connection; taken by one that there is */
#define KO_TRY 2u   /* also the shadow of a connection knows whether this kernel has it */

struct kernel_opt {
	int level, name;
	uint8_t when, flags; /* enum ko_when, KO_* */
};

static const struct kernel_opt kernel_opts[] = {
	/* what looks at packets or changes them */
	{ SOL_SOCKET, SO_ATTACH_FILTER, KO_SET, 0 },
	{ SOL_SOCKET, SO_ATTACH_BPF, KO_SET, 0 },
	{ SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, KO_SET, 0 },
	{ SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, KO_SET, 0 },
	{ IPPROTO_IP, IP_OPTIONS, KO_NONZERO, 0 },
	{ IPPROTO_IP, IP_MINTTL, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_MINHOPCOUNT, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_PKTINFO, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_NEXTHOP, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_HOPOPTS, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_RTHDR, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_DSTOPTS, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_2292PKTOPTIONS, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_FLOWINFO_SEND_, KO_NONZERO, KO_SETUP },
	{ IPPROTO_IPV6, IPV6_MTU, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_ADDRFORM, KO_SET, 0 },
	{ IPPROTO_TCP, TCP_MD5SIG, KO_SET, 0 },
	{ IPPROTO_TCP, TCP_MD5SIG_EXT, KO_SET, 0 },
	{ IPPROTO_TCP, TCP_SAVE_SYN, KO_NONZERO, KO_SETUP },
	{ IPPROTO_TCP, TCP_REPAIR, KO_NONZERO, 0 },
	{ IPPROTO_TCP, TCP_FASTOPEN_CONNECT, KO_NONZERO, KO_SETUP },
	{ IPPROTO_TCP, TCP_ULP, KO_SET, KO_TRY },
	{ IPPROTO_TCP, TCP_CONGESTION, KO_FOREIGN_CC, KO_TRY },
	/* when and by which way they leave */
	{ SOL_SOCKET, SO_MAX_PACING_RATE, KO_NOT_ONES, 0 },
	{ SOL_SOCKET, SO_TXTIME, KO_SET, 0 },
	{ SOL_SOCKET, SO_MARK, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_DONTROUTE, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_BINDTODEVICE, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_BINDTOIFINDEX, KO_NONZERO, 0 },
	{ IPPROTO_IP, IP_UNICAST_IF, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_UNICAST_IF, KO_NONZERO, 0 },
	{ IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, KO_NONZERO, KO_SETUP },
	/* what the program wants to be told with its data */
	{ SOL_SOCKET, SO_ZEROCOPY, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_PEEK_OFF, KO_PLUS, 0 },
	{ SOL_SOCKET, SO_TIMESTAMPING, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_TIMESTAMPING_NEW, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_TIMESTAMP, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_TIMESTAMPNS, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_TIMESTAMP_NEW, KO_NONZERO, 0 },
	{ SOL_SOCKET, SO_TIMESTAMPNS_NEW, KO_NONZERO, 0 },
};

static bool any_byte_not(const void *val, socklen_t len, uint8_t b)
{
	for (socklen_t i = 0; i < len; i++)
		if (((const uint8_t *)val)[i] != b)
			return true;
	return false;
}

/* Name of a congestion control as setsockopt() was given it. */
static void congestion_name(char *name, const void *val, socklen_t len)
{
	memset(name, 0, 16);
	memcpy(name, val, len < 15 ? len : 15);
}

#define KO_LOOK 20u /* bytes: the longest value that may be all zeros, struct in6_pktinfo */
static bool ko_asks(const struct kernel_opt *o, const void *val, socklen_t len)
{
	char cc[16];
	int v = -1;

	if (len > KO_LOOK)
		len = KO_LOOK;
	switch (o->when) {
	case KO_NONZERO:
		return any_byte_not(val, len, 0);
	case KO_NOT_ONES:
		return any_byte_not(val, len, 0xff);
	case KO_PLUS:
		memcpy(&v, val, len < sizeof(v) ? len : sizeof(v));
		return v >= 0;
	case KO_FOREIGN_CC:
		congestion_name(cc, val, len);
		return !rd_congestion_known(cc);
	}
	return true;
}

/* The entry for an option that asks for what the stack's TCP lacks, or NULL. */
static const struct kernel_opt *kernel_opt(int level, int name, const void *val, socklen_t len)
{
	for (size_t i = 0; i < sizeof(kernel_opts) / sizeof(kernel_opts[0]); i++) {
		const struct kernel_opt *o = &kernel_opts[i];

		if (o->level == level && o->name == name && ko_asks(o, val, len))
			return o;
	}
	return NULL;
}

/* --- setting -------------------------------------------------------------------------------------- */

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

/* The value as the kernel understood it. */
static int opt_shadow(int fd, int level, int name, int v)
{
	socklen_t len = sizeof(v);

	libc.getsockopt(fd, level, name, &v, &len);
	return v;
}

#define TIMEOUT_MAX_S 1000000000ll /* nobody waits that long, and it fits in nanoseconds */

static void opt_timeout(uint64_t *out, const void *val, socklen_t len)
{
	struct timeval tv;

	if (len < sizeof(tv))
		return;
	memcpy(&tv, val, sizeof(tv));
	if (tv.tv_sec < 0)
		*out = 1; /* the kernel does not wait at all then */
	else
		*out = (uint64_t)(tv.tv_sec < TIMEOUT_MAX_S ? tv.tv_sec : TIMEOUT_MAX_S) * 1000000000u +
		       (uint64_t)tv.tv_usec * 1000;
}

/* Those of SOL_SOCKET that are kept in fields of their own. */
static void opt_socket(struct nsock *ns, int fd, int name, int v, const void *val, socklen_t len)
{
	struct linger lg;

	switch (name) {
	case SO_RCVTIMEO:
	case SO_RCVTIMEO_NEW: /* the same on a 64-bit machine */
		opt_timeout(&ns->rcvtimeo, val, len);
		break;
	case SO_SNDTIMEO:
	case SO_SNDTIMEO_NEW:
		opt_timeout(&ns->sndtimeo, val, len);
		break;
	case SO_LINGER:
		memcpy(&lg, val, sizeof(lg));
		ns->linger_s = lg.l_onoff ? lg.l_linger : -1;
		break;
	case SO_REUSEPORT:
		ns->reuseport = v;
		break;
	case SO_OOBINLINE:
		ns->oobinline = v;
		if (ns->s)
			ns->s->urg_inline = ns->oobinline;
		break;
	case SO_RCVLOWAT:
		ns->rcvlowat = v < 0 ? INT32_MAX : v ? (uint32_t)v : 1;
		if (ns->s)
			ns->s->rx_lowat = ns->rcvlowat;
		break;
	case SO_RCVBUF:
	case SO_RCVBUFFORCE: /* doubled, bounded by the system's limits */
		sock_opt_keep(ns, STACK_OPT_RCVBUF, opt_shadow(fd, SOL_SOCKET, SO_RCVBUF, v));
		break;
	case SO_SNDBUF:
	case SO_SNDBUFFORCE:
		sock_opt_keep(ns, STACK_OPT_SNDBUF, opt_shadow(fd, SOL_SOCKET, SO_SNDBUF, v));
		break;
	}
}

/* Under ns->lock. */
static void opt_congestion(struct nsock *ns, const void *val, socklen_t len)
{
	congestion_name(ns->congestion, val, len);
	ns->opt_set |= 1u << STACK_OPT_CONGESTION;
	if (!ns->s || ns->remote)
		return;
	worker_lock();
	if (worker.st && ns->s)
		worker.ops->setopt(worker.st, ns->s, STACK_OPT_CONGESTION, ns->congestion,
				   sizeof(ns->congestion));
	worker_unlock();
}

/* Is an accepted socket given it by its listener? */
static bool opt_inherited(int level, int name)
{
	return !(level == SOL_SOCKET && name == SO_PRIORITY) &&
	       !(level == IPPROTO_TCP && (name == TCP_DEFER_ACCEPT || name == TCP_FASTOPEN));
}

/* Under ns->lock. */
static void opt_stream(struct nsock *ns, int fd, int level, int name, int v, const void *val,
		       socklen_t len)
{
	if (level == IPPROTO_TCP && name == TCP_CONGESTION)
		opt_congestion(ns, val, len);
	if (level == IPPROTO_TCP && name == TCP_CORK)
		ns->corked = v;
	if (level == IPPROTO_TCP && name == TCP_INQ)
		ns->want_cmsg = v ? SOCK_CM_INQ : 0;
	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		if (map[i].level != level || map[i].name != name)
			continue;
		if (map[i].opt == STACK_OPT_TOS) /* the ECN bits of a stream are not the program's */
			v = opt_shadow(fd, level, name, v);
		sock_opt_keep(ns, map[i].opt, v);
	}
}

/* The shadow took it. */
static void opt_took(struct nsock *ns, int fd, int level, int name, const void *val, socklen_t len)
{
	bool tcp = ns->proto == IPPROTO_TCP;
	int v = 0;

	if (len >= sizeof(int))
		memcpy(&v, val, sizeof(v));
	else if (len)
		v = *(const uint8_t *)val;
	lock_take(&ns->lock);
	if (level == SOL_SOCKET)
		opt_socket(ns, fd, name, v, val, len);
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
		ns->v6only = v;
	if (tcp)
		opt_stream(ns, fd, level, name, v, val, len);
	if (tcp && nsock_mode(ns) != SK_STREAM && opt_inherited(level, name))
		opt_log_add(&ns->opts, level, name, val, len);
	if (!tcp && plug_any() && nsock_mode(ns) == SK_NEW)
		opt_log_add(&ns->opts, level, name, val, len);
	lock_give(&ns->lock);
	if (tcp && level == IPPROTO_TCP && name == TCP_CORK)
		sock_stream_cork(ns, v);
	if (!tcp)
		sock_dgram_opt(ns, level, name, v, len);
}

/* What the kernel refuses to a connection, whatever the value; its shadow, which has none, would take
 * it. */
static const struct {
	int level, name, err;
} connection_refuses[] = {
	{ IPPROTO_TCP, TCP_FASTOPEN, EINVAL },
	{ IPPROTO_TCP, TCP_FASTOPEN_CONNECT, EINVAL },
	{ IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, EINVAL },
	{ IPPROTO_TCP, TCP_QUEUE_SEQ, EPERM },
	{ IPPROTO_IPV6, IPV6_V6ONLY, EINVAL },
};

/* What a connection answers where its shadow would take it: 0 (ask the shadow) or -errno. */
static int connection_refuse(struct nsock *ns, int level, int name, const void *val, socklen_t len)
{
	int v;

	if (len < sizeof(v) || (int)len < 0 || !user_ok(val, len))
		return 0; /* the shadow knows what is wrong */
	memcpy(&v, val, sizeof(v));
	if (level == IPPROTO_TCP && name == TCP_WINDOW_CLAMP && !v)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(connection_refuses) / sizeof(connection_refuses[0]); i++)
		if (connection_refuses[i].level == level && connection_refuses[i].name == name &&
		    (level != IPPROTO_IPV6 || ns->family == AF_INET6))
			return -connection_refuses[i].err;
	return 0;
}

/* An option that the stack lacks, on a connection: it moves. If it can't: the shadow's error, or ours
 * and the shadow as it was. */
static int connection_moves(struct nsock *ns, int fd, const struct kernel_opt *ko, const void *val,
			    socklen_t len)
{
	uint8_t old[64];
	socklen_t n = sizeof(old);
	bool have = libc.getsockopt(fd, ko->level, ko->name, old, &n) == 0;
	int err;

	if ((ko->flags & KO_TRY) && libc.setsockopt(fd, ko->level, ko->name, val, len) < 0 &&
	    errno != ENOTCONN)
		return -errno;
	err = nsock_handover(ns, fd, SR_option);
	if (libc.setsockopt(fd, ko->level, ko->name, val, len) < 0)
		return -errno;
	if (!err || err == -ENOTCONN) /* moved, or over */
		return 0;
	if (have)
		libc.setsockopt(fd, ko->level, ko->name, old, n);
	return -EOPNOTSUPP;
}

void sock_opt_settle_locked(struct nsock *ns, int fd)
{
	static const int zero, one = 1;

	if (!ns->unsettled)
		return;
	opt_log_replay(ns->opts, fd);
	/* IP_TOS also set this one, which is not inherited */
	libc.setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &zero, sizeof(zero));
	if (ns->local.family == AF_INET6) /* as the kernel has it, whatever the listener has */
		libc.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	opt_log_put(ns->opts);
	ns->opts = NULL;
	__atomic_store_n(&ns->unsettled, false, __ATOMIC_RELAXED);
}

static void shadow_settle(struct nsock *ns, int fd)
{
	/* relaxed: a look before the lock; accept() set it before anyone had the socket */
	if (!__atomic_load_n(&ns->unsettled, __ATOMIC_RELAXED))
		return;
	lock_take(&ns->lock);
	sock_opt_settle_locked(ns, fd);
	lock_give(&ns->lock);
}

/* Time-outs are ours, whoever serves the socket: the waiting is. */
static bool waiting_option(int level, int name)
{
	return level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
}

int sock_setopt(struct nsock *ns, int fd, int level, int name, const void *val, socklen_t len)
{
	uint8_t mode = nsock_mode(ns);
	const struct kernel_opt *ko = NULL;
	int err;

	if (sock_rd_is_option(level, name))
		return sock_rd_set(ns, name, val, len);
	if (mode == SK_KERNEL)
		return (int)libc_errno(libc.setsockopt(fd, level, name, val, len));
	if (mode == SK_PLUGIN && !waiting_option(level, name))
		return plug_setopt(ns, level, name, val, len);
	shadow_settle(ns, fd);
	if (ns->proto == IPPROTO_TCP && (int)len > 0 && user_ok(val, len))
		ko = kernel_opt(level, name, val, len);
	if (mode == SK_STREAM) {
		err = connection_refuse(ns, level, name, val, len);
		if (err)
			return err;
		if (ko && !(ko->flags & KO_SETUP))
			return connection_moves(ns, fd, ko, val, len);
	}
	if (libc.setsockopt(fd, level, name, val, len) < 0)
		return -errno;
	if (val)
		opt_took(ns, fd, level, name, val, len);
	if (ko && mode != SK_STREAM)
		nsock_handover(ns, fd, SR_option);
	return 0;
}

#define ASK_SHADOW 1 /* of those below, besides 0 and -errno */

/* --- asking ---------------------------------------------------------------------------------------- */

int sock_opt_out(const void *v, socklen_t n, void *val, socklen_t *len)
{
	if (!user_ok(len, sizeof(*len)))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	if (*len > n)
		*len = n;
	if (!user_ok(val, *len))
		return -EFAULT;
	memcpy(val, v, *len);
	return 0;
}

static int info_of(struct nsock *ns, struct tcp_info *ti)
{
	int err = -ENOTCONN;

	memset(ti, 0, sizeof(*ti));
	worker_lock();
	if (worker.st && ns->s)
		err = worker.ops->tcp_info(worker.st, ns->s, ti);
	worker_unlock();
	return err;
}

/* of enum tcp_state; netinet/tcp.h has them, too */
#define TCP_LAST_ACK 9
#define TCP_CLOSING 11

bool sock_said_all(struct nsock *ns)
{
	struct tcp_info ti;

	if (ns->remote || info_of(ns, &ti) || ti.tcpi_notsent_bytes)
		return false;
	return ti.tcpi_state == TCP_CLOSING || ti.tcpi_state == TCP_LAST_ACK;
}

/* As long as this kernel's, whatever header we were compiled with. */
static int get_tcp_info(struct nsock *ns, int fd, void *val, socklen_t *len)
{
	struct tcp_info ti;
	uint8_t all[512];
	socklen_t n = sizeof(all);
	int err = info_of(ns, &ti);

	if (err)
		return err;
	memset(all, 0, sizeof(all));
	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, all, &n) < 0)
		n = sizeof(ti);
	memcpy(all, &ti, sizeof(ti));
	return sock_opt_out(all, n, val, len);
}

static int get_congestion(struct nsock *ns, void *val, socklen_t *len)
{
	char cc[16] = "";
	uint32_t n = sizeof(cc);
	int err;

	worker_lock();
	err = worker.st && ns->s ?
	      worker.ops->getopt(worker.st, ns->s, STACK_OPT_CONGESTION, cc, &n) : -ENOTCONN;
	worker_unlock();
	return err ? err : sock_opt_out(cc, sizeof(cc), val, len);
}

static int get_mtu(struct nsock *ns, void *val, socklen_t *len)
{
	struct tcp_info ti;
	int err = info_of(ns, &ti), v = (int)ti.tcpi_pmtu;

	return err ? err : v ? sock_opt_out(&v, sizeof(v), val, len) : -ENOTCONN;
}

static int get_path_mtu(struct nsock *ns, void *val, socklen_t *len)
{
	struct ip6_mtuinfo mi;
	struct tcp_info ti;
	int err = info_of(ns, &ti);

	if (!err && !ti.tcpi_pmtu)
		err = -ENOTCONN;
	if (err || !user_ok(len, sizeof(*len)))
		return err ? err : -EFAULT;
	if (*len < sizeof(mi))
		return -EINVAL;
	memset(&mi, 0, sizeof(mi)); /* no address: it is that of the peer */
	mi.ip6m_mtu = ti.tcpi_pmtu;
	return sock_opt_out(&mi, sizeof(mi), val, len);
}

static int connection_get6(struct nsock *ns, int name, void *val, socklen_t *len)
{
	int v = AF_INET6;

	switch (name) {
	case IPV6_MTU:
		return get_mtu(ns, val, len);
	case IPV6_PATHMTU:
		return get_path_mtu(ns, val, len);
	case IPV6_ADDRFORM:
		if (shm_session_state(nsock_session(ns)) == SHM_S_CONNECTED)
			return sock_opt_out(&v, sizeof(v), val, len);
		return -ENOTCONN;
	}
	return ASK_SHADOW;
}

/* The one option whose buffer must not be longer than the answer. */
static int get_peername(struct nsock *ns, struct shm_session *s, void *val, socklen_t *len)
{
	struct sockaddr_storage ss;
	socklen_t n;

	if (!user_ok(len, sizeof(*len)))
		return -EFAULT;
	n = nst_addr_to_sockaddr(&s->remote, ns->family, &ss);
	return *len > n ? -EINVAL : sock_opt_out(&ss, n, val, len);
}

/* What only the connection knows; ASK_SHADOW, 0 or -errno. */
static int connection_get(struct nsock *ns, int fd, int level, int name, void *val, socklen_t *len)
{
	struct shm_session *s = nsock_session(ns);
	int v;

	if (level == SOL_SOCKET && name == SO_ERROR) {
		v = -nsock_error(s);
		return sock_opt_out(&v, sizeof(v), val, len);
	}
	if (level == SOL_SOCKET && name == SO_PEERNAME)
		return get_peername(ns, s, val, len);
	if (level == IPPROTO_TCP && name == TCP_MAXSEG) {
		v = (int)s->mss;
		return sock_opt_out(&v, sizeof(v), val, len);
	}
	if (ns->remote) /* the parent's stack can't be asked */
		return ASK_SHADOW;
	if (level == IPPROTO_TCP && name == TCP_INFO)
		return get_tcp_info(ns, fd, val, len);
	if (level == IPPROTO_TCP && name == TCP_CONGESTION)
		return get_congestion(ns, val, len);
	if (level == IPPROTO_IP && name == IP_MTU)
		return get_mtu(ns, val, len);
	if (level == IPPROTO_IPV6 && ns->family == AF_INET6)
		return connection_get6(ns, name, val, len);
	return ASK_SHADOW;
}

/* An error that the shadow does not know of, now taken; 0: none. */
static int own_error(struct nsock *ns, uint8_t mode)
{
	struct shm_session *s = nsock_session(ns);

	if (mode == SK_LOST)
		return ECONNRESET;
	if (mode == SK_NEW && ns->err)
		return -nsock_take_error(ns);
	return s && mode != SK_LISTEN ? -nsock_error(s) : 0;
}

/* What a socket is, which its shadow is, too. */
static bool of_the_kind(int level, int name)
{
	return level == SOL_SOCKET && (name == SO_TYPE || name == SO_DOMAIN || name == SO_PROTOCOL);
}

int sock_getopt(struct nsock *ns, int fd, int level, int name, void *val, socklen_t *len)
{
	struct shm_session *s = nsock_session(ns);
	uint8_t mode = nsock_mode(ns);
	int v, r;

	if (sock_rd_is_option(level, name))
		return sock_rd_get(ns, name, val, len);
	shadow_settle(ns, fd);
	if (mode == SK_PLUGIN && !waiting_option(level, name) && !of_the_kind(level, name))
		return plug_getopt(ns, level, name, val, len);
	if (mode == SK_STREAM && s) {
		r = connection_get(ns, fd, level, name, val, len);
		if (r != ASK_SHADOW)
			return r;
	}
	if (level == SOL_SOCKET && name == SO_ERROR) {
		v = own_error(ns, mode);
		if (v)
			return sock_opt_out(&v, sizeof(v), val, len);
	}
	r = (int)libc_errno(libc.getsockopt(fd, level, name, val, len));
	if (!r && ns->proto == IPPROTO_UDP && *len == sizeof(v))
		sock_dgram_path_mtu(ns, level, name, val);
	return r;
}

/* --- ioctl ------------------------------------------------------------------------------------------ */

/* FIONBIO, FIOASYNC, owners: settings of the open file, which the shadow keeps. ASK_SHADOW: not one. */
static int ioctl_file(struct nsock *ns, int fd, unsigned long req, long arg)
{
	int r;

	switch (req) {
	case FIONBIO:
		r = (int)libc_errno(libc.ioctl(fd, req, arg));
		if (r < 0)
			return r;
		if (*(int *)arg)
			__atomic_or_fetch(&ns->f.flags, O_NONBLOCK, __ATOMIC_RELAXED);
		else
			__atomic_and_fetch(&ns->f.flags, ~(uint32_t)O_NONBLOCK, __ATOMIC_RELAXED);
		if (nsock_mode(ns) == SK_PLUGIN)
			plug_flags(ns);
		return r;
	case FIOASYNC:
		if (user_ok((void *)arg, sizeof(int)) && *(int *)arg)
			nsock_handover(ns, fd, SR_option); /* SIGIO is the kernel's */
		return (int)libc_errno(libc.ioctl(fd, req, arg));
	case FIOSETOWN:
	case SIOCSPGRP:
		r = (int)libc_errno(libc.ioctl(fd, req, arg));
		if (r == 0)
			sock_owner_number(ns, *(int *)arg);
		return r;
	}
	return ASK_SHADOW;
}

/* Written to the network but not sent yet. */
static int stream_unsent(struct nsock *ns)
{
	struct tcp_info ti;

	if (ns->remote) /* the parent's stack can't be asked */
		return (int)fifo_used(&ns->tx);
	return info_of(ns, &ti) ? 0 : (int)ti.tcpi_notsent_bytes;
}

/* Numbers of a connection; false: the request is none of these. */
static bool ioctl_stream(struct nsock *ns, struct shm_session *s, unsigned long req, int *v)
{
	switch (req) {
	case FIONREAD: /* SIOCINQ */
		if (!fifo_used(&ns->rx))
			worker_drive();
		*v = (int)sock_urg_inq(ns, s);
		return true;
	case TIOCOUTQ: /* SIOCOUTQ */
		*v = (int)fifo_used(&ns->tx);
		return true;
	case SIOCOUTQNSD:
		*v = stream_unsent(ns);
		return true;
	case SIOCATMARK:
		*v = sock_urg_atmark(ns, s);
		return true;
	}
	return false;
}

static bool ioctl_dgram(struct nsock *ns, int fd, unsigned long req, int *v)
{
	switch (req) {
	case FIONREAD:
		*v = sock_dgram_next(ns, fd);
		return true;
	case TIOCOUTQ:
		if (libc.ioctl(fd, req, (long)v) < 0) /* what it holds back: MSG_MORE, UDP_CORK */
			*v = 0;
		*v += (int)fifo_used(&ns->tx);
		return true;
	}
	return false;
}

int sock_ioctl(struct nsock *ns, int fd, unsigned long req, long arg)
{
	int v, r = ioctl_file(ns, fd, req, arg);
	struct shm_session *s = nsock_session(ns);
	uint8_t mode = nsock_mode(ns);
	bool ours = false;

	if (r != ASK_SHADOW)
		return r;
	if (mode == SK_PLUGIN)
		return plug_ioctl(ns, req, (unsigned long)arg);
	if (s && mode == SK_STREAM)
		ours = ioctl_stream(ns, s, req, &v);
	else if (s && mode == SK_DGRAM)
		ours = ioctl_dgram(ns, fd, req, &v);
	if (!ours)
		return (int)libc_errno(libc.ioctl(fd, req, arg));
	if (v < 0)
		return v;
	if (!user_ok((void *)arg, sizeof(v)))
		return -EFAULT;
	*(int *)arg = v;
	return 0;
}
