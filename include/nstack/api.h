/* SPDX-License-Identifier: Apache-2.0 */
/* nstack/api.h - NSTACK_API: a function that libnsocket.so exports by name */
#ifndef NSTACK_API_H
#define NSTACK_API_H

#define NSTACK_API __attribute__((visibility("default")))

#endif
