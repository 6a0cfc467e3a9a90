/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_watch.c - what the tables say, for people: counters, claims
 *
 * Reads only; any thread. Numbers of a running program are a little old when they are read.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

static const char *const counter_names[] = {
#define STEER_COUNTER_NAME(e, verdict, name) [STEER_C_##e] = name,
	STEER_COUNTERS(STEER_COUNTER_NAME)
#undef STEER_COUNTER_NAME
};
_Static_assert(sizeof(counter_names) / sizeof(counter_names[0]) == STEER_C_NR_, "a name each");

const char *steer_counter_name(unsigned c)
{
	return c < STEER_C_NR_ ? counter_names[c] : "unknown";
}

int steer_counters(struct steer *st, uint64_t out[STEER_C_NR_])
{
	int cpus = libbpf_num_possible_cpus(), err = 0;
	uint64_t *values;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (uint32_t c = 0; c < STEER_C_NR_ && !err; c++) {
		out[c] = 0;
		if (bpf_map_lookup_elem(st->map[STEER_M_COUNTERS], &c, values))
			err = -errno;
		for (int i = 0; i < cpus && !err; i++)
			out[c] += values[i];
		out[c] += __atomic_load_n(&st->outside->counters[c], __ATOMIC_RELAXED); /* a number to show */
	}
	free(values);
	return err;
}

struct listing {
	struct steer *st;
	struct steer_claim_info *out;
	uint32_t n, count;
};

static void list_one(struct listing *l, int proto, uint8_t family, uint16_t port_be,
		     const uint32_t *addr, uint32_t instance)
{
	struct steer_claim_info *c;

	if (l->count++ >= l->n)
		return;
	c = &l->out[l->count - 1];
	memset(c, 0, sizeof(*c));
	c->proto = proto == STEER_P_TCP ? IPPROTO_TCP : IPPROTO_UDP;
	c->local.family = family;
	c->local.port = port_be;
	if (addr)
		memcpy(c->local.v6, addr, family == AF_INET ? 4 : 16);
	c->instance = instance;
	if (instance < STEER_INSTANCES)
		c->pid = (pid_t)l->st->instances[instance].pid;
}

static int list_addr_claim(void *arg, const void *key, const void *value)
{
	const struct steer_addr_claim *k = key;

	list_one(arg, k->proto, k->family, k->port, k->addr, *(const uint32_t *)value);
	return 0;
}

int steer_claims(struct steer *st, struct steer_claim_info *out, uint32_t n)
{
	struct listing l = { st, out, n, 0 };
	uint32_t value;
	int err;

	for (uint32_t i = 0; i < STEER_CLAIMS; i++) {
		uint64_t w = __atomic_load_n(&st->claims[i], __ATOMIC_RELAXED);
		uint32_t v4 = STEER_CLAIM_V4(w), v6 = STEER_CLAIM_V6(w);
		uint16_t port = htons((uint16_t)i);

		if (v4 && v4 == v6) {
			list_one(&l, (int)(i >> 16), AF_UNSPEC, port, NULL, v4);
			continue;
		}
		if (v4)
			list_one(&l, (int)(i >> 16), AF_INET, port, NULL, v4);
		if (v6)
			list_one(&l, (int)(i >> 16), AF_INET6, port, NULL, v6);
	}
	err = steer_map_each(st->map[STEER_M_CLAIMS_ADDR], sizeof(struct steer_addr_claim),
			     STEER_ADDR_CLAIMS_MAX, &value, list_addr_claim, &l);
	return err ? err : (int)l.count;
}
