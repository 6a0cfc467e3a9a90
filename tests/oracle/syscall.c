/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/syscall.c - sockets by number, by libc's other names, and by its rarer functions */
#include "oracle.h"

#include <aio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define KERNEL_SIGSET 8 /* bytes of a signal set as the kernel has it */

static const struct timespec moment = { .tv_nsec = 20000000 };

/* --- the whole life of a connection -------------------------------------------------------------- */

static int raw_socket(int type)
{
	return (int)O_OK("socket", syscall(SYS_socket, o_family, type, 0));
}

static void raw_names(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	O("getsockname", syscall(SYS_getsockname, fd, &a, &len));
	o_addr("own name", &a, len);
	len = sizeof(a);
	O("getpeername", syscall(SYS_getpeername, fd, &a, &len));
	o_addr("peer's name", &a, len);
}

/* All the ways to receive; the peer sends "0123456789" for each, one at a time. */
static void raw_receive(int fd)
{
	char buf[64] = "", more[4] = "";
	struct iovec iov[2] = { { buf, 6 }, { more, 4 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct mmsghdr vec[2] = { { .msg_hdr = msg }, { .msg_hdr = msg } };

	for (int way = 0; way < 5; way++) {
		o_sync();
		o_wait_bytes(fd, 10);
		switch (way) {
		case 0:
			O("read", syscall(SYS_read, fd, buf, 10));
			break;
		case 1:
			O("recvfrom, peek", syscall(SYS_recvfrom, fd, buf, 4, MSG_PEEK, NULL, NULL));
			O("recvfrom", syscall(SYS_recvfrom, fd, buf, sizeof(buf), MSG_DONTWAIT, NULL, NULL));
			break;
		case 2:
			O("readv", syscall(SYS_readv, fd, iov, 2));
			break;
		case 3:
			O("recvmsg", syscall(SYS_recvmsg, fd, &msg, 0));
			break;
		case 4:
			O("recvmmsg", syscall(SYS_recvmmsg, fd, vec, 2, MSG_WAITFORONE, NULL));
			O("its length", vec[0].msg_len);
			break;
		}
		o_sync();
	}
	o_bytes("the last", more, 4);
	O("nothing left", syscall(SYS_recvfrom, fd, buf, 1, MSG_DONTWAIT, NULL, NULL));
}

/* The peer may look, and has taken all of it. */
static void next(void)
{
	o_sync();
	o_sync();
}

static void raw_send(int fd)
{
	struct iovec iov[2] = { { (char *)"012345", 6 }, { (char *)"6789", 4 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct mmsghdr vec = { .msg_hdr = msg };

	O("write", syscall(SYS_write, fd, "0123456789", 10));
	next();
	O("sendto", syscall(SYS_sendto, fd, "0123456789", 10, MSG_NOSIGNAL, NULL, 0));
	next();
	O("writev", syscall(SYS_writev, fd, iov, 2));
	next();
	O("sendmsg", syscall(SYS_sendmsg, fd, &msg, 0));
	next();
	O("sendmmsg", syscall(SYS_sendmmsg, fd, &vec, 1, 0));
	O("its length", vec.msg_len);
	next();
}

static void raw_control(int fd)
{
	int v = 0, dup;
	socklen_t len = sizeof(v);

	O("getsockopt", syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &v, &len));
	O("type", v);
	O("F_SETFL", syscall(SYS_fcntl, fd, F_SETFL, O_NONBLOCK));
	O("would block", syscall(SYS_read, fd, &v, 1));
	O("F_GETFL", syscall(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK);
	v = 0;
	O("FIONBIO", syscall(SYS_ioctl, fd, FIONBIO, &v));
	O("FIONREAD", syscall(SYS_ioctl, fd, FIONREAD, &v));
	O("bytes", v);
	dup = (int)O_OK("dup", syscall(SYS_dup, fd));
	O("name of the duplicate", syscall(SYS_getpeername, dup, &(struct sockaddr_storage){ 0 },
					   &(socklen_t){ sizeof(struct sockaddr_storage) }));
	O("dup3 onto it", syscall(SYS_dup3, fd, dup, O_CLOEXEC) == dup);
	O("dup3 onto itself", syscall(SYS_dup3, fd, fd, 0));
	O("close the duplicate", syscall(SYS_close, dup));
	O("close it again", syscall(SYS_close, dup));
	dup = (int)O_OK("F_DUPFD_CLOEXEC", syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 100));
	O("close that", syscall(SYS_close, dup));
}

static void raw_tcp_server(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int lst = raw_socket(SOCK_STREAM | SOCK_CLOEXEC), fd;
	char c;

	O("SO_REUSEADDR", syscall(SYS_setsockopt, lst, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	O("bind", syscall(SYS_bind, lst, &a, len));
	O("listen", syscall(SYS_listen, lst, 8));
	o_sync();
	len = sizeof(a);
	fd = (int)O_OK("accept", syscall(SYS_accept4, lst, &a, &len, SOCK_CLOEXEC));
	o_addr("accepted from", &a, len);
	raw_names(fd);
	raw_control(fd);
	o_sync();
	raw_receive(fd);
	raw_send(fd);
	O("end of file", syscall(SYS_read, fd, &c, 1));
	O("close", syscall(SYS_close, fd));
	O("read after close", syscall(SYS_read, fd, &c, 1));
	O("close the listener", syscall(SYS_close, lst));
}

static void raw_tcp_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd;

	o_sync();
	fd = raw_socket(SOCK_STREAM);
	O("connect", syscall(SYS_connect, fd, &a, len));
	O("connect again", syscall(SYS_connect, fd, &a, len));
	raw_names(fd);
	o_sync();
	raw_send(fd);
	raw_receive(fd);
	O("shutdown", syscall(SYS_shutdown, fd, SHUT_WR));
	O("write after it", syscall(SYS_sendto, fd, "x", 1, MSG_NOSIGNAL, NULL, 0));
	O("close", syscall(SYS_close, fd));
}
SCENARIO(raw_tcp, "syscall(2): a TCP connection by system call numbers alone", O_BOTH, raw_tcp_server,
	 raw_tcp_client)

static void raw_udp(void)
{
	int self = o_is_server() ? 0 : 1, fd = raw_socket(SOCK_DGRAM);
	struct sockaddr_storage a;
	socklen_t len;
	char buf[64];
	struct iovec iov = { buf, sizeof(buf) };
	struct mmsghdr vec[2] = { { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } },
				  { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } } };

	len = self ? o_client_addr(&a, o_port(1)) : o_server_addr(&a, o_port(0));
	O("bind", syscall(SYS_bind, fd, &a, len));
	len = self ? o_server_addr(&a, o_port(0)) : o_client_addr(&a, o_port(1));
	o_sync();
	O("sendto", syscall(SYS_sendto, fd, "datagram", 8, 0, &a, len));
	O("sendto a short address", syscall(SYS_sendto, fd, "datagram", 8, 0, &a, 4));
	o_events("arrived", o_wait(fd, POLLIN));
	len = sizeof(a);
	O("recvfrom", syscall(SYS_recvfrom, fd, buf, 4, MSG_TRUNC, &a, &len));
	o_addr("from", &a, len);
	O("recvmmsg of nothing", syscall(SYS_recvmmsg, fd, vec, 2, MSG_DONTWAIT, NULL));
	O("read of nothing", syscall(SYS_recvfrom, fd, buf, 4, MSG_DONTWAIT, NULL, NULL));
	O("close", syscall(SYS_close, fd));
}
SCENARIO(raw_udp, "syscall(2): datagrams by system call numbers", O_BOTH, raw_udp, raw_udp)

/* --- waiting -------------------------------------------------------------------------------------- */

static void raw_epoll(int fd)
{
	int ep = (int)O_OK("epoll_create1", syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 7 }, out = { 0 };
	sigset_t none;

	sigemptyset(&none);
	O("epoll_create1, unknown flags", syscall(SYS_epoll_create1, 1));
	O("epoll_ctl", syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &ev));
	O("epoll_ctl again", syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &ev));
	O("epoll_pwait, no mask", syscall(SYS_epoll_pwait, ep, &out, 1, -1, NULL, 0));
	o_events("events", out.events);
	O("data", out.data.u64);
	O("epoll_pwait, mask", syscall(SYS_epoll_pwait, ep, &out, 1, -1, &none, KERNEL_SIGSET));
	O("epoll_pwait, libc's mask size", syscall(SYS_epoll_pwait, ep, &out, 1, -1, &none, sizeof(none)));
	O("epoll_pwait2", syscall(SYS_epoll_pwait2, ep, &out, 1, &moment, &none, KERNEL_SIGSET));
	O("epoll_pwait2, libc's mask size",
	  syscall(SYS_epoll_pwait2, ep, &out, 1, &moment, &none, sizeof(none)));
	O("epoll_pwait, no room", syscall(SYS_epoll_pwait, ep, &out, 0, -1, NULL, 0));
#ifdef SYS_epoll_wait
	O("epoll_wait", syscall(SYS_epoll_wait, ep, &out, 1, -1));
#endif
#ifdef SYS_epoll_create
	O("epoll_create of nothing", syscall(SYS_epoll_create, 0));
#endif
	O("delete", syscall(SYS_epoll_ctl, ep, EPOLL_CTL_DEL, fd, NULL));
	O("epoll_pwait, time runs out", syscall(SYS_epoll_pwait, ep, &out, 1, 10, NULL, 0));
	O("close the set", syscall(SYS_close, ep));
}

