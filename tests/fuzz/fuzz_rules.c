/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_rules.c - the rule file parser with foreign bytes
 *
 * What it accepts prints as a set that reads back to the same decisions,
 * compiles, and decides like its bit vectors.
 */
#include <rd/rules.h>

#include <bpf/steer_rules.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rd_rules rules, again;
static struct steer_rules compiled;

/* Addresses and ports that the set itself mentions are the ones worth asking for. */
static void flow_near(const struct rd_rule *r, struct nst_addr *local, struct nst_addr *remote)
{
	uint8_t family = r->remote.family ? r->remote.family : r->local.family ? r->local.family : AF_INET;

	memset(local, 0, sizeof(*local));
	memset(remote, 0, sizeof(*remote));
	local->family = remote->family = family;
	memcpy(local->v6, r->local.addr, 16);
	memcpy(remote->v6, r->remote.addr, 16);
	if (family == AF_INET) {
		memset(local->v6 + 4, 0, 12);
		memset(remote->v6 + 4, 0, 12);
	}
	local->port = htons(r->port_lo ? r->port_lo : 1);
	remote->port = htons(r->rport_hi ? r->rport_hi : 1);
}

static void check_flow(const struct nst_addr *local, const struct nst_addr *remote, uint8_t proto)
{
	struct rd_verdict v = rd_rules_lookup(&rules, NULL, proto, local, remote);
	struct rd_verdict w = rd_rules_lookup(&again, NULL, proto, local, remote);
	struct steer_flow f;
	int i;

	if (v.action != w.action || v.rule != w.rule)
		abort();
	if (v.rule == RD_BY_BUILTIN || nst_addr_is_any(local))
		return; /* the list treats "unknown" apart; packets have no such addresses */
	memset(&f, 0, sizeof(f));
	f.family = local->family;
	f.proto = proto == IPPROTO_TCP ? STEER_P_TCP : STEER_P_UDP;
	f.lport = local->port;
	f.rport = remote->port;
	memcpy(f.local, local->v6, local->family == AF_INET ? 4 : 16);
	memcpy(f.remote, remote->v6, local->family == AF_INET ? 4 : 16);
	i = steer_rules_match(&compiled, &f);
	if (i != (v.rule < 0 ? -1 : v.rule))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char err[RD_ERR] = "", *text, *copy = malloc(size ? size : 1); /* no byte behind it is read */
	int ret;

	memcpy(copy, data, size);
	ret = rd_rules_parse(copy, size, "fuzz", &rules, err);
	free(copy);
	if (ret) {
		if (!err[0])
			abort();
		return 0;
	}
	text = rd_rules_text(&rules);
	if (!text || rd_rules_parse(text, strlen(text), "again", &again, err) || again.n != rules.n ||
	    rd_rules_compile(&rules, &compiled))
		abort();
	free(text);
	for (uint32_t i = 0; i < rules.n && i < 16; i++) {
		struct nst_addr local, remote;

		flow_near(&rules.rule[i], &local, &remote);
		check_flow(&local, &remote, IPPROTO_TCP);
		check_flow(&local, &remote, IPPROTO_UDP);
	}
	return 0;
}
