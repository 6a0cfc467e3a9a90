/* SPDX-License-Identifier: Apache-2.0 */
/* rd/alarm.c - alarms of this process
 *
 * One record for each kind, under one mutex; nothing here is on a packet's way.
 */
#define _GNU_SOURCE
#include <rd/alarm.h>

#include <pthread.h>
#include <rd/log.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define X(id, name, severity, next) { name, severity, false, 0, 0, 0, "" },
static struct ns_alarm_state alarms[NS_ALARM_NR_] = { NS_ALARMS(X) }; /* lock */
#undef X
static pid_t owner[NS_ALARM_NR_]; /* lock: the process that raised it, which a forked child is not */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec;
}

void ns_alarm_raise(enum ns_alarm a, const char *fmt, ...)
{
	struct ns_alarm_state *s = &alarms[a];
	char text[sizeof(s->text)];
	bool news;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lock);
	if (owner[a] != getpid()) {
		s->raised = false;
		s->count = 0;
		s->cleared_s = 0;
		owner[a] = getpid();
	}
	news = !s->raised || strcmp(s->text, text);
	s->count += !s->raised;
	s->raised_s = s->raised ? s->raised_s : now_s();
	s->raised = true;
	strcpy(s->text, text);
	if (news)
		ns_log(NS_WAR, NS_M_OPER, "alarm %s (%s) raised: %s", s->name, s->severity, s->text);
	pthread_mutex_unlock(&lock);
}

void ns_alarm_clear(enum ns_alarm a)
{
	struct ns_alarm_state *s = &alarms[a];

	pthread_mutex_lock(&lock);
	if (s->raised && owner[a] == getpid()) {
		s->raised = false;
		s->cleared_s = now_s();
		ns_log(NS_INF, NS_M_OPER, "alarm %s cleared", s->name);
	}
	pthread_mutex_unlock(&lock);
}

const char *ns_alarm_next(const char *name)
{
#define X(id, n, severity, next) { n, next },
	static const struct { const char *name, *next; } all[] = { NS_ALARMS(X) };
#undef X

	for (unsigned i = 0; i < NS_ALARM_NR_; i++)
		if (!strcmp(all[i].name, name))
			return all[i].next;
	return "";
}

bool ns_alarm_get(enum ns_alarm a, struct ns_alarm_state *out)
{
	bool mine;

	pthread_mutex_lock(&lock);
	mine = owner[a] == getpid();
	*out = alarms[a];
	pthread_mutex_unlock(&lock);
	return mine;
}
