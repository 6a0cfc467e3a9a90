/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/hosts.c - stacks of others that the daemon has: plug-ins of deploy type 3, each in a process
 *
 * The daemon gives up what it needs no more, and executes nothing. So one process more is made before: the
 * keeper, which only starts nstack-host for each stack, and again when one has ended: at once, and with growing
 * pauses if it does not stay. A stack that crashes takes nothing with it, and programs find the next one.
 *
 * The keeper has a parent, the guard, that does nothing but make another one when it has been killed. Their lives
 * hang on a pair of sockets: the daemon's byte says that they may begin, the end of its side that it has ended; their
 * byte says that a stack has come or gone, the end of their side that both were killed, and nobody starts stacks any
 * more. A stack's life hangs on its keeper (PR_SET_PDEATHSIG). How the stacks are is in memory that the keeper writes
 * and the daemon reads.
 */
#define _GNU_SOURCE
#include "tools/nstackd/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <nsocket/worker.h>
#include <nstack/dmm_stack.h>
#include <poll.h>
#include <rd/alarm.h>
#include <rd/log.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define STAYED_NS 10000000000ull /* who lived so long is started again at once */
#define PAUSE_NS 100000000ull    /* else after this, and twice as long each time */
#define PAUSES 6
#define START_MS 5000            /* so long the daemon waits for a stack that is slow to start */
#define STOP_MS 2000             /* so long a stack may take to end */
#define LOOK_MS 10

enum state { HOST_NONE, HOST_STARTING, HOST_READY, HOST_ENDED };

/* Written by the keeper; read by the daemon, relaxed: each value stands for itself. */
struct host_seen {
	uint32_t state; /* atomic: enum state */
	uint32_t restarts;
	pid_t pid;
};

/* The keeper's own. */
struct host {
	const char *name;
	struct host_seen *seen;
	pid_t pid;
	int word; /* from which its "ready" comes; -1: it has come */
	uint32_t quick;
	uint64_t started, again_at; /* again_at 0: not to be started */
};

static struct host hosts[RD_MODULES_MAX];
static uint32_t nhosts;
static struct host_seen *seen;
static pid_t guard;
static int leash = -1; /* the daemon's side; in guard and keeper theirs */
static bool lost;      /* both were killed */

/* --- the keeper -------------------------------------------------------------------------------- */

static void see(struct host *h, enum state state)
{
	__atomic_store_n(&h->seen->pid, h->pid, __ATOMIC_RELAXED);
	__atomic_store_n(&h->seen->state, state, __ATOMIC_RELAXED);
	send(leash, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* full: the daemon has something to read anyway */
}

/* nstack-host is beside nstackd. */
static void become(const struct host *h, int word, pid_t keeper)
{
	char path[PATH_MAX], fd[16];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("nstack-host"));
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (n <= 0 || getppid() != keeper)
		_exit(1);
	path[n] = 0;
	strcpy(strrchr(path, '/') + 1, "nstack-host");
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC); /* systemd's, too */
	fcntl(word, F_SETFD, 0);
	snprintf(fd, sizeof(fd), "%d", word);
	execl(path, "nstack-host", "--ready-fd", fd, h->name, (char *)NULL);
	fprintf(stderr, "nstackd: %s: %s\n", path, strerror(errno));
	_exit(1);
}

static void host_start(struct host *h)
{
	pid_t keeper = getpid();
	int pair[2];

	h->started = worker_now();
	h->again_at = h->started + PAUSE_NS;
	if (pipe2(pair, O_CLOEXEC))
		return;
	h->pid = fork();
	if (!h->pid)
		become(h, pair[1], keeper);
	close(pair[1]);
	if (h->pid < 0) {
		h->pid = 0;
		close(pair[0]);
		return;
	}
	h->word = pair[0];
	h->again_at = 0;
	see(h, HOST_STARTING);
}

static void word_end(struct host *h)
{
	if (h->word >= 0)
		close(h->word);
	h->word = -1;
}

