/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/sockopt_socket.c - options of SOL_SOCKET
 *
 * Every number below SO_END is asked for in every state of a socket and set to every value of a
 * table, so this file is mostly the names of the numbers.
 */
#include "sweep.h"

#include <linux/errqueue.h>
#include <linux/filter.h>
#include <sys/time.h>

#define SO_END 90

static const struct sweep_name names[] = {
	{ SO_DEBUG, "SO_DEBUG", 0 },
	{ SO_REUSEADDR, "SO_REUSEADDR", 0 },
	{ SO_TYPE, "SO_TYPE", 0 },
	{ SO_ERROR, "SO_ERROR", 0 },
	{ SO_DONTROUTE, "SO_DONTROUTE", 0 },
	{ SO_BROADCAST, "SO_BROADCAST", 0 },
	{ SO_SNDBUF, "SO_SNDBUF", SWEEP_VARIES },
	{ SO_RCVBUF, "SO_RCVBUF", SWEEP_VARIES },
	{ SO_SNDBUFFORCE, "SO_SNDBUFFORCE", 0 },
	{ SO_RCVBUFFORCE, "SO_RCVBUFFORCE", 0 },
	{ SO_KEEPALIVE, "SO_KEEPALIVE", 0 },
	{ SO_OOBINLINE, "SO_OOBINLINE", 0 },
	{ SO_NO_CHECK, "SO_NO_CHECK", 0 },
	{ SO_PRIORITY, "SO_PRIORITY", 0 },
	{ SO_LINGER, "SO_LINGER", 0 },
	{ SO_BSDCOMPAT, "SO_BSDCOMPAT", 0 },
	{ SO_REUSEPORT, "SO_REUSEPORT", 0 },
	{ SO_PASSCRED, "SO_PASSCRED", 0 },
	{ SO_PEERCRED, "SO_PEERCRED", 0 },
	{ SO_RCVLOWAT, "SO_RCVLOWAT", 0 },
	{ SO_SNDLOWAT, "SO_SNDLOWAT", 0 },
	{ SO_RCVTIMEO, "SO_RCVTIMEO", 0 },
	{ SO_SNDTIMEO, "SO_SNDTIMEO", 0 },
	{ SO_BINDTODEVICE, "SO_BINDTODEVICE", 0 },
	{ SO_ATTACH_FILTER, "SO_ATTACH_FILTER", 0 },
	{ SO_DETACH_FILTER, "SO_DETACH_FILTER", 0 },
	{ SO_PEERNAME, "SO_PEERNAME", SWEEP_VARIES },
	{ SO_TIMESTAMP, "SO_TIMESTAMP", 0 },
	{ SO_ACCEPTCONN, "SO_ACCEPTCONN", 0 },
	{ SO_PEERSEC, "SO_PEERSEC", 0 },
	{ SO_PASSSEC, "SO_PASSSEC", 0 },
	{ SO_TIMESTAMPNS, "SO_TIMESTAMPNS", 0 },
	{ SO_MARK, "SO_MARK", 0 },
	{ SO_TIMESTAMPING, "SO_TIMESTAMPING", 0 },
	{ SO_PROTOCOL, "SO_PROTOCOL", 0 },
	{ SO_DOMAIN, "SO_DOMAIN", 0 },
	{ SO_RXQ_OVFL, "SO_RXQ_OVFL", 0 },
	{ SO_WIFI_STATUS, "SO_WIFI_STATUS", 0 },
	{ SO_PEEK_OFF, "SO_PEEK_OFF", 0 },
	{ SO_NOFCS, "SO_NOFCS", 0 },
	{ SO_LOCK_FILTER, "SO_LOCK_FILTER", 0 },
	{ SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE", 0 },
	{ SO_BUSY_POLL, "SO_BUSY_POLL", 0 },
	{ SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", 0 },
	{ SO_BPF_EXTENSIONS, "SO_BPF_EXTENSIONS", 0 },
	{ SO_INCOMING_CPU, "SO_INCOMING_CPU", SWEEP_VARIES },
	{ SO_ATTACH_BPF, "SO_ATTACH_BPF", 0 },
	{ SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF", 0 },
	{ SO_ATTACH_REUSEPORT_EBPF, "SO_ATTACH_REUSEPORT_EBPF", 0 },
	{ SO_CNX_ADVICE, "SO_CNX_ADVICE", 0 },
	{ SO_MEMINFO, "SO_MEMINFO", SWEEP_VARIES },
	{ SO_INCOMING_NAPI_ID, "SO_INCOMING_NAPI_ID", SWEEP_VARIES },
	{ SO_COOKIE, "SO_COOKIE", SWEEP_VARIES },
	{ SO_PEERGROUPS, "SO_PEERGROUPS", 0 },
	{ SO_ZEROCOPY, "SO_ZEROCOPY", 0 },
	{ SO_TXTIME, "SO_TXTIME", 0 },
	{ SO_BINDTOIFINDEX, "SO_BINDTOIFINDEX", 0 },
	{ SO_TIMESTAMP_NEW, "SO_TIMESTAMP_NEW", 0 },
	{ SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW", 0 },
	{ SO_TIMESTAMPING_NEW, "SO_TIMESTAMPING_NEW", 0 },
	{ SO_RCVTIMEO_NEW, "SO_RCVTIMEO_NEW", 0 },
	{ SO_SNDTIMEO_NEW, "SO_SNDTIMEO_NEW", 0 },
	{ SO_DETACH_REUSEPORT_BPF, "SO_DETACH_REUSEPORT_BPF", 0 },
	{ SO_PREFER_BUSY_POLL, "SO_PREFER_BUSY_POLL", 0 },
	{ SO_BUSY_POLL_BUDGET, "SO_BUSY_POLL_BUDGET", 0 },
	{ SO_NETNS_COOKIE, "SO_NETNS_COOKIE", SWEEP_VARIES },
	{ SO_BUF_LOCK, "SO_BUF_LOCK", 0 },
	{ SO_RESERVE_MEM, "SO_RESERVE_MEM", 0 },
	{ SO_TXREHASH, "SO_TXREHASH", 0 },
};
static const struct sweep_level level = SWEEP_LEVEL(SOL_SOCKET, SO_END, names);

static void get_tcp(void)
{
	sweep_states(&level);
}
SCENARIO(socket_options_get_tcp, "getsockopt(SOL_SOCKET), every option, in every state of TCP",
	 O_BOTH, get_tcp, get_tcp)

static void get_udp(void)
{
	sweep_states_udp(&level);
}
SCENARIO(socket_options_get_udp, "getsockopt(SOL_SOCKET), every option, in every state of UDP",
	 O_BOTH, get_udp, get_udp)

/* A buffer size that was asked for is no matter of chance. */
static const struct sweep_name set_names[] = {
	{ SO_SNDBUF, "SO_SNDBUF", 0 },
	{ SO_RCVBUF, "SO_RCVBUF", 0 },
	{ SO_INCOMING_CPU, "SO_INCOMING_CPU", SWEEP_VARIES },
	{ SO_COOKIE, "SO_COOKIE", SWEEP_VARIES },
	{ SO_NETNS_COOKIE, "SO_NETNS_COOKIE", SWEEP_VARIES },
	{ SO_MEMINFO, "SO_MEMINFO", SWEEP_VARIES },
	{ SO_INCOMING_NAPI_ID, "SO_INCOMING_NAPI_ID", SWEEP_VARIES },
	{ SO_PEERNAME, "SO_PEERNAME", SWEEP_VARIES },
	/* may wait for memory of the whole machine */
	{ SO_RESERVE_MEM, "SO_RESERVE_MEM", SWEEP_NO_SET },
};
static const struct sweep_level set_level = SWEEP_LEVEL(SOL_SOCKET, SO_END, set_names);
static const int values[] = { -1, 0, 1, 2, 7, 255, 4096, 1000000, 0x7fffffff };
#define N(a) (sizeof(a) / sizeof((a)[0]))

static void set_fresh(void)
{
	sweep_set_fresh("tcp", SOCK_STREAM, &set_level, values, N(values));
	sweep_set_fresh("udp", SOCK_DGRAM, &set_level, values, N(values));
}
SCENARIO(socket_options_set, "setsockopt(SOL_SOCKET), every option, good and bad values", O_BOTH,
	 set_fresh, NULL)

/* One socket bears them all, and data flow afterwards. */
static const struct sweep_name connected_names[] = {
	{ SO_SNDBUF, "SO_SNDBUF", 0 },
	{ SO_RCVBUF, "SO_RCVBUF", 0 },
	{ SO_INCOMING_CPU, "SO_INCOMING_CPU", SWEEP_VARIES },
	{ SO_COOKIE, "SO_COOKIE", SWEEP_VARIES },
	{ SO_NETNS_COOKIE, "SO_NETNS_COOKIE", SWEEP_VARIES },
	{ SO_MEMINFO, "SO_MEMINFO", SWEEP_VARIES },
	{ SO_INCOMING_NAPI_ID, "SO_INCOMING_NAPI_ID", SWEEP_VARIES },
	{ SO_PEERNAME, "SO_PEERNAME", SWEEP_VARIES },
	{ SO_RESERVE_MEM, "SO_RESERVE_MEM", SWEEP_NO_SET },
	{ SO_DONTROUTE, "SO_DONTROUTE", SWEEP_NO_SET },
	{ SO_BINDTOIFINDEX, "SO_BINDTOIFINDEX", SWEEP_NO_SET },
	{ SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", SWEEP_NO_SET },
	{ SO_TIMESTAMP, "SO_TIMESTAMP", 0 },
	{ SO_TIMESTAMPNS, "SO_TIMESTAMPNS", 0 },
	{ SO_TIMESTAMPING, "SO_TIMESTAMPING", 0 },
	{ SO_TIMESTAMP_NEW, "SO_TIMESTAMP_NEW", 0 },
	{ SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW", 0 },
	{ SO_TIMESTAMPING_NEW, "SO_TIMESTAMPING_NEW", 0 },
	{ SO_PEEK_OFF, "SO_PEEK_OFF", 0 },
	{ SO_ZEROCOPY, "SO_ZEROCOPY", 0 },
};
static const struct sweep_level connected_level = SWEEP_LEVEL(SOL_SOCKET, SO_END, connected_names);
static const int connected_values[] = { -1, 1, 7, 100000, 0 };

static void set_connected(void)
{
	int fd = o_connected(0);
	char c = 'x';

	sweep_set("connected", fd, &connected_level, connected_values, N(connected_values));
	o_sync();
	O("send", send(fd, &c, 1, 0));
	o_wait(fd, POLLIN);
	O("recv", recv(fd, &c, 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(socket_options_set_connected, "setsockopt(SOL_SOCKET) on a connection", O_BOTH,
	 set_connected, set_connected)

/* --- lengths and pointers --------------------------------------------------------------------- */

static const int sample[] = { SO_REUSEADDR, SO_RCVBUF, SO_ERROR, SO_LINGER, SO_RCVTIMEO, SO_TYPE,
			      SO_KEEPALIVE, SO_COOKIE, SO_BINDTODEVICE, SO_PEERCRED };

static void lengths_of(const char *what, int fd)
{
	static const int lens[] = { 0, 1, 2, 3, 4, 7, 8, 15, 16, 100, -1 };
	uint8_t buf[128];
	char label[96];
	socklen_t len;

	for (size_t i = 0; i < N(sample); i++) {
		struct sweep_name o = sweep_name(&level, sample[i]);

		for (size_t k = 0; k < N(lens); k++) {
			snprintf(label, sizeof(label), "%s: get %s, %d bytes", what, o.text, lens[k]);
			o_say(label, "%s", sweep_read(fd, SOL_SOCKET, o.name, (socklen_t)lens[k],
						      o.flags & SWEEP_VARIES));
			memset(buf, 0, sizeof(buf));
			snprintf(label, sizeof(label), "%s: set %s, %d bytes", what, o.text, lens[k]);
			O(label, setsockopt(fd, SOL_SOCKET, o.name, buf, (socklen_t)lens[k]));
		}
		len = 4;
		snprintf(label, sizeof(label), "%s: get %s, no buffer", what, o.text);
		O(label, getsockopt(fd, SOL_SOCKET, o.name, NULL, &len));
		snprintf(label, sizeof(label), "%s: get %s, no length", what, o.text);
		O(label, getsockopt(fd, SOL_SOCKET, o.name, buf, NULL));
		snprintf(label, sizeof(label), "%s: get %s, bad length pointer", what, o.text);
		O(label, getsockopt(fd, SOL_SOCKET, o.name, buf, (socklen_t *)-4096));
		snprintf(label, sizeof(label), "%s: set %s, no buffer", what, o.text);
		O(label, setsockopt(fd, SOL_SOCKET, o.name, NULL, 4));
		snprintf(label, sizeof(label), "%s: set %s, bad buffer", what, o.text);
		O(label, setsockopt(fd, SOL_SOCKET, o.name, (void *)-4096, 16));
	}
}

static void lengths(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0);

	lengths_of("fresh", fd);
	close(fd);
	fd = o_connected(0);
	lengths_of("connected", fd);
	o_sync();
	close(fd);
	fd = o_udp_connected(1, 1);
	lengths_of("udp", fd);
	close(fd);
}
SCENARIO(socket_options_lengths, "option buffers too short, too long, absent", O_BOTH, lengths,
	 lengths)

/* --- what an accepted socket inherits -------------------------------------------------------------- */

static void inherit_server(void)
{
	static const struct {
		int level, name, value;
		const char *text;
	} set[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE" },
		{ SOL_SOCKET, SO_RCVBUF, 30000, "SO_RCVBUF" },
		{ SOL_SOCKET, SO_SNDBUF, 40000, "SO_SNDBUF" },
		{ SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE" },
		{ SOL_SOCKET, SO_RCVLOWAT, 3, "SO_RCVLOWAT" },
		{ SOL_SOCKET, SO_PRIORITY, 4, "SO_PRIORITY" },
		{ SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST" },
		{ SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR" },
		{ SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT" },
		{ IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY" },
		{ IPPROTO_TCP, TCP_CORK, 1, "TCP_CORK" },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 77, "TCP_KEEPIDLE" },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 33, "TCP_KEEPINTVL" },
		{ IPPROTO_TCP, TCP_KEEPCNT, 5, "TCP_KEEPCNT" },
		{ IPPROTO_TCP, TCP_SYNCNT, 3, "TCP_SYNCNT" },
		{ IPPROTO_TCP, TCP_LINGER2, 11, "TCP_LINGER2" },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, 9999, "TCP_USER_TIMEOUT" },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 12345, "TCP_NOTSENT_LOWAT" },
		{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 1, "TCP_DEFER_ACCEPT" },
		{ IPPROTO_IP, IP_TOS, 0x10, "IP_TOS" },
		{ IPPROTO_IP, IP_TTL, 44, "IP_TTL" },
		{ IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, "IP_MTU_DISCOVER" },
		{ IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY" },
		{ IPPROTO_IPV6, IPV6_TCLASS, 0x20, "IPV6_TCLASS" },
		{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 55, "IPV6_UNICAST_HOPS" },
	};
	struct timeval tv = { 3, 250000 };
	struct linger lg = { 1, 6 };
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0), c;
	char label[64], byte;

	for (size_t i = 0; i < N(set); i++) {
		snprintf(label, sizeof(label), "set %s", set[i].text);
		O(label, setsockopt(fd, set[i].level, set[i].name, &set[i].value, sizeof(int)));
	}
	O("set SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg)));
	O("set SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	O("set SO_SNDTIMEO", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	O("set TCP_CONGESTION", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	O("bind", bind(fd, (struct sockaddr *)&a, len));
	O("listen", listen(fd, 5));
	o_sync();
	c = (int)O_OK("accept", accept(fd, NULL, NULL));
	for (size_t i = 0; i < N(set); i++) {
		snprintf(label, sizeof(label), "accepted: %s", set[i].text);
		o_say(label, "%s", sweep_read(c, set[i].level, set[i].name, 64, false));
	}
	o_say("accepted: SO_LINGER", "%s", sweep_read(c, SOL_SOCKET, SO_LINGER, 64, false));
	o_say("accepted: SO_RCVTIMEO", "%s", sweep_read(c, SOL_SOCKET, SO_RCVTIMEO, 64, false));
	o_say("accepted: SO_SNDTIMEO", "%s", sweep_read(c, SOL_SOCKET, SO_SNDTIMEO, 64, false));
	o_say("accepted: TCP_CONGESTION", "%s",
	      sweep_read(c, IPPROTO_TCP, TCP_CONGESTION, 64, false));
	o_say("accepted: O_NONBLOCK", "%d", fcntl(c, F_GETFL) & O_NONBLOCK ? 1 : 0);
	o_sync();
	O("recv", recv(c, &byte, 1, 0));
	close(c);
	close(fd);
}

static void inherit_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);
	char byte;

	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("send", send(fd, "abc", 3, 0)); /* the listener defers until data */
	o_sync();
	o_ok("end", recv(fd, &byte, 1, 0));
	close(fd);
}
SCENARIO(accepted_inherits_options, "options that an accepted socket has from its listener",
	 O_BOTH, inherit_server, inherit_client)

/* --- particular ones --------------------------------------------------------------------------------- */

static void timeouts(void)
{
	struct { int64_t sec, usec; } t = { 0, 200000 };
	struct timeval bad[] = { { -1, 0 }, { 0, -1 }, { 0, 1000000 }, { 0, 999999 }, { 1L << 40, 0 } };
	int fd = o_udp(0), c;
	char byte, label[64];
	uint64_t start;

	for (size_t i = 0; i < N(bad); i++) {
		snprintf(label, sizeof(label), "SO_RCVTIMEO %lld s %lld us", (long long)bad[i].tv_sec,
			 (long long)bad[i].tv_usec);
		O(label, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bad[i], sizeof(bad[i])));
		strcat(label, " read");
		o_say(label, "%s", sweep_read(fd, SOL_SOCKET, SO_RCVTIMEO, 16, false));
	}
	O("set SO_RCVTIMEO_NEW", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO_NEW, &t, sizeof(t)));
	o_say("SO_RCVTIMEO", "%s", sweep_read(fd, SOL_SOCKET, SO_RCVTIMEO, 16, false));
	start = o_now();
	O("udp recv", recv(fd, &byte, 1, 0));
	o_time("udp recv took", start, 200);
	close(fd);
	c = o_connected(1);
	O("set SO_RCVTIMEO_NEW, tcp", setsockopt(c, SOL_SOCKET, SO_RCVTIMEO_NEW, &t, sizeof(t)));
	start = o_now();
	O("tcp recv", recv(c, &byte, 1, 0));
	o_time("tcp recv took", start, 200);
	o_sync();
	close(c);
}
SCENARIO(receive_timeouts, "SO_RCVTIMEO in its two forms: values and the time waited", O_BOTH,
	 timeouts, timeouts)

/* A filter that drops everything, before there is a connection or a datagram. */
static void filter_server(void)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { 1, &drop };
	struct timeval tv = { 0, 300000 };
	char byte[8];
	int fd = o_udp(0);

	O("attach", setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	o_sync();
	O("recv what the filter drops", recv(fd, byte, sizeof(byte), 0));
	O("detach", setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &byte, sizeof(int)));
	O("detach again", setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &byte, sizeof(int)));
	o_sync();
	O("recv after detach", recv(fd, byte, sizeof(byte), 0));
	close(fd);
}

static void filter_client(void)
{
	int fd = o_udp_connected(0, 0);

	o_sync();
	O("send", send(fd, "one", 3, 0));
	o_sync();
	O("send after detach", send(fd, "three", 5, 0));
	close(fd);
}
SCENARIO(socket_filter, "SO_ATTACH_FILTER drops what it drops, until it is detached", O_BOTH,
	 filter_server, filter_client)

static void device(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0);
	char name[16] = "";
	socklen_t len = sizeof(name);

	O("none", getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	o_say("none: length", "%u", (unsigned)len);
	O("absent device", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "nodev0", 7));
	O("ours", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o_ifname(),
			     (socklen_t)strlen(o_ifname())));
	len = sizeof(name);
	O("get", getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	o_say("name", "%s, %u", name, (unsigned)len);
	len = 2;
	O("get, short", getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	O("off", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
	close(fd);
}

static void device_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0), c;
	char byte;

	device();
	O("listener: device", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o_ifname(),
					 (socklen_t)strlen(o_ifname())));
	O("bind", bind(fd, (struct sockaddr *)&a, len));
	O("listen", listen(fd, 1));
	o_sync();
	c = (int)O_OK("accept", accept(fd, NULL, NULL));
	o_say("accepted: device", "%s", sweep_read(c, SOL_SOCKET, SO_BINDTODEVICE, 16, false));
	O("recv", recv(c, &byte, 1, 0));
	close(c);
	close(fd);
}

static void device_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	device();
	O("client: lo", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	o_sync();
	O("client: our device", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, o_ifname(),
					   (socklen_t)strlen(o_ifname())));
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("send", send(fd, "x", 1, 0));
	close(fd);
}
SCENARIO(bind_to_device, "SO_BINDTODEVICE, set, read, and served", O_BOTH, device_server,
	 device_client)

static void zerocopy(void)
{
	int one = 1, fd = o_connected(0);
	char buf[16];

	O("SO_ZEROCOPY", setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)));
	o_say("reads", "%s", sweep_read(fd, SOL_SOCKET, SO_ZEROCOPY, 4, false));
	o_sync();
	O("plain send", send(fd, "plain", 5, 0));
	o_wait_bytes(fd, 5);
	O("recv", recv(fd, buf, sizeof(buf), 0));
	o_sync();
	close(fd);
}
SCENARIO(zerocopy_option, "SO_ZEROCOPY on a connection", O_BOTH, zerocopy, zerocopy)

