/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/world.h - a stack on an in-memory port, and a peer that is driven by the fuzzer's input
 *
 * The peer sends frames as they are, TCP segments, datagrams and ICMP errors whose checksums, addresses and
 * sequence numbers are filled in (so that they get past the first checks and reach connections).
 * Everything is made anew for each input, with fixed secrets and virtual time: a finding repeats.
 */
#ifndef NSTACK_TESTS_FUZZ_WORLD_H
#define NSTACK_TESTS_FUZZ_WORLD_H

#include <assert.h>
#include <errno.h>
#include <hal_wrap/hal_mem.h>
#include <linux/tcp.h>
#include <nstack/stack.h>
#include <shm/session.h>
#include <stacks/tcpip/netcfg.h>
#include <stacks/tcpip/tcpip.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PEER_PORT 4000u
#define TCP_PORT 80u
#define UDP_PORT 53u

static const uint8_t our_mac[6] = { 2, 0, 0, 0, 0, 1 }, peer_mac[6] = { 2, 0, 0, 0, 0, 2 };

struct world {
	struct stack_env env; /* first: the callbacks get this */
	struct stack *st;
	struct netcfg *nc;
	struct hal_port *port[2];
	struct nst_addr us[2], peer[2]; /* [0] IPv4, [1] IPv6 */
	uint64_t now;
	uint32_t seq, ack; /* what the stack said last: its next sequence number, its expectation */
	uint16_t to_port;  /* local port of the peer in that segment */
	int holds;
	const uint8_t *in, *end;
};

/* --- input ------------------------------------------------------------------------------------- */

static inline uint8_t take(struct world *w)
{
	return w->in < w->end ? *w->in++ : 0;
}

static inline uint16_t take16(struct world *w)
{
	return (uint16_t)(take(w) << 8 | take(w));
}

static inline uint32_t take_bytes(struct world *w, uint8_t *out, uint32_t n)
{
	uint32_t left = (uint32_t)(w->end - w->in);

	n = n < left ? n : left;
	memcpy(out, w->in, n);
	w->in += n;
	return n;
}

/* --- environment ------------------------------------------------------------------------------- */

static inline void on_port(struct stack_env *env, uint8_t proto, const struct nst_addr *local)
{
	struct world *w = (struct world *)env;

	w->holds++;
}

static inline void on_release(struct stack_env *env, uint8_t proto, const struct nst_addr *local)
{
	struct world *w = (struct world *)env;

	w->holds--;
	assert(w->holds >= 0);
}

