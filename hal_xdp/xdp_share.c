// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_share.c - several processes on one interface: who is there, joining, dying
 *
 * The first process binds the abstract unix name `nstack-port/<ifindex>` (one per network
 * namespace) and is the server. A later one connects, gets a slot, the two memfds and one XSK per
 * queue, binds its own XSKs to those and closes them. The connection stays: its end tells the
 * server that the member is gone, and the members that the server is gone. Then each tries to
 * take the name; one wins, the others connect to it ("rejoin"). The packet path is not involved.
 *
 * The server also runs the sweep that finds a dead member's frames (xdp_shared.h): mark, wait,
 * ask all members to stamp, collect. Queues are swept one by one as they get ripe.
 *
 * Everything but the opening is driven by xdp_share_service() on one epoll descriptor, does not
 * block, and wakes nobody while nothing happens: timers run only during a sweep or a takeover.
 * Messages have a fixed size and are checked. Descriptors are given to root and to the user who
 * made the memory, and memory is taken from those only; both also hold for members that gave up
 * root since. Anybody may bind the name first, though: who finds a stranger there goes on without
 * sharing, so that a squatter can at most keep processes apart, not keep them off the interface.
 * When the name is free again it is taken, for others to join.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MSG_MAGIC 0x6e737870u
#define CONNS (HAL_XDP_MEMBERS_MAX + 4)
#define NO_SLOT UINT32_MAX
#define MS 1000000ull
#define OPEN_NS (3000 * MS)
#define STRANGER_NS (1500 * MS) /* members that gave up root look like one, and may be slow */
#define TICK_MAX_NS (16000 * MS)
#define RETRY_MIN_NS (20 * MS)
#define RETRY_MAX_NS (1000 * MS)

enum msg_type { MSG_ATTACH = 1, MSG_ATTACHED, MSG_REJOIN, MSG_STAMP, MSG_STAMPED };

struct msg {
	uint32_t magic, version;
	uint32_t type; /* enum msg_type */
	uint32_t slot;
	uint32_t round; /* MSG_STAMP and its answer */
	int32_t status; /* MSG_ATTACHED: 0 or -errno */
	uint32_t ifindex, nqueues;
};

struct conn {
	int fd;
	uint32_t slot;  /* NO_SLOT until attached */
	uint32_t round; /* last one answered */
	int32_t pid;
	bool may_join;  /* else it may only come back to the slot of its pid */
};

