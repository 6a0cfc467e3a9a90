/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/share.h - connections that a forked child shares with its parent's stack
 *
 * See share.c. In the parent a shared session's `user` is a struct share (low bit set); in the
 * child nsock.remote is the slot of the link to the parent.
 */
#ifndef NSOCKET_SHARE_H
#define NSOCKET_SHARE_H

#include <nstack/stack.h>
#include <stdbool.h>
#include <stdint.h>

struct nsock;
struct share;

/* Around fork(): prepare under the worker lock. */
void share_fork_prepare(void);
void share_fork_parent(void);
void share_fork_child(void);

/* Parent: the descriptor that the helper polls (-1: none yet), and what it then calls (it takes
 * the worker lock itself). */
int share_fd(void);
void share_run(void);
/* Parent, worker lock: an event of a shared session. Returns the parent's own socket for it, NULL
 * if that was closed. */
struct nsock *share_event(struct share *sh, uint32_t events);
/* Parent, worker lock: the parent's socket goes. True: children still use the session, which now
 * is theirs. */
bool share_parent_gone(struct nsock *ns);

/* Parent: a descriptor of ns is about to be closed, perhaps the last one. */
void share_keep(struct nsock *ns, int fd);
/* Parent, worker lock: children stay away from the FIFOs until thaw: err 0: the kernel has the
 * connection, they find it there; else all is as before. */
void share_freeze(struct share *sh);
void share_thaw(struct share *sh, int err);
/* Parent: it is about to end or to become another program: what children use moves to the kernel. */
void share_leave_all(void);

/* Child, around each access to the FIFOs: false: the connection has moved, see share_gone(). */
#define SHARE_RX 1u
#define SHARE_TX 2u
bool share_enter(struct nsock *ns, uint32_t what);
void share_leave(struct nsock *ns, uint32_t what);
/* Child: has the connection moved to the kernel? Then from now on the socket knows. */
bool share_gone(struct nsock *ns);
/* Child: has the parent's program closed it? */
bool share_alone(struct nsock *ns);
/* Child: have the parent move it. 0 or -errno. */
int share_ask(struct nsock *ns);
/* Child: its end of the link to the parent, or -1. */
int share_up_fd(void);
/* Child: a command for the parent's stack. */
void share_post(struct nsock *ns, uint32_t bits);
/* Child: from now on events reach this process. */
void share_listen(void);

#endif
