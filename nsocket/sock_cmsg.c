/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_cmsg.c - control messages of datagrams
 *
 * What a program gets with a datagram or an error (recvmsg), in the kernel's order and cut as the
 * kernel cuts it; and what it sends along (sendmsg): the stack takes a few kinds that are in order,
 * anything else is the kernel's to judge.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <linux/errqueue.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

/* --- received ----------------------------------------------------------------------------------- */

struct cmsg_out {
	struct msghdr *msg;
	size_t used;
};

static void put(struct cmsg_out *o, int level, int type, const void *data, size_t len)
{
	size_t left = o->msg->msg_control ? o->msg->msg_controllen - o->used : 0;
	struct cmsghdr h = { .cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type };
	char *at = (char *)o->msg->msg_control + o->used;

	if (left < sizeof(h)) {
		o->msg->msg_flags |= MSG_CTRUNC;
		return;
	}
	if (left < h.cmsg_len) {
		o->msg->msg_flags |= MSG_CTRUNC;
		h.cmsg_len = left;
	}
	memcpy(at, &h, sizeof(h)); /* nothing says that the program's buffer is aligned */
	memcpy(at + sizeof(h), data, h.cmsg_len - sizeof(h));
	o->used += left < CMSG_SPACE(len) ? left : CMSG_SPACE(len);
}

static void put_int(struct cmsg_out *o, int level, int type, int v)
{
	put(o, level, type, &v, sizeof(v));
}

static void put_times(struct cmsg_out *o, uint32_t want, uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull) };
	struct timeval tv = { ts.tv_sec, ts.tv_nsec / 1000 };
	struct scm_timestamping all = { .ts = { ts } };

	if (want & SOCK_CM_TSTAMPNS)
		put(o, SOL_SOCKET, SO_TIMESTAMPNS, &ts, sizeof(ts));
	else if (want & SOCK_CM_TSTAMP)
		put(o, SOL_SOCKET, SO_TIMESTAMP, &tv, sizeof(tv));
	if (want & SOCK_CM_TSTAMPING)
		put(o, SOL_SOCKET, SO_TIMESTAMPING, &all, sizeof(all));
}

/* spec_dst: the address to answer from. */
static void put_ip4(struct cmsg_out *o, uint32_t want, const struct shm_dgram *d, uint32_t spec_dst)
{
	struct in_pktinfo pi = { .ipi_ifindex = (int)d->ifindex, .ipi_spec_dst.s_addr = spec_dst,
				 .ipi_addr.s_addr = d->local.v4 };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = d->local.port,
				  .sin_addr.s_addr = d->local.v4 };

	if (want & SOCK_CM_PKTINFO)
		put(o, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi));
	if (want & SOCK_CM_TTL)
		put_int(o, IPPROTO_IP, IP_TTL, d->ttl);
	if (want & SOCK_CM_TOS)
		put(o, IPPROTO_IP, IP_TOS, &d->tos, 1);
	if (want & SOCK_CM_ORIGDST)
		put(o, IPPROTO_IP, IP_ORIGDSTADDR, &to, sizeof(to));
}

static void put_pktinfo6(struct cmsg_out *o, const struct shm_dgram *d)
{
	struct in6_pktinfo pi = { .ipi6_ifindex = d->ifindex };
	struct sockaddr_storage ss;

	nst_addr_to_sockaddr(&d->local, AF_INET6, &ss);
	pi.ipi6_addr = ((struct sockaddr_in6 *)&ss)->sin6_addr;
	put(o, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi));
}

static void put_ip6(struct cmsg_out *o, uint32_t want, const struct shm_dgram *d)
{
	struct sockaddr_storage ss;

	if (want & SOCK_CM_TTL6)
		put_int(o, IPPROTO_IPV6, IPV6_HOPLIMIT, d->ttl);
	if (want & SOCK_CM_TOS6)
		put_int(o, IPPROTO_IPV6, IPV6_TCLASS, d->tos);
	if (want & SOCK_CM_ORIGDST6) {
		nst_addr_to_sockaddr(&d->local, AF_INET6, &ss);
		put(o, IPPROTO_IPV6, IPV6_ORIGDSTADDR, &ss, sizeof(struct sockaddr_in6));
	}
}

static void put_ip(struct cmsg_out *o, const struct nsock *ns, uint32_t want,
		   const struct shm_dgram *d, uint32_t spec_dst)
{
	if ((want & SOCK_CM_PKTINFO6) && ns->family == AF_INET6)
		put_pktinfo6(o, d);
	if (d->local.family == AF_INET)
		put_ip4(o, want, d, spec_dst);
	else
		put_ip6(o, want, d);
}

