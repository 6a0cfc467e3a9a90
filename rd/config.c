/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config.c - the table of configuration keys, and the reader driven by it
 *
 * Threads: see config.h; the only state is the process's configuration, set once by
 * rd_config_init(). Not here: what the keys do.
 */
#define _GNU_SOURCE
#include <rd/config.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <rd/json.h>
#include <rd/log.h>
#include <rd/modules.h>
#include <rd/rules.h>
#include <rd/rules_internal.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct ns_config defaults = {
	.hal = NS_HAL_XDP,
	.model = NS_MODEL_AUTO,
	.mode = NS_MODE_AUTO,
	.zero_copy = NS_ZC_AUTO,
	.load = true,
	.frames = 4096,
	.rx_ring = 2048,
	.tx_ring = 2048,
	.super_frames = true,
	.rcvbuf = 4 << 20,
	.sndbuf = 1 << 20,
	.max_sockets = 16384,
	.exit_linger_ms = 2000,
	.congestion = "cubic",
	.tcp = { .syn_cookies = true },
	.daemon = { .workers = 1, .core = { -1 }, .spin_us = -1, .programs = 256 },
	.log_level = -1,
	.log_file = -1,
	.source = (char *)"defaults",
};

enum type { T_U32, T_SIZE, T_POW2, T_BOOL, T_ENUM, T_WORD, T_PATH, T_TEXT, T_IFS, T_RULES, T_STACKS, T_SIGNAL, T_LEVEL, T_FLAG,
	    T_DEVICES, T_LABEL, T_WORKERS, T_SPIN, T_ACCESS };

struct key {
	const char *name;          /* section.name */
	enum type type;
	size_t off;
	uint32_t min, max;
	const char *const *words;  /* T_ENUM, T_WORD: NULL-terminated */
	const char *unit;
	const char *help;
};

static const char *const hal_words[] = { "xdp", "dpdk", NULL };
static const char *const model_words[] = { "auto", "in-process", "daemon", NULL };
static const char *const mode_words[] = { "auto", "generic", "native", NULL };
static const char *const zc_words[] = { "auto", "off", NULL };
static const char *const cc_words[] = { "cubic", "reno", NULL };

