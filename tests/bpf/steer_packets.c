/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/steer_packets.c - every packet of fixtures.h through the homes of the decision
 *
 * Each goes through the XDP program (BPF_PROG_TEST_RUN) and the native build; verdict, counter and
 * instance must be the expected ones. That a packet goes to the right instance is shown by the
 * XSKMAP: with a socket in that slot alone it is redirected, with that slot alone empty it isn't.
 * Then mutated packets: there is no expectation, but both must agree. The third home is a mirror of the
 * program's tables, opened once, which has to notice by itself what each scene changes. Exit code 77: not allowed
 * to load programs here. `steer_packets N`: N mutations.
 */
#define _GNU_SOURCE
#include "fixtures.h"
#include "packet.h"
#include "scene.h"

#include <bpf/bpf.h>
#include <bpf/steer_mirror.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Bytes that BPF_PROG_TEST_RUN puts into the first buffer of a long packet: a page less headroom
 * and struct skb_shared_info. */
#define FIRST_BUFFER 3520u

static unsigned failures, checks;

static void fail(const char *name, const char *what, const char *got, const char *want)
{
	printf("not ok - %s: %s is %s, not %s\n", name, what, got, want);
	failures++;
}

static struct steer_native_result native(struct scene_ctx *s, const uint8_t *p, uint32_t len)
{
	/* exactly as many bytes as there are, so that a sanitizer sees a read past them */
	uint32_t linear = len < FIRST_BUFFER ? len : FIRST_BUFFER;
	uint8_t *copy = malloc(linear + 1);
	struct steer_native_result r;

	memcpy(copy, p, linear);
	r = steer_native_decide(&s->native, copy, linear, len);
	free(copy);
	return r;
}

static const char *action_name(int action)
{
	return action == XDP_REDIRECT ? "redirect" : action == XDP_PASS ? "pass" :
	       action == XDP_DROP ? "drop" : "?";
}

static int action_of(enum steer_verdict v)
{
	return v == STEER_STACK ? XDP_REDIRECT : v == STEER_DROP ? XDP_DROP : XDP_PASS;
}

static void expect_bpf(struct scene_ctx *s, const char *name, const uint8_t *p, uint32_t len,
		       int action, uint32_t counter)
{
	uint32_t c = STEER_C_NR_;
	int a = scene_run(s, p, len, 0, 0, &c);

	checks++;
	if (a < 0)
		fail(name, "test run", strerror(-a), "success");
	else if (a != action)
		fail(name, "action", action_name(a), action_name(action));
	else if (c != counter)
		fail(name, "counter (bpf)", steer_counter_name(c), steer_counter_name(counter));
}

/* With sockets everywhere but in the slot: the kernel's; in the slot alone: redirected. */
static void expect_instance(struct scene_ctx *s, const char *name, const uint8_t *p, uint32_t len,
			    unsigned instance, uint32_t counter)
{
	for (unsigned i = 1; i < STEER_INSTANCES; i++)
		scene_xsk(s, i, i != instance);
	expect_bpf(s, name, p, len, XDP_PASS, STEER_C_PASS_NO_SOCKET);
	for (unsigned i = 1; i < STEER_INSTANCES; i++)
		scene_xsk(s, i, i == instance);
	expect_bpf(s, name, p, len, XDP_REDIRECT, counter);
	scene_xsk(s, 1, true);
	scene_xsk(s, 2, true);
	if (instance > 2)
		scene_xsk(s, instance, false);
}

static void run_fixture(struct scene_ctx *s, const struct fixture *f)
{
	static uint8_t p[PACKET_MAX];
	uint32_t len = packet_build(f->packet, p), counter = f->counter;
	struct steer_native_result r = native(s, p, len);
	enum steer_verdict v = counter >= STEER_C_STACK_CLAIM ? STEER_STACK :
			       counter == STEER_C_DROP_RULE ? STEER_DROP : STEER_PASS;
	/* natively there are no sockets that could be missing */
	uint32_t nat = counter == STEER_C_PASS_NO_SOCKET ? STEER_C_STACK_CLAIM : counter;

	checks++;
	if (r.counter != nat)
		fail(f->name, "counter (native)", steer_counter_name(r.counter),
		     steer_counter_name(nat));
	else if (r.verdict == STEER_STACK && v == STEER_STACK && r.instance != f->instance)
		fail(f->name, "instance (native)", "another", "the expected");
	if (len < 14) /* the test run takes no less than an Ethernet header */
		return;
	expect_bpf(s, f->name, p, len, action_of(v), counter);
	if (v == STEER_STACK)
		expect_instance(s, f->name, p, len, f->instance, counter);
}

/* --- the mirror ---------------------------------------------------------------------------- */

#define MIRROR_INSTANCE 1u

