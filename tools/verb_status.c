/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_status.c - nstack status: interfaces, and the processes on them */
#include "tool.h"

#include <arpa/inet.h>
#include <bpf/steer_ctl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLAIMS_MAX 65536u

static void put_instances(cJSON *o, struct steer *st)
{
	cJSON *list = cJSON_AddArrayToObject(o, "instances");

	for (unsigned i = 1; i < STEER_INSTANCES; i++) {
		char stack[STEER_STACK_NAME] = "", program[32];
		pid_t pid = 0;
		cJSON *item;

		if (steer_instance_pid(st, i, &pid, stack) || pid <= 0)
			continue;
		item = cJSON_CreateObject();
		put_u64(item, "instance", i);
		put_u64(item, "pid", (uint64_t)pid);
		cJSON_AddStringToObject(item, "program", program_of(pid, program));
		cJSON_AddStringToObject(item, "stack", stack);
		cJSON_AddItemToArray(list, item);
	}
}

static void put_claims(cJSON *o, struct steer *st)
{
	struct steer_claim_info *info = calloc(CLAIMS_MAX, sizeof(*info));
	cJSON *list = cJSON_AddArrayToObject(o, "claims");
	int n = info ? steer_claims(st, info, CLAIMS_MAX) : 0;
	uint64_t stale = 0;

	for (int i = 0; i < n && i < (int)CLAIMS_MAX; i++) {
		char addr[INET6_ADDRSTRLEN] = "*";
		cJSON *item;

		if (!pid_alive(info[i].pid)) {
			stale++;
			continue;
		}
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "proto", info[i].proto == IPPROTO_TCP ? "tcp" : "udp");
		put_u64(item, "port", ntohs(info[i].local.port));
		if (info[i].local.family) /* else it is for all of both */
			inet_ntop(info[i].local.family, info[i].local.v6, addr, sizeof(addr));
		cJSON_AddStringToObject(item, "local", addr);
		put_u64(item, "instance", info[i].instance);
		put_u64(item, "pid", (uint64_t)info[i].pid);
		cJSON_AddItemToArray(list, item);
	}
	put_u64(o, "stale_claims", stale);
	free(info);
}

static void put_verdicts(cJSON *o, struct steer *st)
{
	uint64_t count[STEER_C_NR_] = { 0 };
	cJSON *v = cJSON_AddObjectToObject(o, "verdicts");

	if (steer_counters(st, count))
		return;
	for (unsigned c = 0; c < STEER_C_NR_; c++)
		put_u64(v, steer_counter_name(c), count[c]);
}

/* NULL: nothing to say about this interface. */
static cJSON *interface_json(const struct iface *i)
{
	struct steer_status s = { 0 };
	char why[STEER_WHY] = "";
	struct steer *st = NULL;
	cJSON *o;
	int ret = steer_status(i->ifindex, &s);

	if ((ret || (!s.attached && !s.foreign[0])) && !iface_usable(i))
		return NULL;
	o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "name", i->name);
	put_u64(o, "ifindex", i->ifindex);
	cJSON_AddBoolToObject(o, "attached", s.attached);
	cJSON_AddStringToObject(o, "foreign", s.foreign);
	if (ret)
		cJSON_AddStringToObject(o, "error", ret == -EPERM ? "only root sees what is attached" :
					strerror(-ret));
	if (!s.attached)
		return o;
	cJSON_AddStringToObject(o, "mode", s.native ? "native" : "generic");
	cJSON_AddStringToObject(o, "mode_why", s.mode_why);
	cJSON_AddBoolToObject(o, "dispatcher", s.dispatcher);
	put_u64(o, "prog_id", s.prog_id);
	ret = steer_open(&st, i->ifindex, why);
	if (ret) {
		cJSON_AddStringToObject(o, "error", why[0] ? why : strerror(-ret));
		return o;
	}
	put_instances(o, st);
	put_claims(o, st);
	put_verdicts(o, st);
	steer_close(st);
	return o;
}

