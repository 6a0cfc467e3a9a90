/* SPDX-License-Identifier: Apache-2.0 */
/* hal_dpdk/dpdk_load.c - finds and loads the plug-in that has DPDK in it
 *
 * It lies beside the library or the program that this code is in, or where `make install` puts it in
 * relation to that. RTLD_DEEPBIND: what DPDK calls is libc, also in a program whose calls libnsocket.so
 * intercepts; the sets of epoll of its thread are not the program's. (Its drivers it loads itself, without:
 * they open their sockets while the library starts, when all are the kernel's.)
 *
 * Threads: starting is serialised by the caller.
 */
#define _GNU_SOURCE
#include <hal_dpdk/dpdk_plugin.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct dpdk_plugin *plugin; /* loaded once, never unloaded: DPDK can't be */

/* Where the plug-in may be, from the folder of this code: also that of a program under tests/. */
static const char *const beside[] = { "", "../../", "../lib/", "../lib64/", "../lib/x86_64-linux-gnu/",
				      "../lib/aarch64-linux-gnu/", "nstack/" };

#ifdef __SANITIZE_ADDRESS__
#define MODE (RTLD_NOW | RTLD_LOCAL) /* the sanitizer refuses the other, since it replaces libc's functions */
#else
#define MODE (RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND)
#endif

static void *load(void)
{
	int folder;
	char path[512];
	void *so = NULL;
	Dl_info self;

	if (dladdr((void *)load, &self) && strrchr(self.dli_fname, '/')) {
		folder = (int)(strrchr(self.dli_fname, '/') + 1 - self.dli_fname);
		for (unsigned i = 0; !so && i < sizeof(beside) / sizeof(beside[0]); i++) {
			snprintf(path, sizeof(path), "%.*s%s" DPDK_PLUGIN_FILE, folder, self.dli_fname,
				 beside[i]);
			so = dlopen(path, MODE);
		}
	}
	return so ? so : dlopen(DPDK_PLUGIN_FILE, MODE);
}

static int plugin_get(char why[HAL_DPDK_WHY])
{
	const struct dpdk_plugin *p;
	void *so;

	if (plugin)
		return 0;
	so = load();
	if (!so) {
		snprintf(why, HAL_DPDK_WHY, "no DPDK: %.160s (is nstack built with it, and libdpdk installed?)",
			 dlerror());
		return -ENOSYS;
	}
	p = dlsym(so, DPDK_PLUGIN_SYMBOL);
	if (!p || p->version != DPDK_PLUGIN_VERSION || p->config_size != sizeof(struct hal_dpdk_config)) {
		snprintf(why, HAL_DPDK_WHY, DPDK_PLUGIN_FILE " is of another version of nstack");
		dlclose(so);
		return -EPROTO;
	}
	plugin = p;
	return 0;
}

int hal_dpdk_open(struct hal_port **out, const struct hal_dpdk_config *cfg, char why[HAL_DPDK_WHY])
{
	int err;

	*out = NULL;
	why[0] = 0;
	err = plugin_get(why);
	return err ? err : plugin->open(out, cfg, why);
}

void hal_dpdk_forget_after_fork(struct hal_port *port)
{
	plugin->forget(port);
}

bool hal_dpdk_link(struct hal_port *port)
{
	return plugin->link(port);
}

uint32_t hal_dpdk_sockets(struct hal_port *port, int *fds, uint32_t n)
{
	return plugin->sockets(port, fds, n);
}

bool hal_dpdk_thread_call(void (*fn)(void))
{
	return plugin && plugin->thread_call(fn);
}
