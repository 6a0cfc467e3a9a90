/* SPDX-License-Identifier: Apache-2.0 */
/* The control server: every question, replies in parts, a slow client, hostile messages, what
 * ends with a connection. Server and clients run in one thread, by turns. */
#define _GNU_SOURCE
#include <nsocket/ctl_server.h>
#include <rd/log.h>

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

static struct ctl_server *server;
static int dumps, pinned, changed, pings;

static void t_status(void *arg, struct ctl_status *out)
{
	out->stack_running = true;
	strcpy(out->stack, "tcpip");
	out->sockets_ours = 7;
}

static uint32_t t_ports(void *arg, struct ctl_port *out, uint32_t n)
{
	strcpy(out->ifname, "eth9");
	out->ifindex = 9;
	out->nqueues = 2;
	out->caps = HAL_CAP_MULTIBUF;
	return 1;
}

static int t_queue_stats(void *arg, unsigned ifindex, uint32_t q, struct hal_queue_stats *out)
{
	out->rx_packets = 1000000000000000ull + q; /* cJSON would print 1e+15 */
	return 0;
}

static uint32_t t_sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint32_t i;

	for (i = 0; i < n && *cursor < 950; i++, (*cursor)++) {
		memset(&out[i], 0, sizeof(out[i]));
		out[i].proto = IPPROTO_TCP;
		out[i].tcp_state = 1;
		out[i].session = (uint32_t)*cursor;
		out[i].local.family = AF_INET;
	}
	return i;
}

static uint32_t t_counters(void *arg, struct stack_counter *out, uint32_t n)
{
	out[0] = (struct stack_counter){ "tcp_in_segs", 42 };
	return 1;
}

static uint32_t t_reasons(void *arg, struct ctl_reason *out, uint32_t n)
{
	out[0] = (struct ctl_reason){ "no_privilege", "run as root", 3 };
	out[1] = (struct ctl_reason){ "never", NULL, 0 };
	return 2;
}

static int t_pin_flows(void *arg)
{
	return ++pinned;
}

static void t_changed(void *arg)
{
	changed++;
}

static int t_dump_start(void *arg, int fd, const struct ctl_dump *opt, char why[256])
{
	dumps++;
	if (write(fd, "x", 1) != 1 || opt->port != 80)
		dumps = -100;
	close(fd);
	return 0;
}

static int t_dump_stop(void *arg, uint64_t *packets, uint64_t *lost)
{
	dumps--;
	*packets = 5;
	*lost = 0;
	return 0;
}

static int t_ping_start(void *arg, struct ctl_ping *p, char why[256])
{
	if (p->stack.size != 56) {
		strcpy(why, "of no such size");
		return -EMSGSIZE;
	}
	p->stack.local.port = htons(7);
	strcpy(p->ifname, "eth9");
	pings++;
	return 0;
}

static int t_ping_send(void *arg, const struct stack_ping *p, uint16_t *seq)
{
	*seq = 3;
	return p->local.port == htons(7) ? -ENETUNREACH : 0;
}

static uint32_t t_ping_answers(void *arg, const struct stack_ping *p, struct stack_ping_answer *out, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = (struct stack_ping_answer){ .seq = UINT16_MAX, .ttl = UINT8_MAX, .again = true, .bytes = 65515,
						     .rtt_ns = UINT64_MAX };
	out[0] = (struct stack_ping_answer){ .seq = 3, .unreachable = true };
	return n;
}

static void t_ping_stop(void *arg, const struct stack_ping *p)
{
	pings--;
}

static const struct ctl_ops ops = {
	.status = t_status, .ports = t_ports, .queue_stats = t_queue_stats, .sockets = t_sockets,
	.counters = t_counters, .reasons = t_reasons, .pin_flows = t_pin_flows,
	.rules_changed = t_changed, .dump_start = t_dump_start, .dump_stop = t_dump_stop,
	.ping_start = t_ping_start, .ping_send = t_ping_send, .ping_answers = t_ping_answers,
	.ping_stop = t_ping_stop,
};

