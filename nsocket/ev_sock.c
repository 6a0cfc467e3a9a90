/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ev_sock.c - the one thing that the event calls look up inside a socket
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