/* SO_REUSEADDR and SO_REUSEPORT may change after bind(). */
static void reuse_later(void)
{
	int fd = sweep_bound(SOCK_STREAM, 0), one = 1, zero = 0;

	O("SO_REUSEPORT after bind", setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)));
	o_say("SO_REUSEPORT", "%s", sweep_read(fd, SOL_SOCKET, SO_REUSEPORT, 4, false));
	O("SO_REUSEADDR off after bind", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &zero, sizeof(zero)));
	o_say("SO_REUSEADDR", "%s", sweep_read(fd, SOL_SOCKET, SO_REUSEADDR, 4, false));
	O("listen", listen(fd, 1));
	O("SO_REUSEADDR on a listener", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	close(fd);
}
SCENARIO(reuse_after_bind, "SO_REUSEADDR and SO_REUSEPORT set after bind()", O_BOTH, reuse_later,
	 NULL)

/* --- set on a connection with data under way: they work from then on ----------------------------------- */

/* Does the next byte come with a time? */
static bool stamped_byte(int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct timespec))];
		struct cmsghdr align;
	} u;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			    .msg_controllen = sizeof(u.buf) };

	return recvmsg(fd, &m, 0) == 1 && m.msg_controllen == sizeof(u.buf) &&
	       u.align.cmsg_level == SOL_SOCKET && u.align.cmsg_type == SO_TIMESTAMPNS;
}