static void turn(void)
{
	struct pollfd p = { ctl_server_fd(server), POLLIN, 0 };

	while (poll(&p, 1, 0) > 0)
		ctl_server_run(server);
}

static int client(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	int n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, CTL_NAME_PREFIX "%d", (int)getpid());

	if (connect(fd, (struct sockaddr *)&sa,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)))
		CHECK(0, "connect: %s", strerror(errno));
	turn();
	return fd;
}

static char reply[CTL_MSG_MAX];

static const char *ask_n(int fd, const void *msg, size_t len)
{
	ssize_t n = send(fd, msg, len, MSG_NOSIGNAL);

	turn();
	n = n < 0 ? n : recv(fd, reply, sizeof(reply) - 1, 0);
	reply[n < 0 ? 0 : n] = 0;
	return reply;
}

static const char *ask(int fd, const char *msg)
{
	return ask_n(fd, msg, strlen(msg));
}

static void test_questions(void)
{
	int fd = client();

	CHECK(strstr(ask(fd, "{\"op\":\"hello\"}"), "\"ok\":true"), "%s", reply);
	ask(fd, "{\"op\":\"status\"}");
	CHECK(strstr(reply, "\"running\":true") && strstr(reply, "\"ifname\":\"eth9\"") &&
	      strstr(reply, "\"rx_packets\":2000000000000001") && strstr(reply, "multi-buffer"), "%s", reply);
	CHECK(strstr(reply, "\"name\":\"no_privilege\"") && !strstr(reply, "never"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"counters\"}"), "\"tcp_in_segs\":42"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"log_level\",\"level\":\"DBG\",\"module\":\"hal\"}"),
		     "\"hal\":\"DBG\""), "%s", reply);
	CHECK(ns_log_on(NS_M_HAL, NS_DBG), " ");
	CHECK(strstr(ask(fd, "{\"op\":\"log_level\",\"level\":\"LOUD\"}"), "\"ok\":false"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"log_get\"}"), "\"seq\":"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"dump_state\"}"), "can't capture"), "a missing callback");
	close(fd);
	turn();
}

static void test_parts(void)
{
	int fd = client(), total = 0, parts = 0;
	cJSON *r;
	bool more = true;

	ask(fd, "{\"op\":\"sockets\"}"); /* more than a socket buffer holds: the server must wait */
	while (more && parts < 100) {
		r = cJSON_Parse(reply);
		CHECK(r, "%s", reply);
		total += cJSON_GetArraySize(cJSON_GetObjectItem(r, "sockets"));
		more = cJSON_IsTrue(cJSON_GetObjectItem(r, "more"));
		cJSON_Delete(r);
		parts++;
		turn();
		if (more) {
			ssize_t n = recv(fd, reply, sizeof(reply) - 1, 0);

			reply[n < 0 ? 0 : n] = 0;
		}
	}
	CHECK(total == 950 && parts > 5, "%d sockets, %d parts", total, parts);
	CHECK(strstr(ask(fd, "{\"op\":\"hello\"}"), "\"ok\":true"), "usable afterwards");
	close(fd);
	turn();
}

static void test_rules(void)
{
	int fd = client();
	uint64_t before = rd_rules_generation();

	CHECK(strstr(ask(fd, "{\"op\":\"rules_commit\"}"), "no rules were prepared"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"rules_prepare\",\"rules\":\"[{]\"}"), "\"ok\":false"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"rules_prepare\",\"rules\":\"{}\"}"), "\"pins\":1"), "%s", reply);
	CHECK(rd_rules_generation() == before, "not in force yet");
	ask(fd, "{\"op\":\"rules_commit\"}");
	CHECK(strstr(reply, "\"generation\"") && rd_rules_generation() > before && changed == 1, "%s", reply);
	ask(fd, "{\"op\":\"rules_prepare\",\"rules\":\"{}\"}");
	close(fd); /* prepared rules end with the connection */
	turn();
	fd = client();
	CHECK(strstr(ask(fd, "{\"op\":\"rules_commit\"}"), "no rules were prepared"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"rules_get\"}"), "default"), "%s", reply);
	close(fd);
	turn();
}

