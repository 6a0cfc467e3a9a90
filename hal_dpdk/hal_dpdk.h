/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/hal_dpdk.h - a DPDK device as a struct hal_port
 *
 * DPDK is in a plug-in of its own (libnstack_dpdk.so), which the first hal_dpdk_open() of a process
 * loads: nothing else links it. Only the device is opened here. What belongs to the kernel of what it
 * receives is another's business (hal_wrap/hal_tap.h).
 *
 * A device belongs to one process. DPDK can be started once in a process, and its memory is shared with
 * forked children, so a child of a process that uses it can't.
 */
#ifndef NSTACK_HAL_DPDK_H
#define NSTACK_HAL_DPDK_H

#include <nstack/hal.h>
#include <stdio.h>
#include <string.h>

#define HAL_DPDK_WHY 256
#define HAL_DPDK_DEVICES_MAX 16

/* Zero or NULL everywhere but devices is a good choice. */
struct hal_dpdk_config {
	/* All devices that the process will open, in DPDK's words: "net_af_packet0,iface=eth1" or
	 * "0000:03:00.0". Which of them may be touched at all is settled when DPDK starts. */
	const char *const *devices;
	uint32_t ndevices;
	uint32_t device;    /* index of the one to open now */
	const char *ifname; /* the kernel's interface whose packets these are; NULL = "dpdkN", and no index */
	const char *eal;    /* more arguments for rte_eal_init(), separated by blanks */
	uint32_t frames;    /* packet buffers per queue; 4096 */
	uint32_t queues;    /* receive queues, filled by RSS; 1 */
	uint32_t rx_ring;   /* descriptors; 1024 */
	uint32_t tx_ring;   /* descriptors; 1024 */
	uint32_t mtu;       /* 0 = what the device has */
	bool no_super;      /* no super-frames, though the device can cut them */
	/* As in struct hal_xdp_config, but own_fd sees numbers that can't change any more: it gets the
	 * chance to name a high one before DPDK opens any. */
	int (*own_fd)(void *arg, int fd);
	void (*disown_fd)(void *arg, int fd);
	void *arg;
};

/* 0 or -errno; then why has one line that names the cause and what to do about it. Takes about 0.3 s the
 * first time. -ENOSYS: the plug-in is not installed. */
int hal_dpdk_open(struct hal_port **out, const struct hal_dpdk_config *cfg, char why[HAL_DPDK_WHY]);

/* Can the device be opened, as far as can be told without DPDK? tap: the kernel's side of it, for people.
 * 0, or -errno and a line in why that says what to do. */
int hal_dpdk_check(const char *device, const char *tap, char why[HAL_DPDK_WHY]);
static inline bool hal_dpdk_is_pci(const char *device)
{
	unsigned domain, bus, slot, fn;

	return sscanf(device, "%x:%x:%x.%x", &domain, &bus, &slot, &fn) == 4 ||
	       sscanf(device, "%x:%x.%x", &bus, &slot, &fn) == 3;
}

/* The interface that a virtual device is made on (its iface=), "" = none. */
static inline const char *hal_dpdk_iface(const char *device, char ifname[IF_NAMESIZE])
{
	const char *at = strstr(device, ",iface=");
	size_t len = at ? strcspn(at + 7, ",") : 0;

	snprintf(ifname, IF_NAMESIZE, "%.*s", len < IF_NAMESIZE ? (int)len : 0, at ? at + 7 : "");
	return ifname;
}

/* Queues that net_af_xdp opens (its queue_count=). */
static inline uint32_t hal_dpdk_queue_count(const char *device)
{
	const char *at = strstr(device, ",queue_count=");
	unsigned n;

	return at && sscanf(at, ",queue_count=%u", &n) == 1 ? n : 1;
}

/* Is the interface itself to be the kernel's side, without a TAP? Only net_af_xdp can be told which packets are the
 * kernel's. */
static inline bool hal_dpdk_is_steered(const char *device, const char *ifname)
{
	char iface[IF_NAMESIZE];

	return !strncmp(device, "net_af_xdp", 10) && !strcmp(hal_dpdk_iface(device, iface), ifname);
}

/* The sockets that the driver receives from (AF_XDP, AF_PACKET), in the order of the queues; how many there are,
 * up to n. They stay the port's. */
uint32_t hal_dpdk_sockets(struct hal_port *port, int *fds, uint32_t n);

/* Calls fn once, soon, in the thread that DPDK has started. False: it has none, or can't. */
bool hal_dpdk_thread_call(void (*fn)(void));

/* In the child after fork(), before anything else: the port becomes a dead stub, and this process can't
 * open another. */
void hal_dpdk_forget_after_fork(struct hal_port *port);

/* Is the device up and its link there? Any thread. */
bool hal_dpdk_link(struct hal_port *port);

#endif
