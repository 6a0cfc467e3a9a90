/* SPDX-License-Identifier: Apache-2.0 */
/* A stack as a reader of the DMM manual would write it, by its section 4.2: every hook that it names, with a
 * reference count and a list of process ids for each socket in memory that forked processes share.
 *
 * What carries the bytes are AF_UNIX sockets, whose abstract names are made of the addresses. Each hook says on
 * stderr that it was called: "hook WHO NAME VALUES", WHO being 0 in the first process and 1 in a forked one.
 */
#define _GNU_SOURCE
#include <nstack/nstack_dmm_api.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/un.h>

#define SOCKS 8192
#define HIGH 4096
#define PIDS 8
#define say(name, ...) dprintf(2, "hook %d " name "\n", getpid() != first, ##__VA_ARGS__)

static struct shared { /* one for each socket; by its number, which fork does not change */
	unsigned refs;
	pid_t pids[PIDS];
} *shared;
static void *pdatas[SOCKS];
static nstack_event_cb to_dmm;
static pid_t first;
static int epoll_fd = -1;
static int hosted; /* deploy type 3, as the environment says */

/* --- references ---------------------------------------------------------------------------------- */

static void pid_add(int s, pid_t pid)
{
	for (int i = 0; i < PIDS; i++)
		if (!shared[s].pids[i]) {
			shared[s].pids[i] = pid;
			return;
		}
}

static unsigned ref_drop(int s, pid_t pid)
{
	for (int i = 0; i < PIDS; i++)
		if (shared[s].pids[i] == pid)
			shared[s].pids[i] = 0;
	return __atomic_sub_fetch(&shared[s].refs, 1, __ATOMIC_SEQ_CST);
}

/* This process's descriptor: in a process of the stack's own it is that of all programs. */
static int shut(int s, unsigned refs)
{
	return hosted && refs ? 0 : close(s);
}

static int begin(int fd)
{
	int s = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	if (fd >= 0)
		close(fd);
	if (s >= SOCKS) {
		close(s);
		errno = EMFILE;
		return -1;
	}
	if (s >= 0) {
		shared[s] = (struct shared){ .refs = 1, .pids = { getpid() } };
		pdatas[s] = NULL;
	}
	return s;
}

/* --- addresses ------------------------------------------------------------------------------------- */

static socklen_t name_of(const struct sockaddr_in *in, struct sockaddr_un *un)
{
	*un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)sprintf(un->sun_path + 1, "stackx-%08x-%04x", in->sin_addr.s_addr, in->sin_port));
}

static int address_of(int r, const struct sockaddr_un *un, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	unsigned ip = 0, port = 0;

	if (r < 0 || !sa)
		return r;
	sscanf(un->sun_path + 1, "stackx-%x-%x", &ip, &port);
	in.sin_addr.s_addr = ip;
	in.sin_port = (in_port_t)port;
	memcpy(sa, &in, *len < sizeof(in) ? *len : sizeof(in));
	*len = sizeof(in);
	return r;
}

static int bind_name(int s, struct sockaddr_in in)
{
	static unsigned next = 40000;
	struct sockaddr_un un;
	int r;

	if (in.sin_port) {
		socklen_t len = name_of(&in, &un);

		return bind(s, (struct sockaddr *)&un, len);
	}
	do {
		in.sin_port = htons((uint16_t)__atomic_add_fetch(&next, 1, __ATOMIC_SEQ_CST));
		r = bind_name(s, in);
	} while (r < 0 && errno == EADDRINUSE);
	return r;
}

/* --- the calls, found by name when the stack registers ------------------------------------------------- */

int stackx_socket(int domain, int type, int protocol)
{
	(void)protocol;
	if (domain != AF_INET || (type & 0xf) != SOCK_STREAM) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	return begin(socket(AF_UNIX, SOCK_STREAM, 0));
}

int stackx_bind(int s, const struct sockaddr *sa, socklen_t len)
{
	(void)len;
	return bind_name(s, *(const struct sockaddr_in *)sa);
}

int stackx_listen(int s, int backlog)
{
	return listen(s, backlog);
}

int stackx_connect(int s, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_un un, mine;
	socklen_t n = sizeof(mine);

	(void)len;
	if (getsockname(s, (struct sockaddr *)&mine, &n) == 0 && n == sizeof(sa_family_t))
		bind_name(s, (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc6124d01) });
	n = name_of((const struct sockaddr_in *)sa, &un);
	return connect(s, (struct sockaddr *)&un, n);
}

int stackx_accept(int s, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_un un = { 0 };
	socklen_t n = sizeof(un);
	int c = begin(accept(s, (struct sockaddr *)&un, &n));

	return address_of(c, &un, sa, len);
}

int stackx_getsockname(int s, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_un un = { 0 };
	socklen_t n = sizeof(un);

	return address_of(getsockname(s, (struct sockaddr *)&un, &n), &un, sa, len);
}

int stackx_getpeername(int s, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_un un = { 0 };
	socklen_t n = sizeof(un);

	return address_of(getpeername(s, (struct sockaddr *)&un, &n), &un, sa, len);
}

ssize_t stackx_send(int s, const void *buf, size_t n, int flags)
{
	return send(s, buf, n, flags | MSG_NOSIGNAL);
}

ssize_t stackx_recv(int s, void *buf, size_t n, int flags)
{
	return recv(s, buf, n, flags);
}

int stackx_shutdown(int s, int how)
{
	return shutdown(s, how);
}

int stackx_getsockopt(int s, int level, int name, void *val, socklen_t *len)
{
	return getsockopt(s, level, name, val, len);
}

int stackx_setsockopt(int s, int level, int name, const void *val, socklen_t len)
{
	return level == SOL_SOCKET ? setsockopt(s, level, name, val, len) : 0;
}

