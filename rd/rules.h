/* SPDX-License-Identifier: Apache-2.0 */
/* rd/rules.h - nRD: which stack serves a program, a protocol, a local and a remote address
 *
 * A rule set is a JSON file:
 *
 *	{ "rules": [
 *	    { "remote": "198.18.0.0/15", "action": "stack" },
 *	    { "local": "2001:db8::1", "port": "8000-8999", "proto": "tcp", "action": "kernel" },
 *	    { "remote": "198.18.7.0/24", "remote_port": 53, "action": "drop", "priority": 1 } ],
 *	  "default": "tcpip", "version": 7 }
 *
 * Every condition that is left out matches everything. "port" is the local port, "remote_port"
 * the peer's; "program" is the name by which it was called (no path), "user" a name or number
 * (the effective one), "cgroup" a control group (version 2) that it is in or below. "action" (and
 * "default") is the name of a stack ("tcpip"; "stack" means that one), "kernel" or "drop".
 * "version" is a whole number from 1 on that who gives the rules counts up: on an interface, a set with a version
 * does not replace one whose version was as high. DMM's rd_config.json is read as well: rules_dmm.c.
 *
 * The order. Rules are sorted, and the first that matches decides:
 *	1. smaller "priority" first (default 100),
 *	2. rules that ask who it is ("program", "user", "cgroup") before those that don't,
 *	3. longer "remote" prefix (left out counts as -1, so "0.0.0.0/0" is more specific),
 *	4. longer "local" prefix,
 *	5. narrower "port", then narrower "remote_port" range,
 *	6. "proto" given before not given,
 *	7. file order.
 * A rule with exactly the same conditions and priority as an earlier one replaces it.
 * So among rules that differ in the remote prefix only, the longest prefix wins, and the steering
 * program's "lowest bit" is exactly this order. At most RD_RULES_MAX rules.
 *
 * Built in, before all rules: a loopback or unspecified address on either side -> kernel. (Traffic
 * of that kind never reaches an interface that is steered, so the steering program needs no such
 * rule.)
 *
 * Rules that ask who it is. The steering program knows ports, not programs, so for a listener (or an
 * unconnected UDP socket) such a rule decides as a whole: one that asks for the peer, too, does not
 * count there. Where it says "stack", the steering program leaves the other rules out for that port.
 *
 * A process's own rules: NSTACK_RD=PREFIX=ACTION[,PREFIX=ACTION...] in its environment comes before
 * everything in this process: for peers, and where no rule speaks of the peer, for what it binds. What a
 * daemon's rules refuse stays refused.
 *
 * The process has one current rule set, published by RCU; a lookup takes no lock.
 */
#ifndef NSTACK_RD_RULES_H
#define NSTACK_RD_RULES_H

#include <nstack/addr.h>
#include <rd/config.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RD_RULES_MAX 256u
#define RD_STACK_NAME 16u
#define RD_STACKS_MAX 14u /* different stacks that one rule set may name */
#define RD_STACK_DEFAULT "tcpip"

#define RD_PROGRAM 32u  /* bytes of a program's name, the end included */
#define RD_CGROUP 128u  /* of a control group's path */

enum rd_action { RD_KERNEL, RD_DROP, RD_STACK };

/* rd_rule.who: what it asks for */
#define RD_WHO_PROGRAM 1u
#define RD_WHO_USER 2u
#define RD_WHO_CGROUP 4u
#define RD_WHO_OWN 8u    /* from NSTACK_RD */
#define RD_WHO_SOURCE 16u /* from a source of routes (rd/routes.h) */

/* For whom a decision is made. */
struct rd_who {
	char program[RD_PROGRAM];
	uint32_t uid;
	char cgroup[RD_CGROUP]; /* "/system.slice/nginx.service"; "" = not known */
};

struct rd_prefix {
	uint8_t family; /* AF_UNSPEC: matches every address of both families */
	uint8_t len;    /* bits, 0..32 or 0..128 */
	uint8_t addr[16]; /* host bits are zero */
};

struct rd_rule {
	struct rd_prefix remote, local;
	uint16_t port_lo, port_hi;   /* local port, host byte order; 0..65535 = any */
	uint16_t rport_lo, rport_hi; /* remote port */
	uint8_t proto;               /* IPPROTO_TCP, IPPROTO_UDP, 0 = any */
	uint8_t action;              /* enum rd_action */
	uint8_t stack;               /* RD_STACK: index into rd_rules.stacks.name */
	uint8_t who;                 /* RD_WHO_*, 0 = whoever it is */
	uint32_t uid;
	char program[RD_PROGRAM], cgroup[RD_CGROUP];
	int32_t priority;
	uint32_t line;               /* of the file, for people */
};

/* Names of stacks, numbered as they were met; [0] is "tcpip". */
struct rd_stacks {
	uint32_t n;
	char name[RD_STACKS_MAX][RD_STACK_NAME];
};

struct rd_rules {
	uint32_t n;
	uint8_t who;                 /* all that rules ask for */
	bool default_given;          /* in the text; else it is what rd_rules_init() has */
	uint8_t default_action, default_stack;
	struct rd_stacks stacks;
	uint64_t version;            /* 0 = none */
	uint64_t generation;         /* set by rd_rules_publish(); 0 = not published */
	struct rd_rule rule[RD_RULES_MAX]; /* sorted: the first that matches decides */
};

