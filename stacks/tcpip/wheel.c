/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/wheel.c - hierarchical timer wheel; the contract is in wheel.h
 *
 * A timer's due tick is the one after the tick its time lies in, so it never fires early. Level 0
 * holds what is due within 64 ticks, slot by slot; a slot of a higher level is spread over the
 * level below when its first tick comes. w->tick is the last tick that was worked on.
 */
#include "wheel.h"

#include <stddef.h>
#include <string.h>

#define SLOT_BITS 6
#define SPAN(level) (1ull << (SLOT_BITS * ((level) + 1))) /* ticks that a level covers */

void wheel_init(struct wheel *w, uint64_t now)
{
	memset(w, 0, sizeof(*w));
	w->tick = now >> WHEEL_SHIFT;
}

static void wheel_place(struct wheel *w, struct wheel_timer *tm)
{
	uint64_t next = w->tick + 1, due = (tm->at >> WHEEL_SHIFT) + 1;
	struct wheel_timer **head;
	uint32_t level = 0, slot;

	if (due < next)
		due = next;
	if (due - next >= SPAN(WHEEL_LEVELS - 1))
		due = next + SPAN(WHEEL_LEVELS - 1) - 1; /* placed again when that comes */
	while (due - next >= SPAN(level))
		level++;
	slot = (due >> (SLOT_BITS * level)) & 63;
	head = &w->slot[level][slot];
	tm->slot = (uint16_t)(level * 64 + slot);
	tm->next = *head;
	if (tm->next)
		tm->next->pprev = &tm->next;
	tm->pprev = head;
	*head = tm;
	w->used[level] |= 1ull << slot;
}

void wheel_add(struct wheel *w, struct wheel_timer *tm, uint64_t at)
{
	wheel_del(w, tm);
	tm->at = at;
	wheel_place(w, tm);
	w->count++;
}

void wheel_del(struct wheel *w, struct wheel_timer *tm)
{
	uint32_t level = tm->slot / 64, slot = tm->slot % 64;

	if (!tm->pprev)
		return;
	*tm->pprev = tm->next;
	if (tm->next)
		tm->next->pprev = tm->pprev;
	tm->pprev = NULL;
	w->count--;
	if (!w->slot[level][slot])
		w->used[level] &= ~(1ull << slot);
}

/* Take a slot's list; its timers stay linked to *head so that they can still be removed. */
static void wheel_take(struct wheel *w, uint32_t level, uint32_t slot, struct wheel_timer **head)
{
	*head = w->slot[level][slot];
	if (*head)
		(*head)->pprev = head;
	w->slot[level][slot] = NULL;
	w->used[level] &= ~(1ull << slot);
}

static void wheel_cascade(struct wheel *w, uint32_t level, uint64_t tick)
{
	struct wheel_timer *head, *tm;

	wheel_take(w, level, (tick >> (SLOT_BITS * level)) & 63, &head);
	while ((tm = head)) {
		head = tm->next;
		if (head)
			head->pprev = &head;
		wheel_place(w, tm);
	}
}

static void wheel_fire(struct wheel *w, uint32_t slot, uint64_t now, void *arg)
{
	struct wheel_timer *head, *tm;

	wheel_take(w, 0, slot, &head);
	while ((tm = head)) {
		wheel_del(w, tm);
		if (tm->at > now) /* was beyond the wheel's span */
			wheel_add(w, tm, tm->at);
		else
			tm->fn(arg, tm);
	}
}

void wheel_run(struct wheel *w, uint64_t now, void *arg)
{
	uint64_t target = now >> WHEEL_SHIFT, next;

	while (w->tick < target) {
		if (!w->count) {
			w->tick = target;
			return;
		}
		if (!w->used[0]) { /* nothing before the next boundary */
			uint64_t last = w->tick | 63;

			if (last >= target) {
				w->tick = target;
				return;
			}
			w->tick = last;
		}
		next = w->tick + 1;
		if (!(next & 63)) {
			if (!(next & (SPAN(1) - 1))) {
				if (!(next & (SPAN(2) - 1)))
					wheel_cascade(w, 3, next);
				wheel_cascade(w, 2, next);
			}
			wheel_cascade(w, 1, next);
		}
		w->tick = next;
		if (w->used[0] & (1ull << (next & 63)))
			wheel_fire(w, next & 63, now, arg);
	}
}

uint64_t wheel_next(const struct wheel *w)
{
	uint64_t best = UINT64_MAX;

	if (!w->count)
		return best;
	for (uint32_t level = 0; level < WHEEL_LEVELS; level++) {
		uint32_t shift = SLOT_BITS * level;
		uint64_t first = (w->tick + 1 + (1ull << shift) - 1) >> shift, r, at;
		uint32_t s = first & 63;

		if (!w->used[level])
			continue;
		r = s ? w->used[level] >> s | w->used[level] << (64 - s) : w->used[level];
		at = (first + (uint64_t)__builtin_ctzll(r)) << shift;
		if (at < best)
			best = at;
	}
	return best << WHEEL_SHIFT;
}