struct xdp_share {
	int ep_fd, timer_fd;
	int listen_fd;         /* the server's; -1 in the others */
	int up_fd;             /* to the server; -1 in the server */
	struct conn conn[CONNS];
	uint32_t round;
	uint32_t stamp_round;  /* answer owed to the server, 0 = none */
	uint64_t todo, ripe;   /* queues to sweep; those that may be collected */
	uint64_t mark_ns, tick_ns;
	uint64_t retry_ns;     /* between attempts to take over */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void timer_in(struct xdp_share *s, uint64_t ns)
{
	struct itimerspec it = { .it_value = { ns / 1000000000, ns % 1000000000 } };

	timerfd_settime(s->timer_fd, 0, &it, NULL);
}

static socklen_t name(const struct xdp_port *p, struct sockaddr_un *sun)
{
	int n;

	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(sun->sun_path + 1, sizeof(sun->sun_path) - 1, "nstack-port/%u",
		     p->hal.ifindex);
	return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}

static int watch(struct xdp_share *s, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(s->ep_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* --- messages ------------------------------------------------------------------------------ */

static int send_msg(int fd, uint32_t type, uint32_t slot, uint32_t round)
{
	struct msg m = { MSG_MAGIC, XDP_SHARED_VERSION, type, slot, round, 0, 0, 0 };

	return send(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(m) ? 0 : -errno;
}

/* 1, 0: nothing there, -errno: connection is no good. fd: room for *nfd, closed on error. */
static int recv_msg(int sock, struct msg *m, int *fd, uint32_t *nfd)
{
	char ctl[CMSG_SPACE(sizeof(int) * (HAL_XDP_QUEUES_MAX + 2))]
		__attribute__((aligned(sizeof(size_t))));
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	uint32_t max = nfd ? *nfd : 0, got = 0, n, i;
	struct cmsghdr *c;
	ssize_t r;

	if (max) {
		mh.msg_control = ctl;
		mh.msg_controllen = sizeof(ctl);
	}
	r = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (r < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < max)
				fd[got++] = one;
			else
				close(one);
		}
	}
	if (nfd)
		*nfd = got;
	if (r == sizeof(*m) && m->magic == MSG_MAGIC && m->version == XDP_SHARED_VERSION &&
	    !(mh.msg_flags & MSG_TRUNC))
		return 1;
	while (got)
		close(fd[--got]);
	if (nfd)
		*nfd = 0;
	return r == 0 ? -EPIPE : -EPROTO;
}

static bool peer_cred(int fd, struct ucred *cr)
{
	socklen_t len = sizeof(*cr);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cr, &len);
}

/* Who may get our descriptors: root, and the user who made the memory. Not simply the user that we
 * are now: a server that gave up root keeps what root opened, and others of its user have no right
 * to that. */
static bool user_may_join(const struct xdp_port *p, uid_t uid)
{
	struct stat st;

	return uid == 0 || (!fstat(p->ctl_fd, &st) && uid == st.st_uid);
}

/* From whom we take memory: root, or who is all that we are. */
static bool user_trusted(uid_t uid)
{
	uid_t real, eff, saved;

	return uid == 0 || (!getresuid(&real, &eff, &saved) && uid == real && uid == eff &&
			    uid == saved);
}

/* The maker's id stays with a memfd, so that a server that gave up root can show root's. */
static bool memory_trusted(const struct xdp_port *p)
{
	const int fd[] = { p->ctl_fd, p->umem_fd };
	struct stat st;
	int i;

	for (i = 0; i < 2; i++)
		if (fstat(fd[i], &st) || !user_trusted(st.st_uid) ||
		    !(fcntl(fd[i], F_GET_SEALS) & F_SEAL_SHRINK))
			return false;
	return true;
}

static bool is_member(const struct xdp_port *p, int32_t pid)
{
	uint32_t i;

	for (i = 0; i < p->lay.nmembers && pid > 0; i++)
		if (p->sh->member[i].used && p->sh->member[i].pid == pid)
			return true;
	return false;
}

/* --- the server: sweep --------------------------------------------------------------------- */

static uint64_t all_queues(const struct xdp_port *p)
{
	return p->hal.nqueues == 64 ? ~0ull : (1ull << p->hal.nqueues) - 1;
}

static void sweep_start(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	uint32_t i;

	if (p->lay.zerocopy)
		return;
	__atomic_store_n(&p->sh->epoch, p->sh->epoch + 1, __ATOMIC_RELEASE);
	s->todo = all_queues(p);
	s->ripe = 0;
	for (i = 0; i < p->hal.nqueues; i++) {
		struct xdp_queue *q = &p->queue[i];
		uint64_t empty = xdp_sock_fill_empty(q);

		if (!xdp_shared_lock(q->sq)) { /* somebody is stuck in it: later, from the start */
			s->todo = 0;
			break;
		}
		xdp_sweep_mark_locked(p->sh, i, &q->fq, empty);
		xdp_shared_unlock(q->sq);
	}
	p->sh->sweep = XDP_SWEEP_MARKED;
	s->mark_ns = now_ns();
	s->tick_ns = XDP_SWEEP_GRACE_NS + 10 * MS;
	timer_in(s, s->todo ? s->tick_ns : 20 * MS);
}

/* Is there nothing to look for? Is it time to collect? */
static void sweep_judge(struct xdp_port *p, uint32_t i)
{
	struct xdp_queue *q = &p->queue[i];
	struct xdp_share *s = p->share;
	uint32_t known = *q->fq.prod - xdp_load_acquire(q->fq.cons) + q->npending + q->held +
			 (xdp_load_acquire(q->rx.prod) - q->rx.my_cons);

	if (known == p->lay.rx_frames)
		s->todo &= ~(1ull << i);
	else if (xdp_shared_taken(p->sh, i) - q->sq->mark_taken >= XDP_SWEEP_DELIVERIES ||
		 xdp_sock_fill_empty(q) != q->sq->mark_empty)
		s->ripe |= 1ull << i;
}

static void sweep_idle(struct xdp_port *p)
{
	p->sh->sweep = XDP_SWEEP_IDLE;
	timer_in(p->share, 0);
}

static void sweep_wait(struct xdp_port *p)
{
	struct xdp_share *s = p->share;

	if (!s->todo) {
		sweep_idle(p);
		return;
	}
	p->sh->sweep = XDP_SWEEP_MARKED;
	timer_in(s, s->tick_ns);
	if (s->tick_ns < TICK_MAX_NS)
		s->tick_ns *= 2;
}

static struct conn *conn_of_slot(struct xdp_share *s, uint32_t slot)
{
	int i;

