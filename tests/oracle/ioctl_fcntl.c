/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/ioctl_fcntl.c - ioctl(), fcntl(), and what a descriptor is besides a socket */
#include "oracle.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define BAD ((void *)-4096)

/* --- ioctl ---------------------------------------------------------------------------------------- */

static const struct {
	unsigned long req;
	const char *text;
	bool varies; /* the answer is left to chance */
} ints[] = {
	{ FIONREAD, "FIONREAD", false },
	{ TIOCOUTQ, "TIOCOUTQ", true }, /* the peer acknowledges when it likes */
	{ SIOCOUTQNSD, "SIOCOUTQNSD", false },
	{ SIOCATMARK, "SIOCATMARK", false },
	{ FIOGETOWN, "FIOGETOWN", false },
	{ SIOCGPGRP, "SIOCGPGRP", false },
	{ FIONBIO, "FIONBIO", true },
	{ FIOASYNC, "FIOASYNC", true },
	{ FIOCLEX, "FIOCLEX", true },
	{ FIONCLEX, "FIONCLEX", true },
	{ FIOQSIZE, "FIOQSIZE", true },
	{ TIOCGWINSZ, "TIOCGWINSZ", true },
	{ TCGETS, "TCGETS", true },
	{ SIOCGIFCONF, "SIOCGIFCONF", true },
	{ SIOCGIFINDEX, "SIOCGIFINDEX", true },
	{ SIOCGSTAMP, "SIOCGSTAMP", true },
	{ SIOCETHTOOL, "SIOCETHTOOL", true },
	{ SIOCDEVPRIVATE, "SIOCDEVPRIVATE", true },
	{ 0, "0", true },
	{ 1, "1", true },
	{ 0xdeadbeef, "0xdeadbeef", true },
	{ ~0ul, "-1", true },
};

static void ioctls(const char *state, int fd)
{
	union {
		int v;
		char room[256];
	} u;
	char label[96];

	for (size_t i = 0; i < N(ints); i++) {
		memset(&u, 0, sizeof(u));
		snprintf(label, sizeof(label), "%s: %s", state, ints[i].text);
		O(label, ioctl(fd, ints[i].req, &u));
		strcat(label, ": value");
		if (!ints[i].varies)
			o_say(label, "%d", u.v);
		snprintf(label, sizeof(label), "%s: %s, no pointer", state, ints[i].text);
		O(label, ioctl(fd, ints[i].req, NULL));
		snprintf(label, sizeof(label), "%s: %s, bad pointer", state, ints[i].text);
		O(label, ioctl(fd, ints[i].req, BAD));
	}
}

static void ioctl_states(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_any_addr(&a, o_port(2));
	int fd = socket(o_family, SOCK_STREAM, 0);

	ioctls("fresh", fd);
	O("bind", bind(fd, (struct sockaddr *)&a, len));
	O("listen", listen(fd, 3));
	ioctls("listening", fd);
	close(fd);
	fd = o_connected(0);
	ioctls("connected", fd);
	o_sync();
	O("send", send(fd, "12345", 5, 0));
	o_wait_bytes(fd, 5);
	ioctls("5 bytes to read", fd);
	o_sync();
	close(fd);
	fd = socket(o_family, SOCK_DGRAM, 0);
	ioctls("fresh udp", fd);
	close(fd);
	fd = o_udp_connected(1, 1);
	ioctls("udp", fd);
	o_sync();
	O("send udp", send(fd, "123", 3, 0));
	o_wait_bytes(fd, 3);
	ioctls("datagram to read", fd);
	o_sync();
	close(fd);
}
SCENARIO(ioctl_requests, "ioctl(): known and unknown requests in every state, bad pointers", O_BOTH,
	 ioctl_states, ioctl_states)

