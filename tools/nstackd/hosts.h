/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/hosts.h - stacks of others that the daemon has: plug-ins of deploy type 3, each in a process */
#ifndef NSTACKD_HOSTS_H
#define NSTACKD_HOSTS_H

#include <cjson/cJSON.h>
#include <rd/modules.h>

/* Before privileges are given up: make the process that will start and watch them, if ms (NULL: none) has any.
 * 0 or -errno. */
int hosts_prepare(const struct rd_modules *ms);
/* Start them, and wait until each is there or has failed, for a bounded time. */
void hosts_start(void);
/* Readable when hosts_run() is wanted; -1: there are none (any more). */
int hosts_fd(void);
/* Raises and clears their alarm. */
void hosts_run(void);
/* In a worker: they are the main process's. */
void hosts_leave(void);
void hosts_stop(void);
/* Adds the list "stacks". */
void hosts_status(cJSON *o);

#endif
