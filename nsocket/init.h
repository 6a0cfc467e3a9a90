/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/init.h - start and end of the library in a process */
#ifndef NSOCKET_INIT_H
#define NSOCKET_INIT_H

#include <stdbool.h>

/* Is the library at work here? False: set-user-id programs, before the constructor ran, or a
 * broken configuration. */
bool init_ready(void);
/* Is the calling thread inside of start-up, so that its calls are the library's own? */
bool init_inside(void);
/* It is, from here on; and no longer. They nest. */
void init_enter(void);
void init_leave(void);
/* The process is about to end: let unsent data leave, for a bounded time. Idempotent. */
void init_exit(void);
/* Let what was closed have its end: by the stack, or if that takes long by the kernel. */
void init_settle(void);
/* Close the connections that the stack still serves: those that `which` (NULL: all) selects. */
void init_close_streams(bool (*which)(int fd));
/* In a child: drop what is the parent's (fork.c). */
void init_after_fork_child(void);
/* fork.c: around every fork; what libc knows of calls them by itself. */
void fork_prepare(void);
void fork_parent(void);
void fork_child(void);

#endif
