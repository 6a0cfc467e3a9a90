/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tcp_states.c - opening, closing, resets, time-outs, and segments that should not be */
#include "tcp_pair.h"

#include <netinet/ip_icmp.h>

#define IP_B "198.18.0.2"

static struct shm_session *ls, *a, *b;

static void start(void)
{
	setup(NULL);
	ls = listener(1, "0.0.0.0", 80, 16);
}

static void start_connected(void)
{
	start();
	connected(&a, &b, ls, IP_B, 80);
}

static void ticks(int n)
{
	while (n--)
		poll_both();
}

/* --- opening --------------------------------------------------------------------------------------- */

static void test_handshake(void)
{
	start_connected();
	CHECK(h[0].events[a->id] & STACK_EV_OUT);
	CHECK(h[1].events[ls->id] & STACK_EV_IN);
	CHECK(b->parent == ls->id);
	CHECK(a->mss == 1448 && b->mss == 1448);
	CHECK(nst_addr_same_ip(&a->remote, &b->local) && a->remote.port == b->local.port);
	CHECK(nst_addr_same_ip(&a->local, &b->remote) && a->local.port == b->remote.port);
	CHECK(conn(0, a)->snd_wscale == tcp_wscale_for(fifo_bytes));
	CHECK(conn(0, a)->flags & TCP_F_SACK && conn(1, b)->flags & TCP_F_TS);
	CHECK(h[1].holds == 2 && h[0].holds == 1);
	teardown();
}

static void test_v6_mapped_listener(void)
{
	struct shm_session *l6;

	setup(NULL);
	l6 = listener(1, "::", 81, 4);
	connected(&a, &b, l6, IP_B, 81);
	CHECK(b->family == AF_INET6 && b->local.family == AF_INET);
	connected(&a, &b, l6, "2001:db8::2", 81);
	CHECK(b->local.family == AF_INET6);
	teardown();
	setup(NULL);
	l6 = sock(1, AF_INET6);
	setint(1, l6, STACK_OPT_V6ONLY, 1);
	{
		struct nst_addr any = ip("::", 81);

		CHECK(!ops->bind(h[1].st, l6, &any) && !ops->listen(h[1].st, l6, 4));
	}
	/* what it listens for is decided, whatever is written in shared memory, or asked for */
	l6->v6only = 0;
	CHECK(ops->setopt(h[1].st, l6, STACK_OPT_V6ONLY, &(int){ 0 }, sizeof(int)) == -EINVAL);
	a = dial(0, IP_B, 81);
	ticks(5);
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNREFUSED);
	teardown();
}

static void test_refused(void)
{
	setup(NULL);
	a = dial(0, IP_B, 9);
	ticks(5);
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNREFUSED);
	CHECK(h[0].events[a->id] & STACK_EV_ERR);
	CHECK(counter(1, "tcp_no_socket") == 1);
	ops->close(h[0].st, a, -1);
	CHECK(used_sessions(0) == 0 && h[0].holds == 0);
	teardown();
}

static bool drop_all(const struct segment *g)
{
	return true;
}

static void test_connect_timeout(void)
{
	start();
	a = sock(0, AF_INET);
	setint(0, a, STACK_OPT_SYNCNT, 2);
	wire_filter = drop_all;
	{
		struct nst_addr to = ip(IP_B, 80);

		CHECK(ops->connect(h[0].st, a, &to) == -EINPROGRESS);
	}
	run_for(6 * SEC);
	CHECK(a->state == SHM_S_CONNECTING);
	run_for(3 * SEC);
	CHECK(a->state == SHM_S_CLOSED && a->error == ETIMEDOUT);
	teardown();
}

static void test_syn_lost(void)
{
	start();
	wire_filter = drop_all;
	a = dial(0, IP_B, 80);
	ticks(3);
	wire_filter = NULL;
	run_for(3 * SEC);
	CHECK(a->state == SHM_S_CONNECTED && take(1, ls));
	CHECK(counter(0, "tcp_rexmit") == 1);
	teardown();
}

