/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_rules_ctl.c - compiled rules into the maps, and back
 *
 * The tables exist twice. A new set is written into the generation that is not in force, then
 * one store puts it in force: a packet sees the old set or the new one. Before the idle
 * generation is touched, packets that may still read it (it was in force before the last switch)
 * are waited for. All under the interface's lock.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>
#include <bpf/steer_rules.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct port_maps {
	struct steer_port_class *class;
	struct steer_port_vec *vec;
	size_t class_size, vec_size;
};

static int port_maps_open(struct steer *st, struct port_maps *p)
{
	p->class_size = 2 * 65536 * sizeof(*p->class);
	p->vec_size = 2 * STEER_PORT_CLASSES * sizeof(*p->vec);
	p->class = mmap(NULL, p->class_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			st->map[STEER_M_PORT_CLASS], 0);
	if (p->class == MAP_FAILED)
		return -errno;
	p->vec = mmap(NULL, p->vec_size, PROT_READ | PROT_WRITE, MAP_SHARED, st->map[STEER_M_PORT_VEC],
		      0);
	if (p->vec == MAP_FAILED) {
		int err = -errno;

		munmap(p->class, p->class_size);
		return err;
	}
	return 0;
}

static void port_maps_close(struct port_maps *p)
{
	munmap(p->class, p->class_size);
	munmap(p->vec, p->vec_size);
}

/* --- writing ------------------------------------------------------------------------------- */

struct trie_walk {
	int fd;
	uint32_t gen;
	struct steer_rules *out; /* reading; NULL: delete the generation's entries */
	uint32_t dim;            /* reading: the family's first dimension */
};

static int trie_delete(void *arg, const void *key, const void *value)
{
	const struct steer_lpm4 *k = key; /* the heads of both keys are the same */
	struct trie_walk *w = arg;

	if (k->gen == w->gen && bpf_map_delete_elem(w->fd, key) && errno != ENOENT)
		return -errno;
	return 0;
}

static int tries_clear(struct steer *st, uint32_t gen)
{
	struct trie_walk w = { .fd = st->map[STEER_M_LPM4], .gen = gen };
	struct steer_vec v;
	int err;

	err = steer_map_each(w.fd, sizeof(struct steer_lpm4), STEER_LPM_MAX, &v, trie_delete, &w);
	if (err)
		return err;
	w.fd = st->map[STEER_M_LPM6];
	return steer_map_each(w.fd, sizeof(struct steer_lpm6), STEER_LPM_MAX, &v, trie_delete, &w);
}

static int trie_put(struct steer *st, uint32_t gen, uint32_t dim, const struct steer_prefix *p)
{
	uint8_t side = dim == STEER_D_LOCAL4 || dim == STEER_D_LOCAL6;
	struct steer_lpm4 k4 = { STEER_LPM_HEAD + p->len, (uint8_t)gen, side, 0, p->addr[0] };
	struct steer_lpm6 k6 = { STEER_LPM_HEAD + p->len, (uint8_t)gen, side, 0,
				 { p->addr[0], p->addr[1], p->addr[2], p->addr[3] } };
	bool v4 = dim < STEER_D_REMOTE6;

	if (bpf_map_update_elem(st->map[v4 ? STEER_M_LPM4 : STEER_M_LPM6],
				v4 ? (void *)&k4 : (void *)&k6, &p->vec, BPF_ANY))
		return -errno;
	return 0;
}

static int tries_write(struct steer *st, uint32_t gen, const struct steer_rules *r)
{
	int err = tries_clear(st, gen);

	for (uint32_t d = 0; d < STEER_D_NR_; d++) {
		for (uint32_t i = 0; !err && i < r->nprefixes[d]; i++) {
			if (r->prefix[d][i].len)
				err = trie_put(st, gen, d, &r->prefix[d][i]);
		}
	}
	return err;
}

