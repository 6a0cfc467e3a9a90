/* SPDX-License-Identifier: Apache-2.0 */
/* rd/alarm.h - what is wrong with this process now, and what was: conditions that are raised and cleared
 *
 * Each change is a line of the log, too; raised again with the same words it is none. What has been raised once is kept, cleared or not, for `nstack alarms`.
 * A forked child begins without any.
 *
 * Threads: any; not signal handlers.
 */
#ifndef NSTACK_RD_ALARM_H
#define NSTACK_RD_ALARM_H

#include <stdbool.h>
#include <stdint.h>

/* name, severity, what to do; why it is raised, when it is cleared */
#define NS_ALARMS(X) \
	/* the kernel serves everything; a daemon has come */ \
	X(NO_STACK, "no_stack", "major", "repair that, or start nstackd, and start the program again") \
	/* a configured stack can't be used; never */ \
	X(PLUGIN_OFF, "plugin_off", "major", "repair \"stacks\" in its configuration and start it again") \
	/* a worker of nstackd has ended; all are ready again */ \
	X(WORKER_LOST, "worker_lost", "critical", "nstack log has its last words; it is started again by itself") \
	/* a stack that nstackd starts is not there; all are */ \
	X(STACK_LOST, "stack_lost", "major", "nstack log says why it ends; \"stacks\" in nstackd's configuration") \
	/* what was to be read again is wrong; it was read */ \
	X(CONFIG_REFUSED, "config_refused", "minor", "repair the file and have it read again") \
	/* nstackd has turned away a program, a socket or a port; there is room for one */ \
	X(LIMIT_MET, "limit_met", "minor", "a higher limit in nstackd's configuration, or fewer programs")

#define X(id, name, severity, next) NS_ALARM_##id,
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
/* What to do about the one of that name, for people; "": there is none. */
const char *ns_alarm_next(const char *name);
/* False: it was never raised in this process. */
bool ns_alarm_get(enum ns_alarm a, struct ns_alarm_state *out);

#endif
