/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/seccomp.h - programs that filter their own system calls */
#ifndef NSOCKET_SECCOMP_H
#define NSOCKET_SECCOMP_H

#include <stdbool.h>

/* The calling thread is about to get a filter. Not under any lock. */
void seccomp_before(void);
/* It has one, and nothing that the stack still has to do. */
bool seccomp_idle(void);

#endif
