/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules.c - rule sets: reading, ordering, printing, and the plain lookup
 *
 * The lookup here walks the sorted list: it is what the rules mean, for tools and tests. The
 * process's fast lookup is in rules_current.c. Pure functions on the caller's data; any thread.
 */
#define _GNU_SOURCE
#include <rd/rules.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <rd/log.h>
#include <rd/rules_internal.h>
#include <stdio.h>
#include <stdlib.h>

void rd_stacks_init(struct rd_stacks *s)
{
	s->n = 1;
	strcpy(s->name[0], RD_STACK_DEFAULT);
}

void rd_rules_init(struct rd_rules *r)
{
	memset(r, 0, sizeof(*r));
	r->default_action = RD_STACK;
	rd_stacks_init(&r->stacks);
}

/* --- prefixes -------------------------------------------------------------------------------- */

void rd_prefix_mask(struct rd_prefix *p)
{
	unsigned bytes = p->family == AF_INET ? 4 : 16;

	for (unsigned i = 0; i < bytes; i++) {
		unsigned from = i * 8;

		if (p->len <= from)
			p->addr[i] = 0;
		else if (p->len < from + 8)
			p->addr[i] &= (uint8_t)(0xff << (from + 8 - p->len));
	}
}

/* "198.18.0.0/15", "2001:db8::1", "any" */
int rd_prefix_parse(const char *s, struct rd_prefix *p)
{
	char addr[INET6_ADDRSTRLEN + 1];
	const char *slash = strchr(s, '/');
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	unsigned max;

	memset(p, 0, sizeof(*p));
	if (!strcmp(s, "any"))
		return 0;
	if (n >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, s, n);
	addr[n] = 0;
	p->family = strchr(addr, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(p->family, addr, p->addr) != 1)
		return -EINVAL;
	max = p->family == AF_INET ? 32 : 128;
	p->len = (uint8_t)max;
	if (slash) {
		char *end;
		unsigned long len;

		if (!isdigit((unsigned char)slash[1]))
			return -EINVAL;
		len = strtoul(slash + 1, &end, 10);
		if (*end || len > max)
			return -EINVAL;
		p->len = (uint8_t)len;
	}
	rd_prefix_mask(p);
	return 0;
}

static void prefix_str(const struct rd_prefix *p, char *out, size_t size)
{
	char addr[INET6_ADDRSTRLEN];

	inet_ntop(p->family, p->addr, addr, sizeof(addr));
	snprintf(out, size, "%s/%u", addr, p->len);
}

static bool prefix_has(const struct rd_prefix *p, const struct nst_addr *a)
{
	unsigned bytes, bits;

	if (p->family == AF_UNSPEC)
		return true;
	if (p->family != a->family)
		return false;
	bytes = p->len / 8;
	bits = p->len % 8;
	if (memcmp(p->addr, a->v6, bytes))
		return false;
	return !bits || !((p->addr[bytes] ^ a->v6[bytes]) >> (8 - bits));
}

/* --- reading ----------------------------------------------------------------------------------- */

static const char *const rule_keys[] = { "remote", "local", "port", "remote_port", "proto", "program",
					 "user", "cgroup", "action", "priority", "comment" };
static const char *const set_keys[] = { "rules", "default", "version", "comment" };

static const char *name_at(const void *arg, unsigned i)
{
	return ((const char *const *)arg)[i];
}

static int unknown_key(const struct json_doc *d, const cJSON *v, const char *const *names, unsigned n,
		       char *err)
{
	const char *near = json_nearest(v->string, name_at, names, n);

	if (near)
		return json_error(d, v, err, "unknown key \"%.40s\"; did you mean \"%s\"?", v->string, near);
	return json_error(d, v, err, "unknown key \"%.40s\"", v->string);
}

static int read_port(const char *s, char **end, unsigned long *out)
{
	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	*out = strtoul(s, end, 10);
	return *out > 65535 ? -EINVAL : 0;
}

