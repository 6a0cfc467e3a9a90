/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_scribble.c - a program that writes over all that it shares with a running nstackd
 *
 * It begins with a listener, which another program has as well, a UDP socket and a client, all in order; then
 * it writes anything anywhere in its sessions and notifications, while packets come and time passes
 * (daemon.h).
 */
#include "daemon.h"

static struct att_call session_call(uint16_t op, uint32_t session)
{
	return (struct att_call){ .op = op, .session = session, .flags = ATT_QUIET };
}

/* One socket, bound and perhaps more: the ids are given out from 0 on. */
static void program_socket(struct daemon_world *d, struct program *p, uint32_t id, uint8_t proto, uint16_t then)
{
	struct att_call c[5] = { session_call(ATT_CLAIM, 0), session_call(ATT_ALLOC, 0),
				 session_call(ATT_OPEN, id), session_call(ATT_BIND, id), session_call(then, id) };
	struct nst_addr any = { .family = AF_INET6, .port = htons(proto == IPPROTO_TCP ? TCP_PORT : UDP_PORT) };
	int show = proof[proto == IPPROTO_UDP][proto == IPPROTO_UDP];

	c[0].arg = c[1].arg2 = proto;
	c[0].arg2 = ATT_CLAIM_V4TOO;
	c[0].local = c[3].local = any;
	c[1].arg = AF_INET6;
	c[4].arg = 8;
	c[4].remote = d->w.peer[1];
	c[4].remote.port = htons(PEER_PORT);
	program_send(p, c, sizeof(c[0]), show);
	program_send(p, c + 1, (then ? 4 : 3) * sizeof(c[0]), show);
	daemon_round(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum step steps[16] = {
		STEP_SLOTS, STEP_SLOTS, STEP_SLOTS, STEP_SLOTS, STEP_DATA, STEP_QUEUE, STEP_QUEUE, STEP_NOTIFY,
		STEP_NOTIFY, STEP_WRITE, STEP_TCP, STEP_TCP, STEP_TCP, STEP_UDP, STEP_CALLS, STEP_TIME,
	};
	struct att_call c = call_hello();
	static struct daemon_world d;

	if (!peers_config.max)
		daemon_init();
	daemon_make(&d, data, size);
	for (unsigned i = 0; i < 2; i++) {
		program_open(&d.p[i]);
		program_send(&d.p[i], &c, sizeof(c), -1);
		daemon_round(&d);
		assert(d.p[i].part);
		program_socket(&d, &d.p[i], 0, IPPROTO_TCP, ATT_LISTEN);
	}
	program_socket(&d, &d.p[0], 1, IPPROTO_UDP, 0);
	program_socket(&d, &d.p[0], 2, IPPROTO_TCP, ATT_CONNECT);
	assert(shm_session_state(session_at(&d.p[0], 0)) == SHM_S_LISTEN &&
	       shm_session_state(session_at(&d.p[1], 0)) == SHM_S_LISTEN &&
	       shm_session_state(session_at(&d.p[0], 2)) == SHM_S_CONNECTING);
	daemon_run(&d, steps);
	daemon_end(&d);
	return 0;
}
