/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/opt_log.h - the options that a listener was given, for the sockets accepted from it
 *
 * An accepted socket has its listener's options. The kernel copies them; our accepted socket's
 * shadow is a fresh one, and setting ten options at every accept() would cost more than the
 * accept(). So the log is shared by reference, and replayed by the few programs that ever ask.
 *
 * Threads: a log that others hold is never changed; the holder's lock covers the pointer.
 */
#ifndef NSOCKET_OPT_LOG_H
#define NSOCKET_OPT_LOG_H

#include <sys/socket.h>

struct opt_log;

/* Remember an option; a later value of the same one takes its place. *log may be NULL, and is
 * exchanged where others hold it or it has to grow. What is too long or finds no memory is not
 * remembered. */
void opt_log_add(struct opt_log **log, int level, int name, const void *val, socklen_t len);
/* Another reference. NULL is a log, too. */
struct opt_log *opt_log_get(struct opt_log *log);
void opt_log_put(struct opt_log *log);
/* Set them all on a kernel socket, in the order in which they were given. */
void opt_log_replay(const struct opt_log *log, int fd);
/* Call fn for each, in that order. */
void opt_log_each(const struct opt_log *log,
		  void (*fn)(void *arg, int level, int name, const void *val, socklen_t len), void *arg);

#endif
