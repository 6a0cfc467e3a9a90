/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/calls.c - what attached programs ask for; the protocol is in shm/attach.h */
#define _GNU_SOURCE
#include "tools/nstackd/limits.h"
#include "tools/nstackd/park.h"
#include "tools/nstackd/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <nstack/fault_point.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- HELLO -------------------------------------------------------------------------------------- */

static void text_take(char *out, size_t size, const uint8_t *text)
{
	memcpy(out, text, size - 1);
	for (size_t i = 0; out[i]; i++)
		if (out[i] < ' ' || out[i] > '~')
			out[i] = '?';
}

static void name_take(struct peer *p, const struct att_call *c)
{
	_Static_assert(sizeof(p->image) + sizeof(p->name) == ATT_HELLO_LABEL, "one behind the other");
	_Static_assert(ATT_HELLO_LABEL + NS_LABEL == ATT_DATA, "and the label");
	memcpy(&p->image, c->data, sizeof(p->image));
	text_take(p->name, sizeof(p->name), c->data + sizeof(p->image));
	text_take(p->label, sizeof(p->label), c->data + ATT_HELLO_LABEL);
}

/* Its memory for notifications; the descriptor to hand over, or -errno. */
static int notify_memory(struct peer *p)
{
	size_t bytes = att_notify_bytes(peers_config.sessions);
	int fd = memfd_create("nstack-notify", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *mem = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, (off_t)bytes) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	p->mem = mem;
	p->mem_bytes = bytes;
	p->in = notify_view(mem, peers_config.sessions);
	p->out = notify_view((uint8_t *)mem + notify_bytes(peers_config.sessions), peers_config.sessions);
	return fd;
}

/* A pipe: of an eventfd, which both would have open as one file, the program could make one that blocks, and
 * fill it. Its end goes to *theirs, ours is returned. */
static int bell_for_program(int *theirs)
{
	int end[2];

	if (pipe2(end, O_CLOEXEC | O_NONBLOCK))
		return -1;
	*theirs = end[0];
	return end[1];
}

/* The program's copies are made by sending; notify and its bell are closed by the caller, the rest is ours. */
static int hello_parts(struct peer *p, int fds[ATT_FDS])
{
	int part = shm_region_part_new(worker.region), fd;

	if (part < 0)
		return part;
	p->part = (uint32_t)part;
	if (p->quota)
		shm_region_part_owner(worker.region, p->part, p->quota);
	p->bound = calloc(peers_config.sessions, sizeof(*p->bound));
	p->listens = calloc(peers_config.sessions, sizeof(struct member *));
	p->bell_in = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->bell_out = bell_for_program(&fds[ATT_FD_BELL_PROGRAM]);
	fd = p->bound && p->listens && p->bell_in >= 0 && p->bell_out >= 0 ? notify_memory(p) : -ENOMEM;
	if (fd < 0) {
		shm_region_part_free(worker.region, p->part);
		return fd;
	}
	fds[ATT_FD_SESSIONS] = shm_region_part_fd(worker.region, p->part);
	fds[ATT_FD_NOTIFY] = fd;
	fds[ATT_FD_BELL_DAEMON] = p->bell_in;
	fds[ATT_FD_PORTS] = peers_config.ports_fd;
	NST_FAULT_POINT("nstackd.hello");
	return 0;
}

int peer_hello(struct peer *p, const struct att_call *c, struct att_answer *a, int fds[ATT_FDS])
{
	int err;

	if (c->session != ATT_MAGIC || c->arg != (int32_t)ATT_VERSION) {
		ns_log(NS_WAR, NS_M_OPER, "process %d speaks version %d, not %u: restart it with this release's "
		       "libnsocket.so", (int)p->pid, c->arg, ATT_VERSION);
		return -EPROTONOSUPPORT;
	}
	err = hello_parts(p, fds);
	if (err) {
		ns_log(NS_WAR, NS_M_OPER, "process %d can't attach: %s", (int)p->pid, strerror(-err));
		if (err == -ENOSPC)
			limits_met(NULL, QUOTA_PROGRAMS);
		return err;
	}
	name_take(p, c);
	rd_who_of(&p->who, p->pid, p->uid, p->name);
	a->hello.sessions = peers_config.sessions;
	a->hello.rx_size = peers_config.rx_size;
	a->hello.tx_size = peers_config.tx_size;
	p->attached = true;
	return 0;
}

/* --- sessions ----------------------------------------------------------------------------------- */

static bool addr_ok(const struct nst_addr *a)
{
	return a->family == AF_UNSPEC || a->family == AF_INET || a->family == AF_INET6;
}

