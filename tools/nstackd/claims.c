/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/claims.c - local ports of attached programs
 *
 * A program gets the packets of a port if the kernel lets it have the port: it shows us the socket that is
 * bound there. Which other user may do that (ports below 1024, SO_REUSEPORT) the kernel has decided.
 */
#define _GNU_SOURCE
#include "tools/nstackd/leave.h"
#include "tools/nstackd/peer.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <linux/tcp.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <nstack/fault_point.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static bool same_port(const struct nst_addr *a, const struct nst_addr *b)
{
	return a->port == b->port && nst_addr_same_ip(a, b);
}

static bool takes(const struct peer_port *pp, const struct nst_addr *a)
{
	return nst_addr_is_any(&pp->local) && (pp->local.family == a->family || pp->v4too);
}

/* Would packets to one of them be for the other, too? */
static bool overlap(const struct peer_port *a, const struct peer_port *b)
{
	return a->proto == b->proto && a->local.port == b->local.port &&
	       (takes(a, &b->local) || takes(b, &a->local) || nst_addr_same_ip(&a->local, &b->local));
}

static uint64_t netns_of(int sock)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) ? 0 : cookie;
}

bool peer_netns_has(const struct peer *p, int fd)
{
	return netns_of(fd) == netns_of(p->sock);
}

static uint64_t opt_u64(int fd, int name, socklen_t len)
{
	uint64_t v = 0;

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) ? 0 : v;
}

static bool v6only(int fd)
{
	socklen_t len = sizeof(int);
	int v = 1;

	return getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v, &len) || v;
}

bool port_shown(const struct peer *p, int fd, uint8_t proto, struct shown *out)
{
	struct tcp_info ti = { 0 };
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss), n = sizeof(ti);

	if (fd < 0 || opt_u64(fd, SO_PROTOCOL, sizeof(int)) != proto ||
	    !peer_netns_has(p, fd) || getsockname(fd, (struct sockaddr *)&ss, &len) ||
	    nst_addr_from_sockaddr(&out->local, (struct sockaddr *)&ss, len))
		return false;
	/* with a device others may have the same port; it may have come since, but is not the stack's to serve */
	if (opt_u64(fd, SO_BINDTOIFINDEX, sizeof(int)))
		return false;
	out->v4too = opt_u64(fd, SO_DOMAIN, sizeof(int)) == AF_INET6 && !v6only(fd);
	out->cookie = opt_u64(fd, SO_COOKIE, sizeof(uint64_t));
	out->reuseport = opt_u64(fd, SO_REUSEPORT, sizeof(int));
	out->listens = opt_u64(fd, SO_ACCEPTCONN, sizeof(int));
	/* of a listener this field is the limit of its queue */
	if (out->listens)
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &n);
	out->backlog = ti.tcpi_sacked ? (int)ti.tcpi_sacked : 1;
	return out->local.port && out->cookie;
}

/* Is it bound to local? */
static bool shows(const struct shown *sh, const struct nst_addr *local)
{
	bool any = nst_addr_is_any(&sh->local) && (sh->local.family == local->family || sh->v4too);

	return sh->local.port == local->port && (any || nst_addr_same_ip(&sh->local, local));
}

/* The port becomes p's. */
static int add(struct peer *p, const struct peer_port *port)
{
	bool room = peer_port_take(p);
	struct peer_port *pp = room ? malloc(sizeof(*pp)) : NULL;

	if (!pp) {
		if (room)
			peer_port_give(p);
		if (port->steered)
			ports_release(port->proto, &port->local);
		return -EDQUOT;
	}
	*pp = *port;
	pp->next = p->ports;
	p->ports = pp;
	p->nports++;
	return 0;
}

static bool covers(const struct peer_port *pp, const struct nst_addr *local)
{
	return pp->local.port == local->port && (takes(pp, local) || nst_addr_same_ip(&pp->local, local));
}

bool port_held(const struct peer *p, uint8_t proto, const struct nst_addr *local)
{
	for (const struct peer_port *pp = p->ports; pp; pp = pp->next)
		if (pp->proto == proto && covers(pp, local))
			return true;
	return false;
}

/* May two programs have them both? One listener is several programs' if it is the same socket. Where both
 * have SO_REUSEPORT, the kernel let the second one have the port. */
static bool shared(const struct peer_port *a, const struct peer_port *b)
{
	bool same = a->cookie == b->cookie;

	if (!nst_addr_same_ip(&a->local, &b->local) || a->v4too != b->v4too)
		return false;
	return same ? a->proto == IPPROTO_TCP : a->reuseport && b->reuseport;
}

/* Which other program has it for itself? And where in its list. */
static struct peer *holder(const struct peer *p, const struct peer_port *port, struct peer_port ***at)
{
	for (struct peer *o = peers_first(); o; o = o->next) {
		if (o == p || !o->attached || o->ended)
			continue;
		for (*at = &o->ports; **at; *at = &(**at)->next)
			if (!(**at)->client && overlap(**at, port) && !shared(**at, port))
				return o;
	}
	return NULL;
}