	for (i = 0; i < CONNS; i++)
		if (s->conn[i].fd >= 0 && s->conn[i].slot == slot)
			return &s->conn[i];
	return NULL;
}

/* All the living have stamped? (A slot in use without a connection hasn't rejoined yet.) */
static bool all_answered(struct xdp_port *p)
{
	uint32_t i;

	for (i = 0; i < p->lay.nmembers; i++) {
		struct conn *c = conn_of_slot(p->share, i);

		if (p->sh->member[i].used && i != p->slot && (!c || c->round != p->share->round))
			return false;
	}
	return true;
}

static void sweep_collect(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	uint32_t i;

	if (p->sh->sweep != XDP_SWEEP_ACKING || !all_answered(p))
		return;
	for (i = 0; i < p->hal.nqueues; i++) {
		struct xdp_queue *q = &p->queue[i];

		if (!(s->ripe & (1ull << i)))
			continue;
		/* ours last: nothing of ours moves between this and the collecting */
		if (q->held || !xdp_shared_lock(q->sq)) {
			timer_in(s, 5 * MS);
			return;
		}
		xdp_queue_stamp(q, p->sh->epoch);
		xdp_sweep_collect_locked(p->sh, i, &q->fq);
		xdp_shared_unlock(q->sq);
		s->ripe &= ~(1ull << i);
		s->todo &= ~(1ull << i);
	}
	sweep_wait(p);
}

static void sweep_ask(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	int i;

	p->sh->sweep = XDP_SWEEP_ACKING;
	s->round++;
	for (i = 0; i < CONNS; i++)
		if (s->conn[i].fd >= 0 && s->conn[i].slot != NO_SLOT)
			send_msg(s->conn[i].fd, MSG_STAMP, s->conn[i].slot, s->round);
	sweep_collect(p);
}

/* --- the server: members ------------------------------------------------------------------- */

static void member_gone(struct xdp_port *p, uint32_t slot)
{
	p->sh->member[slot].used = 0;
	p->sh->member[slot].pid = 0;
	sweep_start(p);
}

static void conn_close(struct xdp_port *p, struct conn *c)
{
	uint32_t slot = c->slot;

	xdp_fd_close(p, c->fd); /* leaves the epoll set with it */
	c->fd = -1;
	c->slot = NO_SLOT;
	if (slot != NO_SLOT)
		member_gone(p, slot);
}

/* Slots that came with the takeover and whose process didn't live to rejoin. Returns how many
 * are still awaited. */
static uint32_t members_check(struct xdp_port *p)
{
	uint32_t i, awaited = 0;

	for (i = 0; i < p->lay.nmembers; i++) {
		if (!p->sh->member[i].used || i == p->slot || conn_of_slot(p->share, i))
			continue;
		if (xdp_umem_alive_test(p, i))
			awaited++;
		else
			member_gone(p, i);
	}
	return awaited;
}

static uint32_t slot_find(struct xdp_port *p)
{
	uint32_t i;

	for (i = 0; i < p->lay.nmembers; i++)
		if (!p->sh->member[i].used && i != p->slot && !xdp_umem_alive_test(p, i))
			return i;
	return NO_SLOT;
}

static int send_attached(struct xdp_port *p, int sock, uint32_t slot)
{
	uint32_t n = 0, i, nfd = slot == NO_SLOT ? 0 : 2 + p->hal.nqueues;
	char ctl[CMSG_SPACE(sizeof(int) * (HAL_XDP_QUEUES_MAX + 2))]
		__attribute__((aligned(sizeof(size_t)))) = { 0 };
	struct msg m = { MSG_MAGIC, XDP_SHARED_VERSION, MSG_ATTACHED, slot, 0,
			 nfd ? 0 : -EUSERS, p->hal.ifindex, p->hal.nqueues };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[HAL_XDP_QUEUES_MAX + 2];
	struct cmsghdr *c;

	if (nfd) {
		fds[n++] = p->ctl_fd;
		fds[n++] = p->umem_fd;
		for (i = 0; i < p->hal.nqueues; i++)
			fds[n++] = p->queue[i].fd;
		mh.msg_control = ctl;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfd);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfd);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfd);
	}
	return sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(m) ? 0 : -errno;
}

