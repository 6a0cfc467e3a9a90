// SPDX-License-Identifier: Apache-2.0
/* tests/unit/nsocket_file.c - the fd table under churn
 *
 * Threads install, replace, look up and remove the same few numbers; every nfile must be released
 * exactly once, never while somebody holds it, and the counts must come out even. Meant for TSan
 * and ASan too (make SAN=thread check).
 */
#define _GNU_SOURCE
#include <nsocket/file.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 20000
#define FDS 8

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			printf("not ok %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1); \
		} \
	} while (0)

struct thing {
	struct nfile f;
	unsigned magic;
};

static int made, released; /* atomic */

static void thing_release(struct nfile *f)
{
	struct thing *t = (struct thing *)f;

	CHECK(t->magic == 0xfeed);
	CHECK(__atomic_load_n(&f->refs, __ATOMIC_RELAXED) == 0);
	CHECK(nfile_fd_count(f) == 0);
	t->magic = 0;
	__atomic_add_fetch(&released, 1, __ATOMIC_RELAXED);
	nfile_free_rcu(f);
}

static struct nfile *thing_new(void)
{
	struct thing *t = calloc(1, sizeof(*t));

	CHECK(t);
	t->magic = 0xfeed;
	nfile_init(&t->f, NF_SOCK, 0, thing_release);
	__atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
	return &t->f;
}

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		int fd = 100 + rand_r(&seed) % FDS;
		struct nfile *f;

		switch (rand_r(&seed) % 4) {
		case 0:
			f = thing_new();
			CHECK(fd_install(fd, f) == 0);
			nfile_put(f);
			break;
		case 1:
			f = fd_remove(fd);
			if (f)
				nfile_put(f);
			break;
		default:
			f = fd_get(fd);
			if (f) {
				CHECK(((struct thing *)f)->magic == 0xfeed);
				nfile_put(f);
			}
		}
	}
	return NULL;
}

static bool notify(struct watch *w, struct nfile *f, uint32_t events)
{
	*(uint32_t *)(w + 1) |= events;
	return true;
}

static void test_basics(void)
{
	struct { struct watch w; uint32_t seen; } w = { .w.notify = notify };
	struct nfile *f = thing_new();

	CHECK(!fd_is_ours(5) && !fd_get(5) && !fd_remove(5) && !fd_is_ours(-1));
	CHECK(!fd_is_ours(NFILE_FDS) && fd_install(NFILE_FDS, f) == -EMFILE);
	CHECK(fd_install(5, f) == 0 && fd_install(7, f) == 0 && nfile_fd_count(f) == 2);
	CHECK(fd_is_ours(5) && fd_next(0) == 5 && fd_next(6) == 7 && fd_next(8) == -1);
	CHECK(fd_get(5) == f);
	nfile_put(f);
	CHECK(fd_remove(5) == f && nfile_fd_count(f) == 1);
	nfile_put(f);
	CHECK(!fd_remove_if(7, (struct nfile *)&w) && fd_remove_if(7, f));
	watch_add(f, &w.w);
	watch_notify(f, 3);
	watch_del(f, &w.w);
	watch_notify(f, 4);
	CHECK(w.seen == 3);
	fd_protect(9);
	CHECK(fd_is_ours(9) && !fd_get(9) && !fd_remove(9) && fd_is_protected(9));
	fd_unprotect(9);
	CHECK(!fd_is_ours(9));
	CHECK(released == 0);
	nfile_put(f);
	CHECK(released == 1);
}

static void *hide(void *arg)
{
	int *fd = arg;

	fd[0] = dup(0);
	pthread_cancel(pthread_self());
	fd[1] = fd_hide(fd[0]);
	return NULL;
}

/* A thread that is about to be cancelled is not before the number that the program may see is closed again. */
static void test_hide_is_no_cancellation_point(void)
{
	int fd[2] = { -1, -1 };
	pthread_t t;

	CHECK(pthread_create(&t, NULL, hide, fd) == 0);
	pthread_join(t, NULL);
	CHECK(fd[0] >= 0 && fcntl(fd[0], F_GETFD) == -1);
	CHECK(fd[1] >= 0 && fd_is_protected(fd[1]));
	fd_hide_close(fd[1]);
}

int main(void)
{
	pthread_t t[THREADS];

	test_basics();
	test_hide_is_no_cancellation_point();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, churn, (void *)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		nfile_put(fd_remove(fd));
	CHECK(made == released);
	rcu_barrier();
	printf("ok nsocket_file: %d nfiles\n", made);
	return 0;
}
