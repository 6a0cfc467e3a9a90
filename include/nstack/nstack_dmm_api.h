/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/nstack_dmm_api.h - everything that the DMM developer manual names, by one include
 *
 *	dmm_stack.h    what a plug-in stack gives to the framework, and what it gets
 *	dmm_app.h      functions of nstack for programs and stacks
 *	rd.h           which stack serves an address
 *	adpt.h         what a process is to the framework: stacks that run in a process of their own
 *	recycle.h      what becomes of the resources of a program that has ended
 *
 * Programs that only use sockets need none of it.
 */
#ifndef NSTACK_DMM_API_H
#define NSTACK_DMM_API_H

#include <nstack/adpt.h>
#include <nstack/dmm_app.h>
#include <nstack/dmm_stack.h>
#include <nstack/rd.h>
#include <nstack/recycle.h>

/* What code written for the manual expects of this header. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#endif
