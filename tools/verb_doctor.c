/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_doctor.c - nstack doctor: what works here, what doesn't, and what to do about it
 *
 * Each check is a function that adds findings: ok, a warning (works, but not at its best) or a
 * failure (programs will run on the kernel), each with the next step. Nothing is changed.
 */
#define _GNU_SOURCE
#include "doctor.h"
#include "tool.h"

#include <bpf/steer_ctl.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <linux/magic.h>
#include <rd/alarm.h>
#include <rd/program.h>
#include <stacks/remote/remote.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif

static const char *const verdict_names[] = { "ok", "warn", "fail" };

struct report {
	cJSON *list;
	unsigned count[3];
	pid_t daemon; /* nstackd of this network namespace that we may attach to, 0: none */
};

void finding(struct report *r, const char *check, enum verdict v, const char *next, const char *fmt, ...)
{
	cJSON *o = cJSON_CreateObject();
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cJSON_AddStringToObject(o, "check", check);
	cJSON_AddStringToObject(o, "verdict", verdict_names[v]);
	cJSON_AddStringToObject(o, "detail", text);
	cJSON_AddStringToObject(o, "next", v == OK ? "" : next);
	cJSON_AddItemToArray(r->list, o);
	r->count[v]++;
}

static void check_kernel(struct report *r)
{
	struct utsname u;
	int major = 0, minor = 0;

	uname(&u);
	if (sscanf(u.release, "%d.%d", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 6)))
		finding(r, "kernel", OK, "", "Linux %s", u.release);
	else if (major > 5 || (major == 5 && minor >= 18))
		finding(r, "kernel", WARN, "6.6 or newer has packets of several buffers",
			"Linux %s: AF_XDP without multi-buffer packets", u.release);
	else
		finding(r, "kernel", FAIL, "use Linux 5.18 or newer", "Linux %s is too old", u.release);
}

/* Who serves programs here? */
static void check_model(struct report *r)
{
	char err[RD_ERR], why[256];
	int ret;

	rd_config_init(err); /* an error is check_config's */
	if (rd_config()->model == NS_MODEL_IN_PROCESS) {
		finding(r, "model", OK, "", "a stack in each program, as the configuration says");
		return;
	}
	ret = remote_try(&r->daemon, why);
	if (!ret)
		finding(r, "model", OK, "", "nstackd (process %d) serves programs, which need no privilege",
			(int)r->daemon);
	else if (ret != -ENOENT)
		finding(r, "model", FAIL, "see nstackd's log, and its --user, --group and \"daemon\" in its configuration",
			"%s", why);
	else if (rd_config()->model == NS_MODEL_DAEMON)
		finding(r, "model", FAIL, "start nstackd in this network namespace", "the configuration wants nstackd, "
			"and there is none");
	else
		finding(r, "model", OK, "", "a stack in each program: no nstackd here");
}

static void check_caps(struct report *r)
{
	const char *missing = caps_missing();

	if (!missing[0])
		finding(r, "capabilities", OK, "", "all there");
	else if (!geteuid())
		finding(r, "capabilities", FAIL, "this root lacks them: give them to the container (--cap-add), "
			"or don't take them from the service (CapabilityBoundingSet=)", "%s missing", missing);
	else
		finding(r, "capabilities", FAIL, "run as root, or with these as ambient capabilities "
			"(AmbientCapabilities= of a systemd unit, setpriv --inh-caps --ambient-caps); those of a "
			"file (setcap) make the loader ignore LD_PRELOAD", "%s missing", missing);
}

static void check_sockets(struct report *r)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		finding(r, "af_xdp", OK, "", "AF_XDP sockets can be made");
	else
		finding(r, "af_xdp", FAIL, errno == EAFNOSUPPORT ? "a kernel with CONFIG_XDP_SOCKETS" :
			"see capabilities", "no AF_XDP socket: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void check_bpf(struct report *r)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "nstack_doctor", 4, 8, 1, NULL);
	struct statfs fs;

	if (fd >= 0)
		finding(r, "bpf", OK, "", "BPF maps can be made");
	else
		finding(r, "bpf", FAIL, "see capabilities; a container needs bpf() allowed by its seccomp profile",
			"bpf() is refused: %s", strerror(-fd));
	if (fd >= 0)
		close(fd);
	if (!statfs("/sys/fs/bpf", &fs) && (unsigned long)fs.f_type == BPF_FS_MAGIC)
		finding(r, "bpffs", OK, "", "mounted at /sys/fs/bpf");
	else if (cap_have(CAP_SYS_ADMIN))
		finding(r, "bpffs", WARN, "mount -t bpf bpf /sys/fs/bpf (then nstack unload and load again)",
			"no bpffs at /sys/fs/bpf: works, but only for processes that may look up BPF maps "
			"by id (CAP_SYS_ADMIN)");
	else
		finding(r, "bpffs", FAIL, "as root: mount -t bpf bpf /sys/fs/bpf, then nstack load; or run with "
			"CAP_SYS_ADMIN", "no bpffs at /sys/fs/bpf, and no CAP_SYS_ADMIN to find the steering "
			"tables without it");
}

