/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/oracle.c - plays the scenarios of one group on one side
 *
 *	oracle --list
 *	oracle server|client GROUP 4|6 PLAY CHANNEL S4 S6 C4 C6 IFNAME [SCENARIO]
 *	oracle --child NAME ARGS...
 *
 * The sides talk through the unix socket CHANNEL; the server's side makes it. Lines on standard
 * output: "S scenario" begins one, "R scenario.label<TAB>text" records, "E scenario" ends one,
 * "F text" says why the play broke off. PLAY (0..3) chooses the range of ports, so that what one
 * play leaves behind (TIME_WAIT) is not in the next one's way.
 */
#include "oracle.h"
#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <sys/un.h>

/* Out of the way of scenarios that count descriptors or play with 0 to 2. */
#define CHANNEL_FD 700
#define OUT_FD 701
#define SCENARIO_FDS 200
#define OWN_FDS 890 /* numbers from here on are the preload library's own */
#define WAIT_MS 5000
#define SYNC_MS 20000
#define PORTS 8
#define FIRST_PORT 10000
#define PLAY_PORTS 5000

int o_family = AF_INET;
static struct {
	bool server;
	const char *s4, *s6, *c4, *c6, *ifname;
	const char *scenario;
	int first_port;
} play;
static struct scenario *scenarios;
static struct o_child *children;

/* --- the list ------------------------------------------------------------------------------------ */

void o_register(struct scenario *s, const char *file)
{
	struct scenario **at = &scenarios;
	const char *base = strrchr(file, '/');
	char *group = strdup(base ? base + 1 : file);

	*strrchr(group, '.') = 0;
	s->group = group;
	while (*at)
		at = &(*at)->next;
	*at = s;
}

void o_register_child(struct o_child *c)
{
	c->next = children;
	children = c;
}

const char *o_self(void)
{
	return "/proc/self/exe";
}

/* --- saying -------------------------------------------------------------------------------------- */

static void line(const char *fmt, ...)
{
	char buf[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(buf) - 2)
		n = sizeof(buf) - 2;
	buf[n++] = '\n';
	if (write(OUT_FD, buf, n) != n)
		_exit(4);
}

void o_fail(const char *fmt, ...)
{
	char buf[512];
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	line("F %s: %s (errno %s)", play.scenario ? play.scenario : "start", buf, strerrorname_np(err));
	_exit(3);
}

void o_say(const char *label, const char *fmt, ...)
{
	char buf[3500];
	int keep = errno;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	line("R %s.%s\t%s", play.scenario, label, buf);
	errno = keep;
}

static const char *ename(int err)
{
	const char *name = err ? strerrorname_np(err) : "0";

	return name ? name : "an unknown errno";
}

long o_ret(const char *label, long r)
{
	if (r == -1)
		o_say(label, "-1 %s", ename(errno));
	else
		o_say(label, "%ld", r);
	return r;
}

long o_ok(const char *label, long r)
{
	if (r < 0)
		return o_ret(label, r);
	o_say(label, "ok");
	return r;
}

void o_bool(const char *label, bool v)
{
	o_say(label, v ? "yes" : "no");
}

void o_errno(const char *label, int err)
{
	o_say(label, "%s", ename(err));
}

void o_bytes(const char *label, const void *p, size_t n)
{
	const unsigned char *b = p;
	char buf[1024];
	size_t len = 0;

	for (size_t i = 0; i < n && len < sizeof(buf) - 20; i++)
		len += snprintf(buf + len, sizeof(buf) - len, isprint(b[i]) && b[i] != '\\' ? "%c" : "\\x%02x",
				b[i]);
	o_say(label, "%zu \"%.*s\"", n, (int)len, buf);
}

void o_events(const char *label, unsigned bits)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {{EPOLLIN, "IN"},          {EPOLLPRI, "PRI"},       {EPOLLOUT, "OUT"},
		     {EPOLLERR, "ERR"},        {EPOLLHUP, "HUP"},       {POLLNVAL, "NVAL"},
		     {EPOLLRDNORM, "RDNORM"},  {EPOLLRDBAND, "RDBAND"}, {EPOLLWRNORM, "WRNORM"},
		     {EPOLLWRBAND, "WRBAND"},  {EPOLLRDHUP, "RDHUP"}};
	char buf[200] = "";
	size_t len = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (bits & names[i].bit) {
			len += snprintf(buf + len, sizeof(buf) - len, "%s%s", len ? "|" : "", names[i].name);
			bits &= ~names[i].bit;
		}
	if (bits || !len)
		snprintf(buf + len, sizeof(buf) - len, "%s%x", len ? "|" : "", bits);
	o_say(label, "%s", buf);
}

