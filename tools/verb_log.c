/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_log.c - nstack log: a process's last log lines, and its levels
 *
 * A daemon with workers is several processes; their lines are shown in the order of time, and levels are set
 * in all of them.
 */
#define _GNU_SOURCE
#include "tool.h"

#include <rd/log.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLLOW_US 250000

/* A process that is asked. */
struct source {
	pid_t pid;
	int fd;
	uint64_t seq;
};

/* What is shown. */
struct view {
	int module;   /* enum ns_log_module, -1: all */
	int severity; /* enum ns_log_level: at least that; NS_DBG: all */
	bool json;
};

struct lines {
	char **line;
	size_t n, room;
};

static int source_open(struct source *s, pid_t pid)
{
	*s = (struct source){ .pid = pid, .fd = ctl_connect(pid) };
	return s->fd < 0 ? fail("pid %d: %s", (int)pid, ctl_connect_error(s->fd)) : 0;
}

/* --- levels ------------------------------------------------------------------------------------------- */

/* The answer; NULL: said. */
static cJSON *level_call(const struct source *s, const char *level, const char *module)
{
	cJSON *q = ctl_request_new("log_level"), *r;
	char why[256] = "";

	if (level)
		cJSON_AddStringToObject(q, "level", level);
	if (module)
		cJSON_AddStringToObject(q, "module", module);
	r = ctl_call(s->fd, q, -1, why);
	if (!r)
		fail("pid %d: %s", (int)s->pid, why);
	return r;
}

static int levels(const struct source *src, int n, const char *level, const char *module, bool json)
{
	const cJSON *l;

	for (int i = 0; i < n; i++) {
		cJSON *r = level_call(&src[i], level, module);

		if (!r)
			return EXIT_FAILED;
		if (i == n - 1 && json)
			print_json(cJSON_Duplicate(cJSON_GetObjectItem(r, "levels"), 1));
		cJSON_ArrayForEach(l, cJSON_GetObjectItem(r, "levels"))
			if (i == n - 1 && !json && l->string)
				printf("%-9s %s\n", l->string, cJSON_IsString(l) ? l->valuestring : "?");
		cJSON_Delete(r);
	}
	return 0;
}

/* --- lines -------------------------------------------------------------------------------------------- */

/* "TIME LEVEL MODULE[PID] TEXT"; false: it does not look like that. The parts are cut out of line. */
static bool line_parts(char *line, char *part[5])
{
	char *save, *at;

	part[0] = strtok_r(line, " ", &save);
	part[1] = strtok_r(NULL, " ", &save);
	part[2] = strtok_r(NULL, "[", &save);
	part[3] = strtok_r(NULL, "]", &save);
	part[4] = save && *save == ' ' ? save + 1 : save;
	at = part[3];
	return at && part[4];
}

static bool line_wanted(const struct view *v, const char *line)
{
	char *copy = strdup(line), *part[5];
	bool ok = !copy || !line_parts(copy, part) ||
		  ((v->module < 0 || ns_log_module_parse(part[2]) == v->module) &&
		   ns_log_level_parse(part[1]) <= v->severity);

	free(copy);
	return ok;
}

static void lines_add(struct lines *l, const char *text, size_t len)
{
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 256;
		char **bigger = realloc(l->line, room * sizeof(*bigger));

		if (!bigger)
			return;
		l->line = bigger;
		l->room = room;
	}
	l->line[l->n] = strndup(text, len);
	l->n += l->line[l->n] != NULL;
}

static void lines_free(struct lines *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->line[i]);
	free(l->line);
	*l = (struct lines){ 0 };
}

/* Every line begins with the time. */
static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All that is new. 0, or EXIT_FAILED (said). */
static int source_read(struct source *s, const struct view *v, struct lines *l)
{
	char why[256] = "";

	for (;;) {
		cJSON *q = ctl_request_new("log_get"), *r;
		const char *text, *end;

		put_u64(q, "seq", s->seq);
		r = ctl_call(s->fd, q, -1, why);
		if (!r)
			return fail("pid %d: %s", (int)s->pid, why);
		s->seq = (uint64_t)num(r, "seq");
		text = str(r, "text");
		if (!*text) {
			cJSON_Delete(r);
			return 0;
		}
		for (; (end = strchr(text, '\n')); text = end + 1) {
			lines_add(l, text, (size_t)(end - text));
			if (l->n && !line_wanted(v, l->line[l->n - 1]))
				free(l->line[--l->n]);
		}
		cJSON_Delete(r);
	}
}

