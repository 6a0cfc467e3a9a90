/* SPDX-License-Identifier: Apache-2.0 */
/* tools/ctl_client.c - asking processes through their control sockets
 *
 * Processes are found in /proc/net/unix, which lists the sockets of this network namespace only:
 * the tool sees the processes whose interfaces it sees. Replies are foreign bytes: bounded, and
 * the answering process must be the one whose pid the name carries.
 */
#define _GNU_SOURCE
#include "tool.h"

#include <errno.h>
#include <rd/ctl_proto.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned patience_ms = 3000; /* for an answer; the tool's, as it is one thread */

#define PARTS_MAX (1u << 16) /* of a list; what does not end by then never does */

void ctl_patience(unsigned ms)
{
	patience_ms = ms;
}

static int pid_cmp(const void *a, const void *b)
{
	return *(const pid_t *)a - *(const pid_t *)b;
}

int ctl_list(pid_t **out)
{
	FILE *f = fopen("/proc/net/unix", "re");
	size_t n = 0, room = 0, unique = 0;
	pid_t *list = NULL;
	char *line = NULL;
	size_t size = 0;

	*out = NULL;
	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0) {
		const char *name = strstr(line, " @" CTL_NAME_PREFIX);
		long long pid;

		line[strcspn(line, "\n")] = 0;
		pid = name ? number(name + strlen(" @" CTL_NAME_PREFIX), 1, 1 << 30) : -1;
		if (pid < 0)
			continue;
		if (n == room) {
			pid_t *bigger = realloc(list, (room = room ? room * 2 : 16) * sizeof(*list));

			if (!bigger)
				break;
			list = bigger;
		}
		list[n++] = (pid_t)pid;
	}
	free(line);
	fclose(f);
	if (n)
		qsort(list, n, sizeof(*list), pid_cmp);
	for (size_t i = 0; i < n; i++) { /* accepted connections carry the name, too */
		if (!unique || list[unique - 1] != list[i])
			list[unique++] = list[i];
	}
	*out = list;
	return (int)unique;
}

int ctl_connect(pid_t pid)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval t = { .tv_sec = patience_ms / 1000, .tv_usec = patience_ms % 1000 * 1000 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), n;
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, CTL_NAME_PREFIX "%d", (int)pid);
	if (connect(fd, (struct sockaddr *)&sa,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n))) {
		n = -errno;
		close(fd);
		return n;
	}
	/* 0: a process of a pid namespace that we don't see into */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || (cred.pid && cred.pid != pid)) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

const char *ctl_connect_error(int err)
{
	return err == -ECONNREFUSED ? "it does not run under nstack (nstack status shows those that do)" :
	       err == -EPERM ? "its socket is another process's" : strerror(-err);
}

/* Keys and texts; cJSON has bounded the depth. */
static void reply_clean(cJSON *o)
{
	for (; o; o = o->next) {
		if (o->string)
			text_clean(o->string);
		if (o->valuestring)
			text_clean(o->valuestring);
		reply_clean(o->child);
	}
}

cJSON *ctl_receive(int fd, char why[256])
{
	char *msg = malloc(CTL_MSG_MAX);
	cJSON *r = NULL;
	ssize_t n = -1;

	if (msg)
		n = recv(fd, msg, CTL_MSG_MAX, 0);
	if (n > 0)
		r = cJSON_ParseWithLength(msg, (size_t)n);
	reply_clean(r);
	if (!r)
		snprintf(why, 256, "%s", n == 0 ? "it closed the connection (another user's process?)" :
			 n < 0 && errno == EAGAIN ? "it does not answer" :
			 n < 0 ? strerror(errno) : "its answer is not JSON");
	free(msg);
	if (r && !flag(r, "ok")) {
		snprintf(why, 256, "%s", str(r, "error"));
		cJSON_Delete(r);
		r = NULL;
	}
	return r;
}

