/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/notify.c - the protocol of sd_notify(3), which is one datagram */
#define _GNU_SOURCE
#include "tools/nstackd/notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static uint64_t watchdog_ns; /* constant after notify_init() */

void notify_systemd(const char *what)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int s;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(a.sun_path))
		return;
	strcpy(a.sun_path, path);
	if (path[0] == '@')
		a.sun_path[0] = 0;
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	sendto(s, what, strlen(what), MSG_NOSIGNAL, (struct sockaddr *)&a,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(s);
}

void notify_reloading(void)
{
	struct timespec t;
	char text[64];

	clock_gettime(CLOCK_MONOTONIC, &t); /* systemd wants to tell it from an older READY=1 */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		 (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
	notify_systemd(text);
}

void notify_init(void)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (us && (!pid || atoi(pid) == (int)getpid()))
		watchdog_ns = strtoull(us, NULL, 10) * 1000;
}

uint64_t notify_watchdog_ns(void)
{
	return watchdog_ns;
}
