/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/opt_log.c - the options that a listener was given
 *
 * Threads: see the header; the reference count is atomic.
 */
#define _GNU_SOURCE
#include "nsocket/opt_log.h"

#include <nsocket/libc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX 16 /* names of devices and algorithms, time-outs; what is longer is not inherited */
#define GROW 4
#define ENTRIES_MAX 128

struct opt_entry {
	int level, name;
	uint32_t len;
	uint8_t val[VALUE_MAX];
};

struct opt_log {
	int refs; /* atomic */
	uint32_t n, room;
	struct opt_entry e[];
};

/* A log of one holder with the same entries and room for one more, in place of *log. */
static struct opt_log *log_own(struct opt_log **log)
{
	struct opt_log *old = *log, *own;
	uint32_t n = old ? old->n : 0;

	/* acquire: pairs opt_log.put - the last other holder has read what we may now change */
	if (old && __atomic_load_n(&old->refs, __ATOMIC_ACQUIRE) == 1 && n < old->room)
		return old;
	if (n == ENTRIES_MAX)
		return NULL;
	own = malloc(sizeof(*own) + (n + GROW) * sizeof(own->e[0]));
	if (!own)
		return NULL;
	own->refs = 1;
	own->n = n;
	own->room = n + GROW;
	if (n)
		memcpy(own->e, old->e, n * sizeof(own->e[0]));
	opt_log_put(old);
	*log = own;
	return own;
}

void opt_log_add(struct opt_log **log, int level, int name, const void *val, socklen_t len)
{
	struct opt_log *l = len <= VALUE_MAX ? log_own(log) : NULL;
	uint32_t kept = 0;

	if (!l)
		return;
	for (uint32_t i = 0; i < l->n; i++)
		if (l->e[i].level != level || l->e[i].name != name)
			l->e[kept++] = l->e[i];
	l->e[kept] = (struct opt_entry){ .level = level, .name = name, .len = len };
	memcpy(l->e[kept].val, val, len);
	l->n = kept + 1;
}

struct opt_log *opt_log_get(struct opt_log *log)
{
	/* relaxed: who copies a pointer has it by a lock or is its only holder */
	if (log)
		__atomic_add_fetch(&log->refs, 1, __ATOMIC_RELAXED);
	return log;
}

void opt_log_put(struct opt_log *log)
{
	/* release: pairs opt_log.put - our reads are over before another may change or free it */
	if (log && !__atomic_sub_fetch(&log->refs, 1, __ATOMIC_ACQ_REL))
		free(log);
}

void opt_log_replay(const struct opt_log *log, int fd)
{
	for (uint32_t i = 0; log && i < log->n; i++)
		libc.setsockopt(fd, log->e[i].level, log->e[i].name, log->e[i].val, log->e[i].len);
}

void opt_log_each(const struct opt_log *log,
		  void (*fn)(void *arg, int level, int name, const void *val, socklen_t len), void *arg)
{
	for (uint32_t i = 0; log && i < log->n; i++)
		fn(arg, log->e[i].level, log->e[i].name, log->e[i].val, log->e[i].len);
}