static void raw_ppoll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec t = { .tv_sec = 100 };
	sigset_t none;

	sigemptyset(&none);
	O("ppoll", syscall(SYS_ppoll, &p, 1, &t, &none, KERNEL_SIGSET));
	o_events("ppoll events", (unsigned)p.revents);
	o_bool("time is left", t.tv_sec == 99 && t.tv_nsec > 0);
	O("ppoll, libc's mask size", syscall(SYS_ppoll, &p, 1, &t, &none, sizeof(none)));
	p.events = POLLPRI;
	t = moment;
	O("ppoll, time runs out", syscall(SYS_ppoll, &p, 1, &t, NULL, 0));
	O("seconds left", t.tv_sec);
	O("nanoseconds left", t.tv_nsec);
	t.tv_nsec = 1000000000;
	O("ppoll, no such time", syscall(SYS_ppoll, &p, 1, &t, NULL, 0));
	O("time unchanged", t.tv_nsec);
#ifdef SYS_poll
	p.events = POLLOUT;
	O("poll", syscall(SYS_poll, &p, 1, -1));
	o_events("poll events", (unsigned)p.revents);
#endif
}

static void raw_pselect(int fd)
{
	struct timespec t = { .tv_sec = 100 };
	sigset_t none;
	struct { const sigset_t *mask; size_t size; } arg = { &none, KERNEL_SIGSET };
	fd_set in;

	sigemptyset(&none);
	FD_ZERO(&in);
	FD_SET(fd, &in);
	O("pselect6", syscall(SYS_pselect6, fd + 1, &in, NULL, NULL, &t, &arg));
	o_bool("in the set", FD_ISSET(fd, &in));
	o_bool("pselect6: time is left", t.tv_sec == 99 && t.tv_nsec > 0);
	arg.size = sizeof(none);
	O("pselect6, libc's mask size", syscall(SYS_pselect6, fd + 1, &in, NULL, NULL, &t, &arg));
	arg.mask = NULL;
	O("pselect6, no mask in it", syscall(SYS_pselect6, fd + 1, &in, NULL, NULL, &t, &arg));
	t = moment;
	O("pselect6, time runs out", syscall(SYS_pselect6, fd + 1, NULL, NULL, &in, &t, NULL));
	O("pselect6: nanoseconds left", t.tv_nsec);
	o_bool("no longer in the set", FD_ISSET(fd, &in));
#ifdef SYS_select
	FD_SET(fd, &in);
	O("select", syscall(SYS_select, fd + 1, NULL, &in, NULL, NULL));
#endif
}