static void put_port(char *buf, size_t n, uint16_t port)
{
	int rel = port - play.first_port;

	if (!port)
		snprintf(buf, n, "0");
	else if (rel >= 0 && rel < PORTS)
		snprintf(buf, n, "+%d", rel);
	else if (port >= 32768)
		snprintf(buf, n, "eph");
	else
		snprintf(buf, n, "%u", port);
}

static bool is_addr(int family, const void *addr, const char *text)
{
	unsigned char want[16];

	return inet_pton(family, text, want) == 1 && !memcmp(addr, want, family == AF_INET ? 4 : 16);
}

static const char *host_of(int family, enum o_who who)
{
	bool v4 = family == AF_INET;
	static char absent[INET6_ADDRSTRLEN];

	switch (who) {
	case O_SERVER:
		return v4 ? play.s4 : play.s6;
	case O_CLIENT:
		return v4 ? play.c4 : play.c6;
	case O_ANY:
		return v4 ? "0.0.0.0" : "::";
	case O_LOOPBACK:
		return v4 ? "127.0.0.1" : "::1";
	case O_ABSENT:
		snprintf(absent, sizeof(absent), "%s", v4 ? play.s4 : play.s6);
		strcpy(strrchr(absent, v4 ? '.' : ':') + 1, v4 ? "77" : "4d");
		return absent;
	case O_UNROUTABLE:
		return v4 ? "198.19.255.1" : "2001:db8:ffff::1";
	}
	return "";
}

static void put_host(char *buf, size_t n, int family, const void *addr)
{
	const unsigned char *b = addr;
	bool v4 = family == AF_INET;

	if (!v4 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)addr)) {
		snprintf(buf, n, "mapped ");
		put_host(buf + 7, n - 7, AF_INET, b + 12);
	} else if (is_addr(family, addr, v4 ? play.s4 : play.s6)) {
		snprintf(buf, n, "server");
	} else if (is_addr(family, addr, v4 ? play.c4 : play.c6)) {
		snprintf(buf, n, "client");
	} else if (is_addr(family, addr, v4 ? "0.0.0.0" : "::")) {
		snprintf(buf, n, "any");
	} else if (is_addr(family, addr, host_of(family, O_ABSENT))) {
		snprintf(buf, n, "absent");
	} else if (v4 && b[0] == 198 && b[1] == 18) {
		snprintf(buf, n, "net.%u", b[3]); /* the third byte is another one in every play */
	} else if (!v4 && b[0] == 0xfe && b[1] == 0x80) {
		snprintf(buf, n, "link-local");
	} else {
		inet_ntop(family, addr, buf, n);
	}
}

void o_addr(const char *label, const void *sockaddr, socklen_t len)
{
	const struct sockaddr_in *a4 = sockaddr;
	const struct sockaddr_in6 *a6 = sockaddr;
	char host[80], port[16];

	if (len < sizeof(sa_family_t)) {
		o_say(label, "length %u", len);
		return;
	}
	if (a4->sin_family == AF_INET) {
		put_host(host, sizeof(host), AF_INET, &a4->sin_addr);
		put_port(port, sizeof(port), ntohs(a4->sin_port));
	} else if (a4->sin_family == AF_INET6) {
		put_host(host, sizeof(host), AF_INET6, &a6->sin6_addr);
		put_port(port, sizeof(port), ntohs(a6->sin6_port));
	} else {
		o_say(label, "family %d length %u", a4->sin_family, len);
		return;
	}
	o_say(label, "%s:%s length %u", host, port, len);
}

void o_signal(const char *label, int signo)
{
	const char *name = signo ? sigabbrev_np(signo) : "none";

	o_say(label, "%s%s", signo ? "SIG" : "", name ? name : "?");
}