static bool drop_synack(const struct segment *g)
{
	return (g->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

static void test_synack_lost(void)
{
	start();
	wire_filter = drop_synack;
	a = dial(0, IP_B, 80);
	ticks(3);
	wire_filter = NULL;
	run_for(3 * SEC);
	CHECK(a->state == SHM_S_CONNECTED && counter(1, "tcp_synack_rexmit") >= 1);
	teardown();
}

static void test_simultaneous_open(void)
{
	struct nst_addr pa = ip("198.18.0.1", 5000), pb = ip(IP_B, 6000);

	setup(NULL);
	a = sock(0, AF_INET);
	b = sock(1, AF_INET);
	CHECK(!ops->bind(h[0].st, a, &pa) && !ops->bind(h[1].st, b, &pb));
	CHECK(ops->connect(h[0].st, a, &pb) == -EINPROGRESS);
	CHECK(ops->connect(h[1].st, b, &pa) == -EINPROGRESS);
	run_for(3 * SEC);
	CHECK(a->state == SHM_S_CONNECTED && b->state == SHM_S_CONNECTED);
	CHECK(put(0, a, "hello", 5, 0) == 5);
	ticks(5);
	{
		char buf[8];

		CHECK(get(1, b, buf, 8) == 5 && !memcmp(buf, "hello", 5));
	}
	teardown();
}

static void test_accept_queue(void)
{
	struct shm_session *c[8];

	setup(NULL);
	ls = listener(1, "0.0.0.0", 80, 2);
	for (int i = 0; i < 8; i++)
		c[i] = dial(0, IP_B, 80);
	run_for(SEC / 2);
	CHECK(counter(1, "tcp_passive_opens") == 3); /* backlog + 1, as Linux */
	CHECK(counter(1, "tcp_accept_full") > 0);
	while (take(1, ls))
		;
	run_for(10 * SEC);
	CHECK(counter(1, "tcp_passive_opens") > 3);
	(void)c;
	/* those that nobody accepted are reset with their listener */
	ops->close(h[1].st, ls, -1);
	ticks(10);
	CHECK(counter(1, "tcp_children_lost") > 0);
	teardown();
}

static bool drop_ack_of_client(const struct segment *g)
{
	return g->dir == 0 && g->flags == TCP_ACK;
}

/* A listener goes on in another session: with its handshakes and options; who waits stays where he is. */
static void test_listener_moves(void)
{
	struct nst_addr other = ip("198.18.0.2", 81);
	struct shm_session *to, *c, *first;
	int v = 7;

	setup(NULL);
	ls = listener(1, "198.18.0.2", 80, 3);
	setint(1, ls, STACK_OPT_KEEPCNT, v);
	a = dial(0, "198.18.0.2", 80);
	ticks(10);
	wire_filter = drop_ack_of_client;
	c = dial(0, "198.18.0.2", 80);
	ticks(5);
	wire_filter = NULL;
	CHECK(ls->handshakes == 1);
	to = sock(1, AF_INET);
	CHECK(ops->listen_move(h[1].st, ls, to) == -EINVAL); /* not bound */
	CHECK(!ops->bind(h[1].st, to, &other));
	CHECK(ops->listen_move(h[1].st, ls, to) == -EINVAL);
	CHECK(!ops->bind(h[1].st, to, &ls->local));
	CHECK(ops->listen_move(h[1].st, to, ls) == -EINVAL); /* does not listen */
	CHECK(!ops->listen_move(h[1].st, ls, to));
	CHECK(!ops->listen(h[1].st, to, 3)); /* is what it was */
	CHECK(ls->state == SHM_S_IDLE && !ls->handshakes && to->state == SHM_S_LISTEN);
	CHECK(to->handshakes == 1 && to->backlog == 3);
	first = take(1, ls);
	CHECK(first && first->state == SHM_S_CONNECTED);
	ops->close(h[1].st, ls, -1);
	CHECK(put(0, c, "hello", 5, 0) == 5);
	run_for(2 * SEC);
	b = take(1, to);
	CHECK(b && b->state == SHM_S_CONNECTED && b->remote.port == c->local.port);
	CHECK(b && conn(1, b)->o.keepcnt == v);
	CHECK(!take(1, to) && first->state == SHM_S_CONNECTED);
	ops->close(h[1].st, to, -1);
	teardown();
}

/* Who has begun gets in; who comes now is not answered, nor refused. */
static void test_listener_pauses(void)
{
	struct shm_session *c;

	setup(NULL);
	ls = listener(1, "198.18.0.2", 80, 3);
	wire_filter = drop_ack_of_client;
	a = dial(0, "198.18.0.2", 80);
	ticks(5);
	wire_filter = NULL;
	ops->listen_pause(h[1].st, ls);
	c = dial(0, "198.18.0.2", 80);
	ticks(20);
	CHECK(c->state == SHM_S_CONNECTING && put(0, a, "x", 1, 0) == 1);
	run_for(SEC / 2);
	CHECK(take(1, ls) && !take(1, ls));
	CHECK(!ops->listen(h[1].st, ls, 3));
	run_for(2 * SEC);
	CHECK(c->state == SHM_S_CONNECTED && take(1, ls));
	teardown();
}

static void test_cookies(void)
{
	struct shm_session *c[40];
	uint8_t buf[4000];
	int up = 0;

	stack_cfg.max_synqueue = 4;
	setup(NULL);
	stack_cfg.max_synqueue = 0;
	ls = listener(1, "0.0.0.0", 80, 100);
	for (int i = 0; i < 40; i++)
		c[i] = dial(0, IP_B, 80);
	ticks(20);
	CHECK(counter(1, "tcp_cookies_sent") >= 36 && counter(1, "tcp_cookies_good") >= 36);
	for (int i = 0; i < 40; i++)
		up += c[i]->state == SHM_S_CONNECTED;
	CHECK(up == 40);
	for (int i = 0; i < 40; i++) {
		b = take(1, ls);
		CHECK(b != NULL);
		if (!b)
			break;
		CHECK(conn(1, b)->flags & TCP_F_SACK && conn(1, b)->flags & TCP_F_WSCALE);
		CHECK(conn(1, b)->snd_wscale == tcp_wscale_for(fifo_bytes));
		CHECK(b->mss >= 1388);
	}
	memset(buf, 'x', sizeof(buf));
	put(0, c[39], buf, sizeof(buf), 0);
	ticks(10);
	CHECK(counter(1, "tcp_bytes_in") == sizeof(buf));
	/* a forged one */
	inject(1, &b->local, &c[39]->local, 1, 2, TCP_ACK, 1000, 0);
	{
		struct nst_addr l = ip(IP_B, 80), r = ip("198.18.0.1", 999);

		inject(1, &l, &r, 77, 0x12345678, TCP_ACK, 1000, 0);
		CHECK(counter(1, "tcp_cookies_bad") == 1);
	}
	teardown();
}

/* --- closing --------------------------------------------------------------------------------------------- */

static void test_close_order(void)
{
	uint8_t buf[16];

	start_connected();
	put(0, a, "data", 4, 0);
	ops->close(h[0].st, a, -1);
	ticks(10);
	CHECK(get(1, b, buf, 16) == 4);
	CHECK(b->stack_flags & SHM_SF_RX_EOF && h[1].events[b->id] & STACK_EV_RDHUP);
	CHECK(state(1, b) == TCP_S_CLOSE_WAIT);
	CHECK(used_sessions(0) == 0); /* FIN_WAIT2 needs none */
	CHECK(((struct tcpip *)h[0].st)->tcp->ntw == 1);
	ops->close(h[1].st, b, -1);
	ticks(10);
	CHECK(used_sessions(1) == 1);
	CHECK(h[0].holds == 1);
	run_for(59 * SEC);
	CHECK(h[0].holds == 1);
	run_for(3 * SEC);
	CHECK(h[0].holds == 0 && h[1].holds == 1);
	CHECK(ops->deadline(h[0].st) == UINT64_MAX && ops->deadline(h[1].st) == UINT64_MAX);
	teardown();
}

static void test_shutdown_both_ways(void)
{
	start_connected();
	CHECK(!ops->shutdown(h[0].st, a, SHUT_WR));
	ticks(10);
	CHECK(state(0, a) == TCP_S_FIN_WAIT2 && state(1, b) == TCP_S_CLOSE_WAIT);
	put(1, b, "late", 4, 0); /* half closed: still works */
	ticks(10);
	{
		uint8_t buf[8];

		CHECK(get(0, a, buf, 8) == 4);
	}
	CHECK(!ops->shutdown(h[1].st, b, SHUT_WR));
	ticks(10);
	CHECK(a->state == SHM_S_CLOSED && b->state == SHM_S_CLOSED);
	CHECK(a->error == 0 && b->error == 0);
	CHECK(h[0].events[a->id] & STACK_EV_HUP && h[1].events[b->id] & STACK_EV_HUP);
	ops->close(h[0].st, a, -1);
	ops->close(h[1].st, b, -1);
	CHECK(used_sessions(0) == 0 && used_sessions(1) == 1);
	teardown();
}

static void test_simultaneous_close(void)
{
	start_connected();
	ops->shutdown(h[0].st, a, SHUT_WR);
	ops->shutdown(h[1].st, b, SHUT_WR);
	ticks(10);
	CHECK(((struct tcpip *)h[0].st)->tcp->ntw == 1 && ((struct tcpip *)h[1].st)->tcp->ntw == 1);
	CHECK(a->state == SHM_S_CLOSED && a->error == 0);
	teardown();
}

static void test_resets(void)
{
	struct fifo f;
	char buf[8];

	/* linger 0 */
	start_connected();
	ops->close(h[0].st, a, 0);
	ticks(5);
	CHECK(b->state == SHM_S_CLOSED && b->error == ECONNRESET && b->stack_flags & SHM_SF_RESET);
	CHECK(used_sessions(0) == 0 && h[0].holds == 0);
	teardown();
	/* unread data */
	start_connected();
	put(0, a, "unread", 6, 0);
	ticks(5);
	ops->close(h[1].st, b, -1);
	ticks(5);
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNRESET);
	teardown();
	/* the same, and an answer that was written just before: both in one round */
	start_connected();
	put(0, a, "unread", 6, 0);
	ticks(5);
	f = shm_session_tx(h[1].region, b);
	fifo_write(&f, "answer", 6);
	b->push_pos = fifo_head(&f);
	ops->tx_ready(h[1].st, b, 0);
	ops->close(h[1].st, b, -1);
	ticks(5);
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNRESET && get(0, a, buf, sizeof(buf)) == 6);
	teardown();
	/* and where the peer's data comes in the round of close() */
	start_connected();
	f = shm_session_tx(h[1].region, b);
	fifo_write(&f, "answer", 6);
	b->push_pos = fifo_head(&f);
	ops->tx_ready(h[1].st, b, 0);
	tcpip_stack_ops.close(h[1].st, b, -1);
	put(0, a, "late", 4, 0);
	ticks(5);
	CHECK(counter(1, "tcp_after_close") == 1);
	CHECK(a->state == SHM_S_CLOSED && get(0, a, buf, sizeof(buf)) == 6);
	teardown();
	/* data after close */
	start_connected();
	ops->close(h[0].st, a, -1);
	ticks(5);
	put(1, b, "too late", 8, 0);
	ticks(5);
	CHECK(b->state == SHM_S_CLOSED && b->error == EPIPE);
	CHECK(counter(0, "tcp_after_close") == 1);
	teardown();
}

