/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/recycle.c - what becomes of what an ended program had
 *
 * The daemon's own kinds of objects, in the registry that plug-ins use as well (nstack/recycle.h): what the
 * program still said, its ports, its sessions, and last its memory, which waits until the stack has said the
 * last word on each session. A program and the daemon share no lock.
 *
 * A function is called with a pid and cleans up after all ended programs of that pid: one that attaches
 * anew is another program to us, and those of other pid namespaces are all 0.
 */
#define _GNU_SOURCE
#include "tools/nstackd/peer.h"

#include <errno.h>
#include <nsocket/worker_internal.h>

/* NSFW_REC_NSOCKET_EPOLL and before: the manual's */
enum {
	REC_NOTIFICATIONS = NSFW_REC_NSOCKET_EPOLL + 1,
	REC_PORTS,
	REC_SESSIONS,
	REC_MEMORY,
};

/* The first, after p, that has ended as that pid and has something left; p NULL: of all. */
static struct peer *ended(const struct peer *after, uint32_t pid)
{
	struct peer *p = after ? after->next : peers_first();

	while (p && !(p->ended && !p->done && p->pid == (pid_t)pid))
		p = p->next;
	return p;
}

static nsfw_rcc_stat notifications(uint32_t pid, void *pdata, uint16_t type)
{
	for (struct peer *p = NULL; (p = ended(p, pid));)
		if (p->attached)
			peer_last_notifications(p);
	return NSFW_RCC_CONTINUE;
}

/* Before the sessions: a request for a port without a listener would be refused. */
static nsfw_rcc_stat ports(uint32_t pid, void *pdata, uint16_t type)
{
	for (struct peer *p = NULL; (p = ended(p, pid));)
		ports_drop(p);
	return NSFW_RCC_CONTINUE;
}

static nsfw_rcc_stat sessions(uint32_t pid, void *pdata, uint16_t type)
{
	bool waits = false;

	for (struct peer *p = NULL; (p = ended(p, pid));) {
		if (p->attached)
			peer_close_sessions(p);
		waits |= peer_has_sessions(p);
	}
	return waits ? NSFW_RCC_SUSPEND : NSFW_RCC_CONTINUE;
}

/* For those whose connections last longer than the walk, peers_recycle() comes back. */
static nsfw_rcc_stat memory(uint32_t pid, void *pdata, uint16_t type)
{
	for (struct peer *p = NULL; (p = ended(p, pid));)
		if (!peer_has_sessions(p))
			peer_free_memory(p);
	return NSFW_RCC_CONTINUE;
}

int peers_recycle_init(void)
{
	static const struct {
		uint16_t type;
		uint8_t priority;
		nsfw_recycle_fun fun;
	} kind[] = {
		{ REC_NOTIFICATIONS, NSFW_REC_PRIO_NORMAL, notifications },
		{ REC_PORTS, NSFW_REC_PRIO_NORMAL, ports },
		{ REC_SESSIONS, NSFW_REC_PRIO_DEFAULT, sessions },
		{ REC_MEMORY, NSFW_REC_PRIO_LOWEST, memory },
	};

	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++)
		if (!nsfw_recycle_reg_fun(kind[i].type, kind[i].fun) ||
		    !nsfw_recycle_reg_obj(kind[i].priority, kind[i].type, NULL))
			return -ENOSPC;
	return 0;
}

bool peers_recycle(void)
{
	for (struct peer *p = peers_first(); p; p = p->next)
		if (p->ended && !p->done && !peer_has_sessions(p) && !nsfw_recycle_obj_end((uint32_t)p->pid))
			peer_free_memory(p); /* its walk has been over for long */
	return recycle_run(worker_now()) != UINT64_MAX;
}
