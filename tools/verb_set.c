/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_set.c - nstack set: what a running process can be told to do otherwise */
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_value(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
	char *text = v && !cJSON_IsNull(v) ? cJSON_PrintUnformatted(v) : NULL;

	if (text)
		text_clean(text);
	printf("%s", text ? text : "-");
	free(text);
}

static void print_keys(const cJSON *r)
{
	const cJSON *k;

	cJSON_ArrayForEach(k, cJSON_GetObjectItem(r, "keys")) {
		printf("%s = ", str(k, "name"));
		print_value(k, "value");
		printf("\n    %s (%s; default ", str(k, "help"), str(k, "values"));
		print_value(k, "default");
		puts(")");
	}
}

/* The answer; NULL: said. */
static cJSON *ask(pid_t pid, const cJSON *set)
{
	cJSON *q = ctl_request_new(set->child ? "config_set" : "config"), *r = NULL;
	int fd = ctl_connect(pid);
	char why[256] = "";

	if (set->child)
		cJSON_AddItemToObject(q, "set", cJSON_Duplicate(set, 1));
	if (fd < 0) {
		snprintf(why, sizeof(why), "%s", ctl_connect_error(fd));
		cJSON_Delete(q);
	} else {
		r = ctl_call(fd, q, -1, why);
		close(fd);
	}
	if (!r)
		fail("pid %d: %s", (int)pid, why);
	return r;
}

/* In all workers of a daemon; what it is then is shown as the first one has it. */
static int one(pid_t pid, const cJSON *set, bool json)
{
	pid_t pids[CTL_WORKERS];
	int n = ctl_workers(pid, pids, CTL_WORKERS), failed = 0;

	for (int i = 0; i < n; i++) {
		cJSON *r = i == 0 || set->child ? ask(pids[i], set) : NULL;

		failed |= !r && (i == 0 || set->child);
		if (i == 0 && r && json)
			print_json(cJSON_Duplicate(cJSON_GetObjectItem(r, "keys"), 1));
		else if (i == 0 && r && !set->child)
			print_keys(r);
		cJSON_Delete(r);
	}
	return failed ? EXIT_FAILED : 0;
}

static bool takes_settings(pid_t pid)
{
	char why[256];
	cJSON *o = ctl_ask(pid, "status", why);
	bool workers = cJSON_GetObjectItem(o, "workers");

	cJSON_Delete(o);
	return !workers; /* a daemon's main process: they are asked themselves */
}

static int everywhere(const cJSON *set)
{
	pid_t *pids;
	int n = ctl_list(&pids), failed = 0;

	for (int i = 0; i < n; i++) {
		if (takes_settings(pids[i]))
			failed |= one(pids[i], set, false);
	}
	free(pids);
	return n > 0 ? failed : fail("no process runs under nstack here");
}

static int set_run(int argc, char **argv)
{
	bool json = false, all = false;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), OPT_FLAG("--all", 'a', &all), { 0 } };
	int n = opts_parse(&verb_set, opts, true, argc, argv), i = 1, ret;
	const char *pid_arg = n > 0 && !strchr(argv[1], '=') ? argv[i++] : NULL;
	cJSON *set;
	pid_t pid;

	if (n < 0)
		return EXIT_USAGE;
	set = cJSON_CreateObject();
	for (; i <= n; i++) {
		if (set_key(set, argv[i])) {
			cJSON_Delete(set);
			return usage_error(&verb_set, "\"%s\" is not KEY=VALUE", argv[i]);
		}
	}
	if (all && (pid_arg || !set->child || json)) {
		cJSON_Delete(set);
		return usage_error(&verb_set, "--all sets something, in all processes");
	}
	ret = all ? everywhere(set) : ctl_pick(pid_arg, &pid);
	if (!ret && !all)
		ret = one(pid, set, json);
	cJSON_Delete(set);
	return ret;
}

const struct verb verb_set = {
	"set", set_run, "change what a running process does",
	"set [--json] [PID | --all] [KEY=VALUE ...]",
	"Without KEY=VALUE: the keys of the configuration that can be changed while a process runs, their\n"
	"values and what else they may be. Otherwise all of them are set, or none if one is wrong. It lasts\n"
	"as long as the process. PID may be left out if only one process runs under nstack, or one nstackd.\n\n"
	"  -a, --all         in every process under nstack\n"
	"  -j, --json        print JSON\n",
};
