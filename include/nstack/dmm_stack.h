/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/dmm_stack.h - what a plug-in stack gives to the framework, and what it gets
 *
 * A plug-in is a shared library with one function that the configuration names (or NAME_stack_register
 * for a stack called NAME). It is called once with two structures: one that the plug-in fills, one that
 * it copies what it needs of. Names are those of the DMM developer manual; where this header says more
 * than the manual does, that is what nstack does.
 *
 * Descriptors: a stack numbers its sockets as it likes (s, proFD below). They are its own matter; the
 * program never sees them: its descriptor is a kernel socket's, as always under nstack.
 *
 * Results: as POSIX has them, -1 and errno. Where EPIPE is to raise SIGPIPE, nstack does that. A member that is NULL:
 *	socket, close      the stack can't be used (socket) or forgets by itself (close)
 *	read, write, recv, send, readv, writev, recvfrom, sendto, accept4
 *	                   done by another one of the family, where one can do it
 *	other calls        the program's call answers EOPNOTSUPP
 *	select, epoll_*    never called for sockets: readiness comes by ep_ctl, ep_getevt and event_cb
 *	fork               never called: forks are told by the hooks
 *
 * Blocking: a stack that has ep_ctl is asked to be non-blocking (fcntl F_SETFL, else ioctl FIONBIO), and
 * nstack waits for the program, by events. If it can't be, its calls may block, and the program's
 * O_NONBLOCK is passed on.
 *
 * Threads: any thread of the program calls, also several at once, even for one socket; a stack that has
 * `run` or `ep_prewait` (run to completion) is called by one thread at a time. What `run` does between two
 * turns of the program's loop is its own: only `ep_prewait` is not called meanwhile.
 *
 * Documents: DMM developer manual, sections 4.2.1 and 8.
 */
#ifndef NSTACK_DMM_STACK_H
#define NSTACK_DMM_STACK_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One member pfNAME for each call in the list; new ones come behind the last. */
typedef struct __nstack_socket_ops {
#undef NSTACK_MK_DECL
#define NSTACK_MK_DECL(ret, fn, args) ret (*pf##fn) args
#include <nstack/dmm/declare_syscalls.h>
#undef NSTACK_MK_DECL
} nstack_socket_ops;

/* stack_fd_check's flag */
typedef enum {
	STACK_FD_INVALID_CHECK, /* is s a socket of this stack, that can be waited for? */
	STACK_FD_FUNCALL_CHECK, /* may descriptors that nobody knows be given to this stack? */
} nstack_fd_check;

/* ep_ctl's ctl_ops */
typedef enum {
	nstack_ep_triggle_add,
	nstack_ep_triggle_mod,
	nstack_ep_triggle_del,
} nstack_ep_triggle_ops_t;

