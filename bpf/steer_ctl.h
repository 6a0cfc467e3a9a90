/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_ctl.h - user space's hand on the steering program
 *
 * Two kinds of callers: the tool, which attaches and detaches the program, and a process with a
 * stack (an instance), which claims ports and puts its XSKs into the map. The maps of an
 * attached program are found through the program itself (its id on the interface), so nothing
 * depends on a bpffs that lasts; pins are made besides where there is a bpffs, for programs that
 * may not look maps up by id.
 *
 * All functions return 0 or a negative errno; `why` buffers receive one line for people that
 * names the cause and the next step. Ports are in network byte order in nst_addr, as everywhere.
 * A struct steer may be used by several threads; claims are plain stores.
 */
#ifndef NSTACK_BPF_STEER_CTL_H
#define NSTACK_BPF_STEER_CTL_H

#include <bpf/steer_shared.h>
#include <nstack/addr.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STEER_WHY 256

/* --- attach, detach, look ------------------------------------------------------------------ */

enum steer_mode { STEER_MODE_AUTO, STEER_MODE_GENERIC, STEER_MODE_NATIVE };

struct steer_status {
	bool attached;        /* ours, this version */
	bool native;
	bool dispatcher;      /* through libxdp's dispatcher, beside other programs */
	uint32_t prog_id;
	char foreign[64];     /* name (id) of an XDP program of somebody else, "" = none */
	char mode_why[160];
};

/* Attach to the interface. Attached already (same version): 0, nothing changes. A foreign
 * program that can't be chained: -EBUSY and why names it. Takes the lock file, so concurrent
 * loads and unloads queue up. */
int steer_load(unsigned ifindex, enum steer_mode mode, char why[STEER_WHY]);
/* Detach and remove every pin; not attached: 0. */
int steer_unload(unsigned ifindex, char why[STEER_WHY]);
int steer_status(unsigned ifindex, struct steer_status *out);

/* For a driver that wants to load and attach the program itself, from a file, and only where none is (DPDK's
 * net_af_xdp): before, the program as a file in memory (a descriptor, or -errno); ours is detached, unless a
 * living instance uses it (-EBUSY). After the driver is done: what steer_load() does besides. */
int steer_lend(unsigned ifindex, char why[STEER_WHY]);
int steer_lent(unsigned ifindex, const char *mode_why, char why[STEER_WHY]);
/* Whoever lends has the turn, from before until its instance is taken or the driver is closed again: others would
 * take what it attaches for nobody's, and a driver that fails detaches whatever it finds. Waits for the turn of
 * another process; returns what steer_turn_end() takes, or -errno (which that takes, too). */
int steer_turn(unsigned ifindex);
void steer_turn_end(int turn);

/* --- a handle on the tables of one interface's program ------------------------------------- */

struct steer;
/* -ENOENT: no program of ours is attached; -EPERM: missing capability; -EPROTO: other version. */
int steer_open(struct steer **out, unsigned ifindex, char why[STEER_WHY]);
void steer_close(struct steer *st); /* releases the instance, if one was taken */

/* Become an instance of a stack: picks a free slot (one whose process is dead counts as free and
 * is cleaned of its claims and pins). stack is the rules' name for the stack ("tcpip"); image a
 * random number of the process and the program in it, the same on every interface, by which a slot of
 * before an exec is told, and which others are told as the owner's.
 * -ENOSPC: all STEER_INSTANCES are alive. Returns the slot (>= 1). */
int steer_instance_take(struct steer *st, const char *stack, uint64_t image);
int steer_instance_pid(struct steer *st, unsigned instance, pid_t *pid, char stack[STEER_STACK_NAME]);

/* Put a bound XSK into the map for (own instance, queue); taken out when the XSK is closed. */
int steer_xsk_set(struct steer *st, uint32_t queue, int xsk_fd);
int steer_xsk_clear(struct steer *st, uint32_t queue);

struct steer_owner {
	pid_t pid;      /* 0: it is in another pid namespace */
	uint64_t image; /* as it was given to steer_instance_take() */
};

/* Claim (proto, addr) for the own instance. An all-zero address: every local address of that
 * family (AF_INET6 with both: v4 too). -EADDRINUSE: another living instance has it; *owner
 * says which (may be NULL). Connections of the kernel that exist on that port are pinned to the kernel first. */
int steer_claim(struct steer *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4,
		struct steer_owner *owner);
