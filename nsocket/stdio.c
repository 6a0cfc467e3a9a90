/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/stdio.c - streams over sockets of ours: fdopen() and what goes with it
 *
 * libc's streams enter the kernel by system calls of their own, past every wrapper. So a stream
 * over a socket of ours is made by fopencookie(), with functions that call read() and write() on
 * the number: ours, with all their meaning. Everything in between (buffering, formatting,
 * orientation, locking) is libc's as usual. Like an ordinary stream it only knows the number: what
 * becomes of the socket behind it (fork, dup2, a move to the kernel) is the wrappers' matter.
 *
 * A cookie stream has no fileno(), buffers of another size, and no place for wide characters,
 * which freopen() counts on. Number and wide part are fields of the public struct _IO_FILE. They
 * are filled from an ordinary stream over the same number, which libc's fdopen() makes first (so
 * mode, errors and O_APPEND are its own too); that stream is used for nothing else and lives as
 * long as the other. Wide input and output stay impossible: libc would read and write by itself.
 *
 * Threads: any. streams_lock is a leaf, except that stdio_flush() writes under it.
 */
#define _GNU_SOURCE
#include "nsocket/stdio.h"

#include <nsocket/sock.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Declared by the C library's headers only where fortification is on. */
int __dprintf_chk(int fd, int flag, const char *format, ...);
int __vdprintf_chk(int fd, int flag, const char *format, va_list ap);
int __vfprintf_chk(FILE *file, int flag, const char *format, va_list ap);

struct stream {
	struct stream *next;
	FILE *file;
	FILE *shape; /* libc's own stream over the same number, whose parts file uses */
	char buf[BUFSIZ];
};

#define BUCKETS 256
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream *streams[BUCKETS]; /* streams_lock */

static struct stream **bucket(const FILE *file)
{
	return &streams[(uintptr_t)file / 64 % BUCKETS];
}

/* --- what a stream calls: the cookie is the number ---------------------------------------------- */

static int number(void *cookie)
{
	return (int)(intptr_t)cookie;
}

static ssize_t stream_read(void *cookie, char *buf, size_t n)
{
	return read(number(cookie), buf, n);
}

/* All of it, or less and an error. */
static ssize_t stream_write(void *cookie, const char *buf, size_t n)
{
	size_t done = 0;
	ssize_t r;

	for (; done < n; done += (size_t)r) {
		r = write(number(cookie), buf + done, n - done);
		if (r < 0)
			break;
	}
	return (ssize_t)done;
}

static int stream_seek(void *cookie, off64_t *off, int whence)
{
	off64_t r = lseek64(number(cookie), *off, whence);

	if (r < 0)
		return -1; /* ESPIPE, as long as it is a socket */
	*off = r;
	return 0;
}

static int stream_close(void *cookie)
{
	return close(number(cookie));
}

/* --- making one --------------------------------------------------------------------------------- */

/* The size that libc gives to the buffer of an ordinary stream. */
static size_t buffer_size(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_blksize > 0 && st.st_blksize < BUFSIZ ?
	       (size_t)st.st_blksize : BUFSIZ;
}

static FILE *cookie_stream(int fd, const char *mode, bool closes, char buf[BUFSIZ])
{
	/* of the mode, libc's fdopen() heeds these: the first letter, and a + among the next ones */
	const char plain[] = { mode[0], strnlen(mode, 5) > strcspn(mode, "+") ? '+' : 0, 0 };
	FILE *file = fopencookie((void *)(intptr_t)fd, plain, (cookie_io_functions_t){
		.read = stream_read, .write = stream_write, .seek = stream_seek,
		.close = closes ? stream_close : NULL });

	if (file)
		setvbuf(file, buf, _IOFBF, buffer_size(fd));
	return file;
}

/* Free libc's stream without closing the number. */
static void shape_free(FILE *shape)
{
	shape->_fileno = -1;
	libc.fclose(shape);
}

static FILE *stream_new(int fd, const char *mode, FILE *shape)
{
	struct stream *s = malloc(sizeof(*s));

	if (!s || !(s->file = cookie_stream(fd, mode, true, s->buf))) {
		free(s);
		shape_free(shape);
		errno = ENOMEM;
		return NULL;
	}
	s->shape = shape;
	s->file->_fileno = fd;
	s->file->_wide_data = shape->_wide_data;
	lock_take(&streams_lock);
	s->next = *bucket(s->file);
	*bucket(s->file) = s;
	lock_give(&streams_lock);
	return s->file;
}

