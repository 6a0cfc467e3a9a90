/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config_read.c - text becomes a configuration, by the table of keys
 *
 * Pure functions on the caller's data; any thread. Not here: what the keys do.
 */
#define _GNU_SOURCE
#include <rd/config_internal.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <rd/log.h>
#include <rd/modules.h>
#include <rd/rules.h>
#include <rd/rules_internal.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; int sig; } signals[] = {
	{ "none", 0 }, { "SIGHUP", SIGHUP }, { "SIGUSR1", SIGUSR1 }, { "SIGUSR2", SIGUSR2 },
	{ "SIGWINCH", SIGWINCH }, { "SIGURG", SIGURG },
};
#define N_SIGNALS (sizeof(signals) / sizeof(signals[0]))

void rd_config_free(struct ns_config *c)
{
	if (!c)
		return;
	if (c->modules)
		rd_modules_clear(c->modules);
	free(c->modules);
	free(c->module_config);
	free(c->rules_path);
	free(c->prefixes);
	free(c->rules);
	free(c->faults);
	free(c->dump);
	free(c->log_path);
	free(c->daemon.access);
	for (uint32_t i = 0; i < c->dpdk.n_devices; i++)
		free(c->dpdk.devices[i]);
	free(c->dpdk.eal);
	free(c->source);
	free(c);
}

/* --- reading one value --------------------------------------------------------------------- */

static const char *type_name(const cJSON *v)
{
	return cJSON_IsString(v) ? "a string" : cJSON_IsNumber(v) ? "a number" :
	       cJSON_IsBool(v) ? "true or false" : cJSON_IsNull(v) ? "null" :
	       cJSON_IsArray(v) ? "a list" : "an object";
}

static int wrong_type(const struct json_doc *d, const struct config_key *k, const cJSON *v,
		      const char *want, char *err)
{
	return json_error(d, v, err, "\"%s\" must be %s, not %s", k->name, want, type_name(v));
}

