/* SPDX-License-Identifier: Apache-2.0 */
/* The log: levels, where lines go, repeats, the ring, fork; nothing on the program's output. */
#define _GNU_SOURCE
#include <rd/config.h>
#include <rd/log.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static char dir[] = "/tmp/rd_log_XXXXXX";

static void read_file(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);

	out[n < 0 ? 0 : n] = 0;
	if (fd >= 0)
		close(fd);
}

static void test_levels(void)
{
	uint64_t seq = 0;
	char text[4096];

	unsetenv("NSTACK_LOG_ON");
	ns_log_init(NULL);
	CHECK(ns_log_on(NS_M_RD, NS_ERR) && !ns_log_on(NS_M_RD, NS_WAR), "default ERR");
	setenv("NSTACK_LOG_ON", "nonsense", 1);
	ns_log_init(NULL);
	CHECK(ns_log_on(NS_M_RD, NS_ERR) && !ns_log_on(NS_M_RD, NS_WAR), "unknown: ERR");
	setenv("NSTACK_LOG_ON", "PERF", 1);
	ns_log_init(NULL);
	CHECK(!ns_log_on(NS_M_RD, NS_EMG), "PERF: all off");
	setenv("NSTACK_LOG_ON", "inf", 1);
	ns_log_init(NULL);
	CHECK(ns_log_on(NS_M_RD, NS_INF) && !ns_log_on(NS_M_RD, NS_DBG), "INF");
	ns_log_set_level(NS_M_HAL, NS_DBG);
	CHECK(ns_log_on(NS_M_HAL, NS_DBG) && !ns_log_on(NS_M_RD, NS_DBG), "per module");
	CHECK(ns_log_level_parse("WAR") == NS_WAR && ns_log_level_parse("X") == -1, " ");
	CHECK(ns_log_module_parse("hal") == NS_M_HAL && ns_log_module_parse("x") == -1, " ");
	CHECK(ns_log_module_parse("STACKX") == NS_M_STACK && ns_log_module_parse("operation") == NS_M_OPER,
	      "the manual's names");
	ns_log(NS_DBG, NS_M_RD, "must not appear");
	CHECK(ns_log_ring_read(&seq, text, sizeof(text)) == 0, "%s", text);
}

static void test_file(void)
{
	char path[256], text[8192];
	uint64_t seq = 0, before;
	int status;
	pid_t pid;

	setenv("NSTACK_APP_LOG_PATH", dir, 1);
	ns_log_init(NULL);
	ns_log_path(path, sizeof(path));
	CHECK(!path[0], "no file before the first line");
	for (int i = 10; i < 40; i++)
		ns_log(NS_ERR, NS_M_STACK, "line\n%d", i);
	ns_log_path(path, sizeof(path));
	snprintf(text, sizeof(text), "%s/app_rd_log_%d.log", dir, (int)getpid());
	CHECK(!strcmp(path, text), "%s", path);
	read_file(path, text, sizeof(text));
	CHECK(strstr(text, "ERR stack[") && strstr(text, "] line 10\n") && strstr(text, "] line 17\n"), "%s", text);
	CHECK(!strstr(text, "line 18"), "what is repeated too often is counted, not written: %s", text);
	ns_log_ring_read(&seq, text, sizeof(text));
	CHECK(strstr(text, "line 10"), "%s", text);
	before = seq;
	CHECK(!ns_log_ring_read(&seq, text, sizeof(text)) && seq == before, " ");
	pid = fork();
	if (!pid) {
		ns_log_after_fork();
		ns_log(NS_ERR, NS_M_STACK, "child");
		ns_log_path(path, sizeof(path));
		snprintf(text, sizeof(text), "%s/app_rd_log_%d.log", dir, (int)getpid());
		_exit(strcmp(path, text) != 0);
	}
	waitpid(pid, &status, 0);
	CHECK(status == 0, "the child's own file");
}

/* The log's clock. */
static time_t ahead_s;
int clock_gettime(clockid_t id, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, id, t);

	t->tv_sec += ahead_s;
	return r;
}

