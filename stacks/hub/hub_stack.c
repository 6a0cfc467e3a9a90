/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/hub/hub_stack.c - the plug-in of the hub: what programs call, put into messages and rings (hub.h)
 *
 * NSTACK_HUB names the hub's socket. TCP sockets only. A call that asks the hub for something waits for the
 * answer, which comes at once; data and readiness need only the shared memory. A thread hands the hub's events
 * on. When the hub ends, sockets answer ECONNRESET, and the program goes on. A forked child does not follow.
 *
 * Threads: any. Locks: `asking` around a question and its answer; `table` for the list of sockets; `filling`
 * and `emptying` for who does that to a ring.
 */
#define _GNU_SOURCE
#include "hub.h"

#include <nstack/nstack_dmm_api.h>

#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/un.h>

#define FIRST 6000  /* our numbers are no descriptors: they only have to be ours */
#define HIGH 4096   /* programs take the lowest numbers */
#define ANSWER_S 5  /* a hub that takes longer is as good as gone */

struct sock {
	bool used, no_rx;
	int family;
	struct mem_addr local, remote;
	void *pdata; /* what event_cb wants; NULL: nobody cares */
};

static struct sock socks[HUB_SOCKS]; /* table */
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t asking = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t filling = PTHREAD_MUTEX_INITIALIZER, emptying = PTHREAD_MUTEX_INITIALIZER;
static nstack_event_cb nstack;
static struct hub_memory *memory;
static int hub = -1, events = -1;
static bool gone; /* atomic: the hub has ended */

static struct sock *get(int s)
{
	return s >= FIRST && s < FIRST + (int)HUB_SOCKS && socks[s - FIRST].used ? &socks[s - FIRST] : NULL;
}

static struct hub_slot *slot_of(int s)
{
	return &memory->slot[s - FIRST];
}

/* --- questions ------------------------------------------------------------------------------------- */

/* Nobody answers any more: everybody who waits is to learn it. */
static void hub_gone(void)
{
	void *pdata;

	if (__atomic_exchange_n(&gone, true, __ATOMIC_SEQ_CST))
		return;
	shutdown(hub, SHUT_RDWR); /* one that only hangs gives our peers their end when it goes on */
	for (uint32_t i = 0; i < HUB_SOCKS; i++) {
		pthread_mutex_lock(&table);
		pdata = socks[i].used ? socks[i].pdata : NULL;
		pthread_mutex_unlock(&table);
		if (pdata)
			nstack.event_cb(pdata, EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP);
	}
}

/* m is question and answer. 0, or -1 and errno. */
static int ask(struct hub_msg *m)
{
	bool ok;

	pthread_mutex_lock(&asking);
	ok = !__atomic_load_n(&gone, __ATOMIC_SEQ_CST) && send(hub, m, sizeof(*m), MSG_NOSIGNAL) == sizeof(*m) &&
	     recv(hub, m, sizeof(*m), 0) == sizeof(*m);
	pthread_mutex_unlock(&asking);
	if (!ok) {
		hub_gone();
		return mem_fail(ECONNRESET);
	}
	return m->result ? mem_fail(-m->result) : 0;
}

static int ask_of(int s, enum hub_op op)
{
	struct hub_msg m = { .op = op, .sock = (uint32_t)(s - FIRST) };

	return ask(&m);
}

static void kick(int s)
{
	struct hub_msg m = { .op = HUB_KICK, .sock = (uint32_t)(s - FIRST) };

	if (send(hub, &m, sizeof(m), MSG_NOSIGNAL) < 0)
		hub_gone();
}

/* A socket that the hub has given. */
static int begin(const struct hub_msg *m, int family)
{
	if (m->sock >= HUB_SOCKS)
		return mem_fail(EPROTO);
	pthread_mutex_lock(&table);
	socks[m->sock] = (struct sock){ .used = true, .family = family, .local = m->local, .remote = m->remote };
	pthread_mutex_unlock(&table);
	return FIRST + (int)m->sock;
}

/* --- calls -------------------------------------------------------------------------------------------- */

static int hub_socket(int domain, int type, int protocol)
{
	struct hub_msg m = { .op = HUB_SOCKET };

	(void)protocol;
	if ((type & 0xf) != SOCK_STREAM)
		return mem_fail(EPROTONOSUPPORT);
	return ask(&m) ? -1 : begin(&m, domain);
}

/* bind() and connect(): where the hub says that it is now. */
static int ask_where(int s, struct hub_msg *m)
{
	m->sock = (uint32_t)(s - FIRST);
	if (ask(m))
		return -1;
	get(s)->local = m->local;
	return 0;
}

static int hub_bind(int s, const struct sockaddr *sa, socklen_t len)
{
	struct hub_msg m = { .op = HUB_BIND };

	return mem_addr_in(sa, len, &m.local) ? ask_where(s, &m) : mem_fail(EINVAL);
}

static int hub_listen(int s, int backlog)
{
	struct hub_msg m = { .op = HUB_LISTEN, .sock = (uint32_t)(s - FIRST),
			     .backlog = backlog < 0 ? 0 : (uint32_t)backlog };

	return ask(&m);
}

