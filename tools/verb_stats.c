/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_stats.c - nstack stats: what processes have counted, by class
 *
 * A class is an object of names and numbers in the JSON of a process. Counts only grow: they can be told as
 * what came since an earlier output (--since), or per second (--rate); nobody's counters are reset for it.
 */
#define _GNU_SOURCE
#include "tool.h"

#include <rd/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct process {
	pid_t pid;
	cJSON *status; /* NULL: it does not answer */
};

struct class {
	const char *name, *key;           /* of the option, in JSON */
	const char *other[2];             /* as DMM calls it */
	bool counts;                      /* only grow */
	void (*collect)(cJSON *o, const struct process *p);
};

/* --- classes ----------------------------------------------------------------------------------------- */

static void put_number(cJSON *o, const char *key, const cJSON *v)
{
	if (cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 1.8e19)
		put_u64(o, key, (uint64_t)v->valuedouble);
}

static void collect_stack(cJSON *o, const struct process *p)
{
	char why[256];
	cJSON *r = ctl_ask(p->pid, "counters", why);
	const cJSON *c;

	cJSON_ArrayForEach(c, cJSON_GetObjectItem(r, "counters")) {
		if (c->string)
			put_number(o, c->string, c);
	}
	cJSON_Delete(r);
}

static void collect_queues(cJSON *o, const struct process *p)
{
	const cJSON *port, *q, *v;
	char name[96];

	cJSON_ArrayForEach(port, cJSON_GetObjectItem(p->status, "ports")) {
		cJSON_ArrayForEach(q, cJSON_GetObjectItem(port, "queue_stats")) {
			cJSON_ArrayForEach(v, q) {
				if (!v->string || !strcmp(v->string, "queue"))
					continue;
				snprintf(name, sizeof(name), "%.15s.%.0f.%.40s", str(port, "ifname"), num(q, "queue"),
					 v->string);
				put_number(o, name, v);
			}
		}
	}
}

static void collect_accounts(cJSON *o, const struct process *p)
{
	const cJSON *v;

	cJSON_ArrayForEach(v, cJSON_GetObjectItem(p->status, "accounts")) {
		if (v->string)
			put_number(o, v->string, v);
	}
}

static void collect_sessions(cJSON *o, const struct process *p)
{
	static const char *const keys[] = { "sessions", "sessions_used", "sessions_high", "sessions_refused",
					    "region_bytes",
					    "sockets_ours", "sockets_kernel", "programs", "programs_max" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		put_number(o, keys[i], cJSON_GetObjectItem(p->status, keys[i]));
}

static void collect_states(cJSON *o, const struct process *p)
{
	char why[256], name[64];
	cJSON *list = ctl_ask_parts(p->pid, "sockets", "sockets", NULL, why), *s;

	cJSON_ArrayForEach(s, list) {
		if (!str(s, "state")[0] || !strcmp(str(s, "stack"), "kernel"))
			continue;
		snprintf(name, sizeof(name), "%.8s %.16s", str(s, "proto"), str(s, "state"));
		if (cJSON_GetObjectItemCaseSensitive(o, name))
			cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(o, name), num(o, name) + 1);
		else
			cJSON_AddNumberToObject(o, name, 1);
	}
	cJSON_Delete(list);
}

static const struct class classes[] = {
	{ "stack", "counters", { "l2to4", NULL }, true, collect_stack },
	{ "queues", "queues", { "queue", NULL }, true, collect_queues },
	{ "accounts", "accounts", { "mbufpool", "frames" }, false, collect_accounts },
	{ "sessions", "sessions", { "socketcb", NULL }, false, collect_sessions },
	{ "states", "states", { "conn", "pcblist" }, false, collect_states },
};
#define N_CLASSES (sizeof(classes) / sizeof(classes[0]))

static bool is_called(const struct class *c, const char *name)
{
	return !strcmp(c->name, name) || (c->other[0] && !strcmp(c->other[0], name)) ||
	       (c->other[1] && !strcmp(c->other[1], name));
}

