/* SPDX-License-Identifier: Apache-2.0 */
/* hal_wrap/hal_pcap.h - a port that writes what passes through another port to a pcapng stream
 *
 * Packets gather in a buffer that is written at flushes, at arm and when half full. What doesn't
 * fit is left out of the capture and counted; traffic never waits. A write error ends the
 * capture, not the traffic. Super-frames appear as one big packet; checksums that a device is to
 * finish appear unfinished, as in every capture on the sending host. All calls on the wrapper
 * come from one thread at a time.
 */
#ifndef NSTACK_HAL_WRAP_HAL_PCAP_H
#define NSTACK_HAL_WRAP_HAL_PCAP_H

#include <nstack/hal.h>

struct hal_pcap_config {
	int fd;           /* taken over: closed at unwrap, close, and when making the wrapper fails */
	uint32_t snaplen; /* bytes kept of a packet; 0 = all */
	uint32_t buffer;  /* bytes; 0 = 4 MB */
};

struct hal_pcap_stats {
	uint64_t packets, dropped; /* written or in the buffer; left out */
	int error;                 /* errno that ended the capture, 0 = none */
};

/* lower stays usable only through the wrapper until it is unwrapped. Closing the wrapper closes
 * lower too. A pipe is made non-blocking. */
int hal_pcap_wrap(struct hal_port **out, struct hal_port *lower, const struct hal_pcap_config *cfg);
/* Ends the capture (flushing the buffer as far as fd takes it); returns lower. */
struct hal_port *hal_pcap_unwrap(struct hal_port *port);
void hal_pcap_stats(struct hal_port *port, struct hal_pcap_stats *out);

#endif
