/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_eal.c - DPDK itself: its arguments derived, its threads and its chatter kept in check
 *
 * DPDK starts once in a process. It pins the calling thread to a core, starts a thread of its own, logs
 * to stderr and syslog, and loads every driver that is installed; a program that is not its own master
 * must see none of that.
 *
 * Nothing is left in the file system that others could meet: memory is anonymous, so any number of
 * processes use the same file prefix side by side.
 *
 * Threads: starting is serialised by the caller; the log may come from any.
 */
#define _GNU_SOURCE
#include <hal_dpdk/dpdk_internal.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ARGS_MAX 64
#define FRAME_BYTES 4096u /* a packet buffer with all that belongs to it: a page, or two, or four */
#define FRAME_EXTRA 512u  /* in it, what is not packet */
#define BASE_MB 48u       /* what DPDK and its drivers need besides */

static enum { EAL_NONE, EAL_RUNS, EAL_FAILED, EAL_PARENTS } state;

/* --- chatter --------------------------------------------------------------------------------- */

static char words[160];

static ssize_t words_write(void *cookie, const char *buf, size_t n)
{
	size_t len = n;

	while (len && (buf[len - 1] == '\n' || buf[len - 1] == ' '))
		len--;
	if (len && !words[0]) /* the first complaint is the cause, the others follow from it */
		snprintf(words, sizeof(words), "%.*s", (int)len, buf);
	return (ssize_t)n;
}

static void chatter_catch(void)
{
	FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = words_write });

	if (!f)
		return;
	setvbuf(f, NULL, _IOLBF, 0);
	rte_openlog_stream(f);
}

const char *dpdk_eal_words(void)
{
	static char last[sizeof(words)];

	memcpy(last, words, sizeof(last));
	words[0] = 0;
	return last;
}

int dpdk_why(char *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, HAL_DPDK_WHY, fmt, ap);
	va_end(ap);
	return err;
}

uint64_t dpdk_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- arguments ------------------------------------------------------------------------------- */

struct args {
	int n;
	char *v[ARGS_MAX + 1];
};

__attribute__((format(printf, 2, 3)))
static void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;

	if (a->n == ARGS_MAX)
		return;
	va_start(ap, fmt);
	if (vasprintf(&a->v[a->n], fmt, ap) >= 0)
		a->n++;
	va_end(ap);
}

static uint64_t huge_free(void)
{
	const char *dir = "/sys/kernel/mm/hugepages";
	unsigned long kb, pages;
	uint64_t bytes = 0;
	struct dirent *e;
	char path[512];
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		FILE *f;

		if (sscanf(e->d_name, "hugepages-%lukB", &kb) != 1)
			continue;
		snprintf(path, sizeof(path), "%s/%s/free_hugepages", dir, e->d_name);
		f = fopen(path, "re");
		if (f && fscanf(f, "%lu", &pages) == 1)
			bytes += (uint64_t)pages * kb * 1024;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return bytes;
}

/* Huge pages if there are enough, else ordinary memory, which virtual devices and an IOMMU don't mind; that
 * is all taken at once. */
static void arg_memory(struct args *a, const struct hal_dpdk_config *cfg)
{
	uint64_t frames = dpdk_frames(cfg, cfg->rx_ring ? cfg->rx_ring : DPDK_RING,
				      cfg->tx_ring ? cfg->tx_ring : DPDK_RING);
	uint64_t bytes = FRAME_BYTES, mb = BASE_MB;
	uint32_t queues;

	while (bytes < cfg->mtu + FRAME_EXTRA)
		bytes *= 2;
	for (uint32_t i = 0; i < cfg->ndevices; i++) {
		queues = hal_dpdk_queue_count(cfg->devices[i]);
		mb += (cfg->queues > queues ? cfg->queues : queues) * frames * bytes >> 20;
	}

	if (cfg->eal && (strstr(cfg->eal, "huge") || strstr(cfg->eal, "-m ") || strstr(cfg->eal, "in-memory")))
		return;
	if (huge_free() >= mb << 20) {
		arg(a, "--in-memory");
		return;
	}
	arg(a, "--no-huge");
	arg(a, "--no-shconf");
	arg(a, "-m");
	arg(a, "%llu", (unsigned long long)mb);
}

