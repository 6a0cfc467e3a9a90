/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/main.c - the stack for all programs of a network namespace: options, signals, the loop
 *
 * One thread drives the stack, takes what programs ask, and answers the tool. It sleeps on everything at
 * once: packets, programs' bells and messages, signals, the tool.
 */
#define _GNU_SOURCE
#include "tools/nstackd/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <nsocket/ctl_server.h>
#include <nsocket/engine.h>
#include <nsocket/libc.h>
#include <nsocket/ports.h>
#include <nsocket/worker_internal.h>
#include <pwd.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define PROGRAMS 256u
#define IDS_MAX 32u
#define BUSY_ROUNDS 16u       /* without sleeping, between looks at what is not packets or notifications */
#define SWEEP_NS 5000000000ull
#define REAP_NS 100000000ull  /* how often sessions of ended programs are looked at */
#define STOP_NS 2000000000ull /* how long the end waits for them */
#define LISTEN_FDS_START 3    /* sd_listen_fds(3) */

static int listener, sigfd;
static struct ctl_server *ctl;
static uid_t users[IDS_MAX];
static gid_t groups[IDS_MAX];
/* What an epoll event is about, if it is no program. */
static char on_listener, on_signal, on_service, on_ctl;

static const char help[] =
	"usage: nstackd [OPTIONS]\n\n"
	"Serves the sockets of programs that `nstack run` starts in this network namespace; they need no\n"
	"privilege then. Stays in the foreground; ends by SIGTERM; SIGHUP reads the rule file again.\n\n"
	"  -c, --config FILE    configuration (man nstack.conf); default: NSTACK_CONFIG, else defaults\n"
	"  -n, --programs N     how many may be attached at once (1 to 4096; default 256)\n"
	"  -u, --user USER      this user's programs may attach (may be given several times)\n"
	"  -g, --group GROUP    and those whose group is this one; default: everybody's\n"
	"      --foreground     taken for other daemons' sake: it always does\n"
	"  -h, --help\n";

static int die(const char *fmt, const char *what)
{
	fprintf(stderr, "nstackd: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, "\n");
	return 1;
}

/* --- options ------------------------------------------------------------------------------------- */

static bool user_add(const char *name)
{
	struct passwd *pw = getpwnam(name);

	if (!pw || peers_config.nusers == IDS_MAX)
		return false;
	users[peers_config.nusers++] = pw->pw_uid;
	return true;
}

static bool group_add(const char *name)
{
	struct group *gr = getgrnam(name);

	if (!gr || peers_config.ngroups == IDS_MAX)
		return false;
	groups[peers_config.ngroups++] = gr->gr_gid;
	return true;
}

/* -1: go on; else the exit status. */
static int options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "programs", required_argument, NULL, 'n' },
		{ "user", required_argument, NULL, 'u' }, { "group", required_argument, NULL, 'g' },
		{ "foreground", no_argument, NULL, 'f' }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	char *end;
	int o;

	peers_config.max = PROGRAMS;
	while ((o = getopt_long(argc, argv, "c:n:u:g:h", longs, NULL)) >= 0) {
		switch (o) {
		case 'c':
			setenv("NSTACK_CONFIG", optarg, 1);
			break;
		case 'n':
			peers_config.max = (uint32_t)strtoul(optarg, &end, 10);
			if (*end || peers_config.max < 1 || peers_config.max > 4096)
				return die("--programs: %s is no number from 1 to 4096", optarg) + 1;
			break;
		case 'u':
			if (!user_add(optarg))
				return die("--user: there is no user %s, or it is one too many", optarg) + 1;
			break;
		case 'g':
			if (!group_add(optarg))
				return die("--group: there is no group %s, or it is one too many", optarg) + 1;
			break;
		case 'f':
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			return die("%s", "nstackd --help lists the options") + 1;
		}
	}
	if (optind < argc)
		return die("%s: what is that? (nstackd --help)", argv[optind]) + 1;
	peers_config.users = users;
	peers_config.groups = groups;
	return -1;
}

/* --- start ---------------------------------------------------------------------------------------- */

/* Who has the name already? */
static pid_t owner(const struct sockaddr_un *a, socklen_t len)
{
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct ucred u = { 0 };
	socklen_t n = sizeof(u);

	if (s >= 0 && !connect(s, (const struct sockaddr *)a, len))
		getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n);
	if (s >= 0)
		close(s);
	return u.pid;
}

/* From systemd, or our own. */
static int listener_open(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
	struct sockaddr_un a;
	socklen_t len = att_address(&a);

	if (pid && n && atoi(pid) == (int)getpid() && atoi(n) == 1) {
		fcntl(LISTEN_FDS_START, F_SETFL, fcntl(LISTEN_FDS_START, F_GETFL) | O_NONBLOCK);
		fcntl(LISTEN_FDS_START, F_SETFD, FD_CLOEXEC);
		return LISTEN_FDS_START;
	}
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, len) || listen(listener, 128)) {
		char who[64];

		if (errno != EADDRINUSE)
			return die("no socket for programs: %s", strerror(errno)) - 2;
		snprintf(who, sizeof(who), "process %d", (int)owner(&a, len));
		return die("%s is the nstackd of this network namespace already", who) - 2;
	}
	return listener;
}

