/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/harden.h - the daemon gives up what it needs no more
 *
 * What a systemd unit takes from the process from outside (nstackd.service), it takes from itself, too, so that
 * it is the same without systemd. Nothing here is an error: where less is allowed already, there is less to do.
 */
#ifndef NSTACKD_HARDEN_H
#define NSTACKD_HARDEN_H

#include <stdint.h>

/* At the start: no new privileges by what is executed; descriptors for so many programs, a warning if there are
 * not enough; of the capabilities those that a stack needs to start. */
void harden_start(uint32_t programs);
/* Once a stack runs here: those that it needs to go on. */
void harden_running(void);

#endif
