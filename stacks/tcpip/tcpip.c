/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcpip.c - the stack as an object: life, poll loop, calls by protocol, counters
 *
 * One object serves all ports of a worker. Everything it needs hangs off struct tcpip; there is
 * no file-level state. Time is read by the caller of poll() and passed in; a call between polls
 * takes the clock itself.
 *
 * A poll takes bursts from every queue, gives each packet to ip_input(), and after each burst lets
 * the transports do what the packets asked for (acknowledge, send, report) once per connection.
 * What goes out is handed to the drivers with one flush at the end.
 *
 * Threads: under the worker's lock. Not here: protocols, drivers, waiting.
 */
#include "tcpip_internal.h"

#include <linux/tcp.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define RX_BURST 64u
#define POLL_BUDGET 512u /* frames taken in by one poll */

static struct tcpip *tcpip_of(struct stack *st)
{
	return (struct tcpip *)st;
}

struct netcfg *tcpip_netcfg(struct stack *st)
{
	return tcpip_of(st)->nc;
}

uint64_t tcpip_clock(struct tcpip *t)
{
	struct timespec ts;
	uint64_t now;

	if (t->cfg.clock) {
		now = t->cfg.clock(t->cfg.clock_arg);
	} else {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
	}
	if (now > t->now)
		t->now = now;
	return t->now;
}

uint32_t tcpip_random(struct tcpip *t)
{
	/* xorshift64* */
	t->rng ^= t->rng >> 12;
	t->rng ^= t->rng << 25;
	t->rng ^= t->rng >> 27;
	return (uint32_t)(t->rng * 0x2545f4914f6cdd1dull >> 32);
}

/* --- keyed hash ------------------------------------------------------------------------------ */

static inline uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

#define SIP_ROUND                                                                                  \
	do {                                                                                       \
		v0 += v1; v1 = rotl(v1, 13); v1 ^= v0; v0 = rotl(v0, 32);                          \
		v2 += v3; v3 = rotl(v3, 16); v3 ^= v2;                                             \
		v0 += v3; v3 = rotl(v3, 21); v3 ^= v0;                                             \
		v2 += v1; v1 = rotl(v1, 17); v1 ^= v2; v2 = rotl(v2, 32);                          \
	} while (0)