void o_status(const char *label, int st)
{
	if (WIFEXITED(st))
		o_say(label, "exit %d", WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		o_say(label, "killed by SIG%s", sigabbrev_np(WTERMSIG(st)));
	else
		o_say(label, "status %x", st);
}

uint64_t o_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void o_time(const char *label, uint64_t start_ns, unsigned want_ms)
{
	uint64_t ms = (o_now() - start_ns) / 1000000, slack = want_ms > 400 ? want_ms : 400;

	o_say(label, "%s", ms < want_ms ? "early" : ms <= want_ms + slack ? "on time" : "late");
}

/* --- the play's circumstances --------------------------------------------------------------------- */

bool o_is_server(void)
{
	return play.server;
}

uint16_t o_port(int i)
{
	return play.first_port + i;
}

const char *o_ifname(void)
{
	return play.ifname;
}

socklen_t o_addr_of(struct sockaddr_storage *a, int family, enum o_who who, uint16_t port)
{
	struct sockaddr_in *a4 = (void *)a;
	struct sockaddr_in6 *a6 = (void *)a;

	memset(a, 0, sizeof(*a));
	if (family == AF_INET) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons(port);
		inet_pton(AF_INET, host_of(AF_INET, who), &a4->sin_addr);
		return sizeof(*a4);
	}
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htons(port);
	if (family == O_MAPPED) {
		a6->sin6_addr.s6_addr[10] = a6->sin6_addr.s6_addr[11] = 0xff;
		inet_pton(AF_INET, host_of(AF_INET, who), &a6->sin6_addr.s6_addr[12]);
	} else {
		inet_pton(AF_INET6, host_of(AF_INET6, who), &a6->sin6_addr);
	}
	return sizeof(*a6);
}

socklen_t o_server_addr(struct sockaddr_storage *a, uint16_t port)
{
	return o_addr_of(a, o_family, O_SERVER, port);
}
socklen_t o_client_addr(struct sockaddr_storage *a, uint16_t port)
{
	return o_addr_of(a, o_family, O_CLIENT, port);
}
socklen_t o_any_addr(struct sockaddr_storage *a, uint16_t port)
{
	return o_addr_of(a, o_family, O_ANY, port);
}
socklen_t o_loopback_addr(struct sockaddr_storage *a, uint16_t port)
{
	return o_addr_of(a, o_family, O_LOOPBACK, port);
}
socklen_t o_absent_addr(struct sockaddr_storage *a, uint16_t port)
{
	return o_addr_of(a, o_family, O_ABSENT, port);
}
socklen_t o_unroutable_addr(struct sockaddr_storage *a, uint16_t port)
{
	return o_addr_of(a, o_family, O_UNROUTABLE, port);
}

/* --- the other side -------------------------------------------------------------------------------- */

static void channel_send(const void *p, size_t n)
{
	if (send(CHANNEL_FD, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		o_fail("the other side is gone");
}

static void channel_recv(void *p, size_t n)
{
	struct pollfd fd = {.fd = CHANNEL_FD, .events = POLLIN};
	uint64_t end = o_now() + SYNC_MS * 1000000ull;
	int r;

	do
		r = poll(&fd, 1, (int)((end - o_now()) / 1000000));
	while (r < 0 && errno == EINTR && o_now() < end);
	if (r == 0)
		o_fail("the other side does not come");
	if (recv(CHANNEL_FD, p, n, 0) != (ssize_t)n)
		o_fail("the other side is gone");
}

void o_tell(long v)
{
	channel_send(&v, sizeof(v));
}

long o_hear(void)
{
	long v;

	channel_recv(&v, sizeof(v));
	return v;
}

/* A listener is taken into the stack when its process first waits on it (a master only makes it
 * for its workers), so one that nobody has looked at would be served by the kernel. */
static void wait_on_listeners(void)
{
	struct pollfd p = {.events = POLLIN};

	for (p.fd = 0; p.fd < SCENARIO_FDS; p.fd++) {
		int listens = 0;
		socklen_t len = sizeof(listens);

		if (!getsockopt(p.fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && listens)
			poll(&p, 1, 0);
	}
}

void o_sync(void)
{
	int keep = errno;

	wait_on_listeners();
	o_tell(-4711);
	if (o_hear() != -4711)
		o_fail("the sides are not at the same place");
	errno = keep;
}

static void channel_open(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	uint64_t end = o_now() + SYNC_MS * 1000000ull;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (play.server) {
		int c;

		if (bind(fd, (void *)&a, sizeof(a)) || listen(fd, 1))
			o_fail("%s", path);
		c = accept(fd, NULL, NULL);
		close(fd);
		fd = c;
	} else {
		while (connect(fd, (void *)&a, sizeof(a)) && o_now() < end)
			usleep(5000); /* the server's side has not made it yet */
	}
	if (dup2(fd, CHANNEL_FD) < 0)
		o_fail("dup2");
	close(fd);
}

/* --- doing ------------------------------------------------------------------------------------------ */

static int must(const char *what, long r)
{
	if (r < 0)
		o_fail("%s", what);
	return (int)r;
}

int o_listener(int port_index)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(port_index));
	int fd = must("socket", socket(o_family, SOCK_STREAM, 0)), one = 1;

	must("SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	must("bind", bind(fd, (void *)&a, len));
	must("listen", listen(fd, 64));
	return fd;
}

int o_connected(int port_index)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(port_index));
	int fd, lst;

	if (play.server) {
		lst = o_listener(port_index);
		o_sync();
		fd = must("accept", accept(lst, NULL, NULL));
		close(lst);
	} else {
		o_sync();
		fd = must("socket", socket(o_family, SOCK_STREAM, 0));
		must("connect", connect(fd, (void *)&a, len));
	}
	o_sync();
	return fd;
}

