/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/stdio.c - streams of the C library over sockets */
#include "oracle.h"
#include <locale.h>
#include <stdio_ext.h>
#include <wchar.h>

#define BIG 100000

static bool nothing_there(int fd)
{
	return !(o_poll(fd, POLLIN) & POLLIN);
}

static void say_ptr(const char *label, const void *p)
{
	if (p)
		o_say(label, "ok");
	else
		o_ret(label, -1);
}
#define P(label, call) \
	({ \
		errno = 0; \
		__typeof__(call) p_ = (call); \
		say_ptr(label, p_); \
		p_; \
	})

static void say_flags(const char *label, FILE *f)
{
	o_say(label, "%s%s", feof(f) ? "eof " : "", ferror(f) ? "error" : "");
}

/* Both sides of a scenario whose other side only looks on: send text, read what comes. */
static void send_text(int fd, const char *text)
{
	if (o_send_all(fd, text, strlen(text)) != (ssize_t)strlen(text))
		o_fail("send");
}

/* Read to the end of file and record it. */
static void drain(const char *label, int fd)
{
	static char buf[2 * BIG];
	ssize_t n = o_recv_all(fd, buf, sizeof(buf));

	if (n > 200)
		o_say(label, "%zd bytes", n);
	else
		o_bytes(label, buf, n);
}

/* --- lines ------------------------------------------------------------------------------------ */

static void lines_server(void)
{
	int fd = o_connected(0), dupped = dup(fd);
	FILE *in = P("fdopen to read", fdopen(fd, "r"));
	FILE *out = P("fdopen to write", fdopen(dupped, "w"));
	char buf[100], word[20], *line = NULL;
	size_t cap = 0;
	int a = 0;

	o_bool("fileno", fileno(in) == fd && fileno(out) == dupped && fileno_unlocked(in) == fd);
	P("fgets", fgets(buf, sizeof(buf), in));
	o_bytes("first line", buf, strlen(buf));
	O("fprintf", fprintf(out, "got %s", buf));
	O("fflush", fflush(out));
	O("getline", getline(&line, &cap, in));
	o_bytes("second line", line, strlen(line));
	O("fscanf", fscanf(in, "%19s %d", word, &a));
	o_say("scanned", "%s %d", word, a);
	O("getc", getc(in));
	O("ungetc", ungetc('Q', in));
	O("fgetc of it", fgetc(in));
	O("getc_unlocked", getc_unlocked(in));
	O("fread", fread(buf, 1, 5, in));
	o_bytes("read", buf, 5);
	O("fputs", fputs("line 2\n", out));
	O("putc", putc('x', out));
	O("fwrite", fwrite("yz\n", 1, 3, out));
	O("fclose to write", fclose(out));
	O("getc at the end", getc(in));
	say_flags("flags at the end", in);
	O("getc once more", getc(in));
	clearerr(in);
	say_flags("flags cleared", in);
	O("fclose to read", fclose(in));
	O("close after fclose", close(fd));
	free(line);
}

static void lines_client(void)
{
	int fd = o_connected(0);
	FILE *f = P("fdopen to do both", fdopen(fd, "r+"));
	char buf[100];

	O("setvbuf", setvbuf(f, NULL, _IOLBF, 0));
	O("fputs", fputs("hello\n", f));
	P("fgets", fgets(buf, sizeof(buf), f));
	o_bytes("answer", buf, strlen(buf));
	O("puts of three lines", fputs("second\nword 42 \nAbcdef", f));
	O("fflush", fflush(f));
	O("shutdown", shutdown(fileno(f), SHUT_WR));
	P("fgets", fgets(buf, sizeof(buf), f));
	o_bytes("next", buf, strlen(buf));
	P("fgets", fgets(buf, sizeof(buf), f));
	o_bytes("last", buf, strlen(buf));
	P("fgets at the end", fgets(buf, sizeof(buf), f));
	say_flags("flags", f);
	O("fclose", fclose(f));
}
SCENARIO(stream_lines, "fdopen(): lines and words in both directions", O_BOTH, lines_server,
	 lines_client)

