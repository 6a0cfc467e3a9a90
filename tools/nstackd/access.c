/* SPDX-License-Identifier: Apache-2.0 */
/* tools/nstackd/access.c - who may attach, and with which limits
 *
 * The first entry that fits decides, as in a rule file. Root's programs and those of the daemon's own user
 * always may attach: they could do what the daemon does. Their limits hold, so that one can keep a program of
 * root's from using up what is there for all.
 *
 * A quota is what an entry's limits are about: the whole entry, one user or label of those that fit, or one
 * program. It is used again when nobody counts for it any more.
 */
#define _GNU_SOURCE
#include "tools/nstackd/access.h"

#include "tools/nstackd/limits.h"
#include "tools/nstackd/shared.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <rd/log.h>
#include <shm/attach.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOBODY ((uid_t)-1)

/* With numbers for names. */
struct entry {
	struct ns_access is;
	uid_t uid; /* NOBODY = any */
	gid_t gid;
};

static struct ns_access options[NS_ACCESS_MAX];
static uint32_t noptions;
static struct entry *entries;
static uint32_t nentries;
static bool closed; /* who is in no entry may not */

static struct ns_access *option_new(void)
{
	if (noptions == NS_ACCESS_MAX)
		return NULL;
	options[noptions] = (struct ns_access){ .allow = true, .programs = NS_NO_LIMIT, .sockets = NS_NO_LIMIT,
						.ports = NS_NO_LIMIT, .memory = NS_NO_LIMIT };
	return &options[noptions];
}

int access_user(const char *name)
{
	struct ns_access *a = option_new();

	if (!a || strlen(name) >= sizeof(a->user))
		return -E2BIG;
	if (!getpwnam(name))
		return -EINVAL;
	strcpy(a->user, name);
	noptions++;
	return 0;
}

int access_group(const char *name)
{
	struct ns_access *a = option_new();

	if (!a || strlen(name) >= sizeof(a->group))
		return -E2BIG;
	if (!getgrnam(name))
		return -EINVAL;
	strcpy(a->group, name);
	noptions++;
	return 0;
}

static void entry_add(const struct ns_access *a)
{
	struct entry *e = &entries[nentries];
	const struct passwd *pw = a->user[0] ? getpwnam(a->user) : NULL;
	const struct group *gr = a->group[0] ? getgrnam(a->group) : NULL;

	if ((a->user[0] && !pw) || (a->group[0] && !gr)) {
		ns_log(NS_ERR, NS_M_OPER, "daemon.access: there is no %s %s: the entry is left out", a->user[0] && !pw ?
		       "user" : "group", a->user[0] && !pw ? a->user : a->group);
		return;
	}
	*e = (struct entry){ *a, pw ? pw->pw_uid : NOBODY, gr ? gr->gr_gid : NOBODY };
	nentries++;
}

/* Of the same programs? */
static bool same_entry(const struct ns_access *a, const struct ns_access *b)
{
	return !strcmp(a->user, b->user) && !strcmp(a->group, b->group) && !strcmp(a->label, b->label) &&
	       a->per == b->per;
}

static void limits_set(struct quota *a, const struct ns_access *e)
{
	const uint64_t limit[QUOTA_NR_] = { e->programs, e->sockets, e->ports, e->memory };

	a->entry = *e;
	for (unsigned i = 0; i < QUOTA_NR_; i++)
		__atomic_store_n(&a->limit[i], limit[i], __ATOMIC_RELAXED);
}

static void quotas_follow(void)
{
	for (uint32_t i = 0; i < shared->nquotas; i++)
		for (uint32_t k = 0; shared->quota[i].taken && k < nentries; k++)
			if (same_entry(&shared->quota[i].entry, &entries[k].is)) {
				limits_set(&shared->quota[i], &entries[k].is);
				break;
			}
}