int stackx_fcntl(int s, int cmd, unsigned long arg)
{
	return fcntl(s, cmd, arg);
}

/* "The stack must call the interface to release after releasing its own resources": ep_free_ref. */
int stackx_close(int s)
{
	void *pdata = pdatas[s];
	unsigned refs = ref_drop(s, getpid());
	int r = shut(s, refs);

	say("close %d refs %u freed %d", s, refs, nsep_force_epinfo_free(pdata));
	return r;
}

/* --- events ---------------------------------------------------------------------------------------------- */

static void *report(void *arg)
{
	struct epoll_event ev;
	int mine = epoll_fd, n;

	(void)arg;
	while ((n = epoll_wait(mine, &ev, 1, -1)) >= 0 || errno == EINTR)
		if (n == 1) {
			say("event %x", ev.events);
			to_dmm.event_cb(ev.data.ptr, (int)ev.events);
		}
	return NULL;
}

static int start(void)
{
	sigset_t all, old;
	pthread_t thread;
	int err;

	epoll_fd = fcntl(epoll_create1(0), F_DUPFD_CLOEXEC, HIGH);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&thread, NULL, report, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

static unsigned now(int s, unsigned events)
{
	struct pollfd p = { .fd = s, .events = (short)events };

	return poll(&p, 1, 0) > 0 ? (unsigned)p.revents & (events | EPOLLERR | EPOLLHUP) : 0;
}

static unsigned stackx_ep_ctl(int epFD, int proFD, int ctl_ops, struct epoll_event *event, void *pdata)
{
	static const int ops[] = { EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL };
	struct epoll_event mine = { .events = EPOLLET | (event ? event->events : 0), .data.ptr = pdata };

	say("ep_ctl %d %d %d %x %s", epFD, proFD, ctl_ops, event ? event->events : 0,
	    !pdatas[proFD] ? "new" : pdatas[proFD] == pdata ? "same" : "other");
	pdatas[proFD] = pdata;
	epoll_ctl(epoll_fd, ops[ctl_ops], proFD, &mine);
	return event ? now(proFD, event->events) : 0;
}

static unsigned stackx_ep_getevt(int epFD, int profd, unsigned events)
{
	unsigned r = now(profd, events);

	(void)epFD;
	say("ep_getevt %d %x", profd, r);
	return r;
}

static int stackx_prewait(int epfd)
{
	say("ep_prewait_proc %d", epfd);
	return 0;
}

/* --- processes ---------------------------------------------------------------------------------------------- */

static nsfw_rcc_stat recycle(uint32_t exit_pid, void *pdata, uint16_t rec_type)
{
	(void)exit_pid, (void)pdata, (void)rec_type;
	return NSFW_RCC_CONTINUE;
}

static int stackx_init(void)
{
	first = getpid();
	hosted = getenv("STACKX_HOSTED") != NULL;
	shared = mmap(NULL, SOCKS * sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	say("module_init recycle %d %d", nsfw_recycle_reg_fun(NSFW_REC_TYPE_MAX - 1, recycle),
	    nsfw_recycle_reg_obj(NSFW_REC_PRIO_NORMAL, NSFW_REC_TYPE_MAX - 1, shared));
	return shared == MAP_FAILED ? -1 : start();
}

/* "Child process clones only thread": ours again, on an epoll object that is not the parent's. */
static int stackx_fork_init_child(pid_t p, pid_t c)
{
	say("fork_init_child %d %d", p == first, c == getpid());
	close(epoll_fd);
	memset(pdatas, 0, sizeof(pdatas));
	return start();
}

static void stackx_fork_parent_fd(int s, pid_t p)
{
	say("fork_parent_fd %d %d refs %u", s, p == first, __atomic_add_fetch(&shared[s].refs, 1, __ATOMIC_SEQ_CST));
}

static void stackx_fork_child_fd(int s, pid_t p, pid_t c)
{
	pid_add(s, c);
	say("fork_child_fd %d %d %d", s, p == first, c == getpid());
}

static void stackx_fork_free_fd(int s, pid_t p, pid_t c)
{
	unsigned refs = ref_drop(s, c);

	say("fork_free_fd %d %d %d refs %u", s, p == first, c == getpid(), refs);
	shut(s, refs);
}

static int stackx_fd_check(int s, int flag)
{
	return flag == STACK_FD_INVALID_CHECK && s >= HIGH && s < SOCKS && shared[s].refs;
}

static int stackx_peak(int s)
{
	int n = -1;

	say("peak %d", s);
	return ioctl(s, FIONREAD, &n) < 0 ? -1 : n;
}

int stackx_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int stackx_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	first = getpid();
	/* void * to a pointer of a function, by the way that POSIX gives for dlsym() */
#define NSTACK_MK_DECL(ret, fn, args) *(void **)&proc_fun->socket_ops.pf##fn = dlsym(event_ops->handle, "stackx_" #fn)
#include "declare_syscalls.h"
#undef NSTACK_MK_DECL
	to_dmm = *event_ops;
	proc_fun->extern_ops = (nstack_extern_ops){
		.module_init = stackx_init, .fork_init_child = stackx_fork_init_child,
		.fork_parent_fd = stackx_fork_parent_fd, .fork_child_fd = stackx_fork_child_fd,
		.fork_free_fd = stackx_fork_free_fd, .ep_ctl = stackx_ep_ctl, .ep_getevt = stackx_ep_getevt,
		.ep_prewait_proc = stackx_prewait, .stack_fd_check = stackx_fd_check, .peak = stackx_peak,
	};
	say("register %s", proc_fun->socket_ops.pfsocket == stackx_socket ? "found" : "lost");
	return 0;
}
