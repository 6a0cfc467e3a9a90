/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/udp.h - what several groups about UDP record */
#ifndef TESTS_ORACLE_UDP_H
#define TESTS_ORACLE_UDP_H

#include "oracle.h"
#include <linux/errqueue.h>
#include <net/if.h>

static inline void own_name(const char *label, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (getsockname(fd, (void *)&a, &len))
		o_ret(label, -1);
	else
		o_addr(label, &a, len);
}

static inline void peer_name(const char *label, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (getpeername(fd, (void *)&a, &len))
		o_ret(label, -1);
	else
		o_addr(label, &a, len);
}

/* One datagram (waits up to 5 s): its bytes under label, its sender under who. */
static inline void recv_from(const char *label, const char *who, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[200];
	ssize_t r;

	o_wait(fd, POLLIN);
	r = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (void *)&a, &len);
	if (r < 0) {
		o_ret(label, r);
		return;
	}
	o_bytes(label, buf, (size_t)r);
	o_addr(who, &a, len);
}

static inline void send_text(int fd, const char *text)
{
	if (send(fd, text, strlen(text), 0) < 0)
		o_fail("send");
}

static inline void set_int(int fd, int level, int name, int v)
{
	if (setsockopt(fd, level, name, &v, sizeof(v)))
		o_fail("option %d of level %d", name, level);
}

/* Time for a datagram that should not be received to arrive. */
static inline void settle(void)
{
	usleep(30000);
}

#endif
