/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/scene.h - the program loaded but not attached, with tables filled by steer_ctl.h, and
 * the same tables natively */
#ifndef NSTACK_TESTS_BPF_SCENE_H
#define NSTACK_TESTS_BPF_SCENE_H

#include <bpf/steer_internal.h>
#include <bpf/steer_native.h>
#include <bpf/steer_rules.h>

struct steer_bpf;

struct scene_ctx {
	struct steer_bpf *skel;
	int prog;
	struct steer st;          /* instance is set as needed: slots are written by hand */
	struct steer_tables native;
	struct steer_rules *rules;
	int xsk;                  /* an AF_XDP socket for the XSKMAP */
};

#define SCENE_MTU 1500

/* Native tables only (no privilege): what the fuzzer needs. 0 or -errno. */
int scene_native(struct scene_ctx *s);
/* Both. Prints why when it fails. */
int scene_open(struct scene_ctx *s);
void scene_close(struct scene_ctx *s);

/* Rules in both homes; NULL list: none. */
int scene_rules(struct scene_ctx *s, const struct steer_rule *list, uint32_t n,
		uint32_t default_action);
void scene_own(struct scene_ctx *s, bool on);  /* 198.18.0.77, 2001:db8::77 */
void scene_vlan(struct scene_ctx *s, bool on);
/* Put the socket into (instance, queue 0) or take it out. */
void scene_xsk(struct scene_ctx *s, unsigned instance, bool on);

/* One packet through the program: the XDP action, or -errno; *counter is the one that moved.
 * ifindex 0: no interface, queue 0. */
int scene_run(struct scene_ctx *s, const void *data, uint32_t len, uint32_t ifindex,
	      uint32_t queue, uint32_t *counter);

#endif
