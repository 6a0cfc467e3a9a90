/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/uring.c - programs that use io_uring
 *
 * What a program submits to a ring goes to the kernel without a call that could be intercepted, and the
 * kernel knows the shadows only. So a process that has a ring leaves its sockets to the kernel: new
 * ones from the start, those that it has by handover.
 *
 * Rings come into being by liburing's functions, which are intercepted (its system calls are
 * instructions of its own); by syscall(2); or by an instruction in the program itself (a static
 * liburing, other runtimes). The last is not to be seen when it happens, and may happen when a
 * connection is long in use. But the instruction can be found in the code, once, before the stack
 * starts; where it is, the stack does not.
 *
 * Leaves out: code that is loaded later and brings the instruction along.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/uring.h"

#include <dlfcn.h>
#include <link.h>
#include <nsocket/handover.h>
#include <nsocket/init.h>
#include <rd/log.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

void uring_seen(void)
{
	if (nsock_kernel_only_why() != SR_NR_ || !init_ready())
		return;
	nsock_kernel_only(SR_io_uring);
	sock_reason(SR_io_uring);
	ns_log_fallback("new sockets stay with the kernel: %s", sock_reason_help[SR_io_uring]);
	if (nsock_handover_each(NULL, SR_io_uring))
		ns_log(NS_WAR, NS_M_NSOCKET, "io_uring does not see connections that stay with the stack");
}

/* --- rings that will be made past us ----------------------------------------------------------------- */

/* Loading the number of io_uring_setup into the register for it, and not far from there the
 * instruction that enters the kernel. */
#define REACH 64
#if defined(__x86_64__)
static bool code_makes_ring(const unsigned char *code, size_t n)
{
	static const unsigned char number[] = { SYS_io_uring_setup & 0xff, SYS_io_uring_setup >> 8, 0, 0 };
	static const unsigned char enter[] = { 0x0f, 0x05 };                 /* syscall */
	static const unsigned char load32 = 0xb8;                            /* mov imm32, %eax */
	static const unsigned char load64[] = { 0x48, 0xc7, 0xc0 };          /* mov imm32, %rax */
	const unsigned char *end = code + n, *p = code;

	while ((p = memmem(p, (size_t)(end - p), number, sizeof(number)))) {
		size_t before = (size_t)(p - code), after = (size_t)(end - p);

		if (((before >= 1 && p[-1] == load32) || (before >= 3 && !memcmp(p - 3, load64, 3))) &&
		    memmem(p, after < REACH ? after : REACH, enter, sizeof(enter)))
			return true;
		p += sizeof(number);
	}
	return false;
}
#else
static bool code_makes_ring(const unsigned char *code, size_t n)
{
	const uint32_t *p = (const uint32_t *)code, *end = p + n / 4;
	const uint32_t load = 0x52800008u | (uint32_t)SYS_io_uring_setup << 5; /* movz w8; x8: top bit */

	for (; p < end; p++)
		for (int i = 1; (*p & 0x7fffffffu) == load && i < REACH / 4 && p + i < end; i++)
			if (p[i] == 0xd4000001u) /* svc 0 */
				return true;
	return false;
}
#endif

/* liburing's own code is reached by functions that we have; libc and we make no ring. */
static bool known_object(const char *path)
{
	static const char *const known[] = { "liburing.so", "libc.so", "ld-linux", "libnsocket.so", "linux-vdso" };
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strncmp(base, known[i], strlen(known[i])))
			return true;
	return false;
}

static int object_makes_ring(struct dl_phdr_info *o, size_t size, void *arg)
{
	/* the program itself has no name */
	if (o->dlpi_name && known_object(o->dlpi_name))
		return 0;
	for (int i = 0; i < o->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &o->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && (p->p_flags & PF_R) &&
		    code_makes_ring((const unsigned char *)(o->dlpi_addr + p->p_vaddr), p->p_filesz))
			return 1;
	}
	return 0;
}

bool uring_at_start(void)
{
	if (!dl_iterate_phdr(object_makes_ring, NULL))
		return false;
	nsock_kernel_only(SR_io_uring);
	sock_reason(SR_io_uring);
	return true;
}

/* --- liburing --------------------------------------------------------------------------------------------- */

/* The real function, also where liburing came with a module that keeps its libraries to itself. */
static void *real(const char *name)
{
	static const char *const libs[] = { "liburing.so.2", "liburing.so.1" };
	void *sym = dlsym(RTLD_NEXT, name), *lib;

	for (size_t i = 0; !sym && i < sizeof(libs) / sizeof(libs[0]); i++) {
		lib = dlopen(libs[i], RTLD_LAZY | RTLD_NOLOAD);
		if (!lib)
			continue;
		sym = dlsym(lib, name);
		dlclose(lib); /* it stays: it was there before */
	}
	return sym;
}

#define WRAP(name, params, args) \
	NS_EXPORT int name params; \
	NS_EXPORT int name params \
	{ \
		int (*fn) params = (int (*) params)real(#name); \
		int r = fn ? fn args : -ENOSYS; \
		if (r >= 0) \
			uring_seen(); \
		return r; \
	}
NS_LIBURING(WRAP)
