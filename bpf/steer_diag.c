/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_diag.c - which TCP connections the kernel has, by NETLINK_SOCK_DIAG
 *
 * Of connections, closed ones are left out, and those by loopback: their packets never cross an
 * interface that is steered. Threads: any; each call has its own socket.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <nstack/fd_host.h>
#include <unistd.h>

struct dump {
	int (*fn)(void *arg, const struct steer_flow *flow);
	void *arg;
	int err;
};

/* A flow as packets carry it: a v4-mapped socket's packets are IPv4. */
static bool flow_from_diag(struct steer_flow *f, const struct inet_diag_msg *m)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const struct inet_diag_sockid *id = &m->id;
	bool v6 = m->idiag_family == AF_INET6;

	memset(f, 0, sizeof(*f));
	f->proto = STEER_P_TCP;
	f->lport = id->idiag_sport;
	f->rport = id->idiag_dport;
	if (v6 && !memcmp(id->idiag_src, mapped, sizeof(mapped))) {
		f->family = AF_INET;
		f->local[0] = id->idiag_src[3];
		f->remote[0] = id->idiag_dst[3];
	} else {
		f->family = m->idiag_family;
		memcpy(f->local, id->idiag_src, v6 ? 16 : 4);
		memcpy(f->remote, id->idiag_dst, v6 ? 16 : 4);
	}
	if (f->family == AF_INET)
		return ntohl(f->local[0]) >> 24 != 127;
	return f->local[0] || f->local[1] || f->local[2] || f->local[3] != htonl(1);
}

static int on_socket(const struct nlmsghdr *nlh, void *data)
{
	struct dump *d = data;
	struct steer_flow f;

	if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(struct inet_diag_msg))
		return MNL_CB_OK;
	if (flow_from_diag(&f, mnl_nlmsg_get_payload(nlh)))
		d->err = d->fn(d->arg, &f);
	return d->err ? MNL_CB_ERROR : MNL_CB_OK;
}

static int dump_family(struct mnl_socket *nl, uint8_t family, uint16_t port, uint32_t states, mnl_cb_t fn,
		       void *arg)
{
	char buf[MNL_SOCKET_BUFFER_SIZE * 2];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *req;
	ssize_t n;
	int ret;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = family;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
	req->sdiag_family = family;
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = states;
	req->id.idiag_sport = htons(port);
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		ret = mnl_cb_run(buf, (size_t)n, family, mnl_socket_get_portid(nl), fn, arg);
	} while (ret > MNL_CB_STOP);
	return ret < 0 ? -errno : 0;
}

/* A socket to ask by, or NULL and errno. Opened here and not by libmnl, so that the program does not
 * meet the number. */
static struct mnl_socket *diag_open(void)
{
	int fd = nst_fd_own(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
	struct mnl_socket *nl = fd < 0 ? NULL : mnl_socket_fdopen(fd);

	if (!nl)
		nst_fd_close(fd);
	return nl;
}

static void diag_close(struct mnl_socket *nl)
{
	nst_fd_disown(mnl_socket_get_fd(nl));
	mnl_socket_close(nl);
}

static int on_found(const struct nlmsghdr *nlh, void *data)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	int *found = data;

	/* without a connection the kernel answers with its listener */
	if (nlh->nlmsg_type == SOCK_DIAG_BY_FAMILY && mnl_nlmsg_get_payload_len(nlh) >= sizeof(*m))
		*found = m->idiag_state != TCP_LISTEN && m->idiag_state != TCP_TIME_WAIT;
	return MNL_CB_STOP;
}

int steer_kernel_has(const struct steer_flow *f)
{
	struct mnl_socket *nl = diag_open();
	char buf[MNL_SOCKET_BUFFER_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *req;
	int found = 0;
	ssize_t n;

	if (!nl) /* without such sockets nothing can ever be asked */
		return errno == EPROTONOSUPPORT ? 0 : -errno;
	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
	req->sdiag_family = f->family;
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = ~0u;
	req->id.idiag_sport = f->lport;
	req->id.idiag_dport = f->rport;
	memcpy(req->id.idiag_src, f->local, sizeof(f->local));
	memcpy(req->id.idiag_dst, f->remote, sizeof(f->remote));
	req->id.idiag_cookie[0] = req->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	n = mnl_socket_sendto(nl, nlh, nlh->nlmsg_len);
	if (n >= 0)
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
	if (n < 0)
		found = -errno;
	else /* an answer that is an error: there is no such connection */
		mnl_cb_run(buf, (size_t)n, 0, 0, on_found, &found);
	diag_close(nl);
	return found;
}

/* fn for each TCP socket with that local port (host byte order) in one of the states; it may end the walk
 * with MNL_CB_ERROR. 0 or -errno. */
static int dump(uint16_t port, uint32_t states, mnl_cb_t fn, void *arg)
{
	struct mnl_socket *nl = diag_open();
	int err;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		err = -errno;
	} else {
		err = dump_family(nl, AF_INET, port, states, fn, arg);
		if (!err)
			err = dump_family(nl, AF_INET6, port, states, fn, arg);
	}
	diag_close(nl);
	return err;
}

int steer_kernel_flows(uint16_t port, int (*fn)(void *arg, const struct steer_flow *flow),
		       void *arg)
{
	/* TIME_WAIT holds nothing that a reset could spoil, and its addresses are soon used again */
	static const uint32_t states = ~(1u << TCP_LISTEN | 1u << TCP_CLOSE | 1u << TCP_TIME_WAIT);
	struct dump d = { fn, arg, 0 };
	int err = dump(port, states, on_socket, &d);

	if (d.err)
		return d.err;
	/* a kernel without inet_diag: nothing can be asked, so nothing is pinned */
	return err == -ENOENT || err == -EPROTONOSUPPORT ? 0 : err;
}

struct listener {
	uint64_t cookie;
	bool found;
};

static int on_listener(const struct nlmsghdr *nlh, void *data)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	struct listener *l = data;

	if (nlh->nlmsg_type == SOCK_DIAG_BY_FAMILY && mnl_nlmsg_get_payload_len(nlh) >= sizeof(*m))
		l->found |= l->cookie == ((uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0]);
	return MNL_CB_OK;
}

bool steer_kernel_listens(uint16_t port, uint64_t cookie)
{
	struct listener l = { cookie, false };

	return !dump(ntohs(port), 1u << TCP_LISTEN, on_listener, &l) && l.found;
}

bool steer_kernel_listener_gone(uint16_t port, uint64_t cookie)
{
	struct listener l = { cookie, false };

	return !dump(ntohs(port), 1u << TCP_LISTEN, on_listener, &l) && !l.found;
}
