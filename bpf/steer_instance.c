/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_instance.c - slots: which process serves which claims
 *
 * A slot names its process by pid and start time, so that a reused pid is not taken for the
 * owner. Nobody need clean up after a killed process at once: its sockets leave the XSKMAP by
 * themselves and its claims then mean PASS. The next one who wants a slot, or a port that the
 * dead one claimed, cleans. Slots change under the interface's lock only.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <nstack/fd_host.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t pid_ns(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
}

/* Start time of a process in clock ticks since boot; 0 = it is a zombie, which serves nobody. 0, or
 * -errno: it can't be looked at. */
static int start_time(pid_t pid, uint64_t *out)
{
	char path[64], line[1024], *p, state;
	unsigned long long start;
	long threads;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = nst_fd_own(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return -errno;
	n = read(fd, line, sizeof(line) - 1);
	nst_fd_close(fd);
	if (n < 0)
		return -errno;
	line[n] = 0;
	/* "pid (any name) state ppid ...": the name may hold anything */
	p = strrchr(line, ')');
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			 "%ld %*d %llu", &state, &threads, &start) != 3)
		return -EIO;
	/* a first thread that ended while others go on looks like a zombie, but is none */
	*out = state == 'X' || (state == 'Z' && threads <= 1) ? 0 : start;
	return 0;
}

static uint64_t own_image; /* given to steer_instance_take() last, in this program; 0 = none yet */

bool steer_instance_alive(const struct steer_instance *in)
{
	uint64_t start;

	/* acquire: pairs steer.slot */
	if (!__atomic_load_n(&in->pid, __ATOMIC_ACQUIRE))
		return false;
	/* a process of another pid namespace can't be looked at: take it for alive */
	if (in->pid_ns != pid_ns())
		return true;
	/* our own slot of before an exec serves nobody; others see that when we end */
	if ((pid_t)in->pid == getpid() && in->image != own_image)
		return false;
	if (kill((pid_t)in->pid, 0) && errno == ESRCH)
		return false;
	/* no descriptor left, no /proc: who does not look takes nobody's ports */
	return start_time((pid_t)in->pid, &start) || start == in->start_time;
}

pid_t steer_instance_pid_here(const struct steer_instance *in)
{
	return in->pid_ns == pid_ns() ? (pid_t)in->pid : 0;
}

int steer_kind(struct steer *st, const char *name)
{
	char (*stacks)[STEER_STACK_NAME] = st->meta->stacks;

	if (!name[0] || strlen(name) >= STEER_STACK_NAME)
		return -EINVAL;
	for (unsigned i = 0; i < STEER_STACKS; i++) {
		if (!stacks[i][0])
			strcpy(stacks[i], name);
		if (!strncmp(stacks[i], name, STEER_STACK_NAME))
			return (int)i;
	}
	return -ENOSPC;
}

/* --- cleaning ------------------------------------------------------------------------------ */

struct cleaning {
	struct steer *st;
	uint32_t instance;
};

