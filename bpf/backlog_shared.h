/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/backlog_shared.h - what backlog.bpf.c is told, by backlog.c */
#ifndef BPF_BACKLOG_SHARED_H
#define BPF_BACKLOG_SHARED_H

#include <bpf/steer_shared.h>

#define BACKLOG_MAX 8u /* connections on their way at once */

/* What a handshake agreed on: the kernel's struct bpf_tcp_req_attrs, as Linux 6.8 has it. */
struct backlog_agreed {
	__u32 rcv_tsval; /* the peer's clock, as it last told us */
	__u32 rcv_tsecr; /* ours now */
	__u16 mss;       /* the peer's */
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3]; /* 0 */
};
_Static_assert(sizeof(struct backlog_agreed) == 20, "as the kernel has it");

#endif
