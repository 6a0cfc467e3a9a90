/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/main.c - the stack for all programs of a network namespace: options, signals, the loop
 *
 * One thread drives the stack, takes what programs ask, and answers the tool. It sleeps on everything at
 * once: packets, programs' bells and messages, signals, the tool. With several workers (super.c) each is such
 * a process, to which programs come by the main one instead of the daemon's socket.
 */
#define _GNU_SOURCE
#include "tools/nstackd/access.h"
#include "tools/nstackd/door.h"
#include "tools/nstackd/harden.h"
#include "tools/nstackd/hosts.h"
#include "tools/nstackd/leave.h"
#include "tools/nstackd/notify.h"
#include "tools/nstackd/peer.h"
#include "tools/nstackd/reload.h"
#include "tools/nstackd/shared.h"
#include "tools/nstackd/signals.h"
#include "tools/nstackd/super.h"

#include <errno.h>
#include <getopt.h>
#include <nsocket/ctl_server.h>
#include <nsocket/engine.h>
#include <nsocket/libc.h>
#include <nsocket/ports.h>
#include <nsocket/to_backlog.h>
#include <nsocket/worker_internal.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BUSY_ROUNDS 16u       /* without sleeping, between looks at what is not packets or notifications */
#define SWEEP_NS 5000000000ull
#define REAP_NS 100000000ull  /* how often sessions of ended programs are looked at */
#define LEAVE_NS 1000000000ull      /* how long the end waits for a program to hand over the next connection */
#define LEAVE_MAX_NS 15000000000ull /* and for all */
#define LEAVE_LOOK_NS 5000000ull
#define STOP_NS 2000000000ull /* how long the end waits for them */
#define SPIN_AUTO_NS 50000    /* what a wake-up takes, and more is wasted */

static int sigfd;
static struct ctl_server *ctl;
/* What an epoll event is about, if it is no program. */
static char on_programs, on_signal, on_service, on_ctl, on_hosts;

static const char help[] =
	"usage: nstackd [OPTIONS]\n\n"
	"Serves the sockets of programs that `nstack run` starts in this network namespace; they need no\n"
	"privilege then. Stays in the foreground; ends by SIGTERM; SIGHUP reads the configuration again.\n\n"
	"  -c, --config FILE    configuration (man nstack.conf); default: NSTACK_CONFIG, else defaults\n"
	"  -n, --programs N     how many may be attached at once (1 to 4096; default 256)\n"
	"  -u, --user USER      this user's programs may attach (may be given several times)\n"
	"  -g, --group GROUP    and those whose group is this one; default: everybody's\n"
	"      --foreground     taken for other daemons' sake: it always does\n"
	"  -h, --help\n"
	"  -V, --version\n";

static int die(const char *fmt, const char *what)
{
	fprintf(stderr, "nstackd: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, "\n");
	return 1;
}

/* --- options ------------------------------------------------------------------------------------- */

static int programs_read(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (*end || n < 1 || n > 4096)
		return -EINVAL;
	peers_config.max = (uint32_t)n;
	return 0;
}

/* -1: go on; else the exit status. */
static int options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "programs", required_argument, NULL, 'n' },
		{ "user", required_argument, NULL, 'u' }, { "group", required_argument, NULL, 'g' },
		{ "foreground", no_argument, NULL, 'f' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "c:n:u:g:hV", longs, NULL)) >= 0) {
		switch (o) {
		case 'c':
			if (!optarg[0])
				return die("%s", "--config: the name of a file is missing") + 1;
			setenv("NSTACK_CONFIG", optarg, 1);
			break;
		case 'n':
			if (programs_read(optarg))
				return die("--programs: %s is no number from 1 to 4096", optarg) + 1;
			break;
		case 'u':
			if (access_user(optarg))
				return die("--user: there is no user %s, or it is one too many", optarg) + 1;
			break;
		case 'g':
			if (access_group(optarg))
				return die("--group: there is no group %s, or it is one too many", optarg) + 1;
			break;
		case 'f':
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		case 'V':
			puts("nstackd " NSTACK_VERSION);
			return 0;
		default:
			return die("%s", "nstackd --help lists the options") + 1;
		}
	}
	if (optind < argc)
		return die("%s: what is that? (nstackd --help)", argv[optind]) + 1;
	return -1;
}

/* --- start ---------------------------------------------------------------------------------------- */

static void watch(int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	epoll_ctl(peers_config.epfd, EPOLL_CTL_ADD, fd, &ev);
}

