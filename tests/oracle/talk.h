/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/talk.h - one request, one answer, and the end of a connection, recorded */
#ifndef TESTS_ORACLE_TALK_H
#define TESTS_ORACLE_TALK_H

#include "oracle.h"

static inline void serve(int fd, const char *who)
{
	char label[64], buf[16];

	snprintf(label, sizeof(label), "%s: request", who);
	o_bytes(label, buf, o_recv_all(fd, buf, 4));
	snprintf(label, sizeof(label), "%s: answer", who);
	O(label, send(fd, "pong", 4, 0));
}

static inline void ask(int fd, const char *what)
{
	char label[64], buf[16];

	snprintf(label, sizeof(label), "send %s", what);
	O(label, send(fd, what, 4, 0));
	snprintf(label, sizeof(label), "answer to %s", what);
	o_bytes(label, buf, o_recv_all(fd, buf, 4));
}

static inline void see_end(int fd)
{
	char c;

	O("end", recv(fd, &c, 1, 0));
	O("close", close(fd));
}

#endif
