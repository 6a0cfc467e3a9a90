/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/closer.h - closing what came from programs
 *
 * By the daemon's thread. Threads that only close are made when there is something for them; around a fork() they
 * are kept from their list.
 */
#ifndef NSTACKD_CLOSER_H
#define NSTACKD_CLOSER_H

#include <shm/attach.h>
#include <stdbool.h>

/* One message, the descriptors of which are closed but the first; *fd: that, or -1. NULL: it is closed, too.
 * As att_recv(). */
long closer_recv(int sock, void *msg, size_t size, int *fd);
/* A descriptor that a program has sent, or -1. */
void closer_close(int fd);
/* The connection of a program, with what it has said and nobody has read. */
void closer_end(int sock);
void closer_fork_begin(void);
void closer_fork_end(bool child);

#endif
