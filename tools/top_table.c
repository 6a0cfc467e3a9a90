/* SPDX-License-Identifier: Apache-2.0 */
/* tools/top_table.c - two samples of nstack top as a table: rates, order, text */
#define _GNU_SOURCE
#include "tool.h"
#include "top.h"

#include <stdlib.h>
#include <string.h>

/* --- rates ---------------------------------------------------------------------------------------- */

static void row_rates(struct top_row *r, const struct top_row *o, double seconds)
{
	for (unsigned i = 0; i < TOP_COUNTS; i++) {
		double d = o ? r->count[i] - o->count[i] : 0;

		/* what a connection brought goes with it to another program */
		r->rate[i] = !o || seconds <= 0 ? -1 : d > 0 ? d / seconds : 0;
	}
}

void top_rates(struct top_sample *s, const struct top_sample *before)
{
	unsigned o = 0, m = before ? before->n : 0;
	double seconds = before ? s->at - before->at : 0;

	for (unsigned i = 0; i < s->n; i++) {
		while (o < m && strcmp(before->row[o].key, s->row[i].key) < 0)
			o++;
		row_rates(&s->row[i], o < m && !strcmp(before->row[o].key, s->row[i].key) ?
			  &before->row[o] : NULL, seconds);
	}
}

/* --- order ---------------------------------------------------------------------------------------- */

static double value(const struct top_column *c, const struct top_row *r)
{
	return c->kind == TOP_GAUGE ? r->gauge[c->index] :
	       c->unit == TOP_PERCENT && r->rate[c->index] > 0 ? r->rate[c->index] * 100 : r->rate[c->index];
}

struct order {
	const struct top_column *c;
	int sign;
};

static int row_cmp(const void *a, const void *b, void *arg)
{
	const struct top_row *x = *(const struct top_row *const *)a, *y = *(const struct top_row *const *)b;
	const struct order *o = arg;
	double dx, dy;
	int d;

	if (o->c->kind == TOP_WORD) {
		/* pids and addresses: 9 before 10 */
		d = strverscmp(x->word[o->c->index], y->word[o->c->index]);
	} else {
		dx = value(o->c, x);
		dy = value(o->c, y);
		d = (dx < dy) - (dx > dy);
	}
	return d ? d * o->sign : strverscmp(x->key, y->key);
}

void top_sort(const struct top_row **rows, unsigned n, const struct top_column *c, bool reverse)
{
	struct order o = { c, reverse ? -1 : 1 };

	if (n)
		qsort_r(rows, n, sizeof(*rows), row_cmp, &o);
}

/* --- text ----------------------------------------------------------------------------------------- */

/* Three digits and K, M, G, T: at most 5 characters, "-" if there is none. */
static void number_text(double v, enum top_unit unit, char out[16])
{
	static const char suffix[] = " KMGT";
	double base = unit == TOP_BYTES ? 1024 : 1000;
	unsigned u = 0;

	if (v < 0) {
		strcpy(out, "-");
		return;
	}
	if (unit == TOP_PERCENT || unit == TOP_MS) {
		snprintf(out, 16, v < 1000 ? "%.1f" : "%.0f", v);
		return;
	}
	for (; v >= 999.5 && u < 4; u++)
		v /= base;
	if (u)
		snprintf(out, 16, "%.*f%c", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, suffix[u]);
	else
		snprintf(out, 16, "%.0f", v);
}

unsigned top_fit(const struct top_view *v, int width, int *widths)
{
	int used = -1; /* columns have a blank between them */
	unsigned n;

	for (n = 0; n < v->ncols && (n == 0 || used + 1 + v->col[n].width <= width); n++) {
		widths[n] = v->col[n].width;
		used += 1 + widths[n];
	}
	for (bool grown = true; grown && used < width;) {
		grown = false;
		for (unsigned i = 0; i < n && used < width; i++) {
			if (widths[i] >= v->col[i].width_max)
				continue;
			widths[i]++;
			used++;
			grown = true;
		}
	}
	return n;
}

/* Words to the left, numbers to the right. */
static size_t cell(char *out, size_t room, unsigned i, int width, bool left, const char *text)
{
	int n = snprintf(out, room, "%s%*.*s", i ? " " : "", left ? -width : width, width, text);

	return n < 0 ? 0 : (size_t)n >= room ? room - 1 : (size_t)n;
}

void top_titles(const struct top_view *v, unsigned ncols, const int *widths, char out[TOP_LINE])
{
	size_t len = 0;

	out[0] = 0;
	for (unsigned i = 0; i < ncols; i++)
		len += cell(out + len, TOP_LINE - len, i, widths[i], v->col[i].kind == TOP_WORD,
			    v->col[i].title);
}

void top_line(const struct top_view *v, unsigned ncols, const int *widths, const struct top_row *r,
	      char out[TOP_LINE])
{
	size_t len = 0;
	char text[16];

	out[0] = 0;
	for (unsigned i = 0; i < ncols; i++) {
		const struct top_column *c = &v->col[i];

		if (c->kind != TOP_WORD)
			number_text(value(c, r), c->unit, text);
		len += cell(out + len, TOP_LINE - len, i, widths[i], c->kind == TOP_WORD,
			    c->kind == TOP_WORD ? r->word[c->index] : text);
	}
}

cJSON *top_json(const struct top_view *v, const struct top_sample *s)
{
	cJSON *list = cJSON_CreateArray();

	for (unsigned k = 0; k < s->n; k++) {
		cJSON *o = cJSON_CreateObject();

		for (unsigned i = 0; i < v->ncols; i++) {
			const struct top_column *c = &v->col[i];

			if (c->kind != TOP_WORD && value(c, &s->row[k]) >= 0)
				cJSON_AddNumberToObject(o, c->json, value(c, &s->row[k]));
			else if (c->kind != TOP_WORD)
				cJSON_AddNullToObject(o, c->json);
			else if (!strcmp(c->title, "PID") || !strcmp(c->title, "BY"))
				cJSON_AddNumberToObject(o, c->json, atof(s->row[k].word[c->index]));
			else
				cJSON_AddStringToObject(o, c->json, s->row[k].word[c->index]);
		}
		cJSON_AddItemToArray(list, o);
	}
	return list;
}
