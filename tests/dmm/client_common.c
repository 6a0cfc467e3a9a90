/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/client_common.c - vc_common, kc_common: send and recv, -f connections in turn */
#include "dmm.h"

#include <unistd.h>

int main(int argc, char **argv)
{
	struct dmm_options o;
	int *fds;

	dmm_parse(&o, DMM_CLIENT, argc, argv);
	fds = dmm_alloc(o.fds, sizeof(*fds));
	for (uint32_t i = 0; i < o.fds; i++) {
		fds[i] = dmm_connect(&o, SOCK_STREAM, i);
		dmm_count_connection();
	}
	dmm_exchange(&o, fds, o.fds, 0);
	for (uint32_t i = 0; i < o.fds; i++)
		close(fds[i]);
	dmm_report(&o);
	return 0;
}