void sock_cmsg_data(struct nsock *ns, struct msghdr *msg, const struct shm_dgram *d)
{
	uint32_t want = __atomic_load_n(&ns->want_cmsg, __ATOMIC_RELAXED);
	struct cmsg_out o = { .msg = msg };

	if (want) {
		put_times(&o, want, d->tstamp_ns);
		if ((want & SOCK_CM_DROPS) && d->drops)
			put(&o, SOL_SOCKET, SO_RXQ_OVFL, &d->drops, sizeof(d->drops));
		put_ip(&o, ns, want, d, d->local.v4);
	}
	msg->msg_controllen = o.used;
}

void sock_cmsg_error(struct nsock *ns, struct msghdr *msg, const struct shm_dgram *d,
		     const struct shm_dgram_error *e)
{
	struct {
		struct sock_extended_err ee;
		struct sockaddr_storage from;
	} rec = {
		.ee = { .ee_errno = e->err, .ee_origin = e->origin, .ee_type = e->type,
			.ee_code = e->code, .ee_info = e->info, .ee_data = e->data },
	};
	uint32_t want = __atomic_load_n(&ns->want_cmsg, __ATOMIC_RELAXED);
	bool v6 = ns->family == AF_INET6;
	struct nst_addr from = e->from;
	struct cmsg_out o = { .msg = msg };
	socklen_t len;

	_Static_assert(offsetof(__typeof__(rec), from) == sizeof(rec.ee), "SO_EE_OFFENDER");
	from.port = 0;
	len = nst_addr_to_sockaddr(&from, ns->family, &rec.from);
	put_times(&o, want, d->tstamp_ns);
	put_ip(&o, ns, want, d, 0);
	put(&o, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &rec,
	    sizeof(rec.ee) + len);
	msg->msg_controllen = o.used;
}

/* --- to be sent --------------------------------------------------------------------------------- */

/* The value of an int that may also be told in one byte. -1: neither. */
static int small_int(const uint8_t *data, size_t len)
{
	int v;

	if (len == 1)
		return data[0];
	if (len != sizeof(v))
		return -1;
	memcpy(&v, data, sizeof(v));
	return v;
}

static bool take_pktinfo4(struct shm_dgram *d, const uint8_t *data, size_t len)
{
	struct in_pktinfo pi;

	if (len != sizeof(pi))
		return false;
	memcpy(&pi, data, sizeof(pi));
	d->ifindex = (uint32_t)pi.ipi_ifindex;
	d->local.family = pi.ipi_spec_dst.s_addr ? AF_INET : AF_UNSPEC;
	d->local.v4 = pi.ipi_spec_dst.s_addr;
	return true;
}

static bool take_pktinfo6(struct shm_dgram *d, const uint8_t *data, size_t len)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6 };
	struct in6_pktinfo pi;

	if (len != sizeof(pi))
		return false;
	memcpy(&pi, data, sizeof(pi));
	d->ifindex = pi.ipi6_ifindex;
	if (IN6_IS_ADDR_UNSPECIFIED(&pi.ipi6_addr))
		return true;
	sa.sin6_addr = pi.ipi6_addr;
	return nst_addr_from_sockaddr(&d->local, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

static bool take(struct shm_dgram *d, bool v4, const struct cmsghdr *h, const uint8_t *data)
{
	size_t len = h->cmsg_len - sizeof(*h);
	int v = small_int(data, len);

	if (h->cmsg_level == SOL_UDP && h->cmsg_type == UDP_SEGMENT && len == 2) {
		memcpy(&d->gso_size, data, 2);
		return true;
	}
	if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_PKTINFO)
		return take_pktinfo6(d, data, len);
	if (v4 && h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO)
		return take_pktinfo4(d, data, len);
	if ((v4 && h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TOS) ||
	    (!v4 && h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_TCLASS && len != 1)) {
		d->tos = (uint8_t)v;
		d->flags |= SHM_DG_TOS;
		return v >= 0 && v <= 255;
	}
	if ((v4 && h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TTL && len != 1) ||
	    (!v4 && h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_HOPLIMIT && len != 1)) {
		d->ttl = (uint8_t)v;
		return v >= 1 && v <= 255;
	}
	return false;
}

bool sock_cmsg_send(const struct nsock *ns, const struct msghdr *msg, const struct nst_addr *to,
		    struct shm_dgram *d)
{
	size_t at = 0, left = msg->msg_controllen;
	const uint8_t *p = msg->msg_control;
	struct cmsghdr h;

	while (left >= sizeof(h)) {
		memcpy(&h, p + at, sizeof(h));
		if (h.cmsg_len < sizeof(h) || h.cmsg_len > left)
			return false;
		/* an IPv4 socket passes over what is meant for IPv6 */
		if (ns->family == AF_INET && h.cmsg_level == IPPROTO_IPV6)
			return false;
		if (!take(d, to->family == AF_INET, &h, p + at + sizeof(h)))
			return false;
		if (CMSG_ALIGN(h.cmsg_len) >= left)
			break;
		at += CMSG_ALIGN(h.cmsg_len);
		left -= CMSG_ALIGN(h.cmsg_len);
	}
	return !d->local.family || d->local.family == to->family;
}
