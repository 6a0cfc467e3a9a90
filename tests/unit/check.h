/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/check.h - CHECK(condition, format, ...) counts and prints what does not hold
 *
 * For tests of one file: failures is that file's, and main returns failures != 0.
 */
#ifndef NSTACK_TESTS_UNIT_CHECK_H
#define NSTACK_TESTS_UNIT_CHECK_H

#include <stdio.h>

static int failures;
#define CHECK(cond, ...) \
	do { \
		if (!(cond)) { \
			failures++; \
			printf("not ok %s:%d %s: ", __FILE__, __LINE__, #cond); \
			printf(__VA_ARGS__); \
			putchar('\n'); \
		} \
	} while (0)

#endif