int rd_config_size(const cJSON *v, uint64_t *out)
{
	const char *s = v->valuestring;
	unsigned shift = 0;
	int64_t n;
	char *end;

	if (cJSON_IsNumber(v)) {
		if (json_int(v, 0, INT64_MAX / 2, &n))
			return -EINVAL;
		*out = (uint64_t)n;
		return 0;
	}
	if (!cJSON_IsString(v) || !isdigit((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	*out = strtoull(s, &end, 10);
	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	end += shift != 0;
	if (errno || *end || *out > UINT32_MAX)
		return -EINVAL;
	*out <<= shift;
	return 0;
}

static int read_number(const struct json_doc *d, const struct config_key *k, const cJSON *v, uint32_t *out,
		       char *err)
{
	const char *unit = k->unit ? k->unit : "";
	const char *gap = k->unit ? " " : "";
	const char *want = k->type == T_SIZE ? "a number of bytes (also \"256K\", \"4M\")" : "a whole number";
	int64_t n;

	if (k->type == T_SIZE ? rd_config_size(v, (uint64_t *)&n) :
				json_int(v, -INT64_MAX / 2, INT64_MAX / 2, &n))
		return !cJSON_IsNumber(v) ? wrong_type(d, k, v, want, err) :
		       json_error(d, v, err, "\"%s\" must be %s, not %.15g", k->name, want, v->valuedouble);
	if (n < k->min || n > k->max)
		return json_error(d, v, err, "\"%s\" is %lld%s%s, but must be between %u and %u",
				  k->name, (long long)n, gap, unit, k->min, k->max);
	if (k->type == T_POW2 && (n & (n - 1)))
		return json_error(d, v, err, "\"%s\" is %lld, but must be a power of two", k->name,
				  (long long)n);
	if (k->type == T_SIZE) {
		while (n & (n - 1))
			n = (n | (n - 1)) + 1;
	}
	*out = (uint32_t)n;
	return 0;
}

static const char *word_at(const void *arg, unsigned i)
{
	return ((const char *const *)arg)[i];
}

static int read_word(const struct json_doc *d, const struct config_key *k, const cJSON *v, unsigned *out,
		     char *err)
{
	char all[128] = "";
	const char *near;
	unsigned n;

	if (!cJSON_IsString(v))
		return wrong_type(d, k, v, "a string", err);
	for (n = 0; k->words[n]; n++) {
		if (!strcmp(k->words[n], v->valuestring)) {
			*out = n;
			return 0;
		}
		strncat(all, n ? ", " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, k->words[n], sizeof(all) - strlen(all) - 1);
	}
	near = json_nearest(v->valuestring, word_at, k->words, n);
	return json_error(d, v, err, "\"%s\": \"%.40s\" is not one of %s%s%s%s", k->name,
			  v->valuestring, all, near ? "; did you mean \"" : "", near ? near : "",
			  near ? "\"?" : "");
}

static int read_ifs(const struct json_doc *d, const struct config_key *k, const cJSON *v,
		    struct ns_config *c, char *err)
{
	const cJSON *i;

	if (!cJSON_IsArray(v))
		return wrong_type(d, k, v, "a list of interface names", err);
	cJSON_ArrayForEach(i, v) {
		if (!cJSON_IsString(i) || !i->valuestring[0] ||
		    strlen(i->valuestring) >= IF_NAMESIZE || strpbrk(i->valuestring, "/ \t\n"))
			return json_error(d, i, err, "\"interfaces\": this is not an interface name");
		if (c->n_interfaces == NS_CONFIG_IFS)
			return json_error(d, i, err, "\"interfaces\": at most %d", NS_CONFIG_IFS);
		strcpy(c->interfaces[c->n_interfaces++], i->valuestring);
	}
	return 0;
}

static int read_devices(const struct json_doc *d, const struct config_key *k, const cJSON *v,
			struct ns_dpdk_config *c, char *err)
{
	const cJSON *i;

	if (!cJSON_IsArray(v))
		return wrong_type(d, k, v, "a list of devices", err);
	cJSON_ArrayForEach(i, v) {
		if (!cJSON_IsString(i) || !i->valuestring[0])
			return json_error(d, i, err, "\"%s\": this is not the name of a device", k->name);
		if (c->n_devices == NS_CONFIG_IFS)
			return json_error(d, i, err, "\"%s\": at most %d", k->name, NS_CONFIG_IFS);
		c->devices[c->n_devices] = strdup(i->valuestring);
		if (!c->devices[c->n_devices])
			return -ENOMEM;
		c->n_devices++;
	}
	return 0;
}

/* A name in the configuration is relative to the configuration's own folder. */
static char *path_beside(const struct json_doc *d, const char *path)
{
	const char *slash = strrchr(d->name, '/');
	char *out;

	if (path[0] == '/' || !slash)
		return strdup(path);
	if (asprintf(&out, "%.*s/%s", (int)(slash - d->name), d->name, path) < 0)
		return NULL;
	return out;
}

static int read_rules(const struct json_doc *d, const struct config_key *k, const cJSON *v,
		      struct ns_config *c, char *err)
{
	if (cJSON_IsNull(v))
		return 0;
	free(c->rules);
	c->rules = calloc(1, sizeof(*c->rules));
	if (!c->rules)
		return -ENOMEM;
	if (!cJSON_IsString(v)) {
		if (!cJSON_IsArray(v) && !cJSON_IsObject(v))
			return wrong_type(d, k, v, "a list of rules or a file name", err);
		return rd_rules_from_json(d, v, c->rules, err);
	}
	free(c->rules_path);
	c->rules_path = path_beside(d, v->valuestring);
	if (!c->rules_path)
		return -ENOMEM;
	return rd_rules_load(c->rules_path, c->rules, err);
}

static struct rd_modules *modules_of(struct ns_config *c)
{
	if (!c->modules)
		c->modules = calloc(1, sizeof(*c->modules));
	return c->modules;
}

static const char *signal_at(const void *arg, unsigned i)
{
	return signals[i].name;
}

static int read_signal(const struct json_doc *d, const struct config_key *k, const cJSON *v, int *out,
		       char *err)
{
	const char *near;

	if (!cJSON_IsString(v))
		return wrong_type(d, k, v, "a signal's name", err);
	for (unsigned i = 0; i < N_SIGNALS; i++) {
		if (!strcmp(signals[i].name, v->valuestring)) {
			*out = signals[i].sig;
			return 0;
		}
	}
	near = json_nearest(v->valuestring, signal_at, NULL, N_SIGNALS);
	return json_error(d, v, err, "\"%s\": \"%.20s\" can't be used%s%s%s", k->name, v->valuestring,
			  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int read_value(const struct json_doc *d, const struct config_key *k, const cJSON *v,
		      struct ns_config *c, char *err)
{
	void *field = (char *)c + k->off;
	unsigned word;
	int ret;

	switch (k->type) {
	case T_U32:
	case T_SIZE:
	case T_POW2:
		return read_number(d, k, v, field, err);
	case T_BOOL:
		if (!cJSON_IsBool(v))
			return wrong_type(d, k, v, "true or false", err);
		*(bool *)field = cJSON_IsTrue(v);
		return 0;
	case T_FLAG:
		if (!cJSON_IsBool(v))
			return wrong_type(d, k, v, "true or false", err);
		*(int *)field = cJSON_IsTrue(v);
		return 0;
	case T_ENUM:
		ret = read_word(d, k, v, &word, err);
		if (!ret)
			memcpy(field, &word, sizeof(word));
		return ret;
	case T_WORD:
		ret = read_word(d, k, v, &word, err);
		if (!ret)
			snprintf(field, k->min, "%s", k->words[word]);
		return ret;
	case T_LEVEL:
		if (!cJSON_IsString(v))
			return wrong_type(d, k, v, "a string", err);
		*(int *)field = ns_log_level_parse(v->valuestring);
		if (*(int *)field >= 0)
			return 0;
		return json_error(d, v, err, "\"log.level\": \"%.20s\" is not one of OFF, EMG, ERR, "
				  "WAR, INF, DBG", v->valuestring);
	case T_TEXT:
	case T_PATH:
		if (cJSON_IsNull(v))
			return 0;
		if (!cJSON_IsString(v))
			return wrong_type(d, k, v, "a string", err);
		free(*(char **)field);
		*(char **)field = k->type == T_PATH ? path_beside(d, v->valuestring) :
				  strdup(v->valuestring);
		return *(char **)field ? 0 : -ENOMEM;
	case T_IFS:
		return read_ifs(d, k, v, c, err);
	case T_DEVICES:
		return read_devices(d, k, v, field, err);
	case T_RULES:
		return read_rules(d, k, v, c, err);
	case T_STACKS:
		return modules_of(c) ? rd_modules_from_json(d, v, c->modules, err) : -ENOMEM;
	case T_SIGNAL:
		return read_signal(d, k, v, field, err);
	case T_LABEL:
		if (!cJSON_IsString(v) || !ns_label_ok(v->valuestring))
			return json_error(d, v, err, "\"label\" must have 1 to %u characters, no space among them",
					  NS_LABEL - 1);
		strcpy(field, v->valuestring);
		return 0;
	case T_WORKERS:
		return ns_daemon_read_workers(d, v, &c->daemon, err);
	case T_SPIN:
		return ns_daemon_read_spin(d, v, &c->daemon, err);
	case T_ACCESS:
		return ns_daemon_read_access(d, v, &c->daemon, err);
	}
	return -EINVAL;
}

/* --- objects ------------------------------------------------------------------------------- */

static const char *key_at(const void *arg, unsigned i)
{
	return config_keys[i].name;
}

/* For a key on the wrong level: "init_cwnd" is near "tcp.init_cwnd". */
static const char *key_nearest(const char *full)
{
	const char *last = strrchr(full, '.'), *dot;

	last = last ? last + 1 : full;
	for (unsigned i = 0; i < config_nkeys; i++) {
		dot = strrchr(config_keys[i].name, '.');
		if (!strcmp(dot ? dot + 1 : config_keys[i].name, last))
			return config_keys[i].name;
	}
	return json_nearest(full, key_at, NULL, config_nkeys);
}

static bool is_section(const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < config_nkeys; i++) {
		if (!strncmp(config_keys[i].name, name, len) && config_keys[i].name[len] == '.')
			return true;
	}
	return false;
}

static int unknown_key(const struct json_doc *d, const cJSON *v, const char *full, char *err)
{
	const char *near = key_nearest(full);

	if (near)
		return json_error(d, v, err, "unknown key \"%.60s\"; did you mean \"%s\"?", full, near);
	return json_error(d, v, err, "unknown key \"%.60s\"", full);
}

static int read_object(const struct json_doc *d, const char *section, const cJSON *o,
		       struct ns_config *c, uint64_t *seen, char *err)
{
	char full[96];
	const cJSON *v;
	unsigned i;
	int ret;

	cJSON_ArrayForEach(v, o) {
		snprintf(full, sizeof(full), "%s%s%s", section, section[0] ? "." : "", v->string);
		for (i = 0; i < config_nkeys && strcmp(config_keys[i].name, full); i++)
			;
		if (i < config_nkeys) {
			if (*seen & (1ull << i))
				return json_error(d, v, err, "\"%s\" is here for the second time", full);
			*seen |= 1ull << i;
			ret = read_value(d, &config_keys[i], v, c, err);
		} else if (!section[0] && is_section(full) && strchr(full, '.') == NULL) {
			if (!cJSON_IsObject(v))
				return json_error(d, v, err, "\"%s\" must be an object, not %s", full,
						  type_name(v));
			ret = read_object(d, full, v, c, seen, err);
		} else {
			ret = unknown_key(d, v, full, err);
		}
		if (ret)
			return ret;
	}
	return 0;
}

/* Conditions between keys. */
static int check_whole(const struct json_doc *d, const struct ns_config *c, char *err)
{
	if (c->hal == NS_HAL_DPDK && !c->dpdk.n_devices)
		return json_error(d, cJSON_GetObjectItemCaseSensitive(d->root, "hal"), err,
				  "\"hal\": dpdk needs to be told which: \"dpdk\": { \"devices\": [...] }");
	if (c->hal == NS_HAL_DPDK && c->n_interfaces > c->dpdk.n_devices)
		return json_error(d, cJSON_GetObjectItemCaseSensitive(d->root, "interfaces"), err,
				  "\"interfaces\": %u names for the TAPs of %u DPDK devices", c->n_interfaces,
				  c->dpdk.n_devices);
	if (c->hal == NS_HAL_DPDK && c->daemon.workers > 1)
		return json_error(d, cJSON_GetObjectItemCaseSensitive(d->root, "daemon"), err,
				  "\"daemon.workers\": a DPDK device belongs to one process, so one worker");
	return 0;
}

int config_read_modules(struct ns_config *c, char *err)
{
	const char *name;
	int ret = modules_of(c) ? rd_modules_load(c->module_config, c->modules, err) : -ENOMEM;

	name = ret ? "" : c->modules->default_stack;
	if (ret || !name[0] || (c->rules && c->rules->default_given))
		return ret;
	if (!c->rules) {
		c->rules = malloc(sizeof(*c->rules));
		if (!c->rules)
			return -ENOMEM;
		rd_rules_init(c->rules);
	}
	return rd_action_parse(&c->rules->stacks, name, &c->rules->default_action, &c->rules->default_stack);
}

int config_from_doc(const struct json_doc *d, struct ns_config **out, uint64_t *seen, char *err)
{
	struct ns_config *c = malloc(sizeof(*c));
	int ret = -ENOMEM;

	if (!c)
		return -ENOMEM;
	*c = config_defaults;
	c->source = strdup(d->name);
	if (!c->source)
		goto fail;
	if (!cJSON_IsObject(d->root)) {
		ret = json_error(d, d->root, err, "a configuration is an object: { \"key\": value, ... }");
		goto fail;
	}
	*seen = 0;
	ret = read_object(d, "", d->root, c, seen, err);
	if (!ret)
		ret = check_whole(d, c, err);
	if (!ret && c->module_config)
		ret = config_read_modules(c, err);
	if (ret)
		goto fail;
	*out = c;
	return 0;
fail:
	rd_config_free(c);
	return ret;
}

int rd_config_parse(const char *text, size_t len, const char *name, struct ns_config **out,
		    char err[RD_ERR])
{
	struct json_doc d;
	uint64_t seen;
	int ret = json_parse(&d, text, len, name, err);

	*out = NULL;
	if (!ret)
		ret = config_from_doc(&d, out, &seen, err);
	if (ret && !err[0])
		snprintf(err, RD_ERR, "%s: %s", name, strerror(-ret));
	json_free(&d);
	return ret;
}

int rd_config_load(const char *path, struct ns_config **out, char err[RD_ERR])
{
	struct json_doc d;
	uint64_t seen;
	int ret = json_load(&d, path, err);

	*out = NULL;
	if (!ret)
		ret = config_from_doc(&d, out, &seen, err);
	if (ret && !err[0])
		snprintf(err, RD_ERR, "%s: %s", path, strerror(-ret));
	json_free(&d);
	return ret;
}
