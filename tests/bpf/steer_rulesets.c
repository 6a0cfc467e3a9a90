/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/steer_rulesets.c - rule sets in the maps: the same as natively, and exchanged whole
 *
 * 1. Random sets: the program and the native build agree on packets, and steer_rules_get()
 *    gives back a set that decides alike.
 * 2. A thread exchanges two sets without pause. In both, every packet matches a rule; one says
 *    drop everywhere and the other kernel, in many prefixes and ports. A packet that saw a mixture
 *    would fall through to the default, which says stack.
 * Exit code 77: not allowed to load programs here.
 */
#define _GNU_SOURCE
#include "packet.h"
#include "scene.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static unsigned failures;

static void fail(const char *what, const char *got, const char *want)
{
	printf("not ok - %s: %s, not %s\n", what, got, want);
	failures++;
}

static uint32_t rnd(uint32_t n)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 20) % n;
}

/* --- random sets --------------------------------------------------------------------------- */

static void random_rule(struct steer_rule *r)
{
	static const uint8_t actions[] = { STEER_ACT_CLAIMANT, STEER_ACT_KERNEL, STEER_ACT_DROP,
					   STEER_ACT_STACK(0), STEER_ACT_STACK(5) };
	bool v6 = rnd(2);

	memset(r, 0, sizeof(*r));
	r->family = v6 ? AF_INET6 : AF_INET;
	r->action = actions[rnd(5)];
	r->remote_len = (uint8_t)(v6 ? 16 * rnd(9) : rnd(33));
	r->remote[0] = htonl(v6 ? 0x20010db8 : 0xc6120000 + rnd(4) * 256 + rnd(3));
	r->remote[3] = htonl(v6 ? rnd(3) : 0);
	if (!rnd(4)) {
		r->local_len = v6 ? 128 : 32;
		r->local[0] = htonl(v6 ? 0x20010db8 : 0xc6120001);
		r->local[3] = htonl(v6 ? 1 : 0);
	}
	r->proto = rnd(3) ? 0 : IPPROTO_TCP;
	r->lport_min = rnd(2) ? 0 : 80;
	r->lport_max = rnd(2) ? 65535 : 80;
	r->rport_min = (uint16_t)rnd(1500);
	r->rport_max = (uint16_t)(r->rport_min + rnd(60000));
}

static void random_packets(struct scene_ctx *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		static uint8_t p[PACKET_MAX];
		struct steer_native_result r;
		uint32_t len, c = 0;
		char words[128];

		if (rnd(2))
			snprintf(words, sizeof(words), "ip4 s=198.18.%u.%u %s sp=%u dp=%u", rnd(5), 2 + rnd(2),
				 rnd(2) ? "tcp" : "udp", rnd(2000), rnd(2) ? 80 : 53);
		else
			snprintf(words, sizeof(words), "ip6 s=2001:db8::%u %s sp=%u dp=%u", 2 + rnd(3),
				 rnd(2) ? "tcp" : "udp", rnd(2000), rnd(2) ? 80 : 53);
		len = packet_build(words, p);
		r = steer_native_decide(&s->native, p, len, len);
		if (scene_run(s, p, len, 0, 0, &c) < 0 || c != r.counter)
			fail(words, steer_counter_name(c), steer_counter_name(r.counter));
	}
}

static void random_flows(const struct steer_rules *a, const struct steer_rules *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		bool v6 = rnd(2);
		struct steer_flow f = { .family = v6 ? AF_INET6 : AF_INET, .proto = (uint8_t)rnd(2),
			.lport = htons(rnd(2) ? 80 : (uint16_t)rnd(65536)),
			.rport = htons((uint16_t)rnd(65536)) };

		f.local[0] = htonl(v6 ? 0x20010db8 : 0xc6120001 + rnd(2));
		f.remote[0] = htonl(v6 ? 0x20010db8 : 0xc6120000 + rnd(1024));
		f.remote[3] = htonl(v6 ? rnd(4) : 0);
		if (steer_rules_match(a, &f) != steer_rules_match(b, &f)) {
			fail("set that was read back", "decides otherwise", "alike");
			return;
		}
	}
}

static void test_random(struct scene_ctx *s, struct steer_rules *back)
{
	static struct steer_rule list[STEER_RULES];
	static const unsigned sizes[] = { 1, 3, 17, 64, 100, 256 };

	for (unsigned round = 0; round < 24 && !failures; round++) {
		unsigned n = sizes[round % 6];

		for (unsigned i = 0; i < n; i++)
			random_rule(&list[i]);
		if (scene_rules(s, list, n, round & 1 ? STEER_ACT_KERNEL : STEER_ACT_CLAIMANT))
			fail("set", "refused", "taken");
		random_packets(s, 300);
		if (steer_rules_get(&s->st, back))
			fail("get", "failed", "done");
		if (back->nrules != n || back->default_action != s->rules->default_action)
			fail("set that was read back", "has another size or default", "the same");
		random_flows(s->rules, back, 300);
	}
	if (scene_rules(s, NULL, 0, STEER_ACT_CLAIMANT) || steer_rules_get(&s->st, back) || back->nrules)
		fail("no rules", "some", "none");
}

