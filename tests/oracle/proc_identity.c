/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/proc_identity.c - processes that change their user, and that start others by clone()
 *
 * A process under nsocket has threads that its program does not know of. What a process is, each of its
 * threads is by itself for the kernel; and a signal goes to any thread that does not block it.
 */
#include "oracle.h"
#include "talk.h"

#include <dirent.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define NOBODY 65534

static void *nothing(void *arg)
{
	return arg;
}

/* What makes the process one of several threads, whose sockets are freed when no other looks at them. */
static void threads_and_sockets(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, nothing, NULL))
		o_fail("pthread_create");
	pthread_join(t, NULL);
	for (int i = 0; i < 3; i++)
		close(o_listener(1 + i));
}

/* --- another user ------------------------------------------------------------------------------ */

/* capset() has a header in libcap only. */
extern int capset(cap_user_header_t head, const cap_user_data_t data);

static int capabilities(uint32_t permitted, uint32_t effective)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { effective, permitted, 0 }, { 0, 0, 0 } };

	return capset(&head, data);
}

/* Words of /proc/self/task/TID/status that differ from the first thread's, over all threads. */
static bool same_in_all_threads(const char *key)
{
	char path[300], line[200], first[200] = "";
	struct dirent *e;
	bool same = true;
	DIR *d = opendir("/proc/self/task");

	while (d && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			if (strncmp(line, key, strlen(key)))
				continue;
			if (!first[0])
				strcpy(first, line);
			same &= !strcmp(line, first);
		}
		if (f)
			fclose(f);
	}
	closedir(d);
	return d && same && first[0];
}

static void all_threads_agree(void)
{
	o_bool("Uid of all threads", same_in_all_threads("Uid:"));
	o_bool("Gid of all threads", same_in_all_threads("Gid:"));
	o_bool("Groups of all threads", same_in_all_threads("Groups:"));
	o_bool("CapPrm of all threads", same_in_all_threads("CapPrm:"));
	o_bool("CapEff of all threads", same_in_all_threads("CapEff:"));
}

static void no_way_back(void)
{
	O("setuid back", setuid(0));
	O("seteuid back", seteuid(0));
	O("setgid back", setgid(0));
	O("setgroups back", setgroups(0, NULL));
	O("getuid", getuid());
	O("getegid", getegid());
}

/* As a server does that gives up root. */
static void plainly(void)
{
	static const gid_t groups[] = { NOBODY, 100 };

	O("setgroups", setgroups(2, groups));
	O("setresgid", setresgid(NOBODY, NOBODY, NOBODY));
	O("setresuid", setresuid(NOBODY, NOBODY, NOBODY));
	all_threads_agree();
}

