/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/ev_churn.c - everything at once on the event calls
 *
 * Producers report readiness, workers add, change, remove, duplicate and close members, waiters
 * collect from shared sets by epoll_wait and poll, and the main thread forks children that do some
 * of this with what they inherit, for a bounded time (seconds as argument, default 1).
 * At the end a final round checks that nothing is stuck: every member that is ready is reported.
 * Meant for ThreadSanitizer and AddressSanitizer builds as well.
 */
#define _GNU_SOURCE
#include "tests/unit/ev_fake.h"

#include <string.h>
#include <sys/wait.h>

enum { SETS = 2, SOCKS = 24, WAITERS = 3, CHANGERS = 2, PRODUCERS = 2 };

static int sets[SETS];
static int socks[SOCKS]; /* numbers; -1 while it is being replaced */
static pthread_mutex_t sock_lock[SOCKS];
static uint64_t end_ns;
static unsigned long events, changes, forks;

static bool over(void)
{
	return worker_now() >= end_ns;
}

static int any_sock(unsigned *seed)
{
	return __atomic_load_n(&socks[(unsigned)rand_r(seed) % SOCKS], __ATOMIC_RELAXED);
}

static void *produce(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct nfile *f;
	int fd;

	while (!over()) {
		fd = any_sock(&seed);
		f = fd >= 0 ? fd_get(fd) : NULL;
		if (!f)
			continue;
		if (f->kind == NF_SOCK)
			fake_event((struct fake *)f, rand_r(&seed) % 4 ? EPOLLIN : EPOLLOUT);
		nfile_put(f);
		if (rand_r(&seed) % 64 == 0)
			usleep(200);
	}
	return NULL;
}

/* The member under a second number, which is closed again; the item stays with the file, and the
 * number may come again. Under sock_lock[i]. */
static void dup_and_close(int i, int ep, const struct epoll_event *ev, bool del)
{
	struct epoll_event copy = *ev;
	int fd = (int)syscall(SYS_dup, socks[i]), r;
	struct nfile *f = fd_get(socks[i]);

	fd_install(fd, f);
	nfile_put(f);
	r = ev_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &copy);
	CHECK(r == 0 || r == -EEXIST);
	if (del)
		CHECK_EQ(ev_epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL), 0);
	fake_close(fd);
}