static int on_attach(struct xdp_port *p, struct conn *c)
{
	uint32_t slot = slot_find(p);

	if (c->slot != NO_SLOT || !c->may_join)
		return -EPROTO;
	if (slot != NO_SLOT) {
		p->sh->member[slot].pid = c->pid;
		p->sh->member[slot].used = 1;
		c->slot = slot;
	}
	return send_attached(p, c->fd, slot);
}

static int on_rejoin(struct xdp_port *p, struct conn *c, const struct msg *m)
{
	/* The lock shows that the slot's owner lives; that a peer who may join anyway is that owner
	 * is trusted. */
	if (!c->may_join && (m->slot >= p->lay.nmembers || p->sh->member[m->slot].pid != c->pid))
		return -EPROTO;
	if (c->slot != NO_SLOT || m->slot >= p->lay.nmembers || m->slot == p->slot ||
	    conn_of_slot(p->share, m->slot) || !xdp_umem_alive_test(p, m->slot))
		return -EPROTO;
	c->slot = m->slot;
	p->sh->member[m->slot].pid = c->pid;
	p->sh->member[m->slot].used = 1;
	if (p->sh->sweep == XDP_SWEEP_ACKING)
		return send_msg(c->fd, MSG_STAMP, c->slot, p->share->round);
	return 0;
}

static void on_conn(struct xdp_port *p, struct conn *c)
{
	struct msg m;
	int r;

	while ((r = recv_msg(c->fd, &m, NULL, NULL)) > 0) {
		if (m.type == MSG_ATTACH) {
			r = on_attach(p, c);
		} else if (m.type == MSG_REJOIN) {
			r = on_rejoin(p, c, &m);
		} else if (m.type == MSG_STAMPED) {
			c->round = m.round;
			sweep_collect(p);
			r = 0;
		} else {
			r = -EPROTO;
		}
		if (r)
			break;
	}
	if (r < 0)
		conn_close(p, c);
}

static void on_listen(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	struct ucred cr = { 0 };
	int fd, i, n;
	bool may;

	/* bounded: strangers may connect as fast as we refuse them */
	for (n = 0; n < CONNS; n++) {
		fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		fd = xdp_fd_own(p, fd);
		for (i = 0; i < CONNS && s->conn[i].fd >= 0; i++)
			;
		may = peer_cred(fd, &cr) && user_may_join(p, cr.uid);
		if (i == CONNS || (!may && !is_member(p, cr.pid)) || watch(s, fd)) {
			xdp_fd_close(p, fd);
			continue;
		}
		s->conn[i] = (struct conn){ .fd = fd, .slot = NO_SLOT, .pid = cr.pid,
					    .may_join = may };
	}
}

static int serve(struct xdp_port *p)
{
	struct sockaddr_un sun;
	socklen_t len = name(p, &sun);
	int r, fd = xdp_fd_own(p, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sun, len) || listen(fd, CONNS)) {
		r = -errno;
		xdp_fd_close(p, fd);
		return r;
	}
	p->share->listen_fd = fd;
	return watch(p->share, fd);
}

/* --- the others: the server's connection --------------------------------------------------- */

