/* SPDX-License-Identifier: Apache-2.0 */
/* tools/common.c - options, output, interfaces and privileges for the verbs */
#define _GNU_SOURCE
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <poll.h>
#include <rd/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- options ----------------------------------------------------------------------------------- */

int usage_error(const struct verb *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "nstack %s: ", v->name);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\nusage: nstack %s\n", v->usage);
	va_end(ap);
	return EXIT_USAGE;
}

int fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("nstack: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return EXIT_FAILED;
}

long long number(const char *s, long long min, long long max)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(s, &end, 10);
	return errno || end == s || *end || v < min || v > max ? -1 : v;
}

static const char *opt_at(const void *arg, unsigned i)
{
	return ((const struct opt *)arg)[i].name;
}

static const struct opt *opt_find(const struct opt *opts, const char *word, size_t len)
{
	for (; opts->name; opts++) {
		if (strlen(opts->name) == len && !strncmp(opts->name, word, len))
			return opts;
		if (opts->letter && len == 2 && word[0] == '-' && word[1] == opts->letter)
			return opts;
	}
	return NULL;
}

static int opt_unknown(const struct verb *v, const struct opt *opts, const char *word)
{
	const char *near;
	unsigned n;

	for (n = 0; opts[n].name; n++)
		;
	near = json_nearest(word, opt_at, opts, n);
	usage_error(v, "unknown option \"%s\"%s%s%s", word, near ? "; did you mean \"" : "",
		    near ? near : "", near ? "\"?" : "");
	return -1;
}

int opts_parse(const struct verb *v, const struct opt *opts, bool mix, int argc, char **argv)
{
	int words = 0, i;

	for (i = 1; i < argc; i++) {
		char *word = argv[i], *equals = strchr(word, '=');
		const struct opt *o;
		const char *value;

		if (!strcmp(word, "--")) {
			i++;
			break;
		}
		if (word[0] != '-' || !word[1]) {
			if (!mix)
				break;
			argv[1 + words++] = word;
			continue;
		}
		if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
			printf("usage: nstack %s\n\n%s", v->usage, v->help);
			if (v == &verb_run) {
				puts("\nKeys of the configuration:");
				rd_config_describe(stdout, RD_CONFIG_TEXT);
			}
			exit(0);
		}
		o = opt_find(opts, word, equals ? (size_t)(equals - word) : strlen(word));
		if (!o)
			return opt_unknown(v, opts, word);
		if (o->flag && equals) {
			usage_error(v, "%s takes no value", o->name);
			return -1;
		}
		if (o->flag) {
			*o->flag = true;
			continue;
		}
		value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
		if (!value || (o->many && *o->n_many == OPT_MANY)) {
			usage_error(v, value ? "too many %s" : "%s needs a value", o->name);
			return -1;
		}
		if (o->many)
			o->many[(*o->n_many)++] = value;
		else
			*o->value = value;
	}
	for (; i < argc; i++)
		argv[1 + words++] = argv[i];
	argv[1 + words] = NULL; /* at or below argc: main's argv has room */
	return words;
}

int set_key(cJSON *root, const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	char key[96], *dot;
	cJSON *o = root, *value;

	if (!equals || (size_t)(equals - assignment) >= sizeof(key))
		return -1;
	snprintf(key, sizeof(key), "%.*s", (int)(equals - assignment), assignment);
	dot = strchr(key, '.');
	if (dot) {
		*dot++ = 0;
		o = cJSON_GetObjectItemCaseSensitive(root, key);
		if (!o)
			o = cJSON_AddObjectToObject(root, key);
	}
	value = cJSON_ParseWithOpts(equals + 1, NULL, 1);
	if (!value)
		value = cJSON_CreateString(equals + 1);
	dot = dot ? dot : key;
	cJSON_DeleteItemFromObjectCaseSensitive(o, dot);
	cJSON_AddItemToObject(o, dot, value);
	return 0;
}

/* --- output -------------------------------------------------------------------------------------- */

int print_json(cJSON *o)
{
	char *text = cJSON_Print(o);

	puts(text ? text : "null");
	free(text);
	cJSON_Delete(o);
	return 0;
}

double num(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsNumber(v) ? v->valuedouble : cJSON_IsRaw(v) ? strtod(v->valuestring, NULL) : 0;
}

const char *str(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

bool flag(const cJSON *o, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, key));
}