/* Closed, but not given back here: the kernel may have let somebody else have the port since. */
static bool abandoned(const struct peer_port *pp)
{
	return pp->proto == IPPROTO_TCP && pp->steered && steer_kernel_listener_gone(pp->local.port, pp->cookie);
}

/* What c asks for, with what the socket shows. */
static int check(const struct peer *p, const struct att_call *c, int fd, struct peer_port *out)
{
	struct shown sh;
	bool v4too;

	if ((c->arg != IPPROTO_TCP && c->arg != IPPROTO_UDP) || !c->local.family || !c->local.port)
		return -EINVAL;
	if (p->nports >= peers_config.max_ports)
		return -EDQUOT;
	v4too = c->arg2 & ATT_CLAIM_V4TOO && nst_addr_is_any(&c->local);
	if (!port_shown(p, fd, (uint8_t)c->arg, &sh) || !shows(&sh, &c->local) || (v4too && !sh.v4too))
		return -EACCES;
	*out = (struct peer_port){ .proto = (uint8_t)c->arg, .local = c->local, .v4too = v4too,
				   .cookie = sh.cookie, .reuseport = sh.reuseport };
	return 0;
}

static int taken(struct att_answer *a, pid_t pid, uint64_t image)
{
	a->session = (uint32_t)pid;
	a->image = image;
	return -EADDRINUSE;
}

/* Its packets come to us. */
static int steer(struct peer_port *port, struct att_answer *a)
{
	int err = port->fresh ? ports_claim_new(port->proto, &port->local, port->v4too, -1) :
			  ports_claim(port->proto, &port->local, port->v4too, -1);

	port->steered = !err;
	if (!err)
		ports_exempt(port->proto, &port->local, port->exempt);
	NST_FAULT_POINT("nstackd.claim");
	/* somebody with a stack of his own has it */
	return err == -EADDRINUSE ? taken(a, ports_owner()->pid, ports_owner()->image) : err;
}

static void drop(struct peer *p, struct peer_port **at)
{
	struct peer_port *pp = *at;

	*at = pp->next;
	p->nports--;
	peer_port_give(p);
	if (pp->steered) {
		if (pp->proto == IPPROTO_TCP && !pp->client)
			groups_pause(&pp->local);
		ports_release(pp->proto, &pp->local);
		NST_FAULT_POINT("nstackd.release");
		ports_listener_gone(pp->proto, &pp->local);
	}
	free(pp);
}

int port_claim(struct peer *p, const struct att_call *c, int fd, struct att_answer *a)
{
	struct peer_port port, **at;
	struct nst_addr local;
	struct peer *o;
	struct rd_listen may;
	int err = check(p, c, fd, &port);

	if (err)
		return err;
	may = rd_listen(&p->who, port.proto, &port.local);
	if (!may.stack)
		return -EPERM;
	port.exempt = may.exempt;
	if (leave_begun()) { /* it comes back when we have ended */
		taken(a, getpid(), 0);
		return -EADDRINUSE;
	}
	while ((o = holder(p, &port, &at))) {
		if (!abandoned(*at))
			return taken(a, o->pid, o->image);
		local = (*at)->local;
		drop(o, at);
		groups_evict(&local);
	}
	/* steered when it listens, or a UDP socket is bound there: what came before that would be lost */
	port.fresh = c->arg2 & ATT_CLAIM_NEW;
	return add(p, &port);
}

int port_steer(struct peer *p, uint8_t proto, const struct nst_addr *local, struct att_answer *a)
{
	struct peer_port *pp = p->ports;

	while (pp && (pp->proto != proto || pp->client || !covers(pp, local)))
		pp = pp->next;
	if (!pp)
		return -EACCES;
	return pp->steered ? 0 : steer(pp, a);
}

int port_pin(struct peer *p, const struct att_call *c, int fd)
{
	struct peer_port port;
	int err = check(p, c, fd, &port);
	struct rd_verdict v;

	if (err || leave_begun())
		return err ? err : -EPERM;
	v = rd_lookup(&p->who, port.proto, &port.local, &c->remote);
	if (!rd_is_own(v))
		return v.action == RD_DROP ? -EACCES : -EPERM;
	port.client = port.steered = true;
	err = ports_pin(port.proto, &port.local, &c->remote, -1);
	return err ? err : add(p, &port);
}

int port_release(struct peer *p, const struct att_call *c)
{
	for (struct peer_port **at = &p->ports; *at; at = &(*at)->next)
		if ((*at)->proto == (uint8_t)c->arg && same_port(&(*at)->local, &c->local)) {
			drop(p, at);
			return 0;
		}
	return -ENOENT;
}

void ports_drop(struct peer *p)
{
	while (p->ports)
		drop(p, &p->ports);
}
