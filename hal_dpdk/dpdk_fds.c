/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_fds.c - descriptors that DPDK and its drivers open by themselves
 *
 * In a program of somebody else they must not have the low numbers that the program expects to get, and
 * must survive a program that closes what it did not open. Drivers can't be asked to use other numbers:
 * so all low ones are taken while they open theirs.
 *
 * And most drivers without interrupts receive from a socket that could be waited for; it is found by
 * its kind among what is new.
 *
 * What another thread of the program opens in that time gets a high number. It isn't taken for DPDK's
 * unless it is of the few kinds that DPDK uses.
 */
#define _GNU_SOURCE
#include <hal_dpdk/dpdk_internal.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX (sizeof(((struct dpdk_fds *)0)->before) * 8)
#ifndef AF_XDP
#define AF_XDP 44
#endif

/* fn for every open descriptor. */
static void fds_each(void (*fn)(void *arg, int fd), void *arg)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int fd;

	while (d && (e = readdir(d))) {
		fd = atoi(e->d_name);
		if (e->d_name[0] != '.' && fd != dirfd(d))
			fn(arg, fd);
	}
	if (d)
		closedir(d);
}

static void mark(void *arg, int fd)
{
	struct dpdk_fds *f = arg;

	if ((size_t)fd < FDS_MAX)
		f->before[fd / 64] |= 1ull << (fd & 63);
}

static void low_numbers_take(struct dpdk_fds *f, const struct hal_dpdk_config *cfg)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), n;

	f->high = fd >= 0 && cfg->own_fd ? cfg->own_fd(cfg->arg, fd) : fd;
	if (f->high == fd) {
		close(fd);
		f->high = -1;
		return;
	}
	while (f->nfiller < sizeof(f->filler) / sizeof(f->filler[0])) {
		n = fcntl(f->high, F_DUPFD_CLOEXEC, 0);
		if (n < 0)
			return;
		f->filler[f->nfiller++] = n;
		if (n > f->high)
			return;
	}
}

void dpdk_fds_begin(struct dpdk_fds *f, const struct hal_dpdk_config *cfg)
{
	memset(f, 0, sizeof(*f));
	fds_each(mark, f);
	low_numbers_take(f, cfg);
}

struct end {
	struct dpdk_fds *f;
	const struct hal_dpdk_config *cfg;
	int *wake;
	uint32_t nwake;
};

static int domain(int fd)
{
	int d = -1;
	socklen_t len = sizeof(d);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &d, &len) ? -1 : d;
}

static bool is_dpdk_kind(int fd, int family)
{
	static const char *const kinds[] = { "anon_inode:[event", "anon_inode:[timerfd]", "pipe:", "/memfd:",
					     "/dev/net/tun", "/dev/vhost", "/dev/vfio", "/dev/uio",
					     "anon_inode:[vfio", "anon_inode:[infiniband", "/dev/infiniband" };
	char path[64], link[64] = "";

	if (family >= 0)
		return family == AF_PACKET || family == AF_XDP || family == AF_NETLINK || family == AF_UNIX;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, link, sizeof(link) - 1) < 0)
		return false;
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(link, kinds[i], strlen(kinds[i])))
			return true;
	return false;
}

static void take_new(void *arg, int fd)
{
	struct end *e = arg;
	int family;

	if ((size_t)fd >= FDS_MAX || e->f->before[fd / 64] & 1ull << (fd & 63))
		return;
	family = domain(fd);
	if (!is_dpdk_kind(fd, family))
		return;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (e->f->high >= 0 && fd > e->f->high)
		e->cfg->own_fd(e->cfg->arg, fd);
	if ((family == AF_PACKET || family == AF_XDP) && e->nwake < DPDK_WAKE_FDS)
		e->wake[e->nwake++] = fd;
}

uint32_t dpdk_fds_end(struct dpdk_fds *f, const struct hal_dpdk_config *cfg, int wake[DPDK_WAKE_FDS])
{
	struct end e = { .f = f, .cfg = cfg, .wake = wake };

	while (f->nfiller)
		close(f->filler[--f->nfiller]);
	fds_each(take_new, &e);
	if (f->high >= 0) {
		if (cfg->disown_fd)
			cfg->disown_fd(cfg->arg, f->high);
		close(f->high);
	}
	return e.nwake;
}
