/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/remote/remote.c - the program's end of shm/attach.h
 *
 * Calls whose result can wait are collected and go with the next message; flush() sends what is left.
 *
 * Threads: under the worker lock, like every stack. A call that needs an answer waits for it with the lock
 * held, ANSWER_MS at most.
 */
#define _GNU_SOURCE
#include "stacks/remote/remote.h"

#include <errno.h>
#include <linux/tcp.h>
#include <nstack/fault_point.h>
#include <nstack/fd_host.h>
#include <rd/config.h>
#include <rd/sys.h>
#include <shm/attach.h>
#include <shm/session.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_MS 5000   /* a daemon that takes longer is as good as dead */
#define EVENTS_ROUND 256u
#define IDLE_LOOK 1024u

struct remote {
	struct stack_env *env;
	struct shm_region *region;
	struct notify out, in;
	void *mem;               /* of both */
	size_t mem_bytes;
	const uint16_t *ports;   /* ATT_FD_PORTS */
	int sock, bell_out, bell_in;
	pid_t pid;               /* the daemon's */
	bool lost;
	uint32_t idle;           /* atomic: polls without an event since the daemon was looked after */
	bool ring;               /* it sleeps: ring at flush() */
	uint64_t sent;           /* messages after HELLO */
	unsigned ncalls;
	struct att_call calls[ATT_CALLS]; /* not sent yet */
};

static struct remote *remote_of(struct stack *st)
{
	return (struct remote *)st;
}

/* --- messages --------------------------------------------------------------------------------- */

static void lose(struct remote *r)
{
	if (r->lost)
		return;
	r->lost = true;
	r->ncalls = 0;
	if (r->env->gone)
		r->env->gone(r->env);
}

/* Send what was collected, of which the last call may want an answer; a: NULL if it does not. */
static int message(struct remote *r, int fd, struct att_answer *a)
{
	size_t size = r->ncalls * sizeof(r->calls[0]);
	long n;

	r->ncalls = 0;
	if (r->lost)
		return -ECONNRESET;
	r->sent++;
	n = att_send(r->sock, r->calls, size, &fd, fd >= 0, 0);
	NST_FAULT_POINT("remote.call.sent");
	if (n >= 0 && a)
		n = att_recv(r->sock, a, sizeof(*a), NULL, 0, NULL, 0);
	NST_FAULT_POINT("remote.call.answered");
	if (n < 0 || (a && n != (long)sizeof(*a))) {
		lose(r);
		return -ECONNRESET;
	}
	return a ? a->result : 0;
}

static struct att_call *call_new(struct remote *r, uint16_t op, const struct shm_session *s)
{
	struct att_call *c;

	if (r->ncalls == ATT_CALLS)
		message(r, -1, NULL);
	c = &r->calls[r->ncalls++];
	memset(c, 0, sizeof(*c));
	c->op = op;
	c->session = s ? shm_session_id(r->region, s) : 0;
	return c;
}

static struct att_call *call_later(struct remote *r, uint16_t op, struct shm_session *s)
{
	struct att_call *c = call_new(r, op, s);

	c->flags = ATT_QUIET;
	if (s)
		__atomic_store_n(&s->said, r->sent + 1, __ATOMIC_RELAXED); /* relaxed: put() follows */
	return c;
}

static struct nst_addr addr_or_none(const struct nst_addr *a)
{
	return a ? *a : (struct nst_addr){ 0 };
}

/* --- notifications ---------------------------------------------------------------------------- */

static void bell(int fd)
{
	static const uint64_t one = 1;

	(void)!syscall(SYS_write, fd, &one, sizeof(one));
}

/* The daemon rings once for each announcement: there are never many. */
static void bell_empty(int fd)
{
	char rung[64];

	(void)!syscall(SYS_read, fd, rung, sizeof(rung));
}

