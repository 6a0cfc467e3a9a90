/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/steer_cost.c - what the steering program costs per packet, by BPF_PROG_TEST_RUN
 *
 * One line per kind of packet: median, least and most nanoseconds over ROUNDS rounds of REPEAT
 * runs each (the kernel's own loop and clock; its overhead of a few ns per run is included: see
 * the line "not IP", a packet that is given up at once). `--json`: for programs.
 */
#define _GNU_SOURCE
#include "../bpf/packet.h"
#include "../bpf/scene.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS 11
#define REPEAT 200000

enum rules { NONE, R256 };

static const struct {
	const char *name, *key, *packet;
	enum rules rules;
} cases[] = {
	{ "not IP", "not_ip", "type=88cc data=46", NONE },
	{ "unclaimed TCP", "unclaimed_tcp4", "ip4 tcp dp=81 data=10", NONE },
	{ "unclaimed TCP, IPv6", "unclaimed_tcp6", "ip6 tcp dp=81", NONE },
	{ "claimed TCP, no rules", "claimed_tcp4", "ip4 tcp data=10", NONE },
	{ "claimed TCP, no rules, IPv6", "claimed_tcp6", "ip6 tcp", NONE },
	{ "claimed UDP, no rules", "claimed_udp4", "ip4 udp dp=5353 data=64", NONE },
	{ "claimed TCP, port without pins", "claimed_tcp4_nopins", "ip4 tcp dp=443 d=198.18.0.1", NONE },
	{ "ICMP error of a claimed flow", "icmp4", "ip4 icmp=3 ip4 tcp", NONE },
	{ "claimed TCP, 256 rules", "claimed_tcp4_rules", "ip4 tcp data=10", R256 },
	{ "claimed TCP, 256 rules, IPv6", "claimed_tcp6_rules", "ip6 tcp", R256 },
	{ "unclaimed TCP, 256 rules", "unclaimed_tcp4_rules", "ip4 tcp dp=81 data=10", R256 },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

/* 128 rules per family: distinct remote prefixes, ports and remote ports; the last ones match. */
static int rules_256(struct scene_ctx *s)
{
	static struct steer_rule r[256];

	for (unsigned i = 0; i < 256; i++) {
		bool v6 = i & 1;

		r[i] = (struct steer_rule){ .family = v6 ? AF_INET6 : AF_INET, .proto = IPPROTO_TCP,
			.lport_min = (uint16_t)(i * 100), .lport_max = (uint16_t)(i * 100 + 99),
			.rport_max = 65535, .remote_len = v6 ? 48 : 24, .action = STEER_ACT_KERNEL };
		r[i].remote[0] = v6 ? htonl(0x20010db8) : htonl(0xc6120000 + (i << 8));
		r[i].remote[1] = v6 ? htonl(i << 16) : 0;
		if (i >= 254) {
			r[i].lport_min = 0;
			r[i].lport_max = 65535;
			r[i].remote_len = v6 ? 32 : 15;
			r[i].remote[1] = 0;
			r[i].remote[0] = v6 ? htonl(0x20010db8) : htonl(0xc6120000);
			r[i].action = STEER_ACT_CLAIMANT;
		}
	}
	return scene_rules(s, r, 256, STEER_ACT_KERNEL);
}

static int compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int measure(struct scene_ctx *s, const char *packet, uint32_t ns[ROUNDS], uint32_t *counter)
{
	static uint8_t p[PACKET_MAX];
	uint32_t len = packet_build(packet, p);
	int err = scene_run(s, p, len, 0, 0, counter);

	for (unsigned i = 0; i < ROUNDS && err >= 0; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p, .data_size_in = len, .repeat = REPEAT);

		if (bpf_prog_test_run_opts(s->prog, &opts))
			err = -errno;
		ns[i] = opts.duration;
	}
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	return err;
}

int main(int argc, char **argv)
{
	bool json = argc > 1 && !strcmp(argv[1], "--json");
	struct scene_ctx s;

	if (geteuid()) {
		printf("skip: loading programs needs root\n");
		return 77;
	}
	if (scene_open(&s))
		return 1;
	if (json)
		printf("{");
	for (unsigned i = 0; i < CASES; i++) {
		uint32_t ns[ROUNDS], c = 0;
		int err = cases[i].rules == R256 ? rules_256(&s) : 0;

		if (!err)
			err = measure(&s, cases[i].packet, ns, &c);
		if (err < 0) {
			fprintf(stderr, "%s: %s\n", cases[i].name, strerror(-err));
			return 1;
		}
		if (json)
			printf("%s\"%s\": [%u, %u, %u]", i ? ", " : "", cases[i].key, ns[ROUNDS / 2], ns[0],
			       ns[ROUNDS - 1]);
		else
			printf("%-34s %4u ns [%u..%u]  (%s)\n", cases[i].name, ns[ROUNDS / 2], ns[0],
			       ns[ROUNDS - 1], steer_counter_name(c));
	}
	if (json)
		printf("}\n");
	scene_close(&s);
	return 0;
}
