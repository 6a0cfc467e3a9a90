/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/scene.c - the program's half of the scene
 *
 * The tables are filled through the same functions that a process uses (claims, pins, local
 * addresses, rules); only the slots are written by hand, since one process is one instance.
 */
#define _GNU_SOURCE
#include "scene.h"
#include "scene_data.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <bpf/steer.skel.h>
#include <linux/if_xdp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TRY(expr) \
	do { \
		int err_ = (expr); \
		if (err_ < 0) { \
			fprintf(stderr, "scene: %s: %s\n", #expr, strerror(-err_)); \
			return err_; \
		} \
	} while (0)

static struct nst_addr addr_of(const char *ip, uint16_t port)
{
	struct nst_addr a = { .port = htons(port) };

	a.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	inet_pton(a.family, ip, a.v6);
	return a;
}

static int fill_claims(struct steer *st)
{
	for (unsigned i = 0; i < SCENE_CLAIMS; i++) {
		const struct scene_claim *c = &scene_claims[i];
		struct nst_addr a = addr_of(c->addr ? c->addr : c->v6 ? "::" : "0.0.0.0", c->port);

		st->instance = c->instance;
		TRY(steer_claim_new(st, c->proto, &a, c->v4, NULL));
	}
	for (unsigned i = 0; i < SCENE_PINS; i++) {
		const struct scene_pin *p = &scene_pins[i];
		struct nst_addr l = addr_of(p->local, p->lport), r = addr_of(p->remote, p->rport);

		TRY(steer_pin(st, p->proto, &l, &r, p->instance));
	}
	return 0;
}

static int fill(struct scene_ctx *s)
{
	struct steer *st = &s->st;
	struct nst_addr locals[SCENE_LOCALS];

	for (unsigned i = 1; i <= 3; i++) {
		int kind = steer_kind(st, i == 2 ? "lwip" : "tcpip");

		TRY(kind);
		st->instances[i].kind = (uint32_t)kind;
		st->instances[i].pid_ns = 1; /* not ours: taken for alive */
		st->instances[i].pid = 1;
	}
	for (unsigned i = 0; i < SCENE_LOCALS; i++)
		locals[i] = addr_of(scene_locals[i], 0);
	TRY(steer_local_set(st, locals, SCENE_LOCALS));
	TRY(steer_mtu_set(st, SCENE_MTU));
	TRY(fill_claims(st));
	st->instance = 0;
	return 0;
}

int scene_open(struct scene_ctx *s)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	memset(s, 0, sizeof(*s));
	s->xsk = -1;
	for (unsigned m = 0; m < STEER_M_NR_; m++)
		s->st.map[m] = -1;
	s->st.ifindex = 0x7fffffff; /* a lock file of our own */
	s->skel = steer_bpf__open_and_load();
	if (!s->skel) {
		fprintf(stderr, "scene: the program does not load: %s\n", strerror(errno));
		return -errno;
	}
	s->prog = bpf_program__fd(s->skel->progs.nstack_steer_3);
	TRY(bpf_obj_get_info_by_fd(s->prog, &info, &len));
	TRY(steer_tables_open(&s->st, info.id));
	s->xsk = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (s->xsk < 0)
		TRY(-errno);
	TRY(fill(s));
	TRY(scene_native(s));
	scene_xsk(s, 1, true);
	scene_xsk(s, 2, true);
	return 0;
}

void scene_close(struct scene_ctx *s)
{
	steer_tables_close(&s->st);
	steer_native_free(&s->native);
	free(s->rules);
	steer_bpf__destroy(s->skel);
	if (s->xsk >= 0)
		close(s->xsk);
}

int scene_rules(struct scene_ctx *s, const struct steer_rule *list, uint32_t n,
		uint32_t default_action)
{
	s->rules->default_action = default_action;
	TRY(steer_rules_compile(s->rules, list, n, NULL));
	steer_native_rules(&s->native, s->rules);
	return s->skel ? steer_rules_set(&s->st, s->rules) : 0;
}

void scene_own(struct scene_ctx *s, bool on)
{
	static const char *const ips[] = { "198.18.0.77", "2001:db8::77" };

	for (unsigned i = 0; i < 2; i++) {
		struct nst_addr a = addr_of(ips[i], 0);
		struct steer_local_key k = { .family = a.family };
		struct steer_local v = { .owner = on ? 2 : 0 };
		uint64_t value;

		if (s->skel) {
			s->st.instance = 2;
			if (steer_own(&s->st, &a, on))
				abort();
			s->st.instance = 0;
		}
		steer_addr_words(k.addr, &a);
		memcpy(&value, &v, sizeof(value));
		if (on || steer_hash_get(&s->native.local, &k))
			steer_hash_put(&s->native.local, &k, value);
	}
	s->native.meta.own = on ? 2 : 0;
}

void scene_vlan(struct scene_ctx *s, bool on)
{
	s->native.meta.steer_vlan = on;
	if (s->skel)
		steer_vlan(&s->st, on);
}

void scene_xsk(struct scene_ctx *s, unsigned instance, bool on)
{
	s->st.instance = instance;
	if (on ? steer_xsk_set(&s->st, 0, s->xsk) : steer_xsk_clear(&s->st, 0))
		abort();
	s->st.instance = 0;
}

int scene_run(struct scene_ctx *s, const void *data, uint32_t len, uint32_t ifindex,
	      uint32_t queue, uint32_t *counter)
{
	struct xdp_md ctx = { .data_end = len, .ingress_ifindex = ifindex, .rx_queue_index = queue };
	uint64_t before[STEER_C_NR_], after[STEER_C_NR_];
	unsigned moved = 0;

	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_size_in = len, .repeat = 1);
	if (ifindex) {
		opts.ctx_in = &ctx;
		opts.ctx_size_in = sizeof(ctx);
	}
	TRY(steer_counters(&s->st, before));
	if (bpf_prog_test_run_opts(s->prog, &opts))
		TRY(-errno);
	TRY(steer_counters(&s->st, after));
	for (uint32_t c = 0; c < STEER_C_NR_; c++) {
		if (after[c] != before[c]) {
			*counter = c;
			moved += (unsigned)(after[c] - before[c]);
		}
	}
	if (moved != 1) {
		fprintf(stderr, "scene: %u counters moved, not 1\n", moved);
		return -EPROTO;
	}
	return (int)opts.retval;
}
