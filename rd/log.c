/* SPDX-License-Identifier: Apache-2.0 */
/* rd/log.c - log lines: level, repeat suppression, file or stderr, and a ring in memory
 *
 * A line is formatted on the caller's stack, then under one mutex goes into the ring (a fixed
 * number of fixed slots) and, if its sink can be opened, out with one write(). The file is opened
 * at the first line, so a program that has nothing to say leaves no file.
 *
 * Threads: any; not signal handlers (mutex). A thread that logs while it logs can't occur: nothing
 * here calls code of ours or wrapped libc functions.
 */
#define _GNU_SOURCE
#include <rd/log.h>

#include <pthread.h>
#include <rd/config.h>
#include <rd/sys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX_ 512
#define RING_LINES 256u
#define FILE_MAX (30u << 20)
#define REPEAT_NS 5000000000ull
#define REPEAT_SLOTS 64u
#define LOG_DIR "/var/log/nStack"

/* ERR until ns_log_init(): early lines go to the ring and the sink alike */
uint8_t ns_log_levels_[NS_M_NR_] = { NS_ERR, NS_ERR, NS_ERR, NS_ERR, NS_ERR, NS_ERR };
_Static_assert(NS_M_NR_ == 6, "the list above");

static const char *const module_names[NS_M_NR_] = { "nsocket", "stack", "hal", "steer", "rd", "ctl" };
static const struct { const char *name; enum ns_log_level level; } levels[] = {
	{ "OFF", NS_OFF }, { "EMG", NS_EMG }, { "ERR", NS_ERR }, { "WAR", NS_WAR }, { "INF", NS_INF },
	{ "DBG", NS_DBG },
};

/* A log is the process's own by nature; everything below is guarded by lock. */
static struct {
	pthread_mutex_t lock;
	bool to_stderr, tried;      /* tried: opening the file was attempted */
	char dir[256], path[320];   /* dir "": the default */
	int fd;                     /* -1: none */
	dev_t file_dev;             /* which file fd is */
	ino_t file_ino;
	uint64_t file_bytes;
	uint64_t seq;               /* lines ever; slot seq % RING_LINES is the next */
	char ring[RING_LINES][LINE_MAX_];
	struct {
		const char *file;
		int line;
		uint64_t since, count;
	} repeat[REPEAT_SLOTS];
	char fallback[LINE_MAX_];
} lg = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

const char *ns_log_level_name(enum ns_log_level l)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (levels[i].level == l)
			return levels[i].name;
	}
	return "?";
}

int ns_log_level_parse(const char *name)
{
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!strcasecmp(levels[i].name, name))
			return levels[i].level;
	}
	return strcasecmp(name, "PERF") ? -1 : NS_OFF; /* the manual's name for "all off" */
}

const char *ns_log_module_name(enum ns_log_module m)
{
	return m < NS_M_NR_ ? module_names[m] : "?";
}

int ns_log_module_parse(const char *name)
{
	for (int i = 0; i < NS_M_NR_; i++) {
		if (!strcasecmp(module_names[i], name))
			return i;
	}
	return -1;
}

void ns_log_set_level(enum ns_log_module m, enum ns_log_level l)
{
	for (int i = 0; i < NS_M_NR_; i++) {
		if (m == NS_M_NR_ || (int)m == i)
			__atomic_store_n(&ns_log_levels_[i], (uint8_t)l, __ATOMIC_RELAXED);
	}
}

/* --- the sink -------------------------------------------------------------------------------- */

static void file_name(char *out, size_t size, const char *dir)
{
	const char *name = program_invocation_short_name;
	char safe[11];
	size_t n;

	for (n = 0; n < sizeof(safe) - 1 && name[n]; n++)
		safe[n] = name[n] == '/' || name[n] < ' ' ? '_' : name[n];
	safe[n] = 0;
	snprintf(out, size, "%s/app_%s_%d.log", dir, safe, (int)getpid());
}

