/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/attach.h - served by nstackd instead of a stack in the process */
#ifndef NSOCKET_ATTACH_H
#define NSOCKET_ATTACH_H

#include <stdbool.h>
#include <sys/types.h>

/* Under worker.start_lock. 0: worker is set up; -ENOENT: no daemon in this network namespace; others: why not. */
int attach_start(char why[256]);
/* Does a daemon serve this process, or did it until it ended? Constant once the worker has been started. */
bool attach_used(void);
/* The process that serves this one now; 0: none. */
pid_t attach_daemon(void);
/* The helper, when worker.retry_at has come: sockets of a daemon that has ended go to the kernel, and the
 * daemon is looked for again. */
void attach_retry(void);
void attach_after_fork_child(void);

#endif