static const char *ask_fd(int fd, const char *msg, int pass)
{
	struct iovec iov = { (void *)msg, strlen(msg) };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&m);
	ssize_t n;

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &pass, sizeof(int));
	sendmsg(fd, &m, 0);
	turn();
	n = recv(fd, reply, sizeof(reply) - 1, 0);
	reply[n < 0 ? 0 : n] = 0;
	return reply;
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_dump(void)
{
	int fd = client(), other = client(), pass = open("/dev/null", O_WRONLY), fds = open_fds();

	CHECK(strstr(ask(fd, "{\"op\":\"dump_start\",\"port\":80}"), "no descriptor"), "%s", reply);
	CHECK(strstr(ask_fd(fd, "{\"op\":\"dump_start\",\"port\":80}", pass), "\"ok\":true"), "%s", reply);
	CHECK(dumps == 1, "%d", dumps);
	CHECK(strstr(ask_fd(other, "{\"op\":\"dump_start\",\"port\":80}", pass), "another capture"), "%s", reply);
	CHECK(strstr(ask(other, "{\"op\":\"dump_stop\"}"), "started no capture"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"dump_stop\"}"), "\"packets\":5") && dumps == 0, "%s", reply);
	ask_fd(fd, "{\"op\":\"dump_start\",\"port\":80}", pass);
	CHECK(dumps == 1, "%d", dumps);
	CHECK(strstr(ask_fd(other, "{\"op\":\"hello\"}", pass), "\"ok\":true"), "a descriptor nobody asked for");
	CHECK(open_fds() == fds, "descriptors leak: %d, %d before", open_fds(), fds);
	close(fd);
	turn();
	CHECK(dumps == 0, "a capture ends with its client");
	close(other);
	close(pass);
	turn();
}

static void test_ping(void)
{
	static const char *const wrong[] = { "\"to\":7", "\"to\":\"\"", "\"to\":\"198.18.0\"", "\"from\":\"198.18.0.1\"",
		"\"to\":\"::1\",\"from\":\"198.18.0.1\"", "\"to\":\"198.18.0.2\",\"from\":\"eth9\"",
		"\"to\":\"::1\",\"interface\":\"a name that is too long\"" };
	static const char start[] = "{\"op\":\"ping_start\",\"to\":\"198.18.0.2\",\"size\":56}";
	int fd = client(), other = client();
	char text[200];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(text, sizeof(text), "{\"op\":\"ping_start\",\"size\":56,%s}", wrong[i]);
		CHECK(strstr(ask(fd, text), "\"ok\":false") && !pings, "%s: %s", text, reply);
	}
	CHECK(strstr(ask(fd, "{\"op\":\"ping_start\",\"to\":\"::1\"}"), "no such size"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"ping_send\"}"), "started no ping"), "%s", reply);
	CHECK(strstr(ask(fd, start), "\"interface\":\"eth9\",\"id\":7") && pings == 1, "%s", reply);
	CHECK(strstr(ask(fd, start), "has a ping already") && pings == 1, "%s", reply);
	CHECK(strstr(ask(other, "{\"op\":\"ping_answers\"}"), "started no ping"), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"ping_send\"}"), "\"seq\":3,\"failed\":\"Network is unreachable\""), "%s", reply);
	CHECK(strstr(ask(fd, "{\"op\":\"ping_answers\"}"), "\"unreachable\":true") && strstr(reply, "65515") &&
	      strlen(reply) < CTL_MSG_MAX / 4, "%s", reply);
	CHECK(strstr(ask(other, start), "\"ok\":true") && pings == 2, "%s", reply);
	close(fd);
	turn();
	CHECK(pings == 1, "a ping ends with its client");
	close(other);
	turn();
	CHECK(pings == 0, "%d", pings);
}

