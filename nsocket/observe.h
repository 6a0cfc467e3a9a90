/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe.h - what the control socket can ask of this process */
#ifndef NSOCKET_OBSERVE_H
#define NSOCKET_OBSERVE_H

#include <nsocket/ctl_server.h>

struct rd_rules;

extern const struct ctl_ops observe_ops;
/* Rules into every port's steering program. 0 or -errno. */
int observe_rules_install(const struct rd_rules *rules);

#endif