/* --- buffers ---------------------------------------------------------------------------------- */

static void buffers_server(void)
{
	int fd = o_connected(0), n = 0;
	FILE *f = P("fdopen", fdopen(fd, "r+"));
	char buf[64];

	/* what is read ahead */
	o_wait_bytes(fd, 5000);
	O("fgetc", fgetc(f));
	O("FIONREAD", ioctl(fd, FIONREAD, &n));
	o_say("left in the socket", "%d", n);
	o_say("size of the buffer", "%zu", __fbufsize(f));
	for (int i = 1; i < 5000; i++)
		if (fgetc(f) != 'a')
			o_fail("content");
	O("unbuffered", setvbuf(f, NULL, _IONBF, 0));
	o_sync();
	o_wait_bytes(fd, 10);
	O("fgetc unbuffered", fgetc(f));
	O("FIONREAD unbuffered", ioctl(fd, FIONREAD, &n));
	o_say("left unbuffered", "%d", n);
	O("fread of the rest", fread(buf, 1, 9, f));
	O("fputs unbuffered", fputs("now", f));
	o_sync();
	O("line buffer", setvbuf(f, buf, _IOLBF, sizeof(buf)));
	O("fputs of a part", fputs("wait", f));
	o_sync();
	o_sync();
	O("fputc of the end", fputc('\n', f));
	O("full buffer", setvbuf(f, buf, _IOFBF, sizeof(buf)));
	O("fputs into it", fputs("later\n", f));
	o_say("pending", "%zu", __fpending(f));
	O("fflush", fflush(f));
	O("fputs before fclose", fputs("last\n", f));
	o_say("pending before fclose", "%zu", __fpending(f));
	o_sync();
	O("fclose", fclose(f));
}

static void buffers_client(void)
{
	int fd = o_connected(0);
	char a[5000], buf[64];

	memset(a, 'a', sizeof(a));
	o_send_all(fd, a, sizeof(a));
	o_sync();
	send_text(fd, "0123456789");
	o_bytes("unbuffered", buf, o_recv_all(fd, buf, 3));
	o_sync();
	o_sync();
	o_bool("nothing before the line's end", nothing_there(fd));
	o_sync();
	o_bytes("line buffered", buf, o_recv_all(fd, buf, 5));
	o_bytes("fully buffered", buf, o_recv_all(fd, buf, 6));
	o_sync();
	drain("by fclose", fd);
	close(fd);
}
SCENARIO(stream_buffers, "setvbuf(): when a stream reads and writes, and how much", O_BOTH,
	 buffers_server, buffers_client)

static void bulk_server(void)
{
	int fd = o_connected(0);
	FILE *f = fdopen(fd, "r");
	static char buf[BIG];
	unsigned sum = 0;

	O("fread", fread(buf, 10, BIG / 10, f));
	for (int i = 0; i < BIG; i++)
		sum = sum * 31 + (unsigned char)buf[i];
	o_say("sum", "%u", sum);
	O("fread at the end", fread(buf, 1, 1, f));
	say_flags("flags", f);
	O("fclose", fclose(f));
}

static void bulk_client(void)
{
	int fd = o_connected(0);
	FILE *f = fdopen(fd, "w");
	static char buf[BIG];

	for (int i = 0; i < BIG; i++)
		buf[i] = (char)(i * 7 + i / 256);
	O("fwrite", fwrite(buf, 1, BIG / 2 + 11, f));
	for (int i = BIG / 2 + 11; i < BIG; i++)
		if (putc_unlocked(buf[i], f) == EOF)
			o_fail("putc");
	O("fclose", fclose(f));
}
SCENARIO(stream_bulk, "fread() and fwrite() of 100 KB", O_BOTH, bulk_server, bulk_client)

