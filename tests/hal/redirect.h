/* SPDX-License-Identifier: Apache-2.0 */
/* tests/hal/redirect.h - attach and use redirect.bpf.c; for test and bench programs only */
#ifndef TESTS_HAL_REDIRECT_H
#define TESTS_HAL_REDIRECT_H

#include <stdbool.h>
#include <stdint.h>

struct redirect {
	unsigned ifindex;
	int xsks, ports; /* map fds */
	void *skel;      /* kept: its maps are in use */
};

/* Uses the program that is attached, or attaches it; -errno. It stays attached. */
int redirect_open(struct redirect *r, unsigned ifindex, bool native);
/* Port (0 = everything) goes to XSK slots from `slot` on. */
int redirect_port(struct redirect *r, uint32_t port, uint32_t slot);
int redirect_xsk(struct redirect *r, uint32_t slot, int fd);
/* Push copies of a frame out of an interface for some seconds, as fast as the kernel can;
 * returns packets per second, or -errno. The peer needs a native XDP program. */
double redirect_source(unsigned ifindex, const void *frame, uint32_t len, double seconds);

#endif
