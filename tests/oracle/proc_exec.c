/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/proc_exec.c - connections of a process that becomes, or starts, another program
 *
 * "The image" is this program again, with the descriptor's number as its argument.
 */
#include "oracle.h"

#include <spawn.h>
#include <sys/mman.h>

extern char **environ;

/* --- images ------------------------------------------------------------------------------------ */

/* Answers two requests on descriptor argv[1], then sees the end. */
O_CHILD(exec_talk)
{
	int fd = atoi(argv[1]);
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[16];

	o_bytes("image: request", buf, O("image: recv", o_recv_all(fd, buf, 4)));
	O("image: send", send(fd, "pong", 4, 0));
	O("image: getpeername", getpeername(fd, (void *)&a, &len));
	o_addr("image: peer's name", &a, len);
	o_bytes("image: second", buf, O("image: recv second", o_recv_all(fd, buf, 4)));
	O("image: end", recv(fd, buf, sizeof(buf), 0));
	O("image: close", close(fd));
	return argc > 2 ? atoi(argv[2]) : 0;
}

/* Standard input and output, with read() and write() only. */
O_CHILD(exec_cgi)
{
	char buf[16];
	ssize_t n = read(0, buf, 4);

	if (n != 4 || write(1, "cgi:", 4) != 4 || write(1, buf, 4) != 4)
		return 1;
	return 0;
}

O_CHILD(exec_closed)
{
	O("image: fcntl", fcntl(atoi(argv[1]), F_GETFD));
	return 0;
}

static char **args(const char *child, int fd)
{
	static char text[4][32];
	static char *argv[6];

	snprintf(text[0], sizeof(text[0]), "%s", child);
	snprintf(text[1], sizeof(text[1]), "%d", fd);
	argv[0] = (char *)o_self();
	argv[1] = "--child";
	argv[2] = text[0];
	argv[3] = text[1];
	argv[4] = NULL;
	return argv;
}

static void image_wait(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		o_fail("waitpid");
	o_status("image", status);
}

/* The client of all of these: two requests, then the end. */
static void ask_fd(int fd)
{
	char buf[16];

	O("send", send(fd, "ping", 4, 0));
	o_bytes("answer", buf, O("recv", o_recv_all(fd, buf, 4)));
	O("send second", send(fd, "more", 4, 0));
	O("shutdown", shutdown(fd, SHUT_WR));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}

static void ask(void)
{
	ask_fd(o_connected(0));
}

/* --- fork, exec ---------------------------------------------------------------------------------- */

static void exec_server(void (*how)(int fd), bool parent_closes)
{
	int fd = o_connected(0);
	pid_t pid = fork();

	if (pid < 0)
		o_fail("fork");
	if (pid == 0) {
		how(fd);
		_exit(99);
	}
	if (parent_closes)
		O("close", close(fd));
	image_wait(pid);
	if (!parent_closes)
		O("close", close(fd));
}

static void by_execve(int fd)
{
	execve(o_self(), args("exec_talk", fd), environ);
}

static void execve_server(void)
{
	exec_server(by_execve, true);
}
SCENARIO(execve, "fork, close in the parent, execve: the image has the connection", O_BOTH, execve_server,
	 ask)

static void execve_kept_server(void)
{
	exec_server(by_execve, false);
}
SCENARIO(execve_parent_keeps, "the same while the parent keeps its descriptor", O_BOTH, execve_kept_server,
	 ask)

static void by_execv(int fd)
{
	execv(o_self(), args("exec_talk", fd));
}

static void by_execvp(int fd)
{
	execvp(o_self(), args("exec_talk", fd));
}

static void by_execvpe(int fd)
{
	execvpe(o_self(), args("exec_talk", fd), environ);
}

static void by_execl(int fd)
{
	char **a = args("exec_talk", fd);

	execl(o_self(), a[0], a[1], a[2], a[3], "3", (char *)NULL);
}

static void by_execlp(int fd)
{
	char **a = args("exec_talk", fd);

	execlp(o_self(), a[0], a[1], a[2], a[3], (char *)NULL);
}

static void by_execle(int fd)
{
	char **a = args("exec_talk", fd);

	execle(o_self(), a[0], a[1], a[2], a[3], (char *)NULL, environ);
}