/* --- a daemon's programs ------------------------------------------------------------------------ */

static bool listens(const cJSON *program, const cJSON *claim)
{
	const cJSON *l;

	cJSON_ArrayForEach(l, cJSON_GetObjectItem(program, "listens")) {
		if (num(l, "port") == num(claim, "port") && !strcmp(str(l, "proto"), str(claim, "proto")))
			return true;
	}
	return false;
}

/* Which programs is a claimed port for? The process that has the instance, or those attached to it. */
static void put_claimants(cJSON *claim, const cJSON *processes)
{
	cJSON *list = cJSON_AddArrayToObject(claim, "programs");
	const cJSON *p, *a;

	cJSON_ArrayForEach(p, processes) {
		if (num(p, "pid") != num(claim, "pid"))
			continue;
		cJSON_ArrayForEach(a, cJSON_GetObjectItem(p, "attached")) {
			if (listens(a, claim))
				cJSON_AddItemToArray(list, cJSON_CreateNumber(num(a, "pid")));
		}
	}
	if (!cJSON_GetArraySize(list))
		cJSON_AddItemToArray(list, cJSON_CreateNumber(num(claim, "pid")));
}

static cJSON *status_json(void)
{
	cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "interfaces");
	cJSON *steered, *c, *processes;
	struct iface *ifs;
	int n = iface_list(&ifs);

	for (int i = 0; i < n; i++) {
		cJSON *o = interface_json(&ifs[i]);

		if (o)
			cJSON_AddItemToArray(list, o);
	}
	free(ifs);
	processes = ctl_processes();
	cJSON_AddItemToObject(root, "processes", processes);
	cJSON_ArrayForEach(steered, list)
		cJSON_ArrayForEach(c, cJSON_GetObjectItem(steered, "claims"))
			put_claimants(c, processes);
	return root;
}

/* --- for people --------------------------------------------------------------------------------- */

static void print_claims(const cJSON *o)
{
	const cJSON *i, *c;

	cJSON_ArrayForEach(i, cJSON_GetObjectItem(o, "instances")) {
		unsigned shown = 0, total = 0;

		printf("  instance %-2.0f %s, pid %.0f, stack %s\n", num(i, "instance"), str(i, "program"),
		       num(i, "pid"), str(i, "stack"));
		cJSON_ArrayForEach(c, cJSON_GetObjectItem(o, "claims")) {
			if (num(c, "instance") != num(i, "instance"))
				continue;
			total++;
			if (shown == 12)
				continue;
			printf("%s%s/%.0f", shown++ ? " " : "    ports ", str(c, "proto"), num(c, "port"));
			if (strcmp(str(c, "local"), "*"))
				printf("@%s", str(c, "local"));
		}
		if (total > shown)
			printf(" and %u more", total - shown);
		if (total)
			putchar('\n');
	}
}

static void print_verdicts(const cJSON *verdicts)
{
	const cJSON *v;

	cJSON_ArrayForEach(v, verdicts) {
		if (num(verdicts, v->string) > 0)
			printf("  %-22s %.0f packets\n", v->string, num(verdicts, v->string));
	}
}

static void print_interface(const cJSON *o)
{
	printf("%s: ", str(o, "name"));
	if (!flag(o, "attached")) {
		if (str(o, "error")[0])
			printf("%s\n", str(o, "error"));
		else if (str(o, "foreign")[0])
			printf("not attached; XDP program of somebody else: %s\n", str(o, "foreign"));
		else
			printf("not attached (nstack load %s)\n", str(o, "name"));
		return;
	}
	printf("attached, %s XDP%s, program %.0f", str(o, "mode"),
	       flag(o, "dispatcher") ? " by the dispatcher" : "", num(o, "prog_id"));
	if (str(o, "mode_why")[0])
		printf(" (%s)", mode_reason(str(o, "mode"), str(o, "mode_why")));
	putchar('\n');
	if (str(o, "error")[0])
		printf("  tables: %s\n", str(o, "error"));
	print_claims(o);
	print_verdicts(cJSON_GetObjectItem(o, "verdicts"));
}

