/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/tcpip/session_move.c - a socket goes on in another session
 *
 * The connection or UDP socket stays the same object, with its timers, its place in the tables and its port;
 * only the memory that the program sees becomes other memory. Of the old memory, which a hostile program may
 * go on writing, the bytes of both FIFOs and what only the socket layer knows are taken: once, within
 * bounds, so that the worst it can do is to pass on nonsense.
 *
 * Threads: under the worker's lock.
 */
#include "tcp_internal.h"
#include "udp_internal.h"

#define BASE (1ull << 32) /* where positions in the new FIFOs begin: room below for what was passed */
#define DATAGRAM_MAX 65535u

/* --- both ------------------------------------------------------------------------------------------ */

/* A new session's FIFO; what comes in is published when all is there. */
static void fifo_begin(const struct fifo *to)
{
	to->sh->head = to->sh->tail = to->sh->rebase = BASE;
}

/* len bytes, at bytes behind the tail of one FIFO, to `put` bytes behind the head of the other. */
static void bytes_copy(const struct fifo *from, uint32_t at, const struct fifo *to, uint32_t put, uint32_t len)
{
	struct iovec v[2];
	int n = fifo_spans(from, fifo_tail(from) + at, len, v);

	for (int i = 0; i < n; i++) {
		fifo_store(to, put, v[i].iov_base, (uint32_t)v[i].iov_len);
		put += (uint32_t)v[i].iov_len;
	}
}

/* A position in the old FIFO, whose tail is told, in the new one. */
static uint64_t moved_pos(uint64_t pos, uint64_t tail)
{
	int64_t d = (int64_t)(pos - tail);

	return BASE + (uint64_t)(d > INT32_MAX ? INT32_MAX : d < INT32_MIN ? INT32_MIN : d);
}

/* What the socket layer has set, and the error it has not taken. */
static void settings_copy(struct shm_session *from, struct shm_session *to)
{
	int32_t err = __atomic_exchange_n(&from->error, 0, __ATOMIC_ACQUIRE);

	to->v6only = from->v6only != 0;
	to->reuseport = from->reuseport != 0;
	to->error = err > 0 && err < 4096 ? err : 0;
	to->rx_limit = min_u32(from->rx_limit, to->rx_limit);
	to->tx_limit = min_u32(from->tx_limit, to->tx_limit);
	to->tx_nospace = from->tx_nospace != 0; /* the new program's writer may be the old one's child */
	to->rx_lowat = from->rx_lowat;
	to->urg_inline = from->urg_inline != 0;
	to->linger_s = from->linger_s;
	to->app_flags = from->app_flags & (SHM_AF_RX_SHUT | SHM_AF_TX_SHUT);
	to->stack_flags = from->stack_flags & (SHM_SF_RX_EOF | SHM_SF_TX_DEAD | SHM_SF_RESET | SHM_SF_URG |
					       SHM_SF_FIN_ACKED | SHM_SF_FIN);
}

/* obj of `from` is that of `to` from now on. */
static void owner_set(struct tcpip *t, struct shm_session *from, struct shm_session *to, uint8_t proto,
		      void *obj)
{
	uint32_t sid = shm_session_index(t->region, to);

	t->sock[shm_session_index(t->region, from)] = NULL;
	t->sock[sid] = obj;
	t->sock_proto[sid] = proto;
	shm_session_free(t->region, from);
}

/* --- TCP ------------------------------------------------------------------------------------------- */

static void urgent_copy(const struct shm_session *from, struct shm_session *to, uint64_t rx_tail,
			uint64_t tx_tail, uint32_t rx_used)
{
	uint64_t skip = moved_pos(from->urg_skip, rx_tail), end = BASE + rx_used;

	to->urg_pos = moved_pos(from->urg_pos, rx_tail);
	to->urg_skip = skip < end ? skip : end; /* the reader goes there */
	to->urg_seen = moved_pos(from->urg_seen, rx_tail);
	to->urg_read = moved_pos(from->urg_read, rx_tail);
	to->urg_byte = from->urg_byte;
	to->urg_sent = moved_pos(from->urg_sent, tx_tail);
	to->push_pos = moved_pos(from->push_pos, tx_tail);
	to->cork = from->cork;
}

static uint32_t session_state(const struct tcp_conn *c)
{
	switch (c->state) {
	case TCP_S_CLOSE:
		return c->flags & TCP_F_OVER ? SHM_S_CLOSED : SHM_S_IDLE;
	case TCP_S_SYN_SENT:
	case TCP_S_SYN_RECV:
		return SHM_S_CONNECTING;
	default:
		return SHM_S_CONNECTED;
	}
}