static void clean_claims(struct steer *st, uint32_t instance)
{
	for (uint32_t i = 0; i < STEER_CLAIMS; i++) {
		uint64_t old = __atomic_load_n(&st->claims[i], __ATOMIC_RELAXED), new;

		do {
			new = old;
			if (STEER_CLAIM_V4(old) == instance)
				new &= ~(0xffull << STEER_CLAIM_V4_SHIFT);
			if (STEER_CLAIM_V6(old) == instance)
				new &= ~(0xffull << STEER_CLAIM_V6_SHIFT);
		} while (new != old &&
			 !__atomic_compare_exchange_n(&st->claims[i], &old, new, false,
						      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	}
}

static int clean_addr_claim(void *arg, const void *key, const void *value)
{
	const struct steer_addr_claim *k = key;
	struct cleaning *c = arg;

	if (*(const uint32_t *)value == c->instance &&
	    !bpf_map_delete_elem(c->st->map[STEER_M_CLAIMS_ADDR], key))
		__atomic_fetch_sub(&c->st->claims[STEER_CLAIM_INDEX(k->proto, ntohs(k->port))],
				   STEER_CLAIM_ONE_ADDR, __ATOMIC_RELAXED);
	return 0;
}

static int clean_pin(void *arg, const void *key, const void *value)
{
	struct cleaning *c = arg;

	if (*(const uint32_t *)value == c->instance)
		(void)steer_unpin_flow(c->st, key);
	return 0;
}

static int clean_local(void *arg, const void *key, const void *value)
{
	static const struct steer_local shared;
	struct cleaning *c = arg;

	if (((const struct steer_local *)value)->owner == c->instance &&
	    !bpf_map_update_elem(c->st->map[STEER_M_LOCAL], key, &shared, BPF_EXIST))
		__atomic_fetch_sub(&c->st->meta->own, 1, __ATOMIC_RELAXED);
	return 0;
}

void steer_instance_clean(struct steer *st, unsigned instance)
{
	struct cleaning c = { st, instance };
	struct steer_local local;
	uint32_t value;

	for (uint32_t q = 0; q < STEER_QUEUES; q++) {
		uint32_t key = STEER_XSK(instance, q);

		(void)bpf_map_delete_elem(st->map[STEER_M_XSKS], &key);
	}
	clean_claims(st, instance);
	(void)steer_map_each(st->map[STEER_M_CLAIMS_ADDR], sizeof(struct steer_addr_claim),
			     STEER_ADDR_CLAIMS_MAX, &value, clean_addr_claim, &c);
	(void)steer_map_each(st->map[STEER_M_PINS], sizeof(struct steer_flow), STEER_PINS_MAX, &value,
			     clean_pin, &c);
	if (st->meta->own)
		(void)steer_map_each(st->map[STEER_M_LOCAL], sizeof(struct steer_local_key),
				     STEER_LOCAL_MAX, &local, clean_local, &c);
	if (st->outside->instance == instance)
		__atomic_store_n(&st->outside->instance, 0, __ATOMIC_RELAXED); /* a switch, orders nothing */
	steer_changed(st);
	/* release: pairs steer.slot - whoever finds the slot free finds it clean */
	memset(st->instances[instance].stack, 0, STEER_STACK_NAME);
	__atomic_store_n(&st->instances[instance].pid, 0, __ATOMIC_RELEASE);
}

bool steer_instance_reap(struct steer *st, unsigned instance)
{
	bool alive;
	int lock;

	if (instance == STEER_TO_KERNEL || instance >= STEER_INSTANCES)
		return true;
	lock = steer_tables_lock(st);
	if (lock < 0)
		return false;
	alive = steer_instance_alive(&st->instances[instance]);
	if (!alive)
		steer_instance_clean(st, instance);
	steer_tables_unlock(st, lock);
	return !alive;
}

/* --- taking -------------------------------------------------------------------------------- */

static int take_locked(struct steer *st, const char *stack, uint64_t image)
{
	int kind = steer_kind(st, stack), err;
	uint64_t namespace = pid_ns(), start = 0;

	if (kind < 0)
		return kind;
	err = start_time(getpid(), &start);
	if (err && namespace) /* others will look, and must find the same */
		return err;
	for (unsigned i = 1; i < STEER_INSTANCES; i++) {
		struct steer_instance *in = &st->instances[i];

		if (steer_instance_alive(in))
			continue;
		/* also when pid is 0: a crash may have come before the last step of a cleaning */
		steer_instance_clean(st, i);
		in->kind = (uint32_t)kind;
		in->pid_ns = namespace;
		in->image = image;
		in->start_time = start;
		snprintf(in->stack, sizeof(in->stack), "%s", stack);
		/* release: pairs steer.slot - who sees the pid sees whose it is */
		__atomic_store_n(&in->pid, (uint32_t)getpid(), __ATOMIC_RELEASE);
		st->instance = i;
		st->instance_pid = getpid();
		return (int)i;
	}
	return -ENOSPC;
}

int steer_instance_take(struct steer *st, const char *stack, uint64_t image)
{
	int lock, ret;

	if (st->instance && st->instance_pid == getpid())
		return (int)st->instance;
	lock = steer_tables_lock(st);
	if (lock < 0)
		return lock;
	steer_lock_keep(st);
	own_image = image;
	ret = take_locked(st, stack, image);
	steer_tables_unlock(st, lock);
	return ret;
}

int steer_instance_pid(struct steer *st, unsigned instance, pid_t *pid,
		       char stack[STEER_STACK_NAME])
{
	const struct steer_instance *in;

	if (instance == STEER_TO_KERNEL || instance >= STEER_INSTANCES)
		return -EINVAL;
	in = &st->instances[instance];
	if (!steer_instance_alive(in))
		return -ESRCH;
	*pid = (pid_t)in->pid;
	snprintf(stack, STEER_STACK_NAME, "%.*s", (int)STEER_STACK_NAME - 1, in->stack);
	return 0;
}

/* --- sockets ------------------------------------------------------------------------------- */

int steer_xsk_set(struct steer *st, uint32_t queue, int xsk_fd)
{
	uint32_t key = STEER_XSK(st->instance, queue);

	if (!st->instance || queue >= STEER_QUEUES)
		return -EINVAL;
	return bpf_map_update_elem(st->map[STEER_M_XSKS], &key, &xsk_fd, BPF_ANY) ? -errno : 0;
}

int steer_xsk_clear(struct steer *st, uint32_t queue)
{
	uint32_t key = STEER_XSK(st->instance, queue);

	if (!st->instance || queue >= STEER_QUEUES)
		return -EINVAL;
	return bpf_map_delete_elem(st->map[STEER_M_XSKS], &key) && errno != ENOENT ? -errno : 0;
}
