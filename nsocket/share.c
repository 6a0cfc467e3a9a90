/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/share.c - connections that a forked child shares with its parent's stack
 *
 * A session lives in shared memory that the child inherits, so both can read and write its FIFOs;
 * only the stack is the parent's. For each fork with live connections there is a link: a shared
 * page with one slot per connection and a socketpair that carries doorbells and, by its end of
 * file, the news that the other side is gone (exit, crash or exec).
 *
 *   child -> parent: command bits in the slot, one byte; the parent's helper thread executes them.
 *   parent -> child: event bits in the slot, one byte; a thread of the child, made at its first
 *   wait, hands them to the child's own waiters.
 *
 * A session ends when the parent and every child have closed it. Where sharing does not reach, the
 * connection moves to the kernel (handover.c), by the parent, for all who have it: when the parent
 * ends or becomes another program; when a child forks again, becomes another program, or asks for it.
 * For that the parent keeps a descriptor of the shadow when the program closes its own. A parent that
 * is killed, or lacks the privilege, can't do it: the child's connections then answer ECONNRESET. Where the
 * stack is nstackd's, the parent parks them there before it forks, and a child whose parent is dead takes
 * them over, or finds that the kernel has them.
 * Of all who read (or write) a connection one at a time is at the FIFO (sides.h).
 *
 * Moving: the parent sets every slot's phase to FREEZING and waits until no child is at the FIFOs
 * (busy); a child announces itself in busy, then looks at the phase. Ordering share.phase: both are
 * sequentially consistent, so one sees the other.
 *
 * Threads: parent's side under the worker lock; child's side as said at each function.
 */
#define _GNU_SOURCE
#include "nsocket/share.h"

#include <nsocket/handover.h>
#include <netinet/tcp.h>
#include <nsocket/init.h>
#include <rd/log.h>
#include <stacks/remote/remote.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum phase { LIVE, FREEZING, MOVED };

struct slot {
	uint32_t cmd;    /* atomic: SOCK_CMD_*, child to parent */
	uint32_t events; /* atomic: STACK_EV_*, parent to child */
	uint32_t phase;  /* atomic: enum phase; by the parent */
	uint32_t busy;   /* atomic: SHARE_RX, SHARE_TX; by the child */
	uint32_t alone;  /* atomic: the parent's program has closed it; by the parent */
	int32_t answer;  /* atomic: ASKED by the child; 0 or -errno by the parent */
};
#define ASKED 1
#define FREEZE_NS 200000000ull /* a child that takes longer has died or was stopped */
#define ASK_NS 2000000000ull

struct link_shm {
	uint32_t n;
	uint32_t to_parent, to_child; /* atomic: a bell is on its way */
	struct slot slot[];
};

struct share_ref {
	struct share_ref *next;
	struct link *link;
	uint32_t idx;
};

/* A session that at least one child has or had. Worker lock. */
struct share {
	struct nsock *ns;      /* the parent's, NULL = closed */
	struct shm_session *s;
	struct share_ref *refs;
	int shadow;            /* descriptor kept for children after the parent's close, or -1 */
	int linger_s;
	bool port_held;
	bool asked;            /* a child wants it moved */
	bool moved;
	bool left;             /* tried when this process ended */
	bool parked;           /* nstackd keeps it for children when this process dies */
	struct nst_addr held;
	uint8_t proto;
	struct share *prev, *next; /* all */
};

/* Parent's side of a link. Worker lock. */
struct link {
	struct link *next;
	struct link_shm *shm;
	size_t size;
	int sock;
	struct share **share; /* by slot; NULL: the child closed it */
};

static struct link *links;
static bool by_daemon;          /* the stack that the child of the last fork shares is nstackd's */
static struct share *shares;    /* worker lock */
static struct link *fresh;      /* between prepare and parent */
static int fresh_child = -1;    /* the child's end meanwhile */
static int links_ep = -1;

/* Child's side. */
static struct link_shm *up;     /* NULL: no parent to talk to */
static int up_sock = -1;
static struct nsock **up_socks; /* by slot; up_lock */
static pthread_mutex_t up_lock = PTHREAD_MUTEX_INITIALIZER;
static bool up_thread, up_lost;

