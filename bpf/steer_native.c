/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_native.c - steer.h compiled for user space, and the tables under it
 *
 * Prefix tables are searched linearly: at most 257 prefixes, in memory order of their length.
 * A hash slot is 1 byte "used", 7 unused, 8 bytes of value, then the key. Threads: the caller's
 * care. Not here: the maps of an attached program (steer_tables.c, steer_rules_ctl.c).
 */
#include <bpf/steer_native.h>

#include <bpf/steer_rules.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* --- hash ---------------------------------------------------------------------------------- */

#define SLOT_HEAD 16u /* used flag and value */

static size_t slot_size(const struct steer_hash *h)
{
	return SLOT_HEAD + ((h->key_size + 7u) & ~7u);
}

static uint8_t *slot_at(const struct steer_hash *h, uint32_t i)
{
	return h->slots + (size_t)(i & (h->size - 1)) * slot_size(h);
}

static uint32_t key_hash(const struct steer_hash *h, const void *key)
{
	const uint8_t *k = key;
	uint32_t v = 2166136261u;

	for (uint32_t i = 0; i < h->key_size; i++)
		v = (v ^ k[i]) * 16777619u;
	return v ^ v >> 15;
}

/* The key's slot, or the free one where it would go. */
static uint8_t *slot_find(const struct steer_hash *h, const void *key)
{
	for (uint32_t i = key_hash(h, key);; i++) {
		uint8_t *s = slot_at(h, i);

		if (!s[0] || !memcmp(s + SLOT_HEAD, key, h->key_size))
			return s;
	}
}

static int hash_grow(struct steer_hash *h)
{
	struct steer_hash bigger = { .key_size = h->key_size, .size = h->size ? h->size * 2 : 16 };

	bigger.slots = calloc(bigger.size, slot_size(h));
	if (!bigger.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < h->size; i++) {
		uint8_t *s = slot_at(h, i);

		if (s[0])
			memcpy(slot_find(&bigger, s + SLOT_HEAD), s, slot_size(h));
	}
	bigger.n = h->n;
	free(h->slots);
	*h = bigger;
	return 0;
}

int steer_hash_put(struct steer_hash *h, const void *key, uint64_t value)
{
	uint8_t *s;

	if (2 * (h->n + 1) > h->size && hash_grow(h))
		return -ENOMEM;
	s = slot_find(h, key);
	if (!s[0]) {
		s[0] = 1;
		memcpy(s + SLOT_HEAD, key, h->key_size);
		h->n++;
	}
	memcpy(s + 8, &value, sizeof(value));
	return 0;
}

bool steer_hash_del(struct steer_hash *h, const void *key)
{
	uint8_t *s, *next;
	uint32_t i;

	if (!h->size)
		return false;
	s = slot_find(h, key);
	if (!s[0])
		return false;
	s[0] = 0;
	h->n--;
	/* entries that had stepped over this slot must be found without it */
	for (i = (uint32_t)((size_t)(s - h->slots) / slot_size(h)) + 1;; i++) {
		uint8_t *to;

		next = slot_at(h, i);
		if (!next[0])
			return true;
		next[0] = 0;
		to = slot_find(h, next + SLOT_HEAD);
		if (to != next)
			memcpy(to, next, slot_size(h));
		to[0] = 1;
	}
}

const void *steer_hash_get(const struct steer_hash *h, const void *key)
{
	const uint8_t *s;

	if (!h->size)
		return NULL;
	s = slot_find(h, key);
	return s[0] ? s + 8 : NULL;
}

/* --- the look-ups that steer.h asks for ---------------------------------------------------- */

static inline uint16_t load16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#define STEER_LD16(p) load16(p)
#define STEER_LD32(p) load32(p)

static inline uint32_t steer_t_frame_len(const struct steer_tables *t, uint32_t linear)
{
	return t->frame_len > linear ? t->frame_len : linear;
}

static inline const struct steer_meta *steer_t_meta(const struct steer_tables *t)
{
	return &t->meta;
}

static inline const __u64 *steer_t_claim(const struct steer_tables *t, uint32_t i)
{
	return (const __u64 *)&t->claims[i];
}

static inline const __u32 *steer_t_addr_claim(const struct steer_tables *t,
					      const struct steer_addr_claim *k)
{
	return steer_hash_get(&t->addr_claims, k);
}

static inline const struct steer_local *steer_t_local(const struct steer_tables *t,
						      const struct steer_local_key *k)
{
	return steer_hash_get(&t->local, k);
}

static inline const __u32 *steer_t_pin(const struct steer_tables *t, const struct steer_flow *k)
{
	return steer_hash_get(&t->pins, k);
}

