/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tcp_bulk.c - much data both ways, over good wires and bad ones */
#include "tcp_pair.h"

#include <time.h>

struct stream {
	uint64_t sent, got;
	bool ended, eof;
};

static uint8_t pat(uint64_t at, uint32_t salt)
{
	return (uint8_t)(at * 2654435761u >> 13) ^ (uint8_t)(at >> 16) ^ (uint8_t)salt;
}

static void feed(int i, struct shm_session *s, struct stream *x, uint64_t total, uint32_t salt)
{
	static uint8_t buf[65536];
	struct fifo f = shm_session_tx(h[i].region, s);
	uint32_t n = fifo_space(&f);

	if (x->ended)
		return;
	if (n > sizeof(buf))
		n = sizeof(buf);
	if (n > total - x->sent)
		n = (uint32_t)(total - x->sent);
	for (uint32_t k = 0; k < n; k++)
		buf[k] = pat(x->sent + k, salt);
	if (n)
		x->sent += put(i, s, buf, n, 0);
	if (x->sent == total) {
		x->ended = true;
		CHECK(!ops->shutdown(h[i].st, s, SHUT_WR));
	}
}

static void drain(int i, struct shm_session *s, struct stream *x, uint32_t salt)
{
	static uint8_t buf[65536];
	uint32_t n, bad = 0;

	while ((n = get(i, s, buf, sizeof(buf)))) {
		for (uint32_t k = 0; k < n; k++)
			bad += buf[k] != pat(x->got + k, salt);
		x->got += n;
	}
	CHECK(bad == 0);
	if (s->stack_flags & SHM_SF_RX_EOF)
		x->eof = true;
}

static void bulk(const char *name, const struct hal_mem_config *cfg, const char *addr,
		 const char *cc, uint64_t total, unsigned l, unsigned d, unsigned r)
{
	struct shm_session *ls, *a, *b;
	struct stream up = { 0 }, down = { 0 };
	uint64_t begin, limit;
	struct timespec t0, t1;

	setup(cfg);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	ls = listener(1, strchr(addr, ':') ? "::" : "0.0.0.0", 80, 16);
	CHECK(!ops->setopt(h[1].st, ls, STACK_OPT_CONGESTION, cc, (uint32_t)strlen(cc)));
	connected(&a, &b, ls, addr, 80);
	CHECK(!ops->setopt(h[0].st, a, STACK_OPT_CONGESTION, cc, (uint32_t)strlen(cc)));
	loss = l;
	dup = d;
	reorder = r;
	begin = now;
	limit = now + 2000 * SEC;
	while (now < limit && !(up.eof && down.eof && up.got == total && down.got == total)) {
		feed(0, a, &up, total, 1);
		feed(1, b, &down, total, 2);
		run_for(step);
		drain(1, b, &up, 1);
		drain(0, a, &down, 2);
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	CHECK(up.got == total && down.got == total && up.eof && down.eof);
	printf("# %s %s %s: %.1f MB each way, %.2f s virtual, %.0f ms real; rexmit %lu rto %lu tlp %lu "
	       "recoveries %lu spurious %lu lost again %lu\n", name, addr, cc, (double)total / 1e6,
	       (double)(now - begin) / 1e9,
	       (double)(t1.tv_sec - t0.tv_sec) * 1e3 + (double)(t1.tv_nsec - t0.tv_nsec) / 1e6,
	       counter(0, "tcp_rexmit") + counter(1, "tcp_rexmit"),
	       counter(0, "tcp_rto") + counter(1, "tcp_rto"),
	       counter(0, "tcp_tlp") + counter(1, "tcp_tlp"),
	       counter(0, "tcp_recoveries") + counter(1, "tcp_recoveries"),
	       counter(0, "tcp_spurious") + counter(1, "tcp_spurious"),
	       counter(0, "tcp_lost_rexmit") + counter(1, "tcp_lost_rexmit"));
	CHECK(counter(0, "rx_drop_csum") == 0 && counter(1, "rx_drop_csum") == 0);
	loss = dup = reorder = 0;
	run_for(SEC);
	ops->close(h[0].st, a, -1);
	ops->close(h[1].st, b, -1);
	run_for(SEC);
	CHECK(used_sessions(0) == 0 && used_sessions(1) == 1);
	ops->close(h[1].st, ls, -1);
	run_for(200 * SEC);
	CHECK(h[0].holds == 0 && h[1].holds == 0);
	teardown();
}

int main(void)
{
	struct hal_mem_config plain = { .wire = 512 };
	struct hal_mem_config super = { .wire = 512, .caps = HAL_CAP_SUPERFRAME | HAL_CAP_TX_CSUM |
					HAL_CAP_MULTIBUF | HAL_CAP_RX_CSUM_PARTIAL };
	struct hal_mem_config split = { .wire = 1024, .caps = HAL_CAP_SUPERFRAME | HAL_CAP_TX_CSUM,
					.split_super = true, .fill_csum = true };

	bulk("plain", &plain, "198.18.0.2", "cubic", 20000000, 0, 0, 0);
	bulk("plain", &plain, "2001:db8::2", "reno", 8000000, 0, 0, 0);
	bulk("super", &super, "198.18.0.2", "cubic", 40000000, 0, 0, 0);
	bulk("super", &super, "2001:db8::2", "cubic", 20000000, 0, 0, 0);
	bulk("split", &split, "198.18.0.2", "cubic", 20000000, 0, 0, 0);
	bulk("loss 1%", &plain, "198.18.0.2", "cubic", 8000000, 10, 0, 0);
	bulk("loss, dup, reorder 1%", &plain, "198.18.0.2", "cubic", 8000000, 10, 10, 10);
	bulk("loss, dup, reorder 1%", &split, "2001:db8::2", "cubic", 8000000, 10, 10, 10);
	bulk("loss, dup, reorder 1%", &super, "198.18.0.2", "cubic", 8000000, 10, 10, 10);
	bulk("loss 5%, dup, reorder 3%", &plain, "198.18.0.2", "reno", 3000000, 50, 30, 30);
	bulk("reorder 5%", &plain, "198.18.0.2", "cubic", 8000000, 0, 0, 50);
	printf("%s - tcp_bulk\n", failures ? "not ok" : "ok");
	return failures ? 1 : 0;
}
