/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tcp_soak.c - everything goes wrong a little, and no connection may stall
 *
 * A few connections carry known bytes both ways while, by chance, the wire loses, doubles and
 * reorders, frames are few, readers pause, buffers are small, writers cork and say MSG_MORE,
 * the path's MTU falls, the neighbour goes and comes back, SACK or timestamps are missing. From
 * time to time things go well for a while. All must arrive in bounded virtual time, both FINs too.
 *
 * argv[1]: first seed, argv[2]: how many.
 */
#include "tcp_pair.h"

#define CONNS 3
#define TOTAL 1500000u

struct flow {
	struct shm_session *s[2];
	uint64_t sent[2], got[2]; /* by writer */
	bool ended[2], eof[2], cork[2];
	uint64_t pause[2];
};

static struct flow fl[CONNS];
static uint64_t trouble_until;

static bool chance(unsigned per_mille)
{
	return rnd() % 1000 < per_mille;
}

static uint8_t pat(uint64_t at, uint32_t salt)
{
	return (uint8_t)((at * 2654435761u >> 13) ^ (at >> 16) ^ salt);
}

static void write_some(int i, struct flow *x, uint32_t salt)
{
	static uint8_t buf[65536];
	struct shm_session *s = x->s[i];
	uint32_t n = chance(300) ? 1 + rnd() % sizeof(buf) : 1 + rnd() % 3000, room;
	struct fifo f = shm_session_tx(h[i].region, s);

	if (x->ended[i])
		return;
	room = fifo_space(&f);
	n = n < room ? n : room;
	if (n > TOTAL - x->sent[i])
		n = (uint32_t)(TOTAL - x->sent[i]);
	for (uint32_t k = 0; k < n; k++)
		buf[k] = pat(x->sent[i] + k, salt);
	if (n)
		x->sent[i] += put(i, s, buf, n, x->cork[i] || chance(100) ? STACK_TX_MORE : 0);
	if (chance(10))
		setint(i, s, STACK_OPT_NODELAY, chance(500));
	if (chance(10)) {
		x->cork[i] = !x->cork[i];
		if (!x->cork[i])
			put(i, s, buf, 0, 0);
	}
	if (x->sent[i] == TOTAL) {
		x->ended[i] = true;
		CHECK(!ops->shutdown(h[i].st, s, SHUT_WR));
	}
}

static void read_some(int i, struct flow *x, uint32_t salt)
{
	static uint8_t buf[65536];
	uint32_t n, bad = 0;

	if (now < x->pause[i])
		return;
	if (chance(2))
		x->pause[i] = now + rnd() % 3000 * MS;
	n = get(i, x->s[i], buf, 1 + rnd() % sizeof(buf));
	for (uint32_t k = 0; k < n; k++)
		bad += buf[k] != pat(x->got[!i] + k, salt);
	CHECK(!bad);
	x->got[!i] += n;
	if (x->s[i]->stack_flags & SHM_SF_RX_EOF && x->got[!i] == TOTAL)
		x->eof[i] = true;
}

static void weather(void)
{
	struct nst_addr peer = ip("198.18.0.2", 0);

	if (now < trouble_until)
		return;
	trouble_until = now + rnd() % (chance(100) ? 3000 : 60) * MS;
	loss = chance(500) ? rnd() % 80 : 0;
	dup = chance(300) ? rnd() % 50 : 0;
	reorder = chance(400) ? rnd() % 100 : 0;
	if (chance(30))
		loss = 1000; /* all is dark */
	netcfg_static_neigh(h[0].nc, h[0].port->ifindex, &peer, chance(30) ? NULL : h[1].port->mac);
	for (int k = 0; k < CONNS; k++)
		for (int i = 0; i < 2; i++) {
			struct tcp_conn *c = conn(i, fl[k].s[i]);

			if (chance(50) && c && c->dst)
				ip_dst_pmtu((struct tcpip *)h[i].st, c->dst, 600 + rnd() % 800);
			if (chance(50) && c && c->state != TCP_S_CLOSE)
				setint(i, fl[k].s[i], STACK_OPT_RCVBUF, 3000 + (int)(rnd() % 200000));
		}
}

static bool all_done(void)
{
	for (int k = 0; k < CONNS; k++)
		for (int i = 0; i < 2; i++)
			if (!fl[k].eof[i])
				return false;
	return true;
}

