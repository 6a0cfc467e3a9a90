/* SPDX-License-Identifier: Apache-2.0 */
/* Rules: reading and its errors, the order, the decision against a brute-force search, and the
 * compiled bit vectors against both. */
#include <rd/rules.h>

#include <arpa/inet.h>
#include <bpf/steer_rules.h>
#include <errno.h>
#include <rd/rules_internal.h>
#include <stdio.h>
#include <stdlib.h>
#include "check.h"

static struct nst_addr addr(const char *ip, unsigned port)
{
	struct nst_addr a = { .port = htons((uint16_t)port) };

	a.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	inet_pton(a.family, ip, a.v6);
	return a;
}

static int parse(const char *text, struct rd_rules *r, char *err)
{
	return rd_rules_parse(text, strlen(text), "f", r, err);
}

static uint8_t decide(const struct rd_rules *r, uint8_t proto, const char *local, unsigned lport,
		      const char *remote, unsigned rport)
{
	struct nst_addr l = addr(local, lport), p = addr(remote, rport);

	return rd_rules_lookup(r, NULL, proto, &l, &p).action;
}

static void test_longest_prefix(void)
{
	static struct rd_rules r;
	char err[RD_ERR];

	CHECK(!parse("[{\"remote\": \"10.0.0.0/8\", \"action\": \"kernel\"},"
		     "{\"remote\": \"10.1.2.77/16\", \"action\": \"drop\"}," /* host bits */
		     "{\"remote\": \"10.1.0.0/24\", \"action\": \"kernel\"},"  /* nested, same bits */
		     "{\"remote\": \"10.1.2.3\", \"action\": \"stack\"},"
		     "{\"remote\": \"0.0.0.0/0\", \"action\": \"drop\"},"
		     "{\"remote\": \"2001:db8::/32\", \"action\": \"drop\"}]", &r, err), "%s", err);
	CHECK(decide(&r, 6, "198.18.0.1", 80, "10.9.9.9", 1) == RD_KERNEL, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "10.1.9.9", 1) == RD_DROP, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "10.1.0.9", 1) == RD_KERNEL, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "10.1.2.3", 1) == RD_STACK, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "11.1.2.3", 1) == RD_DROP, "0.0.0.0/0");
	CHECK(decide(&r, 6, "2001:db8::1", 80, "2001:db8::2", 1) == RD_DROP, " ");
	CHECK(decide(&r, 6, "2001:db8::1", 80, "2001:db9::2", 1) == RD_STACK, "the default");
	CHECK(decide(&r, 6, "127.0.0.1", 80, "127.0.0.1", 1) == RD_KERNEL, "built in");
	CHECK(decide(&r, 6, "0.0.0.0", 0, "0.0.0.0", 1) == RD_KERNEL, "built in");
	CHECK(decide(&r, 6, "::", 0, "::1", 1) == RD_KERNEL, "built in");
}

static void test_order(void)
{
	static struct rd_rules r;
	char err[RD_ERR];

	CHECK(!parse("{\"rules\": ["
		     "{\"port\": \"8000-8999\", \"action\": \"kernel\"},"
		     "{\"port\": 8080, \"action\": \"drop\"},"
		     "{\"port\": 8080, \"proto\": \"udp\", \"action\": \"stack\"},"
		     "{\"remote\": \"198.18.0.0/15\", \"remote_port\": 53, \"action\": \"drop\"},"
		     "{\"remote\": \"198.18.7.7\", \"action\": \"stack\", \"priority\": 200},"
		     "{\"local\": \"198.18.0.9\", \"action\": \"kernel\", \"priority\": 1},"
		     "], \"default\": \"kernel\"}", &r, err), "%s", err);
	CHECK(decide(&r, 6, "10.0.0.1", 8001, "10.0.0.2", 1) == RD_KERNEL, " ");
	CHECK(decide(&r, 6, "10.0.0.1", 8080, "10.0.0.2", 1) == RD_DROP, "narrower port");
	CHECK(decide(&r, 17, "10.0.0.1", 8080, "10.0.0.2", 1) == RD_STACK, "protocol given");
	CHECK(decide(&r, 17, "10.0.0.1", 8080, "198.18.7.7", 53) == RD_DROP, "remote before port");
	CHECK(decide(&r, 6, "10.0.0.1", 1, "198.18.7.7", 1) == RD_STACK, "late priority");
	CHECK(decide(&r, 6, "198.18.0.9", 8080, "10.0.0.2", 1) == RD_KERNEL, "early priority");
	CHECK(decide(&r, 6, "10.0.0.1", 1, "10.0.0.2", 1) == RD_KERNEL, "default");
	CHECK(!parse("[{\"port\": 80, \"action\": \"drop\"}, {\"port\": 80, \"action\": \"kernel\"}]", &r, err),
	      "%s", err);
	CHECK(r.n == 1 && r.rule[0].action == RD_KERNEL, "the last of two equal ones");
}

