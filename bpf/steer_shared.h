/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_shared.h - layouts of the steering tables, for the XDP program and user space alike
 *
 * Included by clang -target bpf and by C: fixed-size kernel types only, explicit padding, sizes
 * checked below. Keys are zeroed whole before use. Addresses and ports in keys are in network
 * byte order; indices (claims, port classes) are in host byte order.
 */
#ifndef NSTACK_BPF_STEER_SHARED_H
#define NSTACK_BPF_STEER_SHARED_H

#include <linux/types.h>

#define STEER_VERSION 3        /* changes whenever a layout or a meaning here changes */
#define STEER_INSTANCES 64u    /* slot 0 means the kernel */
#define STEER_TO_KERNEL 0u
#define STEER_QUEUES 64u       /* receive queues of an interface that can be steered */
#define STEER_STACK_NAME 16u
#define STEER_RULES 256u       /* rules in one set */
#define STEER_RULE_WORDS (STEER_RULES / 64u)
#define STEER_STACKS 16u       /* kinds of stacks that rules can name */

/* The program's name carries the version: a program of ours, of another version, is told apart
 * by name alone. At most 15 bytes, and the name of the function in steer.bpf.c. */
#define STEER_PROG_PREFIX "nstack_steer_"
#define STEER_STR_(x) #x
#define STEER_STR(x) STEER_STR_(x)
#define STEER_PROG_NAME STEER_PROG_PREFIX STEER_STR(STEER_VERSION)

/* Parse limits: a packet beyond one of them is passed to the kernel. */
#define STEER_VLAN_MAX 2u      /* 802.1Q / 802.1ad tags */
#define STEER_EXT_MAX 6u       /* IPv6 extension headers before the transport header */

/* XSKMAP index of an instance's socket on a queue */
#define STEER_XSK(instance, queue) ((instance) * STEER_QUEUES + (queue))

/* --- verdicts and counters ----------------------------------------------------------------- */

enum steer_verdict { STEER_PASS, STEER_DROP, STEER_STACK, STEER_V_NR_ };

/* Every exit of the decision counts exactly one. X(enumerator, verdict, name) */
#define STEER_COUNTERS(X) \
	X(PASS_NOT_IP, PASS, "pass_not_ip")                /* ARP, LLDP, 802.3 length, ... */ \
	X(PASS_VLAN, PASS, "pass_vlan")                    /* tagged, and tags are not steered */ \
	X(PASS_VLAN_DEEP, PASS, "pass_vlan_deep")          /* more than STEER_VLAN_MAX tags */ \
	X(PASS_TRUNCATED, PASS, "pass_truncated")          /* a header is not there whole */ \
	X(PASS_BAD_HEADER, PASS, "pass_bad_header")        /* version, IHL, extension length */ \
	X(PASS_BAD_LENGTH, PASS, "pass_bad_length")        /* a length field contradicts the frame */ \
	X(PASS_FRAGMENT, PASS, "pass_fragment") \
	X(PASS_EXT_HEADERS, PASS, "pass_ext_headers")      /* unknown, or too many */ \
	X(PASS_PROTOCOL, PASS, "pass_protocol")            /* neither TCP, UDP nor ICMP */ \
	X(PASS_ICMP_OTHER, PASS, "pass_icmp_other")        /* ping, ND, redirects, ... */ \
	X(PASS_ICMP_QUOTE, PASS, "pass_icmp_quote")        /* error whose quote can't be followed */ \
	X(PASS_UNCLAIMED, PASS, "pass_unclaimed") \
	X(PASS_NOT_LOCAL, PASS, "pass_not_local")          /* claimed port, but not our address */ \
	X(PASS_GROUP, PASS, "pass_group")                  /* multicast or broadcast, not joined */ \
	X(PASS_SOURCE, PASS, "pass_source")                /* source no peer of ours can have */ \
	X(PASS_UDP_TRAIN, PASS, "pass_udp_train")          /* UDP, longer than the link's MTU */ \
	X(PASS_PINNED, PASS, "pass_pinned")                /* pinned to the kernel */ \
	X(PASS_RULE, PASS, "pass_rule")                    /* rule or default says kernel */ \
	X(PASS_RULE_STACK, PASS, "pass_rule_stack")        /* rule names a stack that has no claim */ \
	X(PASS_NO_SOCKET, PASS, "pass_no_socket")          /* instance gone, or no XSK on the queue */ \
	X(PASS_QUEUE, PASS, "pass_queue")                  /* receive queue beyond STEER_QUEUES */ \
	X(PASS_INTERNAL, PASS, "pass_internal")            /* a table is missing: never expected */ \
	X(DROP_RULE, DROP, "drop_rule") \
	X(STACK_CLAIM, STACK, "stack_claim")               /* claimed, no rule matched */ \
	X(STACK_RULE, STACK, "stack_rule") \
	X(STACK_PINNED, STACK, "stack_pinned") \
	X(STACK_ICMP, STACK, "stack_icmp")                 /* error about a flow of a stack */ \
	X(STACK_ECHO, STACK, "stack_echo")                 /* answer to a ping of an instance */ \
	X(STACK_OWN, STACK, "stack_own")                   /* address owned wholly by an instance */

