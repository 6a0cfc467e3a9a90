/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* bpf/backlog.bpf.c - an ACK completes a handshake that the kernel has not seen
 *
 * On the loopback's way in, as long as connections are handed over (bpf/backlog.c). An ACK of one of these
 * is given a request socket of the kernel's listener, with what was agreed: the kernel takes it as it takes
 * the answer to a SYN cookie of its own, and the connection waits for accept(). All else passes.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/backlog_shared.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#ifndef NULL
#define NULL ((void *)0)
#endif

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BACKLOG_MAX);
	__type(key, struct steer_flow);
	__type(value, struct backlog_agreed);
} expected SEC(".maps");

struct sock {}; /* libbpf wants a struct where the kernel has one */
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct backlog_agreed *agreed,
				   int agreed__sz) __ksym;

static __always_inline int flow_v4(struct __sk_buff *skb, struct steer_flow *f, __u32 *l4)
{
	struct iphdr h;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &h, sizeof(h)) || h.protocol != IPPROTO_TCP || h.ihl != 5)
		return -1;
	f->family = AF_INET;
	f->local[0] = h.daddr;
	f->remote[0] = h.saddr;
	*l4 = ETH_HLEN + sizeof(h);
	return 0;
}

static __always_inline int flow_v6(struct __sk_buff *skb, struct steer_flow *f, __u32 *l4)
{
	struct ipv6hdr h;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &h, sizeof(h)) || h.nexthdr != IPPROTO_TCP)
		return -1;
	f->family = AF_INET6;
	__builtin_memcpy(f->local, &h.daddr, 16);
	__builtin_memcpy(f->remote, &h.saddr, 16);
	*l4 = ETH_HLEN + sizeof(h);
	return 0;
}

static __always_inline struct bpf_sock *listener(struct __sk_buff *skb, const struct steer_flow *f)
{
	struct bpf_sock_tuple t = { 0 };

	if (f->family == AF_INET) {
		t.ipv4.saddr = f->remote[0];
		t.ipv4.daddr = f->local[0];
		t.ipv4.sport = f->rport;
		t.ipv4.dport = f->lport;
		return bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(t.ipv6.saddr, f->remote, 16);
	__builtin_memcpy(t.ipv6.daddr, f->local, 16);
	t.ipv6.sport = f->rport;
	t.ipv6.dport = f->lport;
	return bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
}

SEC("tc")
int backlog(struct __sk_buff *skb)
{
	struct steer_flow f = { .proto = STEER_P_TCP };
	struct backlog_agreed *known, a;
	struct bpf_sock *sk;
	struct sock *tcp;
	struct tcphdr h;
	__u32 l4;
	int err;

	err = skb->protocol == bpf_htons(ETH_P_IP) ? flow_v4(skb, &f, &l4) :
	      skb->protocol == bpf_htons(ETH_P_IPV6) ? flow_v6(skb, &f, &l4) : -1;
	if (err || bpf_skb_load_bytes(skb, l4, &h, sizeof(h)))
		return TC_ACT_OK;
	f.lport = h.dest;
	f.rport = h.source;
	known = bpf_map_lookup_elem(&expected, &f);
	if (!known)
		return TC_ACT_OK;
	a = *known;
	sk = listener(skb, &f);
	if (!sk)
		return TC_ACT_OK;
	tcp = sk->state == BPF_TCP_LISTEN ? (struct sock *)bpf_skc_to_tcp_sock(sk) : NULL;
	/* once: what follows finds the connection */
	if (tcp && !bpf_map_delete_elem(&expected, &f))
		bpf_sk_assign_tcp_reqsk(skb, tcp, &a, sizeof(a));
	bpf_sk_release(sk);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL"; /* the kernel's functions ask for it */
