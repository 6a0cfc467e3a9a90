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

/* --- while the peer does not hear us -------------------------------------------------------------------- */

enum held { FIN_WAIT1, CLOSING, LAST_ACK, NHELD };
static const char *const held_names[NHELD] = { "FIN_WAIT1", "CLOSING", "LAST_ACK" };
enum last { STAY, GO, ABORT, PEER_ABORTS, GIVE_UP, SHUT_ALL, PEER_SENDS, NLAST };
static const char *const last_names[NLAST] = { "nothing", "close", "reset", "reset by the peer",
	"dissolve", "SHUT_RDWR", "data of the peer" };
static struct {
	int fd, ep;
} held[NHELD][NLAST];

static void held_use(int state, int last)
{
	conn.fd = held[state][last].fd;
	conn.ep = held[state][last].ep;
	snprintf(conn.name, sizeof(conn.name), "%s, %s", held_names[state], last_names[last]);
}

#define FOR_EACH_HELD \
	for (int state = 0; state < NHELD; state++) \
		for (int last = 0; last < NLAST; last++)

static void held_open(void)
{
	struct epoll_event edges = { .events = EPOLLET | EPOLLIN | EPOLLOUT | EPOLLRDHUP };

	FOR_EACH_HELD {
		conn.fd = held[state][last].fd = o_connected(0);
		held[state][last].ep = epoll_create1(0);
		epoll_ctl(held[state][last].ep, EPOLL_CTL_ADD, conn.fd, &edges);
		if (state == LAST_ACK && o_is_server()) {
			shutdown(conn.fd, SHUT_WR);
			t_wait_state(conn.fd, TCP_FIN_WAIT2);
		}
		if (state == LAST_ACK && !o_is_server())
			t_wait_state(conn.fd, TCP_CLOSE_WAIT);
	}
}

/* The client's FIN is out and lost, the server's has come where the state wants it. */
static void held_reach(void)
{
	FOR_EACH_HELD {
		held_use(state, last);
		if (o_is_server())
			continue;
		if (shutdown(conn.fd, SHUT_WR))
			o_fail("shutdown");
		t_wait_state(conn.fd, state == LAST_ACK ? TCP_LAST_ACK : TCP_FIN_WAIT1);
	}
	o_sync();
	for (int last = 0; last < NLAST && o_is_server(); last++)
		if (shutdown(held[CLOSING][last].fd, SHUT_WR))
			o_fail("shutdown");
	for (int last = 0; last < NLAST && !o_is_server(); last++)
		t_wait_state(held[CLOSING][last].fd, TCP_CLOSING);
	o_sync();
}

static bool is_over(void *arg)
{
	(void)arg;
	return t_state_of(conn.fd) == TCP_CLOSE;
}

static void held_peer(int last)
{
	if (last == PEER_ABORTS) {
		o_reset_close(conn.fd);
		conn.fd = -1;
	} else if (last == PEER_SENDS) {
		O(at("peer sends"), send(conn.fd, "late", 4, MSG_NOSIGNAL));
	}
}

static void held_call(int last)
{
	static const enum call calls[NLAST] = { [GO] = CLOSE, [ABORT] = LINGER_0, [GIVE_UP] = DISSOLVE,
						[SHUT_ALL] = RDWR };

	look("before");
	if (last == PEER_ABORTS)
		o_bool(at("over"), o_until(is_over, NULL));
	if (last == PEER_SENDS && conn.fd == held[FIN_WAIT1][last].fd)
		o_wait_bytes(conn.fd, 4);
	if (last == GO || last == ABORT || last == GIVE_UP || last == SHUT_ALL)
		make(calls[last]);
	if (conn.fd < 0)
		return;
	look("after");
	t_recv(at("recv"), conn.fd, 2, MSG_DONTWAIT);
	O(at("send"), send(conn.fd, "x", 1, MSG_NOSIGNAL));
	t_error(at("SO_ERROR"), conn.fd);
}

/* The client is heard again. */
static void held_end(void)
{
	if (conn.fd < 0)
		return;
	if (o_is_server()) {
		o_bool(at("the end comes"), o_wait(conn.fd, POLLRDHUP) & POLLRDHUP);
	} else {
		o_until(is_settled, NULL);
		look("heard again");
	}
}

