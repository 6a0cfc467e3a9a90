/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/limits.c - what limits mean to programs that are attached
 *
 * A program that meets one goes on with the kernel for what would be beyond it. Memory is what sockets' buffers
 * have touched, and is measured now and then: who is beyond the limit gets no further socket, those that there
 * are keep theirs.
 */
#define _GNU_SOURCE
#include "tools/nstackd/peer.h"
#include "tools/nstackd/shared.h"

#include <nsocket/worker_internal.h>
#include <rd/log.h>

#define MEASURE_NS 100000000ull

static void met(const struct quota *q, enum quota_what what)
{
	ns_log(NS_ERR, NS_M_OPER, "limit of %llu %s (daemon.access) met: the kernel serves what is beyond",
	       (unsigned long long)q->limit[what], quota_what_name(what));
}

/* In this worker, by programs that count for q. */
static uint64_t resident(const struct quota *q)
{
	uint64_t sum = 0;

	for (const struct peer *p = peers_first(); p; p = p->next)
		if (p->quota == q && p->attached)
			sum += shm_region_part_resident(worker.region, p->part) + p->mem_bytes;
	return sum;
}

static void measure(struct quota *q, uint64_t now)
{
	q->measured_ns[shared_worker] = now;
	__atomic_store_n(&q->used[shared_worker][QUOTA_MEMORY], resident(q), __ATOMIC_RELAXED);
}

/* What is old is good enough to say yes, but not to say no. */
static bool memory_ok(struct quota *q)
{
	uint64_t now, limit = __atomic_load_n(&q->limit[QUOTA_MEMORY], __ATOMIC_RELAXED);

	if (limit == NS_NO_LIMIT)
		return true;
	now = worker_now();
	if (now - q->measured_ns[shared_worker] >= MEASURE_NS || quota_used(q, QUOTA_MEMORY) >= limit)
		measure(q, now);
	if (quota_used(q, QUOTA_MEMORY) < limit)
		return true;
	__atomic_fetch_add(&q->refused[QUOTA_MEMORY], 1, __ATOMIC_RELAXED);
	met(q, QUOTA_MEMORY);
	return false;
}

bool peers_session_take(void *owner)
{
	if (!memory_ok(owner))
		return false;
	if (quota_take(owner, QUOTA_SOCKETS))
		return true;
	met(owner, QUOTA_SOCKETS);
	return false;
}

void peers_session_give(void *owner)
{
	quota_give(owner, QUOTA_SOCKETS);
}

bool peer_port_take(struct peer *p)
{
	if (quota_take(p->quota, QUOTA_PORTS))
		return true;
	met(p->quota, QUOTA_PORTS);
	return false;
}

void peer_port_give(struct peer *p)
{
	quota_give(p->quota, QUOTA_PORTS);
}

uint32_t peer_limit(const struct peer *p, int what, uint32_t max)
{
	uint64_t limit = p->quota ? __atomic_load_n(&p->quota->limit[what], __ATOMIC_RELAXED) : NS_NO_LIMIT;

	return limit < max ? (uint32_t)limit : max;
}
