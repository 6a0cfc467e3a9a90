/* SPDX-License-Identifier: Apache-2.0 */
/* rd/alarm.h - what is wrong with this process now, and what was: conditions that are raised and cleared
 *
 * Each change is a line of the log, too. What has been raised once is kept, cleared or not, for `nstack alarms`.
 * A forked child begins without any.
 *
 * Threads: any; not signal handlers.
 */
#ifndef NSTACK_RD_ALARM_H
#define NSTACK_RD_ALARM_H

#include <stdbool.h>
#include <stdint.h>

/* name, severity, when it is cleared */
#define NS_ALARMS(X) \
	X(NO_STACK, "no_stack", "major")       /* the kernel serves everything; a daemon has come */ \
	X(PLUGIN_OFF, "plugin_off", "major")   /* a configured stack can't be used; never */ \
	X(WORKER_LOST, "worker_lost", "critical") /* a worker of nstackd has ended; all are ready again */

#define X(id, name, severity) NS_ALARM_##id,
enum ns_alarm { NS_ALARMS(X) NS_ALARM_NR_ };
#undef X

struct ns_alarm_state {
	const char *name, *severity;
	bool raised;
	uint32_t count;      /* how often it was raised */
	uint64_t raised_s, cleared_s; /* CLOCK_REALTIME, the last time; 0 = never */
	char text[256];      /* of the last time */
};

void ns_alarm_raise(enum ns_alarm a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ns_alarm_clear(enum ns_alarm a); /* one that is not raised: nothing happens */
/* False: it was never raised in this process. */
bool ns_alarm_get(enum ns_alarm a, struct ns_alarm_state *out);

#endif
