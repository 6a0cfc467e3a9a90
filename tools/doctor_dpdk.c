/* SPDX-License-Identifier: Apache-2.0 */
/* tools/doctor_dpdk.c - nstack doctor: is all there that DPDK needs? */
#define _GNU_SOURCE
#include "doctor.h"
#include "tool.h"

#include <errno.h>
#include <hal_dpdk/dpdk_plugin.h>
#include <limits.h>
#include <net/if.h>
#include <rd/config.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where dpdk_load.c finds it in a program: beside the library. */
static void check_plugin(struct report *r)
{
	char lib[PATH_MAX], path[PATH_MAX + sizeof(DPDK_PLUGIN_FILE)];

	if (library_find(lib))
		return; /* has its own finding */
	snprintf(path, sizeof(path), "%.*s" DPDK_PLUGIN_FILE, (int)(strrchr(lib, '/') + 1 - lib), lib);
	if (!access(path, R_OK))
		finding(r, "dpdk", OK, "", "%s", path);
	else
		finding(r, "dpdk", FAIL, "install libdpdk-dev and build again, or set hal to xdp",
			"built without DPDK: %s: %s", path, strerror(errno));
}

static void check_device(struct report *r, const struct ns_config *c, uint32_t i)
{
	char name[64], tap[IF_NAMESIZE], why[HAL_DPDK_WHY];

	if (i < c->n_interfaces)
		snprintf(tap, sizeof(tap), "%s", c->interfaces[i]);
	else
		snprintf(tap, sizeof(tap), "dpdk%u", i);
	snprintf(name, sizeof(name), "dpdk %.50s", c->dpdk.devices[i]);
	if (hal_dpdk_check(c->dpdk.devices[i], tap, why))
		finding(r, name, FAIL, "docs/dpdk.md has what each device takes", "%s", why);
	else if (hal_dpdk_is_steered(c->dpdk.devices[i], tap))
		finding(r, name, OK, "", "nothing in its way; %s stays the kernel's, with the steering program", tap);
	else if (if_nametoindex(tap))
		finding(r, name, OK, "", "nothing in its way; TAP %s is there", tap);
	else
		finding(r, name, WARN, "ip tuntap add NAME mode tap, and its addresses, before the program starts",
			"nothing in its way; TAP %s will be made, without addresses", tap);
}

void check_dpdk(struct report *r)
{
	const struct ns_config *c = rd_config();

	if (c->hal != NS_HAL_DPDK)
		return;
	check_plugin(r);
	if (access("/dev/net/tun", R_OK | W_OK))
		finding(r, "tap", FAIL, "modprobe tun; in a container, give it the device", "/dev/net/tun: %s",
			strerror(errno));
	for (uint32_t i = 0; i < c->dpdk.n_devices; i++)
		check_device(r, c, i);
}
