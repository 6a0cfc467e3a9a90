/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config_internal.h - what the files of the configuration share: its keys, and how text becomes values
 *
 *   config_keys.c    the table
 *   config_read.c    a file, or a text
 *   config_daemon.c  values of the daemon's keys
 *   config.c         the process's configuration, and changes
 */
#ifndef NSTACK_RD_CONFIG_INTERNAL_H
#define NSTACK_RD_CONFIG_INTERNAL_H

#include <rd/config.h>
#include <rd/json.h>

enum type { T_U32, T_SIZE, T_POW2, T_BOOL, T_ENUM, T_WORD, T_PATH, T_TEXT, T_IFS, T_RULES, T_STACKS, T_SIGNAL, T_LEVEL, T_FLAG,
	    T_DEVICES, T_LABEL, T_WORKERS, T_SPIN, T_ACCESS };

struct config_key {
	const char *name;          /* section.name */
	enum type type;
	size_t off;
	uint32_t min, max;
	const char *const *words;  /* T_ENUM, T_WORD: NULL-terminated */
	const char *unit;
	const char *help;
};

extern const struct ns_config config_defaults;
extern const struct config_key config_keys[];
extern const unsigned config_nkeys; /* at most 64 */

/* Whom changing it at run time concerns; 0: it can't be. */
enum rd_config_of config_key_soft(const struct config_key *k);

/* seen: the keys that are in it, by their index. 0 and *out (rd_config_free), or -errno and err, if there is
 * something to say. */
int config_from_doc(const struct json_doc *d, struct ns_config **out, uint64_t *seen, char *err);
/* The stacks of c->module_config, and the one that it has where no rule decides, unless the rules say. 0 or -errno
 * and err. */
int config_read_modules(struct ns_config *c, char *err);

#endif
