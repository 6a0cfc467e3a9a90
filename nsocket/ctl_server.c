/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_server.c - connections, requests and replies of the control socket
 *
 * One epoll descriptor holds the listener, the clients and the doorbell of the reload signal. A
 * client has at most one message waiting to be sent and at most one reply in parts under way;
 * until both are done it is not read from, so a slow client costs one buffer and delays nobody.
 * Requests are foreign bytes: bounded, parsed by cJSON, every member checked by type.
 *
 * Threads: that of ctl_server_run(). What the questions mean is in ctl_reply.c.
 */
#define _GNU_SOURCE
#include "ctl_internal.h"

#include <rd/alarm.h>
#include <rd/config.h>
#include <rd/log.h>
#include <rd/sys.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* Written by the signal handler only; one per process, as signal dispositions are. */
static int reload_fd = -1;

static void on_reload(int sig)
{
	uint64_t one = 1;

	sys_write(reload_fd, &one, sizeof(one));
}

/* Only where the program left the default: its own handler always comes first. */
static int reload_open(struct ctl_server *s)
{
	int sig = rd_config()->reload_signal;
	struct sigaction now, ours = { .sa_handler = on_reload, .sa_flags = SA_RESTART };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &s->reload_fd };

	if (!sig || sigaction(sig, NULL, &now))
		return 0;
	if (now.sa_handler != SIG_DFL && now.sa_handler != on_reload) {
		ns_log(NS_WAR, NS_M_CTL, "reload_signal: the program handles signal %d itself", sig);
		return 0;
	}
	s->reload_fd = sys_fd_high((int)SYS_CALL_(SYS_eventfd2, 0, O_CLOEXEC | O_NONBLOCK));
	if (s->reload_fd < 0)
		return s->reload_fd;
	reload_fd = s->reload_fd;
	sigaction(sig, &ours, NULL);
	return sys_epoll_ctl(s->ep, EPOLL_CTL_ADD, s->reload_fd, &ev);
}

int ctl_server_rules(struct ctl_server *s, const struct rd_rules *r, const char *name)
{
	int ret;

	if (s->ops->pin_flows)
		s->ops->pin_flows(s->arg);
	ret = s->ops->rules_install ? s->ops->rules_install(s->arg, r) : 0;
	if (!ret)
		ret = rd_rules_publish(r);
	if (!ret && s->ops->rules_changed)
		s->ops->rules_changed(s->arg);
	if (ret)
		ns_log(NS_ERR, NS_M_RD, "reload of %s: %s", name, strerror(-ret));
	else
		ns_log(NS_INF, NS_M_RD, "reload: %u rules of %s in force", r->n, name);
	return ret;
}

static void refused(const char *err)
{
	ns_log(NS_ERR, NS_M_RD, "reload: %s (the old rules stay)", err);
	ns_alarm_raise(NS_ALARM_CONFIG_REFUSED, "%.200s", err);
}

void ctl_server_reload(struct ctl_server *s)
{
	struct rd_rules *r = malloc(sizeof(*r));
	const struct ns_config *c = rd_config();
	char err[RD_ERR];

	ns_log_reopen();
	if (r && !c->rules_path)
		ns_log(NS_ERR, NS_M_RD, "reload: the configuration names no rule file");
	else if (r && rd_rules_load(c->rules_path, r, err))
		refused(err);
	else if (r && !ctl_server_rules(s, r, c->rules_path))
		ns_alarm_clear(NS_ALARM_CONFIG_REFUSED);
	free(r);
}

static void reload_wanted(struct ctl_server *s)
{
	uint64_t count;

	sys_read(s->reload_fd, &count, sizeof(count));
	ctl_server_reload(s);
}

/* --- clients ------------------------------------------------------------------------------- */

static void client_close(struct ctl_server *s, struct ctl_client *c)
{
	uint64_t packets, lost;

	if (c->fd < 0)
		return;
	if (c->dumping && s->ops->dump_stop)
		s->ops->dump_stop(s->arg, &packets, &lost);
	ctl_ping_stop(s, c);
	sys_close(c->fd);
	free(c->pending);
	free(c->out);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static void client_want(struct ctl_server *s, struct ctl_client *c)
{
	bool out = c->out || c->stream;
	struct epoll_event ev = { .events = out ? EPOLLOUT : EPOLLIN, .data.ptr = c };

	if (out == c->wants_out)
		return;
	c->wants_out = out;
	sys_epoll_ctl(s->ep, EPOLL_CTL_MOD, c->fd, &ev);
}

/* Only root and the user who owns the process are answered. */
static bool peer_allowed(const struct ctl_server *s, int fd, struct ucred *cred)
{
	socklen_t len = sizeof(*cred);

	if (sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, cred, &len))
		return false;
	return cred->uid == 0 || cred->uid == s->owner;
}

/* Whose the process is, as for tracing it: a daemon that gives up root later, or has taken on a
 * user's effective id for a while, is not that user's. */
static uid_t owner_of_process(void)
{
	uid_t real, eff, saved;

	return !getresuid(&real, &eff, &saved) && real == eff && real == saved ? real : 0;
}

static void client_accept(struct ctl_server *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd = sys_fd_high(sys_accept4(s->listener, SOCK_NONBLOCK | SOCK_CLOEXEC));
	struct ctl_client *c = NULL;
	struct ucred cred;

	if (fd < 0)
		return;
	for (unsigned i = 0; i < CTL_CLIENTS && !c; i++) {
		if (s->client[i].fd < 0)
			c = &s->client[i];
	}
	ev.data.ptr = c;
	if (!c || !peer_allowed(s, fd, &cred) || sys_epoll_ctl(s->ep, EPOLL_CTL_ADD, fd, &ev)) {
		sys_close(fd);
		return;
	}
	c->fd = fd;
	c->uid = cred.uid;
	c->pid = cred.pid;
}