static int read_ports(const struct json_doc *d, const cJSON *v, uint16_t *lo, uint16_t *hi, char *err)
{
	unsigned long a = 0, b = 0;
	bool bad = false;
	int64_t n;
	char *end;

	if (cJSON_IsNumber(v)) {
		if (json_int(v, 0, 65535, &n))
			return json_error(d, v, err, "\"%s\": a port is 0 to 65535", v->string);
		*lo = *hi = (uint16_t)n;
		return 0;
	}
	if (!cJSON_IsString(v) || read_port(v->valuestring, &end, &a))
		return json_error(d, v, err, "\"%s\" must be a port or a range such as \"8000-8999\"",
				  v->string);
	b = a;
	if (*end == '-')
		bad = read_port(end + 1, &end, &b) != 0;
	if (bad || *end || b < a)
		return json_error(d, v, err, "\"%s\": \"%.20s\" is not a port range", v->string,
				  v->valuestring);
	*lo = (uint16_t)a;
	*hi = (uint16_t)b;
	return 0;
}

static int read_prefix(const struct json_doc *d, const cJSON *v, struct rd_prefix *p, char *err)
{
	if (!cJSON_IsString(v) || rd_prefix_parse(v->valuestring, p))
		return json_error(d, v, err, "\"%s\" must be an address or a prefix such as "
				  "\"198.18.0.0/15\" or \"2001:db8::/32\"", v->string);
	return 0;
}

static int read_proto(const struct json_doc *d, const cJSON *v, uint8_t *out, char *err)
{
	const char *s = cJSON_IsString(v) ? v->valuestring : "";

	if (!strcmp(s, "tcp"))
		*out = IPPROTO_TCP;
	else if (!strcmp(s, "udp"))
		*out = IPPROTO_UDP;
	else if (!strcmp(s, "any"))
		*out = 0;
	else
		return json_error(d, v, err, "\"proto\" must be \"tcp\", \"udp\" or \"any\"");
	return 0;
}

/* A stack's name: letters, digits, '_' and '-', not longer than the tables hold. */
static bool stack_name_ok(const char *s)
{
	size_t n = strlen(s);

	if (!n || n >= RD_STACK_NAME || !isalpha((unsigned char)s[0]))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)s[i]) && s[i] != '_' && s[i] != '-')
			return false;
	}
	return true;
}

int rd_action_parse(struct rd_stacks *stacks, const char *s, uint8_t *action, uint8_t *stack)
{
	uint32_t i;

	*stack = 0;
	if (!strcmp(s, "stack"))
		s = RD_STACK_DEFAULT;
	*action = !strcmp(s, "kernel") ? RD_KERNEL : !strcmp(s, "drop") ? RD_DROP : RD_STACK;
	if (*action != RD_STACK)
		return 0;
	if (!stack_name_ok(s))
		return -EINVAL;
	for (i = 0; i < stacks->n && strcmp(stacks->name[i], s); i++)
		;
	if (i == RD_STACKS_MAX)
		return -E2BIG;
	if (i == stacks->n)
		strcpy(stacks->name[stacks->n++], s);
	*stack = (uint8_t)i;
	return 0;
}

static int read_action(const struct json_doc *d, const cJSON *v, struct rd_rules *r, uint8_t *action,
		       uint8_t *stack, char *err)
{
	int ret = rd_action_parse(&r->stacks, cJSON_IsString(v) ? v->valuestring : "", action, stack);

	if (ret == -E2BIG)
		return json_error(d, v, err, "more than %u different stacks", RD_STACKS_MAX);
	if (ret)
		return json_error(d, v, err, "\"%s\" must be the name of a stack (\"%s\"), \"kernel\" or "
				  "\"drop\"", v->string ? v->string : "action", RD_STACK_DEFAULT);
	return 0;
}

static int read_program(const struct json_doc *d, const cJSON *v, struct rd_rule *rule, char *err)
{
	if (!cJSON_IsString(v) || !*v->valuestring || strchr(v->valuestring, '/') ||
	    strlen(v->valuestring) >= RD_PROGRAM)
		return json_error(d, v, err, "\"program\" must be a name without a path, of at most %u bytes",
				  RD_PROGRAM - 1);
	strcpy(rule->program, v->valuestring);
	rule->who |= RD_WHO_PROGRAM;
	return 0;
}

