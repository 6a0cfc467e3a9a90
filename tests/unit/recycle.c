/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/recycle.c - objects of ended programs: order, suspension, what can't be registered */
#include "shm/recycle.h"

#include "check.h"
#include <string.h>

#define S 1000000000ull
#define TYPE (NSFW_REC_NSOCKET_END + 1)

static char trace[256];
static nsfw_rcc_stat answer = NSFW_RCC_CONTINUE; /* of objects called "?" */

static nsfw_rcc_stat fun(uint32_t pid, void *pdata, uint16_t type)
{
	const char *name = pdata;
	size_t n = strlen(trace);

	snprintf(trace + n, sizeof(trace) - n, "%u%s ", pid, name);
	CHECK(type == TYPE || type == TYPE + 1, "%u", type);
	return *name == '?' ? answer : NSFW_RCC_CONTINUE;
}

static void says(const char *want)
{
	CHECK(!strcmp(trace, want), "got \"%s\", wanted \"%s\"", trace, want);
	trace[0] = 0;
}

static void program_ends(uint32_t pid, uint64_t now)
{
	struct recycle_walk *w = recycle_watch(pid);

	CHECK(w != NULL, "no memory");
	if (w)
		recycle_exit(w, now);
}

static void test_registry(void)
{
	CHECK(!nsfw_recycle_reg_fun(NSFW_REC_TYPE_NULL, fun), "no kind");
	CHECK(!nsfw_recycle_reg_fun(NSFW_REC_TYPE_MAX, fun), "no such kind");
	CHECK(!nsfw_recycle_reg_fun(TYPE, NULL), "no function");
	CHECK(nsfw_recycle_reg_fun(TYPE, fun), "refused");
	CHECK(!nsfw_recycle_reg_fun(TYPE, fun), "a second function");
	CHECK(!nsfw_recycle_reg_obj(NSFW_REC_PRIO_NR, TYPE, NULL), "no such priority");
	CHECK(!nsfw_recycle_reg_obj(NSFW_REC_PRIO_LOWEST, NSFW_REC_TYPE_NULL, NULL), "no kind");
	CHECK(!nsfw_recycle_obj_end(1), "nothing waits");
}

static void test_order(void)
{
	CHECK(nsfw_recycle_reg_obj(NSFW_REC_PRIO_LOWEST, TYPE, "last"), "refused");
	CHECK(nsfw_recycle_reg_obj(NSFW_REC_PRIO_NORMAL, TYPE, "?"), "refused");
	CHECK(nsfw_recycle_reg_obj(NSFW_REC_PRIO_NORMAL, TYPE, "second"), "refused");
	CHECK(nsfw_recycle_reg_obj(NSFW_REC_PRIO_HIGHEST, TYPE, "first"), "refused");
	CHECK(nsfw_recycle_reg_obj(NSFW_REC_PRIO_DEFAULT, TYPE + 1, "nobody's"), "refused");
	program_ends(7, 0);
	says("7first 7? 7second 7last ");
	CHECK(recycle_run(0) == UINT64_MAX, "something waits");
}

static void test_failed(void)
{
	struct recycle_stats st;

	answer = NSFW_RCC_FAILED;
	program_ends(7, 0);
	says("7first 7? 7second 7last ");
	recycle_stats(&st);
	CHECK(st.failed == 1 && st.exits == 2 && st.called == 8, "%d", (int)st.failed);
}

static void test_suspended(void)
{
	struct recycle_stats st;

	answer = NSFW_RCC_SUSPEND;
	program_ends(7, 10 * S);
	program_ends(8, 20 * S);
	says("7first 7? 8first 8? ");
	CHECK(recycle_run(21 * S) == 70 * S, "the first one's 60 seconds");
	says("");
	/* at the next object, not at the one that suspended */
	CHECK(nsfw_recycle_obj_end(8), "8 waits");
	CHECK(recycle_run(22 * S) == 70 * S, "7 still waits");
	says("8second 8last ");
	CHECK(!nsfw_recycle_obj_end(8), "8 is over");
	/* nobody says anything */
	CHECK(recycle_run(70 * S) == UINT64_MAX, "something waits");
	says("7second 7last ");
	recycle_stats(&st);
	CHECK(st.suspended == 2 && st.timeouts == 1 && st.waiting == 0, "%d %d %d", (int)st.suspended,
	      (int)st.timeouts, (int)st.waiting);
	/* the same pid twice at once: a program that attached anew */
	program_ends(9, 0);
	program_ends(9, 0);
	trace[0] = 0;
	CHECK(nsfw_recycle_obj_end(9), "both wait");
	recycle_run(0);
	says("9second 9last 9second 9last ");
}

static void test_full(void)
{
	unsigned n = 0;

	while (n < 1000 && nsfw_recycle_reg_obj(NSFW_REC_PRIO_DEFAULT, TYPE + 1, "more"))
		n++;
	CHECK(n == 127, "%u more", n);
	answer = NSFW_RCC_CONTINUE;
	program_ends(7, 0);
	says("7first 7? 7second 7last ");
}

int main(void)
{
	test_registry();
	test_order();
	test_failed();
	test_suspended();
	test_full();
	return failures != 0;
}
