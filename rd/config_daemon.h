/* SPDX-License-Identifier: Apache-2.0 */
/* rd/config_daemon.h - the section "daemon" of the configuration: what concerns nstackd only
 *
 * Programs read it, too (one file may serve both), and take no notice of it.
 */
#ifndef NSTACK_RD_CONFIG_DAEMON_H
#define NSTACK_RD_CONFIG_DAEMON_H

#include <rd/json.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_WORKERS_MAX 16u
#define NS_ACCESS_MAX 64u
#define NS_LABEL 24u         /* of a program, with the terminating 0 */
#define NS_NAME 33u          /* of a user or group, likewise */
#define NS_NO_LIMIT UINT64_MAX

/* Limits count what programs have in sum. */
enum ns_per { NS_PER_PROGRAM, NS_PER_USER, NS_PER_LABEL, NS_PER_ENTRY };

/* Who may attach: the first entry that fits a program decides. */
struct ns_access {
	char user[NS_NAME], group[NS_NAME], label[NS_LABEL]; /* "" = any */
	bool allow;
	enum ns_per per;         /* whose sum the limits are about */
	uint64_t programs, sockets, ports;
	uint64_t memory;         /* bytes of sockets' buffers */
};

struct ns_daemon_config {
	uint32_t workers;
	int core[NS_WORKERS_MAX]; /* of each; -1 = any */
	int32_t spin_us;         /* -1 = as it pays off */
	uint32_t programs;       /* attached to one worker at once */
	uint32_t n_access;
	struct ns_access *access; /* malloc()ed */
};

/* Values of keys of the section: 0 or -EINVAL, -ENOMEM and err. */
int ns_daemon_read_workers(const struct json_doc *d, const cJSON *v, struct ns_daemon_config *c,
			   char err[JSON_ERR]);
int ns_daemon_read_spin(const struct json_doc *d, const cJSON *v, struct ns_daemon_config *c,
			char err[JSON_ERR]);
int ns_daemon_read_access(const struct json_doc *d, const cJSON *v, struct ns_daemon_config *c,
			  char err[JSON_ERR]);
/* A label: 1 to NS_LABEL - 1 printable ASCII characters without spaces. */
bool ns_label_ok(const char *label);

#endif
