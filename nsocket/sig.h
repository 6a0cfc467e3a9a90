/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sig.h - signal handlers and the calls that they interrupt */
#ifndef NSOCKET_SIG_H
#define NSOCKET_SIG_H

#include <stdbool.h>

/* A wait of this thread ended with -EINTR: would the kernel have restarted the call? If so the call
 * begins anew. */
bool sig_restart(void);
/* The handler and the flags that the kernel has for sig, as the program set them. */
void sig_as_set(int sig, void (**fn)(int), unsigned long *flags);

#endif
