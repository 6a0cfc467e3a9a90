/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/udp_pair.c - UDP and ICMP errors between the two stacks of stack_pair.h */
#include "stack_pair.h"

#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>

/* what went over the wire */
static uint32_t wire_packets, wire_frags, wire_longest;
static uint8_t last_pkt[2048];
static uint32_t last_len;
static int drop_dir = -1;

static enum hal_mem_action hook(void *arg, int dir, uint8_t *p, uint32_t len)
{
	wire_packets++;
	if (len > wire_longest)
		wire_longest = len;
	if (len >= 34 && p[12] == 0x08 && ((p[20] & 0x3f) || p[21]))
		wire_frags++;
	if (len >= 54 && p[12] == 0x86 && p[20] == IPPROTO_FRAGMENT)
		wire_frags++;
	last_len = len < sizeof(last_pkt) ? len : sizeof(last_pkt);
	memcpy(last_pkt, p, last_len);
	return dir == drop_dir ? HAL_MEM_DROP : HAL_MEM_PASS;
}

static void setup(const struct hal_mem_config *base)
{
	pair_open(base, hook);
	wire_packets = wire_frags = wire_longest = 0;
}

static void run(void)
{
	for (int i = 0; i < 8; i++) {
		now += 1000000;
		ops->poll(h[0].st, now);
		ops->poll(h[1].st, now);
	}
}

static struct shm_session *sock(int i, int family, const struct nst_addr *bind)
{
	struct shm_session *s = shm_session_alloc(h[i].region, (uint8_t)family, IPPROTO_UDP);

	CHECK(s != NULL);
	h[i].events[s->id] = 0;
	CHECK(!ops->open(h[i].st, s));
	if (bind)
		CHECK(!ops->bind(h[i].st, s, bind));
	return s;
}

static void setint(int i, struct shm_session *s, int opt, int v)
{
	CHECK(!ops->setopt(h[i].st, s, opt, &v, sizeof(v)));
}

static uint32_t take_events(int i, struct shm_session *s)
{
	uint32_t ev = h[i].events[s->id];

	h[i].events[s->id] = 0;
	return ev;
}

static uint8_t pattern(uint32_t at, uint32_t salt)
{
	return (uint8_t)(at * 7 + (at >> 8) + salt);
}

static void put(int i, struct shm_session *s, const struct nst_addr *to, uint32_t len,
		uint16_t gso, uint32_t salt)
{
	struct fifo f = shm_session_tx(h[i].region, s);
	static uint8_t buf[65536 + 80];
	struct shm_dgram dg;

	memset(&dg, 0, sizeof(dg));
	dg.len = len;
	dg.gso_size = gso;
	if (to)
		dg.peer = *to;
	for (uint32_t k = 0; k < len; k++)
		buf[sizeof(dg) + k] = pattern(k, salt);
	memcpy(buf, &dg, sizeof(dg));
	CHECK(fifo_write(&f, buf, shm_dgram_size(len)) == shm_dgram_size(len));
}

static void send_to(int i, struct shm_session *s, const struct nst_addr *to, uint32_t len,
		    uint32_t salt)
{
	put(i, s, to, len, 0, salt);
	ops->tx_ready(h[i].st, s, 0);
	ops->flush(h[i].st);
}

/* Next record; -1 = none, -2 = wrong bytes (from is the offset into the pattern). */
static int recv_at(int i, struct shm_session *s, struct shm_dgram *dg, uint32_t from, uint32_t salt)
{
	struct fifo f = shm_session_rx(h[i].region, s);
	static uint8_t buf[65536 + 80];
	uint32_t n;

	if (fifo_peek(&f, 0, dg, sizeof(*dg)) != sizeof(*dg))
		return -1;
	n = fifo_read(&f, buf, shm_dgram_size(dg->len));
	CHECK(n == shm_dgram_size(dg->len));
	if (dg->flags & SHM_DG_ERROR)
		return (int)dg->len;
	for (uint32_t k = 0; k < dg->len; k++)
		if (buf[sizeof(*dg) + k] != pattern(from + k, salt))
			return -2;
	return (int)dg->len;
}

