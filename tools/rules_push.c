/* SPDX-License-Identifier: Apache-2.0 */
/* tools/rules_push.c - nstack rules push: an outside controller gives rules
 *
 * Standard input is a stream of rule sets, one on each line, as in a rule file. Each comes into force as a
 * whole, in order, or is refused as a whole and changes nothing; then the next one's turn comes. Each is answered by a
 * line of JSON:
 *
 *	{"ok":true,"version":7,"rules":3,"interfaces":1,"processes":2,"connections":50}
 *	{"ok":false,"version":7,"in_force":false,"error":"..."}
 *
 * A controller should count "version" up: a set that is not newer than what an interface had is refused, so
 * of two controllers, or of messages that were held up, the last one stands. Without a version there is no check.
 */
#define _GNU_SOURCE
#include "rules_set.h"

#include <rd/ctl_proto.h>
#include <stdlib.h>
#include <string.h>

/* One line into buf, without its end. Its length; -1: too long, and passed over; -2: the end. */
static long line_read(char *buf, size_t size)
{
	size_t n = 0;
	int c;

	while ((c = getchar()) != EOF && c != '\n') {
		if (n < size)
			buf[n] = (char)c;
		n++;
	}
	return c == EOF && !n ? -2 : n > size ? -1 : (long)n;
}

/* Is there nothing but blanks? */
static bool is_empty(const char *s, long n)
{
	while (n > 0 && strchr(" \t\r", s[n - 1]) && s[n - 1])
		n--;
	return n == 0;
}

static void answer(int ret, const struct rd_rules *r, const struct rules_set *done)
{
	cJSON *o = cJSON_CreateObject();
	char *text;

	cJSON_AddBoolToObject(o, "ok", !ret);
	if (r->version)
		put_u64(o, "version", r->version);
	if (ret) {
		cJSON_AddBoolToObject(o, "in_force", done->in_force);
		cJSON_AddStringToObject(o, "error", done->why);
	} else {
		put_u64(o, "rules", r->n);
		put_u64(o, "interfaces", (uint64_t)done->interfaces);
		put_u64(o, "processes", (uint64_t)done->processes);
		put_u64(o, "connections", done->pins);
	}
	text = cJSON_PrintUnformatted(o);
	puts(text ? text : "{\"ok\":false,\"error\":\"out of memory\"}");
	fflush(stdout);
	free(text);
	cJSON_Delete(o);
}

int rules_push(const char *only)
{
	static char line[CTL_RULES_MAX];
	struct rd_rules *r = malloc(sizeof(*r));
	struct rules_set done;
	unsigned number = 0;
	char name[32];
	long n;
	int ret;

	while (r && (n = line_read(line, sizeof(line))) != -2) {
		snprintf(name, sizeof(name), "line %u", ++number);
		if (is_empty(line, n))
			continue;
		memset(&done, 0, sizeof(done));
		rd_rules_init(r);
		ret = EXIT_FAILED;
		if (n < 0)
			snprintf(done.why, sizeof(done.why), "%s: longer than %u bytes", name, CTL_RULES_MAX);
		else if (!rd_rules_parse(line, (size_t)n, name, r, done.why))
			ret = rules_set(r, only, &done);
		answer(ret, r, &done);
	}
	if (!r)
		return fail("out of memory");
	free(r);
	return !ferror(stdin) && !ferror(stdout) ? 0 : EXIT_FAILED;
}
