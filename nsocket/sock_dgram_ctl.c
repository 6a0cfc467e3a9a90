/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_dgram_ctl.c - UDP: who serves a socket, and which way a datagram goes
 *
 * The shadow is bound, connected and dissolved first; then the session follows what the kernel
 * made of it: its claim, its address and its filter are those of the shadow. So each half lets in
 * the same datagrams.
 *
 * A destination is looked up once (rules, route) and the answer kept for a short time in the
 * socket. A neighbour that has to be resolved first gets its datagrams from the kernel, which keeps
 * them meanwhile and knows what to report if nobody answers.
 *
 * A socket with an option that the stack does not have is *retired*: the kernel serves it from then
 * on; the session only keeps what it has received already.
 *
 * Sockets that share a port start in the order in which they were bound, and all together: the
 * stack chooses among them as the kernel does, by address, then the youngest.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/udp.h>
#include <netinet/ip.h>
#include <rd/rules.h>

#define WAY_NS 50000000ull /* how long the way to a destination is trusted */
#define SAME_PORT_MAX 64   /* sockets of this process on one port that are looked after */

/* --- the session follows the shadow -------------------------------------------------------------- */

static bool specific(const struct nst_addr *a)
{
	return a->family && !nst_addr_is_any(a);
}

/* Does the claim that we have bring all that the shadow's address may get? */
static bool claim_covers(const struct nsock *ns)
{
	return ns->port_held && ns->held.port == ns->local.port &&
	       (nst_addr_is_any(&ns->held) || nst_addr_same_ip(&ns->held, &ns->local));
}

/* Under both locks. A port that the kernel chose for us can't have connections of the kernel. */
static int claim(struct nsock *ns)
{
	bool v4too = ns->family == AF_INET6 && !ns->v6only;
	int fd = nfile_fd(&ns->f);
	int err = ns->peer.family || !ns->bind_called ? ports_claim_new(ns->proto, &ns->local, v4too, fd) :
							ports_claim(ns->proto, &ns->local, v4too, fd);

	if (!err)
		ports_exempt(ns->proto, &ns->local, nsock_listen_by(ns).exempt);
	return err;
}

static void unclaim(struct nsock *ns)
{
	if (ns->port_held)
		ports_release(ns->proto, &ns->held);
	ns->port_held = false;
}

static int address(struct nsock *ns, struct shm_session *s)
{
	int err = worker.ops->bind(worker.st, s, &ns->local);

	return err || !ns->peer.family ? err : worker.ops->connect(worker.st, s, &ns->peer);
}

int sock_dgram_start_locked(struct nsock *ns)
{
	struct shm_session *s;
	int err = claim(ns);

	if (err)
		return err;
	ns->held = ns->local;
	ns->port_held = true;
	err = nsock_session_open_locked(ns, &s);
	if (!err) {
		nsock_session_attach_locked(ns, s);
		err = address(ns, s);
	}
	if (err)
		nsock_session_drop_locked(ns, 0);
	return err;
}

/* Under both locks: the session that is there gets the shadow's addresses. */
static int readdress(struct nsock *ns)
{
	struct nst_addr old = ns->held;
	bool had = ns->port_held;
	int err;

	worker.ops->disconnect(worker.st, ns->s);
	if (!claim_covers(ns)) {
		err = claim(ns);
		if (err)
			return err;
		ns->held = ns->local;
		ns->port_held = true;
		if (had)
			ports_release(ns->proto, &old);
	}
	return address(ns, ns->s);
}

/* Nothing reaches the session any more, and the port is the kernel's. Under both locks. */
static void deafen(struct nsock *ns)
{
	static const struct nst_addr none;

	worker.ops->disconnect(worker.st, ns->s);
	unclaim(ns);
	worker.ops->bind(worker.st, ns->s, &none); /* a daemon has answered this when it has done all of it */
}

