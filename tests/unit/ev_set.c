/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/ev_set.c - epoll, poll and select against fake sockets */
#define _GNU_SOURCE
#include "tests/unit/ev_fake.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static const struct timespec ZERO;

static int ctl(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return ev_epoll_ctl(ep, op, fd, &ev);
}

static int wait0(int ep, struct epoll_event *ev, int max)
{
	return ev_epoll_wait(ep, ev, max, &ZERO, NULL);
}

static int wait_ms(int ep, struct epoll_event *ev, int max, long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	return ev_epoll_wait(ep, ev, max, &t, NULL);
}

static void test_errors(void)
{
	int ep = ev_epoll_create1(0), ep2 = ev_epoll_create1(0), fd;
	struct epoll_event ev;
	struct fake *s;

	fd = fake_open(&s, false);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 1), -ENOENT);
	CHECK_EQ(ev_epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL), -ENOENT);
	CHECK_EQ(ev_epoll_ctl(ep, EPOLL_CTL_ADD, fd, NULL), -EFAULT);
	CHECK_EQ(ev_epoll_ctl(ep, 77, fd, NULL), -EFAULT);
	CHECK_EQ(ctl(ep, 77, fd, EPOLLIN, 1), -EINVAL);
	CHECK_EQ(ctl(fd, EPOLL_CTL_ADD, fd, EPOLLIN, 1), -EINVAL);
	CHECK_EQ(ctl(0x7000, EPOLL_CTL_ADD, fd, EPOLLIN, 1), -EBADF);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, 0x7000, EPOLLIN, 1), -EBADF);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 1), -EINVAL);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1), -EINVAL);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 1), -EINVAL);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1), -EINVAL);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), -EEXIST);
	CHECK_EQ(ev_epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, ep2, EPOLLIN | EPOLLEXCLUSIVE, 1), -EINVAL);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, ep2, EPOLLIN, 1), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, ep2, EPOLLIN, 1), -EEXIST);
	CHECK_EQ(ctl(ep2, EPOLL_CTL_ADD, ep, EPOLLIN, 1), -ELOOP);
	CHECK_EQ(ev_epoll_wait(ep, &ev, 0, &ZERO, NULL), -EINVAL);
	CHECK_EQ(ev_epoll_wait(ep, &ev, -1, &ZERO, NULL), -EINVAL);
	CHECK_EQ(ev_epoll_wait(ep, NULL, 1, &ZERO, NULL), 0); /* nothing to write */
	CHECK_EQ(ev_epoll_wait(fd, &ev, 1, &ZERO, NULL), -EINVAL);
	CHECK_EQ(ev_epoll_wait(0x7000, &ev, 1, &ZERO, NULL), -EBADF);
	CHECK_EQ(ev_epoll_create1(0x77), -EINVAL);
	fake_close(fd);
	fake_close(ep);
	fake_close(ep2);
}

static void test_level_edge_oneshot(void)
{
	int ep = ev_epoll_create1(0), fd;
	struct epoll_event ev[4];
	struct fake *s;

	fd = fake_open(&s, false);
	fake_event(s, EPOLLIN); /* before ADD */
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 42), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(wait0(ep, ev, 4), 1);
		CHECK_EQ(ev[0].events, EPOLLIN);
		CHECK_EQ(ev[0].data.u64, 42);
	}
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 0); /* no stale event */
	fake_event(s, EPOLLOUT);
	CHECK_EQ(wait0(ep, ev, 4), 0); /* not asked for */
	fake_event(s, EPOLLHUP);
	CHECK_EQ(wait0(ep, ev, 4), 1); /* always on */
	CHECK_EQ(ev[0].events, EPOLLHUP);
	fake_consume(s, ~0u);
	CHECK_EQ(wait0(ep, ev, 4), 0);

	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDNORM | EPOLLET, 43), 0);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].events, EPOLLIN | EPOLLRDNORM);
	CHECK_EQ(wait0(ep, ev, 4), 0); /* not drained, but no new edge */
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 1); /* more data is one */
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 44), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1); /* so is MOD */
	CHECK_EQ(ev[0].data.u64, 44);
	fake_event(s, EPOLLIN);
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 0); /* taken back before anybody looked */

	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 45), 0);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_event(s, EPOLLIN | EPOLLHUP);
	CHECK_EQ(wait0(ep, ev, 4), 0); /* disarmed: not even HUP */
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 46), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 46);
	CHECK_EQ(ev[0].events, EPOLLIN | EPOLLHUP);
	CHECK_EQ(ctl(ep, EPOLL_CTL_DEL, fd, 0, 0), 0);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_close(fd);
	fake_close(ep);
}

