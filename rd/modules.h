/* SPDX-License-Identifier: Apache-2.0 */
/* rd/modules.h - which plug-in stacks there are, by configuration
 *
 * From the configuration's own list,
 *
 *	"stacks": [ { "name": "lwip", "library": "libnstack_lwip.so" } ]
 *
 * or from a module_config.json of DMM (any generation: fields as strings or numbers, comments, trailing
 * commas, unknown fields). Own entries have the same fields under plainer names; the table in modules.c
 * has them all. Two names are not plug-ins: "kernel", and "tcpip", nstack's own stack.
 *
 * Threads: any, on the caller's data.
 */
#ifndef NSTACK_RD_MODULES_H
#define NSTACK_RD_MODULES_H

#include <rd/json.h>
#include <rd/rules.h>

#define RD_MODULES_MAX 16u
#define RD_MODULE_FUNCTION 64u
#define RD_STACK_KERNEL "kernel"

struct rd_module {
	char name[RD_STACK_NAME];
	char function[RD_MODULE_FUNCTION]; /* that registers it */
	char *library;      /* for dlopen(); NULL: linked into the program. Ours */
	char *options;      /* for the stack itself; NULL: none. Ours */
	uint8_t deploy;     /* 1..4: enum nstack_model_deploy_type */
	bool ep_free_ref;
	int32_t priority;   /* 0 first */
	int32_t minfd, maxfd; /* numbers that its sockets may have, inclusive; 0, INT32_MAX */
	uint32_t id;        /* its number; equals the place in the list */
};

struct rd_modules {
	uint32_t n;
	char default_stack[RD_STACK_NAME]; /* where no rule decides; "" = not said. A module_config.json that
				   does not say it means its stack with the highest priority */
	struct rd_module m[RD_MODULES_MAX];
};

/* Append those of an own list. 0, -EINVAL and err, or -ENOMEM. */
int rd_modules_from_json(const struct json_doc *d, const cJSON *list, struct rd_modules *out,
			 char err[RD_ERR]);
/* Put those of a module_config.json before what there is. Results as above, or -errno of the file. */
int rd_modules_load(const char *path, struct rd_modules *out, char err[RD_ERR]);
void rd_modules_clear(struct rd_modules *ms);
/* By its name; NULL: none. */
const struct rd_module *rd_module_by_name(const struct rd_modules *ms, const char *name);
/* Is it served without a plug-in, by the kernel or by nstack's own stack? */
bool rd_module_builtin(const struct rd_module *m);

#endif