#define C(field) offsetof(struct ns_config, field)
static const struct key keys[] = {
	{ "hal", T_ENUM, C(hal), 0, 0, hal_words, NULL,
	  "driver of the packet ports" },
	{ "model", T_ENUM, C(model), 0, 0, model_words, NULL,
	  "where the stack runs: in the program, or in nstackd; auto: in nstackd if one runs in this network "
	  "namespace" },
	{ "interfaces", T_IFS, C(interfaces), 0, 0, NULL, NULL,
	  "network interfaces to use; an empty list means every one with a usable address" },
	{ "mode", T_ENUM, C(mode), 0, 0, mode_words, NULL,
	  "XDP mode; auto takes what serves best on the interface, status says which and why" },
	{ "zero_copy", T_ENUM, C(zero_copy), 0, 0, zc_words, NULL,
	  "zero-copy AF_XDP where the driver has it" },
	{ "load", T_BOOL, C(load), 0, 0, NULL, NULL,
	  "attach the steering program where nobody did (nstack run, and the library itself)" },
	{ "queues", T_U32, C(queues), 0, 64, NULL, NULL,
	  "receive queues used per interface, from the first; 0 = all" },
	{ "frames", T_POW2, C(frames), 512, 1 << 20, NULL, NULL,
	  "packet frames per queue, of 4 KiB each" },
	{ "rx_ring", T_POW2, C(rx_ring), 64, 65536, NULL, NULL, "descriptors of the receive ring" },
	{ "tx_ring", T_POW2, C(tx_ring), 64, 65536, NULL, NULL, "descriptors of the transmit ring" },
	{ "super_frames", T_BOOL, C(super_frames), 0, 0, NULL, NULL,
	  "send bulk data as segments of up to 64 KB that the device or the kernel cuts" },
	{ "spin_us", T_U32, C(spin_us), 0, 1000000, NULL, "us",
	  "how long a waiting thread polls before it sleeps; 0 never burns a core" },
	{ "rcvbuf", T_SIZE, C(rcvbuf), 64 << 10, 64 << 20, NULL, "bytes",
	  "receive buffer of a socket, at most: the window grows towards it with the reader; a power of two" },
	{ "sndbuf", T_SIZE, C(sndbuf), 64 << 10, 64 << 20, NULL, "bytes",
	  "send buffer of a socket; a power of two" },
	{ "max_sockets", T_U32, C(max_sockets), 16, 1 << 20, NULL, NULL,
	  "sockets that the user-space stack serves at once; more are served by the kernel" },
	{ "exit_linger_ms", T_U32, C(exit_linger_ms), 0, 60000, NULL, "ms",
	  "how long the end of the program waits for sent data to leave" },
	{ "congestion", T_WORD, C(congestion), sizeof(defaults.congestion), 0, cc_words, NULL,
	  "TCP congestion control where the program chooses none" },
	{ "rules", T_RULES, C(rules), 0, 0, NULL, NULL,
	  "rules that choose the stack: a list, or the name of a rule file (relative to this file)" },
	{ "stacks", T_STACKS, C(modules), 0, 0, NULL, NULL,
	  "plug-in stacks: a list of objects with \"name\", \"library\" and, where the defaults don't fit, "
	  "\"register\", \"deploy\", \"ep_free_ref\", \"priority\", \"min_fd\", \"max_fd\", \"options\"" },
	{ "module_config", T_PATH, C(module_config), 0, 0, NULL, NULL,
	  "module_config.json of DMM with plug-in stacks; default: environment NSTACK_MOD_CFG_FILE" },
	{ "prefixes", T_PATH, C(prefixes), 0, 0, NULL, NULL,
	  "file with a remote prefix and an action (stack, kernel, drop, a stack's name) on each line, up to a "
	  "million, for what the program connects and sends to" },
	{ "reload_signal", T_SIGNAL, C(reload_signal), 0, 0, NULL, NULL,
	  "signal that re-reads the rule file, such as \"SIGUSR2\"; used only where the program has "
	  "no handler of its own; none = only nstack rules set reloads" },
	{ "faults", T_TEXT, C(faults), 0, 0, NULL, NULL,
	  "faults to inject into received and sent packets, for tests" },
	{ "dump", T_PATH, C(dump), 0, 0, NULL, NULL,
	  "pcapng file that every packet is written to from the start" },
	{ "tcp.syn_cookies", T_BOOL, C(tcp.syn_cookies), 0, 0, NULL, NULL,
	  "answer SYNs beyond the backlog with cookies" },
	{ "tcp.time_wait_max", T_U32, C(tcp.time_wait_max), 0, 1 << 20, NULL, NULL,
	  "connections kept in TIME_WAIT, the oldest give way; 0 = the stack's default" },
	{ "label", T_LABEL, C(label), 0, 0, NULL, NULL,
	  "what nstackd knows the program by, for its list of who may attach; environment NSTACK_LABEL goes "
	  "first" },
	{ "daemon.workers", T_WORKERS, C(daemon.workers), 0, 0, NULL, NULL,
	  "nstackd: how many processes share the work, or a list of cores with one on each" },
	{ "daemon.spin_us", T_SPIN, C(daemon.spin_us), 0, 0, NULL, NULL,
	  "nstackd: how long a worker polls before it sleeps; auto: up to 50 us, while packets come as "
	  "fast as that" },
	{ "daemon.programs", T_U32, C(daemon.programs), 1, 4096, NULL, NULL,
	  "nstackd: how many programs may be attached to a worker at once" },
	{ "daemon.access", T_ACCESS, C(daemon.access), 0, 0, NULL, NULL,
	  "nstackd: who may attach and with which limits; an empty list means everybody" },
	{ "dpdk.devices", T_DEVICES, C(dpdk), 0, 0, NULL, NULL,
	  "with hal dpdk: the devices to use, as \"0000:03:00.0\" or \"net_af_packet0,iface=eth1\"; \"interfaces\" "
	  "then names the TAP devices that are the kernel's side of them, in the same order; of net_af_xdp, the interface itself leaves it to the kernel" },
	{ "dpdk.mtu", T_U32, C(dpdk.mtu), 0, 9600, NULL, "bytes",
	  "MTU of the DPDK devices and their TAPs; 0 = what they have" },
	{ "dpdk.eal", T_TEXT, C(dpdk.eal), 0, 0, NULL, NULL,
	  "further arguments for DPDK's start (EAL), separated by blanks" },
	{ "log.level", T_LEVEL, C(log_level), 0, 0, NULL, NULL,
	  "OFF, EMG, ERR, WAR, INF or DBG; default: environment NSTACK_LOG_ON, else ERR" },
	{ "log.file", T_FLAG, C(log_file), 0, 0, NULL, NULL,
	  "true: into a file, false: to stderr; default: environment NSTACK_LOG_FILE_FLAG, else file" },
	{ "log.path", T_PATH, C(log_path), 0, 0, NULL, NULL,
	  "directory of log files; default: environment NSTACK_APP_LOG_PATH, else /var/log/nStack" },
};
#undef C
#define N_KEYS (sizeof(keys) / sizeof(keys[0]))

/* Those that can be changed while the process runs. */
static const struct { const char *name; enum rd_config_of of; } soft_keys[] = {
	{ "spin_us", RD_CONFIG_OF_PROGRAM }, { "exit_linger_ms", RD_CONFIG_OF_PROGRAM },
	{ "congestion", RD_CONFIG_OF_PROGRAM }, { "tcp.syn_cookies", RD_CONFIG_OF_ALL },
	{ "tcp.time_wait_max", RD_CONFIG_OF_ALL }, { "log.level", RD_CONFIG_OF_ALL },
	{ "daemon.spin_us", RD_CONFIG_OF_DAEMON },
};