static int ctl_send(int fd, const char *text, int pass_fd)
{
	struct iovec iov = { (void *)text, strlen(text) };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	if (pass_fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		cm = CMSG_FIRSTHDR(&m);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &pass_fd, sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

cJSON *ctl_call(int fd, cJSON *request, int pass_fd, char why[256])
{
	char *text = cJSON_PrintUnformatted(request);
	int ret = text ? ctl_send(fd, text, pass_fd) : -ENOMEM;

	free(text);
	cJSON_Delete(request);
	if (ret) {
		snprintf(why, 256, "%s", strerror(-ret));
		return NULL;
	}
	return ctl_receive(fd, why);
}

cJSON *ctl_request_new(const char *op)
{
	cJSON *r = cJSON_CreateObject();

	cJSON_AddStringToObject(r, "op", op);
	return r;
}

cJSON *ctl_ask(pid_t pid, const char *op, char why[256])
{
	int fd = ctl_connect(pid);
	cJSON *r;

	if (fd < 0) {
		snprintf(why, 256, "%s", ctl_connect_error(fd));
		return NULL;
	}
	r = ctl_call(fd, ctl_request_new(op), -1, why);
	close(fd);
	return r;
}

/* A part's list goes behind the others. True: more follows. */
static bool part_take(cJSON *list, cJSON *part, const char *key)
{
	cJSON *from = cJSON_GetObjectItem(part, key), *item;
	bool more = flag(part, "more");

	while ((item = cJSON_DetachItemFromArray(from, 0)))
		cJSON_AddItemToArray(list, item);
	cJSON_Delete(part);
	return more;
}

cJSON *ctl_ask_parts(pid_t pid, const char *op, const char *key, bool *speaks, char why[256])
{
	cJSON *list, *part;
	struct ucred u;
	socklen_t len = sizeof(u);
	bool more = true;
	unsigned n = 0;
	int fd = ctl_connect(pid);

	if (fd < 0) {
		snprintf(why, 256, "%s", ctl_connect_error(fd));
		return NULL;
	}
	if (speaks)
		*speaks = !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) && (!u.uid || u.uid == geteuid());
	list = cJSON_CreateArray();
	while (more && (part = n ? ctl_receive(fd, why) : ctl_call(fd, ctl_request_new(op), -1, why)))
		more = part_take(list, part, key) && ++n < PARTS_MAX;
	close(fd);
	if (!more)
		return list;
	cJSON_Delete(list);
	return NULL;
}

/* Whose it is: a daemon names the program; a program that is served by one shows what it sees itself. */
static void name_owner(cJSON *s, pid_t pid, bool speaks)
{
	char program[32];

	if (num(s, "pid") == pid)
		return;
	cJSON_DeleteItemFromObject(s, "served_by");
	if (speaks && num(s, "pid") > 0) {
		put_u64(s, "served_by", (uint64_t)pid);
		return;
	}
	cJSON_DeleteItemFromObject(s, "pid");
	cJSON_DeleteItemFromObject(s, "uid");
	cJSON_DeleteItemFromObject(s, "program");
	put_u64(s, "pid", (uint64_t)pid);
	cJSON_AddStringToObject(s, "program", program_of(pid, program));
}

/* Its sockets go into list. False: it does not answer, which is said if it matters. */
static bool add_sockets(cJSON *list, pid_t pid, bool say)
{
	char why[256] = "";
	bool speaks, none;
	cJSON *all = ctl_ask_parts(pid, "sockets", "sockets", &speaks, why), *s;

	while ((s = cJSON_DetachItemFromArray(all, 0))) {
		if (cJSON_IsObject(s)) {
			name_owner(s, pid, speaks);
			put_u64(s, "told_by", (uint64_t)pid);
		}
		cJSON_AddItemToArray(list, s);
	}
	cJSON_Delete(all);
	none = !all && !strcmp(why, "this process has no stack of its own");
	if (!all && !none && say)
		fail("pid %d: %s", (int)pid, why);
	return all || none;
}

static bool has_pid(const pid_t *list, int n, double pid)
{
	for (int i = 0; i < n; i++)
		if (list[i] == (pid_t)pid)
			return true;
	return false;
}

cJSON *ctl_sockets(pid_t only, bool *failed)
{
	cJSON *list = cJSON_CreateArray(), *s, *next;
	pid_t *pids;
	int n = ctl_list(&pids), answered = 0;

	*failed = false;
	for (int i = 0; i < n; i++) { /* all, since a daemon knows of other processes' */
		bool wanted = !only || only == pids[i];

		if (add_sockets(list, pids[i], wanted))
			pids[answered++] = pids[i];
		else
			*failed |= wanted;
	}
	/* the daemon knows more of those that it serves */
	for (s = list->child; s; s = next) {
		next = s->next;
		if (num(s, "told_by") == num(s, "pid") && has_pid(pids, answered, num(s, "served_by")))
			cJSON_Delete(cJSON_DetachItemViaPointer(list, s));
	}
	free(pids);
	return list;
}

cJSON *ctl_ask_or_error(pid_t pid, const char *op)
{
	char why[256] = "", program[32];
	cJSON *o = ctl_ask(pid, op, why);

	if (!o) {
		o = cJSON_CreateObject();
		put_u64(o, "pid", (uint64_t)pid);
		cJSON_AddStringToObject(o, "program", program_of(pid, program));
		cJSON_AddStringToObject(o, "error", why);
	}
	cJSON_DeleteItemFromObject(o, "ok");
	return o;
}

cJSON *ctl_processes(void)
{
	cJSON *all = cJSON_CreateArray();
	char why[256];
	pid_t *pids;
	int n = ctl_list(&pids);

	for (int i = 0; i < n; i++) {
		cJSON *o = ctl_ask_or_error(pids[i], "status"), *list = NULL;

		if (num(o, "programs_max") > 0)
			list = ctl_ask_parts(pids[i], "programs", "programs", NULL, why);
		if (list)
			cJSON_AddItemToObject(o, "attached", list);
		cJSON_AddItemToArray(all, o);
	}
	free(pids);
	return all;
}

/* The one that serves the others, if one does: where a daemon has workers, their main process. */
static pid_t only_daemon(const pid_t *list, int n)
{
	pid_t daemon = 0, main = 0;
	unsigned daemons = 0, mains = 0;
	char why[256];

	for (int i = 0; i < n; i++) {
		cJSON *o = ctl_ask(list[i], "status", why);

		if (cJSON_GetObjectItem(o, "workers")) {
			main = list[i];
			mains++;
		} else if (num(o, "programs_max") > 0) {
			daemon = list[i];
			daemons++;
		}
		cJSON_Delete(o);
	}
	return mains == 1 ? main : mains == 0 && daemons == 1 ? daemon : 0;
}

int ctl_workers(pid_t pid, pid_t *out, int room)
{
	char why[256];
	cJSON *o = ctl_ask(pid, "status", why);
	const cJSON *w;
	int n = 0;

	cJSON_ArrayForEach(w, cJSON_GetObjectItem(o, "workers")) {
		if (n < room && num(w, "pid") > 0)
			out[n++] = (pid_t)num(w, "pid");
	}
	cJSON_Delete(o);
	if (n || !room)
		return n;
	*out = pid;
	return 1;
}

int ctl_pick(const char *arg, pid_t *pid)
{
	pid_t *list;
	int n;

	if (arg) {
		*pid = (pid_t)number(arg, 1, 1 << 30);
		return *pid > 0 ? 0 : fail("\"%s\" is not a pid", arg);
	}
	n = ctl_list(&list);
	*pid = n == 1 ? list[0] : n > 1 ? only_daemon(list, n) : 0;
	free(list);
	if (*pid)
		return 0;
	if (n <= 0)
		return fail("no process under nstack runs in this network namespace");
	return fail("%d processes run under nstack; name one by its pid (nstack status lists them)", n);
}
