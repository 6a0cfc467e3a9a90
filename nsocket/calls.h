/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/calls.h - the one list of intercepted calls
 *
 * Everything that depends on which calls are intercepted comes from here: the structure of real
 * functions (libc.h), their resolution (libc.c), and the check that the export map names exactly
 * these. A wrapper of the same name is defined in one of the files of this folder.
 *
 *	CALL(result, name, (parameters), (arguments))
 *	CALL_NORETURN(name, (parameters), (arguments))
 *
 * fcntl, ioctl, prctl and syscall are variadic in libc; here they take one integer, four or six: on the ABIs that we
 * build for, a variadic function finds its integer arguments where a fixed one does.
 *
 * Further lists: names that libc gives to the same functions, and the system calls that syscall(2)
 * takes to the same wrappers. Each is checked against libc and the kernel's headers by a test
 * (tests/structure/test_calls.py), which also has what is left out on purpose, name by name.
 *
 * dprintf and __dprintf_chk are in it for their names; their wrappers go by vdprintf(). The variadic
 * functions of the exec family collect their arguments and call another one of it.
 *
 * Not in the list, on purpose: fork (pthread_atfork also sees forkpty and the like), getaddrinfo
 * (libc's resolver calls itself inside, so name lookups stay with the kernel), the rest of stdio
 * (stdio.c says how streams come by our read and write).
 */
#ifndef NSOCKET_CALLS_H
#define NSOCKET_CALLS_H

/* The calls that a plug-in stack may supply: those of the DMM manual, in its order. nstack_socket_ops
 * (nstack/dmm_stack.h) is made of this list, so its order is ABI: a new one goes behind the last. */
#define NS_STACK_CALLS(CALL) \
	CALL(int, socket, (int domain, int type, int protocol), (domain, type, protocol)) \
	CALL(int, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len)) \
	CALL(int, listen, (int fd, int backlog), (fd, backlog)) \
	CALL(int, shutdown, (int fd, int how), (fd, how)) \
	CALL(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
	CALL(int, getpeername, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
	CALL(int, getsockopt, (int fd, int level, int name, void *val, socklen_t *len), \
	     (fd, level, name, val, len)) \
	CALL(int, setsockopt, (int fd, int level, int name, const void *val, socklen_t len), \
	     (fd, level, name, val, len)) \
	CALL(int, accept, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len)) \
	CALL(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags), \
	     (fd, addr, len, flags)) \
	CALL(int, connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len)) \
	CALL(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags)) \
	CALL(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags)) \
	CALL(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n)) \
	CALL(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n)) \
	CALL(ssize_t, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n)) \
	CALL(ssize_t, readv, (int fd, const struct iovec *iov, int n), (fd, iov, n)) \
	CALL(ssize_t, sendto, (int fd, const void *buf, size_t n, int flags, \
			       const struct sockaddr *addr, socklen_t len), \
	     (fd, buf, n, flags, addr, len)) \
	CALL(ssize_t, recvfrom, (int fd, void *buf, size_t n, int flags, struct sockaddr *addr, \
				 socklen_t *len), (fd, buf, n, flags, addr, len)) \
	CALL(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags)) \
	CALL(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags)) \
	CALL(int, close, (int fd), (fd)) \
	CALL(int, select, (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout), \
	     (n, r, w, e, timeout)) \
	CALL(int, ioctl, (int fd, unsigned long req, unsigned long arg), (fd, req, arg)) \
	CALL(int, fcntl, (int fd, int cmd, unsigned long arg), (fd, cmd, arg)) \
	CALL(int, epoll_create, (int size), (size)) \
	CALL(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event), \
	     (epfd, op, fd, event)) \
	CALL(int, epoll_wait, (int epfd, struct epoll_event *ev, int n, int timeout), \
	     (epfd, ev, n, timeout))

