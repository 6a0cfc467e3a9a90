/* SPDX-License-Identifier: Apache-2.0 */
/* shm/recycle.h - for whoever watches programs: have what an ended one had cleaned up
 *
 * What is cleaned up, and by whom, is registered by <nstack/recycle.h>. Memory for it is taken when the
 * watching begins, so that the end of a program can't fail.
 *
 * Threads: recycle_exit() and recycle_run() in one thread, which calls the registered functions.
 */
#ifndef NSTACK_SHM_RECYCLE_H
#define NSTACK_SHM_RECYCLE_H

#include <nstack/recycle.h>
#include <stdint.h>

/* The walk through all objects for one program. */
struct recycle_walk;

/* A program that will end one day. NULL: no memory. */
struct recycle_walk *recycle_watch(uint32_t pid);
/* It is not watched any more. */
void recycle_unwatch(struct recycle_walk *w);
/* It has ended: go through the objects. w is not the caller's any more. */
void recycle_exit(struct recycle_walk *w, uint64_t now_ns);
/* Go on with walks whose suspension is over. Returns when (CLOCK_MONOTONIC, ns) the next one's is, if
 * nsfw_recycle_obj_end() is not called before; UINT64_MAX: none is suspended. */
uint64_t recycle_run(uint64_t now_ns);

struct recycle_stats {
	uint64_t exits, called, suspended, timeouts, failed; /* ever */
	uint32_t waiting; /* walks that are suspended */
};
void recycle_stats(struct recycle_stats *out);

#endif