/* 1000 ready level-triggered sockets, 8 at a time: everyone comes before anyone comes twice. */
static void test_fairness(void)
{
	enum { N = 1000, MAX = 8 };
	static struct fake *s[N];
	static int fd[N], seen[N];
	struct epoll_event ev[MAX];
	int ep = ev_epoll_create1(0), pipefd[2], kernel = 0, n;

	CHECK(!pipe(pipefd));
	CHECK_EQ(write(pipefd[1], "x", 1), 1);
	for (int i = 0; i < N; i++) {
		fd[i] = fake_open(&s[i], false);
		CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd[i], EPOLLIN, (uint64_t)i), 0);
		fake_event(s[i], EPOLLIN);
	}
	for (int got = 0; got < N; got += n) {
		n = wait0(ep, ev, MAX);
		CHECK_EQ(n, MAX);
		for (int i = 0; i < n; i++)
			seen[ev[i].data.u64]++;
	}
	for (int i = 0; i < N; i++)
		CHECK_EQ(seen[i], 1);
	/* and a kernel member is heard beside them */
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, pipefd[0], EPOLLIN, 5555), 0);
	for (int i = 0; i < 64 && !kernel; i++) {
		n = wait0(ep, ev, 1);
		CHECK_EQ(n, 1);
		kernel = ev[0].data.u64 == 5555;
	}
	CHECK(kernel);
	/* closing all of them while they are on the list */
	for (int i = 0; i < N; i++)
		fake_close(fd[i]);
	CHECK_EQ(wait0(ep, ev, MAX), 1);
	CHECK_EQ(ev[0].data.u64, 5555);
	fake_close(ep);
	close(pipefd[0]);
	close(pipefd[1]);
}

/* Membership belongs to (number, file) and goes with the last close of the file. */
static void test_dup(void)
{
	int ep = ev_epoll_create1(0), fd, fd2;
	struct epoll_event ev[4];
	struct fake *s;

	fd = fake_open(&s, false);
	fd2 = dup(fd);
	fd_install(fd2, &s->nf);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd2, EPOLLIN, 2), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd2, EPOLLIN, 3), -EEXIST);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 2);
	fake_close(fd);
	CHECK_EQ(wait0(ep, ev, 4), 2); /* the file is still open */
	fake_close(fd2);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_close(ep);
}

/* Members whose kernel half counts: listeners, undecided sockets, UDP. */
static void test_kernel_half(void)
{
	int ep = ev_epoll_create1(0), fd;
	struct epoll_event ev[4];
	uint64_t v = 1;
	struct fake *s;

	fd = fake_open(&s, true);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 9), 0);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].events, EPOLLIN);
	CHECK_EQ(ev[0].data.u64, 9);
	fake_event(s, EPOLLIN); /* both halves: one event */
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(read(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	/* edge */
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 10), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	/* one-shot, fired by the kernel: the user stack is disarmed, too; and vice versa */
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 11), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	CHECK_EQ(read(fd, &v, sizeof(v)), 8);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 12), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 13), 0);
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	/* it becomes the user stack's: the kernel half is out, without a new ctl */
	__atomic_store_n(&s->khalf, 0, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	/* and back */
	__atomic_store_n(&s->khalf, 1, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
	wait0(ep, ev, 4); /* finds out */
	CHECK_EQ(wait0(ep, ev, 4), 1);
	fake_close(fd);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_close(ep);
}

/* A UDP socket that becomes the stack's: that the shadow could send no longer counts. */
static void test_kernel_bits(void)
{
	int ep = ev_epoll_create1(0), fd;
	struct pollfd p = { .events = POLLIN | POLLOUT };
	struct epoll_event ev[4];
	unsigned long before;
	uint64_t v = 1;
	struct fake *s;

	p.fd = fd = fake_open(&s, true);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, 9), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].events, EPOLLOUT);
	__atomic_store_n(&s->khalf, 3, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
	before = sleeps;
	CHECK_EQ(wait_ms(ep, ev, 4, 10), 0);
	CHECK(sleeps - before < 4);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 0);
	fake_event(s, EPOLLOUT);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 1);
	CHECK_EQ(p.revents, POLLOUT);
	fake_consume(s, EPOLLOUT);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].events, EPOLLIN);
	fake_close(fd);
	fake_close(ep);
}