static unsigned times(const char *text, const char *what)
{
	unsigned n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

/* Two places at a time, each with a count of its own, which comes though they say nothing more. */
static void test_repeats(void)
{
	char text[65536], want[128];
	uint64_t seq = 0, end;
	int line = 0;

	while (ns_log_ring_read(&seq, text, sizeof(text)))
		;
	end = seq;
	for (int i = 0; i < 30; i++) {
		ns_log(NS_ERR, NS_M_RD, "one");
		if (i < 20) {
			line = __LINE__ + 1;
			ns_log(NS_ERR, NS_M_HAL, "two");
		}
	}
	ns_log_ring_read(&end, text, sizeof(text));
	CHECK(times(text, "] one\n") == 8 && times(text, "] two\n") == 8 && !strstr(text, "left out"), "%s", text);
	ahead_s += 6;
	ns_log(NS_ERR, NS_M_STACK, "three");
	ns_log_ring_read(&end, text, sizeof(text));
	snprintf(want, sizeof(want), "ERR hal[%d] (12 more lines of %s:%d were left out)\n", (int)getpid(), __FILE__, line);
	CHECK(times(text, want) == 1 && strstr(text, "(22 more lines of ") && strstr(text, "] three\n"), "%s", text);
	for (int i = 0; i < 9; i++)
		ns_log(NS_ERR, NS_M_RD, "four");
	ns_log_ring_read(&end, text, sizeof(text));
	ahead_s += 6;
	ns_log_ring_read(&end, text, sizeof(text));
	CHECK(strstr(text, "(1 more lines of "), "%s", text);
}

/* What others may have put where the log is going to be. */
static void test_hostile_names(void)
{
	char path[256], other[256], text[256];
	int fd, n;

	snprintf(path, sizeof(path), "%s/app_rd_log_%d.log", dir, (int)getpid());
	snprintf(other, sizeof(other), "%s/precious", dir);
	fd = open(other, O_WRONLY | O_CREAT, 0600);
	close(fd);
	setenv("NSTACK_APP_LOG_PATH", dir, 1);
	alarm(10); /* a FIFO must not keep us */
	for (n = 0; n < 4; n++) {
		unlink(path);
		if (n == 0)
			CHECK(!mkfifo(path, 0600), "mkfifo");
		else if (n == 1)
			CHECK(!symlink(other, path), "symlink");
		else if (n == 2)
			CHECK(!link(other, path), "link");
		else
			CHECK(!close(open(path, O_CREAT, 0666)) && !chown(path, 65534, 65534), "chown");
		ns_log_init(NULL);
		ns_log(NS_ERR, NS_M_STACK, "hostile name %d", n);
		ns_log_path(text, sizeof(text));
		CHECK(strcmp(text, path), "%d: %s was opened", n, text);
		read_file(n == 0 ? other : path, text, sizeof(text));
		CHECK(!text[0], "%d: %s", n, text);
	}
	alarm(0);
	unlink(path);
}

/* A program that closes everything and opens a file of its own must not find our lines in it. */
static void test_closed_under_us(void)
{
	char path[256], text[1024];
	int log_fd = -1, fd;

	ns_log_init(NULL);
	ns_log(NS_ERR, NS_M_STACK, "a first line");
	ns_log_path(path, sizeof(path));
	for (fd = 3; fd < 1024; fd++) {
		char link[64];
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, text, sizeof(text) - 1);
		text[n < 0 ? 0 : n] = 0;
		if (!strcmp(text, path))
			log_fd = fd;
	}
	CHECK(log_fd >= 0, "the log's descriptor");
	snprintf(text, sizeof(text), "%s/theirs", dir);
	fd = open(text, O_RDWR | O_CREAT, 0600);
	CHECK(dup2(fd, log_fd) == log_fd, " ");
	ns_log(NS_ERR, NS_M_CTL, "a second line");
	CHECK(lseek(fd, 0, SEEK_END) == 0, "our line is in the program's file");
	read_file(path, text, sizeof(text));
	CHECK(strstr(text, "a second line"), "%s", text);
	close(fd);
	close(log_fd);
	unlink(path);
	ns_log_init(NULL);
}

static void test_ring(void)
{
	uint64_t seq = 0;
	char text[1 << 15];
	unsigned lines = 0;

	ns_log_set_level(NS_M_NR_, NS_DBG);
	for (int i = 0; i < 1000; i++)
		ns_log(NS_DBG, NS_M_RD, "number %d %s", i, i == 999 ? "" : "x");
	while (ns_log_ring_read(&seq, text, sizeof(text))) {
		for (char *p = text; (p = strchr(p, '\n')); p++)
			lines++;
	}
	CHECK(lines == 256, "%u", lines);
	seq = UINT64_MAX;
	CHECK(!ns_log_ring_read(&seq, text, sizeof(text)), "a sequence number of the future");
	memset(text, 'y', sizeof(text));
	text[sizeof(text) - 1] = 0;
	ns_log(NS_ERR, NS_M_RD, "%s", text); /* longer than a line: cut */
	ns_log_set_level(NS_M_NR_, NS_ERR);
}

static void put_file(const char *path, const char *text, off_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) >= 0, "%s", path);
	if (size)
		CHECK(!ftruncate(fd, size), "%s", path);
	close(fd);
}

/* A full file is renamed, those before it move on, the oldest goes. */
static void test_rotation(void)
{
	char path[256], name[300], text[4096];

	ns_log_init(NULL);
	snprintf(path, sizeof(path), "%s/app_rd_log_%d.log", dir, (int)getpid());
	for (int i = 1; i <= 10; i++) {
		snprintf(name, sizeof(name), "%s.%d", path, i);
		snprintf(text, sizeof(text), "old %d", i);
		put_file(name, text, 0);
	}
	put_file(path, "full", (30 << 20) - 10);
	ns_log(NS_ERR, NS_M_STACK, "opens it");
	ns_log(NS_ERR, NS_M_STACK, "the first line of a new one");
	read_file(path, text, sizeof(text));
	CHECK(strstr(text, "the first line of a new one") && !strstr(text, "opens it"), "%s", text);
	for (int i = 1; i <= 10; i++) {
		char want[32];

		snprintf(name, sizeof(name), "%s.%d", path, i);
		snprintf(want, sizeof(want), i > 1 ? "old %d" : "full", i - 1);
		read_file(name, text, sizeof(text));
		CHECK(!strcmp(text, want), "%s: %s", name, text);
		unlink(name);
	}
	snprintf(name, sizeof(name), "%s.11", path);
	CHECK(access(name, F_OK), "an eleventh old file");
	unlink(path);
}

