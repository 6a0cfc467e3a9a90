/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_addr.c - socket, bind, listen, connect, accept, shutdown, names
 *
 * The kernel's half does everything first that it can do (so its errors are the kernel's own), and
 * the stack joins in where the socket qualifies. connect() decides for good who serves a TCP
 * socket; a listener is served by both.
 *
 * Threads: any; control calls of one socket are serialised by nsock.lock, which is not held while
 * a call waits.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"
#include "nsocket/cleanup.h"

#include <nsocket/yield.h>
#include <nsocket/opt_log.h>
#include <nsocket/plugin/plugin.h>
#include <nsocket/handover.h>
#include <nsocket/to_kernel.h>
#include <nsocket/seccomp.h>
#include <nsocket/sides.h>
#include <nstack/fault_point.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <rd/sys.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIND_TRIES 64  /* of a client, for a port that neither the stack nor the kernel uses */
#define KERNEL_TURN 16 /* every so many accepts the kernel's half is asked first */

bool sock_is_multicast(const struct nst_addr *a)
{
	if (a->family == AF_INET)
		return IN_MULTICAST(ntohl(a->v4)) || a->v4 == INADDR_BROADCAST;
	return a->v6[0] == 0xff;
}

void sock_addr_out(const struct nst_addr *a, int family, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage ss;
	socklen_t n;

	if (!addr || !len)
		return;
	n = nst_addr_to_sockaddr(a, family, &ss);
	memcpy(addr, &ss, n < *len ? n : *len);
	*len = n;
}

/* --- socket, bind, listen ----------------------------------------------------------------------- */

int sock_socket(int domain, int type, int protocol)
{
	int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), proto, fd;
	struct nsock *ns;

	plug_load();
	fd = libc.socket(domain, type, protocol);
	if (fd < 0)
		return -errno;
	if ((domain != AF_INET && domain != AF_INET6) ||
	    (kind != SOCK_STREAM && kind != SOCK_DGRAM))
		return fd;
	proto = kind == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	if (protocol && protocol != proto) /* MPTCP, UDP-Lite, ping sockets */
		return fd;
	if (nsock_kernel_only_why() != SR_NR_) {
		sock_reason(nsock_kernel_only_why());
		sock_fd_reason(fd, nsock_kernel_only_why());
		return fd;
	}
	ns = nsock_new(domain, proto, type & SOCK_NONBLOCK ? O_NONBLOCK : 0);
	if (!ns)
		return fd;
	if (fd_install(fd, &ns->f))
		sock_reason(SR_fd_too_large);
	nfile_put(&ns->f);
	return fd;
}

/* What the kernel bound the shadow to becomes the socket's address. */
static int local_from_shadow(struct nsock *ns, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (libc.getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	/* not through the v4-mapped translation only: [::] stays [::] */
	return nst_addr_from_sockaddr(&ns->local, (struct sockaddr *)&ss, len);
}

int sock_bound(struct nsock *ns, int fd)
{
	static uint32_t binds; /* atomic */

	lock_take(&ns->lock);
	if (ns->proto == IPPROTO_UDP) {
		sock_dgram_follow(ns, fd, false);
		ns->bind_seq = __atomic_add_fetch(&binds, 1, __ATOMIC_RELAXED);
	} else if (local_from_shadow(ns, fd) == 0) {
		ns->bound = true;
	}
	ns->bind_called = true;
	lock_give(&ns->lock);
	/* what another socket of ours on that port would take meanwhile may be for this one */
	if (ns->proto == IPPROTO_UDP && ports_used(IPPROTO_UDP, ns->local.port))
		nsock_activate(ns, fd);
	return 0;
}

/* The range that the kernel chooses from; the same in the whole life of a process. */
static void port_range(uint32_t *first, uint32_t *n)
{
	static uint32_t range; /* atomic: first | number << 16 */
	uint32_t r = __atomic_load_n(&range, __ATOMIC_RELAXED);
	char text[64] = "";
	unsigned lo, hi;
	int fd;

	if (!r) {
		fd = sys_open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY, 0);
		if (fd >= 0) {
			sys_read(fd, text, sizeof(text) - 1);
			sys_close(fd);
		}
		if (sscanf(text, "%u %u", &lo, &hi) != 2 || !lo || lo > hi || hi > 65535) {
			lo = 32768;
			hi = 60999;
		}
		r = lo | (hi - lo + 1) << 16;
		__atomic_store_n(&range, r, __ATOMIC_RELAXED);
	}
	*first = r & 0xffff;
	*n = r >> 16 ? r >> 16 : 65536;
}

/* bind() a TCP socket to an address whose port is not given. The kernel does not know which ports
 * connections of the stack still have in TIME_WAIT, so its own choice would often be one of those. */
