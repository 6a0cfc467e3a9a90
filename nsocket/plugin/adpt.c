/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/adpt.c - nstack_adpt_init(): what this process is to the framework
 *
 * Threads: any; one call at a time, and one that goes well.
 */
#define _GNU_SOURCE
#include <nstack/adpt.h>

#include <nsocket/engine_dpdk.h>
#include <nsocket/init.h>
#include <nsocket/plugin/sbr.h>
#include <rd/config.h>
#include <rd/log.h>

/* Types 1, 2 and 4: the stacks are there for this process's sockets, each unless something is wrong with it. */
static int stacks_of_its_own(char why[256])
{
	plug_load();
	return 0;
}

static int host(const nstack_dmm_para *para, const char *only, char why[256])
{
	struct sbr_host_config c = { .only = only, .policy = para->attr.policy, .priority = para->attr.pri,
				     .programs = rd_config()->daemon.programs };
	int err = plug_loaded() ? -EBUSY : 0;

	if (err) {
		snprintf(why, 256, "it has to come before the process's first socket");
		return err;
	}
	init_enter();
	err = sbr_host_open(&c, rd_config()->modules, why);
	init_leave();
	if (!err) {
		plug_load();
		init_enter();
		err = sbr_host_serve(&c, why);
		init_leave();
		if (err)
			plug_unload();
	}
	if (err)
		sbr_host_close();
	return err;
}

static int start(const nstack_dmm_para *para, const char *only, char why[256])
{
	if (para->argc > 1 && para->argv)
		engine_dpdk_args(para->argc, para->argv);
	switch (para->proc_type) {
	case NSFW_PROC_MAIN:
		return para->deploy_type == NSTACK_MODEL_TYPE3 ? host(para, only, why) : stacks_of_its_own(why);
	case NSFW_PROC_APP:
		return stacks_of_its_own(why);
	default:
		nsock_kernel_only(SR_no_program);
		plug_load_none();
		return 0;
	}
}

NSTACK_API int nstack_adpt_init_stack(nstack_dmm_para *para, const char *stack)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool done; /* lock */
	char why[256] = "";
	int err = 0;

	if (!para || para->deploy_type < NSTACK_MODEL_TYPE1 || para->deploy_type > NSTACK_MODEL_TYPE_SIMPLE_STACK ||
	    para->proc_type <= NSFW_PROC_NULL || para->proc_type > NSFW_PROC_ALARM) {
		ns_log(NS_ERR, NS_M_NSOCKET, "nstack_adpt_init: no such deploy type or role");
		errno = EINVAL;
		return -1;
	}
	if (!init_ready()) { /* its configuration has a mistake, which the log has said */
		errno = EINVAL;
		return -1;
	}
	lock_take(&lock);
	if (done) {
		err = -EALREADY;
		snprintf(why, sizeof(why), "it was called before");
	} else {
		err = start(para, stack, why);
		done = !err;
	}
	lock_give(&lock);
	if (!err)
		return 0;
	ns_log(NS_ERR, NS_M_NSOCKET, "nstack_adpt_init: %s", why);
	errno = -err;
	return -1;
}

NSTACK_API int nstack_adpt_init(nstack_dmm_para *para)
{
	return nstack_adpt_init_stack(para, NULL);
}
