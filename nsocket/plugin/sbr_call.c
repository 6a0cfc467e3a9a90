/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/sbr_call.c - one call of a program's, done by the stack of this process
 *
 * Lengths are cut to what there is room for before anything else, and what decides is copied out of the area
 * first: the program may write there at any time. Only payload is read and written in place. The stack never
 * waits, whatever the program asks for: flags that are about waiting stay in the program. (SIGPIPE, too: the
 * host's thread has it blocked.)
 *
 * Threads: the host's.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/sbr.h"

#include <stdlib.h>

typedef int32_t serve_fn(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			 struct sbr_answer *a);

#define EVENTS (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLERR | EPOLLHUP | EPOLLRDHUP)
#define FLAGS_STAY (MSG_WAITALL | MSG_ZEROCOPY)
#define NO_DESCRIPTOR (-1) /* for a program's epoll descriptor: its number may be one of ours */

static uint32_t cut(uint32_t n, uint32_t room)
{
	return n < room ? n : room;
}

static const struct sockaddr *name_of(const struct sbr_call *c, socklen_t *len)
{
	*len = cut(c->name_len, sizeof(c->name));
	return *len ? (const struct sockaddr *)c->name : NULL;
}

static uint8_t *extra_of(const struct sbr_caller *who)
{
	return who->area + SBR_DATA;
}

/* What the program left there, as it is now. */
static void *extra_copy(const struct sbr_caller *who, uint32_t len)
{
	static _Alignas(16) uint8_t copy[SBR_EXTRA]; /* the host's one thread's */

	memcpy(copy, extra_of(who), len);
	return copy;
}

/* --- sockets and names -------------------------------------------------------------------------- */

static int32_t do_socket(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *none,
			 struct sbr_answer *a)
{
	int s;

	if ((c->arg != AF_INET && c->arg != AF_INET6) || (c->arg2 != SOCK_STREAM && c->arg2 != SOCK_DGRAM))
		return -EAFNOSUPPORT;
	s = (int)PLUG_CALL(who->m, socket_ops.pfsocket, c->arg, c->arg2, 0);
	return s < 0 ? s : sbr_number(who->prog, s);
}

static int32_t do_bind(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
		       struct sbr_answer *a)
{
	socklen_t len;
	const struct sockaddr *addr = name_of(c, &len);
	int err = addr ? sbr_may_bind(addr, len, who->privileged) : -EINVAL;

	return err ? err : (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfbind, -EOPNOTSUPP, h->p->s, addr, len);
}

static int32_t do_connect(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			  struct sbr_answer *a)
{
	socklen_t len;
	const struct sockaddr *addr = name_of(c, &len);

	if (!addr)
		return -EINVAL;
	__atomic_and_fetch(&h->p->ready, ~(uint32_t)EPOLLOUT, __ATOMIC_SEQ_CST);
	return (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfconnect, -EOPNOTSUPP, h->p->s, addr, len);
}

static int32_t do_listen(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			 struct sbr_answer *a)
{
	return plug_listen_call(h->p, c->arg);
}

struct connection {
	struct sockaddr_storage peer;
	socklen_t len;
};

static long try_accept(struct plug_sock *p, void *arg)
{
	struct connection *con = arg;

	return plug_take_connection(p, &con->peer, &con->len);
}

static int32_t do_accept(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			 struct sbr_answer *a)
{
	struct connection con = { .len = sizeof(con.peer) };
	long s = plug_try(h->p, EPOLLIN, try_accept, &con);

	if (s < 0)
		return (int32_t)s;
	a->name_len = cut(con.len, sizeof(a->name));
	memcpy(a->name, &con.peer, a->name_len);
	return sbr_number(who->prog, (int)s);
}

static int32_t do_shutdown(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			   struct sbr_answer *a)
{
	return (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfshutdown, -EOPNOTSUPP, h->p->s, c->arg);
}

static int32_t do_name(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
		       struct sbr_answer *a)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr *addr = (struct sockaddr *)&ss;
	socklen_t len = sizeof(ss);
	int32_t r;

	if (c->op == SBR_GETPEERNAME)
		r = (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfgetpeername, -EOPNOTSUPP, h->p->s, addr, &len);
	else
		r = (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfgetsockname, -EOPNOTSUPP, h->p->s, addr, &len);
	a->name_len = r < 0 ? 0 : cut(len, sizeof(a->name));
	memcpy(a->name, &ss, a->name_len);
	return r;
}