static void print_lines(const struct view *v, const struct lines *l)
{
	static const char *const keys[] = { "time", "level", "module", "pid", "text" };
	cJSON *list = v->json ? cJSON_CreateArray() : NULL, *o;
	char *part[5];

	for (size_t i = 0; i < l->n; i++) {
		if (!v->json) {
			puts(l->line[i]);
			continue;
		}
		if (!line_parts(l->line[i], part))
			continue;
		o = cJSON_CreateObject();
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			if (k == 3)
				cJSON_AddNumberToObject(o, keys[k], atoi(part[k]));
			else
				cJSON_AddStringToObject(o, keys[k], part[k]);
		cJSON_AddItemToArray(list, o);
	}
	if (list)
		print_json(list);
	fflush(stdout);
}

static int show_lines(struct source *src, int n, const struct view *v, bool follow)
{
	struct lines l = { 0 };
	int failed = 0;

	for (;;) {
		for (int i = 0; i < n && !failed; i++)
			failed = source_read(&src[i], v, &l);
		if (l.n)
			qsort(l.line, l.n, sizeof(*l.line), line_cmp);
		if (!failed && (l.n || v->json))
			print_lines(v, &l);
		lines_free(&l);
		if (failed || !follow)
			return failed;
		usleep(FOLLOW_US);
	}
}

/* --- the verb ------------------------------------------------------------------------------------------ */

/* A daemon's main process and its workers. How many, or -1 (said). */
static int sources_open(struct source *src, pid_t pid)
{
	pid_t pids[CTL_WORKERS];
	int n = ctl_workers(pid, pids, CTL_WORKERS), used = 0;

	if (source_open(&src[used++], pid))
		return -1;
	for (int i = 0; i < n; i++)
		if (pids[i] != pid && source_open(&src[used++], pids[i]))
			return -1;
	return used;
}

static int log_run(int argc, char **argv)
{
	const char *level = NULL, *module = NULL, *severity = "DBG";
	bool json = false, follow = false, show_levels = false;
	const struct opt opts[] = {
		OPT_FLAG("--json", 'j', &json), OPT_FLAG("--follow", 'f', &follow),
		OPT_FLAG("--levels", 0, &show_levels), OPT_VALUE("--level", 'l', &level),
		OPT_VALUE("--module", 'm', &module), OPT_VALUE("--severity", 's', &severity), { 0 },
	};
	int n = opts_parse(&verb_log, opts, true, argc, argv), ret;
	struct source src[CTL_WORKERS + 1];
	struct view v = { .module = -1, .json = json };
	pid_t pid;

	if (n < 0)
		return EXIT_USAGE;
	if (n > 1)
		return usage_error(&verb_log, "one pid at most");
	v.module = module ? ns_log_module_parse(module) : -1;
	v.severity = ns_log_level_parse(severity);
	if ((module && v.module < 0) || v.severity <= NS_OFF)
		return usage_error(&verb_log, "there is no %s \"%s\"", v.severity <= NS_OFF ? "level" : "module",
				   v.severity <= NS_OFF ? severity : module);
	if (follow && json)
		return usage_error(&verb_log, "--follow or --json");
	ret = ctl_pick(n ? argv[1] : NULL, &pid);
	if (ret)
		return ret;
	n = sources_open(src, pid);
	if (n < 0)
		return EXIT_FAILED;
	if (level || show_levels)
		return levels(src, n, level, module, json);
	return show_lines(src, n, &v, follow);
}

const struct verb verb_log = {
	"log", log_run, "a process's last log lines; change its log level",
	"log [-f] [-m MODULE] [-s LEVEL] [--level LEVEL [-m MODULE]] [--levels] [--json] [PID]",
	"Without options: the lines that the process keeps in memory, whether or not they also go to a\n"
	"file. PID may be left out if only one process runs under nstack, or one nstackd.\n\n"
	"  -f, --follow      go on with new lines\n"
	"  -m, --module M    of one module: nsocket, stack, hal, steer, rd, ctl, operation\n"
	"  -s, --severity L  lines of that level or graver: EMG, ERR, WAR, INF, DBG\n"
	"  -l, --level L     set the level, or that of one module: OFF, EMG, ERR, WAR, INF, DBG\n"
	"      --levels      show the levels\n"
	"  -j, --json        print JSON\n",
};
