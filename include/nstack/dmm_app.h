/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/dmm_app.h - the functions by which programs and plug-in stacks call nstack
 *
 * Exported by libnsocket.so, which is libnStackAPI.so and libnStackAdapt.so, too. A program that merely
 * uses sockets needs none of them.
 *
 * Documents: DMM developer manual, sections 4.2.2 and 8.
 */
#ifndef NSTACK_DMM_APP_H
#define NSTACK_DMM_APP_H

#include <nstack/api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- programs -------------------------------------------------------------------------------- */

/* Have fun, an int (*)(void *), called again and again by the first configured stack that has a `run`,
 * with the other stacks' work in between; its result is that stack's. Calls on sockets of stacks answer EAGAIN
 * inside of it where they would block; epoll_wait(), poll() and select() wait as everywhere. A stack with
 * several queues may call it in a thread for each, at the same time. Returns what that `run` returns, which may
 * be never; -1: fun is NULL. Without such a stack fun is called for ever, and may block. */
NSTACK_API int nstack_run(void *fun);
/* The work of all stacks that run to completion, once, without waiting. Not needed before epoll_wait(),
 * which does it, too. 0. */
NSTACK_API int nstack_epoll_prewait(void);

/* --- stacks ---------------------------------------------------------------------------------- */

/* nstack_event_cb.event_cb, by name. */
NSTACK_API int nstack_event_callback(void *pdata, int events);
/* A stack that is configured with ep_free_ref has no use for this pdata any more. 1: freed; 0: the socket is
 * still open, or it was freed before, or the stack is not configured so (counted). */
NSTACK_API int nsep_force_epinfo_free(void *pdata);
/* Members of epoll sets, and the sets: never given to a stack here, so there is nothing to free. Always 0;
 * for a socket's pdata, counted. */
NSTACK_API int nsep_force_epitem_free(void *pdata);
NSTACK_API int nsep_force_epevent_free(void *pdata);

#ifdef __cplusplus
}
#endif

#endif
