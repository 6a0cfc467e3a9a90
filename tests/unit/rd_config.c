/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: defaults, every type of value, and messages that name line and key. */
#include <rd/config.h>
#include <rd/log.h>
#include <rd/rules.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"

static int parse(const char *text, struct ns_config **c, char *err)
{
	return rd_config_parse(text, strlen(text), "f", c, err);
}

static void test_defaults(void)
{
	struct ns_config *c;
	char err[RD_ERR];

	CHECK(!parse("{}", &c, err), "%s", err);
	CHECK(c->n_interfaces == 0 && c->spin_us == 0 && c->load && !c->rules && c->hal == NS_HAL_XDP, " ");
	CHECK(!strcmp(c->congestion, "cubic") && c->log_level == -1 && c->reload_signal == 0, " ");
	CHECK(rd_config_has_if(c, "any0"), " ");
	rd_config_free(c);
	CHECK(rd_config() == rd_config_defaults(), " ");
}

static void test_values(void)
{
	static const char text[] =
		"{ // all types\n"
		"  \"interfaces\": [\"eth1\", \"eth2\"], \"mode\": \"native\", \"zero_copy\": \"off\",\n"
		"  \"spin_us\": 1000000, \"rcvbuf\": \"3M\", \"sndbuf\": 65536, \"load\": false,\n"
		"  \"congestion\": \"reno\", \"reload_signal\": \"SIGUSR2\",\n"
		"  \"tcp\": { \"syn_cookies\": false, \"time_wait_max\": 4, },\n"
		"  \"log\": { \"level\": \"INF\", \"file\": false, \"path\": \"/tmp\" },\n"
		"  \"rules\": [ { \"remote\": \"198.18.0.0/15\", \"action\": \"kernel\" } ],\n}";
	struct ns_config *c;
	char err[RD_ERR];

	CHECK(!parse(text, &c, err), "%s", err);
	if (!c)
		return;
	CHECK(c->n_interfaces == 2 && rd_config_has_if(c, "eth2") && !rd_config_has_if(c, "eth3"), " ");
	CHECK(c->mode == NS_MODE_NATIVE && c->zero_copy == NS_ZC_OFF && !c->load, " ");
	CHECK(c->spin_us == 1000000 && c->rcvbuf == 4 << 20 && c->sndbuf == 65536, "%u", c->rcvbuf);
	CHECK(!strcmp(c->congestion, "reno") && c->reload_signal == SIGUSR2, " ");
	CHECK(!c->tcp.syn_cookies && c->tcp.time_wait_max == 4, " ");
	CHECK(c->log_level == 8 && c->log_file == 0 && !strcmp(c->log_path, "/tmp"), " ");
	CHECK(c->rules && c->rules->n == 1, " ");
	rd_config_free(c);
}

static void test_daemon(void)
{
	static const char text[] =
		"{ \"label\": \"web\", \"daemon\": { \"workers\": [1, 3], \"spin_us\": 7, \"programs\": 9, \"access\": [\n"
		"  { \"user\": \"u\", \"group\": \"g\", \"label\": \"l\", \"per\": \"user\", \"programs\": 1, \"sockets\": 2,\n"
		"    \"ports\": 3, \"memory\": \"1M\" }, { \"allow\": false } ] } }";
	const struct ns_access *a;
	struct ns_config *c, *d;
	char err[RD_ERR], changed[128];

	CHECK(!parse(text, &c, err) && !parse("{}", &d, err), "%s", err);
	CHECK(c->daemon.workers == 2 && c->daemon.core[0] == 1 && c->daemon.core[1] == 3, " ");
	CHECK(d->daemon.workers == 1 && d->daemon.core[0] == -1 && d->daemon.spin_us == -1 && !d->daemon.n_access, " ");
	CHECK(!strcmp(c->label, "web") && c->daemon.spin_us == 7 && c->daemon.programs == 9, " ");
	CHECK(c->daemon.n_access == 2, "%u", c->daemon.n_access);
	a = c->daemon.access;
	CHECK(!strcmp(a->user, "u") && !strcmp(a->group, "g") && !strcmp(a->label, "l") && a->allow, " ");
	CHECK(a->per == NS_PER_USER && a->programs == 1 && a->sockets == 2 && a->ports == 3, " ");
	CHECK(a->memory == 1 << 20, "%llu", (unsigned long long)a->memory);
	CHECK(!a[1].allow && a[1].sockets == NS_NO_LIMIT && a[1].memory == NS_NO_LIMIT, " ");
	rd_config_fixed_changes(c, d, changed, sizeof(changed));
	CHECK(!strcmp(changed, "label, daemon.workers, daemon.programs"), "%s", changed);
	rd_config_fixed_changes(c, c, changed, sizeof(changed));
	CHECK(!changed[0], "%s", changed);
	rd_config_free(c);
	rd_config_free(d);
}

