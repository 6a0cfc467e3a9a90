// SPDX-License-Identifier: Apache-2.0
/* tests/unit/hal_fault.c - fault specification, fault injection and capture over hal_mem ports */
#define _GNU_SOURCE
#include <hal_wrap/hal_fault.h>
#include <hal_wrap/hal_mem.h>
#include <hal_wrap/hal_pcap.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int failed;
#define CHECK(x) do { if (!(x)) { printf("not ok: %s:%d: %s\n", __FILE__, __LINE__, #x); \
			failed = 1; } } while (0)

static void test_parse(void)
{
	static const char *const bad[] = {
		"loss", "loss=", "loss=1", "loss=101%", "loss=-1%", "lost=1%", "delay=5",
		"delay=5m", "delay=11s", "seed=x", "seed=", "rx.seed=1", "loss=1%%", "loss=1%;dup=1%",
		"loss=99999999999999999999%", "=1%", "super=2", "tx.=1%",
	};
	struct hal_fault_config c;
	char why[256];
	size_t i;

	CHECK(!hal_fault_parse(&c, "loss=1%,reorder=2%,dup=0.5%,corrupt=0.1%,delay=5ms,seed=7", why));
	CHECK(c.rx.loss_ppm == 10000 && c.tx.loss_ppm == 10000);
	CHECK(c.rx.reorder_ppm == 20000 && c.rx.dup_ppm == 5000 && c.rx.corrupt_ppm == 1000);
	CHECK(c.tx.delay_ns == 5000000 && c.seed == 7);
	CHECK(!hal_fault_parse(&c, "rx.loss=250ppm, tx.delay=1.5ms,super=0", why));
	CHECK(c.rx.loss_ppm == 250 && !c.tx.loss_ppm && c.tx.delay_ns == 1500000 && !c.rx.delay_ns);
	CHECK(c.no_super);
	CHECK(!hal_fault_parse(&c, "", why) && !c.rx.loss_ppm);
	CHECK(!hal_fault_parse(&c, "loss=0,delay=0,delay=20us,loss=100%", why));
	CHECK(c.rx.loss_ppm == 1000000 && c.rx.delay_ns == 20000);
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (hal_fault_parse(&c, bad[i], why) != -EINVAL || !strstr(why, "faults:")) {
			printf("not ok: accepted \"%s\"\n", bad[i]);
			failed = 1;
		}
	}
}

static void send_n(struct hal_port *p, uint32_t n, uint32_t first)
{
	struct hal_frame f;
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (hal_tx_alloc(p, 0, &f, 1) != 1) {
			CHECK(!"a frame");
			return;
		}
		memset(f.data, 0, 60);
		i += first;
		memcpy(f.data + 14, &i, 4);
		i -= first;
		f.len = 60;
		if (hal_tx_burst(p, 0, &f, 1) != 1)
			hal_tx_free(p, 0, &f, 1);
	}
	hal_tx_flush(p, 0);
}

/* Receives until nothing comes and nothing is due; order[] gets the numbers. */
static uint32_t recv_all(struct hal_port *rx, struct hal_port *tx, uint32_t *order, uint32_t max)
{
	struct hal_frame f[64];
	uint32_t n, i, got = 0;

	for (;;) {
		if (tx)
			hal_tx_flush(tx, 0);
		n = hal_rx_burst(rx, 0, f, 64);
		for (i = 0; i < n; i++, got++)
			if (got < max)
				memcpy(&order[got], f[i].data + 14, 4);
		hal_rx_release(rx, 0, f, n);
		if (!n && hal_next_due(rx, 0) == UINT64_MAX &&
		    (!tx || hal_next_due(tx, 0) == UINT64_MAX))
			return got;
	}
}

static struct hal_port *pair(struct hal_port *p[2], const char *spec, bool on_rx)
{
	struct hal_fault_config c;
	struct hal_port *w = NULL;
	char why[256];

	CHECK(!hal_mem_pair(p, NULL));
	CHECK(!hal_fault_parse(&c, spec, why));
	CHECK(!hal_fault_wrap(&w, p[on_rx], &c));
	return w;
}

