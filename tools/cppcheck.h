/* SPDX-License-Identifier: Apache-2.0 */
/* tools/cppcheck.h - what `make lint` needs to know of macros whose headers cppcheck doesn't read */
#define __attribute__(x)
#define DECLARE_LIBXDP_OPTS(type, name, ...) struct type name = { __VA_ARGS__ }
#define LIBBPF_OPTS(type, name, ...) struct type name = { __VA_ARGS__ }
#define cJSON_ArrayForEach(e, array) for (e = (array)->child; e; e = e->next)
#define NS_FOR(p, head) for (p = (void *)(head)->next; p; p = (void *)(head)->next)
#define cds_list_for_each_entry(p, head, member) NS_FOR(p, head)
#define cds_list_for_each_entry_rcu(p, head, member) NS_FOR(p, head)
#define cds_list_for_each_entry_safe(p, n, head, member) for (p = n = (void *)(head)->next; p; p = n)