static int32_t do_close(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			struct sbr_answer *a)
{
	sbr_close(who->prog, h, c->arg == 1);
	return 0;
}

/* --- options -------------------------------------------------------------------------------------- */

static int32_t do_setsockopt(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			     struct sbr_answer *a)
{
	uint32_t len = cut(c->len, SBR_EXTRA);
	void *val = extra_copy(who, len);
	int err = sbr_may_set(c->arg, c->arg2, val, len, who->privileged);

	sbr_no_linger(c->arg, c->arg2, val, len);
	return err ? err : (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfsetsockopt, -EOPNOTSUPP, h->p->s, c->arg,
						 c->arg2, val, len);
}

static int32_t do_getsockopt(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			     struct sbr_answer *a)
{
	socklen_t room = cut(c->len, SBR_EXTRA), len = room;
	int32_t r = sbr_may_get(c->arg, c->arg2);
	void *val = extra_copy(who, room); /* some read what is there */

	if (!r)
		r = (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfgetsockopt, -EOPNOTSUPP, h->p->s, c->arg, c->arg2,
					  val, &len);
	a->len = r < 0 ? 0 : cut(len, room);
	memcpy(extra_of(who), val, a->len);
	return r;
}

static int32_t do_ioctl(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			struct sbr_answer *a)
{
	int size = sbr_ioctl_size(c->token);
	void *val;
	int32_t r;

	if (size < 0 || c->len != (uint32_t)size)
		return -ENOTTY;
	val = extra_copy(who, c->len);
	r = (int32_t)PLUG_CALL_OR(who->m, socket_ops.pfioctl, -ENOTTY, h->p->s, c->token, (unsigned long)val);
	memcpy(extra_of(who), val, c->len);
	a->len = c->len;
	return r;
}

static int32_t do_getfl(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			struct sbr_answer *a)
{
	return (int32_t)PLUG_CALL_OR(who->m, socket_ops.pffcntl, -EINVAL, h->p->s, F_GETFL, 0);
}

static int32_t do_peak(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
		       struct sbr_answer *a)
{
	return (int32_t)PLUG_CALL_OR(who->m, extern_ops.peak, -EOPNOTSUPP, h->p->s);
}

/* --- data ------------------------------------------------------------------------------------- */

static int32_t do_send(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
		       struct sbr_answer *a)
{
	struct iovec iov = { who->area, cut(c->len, SBR_DATA) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_controllen = cut(c->extra_len, SBR_EXTRA) };
	int err;

	msg.msg_name = (void *)name_of(c, &msg.msg_namelen);
	if (msg.msg_controllen)
		msg.msg_control = extra_copy(who, (uint32_t)msg.msg_controllen);
	err = sbr_may_send(&msg, who->privileged);
	return err ? err : (int32_t)plug_send_once(h->p, &msg, c->arg & ~FLAGS_STAY);
}

static int32_t do_recv(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
		       struct sbr_answer *a)
{
	static _Alignas(16) uint8_t control[SBR_EXTRA]; /* the host's one thread's */
	struct iovec iov = { who->area, cut(c->len, SBR_DATA) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_controllen = cut(c->extra_len, SBR_EXTRA) };
	int32_t r;

	if (c->arg2) {
		msg.msg_name = a->name;
		msg.msg_namelen = sizeof(a->name);
	}
	if (msg.msg_controllen)
		msg.msg_control = memset(control, 0, msg.msg_controllen);
	r = (int32_t)plug_recv_once(h->p, &msg, c->arg & ~FLAGS_STAY);
	if (r < 0)
		return r;
	a->name_len = c->arg2 ? cut(msg.msg_namelen, sizeof(a->name)) : 0;
	a->extra_len = cut((uint32_t)msg.msg_controllen, cut(c->extra_len, SBR_EXTRA));
	a->flags = (uint32_t)msg.msg_flags;
	memcpy(extra_of(who), control, a->extra_len);
	return r;
}

