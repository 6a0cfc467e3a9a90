/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/file.h - what client_file and server_file agree on */
#ifndef DMM_FILE_H
#define DMM_FILE_H

#include "dmm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A datagram; number: 0.. in the sender's byte order, which is the receiver's. */
struct file_piece {
	uint32_t number;
	uint8_t data[];
};
#define FILE_TRIES 100 /* of 100 ms */

static inline bool file_by_udp(const struct dmm_options *o)
{
	return !strcmp(o->rest[0], "udp");
}

/* Checks what stands behind the options; ends the program if it is wrong. */
static inline const char *file_name(const struct dmm_options *o)
{
	bool udp = o->rest[0] && !strcmp(o->rest[0], "udp");

	if (!o->rest[0] || !o->rest[1] || o->rest[2] || (!udp && strcmp(o->rest[0], "tcp"))) {
		fputs("wanted: [options] tcp|udp FILE\n", stderr);
		exit(2);
	}
	if (udp && o->len > 65000) {
		fputs("-l: a datagram has at most 65000 bytes\n", stderr);
		exit(2);
	}
	return o->rest[1];
}

#endif
