/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_sock.c - what the event calls look up inside a socket
 *
 * Apart, so that everything else of ev_*.c also runs over sockets that tests make up.
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/plugin/plugin.h"

#include <nsocket/init.h>

bool ev_sock_kernel_only(struct nfile *f)
{
	return f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_KERNEL;
}

uint32_t ev_sock_kernel_bits(struct nfile *f)
{
	/* A UDP socket of the stack sends by the stack: that the shadow could send means nothing. */
	if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_DGRAM)
		return ~(uint32_t)(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
	return UINT32_MAX;
}

int ev_sock_ctl(struct nfile *f, int epfd, int op, const struct epoll_event *ev)
{
	return plug_any() && f->kind == NF_SOCK && nsock_of(f)->plug ?
	       plug_epoll_ctl(nsock_of(f), epfd, op, ev) : 0;
}

uint64_t ev_sock_sleep(int epfd)
{
	return plug_any() ? plug_prewait(epfd) : UINT64_MAX;
}

bool ev_sock_inside(void)
{
	return init_inside();
}

void ev_sock_watch(struct nfile *f)
{
	if (plug_any() && f->kind == NF_SOCK && nsock_of(f)->plug)
		plug_watch(nsock_of(f));
}
