/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/oracle.h - scenarios whose every result is compared with the kernel's
 *
 * A scenario has two sides, a server's and a client's, which run at the same time in two processes
 * in two network namespaces with a veth pair between them. What a side records (o_ret and its
 * kin) is printed as "scenario.label = text". The runner (test_oracle.py) plays every group of
 * scenarios four times: plain on both sides, which is the expectation, then with the server, the
 * client, and both under nsocket. Every record has to be the same, or stand in differences.toml
 * with the reason.
 *
 * Rules for authors:
 *   - A record never depends on chance: no times, no ephemeral ports (o_addr prints "eph"), no
 *     buffer sizes, no "how much did one send() take". Wait for conditions (o_wait, o_sync).
 *   - Labels are unique inside a scenario and say what was asked: "recv after RST".
 *   - A scenario closes what it opened; descriptors left over are recorded as "descriptors left".
 *   - One file is one group: one process on each side plays its scenarios one after the other, so
 *     a scenario must not change the process for good (signal handlers, masks, limits, user).
 *     What must, does it in a forked child and records the child's results there: o_fork().
 *   - Records are written with one write() each and may come from several processes or threads, if
 *     the scenario puts them in order (join, wait, o_sync).
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* In which address families a scenario is played. */
#define O_V4 1u
#define O_V6 2u
#define O_BOTH (O_V4 | O_V6)

struct scenario {
	const char *name;   /* lower case, words joined by _ */
	const char *shows;  /* one line, goes into docs/compatibility.md */
	void (*server)(void);
	void (*client)(void); /* NULL: this side has nothing to do */
	unsigned families;  /* O_V4, O_V6, O_BOTH */
	struct scenario *next;
	const char *group;
};
void o_register(struct scenario *s, const char *file);

