/* SPDX-License-Identifier: Apache-2.0 */
/* The loop stack, which counts references by the hooks for forks, and has two kinds of objects to be recycled; says
 * on stderr what it is told. The first kind takes a while. */
#include <nstack/nstack_dmm_api.h>

#include "../../../stacks/loop/loop_stack.c"

#define say(...) dprintf(2, "hook " __VA_ARGS__)

enum { SLOW = NSFW_REC_NSOCKET_END + 1, QUICK };

static int references[SOCKS]; /* the host's thread's */

static void *done(void *pid)
{
	usleep(20000);
	say("resumed %d\n", nsfw_recycle_obj_end((uint32_t)(uintptr_t)pid));
	return NULL;
}

static nsfw_rcc_stat slow(uint32_t pid, void *pdata, uint16_t type)
{
	pthread_t t;

	say("slow %u %d %d\n", pid, pdata == socks, type == SLOW);
	pthread_create(&t, NULL, done, (void *)(uintptr_t)pid);
	pthread_detach(t);
	return NSFW_RCC_SUSPEND;
}

static nsfw_rcc_stat quick(uint32_t pid, void *pdata, uint16_t type)
{
	int used = 0;

	for (int i = 0; i < SOCKS; i++)
		used += socks[i].used;
	say("quick %u %d %d used %d\n", pid, pdata == socks, type == QUICK, used);
	return NSFW_RCC_FAILED; /* counted, and nothing else */
}

static int init(void)
{
	return !nsfw_recycle_reg_fun(SLOW, slow) || !nsfw_recycle_reg_fun(QUICK, quick) ||
	       !nsfw_recycle_reg_obj(NSFW_REC_PRIO_HIGHEST, SLOW, socks) ||
	       !nsfw_recycle_reg_obj(NSFW_REC_PRIO_LOWEST, QUICK, socks);
}

static void parent_fd(int s, pid_t p)
{
	references[s - FIRST]++;
	say("fork_parent_fd %d %d\n", s, p);
}

static void child_fd(int s, pid_t p, pid_t c)
{
	say("fork_child_fd %d %d %d\n", s, p, c);
}

static int gone(int s)
{
	void *pdata;
	int r, freed;

	if (references[s - FIRST]--)
		return 0;
	references[s - FIRST] = 0;
	pdata = get(s)->pdata;
	r = loop_close(s);
	say("end %d\n", s);
	freed = nsep_force_epinfo_free(pdata);
	if (pdata)
		say("free %d %d again %d\n", s, freed, nsep_force_epinfo_free(pdata));
	return r;
}

static int count_close(int s)
{
	say("close %d\n", s);
	return gone(s);
}

static void free_fd(int s, pid_t p, pid_t c)
{
	say("fork_free_fd %d %d %d\n", s, p, c);
	gone(s);
}

static unsigned ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	if (op == nstack_ep_triggle_add)
		say("free early %d\n", nsep_force_epinfo_free(pdata));
	/* the one before close(): the pdata stays known, to be freed after it */
	return op == nstack_ep_triggle_del && epfd == -1 ? 0 : loop_ep_ctl(epfd, s, op, ev, pdata);
}

int counting_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int counting_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	loop_stack_register(proc_fun, event_ops);
	proc_fun->socket_ops.pfclose = count_close;
	proc_fun->extern_ops.module_init = init;
	proc_fun->extern_ops.fork_parent_fd = parent_fd;
	proc_fun->extern_ops.fork_child_fd = child_fd;
	proc_fun->extern_ops.fork_free_fd = free_fd;
	proc_fun->extern_ops.ep_ctl = ctl;
	return 0;
}

/* Can't be had by others. */
int silent_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int silent_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	loop_stack_register(proc_fun, event_ops);
	proc_fun->extern_ops.ep_ctl = NULL;
	return 0;
}