/* The same for a port that the caller has just taken for itself (a client's own local port): no
 * look at the kernel's connections, which costs a walk over all of them. */
int steer_claim_new(struct steer *st, uint8_t proto, const struct nst_addr *local,
		    bool v6_takes_v4, struct steer_owner *owner);
/* Whoever has a claim on the port: are the rules left out for it? Of several claimants (of different
 * addresses) the last one decides. Holds until nobody claims every address of it. */
int steer_port_exempt(struct steer *st, uint8_t proto, uint16_t port_be, bool on);
int steer_unclaim(struct steer *st, uint8_t proto, const struct nst_addr *local, bool v6_takes_v4);

/* Pin one flow to an instance, or to the kernel with STEER_TO_KERNEL (0). A ping is a flow, too: IPPROTO_ICMP
 * for both families, the id as the local port, the remote one 0. */
int steer_pin(struct steer *st, uint8_t proto, const struct nst_addr *local,
	      const struct nst_addr *remote, unsigned instance);
/* Take that pin back; one to another instance, or to the kernel, stays. */
int steer_unpin(struct steer *st, uint8_t proto, const struct nst_addr *local,
		const struct nst_addr *remote, unsigned instance);

/* Pin the kernel's TCP connections on claimed ports to the kernel, so that a change of rules or
 * claims moves none of them. Returns how many there are. */
int steer_kernel_pin(struct steer *st);
/* If the kernel has this TCP connection: pin it to the kernel. Has it, as far as we know? */
bool steer_kernel_pin_one(struct steer *st, const struct nst_addr *local,
			  const struct nst_addr *remote);
/* Does the TCP socket of that cookie (SO_COOKIE) listen on the port (network byte order)? */
bool steer_kernel_listens(uint16_t port, uint64_t cookie);
/* Does it not, as far as can be asked? */
bool steer_kernel_listener_gone(uint16_t port, uint64_t cookie);
/* Forget pins to the kernel whose connection the kernel no longer has. Returns how many. */
int steer_pins_sweep(struct steer *st);

/* A list of flows; all zero: empty. */
struct steer_flows {
	struct steer_flow *flow;
	size_t n, room;
	unsigned instance; /* of pins: to whom */
};
int steer_flows_add(struct steer_flows *l, uint8_t proto, const struct nst_addr *local,
		    const struct nst_addr *remote);
void steer_flows_free(struct steer_flows *l);
/* Lists the own instance's pins; steer_flows_free() is the caller's, after an error (-errno), too. */
int steer_pins_own(struct steer *st, struct steer_flows *out);
/* Forgets those of them whose flow is not among the live ones, which are sorted by this. Returns how many are left. */
size_t steer_pins_end(struct steer *st, const struct steer_flows *pins, struct steer_flows *live);

/* Replace the set of local addresses (differences only are written). */
int steer_local_set(struct steer *st, const struct nst_addr *addrs, uint32_t n);

/* The address (it is put into the local set) belongs to the own instance wholly: every packet to
 * it, ARP and ND too. on = false: shared with the kernel again. -EADDRINUSE: another's. */
int steer_own(struct steer *st, const struct nst_addr *addr, bool on);
/* The link's MTU: a longer UDP packet is a train of datagrams, which goes to the kernel. 0 = not
 * known: nothing is taken for a train. */
int steer_mtu_set(struct steer *st, uint32_t mtu);
/* Steer VLAN-tagged packets as if they were untagged; normally they go to the kernel. */
int steer_vlan(struct steer *st, bool on);

/* Install compiled rules atomically: packets see the old set or the new one. The caller has
 * pinned what must stay. -ESTALE: they have a version, and there was one that is as high already. */
int steer_rules_set(struct steer *st, const struct steer_rules *rules);
uint64_t steer_rules_version(struct steer *st);
int steer_rules_get(struct steer *st, struct steer_rules *out);

/* --- observation --------------------------------------------------------------------------- */

int steer_counters(struct steer *st, uint64_t out[STEER_C_NR_]); /* summed over CPUs */
const char *steer_counter_name(unsigned c);   /* "pass_not_local" ... */
struct steer_claim_info {
	uint8_t proto;
	struct nst_addr local; /* family AF_UNSPEC: all addresses */
	unsigned instance;
	pid_t pid;
};
/* Fills up to n, returns how many exist. */
int steer_claims(struct steer *st, struct steer_claim_info *out, uint32_t n);

#endif