static const struct { const char *text, *want; } bad[] = {
	{ "7", "f:1:1: rules are" },
	{ "{\"rule\": []}", "f:1:2: unknown key \"rule\"; did you mean \"rules\"?" },
	{ "[{\"remote\": \"1.2.3.4\"}]", "f:1:2: this rule has no \"action\"" },
	{ "[\n\n{\"remot\": \"1.2.3.4\"}]", "f:3:2: unknown key \"remot\"; did you mean \"remote\"?" },
	{ "[{\"remote\": \"1.2.3.4/33\"}]", "f:1:3: \"remote\" must be an address" },
	{ "[{\"remote\": \"1.2.3/8\"}]", "f:1:3:" },
	{ "[{\"remote\": \"1.2.3.4/\"}]", "f:1:3:" },
	{ "[{\"remote\": \"1.2.3.4/-1\"}]", "f:1:3:" },
	{ "[{\"local\": \"::/129\"}]", "f:1:3:" },
	{ "[{\"local\": 5}]", "f:1:3:" },
	{ "[{\"port\": 65536}]", "f:1:3: \"port\": a port is 0 to 65535" },
	{ "[{\"port\": \"9-8\"}]", "f:1:3: \"port\": \"9-8\" is not a port range" },
	{ "[{\"port\": \"8-\"}]", "f:1:3:" },
	{ "[{\"port\": \"-8\"}]", "f:1:3:" },
	{ "[{\"port\": \"8-99999\"}]", "f:1:3: \"port\": \"8-99999\" is not a port range" },
	{ "[{\"port\": \"99999\"}]", "f:1:3:" },
	{ "[{\"port\": true}]", "f:1:3:" },
	{ "[{\"proto\": \"icmp\"}]", "f:1:3: \"proto\" must be" },
	{ "[{\"action\": \"no such!\"}]", "f:1:3: \"action\" must be the name of a stack" },
	{ "[{\"action\": \"a_very_long_stack_name\"}]", "f:1:3:" },
	{ "[{\"priority\": 1.5}]", "f:1:3: \"priority\"" },
	{ "[{\"action\": \"drop\", \"action\": \"drop\"}]", "f:1:21: \"action\" is here for the second" },
	{ "[{\"remote\": \"::/0\", \"local\": \"1.2.3.4\", \"action\": \"drop\"}]", "f:1:2: \"remote\" and \"local\"" },
	{ "[1]", "f:1:2: a rule is an object" },
	{ "{\"default\": 1}", "f:1:2: \"default\" must be" },
};

