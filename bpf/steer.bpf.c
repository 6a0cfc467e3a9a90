/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer.bpf.c - the XDP program: maps, and the decision of steer.h turned into an action
 *
 * Runs once per received packet, in softirq, on the CPU that the packet arrived on. A packet for
 * a stack goes into the AF_XDP socket of (instance, receive queue); where that slot is empty
 * the kernel has it. Every exit counts one counter of this CPU.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/steer_shared.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_CLAIMS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(map_flags, BPF_F_MMAPABLE);
} claims SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_ADDR_CLAIMS_MAX);
	__type(key, struct steer_addr_claim);
	__type(value, __u32);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} claims_addr SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_LOCAL_MAX);
	__type(key, struct steer_local_key);
	__type(value, struct steer_local);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} local SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_PINS_MAX);
	__type(key, struct steer_flow);
	__type(value, __u32);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} pins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_INSTANCES);
	__type(key, __u32);
	__type(value, struct steer_instance);
	__uint(map_flags, BPF_F_MMAPABLE);
} instances SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_meta);
	__uint(map_flags, BPF_F_MMAPABLE);
} meta SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_outside);
	__uint(map_flags, BPF_F_MMAPABLE);
} outside SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct steer_rules_head);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * 65536);
	__type(key, __u32);
	__type(value, struct steer_port_class);
	__uint(map_flags, BPF_F_MMAPABLE);
} port_class SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * STEER_PORT_CLASSES);
	__type(key, __u32);
	__type(value, struct steer_port_vec);
	__uint(map_flags, BPF_F_MMAPABLE);
} port_vec SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, STEER_LPM_MAX);
	__type(key, struct steer_lpm4);
	__type(value, struct steer_vec);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lpm4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, STEER_LPM_MAX);
	__type(key, struct steer_lpm6);
	__type(value, struct steer_vec);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lpm6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_INSTANCES * STEER_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps"); /* the name by which DPDK's net_af_xdp looks for it */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_C_NR_);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* --- the look-ups that steer.h asks for ---------------------------------------------------- */

/* here the tables are maps, and what is passed along is the packet's context */
#define steer_tables xdp_md
#ifndef NULL
#define NULL ((void *)0)
#endif

#define STEER_LD16(p) (*(const __u16 *)(p))
#define STEER_LD32(p) (*(const __u32 *)(p))

#define STEER_LOOKUP(fn, map, type, keytype) \
	static __always_inline type *fn(const struct xdp_md *ctx, const keytype *key) \
	{ \
		return bpf_map_lookup_elem(&map, key); \
	}
STEER_LOOKUP(steer_t_addr_claim, claims_addr, __u32, struct steer_addr_claim)
STEER_LOOKUP(steer_t_local, local, struct steer_local, struct steer_local_key)
STEER_LOOKUP(steer_t_pin, pins, __u32, struct steer_flow)
STEER_LOOKUP(steer_t_lpm4, lpm4, struct steer_vec, struct steer_lpm4)
STEER_LOOKUP(steer_t_lpm6, lpm6, struct steer_vec, struct steer_lpm6)

static __always_inline struct steer_meta *steer_t_meta(const struct xdp_md *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&meta, &key);
}

#define STEER_INDEX(fn, map, type) \
	static __always_inline type *fn(const struct xdp_md *ctx, __u32 key) \
	{ \
		return bpf_map_lookup_elem(&map, &key); \
	}
STEER_INDEX(steer_t_claim, claims, __u64)
STEER_INDEX(steer_t_instance, instances, struct steer_instance)
STEER_INDEX(steer_t_rules, rules, struct steer_rules_head)

static __always_inline struct steer_port_class *steer_t_port_class(const struct xdp_md *ctx,
								   __u32 gen, __u32 port)
{
	__u32 key = gen << 16 | port;

	return bpf_map_lookup_elem(&port_class, &key);
}

static __always_inline struct steer_port_vec *steer_t_port_vec(const struct xdp_md *ctx,
							       __u32 gen, __u32 class)
{
	__u32 key = gen * STEER_PORT_CLASSES + class;

	return bpf_map_lookup_elem(&port_vec, &key);
}

static __always_inline __u32 steer_t_frame_len(const struct xdp_md *ctx, __u32 linear)
{
	return bpf_xdp_get_buff_len((struct xdp_md *)ctx);
}

#include <bpf/steer.h>

/* --- the program --------------------------------------------------------------------------- */

static __always_inline int decided_outside(void)
{
	__u32 key = 0;
	struct steer_outside *o = bpf_map_lookup_elem(&outside, &key);

	return o && o->instance;
}

static __always_inline void count(__u32 counter)
{
	__u64 *c = bpf_map_lookup_elem(&counters, &counter);

	if (c)
		++*c; /* this CPU's own, and XDP does not nest */
}

/* Named STEER_PROG_NAME. */
SEC("xdp.frags")
int nstack_steer_3(struct xdp_md *ctx)
{
	const __u8 *data = (const __u8 *)(long)ctx->data;
	const __u8 *end = (const __u8 *)(long)ctx->data_end;
	__u32 queue = ctx->rx_queue_index;
	int action = XDP_PASS;
	struct steer_result r;

	if (decided_outside())
		return XDP_PASS;
	r = steer_decide(ctx, data, end);
	switch (steer_verdict(r.counter)) {
	case STEER_STACK:
		if (queue >= STEER_QUEUES) {
			r.counter = STEER_C_PASS_QUEUE;
			break;
		}
		action = bpf_redirect_map(&xsks_map, STEER_XSK(r.instance, queue), XDP_PASS);
		if (action != XDP_REDIRECT)
			r.counter = STEER_C_PASS_NO_SOCKET;
		break;
	case STEER_DROP:
		action = XDP_DROP;
		break;
	default:
		break;
	}
	count(r.counter);
	return action;
}

char LICENSE[] SEC("license") = "Apache-2.0"; /* no helper used here asks for GPL */