/* The name can be guessed, and the directory may be one where others write: only a plain file of
 * our own will do, under one name. O_NONBLOCK: a FIFO without a reader would keep us for ever. */
static int file_open(const char *dir)
{
	struct stat sb;
	int fd;

	file_name(lg.path, sizeof(lg.path), dir);
	fd = sys_open(lg.path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
		      0640);
	if (fd < 0)
		return fd;
	if (fstat(fd, &sb) || !S_ISREG(sb.st_mode) || sb.st_uid != geteuid() || sb.st_nlink != 1) {
		sys_close(fd);
		return -EPERM;
	}
	lg.file_dev = sb.st_dev;
	lg.file_ino = sb.st_ino;
	lg.file_bytes = (uint64_t)sb.st_size;
	return fd;
}

/* A program may close descriptors that it didn't open, and get the number for something else. */
static bool file_is_ours(void)
{
	struct stat sb;

	return !fstat(lg.fd, &sb) && sb.st_dev == lg.file_dev && sb.st_ino == lg.file_ino;
}

static void sink_open(void)
{
	int fd = -1;

	lg.tried = true;
	if (lg.dir[0])
		fd = file_open(lg.dir);
	if (fd < 0) {
		SYS_CALL_(SYS_mkdirat, AT_FDCWD, LOG_DIR, 0755); /* exists, or the open below fails */
		fd = file_open(LOG_DIR);
	}
	if (fd < 0) {
		lg.path[0] = 0;
		return;
	}
	lg.fd = sys_fd_high(fd);
}

static void sink_rotate(void)
{
	char old[336];

	snprintf(old, sizeof(old), "%s.1", lg.path);
	SYS_CALL_(SYS_renameat2, AT_FDCWD, lg.path, AT_FDCWD, old, 0);
	sys_close(lg.fd);
	lg.fd = -1;
	sink_open();
}

static void sink_write(const char *line, size_t len)
{
	if (lg.to_stderr) {
		sys_write(2, line, len);
		return;
	}
	if (lg.fd >= 0 && !file_is_ours()) {
		nst_fd_disown(lg.fd); /* whatever has the number now */
		lg.fd = -1;
		lg.tried = false;
	}
	if (!lg.tried)
		sink_open();
	if (lg.fd >= 0 && lg.file_bytes + len > FILE_MAX)
		sink_rotate();
	if (lg.fd >= 0 && sys_write(lg.fd, line, len) == (ssize_t)len)
		lg.file_bytes += len;
}

/* --- lines ------------------------------------------------------------------------------------ */

static void line_out(enum ns_log_level level, enum ns_log_module module, const char *text)
{
	char *slot = lg.ring[lg.seq % RING_LINES];
	struct timespec now;
	struct tm tm;
	size_t len;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = snprintf(slot, LINE_MAX_, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ %s %s[%d] %s",
		     tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		     now.tv_nsec / 1000, ns_log_level_name(level), module_names[module], (int)getpid(), text);
	len = n < 0 ? 0 : n > LINE_MAX_ - 2 ? LINE_MAX_ - 2 : (size_t)n;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)slot[i] < ' ')
			slot[i] = ' ';
	}
	slot[len++] = '\n';
	slot[len] = 0;
	lg.seq++;
	sink_write(slot, len);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* True: this place spoke within the last 5 s, the line is only counted. */
static bool suppressed(enum ns_log_level level, enum ns_log_module module, const char *file, int line)
{
	unsigned i = ((unsigned)(uintptr_t)file / 8 + (unsigned)line * 31) % REPEAT_SLOTS;
	uint64_t now = now_ns();
	char text[96];

	if (level == NS_DBG)
		return false;
	if (lg.repeat[i].file == file && lg.repeat[i].line == line) {
		if (now - lg.repeat[i].since < REPEAT_NS) {
			lg.repeat[i].count++;
			return true;
		}
		if (lg.repeat[i].count) {
			snprintf(text, sizeof(text), "(the next line was repeated %llu times in between)",
				 (unsigned long long)lg.repeat[i].count);
			line_out(level, module, text);
		}
	}
	lg.repeat[i].file = file;
	lg.repeat[i].line = line;
	lg.repeat[i].since = now;
	lg.repeat[i].count = 0;
	return false;
}