static void test_errors(void)
{
	static struct rd_rules r;
	char err[RD_ERR], *text = malloc(64 * 400), *p = text;

	if (!text)
		abort();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = 0;
		CHECK(parse(bad[i].text, &r, err) == -EINVAL, "case %zu", i);
		CHECK(!strncmp(err, bad[i].want, strlen(bad[i].want)), "case %zu: %s", i, err);
	}
	p += sprintf(p, "[");
	for (int i = 0; i <= 256; i++)
		p += sprintf(p, "{\"port\": %d, \"action\": \"drop\"},\n", i);
	sprintf(p, "]");
	CHECK(parse(text, &r, err) == -E2BIG, " ");
	CHECK(!strncmp(err, "f:257:1: more than 256 rules", 28), "%s", err);
	free(text);
}

static void test_may_stack(void)
{
	static struct rd_rules r;
	struct nst_addr any = addr("0.0.0.0", 80), one = addr("198.18.0.1", 80), lo = addr("127.0.0.1", 80);
	char err[RD_ERR];

	rd_rules_init(&r);
	CHECK(rd_rules_listen(&r, NULL, 6, &any).stack && !rd_rules_listen(&r, NULL, 6, &lo).stack, " ");
	parse("{\"rules\": [{\"remote\": \"10.0.0.0/8\", \"action\": \"stack\"}], \"default\": \"kernel\"}", &r, err);
	CHECK(rd_rules_listen(&r, NULL, 6, &any).stack, " ");
	parse("{\"rules\": [{\"port\": 80, \"action\": \"kernel\"}]}", &r, err);
	CHECK(!rd_rules_listen(&r, NULL, 6, &any).stack, " ");
	parse("{\"rules\": [{\"remote\": \"10.0.0.0/8\", \"port\": 80, \"action\": \"kernel\"}]}", &r, err);
	CHECK(rd_rules_listen(&r, NULL, 6, &any).stack, "other peers are the stack's");
	parse("{\"rules\": [{\"local\": \"198.18.0.1\", \"action\": \"kernel\"}]}", &r, err);
	CHECK(rd_rules_listen(&r, NULL, 6, &any).stack && !rd_rules_listen(&r, NULL, 6, &one).stack, " ");
	parse("{\"rules\": [{\"remote\": \"2001:db8::/32\", \"action\": \"stack\"}], \"default\": \"kernel\"}", &r, err);
	CHECK(!rd_rules_listen(&r, NULL, 6, &any).stack, "an IPv4 socket has no IPv6 peers");
}

/* --- against brute force ------------------------------------------------------------------------ */

static uint32_t seed = 12345;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* Few distinct bits, so that prefixes nest and packets hit them. */
static void random_ip(int family, uint8_t out[16])
{
	memset(out, 0, 16);
	if (family == AF_INET) {
		out[0] = 198;
		out[1] = (uint8_t)(18 + rnd(2));
		out[2] = (uint8_t)rnd(2);
		out[3] = (uint8_t)(1 + rnd(3));
	} else {
		out[0] = 0x20;
		out[1] = 0x01;
		out[5] = (uint8_t)rnd(2);
		out[15] = (uint8_t)(2 + rnd(3));
	}
}

struct plain { /* a rule as written, for the brute-force search */
	int family, rlen, llen, proto, plo, phi, rplo, rphi, prio, action;
	uint8_t remote[16], local[16];
};

