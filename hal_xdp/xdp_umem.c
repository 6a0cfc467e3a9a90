// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_umem.c - the memory of a port: UMEM and control region, each a memfd
 *
 * The first member creates them; later ones map what they were sent, after checking it. Each
 * member holds a lock on its slot's byte of the control memfd (an open-file-description lock on
 * an open file of its own): it vanishes with the process and says who is alive even when
 * the serving process is gone. Mappings aren't inherited by children. Set-up only.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int memfd(struct xdp_port *p, const char *name, uint64_t size, unsigned flags)
{
	int fd = xdp_fd_own(p, memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		int r = -errno;

		xdp_fd_close(p, fd);
		return r;
	}
	return fd;
}

static void *map(int fd, uint64_t size)
{
	void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (m == MAP_FAILED)
		return NULL;
	madvise(m, size, MADV_DONTFORK);
	return m;
}

/* Huge pages spare TLB misses; there rarely are some. mmap fails when the pool is too small. */
static int create_umem(struct xdp_port *p)
{
	p->umem_fd = memfd(p, "nstack-umem", p->lay.umem_size, MFD_HUGETLB);
	if (p->umem_fd >= 0) {
		p->umem = map(p->umem_fd, p->lay.umem_size);
		p->lay.huge = p->umem != NULL;
		if (p->umem)
			return 0;
		xdp_fd_close(p, p->umem_fd);
	}
	p->umem_fd = memfd(p, "nstack-umem", p->lay.umem_size, 0);
	if (p->umem_fd < 0)
		return p->umem_fd;
	p->umem = map(p->umem_fd, p->lay.umem_size);
	return p->umem ? 0 : -ENOMEM;
}

int xdp_umem_create(struct xdp_port *p, char *why)
{
	int r = xdp_layout_make(&p->lay);

	if (r)
		return xdp_why(why, r, "%s: frame counts or ring sizes are out of range (64 to "
			       "65536; frame size 2048 or 4096; up to %d queues and %d processes)",
			       p->hal.ifname, HAL_XDP_QUEUES_MAX, HAL_XDP_MEMBERS_MAX);
	r = create_umem(p);
	if (!r) {
		p->ctl_fd = memfd(p, "nstack-port", p->lay.ctl_size, 0);
		r = p->ctl_fd < 0 ? p->ctl_fd : 0;
	}
	if (!r) {
		p->sh = map(p->ctl_fd, p->lay.ctl_size);
		r = p->sh ? xdp_shared_init(p->sh, &p->lay, p->hal.ifindex) : -ENOMEM;
	}
	if (r)
		return xdp_why(why, r, "%s: no memory for packets (%llu MB): %s", p->hal.ifname,
			       (unsigned long long)(p->lay.umem_size >> 20), strerror(-r));
	return 0;
}

int xdp_umem_map(struct xdp_port *p, char *why)
{
	struct stat ctl, umem;

	if (fstat(p->ctl_fd, &ctl) || fstat(p->umem_fd, &umem) ||
	    ctl.st_size < (off_t)sizeof(struct xdp_shared))
		goto bad;
	p->lay.ctl_size = ctl.st_size;
	p->sh = map(p->ctl_fd, ctl.st_size);
	if (!p->sh)
		return xdp_why(why, -ENOMEM, "%s: can't map the shared port", p->hal.ifname);
	if (p->sh->magic != XDP_SHARED_MAGIC || p->sh->version != XDP_SHARED_VERSION ||
	    p->sh->ifindex != p->hal.ifindex)
		goto bad;
	p->lay = p->sh->lay;
	if (!xdp_layout_ok(&p->lay) || p->lay.ctl_size != (uint64_t)ctl.st_size ||
	    p->lay.umem_size != (uint64_t)umem.st_size) {
		p->lay.ctl_size = ctl.st_size;
		goto bad;
	}
	p->umem = map(p->umem_fd, p->lay.umem_size);
	if (!p->umem)
		return xdp_why(why, -ENOMEM, "%s: can't map the shared packet memory",
			       p->hal.ifname);
	return 0;
bad:
	return xdp_why(why, -EPROTO, "%s is served by a process with another version of nstack; "
		       "restart that one", p->hal.ifname);
}

void xdp_umem_fds_close(struct xdp_port *p)
{
	xdp_fd_close(p, p->ctl_fd);
	xdp_fd_close(p, p->umem_fd);
	xdp_fd_close(p, p->alive_fd);
	p->ctl_fd = p->umem_fd = p->alive_fd = -1;
}

void xdp_umem_close(struct xdp_port *p)
{
	if (p->umem)
		munmap(p->umem, p->lay.umem_size);
	if (p->sh)
		munmap(p->sh, p->lay.ctl_size);
	p->umem = NULL;
	p->sh = NULL;
	xdp_umem_fds_close(p);
}

static struct flock slot_lock(uint32_t slot)
{
	return (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1 + slot, .l_len = 1,
	};
}

int xdp_umem_alive_lock(struct xdp_port *p, uint32_t slot)
{
	struct flock fl = slot_lock(slot);
	char path[40];

	if (p->alive_fd < 0) {
		/* The descriptor that we were sent shares its open file with the sender. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", p->ctl_fd);
		p->alive_fd = xdp_fd_own(p, open(path, O_RDWR | O_CLOEXEC));
		if (p->alive_fd < 0)
			return -errno;
	}
	return fcntl(p->alive_fd, F_OFD_SETLK, &fl) ? -errno : 0;
}

bool xdp_umem_alive_test(struct xdp_port *p, uint32_t slot)
{
	struct flock fl = slot_lock(slot);

	return fcntl(p->alive_fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}
