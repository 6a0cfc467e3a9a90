/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/proc_pass.c - sockets that are sent to another process (SCM_RIGHTS) and go on there
 *
 * "The helper" is a child, forked before there is any connection, that gets a socket through a Unix
 * socket and uses it; the one who sent it records nothing until the helper has ended.
 */
#include "oracle.h"

#include <pthread.h>

#define BIG 150000

/* --- passing ----------------------------------------------------------------------------------- */

static struct msghdr *rights(int fd)
{
	static char byte = 'f';
	static struct iovec iov = { &byte, 1 };
	static union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} ctl;
	static struct msghdr msg;
	struct cmsghdr *c;

	msg = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.room,
			       .msg_controllen = sizeof(ctl.room) };
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return &msg;
}

static void pass(int via, int fd)
{
	O("pass", sendmsg(via, rights(fd), 0));
}

static int take(int via)
{
	struct msghdr *msg = rights(-1);
	int fd = -1;

	if (recvmsg(via, msg, 0) != 1 || !CMSG_FIRSTHDR(msg))
		o_fail("no descriptor came");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(msg)), sizeof(fd));
	return fd;
}

struct helper {
	int via[2];
	pid_t pid;
	void (*fn)(int fd);
};

static void helper_main(void *arg)
{
	struct helper *h = arg;
	int fd;

	close(h->via[0]);
	fd = take(h->via[1]);
	h->fn(fd);
}

static struct helper helper(void (*fn)(int fd))
{
	struct helper h = { .fn = fn };

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, h.via))
		o_fail("socketpair");
	h.pid = o_spawn(helper_main, &h);
	close(h.via[1]);
	return h;
}

static void helper_wait(struct helper *h)
{
	int status = 0;

	if (waitpid(h->pid, &status, 0) != h->pid)
		o_fail("waitpid");
	o_status("helper", status);
	close(h->via[0]);
}

static void fill(char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 31 + i / 251 + seed);
}

static void check(const char *label, int fd, size_t n, unsigned seed)
{
	char *want = malloc(n), *got = malloc(n);

	fill(want, n, seed);
	O(label, o_recv_all(fd, got, n));
	o_bool("content", !memcmp(want, got, n));
	free(want);
	free(got);
}

static void send_filled(int fd, size_t n, unsigned seed)
{
	char *p = malloc(n);

	fill(p, n, seed);
	O("send all", o_send_all(fd, p, n));
	free(p);
}

/* --- a connection that is passed and goes on --------------------------------------------------------- */

static void talk(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[64];

	o_bytes("helper: request", buf, O("helper: recv all", o_recv_all(fd, buf, 4)));
	O("helper: send", send(fd, "pong", 4, 0));
	O("helper: getsockname", getsockname(fd, (void *)&a, &len));
	o_addr("helper: own name", &a, len);
	len = sizeof(a);
	O("helper: getpeername", getpeername(fd, (void *)&a, &len));
	o_addr("helper: peer's name", &a, len);
	o_bytes("helper: second", buf, O("helper: recv second", o_recv_all(fd, buf, 4)));
	O("helper: end", recv(fd, buf, sizeof(buf), 0));
	O("helper: close", close(fd));
}

static void ping(int fd)
{
	char buf[64];

	O("send", send(fd, "ping", 4, 0));
	o_bytes("answer", buf, O("recv all", o_recv_all(fd, buf, 4)));
	O("send second", send(fd, "more", 4, 0));
	O("shutdown", shutdown(fd, SHUT_WR));
	o_bytes("to the end", buf, O("recv the end", recv(fd, buf, sizeof(buf), 0)));
	O("close", close(fd));
}

