/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules_current.c - the rules in force in this process
 *
 * The current set is an immutable object behind one RCU pointer: rules, the table of prefixes, what sources say.
 * A lookup walks the sorted list: with the usual handful of rules that costs less than the bit vectors
 * that XDP needs, and a test proves that both decide alike. Lookups: any thread, wait-free, no
 * allocation. Publishing: one mutex.
 */
#define _GNU_SOURCE
#include <rd/rules.h>

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <pthread.h>
#include <rd/log.h>
#include <rd/modules.h>
#include <rd/prefixes.h>
#include <rd/routes.h>
#include <rd/rules_internal.h>
#include <stdlib.h>
#include <unistd.h>
#include <urcu-bp.h>

struct published {
	struct rcu_head rcu;
	struct rd_who self; /* as it was then, but for the user */
	struct rd_prefixes *prefixes;
	bool prefixes_end;  /* they go with it */
	struct rd_routes *routes; /* what sources say, NULL = there are none */
	bool routes_end;
	bool default_theirs; /* the rules have none */
	/* the tables' stacks among those of the rules */
	uint8_t stack_of[RD_STACKS_MAX], route_stack_of[RD_STACKS_MAX];
	struct rd_rules rules;
};

/* One set per process by nature: which stack serves what is the process's own policy. */
static struct published *current;
static pthread_mutex_t publish_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t generation; /* publish_lock */

static void published_free(struct rcu_head *head)
{
	struct published *p = caa_container_of(head, struct published, rcu);

	if (p->prefixes_end)
		rd_prefixes_free(p->prefixes);
	if (p->routes_end)
		rd_routes_free(p->routes);
	free(p);
}

static void own_add(struct rd_rules *rules, const struct rd_rules *without)
{
	const char *own = secure_getenv("NSTACK_RD");
	char err[RD_ERR];

	if (own && rd_rules_add_own(rules, own, err)) {
		ns_log(NS_ERR, NS_M_NSOCKET, "%s; it is left out", err);
		*rules = *without;
	}
}

static int stacks_match(struct rd_stacks *stacks, const struct rd_prefixes *t, uint8_t stack_of[RD_STACKS_MAX])
{
	const char *name;
	uint8_t action;
	int ret = 0;

	for (uint32_t i = 0; t && !ret && (name = rd_prefixes_stack(t, i)); i++)
		ret = rd_action_parse(stacks, name, &action, &stack_of[i]);
	return ret;
}

static int complete(struct published *p, const struct rd_rules *r)
{
	int ret = 0;

	p->rules = *r;
	own_add(&p->rules, r);
	if (p->routes) {
		p->default_theirs = !r->default_given && r->default_action == RD_STACK && !r->default_stack;
		ret = rd_routes_into_rules(p->routes, &p->rules, p->default_theirs);
	}
	if (!ret && p->routes)
		ret = stacks_match(&p->rules.stacks, p->routes->ip, p->route_stack_of);
	return ret ? ret : stacks_match(&p->rules.stacks, p->prefixes, p->stack_of);
}

/* They become current. 0 or -errno with nothing changed. publish_lock. */
static int publish(const struct rd_rules *r, struct rd_prefixes *t, struct rd_routes *routes)
{
	struct published *p = calloc(1, sizeof(*p)), *old = current;
	int ret = p ? 0 : -ENOMEM;

	if (!ret) {
		p->prefixes = t;
		p->routes = routes;
		ret = complete(p, r);
	}
	if (ret) {
		free(p);
		return ret;
	}
	if (p->rules.who & (RD_WHO_PROGRAM | RD_WHO_CGROUP))
		rd_who_self(&p->self);
	p->rules.generation = ++generation;
	rcu_assign_pointer(current, p);
	if (old) {
		old->prefixes_end = old->prefixes != t;
		old->routes_end = old->routes != routes;
		call_rcu(&old->rcu, published_free);
	}
	return 0;
}

int rd_rules_publish(const struct rd_rules *r)
{
	int ret;

	pthread_mutex_lock(&publish_lock);
	ret = publish(r, current ? current->prefixes : NULL, current ? current->routes : NULL);
	pthread_mutex_unlock(&publish_lock);
	return ret;
}

/* The rules as they were given, malloc()ed: without what publish() adds. publish_lock. */
static struct rd_rules *rules_given(void)
{
	struct rd_rules *r = malloc(sizeof(*r));
	uint32_t n = 0;

	if (!r)
		return NULL;
	rd_rules_init(r);
	if (!current)
		return r;
	*r = current->rules;
	r->who = 0;
	for (uint32_t i = 0; i < r->n; i++) {
		if (r->rule[i].who & (RD_WHO_OWN | RD_WHO_SOURCE))
			continue;
		r->who |= r->rule[i].who;
		r->rule[n++] = r->rule[i];
	}
	r->n = n;
	if (current->default_theirs) {
		r->default_action = RD_STACK;
		r->default_stack = 0;
	}
	return r;
}

