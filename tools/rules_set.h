/* SPDX-License-Identifier: Apache-2.0 */
/* tools/rules_set.h - rules come into force on all interfaces and in all processes */
#ifndef NSTACK_TOOLS_RULES_SET_H
#define NSTACK_TOOLS_RULES_SET_H

#include "tool.h"
#include <bpf/steer_ctl.h>
#include <rd/rules.h>

#define IFS_MAX 64

/* An interface that has the steering program. */
struct attached {
	char name[IF_NAMESIZE];
	struct steer *st;
};

/* Open the tables of every attached interface (or of one). Returns how many, or -1 (said). */
int attached_open(struct attached *out, const char *only);
void attached_close(struct attached *a, int n);

struct rules_set {
	int interfaces, processes;
	uint64_t pins;   /* connections that stay where they are */
	bool in_force;   /* also where a process keeps its old rules, which is an error */
	char why[512];   /* of the last error */
};
/* Put them in force, on one interface only if that is named. 0, or EXIT_FAILED and out->why; unless
 * out->in_force nothing was changed. */
int rules_set(const struct rd_rules *r, const char *only, struct rules_set *out);
/* The verb's "push": a stream of rule sets. Exit status. */
int rules_push(const char *only);

#endif