static bool bind_unused(int fd, const struct sockaddr *addr, socklen_t len)
{
	uint32_t start, first, n, binds = 0;
	struct sockaddr_storage ss;
	struct sockaddr_in6 *sa = (struct sockaddr_in6 *)&ss;

	if (getrandom(&start, sizeof(start), 0) != sizeof(start))
		return false;
	port_range(&first, &n);
	memcpy(&ss, addr, len);
	for (uint32_t i = 0; i < n && binds < BIND_TRIES; i++) {
		/* the port is in the same place in both families */
		sa->sin6_port = htons((uint16_t)(first + (start % n + i) % n));
		if (ports_used(IPPROTO_TCP, sa->sin6_port))
			continue;
		if (libc.bind(fd, (struct sockaddr *)&ss, len) == 0)
			return true;
		if (errno != EADDRINUSE)
			return false;
		binds++;
	}
	return false;
}

/* Where no port is asked for, none is shared, whatever the options allow for one that is. */
static bool bind_unshared(int fd, const struct sockaddr *addr, socklen_t len)
{
	static const int sharing[] = { SO_REUSEADDR, SO_REUSEPORT };
	int was[2] = { 0 }, off = 0;
	socklen_t n;
	bool ok;

	for (int i = 0; i < 2; i++) {
		n = sizeof(was[i]);
		if (libc.getsockopt(fd, SOL_SOCKET, sharing[i], &was[i], &n) == 0 && was[i])
			libc.setsockopt(fd, SOL_SOCKET, sharing[i], &off, sizeof(off));
	}
	ok = bind_unused(fd, addr, len);
	for (int i = 0; i < 2; i++)
		if (was[i])
			libc.setsockopt(fd, SOL_SOCKET, sharing[i], &was[i], sizeof(was[i]));
	return ok;
}

/* Is it an address without a port, for which bind() is to choose one now? */
static bool wants_port(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len)
{
	socklen_t least = ns->family == AF_INET ? sizeof(struct sockaddr_in) :
						  sizeof(struct sockaddr_in6);
	int later = 0;
	socklen_t n = sizeof(later);

	return ns->proto == IPPROTO_TCP && !ns->bound && len >= least &&
	       len <= sizeof(struct sockaddr_storage) && user_ok(addr, len) &&
	       addr->sa_family == ns->family && !((const struct sockaddr_in *)addr)->sin_port &&
	       libc.getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &later, &n) == 0 && !later;
}

/* A connection has its address: EINVAL, unless the kernel finds something worse in the new one. Its
 * own shadow may be unbound, and is to stay so. */
static int bind_connected(struct nsock *ns, const struct sockaddr *addr, socklen_t len)
{
	int probe = libc.socket(ns->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = probe < 0 ? 0 : (int)libc_errno(libc.bind(probe, addr, len));

	if (probe >= 0)
		sys_close(probe);
	return err && err != -EADDRINUSE ? err : -EINVAL;
}

/* Connections of the stack have the port, and the kernel does not know: their shadows are not bound
 * to it, and in TIME_WAIT there is none. SO_REUSEADDR allows it, as it does where the listener had it,
 * too. */
static bool bind_in_use(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len)
{
	socklen_t n = sizeof(int);
	struct nst_addr want;
	int reuse = 0;
	bool found;

	if (ns->proto != IPPROTO_TCP || ns->bound || !user_ok(addr, len) ||
	    nst_addr_from_sockaddr(&want, addr, len) || !ports_used(IPPROTO_TCP, want.port))
		return false;
	libc.getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &n);
	if (reuse || ns->reuseport)
		return false;
	worker_lock();
	found = ports_in_use(IPPROTO_TCP, &want, want.family == AF_INET6 && !ns->v6only);
	worker_unlock();
	return found;
}

int sock_bind(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len)
{
	int r;

	if (nsock_mode(ns) == SK_STREAM)
		return bind_connected(ns, addr, len);
	if (nsock_mode(ns) == SK_PLUGIN)
		return plug_rebind(ns, addr, len);
	if (plug_any() && plug_bind(ns, fd, addr, len, &r))
		return r;
	if (bind_in_use(ns, fd, addr, len))
		return -EADDRINUSE;
	/* what goes wrong there goes wrong again here, with the kernel's error */
	if (!(wants_port(ns, fd, addr, len) && bind_unshared(fd, addr, len)) &&
	    libc.bind(fd, addr, len) < 0)
		return -errno;
	return sock_bound(ns, fd);
}