static void interfaces_of(const char *state, int fd)
{
	struct ifreq r;
	struct ifconf c;
	char buf[1024], label[64];

	memset(&r, 0, sizeof(r));
	strcpy(r.ifr_name, o_ifname());
	snprintf(label, sizeof(label), "%s: SIOCGIFADDR", state);
	O(label, ioctl(fd, SIOCGIFADDR, &r));
	snprintf(label, sizeof(label), "%s: SIOCGIFFLAGS", state);
	O(label, ioctl(fd, SIOCGIFFLAGS, &r));
	strcat(label, ": up");
	o_bool(label, r.ifr_flags & IFF_UP);
	snprintf(label, sizeof(label), "%s: SIOCGIFMTU", state);
	O(label, ioctl(fd, SIOCGIFMTU, &r));
	strcat(label, ": value");
	o_say(label, "%d", r.ifr_mtu);
	strcpy(r.ifr_name, "nodev0");
	snprintf(label, sizeof(label), "%s: SIOCGIFINDEX of none", state);
	O(label, ioctl(fd, SIOCGIFINDEX, &r));
	c.ifc_len = sizeof(buf);
	c.ifc_buf = buf;
	snprintf(label, sizeof(label), "%s: SIOCGIFCONF", state);
	O(label, ioctl(fd, SIOCGIFCONF, &c));
	strcat(label, ": interfaces");
	o_say(label, "%zu", (size_t)c.ifc_len / sizeof(r));
}

static void interfaces(void)
{
	int fd = o_connected(0);

	interfaces_of("tcp", fd);
	o_sync();
	close(fd);
	fd = o_udp_connected(1, 1);
	interfaces_of("udp", fd);
	close(fd);
}
SCENARIO(interface_ioctls, "ioctl() for interfaces on a connection", O_BOTH, interfaces, interfaces)

static void nonblocking(void)
{
	int fd = o_connected(0), on = 1, off = 0, copy;
	char c;

	O("FIONBIO on", ioctl(fd, FIONBIO, &on));
	o_bool("O_NONBLOCK", fcntl(fd, F_GETFL) & O_NONBLOCK);
	O("recv", recv(fd, &c, 1, 0));
	copy = dup(fd);
	O("FIONBIO off, through the copy", ioctl(copy, FIONBIO, &off));
	o_bool("O_NONBLOCK of the first", fcntl(fd, F_GETFL) & O_NONBLOCK);
	O("F_SETFL O_NONBLOCK", fcntl(copy, F_SETFL, O_NONBLOCK));
	O("recv of the first", recv(fd, &c, 1, 0));
	O("F_SETFL 0", fcntl(copy, F_SETFL, 0));
	o_sync();
	O("send", send(fd, "x", 1, 0));
	O("recv waits", recv(fd, &c, 1, 0));
	o_sync();
	close(copy);
	close(fd);
}
SCENARIO(nonblocking_mode, "FIONBIO and O_NONBLOCK belong to all copies of a descriptor", O_BOTH,
	 nonblocking, nonblocking)

/* --- signals -------------------------------------------------------------------------------------- */

/* The next one of `set` within 3 s: its number, 0. */
static int next_signal(const sigset_t *set, siginfo_t *info)
{
	struct timespec wait = { 3, 0 };
	int r;

	do
		r = sigtimedwait(set, info, &wait);
	while (r < 0 && errno == EINTR);
	return r < 0 ? 0 : r;
}

