/* SPDX-License-Identifier: Apache-2.0 */
/* tools/top_sample.c - what nstack top shows, as the processes say it, and what /proc says of them */
#define _GNU_SOURCE
#include "tool.h"
#include "top.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 300 /* for an answer: one process that is stopped is not to stop the screen */

/* --- rows ------------------------------------------------------------------------------------------ */

/* NULL: no more room. Zeroed. */
static struct top_row *row_new(struct top_sample *s)
{
	if (s->n == s->room) {
		unsigned room = s->room ? s->room * 2 : 64;
		struct top_row *bigger = room > TOP_ROWS ? NULL : realloc(s->row, room * sizeof(*bigger));

		if (!bigger)
			return NULL;
		s->row = bigger;
		s->room = room;
	}
	memset(&s->row[s->n], 0, sizeof(*s->row));
	return &s->row[s->n++];
}

__attribute__((format(printf, 3, 4)))
static void word(struct top_row *r, unsigned i, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->word[i], sizeof(r->word[i]), fmt, ap);
	va_end(ap);
}

static void word_user(struct top_row *r, unsigned i, double uid)
{
	const struct passwd *pw = getpwuid((uid_t)uid);

	if (pw)
		word(r, i, "%s", pw->pw_name);
	else
		word(r, i, "%.0f", uid);
	text_clean(r->word[i]);
}

