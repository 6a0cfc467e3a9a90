// SPDX-License-Identifier: Apache-2.0
/* hal_wrap/hal_fault.c - fault injection around a port
 *
 * Each direction has a pool of slots, each big enough for any packet, and a list of held packets
 * ordered by the time they are due. What is neither delayed, reordered nor altered goes straight
 * through, in its frames. A reordered packet is one that is held REORDER_NS longer than
 * the others; a duplicate is one that is due at once. Received packets that were held are given
 * out as one frame that lies in its slot, told apart from the lower port's frames by
 * address. Held packets to send are sent at the next rx_burst or tx_flush after they are due;
 * next_due makes the worker call in time.
 *
 * Runs in the worker's thread. The slots are mapped at once but take memory only as they are
 * used.
 */
#define _GNU_SOURCE
#include "hal_wrap/hal_fault.h"
#include "hal_wrap/hal_wrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SLOT_BYTES 69632u /* 64 KB packet, headers, to a multiple of the page size */
#define REORDER_NS 1000000u
#define NONE UINT32_MAX

struct held {
	uint64_t due;
	uint32_t next; /* in the list of held packets, or of free slots */
	uint32_t q, len;
	bool super, csum_wanted;
	uint16_t csum_start, csum_offset;
	struct hal_super s; /* without iov */
};

struct side {
	struct hal_fault_dir cfg;
	struct hal_fault_stats st;
	struct held *held;
	uint8_t *mem;
	uint32_t nslots, free, head;
};

struct fault_port {
	struct hal_wrap w; /* first */
	uint64_t rng;
	struct side rx, tx;
};

enum fate { PASS, LOSE, HOLD };

