/* SPDX-License-Identifier: Apache-2.0 */
/* rd/log.c - log lines: level, repeat suppression, files or stderr, and a ring in memory
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
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX_ 512
#define RING_LINES 256u
#define OLD_FILES 10
#define REPEAT_NS 5000000000ull
#define REPEAT_BURST 8u
#define LOG_DIR "/var/log/nStack"

/* ERR until ns_log_init(): early lines go to the ring and the sink alike */
uint8_t ns_log_levels_[NS_M_NR_] = { NS_ERR, NS_ERR, NS_ERR, NS_ERR, NS_ERR, NS_ERR, NS_ERR };
_Static_assert(NS_M_NR_ == 7, "the list above");

static const char *const module_names[NS_M_NR_] = { "nsocket", "stack", "hal", "steer", "rd", "ctl",
						    "operation" };
/* The DMM manual's, where they are others. */
static const struct { const char *name; enum ns_log_module module; } other_names[] = {
	{ "STACKX", NS_M_STACK }, { "LOGHAL", NS_M_HAL }, { "LOGFW", NS_M_CTL },
};
static const struct { const char *name; enum ns_log_level level; } levels[] = {
	{ "OFF", NS_OFF }, { "EMG", NS_EMG }, { "ERR", NS_ERR }, { "WAR", NS_WAR }, { "INF", NS_INF },
	{ "DBG", NS_DBG },
};

/* A file that lines go to. */
struct sink {
	const char *name;           /* NULL: the program's */
	off_t max;                  /* bytes, then it is renamed */
	bool tried;                 /* opening it was attempted */
	int fd;                     /* -1: none */
	dev_t dev;                  /* which file fd is */
	ino_t ino;
	char path[320];
};