static void check_memory(struct report *r)
{
	struct rlimit lim;
	unsigned long pages = 0;
	char line[128];
	FILE *f;

	getrlimit(RLIMIT_MEMLOCK, &lim);
	/* what AF_XDP pins counts for the user, unless it may lock what it likes */
	if (lim.rlim_cur == RLIM_INFINITY || cap_have(CAP_IPC_LOCK))
		finding(r, "memlock", OK, "", "not a limit here");
	else
		finding(r, "memlock", WARN, "ulimit -l unlimited (LimitMEMLOCK=infinity), or CAP_IPC_LOCK",
			"%llu KiB of memory may be locked: a UMEM takes 16 MiB per queue",
			(unsigned long long)lim.rlim_cur / 1024);
	f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "HugePages_Free: %lu", &pages) == 1)
			break;
	}
	if (f)
		fclose(f);
	finding(r, "hugepages", OK, "", "%lu free (not needed; used for packet memory if there are some)",
		pages);
}

static void check_library(struct report *r)
{
	const char *env = getenv("NSTACK_LIB");
	char path[PATH_MAX];

	if (!library_find(path))
		finding(r, "library", OK, "", "%s", path);
	else if (env && env[0])
		finding(r, "library", FAIL, "unset NSTACK_LIB, or let it name libnsocket.so",
			"NSTACK_LIB=%s can't be read", env);
	else
		finding(r, "library", FAIL, "make install, or name the library by NSTACK_LIB",
			"libnsocket.so is neither beside the tool nor in ../lib");
}

static void check_config(struct report *r)
{
	char err[RD_ERR];

	if (!getenv("NSTACK_CONFIG"))
		finding(r, "configuration", OK, "", "NSTACK_CONFIG is not set: defaults");
	else if (rd_config_init(err))
		finding(r, "configuration", FAIL, "repair what NSTACK_CONFIG names; nstack.conf(5) has the keys",
			"%s", err);
	else
		finding(r, "configuration", OK, "", "%s", rd_config()->source);
}

static void check_interface(struct report *r, const struct iface *i)
{
	struct steer_status s = { 0 };
	char name[64], next[96], queues[32] = "", why[STEER_WHY];
	struct steer *st;
	int ret = steer_status(i->ifindex, &s);

	snprintf(name, sizeof(name), "interface %s", i->name);
	if (caps_missing()[0] || !cap_have(CAP_SYS_ADMIN))
		snprintf(next, sizeof(next), "as root: nstack load %s", i->name);
	else
		snprintf(next, sizeof(next), "nstack load %s (nstack run does it, too)", i->name);
	if (i->rx_queues)
		snprintf(queues, sizeof(queues), ", %u queue(s)", i->rx_queues);
	if (ret == -EPERM && !steer_open(&st, i->ifindex, why)) {
		finding(r, name, OK, "", "driver %s%s, MTU %u: attached (its tables are found by their pins)",
			i->driver, queues, i->mtu);
		steer_close(st);
	} else if (ret)
		finding(r, name, FAIL, ret != -EPERM ? "" : "only CAP_SYS_ADMIN can look at XDP programs: ask as "
			"root", "driver %s%s, MTU %u: its XDP state can't be read: %s",
			i->driver, queues, i->mtu, strerror(-ret));
	else if (s.attached)
		finding(r, name, OK, "", "driver %s%s, MTU %u: attached, %s XDP%s%s", i->driver, queues, i->mtu,
			s.native ? "native" : "generic", s.mode_why[0] ? ": " : "",
			mode_reason(s.native ? "native" : "generic", s.mode_why));
	else if (s.foreign[0])
		finding(r, name, FAIL, "detach that program, or give nstack another interface",
			"driver %s%s, MTU %u: has an XDP program of somebody else: %s", i->driver, queues, i->mtu,
			s.foreign);
	else
		finding(r, name, WARN, next, "driver %s%s, MTU %u: no XDP program; the kernel serves everything",
			i->driver, queues, i->mtu);
}

static void check_interfaces(struct report *r)
{
	struct iface *ifs;
	int n = iface_list(&ifs), usable = 0;

	for (int i = 0; i < n; i++) {
		if (!iface_usable(&ifs[i]))
			continue;
		usable++;
		check_interface(r, &ifs[i]);
	}
	free(ifs);
	if (!usable)
		finding(r, "interfaces", FAIL, "ip link set DEV up; ip addr add ADDRESS dev DEV",
			"none is up and has an address");
}

