/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/rd_calls.c - the functions of nstack/rd.h, for programs and plug-in stacks
 *
 * Threads: any. Listeners that the kernel serves are asked again after a change, as after one of the rules.
 */
#define _GNU_SOURCE
#include <nstack/rd.h>

#include <errno.h>
#include <nsocket/init.h>
#include <nsocket/observe.h>
#include <nsocket/sock.h>
#include <rd/sources.h>

static int as_errno(int ret)
{
	if (!ret)
		return 0;
	errno = -ret;
	return -1;
}

static int changed(int ret)
{
	if ((!ret || ret == -EIO) && worker_running() && !init_inside())
		observe_rules_changed(NULL);
	return as_errno(ret);
}

NSTACK_API int nstack_rd_init(nstack_rd_stack_info *pstack, int num, nstack_get_route_data *pfun, int fun_num)
{
	return changed(rd_sources_init(pstack, num, pfun, fun_num));
}

NSTACK_API int nstack_rd_get_stackid(nstack_rd_key *pkey, int *stackid)
{
	return as_errno(rd_sources_stackid(pkey, stackid));
}

NSTACK_API int nstack_rd_sys(void)
{
	return changed(rd_sources_refresh());
}

NSTACK_API int nstack_rd_age(void)
{
	return changed(rd_sources_age());
}
