/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/ev_fake.h - sockets and waiting, faked for the tests of the event calls
 *
 * A fake socket is an eventfd (its kernel half) with a readiness word that tests set as a stack
 * would: store, then notify. Waiting is ppoll on the kernel's descriptors and a doorbell.
 * Included by one C file each.
 */
#ifndef TESTS_EV_FAKE_H
#define TESTS_EV_FAKE_H

#include <errno.h>
#include <nsocket/ev_internal.h>
#include <nsocket/libc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failures __attribute__((unused));
#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			printf("not ok %s:%d %s: %s\n", __FILE__, __LINE__, __func__, #cond); \
			__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED); \
		} \
	} while (0)
#define CHECK_EQ(a, b) \
	do { \
		long long va = (long long)(a), vb = (long long)(b); \
		if (va != vb) { \
			printf("not ok %s:%d %s: %s is %lld, not %lld\n", __FILE__, __LINE__, \
			       __func__, #a, va, vb); \
			__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED); \
		} \
	} while (0)

static bool fake_kernel_only(struct nfile *f);
bool ev_sock_kernel_only(struct nfile *f)
{
	return fake_kernel_only(f);
}

static uint32_t fake_kernel_bits(struct nfile *f);
uint32_t ev_sock_kernel_bits(struct nfile *f)
{
	return fake_kernel_bits(f);
}

int ev_sock_ctl(struct nfile *f, int epfd, int op, const struct epoll_event *ev)
{
	return 0;
}

uint64_t ev_sock_sleep(int epfd)
{
	return UINT64_MAX;
}

void ev_sock_watch(struct nfile *f)
{
}

bool ev_sock_inside(void)
{
	return false;
}

#ifdef EV_FAKE_POLL /* the includer has its own idea of readiness */
static uint32_t stub_poll(struct nfile *f);
uint32_t nsock_poll(struct nfile *f)
{
	return stub_poll(f);
}

static uint32_t fake_kernel_bits(struct nfile *f)
{
	return UINT32_MAX;
}

static bool user;
static bool fake_kernel_only(struct nfile *f)
{
	return false;
}

bool nsock_kernel_half(struct nfile *f)
{
	return !user;
}
#else
struct fake {
	struct nfile nf;
	uint32_t ready;  /* atomic */
	uint32_t khalf;  /* atomic; 2: the kernel's for good; 3: its OUT does not count */
	uint32_t polls;  /* atomic: how often it was asked */
	uint32_t closed; /* atomic: after that nobody may ask */
};

uint32_t nsock_poll(struct nfile *f)
{
	struct fake *s = (struct fake *)f;

	if (__atomic_load_n(&s->closed, __ATOMIC_SEQ_CST)) {
		printf("not ok: a closed socket was asked\n");
		abort();
	}
	__atomic_add_fetch(&s->polls, 1, __ATOMIC_RELAXED);
	return __atomic_load_n(&s->ready, __ATOMIC_SEQ_CST);
}

static uint32_t fake_kernel_bits(struct nfile *f)
{
	return f->kind == NF_SOCK && ((struct fake *)f)->khalf == 3 ? ~(uint32_t)EPOLLOUT :
								     UINT32_MAX;
}

static void (*fake_asked)(struct nfile *f); /* what happens while a set looks whose f is */

static bool fake_kernel_only(struct nfile *f)
{
	if (fake_asked)
		fake_asked(f);
	return f->kind == NF_SOCK &&
	       __atomic_load_n(&((struct fake *)f)->khalf, __ATOMIC_SEQ_CST) == 2;
}

bool nsock_kernel_half(struct nfile *f)
{
	return __atomic_load_n(&((struct fake *)f)->khalf, __ATOMIC_SEQ_CST);
}

static void fake_release(struct nfile *f)
{
	ev_file_release(f);
	__atomic_store_n(&((struct fake *)f)->closed, 1, __ATOMIC_SEQ_CST);
	nfile_free_rcu(f);
}

/* A new socket; its number is returned. */
static int fake_open(struct fake **out, bool khalf)
{
	struct fake *s = calloc(1, sizeof(*s));
	int fd = (int)syscall(SYS_eventfd2, 0, EFD_NONBLOCK);

	nfile_init(&s->nf, NF_SOCK, 0, fake_release);
	s->khalf = khalf;
	fd_install(fd, &s->nf);
	nfile_put(&s->nf);
	*out = s;
	return fd;
}

static inline void fake_close(int fd)
{
	struct nfile *f = fd_remove(fd);

	syscall(SYS_close, fd); /* past ThreadSanitizer, to which it writes the descriptor */
	if (f)
		nfile_put(f);
}

static inline void fake_event(struct fake *s, uint32_t ready)
{
	__atomic_or_fetch(&s->ready, ready, __ATOMIC_SEQ_CST);
	watch_notify(&s->nf, ready);
}
static inline void fake_consume(struct fake *s, uint32_t bits)
{
	__atomic_and_fetch(&s->ready, ~bits, __ATOMIC_SEQ_CST);
}

#endif

/* --- waiting ------------------------------------------------------------------------------ */

struct waiter {
	int fd;
	uint32_t sleeping;
	struct waiter *next;
};

static __thread struct waiter *self;
static struct waiter *waiters; /* never freed: a late ring may come */

struct waiter *waiter_self(void)
{
	if (!self) {
		self = calloc(1, sizeof(*self));
		self->fd = fd_hide(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
		self->next = __atomic_load_n(&waiters, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(&waiters, &self->next, self, true,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			;
	}
	return self;
}

void waiter_ring(struct waiter *w)
{
	uint64_t one = 1;

	nst_full_barrier();
	if (__atomic_exchange_n(&w->sleeping, 0, __ATOMIC_SEQ_CST) &&
	    write(w->fd, &one, sizeof(one)) < 0)
		abort();
}

uint64_t worker_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void worker_burst(unsigned n)
{
}

void worker_call_begin(void)
{
}

void worker_drive(void)
{
}

static unsigned long sleeps __attribute__((unused)); /* how often anybody slept */

int worker_wait(struct waiter *w, struct pollfd *kfds, unsigned nk, uint64_t deadline_ns,
		const sigset_t *sigmask, bool (*ready)(void *arg), void *arg)
{
	struct pollfd p[nk + 1];
	struct timespec t;
	uint64_t v;
	int r;

	for (;;) {
		__atomic_store_n(&w->sleeping, 1, __ATOMIC_SEQ_CST);
		nst_full_barrier();
		if (ready(arg)) {
			__atomic_store_n(&w->sleeping, 0, __ATOMIC_SEQ_CST);
			return 1;
		}
		for (unsigned i = 0; i < nk; i++)
			p[i] = kfds[i];
		p[nk] = (struct pollfd){ .fd = w->fd, .events = POLLIN };
		__atomic_add_fetch(&sleeps, 1, __ATOMIC_RELAXED);
		t = ev_remaining(deadline_ns);
		r = libc.ppoll(p, nk + 1, deadline_ns == UINT64_MAX ? NULL : &t, sigmask);
		__atomic_store_n(&w->sleeping, 0, __ATOMIC_SEQ_CST);
		if (r < 0)
			return -errno;
		if (p[nk].revents && read(w->fd, &v, sizeof(v)) < 0 && errno != EAGAIN)
			abort();
		for (unsigned i = 0; i < nk; i++) {
			kfds[i].revents = p[i].revents;
			if (p[i].revents)
				return 1;
		}
		if (ready(arg))
			return 1;
		if (deadline_ns != UINT64_MAX && worker_now() >= deadline_ns)
			return 0;
	}
}

#endif
