/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config.c - the process's configuration, and changes of it
 *
 * Threads: see config.h; the only state is the process's configuration, set once by rd_config_init().
 */
#define _GNU_SOURCE
#include <rd/config_internal.h>

#include <errno.h>
#include <rd/log.h>
#include <rd/modules.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <string.h>

/* --- changes --------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_devices(const struct ns_dpdk_config *a, const struct ns_dpdk_config *b)
{
	bool same = a->n_devices == b->n_devices;

	for (uint32_t i = 0; same && i < a->n_devices; i++)
		same = !strcmp(a->devices[i], b->devices[i]);
	return same;
}

static bool same_module(const struct rd_module *a, const struct rd_module *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->function, b->function) && same_text(a->library, b->library) &&
	       same_text(a->options, b->options) && a->deploy == b->deploy && a->ep_free_ref == b->ep_free_ref &&
	       a->priority == b->priority && a->minfd == b->minfd && a->maxfd == b->maxfd;
}

/* NULL: none. */
static bool same_modules(const struct rd_modules *a, const struct rd_modules *b)
{
	uint32_t n = a ? a->n : 0;
	bool same = n == (b ? b->n : 0);

	for (uint32_t i = 0; same && i < n; i++)
		same = same_module(&a->m[i], &b->m[i]);
	return same;
}

static bool same_value(const struct config_key *k, const struct ns_config *a, const struct ns_config *b)
{
	const void *x = (const char *)a + k->off, *y = (const char *)b + k->off;

	switch (k->type) {
	case T_TEXT:
	case T_PATH:
		return same_text(*(char *const *)x, *(char *const *)y);
	case T_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case T_WORD:
	case T_LABEL:
		return !strcmp(x, y);
	case T_IFS:
		return a->n_interfaces == b->n_interfaces &&
		       !memcmp(a->interfaces, b->interfaces, sizeof(a->interfaces));
	case T_WORKERS:
		return a->daemon.workers == b->daemon.workers &&
		       !memcmp(a->daemon.core, b->daemon.core, a->daemon.workers * sizeof(int));
	case T_DEVICES:
		return same_devices(x, y);
	case T_STACKS:
		return same_modules(a->modules, b->modules);
	case T_RULES:
	case T_ACCESS:
		return true;
	case T_U32:
	case T_SIZE:
	case T_POW2:
	case T_ENUM:
	case T_SIGNAL:
	case T_LEVEL:
	case T_FLAG:
	case T_SPIN:
		return *(const uint32_t *)x == *(const uint32_t *)y;
	}
	return false;
}

void rd_config_fixed_changes(const struct ns_config *a, const struct ns_config *b, char *out, size_t size)
{
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < config_nkeys && n < size; i++)
		if (!config_key_soft(&config_keys[i]) && !same_value(&config_keys[i], a, b))
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", config_keys[i].name);
}

/* --- the process's configuration ------------------------------------------------------------ */

static const struct ns_config *current = &config_defaults; /* atomic: rd_config_change() exchanges it once */
static struct ns_config *soft; /* what it is from then on */
/* What it was: readers may have it for ever. (used: leak checkers look for it here.) */
static const struct ns_config *initial __attribute__((used));
static char first_err[RD_ERR];
static int first_ret = 1; /* 1: not yet initialised */

/* DMM's ways to name a rule file, for a configuration that has no rules, and the file of its stacks, whose
 * default is for where no rule decides. */
static int rules_by_environment(struct ns_config *c, char *err)
{
	const char *path = getenv("NSTACK_MOD_CFG_RD");

	if (!path || !path[0] || c->rules)
		return 0;
	c->rules_path = strdup(path);
	c->rules = calloc(1, sizeof(*c->rules));
	return c->rules_path && c->rules ? rd_rules_load(path, c->rules, err) : -ENOMEM;
}

static int modules_by_environment(struct ns_config *c, char *err)
{
	const char *path = getenv("NSTACK_MOD_CFG_FILE");

	if (!path || !path[0] || c->module_config)
		return 0;
	c->module_config = strdup(path);
	return c->module_config ? config_read_modules(c, err) : -ENOMEM;
}

static int dmm_by_environment(struct ns_config **c, char *err)
{
	int ret = 0;

	if (!getenv("NSTACK_MOD_CFG_RD") && !getenv("NSTACK_MOD_CFG_FILE"))
		return 0;
	if (!*c)
		ret = rd_config_parse("{}", 2, "defaults", c, err);
	if (!ret)
		ret = rules_by_environment(*c, err);
	if (!ret)
		ret = modules_by_environment(*c, err);
	if (ret) {
		rd_config_free(*c);
		*c = NULL;
	}
	return ret;
}

