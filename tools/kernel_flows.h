/* SPDX-License-Identifier: Apache-2.0 */
/* tools/kernel_flows.h - connections of the kernel that must stay with it */
#ifndef NSTACK_TOOLS_KERNEL_FLOWS_H
#define NSTACK_TOOLS_KERNEL_FLOWS_H

struct steer;
/* Pin the kernel's TCP connections on ports that are claimed on this interface to the kernel.
 * Returns how many were pinned, or -errno. */
int kernel_flows_pin(struct steer *st);

#endif