static int hub_connect(int s, const struct sockaddr *sa, socklen_t len)
{
	struct hub_msg m = { .op = HUB_CONNECT };

	if (!mem_addr_in(sa, len, &m.remote))
		return mem_fail(EINVAL);
	if (ask_where(s, &m))
		return -1;
	get(s)->remote = m.remote;
	return 0;
}

static int hub_accept(int s, struct sockaddr *sa, socklen_t *len)
{
	struct hub_msg m = { .op = HUB_ACCEPT, .sock = (uint32_t)(s - FIRST) };
	int c = ask(&m) ? -1 : begin(&m, get(s)->family);

	if (c >= 0)
		mem_addr_out(get(c)->family, &get(c)->remote, sa, len);
	return c;
}

static int hub_close(int s)
{
	pthread_mutex_lock(&table);
	socks[s - FIRST] = (struct sock){ .used = false };
	pthread_mutex_unlock(&table);
	return ask_of(s, HUB_CLOSE);
}

static int hub_shutdown(int s, int how)
{
	if (!(__atomic_load_n(&slot_of(s)->state, __ATOMIC_ACQUIRE) & HUB_CONNECTED))
		return mem_fail(ENOTCONN);
	if (how != SHUT_WR)
		get(s)->no_rx = true;
	return how == SHUT_RD ? 0 : ask_of(s, HUB_SHUTDOWN);
}

static int hub_getsockname(int s, struct sockaddr *sa, socklen_t *len)
{
	mem_addr_out(get(s)->family, &get(s)->local, sa, len);
	return 0;
}

static int hub_getpeername(int s, struct sockaddr *sa, socklen_t *len)
{
	if (!get(s)->remote.family)
		return mem_fail(ENOTCONN);
	mem_addr_out(get(s)->family, &get(s)->remote, sa, len);
	return 0;
}

/* As much as there is room for. */
static uint32_t fill(struct hub_ring *tx, const void *buf, size_t n)
{
	uint32_t head, room;

	pthread_mutex_lock(&filling);
	head = tx->head;
	/* acquire: pairs hub.ring */
	room = HUB_RING - (head - __atomic_load_n(&tx->tail, __ATOMIC_ACQUIRE));
	room = n < room ? (uint32_t)n : room;
	hub_ring_put(tx, head, buf, room);
	/* release: pairs hub.ring */
	__atomic_store_n(&tx->head, head + room, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&filling);
	return room;
}

/* As much as there is. */
static uint32_t empty(struct hub_ring *rx, void *buf, size_t n, bool peek)
{
	uint32_t tail, have;

	pthread_mutex_lock(&emptying);
	tail = rx->tail;
	/* acquire: pairs hub.ring */
	have = __atomic_load_n(&rx->head, __ATOMIC_ACQUIRE) - tail;
	have = n < have ? (uint32_t)n : have;
	hub_ring_get(rx, tail, buf, have);
	if (!peek) /* seq_cst: room is made before `blocked` is read; the hub sets that, then looks for room */
		__atomic_store_n(&rx->tail, tail + have, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&emptying);
	return have;
}

static ssize_t hub_send(int s, const void *buf, size_t n, int flags)
{
	struct hub_slot *slot = slot_of(s);
	uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE), done;

	(void)flags;
	if (__atomic_load_n(&gone, __ATOMIC_RELAXED))
		return mem_fail(ECONNRESET);
	if (!(state & HUB_CONNECTED))
		return mem_fail(ENOTCONN);
	if (state & HUB_GONE)
		return mem_fail(EPIPE);
	done = fill(&slot->tx, buf, n);
	if (n && !done)
		return mem_fail(EAGAIN);
	kick(s);
	return done;
}

static ssize_t hub_recv(int s, void *buf, size_t n, int flags)
{
	struct hub_slot *slot = slot_of(s);
	/* before the bytes: the last ones are there when the end is */
	uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE), done;

	done = empty(&slot->rx, buf, n, flags & MSG_PEEK);
	if (done) {
		if (__atomic_load_n(&slot->blocked, __ATOMIC_SEQ_CST) &&
		    __atomic_exchange_n(&slot->blocked, 0, __ATOMIC_SEQ_CST))
			kick(s);
		return done;
	}
	if (__atomic_load_n(&gone, __ATOMIC_RELAXED))
		return mem_fail(ECONNRESET);
	if (!(state & HUB_CONNECTED))
		return mem_fail(ENOTCONN);
	return !n || state & HUB_END || get(s)->no_rx ? 0 : mem_fail(EAGAIN);
}

static int hub_getsockopt(int s, int level, int name, void *val, socklen_t *len)
{
	return mem_getsockopt(level, name, val, len, __atomic_load_n(&gone, __ATOMIC_RELAXED) ? ECONNRESET : 0,
			      __atomic_load_n(&slot_of(s)->state, __ATOMIC_ACQUIRE) & HUB_LISTENS, HUB_RING);
}

static int hub_peak(int s)
{
	struct hub_ring *rx = &slot_of(s)->rx;

	return (int)(__atomic_load_n(&rx->head, __ATOMIC_ACQUIRE) - rx->tail);
}