static void print_listens(const cJSON *program)
{
	const cJSON *l;
	unsigned shown = 0;

	cJSON_ArrayForEach(l, cJSON_GetObjectItem(program, "listens")) {
		if (shown++ < 8)
			printf(" %s/%.0f", str(l, "proto"), num(l, "port"));
	}
	if (shown > 8 || num(program, "listens_more") > 0)
		printf(" and %.0f more", shown - 8 + num(program, "listens_more"));
}

static void print_programs(const cJSON *o)
{
	const cJSON *p;
	char a[16], in[16], out[16];

	printf("  programs: %.0f of %.0f; memory of their sockets %s\n", num(o, "programs"),
	       num(o, "programs_max"), human_bytes(num(o, "region_bytes"), a));
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "attached")) {
		printf("    pid %.0f %s, user %.0f%s%s: %s%s, %.0f of %.0f sockets, %s, received %s, sent %s",
		       num(p, "pid"), str(p, "program"), num(p, "uid"), str(p, "label")[0] ? ", label " : "",
		       str(p, "label"), str(p, "state"),
		       flag(p, "asleep") ? " (asleep)" : "", num(p, "sessions_used"), num(p, "sessions"),
		       human_bytes(num(p, "memory_bytes"), a), human_bytes(num(p, "bytes_in"), in),
		       human_bytes(num(p, "bytes_out"), out));
		if (cJSON_GetArraySize(cJSON_GetObjectItem(p, "listens")))
			printf("; ports");
		print_listens(p);
		putchar('\n');
	}
}

/* Of a daemon that has several. */
static void print_workers(const cJSON *o)
{
	const cJSON *w;

	cJSON_ArrayForEach(w, cJSON_GetObjectItem(o, "workers")) {
		printf("  worker %.0f: ", num(w, "worker"));
		if (flag(w, "ready"))
			printf("pid %.0f", num(w, "pid"));
		else
			printf("being started");
		if (num(w, "core") >= 0)
			printf(", core %.0f", num(w, "core"));
		printf(", %.0f programs", num(w, "programs"));
		if (num(w, "restarts") > 0)
			printf(", started again %.0f times", num(w, "restarts"));
		putchar('\n');
	}
	if (num(o, "refused") > 0)
		printf("  refused: %.0f times a program that wanted to attach\n", num(o, "refused"));
}

static void print_frames(const cJSON *o)
{
	const cJSON *a = cJSON_GetObjectItem(o, "accounts");

	if (num(a, "rx_frames") == 0)
		return;
	printf("  frames: of %.0f to receive %.0f are the kernel's, %.0f wait to be taken, %.0f are in hand; of %.0f to "
	       "send %.0f are free\n", num(a, "rx_frames"), num(a, "rx_frames_kernel"), num(a, "rx_frames_received"),
	       num(a, "rx_frames_held"), num(a, "tx_frames"), num(a, "tx_frames_free"));
}

/* A plug-in; of nstackd's, which are processes, how often one was started again. */
static void print_stack(const cJSON *p)
{
	bool process = cJSON_HasObjectItem(p, "restarts");

	printf("  plug-in stack %s: ", str(p, "name"));
	if (!flag(p, "usable"))
		printf("not usable (see the log)");
	else if (num(p, "pid") > 0)
		printf("in process %.0f", num(p, "pid"));
	else
		printf("in use");
	if (process)
		printf(", %.0f restarts\n", num(p, "restarts"));
	else
		printf(", %.0f sockets\n", num(p, "sockets"));
}

