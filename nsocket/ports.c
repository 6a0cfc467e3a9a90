/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ports.c - claims of the steering program, counted
 *
 * A local port is claimed while anybody needs its packets: a socket that is bound to it, or the
 * stack on behalf of connections (port_hold). The count is kept by protocol and port; the claims
 * behind it (there may be several local addresses) end when it reaches 0, or earlier when a
 * listener goes while connections stay: then those flows are pinned to this instance and the port
 * is free for another process.
 *
 * A client's connection gets a pin and no claim: when its socket is closed the kernel may give the
 * port to anybody, long before the stack's TIME_WAIT is over.
 *
 * Threads: whoever holds the worker lock.
 */
#define _GNU_SOURCE
#include "nsocket/ports.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <netinet/in.h>
#include <nsocket/libc.h>
#include <nsocket/worker_internal.h>
#include <rd/log.h>
#include <stacks/remote/remote.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct claim {
	struct claim *next;
	struct nst_addr addr;
	bool v6_takes_v4;
	uint32_t users; /* sockets; the stack's holds are in held[] only */
};

static struct claim *claims[2][65536];
static uint32_t held[2][65536]; /* users of a port, all of them */
uint16_t (*ports_map)[65536];
uint16_t ports_map_bit;

struct pin {
	struct pin *next;
	struct nst_addr local, remote;
};
static struct pin *pins[2][65536];

static int idx(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 0 : 1;
}

/* Processes whose port was asked for: when one ends, its ports are asked for again. */
static int owners_ep = -1;
static pid_t owners[16]; /* by slot; 0 = free */

static __thread struct steer_owner last_owner;

const struct steer_owner *ports_owner(void)
{
	return &last_owner;
}

static void owner_watch(pid_t pid)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int free_slot = -1, fd;

	for (int i = 0; i < 16; i++) {
		if (owners[i] == pid)
			return;
		if (!owners[i])
			free_slot = i;
	}
	if (pid <= 0 || free_slot < 0)
		return; /* then the next regular attempt will do */
	if (owners_ep < 0) {
		owners_ep = fd_hide(libc.epoll_create1(EPOLL_CLOEXEC));
		if (owners_ep < 0)
			return;
		worker_helper_fd(owners_ep);
	}
	fd = fd_hide((int)syscall(SYS_pidfd_open, pid, 0));
	if (fd < 0)
		return;
	ev.data.u64 = (uint64_t)(uint32_t)free_slot << 32 | (uint32_t)fd;
	if (libc.epoll_ctl(owners_ep, EPOLL_CTL_ADD, fd, &ev))
		fd_hide_close(fd);
	else
		owners[free_slot] = pid;
}

bool ports_owner_gone(void)
{
	struct epoll_event ev[16];
	int n = owners_ep < 0 ? 0 :
		(int)syscall(SYS_epoll_pwait, owners_ep, ev, 16, 0, NULL, (size_t)8);

	for (int i = 0; i < n; i++) {
		fd_hide_close((int)(uint32_t)ev[i].data.u64);
		owners[ev[i].data.u64 >> 32] = 0;
	}
	return n > 0;
}

static struct claim *claim_find(uint8_t proto, const struct nst_addr *a)
{
	struct claim *c = claims[idx(proto)][a->port];

	while (c && !nst_addr_same_ip(&c->addr, a))
		c = c->next;
	return c;
}

/* Then the daemon has the steering program, and looks at shadows to see whose a port is. */
static bool attached(void)
{
	return worker.ops == &remote_stack_ops;
}

static void claim_undo(uint8_t proto, const struct nst_addr *a, bool v6_takes_v4, uint32_t n)
{
	if (attached())
		remote_release(worker.st, proto, a);
	for (uint32_t i = 0; i < n; i++)
		if (worker.port[i].steer)
			steer_unclaim(worker.port[i].steer, proto, a, v6_takes_v4);
}

static void claim_taken(const struct steer_owner *owner)
{
	owner_watch(owner->pid);
	last_owner = *owner;
}

static int claim_make(uint8_t proto, const struct nst_addr *a, bool v6_takes_v4, bool fresh, int shadow)
{
	struct steer_owner owner = { 0 };
	int err;

	if (attached()) {
		err = remote_claim(worker.st, proto, a, v6_takes_v4, fresh, shadow, &owner.pid, &owner.image);
		if (err == -EADDRINUSE)
			claim_taken(&owner);
		return err;
	}
	for (uint32_t i = 0; i < worker.nports; i++) {
		if (!worker.port[i].steer)
			continue;
		err = fresh ?
		      steer_claim_new(worker.port[i].steer, proto, a, v6_takes_v4, &owner) :
		      steer_claim(worker.port[i].steer, proto, a, v6_takes_v4, &owner);
		if (!err)
			continue;
		claim_undo(proto, a, v6_takes_v4, i);
		if (err == -EADDRINUSE)
			claim_taken(&owner);
		ns_log(NS_WAR, NS_M_STEER, "port %u of %s is not ours: %s (process %d)",
		       ntohs(a->port), worker.port[i].ifname, strerror(-err), (int)owner.pid);
		return err;
	}
	return 0;
}

