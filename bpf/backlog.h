/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/backlog.h - TCP connections into the accept queue of a kernel listener
 *
 * For a connection that another stack has accepted and no program has taken yet. From backlog_begin() to
 * backlog_end() a program stands at the loopback (bpf/backlog.bpf.c); an ACK of the connection that is
 * delivered there after backlog_expect() makes the connection the kernel's, at the listener that its address
 * and port find. Whether it did tells backlog_took().
 *
 * Needs CAP_BPF and CAP_NET_ADMIN, and Linux 6.8. Threads: one at a time for each struct backlog.
 */
#ifndef BPF_BACKLOG_H
#define BPF_BACKLOG_H

#include <bpf/backlog_shared.h>
#include <nstack/addr.h>
#include <stdbool.h>

struct backlog {
	int prog, expected;
	int link; /* what keeps the program there; -1: it is not there */
};

/* Load the program, which takes some 25 ms. 0, or -errno with *b as after backlog_close(): this kernel or
 * this process can't. */
int backlog_open(struct backlog *b);
void backlog_close(struct backlog *b);

int backlog_begin(struct backlog *b);
void backlog_end(struct backlog *b);
int backlog_expect(struct backlog *b, const struct nst_addr *local, const struct nst_addr *remote,
		   const struct backlog_agreed *agreed);
/* Has an ACK come, and the kernel the connection? */
bool backlog_took(struct backlog *b, const struct nst_addr *local, const struct nst_addr *remote);
/* It is expected no longer. */
void backlog_forget(struct backlog *b, const struct nst_addr *local, const struct nst_addr *remote);

#endif
