/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/sock_rd.c - which stack serves a socket: the rules, or what the program chose for it (nstack/rd.h)
 *
 * A choice is the name of a stack, in memory that stays: it can be read without a lock. Loopback addresses and
 * what rules drop are not up to the program.
 *
 * Threads: any.
 */
#define _GNU_SOURCE
#include "nsocket/sock.h"

#include <nsocket/plugin/plugin.h>
#include <nstack/rd.h>

static const char *choice_of(const struct nsock *ns)
{
	/* relaxed: what it points to has been there since the stacks were loaded */
	return __atomic_load_n(&ns->choice, __ATOMIC_RELAXED);
}

/* --- decisions ----------------------------------------------------------------------------------- */

struct rd_verdict nsock_lookup(const struct nsock *ns, const struct nst_addr *local, const struct nst_addr *remote)
{
	struct rd_verdict v = rd_lookup(NULL, ns->proto, local, remote);
	const char *choice = choice_of(ns);

	if (!choice || v.rule == RD_BY_BUILTIN || v.action == RD_DROP)
		return v;
	v.rule = RD_BY_SOCKET;
	v.action = strcmp(choice, RD_STACK_KERNEL) ? RD_STACK : RD_KERNEL;
	v.stack = strcmp(choice, RD_STACK_DEFAULT) ? UINT8_MAX : 0;
	return v;
}

struct rd_listen nsock_listen_by(const struct nsock *ns)
{
	const char *choice = choice_of(ns);
	struct rd_verdict v;

	if (!choice)
		return rd_listen(NULL, ns->proto, &ns->local);
	v = nsock_lookup(ns, &ns->local, NULL);
	return (struct rd_listen){ .stack = rd_is_own(v), .exempt = rd_is_own(v) };
}

bool nsock_lookup_name(const struct nsock *ns, const struct nst_addr *local, const struct nst_addr *remote,
		       char name[RD_STACK_NAME])
{
	const char *choice = choice_of(ns);

	if (!choice)
		return rd_lookup_name(ns->proto, local, remote, name);
	if (nsock_lookup(ns, local, remote).action != RD_STACK)
		return false;
	strcpy(name, choice);
	return true;
}

bool nsock_may_name(const struct nsock *ns, const char *name)
{
	const char *choice = choice_of(ns);

	return choice ? !strcmp(choice, name) : rd_may_name(ns->proto, &ns->local, name);
}

/* --- the options --------------------------------------------------------------------------------- */

bool sock_rd_is_option(int level, int name)
{
	return level == NSTACK_SOCKOPT && (name == NSTACK_RD_MODE || name == NSTACK_RD_STACK);
}

/* Our copy of the name; NULL: there is no such stack. */
static const char *stack_known(const char *name)
{
	struct plug_module *m;

	if (!strcmp(name, RD_STACK_KERNEL))
		return RD_STACK_KERNEL;
	if (!strcmp(name, RD_STACK_DEFAULT))
		return RD_STACK_DEFAULT;
	for (uint32_t i = 0; (m = plug_at(i)); i++)
		/* relaxed: plug_choose() looks again */
		if (!strcmp(m->conf->name, name) && __atomic_load_n(&m->usable, __ATOMIC_RELAXED))
			return m->conf->name;
	return NULL;
}

static int choice_read(int name, const void *val, socklen_t len, const char **out)
{
	char text[RD_STACK_NAME] = "";
	int mode;

	if ((int)len < 0)
		return -EINVAL;
	if (!user_ok(val, len))
		return -EFAULT;
	if (name == NSTACK_RD_MODE) {
		if (len < sizeof(mode))
			return -EINVAL;
		memcpy(&mode, val, sizeof(mode));
		if (mode < 0 || mode >= NSTACK_RD_OPT_MAX)
			return -EINVAL;
		*out = mode == NSTACK_RD_OPT_KERNEL ? RD_STACK_KERNEL : RD_STACK_DEFAULT;
		return 0;
	}
	/* as SO_BINDTODEVICE: with or without the end */
	len = (socklen_t)strnlen(val, len);
	if (len >= sizeof(text))
		return -ENOENT;
	memcpy(text, val, len);
	*out = text[0] ? stack_known(text) : NULL;
	return !text[0] || *out ? 0 : -ENOENT;
}

int sock_rd_set(struct nsock *ns, int name, const void *val, socklen_t len)
{
	const char *choice;
	int err = choice_read(name, val, len, &choice);

	if (err)
		return err;
	lock_take(&ns->lock);
	if (nsock_mode(ns) != SK_NEW || ns->bound || ns->connecting || ns->s)
		err = -EISCONN;
	else
		__atomic_store_n(&ns->choice, choice, __ATOMIC_RELAXED);
	lock_give(&ns->lock);
	return err;
}

/* Who serves it; as long as nobody does, the choice. */
static const char *serves(struct nsock *ns)
{
	const char *choice = choice_of(ns);
	struct plug_sock *p;

	if (ns->proto == IPPROTO_UDP && sock_dgram_kernel_only(ns))
		return RD_STACK_KERNEL;
	switch (nsock_mode(ns)) {
	case SK_STREAM:
	case SK_DGRAM:
		return RD_STACK_DEFAULT;
	case SK_LISTEN:
		return nsock_session(ns) ? RD_STACK_DEFAULT : RD_STACK_KERNEL;
	case SK_PLUGIN:
		p = __atomic_load_n(&ns->plug, __ATOMIC_ACQUIRE);
		return p->m->conf->name;
	case SK_KERNEL:
		return RD_STACK_KERNEL;
	}
	return choice ? choice : "";
}

int sock_rd_get(struct nsock *ns, int name, void *val, socklen_t *len)
{
	const char *stack = serves(ns);
	const void *v = stack;
	socklen_t n = (socklen_t)strlen(stack) + 1;
	int mode = !strcmp(stack, RD_STACK_KERNEL) ? NSTACK_RD_OPT_KERNEL :
		   !strcmp(stack, RD_STACK_DEFAULT) ? NSTACK_RD_OPT_STACKPOOL : -1;

	if (name == NSTACK_RD_MODE) {
		v = &mode;
		n = sizeof(mode);
	}
	return sock_opt_out(v, n, val, len);
}
