/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/sockopt_tcp.c - options of IPPROTO_TCP, and TCP_INFO */
#include "sweep.h"

#include <linux/sockios.h>

#define TCP_END 50
#define N(a) (sizeof(a) / sizeof((a)[0]))
#ifndef TCP_TX_DELAY
#define TCP_TX_DELAY 37
#endif

static const struct sweep_name names[] = {
	{ TCP_NODELAY, "TCP_NODELAY", 0 },
	{ TCP_MAXSEG, "TCP_MAXSEG", 0 },
	{ TCP_CORK, "TCP_CORK", 0 },
	{ TCP_KEEPIDLE, "TCP_KEEPIDLE", 0 },
	{ TCP_KEEPINTVL, "TCP_KEEPINTVL", 0 },
	{ TCP_KEEPCNT, "TCP_KEEPCNT", 0 },
	{ TCP_SYNCNT, "TCP_SYNCNT", 0 },
	{ TCP_LINGER2, "TCP_LINGER2", 0 },
	{ TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", 0 },
	{ TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", SWEEP_VARIES },
	{ TCP_INFO, "TCP_INFO", SWEEP_VARIES },
	{ TCP_QUICKACK, "TCP_QUICKACK", SWEEP_VARIES },
	{ TCP_CONGESTION, "TCP_CONGESTION", SWEEP_VARIES },
	{ TCP_MD5SIG, "TCP_MD5SIG", 0 },
	{ TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS", 0 },
	{ TCP_THIN_DUPACK, "TCP_THIN_DUPACK", 0 },
	{ TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", 0 },
	{ TCP_REPAIR, "TCP_REPAIR", SWEEP_NO_SET },
	{ TCP_REPAIR_QUEUE, "TCP_REPAIR_QUEUE", 0 },
	{ TCP_QUEUE_SEQ, "TCP_QUEUE_SEQ", 0 },
	{ TCP_REPAIR_OPTIONS, "TCP_REPAIR_OPTIONS", 0 },
	{ TCP_FASTOPEN, "TCP_FASTOPEN", 0 },
	{ TCP_TIMESTAMP, "TCP_TIMESTAMP", SWEEP_VARIES },
	{ TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", 0 },
	{ TCP_CC_INFO, "TCP_CC_INFO", SWEEP_VARIES },
	{ TCP_SAVE_SYN, "TCP_SAVE_SYN", 0 },
	{ TCP_SAVED_SYN, "TCP_SAVED_SYN", 0 },
	{ TCP_REPAIR_WINDOW, "TCP_REPAIR_WINDOW", 0 },
	{ TCP_FASTOPEN_CONNECT, "TCP_FASTOPEN_CONNECT", 0 },
	{ TCP_ULP, "TCP_ULP", 0 },
	{ TCP_MD5SIG_EXT, "TCP_MD5SIG_EXT", 0 },
	{ TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY", SWEEP_VARIES },
	{ TCP_FASTOPEN_NO_COOKIE, "TCP_FASTOPEN_NO_COOKIE", 0 },
	{ TCP_ZEROCOPY_RECEIVE, "TCP_ZEROCOPY_RECEIVE", 0 },
	{ TCP_INQ, "TCP_INQ", 0 },
	{ TCP_TX_DELAY, "TCP_TX_DELAY", SWEEP_NO_SET },
};
static const struct sweep_level level = SWEEP_LEVEL(IPPROTO_TCP, TCP_END, names);

static void get_states(void)
{
	sweep_states(&level);
}
SCENARIO(tcp_options_get, "getsockopt(IPPROTO_TCP), every option, in every state", O_BOTH,
	 get_states, get_states)

static void get_udp(void)
{
	sweep_states_udp(&level);
}
SCENARIO(tcp_options_on_udp, "getsockopt(IPPROTO_TCP) on UDP sockets", O_BOTH, get_udp, get_udp)

static const int values[] = { -1, 0, 1, 2, 3, 60, 87, 88, 127, 128, 255, 256, 1460, 32767, 32768,
			      65535, 65536, 1000000, 0x7fffffff };

static void set_fresh(void)
{
	sweep_set_fresh("fresh", SOCK_STREAM, &level, values, N(values));
}
SCENARIO(tcp_options_set, "setsockopt(IPPROTO_TCP), every option, good, bad and boundary values",
	 O_BOTH, set_fresh, NULL)

static void set_listening(void)
{
	int fd = sweep_bound(SOCK_STREAM, 0);

	listen(fd, 5);
	sweep_set("listening", fd, &level, values, N(values));
	close(fd);
}
SCENARIO(tcp_options_set_listening, "setsockopt(IPPROTO_TCP) on a listener", O_BOTH,
	 set_listening, NULL)

/* What would end or stall the connection of the sweep is left out. */
static const struct sweep_name connected_names[] = {
	{ TCP_NODELAY, "TCP_NODELAY", 0 },
	{ TCP_MAXSEG, "TCP_MAXSEG", SWEEP_VARIES },
	{ TCP_CORK, "TCP_CORK", 0 },
	{ TCP_KEEPIDLE, "TCP_KEEPIDLE", 0 },
	{ TCP_KEEPINTVL, "TCP_KEEPINTVL", 0 },
	{ TCP_KEEPCNT, "TCP_KEEPCNT", 0 },
	{ TCP_SYNCNT, "TCP_SYNCNT", 0 },
	{ TCP_LINGER2, "TCP_LINGER2", 0 },
	{ TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", 0 },
	{ TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", SWEEP_VARIES },
	{ TCP_INFO, "TCP_INFO", SWEEP_VARIES },
	{ TCP_QUICKACK, "TCP_QUICKACK", SWEEP_VARIES },
	{ TCP_CONGESTION, "TCP_CONGESTION", SWEEP_VARIES },
	{ TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", SWEEP_NO_SET },
	{ TCP_REPAIR, "TCP_REPAIR", SWEEP_NO_SET },
	{ TCP_TIMESTAMP, "TCP_TIMESTAMP", SWEEP_VARIES },
	{ TCP_CC_INFO, "TCP_CC_INFO", SWEEP_VARIES },
	{ TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY", SWEEP_VARIES },
	{ TCP_TX_DELAY, "TCP_TX_DELAY", SWEEP_NO_SET },
};
static const struct sweep_level connected_level =
	SWEEP_LEVEL(IPPROTO_TCP, TCP_END, connected_names);

static void set_connected(void)
{
	static const int vs[] = { -1, 1, 2, 127, 128, 256, 1460, 32767, 32768, 65536, 0 };
	int fd = o_connected(0);
	char c = 'x';

	sweep_set("connected", fd, &connected_level, vs, N(vs));
	o_sync();
	O("send", send(fd, &c, 1, 0));
	o_wait(fd, POLLIN);
	O("recv", recv(fd, &c, 1, 0));
	o_sync();
	close(fd);
}
SCENARIO(tcp_options_set_connected, "setsockopt(IPPROTO_TCP) on a connection", O_BOTH,
	 set_connected, set_connected)

/* --- congestion control and other names ---------------------------------------------------------- */

static void congestion_of(const char *what, int fd)
{
	static const struct {
		const char *name;
		socklen_t len;
	} set[] = { { "reno", 4 }, { "reno", 5 }, { "cubic", 6 }, { "re", 2 }, { "nosuch", 6 },
		    { "", 0 }, { "", 1 }, { "cubicxxxxxxxxxxxxxxxxxxx", 24 }, { "reno", 4 } };
	static const socklen_t room[] = { 0, 1, 4, 5, 6, 15, 16, 17, 64 };
	char label[96];

	for (size_t i = 0; i < N(set); i++) {
		snprintf(label, sizeof(label), "%s: %zu set \"%s\", %u bytes", what, i, set[i].name,
			 set[i].len);
		O(label, setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, set[i].name, set[i].len));
		strcat(label, ": get");
		o_say(label, "%s", sweep_read(fd, IPPROTO_TCP, TCP_CONGESTION, 16, false));
	}
	for (size_t i = 0; i < N(room); i++) {
		snprintf(label, sizeof(label), "%s: get, room for %u", what, room[i]);
		o_say(label, "%s", sweep_read(fd, IPPROTO_TCP, TCP_CONGESTION, room[i], false));
	}
}

static void congestion(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0);

	congestion_of("fresh", fd);
	close(fd);
	fd = o_connected(0);
	congestion_of("connected", fd);
	O("ULP tls", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4));
	O("ULP nosuch", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "nosuch", 7));
	o_sync();
	close(fd);
}
SCENARIO(congestion_control_names, "TCP_CONGESTION: names, unknown ones, lengths; TCP_ULP", O_BOTH,
	 congestion, congestion)

/* Any algorithm that the kernel offers is to be had. */
static void congestion_bbr_server(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0), c, one = 1;
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	O("listener: bbr", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3));
	O("bind", bind(fd, (struct sockaddr *)&a, len));
	O("listen", listen(fd, 1));
	o_sync();
	c = (int)O_OK("accept", accept(fd, NULL, NULL));
	o_say("accepted", "%s", sweep_read(c, IPPROTO_TCP, TCP_CONGESTION, 16, false));
	O("recv", recv(c, &byte, 1, 0));
	close(c);
	close(fd);
}

static void congestion_bbr_client(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0);
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));

	O("client: bbr", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3));
	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	o_say("connected", "%s", sweep_read(fd, IPPROTO_TCP, TCP_CONGESTION, 16, false));
	O("send", send(fd, "x", 1, 0));
	close(fd);
}
SCENARIO(congestion_control_of_kernel, "TCP_CONGESTION: an algorithm that only the kernel has",
	 O_BOTH, congestion_bbr_server, congestion_bbr_client)

