/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_reply.c - the questions a process answers, one function each
 *
 * Threads: that of ctl_server_run(). Not here: how messages travel (ctl_server.c).
 */
#define _GNU_SOURCE
#include "ctl_internal.h"

#include <errno.h>
#include <rd/config.h>
#include <rd/alarm.h>
#include <rd/log.h>
#include <rd/sys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SOCKETS_PER_PART 100u
#define COUNTERS_MAX 512u
#define REASONS_MAX 128u
#define ACCOUNTS_MAX 32u
#define QUEUES_SHOWN 8u

/* --- status ------------------------------------------------------------------------------------- */

static const struct { const char *name; size_t off; } queue_fields[] = {
#define Q(f) { #f, offsetof(struct hal_queue_stats, f) }
	Q(rx_packets), Q(rx_bytes), Q(rx_frames), Q(tx_packets), Q(tx_bytes), Q(tx_frames),
	Q(tx_super_packets), Q(tx_super_bytes), Q(rx_dropped), Q(rx_ring_full), Q(rx_fill_empty),
	Q(tx_invalid), Q(tx_ring_full), Q(tx_no_frame), Q(tx_errors), Q(tx_kicks), Q(rx_wakeups),
#undef Q
};
_Static_assert(sizeof(queue_fields) / sizeof(queue_fields[0]) * 8 == sizeof(struct hal_queue_stats),
	       "every counter is shown");

static const char *const cap_names[] = { "zero-copy", "multi-buffer", "tx-checksum",
					 "partial-rx-checksum", "super-frames", "need-wakeup",
					 "busy-poll", "rx-timestamp" };

static void put_queue(cJSON *o, const struct hal_queue_stats *st)
{
	for (size_t i = 0; i < sizeof(queue_fields) / sizeof(queue_fields[0]); i++) {
		uint64_t v;

		memcpy(&v, (const char *)st + queue_fields[i].off, sizeof(v));
		ctl_put_u64(o, queue_fields[i].name, v);
	}
}

/* The sum over all queues, and the first few one by one (a reply has a bound). */
static void put_queues(struct ctl_server *s, cJSON *o, const struct ctl_port *p)
{
	cJSON *list = cJSON_AddArrayToObject(o, "queue_stats");
	struct hal_queue_stats st, sum = { 0 };

	for (uint32_t q = 0; s->ops->queue_stats && q < p->nqueues; q++) {
		memset(&st, 0, sizeof(st));
		if (s->ops->queue_stats(s->arg, p->ifindex, q, &st))
			break;
		for (size_t i = 0; i < sizeof(st) / 8; i++)
			((uint64_t *)&sum)[i] += ((uint64_t *)&st)[i];
		if (q < QUEUES_SHOWN) {
			cJSON *item = cJSON_CreateObject();

			ctl_put_u64(item, "queue", q);
			put_queue(item, &st);
			cJSON_AddItemToArray(list, item);
		}
	}
	put_queue(cJSON_AddObjectToObject(o, "stats"), &sum);
}

static void put_ports(struct ctl_server *s, cJSON *r)
{
	struct ctl_port *port = calloc(NS_CONFIG_IFS, sizeof(*port));
	cJSON *list = cJSON_AddArrayToObject(r, "ports");
	uint32_t n = port && s->ops->ports ? s->ops->ports(s->arg, port, NS_CONFIG_IFS) : 0;

	for (uint32_t i = 0; i < n && i < NS_CONFIG_IFS; i++) {
		const struct ctl_port *p = &port[i];
		cJSON *o = cJSON_CreateObject(), *caps;

		cJSON_AddStringToObject(o, "ifname", p->ifname);
		ctl_put_u64(o, "ifindex", p->ifindex);
		cJSON_AddBoolToObject(o, "in_use", !p->why_not[0]);
		cJSON_AddStringToObject(o, "why_not", p->why_not);
		ctl_put_u64(o, "instance", p->instance);
		ctl_put_u64(o, "queues", p->nqueues);
		cJSON_AddStringToObject(o, "mode", p->mode);
		cJSON_AddStringToObject(o, "mode_why", p->mode_why);
		caps = cJSON_AddArrayToObject(o, "capabilities");
		for (unsigned b = 0; b < sizeof(cap_names) / sizeof(cap_names[0]); b++) {
			if (p->caps & (1u << b))
				cJSON_AddItemToArray(caps, cJSON_CreateString(cap_names[b]));
		}
		put_queues(s, o, p);
		cJSON_AddItemToArray(list, o);
	}
	free(port);
}

