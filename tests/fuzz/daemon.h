/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/daemon.h - nstackd without its loop: its programs, its stack on an in-memory port
 *
 * The input is a program of steps: connections of programs, messages, notifications, bytes written over
 * whatever a program has mapped, packets from the peer, time. Programs may do all that and harm only
 * themselves: the daemon must not crash, and when they have ended nothing of them may be left.
 *
 * Runs in a network namespace without interfaces, where it may: sockets that are shown to the daemon are
 * bound there, and what moves to the kernel goes nowhere.
 */
#ifndef NSTACK_TESTS_FUZZ_DAEMON_H
#define NSTACK_TESTS_FUZZ_DAEMON_H

#define _GNU_SOURCE
#include "world.h"

#include <fcntl.h>
#include <net/if.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <tools/nstackd/peer.h>
#include <unistd.h>

#define PROGRAMS 3u
#define SESSIONS 8u
#define FIFO_BYTES 65536u
#define PORTS 2u
#define SLOTS_AT 4096u /* of a part */
#define SLOT_BYTES 512u
#define RX_AT (SLOTS_AT + 4096u)
#define TX_AT (RX_AT + SESSIONS * FIFO_BYTES)
#define STEPS 300

static const uint16_t port_number[PORTS] = { TCP_PORT, UDP_PORT };

/* What a program has: by the descriptors that came with the answer to HELLO. */
struct program {
	int sock; /* -1: there is no such program */
	uint8_t *part, *notify;
	size_t part_bytes, notify_bytes;
	struct notify out;
};

struct daemon_world {
	struct world w; /* first */
	struct program p[PROGRAMS];
};

static int proof[2][PORTS]; /* sockets to show: TCP, UDP */
static uint64_t *now;       /* the world's */

/* The daemon's clock (tools/module.mk). */
int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	if (id != CLOCK_MONOTONIC || !now)
		return __real_clock_gettime(id, ts);
	*ts = (struct timespec){ (time_t)(*now / 1000000000), (long)(*now % 1000000000) };
	return 0;
}

/* --- once ----------------------------------------------------------------------------------------- */

static int proof_socket(int type, uint16_t port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int s = socket(AF_INET6, type, 0);

	if (s < 0 || bind(s, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && listen(s, 8)))
		abort(); /* as root, in a namespace of its own; or with low ports for everybody */
	return s;
}

static inline void daemon_init(void)
{
	char err[RD_ERR];

	signal(SIGPIPE, SIG_IGN); /* as nstackd: a program may close its end of a bell */
	if (unshare(CLONE_NEWNET))
		unshare(CLONE_NEWUSER | CLONE_NEWNET);
	for (unsigned i = 0; i < PORTS; i++) {
		proof[0][i] = proof_socket(SOCK_STREAM, port_number[i]);
		proof[1][i] = proof_socket(SOCK_DGRAM, port_number[i]);
	}
	peers_config = (struct peers_config){
		.epfd = epoll_create1(EPOLL_CLOEXEC),
		.max = PROGRAMS,
		.sessions = SESSIONS,
		.rx_size = FIFO_BYTES,
		.tx_size = FIFO_BYTES,
		.max_ports = 4,
		.ports_fd = memfd_create("ports", MFD_CLOEXEC),
	};
	must(rd_config_init(err) || rd_init(rd_config(), err)); /* all to the stack */
	must(peers_config.epfd < 0 || peers_config.ports_fd < 0 || peers_recycle_init());
	ns_log_set_level(NS_M_NR_, NS_OFF);
}

/* --- a program's side ----------------------------------------------------------------------------- */

static void program_unmap(struct program *p)
{
	if (p->part)
		munmap(p->part, p->part_bytes);
	if (p->notify)
		munmap(p->notify, p->notify_bytes);
	p->part = p->notify = NULL;
}

static void program_close(struct program *p)
{
	if (p->sock >= 0)
		close(p->sock);
	p->sock = -1;
	program_unmap(p);
}

static void program_open(struct program *p)
{
	int sv[2];

	if (p->sock >= 0)
		return;
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
	p->sock = sv[0];
	peer_new(sv[1], NULL);
}

static uint8_t *map_of(int fd, size_t *bytes)
{
	struct stat sb;
	void *m;

	must(fstat(fd, &sb));
	*bytes = (size_t)sb.st_size;
	m = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(m == MAP_FAILED);
	return m;
}

/* Answers, so that the daemon finds room for more; one with descriptors is HELLO's. */
static void program_read(struct program *p)
{
	struct att_answer a;
	int fds[ATT_FDS];
	unsigned n = 0;
	long r = 1;

	while (p->sock >= 0 && r > 0) {
		r = att_recv(p->sock, &a, sizeof(a), fds, ATT_FDS, &n, MSG_DONTWAIT);
		if (r > 0 && n == ATT_FDS && !p->part) {
			p->part = map_of(fds[ATT_FD_SESSIONS], &p->part_bytes);
			p->notify = map_of(fds[ATT_FD_NOTIFY], &p->notify_bytes);
			p->out = notify_view(p->notify, SESSIONS);
		}
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		n = 0;
	}
	if (r == 0 || (r < 0 && r != -EAGAIN)) /* cut off */
		program_close(p);
}

