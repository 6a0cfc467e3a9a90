/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/leave.h - the daemon is asked to end: connections go on in the kernel. Under the worker lock. */
#ifndef NSTACKD_LEAVE_H
#define NSTACKD_LEAVE_H

#include <stdbool.h>
#include <stdint.h>

/* Ports are given back; from here on none is given. */
void leave_begin(void);
bool leave_begun(void);
/* Ask the programs that have connections to let go of them. Returns how many connections there are. */
uint32_t leave_ask(void);

#endif
