/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_rules.c - nstack rules: show, check, explain, set
 */
#define _GNU_SOURCE
#include "rules_set.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rules_of(struct steer *st, struct rd_rules *out)
{
	struct steer_rules *c = malloc(sizeof(*c));
	int ret = c ? steer_rules_get(st, c) : -ENOMEM;

	if (!ret)
		ret = rd_rules_decompile(c, out);
	free(c);
	return ret;
}

/* --- show ----------------------------------------------------------------------------------------- */

static void print_set(const char *name, const struct rd_rules *r)
{
	char text[256];

	printf("%s: %u rule(s)\n", name, r->n);
	for (uint32_t i = 0; i < r->n; i++) {
		rd_rule_str(r, &r->rule[i], text, sizeof(text));
		printf("  %3u  %s\n", i + 1, text);
	}
	printf("  else %s\n", r->default_action == RD_KERNEL ? "kernel" : r->default_action == RD_DROP ?
	       "drop" : r->stacks.name[r->default_stack]);
}

static cJSON *set_json(const char *name, const struct rd_rules *r)
{
	char *text = rd_rules_text(r);
	cJSON *o = text ? cJSON_Parse(text) : NULL;

	free(text);
	if (o)
		cJSON_AddStringToObject(o, "interface", name);
	return o;
}

static int show(const char *only, bool json)
{
	struct rd_rules *r = malloc(sizeof(*r));
	cJSON *list = cJSON_CreateArray();
	struct attached a[IFS_MAX];
	int n = attached_open(a, only), ret = n < 0 ? EXIT_FAILED : 0;

	for (int i = 0; i < n; i++) {
		int err = r ? rules_of(a[i].st, r) : -ENOMEM;

		if (err)
			ret = fail("%s: %s", a[i].name, strerror(-err));
		else if (json)
			cJSON_AddItemToArray(list, set_json(a[i].name, r));
		else
			print_set(a[i].name, r);
	}
	attached_close(a, n);
	if (!n && !json)
		puts("no interface has the steering program (nstack load)");
	if (json)
		print_json(list);
	else
		cJSON_Delete(list);
	free(r);
	return ret;
}

static int check(const char *path)
{
	struct rd_rules *r = malloc(sizeof(*r));
	char err[RD_ERR];
	int ret = 0;

	if (!r)
		return EXIT_FAILED;
	if (rd_rules_load(path, r, err))
		ret = fail("%s", err);
	else
		print_set(path, r);
	free(r);
	return ret;
}

/* --- explain --------------------------------------------------------------------------------------- */

