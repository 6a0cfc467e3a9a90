/* SPDX-License-Identifier: Apache-2.0 */
/* rd/sources.c - stacks and sources of routes that the program registers; see nstack/rd.h
 *
 * What each source said last is kept as it gave it. A refresh asks all, checks, makes one table of all that is
 * kept, and publishes it: so routes that are not said again end, and no lookup sees half of a refresh. (The
 * manual's nRD marks routes and lets unmarked ones age, for the same end.)
 *
 * Threads: one mutex, held while sources are asked; lookups take none.
 */
#define _GNU_SOURCE
#include <rd/sources.h>

#include <errno.h>
#include <pthread.h>
#include <rd/log.h>
#include <rd/routes.h>
#include <rd/rules_internal.h>
#include <stdlib.h>
#include <string.h>

struct source {
	nstack_get_route_data ask;
	rd_route_data *route; /* the source's memory, ours to free */
	int n;
	bool aged;            /* the last refresh failed */
};

struct registered {
	uint32_t nstacks, nsources;
	nstack_rd_stack_info stack[NSTACK_RD_STACK_MAX];
	struct source source[NSTACK_SYS_FUN_MAX];
};

static struct registered reg; /* lock */
static pthread_mutex_t lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;

/* --- names ------------------------------------------------------------------------------------- */

/* The stack that a route means, as rules name it: by its plane, or its own name. */
static const char *stack_named(const struct registered *g, const char *name)
{
	for (uint32_t i = 0; i < g->nstacks; i++)
		if (!strcmp(g->stack[i].stack.planename, name))
			return rd_dmm_stack(g->stack[i].stack.stackname);
	return rd_dmm_stack(name);
}

static bool is_text(const char *s, size_t size)
{
	return s[0] && memchr(s, 0, size);
}

/* Can rules name it? */
static bool name_ok(const char *name)
{
	struct rd_stacks scratch;
	uint8_t action, stack;

	rd_stacks_init(&scratch);
	return !rd_action_parse(&scratch, name, &action, &stack);
}

static bool stack_ok(const struct registered *g, uint32_t i)
{
	const nstack_rd_stack_info *s = &g->stack[i];

	if (!is_text(s->stack.stackname, STACK_NAME_MAX) || !memchr(s->stack.planename, 0, RD_PLANE_NAMELEN) ||
	    !name_ok(rd_dmm_stack(s->stack.stackname)) || !strcmp(s->stack.stackname, "drop"))
		return false;
	for (uint32_t k = 0; k < i; k++) {
		const rd_stack_plane_map *other = &g->stack[k].stack;

		if (!strcmp(other->stackname, s->stack.stackname) || g->stack[k].stack_id == s->stack_id ||
		    (s->stack.planename[0] && !strcmp(other->planename, s->stack.planename)))
			return false;
	}
	return true;
}

/* --- routes ------------------------------------------------------------------------------------- */

static bool route_ok(const struct registered *g, const rd_route_data *r)
{
	if (!is_text(r->stack_name, RD_PLANE_NAMELEN) || !name_ok(stack_named(g, r->stack_name)))
		return false;
	return (r->type == RD_DATA_TYPE_IP && r->ipdata.masklen <= 32) ||
	       (r->type == RD_DATA_TYPE_IP6 && r->ip6data.masklen <= 128) || r->type == RD_DATA_TYPE_PROTO;
}

/* Ask it. 0 with its routes in place of the former ones, or -EIO and these stay. */
static int source_ask(const struct registered *g, unsigned i, struct source *s)
{
	rd_route_data *route = NULL;
	int n = 0, bad = 0, ret = s->ask(&route, &n);

	s->aged = true;
	if (ret) {
		ns_log(NS_WAR, NS_M_RD, "source %u of routes failed: %d", i, ret);
		return -EIO;
	}
	while (route && bad < n && route_ok(g, &route[bad]))
		bad++;
	if (n < 0 || bad < n) {
		ns_log(NS_WAR, NS_M_RD, "source %u of routes: number %d of %d is no route; none is taken", i, bad + 1, n);
		free(route);
		return -EIO;
	}
	free(s->route);
	s->route = route;
	s->n = n;
	s->aged = false;
	return 0;
}

static int route_add(const struct registered *g, const rd_route_data *r, struct rd_routes *t)
{
	const char *action = stack_named(g, r->stack_name);
	struct rd_prefix p = { .family = AF_INET };
	uint8_t proto;

	if (r->type == RD_DATA_TYPE_PROTO) {
		proto = rd_dmm_proto(r->proto_type);
		if (proto) /* others are the kernel's */
			strcpy(t->by_proto[proto == IPPROTO_UDP], action);
		return 0;
	}
	p.len = (uint8_t)(r->type == RD_DATA_TYPE_IP ? r->ipdata.masklen : r->ip6data.masklen);
	if (r->type == RD_DATA_TYPE_IP6) {
		p.family = AF_INET6;
		memcpy(p.addr, &r->ip6data.addr, 16);
	} else {
		memcpy(p.addr, &r->ipdata.addr, 4);
	}
	rd_prefix_mask(&p);
	return rd_prefixes_add(t->ip, &p, action, rd_prefixes_count(t->ip) + 1);
}

