/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/sbr_access.c - whose programs a stack in a process of its own serves: daemon.access of its configuration
 *
 * By user and group, as the kernel says who connects. A program does not say its label here, so an entry that asks
 * for one fits nobody; limits are nstackd's own. Names are looked up once, at the start.
 *
 * Threads: the host's; sbr_access_init() before it.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/sbr.h"

#include <grp.h>
#include <pwd.h>
#include <rd/config.h>
#include <rd/log.h>
#include <shm/attach.h>
#include <unistd.h>

static struct entry {
	bool any_user, any_group, allow;
	uid_t uid;
	gid_t gid;
} entries[NS_ACCESS_MAX];
static uint32_t nentries;

void sbr_access_init(void)
{
	const struct ns_daemon_config *c = &rd_config()->daemon;

	nentries = 0;
	for (uint32_t i = 0; i < c->n_access; i++) {
		const struct ns_access *a = &c->access[i];
		const struct passwd *pw = a->user[0] ? getpwnam(a->user) : NULL;
		const struct group *gr = a->group[0] ? getgrnam(a->group) : NULL;

		if (a->label[0])
			continue;
		if ((a->user[0] && !pw) || (a->group[0] && !gr)) {
			ns_log(NS_ERR, NS_M_NSOCKET, "daemon.access: user or group \"%s%s\" is unknown: the entry is left out",
			       a->user, a->group);
			continue;
		}
		entries[nentries++] = (struct entry){ !pw, !gr, a->allow, pw ? pw->pw_uid : 0, gr ? gr->gr_gid : 0 };
	}
}

bool sbr_may_attach(int sock, const struct ucred *who)
{
	if (who->uid == 0 || who->uid == geteuid())
		return true;
	for (uint32_t i = 0; i < nentries; i++)
		if ((entries[i].any_user || entries[i].uid == who->uid) &&
		    (entries[i].any_group || att_peer_in_group(sock, who, entries[i].gid)))
			return entries[i].allow;
	return true;
}