/* What came out of order lies behind what is published. */
static void stream_copy(const struct tcp_conn *c, const struct fifo *rx, uint32_t rx_used,
			const struct fifo *tx, uint32_t tx_used)
{
	fifo_begin(rx);
	fifo_begin(tx);
	bytes_copy(&c->rx, 0, rx, 0, rx_used);
	for (uint32_t i = 0; i < c->nooo; i++) {
		uint32_t at = rx_used + (c->ooo[i].start - c->rcv_nxt);

		bytes_copy(&c->rx, at, rx, at, c->ooo[i].end - c->ooo[i].start);
	}
	bytes_copy(&c->tx, 0, tx, 0, tx_used);
	fifo_publish(rx, rx_used);
	fifo_publish(tx, tx_used);
}

static void conn_move(struct tcpip *t, struct tcp_conn *c, struct shm_session *to)
{
	c->s = to;
	c->sid = shm_session_index(t->region, to);
	c->rx = shm_session_rx(t->region, to);
	c->tx = shm_session_tx(t->region, to);
	to->mss = c->mss;
	to->local = c->n.local;
	to->remote = c->n.remote;
	c->rx_mark = 0; /* as in a new session */
	if (c->state == TCP_S_CLOSE)
		to->rx_update_at = UINT64_MAX;
	else if (c->flags & TCP_F_EVER)
		tcp_recv_mark(t, c);
	shm_session_set_state(to, session_state(c));
}

int tcp_session_move(struct tcpip *t, struct shm_session *from, struct shm_session *to)
{
	struct fifo rx = shm_session_rx(t->region, to), tx = shm_session_tx(t->region, to);
	struct tcp_conn *c = tcp_of(t, from);
	uint32_t rx_used, tx_used;

	if (!c || c->flags & TCP_F_CLOSED)
		return -ENOTCONN;
	if (c->state == TCP_S_LISTEN)
		return -EOPNOTSUPP;
	rx_used = fifo_used(&c->rx);
	tx_used = fifo_used(&c->tx);
	if (c->state != TCP_S_CLOSE && tcp_inflight_data(c) > tx_used)
		return -EPROTO; /* the program has taken back what was sent: nobody could send it again */
	tcp_urgent_look(c);
	settings_copy(from, to);
	urgent_copy(from, to, fifo_tail(&c->rx), fifo_tail(&c->tx), rx_used);
	stream_copy(c, &rx, rx_used, &tx, tx_used);
	c->urg_told = to->urg_sent;
	conn_move(t, c, to);
	owner_set(t, from, to, IPPROTO_TCP, c);
	return 0;
}

/* --- UDP ------------------------------------------------------------------------------------------- */

/* The records that are whole; those that were taken out of turn are left out. Returns the errors among
 * them. */
static uint32_t records_copy(const struct fifo *from, const struct fifo *to)
{
	uint32_t at = 0, used = fifo_used(from), put = 0, errors = 0;
	struct shm_dgram d;

	fifo_begin(to);
	while (at < used && fifo_peek(from, at, &d, sizeof(d)) == sizeof(d) && d.len <= DATAGRAM_MAX &&
	       shm_dgram_size(d.len) <= used - at) {
		if (!(d.flags & SHM_DG_TAKEN)) {
			fifo_store(to, put, &d, sizeof(d));
			bytes_copy(from, at + sizeof(d), to, put + sizeof(d), shm_dgram_size(d.len) - sizeof(d));
			put += shm_dgram_size(d.len);
			errors += d.flags & SHM_DG_ERROR && d.len >= sizeof(struct shm_dgram_error);
		}
		at += shm_dgram_size(d.len);
	}
	fifo_publish(to, put);
	return errors;
}

int udp_session_move(struct tcpip *t, struct shm_session *from, struct shm_session *to)
{
	struct fifo rx = shm_session_rx(t->region, to), tx = shm_session_tx(t->region, to);
	struct udp_sock *u = udp_of(t, from);

	if (!u)
		return -ENOTCONN;
	settings_copy(from, to);
	to->rx_drops = from->rx_drops;
	to->rx_errors = records_copy(&u->rx, &rx);
	records_copy(&u->tx, &tx);
	to->mss = u->connected && u->dst ? udp_max_whole(u, u->dst) : 0;
	to->local = u->connected ? u->local : u->bound;
	to->remote = u->remote;
	u->s = to;
	u->sid = shm_session_index(t->region, to);
	u->rx = rx;
	u->tx = tx;
	owner_set(t, from, to, IPPROTO_UDP, u);
	shm_session_set_state(to, u->connected ? SHM_S_CONNECTED : SHM_S_IDLE);
	return 0;
}
