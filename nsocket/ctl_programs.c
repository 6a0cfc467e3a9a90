/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_programs.c - a daemon's answer to who is attached to it
 *
 * Threads: that of ctl_server_run().
 */
#define _GNU_SOURCE
#include "ctl_internal.h"

#include <stdlib.h>
#include <time.h>

#define PROGRAMS_PER_PART 8u /* each may list a hundred ports or so: a message has a bound */
#define PORTS (sizeof(((struct ctl_program *)0)->port) / sizeof(struct ctl_program_port))

static uint64_t age_ms(uint64_t since_ns)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 - since_ns / 1000000;
}

static void put_ports(cJSON *o, const struct ctl_program *p)
{
	cJSON *list = cJSON_AddArrayToObject(o, "listens");
	char addr[NST_ADDRSTRLEN];

	for (uint32_t i = 0; i < p->nport && i < PORTS; i++) {
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "proto", p->port[i].proto == IPPROTO_TCP ? "tcp" : "udp");
		cJSON_AddStringToObject(item, "local", nst_addr_str(&p->port[i].local, addr));
		ctl_put_u64(item, "port", be16toh(p->port[i].local.port));
		cJSON_AddItemToArray(list, item);
	}
	ctl_put_u64(o, "listens_more", p->nport > PORTS ? p->nport - PORTS : 0);
}

static cJSON *program_json(const struct ctl_program *p)
{
	cJSON *o = cJSON_CreateObject();

	ctl_put_u64(o, "pid", (uint64_t)p->pid);
	ctl_put_u64(o, "uid", p->uid);
	cJSON_AddStringToObject(o, "program", p->name);
	cJSON_AddStringToObject(o, "label", p->label);
	cJSON_AddStringToObject(o, "state", p->state);
	cJSON_AddBoolToObject(o, "asleep", p->asleep);
	ctl_put_u64(o, "uptime_ms", age_ms(p->since_ns));
	ctl_put_u64(o, "sessions_used", p->sessions);
	ctl_put_u64(o, "sessions", p->sessions_max);
	ctl_put_u64(o, "listeners", p->listeners);
	ctl_put_u64(o, "connections", p->connections);
	ctl_put_u64(o, "datagram", p->datagram);
	ctl_put_u64(o, "ports_used", p->ports);
	ctl_put_u64(o, "ports", p->ports_max);
	ctl_put_u64(o, "memory_bytes", p->memory_bytes);
	ctl_put_u64(o, "messages", p->messages);
	ctl_put_u64(o, "notifications", p->notifications);
	ctl_put_u64(o, "packets_in", p->packets_in);
	ctl_put_u64(o, "packets_out", p->packets_out);
	ctl_put_u64(o, "bytes_in", p->bytes_in);
	ctl_put_u64(o, "bytes_out", p->bytes_out);
	put_ports(o, p);
	return o;
}

static int part(struct ctl_server *s, struct ctl_client *c)
{
	struct ctl_program *p = calloc(PROGRAMS_PER_PART, sizeof(*p));
	cJSON *r = ctl_reply_new(true), *list = cJSON_AddArrayToObject(r, "programs");
	uint32_t n = p ? s->ops->programs(s->arg, p, PROGRAMS_PER_PART, &c->cursor) : 0;

	for (uint32_t i = 0; i < n; i++)
		cJSON_AddItemToArray(list, program_json(&p[i]));
	free(p);
	cJSON_AddBoolToObject(r, "more", n > 0);
	c->stream = n ? part : NULL;
	return ctl_client_reply(c, r);
}

int ctl_op_programs(struct ctl_request *q)
{
	if (!q->s->ops->programs)
		return ctl_reply_error(q->c, "this process serves no programs");
	q->c->cursor = 0;
	return part(q->s, q->c);
}