static void test_faults(bool on_rx)
{
	static uint32_t order[4096], again[4096];
	struct hal_fault_stats rx, tx, *st = on_rx ? &rx : &tx;
	struct hal_port *p[2], *w, *from, *to;
	uint32_t n = 0, n2 = 0, i, pass, swaps = 0;

	for (pass = 0; pass < 2; pass++) { /* the same seed gives the same losses */
		w = pair(p, "loss=10%,seed=9", on_rx);
		from = on_rx ? p[0] : w;
		to = on_rx ? w : p[1];
		for (i = 0; i < 2000; i += 100) {
			send_n(from, 100, i);
			if (pass)
				n2 += recv_all(to, on_rx ? NULL : w, again + n2, 4096 - n2);
			else
				n += recv_all(to, on_rx ? NULL : w, order + n, 4096 - n);
		}
		hal_fault_stats(w, &rx, &tx);
		CHECK(st->packets == 2000 && st->lost > 120 && st->lost < 280);
		CHECK(2000 - st->lost == (pass ? n2 : n));
		CHECK(!hal_mem_outstanding(p[0]) && !hal_mem_outstanding(p[1]));
		hal_close(w);
		hal_close(p[!on_rx]);
	}
	CHECK(n == n2 && !memcmp(order, again, n * 4));

	w = pair(p, "dup=50%,reorder=20%,seed=4", on_rx);
	from = on_rx ? p[0] : w;
	to = on_rx ? w : p[1];
	for (n = 0, i = 0; i < 500; i += 50) {
		send_n(from, 50, i);
		n += recv_all(to, on_rx ? NULL : w, order + n, 4096 - n);
	}
	hal_fault_stats(w, &rx, &tx);
	CHECK(n == 500 + st->duplicated && st->duplicated > 180 && st->duplicated < 320);
	for (i = 1; i < n; i++)
		swaps += order[i] < order[i - 1];
	CHECK(st->reordered > 50 && swaps > 10);
	CHECK(!hal_mem_outstanding(p[0]) && !hal_mem_outstanding(p[1]));
	hal_close(w);
	hal_close(p[!on_rx]);

	w = pair(p, "delay=3ms", on_rx);
	from = on_rx ? p[0] : w;
	to = on_rx ? w : p[1];
	send_n(from, 20, 0);
	CHECK(on_rx || hal_next_due(w, 0) != UINT64_MAX);
	n = recv_all(to, on_rx ? NULL : w, order, 4096);
	if (on_rx)
		CHECK(n == 20);
	for (i = 1; i < n; i++)
		CHECK(order[i] == order[i - 1] + 1); /* delay keeps the order */
	CHECK(n == 20);
	hal_close(w);
	hal_close(p[!on_rx]);

	w = pair(p, "corrupt=100%", on_rx);
	from = on_rx ? p[0] : w;
	to = on_rx ? w : p[1];
	send_n(from, 20, 0);
	n = recv_all(to, on_rx ? NULL : w, order, 4096);
	hal_fault_stats(w, &rx, &tx);
	CHECK(n == 20 && st->corrupted == 20);
	hal_close(w);
	hal_close(p[!on_rx]);
}

/* More held than slots: bounded, counted, nothing leaks. */
static void test_slots(void)
{
	struct hal_fault_config c = { .rx.delay_ns = 1000000000, .slots = 16 };
	struct hal_fault_stats rx, tx;
	struct hal_frame f[64];
	struct hal_port *p[2], *w = NULL;

	CHECK(!hal_mem_pair(p, NULL));
	CHECK(!hal_fault_wrap(&w, p[1], &c));
	send_n(p[0], 40, 0);
	CHECK(hal_rx_burst(w, 0, f, 64) == 0);
	hal_fault_stats(w, &rx, &tx);
	CHECK(rx.packets == 40 && rx.overflow == 24);
	CHECK(!hal_mem_outstanding(p[1]));
	hal_close(w);
	hal_close(p[0]);
}