int sock_autobind(struct nsock *ns, int fd)
{
	struct sockaddr_storage ss = { .ss_family = ns->family };
	socklen_t len = ns->family == AF_INET ? sizeof(struct sockaddr_in) :
						sizeof(struct sockaddr_in6);
	int err;

	if (ns->bound && ns->local.port)
		return 0;
	if (!(ns->proto == IPPROTO_TCP && bind_unused(fd, (struct sockaddr *)&ss, len)) &&
	    libc.bind(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINVAL)
		return -errno;
	err = local_from_shadow(ns, fd);
	ns->bound = !err;
	return err;
}

int sock_listen(struct nsock *ns, int fd, int backlog)
{
	uint8_t mode = nsock_mode(ns);
	struct shm_session *s;

	if (mode == SK_STREAM || mode == SK_LOST)
		return -EINVAL;
	if (mode == SK_PLUGIN)
		return plug_listen(ns, backlog);
	if (libc.listen(fd, backlog) < 0)
		return -errno;
	if (ns->proto != IPPROTO_TCP)
		return 0;
	lock_take(&ns->lock);
	ns->backlog = backlog < 0 || backlog > 4096 ? 4096 : backlog ? backlog : 1;
	local_from_shadow(ns, fd); /* listen() binds an unbound one */
	ns->bound = true;
	ns->cookie = sock_cookie(fd);
	s = ns->s;
	if (mode == SK_LISTEN && s) {
		worker_lock();
		if (worker.st)
			ports_listen(s, ns->backlog, fd);
		worker_unlock();
	} else if (mode == SK_NEW) {
		nsock_set_mode(ns, SK_LISTEN);
	}
	if (plug_any())
		plug_halves_open(ns);
	lock_give(&ns->lock);
	return 0;
}

/* --- connect -------------------------------------------------------------------------------------- */

static bool connect_settled(void *p)
{
	struct shm_session *s = nsock_session(p);

	return !s || shm_session_state(s) != SHM_S_CONNECTING;
}

/* May the stack serve a connection to remote? Fills the source address. SR_NR_: yes. */
static enum sock_reason connect_way(struct nsock *ns, const struct nst_addr *remote,
				    struct nst_addr *src, bool *drop)
{
	static const struct nst_addr none;
	const struct nst_addr *local = ns->bound ? &ns->local : &none;
	struct stack_route rt = { 0 };
	struct rd_verdict v;
	int err;

	*drop = false;
	if (nsock_kernel_only_why() != SR_NR_)
		return nsock_kernel_only_why();
	if (nst_addr_is_any(remote) || sock_is_multicast(remote))
		return SR_multicast_or_broadcast;
	v = nsock_lookup(ns, local, remote);
	if (v.action == RD_KERNEL || (v.action == RD_STACK && v.stack)) /* or of a stack that is not here */
		/* builtin: the loopback, which nobody wrote a rule for */
		return v.rule == RD_BY_BUILTIN ? SR_no_route : SR_rule_kernel;
	if (v.action == RD_DROP) {
		*drop = true;
		return SR_rule_kernel;
	}
	if (ns->bound && !nst_addr_is_any(&ns->local) && ns->local.family != remote->family)
		return SR_no_route;
	if (!worker_start())
		return SR_stack_not_running;
	worker_lock();
	err = worker.ops->route(worker.st, remote,
				ns->bound && !nst_addr_is_any(&ns->local) ? &ns->local : NULL, &rt);
	worker_unlock();
	*src = rt.src;
	return err ? SR_no_route : SR_NR_;
}

/* Under ns->lock: session, pin, SYN. */
static int connect_start(struct nsock *ns, int fd, const struct nst_addr *remote,
			 const struct nst_addr *src)
{
	struct nst_addr from = *src;
	struct shm_session *s;
	int err = sock_autobind(ns, fd);

	if (err)
		return err;
	from.port = ns->local.port;
	worker_lock();
	err = ports_pin(ns->proto, &from, remote, fd);
	if (!err) {
		ns->held = ns->local;
		ns->port_held = true;
		err = nsock_session_open_locked(ns, &s);
	}
	if (!err) {
		nsock_session_attach_locked(ns, s);
		s->app_flags = (ns->shut & 1 ? SHM_AF_RX_SHUT : 0) |
			       (ns->shut & 2 ? SHM_AF_TX_SHUT : 0);
		err = worker.ops->bind(worker.st, s, &from);
		if (!err)
			err = worker.ops->connect(worker.st, s, remote);
		if (err == -EINPROGRESS)
			err = 0;
	}
	if (err)
		nsock_session_drop_locked(ns, 0);
	worker_unlock();
	return err;
}

/* The connection, or the attempt, is no more, and the socket is as good as new; err is what SO_ERROR
 * has to say then. Under ns->lock. */
static void stream_undo(struct nsock *ns, int err)
{
	worker_lock();
	nsock_session_drop_locked(ns, 0);
	worker_unlock();
	ns->connecting = false;
	ns->shut = 0;
	__atomic_store_n(&ns->err, err, __ATOMIC_RELAXED); /* relaxed: nothing goes with it */
	nsock_set_mode(ns, SK_NEW);
}

/* The outcome of a connection attempt that has one. Under ns->lock. */
static int connect_result(struct nsock *ns)
{
	struct shm_session *s = ns->s;
	int err;

	if (shm_session_state(s) != SHM_S_CLOSED) {
		ns->connecting = false;
		return 0;
	}
	err = nsock_error(s);
	stream_undo(ns, 0);
	return err ? err : -ECONNABORTED; /* somebody else was told */
}

/* late: what to answer when time is up. */
static int connect_wait(struct nsock *ns, int late)
{
	int r;

	r = nsock_wait(ns, -1, 0, nsock_deadline(ns->sndtimeo), connect_settled, true);
	if (r == 0)
		return late;
	if (r < 0)
		return r;
	lock_take(&ns->lock);
	r = ns->s && ns->connecting ? connect_result(ns) : 0;
	lock_give(&ns->lock);
	return r;
}

/* connect() on a socket that has a connection. Under ns->lock, gives it up. */
static int connect_again(struct nsock *ns)
{
	struct shm_session *s = ns->s;
	int err;

	if (!ns->connecting) {
		lock_give(&ns->lock);
		return -EISCONN;
	}
	if (shm_session_state(s) == SHM_S_CONNECTING) {
		lock_give(&ns->lock);
		worker_drive();
		return nsock_nonblock(ns) ? -EALREADY : connect_wait(ns, -EALREADY);
	}
	err = connect_result(ns);
	lock_give(&ns->lock);
	return err;
}

/* The error that is left of a connection that is dissolved: as if the peer had reset what was alive,
 * but nothing if both ends had said all. Under ns->lock. */
static int dissolve_error(struct nsock *ns)
{
	if (shm_session_state(ns->s) == SHM_S_CLOSED)
		return -nsock_error(ns->s);
	return sock_said_all(ns) ? 0 : ECONNRESET;
}

static int connect_dissolve(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len)
{
	lock_take(&ns->lock);
	if (nsock_mode(ns) == SK_STREAM && ns->s) {
		stream_undo(ns, dissolve_error(ns));
		lock_give(&ns->lock);
		return 0;
	}
	ns->shut = 0;
	lock_give(&ns->lock);
	return (int)libc_errno(libc.connect(fd, addr, len));
}

static int connect_kernel(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len,
			  enum sock_reason why)
{
	int r = (int)libc_errno(libc.connect(fd, addr, len));

	if (r == 0 || r == -EINPROGRESS || r == -EINTR) {
		lock_take(&ns->lock);
		nsock_to_kernel(ns, why);
		lock_give(&ns->lock);
	}
	return r;
}

static int connect_stream(struct nsock *ns, int fd, const struct nst_addr *remote,
			  const struct sockaddr *addr, socklen_t len)
{
	enum sock_reason why;
	struct nst_addr src;
	bool drop;
	int err;

	why = connect_way(ns, remote, &src, &drop);
	if (drop)
		return -EHOSTUNREACH;
	if (why == SR_NR_ && fd <= STDERR_FILENO)
		why = SR_stdio;
	if (why != SR_NR_)
		return connect_kernel(ns, fd, addr, len, why);
	lock_take(&ns->lock);
	if (nsock_mode(ns) != SK_NEW) { /* another thread was faster */
		if (nsock_mode(ns) == SK_STREAM)
			return connect_again(ns);
		lock_give(&ns->lock);
		return (int)libc_errno(libc.connect(fd, addr, len));
	}
	err = connect_start(ns, fd, remote, &src);
	if (!err) {
		__atomic_store_n(&ns->err, 0, __ATOMIC_RELAXED); /* relaxed: nothing goes with it */
		ns->connecting = true;
		nsock_set_mode(ns, SK_STREAM);
	}
	lock_give(&ns->lock);
	if (err == -EADDRNOTAVAIL)
		return err; /* the stack has that very flow: the kernel would get none of its packets */
	if (err)
		return connect_kernel(ns, fd, addr, len, nsock_reason_of(err, SR_stack_refused));
	if (nsock_nonblock(ns))
		return -EINPROGRESS;
	return connect_wait(ns, -EINPROGRESS);
}

/* UDP: both halves are connected, so the kernel's takes nothing from strangers. */
static int connect_dgram(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct nst_addr src, peer;
	enum sock_reason why;
	bool drop;

	if (libc.connect(fd, addr, len) < 0)
		return -errno;
	if (nsock_mode(ns) == SK_KERNEL)
		return 0;
	lock_take(&ns->lock);
	sock_dgram_follow(ns, fd, addr->sa_family != AF_UNSPEC);
	peer = ns->peer;
	lock_give(&ns->lock);
	if (!peer.family || sock_dgram_kernel_only(ns))
		return 0;
	why = connect_way(ns, &peer, &src, &drop);
	if (why == SR_NR_) {
		nsock_activate(ns, fd);
		return 0;
	}
	lock_take(&ns->lock);
	ns->peer_kernel = nst_addr_same_ip(&ns->peer, &peer);
	lock_give(&ns->lock);
	if (!nsock_session(ns))
		nsock_reason(ns, why);
	return 0;
}

/* A link-local address means nothing without an interface. */
static bool lacks_scope(const struct nst_addr *a)
{
	return a->family == AF_INET6 && a->v6[0] == 0xfe && (a->v6[1] & 0xc0) == 0x80 && !a->scope_id;
}

int sock_connect(struct nsock *ns, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct nst_addr remote;
	uint8_t mode = nsock_mode(ns);
	int r;

	if (mode == SK_PLUGIN)
		return plug_reconnect(ns, addr, len);
	if (plug_any() && plug_connect(ns, fd, addr, len, &r))
		return r;
	if (ns->proto == IPPROTO_UDP)
		return connect_dgram(ns, fd, addr, len);
	if (len > sizeof(struct sockaddr_storage) || !user_ok(addr, len) ||
	    len < sizeof(addr->sa_family)) /* the kernel has the right error */
		return (int)libc_errno(libc.connect(fd, addr, len));
	if (addr->sa_family == AF_UNSPEC)
		return connect_dissolve(ns, fd, addr, len);
	if (mode == SK_STREAM) {
		lock_take(&ns->lock);
		if (ns->s)
			return connect_again(ns);
		lock_give(&ns->lock);
	}
	if (mode == SK_LOST)
		return -EISCONN;
	if (mode == SK_KERNEL || mode == SK_LISTEN || addr->sa_family != ns->family ||
	    nst_addr_from_sockaddr(&remote, addr, len) || lacks_scope(&remote) ||
	    (ns->v6only && remote.family == AF_INET))
		return (int)libc_errno(libc.connect(fd, addr, len));
	return connect_stream(ns, fd, &remote, addr, len);
}

/* --- accept ----------------------------------------------------------------------------------------- */

/* Is there, or will there be, something to accept that the kernel does not have? */
static bool may_come(struct nsock *ns)
{
	return nsock_session(ns) || yield_any(ns) || __atomic_load_n(&ns->retry_ns, __ATOMIC_RELAXED);
}

/* Must accept() look at both halves? Also while the stack may yet get the port. */
static bool accept_both(struct nsock *ns)
{
	bool both;

	if (ns->plug && nsock_mode(ns) == SK_LISTEN)
		return true;
	if (seccomp_idle() && !sock_accept_waits(ns))
		return false;
	if (nsock_mode(ns) != SK_LISTEN)
		return false;
	if (may_come(ns))
		return true;
	/* whoever takes the session away, or tries to have one again, does it under this lock; without it a
	 * thread could see neither, and wait for the kernel alone from then on */
	lock_take(&ns->lock);
	both = may_come(ns);
	lock_give(&ns->lock);
	return both;
}

static bool accept_ready(void *p)
{
	struct nsock *ns = p;

	if (yield_any(ns) || (ns->plug && plug_poll(ns)))
		return true;
	return nsock_session(ns) ? sock_accept_waits(ns) : !accept_both(ns);
}

/* From the daemon, which has one queue for several programs. */
static int accept_shared(struct shm_session *listener, struct shm_session **out)
{
	int err;

	worker_lock();
	err = worker.st && worker.ops->accept ? worker.ops->accept(worker.st, listener, out) : -EAGAIN;
	worker_unlock();
	return err == -ECONNRESET ? -EAGAIN : err; /* the daemon has ended: the kernel's half goes on */
}

/* Under rx_lock. */
static int accept_own(struct nsock *ns, struct shm_session **out)
{
	uint32_t id;

	*out = NULL;
	while (!*out && nsock_session(ns) && fifo_take_one(&ns->rx, &id, sizeof(id)))
		*out = shm_session_get(worker.region, id);
	return *out ? 0 : -EAGAIN;
}

/* The next session of the stack's queue. -EAGAIN: another thread was faster, or another program. */
static int accept_take(struct nsock *ns, struct shm_session **out)
{
	struct shm_session *listener;
	int err;

	lock_take(&ns->rx_lock);
	/* under the lock: the port may have gone to another process meanwhile (yield.c) */
	listener = nsock_session(ns);
	/* relaxed: what was in the queue before others came may be had either way */
	if (listener && __atomic_load_n(&listener->shared, __ATOMIC_RELAXED))
		err = accept_shared(listener, out);
	else
		err = accept_own(ns, out);
	NST_FAULT_POINT("accept.taken");
	lock_give(&ns->rx_lock);
	return err;
}

/* The listener's options, for whoever asks the accepted socket for them. */
static struct opt_log *accept_opts(struct nsock *ns)
{
	struct opt_log *opts;

	/* relaxed: only says whether the lock is worth taking */
	if (!__atomic_load_n(&ns->opts, __ATOMIC_RELAXED))
		return NULL;
	lock_take(&ns->lock);
	opts = opt_log_get(ns->opts);
	lock_give(&ns->lock);
	return opts;
}

/* May an address be told there? 0 or -errno. */
static int addr_args(const struct sockaddr *addr, const socklen_t *len, int family)
{
	size_t n = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	if (!user_ok(len, sizeof(*len)))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	return user_ok(addr, *len < n ? *len : n) ? 0 : -EFAULT;
}

/* The socket of an accepted session, with its reference; NULL: no memory. */
static struct nsock *accept_nsock(struct nsock *ns, struct shm_session *s, int flags)
{
	struct nsock *c = nsock_new(ns->family, IPPROTO_TCP, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);

	if (!c)
		return NULL;
	c->rcvtimeo = ns->rcvtimeo;
	c->sndtimeo = ns->sndtimeo;
	c->linger_s = ns->linger_s;
	c->rcvlowat = ns->rcvlowat;
	c->oobinline = ns->oobinline;
	c->want_cmsg = __atomic_load_n(&ns->want_cmsg, __ATOMIC_RELAXED);
	c->v6only = ns->v6only;
	c->opts = accept_opts(ns);
	c->unsettled = true;
	c->bound = true;
	c->local = s->local;
	nsock_session_attach_locked(c, s); /* the session is nobody else's: no lock needed */
	c->mode = SK_STREAM;
	return c;
}

/* A connection from the stack's queue. The descriptor first: without one the connection stays in the
 * queue. A bad pointer costs the connection, as in Linux. -EAGAIN: there is none any more. */
static int accept_stack(struct nsock *ns, struct sockaddr *addr, socklen_t *len, int flags)
{
	int fd = libc.socket(ns->family, SOCK_STREAM | flags, 0), err;
	struct shm_session *s;
	struct nsock *c;

	if (fd < 0)
		return -errno;
	err = accept_take(ns, &s);
	if (err) {
		sys_close(fd);
		return err;
	}
	c = accept_nsock(ns, s, flags);
	if (!c) {
		sys_close(fd);
		worker_lock();
		worker.ops->close(worker.st, s, 0);
		worker_unlock();
		return -ENOMEM;
	}
	err = addr ? addr_args(addr, len, ns->family) : 0;
	if (!err)
		err = fd_install(fd, &c->f);
	if (err)
		sys_close(fd);
	else
		sock_addr_out(&s->remote, ns->family, addr, len);
	nfile_put(&c->f); /* closes the session if it got no descriptor */
	return err ? err : fd;
}

/* fd was accepted from the stack. Where the process has got a ring since the connection came, the
 * connection goes where it is looked for. */
static int accept_given(int fd)
{
	struct nfile *f;

	if (fd >= 0 && nsock_kernel_only_why() != SR_NR_ && (f = fd_get(fd))) {
		nsock_handover(nsock_of(f), fd, nsock_kernel_only_why());
		nfile_put(f);
	}
	return fd;
}

void sock_listener_keep(struct nsock *ns, int fd)
{
	/* relaxed: a thread that comes just now finds the number closed, as it could before */
	if ((__atomic_load_n(&ns->nwaits, __ATOMIC_RELAXED) || __atomic_load_n(&ns->accepting, __ATOMIC_RELAXED)) &&
	    ns->kept_fd < 0)
		__atomic_store_n(&ns->kept_fd, fd_hide(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0)), __ATOMIC_RELEASE);
}