static int read_user(const struct json_doc *d, const cJSON *v, struct rd_rule *rule, char *err)
{
	const struct passwd *pw = cJSON_IsString(v) ? getpwnam(v->valuestring) : NULL;
	int64_t n;

	if (pw)
		n = pw->pw_uid;
	else if (json_int(v, 0, UINT32_MAX - 1, &n))
		return json_error(d, v, err, "\"user\" must be a user's name or number, and there must be one");
	rule->uid = (uint32_t)n;
	rule->who |= RD_WHO_USER;
	return 0;
}

static int read_cgroup(const struct json_doc *d, const cJSON *v, struct rd_rule *rule, char *err)
{
	size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;

	if (!n || *v->valuestring != '/' || n >= RD_CGROUP)
		return json_error(d, v, err, "\"cgroup\" must be a path such as \"/system.slice\", of at most %u "
				  "bytes", RD_CGROUP - 1);
	while (n > 1 && v->valuestring[n - 1] == '/')
		n--;
	memcpy(rule->cgroup, v->valuestring, n);
	rule->who |= RD_WHO_CGROUP;
	return 0;
}

static int read_member(const struct json_doc *d, const cJSON *v, struct rd_rules *r,
		       struct rd_rule *rule, char *err)
{
	int64_t n;

	if (!strcmp(v->string, "remote"))
		return read_prefix(d, v, &rule->remote, err);
	if (!strcmp(v->string, "local"))
		return read_prefix(d, v, &rule->local, err);
	if (!strcmp(v->string, "port"))
		return read_ports(d, v, &rule->port_lo, &rule->port_hi, err);
	if (!strcmp(v->string, "remote_port"))
		return read_ports(d, v, &rule->rport_lo, &rule->rport_hi, err);
	if (!strcmp(v->string, "proto"))
		return read_proto(d, v, &rule->proto, err);
	if (!strcmp(v->string, "action"))
		return read_action(d, v, r, &rule->action, &rule->stack, err);
	if (!strcmp(v->string, "program"))
		return read_program(d, v, rule, err);
	if (!strcmp(v->string, "user"))
		return read_user(d, v, rule, err);
	if (!strcmp(v->string, "cgroup"))
		return read_cgroup(d, v, rule, err);
	if (!strcmp(v->string, "comment"))
		return 0;
	if (!strcmp(v->string, "priority")) {
		if (json_int(v, -RD_PRIORITY_MAX, RD_PRIORITY_MAX, &n))
			return json_error(d, v, err, "\"priority\" must be a whole number, smaller first");
		rule->priority = (int32_t)n;
		return 0;
	}
	return unknown_key(d, v, rule_keys, sizeof(rule_keys) / sizeof(rule_keys[0]), err);
}

static bool same_conditions(const struct rd_rule *a, const struct rd_rule *b)
{
	return a->priority == b->priority && a->proto == b->proto && a->port_lo == b->port_lo &&
	       a->port_hi == b->port_hi && a->rport_lo == b->rport_lo && a->rport_hi == b->rport_hi &&
	       a->who == b->who && a->uid == b->uid && !strcmp(a->program, b->program) &&
	       !strcmp(a->cgroup, b->cgroup) &&
	       !memcmp(&a->remote, &b->remote, sizeof(a->remote)) &&
	       !memcmp(&a->local, &b->local, sizeof(a->local));
}

int rd_rules_add(struct rd_rules *r, const struct rd_rule *rule)
{
	for (uint32_t i = 0; i < r->n; i++) {
		if (same_conditions(&r->rule[i], rule)) {
			if (rule->line)
				ns_log(NS_WAR, NS_M_RD, "the rule of line %u replaces that of line %u", rule->line,
				       r->rule[i].line);
			r->rule[i] = *rule;
			return 0;
		}
	}
	if (r->n == RD_RULES_MAX)
		return -E2BIG;
	r->who |= rule->who;
	r->rule[r->n++] = *rule;
	return 0;
}

int rd_rules_too_many(const struct json_doc *d, const cJSON *o, char err[RD_ERR])
{
	json_error(d, o, err, "more than %u rules; use wider prefixes, or the default for the "
		   "most common case", RD_RULES_MAX);
	return -E2BIG;
}

