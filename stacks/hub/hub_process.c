/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/hub/hub_process.c - the hub: TCP sockets between programs of one machine (hub.h)
 *
 *	nstack_hub PATH
 *
 * It has every address; who connects reaches who listens there, in whatever program. One thread moves bytes
 * from a socket's tx to its peer's rx when it is kicked. Who may connect to PATH may use it: that is the
 * directory's and the file's matter. A program that ends, or breaks the rules, ends alone.
 */
#define _GNU_SOURCE
#include "hub.h"

#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAMS 32
#define PORT_FIRST 49152u
#define TURN 64 /* messages of one program before the others' */

struct sock {
	struct program *owner; /* NULL: free */
	uint32_t index;        /* its slot */
	bool given;            /* the program knows it: not one that waits for accept() */
	bool listening, closed, ended; /* ended: nothing comes into tx any more */
	struct mem_addr local, remote;
	struct sock *peer;
	struct sock *queue[HUB_QUEUE];
	uint32_t queued, backlog;
	uint32_t tx_tail, rx_head; /* what we wrote into the rings */
	uint32_t owed;             /* events that the program could not be told yet */
};

struct program {
	int ctl, events; /* -1: it has ended; its sockets may have something to deliver yet */
	bool bad;        /* it broke the rules, or can't be told anything */
	struct hub_memory *memory;
	struct sock socks[HUB_SOCKS];
};

static struct program programs[PROGRAMS];

static struct hub_slot *slot_of(const struct sock *k)
{
	return &k->owner->memory->slot[k->index];
}

static void state_add(struct sock *k, uint32_t bits)
{
	__atomic_or_fetch(&slot_of(k)->state, bits, __ATOMIC_SEQ_CST);
}

/* --- events ------------------------------------------------------------------------------------------ */

