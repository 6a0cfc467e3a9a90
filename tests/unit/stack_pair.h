/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/stack_pair.h - two stacks in one process, memory ports between them, virtual time
 *
 *   h[0]: 198.18.0.1, 2001:db8::1 (mem0)  ==  h[1]: 198.18.0.2, 2001:db8::2 (mem1)
 *
 * What every test with two stacks needs, whatever it sends; tcp_pair.h adds TCP.
 */
#ifndef TESTS_UNIT_STACK_PAIR_H
#define TESTS_UNIT_STACK_PAIR_H

#include "hal_wrap/hal_mem.h"
#include "stacks/tcpip/tcpip_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FAILURES 30
static int failures;
#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #c);                    \
			if (++failures > MAX_FAILURES)                                             \
				exit(1);                                                           \
		}                                                                                  \
	} while (0)

#define MS NS_PER_MS
#define SEC NS_PER_S
#define IDS 4096

struct host {
	struct stack_env env;
	struct shm_region *region;
	struct netcfg *nc;
	struct stack *st;
	struct hal_port *port;
	uint32_t events[IDS]; /* by session, gathered */
	int holds;
};

static struct host h[2];
static uint64_t now = SEC;
static const struct stack_ops *ops = &tcpip_stack_ops;
static uint32_t fifo_bytes = 1 << 18, mtu = 1500;
static struct tcpip_config stack_cfg;

static uint64_t clock_fn(void *arg)
{
	return now;
}

static void on_event(struct stack_env *env, struct shm_session *s, uint32_t ev)
{
	((struct host *)env)->events[s->id] |= ev;
}

static void on_hold(struct stack_env *env, uint8_t proto, const struct nst_addr *a)
{
	((struct host *)env)->holds++;
}

static void on_release(struct stack_env *env, uint8_t proto, const struct nst_addr *a)
{
	((struct host *)env)->holds--;
}

static struct nst_addr ip(const char *s, uint16_t port)
{
	struct nst_addr a;

	memset(&a, 0, sizeof(a));
	a.family = strchr(s, ':') ? AF_INET6 : AF_INET;
	a.port = htons(port);
	if (inet_pton(a.family, s, a.v6) != 1)
		abort();
	return a;
}

static void setup_host(int i)
{
	static const uint8_t secret[2][16] = { "first secret...", "second secret.." };
	struct shm_region_config rc = { .sessions = IDS, .rx_size = fifo_bytes, .tx_size = fifo_bytes };
	struct nst_addr a4 = ip(i ? "198.18.0.2" : "198.18.0.1", 0),
			a6 = ip(i ? "2001:db8::2" : "2001:db8::1", 0),
			b4 = ip(i ? "198.18.0.1" : "198.18.0.2", 0),
			b6 = ip(i ? "2001:db8::1" : "2001:db8::2", 0);
	struct tcpip_config cfg = stack_cfg;
	struct host *x = &h[i];

	cfg.clock = clock_fn;
	cfg.secret = secret[i];
	CHECK(!shm_region_create(&x->region, &rc));
	CHECK(!netcfg_open_static(&x->nc));
	CHECK(!netcfg_static_link(x->nc, x->port->ifindex, x->port->ifname, x->port->mac, mtu));
	CHECK(!netcfg_static_addr(x->nc, x->port->ifindex, &a4, 24));
	CHECK(!netcfg_static_addr(x->nc, x->port->ifindex, &a6, 64));
	CHECK(!netcfg_static_neigh(x->nc, x->port->ifindex, &b4, h[!i].port->mac));
	CHECK(!netcfg_static_neigh(x->nc, x->port->ifindex, &b6, h[!i].port->mac));
	x->env = (struct stack_env){ .event = on_event, .port_hold = on_hold, .port_release = on_release,
				     .region = x->region };
	cfg.netcfg = x->nc;
	CHECK(!ops->create(&x->st, &x->env, &cfg));
	CHECK(!ops->add_port(x->st, x->port));
}

/* hook sees every packet on the wire. */
static void pair_open(const struct hal_mem_config *base,
		      enum hal_mem_action (*hook)(void *arg, int dir, uint8_t *p, uint32_t len))
{
	struct hal_mem_config cfg = *base;
	struct hal_port *p[2];

	memset(h, 0, sizeof(h));
	cfg.hook = hook;
	CHECK(!hal_mem_pair(p, &cfg));
	h[0].port = p[0];
	h[1].port = p[1];
	setup_host(0);
	setup_host(1);
}

/* Everything that was taken has to be given back. */
static void pair_close(void)
{
	struct shm_region_stats rs;

	for (int i = 0; i < 2; i++) {
		ops->destroy(h[i].st);
		shm_region_stats(h[i].region, &rs);
		CHECK(rs.double_frees == 0);
		CHECK(h[i].holds == 0);
	}
	for (int i = 0; i < 2; i++) {
		CHECK(hal_mem_outstanding(h[i].port) == 0);
		hal_close(h[i].port);
		netcfg_close(h[i].nc);
		shm_region_close(h[i].region);
	}
}

static __attribute__((unused)) uint64_t counter(int i, const char *name)
{
	struct stack_counter c[256];
	uint32_t n = ops->counters(h[i].st, c, 256);

	for (uint32_t k = 0; k < n && k < 256; k++)
		if (!strcmp(c[k].name, name))
			return c[k].value;
	printf("not ok - no counter %s\n", name);
	failures++;
	return 0;
}

#endif
