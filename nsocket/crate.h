/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/crate.h - connections on their way to accept() in another process, or another program
 *
 * A crate is a unix socket whose queue holds them, a message with one descriptor for each. What waits
 * for an accept() so keeps no descriptor of the program busy, as in the kernel's own queue, and all of
 * it goes on by passing one descriptor. See crate.c.
 */
#ifndef NSOCKET_CRATE_H
#define NSOCKET_CRATE_H

#include <stdbool.h>
#include <stdint.h>

struct crate {
	int in, out; /* put into one end, take from the other; descriptors of the library's (fd_hide) or -1 */
};

/* 0 or -errno. */
int crate_open(struct crate *c);
/* A copy of fd goes in. 0 or -errno: it is full (CRATE_MAX for certain fit), or the kernel has too
 * many on their way. */
int crate_put(struct crate *c, int fd);
#define CRATE_MAX 128u
/* Nothing more will come. What is left is `out`, with the caller. */
void crate_close_in(struct crate *c);

/* The next one, as a descriptor of the program's: the lowest number. -EAGAIN: empty; -EMFILE: it stays. */
int crate_take(int out, bool cloexec);
bool crate_empty(int out);

/* Across exec: a name by which the next image knows what it found. */
int crate_label(int out, uint64_t listener_cookie);
/* The listener's cookie; 0: that is no crate. */
uint64_t crate_read_label(int fd);

#endif
