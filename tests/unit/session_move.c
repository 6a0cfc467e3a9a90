/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/session_move.c - sockets that go on in another session: stack_ops.move
 *
 * Both hosts' sockets move at any moment, over good wires and bad ones, and nothing is lost; what a hostile
 * program leaves in the old session does no harm.
 */
#include "tcp_pair.h"

static struct shm_session *ls, *a, *b;

static struct shm_session *moved(int i, struct shm_session *from, uint8_t family, uint8_t proto)
{
	struct shm_session *to = shm_session_alloc(h[i].region, family, proto);
	uint32_t used = used_sessions(i);

	CHECK(to && to != from);
	h[i].events[to->id] = 0;
	CHECK(!ops->move(h[i].st, from, to));
	CHECK(used_sessions(i) == used - 1);
	ops->flush(h[i].st);
	return to;
}

static bool same(const struct nst_addr *x, const struct nst_addr *y)
{
	return nst_addr_same_ip(x, y) && x->port == y->port;
}

#define MOVE_A() (a = moved(0, a, AF_INET, IPPROTO_TCP))
#define MOVE_B() (b = moved(1, b, AF_INET, IPPROTO_TCP))

static void start(void)
{
	setup(NULL);
	ls = listener(1, "198.18.0.2", 80, 16);
	connected(&a, &b, ls, "198.18.0.2", 80);
}

static void end(void)
{
	ops->close(h[0].st, a, -1);
	ops->close(h[1].st, b, -1);
	ops->close(h[1].st, ls, -1);
	wire_filter = NULL;
	run_for(2 * SEC);
	CHECK(used_sessions(0) == 0 && used_sessions(1) == 0);
	teardown();
}

/* --- TCP ------------------------------------------------------------------------------------------- */

static bool drop_all(const struct segment *g)
{
	return true;
}

static bool drop_first_data(const struct segment *g)
{
	static uint32_t seq;

	if (g->dir != 0 || !g->len || (seq && g->seq != seq))
		return false;
	seq = g->seq;
	return true;
}

/* Unread, unsent and out of order. */
static void test_contents(void)
{
	static uint8_t out[8000], in[8000];
	int v = 0;
	uint32_t n = sizeof(v);

	for (uint32_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + (i >> 8));
	start();
	setint(0, a, STACK_OPT_NODELAY, 1);
	setint(0, a, STACK_OPT_KEEPIDLE, 77);
	put(0, a, out, 1000, 0);
	run_for(100 * MS);
	CHECK(get(1, b, in, 400) == 400);
	wire_filter = drop_first_data;
	put(0, a, out + 1000, 7000, 0);
	for (int i = 0; i < 5; i++)
		poll_both();
	CHECK(conn(1, b)->nooo == 1);
	MOVE_B();
	MOVE_A();
	CHECK(a->state == SHM_S_CONNECTED && same(&a->remote, &b->local) &&
	      same(&a->local, &b->remote) && a->mss == 1448);
	CHECK(!ops->getopt(h[0].st, a, STACK_OPT_NODELAY, &v, &n) && v == 1);
	CHECK(!ops->getopt(h[0].st, a, STACK_OPT_KEEPIDLE, &v, &n) && v == 77);
	wire_filter = NULL;
	run_for(3 * SEC);
	CHECK(get(1, b, in + 400, sizeof(in)) == 7600);
	CHECK(!memcmp(in, out, sizeof(in)));
	CHECK(counter(1, "tcp_ooo_in") > 0 && counter(0, "tcp_rexmit_bytes") < 3000); /* was kept */
	end();
}

static void test_bulk(unsigned lost, unsigned swapped)
{
	enum { TOTAL = 3 << 20 };
	static uint8_t buf[65536];
	uint32_t sent = 0, got = 0, n, moves = 0;

	start();
	loss = lost;
	reorder = swapped;
	for (uint64_t limit = now + 600 * SEC; got < TOTAL && now < limit; run_for(MS)) {
		n = rnd() % sizeof(buf);
		for (uint32_t i = 0; i < n; i++)
			buf[i] = (uint8_t)((sent + i) * 2654435761u >> 13);
		sent += put(0, a, buf, n < TOTAL - sent ? n : TOTAL - sent, 0);
		if (rnd() % 4 == 0)
			MOVE_A();
		if (rnd() % 4 == 0)
			MOVE_B();
		n = get(1, b, buf, rnd() % sizeof(buf));
		for (uint32_t i = 0; i < n; i++)
			CHECK(buf[i] == (uint8_t)((got + i) * 2654435761u >> 13));
		got += n;
		moves++;
	}
	CHECK(got == TOTAL && moves > 20);
	end();
}