static void session_follow(struct nsock *ns)
{
	int err = 0;

	if (!ns->s)
		return;
	worker_lock();
	if (worker.st && ns->s) {
		if (ns->bound && !ns->retired)
			err = readdress(ns);
		if (err || !ns->bound || ns->retired)
			deafen(ns);
	}
	worker_unlock();
	if (err) {
		ns->retired = true;
		nsock_reason(ns, nsock_reason_of(err, SR_stack_refused));
	}
}

static void name_from_shadow(int fd, bool peer, struct nst_addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if ((peer ? libc.getpeername : libc.getsockname)(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    nst_addr_from_sockaddr(out, (struct sockaddr *)&ss, len))
		memset(out, 0, sizeof(*out));
}

static void retire(struct nsock *ns, enum sock_reason why)
{
	if (ns->retired || nsock_mode(ns) == SK_KERNEL)
		return;
	ns->retired = true;
	if (ns->s) {
		nsock_reason(ns, why);
		session_follow(ns);
	} else {
		nsock_to_kernel(ns, why);
	}
}

void sock_dgram_follow(struct nsock *ns, int fd, bool connected)
{
	name_from_shadow(fd, false, &ns->local);
	name_from_shadow(fd, true, &ns->peer);
	ns->bound = ns->local.port;
	ns->peer_kernel = false;
	ns->way.until = 0;
	if (connected && !ns->peer.family)
		retire(ns, SR_option); /* to port 0, which has no name and filters by address only */
	else
		session_follow(ns);
}

/* --- start ---------------------------------------------------------------------------------------- */

/* Ours that have the port, the oldest bind() first, with references. */
static unsigned same_port(struct nsock *ns, struct nsock *out[SAME_PORT_MAX])
{
	unsigned n = 0, at;

	for (int fd = fd_next(0); fd >= 0 && n < SAME_PORT_MAX; fd = fd_next(fd + 1)) {
		struct nfile *f = fd_is_protected(fd) ? NULL : fd_get(fd);
		struct nsock *o = f && f->kind == NF_SOCK ? nsock_of(f) : NULL;

		if (o && o->proto == IPPROTO_UDP && o->bound && o->local.port == ns->local.port) {
			for (at = 0; at < n && out[at] != o; at++)
				;
			if (at == n) {
				for (; at && out[at - 1]->bind_seq > o->bind_seq; at--)
					out[at] = out[at - 1];
				out[at] = o;
				n++;
				continue;
			}
		}
		if (f)
			nfile_put(f);
	}
	return n;
}

bool sock_dgram_may_start(const struct nsock *ns)
{
	return nsock_mode(ns) == SK_NEW && ns->bound && !ns->s && !ns->rejected && !ns->retired &&
	       !ns->peer_kernel;
}

void sock_dgram_activate(struct nsock *ns)
{
	struct nsock *all[SAME_PORT_MAX];
	unsigned n = same_port(ns, all);
	bool kernel = false;

	for (unsigned i = 0; i < n; i++)
		kernel |= all[i]->retired;
	for (unsigned i = 0; i < n; i++) {
		lock_take(&all[i]->lock);
		if (kernel)
			retire(all[i], SR_option);
		else if (sock_dgram_may_start(all[i]))
			nsock_start(all[i]);
		lock_give(&all[i]->lock);
		nfile_put(&all[i]->f);
	}
}

void sock_dgram_retire(struct nsock *ns, enum sock_reason why)
{
	struct nsock *all[SAME_PORT_MAX];
	unsigned n;

	lock_take(&ns->lock);
	retire(ns, why);
	lock_give(&ns->lock);
	if (!ns->bound)
		return;
	n = same_port(ns, all);
	for (unsigned i = 0; i < n; i++) {
		lock_take(&all[i]->lock);
		retire(all[i], why);
		lock_give(&all[i]->lock);
		nfile_put(&all[i]->f);
	}
}

/* For sending: bind if need be, and have a session. */
static bool ready_to_send(struct nsock *ns, int fd)
{
	int err = 0;

	if (!ns->bound) {
		lock_take(&ns->lock);
		if (!ns->bound)
			err = sock_autobind(ns, fd);
		if (!err)
			session_follow(ns);
		lock_give(&ns->lock);
	}
	if (!err && !nsock_session(ns))
		nsock_activate(ns, fd);
	return !err && nsock_session(ns) && !ns->retired;
}

/* --- the way --------------------------------------------------------------------------------------- */

bool sock_dgram_kernel_only(const struct nsock *ns)
{
	return nsock_mode(ns) == SK_KERNEL || ns->retired || (ns->rejected && !ns->s);
}

/* Asks rules and routes. True: the answer may be kept. */
static bool way_ask(struct nsock *ns, int fd, struct dgram_way *w)
{
	static const struct nst_addr none;
	const struct nst_addr *from = w->from.family ? &w->from : specific(&ns->local) ? &ns->local :
				      NULL;
	struct stack_route rt;
	int err;

	if (nst_addr_is_any(&w->to) || sock_is_multicast(&w->to) ||
	    (from && from->family != w->to.family) ||
	    !rd_is_own(nsock_lookup(ns, ns->bound ? &ns->local : &none, &w->to)))
		return true;
	if (!worker_start()) {
		nsock_reason(ns, SR_stack_not_running);
		ns->rejected = true;
		return true;
	}
	worker_lock();
	err = worker.ops->route(worker.st, &w->to, from, &rt);
	worker_unlock();
	if (err)
		return true;
	if (!rt.resolved)
		return false;
	w->ifindex = rt.ifindex;
	w->narrow = rt.mtu < rt.link_mtu;
	w->max = rt.mtu - (w->to.family == AF_INET ? 28 : 48);
	w->stack = ready_to_send(ns, fd);
	return true;
}

bool sock_dgram_way(struct nsock *ns, int fd, const struct nst_addr *to,
		    const struct nst_addr *from, struct dgram_way *w)
{
	uint64_t now = worker_now(), rules = rd_rules_generation();

	lock_take(&ns->tx_lock);
	*w = ns->way;
	lock_give(&ns->tx_lock);
	if (now < w->until && w->rules == rules && nst_addr_same_ip(&w->to, to) &&
	    w->to.port == to->port && w->to.scope_id == to->scope_id &&
	    w->from.family == from->family &&
	    (!from->family || nst_addr_same_ip(&w->from, from)))
		return w->stack;
	*w = (struct dgram_way){ .to = *to, .from = *from, .until = now + WAY_NS, .rules = rules };
	if (!way_ask(ns, fd, w))
		w->until = 0;
	lock_take(&ns->tx_lock);
	ns->way = *w;
	lock_give(&ns->tx_lock);
	return w->stack;
}

/* --- options ---------------------------------------------------------------------------------------- */

/* What is told to the stack, what the reader of datagrams has to know, and what makes no difference
 * to either (both zero): the kernel alone deals with groups, and with checking bind(). Any other
 * option that is switched on makes the socket the kernel's. */
static const struct {
	int level, name, opt;
	uint32_t want;
} options[] = {
	{ SOL_SOCKET, SO_BROADCAST, STACK_OPT_BROADCAST, 0 },
	{ SOL_SOCKET, SO_RXQ_OVFL, 0, SOCK_CM_DROPS },
	{ SOL_SOCKET, SO_DEBUG, 0, 0 },
	{ SOL_SOCKET, SO_REUSEADDR, 0, 0 },
	{ SOL_SOCKET, SO_REUSEPORT, 0, 0 },
	{ SOL_SOCKET, SO_KEEPALIVE, 0, 0 },
	{ SOL_SOCKET, SO_OOBINLINE, 0, 0 },
	{ SOL_SOCKET, SO_LINGER, 0, 0 },
	{ SOL_SOCKET, SO_RCVBUF, 0, 0 },
	{ SOL_SOCKET, SO_SNDBUF, 0, 0 },
	{ SOL_SOCKET, SO_RCVBUFFORCE, 0, 0 },
	{ SOL_SOCKET, SO_SNDBUFFORCE, 0, 0 },
	{ SOL_SOCKET, SO_RCVTIMEO, 0, 0 },
	{ SOL_SOCKET, SO_SNDTIMEO, 0, 0 },
	{ SOL_SOCKET, SO_RCVTIMEO_NEW, 0, 0 },
	{ SOL_SOCKET, SO_SNDTIMEO_NEW, 0, 0 },
	{ SOL_SOCKET, SO_RCVLOWAT, 0, 0 },
	{ SOL_SOCKET, SO_PRIORITY, 0, 0 },
	{ SOL_SOCKET, SO_BUSY_POLL, 0, 0 },
	{ SOL_SOCKET, SO_PREFER_BUSY_POLL, 0, 0 },
	{ SOL_SOCKET, SO_BUSY_POLL_BUDGET, 0, 0 },
	{ SOL_SOCKET, SO_INCOMING_CPU, 0, 0 },
	{ IPPROTO_IP, IP_TOS, STACK_OPT_TOS, 0 },
	{ IPPROTO_IP, IP_TTL, STACK_OPT_TTL, 0 },
	{ IPPROTO_IP, IP_MTU_DISCOVER, STACK_OPT_MTU_DISCOVER, 0 },
	{ IPPROTO_IP, IP_RECVERR, STACK_OPT_RECVERR, 0 },
	{ IPPROTO_IP, IP_PKTINFO, 0, SOCK_CM_PKTINFO },
	{ IPPROTO_IP, IP_RECVTTL, 0, SOCK_CM_TTL },
	{ IPPROTO_IP, IP_RECVTOS, 0, SOCK_CM_TOS },
	{ IPPROTO_IP, IP_RECVORIGDSTADDR, 0, SOCK_CM_ORIGDST },
	{ IPPROTO_IP, IP_MULTICAST_IF, 0, 0 },
	{ IPPROTO_IP, IP_MULTICAST_TTL, 0, 0 },
	{ IPPROTO_IP, IP_MULTICAST_LOOP, 0, 0 },
	{ IPPROTO_IP, IP_MULTICAST_ALL, 0, 0 },
	{ IPPROTO_IP, IP_ADD_MEMBERSHIP, 0, 0 },
	{ IPPROTO_IP, IP_DROP_MEMBERSHIP, 0, 0 },
	{ IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, 0, 0 },
	{ IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, 0, 0 },
	{ IPPROTO_IP, IP_BLOCK_SOURCE, 0, 0 },
	{ IPPROTO_IP, IP_UNBLOCK_SOURCE, 0, 0 },
	{ IPPROTO_IP, IP_MSFILTER, 0, 0 },
	{ IPPROTO_IP, MCAST_JOIN_GROUP, 0, 0 },
	{ IPPROTO_IP, MCAST_LEAVE_GROUP, 0, 0 },
	{ IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, 0, 0 },
	{ IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, 0, 0 },
	{ IPPROTO_IP, MCAST_BLOCK_SOURCE, 0, 0 },
	{ IPPROTO_IP, MCAST_UNBLOCK_SOURCE, 0, 0 },
	{ IPPROTO_IP, MCAST_MSFILTER, 0, 0 },
	{ IPPROTO_IPV6, IPV6_V6ONLY, 0, 0 },
	{ IPPROTO_IPV6, IPV6_TCLASS, STACK_OPT_TCLASS, 0 },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, STACK_OPT_HOPLIMIT, 0 },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER, STACK_OPT_MTU_DISCOVER6, 0 },
	{ IPPROTO_IPV6, IPV6_RECVERR, STACK_OPT_RECVERR6, 0 },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, SOCK_CM_PKTINFO6 },
	{ IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0, SOCK_CM_TTL6 },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS, 0, SOCK_CM_TOS6 },
	{ IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 0, SOCK_CM_ORIGDST6 },
	{ IPPROTO_IPV6, IPV6_MULTICAST_IF, 0, 0 },
	{ IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 0, 0 },
	{ IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0, 0 },
	{ IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, 0 },
	{ IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, 0, 0 },
	{ IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, 0, 0 },
	{ IPPROTO_IPV6, MCAST_JOIN_GROUP, 0, 0 },
	{ IPPROTO_IPV6, MCAST_LEAVE_GROUP, 0, 0 },
	{ IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, 0, 0 },
	{ IPPROTO_IPV6, MCAST_LEAVE_SOURCE_GROUP, 0, 0 },
	{ IPPROTO_IPV6, MCAST_BLOCK_SOURCE, 0, 0 },
	{ IPPROTO_IPV6, MCAST_UNBLOCK_SOURCE, 0, 0 },
	{ IPPROTO_IPV6, MCAST_MSFILTER, 0, 0 },
	/* trains that come are left to the kernel anyway, which tells their size */
	{ IPPROTO_UDP, UDP_GRO, 0, 0 },
};

