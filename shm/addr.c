/* SPDX-License-Identifier: Apache-2.0 */
/* shm/addr.c - struct nst_addr to and from the forms that programs and people use */
#include <nstack/addr.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

int nst_addr_from_sockaddr(struct nst_addr *out, const struct sockaddr *sa, socklen_t len)
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;

	memset(out, 0, sizeof(*out));
	if (len < sizeof(sa->sa_family))
		return -EINVAL;
	switch (sa->sa_family) {
	case AF_INET:
		if (len < sizeof(*in))
			return -EINVAL;
		out->family = AF_INET;
		out->port = in->sin_port;
		out->v4 = in->sin_addr.s_addr;
		return 0;
	case AF_INET6:
		/* sin6_scope_id may be missing (RFC 2133 programs) */
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		out->port = in6->sin6_port;
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			out->family = AF_INET;
			memcpy(&out->v4, &in6->sin6_addr.s6_addr[12], 4);
			return 0;
		}
		out->family = AF_INET6;
		memcpy(out->v6, &in6->sin6_addr, 16);
		if (len >= sizeof(*in6))
			out->scope_id = in6->sin6_scope_id;
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}

socklen_t nst_addr_to_sockaddr(const struct nst_addr *a, int family, struct sockaddr_storage *out)
{
	struct sockaddr_in *in = (void *)out;
	struct sockaddr_in6 *in6 = (void *)out;

	memset(out, 0, sizeof(*out));
	if (family == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = a->port;
		in->sin_addr.s_addr = a->v4;
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = a->port;
	if (a->family == AF_INET) {
		in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
		memcpy(&in6->sin6_addr.s6_addr[12], &a->v4, 4);
	} else {
		memcpy(&in6->sin6_addr, a->v6, 16);
		in6->sin6_scope_id = a->scope_id;
	}
	return sizeof(*in6);
}

const char *nst_addr_str(const struct nst_addr *a, char out[NST_ADDRSTRLEN])
{
	char ip[INET6_ADDRSTRLEN] = "*";

	if (a->family == AF_INET)
		inet_ntop(AF_INET, &a->v4, ip, sizeof(ip));
	else if (a->family == AF_INET6)
		inet_ntop(AF_INET6, a->v6, ip, sizeof(ip));
	snprintf(out, NST_ADDRSTRLEN, a->family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip,
		 ntohs(a->port));
	return out;
}