/* "198.18.0.1:80", "[2001:db8::1]:80", "198.18.0.1", "2001:db8::1" */
static int addr_parse(const char *s, struct nst_addr *a)
{
	char host[64];
	const char *end = s + strlen(s), *port = NULL;

	memset(a, 0, sizeof(*a));
	if (s[0] == '[') {
		end = strchr(s++, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -1;
		port = end[1] ? end + 2 : NULL;
	} else if (strchr(s, ':') && strchr(s, ':') == strrchr(s, ':')) {
		end = strchr(s, ':');
		port = end + 1;
	}
	if ((size_t)(end - s) >= sizeof(host))
		return -1;
	memcpy(host, s, (size_t)(end - s));
	host[end - s] = 0;
	if (!strcmp(host, "*"))
		a->family = AF_INET;
	else if (inet_pton(AF_INET, host, &a->v4) == 1)
		a->family = AF_INET;
	else if (inet_pton(AF_INET6, host, a->v6) == 1)
		a->family = AF_INET6;
	else
		return -1;
	if (port) {
		if (number(port, 0, 65535) < 0)
			return -1;
		a->port = htons((uint16_t)number(port, 0, 65535));
	}
	return 0;
}

/* What is asked: "explain PROTO LOCAL [from|to REMOTE]", and for whom. */
struct question {
	uint8_t proto;
	struct nst_addr local, remote;
	struct rd_who who;
	bool json;
};

static int explain_print(const char *name, const struct rd_rules *r, const struct question *q)
{
	struct rd_verdict v = rd_rules_lookup(r, &q->who, q->proto, &q->local, &q->remote);
	const char *what = v.action == RD_KERNEL ? "kernel" : v.action == RD_DROP ? "drop" :
			   r->stacks.name[v.stack];
	char text[256] = "";

	if (v.rule >= 0)
		rd_rule_str(r, &r->rule[v.rule], text, sizeof(text));
	if (q->json) {
		cJSON *o = cJSON_CreateObject();

		cJSON_AddStringToObject(o, "source", name);
		cJSON_AddStringToObject(o, "action", what);
		cJSON_AddNumberToObject(o, "rule", v.rule >= 0 ? v.rule + 1 : v.rule);
		cJSON_AddStringToObject(o, "text", text);
		return print_json(o);
	}
	if (v.rule == RD_BY_BUILTIN)
		printf("%s: %s (built in: loopback addresses are the kernel's)\n", name, what);
	else if (v.rule == RD_BY_DEFAULT)
		printf("%s: %s (no rule matches: the default)\n", name, what);
	else
		printf("%s: %s (rule %d: %s)\n", name, what, v.rule + 1, text);
	if (v.action == RD_STACK)
		printf("  if a socket of a program under nstack owns the local port; else kernel\n");
	return 0;
}

static int explain_usage(void)
{
	return usage_error(&verb_rules, "explain needs: tcp|udp LOCAL [from|to REMOTE], such as "
			   "tcp 198.18.0.1:80 from 198.18.9.9");
}

static bool question_parse(struct question *q, int n, char **word)
{
	if (n != 2 && n != 4)
		return false;
	q->proto = !strcmp(word[0], "tcp") ? IPPROTO_TCP : !strcmp(word[0], "udp") ? IPPROTO_UDP : 0;
	if (!q->proto || addr_parse(word[1], &q->local))
		return false;
	return n == 2 || ((!strcmp(word[2], "from") || !strcmp(word[2], "to")) && !addr_parse(word[3], &q->remote));
}

/* 0, or the exit status. */
static int question_who(struct question *q, const char *program, const char *user, const char *cgroup)
{
	const struct passwd *pw = user ? getpwnam(user) : NULL;
	long uid = pw ? (long)pw->pw_uid : user ? number(user, 0, INT_MAX) : (long)getuid();

	if (uid < 0)
		return fail("--user %s: there is no such user", user);
	q->who.uid = (uint32_t)uid;
	snprintf(q->who.program, sizeof(q->who.program), "%s", program ? program : "");
	snprintf(q->who.cgroup, sizeof(q->who.cgroup), "%s", cgroup ? cgroup : "");
	return 0;
}

static int explain(const struct question *q, const char *file, const char *only)
{
	struct attached a[IFS_MAX];
	struct rd_rules *r;
	char err[RD_ERR];
	int used, ret = 0;

	r = malloc(sizeof(*r));
	if (!r)
		return EXIT_FAILED;
	if (file) {
		ret = rd_rules_load(file, r, err) ? fail("%s", err) :
		      explain_print(file, r, q);
		free(r);
		return ret;
	}
	used = attached_open(a, only);
	for (int i = 0; i < used && !ret; i++) {
		ret = rules_of(a[i].st, r) ? fail("%s: its rules can't be read", a[i].name) :
		      explain_print(a[i].name, r, q);
	}
	attached_close(a, used);
	free(r);
	return used > 0 ? ret : used < 0 ? EXIT_FAILED :
	       fail("no interface has the steering program; --file FILE explains a file");
}

/* --- set ---------------------------------------------------------------------------------------------- */

static int set_rules(const struct rd_rules *r, const char *name, const char *only)
{
	struct rules_set done;
	int ret = rules_set(r, only, &done);

	if (ret)
		fail("%s%s%s", name, name[0] ? ": " : "", done.why);
	if (done.in_force)
		printf("%u rule(s) on %d interface(s) and %d process(es); %llu connections stay where they are\n",
		       r->n, done.interfaces, done.processes, (unsigned long long)done.pins);
	return ret;
}

static int set(const char *path, const char *only)
{
	struct rd_rules *r = malloc(sizeof(*r));
	char err[RD_ERR];
	int ret;

	if (!strcmp(path, "-"))
		path = "/dev/stdin";
	if (!r)
		ret = fail("out of memory");
	else if (rd_rules_load(path, r, err))
		ret = fail("%s", err);
	else
		ret = set_rules(r, path, only);
	free(r);
	return ret;
}

static int clear(const char *only)
{
	struct rd_rules *r = malloc(sizeof(*r));
	int ret = EXIT_FAILED;

	if (r) {
		rd_rules_init(r);
		ret = set_rules(r, "", only);
	}
	free(r);
	return ret;
}

/* As its reload_signal, or a daemon's SIGHUP. */
static int reload(const char *pid_arg)
{
	pid_t pid, pids[CTL_WORKERS];
	char why[256] = "";
	int ret = ctl_pick(pid_arg, &pid), n = ret ? 0 : ctl_workers(pid, pids, CTL_WORKERS);

	for (int i = 0; i < n; i++) {
		cJSON *r = ctl_ask(pids[i], "reload", why);

		if (!r)
			ret = fail("pid %d: %s", (int)pids[i], why);
		cJSON_Delete(r);
	}
	return ret;
}

static int rules_run(int argc, char **argv)
{
	const char *file = NULL, *only = NULL, *program = NULL, *user = NULL, *cgroup = NULL;
	static struct question q;
	bool json = false;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), OPT_VALUE("--file", 'f', &file),
				    OPT_VALUE("--interface", 'i', &only), OPT_VALUE("--program", 'p', &program),
				    OPT_VALUE("--user", 'u', &user), OPT_VALUE("--cgroup", 'c', &cgroup), { 0 } };
	int n = opts_parse(&verb_rules, opts, true, argc, argv);
	unsigned ifindex;

	if (n < 0)
		return EXIT_USAGE;
	if (only && iface_by_name(only, &ifindex))
		return EXIT_FAILED;
	if (n == 0 || (n == 1 && !strcmp(argv[1], "show")))
		return show(only, json);
	if (!strcmp(argv[1], "set") && n == 2)
		return set(argv[2], only);
	if (!strcmp(argv[1], "push") && n == 1)
		return rules_push(only);
	if (!strcmp(argv[1], "clear") && n == 1)
		return clear(only);
	if (!strcmp(argv[1], "check") && n == 2)
		return check(argv[2]);
	if (!strcmp(argv[1], "reload") && n <= 2)
		return reload(n == 2 ? argv[2] : NULL);
	if (!strcmp(argv[1], "explain")) {
		q.json = json;
		if (!question_parse(&q, n - 1, argv + 2))
			return explain_usage();
		return question_who(&q, program, user, cgroup) ? EXIT_FAILED : explain(&q, file, only);
	}
	return usage_error(&verb_rules, "\"%s\" is not one of show, set FILE, push, clear, check FILE, reload, explain",
			   argv[1]);
}

const struct verb verb_rules = {
	"rules", rules_run, "which stack serves which addresses: show, set, explain",
	"rules [show | set FILE | push | clear | check FILE | reload [PID] | explain tcp|udp LOCAL [from REMOTE]] "
	"[-i IFACE] [--json]",
	"  show              the rules in force on every interface, in their order\n"
	"  set FILE          replace them, in the steering programs and in all processes; connections\n"
	"                    that exist stay where they are; - is standard input\n"
	"  push              a rule set on each line of standard input comes into force, or is refused\n"
	"                    and changes nothing; a line of JSON answers each\n"
	"  clear             no rules: every socket of a program under nstack is served by its stack\n"
	"  check FILE        read a rule file and print it sorted, or say what is wrong with it\n"
	"  reload [PID]      have a process read its configuration's rule file again\n"
	"  explain ...       which rule decides, such as: explain tcp 198.18.0.1:80 from 198.18.9.9\n\n"
	"  -f, --file FILE         explain: by this file, not by what is in force\n"
	"  -p, --program NAME      explain: for this program; -u, --user USER and -c, --cgroup PATH likewise\n"
	"  -i, --interface IFACE   this interface only\n"
	"  -j, --json              print JSON (show, explain)\n",
};