static const struct { const char *text, *want; } bad[] = {
	{ "{\"daemon\": {\"worker\": 1}}", "f:1:13: unknown key \"daemon.worker\"; did you mean \"daemon.workers\"?" },
	{ "{\"daemon\": {\"spin_us\": \"often\"}}", "f:1:13: \"daemon.spin_us\" must be \"auto\" or a number" },
	{ "{\"label\": \"this one is far too long\"}", "f:1:2: \"label\" must have 1 to 23 characters" },
	{ "{\n  \"interface\": []\n}", "f:2:3: unknown key \"interface\"; did you mean \"interfaces\"?" },
	{ "{\"spin\": 1}", "f:1:2: unknown key \"spin\"; did you mean \"spin_us\"?" },
	{ "{\"tcp\": {\n\"syn_cookie\": true}}", "f:2:1: unknown key \"tcp.syn_cookie\"; did you mean \"tcp.syn_cookies\"?" },
	{ "{\"syn_cookies\": true}", "f:1:2: unknown key \"syn_cookies\"; did you mean \"tcp.syn_cookies\"?" },
	{ "{\"tcp.syn_cookies\": true, \"tcp\": {\"syn_cookies\": true}}", "f:1:35: \"tcp.syn_cookies\" is here for the second" },
	{ "{\"qqqqqqqqqqqq\": 1}", "f:1:2: unknown key \"qqqqqqqqqqqq\"" },
	{ "{\"spin_us\": 1000001}", "f:1:2: \"spin_us\" is 1000001 us, but must be between 0 and 1000000" },
	{ "{\"spin_us\": -1}", "f:1:2: \"spin_us\" is -1 us" },
	{ "{\"spin_us\": 1.5}", "f:1:2: \"spin_us\" must be a whole number, not 1.5" },
	{ "{\"spin_us\": 1e999}", "f:1:2: \"spin_us\" must be a whole number" },
	{ "{\"spin_us\": \"1\"}", "f:1:2: \"spin_us\" must be a whole number, not a string" },
	{ "{\"spin_us\": null}", "f:1:2: \"spin_us\" must be a whole number, not null" },
	{ "{\"frames\": 1000}", "f:1:2: \"frames\" is 1000, but must be a power of two" },
	{ "{\"rcvbuf\": -1}", "f:1:2: \"rcvbuf\" must be a number of bytes (also \"256K\", \"4M\"), not -1" },
	{ "{\"rcvbuf\": \"1X\"}", "f:1:2: \"rcvbuf\" must be a number of bytes" },
	{ "{\"rcvbuf\": \"99999999999G\"}", "f:1:2: \"rcvbuf\"" },
	{ "{\"mode\": \"nativ\"}", "f:1:2: \"mode\": \"nativ\" is not one of auto, generic, native; did you mean \"native\"?" },
	{ "{\"hal\": \"dpdk\"}", "f:1:2: \"hal\": dpdk needs to be told which" },
	{ "{\"dpdk\": {\"devices\": \"net_ring0\"}}", "f:1:11: \"dpdk.devices\" must be a list" },
	{ "{\"dpdk\": {\"devices\": [\"\"]}}", "f:1:23: \"dpdk.devices\": this is not the name" },
	{ "{\"interfaces\": [\"a\", \"b\"], \"hal\": \"dpdk\", \"dpdk\": {\"devices\": [\"net_ring0\"]}}",
	  "f:1:2: \"interfaces\": 2 names for the TAPs of 1 DPDK devices" },
	{ "{\"hal\": \"dpdk\", \"dpdk\": {\"devices\": [\"net_ring0\"]}, \"daemon\": {\"workers\": 2}}",
	  "f:1:53: \"daemon.workers\": a DPDK device belongs to one process" },
	{ "{\"hal\": 1}", "f:1:2: \"hal\" must be a string, not a number" },
	{ "{\"load\": 1}", "f:1:2: \"load\" must be true or false" },
	{ "{\"interfaces\": \"eth0\"}", "f:1:2: \"interfaces\" must be a list" },
	{ "{\"interfaces\": [\"eth0\", 1]}", "f:1:25: \"interfaces\": this is not an interface name" },
	{ "{\"interfaces\": [\"an_interface_name_too_long\"]}", "f:1:17: " },
	{ "{\"tcp\": 1}", "f:1:2: \"tcp\" must be an object" },
	{ "{\"spin_us\": 1, \"spin_us\": 2}", "f:1:16: \"spin_us\" is here for the second time" },
	{ "{\"reload_signal\": \"SIGKILL\"}", "f:1:2: \"reload_signal\": \"SIGKILL\" can't be used" },
	{ "{\"log\": {\"level\": \"LOUD\"}}", "f:1:10: \"log.level\": \"LOUD\" is not one of" },
	{ "{\"rules\": [\n{\"remote\": \"x\", \"action\": \"drop\"}]}", "f:2:2: \"remote\" must be an address" },
	{ "{\"rules\": \"/nonexistent/rules\"}", "/nonexistent/rules: can't read it" },
	{ "{\"rules\": 7}", "f:1:2: \"rules\" must be a list" },
	{ "[]", "f:1:1: a configuration is an object" },
	{ "{\"a\" 1}", "f:1:" },
	{ "{\"\": 1}", "f:1:2: unknown key \"\"" },
};

