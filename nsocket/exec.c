/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/exec.c - programs that become or start another program
 *
 * The image after exec has the descriptors and nothing else of us, so what is to be usable there has to
 * be the kernel's before.
 *
 *  - The process that has the stack becomes another program: all its connections move. Those that are
 *    close-on-exec, too: the kernel then ends them as it does at every exec, and if exec fails they go on.
 *    Under nstackd they stay in the stack if the next program is under nsocket, too: it takes them over.
 *  - What waits for accept() on a listener that goes along does, too, if the next program is under
 *    nsocket (yield.c); else it is reset.
 *  - A forked child becomes another program, or a process starts one (posix_spawn, system, popen): what
 *    the new image inherits moves, up to INHERITED_MAX connections. A server that has more of them open
 *    without close-on-exec has hardly meant to give them all to its helper, and should not lose the
 *    stack for them; then only those move that are standard input, output or error, that the parent has
 *    closed already (they are the child's alone), or that posix_spawn() is told to duplicate.
 *
 * An exec that can be seen to fail (no such file, not executable) moves nothing.
 *
 * Threads: any. Also in the child of a fork, where only functions are called that glibc allows there.
 */
#define _GNU_SOURCE
#include "nsocket/handover.h"

#include <limits.h>
#include <nsocket/attach.h>
#include <nsocket/init.h>
#include <nsocket/share.h>
#include <nsocket/yield.h>
#include <rd/program.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define INHERITED_MAX 16
#define DEFAULT_PATH "/bin:/usr/bin" /* libc's, without PATH */

/* --- what moves -------------------------------------------------------------------------------- */

static bool inherited(int fd)
{
	return !(libc.fcntl(fd, F_GETFD, 0) & FD_CLOEXEC);
}

/* The stack ends with this image. */
static bool of_stack(struct nsock *ns, int fd)
{
	return nsock_mode(ns) == SK_STREAM || (nsock_session(ns) && inherited(fd));
}

/* The same where the next image is under nsocket and nstackd keeps what that one inherits. */
static bool not_kept(struct nsock *ns, int fd)
{
	if (nsock_mode(ns) != SK_STREAM || !attach_daemon())
		return of_stack(ns, fd);
	return inherited(fd) && (fd <= STDERR_FILENO || nsock_park(ns, fd));
}

static bool inherited_stream(struct nsock *ns, int fd)
{
	return nsock_mode(ns) == SK_STREAM && inherited(fd);
}

static bool clearly_meant(struct nsock *ns, int fd)
{
	return inherited_stream(ns, fd) && (fd <= STDERR_FILENO || share_alone(ns));
}

static int inherited_streams(void)
{
	struct nfile *f;
	int n = 0;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		n += f->kind == NF_SOCK && inherited_stream(nsock_of(f), fd);
		nfile_put(f);
	}
	return n;
}

static bool close_on_exec(int fd)
{
	return !inherited(fd);
}

/* Another process is about to have our descriptors. */
static void heir_comes(void)
{
	int n = init_ready() ? inherited_streams() : 0;

	if (n)
		nsock_handover_each(n > INHERITED_MAX ? clearly_meant : inherited_stream, SR_exec);
}

/* Will the program be under nsocket, too? The tool starts one that is. */
static bool program_ours(const char *file, char *const envp[])
{
	const char *base = file ? strrchr(file, '/') : NULL;
	char path[PATH_MAX];

	if (!file)
		return false;
	if (!strcmp(base ? base + 1 : file, "nstack"))
		return true;
	for (; envp && *envp; envp++)
		if (!strncmp(*envp, "LD_PRELOAD=", 11) && strstr(*envp, "libnsocket"))
			return program_look(file, path) == PROGRAM_OK;
	return false;
}

/* Listeners that the next image inherits. */
static void listeners_each(void (*fn)(struct nsock *ns, int fd))
{
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_LISTEN && inherited(fd))
			fn(nsock_of(f), fd);
		nfile_put(f);
	}
}

static void listener_stays(struct nsock *ns, int fd)
{
	yield_exec_failed(ns);
}

/* This process is about to become another program. */
static void image_ends(const char *file, char *const envp[])
{
	bool ours;

	if (!init_ready())
		return;
	ours = program_ours(file, envp);
	if (ours)
		listeners_each(yield_exec_prepare);
	if (!worker_running()) {
		heir_comes();
		return;
	}
	share_leave_all();
	if (nsock_handover_each(ours ? not_kept : of_stack, SR_exec))
		init_close_streams(close_on_exec); /* what exec would do; the others are lost */
	init_settle();
}

/* It did not. r: the result of exec. */
static int image_stays(int r)
{
	int err = errno;

	if (init_ready())
		listeners_each(listener_stays);
	errno = err;
	return r;
}