static void put_reasons(struct ctl_server *s, cJSON *r)
{
	struct ctl_reason *reason = calloc(REASONS_MAX, sizeof(*reason));
	cJSON *list = cJSON_AddArrayToObject(r, "kernel_reasons");
	uint32_t n = reason && s->ops->reasons ? s->ops->reasons(s->arg, reason, REASONS_MAX) : 0;

	for (uint32_t i = 0; i < n && i < REASONS_MAX; i++) {
		cJSON *o;

		if (!reason[i].count)
			continue;
		o = cJSON_CreateObject();
		cJSON_AddStringToObject(o, "name", reason[i].name);
		cJSON_AddStringToObject(o, "help", reason[i].help ? reason[i].help : "");
		ctl_put_u64(o, "count", reason[i].count);
		cJSON_AddItemToArray(list, o);
	}
	free(reason);
}

static void put_accounts(struct ctl_server *s, cJSON *r)
{
	struct stack_counter account[ACCOUNTS_MAX];
	cJSON *o = cJSON_AddObjectToObject(r, "accounts");
	uint32_t n = s->ops->accounts ? s->ops->accounts(s->arg, account, ACCOUNTS_MAX) : 0;

	for (uint32_t i = 0; i < n && i < ACCOUNTS_MAX; i++)
		ctl_put_u64(o, account[i].name, account[i].value);
}

static void put_hello(cJSON *r)
{
	ctl_put_u64(r, "version", CTL_PROTO_VERSION);
	ctl_put_u64(r, "pid", (uint64_t)getpid());
	ctl_put_u64(r, "uid", geteuid());
	cJSON_AddStringToObject(r, "program", program_invocation_short_name);
}

static int op_hello(struct ctl_request *q)
{
	cJSON *r = ctl_reply_new(true);

	put_hello(r);
	return ctl_client_reply(q->c, r);
}

static void put_rules_summary(cJSON *r)
{
	struct rd_rules *rules = malloc(sizeof(*rules));
	cJSON *o = cJSON_AddObjectToObject(r, "rules");

	if (!rules)
		return;
	rd_rules_current(rules);
	ctl_put_u64(o, "count", rules->n);
	ctl_put_u64(o, "generation", rules->generation);
	free(rules);
}

static void put_alarms(cJSON *r)
{
	cJSON *list = cJSON_AddArrayToObject(r, "alarms"), *o;
	struct ns_alarm_state s;

	for (int a = 0; a < NS_ALARM_NR_; a++) {
		if (!ns_alarm_get((enum ns_alarm)a, &s))
			continue;
		o = cJSON_CreateObject();
		cJSON_AddStringToObject(o, "name", s.name);
		cJSON_AddStringToObject(o, "severity", s.severity);
		cJSON_AddBoolToObject(o, "raised", s.raised);
		cJSON_AddStringToObject(o, "text", s.text);
		ctl_put_u64(o, "count", s.count);
		ctl_put_u64(o, "raised_s", s.raised_s);
		ctl_put_u64(o, "cleared_s", s.cleared_s);
		cJSON_AddItemToArray(list, o);
	}
}