uint64_t tcpip_hash(const uint64_t key[2], const uint64_t *w, uint32_t n)
{
	uint64_t v0 = key[0] ^ 0x736f6d6570736575ull, v1 = key[1] ^ 0x646f72616e646f6dull;
	uint64_t v2 = key[0] ^ 0x6c7967656e657261ull, v3 = key[1] ^ 0x7465646279746573ull;

	for (uint32_t i = 0; i < n; i++) {
		v3 ^= w[i];
		SIP_ROUND;
		v0 ^= w[i];
	}
	v3 ^= (uint64_t)n << 59;
	SIP_ROUND;
	v0 ^= (uint64_t)n << 59;
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

/* --- held ports ------------------------------------------------------------------------------ */

#define PORT_BUCKETS 1024u

struct port_ref {
	struct port_ref *next;
	struct nst_addr local;
	uint32_t refs;
	uint8_t proto;
};

static struct port_ref **port_bucket(struct tcpip *t, const struct nst_addr *a)
{
	/* the claim is by port in the first place: few addresses share one */
	return &t->port_hash[(uint32_t)(a->port * 0x9e3779b1u) >> 22 & (PORT_BUCKETS - 1)];
}

struct port_ref *tcpip_port_get(struct tcpip *t, uint8_t proto, const struct nst_addr *local)
{
	struct port_ref **b = port_bucket(t, local), *p;

	for (p = *b; p; p = p->next)
		if (p->proto == proto && p->local.port == local->port &&
		    nst_addr_same_ip(&p->local, local)) {
			p->refs++;
			return p;
		}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->local = *local;
	p->proto = proto;
	p->refs = 1;
	p->next = *b;
	*b = p;
	if (t->env->port_hold)
		t->env->port_hold(t->env, proto, &p->local);
	return p;
}

void tcpip_port_put(struct tcpip *t, struct port_ref *p)
{
	struct port_ref **pp;

	if (!p || --p->refs)
		return;
	for (pp = port_bucket(t, &p->local); *pp != p; pp = &(*pp)->next)
		;
	*pp = p->next;
	if (t->env->port_release)
		t->env->port_release(t->env, p->proto, &p->local);
	free(p);
}

static void port_exit(struct tcpip *t)
{
	for (uint32_t i = 0; t->port_hash && i < PORT_BUCKETS; i++)
		while (t->port_hash[i]) {
			t->port_hash[i]->refs = 1;
			tcpip_port_put(t, t->port_hash[i]);
		}
	free(t->port_hash);
}

/* --- life ------------------------------------------------------------------------------------ */

static void tcpip_destroy(struct stack *st)
{
	struct tcpip *t = tcpip_of(st);

	if (!t)
		return;
	tcpip_clock(t);
	ping_exit(t);
	if (t->tcp)
		tcp_exit(t);
	if (t->udp)
		udp_exit(t);
	ip_flush(t);
	ip_exit(t);
	port_exit(t);
	if (t->nc_own)
		netcfg_close(t->nc);
	free(t->sock);
	free(t->sock_proto);
	free(t);
}

static void tcpip_on_change(void *arg, unsigned what)
{
	struct tcpip *t = arg;

	ip_on_change(t, what);
	tcp_on_change(t, what);
}

static int tcpip_secrets(struct tcpip *t)
{
	if (getrandom(t->secret, sizeof(t->secret), 0) != (ssize_t)sizeof(t->secret))
		return -EIO;
	if (t->cfg.secret) {
		memcpy(t->secret, t->cfg.secret, 16);
		memcpy(t->secret + 2, t->cfg.secret, 16);
		t->secret[2] ^= 0x5bd1e995;
	}
	t->cfg.secret = NULL; /* the caller's memory */
	t->rng = tcpip_hash(t->secret, t->secret, 4) | 1;
	return 0;
}

static int tcpip_create(struct stack **out, struct stack_env *env, const void *config)
{
	struct tcpip *t = calloc(1, sizeof(*t));
	struct shm_region_stats rs;
	int err = -ENOMEM;

	*out = NULL;
	if (!t)
		return -ENOMEM;
	t->env = env;
	t->region = env->region;
	if (config)
		t->cfg = *(const struct tcpip_config *)config;
	tcpip_clock(t);
	wheel_init(&t->wheel, t->now);
	shm_region_stats(t->region, &rs);
	t->sock = calloc(rs.sessions, sizeof(*t->sock));
	t->sock_proto = calloc(rs.sessions, 1);
	t->port_hash = calloc(PORT_BUCKETS, sizeof(*t->port_hash));
	if (!t->sock || !t->sock_proto || !t->port_hash)
		goto fail;
	err = tcpip_secrets(t);
	if (err)
		goto fail;
	t->nc = t->cfg.netcfg;
	if (!t->nc) {
		err = netcfg_open(&t->nc);
		if (err)
			goto fail;
		t->nc_own = true;
	}
	netcfg_on_change(t->nc, tcpip_on_change, t);
	netcfg_on_neigh(t->nc, ip_on_neigh, t);
	err = ip_init(t);
	if (!err)
		err = tcp_init(t);
	if (!err)
		err = udp_init(t);
	if (err)
		goto fail;
	*out = (struct stack *)t;
	return 0;
fail:
	tcpip_destroy((struct stack *)t);
	return err;
}

static int tcpip_add_port(struct stack *st, struct hal_port *port)
{
	return ip_add_port(tcpip_of(st), port);
}

static int tcpip_set_port(struct stack *st, unsigned ifindex, struct hal_port *port)
{
	return ip_set_port(tcpip_of(st), ifindex, port);
}

/* --- work ------------------------------------------------------------------------------------ */

static uint32_t poll_queue(struct tcpip *t, struct tcpip_port *port, uint32_t q, uint32_t budget)
{
	struct hal_frame f[RX_BURST];
	uint32_t total = 0, n, i, j;

	while (total < budget) {
		n = hal_rx_burst(port->hal, q, f, RX_BURST);
		if (!n)
			break;
		for (i = 0; i < n; i = j) {
			for (j = i + 1; j < n && (f[j - 1].flags & HAL_F_MORE); j++)
				;
			ip_input(t, port, f + i, j - i);
		}
		hal_rx_release(port->hal, q, f, n);
		tcp_work(t);
		udp_work(t);
		total += n;
		if (n < RX_BURST / 2) /* the queue is nearly empty: see to the others */
			break;
	}
	return total;
}

static uint32_t tcpip_poll(struct stack *st, uint64_t now)
{
	struct tcpip *t = tcpip_of(st);
	uint32_t total = 0;

	if (now > t->now)
		t->now = now;
	t->in_poll = true;
	tcp_ack_late(t);
	for (uint32_t i = 0; i < t->nports; i++) {
		struct tcpip_port *port = t->ports[i];

		for (uint32_t q = 0; port->hal && q < port->hal->nqueues; q++)
			total += poll_queue(t, port, q, POLL_BUDGET);
	}
	wheel_run(&t->wheel, t->now, t);
	netcfg_process(t->nc, t->now);
	tcp_work(t);
	udp_work(t);
	t->in_poll = false;
	ip_flush(t);
	COUNT(t, polls);
	if (!total)
		COUNT(t, polls_idle);
	return total;
}

static uint64_t tcpip_deadline(struct stack *st)
{
	struct tcpip *t = tcpip_of(st);
	uint64_t at = wheel_next(&t->wheel), late = tcp_ack_late_due(t);

	if (late < at)
		at = late;
	for (uint32_t i = 0; i < t->nports; i++) {
		struct hal_port *hal = t->ports[i]->hal;

		for (uint32_t q = 0; hal && hal->ops->next_due && q < hal->nqueues; q++) {
			uint64_t due = hal_next_due(hal, q);

			if (due < at)
				at = due;
		}
	}
	return at;
}

static int tcpip_ctl_fd(struct stack *st)
{
	return netcfg_fd(tcpip_of(st)->nc);
}

/* --- calls on sessions ------------------------------------------------------------------------ */

/* Every call from outside sets the time and puts connections on the work list. The work is done by
 * flush or poll: so what a program writes in several calls, or writes and closes, can share a
 * segment. */
static struct tcpip *call_begin(struct stack *st)
{
	struct tcpip *t = tcpip_of(st);

	tcpip_clock(t);
	return t;
}

static void op_flush(struct stack *st)
{
	struct tcpip *t = tcpip_of(st);

	tcp_work(t);
	udp_work(t);
	ip_flush(t);
}

static bool is_tcp(struct stack *st, const struct shm_session *s)
{
	struct tcpip *t = tcpip_of(st);

	uint32_t sid = shm_session_index(t->region, s);

	if (!t->sock[sid]) /* never opened: nothing is behind it */
		return s->proto == IPPROTO_TCP;
	return t->sock_proto[sid] == IPPROTO_TCP;
}

static int op_open(struct stack *st, struct shm_session *s)
{
	struct tcpip *t = tcpip_of(st);

	return s->proto == IPPROTO_TCP ? tcp_open(t, s) : udp_open(t, s);
}

static int op_bind(struct stack *st, struct shm_session *s, const struct nst_addr *local)
{
	struct tcpip *t = tcpip_of(st);

	return is_tcp(st, s) ? tcp_bind(t, s, local) : udp_bind(t, s, local);
}

static int op_listen(struct stack *st, struct shm_session *s, int backlog)
{
	return is_tcp(st, s) ? tcp_listen(tcpip_of(st), s, backlog) : -EOPNOTSUPP;
}

static void op_listen_pause(struct stack *st, struct shm_session *s)
{
	if (is_tcp(st, s))
		tcp_listen_pause(tcpip_of(st), s);
}

static int op_listen_move(struct stack *st, struct shm_session *from, struct shm_session *to)
{
	return is_tcp(st, from) && is_tcp(st, to) ? tcp_listen_move(tcpip_of(st), from, to) : -EINVAL;
}

static int op_connect(struct stack *st, struct shm_session *s, const struct nst_addr *remote)
{
	struct tcpip *t = call_begin(st);
	int err = is_tcp(st, s) ? tcp_connect(t, s, remote) : udp_connect(t, s, remote);

	return err;
}

static int op_disconnect(struct stack *st, struct shm_session *s)
{
	return is_tcp(st, s) ? -EOPNOTSUPP : udp_disconnect(tcpip_of(st), s);
}

static void op_tx_ready(struct stack *st, struct shm_session *s, uint32_t flags)
{
	struct tcpip *t = call_begin(st);

	if (is_tcp(st, s))
		tcp_tx_ready(t, s, flags);
	else
		udp_tx_ready(t, s, flags);
}

static void op_rx_freed(struct stack *st, struct shm_session *s)
{
	struct tcpip *t = call_begin(st);

	if (is_tcp(st, s))
		tcp_rx_freed(t, s);
	else
		udp_rx_freed(t, s);
}

static int op_shutdown(struct stack *st, struct shm_session *s, int how)
{
	struct tcpip *t = call_begin(st);
	int err = is_tcp(st, s) ? tcp_shutdown(t, s, how) : udp_shutdown(t, s, how);

	return err;
}

static void op_close(struct stack *st, struct shm_session *s, int linger_s)
{
	struct tcpip *t = call_begin(st);

	if (is_tcp(st, s))
		tcp_close(t, s, linger_s);
	else
		udp_close(t, s);
}

static int op_image(struct stack *st, struct shm_session *s, struct stack_tcp_image *out)
{
	return is_tcp(st, s) ? tcp_image(call_begin(st), s, out) : -EOPNOTSUPP;
}

static void op_moved(struct stack *st, struct shm_session *s)
{
	tcp_moved(call_begin(st), s);
}

static int op_move(struct stack *st, struct shm_session *from, struct shm_session *to)
{
	struct tcpip *t = call_begin(st);

	return is_tcp(st, from) ? tcp_session_move(t, from, to) : udp_session_move(t, from, to);
}

static int op_setopt(struct stack *st, struct shm_session *s, int opt, const void *v, uint32_t len)
{
	struct tcpip *t = call_begin(st);
	int err = is_tcp(st, s) ? tcp_setopt(t, s, opt, v, len) : udp_setopt(t, s, opt, v, len);

	return err;
}

static int op_getopt(struct stack *st, struct shm_session *s, int opt, void *v, uint32_t *len)
{
	struct tcpip *t = tcpip_of(st);

	return is_tcp(st, s) ? tcp_getopt(t, s, opt, v, len) : udp_getopt(t, s, opt, v, len);
}

static int op_tcp_info(struct stack *st, struct shm_session *s, struct tcp_info *out)
{
	return is_tcp(st, s) ? tcp_get_info(call_begin(st), s, out) : -ENOPROTOOPT;
}

static int op_join(struct stack *st, struct shm_session *s, const struct nst_addr *group,
		   unsigned ifindex, bool leave)
{
	return is_tcp(st, s) ? -EOPNOTSUPP : udp_join(tcpip_of(st), s, group, ifindex, leave);
}

static int op_route(struct stack *st, const struct nst_addr *remote, const struct nst_addr *bound,
		    struct stack_route *out)
{
	struct tcpip *t = call_begin(st);
	const struct netcfg_link *l;
	struct ip_dst *d;
	int err = 0;

	/* the kernel's routing of IPv6 does not look whose source address it is */
	if (bound && !nst_addr_is_any(bound) && !netcfg_is_local(t->nc, bound))
		return -EADDRNOTAVAIL;
	d = ip_dst_get(t, remote, bound, 0, &err);
	if (!d)
		return err;
	if (d->rt.type != NETCFG_RT_UNICAST)
		err = -EADDRNOTAVAIL;
	out->src = d->src;
	out->src.port = 0;
	out->ifindex = d->rt.ifindex;
	out->resolved = ip_dst_check(t, d) == 0 && d->mac_ok;
	out->mtu = d->mtu;
	l = netcfg_link(t->nc, d->rt.ifindex);
	out->link_mtu = l ? l->mtu : d->mtu;
	ip_dst_put(t, d);
	return err;
}

void tcpip_tune(struct stack *st, uint32_t max_timewait, bool no_syncookies)
{
	struct tcpip *t = tcpip_of(st);

	t->cfg.max_timewait = max_timewait;
	t->cfg.no_syncookies = no_syncookies;
	tcp_tw_limit(t);
}

/* --- pings ------------------------------------------------------------------------------------ */

static int op_ping_open(struct stack *st, struct stack_ping *p)
{
	return ping_open(call_begin(st), p);
}

static int op_ping_send(struct stack *st, uint16_t id, uint16_t *seq)
{
	return ping_send(call_begin(st), id, seq);
}

static uint32_t op_ping_answers(struct stack *st, uint16_t id, struct stack_ping_answer *out, uint32_t n)
{
	return ping_answers(tcpip_of(st), id, out, n);
}

static void op_ping_close(struct stack *st, uint16_t id)
{
	ping_close(tcpip_of(st), id);
}

/* --- observation ------------------------------------------------------------------------------ */

#define CURSOR_TCP (1ull << 63)

/* First UDP's sockets, with UDP's cursor, then TCP's. */
static uint32_t op_sockets(struct stack *st, struct stack_sock_info *out, uint32_t n,
			   uint64_t *cursor)
{
	struct tcpip *t = call_begin(st);
	uint32_t got = 0;

	if (*cursor == UINT64_MAX)
		return 0;
	if (!(*cursor & CURSOR_TCP)) {
		got = udp_sockets(t, out, n, cursor);
		if (*cursor == UINT64_MAX || got < n)
			*cursor = CURSOR_TCP;
	}
	if (got < n && (*cursor & CURSOR_TCP) && *cursor != UINT64_MAX) {
		uint64_t c = *cursor & ~CURSOR_TCP;

		got += tcp_sockets(t, out + got, n - got, &c);
		*cursor = c == UINT64_MAX ? c : c | CURSOR_TCP;
	}
	return got;
}

static int op_info(struct stack *st, struct shm_session *s, struct stack_sock_info *out)
{
	struct tcpip *t = tcpip_of(st);

	return is_tcp(st, s) ? tcp_sock_info(t, s, out) : udp_sock_info(t, s, out);
}

static uint32_t op_counters(struct stack *st, struct stack_counter *out, uint32_t n)
{
	struct tcpip *t = tcpip_of(st);
	uint32_t i = 0;

#define X(field)                                                                                   \
	if (i < n)                                                                                 \
		out[i] = (struct stack_counter){ #field, t->cnt.field };                           \
	i++;
	TCPIP_COUNTERS(X)
#undef X
	return i;
}

static void op_flows(struct stack *st, void (*fn)(void *arg, uint8_t proto,
						  const struct nst_addr *local,
						  const struct nst_addr *remote), void *arg)
{
	tcp_flows(tcpip_of(st), fn, arg);
	udp_flows(tcpip_of(st), fn, arg);
	ping_flows(tcpip_of(st), fn, arg);
}

const struct stack_ops tcpip_stack_ops = {
	.name = "tcpip",
	.create = tcpip_create,
	.destroy = tcpip_destroy,
	.add_port = tcpip_add_port,
	.set_port = tcpip_set_port,
	.poll = tcpip_poll,
	.flush = op_flush,
	.deadline = tcpip_deadline,
	.ctl_fd = tcpip_ctl_fd,
	.open = op_open,
	.bind = op_bind,
	.listen = op_listen,
	.listen_pause = op_listen_pause,
	.listen_move = op_listen_move,
	.connect = op_connect,
	.disconnect = op_disconnect,
	.tx_ready = op_tx_ready,
	.rx_freed = op_rx_freed,
	.shutdown = op_shutdown,
	.close = op_close,
	.image = op_image,
	.moved = op_moved,
	.move = op_move,
	.setopt = op_setopt,
	.getopt = op_getopt,
	.tcp_info = op_tcp_info,
	.join = op_join,
	.route = op_route,
	.ping_open = op_ping_open,
	.ping_send = op_ping_send,
	.ping_answers = op_ping_answers,
	.ping_close = op_ping_close,
	.sockets = op_sockets,
	.info = op_info,
	.counters = op_counters,
	.flows = op_flows,
};
