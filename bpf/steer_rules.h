/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_rules.h - from a list of rules to the compiled form, and the native lookup
 *
 * Who reads rule files (rd/) makes a list of struct steer_rule in order of precedence; this
 * makes the bit vectors of it. Pure functions, no allocation, any thread.
 */
#ifndef NSTACK_BPF_STEER_RULES_H
#define NSTACK_BPF_STEER_RULES_H

#include <bpf/steer_shared.h>
#include <stdbool.h>

/* One rule; zero means "any" everywhere but in the port ranges, where any is 0 to 65535. */
struct steer_rule {
	__u8 family;      /* AF_INET, AF_INET6; 0 = both (then no prefixes) */
	__u8 proto;       /* IPPROTO_TCP, IPPROTO_UDP; 0 = both */
	__u8 remote_len;  /* prefix lengths in bits; 0 = any address */
	__u8 local_len;
	__u8 action;      /* enum steer_action */
	__u8 pad[3];
	__u32 remote[4];  /* network byte order, IPv4 in the first word */
	__u32 local[4];
	__u16 lport_min, lport_max; /* host byte order, inclusive */
	__u16 rport_min, rport_max;
};

/* The first rule of the list that matches wins. out is overwritten but for out->stacks and
 * out->default_action, which are the caller's. -E2BIG: more than STEER_RULES; -EINVAL: a rule
 * contradicts itself, *bad (may be NULL) is its index. */
int steer_rules_compile(struct steer_rules *out, const struct steer_rule *rules, __u32 n,
			__u32 *bad);

/* Index of the first rule that matches the flow, or -1. */
int steer_rules_match(const struct steer_rules *rules, const struct steer_flow *flow);

/* Can the set change what a claim says? (NULL, or no rules and the default "claimant": no.) */
bool steer_rules_matter(const struct steer_rules *rules);

/* The head of the set as the tables hold it; stack kinds are copied as they are. */
void steer_rules_head_fill(struct steer_rules_head *head, const struct steer_rules *rules);

#endif