/* Hooks; all may be NULL. p and c: process ids of parent and child. */
typedef struct __nstack_extern_ops {
	/* After all stacks have registered, before the first socket. Not 0: the stack is not used. */
	int (*module_init)(void);
	/* In a forked child, whose only thread is the caller's: threads and devices again. Not 0: the
	 * stack is not used in the child. */
	int (*module_init_child)(void);
	/* In the child, next. NULL (and no module_init_child): the stack can't follow a fork, and its
	 * sockets answer ECONNRESET in the child. */
	int (*fork_init_child)(pid_t p, pid_t c);
	/* In the parent, for each open socket, before it forks: one more reference. */
	void (*fork_parent_fd)(int s, pid_t p);
	/* In the child, for each of these. */
	void (*fork_child_fd)(int s, pid_t p, pid_t c);
	/* In the child, for a socket whose descriptor has FD_CLOEXEC: it was closed; instead of close.
	 * (Until then it is as good as any other: POSIX closes such descriptors at exec, not at fork.) */
	void (*fork_free_fd)(int s, pid_t p, pid_t c);
	/* Begin (add), change (mod) or end (del) to report events of proFD, by event_cb with this pdata.
	 * Keep pdata first, then look, then return what is ready now; (unsigned)-1: error, errno.
	 * epFD: the program's epoll descriptor, -1 where it waits otherwise, and for programs of other
	 * processes (deploy type 3). A socket in several epoll sets is added once, with the events of all.
	 * NULL: its sockets can't be in an epoll set (EPERM), and poll() finds them always ready, as regular
	 * files are. */
	unsigned int (*ep_ctl)(int epFD, int proFD, int ctl_ops, struct epoll_event *event, void *pdata);
	/* Which of these events are true now? Must not block. NULL: those that were reported since the
	 * last call that could not go on. */
	unsigned int (*ep_getevt)(int epFD, int profd, unsigned int events);
	/* Before epoll_wait() sleeps on a set that has sockets of the stack. epfd: as above. */
	int (*ep_prewait_proc)(int epfd);
	/* Does s belong to the stack (flag: nstack_fd_check)? 1 or 0. Asked for what pfsocket and pfaccept
	 * have returned; a stack that says no loses the socket. */
	int (*stack_fd_check)(int s, int flag);
	/* A number for a descriptor of the program. Never needed by nstack, whose numbers are the kernel's. */
	int (*stack_alloc_fd)(void);
	/* Bytes (datagrams: of the next one) that can be read now without waiting, -1: error. */
	int (*peak)(int s);
	/* nstack_run(): call fun, an int (*)(void *), again and again, with the stack's work in between. */
	int (*run)(void *fun);
	/* The stack's work once, without waiting; events are reported meanwhile. */
	int (*ep_prewait)(void);
} nstack_extern_ops;

/* Filled by the plug-in; zero before. */
typedef struct __nstack_proc_cb {
	nstack_socket_ops socket_ops;
	nstack_extern_ops extern_ops;
} nstack_proc_cb;

/* Given to the plug-in; valid during registration only, so it is to be copied. */
typedef struct __nstack_event_cb {
	void *handle; /* of dlopen(); RTLD_DEFAULT if the stack is linked in */
	int type;     /* the stack's number in this process */
	/* Events (EPOLLIN...) have come up on the socket whose pdata that is: those that are new, for each is
	 * an edge to edge-triggered sets. Any thread; must not be called
	 * inside of ep_getevt. 0, or -1: no such pdata. */
	int (*event_cb)(void *pdata, int events);
} nstack_event_cb;

/* 0: registered. */
typedef int (*nstack_stack_register_fn)(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
typedef nstack_stack_register_fn nstack_stack_registe_fn;

/* A plug-in may export a function nstack_plugin_configure: it is called once, before the one that registers, with
 * the stack's name and the "options" of its entry in the configuration, NULL without. Both stay nstack's,
 * and where they are. The same library and function in several entries are several instances, each with variables
 * of its own. */
typedef void (*nstack_plugin_configure_fn)(const char *name, const char *options);

/* How a stack is deployed; the number in configurations ("deploytype"). */
typedef enum {
	NSTACK_MODEL_TYPE1 = 1,    /* in the program's process */
	NSTACK_MODEL_TYPE2 = 2,    /* in another one; how the plug-in talks to it is its own matter */
	NSTACK_MODEL_TYPE3 = 3,    /* in another one, by what nstack offers */
	NSTACK_MODEL_TYPE_SIMPLE_STACK = 4, /* as TYPE1, many programs at once */
	NSTACK_MODEL_INVALID,
} nstack_model_deploy_type;

/* Versions. A plug-in carries the sizes that it was compiled with; one that is older is read by these,
 * and what it does not have is NULL. */
typedef struct nstack_plugin_abi {
	uint32_t version; /* of the meaning of members: NSTACK_PLUGIN_ABI */
	uint32_t socket_ops_size, extern_ops_size; /* bytes */
} nstack_plugin_abi;
#define NSTACK_PLUGIN_ABI 1
#ifndef NSTACK_FRAMEWORK
extern const nstack_plugin_abi nstack_plugin_abi_info __attribute__((weak, visibility("default")));
const nstack_plugin_abi nstack_plugin_abi_info = {
	NSTACK_PLUGIN_ABI, sizeof(nstack_socket_ops), sizeof(nstack_extern_ops)
};
#endif

#ifdef __cplusplus
}
#endif

#endif
