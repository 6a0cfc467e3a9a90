/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/limits.h - the alarm that says that a limit was met
 *
 * Threads: the daemon's; in a worker it has the worker lock.
 */
#ifndef NSTACKD_LIMITS_H
#define NSTACKD_LIMITS_H

#include "tools/nstackd/shared.h"

/* Somebody was refused something because of the limit; q NULL: as many programs are attached as can be. */
void limits_met(struct quota *q, enum quota_what what);
/* Is there room again? */
void limits_look(void);

#endif