static void raw_wait(void)
{
	int fd = o_connected(0);
	char buf[8];

	O("send", send(fd, "ready", 5, 0));
	o_wait(fd, POLLIN);
	raw_epoll(fd);
	raw_ppoll(fd);
	raw_pselect(fd);
	O("recv", o_recv_all(fd, buf, 5));
	O("close", close(fd));
}
SCENARIO(raw_wait, "syscall(2): epoll_pwait, ppoll and pselect6 as the kernel has them: mask sizes, time left",
	 O_BOTH, raw_wait, raw_wait)

static void raw_epoll_server(void)
{
	int lst = o_listener(0), ep = (int)O_OK("epoll_create1", syscall(SYS_epoll_create1, 0)), fd;
	struct epoll_event ev = { .events = EPOLLIN };

	O("watch the listener", syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, lst, &ev));
	o_sync();
	O("a connection", syscall(SYS_epoll_pwait, ep, &ev, 1, 5000, NULL, 0));
#ifdef SYS_accept
	fd = (int)O_OK("accept", syscall(SYS_accept, lst, NULL, NULL));
#else
	fd = (int)O_OK("accept", syscall(SYS_accept4, lst, NULL, NULL, 0));
#endif
	O("close_range over all of it", syscall(SYS_close_range, (unsigned)lst, (unsigned)fd, 0));
	O("the listener is closed", syscall(SYS_listen, lst, 1));
	O("the set is closed", syscall(SYS_epoll_pwait, ep, &ev, 1, 0, NULL, 0));
	O("the connection is closed", syscall(SYS_write, fd, "x", 1));
}

