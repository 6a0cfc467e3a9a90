/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/client_fork.c - vc_fork, kc_fork: -f connections, each made before a fork and used by a child */
#include "dmm.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct dmm_options o;
	int fd, status, failed = 0;
	pid_t pid;

	dmm_parse(&o, DMM_CLIENT, argc, argv);
	for (uint32_t i = 0; i < o.fds; i++) {
		fd = dmm_connect(&o, SOCK_STREAM, i);
		pid = fork();
		if (pid < 0)
			dmm_die("fork");
		if (!pid) {
			dmm_count_connection();
			dmm_exchange(&o, &fd, 1, i);
			close(fd);
			dmm_report(&o);
			return 0;
		}
		close(fd);
	}
	while (wait(&status) > 0 || errno == EINTR)
		failed |= status;
	return failed ? 1 : 0;
}
