/* SPDX-License-Identifier: Apache-2.0 */
/* tools/host.c - nstack-host: a process that has one plug-in stack of deploy type 3
 *
 * nstackd starts it for each stack of its configuration; by hand it does the same without a daemon. All it does
 * is nstack_adpt_init_stack(), and to say so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <nstack/adpt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char help[] =
	"usage: nstack-host [--ready-fd N] STACK\n\n"
	"Has the plug-in stack STACK of the configuration (NSTACK_CONFIG; \"deploy\": 3) and serves it to the programs\n"
	"of this network namespace. Stays in the foreground; ends by SIGTERM.\n\n"
	"      --ready-fd N     write a byte to this descriptor when it serves\n"
	"  -h, --help\n"
	"  -V, --version\n";

static void descriptors(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

/* -1: go on; else the exit status. */
static int options(int argc, char **argv, int *ready)
{
	static const struct option longs[] = {
		{ "ready-fd", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
	};
	char *end;
	long n;
	int o;

	while ((o = getopt_long(argc, argv, "hV", longs, NULL)) >= 0) {
		if (o == 'h')
			return fputs(help, stdout) < 0;
		if (o == 'V')
			return puts("nstack-host " NSTACK_VERSION) < 0;
		n = o == 'r' ? strtol(optarg, &end, 10) : -1;
		if (n < 0 || n > INT_MAX || end == optarg || *end)
			break;
		*ready = (int)n;
	}
	if (o < 0 && optind + 1 == argc)
		return -1;
	fputs(help, stderr);
	return 2;
}

static int failed(const char *stack)
{
	if (errno == ENOENT)
		fprintf(stderr, "nstack-host: no stack \"%s\" with \"deploy\": 3 in the configuration (NSTACK_CONFIG)\n",
			stack);
	else
		fprintf(stderr, "nstack-host: %s: %s (the log says more)\n", stack, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	nstack_dmm_para para = { .deploy_type = NSTACK_MODEL_TYPE3, .proc_type = NSFW_PROC_MAIN };
	int ready = -1, status = options(argc, argv, &ready);

	if (status >= 0)
		return status;
	descriptors();
	if (nstack_adpt_init_stack(&para, argv[optind]))
		return failed(argv[optind]);
	if (ready >= 0) {
		if (write(ready, "r", 1) != 1)
			return 1;
		close(ready);
	}
	for (;;)
		pause();
}
