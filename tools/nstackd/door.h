/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/door.h - the daemon's socket: programs that connect, until they are let in or sent away
 *
 * Threads: the main process's one.
 */
#ifndef NSTACKD_DOOR_H
#define NSTACKD_DOOR_H

#include <sys/types.h>

struct quota;
struct visitor;

/* One that may attach; its first message has not been read yet. Takes the visitor's socket. */
typedef void (*door_in)(const struct visitor *v, struct quota *a);

/* @nstackd, from systemd or our own: 0, or an exit status after a line on stderr. */
int door_open(door_in in);
/* Readable when door_run() is wanted. */
int door_fd(void);
void door_run(void);
/* In a worker, which has copies; the socket ends with the last one. */
void door_leave(void);
/* Those who wait are sent away. */
void door_close(void);
/* Send somebody away who was let in; takes sock. */
void door_refuse(int sock, pid_t pid, int err, const char *why);
/* For `nstack status`: how many wait, and how many were sent away so far. */
struct cJSON;
void door_status(struct cJSON *o);

#endif
