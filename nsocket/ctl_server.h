/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_server.h - a process answers questions about itself
 *
 * One abstract unix SOCK_SEQPACKET socket per process, @nstack/<pid>, one JSON message per
 * request; replies are one or more messages (rd/ctl_proto.h has the protocol). Only root and the
 * user that the process was when it opened the server are answered. The server owns its
 * descriptors behind one epoll descriptor: whoever runs the helper thread polls ctl_server_fd()
 * for POLLIN and calls ctl_server_run(), which never blocks. All descriptors are made by raw
 * system calls, so the wrapped calls never see them, and are close-on-exec.
 *
 * The server knows nothing of sockets or stacks: it asks struct ctl_ops. Every member may be
 * NULL (answered as "not supported"). Callbacks run in the thread of ctl_server_run() and take
 * the worker lock themselves where they need it.
 *
 * Start it also when the stack could NOT be started (ops->status fills fallback): that is how
 * `nstack doctor` and `nstack status` learn why a process runs on the kernel.
 */
#ifndef NSTACK_NSOCKET_CTL_SERVER_H
#define NSTACK_NSOCKET_CTL_SERVER_H

#include <nstack/hal.h>
#include <nstack/stack.h>
#include <rd/config.h>
#include <rd/ctl_proto.h>
#include <rd/rules.h>
#include <stdbool.h>
#include <stdint.h>

struct ctl_status {
	bool stack_running;
	char stack[16];           /* "tcpip" */
	char fallback[256];       /* why this process runs on the kernel, "" if it does not; the server
				     fills in the log's last fallback line when this is "" */
	uint64_t start_ns;        /* CLOCK_MONOTONIC when the stack started, 0 = not */
	uint32_t sockets_ours;    /* sockets served by the stack now */
	uint32_t sockets_kernel;  /* sockets that were left to the kernel, so far */
	uint32_t sessions, sessions_used, sessions_high; /* region */
	uint64_t sessions_refused; /* wanted when none was free, or not for that program */
	uint64_t region_bytes;    /* resident */
	uint64_t helper_ticks;    /* rounds of the helper thread */
	uint64_t lock_contended;  /* commands that had to be queued */
	pid_t daemon;             /* whose stack it is, 0 = its own */
	uint32_t programs, programs_max; /* attached ones, and how many may be; 0: it is no daemon */
};

struct ctl_port {
	char ifname[IF_NAMESIZE];
	unsigned ifindex;
	unsigned instance;        /* steering slot, 0 = none */
	uint32_t nqueues;
	uint32_t caps;            /* enum hal_cap */
	char mode[48];
	char mode_why[160];
	char why_not[256];        /* this port is not in use: why; "" = in use */
};

/* Sockets that the kernel serves, counted by reason. */
struct ctl_reason {
	const char *name;         /* stable, lower_case_with_underscores: "port_owned_by_other" */
	const char *help;         /* one line for people: what it means and the next step; or NULL */
	uint64_t count;
};

/* A socket that the kernel serves, or a plug-in stack. */
struct ctl_kernel_socket {
	struct stack_sock_info info; /* session 0 */
	int fd;
	const char *stack;        /* its name; NULL: the kernel */
	const char *reason;       /* why the kernel: as in struct ctl_reason, or another short word */
};

/* A program that is attached to the daemon that answers. What it does itself is its own to say, by its own
 * control socket. */
struct ctl_program {
	pid_t pid;
	uid_t uid;
	char name[32];
	char label[NS_LABEL];     /* what it says of itself, "" = nothing */
	const char *state;        /* "start": connected, not attached yet; "running"; "exiting": it has ended, the
				     stack is not done with its connections */
	bool asleep;              /* it waits for its bell, so it will be rung */
	uint64_t since_ns;        /* CLOCK_MONOTONIC: connected */
	uint32_t sessions, sessions_max;
	uint32_t listeners, connections, datagram; /* of its sessions, by kind; others are on their way */
	uint32_t ports, ports_max; /* local ports that it has claimed, clients' among them */
	uint64_t memory_bytes;    /* of its sessions, resident */
	uint64_t messages, notifications; /* from it */
	uint64_t packets_in, packets_out, bytes_in, bytes_out; /* payload; closed connections included */
	struct ctl_program_port {
		uint8_t proto;
		struct nst_addr local;
	} port[64];               /* those it listens on, or is bound to with UDP */
	uint32_t nport;           /* how many there are, perhaps more than have room */
};

/* Whose a socket is, where that is not who answers. */
struct ctl_owner {
	pid_t pid;
	uid_t uid;
	const char *name;         /* valid until the callback is called again */
	pid_t served_by;          /* who answers for a socket of its own: the daemon that has it; else 0 */
};

