/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/dmm.c - see dmm.h */
#define _GNU_SOURCE
#include "dmm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LEN_MAX (64u << 20)
#define FDS_MAX 65536u

static uint64_t connections, messages; /* atomic */

void dmm_die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

void *dmm_alloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		dmm_die("memory");
	return p;
}

/* --- options --------------------------------------------------------------------------------------- */

static const char usage[] =
	"usage: %s [options]\n"
	"  -p PORT  destination port           -d ADDR  the server's address\n"
	"  -a PORT  source port, 0: any        -s ADDR  the client's address\n"
	"  -r PORT  port that servers listen on; without it -p\n"
	"  -l N     bytes of a message         -t N     messages of each connection\n"
	"  -i US    pause between messages     -e N     only after every N messages\n"
	"  -f N     connections of a client    -n N     clients of a server\n"
	"  -w S     wait for the other side, 0: for ever\n"
	"  -x 0|1   progress                   -u N     of so many messages\n";

__attribute__((noreturn)) static void bad(const char *what, const char *value)
{
	fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, what, value ? ": " : "", value ? value : "");
	fprintf(stderr, usage, program_invocation_short_name);
	exit(2);
}

static uint32_t number(int option, const char *text, uint32_t min, uint32_t max)
{
	char what[64], *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n < min || n > max) {
		snprintf(what, sizeof(what), "-%c wants a number from %u to %u", option, min, max);
		bad(what, text);
	}
	return (uint32_t)n;
}

static void address(struct sockaddr_storage *out, const char *text)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	if (inet_pton(AF_INET, text, &in4->sin_addr) == 1)
		out->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1)
		out->ss_family = AF_INET6;
	else
		bad("not an address", text);
}

socklen_t dmm_addr_len(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* Both families have the port at the same place. */
static void set_port(struct sockaddr_storage *a, uint32_t port)
{
	((struct sockaddr_in *)a)->sin_port = htons((uint16_t)port);
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr *b)
{
	if (!b || a->ss_family != b->sa_family)
		return false;
	if (a->ss_family == AF_INET6)
		return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
			       &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr));
	return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
}

static bool is_ours(const struct sockaddr_storage *a)
{
	struct ifaddrs *list = NULL;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return false;
	for (struct ifaddrs *i = list; i && !found; i = i->ifa_next)
		found = same_host(a, i->ifa_addr);
	freeifaddrs(list);
	return found;
}

static void swap(struct sockaddr_storage *a, struct sockaddr_storage *b)
{
	struct sockaddr_storage t = *a;

	*a = *b;
	*b = t;
}

/* The manual's table says that -d is the server and -s the client; its command lines have each program's own
 * address at either place. So where one of the two is this machine's, that one is meant as ours. */
static void find_own(struct dmm_options *o, enum dmm_role role)
{
	struct sockaddr_storage any = { .ss_family = o->dest.ss_family ? o->dest.ss_family : AF_INET };
	bool dest_ours;

	if (!o->dest.ss_family && role == DMM_CLIENT)
		bad("a client needs -d", NULL);
	if (!o->own.ss_family) {
		if (role == DMM_SERVER && o->dest.ss_family)
			swap(&o->own, &o->dest);
		else
			o->own = any;
		return;
	}
	if (!o->dest.ss_family)
		return;
	if (o->dest.ss_family != o->own.ss_family)
		bad("-d and -s are of two families", NULL);
	dest_ours = is_ours(&o->dest);
	if (role == DMM_SERVER ? dest_ours || !is_ours(&o->own) : dest_ours && !is_ours(&o->own))
		swap(&o->own, &o->dest);
}

void dmm_parse(struct dmm_options *o, enum dmm_role role, int argc, char **argv)
{
	uint32_t dest_port = 20000, src_port = 0, recv_port = 0;
	int c;

	*o = (struct dmm_options){ .len = 64, .times = 1, .fds = 1, .clients = 1, .wait_s = 10, .unit = 1000,
				   .cut = 1 };
	while ((c = getopt(argc, argv, "p:d:a:s:l:t:i:f:r:n:w:u:e:x:")) != -1)
		switch (c) {
		case 'p': dest_port = number(c, optarg, 1, UINT16_MAX); break;
		case 'd': address(&o->dest, optarg); break;
		case 'a': src_port = number(c, optarg, 0, UINT16_MAX); break;
		case 's': address(&o->own, optarg); break;
		case 'l': o->len = number(c, optarg, 1, LEN_MAX); break;
		case 't': o->times = number(c, optarg, 0, UINT32_MAX); break;
		case 'i': o->interval_us = number(c, optarg, 0, UINT32_MAX); break;
		case 'f': o->fds = number(c, optarg, 1, FDS_MAX); break;
		case 'r': recv_port = number(c, optarg, 1, UINT16_MAX); break;
		case 'n': o->clients = number(c, optarg, 1, FDS_MAX); break;
		case 'w': o->wait_s = number(c, optarg, 0, INT_MAX / 1000); break;
		case 'u': o->unit = number(c, optarg, 1, UINT32_MAX); break;
		case 'e': o->cut = number(c, optarg, 1, UINT32_MAX); break;
		case 'x': o->print = number(c, optarg, 0, 1); break;
		default: bad("see", NULL);
		}
	o->rest = argv + optind;
	if (src_port && src_port + o->fds - 1 > UINT16_MAX)
		bad("-a and -f: there are not so many ports", NULL);
	find_own(o, role);
	set_port(&o->dest, dest_port);
	set_port(&o->own, role == DMM_CLIENT ? src_port : recv_port ? recv_port : dest_port);
}