/* Walks the blocks: types, lengths at both ends. */
static void test_capture(void)
{
	struct hal_pcap_config c = { .fd = memfd_create("capture", 0), .buffer = 4096 };
	struct hal_port *p[2], *w = NULL;
	uint32_t order[64], type = 0, len, len2, blocks = 0, packets = 0, at = 0;
	struct hal_pcap_stats st;
	uint8_t *m;
	struct stat sb;
	int keep = dup(c.fd);

	CHECK(!hal_mem_pair(p, NULL));
	CHECK(!hal_pcap_wrap(&w, p[1], &c));
	send_n(p[0], 200, 0); /* several times what the buffer holds */
	recv_all(w, NULL, order, 64);
	send_n(w, 3, 0);
	hal_pcap_stats(w, &st);
	CHECK(st.packets + st.dropped == 203 && st.packets > 20 && !st.error);
	CHECK(hal_pcap_unwrap(w) == p[1]);
	CHECK(!fstat(keep, &sb));
	m = mmap(NULL, sb.st_size, PROT_READ, MAP_PRIVATE, keep, 0);
	while (m != MAP_FAILED && at + 12 <= sb.st_size) {
		memcpy(&type, m + at, 4);
		memcpy(&len, m + at + 4, 4);
		if (len < 12 || len & 3 || at + len > sb.st_size)
			break;
		memcpy(&len2, m + at + len - 4, 4);
		CHECK(len == len2);
		packets += type == 6;
		CHECK(blocks != 0 || type == 0x0a0d0d0a);
		CHECK(blocks != 1 || type == 1);
		blocks++;
		at += len;
	}
	CHECK(at == sb.st_size && packets == st.packets && blocks == packets + 3);
	CHECK(type == 5);
	close(keep);
	hal_close(p[0]);
	hal_close(p[1]);
}

/* A reader that leaves ends the capture, not the program. */
static void test_capture_pipe(void)
{
	uint32_t order[64];
	struct hal_pcap_config c = { 0 };
	struct hal_port *p[2], *w = NULL;
	struct hal_pcap_stats st;
	int fd[2];

	CHECK(!pipe(fd));
	c.fd = fd[1];
	CHECK(!hal_mem_pair(p, NULL));
	CHECK(!hal_pcap_wrap(&w, p[1], &c));
	close(fd[0]);
	send_n(p[0], 10, 0);
	CHECK(recv_all(w, NULL, order, 64) == 10);
	hal_arm(w, 0);
	hal_pcap_stats(w, &st);
	CHECK(st.error == EPIPE);
	send_n(p[0], 10, 0);
	CHECK(recv_all(w, NULL, order, 64) == 10);
	hal_close(w);
	hal_close(p[0]);
}

/* A reader that doesn't read holds up the capture, not the traffic. */
static void test_capture_stuck_pipe(void)
{
	uint32_t order[64], got = 0, i;
	struct hal_pcap_config c = { .buffer = 8192 };
	struct hal_port *p[2], *w = NULL;
	struct hal_pcap_stats st;
	int fd[2];

	CHECK(!pipe(fd));
	c.fd = fd[1];
	CHECK(!hal_mem_pair(p, NULL));
	CHECK(!hal_pcap_wrap(&w, p[1], &c));
	alarm(10); /* the bug shows as waiting for ever */
	for (i = 0; i < 100; i++) { /* 100 KB into 64 KB and the buffer */
		send_n(p[0], 10, 0);
		got += recv_all(w, NULL, order, 64);
		hal_arm(w, 0);
	}
	hal_pcap_stats(w, &st);
	CHECK(got == 1000 && st.dropped > 0 && st.packets + st.dropped == 1000 && !st.error);
	hal_close(w);
	alarm(0);
	close(fd[0]);
	hal_close(p[0]);
}

int main(void)
{
	test_parse();
	test_faults(false);
	test_faults(true);
	test_slots();
	test_capture();
	test_capture_pipe();
	test_capture_stuck_pipe();
	if (!failed)
		printf("ok hal_fault\n");
	return failed;
}
