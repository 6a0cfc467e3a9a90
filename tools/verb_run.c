/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_run.c - nstack run: a program under nstack, everything prepared
 *
 * Finds the library beside the tool, checks the configuration (an error ends it here: a typing
 * mistake must not silently run with defaults), attaches the steering program where nobody did,
 * and becomes the program. What can't be had (privilege, an interface that takes no XDP, a
 * configuration file that isn't there) is said in one line, and the program runs on the kernel.
 * The steering program stays attached afterwards; nstack unload detaches it.
 */
#define _GNU_SOURCE
#include "tool.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <limits.h>
#include <rd/json.h>
#include <rd/program.h>
#include <stacks/remote/remote.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool quiet;

__attribute__((format(printf, 1, 2)))
static void on_the_kernel(const char *fmt, ...)
{
	va_list ap;

	if (quiet)
		return;
	va_start(ap, fmt);
	fputs("nstack: running on the kernel: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

/* --- the library ---------------------------------------------------------------------------------- */

int library_find(char out[PATH_MAX])
{
	static const char *const beside[] = { "", "../lib/", "../lib64/", "../lib/x86_64-linux-gnu/",
					      "../lib/aarch64-linux-gnu/", "../lib/nstack/" };
	const char *env = getenv("NSTACK_LIB");
	char self[PATH_MAX / 2], path[PATH_MAX];
	ssize_t n;

	/* an absolute name: the program may change its directory before it runs another */
	if (env && env[0])
		return realpath(env, out) && !access(out, R_OK) ? 0 : -errno;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return -ENOENT;
	self[n] = 0;
	*strrchr(self, '/') = 0;
	for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
		snprintf(path, sizeof(path), "%s/%slibnsocket.so", self, beside[i]);
		if (!access(path, R_OK) && realpath(path, out))
			return 0;
	}
	return -ENOENT;
}

static void set_preload(const char *lib)
{
	const char *old = getenv("LD_PRELOAD");
	bool others = old && old[0], runtime = others && strstr(old, "san.so");
	char *value;

	if (others && strstr(old, lib))
		return;
	/* ours first, as calls that others wrap must reach us; but a sanitizer's runtime before all */
	if (asprintf(&value, "%s%s%s", runtime ? old : lib, others ? ":" : "",
		     runtime ? lib : others ? old : "") < 0)
		return;
	setenv("LD_PRELOAD", value, 1);
	free(value);
}

/* --- configuration --------------------------------------------------------------------------------- */

/* Names relative to the configuration file no longer are, once its text is passed on inline. */
static void make_absolute(cJSON *root, const char *config)
{
	static const char *const keys[] = { "rules", "dump" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		cJSON *v = cJSON_GetObjectItemCaseSensitive(root, keys[i]);
		char full[PATH_MAX];

		if (!cJSON_IsString(v) || v->valuestring[0] == '/')
			continue;
		snprintf(full, sizeof(full), "%.*s/%s", (int)(strrchr(config, '/') - config), config,
			 v->valuestring);
		cJSON_ReplaceItemInObjectCaseSensitive(root, keys[i], cJSON_CreateString(full));
	}
}

/* The file's content with --set applied, as inline text for NSTACK_CONFIG. */
static int merge_settings(const char *path, const char **sets, int n, char err[RD_ERR])
{
	struct json_doc d = { 0 };
	cJSON *root;
	char *text;
	int ret = 0;

	if (path && path[strspn(path, " \t\n")] == '{')
		ret = json_parse(&d, path, strlen(path), "NSTACK_CONFIG", err);
	else if (path)
		ret = json_load(&d, path, err);
	root = !ret && d.root ? cJSON_Duplicate(d.root, 1) : cJSON_CreateObject();
	json_free(&d);
	if (path && path[0] == '/')
		make_absolute(root, path);
	for (int i = 0; i < n && !ret; i++) {
		if (set_key(root, sets[i])) {
			ret = -EINVAL;
			snprintf(err, RD_ERR, "--set needs KEY=VALUE, not \"%s\"", sets[i]);
		}
	}
	text = ret ? NULL : cJSON_PrintUnformatted(root);
	if (text)
		setenv("NSTACK_CONFIG", text, 1);
	free(text);
	cJSON_Delete(root);
	return ret;
}

/* Sets NSTACK_CONFIG, and reads it as the program will. 0; -ENOENT: no such file (said; the
 * program is to run on the kernel); another error (said). */
static int configure(const char *path, const char **sets, int n_sets, const struct ns_config **out)
{
	char err[RD_ERR] = "", full[PATH_MAX];
	int ret = 0;

	if (!path)
		path = getenv("NSTACK_CONFIG");
	if (path && path[0] && path[strspn(path, " \t\n")] != '{') {
		if (!realpath(path, full)) {
			setenv("NSTACK_CONFIG", path, 1);
			on_the_kernel("configuration %s: %s", path, strerror(errno));
			return -ENOENT;
		}
		path = full;
		setenv("NSTACK_CONFIG", full, 1);
	}
	if (n_sets) {
		/* the file alone first: its errors have lines */
		struct ns_config *c = NULL;

		if (path && path[0] == '/')
			ret = rd_config_load(path, &c, err);
		rd_config_free(c);
		if (!ret)
			ret = merge_settings(path && path[0] ? path : NULL, sets, n_sets, err);
	}
	if (!ret)
		ret = rd_config_init(err);
	if (ret) {
		fail("%s", err);
		return ret == -ENOENT ? -EINVAL : ret;
	}
	*out = rd_config();
	return 0;
}

/* --- interfaces --------------------------------------------------------------------------------------- */

static bool selected(const struct ns_config *c, const struct iface *i)
{
	return c->n_interfaces ? rd_config_has_if(c, i->name) : iface_usable(i);
}

/* Attach where nobody did. Returns the number of interfaces with the program. */
static int attach(const struct ns_config *c, char why[STEER_WHY + 32])
{
	struct iface *ifs;
	int n = iface_list(&ifs), ready = 0, seen = 0;

	snprintf(why, STEER_WHY + 32, "no interface is up and has an address");
	for (int i = 0; i < n; i++) {
		struct steer_status s = { 0 };
		char one[STEER_WHY] = "";
		int ret;

		if (!selected(c, &ifs[i]))
			continue;
		seen++;
		if (!steer_status(ifs[i].ifindex, &s) && s.attached) {
			ready++;
			continue;
		}
		ret = c->load ? steer_load(ifs[i].ifindex, (enum steer_mode)c->mode, one) : -ENOENT;
		if (!ret) {
			ready++;
			continue;
		}
		if (!c->load)
			snprintf(one, sizeof(one), "the steering program is not attached (nstack load %s)",
				 ifs[i].name);
		snprintf(why, STEER_WHY + 32, "%s: %s", ifs[i].name, one[0] ? one : strerror(-ret));
	}
	if (!seen && c->n_interfaces)
		snprintf(why, STEER_WHY + 32, "%s: no such interface", c->interfaces[0]);
	free(ifs);
	return ready;
}

/* Everything that can stand in the way, in the order in which it is best repaired. */
static void prepare(const char *config, const char **sets, int n_sets, const char *program, int *error)
{
	const struct ns_config *c = NULL;
	char lib[PATH_MAX], path[PATH_MAX], why[STEER_WHY + 32];
	enum program_kind kind;
	int ret;

	*error = 0;
	if (library_find(lib)) {
		on_the_kernel(getenv("NSTACK_LIB") ? "NSTACK_LIB names no library that can be read" :
			      "libnsocket.so is not beside the tool, nor in ../lib (NSTACK_LIB names it)");
		return;
	}
	ret = configure(config, sets, n_sets, &c);
	if (ret && ret != -ENOENT) {
		*error = ret;
		return;
	}
	set_preload(lib);
	if (ret)
		return;
	kind = program_look(program, path);
	if (kind) {
		on_the_kernel("%s %s", path, program_why(kind));
		return;
	}
	if (c->model != NS_MODEL_IN_PROCESS && remote_look())
		return;
	if (c->model == NS_MODEL_DAEMON) {
		on_the_kernel("no nstackd in this network namespace (it is taken up when one starts)");
		return;
	}
	if (caps_missing()[0]) {
		on_the_kernel("%s missing (run as root, or give the program these capabilities; see nstack "
			      "doctor)", caps_missing());
		return;
	}
	if (c->hal == NS_HAL_XDP && !attach(c, why)) /* a DPDK device's TAP is made by who opens it */
		on_the_kernel("%s (see nstack doctor)", why);
}

static int run_run(int argc, char **argv)
{
	const char *config = NULL, *spin = NULL, *level = NULL;
	const char *sets[OPT_MANY + 2];
	char spin_set[48], level_set[48];
	int n_sets = 0, error;
	const struct opt opts[] = {
		OPT_VALUE("--config", 'c', &config), OPT_VALUE("--spin", 0, &spin),
		OPT_VALUE("--log", 0, &level), OPT_FLAG("--quiet", 'q', &quiet),
		OPT_LIST("--set", 0, sets, &n_sets), { 0 },
	};

	if (opts_parse(&verb_run, opts, false, argc, argv) < 0)
		return EXIT_USAGE;
	if (!argv[1])
		return usage_error(&verb_run, "which program?");
	if (config && !config[0])
		return usage_error(&verb_run, "--config: the name of a file is missing");
	if (spin) {
		snprintf(spin_set, sizeof(spin_set), "spin_us=%s", spin);
		sets[n_sets++] = spin_set;
	}
	if (level) {
		snprintf(level_set, sizeof(level_set), "log.level=\"%s\"", level);
		sets[n_sets++] = level_set;
	}
	prepare(config, sets, n_sets, argv[1], &error);
	if (error)
		return EXIT_FAILED;
	execvp(argv[1], argv + 1);
	error = errno;
	fail("%s: %s", argv[1], strerror(error));
	return error == ENOENT ? 127 : 126; /* as shells have it */
}

const struct verb verb_run = {
	"run", run_run, "run a program on the user-space stack",
	"run [--config FILE] [--set KEY=VALUE]... [--spin US] [--log LEVEL] [--quiet] [--] PROGRAM [ARGS...]",
	"Runs PROGRAM with libnsocket.so preloaded: served by nstackd if one runs in this network namespace,\n"
	"else by a stack in the program. For that it attaches the steering program to the interfaces that have\n"
	"an address, if nobody did (it stays attached; nstack unload). Where something is missing the program\n"
	"runs on the kernel, and one line says why.\n\n"
	"  -c, --config FILE  configuration (JSON; comments and trailing commas are accepted)\n"
	"      --set KEY=VAL  set one key of the configuration, such as --set spin_us=50\n"
	"      --spin US      the same as --set spin_us=US\n"
	"      --log LEVEL    the same as --set log.level=LEVEL\n"
	"  -q, --quiet        don't say that the program runs on the kernel\n",
};
