/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_internal.h - what the files of steer_ctl.h share
 *
 * Locks: struct steer_lock serialises everything that is not one atomic store (attaching, slots,
 * the local set, rules), between processes and between threads: each taking opens the lock file
 * anew. No other lock is taken under it.
 */
#ifndef NSTACK_BPF_STEER_INTERNAL_H
#define NSTACK_BPF_STEER_INTERNAL_H

#include <bpf/steer_ctl.h>

/* The maps that user space reaches. X(enumerator, name, key size, value size, entries) */
#define STEER_MAPS(X) \
	X(CLAIMS, "claims", 4, 8, STEER_CLAIMS) \
	X(CLAIMS_ADDR, "claims_addr", sizeof(struct steer_addr_claim), 4, STEER_ADDR_CLAIMS_MAX) \
	X(LOCAL, "local", sizeof(struct steer_local_key), sizeof(struct steer_local), \
	  STEER_LOCAL_MAX) \
	X(PINS, "pins", sizeof(struct steer_flow), 4, STEER_PINS_MAX) \
	X(INSTANCES, "instances", 4, sizeof(struct steer_instance), STEER_INSTANCES) \
	X(OUTSIDE, "outside", 4, sizeof(struct steer_outside), 1) \
	X(META, "meta", 4, sizeof(struct steer_meta), 1) \
	X(RULES, "rules", 4, sizeof(struct steer_rules_head), 2) \
	X(PORT_CLASS, "port_class", 4, sizeof(struct steer_port_class), 2 * 65536) \
	X(PORT_VEC, "port_vec", 4, sizeof(struct steer_port_vec), 2 * STEER_PORT_CLASSES) \
	X(LPM4, "lpm4", sizeof(struct steer_lpm4), sizeof(struct steer_vec), STEER_LPM_MAX) \
	X(LPM6, "lpm6", sizeof(struct steer_lpm6), sizeof(struct steer_vec), STEER_LPM_MAX) \
	X(XSKS, "xsks_map", 4, 4, STEER_INSTANCES * STEER_QUEUES) \
	X(COUNTERS, "counters", 4, 8, STEER_C_NR_)

enum steer_map {
#define STEER_MAP_ENUM(e, ...) STEER_M_##e,
	STEER_MAPS(STEER_MAP_ENUM)
#undef STEER_MAP_ENUM
	STEER_M_NR_
};

struct steer {
	unsigned ifindex;
	uint32_t prog_id;
	int map[STEER_M_NR_];             /* fds, -1 = not open */
	int lock_file;                    /* for when root has been given up; -1 = not open */
	uint64_t *claims;                 /* mapped; atomic operations only */
	struct steer_meta *meta;          /* mapped; written under the lock */
	struct steer_instance *instances; /* mapped; written under the lock */
	struct steer_outside *outside;    /* mapped; instance: under the lock, changes: atomic, counters: the
					     driver's thread */
	struct steer_mirror *mirror;      /* ours, if our driver decides; NULL */
	unsigned instance;                /* own slot, 0 = none taken */
	pid_t instance_pid;               /* the taker: a forked child does not release it */
};

/* What is attached to an interface. */
struct steer_found {
	uint32_t prog_id; /* of ours, 0 = not attached */
	bool other_version;
	bool native;
	bool dispatcher;
	char foreign[64];
};

/* 0 or -errno (-EPERM: programs can't be looked at); nothing attached is not an error. */
int steer_find(unsigned ifindex, struct steer_found *out);

/* Lock of one interface: returns an fd to hand to steer_unlock(), or -errno. */
int steer_lock(unsigned ifindex);
void steer_unlock(int fd);
/* The same for whoever has the tables open, also as another user than the one who may open the file, if it was
 * kept before. One thread at a time for each handle. */
void steer_lock_keep(struct steer *st);
int steer_tables_lock(struct steer *st);
void steer_tables_unlock(struct steer *st, int lock);

/* Tables of a program by id: half-built on failure, steer_tables_close() takes that too. */
int steer_tables_open(struct steer *st, uint32_t prog_id);
int steer_tables_open_pins(struct steer *st);
void steer_tables_close(struct steer *st);
void steer_pins_make(struct steer *st);     /* best effort */
void steer_pins_remove(unsigned ifindex);

/* Slots. */
bool steer_instance_alive(const struct steer_instance *in);
/* Its process as this one would name it; 0: it is in another pid namespace. */
pid_t steer_instance_pid_here(const struct steer_instance *in);
/* Remove all that a slot has; its XSKs, claims, pins, addresses. Under the lock. */
void steer_instance_clean(struct steer *st, unsigned instance);
/* Take the lock and clean the slot if its process is gone. Is it free now? */
bool steer_instance_reap(struct steer *st, unsigned instance);
/* Number of a stack's name in meta.stacks, entered if new. Under the lock. -ENOSPC. */
int steer_kind(struct steer *st, const char *name);

/* Call fn for every entry of a hash or trie; fn may delete the entry it is given. */
int steer_map_each(int map_fd, size_t key_size, uint32_t max, void *value,
		   int (*fn)(void *arg, const void *key, const void *value), void *arg);

/* Has the kernel this very TCP connection, established or on its way there? 1, 0, or -errno: it could
 * not be asked. */
int steer_kernel_has(const struct steer_flow *f);
/* Flows the kernel has: fn for every TCP connection (not loopback) with this local port, 0 = all
 * ports; host byte order. */
int steer_kernel_flows(uint16_t port, int (*fn)(void *arg, const struct steer_flow *flow),
		       void *arg);

/* A hash table or the rules have been changed: whoever decides by a copy is to look. */
static inline void steer_changed(struct steer *st)
{
	/* release: pairs steer.changes - the tables' new state comes first */
	__atomic_fetch_add(&st->outside->changes, 1, __ATOMIC_RELEASE);
}

/* steer_mirror.c: the same change to our own copy, at once. STEER_GONE: the entry is no more. */
#define STEER_GONE UINT32_MAX
void steer_mirror_pin(struct steer_mirror *m, const struct steer_flow *flow, uint32_t instance);
void steer_mirror_addr(struct steer_mirror *m, const struct steer_addr_claim *key, uint32_t instance);

int steer_pin_flow(struct steer *st, const struct steer_flow *flow, uint32_t instance);
int steer_unpin_flow(struct steer *st, const struct steer_flow *flow);

static inline uint64_t *steer_claim_word(struct steer *st, int proto, uint16_t port_be)
{
	return &st->claims[STEER_CLAIM_INDEX(proto, ntohs(port_be))];
}

static inline int steer_proto_of(uint8_t ipproto)
{
	return ipproto == IPPROTO_TCP ? STEER_P_TCP : ipproto == IPPROTO_UDP ? STEER_P_UDP : -1;
}

static inline void steer_addr_words(uint32_t out[4], const struct nst_addr *a)
{
	memset(out, 0, 16);
	memcpy(out, a->v6, a->family == AF_INET ? 4 : 16);
}

#endif
