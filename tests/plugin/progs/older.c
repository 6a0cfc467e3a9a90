/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in with the layout of an older nstack: fewer calls, and of the hooks only the first. */
#include <stdint.h>
#include <stddef.h>
#include <sys/socket.h>

#ifndef VERSION
#define VERSION 1
#endif

struct older_socket_ops {
	int (*pfsocket)(int, int, int);
	int (*pfbind)(int, const struct sockaddr *, socklen_t);
	int (*pflisten)(int, int);
	int (*pfshutdown)(int, int);
	int (*pfgetsockname)(int, struct sockaddr *, socklen_t *);
	int (*pfgetpeername)(int, struct sockaddr *, socklen_t *);
	int (*pfgetsockopt)(int, int, int, void *, socklen_t *);
	int (*pfsetsockopt)(int, int, int, const void *, socklen_t);
	int (*pfaccept)(int, struct sockaddr *, socklen_t *);
	int (*pfaccept4)(int, struct sockaddr *, socklen_t *, int);
	int (*pfconnect)(int, const struct sockaddr *, socklen_t);
};

struct older_extern_ops {
	int (*module_init)(void);
};

const struct {
	uint32_t version, socket_ops_size, extern_ops_size;
} nstack_plugin_abi_info = { VERSION, sizeof(struct older_socket_ops), sizeof(struct older_extern_ops) };

static int ready;

static int init(void)
{
	ready = 1;
	return 0;
}

static int older_socket(int domain, int type, int protocol)
{
	(void)domain, (void)type, (void)protocol;
	return ready ? 77 : -1;
}

static int older_connect(int s, const struct sockaddr *addr, socklen_t len)
{
	(void)addr, (void)len;
	return s == 77 ? 0 : -1;
}

struct older_proc_cb {
	struct older_socket_ops socket_ops;
	struct older_extern_ops extern_ops;
};

int older_stack_register(struct older_proc_cb *proc, void *event);
int newer_stack_register(struct older_proc_cb *proc, void *event);

int older_stack_register(struct older_proc_cb *proc, void *event)
{
	(void)event;
	proc->socket_ops.pfsocket = older_socket;
	proc->socket_ops.pfconnect = older_connect;
	proc->extern_ops.module_init = init;
	return 0;
}

int newer_stack_register(struct older_proc_cb *proc, void *event)
{
	return older_stack_register(proc, event);
}