static void hold(uint8_t proto, uint16_t port)
{
	if (!held[idx(proto)][port]++ && ports_map) /* relaxed: a hint */
		__atomic_fetch_or(&ports_map[idx(proto)][port], ports_map_bit, __ATOMIC_RELAXED);
}

static int claim(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, bool fresh, int shadow)
{
	struct claim *c = claim_find(proto, local);
	int err;

	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return -ENOMEM;
		err = claim_make(proto, local, v6_takes_v4, fresh, shadow);
		if (err) {
			free(c);
			return err;
		}
		c->addr = *local;
		c->v6_takes_v4 = v6_takes_v4;
		c->next = claims[idx(proto)][local->port];
		claims[idx(proto)][local->port] = c;
	}
	c->users++;
	hold(proto, local->port);
	return 0;
}

int ports_claim(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, int shadow)
{
	return claim(proto, local, v6_takes_v4, false, shadow);
}

int ports_claim_new(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, int shadow)
{
	return claim(proto, local, v6_takes_v4, true, shadow);
}

int ports_listen(struct shm_session *s, int backlog, int shadow)
{
	struct steer_owner owner = { 0 };
	int err;

	if (!attached())
		return worker.ops->listen(worker.st, s, backlog);
	err = remote_listen(worker.st, s, shadow, &owner.pid, &owner.image);
	if (err == -EADDRINUSE)
		claim_taken(&owner);
	return err;
}

void ports_exempt(uint8_t proto, const struct nst_addr *local, bool on)
{
	for (uint32_t i = 0; !attached() && i < worker.nports; i++)
		if (worker.port[i].steer)
			steer_port_exempt(worker.port[i].steer, proto, local->port, on);
}

static void claims_end(uint8_t proto, uint16_t port, bool unused_only)
{
	struct claim **pp = &claims[idx(proto)][port], *c;

	while ((c = *pp)) {
		if (unused_only && c->users) {
			pp = &c->next;
			continue;
		}
		claim_undo(proto, &c->addr, c->v6_takes_v4, worker.nports);
		*pp = c->next;
		free(c);
	}
}

static void steer_unpin_each(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].steer)
			steer_unpin(worker.port[i].steer, proto, local, remote, worker.port[i].instance);
}

static void unpin_port(uint8_t proto, uint16_t port)
{
	struct pin **pp = &pins[idx(proto)][port], *p;

	while ((p = *pp)) {
		if (attached())
			remote_unpin(worker.st, proto, &p->local);
		steer_unpin_each(proto, &p->local, &p->remote);
		*pp = p->next;
		free(p);
	}
}

static void unhold(uint8_t proto, uint16_t port)
{
	uint32_t *n = &held[idx(proto)][port];

	if (*n == 0 || --*n)
		return;
	if (ports_map) /* relaxed: a hint */
		__atomic_fetch_and(&ports_map[idx(proto)][port], (uint16_t)~ports_map_bit, __ATOMIC_RELAXED);
	claims_end(proto, port, false);
	unpin_port(proto, port);
}

bool ports_used(uint8_t proto, uint16_t port)
{
	return __atomic_load_n(&held[idx(proto)][port], __ATOMIC_RELAXED) ||
	       (attached() && remote_port_used(worker.st, idx(proto), port));
}

void ports_release(uint8_t proto, const struct nst_addr *local)
{
	struct claim *c = claim_find(proto, local);

	if (c && c->users)
		c->users--;
	unhold(proto, local->port);
}

void ports_hold_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local)
{
	hold(proto, local->port);
}

void ports_release_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local)
{
	unhold(proto, local->port);
}

/* --- pins ------------------------------------------------------------------------------------ */

static bool pinned(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct pin *p = pins[idx(proto)][local->port];

	while (p && !(p->remote.port == remote->port && nst_addr_same_ip(&p->remote, remote) &&
		      nst_addr_same_ip(&p->local, local)))
		p = p->next;
	return p;
}

/* The pin ends with the port's last user. */
static int pin_keep(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct pin **list = &pins[idx(proto)][local->port], *p;

	if (pinned(proto, local, remote))
		return 0;
	p = malloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->local = *local;
	p->remote = *remote;
	p->next = *list;
	*list = p;
	return 0;
}

static int pin_make(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote, int shadow)
{
	int err = attached() ? remote_pin(worker.st, proto, local, remote, shadow) : 0;

	for (uint32_t i = 0; !err && i < worker.nports; i++)
		if (worker.port[i].steer)
			err = steer_pin(worker.port[i].steer, proto, local, remote,
					worker.port[i].instance);
	return err;
}

int ports_pin(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote, int shadow)
{
	int err = pin_keep(proto, local, remote);

	if (!err)
		err = pin_make(proto, local, remote, shadow);
	hold(proto, local->port);
	if (err)
		unhold(proto, local->port);
	return err;
}

static void pin_forget(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct pin **pp = &pins[idx(proto)][local->port], *p;

	while ((p = *pp) && !(p->remote.port == remote->port &&
			      nst_addr_same_ip(&p->remote, remote) &&
			      nst_addr_same_ip(&p->local, local)))
		pp = &p->next;
	if (!p)
		return;
	*pp = p->next;
	free(p);
}

