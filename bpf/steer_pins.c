/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_pins.c - flows that stay where they are, whatever becomes of claims and rules
 *
 * A pin to an instance ends with the instance, or when its stack no longer has the flow; a pin to the kernel
 * when the kernel no longer has the connection. Each is counted in its port's claims word, so that packets of
 * ports without pins cost no look-up; but for those of pings, which have no ports.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

static void pin_count(struct steer *st, const struct steer_flow *flow, uint64_t by)
{
	if (flow->proto != STEER_P_ECHO)
		__atomic_fetch_add(steer_claim_word(st, flow->proto, flow->lport), by, __ATOMIC_RELAXED);
}

static int pin_put(struct steer *st, const struct steer_flow *flow, uint32_t instance)
{
	int err = -EAGAIN;

	pin_count(st, flow, STEER_CLAIM_ONE_PIN);
	/* new or changed, never both by one call: each element is counted by who made it, and who
	 * finds it gone that was there a moment ago makes it anew */
	for (int i = 0; i < 8 && err == -EAGAIN; i++) {
		if (!bpf_map_update_elem(st->map[STEER_M_PINS], flow, &instance, BPF_NOEXIST))
			return 0;
		if (errno != EEXIST)
			err = errno == E2BIG ? -ENOSPC : -errno;
		else if (!bpf_map_update_elem(st->map[STEER_M_PINS], flow, &instance, BPF_EXIST))
			err = 0;
		else if (errno != ENOENT)
			err = -errno;
	}
	pin_count(st, flow, -STEER_CLAIM_ONE_PIN);
	return err;
}

static int pin_del(struct steer *st, const struct steer_flow *flow)
{
	if (bpf_map_delete_elem(st->map[STEER_M_PINS], flow))
		return errno == ENOENT ? 0 : -errno;
	pin_count(st, flow, -STEER_CLAIM_ONE_PIN);
	return 0;
}

int steer_pin_flow(struct steer *st, const struct steer_flow *flow, uint32_t instance)
{
	int err = pin_put(st, flow, instance);

	steer_changed(st);
	return err;
}

int steer_unpin_flow(struct steer *st, const struct steer_flow *flow)
{
	int err = pin_del(st, flow);

	steer_changed(st);
	return err;
}

static void pin_changed(struct steer *st, const struct steer_flow *flow, uint32_t instance)
{
	if (st->mirror)
		steer_mirror_pin(st->mirror, flow, instance);
	else
		steer_changed(st);
}

static int flow_of(struct steer_flow *f, uint8_t proto, const struct nst_addr *local,
		   const struct nst_addr *remote)
{
	int p = proto == IPPROTO_ICMP ? STEER_P_ECHO : steer_proto_of(proto);

	if (p < 0 || local->family != remote->family)
		return -EINVAL;
	if (local->family != AF_INET && local->family != AF_INET6)
		return -EAFNOSUPPORT;
	memset(f, 0, sizeof(*f));
	f->family = local->family;
	f->proto = (uint8_t)p;
	f->lport = local->port;
	f->rport = remote->port;
	steer_addr_words(f->local, local);
	steer_addr_words(f->remote, remote);
	return 0;
}

int steer_pin(struct steer *st, uint8_t proto, const struct nst_addr *local,
	      const struct nst_addr *remote, unsigned instance)
{
	struct steer_flow f;
	int err = flow_of(&f, proto, local, remote);

	if (err)
		return err;
	if (instance >= STEER_INSTANCES)
		return -EINVAL;
	err = pin_put(st, &f, instance);
	if (!err)
		pin_changed(st, &f, instance);
	return err;
}

int steer_unpin(struct steer *st, uint8_t proto, const struct nst_addr *local,
		const struct nst_addr *remote, unsigned instance)
{
	struct steer_flow f;
	uint32_t held;
	int err = flow_of(&f, proto, local, remote);

	if (err || bpf_map_lookup_elem(st->map[STEER_M_PINS], &f, &held) || held != instance)
		return err;
	err = pin_del(st, &f);
	if (!err)
		pin_changed(st, &f, STEER_GONE);
	return err;
}

