/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_claim.c - claims and local addresses
 *
 * A claim for every address is one compare-and-exchange on the mapped claims entry; a claim for
 * one address is an element of the hash, announced by the entry's count. A count goes up before
 * its element exists and down after it is gone, so that the program never misses one.
 *
 * Threads: any. The lock is taken only to clean up after a dead owner and for the local set.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* --- claims -------------------------------------------------------------------------------- */

/* Another living instance holds it: -EADDRINUSE and who. Dead: it is cleaned, -EAGAIN. */
static int claim_conflict(struct steer *st, uint32_t holder, struct steer_owner *owner)
{
	if (steer_instance_reap(st, holder))
		return -EAGAIN;
	if (owner)
		*owner = (struct steer_owner){ steer_instance_pid_here(&st->instances[holder]),
					       st->instances[holder].image };
	return -EADDRINUSE;
}

static int claim_every(struct steer *st, uint64_t *word, bool v4, bool v6, struct steer_owner *owner)
{
	uint64_t me = st->instance, old = __atomic_load_n(word, __ATOMIC_RELAXED), new;

	do {
		uint32_t h4 = STEER_CLAIM_V4(old), h6 = STEER_CLAIM_V6(old);

		if (v4 && h4 && h4 != me)
			return claim_conflict(st, h4, owner);
		if (v6 && h6 && h6 != me)
			return claim_conflict(st, h6, owner);
		new = old;
		if (v4)
			new = (new & ~(0xffull << STEER_CLAIM_V4_SHIFT)) | me << STEER_CLAIM_V4_SHIFT;
		if (v6)
			new = (new & ~(0xffull << STEER_CLAIM_V6_SHIFT)) | me << STEER_CLAIM_V6_SHIFT;
		/* release: pairs steer.claim - what the instance prepared for the port comes first */
	} while (!__atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	return 0;
}

static void addr_claim_key(struct steer_addr_claim *k, int proto, const struct nst_addr *a)
{
	memset(k, 0, sizeof(*k));
	k->family = a->family;
	k->proto = (uint8_t)proto;
	k->port = a->port;
	steer_addr_words(k->addr, a);
}

static void addr_changed(struct steer *st, const struct steer_addr_claim *k, uint32_t instance)
{
	if (st->mirror)
		steer_mirror_addr(st->mirror, k, instance);
	else
		steer_changed(st);
}

static int claim_one(struct steer *st, uint64_t *word, int proto, const struct nst_addr *a,
		     struct steer_owner *owner)
{
	uint32_t me = st->instance, holder;
	struct steer_addr_claim k;
	int err;

	addr_claim_key(&k, proto, a);
	__atomic_fetch_add(word, STEER_CLAIM_ONE_ADDR, __ATOMIC_RELAXED);
	if (!bpf_map_update_elem(st->map[STEER_M_CLAIMS_ADDR], &k, &me, BPF_NOEXIST)) {
		addr_changed(st, &k, me);
		return 0;
	}
	err = -errno;
	__atomic_fetch_sub(word, STEER_CLAIM_ONE_ADDR, __ATOMIC_RELAXED);
	if (err != -EEXIST)
		return err == -E2BIG ? -ENOSPC : err;
	if (bpf_map_lookup_elem(st->map[STEER_M_CLAIMS_ADDR], &k, &holder))
		return -EAGAIN; /* went away meanwhile */
	return holder == me ? 0 : claim_conflict(st, holder, owner);
}

static int claim_check(const struct steer *st, uint8_t proto, const struct nst_addr *local)
{
	if (!st->instance || steer_proto_of(proto) < 0 || !local->port)
		return -EINVAL;
	return local->family == AF_INET || local->family == AF_INET6 ? 0 : -EAFNOSUPPORT;
}

int steer_claim_new(struct steer *st, uint8_t proto, const struct nst_addr *local,
		    bool v6_takes_v4, struct steer_owner *owner)
{
	int p = steer_proto_of(proto), err = claim_check(st, proto, local);
	bool v4 = local->family == AF_INET;
	uint64_t *word;

	if (err)
		return err;
	word = steer_claim_word(st, p, local->port);
	for (int i = 0; i < 8; i++) {
		err = nst_addr_is_any(local) ? claim_every(st, word, v4 || v6_takes_v4, !v4, owner)
					     : claim_one(st, word, p, local, owner);
		if (err != -EAGAIN)
			break;
	}
	return err;
}

struct pinning {
	struct steer *st;
	bool claimed_only;
	int pinned;
};

static int pin_to_kernel(void *arg, const struct steer_flow *flow)
{
	struct pinning *p = arg;
	uint64_t word = __atomic_load_n(steer_claim_word(p->st, flow->proto, flow->lport),
					__ATOMIC_RELAXED); /* a word of its own */
	uint32_t held;
	int err;

	if (p->claimed_only && !STEER_CLAIM_V4(word) && !STEER_CLAIM_V6(word) &&
	    !STEER_CLAIM_ADDRS(word))
		return 0;
	/* a flow that an instance has pinned is not the kernel's, whatever its tables say */
	if (!bpf_map_lookup_elem(p->st->map[STEER_M_PINS], flow, &held)) {
		p->pinned += held == STEER_TO_KERNEL;
		return 0;
	}
	err = steer_pin_flow(p->st, flow, STEER_TO_KERNEL);
	p->pinned += !err;
	return err;
}

int steer_kernel_pin(struct steer *st)
{
	struct pinning p = { .st = st, .claimed_only = true };
	int err = steer_kernel_flows(0, pin_to_kernel, &p);

	return err ? err : p.pinned;
}

int steer_claim(struct steer *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4,
		struct steer_owner *owner)
{
	int err = claim_check(st, proto, local);
	struct pinning p = { .st = st };

	if (err)
		return err;
	if (proto == IPPROTO_TCP) {
		err = steer_kernel_flows(ntohs(local->port), pin_to_kernel, &p);
		if (err)
			return err;
	}
	err = steer_claim_new(st, proto, local, v6_takes_v4, owner);
	if (err || proto != IPPROTO_TCP)
		return err;
	/* and those that began while the first look was under way; what this one misses, the stack asks about */
	(void)steer_kernel_flows(ntohs(local->port), pin_to_kernel, &p);
	return 0;
}

int steer_port_exempt(struct steer *st, uint8_t proto, uint16_t port_be, bool on)
{
	int p = steer_proto_of(proto);

	if (p < 0)
		return -EINVAL;
	if (on)
		__atomic_fetch_or(steer_claim_word(st, p, port_be), STEER_CLAIM_EXEMPT, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(steer_claim_word(st, p, port_be), ~STEER_CLAIM_EXEMPT, __ATOMIC_RELAXED);
	return 0;
}

static void unclaim_every(uint64_t *word, uint64_t me, bool v4, bool v6)
{
	uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED), new;

	do {
		new = old;
		if (v4 && STEER_CLAIM_V4(old) == me)
			new &= ~(0xffull << STEER_CLAIM_V4_SHIFT);
		if (v6 && STEER_CLAIM_V6(old) == me)
			new &= ~(0xffull << STEER_CLAIM_V6_SHIFT);
		if (!STEER_CLAIM_V4(new) && !STEER_CLAIM_V6(new) && !STEER_CLAIM_ADDRS(new))
			new &= ~STEER_CLAIM_EXEMPT;
	} while (new != old && !__atomic_compare_exchange_n(word, &old, new, false,
							    __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

int steer_unclaim(struct steer *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4)
{
	int p = steer_proto_of(proto), err = claim_check(st, proto, local);
	bool v4 = local->family == AF_INET;
	struct steer_addr_claim k;
	uint32_t holder;
	uint64_t *word;

	if (err)
		return err;
	word = steer_claim_word(st, p, local->port);
	if (nst_addr_is_any(local)) {
		unclaim_every(word, st->instance, v4 || v6_takes_v4, !v4);
		return 0;
	}
	addr_claim_key(&k, p, local);
	if (bpf_map_lookup_elem(st->map[STEER_M_CLAIMS_ADDR], &k, &holder) || holder != st->instance)
		return 0;
	if (bpf_map_delete_elem(st->map[STEER_M_CLAIMS_ADDR], &k))
		return errno == ENOENT ? 0 : -errno;
	__atomic_fetch_sub(word, STEER_CLAIM_ONE_ADDR, __ATOMIC_RELAXED);
	addr_changed(st, &k, STEER_GONE);
	return 0;
}

/* --- local addresses ----------------------------------------------------------------------- */

static void local_key(struct steer_local_key *k, const struct nst_addr *a)
{
	memset(k, 0, sizeof(*k));
	k->family = a->family;
	steer_addr_words(k->addr, a);
}

static int key_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct steer_local_key));
}

struct local_diff {
	struct steer *st;
	const struct steer_local_key *want; /* sorted */
	uint32_t n;
};

/* Addresses that an instance owns wholly are not the kernel's: they stay. */
static int local_drop(void *arg, const void *key, const void *value)
{
	struct local_diff *d = arg;

	if (!((const struct steer_local *)value)->owner &&
	    !bsearch(key, d->want, d->n, sizeof(*d->want), key_compare))
		(void)bpf_map_delete_elem(d->st->map[STEER_M_LOCAL], key);
	return 0;
}

int steer_local_set(struct steer *st, const struct nst_addr *addrs, uint32_t n)
{
	struct steer_local_key *want = calloc(n + 1, sizeof(*want));
	struct local_diff d = { st, want, 0 };
	struct steer_local value = { 0 };
	int lock, err = 0;

	if (!want)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (addrs[i].family == AF_INET || addrs[i].family == AF_INET6)
			local_key(&want[d.n++], &addrs[i]);
	}
	qsort(want, d.n, sizeof(*want), key_compare);
	lock = steer_tables_lock(st);
	if (lock < 0) {
		free(want);
		return lock;
	}
	/* new ones first: an address that stays is never missing */
	for (uint32_t i = 0; i < d.n && !err; i++) {
		struct steer_local old = { 0 };

		if (!bpf_map_lookup_elem(st->map[STEER_M_LOCAL], &want[i], &old))
			continue;
		if (bpf_map_update_elem(st->map[STEER_M_LOCAL], &want[i], &value, BPF_ANY))
			err = errno == E2BIG ? -ENOSPC : -errno;
	}
	(void)steer_map_each(st->map[STEER_M_LOCAL], sizeof(*want), STEER_LOCAL_MAX, &value, local_drop,
			     &d);
	steer_changed(st);
	steer_tables_unlock(st, lock);
	free(want);
	return err;
}

