/* Uses every part of system.h, the pool and the SIMD level: test_builds.py compiles it for Windows, where MinGW is
   installed, and runs it, where Wine is. */

#include "pool.h"
#include "team.h"
#include "cpu.h"
#include <stdio.h>

enum { CALLS = 100, HELPERS = 3, BYTES = 5 << 20, PART = 1 << 20 };
static long long total;
static int begun, alone;

/* Helpers count that they have begun.  The caller waits for them, so that it takes no range back. */
static void run(const void *work, int index, int count)
{
    int k;
    (void)work;
    __atomic_add_fetch(&total, index + 1, __ATOMIC_SEQ_CST);
    if (index) __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    else {
        for (k = 0; k < 2000 && __atomic_load_n(&begun, __ATOMIC_SEQ_CST) < count - 1; k++) Sleep(1);
        alone += __atomic_exchange_n(&begun, 0, __ATOMIC_SEQ_CST) < count - 1;
    }
}

#define CHECK(what) if (!(what)) { printf("wrong: %s\n", #what); return 1; }

int main(void)
{
    const long long start = fa_now(FA_CLOCK), coarse = fa_now(FA_COARSE_CLOCK);
    struct fa_helpers team;
    char *p = fa_map(BYTES);
    void *aligned = fa_aligned(64, 1000);
    int k;
    CHECK(p && aligned && (size_t)aligned % 64 == 0 && BYTES % fa_page_size() == 0);
    CHECK(p[BYTES - 1] == 0);
    fa_free_aligned(aligned);
    fa_want_huge_pages(p, BYTES);
    fa_cut(p, PART);
    if (!fa_cut(p + BYTES - PART, PART)) p[BYTES - 1] = 1;        /* it could not be cut, so it can be used */
    p[PART] = 1;
    CHECK(fa_unmap(p + PART, BYTES - 2 * PART));
    CHECK(!fa_prepare());
    for (k = 0; k < CALLS; k++) {
        fa_pool_gather(&team, HELPERS, HELPERS, 1);
        CHECK(team.helpers == HELPERS);
        fa_pool_run(&team, run, NULL);
        fa_pool_dismiss(&team);
        if (k % 25 == 0) Sleep(20);                             /* long enough for the helpers to go to sleep */
        CHECK(!alone);
    }
    CHECK(total == CALLS * (1 + 2 + 3 + 4));
    CHECK(fa_now(FA_CLOCK) - start >= 60000000 && fa_now(FA_COARSE_CLOCK) - coarse >= 40000000);
    CHECK(fa_processors() >= 1);
    fa_lock();
    fa_unlock();
    printf("%s\n", fa_cpu_level());
    return 0;
}
