/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/hub/hub.h - what the hub and its adapters in programs say to each other
 *
 * An example of a stack in a process of its own whose plug-in reaches it by means of its own (the DMM manual's
 * model type 2): nstack knows nothing of this file.
 *
 * A program connects to the hub's SOCK_SEQPACKET socket and is given a struct hub_hello with two descriptors:
 * the memory that both map, and a socket on which the hub sends struct hub_event. Then each struct hub_msg on
 * the first socket is answered by one, but HUB_KICK, which has no answer. Bytes pass by the rings in memory: a
 * socket has a slot, the program fills `tx` and empties `rx`, the hub the other way round.
 *
 * The hub believes no program: it keeps what it writes itself in memory of its own, reads the other's counter
 * once, and ends who goes beyond the ring.
 *
 * Ordering: hub.ring - bytes are written before `head`, and read before `tail`.
 */
#ifndef STACKS_HUB_H
#define STACKS_HUB_H

#include <stacks/loop/in_memory.h>

#define HUB_VERSION 1u
#define HUB_SOCKS 64u    /* of one program */
#define HUB_RING 16384u  /* bytes; a power of two */
#define HUB_QUEUE 32u    /* connections that wait for accept() */

struct hub_ring {
	uint32_t head; /* atomic: written by who fills, free running */
	uint32_t tail; /* atomic: written by who empties */
	uint8_t data[HUB_RING];
};

/* state */
#define HUB_CONNECTED 1u
#define HUB_LISTENS 2u
#define HUB_END 4u  /* what is in rx is the last */
#define HUB_GONE 8u /* nobody takes what is sent */

struct hub_slot {
	uint32_t state;   /* atomic: hub */
	uint32_t waiting; /* atomic: hub; connections that wait for accept() */
	uint32_t blocked; /* atomic: set by the hub that has more for rx, taken back by the program's kick */
	struct hub_ring tx, rx;
};

struct hub_memory {
	struct hub_slot slot[HUB_SOCKS];
};

struct hub_hello {
	uint32_t version, memory_size;
};

enum hub_op {
	HUB_SOCKET,   /* answer: sock */
	HUB_BIND,     /* local; answer: local, with its port */
	HUB_LISTEN,   /* backlog */
	HUB_CONNECT,  /* remote; answer: local */
	HUB_ACCEPT,   /* answer: sock, local, remote; -EAGAIN */
	HUB_SHUTDOWN, /* nothing more will be sent */
	HUB_CLOSE,
	HUB_KICK,     /* there is something in tx, or room in rx */
};

struct hub_msg {
	uint32_t op, sock;
	int32_t result; /* of answers: 0 or -errno */
	uint32_t backlog;
	struct mem_addr local, remote;
};

struct hub_event {
	uint32_t sock, events; /* EPOLLIN... */
};

/* Copy between a ring and a buffer, at a counter's place. */
static inline void hub_ring_put(struct hub_ring *r, uint32_t at, const void *buf, uint32_t n)
{
	uint32_t off = at % HUB_RING, first = n < HUB_RING - off ? n : HUB_RING - off;

	memcpy(r->data + off, buf, first);
	memcpy(r->data, (const uint8_t *)buf + first, n - first);
}

static inline void hub_ring_get(const struct hub_ring *r, uint32_t at, void *buf, uint32_t n)
{
	uint32_t off = at % HUB_RING, first = n < HUB_RING - off ? n : HUB_RING - off;

	memcpy(buf, r->data + off, first);
	memcpy((uint8_t *)buf + first, r->data, n - first);
}

#endif