struct rd_verdict {
	uint8_t action;   /* enum rd_action */
	uint8_t stack;    /* RD_STACK: index into rd_rules.stacks.name */
	int16_t rule;     /* index of the rule that decided; RD_BY_DEFAULT, RD_BY_BUILTIN */
};
/* Is it nstack's own stack that serves? */
static inline bool rd_is_own(struct rd_verdict v)
{
	return v.action == RD_STACK && !v.stack;
}
#define RD_BY_DEFAULT (-1)
#define RD_BY_BUILTIN (-2)
#define RD_BY_PREFIX (-3) /* a line of the prefix table (rd/prefixes.h) */
#define RD_BY_ROUTE (-4)  /* a source's (rd/routes.h) */
#define RD_BY_SOCKET (-5) /* the program's choice for that socket */

/* --- rule sets ---------------------------------------------------------------------------- */

/* No rules, default "tcpip". */
void rd_rules_init(struct rd_rules *r);
/* 0, or -EINVAL/-E2BIG/-errno and err = "FILE:LINE:COLUMN: text". The text may also be just the
 * array of rules. */
int rd_rules_parse(const char *text, size_t len, const char *name, struct rd_rules *out,
		   char err[RD_ERR]);
int rd_rules_load(const char *path, struct rd_rules *out, char err[RD_ERR]);
/* Canonical JSON of the set in its sorted order, malloc()ed; NULL: no memory. Parsing it gives the
 * same decisions. */
char *rd_rules_text(const struct rd_rules *r);
/* One rule for people: "remote 198.18.0.0/15 tcp port 80 -> tcpip". */
void rd_rule_str(const struct rd_rules *r, const struct rd_rule *rule, char *out, size_t size);

/* The decision. An address that is NULL, AF_UNSPEC or (local) all-zero is not known: only rules
 * that don't ask for it match. who NULL: not known, likewise. */
struct rd_verdict rd_rules_lookup(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
				  const struct nst_addr *local, const struct nst_addr *remote);
/* What listen() and bind() of UDP ask before claiming. */
struct rd_listen {
	bool stack;  /* there is a remote address (and, for a wildcard local, a local one) for which
			nstack's own stack would serve this local port */
	bool exempt; /* for every one, by a rule that the steering program doesn't have */
};
struct rd_listen rd_rules_listen(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
				 const struct nst_addr *local);
/* rd_listen.stack for the stack of that name. */
bool rd_rules_may_name(const struct rd_rules *r, const struct rd_who *who, uint8_t proto,
		       const struct nst_addr *local, const char *name);

/* Who that is: the caller, or another process. A name and a group that can't be read stay "". */
void rd_who_self(struct rd_who *w);
void rd_who_of(struct rd_who *w, pid_t pid, uint32_t uid, const char *program);

/* The same set as the steering program takes it, and back (rules that ask who, priorities and lines are
 * lost, the order stays). struct steer_rules is large: never on a stack. */
struct steer_rules;
int rd_rules_compile(const struct rd_rules *r, struct steer_rules *out);
int rd_rules_decompile(const struct steer_rules *c, struct rd_rules *out);

/* --- the process's current set ------------------------------------------------------------ */

/* From the configuration (already checked there), else the default set and no prefixes. 0 or -errno. */
int rd_init(const struct ns_config *c, char err[RD_ERR]);
/* A process opened the steering program of an interface (once per interface, after rd_init()). The
 * configuration has rules: they are installed there. It has none: the interface's rules, set by
 * `nstack rules set` before, become the process's current set. 0 or -errno. */
struct steer;
int rd_steer_attach(struct steer *st, const struct ns_config *c);
/* Make a copy of r current; frees the former set after a grace period. Returns 0 or -ENOMEM. */
int rd_rules_publish(const struct rd_rules *r);
/* The same for the table of prefixes, which becomes the process's; NULL: none. */
struct rd_prefixes;
int rd_prefixes_publish(struct rd_prefixes *t);
/* The same for what sources say (rd/routes.h). */
struct rd_routes;
int rd_routes_publish(struct rd_routes *t);
/* Copy of the current set. */
void rd_rules_current(struct rd_rules *out);
uint64_t rd_rules_generation(void);

/* Lookups in the current set, without a lock. Before rd_init(): kernel. As in rd_rules_lookup(), a rule
 * that asks for something unknown (address AF_UNSPEC or all-zero; a local port 0) does not match.
 * who NULL: this process. */
struct rd_verdict rd_lookup(const struct rd_who *who, uint8_t proto, const struct nst_addr *local,
			    const struct nst_addr *remote);
struct rd_listen rd_listen(const struct rd_who *who, uint8_t proto, const struct nst_addr *local);
/* For this process: the name of the stack that rd_lookup() finds; false: the kernel, or drop. */
bool rd_lookup_name(uint8_t proto, const struct nst_addr *local, const struct nst_addr *remote,
		    char name[RD_STACK_NAME]);
/* For this process: the number of the stack that serves sockets of the protocol (0: any) with that peer (NULL:
 * any). 0, -EACCES: they are dropped, -ENOENT: it has no number. */
int rd_lookup_id(uint8_t proto, const struct nst_addr *remote, int *id);
bool rd_may_name(uint8_t proto, const struct nst_addr *local, const char *name);

#endif
