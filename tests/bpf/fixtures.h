/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/fixtures.h - packets and what becomes of them: one table for both homes of steer.h
 *
 * The scene (steer_packets.c sets it up):
 *	local addresses   198.18.0.1 198.18.0.9 2001:db8::1, joined groups 239.1.1.1 ff0e::1
 *	instance 1 tcpip  TCP 80, TCP 443, UDP 53, UDP 5353 (both families); TCP 444 on 2001:db8::1
 *	instance 2 lwip   TCP 8080 (IPv4), TCP 8081 (IPv6); TCP 443 and 444 on 198.18.0.9
 *	instance 3 tcpip  TCP 99, but it has no AF_XDP socket
 *	pins (local port 80 unless said, remote .2/::2): port 1000 kernel, 1001 instance 2;
 *	     local 7000 (unclaimed) remote port 1002 instance 1; UDP 53 remote 1000 kernel;
 *	     pings to .2/::2 with id 7: instance 1 (IPv4), 2 (IPv6), with id 8: kernel
 * The link's MTU is 1500. Scenes: PLAIN; RULES_K and RULES_C with the rules below (default kernel, claimant); OWN:
 * 198.18.0.77 and 2001:db8::77 belong to instance 2 wholly; VLAN: tags are steered.
 */
#ifndef NSTACK_TESTS_BPF_FIXTURES_H
#define NSTACK_TESTS_BPF_FIXTURES_H

#include <bpf/steer_rules.h>
#include <stdint.h>

enum scene { PLAIN, RULES_K, RULES_C, OWN, VLAN, SCENES };

struct fixture {
	enum scene scene;
	const char *name;
	const char *packet; /* packet.h */
	enum steer_counter counter;
	unsigned instance; /* with a STACK_ counter */
};

#define S(name, packet, c, i) { SC, name, packet, STEER_C_STACK_##c, i }
#define P(name, packet, c) { SC, name, packet, STEER_C_PASS_##c, 0 }
#define D(name, packet) { SC, name, packet, STEER_C_DROP_RULE, 0 }

