/* SPDX-License-Identifier: Apache-2.0 */
/* tools/main.c - the nstack tool: picks the verb */
#include "tool.h"

#include <rd/json.h>
#include <signal.h>
#include <string.h>

static const struct verb *const verbs[] = {
	&verb_run, &verb_load, &verb_unload, &verb_status, &verb_sockets, &verb_stats, &verb_top, &verb_alarms,
	&verb_rules, &verb_set, &verb_dump, &verb_ping, &verb_log, &verb_doctor,
};
#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const char *verb_at(const void *arg, unsigned i)
{
	return verbs[i]->name;
}

static void help(FILE *f)
{
	fprintf(f, "usage: nstack VERB [OPTIONS]\n\n"
		"A user-space network stack on AF_XDP under unmodified programs.\n\n");
	for (size_t i = 0; i < N_VERBS; i++)
		fprintf(f, "  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
	fprintf(f, "\nnstack VERB --help says more, nstack --version which one this is. --json prints JSON. "
		"Exit code: 0 done,\n1 failed, 2 wrong usage.\n");
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < N_VERBS; i++) {
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	}
	return NULL;
}

static int verb_unknown(const char *name)
{
	const char *near = json_nearest(name, verb_at, NULL, N_VERBS);

	fprintf(stderr, "nstack: unknown verb \"%s\"%s%s%s\n", name, near ? "; did you mean \"" : "",
		near ? near : "", near ? "\"?" : " (nstack --help lists them)");
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const struct verb *v;

	if (argc < 2) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") && argc > 2) {
		v = verb_find(argv[2]);
		if (!v)
			return verb_unknown(argv[2]);
		printf("usage: nstack %s\n\n%s", v->usage, v->help);
		return 0;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("nstack " NSTACK_VERSION);
		return 0;
	}
	v = verb_find(argv[1]);
	return v ? v->run(argc - 1, argv + 1) : verb_unknown(argv[1]);
}
