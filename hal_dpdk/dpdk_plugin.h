/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_plugin.h - what libnstack_dpdk.so exports: one symbol
 *
 * Both sides are built and installed together; the version tells a stale file.
 */
#ifndef NSTACK_HAL_DPDK_PLUGIN_H
#define NSTACK_HAL_DPDK_PLUGIN_H

#include <hal_dpdk/hal_dpdk.h>

#define DPDK_PLUGIN_FILE "libnstack_dpdk.so"
#define DPDK_PLUGIN_SYMBOL "nstack_dpdk_plugin"
#define DPDK_PLUGIN_VERSION 1u

struct dpdk_plugin {
	uint32_t version;
	uint32_t config_size; /* of struct hal_dpdk_config */
	int (*open)(struct hal_port **out, const struct hal_dpdk_config *cfg, char *why);
	void (*forget)(struct hal_port *port);
	bool (*link)(struct hal_port *port);
	uint32_t (*sockets)(struct hal_port *port, int *fds, uint32_t n);
	bool (*thread_call)(void (*fn)(void));
};

#endif