static inline const struct steer_instance *steer_t_instance(const struct steer_tables *t,
							    uint32_t i)
{
	return i < STEER_INSTANCES ? &t->instances[i] : NULL;
}

static inline const struct steer_rules_head *steer_t_rules(const struct steer_tables *t,
							   uint32_t gen)
{
	return t->rules ? &t->head : NULL;
}

/* One generation is enough here. Maps hold both sides' classes in one entry, struct steer_rules
 * in two arrays: hence the thread's own scratch entries, two for the two ports in use at once. */
static inline const struct steer_port_class *steer_t_port_class(const struct steer_tables *t,
								uint32_t gen, uint32_t port)
{
	static __thread struct steer_port_class scratch[2];
	static __thread unsigned turn;
	struct steer_port_class *c = &scratch[turn++ & 1];

	c->local = t->rules->lport_class[port & 0xffff];
	c->remote = t->rules->rport_class[port & 0xffff];
	return c;
}

static inline const struct steer_port_vec *steer_t_port_vec(const struct steer_tables *t,
							    uint32_t gen, uint32_t class)
{
	static __thread struct steer_port_vec scratch[2];
	static __thread unsigned turn;
	struct steer_port_vec *v = &scratch[turn++ & 1];

	if (class >= STEER_PORT_CLASSES)
		return NULL;
	v->local = t->rules->lport[class];
	v->remote = t->rules->rport[class];
	return v;
}

static bool prefix_covers(const struct steer_prefix *p, const uint32_t addr[4])
{
	uint32_t words = p->len / 32, bits = p->len % 32;

	if (words && memcmp(p->addr, addr, words * 4))
		return false;
	return !bits ||
	       !(__builtin_bswap32(p->addr[words] ^ addr[words]) >> (32 - bits));
}

static const struct steer_vec *prefix_find(const struct steer_tables *t, unsigned dim,
					   const uint32_t addr[4])
{
	const struct steer_prefix *best = NULL;

	for (uint32_t i = 0; i < t->rules->nprefixes[dim]; i++) {
		const struct steer_prefix *p = &t->rules->prefix[dim][i];

		if ((!best || p->len > best->len) && prefix_covers(p, addr))
			best = p;
	}
	return best ? &best->vec : NULL;
}

static inline const struct steer_vec *steer_t_lpm4(const struct steer_tables *t,
						   const struct steer_lpm4 *k)
{
	uint32_t addr[4] = { k->addr };

	return prefix_find(t, STEER_D_REMOTE4 + k->side, addr);
}

static inline const struct steer_vec *steer_t_lpm6(const struct steer_tables *t,
						   const struct steer_lpm6 *k)
{
	return prefix_find(t, STEER_D_REMOTE6 + k->side, k->addr);
}

#include <bpf/steer.h>

/* --- tables -------------------------------------------------------------------------------- */

void steer_native_init_over(struct steer_tables *t, uint64_t *claims)
{
	memset(t, 0, sizeof(*t));
	t->addr_claims.key_size = sizeof(struct steer_addr_claim);
	t->local.key_size = sizeof(struct steer_local_key);
	t->pins.key_size = sizeof(struct steer_flow);
	t->claims = claims;
}

int steer_native_init(struct steer_tables *t)
{
	steer_native_init_over(t, calloc(STEER_CLAIMS, sizeof(*t->claims)));
	t->claims_ours = t->claims != NULL;
	return t->claims ? 0 : -ENOMEM;
}

void steer_native_free(struct steer_tables *t)
{
	if (t->claims_ours)
		free(t->claims);
	free(t->addr_claims.slots);
	free(t->local.slots);
	free(t->pins.slots);
	memset(t, 0, sizeof(*t));
}

void steer_native_rules(struct steer_tables *t, const struct steer_rules *rules)
{
	t->rules = rules;
	t->meta.rules = steer_rules_matter(rules); /* generation 0 */
	if (rules)
		steer_rules_head_fill(&t->head, rules);
}

struct steer_native_result steer_native_decide(struct steer_tables *t, const void *data,
					       uint32_t len, uint32_t frame_len)
{
	struct steer_result r;

	t->frame_len = frame_len;
	r = steer_decide(t, data, (const uint8_t *)data + len);
	return (struct steer_native_result){ steer_verdict(r.counter), r.counter, r.instance };
}

int steer_rules_match(const struct steer_rules *rules, const struct steer_flow *flow)
{
	struct steer_tables t = { .rules = rules };
	int i;

	steer_rules_head_fill(&t.head, rules);
	i = steer_rule_find(&t, &t.head, 0, flow);
	return i < 0 ? -1 : i;
}
