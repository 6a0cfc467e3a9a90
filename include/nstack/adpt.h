/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/adpt.h - what a process is to the framework: the one that has a stack, a program, a tool
 *
 * A stack of deploy type 3 runs in a process of its own, and programs that name it in their configuration
 * ("deploy": 3) are served by that process: nstack has the link between the two. The process is linked with
 * libnStackAdapt.so, and calls nstack_adpt_init() before it opens any socket:
 *
 *	nstack_dmm_para para = { .deploy_type = NSTACK_MODEL_TYPE3, .proc_type = NSFW_PROC_MAIN };
 *	if (nstack_adpt_init(&para))
 *		...
 *
 * Programs need none of this.
 *
 * Documents: DMM developer manual, section 4.2.2.1. Its older form had other names for the same: deploy_type,
 * flag (reserved), out_ops, in_ops.
 */
#ifndef NSTACK_ADPT_H
#define NSTACK_ADPT_H

#include <nstack/api.h>
#include <nstack/dmm_stack.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum _fw_poc_type {
	NSFW_PROC_NULL = 0, /* none: refused */
	/* It has the stacks: those of deploy type 3 that its configuration names are registered, initialised and
	 * served to programs of this network namespace. Each by one process at a time. Deploy types 1, 2 and 4:
	 * the stacks are this process's own, and their events go to its own waiting calls only. */
	NSFW_PROC_MAIN,
	NSFW_PROC_APP,   /* a program: as every one that is started under nstack */
	/* The framework without sockets: no stack is loaded, and sockets are the kernel's. */
	NSFW_PROC_CTRL,
	NSFW_PROC_TOOLS,
	NSFW_PROC_ALARM,
	NSFW_PROC_MAX = 16
} fw_poc_type;

/* Of the thread that serves programs: SCHED_OTHER..., and for real-time policies the priority. */
typedef struct nsfw_com_attr {
	int policy;
	int pri;
} nsfw_com_attr;

typedef struct __nstack_dmm_para {
	nstack_model_deploy_type deploy_type;
	int proc_type; /* fw_poc_type */
	nsfw_com_attr attr;
	/* From argv[1] on: more arguments for DPDK, if the configuration chooses it. The caller's; copied. */
	int argc;
	char **argv;
} nstack_dmm_para;

/* Once in a process, before its first socket. 0; or -1, errno, a line of log that says why, and everything as
 * before, but for what a stack's own functions have done:
 *	EINVAL      no such deploy type or role
 *	EBUSY       the process has sockets already
 *	EALREADY    it is initialised
 *	EADDRINUSE  another process has one of the stacks (the log has its number)
 *	ENOENT      no stack of type 3 is configured
 *	ENODEV      one could not be loaded, or has no ep_ctl (who waits for nobody has to report events)
 *	EPERM...    the thread that serves programs could not start */
NSTACK_API int nstack_adpt_init(nstack_dmm_para *para);
/* The same; of several stacks of type 3 in the configuration the process has this one only. */
NSTACK_API int nstack_adpt_init_stack(nstack_dmm_para *para, const char *stack);

#ifdef __cplusplus
}
#endif

#endif