static void test_fin_wait2_orphan(void)
{
	start_connected();
	setint(0, a, STACK_OPT_LINGER2, 5);
	ops->close(h[0].st, a, -1);
	ticks(5);
	run_for(6 * SEC);
	CHECK(counter(0, "tcp_finwait2_timeouts") == 1 && h[0].holds == 0);
	teardown();
}

static void test_timewait_reuse(void)
{
	struct nst_addr pa = ip("198.18.0.1", 5000), to = ip(IP_B, 80);

	/* server's side in TIME_WAIT, the client comes back with the same port */
	start();
	for (int i = 0; i < 3; i++) {
		a = sock(0, AF_INET);
		CHECK(!ops->bind(h[0].st, a, &pa));
		CHECK(ops->connect(h[0].st, a, &to) == -EINPROGRESS);
		ticks(10);
		b = take(1, ls);
		CHECK(b && a->state == SHM_S_CONNECTED);
		if (!b)
			break;
		ops->close(h[1].st, b, -1);
		ticks(5);
		ops->close(h[0].st, a, -1);
		ticks(10);
		CHECK(((struct tcpip *)h[1].st)->tcp->ntw == 1);
	}
	CHECK(counter(1, "tcp_timewait_reused") == 2);
	teardown();
	/* client's side in TIME_WAIT: connect() takes it over after a second */
	start();
	for (int i = 0; i < 2; i++) {
		a = sock(0, AF_INET);
		CHECK(!ops->bind(h[0].st, a, &pa));
		CHECK(ops->connect(h[0].st, a, &to) == -EINPROGRESS);
		ticks(10);
		b = take(1, ls);
		CHECK(b != NULL);
		if (!b)
			break;
		ops->close(h[0].st, a, -1);
		ticks(5);
		ops->close(h[1].st, b, -1);
		run_for(2 * SEC);
	}
	CHECK(counter(0, "tcp_timewait_reused") == 1);
	teardown();
}

