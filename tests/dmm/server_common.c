/* SPDX-License-Identifier: Apache-2.0 */
/* tests/dmm/server_common.c - vs_common, ks_common: calls that wait, a thread for each connection */
#include "dmm.h"

#include <pthread.h>

struct job {
	const struct dmm_options *o;
	int fd;
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct job *job = arg;

	dmm_echo_all(job->o, job->fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct dmm_options o;
	struct job *jobs;
	uint32_t n;
	int listener;

	dmm_parse(&o, DMM_SERVER, argc, argv);
	n = dmm_expected(&o);
	jobs = dmm_alloc(n, sizeof(*jobs));
	listener = dmm_listen(&o, SOCK_STREAM);
	for (uint32_t i = 0; i < n; i++) {
		jobs[i] = (struct job){ .o = &o, .fd = accept(listener, NULL, NULL) };
		if (jobs[i].fd < 0)
			dmm_die("accept");
		dmm_count_connection();
		if (pthread_create(&jobs[i].thread, NULL, serve, &jobs[i]))
			dmm_die("thread");
	}
	for (uint32_t i = 0; i < n; i++)
		pthread_join(jobs[i].thread, NULL);
	dmm_report(&o);
	return 0;
}
