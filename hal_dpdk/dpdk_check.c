/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_check.c - what stands in the way of a device, found out before DPDK is asked
 *
 * DPDK's own words are of little help ("Failed to attach device"), and some devices it would take and do
 * harm: net_af_packet gets copies of what the kernel goes on to take, so every SYN is answered twice.
 *
 * Part of the library, without DPDK: the tool asks the same (nstack doctor).
 */
#define _GNU_SOURCE
#include <hal_dpdk/hal_dpdk.h>

#include <errno.h>
#include <ifaddrs.h>
#include <libgen.h>
#include <limits.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((format(printf, 3, 4)))
static int say(char *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, HAL_DPDK_WHY, fmt, ap);
	va_end(ap);
	return err;
}

/* --- NICs ------------------------------------------------------------------------------------ */

/* The driver that has it, "" = none. */
static void pci_driver(const char *folder, char driver[64])
{
	char path[PATH_MAX], link[PATH_MAX] = "";

	snprintf(path, sizeof(path), "%s/driver", folder);
	driver[0] = 0;
	if (readlink(path, link, sizeof(link) - 1) > 0)
		snprintf(driver, 64, "%.63s", basename(link));
}

static int check_pci(const char *device, char *why)
{
	/* mlx4 and mlx5 share the device with DPDK, and hand over what it asks for */
	static const char *const good[] = { "vfio-pci", "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core" };
	int len = (int)strcspn(device, ",");
	char folder[128], group[160], driver[64];

	snprintf(folder, sizeof(folder), "/sys/bus/pci/devices/%s%.*s", strchr(device, ':') == strrchr(device, ':') ?
		 "0000:" : "", len, device);
	if (access(folder, F_OK))
		return say(why, -ENODEV, "there is no PCI device %.*s (dpdk-devbind.py --status lists them)", len, device);
	pci_driver(folder, driver);
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (strcmp(driver, good[i]))
			continue;
		snprintf(group, sizeof(group), "%s/iommu_group", folder);
		if (i == 0 && access(group, F_OK))
			return say(why, -ENODEV, "PCI device %.*s has no IOMMU group: boot with intel_iommu=on or "
				   "amd_iommu=on, or allow vfio's noiommu mode", len, device);
		return 0;
	}
	return say(why, -EBUSY, "PCI device %.*s belongs to %s: dpdk-devbind.py -b vfio-pci %.*s (the kernel loses "
		   "it then)", len, device, driver[0] ? driver : "no driver", len, device);
}

/* --- interfaces that DPDK reads along -------------------------------------------------------- */

static int setting(const char *family, const char *ifname, const char *name)
{
	char path[128];
	int v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, ifname, name);
	f = fopen(path, "re");
	if (f && fscanf(f, "%d", &v) != 1)
		v = -1;
	if (f)
		fclose(f);
	return v;
}

static bool has_address(const char *ifname)
{
	struct ifaddrs *list, *ia;
	bool found = false;

	if (getifaddrs(&list))
		return false;
	for (ia = list; ia; ia = ia->ifa_next)
		found |= !strcmp(ia->ifa_name, ifname) && ia->ifa_addr && ia->ifa_addr->sa_family == AF_INET;
	freeifaddrs(list);
	return found;
}

/* Has the driver answered? */
static bool ethtool(const char *ifname, void *cmd)
{
	struct ifreq ifr = { .ifr_data = cmd };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool done;

	memcpy(ifr.ifr_name, ifname, IF_NAMESIZE);
	done = s >= 0 && !ioctl(s, SIOCETHTOOL, &ifr);
	if (s >= 0)
		close(s);
	return done;
}

static bool receives_merged(const char *ifname)
{
	struct ethtool_value v = { .cmd = ETHTOOL_GGRO };

	return ethtool(ifname, &v) && v.data;
}

/* net_af_xdp: what comes by a queue that it has not opened is the kernel's, which knows nothing of it. */
static int check_queues(const char *device, const char *ifname, char *why)
{
	struct ethtool_channels ch = { .cmd = ETHTOOL_GCHANNELS };
	uint32_t got = hal_dpdk_queue_count(device), n;

	if (!ethtool(ifname, &ch))
		return 0;
	n = ch.rx_count + ch.combined_count;
	if (n <= got)
		return 0;
	return say(why, -EINVAL, "%s has %u receive queues, of which DPDK would get %u: ethtool -L %s %s %u, or "
		   "queue_count=%u", ifname, n, got, ifname, ch.combined_count ? "combined" : "rx", got, n);
}

static int check_interface(const char *device, char ifname[IF_NAMESIZE], char *why)
{
	if (!hal_dpdk_iface(device, ifname)[0] || if_nametoindex(ifname))
		return 0; /* none: DPDK says what it thinks of that */
	return say(why, -ENODEV, "there is no interface %s for \"%.60s\"", ifname, device);
}

/* net_af_packet: the kernel gets all packets as well. */
static int check_shared(const char *ifname, const char *tap, char *why)
{
	if (has_address(ifname))
		return say(why, -EADDRINUSE, "%s has an address, so the kernel answers beside DPDK: give its addresses "
			   "to %s (ip addr flush dev %s)", ifname, tap, ifname);
	if (setting("ipv4", ifname, "rp_filter") != 1 && setting("ipv4", "all", "rp_filter") != 1)
		return say(why, -EADDRINUSE, "the kernel takes %s's packets as well as DPDK: sysctl -w "
			   "net.ipv4.conf.%s.rp_filter=1", ifname, ifname);
	if (setting("ipv6", ifname, "disable_ipv6") == 0)
		return say(why, -EADDRINUSE, "the kernel takes %s's IPv6 packets as well as DPDK: sysctl -w "
			   "net.ipv6.conf.%s.disable_ipv6=1", ifname, ifname);
	if (receives_merged(ifname))
		return say(why, -EMSGSIZE, "%s merges packets to more than DPDK takes: ethtool -K %s gro off", ifname,
			   ifname);
	return 0;
}

int hal_dpdk_check(const char *device, const char *tap, char why[HAL_DPDK_WHY])
{
	char ifname[IF_NAMESIZE];
	bool packet = !strncmp(device, "net_af_packet", 13);
	int err;

	why[0] = 0;
	if (hal_dpdk_is_pci(device))
		return check_pci(device, why);
	if (!packet && strncmp(device, "net_af_xdp", 10))
		return 0;
	err = check_interface(device, ifname, why);
	if (err || !ifname[0])
		return err;
	return packet ? check_shared(ifname, tap, why) : check_queues(device, ifname, why);
}
