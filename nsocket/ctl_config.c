/* SPDX-License-Identifier: Apache-2.0 */
/* nsocket/ctl_config.c - the keys of the configuration that can be changed while the process runs
 *
 * Threads: that of ctl_server_run().
 */
#define _GNU_SOURCE
#include "ctl_internal.h"

#include <errno.h>
#include <rd/config.h>
#include <stdlib.h>

static void put_json(cJSON *o, const char *key, const char *text)
{
	if (text[0] == '-' && !text[1])
		cJSON_AddNullToObject(o, key);
	else
		cJSON_AddRawToObject(o, key, text);
}

static cJSON *config_json(const struct ctl_server *s)
{
	cJSON *r = ctl_reply_new(true), *list = cJSON_AddArrayToObject(r, "keys");
	enum rd_config_of of = s->ops->programs ? RD_CONFIG_OF_DAEMON : RD_CONFIG_OF_PROGRAM;
	struct rd_config_soft k;

	cJSON_AddStringToObject(r, "config", rd_config()->source);
	for (unsigned i = 0; rd_config_soft(i, of, &k); i++) {
		cJSON *o = cJSON_CreateObject();

		cJSON_AddStringToObject(o, "name", k.name);
		put_json(o, "value", k.value);
		put_json(o, "default", k.standard);
		cJSON_AddStringToObject(o, "values", k.values);
		cJSON_AddStringToObject(o, "help", k.help);
		cJSON_AddItemToArray(list, o);
	}
	return r;
}

int ctl_op_config(struct ctl_request *q)
{
	return ctl_client_reply(q->c, config_json(q->s));
}

int ctl_op_config_set(struct ctl_request *q)
{
	const cJSON *set = cJSON_GetObjectItemCaseSensitive(q->json, "set");
	char *text, err[RD_ERR] = "";
	int ret;

	if (!q->s->ops->config_change)
		return ctl_reply_error(q->c, "this process has nothing to set");
	if (!cJSON_IsObject(set))
		return ctl_reply_error(q->c, "\"set\" has to be an object");
	text = cJSON_PrintUnformatted(set);
	if (!text)
		return -ENOMEM;
	ret = q->s->ops->config_change(q->s->arg, text, err);
	if (!ret)
		ctl_note(q->c, "set %.200s", text);
	free(text);
	return ret ? ctl_reply_error(q->c, "%s", err) : ctl_client_reply(q->c, config_json(q->s));
}
