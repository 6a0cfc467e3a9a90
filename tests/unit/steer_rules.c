/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/steer_rules.c - the rule compiler against a plain reading of the list
 *
 * Random lists with many equal, nested and overlapping conditions; flows drawn from the same
 * few addresses and ports, edges included. steer_rules_match() must find the first rule that
 * matches when each is asked by itself.
 */
#include <bpf/steer_native.h>
#include <bpf/steer_rules.h>

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned failures;

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			printf("not ok - %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			failures++; \
		} \
	} while (0)

static uint32_t rnd(uint32_t n)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 20) % n;
}

/* --- the plain reading --------------------------------------------------------------------- */

static bool bits_match(const uint32_t *want, unsigned len, const uint32_t *addr)
{
	for (unsigned b = 0; b < len; b++) {
		uint32_t diff = ntohl(want[b / 32]) ^ ntohl(addr[b / 32]);

		if (diff >> (31 - b % 32) & 1)
			return false;
	}
	return true;
}

static int naive(const struct steer_rule *r, unsigned n, const struct steer_flow *f)
{
	uint8_t proto = f->proto == STEER_P_TCP ? IPPROTO_TCP : IPPROTO_UDP;
	uint16_t lport = ntohs(f->lport), rport = ntohs(f->rport);

	for (unsigned i = 0; i < n; i++) {
		if ((!r[i].family || r[i].family == f->family) &&
		    (!r[i].proto || r[i].proto == proto) &&
		    bits_match(r[i].remote, r[i].remote_len, f->remote) &&
		    bits_match(r[i].local, r[i].local_len, f->local) &&
		    lport >= r[i].lport_min && lport <= r[i].lport_max &&
		    rport >= r[i].rport_min && rport <= r[i].rport_max)
			return (int)i;
	}
	return -1;
}

/* --- random lists and flows ---------------------------------------------------------------- */

static void random_addr(uint32_t addr[4], bool v6)
{
	/* few values, so that prefixes nest and flows hit them */
	static const uint32_t first[] = { 0xc6120000, 0xc6120001, 0xc6130000, 0x0a000000, 0xffffffff, 0 };

	memset(addr, 0, 16);
	addr[0] = htonl(v6 ? 0x20010db8 + rnd(2) : first[rnd(6)] + rnd(3) * 256);
	if (v6) {
		addr[1] = htonl(rnd(3) << 16);
		addr[3] = htonl(rnd(4));
	}
}

static uint16_t random_port(void)
{
	static const uint16_t ports[] = { 0, 1, 79, 80, 81, 443, 8000, 8080, 32768, 65534, 65535 };

	return ports[rnd(sizeof(ports) / sizeof(ports[0]))];
}

static void random_range(uint16_t *min, uint16_t *max)
{
	uint16_t a = random_port(), b = random_port();

	*min = a < b ? a : b;
	*max = a < b ? b : a;
	if (!rnd(2)) {
		*min = 0;
		*max = 65535;
	}
}

static void random_rule(struct steer_rule *r)
{
	static const uint8_t len4[] = { 0, 1, 8, 15, 16, 23, 24, 31, 32 };
	static const uint8_t len6[] = { 0, 16, 31, 32, 33, 47, 48, 64, 127, 128 };
	bool v6 = rnd(2);

	memset(r, 0, sizeof(*r));
	r->family = !rnd(4) ? 0 : v6 ? AF_INET6 : AF_INET;
	r->proto = rnd(3) ? 0 : rnd(2) ? IPPROTO_TCP : IPPROTO_UDP;
	if (r->family) {
		r->remote_len = v6 ? len6[rnd(sizeof(len6))] : len4[rnd(sizeof(len4))];
		r->local_len = rnd(2) ? 0 : v6 ? len6[rnd(sizeof(len6))] : len4[rnd(sizeof(len4))];
		random_addr(r->remote, v6); /* host bits are set: the compiler masks them */
		random_addr(r->local, v6);
	}
	random_range(&r->lport_min, &r->lport_max);
	random_range(&r->rport_min, &r->rport_max);
}

