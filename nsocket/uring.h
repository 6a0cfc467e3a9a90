/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/uring.h - programs that use io_uring */
#ifndef NSOCKET_URING_H
#define NSOCKET_URING_H

#include <stdbool.h>

/* Before the stack starts: could this process make a ring past us? Then it stays with the kernel: true. */
bool uring_at_start(void);
/* The process has a ring. Not under any lock. */
void uring_seen(void);

#endif
