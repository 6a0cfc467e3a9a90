/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/super.h - several workers: processes that the main one starts, and starts again
 *
 * With one worker there is no second process, and nothing of this is used.
 */
#ifndef NSTACKD_SUPER_H
#define NSTACKD_SUPER_H

#include <rd/config_daemon.h>
#include <stdbool.h>
#include <sys/types.h>

struct quota;

/* Be the main process until the end: its exit status; but in each worker it returns -1, and the process goes on
 * as that worker. The door is open. */
int super_run(const struct ns_daemon_config *c);
/* In the main process: one that may attach goes to its worker. As door_in. */
struct visitor;
void super_in(const struct visitor *v, struct quota *a);

/* In a worker: is it one of several? Its end of the channel to the main process, by which programs come. */
int super_channel(void);
/* It can take programs from now on, or has read the configuration again. */
void super_ready(void);
/* Take what has come; false: the main process has ended. */
bool super_take(void (*in)(int sock, struct quota *a));

#endif
