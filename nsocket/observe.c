/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe.c - answers for the control socket
 *
 * Threads: the helper thread's, each answer under the worker lock where it looks at the stack.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <cjson/cJSON.h>
#include <nsocket/attach.h>
#include <nsocket/plugin/plugin.h>
#include <nsocket/plugin/sbr.h>
#include <nsocket/sock.h>
#include <string.h>

static void status(void *arg, struct ctl_status *out)
{
	struct shm_region_stats rs;
	struct nfile *f;

	out->stack_running = worker_running();
	snprintf(out->stack, sizeof(out->stack), "%s", worker_running() ? worker.ops->name : "");
	out->start_ns = worker.started_ns;
	for (int i = 0; i < SR_NR_; i++)
		out->sockets_kernel += (uint32_t)sock_reasons[i];
	out->helper_ticks = worker.ticks;
	out->lock_contended = worker.contended;
	out->daemon = attach_daemon();
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_session(nsock_of(f)))
			out->sockets_ours++;
		nfile_put(f);
	}
	if (!worker_running())
		return;
	worker_lock();
	shm_region_stats(worker.region, &rs);
	worker_unlock();
	out->sessions = rs.sessions;
	out->sessions_used = rs.used;
	out->sessions_high = rs.high_water;
	out->sessions_refused = rs.alloc_failed;
	out->region_bytes = rs.resident_bytes;
}

static uint32_t sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	return attach_daemon() ? observe_remote_sockets(arg, out, n, cursor) :
				 observe_sockets(arg, out, n, cursor);
}

static bool owner(void *arg, uint32_t session, struct ctl_owner *out)
{
	*out = (struct ctl_owner){ .pid = getpid(), .uid = geteuid(), .name = program_invocation_short_name,
				   .served_by = attach_daemon() };
	return out->served_by != 0;
}

static uint32_t reasons(void *arg, struct ctl_reason *out, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n && i < SR_NR_; i++)
		out[i] = (struct ctl_reason){ sock_reason_names[i], sock_reason_help[i],
					      sock_reasons[i] };
	return i;
}

/* Listeners and bound UDP sockets that were left to the kernel are asked again at their next use. */
void observe_rules_changed(void *arg)
{
	struct nfile *f;
	struct nsock *ns;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_get(fd);
		if (!f)
			continue;
		ns = nsock_of(f);
		if (f->kind == NF_SOCK && !nsock_session(ns) && nsock_mode(ns) != SK_KERNEL) {
			lock_take(&ns->lock);
			ns->rejected = false;
			lock_give(&ns->lock);
			nsock_activate(ns, fd);
		}
		nfile_put(f);
	}
}

static int config_change(void *arg, const char *text, char err[RD_ERR])
{
	int ret = observe_config_change(arg, text, err);

	if (!ret)
		__atomic_store_n(&worker.spin_ns, (uint64_t)rd_config()->spin_us * 1000, __ATOMIC_RELAXED);
	return ret;
}

/* Plug-in stacks, those that could not be loaded, too. */
static void more_status(void *arg, cJSON *out)
{
	cJSON *list = cJSON_AddArrayToObject(out, "stacks"), *o;
	struct plug_module *m;

	for (uint32_t i = 0; (m = plug_at(i)); i++) {
		o = cJSON_CreateObject();
		cJSON_AddItemToArray(list, o);
		cJSON_AddStringToObject(o, "name", m->conf->name);
		cJSON_AddNumberToObject(o, "id", m->conf->id);
		cJSON_AddNumberToObject(o, "deploy", m->conf->deploy);
		cJSON_AddNumberToObject(o, "priority", m->conf->priority);
		cJSON_AddBoolToObject(o, "default", !strcmp(m->conf->name, rd_config()->modules->default_stack));
		if (m->link)
			cJSON_AddNumberToObject(o, "pid", sbr_link_host(m));
		cJSON_AddBoolToObject(o, "usable", __atomic_load_n(&m->usable, __ATOMIC_RELAXED));
		cJSON_AddNumberToObject(o, "sockets", __atomic_load_n(&m->sockets, __ATOMIC_RELAXED));
		cJSON_AddNumberToObject(o, "refused", __atomic_load_n(&m->refused, __ATOMIC_RELAXED));
	}
}

const struct ctl_ops observe_ops = {
	.status = status,
	.more_status = more_status,
	.ports = observe_ports,
	.queue_stats = observe_queue_stats,
	.sockets = sockets,
	.owner = owner,
	.kernel_sockets = observe_kernel_sockets,
	.counters = observe_counters,
	.accounts = observe_accounts,
	.reasons = reasons,
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
	.rules_changed = observe_rules_changed,
};