static void raw_epoll_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = socket(o_family, SOCK_STREAM, 0);
	char c;

	o_sync();
	O("connect", connect(fd, (void *)&a, len));
	O("end of file", recv(fd, &c, 1, 0));
	O("close", close(fd));
}
SCENARIO(raw_close_range, "syscall(2): close_range over a listener, an epoll set and a connection", O_BOTH,
	 raw_epoll_server, raw_epoll_client)

/* --- processes ---------------------------------------------------------------------------------------- */

/* The child, which libc knows nothing of, uses the connection and ends. */
static void raw_fork_with(const char *label, long (*fork_by)(void), int fd)
{
	int status;
	long pid = fork_by();

	if (pid == 0) {
		syscall(SYS_sendto, fd, "child", 5, 0, NULL, 0);
		syscall(SYS_close, fd);
		syscall(SYS_exit_group, 7);
	}
	o_bool(label, pid > 0);
	waitpid((pid_t)pid, &status, 0);
	o_status("the child's end", status);
}

static long by_clone(void)
{
	return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static long by_clone3(void)
{
	struct { uint64_t flags, pidfd, child, parent, signal, stack, size, tls; } a = { .signal = SIGCHLD };

	return syscall(SYS_clone3, &a, sizeof(a));
}

static void raw_fork_server(void)
{
	int fd = o_connected(0);

	raw_fork_with("clone", by_clone, fd);
	O("the parent goes on", send(fd, "parent", 6, 0));
	O("close", close(fd));
}

static void raw_fork3_server(void)
{
	int fd = o_connected(0);

	raw_fork_with("clone3", by_clone3, fd);
	O("the parent goes on", send(fd, "parent", 6, 0));
	O("close", close(fd));
}

static void raw_fork_client(void)
{
	int fd = o_connected(0);
	char buf[16];

	o_bytes("from both", buf, O("recv all", o_recv_all(fd, buf, 11)));
	O("end of file", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(raw_clone, "syscall(2): a fork by clone, whose child uses the connection", O_BOTH,
	 raw_fork_server, raw_fork_client)
SCENARIO(raw_clone3, "syscall(2): a fork by clone3, whose child uses the connection", O_BOTH,
	 raw_fork3_server, raw_fork_client)

static void handler(int sig)
{
	(void)sig;
}

/* rt_sigaction without SA_RESTART: a blocked call ends. */
static void raw_signal_child(void *arg)
{
	struct { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; } sa;
	struct sigaction with_restorer;
	char c;

	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = handler }, NULL);
	/* the restorer is libc's own: taken from what it installed */
	syscall(SYS_rt_sigaction, SIGALRM, NULL, &sa, KERNEL_SIGSET);
	signal(SIGALRM, SIG_DFL);
	O("rt_sigaction", syscall(SYS_rt_sigaction, SIGALRM, &sa, NULL, KERNEL_SIGSET));
	sigaction(SIGALRM, NULL, &with_restorer);
	o_bool("installed", with_restorer.sa_handler == handler);
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 20000 }, { 0, 20000 } }, NULL);
	O("read", syscall(SYS_read, *(int *)arg, &c, 1));
	_exit(0);
}

static void raw_signal(void)
{
	int fd = o_connected(0);

	o_fork("child", raw_signal_child, &fd);
	o_sync();
	O("close", close(fd));
}
SCENARIO(raw_signal, "syscall(2): a handler installed by number interrupts a call", O_BOTH, raw_signal,
	 raw_signal)