/* The rules that there are, with another table of prefixes or routes; where that is NULL, with the same. */
static int publish_table(struct rd_prefixes *const *prefixes, struct rd_routes *const *routes)
{
	struct rd_rules *r;
	int ret = -ENOMEM;

	pthread_mutex_lock(&publish_lock);
	r = rules_given();
	if (r)
		ret = publish(r, prefixes ? *prefixes : current ? current->prefixes : NULL,
			      routes ? *routes : current ? current->routes : NULL);
	pthread_mutex_unlock(&publish_lock);
	free(r);
	return ret;
}

int rd_prefixes_publish(struct rd_prefixes *t)
{
	return publish_table(&t, NULL);
}

int rd_routes_publish(struct rd_routes *t)
{
	return publish_table(NULL, &t);
}

static int prefixes_take(const char *path, char err[RD_ERR])
{
	struct rd_prefixes *t;
	int ret = rd_prefixes_load(path, &t, err);

	if (!ret) {
		ret = rd_prefixes_publish(t);
		if (ret)
			rd_prefixes_free(t);
	}
	return ret;
}

int rd_init(const struct ns_config *c, char err[RD_ERR])
{
	struct rd_rules *r;
	int ret;

	err[0] = 0;
	if (c && c->rules) {
		ret = rd_rules_publish(c->rules);
	} else {
		r = malloc(sizeof(*r));
		if (!r)
			return -ENOMEM;
		rd_rules_init(r);
		ret = rd_rules_publish(r);
		free(r);
	}
	if (!ret && c && c->prefixes)
		ret = prefixes_take(c->prefixes, err);
	if (ret && !err[0])
		snprintf(err, RD_ERR, "rules: %s", strerror(-ret));
	return ret;
}

/* Two sets that are the same but for priorities and lines? By their printed form, after both went
 * through the compiled one. */
static bool same_in_force(const struct rd_rules *r, const struct rd_rules *in_force,
			  struct steer_rules *scratch)
{
	struct rd_rules *mine = malloc(sizeof(*mine));
	char *a = NULL, *b = NULL;
	bool same = false;

	if (mine && !rd_rules_compile(r, scratch) && !rd_rules_decompile(scratch, mine)) {
		mine->version = in_force->version;
		a = rd_rules_text(mine);
		b = rd_rules_text(in_force);
		same = a && b && !strcmp(a, b);
	}
	free(a);
	free(b);
	free(mine);
	return same;
}

int rd_steer_attach(struct steer *st, const struct ns_config *c)
{
	struct steer_rules *compiled = malloc(sizeof(*compiled));
	struct rd_rules *r = malloc(sizeof(*r));
	int ret = -ENOMEM;

	if (!compiled || !r)
		goto out;
	ret = steer_rules_get(st, compiled);
	if (!ret)
		ret = rd_rules_decompile(compiled, r);
	if (c && c->rules) {
		/* the usual case of a second worker: nothing to do, no packet sees a change */
		if (!ret && same_in_force(c->rules, r, compiled))
			goto out;
		ret = rd_rules_compile(c->rules, compiled);
		compiled->version = 0; /* the configuration's are in force, whatever was before */
		if (!ret)
			ret = steer_rules_set(st, compiled);
	} else if (!ret && (r->n || r->default_action != RD_STACK || r->default_stack)) {
		ret = rd_rules_publish(r);
	}
out:
	free(compiled);
	free(r);
	return ret;
}

void rd_rules_current(struct rd_rules *out)
{
	const struct published *p;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p)
		*out = p->rules;
	else
		rd_rules_init(out);
	rcu_read_unlock();
}

uint64_t rd_rules_generation(void)
{
	const struct published *p;
	uint64_t gen;

	rcu_read_lock();
	p = rcu_dereference(current);
	gen = p ? p->rules.generation : 0;
	rcu_read_unlock();
	return gen;
}

/* A process may change its user, and nothing else of what is asked, without its being noticed. */
static const struct rd_who *self(const struct published *p, struct rd_who *buf)
{
	if (!(p->rules.who & RD_WHO_USER))
		return &p->self;
	*buf = p->self;
	buf->uid = geteuid();
	return buf;
}

/* Does a rule of the list that matched come before a line of the table with that prefix? */
static bool list_first(const struct rd_rule *r, uint8_t len)
{
	if (r->priority != RD_PRIORITY_DEFAULT || r->who)
		return r->priority <= RD_PRIORITY_DEFAULT;
	return r->remote.family && r->remote.len >= len;
}

