/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/sbr_policy.c - what a program may not have a stack do in another process
 *
 * A stack does what it is asked with its own process's privilege, descriptors and memory. So what is about a
 * descriptor or points into memory is nobody's to ask for (a number or address of the program's would be taken for
 * the host's), and what Linux keeps for privileged programs is theirs here, too: who is root.
 *
 * Threads: the host's.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/sbr.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define NETFILTER_FIRST 64    /* SOL_IP, SOL_IPV6: tables of netfilter, multicast routing... */
#define IPV6_USUAL_FIRST 70   /* but these are of sockets */
#define IPV6_USUAL_LAST 78
#define PRIORITY_MAX 6        /* SO_PRIORITY, without privilege */

enum who { NOBODY, PRIVILEGED };

static const struct {
	int level, name;
	enum who who;
} kept[] = {
	{ SOL_SOCKET, SO_ATTACH_FILTER, NOBODY },        { SOL_SOCKET, SO_ATTACH_BPF, NOBODY },
	{ SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, NOBODY }, { SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, NOBODY },
	{ SOL_SOCKET, SO_ZEROCOPY, NOBODY },             { SOL_SOCKET, SO_MARK, PRIVILEGED },
	{ SOL_SOCKET, SO_DEBUG, PRIVILEGED },            { SOL_SOCKET, SO_RCVBUFFORCE, PRIVILEGED },
	{ SOL_SOCKET, SO_SNDBUFFORCE, PRIVILEGED },
	{ IPPROTO_IP, IP_TRANSPARENT, PRIVILEGED },      { IPPROTO_IPV6, IPV6_TRANSPARENT, PRIVILEGED },
	{ IPPROTO_TCP, TCP_REPAIR, PRIVILEGED },         { IPPROTO_TCP, TCP_ULP, PRIVILEGED },
};

static bool usual(int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return true;
	case IPPROTO_IP:
		return name < NETFILTER_FIRST;
	case IPPROTO_IPV6:
		return name < NETFILTER_FIRST || (name >= IPV6_USUAL_FIRST && name <= IPV6_USUAL_LAST);
	default:
		return false;
	}
}

int sbr_may_set(int level, int name, const void *val, uint32_t len, bool privileged)
{
	int v = 0;

	if (!usual(level, name))
		return -ENOPROTOOPT;
	if (level == SOL_SOCKET && name == SO_PRIORITY && len >= sizeof(v)) {
		memcpy(&v, val, sizeof(v));
		return !privileged && (v < 0 || v > PRIORITY_MAX) ? -EPERM : 0;
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (kept[i].level == level && kept[i].name == name)
			return kept[i].who == NOBODY ? -EOPNOTSUPP : privileged ? 0 : -EPERM;
	return 0;
}

int sbr_may_get(int level, int name)
{
	if (!usual(level, name) || (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE))
		return -ENOPROTOOPT;
	return 0;
}

static int first_free_port(void)
{
	int port = IPPORT_RESERVED;
	FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");

	if (f && fscanf(f, "%d", &port) != 1)
		port = IPPORT_RESERVED;
	if (f)
		fclose(f);
	return port;
}

int sbr_may_bind(const struct sockaddr *addr, socklen_t len, bool privileged)
{
	struct nst_addr a;
	int port;

	if (privileged || nst_addr_from_sockaddr(&a, addr, len))
		return 0; /* what is no address the stack knows better */
	port = ntohs(a.port);
	return port && port < IPPORT_RESERVED && port < first_free_port() ? -EACCES : 0;
}

int sbr_may_send(const struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c))
		if (c->cmsg_level != IPPROTO_IP && c->cmsg_level != IPPROTO_IPV6 && c->cmsg_level != IPPROTO_UDP)
			return -EINVAL;
	return 0;
}

int sbr_ioctl_size(unsigned long req)
{
	switch (req) {
	case FIONREAD:
	case TIOCOUTQ:
	case SIOCATMARK:
	case SIOCOUTQNSD:
		return sizeof(int);
	case SIOCGIFNAME:
	case SIOCGIFINDEX:
	case SIOCGIFFLAGS:
	case SIOCGIFADDR:
	case SIOCGIFBRDADDR:
	case SIOCGIFNETMASK:
	case SIOCGIFHWADDR:
	case SIOCGIFMTU:
		return sizeof(struct ifreq);
	default:
		return -ENOTTY;
	}
}
