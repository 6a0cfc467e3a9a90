/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_sock.c - what the event calls look up inside a socket
 *
 * Apart, so that everything else of ev_*.c also runs over sockets that tests make up.
 */
#define _GNU_SOURCE
#include "nsocket/ev_internal.h"
#include "nsocket/sock.h"

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
