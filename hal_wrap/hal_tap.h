/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_tap.h - a port whose other packets go to the kernel, by a TAP device
 *
 * For a driver that takes all packets of a device away from the kernel. The TAP is the kernel's face of
 * the device: it has its MAC address, and addresses, routes, ARP, ping and everybody else's sockets live
 * there. Each received packet is asked about; what is not the stack's is written to the TAP, and what
 * the kernel sends by the TAP is sent by the device. The port has the TAP's name and index.
 *
 * In the port's statistics, packets that the TAP did not take are rx_dropped of queue 0, and those that the
 * device did not take from the TAP tx_errors.
 *
 * One process has a TAP at a time. A TAP that was there before (`ip tuntap add`) stays, with its
 * addresses, when the port is closed; one that wasn't goes.
 */
#ifndef NSTACK_HAL_WRAP_HAL_TAP_H
#define NSTACK_HAL_WRAP_HAL_TAP_H

#include <nstack/hal.h>

#define HAL_TAP_WHY 256

enum hal_tap_verdict { HAL_TAP_KERNEL, HAL_TAP_STACK, HAL_TAP_DROP };

struct hal_tap_config {
	const char *name;  /* of the TAP device; may be a pattern as "dpdk%d" */
	/* As in struct hal_xdp_config; may be NULL. */
	int (*own_fd)(void *arg, int fd);
	void (*disown_fd)(void *arg, int fd);
	void *arg;
};

/* The TAP alone, before the device is touched: whoever has it has the device. Nothing moves until
 * hal_tap_attach(). 0 or -errno and a line in why; -EBUSY: another process has it. */
int hal_tap_open(struct hal_port **out, const struct hal_tap_config *cfg, char why[HAL_TAP_WHY]);

/* The device under it, given away also when this fails: hal_close() of the port closes both. mtu: the TAP gets it too, 0 = its own stays. */
int hal_tap_attach(struct hal_port *tap, struct hal_port *lower, uint32_t mtu, char why[HAL_TAP_WHY]);

/* Who decides: sync() before each burst, decide() for each packet (data: its first len bytes of frame_len).
 * Until it is set, all packets are the kernel's. */
struct hal_tap_steer {
	void (*sync)(void *arg);
	enum hal_tap_verdict (*decide)(void *arg, const void *data, uint32_t len, uint32_t frame_len);
	bool (*link)(void *arg); /* is there a link? Asked once a second; may be NULL */
	void *arg;
};
void hal_tap_steer(struct hal_port *tap, const struct hal_tap_steer *s);

/* In the child after fork(): forgets the TAP and the device. The port then is a dead stub. */
void hal_tap_forget_after_fork(struct hal_port *tap);

#endif
