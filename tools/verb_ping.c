/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_ping.c - nstack ping: is a host reached by the user-space stack's own path?
 *
 * The process with the stack sends the requests and takes the answers, which the kernel never sees; the clock, the
 * counting and the words are here. Exit codes are those of ping(8): 0 somebody answered, 1 nobody, 2 it went wrong.
 */
#define _GNU_SOURCE
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <nstack/stack.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EXIT_NO_ANSWER 1
#define EXIT_WRONG 2
#define LOOK_FIRST 0.0005 /* s: answers are asked for so soon after a request, then after twice as long */
#define LOOK_LAST 0.05

struct ping {
	const char *name;      /* as it was given */
	char to[INET6_ADDRSTRLEN], from[INET6_ADDRSTRLEN], ifname[IF_NAMESIZE];
	int family;            /* that was asked for; 0: any */
	long long count, size; /* count 0: for ever */
	double interval, patience;
	bool json;
	pid_t pid;
	int fd;                /* control connection */
	char why[256];
	long long sent, failed, received, again, unreachable;
	long long waiting;     /* requests that may be answered yet */
	double min_us, max_us, sum_us;
	cJSON *answers;        /* with json */
};

static volatile sig_atomic_t stopped; /* by a signal, which comes in naps only */
static sigset_t signals_before;

static void on_stop(int sig)
{
	stopped = 1;
}

static void signals_open(void)
{
	struct sigaction sa = { .sa_handler = on_stop };
	sigset_t ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigprocmask(SIG_BLOCK, &ours, &signals_before);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static void nap(double s)
{
	struct timespec t = { .tv_nsec = s > 0 ? (long)(s * 1e9) : 0 };

	ppoll(NULL, 0, &t, &signals_before);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- what is asked for ----------------------------------------------------------------------------- */

static bool seconds(const char *s, double min, double *out)
{
	char *end;

	if (!s)
		return true;
	*out = strtod(s, &end);
	return end != s && !*end && *out >= min && *out <= 86400;
}

static bool whole(const char *s, long long min, long long max, long long *out)
{
	if (s)
		*out = number(s, min, max);
	return *out >= 0;
}

/* The other end: of the family that was asked for, or that of the address it is to come from. */
static int resolve(struct ping *p)
{
	struct addrinfo hints = { .ai_family = p->family, .ai_socktype = SOCK_DGRAM }, *list;
	int err = getaddrinfo(p->name, NULL, &hints, &list);

	if (err) {
		fail("%s: %s", p->name, gai_strerror(err));
		return EXIT_WRONG;
	}
	if (list->ai_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)(const void *)list->ai_addr;

		inet_ntop(AF_INET6, &a->sin6_addr, p->to, sizeof(p->to));
		if (a->sin6_scope_id && !p->ifname[0])
			if_indextoname(a->sin6_scope_id, p->ifname);
	} else {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)list->ai_addr)->sin_addr, p->to,
			  sizeof(p->to));
	}
	freeaddrinfo(list);
	return 0;
}

/* -I: an address or an interface */
static int read_source(struct ping *p, const char *source)
{
	uint8_t a[16];
	int family = inet_pton(AF_INET, source, a) == 1 ? AF_INET : inet_pton(AF_INET6, source, a) == 1 ? AF_INET6 : 0;

	if (!family && strlen(source) >= sizeof(p->ifname))
		return usage_error(&verb_ping, "\"%s\" is neither an address nor an interface", source);
	if (family && p->family && p->family != family)
		return usage_error(&verb_ping, "-I is an address of the other family");
	if (family) {
		snprintf(p->from, sizeof(p->from), "%s", source);
		p->family = family;
	} else {
		snprintf(p->ifname, sizeof(p->ifname), "%s", source);
	}
	return 0;
}

static int read_options(struct ping *p, int argc, char **argv, const char **pid)
{
	const char *count = NULL, *interval = NULL, *size = NULL, *patience = NULL, *source = NULL;
	bool v4 = false, v6 = false;
	const struct opt opts[] = {
		OPT_VALUE("--count", 'c', &count), OPT_VALUE("--interval", 'i', &interval),
		OPT_VALUE("--size", 's', &size), OPT_VALUE("--wait", 'W', &patience),
		OPT_VALUE("--source", 'I', &source), OPT_VALUE("--pid", 'p', pid),
		OPT_FLAG("--ipv4", '4', &v4), OPT_FLAG("--ipv6", '6', &v6), OPT_FLAG("--json", 0, &p->json), { 0 },
	};
	int n = opts_parse(&verb_ping, opts, true, argc, argv);

	if (n < 0)
		return EXIT_WRONG;
	if (n != 1)
		return usage_error(&verb_ping, "one host or address is needed");
	if (!whole(count, 1, 1ll << 40, &p->count) || !whole(size, STACK_PING_MIN, 65507, &p->size))
		return usage_error(&verb_ping, "-c is a number of requests, -s %u to 65507 bytes", STACK_PING_MIN);
	if (!seconds(interval, 0.01, &p->interval) || !seconds(patience, 0.01, &p->patience))
		return usage_error(&verb_ping, "-i and -W are seconds, from 0.01");
	if (v4 && v6)
		return usage_error(&verb_ping, "-4 or -6");
	p->name = argv[1];
	p->family = v4 ? AF_INET : v6 ? AF_INET6 : 0;
	return source ? read_source(p, source) : 0;
}

