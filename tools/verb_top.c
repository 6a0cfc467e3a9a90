/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_top.c - nstack top: what programs and stacks do, second by second */
#define _GNU_SOURCE
#include "tool.h"
#include "top.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH_WIDTH 200 /* every column, at its narrowest or a little wider */
#define COLS_MAX 16

static void print_table(const struct top_view *v, const struct top_sample *s)
{
	const struct top_row **order = calloc(s->n + 1, sizeof(*order));
	int widths[COLS_MAX];
	unsigned n = top_fit(v, BATCH_WIDTH, widths);
	char line[TOP_LINE];

	if (!order)
		return;
	for (unsigned i = 0; i < s->n; i++)
		order[i] = &s->row[i];
	top_sort(order, s->n, &v->col[v->sort], false);
	top_titles(v, n, widths, line);
	puts(line);
	for (unsigned i = 0; i < s->n; i++) {
		top_line(v, n, widths, order[i], line);
		puts(line);
	}
	free(order);
}

static void print_sample(const struct top_view *v, const struct top_sample *s, double seconds, bool json)
{
	cJSON *o;

	if (json) {
		o = cJSON_CreateObject();
		cJSON_AddNumberToObject(o, "seconds", seconds);
		cJSON_AddItemToObject(o, v->name, top_json(v, s));
		print_json(o);
	} else {
		print_table(v, s);
	}
	fflush(stdout);
}

static void pause_s(double s)
{
	struct timespec t = { .tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9) };

	nanosleep(&t, NULL);
}

/* Table after table: of what happened since the one before. */
static int batch(const struct top_view *v, double delay, long long rounds, bool json)
{
	struct top_sample s[2];
	unsigned cur = 0;

	if (top_sample_take(&s[0], v, NULL))
		return fail("out of memory");
	for (long long i = 0; !rounds || i < rounds; i++) {
		pause_s(delay);
		cur = !cur;
		if (top_sample_take(&s[cur], v, &s[!cur]))
			return fail("out of memory");
		if (i && !json)
			putchar('\n');
		print_sample(v, &s[cur], s[cur].at - s[!cur].at, json);
		top_sample_free(&s[!cur]);
	}
	top_sample_free(&s[cur]);
	return 0;
}

static const struct top_view *view_named(const char *name)
{
	for (unsigned i = 0; i < TOP_VIEWS; i++)
		if (!strcmp(top_views[i].name, name))
			return &top_views[i];
	return NULL;
}

static int top_run(int argc, char **argv)
{
	const char *delay = "1", *count = "0", *view = "programs";
	bool plain = false, json = false;
	const struct opt opts[] = {
		OPT_VALUE("--delay", 'd', &delay), OPT_VALUE("--count", 'n', &count), OPT_VALUE("--view", 'v', &view),
		OPT_FLAG("--batch", 'b', &plain), OPT_FLAG("--json", 'j', &json), { 0 },
	};
	int words = opts_parse(&verb_top, opts, true, argc, argv);
	const struct top_view *v;
	long long rounds;
	double seconds;
	char *end;

	if (words < 0)
		return EXIT_USAGE;
	seconds = strtod(delay, &end);
	rounds = number(count, 0, 1000000);
	if (words > 0 || *end || end == delay || !(seconds >= 0.1 && seconds <= 3600) || rounds < 0)
		return usage_error(&verb_top, "--delay is 0.1 to 3600 s, --count a number of rounds");
	v = view_named(view);
	if (!v)
		return usage_error(&verb_top, "--view is programs, stacks or sockets");
	if (plain || json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return batch(v, seconds, rounds, json);
	return top_screen(v, seconds, rounds);
}

const struct verb verb_top = {
	"top", top_run, "what programs, stacks and sockets do, live",
	"top [--view VIEW] [--delay SECONDS] [--count ROUNDS] [--batch | --json]",
	"Packets and bytes per second, sockets, memory and processor time of the programs under nstack, of\n"
	"the stacks (nstackd's workers, and programs with a stack of their own), or of single connections.\n"
	"On the screen, h lists the keys. A program that nstackd serves is shown with the payload of its\n"
	"connections, others with all that their interfaces received and sent.\n\n"
	"  -v, --view V      programs (default), stacks or sockets\n"
	"  -d, --delay S     seconds between looks, 0.1 to 3600 (default 1)\n"
	"  -n, --count N     stop after N rounds (default: never)\n"
	"  -b, --batch       a table each round, for scripts; so it is where stdout is no terminal\n"
	"  -j, --json        a JSON value each round\n",
};
