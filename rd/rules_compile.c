/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules_compile.c - rule sets to and from the steering program's form
 *
 * Pure functions on the caller's data; any thread.
 */
#define _GNU_SOURCE
#include <rd/rules.h>

#include <bpf/steer_ctl.h>
#include <bpf/steer_rules.h>
#include <errno.h>
#include <stdlib.h>

static void prefix_to_steer(const struct rd_prefix *p, __u8 *len, __u32 addr[4])
{
	*len = p->len;
	memcpy(addr, p->addr, 16);
}

static uint32_t action_to_steer(uint8_t action, uint8_t stack)
{
	return action == RD_KERNEL ? STEER_ACT_KERNEL : action == RD_DROP ? STEER_ACT_DROP :
	       STEER_ACT_STACK(stack);
}

int rd_rules_compile(const struct rd_rules *r, struct steer_rules *out)
{
	struct steer_rule *list = calloc(r->n + 1, sizeof(*list));
	uint32_t n = 0;
	int ret;

	_Static_assert(RD_RULES_MAX <= STEER_RULES && RD_STACKS_MAX <= STEER_STACKS &&
		       RD_STACK_NAME <= STEER_STACK_NAME, "what the tables hold");
	if (!list)
		return -ENOMEM;
	memset(out, 0, sizeof(*out));
	out->version = r->version;
	for (uint32_t i = 0; i < r->stacks.n; i++)
		memcpy(out->stacks[i], r->stacks.name[i], RD_STACK_NAME);
	/* the usual default: a claim suffices, whatever stack it is from */
	out->default_action = r->default_action == RD_STACK && r->default_stack == 0 ?
		STEER_ACT_CLAIMANT : action_to_steer(r->default_action, r->default_stack);
	for (uint32_t i = 0; i < r->n; i++) {
		const struct rd_rule *rule = &r->rule[i];
		struct steer_rule *s = &list[n];

		if (rule->who)
			continue;
		n++;
		s->family = rule->remote.family ? rule->remote.family : rule->local.family;
		s->proto = rule->proto;
		s->action = (__u8)action_to_steer(rule->action, rule->stack);
		prefix_to_steer(&rule->remote, &s->remote_len, s->remote);
		prefix_to_steer(&rule->local, &s->local_len, s->local);
		s->lport_min = rule->port_lo;
		s->lport_max = rule->port_hi;
		s->rport_min = rule->rport_lo;
		s->rport_max = rule->rport_hi;
	}
	ret = steer_rules_compile(out, list, n, NULL);
	free(list);
	return ret;
}

static bool vec_has(const struct steer_vec *v, uint32_t i)
{
	return v->w[i / 64] >> (i % 64) & 1;
}

/* The shortest prefix whose vector has the rule is the rule's own: the others are inside it. */
static bool prefix_from_steer(const struct steer_rules *c, unsigned dim, uint8_t family, uint32_t i,
			      struct rd_prefix *out)
{
	const struct steer_prefix *best = NULL;
	uint32_t n = c->nprefixes[dim] < STEER_PREFIXES ? c->nprefixes[dim] : STEER_PREFIXES;

	for (uint32_t p = 0; p < n; p++) {
		if (vec_has(&c->prefix[dim][p].vec, i) && (!best || c->prefix[dim][p].len < best->len))
			best = &c->prefix[dim][p];
	}
	if (!best)
		return false;
	memset(out, 0, sizeof(*out));
	out->family = family;
	out->len = (uint8_t)best->len;
	memcpy(out->addr, best->addr, family == AF_INET ? 4 : 16);
	return true;
}

static void ports_from_steer(const struct steer_vec *vecs, const __u16 *class, uint32_t i,
			     uint16_t *lo, uint16_t *hi)
{
	bool found = false;

	*lo = 0;
	*hi = 0;
	for (uint32_t port = 0; port < 65536; port++) {
		if (class[port] >= STEER_PORT_CLASSES || !vec_has(&vecs[class[port]], i))
			continue;
		if (!found)
			*lo = (uint16_t)port;
		*hi = (uint16_t)port;
		found = true;
	}
}

