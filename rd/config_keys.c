/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config_keys.c - the table of configuration keys, and what people are told of it
 *
 * Constant data; any thread.
 */
#define _GNU_SOURCE
#include <rd/config_internal.h>

#include <rd/log.h>
#include <rd/modules.h>
#include <stdlib.h>
#include <string.h>

const struct ns_config config_defaults = {
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

static const char *const hal_words[] = { "xdp", "dpdk", NULL };
static const char *const model_words[] = { "auto", "in-process", "daemon", NULL };
static const char *const mode_words[] = { "auto", "generic", "native", NULL };
static const char *const zc_words[] = { "auto", "off", NULL };
static const char *const cc_words[] = { "cubic", "reno", NULL };

#define C(field) offsetof(struct ns_config, field)
const struct config_key config_keys[] = {
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
	{ "congestion", T_WORD, C(congestion), sizeof(config_defaults.congestion), 0, cc_words, NULL,
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
const unsigned config_nkeys = sizeof(config_keys) / sizeof(config_keys[0]);
_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= 64, "the mask of keys seen");

/* Those that can be changed while the process runs. */
static const struct { const char *name; enum rd_config_of of; } soft_keys[] = {
	{ "spin_us", RD_CONFIG_OF_PROGRAM }, { "exit_linger_ms", RD_CONFIG_OF_PROGRAM },
	{ "congestion", RD_CONFIG_OF_PROGRAM }, { "tcp.syn_cookies", RD_CONFIG_OF_ALL },
	{ "tcp.time_wait_max", RD_CONFIG_OF_ALL }, { "log.level", RD_CONFIG_OF_ALL },
	{ "daemon.spin_us", RD_CONFIG_OF_DAEMON },
};

/* Whose; 0: it is none. */
enum rd_config_of config_key_soft(const struct config_key *k)
{
	for (size_t i = 0; i < sizeof(soft_keys) / sizeof(soft_keys[0]); i++)
		if (!strcmp(soft_keys[i].name, k->name))
			return soft_keys[i].of;
	return 0;
}

const struct ns_config *rd_config_defaults(void)
{
	return &config_defaults;
}

bool rd_congestion_known(const char *name)
{
	for (const char *const *w = cc_words; *w; w++)
		if (!strcmp(*w, name))
			return true;
	return false;
}

/* --- the table for people -------------------------------------------------------------------- */

/* As JSON; "-": nothing, or not a matter of one value. */
static void describe_value(const struct config_key *k, const struct ns_config *c, char *out, size_t size)
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

static void describe_values(const struct config_key *k, char *out, size_t size)
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
	for (unsigned i = 0; i < config_nkeys; i++) {
		const struct config_key *k = &config_keys[i];

		describe_value(k, &config_defaults, def, sizeof(def));
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
	for (unsigned k = 0; k < config_nkeys; k++) {
		if (!(config_key_soft(&config_keys[k]) & of) || i-- != 0)
			continue;
		out->name = config_keys[k].name;
		out->help = config_keys[k].help;
		describe_value(&config_keys[k], rd_config(), out->value, sizeof(out->value));
		describe_value(&config_keys[k], rd_config_defaults(), out->standard, sizeof(out->standard));
		describe_values(&config_keys[k], out->values, sizeof(out->values));
		return true;
	}
	return false;
}
