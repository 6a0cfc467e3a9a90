/* SPDX-License-Identifier: Apache-2.0 */
/* tools/rules_set.c - rules come into force on all interfaces and in all processes
 *
 * In two phases, so that no established connection changes its stack: first every
 * process pins its own flows, and the kernel's connections on claimed ports are pinned to the
 * kernel; then the steering programs get the new rules; then the processes switch theirs. Writing
 * the tables takes a while, so a thread repeats the pinning until the new rules are in force: only
 * a connection younger than one such round could be split.
 */
#define _GNU_SOURCE
#include "rules_set.h"

#include <errno.h>
#include <pthread.h>
#include <rd/ctl_proto.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCS_MAX 1024

int attached_open(struct attached *out, const char *only)
{
	struct steer_status s;
	char why[STEER_WHY] = "";
	struct iface *ifs;
	int n = iface_list(&ifs), used = 0, ret;

	for (int i = 0; i < n && used >= 0 && used < IFS_MAX; i++) {
		if ((only && strcmp(only, ifs[i].name)) || steer_status(ifs[i].ifindex, &s) || !s.attached)
			continue;
		ret = steer_open(&out[used].st, ifs[i].ifindex, why);
		if (ret) {
			fail("%s: %s", ifs[i].name, why[0] ? why : strerror(-ret));
			while (used)
				steer_close(out[--used].st);
			used = -1;
			break;
		}
		snprintf(out[used++].name, IF_NAMESIZE, "%s", ifs[i].name);
	}
	free(ifs);
	return used;
}

void attached_close(struct attached *a, int n)
{
	for (int i = 0; i < n; i++)
		steer_close(a[i].st);
}

/* --- refusing --------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static int refuse(struct rules_set *out, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out->why, sizeof(out->why), fmt, ap);
	va_end(ap);
	return EXIT_FAILED;
}

/* --- the phases -------------------------------------------------------------------------------- */

struct member {
	pid_t pid;
	int fd;
};

/* Phase one: every process keeps its flows. Returns how many took part, or -1. */
static int prepare_all(struct member *m, const char *text, struct rules_set *out)
{
	pid_t *pids;
	int n = ctl_list(&pids), used = 0;

	for (int i = 0; i < n && used < PROCS_MAX; i++) {
		cJSON *q = ctl_request_new("rules_prepare"), *r = NULL;
		char why[256] = "";

		m[used].pid = pids[i];
		m[used].fd = ctl_connect(pids[i]);
		cJSON_AddStringToObject(q, "rules", text);
		if (m[used].fd < 0) {
			cJSON_Delete(q);
			if (m[used].fd == -ECONNREFUSED)
				continue; /* it ended meanwhile */
			snprintf(why, sizeof(why), "%s", strerror(-m[used].fd));
		} else {
			r = ctl_call(m[used].fd, q, -1, why);
		}
		if (!r) {
			refuse(out, "pid %d can't keep its connections: %s (nothing was changed)", (int)pids[i], why);
			if (m[used].fd >= 0)
				close(m[used].fd);
			while (used)
				close(m[--used].fd); /* prepared rules end with the connection */
			free(pids);
			return -1;
		}
		out->pins += (uint64_t)num(r, "pins");
		cJSON_Delete(r);
		used++;
	}
	free(pids);
	return used;
}

struct repin {
	struct attached *a;
	struct member *m;
	int n, procs;
	bool done; /* atomic */
};

static void *repin_run(void *arg)
{
	struct repin *r = arg;
	bool last;

	do {
		last = __atomic_load_n(&r->done, __ATOMIC_SEQ_CST);
		for (int i = 0; i < r->procs; i++) {
			char why[256];

			cJSON_Delete(ctl_call(r->m[i].fd, ctl_request_new("flows_pin"), -1, why));
		}
		for (int i = 0; i < r->n; i++)
			steer_kernel_pin(r->a[i].st);
		usleep(500);
	} while (!last);
	return NULL;
}

