/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks and sources of routes that a program registers: arguments, failing sources, ageing, the order of what
 * decides, and lookups while another thread refreshes. */
#include <rd/sources.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <rd/config.h>
#include <rd/rules.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include "check.h"

enum { LWIP = 3, KERNEL = 5, OWN = 8 };
static const nstack_rd_stack_info stacks[] = {
	{ { "lwip", "nstack-plane", -1 }, LWIP, 2 },
	{ { "kernel", "nstack-linux", -1 }, KERNEL, 1 },
	{ { "stackx", "nstack-dpdk", -1 }, OWN, 1 },
};

/* --- sources ---------------------------------------------------------------------------------- */

static rd_route_data ip(const char *addr, unsigned len, const char *stack)
{
	rd_route_data r = { .type = RD_DATA_TYPE_IP, .ipdata = { inet_addr(addr), len, { 0 } } };

	strcpy(r.stack_name, stack);
	return r;
}

static rd_route_data ip6(const char *addr, unsigned len, const char *stack)
{
	rd_route_data r = { .type = RD_DATA_TYPE_IP6, .ip6data.masklen = len };

	inet_pton(AF_INET6, addr, &r.ip6data.addr);
	strcpy(r.stack_name, stack);
	return r;
}

static rd_route_data proto(unsigned type, const char *stack)
{
	rd_route_data r = { .type = RD_DATA_TYPE_PROTO, .proto_type = type };

	strcpy(r.stack_name, stack);
	return r;
}

#define SAYS(route, ...) says((rd_route_data[]){ __VA_ARGS__ }, \
			      sizeof((rd_route_data[]){ __VA_ARGS__ }) / sizeof(rd_route_data), route)
static struct said {
	rd_route_data route[8];
	int n, result;
} first, second;

static void says(const rd_route_data *r, size_t n, struct said *s)
{
	memcpy(s->route, r, n * sizeof(*r));
	s->n = (int)n;
}

static int give(const struct said *s, rd_route_data **data, int *num)
{
	if (s->result) {
		*data = (void *)1; /* not to be looked at */
		*num = 1000;
		return s->result;
	}
	*data = s->n > 0 ? malloc((size_t)s->n * sizeof(**data)) : NULL;
	if (*data)
		memcpy(*data, s->route, (size_t)s->n * sizeof(**data));
	*num = s->n;
	return 0;
}

static int source_one(rd_route_data **data, int *num)
{
	return give(&first, data, num);
}

static int source_two(rd_route_data **data, int *num)
{
	return give(&second, data, num);
}

static nstack_get_route_data both[] = { source_one, source_two };

/* --- questions ---------------------------------------------------------------------------------- */

static int id_of(const char *addr)
{
	nstack_rd_key k = { .type = strchr(addr, ':') ? RD_DATA_TYPE_IP6 : RD_DATA_TYPE_IP };
	int id, ret;

	inet_pton(k.type == RD_DATA_TYPE_IP ? AF_INET : AF_INET6, addr,
		  k.type == RD_DATA_TYPE_IP ? (void *)&k.ip_addr : (void *)&k.ip6_addr);
	ret = rd_sources_stackid(&k, &id);
	return ret ? ret : id;
}

static int id_of_type(unsigned type)
{
	nstack_rd_key k = { .type = RD_DATA_TYPE_PROTO, .proto_type = type };
	int id, ret = rd_sources_stackid(&k, &id);

	return ret ? ret : id;
}

static struct rd_listen listens(const char *addr)
{
	struct nst_addr a = { .family = AF_INET, .port = htons(80) };

	inet_pton(AF_INET, addr, &a.v4);
	return rd_listen(NULL, IPPROTO_TCP, &a);
}

static void rules(const char *text)
{
	static struct rd_rules r;
	char err[RD_ERR];

	CHECK(!rd_rules_parse(text, strlen(text), "rules", &r, err), "%s", err);
	CHECK(!rd_rules_publish(&r), " ");
}

/* --- tests ---------------------------------------------------------------------------------------- */

static void test_numbers_of_the_configuration(void)
{
	CHECK(id_of("198.18.0.1") == 0 && id_of("127.0.0.1") == 1, "tcpip and kernel, where nothing is configured");
}