int access_set(const struct ns_access *list, uint32_t n)
{
	struct entry *new = calloc(noptions + n + 1, sizeof(*new));

	if (!new)
		return -ENOMEM;
	free(entries);
	entries = new;
	nentries = 0;
	for (uint32_t i = 0; i < noptions; i++)
		entry_add(&options[i]);
	for (uint32_t i = 0; i < n; i++)
		entry_add(&list[i]);
	closed = noptions > 0;
	quotas_follow();
	return 0;
}

/* --- one program ------------------------------------------------------------------------------- */

static const struct entry *find(const struct visitor *v)
{
	for (uint32_t i = 0; i < nentries; i++) {
		const struct entry *e = &entries[i];

		if ((e->uid == NOBODY || e->uid == v->who.uid) && (e->gid == NOBODY || att_peer_in_group(v->sock, &v->who, e->gid)) &&
		    (!e->is.label[0] || !strcmp(e->is.label, v->label)))
			return e;
	}
	return NULL;
}

static bool has_limits(const struct ns_access *a)
{
	return a->programs != NS_NO_LIMIT || a->sockets != NS_NO_LIMIT || a->ports != NS_NO_LIMIT ||
	       a->memory != NS_NO_LIMIT;
}

static bool is_whose(const struct quota *a, const struct ns_access *e, const struct visitor *v)
{
	if (!a->taken || !same_entry(&a->entry, e))
		return false;
	switch (e->per) {
	case NS_PER_PROGRAM:
		return a->pid == v->who.pid;
	case NS_PER_USER:
		return a->uid == v->who.uid;
	case NS_PER_LABEL:
		return !strcmp(a->label, v->label);
	case NS_PER_ENTRY:
		return true;
	}
	return false;
}

static struct quota *quota_of(const struct ns_access *e, const struct visitor *v)
{
	struct quota *free_one = NULL, *a;

	for (uint32_t i = 0; i < shared->nquotas; i++) {
		a = &shared->quota[i];
		if (is_whose(a, e, v))
			return a;
		if (!free_one && (!a->taken || !quota_used(a, QUOTA_PROGRAMS)))
			free_one = a;
	}
	if (!free_one)
		return NULL;
	memset(free_one, 0, sizeof(*free_one));
	free_one->taken = true;
	free_one->pid = v->who.pid;
	free_one->uid = v->who.uid;
	memcpy(free_one->label, v->label, sizeof(free_one->label));
	limits_set(free_one, e);
	return free_one;
}

int access_check(const struct visitor *v, struct quota **out, char why[160])
{
	bool trusted = v->who.uid == 0 || v->who.uid == geteuid();
	const struct entry *e = find(v);

	*out = NULL;
	if (!trusted && (e ? !e->is.allow : closed)) {
		snprintf(why, 160, "user %u%s%s may not attach (daemon.access, --user, --group)",
			 (unsigned)v->who.uid, v->label[0] ? ", label " : "", v->label);
		return -EACCES;
	}
	if (!e || !has_limits(&e->is))
		return 0;
	*out = quota_of(&e->is, v);
	if (!*out) {
		snprintf(why, 160, "too many programs with limits are attached");
		return -ENOSPC;
	}
	if (quota_used(*out, QUOTA_PROGRAMS) >= e->is.programs) {
		__atomic_fetch_add(&(*out)->refused[QUOTA_PROGRAMS], 1, __ATOMIC_RELAXED);
		limits_met(*out, QUOTA_PROGRAMS);
		snprintf(why, 160, "%llu programs are attached already, which is the limit (daemon.access)",
			 (unsigned long long)e->is.programs);
		return -EDQUOT;
	}
	return 0;
}

void access_done(struct quota *a, unsigned worker)
{
	if (a)
		__atomic_fetch_add(&a->used[worker][QUOTA_PROGRAMS], 1, __ATOMIC_RELAXED);
}

void access_undo(struct quota *a, unsigned worker)
{
	if (a)
		__atomic_fetch_sub(&a->used[worker][QUOTA_PROGRAMS], 1, __ATOMIC_RELAXED);
}