static inline uint64_t clock_of(void *arg)
{
	return ((struct world *)arg)->now;
}

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint32_t sum16(const uint8_t *p, uint32_t n, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	if (n & 1)
		sum += (uint32_t)(p[n - 1] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* --- frames ------------------------------------------------------------------------------------- */

static inline void inject(struct world *w, const uint8_t *pkt, uint32_t len)
{
	struct hal_frame f[2];

	if (hal_tx_alloc(w->port[1], 0, f, 1) != 1)
		return;
	len = len < f[0].room ? len : f[0].room;
	memcpy(f[0].data, pkt, len);
	f[0].len = len;
	f[0].flags = 0;
	if (hal_tx_burst(w->port[1], 0, f, 1) != 1)
		hal_tx_free(w->port[1], 0, f, 1);
	hal_tx_flush(w->port[1], 0);
}

/* Ethernet and IP in front of n bytes at b + 54 (or b + 34); returns the L4 pointer. */
static inline uint32_t ip_header(struct world *w, uint8_t *b, int v6, uint8_t proto, uint32_t n)
{
	memcpy(b, our_mac, 6);
	memcpy(b + 6, peer_mac, 6);
	put16(b + 12, v6 ? 0x86dd : 0x0800);
	b += 14;
	if (v6) {
		memset(b, 0, 40);
		b[0] = 0x60;
		put16(b + 4, n);
		b[6] = proto;
		b[7] = 64;
		memcpy(b + 8, w->peer[1].v6, 16);
		memcpy(b + 24, w->us[1].v6, 16);
		return 54;
	}
	memset(b, 0, 20);
	b[0] = 0x45;
	put16(b + 2, 20 + n);
	b[8] = 64;
	b[9] = proto;
	memcpy(b + 12, &w->peer[0].v4, 4);
	memcpy(b + 16, &w->us[0].v4, 4);
	put16(b + 10, (uint16_t)~sum16(b, 20, 0));
	return 34;
}

static inline void finish(struct world *w, uint8_t *b, int v6, uint8_t proto, uint32_t l4, uint32_t n,
		   uint32_t csum_at)
{
	uint32_t sum = 0;

	put16(b + l4 + csum_at, 0);
	if (proto != 1) { /* ICMPv4 has no pseudo-header */
		sum = v6 ? sum16(b + 22, 32, 0) : sum16(b + 26, 8, 0);
		sum += proto + n;
	}
	put16(b + l4 + csum_at, (uint16_t)~sum16(b + l4, n, sum));
	inject(w, b, l4 + n);
}

static inline void step_raw(struct world *w)
{
	uint8_t b[2048];
	uint32_t n = take_bytes(w, b, take(w) * 8u);

	if (n >= 6)
		memcpy(b, our_mac, 6);
	inject(w, b, n);
}

static inline void step_tcp(struct world *w)
{
	uint8_t b[2048], flags = take(w), how = take(w);
	int8_t dseq = (int8_t)take(w), dack = (int8_t)take(w);
	uint16_t window = take16(w);
	uint32_t opts = (take(w) & 15u) * 4u, payload = take(w) * (how & 2 ? 5u : 1u), n, l4;
	int v6 = how & 1;
	uint8_t *t;

	opts = opts > 40 ? 40 : opts;
	n = 20 + opts + payload;
	l4 = ip_header(w, b, v6, IPPROTO_TCP, n);
	t = b + l4;
	memset(t, 0, n);
	put16(t, PEER_PORT + (how >> 2 & 7u));
	put16(t + 2, how & 0x20 && w->to_port ? w->to_port : TCP_PORT);
	put32(t + 4, w->ack + (uint32_t)(int32_t)dseq * (how & 0x40 ? 1000 : 1));
	put32(t + 8, w->seq + (uint32_t)(int32_t)dack * (how & 0x80 ? 1000 : 1));
	t[12] = (uint8_t)((5 + opts / 4) << 4);
	t[13] = flags;
	put16(t + 14, window);
	take_bytes(w, t + 20, opts);
	memset(t + 20 + opts, 'x', payload);
	finish(w, b, v6, IPPROTO_TCP, l4, n, 16);
}

static inline void step_udp(struct world *w)
{
	uint8_t b[2048], how = take(w);
	uint32_t n = 8u + take(w) * 4u, l4 = ip_header(w, b, how & 1, IPPROTO_UDP, n);

	memset(b + l4, 'u', n);
	put16(b + l4, PEER_PORT);
	put16(b + l4 + 2, how & 2 ? 9 : UDP_PORT);
	put16(b + l4 + 4, how & 4 ? take16(w) : n);
	finish(w, b, how & 1, IPPROTO_UDP, l4, n, 6);
}

/* An error that quotes a segment of ours. */
static inline void step_icmp(struct world *w)
{
	uint8_t b[2048], how = take(w);
	int v6 = how & 1;
	uint32_t quote = v6 ? 48 : 28, n = 8 + quote, l4 = ip_header(w, b, v6, v6 ? 58 : 1, n);
	uint8_t *t = b + l4;

	memset(t, 0, n);
	t[0] = take(w);
	t[1] = take(w);
	put32(t + 4, take16(w)); /* the MTU */
	memcpy(t + 8, b + 14, quote - 8);
	if (v6) {
		memcpy(t + 8 + 8, w->us[1].v6, 16);
		memcpy(t + 8 + 24, w->peer[1].v6, 16);
		t[8 + 6] = how & 2 ? IPPROTO_UDP : IPPROTO_TCP;
	} else {
		memcpy(t + 8 + 12, &w->us[0].v4, 4);
		memcpy(t + 8 + 16, &w->peer[0].v4, 4);
		t[8 + 9] = how & 2 ? IPPROTO_UDP : IPPROTO_TCP;
	}
	put16(t + 8 + quote - 8, how & 4 && w->to_port ? w->to_port : TCP_PORT);
	put16(t + 8 + quote - 6, PEER_PORT);
	put32(t + 8 + quote - 4, w->seq - take(w));
	finish(w, b, v6, v6 ? 58 : 1, l4, n, 2);
}

/* What the stack sent: learn from it, and give the frames back. */
static inline void drain(struct world *w)
{
	struct hal_frame f[HAL_RX_MIN];
	uint32_t n;

	while ((n = hal_rx_burst(w->port[1], 0, f, HAL_RX_MIN))) {
		for (uint32_t i = 0; i < n; i++) {
			const uint8_t *p = f[i].data;
			uint32_t l4 = p[12] == 0x08 ? 34 : 54;
			uint8_t proto = l4 == 34 ? p[23] : p[20];

			if ((i && f[i - 1].flags & HAL_F_MORE) || f[i].len < l4 + 20 || proto != IPPROTO_TCP)
				continue;
			w->seq = get32(p + l4 + 4) + (p[l4 + 13] & 3 ? 1 : 0);
			w->ack = get32(p + l4 + 8);
			w->to_port = (uint16_t)(p[l4] << 8 | p[l4 + 1]);
		}
		hal_rx_release(w->port[1], 0, f, n);
	}
}

/* --- making and undoing the world ------------------------------------------------------------------ */

static inline void must(int ret)
{
	if (ret)
		abort();
}

/* With w->env.region and w->env.event set. */
static inline void world_make(struct world *w)
{
	static const uint8_t secret[16] = "0123456789abcdef";
	static const uint8_t v6[16] = { 0x20, 1, 0x0d, 0xb8 };
	struct hal_mem_config hc = { .frames = 128, .caps = HAL_CAP_MULTIBUF };
	struct tcpip_config tc = { .secret = secret, .clock = clock_of, .clock_arg = w, .max_timewait = 16 };

	w->now = 1000000000;
	w->env.port_hold = on_port;
	w->env.port_release = on_release;
	must(hal_mem_pair(w->port, &hc));
	must(netcfg_open_static(&w->nc));
	must(netcfg_static_link(w->nc, 1, "mem0", our_mac, 1500));
	for (int i = 0; i < 2; i++) {
		w->us[i].family = w->peer[i].family = i ? AF_INET6 : AF_INET;
		if (i) {
			memcpy(w->us[i].v6, v6, 16);
			memcpy(w->peer[i].v6, v6, 16);
			w->us[i].v6[15] = 1;
			w->peer[i].v6[15] = 2;
		} else {
			w->us[i].v4 = htonl(0xc6120001);
			w->peer[i].v4 = htonl(0xc6120002);
		}
		must(netcfg_static_addr(w->nc, 1, &w->us[i], i ? 64 : 24));
		must(netcfg_static_neigh(w->nc, 1, &w->peer[i], peer_mac));
	}
	tc.netcfg = w->nc;
	must(tcpip_stack_ops.create(&w->st, &w->env, &tc));
	must(tcpip_stack_ops.add_port(w->st, w->port[0]));
}

/* All sessions have been closed: let the stack have its last word, then nothing may be left. */
static inline void world_end(struct world *w)
{
	for (int i = 0; i < 4; i++) {
		w->now += 1000000000ull << (i * 2);
		tcpip_stack_ops.poll(w->st, w->now);
		drain(w);
	}
	tcpip_stack_ops.destroy(w->st);
	drain(w);
	assert(hal_mem_outstanding(w->port[0]) == 0);
	assert(hal_mem_outstanding(w->port[1]) == 0);
	assert(w->holds == 0);
	hal_close(w->port[0]);
	hal_close(w->port[1]);
	netcfg_close(w->nc);
}

#endif
