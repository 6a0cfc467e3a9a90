/* SPDX-License-Identifier: Apache-2.0 */
/* Plug-in stacks as the files of every generation of DMM say them, and as ours do. */
#include "tests/unit/check.h"

#include <errno.h>
#include <rd/config.h>
#include <rd/modules.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/rd_modules.XXXXXX";

static const char *put(const char *name, const char *text)
{
	static char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
	return path;
}

static int load(struct rd_modules *ms, const char *text, char *err)
{
	memset(ms, 0, sizeof(*ms));
	err[0] = 0;
	return rd_modules_load(put("module_config.json", text), ms, err);
}

/* the fields of the first files, of those with names of functions, and of the last ones */
static const char first[] =
	"{ \"default_stack_name\": \"kernel\", /* else */ \"module_list\": [\n"
	" { \"stack_name\": \"kernel\", \"function_name\": \"kernel_stack_register\", \"libname\": \"./\",\n"
	"   \"loadtype\": \"static\", \"deploytype\": \"1\", \"maxfd\": \"1024\", \"minfd\": \"0\",\n"
	"   \"priorty\": \"1\", \"stackid\": \"0\", },\n"
	" { \"stack_name\": \"stackx\", \"function_name\": \"stackx_register\", \"libname\": \"libstackx.so\",\n"
	"   \"loadtype\": \"dynmic\", \"deploytype\": \"3\", \"maxfd\": \"2048\", \"minfd\": \"16\",\n"
	"   \"priorty\": \"0\", \"stackid\": \"1\", \"someday\": \"maybe\", \"ep_free_ref\": \"1\" },\n ] }";
static const char last[] =
	"{ \"default_stack_name\": \"two\", \"module_list\": [\n"
	" { \"stack_name\": \"kernel\", \"libname\": \"\", \"deploytype\": \"1\", \"stackid\": \"0\", },\n"
	" { \"stack_name\": \"two\", \"libname\": \"/opt/libtwo.so\", \"deploytype\": 2, \"stackid\": 1, },\n ] }";

static void test_options(void)
{
	struct json_doc d = { 0 };
	struct rd_modules ms = { 0 };
	char err[RD_ERR] = "";
	const char text[] = "[ { \"name\": \"a\", \"options\": \"x,y\" }, { \"name\": \"b\" } ]";
	const char wrong[] = "[ { \"name\": \"a\", \"options\": 7 } ]";

	CHECK(!json_parse(&d, text, strlen(text), "test", err) && !rd_modules_from_json(&d, d.root, &ms, err), "%s", err);
	CHECK(ms.n == 2 && !strcmp(ms.m[0].options, "x,y") && !ms.m[1].options, " ");
	rd_modules_clear(&ms);
	json_free(&d);
	CHECK(!json_parse(&d, wrong, strlen(wrong), "test", err), "%s", err);
	CHECK(rd_modules_from_json(&d, d.root, &ms, err) == -EINVAL && strstr(err, "must be a string"), "%s", err);
	rd_modules_clear(&ms);
	json_free(&d);
}

static void test_generations(void)
{
	struct rd_modules ms;
	char err[RD_ERR];
	const struct rd_module *m;

	CHECK(load(&ms, first, err) == 0 && ms.n == 2, "%s", err);
	CHECK(!strcmp(ms.default_stack, "kernel") && rd_module_builtin(&ms.m[0]), " ");
	m = rd_module_by_name(&ms, "stackx");
	CHECK(m && m->id == 1 && !strcmp(m->function, "stackx_register") && m->deploy == 3, " ");
	CHECK(!strcmp(m->library, "libstackx.so") && m->minfd == 16 && m->maxfd == 2048, " ");
	CHECK(m->priority == 0 && m->ep_free_ref && !rd_module_builtin(m), " ");
	rd_modules_clear(&ms);

	CHECK(load(&ms, last, err) == 0 && ms.n == 2, "%s", err);
	m = &ms.m[1];
	CHECK(!strcmp(m->function, "two_stack_register") && m->deploy == 2, "a derived name");
	CHECK(!strcmp(m->library, "/opt/libtwo.so") && !m->ep_free_ref && m->maxfd == INT32_MAX, " ");
	CHECK(!strcmp(ms.default_stack, "two"), " ");
	rd_modules_clear(&ms);
}