void peers_spin(int32_t us)
{
	worker.spin_again = true;
	worker.spin_max_ns = us < 0 ? SPIN_AUTO_NS : 0;
	worker.spin_ns = us < 0 ? 0 : (uint64_t)us * 1000;
}

static int engine(const struct ns_config *c)
{
	struct shm_region_config rc = { .sessions = c->max_sockets, .rx_size = c->rcvbuf,
					.tx_size = c->sndbuf, .parts = peers_config.max,
					.take = peers_session_take, .give = peers_session_give };
	char why[256];
	int err = engine_start(c, &rc, 0, peers_event, why);

	if (err)
		return die("%s (nstack doctor says more)", why);
	peers_config.sessions = rc.sessions;
	peers_config.rx_size = rc.rx_size;
	peers_config.tx_size = rc.tx_size;
	peers_config.max_ports = rc.sessions;
	peers_config.ports_fd = shared_ports_fd;
	peers_spin(c->daemon.spin_us);
	worker.arm = peers_arm;
	worker.disarm = peers_disarm;
	worker.flushed = peers_ring;
	/* release: pairs worker.run */
	__atomic_store_n(&worker.state, WORKER_RUNNING, __ATOMIC_RELEASE);
	return 0;
}

static void descriptors(void)
{
	int fds[WORKER_PORTS];
	uint32_t n = engine_fds(fds);

	watch(super_channel() >= 0 ? super_channel() : door_fd(), &on_programs);
	watch(sigfd, &on_signal);
	if (hosts_fd() >= 0)
		watch(hosts_fd(), &on_hosts);
	for (uint32_t i = 0; i < n; i++)
		watch(fds[i], &on_service);
	if (!ctl_server_open(&ctl, &peers_ctl_ops, NULL))
		watch(ctl_server_fd(ctl), &on_ctl);
}

/* --- the loop ------------------------------------------------------------------------------------- */

static bool peers_any_cb(void *arg)
{
	return peers_any() || groups_news();
}

/* One worker: it came by the door. */
static void let_in(const struct visitor *v, struct quota *q)
{
	access_done(q, shared_worker);
	peer_new(v->sock, q);
}

static void signals_read(bool *end, bool *again)
{
	struct signalfd_siginfo si;

	while (read(sigfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGHUP)
			*again = true;
		else
			*end = true;
	}
}

/* Without the lock: the functions that it calls take it. */
static void configuration_again(void)
{
	if (super_channel() >= 0) {
		reload(ctl, false);
		super_ready();
		return;
	}
	notify_reloading();
	reload(ctl, true);
	notify_systemd("READY=1");
}

/* False: the main process has ended. */
static bool programs(void)
{
	if (super_channel() >= 0)
		return super_take(peer_new);
	door_run();
	return true;
}

/* What is not packets or notifications. True: end. */
static bool serve(void)
{
	struct epoll_event ev[64];
	int n = epoll_wait(peers_config.epfd, ev, 64, 0);
	bool end = false, ask = false, again = false;

	worker_lock();
	for (int i = 0; i < n; i++) {
		void *what = ev[i].data.ptr;

		if (what == &on_programs)
			end |= !programs();
		else if (what == &on_signal)
			signals_read(&end, &again);
		else if (what == &on_ctl)
			ask = true;
		else if (what == &on_hosts)
			hosts_run();
		else if (what && what != &on_service)
			peer_run(what);
	}
	engine_service_locked(); /* also for what comes by the stack's own descriptor: addresses, routes */
	worker_unlock();
	/* these take the lock themselves */
	if (ask)
		ctl_server_run(ctl);
	if (again)
		configuration_again();
	return end;
}

/* Ended programs whose connections are not done; when to look again. */
static uint64_t reap(uint64_t now)
{
	bool waits;

	worker_lock();
	waits = peers_reap();
	worker_unlock();
	return waits ? now + REAP_NS : UINT64_MAX;
}

/* When the next one is due. */
static uint64_t sign_of_life(uint64_t now)
{
	if (!notify_watchdog_ns())
		return UINT64_MAX;
	if (super_channel() >= 0)
		shared_beat(now);
	else
		notify_systemd("WATCHDOG=1");
	return now + notify_watchdog_ns() / 2;
}