static void print_process(const cJSON *o)
{
	const cJSON *p;
	char a[16], b[16];

	printf("pid %.0f %s: ", num(o, "pid"), str(o, "program"));
	if (str(o, "error")[0]) {
		printf("%s\n", str(o, "error"));
		return;
	}
	if (num(o, "daemon") > 0)
		printf("served by nstackd (%.0f), %.0f sockets, up %.0f s, configuration: %s\n", num(o, "daemon"),
		       num(o, "sockets_ours"), num(o, "uptime_ms") / 1000, str(o, "config"));
	else if (flag(o, "running"))
		printf("stack %s, %.0f sockets, up %.0f s, configuration: %s\n", str(o, "stack"),
		       num(o, "sockets_ours"), num(o, "uptime_ms") / 1000, str(o, "config"));
	else if (cJSON_GetObjectItem(o, "workers"))
		printf("%d workers, configuration: %s\n", cJSON_GetArraySize(cJSON_GetObjectItem(o, "workers")),
		       str(o, "config"));
	else
		printf("no stack running%s\n", str(o, "fallback")[0] ? "" : " (not needed so far)");
	print_workers(o);
	if (str(o, "fallback")[0])
		printf("  served by the kernel: %s\n", str(o, "fallback"));
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "alarms"))
		if (flag(p, "raised"))
			printf("  alarm %s (%s): %s\n", str(p, "name"), str(p, "severity"), str(p, "text"));
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "ports")) {
		const cJSON *st = cJSON_GetObjectItem(p, "stats");

		if (!flag(p, "in_use")) {
			printf("  %s: not used: %s\n", str(p, "ifname"), str(p, "why_not"));
			continue;
		}
		printf("  %s: %s, %.0f queue(s)%s%s%s\n", str(p, "ifname"), str(p, "mode"), num(p, "queues"),
		       str(p, "mode_why")[0] ? " (" : "", str(p, "mode_why"), str(p, "mode_why")[0] ? ")" : "");
		printf("    received %s packets, %s;", human(num(st, "rx_packets"), a),
		       human_bytes(num(st, "rx_bytes"), b));
		printf(" sent %s packets, %s", human(num(st, "tx_packets") + num(st, "tx_super_packets"), a),
		       human_bytes(num(st, "tx_bytes") + num(st, "tx_super_bytes"), b));
		printf("; lost on receive %.0f\n", num(st, "rx_dropped") + num(st, "rx_ring_full"));
	}
	print_frames(o);
	if (num(o, "sessions_refused") > 0)
		printf("  %.0f sockets were left to the kernel because no session was free (max_sockets, daemon.access)\n",
		       num(o, "sessions_refused"));
	if (num(o, "programs_max") > 0)
		print_programs(o);
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "stacks"))
		print_stack(p);
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "kernel_reasons")) {
		printf("  left to the kernel: %.0f x %s%s%s\n", num(p, "count"), str(p, "name"),
		       str(p, "help")[0] ? ": " : "", str(p, "help"));
	}
}

static int status_run(int argc, char **argv)
{
	bool json = false;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), { 0 } };
	int n = opts_parse(&verb_status, opts, true, argc, argv);
	const cJSON *o;
	cJSON *root;

	if (n < 0)
		return EXIT_USAGE;
	if (n > 0)
		return usage_error(&verb_status, "unexpected \"%s\"", argv[1]);
	root = status_json();
	if (json)
		return print_json(root);
	cJSON_ArrayForEach(o, cJSON_GetObjectItem(root, "interfaces"))
		print_interface(o);
	if (!cJSON_GetArraySize(cJSON_GetObjectItem(root, "interfaces")))
		puts("no interface is up and has an address");
	cJSON_ArrayForEach(o, cJSON_GetObjectItem(root, "processes"))
		print_process(o);
	if (!cJSON_GetArraySize(cJSON_GetObjectItem(root, "processes")))
		puts("no process runs under nstack here");
	cJSON_Delete(root);
	return 0;
}

const struct verb verb_status = {
	"status", status_run, "what is attached, who owns which ports, what became of the packets",
	"status [--json]",
	"Interfaces: is the steering program attached, in which mode and why, which processes are its\n"
	"instances, which ports they own, and how many packets met which verdict. Processes: stack,\n"
	"driver mode, traffic, and what was left to the kernel and why.\n\n"
	"  -j, --json        print JSON\n",
};
