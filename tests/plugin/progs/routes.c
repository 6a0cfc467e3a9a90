/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of the program's own, and sockets whose stack it chooses. "loop" is a configured stack and has any address;
 * the kernel has none of those used here, so its bind() fails. No rule names the stack. */
#include <arpa/inet.h>
#include <errno.h>
#include <nstack/nstack_dmm_api.h>

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			printf("line %d: %s (%s)\n", __LINE__, #cond, strerror(errno)); \
			exit(1); \
		} \
	} while (0)

static struct sockaddr_in address = { .sin_family = AF_INET };
static const char *stack = "nstack-plane";
static int fails;

static int source(rd_route_data **data, int *num)
{
	if (fails)
		return -1;
	*data = calloc(1, sizeof(**data));
	*num = 1;
	(*data)->type = RD_DATA_TYPE_IP;
	strcpy((*data)->stack_name, stack);
	(*data)->ipdata.addr = inet_addr("198.18.77.9");
	(*data)->ipdata.masklen = 24;
	return 0;
}

static int id_of(const char *ip)
{
	nstack_rd_key k = { .type = RD_DATA_TYPE_IP, .ip_addr = inet_addr(ip) };
	int id = -1;

	return nstack_rd_get_stackid(&k, &id) ? -errno : id;
}

static int bound(int s)
{
	address.sin_port = 0;
	return bind(s, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
}

static const char *served(int s)
{
	static char name[32];
	socklen_t len = sizeof(name);

	CHECK(!getsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_STACK, name, &len) && len == strlen(name) + 1);
	return name;
}

static int choose(int s, const char *name)
{
	return setsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_STACK, name, (socklen_t)strlen(name)) ? -errno : 0;
}

static int tcp(void)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(s >= 0);
	return s;
}

static void test_routes(void)
{
	nstack_stack_info stacks[] = { { { "kernel", "nstack-linux", -1 }, 4, 0 }, { { "loop", "nstack-plane", -1 }, 7, 1 } };
	nstack_get_route_data sources[] = { source };
	socklen_t len = sizeof(address);
	int ls = tcp(), c = tcp(), s;
	char buffer[8];

	CHECK(id_of("198.18.77.1") == 2 && id_of("127.0.0.1") == 2); /* configured: loop 0, then tcpip, kernel */
	CHECK(bound(ls) == -EADDRNOTAVAIL);
	CHECK(nstack_rd_init(NULL, 2, sources, 1) == -1 && errno == EINVAL);
	CHECK(!nstack_rd_init(stacks, 2, sources, 1));
	CHECK(id_of("198.18.77.1") == 7 && id_of("127.0.0.1") == 4 && id_of("198.18.78.1") == 4);
	close(ls);
	ls = tcp();
	CHECK(!bound(ls) && !listen(ls, 1) && !getsockname(ls, (struct sockaddr *)&address, &len));
	CHECK(!connect(c, (struct sockaddr *)&address, len) && (s = accept(ls, NULL, NULL)) >= 0);
	CHECK(!strcmp(served(c), "loop") && !strcmp(served(s), "loop"));
	stack = "nstack-linux";
	CHECK(!nstack_rd_sys() && id_of("198.18.77.1") == 4);
	CHECK(bound(tcp()) == -EADDRNOTAVAIL);
	CHECK(send(c, "hello", 5, 0) == 5 && recv(s, buffer, 8, 0) == 5); /* what there is stays */
	fails = 1;
	CHECK(nstack_rd_sys() == -1 && errno == EIO && id_of("198.18.77.1") == 4);
	CHECK(!nstack_rd_age() && id_of("198.18.77.1") == 4);
	stack = "nstack-plane";
	fails = 0;
	CHECK(!nstack_rd_sys() && !bound(tcp()));
	stack = "kernel";
	CHECK(!nstack_rd_sys());
}

static void test_choices(void)
{
	int s = tcp(), mode;
	socklen_t len = sizeof(mode);

	CHECK(!strcmp(served(s), "") && choose(s, "nobody") == -ENOENT && choose(s, "a-name-that-is-too-long") == -ENOENT);
	CHECK(setsockopt(s, NSTACK_SOCKOPT, 77, "x", 1) == -1 && errno == ENOPROTOOPT);
	CHECK(setsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_STACK, (void *)8, 4) == -1 && errno == EFAULT);
	CHECK(bound(s) == -EADDRNOTAVAIL);
	CHECK(!choose(s, "loop") && !strcmp(served(s), "loop") && !choose(s, "") && !strcmp(served(s), ""));
	CHECK(!choose(s, "loop") && !bound(s) && choose(s, "kernel") == -EISCONN && !strcmp(served(s), "loop"));
	CHECK(!getsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_MODE, &mode, &len) && len == sizeof(mode) && mode == -1);
	close(s);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(!choose(s, "loop") && !bound(s) && !strcmp(served(s), "loop"));
	close(s);
	s = tcp();
	mode = 9;
	CHECK(setsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_MODE, &mode, sizeof(mode)) == -1 && errno == EINVAL);
	CHECK(setsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_MODE, &mode, 3) == -1 && errno == EINVAL);
	mode = NSTACK_RD_OPT_KERNEL;
	stack = "loop";
	CHECK(!nstack_rd_sys() && !setsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_MODE, &mode, sizeof(mode)));
	CHECK(bound(s) == -EADDRNOTAVAIL); /* the choice comes before the route */
	CHECK(!getsockopt(s, NSTACK_SOCKOPT, NSTACK_RD_MODE, &mode, &len) && mode == NSTACK_RD_OPT_KERNEL);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(choose(s, "loop") < 0);
}

int main(void)
{
	inet_pton(AF_INET, "198.18.77.1", &address.sin_addr);
	test_routes();
	test_choices();
	puts("all well");
	return 0;
}
