/* SPDX-License-Identifier: Apache-2.0 */
/* A stack process, as the DMM manual has it: `stackd ROLE DEPLOY POLICY PRIORITY`. Says what nstack_adpt_init()
 * answers, and stays if it went well, until its input ends. "again" as a fifth argument: whatever it answered, it is
 * called once more, as MAIN with the usual scheduling. */
#include <nstack/nstack_dmm_api.h>

#include <errno.h>
#include <sys/socket.h>

static int init(int role, int deploy, int policy, int priority)
{
	nstack_dmm_para para = { .deploy_type = deploy, .proc_type = role, .attr = { policy, priority } };
	int r;

	errno = 0;
	r = nstack_adpt_init(&para);
	printf("%d %s\n", r, r ? strerrorname_np(errno) : "-");
	fflush(stdout);
	return r;
}

int main(int argc, char **argv)
{
	int r;

	if (argc < 5)
		return 2;
	if (nstack_adpt_init(NULL) != -1 || errno != EINVAL)
		return 3;
	r = init(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	if (argc > 5)
		r = init(NSFW_PROC_MAIN, NSTACK_MODEL_TYPE3, 0, 0);
	while (!r && getchar() != EOF)
		;
	return r != 0;
}
