/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/rd.h - nRD by the DMM manual's names: which stack serves an address or a type of socket
 *
 * nstack keeps the rules (configuration, `nstack rules`, environment) and asks them itself at connect(),
 * bind(), listen() and sendto(). These functions are for code that brings routes of its own, or asks.
 *
 * A single socket's stack can be chosen by setsockopt(), see below.
 *
 * Routes of sources are the calling process's own. In what order decides, the first that matches:
 *	1. loopback and unspecified addresses: the kernel
 *	2. NSTACK_RD of the environment
 *	3. the sources' IP routes, the longest prefix first: by the peer's address, or, for what is bound and has
 *	   no peer, by the local one; of equal ones the last
 *	4. the sources' protocol routes
 *	5. the rules
 *	6. the default of the configuration; without one the registered stack with the highest priority;
 *	   without one nstack's own stack
 * What comes to a listener was decided by the interface's rules, unless a route speaks of the address that it is
 * bound to. A change concerns new connections and new listeners. Routes cannot take what the rules of a
 * daemon refuse.
 *
 * Stacks have the names of the configuration; "kernel" and "tcpip" are always there. Their numbers are those of
 * nstack_rd_init(), or else the configuration's ("tcpip" and "kernel" behind the last, where it does not list them).
 *
 * Byte order: addresses are in network byte order, in routes and in keys; lengths and types are numbers.
 * Results: 0; -1: errno says why, and nothing has changed. Threads: any, but not inside of a source.
 *
 * Documents: DMM developer manual, section 4.2.7.
 */
#ifndef NSTACK_RD_H
#define NSTACK_RD_H

#include <netinet/in.h>
#include <nstack/api.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NSTACK_SYS_FUN_MAX 16 /* sources */
#define NSTACK_RD_STACK_MAX 32 /* stacks that can be registered */
#define STACK_NAME_MAX 32     /* bytes, the end included; of these nstack's names use 16 */
#define RD_PLANE_NAMELEN 32

typedef enum __rd_data_type {
	RD_DATA_TYPE_IP,
	RD_DATA_TYPE_PROTO,
	RD_DATA_TYPE_IP6,
	RD_DATA_TYPE_MAX,
} rd_data_type;

typedef struct __rd_ip_data {
	unsigned int addr;    /* host bits don't matter */
	unsigned int masklen; /* bits, 0 to 32 */
	unsigned int resev[2];
} rd_ip_data;

typedef struct __rd_ip6_data {
	struct in6_addr addr;
	unsigned int masklen; /* bits, 0 to 128 */
} rd_ip6_data;

typedef struct __rd_route_data {
	rd_data_type type;
	char stack_name[RD_PLANE_NAMELEN]; /* a plane's name, a stack's, or "drop" */
	union {
		rd_ip_data ipdata;
		unsigned int proto_type; /* SOCK_STREAM, SOCK_DGRAM; flags beside it don't matter */
		rd_ip6_data ip6data;
	};
} rd_route_data;

/* A source of routes: 0, and *data has *num of them. They are one block of malloc(), which nstack frees; after any
 * other result *data is not looked at. It may block, and is never called by two threads at once. */
typedef int (*nstack_get_route_data)(rd_route_data **data, int *num);

typedef struct __rd_stack_plane_map {
	char stackname[STACK_NAME_MAX];
	char planename[RD_PLANE_NAMELEN]; /* what routes may call it; "" = only by its name */
	int stackid;                      /* not looked at: stack_id counts */
} rd_stack_plane_map;

typedef struct __nstack_rd_stack_info {
	rd_stack_plane_map stack;
	int stack_id;
	int priority; /* smaller first; equal ones as in the list */
} nstack_rd_stack_info;
typedef nstack_rd_stack_info nstack_stack_info;

typedef struct __nstack_rd_key {
	rd_data_type type;
	union {
		unsigned int ip_addr;
		unsigned int proto_type;
		struct in6_addr ip6_addr;
	};
} nstack_rd_key;

/* Register stacks and sources, in place of those of a former call, and ask the sources. A source that fails has
 * no routes as yet; it is logged. EINVAL: no stack, a name that is none, a name, plane or number twice, more than
 * NSTACK_SYS_FUN_MAX sources; EDEADLK: called by a source; ENOMEM. */
NSTACK_API int nstack_rd_init(nstack_rd_stack_info *pstack, int num, nstack_get_route_data *pfun, int fun_num);
/* The number of the stack that serves connections to that address, or sockets of that type. No lock is taken.
 * EINVAL: no such type of key; EACCES: such connections are dropped; ENOENT: the stack has no number. */
NSTACK_API int nstack_rd_get_stackid(nstack_rd_key *pkey, int *stackid);
/* Ask all sources once more. What they say now is in force together; one that fails, or says what is not
 * valid (it is logged), keeps the routes that it had: EIO, the others' are in force. EDEADLK, ENOMEM. */
NSTACK_API int nstack_rd_sys(void);
/* Routes that the last nstack_rd_sys() did not bring again, since their source failed, end. EDEADLK, ENOMEM. */
NSTACK_API int nstack_rd_age(void);

/* --- one socket's stack --------------------------------------------------------------------------- */

/* setsockopt(fd, NSTACK_SOCKOPT, ...) on a TCP or UDP socket, before bind(), connect() and the first sendto(): that
 * stack serves it, whatever the rules say. Not up to the program are loopback addresses (the kernel's), what rules
 * drop, and what the rules of a daemon refuse. A stack that can't be used leaves the socket to the kernel, as when a
 * rule names it; a listener on all addresses can also be reached by the kernel's way.
 *	ENOPROTOOPT  nstack does not know this socket: not loaded, of another kind, or a connection that was accepted
 *	             from the kernel (getsockopt() of the kernel says EOPNOTSUPP)
 *	EISCONN      it is bound or connected
 *	ENOENT       no usable stack has that name
 *	EINVAL, EFAULT
 * getsockopt() tells who serves it; before it is bound or connected, the choice. Connections that a listener accepts
 * are served by whoever they came to. */
enum { NSTACK_SOCKOPT = 0xff02 }; /* level */
enum {
	NSTACK_RD_MODE = 3,       /* an int: NSTACK_RD_OPT_*; getsockopt(): -1 = not chosen, or another stack */
	NSTACK_RD_STACK = 0x100,  /* the stack's name, "kernel" and "tcpip" among them; "" = the rules decide */
};
enum {
	NSTACK_RD_OPT_KERNEL,
	NSTACK_RD_OPT_STACKPOOL,  /* nstack's own stack */
	NSTACK_RD_OPT_MAX,
};

#ifdef __cplusplus
}
#endif

#endif