static int receive(int i, struct shm_session *s, struct shm_dgram *dg, uint32_t salt)
{
	return recv_at(i, s, dg, 0, salt);
}

/* --- the tests --------------------------------------------------------------------------------- */

static void test_echo(const char *a, const char *b, uint32_t len)
{
	struct nst_addr la = ip(a, 1000), lb = ip(b, 53);
	struct shm_session *x = sock(0, la.family, &la), *y = sock(1, lb.family, &lb);
	struct shm_dgram dg;

	send_to(0, x, &lb, len, 1);
	run();
	CHECK(take_events(1, y) & STACK_EV_IN);
	CHECK(receive(1, y, &dg, 1) == (int)len);
	CHECK(nst_addr_same_ip(&dg.peer, &la) && dg.peer.port == la.port);
	CHECK(nst_addr_same_ip(&dg.local, &lb) && dg.local.port == lb.port);
	CHECK(dg.ifindex == h[1].port->ifindex && dg.ttl == 64 && dg.tstamp_ns);
	send_to(1, y, &dg.peer, len, 2);
	run();
	CHECK(receive(0, x, &dg, 2) == (int)len && receive(0, x, &dg, 2) == -1);
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
	CHECK(h[0].holds == 0 && h[1].holds == 0);
}

/* Over the MTU: fragments. Nobody here puts them together again (the kernel's job), so the test
 * checks the pieces that left. */
static void test_fragments(const char *a, const char *b)
{
	struct nst_addr la = ip(a, 1000), lb = ip(b, 53);
	struct shm_session *x = sock(0, la.family, &la);
	uint64_t big;

	wire_frags = wire_packets = wire_longest = 0;
	send_to(0, x, &lb, 5000, 3);
	run();
	CHECK(wire_frags == 4 && wire_packets == 4 && wire_longest <= 1514);
	big = counter(0, "udp_tx_too_big");
	setint(0, x, la.family == AF_INET ? STACK_OPT_MTU_DISCOVER : STACK_OPT_MTU_DISCOVER6,
	       IP_PMTUDISC_DO);
	send_to(0, x, &lb, 5000, 3);
	run();
	CHECK(wire_packets == 4 && counter(0, "udp_tx_too_big") == big + 1);
	ops->close(h[0].st, x, -1);
}

static void test_connected(void)
{
	struct nst_addr la = ip("198.18.0.1", 2000), lb = ip("198.18.0.2", 2001),
			any = ip("0.0.0.0", 2001), other = ip("198.18.0.1", 2002);
	struct shm_session *x = sock(0, AF_INET, &la), *z = sock(0, AF_INET, &other),
			   *y = sock(1, AF_INET, &any), *all = sock(1, AF_INET, &any);
	struct shm_dgram dg;
	int mss = 0;
	uint32_t len = sizeof(mss);

	CHECK(!ops->connect(h[0].st, x, &lb));
	CHECK(shm_session_state(x) == SHM_S_CONNECTED && x->mss == 1472);
	CHECK(!ops->getopt(h[0].st, x, STACK_OPT_MAXSEG, &mss, &len) && mss == 1472);
	CHECK(!ops->connect(h[1].st, y, &la));
	CHECK(nst_addr_same_ip(&y->local, &lb) && y->local.port == lb.port);
	send_to(0, x, NULL, 10, 4); /* to the connected socket */
	send_to(0, z, &lb, 11, 5);  /* to the other */
	run();
	CHECK(receive(1, y, &dg, 4) == 10 && receive(1, y, &dg, 4) == -1);
	CHECK(receive(1, all, &dg, 5) == 11 && receive(1, all, &dg, 5) == -1);
	CHECK(!ops->disconnect(h[1].st, y));
	CHECK(shm_session_state(y) == SHM_S_IDLE && y->remote.family == 0);
	send_to(1, y, NULL, 1, 6); /* nowhere to go */
	CHECK(counter(1, "udp_tx_errors") == 1);
	ops->close(h[0].st, x, -1);
	ops->close(h[0].st, z, -1);
	ops->close(h[1].st, y, -1);
	ops->close(h[1].st, all, -1);
}

