/* SPDX-License-Identifier: Apache-2.0 */
/* shm/attach.c - messages between a program and nstackd; see attach.h */
#define _GNU_SOURCE
#include "shm/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUPS_USUAL 256u

union control {
	struct cmsghdr h;
	char room[CMSG_SPACE(ATT_RECV_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))]; /* with SO_PASSCRED */
};

long att_send(int sock, const void *msg, size_t size, const int *fds, unsigned nfds, int flags)
{
	union control c;
	struct iovec iov = { (void *)msg, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	long r;

	if (nfds) {
		memset(&c, 0, sizeof(c));
		c.h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					.cmsg_len = CMSG_LEN(nfds * sizeof(int)) };
		memcpy(CMSG_DATA(&c.h), fds, nfds * sizeof(int));
		m.msg_control = &c;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
	}
	do
		r = syscall(SYS_sendmsg, sock, &m, flags | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static void fds_sort(struct msghdr *m, int *fds, unsigned max, unsigned *nfds)
{
	unsigned n, kept = 0;
	int fd;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (kept < max)
				fds[kept++] = fd;
			else
				syscall(SYS_close, fd);
		}
	}
	if (nfds)
		*nfds = kept;
}

long att_recv(int sock, void *msg, size_t size, int *fds, unsigned max, unsigned *nfds, int flags)
{
	union control c;
	struct iovec iov = { msg, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = max ? &c : NULL,
			    .msg_controllen = max ? sizeof(c) : 0 };
	long r;

	if (nfds)
		*nfds = 0;
	do
		r = syscall(SYS_recvmsg, sock, &m, flags | MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	fds_sort(&m, fds, max, nfds);
	return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : r;
}

static bool is_among(gid_t gid, const gid_t *groups, size_t n)
{
	while (n && groups[n - 1] != gid)
		n--;
	return n;
}

bool att_peer_in_group(int sock, const struct ucred *who, gid_t gid)
{
	gid_t usual[GROUPS_USUAL], *groups = usual;
	socklen_t len = sizeof(usual);
	long r = syscall(SYS_getsockopt, sock, SOL_SOCKET, SO_PEERGROUPS, groups, &len);
	bool is = who->gid == gid;

	if (r && errno == ERANGE) { /* len says how much it takes */
		groups = malloc(len);
		r = groups ? syscall(SYS_getsockopt, sock, SOL_SOCKET, SO_PEERGROUPS, groups, &len) : -1;
	}
	is |= !r && is_among(gid, groups, len / sizeof(gid_t));
	if (groups != usual)
		free(groups);
	return is;
}