/* --- the process with the stack ---------------------------------------------------------------------- */

/* A daemon's program has none of its own, a daemon's main process may leave it to workers. */
static int find_stack(struct ping *p, const char *arg)
{
	cJSON *status;
	pid_t served;

	if (ctl_pick(arg, &p->pid))
		return EXIT_WRONG;
	status = ctl_ask(p->pid, "status", p->why);
	served = (pid_t)num(status, "daemon");
	cJSON_Delete(status);
	if (served > 0)
		p->pid = served;
	(void)ctl_workers(p->pid, &p->pid, 1);
	p->fd = ctl_connect(p->pid);
	if (p->fd >= 0)
		return 0;
	fail("pid %d: %s", (int)p->pid, ctl_connect_error(p->fd));
	return EXIT_WRONG;
}

static int begin(struct ping *p)
{
	cJSON *q = ctl_request_new("ping_start"), *r;

	cJSON_AddStringToObject(q, "to", p->to);
	if (p->from[0])
		cJSON_AddStringToObject(q, "from", p->from);
	cJSON_AddStringToObject(q, "interface", p->ifname);
	put_u64(q, "size", (uint64_t)p->size);
	r = ctl_call(p->fd, q, -1, p->why);
	if (!r) {
		fail("pid %d: %s", (int)p->pid, p->why);
		return EXIT_WRONG;
	}
	snprintf(p->from, sizeof(p->from), "%s", str(r, "from"));
	snprintf(p->ifname, sizeof(p->ifname), "%s", str(r, "interface"));
	cJSON_Delete(r);
	if (!p->json)
		printf("PING %s (%s) from %s %s by the stack of pid %d: %lld bytes of payload\n", p->name, p->to,
		       p->from, p->ifname, (int)p->pid, p->size);
	return 0;
}

/* --- requests and answers ---------------------------------------------------------------------------- */

static bool send_request(struct ping *p)
{
	cJSON *r = ctl_call(p->fd, ctl_request_new("ping_send"), -1, p->why);

	if (!r)
		return false;
	p->sent++;
	p->waiting++;
	if (*str(r, "failed")) {
		p->failed++;
		p->waiting--;
		if (!p->json)
			printf("icmp_seq=%.0f: not sent: %s\n", num(r, "seq"), str(r, "failed"));
	}
	cJSON_Delete(r);
	return true;
}

static void count_answer(struct ping *p, const cJSON *a)
{
	double us = num(a, "rtt_ns") / 1000;

	if (flag(a, "again")) {
		p->again++;
		return;
	}
	if (!p->received || us < p->min_us)
		p->min_us = us;
	if (us > p->max_us)
		p->max_us = us;
	p->sum_us += us;
	p->received++;
	if (p->waiting)
		p->waiting--;
}

static void show_answer(const struct ping *p, const cJSON *a)
{
	if (flag(a, "unreachable"))
		printf("icmp_seq=%.0f: the next hop does not answer\n", num(a, "seq"));
	else
		printf("%.0f bytes from %s: icmp_seq=%.0f ttl=%.0f time=%.1f us%s\n", num(a, "bytes"), p->to,
		       num(a, "seq"), num(a, "ttl"), num(a, "rtt_ns") / 1000, flag(a, "again") ? " (DUP!)" : "");
}

static bool take_answers(struct ping *p)
{
	cJSON *r = ctl_call(p->fd, ctl_request_new("ping_answers"), -1, p->why), *list, *a;

	if (!r)
		return false;
	list = cJSON_GetObjectItemCaseSensitive(r, "answers");
	while ((a = cJSON_DetachItemFromArray(list, 0))) {
		if (flag(a, "unreachable")) { /* what waited for that is gone */
			p->unreachable++;
			p->waiting = 0;
		} else {
			count_answer(p, a);
		}
		if (p->json) {
			cJSON_AddItemToArray(p->answers, a);
			continue;
		}
		show_answer(p, a);
		cJSON_Delete(a);
	}
	cJSON_Delete(r);
	return true;
}

