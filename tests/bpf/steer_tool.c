/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/steer_tool.c - bpf/steer_ctl.h as a command, for test_steer_load.py
 *
 *	steer_tool load|unload|status|counters|claims IFACE
 *	steer_tool load-native IFACE, load-generic IFACE
 *	steer_tool local IFACE ADDR...        the set of local addresses
 *	steer_tool session IFACE              reads commands from standard input, answers each with
 *		one line "0 ..." or "-ERRNO ...": take STACK; claim|claimnew|unclaim tcp|udp ADDR PORT;
 *		pin tcp|udp LADDR LPORT RADDR RPORT INSTANCE; pid INSTANCE; claims; pins; sweep;
 *		exec (the program again, which takes "tcpip", claims TCP 80 and ends);
 *		xsk (a real AF_XDP socket on queue 0); recv SECONDS (length of a packet from it)
 *
 * Results: "0 text" or "-ERRNO text"; exit code 1 with an error.
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <xdp/xsk.h>

static int result(int err, const char *text)
{
	printf("%d %s\n", err, text);
	fflush(stdout);
	return err < 0;
}

static bool parse_addr(const char *ip, const char *port, struct nst_addr *a)
{
	memset(a, 0, sizeof(*a));
	a->port = htons((uint16_t)atoi(port));
	a->family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	return inet_pton(a->family, ip, a->v6) == 1;
}

static uint8_t parse_proto(const char *s)
{
	return !strcmp(s, "tcp") ? IPPROTO_TCP : IPPROTO_UDP;
}

static int cmd_status(unsigned ifindex)
{
	struct steer_status s;
	int err = steer_status(ifindex, &s);

	printf("%d attached=%d native=%d dispatcher=%d id=%u foreign=%s why=%s\n", err, s.attached,
	       s.native, s.dispatcher, s.prog_id, s.foreign, s.mode_why);
	return err < 0;
}

static int cmd_counters(struct steer *st)
{
	uint64_t c[STEER_C_NR_];
	int err = steer_counters(st, c);

	printf("%d", err);
	for (unsigned i = 0; !err && i < STEER_C_NR_; i++)
		printf(" %s=%llu", steer_counter_name(i), (unsigned long long)c[i]);
	printf("\n");
	return err < 0;
}

static int cmd_claims(struct steer *st)
{
	struct steer_claim_info c[256];
	int n = steer_claims(st, c, 256);

	printf("%d", n);
	for (int i = 0; i < n && i < 256; i++) {
		char a[NST_ADDRSTRLEN];

		printf(" %s/%s/%u/%d", c[i].proto == IPPROTO_TCP ? "tcp" : "udp",
		       nst_addr_str(&c[i].local, a), c[i].instance, c[i].pid);
	}
	printf("\n");
	fflush(stdout);
	return n < 0;
}

static int cmd_local(struct steer *st, char **argv)
{
	struct nst_addr addrs[64];
	uint32_t n = 0;

	for (; *argv && n < 64; argv++) {
		if (!parse_addr(*argv, "0", &addrs[n++]))
			return result(-EINVAL, *argv);
	}
	return result(steer_local_set(st, addrs, n), "");
}

static int print_pin(void *arg, const void *key, const void *value)
{
	const struct steer_flow *f = key;
	char l[INET6_ADDRSTRLEN], r[INET6_ADDRSTRLEN];

	printf(" %s:%u-%s:%u=%u", inet_ntop(f->family, f->local, l, sizeof(l)), ntohs(f->lport),
	       inet_ntop(f->family, f->remote, r, sizeof(r)), ntohs(f->rport),
	       *(const uint32_t *)value);
	++*(int *)arg;
	return 0;
}

static void cmd_pins(struct steer *st)
{
	uint32_t value;
	int n = 0;

	printf("0");
	steer_map_each(st->map[STEER_M_PINS], sizeof(struct steer_flow), STEER_PINS_MAX, &value,
		       print_pin, &n);
	printf("\n");
	fflush(stdout);
}

static struct {
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons comp, rx;
} port;

#define FRAME 4096u
#define FRAMES 64u

