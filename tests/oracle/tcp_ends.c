/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_ends.c - every way to end a connection, in every state, seen from both ends
 *
 * The client brings the connection into a state and makes one call; then the server sends twice, and
 * both ends are asked for all they know after each step.
 */
#include "probe.h"
#include "tcp_help.h"

enum state { OPEN, HALF, PEER_HALF, READ_SHUT, BOTH_SHUT, OVER, PEER_FIRST, RESET, NSTATES };
static const char *const state_names[NSTATES] = { "open", "half-closed", "half-closed by the peer",
	"shut for reading", "shut both ways", "over", "over, the peer first", "reset" };
enum unread { NOTHING, HERE, THERE, NUNREAD };
static const char *const unread_names[NUNREAD] = { "", ", unread", ", unread by the peer" };
enum call { CLOSE, LINGER_0, LINGER_2, RD, WR, RDWR, SEND, RECV, DISSOLVE, NCALLS };
static const char *const call_names[NCALLS] = { "close", "reset", "linger", "SHUT_RD", "SHUT_WR",
	"SHUT_RDWR", "send", "recv", "dissolve" };

static struct {
	int fd, ep, probe;
	char name[64];
} conn;

/* The label of what is recorded now. */
static const char *at(const char *what)
{
	static char label[128];

	snprintf(label, sizeof(label), "%s: %s", conn.name, what);
	return label;
}

static bool is_settled(void *arg)
{
	int left = 0, state = t_state_of(conn.fd);

	(void)arg;
	if (state == TCP_CLOSE)
		return true;
	ioctl(conn.fd, TIOCOUTQ, &left);
	return !left && state != TCP_FIN_WAIT1 && state != TCP_CLOSING && state != TCP_LAST_ACK;
}

static void look(const char *what)
{
	struct epoll_event ev = { 0 };
	char label[48];

	snprintf(label, sizeof(label), "%s, poll", what);
	t_poll(at(label), conn.fd);
	snprintf(label, sizeof(label), "%s, edge", what);
	epoll_wait(conn.ep, &ev, 1, 0);
	o_events(at(label), ev.events);
	snprintf(label, sizeof(label), "%s, state", what);
	t_state(at(label), conn.fd);
}

/* The end of a step in which one side acted. */
static void step(bool acted, const char *what)
{
	if (acted && conn.fd >= 0)
		o_until(is_settled, NULL);
	probe_settle(conn.probe, acted);
	if (what && conn.fd >= 0)
		look(what);
	o_sync();
}

static void send_bytes(bool mine)
{
	if (mine && send(conn.fd, "data", 4, MSG_NOSIGNAL) != 4)
		o_fail("send");
	step(mine, NULL);
}

static void shut(bool mine, int how)
{
	if (mine && shutdown(conn.fd, how))
		o_fail("shutdown");
	step(mine, NULL);
}

static void bring_into(enum state state, enum unread unread, bool client)
{
	if (unread == HERE)
		send_bytes(!client);
	if (unread == THERE)
		send_bytes(client);
	switch (state) {
	case HALF:
		shut(client, SHUT_WR);
		break;
	case PEER_HALF:
		shut(!client, SHUT_WR);
		break;
	case READ_SHUT:
		shut(client, SHUT_RD);
		break;
	case BOTH_SHUT:
		shut(client, SHUT_RDWR);
		break;
	case OVER:
		shut(client, SHUT_WR);
		shut(!client, SHUT_WR);
		break;
	case PEER_FIRST:
		shut(!client, SHUT_WR);
		shut(client, SHUT_WR);
		break;
	case RESET:
		if (!client) {
			o_reset_close(conn.fd);
			conn.fd = -1;
		}
		step(!client, NULL);
		break;
	default:
		break;
	}
	step(client, "before");
}

static void end(int seconds)
{
	if (seconds >= 0)
		t_linger(conn.fd, seconds);
	O(at("close"), close(conn.fd));
	conn.fd = -1;
}

static void make(enum call call)
{
	struct sockaddr_storage none = { .ss_family = AF_UNSPEC };

	switch (call) {
	case CLOSE:
		end(-1);
		break;
	case LINGER_0:
		end(0);
		break;
	case LINGER_2:
		end(2);
		break;
	case RD:
	case WR:
	case RDWR:
		O(at("shutdown"), shutdown(conn.fd, call == RD ? SHUT_RD : call == WR ? SHUT_WR : SHUT_RDWR));
		break;
	case SEND:
		O(at("send"), send(conn.fd, "more", 4, MSG_NOSIGNAL));
		break;
	case RECV:
		t_recv(at("recv"), conn.fd, 10, MSG_DONTWAIT);
		break;
	default:
		O(at("dissolve"), connect(conn.fd, (struct sockaddr *)&none, sizeof(none)));
	}
}

/* What this end still has to say. */
static void ask_all(void)
{
	if (conn.fd < 0)
		return;
	t_peername(at("peer"), conn.fd);
	t_recv(at("last recv"), conn.fd, 6, MSG_DONTWAIT);
	t_recv(at("last recv but one"), conn.fd, 6, MSG_DONTWAIT);
	t_recv(at("the very last"), conn.fd, 6, MSG_DONTWAIT);
	t_error(at("SO_ERROR"), conn.fd);
	O(at("last send"), send(conn.fd, "x", 1, MSG_NOSIGNAL));
}

static void leave(void)
{
	if (conn.fd < 0)
		return;
	O(at("last shutdown"), shutdown(conn.fd, SHUT_RDWR));
	O(at("send after it"), send(conn.fd, "x", 1, MSG_NOSIGNAL));
}

static void play(enum state state, enum unread unread, enum call call)
{
	struct epoll_event edges = { .events = EPOLLET | EPOLLIN | EPOLLOUT | EPOLLRDHUP };
	bool client = !o_is_server();

	snprintf(conn.name, sizeof(conn.name), "%s%s, %s", state_names[state], unread_names[unread],
		 call_names[call]);
	conn.fd = o_connected(0);
	conn.ep = epoll_create1(0);
	epoll_ctl(conn.ep, EPOLL_CTL_ADD, conn.fd, &edges);
	bring_into(state, unread, client);
	if (client)
		make(call);
	step(client, "after");
	for (int i = 0; i < 2; i++) {
		if (!client && conn.fd >= 0)
			O(at(i ? "send again" : "send"), send(conn.fd, "late", 4, MSG_NOSIGNAL));
		step(!client, i ? "data again" : "data");
	}
	for (int turn = 0; turn < 2; turn++) {
		/* the server first */
		if (turn == client)
			ask_all();
		step(turn == client, turn ? "client asked" : "server asked");
		if (turn == client)
			leave();
		step(turn == client, turn ? "client left" : "server left");
	}
	if (conn.fd >= 0)
		close(conn.fd);
	close(conn.ep);
	o_sync();
}

static void all_states(void)
{
	conn.probe = probe_open(1);
	o_sync();
	for (int state = 0; state < NSTATES; state++)
		for (int unread = 0; unread < NUNREAD; unread++)
			for (int call = 0; call < NCALLS; call++)
				play(state, unread, call);
	close(conn.probe);
}
SCENARIO(ends, "close, reset, linger, shutdown and connect(AF_UNSPEC) in every state, then data", O_BOTH,
	 all_states, all_states)