static void watch(int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	epoll_ctl(peers_config.epfd, EPOLL_CTL_ADD, fd, &ev);
}

static int signals_open(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The ports that are in use, for programs to look at. */
static int ports_open(void)
{
	int fd = memfd_create("nstack-ports", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, ATT_PORTS_BYTES))
		p = mmap(NULL, ATT_PORTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE |
							 F_SEAL_SEAL))
		return die("no memory for the list of ports: %s", strerror(errno));
	ports_map = p;
	peers_config.ports_fd = fd;
	return 0;
}

static int engine(void)
{
	const struct ns_config *c = rd_config();
	struct shm_region_config rc = { .sessions = c->max_sockets, .rx_size = c->rcvbuf,
					.tx_size = c->sndbuf, .parts = peers_config.max };
	char why[256];
	int err = engine_start(c, &rc, 0, peers_event, why);

	if (err)
		return die("%s (nstack doctor says more)", why);
	peers_config.sessions = rc.sessions;
	peers_config.rx_size = rc.rx_size;
	peers_config.tx_size = rc.tx_size;
	peers_config.max_ports = rc.sessions;
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

	watch(listener, &on_listener);
	watch(sigfd, &on_signal);
	for (uint32_t i = 0; i < n; i++)
		watch(fds[i], &on_service);
	if (!ctl_server_open(&ctl, &peers_ctl_ops, NULL))
		watch(ctl_server_fd(ctl), &on_ctl);
}

/* sd_notify(3) */
static void tell_systemd(const char *what)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int s;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(a.sun_path))
		return;
	strcpy(a.sun_path, path);
	if (path[0] == '@')
		a.sun_path[0] = 0;
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	sendto(s, what, strlen(what), MSG_NOSIGNAL, (struct sockaddr *)&a,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(s);
}

/* --- the loop ------------------------------------------------------------------------------------- */

static bool peers_any_cb(void *arg)
{
	return peers_any();
}

static void accept_all(void)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		peer_new(fd);
}

/* True: end. */
static bool signals_read(void)
{
	struct signalfd_siginfo si;
	bool end = false;

	while (read(sigfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGHUP && ctl)
			ctl_server_reload(ctl);
		end |= si.ssi_signo != SIGHUP;
	}
	return end;
}

/* What is not packets or notifications. True: end. */
static bool serve(void)
{
	struct epoll_event ev[64];
	int n = epoll_wait(peers_config.epfd, ev, 64, 0);
	bool end = false, ask = false;

	worker_lock();
	for (int i = 0; i < n; i++) {
		void *what = ev[i].data.ptr;

		if (what == &on_listener)
			accept_all();
		else if (what == &on_signal)
			end = signals_read();
		else if (what == &on_ctl)
			ask = true;
		else if (what && what != &on_service)
			peer_run(what);
	}
	engine_service_locked(); /* also for what comes by the stack's own descriptor: addresses, routes */
	worker_unlock();
	if (ask)
		ctl_server_run(ctl); /* takes the lock itself */
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

static void run(void)
{
	struct pollfd kfd = { .fd = peers_config.epfd, .events = POLLIN };
	uint64_t reap_at = UINT64_MAX, swept = worker_now(), now;
	uint32_t busy = 0;
	bool end = false;

	while (!end) {
		kfd.revents = 0;
		worker_wait(waiter_self(), &kfd, 1, reap_at, NULL, peers_any_cb, NULL);
		worker_lock();
		peers_notifications();
		worker_unlock();
		now = worker_now();
		if (kfd.revents || ++busy >= BUSY_ROUNDS) {
			busy = 0;
			end = serve();
			reap_at = reap(now);
		} else if (now >= reap_at) {
			reap_at = reap(now);
		}
		if (now - swept >= SWEEP_NS) {
			swept = now;
			engine_sweep();
		}
	}
}

/* Connections are closed as their programs would; what takes longer is reset. */
static void stop(void)
{
	uint64_t end = worker_now() + STOP_NS;

	tell_systemd("STOPPING=1");
	ns_log(NS_INF, NS_M_CTL, "ends");
	close(listener);
	worker_lock();
	peers_end();
	worker_unlock();
	while (reap(worker_now()) != UINT64_MAX && worker_now() < end)
		worker_wait(waiter_self(), NULL, 0, worker_now() + 2000000, NULL, peers_any_cb, NULL);
	ctl_server_close(ctl);
	worker_lock();
	engine_stop();
	worker_unlock();
}

int main(int argc, char **argv)
{
	char err[RD_ERR];
	int status_ = options(argc, argv);

	if (status_ >= 0)
		return status_;
	ns_log_init(NULL);
	if (rd_config_init(err))
		return die("%s", err);
	ns_log_init(rd_config());
	if (rd_init(rd_config(), err))
		return die("%s", err);
	peers_config.epfd = epoll_create1(EPOLL_CLOEXEC);
	sigfd = signals_open();
	listener = listener_open();
	if (listener < 0)
		return 1;
	if (peers_config.epfd < 0 || sigfd < 0)
		return die("no descriptors: %s", strerror(errno));
	if (peers_recycle_init() || ports_open() || engine())
		return 1;
	descriptors();
	tell_systemd("READY=1");
	ns_log(NS_INF, NS_M_CTL, "ready for %u programs", peers_config.max);
	run();
	stop();
	return 0;
}
