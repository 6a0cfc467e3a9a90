/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules_compile.c - rule sets in force: for the steering program, and for this process
 *
 * The current set is an immutable object behind one RCU pointer. A lookup walks its sorted list:
 * with the usual handful of rules that costs less than the bit vectors that XDP needs, and a test
 * proves that both decide alike. Lookups: any thread, wait-free, no allocation. Publishing: one
 * mutex.
 */
#define _GNU_SOURCE
#include <rd/rules.h>

#include <bpf/steer_ctl.h>
#include <bpf/steer_rules.h>
#include <errno.h>
#include <pthread.h>
#include <rd/log.h>
#include <rd/prefixes.h>
#include <rd/rules_internal.h>
#include <stdlib.h>
#include <unistd.h>
#include <urcu-bp.h>

/* --- to and from the steering program's form --------------------------------------------------- */

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

/* --- the current set ----------------------------------------------------------------------------- */

struct published {
	struct rcu_head rcu;
	struct rd_who self; /* as it was then, but for the user */
	struct rd_prefixes *prefixes;
	bool prefixes_end;  /* they go with it */
	uint8_t stack_of[RD_STACKS_MAX]; /* the prefixes' stacks among those of the rules */
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

static int stacks_match(struct published *p)
{
	const char *name;
	uint8_t action;
	int ret = 0;

	for (uint32_t i = 0; p->prefixes && !ret && (name = rd_prefixes_stack(p->prefixes, i)); i++)
		ret = rd_action_parse(&p->rules.stacks, name, &action, &p->stack_of[i]);
	return ret;
}

/* r and t become current. 0 or -errno with nothing changed. publish_lock. */
static int publish(const struct rd_rules *r, struct rd_prefixes *t)
{
	struct published *p = calloc(1, sizeof(*p)), *old = current;
	int ret = p ? 0 : -ENOMEM;

	if (!ret) {
		p->rules = *r;
		own_add(&p->rules, r);
		p->prefixes = t;
		ret = stacks_match(p);
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
		call_rcu(&old->rcu, published_free);
	}
	return 0;
}

int rd_rules_publish(const struct rd_rules *r)
{
	int ret;

	pthread_mutex_lock(&publish_lock);
	ret = publish(r, current ? current->prefixes : NULL);
	pthread_mutex_unlock(&publish_lock);
	return ret;
}

int rd_prefixes_publish(struct rd_prefixes *t)
{
	struct rd_rules *r = malloc(sizeof(*r));
	int ret = -ENOMEM;

	if (r) {
		pthread_mutex_lock(&publish_lock);
		if (current)
			*r = current->rules;
		else
			rd_rules_init(r);
		ret = publish(r, t);
		pthread_mutex_unlock(&publish_lock);
	}
	free(r);
	return ret;
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

static struct rd_verdict decide(const struct published *p, const struct rd_who *who, uint8_t proto,
				const struct nst_addr *local, const struct nst_addr *remote)
{
	struct rd_verdict v = rd_rules_lookup(&p->rules, who, proto, local, remote);
	struct rd_prefix_hit hit;

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

struct rd_listen rd_listen(const struct rd_who *who, uint8_t proto, const struct nst_addr *local)
{
	struct rd_listen l = { 0 };
	const struct published *p;
	struct rd_who buf;

	rcu_read_lock();
	p = rcu_dereference(current);
	if (p)
		l = rd_rules_listen(&p->rules, who ? who : self(p, &buf), proto, local);
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

bool rd_may_name(uint8_t proto, const struct nst_addr *local, const char *name)
{
	const struct published *p;
	struct rd_who buf;
	bool may;

	rcu_read_lock();
	p = rcu_dereference(current);
	may = p && rd_rules_may_name(&p->rules, self(p, &buf), proto, local, name);
	rcu_read_unlock();
	return may;
}
