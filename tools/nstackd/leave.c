/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/leave.c - the daemon is asked to end: connections go on in the kernel
 *
 * First every port is given back: new connections are the kernel's, and flows that exist, handshakes
 * included, stay by pins. Then each program that has connections is asked to let go of them, which it does
 * as it would for any other reason (ATT_TO_KERNEL); it knows who is reading and writing. What programs have
 * closed and the peer does not have yet is handed over here.
 */
#define _GNU_SOURCE
#include "tools/nstackd/leave.h"
#include "tools/nstackd/park.h"

#include <errno.h>
#include <nsocket/worker_internal.h>
#include <sys/socket.h>
#include <tools/nstackd/peer.h>
#include <unistd.h>

static bool leaving;

bool leave_begun(void)
{
	return leaving;
}

void leave_begin(void)
{
	leaving = true;
	for (struct peer *p = peers_first(); p; p = p->next)
		ports_drop(p);
	parks_reap(true);
}

/* Nobody's any more: its socket is made here, and closed at once. What is left of it keeps nobody from the port who
 * may share it, as had it been accepted from such a listener; what the program's had is not known any more. */
static bool closed_move(struct shm_session *s, const struct stack_tcp_image *img)
{
	int fd = socket(img->local.family, SOCK_STREAM | SOCK_CLOEXEC, 0), err = -1, on = 1;

	if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		err = session_to_kernel(s, fd);
	if (!err)
		worker.ops->close(worker.st, s, -1);
	if (fd >= 0)
		close(fd);
	return !err;
}

/* Has it a connection that may go on? */
static bool lives(struct shm_session *s)
{
	struct stack_tcp_image img;
	int err = worker.ops->image(worker.st, s, &img);

	if (!err && img.closed)
		return !closed_move(s, &img);
	return !err || err == -EAGAIN;
}

uint32_t leave_ask(void)
{
	struct peer *asked = NULL, *p;
	struct shm_session *s;
	uint32_t n = 0;

	for (uint32_t i = 0; (i = shm_session_next(worker.region, i)) != UINT32_MAX; i++) {
		s = shm_session_get(worker.region, i);
		if (!lives(s))
			continue;
		n++;
		p = peer_of(s);
		if (p && p != asked && !p->ended)
			peer_tell(p, shm_session_id(worker.region, s), ATT_EV_LEAVE);
		asked = p;
	}
	peers_ring();
	return n;
}
