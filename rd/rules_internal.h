/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules_internal.h - what the configuration and the rules share inside of rd/ */
#ifndef NSTACK_RD_RULES_INTERNAL_H
#define NSTACK_RD_RULES_INTERNAL_H

#include <rd/json.h>
#include <rd/rules.h>

/* item: the list of rules, or the object { "rules": [...], "default": ... } */
int rd_rules_from_json(const struct json_doc *d, const cJSON *item, struct rd_rules *out,
		       char err[RD_ERR]);

/* The rules that come before all others. Addresses may be NULL or AF_UNSPEC: unknown. */
bool rd_addr_is_kernels(const struct nst_addr *a);
bool rd_builtin_kernel(const struct nst_addr *local, const struct nst_addr *remote);

#endif