/* --- exchange ------------------------------------------------------------------------------ */

struct exchange {
	struct scene_ctx *s;
	struct steer_rules *set[2];
	bool stop;
	unsigned done;
	int err;
};

static void *exchange(void *arg)
{
	struct exchange *x = arg;

	while (!__atomic_load_n(&x->stop, __ATOMIC_RELAXED) && !x->err) {
		x->err = steer_rules_set(&x->s->st, x->set[x->done & 1]);
		x->done++;
	}
	return NULL;
}

/* Every IPv4 flow matches exactly one rule: by its remote port's range, then any prefix. */
static int full_set(struct steer_rules *r, uint8_t action, unsigned slices)
{
	static struct steer_rule list[STEER_RULES];
	unsigned width = 65536 / slices;

	for (unsigned i = 0; i < slices; i++) {
		list[i] = (struct steer_rule){ .family = AF_INET, .action = action, .lport_max = 65535,
			.rport_min = (uint16_t)(i * width), .rport_max = (uint16_t)(i * width + width - 1),
			.remote_len = (uint8_t)(8 + i % 8) };
		list[i].remote[0] = htonl(0xc6120000);
	}
	return steer_rules_compile(r, list, slices, NULL);
}

static bool both_seen(struct scene_ctx *s, const uint64_t before[STEER_C_NR_])
{
	uint64_t now[STEER_C_NR_];

	return !steer_counters(&s->st, now) && now[STEER_C_DROP_RULE] > before[STEER_C_DROP_RULE] &&
	       now[STEER_C_PASS_RULE] > before[STEER_C_PASS_RULE];
}

static void test_exchange(struct scene_ctx *s)
{
	struct exchange x = { .s = s, .set = { calloc(1, sizeof(*x.set[0])), calloc(1, sizeof(*x.set[0])) } };
	uint64_t before[STEER_C_NR_], after[STEER_C_NR_];
	static uint8_t p[PACKET_MAX];
	uint32_t len = packet_build("ip4 tcp sp=40000", p);
	time_t end = time(NULL) + 2;
	pthread_t thread;

	if (!x.set[0] || !x.set[1] || full_set(x.set[0], STEER_ACT_DROP, 256) ||
	    full_set(x.set[1], STEER_ACT_KERNEL, 64) || steer_rules_set(&s->st, x.set[1]))
		return fail("exchange", "can't be set up", "set up");
	steer_counters(&s->st, before);
	pthread_create(&thread, NULL, exchange, &x);
	/* exchanges wait for runs, so runs of one length would keep step with them */
	while (time(NULL) < end || (!both_seen(s, before) && time(NULL) < end + 20)) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p, .data_size_in = len,
			    .repeat = (int)(1 + rnd(3000)));

		if (bpf_prog_test_run_opts(s->prog, &opts)) {
			fail("test run", strerror(errno), "done");
			break;
		}
	}
	__atomic_store_n(&x.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	steer_counters(&s->st, after);
	for (unsigned c = 0; c < STEER_C_NR_; c++) {
		uint64_t n = after[c] - before[c];
		bool seen = c == STEER_C_DROP_RULE || c == STEER_C_PASS_RULE;

		if (seen ? n == 0 : n != 0)
			fail("exchange", steer_counter_name(c), seen ? "never counted" : "zero");
	}
	if (x.err || x.done < 10)
		fail("exchange", x.err ? strerror(-x.err) : "hardly any", "many");
	printf("# %u exchanges, %llu packets dropped, %llu passed\n", x.done,
	       (unsigned long long)(after[STEER_C_DROP_RULE] - before[STEER_C_DROP_RULE]),
	       (unsigned long long)(after[STEER_C_PASS_RULE] - before[STEER_C_PASS_RULE]));
	free(x.set[0]);
	free(x.set[1]);
}

int main(void)
{
	struct steer_rules *back = calloc(1, sizeof(*back));
	struct scene_ctx s;

	if (geteuid()) {
		printf("skip: loading programs needs root\n");
		return 77;
	}
	if (!back || scene_open(&s))
		return 1;
	test_random(&s, back);
	test_exchange(&s);
	scene_close(&s);
	free(back);
	printf("%s - rule sets\n", failures ? "not ok" : "ok");
	return failures != 0;
}
