/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/engine_dpdk.c - a DPDK device, its TAP and the steering between, as a port of the worker
 *
 * The TAP is the interface that all others see: its addresses, its steering tables, its name in status.
 * It is opened first, since who has it has the device, and DPDK would let two processes share some
 * devices to the harm of both.
 *
 * Threads: as engine.c.
 */
#define _GNU_SOURCE
#include "nsocket/engine_dpdk.h"

#include <errno.h>
#include <hal_dpdk/hal_dpdk.h>
#include <hal_wrap/hal_tap.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <nsocket/worker_internal.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/sys.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- devices that the kernel keeps an eye on ------------------------------------------------- */

/* The interface that a driver reads along, "" = none: net_af_packet gets copies of what the kernel takes
 * as well. */
static void shared_interface(const char *device, char ifname[IF_NAMESIZE])
{
	const char *at = strstr(device, ",iface=");
	size_t len = at ? strcspn(at + 7, ",") : 0;

	ifname[0] = 0;
	if (!strncmp(device, "net_af_packet", 13) && len && len < IF_NAMESIZE) {
		memcpy(ifname, at + 7, len);
		ifname[len] = 0;
	}
}

static int setting(const char *family, const char *ifname, const char *name)
{
	char path[128], text[16] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, ifname, name);
	fd = sys_open(path, O_RDONLY, 0);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? atoi(text) : -1;
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

static bool receives_merged(const char *ifname)
{
	struct ethtool_value v = { .cmd = ETHTOOL_GGRO };
	struct ifreq ifr = { .ifr_data = (void *)&v };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool on;

	memcpy(ifr.ifr_name, ifname, IF_NAMESIZE);
	on = s >= 0 && !ioctl(s, SIOCETHTOOL, &ifr) && v.data;
	if (s >= 0)
		close(s);
	return on;
}

/* The kernel must not take the device's packets as well as we: a SYN would be answered twice. */
static int coexistence(const char *device, const char *tap, char why[256])
{
	char ifname[IF_NAMESIZE];

	shared_interface(device, ifname);
	if (!ifname[0] || !if_nametoindex(ifname))
		return 0; /* DPDK says what is wrong with it */
	if (has_address(ifname))
		snprintf(why, 256, "%s has an address, so the kernel answers beside DPDK: give its addresses to %s "
			 "(ip addr flush dev %s)", ifname, tap, ifname);
	else if (setting("ipv4", ifname, "rp_filter") != 1 && setting("ipv4", "all", "rp_filter") != 1)
		snprintf(why, 256, "the kernel takes %s's packets as well as DPDK: sysctl -w "
			 "net.ipv4.conf.%s.rp_filter=1", ifname, ifname);
	else if (setting("ipv6", ifname, "disable_ipv6") == 0)
		snprintf(why, 256, "the kernel takes %s's IPv6 packets as well as DPDK: sysctl -w "
			 "net.ipv6.conf.%s.disable_ipv6=1", ifname, ifname);
	else if (receives_merged(ifname))
		snprintf(why, 256, "%s merges packets to more than DPDK takes: ethtool -K %s gro off", ifname, ifname);
	else
		return 0;
	return -EADDRINUSE;
}

/* --- opening ----------------------------------------------------------------------------------- */

static int device_open(struct hal_port **out, const struct ns_config *c, uint32_t device,
		       const struct hal_tap_config *tc, char why[256])
{
	struct hal_dpdk_config dc = {
		.devices = (const char *const *)c->dpdk.devices,
		.ndevices = c->dpdk.n_devices,
		.device = device,
		.eal = c->dpdk.eal,
		.frames = c->frames,
		.queues = c->queues,
		.rx_ring = c->rx_ring,
		.tx_ring = c->tx_ring,
		.mtu = c->dpdk.mtu,
		.no_super = !c->super_frames,
		.own_fd = tc->own_fd,
		.disown_fd = tc->disown_fd,
	};

	return hal_dpdk_open(out, &dc, why);
}

int engine_dpdk_open(struct worker_port *p, const struct ns_config *c, uint32_t device,
		     int (*own_fd)(void *arg, int fd), void (*disown_fd)(void *arg, int fd))
{
	struct hal_tap_config tc = { .name = p->ifname, .own_fd = own_fd, .disown_fd = disown_fd };
	struct hal_port *lower;
	int err = coexistence(c->dpdk.devices[device], p->ifname, p->why_not);

	if (!err)
		err = hal_tap_open(&p->base, &tc, p->why_not);
	if (err)
		return err;
	p->ifindex = p->base->ifindex;
	err = device_open(&lower, c, device, &tc, p->why_not);
	return err ? err : hal_tap_attach(p->base, lower, c->dpdk.mtu, p->why_not);
}

/* --- steering ---------------------------------------------------------------------------------- */

static void sync_cb(void *arg)
{
	steer_mirror_sync(((struct worker_port *)arg)->mirror);
}

static enum hal_tap_verdict decide_cb(void *arg, const void *data, uint32_t len, uint32_t frame_len)
{
	static const enum hal_tap_verdict verdict[] = { [STEER_PASS] = HAL_TAP_KERNEL, [STEER_DROP] = HAL_TAP_DROP,
							[STEER_STACK] = HAL_TAP_STACK };

	return verdict[steer_mirror_decide(((struct worker_port *)arg)->mirror, data, len, frame_len)];
}

static bool link_cb(void *arg)
{
	return hal_dpdk_link(hal_tap_lower(((struct worker_port *)arg)->base));
}

int engine_dpdk_steer(struct worker_port *p)
{
	struct hal_tap_steer s = { .sync = sync_cb, .decide = decide_cb, .link = link_cb, .arg = p };
	int err = steer_mirror_open(&p->mirror, p->steer);

	if (err) {
		snprintf(p->why_not, sizeof(p->why_not), "%s: its steering tables: %s", p->ifname, strerror(-err));
		return err;
	}
	hal_tap_steer(p->base, &s);
	return 0;
}

void engine_dpdk_forget(struct worker_port *p)
{
	hal_dpdk_forget_after_fork(hal_tap_lower(p->base));
	hal_tap_forget_after_fork(p->base);
}