static void want(struct nsock *ns, uint32_t set, uint32_t clear)
{
	__atomic_store_n(&ns->want_cmsg, (ns->want_cmsg & ~clear) | set, __ATOMIC_RELAXED);
}

/* Options whose values need a thought. False: not one of them. */
static bool option_special(struct nsock *ns, int level, int name, int v)
{
	uint32_t times = SOCK_CM_TSTAMP | SOCK_CM_TSTAMPNS;

	if (level == SOL_SOCKET && name == SO_TIMESTAMP) {
		want(ns, v ? SOCK_CM_TSTAMP : 0, times);
		return true;
	}
	if (level == SOL_SOCKET && name == SO_TIMESTAMPNS) {
		want(ns, v ? SOCK_CM_TSTAMPNS : 0, times);
		return true;
	}
	if (level == SOL_SOCKET && name == SO_TIMESTAMPING) {
		int rx = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

		want(ns, v == rx ? SOCK_CM_TSTAMPING : 0, SOCK_CM_TSTAMPING);
		return !(v & ~rx);
	}
	if (level == IPPROTO_UDP && name == UDP_CORK) {
		ns->corked = v;
		return true;
	}
	if (level == IPPROTO_UDP && name == UDP_SEGMENT) {
		ns->gso_size = (uint16_t)v;
		return true;
	}
	return false;
}