/* --- RFC 5961 and other hostile segments ------------------------------------------------------------------- */

static void test_blind_attacks(void)
{
	struct tcp_conn *c;
	uint64_t n;

	start_connected();
	c = conn(1, b);
	inject(1, &b->local, &b->remote, c->rcv_nxt + 100, c->nxt, TCP_RST, 0, 0);
	CHECK(b->state == SHM_S_CONNECTED && counter(1, "tcp_challenge_acks") == 1);
	inject(1, &b->local, &b->remote, c->rcv_nxt, 0, TCP_SYN, 1000, 0);
	CHECK(b->state == SHM_S_CONNECTED && counter(1, "tcp_challenge_acks") == 2);
	inject(1, &b->local, &b->remote, c->rcv_nxt, c->nxt + 5000, TCP_ACK, 1000, 10);
	CHECK(counter(1, "tcp_ack_future") == 1 && counter(1, "tcp_bytes_in") == 0);
	inject(1, &b->local, &b->remote, c->rcv_nxt, c->una - 1000000, TCP_ACK, 1000, 10);
	CHECK(counter(1, "tcp_bytes_in") == 0);
	for (int i = 0; i < 20; i++)
		inject(1, &b->local, &b->remote, c->rcv_nxt + 7, c->nxt, TCP_RST, 0, 0);
	CHECK(counter(1, "tcp_challenge_limited") > 0);
	n = counter(1, "tcp_out_of_window");
	inject(1, &b->local, &b->remote, c->rcv_nxt + 2000000, c->nxt, TCP_ACK, 1000, 10);
	CHECK(counter(1, "tcp_out_of_window") == n + 1);
	inject(1, &b->local, &b->remote, c->rcv_nxt, c->nxt, TCP_RST, 0, 0);
	CHECK(b->state == SHM_S_CLOSED && b->error == ECONNRESET);
	teardown();
}