/* A socket that turns out to be the kernel's for good: its item goes, its events come as before. */
static void test_to_kernel(void)
{
	int ep = ev_epoll_create1(0), fd;
	struct epoll_event ev[4];
	uint64_t v = 1;
	struct fake *s;

	fd = fake_open(&s, true);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 9), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	__atomic_store_n(&s->khalf, 2, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
	CHECK_EQ(wait_ms(ep, ev, 4, 1000), 1);
	CHECK_EQ(ev[0].data.u64, 9);
	CHECK(cds_list_empty(&s->nf.watches));
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 9), -EEXIST);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 10), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 10);
	CHECK_EQ(ctl(ep, EPOLL_CTL_DEL, fd, 0, 0), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_DEL, fd, 0, 0), -ENOENT);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_close(fd);

	/* disarmed at that moment: armed again by MOD */
	fd = fake_open(&s, true);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 9), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	__atomic_store_n(&s->khalf, 2, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), -EEXIST);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 11), 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 11);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	fake_close(fd);
	fake_close(ep);
}

static struct fake *leaving;

static void leave_now(struct nfile *f)
{
	struct fake *s = leaving;

	if (!s || f == &s->nf)
		return;
	leaving = NULL;
	__atomic_store_n(&s->khalf, 2, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
}

/* A member becomes the kernel's just while the set looks at the next one, which stays: the look ends. */
static void test_to_kernel_in_turn(void)
{
	int ep = ev_epoll_create1(0), fd[2];
	struct epoll_event ev[4];
	struct fake *s[2];
	uint64_t v = 1;

	for (int i = 0; i < 2; i++) {
		fd[i] = fake_open(&s[i], false);
		CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd[i], EPOLLIN, (uint64_t)i), 0);
		fake_event(s[i], EPOLLIN);
		CHECK_EQ(write(fd[i], &v, sizeof(v)), 8);
	}
	leaving = s[0];
	fake_asked = leave_now;
	watch_notify(&s[1]->nf, NSOCK_EV_REWATCH);
	alarm(20);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 1);
	CHECK_EQ(wait0(ep, ev, 4), 2);
	alarm(0);
	fake_asked = NULL;
	for (int i = 0; i < 2; i++)
		fake_close(fd[i]);
	fake_close(ep);
}

/* A kernel half that is kept open elsewhere (a fork child) after our close: no events of it, no
 * busy loop. */
static void test_leftover(void)
{
	int ep = ev_epoll_create1(0), fd, fd2, keep;
	struct epoll_event ev[4];
	uint64_t v = 1;
	struct fake *s, *s2;
	unsigned long before;

	fd = fake_open(&s, true);
	fd2 = fake_open(&s2, true);
	keep = dup(fd); /* the table does not know it */
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd2, EPOLLIN, 2), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	fake_close(fd);
	before = sleeps;
	CHECK_EQ(wait_ms(ep, ev, 4, 20), 0);
	CHECK(sleeps - before < 4);
	CHECK_EQ(write(fd2, &v, sizeof(v)), 8);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 2);
	close(keep);
	fake_close(fd2);
	fake_close(ep);
}