/* Out of the table; NULL: not one of ours. */
static struct stream *stream_take(FILE *file)
{
	struct stream **pp, *s;

	lock_take(&streams_lock);
	for (pp = bucket(file); (s = *pp) && s->file != file; pp = &s->next)
		;
	if (s)
		*pp = s->next;
	lock_give(&streams_lock);
	return s;
}

static void stream_free(struct stream *s)
{
	if (!s)
		return;
	shape_free(s->shape);
	free(s);
}

/* A socket that the stack serves, or may yet. */
static bool needs_stream(int fd)
{
	struct nfile *f = fd_get(fd);
	bool yes = f && f->kind == NF_SOCK && nsock_mode(nsock_of(f)) != SK_KERNEL;

	if (f)
		nfile_put(f);
	return yes;
}

/* --- the calls ---------------------------------------------------------------------------------- */

NS_EXPORT FILE *fdopen(int fd, const char *mode)
{
	FILE *file = libc.fdopen(fd, mode);

	return file && needs_stream(fd) ? stream_new(fd, mode, file) : file;
}
NS_ALIAS(_IO_fdopen, fdopen);

/* The entry of a number that libc is about to close by itself, for entry_put() afterwards. */
static struct nfile *entry_take(FILE *file)
{
	int fd = file ? fileno(file) : -1;
	struct nfile *f = fd_remove(fd);

	sock_closing(f, fd);
	return f;
}

static void entry_put(struct nfile *f)
{
	int err = errno;

	if (f)
		nfile_put(f);
	errno = err;
}

NS_EXPORT int fclose(FILE *file)
{
	struct stream *s = stream_take(file);
	struct nfile *f = s ? NULL : entry_take(file); /* ours calls close() */
	int r = libc.fclose(file), err = errno;

	entry_put(f);
	stream_free(s);
	errno = err;
	return r;
}
NS_ALIAS(_IO_fclose, fclose);

/* Whatever it was, it becomes a stream over a file, under the same number. libc sees to that with
 * system calls of its own. */
static struct nfile *before_freopen(FILE *file)
{
	if (fd_is_ours(fileno(file)))
		fflush(file);
	return entry_take(file);
}

NS_EXPORT FILE *freopen(const char *path, const char *mode, FILE *file)
{
	struct nfile *f = before_freopen(file);

	file = libc.freopen(path, mode, file);
	entry_put(f);
	return file;
}

NS_EXPORT FILE *freopen64(const char *path, const char *mode, FILE *file)
{
	struct nfile *f = before_freopen(file);

	file = libc.freopen64(path, mode, file);
	entry_put(f);
	return file;
}

/* dprintf() and its kin make a stream for the time of the call. */
static int dprintf_ours(int fd, int flag, const char *format, va_list ap)
{
	char buf[BUFSIZ];
	FILE *file = cookie_stream(fd, "w", false, buf);
	int n;

	if (!file)
		return -1;
	n = __vfprintf_chk(file, flag, format, ap);
	return libc.fclose(file) == EOF ? -1 : n;
}

NS_EXPORT int vdprintf(int fd, const char *format, va_list ap)
{
	return needs_stream(fd) ? dprintf_ours(fd, 0, format, ap) : libc.vdprintf(fd, format, ap);
}

NS_EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vdprintf(fd, format, ap);
	va_end(ap);
	return n;
}

NS_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	return needs_stream(fd) ? dprintf_ours(fd, flag, format, ap) :
				  libc.__vdprintf_chk(fd, flag, format, ap);
}

NS_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = __vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return n;
}

/* --- exit and fork ------------------------------------------------------------------------------ */

/* libc flushes when every destructor has run: then our sockets are closed. As there, a stream is
 * not locked: who holds it may block in it for ever. */
void stdio_flush(void)
{
	lock_take(&streams_lock);
	for (int i = 0; i < BUCKETS; i++)
		for (struct stream *s = streams[i]; s; s = s->next)
			if (__fpending(s->file))
				fflush_unlocked(s->file);
	lock_give(&streams_lock);
}

void stdio_fork_prepare(void)
{
	lock_take(&streams_lock);
}

void stdio_fork_parent(void)
{
	lock_give(&streams_lock);
}

void stdio_fork_child(void)
{
	pthread_mutex_init(&streams_lock, NULL);
}