static void test_dual_stack(void)
{
	struct nst_addr any6 = ip("::", 3000), a4 = ip("198.18.0.1", 3001),
			b4 = ip("198.18.0.2", 3000), a6 = ip("2001:db8::1", 3001),
			b6 = ip("2001:db8::2", 3000);
	struct shm_session *x = sock(0, AF_INET, &a4), *w = sock(0, AF_INET6, &a6),
			   *y = sock(1, AF_INET6, &any6);
	struct shm_dgram dg;

	send_to(0, x, &b4, 5, 7);
	send_to(0, w, &b6, 6, 8);
	run();
	CHECK(receive(1, y, &dg, 7) == 5 && dg.peer.family == AF_INET);
	send_to(1, y, &dg.peer, 5, 7);
	CHECK(receive(1, y, &dg, 8) == 6 && dg.peer.family == AF_INET6);
	run();
	CHECK(receive(0, x, &dg, 7) == 5);
	setint(1, y, STACK_OPT_V6ONLY, 1);
	send_to(0, x, &b4, 5, 7);
	run();
	CHECK(receive(1, y, &dg, 7) == -1);
	ops->close(h[0].st, x, -1);
	ops->close(h[0].st, w, -1);
	ops->close(h[1].st, y, -1);
}

static void test_reuseport(void)
{
	struct nst_addr any = ip("0.0.0.0", 4000), to = ip("198.18.0.2", 4000);
	struct shm_session *y[4];
	struct shm_dgram dg;
	uint32_t got[4] = { 0 }, total = 0;

	for (int i = 0; i < 4; i++) {
		y[i] = sock(1, AF_INET, &any);
		y[i]->reuseport = 1;
	}
	for (uint16_t p = 0; p < 200; p++) {
		struct nst_addr la = ip("198.18.0.1", (uint16_t)(10000 + p));
		struct shm_session *x = sock(0, AF_INET, &la);

		send_to(0, x, &to, 4, 0);
		send_to(0, x, &to, 4, 0);
		run();
		for (int i = 0; i < 4; i++) {
			uint32_t n = 0;

			while (receive(1, y[i], &dg, 0) == 4)
				n++;
			CHECK(n == 0 || n == 2); /* a flow stays with its socket */
			got[i] += n;
			total += n;
		}
		ops->close(h[0].st, x, -1);
	}
	CHECK(total == 400);
	for (int i = 0; i < 4; i++) {
		CHECK(got[i] > 20);
		ops->close(h[1].st, y[i], -1);
	}
}

static void test_full(void)
{
	struct nst_addr la = ip("198.18.0.1", 5000), lb = ip("198.18.0.2", 5000);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &lb);
	struct shm_dgram dg;
	int n = 0;

	setint(1, y, STACK_OPT_RCVBUF, 16384);
	for (int i = 0; i < 100; i++) {
		send_to(0, x, &lb, 1000, 9);
		run();
	}
	while (receive(1, y, &dg, 9) == 1000)
		n++;
	CHECK(n == 16384 / (int)shm_dgram_size(1000));
	CHECK(counter(1, "udp_rx_full") == (uint64_t)(100 - n));
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
}

