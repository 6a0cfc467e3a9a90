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
	{ SOL_SOCKET, SO_SNDBUFFORCE, PRIVILEGED },      { SOL_SOCKET, SO_BUSY_POLL, PRIVILEGED },
	{ SOL_SOCKET, SO_PREFER_BUSY_POLL, PRIVILEGED }, { SOL_SOCKET, SO_BUSY_POLL_BUDGET, PRIVILEGED },
	{ SOL_SOCKET, SO_TXTIME, PRIVILEGED },
	{ IPPROTO_IP, IP_TRANSPARENT, PRIVILEGED },      { IPPROTO_IPV6, IPV6_TRANSPARENT, PRIVILEGED },
	{ IPPROTO_IP, IP_IPSEC_POLICY, PRIVILEGED },     { IPPROTO_IPV6, IPV6_IPSEC_POLICY, PRIVILEGED },
	{ IPPROTO_IP, IP_XFRM_POLICY, PRIVILEGED },      { IPPROTO_IPV6, IPV6_XFRM_POLICY, PRIVILEGED },
	{ IPPROTO_IPV6, IPV6_HOPOPTS, PRIVILEGED },      { IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, PRIVILEGED },
	{ IPPROTO_IPV6, IPV6_DSTOPTS, PRIVILEGED },      { IPPROTO_IPV6, IPV6_2292PKTOPTIONS, PRIVILEGED },
	{ IPPROTO_TCP, TCP_REPAIR, PRIVILEGED },         { IPPROTO_TCP, TCP_ULP, PRIVILEGED },
};

static int kept_from(int level, int name, bool privileged)
{
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (kept[i].level == level && kept[i].name == name)
			return kept[i].who == NOBODY ? -EOPNOTSUPP : privileged ? 0 : -EPERM;
	return 0;
}

/* A setting of the kernel's, one line; "": there is none. */
static void setting(const char *path, char text[256])
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(text, 256, f))
		text[0] = 0;
	if (f)
		fclose(f);
}

static bool listed(const char *path, const char *word)
{
	char text[256], *save;

	setting(path, text);
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (!strcmp(w, word))
			return true;
	return false;
}

/* As for a program without privilege: neither one that the administrator keeps, nor a module loaded for it. */
static int may_congestion(const char *val, uint32_t len)
{
	char name[16] = ""; /* TCP_CA_NAME_MAX */

	memcpy(name, val, len < sizeof(name) ? len : sizeof(name) - 1);
	if (listed("/proc/sys/net/ipv4/tcp_allowed_congestion_control", name))
		return 0;
	return listed("/proc/sys/net/ipv4/tcp_available_congestion_control", name) ? -EPERM : -ENOENT;
}

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
	if (level == IPPROTO_TCP && name == TCP_CONGESTION && !privileged)
		return may_congestion(val, len);
	return kept_from(level, name, privileged);
}

void sbr_no_linger(int level, int name, void *val, uint32_t len)
{
	struct linger l;

	if (level != SOL_SOCKET || name != SO_LINGER || len < sizeof(l))
		return;
	memcpy(&l, val, sizeof(l));
	if (l.l_linger)
		l.l_onoff = 0;
	memcpy(val, &l, sizeof(l));
}

int sbr_may_get(int level, int name)
{
	if (!usual(level, name) || (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE))
		return -ENOPROTOOPT;
	return 0;
}

static int first_free_port(void)
{
	char text[256];
	int port;

	setting("/proc/sys/net/ipv4/ip_unprivileged_port_start", text);
	return sscanf(text, "%d", &port) == 1 ? port : IPPORT_RESERVED;
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

/* As options these say only what is to be received. */
static bool is_header(const struct cmsghdr *c)
{
	return c->cmsg_level == IPPROTO_IPV6 && (c->cmsg_type == IPV6_2292HOPOPTS || c->cmsg_type == IPV6_2292DSTOPTS);
}

int sbr_may_send(const struct msghdr *msg, bool privileged)
{
	int err = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c && !err; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level != IPPROTO_IP && c->cmsg_level != IPPROTO_IPV6 && c->cmsg_level != IPPROTO_UDP)
			err = -EINVAL;
		else
			err = is_header(c) && !privileged ? -EPERM : kept_from(c->cmsg_level, c->cmsg_type, privileged);
	}
	return err;
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
