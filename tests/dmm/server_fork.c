/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/server_fork.c - vs_fork, ks_fork: a child for each connection, which accepts nothing itself */
#include "dmm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(const struct dmm_options *o, int listener, int fd)
{
	close(listener);
	dmm_count_connection();
	dmm_echo_all(o, fd);
	dmm_report(o);
}

int main(int argc, char **argv)
{
	struct dmm_options o;
	int listener, fd, status, failed = 0;
	pid_t pid;

	dmm_parse(&o, DMM_SERVER, argc, argv);
	listener = dmm_listen(&o, SOCK_STREAM);
	for (uint32_t i = 0; i < dmm_expected(&o); i++) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			dmm_die("accept");
		pid = fork();
		if (pid < 0)
			dmm_die("fork");
		if (!pid) {
			serve(&o, listener, fd);
			return 0;
		}
		close(fd);
	}
	close(listener);
	while (wait(&status) > 0 || errno == EINTR)
		failed |= status;
	return failed ? 1 : 0;
}
