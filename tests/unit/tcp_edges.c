/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tcp_edges.c - ends that meet, peers that are wrong, ways out that are gone, windows that
 * grow, and what a program may do to the memory that it shares
 */
#include "tcp_pair.h"

#define IP_B "198.18.0.2"

static struct shm_session *ls, *a, *b;

static void ticks(int n)
{
	while (n--)
		poll_both();
}

static void start_connected(void)
{
	setup(NULL);
	ls = listener(1, "0.0.0.0", 80, 16);
	connected(&a, &b, ls, IP_B, 80);
}

static bool drop_all(const struct segment *g)
{
	return true;
}

static bool drop_up(const struct segment *g)
{
	return g->dir == 0;
}

/* The segment that acknowledges the FIN of a closed socket brings the peer's FIN. */
static void test_orphan_fin_with_ack(void)
{
	struct tcp_conn *c;
	struct tcp *tc;
	struct tcp_tw *w;

	start_connected();
	c = conn(1, b);
	wire_filter = drop_all;
	ops->close(h[1].st, b, -1);
	ops->flush(h[1].st);
	CHECK(c->state == TCP_S_FIN_WAIT1);
	inject(1, &a->remote, &a->local, c->rcv_nxt, c->nxt, TCP_FIN | TCP_ACK, 1000, 0);
	tc = ((struct tcpip *)h[1].st)->tcp;
	w = tc->tw_head[0];
	CHECK(tc->ntw == 1 && w && w->kind == TCP_TW_TIME);
	wire_filter = NULL;
	ops->close(h[0].st, a, 0);
	ticks(5);
	teardown();
}

/* The same with linger2 < 0 and with nothing but the acknowledgement. */
static void test_orphan_plain(void)
{
	struct tcp_conn *c;
	struct tcp *tc;

	start_connected();
	c = conn(1, b);
	wire_filter = drop_all;
	ops->close(h[1].st, b, -1);
	ops->flush(h[1].st);
	inject(1, &a->remote, &a->local, c->rcv_nxt, c->nxt, TCP_ACK, 1000, 0);
	tc = ((struct tcpip *)h[1].st)->tcp;
	CHECK(tc->ntw == 1 && tc->tw_head[1] && tc->tw_head[1]->kind == TCP_TW_FIN);
	/* data from who knows not where we are does not end it; from the peer it does */
	inject(1, &a->remote, &a->local, tc->tw_head[1]->rcv_adv + 5000, tc->tw_head[1]->snd_nxt,
	       TCP_ACK, 1000, 10);
	CHECK(tc->ntw == 1 && counter(1, "tcp_out_of_window") == 1);
	inject(1, &a->remote, &a->local, tc->tw_head[1]->rcv_nxt, tc->tw_head[1]->snd_nxt, TCP_ACK,
	       1000, 10);
	CHECK(tc->ntw == 0 && counter(1, "tcp_after_close") == 1);
	wire_filter = NULL;
	ops->close(h[0].st, a, 0);
	ticks(5);
	teardown();
}

/* What lies beyond the window is not told as something that we hold. */
static void test_no_sack_of_what_is_not_there(void)
{
	struct tcp_conn *c;

	start_connected();
	c = conn(1, b);
	inject(1, &b->local, &b->remote, c->rcv_adv + 1000, c->nxt, TCP_ACK, 1000, 100);
	CHECK(counter(1, "tcp_out_of_window") == 1 && last[1].nsack == 0);
	/* an old duplicate is (RFC 2883) */
	put(0, a, "0123456789", 10, 0);
	ticks(2);
	inject(1, &b->local, &b->remote, c->rcv_nxt - 5, c->nxt, TCP_ACK, 1000, 5);
	CHECK(last[1].nsack == 1);
	teardown();
}

/* Two ends that find each other's bare acknowledgements wrong don't go on for ever. */
static void test_ack_loop(void)
{
	struct tcp_conn *c;
	uint32_t before;

	start_connected();
	c = conn(1, b);
	before = seen[1];
	for (int i = 0; i < 100; i++)
		inject(1, &b->local, &b->remote, c->rcv_nxt - 5000, c->nxt, TCP_ACK, 1000, 0);
	CHECK(seen[1] - before == 1);
	now += SEC;
	inject(1, &b->local, &b->remote, c->rcv_nxt - 1, c->nxt, TCP_ACK, 1000, 0); /* a probe */
	CHECK(seen[1] - before == 2);
	teardown();
}

/* A writer that goes on does not put the time-out off. */
static void test_rto_not_postponed(void)
{
	uint64_t end;

	start_connected();
	setint(0, a, STACK_OPT_NODELAY, 1);
	put(0, a, "x", 1, 0);
	run_for(SEC);
	wire_filter = drop_up;
	for (end = now + SEC; now < end;) {
		put(0, a, "y", 1, 0);
		run_for(20 * MS);
	}
	CHECK(counter(0, "tcp_rto") >= 1);
	teardown();
}

