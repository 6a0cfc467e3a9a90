/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_json.c - what requests and answers of the control socket are made of
 *
 * Threads: that of ctl_server_run().
 */
#define _GNU_SOURCE
#include "ctl_internal.h"

#include <rd/log.h>
#include <stdarg.h>
#include <stdio.h>

cJSON *ctl_reply_new(bool ok)
{
	cJSON *r = cJSON_CreateObject();

	cJSON_AddBoolToObject(r, "ok", ok);
	return r;
}

int ctl_reply_error(struct ctl_client *c, const char *fmt, ...)
{
	cJSON *r = ctl_reply_new(false);
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cJSON_AddStringToObject(r, "error", text);
	return ctl_client_reply(c, r);
}

void ctl_note(const struct ctl_client *c, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ns_log(NS_INF, NS_M_OPER, "%s (asked by process %d, user %u)", text, (int)c->pid, (unsigned)c->uid);
}

uint64_t ctl_get_u64(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	/* the cast is defined only in range */
	return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 9e15 ?
	       (uint64_t)v->valuedouble : 0;
}

const char *ctl_get_str(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}