static void program_send(struct program *p, const void *msg, size_t bytes, int fd)
{
	if (p->sock >= 0)
		att_send(p->sock, msg, bytes, &fd, fd >= 0, MSG_DONTWAIT);
}

static struct att_call call_hello(void)
{
	return (struct att_call){ .op = ATT_HELLO, .session = ATT_MAGIC, .arg = (int32_t)ATT_VERSION };
}

/* --- the daemon's side ----------------------------------------------------------------------------- */

static void daemon_round(struct daemon_world *d)
{
	struct epoll_event ev[16];
	int n = epoll_wait(peers_config.epfd, ev, 16, 0);

	for (int i = 0; i < n; i++)
		if (ev[i].data.ptr)
			peer_run(ev[i].data.ptr);
	peers_notifications();
	tcpip_stack_ops.poll(d->w.st, d->w.now);
	peers_ring();
	peers_reap();
	for (unsigned i = 0; i < PROGRAMS; i++)
		program_read(&d->p[i]);
	drain(&d->w);
}

/* --- steps --------------------------------------------------------------------------------------- */

enum step { STEP_OPEN, STEP_HELLO, STEP_BYTES, STEP_CALLS, STEP_NOTIFY, STEP_SLOTS, STEP_QUEUE, STEP_DATA, STEP_WRITE,
	    STEP_CLOSE, STEP_TCP, STEP_UDP, STEP_ICMP, STEP_TIME };

static void address(struct daemon_world *d, struct nst_addr *a, uint8_t how)
{
	*a = how & 4 ? d->w.peer[how & 1] : d->w.us[how & 1];
	if (how & 8)
		memset(a->v6, 0, sizeof(a->v6));
	a->port = htons(how & 4 ? PEER_PORT : port_number[how >> 4 & 1]);
	if ((how & 0xe0) == 0xe0)
		a->family = take(&d->w);
	else if ((how & 0xe0) == 0xc0)
		a->port = 0;
}

static void one_call(struct daemon_world *d, struct att_call *c)
{
	struct world *w = &d->w;

	memset(c, 0, sizeof(*c));
	c->op = take(w) % (ATT_OP_NR_ + 1);
	c->flags = take(w) & 1 ? ATT_QUIET : 0;
	c->session = take(w) % (SESSIONS + 2);
	c->arg = (int8_t)take(w);
	c->arg2 = (int8_t)take(w);
	if (c->op == ATT_ALLOC) {
		c->arg = c->arg & 1 ? AF_INET6 : AF_INET;
		c->arg2 = c->arg2 & 1 ? IPPROTO_UDP : IPPROTO_TCP;
	} else if (c->op == ATT_CLAIM || c->op == ATT_RELEASE || c->op == ATT_PIN) {
		c->arg = c->arg & 1 ? IPPROTO_UDP : IPPROTO_TCP;
	}
	address(d, &c->local, take(w));
	address(d, &c->remote, take(w));
	c->len = take(w);
	take_bytes(w, c->data, 4);
}

static void step_calls(struct daemon_world *d, struct program *p)
{
	struct att_call c[4];
	uint8_t how = take(&d->w);
	unsigned n = 1 + how % 4;

	for (unsigned i = 0; i < n; i++)
		one_call(d, &c[i]);
	program_send(p, c, n * sizeof(c[0]), how & 0x80 ? -1 : proof[how >> 5 & 1][how >> 4 & 1]);
}

static void step_bytes(struct daemon_world *d, struct program *p)
{
	uint8_t b[4 * sizeof(struct att_call) + 64], how = take(&d->w);
	uint32_t n = take_bytes(&d->w, b, how & 1 ? take(&d->w) * 4u % sizeof(b) : sizeof(struct att_call));

	program_send(p, b, n, how & 2 ? proof[0][0] : -1);
}

/* As a program that keeps to the protocol does, but for what it says. */
static void step_notify(struct daemon_world *d, struct program *p)
{
	uint32_t id = take(&d->w) % SESSIONS, bits = take(&d->w);

	if (p->part && bits)
		notify_put(&p->out, id, bits);
}

static void scribble(struct daemon_world *d, uint8_t *mem, uint32_t bytes)
{
	uint32_t at = take16(&d->w) % (bytes - 8), how = take(&d->w);
	uint8_t b[8];

	if (!mem)
		return;
	if (how & 8) /* a plausible number rather than noise */
		memset(b, how & 16 ? 0xff : 0, 8);
	else
		memset(b, 0, 8);
	take_bytes(&d->w, b, 1 + (how & 7));
	memcpy(mem + (how & 32 ? at & ~7u : at), b, 8);
}

