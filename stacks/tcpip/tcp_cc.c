/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/tcp_cc.c - the congestion controls there are; index 0 is the default */
#include "tcp_internal.h"

const struct tcp_cc *const tcp_ccs[TCP_CC_NR] = { &tcp_cc_cubic, &tcp_cc_reno };
