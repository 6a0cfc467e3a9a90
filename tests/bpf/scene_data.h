/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/scene_data.h - addresses, claims and pins of the scene that fixtures.h describes */
#ifndef NSTACK_TESTS_BPF_SCENE_DATA_H
#define NSTACK_TESTS_BPF_SCENE_DATA_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char *const scene_locals[] = {
	"198.18.0.1", "198.18.0.9", "2001:db8::1", "239.1.1.1", "ff0e::1",
};
#define SCENE_LOCALS (sizeof(scene_locals) / sizeof(scene_locals[0]))

static const struct scene_claim {
	uint8_t instance, proto;
	uint16_t port;
	bool v4, v6;
	const char *addr; /* NULL: every address */
} scene_claims[] = {
	{ 1, IPPROTO_TCP, 80, true, true, NULL },
	{ 1, IPPROTO_TCP, 443, true, true, NULL },
	{ 1, IPPROTO_UDP, 53, true, true, NULL },
	{ 1, IPPROTO_UDP, 5353, true, true, NULL },
	{ 1, IPPROTO_TCP, 444, false, true, "2001:db8::1" },
	{ 2, IPPROTO_TCP, 8080, true, false, NULL },
	{ 2, IPPROTO_TCP, 8081, false, true, NULL },
	{ 2, IPPROTO_TCP, 443, true, false, "198.18.0.9" },
	{ 2, IPPROTO_TCP, 444, true, false, "198.18.0.9" },
	{ 3, IPPROTO_TCP, 99, true, true, NULL },
};
#define SCENE_CLAIMS (sizeof(scene_claims) / sizeof(scene_claims[0]))

static const struct scene_pin {
	uint8_t proto;
	const char *local, *remote;
	uint16_t lport, rport;
	uint8_t instance;
} scene_pins[] = {
	{ IPPROTO_TCP, "198.18.0.1", "198.18.0.2", 80, 1000, 0 },
	{ IPPROTO_TCP, "198.18.0.1", "198.18.0.2", 80, 1001, 2 },
	{ IPPROTO_TCP, "2001:db8::1", "2001:db8::2", 80, 1000, 0 },
	{ IPPROTO_TCP, "2001:db8::1", "2001:db8::2", 80, 1001, 2 },
	{ IPPROTO_TCP, "198.18.0.1", "198.18.0.2", 7000, 1002, 1 },
	{ IPPROTO_UDP, "198.18.0.1", "198.18.0.2", 53, 1000, 0 },
	{ IPPROTO_ICMP, "198.18.0.1", "198.18.0.2", 7, 0, 1 },
	{ IPPROTO_ICMP, "198.18.0.1", "198.18.0.2", 8, 0, 0 },
	{ IPPROTO_ICMP, "2001:db8::1", "2001:db8::2", 7, 0, 2 },
};
#define SCENE_PINS (sizeof(scene_pins) / sizeof(scene_pins[0]))

#endif
