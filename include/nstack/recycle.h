/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/recycle.h - what becomes of the resources of a program that has ended
 *
 * The names are those of the DMM developer manual, section 4.2.6. A stack says once, when it starts, which
 * kinds of objects it keeps for programs (nsfw_recycle_reg_obj) and who cleans up a kind
 * (nsfw_recycle_reg_fun). When a program has ended, normally or not, the function of each object is called
 * with the program's pid, by priority, then in the order of registration.
 *
 * A function answers
 *   NSFW_RCC_CONTINUE  done: go on with the next object;
 *   NSFW_RCC_SUSPEND   it will take a while: the next object's turn comes when nsfw_recycle_obj_end() is
 *                      called for that pid, or after 60 seconds;
 *   NSFW_RCC_FAILED    it could not: counted, and the next object's turn comes all the same.
 *
 * Who watches programs calls the functions: nstackd. In a program that has a stack in its own process they are
 * registered, too, and never called: what it had ends with it.
 *
 * Threads: registering and nsfw_recycle_obj_end() are safe in any thread, also inside of a function that was
 * called. The functions are called by the thread that watches programs, one at a time (in nstackd: under
 * the worker's lock).
 */
#ifndef NSTACK_RECYCLE_H
#define NSTACK_RECYCLE_H

#include <nstack/api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds of objects. A stack takes numbers of its own between the named ranges. */
typedef enum _nsfw_recycle_item_type {
	NSFW_REC_TYPE_NULL = 0, /* none: can't be registered */
	NSFW_REC_SBR_START = 1,
	NSFW_REC_SBR_SOCKET,
	NSFW_REC_SBR_END = NSFW_REC_SBR_START + 63,
	NSFW_REC_NSOCKET_START,
	NSFW_REC_NSOCKET_EPOLL,
	NSFW_REC_NSOCKET_END = NSFW_REC_NSOCKET_START + 63,
	NSFW_REC_TYPE_MAX = 512
} nsfw_recycle_item_type;

typedef enum _nsfw_rcc_stat { NSFW_RCC_CONTINUE, NSFW_RCC_SUSPEND, NSFW_RCC_FAILED } nsfw_rcc_stat;

/* Lower numbers come first. */
enum {
	NSFW_REC_PRIO_HIGHEST, /* locks: what others wait for */
	NSFW_REC_PRIO_NORMAL,
	NSFW_REC_PRIO_DEFAULT,
	NSFW_REC_PRIO_LOWEST,  /* memory: what the others look into */
	NSFW_REC_PRIO_NR
};

/* exit_pid: the program, as the watcher knows it (0: it lives in a pid namespace that is not seen);
 * pdata, rec_type: as registered. */
typedef nsfw_rcc_stat (*nsfw_recycle_fun)(uint32_t exit_pid, void *pdata, uint16_t rec_type);

/* One function for each kind. 1; 0: no such kind, no function, or the kind has one. */
NSTACK_API uint8_t nsfw_recycle_reg_fun(uint16_t rec_type, nsfw_recycle_fun fun);
/* pdata stays the caller's and is not looked at. 1; 0: no such kind or priority, or there are 128 of that
 * priority. An object whose kind has no function is passed over. */
NSTACK_API uint8_t nsfw_recycle_reg_obj(uint8_t priority, uint16_t rec_type, void *pdata);
/* What a function suspended for that program is done. 1; 0: nothing waits for it. */
NSTACK_API uint8_t nsfw_recycle_obj_end(uint32_t pid);

#ifdef __cplusplus
}
#endif

#endif