static void test_unreachable(const char *a, const char *b)
{
	struct nst_addr la = ip(a, 6000), lb = ip(b, 6001);
	struct shm_session *x = sock(0, la.family, &la);
	struct shm_dgram dg;

	send_to(0, x, &lb, 30, 1); /* not connected: nobody is told */
	run();
	CHECK(x->error == 0 && !take_events(0, x));
	CHECK(!ops->connect(h[0].st, x, &lb));
	send_to(0, x, NULL, 30, 1);
	run();
	CHECK(x->error == ECONNREFUSED && take_events(0, x) & STACK_EV_ERR);
	x->error = 0;
	setint(0, x, la.family == AF_INET ? STACK_OPT_RECVERR : STACK_OPT_RECVERR6, 1);
	send_to(0, x, NULL, 30, 1);
	run();
	CHECK(receive(0, x, &dg, 0) == (int)sizeof(struct shm_dgram_error) + 30);
	CHECK(dg.flags & SHM_DG_ERROR && nst_addr_same_ip(&dg.peer, &lb) &&
	      dg.peer.port == lb.port && nst_addr_same_ip(&dg.local, &la) && x->rx_errors == 1);
	ops->close(h[0].st, x, -1);
}

/* Without a port, or connected to somebody who can't be reached, a session hears nothing; what it has
 * received stays. */
static void test_deaf(void)
{
	struct nst_addr la = ip("198.18.0.1", 7000), lb = ip("198.18.0.2", 7001), none = { 0 },
			far = ip("198.18.0.99", 7002);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &lb);
	struct shm_dgram dg;

	send_to(0, x, &lb, 10, 1);
	run();
	CHECK(!ops->bind(h[1].st, y, &none));
	send_to(0, x, &lb, 20, 1);
	run();
	CHECK(receive(1, y, &dg, 1) == 10 && receive(1, y, &dg, 1) == -1);
	CHECK(!ops->bind(h[1].st, y, &lb));
	send_to(0, x, &lb, 30, 1);
	run();
	CHECK(receive(1, y, &dg, 1) == 30);
	CHECK(!ops->connect(h[1].st, y, &far));
	send_to(0, x, &lb, 40, 1);
	run();
	CHECK(receive(1, y, &dg, 1) == -1);
	CHECK(!ops->disconnect(h[1].st, y));
	send_to(0, x, &lb, 50, 1);
	run();
	CHECK(receive(1, y, &dg, 1) == 50);
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
}

static void test_unreachable_limit(void)
{
	struct nst_addr la = ip("198.18.0.1", 6100), lb = ip("198.18.0.2", 6101);
	struct shm_session *x = sock(0, AF_INET, &la);
	uint64_t before = counter(1, "icmp_out");

	for (int i = 0; i < 200; i++) {
		send_to(0, x, &lb, 1, 1);
		ops->poll(h[1].st, now);
	}
	CHECK(counter(1, "icmp_out") - before <= 51 && counter(1, "icmp_limited") >= 100);
	run();
	ops->close(h[0].st, x, -1);
}

/* A frame for host 0, as from the wire: through host 1's port. */
static void inject(const uint8_t *p, uint32_t len)
{
	struct hal_frame f;

	CHECK(hal_tx_alloc(h[1].port, 0, &f, 1) == 1);
	memcpy(f.data, p, len);
	f.len = len;
	CHECK(hal_tx_burst(h[1].port, 0, &f, 1) == 1);
	hal_tx_flush(h[1].port, 0);
	run();
}

static uint32_t frag_needed(uint8_t *out, const uint8_t *orig, uint16_t next_mtu)
{
	uint8_t *ip4 = out + 14, *ic = out + 34;
	uint32_t quote = 28;
	uint16_t c;

	memcpy(out, h[0].port->mac, 6);
	memcpy(out + 6, h[1].port->mac, 6);
	out[12] = 8;
	out[13] = 0;
	memset(ip4, 0, 28);
	ip4[0] = 0x45;
	ip4[3] = (uint8_t)(28 + quote);
	ip4[8] = 60;
	ip4[9] = IPPROTO_ICMP;
	memcpy(ip4 + 12, (uint8_t[]){ 198, 18, 0, 254 }, 4);
	memcpy(ip4 + 16, orig + 14 + 12, 4);
	c = csum_fold(csum_partial(ip4, 20, 0));
	memcpy(ip4 + 10, &c, 2);
	ic[0] = 3;
	ic[1] = 4;
	ic[6] = (uint8_t)(next_mtu >> 8);
	ic[7] = (uint8_t)next_mtu;
	memcpy(ic + 8, orig + 14, quote);
	c = csum_fold(csum_partial(ic, 8 + quote, 0));
	memcpy(ic + 2, &c, 2);
	return 34 + 8 + quote;
}

