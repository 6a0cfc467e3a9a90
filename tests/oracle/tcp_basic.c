/* SPDX-License-Identifier: Apache-2.0 */
/* tests/oracle/tcp_basic.c - a connection from its beginning to its end */
#include "oracle.h"

static void names(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	O("getsockname", getsockname(fd, (void *)&a, &len));
	o_addr("own name", &a, len);
	len = sizeof(a);
	O("getpeername", getpeername(fd, (void *)&a, &len));
	o_addr("peer's name", &a, len);
}

static void echo_server(void)
{
	int lst = o_listener(0), fd;
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char buf[64];

	o_sync();
	fd = (int)O_OK("accept", accept(lst, (void *)&a, &len));
	o_addr("accepted from", &a, len);
	names(fd);
	o_bytes("request", buf, O("recv all", o_recv_all(fd, buf, 5)));
	O("send", send(fd, "world", 5, 0));
	o_events("end of file", o_wait(fd, POLLIN | POLLRDHUP));
	O("recv at the end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
	O("close the listener", close(lst));
}

static void echo_client(void)
{
	struct sockaddr_storage a;
	socklen_t len = o_server_addr(&a, o_port(0));
	int fd = (int)O_OK("socket", socket(o_family, SOCK_STREAM, 0));
	char buf[64];

	o_sync();
	O("connect", connect(fd, (void *)&a, len));
	names(fd);
	O("send", send(fd, "hello", 5, 0));
	o_bytes("answer", buf, O("recv all", o_recv_all(fd, buf, 5)));
	O("shutdown", shutdown(fd, SHUT_WR));
	O("recv at the end", recv(fd, buf, sizeof(buf), 0));
	O("close", close(fd));
}
SCENARIO(echo, "connect, exchange data, half-close, close", O_BOTH, echo_server, echo_client)
