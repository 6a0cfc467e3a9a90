/* SPDX-License-Identifier: Apache-2.0 */
/* tools/doctor.h - findings of nstack doctor, for the files that make them */
#ifndef NSTACK_TOOLS_DOCTOR_H
#define NSTACK_TOOLS_DOCTOR_H

enum verdict { OK, WARN, FAIL };
struct report;

/* next: what to do about it; not shown with OK. */
__attribute__((format(printf, 5, 6)))
void finding(struct report *r, const char *check, enum verdict v, const char *next, const char *fmt, ...);

/* doctor_dpdk.c: nothing unless the configuration says "hal": "dpdk". */
void check_dpdk(struct report *r);

#endif