static void test_paws(void)
{
	struct tcp_conn *c;

	start_connected();
	c = conn(1, b);
	c->ts_recent += 100000; /* the peer's clock was far ahead */
	put(0, a, "old", 3, 0);
	poll_both();
	CHECK(counter(1, "tcp_paws") >= 1 && counter(1, "tcp_bytes_in") == 0);
	teardown();
}

static void test_icmp(void)
{
	struct icmp_error e = { .family = AF_INET };
	struct tcp_conn *c;
	uint8_t l4[8] = { 0 };
	static uint8_t buf[100000];
	uint32_t seq, got = 0, n;

	start_connected();
	c = conn(0, a);
	put(0, a, buf, 20000, 0); /* in flight: not polled yet */
	seq = htonl(c->una);
	memcpy(l4 + 4, &seq, 4);
	e.local = a->local;
	e.remote = a->remote;
	e.l4 = l4;
	e.l4_len = 8;
	e.err = EMSGSIZE;
	e.mtu = 1000;
	e.type = 3;
	e.code = 4;
	tcp_icmp_error((struct tcpip *)h[0].st, &e);
	CHECK(counter(0, "tcp_pmtu_reduced") == 1 && a->mss == 1000 - 52);
	run_for(SEC);
	while ((n = get(1, b, buf, sizeof(buf))))
		got += n;
	CHECK(got == 20000);
	/* an error that quotes nothing in flight is ignored */
	seq = htonl(c->nxt + 50000);
	memcpy(l4 + 4, &seq, 4);
	e.mtu = 600;
	tcp_icmp_error((struct tcpip *)h[0].st, &e);
	CHECK(counter(0, "tcp_icmp_ignored") == 1 && a->mss == 1000 - 52);
	/* established connections survive "port unreachable" */
	seq = htonl(c->una);
	memcpy(l4 + 4, &seq, 4);
	e.err = ECONNREFUSED;
	e.hard = true;
	tcp_icmp_error((struct tcpip *)h[0].st, &e);
	CHECK(a->state == SHM_S_CONNECTED);
	teardown();
	/* one that is being set up does not */
	setup(NULL);
	wire_filter = drop_all;
	a = dial(0, IP_B, 80);
	e.local = a->local;
	seq = htonl(conn(0, a)->iss);
	memcpy(l4 + 4, &seq, 4);
	tcp_icmp_error((struct tcpip *)h[0].st, &e);
	ticks(1);
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNREFUSED);
	teardown();
}

