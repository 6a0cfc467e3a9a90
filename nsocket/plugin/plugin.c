/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plugin.c - the plug-in stacks of this process
 *
 * Loaded at the first socket() of a process whose configuration has any: each is opened and registers
 * itself, then those that did are initialised, in the order of the configuration. One that fails, or
 * crashes in its initialisation, is not used; one line of log says why, and what rules give to it is the
 * kernel's.
 *
 * Versions: the plug-in fills the structures in the layout that it was compiled with. They have room here
 * for any layout, and the members are taken from where that layout has them.
 *
 * Threads: loading under load_lock; the table is constant afterwards.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <nsocket/init.h>
#include <nsocket/plugin/sbr.h>
#include <rd/alarm.h>
#include <rd/config.h>
#include <rd/log.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__thread struct plug_module *plug_current;
uint32_t plug_count;
static struct plug_module modules[RD_MODULES_MAX];
static uint32_t nmodules;
static bool loaded; /* atomic */
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- calls -------------------------------------------------------------------------------------- */

void plug_enter(struct plug_module *m)
{
	init_enter();
	if (m->serial)
		lock_take(&m->lock);
	plug_current = m;
}

bool plug_try_enter(struct plug_module *m)
{
	init_enter();
	if (m->serial && !lock_try(&m->lock)) {
		init_leave();
		return false;
	}
	plug_current = m;
	return true;
}

void plug_leave(struct plug_module *m)
{
	if (m->serial)
		lock_give(&m->lock);
	init_leave();
}

/* --- a first call that may crash ------------------------------------------------------------------ */

static const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
#define N_CRASHES (sizeof(crashes) / sizeof(crashes[0]))
static __thread sigjmp_buf *guard; /* where this thread goes on */
static struct sigaction crash_before[N_CRASHES]; /* load_lock */

static void on_crash(int sig)
{
	if (guard)
		siglongjmp(*guard, sig);
	/* another thread's: as if we were not there */
	for (size_t i = 0; i < N_CRASHES; i++)
		if (crashes[i] == sig)
			libc.sigaction(sig, &crash_before[i], NULL);
	if (sig == SIGABRT)
		raise(sig);
}

struct first_call {
	nstack_stack_register_fn reg; /* or: */
	int (*init)(void);
	nstack_proc_cb *cb;
	nstack_event_cb *event;
	int result;
};

/* 0, or the signal that ended it. */
static int call_guarded(struct first_call *c)
{
	struct sigaction act = { .sa_handler = on_crash, .sa_flags = SA_NODEFER };
	sigjmp_buf here;
	int sig;

	for (size_t i = 0; i < N_CRASHES; i++)
		libc.sigaction(crashes[i], &act, &crash_before[i]);
	sig = sigsetjmp(here, 1);
	if (!sig) {
		guard = &here;
		c->result = c->reg ? c->reg(c->cb, c->event) : c->init();
	}
	guard = NULL;
	for (size_t i = 0; i < N_CRASHES; i++)
		libc.sigaction(crashes[i], &crash_before[i], NULL);
	return sig;
}

/* --- loading ---------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool unusable(const struct plug_module *m, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	ns_log_fallback("stack \"%s\" is not used: %s", m->conf->name, why);
	ns_alarm_raise(NS_ALARM_PLUGIN_OFF, "stack \"%s\": %s", m->conf->name, why);
	return false;
}

/* nstack's own plug-ins are beside the library; others where the loader looks. */
static void *open_by_name(const char *name)
{
	char path[PATH_MAX];
	const char *slash;
	Dl_info us;

	if (!strchr(name, '/') && dladdr(open_by_name, &us) && (slash = strrchr(us.dli_fname, '/'))) {
		snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - us.dli_fname), us.dli_fname, name);
		if (access(path, F_OK) == 0)
			return dlopen(path, RTLD_NOW | RTLD_LOCAL);
	}
	return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

/* Is the stack there already, so that this is to be another instance of it? */
static bool second_instance(const struct plug_module *m)
{
	for (const struct plug_module *o = modules; o < m; o++)
		if (o->handle == m->handle && !strcmp(o->conf->function, m->conf->function))
			return true;
	return false;
}

static bool open_instance(struct plug_module *m)
{
	const char *why;
	void *own = plug_open_private(m->handle, &why);

	dlclose(m->handle);
	m->handle = own;
	if (!own)
		return unusable(m, "%s", why);
	m->errno_at = (int *(*)(void))dlsym(own, "__errno_location");
	return true;
}

static bool open_library(struct plug_module *m, nstack_stack_register_fn *reg)
{
	m->handle = m->conf->library ? open_by_name(m->conf->library) : RTLD_DEFAULT;
	if (m->conf->library && !m->handle)
		return unusable(m, "%s", dlerror());
	if (m->conf->library && second_instance(m) && !open_instance(m))
		return false;
	*reg = (nstack_stack_register_fn)dlsym(m->handle, m->conf->function);
	return *reg || unusable(m, "%s has no function %s()", m->conf->library ? m->conf->library :
				"the program", m->conf->function);
}