static void mirror_open(struct scene_ctx *s, struct steer *st, struct steer_mirror **m)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	memset(st, 0, sizeof(*st));
	for (unsigned i = 0; i < STEER_M_NR_; i++)
		st->map[i] = -1;
	st->ifindex = s->st.ifindex;
	st->instance = MIRROR_INSTANCE;
	if (bpf_obj_get_info_by_fd(s->prog, &info, &len) || steer_tables_open(st, info.id) ||
	    steer_mirror_open(m, st))
		abort();
	/* as if it were not there, so that the program still decides: but it goes on looking at the tables */
	st->outside->instance = 0;
}

static void expect_mirror(struct scene_ctx *s, struct steer_mirror *m, const struct fixture *f)
{
	static uint8_t p[PACKET_MAX];
	uint32_t len = packet_build(f->packet, p), linear = len < FIRST_BUFFER ? len : FIRST_BUFFER;
	struct steer_native_result r = native(s, p, len);
	uint64_t before = s->st.outside->counters[r.counter];
	enum steer_verdict v;

	if (r.verdict == STEER_STACK && r.instance != MIRROR_INSTANCE) {
		r.verdict = STEER_PASS;
		r.counter = STEER_C_PASS_NO_SOCKET;
		before = s->st.outside->counters[r.counter];
	}
	checks++;
	v = steer_mirror_decide(m, p, linear, len);
	if (v != r.verdict)
		fail(f->name, "verdict (mirror)", action_name(action_of(v)), action_name(action_of(r.verdict)));
	else if (s->st.outside->counters[r.counter] != before + 1)
		fail(f->name, "counter (mirror)", "another", steer_counter_name(r.counter));
}

/* An IPv4 packet to us, by its ends. */
static void ends(const uint8_t *p, struct nst_addr *local, struct nst_addr *remote)
{
	*local = *remote = (struct nst_addr){ .family = AF_INET };
	memcpy(remote->v6, p + 26, 4);
	memcpy(local->v6, p + 30, 4);
	memcpy(&remote->port, p + 34, 2);
	memcpy(&local->port, p + 36, 2);
}

static void expect_verdict(struct steer_mirror *m, const char *name, const uint8_t *p, uint32_t len,
			   enum steer_verdict want)
{
	enum steer_verdict v = steer_mirror_decide(m, p, len, len);

	checks++;
	if (v != want)
		fail(name, "verdict (mirror)", action_name(action_of(v)), action_name(action_of(want)));
}

/* What its owner changes holds at once, what others change after the next look; and the program passes
 * everything, uncounted. */
static void mirror_changes(struct scene_ctx *s, struct steer *st, struct steer_mirror *m)
{
	static uint8_t p[PACKET_MAX];
	uint64_t before[STEER_C_NR_], after[STEER_C_NR_];
	struct nst_addr local, remote;
	uint32_t len = 0;

	for (unsigned i = 0; i < FIXTURES && !len; i++) {
		if (fixtures[i].scene != PLAIN || fixtures[i].counter != STEER_C_STACK_CLAIM ||
		    fixtures[i].instance != MIRROR_INSTANCE)
			continue;
		len = packet_build(fixtures[i].packet, p);
		if (p[12] != 8 || p[13] || p[14] != 0x45 || p[23] != IPPROTO_TCP)
			len = 0;
	}
	if (!len)
		abort();
	ends(p, &local, &remote);
	expect_verdict(m, "claimed", p, len, STEER_STACK);
	if (steer_pin(st, IPPROTO_TCP, &local, &remote, STEER_TO_KERNEL))
		abort();
	expect_verdict(m, "pinned by the owner", p, len, STEER_PASS);
	if (steer_unpin(st, IPPROTO_TCP, &local, &remote, STEER_TO_KERNEL))
		abort();
	expect_verdict(m, "unpinned by the owner", p, len, STEER_STACK);
	if (steer_pin(&s->st, IPPROTO_TCP, &local, &remote, STEER_TO_KERNEL))
		abort();
	steer_mirror_sync(m);
	expect_verdict(m, "pinned by another", p, len, STEER_PASS);
	if (steer_unpin(&s->st, IPPROTO_TCP, &local, &remote, STEER_TO_KERNEL))
		abort();
	steer_mirror_sync(m);
	expect_verdict(m, "unpinned by another", p, len, STEER_STACK);

	st->outside->instance = MIRROR_INSTANCE;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p, .data_size_in = len, .repeat = 1);
	if (steer_counters(&s->st, before) || bpf_prog_test_run_opts(s->prog, &opts) || steer_counters(&s->st, after))
		abort();
	checks++;
	if (opts.retval != XDP_PASS || memcmp(before, after, sizeof(before)))
		fail("decided outside", "action", action_name((int)opts.retval), "pass, uncounted");
}

