/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/packet.h - packets from a line of text
 *
 * A packet is a list of words. Layers, outermost first:
 *	mc (group MAC)  vlan=ID  qinq=ID  type=HEX  arp=TARGET
 *	ip4 ip6  hbh dst rt fragh ah  tcp udp icmp=TYPE icmp6=TYPE ns=TARGET  data=BYTES
 * Words that change the layer before them:
 *	s=ADDR d=ADDR (IP)  ver=N ihl=N tot=N frag=HEX opt=BYTES (ip4)  plen=N (ip6)
 *	nh=N (next header or protocol of the layer)  elen=N left=N (extension)
 *	sp=N dp=N (tcp, udp)  ulen=N (udp)  id=N (icmp)
 * And last: cut=N (keep N bytes), chop=N (lose N bytes at the end), pad=N.
 * Lengths and protocol numbers are right unless a word says otherwise. Default addresses are
 * 198.18.0.2 -> 198.18.0.1 and 2001:db8::2 -> 2001:db8::1, ports 1234 -> 80; in an ICMP error's
 * quote the other way round.
 */
#ifndef NSTACK_TESTS_BPF_PACKET_H
#define NSTACK_TESTS_BPF_PACKET_H

#include <stdint.h>

#define PACKET_MAX 65536u

/* Returns the length; aborts on a word it doesn't know. */
uint32_t packet_build(const char *words, uint8_t out[PACKET_MAX]);

#endif