/* --- errors ------------------------------------------------------------------------------------- */

static void errors_server(void)
{
	int fd = o_connected(0);
	struct timeval tv = {.tv_usec = 200000};
	uint64_t start;
	FILE *f = fdopen(fd, "r");
	char buf[64] = "";

	P("fdopen without a mode", fdopen(fd, "q"));
	O("fputc to read only", fputc('x', f));
	say_flags("flags", f);
	clearerr(f);
	o_nonblock(fd, true);
	P("fgets with nothing there", fgets(buf, sizeof(buf), f));
	say_flags("flags of EAGAIN", f);
	clearerr(f);
	o_sync();
	o_wait_bytes(fd, 4);
	P("fgets of half a line", fgets(buf, sizeof(buf), f));
	o_errno("its error", errno);
	o_bytes("the half", buf, strlen(buf));
	clearerr(f);
	o_nonblock(fd, false);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	start = o_now();
	O("fgetc with a time-out", fgetc(f));
	o_errno("error of the time-out", errno);
	o_time("time-out", start, 200);
	clearerr(f);
	O("fseek", fseek(f, 0, SEEK_SET));
	O("ftell", ftell(f));
	o_sync();
	o_wait(fd, POLLERR | POLLHUP);
	O("fgetc after a reset", fgetc(f));
	say_flags("flags after a reset", f);
	clearerr(f);
	O("fgetc after the error", fgetc(f));
	say_flags("flags then", f);
	O("fclose", fclose(f));
	O("number after fclose", fcntl(fd, F_GETFD));
}

static void errors_client(void)
{
	int fd = o_connected(0), twin = dup(fd);
	FILE *f = fdopen(twin, "w");

	O("fgetc from write only", fgetc(f));
	say_flags("flags", f);
	O("fclose", fclose(f));
	o_sync();
	send_text(fd, "half");
	o_sync();
	o_reset_close(fd);
}
SCENARIO(stream_errors, "a stream's errors: wrong direction, EAGAIN, time-out, reset, no seeking",
	 O_BOTH, errors_server, errors_client)

static void broken_server(void)
{
	int fd = o_connected(0), n;
	struct sigaction ign = {.sa_handler = SIG_IGN}, old;
	FILE *f = fdopen(fd, "w");

	sigaction(SIGPIPE, &ign, &old);
	o_wait(fd, POLLHUP);
	O("fputs into the buffer", fputs("nobody reads this", f));
	O("fflush after a reset", fflush(f));
	say_flags("flags", f);
	n = (int)__fpending(f);
	o_say("still pending", "%d", n);
	O("fflush again", fflush(f));
	O("fclose", fclose(f));
	o_errno("its error", errno);
	O("number after fclose", fcntl(fd, F_GETFD));
	sigaction(SIGPIPE, &old, NULL);
}

static void broken_client(void)
{
	o_reset_close(o_connected(0));
}
SCENARIO(stream_broken, "a stream that can't be flushed any more", O_BOTH, broken_server,
	 broken_client)

static void numbers_server(void)
{
	int fd = o_connected(0), twin = dup(fd), spare;
	FILE *f = fdopen(fd, "w"), *g;

	O("fputs", fputs("through ", f));
	O("close under the stream", close(fd));
	O("fflush without a number", fflush(f));
	O("dup2 brings it back", dup2(twin, fd) == fd);
	O("fputs again", fputs("again", f));
	O("fflush then", fflush(f));
	g = P("a second stream", fdopen(twin, "w"));
	O("fputs on it", fputs(", and again", g));
	O("fclose of the first", fclose(f));
	O("fclose of the second", fclose(g));
	spare = open("/dev/null", O_RDWR);
	o_bool("the number is free", spare == fd);
	close(spare);
}

static void numbers_client(void)
{
	int fd = o_connected(0);

	drain("all", fd);
	close(fd);
}
SCENARIO(stream_numbers, "a stream is a number: close(), dup2() and a second stream under it", O_BOTH,
	 numbers_server, numbers_client)

