/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_alarms.c - nstack alarms: what is wrong in the processes under nstack, and what was */
#define _GNU_SOURCE
#include "tool.h"

#include <time.h>

static void print_alarm(const cJSON *process, const cJSON *a)
{
	time_t at = (time_t)num(a, flag(a, "raised") ? "raised_s" : "cleared_s");
	char text[256], when[32] = "";
	struct tm tm;

	if (localtime_r(&at, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	snprintf(text, sizeof(text), "%s", str(a, "text"));
	text_clean(text);
	printf("%s  %-8s %-12s %s[%d]: %s%s\n", when, flag(a, "raised") ? str(a, "severity") : "cleared", str(a, "name"),
	       str(process, "program"), (int)num(process, "pid"), text,
	       num(a, "count") > 1 ? " (not for the first time)" : "");
}

/* Those of a process, into list or printed; how many. */
static unsigned alarms_of(const cJSON *process, bool all, cJSON *list)
{
	const cJSON *a;
	unsigned n = 0;

	cJSON_ArrayForEach(a, cJSON_GetObjectItem(process, "alarms")) {
		cJSON *o;

		if (!all && !flag(a, "raised"))
			continue;
		n++;
		if (!list) {
			print_alarm(process, a);
			continue;
		}
		o = cJSON_Duplicate(a, 1);
		put_u64(o, "pid", (uint64_t)num(process, "pid"));
		cJSON_AddStringToObject(o, "program", str(process, "program"));
		cJSON_AddItemToArray(list, o);
	}
	return n;
}

static int alarms_run(int argc, char **argv)
{
	bool json = false, all = false;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), OPT_FLAG("--all", 'a', &all), { 0 } };
	int n = opts_parse(&verb_alarms, opts, true, argc, argv);
	cJSON *processes, *list, *p;
	unsigned found = 0;

	if (n)
		return n < 0 ? EXIT_USAGE : usage_error(&verb_alarms, "\"%s\": alarms takes options only", argv[1]);
	processes = ctl_processes();
	list = json ? cJSON_CreateArray() : NULL;
	cJSON_ArrayForEach(p, processes)
		found += alarms_of(p, all, list);
	cJSON_Delete(processes);
	if (json)
		return print_json(list);
	if (!found)
		puts(all ? "no alarm was raised" : "no alarm is raised");
	return 0;
}

const struct verb verb_alarms = {
	"alarms", alarms_run, "what is wrong in the processes under nstack",
	"alarms [--all] [--json]",
	"Conditions that somebody should look at, with their severity (critical, major), of all processes.\n\n"
	"  -a, --all         also those that were raised and have been cleared\n"
	"  -j, --json        print JSON\n",
};