/* May a source's route come before that? */
static bool routes_first(const struct published *p, struct rd_verdict v)
{
	return p->routes && v.rule != RD_BY_BUILTIN && (v.rule < 0 || !(p->rules.rule[v.rule].who & RD_WHO_OWN));
}

static struct rd_verdict decide(const struct published *p, const struct rd_who *who, uint8_t proto,
				const struct nst_addr *local, const struct nst_addr *remote)
{
	struct rd_verdict v = rd_rules_lookup(&p->rules, who, proto, local, remote);
	struct rd_prefix_hit hit;

	if (routes_first(p, v) && rd_routes_find(p->routes, local, remote, &hit))
		return (struct rd_verdict){ hit.action, p->route_stack_of[hit.stack], RD_BY_ROUTE };
	if (!p->prefixes || v.rule == RD_BY_BUILTIN || !remote || !rd_prefixes_find(p->prefixes, remote, &hit) ||
	    (v.rule >= 0 && list_first(&p->rules.rule[v.rule], hit.len)))
		return v;
	return (struct rd_verdict){ hit.action, p->stack_of[hit.stack], RD_BY_PREFIX };
}

struct rd_verdict rd_lookup(const struct rd_who *who, uint8_t proto, const struct nst_addr *local,
			    const struct nst_addr *remote)
{
	struct rd_who buf;
	struct rd_verdict v = { RD_KERNEL, 0, RD_BY_BUILTIN };
	const struct published *p;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p)
		v = decide(p, who ? who : self(p, &buf), proto, local, remote);
	rcu_read_unlock();
	return v;
}

static struct rd_listen listen_decide(const struct published *p, const struct rd_who *who, uint8_t proto,
				      const struct nst_addr *local)
{
	struct rd_verdict v = { .rule = RD_BY_DEFAULT };

	if (p->routes)
		v = decide(p, who, proto, local, NULL);
	if (v.rule == RD_BY_ROUTE)
		return (struct rd_listen){ .stack = rd_is_own(v), .exempt = rd_is_own(v) };
	return rd_rules_listen(&p->rules, who, proto, local);
}

struct rd_listen rd_listen(const struct rd_who *who, uint8_t proto, const struct nst_addr *local)
{
	struct rd_listen l = { 0 };
	const struct published *p;
	struct rd_who buf;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p)
		l = listen_decide(p, who ? who : self(p, &buf), proto, local);
	rcu_read_unlock();
	return l;
}

bool rd_lookup_name(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote,
		    char name[RD_STACK_NAME])
{
	struct rd_verdict v = { RD_KERNEL, 0, RD_BY_BUILTIN };
	const struct published *p;
	struct rd_who buf;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p)
		v = decide(p, self(p, &buf), proto, local, remote);
	if (v.action == RD_STACK)
		memcpy(name, p->rules.stacks.name[v.stack], RD_STACK_NAME);
	rcu_read_unlock();
	return v.action == RD_STACK;
}

int rd_lookup_id(uint8_t proto, const struct nst_addr *remote, int *id)
{
	const struct published *p;
	struct rd_verdict v;
	struct rd_who buf;
	int ret = -ENOENT;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p) {
		v = decide(p, self(p, &buf), proto, NULL, remote);
		if (v.action == RD_DROP)
			ret = -EACCES;
		else if (rd_routes_id(p->routes, v.action == RD_KERNEL ? RD_STACK_KERNEL :
				      p->rules.stacks.name[v.stack], id))
			ret = 0;
	}
	rcu_read_unlock();
	return ret;
}

/* Where the routes of sources name a stack for that address, or for some address that a wildcard has. */
static bool routes_may(const struct published *p, const struct rd_who *who, uint8_t proto, const struct nst_addr *local,
		       const char *name, bool *may)
{
	struct rd_verdict v;
	const char *s;

	if (!p->routes)
		return false;
	if (rd_addr_known(local)) {
		v = decide(p, who, proto, local, NULL);
		*may = v.action == RD_STACK && !strcmp(p->rules.stacks.name[v.stack], name);
		return v.rule == RD_BY_ROUTE;
	}
	for (uint32_t i = 0; !*may && (s = rd_prefixes_stack(p->routes->ip, i)); i++)
		*may = !strcmp(s, name);
	return *may;
}

bool rd_may_name(uint8_t proto, const struct nst_addr *local, const char *name)
{
	const struct published *p;
	struct rd_who buf;
	bool may = false;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p && !routes_may(p, self(p, &buf), proto, local, name, &may))
		may = rd_rules_may_name(&p->rules, self(p, &buf), proto, local, name);
	rcu_read_unlock();
	return may;
}