static void random_rule(struct plain *p)
{
	static const int lens4[] = { 0, 8, 15, 16, 24, 31, 32 }, lens6[] = { 0, 16, 47, 48, 64, 127, 128 };

	memset(p, 0, sizeof(*p));
	p->family = rnd(2) ? AF_INET : AF_INET6;
	p->rlen = rnd(3) ? (p->family == AF_INET ? lens4 : lens6)[rnd(7)] : -1;
	p->llen = rnd(3) ? -1 : (p->family == AF_INET ? lens4 : lens6)[rnd(7)];
	random_ip(p->family, p->remote);
	random_ip(p->family, p->local);
	p->proto = rnd(2) ? 0 : rnd(2) ? IPPROTO_TCP : IPPROTO_UDP;
	p->phi = p->rphi = 65535;
	if (rnd(2)) {
		p->plo = (int)(1 + rnd(6));
		p->phi = p->plo + (int)rnd(4);
	}
	if (!rnd(4)) {
		p->rplo = (int)(1 + rnd(4));
		p->rphi = p->rplo + (int)rnd(2);
	}
	p->prio = rnd(4) ? 100 : (int)rnd(3);
	p->action = (int)rnd(3);
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, int len)
{
	for (int i = 0; i < len; i++) {
		if ((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1)
			return false;
	}
	return true;
}

static bool plain_matches(const struct plain *p, int proto, const struct nst_addr *l,
			  const struct nst_addr *r)
{
	int lp = ntohs(l->port), rp = ntohs(r->port);

	if ((p->rlen >= 0 || p->llen >= 0) && p->family != r->family)
		return false;
	return (!p->proto || p->proto == proto) && lp >= p->plo && lp <= p->phi && rp >= p->rplo &&
	       rp <= p->rphi && bits_equal(p->remote, r->v6, p->rlen) &&
	       bits_equal(p->local, l->v6, p->llen);
}

static bool plain_same(const struct plain *a, const struct plain *b)
{
	return a->prio == b->prio && a->proto == b->proto && a->plo == b->plo && a->phi == b->phi &&
	       a->rplo == b->rplo && a->rphi == b->rphi && a->rlen == b->rlen && a->llen == b->llen &&
	       (a->family == b->family || (a->rlen < 0 && a->llen < 0)) &&
	       bits_equal(a->remote, b->remote, a->rlen) && bits_equal(a->local, b->local, a->llen);
}

/* Is a to be preferred to b? Ties: the earlier one. */
static bool plain_before(const struct plain *a, const struct plain *b)
{
	if (a->prio != b->prio)
		return a->prio < b->prio;
	if (a->rlen != b->rlen)
		return a->rlen > b->rlen;
	if (a->llen != b->llen)
		return a->llen > b->llen;
	if (a->phi - a->plo != b->phi - b->plo)
		return a->phi - a->plo < b->phi - b->plo;
	if (a->rphi - a->rplo != b->rphi - b->rplo)
		return a->rphi - a->rplo < b->rphi - b->rplo;
	return a->proto && !b->proto;
}

static int brute_force(const struct plain *p, int n, int proto, const struct nst_addr *l,
		       const struct nst_addr *r)
{
	int best = -1;

	for (int i = 0; i < n; i++) {
		if (plain_matches(&p[i], proto, l, r) && (best < 0 || plain_before(&p[i], &p[best])))
			best = i;
	}
	return best < 0 ? RD_STACK : p[best].action;
}

static char *rules_json(const struct plain *p, int n)
{
	static const char *const actions[] = { "kernel", "drop", "stack" };
	char *text = malloc((size_t)n * 300 + 16), *t = text, ip[64];

	if (!text)
		abort();
	t += sprintf(t, "[");
	for (int i = 0; i < n; i++) {
		t += sprintf(t, "{");
		if (p[i].rlen >= 0)
			t += sprintf(t, "\"remote\": \"%s/%d\", ", inet_ntop(p[i].family, p[i].remote, ip, 64),
				     p[i].rlen);
		if (p[i].llen >= 0)
			t += sprintf(t, "\"local\": \"%s/%d\", ", inet_ntop(p[i].family, p[i].local, ip, 64),
				     p[i].llen);
		if (p[i].phi < 65535)
			t += sprintf(t, "\"port\": \"%d-%d\", ", p[i].plo, p[i].phi);
		if (p[i].rphi < 65535)
			t += sprintf(t, "\"remote_port\": \"%d-%d\", ", p[i].rplo, p[i].rphi);
		if (p[i].proto)
			t += sprintf(t, "\"proto\": \"%s\", ", p[i].proto == IPPROTO_TCP ? "tcp" : "udp");
		t += sprintf(t, "\"priority\": %d, \"action\": \"%s\"},", p[i].prio, actions[p[i].action]);
	}
	sprintf(t, "]");
	return text;
}

static int vectors(const struct steer_rules *c, int proto, const struct nst_addr *l,
		   const struct nst_addr *r)
{
	struct steer_flow f;
	int i, bytes = l->family == AF_INET ? 4 : 16;

	memset(&f, 0, sizeof(f));
	f.family = l->family;
	f.proto = proto == IPPROTO_TCP ? STEER_P_TCP : STEER_P_UDP;
	f.lport = l->port;
	f.rport = r->port;
	memcpy(f.local, l->v6, (size_t)bytes);
	memcpy(f.remote, r->v6, (size_t)bytes);
	i = steer_rules_match(c, &f);
	if (i < 0)
		return RD_STACK;
	return c->action[i] == STEER_ACT_KERNEL ? RD_KERNEL : c->action[i] == STEER_ACT_DROP ? RD_DROP :
	       RD_STACK;
}

static void property_round(int n)
{
	static struct plain p[RD_RULES_MAX];
	static struct rd_rules r, again, back;
	struct steer_rules *c = malloc(sizeof(*c));
	char err[RD_ERR] = "", *text, *canonical;

	for (int i = 0; i < n; i++)
		random_rule(&p[i]);
	text = rules_json(p, n);
	for (int i = 0; i < n; i++) { /* the last of equal ones takes the place of the first */
		for (int j = 0; j < i; j++) {
			if (plain_same(&p[i], &p[j]))
				p[j].action = p[i].action;
		}
	}
	CHECK(!parse(text, &r, err), "%s", err);
	canonical = rd_rules_text(&r);
	CHECK(!parse(canonical, &again, err), "%s", err);
	CHECK(!rd_rules_compile(&r, c), " ");
	CHECK(!rd_rules_decompile(c, &back), " ");
	for (int k = 0; k < 300; k++) {
		int family = rnd(2) ? AF_INET : AF_INET6, proto = rnd(2) ? IPPROTO_TCP : IPPROTO_UDP, want;
		struct nst_addr l = { .family = (uint8_t)family, .port = htons((uint16_t)(1 + rnd(10))) };
		struct nst_addr m = { .family = (uint8_t)family, .port = htons((uint16_t)(1 + rnd(6))) };

		random_ip(family, l.v6);
		random_ip(family, m.v6);
		want = brute_force(p, n, proto, &l, &m);
		CHECK(rd_rules_lookup(&r, NULL, (uint8_t)proto, &l, &m).action == want, "list, n %d", n);
		CHECK(rd_rules_lookup(&again, NULL, (uint8_t)proto, &l, &m).action == want, "printed, n %d", n);
		CHECK(rd_rules_lookup(&back, NULL, (uint8_t)proto, &l, &m).action == want, "decompiled, n %d", n);
		CHECK(vectors(c, proto, &l, &m) == want, "vectors, n %d", n);
	}
	free(text);
	free(canonical);
	free(c);
}

static void test_publish(void)
{
	static struct rd_rules r;
	struct nst_addr l = addr("198.18.0.1", 80), m = addr("198.18.9.9", 5);
	char err[RD_ERR];

	CHECK(rd_lookup(NULL, 6, &l, &m).action == RD_KERNEL, "before rd_init()");
	CHECK(!rd_init(NULL, err), "%s", err);
	CHECK(rd_lookup(NULL, 6, &l, &m).action == RD_STACK && rd_listen(NULL, 6, &l).stack, " ");
	CHECK(rd_rules_generation() == 1, " ");
	CHECK(!parse("[{\"remote\": \"198.18.9.0/24\", \"action\": \"kernel\"}]", &r, err), "%s", err);
	CHECK(!rd_rules_publish(&r) && rd_rules_generation() == 2, " ");
	CHECK(rd_lookup(NULL, 6, &l, &m).action == RD_KERNEL, " ");
	CHECK(rd_lookup(NULL, 6, &l, NULL).action == RD_STACK, "peer unknown");
	rd_rules_current(&r);
	CHECK(r.n == 1 && r.generation == 2, " ");
}

/* --- who asks ------------------------------------------------------------------------------------- */

static const struct rd_who web = { "nginx", 33, "/system.slice/nginx.service" };
static const struct rd_who db = { "redis-server", 44, "/user.slice" };

static uint8_t decide_for(const struct rd_rules *r, const struct rd_who *who, const char *remote)
{
	struct nst_addr l = addr("198.18.0.1", 80), p = addr(remote, 9);

	return rd_rules_lookup(r, who, 6, &l, &p).action;
}

static void test_who(void)
{
	static struct rd_rules r, again;
	char err[RD_ERR], *text;

	CHECK(!parse("{\"rules\": ["
		     "{\"remote\": \"198.18.9.0/24\", \"action\": \"drop\"},"
		     "{\"program\": \"nginx\", \"action\": \"stack\"},"
		     "{\"user\": 44, \"remote\": \"198.18.7.0/24\", \"action\": \"stack\"},"
		     "{\"cgroup\": \"/user.slice/\", \"remote\": \"198.18.8.0/24\", \"action\": \"stack\"}],"
		     "\"default\": \"kernel\"}", &r, err), "%s", err);
	CHECK(decide_for(&r, &web, "198.18.9.1") == RD_STACK, "before rules that ask for nobody");
	CHECK(decide_for(&r, &db, "198.18.9.1") == RD_DROP, " ");
	CHECK(decide_for(&r, &db, "198.18.7.1") == RD_STACK && decide_for(&r, &db, "198.18.8.1") == RD_STACK, " ");
	CHECK(decide_for(&r, &web, "198.18.1.1") == RD_STACK && decide_for(&r, &db, "198.18.1.1") == RD_KERNEL, " ");
	CHECK(decide_for(&r, NULL, "198.18.1.1") == RD_KERNEL, "not known who it is");
	text = rd_rules_text(&r);
	CHECK(!parse(text, &again, err) && again.who == r.who && again.n == 4, "%s: %s", err, text);
	CHECK(decide_for(&again, &web, "198.18.9.1") == RD_STACK && decide_for(&again, &db, "198.18.8.1") == RD_STACK,
	      "printed: %s", text);
	free(text);
}

static void test_cgroups(void)
{
	static struct rd_rules r;
	static const struct { const char *path; bool in; } c[] = {
		{ "/a", true }, { "/a/b", true }, { "/ab", false }, { "/", false }, { "", false },
	};
	char err[RD_ERR];

	CHECK(!parse("{\"rules\": [{\"cgroup\": \"/a\", \"action\": \"drop\"}]}", &r, err), "%s", err);
	for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct rd_who w = { "x", 1, "" };

		strcpy(w.cgroup, c[i].path);
		CHECK((decide_for(&r, &w, "198.18.1.1") == RD_DROP) == c[i].in, "%s", c[i].path);
	}
}

