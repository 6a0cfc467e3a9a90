/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/notify.h - what systemd is told; without it, nothing happens */
#ifndef NSTACKD_NOTIFY_H
#define NSTACKD_NOTIFY_H

#include <stdint.h>

/* sd_notify(3): "READY=1", "STOPPING=1", ... */
void notify_systemd(const char *what);
/* A reload begins; it ends with READY=1. */
void notify_reloading(void);
/* In the main process, before it has workers: they are watched by it, and it is by systemd. */
void notify_init(void);
/* How often it wants a sign of life, in ns; 0: not at all. */
uint64_t notify_watchdog_ns(void);

#endif
