/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_tables.c - a handle on the maps of an attached program
 *
 * Maps are found through the program's id, and checked for name and size. Whoever may not look
 * things up by id (that needs CAP_SYS_ADMIN) finds them pinned under the bpffs, if there is one.
 * Threads: opening and closing belong to one thread each; the handle is read-only between.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/magic.h>
#include <net/if.h>
#include <nstack/fd_host.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define PIN_ROOT "/sys/fs/bpf/nstack"

static const struct {
	const char *name;
	uint32_t key_size, value_size, max_entries;
} maps[] = {
#define STEER_MAP_ROW(e, name, key, value, max) [STEER_M_##e] = { name, key, value, max },
	STEER_MAPS(STEER_MAP_ROW)
#undef STEER_MAP_ROW
};
_Static_assert(sizeof(maps) / sizeof(maps[0]) == STEER_M_NR_, "one row per map");

static int map_check(int fd, enum steer_map m)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return -errno;
	return info.key_size == maps[m].key_size && info.value_size == maps[m].value_size &&
	       info.max_entries == maps[m].max_entries ? 0 : -EPROTO;
}

static int map_adopt(struct steer *st, int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len)) {
		close(fd);
		return -errno;
	}
	for (unsigned m = 0; m < STEER_M_NR_; m++) {
		if (!strcmp(info.name, maps[m].name) && st->map[m] < 0) {
			st->map[m] = nst_fd_own(fd);
			return map_check(st->map[m], m);
		}
	}
	close(fd); /* constants of the compiler, say */
	return 0;
}

static void *map_mmap(const struct steer *st, enum steer_map m)
{
	size_t size = (size_t)maps[m].max_entries * ((maps[m].value_size + 7u) & ~7u);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, st->map[m], 0);

	return p == MAP_FAILED ? NULL : p;
}

static void map_munmap(void *p, enum steer_map m)
{
	if (p)
		munmap(p, (size_t)maps[m].max_entries * ((maps[m].value_size + 7u) & ~7u));
}

static int tables_map(struct steer *st)
{
	for (unsigned m = 0; m < STEER_M_NR_; m++) {
		if (st->map[m] < 0)
			return -EPROTO;
	}
	st->claims = map_mmap(st, STEER_M_CLAIMS);
	st->meta = map_mmap(st, STEER_M_META);
	st->instances = map_mmap(st, STEER_M_INSTANCES);
	st->outside = map_mmap(st, STEER_M_OUTSIDE);
	return st->claims && st->meta && st->instances && st->outside ? 0 : -ENOMEM;
}

int steer_tables_open(struct steer *st, uint32_t prog_id)
{
	__u32 ids[32] = { 0 }, len = sizeof(struct bpf_prog_info);
	struct bpf_prog_info info = { .map_ids = (uintptr_t)ids, .nr_map_ids = 32 };
	int prog = bpf_prog_get_fd_by_id(prog_id), err = 0;

	if (prog < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(prog, &info, &len))
		err = -errno;
	for (__u32 i = 0; !err && i < info.nr_map_ids && i < 32; i++) {
		int fd = bpf_map_get_fd_by_id(ids[i]);

		err = fd < 0 ? -errno : map_adopt(st, fd);
	}
	close(prog); /* the maps live on by themselves */
	st->prog_id = prog_id;
	return err ? err : tables_map(st);
}

void steer_tables_close(struct steer *st)
{
	map_munmap(st->claims, STEER_M_CLAIMS);
	map_munmap(st->meta, STEER_M_META);
	map_munmap(st->instances, STEER_M_INSTANCES);
	map_munmap(st->outside, STEER_M_OUTSIDE);
	st->claims = NULL;
	st->meta = NULL;
	st->instances = NULL;
	st->outside = NULL;
	for (unsigned m = 0; m < STEER_M_NR_; m++) {
		nst_fd_close(st->map[m]);
		st->map[m] = -1;
	}
}

/* --- pins ---------------------------------------------------------------------------------- */

/* Folder of this interface: interface numbers are per network namespace. */
static int pin_dir(unsigned ifindex, char *out, size_t size)
{
	struct statfs fs;
	struct stat ns;

	if (statfs("/sys/fs/bpf", &fs) || fs.f_type != BPF_FS_MAGIC)
		return -ENOENT;
	if (stat("/proc/self/ns/net", &ns))
		return -errno;
	snprintf(out, size, PIN_ROOT "/%lu-%u", (unsigned long)ns.st_ino, ifindex);
	return 0;
}

