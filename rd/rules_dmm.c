/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules_dmm.c - rules as DMM's rd_config.json has them
 *
 * All generations are read:
 *	2018, 2019: { "ip_route": [{ "subnet": P, "type": PLANE }], "prot_route": [{ "proto_type": T, "type": PLANE }] }
 *	later:      "stack_name" instead of "type"
 *	DMM-2:      { "modules": [{ "name": STACK, "ip_route": [P or { "subnet": P }],
 *	              "type_route": [T], "protocol_route": [T or { "value": T }] }] }
 * P: an IPv4 or IPv6 prefix; T: the socket's type (1: a stream, 2: datagrams) or "tcp", "udp"; a type that
 * nobody serves (3: raw, ...) is the kernel's anyway.
 *
 * What they mean here: DMM looks at the address that connect() or bind() is given. So a prefix decides
 * for the local address where that is known, which it is for what a listener gets and is not for a
 * connect() without bind(); else for the peer. The longest one wins; then comes the type; then the
 * default. Empty lists are fine.
 *
 * Planes are other names for stacks. "planes": { NAME: STACK } in the same file adds some.
 */
#include <rd/rules.h>

#include <errno.h>
#include <netinet/in.h>
#include <rd/rules_internal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct file {
	const struct json_doc *d;
	const cJSON *planes;
	struct rd_rules *out;
	char *err;
};

static const struct plane {
	const char *name, *stack;
} known_planes[] = {
	{ "nstack-linux", "kernel" }, { "nstack-kernel", "kernel" },   { "linux", "kernel" },
	{ "nstack-dpdk", "tcpip" },   { "stackx", "tcpip" },           { "stackpool", "tcpip" },
};

static const char *stack_of(const struct file *f, const char *name)
{
	const cJSON *own = f->planes ? cJSON_GetObjectItemCaseSensitive(f->planes, name) : NULL;

	return cJSON_IsString(own) ? own->valuestring : rd_dmm_stack(name);
}

const char *rd_dmm_stack(const char *name)
{
	for (size_t i = 0; i < sizeof(known_planes) / sizeof(known_planes[0]); i++)
		if (!strcmp(name, known_planes[i].name))
			return known_planes[i].stack;
	/* "nstack-vpp", "nstack-rsocket", ... */
	return strncmp(name, "nstack-", 7) ? name : name + 7;
}

static int action(const struct file *f, const cJSON *at, const char *name, struct rd_rule *rule)
{
	int ret = rd_action_parse(&f->out->stacks, stack_of(f, name), &rule->action, &rule->stack);

	if (ret == -E2BIG)
		return json_error(f->d, at, f->err, "more than %u different stacks", RD_STACKS_MAX);
	return ret ? json_error(f->d, at, f->err, "\"%.40s\" is no plane and no stack's name", name) : 0;
}

static int add(const struct file *f, const cJSON *at, struct rd_rule *rule)
{
	rule->line = json_line(f->d, at);
	return rd_rules_add(f->out, rule) ? rd_rules_too_many(f->d, at, f->err) : 0;
}

/* --- one route ----------------------------------------------------------------------------------- */

static int ip_rule(const struct file *f, const cJSON *at, const cJSON *subnet, const char *stack)
{
	struct rd_rule peer = RD_RULE_ANY, local = RD_RULE_ANY;
	int ret;

	if (!cJSON_IsString(subnet) || rd_prefix_parse(subnet->valuestring, &peer.remote) ||
	    !peer.remote.family)
		return json_error(f->d, at, f->err, "\"subnet\" must be a prefix such as \"198.18.0.0/15\"");
	ret = action(f, at, stack, &peer);
	if (!ret)
		ret = add(f, at, &peer);
	local.priority--;
	local.local = peer.remote;
	local.action = peer.action;
	local.stack = peer.stack;
	return ret ? ret : add(f, at, &local);
}

uint8_t rd_dmm_proto(unsigned type)
{
	type &= ~(unsigned)(SOCK_NONBLOCK | SOCK_CLOEXEC);
	return type == SOCK_STREAM ? IPPROTO_TCP : type == SOCK_DGRAM ? IPPROTO_UDP : 0;
}

