/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/ip.h - what only ip.c's own parts need of each other; the rest of the stack uses
 * tcpip_internal.h */
#ifndef NSTACK_STACKS_TCPIP_IP_H
#define NSTACK_STACKS_TCPIP_IP_H

#include "tcpip_internal.h"

/* Packets in d that wait for its neighbour: send, or give up. */
void ip_wait_send(struct tcpip *t, struct ip_dst *d);
void ip_wait_drop(struct tcpip *t, struct ip_dst *d);

#endif
