/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe.h - what the control socket can ask of this process */
#ifndef NSOCKET_OBSERVE_H
#define NSOCKET_OBSERVE_H

#include <nsocket/ctl_server.h>

struct rd_rules;

extern const struct ctl_ops observe_ops;
/* Other rules are in force: sockets that were left to the kernel are asked again. */
void observe_rules_changed(void *arg);
/* plug_observe.c: what plug-in stacks have of a descriptor's socket; how many were written, at most n. */
uint32_t observe_plug_sockets(int fd, struct ctl_kernel_socket *out, uint32_t n);
/* observe_kernel.c: the sockets of this process that the kernel serves, and those of plug-ins. */
uint32_t observe_kernel_sockets(void *arg, struct ctl_kernel_socket *out, uint32_t n, uint64_t *cursor);
/* observe_remote.c: those that nstackd serves. */
uint32_t observe_remote_sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor);
/* Rules into every port's steering program. 0 or -errno. */
int observe_rules_put(const struct rd_rules *rules);

/* observe_engine.c: members of struct ctl_ops for whoever has an engine (engine.h). */
uint32_t observe_ports(void *arg, struct ctl_port *out, uint32_t n);
int observe_queue_stats(void *arg, unsigned ifindex, uint32_t q, struct hal_queue_stats *out);
uint32_t observe_sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor);
uint32_t observe_counters(void *arg, struct stack_counter *out, uint32_t n);
uint32_t observe_accounts(void *arg, struct stack_counter *out, uint32_t n);
int observe_pin_flows(void *arg);
int observe_config_change(void *arg, const char *text, char err[RD_ERR]);
int observe_rules_install(void *arg, const struct rd_rules *rules);
int observe_dump_start(void *arg, int fd, const struct ctl_dump *opt, char why[256]);
int observe_dump_state(void *arg, uint64_t *packets, uint64_t *lost);
int observe_dump_stop(void *arg, uint64_t *packets, uint64_t *lost);

/* observe_ping.c: the same. */
int observe_ping_start(void *arg, struct ctl_ping *p, char why[256]);
int observe_ping_send(void *arg, const struct stack_ping *p, uint16_t *seq);
uint32_t observe_ping_answers(void *arg, const struct stack_ping *p, struct stack_ping_answer *out, uint32_t n);
void observe_ping_stop(void *arg, const struct stack_ping *p);

#endif
