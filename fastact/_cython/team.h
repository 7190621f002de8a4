/* A team: the threads that work on one call, the caller among them, from one of three sources.

   pool      helpers of the package's own pool (pool.h)
   runtime   the threads of an OpenMP runtime that is loaded (openmp.h)
   host      the threads on which the caller's parallel_for runs (fastact.h)

   A team has one way to work: fa_run cuts the work into ranges, one for each thread, and returns when all are done.
   What a range computes follows from its index and the number of ranges, never from the thread that computes it. */

#ifndef FASTACT_TEAM_H
#define FASTACT_TEAM_H

#include "fastact.h"
#include "float_mode.h"
#include "openmp.h"
#include "pool.h"

struct fa_team {
    int threads;                /* 1: the caller alone */
    enum { FA_POOL, FA_RUNTIME, FA_HOST } source;
    struct fa_helpers helpers;  /* of the pool */
    const struct fa_runtime *runtime;
    fastact_parallel_for parallel_for;
    void *context;
};

/* What the threads of a runtime or of a host are given. */
struct fa_ranges {
    fa_range run;
    const void *work;
    int count;
    fa_mode mode;               /* the caller's floating-point mode */
    const struct fa_runtime *runtime;
};

/* Computes a range on a thread that is not ours, in the caller's floating-point mode. */
static void fa_run_range(void *ranges, int64_t i)
{
    const struct fa_ranges *r = ranges;
    const fa_mode before = fa_get_mode();
    if (before != r->mode) fa_set_mode(r->mode);
    r->run(r->work, (int)i, r->count);
    if (before != r->mode) fa_set_mode(before);
}

/* What GOMP_parallel calls on each of its threads, which may be fewer than were asked for. */
static void fa_run_in_region(void *ranges)
{
    const struct fa_ranges *r = ranges;
    int i, threads = r->runtime->num_threads();
    for (i = r->runtime->thread_num(); i < r->count; i += threads) fa_run_range(ranges, i);
}

static void fa_alone(struct fa_team *team)
{
    team->threads = 1;
    team->source = FA_POOL;
    team->helpers.helpers = 0;
}

/* Makes a team of up to `threads` from the pool; all callers' teams together have at most `most` threads.  `wake`:
   whether the work is worth waking helpers in company. */
static void fa_gather(struct fa_team *team, int threads, int most, int wake)
{
    fa_pool_gather(&team->helpers, threads - 1, most - 1, wake);
    team->threads = team->helpers.helpers + 1;
}

/* Makes a team of the runtime's threads.  A forked child has none of them, and libgomp would wait for them for ever. */
static void fa_borrow(struct fa_team *team, int threads)
{
    int number = fa_team_runtime();
    if (!number || fa_is_child) return;
    team->runtime = fa_get_runtime(number);
    team->threads = threads;
    team->source = FA_RUNTIME;
}

/* Makes a team of the threads that a host's parallel_for finds. */
static void fa_ask(struct fa_team *team, int threads, fastact_parallel_for parallel_for, void *context)
{
    team->threads = threads;
    team->source = FA_HOST;
    team->parallel_for = parallel_for;
    team->context = context;
}

static void fa_run(const struct fa_team *team, fa_range run, const void *work)
{
    struct fa_ranges ranges = {run, work, team->threads, fa_get_mode(), NULL};
    if (team->threads == 1) run(work, 0, 1);
    else if (team->source == FA_POOL) fa_pool_run(&team->helpers, run, work);
    else if (team->source == FA_HOST) team->parallel_for(team->context, team->threads, fa_run_range, &ranges);
    else {
        ranges.runtime = team->runtime;
        team->runtime->parallel(fa_run_in_region, &ranges, (unsigned)team->threads, 0);
    }
}

static void fa_dismiss(const struct fa_team *team)
{
    if (team->source == FA_POOL) fa_pool_dismiss(&team->helpers);
}

#endif
