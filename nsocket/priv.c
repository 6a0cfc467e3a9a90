/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/priv.c - servers that give up root
 *
 * Opening AF_XDP sockets and the steering tables takes privilege; using them does not. A server
 * such as nginx or memcached binds as root, then becomes another user, and only then looks at its
 * sockets - which is when the stack would start, too late. So the call that gives up root starts
 * the stack just before, if this process is going to need it: it holds a bound socket (an nginx
 * worker with the listeners of its master), or it is the program itself and not a fork of it
 * (memcached, which binds afterwards). A forked helper without sockets starts nothing.
 *
 * Only the starting is brought forward: ports are still claimed when the sockets are used.
 *
 * libc changes the identity of every thread, and ends the process if one of them gets another answer.
 * Capabilities are each thread's own: a program that keeps or drops some (prctl, capset) does so in the
 * threads that it knows, and ours would get other answers. So they follow the calling thread: when a
 * thread changes its identity, and when the program's first thread drops capabilities, so that none lives
 * on in a thread of ours. A program that leaves capabilities alone pays one system call for this.
 *
 * Not here: the thread of a forked child that uses its parent's connections (share.c), and identities
 * changed past libc, by syscall(2), which are the calling thread's only.
 *
 * Threads: any; changes of identity that need followers one after the other, by identity_lock.
 */
#define _GNU_SOURCE
#include "nsocket/init.h"
#include "nsocket/sock.h"
#include "nsocket/yield.h"

#include <grp.h>
#include <linux/securebits.h>
#include <nsocket/engine_dpdk.h>
#include <nsocket/to_backlog.h>
#include <nsocket/worker_internal.h>
#include <stacks/remote/remote.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FOLLOW_NS 1000000000ull /* a thread of ours that does not come: go on without it */

static pid_t first_pid; /* the process that loaded the library; a fork has another one */
static pid_t own_pid;   /* that of this memory; a vfork()ed child has another one */

__attribute__((constructor(103))) static void priv_constructor(void)
{
	first_pid = own_pid = getpid();
}

/* Connections have an address, too; those of the parent's stack need none here. */
static bool is_bound(const struct nsock *ns)
{
	return ns->bound && (nsock_mode(ns) == SK_NEW || nsock_mode(ns) == SK_LISTEN);
}

static bool holds_bound_socket(void)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		struct nfile *f = fd_is_protected(fd) ? NULL : fd_get(fd);
		bool bound = f && f->kind == NF_SOCK && is_bound(nsock_of(f));

		if (f)
			nfile_put(f);
		if (bound)
			return true;
	}
	return false;
}

/* What waits for accept() can be left to other processes later on. nstackd does it for its programs. */
static void what_needs_root(void)
{
	worker_lock();
	if (worker.st && worker.ops != &remote_stack_ops)
		to_backlog_prepare();
	worker_unlock();
}

void priv_before_user(uid_t user)
{
	if (user == 0 || user == (uid_t)-1 || geteuid() != 0 || !init_ready() || getpid() != own_pid)
		return;
	if (!worker_running() && (own_pid == first_pid || holds_bound_socket()))
		worker_start();
	if (worker_running())
		what_needs_root();
}

/* --- threads of ours follow ------------------------------------------------------------------ */

struct capabilities {
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int securebits;
};
static pthread_mutex_t identity_lock = PTHREAD_MUTEX_INITIALIZER;
static struct capabilities wanted; /* identity_lock; constant while there are followers */
static uint32_t followers;         /* atomic: threads that have yet to follow */
static bool capset_seen;           /* atomic: threads may differ */
static __thread bool identity_held; /* this thread has identity_lock */

/* of the calling thread; not constant: the kernel may write to it */
#define CAP_SELF (&(struct __user_cap_header_struct){ _LINUX_CAPABILITY_VERSION_3, 0 })

/* In a thread of ours. It never executes a program, so what is inheritable does not matter. */
static void follow(void)
{
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i] = wanted.data[i];
		data[i].inheritable = 0;
	}
	/* all of them take a capability; the one that programs use does not */
	prctl(PR_SET_SECUREBITS, (unsigned long)wanted.securebits, 0, 0, 0);
	prctl(PR_SET_KEEPCAPS, wanted.securebits & SECBIT_KEEP_CAPS ? 1ul : 0ul, 0, 0, 0);
	libc.capset(CAP_SELF, data);
	/* release: pairs priv.follow */
	__atomic_sub_fetch(&followers, 1, __ATOMIC_RELEASE);
}

