/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_rules.c - rules into bit vectors
 *
 * Each dimension (two addresses per family, two ports, the protocol) turns a packet's value into
 * the vector of the rules that don't object; nested prefixes are resolved here, so that the
 * longest match alone is the whole answer. Pure, any thread; reading files is rd/'s business.
 */
#include <bpf/steer_rules.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static void vec_set(struct steer_vec *v, __u32 bit)
{
	v->w[bit / 64] |= 1ull << (bit % 64);
}

static bool vec_empty(const struct steer_vec *v)
{
	return !(v->w[0] | v->w[1] | v->w[2] | v->w[3]);
}

/* What a dimension asks of a rule. */
static __u8 dim_family(__u32 d)
{
	return d == STEER_D_REMOTE4 || d == STEER_D_LOCAL4 ? AF_INET : AF_INET6;
}

static bool dim_is_local(__u32 d)
{
	return d == STEER_D_LOCAL4 || d == STEER_D_LOCAL6;
}

static void prefix_of(const struct steer_rule *r, bool local, struct steer_prefix *p)
{
	const __u32 *addr = local ? r->local : r->remote;

	memset(p, 0, sizeof(*p));
	p->len = local ? r->local_len : r->remote_len;
	for (__u32 i = 0; i < 4 && p->len > 32 * i; i++) {
		__u32 bits = p->len - 32 * i;

		p->addr[i] = bits >= 32 ? addr[i] : addr[i] & htonl(~0u << (32 - bits));
	}
}

/* Is every address of b in a? Addresses are masked. */
static bool prefix_contains(const struct steer_prefix *a, const struct steer_prefix *b)
{
	__u32 words = a->len / 32, bits = a->len % 32;

	if (a->len > b->len || memcmp(a->addr, b->addr, words * 4))
		return false;
	return !bits || !(ntohl(a->addr[words] ^ b->addr[words]) >> (32 - bits));
}

static void prefix_add(struct steer_rules *out, __u32 d, const struct steer_prefix *p)
{
	for (__u32 i = 0; i < out->nprefixes[d]; i++) {
		const struct steer_prefix *q = &out->prefix[d][i];

		if (q->len == p->len && !memcmp(q->addr, p->addr, sizeof(p->addr)))
			return;
	}
	out->prefix[d][out->nprefixes[d]++] = *p;
}

/* At most n + 1 prefixes: the table has room for STEER_RULES + 1. */
static void compile_prefixes(struct steer_rules *out, __u32 d, const struct steer_rule *rules,
			     __u32 n)
{
	struct steer_prefix any = { 0 }, p;

	out->nprefixes[d] = 0;
	prefix_add(out, d, &any);
	for (__u32 i = 0; i < n; i++) {
		if (rules[i].family && rules[i].family != dim_family(d))
			continue;
		prefix_of(&rules[i], dim_is_local(d), &p);
		prefix_add(out, d, &p);
	}
	for (__u32 i = 0; i < n; i++) {
		if (rules[i].family && rules[i].family != dim_family(d))
			continue;
		prefix_of(&rules[i], dim_is_local(d), &p);
		for (__u32 j = 0; j < out->nprefixes[d]; j++) {
			if (prefix_contains(&p, &out->prefix[d][j]))
				vec_set(&out->prefix[d][j].vec, i);
		}
	}
}

static void port_range(const struct steer_rule *r, bool local, __u32 *min, __u32 *max)
{
	*min = local ? r->lport_min : r->rport_min;
	*max = local ? r->lport_max : r->rport_max;
}

/* Cut the port space wherever a range starts or ends; number the intervals. */
static __u32 compile_ports(__u16 class[65536], struct steer_vec *vec, bool local,
			   const struct steer_rule *rules, __u32 n)
{
	__u32 min, max, c = 0;

	memset(class, 0, 65536 * sizeof(*class));
	for (__u32 i = 0; i < n; i++) {
		port_range(&rules[i], local, &min, &max);
		class[min] = 1;
		if (max < 65535)
			class[max + 1] = 1;
	}
	class[0] = 0;
	for (__u32 port = 0; port < 65536; port++) {
		if (class[port] || !port) {
			if (port)
				c++;
			memset(&vec[c], 0, sizeof(vec[c]));
			for (__u32 i = 0; i < n; i++) {
				port_range(&rules[i], local, &min, &max);
				if (min <= port && port <= max)
					vec_set(&vec[c], i);
			}
		}
		class[port] = (__u16)c;
	}
	return c + 1;
}

static bool rule_is_sane(const struct steer_rule *r)
{
	__u32 bits = r->family == AF_INET ? 32 : r->family == AF_INET6 ? 128 : 0;

	return (bits || !r->family) && r->remote_len <= bits && r->local_len <= bits &&
	       (!r->proto || r->proto == IPPROTO_TCP || r->proto == IPPROTO_UDP) &&
	       (r->action <= STEER_ACT_DROP ||
		(r->action >= STEER_ACT_STACK_BASE &&
		 r->action < STEER_ACT_STACK(STEER_STACKS))) &&
	       r->lport_min <= r->lport_max && r->rport_min <= r->rport_max;
}

int steer_rules_compile(struct steer_rules *out, const struct steer_rule *rules, __u32 n,
			__u32 *bad)
{
	if (n > STEER_RULES)
		return -E2BIG;
	for (__u32 i = 0; i < n; i++) {
		if (!rule_is_sane(&rules[i])) {
			if (bad)
				*bad = i;
			return -EINVAL;
		}
	}
	out->nrules = n;
	memset(out->action, 0, sizeof(out->action));
	memset(out->proto, 0, sizeof(out->proto));
	for (__u32 i = 0; i < n; i++) {
		out->action[i] = rules[i].action;
		if (rules[i].proto != IPPROTO_UDP)
			vec_set(&out->proto[STEER_P_TCP], i);
		if (rules[i].proto != IPPROTO_TCP)
			vec_set(&out->proto[STEER_P_UDP], i);
	}
	for (__u32 d = 0; d < STEER_D_NR_; d++)
		compile_prefixes(out, d, rules, n);
	out->nlport = compile_ports(out->lport_class, out->lport, true, rules, n);
	out->nrport = compile_ports(out->rport_class, out->rport, false, rules, n);
	return 0;
}

bool steer_rules_matter(const struct steer_rules *rules)
{
	return rules && (rules->nrules || rules->default_action != STEER_ACT_CLAIMANT);
}

void steer_rules_head_fill(struct steer_rules_head *head, const struct steer_rules *rules)
{
	memset(head, 0, sizeof(*head));
	head->nrules = rules->nrules;
	head->default_action = rules->default_action;
	head->use_ports = rules->nlport > 1 || rules->nrport > 1;
	memcpy(head->proto, rules->proto, sizeof(head->proto));
	memcpy(head->action, rules->action, sizeof(head->action));
	for (__u32 d = 0; d < STEER_D_NR_; d++) {
		for (__u32 i = 0; i < rules->nprefixes[d]; i++) {
			const struct steer_prefix *p = &rules->prefix[d][i];

			if (!p->len)
				head->base[d] = p->vec;
			else if (!vec_empty(&p->vec))
				head->use_prefix |= 1u << d;
		}
	}
}
