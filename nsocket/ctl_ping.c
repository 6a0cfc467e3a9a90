/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_ping.c - a client has the stack ping a host
 *
 * One ping for each client, until its connection ends. The client says when each request is to be sent and asks for
 * the answers: here is no clock.
 *
 * Threads: that of ctl_server_run().
 */
#define _GNU_SOURCE
#include "ctl_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ANSWERS_PER_PART 64u

/* True: it is an address, or not given. */
static bool address(const cJSON *request, const char *key, struct nst_addr *out)
{
	const char *text = ctl_get_str(request, key);

	if (!text)
		return true;
	out->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(out->family, text, out->v6) == 1;
}

static int read_request(const cJSON *request, struct ctl_ping *p)
{
	const char *ifname = ctl_get_str(request, "interface");

	*p = (struct ctl_ping){ .stack.size = (uint32_t)ctl_get_u64(request, "size") };
	if (!address(request, "to", &p->stack.remote) || !p->stack.remote.family ||
	    !address(request, "from", &p->stack.local))
		return -EINVAL;
	if (p->stack.local.family && p->stack.local.family != p->stack.remote.family)
		return -EINVAL;
	p->stack.local.family = p->stack.remote.family;
	if (ifname && strlen(ifname) >= sizeof(p->ifname))
		return -EINVAL;
	snprintf(p->ifname, sizeof(p->ifname), "%s", ifname ? ifname : "");
	return 0;
}

int ctl_op_ping_start(struct ctl_request *q)
{
	char why[256] = "", text[INET6_ADDRSTRLEN];
	struct ctl_ping p;
	cJSON *r;

	if (!q->s->ops->ping_start)
		return ctl_reply_error(q->c, "this process can't ping");
	if (q->c->pinging)
		return ctl_reply_error(q->c, "this connection has a ping already");
	if (read_request(q->json, &p))
		return ctl_reply_error(q->c, "\"to\" and \"from\" are addresses of one family");
	if (q->s->ops->ping_start(q->s->arg, &p, why))
		return ctl_reply_error(q->c, "%s", why);
	q->c->pinging = true;
	q->c->ping = p.stack;
	ctl_note(q->c, "ping to %s begins", inet_ntop(p.stack.remote.family, p.stack.remote.v6, text, sizeof(text)));
	r = ctl_reply_new(true);
	cJSON_AddStringToObject(r, "from", inet_ntop(p.stack.local.family, p.stack.local.v6, text, sizeof(text)));
	cJSON_AddStringToObject(r, "interface", p.ifname);
	ctl_put_u64(r, "id", ntohs(p.stack.local.port));
	return ctl_client_reply(q->c, r);
}

int ctl_op_ping_send(struct ctl_request *q)
{
	uint16_t seq = 0;
	cJSON *r;
	int ret;

	if (!q->c->pinging)
		return ctl_reply_error(q->c, "this connection has started no ping");
	ret = q->s->ops->ping_send(q->s->arg, &q->c->ping, &seq);
	r = ctl_reply_new(true);
	ctl_put_u64(r, "seq", seq);
	cJSON_AddStringToObject(r, "failed", ret ? strerror(-ret) : "");
	return ctl_client_reply(q->c, r);
}

static cJSON *answer_json(const struct stack_ping_answer *a)
{
	cJSON *o = cJSON_CreateObject();

	ctl_put_u64(o, "seq", a->seq);
	if (a->unreachable) {
		cJSON_AddBoolToObject(o, "unreachable", true);
		return o;
	}
	ctl_put_u64(o, "ttl", a->ttl);
	ctl_put_u64(o, "bytes", a->bytes);
	ctl_put_u64(o, "rtt_ns", a->rtt_ns);
	cJSON_AddBoolToObject(o, "again", a->again);
	return o;
}

int ctl_op_ping_answers(struct ctl_request *q)
{
	struct stack_ping_answer a[ANSWERS_PER_PART];
	cJSON *r, *list;
	uint32_t n;

	if (!q->c->pinging)
		return ctl_reply_error(q->c, "this connection has started no ping");
	n = q->s->ops->ping_answers(q->s->arg, &q->c->ping, a, ANSWERS_PER_PART);
	r = ctl_reply_new(true);
	list = cJSON_AddArrayToObject(r, "answers");
	for (uint32_t i = 0; i < n; i++)
		cJSON_AddItemToArray(list, answer_json(&a[i]));
	return ctl_client_reply(q->c, r);
}

void ctl_ping_stop(struct ctl_server *s, struct ctl_client *c)
{
	if (c->pinging)
		s->ops->ping_stop(s->arg, &c->ping);
	c->pinging = false;
}
