/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules_internal.h - what the configuration and the rules share inside of rd/ */
#ifndef NSTACK_RD_RULES_INTERNAL_H
#define NSTACK_RD_RULES_INTERNAL_H

#include <rd/json.h>
#include <rd/rules.h>

/* item: the list of rules, or the object { "rules": [...], "default": ... } */
int rd_rules_from_json(const struct json_doc *d, const cJSON *item, struct rd_rules *out,
		       char err[RD_ERR]);

/* rules_dmm.c: item as DMM's rd_config.json, of any generation. */
bool rd_rules_is_dmm(const cJSON *item);
int rd_rules_from_dmm(const struct json_doc *d, const cJSON *item, struct rd_rules *out, char err[RD_ERR]);

/* --- building a set: add in the order of the file, then sort --- */

#define RD_VERSION_MAX ((int64_t)1 << 53) /* what JSON numbers hold */
#define RD_PRIORITY_DEFAULT 100
#define RD_PRIORITY_MAX 1000000 /* and the least, negative */
#define RD_RULE_ANY ((struct rd_rule){ .port_hi = 65535, .rport_hi = 65535, .priority = RD_PRIORITY_DEFAULT })

/* Host bits become zero. */
void rd_prefix_mask(struct rd_prefix *p);
/* "198.18.0.0/15", "2001:db8::1", "any"; 0 or -EINVAL. */
int rd_prefix_parse(const char *s, struct rd_prefix *p);
void rd_stacks_init(struct rd_stacks *s);
/* "kernel", "drop", "stack", a stack's name, which is added where it is new; 0, -EINVAL, -E2BIG: too many
 * different stacks. */
int rd_action_parse(struct rd_stacks *stacks, const char *s, uint8_t *action, uint8_t *stack);
/* A rule with the same conditions is replaced. 0 or -E2BIG: there are RD_RULES_MAX. */
int rd_rules_add(struct rd_rules *r, const struct rd_rule *rule);
/* The message for that; returns -E2BIG. */
int rd_rules_too_many(const struct json_doc *d, const cJSON *o, char err[RD_ERR]);
void rd_rules_sort(struct rd_rules *r);

/* who.c: the text of NSTACK_RD, in front of all others. 0, -EINVAL or -E2BIG with a message. */
int rd_rules_add_own(struct rd_rules *r, const char *text, char err[RD_ERR]);

/* rules_dmm.c: the stack that a plane's name means, where it is a known plane's; else the name. */
const char *rd_dmm_stack(const char *plane);
/* The protocol of a socket type, flags beside it; 0: one that only the kernel serves. */
uint8_t rd_dmm_proto(unsigned type);

/* Is the address known, and not all-zero? */
bool rd_addr_known(const struct nst_addr *a);
/* The rules that come before all others. Addresses may be NULL or AF_UNSPEC: unknown. */
bool rd_addr_is_kernels(const struct nst_addr *a);
bool rd_builtin_kernel(const struct nst_addr *local, const struct nst_addr *remote);

#endif
