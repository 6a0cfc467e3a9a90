/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_attach.c - the channel between programs and nstackd with foreign messages
 *
 * Bytes that are no message, messages whose every field lies, in any order, of several programs that come
 * and go (daemon.h).
 */
#include "daemon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum step steps[16] = {
		STEP_OPEN, STEP_HELLO, STEP_BYTES, STEP_CALLS, STEP_CALLS, STEP_CALLS, STEP_CALLS, STEP_CALLS,
		STEP_NOTIFY, STEP_WRITE, STEP_CLOSE, STEP_TCP, STEP_TCP, STEP_UDP, STEP_ICMP, STEP_TIME,
	};
	static struct daemon_world d;

	if (!peers_config.max)
		daemon_init();
	daemon_make(&d, data, size);
	for (unsigned i = 0; i < 2; i++) { /* so that short inputs get somewhere */
		struct att_call c = call_hello();

		program_open(&d.p[i]);
		program_send(&d.p[i], &c, sizeof(c), -1);
	}
	daemon_round(&d);
	daemon_run(&d, steps);
	daemon_end(&d);
	return 0;
}
