/* SPDX-License-Identifier: Apache-2.0 */
/* shm/region.c - a memfd that holds sessions and their FIFOs
 *
 * Layout: one header page, the array of session slots (512 bytes each), all receive FIFOs, all
 * send FIFOs. The file is sparse: a FIFO costs the pages it has touched, an unused session
 * nothing. Addresses of FIFOs follow from the session's index, never from shared memory.
 *
 * Which ids are free is known to the owner only (a stack of ids in private memory); its calls
 * come under the worker's lock.
 */
#define _GNU_SOURCE
#include "shm/session.h"

#include <errno.h>
#include <fcntl.h>
#include <nstack/fd_host.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT 512u
#define HEADER 4096u
#define KEEP (64u << 10) /* bytes per FIFO that a freed session keeps for its next use */

struct shm_region {
	uint8_t *base;
	size_t bytes;
	int fd;
	uint32_t n, rx_size, tx_size;
	uint8_t *rx0, *tx0;
	uint32_t *free_ids; /* a stack: the id freed last is the first to be used again */
	uint32_t nfree;
	uint32_t fresh;     /* ids from here on were never used; not yet in free_ids */
	struct shm_region_stats st;
};

static bool fifo_size_ok(uint32_t n)
{
	return n >= (64u << 10) && n <= (64u << 20) && !(n & (n - 1));
}

void shm_region_close(struct shm_region *r)
{
	if (!r)
		return;
	if (r->base)
		munmap(r->base, r->bytes);
	nst_fd_close(r->fd);
	free(r->free_ids);
	free(r);
}

int shm_region_create(struct shm_region **out, const struct shm_region_config *cfg)
{
	size_t slots = ((size_t)cfg->sessions * SLOT + 4095) & ~(size_t)4095;
	struct shm_region *r;
	void *p;
	int err;

	*out = NULL;
	if (!cfg->sessions || cfg->sessions > (1u << 20) || !fifo_size_ok(cfg->rx_size) ||
	    !fifo_size_ok(cfg->tx_size))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->fd = -1;
	r->n = cfg->sessions;
	r->rx_size = cfg->rx_size;
	r->tx_size = cfg->tx_size;
	r->bytes = HEADER + slots + (size_t)r->n * ((size_t)r->rx_size + r->tx_size);
	r->free_ids = malloc(sizeof(uint32_t) * r->n);
	err = -ENOMEM;
	if (!r->free_ids)
		goto fail;
	r->fd = nst_fd_own(memfd_create("nstack-sessions", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	if (r->fd < 0 || ftruncate(r->fd, (off_t)r->bytes) < 0)
		goto fail_errno;
	p = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->fd, 0);
	if (p == MAP_FAILED)
		goto fail_errno;
	r->base = p;
	r->rx0 = r->base + HEADER + slots;
	r->tx0 = r->rx0 + (size_t)r->n * r->rx_size;
	r->st.sessions = r->n;
	*out = r;
	return 0;
fail_errno:
	err = -errno;
fail:
	shm_region_close(r);
	return err;
}

int shm_region_fd(const struct shm_region *r)
{
	return r->fd;
}

static struct shm_session *slot(const struct shm_region *r, uint32_t id)
{
	return (struct shm_session *)(void *)(r->base + HEADER + (size_t)id * SLOT);
}

/* By its place: the id in the session is within the program's reach. */
static uint32_t index_of(const struct shm_region *r, const struct shm_session *s)
{
	return (uint32_t)((size_t)((const uint8_t *)s - (r->base + HEADER)) / SLOT);
}

struct fifo shm_session_rx(const struct shm_region *r, struct shm_session *s)
{
	return (struct fifo){ &s->rx, r->rx0 + (size_t)index_of(r, s) * r->rx_size, r->rx_size };
}

struct fifo shm_session_tx(const struct shm_region *r, struct shm_session *s)
{
	return (struct fifo){ &s->tx, r->tx0 + (size_t)index_of(r, s) * r->tx_size, r->tx_size };
}

struct shm_session *shm_session_alloc(struct shm_region *r, uint8_t family, uint8_t proto)
{
	struct shm_session *s;
	uint32_t id, gen;

	if (r->nfree) {
		id = r->free_ids[--r->nfree];
	} else if (r->fresh < r->n) {
		id = r->fresh++;
	} else {
		r->st.alloc_failed++;
		return NULL;
	}
	s = slot(r, id);
	gen = s->gen + 1;
	memset(s, 0, sizeof(*s));
	s->id = id;
	s->gen = gen;
	s->family = family;
	s->proto = proto;
	s->parent = UINT32_MAX;
	s->rx_limit = r->rx_size;
	s->tx_limit = r->tx_size;
	s->rx_lowat = 1;
	shm_session_set_state(s, SHM_S_IDLE);
	r->st.allocs++;
	if (++r->st.used > r->st.high_water)
		r->st.high_water = r->st.used;
	return s;
}

static void give_back(const struct shm_region *r, uint8_t *data, uint64_t touched)
{
	if (touched > KEEP)
		fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(data - r->base) + KEEP, (off_t)(touched - KEEP));
}

void shm_session_free(struct shm_region *r, struct shm_session *s)
{
	struct fifo rx = shm_session_rx(r, s), tx = shm_session_tx(r, s);
	uint64_t rx_touched = s->rx.touched, tx_touched = s->tx.touched;

	if (shm_session_state(s) == SHM_S_FREE) {
		r->st.double_frees++;
		return;
	}
	shm_session_set_state(s, SHM_S_FREE);
	give_back(r, rx.data, rx_touched > rx.size ? rx.size : rx_touched);
	give_back(r, tx.data, tx_touched > tx.size ? tx.size : tx_touched);
	r->free_ids[r->nfree++] = index_of(r, s);
	r->st.frees++;
	r->st.used--;
}

struct shm_session *shm_session_get(struct shm_region *r, uint32_t id)
{
	struct shm_session *s;

	if (id >= r->n)
		return NULL;
	s = slot(r, id);
	return shm_session_state(s) == SHM_S_FREE ? NULL : s;
}

void shm_region_stats(const struct shm_region *r, struct shm_region_stats *out)
{
	struct stat sb;

	*out = r->st;
	if (!fstat(r->fd, &sb))
		out->resident_bytes = (uint64_t)sb.st_blocks * 512;
}