static void host_ended(struct host *h, int status)
{
	uint64_t now = worker_now();

	ns_log(NS_ERR, NS_M_OPER, "stack \"%s\" (%d) %s %d", h->name, (int)h->pid,
	       WIFSIGNALED(status) ? "was killed by signal" : "ended with status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	word_end(h);
	h->pid = 0;
	h->quick = now - h->started >= STAYED_NS ? 0 : h->quick + (h->quick < PAUSES);
	h->again_at = now + (h->quick ? PAUSE_NS << (h->quick - 1) : 0);
	__atomic_add_fetch(&h->seen->restarts, 1, __ATOMIC_RELAXED);
	see(h, HOST_ENDED);
}

static void host_word(struct host *h)
{
	char byte;

	if (read(h->word, &byte, 1) == 1) {
		ns_log(NS_INF, NS_M_OPER, "stack \"%s\" (%d) is there", h->name, (int)h->pid);
		see(h, HOST_READY);
	}
	word_end(h);
}

static void reap(void)
{
	int status;

	for (uint32_t i = 0; i < nhosts; i++)
		if (hosts[i].pid && waitpid(hosts[i].pid, &status, WNOHANG) == hosts[i].pid)
			host_ended(&hosts[i], status);
}

/* Starts what is due; until the next one is, in ms. */
static int start_due(void)
{
	uint64_t now = worker_now(), next = UINT64_MAX;

	for (uint32_t i = 0; i < nhosts; i++) {
		if (hosts[i].again_at && now >= hosts[i].again_at)
			host_start(&hosts[i]);
		if (hosts[i].again_at && hosts[i].again_at < next)
			next = hosts[i].again_at;
	}
	return next == UINT64_MAX ? -1 : next <= now ? 0 : (int)((next - now) / 1000000 + 1);
}

static bool any_host(void)
{
	bool any = false;

	for (uint32_t i = 0; i < nhosts; i++)
		any |= hosts[i].pid != 0;
	return any;
}

static void signal_all(int sig)
{
	for (uint32_t i = 0; i < nhosts; i++)
		if (hosts[i].pid)
			kill(hosts[i].pid, sig);
}

static void end_all(void)
{
	signal_all(SIGTERM);
	for (int ms = 0; any_host(); ms += LOOK_MS) {
		if (ms == STOP_MS)
			signal_all(SIGKILL);
		poll(NULL, 0, LOOK_MS);
		for (uint32_t i = 0; i < nhosts; i++)
			if (hosts[i].pid && waitpid(hosts[i].pid, NULL, WNOHANG) == hosts[i].pid)
				hosts[i].pid = 0;
	}
}

/* One turn; false: the daemon has ended. */
static bool keep(int sigfd)
{
	struct pollfd p[2 + RD_MODULES_MAX] = { { .fd = leash, .events = POLLIN }, { .fd = sigfd, .events = POLLIN } };
	struct signalfd_siginfo si;
	int ms = start_due();

	for (uint32_t i = 0; i < nhosts; i++)
		p[2 + i] = (struct pollfd){ .fd = hosts[i].word, .events = POLLIN };
	if (poll(p, 2 + nhosts, ms) < 0)
		return true;
	for (uint32_t i = 0; i < nhosts; i++)
		if (p[2 + i].revents)
			host_word(&hosts[i]);
	while (read(sigfd, &si, sizeof(si)) == sizeof(si))
		;
	reap();
	return !p[0].revents;
}

/* What a keeper before this one had ends with it. */
static void begin(struct host *h)
{
	h->again_at = 1;
	if (!__atomic_load_n(&h->seen->pid, __ATOMIC_RELAXED))
		return;
	__atomic_add_fetch(&h->seen->restarts, 1, __ATOMIC_RELAXED);
	see(h, HOST_ENDED);
}

static void keeper_run(void)
{
	sigset_t set;
	int sigfd;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_NAME, "nstackd-keeper", 0, 0, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigfd < 0)
		_exit(1);
	for (uint32_t i = 0; i < nhosts; i++)
		begin(&hosts[i]);
	while (keep(sigfd))
		;
	end_all();
	_exit(0);
}

static void guard_run(void)
{
	int status;
	sigset_t set;
	pid_t pid;
	char go;

	/* the daemon says when it is over, also to those that a terminal or systemd sends signals to */
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_NAME, "nstackd-guard", 0, 0, 0);
	if (read(leash, &go, 1) != 1)
		_exit(0);
	for (;;) {
		pid = fork();
		if (!pid)
			keeper_run();
		if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status))
			_exit(0);
		ns_log(NS_ERR, NS_M_OPER, "the process that starts stacks (%d) has ended: another one begins", (int)pid);
		poll(NULL, 0, PAUSE_NS / 1000000);
	}
}