void text_clean(char *p)
{
	for (; *p; p++) {
		if (((unsigned char)*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f)
			*p = '?';
		else if ((unsigned char)p[0] == 0xc2 && (unsigned char)p[1] >= 0x80 &&
			 (unsigned char)p[1] < 0xa0)
			p[0] = p[1] = '?';
	}
}

static const char *scaled(double v, double base, const char *const *units, char out[16])
{
	unsigned u = 0;

	for (; v >= base * 10 && u < 4; u++)
		v /= base;
	snprintf(out, 16, u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return out;
}

const char *human(double v, char out[16])
{
	static const char *const units[] = { "", "K", "M", "G", "T" };

	scaled(v, 1000, units, out);
	if (out[0] && out[strlen(out) - 1] == ' ')
		out[strlen(out) - 1] = 0;
	return out;
}

const char *human_bytes(double v, char out[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };

	return scaled(v, 1024, units, out);
}

const char *mode_reason(const char *mode, const char *why)
{
	size_t n = strlen(mode);

	return !strncmp(why, mode, n) && !strncmp(why + n, ": ", 2) ? why + n + 2 : why;
}

/* --- interfaces -------------------------------------------------------------------------------------- */

static void iface_driver(int fd, struct iface *i)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, i->name, IF_NAMESIZE);
	ifr.ifr_data = (char *)&info;
	if (!ioctl(fd, SIOCETHTOOL, &ifr))
		snprintf(i->driver, sizeof(i->driver), "%.31s", info.driver);
}

static unsigned iface_queues(const char *name)
{
	char path[96];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", name);
	d = opendir(path);
	if (!d)
		return 0; /* sysfs of another network namespace: unknown */
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "rx-", 3);
	closedir(d);
	return n;
}

static void iface_fill(int fd, struct iface *i, const struct ifaddrs *addrs)
{
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, i->name, IF_NAMESIZE);
	if (!ioctl(fd, SIOCGIFFLAGS, &ifr)) {
		i->up = (ifr.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
		i->loopback = ifr.ifr_flags & IFF_LOOPBACK;
	}
	if (!ioctl(fd, SIOCGIFMTU, &ifr))
		i->mtu = (unsigned)ifr.ifr_mtu;
	for (const struct ifaddrs *a = addrs; a; a = a->ifa_next) {
		if (a->ifa_addr && !strcmp(a->ifa_name, i->name) &&
		    (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6))
			i->has_addr = true;
	}
	iface_driver(fd, i);
	i->rx_queues = iface_queues(i->name);
}

int iface_list(struct iface **out)
{
	struct if_nameindex *names = if_nameindex();
	struct ifaddrs *addrs = NULL;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), n = 0;

	*out = NULL;
	if (!names || fd < 0 || getifaddrs(&addrs)) {
		n = -errno;
		goto done;
	}
	for (n = 0; names[n].if_index; n++)
		;
	*out = calloc((size_t)n + 1, sizeof(**out));
	if (!*out) {
		n = -ENOMEM;
		goto done;
	}
	for (int i = 0; i < n; i++) {
		(*out)[i].ifindex = names[i].if_index;
		snprintf((*out)[i].name, IF_NAMESIZE, "%s", names[i].if_name);
		iface_fill(fd, &(*out)[i], addrs);
	}
done:
	if (fd >= 0)
		close(fd);
	if (addrs)
		freeifaddrs(addrs);
	if (names)
		if_freenameindex(names);
	return n;
}

bool iface_usable(const struct iface *i)
{
	return i->up && !i->loopback && i->has_addr;
}

static const char *iface_name_at(const void *arg, unsigned i)
{
	return ((const struct iface *)arg)[i].name;
}

int iface_by_name(const char *name, unsigned *ifindex)
{
	struct iface *list;
	const char *near;
	int n;

	*ifindex = if_nametoindex(name);
	if (*ifindex)
		return 0;
	n = iface_list(&list);
	near = n > 0 ? json_nearest(name, iface_name_at, list, (unsigned)n) : NULL;
	fail("%s: no such interface%s%s%s", name, near ? "; did you mean \"" : "", near ? near : "",
	     near ? "\"?" : "");
	free(list);
	return -ENODEV;
}

/* --- privileges ---------------------------------------------------------------------------------------- */

static uint64_t caps_effective(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	return syscall(SYS_capget, &h, d) ? 0 : d[0].effective | (uint64_t)d[1].effective << 32;
}

bool cap_have(int cap)
{
	return caps_effective() >> cap & 1;
}

const char *caps_missing(void)
{
	static const struct { int cap; const char *name; } need[] = {
		{ CAP_NET_ADMIN, "CAP_NET_ADMIN" }, { CAP_NET_RAW, "CAP_NET_RAW" },
		{ CAP_BPF, "CAP_BPF" },
	};
	static char missing[128];
	uint64_t have = caps_effective();

	missing[0] = 0;
	for (size_t i = 0; i < sizeof(need) / sizeof(need[0]); i++) {
		if (have >> need[i].cap & 1 ||
		    (need[i].cap == CAP_BPF && have >> CAP_SYS_ADMIN & 1))
			continue;
		snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), "%s%s",
			 missing[0] ? ", " : "", need[i].name);
	}
	return missing;
}

const char *program_of(pid_t pid, char out[32])
{
	char path[48];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	snprintf(out, 32, "?");
	f = fopen(path, "re");
	if (!f)
		return out;
	if (fgets(out, 32, f))
		out[strcspn(out, "\n")] = 0;
	text_clean(out);
	fclose(f);
	return out;
}

bool pid_alive(pid_t pid)
{
	/* kill() would take one for alive that only its parent has not asked about yet */
	int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	bool alive = fd >= 0 && poll(&p, 1, 0) == 0;

	if (fd >= 0)
		close(fd);
	return alive;
}