static int read_rule(const struct json_doc *d, const cJSON *o, struct rd_rules *r, char *err)
{
	struct rd_rule rule = RD_RULE_ANY;
	bool action = false;
	const cJSON *v;
	int ret;

	if (!cJSON_IsObject(o))
		return json_error(d, o, err, "a rule is an object: { \"remote\": ..., \"action\": ... }");
	cJSON_ArrayForEach(v, o) {
		for (const cJSON *w = o->child; w != v; w = w->next) {
			if (!strcmp(w->string, v->string))
				return json_error(d, v, err, "\"%.40s\" is here for the second time",
						  v->string);
		}
		ret = read_member(d, v, r, &rule, err);
		if (ret)
			return ret;
		action |= !strcmp(v->string, "action");
	}
	if (!action)
		return json_error(d, o, err, "this rule has no \"action\"");
	if (rule.remote.family && rule.local.family && rule.remote.family != rule.local.family)
		return json_error(d, o, err, "\"remote\" and \"local\" are of different families: this "
				  "rule would never match");
	rule.line = json_line(d, o);
	return rd_rules_add(r, &rule) ? rd_rules_too_many(d, o, err) : 0;
}

/* --- order --------------------------------------------------------------------------------------- */

static int prefix_rank(const struct rd_prefix *p)
{
	return p->family ? p->len : -1;
}

static int rule_cmp(const struct rd_rule *a, const struct rd_rule *b)
{
	int pa = a->port_hi - a->port_lo, pb = b->port_hi - b->port_lo;
	int ra = a->rport_hi - a->rport_lo, rb = b->rport_hi - b->rport_lo;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (!a->who != !b->who)
		return a->who ? -1 : 1;
	if (prefix_rank(&a->remote) != prefix_rank(&b->remote))
		return prefix_rank(&b->remote) - prefix_rank(&a->remote);
	if (prefix_rank(&a->local) != prefix_rank(&b->local))
		return prefix_rank(&b->local) - prefix_rank(&a->local);
	if (pa != pb)
		return pa - pb;
	if (ra != rb)
		return ra - rb;
	return (b->proto != 0) - (a->proto != 0);
}

/* Insertion sort: stable, in place, at most 256 items. */
void rd_rules_sort(struct rd_rules *r)
{
	for (uint32_t i = 1; i < r->n; i++) {
		struct rd_rule rule = r->rule[i];
		uint32_t j = i;

		for (; j && rule_cmp(&rule, &r->rule[j - 1]) < 0; j--)
			r->rule[j] = r->rule[j - 1];
		r->rule[j] = rule;
	}
}

static int read_version(const struct json_doc *d, const cJSON *v, struct rd_rules *r, char *err)
{
	int64_t n;

	if (json_int(v, 1, RD_VERSION_MAX, &n))
		return json_error(d, v, err, "\"version\" must be a whole number from 1 on");
	r->version = (uint64_t)n;
	return 0;
}

static int read_set(const struct json_doc *d, const cJSON *o, struct rd_rules *r, const cJSON **list,
		    char *err)
{
	const cJSON *v;
	int ret = 0;

	*list = NULL;
	cJSON_ArrayForEach(v, o) {
		if (!strcmp(v->string, "rules") && cJSON_IsArray(v) && !*list)
			*list = v;
		else if (!strcmp(v->string, "rules"))
			ret = json_error(d, v, err, "\"rules\" must be one list");
		else if (!strcmp(v->string, "default")) {
			r->default_given = true;
			ret = read_action(d, v, r, &r->default_action, &r->default_stack, err);
		}
		else if (!strcmp(v->string, "version"))
			ret = read_version(d, v, r, err);
		else if (strcmp(v->string, "comment"))
			ret = unknown_key(d, v, set_keys, sizeof(set_keys) / sizeof(set_keys[0]), err);
		if (ret)
			return ret;
	}
	return 0;
}

