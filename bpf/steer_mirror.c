/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_mirror.c - a program's tables, copied for the decision in user space
 *
 * What the owner of the mirror changes himself, he changes in both places at once (steer_claim.c):
 * opening a connection must not cost a copy of all pins. What others change moves a counter on, and
 * everything is copied anew: the tool's doing, seldom.
 *
 * A copy that can't be made (no memory) leaves the old one in force, and the next look tries again.
 */
#include <bpf/steer_internal.h>
#include <bpf/steer_mirror.h>
#include <bpf/steer_native.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct steer_mirror {
	struct steer *st;
	struct steer_tables t;     /* claims: the program's own */
	struct steer_rules *rules; /* what t.rules points to; NULL = none */
	uint32_t seen;             /* changes that the copy has */
};

/* --- copying ------------------------------------------------------------------------------- */

static int put_u32(void *arg, const void *key, const void *value)
{
	return steer_hash_put(arg, key, *(const uint32_t *)value);
}

static int put_local(void *arg, const void *key, const void *value)
{
	return steer_hash_put(arg, key, ((const struct steer_local *)value)->owner);
}

static int rules_copy(struct steer_mirror *m, struct steer_rules **out)
{
	int err;

	*out = NULL;
	if (!__atomic_load_n(&m->st->meta->rules, __ATOMIC_RELAXED)) /* changes has moved on after it */
		return 0;
	*out = malloc(sizeof(**out));
	if (!*out)
		return -ENOMEM;
	err = steer_rules_get(m->st, *out);
	if (err) {
		free(*out);
		*out = NULL;
	}
	return err;
}

static int tables_copy(const struct steer *st, struct steer_tables *t)
{
	struct steer_local local;
	uint32_t value;
	int err;

	err = steer_map_each(st->map[STEER_M_CLAIMS_ADDR], sizeof(struct steer_addr_claim), STEER_ADDR_CLAIMS_MAX,
			     &value, put_u32, &t->addr_claims);
	if (!err)
		err = steer_map_each(st->map[STEER_M_PINS], sizeof(struct steer_flow), STEER_PINS_MAX, &value,
				     put_u32, &t->pins);
	if (!err)
		err = steer_map_each(st->map[STEER_M_LOCAL], sizeof(struct steer_local_key), STEER_LOCAL_MAX, &local,
				     put_local, &t->local);
	return err;
}

static int copy(struct steer_mirror *m)
{
	struct steer_rules *rules;
	struct steer_tables t;
	int err;

	steer_native_init_over(&t, m->st->claims);
	err = tables_copy(m->st, &t);
	if (!err)
		err = rules_copy(m, &rules);
	if (err) {
		steer_native_free(&t);
		return err;
	}
	steer_native_free(&m->t);
	free(m->rules);
	m->t = t;
	m->rules = rules;
	memcpy(m->t.instances, m->st->instances, sizeof(m->t.instances));
	steer_native_rules(&m->t, rules);
	return 0;
}

void steer_mirror_sync(struct steer_mirror *m)
{
	/* acquire: pairs steer.changes - what is copied is at least as new */
	uint32_t changes = __atomic_load_n(&m->st->outside->changes, __ATOMIC_ACQUIRE);
	const struct steer_meta *meta = m->st->meta;

	if (changes != m->seen && !copy(m))
		m->seen = changes;
	/* relaxed: words that order nothing */
	m->t.meta.mtu = __atomic_load_n(&meta->mtu, __ATOMIC_RELAXED);
	m->t.meta.own = __atomic_load_n(&meta->own, __ATOMIC_RELAXED);
	m->t.meta.steer_vlan = __atomic_load_n(&meta->steer_vlan, __ATOMIC_RELAXED);
}

/* --- the owner's own changes --------------------------------------------------------------- */

static void change(struct steer_mirror *m, struct steer_hash *h, const void *key, uint32_t instance)
{
	if (instance == STEER_GONE)
		steer_hash_del(h, key);
	else if (steer_hash_put(h, key, instance))
		m->seen--; /* no memory: copy it all when there is some */
}

void steer_mirror_pin(struct steer_mirror *m, const struct steer_flow *flow, uint32_t instance)
{
	change(m, &m->t.pins, flow, instance);
}

void steer_mirror_addr(struct steer_mirror *m, const struct steer_addr_claim *key, uint32_t instance)
{
	change(m, &m->t.addr_claims, key, instance);
}

/* --- deciding ------------------------------------------------------------------------------ */

enum steer_verdict steer_mirror_decide(struct steer_mirror *m, const void *data, uint32_t len, uint32_t frame_len)
{
	struct steer_native_result r = steer_native_decide(&m->t, data, len, frame_len);
	__u64 *counters = m->st->outside->counters;

	if (r.verdict == STEER_STACK && r.instance != m->st->instance) {
		r.verdict = STEER_PASS;
		r.counter = STEER_C_PASS_NO_SOCKET;
	}
	/* ours alone to write */
	__atomic_store_n(&counters[r.counter], counters[r.counter] + 1, __ATOMIC_RELAXED);
	return r.verdict;
}

/* --- life ---------------------------------------------------------------------------------- */

/* Under the interface's lock. */
static int take_locked(struct steer *st)
{
	uint32_t holder = st->outside->instance;

	if (holder && holder != st->instance && holder < STEER_INSTANCES &&
	    steer_instance_alive(&st->instances[holder]))
		return -EBUSY;
	__atomic_store_n(&st->outside->instance, st->instance, __ATOMIC_RELAXED); /* a switch, orders nothing */
	return 0;
}

int steer_mirror_open(struct steer_mirror **out, struct steer *st)
{
	struct steer_mirror *m = calloc(1, sizeof(*m));
	int lock, err;

	*out = NULL;
	if (!m)
		return -ENOMEM;
	m->st = st;
	lock = st->instance ? steer_tables_lock(st) : -EINVAL;
	err = lock < 0 ? lock : take_locked(st);
	steer_tables_unlock(st, lock);
	if (!err) {
		m->seen = __atomic_load_n(&st->outside->changes, __ATOMIC_RELAXED) - 1; /* so it is copied now */
		steer_mirror_sync(m);
		err = m->t.claims ? 0 : -ENOMEM;
	}
	if (err) {
		steer_mirror_close(m);
		return err;
	}
	st->mirror = m;
	*out = m;
	return 0;
}

void steer_mirror_close(struct steer_mirror *m)
{
	if (!m)
		return;
	m->st->mirror = NULL;
	steer_native_free(&m->t);
	free(m->rules);
	free(m);
}
