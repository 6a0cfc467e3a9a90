/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/worker_internal.h - the worker as the socket layer and start-up see it
 *
 * Lock order: start_lock - worker lock - (nsock.wait_lock, sleep_lock, port table). A thread that
 * holds the worker lock waits for nothing but, for a bounded time, an answer of nstackd (stacks/remote) and
 * what is on its way to a socket that moves to the kernel (handover.c).
 */
#ifndef NSOCKET_WORKER_INTERNAL_H
#define NSOCKET_WORKER_INTERNAL_H

#include <nsocket/file.h>
#include <nsocket/worker.h>
#include <nstack/hal.h>
#include <nstack/stack.h>
#include <pthread.h>
#include <shm/session.h>

#define WORKER_PORTS 16
#define WORKER_FDS 128
#define WORKER_HELPER_FDS (WORKER_PORTS + 3) /* control, forked children, owners of ports */

struct steer;
struct steer_mirror;

/* One interface. */
struct worker_port {
	struct hal_port *hal;  /* what the stack uses: the driver or what wraps it; NULL: unused */
	struct hal_port *base; /* the driver; with DPDK the TAP over it, if it has one */
	struct hal_port *dpdk; /* the DPDK device in or under base; NULL: AF_XDP */
	struct steer *steer;
	struct steer_mirror *mirror; /* a TAP: we decide which packets are whose; else NULL */
	unsigned ifindex, instance;
	char ifname[IF_NAMESIZE];
	char why_not[256];     /* not in use: why */
};

/* Something that has to be done under the worker lock, embedded in its object. bits are what; run()
 * gets all that were posted since it ran last. hold() and done() bracket the time that the command
 * is queued (not called when it runs at once): the object has to stay while it is. done() may not
 * look into c if run() freed it. */
struct worker_cmd {
	struct worker_cmd *next;
	uint32_t bits; /* atomic; 0 = not queued */
	const struct worker_cmd_ops *ops;
};
struct worker_cmd_ops {
	void (*run)(struct worker_cmd *c, uint32_t bits);
	void (*hold)(struct worker_cmd *c, uint32_t bits);
	void (*done)(struct worker_cmd *c, uint32_t bits);
};

/* LOST: the daemon that served us has ended; it is asked for again now and then. */
enum worker_state { WORKER_NONE, WORKER_RUNNING, WORKER_FAILED, WORKER_LOST };

struct worker {
	uint32_t state;      /* atomic: enum worker_state; RUNNING is published last */
	pthread_mutex_t start_lock;
	pthread_mutex_t lock; /* the worker lock */
	struct worker_cmd *cmds; /* atomic: posted while the lock was held by somebody */
	const struct stack_ops *ops;
	struct stack *st;
	struct stack_env env;
	struct shm_region *region;
	struct worker_port port[WORKER_PORTS];
	uint32_t nports;
	int fds[WORKER_FDS]; /* HAL's and the stack's, constant while it runs */
	/* The leader is about to sleep on them (false: there is work, it is not to), and has slept. In any
	 * thread, without the lock, but never in two at once. NULL: nothing to do. */
	bool (*arm)(void);
	void (*disarm)(void);
	/* After the stack's flush(), under the lock: whom its events woke is told now. NULL: nothing to do. */
	void (*flushed)(void);
	uint32_t nfds;
	uint64_t spin_ns;    /* how long to spin. Atomic: a program's changes when its configuration does; a daemon's
			      * with spin_max_ns is written by the one thread that waits */
	uint64_t spin_max_ns; /* a daemon's: spin_ns follows what pays off, up to this; 0: it stays */
	bool spin_again;     /* a daemon's: whatever the stack was given to do starts the time anew */
	uint64_t started_ns;
	uint64_t deadline;   /* atomic: the stack's, after the last round */
	uint64_t rounds;     /* atomic: counts rounds of driving */
	uint64_t contended;  /* atomic: commands that had to be queued */
	/* The helper thread's: extra descriptors and what serves them. */
	uint64_t ticks;
	uint64_t retry_at;   /* atomic: the helper calls helper_retry() then; 0 = no */
	/* Atomic: who starts the stack writes them, perhaps while the helper runs. release: pairs worker.service */
	void (*helper_retry)(void);   /* without the lock */
	void (*helper_service)(void); /* called without the lock when one of them is readable */
	void (*helper_sweep)(void);   /* called now and then while there is activity */
	int helper_fds[WORKER_HELPER_FDS];
	uint32_t nhelper_fds; /* atomic: only grows while the helper runs */
	pthread_t helper;
	bool helper_made;
};
extern struct worker worker;

static inline bool worker_running(void)
{
	/* acquire: pairs worker.run - everything that start-up wrote */
	return __atomic_load_n(&worker.state, __ATOMIC_ACQUIRE) == WORKER_RUNNING;
}

/* init.c: start it if that was not yet tried in this process. True: it runs. */
bool worker_start(void);
/* init.c: the tool is to find this process, and changed rules to reach it, though it may never need the stack. */
void worker_observe(void);

void worker_lock(void);
bool worker_trylock(void);
void worker_unlock(void);
/* A bounded round; under the lock. */
uint32_t worker_round_locked(void);
/* Run the command now if the lock is free, else whoever has the lock does it before he goes. */
void worker_post(struct worker_cmd *c, uint32_t bits);

/* Called by calls that have nothing to ask of the stack: every so often drives it, so that the
 * rings do not run full while a program works through a long list of events. */
void worker_tick(void);

/* Threads of the library: all signals blocked. 0 or -errno. */
int worker_helper_start(void);
void worker_helper_stop(void);
/* Have the helper call fn() soon; false: there is no helper. One call at a time. */
bool worker_helper_call(void (*fn)(void));
/* Have helper_retry() called at that time, or before if somebody else wants it earlier. */
void worker_retry_at(uint64_t when_ns);
/* One more descriptor for it; under the worker lock. Known ones are left alone. */
void worker_helper_fd(int fd);
/* In a child: forget the parent's worker and waiters. */
void worker_after_fork_child(void);

#endif