static void plain_server(void)
{
	struct helper h = helper(talk);
	int fd = o_connected(0);

	o_wait(fd, POLLIN);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void plain_client(void)
{
	ping(o_connected(0));
}
SCENARIO(accepted, "a connection with unread data goes on in the process that it was sent to", O_BOTH,
	 plain_server, plain_client)

static void client_side_server(void)
{
	talk(o_connected(0));
}

static void client_side_client(void)
{
	struct helper h = helper(ping);
	int fd = o_connected(0);

	pass(h.via[0], fd);
	O("close mine", close(fd));
	helper_wait(&h);
}
SCENARIO(connected, "the same from the side that connected", O_BOTH, client_side_server,
	 client_side_client)

/* --- both processes use it ----------------------------------------------------------------------------- */

static void half_talk(int fd)
{
	char buf[8];

	o_bytes("helper: first", buf, O("helper: recv", o_recv_all(fd, buf, 2)));
	O("helper: send", send(fd, "h1", 2, 0));
	close(fd);
}

static void both_server(void)
{
	struct helper h = helper(half_talk);
	int fd = o_connected(0);
	char buf[8];

	o_bytes("before", buf, O("recv before", o_recv_all(fd, buf, 2)));
	O("send before", send(fd, "s0", 2, 0));
	o_sync();
	pass(h.via[0], fd);
	helper_wait(&h);
	O("send after", send(fd, "s1", 2, 0));
	o_bytes("after", buf, O("recv after", o_recv_all(fd, buf, 2)));
	O("the end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}

static void both_client(void)
{
	int fd = o_connected(0);
	char buf[8];

	O("send 0", send(fd, "c0", 2, 0));
	o_bytes("answer 0", buf, O("recv 0", o_recv_all(fd, buf, 2)));
	o_sync();
	O("send 1", send(fd, "c1", 2, 0));
	o_bytes("answers", buf, O("recv 1", o_recv_all(fd, buf, 4)));
	O("send 2", send(fd, "c2", 2, 0));
	O("close", close(fd));
}
SCENARIO(used_by_both, "after passing a descriptor the sender's own goes on working", O_BOTH, both_server,
	 both_client)

/* --- queues ----------------------------------------------------------------------------------------------- */

static void read_big(int fd)
{
	check("helper: unread", fd, BIG, 1);
	send_filled(fd, 1000, 2);
	O("helper: close", close(fd));
}

static void unread_server(void)
{
	struct helper h = helper(read_big);
	int fd = o_connected(0);

	o_bool("much is unread", o_wait_bytes(fd, 40000) >= 40000);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void unread_client(void)
{
	int fd = o_connected(0);

	send_filled(fd, BIG, 1);
	check("answer", fd, 1000, 2);
	O("close", close(fd));
}
SCENARIO(unread_data, "data that was received and not read goes along, what follows comes behind it",
	 O_BOTH, unread_server, unread_client)

static void send_more(int fd)
{
	o_nonblock(fd, false);
	send_filled(fd, BIG, 4);
	O("helper: shutdown", shutdown(fd, SHUT_WR));
	O("helper: end", recv(fd, (char[4]){ 0 }, 4, 0));
	O("helper: close", close(fd));
}

/* As much as goes without the peer's reading; chance decides how much that is. */
static long stuff(int fd, unsigned seed)
{
	size_t room = 64u << 20, at = 0;
	char *p = malloc(room);
	ssize_t n;

	fill(p, room, seed);
	o_nonblock(fd, true);
	while ((n = send(fd, p + at, room - at, 0)) > 0)
		at += (size_t)n;
	free(p);
	return (long)at;
}

static void unsent_server(void)
{
	struct helper h = helper(send_more);
	int fd = o_connected(0);
	long n = stuff(fd, 3);

	o_bool("much is unsent", n > 10000);
	o_tell(n);
	pass(h.via[0], fd);
	O("close", close(fd));
	o_sync();
	helper_wait(&h);
}

static void unsent_client(void)
{
	int fd = o_connected(0);
	long n = o_hear();
	char *want = malloc((size_t)n), *got = malloc((size_t)n);

	o_sync();
	fill(want, (size_t)n, 3);
	o_bool("all of it", o_recv_all(fd, got, (size_t)n) == n);
	o_bool("content of it", !memcmp(want, got, (size_t)n));
	check("what the helper sent", fd, BIG, 4);
	O("end", recv(fd, got, 1, 0));
	O("close", close(fd));
	free(want);
	free(got);
}
SCENARIO(unsent_data, "data that was neither sent nor acknowledged goes along", O_BOTH, unsent_server,
	 unsent_client)

/* --- urgent data ------------------------------------------------------------------------------------------------ */

static void read_urgent(int fd)
{
	char buf[16];

	o_bytes("helper: before it", buf, O("helper: recv", recv(fd, buf, sizeof(buf), 0)));
	O("helper: sockatmark", sockatmark(fd));
	o_bytes("helper: urgent", buf, O("helper: recv MSG_OOB", recv(fd, buf, 1, MSG_OOB)));
	O("helper: recv MSG_OOB again", recv(fd, buf, 1, MSG_OOB));
	o_bytes("helper: behind it", buf, O("helper: recv behind", recv(fd, buf, sizeof(buf), 0)));
	O("helper: send MSG_OOB", send(fd, "!", 1, MSG_OOB));
	O("helper: close", close(fd));
}

static void urgent_server(void)
{
	struct helper h = helper(read_urgent);
	int fd = o_connected(0);

	o_wait(fd, POLLPRI);
	o_sync(); /* all has been sent */
	o_wait(fd, POLLIN);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void urgent_client(void)
{
	int fd = o_connected(0);
	char buf[4];

	O("send", send(fd, "ab", 2, 0));
	O("send MSG_OOB", send(fd, "X", 1, MSG_OOB));
	O("send behind", send(fd, "cd", 2, 0));
	o_sync();
	o_wait(fd, POLLPRI);
	o_bytes("urgent", buf, O("recv MSG_OOB", recv(fd, buf, 1, MSG_OOB)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(urgent, "unread urgent data goes along, with its mark", O_BOTH, urgent_server, urgent_client)

static void read_inline(int fd)
{
	char buf[16];

	o_bytes("helper: before it", buf, O("helper: recv", recv(fd, buf, sizeof(buf), 0)));
	O("helper: sockatmark", sockatmark(fd));
	o_bytes("helper: from it on", buf, O("helper: recv at the mark", o_recv_all(fd, buf, 3)));
	O("helper: sockatmark behind", sockatmark(fd));
	close(fd);
}

static void inline_server(void)
{
	struct helper h = helper(read_inline);
	int fd = o_connected(0), one = 1;

	O("SO_OOBINLINE", setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)));
	o_sync();
	o_sync();
	o_wait_bytes(fd, 2);
	o_wait(fd, POLLPRI);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void inline_client(void)
{
	int fd = o_connected(0);
	char c;

	o_sync();
	O("send", send(fd, "ab", 2, 0));
	O("send MSG_OOB", send(fd, "X", 1, MSG_OOB));
	O("send behind", send(fd, "cd", 2, 0));
	o_sync();
	O("end", recv(fd, &c, 1, 0));
	O("close", close(fd));
}
SCENARIO(urgent_inline, "the same with SO_OOBINLINE", O_BOTH, inline_server, inline_client)

/* --- half-closed ---------------------------------------------------------------------------------------------- */

static void after_end(int fd)
{
	char buf[16];

	o_events("helper: events", o_poll(fd, POLLIN | POLLRDHUP | POLLOUT));
	o_bytes("helper: unread", buf, O("helper: recv", recv(fd, buf, sizeof(buf), 0)));
	O("helper: end", recv(fd, buf, sizeof(buf), 0));
	O("helper: send", send(fd, "late", 4, 0));
	O("helper: close", close(fd));
}

static void peer_ended_server(void)
{
	struct helper h = helper(after_end);
	int fd = o_connected(0);

	o_wait(fd, POLLRDHUP);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void peer_ended_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	O("send", send(fd, "last", 4, 0));
	O("shutdown", shutdown(fd, SHUT_WR));
	o_bytes("late", buf, O("recv", o_recv_all(fd, buf, 4)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(peer_has_ended, "the peer has shut down its side before: the end of file goes along", O_BOTH,
	 peer_ended_server, peer_ended_client)

static void read_rest(int fd)
{
	char buf[16];

	O("helper: send", send(fd, "x", 1, MSG_NOSIGNAL));
	o_bytes("helper: late", buf, O("helper: recv", o_recv_all(fd, buf, 4)));
	O("helper: end", recv(fd, buf, sizeof(buf), 0));
	O("helper: close", close(fd));
}

static void we_ended_server(void)
{
	struct helper h = helper(read_rest);
	int fd = o_connected(0);

	O("send", send(fd, "bye", 3, 0));
	O("shutdown", shutdown(fd, SHUT_WR));
	o_sync(); /* the peer has seen it */
	pass(h.via[0], fd);
	O("close", close(fd));
	o_sync();
	helper_wait(&h);
}

static void we_ended_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	o_bytes("bye", buf, O("recv", o_recv_all(fd, buf, 3)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	o_sync();
	o_sync();
	O("send", send(fd, "late", 4, 0));
	O("close", close(fd));
}
SCENARIO(we_have_ended, "we have shut down our side before: the peer's data still comes", O_BOTH,
	 we_ended_server, we_ended_client)

static void shut_unsent_server(void)
{
	struct helper h = helper(read_rest);
	int fd = o_connected(0);
	long n = stuff(fd, 5);

	O("shutdown", shutdown(fd, SHUT_WR));
	o_nonblock(fd, false);
	o_tell(n);
	pass(h.via[0], fd);
	O("close", close(fd));
	o_sync();
	helper_wait(&h);
}

static void shut_unsent_client(void)
{
	int fd = o_connected(0);
	long n = o_hear();
	char *want = malloc((size_t)n), *got = malloc((size_t)n);

	o_sync();
	fill(want, (size_t)n, 5);
	o_bool("all of it", o_recv_all(fd, got, (size_t)n) == n);
	o_bool("content of it", !memcmp(want, got, (size_t)n));
	O("end", recv(fd, got, 1, 0));
	O("send", send(fd, "late", 4, 0));
	O("close", close(fd));
	free(want);
	free(got);
}
SCENARIO(ended_with_unsent_data, "we have shut down our side with data unsent: it comes, then the end",
	 O_BOTH, shut_unsent_server, shut_unsent_client)

/* --- ends ------------------------------------------------------------------------------------------------------ */

static void see_reset(int fd)
{
	char buf[16];

	o_bytes("helper: data", buf, O("helper: recv", o_recv_all(fd, buf, 2)));
	O("helper: send", send(fd, "go", 2, 0));
	o_wait(fd, POLLHUP);
	O("helper: recv after RST", recv(fd, buf, sizeof(buf), 0));
	O("helper: recv once more", recv(fd, buf, sizeof(buf), 0));
	O("helper: close", close(fd));
}

static void reset_server(void)
{
	struct helper h = helper(see_reset);
	int fd = o_connected(0);

	pass(h.via[0], fd);
	O("close", close(fd));
	o_sync();
	helper_wait(&h);
}

static void reset_client(void)
{
	int fd = o_connected(0);
	char buf[4];

	o_sync();
	O("send", send(fd, "hi", 2, 0));
	o_bytes("go", buf, O("recv", o_recv_all(fd, buf, 2)));
	o_reset_close(fd);
}
SCENARIO(reset_after, "the peer resets the connection after the move", O_BOTH, reset_server, reset_client)

static void reset_it(int fd)
{
	o_reset_close(fd);
}

static void we_reset_server(void)
{
	struct helper h = helper(reset_it);
	int fd = o_connected(0);

	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void we_reset_client(void)
{
	int fd = o_connected(0);
	char buf[4];

	o_wait(fd, POLLHUP);
	O("recv", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(we_reset_after, "SO_LINGER 0 after the move resets it", O_BOTH, we_reset_server, we_reset_client)

static void see_dead(int fd)
{
	char buf[16];

	o_events("helper: events", o_poll(fd, POLLIN | POLLOUT | POLLRDHUP));
	o_bytes("helper: unread", buf, O("helper: recv", recv(fd, buf, sizeof(buf), 0)));
	O("helper: recv the error", recv(fd, buf, sizeof(buf), 0));
	O("helper: recv after it", recv(fd, buf, sizeof(buf), 0));
	O("helper: send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("helper: getpeername", getpeername(fd, NULL, NULL));
	close(fd);
}

static void reset_before_server(void)
{
	struct helper h = helper(see_dead);
	int fd = o_connected(0);

	o_wait(fd, POLLHUP);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void reset_before_client(void)
{
	int fd = o_connected(0);
	struct timespec moment = { 0, 20000000 };

	O("send", send(fd, "hi", 2, 0));
	nanosleep(&moment, NULL); /* acknowledged, or the reset might overtake it */
	o_reset_close(fd);
}
SCENARIO(reset_before, "a connection that the peer has reset is passed", O_BOTH, reset_before_server,
	 reset_before_client)

static void see_over(int fd)
{
	char buf[16];

	o_events("helper: events", o_poll(fd, POLLIN | POLLOUT | POLLRDHUP));
	o_bytes("helper: unread", buf, O("helper: recv", recv(fd, buf, sizeof(buf), 0)));
	O("helper: end", recv(fd, buf, sizeof(buf), 0));
	O("helper: send", send(fd, "x", 1, MSG_NOSIGNAL));
	O("helper: shutdown", shutdown(fd, SHUT_WR));
	close(fd);
}

static void over_server(void)
{
	struct helper h = helper(see_over);
	int fd = o_connected(0);

	o_wait(fd, POLLRDHUP);
	O("shutdown", shutdown(fd, SHUT_WR));
	o_sync(); /* the peer has seen it, */
	o_wait(fd, POLLHUP);
	pass(h.via[0], fd);
	O("close", close(fd));
	helper_wait(&h);
}

static void over_client(void)
{
	int fd = o_connected(0);
	char c;

	O("send", send(fd, "hi", 2, 0));
	O("shutdown", shutdown(fd, SHUT_WR));
	O("end", recv(fd, &c, 1, 0));
	o_sync();
	O("close", close(fd));
}
SCENARIO(ended_before, "a connection that has ended in both directions is passed, with unread data", O_BOTH,
	 over_server, over_client)

/* --- many, and again and again ------------------------------------------------------------------------------------ */

#define MANY 20

static void many_server(void)
{
	int lst = o_listener(0), via[2], fd[MANY], got;
	char buf[8];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, via))
		o_fail("socketpair");
	o_sync();
	for (int i = 0; i < MANY; i++) {
		fd[i] = accept(lst, NULL, NULL);
		o_wait(fd[i], POLLIN);
	}
	/* to ourselves: each number has two descriptors then */
	for (int i = 0; i < MANY; i++) {
		if (sendmsg(via[0], rights(fd[i]), 0) != 1)
			o_fail("sendmsg");
		got = take(via[1]);
		close(fd[i]);
		fd[i] = got;
		if (o_recv_all(fd[i], buf, 1) != 1 || buf[0] != (char)('a' + i))
			o_fail("connection %d: %c", i, buf[0]);
		buf[0]++;
		send(fd[i], buf, 1, 0);
	}
	for (int i = 0; i < MANY; i++)
		if (recv(fd[i], buf, 1, 0) != 0)
			o_fail("connection %d: no end", i);
	o_say("connections", "%d", MANY);
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
	close(lst);
	close(via[0]);
	close(via[1]);
}

static void many_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd[MANY];
	char c;

	o_sync();
	for (int i = 0; i < MANY; i++) {
		fd[i] = socket(o_family, SOCK_STREAM, 0);
		if (connect(fd[i], (void *)&a, len))
			o_fail("connect");
		c = (char)('a' + i);
		send(fd[i], &c, 1, 0);
	}
	for (int i = 0; i < MANY; i++)
		if (o_recv_all(fd[i], &c, 1) != 1 || c != (char)('b' + i))
			o_fail("connection %d: %c", i, c);
	o_say("connections", "%d", MANY);
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
}
SCENARIO(many, "twenty connections are passed, each with unread data", O_BOTH, many_server, many_client)

/* --- other sockets -------------------------------------------------------------------------------------------------- */

static void accept_one(int lst)
{
	int fd = (int)O_OK("helper: accept", accept(lst, NULL, NULL));
	char buf[8];

	o_bytes("helper: request", buf, O("helper: recv", o_recv_all(fd, buf, 2)));
	O("helper: send", send(fd, "ok", 2, 0));
	O("helper: end", recv(fd, buf, sizeof(buf), 0));
	close(fd);
	close(lst);
}

static void listener_server(void)
{
	struct helper h = helper(accept_one);
	int lst = o_listener(0);

	o_poll(lst, POLLIN);
	pass(h.via[0], lst);
	o_sync();
	helper_wait(&h);
	O("close", close(lst));
}

static void listener_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);
	char buf[8];

	o_sync();
	O("connect", connect(fd, (void *)&a, len));
	O("send", send(fd, "hi", 2, 0));
	o_bytes("answer", buf, O("recv", o_recv_all(fd, buf, 2)));
	O("close", close(fd));
}
SCENARIO(listener, "a listener that was passed accepts in the other process", O_BOTH, listener_server,
	 listener_client)

static void udp_helper(int fd)
{
	struct sockaddr_storage a;
	socklen_t len;
	char buf[64];

	for (int i = 0; i < 4; i++) {
		len = sizeof(a);
		memset(buf, 0, sizeof(buf));
		O(i == 3 ? "helper: later" : i == 2 ? "helper: third" : i ? "helper: second" :
		  "helper: first", recvfrom(fd, buf, sizeof(buf), 0, (void *)&a, &len));
		o_say(i == 3 ? "helper: text 3" : i == 2 ? "helper: text 2" : i ? "helper: text 1" :
		      "helper: text 0", "%s", buf);
		if (i == 2)
			O("helper: answer", sendto(fd, "go", 2, 0, (void *)&a, len));
	}
	o_addr("helper: from", &a, len);
	close(fd);
}

static void udp_server(void)
{
	struct helper h = helper(udp_helper);
	int fd = o_udp(0);

	o_poll(fd, POLLIN);
	o_sync();
	o_sync(); /* three have been sent */
	o_wait(fd, POLLIN);
	pass(h.via[0], fd);
	helper_wait(&h);
	O("close", close(fd));
}

static void udp_client(void)
{
	int fd = o_udp_connected(1, 0);
	char buf[8];

	o_sync();
	O("send 0", send(fd, "zero", 4, 0));
	O("send 1", send(fd, "one", 3, 0));
	O("send 2", send(fd, "two", 3, 0));
	o_sync();
	o_bytes("go", buf, O("recv", recv(fd, buf, sizeof(buf), 0)));
	O("send 3", send(fd, "three", 5, 0));
	O("close", close(fd));
}
SCENARIO(udp, "datagrams that were received and not read go along, in order", O_BOTH, udp_server,
	 udp_client)

static void connect_it(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	char buf[8];

	O("helper: connect", connect(fd, (void *)&a, len));
	O("helper: send", send(fd, "hi", 2, 0));
	o_bytes("helper: answer", buf, O("helper: recv", o_recv_all(fd, buf, 2)));
	close(fd);
}

static void fresh_server(void)
{
	int lst = o_listener(0), fd;
	char buf[8];

	o_sync();
	fd = accept(lst, NULL, NULL);
	o_bytes("request", buf, O("recv", o_recv_all(fd, buf, 2)));
	O("send", send(fd, "ok", 2, 0));
	O("send from the other process", o_recv_all(fd, buf, 2));
	O("end", recv(fd, buf, sizeof(buf), 0));
	close(fd);
	close(lst);
}

static void fresh_client(void)
{
	struct helper h = helper(connect_it);
	int fd = socket(o_family, SOCK_STREAM, 0);

	o_sync();
	pass(h.via[0], fd);
	helper_wait(&h);
	O("send", send(fd, "me", 2, 0));
	O("close", close(fd));
}
SCENARIO(unconnected, "a socket is passed, and connected by the other process", O_BOTH, fresh_server,
	 fresh_client)

/* --- who waits while it moves ------------------------------------------------------------------------------------------ */

static void *blocked_reader(void *arg)
{
	static char buf[8];
	ssize_t n = recv(*(int *)arg, buf, sizeof(buf), 0);

	return n > 0 ? buf : NULL;
}

static void close_it(int fd)
{
	close(fd);
}

static void blocked_server(void)
{
	struct helper h = helper(close_it);
	int fd = o_connected(0);
	struct timespec moment = { 0, 50000000 };
	pthread_t t;
	void *got;

	if (pthread_create(&t, NULL, blocked_reader, &fd))
		o_fail("pthread_create");
	nanosleep(&moment, NULL); /* it need not block yet, but most likely does */
	pass(h.via[0], fd);
	helper_wait(&h);
	o_sync();
	pthread_join(t, &got);
	o_say("the blocked thread got", "%.2s", got ? (char *)got : "nothing");
	O("close", close(fd));
}

static void blocked_client(void)
{
	int fd = o_connected(0);

	o_sync();
	O("send", send(fd, "hi", 2, 0));
	O("close", close(fd));
}
SCENARIO(blocked_reader, "a thread that blocks in recv() meanwhile gets what comes", O_BOTH, blocked_server,
	 blocked_client)

static void watched_server(void)
{
	struct helper h = helper(close_it);
	int fd = o_connected(0), ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.u32 = 7 };
	char buf[8];

	O("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	O("nothing yet", epoll_wait(ep, &ev, 1, 0));
	pass(h.via[0], fd);
	helper_wait(&h);
	O("still nothing", epoll_wait(ep, &ev, 1, 0));
	o_sync();
	O("epoll_wait", epoll_wait(ep, &ev, 1, 5000));
	o_events("events", ev.events);
	o_say("whose", "%u", ev.data.u32);
	O("recv", o_recv_all(fd, buf, 2));
	o_sync();
	o_wait(fd, POLLRDHUP);
	O("epoll_wait at the end", epoll_wait(ep, &ev, 1, 5000));
	o_events("events at the end", ev.events);
	O("recv at the end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
	O("nobody left", epoll_wait(ep, &ev, 1, 0));
	close(ep);
}

static void watched_client(void)
{
	int fd = o_connected(0);

	o_sync();
	O("send", send(fd, "hi", 2, 0));
	o_sync();
	O("close", close(fd));
}
SCENARIO(watched, "an epoll set goes on reporting a socket that moves", O_BOTH, watched_server,
	 watched_client)

/* --- options ---------------------------------------------------------------------------------------------------------------- */

static void opt(const char *label, int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	if (getsockopt(fd, level, name, &v, &len))
		o_fail("getsockopt %s", label);
	o_say(label, "%d", v);
}

static void look_at_options(int fd)
{
	struct linger lg = { 0 };
	socklen_t len = sizeof(lg);

	opt("helper: TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	opt("helper: SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE);
	opt("helper: TCP_KEEPIDLE", fd, IPPROTO_TCP, TCP_KEEPIDLE);
	opt("helper: SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
	opt("helper: SO_ACCEPTCONN", fd, SOL_SOCKET, SO_ACCEPTCONN);
	O("helper: SO_LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, &len));
	o_say("helper: linger", "%d %d", lg.l_onoff, lg.l_linger);
	o_bool("helper: O_NONBLOCK", fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
}

static void options_server(void)
{
	struct helper h = helper(look_at_options);
	struct linger lg = { 1, 3 };
	int fd = o_connected(0), one = 1, idle = 77;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	o_nonblock(fd, true);
	pass(h.via[0], fd);
	helper_wait(&h);
	O("close", close(fd));
}

static void options_client(void)
{
	struct helper h = helper(look_at_options);
	int fd = o_connected(0);
	char c;

	O("end", recv(fd, &c, 1, 0));
	pass(h.via[0], fd);
	helper_wait(&h);
	O("close", close(fd));
}
SCENARIO(options, "options and flags go along", O_BOTH, options_server, options_client)