static int op_status(struct ctl_request *q)
{
	struct ctl_server *s = q->s;
	struct ctl_status st = { 0 };
	cJSON *r = ctl_reply_new(true);
	struct timespec t;

	if (s->ops->status)
		s->ops->status(s->arg, &st);
	if (!st.fallback[0])
		ns_log_fallback_get(st.fallback, sizeof(st.fallback));
	clock_gettime(CLOCK_MONOTONIC, &t);
	put_hello(r);
	cJSON_AddBoolToObject(r, "running", st.stack_running);
	cJSON_AddStringToObject(r, "stack", st.stack);
	cJSON_AddStringToObject(r, "fallback", st.fallback);
	cJSON_AddStringToObject(r, "config", rd_config()->source);
	ctl_put_u64(r, "uptime_ms", st.start_ns ? ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000) -
		st.start_ns / 1000000 : 0);
	ctl_put_u64(r, "sockets_ours", st.sockets_ours);
	ctl_put_u64(r, "sockets_kernel", st.sockets_kernel);
	ctl_put_u64(r, "sessions", st.sessions);
	ctl_put_u64(r, "sessions_used", st.sessions_used);
	ctl_put_u64(r, "sessions_high", st.sessions_high);
	ctl_put_u64(r, "sessions_refused", st.sessions_refused);
	ctl_put_u64(r, "region_bytes", st.region_bytes);
	ctl_put_u64(r, "helper_ticks", st.helper_ticks);
	ctl_put_u64(r, "lock_contended", st.lock_contended);
	if (st.daemon)
		ctl_put_u64(r, "daemon", (uint64_t)st.daemon);
	if (st.programs_max) {
		ctl_put_u64(r, "programs", st.programs);
		ctl_put_u64(r, "programs_max", st.programs_max);
	}
	put_rules_summary(r);
	put_ports(s, r);
	put_reasons(s, r);
	put_accounts(s, r);
	if (s->ops->more_status) /* which may find that there is no reason for an alarm any more */
		s->ops->more_status(s->arg, r);
	put_alarms(r);
	return ctl_client_reply(q->c, r);
}

/* --- sockets and counters ------------------------------------------------------------------------ */

static const char *const tcp_states[] = { "", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1",
					  "FIN-WAIT-2", "TIME-WAIT", "CLOSE", "CLOSE-WAIT", "LAST-ACK",
					  "LISTEN", "CLOSING", "SYN-RECV" };

static const char *state_name(const struct stack_sock_info *i)
{
	if (i->proto != IPPROTO_TCP)
		return i->remote.family != AF_UNSPEC ? "ESTAB" : "UNCONN";
	return i->tcp_state < sizeof(tcp_states) / sizeof(tcp_states[0]) ? tcp_states[i->tcp_state] : "?";
}

static cJSON *socket_json(const struct stack_sock_info *i)
{
	cJSON *o = cJSON_CreateObject();
	char addr[NST_ADDRSTRLEN];

	cJSON_AddStringToObject(o, "proto", i->proto == IPPROTO_TCP ? "tcp" : "udp");
	cJSON_AddStringToObject(o, "state", state_name(i));
	cJSON_AddStringToObject(o, "local", i->local.family ? nst_addr_str(&i->local, addr) : "*:*");
	cJSON_AddStringToObject(o, "remote", i->remote.family ? nst_addr_str(&i->remote, addr) : "*:*");
	ctl_put_u64(o, "recv_q", i->recv_q);
	ctl_put_u64(o, "send_q", i->send_q);
	ctl_put_u64(o, "rtt_us", i->rtt_us);
	ctl_put_u64(o, "cwnd", i->cwnd);
	ctl_put_u64(o, "bytes_in", i->bytes_in);
	ctl_put_u64(o, "bytes_out", i->bytes_out);
	ctl_put_u64(o, "packets_in", i->packets_in);
	ctl_put_u64(o, "packets_out", i->packets_out);
	ctl_put_u64(o, "retrans", i->retrans);
	return o;
}

static void put_owner(struct ctl_server *s, cJSON *o, uint32_t session)
{
	struct ctl_owner w;

	if (!s->ops->owner || !s->ops->owner(s->arg, session, &w))
		return;
	ctl_put_u64(o, "pid", (uint64_t)w.pid);
	ctl_put_u64(o, "uid", w.uid);
	cJSON_AddStringToObject(o, "program", w.name);
	if (w.served_by)
		ctl_put_u64(o, "served_by", (uint64_t)w.served_by);
}

static uint32_t put_stack_sockets(struct ctl_server *s, struct ctl_client *c, cJSON *list)
{
	struct stack_sock_info *info = calloc(SOCKETS_PER_PART, sizeof(*info));
	uint32_t n = info ? s->ops->sockets(s->arg, info, SOCKETS_PER_PART, &c->cursor) : 0;

	for (uint32_t i = 0; i < n && i < SOCKETS_PER_PART; i++) {
		cJSON *o = socket_json(&info[i]);

		ctl_put_u64(o, "session", info[i].session);
		cJSON_AddStringToObject(o, "stack", "tcpip");
		put_owner(s, o, info[i].session);
		cJSON_AddItemToArray(list, o);
	}
	free(info);
	return n;
}