static void bell(int sock, uint32_t *flag)
{
	/* seq_cst: the slot was written before; who clears the flag looks at the slots after */
	if (!__atomic_exchange_n(flag, 1, __ATOMIC_SEQ_CST))
		libc.send(sock, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* --- parent --------------------------------------------------------------------------------- */

/* A socket that is not of our own parent's stack. */
static struct nsock *own_sock(int fd)
{
	struct nfile *f = fd_is_protected(fd) ? NULL :
			  __atomic_load_n(&nfile_table[fd], __ATOMIC_ACQUIRE); /* acquire: as fd_get() */

	return f && f->kind == NF_SOCK && !nsock_of(f)->remote ? nsock_of(f) : NULL;
}

static struct nsock *shareable(int fd)
{
	struct nsock *ns = own_sock(fd);

	return ns && nsock_mode(ns) == SK_STREAM && ns->s ? ns : NULL;
}

static struct share *share_new(struct nsock *ns)
{
	struct share *sh = calloc(1, sizeof(*sh));

	if (!sh)
		return NULL;
	sh->ns = ns;
	sh->s = ns->s;
	sh->proto = ns->proto;
	sh->shadow = -1;
	sh->next = shares;
	if (shares)
		shares->prev = sh;
	shares = sh;
	ns->share = sh;
	ns->s->user = (uintptr_t)sh | 1;
	return sh;
}

static void share_delete(struct share *sh)
{
	if (sh->prev)
		sh->prev->next = sh->next;
	else
		shares = sh->next;
	if (sh->next)
		sh->next->prev = sh->prev;
	fd_hide_close(sh->shadow);
	free(sh);
}

/* Nobody has it any more. */
static void share_free(struct share *sh)
{
	sh->s->user = 0;
	worker.ops->close(worker.st, sh->s, sh->linger_s);
	if (sh->port_held)
		ports_release(sh->proto, &sh->held);
	share_delete(sh);
}

static void ref_drop(struct link *l, uint32_t idx)
{
	struct share *sh = l->share[idx];
	struct share_ref **pp, *r;

	if (!sh)
		return;
	l->share[idx] = NULL;
	for (pp = &sh->refs; (r = *pp); pp = &r->next)
		if (r->link == l && r->idx == idx) {
			*pp = r->next;
			free(r);
			break;
		}
	if (sh->refs)
		return;
	if (!sh->ns) {
		share_free(sh);
	} else if (sh->parked) {
		remote_unpark(worker.st, sh->s);
		sh->parked = false;
	}
}

static void link_free(struct link *l)
{
	struct link **pp;

	for (pp = &links; *pp && *pp != l; pp = &(*pp)->next)
		;
	if (*pp)
		*pp = l->next;
	for (uint32_t i = 0; l->share && i < l->shm->n; i++)
		ref_drop(l, i);
	/* closing would not do: a child forked since may have the socket open, too */
	if (links_ep >= 0)
		libc.epoll_ctl(links_ep, EPOLL_CTL_DEL, l->sock, NULL);
	fd_hide_close(l->sock);
	if (l->shm)
		munmap(l->shm, l->size);
	free(l->share);
	free(l);
}

/* Whoever can't be parked is lost with this process: the rest goes on without. */
static void park(struct share *sh, int fd)
{
	if (by_daemon && !sh->parked)
		sh->parked = !remote_park(worker.st, sh->s, fd);
}

static int slot_add(struct link *l, struct nsock *ns, int fd)
{
	struct share_ref *r = malloc(sizeof(*r));
	uint32_t i = l->shm->n;
	struct share *sh = ns->share ? ns->share : r ? share_new(ns) : NULL;

	if (!r || !sh) {
		free(r);
		return -ENOMEM;
	}
	*r = (struct share_ref){ .next = sh->refs, .link = l, .idx = i };
	sh->refs = r;
	l->share[i] = sh;
	ns->slot = i;
	l->shm->n++;
	park(sh, fd);
	return 0;
}

static struct link *link_new(uint32_t n)
{
	struct link *l = calloc(1, sizeof(*l));
	int sv[2];

	if (!l)
		return NULL;
	l->sock = -1;
	l->size = sizeof(*l->shm) + n * sizeof(struct slot);
	l->share = calloc(n, sizeof(*l->share));
	l->shm = mmap(NULL, l->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l->shm == MAP_FAILED)
		l->shm = NULL;
	if (!l->share || !l->shm ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv)) {
		free(l->share);
		l->share = NULL;
		link_free(l);
		return NULL;
	}
	l->sock = fd_hide(sv[0]);
	fresh_child = fd_hide(sv[1]);
	return l;
}

/* Open connections among the descriptors get slots, each one once (dup). One that another thread accepts
 * or connects from here on has none: in the child it is lost. */
void share_fork_prepare(void)
{
	struct nsock *ns;
	uint32_t n = 0;

	fresh = NULL;
	by_daemon = worker.ops == &remote_stack_ops;
	if (!worker_running())
		return;
	rcu_read_lock(); /* other threads may close what we look at */
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		ns = own_sock(fd);
		if (ns)
			ns->slot = UINT32_MAX;
		n += shareable(fd) != NULL;
	}
	if (n)
		fresh = link_new(n);
	for (int fd = fd_next(0); fresh && fd >= 0; fd = fd_next(fd + 1)) {
		ns = shareable(fd);
		if (ns && ns->slot == UINT32_MAX && fresh->shm->n < n && slot_add(fresh, ns, fd))
			break;
	}
	rcu_read_unlock();
}

