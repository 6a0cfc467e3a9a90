/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/inject.c - packets to the kernel as if they had come from the peer
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/inject.h"

#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <nsocket/file.h>
#include <nsocket/libc.h>
#include <stacks/tcpip/checksum.h>
#include <string.h>
#include <unistd.h>

#define HOPS 64
#define TCP_MAX 64u /* header with options */

static int kept_v4 = -1, kept_v6 = -1; /* inject_keep() */

static int raw_open(int family)
{
	return fd_hide(libc.socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
}

void inject_keep(void)
{
	if (kept_v4 < 0)
		kept_v4 = raw_open(AF_INET);
	if (kept_v6 < 0)
		kept_v6 = raw_open(AF_INET6);
}

/* They are closed by number. */
void inject_after_fork_child(void)
{
	kept_v4 = kept_v6 = -1;
}

static int kept(int family)
{
	return family == AF_INET ? kept_v4 : kept_v6;
}

/* To the local address; the routing table knows that this is the loopback. */
static int packet_send(const struct nst_addr *to, const struct iovec *v, size_t n)
{
	int own = kept(to->family) < 0 ? raw_open(to->family) : -1, err = 0;
	int fd = own < 0 ? kept(to->family) : own;
	struct sockaddr_storage ss;
	struct nst_addr dst = *to;
	struct msghdr m = { .msg_name = &ss, .msg_iov = (struct iovec *)v, .msg_iovlen = n };

	if (fd < 0)
		return -errno;
	dst.port = 0;
	m.msg_namelen = nst_addr_to_sockaddr(&dst, to->family, &ss);
	if (libc.sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		err = -errno;
	fd_hide_close(own);
	return err;
}

bool inject_able(int family)
{
	int fd = kept(family) < 0 ? raw_open(family) : -1;

	fd_hide_close(fd);
	return fd >= 0 || kept(family) >= 0;
}

/* l4 are header and payload, len bytes in all. The kernel fills in IPv4's length and checksum. */
static int ip_send(const struct nst_addr *from, const struct nst_addr *to, uint8_t proto, uint8_t tos,
		   uint8_t ttl, const struct iovec l4[2], uint32_t len)
{
	struct ip v4 = { .ip_v = 4, .ip_hl = sizeof(v4) / 4, .ip_tos = tos, .ip_ttl = ttl,
			 .ip_p = proto, .ip_src.s_addr = from->v4, .ip_dst.s_addr = to->v4 };
	struct ip6_hdr v6 = { .ip6_flow = htonl(6u << 28 | (uint32_t)tos << 20),
			      .ip6_plen = htons((uint16_t)len), .ip6_nxt = proto, .ip6_hlim = ttl };
	struct iovec v[3] = { { &v4, sizeof(v4) }, l4[0], l4[1] };

	if (to->family == AF_INET6) {
		memcpy(&v6.ip6_src, from->v6, 16);
		memcpy(&v6.ip6_dst, to->v6, 16);
		v[0] = (struct iovec){ &v6, sizeof(v6) };
	}
	return packet_send(to, v, 3);
}

static uint32_t ts_put(uint8_t *o, uint32_t val, uint32_t ecr)
{
	val = htonl(val);
	ecr = htonl(ecr);
	memcpy(o, "\x01\x01\x08\x0a", 4);
	memcpy(o + 4, &val, 4);
	memcpy(o + 8, &ecr, 4);
	return 12;
}

int inject_tcp(const struct inject_tcp *g)
{
	uint8_t l4[TCP_MAX] = { 0 };
	struct tcphdr h = {
		.source = g->from.port, .dest = g->to.port, .seq = htonl(g->seq),
		.ack_seq = htonl(g->ack), .ack = 1, .fin = g->fin, .rst = g->rst,
		.urg = g->urg, .urg_ptr = htons(g->urg),
		.window = htons(g->wnd > 65535 ? 65535 : (uint16_t)g->wnd),
	};
	struct iovec v[2] = { { l4, sizeof(h) }, { (void *)g->data, g->len } };
	uint32_t len = sizeof(h);
	uint64_t sum;

	if (g->ts)
		len += ts_put(l4 + sizeof(h), g->ts_val, g->ts_ecr);
	h.doff = (uint8_t)(len / 4) & 15;
	memcpy(l4, &h, sizeof(h));
	sum = csum_partial(l4, len, csum_pseudo(&g->from, &g->to, IPPROTO_TCP, len + g->len));
	h.check = csum_fold(csum_partial(g->data, g->len, sum));
	memcpy(l4, &h, sizeof(h));
	v[0].iov_len = len;
	return ip_send(&g->from, &g->to, IPPROTO_TCP, 0, HOPS, v, len + g->len);
}

int inject_udp(const struct nst_addr *from, const struct nst_addr *to, uint8_t tos, uint8_t ttl,
	       const void *data, uint32_t len)
{
	struct udphdr h = { .source = from->port, .dest = to->port,
			    .len = htons((uint16_t)(len + sizeof(h))) };
	struct iovec v[2] = { { &h, sizeof(h) }, { (void *)data, len } };
	uint64_t sum = csum_pseudo(from, to, IPPROTO_UDP, len + (uint32_t)sizeof(h));

	h.check = csum_fold_udp(csum_partial(data, len, csum_partial(&h, sizeof(h), sum)));
	return ip_send(from, to, IPPROTO_UDP, tos, ttl ? ttl : HOPS, v, len + (uint32_t)sizeof(h));
}
