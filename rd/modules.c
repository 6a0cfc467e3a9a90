/* SPDX-License-Identifier: Apache-2.0 */
/* rd/modules.c - reading the lists of plug-in stacks
 *
 * One reader for all forms: the table below says which field each name stands for. In files of DMM a
 * field that nobody knows is passed over, as it always was; in our own list it is an error.
 */
#define _GNU_SOURCE
#include <rd/modules.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <rd/json.h>
#include <stdlib.h>
#include <unistd.h>

enum field {
	F_NAME, F_FUNCTION, F_LIBRARY, F_LOAD, F_DEPLOY, F_MINFD, F_MAXFD, F_PRIORITY, F_ID,
	F_FREE_REF, F_DEFAULT, F_OPTIONS, F_NR_
};

/* The plain names come first: they are those of our own list. */
#define OWN_FIELDS 9
static const struct {
	const char *name;
	enum field field;
} fields[] = {
	{ "name", F_NAME }, { "register", F_FUNCTION }, { "library", F_LIBRARY },
	{ "deploy", F_DEPLOY }, { "min_fd", F_MINFD }, { "max_fd", F_MAXFD }, { "priority", F_PRIORITY },
	{ "ep_free_ref", F_FREE_REF }, { "options", F_OPTIONS },
	/* DMM's files and its manual */
	{ "stack_name", F_NAME }, { "modName", F_NAME }, { "function_name", F_FUNCTION },
	{ "registe_fn_name", F_FUNCTION }, { "register_fn_name", F_FUNCTION }, { "libname", F_LIBRARY },
	{ "libPath", F_LIBRARY }, { "loadtype", F_LOAD }, { "libtype", F_LOAD },
	{ "deploytype", F_DEPLOY }, { "minfd", F_MINFD }, { "minfdid", F_MINFD }, { "maxfd", F_MAXFD },
	{ "maxfdid", F_MAXFD }, { "priorty", F_PRIORITY }, { "stackid", F_ID }, { "modInx", F_ID },
	{ "default_stack", F_DEFAULT },
};
#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

/* --- values ------------------------------------------------------------------------------------ */

/* DMM writes numbers as strings. */
static int number_of(const struct json_doc *d, const cJSON *v, int64_t min, int64_t max, int64_t *out,
		     char *err)
{
	char *end = NULL;

	errno = 0;
	if (cJSON_IsString(v) && isdigit((unsigned char)v->valuestring[0]))
		*out = strtoll(v->valuestring, &end, 10);
	else if (json_int(v, min, max, out))
		*out = min - 1;
	if (errno || (end && *end) || *out < min || *out > max)
		return json_error(d, v, err, "\"%.40s\" must be a number between %lld and %lld", v->string,
				  (long long)min, (long long)max);
	return 0;
}

static int bool_of(const struct json_doc *d, const cJSON *v, bool *out, char *err)
{
	int64_t n = 0;

	if (!cJSON_IsBool(v) && number_of(d, v, 0, 1, &n, err))
		return json_error(d, v, err, "\"%.40s\" must be true or false", v->string);
	*out = cJSON_IsTrue(v) || n;
	return 0;
}

static int text_of(const struct json_doc *d, const cJSON *v, char *out, size_t size, char *err)
{
	if (!cJSON_IsString(v) || strlen(v->valuestring) >= size)
		return json_error(d, v, err, "\"%.40s\" must be a string of at most %zu characters",
				  v->string, size - 1);
	strcpy(out, v->valuestring);
	return 0;
}

/* "": linked in. A name is looked for beside the configuration, then where the loader looks. */
static int library_of(const struct json_doc *d, const cJSON *v, char **out, char *err)
{
	const char *s = cJSON_IsString(v) ? v->valuestring : NULL, *slash = strrchr(d->name, '/');
	char *beside;

	if (cJSON_IsNull(v))
		s = "";
	if (!s || strlen(s) >= PATH_MAX)
		return json_error(d, v, err, "\"%.40s\" must be the name of a library", v->string);
	free(*out);
	*out = NULL;
	if (!s[0] || !strcmp(s, "./"))
		return 0;
	if (s[0] != '/' && slash) {
		if (asprintf(&beside, "%.*s/%s", (int)(slash - d->name), d->name, s) < 0)
			return -ENOMEM;
		if (strchr(s, '/') || access(beside, F_OK) == 0) {
			*out = beside;
			return 0;
		}
		free(beside);
	}
	*out = strdup(s);
	return *out ? 0 : -ENOMEM;
}

