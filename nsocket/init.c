/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/init.c - start-up: configuration early, the stack when it is first needed
 *
 * The constructor reads configuration and rules; nothing is opened. The first call that needs the
 * stack starts it (worker_start), in the process that makes that call: so a master that only binds
 * and listens never owns it, and each forked worker does. The order of a start is the list of
 * calls in start() and engine_start(). Whatever fails leaves the process with the kernel: one log line,
 * no error.
 *
 * Threads: any; starting is serialised by worker.start_lock.
 */
#define _GNU_SOURCE
#include "nsocket/init.h"

#include <netinet/tcp.h>
#include <nsocket/adopt.h>
#include <nsocket/attach.h>
#include <nsocket/engine.h>
#include <nsocket/handover.h>
#include <nsocket/observe.h>
#include <nsocket/plugin/plugin.h>
#include <nsocket/sock.h>
#include <nsocket/seccomp.h>
#include <nsocket/stdio.h>
#include <nsocket/uring.h>
#include <nsocket/yield.h>
#include <nstack/fd_host.h>
#include <rd/alarm.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/program.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static bool ready;             /* the constructor has run and found nothing against us */
static __thread int inside;    /* depth of our own start-up in this thread */
static struct ctl_server *ctl;

bool init_ready(void)
{
	return ready && !inside;
}

bool init_inside(void)
{
	return inside > 0;
}

void init_enter(void)
{
	inside++;
}

void init_leave(void)
{
	inside--;
}

/* --- the helper thread's other work ------------------------------------------------------------ */

static void helper_service(void)
{
	bool retry;

	worker_lock();
	engine_service_locked();
	retry = ports_owner_gone();
	worker_unlock();
	if (retry)
		nsock_retry_all();
	if (share_fd() >= 0)
		share_run();
	if (ctl)
		ctl_server_run(ctl);
	plug_rules_look();
}

static void helper_retry(void)
{
	attach_retry();
	nsock_retry_all();
}

/* While no socket has asked for the stack. */
static void helper_service_early(void)
{
	ctl_server_run(ctl);
	plug_rules_look();
}

static void helper_service_set(void (*fn)(void))
{
	/* release: pairs worker.service */
	__atomic_store_n(&worker.helper_service, fn, __ATOMIC_RELEASE);
}

/* The helper may run already: worker_observe(). */
static void helper_fds_give(void)
{
	int fds[WORKER_HELPER_FDS];
	uint32_t n = engine_fds(fds);

	if (ctl)
		worker_helper_fd(ctl_server_fd(ctl));
	for (uint32_t i = 0; i < n; i++)
		worker_helper_fd(fds[i]);
}

/* --- start ----------------------------------------------------------------------------------------- */

static int start(void)
{
	const struct ns_config *c = rd_config();
	struct shm_region_config rc = { .sessions = c->max_sockets, .rx_size = c->rcvbuf,
					.tx_size = c->sndbuf };
	char why[256], refused[256] = "";
	int err = -ENODEV;

	if (uring_at_start()) {
		ns_log_fallback("everything stays with the kernel: %s", sock_reason_help[SR_io_uring]);
		return -ENODEV;
	}
	if (c->model != NS_MODEL_IN_PROCESS) {
		err = attach_start(why);
		if (!err)
			return 0;
		if (err == -ENOENT)
			snprintf(why, sizeof(why), "no nstackd in this network namespace");
		else
			ns_log(NS_WAR, NS_M_NSOCKET, "%s", why);
		if (err != -ENOENT && c->model != NS_MODEL_DAEMON)
			snprintf(refused, sizeof(refused), "%.200s; in this process: ", why);
	}
	if (c->model != NS_MODEL_DAEMON)
		err = engine_start(c, &rc, yield_image(), nsock_stack_event, why);
	if (err) {
		ns_log_fallback("everything stays with the kernel: %s%s", refused, why);
		ns_alarm_raise(NS_ALARM_NO_STACK, "%s%s", refused, why);
	}
	return err;
}

/* The helper also serves the control socket when there is no stack: that is how the tool learns
 * why. */
static void helper_prepare(void)
{
	if (!ctl && ctl_server_open(&ctl, &observe_ops, NULL))
		ctl = NULL;
	helper_fds_give();
	/* before the service: who is served may ask for these */
	__atomic_store_n(&worker.helper_sweep, engine_sweep, __ATOMIC_RELEASE);
	__atomic_store_n(&worker.helper_retry, helper_retry, __ATOMIC_RELEASE);
	helper_service_set(helper_service);
}

static void helper_begin(void)
{
	if (!worker.helper_made && worker_helper_start())
		ns_log(NS_ERR, NS_M_NSOCKET, "no helper thread: %m");
}

void worker_observe(void)
{
	/* relaxed: looked at again under the lock */
	if (__atomic_load_n(&worker.state, __ATOMIC_RELAXED) != WORKER_NONE || !init_ready())
		return;
	lock_take(&worker.start_lock);
	if (worker.state == WORKER_NONE && !worker.helper_made) {
		inside++;
		if (ctl_server_open(&ctl, &observe_ops, NULL))
			ctl = NULL;
		if (ctl) {
			worker_helper_fd(ctl_server_fd(ctl));
			helper_service_set(helper_service_early);
			helper_begin();
		}
		inside--;
	}
	lock_give(&worker.start_lock);
}

