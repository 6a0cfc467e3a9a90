/* SPDX-License-Identifier: Apache-2.0 */
/* Alarms: raised, raised again, cleared, counted; and that a child begins without any. */
#include <rd/alarm.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
	struct ns_alarm_state s;
	int status;
	pid_t pid;

	CHECK(!ns_alarm_get(NS_ALARM_NO_STACK, &s), " ");
	ns_alarm_clear(NS_ALARM_NO_STACK);
	CHECK(!ns_alarm_get(NS_ALARM_NO_STACK, &s), "cleared, but never raised");
	ns_alarm_raise(NS_ALARM_NO_STACK, "reason %d", 1);
	ns_alarm_raise(NS_ALARM_NO_STACK, "reason %d", 2);
	CHECK(ns_alarm_get(NS_ALARM_NO_STACK, &s) && s.raised && s.count == 1 && s.raised_s && !s.cleared_s, " ");
	CHECK(!strcmp(s.text, "reason 2") && !strcmp(s.name, "no_stack") && !strcmp(s.severity, "major"), "%s", s.text);
	ns_alarm_clear(NS_ALARM_NO_STACK);
	CHECK(ns_alarm_get(NS_ALARM_NO_STACK, &s) && !s.raised && s.cleared_s >= s.raised_s, " ");
	ns_alarm_raise(NS_ALARM_NO_STACK, "%s", "again");
	CHECK(ns_alarm_get(NS_ALARM_NO_STACK, &s) && s.raised && s.count == 2, " ");
	CHECK(!ns_alarm_get(NS_ALARM_PLUGIN_OFF, &s), "another kind");
	CHECK(ns_alarm_next("no_stack")[0] && !ns_alarm_next("nothing")[0], "what to do");
	pid = fork();
	if (!pid) {
		bool had = ns_alarm_get(NS_ALARM_NO_STACK, &s);

		ns_alarm_raise(NS_ALARM_NO_STACK, "the child's");
		_exit(had || !ns_alarm_get(NS_ALARM_NO_STACK, &s) || s.count != 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a child's are its own");
	if (!failures)
		puts("ok");
	return failures != 0;
}