/* --- one entry ----------------------------------------------------------------------------------- */

struct entry {
	struct rd_module m;
	bool seen[F_NR_], linked_in, is_default;
};

static int read_field(const struct json_doc *d, const cJSON *v, enum field f, struct entry *e, char *err)
{
	char word[16];
	int64_t n = 0;
	int ret;

	switch (f) {
	case F_NAME:
		return text_of(d, v, e->m.name, sizeof(e->m.name), err);
	case F_FUNCTION:
		return text_of(d, v, e->m.function, sizeof(e->m.function), err);
	case F_LIBRARY:
		return library_of(d, v, &e->m.library, err);
	case F_LOAD:
		ret = text_of(d, v, word, sizeof(word), err);
		e->linked_in = !ret && !strcmp(word, "static");
		if (ret || e->linked_in || !strcmp(word, "dynamic") || !strcmp(word, "dynmic"))
			return ret;
		return json_error(d, v, err, "\"%.40s\" must be \"static\" or \"dynamic\"", v->string);
	case F_DEPLOY:
		ret = number_of(d, v, 1, 4, &n, err);
		e->m.deploy = (uint8_t)n;
		return ret;
	case F_MINFD:
		ret = number_of(d, v, 0, INT32_MAX, &n, err);
		e->m.minfd = (int32_t)n;
		return ret;
	case F_MAXFD:
		ret = number_of(d, v, 0, INT32_MAX, &n, err);
		e->m.maxfd = (int32_t)n;
		return ret;
	case F_PRIORITY:
		ret = number_of(d, v, 0, INT32_MAX, &n, err);
		e->m.priority = (int32_t)n;
		return ret;
	case F_ID:
		ret = number_of(d, v, 0, RD_MODULES_MAX - 1, &n, err);
		e->m.id = (uint32_t)n;
		return ret;
	case F_FREE_REF:
		return bool_of(d, v, &e->m.ep_free_ref, err);
	case F_DEFAULT:
		return bool_of(d, v, &e->is_default, err);
	case F_OPTIONS:
		if (!cJSON_IsString(v))
			return json_error(d, v, err, "\"%.40s\" must be a string", v->string);
		e->m.options = strdup(v->valuestring);
		return e->m.options ? 0 : -ENOMEM;
	case F_NR_:
		break;
	}
	return -EINVAL;
}

static const char *field_at(const void *arg, unsigned i)
{
	return fields[i].name;
}

static int read_entry(const struct json_doc *d, const cJSON *o, bool own, struct entry *e, char *err)
{
	unsigned known = own ? OWN_FIELDS : N_FIELDS, i;
	const char *near;
	const cJSON *v;
	int ret;

	if (!cJSON_IsObject(o))
		return json_error(d, o, err, "a stack is an object: { \"name\": ..., \"library\": ... }");
	cJSON_ArrayForEach(v, o) {
		for (i = 0; i < known && strcmp(fields[i].name, v->string); i++)
			;
		if (i == known && !own)
			continue;
		if (i == known) {
			near = json_nearest(v->string, field_at, NULL, known);
			return json_error(d, v, err, "unknown key \"%.40s\"%s%s%s", v->string,
					  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
		}
		if (e->seen[fields[i].field])
			return json_error(d, v, err, "\"%.40s\" is here for the second time", v->string);
		e->seen[fields[i].field] = true;
		ret = read_field(d, v, fields[i].field, e, err);
		if (ret)
			return ret;
	}
	if (!e->m.name[0])
		return json_error(d, o, err, "this stack has no name");
	if (!e->m.function[0])
		snprintf(e->m.function, sizeof(e->m.function), "%s_stack_register", e->m.name);
	if (e->linked_in) {
		free(e->m.library);
		e->m.library = NULL;
	}
	if (e->m.minfd > e->m.maxfd)
		return json_error(d, o, err, "the least descriptor of \"%s\" is above the greatest", e->m.name);
	return 0;
}

/* --- lists ------------------------------------------------------------------------------------------ */

static int add_entry(const struct json_doc *d, const cJSON *o, bool own, struct rd_modules *out, char *err)
{
	struct entry e = { .m = { .deploy = 1, .priority = 1, .maxfd = INT32_MAX, .id = out->n } };
	int ret = read_entry(d, o, own, &e, err);

	if (!ret && rd_module_by_name(out, e.m.name))
		ret = json_error(d, o, err, "there is a stack \"%s\" already", e.m.name);
	if (!ret && out->n == RD_MODULES_MAX)
		ret = json_error(d, o, err, "more than %u stacks", RD_MODULES_MAX);
	if (!ret && e.m.id != out->n)
		ret = json_error(d, o, err, "the id of \"%s\" is %u, but must be %u: ids are 0, 1, 2... in "
				 "this order", e.m.name, e.m.id, out->n);
	if (ret) {
		free(e.m.library);
		free(e.m.options);
		return ret;
	}
	if (e.is_default)
		strcpy(out->default_stack, e.m.name);
	out->m[out->n++] = e.m;
	return 0;
}

static int add_list(const struct json_doc *d, const cJSON *list, bool own, struct rd_modules *out,
		    char *err)
{
	const cJSON *o;
	int ret;

	if (!cJSON_IsArray(list))
		return json_error(d, list, err, "the stacks are a list: [ { \"name\": ... }, ... ]");
	cJSON_ArrayForEach(o, list) {
		ret = add_entry(d, o, own, out, err);
		if (ret)
			return ret;
	}
	return 0;
}

int rd_modules_from_json(const struct json_doc *d, const cJSON *list, struct rd_modules *out,
			 char err[RD_ERR])
{
	return add_list(d, list, true, out, err);
}

/* The stack "where no rule decides" has to be one that there is. */
static int read_default(const struct json_doc *d, struct rd_modules *ms, char *err)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(d->root, "default_stack_name");
	int ret = v ? text_of(d, v, ms->default_stack, sizeof(ms->default_stack), err) : 0;

	if (ret || !ms->default_stack[0] || rd_module_by_name(ms, ms->default_stack) ||
	    !strcmp(ms->default_stack, RD_STACK_KERNEL) || !strcmp(ms->default_stack, RD_STACK_DEFAULT))
		return ret;
	return json_error(d, v, err, "the default stack \"%s\" is none of those configured",
			  ms->default_stack);
}

