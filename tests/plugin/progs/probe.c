/* SPDX-License-Identifier: Apache-2.0 */
/* The example stack, telling on stderr when which hook is called; and what it gets from the adapter. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "../../../stacks/loop/loop_stack.c"

#define say(...) dprintf(2, "hook " __VA_ARGS__)

static int forked; /* the sockets are copies, which is good enough for who only closes them */

static nsfw_rcc_stat recycle(uint32_t pid, void *pdata, uint16_t type)
{
	(void)pid, (void)pdata, (void)type;
	return NSFW_RCC_CONTINUE;
}

static int init(void)
{
	say("module_init\n");
	say("recycle %d %d %d\n", nsfw_recycle_reg_fun(NSFW_REC_NSOCKET_END + 1, recycle),
	    nsfw_recycle_reg_obj(NSFW_REC_PRIO_NORMAL, NSFW_REC_NSOCKET_END + 1, socks),
	    nsfw_recycle_obj_end(1));
	return 0;
}

static int init_child(void)
{
	say("module_init_child\n");
	return 0;
}

static int fork_init(pid_t p, pid_t c)
{
	forked = 1;
	say("fork_init_child %d %d\n", p == getppid(), c == getpid());
	return 0;
}

static void parent_fd(int s, pid_t p)
{
	say("fork_parent_fd %d %d\n", s, p == getpid());
}

static void child_fd(int s, pid_t p, pid_t c)
{
	say("fork_child_fd %d %d %d\n", s, p == getppid(), c == getpid());
}

static void free_fd(int s, pid_t p, pid_t c)
{
	say("fork_free_fd %d %d %d\n", s, p == getppid(), c == getpid());
}

static unsigned ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	static void *last;
	unsigned r = loop_ep_ctl(epfd, s, op, ev, pdata);

	say("ep_ctl %d %d %d %x%s\n", epfd, s, op, ev ? ev->events : 0, last == pdata ? " same" : "");
	last = pdata;
	if (op == nstack_ep_triggle_add)
		say("free early %d null %d item %d event %d\n", nsep_force_epinfo_free(pdata),
		    nsep_force_epinfo_free(NULL), nsep_force_epitem_free(pdata), nsep_force_epevent_free(pdata));
	return r;
}

static unsigned getevt(int epfd, int s, unsigned events)
{
	say("ep_getevt %d\n", s);
	return loop_ep_getevt(epfd, s, events);
}

static int prewait(int epfd)
{
	say("ep_prewait_proc %d\n", epfd);
	return 0;
}

static int close_free(int s)
{
	void *pdata = get(s)->pdata;
	int r = loop_close(s), freed = nsep_force_epinfo_free(pdata);

	say("close %d free %d again %d\n", s, freed, nsep_force_epinfo_free(pdata));
	return r;
}

/* ep_ctl(del) comes before close(): the pdata stays known for nsep_force_epinfo_free() */
static unsigned ctl_keep(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	return op == nstack_ep_triggle_del && epfd == -1 ? (say("ep_ctl %d %d %d 0\n", epfd, s, op), 0u) :
	       ctl(epfd, s, op, ev, pdata);
}

int probe_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int probe_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	say("register %d %d\n", event_ops->type, dlsym(event_ops->handle, "probe_stack_register") != NULL);
	loop_stack_register(proc_fun, event_ops);
	proc_fun->socket_ops.pfclose = close_free;
	proc_fun->extern_ops = (nstack_extern_ops){
		.module_init = init, .module_init_child = init_child, .fork_init_child = fork_init,
		.fork_parent_fd = parent_fd, .fork_child_fd = child_fd, .fork_free_fd = free_fd,
		.ep_ctl = ctl_keep, .ep_getevt = getevt, .ep_prewait_proc = prewait,
		.stack_fd_check = loop_fd_check, .peak = loop_peak,
	};
	return 0;
}
