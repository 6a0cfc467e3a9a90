// SPDX-License-Identifier: Apache-2.0
/* tests/unit/steer_lock.c - the lock of an interface: excludes, and is let go of for good */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed;
#define CHECK(x) do { if (!(x)) { printf("not ok: %s:%d: %s\n", __FILE__, __LINE__, #x); \
			failed = 1; } } while (0)

/* A child forked while the lock is held has a copy of its descriptor, and may live long. */
static void test_fork_while_held(unsigned ifindex)
{
	int lock = steer_lock(ifindex);
	pid_t child;

	CHECK(lock >= 0);
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	steer_unlock(lock);
	alarm(5); /* the bug shows as waiting for ever */
	lock = steer_lock(ifindex);
	alarm(0);
	CHECK(lock >= 0);
	steer_unlock(lock);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void test_excludes(unsigned ifindex, const char *path)
{
	int lock = steer_lock(ifindex), other = open(path, O_RDWR);

	CHECK(lock >= 0 && other >= 0);
	CHECK(flock(other, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK);
	steer_unlock(lock);
	CHECK(!flock(other, LOCK_EX | LOCK_NB));
	close(other);
}

int main(void)
{
	unsigned ifindex = 0x70000000u + (unsigned)getpid(); /* nobody's */
	char path[96];
	struct stat ns;

	if (geteuid()) {
		puts("skipped: needs root");
		return 77;
	}
	CHECK(!stat("/proc/self/ns/net", &ns));
	snprintf(path, sizeof(path), "/run/nstack/steer-%lu-%u.lock", (unsigned long)ns.st_ino, ifindex);
	test_fork_while_held(ifindex);
	test_excludes(ifindex, path);
	unlink(path);
	if (!failed)
		puts("ok");
	return failed;
}
