/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/signals.h - the signals that the daemon's processes wait for */
#ifndef NSTACKD_SIGNALS_H
#define NSTACKD_SIGNALS_H

#include <stdbool.h>

/* A descriptor that SIGTERM, SIGINT and SIGHUP are read from, and SIGCHLD for who has children; they are blocked
 * from then on. -1: errno. */
int signals_open(bool children);

#endif