static void set_scene(struct scene_ctx *s, enum scene scene)
{
	uint32_t n;
	const struct steer_rule *rules = fixture_rules(&n);
	int err;

	scene_own(s, scene == OWN);
	scene_vlan(s, scene == VLAN);
	if (scene == RULES_K || scene == RULES_C)
		err = scene_rules(s, rules, n, scene == RULES_K ? STEER_ACT_KERNEL : STEER_ACT_CLAIMANT);
	else
		err = scene_rules(s, NULL, 0, STEER_ACT_CLAIMANT);
	if (err)
		fail("scene", "setting up", strerror(-err), "success");
}

/* --- mutations ----------------------------------------------------------------------------- */

static uint32_t rnd(void)
{
	static uint64_t x = 88172645463325252ull; /* the same packets every time */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 16);
}

static void mutate(struct scene_ctx *s, const struct fixture *f)
{
	static uint8_t p[PACKET_MAX];
	uint32_t len = packet_build(f->packet, p), c = STEER_C_NR_, head;
	unsigned before = failures;
	struct steer_native_result r;
	int action;

	if (len < 14 || len > 2000)
		return;
	head = len < 120 ? len : 120;
	for (unsigned n = 1 + rnd() % 4; n; n--)
		p[12 + rnd() % (head - 12)] = rnd() % 3 ? (uint8_t)rnd() : p[rnd() % head];
	if (rnd() % 4 == 0)
		len = 14 + rnd() % (len - 13);
	r = native(s, p, len);
	action = scene_run(s, p, len, 0, 0, &c);
	checks++;
	if (c == STEER_C_PASS_NO_SOCKET && r.instance != 1 && r.instance != 2)
		c = r.counter, action = action_of(r.verdict);
	if (c != r.counter)
		fail(f->name, "counter (mutated)", steer_counter_name(c), steer_counter_name(r.counter));
	else if (action != action_of(r.verdict))
		fail(f->name, "action (mutated)", action_name(action), action_name(action_of(r.verdict)));
	if (failures != before) {
		printf("# packet:");
		for (uint32_t i = 0; i < len; i++)
			printf(" %02x", p[i]);
		printf("\n");
	}
}

/* Queues without a socket, and beyond what can be steered: on an interface with 66 of them. */
static void queues(struct scene_ctx *s, unsigned ifindex)
{
	uint8_t p[PACKET_MAX];
	uint32_t len = packet_build("ip4 tcp", p), c = 0;
	static const struct { uint32_t queue; int action; uint32_t counter; } want[] = {
		{ 0, XDP_REDIRECT, STEER_C_STACK_CLAIM },
		{ 1, XDP_PASS, STEER_C_PASS_NO_SOCKET },
		{ 63, XDP_PASS, STEER_C_PASS_NO_SOCKET },
		{ 64, XDP_PASS, STEER_C_PASS_QUEUE },
		{ 65, XDP_PASS, STEER_C_PASS_QUEUE },
	};

	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		int a = scene_run(s, p, len, ifindex, want[i].queue, &c);

		checks++;
		if (a != want[i].action || c != want[i].counter)
			fail("queue", "result", steer_counter_name(c), steer_counter_name(want[i].counter));
	}
}

int main(int argc, char **argv)
{
	unsigned long mutations = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
	struct steer_mirror *mirror;
	struct steer mirrored;
	struct scene_ctx s;

	if (geteuid()) {
		printf("skip: loading programs needs root\n");
		return 77;
	}
	if (scene_open(&s))
		return 1;
	mirror_open(&s, &mirrored, &mirror);
	for (enum scene scene = 0; scene < SCENES; scene++) {
		unsigned before = failures;

		set_scene(&s, scene);
		for (unsigned i = 0; i < FIXTURES; i++) {
			if (fixtures[i].scene == scene)
				run_fixture(&s, &fixtures[i]);
		}
		for (unsigned long i = 0; i < mutations / SCENES && failures == before; i++)
			mutate(&s, &fixtures[rnd() % FIXTURES]);
		steer_mirror_sync(mirror);
		for (unsigned i = 0; i < FIXTURES; i++) {
			if (fixtures[i].scene == scene)
				expect_mirror(&s, mirror, &fixtures[i]);
		}
	}
	set_scene(&s, PLAIN);
	steer_mirror_sync(mirror);
	mirror_changes(&s, &mirrored, mirror);
	steer_mirror_close(mirror);
	steer_tables_close(&mirrored);
	s.st.outside->instance = 0;
	if (argc > 2)
		queues(&s, if_nametoindex(argv[2]));
	scene_close(&s);
	printf("%s - %zu fixtures, %u checks, %u failures\n", failures ? "not ok" : "ok", FIXTURES,
	       checks, failures);
	return failures != 0;
}
