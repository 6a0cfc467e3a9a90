/* SPDX-License-Identifier: Apache-2.0 */
/* rd/log.h - log lines of a process, kept away from the program's own output
 *
 * Levels and environment as the DMM manual has them: NSTACK_LOG_ON = DBG, INF, WAR, ERR (default),
 * EMG or OFF; NSTACK_LOG_FILE_FLAG = 1 file, 0 stderr; NSTACK_APP_LOG_PATH = directory. Unset
 * NSTACK_LOG_FILE_FLAG means file: nothing appears on stdout or stderr unless asked for. The file
 * is NSTACK_APP_LOG_PATH (else /var/log/nStack)/app_<first 10 letters of the program>_<pid>.log,
 * opened at the first line that passes the level; a name that is taken by anything but a plain file
 * of the process's own user is left alone. Where no file can be written the line is kept in
 * memory only. The last lines always are in a ring in memory that `nstack log PID` reads.
 *
 * A daemon's file is running.log, and what concerns its operation (module "operation": who may not attach,
 * limits that were reached, what was changed at run time and by whom) is in operation.log. Several
 * daemons and their workers may write to the same files; each line says which process it is of.
 *
 * Of what one place in the sources says within 5 s eight lines are written, further ones are counted. The count
 * follows with the first line after that, of any place, or when the ring is read. (Not with DBG, and not what
 * operators did.) A program's file is renamed to FILE.1 at 30 MB, a daemon's at 50 MB, operation.log at 10 MB; ten
 * old files are kept.
 *
 * Threads: any, not from signal handlers. Every call is a raw system call: nothing here enters
 * the wrapped libc calls. ns_log_after_fork() in a child before its first line.
 */
#ifndef NSTACK_RD_LOG_H
#define NSTACK_RD_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ns_config;

enum ns_log_level { NS_OFF = 0, NS_EMG = 0x01, NS_ERR = 0x02, NS_WAR = 0x04, NS_INF = 0x08, NS_DBG = 0x10 };
enum ns_log_module { NS_M_NSOCKET, NS_M_STACK, NS_M_HAL, NS_M_STEER, NS_M_RD, NS_M_CTL, NS_M_OPER, NS_M_NR_ };

extern uint8_t ns_log_levels_[NS_M_NR_]; /* the highest level written, per module */

static inline bool ns_log_on(enum ns_log_module m, enum ns_log_level l)
{
	return l <= __atomic_load_n(&ns_log_levels_[m], __ATOMIC_RELAXED); /* a hint: no order needed */
}

/* A place in the sources. What it said since when; under the log's lock. */
struct ns_log_site {
	const char *file;
	int line;
	uint32_t process;           /* which one's numbers these are: forks count */
	uint64_t since;             /* ns of the monotonic clock */
	uint32_t said;              /* lines since then, and of these */
	uint32_t left_out;
	uint8_t level, module;      /* of the last that was left out */
	struct ns_log_site *next;   /* that has left out some */
};

/* Arguments are evaluated only if the level is on. */
#define ns_log(level, module, ...) \
	do { \
		static struct ns_log_site site_ = { .file = __FILE__, .line = __LINE__ }; \
		if (ns_log_on((module), (level))) \
			ns_log_write_(&site_, (level), (module), __VA_ARGS__); \
	} while (0)
void ns_log_write_(struct ns_log_site *site, enum ns_log_level level, enum ns_log_module module, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* This process is a daemon: before ns_log_init(). Its operation is logged from INF on, unless all is OFF. */
void ns_log_daemon(void);
/* Environment, then configuration (may be NULL: environment only). May be called again. */
void ns_log_init(const struct ns_config *c);
void ns_log_after_fork(void);
/* The files were moved away by somebody: the next line makes new ones. */
void ns_log_reopen(void);

/* The one line that says why this process (or a socket of it) is served by the kernel: written
 * whatever the level unless it is OFF; the last one is kept for `status` and `doctor`. */
void ns_log_fallback(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Copies the last fallback line; "" if there was none. */
void ns_log_fallback_get(char *out, size_t size);

const char *ns_log_level_name(enum ns_log_level l);   /* "ERR" */
int ns_log_level_parse(const char *name);             /* -1: unknown */
const char *ns_log_module_name(enum ns_log_module m); /* "nsocket" */
int ns_log_module_parse(const char *name);            /* also the manual's names; -1: unknown */
/* m == NS_M_NR_: all modules. */
void ns_log_set_level(enum ns_log_module m, enum ns_log_level l);
/* Path of the log file in use, "" if none. */
void ns_log_path(char *out, size_t size);

/* Lines of the ring from sequence number *seq on (0: the oldest kept), newline-separated, as many
 * as fit; advances *seq. Returns the bytes written (0: nothing newer). */
size_t ns_log_ring_read(uint64_t *seq, char *out, size_t size);

#endif