/* --- sockets ----------------------------------------------------------------------------------------- */

void dmm_set_wait(const struct dmm_options *o, int fd)
{
	struct timeval tv = { .tv_sec = o->wait_s };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0)
		dmm_die("SO_RCVTIMEO");
}

static int open_socket(const struct sockaddr_storage *own, int type)
{
	int fd = socket(own->ss_family, type, 0), on = 1;

	if (fd < 0)
		dmm_die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		dmm_die("SO_REUSEADDR");
	if (bind(fd, (const struct sockaddr *)own, dmm_addr_len(own)) < 0)
		dmm_die("bind");
	return fd;
}

int dmm_listen(const struct dmm_options *o, int type)
{
	int fd = open_socket(&o->own, type);

	if (type == SOCK_STREAM && listen(fd, SOMAXCONN) < 0)
		dmm_die("listen");
	dmm_set_wait(o, fd);
	return fd;
}

static void pause_us(uint32_t us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000l };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int dmm_connect(const struct dmm_options *o, int type, uint32_t index)
{
	struct sockaddr_storage own = o->own;
	double begin = seconds();
	uint16_t port = ntohs(((struct sockaddr_in *)&own)->sin_port);
	int fd;

	if (port)
		set_port(&own, port + index);
	for (;;) {
		fd = open_socket(&own, type);
		if (!connect(fd, (const struct sockaddr *)&o->dest, dmm_addr_len(&o->dest)))
			break;
		if (errno != ECONNREFUSED || (o->wait_s && seconds() - begin > o->wait_s))
			dmm_die("connect");
		close(fd);
		pause_us(10000);
	}
	dmm_set_wait(o, fd);
	return fd;
}

int dmm_send_all(int fd, const void *buf, size_t n)
{
	const char *at = buf;

	while (n) {
		ssize_t r = send(fd, at, n, MSG_NOSIGNAL);

		if (r < 0)
			return -1;
		at += r;
		n -= (size_t)r;
	}
	return 0;
}

int dmm_recv_message(int fd, void *buf, size_t n)
{
	char *at = buf;
	size_t left = n;

	while (left) {
		ssize_t r = recv(fd, at, left, 0);

		if (r < 0)
			return -1;
		if (r == 0) {
			errno = EPROTO;
			return left == n ? 0 : -1;
		}
		at += r;
		left -= (size_t)r;
	}
	return 1;
}

/* --- both sides ---------------------------------------------------------------------------------------- */

void dmm_fill(uint8_t *buf, uint32_t len, uint32_t connection, uint32_t number)
{
	uint32_t x = connection * 2654435761u + number * 40503u + 1;

	for (uint32_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		buf[i] = (uint8_t)(x >> 24);
	}
}

static void exchange_one(const struct dmm_options *o, int fd, const uint8_t *out, uint8_t *in)
{
	if (dmm_send_all(fd, out, o->len) < 0)
		dmm_die("send");
	if (dmm_recv_message(fd, in, o->len) <= 0)
		dmm_die("recv");
	if (memcmp(out, in, o->len)) {
		errno = EBADMSG;
		dmm_die("another message came back");
	}
	dmm_count_message(o);
}

void dmm_exchange(const struct dmm_options *o, const int *fds, uint32_t n, uint32_t first)
{
	uint8_t *out = dmm_alloc(2, o->len), *in = out + o->len;

	for (uint32_t t = 0; t < o->times; t++) {
		for (uint32_t i = 0; i < n; i++) {
			dmm_fill(out, o->len, first + i, t);
			exchange_one(o, fds[i], out, in);
		}
		if (o->interval_us && t % o->cut == o->cut - 1)
			pause_us(o->interval_us);
	}
	free(out);
}

uint32_t dmm_expected(const struct dmm_options *o)
{
	return o->clients * o->fds;
}

void dmm_echo_all(const struct dmm_options *o, int fd)
{
	uint8_t *buf = dmm_alloc(1, o->len);
	int r;

	dmm_set_wait(o, fd);
	while ((r = dmm_recv_message(fd, buf, o->len)) > 0) {
		if (dmm_send_all(fd, buf, o->len) < 0)
			dmm_die("send");
		dmm_count_message(o);
	}
	if (r < 0)
		dmm_die("recv");
	free(buf);
	close(fd);
}

void dmm_count_connection(void)
{
	__atomic_add_fetch(&connections, 1, __ATOMIC_RELAXED);
}

void dmm_count_message(const struct dmm_options *o)
{
	uint64_t n = __atomic_add_fetch(&messages, 1, __ATOMIC_RELAXED);

	if (o->print && n % o->unit == 0)
		printf("%llu messages\n", (unsigned long long)n);
}

void dmm_report(const struct dmm_options *o)
{
	uint64_t n = __atomic_load_n(&messages, __ATOMIC_RELAXED);

	printf("connections %llu messages %llu bytes %llu\n",
	       (unsigned long long)__atomic_load_n(&connections, __ATOMIC_RELAXED), (unsigned long long)n,
	       (unsigned long long)(n * o->len));
}