/* The protocol of a socket type, or of a name; 0: one that only the kernel serves; -1: neither. */
static int proto_of(const cJSON *v)
{
	const char *s = cJSON_IsString(v) ? v->valuestring : "";
	char *end;
	long n;

	if (!strcmp(s, "tcp") || !strcmp(s, "udp"))
		return *s == 't' ? IPPROTO_TCP : IPPROTO_UDP;
	if (!strcmp(s, "icmp") || !strcmp(s, "raw"))
		return 0;
	n = cJSON_IsNumber(v) ? (long)v->valuedouble : strtol(s, &end, 10);
	if (!cJSON_IsNumber(v) && (!*s || *end))
		return -1;
	return n < 0 ? -1 : rd_dmm_proto((unsigned)n);
}

static int type_rule(const struct file *f, const cJSON *at, const cJSON *type, const char *stack)
{
	struct rd_rule rule = RD_RULE_ANY;
	int proto = proto_of(type), ret;

	if (proto < 0)
		return json_error(f->d, at, f->err, "the type must be a socket type (1: stream, 2: datagram), \"tcp\" "
				  "or \"udp\"");
	ret = action(f, at, stack, &rule);
	rule.proto = (uint8_t)proto;
	return ret || !proto ? ret : add(f, at, &rule);
}

/* --- lists ----------------------------------------------------------------------------------------- */

struct list {
	const char *name, *key; /* of the file, and what an entry calls its condition */
	int (*rule)(const struct file *f, const cJSON *at, const cJSON *condition, const char *stack);
};

static const struct list lists[] = {
	{ "ip_route", "subnet", ip_rule },
	{ "prot_route", "proto_type", type_rule },
	{ "type_route", "value", type_rule },
	{ "protocol_route", "value", type_rule },
};
#define N_LISTS (sizeof(lists) / sizeof(lists[0]))

/* stack: of the module that the list is in, or NULL: each entry names its own. */
static int entry(const struct file *f, const struct list *l, const cJSON *e, const char *stack)
{
	const cJSON *condition = e, *name = NULL;

	if (cJSON_IsObject(e)) {
		condition = cJSON_GetObjectItemCaseSensitive(e, l->key);
		name = cJSON_GetObjectItemCaseSensitive(e, "type");
		if (!cJSON_IsString(name))
			name = cJSON_GetObjectItemCaseSensitive(e, "stack_name");
	}
	if (!condition)
		return json_error(f->d, e, f->err, "this route has no \"%s\"", l->key);
	if (!stack && !cJSON_IsString(name))
		return json_error(f->d, e, f->err, "this route has no \"type\" (a plane) and no \"stack_name\"");
	return l->rule(f, e, condition, stack ? stack : name->valuestring);
}

static int read_lists(const struct file *f, const cJSON *o, const char *stack)
{
	int ret = 0;

	for (size_t i = 0; i < N_LISTS && !ret; i++) {
		const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, lists[i].name), *e;

		if (list && !cJSON_IsArray(list))
			return json_error(f->d, list, f->err, "\"%s\" must be a list", lists[i].name);
		cJSON_ArrayForEach(e, list) {
			ret = entry(f, &lists[i], e, stack);
			if (ret)
				break;
		}
	}
	return ret;
}

static int read_module(const struct file *f, const cJSON *m)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(m, "name");

	if (!cJSON_IsString(name))
		return json_error(f->d, m, f->err, "this module has no \"name\"");
	return read_lists(f, m, name->valuestring);
}

bool rd_rules_is_dmm(const cJSON *item)
{
	if (!cJSON_IsObject(item) || cJSON_GetObjectItemCaseSensitive(item, "rules"))
		return false;
	for (size_t i = 0; i < N_LISTS; i++)
		if (cJSON_GetObjectItemCaseSensitive(item, lists[i].name))
			return true;
	return cJSON_GetObjectItemCaseSensitive(item, "modules");
}

int rd_rules_from_dmm(const struct json_doc *d, const cJSON *item, struct rd_rules *out, char err[RD_ERR])
{
	struct file f = { d, cJSON_GetObjectItemCaseSensitive(item, "planes"), out, err };
	const cJSON *modules = cJSON_GetObjectItemCaseSensitive(item, "modules"), *m;
	int ret = read_lists(&f, item, NULL);

	if (!ret && modules && !cJSON_IsArray(modules))
		ret = json_error(d, modules, err, "\"modules\" must be a list");
	cJSON_ArrayForEach(m, modules) {
		if (ret)
			break;
		ret = read_module(&f, m);
	}
	rd_rules_sort(out);
	return ret;
}