static void late_timestamp(void)
{
	int fd = o_connected(0), one = 1;
	bool stamped = false;
	char data[16];

	O("send", send(fd, "unread", 6, 0));
	o_wait_bytes(fd, 6);
	o_sync();
	O("SO_TIMESTAMPNS", setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one)));
	O("recv", recv(fd, data, 6, 0));
	o_bytes("bytes", data, 6);
	/* the kernel begins to take times a little after it was asked to */
	for (int i = 0; i < 50; i++) {
		o_sync();
		if (send(fd, "x", 1, 0) != 1)
			o_fail("send");
		stamped |= stamped_byte(fd);
	}
	o_bool("bytes have times", stamped);
	o_sync();
	close(fd);
}
SCENARIO(timestamps_on_a_connection, "SO_TIMESTAMPNS set with data unread: what comes later has a time",
	 O_BOTH, late_timestamp, late_timestamp)

static void late_zerocopy(void)
{
	int fd = o_connected(0), one = 1;
	static char data[64];
	char control[256];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct sock_extended_err e = { 0 };
	struct cmsghdr *c;

	O("SO_ZEROCOPY", setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)));
	o_sync();
	O("send", send(fd, data, sizeof(data), MSG_ZEROCOPY));
	o_bool("told of", o_wait(fd, 0) & POLLERR);
	O("recvmsg of the error queue", recvmsg(fd, &m, MSG_ERRQUEUE));
	c = CMSG_FIRSTHDR(&m);
	if (c)
		memcpy(&e, CMSG_DATA(c), sizeof(e));
	o_say("completion", "origin %d, from %u to %u", e.ee_origin, e.ee_info, e.ee_data);
	O("recv", o_recv_all(fd, data, sizeof(data)));
	o_sync();
	close(fd);
}
SCENARIO(zerocopy_completions, "MSG_ZEROCOPY on a connection: the completion is told", O_BOTH,
	 late_zerocopy, late_zerocopy)

