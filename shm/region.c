/* SPDX-License-Identifier: Apache-2.0 */
/* shm/region.c - memfds that hold sessions and their FIFOs
 *
 * Layout of a part: one header page, the array of session slots (512 bytes each), all receive FIFOs, all
 * send FIFOs. The file is sparse: a FIFO costs the pages it has touched, an unused session
 * nothing. Addresses of FIFOs follow from the session's index, never from shared memory.
 *
 * The owner's parts lie one behind the other in a range of addresses that is reserved at the start, so
 * that the index of a session is a matter of its address.
 *
 * Which ids are in use is known to the owner only, in private memory: what a session says of itself the
 * program could change. The owner's calls come under the worker's lock.
 */
#define _GNU_SOURCE
#include "shm/session.h"

#include <errno.h>
#include <fcntl.h>
#include <nstack/fault_point.h>
#include <nstack/fd_host.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT 512u
#define HEADER 4096u
#define KEEP (64u << 10) /* bytes per FIFO that a freed session keeps for its next use */
#define PARTS_MAX 4096u
#define SESSIONS_MAX (1u << 20)

struct part {
	int fd;             /* -1: there is no such part */
	uint32_t *free_ids; /* a stack: the id freed last is the first to be used again */
	bool *used;         /* by id; NULL: somebody else's */
	uint32_t nfree;
	uint32_t fresh;     /* ids from here on were never used; not yet in free_ids */
	void *owner;        /* for take() and give(); NULL: nobody */
};

struct shm_region {
	uint8_t *base;
	size_t part_bytes;
	uint32_t n, nparts; /* sessions of a part; parts that may be */
	uint32_t rx_size, tx_size;
	size_t rx0, tx0;    /* where in a part the FIFOs begin */
	struct part *part;
	bool (*take)(void *owner);
	void (*give)(void *owner);
	struct shm_region_stats st;
};

static bool fifo_size_ok(uint32_t n)
{
	return n >= (64u << 10) && n <= (64u << 20) && !(n & (n - 1));
}

static uint8_t *part_base(const struct shm_region *r, uint32_t part)
{
	return r->base + (size_t)part * r->part_bytes;
}

static void part_end(struct part *p)
{
	nst_fd_close(p->fd);
	free(p->free_ids);
	free(p->used);
	*p = (struct part){ .fd = -1 };
}

void shm_region_close(struct shm_region *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; r->part && i < r->nparts; i++)
		part_end(&r->part[i]);
	if (r->base)
		munmap(r->base, r->nparts * r->part_bytes);
	free(r->part);
	free(r);
}