int rd_rules_from_json(const struct json_doc *d, const cJSON *item, struct rd_rules *out,
		       char err[RD_ERR])
{
	const cJSON *list = item, *o;
	int ret;

	rd_rules_init(out);
	if (rd_rules_is_dmm(item))
		return rd_rules_from_dmm(d, item, out, err);
	if (cJSON_IsObject(item)) {
		ret = read_set(d, item, out, &list, err);
		if (ret)
			return ret;
	} else if (!cJSON_IsArray(item)) {
		return json_error(d, item, err, "rules are { \"rules\": [...], \"default\": ... } or a list");
	}
	if (list) {
		cJSON_ArrayForEach(o, list) {
			ret = read_rule(d, o, out, err);
			if (ret)
				return ret;
		}
	}
	rd_rules_sort(out);
	return 0;
}

static int rules_from_doc(struct json_doc *d, int ret, struct rd_rules *out, char *err)
{
	if (!ret)
		ret = rd_rules_from_json(d, d->root, out, err);
	json_free(d);
	return ret;
}

int rd_rules_parse(const char *text, size_t len, const char *name, struct rd_rules *out,
		   char err[RD_ERR])
{
	struct json_doc d;

	return rules_from_doc(&d, json_parse(&d, text, len, name, err), out, err);
}

int rd_rules_load(const char *path, struct rd_rules *out, char err[RD_ERR])
{
	struct json_doc d;

	return rules_from_doc(&d, json_load(&d, path, err), out, err);
}

/* --- printing ------------------------------------------------------------------------------------ */

static const char *action_name(const struct rd_rules *r, uint8_t action, uint8_t stack)
{
	return action == RD_KERNEL ? "kernel" : action == RD_DROP ? "drop" : r->stacks.name[stack];
}

static void print_ports(FILE *f, const char *key, uint16_t lo, uint16_t hi)
{
	if (lo == 0 && hi == 65535)
		return;
	if (lo == hi)
		fprintf(f, "\"%s\": %u, ", key, lo);
	else
		fprintf(f, "\"%s\": \"%u-%u\", ", key, lo, hi);
}

static void print_text(FILE *f, const char *key, const char *text)
{
	fprintf(f, "\"%s\": \"", key);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		if ((unsigned char)*text < ' ')
			fprintf(f, "\\u%04x", *text);
		else
			fputc(*text, f);
	}
	fputs("\", ", f);
}

static void print_rule(FILE *f, const struct rd_rules *r, const struct rd_rule *rule)
{
	char prefix[64];

	fputs("    { ", f);
	if (rule->remote.family) {
		prefix_str(&rule->remote, prefix, sizeof(prefix));
		fprintf(f, "\"remote\": \"%s\", ", prefix);
	}
	if (rule->local.family) {
		prefix_str(&rule->local, prefix, sizeof(prefix));
		fprintf(f, "\"local\": \"%s\", ", prefix);
	}
	print_ports(f, "port", rule->port_lo, rule->port_hi);
	print_ports(f, "remote_port", rule->rport_lo, rule->rport_hi);
	if (rule->proto)
		fprintf(f, "\"proto\": \"%s\", ", rule->proto == IPPROTO_TCP ? "tcp" : "udp");
	if (rule->who & RD_WHO_OWN)
		print_text(f, "comment", "NSTACK_RD");
	if (rule->who & RD_WHO_SOURCE)
		print_text(f, "comment", "by a source of the program");
	if (rule->who & RD_WHO_PROGRAM)
		print_text(f, "program", rule->program);
	if (rule->who & RD_WHO_USER)
		fprintf(f, "\"user\": %u, ", rule->uid);
	if (rule->who & RD_WHO_CGROUP)
		print_text(f, "cgroup", rule->cgroup);
	if (rule->priority != RD_PRIORITY_DEFAULT)
		fprintf(f, "\"priority\": %d, ", rule->priority);
	fprintf(f, "\"action\": \"%s\" }", action_name(r, rule->action, rule->stack));
}

