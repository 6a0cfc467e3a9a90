/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/shared.h - what the daemon's own processes share
 *
 * One mapping that the main process makes before there are workers; programs never see it, but for the list
 * of ports in use, which they may read. A worker writes its own column only, so that the main process can
 * take back what a worker had that died: it clears the column.
 *
 * All fields are atomic, and relaxed: each is a number of its own, about which nothing else is to be known.
 */
#ifndef NSTACKD_SHARED_H
#define NSTACKD_SHARED_H

#include <rd/config_daemon.h>
#include <sys/types.h>

enum quota_what { QUOTA_PROGRAMS, QUOTA_SOCKETS, QUOTA_PORTS, QUOTA_MEMORY, QUOTA_NR_ };

/* Whom limits are about: a program, or all of a user, of a label, or of an entry of daemon.access. */
struct quota {
	uint64_t limit[QUOTA_NR_];   /* NS_NO_LIMIT = none. Main process */
	uint64_t refused[QUOTA_NR_]; /* how often a limit was met. Anybody */
	/* Each worker; QUOTA_PROGRAMS: the main process, from the hand-over on, and the worker, when it is done
	 * with the program */
	uint64_t used[NS_WORKERS_MAX][QUOTA_NR_];
	uint64_t measured_ns[NS_WORKERS_MAX]; /* when used[][QUOTA_MEMORY] was. Each worker, its own */
	/* The main process's alone: */
	bool taken;
	struct ns_access entry;        /* as it was in the configuration */
	pid_t pid;                     /* what tells it from other quotas of the entry */
	uid_t uid;
	char label[NS_LABEL];
};

struct shared {
	uint64_t beat[NS_WORKERS_MAX]; /* by each worker, when it does something and its watchdog wants it */
	uint32_t nquotas;
	struct quota quota[];
};

extern struct shared *shared;
extern unsigned shared_worker;   /* the column of this process; 0 where there is one worker only */
extern int shared_ports_fd;      /* for ATT_FD_PORTS */

/* 0, or -errno. Also sets ports_map and ports_map_bit for worker 0. */
int shared_open(uint32_t quotas);
/* This process is that worker. */
void shared_become(unsigned worker);
/* A worker's sign of life, at that time; when it gave the last one. */
void shared_beat(uint64_t now);
uint64_t shared_beat_of(unsigned worker);
/* The main process: a worker has died. */
void shared_forget(unsigned worker);

/* One (or n) more of it for the quota; false: that would be beyond its limit. NULL: always. */
bool quota_take(struct quota *a, enum quota_what what);
void quota_give(struct quota *a, enum quota_what what);
/* Used by all workers. */
uint64_t quota_used(const struct quota *a, enum quota_what what);
const char *quota_what_name(enum quota_what what);

#endif