void share_fork_parent(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = fresh };

	if (!fresh)
		return;
	fd_hide_close(fresh_child);
	fresh_child = -1;
	if (links_ep < 0)
		links_ep = fd_hide(libc.epoll_create1(EPOLL_CLOEXEC));
	fresh->next = links;
	links = fresh;
	if (links_ep < 0 || libc.epoll_ctl(links_ep, EPOLL_CTL_ADD, fresh->sock, &ev))
		link_free(fresh);
	else
		worker_helper_fd(links_ep);
	fresh = NULL;
}

int share_fd(void)
{
	return links_ep;
}

static void slot_run(struct link *l, uint32_t i)
{
	uint32_t bits = __atomic_exchange_n(&l->shm->slot[i].cmd, 0, __ATOMIC_SEQ_CST);
	struct share *sh = l->share[i];

	if (!bits || !sh)
		return;
	if (bits & (SOCK_CMD_TX | SOCK_CMD_TX_MORE))
		worker.ops->tx_ready(worker.st, sh->s, bits & SOCK_CMD_TX ? 0 : STACK_TX_MORE);
	if (bits & SOCK_CMD_RX_FREED)
		worker.ops->rx_freed(worker.st, sh->s);
	if (bits & SOCK_CMD_SHUT_RD)
		worker.ops->shutdown(worker.st, sh->s, SHUT_RD);
	if (bits & SOCK_CMD_SHUT_WR)
		worker.ops->shutdown(worker.st, sh->s, SHUT_WR);
	if (bits & SOCK_CMD_HANDOVER)
		sh->asked = true;
	if (bits & SOCK_CMD_CLOSE)
		ref_drop(l, i);
}

static void link_run(struct link *l)
{
	char buf[64];
	ssize_t r;

	do
		r = libc.recv(l->sock, buf, sizeof(buf), MSG_DONTWAIT);
	while (r == sizeof(buf));
	__atomic_store_n(&l->shm->to_parent, 0, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < l->shm->n; i++)
		slot_run(l, i);
	if (r == 0) /* the child ended or became another program */
		link_free(l);
}

static bool asked_serve(void);

void share_run(void)
{
	struct epoll_event ev[16];
	int n;

	worker_lock();
	n = libc.epoll_wait(links_ep, ev, 16, 0); /* what it names is not freed meanwhile */
	for (int i = 0; worker.st && i < n; i++)
		link_run(ev[i].data.ptr);
	worker_unlock();
	while (asked_serve())
		;
}

/* --- moving to the kernel ---------------------------------------------------------------------- */

static bool children_busy(const struct share *sh)
{
	for (struct share_ref *r = sh->refs; r; r = r->next)
		if (__atomic_load_n(&r->link->shm->slot[r->idx].busy, __ATOMIC_SEQ_CST))
			return true;
	return false;
}

/* They are at a copy of bytes, or in read() from a file; none waits for us. */
void share_freeze(struct share *sh)
{
	static const struct timespec moment = { 0, 20000 };
	uint64_t end = worker_now() + FREEZE_NS;

	for (struct share_ref *r = sh->refs; r; r = r->next)
		/* seq_cst: pairs share.phase */
		__atomic_store_n(&r->link->shm->slot[r->idx].phase, FREEZING, __ATOMIC_SEQ_CST);
	while (children_busy(sh) && worker_now() < end)
		syscall(SYS_nanosleep, &moment, NULL);
}