/* Those that the word means, as a mask; 0: none. */
static unsigned class_mask(const char *word)
{
	for (unsigned i = 0; i < N_CLASSES; i++)
		if (is_called(&classes[i], word))
			return 1u << i;
	return !strcmp(word, "all") ? (1u << N_CLASSES) - 1 : 0;
}

/* --- asking ------------------------------------------------------------------------------------------ */

static cJSON *process_json(pid_t pid, unsigned mask)
{
	cJSON *status = ctl_ask_or_error(pid, "status"), *o = cJSON_CreateObject();
	struct process p = { pid, status };

	put_u64(o, "pid", (uint64_t)pid);
	cJSON_AddStringToObject(o, "program", str(status, "program"));
	if (str(status, "error")[0])
		cJSON_AddStringToObject(o, "error", str(status, "error"));
	for (unsigned i = 0; i < N_CLASSES && !str(status, "error")[0]; i++)
		if (mask & (1u << i))
			classes[i].collect(cJSON_AddObjectToObject(o, classes[i].key), &p);
	cJSON_Delete(status);
	return o;
}

static cJSON *stats_json(pid_t only, unsigned mask)
{
	cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "processes");
	pid_t *pids;
	int n = ctl_list(&pids);

	for (int i = 0; i < n; i++) {
		if (!only || only == pids[i])
			cJSON_AddItemToArray(list, process_json(pids[i], mask));
	}
	free(pids);
	return root;
}

/* --- what came since ---------------------------------------------------------------------------------- */

static const cJSON *process_of(const cJSON *root, double pid)
{
	const cJSON *p;

	cJSON_ArrayForEach(p, cJSON_GetObjectItem(root, "processes")) {
		if (num(p, "pid") == pid)
			return p;
	}
	return NULL;
}

/* A new object of the same names: each less what it was, by so many seconds. */
static cJSON *difference(const cJSON *now, const cJSON *was, double seconds)
{
	cJSON *o = cJSON_CreateObject();
	const cJSON *v;

	cJSON_ArrayForEach(v, now) {
		double n = num(now, v->string), d = n - num(was, v->string);

		d = d < 0 ? n : d; /* another process by now, with the same pid */
		if (seconds > 0)
			cJSON_AddNumberToObject(o, v->string, d / seconds);
		else
			put_u64(o, v->string, (uint64_t)d);
	}
	return o;
}

/* What came since before: per second, or (seconds 0) in all. Who was not there then had nothing. */
static void subtract(cJSON *now, const cJSON *before, double seconds)
{
	cJSON *p, *o;

	cJSON_ArrayForEach(p, cJSON_GetObjectItem(now, "processes")) {
		const cJSON *old = process_of(before, num(p, "pid"));

		for (unsigned i = 0; i < N_CLASSES; i++) {
			o = cJSON_GetObjectItem(p, classes[i].key);
			if (o && classes[i].counts)
				cJSON_ReplaceItemInObject(p, classes[i].key,
					difference(o, cJSON_GetObjectItem(old, classes[i].key), seconds));
		}
	}
}

static void sleep_s(double s)
{
	struct timespec t = { .tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9) };

	nanosleep(&t, NULL);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static cJSON *rates(pid_t only, unsigned mask, double seconds)
{
	cJSON *before = stats_json(only, mask), *root;
	double at = now_s();

	sleep_s(seconds);
	root = stats_json(only, mask);
	subtract(root, before, now_s() - at);
	cJSON_Delete(before);
	return root;
}

/* --- output ------------------------------------------------------------------------------------------- */

static void print_class(const cJSON *o, bool zeros, int decimals)
{
	const cJSON *v;

	cJSON_ArrayForEach(v, o) {
		if (v->string && (zeros || num(o, v->string) != 0))
			printf("  %-36s %.*f\n", v->string, decimals, num(o, v->string));
	}
}

static void print_stats(const cJSON *root, bool zeros, bool rate)
{
	const cJSON *p;

	cJSON_ArrayForEach(p, cJSON_GetObjectItem(root, "processes")) {
		printf("pid %.0f %s%s%s\n", num(p, "pid"), str(p, "program"), str(p, "error")[0] ? ": " : "",
		       str(p, "error"));
		for (unsigned i = 0; i < N_CLASSES; i++)
			print_class(cJSON_GetObjectItem(p, classes[i].key), zeros, rate && classes[i].counts ? 1 : 0);
	}
}