void ns_log_write_(enum ns_log_level level, enum ns_log_module module, const char *file, int line,
		   const char *fmt, ...)
{
	int saved = errno;
	char text[LINE_MAX_];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lg.lock);
	if (!suppressed(level, module, file, line))
		line_out(level, module, text);
	pthread_mutex_unlock(&lg.lock);
	errno = saved;
}

void ns_log_fallback(const char *fmt, ...)
{
	int saved = errno;
	char text[LINE_MAX_ - 32];
	va_list ap;
	bool again;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lg.lock);
	again = !strcmp(lg.fallback, text);
	snprintf(lg.fallback, sizeof(lg.fallback), "%s", text);
	if (!again && ns_log_levels_[NS_M_NSOCKET] != NS_OFF) {
		char line[LINE_MAX_];

		snprintf(line, sizeof(line), "served by the kernel: %s", text);
		line_out(NS_WAR, NS_M_NSOCKET, line);
	}
	pthread_mutex_unlock(&lg.lock);
	errno = saved;
}

void ns_log_fallback_get(char *out, size_t size)
{
	pthread_mutex_lock(&lg.lock);
	snprintf(out, size, "%s", lg.fallback);
	pthread_mutex_unlock(&lg.lock);
}

void ns_log_path(char *out, size_t size)
{
	pthread_mutex_lock(&lg.lock);
	snprintf(out, size, "%s", lg.fd >= 0 ? lg.path : "");
	pthread_mutex_unlock(&lg.lock);
}

size_t ns_log_ring_read(uint64_t *seq, char *out, size_t size)
{
	size_t used = 0, len;

	pthread_mutex_lock(&lg.lock);
	if (lg.seq > RING_LINES && *seq < lg.seq - RING_LINES)
		*seq = lg.seq - RING_LINES;
	if (*seq > lg.seq)
		*seq = lg.seq;
	for (; *seq < lg.seq; (*seq)++) {
		len = strlen(lg.ring[*seq % RING_LINES]);
		if (used + len >= size)
			break;
		memcpy(out + used, lg.ring[*seq % RING_LINES], len);
		used += len;
	}
	pthread_mutex_unlock(&lg.lock);
	if (size)
		out[used] = 0;
	return used;
}

/* --- life ------------------------------------------------------------------------------------- */

void ns_log_init(const struct ns_config *c)
{
	const char *on = getenv("NSTACK_LOG_ON"), *flag = getenv("NSTACK_LOG_FILE_FLAG");
	const char *path = getenv("NSTACK_APP_LOG_PATH");
	int level = on ? ns_log_level_parse(on) : NS_ERR;

	pthread_mutex_lock(&lg.lock);
	if (c && c->log_level >= 0)
		level = c->log_level;
	ns_log_set_level(NS_M_NR_, level < 0 ? NS_ERR : (enum ns_log_level)level);
	lg.to_stderr = c && c->log_file >= 0 ? !c->log_file : flag && !strcmp(flag, "0");
	if (c && c->log_path)
		path = c->log_path;
	snprintf(lg.dir, sizeof(lg.dir), "%s", path ? path : "");
	if (lg.fd >= 0 && file_is_ours())
		sys_close(lg.fd);
	lg.fd = -1;
	lg.tried = false;
	pthread_mutex_unlock(&lg.lock);
}

void ns_log_after_fork(void)
{
	/* another thread may have held the lock at fork(); the child has one thread */
	pthread_mutex_init(&lg.lock, NULL);
	if (lg.fd >= 0 && file_is_ours())
		sys_close(lg.fd);
	lg.fd = -1;
	lg.tried = false; /* the child's own file, at its first line */
	memset(lg.repeat, 0, sizeof(lg.repeat));
}