static void tell(struct sock *k, uint32_t events)
{
	struct hub_event ev = { .sock = k->index, .events = k->owed | events };

	k->owed = 0;
	if (!ev.events || !k->given || k->closed)
		return;
	if (send(k->owner->events, &ev, sizeof(ev), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(ev))
		return;
	if (errno == EAGAIN)
		k->owed = ev.events;
	else
		k->owner->bad = true;
}

static bool owes(const struct program *p)
{
	for (uint32_t i = 0; i < HUB_SOCKS; i++)
		if (p->socks[i].owner && p->socks[i].owed)
			return true;
	return false;
}

/* --- sockets ------------------------------------------------------------------------------------------ */

static struct sock *sock_new(struct program *p)
{
	for (uint32_t i = 0; i < HUB_SOCKS; i++) {
		struct sock *k = &p->socks[i];

		if (k->owner)
			continue;
		*k = (struct sock){ .owner = p, .index = i };
		memset(&p->memory->slot[i], 0, offsetof(struct hub_slot, tx.data));
		memset(&p->memory->slot[i].rx, 0, offsetof(struct hub_ring, data));
		return k;
	}
	return NULL;
}

/* Bytes that may be copied from one to the other; their owner is bad if a counter can't be true. */
static uint32_t movable(struct sock *from, struct sock *to)
{
	/* acquire: pairs hub.ring */
	uint32_t have = __atomic_load_n(&slot_of(from)->tx.head, __ATOMIC_ACQUIRE) - from->tx_tail;
	/* seq_cst: after `blocked` was set, see hub_recv() */
	uint32_t used = to->rx_head - __atomic_load_n(&slot_of(to)->rx.tail, __ATOMIC_SEQ_CST);

	from->owner->bad |= have > HUB_RING;
	to->owner->bad |= used > HUB_RING;
	if (have > HUB_RING || used > HUB_RING)
		return 0;
	return have < HUB_RING - used ? have : HUB_RING - used;
}

static bool drained(struct sock *k)
{
	return __atomic_load_n(&slot_of(k)->tx.head, __ATOMIC_ACQUIRE) == k->tx_tail;
}

static void move(struct sock *from, struct sock *to, uint32_t n)
{
	uint8_t bytes[HUB_RING];

	hub_ring_get(&slot_of(from)->tx, from->tx_tail, bytes, n);
	hub_ring_put(&slot_of(to)->rx, to->rx_head, bytes, n);
	from->tx_tail += n;
	to->rx_head += n;
	/* release: pairs hub.ring */
	__atomic_store_n(&slot_of(to)->rx.head, to->rx_head, __ATOMIC_RELEASE);
	/* release: pairs hub.ring */
	__atomic_store_n(&slot_of(from)->tx.tail, from->tx_tail, __ATOMIC_RELEASE);
	tell(to, EPOLLIN);
	tell(from, EPOLLOUT);
}

static void part(struct sock *k)
{
	struct sock *peer = k->peer;

	k->peer = NULL;
	if (peer) {
		peer->peer = NULL;
		state_add(peer, HUB_END | HUB_GONE);
		tell(peer, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
		if (peer->closed)
			peer->owner = NULL;
	}
	if (k->closed)
		k->owner = NULL;
}

/* What k has sent goes to its peer, as far as there is room. */
static void pump(struct sock *k)
{
	struct sock *to = k->peer;
	uint32_t n;

	if (!to)
		return;
	if (to->closed) /* nobody reads it */
		k->tx_tail = __atomic_load_n(&slot_of(k)->tx.head, __ATOMIC_ACQUIRE);
	while (!to->closed && !k->owner->bad && !to->owner->bad) {
		n = movable(k, to);
		if (n) {
			move(k, to, n);
		} else if (drained(k) || __atomic_exchange_n(&slot_of(to)->blocked, 1, __ATOMIC_SEQ_CST)) {
			break; /* else look once more: room may have come before the mark */
		}
	}
	if (!k->ended || !drained(k))
		return;
	if (k->closed) {
		part(k);
	} else {
		state_add(to, HUB_END);
		tell(to, EPOLLIN | EPOLLRDHUP);
	}
}

static void sock_close(struct sock *k)
{
	while (k->queued)
		sock_close(k->queue[--k->queued]);
	k->listening = false;
	k->closed = k->ended = true;
	if (!k->peer) {
		k->owner = NULL;
		return;
	}
	state_add(k->peer, HUB_GONE);
	tell(k->peer, EPOLLOUT);
	pump(k->peer);
	if (k->peer)
		pump(k);
}

/* --- questions ------------------------------------------------------------------------------------------- */

/* Who has it; exactly, or by all addresses. listening: only who listens. */
static struct sock *find(const struct mem_addr *a, bool listening)
{
	struct sock *wild = NULL;

	for (int p = 0; p < PROGRAMS; p++)
		for (uint32_t i = 0; programs[p].memory && i < HUB_SOCKS; i++) {
			struct sock *k = &programs[p].socks[i];

			if (!k->owner || k->closed || k->remote.family || (listening && !k->listening) ||
			    k->local.family != a->family || k->local.port != a->port)
				continue;
			if (!memcmp(k->local.ip, a->ip, sizeof(a->ip)))
				return k;
			if (mem_addr_any(&k->local))
				wild = k;
		}
	return wild;
}

static int bind_to(struct sock *k, const struct mem_addr *a)
{
	static uint32_t next;
	struct mem_addr want = *a;

	if (k->local.family)
		return -EINVAL;
	for (uint32_t i = 0; !a->port && i < 65536 - PORT_FIRST; i++) {
		want.port = htons((uint16_t)(PORT_FIRST + next++ % (65536 - PORT_FIRST)));
		if (!find(&want, false))
			break;
	}
	if (find(&want, false))
		return -EADDRINUSE;
	k->local = want;
	return 0;
}

static int connect_to(struct sock *k, const struct mem_addr *a)
{
	struct sock *l = find(a, true), *c;
	int err = 0;

	if (k->listening || k->remote.family)
		return -EISCONN;
	if (!k->local.family)
		err = bind_to(k, &(struct mem_addr){ .family = a->family });
	if (err)
		return err;
	c = l && l->queued < l->backlog ? sock_new(l->owner) : NULL;
	if (!c)
		return -ECONNREFUSED;
	if (mem_addr_any(&k->local)) /* there is one machine: it has every address */
		memcpy(k->local.ip, a->ip, sizeof(a->ip));
	c->local = k->remote = *a;
	c->remote = k->local;
	c->peer = k;
	k->peer = c;
	state_add(c, HUB_CONNECTED);
	state_add(k, HUB_CONNECTED);
	l->queue[l->queued++] = c;
	__atomic_store_n(&slot_of(l)->waiting, l->queued, __ATOMIC_SEQ_CST);
	tell(l, EPOLLIN);
	return 0;
}

static int accept_from(struct sock *l, struct hub_msg *m)
{
	struct sock *c = l->queue[0];

	if (!l->listening)
		return -EINVAL;
	if (!l->queued)
		return -EAGAIN;
	memmove(l->queue, l->queue + 1, --l->queued * sizeof(l->queue[0]));
	__atomic_store_n(&slot_of(l)->waiting, l->queued, __ATOMIC_SEQ_CST);
	c->given = true;
	m->sock = c->index;
	m->local = c->local;
	m->remote = c->remote;
	return 0;
}

static int listen_on(struct sock *k, uint32_t backlog)
{
	int err = k->remote.family ? -EINVAL : 0;

	if (!err && !k->local.family)
		err = bind_to(k, &(struct mem_addr){ .family = AF_INET });
	if (err)
		return err;
	k->backlog = backlog < 1 ? 1 : backlog < HUB_QUEUE ? backlog : HUB_QUEUE;
	k->listening = true;
	state_add(k, HUB_LISTENS);
	return 0;
}

static int answer(struct program *p, struct hub_msg *m)
{
	struct sock *k = m->sock < HUB_SOCKS ? &p->socks[m->sock] : NULL;
	int err = 0;

	if (m->op == HUB_SOCKET) {
		k = sock_new(p);
		if (!k)
			return -EMFILE;
		k->given = true;
		m->sock = k->index;
		return 0;
	}
	if (!k || !k->owner || !k->given || k->closed)
		return -EBADF;
	switch (m->op) {
	case HUB_BIND: err = bind_to(k, &m->local); break;
	case HUB_LISTEN: return listen_on(k, m->backlog);
	case HUB_CONNECT: err = connect_to(k, &m->remote); break;
	case HUB_ACCEPT: return accept_from(k, m);
	case HUB_CLOSE: sock_close(k); return 0;
	case HUB_SHUTDOWN:
		k->ended = true;
		state_add(k, HUB_GONE);
		pump(k);
		return 0;
	case HUB_KICK:
		pump(k);
		if (k->owner && k->peer)
			pump(k->peer);
		return 0;
	default: return -EPROTO;
	}
	m->local = k->local;
	return err;
}

/* --- programs ------------------------------------------------------------------------------------------------ */

/* What it has sent is delivered, as the kernel would. */
static void program_end(struct program *p)
{
	close(p->ctl);
	close(p->events);
	p->ctl = p->events = -1;
	for (uint32_t i = 0; i < HUB_SOCKS; i++)
		if (p->socks[i].owner && !p->socks[i].closed)
			sock_close(&p->socks[i]);
}

static void cut_all(struct program *p)
{
	for (uint32_t i = 0; i < HUB_SOCKS; i++)
		if (p->socks[i].owner) {
			p->socks[i].closed = true;
			part(&p->socks[i]);
		}
}

static bool has_socks(const struct program *p)
{
	for (uint32_t i = 0; i < HUB_SOCKS; i++)
		if (p->socks[i].owner)
			return true;
	return false;
}

static void program_look(struct program *p)
{
	if (p->bad && p->ctl >= 0)
		program_end(p);
	if (p->bad)
		cut_all(p);
	if (!p->memory || p->ctl >= 0 || has_socks(p))
		return;
	munmap(p->memory, sizeof(*p->memory));
	*p = (struct program){ .ctl = -1, .events = -1 };
}

static int memory_make(void)
{
	int fd = memfd_create("nstack-hub", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (ftruncate(fd, sizeof(struct hub_memory)) < 0 ||
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool greet(int ctl, int memory, int events)
{
	struct hub_hello hello = { HUB_VERSION, sizeof(struct hub_memory) };
	struct iovec iov = { &hello, sizeof(hello) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} c = { .head = { .cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };

	memcpy(CMSG_DATA(&c.head), (int[]){ memory, events }, 2 * sizeof(int));
	return sendmsg(ctl, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(hello);
}

static void program_begin(int door)
{
	int ctl = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), memory = memory_make(), pair[2] = { -1, -1 };
	struct program *p = programs;
	void *map = MAP_FAILED;

	while (p < programs + PROGRAMS && p->memory)
		p++;
	if (ctl >= 0 && memory >= 0 && p < programs + PROGRAMS &&
	    !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) && greet(ctl, memory, pair[1]))
		map = mmap(NULL, sizeof(struct hub_memory), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (map != MAP_FAILED) {
		*p = (struct program){ .ctl = ctl, .events = pair[0], .memory = map };
	} else {
		close(ctl);
		close(pair[0]);
	}
	close(memory);
	close(pair[1]);
}

static void program_serve(struct program *p)
{
	struct hub_msg m;
	ssize_t r = -1;

	for (int i = 0; i < TURN && !p->bad && (r = recv(p->ctl, &m, sizeof(m), 0)) == sizeof(m); i++) {
		m.result = answer(p, &m);
		if (m.op != HUB_KICK && send(p->ctl, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
			p->bad = true;
	}
	if (r == 0)
		program_end(p);
	else if (r > 0)
		p->bad |= r != sizeof(m);
	else
		p->bad |= errno != EAGAIN;
}

static void serve_all(int door)
{
	struct pollfd fds[1 + 2 * PROGRAMS] = { { .fd = door, .events = POLLIN } };

	for (int i = 0; i < PROGRAMS; i++) {
		struct program *p = &programs[i];

		fds[1 + 2 * i] = (struct pollfd){ .fd = p->ctl, .events = POLLIN };
		fds[2 + 2 * i] = (struct pollfd){ .fd = p->memory && owes(p) ? p->events : -1, .events = POLLOUT };
	}
	if (poll(fds, 1 + 2 * PROGRAMS, -1) < 0)
		return;
	if (fds[0].revents)
		program_begin(door);
	for (int i = 0; i < PROGRAMS; i++) {
		struct program *p = &programs[i];

		if (fds[1 + 2 * i].revents)
			program_serve(p);
		for (uint32_t s = 0; fds[2 + 2 * i].revents && s < HUB_SOCKS; s++)
			if (p->socks[s].owner)
				tell(&p->socks[s], 0);
	}
	for (int i = 0; i < PROGRAMS; i++)
		program_look(&programs[i]);
}

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (argc != 2 || strlen(argv[1]) >= sizeof(un.sun_path)) {
		fprintf(stderr, "usage: nstack_hub PATH\n");
		return 2;
	}
	strcpy(un.sun_path, argv[1]);
	unlink(argv[1]);
	if (door < 0 || bind(door, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(door, PROGRAMS) < 0) {
		perror(argv[1]);
		return 1;
	}
	for (int i = 0; i < PROGRAMS; i++)
		programs[i].ctl = programs[i].events = -1;
	for (;;)
		serve_all(door);
}
