/* SPDX-License-Identifier: Apache-2.0 */
/* rd/program.h - can a program be intercepted at all?
 *
 * A preload library reaches what the dynamic loader loads and what calls the kernel through libc.
 * A statically linked program, one whose runtime makes system calls of its own (Go), or one for
 * which the loader ignores LD_PRELOAD runs on the kernel, and the user should be told.
 */
#ifndef NSTACK_RD_PROGRAM_H
#define NSTACK_RD_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum program_kind {
	PROGRAM_OK,         /* also where nothing is known: not found, not readable, not ELF */
	PROGRAM_STATIC,     /* no dynamic loader */
	PROGRAM_GO,         /* Go's runtime calls the kernel without libc */
	PROGRAM_FOREIGN,    /* another word size or machine than ours */
	PROGRAM_OTHER_LIBC, /* loaded by another C library's loader (musl) */
	PROGRAM_SETUID,     /* set-user-id, set-group-id or capabilities of its file */
	PROGRAM_NR_
};

/* Look at the program that execvp(name) would run; scripts: at their interpreter, and with env(1) in
 * between at what it names. path is what was looked at. */
enum program_kind program_look(const char *name, char path[PATH_MAX]);
/* "is statically linked: there is no loader that could preload a library"; "" for PROGRAM_OK. */
const char *program_why(enum program_kind kind);
/* Does a block of ELF notes say that the Go tool chain has made the program? */
bool program_notes_go(const void *notes, size_t len);
/* Is the running program of Go? From its program headers in memory. */
bool program_self_go(void);

#endif
