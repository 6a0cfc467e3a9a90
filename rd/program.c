/* SPDX-License-Identifier: Apache-2.0 */
/* rd/program.c - can a program be intercepted at all?
 *
 * Reads the head of the file: #! lines, ELF program headers, notes. The file is not trusted: sizes are
 * bounded, and what does not look right counts as a program like any other, which exec will judge.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "rd/program.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <rd/sys.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPTS 5       /* interpreters that are scripts, as many as Linux follows */
#define PHDRS 64u
#define NOTES 4096u     /* bytes looked at of each segment of notes */
#define GO_BUILD_ID 4u  /* type of Go's note */

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

bool program_notes_go(const void *notes, size_t len)
{
	const char *p = notes;
	ElfW(Nhdr) n;

	while (len >= sizeof(n)) {
		size_t name, desc;

		memcpy(&n, p, sizeof(n));
		name = ((size_t)n.n_namesz + 3) & ~(size_t)3;
		desc = ((size_t)n.n_descsz + 3) & ~(size_t)3;
		if (name > len - sizeof(n) || desc > len - sizeof(n) - name)
			return false;
		if (n.n_type == GO_BUILD_ID && n.n_namesz == 4 && !memcmp(p + sizeof(n), "Go", 3))
			return true;
		p += sizeof(n) + name + desc;
		len -= sizeof(n) + name + desc;
	}
	return false;
}

/* Are the bytes of a segment in memory? */
static bool loaded(const ElfW(Phdr) *ph, size_t n, const ElfW(Phdr) *of)
{
	for (size_t i = 0; i < n; i++)
		if (ph[i].p_type == PT_LOAD && of->p_vaddr >= ph[i].p_vaddr &&
		    of->p_vaddr + of->p_filesz <= ph[i].p_vaddr + ph[i].p_filesz)
			return true;
	return false;
}

bool program_self_go(void)
{
	const ElfW(Phdr) *ph = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	size_t n = getauxval(AT_PHNUM);
	uintptr_t base = 0;

	for (size_t i = 0; ph && i < n; i++)
		if (ph[i].p_type == PT_PHDR) /* where they are, less where they asked to be */
			base = (uintptr_t)ph - ph[i].p_vaddr;
	for (size_t i = 0; ph && i < n; i++)
		if (ph[i].p_type == PT_NOTE && loaded(ph, n, &ph[i]) &&
		    program_notes_go((const void *)(base + ph[i].p_vaddr), ph[i].p_filesz))
			return true;
	return false;
}

/* --- files ----------------------------------------------------------------------------------------- */

static bool read_at(int fd, void *buf, size_t n, uint64_t off)
{
	return SYS_CALL_(SYS_pread64, fd, buf, n, off) == (long)n;
}

static enum program_kind segment_kind(int fd, const Elf64_Phdr *p, bool *loader)
{
	char text[NOTES] = "";
	size_t n = p->p_filesz < sizeof(text) ? p->p_filesz : sizeof(text) - 1;

	if ((p->p_type != PT_INTERP && p->p_type != PT_NOTE) || !read_at(fd, text, n, p->p_offset))
		return PROGRAM_OK;
	if (p->p_type == PT_NOTE)
		return program_notes_go(text, n) ? PROGRAM_GO : PROGRAM_OK;
	*loader = true;
	return strstr(text, "/ld-linux") ? PROGRAM_OK : PROGRAM_OTHER_LIBC;
}

static enum program_kind elf_kind(int fd)
{
	enum program_kind kind = PROGRAM_OK, one;
	bool loader = false;
	Elf64_Ehdr e;
	Elf64_Phdr p;

	if (!read_at(fd, &e, sizeof(e), 0) || memcmp(e.e_ident, ELFMAG, SELFMAG))
		return PROGRAM_OK;
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != MACHINE)
		return PROGRAM_FOREIGN;
	for (unsigned i = 0; i < e.e_phnum && i < PHDRS; i++) {
		if (!read_at(fd, &p, sizeof(p), e.e_phoff + i * sizeof(p)))
			return PROGRAM_OK;
		one = segment_kind(fd, &p, &loader);
		if (one == PROGRAM_GO)
			return one; /* says more than that it is static, too */
		if (one)
			kind = one;
	}
	return loader ? kind : PROGRAM_STATIC;
}

static enum program_kind file_kind(int fd, const char *path)
{
	enum program_kind kind = elf_kind(fd);
	struct stat st;

	/* root is root already: only a change of user makes the loader careful */
	if (kind || fstat(fd, &st) < 0)
		return kind;
	if (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
	    ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid()) ||
	    (geteuid() && getxattr(path, "security.capability", NULL, 0) > 0))
		return PROGRAM_SETUID;
	return PROGRAM_OK;
}

/* As execvp() finds it. */
static bool find(const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH"), *end;

	if (strchr(name, '/'))
		return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
	for (dirs = dirs ? dirs : "/bin:/usr/bin"; *dirs; dirs = *end ? end + 1 : end) {
		end = strchrnul(dirs, ':');
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dirs), dirs, end > dirs ? "/" : "",
			     name) < PATH_MAX && !access(path, X_OK))
			return true;
	}
	return false;
}

/* The interpreter in a #! line; what env(1) is to run. "" = neither. */
static void interpreter(char *line, char out[PATH_MAX])
{
	static const char blank[] = " \t";
	char *save, *word = strtok_r(line + 2, blank, &save), *base;

	out[0] = 0;
	if (!word)
		return;
	base = strrchr(word, '/');
	if (base && !strcmp(base, "/env")) {
		/* options and settings come first */
		while ((word = strtok_r(NULL, blank, &save)) && (word[0] == '-' || strchr(word, '=')))
			;
	}
	if (word)
		snprintf(out, PATH_MAX, "%s", word);
}

enum program_kind program_look(const char *name, char path[PATH_MAX])
{
	enum program_kind kind = PROGRAM_OK;
	char next[PATH_MAX];

	snprintf(path, PATH_MAX, "%s", name);
	snprintf(next, sizeof(next), "%s", name);
	for (int depth = 0; depth <= SCRIPTS && next[0]; depth++) {
		char line[256] = "";
		int fd;

		if (!find(next, path)) {
			snprintf(path, PATH_MAX, "%s", next);
			break;
		}
		fd = sys_open(path, O_RDONLY | O_NONBLOCK, 0);
		if (fd < 0)
			break;
		next[0] = 0;
		SYS_CALL_(SYS_pread64, fd, line, sizeof(line) - 1, 0);
		if (!strncmp(line, "#!", 2)) {
			line[strcspn(line, "\n")] = 0;
			interpreter(line, next);
		} else {
			kind = file_kind(fd, path);
		}
		sys_close(fd);
	}
	return kind;
}

const char *program_why(enum program_kind kind)
{
	static const char *const why[] = {
		[PROGRAM_OK] = "",
		[PROGRAM_STATIC] = "is statically linked, which leaves no place for a preload library",
		[PROGRAM_GO] = "is a Go program, whose runtime calls the kernel without the C library",
		[PROGRAM_FOREIGN] = "is built for another machine or word size than the library",
		[PROGRAM_OTHER_LIBC] = "is loaded by another C library than glibc",
		[PROGRAM_SETUID] = "changes its user, group or capabilities, and the loader ignores LD_PRELOAD then",
	};

	_Static_assert(sizeof(why) / sizeof(why[0]) == PROGRAM_NR_, "each has its words");
	return why[kind];
}
