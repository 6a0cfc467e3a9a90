/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/task.h - what a thread or a process is doing at the moment */
#ifndef TESTS_ORACLE_TASK_H
#define TESTS_ORACLE_TASK_H

#include "oracle.h"

/* As ps(1) has it: 'S' sleeps, 'T' is stopped. 0: there is none. */
static inline char task_state(pid_t tid)
{
	char path[64], buf[200] = "", *at;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	if (read(fd, buf, sizeof(buf) - 1) < 0)
		buf[0] = 0;
	close(fd);
	at = strrchr(buf, ')');
	return at ? at[2] : 0;
}

#endif