static void held_all(void)
{
	bool client = !o_is_server();

	conn.probe = probe_open(1);
	held_open();
	o_sync();
	if (client)
		t_cut(true);
	o_sync();
	held_reach();
	FOR_EACH_HELD {
		held_use(state, last);
		if (!client)
			held_peer(last);
		held[state][last].fd = conn.fd;
	}
	probe_arrive(conn.probe, !client);
	o_sync();
	FOR_EACH_HELD {
		held_use(state, last);
		if (client)
			held_call(last);
		held[state][last].fd = conn.fd;
	}
	o_sync();
	if (client)
		t_cut(false);
	o_sync();
	probe_settle(conn.probe, client); /* the address is found now, and no FIN waits for it */
	FOR_EACH_HELD {
		held_use(state, last);
		if (last != ABORT && last != GIVE_UP) /* the peer was not told */
			held_end();
	}
	o_sync();
	FOR_EACH_HELD {
		if (held[state][last].fd >= 0)
			close(held[state][last].fd);
		close(held[state][last].ep);
	}
	close(conn.probe);
}
SCENARIO(held, "FIN_WAIT1, CLOSING and LAST_ACK: calls, a reset, data, while the peer does not hear us",
	 O_BOTH, held_all, held_all)

/* --- with data that can't leave -------------------------------------------------------------------------- */

/* As much as goes: the peer does not read. */
static long fill(void)
{
	static char buf[65536];
	struct pollfd p = { .fd = conn.fd, .events = POLLOUT };
	long sum = 0;
	ssize_t n;

	/* there is room again while the peer's window lasts */
	while (poll(&p, 1, 300) > 0)
		while ((n = send(conn.fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			sum += n;
	return sum;
}

/* Read all; how it ends. */
static long drain(void)
{
	static char buf[65536];
	long sum = 0;
	ssize_t n;

	while ((n = recv(conn.fd, buf, sizeof(buf), 0)) > 0)
		sum += n;
	o_ret(at("reading ends"), n);
	return sum;
}

/* late: the peer sends before it reads. */
static void full(enum call call, bool late)
{
	struct epoll_event edges = { .events = EPOLLET | EPOLLIN | EPOLLOUT | EPOLLRDHUP };
	bool client = !o_is_server();
	bool lost = call == LINGER_0 || call == DISSOLVE || (late && call != WR);
	uint64_t start;
	long sum;

	snprintf(conn.name, sizeof(conn.name), "full, %s%s", call_names[call], late ? ", late data" : "");
	conn.fd = o_connected(0);
	conn.ep = epoll_create1(0);
	if (client) {
		t_set(conn.fd, SOL_SOCKET, SO_SNDBUF, 65536);
		sum = fill();
		o_bool(at("sent"), sum > 0);
		epoll_ctl(conn.ep, EPOLL_CTL_ADD, conn.fd, &edges);
		look("before");
		start = o_now();
		make(call);
		o_time(at("time"), start, call == LINGER_2 ? 2000 : 0);
		if (conn.fd >= 0)
			look("after");
		o_sync();
		o_tell(sum);
		o_sync(); /* the server reads */
		if (conn.fd >= 0) {
			o_until(is_settled, NULL);
			look("all was read");
			ask_all();
		}
	} else {
		o_sync();
		if (late)
			O(at("send late"), send(conn.fd, "late", 4, MSG_NOSIGNAL));
		o_wait(conn.fd, lost ? POLLHUP : POLLIN);
		t_poll(at("before reading"), conn.fd);
		sum = drain();
		sum -= o_hear();
		if (!lost)
			o_bool(at("all came"), !sum);
		o_sync();
	}
	o_sync();
	if (conn.fd >= 0)
		close(conn.fd);
	close(conn.ep);
	o_sync();
}

static void all_full(void)
{
	static const enum call calls[] = { CLOSE, LINGER_0, LINGER_2, WR, RDWR, DISSOLVE };

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		full(calls[i], false);
	full(CLOSE, true);
	full(WR, true);
	full(RDWR, true);
}
SCENARIO(full, "the same while the peer does not read and data waits", O_BOTH, all_full, all_full)
