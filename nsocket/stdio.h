/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/stdio.h - streams over sockets of ours (stdio.c) */
#ifndef NSOCKET_STDIO_H
#define NSOCKET_STDIO_H

/* exit(): what streams still hold goes out before the sockets are closed. */
void stdio_flush(void);
void stdio_fork_prepare(void);
void stdio_fork_parent(void);
void stdio_fork_child(void);

#endif
