// SPDX-License-Identifier: Apache-2.0
/* tests/hal/redirect.bpf.c - the least XDP program that feeds hal_xdp in tests
 *
 * UDP or TCP over IPv4 without options to a port in `ports` goes to XSK slot value + rx queue;
 * port 0 in the table takes every frame. All else passes.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

static __always_inline int to_xsk(struct xdp_md *ctx, __u32 port)
{
	__u32 *slot = bpf_map_lookup_elem(&ports, &port);

	if (!slot)
		return -1;
	return bpf_redirect_map(&xsks, *slot + ctx->rx_queue_index, XDP_PASS);
}

SEC("xdp.frags")
int redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__be16 *port = (void *)(ip + 1);
	int r = to_xsk(ctx, 0);

	if (r >= 0)
		return r;
	if ((void *)(port + 2) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 ||
	    (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP))
		return XDP_PASS;
	r = to_xsk(ctx, bpf_ntohs(port[1]));
	return r >= 0 ? r : XDP_PASS;
}

/* Source of packets for benches, run by BPF_PROG_TEST_RUN with live frames: out by `out_if`. */
const volatile __u32 out_if;
SEC("xdp")
int source(struct xdp_md *ctx)
{
	return bpf_redirect(out_if, 0);
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