static void modes_server(void)
{
	static const char *const modes[] = {"r", "w", "a", "r+", "w+", "a+", "rb", "r+b", "rb+", "wbe",
					    "wex+", "rm", "", "x", "+r"};
	int fd = o_connected(0);
	char label[40];

	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		int twin = dup(fd);
		FILE *f;

		snprintf(label, sizeof(label), "mode %s", modes[i]);
		f = P(label, fdopen(twin, modes[i]));
		if (!f) {
			close(twin);
			continue;
		}
		snprintf(label, sizeof(label), "mode %s does", modes[i]);
		o_say(label, "%s%s%s%s%s", __freadable(f) ? "read " : "", __fwritable(f) ? "write " : "",
		      fcntl(twin, F_GETFL) & O_APPEND ? "append " : "",
		      fcntl(twin, F_GETFD) & FD_CLOEXEC ? "cloexec " : "", __flbf(f) ? "lines" : "");
		if (__fwritable(f))
			fprintf(f, "<%s>", modes[i]);
		fclose(f);
	}
	O("close", close(fd));
	P("fdopen of a closed number", fdopen(fd, "r"));
}

static void modes_client(void)
{
	int fd = o_connected(0);

	drain("all", fd);
	close(fd);
}
SCENARIO(stream_modes, "the modes of fdopen()", O_BOTH, modes_server, modes_client)

/* --- more -------------------------------------------------------------------------------------- */

static void freopen_server(void)
{
	int fd = o_connected(0);
	FILE *f = fdopen(fd, "w"), *g;
	char buf[64];

	O("fputs", fputs("before", f));
	g = P("freopen", freopen("/proc/version", "r", f));
	o_bool("the same stream and number", g == f && fileno(g) == fd);
	o_sync();
	P("fgets from the file", fgets(buf, sizeof(buf), g));
	o_bytes("it is", buf, 6);
	g = P("freopen again", freopen("/proc/version", "r", g));
	O("wide now", fwide(g, 1) > 0);
	O("getwc from the file", (long)getwc(g));
	O("fclose", fclose(g));
	fd = o_connected(1);
	f = fdopen(fd, "r+");
	O("fputs", fputs("more", f));
	P("freopen of nothing", freopen("/nowhere/at/all", "r", f));
	O("number then", fcntl(fd, F_GETFD));
	o_sync();
	fd = o_connected(2);
	f = fdopen(fd, "r+");
	P("freopen of itself", freopen(NULL, "w", f));
	O("number then (itself)", fcntl(fd, F_GETFD));
}

static void freopen_client(void)
{
	int fd = o_connected(0);

	drain("until freopen", fd);
	o_sync();
	close(fd);
	fd = o_connected(1);
	drain("until it failed", fd);
	o_sync();
	close(fd);
	fd = o_connected(2);
	drain("until it failed (itself)", fd);
	close(fd);
}
SCENARIO(stream_freopen, "freopen() closes the socket and keeps its number", O_BOTH, freopen_server,
	 freopen_client)

static void dprintf_server(void)
{
	static char big[9001];
	int fd = o_connected(0);
	struct sigaction ign = {.sa_handler = SIG_IGN}, old;

	memset(big, 'b', sizeof(big) - 1);
	O("dprintf", dprintf(fd, "%d %s\n", 42, "words"));
	O("dprintf of much", dprintf(fd, "%s", big));
	O("shutdown", shutdown(fd, SHUT_WR));
	sigaction(SIGPIPE, &ign, &old);
	O("dprintf after it", dprintf(fd, "x"));
	sigaction(SIGPIPE, &old, NULL);
	O("close", close(fd));
	O("dprintf after close", dprintf(fd, "x"));
}