static void test_nested(void)
{
	int in = ev_epoll_create1(0), out = ev_epoll_create1(0), fd, pipefd[2];
	struct epoll_event ev[4];
	struct pollfd p = { .events = POLLIN };
	struct fake *s;
	char c;

	CHECK(!pipe(pipefd));
	fd = fake_open(&s, false);
	CHECK_EQ(ctl(out, EPOLL_CTL_ADD, in, EPOLLIN, 7), 0);
	CHECK_EQ(ctl(in, EPOLL_CTL_ADD, fd, EPOLLIN, 8), 0);
	CHECK_EQ(ctl(in, EPOLL_CTL_ADD, pipefd[0], EPOLLIN, 9), 0);
	p.fd = in;
	CHECK_EQ(wait0(out, ev, 4), 0);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 0);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(out, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 7);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 1);
	CHECK_EQ(p.revents, POLLIN);
	CHECK_EQ(wait0(in, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 8);
	CHECK_EQ(wait0(out, ev, 4), 1); /* level */
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(out, ev, 4), 0); /* though nobody collected from the inner one */
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 0);
	CHECK_EQ(write(pipefd[1], "x", 1), 1);
	CHECK_EQ(wait0(out, ev, 4), 1); /* kernel member of the nested set */
	CHECK_EQ(ev[0].data.u64, 7);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(out, ev, 4), 1); /* both sides: one event */
	CHECK_EQ(read(pipefd[0], &c, 1), 1);
	CHECK_EQ(wait0(out, ev, 4), 1);
	fake_consume(s, EPOLLIN);
	CHECK_EQ(wait0(out, ev, 4), 0);
	CHECK_EQ(ctl(out, EPOLL_CTL_DEL, in, 0, 0), 0);
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(out, ev, 4), 0);
	CHECK_EQ(ctl(out, EPOLL_CTL_ADD, in, EPOLLIN, 7), 0);
	CHECK_EQ(wait0(out, ev, 4), 1);
	fake_close(in);
	CHECK_EQ(wait0(out, ev, 4), 0);
	fake_close(out);
	fake_close(fd);
	close(pipefd[0]);
	close(pipefd[1]);
}

/* --- waiting ------------------------------------------------------------------------------ */

struct later {
	pthread_t t;
	struct fake *s;
	int ep, fd, op; /* op < 0: an event instead */
	long us;
};

static void *later_run(void *arg)
{
	struct later *l = arg;

	usleep((useconds_t)l->us);
	if (l->op < 0)
		fake_event(l->s, EPOLLIN);
	else
		CHECK_EQ(ctl(l->ep, l->op, l->fd, EPOLLIN, 77), 0);
	return NULL;
}

static void later(struct later *l)
{
	CHECK(!pthread_create(&l->t, NULL, later_run, l));
}

/* Who waits for a set by poll() or in another set, and not on it, hears of a member that has become the kernel's. */
static void test_nested_to_kernel(void)
{
	int in = ev_epoll_create1(0), out = ev_epoll_create1(0), fd;
	struct pollfd p = { .fd = in, .events = POLLIN };
	struct epoll_event ev[4];
	uint64_t v = 1;
	struct fake *s;

	fd = fake_open(&s, false);
	CHECK_EQ(ctl(out, EPOLL_CTL_ADD, in, EPOLLIN, 7), 0);
	CHECK_EQ(ctl(in, EPOLL_CTL_ADD, fd, EPOLLIN, 8), 0);
	CHECK_EQ(wait0(out, ev, 4), 0);
	__atomic_store_n(&s->khalf, 2, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, NSOCK_EV_REWATCH);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, NULL), 1);
	CHECK_EQ(wait0(out, ev, 4), 1);
	CHECK_EQ(wait0(in, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 8);
	fake_close(fd);
	fake_close(in);
	fake_close(out);
}

