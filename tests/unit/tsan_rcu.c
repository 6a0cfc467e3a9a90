/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/tsan_rcu.c - tell ThreadSanitizer what liburcu guarantees
 *
 * The library is not instrumented, so the sanitizer would take every RCU hand-over for a race.
 * Linked with --wrap (TSAN_RCU_LDFLAGS in tests/events/module.mk), these say: a pointer that was
 * published is complete for who finds it, and a callback runs after every read side that had
 * begun before call_rcu(). Only for SAN=thread; empty otherwise.
 */
#ifdef __SANITIZE_THREAD__
#include <stdlib.h>
#include <urcu-bp.h>

void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

static char published, ended;

void __real_urcu_bp_read_unlock(void);
void __wrap_urcu_bp_read_unlock(void);
void __wrap_urcu_bp_read_unlock(void)
{
	__tsan_release(&ended);
	__real_urcu_bp_read_unlock();
}

void *__real_rcu_set_pointer_sym(void **p, void *v);
void *__wrap_rcu_set_pointer_sym(void **p, void *v);
void *__wrap_rcu_set_pointer_sym(void **p, void *v)
{
	__tsan_release(&published);
	return __real_rcu_set_pointer_sym(p, v);
}

void *__real_rcu_dereference_sym(void *p);
void *__wrap_rcu_dereference_sym(void *p);
void *__wrap_rcu_dereference_sym(void *p)
{
	__tsan_acquire(&published);
	return __real_rcu_dereference_sym(p);
}

/* The fd table publishes by an atomic exchange, and finds by rcu_dereference(). */
struct nfile;
int __real_fd_install(int fd, struct nfile *f);
int __wrap_fd_install(int fd, struct nfile *f);
int __wrap_fd_install(int fd, struct nfile *f)
{
	__tsan_release(&published);
	return __real_fd_install(fd, f);
}

/* Left over: links and table entries that liburcu's macros read or write plainly (volatile).
 * Suppressing needs both stacks, so keep a long history. In a forked child call_rcu() has its thread
 * made anew. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "history_size=7:die_after_fork=0";
}
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:cds_list_del_rcu\nrace:cds_list_add_rcu\nrace:cds_list_add_tail_rcu\nrace:cds_list_empty\n"
	       "race:^fd_get$\nrace:liburcu-bp.so\n";
}

struct deferred {
	struct rcu_head rcu, *head;
	void (*fn)(struct rcu_head *head);
};

static void deferred_run(struct rcu_head *rcu)
{
	struct deferred *d = caa_container_of(rcu, struct deferred, rcu);

	__tsan_acquire(&ended);
	d->fn(d->head);
	free(d);
}

void __real_urcu_bp_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head));
void __wrap_urcu_bp_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head));
void __wrap_urcu_bp_call_rcu(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	struct deferred *d = malloc(sizeof(*d));

	if (!d)
		abort();
	d->head = head;
	d->fn = fn;
	__tsan_release(&ended);
	__real_urcu_bp_call_rcu(&d->rcu, deferred_run);
}
#else
typedef int tsan_rcu_is_empty;
#endif