static void test_hostile(void)
{
	static const char *const junk[] = { "{", "[]", "7", "null", "\"op\"", "{\"op\":7}", "{\"op\":\"\"}",
		"{\"op\":\"nonsense\"}", "{\"op\":\"status\"", "{\"op\":\"log_get\",\"seq\":-1}",
		"{\"op\":\"log_get\",\"seq\":1e300}", "{\"op\":\"log_get\",\"seq\":\"x\"}",
		"{\"op\":\"rules_prepare\",\"rules\":7}", "{\"op\":\"log_level\",\"module\":[]}" };
	char *big = malloc(2 * CTL_MSG_MAX);
	int fd = client(), fds[40];

	for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++)
		CHECK(strstr(ask(fd, junk[i]), "\"ok\":"), "%s: %s", junk[i], reply);
	memset(big, '[', 2 * CTL_MSG_MAX);
	CHECK(strstr(ask_n(fd, big, CTL_MSG_MAX), "\"ok\":false"), "%s", reply);
	CHECK(!strstr(ask_n(fd, big, CTL_MSG_MAX + 1), "\"ok\":true"), "too long: the client is dropped");
	close(fd);
	for (int i = 0; i < 40; i++)
		fds[i] = client(); /* more than it takes: the last are closed at once */
	CHECK(strstr(ask(fds[0], "{\"op\":\"hello\"}"), "\"ok\":true"), "%s", reply);
	CHECK(!ask(fds[39], "{\"op\":\"hello\"}")[0], "%s", reply);
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	turn();
	fd = client();
	CHECK(strstr(ask(fd, "{\"op\":\"hello\"}"), "\"ok\":true"), "served again");
	close(fd);
	turn();
	free(big);
}

/* A daemon of root's that acts as a user for a while: the user must not get at it. */
static void test_borrowed_user(void)
{
	int fd;

	CHECK(!seteuid(65534), " ");
	fd = client();
	CHECK(!ask(fd, "{\"op\":\"hello\"}")[0], "%s", reply);
	close(fd);
	CHECK(!seteuid(0), " ");
	turn();
	fd = client();
	CHECK(strstr(ask(fd, "{\"op\":\"hello\"}"), "\"ok\":true"), "%s", reply);
	close(fd);
	turn();
}

static void test_fork(void)
{
	int fd = client(), status;
	pid_t pid = fork();

	if (!pid) {
		struct ctl_server *own;
		bool ok;

		ctl_server_close(server);
		ok = !ctl_server_open(&own, &ops, NULL); /* under the child's pid */
		ctl_server_close(own);
		_exit(!ok);
	}
	waitpid(pid, &status, 0);
	CHECK(status == 0, " ");
	CHECK(strstr(ask(fd, "{\"op\":\"hello\"}"), "\"ok\":true"), "the parent's goes on");
	CHECK(ctl_server_owns(server, ctl_server_fd(server)) && !ctl_server_owns(server, fd), " ");
	close(fd);
	turn();
}

int main(void)
{
	struct ctl_server *second;
	char err[RD_ERR];
	int fds;

	setenv("NSTACK_LOG_FILE_FLAG", "0", 1);
	ns_log_init(NULL);
	rd_init(NULL, err);
	fds = open_fds();
	CHECK(!ctl_server_open(&server, &ops, NULL), " ");
	CHECK(ctl_server_open(&second, &ops, NULL) == -EADDRINUSE && !second, " ");
	test_questions();
	test_parts();
	test_rules();
	test_dump();
	test_ping();
	test_hostile();
	if (!getuid())
		test_borrowed_user();
	test_fork();
	ctl_server_close(server);
	ctl_server_close(NULL);
	CHECK(open_fds() == fds, "descriptors leak: %d, %d before", open_fds(), fds);
	if (!failures)
		puts("ok");
	return failures != 0;
}