static void sigio_on(int fd, bool by_ioctl, int sig)
{
	int on = 1;

	O("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	o_bool("F_GETOWN", fcntl(fd, F_GETOWN) == getpid());
	if (sig)
		O("F_SETSIG", fcntl(fd, F_SETSIG, sig));
	if (by_ioctl)
		O("FIOASYNC", ioctl(fd, FIOASYNC, &on));
	else
		O("F_SETFL O_ASYNC", fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
	o_bool("O_ASYNC", fcntl(fd, F_GETFL) & O_ASYNC);
}

static void sigio(int type, bool by_ioctl, int sig)
{
	int fd = type == SOCK_STREAM ? o_connected(0) : o_udp_connected(1, 1);
	int want = sig ? sig : SIGIO;
	sigset_t set, old;
	siginfo_t info;
	char buf[8];

	sigemptyset(&set);
	sigaddset(&set, want);
	sigprocmask(SIG_BLOCK, &set, &old);
	o_sync();
	if (o_is_server()) {
		sigio_on(fd, by_ioctl, sig);
		while (sigtimedwait(&set, &info, &(struct timespec){ 0, 0 }) > 0)
			; /* of what went before */
	}
	o_sync();
	if (o_is_server()) {
		o_signal("comes", next_signal(&set, &info));
		if (sig)
			o_bool("names the descriptor", info.si_fd == fd);
		O("recv", recv(fd, buf, sizeof(buf), 0));
		O("off", fcntl(fd, F_SETFL, 0));
	} else {
		O("send", send(fd, "news", 4, 0));
	}
	o_sync();
	close(fd);
	while (sigtimedwait(&set, &info, &(struct timespec){ 0, 0 }) > 0)
		;
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void sigio_tcp(void)
{
	sigio(SOCK_STREAM, true, 0);
}
SCENARIO(sigio_tcp, "FIOASYNC: SIGIO when data come", O_BOTH, sigio_tcp, sigio_tcp)

static void sigio_udp(void)
{
	sigio(SOCK_DGRAM, false, 0);
}
SCENARIO(sigio_udp, "O_ASYNC: SIGIO when a datagram comes", O_BOTH, sigio_udp, sigio_udp)

static void sigio_rt(void)
{
	sigio(SOCK_STREAM, false, SIGRTMIN + 3);
}
SCENARIO(sigio_realtime, "F_SETSIG: a signal that says which descriptor", O_BOTH, sigio_rt, sigio_rt)

/* A listener that tells of connections. */
static void sigio_listener(void)
{
	int fd = o_listener(0), c;
	sigset_t set, old;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, &old);
	sigio_on(fd, true, 0);
	o_sync();
	o_signal("comes", next_signal(&set, &info));
	c = (int)O_OK("accept", accept(fd, NULL, NULL));
	o_bool("O_ASYNC of the accepted", fcntl(c, F_GETFL) & O_ASYNC);
	o_sync();
	close(c);
	close(fd);
	while (sigtimedwait(&set, &info, &(struct timespec){ 0, 0 }) > 0)
		;
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void sigio_listener_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);

	o_sync();
	O("connect", connect(fd, (struct sockaddr *)&a, len));
	o_sync();
	close(fd);
}
SCENARIO(sigio_listener, "SIGIO of a listener when a connection comes", O_BOTH, sigio_listener,
	 sigio_listener_client)

/* --- fcntl ------------------------------------------------------------------------------------------ */

static void fcntls(const char *state, int fd)
{
	static const int dups[] = { 0, 100, 1000, -1, 1 << 28 };
	struct flock lk = { .l_type = F_WRLCK };
	struct f_owner_ex own = { F_OWNER_PID, getpid() }, got;
	char label[96];
	int r;

#define L(text) (snprintf(label, sizeof(label), "%s: %s", state, text), label)
	o_say(L("F_GETFL"), "%x", fcntl(fd, F_GETFL));
	O(L("F_SETFL O_NONBLOCK"), fcntl(fd, F_SETFL, O_NONBLOCK));
	o_say(L("F_GETFL after it"), "%x", fcntl(fd, F_GETFL));
	O(L("F_SETFL O_APPEND O_RDONLY O_CREAT"), fcntl(fd, F_SETFL, O_APPEND | O_RDONLY | O_CREAT));
	o_say(L("F_GETFL after that"), "%x", fcntl(fd, F_GETFL));
	O(L("F_SETFL O_DIRECT"), fcntl(fd, F_SETFL, O_DIRECT));
	O(L("F_SETFL -1"), fcntl(fd, F_SETFL, ~O_ASYNC));
	o_say(L("F_GETFL after -1"), "%x", fcntl(fd, F_GETFL));
	O(L("F_SETFL 0"), fcntl(fd, F_SETFL, 0));
	O(L("F_GETFD"), fcntl(fd, F_GETFD));
	O(L("F_SETFD"), fcntl(fd, F_SETFD, FD_CLOEXEC));
	O(L("F_GETFD after it"), fcntl(fd, F_GETFD));
	for (size_t i = 0; i < N(dups); i++) {
		snprintf(label, sizeof(label), "%s: F_DUPFD %d", state, dups[i]);
		r = (int)(dups[i] > 0 ? O(label, fcntl(fd, F_DUPFD, dups[i])) :
			  O_OK(label, fcntl(fd, F_DUPFD, dups[i])));
		if (r >= 0) {
			strcat(label, ": F_GETFD");
			O(label, fcntl(r, F_GETFD));
			close(r);
		}
	}
	r = (int)O(L("F_DUPFD_CLOEXEC 200"), fcntl(fd, F_DUPFD_CLOEXEC, 200));
	O(L("F_DUPFD_CLOEXEC: F_GETFD"), fcntl(r, F_GETFD));
	close(r);
	O(L("F_GETOWN"), fcntl(fd, F_GETOWN));
	O(L("F_SETOWN_EX"), fcntl(fd, F_SETOWN_EX, &own));
	O(L("F_GETOWN_EX"), fcntl(fd, F_GETOWN_EX, &got));
	o_bool(L("F_GETOWN_EX is it"), got.type == own.type && got.pid == own.pid);
	O(L("F_SETOWN_EX, bad pointer"), fcntl(fd, F_SETOWN_EX, BAD));
	O(L("F_SETOWN 0"), fcntl(fd, F_SETOWN, 0));
	O(L("F_GETSIG"), fcntl(fd, F_GETSIG));
	O(L("F_SETSIG 1000"), fcntl(fd, F_SETSIG, 1000));
	O(L("F_GETLK"), fcntl(fd, F_GETLK, &lk));
	O(L("F_SETLK"), fcntl(fd, F_SETLK, &lk));
	O(L("F_GETPIPE_SZ"), fcntl(fd, F_GETPIPE_SZ));
	O(L("F_SETLEASE"), fcntl(fd, F_SETLEASE, F_RDLCK));
	O(L("F_GET_SEALS"), fcntl(fd, F_GET_SEALS));
	O(L("unknown command"), fcntl(fd, 12345, 0));
	O(L("command -1"), fcntl(fd, -1, 0));
#undef L
}

static void fcntl_states(void)
{
	int fd = socket(o_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	fcntls("fresh", fd);
	close(fd);
	fd = o_connected(0);
	fcntls("connected", fd);
	o_sync();
	close(fd);
	fd = o_udp_connected(1, 1);
	fcntls("udp", fd);
	close(fd);
}
SCENARIO(fcntl_commands, "fcntl(): every command, good and bad arguments", O_BOTH, fcntl_states,
	 fcntl_states)

/* --- calls for files ---------------------------------------------------------------------------------- */

static void files(const char *state, int fd)
{
	struct stat st;
	char label[96], buf[8], path[64], link[64] = "";
	ssize_t n;
	void *p;

#define L(text) (snprintf(label, sizeof(label), "%s: %s", state, text), label)
	O(L("fstat"), fstat(fd, &st));
	o_bool(L("S_ISSOCK"), S_ISSOCK(st.st_mode));
	o_say(L("mode, links, size"), "%o %u %ld", st.st_mode, (unsigned)st.st_nlink, (long)st.st_size);
	O(L("fstatat, empty path"), fstatat(fd, "", &st, AT_EMPTY_PATH));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link) - 1);
	o_bool(L("/proc/self/fd names a socket"), n > 0 && !strncmp(link, "socket:[", 8));
	O(L("open by /proc/self/fd"), open(path, O_RDWR));
	O(L("lseek"), lseek(fd, 0, SEEK_SET));
	O(L("pread"), pread(fd, buf, 1, 0));
	O(L("pwrite"), pwrite(fd, buf, 1, 0));
	O(L("ftruncate"), ftruncate(fd, 0));
	O(L("fsync"), fsync(fd));
	O(L("fdatasync"), fdatasync(fd));
	O(L("fallocate"), fallocate(fd, 0, 0, 1));
	O(L("posix_fadvise"), posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
	O(L("readahead"), readahead(fd, 0, 1));
	O(L("flock"), flock(fd, LOCK_EX));
	O(L("flock off"), flock(fd, LOCK_UN));
	O(L("isatty"), isatty(fd));
	O(L("fchdir"), fchdir(fd));
	O(L("fchmod"), fchmod(fd, 0600));
	O(L("fchmod back"), fchmod(fd, 0777));
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	o_errno(L("mmap"), p == MAP_FAILED ? errno : 0);
#undef L
}

static void file_states(void)
{
	int fd = o_connected(0);

	files("tcp", fd);
	o_sync();
	close(fd);
	fd = o_udp_connected(1, 1);
	files("udp", fd);
	close(fd);
}
SCENARIO(file_calls, "calls for files on a connection: fstat, lseek, mmap, fsync...", O_BOTH,
	 file_states, file_states)
