/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe.h - what the control socket can ask of this process */
#ifndef NSOCKET_OBSERVE_H
#define NSOCKET_OBSERVE_H

#include <nsocket/ctl_server.h>

struct rd_rules;

extern const struct ctl_ops observe_ops;
/* observe_kernel.c: the sockets of this process that the kernel serves. */
uint32_t observe_kernel_sockets(void *arg, struct ctl_kernel_socket *out, uint32_t n, uint64_t *cursor);
/* Rules into every port's steering program. 0 or -errno. */
int observe_rules_install(const struct rd_rules *rules);

#endif
