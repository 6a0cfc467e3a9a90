/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/park.c - connections that other programs have, too
 *
 * A program that forks, or becomes another program, parks the connections that go along: it leaves us a
 * descriptor of the kernel's half. When it has ended, however it did, they are not closed: who has the other
 * descriptors shows one (the kernel's cookie tells which connection that is) and gets the connection into
 * its part. What nobody asks for within TAKE_NS becomes the kernel's, and our descriptor is closed: so whoever
 * has it goes on, and if nobody has, the kernel ends it as it would at the last close().
 *
 * Descriptors are bounded: by program, and together to half of what this process may have.
 */
#define _GNU_SOURCE
#include "tools/nstackd/closer.h"
#include "tools/nstackd/park.h"

#include <errno.h>
#include <fcntl.h>
#include <nsocket/worker_internal.h>
#include <rd/log.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <tools/nstackd/peer.h>
#include <unistd.h>

#define TAKE_NS 500000000ull
#define PROGRAM_MAX 4096u

struct park {
	struct park *next;     /* of its program */
	struct shm_session *s;
	uint64_t cookie;
	uint64_t until;        /* its program has ended: when it becomes the kernel's; 0: it lives */
	int shadow;
};

static uint32_t total;

uint32_t parks_count(void)
{
	return total;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

static bool room(const struct peer *p)
{
	struct rlimit r;

	if (p->nparks >= PROGRAM_MAX || getrlimit(RLIMIT_NOFILE, &r))
		return false;
	return total < r.rlim_cur / 2;
}

/* --- beginning and end --------------------------------------------------------------------------- */

int park_add(struct peer *p, struct shm_session *s, int fd)
{
	struct park *k;

	if (fd < 0 || !peer_netns_has(p, fd))
		return -EINVAL;
	for (k = p->parks; k; k = k->next)
		if (k->s == s)
			return 0;
	if (!room(p))
		return -EMFILE;
	k = malloc(sizeof(*k));
	if (!k)
		return -ENOMEM;
	*k = (struct park){ .next = p->parks, .s = s, .cookie = cookie_of(fd),
			    .shadow = fcntl(fd, F_DUPFD_CLOEXEC, 0) };
	if (k->shadow < 0) {
		free(k);
		return -EMFILE;
	}
	p->parks = k;
	p->nparks++;
	total++;
	return 0;
}

/* Out of the list; the caller has it. */
static struct park *unlink_at(struct peer *p, struct park **at)
{
	struct park *k = *at;

	*at = k->next;
	p->nparks--;
	return k;
}

static void park_free(struct park *k)
{
	closer_close(k->shadow);
	total--;
	free(k);
}

void park_drop(struct peer *p, const struct shm_session *s)
{
	for (struct park **at = &p->parks; *at; at = &(*at)->next)
		if ((*at)->s == s) {
			park_free(unlink_at(p, at));
			return;
		}
}

void parks_drop(struct peer *p)
{
	while (p->parks)
		park_free(unlink_at(p, &p->parks));
}

/* Its session may have been closed past us: one that waited for accept() with its listener, or that went to
 * another program, if this one lied. */
static bool lives(const struct park *k)
{
	return shm_session_get(worker.region, shm_session_index(worker.region, k->s)) == k->s;
}

/* --- another program takes it -------------------------------------------------------------------- */

static struct park **find(uint64_t cookie, struct peer **of)
{
	for (struct peer *p = peers_first(); p; p = p->next)
		for (struct park **at = &p->parks; *at; at = &(*at)->next)
			if ((*at)->cookie == cookie) {
				*of = p;
				return at;
			}
	return NULL;
}

/* A session for it in p's part, or NULL. */
static struct shm_session *session_for(const struct peer *p, int fd)
{
	socklen_t len = sizeof(int);
	int family;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) || (family != AF_INET && family != AF_INET6))
		return NULL;
	return shm_session_alloc_in(worker.region, p->part, (uint8_t)family, IPPROTO_TCP);
}

int park_take(struct peer *p, int fd, struct att_answer *a)
{
	struct shm_session *to;
	struct peer *owner = NULL;
	struct park **at = NULL, *k;
	int err;

	if (fd >= 0 && peer_netns_has(p, fd))
		at = find(cookie_of(fd), &owner);
	if (!at || owner == p)
		return -ENOENT;
	if (!peer_has_ended(owner)) {
		peer_tell(owner, shm_session_id(worker.region, (*at)->s), ATT_EV_SHARED);
		return -EAGAIN;
	}
	at = find(cookie_of(fd), &owner); /* the end may have changed the list */
	if (!at || !lives(*at))
		return -ENOENT;
	to = session_for(p, fd);
	err = to ? worker.ops->move(worker.st, (*at)->s, to) : -ENOBUFS;
	if (err) {
		if (to)
			shm_session_free(worker.region, to);
		return err;
	}
	k = unlink_at(owner, at);
	k->s = to;
	k->until = 0;
	k->next = p->parks;
	p->parks = k;
	p->nparks++;
	a->session = shm_session_id(worker.region, to);
	return 0;
}

/* --- nobody does --------------------------------------------------------------------------------- */

void parks_keep(struct peer *p, bool *keep)
{
	for (struct park **at = &p->parks; *at;) {
		struct shm_session *s = (*at)->s;

		if (!lives(*at)) {
			park_free(unlink_at(p, at));
			continue;
		}
		(*at)->until = worker_now() + TAKE_NS;
		keep[shm_session_id(worker.region, s)] = true;
		at = &(*at)->next;
	}
}

static void park_end(struct park *k)
{
	int err = lives(k) ? session_to_kernel(k->s, k->shadow) : 0;

	if (err < 0 && err != -ENOTCONN)
		ns_log(NS_WAR, NS_M_CTL, "a connection ends with its program: %s", strerror(-err));
	if (lives(k))
		worker.ops->close(worker.st, k->s, -1);
	park_free(k);
}

bool parks_reap(bool all)
{
	uint64_t now = worker_now();
	bool waits = false;

	for (struct peer *p = total ? peers_first() : NULL; p; p = p->next)
		for (struct park **at = &p->parks; *at;) {
			if ((*at)->until && (all || now >= (*at)->until)) {
				park_end(unlink_at(p, at));
				continue;
			}
			waits |= (*at)->until != 0;
			at = &(*at)->next;
		}
	return waits;
}
