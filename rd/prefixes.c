/* SPDX-License-Identifier: Apache-2.0 */
/* rd/prefixes.c - a table of remote prefixes
 *
 * Nested prefixes are cut into ranges that do not overlap, each with the longest prefix that has it; a lookup is
 * a binary search for the range's first address: 17 steps for 100,000 prefixes, whatever their lengths.
 */
#define _GNU_SOURCE
#include <rd/prefixes.h>

#include <arpa/inet.h>
#include <errno.h>
#include <rd/rules_internal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128; /* an address as a number; IPv4 in the low bits */

#define NONE UINT32_MAX

struct entry {
	u128 first, last;
	struct rd_prefix_hit hit;
};

/* From first on, up to the next range. */
struct range {
	u128 first;
	uint32_t entry; /* NONE: no prefix */
};

struct family {
	struct entry *entries;
	struct range *ranges;
	uint32_t n, room, n_ranges;
};

struct rd_prefixes {
	struct family v4, v6;
	struct rd_stacks stacks;
};

static u128 number(const uint8_t *addr, unsigned bytes)
{
	u128 v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | addr[i];
	return v;
}

/* --- reading ------------------------------------------------------------------------------------- */

static int entry_add(struct family *f, const struct rd_prefix *p, struct rd_prefix_hit hit)
{
	unsigned bytes = p->family == AF_INET ? 4 : 16, host = bytes * 8 - p->len;
	struct entry *e;

	if (f->n == f->room) {
		uint32_t room = f->room ? f->room * 2 : 256;

		e = realloc(f->entries, room * sizeof(*e));
		if (!e)
			return -ENOMEM;
		f->entries = e;
		f->room = room;
	}
	e = &f->entries[f->n++];
	e->first = number(p->addr, bytes);
	e->last = host == 128 ? ~(u128)0 : e->first | (((u128)1 << host) - 1);
	e->hit = hit;
	return 0;
}

static int bad(char *err, const char *name, uint32_t line, const char *what)
{
	snprintf(err, RD_ERR, "%s:%u: %s", name, line, what);
	return -EINVAL;
}

int rd_prefixes_add(struct rd_prefixes *t, const struct rd_prefix *p, const char *action, uint32_t line)
{
	struct rd_prefix_hit hit = { .line = line, .len = p->len };
	int ret = rd_action_parse(&t->stacks, action, &hit.action, &hit.stack);

	if (!ret && t->v4.n + t->v6.n == RD_PREFIXES_MAX)
		ret = -E2BIG;
	return ret ? ret : entry_add(p->family == AF_INET ? &t->v4 : &t->v6, p, hit);
}

/* One line, which is changed. */
static int read_line(struct rd_prefixes *t, char *s, const char *name, uint32_t line, char *err)
{
	char *prefix, *action, *save = NULL;
	struct rd_prefix p;
	int ret;

	s[strcspn(s, "#")] = 0;
	prefix = strtok_r(s, " \t\r", &save);
	if (!prefix)
		return 0;
	action = strtok_r(NULL, " \t\r", &save);
	if (rd_prefix_parse(prefix, &p) || !p.family)
		return bad(err, name, line, "a prefix comes first, such as 198.18.0.0/15");
	if (!action || strtok_r(NULL, " \t\r", &save))
		return bad(err, name, line, "behind the prefix comes one word: stack, kernel, drop, or a stack's name");
	ret = rd_prefixes_add(t, &p, action, line);
	return ret == -EINVAL ? bad(err, name, line, "that is no action") :
	       ret == -E2BIG ? bad(err, name, line, "one prefix, or one stack, more than there may be") : ret;
}

/* --- ranges -------------------------------------------------------------------------------------- */

/* Containers before what they contain; equal ones in the order of the file. */
static int entry_cmp(const void *x, const void *y)
{
	const struct entry *a = x, *b = y;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->hit.len != b->hit.len)
		return a->hit.len < b->hit.len ? -1 : 1;
	return a->hit.line < b->hit.line ? -1 : a->hit.line > b->hit.line;
}

static void range_begin(struct family *f, u128 first, uint32_t entry)
{
	if (!f->n_ranges || f->ranges[f->n_ranges - 1].first != first)
		f->n_ranges++;
	f->ranges[f->n_ranges - 1] = (struct range){ first, entry };
}

/* The prefixes that the sweep is in; one of each length at most, for an equal one takes the place. */
struct open {
	uint32_t entry[129];
	unsigned n;
};