/* --- events ----------------------------------------------------------------------------------- */

/* What all who have the socket want has changed: tell the stack, which answers what is ready now. */
static unsigned ask(const struct sbr_caller *who, struct plug_sock *p, uint32_t all)
{
	struct epoll_event ev = { .events = all, .data.fd = p->s };
	int op = !all ? nstack_ep_triggle_del : p->asked ? nstack_ep_triggle_mod : nstack_ep_triggle_add;
	uint32_t before = p->asked;
	unsigned now;
	long r;

	__atomic_store_n(&p->asked, all, __ATOMIC_RELAXED);
	plug_enter(who->m);
	errno = EIO;
	now = who->m->cb.extern_ops.ep_ctl(NO_DESCRIPTOR, p->s, op, all ? &ev : NULL, p);
	r = now == (unsigned)-1 ? -errno : (long)(now & EVENTS);
	plug_leave(who->m);
	if (r < 0)
		__atomic_store_n(&p->asked, before, __ATOMIC_RELAXED);
	else
		__atomic_or_fetch(&p->ready, (uint32_t)r & all, __ATOMIC_SEQ_CST);
	return (unsigned)r;
}

static int32_t do_ep_ctl(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			 struct sbr_answer *a)
{
	bool ends = c->arg2 == nstack_ep_triggle_del;
	uint32_t all = sbr_ask(h, ends ? 0 : ((uint32_t)c->arg3 & EVENTS) | EPOLLERR | EPOLLHUP);

	if (!all && !h->p->asked)
		return 0;
	return (int32_t)ask(who, h->p, all);
}

static int32_t do_ep_getevt(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *h,
			    struct sbr_answer *a)
{
	return (int32_t)plug_look(h->p, (uint32_t)c->arg3 & EVENTS);
}

static int32_t do_prewait(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_holder *none,
			  struct sbr_answer *a)
{
	PLUG_CALL_OR(who->m, extern_ops.ep_prewait_proc, 0, NO_DESCRIPTOR);
	plug_work(who->m);
	return 0;
}

/* --- which ------------------------------------------------------------------------------------ */

static const struct {
	serve_fn *fn;
	bool no_socket;
} calls[SBR_OP_NR_] = {
	[SBR_SOCKET] = { do_socket, true },      [SBR_BIND] = { do_bind },
	[SBR_CONNECT] = { do_connect },          [SBR_LISTEN] = { do_listen },
	[SBR_ACCEPT] = { do_accept },            [SBR_SHUTDOWN] = { do_shutdown },
	[SBR_GETSOCKNAME] = { do_name },         [SBR_GETPEERNAME] = { do_name },
	[SBR_GETSOCKOPT] = { do_getsockopt },    [SBR_SETSOCKOPT] = { do_setsockopt },
	[SBR_IOCTL] = { do_ioctl },              [SBR_GETFL] = { do_getfl },
	[SBR_SEND] = { do_send },                [SBR_RECV] = { do_recv },
	[SBR_CLOSE] = { do_close },              [SBR_EP_CTL] = { do_ep_ctl },
	[SBR_EP_GETEVT] = { do_ep_getevt },      [SBR_PREWAIT] = { do_prewait, true },
	[SBR_PEAK] = { do_peak },
};

void sbr_serve(const struct sbr_caller *who, const struct sbr_call *c, struct sbr_answer *a, int *claim)
{
	struct sbr_holder *h;

	*claim = -1;
	*a = (struct sbr_answer){ .result = -EOPNOTSUPP };
	if (c->op == SBR_FORK) {
		a->result = sbr_fork(who->prog, a, claim);
		return;
	}
	if (c->op >= SBR_OP_NR_ || !calls[c->op].fn)
		return;
	h = calls[c->op].no_socket ? NULL : sbr_holder(who->prog, c->s);
	/* a number that is none: of a socket that a thread opened while another one forked */
	a->result = h || calls[c->op].no_socket ? calls[c->op].fn(who, c, h, a) : -ECONNRESET;
}