/* --- events ----------------------------------------------------------------------------------------------- */

static unsigned ready(int s)
{
	struct hub_slot *slot = slot_of(s);
	uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
	unsigned r = 0;

	if (__atomic_load_n(&gone, __ATOMIC_RELAXED))
		return EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP;
	if (state & HUB_LISTENS)
		return __atomic_load_n(&slot->waiting, __ATOMIC_ACQUIRE) ? EPOLLIN : 0;
	if (!(state & HUB_CONNECTED))
		return EPOLLOUT | EPOLLHUP;
	if (hub_peak(s) || state & HUB_END || socks[s - FIRST].no_rx)
		r |= EPOLLIN;
	if (state & HUB_END)
		r |= EPOLLRDHUP;
	if (state & HUB_GONE || slot->tx.head - __atomic_load_n(&slot->tx.tail, __ATOMIC_ACQUIRE) < HUB_RING)
		r |= EPOLLOUT;
	return (state & HUB_END) && (state & HUB_GONE) ? r | EPOLLHUP : r;
}

static unsigned hub_ep_ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	(void)epfd, (void)ev;
	pthread_mutex_lock(&table);
	socks[s - FIRST].pdata = op == nstack_ep_triggle_del ? NULL : pdata;
	pthread_mutex_unlock(&table);
	return ready(s);
}

static unsigned hub_ep_getevt(int epfd, int s, unsigned want)
{
	(void)epfd;
	return ready(s) & (want | EPOLLERR | EPOLLHUP);
}

static int hub_fd_check(int s, int flag)
{
	return flag == STACK_FD_INVALID_CHECK && get(s) != NULL;
}

static void *report(void *arg)
{
	struct hub_event ev;
	void *pdata;

	(void)arg;
	pthread_setname_np(pthread_self(), "nstack-hub");
	while (recv(events, &ev, sizeof(ev), 0) == sizeof(ev)) {
		if (ev.sock >= HUB_SOCKS)
			break;
		pthread_mutex_lock(&table);
		pdata = socks[ev.sock].used ? socks[ev.sock].pdata : NULL;
		pthread_mutex_unlock(&table);
		if (pdata)
			nstack.event_cb(pdata, (int)ev.events);
	}
	hub_gone();
	return NULL;
}

/* --- life --------------------------------------------------------------------------------------------------- */

static int high(int fd)
{
	int up = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	if (up < 0)
		return fd;
	close(fd);
	return up;
}

static int greet(void)
{
	struct hub_hello hello = { 0 };
	struct iovec iov = { &hello, sizeof(hello) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} c;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	int fds[2];

	if (recvmsg(hub, &msg, MSG_CMSG_CLOEXEC) != sizeof(hello) || c.head.cmsg_len != CMSG_LEN(sizeof(fds)))
		return EPROTO;
	memcpy(fds, CMSG_DATA(&c.head), sizeof(fds));
	events = high(fds[1]);
	if (hello.version != HUB_VERSION || hello.memory_size != sizeof(*memory)) {
		close(fds[0]);
		return EPROTO;
	}
	memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	close(fds[0]);
	return memory == MAP_FAILED ? ENOMEM : 0;
}

static int reach(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = ANSWER_S };
	const char *path = getenv("NSTACK_HUB");

	if (!path || strlen(path) >= sizeof(un.sun_path)) {
		fprintf(stderr, "nstack: NSTACK_HUB must name the hub's socket\n");
		return EINVAL;
	}
	strcpy(un.sun_path, path);
	hub = high(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	if (hub < 0 || setsockopt(hub, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(hub, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(hub, (struct sockaddr *)&un, sizeof(un)) < 0)
		return errno;
	return greet();
}

/* The session is the parent's: the hub is to see its end, whatever children are left. */
static void leave(void)
{
	close(hub);
	close(events);
	hub = events = -1;
}

static int init(void)
{
	sigset_t all, old;
	pthread_t thread;
	int err = reach();

	if (err) {
		leave();
		return err;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&thread, NULL, report, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_detach(thread);
	return err ? err : pthread_atfork(NULL, NULL, leave);
}

int hub_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int hub_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	nstack_socket_ops *op = &proc_fun->socket_ops;
	nstack_extern_ops *ext = &proc_fun->extern_ops;

	nstack = *event_ops;
	op->pfsocket = hub_socket;
	op->pfbind = hub_bind;
	op->pflisten = hub_listen;
	op->pfaccept = hub_accept;
	op->pfconnect = hub_connect;
	op->pfclose = hub_close;
	op->pfshutdown = hub_shutdown;
	op->pfgetsockname = hub_getsockname;
	op->pfgetpeername = hub_getpeername;
	op->pfgetsockopt = hub_getsockopt;
	op->pfsetsockopt = mem_setsockopt;
	op->pfsend = hub_send;
	op->pfrecv = hub_recv;
	op->pffcntl = mem_fcntl;
	ext->module_init = init;
	ext->ep_ctl = hub_ep_ctl;
	ext->ep_getevt = hub_ep_getevt;
	ext->stack_fd_check = hub_fd_check;
	ext->peak = hub_peak;
	return 0;
}
