// SPDX-License-Identifier: Apache-2.0
/* hal_wrap/hal_fault_parse.c - the text form of a fault configuration
 *
 * Comes from the configuration file and from the environment, so every mistake is told.
 */
#include "hal_wrap/hal_fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Digits with an optional fraction, in millionths; the unit's start is returned. */
static const char *number(const char *s, uint64_t *micro)
{
	uint64_t v = 0, scale = 1000000;
	const char *start = s;

	for (; *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (uint64_t)(*s - '0');
		if (v > 1000000000000ull)
			return NULL;
	}
	v *= scale;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++) {
			scale /= 10;
			v += (uint64_t)(*s - '0') * scale;
		}
	*micro = v;
	return s == start ? NULL : s;
}

static bool rate(const char *s, uint32_t *ppm)
{
	const char *unit = NULL;
	uint64_t micro;

	unit = number(s, &micro);
	if (!unit)
		return false;
	if (!strcmp(unit, "%"))
		micro /= 100;
	else if (!strcmp(unit, "ppm"))
		micro /= 1000000;
	else if (*unit || micro)
		return false;
	*ppm = (uint32_t)micro;
	return micro <= 1000000;
}

static bool duration(const char *s, uint64_t *ns)
{
	const char *unit;
	uint64_t micro;

	unit = number(s, &micro);
	if (!unit)
		return false;
	if (!strcmp(unit, "us"))
		micro /= 1000;
	else if (!strcmp(unit, "s"))
		micro *= 1000;
	else if (strcmp(unit, "ms") && (*unit || micro))
		return false;
	*ns = micro;
	return micro <= 10000000000ull;
}

static bool apply(struct hal_fault_dir *d, const char *key, const char *value)
{
	if (!strcmp(key, "loss"))
		return rate(value, &d->loss_ppm);
	if (!strcmp(key, "dup"))
		return rate(value, &d->dup_ppm);
	if (!strcmp(key, "reorder"))
		return rate(value, &d->reorder_ppm);
	if (!strcmp(key, "corrupt"))
		return rate(value, &d->corrupt_ppm);
	if (!strcmp(key, "delay"))
		return duration(value, &d->delay_ns);
	return false;
}

static bool one(struct hal_fault_config *out, char *key, char *value)
{
	char *end;

	if (!strcmp(key, "seed")) {
		errno = 0;
		out->seed = strtoull(value, &end, 10);
		return *value >= '0' && *value <= '9' && !*end && !errno;
	}
	if (!strcmp(key, "super")) {
		out->no_super = *value == '0';
		return (*value == '0' || *value == '1') && !value[1];
	}
	if (!strncmp(key, "rx.", 3))
		return apply(&out->rx, key + 3, value);
	if (!strncmp(key, "tx.", 3))
		return apply(&out->tx, key + 3, value);
	return apply(&out->rx, key, value) && apply(&out->tx, key, value);
}

int hal_fault_parse(struct hal_fault_config *out, const char *spec, char why[256])
{
	char *copy, *part, *next, *value;

	memset(out, 0, sizeof(*out));
	out->seed = 1;
	why[0] = 0;
	copy = strdup(spec);
	if (!copy)
		return -ENOMEM;
	for (part = copy; part; part = next) {
		next = strchr(part, ',');
		if (next)
			*next++ = 0;
		while (*part == ' ')
			part++;
		if (!*part)
			continue;
		value = strchr(part, '=');
		if (value)
			*value++ = 0;
		if (!value || !one(out, part, value)) {
			snprintf(why, 256, "faults: can't understand \"%.60s%s%.60s\"; like "
				 "loss=1%%,reorder=1%%,dup=1%%,corrupt=0.1%%,delay=5ms,seed=7",
				 part, value ? "=" : "", value ? value : "");
			free(copy);
			return -EINVAL;
		}
	}
	free(copy);
	return 0;
}
