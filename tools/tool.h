/* SPDX-License-Identifier: Apache-2.0 */
/* tools/tool.h - what the verbs of the nstack tool share
 *
 * One file per verb; main.c has the list. Exit codes: 0 done, 1 failed, 2 wrong usage (but for run and ping). Output is
 * for people, or one JSON value with --json.
 */
#ifndef NSTACK_TOOLS_TOOL_H
#define NSTACK_TOOLS_TOOL_H

#include <cjson/cJSON.h>
#include <limits.h>
#include <net/if.h>
#include <rd/config.h>
#include <rd/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define EXIT_FAILED 1
#define EXIT_USAGE 2

struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the verb */
	const char *summary; /* one line */
	const char *usage;   /* what follows "usage: nstack " */
	const char *help;    /* the options, and what it does */
};
extern const struct verb verb_load, verb_unload, verb_status, verb_sockets, verb_stats, verb_rules,
	verb_doctor, verb_dump, verb_ping, verb_log, verb_run, verb_set, verb_top, verb_alarms;

/* --- options ----------------------------------------------------------------------------------- */

/* What a verb's option takes; ends with name NULL. */
struct opt {
	const char *name;    /* "--mode" */
	char letter;         /* 'm', 0 = none */
	const char **value;  /* takes a value, stored here */
	bool *flag;          /* or is a flag */
	const char **many;   /* or takes a value each time it is given: at most OPT_MANY */
	int *n_many;
};
#define OPT_MANY 32
#define OPT_FLAG(n, l, f) { .name = (n), .letter = (l), .flag = (f) }
#define OPT_VALUE(n, l, v) { .name = (n), .letter = (l), .value = (v) }
#define OPT_LIST(n, l, m, count) { .name = (n), .letter = (l), .many = (m), .n_many = (count) }
/* Parses options up to the first word that is none (all words if mix). --help prints the verb's
 * help and exits. Returns the number of words left, moved to argv[1..], or -1 (usage was said). */
int opts_parse(const struct verb *v, const struct opt *opts, bool mix, int argc, char **argv);
int usage_error(const struct verb *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "nstack: text" on stderr; returns EXIT_FAILED. */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Whole number in a range, or -1. */
long long number(const char *s, long long min, long long max);

/* KEY=VALUE into a configuration; values that aren't JSON are strings. 0, or -1: it is no such thing. */
int set_key(cJSON *root, const char *assignment);

/* --- output -------------------------------------------------------------------------------------- */

int print_json(cJSON *o); /* frees it; returns 0 */
static inline void put_u64(cJSON *o, const char *key, uint64_t v)
{
	json_put_u64(o, key, v);
}
double num(const cJSON *o, const char *key);         /* 0 if absent */
const char *str(const cJSON *o, const char *key);    /* "" if absent */
bool flag(const cJSON *o, const char *key);
/* What another process says goes to a terminal: '?' for control characters, also Unicode's. */
void text_clean(char *text);
/* 1.2 K, 3.4 M (powers of 1000); for bytes 1024 and KiB */
const char *human(double v, char out[16]);
const char *human_bytes(double v, char out[16]);

/* The reason without the mode's name in front, which the line says already. */
const char *mode_reason(const char *mode, const char *why);

/* --- interfaces -------------------------------------------------------------------------------------- */

struct iface {
	unsigned ifindex;
	char name[IF_NAMESIZE];
	bool up, loopback, has_addr;
	unsigned mtu;
	char driver[32];
	unsigned rx_queues;
};
/* All interfaces of this network namespace; *out is malloc()ed. Returns how many, or -errno. */
int iface_list(struct iface **out);
/* Up, not loopback, has an address. */
bool iface_usable(const struct iface *i);
/* By name: 0 or -ENODEV (said on stderr). */
int iface_by_name(const char *name, unsigned *ifindex);

/* --- privileges ---------------------------------------------------------------------------------------- */

/* Names of the capabilities that are missing for AF_XDP and the steering program, "" = none. */
const char *caps_missing(void);
bool cap_have(int cap); /* CAP_... in the effective set? */
const char *program_of(pid_t pid, char out[32]); /* "?" if it is gone */
bool pid_alive(pid_t pid);

/* Where libnsocket.so is, absolute: NSTACK_LIB if that is set, else beside the tool (build folder)
 * or in ../lib and its like (installed). 0 or -errno. In verb_run.c. */
int library_find(char out[PATH_MAX]);

/* --- processes ------------------------------------------------------------------------------------------- */

/* Pids that serve a control socket in this network namespace; *out malloc()ed. -errno. */
int ctl_list(pid_t **out);
/* Connected descriptor or -errno. */
int ctl_connect(pid_t pid);
const char *ctl_connect_error(int err); /* for people */
/* Send request (freed), with fd if >= 0, and receive one message. NULL: why says it; also for
 * a reply that is an error. */
cJSON *ctl_call(int fd, cJSON *request, int pass_fd, char why[256]);
cJSON *ctl_receive(int fd, char why[256]);
cJSON *ctl_request_new(const char *op);
/* One question to one process: connect, call, close. */
cJSON *ctl_ask(pid_t pid, const char *op, char why[256]);
/* The same for a list of processes: the answer, or who it was and "error". Never NULL. */
cJSON *ctl_ask_or_error(pid_t pid, const char *op);
/* The lists called key of all parts of an answer, in one; NULL: why says it. *speaks: may it speak of
 * other processes? Only root's may, and the asking user's. May be NULL. */
cJSON *ctl_ask_parts(pid_t pid, const char *op, const char *key, bool *speaks, char why[256]);
/* All sockets, each with the pid and program that has it, served_by where another process has the stack, and
 * told_by. What does not answer is said on stderr and in *failed; only: of that process alone. */
cJSON *ctl_sockets(pid_t only, bool *failed);
/* Every process's status, or its "error"; a daemon's with the programs in "attached". */
cJSON *ctl_processes(void);
/* How long answers are waited for from now on; 3 s at first. */
void ctl_patience(unsigned ms);
/* Its workers if it is a daemon's main process, else itself. How many. */
#define CTL_WORKERS 64
int ctl_workers(pid_t pid, pid_t *out, int room);
/* A pid argument, the only process there is, or the only daemon. 0 and *pid, or EXIT_FAILED (said). */
int ctl_pick(const char *arg, pid_t *pid);

#endif