static void test_arguments(void)
{
	nstack_rd_stack_info s[3];
	nstack_get_route_data many[NSTACK_SYS_FUN_MAX + 1];
	int id;

	CHECK(rd_sources_init(NULL, 1, both, 2) == -EINVAL && rd_sources_init(stacks, 0, both, 2) == -EINVAL &&
	      rd_sources_init(stacks, -1, both, 2) == -EINVAL && rd_sources_init(stacks, 3, NULL, 1) == -EINVAL &&
	      rd_sources_init(stacks, 3, both, -1) == -EINVAL && rd_sources_init(stacks, 33, both, 2) == -EINVAL, " ");
	for (unsigned i = 0; i < NSTACK_SYS_FUN_MAX + 1; i++)
		many[i] = source_one;
	CHECK(rd_sources_init(stacks, 3, many, NSTACK_SYS_FUN_MAX + 1) == -EINVAL, "too many");
	many[1] = NULL;
	CHECK(rd_sources_init(stacks, 3, many, 2) == -EINVAL, "one that is none");
	for (int wrong = 0; wrong < 6; wrong++) {
		memcpy(s, stacks, sizeof(s));
		if (wrong == 0)
			s[2].stack_id = LWIP;
		else if (wrong == 1)
			strcpy(s[2].stack.stackname, "lwip");
		else if (wrong == 2)
			strcpy(s[2].stack.planename, "nstack-linux");
		else if (wrong == 3)
			memset(s[2].stack.stackname, 'x', STACK_NAME_MAX);
		else if (wrong == 4)
			s[2].stack.stackname[0] = 0;
		else
			strcpy(s[2].stack.stackname, "no/name");
		CHECK(rd_sources_init(s, 3, both, 2) == -EINVAL, "%d", wrong);
	}
	CHECK(rd_sources_stackid(NULL, &id) == -EINVAL &&
	      rd_sources_stackid(&(nstack_rd_key){ .type = RD_DATA_TYPE_MAX }, &id) == -EINVAL &&
	      rd_sources_stackid(&(nstack_rd_key){ .type = RD_DATA_TYPE_IP }, NULL) == -EINVAL, " ");
	CHECK(id_of("198.18.0.1") == 0, "all that changed nothing");
}

/* Prefixes of any order and nesting, host bits, /0, both families; planes, names, duplicates. */
static void test_routes(void)
{
	SAYS(&first, ip("10.0.0.0", 8, "nstack-linux"), ip("10.1.2.3", 16, "lwip"), ip("10.1.1.0", 24, "nstack-dpdk"),
	     ip("11.0.0.0", 8, "drop"), ip6("2001:db8::", 32, "nstack-plane"), proto(SOCK_DGRAM, "lwip"));
	SAYS(&second, ip("10.1.1.0", 24, "lwip"), proto(SOCK_STREAM | SOCK_NONBLOCK, "kernel"));
	CHECK(!rd_sources_init(stacks, 3, both, 2), " ");
	CHECK(id_of("10.9.0.1") == KERNEL && id_of("10.1.0.1") == LWIP && id_of("10.1.1.9") == LWIP, "the last counts");
	CHECK(id_of("11.0.0.1") == -EACCES && id_of("2001:db8::5") == LWIP, " ");
	CHECK(id_of_type(SOCK_STREAM) == KERNEL && id_of_type(SOCK_DGRAM | SOCK_CLOEXEC) == LWIP &&
	      id_of_type(SOCK_RAW) == KERNEL, " ");
	CHECK(id_of("127.0.0.1") == KERNEL && id_of("0.0.0.0") == KERNEL && id_of("::1") == KERNEL, "built in");
	CHECK(!listens("10.9.0.1").stack && !listens("10.1.1.1").stack, "by the local address");
	CHECK(rd_may_name(IPPROTO_TCP, &(struct nst_addr){ .family = AF_INET }, "lwip") &&
	      !rd_may_name(IPPROTO_TCP, &(struct nst_addr){ .family = AF_INET }, "other"), "a wildcard");
	second.n = 0;
	CHECK(!rd_sources_refresh() && id_of("10.1.1.9") == OWN && listens("10.1.1.1").exempt, " ");
	SAYS(&second, ip("0.0.0.0", 0, "nstack-linux"));
	CHECK(!rd_sources_refresh() && id_of("203.0.113.1") == KERNEL && id_of("10.1.1.9") == OWN, "/0");
}

