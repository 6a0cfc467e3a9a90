/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_stats.c - nstack stats: the counters of stacks */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

static cJSON *stats_json(pid_t only)
{
	cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "processes");
	pid_t *pids;
	int n = ctl_list(&pids);

	for (int i = 0; i < n; i++) {
		if (!only || only == pids[i])
			cJSON_AddItemToArray(list, ctl_ask_or_error(pids[i], "counters"));
	}
	free(pids);
	return root;
}

static void print_stats(const cJSON *root, bool zeros)
{
	const cJSON *p, *c;

	cJSON_ArrayForEach(p, cJSON_GetObjectItem(root, "processes")) {
		const cJSON *counters = cJSON_GetObjectItem(p, "counters");

		printf("pid %.0f %s%s%s\n", num(p, "pid"), str(p, "program"), str(p, "error")[0] ? ": " : "",
		       str(p, "error"));
		cJSON_ArrayForEach(c, counters) {
			if (c->string && (zeros || num(counters, c->string) != 0))
				printf("  %-36s %.0f\n", c->string, num(counters, c->string));
		}
	}
}

static int stats_run(int argc, char **argv)
{
	bool json = false, all = false;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), OPT_FLAG("--all", 'a', &all), { 0 } };
	int n = opts_parse(&verb_stats, opts, true, argc, argv);
	long long pid = 0;
	cJSON *root;

	if (n < 0)
		return EXIT_USAGE;
	if (n > 1)
		return usage_error(&verb_stats, "one pid at most");
	if (n == 1 && (pid = number(argv[1], 1, 1 << 30)) < 0)
		return usage_error(&verb_stats, "\"%s\" is not a pid", argv[1]);
	root = stats_json((pid_t)pid);
	if (pid && !cJSON_GetArraySize(cJSON_GetObjectItem(root, "processes"))) {
		cJSON_Delete(root);
		return fail("pid %lld does not run under nstack (or has no stack yet)", pid);
	}
	if (json)
		return print_json(root);
	print_stats(root, all);
	cJSON_Delete(root);
	return 0;
}

const struct verb verb_stats = {
	"stats", stats_run, "the counters of the user-space stacks",
	"stats [--all] [--json] [PID]",
	"Every counter of every process's stack: packets, segments, drops by reason, state changes.\n\n"
	"  -a, --all         also those that are zero\n"
	"  -j, --json        print JSON (all counters)\n",
};
