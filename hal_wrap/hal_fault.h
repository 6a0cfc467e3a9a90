/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_fault.h - a port that loses, doubles, reorders, corrupts and delays packets; tests
 *
 * Decisions come from a seeded generator, so a run can be repeated. A super-frame counts as one
 * packet; one chosen for corruption is lost, since segmentation would give the damage a correct
 * checksum. For the same reason an unfinished checksum is finished before a packet is corrupted.
 * All calls on the wrapper come from one thread at a time.
 */
#ifndef NSTACK_HAL_WRAP_HAL_FAULT_H
#define NSTACK_HAL_WRAP_HAL_FAULT_H

#include <nstack/hal.h>

struct hal_fault_dir {
	uint32_t loss_ppm, dup_ppm, reorder_ppm, corrupt_ppm; /* per million packets */
	uint64_t delay_ns;
};

struct hal_fault_config {
	struct hal_fault_dir rx, tx;
	uint64_t seed;
	uint32_t slots;   /* packets held at most, each direction; 0 = 1024. Past it, a packet
			     that is to be delayed is lost, others pass unharmed */
	bool no_super;    /* hide the super-frame capability of the lower port */
};

struct hal_fault_stats {
	uint64_t packets, lost, duplicated, reordered, corrupted, overflow;
};

/* "loss=1%,reorder=1%,dup=1%,corrupt=0.1%,delay=5ms,seed=7": any of these; a rate is a percentage
 * or a count with "ppm", a time has us, ms or s; "rx." or "tx." before a key means that direction
 * only; "super=0" hides super-frames. -EINVAL: why names the part. */
int hal_fault_parse(struct hal_fault_config *out, const char *spec, char why[256]);

int hal_fault_wrap(struct hal_port **out, struct hal_port *lower, const struct hal_fault_config *cfg);
/* Held packets are lost. */
struct hal_port *hal_fault_unwrap(struct hal_port *port);
void hal_fault_stats(struct hal_port *port, struct hal_fault_stats *rx, struct hal_fault_stats *tx);

#endif
