/* SPDX-License-Identifier: Apache-2.0 */
/* The example stack, made to run to completion: events come only when it is called for them, nothing tells
 * readiness, and two threads at once are an error. */
#define _GNU_SOURCE
#include <nstack/nstack_dmm_api.h>

#include "../../../stacks/loop/loop_stack.c"

static struct {
	void *pdata;
	int events;
} waiting[4096];
static unsigned first, last;
static int inside;

static int (*tell)(void *pdata, int events);

static int queue_event(void *pdata, int events)
{
	waiting[last % 4096].pdata = pdata;
	waiting[last++ % 4096].events = events;
	return 0;
}

static void enter(void)
{
	if (__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST) != 1)
		abort();
}

static void leave(void)
{
	__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
}

static int work(void)
{
	enter();
	while (first != last) {
		tell(waiting[first % 4096].pdata, waiting[first % 4096].events);
		first++;
	}
	leave();
	return 0;
}

static int run(void *fun)
{
	int (*loop)(void *) = (int (*)(void *))fun;

	while (loop(NULL) != 99)
		work();
	return 5;
}

#define ALONE(call) ({ enter(); __typeof__(call) r_ = (call); leave(); r_; })

static ssize_t rtc_send(int s, const void *buf, size_t n, int flags)
{
	return ALONE(loop_send(s, buf, n, flags));
}

static ssize_t rtc_recv(int s, void *buf, size_t n, int flags)
{
	return ALONE(loop_recv(s, buf, n, flags));
}

static int rtc_accept(int s, struct sockaddr *sa, socklen_t *len)
{
	return ALONE(loop_accept(s, sa, len));
}

int rtc_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int rtc_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	loop_stack_register(proc_fun, event_ops);
	tell = event_ops->event_cb;
	nstack.event_cb = queue_event;
	proc_fun->socket_ops.pfselect = NULL;
	proc_fun->socket_ops.pfsend = rtc_send;
	proc_fun->socket_ops.pfrecv = rtc_recv;
	proc_fun->socket_ops.pfaccept = rtc_accept;
	proc_fun->extern_ops.ep_getevt = NULL;
	proc_fun->extern_ops.run = run;
	proc_fun->extern_ops.ep_prewait = work;
	return 0;
}