/* Whose; 0: it is none. */
static enum rd_config_of is_soft(const struct key *k)
{
	for (size_t i = 0; i < sizeof(soft_keys) / sizeof(soft_keys[0]); i++)
		if (!strcmp(soft_keys[i].name, k->name))
			return soft_keys[i].of;
	return 0;
}

static const struct { const char *name; int sig; } signals[] = {
	{ "none", 0 }, { "SIGHUP", SIGHUP }, { "SIGUSR1", SIGUSR1 }, { "SIGUSR2", SIGUSR2 },
	{ "SIGWINCH", SIGWINCH }, { "SIGURG", SIGURG },
};
#define N_SIGNALS (sizeof(signals) / sizeof(signals[0]))

const struct ns_config *rd_config_defaults(void)
{
	return &defaults;
}

void rd_config_free(struct ns_config *c)
{
	if (!c)
		return;
	if (c->modules)
		rd_modules_clear(c->modules);
	free(c->modules);
	free(c->module_config);
	free(c->rules_path);
	free(c->prefixes);
	free(c->rules);
	free(c->faults);
	free(c->dump);
	free(c->log_path);
	free(c->daemon.access);
	for (uint32_t i = 0; i < c->dpdk.n_devices; i++)
		free(c->dpdk.devices[i]);
	free(c->dpdk.eal);
	free(c->source);
	free(c);
}

/* --- reading one value --------------------------------------------------------------------- */

static const char *type_name(const cJSON *v)
{
	return cJSON_IsString(v) ? "a string" : cJSON_IsNumber(v) ? "a number" :
	       cJSON_IsBool(v) ? "true or false" : cJSON_IsNull(v) ? "null" :
	       cJSON_IsArray(v) ? "a list" : "an object";
}

static int wrong_type(const struct json_doc *d, const struct key *k, const cJSON *v,
		      const char *want, char *err)
{
	return json_error(d, v, err, "\"%s\" must be %s, not %s", k->name, want, type_name(v));
}

