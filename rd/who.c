/* SPDX-License-Identifier: Apache-2.0 */
/* rd/who.c - for whom a rule decides: name, user and control group of a process; its own rules
 *
 * Threads: any; the environment is read when rules are published.
 */
#define _GNU_SOURCE
#include <rd/rules.h>

#include <errno.h>
#include <fcntl.h>
#include <rd/rules_internal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Version 2's line of /proc/PID/cgroup: "0::/path". By system calls: this may run in a program whose
 * calls are ours. */
static void read_cgroup(const char *file, char out[RD_CGROUP])
{
	char text[2048], *at, *end;
	long fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC), n;

	out[0] = 0;
	if (fd < 0)
		return;
	n = syscall(SYS_read, fd, text, sizeof(text) - 1);
	syscall(SYS_close, fd);
	text[n > 0 ? n : 0] = 0;
	at = !strncmp(text, "0::", 3) ? text : strstr(text, "\n0::");
	at = at ? strchr(at, '/') : NULL;
	end = at ? strchr(at, '\n') : NULL;
	if (end && end - at < (long)RD_CGROUP) {
		memcpy(out, at, (size_t)(end - at));
		out[end - at] = 0;
	}
}

void rd_who_self(struct rd_who *w)
{
	snprintf(w->program, sizeof(w->program), "%s", program_invocation_short_name);
	w->uid = geteuid();
	read_cgroup("/proc/self/cgroup", w->cgroup);
}

void rd_who_of(struct rd_who *w, pid_t pid, uint32_t uid, const char *program)
{
	char file[64];

	snprintf(w->program, sizeof(w->program), "%s", program);
	w->uid = uid;
	snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
	read_cgroup(file, w->cgroup);
}

/* --- NSTACK_RD ----------------------------------------------------------------------------------- */

#define OWN_PRIORITY (-RD_PRIORITY_MAX)

/* One "PREFIX=ACTION"; len without the separator. */
static int own_rule(struct rd_rules *r, const char *s, size_t len)
{
	struct rd_rule peer = RD_RULE_ANY, local;
	char text[128], *is;
	int ret;

	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = 0;
	is = strchr(text, '=');
	if (!is)
		return -EINVAL;
	*is++ = 0;
	peer.priority = OWN_PRIORITY;
	peer.who = RD_WHO_OWN;
	if (rd_prefix_parse(text, &peer.remote))
		return -EINVAL;
	ret = rd_action_parse(&r->stacks, is, &peer.action, &peer.stack);
	if (ret)
		return ret;
	local = peer;
	local.local = peer.remote;
	local.remote = (struct rd_prefix){ 0 };
	ret = rd_rules_add(r, &peer);
	return ret ? ret : rd_rules_add(r, &local);
}

int rd_rules_add_own(struct rd_rules *r, const char *text, char err[RD_ERR])
{
	size_t len;
	int ret;

	for (; *text; text += len + (text[len] != 0)) {
		/* a colon, as DMM has it, only behind the action: addresses have them, too */
		len = strcspn(text, "=");
		len += strcspn(text + len, ",;:");
		ret = len ? own_rule(r, text, len) : 0;
		if (ret) {
			snprintf(err, RD_ERR, "NSTACK_RD: \"%.*s\" is no PREFIX=ACTION such as "
				 "198.18.0.0/15=kernel%s", (int)(len < 80 ? len : 80), text,
				 ret == -E2BIG ? ", or one rule too many" : "");
			return ret;
		}
	}
	rd_rules_sort(r);
	return 0;
}
