/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sides.h - one process at a time at a side of a connection
 *
 * Processes that fork left a connection to (share.c) read and write the same FIFOs. Each end of a
 * FIFO that is the program's has a word, with the process that is there. Threads: one of a process at a time for
 * each word, by rx_lock or tx_lock; nobody waits for anything else in between.
 */
#ifndef NSOCKET_SIDES_H
#define NSOCKET_SIDES_H

#include <stdint.h>

void sides_take(uint32_t *at);
void sides_give(uint32_t *at);
/* A word for each port, common to a process and those that it forks: who takes a connection from the kernel's
 * queue. Threads: any. */
void sides_port_take(uint16_t port);
void sides_port_give(uint16_t port);
void sides_after_fork_child(void);

#endif