static void test_who_listens(void)
{
	static struct rd_rules r;
	struct nst_addr any = { .family = AF_INET, .port = htons(80) };
	struct rd_listen l;
	char err[RD_ERR];

	CHECK(!parse("{\"rules\": [{\"program\": \"nginx\", \"action\": \"stack\"},"
		     "{\"remote\": \"198.18.9.0/24\", \"action\": \"kernel\"}], \"default\": \"kernel\"}", &r, err),
	      "%s", err);
	l = rd_rules_listen(&r, &web, 6, &any);
	CHECK(l.stack && l.exempt, "its rule says all");
	CHECK(!rd_rules_listen(&r, &db, 6, &any).stack, " ");
	CHECK(!parse("[{\"program\": \"nginx\", \"remote\": \"198.18.9.0/24\", \"action\": \"kernel\"}]", &r, err),
	      "%s", err);
	l = rd_rules_listen(&r, &web, 6, &any);
	CHECK(l.stack && !l.exempt, "one that asks for the peer does not count for a listener");
	CHECK(!parse("[{\"program\": \"nginx\", \"action\": \"stack\"},"
		     "{\"remote\": \"198.18.9.0/24\", \"action\": \"drop\", \"priority\": 1}]", &r, err), "%s", err);
	l = rd_rules_listen(&r, &web, 6, &any);
	CHECK(l.stack && !l.exempt, "an earlier one stays in force");
	CHECK(!parse("[{\"program\": \"nginx\", \"action\": \"kernel\"}]", &r, err), "%s", err);
	CHECK(!rd_rules_listen(&r, &web, 6, &any).stack && rd_rules_listen(&r, &db, 6, &any).stack, " ");
}

