/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/probe.h - waiting until what a call sent has done its work on the other side
 *
 * A pair of UDP sockets beside those of the test: what a step sent has arrived when the datagram sent
 * after it has, and so has what the other side answered at once when the next one comes back.
 */
#ifndef TESTS_ORACLE_PROBE_H
#define TESTS_ORACLE_PROBE_H

#include "oracle.h"

static inline int probe_open(int port_index)
{
	int fd = o_udp_connected(port_index, port_index);

	o_poll(fd, POLLIN); /* see o_sync() */
	return fd;
}

/* Both sides call it; mine: this side's packets are to arrive, the other one may not be heard. */
static inline void probe_arrive(int probe, bool mine)
{
	char c = 0;

	if (mine)
		send(probe, &c, 1, 0);
	else if (!o_wait(probe, POLLIN) || recv(probe, &c, 1, 0) != 1)
		o_fail("the probe does not arrive");
}

/* Both sides call it; acted: this side's packets are to arrive. */
static inline void probe_settle(int probe, bool acted)
{
	for (int turn = 0; turn < 2; turn++)
		probe_arrive(probe, acted == !turn);
}

#endif
