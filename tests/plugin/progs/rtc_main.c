/* SPDX-License-Identifier: Apache-2.0 */
/* A server as the manual has it for stacks that run to completion: nothing is there when accept() is called
 * first, and the loop is called again. The client is in the same loop, and comes later. */
#include <arpa/inet.h>
#include <errno.h>
#include <nstack/nstack_dmm_api.h>

static int server_fd, client_fd, turns;
static struct sockaddr_in address = { .sin_family = AF_INET };

static int loop(void *arg)
{
	char buffer[64] = "";
	int s;

	(void)arg;
	if (++turns == 3 && (connect(client_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			     send(client_fd, "ping", 4, 0) != 4))
		exit(2);
	s = accept(server_fd, NULL, NULL);
	if (s < 0)
		return errno == EAGAIN && turns < 10 ? -1 : (exit(3), 0);
	if (read(s, buffer, sizeof(buffer)) != 4 || send(s, "pong", 4, 0) != 4 ||
	    recv(client_fd, buffer, sizeof(buffer), 0) != 4 || strcmp(buffer, "pong"))
		exit(4);
	return 99;
}

int main(void)
{
	address.sin_port = htons(8080);
	inet_pton(AF_INET, "198.18.77.1", &address.sin_addr);
	server_fd = socket(AF_INET, SOCK_STREAM, 0);
	client_fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(server_fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(server_fd, 3) < 0)
		return 1;
	if (nstack_run(NULL) != -1 || nstack_epoll_prewait() != 0)
		return 6;
	return nstack_run((void *)loop) == 5 && turns >= 3 ? 0 : 5;
}
