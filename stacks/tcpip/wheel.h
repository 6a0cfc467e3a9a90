/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/wheel.h - many timers, few of which ever fire
 *
 * Four levels of 64 slots; a tick is 2^19 ns (about half a millisecond), so the wheel spans 2.4
 * hours; later times wait in the last slot and are placed again. Adding and removing is O(1).
 *
 * A user that moves its deadline to a later time on every packet should leave the timer where it
 * is and, when it fires early, arm it again: that costs nothing per packet.
 *
 * A timer never fires before its time; it may fire up to one tick late.
 */
#ifndef NSTACK_STACKS_TCPIP_WHEEL_H
#define NSTACK_STACKS_TCPIP_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

struct wheel_timer {
	struct wheel_timer *next, **pprev; /* pprev NULL: not armed */
	uint64_t at;                       /* ns */
	uint16_t slot;                     /* level * 64 + slot */
	void (*fn)(void *arg, struct wheel_timer *w);
};

#define WHEEL_SHIFT 19
#define WHEEL_LEVELS 4
struct wheel {
	uint64_t tick;                     /* everything at or before this tick has fired */
	uint64_t used[WHEEL_LEVELS];       /* bit per slot */
	struct wheel_timer *slot[WHEEL_LEVELS][64];
	uint32_t count;
};

void wheel_init(struct wheel *w, uint64_t now);
/* Arm, or move if armed. */
void wheel_add(struct wheel *w, struct wheel_timer *tm, uint64_t at);
void wheel_del(struct wheel *w, struct wheel_timer *tm);
static inline bool wheel_armed(const struct wheel_timer *tm)
{
	return tm->pprev;
}
/* Fire what is due; a timer is disarmed before its function runs, which may arm it again. */
void wheel_run(struct wheel *w, uint64_t now, void *arg);
/* No timer fires before this time (a lower bound); UINT64_MAX = none is armed. */
uint64_t wheel_next(const struct wheel *w);

#endif
