/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/observe.c - what the nstack tool asks the daemon: the stack's state, and the programs'
 *
 * Threads: the daemon's; the worker lock is taken here, for the functions of ctl_ops are called without.
 */
#define _GNU_SOURCE
#include "tools/nstackd/door.h"
#include "tools/nstackd/hosts.h"
#include "tools/nstackd/limits.h"
#include "tools/nstackd/peer.h"
#include "tools/nstackd/shared.h"
#include "tools/nstackd/super.h"

#include <cjson/cJSON.h>
#include <netinet/tcp.h>
#include <nsocket/ctl_server.h>
#include <nsocket/engine.h>
#include <nsocket/observe.h>
#include <nsocket/worker_internal.h>
#include <stdio.h>
#include <string.h>

static void status(void *arg, struct ctl_status *out)
{
	struct shm_region_stats rs;

	worker_lock();
	out->stack_running = true;
	snprintf(out->stack, sizeof(out->stack), "%s", worker.ops->name);
	out->start_ns = worker.started_ns;
	shm_region_stats(worker.region, &rs);
	out->sockets_ours = rs.used;
	out->sessions = rs.sessions;
	out->sessions_used = rs.used;
	out->sessions_high = rs.high_water;
	out->sessions_refused = rs.alloc_failed;
	out->region_bytes = rs.resident_bytes;
	out->programs = peers_count();
	out->programs_max = peers_config.max;
	worker_unlock();
}

/* --- programs ------------------------------------------------------------------------------------ */

void peer_count_session(struct peer *p, struct shm_session *s)
{
	struct stack_sock_info i;

	if (worker.ops->info(worker.st, s, &i))
		return;
	p->stats.packets_in += i.packets_in;
	p->stats.packets_out += i.packets_out;
	p->stats.bytes_in += i.bytes_in;
	p->stats.bytes_out += i.bytes_out;
}

static void put_session(struct ctl_program *o, struct shm_session *s)
{
	struct stack_sock_info i;

	o->sessions++;
	if (worker.ops->info(worker.st, s, &i))
		return;
	o->datagram += i.proto == IPPROTO_UDP;
	o->listeners += i.proto == IPPROTO_TCP && i.tcp_state == TCP_LISTEN;
	o->connections += i.proto == IPPROTO_TCP && i.tcp_state == TCP_ESTABLISHED;
	o->packets_in += i.packets_in;
	o->packets_out += i.packets_out;
	o->bytes_in += i.bytes_in;
	o->bytes_out += i.bytes_out;
}

static void put_sessions(struct ctl_program *o, const struct peer *p)
{
	uint32_t first = p->part * peers_config.sessions, end = first + peers_config.sessions;

	for (uint32_t i = first; (i = shm_session_next(worker.region, i)) < end; i++)
		put_session(o, shm_session_get(worker.region, i));
	o->memory_bytes = shm_region_part_resident(worker.region, p->part);
}

static void put_ports(struct ctl_program *o, const struct peer *p)
{
	for (const struct peer_port *pp = p->ports; pp; pp = pp->next) {
		if (pp->client)
			continue;
		if (o->nport < sizeof(o->port) / sizeof(o->port[0]))
			o->port[o->nport] = (struct ctl_program_port){ pp->proto, pp->local };
		o->nport++;
	}
}

static void program(struct ctl_program *o, const struct peer *p)
{
	*o = (struct ctl_program){
		.pid = p->pid, .uid = p->uid, .since_ns = p->stats.since_ns,
		.state = p->ended ? "exiting" : p->attached ? "running" : "start",
		.sessions_max = peer_limit(p, QUOTA_SOCKETS, peers_config.sessions),
		.ports = p->nports, .ports_max = peer_limit(p, QUOTA_PORTS, peers_config.max_ports),
		.messages = p->stats.messages, .notifications = p->stats.notifications,
		.packets_in = p->stats.packets_in, .packets_out = p->stats.packets_out,
		.bytes_in = p->stats.bytes_in, .bytes_out = p->stats.bytes_out,
	};
	memcpy(o->name, p->name, sizeof(o->name));
	memcpy(o->label, p->label, sizeof(o->label));
	if (!p->attached)
		return;
	o->asleep = !p->ended && notify_sleeps(&p->out);
	put_sessions(o, p);
	put_ports(o, p);
}

/* The list has the youngest first: go on behind the one that was last. */
static uint32_t programs(void *arg, struct ctl_program *out, uint32_t n, uint64_t *cursor)
{
	uint32_t got = 0;

	worker_lock();
	for (const struct peer *p = peers_first(); p && got < n; p = p->next) {
		if (*cursor && p->stats.serial >= *cursor)
			continue;
		program(&out[got++], p);
		*cursor = p->stats.serial;
	}
	worker_unlock();
	return got;
}

static bool owner(void *arg, uint32_t session, struct ctl_owner *out)
{
	uint32_t part = session / peers_config.sessions;
	const struct peer *p = peer_of_part(part);

	if (!p) /* perhaps one that has ended: those are in the list only */
		for (p = peers_first(); p && !(p->attached && p->part == part);)
			p = p->next;
	if (p)
		*out = (struct ctl_owner){ .pid = p->pid, .uid = p->uid, .name = p->name };
	return p;
}

static uint32_t sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint32_t got = observe_sockets(arg, out, n, cursor);

	worker_lock();
	for (uint32_t i = 0; i < got; i++)
		group_describe(&out[i]);
	worker_unlock();
	return got;
}

static void more_status(void *arg, cJSON *o)
{
	worker_lock();
	limits_look();
	worker_unlock();
	if (super_channel() >= 0) {
		cJSON_AddNumberToObject(o, "worker", shared_worker);
		return;
	}
	door_status(o);
	hosts_status(o);
}

void peers_tune(void)
{
	engine_tune(rd_config());
	peers_spin(rd_config()->daemon.spin_us);
}

static int config_change(void *arg, const char *text, char err[RD_ERR])
{
	int ret = observe_config_change(arg, text, err);

	if (!ret)
		peers_spin(rd_config()->daemon.spin_us);
	return ret;
}

const struct ctl_ops peers_ctl_ops = {
	.status = status,
	.more_status = more_status,
	.ports = observe_ports,
	.queue_stats = observe_queue_stats,
	.sockets = sockets,
	.owner = owner,
	.programs = programs,
	.counters = observe_counters,
	.accounts = peers_accounts,
	.pin_flows = observe_pin_flows,
	.dump_start = observe_dump_start,
	.dump_stop = observe_dump_stop,
	.dump_state = observe_dump_state,
	.ping_start = observe_ping_start,
	.ping_send = observe_ping_send,
	.ping_answers = observe_ping_answers,
	.ping_stop = observe_ping_stop,
	.rules_install = observe_rules_install,
	.config_change = config_change,
};