static void stacks_add(const struct registered *g, struct rd_routes *t)
{
	int best = 0;

	for (uint32_t i = 0; i < g->nstacks; i++) {
		const nstack_rd_stack_info *s = &g->stack[i];

		strcpy(t->stack[i].name, rd_dmm_stack(s->stack.stackname));
		t->stack[i].id = s->stack_id;
		if (!i || s->priority < best) {
			best = s->priority;
			strcpy(t->first, t->stack[i].name);
		}
	}
	t->n = g->nstacks;
}

/* All that is kept comes into force. 0 or -errno with nothing changed. */
static int put_in_force(const struct registered *g)
{
	struct rd_routes *t = rd_routes_new();
	int ret = t ? 0 : -ENOMEM;

	if (!ret)
		stacks_add(g, t);
	for (uint32_t i = 0; i < g->nsources && !ret; i++)
		for (int k = 0; k < g->source[i].n && !ret; k++)
			ret = route_add(g, &g->source[i].route[k], t);
	if (!ret)
		ret = rd_prefixes_end(t->ip);
	if (!ret)
		ret = rd_routes_publish(t);
	if (ret)
		rd_routes_free(t);
	return ret;
}

static int ask_all(struct registered *g)
{
	int ret = 0;

	for (uint32_t i = 0; i < g->nsources; i++)
		if (source_ask(g, i, &g->source[i]))
			ret = -EIO;
	return ret;
}

/* --- calls -------------------------------------------------------------------------------------- */

static void forget(struct registered *g)
{
	for (uint32_t i = 0; i < g->nsources; i++)
		free(g->source[i].route);
}

/* Arguments that are whole; 0 or -EINVAL. */
static int take(struct registered *g, const nstack_rd_stack_info *stacks, int nstacks,
		const nstack_get_route_data *sources, int nsources)
{
	if (!stacks || nstacks < 1 || nstacks > NSTACK_RD_STACK_MAX || nsources < 0 ||
	    nsources > NSTACK_SYS_FUN_MAX || (nsources && !sources))
		return -EINVAL;
	g->nstacks = (uint32_t)nstacks;
	memcpy(g->stack, stacks, g->nstacks * sizeof(*stacks));
	for (uint32_t i = 0; i < g->nstacks; i++)
		if (!stack_ok(g, i))
			return -EINVAL;
	for (; g->nsources < (uint32_t)nsources; g->nsources++) {
		if (!sources[g->nsources])
			return -EINVAL;
		g->source[g->nsources].ask = sources[g->nsources];
	}
	return 0;
}

int rd_sources_init(const nstack_rd_stack_info *stacks, int nstacks, const nstack_get_route_data *sources,
		    int nsources)
{
	struct registered *g = calloc(1, sizeof(*g));
	int ret = g ? take(g, stacks, nstacks, sources, nsources) : -ENOMEM;

	if (!ret)
		ret = -pthread_mutex_lock(&lock);
	if (ret) {
		free(g);
		return ret;
	}
	ask_all(g); /* one that fails has nothing to say yet */
	ret = put_in_force(g);
	if (!ret) {
		forget(&reg);
		reg = *g;
	} else {
		forget(g);
	}
	pthread_mutex_unlock(&lock);
	free(g);
	return ret;
}

int rd_sources_refresh(void)
{
	int ret = -pthread_mutex_lock(&lock), err;

	if (ret)
		return ret;
	ret = ask_all(&reg);
	err = reg.nstacks ? put_in_force(&reg) : 0;
	pthread_mutex_unlock(&lock);
	return err ? err : ret;
}

int rd_sources_age(void)
{
	int ret = -pthread_mutex_lock(&lock);

	if (ret)
		return ret;
	for (uint32_t i = 0; i < reg.nsources; i++)
		if (reg.source[i].aged)
			reg.source[i].n = 0;
	ret = reg.nstacks ? put_in_force(&reg) : 0;
	pthread_mutex_unlock(&lock);
	return ret;
}

int rd_sources_stackid(const nstack_rd_key *key, int *id)
{
	struct nst_addr a = { .family = AF_INET };

	if (!key || !id)
		return -EINVAL;
	switch (key->type) {
	case RD_DATA_TYPE_PROTO:
		/* what only the kernel serves is asked as loopback is */
		if (!rd_dmm_proto(key->proto_type))
			return rd_lookup_id(0, &(struct nst_addr){ .family = AF_INET }, id);
		return rd_lookup_id(rd_dmm_proto(key->proto_type), NULL, id);
	case RD_DATA_TYPE_IP:
		a.v4 = key->ip_addr;
		return rd_lookup_id(0, &a, id);
	case RD_DATA_TYPE_IP6:
		a.family = AF_INET6;
		memcpy(a.v6, &key->ip6_addr, 16);
		return rd_lookup_id(0, &a, id);
	default:
		return -EINVAL;
	}
}