/* As setpriv(1) does, user first: what is needed after that has been kept. */
static void keeping(void)
{
	uint32_t set_ids = 1u << CAP_SETGID | 1u << CAP_SETUID;

	O("keep capabilities", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	O("setresuid", setresuid(NOBODY, NOBODY, NOBODY));
	O("capset, what is needed", capabilities(set_ids, set_ids));
	O("setregid", setregid(NOBODY, NOBODY));
	O("setgid", setgid(NOBODY));
	O("initgroups", initgroups("nobody", NOBODY));
	O("setegid", setegid(NOBODY));
	all_threads_agree();
	O("capset, nothing", capabilities(0, 0));
	all_threads_agree();
}

/* Back and forth, as servers do that act for their users. */
static void for_a_while(void)
{
	O("setegid", setegid(NOBODY));
	O("seteuid", seteuid(NOBODY));
	all_threads_agree();
	O("seteuid root", seteuid(0));
	O("setegid root", setegid(0));
	all_threads_agree();
	O("setreuid", setreuid(NOBODY, NOBODY));
	O("setgroups without right", setgroups(0, NULL));
}

/* Still root by number, with nothing that root may do. */
static void root_without_rights(void)
{
	O("capset, nothing", capabilities(0, 0));
	all_threads_agree();
	O("setuid", setuid(NOBODY));
	O("setuid, root", setuid(0));
	O("setgroups", setgroups(0, NULL));
}

/* The listener is made here, so that the process that changes is the one that owns the stack. */
static void changes(void (*how)(void), const char *then)
{
	int lst = o_listener(0), fd;

	threads_and_sockets();
	o_sync();
	fd = O_OK("accept", accept(lst, NULL, NULL));
	serve(fd, "before");
	how();
	serve(fd, "after");
	O("close", close(fd));
	o_sync();
	fd = O_OK("accept after", accept(lst, NULL, NULL));
	serve(fd, then);
	O("close accepted", close(fd));
	O("close listener", close(lst));
}

static void plainly_main(void *arg)
{
	changes(plainly, "new one");
	no_way_back();
}

static void keeping_main(void *arg)
{
	changes(keeping, "new one");
	no_way_back();
}

static void for_a_while_main(void *arg)
{
	changes(for_a_while, "new one");
}

static void root_without_rights_main(void *arg)
{
	changes(root_without_rights, "new one");
}

static void plainly_server(void)
{
	o_fork("server", plainly_main, NULL);
}

static void keeping_server(void)
{
	o_fork("server", keeping_main, NULL);
}

static void for_a_while_server(void)
{
	o_fork("server", for_a_while_main, NULL);
}

static void root_without_rights_server(void)
{
	o_fork("server", root_without_rights_main, NULL);
}

static int connected(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	O("connect", connect(fd, (struct sockaddr *)&a, len));
	return fd;
}

static void two_connections(void)
{
	int fd;

	o_sync();
	fd = connected();
	ask(fd, "one.");
	ask(fd, "two.");
	see_end(fd);
	o_sync();
	fd = connected();
	ask(fd, "more");
	see_end(fd);
}
SCENARIO(gives_up_root, "a server gives up root while it serves", O_V4, plainly_server, two_connections)
SCENARIO(keeps_capabilities, "a server becomes another user and keeps capabilities for a while", O_V4,
	 keeping_server, two_connections)
SCENARIO(user_for_a_while, "effective user and group, back and forth", O_V4, for_a_while_server,
	 two_connections)
SCENARIO(root_without_rights, "a server drops its capabilities", O_V4, root_without_rights_server,
	 two_connections)

/* --- clone() --------------------------------------------------------------------------------------- */

static char child_stack[1 << 18] __attribute__((aligned(16)));

/* Between a vfork and exec: descriptors are arranged, rights are given up. */
static int to_be_executed(void *arg)
{
	int fd = *(int *)arg;

	if (dup2(fd, 3) != 3 || close(fd) || setgid(NOBODY) || setuid(NOBODY))
		return 1;
	execl(o_self(), o_self(), "--child", "clone_serves", NULL);
	return 127;
}

O_CHILD(clone_serves)
{
	serve(3, "child");
	O("child: user", getuid());
	return 0;
}

static void clone_with(int flags)
{
	int fd = o_connected(0), at = fcntl(fd, F_DUPFD, 20), status = 0;
	pid_t pid;

	close(fd);
	o_sync();
	serve(at, "before");
	pid = clone(to_be_executed, child_stack + sizeof(child_stack), flags | SIGCHLD, &at);
	O_OK("clone", pid);
	if (waitpid(pid, &status, 0) != pid)
		o_fail("waitpid");
	o_status("child", status);
	serve(at, "parent");
	O("user", getuid());
	O("close", close(at));
}

static void vfork_server(void)
{
	clone_with(CLONE_VM | CLONE_VFORK);
}

static void fork_server(void)
{
	clone_with(0);
}

static void three_requests(void)
{
	int fd = o_connected(0);

	o_sync();
	ask(fd, "one.");
	ask(fd, "two.");
	ask(fd, "thre");
	see_end(fd);
}
SCENARIO(clone_fork, "clone() as a fork: the child becomes another user, and executes", O_BOTH, fork_server,
	 three_requests)
SCENARIO(clone_vfork, "clone() in the parent's memory, which waits until the child executes", O_BOTH,
	 vfork_server, three_requests)

/* --- signals of a forked child ------------------------------------------------------------------------- */

static volatile sig_atomic_t hits;

static void on_signal(int sig)
{
	hits++;
}

/* Blocked while it works, let through while it waits. */
static void waits_for_a_signal(void *arg)
{
	struct sigaction sa = { .sa_handler = on_signal };
	const struct timespec patience = { 3, 0 };
	sigset_t usr1, old;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, &old);
	sigaction(SIGUSR1, &sa, NULL);
	O("kill", kill(getpid(), SIGUSR1));
	O("handlers while it is blocked", hits);
	sigdelset(&old, SIGUSR1);
	O("ppoll", ppoll(NULL, 0, &patience, &old));
	O("handlers", hits);
}

static void has_threads(void *arg)
{
	threads_and_sockets();
	o_fork("child", waits_for_a_signal, NULL);
}

static void signal_server(void)
{
	o_fork("parent", has_threads, NULL);
}
SCENARIO(signal_of_child, "a blocked signal waits until the child wants it", O_V4, signal_server, NULL)
