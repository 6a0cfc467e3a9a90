// SPDX-License-Identifier: Apache-2.0
/* tests/unit/worker_wakeup.c - no wake-up and no command is lost
 *
 * A stack of straw: "packets" are counters that sources raise before they write the one eventfd
 * that plays the HAL; poll() turns them into events that ring the waiter concerned. Every source
 * plays ping-pong with its waiter, so somebody is always about to sleep when something arrives. A
 * wait that runs into its time-out is a lost wake-up. Commands are posted all the while; each must
 * run. And threads are cancelled in their sleep all the while; whoever is left finds the role of the
 * leader, the list of followers and the worker lock as if they had never been there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <nsocket/libc.h>
#include <nsocket/worker_internal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAIRS 3
#define SECONDS 2
#define LOST_NS 3000000000ull

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			printf("not ok %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1); \
		} \
	} while (0)

struct pair {
	uint32_t sent;    /* atomic: by the source */
	uint32_t arrived; /* atomic: by poll(), under the worker lock */
	uint32_t taken;   /* by the waiter */
	uint32_t done;    /* atomic: what the source sees of taken */
	struct waiter *w; /* atomic */
	struct worker_cmd cmd;
	uint64_t posted, ran; /* atomic; under the worker lock */
};

static struct pair pairs[PAIRS];
static int hal = -1;
static bool over; /* atomic */
static uint32_t out; /* atomic: waiters that are through, and drive the stack no more */
static bool quiet; /* atomic: nobody rings any more, so waiters may end */

static uint32_t straw_poll(struct stack *st, uint64_t now)
{
	uint64_t n;
	uint32_t work = 0;

	(void)!read(hal, &n, sizeof(n));
	for (int i = 0; i < PAIRS; i++) {
		uint32_t sent = __atomic_load_n(&pairs[i].sent, __ATOMIC_ACQUIRE);

		if (sent == pairs[i].arrived)
			continue;
		__atomic_store_n(&pairs[i].arrived, sent, __ATOMIC_RELEASE);
		waiter_ring(__atomic_load_n(&pairs[i].w, __ATOMIC_ACQUIRE));
		work++;
	}
	return work;
}

static uint64_t straw_deadline(struct stack *st)
{
	return UINT64_MAX;
}

static void straw_flush(struct stack *st)
{
}

static const struct stack_ops straw = { .name = "straw", .poll = straw_poll, .flush = straw_flush,
					.deadline = straw_deadline };

static void cmd_run(struct worker_cmd *c, uint32_t bits)
{
	struct pair *p = (struct pair *)((char *)c - offsetof(struct pair, cmd));

	p->ran = __atomic_load_n(&p->posted, __ATOMIC_ACQUIRE);
}

static void cmd_nop(struct worker_cmd *c, uint32_t bits)
{
}

static const struct worker_cmd_ops cmd_ops = { cmd_run, cmd_nop, cmd_nop };

static bool arrived(void *arg)
{
	struct pair *p = arg;

	return __atomic_load_n(&p->arrived, __ATOMIC_ACQUIRE) != p->taken ||
	       __atomic_load_n(&over, __ATOMIC_ACQUIRE);
}

static void *waiter_main(void *arg)
{
	struct pair *p = arg;

	__atomic_store_n(&p->w, waiter_self(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		CHECK(worker_wait(waiter_self(), NULL, 0, worker_now() + LOST_NS, NULL, arrived,
				  p) == 1);
		p->taken = __atomic_load_n(&p->arrived, __ATOMIC_ACQUIRE);
		__atomic_add_fetch(&p->posted, 1, __ATOMIC_RELEASE);
		worker_post(&p->cmd, 1);
		__atomic_store_n(&p->done, p->taken, __ATOMIC_RELEASE);
	}
	__atomic_add_fetch(&out, 1, __ATOMIC_ACQ_REL);
	while (!__atomic_load_n(&quiet, __ATOMIC_ACQUIRE))
		usleep(100);
	return NULL;
}

static void *source_main(void *arg)
{
	static const uint64_t one = 1;
	struct pair *p = arg;
	unsigned seed = (unsigned)(p - pairs);

	while (!__atomic_load_n(&p->w, __ATOMIC_ACQUIRE))
		usleep(100);
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		uint64_t since = worker_now();

		__atomic_add_fetch(&p->sent, 1, __ATOMIC_RELEASE);
		(void)!write(hal, &one, sizeof(one));
		while (__atomic_load_n(&p->done, __ATOMIC_ACQUIRE) != p->sent &&
		       !__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
			CHECK(worker_now() - since < LOST_NS);
			sched_yield();
		}
		for (int n = rand_r(&seed) % 2000; n; n--)
			__asm__ volatile("" ::: "memory");
	}
	return NULL;
}

static bool never(void *arg)
{
	return false;
}

static void *sleeper_main(void *arg)
{
	struct pollfd many[100];

	for (int i = 0; i < 100; i++)
		many[i] = (struct pollfd){ .fd = -1 };
	for (;;)
		worker_wait(waiter_self(), many, 100, UINT64_MAX, NULL, never, NULL);
	return NULL;
}