static void test_steering_has_no_who(void)
{
	static struct rd_rules r, back;
	struct steer_rules *c = malloc(sizeof(*c));
	char err[RD_ERR];

	CHECK(!parse("[{\"program\": \"nginx\", \"action\": \"drop\"},"
		     "{\"remote\": \"198.18.9.0/24\", \"action\": \"kernel\"}]", &r, err), "%s", err);
	CHECK(!rd_rules_compile(&r, c) && !rd_rules_decompile(c, &back), " ");
	CHECK(back.n == 1 && back.rule[0].action == RD_KERNEL && !back.who, " ");
	free(c);
}

static void test_own(void)
{
	static struct rd_rules r;
	struct nst_addr one = addr("198.18.7.1", 80), other = addr("198.18.8.1", 80);
	char err[RD_ERR];

	CHECK(!parse("{\"rules\": [{\"remote\": \"198.18.7.7\", \"action\": \"kernel\", \"priority\": -1000000}],"
		     "\"default\": \"kernel\"}", &r, err), "%s", err);
	CHECK(!rd_rules_add_own(&r, "198.18.7.0/24=stack:2001:db8::/32=drop,198.18.9.9=drop;", err), "%s", err);
	CHECK(decide(&r, 6, "198.18.0.1", 80, "198.18.7.7", 1) == RD_STACK, " ");
	CHECK(decide(&r, 6, "2001:db9::1", 80, "2001:db8::2", 1) == RD_DROP, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "198.18.9.9", 1) == RD_DROP, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "198.18.9.8", 1) == RD_KERNEL, " ");
	CHECK(rd_rules_listen(&r, NULL, 6, &one).stack && rd_rules_listen(&r, NULL, 6, &one).exempt, "what it binds");
	CHECK(!rd_rules_listen(&r, NULL, 6, &other).stack, " ");
	CHECK(rd_rules_add_own(&r, "198.18.7.0/24", err) == -EINVAL && strstr(err, "198.18.7.0/24"), "%s", err);
	CHECK(rd_rules_add_own(&r, "198.18.7.0/33=kernel", err) == -EINVAL, " ");
	CHECK(rd_rules_add_own(&r, "198.18.7.0/24=", err) == -EINVAL, " ");
}

