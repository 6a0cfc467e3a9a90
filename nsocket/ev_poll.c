/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_poll.c - poll and select over kernel and nstack descriptors mixed
 *
 * One engine for both: a list of pollfd, and a function that says whether an answer ends the
 * wait. It looks at the user-stack half of each descriptor of ours and lets libc's poll() look
 * at the rest without waiting; if nothing is ready it hangs a watch on every file of ours, looks
 * again, and sleeps on the stack and the kernel's descriptors at once.
 *
 * Watches can be called a little after they were taken off, so they live in a block that is
 * freed after a grace period (blocks of a thread are handed over many at a time); everything
 * else is on the stack, or on the heap for many descriptors.
 *
 * Ordering: ev.watch (see ev.h); ev.fired (a waiter clears fired, then looks; a notifier
 * publishes readiness, then sets fired).
 *
 * Threads: any, each for itself.
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/cleanup.h"
#include "nsocket/libc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define ON_STACK 64
/* A descriptor that the kernel reports for something the caller can't use (select) is left out of
 * the sleep and looked at this often instead. */
#define RELOOK_NS 10000000

struct poll_watch {
	struct watch watch;
	struct poll_block *block;
	struct nfile *f;
	uint32_t events;
};

struct poll_block {
	struct rcu_head rcu;
	struct poll_block *next; /* retired ones */
	struct waiter *waiter;
	uint32_t fired;          /* atomic */
	uint32_t n;
	struct poll_watch w[];
};

struct poll_call {
	struct pollfd *fds;
	unsigned n;
	bool (*counts)(const struct pollfd *p);
	struct nfile **files;  /* by index: referenced, or NULL: the kernel's */
	struct pollfd *kfds;   /* what the kernel has to look at; events 0 and fd -1: left out */
	unsigned *kidx;        /* kfds[i] is the kernel half of fds[kidx[i]] */
	unsigned nk;
	unsigned ours;
	bool relook;           /* something was left out of the sleep */
	struct poll_block *block; /* while watches are up */
	void *heap;
};

/* --- blocks ------------------------------------------------------------------------------- */

/* call_rcu() may have to wake its thread, so a thread's blocks go many at a time. */
#define RETIRE_AT 32
static __thread struct poll_block *retired;
static __thread unsigned nretired;
static pthread_key_t retired_key;
static pthread_once_t retired_once = PTHREAD_ONCE_INIT;

static void blocks_free(struct rcu_head *head)
{
	struct poll_block *b = caa_container_of(head, struct poll_block, rcu), *next;

	for (; b; b = next) {
		next = b->next;
		free(b);
	}
}

static void blocks_flush(void *arg)
{
	struct poll_block *b = retired;

	retired = NULL;
	nretired = 0;
	if (b)
		file_call_rcu(&b->rcu, blocks_free);
}

static void retired_init(void)
{
	pthread_key_create(&retired_key, blocks_flush);
}

static void block_retire(struct poll_block *b)
{
	if (!retired) {
		pthread_once(&retired_once, retired_init);
		pthread_setspecific(retired_key, b); /* so that the thread's end flushes */
	}
	b->next = retired;
	retired = b;
	if (++nretired >= RETIRE_AT)
		blocks_flush(NULL);
}

static bool poll_notify(struct watch *watch, struct nfile *f, uint32_t events)
{
	struct poll_watch *w = caa_container_of(watch, struct poll_watch, watch);

	if (!(events & NSOCK_EV_REWATCH) &&
	    !(ev_key(events) & (w->events | POLLERR | POLLHUP)))
		return false;
	/* release: pairs ev.fired - readiness before */
	__atomic_store_n(&w->block->fired, 1, __ATOMIC_RELEASE);
	waiter_ring(w->block->waiter);
	return true;
}

static struct poll_block *block_watch(struct poll_call *c)
{
	struct poll_block *b = malloc(sizeof(*b) + c->ours * sizeof(b->w[0]));
	struct poll_watch *w;