static void report(uint32_t seed)
{
	printf("not ok - seed %u stalled at %llu s\n", seed, (unsigned long long)(now / SEC));
	failures++;
	for (int k = 0; k < CONNS; k++)
		for (int i = 0; i < 2; i++) {
			struct tcp_conn *c = conn(i, fl[k].s[i]);

			printf("# %d.%d sent %llu arrived %llu eof %d error %d", k, i,
			       (unsigned long long)fl[k].sent[i], (unsigned long long)fl[k].got[i],
			       fl[k].eof[i], fl[k].s[i]->error);
			if (c)
				printf(" state %u out %u wnd %u cwnd %u mss %u holes %u ca %u mode %u "
				       "unsent %u due %d %d %d %d %d told %d used %u", c->state,
				       c->nxt - c->una, c->wnd, c->cwnd, c->mss, c->nholes, c->ca,
				       c->rexmit_mode, tcp_unsent(c), !!c->due[0], !!c->due[1],
				       !!c->due[2], !!c->due[3], !!c->due[4],
				       (int)(c->rcv_adv - c->rcv_nxt), fifo_used(&c->rx));
			printf("\n");
		}
}

static void soak(uint32_t seed)
{
	static const unsigned caps[] = { 0, HAL_CAP_MULTIBUF, HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM |
		HAL_CAP_RX_CSUM_PARTIAL | HAL_CAP_SUPERFRAME };
	struct hal_mem_config cfg = { 0 };
	struct shm_session *ls;
	uint64_t limit;

	rng = seed * 2654435761u + 1;
	cfg.caps = caps[rnd() % 3];
	cfg.frames = 96u << rnd() % 6;
	cfg.wire = 64u << rnd() % 5;
	fifo_bytes = 65536u << rnd() % 5;
	setup(&cfg);
	memset(fl, 0, sizeof(fl));
	trouble_until = 0;
	ls = listener(1, "0.0.0.0", 80, 16);
	for (int k = 0; k < CONNS; k++) {
		connected(&fl[k].s[0], &fl[k].s[1], ls, "198.18.0.2", 80);
		for (int i = 0; i < 2; i++)
			if (k == 1)
				conn(i, fl[k].s[i])->flags &= ~TCP_F_SACK;
	}
	limit = now + 4000 * SEC;
	while (now < limit && !all_done()) {
		weather();
		for (int k = 0; k < CONNS; k++)
			for (int i = 0; i < 2; i++) {
				if (chance(500))
					write_some(i, &fl[k], (uint32_t)k);
				read_some(i, &fl[k], (uint32_t)k);
			}
		if (now > limit - 1500 * SEC) { /* at last all is well */
			struct nst_addr peer = ip("198.18.0.2", 0);

			loss = dup = reorder = 0;
			trouble_until = UINT64_MAX;
			netcfg_static_neigh(h[0].nc, h[0].port->ifindex, &peer, h[1].port->mac);
		}
		run_for(step + rnd() % 20 * step);
	}
	if (!all_done())
		report(seed);
	if (getenv("VERBOSE"))
		printf("# seed %u: %llu ms, rexmit %llu rto %llu probes %llu no frame %llu neigh %llu\n", seed,
		       (unsigned long long)((now - (limit - 4000 * SEC)) / MS),
		       (unsigned long long)counter(0, "tcp_rexmit"), (unsigned long long)counter(0, "tcp_rto"),
		       (unsigned long long)counter(0, "tcp_zero_window_probes"),
		       (unsigned long long)counter(0, "tx_drop_no_frame"),
		       (unsigned long long)counter(0, "tx_drop_neigh_queue"));
	loss = dup = reorder = 0;
	for (int k = 0; k < CONNS; k++)
		for (int i = 0; i < 2; i++)
			ops->close(h[i].st, fl[k].s[i], -1);
	run_for(SEC);
	ops->close(h[1].st, ls, -1);
	run_for(130 * SEC);
	CHECK(used_sessions(0) == 0 && used_sessions(1) == 0);
	teardown();
}

int main(int argc, char **argv)
{
	uint32_t first = argc > 1 ? (uint32_t)atoi(argv[1]) : 1, n = argc > 2 ? (uint32_t)atoi(argv[2]) : 40;

	for (uint32_t k = 0; k < n && failures < 20; k++) {
		int before = failures;

		soak(first + k);
		if (failures != before)
			printf("# seed %u\n", first + k);
	}
	if (!failures)
		printf("ok - tcp_soak\n");
	return failures != 0;
}
