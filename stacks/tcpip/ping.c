/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/ping.c - echo requests that we send, and what answers them
 *
 * A ping is an id, a destination and its last requests. An answer counts if its addresses, id, number, length and
 * cookie (the first bytes of the payload, a keyed hash) are those of such a request: who has not seen the request
 * can't make one up. Answers wait for whoever asks for them, as many as there are requests remembered.
 *
 * RFC 792 and RFC 4443, 4.1 and 4.2. Threads: under the worker's lock. Not here: answering requests of others (the
 * kernel does), errors about ours (it gets them, too).
 */
#include "tcpip_internal.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>

#define HDR 8u
#define WINDOW 64u /* requests of a ping that may be answered yet */

struct request {
	uint64_t at; /* when it was sent, 0 = none */
	uint16_t seq;
	bool answered;
};

struct ping {
	struct ping *next;
	struct nst_addr local, remote; /* local.port is the id */
	struct ip_dst *dst;
	uint64_t opened;
	uint64_t unreachable;          /* the neighbour's failure that was reported last */
	uint32_t size;                 /* bytes of payload */
	uint16_t seq;                  /* of the last request, host byte order */
	struct request request[WINDOW]; /* by seq */
	uint32_t first, n;             /* of answer[] */
	struct stack_ping_answer answer[WINDOW];
};

static struct ping *ping_find(struct tcpip *t, uint16_t id)
{
	struct ping *p = t->pings;

	while (p && p->local.port != id)
		p = p->next;
	return p;
}

static uint64_t cookie(struct tcpip *t, const struct ping *p, uint16_t seq)
{
	uint64_t w[2] = { p->opened, (uint64_t)p->local.port << 16 | seq };

	return tcpip_hash(t->secret, w, 2);
}

/* --- life ---------------------------------------------------------------------------------------- */

/* How to get there, from an address that stays. */
static int ping_route(struct tcpip *t, struct ping *p, struct stack_ping *o)
{
	struct ip_dst *d;
	int err = 0;

	if (!nst_addr_is_any(&o->local) && !netcfg_is_local(t->nc, &o->local))
		return -EADDRNOTAVAIL;
	d = ip_dst_get(t, &o->remote, &o->local, o->ifindex, &err);
	if (!d)
		return err;
	if (d->rt.type == NETCFG_RT_UNICAST)
		p->dst = ip_dst_get(t, &o->remote, &d->src, o->ifindex, &err);
	else
		err = -EADDRNOTAVAIL;
	ip_dst_put(t, d);
	return err;
}

static uint16_t id_free(struct tcpip *t)
{
	uint16_t id;

	do
		id = (uint16_t)tcpip_random(t);
	while (!id || ping_find(t, id));
	return id;
}

int ping_open(struct tcpip *t, struct stack_ping *o)
{
	uint32_t n = 0, max;
	struct ping *p;
	int err;

	for (p = t->pings; p; p = p->next)
		n++;
	if (n >= STACK_PINGS)
		return -EMFILE;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	err = ping_route(t, p, o);
	if (err) {
		free(p);
		return err;
	}
	max = p->dst->mtu - p->dst->l3_len - HDR;
	if (o->size < STACK_PING_MIN || o->size > max) {
		o->size = max;
		ip_dst_put(t, p->dst);
		free(p);
		return -EMSGSIZE;
	}
	p->remote = o->remote;
	p->remote.port = 0;
	p->local = p->dst->src;
	p->local.port = id_free(t);
	p->opened = p->unreachable = t->now;
	p->size = o->size;
	p->next = t->pings;
	t->pings = p;
	o->local = p->local;
	o->ifindex = p->dst->rt.ifindex;
	return 0;
}

void ping_close(struct tcpip *t, uint16_t id)
{
	struct ping **pp = &t->pings, *p;

	while (*pp && (*pp)->local.port != id)
		pp = &(*pp)->next;
	p = *pp;
	if (!p)
		return;
	*pp = p->next;
	ip_dst_put(t, p->dst);
	free(p);
}

void ping_exit(struct tcpip *t)
{
	while (t->pings)
		ping_close(t, t->pings->local.port);
}