static void test_pmtu(void)
{
	struct nst_addr la = ip("198.18.0.1", 7000), lb = ip("198.18.0.2", 7001);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &lb);
	uint8_t icmp[200], orig[sizeof(last_pkt)];
	struct shm_dgram dg;
	uint32_t len;
	uint64_t bad;

	CHECK(!ops->connect(h[0].st, x, &lb));
	send_to(0, x, NULL, 1400, 1);
	memcpy(orig, last_pkt, sizeof(orig));
	run();
	CHECK(receive(1, y, &dg, 1) == 1400);
	/* a lie about a flow that does not exist changes nothing */
	len = frag_needed(icmp, orig, 900);
	icmp[34 + 8 + 20 + 1] ^= 1; /* quoted source port */
	icmp[34 + 2] = icmp[34 + 3] = 0;
	{
		uint16_t c = csum_fold(csum_partial(icmp + 34, 36, 0));

		memcpy(icmp + 36, &c, 2);
	}
	inject(icmp, len);
	CHECK(x->mss == 1472 && x->error == 0);
	/* a bad checksum */
	bad = counter(0, "icmp_bad");
	len = frag_needed(icmp, orig, 900);
	icmp[41] ^= 1;
	inject(icmp, len);
	CHECK(x->mss == 1472 && counter(0, "icmp_bad") == bad + 1);
	/* short ones, at every length */
	len = frag_needed(icmp, orig, 900);
	for (uint32_t n = 0; n < 28; n++) {
		uint8_t cut[200];
		uint16_t c = 0;

		memcpy(cut, icmp, sizeof(cut));
		cut[14 + 3] = (uint8_t)(28 + n);
		memcpy(cut + 24, &c, 2);
		c = csum_fold(csum_partial(cut + 14, 20, 0));
		memcpy(cut + 24, &c, 2);
		memset(cut + 36, 0, 2);
		c = csum_fold(csum_partial(cut + 34, 8 + n, 0));
		memcpy(cut + 36, &c, 2);
		inject(cut, 34 + 8 + n);
	}
	CHECK(x->mss == 1472);
	/* the truth */
	inject(icmp, len);
	CHECK(x->mss == 872 && x->error == EMSGSIZE);
	x->error = 0;
	wire_frags = 0;
	send_to(0, x, NULL, 1400, 1);
	run();
	CHECK(wire_frags == 2);
	now += 601 * SEC; /* forgotten after ten minutes */
	CHECK(!ops->connect(h[0].st, x, &lb));
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
}

static void test_train(bool super)
{
	struct nst_addr la = ip("198.18.0.1", 8000), lb = ip("198.18.0.2", 8001);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &lb);
	struct shm_dgram dg;

	wire_packets = 0;
	put(0, x, &lb, 5 * 1200 + 33, 1200, 1);
	ops->tx_ready(h[0].st, x, 0);
	ops->flush(h[0].st);
	run();
	CHECK(wire_packets == 6);
	CHECK(counter(0, "tx_super") == super);
	for (uint32_t i = 0; i < 5; i++)
		CHECK(recv_at(1, y, &dg, i * 1200, 1) == 1200);
	CHECK(recv_at(1, y, &dg, 6000, 1) == 33);
	put(0, x, &lb, 3000, 1473, 1); /* a car longer than the MTU */
	ops->tx_ready(h[0].st, x, 0);
	ops->flush(h[0].st);
	CHECK(wire_packets == 6);
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
}