static void check_process(struct report *r, pid_t pid)
{
	char why[256] = "", name[64], program[32];
	cJSON *o = ctl_ask(pid, "status", why);
	const cJSON *p;

	snprintf(name, sizeof(name), "process %d %s", (int)pid, program_of(pid, program));
	if (!o) {
		finding(r, name, WARN, "is it stopped? ask as its user or as root", "%s", why);
		return;
	}
	if (num(o, "programs_max") > 0)
		finding(r, name, OK, "", "serves %.0f of %.0f programs, %.0f socket(s)", num(o, "programs"),
			num(o, "programs_max"), num(o, "sockets_ours"));
	else if (num(o, "daemon") > 0 && !str(o, "fallback")[0])
		finding(r, name, OK, "", "served by nstackd (%.0f), %.0f socket(s)", num(o, "daemon"),
			num(o, "sockets_ours"));
	else if (flag(o, "running") && !str(o, "fallback")[0])
		finding(r, name, OK, "", "stack %s, %.0f socket(s)", str(o, "stack"), num(o, "sockets_ours"));
	else if (str(o, "fallback")[0])
		finding(r, name, flag(o, "running") ? WARN : FAIL, "repair that and start the program again",
			"served by the kernel: %s", str(o, "fallback"));
	else if (cJSON_GetObjectItem(o, "workers"))
		finding(r, name, OK, "", "has %d workers", cJSON_GetArraySize(cJSON_GetObjectItem(o, "workers")));
	else
		finding(r, name, OK, "", "has needed no stack so far");
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "alarms")) {
		if (flag(p, "raised") && !str(o, "fallback")[0]) /* else it is what that says */
			finding(r, name, WARN, ns_alarm_next(str(p, "name")), "alarm %s: %s", str(p, "name"),
				str(p, "text"));
	}
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "ports")) {
		if (!flag(p, "in_use"))
			finding(r, name, WARN, "", "%s is not used: %s", str(p, "ifname"), str(p, "why_not"));
	}
	cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "kernel_reasons")) {
		finding(r, name, WARN, str(p, "help"), "left to the kernel %.0f times: %s", num(p, "count"),
			str(p, "name"));
	}
	cJSON_Delete(o);
}

/* Will this program's sockets be seen at all? */
static void check_program(struct report *r, const char *program)
{
	char path[PATH_MAX], name[64];
	enum program_kind kind = program_look(program, path);

	snprintf(name, sizeof(name), "program %s", program);
	if (kind)
		finding(r, name, FAIL, kind == PROGRAM_SETUID ? "start it as the user that it becomes" :
			"it runs on the kernel, also under nstack run", "%s %s", path, program_why(kind));
	else if (access(path, X_OK))
		finding(r, name, FAIL, "name a program that can be run", "%s: %s", path, strerror(errno));
	else
		finding(r, name, OK, "", "%s uses the C library dynamically", path);
}

static int doctor_run(int argc, char **argv)
{
	struct report r = { .list = NULL };
	bool json = false;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), { 0 } };
	int n = opts_parse(&verb_doctor, opts, true, argc, argv), ret;
	const cJSON *o;
	pid_t *pids;

	if (n < 0)
		return EXIT_USAGE;
	if (n > 1)
		return usage_error(&verb_doctor, "unexpected \"%s\"", argv[2]);
	r.list = cJSON_CreateArray();
	check_kernel(&r);
	check_model(&r);
	if (!r.daemon || !geteuid()) { /* else the daemon has what it takes */
		check_caps(&r);
		check_sockets(&r);
		check_bpf(&r);
		check_memory(&r);
	}
	check_library(&r);
	check_config(&r);
	if (!r.daemon || !geteuid())
		check_interfaces(&r);
	check_dpdk(&r);
	if (n == 1)
		check_program(&r, argv[1]);
	n = ctl_list(&pids);
	for (int i = 0; i < n; i++)
		check_process(&r, pids[i]);
	free(pids);
	ret = r.count[FAIL] ? EXIT_FAILED : 0;
	if (json) {
		cJSON *root = cJSON_CreateObject();

		cJSON_AddItemToObject(root, "checks", r.list);
		cJSON_AddBoolToObject(root, "ok", !ret);
		print_json(root);
		return ret;
	}
	cJSON_ArrayForEach(o, r.list) {
		printf("%-4s  %-22s %s\n", str(o, "verdict"), str(o, "check"), str(o, "detail"));
		if (str(o, "next")[0])
			printf("      %-22s -> %s\n", "", str(o, "next"));
	}
	printf("%u ok, %u warnings, %u failures\n", r.count[OK], r.count[WARN], r.count[FAIL]);
	cJSON_Delete(r.list);
	return ret;
}

const struct verb verb_doctor = {
	"doctor", doctor_run, "check this machine, and say why programs run on the kernel",
	"doctor [--json] [--] [PROGRAM]",
	"Checks the kernel, privileges, interfaces and configuration, and asks every process under\n"
	"nstack what it left to the kernel and why; each finding with the next step. With PROGRAM also\n"
	"says whether its sockets can be intercepted. Exit code 1 if a failure was found.\n\n"
	"  -j, --json        print JSON\n",
};