/* 0, or -errno when the client is lost. */
static int client_send(struct ctl_client *c, char *msg, size_t len)
{
	struct iovec iov = { msg, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = sys_sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n == -EAGAIN) {
		c->out = msg;
		c->out_len = len;
		return 0;
	}
	free(msg);
	return n < 0 ? (int)n : 0;
}

int ctl_client_reply(struct ctl_client *c, cJSON *reply)
{
	char *msg = malloc(CTL_MSG_MAX);
	int ret = -ENOMEM;

	if (!msg || !reply)
		goto out;
	if (!cJSON_PrintPreallocated(reply, msg, CTL_MSG_MAX, 0))
		snprintf(msg, CTL_MSG_MAX, "{\"ok\":false,\"error\":\"the reply is too large\"}");
	ret = client_send(c, msg, strlen(msg));
	msg = NULL;
out:
	free(msg);
	cJSON_Delete(reply);
	return ret;
}

/* A message into s->msg; *fd: a descriptor that came along, -1 = none. Length, 0 = end, -errno. */
static ssize_t client_receive(struct ctl_server *s, struct ctl_client *c, int *fd)
{
	struct iovec iov = { s->msg, CTL_MSG_MAX };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = sys_recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cm;

	*fd = -1;
	if (n < 0)
		return n;
	for (cm = CMSG_FIRSTHDR(&m); cm; cm = CMSG_NXTHDR(&m, cm)) {
		int fds[8];
		size_t count;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cm), (count > 8 ? 8 : count) * sizeof(int));
		for (size_t i = 0; i < count && i < 8; i++) {
			if (*fd < 0)
				*fd = sys_fd_high(fds[i]);
			else
				sys_close(fds[i]);
		}
	}
	return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

static void client_run(struct ctl_server *s, struct ctl_client *c, uint32_t events)
{
	int ret = 0, fd;
	ssize_t n;

	if (c->out) {
		char *msg = c->out;

		c->out = NULL;
		ret = client_send(c, msg, c->out_len);
	} else if (c->stream) {
		ret = c->stream(s, c);
	} else if (events & EPOLLIN) {
		n = client_receive(s, c, &fd);
		if (n == -EAGAIN || n == -EINTR)
			return;
		ret = n <= 0 ? -EPIPE : ctl_request(s, c, s->msg, (size_t)n, fd);
	} else {
		ret = -EPIPE;
	}
	if (ret)
		client_close(s, c);
	else
		client_want(s, c);
}

/* --- life ------------------------------------------------------------------------------------ */

static int listener_open(struct ctl_server *s)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &s->listener };
	int n, ret;

	s->listener = sys_fd_high(sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	if (s->listener < 0)
		return s->listener;
	n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, CTL_NAME_PREFIX "%d", (int)getpid());
	ret = sys_bind(s->listener, (struct sockaddr *)&sa,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n));
	if (!ret)
		ret = sys_listen(s->listener, CTL_CLIENTS);
	return ret ? ret : sys_epoll_ctl(s->ep, EPOLL_CTL_ADD, s->listener, &ev);
}

int ctl_server_open(struct ctl_server **out, const struct ctl_ops *ops, void *arg)
{
	struct ctl_server *s = calloc(1, sizeof(*s));
	int ret;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->ops = ops;
	s->arg = arg;
	s->owner = owner_of_process();
	s->listener = s->reload_fd = -1;
	for (unsigned i = 0; i < CTL_CLIENTS; i++)
		s->client[i].fd = -1;
	s->ep = sys_fd_high(sys_epoll_create());
	ret = s->ep < 0 ? s->ep : listener_open(s);
	if (!ret)
		ret = reload_open(s);
	if (ret) {
		ctl_server_close(s);
		return ret;
	}
	s->pid = getpid();
	*out = s;
	return 0;
}

void ctl_server_close(struct ctl_server *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < CTL_CLIENTS; i++) {
		if (s->pid != getpid())
			s->client[i].dumping = s->client[i].pinging = false; /* the parent's go on */
		client_close(s, &s->client[i]);
	}
	if (s->reload_fd >= 0) {
		reload_fd = -1;
		sys_close(s->reload_fd);
	}
	if (s->listener >= 0)
		sys_close(s->listener);
	if (s->ep >= 0)
		sys_close(s->ep);
	free(s);
}

int ctl_server_fd(const struct ctl_server *s)
{
	return s->ep;
}

bool ctl_server_owns(const struct ctl_server *s, int fd)
{
	if (!s || fd < 0)
		return false;
	for (unsigned i = 0; i < CTL_CLIENTS; i++) {
		if (s->client[i].fd == fd)
			return true;
	}
	return fd == s->ep || fd == s->listener || fd == s->reload_fd;
}

void ctl_server_run(struct ctl_server *s)
{
	struct epoll_event ev[CTL_CLIENTS];
	int n = sys_epoll_poll(s->ep, ev, CTL_CLIENTS);

	for (int i = 0; i < n; i++) {
		if (ev[i].data.ptr == &s->listener)
			client_accept(s);
		else if (ev[i].data.ptr == &s->reload_fd)
			reload_wanted(s);
		else
			client_run(s, ev[i].data.ptr, ev[i].events);
	}
}