static uint32_t put_kernel_sockets(struct ctl_server *s, struct ctl_client *c, cJSON *list)
{
	struct ctl_kernel_socket *k = calloc(SOCKETS_PER_PART, sizeof(*k));
	uint32_t n = k && s->ops->kernel_sockets ?
		     s->ops->kernel_sockets(s->arg, k, SOCKETS_PER_PART, &c->cursor) : 0;

	for (uint32_t i = 0; i < n && i < SOCKETS_PER_PART; i++) {
		cJSON *o = socket_json(&k[i].info);

		ctl_put_u64(o, "fd", (uint64_t)k[i].fd);
		cJSON_AddStringToObject(o, "stack", k[i].stack ? k[i].stack : "kernel");
		if (k[i].reason)
			cJSON_AddStringToObject(o, "reason", k[i].reason);
		cJSON_AddItemToArray(list, o);
	}
	free(k);
	return n;
}

static int sockets_part(struct ctl_server *s, struct ctl_client *c)
{
	cJSON *r = ctl_reply_new(true), *list = cJSON_AddArrayToObject(r, "sockets");
	bool more = true;

	if (!c->kernel_part && !put_stack_sockets(s, c, list)) {
		c->kernel_part = true;
		c->cursor = 0;
	}
	if (c->kernel_part)
		more = put_kernel_sockets(s, c, list) > 0;
	cJSON_AddBoolToObject(r, "more", more);
	c->stream = more ? sockets_part : NULL;
	return ctl_client_reply(c, r);
}

static int op_sockets(struct ctl_request *q)
{
	if (!q->s->ops->sockets)
		return ctl_reply_error(q->c, "this process has no stack of its own");
	q->c->cursor = 0;
	q->c->kernel_part = false;
	return sockets_part(q->s, q->c);
}

static int op_counters(struct ctl_request *q)
{
	struct stack_counter *counter;
	cJSON *r, *o;
	uint32_t n;

	if (!q->s->ops->counters)
		return ctl_reply_error(q->c, "this process has no stack of its own");
	counter = calloc(COUNTERS_MAX, sizeof(*counter));
	if (!counter)
		return -ENOMEM;
	r = ctl_reply_new(true);
	put_hello(r);
	o = cJSON_AddObjectToObject(r, "counters");
	n = q->s->ops->counters(q->s->arg, counter, COUNTERS_MAX);
	for (uint32_t i = 0; i < n && i < COUNTERS_MAX; i++)
		ctl_put_u64(o, counter[i].name, counter[i].value);
	free(counter);
	return ctl_client_reply(q->c, r);
}

/* --- rules ------------------------------------------------------------------------------------------ */

static int op_rules_get(struct ctl_request *q)
{
	struct rd_rules *rules = malloc(sizeof(*rules));
	cJSON *r = ctl_reply_new(true);
	char *text;

	if (rules) {
		rd_rules_current(rules);
		text = rd_rules_text(rules);
		if (text)
			cJSON_AddStringToObject(r, "rules", text);
		ctl_put_u64(r, "generation", rules->generation);
		free(text);
	}
	free(rules);
	return ctl_client_reply(q->c, r);
}

