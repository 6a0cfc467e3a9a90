/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/loop/in_memory.h - what stacks have in common whose bytes only pass through memory: loop and hub
 *
 * Addresses as they keep them, and options: there is no wire that one could change anything about, and they never
 * wait.
 *
 * Threads: any. Results are those of the calls: 0 or a number, or -1 and errno.
 */
#ifndef STACKS_LOOP_IN_MEMORY_H
#define STACKS_LOOP_IN_MEMORY_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct mem_addr {
	uint16_t family; /* AF_INET, AF_INET6; 0: none */
	uint16_t port;   /* network byte order */
	uint8_t ip[16];
};

static inline int mem_fail(int err)
{
	errno = err;
	return -1;
}

/* False: it is none of IPv4's or IPv6's. */
static inline bool mem_addr_in(const struct sockaddr *sa, socklen_t len, struct mem_addr *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

	*a = (struct mem_addr){ .family = sa->sa_family };
	if (len >= sizeof(*v4) && sa->sa_family == AF_INET) {
		memcpy(a->ip, &v4->sin_addr, 4);
		a->port = v4->sin_port;
		return true;
	}
	if (len < sizeof(*v6) || sa->sa_family != AF_INET6)
		return false;
	memcpy(a->ip, &v6->sin6_addr, 16);
	a->port = v6->sin6_port;
	return true;
}

/* As a socket of that family shows it; sa and len may be NULL. */
static inline void mem_addr_out(int family, const struct mem_addr *a, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = a->port };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = a->port };
	socklen_t n = family == AF_INET ? sizeof(v4) : sizeof(v6);

	if (!sa || !len)
		return;
	memcpy(&v4.sin_addr, a->ip, 4);
	memcpy(&v6.sin6_addr, a->ip, 16);
	memcpy(sa, family == AF_INET ? (void *)&v4 : (void *)&v6, n < *len ? n : *len);
	*len = n;
}

static inline bool mem_addr_any(const struct mem_addr *a)
{
	static const uint8_t zero[16];

	return !memcmp(a->ip, zero, sizeof(zero));
}

/* error: SO_ERROR's value; room: of a buffer. */
static inline int mem_getsockopt(int level, int name, void *val, socklen_t *len, int error, bool listens, int room)
{
	int v;

	if (level != SOL_SOCKET || *len < sizeof(v))
		return mem_fail(ENOPROTOOPT);
	switch (name) {
	case SO_ERROR: v = error; break;
	case SO_ACCEPTCONN: v = listens; break;
	case SO_RCVBUF: case SO_SNDBUF: v = room; break;
	default: return mem_fail(ENOPROTOOPT);
	}
	memcpy(val, &v, sizeof(v));
	*len = sizeof(v);
	return 0;
}

static inline int mem_setsockopt(int s, int level, int name, const void *val, socklen_t len)
{
	(void)s, (void)level, (void)name, (void)val, (void)len;
	return 0;
}

/* O_NONBLOCK is as good as set. */
static inline int mem_fcntl(int s, int cmd, unsigned long arg)
{
	(void)s, (void)arg;
	return cmd == F_SETFL ? 0 : cmd == F_GETFL ? O_RDWR | O_NONBLOCK : mem_fail(EINVAL);
}

#endif
