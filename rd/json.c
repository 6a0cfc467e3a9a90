/* SPDX-License-Identifier: Apache-2.0 */
/* rd/json.c - a tolerant reader in front of cJSON, and messages that say where
 *
 * Input is not trusted: size and depth are bounded, every byte outside of strings is looked at
 * once. Threads: any, no state.
 */
#define _GNU_SOURCE
#include <rd/json.h>

#include <errno.h>
#include <limits.h>
#include <rd/sys.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void json_where(const char *text, size_t pos, unsigned *line, unsigned *column)
{
	*line = 1;
	*column = 1;
	for (size_t i = 0; i < pos; i++) {
		if (text[i] == '\n') {
			(*line)++;
			*column = 1;
		} else {
			(*column)++;
		}
	}
}

static int json_verror(const struct json_doc *d, size_t pos, char err[JSON_ERR], const char *fmt,
		       va_list ap)
{
	unsigned line, column;
	int n;

	json_where(d->text, pos, &line, &column);
	n = snprintf(err, JSON_ERR, "%s:%u:%u: ", d->name, line, column);
	if (n < 0 || n >= JSON_ERR)
		n = 0;
	vsnprintf(err + n, JSON_ERR - (size_t)n, fmt, ap);
	return -EINVAL;
}

__attribute__((format(printf, 4, 5)))
static int json_error_at(const struct json_doc *d, size_t pos, char err[JSON_ERR], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_verror(d, pos, err, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int json_error(const struct json_doc *d, const cJSON *item, char err[JSON_ERR], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (item) {
		json_verror(d, (size_t)item->valueint, err, fmt, ap);
	} else {
		int n = snprintf(err, JSON_ERR, "%s: ", d->name);

		if (n < 0 || n >= JSON_ERR)
			n = 0;
		vsnprintf(err + n, JSON_ERR - (size_t)n, fmt, ap);
	}
	va_end(ap);
	return -EINVAL;
}

unsigned json_line(const struct json_doc *d, const cJSON *item)
{
	unsigned line, column;

	json_where(d->text, (size_t)item->valueint, &line, &column);
	return line;
}

/* Returns the position behind the string that starts at i, or 0 if it doesn't end. */
static size_t string_end(const char *t, size_t len, size_t i)
{
	for (i++; i < len; i++) {
		if (t[i] == '\\')
			i++;
		else if (t[i] == '"')
			return i + 1;
		else if (t[i] == '\n')
			return 0;
	}
	return 0;
}

/* Blank the comment at i; returns the position behind it, or 0 if it doesn't end. */
static size_t blank_comment(char *t, size_t len, size_t i)
{
	bool block = t[i + 1] == '*';
	const char *end = memmem(t + i + 2, len - i - 2, block ? "*/" : "\n", block ? 2 : 1);
	size_t stop;

	if (!end && block)
		return 0;
	stop = end ? (size_t)(end - t) + (block ? 2 : 0) : len;
	for (; i < stop; i++) {
		if (t[i] != '\n')
			t[i] = ' ';
	}
	return stop;
}

/* Comments and trailing commas become blanks; depth and strings are checked on the way. */
static int json_blank(struct json_doc *d, char err[JSON_ERR])
{
	char *t = d->text, prev = 0;
	size_t i = 0, comma = SIZE_MAX, next;
	int depth = 0;

	while (i < d->len) {
		char c = t[i];

		if (c == '"') {
			next = string_end(t, d->len, i);
			if (!next)
				return json_error_at(d, i, err, "this string does not end on its line");
			i = next;
			prev = '"';
			comma = SIZE_MAX;
			continue;
		}
		if (c == '/' && i + 1 < d->len && (t[i + 1] == '/' || t[i + 1] == '*')) {
			next = blank_comment(t, d->len, i);
			if (!next)
				return json_error_at(d, i, err, "this comment does not end");
			i = next;
			continue;
		}
		if (c == 0)
			return json_error_at(d, i, err, "a zero byte");
		if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
			i++;
			continue;
		}
		if ((c == '[' || c == '{') && ++depth > JSON_DEPTH_MAX)
			return json_error_at(d, i, err, "nested more than %d deep", JSON_DEPTH_MAX);
		if (c == ']' || c == '}') {
			depth--;
			if (comma != SIZE_MAX)
				t[comma] = ' ';
		}
		/* only a comma behind a value can be a trailing one */
		comma = c == ',' && prev && prev != ',' && prev != '[' && prev != '{' && prev != ':' ?
				i : SIZE_MAX;
		prev = c;
		i++;
	}
	return 0;
}

static size_t skip_space(const struct json_doc *d, size_t i)
{
	while (i < d->len && (unsigned char)d->text[i] <= ' ')
		i++;
	return i;
}

/* Walk text and tree in step; the text is known to be valid. Returns the position behind item. */
static size_t json_locate(const struct json_doc *d, cJSON *item, size_t i)
{
	i = skip_space(d, i);
	item->valueint = (int)i;
	if (cJSON_IsString(item))
		return string_end(d->text, d->len, i);
	if (!cJSON_IsObject(item) && !cJSON_IsArray(item)) {
		while (i < d->len && !strchr(" \t\r\n,]}", d->text[i]))
			i++;
		return i;
	}
	i++;
	for (cJSON *c = item->child; c; c = c->next) {
		size_t key = i = skip_space(d, i);

		if (cJSON_IsObject(item)) {
			i = skip_space(d, string_end(d->text, d->len, i)) + 1; /* the colon */
			i = json_locate(d, c, i);
			c->valueint = (int)key;
		} else {
			i = json_locate(d, c, i);
		}
		i = skip_space(d, i) + 1; /* comma or end */
	}
	if (!item->child)
		i = skip_space(d, i) + 1;
	return i;
}

static int json_syntax_error(const struct json_doc *d, const char *at, char err[JSON_ERR])
{
	size_t pos = at ? (size_t)(at - d->text) : 0;
	const char *t;

	pos = skip_space(d, pos > d->len ? d->len : pos);
	if (pos >= d->len)
		return json_error_at(d, d->len, err, "the text ends too early (a bracket is not closed?)");
	t = d->text + pos;
	if (*t == '"' && pos && d->text[pos - 1] != ':')
		return json_error_at(d, pos, err, "expected ',' or a closing bracket before this string");
	if (*t == '\'')
		return json_error_at(d, pos, err, "strings are written with double quotes");
	return json_error_at(d, pos, err, "not valid JSON at '%.*s'", (int)strcspn(t, " \t\r\n") > 20 ?
			     20 : (int)strcspn(t, " \t\r\n"), t);
}

int json_parse(struct json_doc *d, const char *text, size_t len, const char *name,
	       char err[JSON_ERR])
{
	const char *end = NULL;
	int ret;

	memset(d, 0, sizeof(*d));
	err[0] = 0;
	snprintf(d->name, sizeof(d->name), "%s", name);
	if (len > JSON_FILE_MAX)
		return json_error(d, NULL, err, "larger than %u bytes", JSON_FILE_MAX);
	d->text = malloc(len + 1);
	if (!d->text) {
		snprintf(err, JSON_ERR, "%s: out of memory", d->name);
		return -ENOMEM;
	}
	memcpy(d->text, text, len);
	d->text[len] = 0;
	d->len = len;
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		memset(d->text, ' ', 3); /* a byte order mark */
	ret = json_blank(d, err);
	if (ret)
		return ret;
	d->root = cJSON_ParseWithLengthOpts(d->text, len + 1, &end, 0);
	if (!d->root)
		return json_syntax_error(d, end, err);
	if (skip_space(d, (size_t)(end - d->text)) < len)
		return json_error_at(d, skip_space(d, (size_t)(end - d->text)), err,
				     "text goes on after the end of the JSON value");
	json_locate(d, d->root, 0);
	return 0;
}

void json_free(struct json_doc *d)
{
	cJSON_Delete(d->root);
	free(d->text);
	d->root = NULL;
	d->text = NULL;
}

int json_file_read(const char *path, char **out, size_t *len)
{
	size_t size = 0, used = 0;
	char *buf = NULL;
	int fd = sys_open(path, O_RDONLY, 0);
	ssize_t n;

	if (fd < 0)
		return fd;
	for (;;) {
		if (size - used < 4096) {
			char *bigger = realloc(buf, size ? size * 2 : 8192);

			n = bigger ? 0 : -ENOMEM;
			if (!bigger)
				break;
			buf = bigger;
			size = size ? size * 2 : 8192;
		}
		n = sys_read(fd, buf + used, size - used - 1);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
		if (used > JSON_FILE_MAX) {
			n = -EFBIG;
			break;
		}
	}
	sys_close(fd);
	if (n < 0) {
		free(buf);
		return (int)n;
	}
	buf[used] = 0;
	*out = buf;
	*len = used;
	return 0;
}

int json_load(struct json_doc *d, const char *path, char err[JSON_ERR])
{
	char *text;
	size_t len;
	int ret = json_file_read(path, &text, &len);

	if (ret) {
		memset(d, 0, sizeof(*d));
		snprintf(err, JSON_ERR, "%s: can't read it: %s", path, strerror(-ret));
		return ret;
	}
	ret = json_parse(d, text, len, path, err);
	free(text);
	return ret;
}

void json_put_u64(cJSON *o, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	cJSON_AddRawToObject(o, key, text);
}

int json_int(const cJSON *item, int64_t min, int64_t max, int64_t *out)
{
	double v;

	if (!cJSON_IsNumber(item))
		return -EINVAL;
	v = item->valuedouble;
	if (!(v >= (double)min && v <= (double)max) || (double)(int64_t)v != v)
		return -EINVAL;
	*out = (int64_t)v;
	return 0;
}

#define WORD_MAX 64

unsigned json_distance(const char *a, const char *b)
{
	size_t la = strnlen(a, WORD_MAX), lb = strnlen(b, WORD_MAX);
	unsigned row[WORD_MAX + 1], diag, up;

	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		diag = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diag + (a[i - 1] != b[j - 1]);

			up = row[j];
			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diag = up;
			row[j] = best;
		}
	}
	return row[lb];
}

const char *json_nearest(const char *word, const char *(*name)(const void *arg, unsigned i),
			 const void *arg, unsigned n)
{
	const char *best = NULL;
	unsigned distance = UINT_MAX;

	for (unsigned i = 0; i < n; i++) {
		const char *s = name(arg, i);
		unsigned d = json_distance(word, s);

		/* what one name starts with is a likely slip, too */
		if (d > 2 && strlen(word) >= 3 && !strncmp(s, word, strlen(word)))
			d = 2;
		if (d < distance) {
			distance = d;
			best = s;
		}
	}
	return best && distance <= 1 + strlen(word) / 2 ? best : NULL;
}
