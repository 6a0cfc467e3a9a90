/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/foreign.bpf.c - XDP programs that are not ours, for test_steer_load.py */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int foreign_guard(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* as if of another version of nstack */
SEC("xdp/other")
int nstack_steer_0(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