#define NS_CALLS(CALL, CALL_NORETURN) \
	NS_STACK_CALLS(CALL) \
	/* life of descriptors */ \
	CALL(int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags)) \
	CALL(void, closefrom, (int first), (first)) \
	CALL(int, dup, (int fd), (fd)) \
	CALL(int, dup2, (int fd, int to), (fd, to)) \
	CALL(int, dup3, (int fd, int to, int flags), (fd, to, flags)) \
	CALL(int, fcntl64, (int fd, int cmd, long arg), (fd, cmd, arg)) \
	/* sockets */ \
	CALL(int, bindresvport, (int fd, struct sockaddr_in *addr), (fd, addr)) \
	CALL(int, sockatmark, (int fd), (fd)) \
	/* data */ \
	CALL(int, sendmmsg, (int fd, struct mmsghdr *vec, unsigned n, int flags), \
	     (fd, vec, n, flags)) \
	CALL(int, recvmmsg, (int fd, struct mmsghdr *vec, unsigned n, int flags, \
			     struct timespec *timeout), (fd, vec, n, flags, timeout)) \
	CALL(ssize_t, preadv2, (int fd, const struct iovec *iov, int n, off_t off, int flags), \
	     (fd, iov, n, off, flags)) \
	CALL(ssize_t, preadv64v2, (int fd, const struct iovec *iov, int n, off64_t off, int flags), \
	     (fd, iov, n, off, flags)) \
	CALL(ssize_t, pwritev2, (int fd, const struct iovec *iov, int n, off_t off, int flags), \
	     (fd, iov, n, off, flags)) \
	CALL(ssize_t, pwritev64v2, (int fd, const struct iovec *iov, int n, off64_t off, int flags), \
	     (fd, iov, n, off, flags)) \
	CALL(ssize_t, sendfile, (int out, int in, off_t *off, size_t n), (out, in, off, n)) \
	CALL(ssize_t, sendfile64, (int out, int in, off64_t *off, size_t n), (out, in, off, n)) \
	CALL(ssize_t, splice, (int in, off64_t *off_in, int out, off64_t *off_out, size_t n, \
			       unsigned flags), (in, off_in, out, off_out, n, flags)) \
	CALL(int, eventfd_read, (int fd, eventfd_t *value), (fd, value)) \
	CALL(int, eventfd_write, (int fd, eventfd_t value), (fd, value)) \
	CALL(void, backtrace_symbols_fd, (void *const *frames, int n, int fd), (frames, n, fd)) \
	CALL(ssize_t, __read_chk, (int fd, void *buf, size_t n, size_t room), (fd, buf, n, room)) \
	CALL(ssize_t, __recv_chk, (int fd, void *buf, size_t n, size_t room, int flags), \
	     (fd, buf, n, room, flags)) \
	CALL(ssize_t, __recvfrom_chk, (int fd, void *buf, size_t n, size_t room, int flags, \
				       struct sockaddr *addr, socklen_t *len), \
	     (fd, buf, n, room, flags, addr, len)) \
	/* streams (stdio.c) */ \
	CALL(FILE *, fdopen, (int fd, const char *mode), (fd, mode)) \
	CALL(int, fclose, (FILE *file), (file)) \
	CALL(FILE *, freopen, (const char *path, const char *mode, FILE *file), (path, mode, file)) \
	CALL(FILE *, freopen64, (const char *path, const char *mode, FILE *file), \
	     (path, mode, file)) \
	CALL(int, dprintf, (int fd, const char *format, ...), (fd, format)) \
	CALL(int, vdprintf, (int fd, const char *format, va_list ap), (fd, format, ap)) \
	CALL(int, __dprintf_chk, (int fd, int flag, const char *format, ...), (fd, flag, format)) \
	CALL(int, __vdprintf_chk, (int fd, int flag, const char *format, va_list ap), \
	     (fd, flag, format, ap)) \
	/* done by libc behind the program's back: the socket is made the kernel's before */ \
	CALL(int, aio_read, (struct aiocb *cb), (cb)) \
	CALL(int, aio_write, (struct aiocb *cb), (cb)) \
	CALL(int, lio_listio, (int mode, struct aiocb *const list[], int n, struct sigevent *sig), \
	     (mode, list, n, sig)) \
	CALL(int, aio_read64, (struct aiocb64 *cb), (cb)) \
	CALL(int, aio_write64, (struct aiocb64 *cb), (cb)) \
	CALL(int, lio_listio64, (int mode, struct aiocb64 *const list[], int n, struct sigevent *sig), \
	     (mode, list, n, sig)) \
	/* events (ev_*.c) */ \
	CALL(int, epoll_create1, (int flags), (flags)) \
	CALL(int, epoll_pwait, (int epfd, struct epoll_event *ev, int n, int timeout, \
				const sigset_t *mask), (epfd, ev, n, timeout, mask)) \
	CALL(int, epoll_pwait2, (int epfd, struct epoll_event *ev, int n, \
				 const struct timespec *timeout, const sigset_t *mask), \
	     (epfd, ev, n, timeout, mask)) \
	CALL(int, poll, (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout)) \
	CALL(int, ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *timeout, \
			  const sigset_t *mask), (fds, n, timeout, mask)) \
	CALL(int, __poll_chk, (struct pollfd *fds, nfds_t n, int timeout, size_t room), \
	     (fds, n, timeout, room)) \
	CALL(int, __ppoll_chk, (struct pollfd *fds, nfds_t n, const struct timespec *timeout, \
				const sigset_t *mask, size_t room), \
	     (fds, n, timeout, mask, room)) \
	CALL(int, pselect, (int n, fd_set *r, fd_set *w, fd_set *e, \
			    const struct timespec *timeout, const sigset_t *mask), \
	     (n, r, w, e, timeout, mask)) \
	CALL(long, __fdelt_chk, (long fd), (fd)) \
	/* the kernel by number (syscall.c) */ \
	CALL(long, syscall, (long nr, long a, long b, long c, long d, long e, long f), \
	     (nr, a, b, c, d, e, f)) \
	/* threads and the process */ \
	CALL(int, pthread_cancel, (pthread_t thread), (thread)) \
	CALL(int, prctl, (int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d), \
	     (op, a, b, c, d)) \
	CALL(pid_t, vfork, (void), ()) \
	CALL(int, clone, (int (*fn)(void *), void *stack, int flags, void *arg, ...), \
	     (fn, stack, flags, arg)) \
	CALL(int, daemon, (int nochdir, int noclose), (nochdir, noclose)) \
	CALL(int, execve, (const char *path, char *const argv[], char *const envp[]), \
	     (path, argv, envp)) \
	CALL(int, execv, (const char *path, char *const argv[]), (path, argv)) \
	CALL(int, execvp, (const char *file, char *const argv[]), (file, argv)) \
	CALL(int, execvpe, (const char *file, char *const argv[], char *const envp[]), \
	     (file, argv, envp)) \
	CALL(int, fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp)) \
	CALL(int, execveat, (int dirfd, const char *path, char *const argv[], char *const envp[], \
			     int flags), (dirfd, path, argv, envp, flags)) \
	CALL(int, execl, (const char *path, const char *arg, ...), (path, arg)) \
	CALL(int, execlp, (const char *file, const char *arg, ...), (file, arg)) \
	CALL(int, execle, (const char *path, const char *arg, ...), (path, arg)) \
	CALL(int, posix_spawn, (pid_t *pid, const char *path, \
				const posix_spawn_file_actions_t *actions, \
				const posix_spawnattr_t *attr, char *const argv[], \
				char *const envp[]), (pid, path, actions, attr, argv, envp)) \
	CALL(int, posix_spawnp, (pid_t *pid, const char *file, \
				 const posix_spawn_file_actions_t *actions, \
				 const posix_spawnattr_t *attr, char *const argv[], \
				 char *const envp[]), (pid, file, actions, attr, argv, envp)) \
	CALL(int, posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t *actions, int fd, \
						     int to), (actions, fd, to)) \
	CALL(int, system, (const char *command), (command)) \
	CALL(FILE *, popen, (const char *command, const char *mode), (command, mode)) \
	CALL(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old), \
	     (sig, act, old)) \
	CALL(sighandler_t, signal, (int sig, sighandler_t handler), (sig, handler)) \
	CALL(int, siginterrupt, (int sig, int interrupt), (sig, interrupt)) \
	CALL(int, setuid, (uid_t uid), (uid)) \
	CALL(int, seteuid, (uid_t euid), (euid)) \
	CALL(int, setreuid, (uid_t ruid, uid_t euid), (ruid, euid)) \
	CALL(int, setresuid, (uid_t ruid, uid_t euid, uid_t suid), (ruid, euid, suid)) \
	CALL(int, setgid, (gid_t gid), (gid)) \
	CALL(int, setegid, (gid_t egid), (egid)) \
	CALL(int, setregid, (gid_t rgid, gid_t egid), (rgid, egid)) \
	CALL(int, setresgid, (gid_t rgid, gid_t egid, gid_t sgid), (rgid, egid, sgid)) \
	CALL(int, setgroups, (size_t n, const gid_t *list), (n, list)) \
	CALL(int, initgroups, (const char *user, gid_t group), (user, group)) \
	CALL(int, capset, (cap_user_header_t head, const cap_user_data_t data), (head, data)) \
	CALL_NORETURN(_exit, (int status), (status)) \
	CALL_NORETURN(_Exit, (int status), (status))