/* --- DMM's files ---------------------------------------------------------------------------------- */

static void test_dmm_first(void)
{
	static struct rd_rules r;
	struct nst_addr bound = addr("192.168.1.9", 80), other = addr("192.168.2.9", 80);
	char err[RD_ERR];

	CHECK(!parse("{ /* comments and trailing commas */"
		     "\"ip_route\": ["
		     "  {\"subnet\": \"192.168.1.1/24\", \"type\": \"nstack-kernel\"},"
		     "  {\"subnet\": \"192.168.0.0/16\", \"type\": \"nstack-dpdk\"},"
		     "  {\"subnet\": \"2001:db8::/32\", \"stack_name\": \"kernel\"},"
		     "  {\"subnet\": \"192.168.1.128/25\", \"type\": \"nstack-vpp\"},],"
		     "\"prot_route\": [{\"proto_type\": \"2\", \"type\": \"nstack-linux\"},"
		     "  {\"proto_type\": \"11\", \"type\": \"nstack-kernel\"}],}", &r, err), "%s", err);
	CHECK(decide(&r, 6, "198.18.0.1", 80, "192.168.1.9", 1) == RD_KERNEL, "host bits are masked");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "192.168.2.9", 1) == RD_STACK, " ");
	CHECK(decide(&r, 17, "198.18.0.1", 80, "192.168.2.9", 1) == RD_STACK, "the address before the type");
	CHECK(decide(&r, 17, "198.18.0.1", 80, "198.18.0.2", 1) == RD_KERNEL, "the type before the default");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "198.18.0.2", 1) == RD_STACK, "the default");
	CHECK(decide(&r, 6, "2001:db9::1", 80, "2001:db8::1", 1) == RD_KERNEL, " ");
	CHECK(!rd_rules_listen(&r, NULL, 6, &bound).stack && rd_rules_listen(&r, NULL, 6, &other).stack, "bind()");
	CHECK(r.stacks.n == 2 && !strcmp(r.stacks.name[1], "vpp"), " ");
}