void ping_flows(struct tcpip *t, void (*fn)(void *arg, uint8_t proto, const struct nst_addr *local,
					    const struct nst_addr *remote), void *arg)
{
	for (struct ping *p = t->pings; p; p = p->next)
		fn(arg, IPPROTO_ICMP, &p->local, &p->remote);
}

/* --- out ----------------------------------------------------------------------------------------- */

int ping_send(struct tcpip *t, uint16_t id, uint16_t *seq)
{
	struct ping *p = ping_find(t, id);
	uint16_t seq_be;
	struct ip_out o;
	uint64_t c;
	int err;

	if (!p)
		return -ENOENT;
	*seq = ++p->seq; /* also one that can't be sent has a number */
	p->request[*seq % WINDOW].at = 0;
	err = ip_out_begin(t, p->dst, &o);
	if (err)
		return err;
	if (o.room < HDR + p->size) { /* the path takes less than it did, or the driver's frames do */
		ip_out_cancel(t, &o);
		return -EMSGSIZE;
	}
	seq_be = htons(*seq);
	c = cookie(t, p, *seq);
	memset(o.l4, 0, HDR);
	o.l4[0] = p->remote.family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	memcpy(o.l4 + 4, &p->local.port, 2);
	memcpy(o.l4 + 6, &seq_be, 2);
	memcpy(o.l4 + HDR, &c, sizeof(c));
	for (uint32_t i = sizeof(c); i < p->size; i++)
		o.l4[HDR + i] = (uint8_t)i;
	p->request[*seq % WINDOW] = (struct request){ .at = t->now, .seq = *seq };
	icmp_send(t, &o, HDR + p->size);
	COUNT(t, ping_out);
	return 0;
}

/* --- in ------------------------------------------------------------------------------------------ */

static struct ping *ping_of(struct tcpip *t, const struct ip_pkt *pkt, uint16_t id)
{
	struct ping *p = ping_find(t, id);

	return p && nst_addr_same_ip(&p->local, &pkt->dst) && nst_addr_same_ip(&p->remote, &pkt->src) ? p : NULL;
}

void ping_answer(struct tcpip *t, const struct ip_pkt *pkt)
{
	struct { uint8_t type, code; uint16_t sum, id, seq_be; uint64_t cookie; } h;
	struct request *r;
	struct ping *p;
	uint64_t want;

	_Static_assert(sizeof(h) == HDR + STACK_PING_MIN, "as on the wire");
	if (ip_pkt_copy(pkt, 0, &h, sizeof(h)) < sizeof(h)) {
		COUNT(t, icmp_bad);
		return;
	}
	p = ping_of(t, pkt, h.id);
	if (!p) {
		COUNT(t, icmp_ignored);
		return;
	}
	r = &p->request[ntohs(h.seq_be) % WINDOW];
	want = cookie(t, p, r->seq);
	if (!r->at || r->seq != ntohs(h.seq_be) || h.cookie != want || pkt->l4_len != HDR + p->size) {
		COUNT(t, icmp_bad);
		return;
	}
	COUNT(t, ping_in);
	if (p->n == WINDOW) {
		COUNT(t, ping_full);
		return;
	}
	p->answer[(p->first + p->n++) % WINDOW] = (struct stack_ping_answer){
		.seq = r->seq, .ttl = pkt->ttl, .again = r->answered, .bytes = pkt->l4_len, .rtt_ns = t->now - r->at,
	};
	r->answered = true;
	ip_dst_confirm(t, p->dst);
}

uint32_t ping_answers(struct tcpip *t, uint16_t id, struct stack_ping_answer *out, uint32_t n)
{
	struct ping *p = ping_find(t, id);
	uint32_t got = 0;

	if (!p)
		return 0;
	for (; got < n && p->n; p->n--) {
		out[got++] = p->answer[p->first];
		p->first = (p->first + 1) % WINDOW;
	}
	if (got < n && p->dst->neigh_failed > p->unreachable) {
		p->unreachable = p->dst->neigh_failed;
		out[got++] = (struct stack_ping_answer){ .seq = p->seq, .unreachable = true };
	}
	return got;
}