/* ALIAS(other name, name): libc exports the same function twice. Defined by NS_ALIAS() beside the
 * wrapper. */
#define NS_ALIASES(ALIAS) \
	ALIAS(__close, close) \
	ALIAS(_IO_fclose, fclose) \
	ALIAS(_IO_fdopen, fdopen) \
	ALIAS(__dup2, dup2) \
	ALIAS(__fcntl, fcntl) \
	ALIAS(__socket, socket) \
	ALIAS(__connect, connect) \
	ALIAS(__send, send) \
	ALIAS(__sendmmsg, sendmmsg) \
	ALIAS(__recv, recv) \
	ALIAS(__read, read) \
	ALIAS(__write, write) \
	ALIAS(__poll, poll) \
	ALIAS(__select, select) \
	ALIAS(__backtrace_symbols_fd, backtrace_symbols_fd) \
	ALIAS(__fdelt_warn, __fdelt_chk) \
	ALIAS(__sigaction, sigaction) \
	ALIAS(ssignal, signal) \
	ALIAS(bsd_signal, signal) \
	ALIAS(_IO_popen, popen) \
	ALIAS(__vfork, vfork) \
	ALIAS(__clone, clone)

/* CALL(name, (parameters), (arguments)): functions of liburing that make a ring (uring.c). All
 * return an int, -errno if they fail. */