static void dprintf_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	o_bytes("line", buf, o_recv_all(fd, buf, 9));
	drain("rest", fd);
	close(fd);
}
SCENARIO(stream_dprintf, "dprintf()", O_BOTH, dprintf_server, dprintf_client)

static void wide_server(void)
{
	int fd = o_connected(0);
	FILE *f = fdopen(fd, "r+");
	wchar_t buf[64];

	setlocale(LC_CTYPE, "C.UTF-8");
	O("orientation at first", fwide(f, 0));
	O("made wide", fwide(f, 1));
	P("fgetws", fgetws(buf, 64, f));
	O("fputws", fputws(L"\u20ac \u00e4\n", f));
	O("fclose", fclose(f));
	fd = o_connected(1);
	f = fdopen(fd, "r+");
	O("fgetc makes it narrow", fgetc(f));
	O("wide then", fwide(f, 1));
	O("fclose (narrow)", fclose(f));
	setlocale(LC_CTYPE, "C");
}

static void wide_client(void)
{
	int fd = o_connected(0);

	send_text(fd, "h\303\244llo\n");
	drain("bytes", fd);
	close(fd);
	fd = o_connected(1);
	send_text(fd, "a");
	drain("nothing more", fd);
	close(fd);
}
SCENARIO(stream_wide, "wide characters on a stream", O_BOTH, wide_server, wide_client)

static void udp_server(void)
{
	int fd = o_udp_connected(0, 1);
	FILE *f = fdopen(fd, "r+");
	char buf[200], small[1000];

	o_sync();
	P("fgets of a datagram", fgets(buf, sizeof(buf), f));
	o_bytes("it", buf, strlen(buf));
	O("fprintf", fprintf(f, "answer %d", 1));
	O("fflush", fflush(f));
	setvbuf(f, small, _IOFBF, sizeof(small));
	O("fprintf of much", fprintf(f, "%01400d", 2));
	O("fflush of it", fflush(f));
	O("dprintf", dprintf(fd, "%01200d", 3));
	o_sync();
	O("fclose", fclose(f));
}

static void udp_client(void)
{
	int fd = o_udp_connected(1, 0);
	char buf[8000];

	o_sync();
	O("send", send(fd, "one line\n", 9, 0));
	O("recv", recv(fd, buf, sizeof(buf), 0));
	for (int i = 0; i < 3; i++) {
		char label[20];

		snprintf(label, sizeof(label), "datagram %d", i);
		O(label, recv(fd, buf, sizeof(buf), 0));
	}
	o_sync();
	close(fd);
}
SCENARIO(stream_udp, "a stream over a connected UDP socket: a datagram is what one write has", O_BOTH,
	 udp_server, udp_client)

/* A stream that is there before the socket is anything. */
static void early_server(void)
{
	int lst = o_listener(0), fd;

	o_sync();
	fd = accept(lst, NULL, NULL);
	send_text(fd, "welcome\n");
	drain("request", fd);
	close(fd);
	close(lst);
}

static void early_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);
	struct sigaction ign = {.sa_handler = SIG_IGN}, old;
	FILE *f = P("fdopen before connect", fdopen(fd, "r+"));
	char buf[64];

	sigaction(SIGPIPE, &ign, &old);
	O("fgetc before connect", fgetc(f));
	o_errno("its error", errno);
	clearerr(f);
	o_sync();
	O("connect", connect(fd, (void *)&a, len));
	P("fgets", fgets(buf, sizeof(buf), f));
	o_bytes("line", buf, strlen(buf));
	O("fputs", fputs("thanks", f));
	O("fclose", fclose(f));
	sigaction(SIGPIPE, &old, NULL);
}
SCENARIO(stream_before_connect, "fdopen() before connect()", O_BOTH, early_server, early_client)

/* --- stdin and stdout ------------------------------------------------------------------------- */

