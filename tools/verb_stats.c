/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_stats.c - nstack stats, nstack top: the counters of stacks */
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

/* --- top --------------------------------------------------------------------------------------- */

struct sample {
	pid_t pid;
	char program[32];
	double rx_packets, rx_bytes, tx_packets, tx_bytes, sockets, lost;
};

static unsigned take_samples(struct sample *out, unsigned max)
{
	pid_t *pids;
	int n = ctl_list(&pids);
	unsigned used = 0;

	for (int i = 0; i < n && used < max; i++) {
		char why[256];
		cJSON *o = ctl_ask(pids[i], "status", why);
		struct sample *s = &out[used];
		const cJSON *p;

		if (!o)
			continue;
		memset(s, 0, sizeof(*s));
		s->pid = pids[i];
		snprintf(s->program, sizeof(s->program), "%s", str(o, "program"));
		s->sockets = num(o, "sockets_ours");
		cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "ports")) {
			const cJSON *st = cJSON_GetObjectItem(p, "stats");

			s->rx_packets += num(st, "rx_packets");
			s->rx_bytes += num(st, "rx_bytes");
			s->tx_packets += num(st, "tx_packets") + num(st, "tx_super_packets");
			s->tx_bytes += num(st, "tx_bytes") + num(st, "tx_super_bytes");
			s->lost += num(st, "rx_dropped") + num(st, "rx_ring_full");
		}
		used++;
		cJSON_Delete(o);
	}
	free(pids);
	return used;
}

static const struct sample *sample_of(const struct sample *list, unsigned n, pid_t pid)
{
	for (unsigned i = 0; i < n; i++) {
		if (list[i].pid == pid)
			return &list[i];
	}
	return NULL;
}

static void print_top(const struct sample *now, unsigned n, const struct sample *before, unsigned m,
		      double seconds)
{
	char a[16], b[16];

	printf("%8s %-16s %8s %10s %14s %10s %14s %8s\n", "PID", "PROGRAM", "SOCKETS", "RX pkt/s", "RX B/s",
	       "TX pkt/s", "TX B/s", "LOST/s");
	for (unsigned i = 0; i < n; i++) {
		const struct sample *s = &now[i], *o = sample_of(before, m, s->pid);

		if (!o)
			continue;
		printf("%8d %-16s %8.0f", (int)s->pid, s->program, s->sockets);
		printf(" %10s %14s", human((s->rx_packets - o->rx_packets) / seconds, a),
		       human_bytes((s->rx_bytes - o->rx_bytes) / seconds, b));
		printf(" %10s %14s", human((s->tx_packets - o->tx_packets) / seconds, a),
		       human_bytes((s->tx_bytes - o->tx_bytes) / seconds, b));
		printf(" %8.0f\n", (s->lost - o->lost) / seconds);
	}
	fflush(stdout);
}

#define TOP_MAX 256

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int top_run(int argc, char **argv)
{
	static struct sample s[2][TOP_MAX];
	const char *delay = "1", *count = "0";
	const struct opt opts[] = { OPT_VALUE("--delay", 'd', &delay), OPT_VALUE("--count", 'n', &count), { 0 } };
	int words = opts_parse(&verb_top, opts, true, argc, argv);
	long long seconds, rounds;
	unsigned n[2], cur = 0;
	double t[2];

	if (words < 0)
		return EXIT_USAGE;
	seconds = number(delay, 1, 3600);
	rounds = number(count, 0, 1000000);
	if (words > 0 || seconds < 0 || rounds < 0)
		return usage_error(&verb_top, "--delay is 1 to 3600 s, --count a number of rounds");
	n[0] = take_samples(s[0], TOP_MAX);
	t[0] = now_s();
	for (long long i = 0; !rounds || i < rounds; i++) {
		sleep((unsigned)seconds);
		cur = !cur;
		n[cur] = take_samples(s[cur], TOP_MAX);
		t[cur] = now_s();
		if (isatty(1))
			fputs("\033[H\033[2J", stdout);
		print_top(s[cur], n[cur], s[!cur], n[!cur], t[cur] - t[!cur]);
	}
	return 0;
}

const struct verb verb_top = {
	"top", top_run, "traffic per process, refreshed",
	"top [--delay SECONDS] [--count ROUNDS]",
	"Packets and bytes per second of every process under nstack.\n\n"
	"  -d, --delay S     seconds between rounds (default 1)\n"
	"  -n, --count N     stop after N rounds (default: never)\n",
};