static void *change(void *arg)
{
	static const uint32_t flavours[] = { EPOLLIN, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT,
					     EPOLLIN | EPOLLOUT, EPOLLOUT | EPOLLET, 0 };
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct epoll_event ev;
	struct fake *s;
	int i, ep, r;

	while (!over()) {
		i = rand_r(&seed) % SOCKS;
		ep = sets[rand_r(&seed) % SETS];
		ev.events = flavours[(unsigned)rand_r(&seed) % 6];
		pthread_mutex_lock(&sock_lock[i]);
		ev.data.u64 = (uint64_t)socks[i];
		switch (rand_r(&seed) % 10) {
		case 0:
			fake_close(socks[i]);
			r = fake_open(&s, rand_r(&seed) % 2);
			__atomic_store_n(&socks[i], r, __ATOMIC_RELAXED);
			break;
		case 8:
		case 9:
			dup_and_close(i, ep, &ev, rand_r(&seed) % 2);
			break;
		case 1:
		case 2:
			r = ev_epoll_ctl(ep, EPOLL_CTL_DEL, socks[i], &ev);
			CHECK(r == 0 || r == -ENOENT);
			break;
		case 3:
		case 4:
		case 5:
			r = ev_epoll_ctl(ep, EPOLL_CTL_ADD, socks[i], &ev);
			CHECK(r == 0 || r == -EEXIST);
			break;
		default:
			r = ev_epoll_ctl(ep, EPOLL_CTL_MOD, socks[i], &ev);
			CHECK(r == 0 || r == -ENOENT);
		}
		pthread_mutex_unlock(&sock_lock[i]);
		__atomic_add_fetch(&changes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void consume(int fd, uint32_t bits)
{
	struct nfile *f = fd_get(fd);

	if (!f)
		return;
	if (f->kind == NF_SOCK)
		fake_consume((struct fake *)f, bits);
	nfile_put(f);
}

static void *collect(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct timespec t = { 0, 1000000 };
	struct epoll_event ev[7];
	struct pollfd p[3];
	int n;

	while (!over()) {
		if (rand_r(&seed) % 4 == 0) {
			for (int i = 0; i < 2; i++)
				p[i] = (struct pollfd){ .fd = any_sock(&seed), .events = POLLIN };
			p[2] = (struct pollfd){ .fd = sets[0], .events = POLLIN };
			n = ev_poll(p, 3, &t, NULL);
			CHECK(n >= 0);
			continue;
		}
		n = ev_epoll_wait(sets[rand_r(&seed) % SETS], ev, 1 + rand_r(&seed) % 7, &t, NULL);
		CHECK(n >= 0);
		for (int i = 0; i < n; i++)
			consume((int)ev[i].data.u64, ev[i].events);
		__atomic_add_fetch(&events, (unsigned long)n, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* --- fork ----------------------------------------------------------------------------------- */

/* What a child does with sets that other threads of its parent were in the middle of using. Sockets
 * it leaves to the parent's threads: they may have held any lock of theirs. */
static void child(void)
{
	struct epoll_event ev[SOCKS], add = { .events = EPOLLIN | EPOLLOUT };
	struct fake *s;
	int fd, n;

	for (int k = 0; k < SETS; k++) {
		n = ev_epoll_wait(sets[k], ev, SOCKS, &(struct timespec){ 0 }, NULL);
		CHECK(n >= 0);
		fd = fake_open(&s, k % 2);
		add.data.u64 = (uint64_t)fd + 1000;
		CHECK_EQ(ev_epoll_ctl(sets[k], EPOLL_CTL_ADD, fd, &add), 0);
		fake_event(s, EPOLLIN);
		n = 0;
		for (int tries = 0; tries < 100 && !n; tries++) {
			int got = ev_epoll_wait(sets[k], ev, SOCKS, &(struct timespec){ 0 }, NULL);

			for (int i = 0; i < got; i++)
				n += ev[i].data.u64 == add.data.u64;
		}
		CHECK_EQ(n, 1);
		fake_close(fd);
	}
}

static void fork_one(void)
{
	pid_t pid;
	int st;

	ev_fork_prepare();
	file_fork_prepare();
	urcu_bp_before_fork();
	pid = fork();
	if (!pid) {
		urcu_bp_after_fork_child();
		file_fork_child();
		for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
			if (!fd_is_protected(fd))
				pthread_mutex_init(&nfile_table[fd]->watch_lock, NULL);
		ev_fork_child();
		failures = 0;
		child();
		_exit(failures != 0);
	}
	urcu_bp_after_fork_parent();
	file_fork_parent();
	ev_fork_parent();
	CHECK(pid > 0 && waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0);
	forks++;
}

/* Every ready member of every set is reported, each once. */
static void final_round(void)
{
	struct epoll_event ev[SOCKS], mod;
	struct fake *s;
	int n, total;

	for (int i = 0; i < SOCKS; i++) { /* what closed duplicates left goes with the file */
		fake_close(socks[i]);
		socks[i] = fake_open(&s, i % 2);
	}
	for (int k = 0; k < SETS; k++) {
		total = 0;
		for (int i = 0; i < SOCKS; i++) {
			mod.events = EPOLLIN | EPOLLONESHOT;
			mod.data.u64 = (uint64_t)socks[i];
			ev_epoll_ctl(sets[k], EPOLL_CTL_DEL, socks[i], NULL);
			CHECK_EQ(ev_epoll_ctl(sets[k], EPOLL_CTL_ADD, socks[i], &mod), 0);
			fake_event((struct fake *)nfile_table[socks[i]], EPOLLIN);
		}
		for (int tries = 0; tries < 100 && total < SOCKS; tries++) {
			n = ev_epoll_wait(sets[k], ev, 5, &(struct timespec){ 0 }, NULL);
			total += n;
		}
		CHECK_EQ(total, SOCKS);
		CHECK_EQ(ev_epoll_wait(sets[k], ev, 5, &(struct timespec){ 0 }, NULL), 0);
	}
}

int main(int argc, char **argv)
{
	pthread_t t[PRODUCERS + CHANGERS + WAITERS];
	void *(*fn)(void *);
	struct fake *s;
	int n = 0;

	end_ns = worker_now() + (uint64_t)(argc > 1 ? atoi(argv[1]) : 1) * 1000000000u;
	for (int i = 0; i < SETS; i++)
		sets[i] = ev_epoll_create1(0);
	for (int i = 0; i < SOCKS; i++) {
		pthread_mutex_init(&sock_lock[i], NULL);
		socks[i] = fake_open(&s, i % 2);
	}
	for (; n < PRODUCERS + CHANGERS + WAITERS; n++) {
		fn = n < PRODUCERS ? produce : n < PRODUCERS + CHANGERS ? change : collect;
		if (pthread_create(&t[n], NULL, fn, (void *)(uintptr_t)(n + 1)))
			return 1;
	}
	while (!over()) {
		fork_one();
		usleep(5000);
	}
	while (n--)
		pthread_join(t[n], NULL);
	final_round();
	for (int i = 0; i < SOCKS; i++)
		fake_close(socks[i]);
	for (int i = 0; i < SETS; i++)
		fake_close(sets[i]);
	CHECK(events > 0 && changes > 0 && forks > 0);
	rcu_barrier();
	if (!failures)
		printf("ok (%lu events, %lu changes, %lu forks)\n", events, changes, forks);
	return failures != 0;
}
