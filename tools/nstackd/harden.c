/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/harden.c - the daemon gives up what it needs no more */
#define _GNU_SOURCE
#include "tools/nstackd/harden.h"

#include <errno.h>
#include <linux/capability.h>
#include <rd/log.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_PROGRAM 8u /* connection, two bells, sessions, pidfd; what comes with a message; a listener's shadow */
#define FDS_OTHER 512u
#define BIT(cap) (1ull << (cap))

/* neighbours and pins of connections, AF_PACKET and AF_XDP, tables of the steering program */
#define RUNNING (BIT(CAP_NET_ADMIN) | BIT(CAP_NET_RAW) | BIT(CAP_BPF))
/* loading that program, looking up its tables by id, locking packet memory */
#define STARTING (RUNNING | BIT(CAP_SYS_ADMIN) | BIT(CAP_PERFMON) | BIT(CAP_IPC_LOCK) | BIT(CAP_SYS_RESOURCE))

/* It executes nothing: whatever that would bring. */
static void nothing_by_exec(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static void keep(uint64_t caps)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &h, d))
		return;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		d[i].effective &= (uint32_t)(caps >> 32 * i);
		d[i].permitted &= (uint32_t)(caps >> 32 * i);
		d[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &h, d))
		ns_log(NS_WAR, NS_M_CTL, "capabilities can't be given up: %s", strerror(errno));
}

static void descriptors(uint32_t programs)
{
	rlim_t want = (rlim_t)programs * FDS_PROGRAM + FDS_OTHER;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	if (lim.rlim_max < want && !setrlimit(RLIMIT_NOFILE, &(struct rlimit){ want, want }))
		return;
	if (lim.rlim_max < want)
		ns_log(NS_ERR, NS_M_CTL, "%llu descriptors are allowed (RLIMIT_NOFILE, LimitNOFILE=), %u programs may "
		       "need %llu", (unsigned long long)lim.rlim_max, programs, (unsigned long long)want);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

void harden_start(uint32_t programs)
{
	nothing_by_exec();
	descriptors(programs);
	keep(STARTING);
}

void harden_running(void)
{
	keep(RUNNING);
}
