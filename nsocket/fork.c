/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/fork.c - what a child does with what it inherited
 *
 * Only the forking thread lives on in the child. The parent's worker (stack, ports, helper,
 * control socket) stays the parent's: the child forgets it without touching anything shared.
 * Sockets that were not decided, listeners and UDP sockets start anew: they are activated again at
 * first use, by a stack of the child's own (a forked nginx worker), or stay with the kernel while
 * the parent owns the port. A connection of the parent's stack stays usable in the child through
 * the parent (share.c). When the child forks in turn, it moves to the kernel before, for all; where
 * that can't be done, calls on it answer ECONNRESET in the child's child, and closing it leaves the
 * parent's alone.
 *
 * Runs by pthread_atfork, so daemon() and forkpty() are covered too; a fork by syscall(2), which libc
 * does not notice, calls it itself (syscall.c).
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <nsocket/ev.h>
#include <nsocket/handover.h>
#include <nsocket/init.h>
#include <nsocket/plugin/plugin.h>
#include <nsocket/sides.h>
#include <nsocket/plugin/sbr.h>
#include <nsocket/stdio.h>
#include <nsocket/to_backlog.h>
#include <nsocket/yield.h>
#include <rd/log.h>
#include <stdlib.h>

static bool is_remote(struct nsock *ns, int fd)
{
	return ns->remote;
}

void fork_prepare(void)
{
	priv_fork_prepare();
	nsock_handover_each(is_remote, SR_forked);
	plug_fork_prepare();
	stdio_fork_prepare();
	ev_fork_prepare();
	lock_take(&worker.start_lock);
	worker_lock();
	share_fork_prepare();
	file_fork_prepare();
	urcu_bp_before_fork();
}

void fork_parent(void)
{
	urcu_bp_after_fork_parent();
	plug_fork_parent();
	file_fork_parent();
	share_fork_parent();
	worker_unlock();
	lock_give(&worker.start_lock);
	ev_fork_parent();
	stdio_fork_parent();
	priv_fork_parent();
}

static void socket_forget(struct nsock *ns)
{
	pthread_mutex_init(&ns->lock, NULL);
	pthread_mutex_init(&ns->rx_lock, NULL);
	pthread_mutex_init(&ns->tx_lock, NULL);
	pthread_mutex_init(&ns->wait_lock, NULL);
	pthread_mutex_init(&ns->f.watch_lock, NULL);
	ns->waits = NULL;
	ns->nwaits = 0;
	ns->takers = ns->accepting = 0;
	ns->cmd.bits = 0;
	ns->port_held = false;
	ns->kept_fd = -1;
	ns->gifts = NULL; /* its descriptors are closed by number */
	ns->yielded = false;
	ns->way.until = ns->retry_ns = 0;
	if (ns->remote)
		return; /* goes on by the parent's stack */
	if (ns->mode == SK_STREAM && ns->s)
		ns->mode = SK_LOST;
	else if (ns->mode == SK_DGRAM)
		ns->mode = SK_NEW;
	ns->s = NULL;
	if (ns->mode == SK_NEW || ns->mode == SK_LISTEN)
		ns->rejected = false;
}

/* What could not move to the kernel before the fork can't be passed on. */
static void remote_forget(void)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		struct nfile *f = fd_is_protected(fd) ? NULL : nfile_table[fd];

		if (f && f->kind == NF_SOCK && nsock_of(f)->remote) {
			nsock_of(f)->remote = false;
			nsock_of(f)->s = NULL;
			nsock_of(f)->mode = SK_LOST;
		}
	}
}

void fork_child(void)
{
	struct nfile *f;

	urcu_bp_after_fork_child();
	file_fork_child();
	/* Calls of the parent's other threads had references that nobody gives back here: what the child
	 * closes would stay open. A handler that forks may have one of its own below it. */
	if (!worker_in_handler())
		fd_recount();
	worker_after_fork_child();
	ports_after_fork_child();
	yield_after_fork_child();
	to_backlog_after_fork_child();
	sides_after_fork_child();
	remote_forget();
	share_fork_child();
	init_after_fork_child(); /* closes by owner; the rest by number, before new ones are made */
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		if (fd_is_protected(fd)) {
			if (fd != share_up_fd() && !sbr_link_keeps(fd))
				fd_hide_close(fd);
			continue;
		}
		f = nfile_table[fd];
		if (f && f->kind == NF_SOCK)
			socket_forget(nsock_of(f));
	}
	ns_log_after_fork();
	ev_fork_child();
	stdio_fork_child();
	priv_fork_child();
	lock_fork_child();
	plug_fork_child(); /* last: the stacks' own functions may call anything */
}

__attribute__((constructor(102))) static void fork_constructor(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}
