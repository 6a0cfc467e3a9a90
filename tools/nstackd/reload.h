/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/reload.h - SIGHUP: the configuration once more */
#ifndef NSTACKD_RELOAD_H
#define NSTACKD_RELOAD_H

#include <rd/config.h>
#include <stdbool.h>

struct ctl_server;

/* What can change while programs are attached does: rules (where ctl is not NULL: this process has a stack),
 * daemon.access (where access), soft keys. What can't is named in the log; a configuration with a mistake
 * changes nothing. 0 or -errno. */
int reload(struct ctl_server *ctl, bool access);
/* What a stack that starts now is to use: rd_config() with the rules that are in force. The caller's, by value; what
 * it points to lasts until the next reload. */
struct ns_config reload_config(void);

#endif
