/* SPDX-License-Identifier: Apache-2.0 */
/* rd/routes.c - the table of what sources of routes say
 *
 * IP routes are a table of prefixes. Protocol routes, two at most, become rules that come before all others but
 * NSTACK_RD's. Threads: any, on a table that is constant.
 */
#define _GNU_SOURCE
#include <rd/routes.h>

#include <rd/modules.h>
#include <rd/rules_internal.h>
#include <stdlib.h>
#include <string.h>

struct rd_routes *rd_routes_new(void)
{
	struct rd_routes *t = calloc(1, sizeof(*t));

	if (t)
		t->ip = rd_prefixes_new();
	if (t && t->ip)
		return t;
	free(t);
	return NULL;
}

void rd_routes_free(struct rd_routes *t)
{
	if (t)
		rd_prefixes_free(t->ip);
	free(t);
}

static int proto_rule(struct rd_rules *r, uint8_t proto, const char *action)
{
	struct rd_rule rule = RD_RULE_ANY;
	int ret = rd_action_parse(&r->stacks, action, &rule.action, &rule.stack);

	rule.proto = proto;
	rule.priority = -RD_PRIORITY_MAX;
	rule.who = RD_WHO_SOURCE;
	return ret ? ret : rd_rules_add(r, &rule);
}

int rd_routes_into_rules(const struct rd_routes *t, struct rd_rules *r, bool with_default)
{
	static const uint8_t protos[2] = { IPPROTO_TCP, IPPROTO_UDP };
	int ret = 0;

	for (unsigned i = 0; i < 2 && !ret; i++)
		if (t->by_proto[i][0])
			ret = proto_rule(r, protos[i], t->by_proto[i]);
	if (!ret && t->first[0] && with_default)
		ret = rd_action_parse(&r->stacks, t->first, &r->default_action, &r->default_stack);
	rd_rules_sort(r);
	return ret;
}

bool rd_routes_find(const struct rd_routes *t, const struct nst_addr *local, const struct nst_addr *remote,
		    struct rd_prefix_hit *hit)
{
	const struct nst_addr *a = rd_addr_known(remote) ? remote : local;

	return rd_addr_known(a) && rd_prefixes_find(t->ip, a, hit);
}

static bool configured_id(const char *name, int *id)
{
	static const char *const ours[] = { RD_STACK_DEFAULT, RD_STACK_KERNEL };
	const struct rd_modules *ms = rd_config()->modules;
	const struct rd_module *m = ms ? rd_module_by_name(ms, name) : NULL;

	*id = m ? (int)m->id : ms ? (int)ms->n : 0;
	for (unsigned i = 0; !m && i < 2; i++) {
		if (!strcmp(ours[i], name))
			return true;
		*id += !ms || !rd_module_by_name(ms, ours[i]);
	}
	return m;
}

bool rd_routes_id(const struct rd_routes *t, const char *name, int *id)
{
	if (!t)
		return configured_id(name, id);
	for (uint32_t i = 0; i < t->n; i++) {
		if (!strcmp(t->stack[i].name, name)) {
			*id = t->stack[i].id;
			return true;
		}
	}
	return false;
}
