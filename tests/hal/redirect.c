// SPDX-License-Identifier: Apache-2.0
/* tests/hal/redirect.c - attach and use redirect.bpf.c
 *
 * A second process finds the maps through the attached program's id. Test code only.
 */
#include "tests/hal/redirect.h"

#include "tests/hal/redirect.skel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <string.h>
#include <time.h>

static int maps_of(struct redirect *r, uint32_t prog_id)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info), ids[8] = { 0 }, i;
	int fd = bpf_prog_get_fd_by_id(prog_id);

	if (fd < 0)
		return -errno;
	info.nr_map_ids = 8;
	info.map_ids = (uintptr_t)ids;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return -errno;
	for (i = 0; i < info.nr_map_ids && i < 8; i++) {
		struct bpf_map_info mi = { 0 };
		int mfd = bpf_map_get_fd_by_id(ids[i]);

		len = sizeof(mi);
		if (mfd < 0 || bpf_obj_get_info_by_fd(mfd, &mi, &len))
			return -errno;
		if (!strcmp(mi.name, "xsks"))
			r->xsks = mfd;
		if (!strcmp(mi.name, "ports"))
			r->ports = mfd;
	}
	return r->xsks >= 0 && r->ports >= 0 ? 0 : -ENOENT;
}

int redirect_open(struct redirect *r, unsigned ifindex, bool native)
{
	uint32_t flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE, id = 0;
	struct redirect_bpf *skel;
	int err;

	*r = (struct redirect){ .ifindex = ifindex, .xsks = -1, .ports = -1 };
	if (!bpf_xdp_query_id(ifindex, 0, &id) && id)
		return maps_of(r, id);
	r->skel = skel = redirect_bpf__open_and_load();
	if (!skel)
		return -errno;
	err = bpf_xdp_attach(ifindex, bpf_program__fd(skel->progs.redirect), flags, NULL);
	if (err)
		return err;
	r->xsks = bpf_map__fd(skel->maps.xsks);
	r->ports = bpf_map__fd(skel->maps.ports);
	return 0;
}

int redirect_port(struct redirect *r, uint32_t port, uint32_t slot)
{
	return bpf_map_update_elem(r->ports, &port, &slot, BPF_ANY) ? -errno : 0;
}

int redirect_xsk(struct redirect *r, uint32_t slot, int fd)
{
	return bpf_map_update_elem(r->xsks, &slot, &fd, BPF_ANY) ? -errno : 0;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

double redirect_source(unsigned ifindex, const void *frame, uint32_t len, double seconds)
{
	struct redirect_bpf *skel = redirect_bpf__open();
	struct xdp_md ctx = { .data_end = len };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = len, .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 100000,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);
	double start = now_s(), packets = 0;
	int err = skel ? 0 : -errno;

	if (!err) {
		skel->rodata->out_if = ifindex;
		err = redirect_bpf__load(skel);
	}
	for (; !err && now_s() < start + seconds; packets += o.repeat)
		err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.source), &o);
	redirect_bpf__destroy(skel);
	return err ? err : packets / (now_s() - start);
}
