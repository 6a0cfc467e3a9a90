/* SPDX-License-Identifier: Apache-2.0 */
/* tools/verb_load.c - nstack load, nstack unload */
#include "tool.h"

#include <bpf/steer_ctl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse_mode(const char *s, enum steer_mode *mode)
{
	if (!s || !strcmp(s, "auto"))
		*mode = STEER_MODE_AUTO;
	else if (!strcmp(s, "generic"))
		*mode = STEER_MODE_GENERIC;
	else if (!strcmp(s, "native"))
		*mode = STEER_MODE_NATIVE;
	else
		return -1;
	return 0;
}

static void say(cJSON *list, bool json, const char *name, bool ok, const char *done, const char *why)
{
	if (json) {
		cJSON *o = cJSON_CreateObject();

		cJSON_AddStringToObject(o, "name", name);
		cJSON_AddBoolToObject(o, "ok", ok);
		cJSON_AddStringToObject(o, "why", why);
		cJSON_AddItemToArray(list, o);
	} else if (ok) {
		printf("%s: %s%s%s%s\n", name, done, why[0] ? " (" : "", why, why[0] ? ")" : "");
	} else {
		fail("%s: %s", name, why);
	}
}

static bool load_one(cJSON *list, bool json, const char *name, enum steer_mode mode)
{
	unsigned ifindex = if_nametoindex(name);
	struct steer_status st = { 0 };
	char why[STEER_WHY] = "";
	int ret;

	if (!ifindex && !json)
		return iface_by_name(name, &ifindex) == 0;
	ret = ifindex ? steer_load(ifindex, mode, why) : -ENODEV;
	if (ret && !why[0])
		snprintf(why, sizeof(why), "%s", ifindex ? strerror(-ret) : "no such interface");
	if (!ret && !steer_status(ifindex, &st))
		snprintf(why, sizeof(why), "%s XDP%s%s", st.native ? "native" : "generic",
			 st.mode_why[0] ? ": " : "",
			 mode_reason(st.native ? "native" : "generic", st.mode_why));
	say(list, json, name, ret == 0, "attached", why);
	return ret == 0;
}

static bool unload_one(cJSON *list, bool json, const char *name)
{
	unsigned ifindex = if_nametoindex(name);
	char why[STEER_WHY] = "";
	int ret;

	if (!ifindex && !json)
		return iface_by_name(name, &ifindex) == 0;
	ret = ifindex ? steer_unload(ifindex, why) : -ENODEV;
	if (ret && !why[0])
		snprintf(why, sizeof(why), "%s", ifindex ? strerror(-ret) : "no such interface");
	say(list, json, name, ret == 0, "detached", ret ? why : "");
	return ret == 0;
}

static int load_run(int argc, char **argv)
{
	const char *mode_name = NULL;
	bool json = false, ok = true;
	const struct opt opts[] = { OPT_VALUE("--mode", 'm', &mode_name), OPT_FLAG("--json", 'j', &json), { 0 } };
	int n = opts_parse(&verb_load, opts, true, argc, argv), done = 0;
	enum steer_mode mode;
	struct iface *ifs;
	cJSON *list;

	if (n < 0)
		return EXIT_USAGE;
	if (parse_mode(mode_name, &mode))
		return usage_error(&verb_load, "--mode is auto, generic or native");
	list = cJSON_CreateArray();
	for (int i = 1; i <= n; i++)
		ok &= load_one(list, json, argv[i], mode);
	if (n == 0) {
		n = iface_list(&ifs);
		for (int i = 0; i < n; i++) {
			if (!iface_usable(&ifs[i]))
				continue;
			ok &= load_one(list, json, ifs[i].name, mode);
			done++;
		}
		free(ifs);
		if (!done) {
			cJSON_Delete(list);
			return fail("no interface is up and has an address; name one: nstack load IFACE");
		}
	}
	if (json)
		print_json(list);
	else
		cJSON_Delete(list);
	return ok ? 0 : EXIT_FAILED;
}

static int unload_run(int argc, char **argv)
{
	bool json = false, ok = true;
	const struct opt opts[] = { OPT_FLAG("--json", 'j', &json), { 0 } };
	int n = opts_parse(&verb_unload, opts, true, argc, argv);
	struct steer_status st;
	struct iface *ifs;
	cJSON *list;

	if (n < 0)
		return EXIT_USAGE;
	list = cJSON_CreateArray();
	for (int i = 1; i <= n; i++)
		ok &= unload_one(list, json, argv[i]);
	if (n == 0) {
		n = iface_list(&ifs);
		for (int i = 0; i < n; i++) {
			if (!steer_status(ifs[i].ifindex, &st) && st.attached)
				ok &= unload_one(list, json, ifs[i].name);
		}
		free(ifs);
	}
	if (json)
		print_json(list);
	else
		cJSON_Delete(list);
	return ok ? 0 : EXIT_FAILED;
}

const struct verb verb_load = {
	"load", load_run, "attach the steering program to interfaces",
	"load [--mode auto|generic|native] [--json] [IFACE...]",
	"Attaches the XDP program that sends the packets of nstack's sockets, and no others, to their\n"
	"programs. Without IFACE: every interface that is up and has an address. An interface that has\n"
	"it already stays as it is.\n\n"
	"  -m, --mode MODE   XDP mode; auto (default) takes what serves best and says why\n"
	"  -j, --json        print JSON\n",
};

const struct verb verb_unload = {
	"unload", unload_run, "detach it, and leave nothing behind",
	"unload [--json] [IFACE...]",
	"Detaches the steering program and removes its tables. Running programs go on: new\n"
	"connections are served by the kernel, those of the user-space stack end. Without IFACE: every\n"
	"interface that has the program.\n\n"
	"  -j, --json        print JSON\n",
};