/* --- windows and timers --------------------------------------------------------------------------------------- */

static void test_zero_window(void)
{
	static uint8_t buf[1 << 20];
	uint64_t sent = 0, got = 0;
	uint32_t n;

	start_connected();
	for (int i = 0; i < 200; i++) {
		sent += put(0, a, buf, sizeof(buf), 0);
		ticks(1);
	}
	CHECK(last[1].wnd << conn(0, a)->snd_wscale < a->mss); /* at most a silly rest */
	CHECK(sent <= 2u * fifo_bytes);
	run_for(30 * SEC); /* the peer does not read; probes keep it open */
	CHECK(a->state == SHM_S_CONNECTED && counter(0, "tcp_zero_window_probes") >= 3);
	CHECK(last[1].wnd == 0);
	while (got < sent && now < 10000 * SEC) {
		n = get(1, b, buf, sizeof(buf));
		got += n;
		if (!n)
			ticks(3);
	}
	CHECK(got == sent);
	teardown();
}

static bool drop_updates(const struct segment *g)
{
	return g->dir == 1 && g->wnd;
}

static void test_lost_window_update(void)
{
	static uint8_t buf[1 << 20];
	uint64_t sent = 0, got = 0, until;
	uint32_t n;

	start_connected();
	for (int i = 0; i < 200; i++) {
		sent += put(0, a, buf, sizeof(buf), 0);
		ticks(1);
	}
	wire_filter = drop_updates;
	while ((n = get(1, b, buf, sizeof(buf))))
		got += n;
	ticks(10);
	wire_filter = NULL;
	for (until = now + 100 * SEC; got < sent && now < until;) {
		run_for(10 * MS);
		while ((n = get(1, b, buf, sizeof(buf))))
			got += n;
	}
	CHECK(got == sent);
	teardown();
}