/* Sessions of a daemon that has ended may still be around. */
static void put(struct remote *r, struct shm_session *s, uint32_t bits)
{
	if (r->lost || !shm_region_has(r->region, s))
		return;
	if (r->ncalls && s->said > r->sent)
		message(r, -1, NULL);
	if (!r->lost)
		r->ring |= notify_put(&r->out, shm_session_id(r->region, s), bits);
}

static void op_flush(struct stack *st)
{
	struct remote *r = remote_of(st);

	if (r->ncalls)
		message(r, -1, NULL);
	if (r->ring)
		bell(r->bell_out);
	r->ring = false;
}

bool remote_arm(struct stack *st)
{
	return notify_sleep(&remote_of(st)->in);
}

void remote_disarm(struct stack *st)
{
	struct remote *r = remote_of(st);

	if (!notify_awake(&r->in)) /* woken by something else; relaxed: only says when to look */
		__atomic_store_n(&r->idle, IDLE_LOOK, __ATOMIC_RELAXED);
	bell_empty(r->bell_in); /* perhaps it rings late, for the sleep before: then that woke us */
}

/* Nothing was up, after a sleep or for long: has the daemon ended? */
static bool daemon_ended(const struct remote *r)
{
	char c;

	return att_recv(r->sock, &c, 1, NULL, 0, NULL, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static uint32_t op_poll(struct stack *st, uint64_t now)
{
	struct remote *r = remote_of(st);
	uint32_t n = 0, id, bits;
	struct shm_session *s;

	if (r->lost)
		return 0;
	while (n < EVENTS_ROUND && notify_take(&r->in, &id, &bits)) {
		s = bits ? shm_session_get(r->region, id) : NULL;
		if (bits & (ATT_EV_LEAVE | ATT_EV_SHARED) && r->env->wants_kernel)
			r->env->wants_kernel(r->env, bits & ATT_EV_LEAVE ? NULL : s);
		bits &= ~(ATT_EV_LEAVE | ATT_EV_SHARED);
		if (s && bits)
			r->env->event(r->env, s, bits);
		n++;
	}
	if (!n && __atomic_fetch_add(&r->idle, 1, __ATOMIC_RELAXED) >= IDLE_LOOK) {
		__atomic_store_n(&r->idle, 0, __ATOMIC_RELAXED);
		if (daemon_ended(r))
			lose(r);
	}
	return n;
}

static uint64_t op_deadline(struct stack *st)
{
	return UINT64_MAX;
}

static int op_ctl_fd(struct stack *st)
{
	return -1;
}

/* --- sessions --------------------------------------------------------------------------------- */

static struct shm_session *op_alloc(struct stack *st, uint8_t family, uint8_t proto)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_ALLOC, NULL);
	struct att_answer a;

	c->arg = family;
	c->arg2 = proto;
	return message(r, -1, &a) ? NULL : shm_session_get(r->region, a.session);
}

static int op_open(struct stack *st, struct shm_session *s)
{
	call_later(remote_of(st), ATT_OPEN, s);
	return 0;
}

static int op_bind(struct stack *st, struct shm_session *s, const struct nst_addr *local)
{
	struct remote *r = remote_of(st);
	struct att_answer a;

	if (s->proto == IPPROTO_TCP) { /* listen() or connect() follows, and fails if this does */
		call_later(r, ATT_BIND, s)->local = *local;
		return 0;
	}
	call_new(r, ATT_BIND, s)->local = *local;
	return message(r, -1, &a);
}

/* Who has the port, if that is why it was refused. */
static int answer_owner(int err, const struct att_answer *a, pid_t *owner, uint64_t *image)
{
	*owner = err == -EADDRINUSE ? (pid_t)a->session : 0;
	*image = err == -EADDRINUSE ? a->image : 0;
	return err;
}

int remote_listen(struct stack *st, struct shm_session *s, int shadow, pid_t *owner, uint64_t *image)
{
	struct remote *r = remote_of(st);
	struct att_answer a;

	call_new(r, ATT_LISTEN, s);
	return answer_owner(message(r, shadow, &a), &a, owner, image);
}