/* Without a way out data waits for the retransmission timer, not for a busy one. */
static void test_route_gone(void)
{
	struct tcp_conn *c;
	char buf[4];

	start_connected();
	c = conn(0, a);
	c->dst->err = -EHOSTUNREACH;
	put(0, a, "data", 4, 0);
	run_for(2 * SEC);
	CHECK(counter(0, "tx_drop_no_route") >= 2 && counter(0, "tx_drop_no_route") < 12);
	CHECK(c->err_soft == EHOSTUNREACH && get(1, b, buf, 4) == 0);
	c->dst->err = 0;
	run_for(10 * SEC);
	CHECK(get(1, b, buf, 4) == 4);
	CHECK(c->err_soft == 0);
	teardown();
}

/* Segments became larger than the congestion window. */
static void test_mss_grows(void)
{
	static uint8_t buf[20000];
	struct tcp_conn *c;
	uint32_t got = 0, n;

	start_connected();
	c = conn(0, a);
	c->mss = 500;
	c->cwnd = 500;
	c->ssthresh = 1000;
	c->mtu_gen--;
	put(0, a, buf, sizeof(buf), 0);
	for (uint64_t end = now + 5 * SEC; now < end && got < sizeof(buf);) {
		run_for(MS);
		while ((n = get(1, b, buf, sizeof(buf))))
			got += n;
	}
	CHECK(got == sizeof(buf) && c->mss == 1448);
	teardown();
}

/* Each range that is held keeps its place among the blocks, however often one of them grows. */
static void test_sack_blocks(void)
{
	struct tcp_conn *c;
	uint32_t at;

	start_connected();
	c = conn(1, b);
	at = c->rcv_nxt;
	inject(1, &b->local, &b->remote, at + 1000, c->nxt, TCP_ACK, 1000, 100);
	CHECK(last[1].nsack == 1);
	inject(1, &b->local, &b->remote, at + 3000, c->nxt, TCP_ACK, 1000, 100);
	for (uint32_t i = 0; i < 8; i++)
		inject(1, &b->local, &b->remote, at + 5000 + 100 * i, c->nxt, TCP_ACK, 1000, 100);
	CHECK(last[1].nsack == 3 && c->nrecent == 3);
	teardown();
}

static uint32_t drop_seq;

static bool drop_once(const struct segment *g)
{
	if (g->dir || !g->len || g->seq != drop_seq)
		return false;
	drop_seq = 0;
	return true;
}

/* A peer without SACK counts duplicate acknowledgements: a batch must not swallow them. */
static void test_dupacks_without_sack(void)
{
	static uint8_t buf[14480];
	uint32_t got = 0, n;

	start_connected();
	conn(0, a)->flags &= ~TCP_F_SACK;
	conn(1, b)->flags &= ~TCP_F_SACK;
	drop_seq = conn(0, a)->nxt + 1448;
	wire_filter = drop_once;
	put(0, a, buf, sizeof(buf), 0);
	run_for(50 * MS);
	while ((n = get(1, b, buf, sizeof(buf))))
		got += n;
	CHECK(got == sizeof(buf));
	CHECK(counter(0, "tcp_fast_rexmit") == 1 && counter(0, "tcp_rto") == 0);
	teardown();
}

static void test_syn_again(void)
{
	struct nst_addr local = ip(IP_B, 80), remote = ip("198.18.0.1", 4000);
	uint32_t before;

	setup(NULL);
	ls = listener(1, "0.0.0.0", 80, 16);
	before = seen[1];
	for (int i = 0; i < 50; i++)
		inject(1, &local, &remote, 1000, 0, TCP_SYN, 1000, 0);
	CHECK(seen[1] - before == 1);
	now += 600 * MS;
	inject(1, &local, &remote, 1000, 0, TCP_SYN, 1000, 0);
	CHECK(seen[1] - before == 2);
	teardown();
}

/* Past the bound of the SYN queue: cookies, or nothing where the configuration forbids them. */
static void test_syn_flood(void)
{
	struct nst_addr local = ip(IP_B, 80), remote = ip("198.18.0.1", 0);

	for (int off = 0; off < 2; off++) {
		stack_cfg.no_syncookies = off;
		stack_cfg.max_synqueue = 8;
		setup(NULL);
		wire_filter = drop_all;
		ls = listener(1, "0.0.0.0", 80, 16);
		for (uint16_t i = 0; i < 1000; i++) {
			remote.port = htons((uint16_t)(2000 + i));
			inject(1, &local, &remote, i * 1000u, 0, TCP_SYN, 1000, 0);
		}
		CHECK(counter(1, "tcp_syn_queued") == 8);
		CHECK(counter(1, off ? "tcp_syn_dropped" : "tcp_cookies_sent") == 992);
		CHECK(counter(1, off ? "tcp_cookies_sent" : "tcp_syn_dropped") == 0);
		teardown();
	}
	memset(&stack_cfg, 0, sizeof(stack_cfg));
}

