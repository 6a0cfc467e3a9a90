/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe_kernel.c - the sockets of this process that the kernel serves, and why
 *
 * Looked up only when somebody asks, so that a descriptor of the kernel's costs nothing to keep: the
 * descriptors are those in /proc/self/fd, their state is what the kernel says of them, the reason
 * is the socket's own or, for those that have no nsock, the note by descriptor number.
 *
 * Threads: the helper thread.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <dirent.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <nsocket/sock.h>
#include <rd/sys.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int opt_int(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return libc.getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? -1 : v;
}

static uint32_t queued(int fd, unsigned long which)
{
	int v = 0;

	return libc.ioctl(fd, which, (long)&v) < 0 || v < 0 ? 0 : (uint32_t)v;
}

static void names(int fd, struct stack_sock_info *i)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (libc.getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		nst_addr_from_sockaddr(&i->local, (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	if (libc.getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		nst_addr_from_sockaddr(&i->remote, (struct sockaddr *)&ss, len);
}

static void tcp_state(int fd, struct stack_sock_info *i)
{
	struct tcp_info ti = { .tcpi_state = TCP_CLOSE };
	socklen_t len = sizeof(ti);

	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0)
		return;
	i->tcp_state = ti.tcpi_state;
	if (ti.tcpi_state == TCP_LISTEN) {
		i->recv_q = ti.tcpi_unacked; /* where the kernel keeps a listener's */
		i->send_q = ti.tcpi_sacked;
		return;
	}
	i->recv_q = queued(fd, SIOCINQ);
	i->send_q = queued(fd, SIOCOUTQ);
	i->rtt_us = ti.tcpi_rtt;
	i->cwnd = ti.tcpi_snd_cwnd;
	i->retrans = ti.tcpi_total_retrans;
}

/* A TCP or UDP socket that is in use? */
static bool look(int fd, struct stack_sock_info *i)
{
	int domain = opt_int(fd, SO_DOMAIN), proto = opt_int(fd, SO_PROTOCOL);

	if ((domain != AF_INET && domain != AF_INET6) || (proto != IPPROTO_TCP && proto != IPPROTO_UDP))
		return false;
	memset(i, 0, sizeof(*i));
	i->proto = (uint8_t)proto;
	i->tcp_state = TCP_CLOSE;
	names(fd, i);
	if (proto == IPPROTO_TCP) {
		tcp_state(fd, i);
		return i->tcp_state != TCP_CLOSE;
	}
	i->recv_q = queued(fd, SIOCINQ);
	i->send_q = queued(fd, SIOCOUTQ);
	return i->local.port != 0;
}

static const char *reason_name(uint8_t why, const char *otherwise)
{
	if (!why && nsock_kernel_only_why() != SR_NR_)
		return sock_reason_names[nsock_kernel_only_why()];
	return why && why <= SR_NR_ ? sock_reason_names[why - 1] : otherwise;
}

/* Why the kernel serves fd; NULL: it does not. */
static const char *reason_of(int fd)
{
	struct nfile *f = fd_is_ours(fd) ? fd_get(fd) : NULL;
	const char *name = NULL;

	if (fd_is_protected(fd)) {
		name = NULL; /* the library's own */
	} else if (!f) {
		name = reason_name((unsigned)fd < NFILE_FDS ?
				   __atomic_load_n(&sock_fd_why[fd], __ATOMIC_RELAXED) : SR_fd_too_large + 1,
				   "made_elsewhere");
	} else if (f->kind == NF_SOCK && !nsock_session(nsock_of(f))) {
		name = reason_name(__atomic_load_n(&nsock_of(f)->why, __ATOMIC_RELAXED), "undecided");
	}
	if (f)
		nfile_put(f);
	return name;
}

/* The kernel numbers the entries of /proc/self/fd by descriptor, after . and .. */
#define FIRST_ENTRY 2

uint32_t observe_kernel_sockets(void *arg, struct ctl_kernel_socket *out, uint32_t n, uint64_t *cursor)
{
	int dir = sys_fd_high(sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY, 0));
	char buf[4096];
	uint32_t found = 0;
	ssize_t got;

	if (dir < 0)
		return 0;
	if (libc.syscall(SYS_lseek, dir, (long)*cursor + FIRST_ENTRY, SEEK_SET, 0, 0, 0) < 0)
		*cursor = 0;
	while (found < n && (got = libc.syscall(SYS_getdents64, dir, (long)buf, sizeof(buf), 0, 0, 0)) > 0) {
		const struct dirent64 *e;

		for (ssize_t at = 0; at < got && found < n; at += e->d_reclen) {
			struct ctl_kernel_socket *k = &out[found];
			int fd;

			e = (const struct dirent64 *)(buf + at);
			fd = atoi(e->d_name);
			if (e->d_name[0] == '.' || (uint64_t)fd < *cursor)
				continue;
			*cursor = (uint64_t)fd + 1;
			*k = (struct ctl_kernel_socket){ .fd = fd, .reason = reason_of(fd) };
			found += k->reason && look(fd, &k->info);
			found += observe_plug_sockets(fd, &out[found], n - found);
		}
	}
	sys_close(dir);
	return found;
}
