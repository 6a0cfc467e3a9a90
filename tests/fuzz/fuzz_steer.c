/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_steer.c - the steering decision on packets of foreign bytes
 *
 * Input: one byte of settings (rules, own addresses, tags, how much longer the packet is than its
 * first buffer), then the packet. The packet lies in memory of exactly its size. Checked: no read
 * past it, a counter that exists, an instance with a STACK verdict and with no other.
 */
#include "../bpf/fixtures.h"
#include "../bpf/scene.h"
/* fuzzers are linked with the library alone */
#include "../bpf/scene_native.c"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct scene_ctx scene;

static void set_up(void)
{
	const struct steer_rule *rules;
	struct steer_local_key own = { .family = AF_INET, .addr = { htonl(0xc612004d) } };
	struct steer_local value = { .owner = 2 };
	uint64_t word;
	uint32_t n;

	if (scene_native(&scene))
		abort();
	rules = fixture_rules(&n);
	if (steer_rules_compile(scene.rules, rules, n, NULL))
		abort();
	memcpy(&word, &value, sizeof(word));
	steer_hash_put(&scene.native.local, &own, word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct steer_native_result r;
	uint8_t *packet;
	uint32_t len;

	if (!scene.rules)
		set_up();
	if (!size)
		return 0;
	steer_native_rules(&scene.native, data[0] & 1 ? scene.rules : NULL);
	scene.native.meta.own = data[0] & 2 ? 1 : 0;
	scene.native.meta.steer_vlan = data[0] & 4 ? 1 : 0;
	len = (uint32_t)size - 1;
	packet = malloc(len ? len : 1);
	memcpy(packet, data + 1, len);
	r = steer_native_decide(&scene.native, packet, len, len + (data[0] >> 3) * 64u);
	free(packet);
	if (r.counter >= STEER_C_NR_ || r.verdict >= STEER_V_NR_ || r.instance >= STEER_INSTANCES ||
	    (r.verdict == STEER_STACK) != (r.instance != STEER_TO_KERNEL))
		abort();
	return 0;
}