static void test_sleep(void)
{
	struct later l = { .op = -1, .us = 20000 };
	struct timespec t = { 0, 300000 };
	struct epoll_event ev[4];
	int ep = ev_epoll_create1(0), fd, fd2;
	unsigned long before;
	uint64_t t0;
	struct fake *s, *s2;

	fd = fake_open(&s, false);
	fd2 = fake_open(&s2, false);
	/* a raw wait becomes a mixed one */
	l.s = s;
	l.ep = ep;
	l.fd = fd;
	l.op = EPOLL_CTL_ADD;
	fake_event(s, EPOLLIN);
	later(&l);
	t0 = worker_now();
	CHECK_EQ(wait_ms(ep, ev, 4, 5000), 1);
	CHECK(worker_now() - t0 < 2000000000u);
	CHECK_EQ(ev[0].data.u64, 77);
	pthread_join(l.t, NULL);
	fake_consume(s, EPOLLIN);
	/* the bell is quiet again */
	before = sleeps;
	CHECK_EQ(wait_ms(ep, ev, 4, 20), 0);
	CHECK(sleeps - before < 4);
	/* an event ends the sleep */
	l.op = -1;
	later(&l);
	t0 = worker_now();
	CHECK_EQ(wait_ms(ep, ev, 4, 5000), 1);
	CHECK(worker_now() - t0 < 2000000000u);
	pthread_join(l.t, NULL);
	fake_consume(s, EPOLLIN);
	/* so do ADD and MOD of a ready one */
	fake_event(s2, EPOLLIN);
	l.op = EPOLL_CTL_ADD;
	l.fd = fd2;
	later(&l);
	CHECK_EQ(wait_ms(ep, ev, 4, 5000), 1);
	pthread_join(l.t, NULL);
	CHECK_EQ(ctl(ep, EPOLL_CTL_MOD, fd2, 0, 5), 0);
	CHECK_EQ(wait0(ep, ev, 4), 0);
	l.op = EPOLL_CTL_MOD;
	later(&l);
	CHECK_EQ(wait_ms(ep, ev, 4, 5000), 1);
	pthread_join(l.t, NULL);
	fake_consume(s2, EPOLLIN);
	/* microseconds */
	t0 = worker_now();
	CHECK_EQ(ev_epoll_wait(ep, ev, 4, &t, NULL), 0);
	CHECK(worker_now() - t0 >= 300000);
	fake_close(fd);
	fake_close(fd2);
	fake_close(ep);
}

/* Several threads on one set: one event wakes and is returned to one of them. */
static int many_ep, many_got;

static void *many_run(void *arg)
{
	struct epoll_event ev;

	if (ev_epoll_wait(many_ep, &ev, 1, NULL, NULL) == 1)
		__atomic_add_fetch(&many_got, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_many_waiters(void)
{
	enum { N = 40 };
	pthread_t t[N];
	struct fake *s[N];
	int fd[N];

	many_ep = ev_epoll_create1(0);
	many_got = 0;
	for (int i = 0; i < N; i++) {
		fd[i] = fake_open(&s[i], false);
		CHECK_EQ(ctl(many_ep, EPOLL_CTL_ADD, fd[i], EPOLLIN | EPOLLONESHOT, 1), 0);
		CHECK(!pthread_create(&t[i], NULL, many_run, NULL));
	}
	for (int i = 0; i < N; i++)
		fake_event(s[i], EPOLLIN);
	for (int i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(many_got, N);
	for (int i = 0; i < N; i++)
		fake_close(fd[i]);
	fake_close(many_ep);
}

/* A thread that is cancelled in its sleep leaves nothing behind. */
static void *cancel_run(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };
	struct epoll_event ev;

	if (p.fd >= 0)
		ev_poll(&p, 1, NULL, NULL);
	else
		ev_epoll_wait(many_ep, &ev, 1, NULL, NULL);
	return NULL;
}

static void cancel(int fd)
{
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, cancel_run, &fd));
	usleep(20000); /* it sleeps now; if not, it is cancelled all the same */
	pthread_cancel(t);
	pthread_join(t, NULL);
}

static void test_cancel(void)
{
	struct epoll_event ev;
	struct fake *s;
	int fd;

	fd = fake_open(&s, false);
	many_ep = ev_epoll_create1(0);
	cancel(-1); /* raw */
	CHECK_EQ(ev_set_of(nfile_table[many_ep])->raw_waiters, 0);
	CHECK_EQ(nfile_table[many_ep]->refs, 1);
	CHECK_EQ(ctl(many_ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), 0);
	cancel(-1);
	CHECK_EQ(ev_set_of(nfile_table[many_ep])->sleeping, 0);
	CHECK_EQ(nfile_table[many_ep]->refs, 1);
	cancel(fd);
	CHECK_EQ(s->nf.refs, 1);
	CHECK(s->nf.watches.next == s->nf.watches.prev); /* the set's is left */
	fake_event(s, EPOLLIN);
	CHECK_EQ(wait0(many_ep, &ev, 1), 1);
	fake_close(fd);
	fake_close(many_ep);
}

