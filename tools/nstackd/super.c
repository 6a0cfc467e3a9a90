/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/super.c - several workers
 *
 * The main process has the daemon's socket, decides who may attach, and hands the program's connection to one of
 * its workers, each of which is a daemon of its own: stack, packet rings, ports. It does nothing else, so that it
 * is not what dies. A worker that does takes its programs' connections with it; these programs come back by
 * themselves and are given to a worker that lives, while the dead one is started again: at once, and with growing
 * pauses if it does not stay.
 *
 * Programs of a process group, and what a program has started, go to the same worker: they may share sockets, which
 * the stack of one worker can serve only. Everybody else goes where there are fewest.
 *
 * The channel to a worker: the main process sends the number of a quota with the connection, the worker one
 * byte when it is ready. Its end is the end of the other side.
 *
 * Threads: one in each process.
 */
#define _GNU_SOURCE
#include "tools/nstackd/super.h"

#include "tools/nstackd/access.h"
#include "tools/nstackd/closer.h"
#include "tools/nstackd/door.h"
#include "tools/nstackd/hosts.h"
#include "tools/nstackd/limits.h"
#include "tools/nstackd/notify.h"
#include "tools/nstackd/reload.h"
#include "tools/nstackd/shared.h"
#include "tools/nstackd/signals.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <nsocket/ctl_server.h>
#include <nsocket/worker.h>
#include <poll.h>
#include <rd/alarm.h>
#include <rd/log.h>
#include <sched.h>
#include <shm/attach.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <urcu-bp.h>

#define NO_QUOTA UINT32_MAX
#define START_S 30                  /* a worker that is not ready by then is not going to be */
#define STAYED_NS 10000000000ull    /* who lived so long is started again at once */
#define PAUSE_NS 100000000ull       /* else after this, and twice as long each time */
#define PAUSES 6
#define STOP_NS 20000000000ull      /* more than a worker's own patience */
#define ANCESTORS 32

enum kind { CHANNEL, PROGRAM };

struct child {
	enum kind kind;
	unsigned number;
	pid_t pid;          /* 0: not running */
	int channel;        /* -1: none */
	int core;           /* -1: any */
	bool ready;
	bool reloading;     /* it has been told to, and has not said that it is done */
	uint32_t programs, restarts, quick;
	uint64_t started, again_at; /* when; 0: not to be started */
};

/* A program that lives, and where it is. */
struct route {
	enum kind kind;
	struct route *next;
	pid_t pid, group, parent; /* when it came */
	int pidfd;
	struct child *child;
};

static struct child child[NS_WORKERS_MAX];
static uint32_t nchildren;
static struct route *routes;
static int ep = -1, sigfd = -1;
static int own_channel = -1; /* in a worker */
static bool reloading; /* systemd waits for the end of it */
static struct ctl_server *ctl;
static char on_door, on_signal, on_ctl, on_hosts;

/* --- where programs are ------------------------------------------------------------------------- */

static void route_end(struct route *r)
{
	struct route **at = &routes;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->child->programs--;
	close(r->pidfd); /* out of the epoll set, too */
	free(r);
}

static struct route *route_of(pid_t pid)
{
	struct route *r = routes;

	while (r && r->pid != pid)
		r = r->next;
	return r;
}

static struct route *route_of_group(pid_t group)
{
	struct route *r = routes;

	while (r && r->group != group)
		r = r->next;
	return r;
}

/* A child may come before its parent does. */
static struct route *route_of_child(pid_t pid)
{
	struct route *r = routes;

	while (r && r->parent != pid)
		r = r->next;
	return r;
}

/* 0: unknown. */
static pid_t parent(pid_t pid)
{
	char path[32], text[512];
	const char *end;
	int ppid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	end = strrchr(text, ')'); /* the name may have anything in it */
	return end && sscanf(end, ") %*c %d", &ppid) == 1 ? ppid : 0;
}

static struct child *of_family(pid_t pid)
{
	const struct route *r = route_of(pid);
	pid_t group = getpgid(pid);

	if (!r && group > 0)
		r = route_of_group(group);
	if (!r)
		r = route_of_child(pid);
	for (unsigned i = 0; !r && pid > 1 && i < ANCESTORS; i++) {
		pid = parent(pid);
		r = route_of(pid);
	}
	return r ? r->child : NULL;
}

static struct child *least_loaded(void)
{
	struct child *best = NULL;

	for (uint32_t i = 0; i < nchildren; i++)
		if (child[i].ready && (!best || child[i].programs < best->programs))
			best = &child[i];
	return best;
}