static void test_errors(void)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ns_config *c;
		char err[RD_ERR] = "";
		int ret = parse(bad[i].text, &c, err);

		CHECK(ret < 0 && !c, "case %zu: %d", i, ret);
		CHECK(!strncmp(err, bad[i].want, strlen(bad[i].want)), "case %zu: %s", i, err);
		rd_config_free(c);
	}
}

/* A rule file is named relative to the configuration that names it. */
static void test_files(void)
{
	char dir[] = "/tmp/rd_config_XXXXXX", path[64], rules[64], err[RD_ERR];
	struct ns_config *c;
	FILE *f;

	CHECK(mkdtemp(dir), " ");
	snprintf(path, sizeof(path), "%s/c.json", dir);
	snprintf(rules, sizeof(rules), "%s/r.json", dir);
	f = fopen(path, "w");
	fputs("{ \"rules\": \"r.json\" }", f);
	fclose(f);
	CHECK(rd_config_load(path, &c, err) == -ENOENT && strstr(err, "r.json"), "%s", err);
	f = fopen(rules, "w");
	fputs("{ \"rules\": [], \"default\": \"kernel\" }", f);
	fclose(f);
	CHECK(!rd_config_load(path, &c, err), "%s", err);
	CHECK(c && c->rules && c->rules->default_action == RD_KERNEL && !strcmp(c->rules_path, rules), " ");
	rd_config_free(c);
	unlink(path);
	unlink(rules);
	CHECK(rd_config_load(path, &c, err) == -ENOENT && !c, "%s", err);
	CHECK(rd_config_load(dir, &c, err) == -EISDIR, "%s", err);
	rmdir(dir);
}

static void test_process(void)
{
	char err[RD_ERR];

	setenv("NSTACK_CONFIG", " {\"spin_us\": 7}", 1);
	CHECK(!rd_config_init(err), "%s", err);
	CHECK(rd_config()->spin_us == 7, " ");
	setenv("NSTACK_CONFIG", "{\"spin_us\": 8}", 1);
	CHECK(!rd_config_init(err) && rd_config()->spin_us == 7, "the first result stays");
}

static void test_describe(void)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	rd_config_describe(f, RD_CONFIG_TEXT);
	rd_config_describe(f, RD_CONFIG_MAN);
	rd_config_describe(f, RD_CONFIG_MARKDOWN);
	fclose(f);
	CHECK(strstr(text, "spin_us") && strstr(text, "tcp.syn_cookies") && strstr(text, "| `hal` |"), " ");
	free(text);
}

static int change(const char *text, char *err)
{
	return rd_config_change(text, strlen(text), "set", err);
}

static void test_change(void)
{
	struct ns_config before = *rd_config();
	struct rd_config_soft k;
	char err[RD_ERR] = "";
	unsigned n;

	CHECK(change("{\"spin_us\": 5, \"frames\": 512}", err) == -EINVAL && strstr(err, "\"frames\""), "%s", err);
	CHECK(change("{\"spin_us\": 5, \"tcp\": {\"time_wait_max\": -1}}", err) == -EINVAL, "%s", err);
	CHECK(change("[]", err) == -EINVAL && change("{", err) == -EINVAL, "%s", err);
	CHECK(rd_config()->spin_us == before.spin_us, "all or none");
	CHECK(!change("{}", err), "%s", err);
	CHECK(!change("{\"spin_us\": 5, \"congestion\": \"reno\", \"tcp.syn_cookies\": false, "
		      "\"log\": {\"level\": \"DBG\"}}", err), "%s", err);
	CHECK(rd_config()->spin_us == 5 && !strcmp(rd_config()->congestion, "reno"), " ");
	CHECK(!rd_config()->tcp.syn_cookies && ns_log_on(NS_M_RD, NS_DBG), " ");
	CHECK(rd_config()->rcvbuf == before.rcvbuf && rd_config()->source == before.source, "others stay");
	CHECK(rd_config_defaults()->spin_us == 0, "defaults stay");
	for (n = 0; rd_config_soft(n, RD_CONFIG_OF_PROGRAM, &k); n++)
		if (!strcmp(k.name, "spin_us"))
			CHECK(!strcmp(k.value, "5") && !strcmp(k.standard, "0"), "%s %s", k.value, k.standard);
	CHECK(n == 6 && !rd_config_soft(4, RD_CONFIG_OF_DAEMON, &k), "%u", n);
}

int main(void)
{
	test_defaults();
	test_values();
	test_daemon();
	test_errors();
	test_files();
	test_process();
	test_describe();
	test_change();
	if (!failures)
		puts("ok");
	return failures != 0;
}