static unsigned lines_of(const char *path)
{
	char text[4096];
	ssize_t n;
	unsigned lines = 0;
	int fd = open(path, O_RDONLY);

	while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	close(fd);
	return lines;
}

/* A daemon's files; processes that write to the same ones lose no line when they are renamed. */
static void test_daemon(void)
{
	enum { WRITERS = 4, LINES = 2000 };
	char path[256], old[300], text[4096];
	int status, bad = 0;

	unsetenv("NSTACK_LOG_ON");
	ns_log_daemon();
	ns_log_init(NULL);
	CHECK(ns_log_on(NS_M_OPER, NS_INF) && !ns_log_on(NS_M_STACK, NS_WAR), "operation is logged");
	ns_log(NS_ERR, NS_M_STACK, "it runs");
	ns_log(NS_INF, NS_M_OPER, "it was changed");
	snprintf(path, sizeof(path), "%s/running.log", dir);
	read_file(path, text, sizeof(text));
	CHECK(strstr(text, "it runs") && !strstr(text, "changed"), "%s", text);
	snprintf(old, sizeof(old), "%s/operation.log", dir);
	read_file(old, text, sizeof(text));
	CHECK(strstr(text, "INF operation[") && strstr(text, "it was changed") && !strstr(text, "runs"), "%s", text);
	snprintf(old, sizeof(old), "%s.moved", path);
	CHECK(!rename(path, old), " ");
	ns_log_reopen();
	ns_log(NS_ERR, NS_M_STACK, "after it was moved away");
	read_file(path, text, sizeof(text));
	CHECK(strstr(text, "after it was moved away"), "%s", text);
	unlink(path);
	ns_log_reopen();

	/* full after a third of the lines; a hole, which costs nothing */
	put_file(path, "", (50 << 20) - WRITERS * LINES / 3 * 60);
	ns_log_set_level(NS_M_STACK, NS_DBG); /* is never taken for a repetition */
	for (int w = 0; w < WRITERS; w++)
		if (!fork()) {
			ns_log_after_fork();
			for (int i = 0; i < LINES; i++)
				ns_log(NS_DBG, NS_M_STACK, "writer %d line %4d", w, i);
			_exit(0);
		}
	while (wait(&status) > 0)
		bad |= status;
	CHECK(!bad, "a writer failed");
	snprintf(old, sizeof(old), "%s.1", path);
	CHECK(lines_of(old) > 0 && lines_of(path) > 0, "%u %u", lines_of(old), lines_of(path));
	CHECK(lines_of(old) + lines_of(path) == WRITERS * LINES, "%u + %u", lines_of(old), lines_of(path));
	snprintf(old, sizeof(old), "%s.2", path);
	CHECK(access(old, F_OK), "renamed once");
	ns_log_set_level(NS_M_STACK, NS_ERR);
}

static void test_fallback(void)
{
	char text[512];

	ns_log_fallback("eth0: %s", "no privilege");
	ns_log_fallback_get(text, sizeof(text));
	CHECK(!strcmp(text, "eth0: no privilege"), "%s", text);
}

static void test_stderr(void)
{
	char path[64], text[1024];
	int saved = dup(2), fd;

	snprintf(path, sizeof(path), "%s/err", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	dup2(fd, 2);
	setenv("NSTACK_LOG_FILE_FLAG", "1", 1);
	ns_log_init(NULL);
	ns_log(NS_ERR, NS_M_CTL, "into the file");
	unsetenv("NSTACK_LOG_FILE_FLAG");
	ns_log_init(NULL);
	ns_log(NS_ERR, NS_M_CTL, "unset means file");
	read_file(path, text, sizeof(text));
	CHECK(!text[0], "%s", text);
	setenv("NSTACK_LOG_FILE_FLAG", "0", 1);
	ns_log_init(NULL);
	ns_log(NS_ERR, NS_M_CTL, "to stderr");
	read_file(path, text, sizeof(text));
	CHECK(strstr(text, "ERR ctl[") && strstr(text, "to stderr\n"), "%s", text);
	dup2(saved, 2);
	close(saved);
	close(fd);
}

int main(void)
{
	char cmd[64];

	if (!mkdtemp(dir))
		return 1;
	test_levels();
	test_file();
	test_repeats();
	if (!geteuid())
		test_hostile_names();
	test_closed_under_us();
	test_ring();
	test_fallback();
	test_stderr();
	unsetenv("NSTACK_LOG_FILE_FLAG");
	test_rotation();
	test_daemon();
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		failures++;
	if (!failures)
		puts("ok");
	return failures != 0;
}