static void by_fexecve(int fd)
{
	int self = open(o_self(), O_RDONLY | O_CLOEXEC);

	fexecve(self, args("exec_talk", fd), environ);
}

static void by_execveat(int fd)
{
	int self = open(o_self(), O_PATH | O_CLOEXEC);

	execveat(self, "", args("exec_talk", fd), environ, AT_EMPTY_PATH);
}

#define EXEC_BY(name) \
	static void name##_server(void) \
	{ \
		exec_server(by_##name, true); \
	} \
	SCENARIO(name, #name "() with a connection", O_BOTH, name##_server, ask)
EXEC_BY(execv)
EXEC_BY(execvp)
EXEC_BY(execvpe)
EXEC_BY(execl)
EXEC_BY(execlp)
EXEC_BY(execle)
EXEC_BY(fexecve)
EXEC_BY(execveat)

static void vfork_server(void)
{
	int fd = o_connected(0);
	char **argv = args("exec_talk", fd);
	pid_t pid = vfork();

	if (pid == 0) {
		execve(o_self(), argv, environ);
		_exit(99);
	}
	O("close", close(fd));
	image_wait(pid);
}
SCENARIO(vfork_exec, "vfork and execve", O_BOTH, vfork_server, ask)

/* inetd: standard input and output are the connection. */
static void by_dup2(int fd)
{
	/* what the image prints by itself would go to the peer */
	dup2(fd, 0);
	dup2(fd, 1);
	close(fd);
	execve(o_self(), args("exec_cgi", 0), environ);
}

static void inetd_server(void)
{
	exec_server(by_dup2, true);
}

static void inetd_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	O("send", send(fd, "1234", 4, 0));
	o_bytes("answer", buf, O("recv", o_recv_all(fd, buf, 8)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(inetd, "the connection as standard input and output of another program", O_BOTH, inetd_server,
	 inetd_client)

/* --- the process that has the connections becomes the image ------------------------------------------ */

static void owner_main(void *arg)
{
	int fd = o_connected(0);

	execve(o_self(), args("exec_talk", fd), environ);
	_exit(99);
}

static void owner_server(void)
{
	o_fork("the process", owner_main, NULL);
}
SCENARIO(owner_execs, "the process that accepted the connection execs", O_BOTH, owner_server, ask)

static void owner_client(void)
{
	o_fork("the process", owner_main, NULL);
}
SCENARIO(client_execs, "the process that connected execs", O_BOTH, ask, owner_client)

static void cloexec_main(void *arg)
{
	int fd = o_connected(0);

	send(fd, "last words", 10, 0);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	execve(o_self(), args("exec_closed", fd), environ);
	_exit(99);
}

static void cloexec_server(void)
{
	o_fork("the process", cloexec_main, NULL);
}

static void cloexec_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	o_bytes("last words", buf, O("recv", o_recv_all(fd, buf, 10)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(close_on_exec, "a close-on-exec connection ends in order at exec, its data arrives", O_BOTH,
	 cloexec_server, cloexec_client)

static void fails_main(void *arg)
{
	int fd = o_connected(0);
	char buf[8];

	O("execve of nothing", execve("/nonexistent", args("exec_talk", fd), environ));
	O("execve of a directory", execve("/tmp", args("exec_talk", fd), environ));
	O("execve of no program", execve("/etc/passwd", args("exec_talk", fd), environ));
	o_bytes("request", buf, O("recv", o_recv_all(fd, buf, 4)));
	O("send", send(fd, "pong", 4, 0));
	O("recv second", o_recv_all(fd, buf, 4));
	O("recv the end", recv(fd, buf, sizeof(buf), 0));
	close(fd);
}

static void fails_server(void)
{
	o_fork("the process", fails_main, NULL);
}
SCENARIO(exec_fails, "after an exec that failed the connection goes on", O_BOTH, fails_server, ask)

/* --- started beside --------------------------------------------------------------------------------------- */

static void spawn_server(void)
{
	int fd = o_connected(0);
	pid_t pid;

	O("posix_spawn", posix_spawn(&pid, o_self(), NULL, NULL, args("exec_talk", fd), environ));
	O("close", close(fd));
	image_wait(pid);
}
SCENARIO(posix_spawn, "posix_spawn() with a connection", O_BOTH, spawn_server, ask)

static void spawnp_dup_server(void)
{
	int fd = o_connected(0);
	posix_spawn_file_actions_t fa;
	pid_t pid;

	fcntl(fd, F_SETFD, FD_CLOEXEC);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fd, 0);
	posix_spawn_file_actions_adddup2(&fa, fd, 1);
	O("posix_spawnp", posix_spawnp(&pid, o_self(), &fa, NULL, args("exec_cgi", 0), environ));
	posix_spawn_file_actions_destroy(&fa);
	image_wait(pid);
	O("send after", send(fd, "!", 1, 0));
	O("close", close(fd));
}

static void spawnp_dup_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	O("send", send(fd, "1234", 4, 0));
	o_bytes("answer", buf, O("recv", o_recv_all(fd, buf, 9)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(posix_spawn_dup2, "posix_spawnp() that duplicates a close-on-exec connection", O_BOTH,
	 spawnp_dup_server, spawnp_dup_client)

static void system_server(void)
{
	int fd = o_connected(0), status;
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "read x <&%d; echo \"shell:$x\" >&%d", fd, fd);
	o_wait(fd, POLLIN);
	status = system(cmd);
	o_status("system", status);
	O("send after", send(fd, "after\n", 6, 0));
	O("close", close(fd));
}

static void shell_client(void)
{
	int fd = o_connected(0);
	char buf[32];

	O("send", send(fd, "hello\n", 6, 0));
	o_bytes("answer", buf, O("recv", o_recv_all(fd, buf, 18)));
	O("end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(system, "system() whose shell uses the connection, which goes on after it", O_BOTH, system_server,
	 shell_client)

static void popen_server(void)
{
	int fd = o_connected(0);
	char cmd[256], line[32] = "";
	FILE *p;

	snprintf(cmd, sizeof(cmd), "read x <&%d; echo \"shell:$x\" >&%d; echo done", fd, fd);
	p = popen(cmd, "r");
	if (!p || !fgets(line, sizeof(line), p))
		o_fail("popen");
	o_say("said", "%.4s", line);
	o_status("pclose", pclose(p));
	O("send after", send(fd, "after\n", 6, 0));
	O("close", close(fd));
}
SCENARIO(popen, "popen() whose shell uses the connection", O_BOTH, popen_server, shell_client)

/* --- queues ------------------------------------------------------------------------------------------------ */

#define BIG 120000

O_CHILD(exec_read_big)
{
	int fd = atoi(argv[1]);
	char *p = malloc(BIG);
	long sum = 0;

	O("image: recv all", o_recv_all(fd, p, BIG));
	for (long i = 0; i < BIG; i++)
		sum += (unsigned char)p[i] * (i % 1009);
	o_say("image: sum", "%ld", sum);
	O("image: send", send(fd, "ok", 2, 0));
	free(p);
	close(fd);
	return 0;
}

static void big_main(void *arg)
{
	int fd = o_connected(0);

	o_bool("much is unread", o_wait_bytes(fd, 40000) >= 40000);
	execve(o_self(), args("exec_read_big", fd), environ);
	_exit(99);
}

static void big_server(void)
{
	o_fork("the process", big_main, NULL);
}

static void big_client(void)
{
	int fd = o_connected(0);
	char *p = malloc(BIG);

	for (long i = 0; i < BIG; i++)
		p[i] = (char)(i * 7 + i / 255);
	O("send all", o_send_all(fd, p, BIG));
	o_bytes("answer", p, O("recv", o_recv_all(fd, p, 2)));
	O("end", recv(fd, p, 1, 0));
	free(p);
	close(fd);
}
SCENARIO(unread_at_exec, "unread data waits for the image", O_BOTH, big_server, big_client)

static void unsent_main(void *arg)
{
	int fd = o_connected(0);
	long at = 0;
	char *p = calloc(1, 1 << 20);
	ssize_t n;

	o_nonblock(fd, true);
	while ((n = send(fd, p, 1 << 20, 0)) > 0)
		at += n;
	o_tell(at);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	execve(o_self(), args("exec_closed", fd), environ);
	_exit(99);
}

static void unsent_server(void)
{
	o_fork("the process", unsent_main, NULL);
	o_sync();
}

static void unsent_client(void)
{
	int fd = o_connected(0);
	long n = o_hear();
	char *p = malloc((size_t)n + 1);

	o_sync(); /* the process has ended */
	o_bool("all of it", o_recv_all(fd, p, (size_t)n) == n);
	O("end", recv(fd, p, 1, 0));
	free(p);
	close(fd);
}
SCENARIO(unsent_at_exec, "what a slow peer has not taken is sent after exec and exit", O_BOTH,
	 unsent_server, unsent_client)

/* --- a listener ---------------------------------------------------------------------------------- */

#define WAITING 3

/* Accepts what waits on descriptor argv[1], and one that comes. */
O_CHILD(exec_accept)
{
	int lst = atoi(argv[1]);
	char label[32], c;

	o_events("image: poll", o_wait(lst, POLLIN));
	for (int i = 0; i <= WAITING; i++) {
		int fd;

		snprintf(label, sizeof(label), "image: accept %d", i);
		fd = (int)O_OK(label, accept(lst, NULL, NULL));
		if (i == WAITING - 1)
			o_events("image: poll when none waits", o_poll(lst, POLLIN));
		snprintf(label, sizeof(label), "image: request %d", i);
		O(label, o_recv_all(fd, &c, 1));
		o_send_all(fd, &c, 1);
		close(fd);
	}
	close(lst);
	return 0;
}

/* A file that looks executable and is not. */
static void no_program(char *path, size_t n)
{
	int fd = memfd_create("no program", MFD_CLOEXEC);

	if (fd < 0 || write(fd, "x", 1) != 1)
		o_fail("memfd");
	snprintf(path, n, "/proc/self/fd/%d", fd);
}

/* The stack is this process's own: it, and no other, has looked at the listener. */
static void looks_and_becomes(void *arg)
{
	int go[2] = {((int *)arg)[0], ((int *)arg)[1]}, lst = o_listener(0);
	char path[64], c;

	o_poll(lst, POLLIN);
	if (write(go[1], "l", 1) != 1 || read(go[0], &c, 1) != 1)
		o_fail("the other process");
	o_wait(lst, POLLIN);
	no_program(path, sizeof(path));
	O("execve of no program", execve(path, args("exec_accept", lst), environ));
	execve(o_self(), args("exec_accept", lst), environ);
}

static void listener_server(void)
{
	int up[2], down[2], ends[2];
	pid_t pid;
	char c;

	if (pipe(up) || pipe(down))
		o_fail("pipe");
	ends[0] = down[0];
	ends[1] = up[1];
	pid = o_spawn(looks_and_becomes, ends);
	if (read(up[0], &c, 1) != 1)
		o_fail("the child");
	o_sync(); /* it listens */
	o_sync(); /* all are connected */
	if (write(down[1], "g", 1) != 1)
		o_fail("write");
	image_wait(pid);
	for (int i = 0; i < 2; i++) {
		close(up[i]);
		close(down[i]);
	}
	o_sync();
}

static void listener_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd[WAITING + 1];
	char label[32], c;

	o_sync();
	for (int i = 0; i <= WAITING; i++) {
		if (i == WAITING) { /* the last of them is answered */
			o_sync();
			o_wait(fd[i - 1], POLLIN);
		}
		fd[i] = socket(o_family, SOCK_STREAM, 0);
		if (connect(fd[i], (void *)&a, len))
			o_fail("connect");
		o_send_all(fd[i], &"0123456789"[i], 1);
	}
	for (int i = 0; i <= WAITING; i++) {
		o_wait(fd[i], POLLIN);
		snprintf(label, sizeof(label), "answer %d", i);
		o_bytes(label, &c, recv(fd[i], &c, 1, MSG_DONTWAIT) == 1);
		close(fd[i]);
	}
	o_sync();
}
SCENARIO(listener_waiting, "connections that wait for accept() when the process becomes another program", O_BOTH,
	 listener_server, listener_client)
