/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/observe_remote.c - the sockets of this process that nstackd serves, as far as the process sees
 *
 * The daemon knows more of them, but answers its own user and root only: whoever may ask this process gets
 * to see at least what its sessions' memory says.
 *
 * Threads: the helper thread. A session may change under the reader; each field is whole.
 */
#define _GNU_SOURCE
#include "nsocket/observe.h"

#include <netinet/tcp.h>
#include <nsocket/sock.h>
#include <string.h>

static uint8_t connected_state(const struct shm_session *s)
{
	bool read = __atomic_load_n(&s->stack_flags, __ATOMIC_RELAXED) & SHM_SF_FIN;
	bool written = __atomic_load_n(&s->app_flags, __ATOMIC_RELAXED) & SHM_AF_TX_SHUT;

	if (written)
		return read ? TCP_LAST_ACK : TCP_FIN_WAIT2;
	return read ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
}

static uint8_t state(const struct shm_session *s, uint8_t proto)
{
	uint32_t st = shm_session_state(s);

	if (proto != IPPROTO_TCP)
		return st == SHM_S_CONNECTED ? TCP_ESTABLISHED : TCP_CLOSE;
	return st == SHM_S_LISTEN ? TCP_LISTEN : st == SHM_S_CONNECTING ? TCP_SYN_SENT :
	       st == SHM_S_CONNECTED ? connected_state(s) : TCP_CLOSE;
}

static void info(struct stack_sock_info *i, const struct nsock *ns, const struct shm_session *s)
{
	memset(i, 0, sizeof(*i));
	i->session = s->id;
	i->proto = (uint8_t)ns->proto;
	i->tcp_state = state(s, i->proto);
	i->local = s->local;
	if (i->tcp_state == TCP_LISTEN) {
		i->recv_q = fifo_used(&ns->rx) / (uint32_t)sizeof(uint32_t);
		i->send_q = s->backlog;
		return;
	}
	i->remote = s->remote;
	i->recv_q = fifo_used(&ns->rx);
	i->send_q = fifo_used(&ns->tx);
}

uint32_t observe_remote_sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	uint32_t got = 0;
	struct nfile *f;
	int fd;

	for (fd = fd_next((int)*cursor); fd >= 0 && got < n; fd = fd_next(fd + 1)) {
		*cursor = (uint64_t)fd + 1;
		f = fd_get(fd);
		if (!f)
			continue;
		worker_lock(); /* so that the session stays */
		if (f->kind == NF_SOCK && !nsock_of(f)->remote && nsock_session(nsock_of(f)))
			info(&out[got++], nsock_of(f), nsock_session(nsock_of(f)));
		worker_unlock();
		nfile_put(f);
	}
	return got;
}