static int install_all(struct attached *a, int n, const struct steer_rules *c, struct rules_set *out)
{
	for (int i = 0; i < n; i++) {
		int ret;

		steer_pins_sweep(a[i].st); /* those of former changes that have served */
		ret = steer_kernel_pin(a[i].st);
		if (ret < 0)
			return refuse(out, "%s: the kernel's connections can't be pinned: %s (nothing was changed)",
				      a[i].name, strerror(-ret));
		out->pins += (uint64_t)ret;
	}
	for (int i = 0; i < n; i++) {
		int ret = steer_rules_set(a[i].st, c);

		if (ret)
			return refuse(out, "%s: the rules can't be installed: %s", a[i].name, ret == -ESTALE ?
				      "newer ones came meanwhile" : strerror(-ret));
		out->in_force = true;
	}
	return 0;
}

static int install_repinning(struct attached *a, int n, struct member *m, int procs,
			     const struct steer_rules *c, struct rules_set *out)
{
	struct repin r = { .a = a, .m = m, .n = n, .procs = procs };
	pthread_t thread;
	bool threaded = !pthread_create(&thread, NULL, repin_run, &r);
	int ret = install_all(a, n, c, out);

	__atomic_store_n(&r.done, true, __ATOMIC_SEQ_CST);
	if (threaded)
		pthread_join(thread, NULL);
	return ret;
}

static int commit_all(struct member *m, int n, struct rules_set *out)
{
	int failed = 0;

	for (int i = 0; i < n; i++) {
		char why[256] = "";
		cJSON *r = ctl_call(m[i].fd, ctl_request_new("rules_commit"), -1, why);

		if (!r && pid_alive(m[i].pid))
			failed = refuse(out, "pid %d keeps its old rules for new connections of its own: %s",
					(int)m[i].pid, why);
		cJSON_Delete(r);
		close(m[i].fd);
	}
	return failed;
}

/* Is the set newer than what every interface has? 0, or EXIT_FAILED. */
static int version_check(struct attached *a, int n, uint64_t version, struct rules_set *out)
{
	for (int i = 0; i < n && version; i++) {
		uint64_t had = steer_rules_version(a[i].st);

		if (version <= had)
			return refuse(out, "version %llu is not newer than %llu, which %s had (nothing was changed)",
				      (unsigned long long)version, (unsigned long long)had, a[i].name);
	}
	return 0;
}

static int set_compiled(const struct rd_rules *r, const struct steer_rules *c, const char *text, const char *only,
			struct rules_set *out)
{
	static struct member m[PROCS_MAX];
	struct attached a[IFS_MAX];
	int n = attached_open(a, only), procs = 0, ret;

	if (n <= 0)
		return refuse(out, n < 0 ? "an interface's tables can't be opened" :
			      "no interface has the steering program; load it first: nstack load IFACE");
	ret = version_check(a, n, r->version, out);
	if (!ret) {
		procs = prepare_all(m, text, out);
		ret = procs < 0 ? EXIT_FAILED : install_repinning(a, n, m, procs, c, out);
	}
	if (ret) {
		while (procs > 0)
			close(m[--procs].fd);
	} else {
		ret = commit_all(m, procs, out);
		out->interfaces = n;
		out->processes = procs;
	}
	attached_close(a, n);
	return ret;
}

int rules_set(const struct rd_rules *r, const char *only, struct rules_set *out)
{
	struct steer_rules *c = malloc(sizeof(*c));
	char *text = rd_rules_text(r);
	int ret;

	memset(out, 0, sizeof(*out));
	if (!c || !text)
		ret = refuse(out, "out of memory");
	else if (r->who)
		ret = refuse(out, "rules that ask for a program, user or cgroup can't be kept by an interface, which "
			     "knows ports only; name the file as \"rules\" in the configuration of nstackd or of "
			     "the program");
	else if ((ret = rd_rules_compile(r, c)))
		ret = refuse(out, "%s", strerror(-ret));
	else if (strlen(text) > CTL_RULES_MAX)
		ret = refuse(out, "too large");
	else
		ret = set_compiled(r, c, text, only, out);
	free(text);
	free(c);
	return ret;
}