/* SCENARIO(connect_refused, "connect() to a closed port", O_BOTH, server_fn, client_fn) */
#define SCENARIO(n, text, fams, srv, cli) \
	static struct scenario scenario_##n = {#n, text, srv, cli, fams, NULL, NULL}; \
	__attribute__((constructor)) static void register_##n(void) \
	{ \
		o_register(&scenario_##n, __FILE__); \
	}

/* --- what is known ---------------------------------------------------------------------------- */

extern int o_family;  /* AF_INET or AF_INET6, of this play */
bool o_is_server(void);
/* The scenario's own ports, 0 <= i < 8, host byte order: outside the ephemeral range, used by no
 * other scenario. */
uint16_t o_port(int i);
/* Addresses as the play has them. port in host byte order. They return the length to pass. */
enum o_who {
	O_SERVER,
	O_CLIENT,
	O_ANY,
	O_LOOPBACK,
	O_ABSENT,     /* in the same subnet, nobody has it */
	O_UNROUTABLE, /* no route leads to it */
};
/* family: AF_INET or AF_INET6; with `O_MAPPED`, the IPv4 address as ::ffff:a.b.c.d */
#define O_MAPPED (-1)
socklen_t o_addr_of(struct sockaddr_storage *a, int family, enum o_who who, uint16_t port);
/* The same in the play's own family. */
socklen_t o_server_addr(struct sockaddr_storage *a, uint16_t port);
socklen_t o_client_addr(struct sockaddr_storage *a, uint16_t port);
socklen_t o_any_addr(struct sockaddr_storage *a, uint16_t port);
socklen_t o_loopback_addr(struct sockaddr_storage *a, uint16_t port);
socklen_t o_absent_addr(struct sockaddr_storage *a, uint16_t port);
socklen_t o_unroutable_addr(struct sockaddr_storage *a, uint16_t port);
const char *o_ifname(void);  /* this side's interface: "s0" or "c0" */
/* This program again, for exec: o_self() --child NAME ARGS... calls the function that O_CHILD(NAME)
 * defines: int main-like (argc, argv), argv[0] = NAME. */
const char *o_self(void);
struct o_child {
	const char *name;
	int (*fn)(int argc, char **argv);
	struct o_child *next;
};
void o_register_child(struct o_child *c);
#define O_CHILD(n) \
	static int child_##n(int argc, char **argv); \
	static struct o_child o_child_##n = {#n, child_##n, NULL}; \
	__attribute__((constructor)) static void register_child_##n(void) \
	{ \
		o_register_child(&o_child_##n); \
	} \
	static int child_##n(int argc, char **argv)

/* --- the two sides together ---------------------------------------------------------------------- */

/* Both sides reach this point. A side that ends or hangs fails the play. Listeners (descriptors
 * below 200) are polled here once: under nsocket a listener is taken into the stack when its process
 * first waits on it, and connections that come before that are the kernel's. So listen(), then
 * o_sync(), then let the other side connect; what another process is to accept, that process has to
 * wait on before. UDP sockets likewise: poll or receive once before the other side sends. */
void o_sync(void);
/* A number from this side to the other, and back: both in the same order. */
void o_tell(long v);
long o_hear(void);

/* --- recording --------------------------------------------------------------------------------- */

/* The result of a call: the number, or "-1 ENAME" by errno. Returns r; keeps errno. */
long o_ret(const char *label, long r);
/* Evaluate and record: int fd = O("socket", socket(...)); */
#define O(label, call) (errno = 0, o_ret(label, (long)(call)))
/* As o_ret, but a result >= 0 is recorded as "ok" (descriptors, sizes that chance decides). */
long o_ok(const char *label, long r);
#define O_OK(label, call) (errno = 0, o_ok(label, (long)(call)))
void o_say(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void o_bool(const char *label, bool v);
void o_errno(const char *label, int err);       /* "0" or the error's name */
void o_bytes(const char *label, const void *p, size_t n); /* printable, the rest as \xNN */
void o_events(const char *label, unsigned poll_or_epoll_bits); /* "IN|RDHUP", or "0" */
/* "server:+1", "client:eph", "any:0", "loopback:...", "v4 server:+0" for a mapped one, and the length
 * that the call returned; +N is o_port(N). */
void o_addr(const char *label, const void *sockaddr, socklen_t len);
void o_signal(const char *label, int signo);
void o_status(const char *label, int wait_status); /* "exit 0", "killed by SIGPIPE" */
/* A wait that should have taken want_ms: "early", "on time", or "late" (by more than 400 ms, and more
 * than the time itself). */
void o_time(const char *label, uint64_t start_ns, unsigned want_ms);
uint64_t o_now(void); /* CLOCK_MONOTONIC, ns */

/* --- doing ---------------------------------------------------------------------------------------- */

/* Sockets for what is not the matter of the scenario; they end the play if they fail. */
int o_listener(int port_index);      /* the server's address, SO_REUSEADDR, backlog 64 */
/* Both sides call it: a connection from client to server; the fd of this side. */
int o_connected(int port_index);
/* UDP socket bound to this side's own address and o_port(i). */
int o_udp(int port_index);
/* Like o_udp, connected to the other side's o_port(other). */
int o_udp_connected(int port_index, int other);
/* Poll for events, 5 s at most: the revents, 0 if time ran out. */
unsigned o_wait(int fd, unsigned events);
/* Events without waiting. */
unsigned o_poll(int fd, unsigned events);
/* Wait until the socket answers FIONREAD >= n (5 s): how much it says. */
int o_wait_bytes(int fd, int n);
/* Read until n bytes, EOF, or error: how many. Send all of it. */
ssize_t o_recv_all(int fd, void *buf, size_t n);
ssize_t o_send_all(int fd, const void *buf, size_t n);
void o_nonblock(int fd, bool on);
/* Wait until cond(arg) (5 s): did it come true? */
bool o_until(bool (*cond)(void *arg), void *arg);
void o_reset_close(int fd); /* SO_LINGER 0, close: RST */
/* Run fn in a forked child and wait for it; records its end as o_status under label. */
void o_fork(const char *label, void (*fn)(void *arg), void *arg);
/* A child to talk with: fork() whose failure ends the play. */
pid_t o_spawn(void (*fn)(void *arg), void *arg);
/* The play can't go on: a plain failure of the test, with errno. */
void o_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
