/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/inject.h - packets to the kernel as if they had come from the peer
 *
 * By a raw socket with headers of our own, over the loopback, where no steering program sees them.
 * Needs CAP_NET_RAW. 0 or -errno; that it was sent does not say that a socket took it.
 */
#ifndef NSOCKET_INJECT_H
#define NSOCKET_INJECT_H

#include <nstack/addr.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* May we? */
bool inject_able(int family);
/* The sockets for it are opened once and kept, for when the privilege is gone. Not beside other calls here. */
void inject_keep(void);
void inject_after_fork_child(void);

struct inject_tcp {
	struct nst_addr from, to; /* with ports */
	uint32_t seq, ack;
	uint32_t wnd;             /* as in the header: scaled */
	uint32_t ts_val, ts_ecr;  /* with ts */
	bool ts, fin, rst, urg;   /* urg: the first byte is urgent */
	const void *data;
	uint32_t len;             /* <= INJECT_TCP_MAX */
};
#define INJECT_TCP_MAX 32768u
int inject_tcp(const struct inject_tcp *g);

#define INJECT_UDP_MAX 65507u
int inject_udp(const struct nst_addr *from, const struct nst_addr *to, uint8_t tos, uint8_t ttl,
	       const void *data, uint32_t len);

#endif