/* --- poll, select ------------------------------------------------------------------------- */

static void test_poll(void)
{
	struct later l = { .op = -1, .us = 20000 };
	struct timespec t = { 5, 0 }, shortly = { 0, 2000000 };
	struct pollfd p[200];
	struct fake *s;
	int fd, pipefd[2];
	uint64_t t0;

	CHECK(!pipe(pipefd));
	fd = fake_open(&s, false);
	p[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = pipefd[0], .events = POLLIN };
	p[2] = (struct pollfd){ .fd = -1, .events = POLLIN, .revents = 5 };
	CHECK_EQ(ev_poll(p, 3, &ZERO, NULL), 0);
	CHECK_EQ(p[2].revents, 0);
	fake_event(s, EPOLLIN | EPOLLOUT);
	CHECK_EQ(write(pipefd[1], "x", 1), 1);
	CHECK_EQ(ev_poll(p, 3, &ZERO, NULL), 2);
	CHECK_EQ(p[0].revents, POLLIN);
	CHECK_EQ(p[1].revents, POLLIN);
	p[3] = (struct pollfd){ .fd = 0x7000, .events = POLLIN };
	CHECK_EQ(ev_poll(p, 4, NULL, NULL), 3);
	CHECK_EQ(p[3].revents, POLLNVAL);
	fake_consume(s, ~0u);
	p[0].events = 0;
	fake_event(s, EPOLLHUP);
	CHECK_EQ(ev_poll(p, 1, NULL, NULL), 1);
	CHECK_EQ(p[0].revents, POLLHUP);
	fake_consume(s, ~0u);
	p[0].events = POLLIN;
	t0 = worker_now();
	CHECK_EQ(ev_poll(p, 1, &shortly, NULL), 0);
	CHECK(worker_now() - t0 >= 2000000);
	l.s = s;
	for (int i = 0; i < 200; i++)
		p[i] = p[0];
	later(&l);
	t0 = worker_now();
	CHECK_EQ(ev_poll(p, 200, &t, NULL), 200);
	CHECK(worker_now() - t0 < 2000000000u);
	pthread_join(l.t, NULL);
	CHECK(cds_list_empty(&s->nf.watches));
	fake_close(fd);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_select(void)
{
	struct timespec t = { 0, 5000000 };
	fd_set r, w, e;
	struct fake *s;
	int fd, pipefd[2], n;

	CHECK(!pipe(pipefd));
	fd = fake_open(&s, false);
	n = (fd > pipefd[1] ? fd : pipefd[1]) + 1;
	fake_event(s, EPOLLIN | EPOLLOUT);
	CHECK_EQ(write(pipefd[1], "x", 1), 1);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&e);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	FD_SET(fd, &e);
	FD_SET(pipefd[0], &r);
	FD_SET(pipefd[1], &w);
	CHECK(ev_select_ours(n, &r, &w, &e));
	CHECK_EQ(ev_select(n, &r, &w, &e, NULL, NULL), 4);
	CHECK(FD_ISSET(fd, &r) && FD_ISSET(fd, &w) && !FD_ISSET(fd, &e));
	CHECK(FD_ISSET(pipefd[0], &r) && FD_ISSET(pipefd[1], &w));
	fake_consume(s, ~0u);
	/* HUP means nothing to an exception set: it waits, and does not spin */
	fake_event(s, EPOLLHUP);
	FD_ZERO(&e);
	FD_SET(fd, &e);
	CHECK_EQ(ev_select(n, NULL, NULL, &e, &t, NULL), 0);
	CHECK(!FD_ISSET(fd, &e));
	CHECK_EQ(t.tv_sec + t.tv_nsec, 0);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	t.tv_sec = 7;
	CHECK_EQ(ev_select(n, &r, NULL, NULL, &t, NULL), 1);
	CHECK(t.tv_sec == 6 || (t.tv_sec == 7 && !t.tv_nsec));
	FD_SET(1000, &r);
	CHECK_EQ(ev_select(1001, &r, NULL, NULL, NULL, NULL), -EBADF);
	CHECK(FD_ISSET(1000, &r));
	CHECK_EQ(ev_select(1000, &r, NULL, NULL, NULL, NULL), 1);
	CHECK_EQ(ev_select(-1, &r, NULL, NULL, NULL, NULL), -EINVAL);
	fake_close(fd);
	close(pipefd[0]);
	close(pipefd[1]);
}