static int cmd_xsk(struct steer *st, const char *ifname)
{
	struct xsk_umem_config ucfg = { .fill_size = FRAMES, .comp_size = FRAMES, .frame_size = FRAME };
	struct xsk_socket_config cfg = { .rx_size = FRAMES, .tx_size = FRAMES,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD, .bind_flags = XDP_COPY };
	void *area = mmap(NULL, FRAME * FRAMES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	uint32_t at;
	int err;

	if (area == MAP_FAILED)
		return -errno;
	err = xsk_umem__create(&port.umem, area, FRAME * FRAMES, &port.fill, &port.comp, &ucfg);
	if (!err)
		err = xsk_socket__create(&port.xsk, ifname, 0, port.umem, &port.rx, &port.tx, &cfg);
	if (err)
		return err;
	if (xsk_ring_prod__reserve(&port.fill, FRAMES, &at) != FRAMES)
		return -ENOBUFS;
	for (uint32_t i = 0; i < FRAMES; i++)
		*xsk_ring_prod__fill_addr(&port.fill, at + i) = (uint64_t)i * FRAME;
	xsk_ring_prod__submit(&port.fill, FRAMES);
	return steer_xsk_set(st, 0, xsk_socket__fd(port.xsk));
}

/* Length of the next packet, -ETIMEDOUT, or -errno. Its frame is not used again. */
static int cmd_recv(int seconds)
{
	struct pollfd p = { .fd = port.xsk ? xsk_socket__fd(port.xsk) : -1, .events = POLLIN };
	uint32_t at;
	int len;

	if (!port.xsk)
		return -EBADF;
	if (!xsk_ring_cons__peek(&port.rx, 1, &at)) {
		if (poll(&p, 1, seconds * 1000) < 0)
			return -errno;
		if (!xsk_ring_cons__peek(&port.rx, 1, &at))
			return -ETIMEDOUT;
	}
	len = (int)xsk_ring_cons__rx_desc(&port.rx, at)->len;
	xsk_ring_cons__release(&port.rx, 1);
	return len;
}

/* What a program under the preload library does when it execs: no orderly end. */
static int cmd_exec(const char *ifname)
{
	char self[256] = "";

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return -errno;
	execl(self, self, "again", ifname, NULL);
	return -errno;
}

static void session_line(struct steer *st, const char *ifname, char *w[8], int n)
{
	char text[64] = "", stack[STEER_STACK_NAME] = "";
	struct steer_owner owner = { 0 };
	struct nst_addr a, b;
	uint64_t image = 0;
	pid_t pid = 0;
	int err = -EINVAL;

	if (!strcmp(w[0], "take") && n == 2) {
		if (getrandom(&image, sizeof(image), 0) != sizeof(image))
			abort();
		err = steer_instance_take(st, w[1], image);
	} else if (!strcmp(w[0], "pid") && n == 2) {
		err = steer_instance_pid(st, (unsigned)atoi(w[1]), &pid, stack);
		snprintf(text, sizeof(text), "%d %s", pid, stack);
	} else if (!strcmp(w[0], "claims")) {
		cmd_claims(st);
		return;
	} else if (!strcmp(w[0], "pins")) {
		cmd_pins(st);
		return;
	} else if (!strcmp(w[0], "exec")) {
		err = cmd_exec(ifname);
	} else if (!strcmp(w[0], "xsk")) {
		err = cmd_xsk(st, ifname);
	} else if (!strcmp(w[0], "recv") && n == 2) {
		err = cmd_recv(atoi(w[1]));
	} else if (!strcmp(w[0], "sweep")) {
		err = steer_pins_sweep(st);
	} else if (!strcmp(w[0], "pin") && n == 7 && parse_addr(w[2], w[3], &a) &&
		   parse_addr(w[4], w[5], &b)) {
		err = steer_pin(st, parse_proto(w[1]), &a, &b, (unsigned)atoi(w[6]));
	} else if (n == 4 && parse_addr(w[2], w[3], &a)) {
		if (!strcmp(w[0], "claim"))
			err = steer_claim(st, parse_proto(w[1]), &a, true, &owner);
		else if (!strcmp(w[0], "claimnew"))
			err = steer_claim_new(st, parse_proto(w[1]), &a, true, &owner);
		else if (!strcmp(w[0], "unclaim"))
			err = steer_unclaim(st, parse_proto(w[1]), &a, true);
		snprintf(text, sizeof(text), "%d", owner.pid);
	}
	result(err, text);
}

static void cmd_again(struct steer *st)
{
	char *take[8] = { "take", "tcpip" }, *claim[8] = { "claim", "tcp", "0.0.0.0", "80" };

	result(0, "ready");
	session_line(st, NULL, take, 2);
	session_line(st, NULL, claim, 4);
	result(0, "end");
}

static void cmd_session(struct steer *st, const char *ifname)
{
	char line[256];

	result(0, "ready");
	while (fgets(line, sizeof(line), stdin)) {
		char *w[8] = { 0 }, *save = NULL, *p = strtok_r(line, " \n", &save);
		int n = 0;

		for (; p && n < 8; p = strtok_r(NULL, " \n", &save))
			w[n++] = p;
		if (n)
			session_line(st, ifname, w, n);
	}
}

int main(int argc, char **argv)
{
	char why[STEER_WHY] = "";
	struct steer *st;
	unsigned ifindex;
	int err, ret = 0;

	if (argc < 3)
		return result(-EINVAL, "usage: steer_tool VERB IFACE");
	ifindex = if_nametoindex(argv[2]);
	if (!strncmp(argv[1], "load", 4)) {
		err = steer_load(ifindex, !strcmp(argv[1], "load-native") ? STEER_MODE_NATIVE :
				 !strcmp(argv[1], "load-generic") ? STEER_MODE_GENERIC : STEER_MODE_AUTO,
				 why);
		return result(err, why);
	}
	if (!strcmp(argv[1], "unload"))
		return result(steer_unload(ifindex, why), why);
	if (!strcmp(argv[1], "status"))
		return cmd_status(ifindex);
	err = steer_open(&st, ifindex, why);
	if (err)
		return result(err, why);
	if (!strcmp(argv[1], "counters"))
		ret = cmd_counters(st);
	else if (!strcmp(argv[1], "claims"))
		ret = cmd_claims(st);
	else if (!strcmp(argv[1], "local"))
		ret = cmd_local(st, argv + 3);
	else if (!strcmp(argv[1], "again"))
		cmd_again(st);
	else if (!strcmp(argv[1], "session"))
		cmd_session(st, argv[2]);
	else
		ret = result(-EINVAL, "unknown verb");
	steer_close(st);
	return ret;
}
