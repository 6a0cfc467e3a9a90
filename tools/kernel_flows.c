/* SPDX-License-Identifier: Apache-2.0 */
/* tools/kernel_flows.c - asks sock_diag for the kernel's TCP connections and pins those on
 * claimed ports, so that a change of rules moves no connection to another stack. */
#include "kernel_flows.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <time.h>

#define CLAIMS_MAX 65536u
#define MOVING_STATES ((1u << TCP_ESTABLISHED) | (1u << TCP_SYN_SENT) | (1u << TCP_SYN_RECV) | \
		       (1u << TCP_FIN_WAIT1) | (1u << TCP_FIN_WAIT2) | (1u << TCP_CLOSE_WAIT) | \
		       (1u << TCP_LAST_ACK) | (1u << TCP_CLOSING))

struct walk {
	struct steer *st;
	bool claimed[65536]; /* by port, host byte order */
	int pinned, error;
};

static void addr_fill(struct nst_addr *a, uint8_t family, const __be32 *ip, __be16 port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	memset(a, 0, sizeof(*a));
	a->family = family;
	a->port = port;
	if (family == AF_INET6 && !memcmp(ip, mapped, 12)) {
		a->family = AF_INET;
		a->v4 = ip[3];
	} else {
		memcpy(a->w, ip, family == AF_INET ? 4 : 16);
	}
}

static int on_socket(const struct nlmsghdr *nlh, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	struct walk *w = arg;
	struct nst_addr local, remote;
	int ret;

	if (!w->claimed[ntohs(m->id.idiag_sport)])
		return MNL_CB_OK;
	addr_fill(&local, m->idiag_family, m->id.idiag_src, m->id.idiag_sport);
	addr_fill(&remote, m->idiag_family, m->id.idiag_dst, m->id.idiag_dport);
	if (local.family == AF_INET && (ntohl(local.v4) >> 24) == 127)
		return MNL_CB_OK;
	ret = steer_pin(w->st, IPPROTO_TCP, &local, &remote, STEER_TO_KERNEL);
	if (ret)
		w->error = ret;
	else
		w->pinned++;
	return MNL_CB_OK;
}

static int walk_family(struct walk *w, struct mnl_socket *nl, uint8_t family)
{
	char buf[1 << 15];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *req;
	unsigned seq = (unsigned)time(NULL) + family;
	ssize_t n;
	int ret;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = seq;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
	req->sdiag_family = family;
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = MOVING_STATES;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		ret = n < 0 ? -1 : mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(nl), on_socket, w);
	} while (ret > MNL_CB_STOP);
	return ret < 0 ? -errno : 0;
}

static int claims_load(struct walk *w)
{
	struct steer_claim_info *info = calloc(CLAIMS_MAX, sizeof(*info));
	int n;

	if (!info)
		return -ENOMEM;
	n = steer_claims(w->st, info, CLAIMS_MAX);
	for (int i = 0; i < n && i < (int)CLAIMS_MAX; i++) {
		if (info[i].proto == IPPROTO_TCP)
			w->claimed[ntohs(info[i].local.port)] = true;
	}
	free(info);
	return n;
}

int kernel_flows_pin(struct steer *st)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct mnl_socket *nl;
	int ret;

	if (!w)
		return -ENOMEM;
	w->st = st;
	ret = claims_load(w);
	if (ret <= 0)
		goto out;
	nl = mnl_socket_open(NETLINK_SOCK_DIAG);
	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		ret = -errno;
	} else {
		ret = walk_family(w, nl, AF_INET);
		if (!ret)
			ret = walk_family(w, nl, AF_INET6);
	}
	if (nl)
		mnl_socket_close(nl);
	if (!ret)
		ret = w->error ? w->error : w->pinned;
out:
	free(w);
	return ret;
}