static int op_rules_prepare(struct ctl_request *q)
{
	const char *text = ctl_get_str(q->json, "rules");
	struct rd_rules *rules;
	char err[RD_ERR];
	int pins = 0;
	cJSON *r;

	if (!text)
		return ctl_reply_error(q->c, "\"rules\" is missing");
	rules = malloc(sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	if (rd_rules_parse(text, strlen(text), "rules", rules, err)) {
		free(rules);
		return ctl_reply_error(q->c, "%s", err);
	}
	if (q->s->ops->pin_flows)
		pins = q->s->ops->pin_flows(q->s->arg);
	if (pins < 0) {
		free(rules);
		return ctl_reply_error(q->c, "established flows can't be pinned: %s", strerror(-pins));
	}
	free(q->c->pending);
	q->c->pending = rules;
	r = ctl_reply_new(true);
	ctl_put_u64(r, "pins", (uint64_t)pins);
	return ctl_client_reply(q->c, r);
}

static int op_rules_commit(struct ctl_request *q)
{
	cJSON *r;
	uint32_t n;
	int ret;

	if (!q->c->pending)
		return ctl_reply_error(q->c, "no rules were prepared");
	n = q->c->pending->n;
	ret = rd_rules_publish(q->c->pending);
	free(q->c->pending);
	q->c->pending = NULL;
	if (ret)
		return ctl_reply_error(q->c, "%s", strerror(-ret));
	if (q->s->ops->rules_changed)
		q->s->ops->rules_changed(q->s->arg);
	ctl_note(q->c, "%u rules in force", n);
	r = ctl_reply_new(true);
	ctl_put_u64(r, "generation", rd_rules_generation());
	return ctl_client_reply(q->c, r);
}

/* Again, while the steering programs take the new rules: connections of the meantime. */
static int op_flows_pin(struct ctl_request *q)
{
	int pins = q->s->ops->pin_flows ? q->s->ops->pin_flows(q->s->arg) : 0;
	cJSON *r;

	if (pins < 0)
		return ctl_reply_error(q->c, "established flows can't be pinned: %s", strerror(-pins));
	r = ctl_reply_new(true);
	ctl_put_u64(r, "pins", (uint64_t)pins);
	return ctl_client_reply(q->c, r);
}

static int op_rules_abort(struct ctl_request *q)
{
	free(q->c->pending);
	q->c->pending = NULL;
	return ctl_client_reply(q->c, ctl_reply_new(true));
}

/* What SIGHUP does for a daemon. */
static int op_reload(struct ctl_request *q)
{
	uint64_t before;
	cJSON *r;

	if (!rd_config()->rules_path)
		return ctl_reply_error(q->c, "the configuration names no rule file");
	before = rd_rules_generation();
	ctl_server_reload(q->s);
	if (rd_rules_generation() == before)
		return ctl_reply_error(q->c, "the old rules stay; its log says why");
	ctl_note(q->c, "rule file read again");
	r = ctl_reply_new(true);
	ctl_put_u64(r, "generation", rd_rules_generation());
	return ctl_client_reply(q->c, r);
}

/* --- capture ------------------------------------------------------------------------------------------ */

static int op_dump_start(struct ctl_request *q)
{
	struct ctl_dump opt = { .max_packets = ctl_get_u64(q->json, "packets"),
				.snaplen = (uint32_t)ctl_get_u64(q->json, "snaplen"),
				.port = (uint16_t)ctl_get_u64(q->json, "port") };
	const char *ifname = ctl_get_str(q->json, "ifname"), *proto = ctl_get_str(q->json, "proto");
	char why[256] = "";
	int ret, fd = q->fd;

	if (!q->s->ops->dump_start)
		return ctl_reply_error(q->c, "this process can't capture");
	if (fd < 0)
		return ctl_reply_error(q->c, "no descriptor came with the request");
	for (unsigned i = 0; i < CTL_CLIENTS; i++) {
		if (q->s->client[i].dumping)
			return ctl_reply_error(q->c, "another capture is running");
	}
	if (proto && proto[0])
		opt.proto = !strcmp(proto, "tcp") ? IPPROTO_TCP : IPPROTO_UDP;
	snprintf(opt.ifname, sizeof(opt.ifname), "%s", ifname ? ifname : "");
	q->fd = -1;
	ret = q->s->ops->dump_start(q->s->arg, fd, &opt, why);
	if (ret)
		return ctl_reply_error(q->c, "%s", why[0] ? why : strerror(-ret));
	q->c->dumping = true;
	ctl_note(q->c, "capture begins");
	return ctl_client_reply(q->c, ctl_reply_new(true));
}

static int op_dump_state(struct ctl_request *q)
{
	uint64_t packets = 0, lost = 0;
	cJSON *r;
	int state;

	if (!q->s->ops->dump_state)
		return ctl_reply_error(q->c, "this process can't capture");
	state = q->s->ops->dump_state(q->s->arg, &packets, &lost);
	r = ctl_reply_new(true);
	cJSON_AddBoolToObject(r, "running", state > 0);
	ctl_put_u64(r, "packets", packets);
	ctl_put_u64(r, "lost", lost);
	return ctl_client_reply(q->c, r);
}

static int op_dump_stop(struct ctl_request *q)
{
	uint64_t packets = 0, lost = 0;
	cJSON *r;

	if (!q->c->dumping || !q->s->ops->dump_stop)
		return ctl_reply_error(q->c, "this connection has started no capture");
	q->c->dumping = false;
	q->s->ops->dump_stop(q->s->arg, &packets, &lost);
	r = ctl_reply_new(true);
	ctl_put_u64(r, "packets", packets);
	ctl_put_u64(r, "lost", lost);
	return ctl_client_reply(q->c, r);
}

/* --- log ------------------------------------------------------------------------------------------------ */

static int op_log_get(struct ctl_request *q)
{
	uint64_t seq = ctl_get_u64(q->json, "seq");
	char *text = malloc(CTL_MSG_MAX / 4), path[320];
	cJSON *r;

	if (!text)
		return -ENOMEM;
	ns_log_ring_read(&seq, text, CTL_MSG_MAX / 4);
	ns_log_path(path, sizeof(path));
	r = ctl_reply_new(true);
	ctl_put_u64(r, "seq", seq);
	cJSON_AddStringToObject(r, "text", text);
	cJSON_AddStringToObject(r, "path", path);
	free(text);
	return ctl_client_reply(q->c, r);
}

static int op_log_level(struct ctl_request *q)
{
	const char *level = ctl_get_str(q->json, "level"), *module = ctl_get_str(q->json, "module");
	int l = level ? ns_log_level_parse(level) : -1;
	int m = module ? ns_log_module_parse(module) : NS_M_NR_;
	cJSON *r, *o;

	if (level && l < 0)
		return ctl_reply_error(q->c, "unknown level \"%.20s\"", level);
	if (m < 0)
		return ctl_reply_error(q->c, "unknown module \"%.20s\"", module);
	if (level) {
		ns_log_set_level((enum ns_log_module)m, (enum ns_log_level)l);
		ctl_note(q->c, "log level %s of %s", ns_log_level_name((enum ns_log_level)l),
			 module ? ns_log_module_name((enum ns_log_module)m) : "all modules");
	}
	r = ctl_reply_new(true);
	o = cJSON_AddObjectToObject(r, "levels");
	for (m = 0; m < NS_M_NR_; m++)
		cJSON_AddStringToObject(o, ns_log_module_name((enum ns_log_module)m),
					ns_log_level_name(ns_log_levels_[m]));
	return ctl_client_reply(q->c, r);
}

/* --- dispatch ------------------------------------------------------------------------------------------- */

static const struct { const char *name; int (*fn)(struct ctl_request *q); } ops[] = {
	{ "hello", op_hello },
	{ "status", op_status },
	{ "sockets", op_sockets },
	{ "programs", ctl_op_programs },
	{ "counters", op_counters },
	{ "rules_get", op_rules_get },
	{ "rules_prepare", op_rules_prepare },
	{ "flows_pin", op_flows_pin },
	{ "rules_commit", op_rules_commit },
	{ "rules_abort", op_rules_abort },
	{ "dump_start", op_dump_start },
	{ "dump_state", op_dump_state },
	{ "dump_stop", op_dump_stop },
	{ "ping_start", ctl_op_ping_start },
	{ "ping_send", ctl_op_ping_send },
	{ "ping_answers", ctl_op_ping_answers },
	{ "config", ctl_op_config },
	{ "config_set", ctl_op_config_set },
	{ "reload", op_reload },
	{ "log_get", op_log_get },
	{ "log_level", op_log_level },
};

static int request_run(struct ctl_request *q)
{
	const char *op = cJSON_IsObject(q->json) ? ctl_get_str(q->json, "op") : NULL;

	if (!op)
		return ctl_reply_error(q->c, "a request is an object with \"op\"");
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (!strcmp(ops[i].name, op))
			return ops[i].fn(q);
	}
	return ctl_reply_error(q->c, "unknown op \"%.40s\"", op);
}

int ctl_request(struct ctl_server *s, struct ctl_client *c, const char *msg, size_t len, int fd)
{
	struct ctl_request q = { .s = s, .c = c, .json = cJSON_ParseWithLength(msg, len), .fd = fd };
	int ret = request_run(&q);

	if (q.fd >= 0)
		sys_close(q.fd);
	cJSON_Delete((cJSON *)q.json);
	return ret;
}
