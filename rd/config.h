/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config.h - the configuration of one process
 *
 * A JSON file (comments and trailing commas accepted) that NSTACK_CONFIG or `nstack run --config`
 * names; NSTACK_CONFIG may also hold the JSON text itself (it starts with '{'). Every key has a
 * default; an unknown key is an error that names the line and the nearest known key. The table of
 * keys in config_keys.c is the only list: parsing, the tool's help and the manual page come from it.
 *
 * Threads: rd_config_init() once, early (library constructor, before other threads); afterwards
 * the configuration is constant and may be read by any thread, but for the soft keys: their numbers may
 * change under a reader, and their texts (congestion) are read and changed under the worker lock.
 */
#ifndef NSTACK_RD_CONFIG_H
#define NSTACK_RD_CONFIG_H

#include <cjson/cJSON.h>
#include <net/if.h>
#include <rd/config_daemon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct rd_rules;
struct rd_modules;

#define RD_ERR 512           /* size of a buffer for one message for people */
#define NS_CONFIG_IFS 16

enum ns_hal { NS_HAL_XDP, NS_HAL_DPDK };
enum ns_model { NS_MODEL_AUTO, NS_MODEL_IN_PROCESS, NS_MODEL_DAEMON };
enum ns_xdp_mode { NS_MODE_AUTO, NS_MODE_GENERIC, NS_MODE_NATIVE };
enum ns_zero_copy { NS_ZC_AUTO, NS_ZC_OFF };

struct ns_tcp_config {
	uint32_t time_wait_max;   /* connections in TIME_WAIT; 0 = the stack's default */
	bool syn_cookies;
};

/* Ports by DPDK; the i-th device's TAP is the i-th of interfaces, "dpdk%d" where there is none. */
struct ns_dpdk_config {
	char *devices[NS_CONFIG_IFS]; /* as rte_dev_probe() takes them */
	uint32_t n_devices;
	char *eal;                /* more arguments for DPDK, NULL = none */
	uint32_t mtu;             /* 0 = what the device has */
};

struct ns_config {
	enum ns_hal hal;
	enum ns_model model;
	char interfaces[NS_CONFIG_IFS][IF_NAMESIZE];
	uint32_t n_interfaces;    /* 0 = every interface with a usable address */
	enum ns_xdp_mode mode;
	enum ns_zero_copy zero_copy;
	bool load;                /* attach the steering program if nobody did (`nstack run`) */
	uint32_t queues;          /* receive queues used per interface; 0 = all */
	uint32_t frames;          /* UMEM frames per queue; power of two */
	uint32_t rx_ring, tx_ring; /* descriptors; powers of two */
	bool super_frames;        /* send bulk through AF_PACKET super-frames where that works */

	uint32_t spin_us;         /* spin so long before sleeping */
	uint32_t rcvbuf, sndbuf;  /* bytes of a socket's FIFOs; powers of two */
	uint32_t max_sockets;     /* sessions of a process */
	uint32_t exit_linger_ms;  /* how long exit() waits for unsent data to leave */
	char congestion[16];      /* "cubic", "reno" */
	struct ns_tcp_config tcp;
	char label[NS_LABEL];     /* what nstackd knows the program by; NSTACK_LABEL goes first; "" = none */
	struct ns_daemon_config daemon;
	struct ns_dpdk_config dpdk; /* with hal NS_HAL_DPDK at least one device */

	char *rules_path;         /* rule file, NULL = none or inline */
	struct rd_rules *rules;   /* inline or read from rules_path (rd/rules.h), NULL = none */
	struct rd_modules *modules; /* plug-in stacks (rd/modules.h), NULL = none */
	char *module_config;      /* file that some of them are from, NULL = none */
	char *prefixes;           /* file of remote prefixes (rd/prefixes.h), NULL = none */
	int reload_signal;        /* signal that re-reads rules_path; 0 = none (default) */
	char *faults;             /* fault injection for tests, hal_wrap's syntax; NULL = none */
	char *dump;               /* pcapng file to capture into from the start; NULL = none */

	int log_level;            /* enum ns_log_level, -1 = from the environment */
	int log_file;             /* 1 file, 0 stderr, -1 = from the environment */
	char *log_path;           /* directory, NULL = from the environment */

	char *source;             /* file name, "NSTACK_CONFIG" or "defaults"; for people */
};

/* Defaults only. Never fails; constant storage. */
const struct ns_config *rd_config_defaults(void);

/* From a file, or from text (name: what messages call it). 0 and *out (rd_config_free), or a
 * negative errno (-EINVAL: content) and err = "FILE:LINE:COLUMN: text". Rule files are read and
 * checked too. */
int rd_config_load(const char *path, struct ns_config **out, char err[RD_ERR]);
int rd_config_parse(const char *text, size_t len, const char *name, struct ns_config **out,
		    char err[RD_ERR]);
void rd_config_free(struct ns_config *c);

/* The process's configuration: NSTACK_CONFIG if set, else defaults; without rules in there, those of the
 * file that NSTACK_MOD_CFG_RD names. On an error the defaults are
 * in force, the error is returned (and in err), and the caller is to leave everything to the
 * kernel. A second call does nothing and returns the first one's result. */
int rd_config_init(char err[RD_ERR]);
/* The same source once more, for a reload: 0 and *out, which may be equal (rd_config_free), or -errno and err. What
 * rd_config() returns stays. */
int rd_config_again(struct ns_config **out, char err[RD_ERR]);
/* Never NULL: the defaults until rd_config_init() succeeded. */
const struct ns_config *rd_config(void);

/* A value that is a size: a number, or text with K, M or G (powers of 1024). 0 or -EINVAL. */
int rd_config_size(const cJSON *v, uint64_t *bytes);
/* Which keys have other values in b, except those that a reload brings into force (rules, daemon.access, soft
 * keys)? The names, separated by ", ", into out; "" if there are none. */
void rd_config_fixed_changes(const struct ns_config *a, const struct ns_config *b, char *out, size_t size);
/* Soft keys change while the process runs: text is a JSON object of some, as in a configuration (or with
 * names like "tcp.syn_cookies"). All of them, or none and an error as above; name: what messages call it.
 * One thread at a time, under the worker lock. What the values are copied to is the caller's to update. */
int rd_config_change(const char *text, size_t len, const char *name, char err[RD_ERR]);
/* The same with the values that c has for them. 0 or -ENOMEM. */
int rd_config_change_to(const struct ns_config *c);
enum rd_config_of { RD_CONFIG_OF_PROGRAM = 1, RD_CONFIG_OF_DAEMON = 2, RD_CONFIG_OF_ALL = 3 };
struct rd_config_soft {
	const char *name, *help;
	char value[64], standard[64]; /* now, default: JSON, "-" = from the environment */
	char values[128];             /* possible ones, for people */
};
/* The i-th soft key that means something to a program, or a daemon; false: there are no more. */
bool rd_config_soft(unsigned i, enum rd_config_of of, struct rd_config_soft *out);

/* Is it the name of a congestion control that the stack has? */
bool rd_congestion_known(const char *name);

/* The table, for people: one key per line or paragraph. */
enum rd_config_format { RD_CONFIG_TEXT, RD_CONFIG_MAN, RD_CONFIG_MARKDOWN };
void rd_config_describe(FILE *f, enum rd_config_format fmt);

/* Is this interface one that the configuration names (or lets through, naming none)? */
bool rd_config_has_if(const struct ns_config *c, const char *ifname);

#endif
