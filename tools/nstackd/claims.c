/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/claims.c - local ports of attached programs
 *
 * A program gets the packets of a port if the kernel lets it have the port: it shows us the socket that is
 * bound there. Which other user may do that (ports below 1024, SO_REUSEPORT) the kernel has decided.
 */
#define _GNU_SOURCE
#include "tools/nstackd/peer.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <nstack/fault_point.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <sys/socket.h>

static bool same_port(const struct nst_addr *a, const struct nst_addr *b)
{
	return a->port == b->port && nst_addr_same_ip(a, b);
}

/* Would packets to one of them be for the other, too? */
static bool overlap(const struct nst_addr *a, const struct nst_addr *b)
{
	return a->port == b->port && (nst_addr_is_any(a) || nst_addr_is_any(b) || nst_addr_same_ip(a, b));
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

/* Is fd a socket of that protocol in our network namespace, bound to local? */
static bool proven(const struct peer *p, int fd, uint8_t proto, const struct nst_addr *local)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss), n = sizeof(int);
	struct nst_addr is;
	int got = 0;

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &got, &n) || got != proto ||
	    !peer_netns_has(p, fd) || getsockname(fd, (struct sockaddr *)&ss, &len) ||
	    nst_addr_from_sockaddr(&is, (struct sockaddr *)&ss, len))
		return false;
	return is.port && is.port == local->port && (nst_addr_is_any(&is) || nst_addr_same_ip(&is, local));
}

static struct peer_port *add(struct peer *p, uint8_t proto, const struct nst_addr *local, bool client,
			     bool v4too)
{
	struct peer_port *pp = calloc(1, sizeof(*pp));

	if (!pp)
		return NULL;
	*pp = (struct peer_port){ .next = p->ports, .proto = proto, .client = client, .v4too = v4too,
				 .local = *local };
	p->ports = pp;
	p->nports++;
	return pp;
}

static bool covers(const struct peer_port *pp, const struct nst_addr *local)
{
	if (nst_addr_is_any(&pp->local) && pp->local.port == local->port &&
	    (pp->local.family == local->family || pp->v4too))
		return true;
	return same_port(&pp->local, local);
}

bool port_held(const struct peer *p, uint8_t proto, const struct nst_addr *local)
{
	for (const struct peer_port *pp = p->ports; pp; pp = pp->next)
		if (pp->proto == proto && covers(pp, local))
			return true;
	return false;
}

/* Which other program has it? */
static const struct peer *holder(const struct peer *p, uint8_t proto, const struct nst_addr *local)
{
	for (const struct peer *o = peers_first(); o; o = o->next) {
		if (o == p || !o->attached || o->ended)
			continue;
		for (const struct peer_port *pp = o->ports; pp; pp = pp->next)
			if (pp->proto == proto && !pp->client && overlap(&pp->local, local))
				return o;
	}
	return NULL;
}

static int check(const struct peer *p, const struct att_call *c, int fd)
{
	if ((c->arg != IPPROTO_TCP && c->arg != IPPROTO_UDP) || !c->local.family || !c->local.port)
		return -EINVAL;
	if (p->nports >= peers_config.max_ports)
		return -ENOBUFS;
	return proven(p, fd, (uint8_t)c->arg, &c->local) ? 0 : -EACCES;
}

int port_claim(struct peer *p, const struct att_call *c, int fd, struct att_answer *a)
{
	bool v4too = c->arg2 & ATT_CLAIM_V4TOO;
	uint8_t proto = (uint8_t)c->arg;
	const struct peer *o;
	int err = check(p, c, fd);

	if (err)
		return err;
	if (!rd_may_stack(proto, &c->local))
		return -EPERM;
	o = holder(p, proto, &c->local);
	if (o) {
		a->session = (uint32_t)o->pid;
		a->image = o->image;
		return -EADDRINUSE;
	}
	err = c->arg2 & ATT_CLAIM_NEW ? ports_claim_new(proto, &c->local, v4too, -1) :
					ports_claim(proto, &c->local, v4too, -1);
	if (err == -EADDRINUSE) { /* it has a stack of its own */
		a->session = (uint32_t)ports_owner()->pid;
		a->image = ports_owner()->image;
	}
	NST_FAULT_POINT("nstackd.claim");
	if (!err && !add(p, proto, &c->local, false, v4too)) {
		ports_release(proto, &c->local);
		err = -ENOMEM;
	}
	return err;
}

int port_pin(struct peer *p, const struct att_call *c, int fd)
{
	uint8_t proto = (uint8_t)c->arg;
	int err = check(p, c, fd);
	struct rd_verdict v;

	if (err)
		return err;
	v = rd_lookup(proto, &c->local, &c->remote);
	if (v.action != RD_STACK)
		return v.action == RD_DROP ? -EACCES : -EPERM;
	err = ports_pin(proto, &c->local, &c->remote, -1);
	if (!err && !add(p, proto, &c->local, true, false)) {
		ports_release(proto, &c->local);
		err = -ENOMEM;
	}
	return err;
}

static void drop(struct peer *p, struct peer_port **at)
{
	struct peer_port *pp = *at;

	*at = pp->next;
	p->nports--;
	ports_release(pp->proto, &pp->local);
	NST_FAULT_POINT("nstackd.release");
	ports_listener_gone(pp->proto, &pp->local);
	free(pp);
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
