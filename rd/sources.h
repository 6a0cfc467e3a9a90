/* SPDX-License-Identifier: Apache-2.0 */
/* rd/sources.h - nstack/rd.h without errno: the functions that are behind those of that header
 *
 * 0, or a negative errno as there. Threads: any, but not inside of a source.
 */
#ifndef NSTACK_RD_SOURCES_H
#define NSTACK_RD_SOURCES_H

#include <nstack/rd.h>

int rd_sources_init(const nstack_rd_stack_info *stacks, int nstacks, const nstack_get_route_data *sources,
		    int nsources);
int rd_sources_refresh(void);
int rd_sources_age(void);
int rd_sources_stackid(const nstack_rd_key *key, int *id);

#endif