static void test_urgent(void)
{
	char buf[16];

	start();
	a->urg_sent = 4;
	put(0, a, "abc!de", 6, 0);
	run_for(5 * MS);
	CHECK(get(1, b, buf, 2) == 2);
	MOVE_B();
	CHECK(b->stack_flags & SHM_SF_URG && b->urg_byte == '!');
	CHECK(b->urg_pos == b->rx.tail + 2 && b->urg_seen == b->urg_pos && b->urg_read != b->urg_pos);
	wire_filter = drop_all;
	a->urg_sent = a->tx.head + 2;
	put(0, a, "f!", 2, 0);
	MOVE_A();
	MOVE_B();
	wire_filter = NULL;
	run_for(2 * SEC);
	CHECK(b->urg_pos == b->rx.tail + 6 && b->urg_seen == b->urg_pos);
	CHECK(get(1, b, buf, 16) == 6 && !memcmp(buf, "c!def!", 6));
	end();
}

/* How it ended shows in the new session; it can't be used again, whatever the old memory says. */
static void test_ended(void)
{
	struct nst_addr to = ip("198.18.0.2", 80);
	char buf[8];

	start();
	put(0, a, "end", 3, 0);
	ops->shutdown(h[0].st, a, SHUT_WR);
	run_for(10 * MS);
	MOVE_B();
	CHECK(b->stack_flags & SHM_SF_FIN && b->state == SHM_S_CONNECTED);
	ops->close(h[1].st, b, 0);
	b = dial(1, "198.18.0.1", 9); /* for end() */
	run_for(10 * MS);
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNRESET);
	MOVE_A();
	CHECK(a->state == SHM_S_CLOSED && a->error == ECONNRESET && a->stack_flags & SHM_SF_RESET);
	a->state = SHM_S_IDLE;
	CHECK(ops->connect(h[0].st, a, &to) == -EISCONN);
	CHECK(!get(0, a, buf, sizeof(buf)));
	end();
}

static void test_connecting(void)
{
	start();
	ops->close(h[0].st, a, -1);
	ops->close(h[1].st, b, -1);
	wire_filter = drop_all;
	a = dial(0, "198.18.0.2", 80);
	run_for(10 * MS);
	MOVE_A();
	CHECK(a->state == SHM_S_CONNECTING);
	wire_filter = NULL;
	run_for(4 * SEC);
	CHECK(a->state == SHM_S_CONNECTED && h[0].events[a->id] & STACK_EV_OUT);
	b = take(1, ls);
	CHECK(b != NULL);
	end();
}

static void test_refused(void)
{
	struct shm_session *to;

	start();
	to = shm_session_alloc(h[1].region, AF_INET, IPPROTO_TCP);
	CHECK(ops->move(h[1].st, ls, to) == -EOPNOTSUPP);
	shm_session_free(h[1].region, to);
	to = shm_session_alloc(h[0].region, AF_INET, IPPROTO_TCP);
	wire_filter = drop_all;
	put(0, a, "gone", 4, 0);
	a->tx.head = a->tx.tail; /* sent, and taken back */
	CHECK(ops->move(h[0].st, a, to) == -EPROTO && a->state == SHM_S_CONNECTED);
	a->tx.head += 4;
	ops->close(h[0].st, a, -1);
	CHECK(ops->move(h[0].st, a, to) == -ENOTCONN);
	a = to;
	end();
}

/* --- UDP ------------------------------------------------------------------------------------------- */

static struct shm_session *udp(int i, const char *addr, uint16_t port)
{
	struct nst_addr l = ip(addr, port);
	struct shm_session *s = shm_session_alloc(h[i].region, AF_INET, IPPROTO_UDP);

	CHECK(s && !ops->open(h[i].st, s) && !ops->bind(h[i].st, s, &l));
	return s;
}

static void dgram(int i, struct shm_session *s, const char *text)
{
	uint8_t rec[sizeof(struct shm_dgram) + 8] = { 0 };
	struct fifo f = shm_session_tx(h[i].region, s);
	struct shm_dgram d = { .len = (uint32_t)strlen(text) };

	memcpy(rec, &d, sizeof(d));
	memcpy(rec + sizeof(d), text, d.len);
	CHECK(fifo_write(&f, rec, shm_dgram_size(d.len)) == shm_dgram_size(d.len));
	ops->tx_ready(h[i].st, s, 0);
	ops->flush(h[i].st);
}

static bool dgram_is(int i, struct shm_session *s, const char *text)
{
	uint8_t rec[sizeof(struct shm_dgram) + 8];
	struct fifo f = shm_session_rx(h[i].region, s);

	return fifo_read(&f, rec, sizeof(rec)) == sizeof(rec) &&
	       !memcmp(rec + sizeof(struct shm_dgram), text, strlen(text));
}

