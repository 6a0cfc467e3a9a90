/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/libc.c - finding the real functions
 *
 * Every member of `libc` starts as a small function that looks all names up (RTLD_NEXT) and then
 * calls the real one. Constructors of other libraries may call us before our own constructor has
 * run, and dlsym() may allocate, that is, enter an allocator that reads a file: both just find a
 * member that is not yet resolved and resolve it. Nothing here takes a lock of ours, so it can't
 * dead-lock; two threads that resolve at once store the same values.
 *
 * A name that the C library lacks answers ENOSYS.
 *
 * Threads: any, at any time.
 */
#define _GNU_SOURCE
#include "nsocket/libc.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void libc_resolve(void);

/* The functions before resolution. */
#define BOOT(ret, name, params, args) \
	static ret boot_##name params \
	{ \
		libc_resolve(); \
		return libc.name args; \
	}
#define BOOT_NORETURN(name, params, args) \
	static __attribute__((noreturn)) void boot_##name params \
	{ \
		libc_resolve(); \
		libc.name args; \
	}
/* And where libc has none of that name; the result is -1 for all that have one. */
static long libc_absent(void)
{
	errno = ENOSYS;
	return -1;
}

NS_CALLS(BOOT, BOOT_NORETURN)

#define INIT(ret, name, params, args) .name = boot_##name,
#define INIT_NORETURN(name, params, args) .name = boot_##name,
struct libc_calls libc = { NS_CALLS(INIT, INIT_NORETURN) };

/* One per call: where the pointer lives, its name. A table instead of code for each. */
struct entry {
	size_t offset;
	const char *name;
};
#define ENTRY(ret, name, params, args) { offsetof(struct libc_calls, name), #name },
#define ENTRY_NORETURN(name, params, args) ENTRY(void, name, params, args)
static const struct entry entries[] = { NS_CALLS(ENTRY, ENTRY_NORETURN) };

static void libc_resolve(void)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		void *sym = dlsym(RTLD_NEXT, entries[i].name);

		if (!sym)
			sym = (void *)libc_absent;
		/* relaxed: whoever sees the old value resolves again, to the same */
		__atomic_store_n((void **)((char *)&libc + entries[i].offset), sym,
				 __ATOMIC_RELAXED);
	}
}

/* Early, so that the ordinary program never meets the boot functions. */
__attribute__((constructor(101))) static void libc_constructor(void)
{
	libc_resolve();
}