enum steer_counter {
#define STEER_COUNTER_ENUM(e, verdict, name) STEER_C_##e,
	STEER_COUNTERS(STEER_COUNTER_ENUM)
#undef STEER_COUNTER_ENUM
	STEER_C_NR_
};

/* --- claims: [protocol][local port] -------------------------------------------------------- */

/* What claims and rules know, and behind that what has pins only: ICMP echo, whose id is the local port
 * and whose remote port is 0. */
enum steer_proto { STEER_P_TCP, STEER_P_UDP, STEER_P_NR_, STEER_P_ECHO = STEER_P_NR_ };

#define STEER_CLAIM_INDEX(proto, port) ((__u32)(proto) << 16 | (__u32)(port))
#define STEER_CLAIMS (STEER_P_NR_ << 16)

/* A claims entry is one 64-bit word, changed by atomic operations only, so that claiming is a
 * store. 0 = nothing is known about the port: the packet goes to the kernel at once.
 *   bits 0-7   instance that claims every IPv4 address, 0 = none
 *   bits 8-15  the same for IPv6
 *   bits 16-31 how many entries of claims_addr name this port (0: that hash isn't asked)
 *   bits 32-62 how many pins name this port (0: that hash isn't asked)
 *   bit 63     rules are not asked: the claimant's own say that all of the port is its stack's
 * The counts may be too high after a crash, never too low. */
#define STEER_CLAIM_V4_SHIFT 0
#define STEER_CLAIM_V6_SHIFT 8
#define STEER_CLAIM_V4(w) ((__u32)(w) & 0xffu)
#define STEER_CLAIM_V6(w) ((__u32)((w) >> 8) & 0xffu)
#define STEER_CLAIM_ADDRS(w) ((__u32)((w) >> 16) & 0xffffu)
#define STEER_CLAIM_PINS(w) ((__u32)((w) >> 32) & 0x7fffffffu)
#define STEER_CLAIM_EXEMPT (1ull << 63)
#define STEER_CLAIM_ONE_ADDR (1ull << 16)
#define STEER_CLAIM_ONE_PIN (1ull << 32)

/* claims_addr: one local address and port -> __u32 instance; asked before the claims entry */
struct steer_addr_claim {
	__u8 family; /* AF_INET or AF_INET6 */
	__u8 proto;  /* enum steer_proto */
	__u16 port;  /* network byte order */
	__u32 addr[4];
};
_Static_assert(sizeof(struct steer_addr_claim) == 20, "map key");
#define STEER_ADDR_CLAIMS_MAX 65535u /* one port's count of them fits the word */

