/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/park.h - connections that other programs have, too
 *
 * All under the worker lock.
 */
#ifndef NSTACKD_PARK_H
#define NSTACKD_PARK_H

#include <stdbool.h>
#include <stdint.h>

struct att_answer;
struct peer;
struct shm_session;

/* ATT_PARK: s of p can be found by the socket fd. 0, -EINVAL (no such socket), -EMFILE (as many as one program
 * may have, or all), -ENOMEM. */
int park_add(struct peer *p, struct shm_session *s, int fd);
/* ATT_TAKE: what was parked with that socket goes on in p's part. 0, -ENOENT (nothing, or the kernel has it),
 * -EAGAIN: its program lives; it is asked to let the kernel have it. */
int park_take(struct peer *p, int fd, struct att_answer *a);
/* The program has closed it, or nobody else has it any more. */
void park_drop(struct peer *p, const struct shm_session *s);
/* p's memory goes, and all its sessions with it. */
void parks_drop(struct peer *p);
/* p has ended. keep, by id: what waits for a taker is not to be closed. */
void parks_keep(struct peer *p, bool *keep);
/* What has waited for long enough, or (all) whatever waits, is the kernel's. True: something still waits. */
bool parks_reap(bool all);
/* How many there are. */
uint32_t parks_count(void);

#endif