/* One that can't be watched (of another pid namespace) is not remembered. */
static void route_add(pid_t pid, struct child *c)
{
	struct route *r = route_of(pid);
	struct epoll_event ev = { .events = EPOLLIN };

	if (r && r->child == c)
		return;
	if (r)
		route_end(r);
	r = calloc(1, sizeof(*r));
	if (!r)
		return;
	*r = (struct route){ PROGRAM, routes, pid, getpgid(pid), parent(pid), (int)syscall(SYS_pidfd_open, pid, 0), c };
	ev.data.ptr = r;
	if (r->pidfd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, r->pidfd, &ev)) {
		if (r->pidfd >= 0)
			close(r->pidfd);
		free(r);
		return;
	}
	routes = r;
	c->programs++;
}

void super_in(const struct visitor *v, struct quota *a)
{
	uint32_t quota = a ? (uint32_t)(a - shared->quota) : NO_QUOTA;
	struct child *c = v->who.pid > 0 ? of_family(v->who.pid) : NULL;

	if (!c || !c->ready)
		c = least_loaded();
	if (!c) {
		door_refuse(v->sock, v->who.pid, -EAGAIN, "no worker is running");
		return;
	}
	access_done(a, c->number);
	if (att_send(c->channel, &quota, sizeof(quota), &v->sock, 1, MSG_DONTWAIT) < 0) {
		access_undo(a, c->number);
		door_refuse(v->sock, v->who.pid, -EAGAIN, "its worker does not answer");
		return;
	}
	close(v->sock);
	if (v->who.pid > 0)
		route_add(v->who.pid, c);
}

/* --- life of a worker ----------------------------------------------------------------------------- */

static void channel_end(struct child *c)
{
	if (c->channel >= 0)
		close(c->channel);
	c->channel = -1;
	c->ready = false;
}

/* In a new worker: nothing of the main process's stays. */
static void leave_main(struct child *self)
{
	while (routes)
		route_end(routes);
	for (uint32_t i = 0; i < nchildren; i++)
		channel_end(&child[i]);
	ctl_server_close(ctl);
	hosts_leave();
	door_leave();
	close(sigfd);
	close(ep);
	ns_log_after_fork();
	shared_become(self->number);
}

static int pin_to_core(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (core >= 0)
		CPU_SET((unsigned)core, &set);
	if (core < 0 || !sched_setaffinity(0, sizeof(set), &set))
		return 0;
	fprintf(stderr, "nstackd: a worker can't run on core %d: %s\n", core, strerror(errno));
	return -errno;
}

/* The state of the library that reads rules without locks goes along, and nobody holds a lock in the child. */
static pid_t fork_with_rcu(void)
{
	pid_t pid;

	call_rcu_before_fork();
	urcu_bp_before_fork();
	closer_fork_begin();
	pid = fork();
	closer_fork_end(!pid);
	if (pid) {
		urcu_bp_after_fork_parent();
		call_rcu_after_fork_parent();
	} else {
		urcu_bp_after_fork_child();
		call_rcu_after_fork_child();
	}
	return pid;
}

/* 0, or -errno; returns in the worker, too: own_channel is there then. */
static int start(struct child *c)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	char name[16];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	c->pid = fork_with_rcu();
	if (c->pid < 0) {
		c->pid = 0;
		close(pair[0]);
		close(pair[1]);
		return -EAGAIN;
	}
	if (!c->pid) {
		close(pair[0]);
		leave_main(c);
		own_channel = pair[1];
		snprintf(name, sizeof(name), "nstackd-%u", c->number);
		prctl(PR_SET_NAME, name, 0, 0, 0);
		if (pin_to_core(c->core))
			exit(1);
		return 0;
	}
	close(pair[1]);
	c->channel = pair[0];
	c->started = worker_now();
	c->again_at = 0;
	epoll_ctl(ep, EPOLL_CTL_ADD, c->channel, &ev);
	return 0;
}