char *rd_rules_text(const struct rd_rules *r)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fputs("{ \"rules\": [", f);
	for (uint32_t i = 0; i < r->n; i++) {
		fputs(i ? ",\n" : "\n", f);
		print_rule(f, r, &r->rule[i]);
	}
	fprintf(f, "%s],\n  \"default\": \"%s\"", r->n ? "\n  " : "",
		action_name(r, r->default_action, r->default_stack));
	if (r->version)
		fprintf(f, ", \"version\": %llu", (unsigned long long)r->version);
	fputs(" }\n", f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static size_t str_ports(char *out, size_t size, const char *what, uint16_t lo, uint16_t hi)
{
	if (lo == 0 && hi == 65535)
		return 0;
	if (lo == hi)
		return (size_t)snprintf(out, size, "%s %u ", what, lo);
	return (size_t)snprintf(out, size, "%s %u-%u ", what, lo, hi);
}

void rd_rule_str(const struct rd_rules *r, const struct rd_rule *rule, char *out, size_t size)
{
	char text[640], prefix[64];
	size_t n = 0;

	if (rule->who & RD_WHO_OWN)
		n += (size_t)sprintf(text + n, "NSTACK_RD ");
	if (rule->who & RD_WHO_SOURCE)
		n += (size_t)sprintf(text + n, "the program's ");
	if (rule->who & RD_WHO_PROGRAM)
		n += (size_t)sprintf(text + n, "program %s ", rule->program);
	if (rule->who & RD_WHO_USER)
		n += (size_t)sprintf(text + n, "user %u ", rule->uid);
	if (rule->who & RD_WHO_CGROUP)
		n += (size_t)sprintf(text + n, "cgroup %s ", rule->cgroup);
	if (rule->proto)
		n += (size_t)sprintf(text + n, "%s ", rule->proto == IPPROTO_TCP ? "tcp" : "udp");
	if (rule->remote.family) {
		prefix_str(&rule->remote, prefix, sizeof(prefix));
		n += (size_t)snprintf(text + n, sizeof(text) - n, "remote %s ", prefix);
	}
	n += str_ports(text + n, sizeof(text) - n, "remote port", rule->rport_lo, rule->rport_hi);
	if (rule->local.family) {
		prefix_str(&rule->local, prefix, sizeof(prefix));
		n += (size_t)snprintf(text + n, sizeof(text) - n, "local %s ", prefix);
	}
	n += str_ports(text + n, sizeof(text) - n, "port", rule->port_lo, rule->port_hi);
	if (!n)
		n += (size_t)snprintf(text, sizeof(text), "everything ");
	snprintf(text + n, sizeof(text) - n, "-> %s", action_name(r, rule->action, rule->stack));
	snprintf(out, size, "%s", text);
}

/* --- the decision ---------------------------------------------------------------------------------- */

bool rd_addr_is_kernels(const struct nst_addr *a)
{
	static const uint8_t loopback6[16] = { [15] = 1 };

	if (a->family == AF_INET)
		return (ntohl(a->v4) >> 24) == 127;
	return a->family == AF_INET6 && !memcmp(a->v6, loopback6, 16);
}

/* remote: known and loopback or unspecified (that means this machine); local: loopback */
bool rd_builtin_kernel(const struct nst_addr *local, const struct nst_addr *remote)
{
	if (remote && remote->family != AF_UNSPEC &&
	    (rd_addr_is_kernels(remote) || nst_addr_is_any(remote)))
		return true;
	return local && rd_addr_is_kernels(local);
}

bool rd_addr_known(const struct nst_addr *a)
{
	return a && a->family != AF_UNSPEC && !nst_addr_is_any(a);
}

static bool in_range(const struct nst_addr *a, uint16_t lo, uint16_t hi)
{
	uint16_t port;

	if (lo == 0 && hi == 65535)
		return true;
	if (!a || a->family == AF_UNSPEC || !a->port)
		return false;
	port = ntohs(a->port);
	return port >= lo && port <= hi;
}

static bool in_cgroup(const char *group, const char *path)
{
	size_t n = strlen(group);

	return !strcmp(group, "/") ? *path != 0 : !strncmp(path, group, n) && (!path[n] || path[n] == '/');
}

static bool is_who(const struct rd_rule *rule, const struct rd_who *who)
{
	if (!(rule->who & ~(RD_WHO_OWN | RD_WHO_SOURCE)))
		return true;
	if (!who)
		return false;
	return (!(rule->who & RD_WHO_PROGRAM) || !strcmp(rule->program, who->program)) &&
	       (!(rule->who & RD_WHO_USER) || rule->uid == who->uid) &&
	       (!(rule->who & RD_WHO_CGROUP) || in_cgroup(rule->cgroup, who->cgroup));
}

/* An unknown address is matched by rules that don't ask for it, and by no other. */
static bool rule_matches(const struct rd_rule *rule, const struct rd_who *who, uint8_t proto,
			 const struct nst_addr *local, const struct nst_addr *remote)
{
	if (rule->proto && rule->proto != proto)
		return false;
	if (rule->remote.family && !(rd_addr_known(remote) && prefix_has(&rule->remote, remote)))
		return false;
	if (rule->local.family && !(rd_addr_known(local) && prefix_has(&rule->local, local)))
		return false;
	return in_range(local, rule->port_lo, rule->port_hi) &&
	       in_range(remote, rule->rport_lo, rule->rport_hi) && (!rule->who || is_who(rule, who));
}

struct rd_verdict rd_rules_lookup(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
				  const struct nst_addr *local, const struct nst_addr *remote)
{
	if (rd_builtin_kernel(local, remote))
		return (struct rd_verdict){ RD_KERNEL, 0, RD_BY_BUILTIN };
	for (uint32_t i = 0; i < r->n; i++) {
		if (rule_matches(&r->rule[i], who, proto, local, remote))
			return (struct rd_verdict){ r->rule[i].action, r->rule[i].stack, (int16_t)i };
	}
	return (struct rd_verdict){ r->default_action, r->default_stack, RD_BY_DEFAULT };
}

/* Whatever the peer is? */
static bool every_peer(const struct rd_rule *rule)
{
	return !rule->remote.family && rule->rport_lo == 0 && rule->rport_hi == 65535;
}

/* Every address of the socket, given that the rule concerns it? */
static bool all_local(const struct rd_rule *rule, const struct nst_addr *local)
{
	/* an IPv6 wildcard may have IPv4 addresses, too */
	return rd_addr_known(local) || (!rule->local.len && local->family == AF_INET);
}

/* Can it be about connections to that port? */
static bool concerns(const struct rd_rule *rule, const struct rd_who *who, uint8_t proto,
		     const struct nst_addr *local)
{
	if ((rule->proto && rule->proto != proto) || !in_range(local, rule->port_lo, rule->port_hi))
		return false;
	if (rule->local.family && rd_addr_known(local) && !prefix_has(&rule->local, local))
		return false;
	if (local->family == AF_INET && (rule->local.family == AF_INET6 || rule->remote.family == AF_INET6))
		return false;
	return !rule->who || (every_peer(rule) && is_who(rule, who));
}

/* For the stack of that index. */
static struct rd_listen listen_by(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
				  const struct nst_addr *local, uint8_t stack)
{
	bool others = false; /* there was one that the steering program has */

	if (rd_builtin_kernel(local, NULL))
		return (struct rd_listen){ 0 };
	for (uint32_t i = 0; i < r->n; i++) {
		const struct rd_rule *rule = &r->rule[i];
		bool some = rule->local.family && !all_local(rule, local);

		if (!concerns(rule, who, proto, local))
			continue;
		if (rule->action == RD_STACK && rule->stack == stack)
			return (struct rd_listen){ .stack = true, .exempt = rule->who && !others && !some };
		/* somebody else's for every peer and every address of this socket: nothing is left */
		if (every_peer(rule) && !some)
			return (struct rd_listen){ 0 };
		others |= !rule->who;
	}
	return (struct rd_listen){ .stack = r->default_action == RD_STACK && r->default_stack == stack };
}

struct rd_listen rd_rules_listen(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
				 const struct nst_addr *local)
{
	return listen_by(r, who, proto, local, 0);
}

bool rd_rules_may_name(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
		       const struct nst_addr *local, const char *name)
{
	for (uint32_t i = 0; i < r->stacks.n; i++)
		if (!strcmp(r->stacks.name[i], name))
			return listen_by(r, who, proto, local, (uint8_t)i).stack;
	return false;
}