/* Under ns->lock. False: the stack can't have it. */
static bool option_take(struct nsock *ns, int level, int name, int v, socklen_t len)
{
	if (option_special(ns, level, name, v))
		return true;
	if (level == SOL_SOCKET && name == SO_PEEK_OFF)
		return v < 0; /* 0 is on */
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
		if (options[i].level != level || options[i].name != name)
			continue;
		if (options[i].opt)
			sock_opt_keep(ns, options[i].opt, v);
		if (options[i].want)
			want(ns, v ? options[i].want : 0, options[i].want);
		return true;
	}
	return !v && len <= sizeof(int);
}

void sock_dgram_opt(struct nsock *ns, int level, int name, int v, socklen_t len)
{
	bool ours;

	lock_take(&ns->lock);
	ours = option_take(ns, level, name, v, len);
	lock_give(&ns->lock);
	if (!ours)
		sock_dgram_retire(ns, SR_option);
	if (!v && ((level == IPPROTO_IP && name == IP_RECVERR) ||
		   (level == IPPROTO_IPV6 && name == IPV6_RECVERR)))
		sock_dgram_forget_errors(ns);
}

int sock_dgram_pmtudisc(const struct nsock *ns, const struct nst_addr *to)
{
	int opt = to->family == AF_INET ? STACK_OPT_MTU_DISCOVER : STACK_OPT_MTU_DISCOVER6;

	return ns->opt_set & (1u << opt) ? ns->opt[opt] : IP_PMTUDISC_WANT;
}

/* Routers tell the stack, which owns the port, of narrow hops. */
void sock_dgram_path_mtu(struct nsock *ns, int level, int name, void *val)
{
	struct shm_session *s = nsock_session(ns);
	int mtu, v;

	if (!s || !((level == IPPROTO_IP && name == IP_MTU) ||
		    (level == IPPROTO_IPV6 && name == IPV6_MTU)))
		return;
	memcpy(&v, val, sizeof(v));
	mtu = (int)s->mss + (ns->peer.family == AF_INET ? 28 : 48);
	if (s->mss && mtu < v)
		memcpy(val, &mtu, sizeof(mtu));
}