/* A whole train arrives as one packet: dropped and counted, not delivered as one datagram. */
static void test_train_in(void)
{
	struct nst_addr la = ip("198.18.0.1", 8000), lb = ip("198.18.0.2", 8001);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &lb);
	struct shm_dgram dg;

	put(0, x, &lb, 6000, 1200, 1);
	ops->tx_ready(h[0].st, x, 0);
	ops->flush(h[0].st);
	run();
	CHECK(counter(1, "udp_rx_train") == 1 && receive(1, y, &dg, 1) == -1);
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
}

static void test_multicast(void)
{
	struct nst_addr la = ip("198.18.0.1", 9000), any = ip("0.0.0.0", 9001),
			g = ip("239.1.2.3", 9001), g6 = ip("ff02::7", 9001), any6 = ip("::", 9001),
			la6 = ip("2001:db8::1", 9000);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &any),
			   *z = sock(1, AF_INET, &any), *w = sock(1, AF_INET, &any),
			   *x6 = sock(0, AF_INET6, &la6), *y6 = sock(1, AF_INET6, &any6);
	struct shm_dgram dg;

	CHECK(!ops->join(h[1].st, y, &g, 0, false));
	CHECK(!ops->join(h[1].st, z, &g, h[1].port->ifindex, false));
	CHECK(ops->join(h[1].st, z, &g, h[1].port->ifindex, false) == -EADDRINUSE);
	CHECK(!ops->join(h[1].st, y6, &g6, h[1].port->ifindex, false));
	setint(0, x, STACK_OPT_MCAST_IF, (int)h[0].port->ifindex);
	setint(0, x6, STACK_OPT_MCAST_IF, (int)h[0].port->ifindex);
	send_to(0, x, &g, 20, 1);
	send_to(0, x6, &g6, 21, 2);
	run();
	CHECK(receive(1, y, &dg, 1) == 20 && receive(1, z, &dg, 1) == 20 && dg.ttl == 1);
	CHECK(receive(1, w, &dg, 1) == -1); /* no member */
	CHECK(receive(1, y6, &dg, 2) == 21);
	CHECK(!ops->join(h[1].st, y, &g, 0, true));
	CHECK(ops->join(h[1].st, y, &g, 0, true) == -EADDRNOTAVAIL);
	send_to(0, x, &g, 20, 1);
	run();
	CHECK(receive(1, y, &dg, 1) == -1 && receive(1, z, &dg, 1) == 20);
	ops->close(h[0].st, x, -1);
	ops->close(h[0].st, x6, -1);
	ops->close(h[1].st, y, -1);
	ops->close(h[1].st, z, -1);
	ops->close(h[1].st, w, -1);
	ops->close(h[1].st, y6, -1);
}

/* Records that make no sense. */
static void test_hostile(void)
{
	struct nst_addr la = ip("198.18.0.1", 9100), lb = ip("198.18.0.2", 9101);
	struct shm_session *x = sock(0, AF_INET, &la);
	struct fifo f = shm_session_tx(h[0].region, x);
	struct shm_dgram dg;
	uint32_t seed = 1;

	for (int i = 0; i < 2000; i++) {
		uint8_t *b = (uint8_t *)&dg;

		for (uint32_t k = 0; k < sizeof(dg); k++) {
			seed = seed * 1103515245 + 12345;
			b[k] = (uint8_t)(seed >> 16);
		}
		if (i & 1) {
			dg.len &= 0x1ff;
			dg.peer = lb;
			dg.peer.family = (i & 2) ? AF_INET : (uint8_t)(seed >> 20);
			dg.gso_size &= 0x3ff;
			if (i & 4)
				dg.local.family = 0;
		}
		fifo_write(&f, &dg, sizeof(dg));
		if (i & 8)
			fifo_write(&f, b, (uint32_t)(i % 73));
		ops->tx_ready(h[0].st, x, 0);
		ops->flush(h[0].st);
		if (i % 50 == 0)
			run();
	}
	/* head far beyond tail */
	x->tx.head += 1ull << 40;
	ops->tx_ready(h[0].st, x, 0);
	ops->flush(h[0].st);
	x->tx.rebase = 0x123456789;
	x->tx.head += 77;
	ops->tx_ready(h[0].st, x, 0);
	ops->flush(h[0].st);
	run();
	ops->close(h[0].st, x, -1);
}

