/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_native.h - the steering decision over tables in this process's memory
 *
 * For ports that have no XDP (a user-space driver), and for tests: the same function as the XDP
 * program, the same layouts, hash tables of our own. One thread changes and reads them, or the
 * caller locks; nothing here is shared with a kernel.
 */
#ifndef NSTACK_BPF_STEER_NATIVE_H
#define NSTACK_BPF_STEER_NATIVE_H

#include <bpf/steer_shared.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fixed-size keys to 8-byte values, open addressing. */
struct steer_hash {
	uint32_t key_size;
	uint32_t n, size; /* entries, slots (a power of two; 0 = nothing allocated) */
	uint8_t *slots;   /* used byte, key, value: see steer_native.c */
};

struct steer_tables {
	struct steer_meta meta;
	uint64_t *claims; /* STEER_CLAIMS */
	bool claims_ours; /* to be freed */
	struct steer_instance instances[STEER_INSTANCES];
	struct steer_hash addr_claims, local, pins;
	struct steer_rules_head head;
	const struct steer_rules *rules; /* the caller's; NULL = none */
	uint32_t frame_len; /* of the packet at hand, when longer than its first buffer */
};

/* Empty tables. 0 or -ENOMEM. */
int steer_native_init(struct steer_tables *t);
/* The same with claims that are somebody else's. */
void steer_native_init_over(struct steer_tables *t, uint64_t *claims);
void steer_native_free(struct steer_tables *t);

/* Insert or replace. 0 or -ENOMEM. */
int steer_hash_put(struct steer_hash *h, const void *key, uint64_t value);
bool steer_hash_del(struct steer_hash *h, const void *key);
/* Pointer to the value, NULL if there is none; valid until the next change. */
const void *steer_hash_get(const struct steer_hash *h, const void *key);

/* Put a rule set in force (kept by reference), or none with NULL. Stack kinds in it are indices
 * of its own stacks[]. */
void steer_native_rules(struct steer_tables *t, const struct steer_rules *rules);

struct steer_native_result {
	enum steer_verdict verdict;
	uint32_t counter;  /* enum steer_counter */
	uint32_t instance; /* with STEER_STACK */
};
/* Where does the packet belong? data: its first len bytes, frame_len: all of it. */
struct steer_native_result steer_native_decide(struct steer_tables *t, const void *data,
					       uint32_t len, uint32_t frame_len);

#endif
