/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_shared.h - layouts of the steering tables, for the XDP program and user space alike */
#ifndef NSTACK_BPF_STEER_SHARED_H
#define NSTACK_BPF_STEER_SHARED_H

#include <linux/types.h>

#define STEER_VERSION 1u       /* changes whenever a layout or a meaning here changes */
#define STEER_INSTANCES 64u    /* slot 0 means the kernel */
#define STEER_TO_KERNEL 0u
#define STEER_QUEUES 64u       /* receive queues of an interface that can be steered */
#define STEER_STACK_NAME 16u
#define STEER_RULES 256u       /* rules in one set */
#define STEER_RULE_WORDS (STEER_RULES / 64u)
#define STEER_STACKS 16u       /* kinds of stacks that rules can name */

/* XSKMAP index of an instance's socket on a queue */
#define STEER_XSK(instance, queue) ((instance) * STEER_QUEUES + (queue))

/* to be completed by the owner of bpf/: keys, values, counters (STEER_C_*), parse limits,
 * struct steer_rules */
enum steer_counter { STEER_C_NR_ = 64 };

#endif