/* A log is the process's own by nature; everything below is guarded by lock. */
static struct {
	pthread_mutex_t lock;
	bool to_stderr, daemon;
	char dir[256];              /* "": the default */
	struct sink main, operation; /* operation: a daemon's only */
	uint64_t seq;               /* lines ever; slot seq % RING_LINES is the next */
	char ring[RING_LINES][LINE_MAX_];
	struct ns_log_site *silent; /* places that have left out something */
	uint32_t process;           /* counts forks */
	char fallback[LINE_MAX_];
} lg = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.main = { .max = 30 << 20, .fd = -1 },
	.operation = { .name = "operation.log", .max = 10 << 20, .fd = -1 },
};

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
	for (size_t i = 0; i < sizeof(other_names) / sizeof(other_names[0]); i++) {
		if (!strcasecmp(other_names[i].name, name))
			return (int)other_names[i].module;
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

/* --- the sinks ------------------------------------------------------------------------------- */

static void file_name(const struct sink *k, char *out, size_t size, const char *dir)
{
	const char *name = program_invocation_short_name;
	char safe[11];
	size_t n;

	if (k->name) {
		snprintf(out, size, "%s/%s", dir, k->name);
		return;
	}
	for (n = 0; n < sizeof(safe) - 1 && name[n]; n++)
		safe[n] = name[n] == '/' || name[n] < ' ' ? '_' : name[n];
	safe[n] = 0;
	snprintf(out, size, "%s/app_%s_%d.log", dir, safe, (int)getpid());
}

/* The name can be guessed, and the directory may be one where others write: only a plain file of
 * our own will do, under one name. O_NONBLOCK: a FIFO without a reader would keep us for ever. */
static int file_open(struct sink *k, const char *dir)
{
	struct stat sb;
	int fd;

	file_name(k, k->path, sizeof(k->path), dir);
	fd = sys_open(k->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
		      0640);
	if (fd < 0)
		return fd;
	if (fstat(fd, &sb) || !S_ISREG(sb.st_mode) || sb.st_uid != geteuid() || sb.st_nlink != 1) {
		sys_close(fd);
		return -EPERM;
	}
	k->dev = sb.st_dev;
	k->ino = sb.st_ino;
	return fd;
}

/* A program may close descriptors that it didn't open, and get the number for something else. */
static bool file_is_ours(const struct sink *k, off_t *size)
{
	struct stat sb;

	if (fstat(k->fd, &sb) || sb.st_dev != k->dev || sb.st_ino != k->ino)
		return false;
	*size = sb.st_size;
	return true;
}

static void sink_open(struct sink *k)
{
	int fd = -1;

	k->tried = true;
	if (lg.dir[0])
		fd = file_open(k, lg.dir);
	if (fd < 0) {
		SYS_CALL_(SYS_mkdirat, AT_FDCWD, LOG_DIR, 0755); /* exists, or the open below fails */
		fd = file_open(k, LOG_DIR);
	}
	if (fd < 0) {
		k->path[0] = 0;
		return;
	}
	k->fd = sys_fd_high(fd);
}

/* The next line opens it again. */
static void sink_close(struct sink *k)
{
	off_t size;

	if (k->fd >= 0 && file_is_ours(k, &size))
		sys_close(k->fd);
	k->fd = -1;
	k->tried = false;
}

static void rename_old(const struct sink *k)
{
	char from[336], to[336];

	for (int i = OLD_FILES - 1; i >= 0; i--) {
		snprintf(from, sizeof(from), i ? "%s.%d" : "%s", k->path, i);
		snprintf(to, sizeof(to), "%s.%d", k->path, i + 1);
		SYS_CALL_(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	}
}

/* Of several who write to the file one renames it, the others find it renamed. Who comes while that is
 * being done writes a line more to the old one. */
static void sink_rotate(struct sink *k)
{
	struct stat sb;

	if (SYS_CALL_(SYS_flock, k->fd, LOCK_EX | LOCK_NB) < 0)
		return;
	if (!stat(k->path, &sb) && sb.st_dev == k->dev && sb.st_ino == k->ino)
		rename_old(k);
	sink_close(k);
	sink_open(k);
}

static void sink_write(struct sink *k, const char *line, size_t len)
{
	off_t size = 0;

	if (lg.to_stderr) {
		sys_write(2, line, len);
		return;
	}
	if (k->fd >= 0 && !file_is_ours(k, &size)) {
		nst_fd_disown(k->fd); /* whatever has the number now */
		k->fd = -1;
		k->tried = false;
	}
	if (!k->tried)
		sink_open(k);
	else if (k->fd >= 0 && size + (off_t)len > k->max)
		sink_rotate(k);
	if (k->fd >= 0)
		sys_write(k->fd, line, len);
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
	sink_write(lg.daemon && module == NS_M_OPER ? &lg.operation : &lg.main, slot, len);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* What places left out whose time is over. */
static void counts_write(uint64_t now)
{
	struct ns_log_site **at = &lg.silent, *s;
	char text[160];

	while ((s = *at)) {
		if (now - s->since < REPEAT_NS) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		snprintf(text, sizeof(text), "(%u more lines of %s:%d were left out)", s->left_out, s->file, s->line);
		s->left_out = 0;
		line_out((enum ns_log_level)s->level, (enum ns_log_module)s->module, text);
	}
}

static void leave_out(struct ns_log_site *s, enum ns_log_level level, enum ns_log_module module)
{
	s->level = (uint8_t)level;
	s->module = (uint8_t)module;
	if (s->left_out++)
		return;
	s->next = lg.silent;
	lg.silent = s;
}

/* True: this place has said enough within the last 5 s (several programs attach at a time, say), the line is
 * only counted. */
static bool suppressed(struct ns_log_site *s, enum ns_log_level level, enum ns_log_module module, uint64_t now)
{
	if (level == NS_DBG || (level == NS_INF && module == NS_M_OPER))
		return false; /* asked for, or the doing of who may do it */
	if (s->process != lg.process || now - s->since >= REPEAT_NS) {
		s->process = lg.process;
		s->since = now;
		s->said = s->left_out = 0;
	}
	if (s->said++ < REPEAT_BURST)
		return false;
	leave_out(s, level, module);
	return true;
}

void ns_log_write_(struct ns_log_site *site, enum ns_log_level level, enum ns_log_module module, const char *fmt, ...)
{
	int saved = errno;
	char text[LINE_MAX_];
	uint64_t now;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lg.lock);
	now = now_ns();
	counts_write(now);
	if (!suppressed(site, level, module, now))
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
	snprintf(out, size, "%s", lg.main.fd >= 0 ? lg.main.path : "");
	pthread_mutex_unlock(&lg.lock);
}

size_t ns_log_ring_read(uint64_t *seq, char *out, size_t size)
{
	size_t used = 0, len;

	pthread_mutex_lock(&lg.lock);
	counts_write(now_ns());
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
	level = level < 0 ? NS_ERR : level;
	ns_log_set_level(NS_M_NR_, (enum ns_log_level)level);
	lg.to_stderr = c && c->log_file >= 0 ? !c->log_file : flag && !strcmp(flag, "0");
	if (c && c->log_path)
		path = c->log_path;
	snprintf(lg.dir, sizeof(lg.dir), "%s", path ? path : "");
	if (lg.daemon && level >= NS_EMG && level < NS_INF)
		ns_log_set_level(NS_M_OPER, NS_INF);
	sink_close(&lg.main);
	sink_close(&lg.operation);
	pthread_mutex_unlock(&lg.lock);
}

void ns_log_daemon(void)
{
	lg.daemon = true;
	lg.main.name = "running.log";
	lg.main.max = 50 << 20;
}

void ns_log_reopen(void)
{
	pthread_mutex_lock(&lg.lock);
	sink_close(&lg.main);
	sink_close(&lg.operation);
	pthread_mutex_unlock(&lg.lock);
}

void ns_log_after_fork(void)
{
	/* another thread may have held the lock at fork(); the child has one thread */
	pthread_mutex_init(&lg.lock, NULL);
	sink_close(&lg.main); /* the child's own file, at its first line */
	sink_close(&lg.operation);
	lg.silent = NULL;
	lg.process++;
}
