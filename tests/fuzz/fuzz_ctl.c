/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_ctl.c - requests to the control socket with foreign bytes
 *
 * Every request gets one reply, which is JSON with "ok"; what a client prepared can be dropped
 * with it. Not here: the transport (tests/unit/rd_ctl.c).
 */
#include <nsocket/ctl_reply.c>

static int replies;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int ctl_client_reply(struct ctl_client *c, cJSON *reply)
{
	char *text = cJSON_PrintUnformatted(reply);
	cJSON *again = text ? cJSON_Parse(text) : NULL;

	if (!again || !cJSON_IsBool(cJSON_GetObjectItem(again, "ok")))
		abort();
	replies++;
	cJSON_Delete(again);
	free(text);
	cJSON_Delete(reply);
	return 0;
}

void ctl_server_reload(struct ctl_server *s)
{
	abort(); /* there is no rule file */
}

static uint32_t f_sockets(void *arg, struct stack_sock_info *out, uint32_t n, uint64_t *cursor)
{
	memset(out, 0, sizeof(*out));
	out->tcp_state = (uint8_t)*cursor;
	out->proto = *cursor & 1 ? IPPROTO_TCP : IPPROTO_UDP;
	return (*cursor)++ < 20;
}

static int f_pin(void *arg)
{
	return 1;
}

static int f_dump_start(void *arg, int fd, const struct ctl_dump *opt, char why[256])
{
	abort(); /* no descriptor ever comes along here */
}

static int f_ping_start(void *arg, struct ctl_ping *p, char why[256])
{
	if (p->ifname[sizeof(p->ifname) - 1] || p->stack.remote.family != p->stack.local.family)
		abort();
	return 0;
}

static void f_ping_stop(void *arg, const struct stack_ping *p)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ctl_ops f_ops = { .sockets = f_sockets, .pin_flows = f_pin,
					      .dump_start = f_dump_start,
					      .ping_start = f_ping_start, .ping_stop = f_ping_stop };
	static struct ctl_server s = { .ops = &f_ops };
	struct ctl_client *c = &s.client[0];

	if (size > CTL_MSG_MAX)
		return 0;
	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < CTL_CLIENTS; i++)
		s.client[i].fd = -1;
	memcpy(s.msg, data, size);
	replies = 0;
	if (!ctl_request(&s, c, s.msg, size, -1) && replies != 1)
		abort();
	while (c->stream)
		c->stream(&s, c);
	ctl_ping_stop(&s, c);
	free(c->pending);
	ns_log_set_level(NS_M_NR_, NS_OFF);
	return 0;
}