/* Processor time of a process in seconds; 0: it is gone, or not ours to see. */
static double cpu_seconds(double pid)
{
	unsigned long user = 0, sys = 0;
	char path[48], text[512] = "";
	const char *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.0f/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	p = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL; /* the name may hold anything */
	if (!p || sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
		user = sys = 0;
	fclose(f);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

/* --- programs ---------------------------------------------------------------------------------------- */

enum { P_PID, P_NAME, P_STATE, P_USER, P_BY };
enum { PG_SOCKETS, PG_MEMORY };
enum { PC_RX_PKT, PC_RX_B, PC_TX_PKT, PC_TX_B, PC_CPU, PC_LOST };

static const struct top_column program_cols[] = {
	{ "PID", "pid", 7, 0, TOP_WORD, P_PID, TOP_PLAIN },
	{ "PROGRAM", "program", 12, 31, TOP_WORD, P_NAME, TOP_PLAIN },
	{ "STATE", "state", 7, 0, TOP_WORD, P_STATE, TOP_PLAIN },
	{ "SOCKETS", "sockets", 7, 0, TOP_GAUGE, PG_SOCKETS, TOP_PLAIN },
	{ "RXpkt/s", "rx_packets_per_s", 7, 0, TOP_RATE, PC_RX_PKT, TOP_PLAIN },
	{ "RX B/s", "rx_bytes_per_s", 6, 0, TOP_RATE, PC_RX_B, TOP_BYTES },
	{ "TXpkt/s", "tx_packets_per_s", 7, 0, TOP_RATE, PC_TX_PKT, TOP_PLAIN },
	{ "TX B/s", "tx_bytes_per_s", 6, 0, TOP_RATE, PC_TX_B, TOP_BYTES },
	{ "%CPU", "cpu_percent", 5, 0, TOP_RATE, PC_CPU, TOP_PERCENT },
	{ "USER", "user", 8, 0, TOP_WORD, P_USER, TOP_PLAIN },
	{ "MEMORY", "memory_bytes", 6, 0, TOP_GAUGE, PG_MEMORY, TOP_BYTES },
	{ "BY", "served_by", 7, 0, TOP_WORD, P_BY, TOP_PLAIN },
};

static struct top_row *program_row(struct top_sample *s, const cJSON *o, const char *state)
{
	struct top_row *r = row_new(s);

	if (!r)
		return NULL;
	snprintf(r->key, sizeof(r->key), "%.0f", num(o, "pid"));
	word(r, P_PID, "%.0f", num(o, "pid"));
	word(r, P_NAME, "%s", str(o, "program"));
	word(r, P_STATE, "%s", state);
	r->count[PC_CPU] = cpu_seconds(num(o, "pid"));
	return r;
}

static void attached_row(struct top_sample *s, const cJSON *a, double daemon)
{
	struct top_row *r = program_row(s, a, str(a, "state"));

	if (!r)
		return;
	/* one that has ended may have the number of one that lives */
	snprintf(r->key, sizeof(r->key), "%.0f %s %.0f", num(a, "pid"), str(a, "state"), daemon);
	word_user(r, P_USER, num(a, "uid"));
	word(r, P_BY, "%.0f", daemon);
	r->gauge[PG_SOCKETS] = num(a, "sessions_used");
	r->gauge[PG_MEMORY] = num(a, "memory_bytes");
	r->count[PC_RX_PKT] = num(a, "packets_in");
	r->count[PC_TX_PKT] = num(a, "packets_out");
	r->count[PC_RX_B] = num(a, "bytes_in");
	r->count[PC_TX_B] = num(a, "bytes_out");
}

/* What its ports have seen. */
static void put_traffic(struct top_row *r, const cJSON *process)
{
	const cJSON *p;

	cJSON_ArrayForEach(p, cJSON_GetObjectItem(process, "ports")) {
		const cJSON *st = cJSON_GetObjectItem(p, "stats");

		r->count[PC_RX_PKT] += num(st, "rx_packets");
		r->count[PC_RX_B] += num(st, "rx_bytes");
		r->count[PC_TX_PKT] += num(st, "tx_packets") + num(st, "tx_super_packets");
		r->count[PC_TX_B] += num(st, "tx_bytes") + num(st, "tx_super_bytes");
		r->count[PC_LOST] += num(st, "rx_dropped") + num(st, "rx_ring_full");
	}
}

static bool is_daemon(const cJSON *process)
{
	return num(process, "programs_max") > 0;
}

static bool is_attached(const cJSON *processes, double pid)
{
	const cJSON *p, *a;

	cJSON_ArrayForEach(p, processes) {
		cJSON_ArrayForEach(a, cJSON_GetObjectItem(p, "attached")) {
			if (num(a, "pid") == pid)
				return true;
		}
	}
	return false;
}

static void collect_programs(struct top_sample *s, const cJSON *processes)
{
	const cJSON *p, *a;
	struct top_row *r;

	cJSON_ArrayForEach(p, processes) {
		cJSON_ArrayForEach(a, cJSON_GetObjectItem(p, "attached"))
			attached_row(s, a, num(p, "pid"));
		if (is_daemon(p) || cJSON_GetObjectItem(p, "workers") || is_attached(processes, num(p, "pid")))
			continue;
		r = program_row(s, p, str(p, "error")[0] ? "?" : flag(p, "running") ? "running" : "kernel");
		if (!r)
			break;
		word_user(r, P_USER, num(p, "uid"));
		r->gauge[PG_SOCKETS] = num(p, "sockets_ours");
		r->gauge[PG_MEMORY] = num(p, "region_bytes");
		put_traffic(r, p);
	}
}

/* --- stacks ------------------------------------------------------------------------------------------ */

enum { S_PID, S_NAME, S_IFS };
enum { SG_PROGRAMS, SG_SOCKETS, SG_MEMORY };

static const struct top_column stack_cols[] = {
	{ "PID", "pid", 7, 0, TOP_WORD, S_PID, TOP_PLAIN },
	{ "PROCESS", "process", 10, 31, TOP_WORD, S_NAME, TOP_PLAIN },
	{ "PROGS", "programs", 5, 0, TOP_GAUGE, SG_PROGRAMS, TOP_PLAIN },
	{ "SOCKETS", "sockets", 7, 0, TOP_GAUGE, SG_SOCKETS, TOP_PLAIN },
	{ "RXpkt/s", "rx_packets_per_s", 7, 0, TOP_RATE, PC_RX_PKT, TOP_PLAIN },
	{ "RX B/s", "rx_bytes_per_s", 6, 0, TOP_RATE, PC_RX_B, TOP_BYTES },
	{ "TXpkt/s", "tx_packets_per_s", 7, 0, TOP_RATE, PC_TX_PKT, TOP_PLAIN },
	{ "TX B/s", "tx_bytes_per_s", 6, 0, TOP_RATE, PC_TX_B, TOP_BYTES },
	{ "LOST/s", "lost_packets_per_s", 6, 0, TOP_RATE, PC_LOST, TOP_PLAIN },
	{ "%CPU", "cpu_percent", 5, 0, TOP_RATE, PC_CPU, TOP_PERCENT },
	{ "MEMORY", "memory_bytes", 6, 0, TOP_GAUGE, SG_MEMORY, TOP_BYTES },
	{ "INTERFACES", "interfaces", 12, 47, TOP_WORD, S_IFS, TOP_PLAIN },
};

static void put_interfaces(struct top_row *r, const cJSON *process)
{
	const cJSON *p;
	size_t len = 0;

	cJSON_ArrayForEach(p, cJSON_GetObjectItem(process, "ports")) {
		if (flag(p, "in_use") && len < sizeof(r->word[S_IFS]))
			len += (size_t)snprintf(r->word[S_IFS] + len, sizeof(r->word[S_IFS]) - len, "%s%s",
						len ? "," : "", str(p, "ifname"));
	}
}

static void collect_stacks(struct top_sample *s, const cJSON *processes)
{
	char name[32]; /* workers differ by what /proc calls them */
	const cJSON *p;
	struct top_row *r;

	cJSON_ArrayForEach(p, processes) {
		if (!flag(p, "running") || num(p, "daemon") > 0)
			continue;
		r = row_new(s);
		if (!r)
			break;
		snprintf(r->key, sizeof(r->key), "%.0f", num(p, "pid"));
		word(r, S_PID, "%.0f", num(p, "pid"));
		word(r, S_NAME, "%s", is_daemon(p) ? program_of((pid_t)num(p, "pid"), name) : str(p, "program"));
		put_interfaces(r, p);
		r->gauge[SG_PROGRAMS] = is_daemon(p) ? num(p, "programs") : 1;
		r->gauge[SG_SOCKETS] = num(p, "sessions_used");
		r->gauge[SG_MEMORY] = num(p, "region_bytes");
		r->count[PC_CPU] = cpu_seconds(num(p, "pid"));
		put_traffic(r, p);
	}
}

/* --- sockets ------------------------------------------------------------------------------------------ */

enum { C_PROTO, C_STATE, C_LOCAL, C_REMOTE, C_NAME, C_PID };
enum { CG_RTT, CG_RECV_Q, CG_SEND_Q };
enum { CC_RX_B, CC_TX_B, CC_RETRANS };

static const struct top_column socket_cols[] = {
	{ "PRO", "proto", 3, 0, TOP_WORD, C_PROTO, TOP_PLAIN },
	{ "STATE", "state", 9, 0, TOP_WORD, C_STATE, TOP_PLAIN },
	{ "LOCAL", "local", 20, 46, TOP_WORD, C_LOCAL, TOP_PLAIN },
	{ "REMOTE", "remote", 20, 46, TOP_WORD, C_REMOTE, TOP_PLAIN },
	{ "RX B/s", "rx_bytes_per_s", 6, 0, TOP_RATE, CC_RX_B, TOP_BYTES },
	{ "TX B/s", "tx_bytes_per_s", 6, 0, TOP_RATE, CC_TX_B, TOP_BYTES },
	{ "PROGRAM", "program", 9, 31, TOP_WORD, C_NAME, TOP_PLAIN },
	{ "PID", "pid", 7, 0, TOP_WORD, C_PID, TOP_PLAIN },
	{ "RTT ms", "rtt_ms", 6, 0, TOP_GAUGE, CG_RTT, TOP_MS },
	{ "RETR/s", "retransmitted_per_s", 6, 0, TOP_RATE, CC_RETRANS, TOP_PLAIN },
	{ "RECV-Q", "recv_q", 6, 0, TOP_GAUGE, CG_RECV_Q, TOP_PLAIN },
	{ "SEND-Q", "send_q", 6, 0, TOP_GAUGE, CG_SEND_Q, TOP_PLAIN },
};

static bool socket_row(struct top_sample *s, const cJSON *o)
{
	struct top_row *r = row_new(s);

	if (!r)
		return false;
	snprintf(r->key, sizeof(r->key), "%s %.47s %.47s %.0f", str(o, "proto"), str(o, "local"),
		 str(o, "remote"), num(o, "pid"));
	word(r, C_PROTO, "%s", str(o, "proto"));
	word(r, C_STATE, "%s", str(o, "state"));
	word(r, C_LOCAL, "%s", str(o, "local"));
	word(r, C_REMOTE, "%s", str(o, "remote"));
	word(r, C_NAME, "%s", str(o, "program"));
	word(r, C_PID, "%.0f", num(o, "pid"));
	r->gauge[CG_RTT] = num(o, "rtt_us") / 1000;
	r->gauge[CG_RECV_Q] = num(o, "recv_q");
	r->gauge[CG_SEND_Q] = num(o, "send_q");
	r->count[CC_RX_B] = num(o, "bytes_in");
	r->count[CC_TX_B] = num(o, "bytes_out");
	r->count[CC_RETRANS] = num(o, "retrans");
	return true;
}

/* The stacks' only: of those of the kernel nothing moves that we could count. */
static void collect_sockets(struct top_sample *s, const cJSON *processes)
{
	bool failed;
	cJSON *list = ctl_sockets(-1, &failed), *o;

	cJSON_ArrayForEach(o, list) {
		if (strcmp(str(o, "stack"), "kernel") && !socket_row(s, o))
			break;
	}
	cJSON_Delete(list);
}

/* --- all of them -------------------------------------------------------------------------------------- */

#define COLS(c) (c), sizeof(c) / sizeof((c)[0])

const struct top_view top_views[TOP_VIEWS] = {
	{ "programs", 'p', collect_programs, COLS(program_cols), 4 },
	{ "stacks", 'w', collect_stacks, COLS(stack_cols), 4 },
	{ "sockets", 's', collect_sockets, COLS(socket_cols), 4 },
};

static int key_cmp(const void *a, const void *b)
{
	return strcmp(((const struct top_row *)a)->key, ((const struct top_row *)b)->key);
}

int top_sample_take(struct top_sample *s, const struct top_view *v, const struct top_sample *before)
{
	struct timespec t;
	cJSON *processes;

	*s = (struct top_sample){ 0 };
	ctl_patience(PATIENCE_MS);
	processes = ctl_processes();
	if (!processes)
		return -ENOMEM;
	clock_gettime(CLOCK_MONOTONIC, &t);
	s->at = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	v->collect(s, processes);
	cJSON_Delete(processes);
	if (s->n)
		qsort(s->row, s->n, sizeof(*s->row), key_cmp);
	top_rates(s, before);
	return 0;
}

void top_sample_free(struct top_sample *s)
{
	free(s->row);
	*s = (struct top_sample){ 0 };
}