void steer_pins_make(struct steer *st)
{
	char dir[96], path[128];

	if (pin_dir(st->ifindex, dir, sizeof(dir)))
		return;
	if ((mkdir(PIN_ROOT, 0755) && errno != EEXIST) || (mkdir(dir, 0755) && errno != EEXIST))
		return;
	for (unsigned m = 0; m < STEER_M_NR_; m++) {
		snprintf(path, sizeof(path), "%s/%s", dir, maps[m].name);
		unlink(path);
		(void)bpf_obj_pin(st->map[m], path);
	}
}

void steer_pins_remove(unsigned ifindex)
{
	char dir[96], path[128];

	if (pin_dir(ifindex, dir, sizeof(dir)))
		return;
	for (unsigned m = 0; m < STEER_M_NR_; m++) {
		snprintf(path, sizeof(path), "%s/%s", dir, maps[m].name);
		unlink(path);
	}
	rmdir(dir);
	rmdir(PIN_ROOT); /* if that was the last */
}

int steer_tables_open_pins(struct steer *st)
{
	char dir[96], path[128];
	int err = pin_dir(st->ifindex, dir, sizeof(dir));

	for (unsigned m = 0; !err && m < STEER_M_NR_; m++) {
		snprintf(path, sizeof(path), "%s/%s", dir, maps[m].name);
		st->map[m] = nst_fd_own(bpf_obj_get(path));
		err = st->map[m] < 0 ? -errno : map_check(st->map[m], m);
	}
	return err ? err : tables_map(st);
}

/* --- life ---------------------------------------------------------------------------------- */

static int open_tables(struct steer *st, char why[STEER_WHY])
{
	struct steer_found f;
	int err = steer_find(st->ifindex, &f), pins;

	if (!err && f.other_version) {
		snprintf(why, STEER_WHY, "the steering program is of another version of nstack");
		return -EPROTO;
	}
	if (!err && !f.prog_id) {
		snprintf(why, STEER_WHY, "the steering program is not attached%s%s%s",
			 f.foreign[0] ? " (but XDP program " : "", f.foreign, f.foreign[0] ? " is)" : "");
		return -ENOENT;
	}
	if (!err)
		err = steer_tables_open(st, f.prog_id);
	if (err != -EPERM && err != -EACCES) {
		if (err)
			snprintf(why, STEER_WHY, "the steering program's tables: %s", strerror(-err));
		return err;
	}
	steer_tables_close(st);
	pins = steer_tables_open_pins(st);
	if (!pins)
		return 0;
	snprintf(why, STEER_WHY, "no right to the steering tables: needs root, or CAP_BPF with "
		 "CAP_NET_ADMIN and the pins under " PIN_ROOT " (%s)", strerror(-pins));
	return -EPERM;
}

int steer_open(struct steer **out, unsigned ifindex, char why[STEER_WHY])
{
	struct steer *st = calloc(1, sizeof(*st));
	int err;

	*out = NULL;
	why[0] = 0;
	if (!st)
		return -ENOMEM;
	st->ifindex = ifindex;
	st->lock_file = -1;
	for (unsigned m = 0; m < STEER_M_NR_; m++)
		st->map[m] = -1;
	err = open_tables(st, why);
	if (err) {
		steer_close(st);
		return err;
	}
	*out = st;
	return 0;
}

void steer_close(struct steer *st)
{
	int lock;

	if (!st)
		return;
	/* a forked child's copy of the handle is not the instance */
	if (st->instance && st->instance_pid == getpid()) {
		lock = steer_tables_lock(st);
		steer_instance_clean(st, st->instance);
		steer_tables_unlock(st, lock);
	}
	steer_tables_close(st);
	nst_fd_close(st->lock_file);
	free(st);
}

int steer_mtu_set(struct steer *st, uint32_t mtu)
{
	__atomic_store_n(&st->meta->mtu, mtu, __ATOMIC_RELAXED); /* one word, orders nothing */
	return 0;
}

int steer_vlan(struct steer *st, bool on)
{
	__atomic_store_n(&st->meta->steer_vlan, on, __ATOMIC_RELAXED); /* a switch, orders nothing */
	return 0;
}

int steer_map_each(int map_fd, size_t key_size, uint32_t max, void *value,
		   int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	uint8_t key[64], next[64];
	bool more = !bpf_map_get_next_key(map_fd, NULL, key);
	/* entries deleted by others make the walk start again: bounded, not endless */
	uint64_t left = 2ull * max + 2;
	int ret = 0;

	if (!more)
		return errno == ENOENT ? 0 : -errno;
	while (more && !ret && left--) {
		/* step first: fn may delete the key */
		more = !bpf_map_get_next_key(map_fd, key, next);
		if (!bpf_map_lookup_elem(map_fd, key, value))
			ret = fn(arg, key, value);
		memcpy(key, next, key_size);
	}
	return ret;
}