struct ctl_dump {
	uint64_t max_packets;     /* 0 = no bound */
	uint32_t snaplen;         /* 0 = whole packets */
	char ifname[IF_NAMESIZE]; /* "" = every port */
	uint16_t port;            /* local or remote TCP/UDP port, host byte order; 0 = all */
	uint8_t proto;            /* IPPROTO_TCP, IPPROTO_UDP; 0 = all */
};

/* What a client wants to ping; what it leaves open is filled in. */
struct ctl_ping {
	struct stack_ping stack;  /* ifindex follows from ifname */
	char ifname[IF_NAMESIZE]; /* "" = as routes have it */
};

struct cJSON;
struct ctl_ops {
	void (*status)(void *arg, struct ctl_status *out);           /* out is zeroed before */
	void (*more_status)(void *arg, struct cJSON *status); /* what only this process can say, as members */
	uint32_t (*ports)(void *arg, struct ctl_port *out, uint32_t n); /* returns how many filled */
	int (*queue_stats)(void *arg, unsigned ifindex, uint32_t q, struct hal_queue_stats *out);
	/* as in struct stack_ops: *cursor 0 at first, 0 results = end */
	uint32_t (*sockets)(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor);
	/* whose the session of one of sockets() is; false: this process's */
	bool (*owner)(void *arg, uint32_t session, struct ctl_owner *out);
	/* as sockets() */
	uint32_t (*programs)(void *arg, struct ctl_program *out, uint32_t n, uint64_t *cursor);
	/* the same for those of the kernel and of plug-ins; only asked when sockets() has come to its end */
	uint32_t (*kernel_sockets)(void *arg, struct ctl_kernel_socket *out, uint32_t n, uint64_t *cursor);
	uint32_t (*counters)(void *arg, struct stack_counter *out, uint32_t n);
	uint32_t (*reasons)(void *arg, struct ctl_reason *out, uint32_t n);
	/* What is taken and has to be given back, now: the same as before once everybody has. */
	uint32_t (*accounts)(void *arg, struct stack_counter *out, uint32_t n);
	/* Before new rules come into force: pin every established flow to the own instance on every
	 * port. Returns the number of pins, or a negative errno. The rules themselves are the
	 * server's business (rd_rules_publish()). */
	int (*pin_flows)(void *arg);
	/* Capture into fd (owned by the callee from here on, also on failure) as pcapng. */
	int (*dump_start)(void *arg, int fd, const struct ctl_dump *opt, char why[256]);
	/* Stop and close; out: packets written and lost. */
	int (*dump_stop)(void *arg, uint64_t *packets, uint64_t *lost);
	/* Current state of a capture: 1 running, 0 not (bound reached or never started). */
	int (*dump_state)(void *arg, uint64_t *packets, uint64_t *lost);
	/* Pings, as in struct stack_ops; start: why says what is wrong, 0 or -errno. All four or none. */
	int (*ping_start)(void *arg, struct ctl_ping *p, char why[256]);
	int (*ping_send)(void *arg, const struct stack_ping *p, uint16_t *seq);
	uint32_t (*ping_answers)(void *arg, const struct stack_ping *p, struct stack_ping_answer *out, uint32_t n);
	void (*ping_stop)(void *arg, const struct stack_ping *p);
	/* Reload by signal only (nstack rules set does it itself): put rules on every port's steering
	 * program (rd_rules_compile(), steer_rules_set()). */
	int (*rules_install)(void *arg, const struct rd_rules *rules);
	/* Change soft keys of the configuration: rd_config_change(), and what follows from it. */
	int (*config_change)(void *arg, const char *text, char err[RD_ERR]);
	/* New rules are in force in this process: look again which sockets claim ports. */
	void (*rules_changed)(void *arg);
};

struct ctl_server;
/* 0 or -errno (-EADDRINUSE: this pid's name is taken). ops and arg must outlive the server. Also
 * installs the handler of the configuration's reload_signal, if the program has none of its own. */
int ctl_server_open(struct ctl_server **out, const struct ctl_ops *ops, void *arg);
/* Also right in a forked child: only the child's descriptors are closed, the parent's server goes
 * on. Safe on NULL. Captures and pings of clients that are still connected are stopped. */
void ctl_server_close(struct ctl_server *s);
/* The descriptor to poll for POLLIN; stays the server's. */
int ctl_server_fd(const struct ctl_server *s);
/* Is fd one of the server's? (For close_range() and closefrom() wrappers.) */
bool ctl_server_owns(const struct ctl_server *s, int fd);
/* Read the configuration's rule file again, as its reload_signal does; log files that were moved away are
 * made anew. */
void ctl_server_reload(struct ctl_server *s);
/* These rules come into force in this process, and on its interfaces, as when reload_signal has come.
 * Connections stay where they are. name: of the file, for people. 0 or -errno. */
int ctl_server_rules(struct ctl_server *s, const struct rd_rules *r, const char *name);
/* Serve what is ready; bounded work; never blocks. */
void ctl_server_run(struct ctl_server *s);

#endif