static int call_alloc(struct peer *p, const struct att_call *c, struct att_answer *a)
{
	struct shm_session *s;

	if ((c->arg != AF_INET && c->arg != AF_INET6) ||
	    (c->arg2 != IPPROTO_TCP && c->arg2 != IPPROTO_UDP))
		return -EINVAL;
	s = shm_session_alloc_in(worker.region, p->part, (uint8_t)c->arg, (uint8_t)c->arg2);
	if (!s)
		return -ENOBUFS;
	NST_FAULT_POINT("nstackd.alloc");
	a->session = shm_session_id(worker.region, s);
	return 0;
}

static int call_bind(struct peer *p, const struct att_call *c, struct shm_session *s, struct att_answer *a)
{
	struct stack_sock_info i; /* which protocol it is: the session may say anything */
	int err = worker.ops->info(worker.st, s, &i);

	if (err)
		return -EINVAL;
	if (c->local.port && !port_held(p, i.proto, &c->local))
		return -EACCES;
	err = worker.ops->bind(worker.st, s, &c->local);
	if (!err)
		p->bound[c->session] = c->local.port != 0;
	if (!err && i.proto == IPPROTO_UDP && c->local.port)
		err = port_steer(p, i.proto, &c->local, a);
	return err;
}

static int call_getopt(const struct att_call *c, struct shm_session *s, struct att_answer *a)
{
	uint32_t len = c->len < sizeof(a->data) ? c->len : sizeof(a->data);
	int err = worker.ops->getopt(worker.st, s, c->arg, a->data, &len);

	a->len = err ? 0 : len;
	return err;
}

static int call_tcp_info(struct shm_session *s, struct att_answer *a)
{
	struct tcp_info ti;
	int err = worker.ops->tcp_info(worker.st, s, &ti);

	_Static_assert(sizeof(ti) <= sizeof(a->data), "an answer holds it");
	if (!err) {
		memcpy(a->data, &ti, sizeof(ti));
		a->len = sizeof(ti);
	}
	return err;
}

static int call_setopt(struct peer *p, const struct att_call *c, struct shm_session *s)
{
	struct shm_session *ls = group_session(p, c->session, s);
	int err;

	if (c->len > ATT_DATA)
		return -EINVAL;
	err = worker.ops->setopt(worker.st, s, c->arg, c->data, c->len);
	return err || ls == s ? err : worker.ops->setopt(worker.st, ls, c->arg, c->data, c->len);
}

static int session_call(struct peer *p, const struct att_call *c, int fd, struct att_answer *a)
{
	struct shm_session *s = c->session < peers_config.sessions ?
		shm_session_get(worker.region, p->part * peers_config.sessions + c->session) : NULL;

	if (!s || group_orphan(p, c->session, s))
		return -EBADF;
	switch (c->op) {
	case ATT_OPEN:
		return worker.ops->open(worker.st, s);
	case ATT_BIND:
		return call_bind(p, c, s, a);
	case ATT_LISTEN:
		return p->bound[c->session] ? group_listen(p, c->session, s, fd, a) : -EACCES;
	case ATT_ACCEPT:
		return group_accept(p, c->session, a);
	case ATT_CONNECT: /* without a port of its own it would take one that is perhaps another's */
		return p->bound[c->session] ? worker.ops->connect(worker.st, s, &c->remote) : -EACCES;
	case ATT_DISCONNECT:
		return worker.ops->disconnect(worker.st, s);
	case ATT_SETOPT:
		return call_setopt(p, c, s);
	case ATT_GETOPT:
		return call_getopt(c, s, a);
	case ATT_TCP_INFO:
		return call_tcp_info(group_session(p, c->session, s), a);
	case ATT_TO_KERNEL:
		return peer_to_kernel(s, p, fd);
	case ATT_PARK:
		return park_add(p, s, fd);
	case ATT_UNPARK:
		park_drop(p, s);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int call_route(const struct att_call *c, struct att_answer *a)
{
	return worker.ops->route(worker.st, &c->remote, c->local.family ? &c->local : NULL, &a->route);
}

/* A failure of one that wants no answer shows in the answer to the message, if there is one: options that
 * the stack does not have must not. */
static int quiet(const struct att_call *c, int err)
{
	return c->flags & ATT_QUIET && c->op == ATT_SETOPT ? 0 : err;
}

int peer_call(struct peer *p, const struct att_call *c, int fd, struct att_answer *a)
{
	if (!addr_ok(&c->local) || !addr_ok(&c->remote))
		return -EINVAL;
	switch (c->op) {
	case ATT_ALLOC:
		return call_alloc(p, c, a);
	case ATT_ROUTE:
		return call_route(c, a);
	case ATT_CLAIM:
		return port_claim(p, c, fd, a);
	case ATT_RELEASE:
		return port_release(p, c);
	case ATT_PIN:
		return port_pin(p, c, fd);
	case ATT_TAKE:
		return park_take(p, fd, a);
	case ATT_IN_USE:
		return ports_in_use((uint8_t)c->arg, &c->local, c->arg2 & ATT_CLAIM_V4TOO) ? -EADDRINUSE : 0;
	default:
		return quiet(c, session_call(p, c, fd, a));
	}
}