/* --- will it be executed? ---------------------------------------------------------------------- */

static bool executable(int dirfd, const char *path, int flags)
{
	struct stat st;

	if (!path || fstatat(dirfd, path, &st, flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) ||
	    !S_ISREG(st.st_mode))
		return false;
	return *path ? faccessat(dirfd, path, X_OK, AT_EACCESS) == 0 : (st.st_mode & 0111) != 0;
}

/* One directory of PATH and the name. */
static bool executable_in(const char *dir, size_t len, const char *file)
{
	char path[PATH_MAX];
	size_t n = strlen(file);

	if (len + n + 2 > sizeof(path))
		return false;
	memcpy(path, dir, len);
	if (len)
		path[len++] = '/';
	memcpy(path + len, file, n + 1);
	return executable(AT_FDCWD, path, 0);
}

static bool executable_by_path(const char *file)
{
	const char *dir = getenv("PATH"), *end;

	if (!file || !*file)
		return false;
	if (strchr(file, '/'))
		return executable(AT_FDCWD, file, 0);
	for (dir = dir ? dir : DEFAULT_PATH;; dir = end + 1) {
		end = strchrnul(dir, ':');
		if (executable_in(dir, (size_t)(end - dir), file))
			return true;
		if (!*end)
			return false;
	}
}

/* --- exec -------------------------------------------------------------------------------------- */

NS_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	if (executable(AT_FDCWD, path, 0))
		image_ends(path, envp);
	return image_stays(libc.execve(path, argv, envp));
}

NS_EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

NS_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	if (executable_by_path(file))
		image_ends(file, envp);
	return image_stays(libc.execvpe(file, argv, envp));
}

NS_EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

NS_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	if (executable(fd, "", AT_EMPTY_PATH))
		image_ends(NULL, envp);
	return image_stays(libc.fexecve(fd, argv, envp));
}

NS_EXPORT int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
	if (executable(dirfd, path, flags))
		image_ends(dirfd == AT_FDCWD ? path : NULL, envp);
	return image_stays(libc.execveat(dirfd, path, argv, envp, flags));
}

/* The arguments that follow in ap, up to and with NULL, as an array on the caller's stack. */
#define ARGS_COLLECT(argv, first, ap, last) \
	do { \
		size_t n_ = 1; \
		va_start(ap, last); \
		for (const char *a_ = (first); a_; a_ = va_arg(ap, const char *)) \
			n_++; \
		va_end(ap); \
		(argv) = __builtin_alloca(n_ * sizeof(*(argv))); \
		n_ = 0; \
		va_start(ap, last); \
		for (const char *a_ = (first); a_; a_ = va_arg(ap, const char *)) \
			(argv)[n_++] = (char *)a_; \
		(argv)[n_] = NULL; \
	} while (0)

NS_EXPORT int execl(const char *path, const char *arg, ...)
{
	char **argv;
	va_list ap;

	ARGS_COLLECT(argv, arg, ap, arg);
	va_end(ap);
	return execv(path, argv);
}

NS_EXPORT int execlp(const char *file, const char *arg, ...)
{
	char **argv;
	va_list ap;

	ARGS_COLLECT(argv, arg, ap, arg);
	va_end(ap);
	return execvp(file, argv);
}

NS_EXPORT int execle(const char *path, const char *arg, ...)
{
	char **argv, *const *envp;
	va_list ap;

	ARGS_COLLECT(argv, arg, ap, arg);
	envp = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, envp);
}

/* --- programs beside this one ------------------------------------------------------------------ */

NS_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
			  const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	if (executable(AT_FDCWD, path, 0))
		heir_comes();
	return libc.posix_spawn(pid, path, actions, attr, argv, envp);
}

NS_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			   const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	if (executable_by_path(file))
		heir_comes();
	return libc.posix_spawnp(pid, file, actions, attr, argv, envp);
}

/* A descriptor that is duplicated for the new program is meant for it, close-on-exec or not. */
NS_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int to)
{
	struct nfile *f = fd_is_ours(fd) ? fd_get(fd) : NULL;

	if (f) {
		if (f->kind == NF_SOCK && nsock_mode(nsock_of(f)) == SK_STREAM)
			nsock_handover(nsock_of(f), fd, SR_exec);
		nfile_put(f);
	}
	return libc.posix_spawn_file_actions_adddup2(actions, fd, to);
}

NS_EXPORT int system(const char *command)
{
	if (command)
		heir_comes();
	return libc.system(command);
}

NS_EXPORT FILE *popen(const char *command, const char *mode)
{
	heir_comes();
	return libc.popen(command, mode);
}
NS_ALIAS(_IO_popen, popen);
