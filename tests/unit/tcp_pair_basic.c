/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tcp_pair_basic.c - TCP between two stacks in one process, in virtual time
 *
 * Connect, data both ways, orderly and disorderly ends, refusal; then bulk with loss, duplication
 * and reordering on the wire: every byte arrives, in order, and nothing leaks.
 */
#include "stack_pair.h"

static uint32_t per_mille_drop, per_mille_dup, per_mille_delay, seed = 1;

static uint32_t rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

static enum hal_mem_action hook(void *arg, int dir, uint8_t *p, uint32_t len)
{
	uint32_t r = rnd() % 1000;

	if (r < per_mille_drop)
		return HAL_MEM_DROP;
	r = rnd() % 1000;
	if (r < per_mille_dup)
		return HAL_MEM_DUP;
	r = rnd() % 1000;
	return r < per_mille_delay ? HAL_MEM_DELAY : HAL_MEM_PASS;
}

static const char *addr_of[2][2] = { { "198.18.0.1", "198.18.0.2" },
				     { "2001:db8::1", "2001:db8::2" } };

static void step(uint64_t ns)
{
	now += ns;
	ops->poll(h[0].st, now);
	ops->poll(h[1].st, now);
}

static void run(uint64_t ms)
{
	for (uint64_t i = 0; i < ms * 4; i++)
		step(MS / 4);
}

static void teardown(void)
{
	per_mille_drop = per_mille_dup = per_mille_delay = 0;
	run(200);
	pair_close();
}

struct pair {
	struct shm_session *listener, *c, *s;
	struct fifo crx, ctx, srx, stx;
};

static struct shm_session *sock(int i, const struct nst_addr *bind)
{
	struct shm_session *s = shm_session_alloc(h[i].region, bind->family, IPPROTO_TCP);

	CHECK(s != NULL);
	CHECK(!ops->open(h[i].st, s));
	CHECK(!ops->bind(h[i].st, s, bind));
	return s;
}

static uint16_t next_port = 20000;

static bool connect_pair(struct pair *p, int v)
{
	struct nst_addr l = ip(addr_of[v][1], 80), a = ip(addr_of[v][0], next_port++);
	struct fifo acc;
	uint32_t id;

	memset(p, 0, sizeof(*p));
	p->listener = sock(1, &l);
	CHECK(!ops->listen(h[1].st, p->listener, 16));
	p->c = sock(0, &a);
	CHECK(ops->connect(h[0].st, p->c, &l) == -EINPROGRESS);
	acc = shm_session_rx(h[1].region, p->listener);
	for (int i = 0; i < 200000 && fifo_used(&acc) < sizeof(id); i++)
		step(MS / 4);
	for (int i = 0; i < 20000 && shm_session_state(p->c) == SHM_S_CONNECTING; i++)
		step(MS / 4);
	CHECK(shm_session_state(p->c) == SHM_S_CONNECTED);
	if (fifo_read(&acc, &id, sizeof(id)) != sizeof(id)) {
		CHECK(!"accepted");
		return false;
	}
	p->s = shm_session_get(h[1].region, id);
	CHECK(p->s && p->s->parent == p->listener->id);
	if (!p->s)
		return false;
	CHECK(nst_addr_same_ip(&p->s->remote, &a) && p->s->remote.port == a.port);
	p->crx = shm_session_rx(h[0].region, p->c);
	p->ctx = shm_session_tx(h[0].region, p->c);
	p->srx = shm_session_rx(h[1].region, p->s);
	p->stx = shm_session_tx(h[1].region, p->s);
	return true;
}