static const struct fixture fixtures[] = {
#define SC PLAIN
	/* ordinary */
	S("tcp4", "ip4 tcp", CLAIM, 1),
	S("tcp4 with data", "ip4 tcp data=100", CLAIM, 1),
	S("tcp6", "ip6 tcp", CLAIM, 1),
	S("udp4", "ip4 udp dp=53 data=20", CLAIM, 1),
	S("udp6", "ip6 udp dp=53 data=20", CLAIM, 1),
	S("udp empty", "ip4 udp dp=53", CLAIM, 1),
	S("padding after the packet", "ip4 udp dp=53 pad=18", CLAIM, 1),
	S("padding after tcp6", "ip6 tcp pad=3", CLAIM, 1),
	S("remote port 0", "ip4 udp sp=0 dp=53", CLAIM, 1),
	P("tcp4 unclaimed", "ip4 tcp dp=81", UNCLAIMED),
	P("tcp6 unclaimed", "ip6 tcp dp=81", UNCLAIMED),
	P("udp on a tcp claim", "ip4 udp dp=80", UNCLAIMED),
	P("tcp on a udp claim", "ip4 tcp dp=53", UNCLAIMED),
	P("port 0", "ip4 tcp dp=0", UNCLAIMED),
	P("port 65535", "ip6 udp dp=65535", UNCLAIMED),
	P("source port is the claimed one", "ip4 tcp sp=80 dp=1234", UNCLAIMED),
	P("no socket", "ip4 tcp dp=99", NO_SOCKET),
	S("ipv4-only claim", "ip4 tcp dp=8080", CLAIM, 2),
	P("ipv6 on an ipv4-only claim", "ip6 tcp dp=8080", UNCLAIMED),
	S("ipv6-only claim", "ip6 tcp dp=8081", CLAIM, 2),
	P("ipv4 on an ipv6-only claim", "ip4 tcp dp=8081", UNCLAIMED),
	/* whose address */
	P("not our address", "ip4 d=198.18.0.3 tcp", NOT_LOCAL),
	P("not our address 6", "ip6 d=2001:db8::3 tcp", NOT_LOCAL),
	P("not ours, unclaimed", "ip4 d=198.18.0.3 tcp dp=81", UNCLAIMED),
	P("v4-mapped destination", "ip6 d=::ffff:198.18.0.1 tcp", NOT_LOCAL),
	S("second address", "ip4 d=198.18.0.9 tcp", CLAIM, 1),
	S("claim by address", "ip4 d=198.18.0.9 tcp dp=443", CLAIM, 2),
	S("claim by address, other address", "ip4 tcp dp=443", CLAIM, 1),
	S("only by address", "ip4 d=198.18.0.9 tcp dp=444", CLAIM, 2),
	P("only by address, other address", "ip4 tcp dp=444", UNCLAIMED),
	S("only by address 6", "ip6 tcp dp=444", CLAIM, 1),
	/* groups */
	S("joined group", "mc ip4 d=239.1.1.1 udp dp=5353", CLAIM, 1),
	S("joined group 6", "mc ip6 d=ff0e::1 udp dp=5353", CLAIM, 1),
	P("group not joined", "mc ip4 d=239.1.1.2 udp dp=5353", GROUP),
	P("group not joined 6", "mc ip6 d=ff0e::2 udp dp=5353", GROUP),
	P("joined group, unclaimed", "mc ip4 d=239.1.1.1 udp dp=99", UNCLAIMED),
	P("broadcast", "mc ip4 d=255.255.255.255 udp dp=53", GROUP),
	P("directed broadcast", "mc ip4 d=198.19.255.255 udp dp=53", GROUP),
	P("tcp to a joined group", "mc ip4 d=239.1.1.1 tcp", GROUP),
	P("our address in a group frame", "mc ip4 tcp", GROUP),
	P("our address in a group frame, udp", "mc ip4 udp dp=53", GROUP),
	/* sources */
	P("source 0.0.0.0", "ip4 s=0.0.0.0 tcp", SOURCE),
	P("source 127.0.0.1", "ip4 s=127.0.0.1 tcp", SOURCE),
	P("source multicast", "ip4 s=224.0.0.1 tcp", SOURCE),
	P("source broadcast", "ip4 s=255.255.255.255 udp dp=53", SOURCE),
	P("source is ourselves", "ip4 s=198.18.0.1 tcp sp=80", SOURCE),
	P("source ::", "ip6 s=:: tcp", SOURCE),
	P("source ::1", "ip6 s=::1 tcp", SOURCE),
	P("source multicast 6", "ip6 s=ff02::1 tcp", SOURCE),
	P("source v4-mapped", "ip6 s=::ffff:198.18.0.2 tcp", SOURCE),
	S("source link-local", "ip6 s=fe80::1 tcp", CLAIM, 1),
	/* pins */
	P("pinned to the kernel", "ip4 tcp sp=1000", PINNED),
	P("pinned to the kernel 6", "ip6 tcp sp=1000", PINNED),
	S("pinned to another instance", "ip4 tcp sp=1001", PINNED, 2),
	S("pinned to another instance 6", "ip6 tcp sp=1001", PINNED, 2),
	S("pinned, port unclaimed", "ip4 tcp sp=1002 dp=7000", PINNED, 1),
	P("beside a pin, port unclaimed", "ip4 tcp sp=1003 dp=7000", UNCLAIMED),
	S("beside a pin, other remote", "ip4 s=198.18.0.5 tcp sp=1000", CLAIM, 1),
	S("beside a pin, other local", "ip4 d=198.18.0.9 tcp sp=1000", CLAIM, 1),
	P("udp pinned to the kernel", "ip4 udp sp=1000 dp=53", PINNED),
	/* not IP, or cut */
	P("nothing but addresses", "cut=13", TRUNCATED),
	P("empty frame", "cut=0", TRUNCATED),
	P("bare ethernet header", "type=0800", TRUNCATED),
	P("bare ethernet header 6", "type=86dd", TRUNCATED),
	P("lldp", "type=88cc data=40", NOT_IP),
	P("802.3 length", "type=0026 data=40", NOT_IP),
	P("arp", "arp=198.18.0.1", NOT_IP),
	P("ip4 header cut", "ip4 tcp cut=33", TRUNCATED),
	P("ip4 header alone", "ip4", PROTOCOL),
	P("ip6 header cut", "ip6 tcp cut=53", TRUNCATED),
	P("ip6 header alone", "ip6 nh=6", BAD_LENGTH),
	P("tcp header cut, length honest", "ip4 tcp chop=1 ", BAD_LENGTH),
	P("tcp header of 19 bytes", "ip4 tot=39 tcp", BAD_LENGTH),
	P("tcp header of 0 bytes", "ip4 tot=20 tcp", BAD_LENGTH),
	P("tcp6 header of 19 bytes", "ip6 plen=19 tcp", BAD_LENGTH),
	P("udp header of 7 bytes", "ip4 tot=27 udp dp=53", BAD_LENGTH),
	P("udp6 header of 7 bytes", "ip6 plen=7 udp dp=53", BAD_LENGTH),
	/* lengths that lie */
	P("total length past the frame", "ip4 tot=41 tcp", BAD_LENGTH),
	P("total length 65535", "ip4 tot=65535 tcp", BAD_LENGTH),
	P("total length 0", "ip4 tot=0 tcp", BAD_LENGTH),
	P("total length below the header", "ip4 tot=19 tcp", BAD_LENGTH),
	P("payload length past the frame", "ip6 plen=21 tcp", BAD_LENGTH),
	P("payload length 65535", "ip6 plen=65535 tcp", BAD_LENGTH),
	P("jumbogram", "ip6 plen=0 hbh tcp", BAD_LENGTH),
	P("udp length past the packet", "ip4 udp dp=53 ulen=9", BAD_LENGTH),
	P("udp length 7", "ip4 udp dp=53 ulen=7 data=8", BAD_LENGTH),
	P("udp length 0", "ip6 udp dp=53 ulen=0 data=8", BAD_LENGTH),
	S("udp length below the packet", "ip4 udp dp=53 ulen=10 data=8", CLAIM, 1),
	S("several buffers", "ip4 tcp data=8960", CLAIM, 1),
	S("several buffers 6", "ip6 tcp data=60000", CLAIM, 1),
	P("several buffers, length lies", "ip4 tot=9001 tcp data=8960", BAD_LENGTH),
	/* trains of datagrams */
	S("udp of the link's mtu", "ip4 udp dp=53 data=1472", CLAIM, 1),
	P("udp past the link's mtu", "ip4 udp dp=53 data=1473", UDP_TRAIN),
	S("udp6 of the link's mtu", "ip6 udp dp=53 data=1452", CLAIM, 1),
	P("udp6 past the link's mtu", "ip6 udp dp=53 data=1453", UDP_TRAIN),
	P("udp6 past the link's mtu by options", "ip6 dst udp dp=53 data=1452", UDP_TRAIN),
	P("train of 60 KB", "ip4 udp dp=53 data=60000", UDP_TRAIN),
	P("train of 60 KB, udp6", "ip6 udp dp=53 data=60000", UDP_TRAIN),
	P("train, udp length of one datagram", "ip4 udp dp=53 ulen=108 data=2900", UDP_TRAIN),
	S("udp of the link's mtu and padding", "ip4 udp dp=53 data=1472 pad=18", CLAIM, 1),
	S("mtu by the sum of bytes, not by the frame", "ip4 udp dp=53 data=100 pad=1500", CLAIM, 1),
	P("train, unclaimed", "ip4 udp dp=80 data=3000", UNCLAIMED),
	P("train, pinned to the kernel", "ip4 udp sp=1000 dp=53 data=3000", PINNED),
	P("train to a joined group", "mc ip4 d=239.1.1.1 udp dp=5353 data=3000", UDP_TRAIN),
	S("super-segment", "ip4 tcp data=3000", CLAIM, 1),
	S("error that quotes more than an mtu", "ip4 icmp=3 ip4 udp sp=53 data=3000", ICMP, 1),
	/* ip4 header */
	P("version 5", "ip4 ver=5 tcp", BAD_HEADER),
	P("version 6 in an ip4 frame", "ip4 ver=6 tcp", BAD_HEADER),
	P("ihl 4", "ip4 ihl=4 tcp", BAD_HEADER),
	P("ihl 0", "ip4 ihl=0 tcp", BAD_HEADER),
	P("ihl past the packet", "ip4 ihl=15 tcp", BAD_LENGTH),
	P("ihl leaves no tcp", "ip4 ihl=6 tcp", BAD_LENGTH),
	S("options, 4 bytes", "ip4 opt=4 tcp", CLAIM, 1),
	S("options, 40 bytes", "ip4 opt=40 tcp", CLAIM, 1),
	P("options cut", "ip4 opt=40 tcp cut=50", BAD_LENGTH),
	S("don't fragment", "ip4 frag=4000 tcp", CLAIM, 1),
	P("first fragment", "ip4 frag=2000 tcp", FRAGMENT),
	P("middle fragment", "ip4 frag=2010 tcp", FRAGMENT),
	P("last fragment", "ip4 frag=0010 tcp", FRAGMENT),
	S("reserved fragment bit", "ip4 frag=8000 tcp", CLAIM, 1),
	P("protocol sctp", "ip4 nh=132 tcp", PROTOCOL),
	P("icmpv6 in ipv4", "ip4 icmp6=1 ip4 tcp", PROTOCOL),
	P("icmpv4 in ipv6", "ip6 icmp=3 ip6 tcp", PROTOCOL),
	/* ip6 header and extensions */
	P("version 4 in an ip6 frame", "ip6 ver=4 tcp", BAD_HEADER),
	S("hop-by-hop", "ip6 hbh tcp", CLAIM, 1),
	S("destination options", "ip6 dst tcp", CLAIM, 1),
	S("route that ends here", "ip6 rt tcp", CLAIM, 1),
	P("route with stations left", "ip6 rt left=1 tcp", EXT_HEADERS),
	S("six extension headers", "ip6 hbh dst dst dst dst dst tcp", CLAIM, 1),
	P("seven extension headers", "ip6 hbh dst dst dst dst dst dst tcp", EXT_HEADERS),
	P("twenty extension headers",
	  "ip6 dst dst dst dst dst dst dst dst dst dst dst dst dst dst dst dst dst dst dst dst tcp",
	  EXT_HEADERS),
	P("hop-by-hop not first", "ip6 dst hbh tcp", EXT_HEADERS),
	P("hop-by-hop twice", "ip6 hbh hbh tcp", EXT_HEADERS),
	P("authentication header", "ip6 ah tcp", EXT_HEADERS),
	P("mobility header", "ip6 dst nh=135 tcp", EXT_HEADERS),
	P("esp", "ip6 nh=50 tcp", PROTOCOL),
	P("no next header", "ip6 dst nh=59 tcp", PROTOCOL),
	P("fragment header, first", "ip6 fragh tcp", FRAGMENT),
	P("fragment after options", "ip6 hbh fragh tcp", FRAGMENT),
	P("extension longer than the packet", "ip6 dst elen=255 tcp", BAD_HEADER),
	P("extension eats the tcp header", "ip6 dst elen=2 tcp", BAD_LENGTH),
	P("extension cut", "ip6 plen=4 dst cut=58", TRUNCATED),
	S("long extension", "ip6 dst elen=3 data=24 udp dp=53", CLAIM, 1),
	P("transport past the first buffer", "ip6 dst elen=255 data=2040 dst elen=255 data=2040 tcp",
	  TRUNCATED),
	/* tags, normally left to the kernel */
	P("vlan", "vlan=5 ip4 tcp", VLAN),
	P("priority tag", "vlan=0 ip4 tcp", VLAN),
	P("three tags", "qinq=3 vlan=2 vlan=5 ip4 tcp", VLAN_DEEP),
	/* ICMP */
	P("ping", "ip4 icmp=8 data=40", ICMP_OTHER),
	P("ping 6", "ip6 icmp6=128 data=40", ICMP_OTHER),
	P("ping with an instance's id", "ip4 icmp=8 id=7 data=40", ICMP_OTHER),
	S("answer to our ping", "ip4 icmp=0 id=7 data=40", ECHO, 1),
	S("answer to our ping 6", "ip6 icmp6=129 id=7 data=40", ECHO, 2),
	S("answer without payload", "ip4 icmp=0 id=7", ECHO, 1),
	S("answer behind options", "ip4 opt=8 icmp=0 id=7", ECHO, 1),
	S("answer behind an extension", "ip6 hbh icmp6=129 id=7", ECHO, 2),
	S("answer in several buffers", "ip4 icmp=0 id=7 data=8000", ECHO, 1),
	P("answer to another ping", "ip4 icmp=0 id=9 data=40", ICMP_OTHER),
	P("answer to another ping 6", "ip6 icmp6=129 id=9 data=40", ICMP_OTHER),
	P("answer to a ping of the kernel", "ip4 icmp=0 id=8", ICMP_OTHER),
	P("answer of another host", "ip4 s=198.18.0.3 icmp=0 id=7", ICMP_OTHER),
	P("answer to another address", "ip4 d=198.18.0.9 icmp=0 id=7", ICMP_OTHER),
	P("answer to a group", "mc ip4 icmp=0 id=7", ICMP_OTHER),
	P("answer of the other family's type", "ip4 icmp=129 id=7", ICMP_OTHER),
	P("answer of the other family's type 6", "ip6 icmp6=0 id=7", ICMP_OTHER),
	P("answer of seven bytes", "ip4 tot=27 icmp=0 id=7", BAD_LENGTH),
	P("answer of seven bytes 6", "ip6 plen=7 icmp6=129 id=7", BAD_LENGTH),
	P("answer cut", "ip4 icmp=0 id=7 data=40 chop=41", BAD_LENGTH),
	P("answer in a fragment", "ip4 frag=2000 icmp=0 id=7", FRAGMENT),
	P("answer about a claimed port", "ip4 icmp=0 id=80", ICMP_OTHER),
	P("redirect", "ip4 icmp=5 ip4 tcp", ICMP_OTHER),
	P("source quench", "ip4 icmp=4 ip4 tcp", ICMP_OTHER),
	P("neighbour solicitation", "mc ip6 d=ff02::1:ff00:1 ns=2001:db8::1", ICMP_OTHER),
	P("icmp cut", "ip4 tot=27 icmp=3", BAD_LENGTH),
	S("unreachable for a claimed flow", "ip4 s=198.18.9.9 icmp=3 ip4 tcp", ICMP, 1),
	S("time exceeded", "ip4 icmp=11 ip4 tcp", ICMP, 1),
	S("parameter problem", "ip4 icmp=12 ip4 udp sp=53", ICMP, 1),
	S("unreachable 6", "ip6 icmp6=1 ip6 tcp", ICMP, 1),
	S("packet too big", "ip6 s=2001:db8:9::9 icmp6=2 ip6 tcp", ICMP, 1),
	S("time exceeded 6", "ip6 icmp6=3 ip6 udp sp=53", ICMP, 1),
	S("parameter problem 6", "ip6 icmp6=4 ip6 dst tcp", ICMP, 1),
	S("quote with options", "ip4 icmp=3 ip4 opt=8 tcp", ICMP, 1),
	S("quote of eight bytes", "ip4 tot=56 icmp=3 ip4 tot=1500 tcp cut=70", ICMP, 1),
	S("quoted first fragment", "ip4 icmp=3 ip4 frag=2000 tcp", ICMP, 1),
	S("quote of a pinned flow", "ip4 icmp=3 ip4 tcp dp=1001", ICMP, 2),
	P("quote of a flow of the kernel", "ip4 icmp=3 ip4 tcp dp=1000", PINNED),
	P("quote of an unclaimed flow", "ip4 icmp=3 ip4 tcp sp=81", UNCLAIMED),
	P("quote of an unclaimed flow 6", "ip6 icmp6=1 ip6 tcp sp=81", UNCLAIMED),
	P("quote of a ping", "ip4 icmp=3 ip4 icmp=8", ICMP_QUOTE),
	P("quoted later fragment", "ip4 icmp=3 ip4 frag=2010 tcp", ICMP_QUOTE),
	P("quoted fragment 6", "ip6 icmp6=2 ip6 fragh tcp", ICMP_QUOTE),
	P("quote of seven bytes", "ip4 tot=55 icmp=3 ip4 tot=1500 tcp cut=69", ICMP_QUOTE),
	P("quote without transport", "ip4 icmp=3 ip4 nh=6", ICMP_QUOTE),
	P("quoted header cut", "ip4 tot=47 icmp=3 ip4 tot=1500 tcp cut=61", ICMP_QUOTE),
	P("quoted header cut 6", "ip6 plen=47 icmp6=1 ip6 tcp cut=101", ICMP_QUOTE),
	P("no quote", "ip4 icmp=3", ICMP_QUOTE),
	P("quoted version 6 in icmpv4", "ip4 icmp=3 ip4 ver=6 tcp", ICMP_QUOTE),
	P("quoted version 4 in icmpv6", "ip6 icmp6=1 ip6 ver=4 tcp", ICMP_QUOTE),
	P("quoted ihl 4", "ip4 icmp=3 ip4 ihl=4 tcp", ICMP_QUOTE),
	P("quoted ihl 15", "ip4 icmp=3 ip4 ihl=15 tcp", ICMP_QUOTE),
	P("quote is not from the addressee", "ip4 icmp=3 ip4 s=198.18.0.9 tcp", ICMP_QUOTE),
	P("quote is not from the addressee 6", "ip6 icmp6=1 ip6 s=2001:db8::3 tcp", ICMP_QUOTE),
	P("error for somebody else", "ip4 d=198.18.0.3 icmp=3 ip4 s=198.18.0.3 tcp", NOT_LOCAL),
	P("error in a fragment", "ip4 frag=2000 icmp=3 ip4 tcp", FRAGMENT),
	P("error about an error", "ip4 icmp=3 ip4 icmp=3 ip4 tcp", ICMP_QUOTE),
#undef SC
#define SC RULES_K
	D("rule drops", "ip4 s=198.18.7.7 tcp"),
	D("rule drops 6", "ip6 s=2001:db8:7::7 tcp"),
	D("rule drops, and its icmp error", "ip4 icmp=3 ip4 d=198.18.7.7 tcp"),
	S("rule says stack", "ip4 tcp", RULE, 1),
	S("rule says stack, error follows", "ip4 icmp=3 ip4 tcp", ICMP, 1),
	P("rule names a stack without claim", "ip4 tcp dp=8080", RULE_STACK),
	P("rule says kernel (udp)", "ip4 udp dp=53", RULE),
	P("rule says kernel (udp 6)", "ip6 udp dp=53", RULE),
	S("rule with both addresses 6", "ip6 tcp", RULE, 1),
	P("rule names a stack without claim 6", "ip6 tcp dp=8081", RULE_STACK),
	P("rule by remote port", "ip4 s=198.18.0.2 d=198.18.0.9 tcp sp=6500 dp=443", RULE),
	P("remote port just below", "ip4 s=10.1.1.1 tcp sp=5999 dp=443", RULE),
	S("rule by local address", "ip4 d=198.18.0.9 tcp sp=7000 dp=443", RULE, 2),
	S("rule says claimant", "ip4 s=198.19.200.1 tcp dp=8080", RULE, 2),
	P("no rule matches: kernel", "ip4 s=10.1.1.1 tcp dp=443", RULE),
	P("unclaimed though a rule says stack", "ip4 tcp dp=81", UNCLAIMED),
	P("unclaimed though a rule drops", "ip4 s=198.18.7.7 tcp dp=81", UNCLAIMED),
	P("rule says kernel (udp train)", "ip4 udp dp=53 data=3000", RULE),
	D("rule drops a train", "ip4 s=198.18.7.7 udp dp=53 data=3000"),
	S("a pin is stronger than a rule", "ip4 tcp sp=1001", PINNED, 2),
	P("a pin to the kernel is stronger", "ip4 tcp sp=1000", PINNED),
#undef SC
#define SC RULES_C
	S("no rule matches: claimant", "ip4 s=10.1.1.1 tcp dp=443", CLAIM, 1),
	D("rule drops, default claimant", "ip4 s=198.18.7.255 tcp dp=443"),
	S("just past the dropped prefix", "ip4 s=198.18.8.0 tcp", RULE, 1),
#undef SC
#define SC OWN
	S("own address", "ip4 d=198.18.0.77 tcp dp=9", OWN, 2),
	S("own address 6", "ip6 d=2001:db8::77 udp dp=9", OWN, 2),
	S("own address, ping", "ip4 d=198.18.0.77 icmp=8 data=20", OWN, 2),
	S("own address, fragment", "ip4 d=198.18.0.77 frag=2010 tcp", OWN, 2),
	S("own address, unknown protocol", "ip4 d=198.18.0.77 nh=132 tcp", OWN, 2),
	S("own address, arp", "mc arp=198.18.0.77", OWN, 2),
	P("shared address, arp", "mc arp=198.18.0.1", NOT_IP),
	P("arp cut", "arp=198.18.0.77 cut=41", NOT_IP),
	S("own address, solicitation", "mc ip6 d=ff02::1:ff00:77 ns=2001:db8::77", OWN, 2),
	P("shared address, solicitation", "mc ip6 d=ff02::1:ff00:1 ns=2001:db8::1", ICMP_OTHER),
	P("solicitation cut", "mc ip6 d=ff02::1:ff00:77 plen=20 ns=2001:db8::77 cut=74", ICMP_OTHER),
	P("own address, length lies", "ip4 d=198.18.0.77 tot=65535 tcp", BAD_LENGTH),
	S("shared address beside", "ip4 tcp", CLAIM, 1),
#undef SC
#define SC VLAN
	S("one tag", "vlan=5 ip4 tcp", CLAIM, 1),
	S("one tag, udp of the link's mtu", "vlan=5 ip4 udp dp=53 data=1472", CLAIM, 1),
	P("one tag, train", "vlan=5 ip4 udp dp=53 data=1473", UDP_TRAIN),
	S("two tags", "qinq=3 vlan=5 ip6 tcp", CLAIM, 1),
	P("three tags, steered", "qinq=3 vlan=2 vlan=5 ip4 tcp", VLAN_DEEP),
	P("tag cut", "vlan=5 cut=17", TRUNCATED),
	P("second tag cut", "qinq=3 vlan=5 cut=20", TRUNCATED),
	P("tag, then nothing", "vlan=5 type=0800", TRUNCATED),
	P("tag, unclaimed", "vlan=5 ip4 tcp dp=81", UNCLAIMED),
	P("tag, arp", "vlan=5 arp=198.18.0.1", NOT_IP),
	S("no tag", "ip4 tcp", CLAIM, 1),
#undef SC
};
#undef S
#undef P
#undef D
#define FIXTURES (sizeof(fixtures) / sizeof(fixtures[0]))