/* --- rarer calls ---------------------------------------------------------------------------------------- */

static void offsets(int fd)
{
	char buf[8];
	struct iovec iov = { buf, sizeof(buf) }, many[2000] = { { buf, 1 } };

	O("preadv2, nothing there", preadv2(fd, &iov, 1, -1, RWF_NOWAIT));
	O("preadv2 at an offset", preadv2(fd, &iov, 1, 0, 0));
	O("preadv2 at a negative one", preadv2(fd, &iov, 1, -2, 0));
	O("preadv2, unknown flags", preadv2(fd, &iov, 1, -1, 0x40000000));
	O("preadv2, too many", preadv2(fd, many, 2000, -1, 0));
	O("pwritev2 at an offset", pwritev2(fd, &iov, 1, 4, 0));
	O("preadv", preadv(fd, &iov, 1, 0));
	O("pwritev", pwritev(fd, &iov, 1, 0));
	O("pread", pread(fd, buf, 1, 0));
	O("pwrite", pwrite(fd, buf, 1, 0));
	O("lseek", lseek(fd, 0, SEEK_CUR));
}

static void rw2(void)
{
	int fd = o_connected(0);
	char buf[8] = "12345678";
	struct iovec iov[2] = { { buf, 4 }, { buf + 4, 4 } };

	offsets(fd);
	o_sync();
	O("pwritev2", pwritev2(fd, iov, 2, -1, 0));
	o_wait_bytes(fd, 8);
	memset(buf, 0, sizeof(buf));
	O("preadv2", preadv2(fd, iov, 2, -1, RWF_NOWAIT));
	o_bytes("received", buf, 8);
	o_sync();
	O("SYS_pwritev2", syscall(SYS_pwritev2, fd, iov, 2, -1L, 0L, RWF_NOWAIT));
	o_wait_bytes(fd, 8);
	O("SYS_preadv2", syscall(SYS_preadv2, fd, iov, 2, -1L, 0L, 0));
	O("SYS_preadv2 at an offset", syscall(SYS_preadv2, fd, iov, 2, 3L, 0L, 0));
	O("close", close(fd));
}
SCENARIO(rw2, "preadv2, pwritev2 and their kin on a socket", O_BOTH, rw2, rw2)

static void moved_server(void)
{
	int fd = o_connected(0), pipes[2], file = memfd_create("oracle", MFD_CLOEXEC);
	char buf[32];
	off_t off = 2;

	O_OK("pipe", syscall(SYS_pipe2, pipes, O_CLOEXEC));
	O("fill the file", write(file, "0123456789", 10));
	O("sendfile", syscall(SYS_sendfile, fd, file, &off, 4L));
	O("offset", off);
	O("fill the pipe", write(pipes[1], "abcdef", 6));
	O("splice from the pipe", syscall(SYS_splice, pipes[0], NULL, fd, NULL, 6L, 0));
	O("splice to the pipe", syscall(SYS_splice, fd, NULL, pipes[1], NULL, 5L, 0));
	o_bytes("spliced", buf, read(pipes[0], buf, sizeof(buf)));
	O("tee", tee(fd, pipes[1], 4, 0));
	O("vmsplice", vmsplice(fd, &(struct iovec){ buf, 4 }, 1, 0));
	O("copy_file_range", copy_file_range(file, NULL, fd, NULL, 4, 0));
	o_sync();
	O("sendfile to the pipe", syscall(SYS_sendfile, pipes[1], fd, NULL, 64L));
	o_bytes("sent there", buf, read(pipes[0], buf, sizeof(buf)));
	O("sendfile to the file", syscall(SYS_sendfile, file, fd, NULL, 4L));
	O("sendfile with an offset", syscall(SYS_sendfile, pipes[1], fd, &off, 4L));
	O("close", close(fd) | close(file) | close(pipes[0]) | close(pipes[1]));
}

