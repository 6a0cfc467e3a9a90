/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/backlog.c - TCP connections into the accept queue of a kernel listener */
#define _GNU_SOURCE
#include "bpf/backlog.h"

#include <bpf/backlog.skel.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <bpf/steer_internal.h>
#include <errno.h>
#include <fcntl.h>
#include <nstack/fd_host.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOPBACK 1u    /* its ifindex, in every network namespace */
#define TCX_INGRESS 46 /* BPF_TCX_INGRESS of Linux 6.6 */

/* Descriptors of our own, beside those of the skeleton. */
static int dup_own(int fd)
{
	return nst_fd_own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

int backlog_open(struct backlog *b)
{
	libbpf_print_fn_t words = libbpf_set_print(NULL); /* a kernel that can't is no error */
	struct backlog_bpf *skel = backlog_bpf__open_and_load();
	int err = skel ? 0 : errno ? -errno : -ENOMEM;

	libbpf_set_print(words);
	*b = (struct backlog){ -1, -1, -1 };
	if (!err) {
		b->prog = dup_own(bpf_program__fd(skel->progs.backlog));
		b->expected = dup_own(bpf_map__fd(skel->maps.expected));
	}
	backlog_bpf__destroy(skel);
	if (!err && (b->prog < 0 || b->expected < 0))
		err = -EMFILE;
	if (err)
		backlog_close(b);
	return err;
}

void backlog_close(struct backlog *b)
{
	backlog_end(b);
	nst_fd_close(b->prog);
	nst_fd_close(b->expected);
	b->prog = b->expected = -1;
}

/* It goes with the descriptor, whatever becomes of us. */
int backlog_begin(struct backlog *b)
{
	union bpf_attr a;

	memset(&a, 0, sizeof(a));
	a.link_create.prog_fd = (__u32)b->prog;
	a.link_create.target_ifindex = LOOPBACK;
	a.link_create.attach_type = TCX_INGRESS;
	b->link = nst_fd_own((int)syscall(SYS_bpf, BPF_LINK_CREATE, &a, sizeof(a)));
	return b->link < 0 ? -errno : 0;
}

void backlog_end(struct backlog *b)
{
	nst_fd_close(b->link);
	b->link = -1;
}

static void flow_of(struct steer_flow *f, const struct nst_addr *local, const struct nst_addr *remote)
{
	memset(f, 0, sizeof(*f));
	f->family = local->family;
	f->proto = STEER_P_TCP;
	f->lport = local->port;
	f->rport = remote->port;
	steer_addr_words(f->local, local);
	steer_addr_words(f->remote, remote);
}

int backlog_expect(struct backlog *b, const struct nst_addr *local, const struct nst_addr *remote,
		   const struct backlog_agreed *agreed)
{
	struct steer_flow f;

	flow_of(&f, local, remote);
	return bpf_map_update_elem(b->expected, &f, agreed, BPF_ANY) ? -errno : 0;
}

bool backlog_took(struct backlog *b, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct backlog_agreed a;
	struct steer_flow f;

	flow_of(&f, local, remote);
	return bpf_map_lookup_elem(b->expected, &f, &a) && steer_kernel_has(&f) > 0;
}

void backlog_forget(struct backlog *b, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct steer_flow f;

	flow_of(&f, local, remote);
	bpf_map_delete_elem(b->expected, &f);
}
