/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_dump.c - nstack dump: capture what a process's stack receives and sends
 *
 * The file is opened here, with the caller's rights, and its descriptor passed on; the process
 * writes pcapng blocks into it until told to stop, or until this connection ends. With a number of
 * packets or a filter the process writes into a memfd instead, and the wanted blocks are copied
 * from there (dump_filter.c).
 */
#define _GNU_SOURCE
#include "tool.h"
#include "dump_filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
	stopped = 1;
}

/* "port 80", "host 198.18.0.1", "tcp", "udp", a pid; in any order */
static int read_words(int n, char **argv, struct dump_filter *f, const char **pid)
{
	for (int i = 1; i <= n; i++) {
		if (!strcmp(argv[i], "tcp") || !strcmp(argv[i], "udp")) {
			f->proto = !strcmp(argv[i], "tcp") ? IPPROTO_TCP : IPPROTO_UDP;
		} else if (!strcmp(argv[i], "port") && i < n) {
			long long port = number(argv[++i], 1, 65535);

			if (port < 0)
				return usage_error(&verb_dump, "a port is 1 to 65535");
			f->port = (uint16_t)port;
		} else if (!strcmp(argv[i], "host") && i < n) {
			f->family = inet_pton(AF_INET, argv[++i], f->host) == 1 ? AF_INET :
				    inet_pton(AF_INET6, argv[i], f->host) == 1 ? AF_INET6 : 0;
			if (!f->family)
				return usage_error(&verb_dump, "\"%s\" is not an IP address", argv[i]);
		} else if (number(argv[i], 1, 1 << 30) > 0 && !*pid) {
			*pid = argv[i];
		} else {
			return usage_error(&verb_dump, "unexpected \"%s\"", argv[i]);
		}
	}
	return 0;
}

/* Until the bound is reached, a signal comes, or the process is gone. */
static void wait_for_end(int fd, struct dump_filter *f)
{
	struct timespec nap = { 0, 100000000 };
	char why[256];
	bool running = true;

	while (!stopped && running) {
		cJSON *r;

		nanosleep(&nap, NULL);
		if (stopped)
			return;
		r = ctl_call(fd, ctl_request_new("dump_state"), -1, why);
		running = r && flag(r, "running");
		cJSON_Delete(r);
		if (f && dump_filter_run(f))
			return;
	}
}

/* f NULL: the process writes into the file itself. */
static int capture(int fd, pid_t pid, int out, cJSON *q, const char *path, struct dump_filter *f)
{
	char why[256] = "";
	cJSON *r = ctl_call(fd, q, f ? f->in : out, why);
	double packets;

	if (!r)
		return fail("pid %d: %s", (int)pid, why);
	cJSON_Delete(r);
	fprintf(stderr, "nstack: capturing pid %d into %s; stop with ctrl-c\n", (int)pid, path);
	wait_for_end(fd, f);
	r = ctl_call(fd, ctl_request_new("dump_stop"), -1, why);
	if (f && dump_filter_run(f) < 0)
		return fail("%s: %s", path, strerror(errno));
	if (!r)
		return fail("pid %d: %s", (int)pid, why);
	packets = f ? (double)f->packets : num(r, "packets");
	fprintf(stderr, "nstack: %.0f packets captured, %.0f lost\n", packets, num(r, "lost"));
	cJSON_Delete(r);
	return 0;
}

static int dump_run(int argc, char **argv)
{
	const char *file = NULL, *count = NULL, *snap = NULL, *ifname = NULL, *pid_arg = NULL, *seconds = NULL;
	const struct opt opts[] = {
		OPT_VALUE("--write", 'w', &file), OPT_VALUE("--count", 'c', &count),
		OPT_VALUE("--snaplen", 's', &snap), OPT_VALUE("--interface", 'i', &ifname),
		OPT_VALUE("--time", 't', &seconds), { 0 },
	};
	int n = opts_parse(&verb_dump, opts, true, argc, argv), fd, out, ret;
	struct sigaction sa = { .sa_handler = on_stop };
	struct dump_filter f = { .in = -1, .out = -1 };
	cJSON *q;
	pid_t pid;

	if (n < 0)
		return EXIT_USAGE;
	if (!file)
		return usage_error(&verb_dump, "-w FILE is needed (\"-\" for stdout)");
	if (!strcmp(file, "-") && isatty(1))
		return usage_error(&verb_dump, "a capture is no text for a terminal; -w FILE, or a pipe");
	if ((count && number(count, 1, 1ll << 40) < 0) || (snap && number(snap, 64, 65535) < 0))
		return usage_error(&verb_dump, "-c is a number of packets, -s 64 to 65535 bytes");
	if (seconds && number(seconds, 1, 1 << 30) < 0)
		return usage_error(&verb_dump, "-t is a number of seconds");
	q = ctl_request_new("dump_start");
	ret = read_words(n, argv, &f, &pid_arg);
	if (!ret)
		ret = ctl_pick(pid_arg, &pid);
	if (ret) {
		cJSON_Delete(q);
		return ret;
	}
	f.max_packets = count ? (uint64_t)atoll(count) : 0;
	if (snap)
		put_u64(q, "snaplen", (uint64_t)atoll(snap));
	if (ifname)
		cJSON_AddStringToObject(q, "ifname", ifname);
	fd = ctl_connect(pid);
	out = fd < 0 ? -1 : !strcmp(file, "-") ? dup(1) :
	      open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || out < 0) {
		cJSON_Delete(q);
		return fd < 0 ? fail("pid %d: %s", (int)pid, ctl_connect_error(fd)) :
		       fail("%s: %s", file, strerror(errno));
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	alarm(seconds ? (unsigned)number(seconds, 1, 1 << 30) : 0);
	if ((f.max_packets || f.port || f.proto || f.family) && dump_filter_open(&f, out)) {
		cJSON_Delete(q);
		ret = fail("no memory file: %s", strerror(errno));
	} else {
		ret = capture(fd, pid, out, q, file, f.in >= 0 ? &f : NULL);
	}
	dump_filter_close(&f);
	close(out);
	close(fd);
	return ret;
}

const struct verb verb_dump = {
	"dump", dump_run, "capture a process's packets into a pcapng file",
	"dump -w FILE [-c PACKETS] [-s BYTES] [-i IFACE] [-t SECONDS] [PID] [tcp|udp] [port PORT] [host ADDRESS]",
	"Packets that the user-space stack takes never reach tcpdump; this captures them where the\n"
	"stack receives and sends. Wireshark and tshark read the file. PID may be left out if only one\n"
	"process runs under nstack.\n\n"
	"  -w, --write FILE      file to write; \"-\" is stdout\n"
	"  -c, --count N         stop after N packets\n"
	"  -s, --snaplen BYTES   keep only the first bytes of a packet\n"
	"  -i, --interface NAME  of one interface\n"
	"  -t, --time SECONDS    stop after so long\n"
	"  tcp, udp, port PORT, host ADDRESS   only these\n",
};
