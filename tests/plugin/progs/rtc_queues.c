/* SPDX-License-Identifier: Apache-2.0 */
/* The example stack, with two queues: run() has a thread for each, and a connection is accepted by the thread
 * of the queue that it came by, as on a device that spreads connections. */
#define _GNU_SOURCE
#include <nstack/nstack_dmm_api.h>

#include "../../../stacks/loop/loop_stack.c"

#define QUEUES 2

static __thread unsigned my_queue; /* 1..QUEUES; 0: not a thread of ours */
static unsigned arrived;        /* lock: connections so far, the next one's queue */

static int accept_mine(int s, struct sockaddr *sa, socklen_t *len)
{
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
	int c = -1;

	pthread_mutex_lock(&turn);
	if (my_queue && arrived % QUEUES != my_queue - 1)
		errno = EAGAIN;
	else
		c = loop_accept(s, sa, len);
	arrived += c >= 0;
	pthread_mutex_unlock(&turn);
	return c;
}

struct job {
	int (*fun)(void *arg);
	unsigned queue;
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct job *job = arg;

	my_queue = job->queue;
	while (job->fun(NULL) != 99)
		usleep(100);
	return NULL;
}

static int run(void *fun)
{
	struct job jobs[QUEUES];

	for (unsigned i = 0; i < QUEUES; i++) {
		jobs[i] = (struct job){ .fun = (int (*)(void *))fun, .queue = i + 1 };
		pthread_create(&jobs[i].thread, NULL, serve, &jobs[i]);
	}
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(jobs[i].thread, NULL);
	return QUEUES;
}

int queues_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int queues_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	loop_stack_register(proc_fun, event_ops);
	proc_fun->socket_ops.pfaccept = accept_mine;
	proc_fun->extern_ops.run = run;
	return 0;
}
