/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/dmm.h - what the test programs of the DMM manual (section 7) have in common
 *
 * Clients send messages of -l bytes and wait for each to come back; servers send back whole messages. The
 * programs use sockets as any program does: linked with libnStackAPI they run under nstack (v...), without
 * it on the kernel (k...).
 *
 * Exit status: 0; 1 something went wrong (said on stderr); 2 bad arguments (said, too).
 */
#ifndef DMM_H
#define DMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct dmm_options {
	struct sockaddr_storage dest; /* -d, -p: whom a client connects to */
	struct sockaddr_storage own;  /* clients: -s, -a; servers: where they listen, -r */
	uint32_t len;         /* -l bytes of a message */
	uint32_t times;       /* -t messages of each connection */
	uint32_t interval_us; /* -i */
	uint32_t fds;         /* -f connections of one client */
	uint32_t clients;     /* -n clients of one server */
	uint32_t wait_s;      /* -w how long to wait for the other side; 0: for ever */
	uint32_t unit;        /* -u messages from one line of progress to the next, if -x */
	uint32_t cut;         /* -e messages from one pause of -i to the next */
	bool print;           /* -x */
	char **rest;          /* behind the options, NULL at the end */
};
enum dmm_role { DMM_CLIENT, DMM_SERVER };

/* Ends the program if they are wrong. */
void dmm_parse(struct dmm_options *o, enum dmm_role role, int argc, char **argv);

socklen_t dmm_addr_len(const struct sockaddr_storage *a);
/* A listener, or for SOCK_DGRAM a bound socket; waits as -w says. Ends the program on errors. */
int dmm_listen(const struct dmm_options *o, int type);
/* The client's connection number `index`; repeats for -w while nobody listens. Ends the program on errors. */
int dmm_connect(const struct dmm_options *o, int type, uint32_t index);
/* -w for one socket's receiving calls. */
void dmm_set_wait(const struct dmm_options *o, int fd);

/* All of it, or -1 and errno. */
int dmm_send_all(int fd, const void *buf, size_t n);
/* One message: 1; 0: the stream ended before it; -1 and errno (EPROTO: it ended inside). */
int dmm_recv_message(int fd, void *buf, size_t n);

/* --- clients: messages that are like no other, exchanged and compared --------------------------------- */

void dmm_fill(uint8_t *buf, uint32_t len, uint32_t connection, uint32_t number);
/* -t messages over each of n connections, in turn; first: the number of the first one. Ends the program on
 * errors. */
void dmm_exchange(const struct dmm_options *o, const int *fds, uint32_t n, uint32_t first);

/* --- servers ------------------------------------------------------------------------------------------- */

/* Connections that a server serves before it ends. */
uint32_t dmm_expected(const struct dmm_options *o);
/* Send back what comes until the stream ends; closes it. Any thread. Ends the program on errors. */
void dmm_echo_all(const struct dmm_options *o, int fd);

/* --- what was done; any thread --------------------------------------------------------------------------- */

void dmm_count_connection(void);
void dmm_count_message(const struct dmm_options *o);
/* "connections N messages N bytes N" on stdout. */
void dmm_report(const struct dmm_options *o);

void dmm_die(const char *what) __attribute__((noreturn)); /* with errno's text */
void *dmm_alloc(size_t n, size_t size);

#endif