/* *c stays NULL where nothing is said. */
static int by_environment(struct ns_config **c, char *err)
{
	const char *value = getenv("NSTACK_CONFIG");
	int ret = 0;

	if (value && value[strspn(value, " \t\n")] == '{')
		ret = rd_config_parse(value, strlen(value), "NSTACK_CONFIG", c, err);
	else if (value && value[0])
		ret = rd_config_load(value, c, err);
	return ret ? ret : dmm_by_environment(c, err);
}

int rd_config_again(struct ns_config **out, char err[RD_ERR])
{
	int ret;

	*out = NULL;
	ret = by_environment(out, err);
	return ret || *out ? ret : rd_config_parse("{}", 2, config_defaults.source, out, err);
}

int rd_config_init(char err[RD_ERR])
{
	struct ns_config *c = NULL;

	if (first_ret == 1) {
		first_ret = by_environment(&c, first_err);
		if (c)
			current = c;
	}
	snprintf(err, RD_ERR, "%s", first_err);
	return first_ret;
}

const struct ns_config *rd_config(void)
{
	/* acquire: pairs config.current - the copy is whole */
	return __atomic_load_n(&current, __ATOMIC_ACQUIRE);
}

static void *field_of(const struct config_key *k, const struct ns_config *c)
{
	return (char *)c + k->off;
}

/* Readers may look at it at the same time; they see the old number or the new one. */
static void soft_store(const struct config_key *k, const struct ns_config *from)
{
	switch (k->type) {
	case T_BOOL:
		__atomic_store_n((bool *)field_of(k, soft), *(bool *)field_of(k, from), __ATOMIC_RELAXED);
		break;
	case T_WORD: /* readers have the worker lock, too */
		memcpy(field_of(k, soft), field_of(k, from), k->min);
		break;
	case T_LEVEL:
		__atomic_store_n((int *)field_of(k, soft), *(int *)field_of(k, from), __ATOMIC_RELAXED);
		ns_log_set_level(NS_M_NR_, (enum ns_log_level)*(int *)field_of(k, from));
		break;
	default:
		__atomic_store_n((uint32_t *)field_of(k, soft), *(uint32_t *)field_of(k, from), __ATOMIC_RELAXED);
	}
}

static int soft_only(const struct json_doc *d, uint64_t seen, char *err)
{
	for (unsigned i = 0; i < config_nkeys; i++) {
		if (seen & (1ull << i) && !config_key_soft(&config_keys[i]))
			return json_error(d, d->root, err, "\"%s\" has effect only when the program starts",
					  config_keys[i].name);
	}
	return 0;
}

static int soft_init(void)
{
	if (soft)
		return 0;
	soft = malloc(sizeof(*soft));
	if (!soft)
		return -ENOMEM;
	initial = current;
	*soft = *initial;
	/* release: pairs config.current */
	__atomic_store_n(&current, soft, __ATOMIC_RELEASE);
	return 0;
}

int rd_config_change(const char *text, size_t len, const char *name, char err[RD_ERR])
{
	struct json_doc d;
	struct ns_config *c = NULL;
	uint64_t seen = 0;
	int ret = json_parse(&d, text, len, name, err);

	if (!ret)
		ret = config_from_doc(&d, &c, &seen, err);
	if (!ret)
		ret = soft_only(&d, seen, err);
	if (!ret)
		ret = soft_init();
	for (unsigned i = 0; i < config_nkeys && !ret; i++) {
		if (seen & (1ull << i))
			soft_store(&config_keys[i], c);
	}
	if (ret && !err[0])
		snprintf(err, RD_ERR, "%s", strerror(-ret));
	rd_config_free(c);
	json_free(&d);
	return ret;
}

int rd_config_change_to(const struct ns_config *c)
{
	bool level = c->log_level != rd_config()->log_level;
	int ret = soft_init();

	for (unsigned i = 0; i < config_nkeys && !ret; i++) {
		if (config_key_soft(&config_keys[i]) && config_keys[i].type != T_LEVEL)
			soft_store(&config_keys[i], c);
	}
	if (ret || !level)
		return ret;
	__atomic_store_n(&soft->log_level, c->log_level, __ATOMIC_RELAXED);
	ns_log_init(soft); /* it may be the environment's again */
	return 0;
}

bool rd_config_has_if(const struct ns_config *c, const char *ifname)
{
	for (uint32_t i = 0; i < c->n_interfaces; i++) {
		if (!strcmp(c->interfaces[i], ifname))
			return true;
	}
	return c->n_interfaces == 0;
}
