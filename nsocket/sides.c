/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sides.c - one process at a time at a side of a connection
 *
 * Who finds another one there looks again until it has gone, or has died; one that is stopped in the middle
 * is passed by in the end. What it did not publish has not happened.
 */
#define _GNU_SOURCE
#include "nsocket/sides.h"

#include <nsocket/libc.h>
#include <nsocket/lock.h>
#include <nsocket/worker.h>
#include <nsocket/file.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STOPPED_NS 2000000000ull

#define PORTS 1024u /* ports that share a word wait for each other */

static uint32_t self;   /* this process; constant but for fork */
static uint32_t *ports; /* shared with children; NULL: no memory */
static pthread_mutex_t ports_lock = PTHREAD_MUTEX_INITIALIZER; /* among this process's threads */

__attribute__((constructor(102))) static void sides_constructor(void)
{
	void *p = mmap(NULL, PORTS * sizeof(*ports), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	self = (uint32_t)getpid();
	ports = p == MAP_FAILED ? NULL : p;
}

void sides_after_fork_child(void)
{
	self = (uint32_t)getpid();
	pthread_mutex_init(&ports_lock, NULL);
}

/* One that waits to be reaped, too. */
static bool has_ended(uint32_t pid)
{
	int fd = fd_hide((int)syscall(SYS_pidfd_open, pid, 0));
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec now = { 0, 0 };
	bool ended = fd < 0 ? errno == ESRCH : syscall(SYS_ppoll, &p, 1, &now, NULL, (size_t)8) > 0;

	fd_hide_close(fd);
	return ended;
}

static bool taken(uint32_t *at, uint32_t from)
{
	/* acquire: pairs sides.give */
	return __atomic_compare_exchange_n(at, &from, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void wait_for(uint32_t *at)
{
	static const struct timespec moment = { 0, 20000 };
	uint64_t end = worker_now() + STOPPED_NS;
	uint32_t who;

	while (!taken(at, 0)) {
		who = __atomic_load_n(at, __ATOMIC_RELAXED); /* relaxed: only asked about */
		if (who && (worker_now() >= end || has_ended(who)) && taken(at, who))
			return;
		syscall(SYS_nanosleep, &moment, NULL);
	}
}

void sides_take(uint32_t *at)
{
	if (!taken(at, 0))
		wait_for(at);
}

void sides_give(uint32_t *at)
{
	/* relaxed: only this process writes its own number */
	if (__atomic_load_n(at, __ATOMIC_RELAXED) == self)
		/* release: pairs sides.give - what was done at the FIFO */
		__atomic_store_n(at, 0, __ATOMIC_RELEASE);
}

void sides_port_take(uint16_t port)
{
	lock_take(&ports_lock);
	if (ports)
		sides_take(&ports[port % PORTS]);
}

void sides_port_give(uint16_t port)
{
	if (ports)
		sides_give(&ports[port % PORTS]);
	lock_give(&ports_lock);
}