static void random_flow(struct steer_flow *f)
{
	bool v6 = rnd(2);

	memset(f, 0, sizeof(*f));
	f->family = v6 ? AF_INET6 : AF_INET;
	f->proto = rnd(2) ? STEER_P_TCP : STEER_P_UDP;
	f->lport = htons(random_port());
	f->rport = htons(random_port());
	random_addr(f->local, v6);
	random_addr(f->remote, v6);
}

static void test_random(struct steer_rules *c)
{
	static struct steer_rule list[STEER_RULES];
	static const unsigned sizes[] = { 0, 1, 2, 5, 20, 64, 65, 255, 256 };
	unsigned matched = 0, unmatched = 0;

	for (unsigned round = 0; round < 90; round++) {
		unsigned n = sizes[round % (sizeof(sizes) / sizeof(sizes[0]))];

		for (unsigned i = 0; i < n; i++)
			random_rule(&list[i]);
		CHECK(!steer_rules_compile(c, list, n, NULL));
		for (unsigned i = 0; i < 500; i++) {
			struct steer_flow f;
			int want, got;

			random_flow(&f);
			want = naive(list, n, &f);
			got = steer_rules_match(c, &f);
			if (want != got) {
				printf("not ok - round %u, flow %u: rule %d, not %d\n", round, i, got, want);
				failures++;
				return;
			}
			*(want < 0 ? &unmatched : &matched) += 1;
		}
	}
	CHECK(matched > 5000 && unmatched > 5000); /* the draw is not one-sided */
}

/* The most different ports and prefixes that a set can have. */
static void test_full(struct steer_rules *c)
{
	static struct steer_rule list[STEER_RULES + 1];
	struct steer_flow f = { .family = AF_INET, .proto = STEER_P_TCP };

	for (unsigned i = 0; i <= STEER_RULES; i++) {
		list[i] = (struct steer_rule){ .family = AF_INET, .remote_len = 32,
			.lport_min = (uint16_t)(i * 4 + 1), .lport_max = (uint16_t)(i * 4 + 2),
			.rport_min = (uint16_t)(i * 8 + 3), .rport_max = (uint16_t)(i * 8 + 3) };
		list[i].remote[0] = htonl(0x0a000000 + i);
	}
	CHECK(steer_rules_compile(c, list, STEER_RULES + 1, NULL) == -E2BIG);
	CHECK(!steer_rules_compile(c, list, STEER_RULES, NULL));
	CHECK(c->nlport == STEER_PORT_CLASSES && c->nrport == STEER_PORT_CLASSES);
	CHECK(c->nprefixes[STEER_D_REMOTE4] == STEER_PREFIXES);
	for (unsigned i = 0; i < STEER_RULES; i++) {
		f.remote[0] = list[i].remote[0];
		f.lport = htons((uint16_t)(i * 4 + 2));
		f.rport = htons((uint16_t)(i * 8 + 3));
		CHECK(steer_rules_match(c, &f) == (int)i);
		f.lport = htons((uint16_t)(i * 4 + 3));
		CHECK(steer_rules_match(c, &f) == -1);
	}
}

static void test_refused(struct steer_rules *c)
{
	static const struct steer_rule bad[] = {
		{ .family = AF_INET, .remote_len = 33, .lport_max = 1, .rport_max = 1 },
		{ .family = AF_INET6, .local_len = 129, .lport_max = 1, .rport_max = 1 },
		{ .remote_len = 8, .lport_max = 1, .rport_max = 1 }, /* a prefix of no family */
		{ .family = 7, .lport_max = 1, .rport_max = 1 },
		{ .proto = 132, .lport_max = 1, .rport_max = 1 },
		{ .lport_min = 2, .lport_max = 1, .rport_max = 1 },
		{ .lport_max = 1, .rport_min = 9, .rport_max = 1 },
		{ .action = 3, .lport_max = 1, .rport_max = 1 },
		{ .action = STEER_ACT_STACK(STEER_STACKS), .lport_max = 1, .rport_max = 1 },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct steer_rule list[2] = { { .lport_max = 65535, .rport_max = 65535 }, bad[i] };
		__u32 where = 99;

		CHECK(steer_rules_compile(c, list, 2, &where) == -EINVAL && where == 1);
	}
	CHECK(!steer_rules_matter(NULL));
}

