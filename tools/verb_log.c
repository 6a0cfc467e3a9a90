/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_log.c - nstack log: a process's last log lines, and its levels */
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int set_level(int fd, pid_t pid, const char *level, const char *module, bool json)
{
	cJSON *q = ctl_request_new("log_level"), *r;
	const cJSON *l;
	char why[256] = "";

	if (level)
		cJSON_AddStringToObject(q, "level", level);
	if (module)
		cJSON_AddStringToObject(q, "module", module);
	r = ctl_call(fd, q, -1, why);
	if (!r)
		return fail("pid %d: %s", (int)pid, why);
	if (json)
		return print_json(cJSON_Duplicate(cJSON_GetObjectItem(r, "levels"), 1));
	cJSON_ArrayForEach(l, cJSON_GetObjectItem(r, "levels"))
		if (l->string)
			printf("%-8s %s\n", l->string, cJSON_IsString(l) ? l->valuestring : "?");
	cJSON_Delete(r);
	return 0;
}

static int show_lines(int fd, pid_t pid, bool follow, bool json)
{
	uint64_t seq = 0;
	char why[256] = "";

	for (;;) {
		cJSON *q = ctl_request_new("log_get"), *r;
		bool any;

		put_u64(q, "seq", seq);
		r = ctl_call(fd, q, -1, why);
		if (!r)
			return fail("pid %d: %s", (int)pid, why);
		if (json)
			return print_json(r);
		seq = (uint64_t)num(r, "seq");
		any = str(r, "text")[0];
		fputs(str(r, "text"), stdout);
		fflush(stdout);
		cJSON_Delete(r);
		if (!any && !follow)
			return 0;
		if (!any)
			usleep(250000);
	}
}

static int log_run(int argc, char **argv)
{
	const char *level = NULL, *module = NULL;
	bool json = false, follow = false, levels = false;
	const struct opt opts[] = {
		OPT_FLAG("--json", 'j', &json), OPT_FLAG("--follow", 'f', &follow),
		OPT_FLAG("--levels", 0, &levels), OPT_VALUE("--level", 'l', &level),
		OPT_VALUE("--module", 'm', &module), { 0 },
	};
	int n = opts_parse(&verb_log, opts, true, argc, argv), fd, ret;
	pid_t pid;

	if (n < 0)
		return EXIT_USAGE;
	if (n > 1)
		return usage_error(&verb_log, "one pid at most");
	ret = ctl_pick(n ? argv[1] : NULL, &pid);
	if (ret)
		return ret;
	fd = ctl_connect(pid);
	if (fd < 0)
		return fail("pid %d does not run under nstack, or is not ours: %s", (int)pid, strerror(-fd));
	if (level || levels)
		ret = set_level(fd, pid, level, module, json);
	else
		ret = show_lines(fd, pid, follow, json);
	close(fd);
	return ret;
}

const struct verb verb_log = {
	"log", log_run, "a process's last log lines; change its log level",
	"log [-f] [--level LEVEL [--module MODULE]] [--levels] [--json] [PID]",
	"Without options: the lines that the process keeps in memory, whether or not they also go to a\n"
	"file. PID may be left out if only one process runs under nstack.\n\n"
	"  -f, --follow      go on with new lines\n"
	"  -l, --level L     set the level: OFF, EMG, ERR, WAR, INF, DBG\n"
	"  -m, --module M    of one module: nsocket, stack, hal, steer, rd, ctl\n"
	"      --levels      show the levels\n"
	"  -j, --json        print JSON\n",
};
