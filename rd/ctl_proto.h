/* SPDX-License-Identifier: Apache-2.0 */
/* rd/ctl_proto.h - what the tool and a process say to each other
 *
 * SOCK_SEQPACKET, abstract name "@nstack/<pid>"; a message is one JSON object of at most
 * CTL_MSG_MAX bytes. Request: {"op": NAME, ...}. Reply: {"ok": true, ...} or
 * {"ok": false, "error": TEXT}. A reply in parts carries "more": true in all but the last.
 *
 *  op              request                              reply
 *  "hello"         -                                    version, pid, program, uid
 *  "status"        -                                    see ctl_server.c
 *  "sockets"       -                                    parts: "sockets": [...]
 *  "programs"      -                                    parts: "programs": [...], of a daemon
 *  "counters"      -                                    parts: "counters": {name: value}
 *  "rules_get"     -                                    "rules": text, "generation"
 *  "rules_prepare" "rules": text                        "pins": n  (kept until commit or abort)
 *  "flows_pin"     -                                    "pins": n  (again)
 *  "rules_commit"  -                                    "generation"
 *  "rules_abort"   -                                    -
 *  "dump_start"    fd by SCM_RIGHTS, "packets", ...     -
 *  "dump_state"    -                                    "running", "packets", "lost"
 *  "dump_stop"     -                                    "packets", "lost"
 *  "ping_start"    "to", "from", "interface", "size"    "from", "interface", "id"
 *  "ping_send"     -                                    "seq", "failed": why it was not sent, or ""
 *  "ping_answers"  -                                    "answers": those that have come since
 *  "config"        -                                    "keys": those that can be changed now
 *  "config_set"    "set": {key: value}                  as "config"
 *  "reload"        -                                    rule file and log files, as by SIGHUP
 *  "log_get"       "seq"                                "seq", "text", "path"
 *  "log_level"     "level", "module" (optional)         levels
 *
 * What a client started (a capture, a ping, prepared rules) ends when its connection does.
 */
#ifndef NSTACK_RD_CTL_PROTO_H
#define NSTACK_RD_CTL_PROTO_H

#define CTL_NAME_PREFIX "nstack/"  /* after the leading zero byte */
#define CTL_MSG_MAX (64u * 1024u)
#define CTL_PROTO_VERSION 1
#define CTL_RULES_MAX (60u * 1024u) /* text of a rule set that fits into a request */

#endif
