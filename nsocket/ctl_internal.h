/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_internal.h - between the transport of the control socket and its answers */
#ifndef NSTACK_NSOCKET_CTL_INTERNAL_H
#define NSTACK_NSOCKET_CTL_INTERNAL_H

#include "ctl_server.h"

#include <cjson/cJSON.h>
#include <rd/json.h>
#include <sys/types.h>

#define CTL_CLIENTS 16u

struct ctl_client {
	int fd;                  /* -1: free */
	uid_t uid;               /* who is asking */
	pid_t pid;
	bool wants_out;          /* what epoll was told */
	bool dumping;            /* this client started the capture */
	bool pinging;            /* ping is one that runs */
	struct stack_ping ping;
	struct rd_rules *pending; /* prepared rules, malloc()ed */
	char *out;               /* a message that didn't fit into the socket yet */
	size_t out_len;
	/* The next part of a reply in parts; clears c->stream with the last one. */
	int (*stream)(struct ctl_server *s, struct ctl_client *c);
	uint64_t cursor;
	bool kernel_part;        /* of the list of sockets: the stack's are through */
};

struct ctl_server {
	const struct ctl_ops *ops;
	void *arg;
	pid_t pid;               /* who opened it */
	uid_t owner;             /* who is answered, beside root */
	int ep, listener, reload_fd;
	struct ctl_client client[CTL_CLIENTS];
	char msg[CTL_MSG_MAX];
};

/* What a request is about, for the function that answers it. */
struct ctl_request {
	struct ctl_server *s;
	struct ctl_client *c;
	const cJSON *json;
	int fd; /* -1: none, or taken */
};

/* Answer one request; fd: a descriptor that came along (owned by the callee), -1 = none.
 * 0, or -errno when the client is to be closed. */
int ctl_request(struct ctl_server *s, struct ctl_client *c, const char *msg, size_t len, int fd);
/* Send reply (freed; NULL: out of memory). */
int ctl_client_reply(struct ctl_client *c, cJSON *reply);

/* --- ctl_json.c: what answers are made of --------------------------------------------------------- */

cJSON *ctl_reply_new(bool ok);
/* Send {"ok": false, "error": text}. */
int ctl_reply_error(struct ctl_client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line in the log of operations: this client did that. */
void ctl_note(const struct ctl_client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void ctl_put_u64(cJSON *o, const char *key, uint64_t v)
{
	json_put_u64(o, key, v);
}
uint64_t ctl_get_u64(const cJSON *o, const char *key);   /* 0: not there, or out of range */
const char *ctl_get_str(const cJSON *o, const char *key); /* NULL: not there */

/* --- the answers of other files; as those in ctl_reply.c -------------------------------------------- */

int ctl_op_programs(struct ctl_request *q); /* ctl_programs.c */
int ctl_op_config(struct ctl_request *q);   /* ctl_config.c */
int ctl_op_config_set(struct ctl_request *q);
int ctl_op_ping_start(struct ctl_request *q); /* ctl_ping.c */
int ctl_op_ping_send(struct ctl_request *q);
int ctl_op_ping_answers(struct ctl_request *q);
/* The client goes. */
void ctl_ping_stop(struct ctl_server *s, struct ctl_client *c);

#endif
