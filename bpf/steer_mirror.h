/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_mirror.h - the steering decision in user space, by the tables of an attached program
 *
 * For a driver in user space whose packets don't pass XDP before it has them: the same function over the
 * same tables. Claims are read where they are (they are mapped); hash tables and rules, which could only
 * be asked by a system call, are copied, and copied again when somebody has changed them.
 *
 * Whoever opens a mirror decides the packets of that interface: the XDP program passes everything that
 * the driver hands to the kernel, and counts nothing.
 *
 * Threads: one at a time, the same that uses steer_claim(), steer_pin() and their opposites on the handle.
 */
#ifndef NSTACK_BPF_STEER_MIRROR_H
#define NSTACK_BPF_STEER_MIRROR_H

#include <bpf/steer_ctl.h>
#include <stdint.h>

struct steer_mirror;

/* The handle has an instance already, and outlives the mirror. -EBUSY: the driver of another living
 * instance decides. */
int steer_mirror_open(struct steer_mirror **out, struct steer *st);
void steer_mirror_close(struct steer_mirror *m);

/* Look whether the tables have changed: before a burst. */
void steer_mirror_sync(struct steer_mirror *m);
/* Where does the packet belong? data: its first len bytes, frame_len: all of it. STEER_STACK: to our own
 * instance. Counts. */
enum steer_verdict steer_mirror_decide(struct steer_mirror *m, const void *data, uint32_t len, uint32_t frame_len);

#endif