bool steer_kernel_pin_one(struct steer *st, const struct nst_addr *local,
			  const struct nst_addr *remote)
{
	struct steer_flow f;
	int has = flow_of(&f, IPPROTO_TCP, local, remote) ? 0 : steer_kernel_has(&f);

	/* where it can't be asked, too: the next packet asks again */
	return has < 0 || (has && !steer_pin_flow(st, &f, STEER_TO_KERNEL));
}

/* --- pins that have served ------------------------------------------------------------------ */

static int flow_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct steer_flow));
}

static int flow_add(struct steer_flows *l, const struct steer_flow *flow)
{
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 256;
		struct steer_flow *f = reallocarray(l->flow, room, sizeof(*f));

		if (!f)
			return -ENOMEM;
		l->flow = f;
		l->room = room;
	}
	l->flow[l->n++] = *flow;
	return 0;
}

static void flows_sort(struct steer_flows *l)
{
	if (l->n)
		qsort(l->flow, l->n, sizeof(*l->flow), flow_compare);
}

static bool flows_have(const struct steer_flows *sorted, const struct steer_flow *f)
{
	return sorted->n && bsearch(f, sorted->flow, sorted->n, sizeof(*f), flow_compare);
}

struct sweep {
	struct steer *st;
	struct steer_flows kernel; /* sorted */
	int removed;
};

static int sweep_mark(void *arg, const struct steer_flow *flow)
{
	struct sweep *s = arg;

	return flow_add(&s->kernel, flow);
}

static int sweep_pin(void *arg, const void *key, const void *value)
{
	const struct steer_flow *f = key;
	struct sweep *s = arg;

	if (*(const uint32_t *)value != STEER_TO_KERNEL || f->proto != STEER_P_TCP ||
	    flows_have(&s->kernel, f))
		return 0;
	/* It may have begun since the list was made, or the list lacks it: a dump is none of a moment. */
	if (!steer_kernel_has(f) && !steer_unpin_flow(s->st, f))
		s->removed++;
	return 0;
}

int steer_pins_sweep(struct steer *st)
{
	struct sweep s = { .st = st };
	struct steer_flow first;
	uint32_t value;
	int err;

	if (bpf_map_get_next_key(st->map[STEER_M_PINS], NULL, &first))
		return 0; /* no pins: the usual case */
	err = steer_kernel_flows(0, sweep_mark, &s);
	if (!err) {
		flows_sort(&s.kernel);
		err = steer_map_each(st->map[STEER_M_PINS], sizeof(struct steer_flow), STEER_PINS_MAX,
				     &value, sweep_pin, &s);
	}
	steer_flows_free(&s.kernel);
	return err ? err : s.removed;
}

static int own_pin(void *arg, const void *key, const void *value)
{
	struct steer_flows *l = arg;

	return *(const uint32_t *)value == l->instance ? flow_add(l, key) : 0;
}

int steer_pins_own(struct steer *st, struct steer_flows *out)
{
	uint32_t value;

	*out = (struct steer_flows){ .instance = st->instance };
	return steer_map_each(st->map[STEER_M_PINS], sizeof(struct steer_flow), STEER_PINS_MAX, &value, own_pin,
			      out);
}

int steer_flows_add(struct steer_flows *l, uint8_t proto, const struct nst_addr *local,
		    const struct nst_addr *remote)
{
	struct steer_flow f;
	int err = flow_of(&f, proto, local, remote);

	return err ? err : flow_add(l, &f);
}

void steer_flows_free(struct steer_flows *l)
{
	free(l->flow);
	*l = (struct steer_flows){ 0 };
}

size_t steer_pins_end(struct steer *st, const struct steer_flows *pins, struct steer_flows *live)
{
	size_t left = 0;
	uint32_t held;

	flows_sort(live);
	for (size_t i = 0; i < pins->n; i++) {
		if (flows_have(live, &pins->flow[i]))
			left++;
		else if (!bpf_map_lookup_elem(st->map[STEER_M_PINS], &pins->flow[i], &held) && held == pins->instance)
			(void)steer_unpin_flow(st, &pins->flow[i]);
	}
	return left;
}