void share_thaw(struct share *sh, int err)
{
	sh->moved = !err;
	for (struct share_ref *r = sh->refs; r; r = r->next) {
		struct slot *s = &r->link->shm->slot[r->idx];

		__atomic_store_n(&s->phase, err ? LIVE : MOVED, __ATOMIC_SEQ_CST);
		__atomic_store_n(&s->answer, err, __ATOMIC_SEQ_CST);
		__atomic_or_fetch(&s->events, STACK_EV_IN | STACK_EV_OUT, __ATOMIC_SEQ_CST);
		bell(r->link->sock, &r->link->shm->to_child);
	}
}

/* The parent has closed it. */
static void orphan_move(struct share *sh)
{
	int err = -EBADF;

	share_freeze(sh);
	if (sh->shadow >= 0)
		err = handover_session_locked(sh->s, sh->shadow);
	if (!err) {
		fd_hide_close(sh->shadow); /* or the kernel would never see the last close */
		sh->shadow = -1;
	}
	share_thaw(sh, err);
}

static void share_move(struct share *sh, enum sock_reason why)
{
	struct nsock *ns = sh->ns;

	if (!ns) {
		orphan_move(sh);
	} else if (nfile_tryget(&ns->f)) { /* it stays, so the lock may go */
		worker_unlock();
		if (nsock_handover(ns, -1, why)) {
			worker_lock();
			if (ns->share)
				share_thaw(ns->share, -ENOTCONN);
			worker_unlock();
		}
		nfile_put(&ns->f);
		worker_lock();
	} /* else it is about to be closed: our unlocking lets that happen */
}

/* Serve one child that asked; false: none did. */
static bool asked_serve(void)
{
	struct share *sh;

	worker_lock();
	for (sh = worker.st ? shares : NULL; sh && !sh->asked; sh = sh->next)
		;
	if (sh) {
		sh->asked = sh->ns && !__atomic_load_n(&sh->ns->f.refs, __ATOMIC_RELAXED);
		if (!sh->moved)
			share_move(sh, SR_forked);
	}
	worker_unlock();
	return sh;
}

void share_leave_all(void)
{
	struct share *sh;

	if (!worker_running())
		return;
	worker_lock();
	for (sh = worker.st ? shares : NULL; sh; sh = sh ? sh->next : shares) {
		if (sh->moved || !sh->refs || sh->left)
			continue;
		sh->left = true; /* once */
		share_move(sh, SR_outlived);
		sh = NULL; /* the list may have changed */
	}
	worker_unlock();
}