static void moved_client(void)
{
	int fd = o_connected(0);
	char buf[32];

	o_bytes("received", buf, O("recv all", o_recv_all(fd, buf, 10)));
	O("send", send(fd, "hello", 5, 0));
	o_sync();
	O("send more", send(fd, "more", 4, 0));
	O("end of file", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(raw_move, "syscall(2): sendfile and splice; what moves data otherwise, on a socket", O_BOTH, moved_server,
	 moved_client)

/* --- POSIX AIO ------------------------------------------------------------------------------------------- */

static void aio_end(const char *label, struct aiocb *cb)
{
	const struct aiocb *list[] = { cb };
	struct timespec t = { 5, 0 };

	while (aio_error(cb) == EINPROGRESS && !aio_suspend(list, 1, &t))
		;
	if (aio_error(cb) == EINPROGRESS)
		o_say(label, "in progress");
	else if (aio_error(cb))
		o_errno(label, aio_error(cb));
	else
		o_say(label, "%zd", aio_return(cb));
}

static void aio_on(const char *name, int fd)
{
	char in[8] = "", out[8] = "abcdefg", more[8] = "hijklmn", label[40];
	struct aiocb get = { .aio_fildes = fd, .aio_buf = in, .aio_nbytes = 4, .aio_lio_opcode = LIO_READ };
	struct aiocb put = { .aio_fildes = fd, .aio_buf = out, .aio_nbytes = 4, .aio_lio_opcode = LIO_WRITE };
	struct aiocb next = { .aio_fildes = fd, .aio_buf = more, .aio_nbytes = 4, .aio_lio_opcode = LIO_WRITE };
	struct aiocb *list[] = { NULL, &next };

	snprintf(label, sizeof(label), "%s: aio_write", name);
	O(label, aio_write(&put));
	snprintf(label, sizeof(label), "%s: written", name);
	aio_end(label, &put);
	snprintf(label, sizeof(label), "%s: lio_listio", name);
	O(label, lio_listio(LIO_WAIT, list, 2, NULL));
	snprintf(label, sizeof(label), "%s: aio_read", name);
	O(label, aio_read(&get));
	snprintf(label, sizeof(label), "%s: read", name);
	aio_end(label, &get);
	snprintf(label, sizeof(label), "%s: bytes", name);
	o_bytes(label, in, 4);
	o_wait_bytes(fd, 4);
	snprintf(label, sizeof(label), "%s: recv", name);
	O(label, recv(fd, in, 4, 0));
	o_sync();
}

static void aio(void)
{
	int fd = o_connected(0);

	aio_on("tcp", fd);
	O("close", close(fd));
	fd = o_udp_connected(1, 1);
	o_poll(fd, POLLIN);
	o_sync();
	aio_on("udp", fd);
	O("close udp", close(fd));
}
SCENARIO(posix_aio, "POSIX AIO: aio_read(), aio_write(), lio_listio()", O_BOTH, aio, aio)

static void port_of(const char *label, int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int port;

	getsockname(fd, (void *)&a, &len);
	port = ntohs(((struct sockaddr_in *)&a)->sin_port);
	o_bool(label, port >= 512 && port < 1024);
}

static void reserved_port(void)
{
	int fd = (int)O_OK("socket", socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in a = { .sin_family = AF_INET };

	O("bindresvport", bindresvport(fd, NULL));
	port_of("a reserved port", fd);
	O("bindresvport again", bindresvport(fd, &a));
	O("listen", listen(fd, 1));
	O("close", close(fd));
}
SCENARIO(reserved_port, "bindresvport", O_V4, reserved_port, reserved_port)

/* --- libc's other names -------------------------------------------------------------------------------- */

ssize_t __read(int fd, void *buf, size_t n);
ssize_t __write(int fd, const void *buf, size_t n);
ssize_t __send(int fd, const void *buf, size_t n, int flags);
ssize_t __recv(int fd, void *buf, size_t n, int flags);
int __connect(int fd, const struct sockaddr *addr, socklen_t len);
int __close(int fd);
int __dup2(int fd, int to);
int __fcntl(int fd, int cmd, ...);
int __poll(struct pollfd *fds, nfds_t n, int timeout);
int __select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t);
ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *addr,
		       socklen_t *len);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask, size_t room);