/* Without memory behind it. */
static int region_new(struct shm_region **out, const struct shm_region_config *cfg)
{
	size_t slots = ((size_t)cfg->sessions * SLOT + 4095) & ~(size_t)4095;
	struct shm_region *r;
	void *p;

	*out = NULL;
	if (!cfg->sessions || cfg->sessions > SESSIONS_MAX || cfg->parts > PARTS_MAX ||
	    !fifo_size_ok(cfg->rx_size) || !fifo_size_ok(cfg->tx_size))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->n = cfg->sessions;
	r->nparts = cfg->parts ? cfg->parts : 1;
	r->rx_size = cfg->rx_size;
	r->tx_size = cfg->tx_size;
	r->take = cfg->take;
	r->give = cfg->give;
	r->rx0 = HEADER + slots;
	r->tx0 = r->rx0 + (size_t)r->n * r->rx_size;
	r->part_bytes = r->tx0 + (size_t)r->n * r->tx_size;
	r->st.sessions = r->n * r->nparts;
	r->part = calloc(r->nparts, sizeof(*r->part));
	for (uint32_t i = 0; r->part && i < r->nparts; i++)
		r->part[i].fd = -1;
	p = mmap(NULL, r->nparts * r->part_bytes, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED)
		r->base = p;
	if (!r->part || !r->base) {
		shm_region_close(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

/* fd becomes the part's. */
static int part_map(struct shm_region *r, uint32_t part, int fd)
{
	if (mmap(part_base(r, part), r->part_bytes, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
		int err = -errno;

		nst_fd_close(fd);
		return err;
	}
	r->part[part].fd = fd;
	return 0;
}

/* Not even its owner may change its size: the other side's mapping would end in SIGBUS. */
static int part_file(size_t bytes)
{
	int fd = nst_fd_own(memfd_create("nstack-sessions", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		int err = -errno;

		nst_fd_close(fd);
		return err;
	}
	return fd;
}

int shm_region_part_new(struct shm_region *r)
{
	uint32_t part = 0;
	int fd, err;

	while (part < r->nparts && r->part[part].fd >= 0)
		part++;
	if (part == r->nparts)
		return -ENOSPC;
	r->part[part].free_ids = malloc(sizeof(uint32_t) * r->n);
	r->part[part].used = calloc(r->n, sizeof(bool));
	fd = r->part[part].free_ids && r->part[part].used ? part_file(r->part_bytes) : -ENOMEM;
	NST_FAULT_POINT("region.part.file");
	err = fd < 0 ? fd : part_map(r, part, fd);
	if (err < 0)
		part_end(&r->part[part]);
	return err < 0 ? err : (int)part;
}

void shm_region_part_free(struct shm_region *r, uint32_t part)
{
	struct part *p = &r->part[part];

	/* memory of nobody instead: an index that somebody kept by mistake must not meet the next user */
	mmap(part_base(r, part), r->part_bytes, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	for (uint32_t i = p->nfree; p->owner && i < p->fresh; i++)
		r->give(p->owner);
	r->st.used -= p->fresh - p->nfree;
	r->st.frees += p->fresh - p->nfree;
	part_end(p);
}

int shm_region_create(struct shm_region **out, const struct shm_region_config *cfg)
{
	int err = region_new(out, cfg);

	if (!err && !cfg->parts)
		err = shm_region_part_new(*out);
	if (err < 0) {
		shm_region_close(*out);
		*out = NULL;
	}
	return err;
}

int shm_region_attach(struct shm_region **out, const struct shm_region_config *cfg, int fd)
{
	struct stat sb;
	int err = cfg->parts ? -EINVAL : region_new(out, cfg);

	if (!err && (fstat(fd, &sb) || (uint64_t)sb.st_size != (*out)->part_bytes))
		err = -EPROTO;
	if (err)
		nst_fd_close(fd);
	else
		err = part_map(*out, 0, fd);
	if (err) {
		shm_region_close(*out);
		*out = NULL;
	}
	return err;
}

void shm_region_part_owner(struct shm_region *r, uint32_t part, void *owner)
{
	r->part[part].owner = owner;
}

int shm_region_part_fd(const struct shm_region *r, uint32_t part)
{
	return r->part[part].fd;
}

static struct shm_session *slot(const struct shm_region *r, uint32_t part, uint32_t id)
{
	return (struct shm_session *)(void *)(part_base(r, part) + HEADER + (size_t)id * SLOT);
}

uint32_t shm_session_part(const struct shm_region *r, const struct shm_session *s)
{
	return r->nparts == 1 ? 0 : (uint32_t)((size_t)((const uint8_t *)s - r->base) / r->part_bytes);
}

uint32_t shm_session_id(const struct shm_region *r, const struct shm_session *s)
{
	const uint8_t *base = part_base(r, shm_session_part(r, s));

	return (uint32_t)((size_t)((const uint8_t *)s - (base + HEADER)) / SLOT);
}

uint32_t shm_session_index(const struct shm_region *r, const struct shm_session *s)
{
	return shm_session_part(r, s) * r->n + shm_session_id(r, s);
}

struct fifo shm_session_rx(const struct shm_region *r, struct shm_session *s)
{
	uint8_t *base = part_base(r, shm_session_part(r, s));

	return (struct fifo){ &s->rx, base + r->rx0 + (size_t)shm_session_id(r, s) * r->rx_size,
			      r->rx_size };
}

struct fifo shm_session_tx(const struct shm_region *r, struct shm_session *s)
{
	uint8_t *base = part_base(r, shm_session_part(r, s));

	return (struct fifo){ &s->tx, base + r->tx0 + (size_t)shm_session_id(r, s) * r->tx_size,
			      r->tx_size };
}

struct shm_session *shm_session_alloc_in(struct shm_region *r, uint32_t part, uint8_t family,
					 uint8_t proto)
{
	struct part *p = &r->part[part];
	struct shm_session *s;
	uint32_t id, gen;

	if (!p->used || (!p->nfree && p->fresh == r->n) || (p->owner && !r->take(p->owner))) {
		r->st.alloc_failed++;
		return NULL;
	}
	id = p->nfree ? p->free_ids[--p->nfree] : p->fresh++;
	p->used[id] = true;
	NST_FAULT_POINT("region.session.alloc");
	s = slot(r, part, id);
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

static void give_back(const struct shm_region *r, uint32_t part, uint8_t *data, uint64_t touched)
{
	if (touched > KEEP)
		fallocate(r->part[part].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(data - part_base(r, part)) + KEEP, (off_t)(touched - KEEP));
}

void shm_session_free(struct shm_region *r, struct shm_session *s)
{
	struct fifo rx = shm_session_rx(r, s), tx = shm_session_tx(r, s);
	uint64_t rx_touched = s->rx.touched, tx_touched = s->tx.touched;
	uint32_t part = shm_session_part(r, s), id = shm_session_id(r, s);
	struct part *p = &r->part[part];

	if (!p->used[id]) {
		r->st.double_frees++;
		return;
	}
	p->used[id] = false;
	NST_FAULT_POINT("region.session.free");
	shm_session_set_state(s, SHM_S_FREE);
	give_back(r, part, rx.data, rx_touched > rx.size ? rx.size : rx_touched);
	give_back(r, part, tx.data, tx_touched > tx.size ? tx.size : tx_touched);
	p->free_ids[p->nfree++] = id;
	if (p->owner)
		r->give(p->owner);
	r->st.frees++;
	r->st.used--;
}

struct shm_session *shm_session_get(struct shm_region *r, uint32_t index)
{
	uint32_t part = index / r->n, id = index % r->n;
	struct shm_session *s;

	if (part >= r->nparts || r->part[part].fd < 0)
		return NULL;
	s = slot(r, part, id);
	if (r->part[part].used)
		return r->part[part].used[id] ? s : NULL;
	return shm_session_state(s) == SHM_S_FREE ? NULL : s;
}

struct shm_session *shm_session_sibling(struct shm_region *r, const struct shm_session *s, uint32_t id)
{
	return id < r->n ? shm_session_get(r, shm_session_part(r, s) * r->n + id) : NULL;
}

bool shm_region_has(const struct shm_region *r, const struct shm_session *s)
{
	return (uintptr_t)s - (uintptr_t)r->base < r->nparts * r->part_bytes;
}

uint32_t shm_session_next(const struct shm_region *r, uint32_t index)
{
	uint32_t id = index % r->n;

	for (uint32_t part = index / r->n; part < r->nparts; part++, id = 0)
		for (; r->part[part].used && id < r->part[part].fresh; id++)
			if (r->part[part].used[id])
				return part * r->n + id;
	return UINT32_MAX;
}

uint64_t shm_region_part_resident(const struct shm_region *r, uint32_t part)
{
	struct stat sb;

	return r->part[part].fd >= 0 && !fstat(r->part[part].fd, &sb) ? (uint64_t)sb.st_blocks * 512 : 0;
}

void shm_region_stats(const struct shm_region *r, struct shm_region_stats *out)
{
	*out = r->st;
	for (uint32_t i = 0; i < r->nparts; i++) {
		out->parts += r->part[i].fd >= 0;
		out->resident_bytes += shm_region_part_resident(r, i);
	}
}