/* --- local: our addresses ------------------------------------------------------------------ */

struct steer_local_key {
	__u32 family;
	__u32 addr[4];
};
_Static_assert(sizeof(struct steer_local_key) == 20, "map key");

struct steer_local {
	__u32 owner; /* instance that has the address wholly (ARP, ND, ping too); 0 = shared */
	__u32 pad;
};
_Static_assert(sizeof(struct steer_local) == 8, "map value");
#define STEER_LOCAL_MAX 4096u

/* --- pins: flows that stay where they are -------------------------------------------------- */

/* A flow as seen from here; also the key of the pins (value: __u32 instance or
 * STEER_TO_KERNEL). */
struct steer_flow {
	__u8 family; /* AF_INET or AF_INET6 */
	__u8 proto;  /* enum steer_proto */
	__u16 pad;
	__u16 lport; /* network byte order */
	__u16 rport;
	__u32 local[4]; /* IPv4 in the first word, the others 0 */
	__u32 remote[4];
};
_Static_assert(sizeof(struct steer_flow) == 40, "map key");
#define STEER_PINS_MAX 262144u

/* --- instances ----------------------------------------------------------------------------- */

struct steer_instance {
	__u32 pid;        /* 0 = free */
	__u32 kind;       /* index in steer_meta.stacks */
	__u64 start_time; /* of the process, clock ticks since boot: a pid may be reused */
	__u64 pid_ns;     /* inode of the pid namespace that pid is valid in */
	__u64 image;      /* differs after exec: same process, but the stack is gone */
	char stack[STEER_STACK_NAME];
};
_Static_assert(sizeof(struct steer_instance) == 48, "map value");

/* One per attached program, memory-mapped. */
struct steer_meta {
	__u32 rules;      /* 0: no rules, every claim holds; else 1 + the generation in force */
	__u32 mtu;        /* of the link, 0 = not known: what is a UDP train, see steer.h */
	__u32 own;        /* number of local entries with an owner */
	__u32 steer_vlan; /* 1: tagged packets are steered as if untagged */
	char stacks[STEER_STACKS][STEER_STACK_NAME]; /* kinds, by first come */
	char mode_why[160]; /* for people: why attached natively or generically */
	__u64 version;    /* the highest of the rule sets that were in force, 0 = they had none; under the lock */
};
_Static_assert(sizeof(struct steer_meta) == 440, "map value");

/* One per attached program, memory-mapped. A driver in user space that receives the interface's packets
 * (and gives the kernel its own through it) decides them itself, by these tables; the program then
 * passes everything. */
struct steer_outside {
	__u32 instance; /* whose driver that is, 0 = nobody's: the program decides */
	__u32 changes;  /* moves on when a hash table or the rules were changed by another than that driver */
	__u64 counters[STEER_C_NR_]; /* the driver's; the program has its own */
};
_Static_assert(sizeof(struct steer_outside) == 8 + 8 * STEER_C_NR_, "map value");

/* --- rules --------------------------------------------------------------------------------- */

/* A set of rules, bit i = rule i. A packet's matching rules are the AND over all dimensions of
 * the vector that the dimension gives for this packet; the lowest bit set is the rule in force. */
struct steer_vec {
	__u64 w[STEER_RULE_WORDS];
};
_Static_assert(sizeof(struct steer_vec) == 32, "map value");

/* What a rule says. */
enum steer_action {
	STEER_ACT_CLAIMANT = 0, /* whoever claimed the port */
	STEER_ACT_KERNEL = 1,
	STEER_ACT_DROP = 2,
	STEER_ACT_STACK_BASE = 16, /* + kind: the claimant, if it is a stack of that kind */
};
#define STEER_ACT_STACK(kind) (STEER_ACT_STACK_BASE + (kind))