/* --- TCP_INFO ---------------------------------------------------------------------------------------- */

static void info_of(const char *what, int fd, bool data)
{
	struct tcp_info i;
	socklen_t len = sizeof(i);
	char label[96];

	memset(&i, 0, sizeof(i));
	snprintf(label, sizeof(label), "%s: TCP_INFO", what);
	O(label, getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	strcat(label, " fields");
	o_say(label, "length %u state %u ca %u retransmits %u probes %u backoff %u options %x "
	      "snd_mss %u rcv_mss>0 %d unacked %u lost %u retrans %u pmtu %u cwnd>0 %d rtt>0 %d "
	      "rto>0 %d advmss %u total_retrans %u",
	      (unsigned)len, i.tcpi_state, i.tcpi_ca_state, i.tcpi_retransmits, i.tcpi_probes,
	      i.tcpi_backoff, i.tcpi_options, i.tcpi_snd_mss, i.tcpi_rcv_mss > 0, i.tcpi_unacked,
	      i.tcpi_lost, i.tcpi_retrans, data ? i.tcpi_pmtu : 0, i.tcpi_snd_cwnd > 0,
	      data ? i.tcpi_rtt > 0 : 0, i.tcpi_rto > 0, i.tcpi_advmss, i.tcpi_total_retrans);
}

static bool is_acked(void *arg)
{
	int left = 1;

	return ioctl(*(int *)arg, SIOCOUTQ, &left) == 0 && left == 0;
}

static void info(void)
{
	static const int lens[] = { 0, 1, 4, 8, 100, 104, 192, 240, 256, 400, -1 };
	int fd = socket(o_family, SOCK_STREAM, 0);
	uint8_t buf[512];
	char label[64];
	socklen_t len;

	info_of("fresh", fd, false);
	close(fd);
	fd = sweep_bound(SOCK_STREAM, 1);
	listen(fd, 5);
	info_of("listening", fd, false);
	close(fd);
	fd = o_connected(0);
	o_sync();
	O("send", send(fd, "0123456789", 10, 0));
	o_wait_bytes(fd, 10);
	O("recv", recv(fd, buf, sizeof(buf), 0));
	o_bool("acknowledged", o_until(is_acked, &fd));
	o_sync();
	info_of("connected", fd, true);
	for (size_t i = 0; i < N(lens); i++) {
		len = (socklen_t)lens[i];
		snprintf(label, sizeof(label), "TCP_INFO, %d bytes", lens[i]);
		O(label, getsockopt(fd, IPPROTO_TCP, TCP_INFO, buf, &len));
		strcat(label, ": length");
		o_say(label, "%d", (int)len);
	}
	len = sizeof(buf);
	O("TCP_INFO, no buffer", getsockopt(fd, IPPROTO_TCP, TCP_INFO, NULL, &len));
	O("TCP_INFO, no length", getsockopt(fd, IPPROTO_TCP, TCP_INFO, buf, NULL));
	o_sync();
	shutdown(fd, SHUT_WR);
	o_wait(fd, POLLIN);
	O("end", recv(fd, buf, 1, 0));
	close(fd);
}
SCENARIO(tcp_info, "TCP_INFO: the fields that mean the same, and its lengths", O_BOTH, info, info)

/* --- TCP_INQ: how much is left to read, with each recvmsg() ------------------------------------------- */

static void inq(void)
{
	int fd = o_connected(0), one = 1, left = -1;
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	char data[4];
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			    .msg_controllen = sizeof(u.buf) };

	O("TCP_INQ 2", setsockopt(fd, IPPROTO_TCP, TCP_INQ, &(int){ 2 }, sizeof(int)));
	O("TCP_INQ", setsockopt(fd, IPPROTO_TCP, TCP_INQ, &one, sizeof(one)));
	o_say("TCP_INQ reads", "%s", sweep_read(fd, IPPROTO_TCP, TCP_INQ, 4, false));
	o_sync();
	O("send", send(fd, "0123456789", 10, 0));
	o_wait_bytes(fd, 10);
	o_sync();
	for (int i = 0; i < 3; i++) {
		char label[32];

		m.msg_controllen = sizeof(u.buf);
		snprintf(label, sizeof(label), "recvmsg %d", i);
		O(label, recvmsg(fd, &m, 0));
		if (m.msg_controllen >= CMSG_LEN(sizeof(int)))
			memcpy(&left, CMSG_DATA(&u.align), sizeof(left));
		strcat(label, " left");
		o_say(label, "%d, %d %d, length %zu, flags %d", left, u.align.cmsg_level,
		      u.align.cmsg_type, m.msg_controllen, m.msg_flags);
	}
	o_sync();
	m.msg_controllen = 4;
	O("send more", send(fd, "abc", 3, 0));
	o_wait_bytes(fd, 3);
	O("recvmsg, no room", recvmsg(fd, &m, 0));
	o_say("no room", "length %zu, flags %d", m.msg_controllen, m.msg_flags);
	o_sync();
	close(fd);
}
SCENARIO(tcp_inq, "TCP_INQ: a control message says how much is left", O_BOTH, inq, inq)

/* --- options that ask for what only the kernel has: the connection is the kernel's -------------------- */

static void save_syn_server(void)
{
	int fd = sweep_bound(SOCK_STREAM, 0), one = 1, c;
	uint8_t syn[128];
	socklen_t len = sizeof(syn);

	O("TCP_SAVE_SYN", setsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, &one, sizeof(one)));
	O("listen", listen(fd, 1));
	o_sync();
	c = (int)O_OK("accept", accept(fd, NULL, NULL));
	O("TCP_SAVED_SYN", getsockopt(c, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len));
	o_bool("has headers", len >= 40);
	len = sizeof(syn);
	O("TCP_SAVED_SYN again", getsockopt(c, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len));
	o_say("length", "%u", (unsigned)len);
	close(c);
	close(fd);
}

static void save_syn_client(void)
{
	int fd = socket(o_family, SOCK_STREAM, 0);
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	char byte;

	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	O("end", recv(fd, &byte, 1, 0));
	close(fd);
}
SCENARIO(saved_syn, "TCP_SAVE_SYN: the SYN's headers can be read", O_BOTH, save_syn_server,
	 save_syn_client)