int rd_config_size(const cJSON *v, uint64_t *out)
{
	const char *s = v->valuestring;
	unsigned shift = 0;
	int64_t n;
	char *end;

	if (cJSON_IsNumber(v)) {
		if (json_int(v, 0, INT64_MAX / 2, &n))
			return -EINVAL;
		*out = (uint64_t)n;
		return 0;
	}
	if (!cJSON_IsString(v) || !isdigit((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	*out = strtoull(s, &end, 10);
	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	end += shift != 0;
	if (errno || *end || *out > UINT32_MAX)
		return -EINVAL;
	*out <<= shift;
	return 0;
}

static int read_number(const struct json_doc *d, const struct key *k, const cJSON *v, uint32_t *out,
		       char *err)
{
	const char *unit = k->unit ? k->unit : "";
	const char *gap = k->unit ? " " : "";
	int64_t n;

	if (k->type == T_SIZE ? rd_config_size(v, (uint64_t *)&n) :
				json_int(v, -INT64_MAX / 2, INT64_MAX / 2, &n))
		return wrong_type(d, k, v, k->type == T_SIZE ?
				  "a number of bytes (also \"256K\", \"4M\")" : "a whole number", err);
	if (n < k->min || n > k->max)
		return json_error(d, v, err, "\"%s\" is %lld%s%s, but must be between %u and %u",
				  k->name, (long long)n, gap, unit, k->min, k->max);
	if (k->type == T_POW2 && (n & (n - 1)))
		return json_error(d, v, err, "\"%s\" is %lld, but must be a power of two", k->name,
				  (long long)n);
	if (k->type == T_SIZE) {
		while (n & (n - 1))
			n = (n | (n - 1)) + 1;
	}
	*out = (uint32_t)n;
	return 0;
}

static const char *word_at(const void *arg, unsigned i)
{
	return ((const char *const *)arg)[i];
}

static int read_word(const struct json_doc *d, const struct key *k, const cJSON *v, unsigned *out,
		     char *err)
{
	char all[128] = "";
	const char *near;
	unsigned n;

	if (!cJSON_IsString(v))
		return wrong_type(d, k, v, "a string", err);
	for (n = 0; k->words[n]; n++) {
		if (!strcmp(k->words[n], v->valuestring)) {
			*out = n;
			return 0;
		}
		strncat(all, n ? ", " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, k->words[n], sizeof(all) - strlen(all) - 1);
	}
	near = json_nearest(v->valuestring, word_at, k->words, n);
	return json_error(d, v, err, "\"%s\": \"%.40s\" is not one of %s%s%s%s", k->name,
			  v->valuestring, all, near ? "; did you mean \"" : "", near ? near : "",
			  near ? "\"?" : "");
}

static int read_ifs(const struct json_doc *d, const struct key *k, const cJSON *v,
		    struct ns_config *c, char *err)
{
	const cJSON *i;

	if (!cJSON_IsArray(v))
		return wrong_type(d, k, v, "a list of interface names", err);
	cJSON_ArrayForEach(i, v) {
		if (!cJSON_IsString(i) || !i->valuestring[0] ||
		    strlen(i->valuestring) >= IF_NAMESIZE || strpbrk(i->valuestring, "/ \t\n"))
			return json_error(d, i, err, "\"interfaces\": this is not an interface name");
		if (c->n_interfaces == NS_CONFIG_IFS)
			return json_error(d, i, err, "\"interfaces\": at most %d", NS_CONFIG_IFS);
		strcpy(c->interfaces[c->n_interfaces++], i->valuestring);
	}
	return 0;
}

static int read_devices(const struct json_doc *d, const struct key *k, const cJSON *v,
			struct ns_dpdk_config *c, char *err)
{
	const cJSON *i;

	if (!cJSON_IsArray(v))
		return wrong_type(d, k, v, "a list of devices", err);
	cJSON_ArrayForEach(i, v) {
		if (!cJSON_IsString(i) || !i->valuestring[0])
			return json_error(d, i, err, "\"%s\": this is not the name of a device", k->name);
		if (c->n_devices == NS_CONFIG_IFS)
			return json_error(d, i, err, "\"%s\": at most %d", k->name, NS_CONFIG_IFS);
		c->devices[c->n_devices] = strdup(i->valuestring);
		if (!c->devices[c->n_devices])
			return -ENOMEM;
		c->n_devices++;
	}
	return 0;
}

/* A name in the configuration is relative to the configuration's own folder. */
static char *path_beside(const struct json_doc *d, const char *path)
{
	const char *slash = strrchr(d->name, '/');
	char *out;

	if (path[0] == '/' || !slash)
		return strdup(path);
	if (asprintf(&out, "%.*s/%s", (int)(slash - d->name), d->name, path) < 0)
		return NULL;
	return out;
}

static int read_rules(const struct json_doc *d, const struct key *k, const cJSON *v,
		      struct ns_config *c, char *err)
{
	if (cJSON_IsNull(v))
		return 0;
	free(c->rules);
	c->rules = calloc(1, sizeof(*c->rules));
	if (!c->rules)
		return -ENOMEM;
	if (!cJSON_IsString(v)) {
		if (!cJSON_IsArray(v) && !cJSON_IsObject(v))
			return wrong_type(d, k, v, "a list of rules or a file name", err);
		return rd_rules_from_json(d, v, c->rules, err);
	}
	free(c->rules_path);
	c->rules_path = path_beside(d, v->valuestring);
	if (!c->rules_path)
		return -ENOMEM;
	return rd_rules_load(c->rules_path, c->rules, err);
}

static struct rd_modules *modules_of(struct ns_config *c)
{
	if (!c->modules)
		c->modules = calloc(1, sizeof(*c->modules));
	return c->modules;
}

static const char *signal_at(const void *arg, unsigned i)
{
	return signals[i].name;
}

static int read_signal(const struct json_doc *d, const struct key *k, const cJSON *v, int *out,
		       char *err)
{
	const char *near;

	if (!cJSON_IsString(v))
		return wrong_type(d, k, v, "a signal's name", err);
	for (unsigned i = 0; i < N_SIGNALS; i++) {
		if (!strcmp(signals[i].name, v->valuestring)) {
			*out = signals[i].sig;
			return 0;
		}
	}
	near = json_nearest(v->valuestring, signal_at, NULL, N_SIGNALS);
	return json_error(d, v, err, "\"%s\": \"%.20s\" can't be used%s%s%s", k->name, v->valuestring,
			  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int read_value(const struct json_doc *d, const struct key *k, const cJSON *v,
		      struct ns_config *c, char *err)
{
	void *field = (char *)c + k->off;
	unsigned word;
	int ret;

	switch (k->type) {
	case T_U32:
	case T_SIZE:
	case T_POW2:
		return read_number(d, k, v, field, err);
	case T_BOOL:
		if (!cJSON_IsBool(v))
			return wrong_type(d, k, v, "true or false", err);
		*(bool *)field = cJSON_IsTrue(v);
		return 0;
	case T_FLAG:
		if (!cJSON_IsBool(v))
			return wrong_type(d, k, v, "true or false", err);
		*(int *)field = cJSON_IsTrue(v);
		return 0;
	case T_ENUM:
		ret = read_word(d, k, v, &word, err);
		if (!ret)
			memcpy(field, &word, sizeof(word));
		return ret;
	case T_WORD:
		ret = read_word(d, k, v, &word, err);
		if (!ret)
			snprintf(field, k->min, "%s", k->words[word]);
		return ret;
	case T_LEVEL:
		if (!cJSON_IsString(v))
			return wrong_type(d, k, v, "a string", err);
		*(int *)field = ns_log_level_parse(v->valuestring);
		if (*(int *)field >= 0)
			return 0;
		return json_error(d, v, err, "\"log.level\": \"%.20s\" is not one of OFF, EMG, ERR, "
				  "WAR, INF, DBG", v->valuestring);
	case T_TEXT:
	case T_PATH:
		if (cJSON_IsNull(v))
			return 0;
		if (!cJSON_IsString(v))
			return wrong_type(d, k, v, "a string", err);
		free(*(char **)field);
		*(char **)field = k->type == T_PATH ? path_beside(d, v->valuestring) :
				  strdup(v->valuestring);
		return *(char **)field ? 0 : -ENOMEM;
	case T_IFS:
		return read_ifs(d, k, v, c, err);
	case T_DEVICES:
		return read_devices(d, k, v, field, err);
	case T_RULES:
		return read_rules(d, k, v, c, err);
	case T_STACKS:
		return modules_of(c) ? rd_modules_from_json(d, v, c->modules, err) : -ENOMEM;
	case T_SIGNAL:
		return read_signal(d, k, v, field, err);
	case T_LABEL:
		if (!cJSON_IsString(v) || !ns_label_ok(v->valuestring))
			return json_error(d, v, err, "\"label\" must have 1 to %u characters, no space among them",
					  NS_LABEL - 1);
		strcpy(field, v->valuestring);
		return 0;
	case T_WORKERS:
		return ns_daemon_read_workers(d, v, &c->daemon, err);
	case T_SPIN:
		return ns_daemon_read_spin(d, v, &c->daemon, err);
	case T_ACCESS:
		return ns_daemon_read_access(d, v, &c->daemon, err);
	}
	return -EINVAL;
}

/* --- objects ------------------------------------------------------------------------------- */

static const char *key_at(const void *arg, unsigned i)
{
	return keys[i].name;
}

/* For a key on the wrong level: "init_cwnd" is near "tcp.init_cwnd". */
static const char *key_nearest(const char *full)
{
	const char *last = strrchr(full, '.'), *dot;

	last = last ? last + 1 : full;
	for (unsigned i = 0; i < N_KEYS; i++) {
		dot = strrchr(keys[i].name, '.');
		if (!strcmp(dot ? dot + 1 : keys[i].name, last))
			return keys[i].name;
	}
	return json_nearest(full, key_at, NULL, N_KEYS);
}

static bool is_section(const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < N_KEYS; i++) {
		if (!strncmp(keys[i].name, name, len) && keys[i].name[len] == '.')
			return true;
	}
	return false;
}

static int unknown_key(const struct json_doc *d, const cJSON *v, const char *full, char *err)
{
	const char *near = key_nearest(full);

	if (near)
		return json_error(d, v, err, "unknown key \"%.60s\"; did you mean \"%s\"?", full, near);
	return json_error(d, v, err, "unknown key \"%.60s\"", full);
}

static int read_object(const struct json_doc *d, const char *section, const cJSON *o,
		       struct ns_config *c, uint64_t *seen, char *err)
{
	char full[96];
	const cJSON *v;
	unsigned i;
	int ret;

	cJSON_ArrayForEach(v, o) {
		snprintf(full, sizeof(full), "%s%s%s", section, section[0] ? "." : "", v->string);
		for (i = 0; i < N_KEYS && strcmp(keys[i].name, full); i++)
			;
		if (i < N_KEYS) {
			if (*seen & (1ull << i))
				return json_error(d, v, err, "\"%s\" is here for the second time", full);
			*seen |= 1ull << i;
			ret = read_value(d, &keys[i], v, c, err);
		} else if (!section[0] && is_section(full) && strchr(full, '.') == NULL) {
			if (!cJSON_IsObject(v))
				return json_error(d, v, err, "\"%s\" must be an object, not %s", full,
						  type_name(v));
			ret = read_object(d, full, v, c, seen, err);
		} else {
			ret = unknown_key(d, v, full, err);
		}
		if (ret)
			return ret;
	}
	return 0;
}

/* Conditions between keys. */
static int check_whole(const struct json_doc *d, const struct ns_config *c, char *err)
{
	_Static_assert(N_KEYS <= 64, "the mask of keys seen");

	if (c->hal == NS_HAL_DPDK && !c->dpdk.n_devices)
		return json_error(d, cJSON_GetObjectItemCaseSensitive(d->root, "hal"), err,
				  "\"hal\": dpdk needs to be told which: \"dpdk\": { \"devices\": [...] }");
	if (c->hal == NS_HAL_DPDK && c->n_interfaces > c->dpdk.n_devices)
		return json_error(d, cJSON_GetObjectItemCaseSensitive(d->root, "interfaces"), err,
				  "\"interfaces\": %u names for the TAPs of %u DPDK devices", c->n_interfaces,
				  c->dpdk.n_devices);
	if (c->hal == NS_HAL_DPDK && c->daemon.workers > 1)
		return json_error(d, cJSON_GetObjectItemCaseSensitive(d->root, "daemon"), err,
				  "\"daemon.workers\": a DPDK device belongs to one process, so one worker");
	return 0;
}

/* The stacks of a module_config.json, and the one that it has where no rule decides, unless the rules say. */
static int read_modules(struct ns_config *c, char *err)
{
	const char *name;
	int ret = modules_of(c) ? rd_modules_load(c->module_config, c->modules, err) : -ENOMEM;

	name = ret ? "" : c->modules->default_stack;
	if (ret || !name[0] || (c->rules && c->rules->default_given))
		return ret;
	if (!c->rules) {
		c->rules = malloc(sizeof(*c->rules));
		if (!c->rules)
			return -ENOMEM;
		rd_rules_init(c->rules);
	}
	return rd_action_parse(&c->rules->stacks, name, &c->rules->default_action, &c->rules->default_stack);
}

/* seen: the keys that are in it, by their index. */
static int config_from_doc(const struct json_doc *d, struct ns_config **out, uint64_t *seen, char *err)
{
	struct ns_config *c = malloc(sizeof(*c));
	int ret = -ENOMEM;

	if (!c)
		return -ENOMEM;
	*c = defaults;
	c->source = strdup(d->name);
	if (!c->source)
		goto fail;
	if (!cJSON_IsObject(d->root)) {
		ret = json_error(d, d->root, err, "a configuration is an object: { \"key\": value, ... }");
		goto fail;
	}
	*seen = 0;
	ret = read_object(d, "", d->root, c, seen, err);
	if (!ret)
		ret = check_whole(d, c, err);
	if (!ret && c->module_config)
		ret = read_modules(c, err);
	if (ret)
		goto fail;
	*out = c;
	return 0;
fail:
	rd_config_free(c);
	return ret;
}

int rd_config_parse(const char *text, size_t len, const char *name, struct ns_config **out,
		    char err[RD_ERR])
{
	struct json_doc d;
	uint64_t seen;
	int ret = json_parse(&d, text, len, name, err);

	*out = NULL;
	if (!ret)
		ret = config_from_doc(&d, out, &seen, err);
	if (ret && !err[0])
		snprintf(err, RD_ERR, "%s: %s", name, strerror(-ret));
	json_free(&d);
	return ret;
}

int rd_config_load(const char *path, struct ns_config **out, char err[RD_ERR])
{
	struct json_doc d;
	uint64_t seen;
	int ret = json_load(&d, path, err);

	*out = NULL;
	if (!ret)
		ret = config_from_doc(&d, out, &seen, err);
	if (ret && !err[0])
		snprintf(err, RD_ERR, "%s: %s", path, strerror(-ret));
	json_free(&d);
	return ret;
}

/* --- changes --------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_devices(const struct ns_dpdk_config *a, const struct ns_dpdk_config *b)
{
	bool same = a->n_devices == b->n_devices;

	for (uint32_t i = 0; same && i < a->n_devices; i++)
		same = !strcmp(a->devices[i], b->devices[i]);
	return same;
}

static bool same_value(const struct key *k, const struct ns_config *a, const struct ns_config *b)
{
	const void *x = (const char *)a + k->off, *y = (const char *)b + k->off;

	switch (k->type) {
	case T_TEXT:
	case T_PATH:
		return same_text(*(char *const *)x, *(char *const *)y);
	case T_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case T_WORD:
	case T_LABEL:
		return !strcmp(x, y);
	case T_IFS:
		return a->n_interfaces == b->n_interfaces &&
		       !memcmp(a->interfaces, b->interfaces, sizeof(a->interfaces));
	case T_WORKERS:
		return a->daemon.workers == b->daemon.workers &&
		       !memcmp(a->daemon.core, b->daemon.core, a->daemon.workers * sizeof(int));
	case T_DEVICES:
		return same_devices(x, y);
	case T_RULES:
	case T_STACKS:
	case T_ACCESS:
		return true;
	case T_U32:
	case T_SIZE:
	case T_POW2:
	case T_ENUM:
	case T_SIGNAL:
	case T_LEVEL:
	case T_FLAG:
	case T_SPIN:
		return *(const uint32_t *)x == *(const uint32_t *)y;
	}
	return false;
}

void rd_config_fixed_changes(const struct ns_config *a, const struct ns_config *b, char *out, size_t size)
{
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < N_KEYS && n < size; i++)
		if (!is_soft(&keys[i]) && !same_value(&keys[i], a, b))
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", keys[i].name);
}

/* --- the process's configuration ------------------------------------------------------------ */

static const struct ns_config *current = &defaults; /* atomic: rd_config_change() exchanges it once */
static struct ns_config *soft; /* what it is from then on */
/* What it was: readers may have it for ever. (used: leak checkers look for it here.) */
static const struct ns_config *initial __attribute__((used));
static char first_err[RD_ERR];
static int first_ret = 1; /* 1: not yet initialised */

/* DMM's ways to name a rule file, for a configuration that has no rules, and the file of its stacks, whose
 * default is for where no rule decides. */
static int rules_by_environment(struct ns_config *c, char *err)
{
	const char *path = getenv("NSTACK_MOD_CFG_RD");

	if (!path || !path[0] || c->rules)
		return 0;
	c->rules_path = strdup(path);
	c->rules = calloc(1, sizeof(*c->rules));
	return c->rules_path && c->rules ? rd_rules_load(path, c->rules, err) : -ENOMEM;
}

static int modules_by_environment(struct ns_config *c, char *err)
{
	const char *path = getenv("NSTACK_MOD_CFG_FILE");

	if (!path || !path[0] || c->module_config)
		return 0;
	c->module_config = strdup(path);
	return c->module_config ? read_modules(c, err) : -ENOMEM;
}

static int dmm_by_environment(struct ns_config **c, char *err)
{
	int ret = 0;

	if (!getenv("NSTACK_MOD_CFG_RD") && !getenv("NSTACK_MOD_CFG_FILE"))
		return 0;
	if (!*c)
		ret = rd_config_parse("{}", 2, "defaults", c, err);
	if (!ret)
		ret = rules_by_environment(*c, err);
	if (!ret)
		ret = modules_by_environment(*c, err);
	if (ret) {
		rd_config_free(*c);
		*c = NULL;
	}
	return ret;
}

/* *c stays NULL where nothing is said. */
static int by_environment(struct ns_config **c, char *err)
{
	const char *value = getenv("NSTACK_CONFIG");
	int ret = 0;

	if (value && value[strspn(value, " \t\n")] == '{')
		ret = rd_config_parse(value, strlen(value), "NSTACK_CONFIG", c, err);
	else if (value && value[0])
		ret = rd_config_load(value, c, err);
	return ret ? ret : dmm_by_environment(c, err);
}

int rd_config_again(struct ns_config **out, char err[RD_ERR])
{
	int ret;

	*out = NULL;
	ret = by_environment(out, err);
	return ret || *out ? ret : rd_config_parse("{}", 2, defaults.source, out, err);
}

int rd_config_init(char err[RD_ERR])
{
	struct ns_config *c = NULL;

	if (first_ret == 1) {
		first_ret = by_environment(&c, first_err);
		if (c)
			current = c;
	}
	snprintf(err, RD_ERR, "%s", first_err);
	return first_ret;
}

const struct ns_config *rd_config(void)
{
	/* acquire: pairs config.current - the copy is whole */
	return __atomic_load_n(&current, __ATOMIC_ACQUIRE);
}

static void *field_of(const struct key *k, const struct ns_config *c)
{
	return (char *)c + k->off;
}

/* Readers may look at it at the same time; they see the old number or the new one. */
static void soft_store(const struct key *k, const struct ns_config *from)
{
	switch (k->type) {
	case T_BOOL:
		__atomic_store_n((bool *)field_of(k, soft), *(bool *)field_of(k, from), __ATOMIC_RELAXED);
		break;
	case T_WORD: /* readers have the worker lock, too */
		memcpy(field_of(k, soft), field_of(k, from), k->min);
		break;
	case T_LEVEL:
		__atomic_store_n((int *)field_of(k, soft), *(int *)field_of(k, from), __ATOMIC_RELAXED);
		ns_log_set_level(NS_M_NR_, (enum ns_log_level)*(int *)field_of(k, from));
		break;
	default:
		__atomic_store_n((uint32_t *)field_of(k, soft), *(uint32_t *)field_of(k, from), __ATOMIC_RELAXED);
	}
}

static int soft_only(const struct json_doc *d, uint64_t seen, char *err)
{
	for (unsigned i = 0; i < N_KEYS; i++) {
		if (seen & (1ull << i) && !is_soft(&keys[i]))
			return json_error(d, d->root, err, "\"%s\" has effect only when the program starts",
					  keys[i].name);
	}
	return 0;
}

static int soft_init(void)
{
	if (soft)
		return 0;
	soft = malloc(sizeof(*soft));
	if (!soft)
		return -ENOMEM;
	initial = current;
	*soft = *initial;
	/* release: pairs config.current */
	__atomic_store_n(&current, soft, __ATOMIC_RELEASE);
	return 0;
}

int rd_config_change(const char *text, size_t len, const char *name, char err[RD_ERR])
{
	struct json_doc d;
	struct ns_config *c = NULL;
	uint64_t seen = 0;
	int ret = json_parse(&d, text, len, name, err);

	if (!ret)
		ret = config_from_doc(&d, &c, &seen, err);
	if (!ret)
		ret = soft_only(&d, seen, err);
	if (!ret)
		ret = soft_init();
	for (unsigned i = 0; i < N_KEYS && !ret; i++) {
		if (seen & (1ull << i))
			soft_store(&keys[i], c);
	}
	if (ret && !err[0])
		snprintf(err, RD_ERR, "%s", strerror(-ret));
	rd_config_free(c);
	json_free(&d);
	return ret;
}

int rd_config_change_to(const struct ns_config *c)
{
	bool level = c->log_level != rd_config()->log_level;
	int ret = soft_init();

	for (unsigned i = 0; i < N_KEYS && !ret; i++) {
		if (is_soft(&keys[i]) && keys[i].type != T_LEVEL)
			soft_store(&keys[i], c);
	}
	if (ret || !level)
		return ret;
	__atomic_store_n(&soft->log_level, c->log_level, __ATOMIC_RELAXED);
	ns_log_init(soft); /* it may be the environment's again */
	return 0;
}

bool rd_congestion_known(const char *name)
{
	for (const char *const *w = cc_words; *w; w++)
		if (!strcmp(*w, name))
			return true;
	return false;
}

bool rd_config_has_if(const struct ns_config *c, const char *ifname)
{
	for (uint32_t i = 0; i < c->n_interfaces; i++) {
		if (!strcmp(c->interfaces[i], ifname))
			return true;
	}
	return c->n_interfaces == 0;
}

/* --- the table for people -------------------------------------------------------------------- */

/* As JSON; "-": nothing, or not a matter of one value. */
static void describe_value(const struct key *k, const struct ns_config *c, char *out, size_t size)
{
	const void *field = (const char *)c + k->off;
	unsigned word;
	int level;

	switch (k->type) {
	case T_U32:
	case T_SIZE:
	case T_POW2:
		snprintf(out, size, "%u", *(const uint32_t *)field);
		break;
	case T_BOOL:
		snprintf(out, size, "%s", *(const bool *)field ? "true" : "false");
		break;
	case T_ENUM:
		memcpy(&word, field, sizeof(word));
		snprintf(out, size, "\"%s\"", k->words[word]);
		break;
	case T_WORD:
		snprintf(out, size, "\"%s\"", (const char *)field);
		break;
	case T_IFS:
	case T_DEVICES:
	case T_ACCESS:
		snprintf(out, size, "[]");
		break;
	case T_SIGNAL:
		snprintf(out, size, "\"none\"");
		break;
	case T_WORKERS:
		snprintf(out, size, "%u", c->daemon.workers);
		break;
	case T_SPIN:
		snprintf(out, size, c->daemon.spin_us < 0 ? "\"auto\"" : "%d", c->daemon.spin_us);
		break;
	case T_LEVEL:
		memcpy(&level, field, sizeof(level));
		snprintf(out, size, level < 0 ? "-" : "\"%s\"", ns_log_level_name((enum ns_log_level)level));
		break;
	default:
		snprintf(out, size, "-");
	}
}

static void describe_values(const struct key *k, char *out, size_t size)
{
	size_t n = 0;

	out[0] = 0;
	switch (k->type) {
	case T_U32:
	case T_SIZE:
	case T_POW2:
		snprintf(out, size, "%s%u..%u%s%s", k->type == T_POW2 ? "power of two, " : "", k->min,
			 k->max, k->unit ? " " : "", k->unit ? k->unit : "");
		break;
	case T_BOOL:
	case T_FLAG:
		snprintf(out, size, "true, false");
		break;
	case T_ENUM:
	case T_WORD:
		for (unsigned i = 0; k->words[i] && n < size; i++)
			n += (size_t)snprintf(out + n, size - n, "%s\"%s\"", i ? ", " : "", k->words[i]);
		break;
	case T_IFS:
	case T_DEVICES:
		snprintf(out, size, "list of names, at most %d", NS_CONFIG_IFS);
		break;
	case T_RULES:
		snprintf(out, size, "list or file name");
		break;
	case T_STACKS:
		snprintf(out, size, "list, at most %u", RD_MODULES_MAX);
		break;
	case T_WORKERS:
		snprintf(out, size, "1..%u, or a list of cores", NS_WORKERS_MAX);
		break;
	case T_SPIN:
		snprintf(out, size, "\"auto\", 0..1000000 us");
		break;
	case T_ACCESS:
		snprintf(out, size, "list of at most %u entries", NS_ACCESS_MAX);
		break;
	default:
		snprintf(out, size, "string");
	}
}

void rd_config_describe(FILE *f, enum rd_config_format fmt)
{
	char def[64], values[128];

	if (fmt == RD_CONFIG_MARKDOWN)
		fprintf(f, "| key | values | default | meaning |\n| --- | --- | --- | --- |\n");
	for (unsigned i = 0; i < N_KEYS; i++) {
		const struct key *k = &keys[i];

		describe_value(k, &defaults, def, sizeof(def));
		describe_values(k, values, sizeof(values));
		if (fmt == RD_CONFIG_MARKDOWN)
			fprintf(f, "| `%s` | %s | %s | %s |\n", k->name, values, def, k->help);
		else if (fmt == RD_CONFIG_MAN)
			fprintf(f, ".TP\n.B %s\n%s.\nValues: %s. Default: %s.\n", k->name, k->help, values,
				def);
		else
			fprintf(f, "  %-26s %s\n  %-26s (%s; default %s)\n", k->name, k->help, "", values,
				def);
	}
}

bool rd_config_soft(unsigned i, enum rd_config_of of, struct rd_config_soft *out)
{
	for (unsigned k = 0; k < N_KEYS; k++) {
		if (!(is_soft(&keys[k]) & of) || i-- != 0)
			continue;
		out->name = keys[k].name;
		out->help = keys[k].help;
		describe_value(&keys[k], rd_config(), out->value, sizeof(out->value));
		describe_value(&keys[k], &defaults, out->standard, sizeof(out->standard));
		describe_values(&keys[k], out->values, sizeof(out->values));
		return true;
	}
	return false;
}