/* Its former routes stay until they are aged; the others' are in force. */
static void test_failing_source(void)
{
	SAYS(&first, ip("10.0.0.0", 8, "lwip"));
	SAYS(&second, ip("11.0.0.0", 8, "kernel"));
	CHECK(!rd_sources_refresh() && id_of("10.0.0.1") == LWIP && id_of("11.0.0.1") == KERNEL, " ");
	first.result = -1;
	SAYS(&second, ip("11.0.0.0", 8, "lwip"));
	CHECK(rd_sources_refresh() == -EIO && id_of("10.0.0.1") == LWIP && id_of("11.0.0.1") == LWIP, " ");
	CHECK(!rd_sources_age() && id_of("10.0.0.1") == KERNEL && id_of("11.0.0.1") == LWIP, "aged");
	first.result = 0;
	CHECK(!rd_sources_age() && !rd_sources_refresh() && id_of("10.0.0.1") == LWIP, "well again");
	SAYS(&first, ip("10.0.0.0", 8, "kernel"), ip("12.0.0.0", 33, "kernel"));
	CHECK(rd_sources_refresh() == -EIO && id_of("10.0.0.1") == LWIP, "not valid as a whole");
	SAYS(&first, ip("10.0.0.0", 8, "kernel"), ip("12.0.0.0", 8, "no/name"));
	CHECK(rd_sources_refresh() == -EIO && id_of("10.0.0.1") == LWIP, " ");
	first.n = -1;
	CHECK(rd_sources_refresh() == -EIO && id_of("10.0.0.1") == LWIP, " ");
	first.n = 0;
	CHECK(!rd_sources_refresh() && id_of("10.0.0.1") == KERNEL, "nothing is a route, too");
}

/* Without a rule: the highest priority, of equal ones the first; a configured default comes before. */
static void test_default(void)
{
	nstack_rd_stack_info s[3];

	first.n = second.n = 0;
	CHECK(!rd_sources_refresh() && id_of("198.18.0.1") == KERNEL, " ");
	memcpy(s, stacks, sizeof(s));
	s[0].priority = 0;
	CHECK(!rd_sources_init(s, 3, both, 2) && id_of("198.18.0.1") == LWIP, " ");
	rules("{ \"rules\": [], \"default\": \"stack\" }");
	CHECK(id_of("198.18.0.1") == OWN, "said");
	rules("{ \"rules\": [{ \"remote\": \"198.18.0.0/15\", \"action\": \"kernel\" }] }");
	CHECK(id_of("198.18.0.1") == KERNEL && id_of("203.0.113.1") == LWIP, " ");
	CHECK(!rd_sources_refresh() && id_of("203.0.113.1") == LWIP, " ");
	SAYS(&first, ip("198.18.1.0", 24, "stackx"));
	CHECK(!rd_sources_refresh() && id_of("198.18.1.1") == OWN && id_of("198.18.2.1") == KERNEL, "before rules");
	CHECK(!rd_sources_init(s, 1, NULL, 0) && id_of("198.18.1.1") == -ENOENT && id_of("203.0.113.1") == LWIP,
	      "the former ones are gone, and the kernel has no number now");
}

static int inside_result;
static int calls_inside(rd_route_data **data, int *num)
{
	inside_result = rd_sources_refresh();
	return -1;
}

static void test_inside_of_a_source(void)
{
	nstack_get_route_data fun = calls_inside;

	CHECK(!rd_sources_init(stacks, 3, &fun, 1) && inside_result == -EDEADLK, "%d", inside_result);
}

/* --- lookups beside refreshes ------------------------------------------------------------------------ */

static bool stop; /* atomic */
static struct said load;

static int source_load(rd_route_data **data, int *num)
{
	return give(&load, data, num);
}

static void *refresh(void *arg)
{
	unsigned long *n = arg;

	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); ++*n) {
		SAYS(&load, ip("10.0.0.0", 8, *n % 2 ? "lwip" : "nstack-dpdk"), ip("0.0.0.0", 0, "kernel"));
		if (rd_sources_refresh())
			break;
	}
	return NULL;
}

static void test_lookups_beside_refreshes(void)
{
	nstack_get_route_data fun = source_load;
	unsigned long refreshes = 0, lookups = 0, wrong = 0;
	struct timespec now, begin;
	pthread_t t;

	SAYS(&load, ip("10.0.0.0", 8, "lwip"));
	CHECK(!rd_sources_init(stacks, 3, &fun, 1), " ");
	CHECK(!pthread_create(&t, NULL, refresh, &refreshes), " ");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		for (int i = 0; i < 1000; i++) {
			int id = id_of("10.0.0.1");

			wrong += id != LWIP && id != OWN;
		}
		lookups += 1000;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec < 1);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	CHECK(!wrong && refreshes > 1, "%lu wrong, %lu refreshes", wrong, refreshes);
	printf("# %lu lookups beside %lu refreshes in about a second\n", lookups, refreshes);
}

int main(void)
{
	char err[RD_ERR];

	unsetenv("NSTACK_RD");
	CHECK(!rd_init(rd_config_defaults(), err), "%s", err);
	test_numbers_of_the_configuration();
	test_arguments();
	test_routes();
	test_failing_source();
	test_default();
	test_inside_of_a_source();
	test_lookups_beside_refreshes();
	if (!failures)
		puts("ok");
	return failures != 0;
}
