/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/sandbox.c - programs that filter their own system calls (seccomp), or limit themselves
 *
 * The filter allows what such a program calls itself, and ends it for everything else.
 */
#include "oracle.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define ALLOW(name) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void sandbox(bool by_number)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read), ALLOW(write), ALLOW(recvfrom), ALLOW(sendto), ALLOW(recvmsg), ALLOW(sendmsg),
		ALLOW(socket), ALLOW(connect), ALLOW(bind), ALLOW(listen), ALLOW(accept), ALLOW(accept4),
		ALLOW(shutdown), ALLOW(close), ALLOW(getsockopt), ALLOW(setsockopt), ALLOW(ioctl),
		ALLOW(getsockname), ALLOW(getpeername), ALLOW(poll), ALLOW(fcntl), ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	O("no filter yet", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
	O("no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	O("the filter", by_number ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) :
				    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static void answer(int fd)
{
	char buf[8] = "";

	O("recv", recv(fd, buf, sizeof(buf), 0));
	o_bytes("received", buf, 4);
	O("send", send(fd, "pong", 4, 0));
	O("the end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}

static void ask(int fd)
{
	char buf[8] = "";

	O("send", send(fd, "ping", 4, 0));
	o_events("poll", o_wait(fd, POLLIN));
	O("recv", recv(fd, buf, sizeof(buf), 0));
	o_bytes("received", buf, 4);
	O("close", close(fd));
}

static int dial(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = (int)O_OK("socket", socket(o_family, SOCK_STREAM, 0));

	O("connect", connect(fd, (struct sockaddr *)&a, len));
	return fd;
}

/* --- before it has a socket -------------------------------------------------------------------------- */

static void early_server_child(void *arg)
{
	int l;

	(void)arg;
	sandbox(false);
	l = o_listener(0);
	o_sync();
	answer((int)O_OK("accept", accept(l, NULL, NULL)));
	close(l);
}

static void early_server(void)
{
	o_fork("the server", early_server_child, NULL);
}

static void early_client_child(void *arg)
{
	(void)arg;
	sandbox(true);
	o_sync();
	ask(dial());
}

static void early_client(void)
{
	o_fork("the client", early_client_child, NULL);
}
SCENARIO(before_sockets, "a filter first, then sockets", O_BOTH, early_server, early_client)

/* --- in the middle of it -------------------------------------------------------------------------------- */

static void listener_child(void *arg)
{
	int l = o_listener(0);

	(void)arg;
	o_poll(l, POLLIN);
	sandbox(true);
	o_sync();
	answer((int)O_OK("accept", accept(l, NULL, NULL)));
	close(l);
}

static void listener_server(void)
{
	o_fork("the server", listener_child, NULL);
}
SCENARIO(with_listener, "a filter when the listener is there", O_BOTH, listener_server, early_client)

static void connected_server_child(void *arg)
{
	int fd = o_connected(0);

	(void)arg;
	sandbox(false);
	o_sync();
	answer(fd);
}

static void connected_server(void)
{
	o_fork("the server", connected_server_child, NULL);
}

static void connected_client_child(void *arg)
{
	int fd = o_connected(0);

	(void)arg;
	o_sync();
	sandbox(true);
	ask(fd);
}

static void connected_client(void)
{
	o_fork("the client", connected_client_child, NULL);
}
SCENARIO(with_connection, "a filter when the connection is there", O_BOTH, connected_server, connected_client)

static void unread_child(void *arg)
{
	int fd = o_connected(0);

	(void)arg;
	o_sync();
	o_wait_bytes(fd, 4);
	sandbox(false);
	answer(fd);
}

static void unread_server(void)
{
	o_fork("the server", unread_child, NULL);
}

static void unread_client(void)
{
	int fd = o_connected(0);
	char buf[8] = "";

	O("send", send(fd, "ping", 4, 0));
	o_sync();
	O("recv", recv(fd, buf, sizeof(buf), 0));
	close(fd);
}
SCENARIO(with_data, "a filter when unread data is there", O_BOTH,
	 unread_server, unread_client)

static void udp_child(void *arg)
{
	int fd = o_udp_connected(0, 0);
	char buf[8] = "";

	(void)arg;
	o_poll(fd, POLLIN);
	sandbox(false);
	o_sync();
	O("send", send(fd, "ping", 4, 0));
	o_events("poll", o_wait(fd, POLLIN));
	O("recv", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}

static void udp(void)
{
	o_fork("the process", udp_child, NULL);
}
SCENARIO(with_udp, "a filter when a UDP socket is there", O_BOTH, udp, udp)

/* The one who parses is locked up, the one who serves is not. */
static void parser(void *arg)
{
	int *p = arg;
	char c = 0;

	sandbox(true);
	O("the parser reads", read(p[0], &c, 1));
	o_bytes("what", &c, 1);
}

static void privsep_server(void)
{
	int fd = o_connected(0), p[2];
	char c = 0;

	if (pipe(p))
		o_fail("pipe");
	O("recv", recv(fd, &c, 1, 0));
	O("to the parser", write(p[1], &c, 1));
	o_fork("the parser", parser, p);
	O("send", send(fd, "ok", 2, 0));
	close(p[0]);
	close(p[1]);
	close(fd);
}

static void privsep_client(void)
{
	int fd = o_connected(0);
	char buf[4];

	O("send", send(fd, "x", 1, 0));
	O("recv", recv(fd, buf, sizeof(buf), 0));
	close(fd);
}
SCENARIO(privsep, "a forked child with a filter beside a server without", O_BOTH, privsep_server, privsep_client)

/* --- limits ------------------------------------------------------------------------------------------------- */

/* More than the program has, less than the stack reserves: no thread can be made any more. */
static void limited_child(void *arg)
{
	struct rlimit lim = { 256u << 20, 256u << 20 };
	int status = -1;
	pid_t pid;

	(void)arg;
	close(o_connected(1));
	O("setrlimit", setrlimit(RLIMIT_AS, &lim));
	o_sync();
	/* libc would keep the stacks of threads for the child */
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		ask(dial());
		_exit(0);
	}
	O("waitpid", waitpid(pid, &status, 0) == pid);
	o_status("its child", status);
}

static void limited_client(void)
{
	o_fork("the client", limited_child, NULL);
}

static void limited_server(void)
{
	int l = o_listener(0);

	close(o_connected(1));
	o_sync();
	answer((int)O_OK("accept", accept(l, NULL, NULL)));
	close(l);
}
SCENARIO(limited, "a child of a process that has limited its address space", O_BOTH, limited_server, limited_client)