int ports_to_kernel(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	int err;

	for (uint32_t i = 0; i < worker.nports; i++) {
		if (!worker.port[i].steer)
			continue;
		err = steer_pin(worker.port[i].steer, proto, local, remote, STEER_TO_KERNEL);
		if (!err)
			continue;
		pin_make(proto, local, remote, -1); /* as it was, or as good as */
		return err;
	}
	/* the pin lasts as long as the kernel's connection: steer_pins_sweep() */
	pin_forget(proto, local, remote);
	return 0;
}

static bool kernel_has(const struct nst_addr *local, const struct nst_addr *remote)
{
	bool has = false;

	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].steer)
			has |= steer_kernel_pin_one(worker.port[i].steer, local, remote);
	return has;
}

static bool claim_covers(const struct claim *c, const struct nst_addr *local)
{
	return nst_addr_is_any(&c->addr) ? c->addr.family == local->family || c->v6_takes_v4 :
					   nst_addr_same_ip(&c->addr, local);
}

/* Do packets to that address come by a claim? */
static bool claimed(uint8_t proto, const struct nst_addr *local)
{
	const struct claim *c = claims[idx(proto)][local->port];

	while (c && !claim_covers(c, local))
		c = c->next;
	return c;
}

/* Connections of the kernel are pinned to it by looks at them before a claim, or the rules, change and after that.
 * One may have begun between a look and the change; its packets come here then, however much later. So the kernel
 * is asked each time, and what it has is pinned now: the peer sends again. Without a claim the port is the kernel's,
 * but for our own flows: what still comes was on its way when the claim ended. */
bool ports_ours_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
		   const struct nst_addr *remote)
{
	if (kernel_has(local, remote))
		return false;
	return claimed(proto, local) || pinned(proto, local, remote);
}

/* A pin lasts longer than its connection, whose peer may use its port again. */
bool ports_left_cb(struct stack_env *env, uint8_t proto, const struct nst_addr *local,
		   const struct nst_addr *remote)
{
	if (claimed(proto, local) || !pinned(proto, local, remote))
		return false;
	pin_forget(proto, local, remote);
	steer_unpin_each(proto, local, remote);
	return true;
}

struct pin_arg {
	uint8_t proto;
	uint16_t port;
};

static void pin_one(void *arg, uint8_t proto, const struct nst_addr *local,
		    const struct nst_addr *remote)
{
	struct pin_arg *a = arg;

	if (proto != a->proto || local->port != a->port)
		return;
	pin_make(proto, local, remote, -1);
	pin_keep(proto, local, remote); /* no memory: the pin goes with the instance */
}

void ports_listener_gone(uint8_t proto, const struct nst_addr *local)
{
	struct pin_arg a = { .proto = proto, .port = local->port };
	const struct claim *c = claim_find(proto, local);

	if (!c || c->users)
		return; /* went with the last user; or another listener of ours has that very address */
	if (proto == IPPROTO_TCP) /* a UDP socket's flows end with its claim: it is closed, or the kernel's */
		worker.ops->flows(worker.st, pin_one, &a);
	claims_end(proto, local->port, true);
}

struct in_use {
	uint8_t proto;
	bool v6_takes_v4;
	bool found;
	struct nst_addr want;
};

static void in_use_one(void *arg, uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct in_use *u = arg;

	if (proto == u->proto && local->port == u->want.port)
		u->found |= nst_addr_is_any(&u->want) ?
			    u->want.family == local->family || u->v6_takes_v4 :
			    nst_addr_same_ip(&u->want, local);
}

bool ports_in_use(uint8_t proto, const struct nst_addr *local, bool v6_takes_v4)
{
	struct in_use u = { .proto = proto, .v6_takes_v4 = v6_takes_v4, .want = *local };

	if (!ports_used(proto, local->port))
		return false;
	if (attached())
		return remote_in_use(worker.st, proto, local, v6_takes_v4);
	if (worker.st)
		worker.ops->flows(worker.st, in_use_one, &u);
	return u.found;
}

void ports_pins_each(void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
				const struct nst_addr *remote), void *arg)
{
	for (int i = 0; i < 2; i++)
		for (unsigned port = 0; port < 65536; port++)
			for (struct pin *p = pins[i][port]; p; p = p->next)
				fn(arg, i ? IPPROTO_UDP : IPPROTO_TCP, &p->local, &p->remote);
}

void ports_after_fork_child(void)
{
	struct claim *c, *next;
	struct pin *p, *next_pin;

	for (int i = 0; i < 2; i++) {
		for (unsigned port = 0; port < 65536; port++) {
			if (held[i][port])
				held[i][port] = 0;
			for (c = claims[i][port]; c; c = next) {
				next = c->next;
				free(c);
			}
			if (claims[i][port])
				claims[i][port] = NULL;
			for (p = pins[i][port]; p; p = next_pin) {
				next_pin = p->next;
				free(p);
			}
			if (pins[i][port])
				pins[i][port] = NULL;
		}
	}
	owners_ep = -1;
	memset(owners, 0, sizeof(owners));
}