/* Waits until that time at most, and serves. True: somebody wants us to end. */
static bool turn(uint64_t until)
{
	static uint64_t reap_at = UINT64_MAX, look_at = UINT64_MAX, beat_at, swept;
	static uint32_t busy;
	struct pollfd kfd = { .fd = peers_config.epfd, .events = POLLIN };
	bool end = false;
	uint64_t now;

	until = until < reap_at ? until : reap_at;
	until = until < look_at ? until : look_at;
	worker_wait(waiter_self(), &kfd, 1, until < beat_at ? until : beat_at, NULL, peers_any_cb, NULL);
	now = worker_now();
	worker_lock();
	peers_notifications();
	look_at = groups_look(now);
	worker_unlock();
	if (kfd.revents || ++busy >= BUSY_ROUNDS) {
		busy = 0;
		end = serve();
		reap_at = reap(now);
	} else if (now >= reap_at) {
		reap_at = reap(now);
	}
	if (now >= beat_at)
		beat_at = sign_of_life(now);
	if (now - swept >= SWEEP_NS) {
		swept = now;
		engine_sweep();
	}
	return end;
}

static uint32_t connections_left(void)
{
	uint32_t n;

	worker_lock();
	n = leave_ask();
	worker_unlock();
	return n;
}

/* Programs let the kernel have their connections; as long as they get on with it. */
static void leave(void)
{
	uint64_t until = worker_now() + LEAVE_NS, end = worker_now() + LEAVE_MAX_NS, look;
	uint32_t left, before = UINT32_MAX;

	worker_lock();
	leave_begin();
	worker_unlock();
	while ((left = connections_left()) && worker_now() < until && worker_now() < end) {
		if (left < before)
			until = worker_now() + LEAVE_NS;
		before = left;
		for (look = worker_now() + LEAVE_LOOK_NS; worker_now() < look;)
			turn(look);
	}
	if (left)
		ns_log(NS_WAR, NS_M_CTL, "%u connections could not go on in the kernel", left);
}

/* Connections that are left are closed as their programs would; what takes longer is reset. */
static void stop(void)
{
	uint64_t end;

	ns_log(NS_INF, NS_M_OPER, "ends");
	if (super_channel() >= 0) {
		close(super_channel());
	} else {
		notify_systemd("STOPPING=1");
		door_close();
	}
	leave();
	end = worker_now() + STOP_NS;
	worker_lock();
	peers_end();
	worker_unlock();
	while (reap(worker_now()) != UINT64_MAX && worker_now() < end)
		worker_wait(waiter_self(), NULL, 0, worker_now() + 2000000, NULL, peers_any_cb, NULL);
	ctl_server_close(ctl);
	worker_lock();
	engine_stop();
	worker_unlock();
	hosts_stop();
}

/* What is the same for all workers. 0 or an exit status. */
static int prepare(void)
{
	char err[RD_ERR];

	ns_log_daemon();
	ns_log_init(NULL);
	if (rd_config_init(err))
		return die("%s", err);
	ns_log_init(rd_config());
	if (!peers_config.max)
		peers_config.max = rd_config()->daemon.programs;
	signal(SIGPIPE, SIG_IGN);
	if (hosts_prepare(rd_config()->modules))
		return die("no process for other stacks: %s", strerror(errno));
	notify_init();
	harden_start(peers_config.max);
	if (shared_open(rd_config()->daemon.workers * peers_config.max) ||
	    access_set(rd_config()->daemon.access, rd_config()->daemon.n_access))
		return die("no memory: %s", strerror(errno));
	if (door_open(rd_config()->daemon.workers > 1 ? super_in : let_in))
		return 1;
	hosts_start();
	return 0;
}

static int start(void)
{
	struct ns_config c = reload_config();
	char err[RD_ERR];

	if (rd_init(&c, err))
		return die("%s", err);
	peers_config.epfd = epoll_create1(EPOLL_CLOEXEC);
	sigfd = signals_open(false);
	if (peers_config.epfd < 0 || sigfd < 0)
		return die("no descriptors: %s", strerror(errno));
	if (peers_recycle_init() || engine(&c))
		return 1;
	descriptors();
	to_backlog_prepare();
	harden_running();
	if (super_channel() >= 0)
		super_ready();
	else
		notify_systemd("READY=1");
	ns_log(NS_INF, NS_M_OPER, "ready for %u programs", peers_config.max);
	return 0;
}

int main(int argc, char **argv)
{
	int status_ = options(argc, argv);

	if (status_ >= 0)
		return status_;
	status_ = prepare();
	if (!status_ && rd_config()->daemon.workers > 1) {
		status_ = super_run(&rd_config()->daemon);
		if (status_ >= 0)
			return status_;
		status_ = 0; /* this is a worker */
	}
	if (!status_)
		status_ = start();
	if (status_)
		return status_;
	while (!turn(UINT64_MAX))
		;
	stop();
	return 0;
}
