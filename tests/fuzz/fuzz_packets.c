/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_packets.c - the packet input of the stack
 *
 * The input is a program of steps for a stack on an in-memory port: what the peer sends (world.h), calls of
 * the socket layer, and time. The stack must not crash, leak frames or publish more than a FIFO holds.
 */
#include "world.h"

#define HOLD 8 /* sessions that the "program" has */

/* The program: one with a listener, a UDP socket, and connections. */
struct program {
	struct world w; /* first: the functions below get this */
	struct shm_session *listener, *udp, *held[HOLD];
};

static void on_event(struct stack_env *env, struct shm_session *s, uint32_t events)
{
	assert(events && s);
}

/* --- the program's side --------------------------------------------------------------------------- */

static void accept_one(struct program *p)
{
	struct fifo f;
	uint32_t id;

	for (int i = 0; i < HOLD; i++) {
		if (p->held[i] || !p->listener)
			continue;
		f = shm_session_rx(p->w.env.region, p->listener);
		if (fifo_read(&f, &id, sizeof(id)) != sizeof(id))
			return;
		tcpip_stack_ops.rx_freed(p->w.st, p->listener);
		p->held[i] = shm_session_get(p->w.env.region, id);
		assert(p->held[i]);
		return;
	}
}

static void connect_one(struct program *p, int v6)
{
	for (int i = 0; i < HOLD; i++) {
		struct shm_session *s;
		struct nst_addr to = p->w.peer[v6];

		if (p->held[i])
			continue;
		s = shm_session_alloc(p->w.env.region, v6 ? AF_INET6 : AF_INET, IPPROTO_TCP);
		if (!s)
			return;
		if (tcpip_stack_ops.open(p->w.st, s)) {
			shm_session_free(p->w.env.region, s);
			return;
		}
		to.port = htons(PEER_PORT);
		tcpip_stack_ops.connect(p->w.st, s, &to);
		p->held[i] = s;
		return;
	}
}

static void read_some(struct program *p, struct shm_session *s, uint32_t n)
{
	static uint8_t buf[65536];
	struct fifo f = shm_session_rx(p->w.env.region, s);

	fifo_read(&f, buf, n);
	if (fifo_tail(&f) >= s->rx_update_at)
		tcpip_stack_ops.rx_freed(p->w.st, s);
}

static void write_some(struct program *p, struct shm_session *s, uint32_t n)
{
	static const uint8_t buf[65536];
	struct fifo f = shm_session_tx(p->w.env.region, s);

	if (s->app_flags & SHM_AF_TX_SHUT)
		return;
	fifo_write(&f, buf, n);
	s->push_pos = fifo_head(&f);
	tcpip_stack_ops.tx_ready(p->w.st, s, 0);
}

static void step_app(struct program *p)
{
	uint8_t what = take(&p->w), i = take(&p->w) % HOLD;
	struct shm_session *s = p->held[i];
	uint32_t n = take16(&p->w);

	if ((what & 7) == 0)
		accept_one(p);
	else if ((what & 7) == 1)
		connect_one(p, what >> 3 & 1);
	if (!s)
		return;
	switch (what & 7) {
	case 2:
		read_some(p, s, n);
		break;
	case 3:
		write_some(p, s, n);
		break;
	case 4:
		s->app_flags |= SHM_AF_TX_SHUT;
		tcpip_stack_ops.shutdown(p->w.st, s, SHUT_WR);
		break;
	case 5:
		p->held[i] = NULL;
		tcpip_stack_ops.close(p->w.st, s, what & 8 ? 0 : -1);
		break;
	case 6: {
		int v = (int)n;

		tcpip_stack_ops.setopt(p->w.st, s, 1 + (what >> 3) % (STACK_OPT_NR_ - 1), &v, sizeof(v));
		break;
	}
	case 7: {
		struct tcp_info info;

		tcpip_stack_ops.tcp_info(p->w.st, s, &info);
		break;
	}
	}
}

static void run(struct program *p)
{
	for (int steps = 0; p->w.in < p->w.end && steps < 400; steps++) {
		uint8_t op = take(&p->w);

		switch (op & 7) {
		case 0:
			step_raw(&p->w);
			break;
		case 1: case 2: case 3:
			step_tcp(&p->w);
			break;
		case 4:
			step_udp(&p->w);
			break;
		case 5:
			step_icmp(&p->w);
			break;
		case 6:
			step_app(p);
			break;
		case 7:
			p->w.now += 1ull << (take(&p->w) % 38); /* up to two minutes */
			break;
		}
		if (!(op & 8)) { /* else: several packets in one burst */
			tcpip_stack_ops.poll(p->w.st, p->w.now);
			drain(&p->w);
		}
	}
}

static struct shm_session *server_session(struct program *p, uint8_t proto, uint16_t port)
{
	struct shm_session *s = shm_session_alloc(p->w.env.region, AF_INET6, proto);
	struct nst_addr any = { .family = AF_INET6, .port = htons(port) };

	if (!s)
		abort();
	must(tcpip_stack_ops.open(p->w.st, s));
	must(tcpip_stack_ops.bind(p->w.st, s, &any));
	if (proto == IPPROTO_TCP)
		must(tcpip_stack_ops.listen(p->w.st, s, 4));
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shm_region_config rc = { .sessions = 32, .rx_size = 65536, .tx_size = 65536 };
	static struct program program;
	struct program *p = &program;
	struct world *w = &p->w;

	memset(p, 0, sizeof(*p));
	w->in = data;
	w->end = data + size;
	w->env.event = on_event;
	must(shm_region_create(&w->env.region, &rc));
	world_make(w);
	p->listener = server_session(p, IPPROTO_TCP, TCP_PORT);
	p->udp = server_session(p, IPPROTO_UDP, UDP_PORT);
	run(p);
	for (int i = 0; i < HOLD; i++) {
		if (p->held[i])
			tcpip_stack_ops.close(w->st, p->held[i], -1);
	}
	tcpip_stack_ops.close(w->st, p->udp, -1);
	tcpip_stack_ops.close(w->st, p->listener, -1);
	world_end(w);
	shm_region_close(w->env.region);
	return 0;
}
