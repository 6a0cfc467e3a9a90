/* SPDX-License-Identifier: Apache-2.0 */
/* tools/top.h - the parts of nstack top
 *
 *   top_sample.c  asks processes: what there is, with counters as they are
 *   top_table.c   two samples make a table: rates, order, text
 *   top_screen.c  the live screen (ncurses)
 *   verb_top.c    options; tables and JSON for scripts
 *
 * A view is a list of columns and a function that collects its rows. A row has words (what it is), gauges
 * (what is so now) and counts (what only grows, shown per second); columns name them by index.
 */
#ifndef NSTACK_TOOLS_TOP_H
#define NSTACK_TOOLS_TOP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define TOP_WORDS 6
#define TOP_GAUGES 4
#define TOP_COUNTS 6
#define TOP_ROWS 65536u /* more are not shown */
#define TOP_LINE 512    /* bytes of a line of text */

struct top_row {
	char key[112];                 /* what it is the same by in the next sample */
	char word[TOP_WORDS][48];
	double gauge[TOP_GAUGES], count[TOP_COUNTS];
	double rate[TOP_COUNTS];       /* per second since the sample before; -1: it was not there then */
};

/* A view at one moment; rows are malloc()ed and in the order of their keys. */
struct top_sample {
	double at;                     /* seconds of CLOCK_MONOTONIC */
	struct top_row *row;
	unsigned n, room;
};

enum top_kind { TOP_WORD, TOP_GAUGE, TOP_RATE };
enum top_unit { TOP_PLAIN, TOP_BYTES, TOP_PERCENT, TOP_MS };

struct top_column {
	const char *title, *json;      /* json: as a key, with the unit in it */
	int width;                     /* of the text, at least */
	int width_max;                 /* takes what is left of a wide line, up to this; 0: does not */
	enum top_kind kind;
	unsigned index;                /* of the row's words, gauges or rates */
	enum top_unit unit;
};

struct top_view {
	const char *name;
	char key;                      /* of the keyboard */
	void (*collect)(struct top_sample *s, const cJSON *processes);
	const struct top_column *col;
	unsigned ncols;
	unsigned sort;                 /* column it is sorted by at first */
};

#define TOP_VIEWS 3
extern const struct top_view top_views[TOP_VIEWS];

/* --- top_sample.c -------------------------------------------------------------------------------- */

/* The view now; rates against before (may be NULL). 0 or -ENOMEM. */
int top_sample_take(struct top_sample *s, const struct top_view *v, const struct top_sample *before);
void top_sample_free(struct top_sample *s);

/* --- top_table.c --------------------------------------------------------------------------------- */

/* s's rates; both in the order of their keys. */
void top_rates(struct top_sample *s, const struct top_sample *before);
/* Rows into an order: by that column, greatest (words: first) first, unless reversed. For top_line() only:
 * a sample has to be in the order of its keys to be the next one's before. */
void top_sort(const struct top_row **rows, unsigned n, const struct top_column *c, bool reverse);
/* How many columns fit into width, and how wide each is then. */
unsigned top_fit(const struct top_view *v, int width, int *widths);
/* The line of titles, and a row's, as wide as the columns. */
void top_titles(const struct top_view *v, unsigned ncols, const int *widths, char out[TOP_LINE]);
void top_line(const struct top_view *v, unsigned ncols, const int *widths, const struct top_row *r,
	      char out[TOP_LINE]);
cJSON *top_json(const struct top_view *v, const struct top_sample *s);

/* --- top_screen.c -------------------------------------------------------------------------------- */

/* Until the user ends it, or rounds are over (0: never). Exit status. */
int top_screen(const struct top_view *v, double delay, long long rounds);

#endif
