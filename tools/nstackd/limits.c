/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/limits.c - what limits mean to programs that are attached
 *
 * A program that meets one goes on with the kernel for what would be beyond it. Memory is what sockets' buffers
 * have touched, and is measured now and then: who is beyond the limit gets no further socket, those that there
 * are keep theirs.
 *
 * The limit that was met last is an alarm, until there is room again: looked at when something is given back, and
 * when somebody asks.
 */
#define _GNU_SOURCE
#include "tools/nstackd/limits.h"

#include "tools/nstackd/peer.h"
#include "tools/nstackd/shared.h"

#include <nsocket/worker_internal.h>
#include <rd/alarm.h>
#include <rd/log.h>

#define MEASURE_NS 100000000ull

/* The alarm's. */
static struct {
	bool met;
	struct quota *quota; /* NULL: daemon.programs */
	enum quota_what what;
} last;

void limits_met(struct quota *q, enum quota_what what)
{
	last.met = true;
	last.quota = q;
	last.what = what;
	if (q)
		ns_alarm_raise(NS_ALARM_LIMIT_MET, "limit of %llu %s (daemon.access) met: the kernel serves what is beyond",
			       (unsigned long long)q->limit[what], quota_what_name(what));
	else
		ns_alarm_raise(NS_ALARM_LIMIT_MET, "%u programs are attached (daemon.programs): the others do without",
			       peers_config.max);
}

static void met(struct quota *q, enum quota_what what)
{
	ns_log(NS_ERR, NS_M_OPER, "limit of %llu %s (daemon.access) met: the kernel serves what is beyond",
	       (unsigned long long)q->limit[what], quota_what_name(what));
	limits_met(q, what);
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

/* Those that have ended, and whose connections have not, have their memory still. */
static bool programs_full(void)
{
	uint32_t n = 0;

	for (const struct peer *p = peers_first(); p; p = p->next)
		n += p->attached;
	return n >= peers_config.max;
}

static bool full(void)
{
	if (!last.quota)
		return programs_full();
	if (last.what == QUOTA_MEMORY && worker_now() - last.quota->measured_ns[shared_worker] >= MEASURE_NS)
		measure(last.quota, worker_now());
	return quota_used(last.quota, last.what) >= __atomic_load_n(&last.quota->limit[last.what], __ATOMIC_RELAXED);
}

void limits_look(void)
{
	if (!last.met || full())
		return;
	last.met = false;
	ns_alarm_clear(NS_ALARM_LIMIT_MET);
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
	limits_look();
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
	limits_look();
}

uint32_t peer_limit(const struct peer *p, int what, uint32_t max)
{
	uint64_t limit = p->quota ? __atomic_load_n(&p->quota->limit[what], __ATOMIC_RELAXED) : NS_NO_LIMIT;

	return limit < max ? (uint32_t)limit : max;
}
