// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_probe.c - asks the kernel what kind of interface a port is
 *
 * Driver and queue count by ethtool (sysfs shows the wrong namespace to a process that entered
 * one by setns), MAC by ioctl, XDP attach mode by netlink through libbpf. Set-up only.
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int xdp_why(char *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, HAL_XDP_WHY, fmt, ap);
	va_end(ap);
	return err;
}

static int ethtool(int fd, const char *ifname, void *cmd)
{
	struct ifreq ifr = { .ifr_data = cmd };

	strncpy(ifr.ifr_name, ifname, IFNAMSIZ - 1);
	return ioctl(fd, SIOCETHTOOL, &ifr) ? -errno : 0;
}

static uint32_t sysfs_rx_queues(const char *ifname)
{
	char path[64 + IFNAMSIZ];
	struct dirent *de;
	uint32_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", ifname);
	d = opendir(path);
	if (!d)
		return 0;
	while ((de = readdir(d)))
		n += !strncmp(de->d_name, "rx-", 3);
	closedir(d);
	return n;
}

static uint32_t rx_queues(int fd, const char *ifname)
{
	struct ethtool_channels ch = { .cmd = ETHTOOL_GCHANNELS };
	uint32_t n = 0;

	if (!ethtool(fd, ifname, &ch))
		n = ch.rx_count + ch.combined_count;
	if (!n)
		n = sysfs_rx_queues(ifname);
	return n ? n : 1;
}

static int probe(struct xdp_port *p, int fd, char *why)
{
	struct ethtool_drvinfo drv = { .cmd = ETHTOOL_GDRVINFO };
	const char *name = p->cfg.ifname;
	struct ifreq ifr = { 0 };
	uint32_t n;

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCGIFINDEX, &ifr))
		return xdp_why(why, -ENODEV, "there is no interface %s here; see `ip link`", name);
	p->hal.ifindex = ifr.ifr_ifindex;
	if (ioctl(fd, SIOCGIFHWADDR, &ifr))
		return xdp_why(why, -errno, "%s: no hardware address: %s", name, strerror(errno));
	if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return xdp_why(why, -ENOTSUP, "%s is not an Ethernet interface; traffic on it stays "
			       "with the kernel", name);
	memcpy(p->hal.mac, ifr.ifr_hwaddr.sa_data, 6);
	if (!ethtool(fd, name, &drv))
		snprintf(p->driver, sizeof(p->driver), "%.31s", drv.driver);
	n = rx_queues(fd, name);
	if (p->cfg.max_queues && n > p->cfg.max_queues)
		n = p->cfg.max_queues;
	p->hal.nqueues = n > HAL_XDP_QUEUES_MAX ? HAL_XDP_QUEUES_MAX : n;
	return 0;
}

int xdp_probe_interface(struct xdp_port *p, char *why)
{
	int fd, r;

	if (!p->cfg.ifname || !*p->cfg.ifname || strlen(p->cfg.ifname) >= IFNAMSIZ)
		return xdp_why(why, -EINVAL, "an interface name has 1 to %d characters",
			       IFNAMSIZ - 1);
	memcpy(p->hal.ifname, p->cfg.ifname, strlen(p->cfg.ifname) + 1);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return xdp_why(why, -errno, "no socket to ask about %s: %s", p->cfg.ifname,
			       strerror(errno));
	r = probe(p, fd, why);
	close(fd);
	return r;
}

/* Devices whose frames may come from a kernel on this machine, which leaves checksums to a
 * device that isn't there. */
bool xdp_probe_local_peer(const char *driver)
{
	static const char *const local[] = {
		"veth", "virtio_net", "tun", "netkit", "bridge", "macvlan", "ipvlan", "vif",
		"hv_netvsc", "dummy",
	};
	size_t i;

	for (i = 0; i < sizeof(local) / sizeof(*local); i++)
		if (!strcmp(driver, local[i]))
			return true;
	return false;
}

const char *xdp_probe_attached(unsigned ifindex)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, o);

	if (bpf_xdp_query(ifindex, 0, &o))
		return "unknown";
	switch (o.attach_mode) {
	case XDP_ATTACHED_DRV:
		return "native";
	case XDP_ATTACHED_HW:
		return "offloaded";
	case XDP_ATTACHED_SKB:
		return "generic";
	case XDP_ATTACHED_MULTI:
		return o.drv_prog_id ? "native" : "generic";
	}
	return "no program";
}
