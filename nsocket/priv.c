/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/priv.c - servers that give up root
 *
 * Opening AF_XDP sockets and the steering tables takes privilege; using them does not. A server
 * such as nginx or memcached binds as root, then becomes another user, and only then looks at its
 * sockets - which is when the stack would start, too late. So the call that gives up root starts
 * the stack just before, if this process is going to need it: it holds a bound socket (an nginx
 * worker with the listeners of its master), or it is the program itself and not a fork of it
 * (memcached, which binds afterwards). A forked helper without sockets starts nothing.
 *
 * Only the starting is brought forward: ports are still claimed when the sockets are used.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/init.h"
#include "nsocket/sock.h"

#include <unistd.h>

static pid_t first_pid; /* the process that loaded the library; a fork has another one */

__attribute__((constructor(103))) static void priv_constructor(void)
{
	first_pid = getpid();
}

static bool holds_bound_socket(void)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		struct nfile *f = fd_is_protected(fd) ? NULL : fd_get(fd);
		bool bound = f && f->kind == NF_SOCK && nsock_of(f)->bound;

		if (f)
			nfile_put(f);
		if (bound)
			return true;
	}
	return false;
}

void priv_before_user(uid_t user)
{
	if (user == 0 || user == (uid_t)-1 || geteuid() != 0 || !init_ready() || worker_running())
		return;
	if (getpid() == first_pid || holds_bound_socket())
		worker_start();
}

NS_EXPORT int setuid(uid_t uid)
{
	priv_before_user(uid);
	return libc.setuid(uid);
}

NS_EXPORT int seteuid(uid_t euid)
{
	priv_before_user(euid);
	return libc.seteuid(euid);
}

NS_EXPORT int setreuid(uid_t ruid, uid_t euid)
{
	priv_before_user(euid);
	return libc.setreuid(ruid, euid);
}

NS_EXPORT int setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	priv_before_user(euid);
	return libc.setresuid(ruid, euid, suid);
}
