/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/addr.h - an IP address with a port, the way every layer passes it on
 *
 * Addresses and ports are in network byte order everywhere. An IPv4 address is always
 * held as AF_INET; only the socket layer turns it into ::ffff:a.b.c.d, for programs
 * that hold an AF_INET6 socket.
 */
#ifndef NSTACK_ADDR_H
#define NSTACK_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

struct nst_addr {
	uint8_t family;    /* AF_INET, AF_INET6; AF_UNSPEC = none */
	uint8_t pad;
	uint16_t port;     /* network byte order */
	uint32_t scope_id; /* ifindex for link-local IPv6, else 0 */
	union {
		uint32_t v4; /* network byte order */
		uint8_t v6[16];
		uint32_t w[4];
	};
};
_Static_assert(sizeof(struct nst_addr) == 24, "shared between processes");

static inline bool nst_addr_is_any(const struct nst_addr *a)
{
	if (a->family == AF_INET)
		return a->v4 == 0;
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* Same family and same IP; ports are not compared. */
static inline bool nst_addr_same_ip(const struct nst_addr *a, const struct nst_addr *b)
{
	if (a->family != b->family)
		return false;
	return a->family == AF_INET ? a->v4 == b->v4 : !memcmp(a->v6, b->v6, 16);
}

/* From a sockaddr; a v4-mapped IPv6 address becomes AF_INET. 0, -EINVAL (too short) or
 * -EAFNOSUPPORT. */
int nst_addr_from_sockaddr(struct nst_addr *out, const struct sockaddr *sa, socklen_t len);

/* To a sockaddr for a socket of that family (AF_INET6 maps IPv4). Returns the length. */
socklen_t nst_addr_to_sockaddr(const struct nst_addr *a, int family,
			       struct sockaddr_storage *out);

#define NST_ADDRSTRLEN 64
/* "198.18.0.1:80" or "[2001:db8::1]:80" into out; returns out. */
const char *nst_addr_str(const struct nst_addr *a, char out[NST_ADDRSTRLEN]);

#endif
