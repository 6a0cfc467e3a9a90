/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/crate.c - connections on their way to accept(), in the queue of a unix socket
 *
 * A crate is filled before its end is passed on, and its other end is closed: so an empty one reads as
 * the end, and what is in it is reset, as in a listener that closes, when the last descriptor of it goes.
 *
 * System calls, because libc's functions are cancellation points and locks are held.
 *
 * Threads: one at a time, by the caller's lock.
 */
#define _GNU_SOURCE
#include "nsocket/crate.h"

#include <inttypes.h>
#include <nsocket/sock.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define LABEL "nstack-crate/%" PRIx64 "/%" PRIx64

union one_fd {
	struct cmsghdr h;
	char room[CMSG_SPACE(sizeof(int))];
};

int crate_open(struct crate *c)
{
	int pair[2];

	*c = (struct crate){ -1, -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	c->in = fd_hide(pair[0]);
	c->out = fd_hide(pair[1]);
	return 0;
}

void crate_close_in(struct crate *c)
{
	fd_hide_close(c->in);
	c->in = -1;
}

int crate_put(struct crate *c, int fd)
{
	union one_fd u = { .h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(sizeof(fd)) } };
	struct iovec iov = { "", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = sizeof(u) };

	memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	return syscall(SYS_sendmsg, c->in, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int crate_take(int out, bool cloexec)
{
	int flags = MSG_DONTWAIT | (cloexec ? MSG_CMSG_CLOEXEC : 0), fd;
	union one_fd u;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = CMSG_LEN(sizeof(fd)) };

	/* a look first: where there is no number for it, it stays */
	if (syscall(SYS_recvmsg, out, &m, flags | MSG_PEEK) <= 0)
		return -EAGAIN;
	if (m.msg_controllen < CMSG_LEN(sizeof(fd)))
		return -EMFILE;
	memcpy(&fd, CMSG_DATA(&u.h), sizeof(fd));
	syscall(SYS_recvfrom, out, &byte, 1, MSG_DONTWAIT, NULL, NULL);
	return fd;
}

bool crate_empty(int out)
{
	char byte;

	return syscall(SYS_recvfrom, out, &byte, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL) <= 0;
}

int crate_label(int out, uint64_t listener_cookie)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	/* its own only makes the name of each crate another */
	int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, LABEL, listener_cookie,
			 sock_cookie(out));

	return libc.bind(out, (struct sockaddr *)&a,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) ? -errno : 0;
}

uint64_t crate_read_label(int fd)
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a) - 1;
	uint64_t cookie, own;

	if (libc.getsockname(fd, (struct sockaddr *)&a, &len) || a.sun_family != AF_UNIX ||
	    len <= offsetof(struct sockaddr_un, sun_path) || a.sun_path[0] ||
	    sscanf(a.sun_path + 1, "nstack-crate/%" SCNx64 "/%" SCNx64, &cookie, &own) != 2)
		return 0;
	return cookie;
}