static int action_from_steer(const struct steer_rules *c, struct rd_rules *out, uint32_t action,
			     uint8_t *what, uint8_t *stack)
{
	const char *name = RD_STACK_DEFAULT;
	uint32_t i;

	*stack = 0;
	*what = action == STEER_ACT_KERNEL ? RD_KERNEL : action == STEER_ACT_DROP ? RD_DROP : RD_STACK;
	if (action >= STEER_ACT_STACK_BASE) {
		if (action - STEER_ACT_STACK_BASE >= STEER_STACKS)
			return -EPROTO;
		name = c->stacks[action - STEER_ACT_STACK_BASE];
	}
	if (*what != RD_STACK)
		return 0;
	for (i = 0; i < out->stacks.n && strncmp(out->stacks.name[i], name, RD_STACK_NAME); i++)
		;
	if (i == RD_STACKS_MAX)
		return -EPROTO;
	if (i == out->stacks.n)
		snprintf(out->stacks.name[out->stacks.n++], RD_STACK_NAME, "%.*s", (int)RD_STACK_NAME - 1, name);
	*stack = (uint8_t)i;
	return 0;
}

static int rule_from_steer(const struct steer_rules *c, struct rd_rules *out, uint32_t i)
{
	struct rd_rule *rule = &out->rule[i];
	bool v4, v6;

	memset(rule, 0, sizeof(*rule));
	v4 = prefix_from_steer(c, STEER_D_REMOTE4, AF_INET, i, &rule->remote) &&
	     prefix_from_steer(c, STEER_D_LOCAL4, AF_INET, i, &rule->local);
	v6 = vec_has(&c->proto[0], i) || vec_has(&c->proto[1], i);
	if (!v4 || !rule->remote.len || !rule->local.len) {
		struct rd_prefix remote, local;

		v6 = prefix_from_steer(c, STEER_D_REMOTE6, AF_INET6, i, &remote) &&
		     prefix_from_steer(c, STEER_D_LOCAL6, AF_INET6, i, &local);
		if (v4 && v6) { /* both families: no prefixes */
			memset(&rule->remote, 0, sizeof(rule->remote));
			memset(&rule->local, 0, sizeof(rule->local));
		} else if (v6) {
			rule->remote = remote;
			rule->local = local;
		}
	}
	/* a /0 on one side is "not asked", as long as the other side names the family */
	if (!rule->local.len && rule->remote.family)
		memset(&rule->local, 0, sizeof(rule->local));
	else if (!rule->remote.len && rule->local.family)
		memset(&rule->remote, 0, sizeof(rule->remote));
	if (!vec_has(&c->proto[STEER_P_TCP], i) || !vec_has(&c->proto[STEER_P_UDP], i))
		rule->proto = vec_has(&c->proto[STEER_P_TCP], i) ? IPPROTO_TCP : IPPROTO_UDP;
	ports_from_steer(c->lport, c->lport_class, i, &rule->port_lo, &rule->port_hi);
	ports_from_steer(c->rport, c->rport_class, i, &rule->rport_lo, &rule->rport_hi);
	rule->priority = (int32_t)i; /* keeps the order when the text is read again */
	return action_from_steer(c, out, c->action[i], &rule->action, &rule->stack);
}

int rd_rules_decompile(const struct steer_rules *c, struct rd_rules *out)
{
	int ret;

	rd_rules_init(out);
	out->version = c->version;
	if (c->nrules > RD_RULES_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < c->nrules; i++) {
		ret = rule_from_steer(c, out, i);
		if (ret)
			return ret;
		out->n++;
	}
	return action_from_steer(c, out, c->default_action, &out->default_action,
				 &out->default_stack);
}
