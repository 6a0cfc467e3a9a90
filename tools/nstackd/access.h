/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/access.h - who may attach, and with which limits
 *
 * Threads: the main process's one.
 */
#ifndef NSTACKD_ACCESS_H
#define NSTACKD_ACCESS_H

#include <rd/config_daemon.h>
#include <sys/socket.h>

struct quota;

/* A program that wants to attach. Who it is, the kernel says; its label is what it says of itself. */
struct visitor {
	int sock;
	struct ucred who;
	char label[NS_LABEL];
};

/* Names of --user and --group, which come before the configuration's list and close it: who is in none of
 * the entries may not attach then. 0, or -EINVAL: no such user or group; -E2BIG. */
int access_user(const char *name);
int access_group(const char *name);
/* Take the configuration's list instead of the one before; quotas that are in use get the limits of the entry
 * that says of whom it is in the same words. An entry that names nobody the system knows is left out, with a
 * line of log. 0 or -ENOMEM. */
int access_set(const struct ns_access *list, uint32_t n);

/* May it? 0, and *out is the quota that it counts for from now on (NULL: none); or -EACCES, -EDQUOT, -ENOSPC and
 * one line for people. */
int access_check(const struct visitor *v, struct quota **out, char why[160]);
/* It did not come in after all. */
void access_undo(struct quota *a, unsigned worker);
/* That worker has it. */
void access_done(struct quota *a, unsigned worker);

#endif
