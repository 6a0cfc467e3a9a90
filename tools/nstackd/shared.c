/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/shared.c - the daemon's own shared memory: quotas, ports in use, signs of life */
#define _GNU_SOURCE
#include "tools/nstackd/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <nsocket/ports.h>
#include <shm/attach.h>
#include <sys/mman.h>
#include <unistd.h>

struct shared *shared;
unsigned shared_worker;
int shared_ports_fd = -1;

/* Programs can't make a mapping that they may write to. */
static int ports_open(void)
{
	int fd = memfd_create("nstack-ports", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, ATT_PORTS_BYTES))
		p = mmap(NULL, ATT_PORTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE |
							 F_SEAL_SEAL))
		return -errno;
	ports_map = p;
	shared_ports_fd = fd;
	return 0;
}

int shared_open(uint32_t quotas)
{
	size_t bytes = sizeof(*shared) + quotas * sizeof(struct quota);

	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shared == MAP_FAILED)
		return -errno;
	shared->nquotas = quotas;
	shared_become(0);
	return ports_open();
}

void shared_become(unsigned worker)
{
	shared_worker = worker;
	ports_map_bit = (uint16_t)(1u << worker);
}

void shared_beat(uint64_t now)
{
	__atomic_store_n(&shared->beat[shared_worker], now, __ATOMIC_RELAXED);
}

uint64_t shared_beat_of(unsigned worker)
{
	return __atomic_load_n(&shared->beat[worker], __ATOMIC_RELAXED);
}

void shared_forget(unsigned worker)
{
	__atomic_store_n(&shared->beat[worker], 0, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < shared->nquotas; i++)
		for (unsigned what = 0; shared->quota[i].taken && what < QUOTA_NR_; what++)
			__atomic_store_n(&shared->quota[i].used[worker][what], 0, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2 * 65536; i++)
		if (ports_map[i / 65536][i % 65536] & 1u << worker)
			__atomic_fetch_and(&ports_map[i / 65536][i % 65536], (uint16_t)~(1u << worker), __ATOMIC_RELAXED);
}

/* --- quotas ---------------------------------------------------------------------------------- */

uint64_t quota_used(const struct quota *a, enum quota_what what)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < NS_WORKERS_MAX; i++)
		sum += __atomic_load_n(&a->used[i][what], __ATOMIC_RELAXED);
	return sum;
}

/* Added first, then looked at: two workers may both be refused what one could have had, but never are there
 * more than the limit. */
bool quota_take(struct quota *a, enum quota_what what)
{
	if (!a)
		return true;
	__atomic_fetch_add(&a->used[shared_worker][what], 1, __ATOMIC_RELAXED);
	if (quota_used(a, what) <= __atomic_load_n(&a->limit[what], __ATOMIC_RELAXED))
		return true;
	quota_give(a, what);
	__atomic_fetch_add(&a->refused[what], 1, __ATOMIC_RELAXED);
	return false;
}

void quota_give(struct quota *a, enum quota_what what)
{
	if (a)
		__atomic_fetch_sub(&a->used[shared_worker][what], 1, __ATOMIC_RELAXED);
}

const char *quota_what_name(enum quota_what what)
{
	static const char *const names[QUOTA_NR_] = { "programs", "sockets", "ports", "bytes of memory" };

	return names[what];
}