static void follow_rcu(struct rcu_head *head)
{
	follow();
}

static bool all_followed(void)
{
	/* acquire: pairs priv.follow - they have read what is wanted, and have it */
	return __atomic_load_n(&followers, __ATOMIC_ACQUIRE) == 0;
}

static void follow_by(bool (*post)(void))
{
	__atomic_add_fetch(&followers, 1, __ATOMIC_RELAXED);
	if (!post())
		__atomic_sub_fetch(&followers, 1, __ATOMIC_RELAXED);
}

static bool post_helper(void)
{
	return worker_helper_call(follow);
}

static bool post_rcu(void)
{
	static struct rcu_head head;

	return file_call_rcu_thread(&head, follow_rcu);
}

static bool post_yield(void)
{
	return yield_call(follow);
}

static bool post_dpdk(void)
{
	return engine_dpdk_thread_call(follow);
}

/* Under identity_lock. */
static void threads_follow(void)
{
	static const struct timespec moment = { 0, 50000 };
	uint64_t end = worker_now() + FOLLOW_NS;

	if (!all_followed() || syscall(SYS_capget, CAP_SELF, wanted.data))
		return;
	wanted.securebits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	follow_by(post_helper);
	follow_by(post_rcu);
	follow_by(post_yield);
	follow_by(post_dpdk);
	while (!all_followed() && worker_now() < end)
		syscall(SYS_nanosleep, &moment, NULL);
}

static bool may_differ(void)
{
	return own_pid == getpid() && (__atomic_load_n(&capset_seen, __ATOMIC_RELAXED) ||
				       prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != 0);
}

static void identity_begin(void)
{
	if (!may_differ())
		return;
	lock_take(&identity_lock);
	identity_held = true;
	threads_follow();
}

static int identity_end(int result)
{
	if (identity_held) {
		identity_held = false;
		lock_give(&identity_lock);
	}
	return result;
}

void priv_fork_prepare(void)
{
	lock_take(&identity_lock);
}

void priv_fork_parent(void)
{
	lock_give(&identity_lock);
}

void priv_fork_child(void)
{
	pthread_mutex_init(&identity_lock, NULL);
	followers = 0;
	own_pid = getpid();
}

/* --- the calls ---------------------------------------------------------------------------------- */

#define FOLLOWED(call) (identity_begin(), identity_end(call))

NS_EXPORT int setuid(uid_t uid)
{
	priv_before_user(uid);
	return FOLLOWED(libc.setuid(uid));
}

NS_EXPORT int seteuid(uid_t euid)
{
	priv_before_user(euid);
	return FOLLOWED(libc.seteuid(euid));
}

NS_EXPORT int setreuid(uid_t ruid, uid_t euid)
{
	priv_before_user(euid);
	return FOLLOWED(libc.setreuid(ruid, euid));
}

NS_EXPORT int setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	priv_before_user(euid);
	return FOLLOWED(libc.setresuid(ruid, euid, suid));
}

NS_EXPORT int setgid(gid_t gid)
{
	return FOLLOWED(libc.setgid(gid));
}

NS_EXPORT int setegid(gid_t egid)
{
	return FOLLOWED(libc.setegid(egid));
}

NS_EXPORT int setregid(gid_t rgid, gid_t egid)
{
	return FOLLOWED(libc.setregid(rgid, egid));
}

NS_EXPORT int setresgid(gid_t rgid, gid_t egid, gid_t sgid)
{
	return FOLLOWED(libc.setresgid(rgid, egid, sgid));
}

NS_EXPORT int setgroups(size_t n, const gid_t *list)
{
	return FOLLOWED(libc.setgroups(n, list));
}

NS_EXPORT int initgroups(const char *user, gid_t group)
{
	return FOLLOWED(libc.initgroups(user, group));
}

static uint64_t permitted(void)
{
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	syscall(SYS_capget, CAP_SELF, d);
	return d[0].permitted | (uint64_t)d[1].permitted << 32;
}

/* Dropping is followed at once, changes in use of what is permitted with the next identity. */
NS_EXPORT int capset(cap_user_header_t head, const cap_user_data_t data); /* libc has no header for it */
NS_EXPORT int capset(cap_user_header_t head, const cap_user_data_t data)
{
	uint64_t had = permitted();
	int r = libc.capset(head, data);

	if (r)
		return r;
	__atomic_store_n(&capset_seen, true, __ATOMIC_RELAXED);
	return gettid() == own_pid && permitted() != had ? FOLLOWED(0) : 0;
}
