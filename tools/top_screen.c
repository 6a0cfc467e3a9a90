/* SPDX-License-Identifier: Apache-2.0 */
/* tools/top_screen.c - the live screen of nstack top
 *
 * Two lines about all, the titles, the rows, one line of help. Between samples it waits for keys; ncurses
 * tells of a change of the terminal's size as of a key.
 */
#define _GNU_SOURCE
#include "tool.h"
#include "top.h"

#include <curses.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLS_MAX 16
#define DELAY_MIN 0.1
#define DELAY_MAX 3600.0
#define HEAD 3 /* lines above the rows */

struct screen {
	const struct top_view *v;
	unsigned sort[TOP_VIEWS]; /* column of each view */
	bool reverse, paused, help;
	double delay;
	unsigned first;           /* row that is shown first */
	struct top_sample now;
	const struct top_row **order;
};

static const char *const help_lines[] = {
	"p  programs     w  stacks (workers)     s  sockets     Tab  the next of them",
	"<  >            sort by the column on the left, on the right",
	"r               the other way round",
	"Up Down PgUp PgDn Home   through the rows",
	"+  -            seconds between looks: longer, shorter",
	"Space           hold, go on",
	"q               end",
	"",
	"K, M, G  1000 packets and so on, 1024 bytes and so on.  %CPU  of one core",
	"STATE    exiting: it has ended, its last connections have not; kernel: the",
	"         kernel serves it; ?: no answer.  BY  the nstackd that serves it",
	"LOST/s   packets that found no room",
};

static unsigned view_index(const struct screen *s)
{
	return (unsigned)(s->v - top_views);
}

/* --- drawing -------------------------------------------------------------------------------------- */

static void draw_head(const struct screen *s)
{
	time_t t = time(NULL);
	struct tm tm;

	localtime_r(&t, &tm);
	mvprintw(0, 0, "nstack top  %02d:%02d:%02d  every %.1f s%s", tm.tm_hour, tm.tm_min, tm.tm_sec, s->delay,
		 s->paused ? "  (held)" : "");
	move(1, 0);
	for (unsigned i = 0; i < TOP_VIEWS; i++) {
		if (&top_views[i] == s->v)
			attron(A_BOLD);
		printw("%s%c:%s", i ? "  " : "", top_views[i].key, top_views[i].name);
		attroff(A_BOLD);
	}
	printw("   %u", s->now.n);
}

static void draw_titles(const struct screen *s, unsigned ncols, const int *widths)
{
	char line[TOP_LINE];
	unsigned sort = s->sort[view_index(s)];
	int x = 0;

	top_titles(s->v, ncols, widths, line);
	attron(A_REVERSE);
	mvprintw(HEAD - 1, 0, "%-*.*s", COLS, COLS, line);
	for (unsigned i = 0; i < sort && i < ncols; i++)
		x += widths[i] + 1;
	if (sort < ncols)
		mvchgat(HEAD - 1, x, widths[sort], A_REVERSE | A_BOLD | A_UNDERLINE, 0, NULL);
	attroff(A_REVERSE);
}

static unsigned rows_shown(void)
{
	return LINES > HEAD + 1 ? (unsigned)(LINES - HEAD - 1) : 0;
}

static void draw_rows(struct screen *s)
{
	unsigned shown = rows_shown(), ncols;
	int widths[COLS_MAX];
	char line[TOP_LINE];

	ncols = top_fit(s->v, COLS, widths);
	draw_titles(s, ncols, widths);
	for (unsigned i = 0; i < s->now.n; i++)
		s->order[i] = &s->now.row[i];
	top_sort(s->order, s->now.n, &s->v->col[s->sort[view_index(s)]], s->reverse);
	if (s->first + shown > s->now.n)
		s->first = s->now.n > shown ? s->now.n - shown : 0;
	for (unsigned i = 0; i < shown && s->first + i < s->now.n; i++) {
		top_line(s->v, ncols, widths, s->order[s->first + i], line);
		mvaddnstr(HEAD + (int)i, 0, line, COLS);
	}
	if (!s->now.n)
		mvaddnstr(HEAD, 0, "none", COLS);
}

static void draw_help(void)
{
	for (size_t i = 0; i < sizeof(help_lines) / sizeof(help_lines[0]); i++)
		mvaddnstr(HEAD - 1 + (int)i, 0, help_lines[i], COLS);
}

