/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/sweep.h - asking for and setting options by tables
 *
 * The sockopt_*.c files walk through option numbers rather than through a list of what is known to
 * work: an option that nobody thought of is compared, too.
 */
#ifndef TESTS_ORACLE_SWEEP_H
#define TESTS_ORACLE_SWEEP_H

#include "oracle.h"

/* The value is left to chance (buffer sizes, cookies, times): only result and length are recorded. */
#define SWEEP_VARIES 1u
/* Setting it changes what the rest of the sweep would see: not set. */
#define SWEEP_NO_SET 2u

struct sweep_name {
	int name;
	const char *text;
	unsigned flags;
};
/* A level: the options 0 <= name < end; names gives those numbers a text. */
struct sweep_level {
	int level;
	const char *text;
	int end;
	const struct sweep_name *names;
	size_t n;
};
#define SWEEP_LEVEL(number, end_, table) \
	{ .level = (number), .text = #number, .end = (end_), .names = (table), \
	  .n = sizeof(table) / sizeof((table)[0]) }

static inline struct sweep_name sweep_name(const struct sweep_level *l, int name)
{
	static char text[64];

	for (size_t i = 0; i < l->n; i++)
		if (l->names[i].name == name)
			return l->names[i];
	snprintf(text, sizeof(text), "%s %d", l->text, name);
	return (struct sweep_name){ name, text, 0 };
}

/* "4: 17" for an int, "16: 00ff..." for anything else. */
static inline const char *sweep_value(const void *val, socklen_t len, bool varies)
{
	static char text[256];
	const uint8_t *p = val;
	int n = snprintf(text, sizeof(text), "%u:", (unsigned)len), v;

	if (varies)
		return text;
	if (len == sizeof(v)) {
		memcpy(&v, val, sizeof(v));
		snprintf(text + n, sizeof(text) - (size_t)n, " %d", v);
		return text;
	}
	n += snprintf(text + n, sizeof(text) - (size_t)n, " ");
	for (socklen_t i = 0; i < len && i < 64; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%02x", p[i]);
	return text;
}

/* What getsockopt() says, with room for `room` bytes; "-1 ENAME" or the value. */
static inline const char *sweep_read(int fd, int level, int name, socklen_t room, bool varies)
{
	static char text[64];
	uint8_t val[512];
	socklen_t len = room;

	memset(val, 0xa5, sizeof(val));
	if (getsockopt(fd, level, name, val, &len) == 0)
		return sweep_value(val, len, varies);
	snprintf(text, sizeof(text), "-1 %s", strerrorname_np(errno));
	return text;
}

static inline void sweep_get(const char *state, int fd, const struct sweep_level *l)
{
	char label[128];

	for (int name = 0; name < l->end; name++) {
		struct sweep_name o = sweep_name(l, name);

		snprintf(label, sizeof(label), "%s: %s", state, o.text);
		o_say(label, "%s", sweep_read(fd, l->level, name, 64, o.flags & SWEEP_VARIES));
	}
}

/* Set an int and read it back, in one record. */
static inline void sweep_set_one(const char *state, int fd, const struct sweep_level *l,
				 struct sweep_name o, int v)
{
	char label[128], result[32];

	if (setsockopt(fd, l->level, o.name, &v, sizeof(v)) == 0)
		snprintf(result, sizeof(result), "0");
	else
		snprintf(result, sizeof(result), "-1 %s", strerrorname_np(errno));
	snprintf(label, sizeof(label), "%s: %s = %d", state, o.text, v);
	o_say(label, "%s, reads %s", result,
	      sweep_read(fd, l->level, o.name, 64, o.flags & SWEEP_VARIES));
}

/* Every option with every value, one after the other on this socket. */
static inline void sweep_set(const char *state, int fd, const struct sweep_level *l,
			     const int *values, size_t n)
{
	for (int name = 0; name < l->end; name++) {
		struct sweep_name o = sweep_name(l, name);

		for (size_t i = 0; i < n && !(o.flags & SWEEP_NO_SET); i++)
			sweep_set_one(state, fd, l, o, values[i]);
	}
}

/* The same, each value on a socket of its own. */
static inline void sweep_set_fresh(const char *state, int type, const struct sweep_level *l,
				   const int *values, size_t n)
{
	for (int name = 0; name < l->end; name++) {
		struct sweep_name o = sweep_name(l, name);

		for (size_t i = 0; i < n && !(o.flags & SWEEP_NO_SET); i++) {
			int fd = socket(o_family, type, 0);

			if (fd < 0)
				o_fail("socket");
			sweep_set_one(state, fd, l, o, values[i]);
			close(fd);
		}
	}
}

/* A bound socket of this side, unconnected. */
static inline int sweep_bound(int type, int port_index)
{
	struct sockaddr_storage a;
	socklen_t len = o_is_server() ? o_server_addr(&a, o_port(port_index)) :
					o_client_addr(&a, o_port(port_index));
	int fd = socket(o_family, type, 0), one = 1;

	if (fd < 0)
		o_fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		o_fail("bind");
	return fd;
}

static inline bool sweep_over(void *arg)
{
	struct tcp_info i;
	socklen_t len = sizeof(i);

	return getsockopt(*(int *)arg, IPPROTO_TCP, TCP_INFO, &i, &len) == 0 &&
	       i.tcpi_state == TCP_CLOSE;
}

/* All states that a socket goes through on the way to its end, and what the level answers in each.
 * Both sides play it: the server's connection is an accepted one. */
static inline void sweep_states(const struct sweep_level *l)
{
	int fd = socket(o_family, SOCK_STREAM, 0);
	char c;

	sweep_get("fresh", fd, l);
	close(fd);
	fd = sweep_bound(SOCK_STREAM, 1);
	sweep_get("bound", fd, l);
	listen(fd, 5);
	sweep_get("listening", fd, l);
	close(fd);
	fd = o_connected(0);
	sweep_get("connected", fd, l);
	o_sync();
	if (o_is_server())
		shutdown(fd, SHUT_WR);
	o_wait(fd, POLLIN);
	o_ret("read the end", recv(fd, &c, 1, 0));
	if (!o_is_server())
		shutdown(fd, SHUT_WR);
	o_bool("over", o_until(sweep_over, &fd));
	sweep_get("closed by both", fd, l);
	close(fd);
}

static inline void sweep_states_udp(const struct sweep_level *l)
{
	int fd = socket(o_family, SOCK_DGRAM, 0);

	sweep_get("fresh", fd, l);
	close(fd);
	fd = o_udp(0);
	sweep_get("bound", fd, l);
	close(fd);
	fd = o_udp_connected(1, 1);
	sweep_get("connected", fd, l);
	close(fd);
}

#endif
