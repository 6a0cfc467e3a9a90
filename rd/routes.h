/* SPDX-License-Identifier: Apache-2.0 */
/* rd/routes.h - what sources of routes say (nstack/rd.h), as one table beside the rules
 *
 * Made by sources.c, then published with the rules (rules_current.c), constant from then on.
 */
#ifndef NSTACK_RD_ROUTES_H
#define NSTACK_RD_ROUTES_H

#include <nstack/rd.h>
#include <rd/prefixes.h>
#include <rd/rules.h>

struct rd_routes {
	struct rd_prefixes *ip;        /* ours */
	char by_proto[2][RD_STACK_NAME]; /* tcp, udp: an action; "" = none */
	char first[RD_STACK_NAME];     /* the stack with the highest priority; "" = not known */
	uint32_t n;
	struct {
		char name[RD_STACK_NAME];
		int id;
	} stack[NSTACK_RD_STACK_MAX];
};

/* Empty; NULL: no memory. */
struct rd_routes *rd_routes_new(void);
void rd_routes_free(struct rd_routes *t); /* NULL: nothing */
/* Add the protocol routes to the rules, and the default. 0 or -errno. */
int rd_routes_into_rules(const struct rd_routes *t, struct rd_rules *r, bool with_default);
/* The route for a peer, or where that is not known for what is bound to local. */
bool rd_routes_find(const struct rd_routes *t, const struct nst_addr *local, const struct nst_addr *remote,
		    struct rd_prefix_hit *hit);
/* The number of a stack, t NULL: the configuration's; false: it has none. */
bool rd_routes_id(const struct rd_routes *t, const char *name, int *id);

#endif