bool worker_start(void)
{
	uint32_t state = __atomic_load_n(&worker.state, __ATOMIC_ACQUIRE);
	int err;

	if (state != WORKER_NONE || !init_ready())
		return state == WORKER_RUNNING;
	lock_take(&worker.start_lock);
	if (worker.state == WORKER_NONE) {
		inside++;
		err = start();
		helper_prepare(); /* before others give it descriptors */
		/* release: pairs worker.run */
		__atomic_store_n(&worker.state, !err ? WORKER_RUNNING :
				 rd_config()->model == NS_MODEL_DAEMON ? WORKER_LOST : WORKER_FAILED,
				 __ATOMIC_RELEASE);
		helper_begin();
		inside--;
	}
	lock_give(&worker.start_lock);
	return worker_running();
}

/* A program that never asks us: the tool is to learn why. */
static void kernel_only(enum sock_reason why)
{
	ns_log_fallback("everything stays with the kernel: %s", sock_reason_help[why]);
	sock_reason(why);
	nsock_kernel_only(why);
	helper_prepare();
	__atomic_store_n(&worker.state, WORKER_FAILED, __ATOMIC_RELEASE);
	helper_begin();
}

/* --- end ----------------------------------------------------------------------------------------- */

static bool unsent(void)
{
	struct stack_sock_info info[64];
	uint64_t cursor = 0;
	uint32_t n;

	while ((n = worker.ops->sockets(worker.st, info, 64, &cursor)))
		for (uint32_t i = 0; i < n; i++)
			if (info[i].proto == IPPROTO_TCP && info[i].tcp_state != TCP_LISTEN &&
			    info[i].tcp_state != TCP_TIME_WAIT && info[i].tcp_state != TCP_FIN_WAIT2 &&
			    (info[i].send_q || info[i].tcp_state != TCP_ESTABLISHED))
				return true;
	return false;
}

/* As long as a peer that answers takes; then the kernel goes on. */
#define SETTLE_NS 20000000ull

static bool never(void *arg)
{
	return false;
}

/* Drive the stack until all is sent, or so long. */
static bool sent_by(uint64_t end)
{
	bool wait;

	for (;;) {
		worker_lock();
		worker_round_locked();
		wait = unsent();
		worker_unlock();
		if (!wait || worker_now() >= end)
			return !wait;
		worker_wait(waiter_self(), NULL, 0, worker_now() + 2000000, NULL, never, NULL);
	}
}

void init_settle(void)
{
	uint64_t begin = worker_now();

	if (sent_by(begin + SETTLE_NS) || handover_closed() == 0)
		return;
	sent_by(begin + rd_config()->exit_linger_ms * 1000000ull);
}

void init_close_streams(bool (*which)(int fd))
{
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_STREAM &&
		    (!which || which(fd))) {
			nfile_put(f);
			f = fd_remove(fd);
			libc.close(fd);
		}
		if (f)
			nfile_put(f);
	}
}

/* The kernel would close every descriptor of a process that ends and go on sending; the stack ends
 * with the process, so it does both before; what a slow peer has not taken by then, the kernel sends.
 * Not after a signal that kills: nothing of ours runs then, and peers of open connections get a reset
 * from the kernel at their next segment. */
void init_exit(void)
{
	static int done; /* atomic */

	plug_exit();
	if (!worker_running() || inside || seccomp_idle() ||
	    __atomic_exchange_n(&done, 1, __ATOMIC_SEQ_CST))
		return;
	share_leave_all();
	if (attach_used()) /* it goes on with what is unsent */
		return;
	init_close_streams(NULL);
	init_settle();
	worker_lock();
	for (uint32_t i = 0; i < worker.nports; i++)
		if (worker.port[i].hal && worker.port[i].hal != worker.port[i].base)
			hal_arm(worker.port[i].hal, 0); /* a capture writes what it holds back */
	worker_unlock();
}

__attribute__((destructor)) static void init_destructor(void)
{
	stdio_flush();
	init_exit();
}

void init_after_fork_child(void)
{
	struct ctl_server *old = ctl;

	ctl = NULL;
	inside++;
	ctl_server_close(old);
	engine_after_fork_child();
	attach_after_fork_child();
	inside--;
}

__attribute__((constructor(103))) static void init_constructor(void)
{
	char err[RD_ERR];

	if (getauxval(AT_SECURE))
		return;
	inside++;
	nst_fd_host = (struct nst_fd_host){ .own = fd_hide, .disown = fd_unprotect };
	ns_log_init(NULL);
	if (rd_config_init(err)) {
		ns_log_fallback("everything stays with the kernel: %s", err);
		inside--;
		return;
	}
	ns_log_init(rd_config());
	if (rd_init(rd_config(), err))
		ns_log_fallback("everything stays with the kernel: %s", err);
	else
		ready = true;
	if (ready && program_self_go())
		kernel_only(SR_go_runtime);
	if (ready)
		adopt_inherited();
	inside--;
	if (ready)
		adopt_connections();
}