/* Nobody is there: connect() fails with what the network said, soon. */
static void test_connect_unreachable(void)
{
	struct icmp_error e = { .family = AF_INET, .err = EHOSTUNREACH, .type = 3, .code = 1 };
	uint8_t l4[8] = { 0 };
	uint32_t seq;

	setup(NULL);
	wire_filter = drop_all;
	a = dial(0, IP_B, 80);
	e.local = a->local;
	e.remote = a->remote;
	e.l4 = l4;
	e.l4_len = 8;
	seq = htonl(conn(0, a)->iss);
	memcpy(l4 + 4, &seq, 4);
	tcp_icmp_error((struct tcpip *)h[0].st, &e);
	ticks(1);
	CHECK(a->state == SHM_S_CLOSED && a->error == EHOSTUNREACH);
	/* the neighbour did not answer */
	b = dial(0, IP_B, 81);
	conn(0, b)->dst->neigh_failed = now + 1;
	run_for(4 * SEC);
	CHECK(b->state == SHM_S_CLOSED && b->error == EHOSTUNREACH);
	teardown();
}

/* The window doubles for a reader who keeps up, stays for one who does not, and for SO_RCVBUF. */
static void test_window_grows(void)
{
	static uint8_t buf[1 << 20];
	const struct hal_mem_config cfg = { .caps = HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM |
		HAL_CAP_RX_CSUM_PARTIAL | HAL_CAP_SUPERFRAME, .frames = 4096, .wire = 4096 };
	struct tcp_conn *c;
	uint64_t got;
	uint32_t n;

	fifo_bytes = 4 << 20;
	for (int mode = 0; mode < 3; mode++) { /* reads all; reads slowly; has SO_RCVBUF */
		setup(&cfg);
		ls = listener(1, "0.0.0.0", 80, 16);
		if (mode == 2)
			setint(1, ls, STACK_OPT_RCVBUF, 1 << 20);
		connected(&a, &b, ls, IP_B, 80);
		c = conn(1, b);
		CHECK(c->rcv_win == TCP_RCV_WIN);
		got = 0;
		for (int i = 0; i < 4000 && got < 100 << 20; i++) {
			put(0, a, buf, sizeof(buf), 0);
			run_for(MS);
			if (mode == 1)
				got += get(1, b, buf, 5000);
			else
				while ((n = get(1, b, buf, sizeof(buf))))
					got += n;
		}
		if (mode == 0)
			CHECK(c->rcv_win == 4 << 20);
		else if (mode == 1)
			CHECK(c->rcv_win == TCP_RCV_WIN && fifo_used(&c->rx) <= TCP_RCV_WIN);
		else
			CHECK(c->o.rcvbuf_set && c->rcv_adv - c->rcv_nxt <= 1 << 20);
		teardown();
	}
	fifo_bytes = 1 << 18;
}

/* The program writes nonsense where it may. */
static void test_hostile_memory(void)
{
	static uint8_t buf[30000];
	struct fifo f;
	uint32_t id;

	start_connected();
	put(0, a, buf, sizeof(buf), 0);
	ticks(3);
	b->rx.head = 0x123456789abcull;
	b->rx.rebase = ~0ull;
	b->rx.touched = ~0ull;
	b->tx.head = 77777777;
	b->rx_limit = b->tx_limit = ~0u;
	b->rx_update_at = 1;
	put(0, a, buf, sizeof(buf), 0);
	ticks(3);
	b->rx.tail = 42;
	b->urg_sent = 0x5555555555ull;
	ops->tx_ready(h[1].st, b, 0);
	ops->rx_freed(h[1].st, b);
	ticks(20);
	/* ids in the accept queue: none that there are, and that of b, which was accepted long ago */
	f = shm_session_rx(h[1].region, ls);
	for (uint32_t i = 0; i < 20; i++) {
		id = i;
		fifo_write(&f, &id, sizeof(id));
	}
	id = ~0u;
	fifo_write(&f, &id, sizeof(id));
	ls->parent = ls->id;
	b->id = 0x7fffffff;
	ops->close(h[1].st, ls, -1); /* b goes with it: the program has put it back */
	run_for(200 * SEC);
	teardown();
}

int main(void)
{
	test_orphan_fin_with_ack();
	test_orphan_plain();
	test_no_sack_of_what_is_not_there();
	test_ack_loop();
	test_rto_not_postponed();
	test_route_gone();
	test_mss_grows();
	test_sack_blocks();
	test_dupacks_without_sack();
	test_syn_again();
	test_syn_flood();
	test_connect_unreachable();
	test_window_grows();
	test_hostile_memory();
	if (!failures)
		printf("ok - tcp_edges\n");
	return failures != 0;
}