static void test_udp(void)
{
	struct nst_addr to = ip("198.18.0.2", 53);
	uint32_t flags = SHM_DG_TAKEN;
	int v = 0;
	uint32_t n = sizeof(v);
	struct fifo f;

	setup(NULL);
	a = udp(0, "198.18.0.1", 1053);
	b = udp(1, "198.18.0.2", 53);
	CHECK(!ops->connect(h[0].st, a, &to));
	setint(0, a, STACK_OPT_TTL, 9);
	dgram(0, a, "one");
	dgram(0, a, "two");
	dgram(0, a, "three");
	run_for(5 * MS);
	f = shm_session_rx(h[1].region, b);
	memcpy(f.data + shm_dgram_size(3) + offsetof(struct shm_dgram, flags), &flags, sizeof(flags));
	b = moved(1, b, AF_INET, IPPROTO_UDP);
	CHECK(dgram_is(1, b, "one") && dgram_is(1, b, "three") && !dgram_is(1, b, ""));
	a = moved(0, a, AF_INET, IPPROTO_UDP);
	CHECK(!ops->getopt(h[0].st, a, STACK_OPT_TTL, &v, &n) && v == 9);
	CHECK(a->state == SHM_S_CONNECTED && same(&a->remote, &to));
	dgram(0, a, "four");
	run_for(5 * MS);
	CHECK(dgram_is(1, b, "four") && h[1].events[b->id] & STACK_EV_IN);
	ops->close(h[0].st, a, -1);
	ops->close(h[1].st, b, -1);
	CHECK(used_sessions(0) == 0 && used_sessions(1) == 0);
	teardown();
}

/* --- a hostile program's memory -------------------------------------------------------------------- */

static void scribble(struct fifo rx, struct fifo tx, struct shm_session *s)
{
	uint8_t *p = (uint8_t *)s;

	for (size_t i = 0; i < sizeof(*s); i++)
		if (rnd() % 2)
			p[i] = (uint8_t)rnd();
	for (uint32_t i = 0; i < 4096; i++) {
		rx.data[rnd() & (rx.size - 1)] = (uint8_t)rnd();
		tx.data[rnd() & (tx.size - 1)] = (uint8_t)rnd();
	}
}

static void hostile(uint8_t proto)
{
	struct shm_session *to = shm_session_alloc(h[0].region, AF_INET, proto);

	scribble(shm_session_rx(h[0].region, a), shm_session_tx(h[0].region, a), a);
	if (ops->move(h[0].st, a, to)) {
		CHECK(proto == IPPROTO_TCP);
		ops->close(h[0].st, a, -1);
		CHECK(ops->move(h[0].st, a, to) == -ENOTCONN);
		ops->close(h[0].st, to, -1);
	} else {
		CHECK(to->rx.head - to->rx.tail <= fifo_bytes && to->tx.head - to->tx.tail <= fifo_bytes);
		CHECK(to->rx_limit <= fifo_bytes && to->tx_limit <= fifo_bytes && to->error >= 0);
		CHECK(to->urg_skip <= to->rx.head && to->state < SHM_S_NR_ && to->state != SHM_S_LISTEN);
		ops->tx_ready(h[0].st, to, 0);
		run_for(5 * MS);
		ops->close(h[0].st, to, -1);
	}
	ops->flush(h[0].st);
}

static void test_hostile(void)
{
	static uint8_t buf[5000];

	setup(NULL);
	ls = listener(1, "198.18.0.2", 80, 64);
	for (int round = 0; round < 300; round++) {
		connected(&a, &b, ls, "198.18.0.2", 80);
		put(0, a, buf, rnd() % sizeof(buf), 0);
		put(1, b, buf, rnd() % sizeof(buf), 0);
		run_for(round % 3 * MS);
		hostile(IPPROTO_TCP);
		ops->close(h[1].st, b, 0);
		run_for(5 * MS);
		a = udp(0, "198.18.0.1", 1053);
		hostile(IPPROTO_UDP);
	}
	ops->close(h[1].st, ls, -1);
	run_for(300 * SEC);
	CHECK(used_sessions(0) == 0 && used_sessions(1) == 0);
	teardown();
}

int main(void)
{
	test_contents();
	test_bulk(0, 0);
	test_bulk(20, 50);
	test_urgent();
	test_ended();
	test_connecting();
	test_refused();
	test_udp();
	test_hostile();
	printf("%s - session_move\n", failures ? "not ok" : "ok");
	return failures ? 1 : 0;
}