static void answer_stamp(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	uint32_t i;

	for (i = 0; i < p->hal.nqueues; i++) {
		if (p->queue[i].held) { /* the worker is amid a burst: not our caller's habit */
			timer_in(s, 5 * MS);
			return;
		}
	}
	for (i = 0; i < p->hal.nqueues; i++)
		xdp_queue_stamp(&p->queue[i], p->sh->epoch);
	send_msg(s->up_fd, MSG_STAMPED, p->slot, s->stamp_round);
	s->stamp_round = 0;
}

static int try_connect(struct xdp_port *p, struct ucred *cr)
{
	struct sockaddr_un sun;
	socklen_t len = name(p, &sun);
	int r, fd = xdp_fd_own(p, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&sun, len) && peer_cred(fd, cr))
		return fd;
	r = -errno;
	xdp_fd_close(p, fd);
	return r;
}

/* The server is gone: be it, or find the new one. */
static void take_over(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	struct ucred cr;
	int fd;

	s->stamp_round = 0;
	if (!serve(p)) {
		s->retry_ns = RETRY_MIN_NS;
		sweep_start(p); /* the old server's frames, and whatever it was about */
		members_check(p);
		return;
	}
	/* whoever it is: it can't do more than ask us to stamp */
	fd = try_connect(p, &cr);
	if (fd >= 0 && !send_msg(fd, MSG_REJOIN, p->slot, 0) && !watch(s, fd)) {
		s->up_fd = fd;
		s->retry_ns = RETRY_MIN_NS;
		return;
	}
	xdp_fd_close(p, fd);
	timer_in(s, s->retry_ns);
	if (s->retry_ns < RETRY_MAX_NS) /* a stranger may have the name for good */
		s->retry_ns *= 2;
}

/* A stranger had the name when the port was opened. */
static void name_retry(struct xdp_port *p)
{
	struct xdp_share *s = p->share;

	if (!serve(p)) {
		p->strangers = false;
		return;
	}
	timer_in(s, s->retry_ns);
	if (s->retry_ns < RETRY_MAX_NS)
		s->retry_ns *= 2;
}

static void on_up(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	struct msg m;
	int r;

	while ((r = recv_msg(s->up_fd, &m, NULL, NULL)) > 0) {
		if (m.type != MSG_STAMP)
			continue;
		s->stamp_round = m.round;
		answer_stamp(p);
	}
	if (r == 0)
		return;
	xdp_fd_close(p, s->up_fd);
	s->up_fd = -1;
	take_over(p);
}

static void on_timer(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	uint64_t ticks;
	uint32_t i;

	if (read(s->timer_fd, &ticks, sizeof(ticks)) < 0)
		return;
	if (s->listen_fd < 0) {
		if (p->strangers)
			name_retry(p);
		else if (s->up_fd < 0)
			take_over(p);
		else if (s->stamp_round)
			answer_stamp(p);
		return;
	}
	if (p->sh->sweep == XDP_SWEEP_IDLE)
		return;
	members_check(p); /* may start over: judged below with a fresh mark, hence too early */
	if (!s->todo) {
		sweep_start(p);
	} else if (p->sh->sweep == XDP_SWEEP_ACKING) {
		timer_in(s, 100 * MS); /* an answer is missing: look again who is alive */
		sweep_collect(p);
	} else if (now_ns() - s->mark_ns >= XDP_SWEEP_GRACE_NS) {
		for (i = 0; i < p->hal.nqueues; i++)
			if (s->todo & (1ull << i))
				sweep_judge(p, i);
		if (s->ripe & s->todo) {
			timer_in(s, 100 * MS);
			sweep_ask(p);
		} else {
			sweep_wait(p);
		}
	}
}

/* --- open, service, close ------------------------------------------------------------------ */

