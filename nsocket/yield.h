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

/* What the process is called in the steering tables, and where it is asked. Under worker.start_lock. */
uint64_t yield_image(void);

/* Ask the process of that image for the port of ns, which listens. True: it let go, the port is free.
 * Connections that it had accepted may come along either way (yield_take). Bounded in time, also where
 * that process is stopped or hostile. Under ns->lock. */
bool yield_ask(struct nsock *ns, uint64_t owner);
/* A connection that came along, as a new descriptor of the program's; -EAGAIN, -EMFILE. */
int yield_take(struct nsock *ns, bool cloexec);
static inline bool yield_any(const struct nsock *ns)
{
	/* acquire: pairs yield.gift - what is in it */
	return __atomic_load_n(&ns->gifts, __ATOMIC_ACQUIRE);
}
/* They are reset. Nobody else has ns. */
void yield_drop(struct nsock *ns);
/* The port was given up, and the session is about to be closed: what waits for accept() is for the other
 * processes that have the listener. Under the worker lock. */
void yield_leave_locked(struct nsock *ns);

/* The stack is about to end, the process is not: what waits for accept() goes on in the kernel, and the port
 * is asked for again. */
void yield_keep(struct nsock *ns);
/* This image is about to be another one, under nsocket as well, that inherits listener fd: what waits
 * there goes along, and the port is given up. And if that failed. */
void yield_exec_prepare(struct nsock *ns, int fd);
void yield_exec_failed(struct nsock *ns);
/* The next image: is fd such a thing? Then it is dealt with. After the listeners were adopted. */
bool yield_adopt(int fd);

/* The owner's side: from the first listener that this process serves. Under the worker lock. */
void yield_open_locked(void);
/* Have fn() called in the thread that serves requests. False: there is none. */
bool yield_call(void (*fn)(void));
/* In a child: the door is the parent's. The descriptor is closed by number. */
void yield_after_fork_child(void);

#endif