/* One logical core that may run wherever the thread may: DPDK is to pin nobody. */
static void arg_cores(struct args *a)
{
	char list[1024] = "";
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int c = 0; c < CPU_SETSIZE && strlen(list) < sizeof(list) - 8; c++)
		if (CPU_ISSET(c, &set))
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%d", list[0] ? "," : "", c);
	arg(a, "--lcores=0@(%s)", list);
}

static void arg_devices(struct args *a, const struct hal_dpdk_config *cfg)
{
	bool pci = false;

	for (uint32_t i = 0; i < cfg->ndevices; i++) {
		if (!hal_dpdk_is_pci(cfg->devices[i]))
			continue;
		pci = true;
		arg(a, "-a");
		arg(a, "%s", cfg->devices[i]);
	}
	if (!pci)
		arg(a, "--no-pci");
}

static void arg_more(struct args *a, const char *more)
{
	char *copy = strdup(more), *save = NULL;

	for (char *w = copy ? strtok_r(copy, " \t", &save) : NULL; w; w = strtok_r(NULL, " \t", &save))
		arg(a, "%s", w);
	free(copy);
}

static void args_derive(struct args *a, const struct hal_dpdk_config *cfg)
{
	arg(a, "nstack");
	arg(a, "--file-prefix=nstack");
	arg(a, "--no-telemetry");
	arg(a, "--log-level=4"); /* errors: they end up in a reason */
	arg_cores(a);
	arg_memory(a, cfg);
	arg_devices(a, cfg);
	if (cfg->eal)
		arg_more(a, cfg->eal);
	a->v[a->n] = NULL;
}

/* --- start ----------------------------------------------------------------------------------- */

static int eal_init(const struct hal_dpdk_config *cfg, char *why)
{
	struct args a = { 0 };
	char *v[ARGS_MAX + 1];
	cpu_set_t cores;
	bool pinned;
	int r;

	args_derive(&a, cfg);
	memcpy(v, a.v, sizeof(v)); /* DPDK reorders them */
	pinned = !pthread_getaffinity_np(pthread_self(), sizeof(cores), &cores);
	chatter_catch();
	r = rte_eal_init(a.n, v);
	if (pinned)
		pthread_setaffinity_np(pthread_self(), sizeof(cores), &cores);
	while (a.n)
		free(a.v[--a.n]);
	if (r >= 0)
		return 0;
	if (rte_errno == EALREADY)
		return dpdk_why(why, -EBUSY, "the program uses DPDK itself");
	return dpdk_why(why, -rte_errno, "DPDK does not start: %s", words[0] ? words : strerror(rte_errno));
}

int dpdk_eal_start(const struct hal_dpdk_config *cfg, char *why)
{
	sigset_t all, old;
	int r;

	if (state == EAL_RUNS)
		return 0;
	if (state == EAL_PARENTS)
		return dpdk_why(why, -EBUSY, "the process that this one was forked from has DPDK's devices");
	if (state == EAL_FAILED)
		return dpdk_why(why, -EIO, "DPDK did not start, and can't be started twice");
	/* its thread is to handle no signal of the program's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = eal_init(cfg, why);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	state = r ? EAL_FAILED : EAL_RUNS;
	return r;
}

static void thread_calls(void *fn)
{
	((void (*)(void))fn)();
}

bool dpdk_eal_thread_call(void (*fn)(void))
{
	return state == EAL_RUNS && !rte_eal_alarm_set(1, thread_calls, (void *)fn);
}

void dpdk_eal_forget(void)
{
	if (state != EAL_NONE)
		state = EAL_PARENTS;
}
