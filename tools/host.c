/* SPDX-License-Identifier: Apache-2.0 */
/* tools/host.c - nstack-host: a process that has one plug-in stack of deploy type 3
 *
 * nstackd starts it for each stack of its configuration; by hand it does the same without a daemon. All it does
 * is nstack_adpt_init_stack(), and to say so.
 */
#define _GNU_SOURCE
#include <errno.h>
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
	"      --ready-fd N     write a byte to this descriptor when it serves\n";

static void descriptors(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

int main(int argc, char **argv)
{
	nstack_dmm_para para = { .deploy_type = NSTACK_MODEL_TYPE3, .proc_type = NSFW_PROC_MAIN };
	int ready = argc == 4 && !strcmp(argv[1], "--ready-fd") ? atoi(argv[2]) : -1;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		return fputs(help, stdout) < 0;
	if (argc != 2 && ready < 0) {
		fputs(help, stderr);
		return 2;
	}
	descriptors();
	if (nstack_adpt_init_stack(&para, argv[argc - 1])) {
		fprintf(stderr, "nstack-host: %s: %s (the log says more)\n", argv[argc - 1], strerror(errno));
		return 1;
	}
	if (ready >= 0) {
		if (write(ready, "r", 1) != 1)
			return 1;
		close(ready);
	}
	for (;;)
		pause();
}