/* --- the cost of a decision ------------------------------------------------------------------ */

/* Instructions that the child executes between its first two stops. */
static unsigned long steps_between_stops(pid_t pid)
{
	unsigned long n = 0;
	int status;

	waitpid(pid, &status, 0);
	while (WIFSTOPPED(status) && !ptrace(PTRACE_SINGLESTEP, pid, 0, 0)) {
		waitpid(pid, &status, 0);
		if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP)
			break;
		n++;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return n;
}

/* What it takes to find the rule for that local port, the caller's overhead included. */
static unsigned long steps_of_match(const struct steer_rules *c, uint16_t port, int want)
{
	struct steer_flow f = { .family = AF_INET, .proto = STEER_P_TCP, .lport = htons(port) };
	pid_t pid;

	CHECK(steer_rules_match(c, &f) == want);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(1);
		raise(SIGSTOP);
		steer_rules_match(c, &f);
		raise(SIGSTOP);
		_exit(0);
	}
	return steps_between_stops(pid);
}

/* 256 rules, of which the last one matches, cost what one does, but for the words of their bit vector. */
static void test_constant_cost(struct steer_rules *c)
{
	static struct steer_rule list[STEER_RULES];
	unsigned long one, all;

	for (unsigned i = 0; i < STEER_RULES; i++)
		list[i] = (struct steer_rule){ .lport_min = (uint16_t)(1000 + i), .lport_max = (uint16_t)(1000 + i),
					       .rport_max = 65535 };
	CHECK(!steer_rules_compile(c, list, 1, NULL));
	one = steps_of_match(c, 1000, 0);
	CHECK(!steer_rules_compile(c, list, STEER_RULES, NULL));
	all = steps_of_match(c, 1000 + STEER_RULES - 1, STEER_RULES - 1);
	printf("# instructions of a decision: %lu with one rule, %lu with %u\n", one, all, STEER_RULES);
	CHECK(one > 100 && all <= one + STEER_RULES / 4);
}

/* The hash under the native tables: puts and deletes against a plain array. */
static void test_hash(void)
{
	struct steer_hash h = { .key_size = sizeof(struct steer_local_key) };
	static uint64_t want[512];
	struct steer_local_key k = { 0 };
	uint32_t n = 0;

	CHECK(!steer_hash_get(&h, &k) && !steer_hash_del(&h, &k));
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t x = rnd(512);

		k.addr[3] = x * 64; /* collides */
		if (rnd(2)) {
			CHECK(!steer_hash_put(&h, &k, i + 1));
			n += !want[x];
			want[x] = i + 1;
		} else {
			CHECK(steer_hash_del(&h, &k) == !!want[x]);
			n -= !!want[x];
			want[x] = 0;
		}
		CHECK(h.n == n);
	}
	for (uint32_t x = 0; x < 512; x++) {
		const uint64_t *v;

		k.addr[3] = x * 64;
		v = steer_hash_get(&h, &k);
		CHECK(v ? *v == want[x] : !want[x]);
	}
	free(h.slots);
}

int main(void)
{
	struct steer_rules *c = calloc(1, sizeof(*c));

	if (!c)
		return 1;
	test_random(c);
	test_full(c);
	test_refused(c);
	test_constant_cost(c);
	test_hash();
	free(c);
	printf("%s - steer_rules\n", failures ? "not ok" : "ok");
	return failures != 0;
}
