/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_rules.c - the rule file parser with foreign bytes
 *
 * A set that parses must print, parse again to the same decisions, and compile for the steering
 * program.
 */
#include <assert.h>
#include <bpf/steer_shared.h>
#include <netinet/in.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rd_rules first, second;
static struct steer_rules compiled;

static void same_decision(uint32_t seed)
{
	struct nst_addr local = { .family = AF_INET, .port = htons((uint16_t)seed) };
	struct nst_addr remote = { .family = AF_INET, .port = htons((uint16_t)(seed >> 16)) };
	uint8_t proto = seed & 1 ? IPPROTO_TCP : IPPROTO_UDP;
	struct rd_verdict a, b;

	local.v4 = htonl(0xc6120001);
	remote.v4 = htonl(seed);
	a = rd_rules_lookup(&first, proto, &local, &remote);
	b = rd_rules_lookup(&second, proto, &local, &remote);
	assert(a.action == b.action && a.rule == b.rule);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char err[RD_ERR] = "", *copy = malloc(size ? size : 1), *text;

	memcpy(copy, data, size);
	if (rd_rules_parse(copy, size, "fuzz", &first, err)) {
		assert(err[0]);
	} else {
		text = rd_rules_text(&first);
		assert(text);
		assert(!rd_rules_parse(text, strlen(text), "again", &second, err));
		assert(first.n == second.n && first.n <= RD_RULES_MAX);
		for (uint32_t i = 0; i < 16; i++)
			same_decision(0xc6120000u + i * 0x01010101u);
		rd_rules_compile(&first, &compiled);
		free(text);
	}
	free(copy);
	return 0;
}
