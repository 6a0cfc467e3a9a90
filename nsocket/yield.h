/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/yield.h - a listener goes to the process that waits for it
 *
 * One process's stack serves a port, and forked or exec'ed processes may share the listener. Who waits
 * on it while the owner does not (a master that looked once, inetd in wait mode) would never see a
 * connection; so it asks. See yield.c.
 */
#ifndef NSOCKET_YIELD_H
#define NSOCKET_YIELD_H

#include <nsocket/sock.h>

/* Ask process `owner` for the port of ns, which listens. True: it let go, the port is free. What the
 * owner had accepted for it comes along either way (yield_take). Waits for YIELD_ASK_NS at most. Under
 * ns->lock. */
bool yield_ask(struct nsock *ns, pid_t owner);
/* A connection that came along: a descriptor of the library's (fd_hide), or -1. */
int yield_take(struct nsock *ns);
static inline bool yield_any(const struct nsock *ns)
{
	return __atomic_load_n(&ns->gifts, __ATOMIC_ACQUIRE);
}
void yield_drop(struct nsock *ns);

/* The owner's side: from the first port that this process serves. Under the worker lock. */
void yield_open_locked(void);
/* The helper thread, when a descriptor of its is readable. */
void yield_run(void);
/* In a child: the name is the parent's. The descriptor is closed by number. */
void yield_after_fork_child(void);

#endif
