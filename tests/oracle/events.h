/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/events.h - what the scenarios of epoll, poll, select, signals and threads share
 *
 * Most of them have a side that watches and a side that acts; WATCHED() plays them with the roles
 * both ways round, so that accepted and connecting sockets are both watched.
 */
#ifndef TESTS_ORACLE_EVENTS_H
#define TESTS_ORACLE_EVENTS_H

#include "tests/oracle/oracle.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>

/* ms: until an event must have come; how long none must come */
enum { SOON = 5000, QUIET = 60 };

#define WATCHED(n, text, watch, act) \
	SCENARIO(n##_server, text ": an accepted socket", O_BOTH, watch, act) \
	SCENARIO(n##_client, text ": a connecting socket", O_BOTH, act, watch)

static inline int ev_ctl(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return epoll_ctl(ep, op, fd, &ev);
}

static inline void ev_add(int ep, int fd, uint32_t events, uint64_t data)
{
	if (ev_ctl(ep, EPOLL_CTL_ADD, fd, events, data))
		o_fail("EPOLL_CTL_ADD");
}

static inline int ev_set(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0)
		o_fail("epoll_create1");
	return ep;
}

static inline void ev_pause(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* The bits by name, for lists that are recorded as one text. */
static inline void ev_bits(char *out, size_t size, uint32_t bits)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = { { EPOLLIN, "IN" }, { EPOLLPRI, "PRI" }, { EPOLLOUT, "OUT" },
		      { EPOLLERR, "ERR" }, { EPOLLHUP, "HUP" }, { POLLNVAL, "NVAL" },
		      { EPOLLRDNORM, "RDNORM" }, { EPOLLRDBAND, "RDBAND" },
		      { EPOLLWRNORM, "WRNORM" }, { EPOLLWRBAND, "WRBAND" },
		      { EPOLLMSG, "MSG" }, { EPOLLRDHUP, "RDHUP" } };
	size_t n = 0;

	out[0] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((bits & names[i].bit) && n < size)
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "|" : "",
					      names[i].name);
	if (!n)
		snprintf(out, size, "0");
}

static inline int ev_by_data(const void *a, const void *b)
{
	uint64_t x = ((const struct epoll_event *)a)->data.u64;
	uint64_t y = ((const struct epoll_event *)b)->data.u64;

	return x < y ? -1 : x > y;
}

/* Until the set reports n at once (level-triggered, SOON): what poll() sees already, it may not know of yet. */
static inline void ev_await(int ep, int n)
{
	uint64_t end = o_now() + SOON * 1000000ull;
	struct epoll_event ev[256];

	while (epoll_wait(ep, ev, 256, SOON) < n && o_now() < end)
		ev_pause(1);
}

/* Record the answer of epoll_wait(): number, then data and bits of each, in the order given. */
static inline void ev_say(const char *label, int n, const struct epoll_event *ev)
{
	char text[1024], bits[80];
	size_t at;

	if (n < 0) {
		o_ret(label, n);
		return;
	}
	at = (size_t)snprintf(text, sizeof(text), "%d", n);
	for (int i = 0; i < n && at < sizeof(text); i++) {
		ev_bits(bits, sizeof(bits), ev[i].events);
		at += (size_t)snprintf(text + at, sizeof(text) - at, " %llx:%s",
				       (unsigned long long)ev[i].data.u64, bits);
	}
	o_say(label, "%s", text);
}

/* Wait and record the events, sorted by data. */
static inline int ev_show(const char *label, int ep, int max, int ms)
{
	struct epoll_event ev[64];
	int n = epoll_wait(ep, ev, max, ms);

	if (n > 1)
		qsort(ev, (size_t)n, sizeof(ev[0]), ev_by_data);
	ev_say(label, n, ev);
	return n;
}

/* The same in the order in which they were reported. */
static inline int ev_show_order(const char *label, int ep, int max, int ms)
{
	struct epoll_event ev[64];
	int n = epoll_wait(ep, ev, max, ms);

	ev_say(label, n, ev);
	return n;
}

/* Take what is there; nothing more comes after that. */
static inline long ev_drain(int fd)
{
	char buf[4096];
	long total = 0, n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		total += n;
	return total;
}

static inline void ev_give(int fd, size_t n)
{
	static const char zeros[4096];

	if (o_send_all(fd, zeros, n) != (ssize_t)n)
		o_fail("send");
}

/* A connection between both sides, like o_connected(), but non-blocking. */
static inline int ev_pair(int port_index)
{
	int fd = o_connected(port_index);

	o_nonblock(fd, true);
	return fd;
}

#endif