static void std_streams(void *arg)
{
	int fd = o_connected(0);
	char buf[64];

	O("dup2 to 0", dup2(fd, 0));
	O("dup2 to 1", dup2(fd, 1));
	O("close of the first number", close(fd));
	P("fgets of stdin", fgets(buf, sizeof(buf), stdin));
	o_bytes("line", buf, strlen(buf));
	O("getchar", getchar());
	O("printf", printf("you said %s", buf));
	O("fflush", fflush(stdout));
	O("send by number", send(1, "sent\n", 5, 0));
	O("recv by number", recv(0, buf, 1, MSG_PEEK | MSG_DONTWAIT));
	O("puts", puts("bye"));
	exit(0);
}

static void by_number(void *arg)
{
	int lst = o_listener(1), fd;
	char buf[64];

	close(0);
	o_sync();
	fd = (int)O("accept", accept(lst, NULL, NULL));
	P("fgets of stdin after accept", fgets(buf, sizeof(buf), stdin));
	o_bytes("line after accept", buf, strlen(buf));
	O("write", write(fd, "ok\n", 3));
	exit(0);
}

static void run_shell(void *arg)
{
	int fd = o_connected(2);

	dup2(fd, 0);
	dup2(fd, 1);
	close(fd);
	execl("/bin/sh", "sh", "-c", "read a; echo \"got $a\"; exec cat", NULL);
}

static void std_server(void)
{
	o_fork("streams", std_streams, NULL);
	o_fork("accepted as 0", by_number, NULL);
	o_fork("shell", run_shell, NULL);
}

static int reached(int port_index)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(port_index));
	int fd = socket(o_family, SOCK_STREAM, 0);

	if (connect(fd, (void *)&a, len))
		o_fail("connect");
	return fd;
}

static void std_client(void)
{
	int fd = o_connected(0);

	send_text(fd, "one\ntwo\n");
	drain("from stdout", fd);
	close(fd);
	o_sync();
	fd = reached(1);
	send_text(fd, "line\n");
	drain("from 0", fd);
	close(fd);
	fd = o_connected(2);
	send_text(fd, "first\nsecond\nthird\n");
	shutdown(fd, SHUT_WR);
	drain("from the shell", fd);
	close(fd);
}
SCENARIO(std_streams, "a connection as stdin and stdout, for libc and for a shell", O_BOTH, std_server,
	 std_client)

/* The other way round: the client's side has it. */
static void std_connect(void *arg)
{
	char buf[64];
	int fd;

	close(0);
	o_sync();
	fd = reached(0);
	o_say("number", "%d", fd);
	P("fgets of stdin", fgets(buf, sizeof(buf), stdin));
	o_bytes("line", buf, strlen(buf));
	O("close", close(0));
}

static void std_connect_server(void)
{
	int lst = o_listener(0), fd;

	o_sync();
	fd = accept(lst, NULL, NULL);
	send_text(fd, "hello\n");
	drain("at the end", fd);
	close(fd);
	close(lst);
}

static void std_connect_client(void)
{
	o_fork("process", std_connect, NULL);
}
SCENARIO(std_connect, "connect() of descriptor 0", O_BOTH, std_connect_server, std_connect_client)

/* --- the end of a process ------------------------------------------------------------------------ */

static void leave_exit(void *arg)
{
	FILE *f = fdopen(o_connected(0), "w");

	fputs("flushed by exit", f);
	exit(3);
}

static void leave_return(void *arg)
{
	FILE *f = fdopen(o_connected(1), "w");

	fputs("lost by _exit", f);
	_exit(4);
}

static void exit_server(void)
{
	o_fork("exit", leave_exit, NULL);
	o_fork("_exit", leave_return, NULL);
}

static void exit_client(void)
{
	int fd = o_connected(0);

	drain("exit", fd);
	close(fd);
	fd = o_connected(1);
	drain("_exit", fd);
	close(fd);
}
SCENARIO(stream_exit, "exit() flushes streams, _exit() does not", O_BOTH, exit_server, exit_client)