static void draw(struct screen *s)
{
	erase();
	draw_head(s);
	if (s->help)
		draw_help();
	else
		draw_rows(s);
	mvaddnstr(LINES - 1, 0, s->help ? "any key: back" : "h help  p w s view  < > r sort  q quit", COLS);
	refresh();
}

/* --- keys ------------------------------------------------------------------------------------------ */

static void view_set(struct screen *s, const struct top_view *v)
{
	s->v = v;
	s->first = 0;
	top_sample_free(&s->now); /* rows of another kind */
}

static void sort_move(struct screen *s, int by)
{
	unsigned *c = &s->sort[view_index(s)];

	if (by < 0 ? *c > 0 : *c + 1 < s->v->ncols)
		*c = (unsigned)((int)*c + by);
}

static void delay_set(struct screen *s, double delay)
{
	s->delay = delay < DELAY_MIN ? DELAY_MIN : delay > DELAY_MAX ? DELAY_MAX : delay;
}

static void scroll_by(struct screen *s, int by)
{
	s->first = by < 0 && s->first < (unsigned)-by ? 0 : (unsigned)((int)s->first + by);
}

/* False: the end. *again: a new sample is wanted at once. */
static bool key(struct screen *s, int k, bool *again)
{
	const struct top_view *before = s->v;
	int page = (int)rows_shown();

	if (s->help && k != KEY_RESIZE) {
		s->help = false;
		return true;
	}
	for (unsigned i = 0; i < TOP_VIEWS; i++)
		if (k == top_views[i].key && &top_views[i] != s->v)
			view_set(s, &top_views[i]);
	switch (k) {
	case 'q': return false;
	case '\t': view_set(s, &top_views[(view_index(s) + 1) % TOP_VIEWS]); break;
	case '<': sort_move(s, -1); break;
	case '>': sort_move(s, 1); break;
	case 'r': s->reverse = !s->reverse; break;
	case '+': delay_set(s, s->delay * 2); break;
	case '-': delay_set(s, s->delay / 2); break;
	case ' ': s->paused = !s->paused; break;
	case 'h': case '?': s->help = true; break;
	case KEY_UP: scroll_by(s, -1); break;
	case KEY_DOWN: scroll_by(s, 1); break;
	case KEY_PPAGE: scroll_by(s, -page); break;
	case KEY_NPAGE: scroll_by(s, page); break;
	case KEY_HOME: s->first = 0; break;
	default: break;
	}
	*again = s->v != before;
	return true;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Keys until the next sample is due. False: the end. */
static bool wait_keys(struct screen *s)
{
	double due = now_s() + s->delay, left;
	bool again = false;
	int k;

	while (!again && ((left = due - now_s()) > 0 || s->paused)) {
		timeout(s->paused ? -1 : (int)(left * 1000) + 1);
		k = getch();
		if (k != ERR && !key(s, k, &again))
			return false;
		if (k != ERR && !again)
			draw(s);
	}
	return true;
}

/* --- the loop -------------------------------------------------------------------------------------- */

static int sample(struct screen *s)
{
	struct top_sample next;
	const struct top_row **order;
	int err = top_sample_take(&next, s->v, s->now.at > 0 ? &s->now : NULL);

	if (err)
		return err;
	order = realloc(s->order, (next.n + 1) * sizeof(*order));
	if (order)
		s->order = order;
	else
		next.n = 0;
	top_sample_free(&s->now);
	s->now = next;
	return 0;
}

int top_screen(const struct top_view *v, double delay, long long rounds)
{
	struct screen s = { .v = v, .delay = delay };
	SCREEN *term;

	for (unsigned i = 0; i < TOP_VIEWS; i++)
		s.sort[i] = top_views[i].sort;
	setlocale(LC_CTYPE, "");
	term = newterm(NULL, stdout, stdin);
	if (!term)
		return fail("this terminal is unknown (TERM=%s); --batch does without", getenv("TERM") ?
			    getenv("TERM") : "");
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	for (long long i = 0; !rounds || i < rounds; i++) {
		if (!s.help && sample(&s))
			break;
		draw(&s);
		if (!wait_keys(&s))
			break;
	}
	endwin();
	delscreen(term);
	top_sample_free(&s.now);
	free(s.order);
	return 0;
}
