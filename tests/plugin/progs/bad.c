/* SPDX-License-Identifier: Apache-2.0 */
/* Plug-ins that can't be used, each for a reason of its own. */
#include <nstack/nstack_dmm_api.h>

int refuses(nstack_proc_cb *p, nstack_event_cb *e);
int crashes(nstack_proc_cb *p, nstack_event_cb *e);
int aborts(nstack_proc_cb *p, nstack_event_cb *e);
int without_socket(nstack_proc_cb *p, nstack_event_cb *e);
int init_fails(nstack_proc_cb *p, nstack_event_cb *e);
int init_crashes(nstack_proc_cb *p, nstack_event_cb *e);

static int three(void)
{
	return 3;
}

static int crash(void)
{
	*(volatile int *)NULL = 1;
	return 0;
}

int refuses(nstack_proc_cb *p, nstack_event_cb *e)
{
	(void)p, (void)e;
	return 7;
}

int crashes(nstack_proc_cb *p, nstack_event_cb *e)
{
	(void)p, (void)e;
	return crash();
}

int aborts(nstack_proc_cb *p, nstack_event_cb *e)
{
	(void)p, (void)e;
	abort();
}

int without_socket(nstack_proc_cb *p, nstack_event_cb *e)
{
	(void)e;
	p->socket_ops.pfbind = bind;
	return 0;
}

int init_fails(nstack_proc_cb *p, nstack_event_cb *e)
{
	(void)e;
	p->socket_ops.pfsocket = socket;
	p->extern_ops.module_init = three;
	return 0;
}

int init_crashes(nstack_proc_cb *p, nstack_event_cb *e)
{
	(void)e;
	p->socket_ops.pfsocket = socket;
	p->extern_ops.module_init = crash;
	return 0;
}