	if (!b)
		return NULL;
	b->waiter = waiter_self();
	b->fired = 0;
	b->n = 0;
	for (unsigned i = 0; i < c->n; i++) {
		if (!c->files[i])
			continue;
		w = &b->w[b->n++];
		w->watch.notify = poll_notify;
		w->watch.exclusive = false;
		w->block = b;
		w->f = c->files[i];
		w->events = (uint16_t)c->fds[i].events;
		watch_add(w->f, &w->watch);
		ev_sock_watch(w->f);
	}
	/* full barrier: pairs ev.watch - watches are up before readiness is read */
	nst_full_barrier();
	return b;
}

static void block_unwatch(struct poll_block *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		watch_del(b->w[i].f, &b->w[i].watch);
	block_retire(b);
}

void ev_poll_forget(struct nfile *f)
{
	struct watch *w, *next;

	/* nobody else is here; the blocks are lost to us, once per fork and thread */
	cds_list_for_each_entry_safe(w, next, &f->watches, node)
		if (w->notify == poll_notify)
			cds_list_del(&w->node);
}

static bool block_fired(void *arg)
{
	/* acquire: pairs ev.fired */
	return __atomic_load_n(&((struct poll_block *)arg)->fired, __ATOMIC_ACQUIRE);
}

/* --- looking ------------------------------------------------------------------------------ */

static void kfd_add(struct poll_call *c, unsigned i)
{
	uint32_t events = (uint16_t)c->fds[i].events;

	if (c->files[i])
		events &= ev_sock_kernel_bits(c->files[i]);
	c->kfds[c->nk] = (struct pollfd){ .fd = c->fds[i].fd, .events = (short)events };
	c->kidx[c->nk++] = i;
}

/* Fill revents of all; returns how many count, or -errno. */
static int call_look(struct poll_call *c, const sigset_t *mask)
{
	struct pollfd *p;
	struct nfile *f;
	int n = 0, r = 0;

	c->nk = 0;
	c->relook = false;
	for (unsigned i = 0; i < c->n; i++) {
		p = &c->fds[i];
		f = c->files[i];
		p->revents = 0;
		if (p->fd < 0)
			continue;
		if (f && !nfile_has_fd(f, p->fd)) { /* closed meanwhile: NVAL, as in Linux */
			kfd_add(c, i);
			continue;
		}
		if (f)
			p->revents = (short)(ev_expand(ev_file_poll(f)) &
					     ((uint16_t)p->events | POLLERR | POLLHUP));
		if (!f || f->kind == NF_EPOLL || nsock_kernel_half(f))
			kfd_add(c, i);
		n += c->counts(p);
	}
	if (!n && mask) { /* a signal that only the mask lets through ends even a wait of 0 */
		struct timespec zero = { 0 };

		r = libc.ppoll(c->kfds, c->nk, &zero, mask);
	} else if (c->nk) {
		r = libc.poll(c->kfds, c->nk, 0);
	}
	if (r < 0)
		return n ? n : -errno;
	n = 0;
	for (unsigned i = 0; i < c->nk; i++) {
		p = &c->fds[c->kidx[i]];
		p->revents |= c->kfds[i].revents;
		if (c->kfds[i].revents && !c->counts(p)) {
			c->kfds[i].fd = -1; /* out of the sleep that may follow */
			c->relook = true;
		}
	}
	for (unsigned i = 0; i < c->n; i++)
		n += c->counts(&c->fds[i]);
	return n;
}

/* Give back what the call took; also when its thread is cancelled. */
static void call_end(void *arg)
{
	struct poll_call *c = arg;

	if (c->block)
		block_unwatch(c->block);
	for (unsigned i = 0; i < c->n; i++)
		if (c->files[i])
			nfile_put(c->files[i]);
	free(c->heap);
}

static int call_sleep(struct poll_call *c, uint64_t until, const sigset_t *mask)
{
	struct _pthread_cleanup_buffer undo;
	int r;

	cleanup_push(&undo, call_end, c);
	r = worker_wait(c->block->waiter, c->kfds, c->nk, until, mask, block_fired, c->block);
	cleanup_pop(&undo);
	return r;
}