#define LAYOUT_ROOM 4096u
static uint32_t smaller(uint32_t a, size_t b)
{
	return a < b ? a : (uint32_t)b;
}

/* From the plug-in's layout to ours. */
static bool take(struct plug_module *m, const char *filled)
{
	const nstack_plugin_abi *abi = dlsym(m->handle, "nstack_plugin_abi_info");
	uint32_t sockets = abi ? abi->socket_ops_size : sizeof(nstack_socket_ops);
	uint32_t ext = abi ? abi->extern_ops_size : sizeof(nstack_extern_ops);

	if (sockets > LAYOUT_ROOM / 2 || ext > LAYOUT_ROOM / 2 || (abi && abi->version > NSTACK_PLUGIN_ABI))
		return unusable(m, "it was built for a newer nstack");
	memcpy(&m->cb.socket_ops, filled, smaller(sockets, sizeof(m->cb.socket_ops)));
	memcpy(&m->cb.extern_ops, filled + sockets, smaller(ext, sizeof(m->cb.extern_ops)));
	if (!m->cb.socket_ops.pfsocket)
		return unusable(m, "it has no socket()");
	return true;
}

/* Whose library another process has. */
static bool link_module(struct plug_module *m)
{
	return sbr_link_open(m) || unusable(m, "%s", strerror(ENOMEM));
}

static bool register_module(struct plug_module *m)
{
	static _Alignas(16) char filled[LAYOUT_ROOM]; /* load_lock */
	nstack_event_cb event = { .type = (int)m->conf->id, .event_cb = plug_event };
	struct first_call c = { .cb = (nstack_proc_cb *)filled, .event = &event };
	nstack_plugin_configure_fn configure;
	int sig;

	if (!open_library(m, &c.reg))
		return false;
	configure = (nstack_plugin_configure_fn)dlsym(m->handle, "nstack_plugin_configure");
	if (configure)
		configure(m->conf->name, m->conf->options);
	event.handle = m->handle;
	memset(filled, 0, sizeof(filled));
	sig = call_guarded(&c);
	if (sig)
		return unusable(m, "%s() crashed (%s)", m->conf->function, strsignal(sig));
	if (c.result)
		return unusable(m, "%s() answered %d", m->conf->function, c.result);
	return take(m, filled);
}

static bool init_module(struct plug_module *m)
{
	struct first_call c = { .init = m->cb.extern_ops.module_init };
	int sig = c.init ? call_guarded(&c) : 0;

	if (sig)
		return unusable(m, "its module_init() crashed (%s)", strsignal(sig));
	if (c.result)
		return unusable(m, "its module_init() answered %d", c.result);
	m->serial = m->cb.extern_ops.run || m->cb.extern_ops.ep_prewait;
	pthread_mutex_init(&m->lock, NULL);
	__atomic_store_n(&m->usable, true, __ATOMIC_RELEASE);
	ns_log(NS_INF, NS_M_NSOCKET, "stack \"%s\" is %s", m->conf->name, m->link ? "another process's" : "there");
	return true;
}

static bool elsewhere(const struct rd_module *conf)
{
	return conf->deploy == NSTACK_MODEL_TYPE3 && !sbr_hosts(conf);
}

static void load_all(const struct rd_modules *ms)
{
	bool registered[RD_MODULES_MAX] = { false };
	uint32_t n = 0, usable = 0;

	for (uint32_t i = 0; i < ms->n; i++) {
		if (rd_module_builtin(&ms->m[i]))
			continue;
		modules[n].conf = &ms->m[i];
		registered[n] = elsewhere(&ms->m[i]) ? link_module(&modules[n]) : register_module(&modules[n]);
		n++;
	}
	for (uint32_t i = 0; i < n; i++)
		usable += registered[i] && init_module(&modules[i]);
	nmodules = n;
	__atomic_store_n(&plug_count, usable, __ATOMIC_RELEASE);
}

void plug_load(void)
{
	if (__atomic_load_n(&loaded, __ATOMIC_ACQUIRE) || init_inside())
		return;
	lock_take(&load_lock);
	if (!loaded) {
		init_enter();
		if (rd_config()->modules)
			load_all(rd_config()->modules);
		init_leave();
		__atomic_store_n(&loaded, true, __ATOMIC_RELEASE);
	}
	lock_give(&load_lock);
}

bool plug_loaded(void)
{
	return __atomic_load_n(&loaded, __ATOMIC_ACQUIRE);
}

void plug_load_none(void)
{
	lock_take(&load_lock);
	__atomic_store_n(&loaded, true, __ATOMIC_RELEASE);
	lock_give(&load_lock);
}

/* Their libraries stay: what was initialised may have threads. */
void plug_unload(void)
{
	lock_take(&load_lock);
	__atomic_store_n(&plug_count, 0, __ATOMIC_RELEASE);
	nmodules = 0;
	memset(modules, 0, sizeof(modules));
	__atomic_store_n(&loaded, false, __ATOMIC_RELEASE);
	lock_give(&load_lock);
}