void share_keep(struct nsock *ns, int fd)
{
	if (ns->share && ns->kept_fd < 0)
		ns->kept_fd = fd_hide(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

struct nsock *share_event(struct share *sh, uint32_t events)
{
	for (struct share_ref *r = sh->refs; r; r = r->next) {
		__atomic_or_fetch(&r->link->shm->slot[r->idx].events, events | STACK_EV_IN,
				  __ATOMIC_SEQ_CST);
		bell(r->link->sock, &r->link->shm->to_child);
	}
	return sh->ns;
}

bool share_parent_gone(struct nsock *ns)
{
	struct share *sh = ns->share;

	if (!sh)
		return false;
	ns->share = NULL;
	if (!sh->refs) {
		share_delete(sh);
		return false;
	}
	for (struct share_ref *r = sh->refs; r; r = r->next)
		/* relaxed: only says what is meant, orders nothing */
		__atomic_store_n(&r->link->shm->slot[r->idx].alone, 1, __ATOMIC_RELAXED);
	sh->ns = NULL;
	sh->shadow = sh->moved ? -1 : ns->kept_fd;
	if (sh->shadow >= 0)
		ns->kept_fd = -1;
	sh->linger_s = ns->linger_s;
	sh->port_held = ns->port_held;
	sh->held = ns->held;
	return true;
}

/* --- child ----------------------------------------------------------------------------------- */

/* In the atfork handler: the forking thread is alone. */
void share_fork_child(void)
{
	struct nsock *ns;

	/* the parent's links to other children; their descriptors are closed with the protected ones,
	 * all but up_sock (fork.c) */
	links = NULL;
	shares = NULL;
	links_ep = -1;
	up_thread = up_lost = false;
	up_socks = NULL;
	up = NULL;
	up_sock = -1;
	pthread_mutex_init(&up_lock, NULL);
	if (!fresh)
		return;
	up_socks = calloc(fresh->shm->n, sizeof(*up_socks));
	if (up_socks) {
		up_sock = fresh_child;
		up = fresh->shm;
	}
	for (int fd = fd_next(0); up && fd >= 0; fd = fd_next(fd + 1)) {
		ns = shareable(fd);
		if (!ns || ns->slot >= up->n)
			continue;
		ns->remote = true;
		ns->share = NULL;
		up_socks[ns->slot] = ns;
	}
	fresh = NULL;
	fresh_child = -1;
}

int share_up_fd(void)
{
	return up_sock;
}

void share_post(struct nsock *ns, uint32_t bits)
{
	if (bits & SOCK_CMD_CLOSE) {
		lock_take(&up_lock);
		if (up_socks)
			up_socks[ns->slot] = NULL;
		lock_give(&up_lock);
	}
	if (!up || up_lost)
		return;
	__atomic_or_fetch(&up->slot[ns->slot].cmd, bits, __ATOMIC_SEQ_CST);
	bell(up_sock, &up->to_parent);
}

static uint32_t phase_of(const struct nsock *ns)
{
	/* seq_cst: pairs share.phase */
	return __atomic_load_n(&up->slot[ns->slot].phase, __ATOMIC_SEQ_CST);
}

/* The parent has moved it: the shadow is the connection. */
static void child_moved(struct nsock *ns)
{
	lock_take(&ns->lock);
	if (ns->remote) {
		share_post(ns, SOCK_CMD_CLOSE);
		ns->remote = false;
		ns->port_held = false;
		__atomic_store_n(&ns->s, NULL, __ATOMIC_RELEASE);
		nsock_to_kernel(ns, SR_forked);
	}
	lock_give(&ns->lock);
	nsock_wake(ns, STACK_EV_IN | STACK_EV_OUT);
}

/* With the parent dead, nstackd has moved it, or another child has. */
static bool session_gone(struct nsock *ns)
{
	struct shm_session *s = nsock_session(ns);

	return by_daemon && s && shm_session_state(s) == SHM_S_FREE;
}

static bool kernel_has(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	return !libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) && ti.tcpi_state != TCP_CLOSE;
}

/* The parent is dead. 0: it is this process's now, or (-ENOENT) the kernel has it, or is lost. Under ns->lock,
 * rx_lock and tx_lock. */
static int take(struct nsock *ns, int fd)
{
	static const struct timespec moment = { 0, 1000000 };
	uint64_t end = worker_now() + ASK_NS;
	struct shm_session *s = NULL;
	int err = -ENOENT;

	if (worker_start() && worker.ops == &remote_stack_ops) {
		worker_lock();
		err = worker.st ? remote_take(worker.st, fd, &s) : -ENOENT;
		ns->remote = err != 0;
		if (!err)
			nsock_session_attach_locked(ns, s);
		worker_unlock();
	}
	while (err == -EAGAIN && !kernel_has(fd) && worker_now() < end)
		syscall(SYS_nanosleep, &moment, NULL);
	return err;
}

static void outlive_locked(struct nsock *ns)
{
	int fd = nfile_fd(&ns->f);

	if (fd >= 0 && !take(ns, fd))
		return;
	ns->remote = false;
	__atomic_store_n(&ns->s, NULL, __ATOMIC_RELEASE);
	if (kernel_has(fd)) {
		nsock_to_kernel(ns, SR_outlived);
	} else {
		nsock_reason(ns, SR_forked);
		nsock_set_mode(ns, SK_LOST);
	}
}

/* The parent has died, and left the connection to nstackd. */
static void outlive(struct nsock *ns)
{
	lock_take(&ns->lock);
	lock_take(&ns->rx_lock);
	lock_take(&ns->tx_lock);
	if (ns->remote)
		outlive_locked(ns);
	lock_give(&ns->tx_lock);
	lock_give(&ns->rx_lock);
	lock_give(&ns->lock);
	watch_notify(&ns->f, NSOCK_EV_REWATCH);
	nsock_wake(ns, STACK_EV_IN | STACK_EV_OUT);
}

bool share_gone(struct nsock *ns)
{
	if (up && phase_of(ns) == MOVED)
		child_moved(ns);
	else if (up && session_gone(ns))
		outlive(ns);
	else
		return false;
	return true;
}

bool share_enter(struct nsock *ns, uint32_t what)
{
	static const struct timespec moment = { 0, 20000 };
	uint64_t end = 0;
	struct slot *s;

	if (!up)
		return true;
	if (by_daemon)
		share_listen(); /* to hear of the parent's end in time */
	for (s = &up->slot[ns->slot];;) {
		/* seq_cst: pairs share.phase */
		__atomic_or_fetch(&s->busy, what, __ATOMIC_SEQ_CST);
		if (phase_of(ns) == LIVE && !session_gone(ns))
			return true;
		__atomic_and_fetch(&s->busy, ~what, __ATOMIC_SEQ_CST);
		if (phase_of(ns) == MOVED || session_gone(ns))
			return false;
		if (!end)
			end = worker_now() + ASK_NS;
		if (worker_now() > end)
			return true; /* the parent died in the middle of it: nobody reads any more */
		syscall(SYS_nanosleep, &moment, NULL);
	}
}

void share_leave(struct nsock *ns, uint32_t what)
{
	if (up)
		__atomic_and_fetch(&up->slot[ns->slot].busy, ~what, __ATOMIC_SEQ_CST);
}

bool share_alone(struct nsock *ns)
{
	return up && ns->remote && __atomic_load_n(&up->slot[ns->slot].alone, __ATOMIC_RELAXED);
}

static bool parent_lives(void)
{
	char c;

	return libc.recv(up_sock, &c, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
}

int share_ask(struct nsock *ns)
{
	static const struct timespec moment = { 0, 50000 };
	uint64_t end = worker_now() + ASK_NS;
	int32_t answer = ASKED;
	struct slot *s;

	if (!up)
		return -ECONNRESET;
	s = &up->slot[ns->slot];
	__atomic_store_n(&s->answer, ASKED, __ATOMIC_SEQ_CST);
	share_post(ns, SOCK_CMD_HANDOVER);
	while (answer == ASKED && !share_gone(ns)) {
		if (!parent_lives() || worker_now() > end)
			return -ECONNRESET;
		syscall(SYS_nanosleep, &moment, NULL);
		answer = __atomic_load_n(&s->answer, __ATOMIC_SEQ_CST);
	}
	return share_gone(ns) || nsock_mode(ns) == SK_KERNEL ? 0 : answer;
}

static void child_event(struct nsock *ns, uint32_t ev, bool lost)
{
	if (share_gone(ns))
		return;
	if (lost && by_daemon) {
		outlive(ns);
		return;
	}
	if (lost) {
		nsock_reason(ns, SR_forked);
		nsock_set_mode(ns, SK_LOST);
		ev = STACK_EV_ERR | STACK_EV_HUP | STACK_EV_IN;
	}
	if (ev)
		nsock_wake(ns, ev);
}

static void child_events(bool lost)
{
	struct nsock *ns;

	for (uint32_t i = 0; i < up->n; i++) {
		uint32_t ev = __atomic_exchange_n(&up->slot[i].events, 0, __ATOMIC_SEQ_CST);

		lock_take(&up_lock);
		ns = up_socks[i];
		if (ns && !nfile_tryget(&ns->f))
			ns = NULL;
		lock_give(&up_lock);
		if (!ns)
			continue;
		child_event(ns, ev, lost);
		nfile_put(&ns->f);
	}
}

static void *child_main(void *arg)
{
	struct pollfd p = { .fd = up_sock, .events = POLLIN };
	char buf[64];
	ssize_t r = 1;

	pthread_setname_np(pthread_self(), "nstack-share");
	while (r) {
		libc.poll(&p, 1, -1);
		r = libc.recv(up_sock, buf, sizeof(buf), MSG_DONTWAIT);
		__atomic_store_n(&up->to_child, 0, __ATOMIC_SEQ_CST);
		if (!r)
			__atomic_store_n(&up_lost, true, __ATOMIC_SEQ_CST);
		child_events(!r);
	}
	return NULL;
}

void share_listen(void)
{
	sigset_t all, old;
	pthread_t t;

	if (__atomic_load_n(&up_thread, __ATOMIC_ACQUIRE) || !up)
		return;
	lock_take(&up_lock);
	if (!up_thread) {
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &old);
		if (!pthread_create(&t, NULL, child_main, NULL)) {
			pthread_detach(t);
			__atomic_store_n(&up_thread, true, __ATOMIC_RELEASE);
		}
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	lock_give(&up_lock);
}
