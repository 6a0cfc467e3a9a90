/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plug_observe.c - the sockets of plug-in stacks, as `nstack sockets` shows them
 *
 * A stack is asked when somebody looks, so nothing is kept for it. One that runs to completion and is at work
 * at that moment is not waited for: the socket is shown with what nstack knows itself.
 *
 * Threads: the helper thread.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <netinet/tcp.h>
#include <nsocket/plugin/plugin.h>
#include <string.h>

typedef int name_fn(int s, struct sockaddr *addr, socklen_t *len);
static void name(name_fn *fn, int s, struct nst_addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (fn && fn(s, (struct sockaddr *)&ss, &len) >= 0)
		nst_addr_from_sockaddr(out, (struct sockaddr *)&ss, len);
}

static void ask_stack(const struct plug_sock *p, int s, struct stack_sock_info *i)
{
	const nstack_extern_ops *ext = &p->m->cb.extern_ops;
	const nstack_socket_ops *op = &p->m->cb.socket_ops;
	int n;

	if (!plug_try_enter(p->m))
		return;
	name(op->pfgetsockname, s, &i->local);
	if (!p->listens)
		name(op->pfgetpeername, s, &i->remote);
	n = ext->peak && !p->listens ? ext->peak(s) : 0;
	i->recv_q = n > 0 ? (uint32_t)n : 0;
	plug_leave(p->m);
}

static bool describe(const struct nsock *ns, const struct plug_sock *p, struct stack_sock_info *i)
{
	int s = __atomic_load_n(&p->s, __ATOMIC_RELAXED);

	if (s < 0)
		return false;
	*i = (struct stack_sock_info){ .proto = ns->proto, .local = ns->local };
	ask_stack(p, s, i);
	i->tcp_state = p->listens ? TCP_LISTEN : i->remote.family ? TCP_ESTABLISHED : TCP_CLOSE;
	return true;
}

uint32_t observe_plug_sockets(int fd, struct ctl_kernel_socket *out, uint32_t n)
{
	struct nfile *f = plug_any() && fd_is_ours(fd) && !fd_is_protected(fd) ? fd_get(fd) : NULL;
	struct plug_sock *p = NULL;
	uint32_t found = 0;

	if (f && f->kind == NF_SOCK && nfile_fd(f) == fd) /* once, if there are several descriptors */
		p = __atomic_load_n(&nsock_of(f)->plug, __ATOMIC_ACQUIRE);
	for (; p && found < n; p = __atomic_load_n(&p->next, __ATOMIC_ACQUIRE)) {
		if (!describe(nsock_of(f), p, &out[found].info))
			continue;
		out[found].fd = fd;
		out[found].stack = p->m->conf->name;
		out[found++].reason = NULL;
	}
	if (f)
		nfile_put(f);
	return found;
}
