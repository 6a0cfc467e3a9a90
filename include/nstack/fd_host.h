/* SPDX-License-Identifier: Apache-2.0 */
/* include/nstack/fd_host.h - descriptors of a library that lives in somebody else's program
 *
 * Programs expect the lowest free number from open(), and some close everything that they did not
 * open. So whoever keeps a descriptor (a table of the steering program, a netlink socket, shared
 * memory) hands it to nst_fd_own() and goes on with the number that this returns, and closes it
 * with nst_fd_close(). In a program of our own nobody is host, and both do nothing special.
 *
 * Threads: any. The host is set once, before the first descriptor is owned.
 */
#ifndef NSTACK_FD_HOST_H
#define NSTACK_FD_HOST_H

#include <errno.h>
#include <unistd.h>

struct nst_fd_host {
	int (*own)(int fd);     /* the number to use from now on; the old one may be gone */
	void (*disown)(int fd); /* about to be closed; numbers that were never owned are harmless */
};
extern struct nst_fd_host nst_fd_host;

static inline int nst_fd_own(int fd)
{
	return fd >= 0 && nst_fd_host.own ? nst_fd_host.own(fd) : fd;
}

static inline void nst_fd_disown(int fd)
{
	if (fd >= 0 && nst_fd_host.disown)
		nst_fd_host.disown(fd);
}

static inline void nst_fd_close(int fd)
{
	int err = errno;

	if (fd < 0)
		return;
	nst_fd_disown(fd);
	close(fd);
	errno = err;
}

#endif