/* --- the daemon ----------------------------------------------------------------------------------- */

static void choose(const struct rd_modules *ms)
{
	for (uint32_t i = 0; ms && i < ms->n; i++)
		if (ms->m[i].deploy == NSTACK_MODEL_TYPE3)
			hosts[nhosts++] = (struct host){ .name = ms->m[i].name, .word = -1 };
}

int hosts_prepare(const struct rd_modules *ms)
{
	int pair[2];

	choose(ms);
	if (!nhosts)
		return 0;
	seen = mmap(NULL, nhosts * sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	for (uint32_t i = 0; i < nhosts; i++)
		hosts[i].seen = &seen[i];
	guard = fork();
	leash = pair[guard == 0];
	close(pair[guard != 0]);
	if (!guard)
		guard_run();
	return guard < 0 ? -errno : 0;
}

static uint32_t state_of(uint32_t i)
{
	return lost ? HOST_ENDED : __atomic_load_n(&seen[i].state, __ATOMIC_RELAXED);
}

static bool all_decided(void)
{
	for (uint32_t i = 0; i < nhosts; i++)
		if (state_of(i) != HOST_READY && state_of(i) != HOST_ENDED)
			return false;
	return true;
}

void hosts_start(void)
{
	if (leash < 0 || write(leash, "g", 1) != 1)
		return;
	for (int ms = 0; ms < START_MS && !all_decided(); ms += LOOK_MS)
		poll(NULL, 0, LOOK_MS);
}

int hosts_fd(void)
{
	return leash;
}

/* One that starts for the first time is not missed yet. */
static bool is_gone(uint32_t i)
{
	return state_of(i) == HOST_ENDED ||
	       (state_of(i) == HOST_STARTING && __atomic_load_n(&seen[i].restarts, __ATOMIC_RELAXED));
}

/* The first one, and how many more. */
static void alarm_look(void)
{
	uint32_t gone = 0, first = 0, starting = 0;

	for (uint32_t i = nhosts; i-- > 0;) {
		starting += state_of(i) == HOST_STARTING;
		if (is_gone(i)) {
			gone++;
			first = i;
		}
	}
	if (!gone && !starting)
		ns_alarm_clear(NS_ALARM_STACK_LOST);
	else if (!gone)
		return; /* we'll see */
	else if (lost)
		ns_alarm_raise(NS_ALARM_STACK_LOST, "the process that starts stacks was killed: nstackd has to be started "
			       "again for \"%s\"%s", hosts[first].name, gone > 1 ? " and others" : "");
	else
		ns_alarm_raise(NS_ALARM_STACK_LOST, "stack \"%s\"%s ended, and is started again (the log says why)",
			       hosts[first].name, gone > 1 ? " and others have" : " has");
}

void hosts_run(void)
{
	char words[64];
	ssize_t n;

	do
		n = recv(leash, words, sizeof(words), MSG_DONTWAIT);
	while (n > 0);
	if (n == 0) {
		hosts_leave();
		lost = true;
	}
	alarm_look();
}

void hosts_leave(void)
{
	if (leash >= 0)
		close(leash);
	leash = -1;
}

void hosts_stop(void)
{
	hosts_leave();
	if (guard > 0)
		waitpid(guard, NULL, 0);
}

void hosts_status(cJSON *o)
{
	cJSON *list = nhosts ? cJSON_AddArrayToObject(o, "stacks") : NULL, *h;

	for (uint32_t i = 0; i < nhosts; i++) {
		h = cJSON_CreateObject();
		cJSON_AddItemToArray(list, h);
		cJSON_AddStringToObject(h, "name", hosts[i].name);
		cJSON_AddNumberToObject(h, "deploy", NSTACK_MODEL_TYPE3);
		cJSON_AddBoolToObject(h, "usable", state_of(i) == HOST_READY);
		cJSON_AddNumberToObject(h, "pid", lost ? 0 : __atomic_load_n(&seen[i].pid, __ATOMIC_RELAXED));
		cJSON_AddNumberToObject(h, "restarts", __atomic_load_n(&seen[i].restarts, __ATOMIC_RELAXED));
	}
}