int o_udp(int port_index)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, play.server ? O_SERVER : O_CLIENT, o_port(port_index));
	int fd = must("socket", socket(o_family, SOCK_DGRAM, 0));

	must("bind", bind(fd, (void *)&a, len));
	return fd;
}

int o_udp_connected(int port_index, int other)
{
	struct sockaddr_storage a;
	socklen_t len = o_addr_of(&a, o_family, play.server ? O_CLIENT : O_SERVER, o_port(other));
	int fd = o_udp(port_index);

	must("connect", connect(fd, (void *)&a, len));
	return fd;
}

static unsigned poll_ms(int fd, unsigned events, int ms)
{
	struct pollfd p = {.fd = fd, .events = (short)events};
	uint64_t end = o_now() + ms * 1000000ull;
	int keep = errno, r;

	do
		r = poll(&p, 1, ms);
	while (r < 0 && errno == EINTR && o_now() < end);
	errno = keep;
	return r > 0 ? (unsigned short)p.revents : 0;
}

unsigned o_wait(int fd, unsigned events)
{
	return poll_ms(fd, events, WAIT_MS);
}

unsigned o_poll(int fd, unsigned events)
{
	return poll_ms(fd, events, 0);
}

bool o_until(bool (*cond)(void *arg), void *arg)
{
	uint64_t end = o_now() + WAIT_MS * 1000000ull;
	int keep = errno;
	bool yes;

	while (!(yes = cond(arg)) && o_now() < end)
		usleep(2000);
	errno = keep;
	return yes;
}

struct want {
	int fd, n, got;
};

static bool enough_bytes(void *arg)
{
	struct want *w = arg;

	return !ioctl(w->fd, FIONREAD, &w->got) && w->got >= w->n;
}

int o_wait_bytes(int fd, int n)
{
	struct want w = {.fd = fd, .n = n};

	o_until(enough_bytes, &w);
	return w.got;
}

ssize_t o_recv_all(int fd, void *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = recv(fd, (char *)buf + got, n - got, 0);

		if (r < 0 && errno == EAGAIN && o_wait(fd, POLLIN))
			continue;
		if (r <= 0)
			break;
		got += r;
	}
	return got;
}

ssize_t o_send_all(int fd, const void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = send(fd, (const char *)buf + done, n - done, MSG_NOSIGNAL);

		if (r < 0 && errno == EAGAIN && o_wait(fd, POLLOUT))
			continue;
		if (r < 0)
			break;
		done += r;
	}
	return done;
}

void o_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	must("F_SETFL", fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK));
}

void o_reset_close(int fd)
{
	struct linger l = {.l_onoff = 1};

	must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	close(fd);
}

pid_t o_spawn(void (*fn)(void *arg), void *arg)
{
	pid_t pid = must("fork", fork());

	if (!pid) {
		fn(arg);
		_exit(0);
	}
	return pid;
}

void o_fork(const char *label, void (*fn)(void *arg), void *arg)
{
	pid_t pid = o_spawn(fn, arg);
	int st;

	if (waitpid(pid, &st, 0) != pid)
		o_fail("waitpid");
	o_status(label, st);
}

/* --- the play ---------------------------------------------------------------------------------------- */

/* A side whose program brings the link itself (a DPDK device in the process) can't be reached before. So each
 * sends until both have heard the other. */
static void link_await(void)
{
	uint64_t end = o_now() + SYNC_MS * 1000000ull;
	bool heard = false, told = false;
	long word = -4712;
	char c = 0;
	int fd;

	play.scenario = "the link";
	play.first_port = FIRST_PORT - PORTS;
	fd = o_udp_connected(0, 0);
	while ((!heard || !told) && o_now() < end) {
		send(fd, &c, 1, 0);
		poll_ms(fd, POLLIN, 10);
		/* or "refused": the other side has no socket yet */
		if (recv(fd, &c, 1, MSG_DONTWAIT) == 1 && !heard) {
			heard = true;
			o_tell(word);
		}
		told = told || recv(CHANNEL_FD, &word, sizeof(word), MSG_DONTWAIT) == sizeof(word);
	}
	close(fd);
	if (!heard || !told)
		o_fail("the other side is not heard");
}

