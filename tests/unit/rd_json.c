/* SPDX-License-Identifier: Apache-2.0 */
/* The tolerant reader: what it accepts, what it refuses, and where it says the error is. */
#include <rd/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"

/* want: compact JSON of the tree, or the start of the message */
static const struct { const char *text, *want, *error; } cases[] = {
	{ "{}", "{}", NULL },
	{ "  [1, 2]  ", "[1,2]", NULL },
	{ "{\"a\": 1,}", "{\"a\":1}", NULL },
	{ "[1, 2, ]", "[1,2]", NULL },
	{ "[[1,],[2,],]", "[[1],[2]]", NULL },
	{ "{\"a\": [],}", "{\"a\":[]}", NULL },
	{ "// first\n{\"a\": 1} // last", "{\"a\":1}", NULL },
	{ "/* a\n b */ {/**/\"a\"/* x */:/***/1/* , */,/* } */}", "{\"a\":1}", NULL },
	{ "{\"a\": \"// no /* comment */ , }\"}", "{\"a\":\"// no /* comment */ , }\"}", NULL },
	{ "{\"a\": \"\\\"// x\\\\\",}", "{\"a\":\"\\\"// x\\\\\"}", NULL },
	{ "[1, // one\n 2, // two\n]", "[1,2]", NULL },
	{ "\xef\xbb\xbf{}", "{}", NULL },
	{ "[1 /*,*/ , /*]*/ ]", "[1]", NULL },
	{ "[,]", NULL, "t:1:2:" },
	{ "[1,,]", NULL, "t:1:4:" },
	{ "{,}", NULL, "t:1:3:" },
	{ "{\"a\":,}", NULL, "t:1:6:" },
	{ "", NULL, "t:1:1: the text ends" },
	{ "{\n  \"a\": 1\n  \"b\": 2\n}", NULL, "t:3:3: expected ','" },
	{ "{\"a\": 1", NULL, "t:1:8: the text ends" },
	{ "{\"a\": 'x'}", NULL, "t:1:7: strings" },
	{ "{\"a\": \"x\n\"}", NULL, "t:1:7: this string" },
	{ "{} x", NULL, "t:1:4: text goes on" },
	{ "{} {}", NULL, "t:1:4: text goes on" },
	{ "\n\n /* never", NULL, "t:3:2: this comment" },
	{ "/*/", NULL, "t:1:1: this comment" },
	{ "/", NULL, "t:1:1: not valid" },
	{ "[1, nul]", NULL, "t:1:5: not valid" },
	{ "\"abc", NULL, "t:1:1: this string" },
	{ "\"abc\\", NULL, "t:1:1: this string" },
};

static void test_cases(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct json_doc d;
		char err[JSON_ERR];
		int ret = json_parse(&d, cases[i].text, strlen(cases[i].text), "t", err);
		char *text = d.root ? cJSON_PrintUnformatted(d.root) : NULL;

		CHECK((ret == 0) == (cases[i].want != NULL), "case %zu: %d %s", i, ret, err);
		if (cases[i].want && text)
			CHECK(!strcmp(text, cases[i].want), "case %zu: %s", i, text);
		if (cases[i].error)
			CHECK(!strncmp(err, cases[i].error, strlen(cases[i].error)), "case %zu: %s", i, err);
		free(text);
		json_free(&d);
	}
}

static void test_positions(void)
{
	static const char text[] =
		"{\n \"a\": [1, 22,\n  {\"b\": null, \"c\": \"x,}\"}],\n // \"z\": 1\n \"d\": -1.5e3,\n \"e\": {}\n}";
	struct json_doc d;
	char err[JSON_ERR];
	const cJSON *a;

	CHECK(!json_parse(&d, text, strlen(text), "t", err), "%s", err);
	a = cJSON_GetObjectItem(d.root, "a");
	CHECK(json_line(&d, a) == 2, "%u", json_line(&d, a));
	CHECK(json_line(&d, cJSON_GetArrayItem(a, 2)) == 3, " ");
	json_error(&d, cJSON_GetObjectItem(cJSON_GetArrayItem(a, 2), "c"), err, "x%d", 1);
	CHECK(!strcmp(err, "t:3:15: x1"), "%s", err);
	json_error(&d, cJSON_GetArrayItem(a, 1), err, "y");
	CHECK(!strcmp(err, "t:2:11: y"), "%s", err);
	CHECK(json_line(&d, cJSON_GetObjectItem(d.root, "d")) == 5, " ");
	CHECK(json_line(&d, cJSON_GetObjectItem(d.root, "e")) == 6, " ");
	json_free(&d);
}

static void test_bounds(void)
{
	size_t n = 100000;
	char *deep = malloc(n + 1), err[JSON_ERR];
	struct json_doc d;

	memset(deep, '[', n);
	deep[n] = 0;
	CHECK(json_parse(&d, deep, n, "t", err) && strstr(err, "nested"), "%s", err);
	json_free(&d);
	memset(deep, 'x', n);
	CHECK(json_parse(&d, deep, n, "t", err), " ");
	json_free(&d);
	CHECK(json_parse(&d, "[1]\0", 4, "t", err) && strstr(err, "zero"), "%s", err);
	json_free(&d);
	free(deep);
}

static const char *name_at(const void *arg, unsigned i)
{
	return ((const char *const *)arg)[i];
}

static void test_nearest(void)
{
	static const char *const names[] = { "interfaces", "spin_us", "rcvbuf", "sndbuf", "rules" };
	const struct { const char *word, *want; } near[] = {
		{ "interface", "interfaces" }, { "spin", "spin_us" }, { "recvbuf", "rcvbuf" },
		{ "sendbuf", "sndbuf" }, { "rule", "rules" }, { "zzzzzzzz", NULL }, { "q", NULL },
	};

	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
		const char *got = json_nearest(near[i].word, name_at, names, 5);

		CHECK(got == near[i].want || (got && near[i].want && !strcmp(got, near[i].want)),
		      "%s -> %s", near[i].word, got ? got : "(none)");
	}
	CHECK(json_distance("kitten", "sitting") == 3, "%u", json_distance("kitten", "sitting"));
	CHECK(json_distance("", "abc") == 3, " ");
}

int main(void)
{
	test_cases();
	test_positions();
	test_bounds();
	test_nearest();
	if (!failures)
		puts("ok");
	return failures != 0;
}