/* --- signals, fork ------------------------------------------------------------------------ */

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	signals++;
}

static void test_signal(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct timespec t = { 1, 0 };
	int ep = ev_epoll_create1(0), fd;
	struct epoll_event ev;
	struct pollfd p = { .events = POLLIN };
	sigset_t block, none;
	struct fake *s;

	fd = fake_open(&s, false);
	p.fd = fd;
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), 0);
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	CHECK_EQ(ev_epoll_wait(ep, &ev, 1, &ZERO, NULL), 0);
	CHECK_EQ(signals, 0);
	CHECK_EQ(ev_epoll_wait(ep, &ev, 1, &t, &none), -EINTR);
	CHECK_EQ(signals, 1);
	raise(SIGUSR1);
	CHECK_EQ(ev_poll(&p, 1, &ZERO, &none), -EINTR);
	CHECK_EQ(signals, 2);
	raise(SIGUSR1);
	CHECK_EQ(ev_poll(&p, 1, &t, &none), -EINTR);
	CHECK_EQ(signals, 3);
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	fake_close(fd);
	fake_close(ep);
}

static void test_fork(void)
{
	int ep = ev_epoll_create1(0), fd, fd2, st = 0;
	struct epoll_event ev[4];
	struct fake *s, *s2;
	uint64_t v = 1;
	pid_t pid;

	fd = fake_open(&s, true);
	fd2 = fake_open(&s2, false);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), 0);
	CHECK_EQ(ctl(ep, EPOLL_CTL_ADD, fd2, EPOLLIN, 2), 0);
	CHECK_EQ(write(fd, &v, sizeof(v)), 8);
	ev_fork_prepare();
	pid = fork();
	if (!pid) {
		ev_fork_child();
		failures = 0;
		CHECK_EQ(wait0(ep, ev, 4), 1); /* its own look at the kernel half */
		CHECK_EQ(ev[0].data.u64, 1);
		fake_event(s2, EPOLLIN); /* the child's only */
		for (int i = 0; i < 100 && wait0(ep, ev, 4) < 2; i++)
			st = i; /* while the list has something, the kernel is asked now and then */
		CHECK(st < 99);
		fake_close(fd); /* must not take it out of the parent's set */
		CHECK_EQ(wait_ms(ep, ev, 4, 10), 1);
		fake_close(ep);
		fflush(stdout);
		_exit(failures ? 1 : 0);
	}
	ev_fork_parent();
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK_EQ(st, 0);
	CHECK_EQ(wait0(ep, ev, 4), 1);
	CHECK_EQ(ev[0].data.u64, 1);
	CHECK_EQ(read(fd, &v, sizeof(v)), 8);
	CHECK_EQ(wait_ms(ep, ev, 4, 10), 0);
	fake_close(fd);
	fake_close(fd2);
	fake_close(ep);
}

int main(void)
{
	test_errors();
	test_level_edge_oneshot();
	test_fairness();
	test_dup();
	test_kernel_half();
	test_kernel_bits();
	test_to_kernel();
	test_to_kernel_in_turn();
	test_leftover();
	test_nested();
	test_nested_to_kernel();
	test_sleep();
	test_many_waiters();
#ifndef __SANITIZE_ADDRESS__ /* gcc 12's does not follow the unwinding of a cancelled thread */
	test_cancel();
#else
	(void)test_cancel;
#endif
	test_poll();
	test_select();
	test_signal();
	test_fork();
	if (!failures)
		printf("ok\n");
	return failures != 0;
}
