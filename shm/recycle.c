/* SPDX-License-Identifier: Apache-2.0 */
/* shm/recycle.c - the registry of what programs leave behind, and the walks through it
 *
 * A walk is at one place of the registry: (priority, index). Objects are only ever added, behind what is
 * there, so a walk that was suspended goes on where it was.
 *
 * Threads: the lock guards the registry, the list of walks and their resume flags; it is not held while a
 * function runs, so functions may register and resume. All else of a walk is its watcher's.
 */
#include "shm/recycle.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define OBJECTS 128u /* of each priority */
#define SUSPEND_NS 60000000000ull

struct object {
	uint16_t type;
	void *pdata;
};

struct recycle_walk {
	struct recycle_walk *next; /* suspended ones */
	uint32_t pid;
	uint32_t prio, at;
	uint64_t until; /* suspended: not longer than this */
	bool resume;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static nsfw_recycle_fun funs[NSFW_REC_TYPE_MAX];
static struct object objects[NSFW_REC_PRIO_NR][OBJECTS];
static uint32_t nobjects[NSFW_REC_PRIO_NR];
static struct recycle_walk *waiting;
static struct recycle_stats stats;

/* --- the registry -------------------------------------------------------------------------------- */

static bool type_ok(uint16_t type)
{
	return type > NSFW_REC_TYPE_NULL && type < NSFW_REC_TYPE_MAX;
}

uint8_t nsfw_recycle_reg_fun(uint16_t rec_type, nsfw_recycle_fun fun)
{
	uint8_t ok = 0;

	pthread_mutex_lock(&lock);
	if (type_ok(rec_type) && fun && !funs[rec_type]) {
		funs[rec_type] = fun;
		ok = 1;
	}
	pthread_mutex_unlock(&lock);
	return ok;
}

uint8_t nsfw_recycle_reg_obj(uint8_t priority, uint16_t rec_type, void *pdata)
{
	uint8_t ok = 0;

	pthread_mutex_lock(&lock);
	if (priority < NSFW_REC_PRIO_NR && type_ok(rec_type) && nobjects[priority] < OBJECTS) {
		objects[priority][nobjects[priority]++] = (struct object){ rec_type, pdata };
		ok = 1;
	}
	pthread_mutex_unlock(&lock);
	return ok;
}

uint8_t nsfw_recycle_obj_end(uint32_t pid)
{
	uint8_t found = 0;

	pthread_mutex_lock(&lock);
	for (struct recycle_walk *w = waiting; w; w = w->next)
		if (w->pid == pid) {
			w->resume = true;
			found = 1;
		}
	pthread_mutex_unlock(&lock);
	return found;
}

/* --- walks ---------------------------------------------------------------------------------------- */

/* The next object that has a function, which is then behind the walk. False: it is over. */
static bool next_object(struct recycle_walk *w, struct object *o, nsfw_recycle_fun *fun)
{
	*fun = NULL;
	pthread_mutex_lock(&lock);
	while (!*fun && w->prio < NSFW_REC_PRIO_NR) {
		if (w->at == nobjects[w->prio]) {
			w->prio++;
			w->at = 0;
			continue;
		}
		*o = objects[w->prio][w->at++];
		*fun = funs[o->type];
	}
	stats.called += *fun != NULL;
	pthread_mutex_unlock(&lock);
	return *fun != NULL;
}

static void suspend(struct recycle_walk *w, uint64_t now_ns)
{
	pthread_mutex_lock(&lock);
	w->until = now_ns + SUSPEND_NS;
	w->resume = false;
	w->next = waiting;
	waiting = w;
	stats.suspended++;
	stats.waiting++;
	pthread_mutex_unlock(&lock);
}

static void go_on(struct recycle_walk *w, uint64_t now_ns)
{
	nsfw_recycle_fun fun;
	nsfw_rcc_stat got;
	struct object o;

	while (next_object(w, &o, &fun)) {
		got = fun(w->pid, o.pdata, o.type);
		if (got == NSFW_RCC_SUSPEND) {
			suspend(w, now_ns);
			return;
		}
		if (got != NSFW_RCC_CONTINUE) {
			pthread_mutex_lock(&lock);
			stats.failed++;
			pthread_mutex_unlock(&lock);
		}
	}
	free(w);
}

/* One whose suspension is over, taken from the list. */
static struct recycle_walk *ripe(uint64_t now_ns)
{
	struct recycle_walk **at = &waiting, *w;

	pthread_mutex_lock(&lock);
	while (*at && !(*at)->resume && (*at)->until > now_ns)
		at = &(*at)->next;
	w = *at;
	if (w) {
		*at = w->next;
		stats.waiting--;
		stats.timeouts += !w->resume;
	}
	pthread_mutex_unlock(&lock);
	return w;
}

struct recycle_walk *recycle_watch(uint32_t pid)
{
	struct recycle_walk *w = calloc(1, sizeof(*w));

	if (w)
		w->pid = pid;
	return w;
}

void recycle_unwatch(struct recycle_walk *w)
{
	free(w);
}

void recycle_exit(struct recycle_walk *w, uint64_t now_ns)
{
	pthread_mutex_lock(&lock);
	stats.exits++;
	pthread_mutex_unlock(&lock);
	go_on(w, now_ns);
}

uint64_t recycle_run(uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;
	struct recycle_walk *w;

	while ((w = ripe(now_ns)))
		go_on(w, now_ns);
	pthread_mutex_lock(&lock);
	for (w = waiting; w; w = w->next)
		next = w->until < next ? w->until : next;
	pthread_mutex_unlock(&lock);
	return next;
}

void recycle_stats(struct recycle_stats *out)
{
	pthread_mutex_lock(&lock);
	*out = stats;
	pthread_mutex_unlock(&lock);
}
