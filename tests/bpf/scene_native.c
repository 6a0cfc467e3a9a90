/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/scene_native.c - the native half of the scene; see fixtures.h for what is in it */
#include "scene.h"
#include "scene_data.h"

#include <arpa/inet.h>
#include <stdlib.h>

static void native_addr(uint32_t out[4], uint32_t *family, const char *ip)
{
	*family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	memset(out, 0, 16);
	inet_pton((int)*family, ip, out);
}

static void native_claim(struct steer_tables *t, const struct scene_claim *c)
{
	uint64_t *w = &t->claims[STEER_CLAIM_INDEX(c->proto == IPPROTO_TCP ? STEER_P_TCP :
						   STEER_P_UDP, c->port)];
	struct steer_addr_claim k = { 0 };
	uint32_t family;

	if (!c->addr) {
		if (c->v4)
			*w |= (uint64_t)c->instance << STEER_CLAIM_V4_SHIFT;
		if (c->v6)
			*w |= (uint64_t)c->instance << STEER_CLAIM_V6_SHIFT;
		return;
	}
	native_addr(k.addr, &family, c->addr);
	k.family = (uint8_t)family;
	k.proto = c->proto == IPPROTO_TCP ? STEER_P_TCP : STEER_P_UDP;
	k.port = htons(c->port);
	*w += STEER_CLAIM_ONE_ADDR;
	steer_hash_put(&t->addr_claims, &k, c->instance);
}

static void native_pin(struct steer_tables *t, const struct scene_pin *p)
{
	struct steer_flow f = { 0 };
	uint32_t family;

	native_addr(f.local, &family, p->local);
	native_addr(f.remote, &family, p->remote);
	f.family = (uint8_t)family;
	f.proto = p->proto == IPPROTO_ICMP ? STEER_P_ECHO : p->proto == IPPROTO_TCP ? STEER_P_TCP : STEER_P_UDP;
	f.lport = htons(p->lport);
	f.rport = htons(p->rport);
	if (f.proto != STEER_P_ECHO)
		t->claims[STEER_CLAIM_INDEX(f.proto, p->lport)] += STEER_CLAIM_ONE_PIN;
	steer_hash_put(&t->pins, &f, p->instance);
}

int scene_native(struct scene_ctx *s)
{
	struct steer_tables *t = &s->native;
	int err = steer_native_init(t);

	s->rules = calloc(1, sizeof(*s->rules));
	if (err || !s->rules)
		return -ENOMEM;
	strcpy(s->rules->stacks[0], "lwip");
	strcpy(s->rules->stacks[5], "tcpip");
	t->meta.mtu = SCENE_MTU;
	t->instances[1].kind = t->instances[3].kind = 5;
	t->instances[2].kind = 0;
	for (unsigned i = 0; i < SCENE_LOCALS; i++) {
		struct steer_local_key k = { 0 };

		native_addr(k.addr, &k.family, scene_locals[i]);
		steer_hash_put(&t->local, &k, 0);
	}
	for (unsigned i = 0; i < SCENE_CLAIMS; i++)
		native_claim(t, &scene_claims[i]);
	for (unsigned i = 0; i < SCENE_PINS; i++)
		native_pin(t, &scene_pins[i]);
	return 0;
}
