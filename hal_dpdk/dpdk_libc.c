/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_libc.c - what DPDK must have in common with the program, though it is bound to libc
 *
 * The plug-in and DPDK's libraries look for functions in themselves and in libc first (RTLD_DEEPBIND, see
 * dpdk_load.c). Where a program has its own of something that libc uses as well, they would meet two:
 *
 * - Memory. A program may have an allocator of its own (redis has jemalloc); what strdup() got from the
 *   one must not be freed by the other.
 * - getopt. Its variables are the program's, if it names them; what libc wrote there, DPDK would look for
 *   in libc. And the program is not to find them changed.
 *
 * So these are found in the plug-in, which hands on to what everybody else in the process uses. Looked
 * up at the first call, which comes from a constructor: the plug-in is not even loaded then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

/* The program's, or that of a library which comes before libc. */
static void *global(const char *name)
{
	static void *program;

	if (!program)
		program = dlopen(NULL, RTLD_LAZY);
	return dlsym(program, name);
}

/* --- memory -------------------------------------------------------------------------------- */

#define HAND_ON(type, name, params, args) \
	EXPORTED type name params \
	{ \
		static type (*fn) params; \
 \
		if (!fn) \
			fn = (type (*) params)global(#name); \
		return fn args; \
	}

HAND_ON(void *, malloc, (size_t size), (size))
HAND_ON(void *, calloc, (size_t n, size_t size), (n, size))
HAND_ON(void *, realloc, (void *p, size_t size), (p, size))
HAND_ON(void *, aligned_alloc, (size_t align, size_t size), (align, size))
HAND_ON(void *, memalign, (size_t align, size_t size), (align, size))
HAND_ON(int, posix_memalign, (void **out, size_t align, size_t size), (out, align, size))
HAND_ON(void, free, (void *p), (p))

/* --- getopt -------------------------------------------------------------------------------- */

struct option;
EXPORTED char *optarg;
EXPORTED int optind = 1, opterr, optopt;

EXPORTED int getopt_long(int argc, char *const *argv, const char *shorts, const struct option *longs, int *index)
{
	int (*fn)(int, char *const *, const char *, const struct option *, int *) = global("getopt_long");
	char **arg = global("optarg"), *arg_was = *arg;
	int *ind = global("optind"), *opt = global("optopt"), *err = global("opterr");
	int ind_was = *ind, opt_was = *opt, err_was = *err, r;

	*ind = optind;
	*err = opterr;
	r = fn(argc, argv, shorts, longs, index);
	optarg = *arg;
	optind = *ind;
	optopt = *opt;
	*arg = arg_was;
	*ind = ind_was;
	*opt = opt_was;
	*err = err_was;
	return r;
}