static inline const struct steer_rule *fixture_rules(uint32_t *n)
{
#define ANY_PORTS .lport_max = 65535, .rport_max = 65535
#define A4(a, b, c, d) { __builtin_bswap32((unsigned)(a) << 24 | (b) << 16 | (c) << 8 | (d)) }
#define A6(a, b, c) { __builtin_bswap32((unsigned)(a) << 16 | (b)), __builtin_bswap32((unsigned)(c) << 16) }
	static const struct steer_rule rules[] = {
		{ .family = 2, .remote_len = 24, .remote = A4(198, 18, 7, 0),
		  .action = STEER_ACT_DROP, ANY_PORTS },
		{ .family = 2, .remote_len = 16, .remote = A4(198, 18, 0, 0), .lport_min = 80,
		  .lport_max = 80, .rport_max = 65535, .action = STEER_ACT_STACK(5) },
		{ .family = 2, .remote_len = 16, .remote = A4(198, 18, 0, 0), .lport_min = 8080,
		  .lport_max = 8080, .rport_max = 65535, .action = STEER_ACT_STACK(5) },
		{ .proto = 17, .action = STEER_ACT_KERNEL, ANY_PORTS },
		{ .family = 10, .remote_len = 48, .remote = A6(0x2001, 0x0db8, 7),
		  .action = STEER_ACT_DROP, ANY_PORTS },
		{ .family = 10, .remote_len = 32, .remote = A6(0x2001, 0x0db8, 0), .local_len = 128,
		  .local = { __builtin_bswap32(0x20010db8), 0, 0, __builtin_bswap32(1) },
		  .action = STEER_ACT_STACK(5), ANY_PORTS },
		{ .family = 2, .proto = 6, .lport_max = 65535, .rport_min = 6000, .rport_max = 6999,
		  .action = STEER_ACT_KERNEL },
		{ .family = 2, .local_len = 32, .local = A4(198, 18, 0, 9),
		  .action = STEER_ACT_STACK(0), ANY_PORTS },
		{ .family = 2, .remote_len = 16, .remote = A4(198, 19, 0, 0),
		  .action = STEER_ACT_CLAIMANT, ANY_PORTS },
	};

	*n = sizeof(rules) / sizeof(rules[0]);
	return rules;
}

#endif