/* Leave those that end before `first`. */
static void leave(struct family *f, struct open *o, u128 first, bool all)
{
	while (o->n && (all || f->entries[o->entry[o->n - 1]].last < first)) {
		u128 last = f->entries[o->entry[--o->n]].last;

		if (last != ~(u128)0)
			range_begin(f, last + 1, o->n ? o->entry[o->n - 1] : NONE);
	}
}

static int ranges_make(struct family *f)
{
	struct open o = { .n = 0 };

	if (!f->n)
		return 0;
	qsort(f->entries, f->n, sizeof(*f->entries), entry_cmp);
	f->ranges = malloc(2 * (size_t)f->n * sizeof(*f->ranges));
	if (!f->ranges)
		return -ENOMEM;
	for (uint32_t i = 0; i < f->n; i++) {
		const struct entry *e = &f->entries[i];

		leave(f, &o, e->first, false);
		if (o.n && f->entries[o.entry[o.n - 1]].hit.len == e->hit.len)
			o.n--;
		o.entry[o.n++] = i;
		range_begin(f, e->first, i);
	}
	leave(f, &o, 0, true);
	return 0;
}

static bool find(const struct family *f, u128 addr, struct rd_prefix_hit *hit)
{
	uint32_t lo = 0, hi = f->n_ranges;

	while (lo < hi) { /* the first range behind the address */
		uint32_t mid = lo + (hi - lo) / 2;

		if (f->ranges[mid].first <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || f->ranges[lo - 1].entry == NONE)
		return false;
	*hit = f->entries[f->ranges[lo - 1].entry].hit;
	return true;
}

/* --- tables -------------------------------------------------------------------------------------- */

struct rd_prefixes *rd_prefixes_new(void)
{
	struct rd_prefixes *t = calloc(1, sizeof(*t));

	if (t)
		rd_stacks_init(&t->stacks);
	return t;
}

int rd_prefixes_end(struct rd_prefixes *t)
{
	int ret = ranges_make(&t->v4);

	return ret ? ret : ranges_make(&t->v6);
}

void rd_prefixes_free(struct rd_prefixes *t)
{
	if (!t)
		return;
	free(t->v4.entries);
	free(t->v4.ranges);
	free(t->v6.entries);
	free(t->v6.ranges);
	free(t);
}

static int read_all(struct rd_prefixes *t, char *text, const char *name, char *err)
{
	uint32_t line = 1;
	int ret = 0;

	for (char *s = text, *next; s && !ret; s = next, line++) {
		next = strchr(s, '\n');
		if (next)
			*next++ = 0;
		ret = read_line(t, s, name, line, err);
	}
	return ret ? ret : rd_prefixes_end(t);
}

int rd_prefixes_parse(const char *text, size_t len, const char *name, struct rd_prefixes **out, char err[RD_ERR])
{
	struct rd_prefixes *t = rd_prefixes_new();
	char *copy = strndup(text, len);
	int ret = -ENOMEM;

	err[0] = 0;
	*out = NULL;
	if (t && copy)
		ret = strlen(copy) != len ? bad(err, name, 1, "this is no text file") : read_all(t, copy, name, err);
	free(copy);
	if (ret) {
		if (!err[0])
			snprintf(err, RD_ERR, "%s: %s", name, strerror(-ret));
		rd_prefixes_free(t);
		return ret;
	}
	*out = t;
	return 0;
}

int rd_prefixes_load(const char *path, struct rd_prefixes **out, char err[RD_ERR])
{
	char *text;
	size_t len;
	int ret = json_file_read(path, &text, &len);

	*out = NULL;
	if (ret) {
		snprintf(err, RD_ERR, "%s: %s", path, strerror(-ret));
		return ret;
	}
	ret = rd_prefixes_parse(text, len, path, out, err);
	free(text);
	return ret;
}

uint32_t rd_prefixes_count(const struct rd_prefixes *t)
{
	return t->v4.n + t->v6.n;
}

const char *rd_prefixes_stack(const struct rd_prefixes *t, uint32_t i)
{
	return i < t->stacks.n ? t->stacks.name[i] : NULL;
}

bool rd_prefixes_find(const struct rd_prefixes *t, const struct nst_addr *a, struct rd_prefix_hit *hit)
{
	if (a->family == AF_INET)
		return find(&t->v4, number(a->v6, 4), hit);
	return a->family == AF_INET6 && find(&t->v6, number(a->v6, 16), hit);
}