/* The daemon wants to see the shadow: remote_listen(). */
static int op_listen(struct stack *st, struct shm_session *s, int backlog)
{
	return -EOPNOTSUPP;
}

static int op_accept(struct stack *st, struct shm_session *listener, struct shm_session **out)
{
	struct remote *r = remote_of(st);
	struct att_answer a;
	int err;

	call_new(r, ATT_ACCEPT, listener);
	err = message(r, -1, &a);
	*out = err ? NULL : shm_session_get(r->region, a.session);
	return !err && !*out ? -EAGAIN : err;
}

static int op_connect(struct stack *st, struct shm_session *s, const struct nst_addr *remote)
{
	struct remote *r = remote_of(st);
	struct att_answer a;

	call_new(r, ATT_CONNECT, s)->remote = *remote;
	return message(r, -1, &a);
}

static int op_disconnect(struct stack *st, struct shm_session *s)
{
	call_later(remote_of(st), ATT_DISCONNECT, s);
	return 0;
}

static void op_tx_ready(struct stack *st, struct shm_session *s, uint32_t flags)
{
	put(remote_of(st), s, flags & STACK_TX_MORE ? ATT_DO_TX_MORE : ATT_DO_TX);
}

static void op_rx_freed(struct stack *st, struct shm_session *s)
{
	put(remote_of(st), s, ATT_DO_RX_FREED);
}

static int op_shutdown(struct stack *st, struct shm_session *s, int how)
{
	put(remote_of(st), s, (how != SHUT_WR ? ATT_DO_SHUT_RD : 0) | (how != SHUT_RD ? ATT_DO_SHUT_WR : 0));
	return 0;
}

static void op_close(struct stack *st, struct shm_session *s, int linger_s)
{
	struct remote *r = remote_of(st);

	s->linger_s = linger_s;
	NST_FAULT_POINT("remote.close");
	put(r, s, ATT_DO_CLOSE);
}

static int op_image(struct stack *st, struct shm_session *s, struct stack_tcp_image *out)
{
	return -EOPNOTSUPP; /* remote_to_kernel() */
}

int remote_to_kernel(struct stack *st, struct shm_session *s, int shadow)
{
	struct remote *r = remote_of(st);
	struct att_answer a;

	if (!shm_region_has(r->region, s)) /* of a daemon that has ended */
		return -ECONNRESET;
	call_new(r, ATT_TO_KERNEL, s);
	return message(r, shadow, &a);
}

static int op_setopt(struct stack *st, struct shm_session *s, int opt, const void *v, uint32_t len)
{
	struct att_call *c;

	if (len > ATT_DATA)
		return -EINVAL;
	c = call_later(remote_of(st), ATT_SETOPT, s);
	c->arg = opt;
	c->len = len;
	memcpy(c->data, v, len);
	return 0;
}

static int answer_data(int err, const struct att_answer *a, void *v, uint32_t *len)
{
	if (err)
		return err;
	if (a->len > *len || a->len > sizeof(a->data))
		return -EPROTO;
	memcpy(v, a->data, a->len);
	*len = a->len;
	return 0;
}

static int op_getopt(struct stack *st, struct shm_session *s, int opt, void *v, uint32_t *len)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_GETOPT, s);
	struct att_answer a;

	c->arg = opt;
	c->len = *len;
	return answer_data(message(r, -1, &a), &a, v, len);
}

static int op_tcp_info(struct stack *st, struct shm_session *s, struct tcp_info *out)
{
	struct remote *r = remote_of(st);
	uint32_t len = sizeof(*out);
	struct att_answer a;

	call_new(r, ATT_TCP_INFO, s);
	return answer_data(message(r, -1, &a), &a, out, &len);
}

static int op_join(struct stack *st, struct shm_session *s, const struct nst_addr *group,
		   unsigned ifindex, bool leave)
{
	return -EOPNOTSUPP; /* groups are the kernel's, as in the process */
}

