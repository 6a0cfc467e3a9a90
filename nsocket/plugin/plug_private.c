/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/plugin/plug_private.c - a plug-in's library for the second time, with variables of its own
 *
 * Two stacks of the configuration with the same library and function are two instances of one stack, which may
 * keep what it knows in static variables. The second one is loaded into a name space of the loader's of its
 * own, by dlmopen(), with all that it needs. Its libc is another copy, too: so its errno is read where that
 * copy keeps it, and this process has to have had a second thread, since ours would take a thread that the
 * other one starts for none. What is preloaded is not there, so what the instance calls is the kernel's anyway.
 *
 * Not possible for a library that is linked with nstack, which would be there twice, or that finds nstack's
 * functions in the program.
 *
 * Threads: plugin.c's load_lock.
 */
#define _GNU_SOURCE
#include "nsocket/plugin/plugin.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

static bool linked_with_us(const struct link_map *l)
{
	const char *names = NULL;

	for (const ElfW(Dyn) *d = l->l_ld; d->d_tag != DT_NULL; d++)
		if (d->d_tag == DT_STRTAB)
			names = (const char *)d->d_un.d_ptr;
	for (const ElfW(Dyn) *d = l->l_ld; names && d->d_tag != DT_NULL; d++)
		if (d->d_tag == DT_NEEDED && (strstr(names + d->d_un.d_val, "libnStack") ||
					      strstr(names + d->d_un.d_val, "libnsocket")))
			return true;
	return false;
}

static void *nothing(void *arg)
{
	return arg;
}

void *plug_open_private(void *shared, const char **why)
{
	struct link_map *l;
	pthread_t thread;
	void *own;

	*why = "its library can't be loaded twice: it is linked with nstack";
	if (dlinfo(shared, RTLD_DI_LINKMAP, &l) < 0 || linked_with_us(l))
		return NULL;
	*why = "no thread for a second instance";
	if (pthread_create(&thread, NULL, nothing, NULL))
		return NULL;
	pthread_join(thread, NULL);
	own = dlmopen(LM_ID_NEWLM, l->l_name, RTLD_NOW | RTLD_LOCAL);
	*why = own ? NULL : dlerror();
	return own;
}
