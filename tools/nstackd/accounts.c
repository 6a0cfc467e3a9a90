/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/accounts.c - what programs have of the daemon's, for whoever checks that all came back */
#define _GNU_SOURCE
#include "tools/nstackd/park.h"
#include "tools/nstackd/peer.h"

#include <dirent.h>
#include <nsocket/observe.h>
#include <nsocket/worker_internal.h>
#include <string.h>

/* Descriptors that are open in the whole process. */
static uint64_t descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", "..", and d's own */
}

uint32_t peers_accounts(void *arg, struct stack_counter *out, uint32_t n)
{
	uint32_t used = observe_accounts(arg, out, n), more;
	uint64_t programs = 0, ended = 0, ports = 0, parked;
	struct recycle_stats rs;

	worker_lock();
	for (const struct peer *p = peers_first(); p; p = p->next) {
		programs += !p->ended;
		ended += p->ended;
		ports += p->nports;
	}
	parked = parks_count();
	recycle_stats(&rs);
	worker_unlock();
	const struct stack_counter all[] = {
		{ "programs", programs },
		{ "programs_ended", ended },
		{ "ports", ports },
		{ "parked", parked },
		{ "descriptors", descriptors() },
		{ "recycle_waiting", rs.waiting },
		{ "recycle_exits", rs.exits },
		{ "recycle_timeouts", rs.timeouts },
		{ "recycle_failed", rs.failed },
	};
	more = sizeof(all) / sizeof(all[0]);
	more = more < n - used ? more : n - used;
	memcpy(out + used, all, more * sizeof(all[0]));
	return used + more;
}