static void test_dmm_second(void)
{
	static struct rd_rules r;
	char err[RD_ERR];

	CHECK(!parse("{\"modules\": ["
		     "{\"name\": \"kernel\", \"ip_route\": [\"10.0.0.0/8\"], \"type_route\": [], \"protocol_route\": []},"
		     "{\"name\": \"rsocket\", \"ip_route\": [{\"subnet\": \"10.1.0.0/16\"}], \"type_route\": [1],"
		     " \"protocol_route\": [{\"value\": 2, \"attr\": 0}]}], \"planes\": {\"rsocket\": \"lwip\"}}", &r, err),
	      "%s", err);
	CHECK(decide(&r, 6, "198.18.0.1", 80, "10.2.0.1", 1) == RD_KERNEL, " ");
	CHECK(decide(&r, 6, "198.18.0.1", 80, "10.1.0.1", 1) == RD_STACK, " ");
	CHECK(!strcmp(r.stacks.name[1], "lwip"), "planes are named by the file: %s", r.stacks.name[1]);
	CHECK(!parse("{\"ip_route\": [], \"prot_route\": []}", &r, err) && !r.n, "empty lists are no error: %s", err);
	CHECK(!parse("{\"modules\": []}", &r, err) && !r.n, "%s", err);
}

static void test_dmm_errors(void)
{
	static const char *const wrong[] = {
		"{\"ip_route\": [{\"subnet\": \"10.0.0.0/33\", \"type\": \"kernel\"}]}",
		"{\"ip_route\": [{\"subnet\": \"10.0.0.0/8\"}]}", "{\"ip_route\": [{\"type\": \"kernel\"}]}",
		"{\"ip_route\": 5}", "{\"ip_route\": [5]}", "{\"modules\": {}}", "{\"modules\": [{}]}", "{\"modules\": [1]}",
		"{\"prot_route\": [{\"proto_type\": \"sctp\", \"type\": \"kernel\"}]}",
		"{\"prot_route\": [{\"proto_type\": -1, \"type\": \"kernel\"}]}",
		"{\"ip_route\": [{\"subnet\": \"10.0.0.0/8\", \"type\": \"no such/plane\"}]}",
	};
	static struct rd_rules r;
	char err[RD_ERR];

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(parse(wrong[i], &r, err) == -EINVAL && !strncmp(err, "f:1:", 4), "%s: %s", wrong[i], err);
}

int main(void)
{
	test_longest_prefix();
	test_order();
	test_errors();
	test_may_stack();
	for (int i = 0; i < 60; i++)
		property_round(1 + (int)rnd(i < 40 ? 12 : 200));
	test_who();
	test_cgroups();
	test_who_listens();
	test_steering_has_no_who();
	test_own();
	test_dmm_first();
	test_dmm_second();
	test_dmm_errors();
	test_publish();
	if (!failures)
		puts("ok");
	return failures != 0;
}