static int own_locked(struct steer *st, const struct nst_addr *addr, bool on)
{
	struct steer_local old = { 0 }, new = { .owner = on ? st->instance : 0 };
	struct steer_local_key k;

	local_key(&k, addr);
	(void)bpf_map_lookup_elem(st->map[STEER_M_LOCAL], &k, &old);
	if (old.owner && old.owner != st->instance)
		return -EADDRINUSE;
	if (old.owner == new.owner)
		return 0;
	if (on) /* the count is never too low */
		__atomic_fetch_add(&st->meta->own, 1, __ATOMIC_RELAXED);
	if (bpf_map_update_elem(st->map[STEER_M_LOCAL], &k, &new, BPF_ANY)) {
		int err = errno == E2BIG ? -ENOSPC : -errno;

		if (on)
			__atomic_fetch_sub(&st->meta->own, 1, __ATOMIC_RELAXED);
		return err;
	}
	if (!on)
		__atomic_fetch_sub(&st->meta->own, 1, __ATOMIC_RELAXED);
	return 0;
}

int steer_own(struct steer *st, const struct nst_addr *addr, bool on)
{
	int lock, err;

	if (!st->instance)
		return -EINVAL;
	if (addr->family != AF_INET && addr->family != AF_INET6)
		return -EAFNOSUPPORT;
	lock = steer_tables_lock(st);
	if (lock < 0)
		return lock;
	err = own_locked(st, addr, on);
	steer_changed(st);
	steer_tables_unlock(st, lock);
	return err;
}