static int call_wait(struct poll_call *c, const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t deadline, until, again;
	struct poll_block *b;
	int n, r = 1;

	worker_call_begin();
	worker_drive();
	n = call_look(c, ev_timeout_zero(timeout) ? mask : NULL);
	if (n || ev_timeout_zero(timeout))
		return n;
	deadline = ev_deadline(timeout);
	b = c->block = block_watch(c);
	if (!b)
		return -ENOMEM;
	for (;;) {
		/* full barrier: pairs ev.fired - cleared before readiness is read */
		__atomic_store_n(&b->fired, 0, __ATOMIC_SEQ_CST);
		n = call_look(c, NULL);
		if (n || r <= 0)
			break;
		until = deadline;
		if (c->relook && worker_now() + RELOOK_NS < deadline)
			until = worker_now() + RELOOK_NS;
		again = ev_sock_sleep(-1);
		until = again < until ? again : until;
		r = call_sleep(c, until, mask);
		if (r == 0 && until < deadline)
			r = 1;
	}
	return n ? n : r;
}

/* Take the files and the memory that the call needs, and wait. -EAGAIN: none of them is ours after
 * all (a descriptor of the library's own, or one that was just closed): libc is to be called. */
static int call_run(struct pollfd *fds, unsigned n, bool (*counts)(const struct pollfd *),
		    const struct timespec *timeout, const sigset_t *mask)
{
	struct nfile *files[ON_STACK];
	struct pollfd kfds[ON_STACK];
	unsigned kidx[ON_STACK];
	struct poll_call c = { .fds = fds, .n = n, .counts = counts, .files = files, .kfds = kfds,
			       .kidx = kidx };
	int r;

	if (n > ON_STACK) {
		c.heap = malloc((size_t)n * (sizeof(*c.files) + sizeof(*c.kfds) +
					     sizeof(*c.kidx)));
		if (!c.heap)
			return -ENOMEM;
		c.files = c.heap;
		c.kfds = (struct pollfd *)(c.files + n);
		c.kidx = (unsigned *)(c.kfds + n);
	}
	for (unsigned i = 0; i < n; i++) {
		c.files[i] = fds[i].fd >= 0 ? fd_get(fds[i].fd) : NULL;
		c.ours += c.files[i] != NULL;
	}
	r = c.ours ? call_wait(&c, timeout, mask) : -EAGAIN;
	call_end(&c);
	return r;
}

/* --- poll --------------------------------------------------------------------------------- */

static bool poll_counts(const struct pollfd *p)
{
	return p->revents != 0;
}

int ev_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct rlimit lim;
	int r;

	if ((timeout && ev_wild(timeout)) || (mask && ev_wild(mask)))
		return -EFAULT;
	if (!ev_timeout_valid(timeout))
		return -EINVAL;
	if (n > ON_STACK && (n > INT32_MAX || (!getrlimit(RLIMIT_NOFILE, &lim) && n > lim.rlim_cur)))
		return -EINVAL;
	r = call_run(fds, (unsigned)n, poll_counts, timeout, mask);
	return r == -EAGAIN ? (int)libc_errno(libc.ppoll(fds, n, timeout, mask)) : r;
}

/* --- select ------------------------------------------------------------------------------- */

#define SET_RD (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define SET_WR (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)
#define SET_EX POLLPRI
#define WORD_BITS (8 * sizeof(unsigned long))

static unsigned long set_word(const fd_set *set, unsigned w)
{
	return set ? ((const unsigned long *)set)[w] : 0;
}

static bool set_has(const fd_set *set, unsigned fd)
{
	return set_word(set, fd / WORD_BITS) >> fd % WORD_BITS & 1;
}

static void set_clear(fd_set *set, unsigned n)
{
	if (set)
		memset(set, 0, (n + WORD_BITS - 1) / WORD_BITS * sizeof(unsigned long));
}

static int set_mark(fd_set *set, int fd)
{
	((unsigned long *)set)[(unsigned)fd / WORD_BITS] |= 1ul << (unsigned)fd % WORD_BITS;
	return 1;
}

/* What a pollfd of select() asks for is in events, by the first bit of each set. */
static int select_bits(const struct pollfd *p, bool *rd, bool *wr, bool *ex)
{
	*rd = (p->events & POLLIN) && (p->revents & SET_RD);
	*wr = (p->events & POLLOUT) && (p->revents & SET_WR);
	*ex = (p->events & POLLPRI) && (p->revents & SET_EX);
	return *rd + *wr + *ex;
}

static bool select_counts(const struct pollfd *p)
{
	bool rd, wr, ex;

	return (p->revents & POLLNVAL) || select_bits(p, &rd, &wr, &ex);
}