static int share_new(struct xdp_port *p)
{
	struct xdp_share *s = calloc(1, sizeof(*s));
	int i;

	if (!s)
		return -ENOMEM;
	s->listen_fd = s->up_fd = -1;
	s->retry_ns = RETRY_MIN_NS;
	for (i = 0; i < CONNS; i++)
		s->conn[i] = (struct conn){ .fd = -1, .slot = NO_SLOT };
	s->ep_fd = xdp_fd_own(p, epoll_create1(EPOLL_CLOEXEC));
	s->timer_fd = xdp_fd_own(p, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	p->share = s;
	if (s->ep_fd < 0 || s->timer_fd < 0)
		return -errno;
	return watch(s, s->timer_fd);
}

/* The server's answer: its descriptors, 0; -EAGAIN: it went away. */
static int join_answer(struct xdp_port *p, const struct ucred *cr, uint64_t deadline, struct msg *m,
		       int *fds, uint32_t *nfd, char *why)
{
	struct pollfd pfd = { .fd = p->share->up_fd, .events = POLLIN };
	uint32_t room = *nfd;
	int r;

	do {
		uint64_t now = now_ns();

		r = now < deadline ? poll(&pfd, 1, (deadline - now) / MS + 1) : 0;
		if (!r)
			return xdp_why(why, -ETIMEDOUT, "%s is held by process %d, which doesn't "
				       "answer; is it stopped?", p->hal.ifname, cr->pid);
		*nfd = room;
		r = r < 0 ? 0 : recv_msg(pfd.fd, m, fds, nfd);
	} while (!r);
	if (r == -EPROTO)
		return xdp_why(why, r, "%s is held by process %d with another version of nstack; "
			       "restart that one", p->hal.ifname, cr->pid);
	return r < 0 ? -EAGAIN : 0;
}

static int join_map(struct xdp_port *p, const struct ucred *cr, const struct msg *m, uint32_t nfd,
		    char *why)
{
	int r;

	if (m->status == -EUSERS)
		return xdp_why(why, -EUSERS, "%s is shared by as many processes as it was set up "
			       "for", p->hal.ifname);
	if (m->status || m->type != MSG_ATTACHED || nfd < 3 || m->nqueues != nfd - 2)
		return xdp_why(why, -EPROTO, "%s: process %d gave a bad answer; restart it",
			       p->hal.ifname, cr->pid);
	if (!memory_trusted(p))
		return -EPERM;
	r = xdp_umem_map(p, why);
	if (r)
		return r;
	if (m->slot >= p->lay.nmembers || p->lay.nqueues != m->nqueues)
		return xdp_why(why, -EPROTO, "%s: process %d gave a bad answer; restart it",
			       p->hal.ifname, cr->pid);
	p->slot = m->slot;
	p->hal.nqueues = m->nqueues;
	r = xdp_umem_alive_lock(p, p->slot);
	return r ? xdp_why(why, r, "%s: can't lock the slot: %s", p->hal.ifname, strerror(-r)) : 1;
}

/* One attempt to join; -EAGAIN: the server went away, or there is none; -EPERM: it is a stranger,
 * whatever it did. A server that gave up root looks like one until its memory is seen, and may be about to end:
 * until stranger_end who went away is believed. */
static int join(struct xdp_port *p, uint64_t deadline, uint64_t stranger_end, int *share_fd, uint32_t *n, char *why)
{
	int fds[HAL_XDP_QUEUES_MAX + 2], fd, r;
	uint32_t nfd = HAL_XDP_QUEUES_MAX + 2;
	struct ucred cr = { 0 };
	struct msg m = { 0 };
	bool known;

	fd = try_connect(p, &cr);
	if (fd < 0)
		return -EAGAIN;
	p->share->up_fd = fd;
	known = user_trusted(cr.uid);
	if (!known && deadline > stranger_end)
		deadline = stranger_end;
	r = send_msg(fd, MSG_ATTACH, NO_SLOT, 0) ? -EAGAIN :
	    join_answer(p, &cr, deadline, &m, fds, &nfd, why);
	if (!r) {
		p->ctl_fd = nfd > 0 ? xdp_fd_own(p, fds[0]) : -1;
		p->umem_fd = nfd > 1 ? xdp_fd_own(p, fds[1]) : -1;
		for (*n = 0; *n + 2 < nfd; ++*n)
			share_fd[*n] = fds[*n + 2];
		r = join_map(p, &cr, &m, nfd, why);
	}
	if (r == -EAGAIN && now_ns() < stranger_end)
		return r;
	if (r == -EPERM || (r < 0 && !known))
		return xdp_why(why, -EPERM, "%s is used by process %d of user %u; processes that "
			       "share an interface run as one user, or the first as root",
			       p->hal.ifname, cr.pid, cr.uid);
	return r;
}

/* A failed join leaves nothing that the next attempt, or the first member, would stumble over. */
static void join_undo(struct xdp_port *p, const struct xdp_layout *lay, uint32_t nqueues,
		      int *share_fd, uint32_t *n)
{
	xdp_fd_close(p, p->share->up_fd);
	p->share->up_fd = -1;
	while (*n)
		close(share_fd[--*n]);
	xdp_umem_close(p);
	p->lay = *lay;
	p->hal.nqueues = nqueues;
	p->slot = 0;
}

int xdp_share_begin(struct xdp_port *p, int *share_fd, uint32_t *n, char *why)
{
	uint64_t deadline = now_ns() + OPEN_NS, stranger_end = now_ns() + STRANGER_NS;
	static const struct timespec soon = { .tv_nsec = 5 * MS }, members_first = { .tv_nsec = 100 * MS };
	const struct xdp_layout lay = p->lay;
	const uint32_t nqueues = p->hal.nqueues;
	int r = share_new(p);
	bool gone;

	if (r)
		return xdp_why(why, r, "out of descriptors or memory");
	for (;;) {
		r = join(p, deadline, stranger_end, share_fd, n, why);
		if (r != -EAGAIN && r != -EPERM)
			return r;
		gone = p->share->up_fd >= 0;
		join_undo(p, &lay, nqueues, share_fd, n);
		if (r == -EPERM)
			break;
		/* who shares with the one that went away has the queue, and is to have the name before us */
		if (gone && now_ns() < deadline) {
			nanosleep(&members_first, NULL);
			continue;
		}
		r = serve(p);
		if (!r)
			return 0;
		if (r != -EADDRINUSE)
			return xdp_why(why, r, "%s: can't serve the port: %s", p->hal.ifname,
				       strerror(-r));
		if (now_ns() > deadline) {
			xdp_why(why, -EBUSY, "another process is setting up %s and doesn't get done",
				p->hal.ifname);
			break;
		}
		nanosleep(&soon, NULL);
	}
	p->strangers = true;
	return 0;
}

int xdp_share_ready(struct xdp_port *p, char *why)
{
	int r = 0;

	if (p->joined) {
		r = watch(p->share, p->share->up_fd);
	} else {
		r = xdp_umem_alive_lock(p, 0);
		p->sh->member[0].pid = getpid();
		p->sh->member[0].used = 1;
	}
	if (p->strangers)
		timer_in(p->share, p->share->retry_ns);
	return r ? xdp_why(why, r, "%s: can't share the port: %s", p->hal.ifname, strerror(-r)) : 0;
}

bool xdp_share_is_server(const struct xdp_port *p)
{
	return p->share && p->share->listen_fd >= 0;
}

int xdp_share_fd(struct xdp_port *p)
{
	return p->share ? p->share->ep_fd : -1;
}

void xdp_share_service(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	struct epoll_event ev[16];
	int i, k, n;

	if (!s)
		return;
	n = epoll_wait(s->ep_fd, ev, 16, 0);
	for (i = 0; i < n; i++) {
		int fd = ev[i].data.fd;

		if (fd == s->timer_fd)
			on_timer(p);
		else if (fd == s->listen_fd)
			on_listen(p);
		else if (fd == s->up_fd)
			on_up(p);
		else
			for (k = 0; k < CONNS; k++)
				if (s->conn[k].fd == fd)
					on_conn(p, &s->conn[k]);
	}
}

void xdp_share_close(struct xdp_port *p)
{
	struct xdp_share *s = p->share;
	int i;

	if (!s)
		return;
	for (i = 0; i < CONNS; i++)
		xdp_fd_close(p, s->conn[i].fd);
	xdp_fd_close(p, s->listen_fd);
	xdp_fd_close(p, s->up_fd);
	xdp_fd_close(p, s->timer_fd);
	xdp_fd_close(p, s->ep_fd);
	free(s);
	p->share = NULL;
}