/* At the start one after the other, so that what is wrong is said once. */
static int wait_ready(struct child *c)
{
	const struct timeval limit = { .tv_sec = START_S };
	char byte;

	setsockopt(c->channel, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (recv(c->channel, &byte, 1, 0) != 1)
		return -1;
	c->ready = true;
	return 0;
}

static bool all_ready(void)
{
	for (uint32_t i = 0; i < nchildren; i++)
		if (!child[i].ready)
			return false;
	return true;
}

/* c (NULL: none) is; once all are, systemd is told. */
static void reloaded(struct child *c)
{
	bool any = false;

	if (c)
		c->reloading = false;
	for (uint32_t i = 0; i < nchildren; i++)
		any |= child[i].reloading;
	if (reloading && !any)
		notify_systemd("READY=1");
	reloading = reloading && any;
}

static void ended(struct child *c, int status)
{
	uint64_t now = worker_now();
	struct route *r, *next;

	if (WIFSIGNALED(status))
		ns_log(NS_ERR, NS_M_OPER, "worker %u (%d) was killed by signal %d", c->number, (int)c->pid,
		       WTERMSIG(status));
	else
		ns_log(NS_ERR, NS_M_OPER, "worker %u (%d) ended with status %d", c->number, (int)c->pid,
		       WEXITSTATUS(status));
	ns_alarm_raise(NS_ALARM_WORKER_LOST, "worker %u (%d) has ended", c->number, (int)c->pid);
	channel_end(c);
	c->pid = 0;
	reloaded(c);
	c->restarts++;
	shared_forget(c->number);
	for (r = routes; r; r = next) {
		next = r->next;
		if (r->child == c)
			route_end(r);
	}
	c->quick = now - c->started >= STAYED_NS ? 0 : c->quick + (c->quick < PAUSES);
	c->again_at = now + (c->quick ? PAUSE_NS << (c->quick - 1) : 0);
}

static void reap_children(void)
{
	int status;

	for (uint32_t i = 0; i < nchildren; i++)
		if (child[i].pid && waitpid(child[i].pid, &status, WNOHANG) == child[i].pid)
			ended(&child[i], status);
}

/* True in a worker that has just begun. */
static bool restart_due(uint64_t now)
{
	for (uint32_t i = 0; i < nchildren; i++) {
		struct child *c = &child[i];

		if (c->pid || !c->again_at || now < c->again_at)
			continue;
		if (start(c))
			c->again_at = now + PAUSE_NS;
		if (own_channel >= 0)
			return true;
	}
	return false;
}

static void signal_all(int sig)
{
	for (uint32_t i = 0; i < nchildren; i++)
		if (child[i].pid)
			kill(child[i].pid, sig);
}

/* --- the main process ----------------------------------------------------------------------------- */

static void on_channel(struct child *c)
{
	char byte;

	if (c->channel < 0)
		return;
	if (recv(c->channel, &byte, 1, MSG_DONTWAIT) != 1) {
		channel_end(c); /* SIGCHLD says the rest */
		return;
	}
	if (!c->ready)
		ns_log(NS_INF, NS_M_OPER, "worker %u (%d) is ready", c->number, (int)c->pid);
	c->ready = true;
	if (all_ready())
		ns_alarm_clear(NS_ALARM_WORKER_LOST);
	reloaded(c);
}

/* A configuration with a mistake is not passed on. One that starts just now has read it anyway. */
static void on_hangup(void)
{
	int ret;

	notify_reloading();
	reloading = true;
	ret = reload(NULL, true);
	for (uint32_t i = 0; !ret && i < nchildren; i++)
		if (child[i].ready) {
			child[i].reloading = true;
			kill(child[i].pid, SIGHUP);
		}
	reloaded(NULL);
}

/* True: end. */
static bool on_signals(bool *children)
{
	struct signalfd_siginfo si;
	bool end = false;

	while (read(sigfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD) {
			*children = true;
		} else if (si.ssi_signo == SIGHUP) {
			on_hangup();
		} else {
			end = true;
		}
	}
	return end;
}

/* A worker that gives no sign of life is as good as dead, but has its programs' connections: it is killed, so
 * that these may go on elsewhere. When to look again. */
static uint64_t watchdog(uint64_t now)
{
	uint64_t period = notify_watchdog_ns();

	if (!period)
		return UINT64_MAX;
	notify_systemd("WATCHDOG=1");
	for (uint32_t i = 0; i < nchildren; i++)
		if (child[i].ready && shared_beat_of(i) && now > shared_beat_of(i) + period) {
			ns_log(NS_ERR, NS_M_OPER, "worker %u (%d) gives no sign of life: killed", i, (int)child[i].pid);
			kill(child[i].pid, SIGKILL);
		}
	return now + period / 2;
}

/* Until a worker is to be started again, or looked at. */
static int sleep_ms(uint64_t due)
{
	uint64_t now = worker_now();

	for (uint32_t i = 0; i < nchildren; i++)
		if (!child[i].pid && child[i].again_at && child[i].again_at < due)
			due = child[i].again_at;
	return due == UINT64_MAX ? -1 : due <= now ? 0 : (int)((due - now) / 1000000 + 1);
}

static bool is_program(const void *what)
{
	return what != &on_door && what != &on_signal && what != &on_ctl && what != &on_hosts &&
	       *(const enum kind *)what == PROGRAM;
}

/* True: end. Programs that have ended come first, workers that have last: routes go with both, of which ev may
 * tell. */
static bool serve(uint64_t due)
{
	struct epoll_event ev[32];
	int n = epoll_wait(ep, ev, 32, sleep_ms(due));
	bool end = false, children = false;

	for (int i = 0; i < n; i++) {
		if (!is_program(ev[i].data.ptr))
			continue;
		route_end(ev[i].data.ptr);
		ev[i].data.ptr = NULL;
	}
	for (int i = 0; i < n; i++) {
		void *what = ev[i].data.ptr;

		if (what == &on_door)
			door_run();
		else if (what == &on_signal)
			end = on_signals(&children);
		else if (what == &on_ctl)
			ctl_server_run(ctl);
		else if (what == &on_hosts)
			hosts_run();
		else if (what)
			on_channel(what);
	}
	if (children)
		reap_children();
	return end;
}

static void more_status(void *arg, cJSON *status)
{
	cJSON *list = cJSON_AddArrayToObject(status, "workers"), *o;

	for (uint32_t i = 0; i < nchildren; i++) {
		o = cJSON_CreateObject();
		cJSON_AddNumberToObject(o, "worker", child[i].number);
		cJSON_AddNumberToObject(o, "pid", child[i].pid);
		cJSON_AddNumberToObject(o, "core", child[i].core);
		cJSON_AddBoolToObject(o, "ready", child[i].ready);
		cJSON_AddNumberToObject(o, "programs", child[i].programs);
		cJSON_AddNumberToObject(o, "restarts", child[i].restarts);
		cJSON_AddItemToArray(list, o);
	}
	door_status(status);
	hosts_status(status);
	limits_look();
}

static const struct ctl_ops ctl_ops = { .more_status = more_status };

static void watch(int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

/* They close their programs' connections; who takes too long is killed. */
static void stop(void)
{
	uint64_t end = worker_now() + STOP_NS;
	struct pollfd p = { .fd = sigfd, .events = POLLIN };
	bool any = true, children;

	notify_systemd("STOPPING=1");
	door_close();
	signal_all(SIGTERM);
	hosts_stop();
	while (any) {
		if (worker_now() >= end)
			signal_all(SIGKILL);
		poll(&p, 1, 100);
		on_signals(&children);
		any = false;
		for (uint32_t i = 0; i < nchildren; i++) {
			if (child[i].pid && waitpid(child[i].pid, NULL, WNOHANG) == child[i].pid)
				child[i].pid = 0;
			any |= child[i].pid != 0;
		}
	}
	ctl_server_close(ctl);
}

static int start_all(const struct ns_daemon_config *c)
{
	nchildren = c->workers;
	for (uint32_t i = 0; i < nchildren; i++)
		child[i] = (struct child){ .kind = CHANNEL, .number = i, .channel = -1, .core = c->core[i] };
	for (uint32_t i = 0; i < nchildren; i++) {
		int err = start(&child[i]);

		if (own_channel >= 0)
			return 0;
		if (err || wait_ready(&child[i])) {
			fprintf(stderr, "nstackd: worker %u did not start\n", i);
			stop();
			return -1;
		}
	}
	return 0;
}

int super_run(const struct ns_daemon_config *c)
{
	uint64_t watch_at = notify_watchdog_ns() ? 0 : UINT64_MAX, now;

	ep = epoll_create1(EPOLL_CLOEXEC);
	sigfd = signals_open(true);
	if (ep < 0 || sigfd < 0) {
		fprintf(stderr, "nstackd: no descriptors: %s\n", strerror(errno));
		return 1;
	}
	if (start_all(c))
		return 1;
	if (own_channel >= 0)
		return -1;
	watch(sigfd, &on_signal);
	watch(door_fd(), &on_door);
	if (hosts_fd() >= 0)
		watch(hosts_fd(), &on_hosts);
	if (!ctl_server_open(&ctl, &ctl_ops, NULL))
		watch(ctl_server_fd(ctl), &on_ctl);
	notify_systemd("READY=1");
	ns_log(NS_INF, NS_M_OPER, "ready with %u workers", nchildren);
	while (!serve(watch_at)) {
		now = worker_now();
		if (now >= watch_at)
			watch_at = watchdog(now);
		if (restart_due(now))
			return -1;
	}
	stop();
	return 0;
}

/* --- in a worker ---------------------------------------------------------------------------------- */

int super_channel(void)
{
	return own_channel;
}

void super_ready(void)
{
	static const char byte = 'r';

	att_send(own_channel, &byte, 1, NULL, 0, 0);
}

bool super_take(void (*in)(int sock, struct quota *a))
{
	uint32_t quota;
	unsigned nfds;
	int sock;
	long n;

	while ((n = att_recv(own_channel, &quota, sizeof(quota), &sock, 1, &nfds, MSG_DONTWAIT)) > 0)
		if (nfds)
			in(sock, quota < shared->nquotas ? &shared->quota[quota] : NULL);
		else if (quota < shared->nquotas) /* no descriptor was free for it */
			quota_give(&shared->quota[quota], QUOTA_PROGRAMS);
	return n == -EAGAIN;
}
