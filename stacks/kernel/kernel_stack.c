/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/kernel/kernel_stack.c - the kernel's sockets, as a plug-in stack
 *
 * Under nstack the kernel serves sockets without any plug-in; this one has them served through the same
 * interface as any other stack, beside it: to try a configuration, or the interface itself.
 *
 * Its sockets are kernel sockets with numbers above those that programs use. Events come from an epoll
 * object, edge by edge, that a thread waits on. Everything goes on in forked children, which have a thread
 * and an epoll object of their own.
 *
 * Threads: any; the calls are the kernel's.
 */
#define _GNU_SOURCE
#include <nstack/nstack_dmm_api.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#define HIGH 4096 /* programs take the lowest numbers */

static nstack_event_cb nstack;
static int events = -1; /* the epoll object */

/* --- sockets --------------------------------------------------------------------------------- */

/* To a high number, if the limit of descriptors lets it. */
static int raise_number(int fd)
{
	struct rlimit lim;
	int high;

	if (fd < 0)
		return fd;
	getrlimit(RLIMIT_NOFILE, &lim);
	high = fcntl(fd, F_DUPFD_CLOEXEC, lim.rlim_cur > 2 * HIGH ? HIGH : (int)lim.rlim_cur / 2);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static int kernel_socket(int domain, int type, int protocol)
{
	return raise_number(socket(domain, type | SOCK_CLOEXEC, protocol));
}

static int kernel_accept(int s, struct sockaddr *addr, socklen_t *len)
{
	return raise_number(accept4(s, addr, len, SOCK_CLOEXEC));
}

/* SIGPIPE is nstack's to raise. */
static ssize_t kernel_send(int s, const void *buf, size_t n, int flags)
{
	return send(s, buf, n, flags | MSG_NOSIGNAL);
}

static ssize_t kernel_sendto(int s, const void *buf, size_t n, int flags, const struct sockaddr *addr,
			     socklen_t len)
{
	return sendto(s, buf, n, flags | MSG_NOSIGNAL, addr, len);
}

static ssize_t kernel_sendmsg(int s, const struct msghdr *msg, int flags)
{
	return sendmsg(s, msg, flags | MSG_NOSIGNAL);
}

static int kernel_ioctl(int s, unsigned long req, unsigned long arg)
{
	return ioctl(s, req, arg);
}

static int kernel_fcntl(int s, int cmd, unsigned long arg)
{
	return fcntl(s, cmd, arg);
}

/* --- events ------------------------------------------------------------------------------------ */

static void *report(void *arg)
{
	int epoll = (int)(intptr_t)arg;
	struct epoll_event ev[64];
	int n;

	pthread_setname_np(pthread_self(), "nstack-kernel");
	while ((n = epoll_wait(epoll, ev, 64, -1)) >= 0 || errno == EINTR)
		for (int i = 0; i < n; i++)
			nstack.event_cb(ev[i].data.ptr, (int)ev[i].events);
	return NULL;
}

static int start(void)
{
	sigset_t all, old;
	pthread_t thread;
	int err;

	events = raise_number(epoll_create1(EPOLL_CLOEXEC));
	if (events < 0)
		return -1;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&thread, NULL, report, (void *)(intptr_t)events);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_detach(thread);
	return err ? -1 : 0;
}

/* The parent's epoll object would report to the parent. */
static int start_child(void)
{
	close(events);
	return start();
}

static unsigned look(int s, unsigned want)
{
	struct pollfd p = { .fd = s, .events = (short)want };

	return poll(&p, 1, 0) > 0 ? (unsigned)p.revents & 0xffff : 0;
}

static unsigned kernel_ep_ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	struct epoll_event mine = { .events = EPOLLET, .data.ptr = pdata };
	int how = op == nstack_ep_triggle_add ? EPOLL_CTL_ADD : op == nstack_ep_triggle_mod ? EPOLL_CTL_MOD :
		  EPOLL_CTL_DEL;

	(void)epfd;
	if (ev)
		mine.events |= ev->events & (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP);
	if (epoll_ctl(events, how, s, &mine) < 0)
		return (unsigned)-1;
	return ev ? look(s, ev->events) : 0;
}

static unsigned kernel_ep_getevt(int epfd, int s, unsigned want)
{
	(void)epfd;
	return look(s, want);
}

static int kernel_fd_check(int s, int flag)
{
	return flag == STACK_FD_FUNCALL_CHECK || fcntl(s, F_GETFD) >= 0;
}

static int kernel_peak(int s)
{
	int n;

	return ioctl(s, FIONREAD, &n) < 0 ? -1 : n;
}

int kernel_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int kernel_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	nstack_socket_ops *op = &proc_fun->socket_ops;
	nstack_extern_ops *ext = &proc_fun->extern_ops;

	nstack = *event_ops;
	op->pfsocket = kernel_socket;
	op->pfaccept = kernel_accept;
	op->pfioctl = kernel_ioctl;
	op->pffcntl = kernel_fcntl;
	op->pfbind = bind;
	op->pflisten = listen;
	op->pfshutdown = shutdown;
	op->pfgetsockname = getsockname;
	op->pfgetpeername = getpeername;
	op->pfgetsockopt = getsockopt;
	op->pfsetsockopt = setsockopt;
	op->pfconnect = connect;
	op->pfrecv = recv;
	op->pfsend = kernel_send;
	op->pfread = read;
	op->pfreadv = readv;
	op->pfsendto = kernel_sendto;
	op->pfrecvfrom = recvfrom;
	op->pfsendmsg = kernel_sendmsg;
	op->pfrecvmsg = recvmsg;
	op->pfclose = close;
	ext->module_init = start;
	ext->module_init_child = start_child;
	ext->ep_ctl = kernel_ep_ctl;
	ext->ep_getevt = kernel_ep_getevt;
	ext->stack_fd_check = kernel_fd_check;
	ext->peak = kernel_peak;
	return 0;
}