/* Until all have been sent and answered, nobody is waited for any more, or a signal comes. False: why. */
static bool run(struct ping *p)
{
	double next = now(), last = next, look = LOOK_FIRST, t, wait;

	while (!stopped) {
		t = now();
		if ((!p->count || p->sent < p->count) && t >= next) {
			if (!send_request(p))
				return false;
			last = t;
			next = t + p->interval;
			look = LOOK_FIRST;
		}
		if (p->waiting && !take_answers(p))
			return false;
		fflush(stdout);
		if (p->sent == p->count && (!p->waiting || t - last >= p->patience))
			break;
		wait = p->waiting ? look : LOOK_LAST;
		if (p->sent != p->count && next - t < wait)
			wait = next - t;
		look = look * 2 < LOOK_LAST ? look * 2 : LOOK_LAST;
		nap(wait);
	}
	return true;
}

/* --- the end ------------------------------------------------------------------------------------------- */

static double loss(const struct ping *p)
{
	return p->sent ? 100.0 * (double)(p->sent - p->received) / (double)p->sent : 0;
}

static void sum_up(const struct ping *p)
{
	printf("--- %s ping statistics ---\n%lld packets transmitted, %lld received, ", p->name, p->sent, p->received);
	if (p->again)
		printf("+%lld duplicates, ", p->again);
	if (p->failed + p->unreachable)
		printf("+%lld errors, ", p->failed + p->unreachable);
	printf("%.3g%% packet loss\n", loss(p));
	if (p->received)
		printf("rtt min/avg/max = %.1f/%.1f/%.1f us\n", p->min_us, p->sum_us / (double)p->received, p->max_us);
}

static void sum_up_json(struct ping *p)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddStringToObject(o, "to", p->to);
	cJSON_AddStringToObject(o, "from", p->from);
	cJSON_AddStringToObject(o, "interface", p->ifname);
	put_u64(o, "pid", (uint64_t)p->pid);
	put_u64(o, "size", (uint64_t)p->size);
	put_u64(o, "sent", (uint64_t)p->sent);
	put_u64(o, "received", (uint64_t)p->received);
	put_u64(o, "duplicates", (uint64_t)p->again);
	put_u64(o, "not_sent", (uint64_t)p->failed);
	cJSON_AddNumberToObject(o, "loss_percent", loss(p));
	if (p->received) {
		cJSON_AddNumberToObject(o, "rtt_min_us", p->min_us);
		cJSON_AddNumberToObject(o, "rtt_avg_us", p->sum_us / (double)p->received);
		cJSON_AddNumberToObject(o, "rtt_max_us", p->max_us);
	}
	cJSON_AddItemToObject(o, "answers", p->answers);
	print_json(o);
}

static int ping_run(int argc, char **argv)
{
	struct ping p = { .size = 56, .interval = 1, .patience = 2, .fd = -1 };
	const char *pid = NULL;
	bool done;
	int ret = read_options(&p, argc, argv, &pid);

	if (!ret)
		ret = resolve(&p);
	if (!ret)
		ret = find_stack(&p, pid);
	if (!ret)
		ret = begin(&p);
	if (ret)
		return ret;
	signals_open();
	p.answers = p.json ? cJSON_CreateArray() : NULL;
	done = run(&p);
	close(p.fd);
	if (p.json)
		sum_up_json(&p);
	else
		sum_up(&p);
	if (!done)
		fail("pid %d: %s", (int)p.pid, p.why);
	return !done ? EXIT_WRONG : p.received ? 0 : EXIT_NO_ANSWER;
}

const struct verb verb_ping = {
	"ping", ping_run, "ping a host by a user-space stack",
	"ping [-c COUNT] [-i SECONDS] [-s BYTES] [-W SECONDS] [-I IFACE|ADDRESS] [-p PID] [-4|-6] [--json] HOST",
	"Sends ICMP echo requests by the stack of a process under nstack, or of nstackd: through its driver, by\n"
	"its routes and neighbours, and takes the answers there. So it shows whether that path works, apart from\n"
	"the kernel's. Exit code: 0 there were answers, 1 there were none, 2 it went wrong.\n\n"
	"  -c, --count N         stop after N requests; else at ctrl-c\n"
	"  -i, --interval S      seconds between requests (1)\n"
	"  -s, --size BYTES      of payload (56); at least 8, at most what fits into one packet\n"
	"  -W, --wait S          how long answers are waited for after the last request (2)\n"
	"  -I, --source WHAT     an interface of the stack, or a local address\n"
	"  -p, --pid PID         whose stack; needed if several processes have one and none is nstackd\n"
	"  -4, -6                of a host with several addresses, one of this family\n"
	"  --json                one JSON value at the end\n",
};