static int op_route(struct stack *st, const struct nst_addr *remote, const struct nst_addr *bound,
		    struct stack_route *out)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_ROUTE, NULL);
	struct att_answer a;
	int err;

	c->remote = *remote;
	c->local = addr_or_none(bound);
	err = message(r, -1, &a);
	if (err)
		memset(out, 0, sizeof(*out));
	else
		*out = a.route;
	return err;
}

/* --- with other programs ------------------------------------------------------------------------ */

int remote_park(struct stack *st, struct shm_session *s, int shadow)
{
	struct remote *r = remote_of(st);
	struct att_answer a;

	if (!shm_region_has(r->region, s))
		return -ECONNRESET;
	call_new(r, ATT_PARK, s);
	return message(r, shadow, &a);
}

void remote_unpark(struct stack *st, struct shm_session *s)
{
	struct remote *r = remote_of(st);

	if (!r->lost && shm_region_has(r->region, s))
		call_later(r, ATT_UNPARK, s);
}

int remote_take(struct stack *st, int shadow, struct shm_session **out)
{
	struct remote *r = remote_of(st);
	struct att_answer a;
	int err;

	call_new(r, ATT_TAKE, NULL);
	err = message(r, shadow, &a);
	*out = err ? NULL : shm_session_get(r->region, a.session);
	return err ? err : *out ? 0 : -EPROTO;
}

/* --- ports ------------------------------------------------------------------------------------ */

int remote_claim(struct stack *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4, bool fresh,
		 int shadow, pid_t *owner, uint64_t *image)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_CLAIM, NULL);
	struct att_answer a;

	c->arg = proto;
	c->arg2 = (v6_takes_v4 ? ATT_CLAIM_V4TOO : 0) | (fresh ? ATT_CLAIM_NEW : 0);
	c->local = *local;
	return answer_owner(message(r, shadow, &a), &a, owner, image);
}

void remote_release(struct stack *st, uint8_t proto, const struct nst_addr *local)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_RELEASE, NULL);
	struct att_answer a;

	c->arg = proto;
	c->local = *local;
	message(r, -1, &a);
}

void remote_unpin(struct stack *st, uint8_t proto, const struct nst_addr *local)
{
	struct att_call *c = call_later(remote_of(st), ATT_RELEASE, NULL);

	c->arg = proto;
	c->local = *local;
}

int remote_pin(struct stack *st, uint8_t proto, const struct nst_addr *local,
	       const struct nst_addr *remote, int shadow)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_PIN, NULL);
	struct att_answer a;

	c->arg = proto;
	c->local = *local;
	c->remote = *remote;
	return message(r, shadow, &a);
}

bool remote_in_use(struct stack *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4)
{
	struct remote *r = remote_of(st);
	struct att_call *c = call_new(r, ATT_IN_USE, NULL);
	struct att_answer a;

	c->arg = proto;
	c->arg2 = v6_takes_v4 ? ATT_CLAIM_V4TOO : 0;
	c->local = *local;
	return message(r, -1, &a) == -EADDRINUSE;
}

bool remote_port_used(struct stack *st, int udp, uint16_t port)
{
	/* relaxed: a hint */
	return __atomic_load_n(&remote_of(st)->ports[udp * 65536 + port], __ATOMIC_RELAXED);
}

/* --- attaching -------------------------------------------------------------------------------- */

static int refused(char why[256], int err, const char *what)
{
	snprintf(why, 256, "nstackd: %s: %s", what, strerror(-err));
	return err;
}

