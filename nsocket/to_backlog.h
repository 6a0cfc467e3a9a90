/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/to_backlog.h - connections that wait for accept() go to the kernel's listener
 *
 * For whoever has the stack: a program or nstackd. When the last of ours leaves a listener that others have,
 * too, what waits in its queue waits in the kernel's from then on. Needs CAP_NET_RAW and what bpf/backlog.h
 * says, or to_backlog_prepare() while they were there. Threads: under the worker lock.
 */
#ifndef NSOCKET_TO_BACKLOG_H
#define NSOCKET_TO_BACKLOG_H

#include <shm/session.h>

/* Before privilege is given up: what is needed is opened now. Without, or where this fails, the first use tries. */
void to_backlog_prepare(void);

/* Something will be moved. 0, or -errno: this kernel or this process can't. */
int to_backlog_begin(void);
void to_backlog_end(void);
/* In between: an established connection that nobody has accepted, with what is unread. Its session is closed
 * then. 0, or -errno with nothing changed. */
int to_backlog_move(struct shm_session *s);

void to_backlog_after_fork_child(void);

#endif