static void late_peek_off(void)
{
	int fd = o_connected(0), at = 2;
	char data[8];

	O("send", send(fd, "abcdefgh", 8, 0));
	o_wait_bytes(fd, 8);
	o_sync();
	O("SO_PEEK_OFF", setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof(at)));
	O("peek", recv(fd, data, 3, MSG_PEEK));
	o_bytes("peeked", data, 3);
	O("peek on", recv(fd, data, 3, MSG_PEEK));
	o_bytes("peeked on", data, 3);
	O("recv", recv(fd, data, 8, 0));
	o_bytes("received", data, 8);
	o_sync();
	close(fd);
}
SCENARIO(peek_offset, "SO_PEEK_OFF on a connection", O_BOTH, late_peek_off, late_peek_off)

/* Only the server gives up being root for a moment: an option that needs the kernel's stack then. */
static void no_privilege(void)
{
	int fd = o_connected(0), one = 1;
	char c;

	if (o_is_server() && seteuid(65534) < 0)
		o_fail("seteuid");
	O("SO_TIMESTAMPNS", setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one)));
	o_say("SO_TIMESTAMPNS reads", "%s", sweep_read(fd, SOL_SOCKET, SO_TIMESTAMPNS, 4, false));
	O("SO_MARK", setsockopt(fd, SOL_SOCKET, SO_MARK, &one, sizeof(one)));
	O("SO_KEEPALIVE", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	if (o_is_server() && seteuid(0) < 0)
		o_fail("seteuid back");
	o_sync();
	O("send", send(fd, "x", 1, 0));
	O("recv", recv(fd, &c, 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(options_without_privilege, "options on a connection after root was given up", O_BOTH,
	 no_privilege, no_privilege)
