/* SPDX-License-Identifier: Apache-2.0 */
/* tools/dump_filter.h - copies the wanted packets of a growing pcapng file */
#ifndef NSTACK_TOOLS_DUMP_FILTER_H
#define NSTACK_TOOLS_DUMP_FILTER_H

#include <stdbool.h>
#include <stdint.h>

struct dump_filter {
	uint64_t max_packets; /* 0 = no bound */
	uint16_t port;        /* host byte order; 0 = all */
	uint8_t proto;        /* IPPROTO_TCP, IPPROTO_UDP; 0 = all */
	uint8_t family;       /* of the host: AF_INET, AF_INET6; 0 = all */
	uint8_t host[16];     /* from or to this address */
	int in, out;          /* a memfd that somebody writes pcapng blocks into; the result */
	uint64_t offset;      /* read so far */
	uint64_t packets;     /* copied */
};

/* Set the conditions first. 0, or -1 and errno. */
int dump_filter_open(struct dump_filter *f, int out);
/* Copy what has come since the last call. 1: the bound is reached; 0; -1 and errno. */
int dump_filter_run(struct dump_filter *f);
void dump_filter_close(struct dump_filter *f);

/* Does an Ethernet frame meet the conditions? Fragments behind the first meet no port. */
bool dump_filter_match(const struct dump_filter *f, const uint8_t *frame, uint32_t len);

#endif