/* Without a default: the highest priority, of equal ones the first. */
static void test_default_by_priority(void)
{
	static const struct {
		const char *priorities[3], *want;
	} cases[] = {
		{ { "2", "1", "0" }, "c" }, { { "1", "0", "0" }, "b" }, { { "1", "1", "1" }, "a" }, { { "0", "1", "0" }, "a" },
		{ { "5", "3", "4" }, "b" },
	};
	struct rd_modules ms;
	char text[1024], err[RD_ERR];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = (size_t)sprintf(text, "{ \"module_list\": [");

		for (int k = 0; k < 3; k++)
			n += (size_t)sprintf(text + n, "{ \"stack_name\": \"%c\", \"libname\": \"lib%c.so\", \"loadtype\": "
					     "\"dynamic\", \"deploytype\": \"1\", \"stackid\": \"%d\", \"priorty\": \"%s\" },",
					     'a' + k, 'a' + k, k, cases[i].priorities[k]);
		strcpy(text + n, "] }");
		CHECK(load(&ms, text, err) == 0, "%s", err);
		CHECK(!strcmp(ms.default_stack, cases[i].want), "%u: %s", i, ms.default_stack);
		rd_modules_clear(&ms);
	}
}

static void refused(const char *text, const char *why)
{
	struct rd_modules ms;
	char err[RD_ERR];

	CHECK(load(&ms, text, err) < 0 && strstr(err, why), "%s", err);
	rd_modules_clear(&ms);
}

static void test_refused(void)
{
	refused("{ }", "module_list");
	refused("{ \"module_list\": [ { \"stack_name\": \"a\" }, { \"stack_name\": \"a\" } ] }", "already");
	refused("{ \"module_list\": [ { \"stack_name\": \"a\", \"stackid\": \"1\" } ] }", "must be 0");
	refused("{ \"module_list\": [ { \"stack_name\": \"a\" },\n { \"stack_name\": \"b\", \"stackid\": 0 } ] }",
		":2:");
	refused("{ \"module_list\": [ { \"libname\": \"a\" } ] }", "no name");
	refused("{ \"module_list\": [ { \"stack_name\": \"a\", \"deploytype\": \"5\" } ] }", "between 1 and 4");
	refused("{ \"module_list\": [ { \"stack_name\": \"a\", \"loadtype\": \"later\" } ] }", "static");
	refused("{ \"module_list\": [ { \"stack_name\": \"a\", \"minfd\": 9, \"maxfd\": 8 } ] }", "above");
	refused("{ \"module_list\": [ ], \"default_stack_name\": \"nobody\" }", "nobody");
	refused("{ \"module_list\": [ { \"stack_name\": \"a-name-that-is-too-long\" } ] }", "15");
}

/* --- the configuration ------------------------------------------------------------------------------ */

static int config(const char *text, struct ns_config **c, char *err)
{
	err[0] = 0;
	return rd_config_load(put("nstack.conf", text), c, err);
}

static void test_config(void)
{
	struct ns_config *c;
	char err[RD_ERR];

	put("module_config.json", last);
	put("libmine.so", "");
	CHECK(!config("{ \"module_config\": \"module_config.json\", \"rules\": { \"default\": \"kernel\" },\n"
		      "\"stacks\": [ { \"name\": \"mine\", \"library\": \"libmine.so\", \"register\": \"reg\" } ] }",
		      &c, err), "%s", err);
	CHECK(c->modules->n == 3 && c->modules->m[2].id == 2 && !strcmp(c->modules->m[2].function, "reg"), " ");
	CHECK(c->modules->m[2].library[0] == '/', "beside the configuration");
	CHECK(c->rules->default_action == RD_KERNEL, "own rules come first");
	rd_config_free(c);

	put("rd_config.json", "{ \"ip_route\": [ ] }");
	CHECK(!config("{ \"module_config\": \"module_config.json\", \"rules\": \"rd_config.json\" }", &c, err), "%s",
	      err);
	CHECK(c->rules->default_action == RD_STACK && !strcmp(c->rules->stacks.name[c->rules->default_stack], "two"),
	      "default_stack_name");
	rd_config_free(c);
	CHECK(config("{ \"stacks\": [ { \"name\": \"a\", \"libary\": \"x\" } ] }", &c, err) &&
	      strstr(err, "\"library\"?"), "%s", err);
	CHECK(config("{ \"stacks\": [ { \"name\": \"two\" } ], \"module_config\": \"module_config.json\" }", &c, err) &&
	      strstr(err, "twice"), "%s", err);
	CHECK(config("{ \"module_config\": \"nothing.json\" }", &c, err), "no such file");
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	test_options();
	test_generations();
	test_refused();
	test_default_by_priority();
	test_config();
	for (const char *const *f = (const char *const[]){ "module_config.json", "rd_config.json", "libmine.so",
							   "nstack.conf", NULL }; *f; f++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/%s", dir, *f);
		unlink(path);
	}
	rmdir(dir);
	if (!failures)
		puts("ok");
	return failures != 0;
}