struct io_uring;
struct io_uring_params;
#define NS_LIBURING(CALL) \
	CALL(io_uring_setup, (unsigned entries, struct io_uring_params *p), (entries, p)) \
	CALL(io_uring_queue_init, (unsigned entries, struct io_uring *ring, unsigned flags), \
	     (entries, ring, flags)) \
	CALL(io_uring_queue_init_params, (unsigned entries, struct io_uring *ring, \
					  struct io_uring_params *p), (entries, ring, p)) \
	CALL(io_uring_queue_init_mem, (unsigned entries, struct io_uring *ring, \
				       struct io_uring_params *p, void *buf, size_t size), \
	     (entries, ring, p, buf, size))

/* SYSCALL(name, descriptors): a system call whose arguments and results are those of the wrapper of
 * the same name. descriptors: which arguments say whether it concerns us, as bits; 0 = it always
 * does. LEGACY: younger architectures lack it. */
#define NS_SYSCALLS(SYSCALL, LEGACY) \
	SYSCALL(socket, 0) \
	SYSCALL(close, 1) \
	SYSCALL(close_range, 0) \
	SYSCALL(dup, 0) \
	LEGACY(dup2, 0) \
	SYSCALL(dup3, 0) \
	SYSCALL(fcntl, 0) \
	SYSCALL(ioctl, 1) \
	SYSCALL(bind, 1) \
	SYSCALL(listen, 1) \
	SYSCALL(accept, 1) \
	SYSCALL(accept4, 1) \
	SYSCALL(connect, 1) \
	SYSCALL(shutdown, 1) \
	SYSCALL(getsockname, 1) \
	SYSCALL(getpeername, 1) \
	SYSCALL(getsockopt, 1) \
	SYSCALL(setsockopt, 1) \
	SYSCALL(sendto, 1) \
	SYSCALL(sendmsg, 0) \
	SYSCALL(sendmmsg, 0) \
	SYSCALL(recvfrom, 1) \
	SYSCALL(recvmsg, 0) \
	SYSCALL(recvmmsg, 0) \
	SYSCALL(read, 1) \
	SYSCALL(write, 1) \
	SYSCALL(readv, 1) \
	SYSCALL(writev, 1) \
	SYSCALL(sendfile, 3) \
	SYSCALL(splice, 5) \
	LEGACY(epoll_create, 0) \
	SYSCALL(epoll_create1, 0) \
	SYSCALL(epoll_ctl, 5) \
	LEGACY(epoll_wait, 1) \
	LEGACY(select, 0) \
	SYSCALL(prctl, 0) \
	SYSCALL(execve, 0) \
	SYSCALL(execveat, 0) \
	SYSCALL(capset, 0) \
	LEGACY(vfork, 0)

/* SYSCALL(name, descriptors): those that differ from the wrapper of the name, or that have none: each
 * has a function of its own in syscall.c. */
#define NS_SYSCALLS_OWN(SYSCALL, LEGACY) \
	SYSCALL(preadv2, 1) \
	SYSCALL(pwritev2, 1) \
	SYSCALL(epoll_pwait, 1) \
	SYSCALL(epoll_pwait2, 1) \
	LEGACY(poll, 0) \
	SYSCALL(ppoll, 0) \
	SYSCALL(pselect6, 0) \
	SYSCALL(rt_sigaction, 0) \
	LEGACY(fork, 0) \
	SYSCALL(clone, 0) \
	SYSCALL(clone3, 0) \
	SYSCALL(setuid, 0) \
	SYSCALL(setreuid, 0) \
	SYSCALL(setresuid, 0) \
	SYSCALL(io_uring_setup, 0) \
	SYSCALL(seccomp, 0) \
	SYSCALL(exit_group, 0)

#endif
