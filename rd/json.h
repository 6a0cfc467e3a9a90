/* SPDX-License-Identifier: Apache-2.0 */
/* rd/json.h - JSON that people write: cJSON plus comments, trailing commas and positions
 *
 * json_parse() blanks both kinds of comments and trailing commas (line numbers stay), lets cJSON
 * parse, then walks text and tree together and keeps each item's position in item->valueint: for
 * a member that of its key, else that of the value. So numbers are to be read from valuedouble.
 */
#ifndef NSTACK_RD_JSON_H
#define NSTACK_RD_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_ERR 512
#define JSON_FILE_MAX (16u << 20)
#define JSON_DEPTH_MAX 32

struct json_doc {
	cJSON *root;
	char *text;       /* blanked copy */
	size_t len;
	char name[128];   /* what messages call it */
};

/* 0; -EINVAL and err = "NAME:LINE:COLUMN: text"; -ENOMEM. json_free() is safe after a failure. */
int json_parse(struct json_doc *d, const char *text, size_t len, const char *name,
	       char err[JSON_ERR]);
/* Also -errno of open and read. */
int json_load(struct json_doc *d, const char *path, char err[JSON_ERR]);
void json_free(struct json_doc *d);

unsigned json_line(const struct json_doc *d, const cJSON *item);
/* Fill err with "NAME:LINE:COLUMN: " and the message; returns -EINVAL. item NULL: no position. */
int json_error(const struct json_doc *d, const cJSON *item, char err[JSON_ERR], const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The nearest of n names by edit distance, or NULL if none is near enough to be meant. name(i)
 * is called with arg. */
const char *json_nearest(const char *word, const char *(*name)(const void *arg, unsigned i),
			 const void *arg, unsigned n);
unsigned json_distance(const char *a, const char *b);

/* Add a whole number as one: cJSON prints large ones as 1e+15. */
void json_put_u64(cJSON *o, const char *key, uint64_t v);
/* The whole number of an item into *out; 0 or -EINVAL (not a number, a fraction, out of range). */
int json_int(const cJSON *item, int64_t min, int64_t max, int64_t *out);

/* A whole file, NUL-terminated, malloc()ed; 0 or -errno (-EFBIG beyond JSON_FILE_MAX). */
int json_file_read(const char *path, char **out, size_t *len);

#endif