static void test_tx_space_event(void)
{
	static uint8_t buf[1 << 20];

	start_connected();
	h[0].events[a->id] = 0;
	for (int i = 0; i < 100; i++) {
		put(0, a, buf, sizeof(buf), 0);
		ticks(1);
	}
	a->tx_nospace = 1;
	CHECK(!(h[0].events[a->id] & STACK_EV_OUT));
	for (int i = 0; i < 50; i++) {
		get(1, b, buf, sizeof(buf));
		ticks(2);
	}
	CHECK(h[0].events[a->id] & STACK_EV_OUT && !a->tx_nospace);
	teardown();
}

static void test_keepalive(void)
{
	start_connected();
	setint(0, a, STACK_OPT_KEEPALIVE, 1);
	setint(0, a, STACK_OPT_KEEPIDLE, 10);
	setint(0, a, STACK_OPT_KEEPINTVL, 2);
	setint(0, a, STACK_OPT_KEEPCNT, 3);
	run_for(35 * SEC);
	CHECK(a->state == SHM_S_CONNECTED && counter(0, "tcp_keepalive_out") == 3);
	wire_filter = drop_all;
	run_for(20 * SEC);
	CHECK(a->state == SHM_S_CLOSED && a->error == ETIMEDOUT);
	CHECK(counter(0, "tcp_keepalive_drops") == 1);
	teardown();
}

static void test_user_timeout(void)
{
	start_connected();
	setint(0, a, STACK_OPT_USER_TIMEOUT, 3000);
	wire_filter = drop_all;
	put(0, a, "x", 1, 0);
	run_for(2 * SEC);
	CHECK(a->state == SHM_S_CONNECTED);
	run_for(5 * SEC);
	CHECK(a->state == SHM_S_CLOSED && a->error == ETIMEDOUT);
	teardown();
	start_connected();
	wire_filter = drop_all;
	put(0, a, "x", 1, 0);
	run_for(300 * SEC);
	CHECK(a->state == SHM_S_CONNECTED);
	run_for(2000 * SEC);
	CHECK(a->state == SHM_S_CLOSED && a->error == ETIMEDOUT);
	teardown();
}

static void test_nagle_and_cork(void)
{
	uint32_t n;

	start_connected();
	put(0, a, "1", 1, 0);
	n = seen[0];
	put(0, a, "2", 1, 0); /* the first is not acknowledged */
	put(0, a, "3", 1, 0);
	CHECK(seen[0] == n);
	run_for(SEC);
	CHECK(counter(1, "tcp_bytes_in") == 3);
	setint(0, a, STACK_OPT_NODELAY, 1);
	put(0, a, "4", 1, 0);
	n = seen[0];
	put(0, a, "5", 1, 0);
	CHECK(seen[0] == n + 1);
	run_for(SEC);
	n = seen[0];
	put(0, a, "6", 1, STACK_TX_MORE);
	ticks(5);
	CHECK(seen[0] == n);
	put(0, a, "", 0, 0); /* TCP_CORK cleared */
	CHECK(seen[0] == n + 1);
	run_for(SEC);
	n = seen[0];
	put(0, a, "7", 1, STACK_TX_MORE);
	ticks(5);
	CHECK(seen[0] == n);
	put(0, a, "8", 1, 0);
	CHECK(seen[0] == n + 1 && last[0].len == 2);
	run_for(SEC);
	put(0, a, "9", 1, STACK_TX_MORE); /* 200 ms at most */
	run_for(SEC);
	CHECK(counter(1, "tcp_bytes_in") == 9);
	teardown();
}