static void ports_write(struct port_maps *p, uint32_t gen, const struct steer_rules *r)
{
	struct steer_port_class *class = p->class + gen * 65536;
	struct steer_port_vec *vec = p->vec + gen * STEER_PORT_CLASSES;

	for (uint32_t i = 0; i < 65536; i++)
		class[i] = (struct steer_port_class){ r->lport_class[i], r->rport_class[i], 0 };
	for (uint32_t i = 0; i < STEER_PORT_CLASSES; i++) {
		static const struct steer_vec none;

		vec[i].local = i < r->nlport ? r->lport[i] : none;
		vec[i].remote = i < r->nrport ? r->rport[i] : none;
	}
}

/* The set numbers stacks by its own list, the tables by theirs. */
static int action_translate(struct steer *st, const struct steer_rules *r, uint32_t action)
{
	char name[STEER_STACK_NAME + 1] = "";
	int kind;

	if (action < STEER_ACT_STACK_BASE)
		return (int)action;
	if (action >= STEER_ACT_STACK(STEER_STACKS))
		return -EINVAL;
	memcpy(name, r->stacks[action - STEER_ACT_STACK_BASE], STEER_STACK_NAME);
	kind = steer_kind(st, name);
	return kind < 0 ? kind : STEER_ACT_STACK(kind);
}

static int head_write(struct steer *st, uint32_t gen, const struct steer_rules *r)
{
	struct steer_rules_head head;
	int action;

	steer_rules_head_fill(&head, r);
	action = action_translate(st, r, r->default_action);
	if (action < 0)
		return action;
	head.default_action = (uint32_t)action;
	for (uint32_t i = 0; i < r->nrules; i++) {
		action = action_translate(st, r, r->action[i]);
		if (action < 0)
			return action;
		head.action[i] = (uint8_t)action;
	}
	return bpf_map_update_elem(st->map[STEER_M_RULES], &gen, &head, BPF_ANY) ? -errno : 0;
}

/* Every packet that was being looked at when this was called is done when it returns: the
 * global memory barrier is one grace period of the RCU that protects XDP programs. */