/* --- the verb ----------------------------------------------------------------------------------------- */

struct want {
	unsigned mask;
	pid_t pid;
	double rate;     /* 0: no */
	cJSON *since;    /* NULL: no */
};

/* Words are classes and one pid. False: said. */
static bool want_words(struct want *w, int n, char **word)
{
	for (int i = 0; i < n; i++) {
		unsigned m = class_mask(word[i]);
		long long pid = number(word[i], 1, 1 << 30);

		if (!m && (pid < 0 || w->pid)) {
			usage_error(&verb_stats, pid > 0 ? "one pid at most" : "\"%s\" is neither a pid nor a class",
				    word[i]);
			return false;
		}
		w->mask |= m;
		if (!m)
			w->pid = (pid_t)pid;
	}
	if (!w->mask)
		w->mask = class_mask("stack");
	return true;
}

static bool want_since(struct want *w, const char *path)
{
	struct json_doc d;
	char err[RD_ERR] = "";

	if (!json_load(&d, path, err))
		w->since = cJSON_Duplicate(d.root, 1);
	json_free(&d);
	if (w->since && cJSON_IsArray(cJSON_GetObjectItem(w->since, "processes")))
		return true;
	fail("%s", err[0] ? err : "--since: the file is no output of nstack stats --json");
	return false;
}

static int show(const struct want *w, bool all, bool json)
{
	cJSON *root = w->rate > 0 ? rates(w->pid, w->mask, w->rate) : stats_json(w->pid, w->mask);

	if (w->pid && !cJSON_GetArraySize(cJSON_GetObjectItem(root, "processes"))) {
		cJSON_Delete(root);
		return fail("pid %d does not run under nstack (or has no stack yet)", (int)w->pid);
	}
	if (w->since)
		subtract(root, w->since, 0);
	if (json)
		return print_json(root);
	print_stats(root, all, w->rate > 0);
	cJSON_Delete(root);
	return 0;
}

static int stats_run(int argc, char **argv)
{
	const char *since = NULL, *rate = NULL;
	bool json = false, all = false;
	const struct opt opts[] = {
		OPT_FLAG("--json", 'j', &json), OPT_FLAG("--all", 'a', &all), OPT_VALUE("--since", 's', &since),
		OPT_VALUE("--rate", 'r', &rate), { 0 },
	};
	int n = opts_parse(&verb_stats, opts, true, argc, argv), ret = EXIT_FAILED;
	struct want w = { 0 };
	char *end = NULL;

	if (n < 0 || !want_words(&w, n, argv + 1))
		return EXIT_USAGE;
	w.rate = rate ? strtod(rate, &end) : 0;
	if (rate && (*end || !(w.rate >= 0.1 && w.rate <= 3600)))
		return usage_error(&verb_stats, "--rate is 0.1 to 3600 s");
	if (rate && since)
		return usage_error(&verb_stats, "--rate or --since");
	if (!since || want_since(&w, since))
		ret = show(&w, all, json);
	cJSON_Delete(w.since);
	return ret;
}

const struct verb verb_stats = {
	"stats", stats_run, "the counters of the user-space stacks",
	"stats [CLASS ...] [--all] [--rate SECONDS | --since FILE] [--json] [PID]",
	"What every process has counted: its stack (packets, segments, drops by reason, state changes) or what\n"
	"the classes say; DMM's names for them are in brackets.\n\n"
	"  stack      [l2to4]             packets, segments, drops by reason, state changes\n"
	"  queues     [queue]             each receive and transmit queue of an interface\n"
	"  accounts   [mbufpool, frames]  where packet frames are, and what else has to come back\n"
	"  sessions   [socketcb]          sockets in use, their bound, their memory\n"
	"  states     [conn, pcblist]     sockets by protocol and state\n"
	"  all\n\n"
	"  -r, --rate S      wait so long; counts are per second\n"
	"  -s, --since FILE  counts since nstack stats --json wrote that file\n"
	"  -a, --all         also those that are zero\n"
	"  -j, --json        print JSON (all counters)\n",
};