static void close_pair(struct pair *p)
{
	ops->close(h[0].st, p->c, -1);
	if (p->s)
		ops->close(h[1].st, p->s, -1);
	ops->close(h[1].st, p->listener, -1);
	run(50);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

/* Write up to max more bytes of the stream; returns the new position. */
static uint64_t feed(int i, struct shm_session *s, const struct fifo *f, uint64_t pos, uint64_t end,
		     uint32_t max)
{
	uint8_t buf[8192];
	uint32_t n = 1 + rnd() % max, k;

	if (n > end - pos)
		n = (uint32_t)(end - pos);
	if (n > sizeof(buf))
		n = sizeof(buf);
	for (k = 0; k < n; k++)
		buf[k] = pattern(pos + k);
	k = fifo_write(f, buf, n);
	if (k) {
		s->push_pos = fifo_head(f);
		ops->tx_ready(h[i].st, s, 0);
	}
	return pos + k;
}

static uint64_t drain(int i, struct shm_session *s, const struct fifo *f, uint64_t pos)
{
	uint8_t buf[8192];
	uint32_t n = fifo_read(f, buf, 1 + rnd() % sizeof(buf));

	for (uint32_t k = 0; k < n; k++)
		if (buf[k] != pattern(pos + k)) {
			CHECK(!"bytes in order");
			return pos + n;
		}
	if (n && fifo_tail(f) >= s->rx_update_at)
		ops->rx_freed(h[i].st, s);
	return pos + n;
}

/* bytes each way at once; both ends then shut down. */
static void exchange(int v, uint64_t bytes, uint32_t max)
{
	uint64_t cw = 0, cr = 0, sw = 0, sr = 0;
	struct pair p;

	if (!connect_pair(&p, v))
		return;
	for (int i = 0; i < 1300000 && (cr < bytes || sr < bytes); i++) {
		if (cw < bytes)
			cw = feed(0, p.c, &p.ctx, cw, bytes, max);
		if (sw < bytes)
			sw = feed(1, p.s, &p.stx, sw, bytes, max);
		step(MS / 10);
		sr = drain(1, p.s, &p.srx, sr);
		cr = drain(0, p.c, &p.crx, cr);
	}
	CHECK(cr == bytes && sr == bytes);
	p.c->app_flags |= SHM_AF_TX_SHUT;
	CHECK(!ops->shutdown(h[0].st, p.c, SHUT_WR));
	for (int i = 0; i < 100000 && !(p.s->stack_flags & SHM_SF_RX_EOF); i++)
		step(MS / 4);
	CHECK(p.s->stack_flags & SHM_SF_RX_EOF && !(p.s->stack_flags & SHM_SF_RESET));
	p.s->app_flags |= SHM_AF_TX_SHUT;
	CHECK(!ops->shutdown(h[1].st, p.s, SHUT_WR));
	for (int i = 0; i < 100000 && !(p.c->stack_flags & SHM_SF_RX_EOF); i++)
		step(MS / 4);
	CHECK(p.c->stack_flags & SHM_SF_RX_EOF && !(p.c->stack_flags & SHM_SF_RESET));
	close_pair(&p);
}

static void test_refused(int v)
{
	struct nst_addr l = ip(addr_of[v][1], 81), a = ip(addr_of[v][0], next_port++);
	struct shm_session *c = sock(0, &a);

	CHECK(ops->connect(h[0].st, c, &l) == -EINPROGRESS);
	run(5);
	CHECK(shm_session_state(c) == SHM_S_CLOSED && c->error == ECONNREFUSED);
	ops->close(h[0].st, c, -1);
}

static void test_reset(int v)
{
	struct pair p;

	if (!connect_pair(&p, v))
		return;
	ops->close(h[1].st, p.s, 0);
	p.s = NULL;
	run(5);
	CHECK(shm_session_state(p.c) == SHM_S_CLOSED && p.c->error == ECONNRESET);
	CHECK(p.c->stack_flags & SHM_SF_RESET && p.c->stack_flags & SHM_SF_TX_DEAD);
	close_pair(&p);
}

/* argv[1]: another seed for the troubles of the wire */
int main(int argc, char **argv)
{
	struct hal_mem_config plain = { 0 },
		small = { .frame_size = 2048, .caps = HAL_CAP_MULTIBUF, .frames = 2048, .wire = 1024 },
		veth = { .caps = HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM | HAL_CAP_RX_CSUM_PARTIAL |
				 HAL_CAP_SUPERFRAME, .frames = 2048, .wire = 1024 },
		nic = { .caps = HAL_CAP_MULTIBUF | HAL_CAP_TX_CSUM | HAL_CAP_SUPERFRAME,
			.fill_csum = true, .split_super = true, .frames = 2048, .wire = 1024 };
	const struct hal_mem_config *all[] = { &plain, &small, &veth, &nic };
	const uint32_t trouble[][3] = { { 0, 0, 0 }, { 10, 0, 0 }, { 0, 0, 50 }, { 0, 20, 0 },
					{ 10, 10, 30 }, { 50, 20, 50 } };

	if (argc > 1)
		seed = (uint32_t)atoi(argv[1]);
	for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) {
		for (int v = 0; v < 2; v++) {
			pair_open(all[i], hook);
			test_refused(v);
			test_reset(v);
			exchange(v, 1, 1);
			exchange(v, 3000, 50);
			exchange(v, 300000, 8192);
			teardown();
		}
		for (unsigned k = 0; k < sizeof(trouble) / sizeof(*trouble); k++) {
			int before = failures;

			pair_open(all[i], hook);
			per_mille_drop = trouble[k][0];
			per_mille_dup = trouble[k][1];
			per_mille_delay = trouble[k][2];
			exchange((int)k & 1, 8000000, 8192);
			teardown();
			if (failures != before)
				printf("# port %u, drop %u dup %u delay %u per mille\n", i,
				       trouble[k][0], trouble[k][1], trouble[k][2]);
		}
	}
	if (!failures)
		printf("ok - tcp_pair_basic\n");
	return failures != 0;
}
