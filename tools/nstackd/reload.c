/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/reload.c - SIGHUP: the configuration once more
 *
 * rd_config() stays what the daemon was started with: the stack, its memory and its interfaces are made by it.
 */
#define _GNU_SOURCE
#include "tools/nstackd/reload.h"

#include "tools/nstackd/access.h"
#include "tools/nstackd/peer.h"

#include <nsocket/ctl_server.h>
#include <nsocket/worker_internal.h>
#include <rd/alarm.h>
#include <rd/log.h>
#include <rd/rules.h>
#include <stdlib.h>

static struct ns_config *latest; /* NULL: the first one is in force */

/* Rules that were set by the tool stay, unless a configuration had or has some. */
static void rules(struct ctl_server *ctl, const struct ns_config *old, const struct ns_config *new)
{
	struct rd_rules *none;

	if (new->rules) {
		ctl_server_rules(ctl, new->rules, new->rules_path ? new->rules_path : new->source);
		return;
	}
	none = old->rules ? malloc(sizeof(*none)) : NULL;
	if (!none)
		return;
	rd_rules_init(none);
	ctl_server_rules(ctl, none, new->source);
	free(none);
}

int reload(struct ctl_server *ctl, bool access)
{
	const struct ns_config *old = latest ? latest : rd_config();
	char err[RD_ERR], fixed[256];
	struct ns_config *new;
	int ret = rd_config_again(&new, err);

	ns_log_reopen();
	if (ret) {
		ns_log(NS_ERR, NS_M_OPER, "reload: %s (everything stays as it was)", err);
		ns_alarm_raise(NS_ALARM_CONFIG_REFUSED, "%.200s", err);
		return ret;
	}
	ns_alarm_clear(NS_ALARM_CONFIG_REFUSED);
	rd_config_fixed_changes(rd_config(), new, fixed, sizeof(fixed));
	if (fixed[0])
		ns_log(NS_ERR, NS_M_OPER, "reload: these stay as they were until the next start: %s", fixed);
	if (access)
		ret = access_set(new->daemon.access, new->daemon.n_access);
	if (ctl)
		rules(ctl, old, new);
	worker_lock();
	rd_config_change_to(new);
	if (ctl)
		peers_tune();
	worker_unlock();
	rd_config_free(latest);
	latest = new;
	ns_log(NS_INF, NS_M_OPER, "%s was read again", new->source);
	return ret;
}

struct ns_config reload_config(void)
{
	struct ns_config c = *rd_config();

	if (latest) {
		c.rules = latest->rules;
		c.rules_path = latest->rules_path;
	}
	return c;
}