/* DMM's last word: the stack with the highest priority, of equal ones the first. */
static void default_by_priority(struct rd_modules *ms, uint32_t n)
{
	const struct rd_module *best = NULL;

	for (uint32_t i = 0; i < n; i++)
		if (!best || ms->m[i].priority < best->priority)
			best = &ms->m[i];
	if (best)
		strcpy(ms->default_stack, best->name);
}

static int load_doc(const struct json_doc *d, struct rd_modules *ms, char *err)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(d->root, "module_list");
	int ret;

	if (!list)
		return json_error(d, d->root, err, "there is no \"module_list\"");
	ret = add_list(d, list, false, ms, err);
	return ret ? ret : read_default(d, ms, err);
}

static void append(struct rd_modules *ms, const struct rd_module *m)
{
	ms->m[ms->n] = *m;
	ms->m[ms->n].id = ms->n;
	ms->n++;
}

int rd_modules_load(const char *path, struct rd_modules *out, char err[RD_ERR])
{
	struct rd_modules file = { 0 };
	struct json_doc d;
	int ret = json_load(&d, path, err);
	uint32_t mine;

	if (!ret)
		ret = load_doc(&d, &file, err);
	mine = file.n;
	for (uint32_t i = 0; !ret && i < out->n; i++) {
		if (file.n == RD_MODULES_MAX || rd_module_by_name(&file, out->m[i].name))
			ret = json_error(&d, NULL, err, "\"%s\" is configured twice, or there are more than %u "
					 "stacks", out->m[i].name, RD_MODULES_MAX);
		else
			append(&file, &out->m[i]);
	}
	json_free(&d);
	if (!ret) {
		if (!file.default_stack[0])
			strcpy(file.default_stack, out->default_stack);
		if (!file.default_stack[0])
			default_by_priority(&file, mine);
		*out = file;
		return 0;
	}
	file.n = mine; /* the others are still the caller's */
	rd_modules_clear(&file);
	return ret;
}

void rd_modules_clear(struct rd_modules *ms)
{
	for (uint32_t i = 0; i < ms->n; i++) {
		free(ms->m[i].library);
		free(ms->m[i].options);
	}
	memset(ms, 0, sizeof(*ms));
}

/* --- looking up -------------------------------------------------------------------------------------- */

const struct rd_module *rd_module_by_name(const struct rd_modules *ms, const char *name)
{
	for (uint32_t i = 0; i < ms->n; i++)
		if (!strcmp(ms->m[i].name, name))
			return &ms->m[i];
	return NULL;
}

bool rd_module_builtin(const struct rd_module *m)
{
	return !m->library && (!strcmp(m->name, RD_STACK_KERNEL) || !strcmp(m->name, RD_STACK_DEFAULT));
}