struct steer_prefix {
	__u32 len;      /* bits, 0 to 32 or 128 */
	__u32 addr[4];  /* network byte order; IPv4 in the first word; bits past len are 0 */
	__u32 pad;
	struct steer_vec vec; /* rules that match here, those of shorter covering prefixes and of
				 rules without a prefix included */
};
_Static_assert(sizeof(struct steer_prefix) == 56, "shared layout");

#define STEER_PREFIXES (STEER_RULES + 1u)        /* every rule's, and /0 */
#define STEER_PORT_CLASSES (2u * STEER_RULES + 1u) /* intervals that 256 ranges can make */

enum steer_dim { STEER_D_REMOTE4, STEER_D_LOCAL4, STEER_D_REMOTE6, STEER_D_LOCAL6, STEER_D_NR_ };

/* A compiled rule set: what steer_rules_set() installs and what steer_rules_match() reads.
 * About 350 KB: never on a stack. steer_rules_compile() (bpf/steer_rules.h) fills one.
 *
 * An address that no prefix of its dimension covers matches no rule, so rules that don't look
 * at that address need a /0 entry. A rule for one family has its bit in no vector of the other
 * family's dimensions. */
struct steer_rules {
	__u64 version;                     /* a number that whoever gave them counts up; 0 = none */
	__u32 nrules;
	__u32 default_action;              /* claimed, but no rule matches; normally 0 */
	__u32 nprefixes[STEER_D_NR_];
	__u32 nlport, nrport;              /* classes in use */
	__u8 action[STEER_RULES];          /* enum steer_action */
	char stacks[STEER_STACKS][STEER_STACK_NAME]; /* what STEER_ACT_STACK(k) means here */
	struct steer_vec proto[STEER_P_NR_];
	struct steer_prefix prefix[STEER_D_NR_][STEER_PREFIXES];
	struct steer_vec lport[STEER_PORT_CLASSES]; /* local port's class -> rules */
	struct steer_vec rport[STEER_PORT_CLASSES];
	__u16 lport_class[65536];          /* by port, host byte order */
	__u16 rport_class[65536];
};

/* The same in maps. Everything is there twice, by generation (0, 1); meta.rules says which is in
 * force. */
struct steer_rules_head { /* rules[gen] */
	__u32 nrules;
	__u32 default_action;
	__u32 use_prefix; /* bit d: the dimension has prefixes: ask its trie */
	__u32 use_ports;  /* ports tell rules apart: ask port_class */
	struct steer_vec base[STEER_D_NR_]; /* where no prefix matches: the /0 entry, or nothing */
	struct steer_vec proto[STEER_P_NR_];
	__u8 action[STEER_RULES];
};
_Static_assert(sizeof(struct steer_rules_head) == 16 + 128 + 64 + 256, "map value");

struct steer_port_class { /* port_class[gen << 16 | port] */
	__u16 local;
	__u16 remote;
	__u32 pad;
};
_Static_assert(sizeof(struct steer_port_class) == 8, "map value");

struct steer_port_vec { /* port_vec[gen * STEER_PORT_CLASSES + class] */
	struct steer_vec local;
	struct steer_vec remote;
};
_Static_assert(sizeof(struct steer_port_vec) == 64, "map value");

/* Keys of the four prefix tables: the generation and the side come before the address, so one
 * trie per family holds both sides and both generations. */
struct steer_lpm4 {
	__u32 prefixlen; /* STEER_LPM_HEAD + bits of the address */
	__u8 gen;
	__u8 side;       /* 0 = remote, 1 = local */
	__u16 pad;
	__u32 addr;
};
_Static_assert(sizeof(struct steer_lpm4) == 12, "map key");
struct steer_lpm6 {
	__u32 prefixlen;
	__u8 gen;
	__u8 side;
	__u16 pad;
	__u32 addr[4];
};
_Static_assert(sizeof(struct steer_lpm6) == 24, "map key");
#define STEER_LPM_HEAD 32u
#define STEER_LPM_MAX (4u * STEER_PREFIXES) /* two sides, two generations */

#endif