/* --- looking up ------------------------------------------------------------------------------- */

struct plug_module *plug_at(uint32_t i)
{
	return i < nmodules ? &modules[i] : NULL;
}

struct plug_module *plug_choose(const struct nsock *ns, const struct nst_addr *local,
				const struct nst_addr *remote)
{
	char name[RD_STACK_NAME];

	if (!nsock_lookup_name(ns, local, remote, name))
		return NULL;
	for (uint32_t i = 0; i < nmodules; i++)
		/* acquire: pairs with init_module() */
		if (!strcmp(modules[i].conf->name, name) && __atomic_load_n(&modules[i].usable, __ATOMIC_ACQUIRE))
			return &modules[i];
	return NULL;
}

static bool listener_lost(struct nsock *ns, struct plug_module *m)
{
	bool lost = false;

	lock_take(&ns->lock);
	for (struct plug_sock *p = ns->plug; p; p = p->next)
		if (p->m == m && p->listens && p->s >= 0 && sbr_link_lost(m, p->s))
			lost |= !plug_listen_again(ns, p);
	lock_give(&ns->lock);
	return lost;
}

bool plug_listeners_lost(struct plug_module *m)
{
	struct nfile *f;
	bool lost = false;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd);
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_of(f)->plug && nfile_fd(f) == fd)
			lost |= listener_lost(nsock_of(f), m);
		nfile_put(f);
	}
	return lost;
}

/* --- forks and the end ------------------------------------------------------------------------ */

typedef void each_fn(struct plug_sock *p, int fd, pid_t parent);

/* Of the table's sockets, each once: the number is one of its descriptors. */
static void each_socket(each_fn *fn, pid_t parent)
{
	struct nfile *f;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		f = fd_is_protected(fd) ? NULL : fd_get(fd); /* other threads may close it meanwhile */
		if (!f)
			continue;
		if (f->kind == NF_SOCK && nsock_of(f)->plug && nfile_fd(f) == fd)
			for (struct plug_sock *p = nsock_of(f)->plug; p; p = p->next)
				if (p->s >= 0)
					fn(p, fd, parent);
		nfile_put(f);
	}
}

static void parent_fd(struct plug_sock *p, int fd, pid_t parent)
{
	if (p->m->cb.extern_ops.fork_parent_fd) {
		plug_enter(p->m);
		p->m->cb.extern_ops.fork_parent_fd(p->s, parent);
		plug_leave(p->m);
	}
}

static void links(void (*fn)(struct plug_module *m))
{
	for (uint32_t i = 0; plug_any() && i < nmodules; i++)
		if (modules[i].link)
			fn(&modules[i]);
}

void plug_fork_prepare(void)
{
	links(sbr_link_fork_prepare);
	if (plug_any())
		each_socket(parent_fd, getpid());
}

void plug_fork_parent(void)
{
	links(sbr_link_fork_parent);
}

/* The stack goes on in the child, as far as its hooks do that. */
static bool follows(struct plug_module *m, pid_t parent)
{
	const nstack_extern_ops *x = &m->cb.extern_ops;

	if (m->link) {
		sbr_link_fork_child(m);
		return true;
	}
	if (!x->module_init_child && !x->fork_init_child)
		return false;
	if (x->module_init_child && PLUG_CALL(m, extern_ops.module_init_child))
		return unusable(m, "its module_init_child() failed");
	if (x->fork_init_child && PLUG_CALL(m, extern_ops.fork_init_child, parent, getpid()))
		return unusable(m, "its fork_init_child() failed");
	return true;
}

static void child_fd(struct plug_sock *p, int fd, pid_t parent)
{
	struct nsock *ns = p->ns;
	int flags = libc.fcntl(fd, F_GETFD, 0);

	p->asked = p->ready = 0;
	if (!p->m->usable) { /* the parent's, for ever */
		p->s = -1;
		if (ns->mode == SK_PLUGIN)
			ns->mode = SK_LOST;
		return;
	}
	p->inherited = flags >= 0 && (flags & FD_CLOEXEC);
	if (p->m->cb.extern_ops.fork_child_fd) {
		plug_enter(p->m);
		p->m->cb.extern_ops.fork_child_fd(p->s, parent, getpid());
		plug_leave(p->m);
	}
}

void plug_fork_child(void)
{
	uint32_t usable = 0;
	pid_t parent = getppid();

	if (!plug_any())
		return;
	pthread_mutex_init(&load_lock, NULL);
	plug_run_fork_child();
	for (uint32_t i = 0; i < nmodules; i++) {
		pthread_mutex_init(&modules[i].lock, NULL);
		if (modules[i].usable)
			usable += modules[i].usable = follows(&modules[i], parent);
	}
	each_socket(child_fd, parent);
	plug_count = usable;
}

static void end_fd(struct plug_sock *p, int fd, pid_t parent)
{
	if (!p->m->link || sbr_link_dialled(p->m))
		plug_close(p);
}

void plug_exit(void)
{
	if (plug_any())
		each_socket(end_fd, 0);
}
