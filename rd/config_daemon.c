/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config_daemon.c - reading the section "daemon"
 *
 * Names of users and groups are looked up by the daemon: a program may not know them.
 */
#define _GNU_SOURCE
#include <rd/config_daemon.h>

#include <errno.h>
#include <rd/config.h>
#include <stdlib.h>
#include <string.h>

#define CORES_MAX 1023
#define SPIN_MAX_US 1000000

bool ns_label_ok(const char *label)
{
	size_t n = 0;

	for (; label[n]; n++)
		if (label[n] <= ' ' || label[n] > '~')
			return false;
	return n > 0 && n < NS_LABEL;
}

int ns_daemon_read_workers(const struct json_doc *d, const cJSON *v, struct ns_daemon_config *c,
			   char err[JSON_ERR])
{
	int n = cJSON_GetArraySize(v);
	const cJSON *i;
	int64_t value;

	c->workers = 0;
	if (cJSON_IsNumber(v) && !json_int(v, 1, NS_WORKERS_MAX, &value)) {
		for (c->workers = (uint32_t)value, n = 0; n < (int)NS_WORKERS_MAX; n++)
			c->core[n] = -1;
		return 0;
	}
	if (!cJSON_IsArray(v) || n < 1 || n > (int)NS_WORKERS_MAX)
		return json_error(d, v, err, "\"daemon.workers\" must be a number or a list of cores, 1 to %u",
				  NS_WORKERS_MAX);
	cJSON_ArrayForEach(i, v) {
		if (json_int(i, 0, CORES_MAX, &value))
			return json_error(d, i, err, "\"daemon.workers\": this is not the number of a core");
		c->core[c->workers++] = (int)value;
	}
	return 0;
}

int ns_daemon_read_spin(const struct json_doc *d, const cJSON *v, struct ns_daemon_config *c,
			char err[JSON_ERR])
{
	int64_t value;

	if (cJSON_IsString(v) && !strcmp(v->valuestring, "auto"))
		value = -1;
	else if (json_int(v, 0, SPIN_MAX_US, &value))
		return json_error(d, v, err, "\"daemon.spin_us\" must be \"auto\" or a number of us from 0 to %d",
				  SPIN_MAX_US);
	c->spin_us = (int32_t)value;
	return 0;
}

/* --- who may attach -------------------------------------------------------------------------- */

static const char *const per_words[] = { "program", "user", "label", "entry", NULL };

static int read_name(const struct json_doc *d, const cJSON *v, char *out, size_t size, char *err)
{
	if (!cJSON_IsString(v) || !v->valuestring[0] || strlen(v->valuestring) >= size)
		return json_error(d, v, err, "\"daemon.access\": \"%s\" must be a name of at most %zu characters",
				  v->string, size - 1);
	strcpy(out, v->valuestring);
	return 0;
}

static int read_label(const struct json_doc *d, const cJSON *v, char *out, char *err)
{
	if (!cJSON_IsString(v) || !ns_label_ok(v->valuestring))
		return json_error(d, v, err, "\"daemon.access\": \"label\" must have 1 to %u characters, "
				  "no space among them", NS_LABEL - 1);
	strcpy(out, v->valuestring);
	return 0;
}

static int read_per(const struct json_doc *d, const cJSON *v, enum ns_per *out, char *err)
{
	for (unsigned i = 0; cJSON_IsString(v) && per_words[i]; i++)
		if (!strcmp(per_words[i], v->valuestring)) {
			*out = (enum ns_per)i;
			return 0;
		}
	return json_error(d, v, err, "\"daemon.access\": \"per\" must be \"program\", \"user\", \"label\" or "
			  "\"entry\"");
}

static int read_limit(const struct json_doc *d, const cJSON *v, uint64_t *out, char *err)
{
	int64_t n;

	if (json_int(v, 1, UINT32_MAX, &n))
		return json_error(d, v, err, "\"daemon.access\": \"%s\" must be a whole number from 1 on", v->string);
	*out = (uint64_t)n;
	return 0;
}

static int read_member(const struct json_doc *d, const cJSON *v, struct ns_access *a, char *err)
{
	const char *key = v->string;

	if (!strcmp(key, "user"))
		return read_name(d, v, a->user, sizeof(a->user), err);
	if (!strcmp(key, "group"))
		return read_name(d, v, a->group, sizeof(a->group), err);
	if (!strcmp(key, "label"))
		return read_label(d, v, a->label, err);
	if (!strcmp(key, "per"))
		return read_per(d, v, &a->per, err);
	if (!strcmp(key, "programs"))
		return read_limit(d, v, &a->programs, err);
	if (!strcmp(key, "sockets"))
		return read_limit(d, v, &a->sockets, err);
	if (!strcmp(key, "ports"))
		return read_limit(d, v, &a->ports, err);
	if (!strcmp(key, "memory"))
		return rd_config_size(v, &a->memory) ?
		       json_error(d, v, err, "\"daemon.access\": \"memory\" must be a number of bytes (also "
				  "\"256K\", \"4M\")") : 0;
	if (strcmp(key, "allow"))
		return json_error(d, v, err, "\"daemon.access\": unknown key \"%.40s\"; there are user, group, "
				  "label, allow, per, programs, sockets, ports and memory", key);
	if (!cJSON_IsBool(v))
		return json_error(d, v, err, "\"daemon.access\": \"allow\" must be true or false");
	a->allow = cJSON_IsTrue(v);
	return 0;
}

int ns_daemon_read_access(const struct json_doc *d, const cJSON *v, struct ns_daemon_config *c,
			  char err[JSON_ERR])
{
	const cJSON *e, *m;
	int n = cJSON_GetArraySize(v), ret;

	if (!cJSON_IsArray(v) || n > (int)NS_ACCESS_MAX)
		return json_error(d, v, err, "\"daemon.access\" must be a list of at most %u entries", NS_ACCESS_MAX);
	free(c->access);
	c->n_access = 0;
	c->access = calloc((size_t)n + 1, sizeof(*c->access));
	if (!c->access)
		return -ENOMEM;
	cJSON_ArrayForEach(e, v) {
		struct ns_access *a = &c->access[c->n_access++];

		*a = (struct ns_access){ .allow = true, .programs = NS_NO_LIMIT, .sockets = NS_NO_LIMIT,
					 .ports = NS_NO_LIMIT, .memory = NS_NO_LIMIT };
		if (!cJSON_IsObject(e))
			return json_error(d, e, err, "\"daemon.access\": an entry is an object");
		cJSON_ArrayForEach(m, e) {
			ret = read_member(d, m, a, err);
			if (ret)
				return ret;
		}
	}
	return 0;
}