/* Those that the program may know of: is[fd]; how many. */
static int open_fds(bool is[OWN_FDS])
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0, fd;

	memset(is, 0, OWN_FDS * sizeof(*is));
	while ((e = readdir(d))) {
		fd = atoi(e->d_name);
		if (!isdigit((unsigned char)e->d_name[0]) || fd >= OWN_FDS || fd == dirfd(d))
			continue;
		is[fd] = true;
		n++;
	}
	closedir(d);
	return n;
}

/* What they are, for whoever looks for the reason. */
static void name_left(const bool before[OWN_FDS], const bool now[OWN_FDS])
{
	char path[32], what[100];
	ssize_t n;

	for (int fd = 0; fd < OWN_FDS; fd++) {
		if (now[fd] <= before[fd])
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, what, sizeof(what));
		fprintf(stderr, "%s leaves %d: %.*s\n", play.scenario, fd, n < 0 ? 0 : (int)n, what);
	}
}

static void play_one(struct scenario *s, int index)
{
	bool before[OWN_FDS], now[OWN_FDS];
	int had = open_fds(before), left;

	play.scenario = s->name;
	play.first_port = FIRST_PORT + index * PORTS;
	line("S %s", s->name);
	o_tell(index);
	if (o_hear() != index)
		o_fail("the sides play different scenarios");
	if (play.server && s->server)
		s->server();
	if (!play.server && s->client)
		s->client();
	left = open_fds(now) - had;
	if (left) {
		o_say("descriptors left", "%d", left);
		name_left(before, now);
	}
	line("E %s", s->name);
}

/* Children that exec this program find the play's circumstances in the environment. */
static void circumstances(char **argv)
{
	static const char *const names[] = {"SIDE", NULL, "FAMILY", "PLAY", NULL, "S4", "S6", "C4", "C6", "IF"};
	char name[32];

	for (int i = 0; i < 10; i++)
		if (names[i]) {
			snprintf(name, sizeof(name), "ORACLE_%s", names[i]);
			if (argv)
				setenv(name, argv[i], 1);
		}
	play.server = !strcmp(getenv("ORACLE_SIDE"), "server");
	o_family = atoi(getenv("ORACLE_FAMILY")) == 6 ? AF_INET6 : AF_INET;
	play.s4 = getenv("ORACLE_S4");
	play.s6 = getenv("ORACLE_S6");
	play.c4 = getenv("ORACLE_C4");
	play.c6 = getenv("ORACLE_C6");
	play.ifname = getenv("ORACLE_IF");
}

static int run_child(int argc, char **argv)
{
	circumstances(NULL);
	play.scenario = getenv("ORACLE_SCENARIO");
	play.first_port = atoi(getenv("ORACLE_PORT"));
	for (struct o_child *c = children; c; c = c->next)
		if (!strcmp(c->name, argv[0]))
			return c->fn(argc, argv);
	o_fail("no child %s", argv[0]);
}

static int list(void)
{
	for (struct scenario *s = scenarios; s; s = s->next)
		printf("%s\t%s\t%u\t%s\n", s->group, s->name, s->families, s->shows);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned family;
	int index;

	if (argc == 2 && !strcmp(argv[1], "--list"))
		return list();
	if (argc > 2 && !strcmp(argv[1], "--child"))
		return run_child(argc - 2, argv + 2);
	if (argc < 11) {
		fprintf(stderr, "usage: see the head of tests/oracle/oracle.c\n");
		return 2;
	}
	if (dup2(1, OUT_FD) < 0)
		return 4;
	circumstances(argv + 1);
	family = o_family == AF_INET ? O_V4 : O_V6;
	channel_open(argv[5]);
	if (getenv("ORACLE_LINK_AWAIT"))
		link_await();
	index = atoi(argv[4]) * PLAY_PORTS / PORTS;
	for (struct scenario *s = scenarios; s; s = s->next)
		if (!strcmp(s->group, argv[2]) && s->families & family) {
			char port[16];

			snprintf(port, sizeof(port), "%d", FIRST_PORT + index * PORTS);
			setenv("ORACLE_SCENARIO", s->name, 1);
			setenv("ORACLE_PORT", port, 1);
			if (argc < 12 || !strcmp(argv[11], s->name))
				play_one(s, index);
			index++;
		}
	o_sync();
	line("end");
	return 0;
}