/* List the descriptors of the sets; returns how many, fills out if not NULL. */
static unsigned select_list(unsigned n, const fd_set *rd, const fd_set *wr, const fd_set *ex,
			    struct pollfd *out, bool *ours)
{
	unsigned long bits;
	unsigned count = 0;
	struct pollfd p;

	for (unsigned w = 0; w * WORD_BITS < n; w++) {
		bits = set_word(rd, w) | set_word(wr, w) | set_word(ex, w);
		if (n - w * WORD_BITS < WORD_BITS)
			bits &= (1ul << (n - w * WORD_BITS)) - 1;
		for (; bits; bits &= bits - 1, count++) {
			p.fd = (int)(w * WORD_BITS) + __builtin_ctzl(bits);
			*ours |= fd_is_ours(p.fd);
			if (!out)
				continue;
			p.events = 0;
			if (set_has(rd, (unsigned)p.fd))
				p.events |= POLLIN | POLLRDNORM | POLLRDBAND;
			if (set_has(wr, (unsigned)p.fd))
				p.events |= POLLOUT | POLLWRNORM | POLLWRBAND;
			if (set_has(ex, (unsigned)p.fd))
				p.events |= POLLPRI;
			p.revents = 0;
			out[count] = p;
		}
	}
	return count;
}

/* Turn the answers into sets. Returns the number of bits, or -EBADF (sets untouched). */
static int select_answer(const struct pollfd *p, unsigned count, unsigned n, fd_set *rd,
			 fd_set *wr, fd_set *ex)
{
	bool in, out, pri;
	int total = 0;

	for (unsigned i = 0; i < count; i++)
		if (p[i].revents & POLLNVAL)
			return -EBADF;
	set_clear(rd, n);
	set_clear(wr, n);
	set_clear(ex, n);
	for (unsigned i = 0; i < count; i++) {
		select_bits(&p[i], &in, &out, &pri);
		total += in ? set_mark(rd, p[i].fd) : 0;
		total += out ? set_mark(wr, p[i].fd) : 0;
		total += pri ? set_mark(ex, p[i].fd) : 0;
	}
	return total;
}

static int select_ours(unsigned n, unsigned count, fd_set *rd, fd_set *wr, fd_set *ex,
		       struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd on_stack[ON_STACK], *p = on_stack;
	uint64_t deadline = ev_deadline(timeout);
	bool ours;
	int r;

	if (count > ON_STACK) {
		p = malloc(count * sizeof(*p));
		if (!p)
			return -ENOMEM;
	}
	select_list(n, rd, wr, ex, p, &ours);
	r = call_run(p, count, select_counts, timeout, mask);
	if (r == -EAGAIN)
		r = (int)libc_errno(libc.pselect((int)n, rd, wr, ex, timeout, mask));
	else if (r >= 0)
		r = select_answer(p, count, n, rd, wr, ex);
	if (p != on_stack)
		free(p);
	if (timeout)
		*timeout = ev_remaining(deadline);
	return r;
}

/* What lies beyond the highest possible descriptor is not looked at, as in Linux. */
static unsigned select_bound(int n)
{
	struct rlimit lim;

	if (n > FD_SETSIZE && !getrlimit(RLIMIT_NOFILE, &lim) && (rlim_t)n > lim.rlim_cur)
		n = (int)lim.rlim_cur;
	return (unsigned)n;
}

bool ev_select_ours(int n, const fd_set *rd, const fd_set *wr, const fd_set *ex)
{
	bool ours = false;

	/* a set that can't be read is libc's to complain about */
	if (n > 0 && !(rd && ev_wild(rd)) && !(wr && ev_wild(wr)) && !(ex && ev_wild(ex)))
		select_list(select_bound(n), rd, wr, ex, NULL, &ours);
	return ours;
}

int ev_select(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timespec *timeout,
	      const sigset_t *mask)
{
	bool ours = false;
	unsigned count;

	if (mask && ev_wild(mask))
		return -EFAULT;
	if (n < 0 || !ev_timeout_valid(timeout))
		return -EINVAL;
	count = select_list(select_bound(n), rd, wr, ex, NULL, &ours);
	return select_ours(select_bound(n), count, rd, wr, ex, timeout, mask);
}