static struct fault_port *self(struct hal_port *p)
{
	return (struct fault_port *)p;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* splitmix64: any seed will do, 0 included */
static uint64_t rng_next(struct fault_port *p)
{
	uint64_t z = p->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}
static bool chance(struct fault_port *p, uint32_t ppm)
{
	return ppm && rng_next(p) % 1000000 < ppm;
}

/* --- slots --------------------------------------------------------------------------------- */

static int side_init(struct side *s, const struct hal_fault_dir *cfg, uint32_t slots)
{
	uint32_t i;

	s->cfg = *cfg;
	s->nslots = slots;
	s->head = NONE;
	s->held = calloc(slots, sizeof(*s->held));
	s->mem = mmap(NULL, (size_t)slots * SLOT_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->mem == MAP_FAILED)
		s->mem = NULL;
	if (!s->held || !s->mem)
		return -ENOMEM;
	for (i = 0; i < slots; i++)
		s->held[i].next = i + 1 < slots ? i + 1 : NONE;
	return 0;
}
static void side_fini(struct side *s)
{
	free(s->held);
	if (s->mem)
		munmap(s->mem, (size_t)s->nslots * SLOT_BYTES);
}
static uint8_t *slot_mem(struct side *s, uint32_t i)
{
	return s->mem + (size_t)i * SLOT_BYTES;
}
static uint32_t slot_get(struct side *s)
{
	uint32_t i = s->free;

	if (i != NONE)
		s->free = s->held[i].next;
	else
		s->st.overflow++;
	return i;
}
static void slot_put(struct side *s, uint32_t i)
{
	s->held[i].next = s->free;
	s->free = i;
}
/* Behind everything due earlier or at the same time. */
static void hold(struct side *s, uint32_t i, uint64_t due)
{
	uint32_t *at = &s->head;

	while (*at != NONE && s->held[*at].due <= due)
		at = &s->held[*at].next;
	s->held[i].due = due;
	s->held[i].next = *at;
	*at = i;
}

/* --- packets ------------------------------------------------------------------------------- */

static uint32_t frames_of(const struct hal_frame *f, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (!(f[i].flags & HAL_F_MORE))
			return i + 1;
	return 0;
}

static uint32_t copy_in(struct side *s, uint32_t i, const struct hal_frame *f, uint32_t n)
{
	struct held *h = &s->held[i];
	uint32_t k;

	*h = (struct held){ .csum_wanted = f[0].flags & HAL_F_CSUM_WANTED,
			    .csum_start = f[0].csum_start, .csum_offset = f[0].csum_offset };
	for (k = 0; k < n && h->len + f[k].len <= SLOT_BYTES; k++) {
		memcpy(slot_mem(s, i) + h->len, f[k].data, f[k].len);
		h->len += f[k].len;
	}
	return i;
}

static uint32_t sum(const uint8_t *p, uint32_t n, uint32_t s)
{
	uint32_t i;

	for (i = 0; i + 1 < n; i += 2) {
		s += (uint32_t)(p[i] << 8 | p[i + 1]);
		s = (s & 0xffff) + (s >> 16);
	}
	if (i < n)
		s += (uint32_t)(p[i] << 8);
	s = (s & 0xffff) + (s >> 16);
	return (s & 0xffff) + (s >> 16);
}

static void csum_finish(uint8_t *p, uint32_t len, uint32_t start, uint32_t offset)
{
	uint32_t c;

	if (start > len || start + offset + 2 > len)
		return;
	c = ~sum(p + start, len - start, 0) & 0xffff;
	p[start + offset] = (c ? c : 0xffff) >> 8;
	p[start + offset + 1] = c ? c : 0xff;
}

/* A received packet of a local peer may hold only the pseudo-header's sum; finish it, or the
 * damage could not be noticed. Plain IPv4 and IPv6 are enough here. */
static void csum_finish_partial(uint8_t *p, uint32_t len)
{
	uint32_t l4, end, proto, pseudo, off;

	if (len >= 34 && p[12] == 8 && p[13] == 0) {
		l4 = 14 + (p[14] & 15) * 4u;
		end = 14u + (uint32_t)(p[16] << 8 | p[17]);
		proto = p[23];
		pseudo = sum(p + 26, 8, proto);
	} else if (len >= 54 && p[12] == 0x86 && p[13] == 0xdd) {
		l4 = 54;
		end = 54u + (uint32_t)(p[18] << 8 | p[19]);
		proto = p[20];
		pseudo = sum(p + 22, 32, proto);
	} else {
		return;
	}
	off = proto == 6 ? 16 : proto == 17 ? 6 : 0;
	if (!off || end > len || l4 + off + 2 > end)
		return;
	pseudo += end - l4;
	pseudo = (pseudo & 0xffff) + (pseudo >> 16);
	pseudo = (pseudo & 0xffff) + (pseudo >> 16);
	if (pseudo == (uint32_t)(p[l4 + off] << 8 | p[l4 + off + 1]))
		csum_finish(p, end, l4, off);
}

/* One bit, past the Ethernet header. */
static void corrupt(struct fault_port *p, struct side *s, uint32_t i)
{
	struct held *h = &s->held[i];
	uint8_t *m = slot_mem(s, i);

	if (h->len <= 14)
		return;
	if (h->csum_wanted)
		csum_finish(m, h->len, h->csum_start, h->csum_offset);
	else if (s == &p->rx)
		csum_finish_partial(m, h->len);
	h->csum_wanted = false;
	m[14 + rng_next(p) % (h->len - 14)] ^= 1u << (rng_next(p) & 7);
}

/* Decide about one packet; what must be held or altered is copied. */
static enum fate judge(struct fault_port *p, struct side *s, uint32_t q, const struct hal_frame *f,
		       uint32_t n)
{
	bool bad = chance(p, s->cfg.corrupt_ppm), late = chance(p, s->cfg.reorder_ppm);
	uint64_t now = s->cfg.delay_ns || late || bad ? now_ns() : 0;
	uint32_t i;

	s->st.packets++;
	if (chance(p, s->cfg.loss_ppm)) {
		s->st.lost++;
		return LOSE;
	}
	if (chance(p, s->cfg.dup_ppm) && (i = slot_get(s)) != NONE) {
		copy_in(s, i, f, n);
		s->held[i].q = q;
		hold(s, i, (now ? now : now_ns()) + s->cfg.delay_ns);
		s->st.duplicated++;
	}
	if (!s->cfg.delay_ns && !late && !bad)
		return PASS;
	i = slot_get(s);
	if (i == NONE)
		return s->cfg.delay_ns ? LOSE : PASS;
	copy_in(s, i, f, n);
	s->held[i].q = q;
	if (bad) {
		corrupt(p, s, i);
		s->st.corrupted++;
	}
	s->st.reordered += late;
	hold(s, i, now + s->cfg.delay_ns + (late ? REORDER_NS : 0));
	return HOLD;
}

/* The first packet of queue q that is due; unlinked. */
static uint32_t due_get(struct side *s, uint32_t q, uint64_t now)
{
	uint32_t *at = &s->head, i;

	for (; *at != NONE && s->held[*at].due <= now; at = &s->held[*at].next) {
		if (s->held[*at].q == q) {
			i = *at;
			*at = s->held[i].next;
			return i;
		}
	}
	return NONE;
}

/* --- sending ------------------------------------------------------------------------------- */

static bool send_super(struct fault_port *p, uint32_t i)
{
	struct held *h = &p->tx.held[i];
	struct iovec iov = { slot_mem(&p->tx, i), h->len };
	struct hal_super s = h->s;

	s.iov = &iov;
	s.iovcnt = 1;
	return hal_tx_super(p->w.lower, h->q, &s) != -EAGAIN;
}

static bool send_plain(struct fault_port *p, uint32_t i)
{
	struct held *h = &p->tx.held[i];
	uint32_t room = p->w.lower->max_frame, n = (h->len + room - 1) / room, k, off = 0, got;
	struct hal_frame f[40];

	if (!n || n > 40)
		return true; /* lower would refuse it as well */
	got = hal_tx_alloc(p->w.lower, h->q, f, n);
	if (got == n) {
		for (k = 0; k < n; k++) {
			f[k].len = h->len - off < f[k].room ? h->len - off : f[k].room;
			memcpy(f[k].data, slot_mem(&p->tx, i) + off, f[k].len);
			off += f[k].len;
			f[k].flags = k + 1 < n ? HAL_F_MORE : 0;
		}
		f[0].flags |= h->csum_wanted ? HAL_F_CSUM_WANTED : 0;
		f[0].csum_start = h->csum_start;
		f[0].csum_offset = h->csum_offset;
		if (hal_tx_burst(p->w.lower, h->q, f, n) == n)
			return true;
	}
	hal_tx_free(p->w.lower, h->q, f, got);
	return false;
}

static void send_due(struct fault_port *p, uint32_t q)
{
	uint64_t now;
	uint32_t i;

	if (p->tx.head == NONE)
		return;
	now = now_ns();
	while ((i = due_get(&p->tx, q, now)) != NONE) {
		if (!(p->tx.held[i].super ? send_super(p, i) : send_plain(p, i))) {
			hold(&p->tx, i, now + 100000); /* the lower port is full */
			return;
		}
		slot_put(&p->tx, i);
	}
}

static uint32_t tx_burst(struct hal_port *hp, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct fault_port *p = self(hp);
	uint32_t done = 0, k;

	while (done < n && (k = frames_of(f + done, n - done))) {
		enum fate fate;
		uint64_t rng = p->rng;
		struct hal_fault_stats st = p->tx.st;

		fate = judge(p, &p->tx, q, f + done, k);
		if (fate != PASS) {
			hal_tx_free(p->w.lower, q, f + done, k);
		} else if (hal_tx_burst(p->w.lower, q, f + done, k) < k) {
			/* Not taken: it will come again, and be judged again. */
			if (p->tx.st.duplicated == st.duplicated) {
				p->rng = rng;
				p->tx.st = st;
			}
			break;
		}
		done += k;
	}
	return done;
}

static int tx_super(struct hal_port *hp, uint32_t q, const struct hal_super *s)
{
	struct fault_port *p = self(hp);
	struct side *t = &p->tx;
	bool late = chance(p, t->cfg.reorder_ppm);
	struct held *h;
	uint32_t i;
	int k, r;

	if (s->iovcnt < 1 || s->iovcnt > HAL_SUPER_IOV)
		return -EINVAL;
	if (chance(p, t->cfg.loss_ppm) || chance(p, t->cfg.corrupt_ppm)) {
		t->st.packets++;
		t->st.lost++;
		return 0;
	}
	if (!late && !t->cfg.delay_ns) {
		r = hal_tx_super(p->w.lower, q, s);
		if (r != -EAGAIN)
			t->st.packets++;
		if (!r && chance(p, t->cfg.dup_ppm)) {
			t->st.duplicated++;
			hal_tx_super(p->w.lower, q, s);
		}
		return r;
	}
	i = slot_get(t);
	if (i == NONE)
		return -EAGAIN;
	h = &t->held[i];
	*h = (struct held){ .q = q, .super = true, .s = *s };
	for (k = 0; k < s->iovcnt && h->len + s->iov[k].iov_len <= SLOT_BYTES; k++) {
		memcpy(slot_mem(t, i) + h->len, s->iov[k].iov_base, s->iov[k].iov_len);
		h->len += s->iov[k].iov_len;
	}
	t->st.packets++;
	t->st.reordered += late;
	hold(t, i, now_ns() + t->cfg.delay_ns + (late ? REORDER_NS : 0));
	return 0;
}

static void tx_flush(struct hal_port *hp, uint32_t q)
{
	send_due(self(hp), q);
	hal_tx_flush(self(hp)->w.lower, q);
}

/* --- receiving ----------------------------------------------------------------------------- */

static uint32_t give_due(struct fault_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	uint32_t out = 0, i;
	uint64_t now;

	if (p->rx.head == NONE)
		return 0;
	now = now_ns();
	while (out < n && (i = due_get(&p->rx, q, now)) != NONE) {
		f[out] = (struct hal_frame){ .data = slot_mem(&p->rx, i),
					     .len = p->rx.held[i].len, .handle = i };
		out++;
	}
	return out;
}

/* Filter in place: what passes moves up, the rest goes back to the lower port at once. */
static uint32_t filter(struct fault_port *p, uint32_t q, struct hal_frame *f, uint32_t n)
{
	uint32_t i = 0, out = 0, k;

	for (; i < n && (k = frames_of(f + i, n - i)); i += k) {
		if (judge(p, &p->rx, q, f + i, k) == PASS) {
			memmove(f + out, f + i, k * sizeof(*f));
			out += k;
		} else {
			hal_rx_release(p->w.lower, q, f + i, k);
		}
	}
	return out;
}

static uint32_t rx_burst(struct hal_port *hp, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct fault_port *p = self(hp);
	uint32_t out, got, tries;

	if (p->tx.head != NONE) {
		send_due(p, q);
		hal_tx_flush(p->w.lower, q);
	}
	out = give_due(p, q, f, n);
	/* When all of a burst was lost or held, look again: 0 tells the caller to sleep. */
	for (tries = 0; tries < 8 && n - out >= HAL_RX_MIN; tries++) {
		got = hal_rx_burst(p->w.lower, q, f + out, n - out);
		if (!got)
			break;
		got = filter(p, q, f + out, got);
		out += got;
		if (got)
			break;
	}
	if (!out)
		out = give_due(p, q, f, n);
	return out;
}

static bool ours(const struct fault_port *p, const struct hal_frame *f)
{
	return f->data >= p->rx.mem && f->data < p->rx.mem + (size_t)p->rx.nslots * SLOT_BYTES;
}

static void rx_release(struct hal_port *hp, uint32_t q, struct hal_frame *f, uint32_t n)
{
	struct fault_port *p = self(hp);
	uint32_t i = 0, k;

	while (i < n) {
		if (ours(p, &f[i])) {
			slot_put(&p->rx, f[i].handle);
			i++;
			continue;
		}
		for (k = 1; i + k < n && !ours(p, &f[i + k]); k++)
			;
		hal_rx_release(p->w.lower, q, f + i, k);
		i += k;
	}
}

/* --- the rest of the port ------------------------------------------------------------------ */

static int next_due(struct hal_port *hp, uint32_t q, uint64_t *ns)
{
	struct fault_port *p = self(hp);
	struct side *s[2] = { &p->rx, &p->tx };
	uint32_t i;
	int k;

	*ns = hal_next_due(p->w.lower, q);
	for (k = 0; k < 2; k++) {
		for (i = s[k]->head; i != NONE && s[k]->held[i].q != q; i = s[k]->held[i].next)
			;
		if (i != NONE && s[k]->held[i].due < *ns)
			*ns = s[k]->held[i].due;
	}
	return 0;
}
static void fault_close(struct hal_port *hp)
{
	hal_close(hal_fault_unwrap(hp));
}

static const struct hal_ops ops = {
	.name = "faults", .close = fault_close, .rx_burst = rx_burst, .rx_release = rx_release,
	.tx_alloc = hal_wrap_tx_alloc, .tx_free = hal_wrap_tx_free, .tx_burst = tx_burst, .tx_flush = tx_flush,
	.tx_super = tx_super, .arm = hal_wrap_arm, .stats = hal_wrap_stats, .next_due = next_due,
};

int hal_fault_wrap(struct hal_port **out, struct hal_port *lower, const struct hal_fault_config *cfg)
{
	struct fault_port *p = calloc(1, sizeof(*p));
	uint32_t slots = cfg->slots ? cfg->slots : 1024;

	if (!p)
		return -ENOMEM;
	p->w.hal = *lower;
	p->w.hal.ops = &ops;
	if (cfg->no_super)
		p->w.hal.caps &= ~(uint32_t)HAL_CAP_SUPERFRAME;
	p->w.lower = lower;
	p->rng = cfg->seed;
	if (side_init(&p->rx, &cfg->rx, slots) || side_init(&p->tx, &cfg->tx, slots)) {
		hal_fault_unwrap(&p->w.hal);
		return -ENOMEM;
	}
	*out = &p->w.hal;
	return 0;
}

struct hal_port *hal_fault_unwrap(struct hal_port *hp)
{
	struct fault_port *p = self(hp);
	struct hal_port *lower = p->w.lower;

	side_fini(&p->rx);
	side_fini(&p->tx);
	free(p);
	return lower;
}

void hal_fault_stats(struct hal_port *hp, struct hal_fault_stats *rx, struct hal_fault_stats *tx)
{
	*rx = self(hp)->rx.st;
	*tx = self(hp)->tx.st;
}