static void test_delayed_ack(void)
{
	uint8_t buf[16];
	uint32_t n;

	start_connected();
	for (int i = 0; i < 40; i++) { /* request and answer: no bare acknowledgements */
		put(0, a, "ping", 4, 0);
		ticks(1);
		get(1, b, buf, 16);
		put(1, b, "pong", 4, 0);
		ticks(1);
		get(0, a, buf, 16);
	}
	n = seen[0] + seen[1];
	for (int i = 0; i < 10; i++) {
		put(0, a, "ping", 4, 0);
		ticks(1);
		get(1, b, buf, 16);
		put(1, b, "pong", 4, 0);
		ticks(1);
		get(0, a, buf, 16);
	}
	CHECK(seen[0] + seen[1] == n + 20);
	n = seen[1];
	put(0, a, "ping", 4, 0); /* no answer: within 40 ms */
	ticks(3);
	CHECK(seen[1] == n);
	run_for(45 * MS);
	CHECK(seen[1] == n + 1);
	teardown();
}

static void test_urgent(void)
{
	struct fifo f;
	char buf[16];

	start_connected();
	a->urg_sent = 3;
	put(0, a, "ab!", 3, 0);
	ticks(5);
	CHECK(b->stack_flags & SHM_SF_URG && h[1].events[b->id] & STACK_EV_PRI);
	CHECK(b->urg_pos == 3 && b->urg_seen == 3 && b->urg_byte == '!' && !b->urg_skip);
	get(1, b, buf, 2); /* up to the mark, and then there is a newer one */
	a->urg_sent = 5;
	put(0, a, "c!", 2, 0);
	ticks(5);
	CHECK(b->urg_pos == 5 && b->urg_seen == 5 && b->urg_skip == 3);
	get(1, b, buf, 2);
	a->urg_sent = 6;
	put(0, a, "!", 1, 0);
	ticks(5);
	a->urg_sent = 7; /* the reader stands behind what it is to leave out: at the newer mark */
	put(0, a, "!", 1, 0);
	ticks(5);
	CHECK(b->urg_pos == 7 && b->urg_skip == 6);
	b->urg_inline = 1;
	a->urg_sent = 8;
	put(0, a, "!", 1, 0);
	ticks(5);
	CHECK(b->urg_pos == 8 && b->urg_skip == 6);
	/* sent with what the peer's data set off, before the stack is told of it */
	a->urg_sent = 9;
	f = shm_session_tx(h[0].region, a);
	CHECK(fifo_write(&f, "!", 1) == 1);
	put(1, b, "x", 1, 0);
	ticks(5);
	CHECK(b->urg_pos == 9 && b->urg_seen == 9);
	teardown();
}

static void test_info(void)
{
	struct tcp_info i;
	struct stack_sock_info si[16];
	static uint8_t buf[10000];
	uint64_t cursor = 0;
	uint32_t n;

	start_connected();
	put(0, a, buf, sizeof(buf), 0);
	run_for(SEC);
	CHECK(!ops->tcp_info(h[0].st, a, &i));
	CHECK(i.tcpi_state == TCP_S_ESTABLISHED && i.tcpi_bytes_acked == sizeof(buf));
	CHECK(i.tcpi_rtt > 0 && i.tcpi_rtt < 10000 && i.tcpi_snd_cwnd >= 10);
	CHECK(i.tcpi_snd_mss == 1448 && i.tcpi_pmtu == 1500 && i.tcpi_unacked == 0);
	n = ops->sockets(h[1].st, si, 16, &cursor);
	CHECK(n == 2 && cursor == UINT64_MAX);
	teardown();
}

int main(void)
{
	test_handshake();
	test_v6_mapped_listener();
	test_refused();
	test_connect_timeout();
	test_syn_lost();
	test_synack_lost();
	test_simultaneous_open();
	test_accept_queue();
	test_listener_moves();
	test_listener_pauses();
	test_cookies();
	test_close_order();
	test_shutdown_both_ways();
	test_simultaneous_close();
	test_resets();
	test_fin_wait2_orphan();
	test_timewait_reuse();
	test_blind_attacks();
	test_paws();
	test_icmp();
	test_zero_window();
	test_lost_window_update();
	test_tx_space_event();
	test_keepalive();
	test_user_timeout();
	test_nagle_and_cork();
	test_delayed_ack();
	test_urgent();
	test_info();
	printf("%s - tcp_states\n", failures ? "not ok" : "ok");
	return failures ? 1 : 0;
}