/* The shadow by a number that is open, if the one that the call came by was closed meanwhile. */
static int accept_fd(const struct nsock *ns, int fd)
{
	return nfile_has_fd(&ns->f, fd) ? fd : nsock_shadow_fd(ns);
}

static void kernel_rcvtimeo(int fd, uint64_t ns)
{
	struct timeval tv = { .tv_sec = (time_t)(ns / 1000000000u),
			      .tv_usec = (suseconds_t)(ns / 1000 % 1000000) };

	libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

/* From the shadow, never blocking: -EAGAIN. That it polls readable does not say that: another
 * thread, or a process that shares it, may be faster. The way out may not be O_NONBLOCK, which they
 * would see; the shortest time-out lasts for a moment only, and who meets it in accept_plain() goes
 * on. Accepted sockets inherit it. The socket has one time-out for all who share it: one at a time, or another's
 * end of the moment would leave us waiting for the kernel alone. */
static int accept_at_once(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	uint16_t port = ns->local.port;
	int r;

	sides_port_take(port);
	kernel_rcvtimeo(fd, 1000);
	r = (int)libc_errno(syscall(SYS_accept4, fd, addr, len, flags));
	kernel_rcvtimeo(fd, ns->rcvtimeo);
	sides_port_give(port);
	if (r >= 0)
		kernel_rcvtimeo(r, ns->rcvtimeo);
	return r;
}

static int accept_kernel(struct nsock *ns, int number, struct sockaddr *addr, socklen_t *len, int flags)
{
	int fd = accept_fd(ns, number);
	static const struct timespec zero;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	if (fd < 0) /* closed by another thread: what the stack has goes on */
		return -EAGAIN;
	/* system calls: libc's are cancellation points, and our caller has a reference */
	if (syscall(SYS_ppoll, &p, 1, &zero, NULL, (size_t)8) <= 0)
		return -EAGAIN;
	if (nsock_nonblock(ns))
		r = (int)libc_errno(syscall(SYS_accept4, fd, addr, len, flags));
	else
		r = accept_at_once(ns, fd, addr, len, flags);
	if (r >= 0 && nsock_session(ns)) {
		sock_reason(SR_kernel_client);
		sock_fd_reason(r, SR_kernel_client);
	}
	return r;
}

/* One that another process had accepted and passed on; it is the kernel's. -EAGAIN: none. */
static int accept_gift(struct nsock *ns, struct sockaddr *addr, socklen_t *len, int flags)
{
	int fd = yield_take(ns, flags & SOCK_CLOEXEC);

	if (fd < 0)
		return fd;
	if (flags & SOCK_NONBLOCK)
		libc.fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	if (addr)
		libc.getpeername(fd, addr, len);
	sock_reason(SR_forked);
	sock_fd_reason(fd, SR_forked);
	return fd;
}

/* The kernel alone serves it. */
static int accept_plain(struct nsock *ns, int number, struct sockaddr *addr, socklen_t *len, int flags)
{
	int fd = accept_fd(ns, number), r;
	uint8_t why;

	do
		r = (int)libc_errno(libc.accept4(fd, addr, len, flags));
	while (r == -EAGAIN && !ns->rcvtimeo &&
	       !(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK));
	why = __atomic_load_n(&ns->why, __ATOMIC_RELAXED);
	if (r >= 0 && why) /* its listener's, which was counted */
		sock_fd_reason(r, (enum sock_reason)(why - 1));
	return r;
}

/* The daemon wakes one who waits like this. Relaxed: a hint, the session may just be given back. */
static void accept_waiters(struct nsock *ns, int more)
{
	uint32_t n = __atomic_add_fetch(&ns->takers, (uint32_t)more, __ATOMIC_RELAXED);
	struct shm_session *s = nsock_session(ns);

	if (s)
		__atomic_store_n(&s->takers, (uint16_t)n, __ATOMIC_RELAXED);
}

static int accept_any(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	uint64_t deadline = UINT64_MAX;
	bool kernel_first;
	int r;

	if (nsock_mode(ns) == SK_LISTEN && !ns->s)
		nsock_activate(ns, fd);
	if (nsock_mode(ns) == SK_STREAM || nsock_mode(ns) == SK_LOST)
		return -EINVAL;
	if (nsock_mode(ns) == SK_PLUGIN)
		return plug_accept_wait(ns, addr, len, flags);
	if (!accept_both(ns))
		return accept_plain(ns, fd, addr, len, flags);
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return -EINVAL;
	__atomic_store_n(&ns->looked_ns, worker_now(), __ATOMIC_RELAXED);
	if (ns->rcvtimeo)
		deadline = nsock_deadline(ns->rcvtimeo);
	for (;;) {
		if (!accept_both(ns)) /* shut down meanwhile: the kernel has the error */
			return accept_plain(ns, fd, addr, len, flags);
		kernel_first = __atomic_add_fetch(&ns->turn, 1, __ATOMIC_RELAXED) % KERNEL_TURN == 0;
		if (kernel_first) {
			r = accept_kernel(ns, fd, addr, len, flags);
			if (r != -EAGAIN)
				return r;
		}
		r = accept_gift(ns, addr, len, flags);
		if (r == -EAGAIN && ns->plug)
			r = plug_accept(ns, addr, len, flags);
		if (r != -EAGAIN)
			return r;
		if (!sock_accept_waits(ns)) /* the last ACK of a connection that the peer has may just lie in the ring */
			worker_drive_all();
		if (sock_accept_waits(ns)) {
			worker_tick();
			r = accept_stack(ns, addr, len, flags);
			if (r != -EAGAIN)
				return accept_given(r);
		}
		r = accept_kernel(ns, fd, addr, len, flags);
		if (r != -EAGAIN || nsock_nonblock(ns))
			return r;
		accept_waiters(ns, 1);
		r = nsock_wait(ns, accept_fd(ns, fd), POLLIN, deadline, accept_ready, true);
		accept_waiters(ns, -1);
		if (r <= 0)
			return r ? r : -EAGAIN;
	}
}

static void accept_left(void *arg)
{
	struct nsock *ns = arg;

	/* relaxed: 0 in a child that a handler in this call has made */
	if (__atomic_load_n(&ns->accepting, __ATOMIC_RELAXED))
		__atomic_sub_fetch(&ns->accepting, 1, __ATOMIC_RELAXED);
	nfile_put(&ns->f);
}

int sock_accept(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct _pthread_cleanup_buffer undo;
	int r;

	if (nsock_nonblock(ns))
		return accept_any(ns, fd, addr, len, flags);
	nfile_get(&ns->f); /* for a thread that is cancelled, and gives the call's own back before */
	__atomic_add_fetch(&ns->accepting, 1, __ATOMIC_RELAXED);
	cleanup_push(&undo, accept_left, ns);
	r = accept_any(ns, fd, addr, len, flags);
	cleanup_pop(&undo);
	accept_left(ns);
	return r;
}

/* --- shutdown, names ---------------------------------------------------------------------------------- */

/* A listener gives up listening. Under ns->lock. */
static void listen_undo(struct nsock *ns)
{
	if (ns->s) {
		worker_lock();
		to_kernel_drain(); /* handshakes whose end lies there are reset with the others */
		nsock_session_drop_locked(ns, -1);
		worker_unlock();
	}
	if (ns->plug)
		plug_halves_close(ns);
	ns->retry_ns = 0;
	ns->rejected = false; /* it may listen again */
	nsock_set_mode(ns, SK_NEW);
}

/* Without a connection. */
static int shutdown_idle(struct nsock *ns, int fd, int how)
{
	int r;

	lock_take(&ns->lock);
	if (nsock_mode(ns) == SK_LISTEN && how != SHUT_WR)
		listen_undo(ns);
	else
		ns->shut |= (uint8_t)(how + 1); /* the bits stick, as in Linux */
	r = (int)libc_errno(libc.shutdown(fd, how));
	lock_give(&ns->lock);
	nsock_wake(ns, 0); /* accept() in other threads */
	return r;
}

static int shutdown_connecting(struct nsock *ns)
{
	lock_take(&ns->lock);
	if (ns->s)
		stream_undo(ns, ECONNRESET);
	lock_give(&ns->lock);
	nsock_wake(ns, STACK_EV_OUT | STACK_EV_ERR | STACK_EV_HUP);
	return 0;
}

/* No descriptor refers to it any more: SO_LINGER lets close() wait until all has arrived. */
static bool linger_over(void *p)
{
	struct shm_session *s = nsock_session(p);

	return !s || shm_session_state(s) == SHM_S_CLOSED ||
	       (__atomic_load_n(&s->stack_flags, __ATOMIC_ACQUIRE) & SHM_SF_FIN_ACKED);
}

void sock_linger(struct nsock *ns)
{
	struct shm_session *s = nsock_session(ns);

	if (ns->linger_s <= 0 || __atomic_load_n(&ns->f.fds, __ATOMIC_RELAXED) || !s ||
	    ns->remote || ns->share || nsock_mode(ns) != SK_STREAM ||
	    shm_session_state(s) != SHM_S_CONNECTED || fifo_used(&ns->rx))
		return;
	lock_take(&ns->tx_lock);
	__atomic_or_fetch(&s->app_flags, SHM_AF_RX_SHUT | SHM_AF_TX_SHUT, __ATOMIC_SEQ_CST);
	lock_give(&ns->tx_lock);
	nsock_post(ns, SOCK_CMD_SHUT_RD | SOCK_CMD_SHUT_WR);
	nsock_wait(ns, -1, 0, nsock_deadline((uint64_t)ns->linger_s * 1000000000u), linger_over,
		   false);
}

#define SHUT_EVENTS (STACK_EV_IN | STACK_EV_OUT | STACK_EV_RDHUP | STACK_EV_HUP)

int sock_shutdown(struct nsock *ns, int fd, int how)
{
	struct shm_session *s = nsock_session(ns);
	uint32_t af = 0, cmd = 0, state;

	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	if (nsock_mode(ns) == SK_LOST)
		return -ENOTCONN;
	if (nsock_mode(ns) == SK_PLUGIN)
		return plug_shutdown(ns, how);
	if (nsock_mode(ns) != SK_STREAM || !s)
		return shutdown_idle(ns, fd, how);
	state = shm_session_state(s);
	if (state == SHM_S_CLOSED) {
		watch_notify(&ns->f, SHUT_EVENTS); /* as in Linux: an edge all the same */
		return -ENOTCONN;
	}
	if (state == SHM_S_CONNECTING)
		return shutdown_connecting(ns);
	if (how != SHUT_WR) {
		af |= SHM_AF_RX_SHUT;
		cmd |= SOCK_CMD_SHUT_RD;
	}
	if (how != SHUT_RD) {
		af |= SHM_AF_TX_SHUT;
		cmd |= SOCK_CMD_SHUT_WR;
	}
	/* a writer that is in the middle of a send ends before the FIN */
	lock_take(&ns->tx_lock);
	if (nsock_session(ns) != s) { /* it has gone to the kernel meanwhile */
		lock_give(&ns->tx_lock);
		return (int)libc_errno(libc.shutdown(fd, how));
	}
	__atomic_or_fetch(&s->app_flags, af, __ATOMIC_SEQ_CST);
	lock_give(&ns->tx_lock);
	nsock_post(ns, cmd);
	watch_notify(&ns->f, SHUT_EVENTS);
	nsock_wake(ns, 0); /* those who block in other threads look again */
	return 0;
}

int sock_name(struct nsock *ns, int fd, struct sockaddr *addr, socklen_t *len, bool peer)
{
	struct shm_session *s = nsock_session(ns);
	int err;

	if (nsock_mode(ns) == SK_LOST)
		return -ENOTCONN;
	if (nsock_mode(ns) == SK_PLUGIN)
		return plug_name(ns, addr, len, peer);
	if (nsock_mode(ns) != SK_STREAM || !s)
		return (int)libc_errno(peer ? libc.getpeername(fd, addr, len) :
					      libc.getsockname(fd, addr, len));
	if (peer && shm_session_state(s) != SHM_S_CONNECTED)
		return -ENOTCONN;
	err = addr_args(addr, len, ns->family);
	if (err)
		return err;
	sock_addr_out(peer ? &s->remote : &s->local, ns->family, addr, len);
	return 0;
}