/* Anybody may take the name while no daemon has it. */
static int trust(struct remote *r, char why[256])
{
	struct ucred u;
	socklen_t len = sizeof(u);

	if (syscall(SYS_getsockopt, r->sock, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0)
		return -errno;
	if (u.uid != 0 && u.uid != geteuid()) {
		snprintf(why, 256, "nstackd: process %d has the name, as user %u: not trusted", (int)u.pid,
			 (unsigned)u.uid);
		return -EPERM;
	}
	r->pid = u.pid;
	return 0;
}

static int dial(struct remote *r, char why[256])
{
	static const struct timeval limit = { .tv_sec = ANSWER_MS / 1000 };
	struct sockaddr_un a;
	socklen_t len = att_address(&a);
	long fd = syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	r->sock = nst_fd_own((int)fd);
	syscall(SYS_setsockopt, r->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	syscall(SYS_setsockopt, r->sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (syscall(SYS_connect, r->sock, &a, len) < 0)
		return errno == ECONNREFUSED ? -ENOENT : refused(why, -errno, "connecting");
	NST_FAULT_POINT("remote.attach.connected");
	return trust(r, why);
}

pid_t remote_look(void)
{
	struct remote r = { .sock = -1 };
	char why[256];
	int err = dial(&r, why);

	nst_fd_close(r.sock);
	return err ? 0 : r.pid;
}

static int map_notify(struct remote *r, int fd, uint32_t sessions)
{
	struct stat sb;
	void *p;

	r->mem_bytes = att_notify_bytes(sessions);
	if (fstat(fd, &sb) || (uint64_t)sb.st_size != r->mem_bytes)
		return -EPROTO;
	p = mmap(NULL, r->mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	r->mem = p;
	r->out = notify_view(p, sessions);
	r->in = notify_view((uint8_t *)p + notify_bytes(sessions), sessions);
	return 0;
}

static int map_ports(struct remote *r, int fd)
{
	void *p = mmap(NULL, ATT_PORTS_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	struct stat sb;

	if (p == MAP_FAILED)
		return -errno;
	r->ports = p;
	return fstat(fd, &sb) || sb.st_size != ATT_PORTS_BYTES ? -EPROTO : 0;
}

/* Every descriptor is somebody's or closed when this returns. */
static int take(struct remote *r, const struct att_answer *a, int fds[ATT_FDS])
{
	struct shm_region_config rc = { .sessions = a->hello.sessions, .rx_size = a->hello.rx_size,
					.tx_size = a->hello.tx_size };
	int err;

	r->bell_out = nst_fd_own(fds[ATT_FD_BELL_DAEMON]);
	r->bell_in = nst_fd_own(fds[ATT_FD_BELL_PROGRAM]);
	NST_FAULT_POINT("remote.attach.bells");
	err = shm_region_attach(&r->region, &rc, nst_fd_own(fds[ATT_FD_SESSIONS]));
	if (!err)
		err = map_notify(r, fds[ATT_FD_NOTIFY], rc.sessions);
	if (!err)
		err = map_ports(r, fds[ATT_FD_PORTS]);
	syscall(SYS_close, fds[ATT_FD_NOTIFY]);
	syscall(SYS_close, fds[ATT_FD_PORTS]);
	return err;
}

static void hello_fill(struct att_call *c, uint64_t image)
{
	const char *label = getenv("NSTACK_LABEL");

	if (!label || !ns_label_ok(label))
		label = rd_config()->label;
	memcpy(c->data, &image, sizeof(image));
	snprintf((char *)c->data + sizeof(image), ATT_HELLO_LABEL - sizeof(image), "%s",
		 program_invocation_short_name);
	snprintf((char *)c->data + ATT_HELLO_LABEL, sizeof(c->data) - ATT_HELLO_LABEL, "%s", label);
}

/* In the daemon's words, if it has any. */
static int hello_refused(const struct att_answer *a, char why[256])
{
	if (!a->len || a->len >= sizeof(a->data))
		return refused(why, a->result, "this program may not attach, or not so");
	snprintf(why, 256, "nstackd: %.*s", (int)a->len, (const char *)a->data);
	return a->result;
}

static int hello(struct remote *r, uint64_t image, char why[256])
{
	struct att_call c = { .op = ATT_HELLO, .session = ATT_MAGIC, .arg = ATT_VERSION };
	struct att_answer a;
	int fds[ATT_FDS], err;
	unsigned nfds = 0;
	long n;

	hello_fill(&c, image);
	n = att_send(r->sock, &c, sizeof(c), NULL, 0, 0);
	if (n >= 0)
		n = att_recv(r->sock, &a, sizeof(a), fds, ATT_FDS, &nfds, 0);
	NST_FAULT_POINT("remote.attach.hello");
	if (n == sizeof(a) && !a.result && nfds == ATT_FDS) {
		err = take(r, &a, fds);
		return err ? refused(why, err, "what it sent can't be used") : 0;
	}
	for (unsigned i = 0; i < nfds; i++)
		syscall(SYS_close, fds[i]);
	if (n <= 0)
		return refused(why, n ? (int)n : -ECONNRESET, "no answer");
	return n == sizeof(a) && a.result < 0 ? hello_refused(&a, why) : refused(why, -EPROTO, "no answer");
}

int remote_attach(struct stack **out, struct stack_env *env, struct shm_region **region, uint64_t image,
		  char why[256])
{
	struct remote *r = calloc(1, sizeof(*r));
	int err;

	*out = NULL;
	why[0] = 0;
	if (!r)
		return -ENOMEM;
	r->env = env;
	r->sock = r->bell_in = r->bell_out = -1;
	err = dial(r, why);
	if (!err)
		err = hello(r, image, why);
	if (err) {
		shm_region_close(r->region);
		remote_detach((struct stack *)r);
		return err;
	}
	*region = r->region;
	*out = (struct stack *)r;
	return 0;
}

int remote_try(pid_t *pid, char why[256])
{
	struct stack_env env = { 0 };
	struct shm_region *region;
	struct stack *st;
	int err = remote_attach(&st, &env, &region, 0, why);

	if (err)
		return err;
	*pid = remote_pid(st);
	remote_detach(st);
	shm_region_close(region);
	return 0;
}

void remote_detach(struct stack *st)
{
	struct remote *r = remote_of(st);

	if (r->mem)
		munmap(r->mem, r->mem_bytes);
	if (r->ports)
		munmap((void *)r->ports, ATT_PORTS_BYTES);
	nst_fd_close(r->sock);
	nst_fd_close(r->bell_in);
	nst_fd_close(r->bell_out);
	free(r);
}

unsigned remote_fds(struct stack *st, int fds[2])
{
	fds[0] = remote_of(st)->bell_in;
	fds[1] = remote_of(st)->sock;
	return 2;
}

pid_t remote_pid(struct stack *st)
{
	return remote_of(st)->pid;
}

/* --- observation: what the program can see of its sessions itself ----------------------------- */

static uint32_t op_sockets(struct stack *st, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	return 0;
}

static uint32_t op_counters(struct stack *st, struct stack_counter *out, uint32_t n)
{
	return 0;
}

static void op_flows(struct stack *st, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
						   const struct nst_addr *remote), void *arg)
{
}

static void op_destroy(struct stack *st)
{
	remote_detach(st);
}

const struct stack_ops remote_stack_ops = {
	.name = "nstackd",
	.destroy = op_destroy,
	.poll = op_poll,
	.flush = op_flush,
	.deadline = op_deadline,
	.ctl_fd = op_ctl_fd,
	.alloc = op_alloc,
	.open = op_open,
	.bind = op_bind,
	.listen = op_listen,
	.accept = op_accept,
	.connect = op_connect,
	.disconnect = op_disconnect,
	.tx_ready = op_tx_ready,
	.rx_freed = op_rx_freed,
	.shutdown = op_shutdown,
	.close = op_close,
	.image = op_image,
	.setopt = op_setopt,
	.getopt = op_getopt,
	.tcp_info = op_tcp_info,
	.join = op_join,
	.route = op_route,
	.sockets = op_sockets,
	.counters = op_counters,
	.flows = op_flows,
};