/* A few at a time, so that leaders and followers of every age go. */
static void *canceller_main(void *arg)
{
	static uint32_t cancelled;
	pthread_t t[4];

	/* gcc 12's sanitizers do not follow a cancelled thread: TSan loses its locks, ASan the end of
	 * its stack frames */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return NULL;
#endif
	while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < 4; i++)
			CHECK(!pthread_create(&t[i], NULL, sleeper_main, NULL));
		for (int i = 0; i < 4; i++) {
			void *result;

			usleep(500);
			CHECK(!pthread_cancel(t[i]) && !pthread_join(t[i], &result));
			CHECK(result == PTHREAD_CANCELED);
			cancelled++;
		}
	}
	CHECK(cancelled > 0);
	return NULL;
}

struct guest {
	pthread_t thread;
	struct waiter *w; /* atomic */
	struct pair *p;   /* what it waits for; NULL: go */
	bool go;          /* atomic */
	bool gone;        /* atomic */
};

static bool may_go(void *arg)
{
	struct guest *g = arg;

	return g->p ? arrived(g->p) : __atomic_load_n(&g->go, __ATOMIC_ACQUIRE);
}

static void *guest_main(void *arg)
{
	struct guest *g = arg;

	__atomic_store_n(g->p ? &g->p->w : &g->w, waiter_self(), __ATOMIC_RELEASE);
	CHECK(worker_wait(waiter_self(), NULL, 0, UINT64_MAX, NULL, may_go, g) == 1);
	__atomic_store_n(&g->gone, true, __ATOMIC_RELEASE);
	return NULL;
}

/* It sleeps when this returns; if not, less is tried here, and nothing fails. */
static void guest_sleeps(struct guest *g)
{
	CHECK(!pthread_create(&g->thread, NULL, guest_main, g));
	usleep(20000);
}

/* Who is asked to lead has got what it waited for meanwhile, and goes: packets are still seen for who is left. */
static void test_heir_goes(void)
{
	struct guest first = { .p = NULL }, heir = { .p = NULL }, left = { .p = &pairs[0] };
	static const uint64_t one = 1;
	uint64_t since;

	__atomic_store_n(&over, false, __ATOMIC_SEQ_CST);
	left.p->taken = left.p->arrived = left.p->sent;
	CHECK(worker_helper_start() == 0);
	guest_sleeps(&first);
	guest_sleeps(&left);
	guest_sleeps(&heir);
	usleep(300000); /* so does the helper, who drives a while longer */
	__atomic_store_n(&heir.go, true, __ATOMIC_SEQ_CST); /* and nobody rings */
	__atomic_store_n(&first.go, true, __ATOMIC_SEQ_CST);
	waiter_ring(__atomic_load_n(&first.w, __ATOMIC_ACQUIRE));
	pthread_join(first.thread, NULL);
	pthread_join(heir.thread, NULL);
	__atomic_add_fetch(&left.p->sent, 1, __ATOMIC_RELEASE);
	(void)!write(hal, &one, sizeof(one));
	for (since = worker_now(); !__atomic_load_n(&left.gone, __ATOMIC_ACQUIRE); usleep(100))
		CHECK(worker_now() - since < LOST_NS);
	pthread_join(left.thread, NULL);
	left.p->taken = left.p->arrived;
	worker_helper_stop();
}

int main(void)
{
	pthread_t t[2 * PAIRS], canceller;
	uint32_t total = 0;

	hal = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	worker.ops = &straw;
	worker.st = (struct stack *)&straw;
	worker.fds[worker.nfds++] = hal;
	__atomic_store_n(&worker.state, WORKER_RUNNING, __ATOMIC_RELEASE);
	CHECK(worker_helper_start() == 0);
	for (int i = 0; i < PAIRS; i++) {
		pairs[i].cmd.ops = &cmd_ops;
		CHECK(!pthread_create(&t[2 * i], NULL, waiter_main, &pairs[i]));
		CHECK(!pthread_create(&t[2 * i + 1], NULL, source_main, &pairs[i]));
	}
	CHECK(!pthread_create(&canceller, NULL, canceller_main, NULL));
	sleep(SECONDS);
	__atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
	for (int i = 0; i < PAIRS; i++)
		waiter_ring(__atomic_load_n(&pairs[i].w, __ATOMIC_ACQUIRE));
	for (int i = 0; i < PAIRS; i++)
		pthread_join(t[2 * i + 1], NULL);
	pthread_join(canceller, NULL);
	worker_helper_stop();
	while (__atomic_load_n(&out, __ATOMIC_ACQUIRE) != PAIRS)
		usleep(100);
	__atomic_store_n(&quiet, true, __ATOMIC_RELEASE);
	for (int i = 0; i < PAIRS; i++)
		pthread_join(t[2 * i], NULL);
	test_heir_goes();
	worker_lock();
	for (int i = 0; i < PAIRS; i++) {
		CHECK(pairs[i].taken > 0);
		CHECK(pairs[i].ran == pairs[i].posted);
		total += pairs[i].taken;
	}
	worker_unlock();
	printf("ok worker_wakeup: %u hand-overs, %llu commands queued\n", total,
	       (unsigned long long)worker.contended);
	return 0;
}
