/* SPDX-License-Identifier: Apache-2.0 */
/* rd/prefixes.h - a table of remote prefixes, as large as a routing table
 *
 * A text file, a prefix and an action on each line ('#' begins a comment):
 *
 *	198.18.0.0/15   kernel
 *	2001:db8::/32   stack
 *
 * Each line is a rule that asks for the remote address only, at the default priority; the longest prefix
 * wins, of equal ones the last. The steering program has no room for so many: they decide for whom a
 * program connects and sends to, not for what comes to a listener.
 *
 * Threads: reading makes a table, which is constant from then on.
 */
#ifndef NSTACK_RD_PREFIXES_H
#define NSTACK_RD_PREFIXES_H

#include <nstack/addr.h>
#include <rd/rules.h>

#define RD_PREFIXES_MAX (1u << 20)

struct rd_prefixes;

struct rd_prefix_hit {
	uint8_t action;  /* enum rd_action */
	uint8_t stack;   /* RD_STACK: as rd_prefixes_stack() */
	uint8_t len;     /* of the prefix, bits */
	uint32_t line;
};

/* A table from elsewhere: an empty one (NULL: no memory), its prefixes in order, then the end, before which
 * nothing is found. 0, -EINVAL: no action, -E2BIG: one prefix or one stack too many, -ENOMEM. */
struct rd_prefixes *rd_prefixes_new(void);
int rd_prefixes_add(struct rd_prefixes *t, const struct rd_prefix *p, const char *action, uint32_t line);
int rd_prefixes_end(struct rd_prefixes *t);
/* 0 and *out (rd_prefixes_free), or a negative errno and err = "FILE:LINE: text". */
int rd_prefixes_load(const char *path, struct rd_prefixes **out, char err[RD_ERR]);
int rd_prefixes_parse(const char *text, size_t len, const char *name, struct rd_prefixes **out, char err[RD_ERR]);
void rd_prefixes_free(struct rd_prefixes *t);
uint32_t rd_prefixes_count(const struct rd_prefixes *t);
/* Names of the stacks, from 0 on; NULL: no more. */
const char *rd_prefixes_stack(const struct rd_prefixes *t, uint32_t i);
/* The longest prefix that has the address; false: none. */
bool rd_prefixes_find(const struct rd_prefixes *t, const struct nst_addr *a, struct rd_prefix_hit *hit);

#endif