static void other_names(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timeval t = { 5, 0 };
	fd_set in;
	int dup = (int)O_OK("F_DUPFD", __fcntl(fd, F_DUPFD, 50));
	char buf[16];

	FD_ZERO(&in);
	FD_SET(fd, &in);
	O("__write", __write(fd, "abc", 3));
	O("__send", __send(fd, "def", 3, 0));
	O("__poll", __poll(&p, 1, -1));
	O("__poll_chk", __poll_chk(&p, 1, -1, sizeof(p)));
	O("__ppoll_chk", __ppoll_chk(&p, 1, NULL, NULL, sizeof(p)));
	O("__select", __select(fd + 1, &in, NULL, NULL, &t));
	o_wait_bytes(fd, 6);
	O("__read", __read(fd, buf, 1));
	O("__recv", __recv(fd, buf, 1, 0));
	O("__read_chk", __read_chk(fd, buf, 1, sizeof(buf)));
	O("__recv_chk", __recv_chk(fd, buf, 1, sizeof(buf), 0));
	O("__recvfrom_chk", __recvfrom_chk(fd, buf, 2, sizeof(buf), 0, NULL, NULL));
	O("nothing left", __recv(fd, buf, 1, MSG_DONTWAIT));
	o_sync();
	o_bool("__dup2", __dup2(fd, dup) == dup);
	O("__close", __close(dup));
	O("__read after it", __read(dup, buf, 1));
}

static void names_server(void)
{
	int fd = o_connected(0);

	other_names(fd);
	O("close", __close(fd));
}

static void names_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(1));
	int fd = o_connected(0), other = socket(o_family, SOCK_STREAM, 0);

	other_names(fd);
	O("close", __close(fd));
	O("__connect to nobody", __connect(other, (void *)&a, len));
	O("close the other", __close(other));
}
SCENARIO(other_names, "libc's second names of the calls, and the checked ones of fortified programs", O_BOTH,
	 names_server, names_client)

static void too_small(void *arg)
{
	char buf[4];

	close(STDERR_FILENO); /* libc says so there */
	__recv_chk(*(int *)arg, buf, 8, sizeof(buf), MSG_DONTWAIT);
}

static void eight_bytes(void)
{
	int fd = o_connected(0);
	eventfd_t v = 0;

	o_fork("a buffer too small", too_small, &fd);
	O("eventfd_write", eventfd_write(fd, 0x0102030405060708));
	o_wait_bytes(fd, 8);
	O("eventfd_read", eventfd_read(fd, &v));
	o_bool("the value", v == 0x0102030405060708);
	O("close", close(fd));
}
SCENARIO(odd_calls, "calls that are meant for other things, on a socket", O_BOTH, eight_bytes, eight_bytes)

/* --- what is not about sockets passes through ------------------------------------------------------------ */

static void through(void)
{
	char *p = (char *)syscall(SYS_mmap, NULL, 4096L, (long)(PROT_READ | PROT_WRITE),
				  (long)(MAP_PRIVATE | MAP_ANONYMOUS), -1L, 0L);
	int word = 1, pipes[2];

	o_bool("six arguments", p != MAP_FAILED && (p[4095] = 1));
	O("munmap", syscall(SYS_munmap, p, 4096L));
	o_bool("getpid", syscall(SYS_getpid) == getpid());
	O("futex, another value", syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0));
	O("no such number", syscall(-1L));
	O("no such number, large", syscall(100000L));
	O("socket of another family", syscall(SYS_socket, 9999, SOCK_STREAM, 0));
	O("read of no descriptor", syscall(SYS_read, -1, &word, 1L));
	O("close of no descriptor", syscall(SYS_close, -1));
	O_OK("pipe2", syscall(SYS_pipe2, pipes, O_NONBLOCK));
	O("write to the pipe", syscall(SYS_write, pipes[1], "x", 1L));
	O("FIONREAD of the pipe", syscall(SYS_ioctl, pipes[0], FIONREAD, &word));
	O("read from the pipe", syscall(SYS_read, pipes[0], &word, 1L));
	O("ppoll of the pipe", syscall(SYS_ppoll, &(struct pollfd){ .fd = pipes[0], .events = POLLIN }, 1,
				       &(struct timespec){ 0, 0 }, NULL, 0));
	O("send to the pipe", syscall(SYS_sendto, pipes[1], "x", 1L, 0, NULL, 0));
	O("accept on the pipe", syscall(SYS_accept4, pipes[0], NULL, NULL, 0));
	O("close both", syscall(SYS_close_range, (unsigned)pipes[0], (unsigned)pipes[1], 0));
	O("close_range, wrong order", syscall(SYS_close_range, 5u, 4u, 0));
}
SCENARIO(through, "syscall(2): what concerns no socket passes through", O_V4, through, NULL)