/* Random bytes behind good IP and UDP headers, and truncated at every length. */
static void test_garbage_in(void)
{
	struct nst_addr la = ip("198.18.0.1", 9200), lb = ip("198.18.0.2", 9201);
	struct shm_session *x = sock(0, AF_INET, &la), *y = sock(1, AF_INET, &lb);
	uint8_t good[sizeof(last_pkt)];
	struct shm_dgram dg;
	uint32_t len, seed = 7;

	send_to(1, y, &la, 100, 1);
	memcpy(good, last_pkt, sizeof(good));
	len = last_len;
	run();
	CHECK(receive(0, x, &dg, 1) == 100);
	for (uint32_t n = 14; n < len; n++)
		inject(good, n);
	for (int i = 0; i < 3000; i++) {
		uint8_t p[sizeof(good)];

		memcpy(p, good, len);
		for (int k = 0; k < 3; k++) {
			seed = seed * 1103515245 + 12345;
			p[14 + (seed >> 16) % (len - 14)] ^= (uint8_t)(seed >> 8);
		}
		inject(p, len);
	}
	while (receive(0, x, &dg, 1) != -1)
		;
	ops->close(h[0].st, x, -1);
	ops->close(h[1].st, y, -1);
}

static void test_observe(void)
{
	struct nst_addr la = ip("198.18.0.1", 9300), lb = ip("198.18.0.2", 9301);
	struct shm_session *x[5];
	struct stack_sock_info info[2];
	uint64_t cursor = 0;
	uint32_t n = 0, got;

	for (uint16_t i = 0; i < 5; i++) {
		la.port = htons((uint16_t)(9300 + i));
		x[i] = sock(0, AF_INET, &la);
	}
	CHECK(!ops->connect(h[0].st, x[0], &lb));
	while ((got = ops->sockets(h[0].st, info, 2, &cursor)))
		for (uint32_t i = 0; i < got; i++)
			n += info[i].proto == IPPROTO_UDP;
	CHECK(n == 5);
	for (int i = 0; i < 5; i++)
		ops->close(h[0].st, x[i], -1);
}

int main(void)
{
	struct hal_mem_config plain = { 0 },
		small = { .frame_size = 2048, .caps = HAL_CAP_MULTIBUF },
		veth = { .caps = HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM | HAL_CAP_RX_CSUM_PARTIAL },
		nic = { .caps = HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM | HAL_CAP_SUPERFRAME,
			.fill_csum = true, .split_super = true },
		veth_super = { .caps = HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM | HAL_CAP_SUPERFRAME |
				       HAL_CAP_RX_CSUM_PARTIAL };
	const struct hal_mem_config *all[] = { &plain, &small, &veth, &nic };

	for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) {
		setup(all[i]);
		for (uint32_t len = 0; len < 1473; len += 1 + len / 3)
			test_echo("198.18.0.1", "198.18.0.2", len);
		test_echo("198.18.0.1", "198.18.0.2", 1472);
		test_echo("2001:db8::1", "2001:db8::2", 1);
		test_echo("2001:db8::1", "2001:db8::2", 1452);
		test_fragments("198.18.0.1", "198.18.0.2");
		test_fragments("2001:db8::1", "2001:db8::2");
		test_connected();
		test_dual_stack();
		test_train(all[i]->caps & HAL_CAP_SUPERFRAME);
		pair_close();
	}
	setup(&plain);
	test_reuseport();
	test_full();
	test_unreachable("198.18.0.1", "198.18.0.2");
	test_unreachable("2001:db8::1", "2001:db8::2");
	test_deaf();
	test_unreachable_limit();
	test_pmtu();
	test_multicast();
	test_hostile();
	test_garbage_in();
	test_observe();
	pair_close();
	setup(&veth_super);
	test_train_in();
	pair_close();
	if (!failures)
		printf("ok - udp_pair\n");
	return failures != 0;
}