static void packets_wait(void)
{
	if (syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		usleep(50000); /* forbidden: far longer than a packet takes */
}

static int set_locked(struct steer *st, struct port_maps *p, const struct steer_rules *r)
{
	uint32_t gen = st->meta->rules == 1; /* the idle one; the lock keeps it so */
	int err;

	if (r->version && r->version <= st->meta->version)
		return -ESTALE;
	if (!steer_rules_matter(r)) {
		__atomic_store_n(&st->meta->rules, 0, __ATOMIC_RELAXED); /* nothing follows it */
		return 0;
	}
	packets_wait();
	err = tries_write(st, gen, r);
	if (!err)
		err = head_write(st, gen, r);
	if (err)
		return err; /* the set in force is untouched */
	ports_write(p, gen, r);
	/* release: pairs steer.rules - the generation's tables are whole */
	__atomic_store_n(&st->meta->rules, 1 + gen, __ATOMIC_RELEASE);
	return 0;
}

int steer_rules_set(struct steer *st, const struct steer_rules *rules)
{
	struct port_maps p;
	int lock, err;

	if (rules->nrules > STEER_RULES || rules->nlport > STEER_PORT_CLASSES ||
	    rules->nrport > STEER_PORT_CLASSES)
		return -EINVAL;
	for (uint32_t d = 0; d < STEER_D_NR_; d++) {
		if (rules->nprefixes[d] > STEER_PREFIXES)
			return -EINVAL;
	}
	err = port_maps_open(st, &p);
	if (err)
		return err;
	lock = steer_tables_lock(st);
	if (lock >= 0) {
		err = set_locked(st, &p, rules);
		if (!err && rules->version)
			__atomic_store_n(&st->meta->version, rules->version, __ATOMIC_RELAXED); /* the lock orders */
		steer_changed(st);
		steer_tables_unlock(st, lock);
	}
	port_maps_close(&p);
	return lock < 0 ? lock : err;
}

uint64_t steer_rules_version(struct steer *st)
{
	return __atomic_load_n(&st->meta->version, __ATOMIC_RELAXED); /* steer_rules_set() looks again */
}

/* --- reading ------------------------------------------------------------------------------- */

static int trie_read(void *arg, const void *key, const void *value)
{
	const struct steer_lpm4 *k = key;
	struct trie_walk *w = arg;
	uint32_t d = w->dim + (k->side & 1);
	struct steer_prefix *p;

	if (k->gen != w->gen || k->prefixlen <= STEER_LPM_HEAD)
		return 0;
	if (w->out->nprefixes[d] >= STEER_PREFIXES)
		return -EPROTO;
	p = &w->out->prefix[d][w->out->nprefixes[d]++];
	memset(p, 0, sizeof(*p));
	p->len = k->prefixlen - STEER_LPM_HEAD;
	memcpy(p->addr, &k->addr, w->dim == STEER_D_REMOTE4 ? 4 : 16);
	memcpy(&p->vec, value, sizeof(p->vec));
	return 0;
}

static int tries_read(struct steer *st, uint32_t gen, const struct steer_rules_head *head,
		      struct steer_rules *out)
{
	struct trie_walk w = { st->map[STEER_M_LPM4], gen, out, STEER_D_REMOTE4 };
	struct steer_vec v;
	int err;

	for (uint32_t d = 0; d < STEER_D_NR_; d++) {
		memset(&out->prefix[d][0], 0, sizeof(out->prefix[d][0]));
		out->prefix[d][0].vec = head->base[d];
		out->nprefixes[d] = 1;
	}
	err = steer_map_each(w.fd, sizeof(struct steer_lpm4), STEER_LPM_MAX, &v, trie_read, &w);
	if (err)
		return err;
	w.fd = st->map[STEER_M_LPM6];
	w.dim = STEER_D_REMOTE6;
	return steer_map_each(w.fd, sizeof(struct steer_lpm6), STEER_LPM_MAX, &v, trie_read, &w);
}

static void ports_read(struct port_maps *p, uint32_t gen, struct steer_rules *out)
{
	const struct steer_port_class *class = p->class + gen * 65536;
	const struct steer_port_vec *vec = p->vec + gen * STEER_PORT_CLASSES;

	for (uint32_t i = 0; i < 65536; i++) {
		out->lport_class[i] = class[i].local;
		out->rport_class[i] = class[i].remote;
	}
	for (uint32_t i = 0; i < STEER_PORT_CLASSES; i++) {
		out->lport[i] = vec[i].local;
		out->rport[i] = vec[i].remote;
	}
	/* classes are numbered upwards by port */
	out->nlport = class[65535].local + 1u;
	out->nrport = class[65535].remote + 1u;
}

static int get_locked(struct steer *st, struct port_maps *p, struct steer_rules *out)
{
	uint32_t gen = st->meta->rules == 2;
	struct steer_rules_head head;

	out->version = st->meta->version;
	if (!st->meta->rules)
		return 0;
	if (bpf_map_lookup_elem(st->map[STEER_M_RULES], &gen, &head))
		return -errno;
	out->nrules = head.nrules;
	out->default_action = head.default_action;
	memcpy(out->action, head.action, sizeof(out->action));
	memcpy(out->proto, head.proto, sizeof(out->proto));
	memcpy(out->stacks, st->meta->stacks, sizeof(out->stacks));
	ports_read(p, gen, out);
	return tries_read(st, gen, &head, out);
}

int steer_rules_get(struct steer *st, struct steer_rules *out)
{
	struct port_maps p;
	int lock, err;

	memset(out, 0, sizeof(*out));
	out->nlport = out->nrport = 1;
	err = port_maps_open(st, &p);
	if (err)
		return err;
	lock = steer_tables_lock(st);
	if (lock >= 0) {
		err = get_locked(st, &p, out);
		steer_tables_unlock(st, lock);
	}
	port_maps_close(&p);
	return lock < 0 ? lock : err;
}