static inline struct shm_session *session_at(const struct program *p, uint32_t id)
{
	return (struct shm_session *)(void *)(p->part + SLOTS_AT + id * SLOT_BYTES);
}

/* Something to send, by the FIFO that the slot says it is. */
static void step_write(struct daemon_world *d, struct program *p)
{
	uint32_t id = take(&d->w) % SESSIONS, n = take16(&d->w);
	static const uint8_t zeros[65536];
	struct shm_session *s;
	struct fifo f;

	if (!p->part)
		return;
	s = session_at(p, id);
	f = (struct fifo){ &s->tx, p->part + TX_AT + id * FIFO_BYTES, FIFO_BYTES };
	f.sh->rebase = f.sh->head; /* whatever was scribbled: here no memory of ours may be touched */
	f.sh->touched = 0;
	fifo_write(&f, zeros, n);
	notify_put(&p->out, id, ATT_DO_TX);
}

static void step(struct daemon_world *d, enum step what)
{
	struct program *p = &d->p[what >= STEP_TCP ? 0 : take(&d->w) % PROGRAMS];
	struct att_call c = call_hello();

	switch (what) {
	case STEP_OPEN:
		program_open(p);
		break;
	case STEP_HELLO:
		program_send(p, &c, sizeof(c), -1);
		break;
	case STEP_BYTES:
		step_bytes(d, p);
		break;
	case STEP_CALLS:
		step_calls(d, p);
		break;
	case STEP_NOTIFY:
		step_notify(d, p);
		break;
	case STEP_SLOTS:
		scribble(d, p->part ? p->part + SLOTS_AT : NULL, SESSIONS * SLOT_BYTES);
		break;
	case STEP_QUEUE:
		scribble(d, p->notify, (uint32_t)notify_bytes(SESSIONS) * 2);
		break;
	case STEP_DATA: /* what a listener's FIFO says waits there, for one */
		scribble(d, p->part ? p->part + RX_AT + take(&d->w) % SESSIONS * FIFO_BYTES : NULL, 64);
		break;
	case STEP_WRITE:
		step_write(d, p);
		break;
	case STEP_CLOSE:
		program_close(p);
		break;
	case STEP_TCP:
		step_tcp(&d->w);
		break;
	case STEP_UDP:
		step_udp(&d->w);
		break;
	case STEP_ICMP:
		step_icmp(&d->w);
		break;
	case STEP_TIME:
		d->w.now += 1ull << (take(&d->w) % 38); /* up to two minutes */
		break;
	}
}

/* op's low four bits choose a step, the fifth keeps the daemon from looking at once. */
static inline void daemon_run(struct daemon_world *d, const enum step steps[16])
{
	for (int i = 0; d->w.in < d->w.end && i < STEPS; i++) {
		uint8_t op = take(&d->w);

		step(d, steps[op & 15]);
		if (!(op & 16))
			daemon_round(d);
	}
}

/* --- making and undoing ---------------------------------------------------------------------------- */

static inline void daemon_make(struct daemon_world *d, const uint8_t *data, size_t size)
{
	struct shm_region_config rc = { .sessions = SESSIONS, .rx_size = FIFO_BYTES, .tx_size = FIFO_BYTES,
					.parts = PROGRAMS };

	memset(d, 0, sizeof(*d));
	now = &d->w.now;
	d->w.in = data;
	d->w.end = data + size;
	for (unsigned i = 0; i < PROGRAMS; i++)
		d->p[i].sock = -1;
	must(shm_region_create(&worker.region, &rc));
	d->w.env.region = worker.region;
	d->w.env.event = peers_event;
	world_make(&d->w);
	d->w.env.port_hold = ports_hold_cb;
	d->w.env.port_release = ports_release_cb;
	worker.ops = &tcpip_stack_ops;
	worker.st = d->w.st;
	worker.env = d->w.env;
}

static inline void daemon_end(struct daemon_world *d)
{
	struct shm_region_stats rs;

	for (unsigned i = 0; i < PROGRAMS; i++)
		program_close(&d->p[i]);
	for (int i = 0; i < 64 && (peers_first() || !i); i++) {
		daemon_round(d);
		d->w.now += 30000000000ull;
	}
	assert(!peers_first());
	shm_region_stats(worker.region, &rs);
	assert(!rs.used && !rs.parts && !rs.double_frees);
	world_end(&d->w);
	for (unsigned i = 0; i < PORTS; i++)
		assert(!ports_used(IPPROTO_TCP, htons(port_number[i])) &&
		       !ports_used(IPPROTO_UDP, htons(port_number[i])));
	shm_region_close(worker.region);
	worker.region = NULL;
}

#endif
