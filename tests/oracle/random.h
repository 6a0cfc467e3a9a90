/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/random.h - calls drawn by chance, the same ones in every play
 *
 * Both sides draw from the same seed, so both know who acts next and how. A step is over when its
 * packets have done what they do on the other side; only then results are comparable.
 * NSTACK_ORACLE_SEEDS=first-last plays others than the usual ones.
 */
#ifndef TESTS_ORACLE_RANDOM_H
#define TESTS_ORACLE_RANDOM_H

#include "probe.h"
#include <stdarg.h>

struct dice {
	uint32_t state;
	unsigned seed, step;
};

static inline unsigned roll(struct dice *d, unsigned sides)
{
	d->state = d->state * 1664525u + 1013904223u;
	return (d->state >> 8) % sides;
}

/* The label of what is recorded now. */
static inline const char *at(const struct dice *d, const char *fmt, ...)
{
	static char buf[160];
	va_list ap;
	int n = snprintf(buf, sizeof(buf), "seed %u step %02u: ", d->seed, d->step);

	va_start(ap, fmt);
	vsnprintf(buf + n, sizeof(buf) - n, fmt, ap);
	va_end(ap);
	return buf;
}

static inline void for_each_seed(void (*play)(struct dice *d), unsigned first, unsigned last)
{
	const char *env = getenv("NSTACK_ORACLE_SEEDS");

	if (env && sscanf(env, "%u-%u", &first, &last) != 2)
		o_fail("NSTACK_ORACLE_SEEDS");
	for (unsigned seed = first; seed <= last; seed++) {
		struct dice d = {.state = seed * 2654435761u, .seed = seed};

		play(&d);
	}
}

#endif
