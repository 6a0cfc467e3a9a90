/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_sockets.c - nstack sockets: the sockets of programs under nstack, like ss
 *
 * Those of the user-space stacks, and those that the kernel serves with the reason why.
 */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

struct filter {
	bool tcp, udp, listening, kernel;
	pid_t pid;
	long long port;
};

static bool port_is(const char *addr, long long port)
{
	const char *colon = strrchr(addr, ':');

	return colon && atoll(colon + 1) == port;
}

static bool wanted(const struct filter *f, const cJSON *s)
{
	bool tcp = !strcmp(str(s, "proto"), "tcp"), listen = !strcmp(str(s, "state"), "LISTEN");

	if ((f->tcp || f->udp) && !(tcp ? f->tcp : f->udp))
		return false;
	if (f->listening && !listen && strcmp(str(s, "state"), "UNCONN"))
		return false;
	if (f->kernel && strcmp(str(s, "stack"), "kernel"))
		return false;
	if (f->pid && num(s, "pid") != f->pid && num(s, "served_by") != f->pid)
		return false;
	return f->port < 0 || port_is(str(s, "local"), f->port) || port_is(str(s, "remote"), f->port);
}

static void print_sockets(const cJSON *list)
{
	const cJSON *s;
	int wl = 13, wr = 14;

	cJSON_ArrayForEach(s, list) {
		wl = (int)strlen(str(s, "local")) > wl ? (int)strlen(str(s, "local")) : wl;
		wr = (int)strlen(str(s, "remote")) > wr ? (int)strlen(str(s, "remote")) : wr;
	}
	printf("%-5s %-10s %8s %8s %-*s %-*s %9s %6s %8s  %s\n", "Proto", "State", "Recv-Q", "Send-Q", wl,
	       "Local address", wr, "Remote address", "RTT", "cwnd", "retrans", "Stack  Process");
	cJSON_ArrayForEach(s, list) {
		char rtt[24] = "-", cwnd[16] = "-";

		if (num(s, "rtt_us") > 0)
			snprintf(rtt, sizeof(rtt), "%.2f ms", num(s, "rtt_us") / 1000);
		if (num(s, "cwnd") > 0)
			snprintf(cwnd, sizeof(cwnd), "%.0f", num(s, "cwnd"));
		printf("%-5s %-10s %8.0f %8.0f %-*s %-*s %9s %6s %8.0f  %-6s %s (%.0f)%s%s\n", str(s, "proto"),
		       str(s, "state"), num(s, "recv_q"), num(s, "send_q"), wl, str(s, "local"), wr,
		       str(s, "remote"), rtt, cwnd, num(s, "retrans"), str(s, "stack"), str(s, "program"),
		       num(s, "pid"), str(s, "reason")[0] ? ": " : "", str(s, "reason"));
	}
}

static int sockets_run(int argc, char **argv)
{
	struct filter f = { .port = -1 };
	const char *pid_arg = NULL, *port_arg = NULL;
	bool json = false;
	const struct opt opts[] = {
		OPT_FLAG("--json", 'j', &json), OPT_FLAG("--tcp", 't', &f.tcp), OPT_FLAG("--udp", 'u', &f.udp),
		OPT_FLAG("--listening", 'l', &f.listening), OPT_FLAG("--kernel", 'k', &f.kernel),
		OPT_VALUE("--pid", 'p', &pid_arg),
		OPT_VALUE("--port", 0, &port_arg), { 0 },
	};
	int n = opts_parse(&verb_sockets, opts, true, argc, argv);
	cJSON *root, *list, *all, *s;
	bool failed;

	if (n < 0)
		return EXIT_USAGE;
	if (n > 0)
		return usage_error(&verb_sockets, "unexpected \"%s\"", argv[1]);
	if (port_arg && (f.port = number(port_arg, 0, 65535)) < 0)
		return usage_error(&verb_sockets, "--port is 0 to 65535");
	if (pid_arg && (f.pid = (pid_t)number(pid_arg, 1, 1 << 30)) < 0)
		return usage_error(&verb_sockets, "\"%s\" is not a pid", pid_arg);
	root = cJSON_CreateObject();
	list = cJSON_AddArrayToObject(root, "sockets");
	all = ctl_sockets(f.pid, &failed);
	while ((s = cJSON_DetachItemFromArray(all, 0))) {
		if (wanted(&f, s))
			cJSON_AddItemToArray(list, s);
		else
			cJSON_Delete(s);
	}
	cJSON_Delete(all);
	if (json) {
		print_json(root);
	} else {
		print_sockets(list);
		cJSON_Delete(root);
	}
	return failed ? EXIT_FAILED : 0;
}

const struct verb verb_sockets = {
	"sockets", sockets_run, "the sockets of programs under nstack, like ss",
	"sockets [-t] [-u] [-l] [-k] [--pid PID] [--port PORT] [--json]",
	"State, queues, addresses, round-trip time, congestion window (segments), retransmitted\n"
	"segments, stack and process of every TCP and UDP socket of programs under nstack. For a\n"
	"listener, Recv-Q is the number of connections that wait for accept(), Send-Q the backlog.\n"
	"Where the kernel serves a socket, the reason follows (nstack status and nstack(1) explain\n"
	"them); undecided: nothing has waited or sent on it yet.\n\n"
	"  -t, --tcp         TCP only\n"
	"  -u, --udp         UDP only\n"
	"  -l, --listening   listeners and unconnected sockets only\n"
	"  -k, --kernel      only those that the kernel serves\n"
	"  -p, --pid PID     of one process\n"
	"      --port PORT   with this local or remote port\n"
	"  -j, --json        print JSON\n",
};
